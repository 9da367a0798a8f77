package handover

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A node is a process that serves, in this one.
type node struct {
	name             string
	l                *Listener
	http             *http.Server
	from             *Predecessor
	entered          chan string   // the path of each request that waits
	goOn             chan struct{} // lets those go on
	failed           chan error    // of reading a body
	requests, bodies atomic.Int64
}

// serve starts a node on a socket, and lets it take over from another one through the wire of
// from, unless that is nil.
func serve(t *testing.T, name string, socket *net.TCPListener, from *Predecessor, header time.Duration) *node {
	t.Helper()
	n := &node{name: name, l: Listen(socket, time.Minute), from: from, entered: make(chan string, 100), goOn: make(chan struct{}), failed: make(chan error, 100)}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		n.requests.Add(1)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			n.failed <- err
			http.Error(w, "given up", http.StatusServiceUnavailable)
			return
		}
		n.bodies.Add(int64(len(body)))
		fmt.Fprintf(w, "%s %s %d %s", n.name, r.URL.Path, len(body), r.RemoteAddr)
	})
	mux.HandleFunc("/wait", func(w http.ResponseWriter, r *http.Request) {
		n.entered <- r.URL.Path
		<-n.goOn
		fmt.Fprintf(w, "%s %s", n.name, r.URL.Path)
	})
	mux.HandleFunc("/download", func(w http.ResponseWriter, r *http.Request) {
		Sending(r.Context())
		w.Header().Set("Content-Length", "6")
		_, _ = io.WriteString(w, "one")
		w.(http.Flusher).Flush()
		n.entered <- r.URL.Path
		<-n.goOn
		_, _ = io.WriteString(w, "two")
	})
	mux.HandleFunc("/hijack", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "hijacked")
		n.entered <- "/hijack"
		<-n.goOn
		_, _ = io.WriteString(conn, " still")
	})
	refused := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	n.http = &http.Server{
		Handler: n.l.Handler(mux, refused), ConnState: n.l.ConnState, ConnContext: n.l.ConnContext,
		ReadHeaderTimeout: header, IdleTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0),
	}
	go n.http.Serve(n.l)
	if from != nil {
		go n.http.Serve(n.l.Handed(from))
	}
	t.Cleanup(func() {
		_ = n.http.Close()
		if from != nil {
			from.Close()
		}
	})
	return n
}

// wires are two ends of a wire, as of a successor and a predecessor.
func wires(t *testing.T) (*Successor, *Predecessor) {
	t.Helper()
	w, fd, err := wirePair()
	if err != nil {
		t.Fatal(err)
	}
	from, err := newPredecessor(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	return &Successor{wire: w}, from
}

// pair is a node that serves, and one that takes over from it; both have the socket.
func pair(t *testing.T, header time.Duration) (a, b *node, next *Successor) {
	t.Helper()
	socket := listen(t, "tcp", "127.0.0.1:0").(*net.TCPListener)
	next, from := wires(t)
	return serve(t, "a", copyOf(t, socket), nil, header), serve(t, "b", copyOf(t, socket), from, header), next
}

func copyOf(t *testing.T, l *net.TCPListener) *net.TCPListener {
	t.Helper()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPListener)
}

// A client is one connection.
type client struct {
	*testing.T
	net.Conn
	read *bufio.Reader
}

// connect connects to the socket of n.
func (n *node) connect(t *testing.T) *client {
	t.Helper()
	conn, err := net.Dial("tcp", n.l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t, conn, bufio.NewReader(conn)}
}

func (c *client) send(text string) {
	c.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.Fatal(err)
	}
}

