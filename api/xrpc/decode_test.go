package xrpc

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/labstack/echo/v4"
)

// window is text as brotli with a window of 1<<bits bytes.
func window(bits int, text string) string {
	var b bytes.Buffer
	w := brotli.NewWriterOptions(&b, brotli.WriterOptions{Quality: 5, LGWin: bits})
	io.WriteString(w, text)
	w.Close()
	return b.String()
}

// bomb is some bytes of brotli that make its reader take all the memory that one can.
var bomb = sync.OnceValue(func() string { return window(24, strings.Repeat(" ", 40<<20)) })

// serveDecoding is a toy whose decoders the test can look at.
func serveDecoding(t *testing.T) (*Server, string) {
	t.Helper()
	e := echo.New()
	s := NewServer(e, Options{Logger: slog.New(slog.DiscardHandler)})
	if err := registerToy(e, s); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(e)
	t.Cleanup(srv.Close)
	return s, srv.URL
}

// Whatever windows 200 clients choose, all of them together take a bounded memory, and
// those of Node's default size go on working meanwhile.
func TestMemoryOfHostileBodies(t *testing.T) {
	s, url := serveDecoding(t)
	s.decoding.patience = time.Hour
	body := bomb()
	var before, now runtime.MemStats
	debug.FreeOSMemory()
	runtime.ReadMemStats(&before)
	node := window(22, `{"name":"`+strings.Repeat("a", 300)+`"}`)
	var all sync.WaitGroup
	if len(body) > 200 {
		t.Fatalf("bomb of %d bytes", len(body))
	}
	for i := range 200 {
		all.Go(func() {
			what, want := body, http.StatusRequestEntityTooLarge
			if i%10 == 0 {
				what, want = node, http.StatusOK
			}
			resp, err := send(url+"/xrpc/com.example.toy.echo", "br", what)
			if err != nil || resp != want {
				t.Errorf("got %d, %v, want %d", resp, err, want)
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	var most uint64
	for {
		runtime.ReadMemStats(&now)
		most = max(most, now.HeapSys-now.HeapReleased+now.StackSys)
		select {
		case <-done:
			t.Logf("%d MB at most", most>>20)
			if base := before.HeapSys - before.HeapReleased + before.StackSys; most > base+150<<20 {
				t.Errorf("%d MB, %d MB before", most>>20, base>>20)
			}
			return
		case <-time.After(time.Millisecond):
		}
	}
}

func send(url, encoding, body string) (int, error) {
	req, err := http.NewRequest("POST", url, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Content-Encoding", encoding)
	resp, err := plainHTTP.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// A share is for those who have sent all: 200 who have not hold up nobody, in whatever
// encoding.
func TestHalfSentBodiesHoldUpNobody(t *testing.T) {
	s, url := serveDecoding(t)
	for i := range 200 {
		encoding := []string{"br", "gzip", "deflate"}[i%3]
		dial(t, url, "POST /xrpc/com.example.toy.echo HTTP/1.1\nHost: x\nContent-Type: application/json\nContent-Encoding: "+
			encoding+"\nContent-Length: 10000\n\n"+bomb())
	}
	for encoding := range decoders {
		resp, body := do(t, url, "POST /xrpc/com.example.toy.echo", compressed(encoding, `{"name":"a"}`),
			"Content-Type: application/json", "Content-Encoding: "+encoding)
		if resp.StatusCode == http.StatusServiceUnavailable {
			t.Errorf("%s: %d %s", encoding, resp.StatusCode, body)
		}
	}
	if n := len(s.decoding.shares); n > 0 {
		t.Errorf("%d MiB are still taken", n)
	}
}

// Waiting has an end, for every decoder, and says when to come again.
func TestBusyDecoders(t *testing.T) {
	s, url := serveDecoding(t)
	giveBack, err := s.decoding.take(t.Context(), decodingMemory)
	if err != nil {
		t.Fatal(err)
	}
	// Too short to wait for in vain, too long for a busy machine not to take a share that is free.
	s.decoding.patience = 200 * time.Millisecond
	for encoding := range decoders {
		for _, ask := range []string{"echo", "upload"} {
			resp, body := do(t, url, "POST /xrpc/com.example.toy."+ask, compressed(encoding, `{"name":"a"}`),
				"Authorization: Bearer good", "Content-Type: application/json", "Content-Encoding: "+encoding)
			want := failure("NotEnoughResources", "Not Enough Resources")
			if resp.StatusCode != 503 || body != want || resp.Header.Get("Retry-After") != "1" {
				t.Errorf("%s, %s: got %d %s, Retry-After %q", encoding, ask, resp.StatusCode, body, resp.Header.Get("Retry-After"))
			}
		}
	}
	if n := len(s.decoding.shares); n != 32 {
		t.Errorf("%d MiB are taken, want 32", n)
	}
	giveBack()
	if status, err := send(url+"/xrpc/com.example.toy.echo", "br", compressed("br", `{"name":"a"}`)); status != 200 || err != nil {
		t.Errorf("got %d, %v", status, err)
	}
}

// FuzzDecode: whatever is sent, a decoder ends, stays within its share, and its failure
// is the client's.
func FuzzDecode(f *testing.F) {
	for encoding := range decoders {
		f.Add(encoding, []byte(compressed(encoding, `{"name":"a"}`)))
		f.Add(encoding, []byte(compressed(encoding, strings.Repeat("abc", 1000))[:12]))
	}
	f.Add("br", []byte(bomb()))
	d := newDecoding()
	f.Fuzz(func(t *testing.T, encoding string, body []byte) {
		how, ok := decoders[encoding]
		if !ok {
			return
		}
		r, done, err := d.open(t.Context(), &how, bytes.NewReader(body), 100<<10+1)
		if err == nil {
			var b bytes.Buffer
			err = readAll(&b, r, 100<<10)
			done()
		}
		if err != nil && (asError(err).status() < 400 || asError(err).status() > 499) {
			t.Errorf("%v", err)
		}
		if len(d.shares)+len(d.turn) > 0 {
			t.Fatal("a share was not given back")
		}
	})
}
