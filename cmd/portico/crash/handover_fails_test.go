//go:build crash

package crash

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"portico/impl/handover"
)

// asNewer says how the tests' own program, as a newer one of the server, goes wrong.
const asNewer = "HANDOVER_TO_BROKEN"

// takeOver goes wrong.
func takeOver(how string) {
	if how == "ends" {
		os.Exit(3)
	}
	r, err := handover.Receive("server", "metrics", "console", "directory")
	if err != nil || r.From == nil {
		fmt.Fprintln(os.Stderr, "no server before:", err)
		os.Exit(1)
	}
	if how == "hangs" {
		select {}
	}
	if how == "freezes" {
		over, cancel := context.WithCancel(context.Background())
		cancel()
		_, _ = r.From.Prepared(over, handover.Prepared{Version: "broken"}) // it says so, and waits for nothing
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		select {}
	}
	if _, err := r.From.Prepared(context.Background(), handover.Prepared{Version: "broken"}); err != nil {
		os.Exit(1)
	}
	if how == "migrates" {
		d, err := sql.Open("sqlite", "file:"+filepath.Join(os.Getenv("PDS_DATA_DIRECTORY"), "portico.sqlite"))
		if err == nil {
			_, err = d.Exec("INSERT INTO migration (name, applied_at) VALUES ('9999_future', 0)")
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	r.From.Failed(errors.New("it breaks behind the database"))
	os.Exit(4)
}

// newer starts a service whose newer program goes wrong.
func newer(t *testing.T, how string) *service {
	t.Helper()
	s := newService(t, asNewer+"="+how)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.install(self)
	return s
}

func (s *service) answers(l *line) {
	s.Helper()
	if err := l.call("GET", "/xrpc/_health", "", nil, nil); err != nil {
		s.Errorf("after the handover: %v", err)
	}
}

// A newer program that comes to nothing is as if nobody had asked for it.
func TestHandoverToWhatDoesNotStart(t *testing.T) {
	for _, tt := range []struct{ name, how, path, text, want string }{
		{name: "ends at once", how: "ends", want: "ended with status 3: it did not say why"},
		{name: "no program", text: "nothing that runs", want: "exec format error"},
		{name: "not there", path: "/nonexistent", want: "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newService(t, asNewer+"="+tt.how)
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case tt.text != "":
				self = filepath.Join(t.TempDir(), "text")
				if err := os.WriteFile(self, []byte(tt.text), 0o700); err != nil {
					t.Fatal(err)
				}
			case tt.path != "":
				self = tt.path
			}
			s.install(self)
			l := &line{address: s.address}
			defer l.hangUp()
			s.answers(l)
			for range 2 {
				if _, said := s.handOver(1); !strings.Contains(said, tt.want) {
					t.Errorf("it says %s", said)
				}
			}
			s.answers(l) // over the connection from before
			// And then to one that is right.
			s.install(binary)
			s.handOver(0)
			if status := s.ended(s.first); status != 0 {
				t.Errorf("the first process ends with %d", status)
			}
			s.answers(l)
			s.stop()
		})
	}
}

