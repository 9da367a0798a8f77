package upstream_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"portico/impl/proxy/upstream"
)

// inTime runs a test on a clock of its own, with a client whose hosts are all the function
// that it is given: one run of it for each connection, from 1.
func inTime(t *testing.T, o upstream.Options, host func(c net.Conn, r *bufio.Reader, connection int), test func(t *testing.T, c *upstream.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o.Private = true
		c := upstream.New(o)
		var connections atomic.Int32
		c.Dial(func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			n := int(connections.Add(1))
			go func() {
				defer there.Close()
				host(there, bufio.NewReader(there), n)
			}()
			return here, nil
		})
		test(t, c)
		c.CloseIdle()
		synctest.Wait()
	})
}

func readRequest(r *bufio.Reader) (body string) {
	q, err := http.ReadRequest(r)
	if err != nil {
		return ""
	}
	text, _ := io.ReadAll(q.Body)
	return string(text)
}

var get = &upstream.Request{Verb: "GET", URL: "http://host.example/xrpc/a.b"}

func post(body io.Reader) *upstream.Request {
	return &upstream.Request{Verb: "POST", URL: "http://host.example/xrpc/a.b", Body: body, Size: -1}
}

// slowly is a body of pieces that come one after the other, each after some time.
type slowly struct {
	every  time.Duration
	pieces int
}

func (s *slowly) Read(p []byte) (int, error) {
	if s.pieces == 0 {
		return 0, io.EOF
	}
	time.Sleep(s.every)
	s.pieces--
	return copy(p, "piece"), nil
}

func wantAfter(t *testing.T, start time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(start); got != want {
		t.Errorf("after %v, want %v", got, want)
	}
}

// A host that says nothing is given up after HeadersTimeout.
func TestHeadersTimeout(t *testing.T) {
	inTime(t, upstream.Options{}, func(c net.Conn, r *bufio.Reader, _ int) {
		readRequest(r)
		r.ReadByte() // until the connection is closed
	}, func(t *testing.T, c *upstream.Client) {
		start := time.Now()
		if _, err := c.Send(t.Context(), get); !errors.Is(err, upstream.ErrUnreachable) || !strings.Contains(err.Error(), "no header in time") {
			t.Error(err)
		}
		wantAfter(t, start, 10*time.Second)
	})
}

// The time that a client takes to send its body is not the host's.
func TestSlowUpload(t *testing.T) {
	inTime(t, upstream.Options{}, func(c net.Conn, r *bufio.Reader, _ int) {
		body := readRequest(r)
		time.Sleep(9 * time.Second)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}, func(t *testing.T, c *upstream.Client) {
		answer, err := c.Send(t.Context(), post(&slowly{time.Minute, 10}))
		if err != nil {
			t.Fatal(err)
		}
		if text, err := c.Read(answer); err != nil || string(text) != strings.Repeat("piece", 10) {
			t.Errorf("%q, %v", text, err)
		}
	})
}

// Once the client has sent all, the host has its time, and no more.
func TestHeadersTimeoutAfterUpload(t *testing.T) {
	inTime(t, upstream.Options{}, func(c net.Conn, r *bufio.Reader, _ int) {
		readRequest(r)
		r.ReadByte()
	}, func(t *testing.T, c *upstream.Client) {
		start := time.Now()
		if _, err := c.Send(t.Context(), post(&slowly{time.Minute, 2})); !errors.Is(err, upstream.ErrUnreachable) {
			t.Error(err)
		}
		wantAfter(t, start, 2*time.Minute+10*time.Second)
	})
}

// A host that does not take what the client sends is late.
func TestHostTakesNoBody(t *testing.T) {
	inTime(t, upstream.Options{}, func(c net.Conn, r *bufio.Reader, _ int) {
		http.ReadRequest(r)
		time.Sleep(time.Hour)
	}, func(t *testing.T, c *upstream.Client) {
		start := time.Now()
		if _, err := c.Send(t.Context(), post(strings.NewReader(strings.Repeat("x", 1<<20)))); !errors.Is(err, upstream.ErrUnreachable) {
			t.Error(err)
		}
		wantAfter(t, start, 10*time.Second)
		time.Sleep(time.Hour)
	})
}

