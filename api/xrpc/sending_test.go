package xrpc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// zeros is n bytes that nobody holds.
func zeros(n int64) io.Reader { return io.LimitReader(endless{}, n) }

const large = 64 << 20

// What is sent and what is answered goes through as it comes.
func TestStreamsAreNotHeld(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			n, err := io.Copy(io.Discard, r.Body)
			if err != nil {
				t.Error(err)
			}
			fmt.Fprintf(w, `{"size":%d,"type":"%s %d"}`, n, r.Header.Get("Content-Type"), r.ContentLength)
			return
		}
		if r.URL.Query().Get("how") == "sized" {
			w.Header().Set("Content-Length", strconv.Itoa(large))
		}
		if _, err := io.Copy(w, zeros(large)); err != nil {
			t.Error(err)
		}
	}))
	defer srv.Close()
	c := toyClient{Client{Host: srv.URL}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)

	file := must(os.Create(filepath.Join(t.TempDir(), "blob")))
	if err := file.Truncate(large); err != nil {
		t.Fatal(err)
	}
	for want, r := range map[string]io.Reader{"a/b -1": zeros(large), "a/b 67108864": file} {
		out, err := c.Upload(t.Context(), NewBody(r, "a/b"))
		if err != nil || out.Size != large || out.Type != want {
			t.Errorf("%v %v, want %s", err, out, want)
		}
	}
	if _, err := file.Stat(); !errors.Is(err, os.ErrClosed) {
		t.Error("the file is open", err)
	}
	for how, size := range map[string]int64{"sized": large, "chunked": -1} {
		body, err := c.Download(t.Context(), &FailParams{How: how})
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, body)
		if body.Close(); err != nil || n != large || body.Size != size {
			t.Errorf("%s: %d bytes of %d: %v", how, n, body.Size, err)
		}
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 8<<20 {
		t.Errorf("%d bytes for %d", used, 4*large)
	}
}

// A part of an answer is never taken for the whole.
func TestAnswersThatBreakOff(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("how") {
		case "short":
			w.Header().Set("Content-Length", "100")
		case "gzip":
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, compressed("gzip", strings.Repeat("abc", 100))[:20])
			return
		}
		io.WriteString(w, "0123456789")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer srv.Close()
	c := toyClient{Client{Host: srv.URL, Retry: Retry{Most: 5}}}
	for _, how := range []string{"short", "chunked", "gzip"} {
		body, err := c.Download(t.Context(), &FailParams{How: how})
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(body)
		if body.Close(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %q, %v", how, data, err)
		}
		if _, err := c.Fail(t.Context(), &FailParams{How: how}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s, JSON: %v", how, err)
		}
	}
}

// closing is a reader that remembers what became of it.
type closing struct {
	*strings.Reader
	mu     sync.Mutex
	closed int
}

func (c *closing) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed++
	return nil
}

// Whatever becomes of a call, its body is closed once.
func TestBodiesAreClosed(t *testing.T) {
	host := &busyHost{}
	srv := httptest.NewServer(http.HandlerFunc(host.serve))
	defer srv.Close()
	good := Client{Host: srv.URL, Retry: Retry{Most: 2}}
	failing := good.With(SetHeader("", ""))
	for name, c := range map[string]Client{"good": good, "busy": good, "failing": failing, "nobody": {Host: "http://127.0.0.1:1"}, "no URL": {Host: ":"}} {
		for _, seeks := range []bool{true, false} {
			if *host = (busyHost{}); name == "busy" {
				host.steps = []string{"429 Retry-After: 0", "429 Retry-After: 0"}
			}
			body := &closing{Reader: strings.NewReader("abc")}
			var r io.ReadCloser = body
			if !seeks {
				r = struct{ io.ReadCloser }{body}
			}
			_, err := (&toyClient{c}).Upload(t.Context(), &Body{ReadCloser: r, ContentType: "a/b", Size: 3})
			body.mu.Lock()
			if body.closed != 1 || err == nil != (name == "good" || name == "busy" && seeks) {
				t.Errorf("%s, seeks %t: closed %d times: %v", name, seeks, body.closed, err)
			}
			body.mu.Unlock()
		}
	}
	if _, err := (&toyClient{good}).Upload(t.Context(), &Body{}); err == nil || !strings.HasSuffix(err.Error(), "no body given") {
		t.Error(err)
	}
}

func TestSizeOfABody(t *testing.T) {
	read := func(r io.Reader) io.Reader { _, _ = r.Read(make([]byte, 2)); return r }
	file := must(os.Create(filepath.Join(t.TempDir(), "blob")))
	defer file.Close()
	_, _ = file.WriteAt([]byte("abcde"), 0)
	in, out := must2(os.Pipe())
	defer in.Close()
	defer out.Close()
	for _, tt := range []struct {
		r    io.Reader
		size int64
	}{
		{read(strings.NewReader("abcde")), 3}, {read(bytes.NewReader([]byte("abcde"))), 3}, {read(bytes.NewBufferString("abcde")), 3},
		{read(file), 3}, {read(zeros(5)), -1}, {in, -1},
	} {
		if got := NewBody(tt.r, "").Size; got != tt.size {
			t.Errorf("%T: %d", tt.r, got)
		}
	}
	if rest := string(must(io.ReadAll(file))); rest != "cde" {
		t.Errorf("the file has %s left", rest)
	}
}

func must2[A, B any](a A, b B, err error) (A, B) {
	if err != nil {
		panic(err)
	}
	return a, b
}

// A transport that is still sending the body of a call that was answered takes nothing from
// that which is sent again, and closes nothing.
func TestAttemptThatIsOver(t *testing.T) {
	body := &closing{Reader: strings.NewReader("abc")}
	s := must(newSending(&Body{ReadCloser: body, Size: 3}))
	first := must(s.open())
	var one [1]byte
	if n, err := first.Read(one[:]); n != 1 || err != nil {
		t.Fatal(err)
	}
	second := must(s.open())
	if n, err := first.Read(one[:]); n != 0 || err != errAttempt {
		t.Errorf("read %d bytes: %v", n, err)
	}
	first.Close()
	if data, err := io.ReadAll(second); string(data) != "abc" || err != nil || body.closed != 0 {
		t.Errorf("%s, %v, closed %d times", data, err, body.closed)
	}
	s.done()
	second.Close()
	if second.Close(); body.closed != 1 {
		t.Errorf("closed %d times", body.closed)
	}
}
