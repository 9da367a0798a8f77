package handover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Give takes a descriptor of a connection, for another process. It says whether a request
// came over it before. With an error the descriptor remains the caller's.
type Give func(fd int, begun bool) error

// A Listener accepts the connections of a server, until another process takes them over. It
// is of one [http.Server], which must have its ConnState, ConnContext and Handler: by them
// it knows when a connection is between two requests.
type Listener struct {
	socket *net.TCPListener
	idle   time.Duration // how long a connection may be between two requests

	give     atomic.Pointer[Give]
	over     atomic.Bool // no request may begin
	stopOnce sync.Once
	stopped  chan struct{} // closed by Stop
	lastOnce sync.Once
	last     chan struct{} // closed when the server has all that were accepted before Stop
	endOnce  sync.Once
	ended    chan struct{} // closed by Close

	mu     sync.Mutex
	before <-chan struct{}    // closed when a process before hands over nothing more; nil: there is none
	conns  map[*conn]struct{} // that are open, but for those that are no longer the server's
	moved  chan struct{}      // has room for one: something about conns has changed
}

// Listen is the listener of a socket, which it closes. A connection that was handed over
// between two requests may be so for as long as idle.
func Listen(socket *net.TCPListener, idle time.Duration) *Listener {
	return &Listener{
		socket: socket, idle: idle, stopped: make(chan struct{}), last: make(chan struct{}), ended: make(chan struct{}),
		conns: map[*conn]struct{}{}, moved: make(chan struct{}, 1),
	}
}

// Addr implements [net.Listener].
func (l *Listener) Addr() net.Addr { return l.socket.Addr() }

// Accept implements [net.Listener]. After Stop it waits for Close: the server goes on with
// the connections that it has.
func (l *Listener) Accept() (net.Conn, error) {
	tcp, err := l.socket.AcceptTCP()
	if err == nil {
		return l.add(tcp, false), nil
	}
	select {
	case <-l.stopped:
		l.lastOnce.Do(func() { close(l.last) })
		<-l.ended
		return nil, net.ErrClosed
	default:
		return nil, err
	}
}

// Stop leaves whoever connects to the other processes that have the socket. Those whom this
// process has accepted remain.
func (l *Listener) Stop() {
	l.stopOnce.Do(func() {
		close(l.stopped)
		_ = l.socket.Close()
	})
}

// Close implements [net.Listener].
func (l *Listener) Close() error {
	err := l.socket.Close()
	select {
	case <-l.stopped:
		err = nil
	default:
	}
	l.endOnce.Do(func() { close(l.ended) })
	return err
}