// A body may take long, and its reader as well; the host may not be silent for longer than
// BodyTimeout.
func TestBodyTimeout(t *testing.T) {
	inTime(t, upstream.Options{}, func(c net.Conn, r *bufio.Reader, _ int) {
		readRequest(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
		for range 10 {
			time.Sleep(29 * time.Second)
			io.WriteString(c, "x")
		}
		r.ReadByte()
	}, func(t *testing.T, c *upstream.Client) {
		answer, err := c.Send(t.Context(), get)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		piece := make([]byte, 1)
		for n := range 10 {
			if n == 5 {
				time.Sleep(time.Hour) // who reads is slow, and the host waits for it
			}
			if _, err := io.ReadFull(answer.Body, piece); err != nil {
				t.Fatal(n, err)
			}
		}
		start := time.Now()
		if n, err := answer.Body.Read(piece); err == nil || !strings.Contains(err.Error(), "silent for too long") {
			t.Errorf("%d, %v", n, err)
		}
		wantAfter(t, start, 30*time.Second)
		if _, err := answer.Body.Read(piece); err == nil {
			t.Error("it goes on")
		}
	})
}

// All that a refusal says comes within BodyTimeout, however it is dealt out; what is not
// read anyway is not waited for.
func TestSlowRefusal(t *testing.T) {
	for _, tt := range []struct {
		kind string
		want time.Duration
	}{{"application/json", 30 * time.Second}, {"text/html", 100 * time.Millisecond}} {
		inTime(t, upstream.Options{}, func(c net.Conn, r *bufio.Reader, _ int) {
			readRequest(r)
			io.WriteString(c, "HTTP/1.1 400 X\r\nContent-Type: "+tt.kind+"\r\n\r\n")
			for {
				time.Sleep(7 * time.Second)
				if _, err := io.WriteString(c, " "); err != nil {
					return
				}
			}
		}, func(t *testing.T, c *upstream.Client) {
			start := time.Now()
			_, err := c.Send(t.Context(), get)
			if refused, ok := errors.AsType[*upstream.Refused](err); !ok || refused.Status != 400 {
				t.Error(err)
			}
			wantAfter(t, start, tt.want)
			time.Sleep(7 * time.Second)
		})
	}
}

// When the client hangs up so does the upstream request: before the header, while the
// client sends, and in the answer.
func TestHangUp(t *testing.T) {
	for _, when := range []string{"before the header", "in the body", "in the upload"} {
		t.Run(when, func(t *testing.T) {
			var closed atomic.Bool
			inTime(t, upstream.Options{}, func(c net.Conn, r *bufio.Reader, _ int) {
				http.ReadRequest(r)
				if when == "in the body" {
					io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nx")
				}
				for {
					if _, err := r.ReadByte(); err != nil {
						break
					}
				}
				closed.Store(true)
			}, func(t *testing.T, c *upstream.Client) {
				ctx, hangUp := context.WithCancel(t.Context())
				time.AfterFunc(5*time.Second, hangUp)
				r := get
				if when == "in the upload" {
					r = post(hanging{ctx})
				}
				start := time.Now()
				answer, err := c.Send(ctx, r)
				if when == "in the body" {
					if err != nil {
						t.Fatal(err)
					}
					_, err = io.ReadAll(answer.Body)
					answer.Body.Close()
				}
				if !errors.Is(err, context.Canceled) {
					t.Errorf("no word of the client: %v", err)
				}
				wantAfter(t, start, 5*time.Second)
				synctest.Wait()
				if !closed.Load() {
					t.Error("the host waits still")
				}
			})
		})
	}
}

// hanging is the body of a client that sends nothing and hangs up later.
type hanging struct{ ctx context.Context }

func (h hanging) Read([]byte) (int, error) {
	<-h.ctx.Done()
	return 0, h.ctx.Err()
}

// What reading the client's body failed with is told as it is.
func TestBrokenUpload(t *testing.T) {
	broken := errors.New("broken")
	inTime(t, upstream.Options{}, func(c net.Conn, r *bufio.Reader, _ int) {
		readRequest(r)
	}, func(t *testing.T, c *upstream.Client) {
		_, err := c.Send(t.Context(), post(io.MultiReader(&slowly{time.Second, 1}, failing{broken})))
		if !errors.Is(err, broken) || errors.Is(err, upstream.ErrUnreachable) {
			t.Error(err)
		}
	})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// A host may answer before it has read all. Nobody reads the client's body any more when
// its answer is closed.
func TestEarlyAnswer(t *testing.T) {
	for _, status := range []string{"200 OK", "413 X"} {
		inTime(t, upstream.Options{}, func(c net.Conn, r *bufio.Reader, _ int) {
			http.ReadRequest(r)
			io.WriteString(c, "HTTP/1.1 "+status+"\r\nContent-Length: 2\r\n\r\n{}")
			r.WriteTo(io.Discard)
		}, func(t *testing.T, c *upstream.Client) {
			body := &guarded{slow: slowly{time.Second, 1000}}
			answer, err := c.Send(t.Context(), post(body))
			if err == nil {
				if text, err := c.Read(answer); err != nil || string(text) != "{}" {
					t.Errorf("%q, %v", text, err)
				}
			} else if _, ok := errors.AsType[*upstream.Refused](err); !ok {
				t.Error(err)
			}
			body.over.Store(true)
			time.Sleep(time.Hour)
			if body.late.Load() {
				t.Error("the client's body was read behind its request")
			}
		})
	}
}

type guarded struct {
	slow       slowly
	over, late atomic.Bool
}

func (g *guarded) Read(p []byte) (int, error) {
	n, err := g.slow.Read(p)
	if g.over.Load() {
		g.late.Store(true)
	}
	return n, err
}

// A connection that fails is tried again where Retries says so, for GET and HEAD.
func TestRetries(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	for _, tt := range []struct {
		name     string
		r        *upstream.Request
		retries  int
		failures int // before it works
		err      error
		want     int // connections
		after    time.Duration
	}{
		{"none", get, 0, 1, refused, 1, 0},
		{"enough", get, 3, 2, refused, 3, 300 * time.Millisecond},
		{"too few", get, 2, 5, refused, 3, 300 * time.Millisecond},
		{"HEAD", &upstream.Request{Verb: "HEAD", URL: get.URL}, 1, 1, refused, 2, 100 * time.Millisecond},
		{"POST", post(strings.NewReader("x")), 3, 1, refused, 1, 0},
		{"POST of nothing", post(nil), 3, 1, refused, 1, 0},
		{"no failure of a connection", get, 3, 1, errors.New("certificate"), 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := upstream.New(upstream.Options{Private: true, Retries: tt.retries})
				n := 0
				c.Dial(func(context.Context, string, string) (net.Conn, error) {
					if n++; n <= tt.failures {
						return nil, tt.err
					}
					here, there := net.Pipe()
					go func() {
						readRequest(bufio.NewReader(there))
						io.WriteString(there, "HTTP/1.1 204 X\r\nConnection: close\r\n\r\n")
						there.Close()
					}()
					return here, nil
				})
				start := time.Now()
				answer, err := c.Send(t.Context(), tt.r)
				if err == nil {
					answer.Body.Close()
				}
				if failed := tt.want <= tt.failures; failed != errors.Is(err, upstream.ErrUnreachable) || failed != (err != nil) {
					t.Error(err)
				}
				wantAfter(t, start, tt.after)
				if n != tt.want {
					t.Errorf("%d connections, want %d", n, tt.want)
				}
			})
		})
	}
}

