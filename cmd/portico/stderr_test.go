package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// serveProcess starts a server in a process of its own, whose log goes to stderr and which
// must end well when it is stopped.
func serveProcess(t *testing.T, stderr *os.File) (url string, stop func()) {
	t.Helper()
	port := freePort(t)
	cmd := exec.Command("portico", "serve")
	cmd.Stderr = stderr
	cmd.Env = []string{
		fmt.Sprint("PDS_PORT=", port), "PORTICO_PLC_PORT=0", "PDS_DATA_DIRECTORY=" + t.TempDir(), "PORTICO_LOG_LEVEL=info", "PORTICO_LOG_FORMAT=text",
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() }) // fails where it has ended
	said := bufio.NewReader(stdout)
	if line, err := said.ReadString('\n'); err != nil {
		t.Fatalf("it said %q: %v", line, err)
	}
	return fmt.Sprint("http://localhost:", port), func() {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, said); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// visit asks for a page that does not exist, with a line in the log as long as its path.
func visit(t *testing.T, url, path string) {
	t.Helper()
	answer, err := http.Get(url + "/" + path)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != 404 {
		t.Errorf("%s: %s", path, answer.Status)
	}
}

// The log has everything when the server has ended, its last word too.
func TestLogAtAStop(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	url, stop := serveProcess(t, file)
	for i := range 20 {
		visit(t, url, fmt.Sprint("page", i))
	}
	stop()
	log, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for i := range 20 {
		line := fmt.Sprintf(" level=INFO msg=request path=/page%d verb=GET status=404 ", i)
		next := strings.Index(string(log[at:]), line)
		if next < 0 {
			t.Fatalf("page %d is not there, or too early:\n%s", i, log)
		}
		at += next
	}
	if !strings.Contains(string(log[at:]), " level=INFO msg=stopping\n") {
		t.Errorf("the stop is not there:\n%s", log)
	}
}

// People sign up, and the server stops, where nobody reads its log: a pipe that is full, and
// one whose reader is gone.
func TestLogNobodyReads(t *testing.T) {
	for _, gone := range []bool{false, true} {
		t.Run(fmt.Sprint("gone ", gone), func(t *testing.T) {
			read, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer read.Close()
			url, stop := serveProcess(t, write)
			write.Close()
			if gone {
				read.Close()
			}
			const pages, length = 150, 10 << 10 // more than a pipe and all buffers take
			for range pages {
				visit(t, url, strings.Repeat("x", length))
			}
			status, _, err := callServer(t.Context(), url, "createAccount", "", `{"handle":"alice.test","email":"alice@example.com","password":"correct-horse"}`)
			if err != nil || status != 200 {
				t.Errorf("sign-up: %d, %v", status, err)
			}
			stop()
		})
	}
}