// Handed returns the connections that a process before this one hands over, for the same
// server to accept beside those of l.
func (l *Listener) Handed(from *Predecessor) net.Listener {
	h := &handed{l, from, make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before = h.done
	return h
}

type handed struct {
	*Listener
	from *Predecessor
	done chan struct{} // closed when the process before hands over nothing more
}

// Accept implements [net.Listener].
func (h *handed) Accept() (net.Conn, error) {
	for {
		fd, begun, err := h.from.next(h.ended)
		if err != nil {
			close(h.done)
			<-h.ended // the server would take an error for one of its own
			return nil, net.ErrClosed
		}
		f := os.NewFile(uintptr(fd), "connection")
		c, err := net.FileConn(f)
		_ = f.Close()
		if tcp, ok := c.(*net.TCPConn); ok && err == nil {
			return h.add(tcp, begun), nil
		}
		if err == nil {
			_ = c.Close()
		}
	}
}

// Close leaves the socket to the other listener of the server.
func (h *handed) Close() error {
	h.endOnce.Do(func() { close(h.ended) })
	return nil
}

func (l *Listener) add(tcp *net.TCPConn, begun bool) *conn {
	c := &conn{TCPConn: tcp, listener: l, begun: begun}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = struct{}{}
	return c
}

// remove is for a connection that is not the server's any more.
func (l *Listener) remove(c *conn) {
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
	l.move()
}

func (l *Listener) move() {
	select {
	case l.moved <- struct{}{}:
	default: // who waits has not looked yet
	}
}

// HandOver gives connections to another process from now on, as soon as each is between two
// requests, or before its first one. Those that give has no place for are closed.
func (l *Listener) HandOver(give Give) {
	l.give.Store(&give)
	l.mu.Lock()
	var waiting []*conn
	for c := range l.conns {
		waiting = append(waiting, c)
	}
	l.mu.Unlock()
	for _, c := range waiting {
		c.wakeIdle()
	}
}

// Settle waits until no request is under way but those of which nothing is left than to send
// the answer, see [Sending]. Those whose header is not complete after a time of its own are not
// waited for: they cost a stranger nothing. It is for after HandOver. Its error is that of ctx,
// with the number of the others.
func (l *Listener) Settle(ctx context.Context, header time.Duration) error {
	var late atomic.Bool
	defer time.AfterFunc(header, func() {
		late.Store(true)
		l.move()
	}).Stop()
	return l.wait(ctx, func(c *conn) bool { return c.sending.Load() || late.Load() && !c.underWay() })
}

// Finish waits until there is no connection left, and the process before, if there is one,
// has none to hand over any more: it knows no other that takes them. It is for after
// HandOver. Its error is that of ctx, with the number of connections.
func (l *Listener) Finish(ctx context.Context) error {
	l.mu.Lock()
	before := l.before
	l.mu.Unlock()
	if before != nil {
		select {
		case <-before:
		case <-ctx.Done():
		}
	}
	return l.wait(ctx, func(*conn) bool { return false })
}

func (l *Listener) wait(ctx context.Context, fine func(*conn) bool) error {
	select {
	case <-l.stopped:
		select {
		case <-l.last:
		case <-ctx.Done():
		}
	default: // it goes on
	}
	for {
		left := 0
		l.mu.Lock()
		for c := range l.conns {
			if !fine(c) {
				left++
			}
		}
		l.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-l.moved:
		case <-ctx.Done():
			return fmt.Errorf("%d connections: %w", left, ctx.Err())
		}
	}
}

// Refuse lets no request begin any more, and ends those that are under way, but for those of
// which nothing is left than to send the answer: what they wait for, their body too, ends
// with context.Canceled.
func (l *Listener) Refuse() {
	l.over.Store(true)
	l.mu.Lock()
	var left []*conn
	for c := range l.conns {
		if !c.sending.Load() {
			left = append(left, c)
		}
	}
	l.mu.Unlock()
	for _, c := range left {
		c.end()
	}
}