// Neither a refusal nor a host that is late is tried again.
func TestNoRetries(t *testing.T) {
	for _, late := range []bool{true, false} {
		var n atomic.Int32
		inTime(t, upstream.Options{Retries: 5}, func(c net.Conn, r *bufio.Reader, _ int) {
			n.Add(1)
			readRequest(r)
			if late {
				r.ReadByte()
			}
			io.WriteString(c, "HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n")
		}, func(t *testing.T, c *upstream.Client) {
			if _, err := c.Send(t.Context(), get); err == nil {
				t.Error("no error")
			}
			if n.Load() != 1 {
				t.Errorf("%d requests", n.Load())
			}
		})
	}
}

// A connection that was used before may have been closed in the meantime. A GET is sent
// again on another one then; a POST, which somebody may have begun to work on, is not.
func TestStaleConnection(t *testing.T) {
	for _, tt := range []struct {
		r    *upstream.Request
		want int
	}{{get, 2}, {post(strings.NewReader("x")), 1}} {
		t.Run(tt.r.Verb, func(t *testing.T) {
			var n atomic.Int32
			inTime(t, upstream.Options{}, func(c net.Conn, r *bufio.Reader, connection int) {
				n.Add(1)
				readRequest(r)
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
				readRequest(r)
				if connection == 2 {
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
				}
			}, func(t *testing.T, c *upstream.Client) {
				answer, err := c.Send(t.Context(), get)
				if err == nil {
					_, err = c.Read(answer)
				}
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait() // for the connection to be idle
				if answer, err = c.Send(t.Context(), tt.r); err == nil {
					_, err = c.Read(answer)
				}
				if (err == nil) != (tt.want == 2) || int(n.Load()) != tt.want {
					t.Errorf("%d connections, %v", n.Load(), err)
				}
			})
		})
	}
}