// answer is the status and the body of the next answer.
func (c *client) answer() string {
	c.Helper()
	resp, err := http.ReadResponse(c.read, nil)
	if err != nil {
		c.Fatalf("no answer: %v", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.Fatalf("half an answer: %v", err)
	}
	return fmt.Sprintf("%d %s", resp.StatusCode, body)
}

func get(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n" }

func post(path, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
}

func (c *client) want(text string) {
	c.Helper()
	if got := c.answer(); got != text {
		c.Errorf("got %q, want %q", got, text)
	}
}

// here is the end of an answer that says who asked.
func (c *client) here(node, path string, body int) string {
	return fmt.Sprintf("200 %s %s %d %s", node, path, body, c.LocalAddr())
}

// open is how many connections there are.
func (l *Listener) open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

// soon is a context for what must not take long.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// only leaves the socket to a.
func only(t *testing.T, a, b *node) {
	t.Helper()
	b.l.Stop()
	c := a.connect(t)
	c.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	c.want(c.here("a", "/", 0))
	if err := a.l.Finish(soon(t)); err != nil {
		t.Fatal(err)
	}
}

// Who is between two requests, or has connected and said nothing, is the newer process's, and
// sees nothing of it.
func TestConnectionsBetweenRequests(t *testing.T) {
	a, b, next := pair(t, time.Second)
	only(t, a, b)
	var idle, fresh []*client
	for range 50 {
		c := a.connect(t)
		c.send(post("/first", "body"))
		c.want(c.here("a", "/first", 4))
		idle = append(idle, c)
		fresh = append(fresh, a.connect(t))
	}
	for a.l.open() < 100 {
		time.Sleep(time.Millisecond)
	}
	a.l.Stop()
	a.l.HandOver(next.Give)
	if err := a.l.Settle(soon(t), time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, c := range append(idle, fresh...) {
		c.send(get("/second"))
		c.want(c.here("b", "/second", 0))
		c.send(post("/third", strings.Repeat("x", 10000)))
		c.want(c.here("b", "/third", 10000))
	}
	if err := a.l.Finish(soon(t)); err != nil {
		t.Error(err)
	}
}

// Who never completes a header is waited for as long as it may be, and not as those are who
// have made a request.
func TestSettleWithHalfAHeader(t *testing.T) {
	a, b, next := pair(t, time.Minute)
	only(t, a, b)
	half := a.connect(t)
	half.send("GET / HT")
	c := a.connect(t)
	c.send(get("/wait"))
	<-a.entered
	for parked := true; parked; time.Sleep(time.Millisecond) { // until the half was read
		parked = false
		a.l.mu.Lock()
		for c := range a.l.conns {
			c.mu.Lock()
			parked = parked || c.waits
			c.mu.Unlock()
		}
		a.l.mu.Unlock()
	}
	a.l.Stop()
	a.l.HandOver(next.Give)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := a.l.Settle(ctx, time.Minute); err == nil || !strings.HasPrefix(err.Error(), "2 connections") {
		t.Errorf("before the time of the header: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := a.l.Settle(ctx, time.Millisecond); err == nil || !strings.HasPrefix(err.Error(), "1 connections") {
		t.Errorf("behind it: %v", err)
	}
	close(a.goOn)
	c.want("200 a /wait")
	if err := a.l.Settle(soon(t), time.Millisecond); err != nil {
		t.Error(err)
	}
	a.l.Refuse()
	if err := a.l.Finish(soon(t)); err != nil {
		t.Error(err)
	}
}

// A connection that is woken when a part of a request has just come is read on.
func TestWokenWithAPartOfARequest(t *testing.T) {
	listening, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Listen(listening.(*net.TCPListener), time.Minute)
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	c := accepted.(*conn)
	c.state(http.StateNew)
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	type read struct {
		n   int
		err error
	}
	reads := make(chan read, 1)
	p := make([]byte, 4096)
	next := func() {
		n, err := c.Read(p)
		reads <- read{n, err}
	}
	go next()
	locked := func() bool { // once it is parked
		c.mu.Lock()
		if c.parked {
			return true
		}
		c.mu.Unlock()
		return false
	}
	for !locked() {
		time.Sleep(time.Millisecond)
	}
	if _, err := client.Write([]byte("GET / ")); err != nil {
		t.Fatal(err)
	}
	raw, err := c.TCPConn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for here := 1; here > 0; { // until it is read, and the reader waits for c.mu
		if err := raw.Control(func(fd uintptr) { here, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }); err != nil {
			t.Fatal(err)
		}
	}
	c.wake()
	c.mu.Unlock()
	if got := <-reads; got.n != 6 || got.err != nil {
		t.Fatalf("the first part: %+v", got)
	}
	go next()
	if _, err := client.Write([]byte("HTTP/1.1\r\n")); err != nil {
		t.Fatal(err)
	}
	if got := <-reads; got.n != 10 || got.err != nil {
		t.Errorf("the second part: %+v", got)
	}
}

// Who has a request under way gets its answer from the process that has it, and the next one
// from the other.
func TestConnectionsWithARequest(t *testing.T) {
	a, b, next := pair(t, time.Second)
	only(t, a, b)
	c := a.connect(t)
	c.send(get("/wait"))
	<-a.entered
	a.l.Stop()
	a.l.HandOver(next.Give)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.l.Settle(ctx, 0); err == nil || !strings.HasPrefix(err.Error(), "1 connections") {
		t.Errorf("settled with a request under way: %v", err)
	}
	close(a.goOn)
	c.want("200 a /wait")
	if err := a.l.Finish(soon(t)); err != nil {
		t.Error(err)
	}
	c.send(post("/", "1234"))
	c.want(c.here("b", "/", 4))
}

// A part of the next request that came with one before is lost to nobody: who has it answers.
func TestPartsOfTheNextRequest(t *testing.T) {
	requests := map[string]string{
		"a short one":      get("/next"),
		"one with a body":  post("/next", "0123456789"),
		"in pieces":        "POST /next HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n",
		"with many fields": "GET /next HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-Field: 0123456789\r\n", 300) + "\r\n",
	}
	for name, second := range requests {
		for _, first := range []string{get("/wait"), post("/wait", "abc"), "POST /wait HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"} {
			for _, early := range []bool{true, false} {
				t.Run(fmt.Sprint(name, " ", first[:4], len(first), " ", early), func(t *testing.T) {
					a, b, next := pair(t, 10*time.Second)
					only(t, a, b)
					var cuts []int
					for k := 0; k <= len(second); k += 1 + k/64*7 {
						cuts = append(cuts, k)
					}
					cuts = append(cuts, len(second))
					for i := range second { // behind each line, where the buffer is empty
						if second[i] == '\n' && i%5 == 0 {
							cuts = append(cuts, i+1)
						}
					}
					clients := make([]*client, len(cuts))
					for i, k := range cuts {
						clients[i] = a.connect(t)
						if early {
							clients[i].send(first + second[:k])
							<-a.entered
						} else {
							clients[i].send(first)
							<-a.entered
							clients[i].send(second[:k])
						}
					}
					a.l.Stop()
					a.l.HandOver(next.Give)
					close(a.goOn)
					for i, k := range cuts {
						c := clients[i]
						c.want("200 a /wait")
						c.send(second[k:])
						body := 0
						if !strings.HasPrefix(second, "GET") {
							body = 10
						}
						got := c.answer()
						if got != c.here("a", "/next", body) && got != c.here("b", "/next", body) {
							t.Errorf("cut at %d: %s", k, got)
						}
						c.Close()
					}
					if err := a.l.Finish(soon(t)); err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
}

// Who has made a request may think for long before the next, also where the other process
// takes it for new; but not for a header that has begun.
func TestIdleConnectionsStayIdle(t *testing.T) {
	const header = 50 * time.Millisecond
	a, b, next := pair(t, header)
	only(t, a, b)
	c, slow := a.connect(t), a.connect(t)
	for _, c := range []*client{c, slow} {
		c.send(get("/"))
		c.want(c.here("a", "/", 0))
	}
	a.l.Stop()
	a.l.HandOver(next.Give)
	if err := a.l.Finish(soon(t)); err != nil {
		t.Fatal(err)
	}
	next.Served()
	slow.send("GET /sl")
	if rest, err := io.ReadAll(slow.read); err != nil || !strings.HasPrefix(string(rest), "HTTP/1.1 400 ") { // as net/http does
		t.Errorf("half a header: %q, %v", rest, err)
	}
	c.send(get("/after"))
	c.want(c.here("b", "/after", 0))
}

// A download is no reason to wait, and is sent to its end.
func TestDownloads(t *testing.T) {
	a, b, next := pair(t, time.Second)
	only(t, a, b)
	c := a.connect(t)
	c.send(get("/download"))
	<-a.entered
	a.l.Stop()
	a.l.HandOver(next.Give)
	if err := a.l.Settle(soon(t), time.Minute); err != nil {
		t.Error(err)
	}
	a.l.Refuse()
	close(a.goOn)
	c.want("200 onetwo")
	if err := a.l.Finish(soon(t)); err != nil {
		t.Error(err)
	}
	c.send(get("/"))
	c.want(c.here("b", "/", 0))
}

// What is not through in time is told so, and nothing begins that came along.
func TestRefuse(t *testing.T) {
	a, b, next := pair(t, time.Second)
	only(t, a, b)
	uploading, silent, behind := a.connect(t), a.connect(t), a.connect(t)
	uploading.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
	silent.send("GET /half")
	behind.send(get("/download") + get("/too-late"))
	<-a.entered
	for a.requests.Load() < 2 { // the one of only, and the upload
		time.Sleep(time.Millisecond)
	}
	a.l.Stop()
	a.l.HandOver(next.Give)
	a.l.Refuse()
	if err := <-a.failed; !errors.Is(err, context.Canceled) {
		t.Errorf("the upload ends with %v", err)
	}
	uploading.want("503 given up\n")
	if rest, err := io.ReadAll(silent.read); err != nil || !strings.HasPrefix(string(rest), "HTTP/1.1 400 ") { // as net/http does
		t.Errorf("half a header: %q, %v", rest, err)
	}
	close(a.goOn)
	behind.want("200 onetwo")
	behind.want("503 ")
	if _, err := behind.read.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("behind a refusal: %v", err)
	}
	if err := a.l.Finish(soon(t)); err != nil {
		t.Error(err)
	}
}

// What is not HTTP any more is nobody's to hand over.
func TestHijackedConnections(t *testing.T) {
	a, b, next := pair(t, time.Second)
	only(t, a, b)
	c := a.connect(t)
	c.send(get("/hijack"))
	<-a.entered
	a.l.Stop()
	a.l.HandOver(next.Give)
	if err := a.l.Finish(soon(t)); err != nil {
		t.Error(err)
	}
	a.l.Refuse()
	close(a.goOn)
	if rest, err := io.ReadAll(c.read); err != nil || string(rest) != "hijacked still" {
		t.Errorf("%q, %v", rest, err)
	}
}

// Files go out as they do without all this: by the system.
func TestFilesAreSent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	l := Listen(listen(t, "tcp", "127.0.0.1:0").(*net.TCPListener), time.Minute)
	var _ io.ReaderFrom = &conn{}
	h := &http.Server{ConnState: l.ConnState, ConnContext: l.ConnContext, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, path)
	})}
	go h.Serve(l)
	defer h.Close()
	resp, err := http.Get("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// Clients that ask again and again, and do not try anything twice, notice none of many
// handovers.
func TestManyHandovers(t *testing.T) {
	const handovers, clients = 20, 30
	socket := listen(t, "tcp", "127.0.0.1:0").(*net.TCPListener)
	at := serve(t, "0", copyOf(t, socket), nil, time.Second)
	address := socket.Addr().String()
	socket.Close()
	ctx, stop := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	var answers atomic.Int64
	for i := range clients {
		asking.Go(func() {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			read := bufio.NewReader(conn)
			for n := 0; ctx.Err() == nil; n++ {
				if i%3 == 0 && n%10 == 0 { // some come anew
					conn.Close()
					if conn, err = net.Dial("tcp", address); err != nil {
						t.Error(err)
						return
					}
					read.Reset(conn)
				}
				text := post("/", strings.Repeat("x", n%5000))
				if i%2 == 0 {
					text = get("/")
				}
				if _, err := io.WriteString(conn, text); err != nil {
					t.Errorf("request %d: %v", n, err)
					return
				}
				resp, err := http.ReadResponse(read, nil)
				if err != nil {
					t.Errorf("request %d: %v", n, err)
					return
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
					t.Errorf("request %d: %s, %v", n, resp.Status, err)
					return
				}
				answers.Add(1)
			}
		})
	}
	for i := range handovers {
		for before := answers.Load(); answers.Load() < before+200 && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
		next, from := wires(t)
		shared := copyOf(t, at.l.socket)
		at.l.Stop()
		at.l.HandOver(next.Give)
		if err := at.l.Settle(soon(t), time.Minute); err != nil {
			t.Fatal(err)
		}
		at.l.Refuse()
		before := at
		at = serve(t, fmt.Sprint(i+1), shared, from, time.Second)
		next.Served()
		if err := before.l.Finish(soon(t)); err != nil {
			t.Error(err)
		}
		next.Close()
		if err := before.http.Close(); err != nil {
			t.Error(err)
		}
	}
	stop()
	asking.Wait()
	t.Logf("%d answers to %d clients during %d handovers", answers.Load(), clients, handovers)
}
