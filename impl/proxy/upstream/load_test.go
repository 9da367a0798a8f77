package upstream_test

import (
	"context"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"portico/impl/proxy/upstream"
)

// A thousand hosts at a time that say nothing, or say nothing more in their bodies, hold
// little memory each, give it back, and hold up nobody else.
func TestSlowHosts(t *testing.T) {
	const n = 1000
	for _, head := range []string{"", "HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\nx"} {
		name := "silent in the body"
		if head == "" {
			name = "without a header"
		}
		t.Run(name, func(t *testing.T) {
			here := make(chan struct{}, n)
			slow := newStub(t, func(c net.Conn, _, _ int) bool {
				io.WriteString(c, head)
				here <- struct{}{}
				c.Read(make([]byte, 1))
				return false
			})
			quick := saying(t, ok, "{}")
			c := upstream.New(upstream.Options{Private: true, HeadersTimeout: time.Hour, BodyTimeout: time.Hour, Own: []string{slow.URL}})
			ctx, hangUp := context.WithCancel(t.Context())
			defer hangUp()
			before := memory()
			var all sync.WaitGroup
			var open atomic.Int32
			for range n {
				all.Go(func() {
					answer, err := c.Send(ctx, &upstream.Request{Verb: "GET", URL: slow.URL + "/xrpc/a.b"})
					if err != nil {
						return
					}
					defer answer.Body.Close()
					open.Add(1)
					io.Copy(io.Discard, answer.Body)
				})
			}
			for range n {
				<-here
			}
			// The stub's part is in it: a connection, its reader of 4 KiB, a goroutine.
			if each := (memory() - before) / n; each > 64<<10 {
				t.Errorf("%d bytes each", each)
			}
			answer, err := c.Send(t.Context(), &upstream.Request{Verb: "GET", URL: quick.URL + "/xrpc/a.b"})
			if err != nil {
				t.Fatal(err)
			}
			if text, err := c.Read(answer); err != nil || string(text) != "{}" {
				t.Errorf("%q, %v", text, err)
			}
			hangUp()
			all.Wait()
			if head == "" && open.Load() != 0 {
				t.Errorf("%d answers", open.Load())
			}
		})
	}
}

// memory is what goroutines and the heap use now.
func memory() int64 {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// Ten megabytes go through in both directions without being held.
func TestLargeBodies(t *testing.T) {
	const size = 10 << 20
	s := newStub(t, func(c net.Conn, _, _ int) bool {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10485760\r\n\r\n")
		_, err := io.Copy(c, io.LimitReader(zeros{}, size))
		return err == nil
	})
	c := upstream.New(upstream.Options{Private: true})
	answer, err := c.Send(t.Context(), &upstream.Request{Verb: "POST", URL: s.URL + "/xrpc/a.b", Body: io.LimitReader(zeros{}, size), Size: size})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if n, err := io.Copy(io.Discard, answer.Body); n != size || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, body := s.last(); len(body) != size {
		t.Errorf("%d bytes arrived", len(body))
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// An answer that is larger than MaxAnswer, breaks off or unpacks to more fails where it is
// read, whatever it says of its length.
func TestTooLarge(t *testing.T) {
	large := strings.Repeat("x", 101)
	for _, tt := range []struct{ name, head, body, sent, read string }{
		{"as large as may be", "Content-Length: 100", large[:100], "", ""},
		{"too large", "Content-Length: 101", large, "too large", "too large"},
		{"too large in chunks", "Transfer-Encoding: chunked", "65\r\n" + large + "\r\n0\r\n\r\n", "too large", "too large"},
		{"breaks off", "Content-Length: 99\nConnection: close", large[:50], "unexpected EOF", "unexpected EOF"},
		{"breaks off in a chunk", "Transfer-Encoding: chunked\nConnection: close", "65\r\nx", "unexpected EOF", "unexpected EOF"},
		{"too large unpacked", "Connection: close\nContent-Encoding: gzip", pack(t, large, "gzip"), "", "too large"},
		{"broken", "Connection: close\nContent-Encoding: gzip", "text", "", "unpack"},
		{"unknown", "Connection: close\nContent-Encoding: zstd", "text", "", `unknown content encoding "zstd"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := saying(t, "HTTP/1.1 200 OK\n"+tt.head, tt.body)
			c := upstream.New(upstream.Options{Private: true, MaxAnswer: 100})
			check := func(err error, want string) {
				t.Helper()
				if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
					t.Errorf("got %v, want %q", err, want)
				}
			}
			{ // passed on, then read
				answer, err := c.Send(t.Context(), &upstream.Request{Verb: "GET", URL: s.URL + "/xrpc/a.b"})
				if err != nil {
					t.Fatal(err)
				}
				_, err = io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
				check(err, tt.sent)
				if answer, err = c.Send(t.Context(), &upstream.Request{Verb: "GET", URL: s.URL + "/xrpc/a.b"}); err != nil {
					t.Fatal(err)
				}
				_, err = c.Read(answer)
				check(err, tt.read)
			}
		})
	}
}