// Connections to hosts of strangers are not kept for long, and few are; those to
// configured ones are kept as long as they are used every half minute.
func TestConnectionsKept(t *testing.T) {
	for _, tt := range []struct {
		name        string
		own         []string
		hosts       int
		pause       time.Duration
		connections int
	}{
		{"a stranger at once", nil, 1, 0, 1},
		{"a stranger later", nil, 1, 11 * time.Second, 2},
		{"ours later", []string{"HTTP://Host0.example"}, 1, 29 * time.Second, 1},
		{"ours much later", []string{"http://host0.example"}, 1, 31 * time.Second, 2},
		{"a hundred strangers", nil, 100, 0, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var n, open atomic.Int32
			inTime(t, upstream.Options{Own: tt.own}, func(c net.Conn, r *bufio.Reader, _ int) {
				n.Add(1)
				open.Add(1)
				defer open.Add(-1)
				for {
					if _, err := http.ReadRequest(r); err != nil {
						return
					}
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
				}
			}, func(t *testing.T, c *upstream.Client) {
				for range 2 {
					for host := range tt.hosts {
						answer, err := c.Send(t.Context(), &upstream.Request{Verb: "GET", URL: fmt.Sprintf("http://host%d.example/xrpc/a.b", host)})
						if err == nil {
							_, err = c.Read(answer)
						}
						if err != nil {
							t.Fatal(err)
						}
						synctest.Wait()
					}
					if open.Load() > 64 {
						t.Errorf("%d are open", open.Load())
					}
					time.Sleep(tt.pause)
				}
				if int(n.Load()) != tt.connections {
					t.Errorf("%d connections, want %d", n.Load(), tt.connections)
				}
			})
		})
	}
}

// Large answers are read some at a time, however slowly hosts deal them out; small ones go
// past them.
func TestManyLargeAnswers(t *testing.T) {
	inTime(t, upstream.Options{}, func(c net.Conn, r *bufio.Reader, connection int) {
		for {
			q, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			large := q.URL.Path == "/xrpc/large"
			if !large {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
				continue
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", 600<<10, strings.Repeat(" ", 600<<10-100))
			for range 99 {
				time.Sleep(time.Second)
				if _, err := io.WriteString(c, " "); err != nil {
					return
				}
			}
		}
	}, func(t *testing.T, c *upstream.Client) {
		start := time.Now()
		read := func(path string) error {
			answer, err := c.Send(t.Context(), &upstream.Request{Verb: "GET", URL: "http://host.example/xrpc/" + path})
			if err == nil {
				_, err = c.Read(answer)
			}
			return err
		}
		ended := make(chan time.Duration, 20)
		for range 20 {
			go func() {
				if err := read("large"); !errors.Is(err, upstream.ErrUnreachable) {
					t.Error(err)
				}
				ended <- time.Since(start)
			}()
		}
		synctest.Wait()
		if err := read("small"); err != nil {
			t.Error(err)
		}
		wantAfter(t, start, 0)
		var after []time.Duration
		for range 20 {
			after = append(after, <-ended)
		}
		if after[11] != 5*time.Second || after[12] != 30*time.Second || after[19] != 30*time.Second {
			t.Error(after)
		}
		time.Sleep(time.Minute)
	})
}
