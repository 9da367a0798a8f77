package xrpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/labstack/echo/v4"
)

const (
	// maxConsumerMessage is the largest message of a consumer, in bytes. Consumers have
	// nothing to say, and what they say is not kept.
	maxConsumerMessage = 64 << 10
	// framePiece is how much of a frame goes out at a time. Answers to pings go between the
	// pieces, for which the library waits 5 seconds: a consumer of 4 kB/s gets them in time,
	// also while one large frame takes minutes.
	framePiece = 16 << 10
)

// HandleSubscription is [Handle] for the subscription m. In is [None] or the parameters'
// type, M the type of the messages. A consumer is refused as any caller, but parameters
// that are wrong are told in an error frame, for which the connection is upgraded first.
// Without an upgrade the path is that of a method that nobody has heard of.
//
// The context of f ends when the consumer is gone, and with [Server.EndSubscriptions].
// When f returns nil the consumer is told that this is the regular end (1000); an error
// is sent to it in a frame, and then the connection closed with the error's name (1008).
// Whatever a consumer does, it holds no more than two buffers of 4 KiB, three goroutines
// and what f has: nothing is queued, and what it sends is dropped.
func HandleSubscription[In, M any](m *Method, p Policy[In], f func(context.Context, *In, *Stream[M]) error) Handler {
	h := p.handler(m)
	if h.notServed {
		return h
	}
	if m.Kind != Subscription {
		h.refuse(fmt.Errorf("%s: a %s is no subscription", m.NSID, m.Kind))
	}
	read, err := reader[In](m)
	h.refuse(err)
	if h.err != nil {
		return h
	}
	counters := p.counters(m)
	h.serve = func(ctx context.Context, s *Server, c *Call, e echo.Context) error {
		if !wantsUpgrade(c.Request) {
			return s.notServed(e)
		}
		in := new(In)
		params, _ := read(in)
		invalid := readParams(m, c, p.LooseParams, params)
		ctx, err := p.Auth.Authenticate(ctx, c)
		if err != nil {
			return err
		}
		if !s.bypassed(c) {
			if err := s.take(ctx, c, counters(ctx, c, in), true); err != nil {
				return err
			}
		}
		return s.subscribe(ctx, c, e, func(ctx context.Context, to *consumer) error {
			if invalid != nil {
				return invalid
			}
			return declared(m, f(ctx, in, streamTo[M](s, m, to)))
		})
	}
	return h
}

// streamTo is the stream of a consumer.
func streamTo[M any](s *Server, m *Method, to *consumer) *Stream[M] {
	return &Stream[M]{
		frame: to.send,
		message: func(ctx context.Context, message M) error {
			frame, text, err := encodeFrame(m.NSID, &message)
			if err != nil {
				return fmt.Errorf("%s: %w", m.NSID, err)
			}
			if s.o.CheckOutput && m.Message != nil {
				if err := m.Message.Check(text); err != nil {
					return fmt.Errorf("message of %s does not fit the lexicon: %w", m.NSID, err)
				}
			}
			return to.send(ctx, frame)
		},
	}
}

// wantsUpgrade reports whether r asks for a websocket.
func wantsUpgrade(r *http.Request) bool {
	return r.Method == http.MethodGet &&
		containsToken(r.Header.Get("Connection"), "Upgrade") && containsToken(r.Header.Get("Upgrade"), "websocket")
}

var (
	errEnding = errors.New("the server ends its subscriptions")
	errSilent = errors.New("the other end gives no sign of life")
)