// When the newer program breaks once it has the database, the version before serves again,
// and clients have waited.
func TestHandoverToWhatBreaks(t *testing.T) {
	s := newer(t, "breaks")
	var lines []*line
	for range 50 {
		l := &line{address: s.address}
		defer l.hangUp()
		s.answers(l)
		lines = append(lines, l)
	}
	asked := make(chan error, 1)
	go func() {
		l := &line{address: s.address}
		defer l.hangUp()
		for range 200 {
			if err := l.call("GET", "/xrpc/_health", "", nil, nil); err != nil {
				asked <- err
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		asked <- nil
	}()
	_, said := s.handOver(1)
	if !strings.Contains(said, "it breaks behind the database. The version before serves again") {
		t.Errorf("it says %s", said)
	}
	for _, l := range lines {
		s.answers(l)
	}
	if err := <-asked; err != nil {
		t.Error(err)
	}
	if status := s.ended(s.first); status != 0 {
		t.Errorf("the first process ends with %d", status)
	}
	t.Log(strings.TrimSpace(said))
	s.pid = s.processes()[0]
	s.stop()
}

// When the newer program does nothing any more, and its wire has no room for all who are
// handed over, it is given up.
func TestHandoverToWhatFreezes(t *testing.T) {
	s := newer(t, "freezes")
	var lines []*line
	for range 500 {
		l := &line{address: s.address}
		defer l.hangUp()
		s.answers(l)
		lines = append(lines, l)
	}
	began := time.Now()
	_, said := s.handOver(1)
	if took := time.Since(began); took > 20*time.Second || !strings.Contains(said, "The version before serves again") {
		t.Errorf("after %v it says %s", took, said)
	}
	for _, l := range lines {
		s.answers(l)
	}
	if status := s.ended(s.first); status != 0 {
		t.Errorf("the first process ends with %d", status)
	}
	t.Log(strings.TrimSpace(said))
	s.pid = s.processes()[0]
	s.stop()
}

// When the newer program has left a database behind that the version before cannot use, that
// is said, and nothing is started again and again.
func TestHandoverToWhatMigratesAndBreaks(t *testing.T) {
	s := newer(t, "migrates")
	_, said := s.handOver(1)
	if !strings.Contains(said, "database schema is ahead of this version: it has seen 9999_future") {
		t.Errorf("it says %s", said)
	}
	if status := s.ended(s.first); status != 1 { // the next start is that of the newer program
		t.Errorf("it ends with %d", status)
	}
	if left := s.processes(); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
}

// A stop during a handover is a stop.
func TestStopDuringHandover(t *testing.T) {
	s := newer(t, "hangs")
	for range 3 { // once is enough
		if err := syscall.Kill(s.pid, syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
	}
	s.until("the newer process is there", func() bool { return len(s.processes()) == 2 })
	resp, err := http.Get("http://" + s.address + "/xrpc/_health") // it serves meanwhile
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	began := time.Now()
	s.stop()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the stop took %v", took)
	}
	if left := s.processes(); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
}

// A request that does not end does not keep others waiting for ever, and a process that has
// handed over ten times in a row holds no more than the first one.
func TestHandoverWithARequestThatDoesNotEnd(t *testing.T) {
	s := newService(t)
	r := s.signUp("somebody")
	open := &line{address: s.address}
	defer open.hangUp()
	done := make(chan error, 1)
	go func() {
		_, err := open.ask("POST", "/xrpc/com.atproto.repo.uploadBlob", r.access, "image/png", &slow{endless{}, 1, 200 * time.Millisecond}, 1_000_000)
		done <- err
	}()
	s.until("the upload has begun", func() bool { return open.conn != nil })
	time.Sleep(300 * time.Millisecond)
	o, _ := s.handOver(0)
	if o.Pause < 9*time.Second || o.Pause > 20*time.Second {
		t.Errorf("a pause of %v", o.Pause)
	}
	t.Logf("a pause of %v", o.Pause.Round(time.Millisecond))
	if err := <-done; err == nil {
		t.Error("half an upload was taken")
	}
	// Those of the database come and go.
	files := func() (n int) {
		found, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", s.pid))
		for _, path := range found {
			if to, err := os.Readlink(path); err == nil && !strings.HasPrefix(to, s.data) {
				n++
			}
		}
		return n
	}
	alone := func() bool {
		for _, pid := range s.processes() {
			if pid != s.pid {
				_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
			}
		}
		return len(s.processes()) == 1
	}
	s.until("one process is left", alone)
	first := files()
	var pauses []time.Duration
	for range 10 {
		o, _ := s.handOver(0)
		pauses = append(pauses, o.Pause.Round(time.Millisecond))
	}
	s.until("one process is left", alone)
	if last := files(); last > first+2 { // a look may meet a request
		t.Errorf("%d files are open after ten handovers, %d before", last, first)
	}
	t.Logf("pauses of ten in a row: %v", pauses)
	// What a stranger leaves unsaid costs less than a request.
	stranger, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if _, err := io.WriteString(stranger, "GET / HT"); err != nil {
		t.Fatal(err)
	}
	s.answers(&line{address: s.address}) // it was accepted before this one
	o, _ = s.handOver(0)
	if o.Pause > 5*time.Second {
		t.Errorf("with half a header, a pause of %v", o.Pause)
	}
	t.Logf("with half a header, a pause of %v", o.Pause.Round(time.Millisecond))
	s.stop()
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// A process that has handed over, and still sends a download, keeps no socket: the address is
// free when the one that serves is gone.
func TestHandoverLetsGoOfTheSockets(t *testing.T) {
	s := newService(t, "PDS_BLOB_UPLOAD_LIMIT=33554432")
	r := s.signUp("somebody")
	l := &line{address: s.address}
	defer l.hangUp()
	size := int64(32 << 20) // more than fits between the two
	resp, err := l.ask("POST", "/xrpc/com.atproto.repo.uploadBlob", r.access, "application/octet-stream", io.LimitReader(endless{}, size), size)
	if err != nil {
		t.Fatal(err)
	}
	var out struct{ Blob json.RawMessage }
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		t.Fatal(err)
	}
	var blob struct {
		Ref struct {
			Link string `json:"$link"`
		}
	}
	if err := json.Unmarshal(out.Blob, &blob); err != nil {
		t.Fatal(err)
	}
	if err := l.call("POST", "/xrpc/com.atproto.repo.createRecord", r.access, map[string]any{
		"repo": r.did, "collection": "com.example.cover", "record": map[string]any{"$type": "com.example.cover", "blob": out.Blob},
	}, nil); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.(*net.TCPConn).SetReadBuffer(64 << 10)
	slow := &line{address: s.address, conn: conn, read: bufio.NewReader(conn)}
	defer slow.hangUp()
	download, err := slow.ask("GET", "/xrpc/com.atproto.sync.getBlob?did="+r.did+"&cid="+blob.Ref.Link, "", "", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.handOver(0)
	if err := syscall.Kill(s.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.until("the newer process is gone", func() bool { return len(s.processes()) < 2 })
	if left := s.processes(); len(left) != 1 || left[0] != s.first {
		t.Fatalf("processes %v are left, and not the first", left)
	}
	again, err := net.Listen("tcp", s.address)
	if err != nil {
		t.Errorf("the address once the newer process is gone: %v", err)
	} else {
		again.Close()
	}
	if n, err := io.Copy(io.Discard, download.Body); n != size || err != nil {
		t.Errorf("a download of %d bytes, %v", n, err)
	}
	if status := s.ended(s.first); status != 0 {
		t.Errorf("the first process ends with %d", status)
	}
}