// Handler is next until Refuse. A request that comes afterwards is answered by refused: it
// came in the same breath with one before, and no other process knows of it.
func (l *Listener) Handler(next, refused http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l.over.Load() {
			w.Header().Set("Connection", "close")
			refused.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ConnState is that of the server.
func (l *Listener) ConnState(c net.Conn, state http.ConnState) {
	if c, ok := c.(*conn); ok {
		c.state(state)
	}
}

type connKey struct{}

// ConnContext is that of the server.
func (l *Listener) ConnContext(ctx context.Context, c net.Conn) context.Context {
	if c, ok := c.(*conn); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		ctx, c.cancel = context.WithCancel(ctx)
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// Sending says of the request of ctx that nothing is left to do than to send its answer, for
// which neither the database nor the time of others is needed.
func Sending(ctx context.Context) {
	c, ok := ctx.Value(connKey{}).(*conn)
	if !ok || c.sending.Swap(true) {
		return
	}
	c.listener.move()
}

// errOver is what ends the body of a request that Refuse ends.
var errOver = fmt.Errorf("another process takes over: %w", context.Canceled)

// past is a deadline that is over.
var past = time.Unix(1, 0)

// A conn is a connection of the server.
//
// That it is between two requests is known by what net/http does with it: then it sets one
// deadline, for the idle time, and reads into a buffer of which it has read nothing, so that
// there is room for as much as at the first read of all. Where a part of the next request is
// in the buffer already, it reads into less, or sets a second deadline before, for the
// header. Tests hold it to that.
type conn struct {
	*net.TCPConn
	listener *Listener
	begun    bool // it was handed over behind a request
	sending  atomic.Bool

	mu        sync.Mutex
	cancel    context.CancelFunc // of the context of its requests
	room      int                // that the first read had
	waits     bool               // nothing was read of a request
	idle      bool               // there was a request before
	deadlines int                // that were set since it is idle
	parked    bool               // it is being read, and nothing of it is anywhere
	deadline  time.Time          // of reads, that was set last
	woken     bool               // another one was set since
	leaves    bool               // it was told that no more will come
	active    bool               // a request is under way
	over      bool               // that was ended
	header    time.Duration      // what a header may take that has not begun
	closed    bool
}

// state is told what net/http takes the connection for.
func (c *conn) state(s http.ConnState) {
	c.mu.Lock()
	switch s {
	case http.StateNew:
		c.waits = true
	case http.StateActive:
		c.waits, c.active = false, true
	case http.StateIdle:
		c.waits, c.idle, c.active, c.deadlines = true, true, false, 0
	}
	c.mu.Unlock()
	switch s {
	case http.StateIdle:
		if c.sending.Swap(false) {
			c.listener.move()
		}
	case http.StateHijacked, http.StateClosed:
		c.listener.remove(c)
	}
}

// SetReadDeadline implements [net.Conn].
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waits {
		c.deadlines++
		switch {
		case c.idle && c.deadlines > 1:
			c.waits = false // a part of the next request is here
		case !c.idle && c.begun:
			// Its client has made a request, and may think for a while before the next.
			now := time.Now()
			if !t.IsZero() {
				c.header = t.Sub(now)
			}
			t = now.Add(c.listener.idle)
		}
	}
	c.deadline, c.woken = t, false
	return c.TCPConn.SetReadDeadline(t)
}

// Read implements [net.Conn].
func (c *conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	if c.room == 0 {
		c.room = len(p)
	}
	switch {
	case c.over && c.active:
		c.mu.Unlock()
		return 0, errOver
	case c.over:
		c.mu.Unlock()
		return 0, os.ErrDeadlineExceeded
	case c.waits && len(p) == c.room:
		if c.leaves = c.listener.give.Load() != nil; c.leaves {
			c.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		}
		c.parked = true
	}
	c.mu.Unlock()
	n, err := c.TCPConn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	parked := c.parked
	c.parked = false
	if n > 0 {
		c.waits = false
		if c.header != 0 {
			c.deadline, c.woken = time.Now().Add(c.header), true // as net/http wanted it
			c.header = 0
		}
		if c.woken && !c.over {
			// A request came while it was woken: the rest of it has its time.
			_ = c.TCPConn.SetReadDeadline(c.deadline)
		}
		c.woken = false
		return n, err
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.leaves = parked && c.listener.give.Load() != nil
		if c.over && c.active {
			err = errOver
		}
	}
	return n, err
}

// wakeIdle has a read return that waits for the next request.
func (c *conn) wakeIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wake()
}

// wake is wakeIdle for who holds c.mu.
func (c *conn) wake() {
	if c.parked {
		c.woken = true
		_ = c.TCPConn.SetReadDeadline(past)
	}
}

// underWay reports whether a request is, of which the whole header has come.
func (c *conn) underWay() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.active
}

// end ends what is under way.
func (c *conn) end() {
	c.mu.Lock()
	c.over = true
	_ = c.TCPConn.SetReadDeadline(past)
	cancel := c.cancel
	c.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// Close implements [net.Conn]. Where another process takes the connection, that has it
// before, and its client sees nothing.
func (c *conn) Close() error {
	c.mu.Lock()
	leaves, cancel := c.leaves && !c.closed, c.cancel
	c.closed = true
	c.mu.Unlock()
	if leaves {
		if fd, err := duplicate(c.TCPConn); err == nil {
			if err := (*c.listener.give.Load())(fd, c.begun || c.idle); err != nil {
				_ = unix.Close(fd)
			}
		}
	}
	if cancel != nil {
		cancel()
	}
	err := c.TCPConn.Close()
	c.listener.remove(c)
	return err
}

// duplicate is another descriptor of what of has one of, which no child inherits.
func duplicate(of syscall.Conn) (fd int, err error) {
	raw, err := of.SyscallConn()
	if err != nil {
		return -1, err
	}
	failed := raw.Control(func(have uintptr) { fd, err = unix.FcntlInt(have, unix.F_DUPFD_CLOEXEC, firstFD) })
	return fd, errors.Join(failed, err)
}