// subscribe upgrades the connection, lets run send, and closes it.
func (s *Server) subscribe(ctx context.Context, c *Call, e echo.Context, run func(context.Context, *consumer) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	leave, err := s.subscriptions.enter(c.IPKey(), cancel)
	if err != nil {
		return err
	}
	defer leave()
	to := &consumer{peer: peer{every: s.o.PingTime}}
	if err := to.upgrade(c, e, s.o.WriteTime); err != nil {
		return err
	}
	var others sync.WaitGroup
	defer others.Wait()
	connected, hangUp := context.WithCancel(context.WithoutCancel(ctx)) // until the close is through
	defer hangUp()
	defer to.conn.CloseNow()
	to.connected = connected
	defer context.AfterFunc(ctx, func() {
		wait := time.Duration(0)
		if context.Cause(ctx) == errEnding {
			wait = lastFrameTime
		}
		time.AfterFunc(wait, hangUp)
	})()
	others.Go(func() { cancel(to.listen(connected)) })
	others.Go(func() { to.watch(connected, cancel) })

	err = run(ctx, to)
	ended := context.Cause(ctx)
	switch {
	case ended == errEnding, err == nil && ended == nil:
		_ = to.conn.Close(websocket.StatusNormalClosure, "") // whether it is heard or not
		return nil
	case ended != nil:
		return ClientGone(ended)
	}
	x := asError(err)
	if x.Status == statusClientGone {
		return x
	}
	name, message := x.shown()
	if to.send(ctx, errorFrame(name, message)) == nil {
		_ = to.conn.Close(websocket.StatusPolicyViolation, name[:min(len(name), maxCloseReason)])
	}
	return x
}

// lastFrameTime is what a consumer has, when the server ends its subscriptions, for the
// frame that it is being sent and the close.
const lastFrameTime = 5 * time.Second

// maxCloseReason is the longest reason that a close frame has room for.
const maxCloseReason = 123

// peer is the other end of a websocket, whose signs of life are watched.
type peer struct {
	conn  *websocket.Conn
	every time.Duration // between pings
	seen  atomic.Int64  // when it gave its last sign of life
	busy  atomic.Bool   // there is something to do before it can be pinged
}

func (p *peer) alive() { p.seen.Store(time.Now().UnixNano()) }

// watch pings until ctx ends, and closes the connection when the other end was silent
// for as long as two pings. While p is busy it does neither: on a server a frame is on
// its way then, for which there is a time of its own, on a client nobody reads.
func (p *peer) watch(ctx context.Context, silent context.CancelCauseFunc) {
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if p.busy.Load() {
			continue
		}
		if time.Since(time.Unix(0, p.seen.Load())) >= 2*p.every {
			silent(errSilent)
			_ = p.conn.CloseNow() // fails only when it is closed
			return
		}
		ping, done := context.WithTimeout(ctx, p.every)
		_ = p.conn.Ping(ping) // an answer is a sign of life, and none is seen above
		done()
	}
}

// consumer is the client of a subscription.
type consumer struct {
	peer
	connected context.Context // what is written ends with it
}

// upgrade makes a websocket of the connection that e came over.
func (to *consumer) upgrade(c *Call, e echo.Context, writeTime time.Duration) error {
	w := &upgradeWriter{ResponseWriter: e.Response(), to: to, time: writeTime}
	conn, err := websocket.Accept(w, c.Request, &websocket.AcceptOptions{
		// Scripts of any site may read what is public, as they may with other methods:
		// callers are known by their Authorization header alone, which sites cannot make
		// browsers send.
		InsecureSkipVerify: true,
	})
	switch {
	case w.refused >= http.StatusInternalServerError:
		return fmt.Errorf("upgrade: %w", err)
	case w.refused != 0:
		return InvalidRequest("Malformed websocket handshake").Because(err)
	case err != nil:
		return ClientGone(err)
	}
	conn.SetReadLimit(maxConsumerMessage)
	to.conn = conn
	to.alive()
	return nil
}

// send writes one message, the whole of it even if ctx ends meanwhile: the library would
// break the connection off, and the consumer not learn that this is a regular end.
func (to *consumer) send(ctx context.Context, frame []byte) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	start := time.Now()
	to.busy.Store(true)
	defer to.busy.Store(false)
	if err := to.write(to.connected, frame); err != nil {
		return ClientGone(fmt.Errorf("send frame: %w", err))
	}
	if time.Since(start) > time.Second {
		to.alive() // there was no room, and now there is: the consumer has read
	}
	return nil
}

