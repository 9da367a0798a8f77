//go:build packaging

package packaging

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"portico/cmd/portico/launch"
)

// The log goes on in a new file whenever logrotate has taken the old one away, as the file for it
// says, and no line is lost while requests are answered.
func TestLogrotate(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil { // logrotate takes no folder that others write to
		t.Fatal(err)
	}
	path := filepath.Join(dir, "portico.log")
	server, err := launch.StartServer(t.Context(), binary, t.TempDir(), "PORTICO_LOG_FILE="+path, "PORTICO_LOG_LEVEL=info")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Kill()
	text, err := os.ReadFile("../deploy/logrotate")
	if err != nil {
		t.Fatal(err)
	}
	// The server is no unit here: it is found by its number.
	for from, to := range map[string]string{
		"/var/log/portico/": dir + "/",
		"systemctl kill --signal=HUP --kill-who=main portico.service": fmt.Sprint("kill -HUP ", server.PID()),
	} {
		if strings.Count(string(text), from) != 1 {
			t.Fatalf("%q is not in the file once", from)
		}
		text = []byte(strings.ReplaceAll(string(text), from, to))
	}
	config := filepath.Join(t.TempDir(), "portico")
	if err := os.WriteFile(config, text, 0o644); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(t.TempDir(), "state")

	var asked atomic.Int64
	get := func() (line string) {
		line = fmt.Sprintf("/line-%d-", asked.Add(1))
		resp, err := http.Get(server.URL + line)
		if err != nil {
			t.Error(err)
			return line
		}
		resp.Body.Close()
		return line
	}
	stop := make(chan struct{})
	var clients sync.WaitGroup
	end := sync.OnceFunc(func() { close(stop); clients.Wait() })
	defer end()
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					get()
				}
			}
		})
	}
	const rotations = 4
	for n := range rotations {
		until(t, "lines in the log", func() bool { return strings.Contains(read(t, path), "/line-") })
		if out, errs := run(t, "logrotate", "--force", "--state", state, config); out+errs != "" {
			t.Errorf("logrotate says\n%s%s", out, errs)
		}
		until(t, "a new file", func() bool { _, err := os.Stat(path); return err == nil })
		line := get()
		until(t, "a line in the new file", func() bool { return strings.Contains(read(t, path), line) })
		if n > 0 {
			// The one before the last is packed, and the last, which the server may have written to a
			// moment ago, is not.
			for name, packed := range map[string]bool{".1": false, ".1.gz": false, ".2.gz": true} {
				if _, err := os.Stat(path + name); (err == nil) != (packed || name == ".1") {
					t.Errorf("%s after rotation %d: %v", name, n+1, err)
				}
			}
		}
	}
	end()
	if err := server.Stop(); err != nil {
		t.Error(err)
	}

	all := ""
	for n := rotations; n > 1; n-- {
		unpacked, _ := run(t, "gzip", "-dc", fmt.Sprintf("%s.%d.gz", path, n))
		all += unpacked
	}
	all += read(t, path+".1") + read(t, path)
	for n := range asked.Load() {
		if line := fmt.Sprintf("/line-%d-", n+1); strings.Count(all, line) != 1 {
			t.Errorf("%s is %d times in the logs of %d requests", line, strings.Count(all, line), asked.Load())
		}
	}
	if n := strings.Count(all, "settings reloaded"); n != rotations {
		t.Errorf("%d reloads for %d rotations", n, rotations)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the new file has the mode %v, %v", info.Mode(), err)
	}
	t.Logf("%d lines in %d files", strings.Count(all, "\n"), rotations+1)
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// until waits for ok.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(launch.Patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain waited for: %s", what)
		}
	}
}