func (to *consumer) write(ctx context.Context, frame []byte) error {
	if len(frame) <= framePiece {
		return to.conn.Write(ctx, websocket.MessageBinary, frame)
	}
	w, err := to.conn.Writer(ctx, websocket.MessageBinary)
	for ; err == nil && len(frame) > 0; frame = frame[min(len(frame), framePiece):] {
		_, err = w.Write(frame[:min(len(frame), framePiece)])
	}
	if err != nil {
		return err
	}
	return w.Close()
}

// listen reads until the consumer is gone, and says how that came. Pings are answered
// meanwhile; messages are dropped, as the reference does.
func (to *consumer) listen(ctx context.Context) error {
	for {
		_, r, err := to.conn.Reader(ctx)
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if err != nil {
			return err
		}
	}
}

// upgradeWriter lets the library answer nothing but the upgrade, so that refusals are
// written like all others, and watches over the connection that it takes.
type upgradeWriter struct {
	http.ResponseWriter
	to      *consumer
	time    time.Duration
	refused int // the status, 0: not refused
}

func (w *upgradeWriter) WriteHeader(status int) {
	if status == http.StatusSwitchingProtocols {
		w.ResponseWriter.WriteHeader(status)
	} else {
		w.refused = status
	}
}

func (w *upgradeWriter) Write(p []byte) (int, error) { return len(p), nil }

// Hijack is called by the library.
func (w *upgradeWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	watched := &watchedConn{Conn: conn, to: w.to, time: w.time}
	return watched, bufio.NewReadWriter(buffers.Reader, bufio.NewWriter(watched)), nil
}

// watchedConn gives a consumer time for each piece of what it is sent, as [answerWriter]
// does, and takes whatever it sends for a sign of life.
type watchedConn struct {
	net.Conn
	to   *consumer
	time time.Duration
}

func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.to.alive()
	}
	return n, err
}

func (c *watchedConn) Write(p []byte) (written int, err error) {
	for len(p) > 0 && err == nil {
		if err := c.SetWriteDeadline(time.Now().Add(c.time)); err != nil {
			return written, err
		}
		var n int
		n, err = c.Conn.Write(p[:min(len(p), writePiece)])
		written, p = written+n, p[n:]
	}
	return written, err
}

// subscriptions bounds how many there are, and ends them.
type subscriptions struct {
	most, mostIP int
	ending       context.Context
	end          context.CancelFunc

	mu    sync.Mutex
	open  map[string]int // by address
	all   int
	under sync.WaitGroup // waited for once nobody enters
}

func (o *subscriptions) init(most, mostIP int) {
	o.most, o.mostIP, o.open = most, mostIP, make(map[string]int)
	o.ending, o.end = context.WithCancel(context.Background())
}

// enter counts a subscription of the address who, and is how to uncount it. With
// EndSubscriptions, cancel is called.
func (o *subscriptions) enter(who string, cancel context.CancelCauseFunc) (leave func(), err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.ending.Err() != nil, o.all >= o.most:
		return nil, NotEnoughResources(time.Minute)
	case o.open[who] >= o.mostIP:
		return nil, RateLimitExceeded(time.Minute)
	}
	o.all++
	o.open[who]++
	o.under.Add(1)
	stop := context.AfterFunc(o.ending, func() { cancel(errEnding) })
	return func() {
		stop()
		o.mu.Lock()
		defer o.mu.Unlock()
		o.all--
		if o.open[who]--; o.open[who] == 0 {
			delete(o.open, who)
		}
		o.under.Done()
	}, nil
}

// EndSubscriptions ends every subscription, lets no more begin, and returns when all have
// ended or ctx is done, with its error. A server calls it before it shuts its listener
// down, since http.Server.Shutdown knows nothing of websockets.
func (s *Server) EndSubscriptions(ctx context.Context) error {
	o := &s.subscriptions
	o.mu.Lock()
	o.end()
	o.mu.Unlock()
	done := make(chan struct{})
	go func() {
		o.under.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("end subscriptions: %w", ctx.Err())
	}
}
