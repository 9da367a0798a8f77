package xrpc

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/coder/websocket"
	"github.com/labstack/echo/v4"
)

// A subscription, written as the generator would.

type WatchParams struct{ Cursor *int64 }

func (p *WatchParams) DecodeParams(v *Values)      { p.Cursor = v.OptInteger("cursor") }
func (p *WatchParams) EncodeParams(q *QueryWriter) { q.OptInteger("cursor", p.Cursor) }

type WatchSaid struct {
	Seq  int64           `json:"seq"`
	Data atdata.Bytes    `json:"data,omitzero"`
	Link *atdata.CIDLink `json:"link,omitzero"`
	List []string        `json:"list"`
	Text *string         `json:"text,omitzero"`
}

type WatchMessage struct{ value any }

func (u WatchMessage) Value() any { return u.value }

func (u WatchMessage) Type() string {
	switch v := u.value.(type) {
	case *WatchSaid:
		return "com.example.toy.watch#said"
	case *UnknownVariant:
		return v.Type
	}
	return ""
}

func (u *WatchMessage) Hold(typ string, data []byte) any {
	if typ != "com.example.toy.watch#said" {
		u.value = NewUnknownVariant(typ, data)
		return nil
	}
	u.value = new(WatchSaid)
	return u.value
}

func (u WatchMessage) MarshalJSON() ([]byte, error)     { return MarshalUnion(&u) }
func (u *WatchMessage) UnmarshalJSON(data []byte) error { return UnmarshalUnion(u, data) }

func (u *WatchMessage) Normalize() {
	if v, ok := u.value.(*WatchSaid); ok && v.List == nil {
		v.List = []string{}
	}
}

var watchMessage = Messages("com.example.toy.watch", OpenUnion(
	Variant("com.example.toy.watch#said", Object(
		Required("seq", Integer()), Optional("data", Bytes()), Optional("link", CIDLink()), Required("list", Array(String())), Optional("text", String()),
	)),
))

func (*WatchMessage) Schema() *Schema { return watchMessage }

var (
	toyWatch = Method{
		NSID: "com.example.toy.watch", Kind: Subscription, Message: watchMessage,
		Params: Object(Optional("cursor", Integer())), Errors: []string{"FutureCursor"},
	}
	errFutureCursor = DeclareError("com.example.toy.watch", "FutureCursor")
)

type watcher = func(context.Context, *WatchParams, *Stream[WatchMessage]) error

func said(seq int64) WatchMessage { return WatchMessage{&WatchSaid{Seq: seq}} }

// on puts a subscription on its route.
func on(s *Server, e Router, nsid string, h Handler) error {
	r := s.On(e)
	r.GET("/xrpc/"+nsid, h)
	return r.Err()
}

// newWatch is a server whose one subscription is f.
func newWatch(t testing.TB, o Options, f watcher) (*echo.Echo, *Server, *logBuffer) {
	t.Helper()
	log := &logBuffer{changed: make(chan struct{}, 1)}
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	e := echo.New()
	s := NewServer(e, o)
	policy := Policy[WatchParams]{Auth: Public, Limits: GlobalLimitOnly[WatchParams]()}
	if err := on(s, e, "com.example.toy.watch", HandleSubscription(&toyWatch, policy, f)); err != nil {
		t.Fatal(err)
	}
	return e, s, log
}

func serveWatch(t testing.TB, o Options, f watcher) (url string, s *Server, log *logBuffer) {
	t.Helper()
	e, s, log := newWatch(t, o, f)
	h := httptest.NewServer(e)
	t.Cleanup(h.Close)
	t.Cleanup(func() { _ = s.EndSubscriptions(context.Background()) })
	return h.URL, s, log
}

func watch(ctx context.Context, url string, p WatchParams, f func(context.Context, WatchMessage) error) error {
	return Subscribe(ctx, &Client{Host: url}, &toyWatch, &p, Receive(f))
}

// framesOf reads all frames of a subscription, as hexadecimals, and how it is closed.
func framesOf(t *testing.T, url, query string) (frames []string, end websocket.CloseError) {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), url+"/xrpc/com.example.toy.watch"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	for {
		typ, frame, err := conn.Read(t.Context())
		if err != nil {
			if !errors.As(err, &end) {
				t.Fatal(err)
			}
			return frames, end
		}
		if typ != websocket.MessageBinary {
			t.Errorf("%s frame %s", typ, frame)
		}
		frames = append(frames, hex.EncodeToString(frame))
	}
}

func TestSubscription(t *testing.T) {
	var text = "\x00é\n"
	link := atdata.CIDLink{}
	if err := link.UnmarshalJSON([]byte(`{"$link":"bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"}`)); err != nil {
		t.Fatal(err)
	}
	sent := []WatchMessage{
		said(1),
		{&WatchSaid{Seq: -1 << 40, Data: bytes.Repeat([]byte{7}, 300), Link: &link, List: []string{"", "b"}, Text: &text}},
		{&UnknownVariant{"org.other.thing#x", []byte(`{"$type":"org.other.thing#x","zz":[true,false,null,{"b":1,"aa":2}]}`)}},
		{&WatchSaid{Seq: 4, Data: bytes.Repeat([]byte{1}, 100<<10)}}, // goes in pieces
	}
	url, _, log := serveWatch(t, Options{CheckOutput: true}, func(ctx context.Context, p *WatchParams, out *Stream[WatchMessage]) error {
		for i, m := range sent {
			if int64(i) < ValueOf(p.Cursor) {
				continue
			}
			frame, err := EncodeFrame(m)
			if err != nil {
				return err
			}
			if err := errors.Join(out.Send(ctx, m), out.SendFrame(ctx, frame)); err != nil {
				return err
			}
		}
		return nil
	})
	for from := range int64(len(sent) + 1) {
		var got []WatchMessage
		err := watch(t.Context(), url, WatchParams{Cursor: &from}, func(_ context.Context, m WatchMessage) error {
			got = append(got, m)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		var want []WatchMessage
		for _, m := range sent[from:] {
			want = append(want, m, m)
		}
		g, w := must(json.Marshal(got)), must(json.Marshal(want))
		if !bytes.Equal(g, w) {
			t.Errorf("from %d: %.300s\nwant %.300s", from, g, w)
		}
	}
	log.wait(t, "method=com.example.toy.watch verb=GET status=101")
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// The bytes are those of the contract, repo-sync §8.2, and so are the ends.
func TestFramesOfTheContract(t *testing.T) {
	var f watcher
	url, _, log := serveWatch(t, Options{}, func(ctx context.Context, p *WatchParams, out *Stream[WatchMessage]) error { return f(ctx, p, out) })
	for _, tt := range []struct {
		name   string
		err    error
		frames string
		code   websocket.StatusCode
		reason string
	}{
		{"regular end", nil, "", 1000, ""},
		{"declared error", errFutureCursor.New(400, "Cursor in the future."),
			"a1626f7020a2656572726f726c467574757265437572736f72676d65737361676575437572736f7220696e20746865206675747572652e", 1008, "FutureCursor"},
		{"error of the server", errors.New("secret"),
			"a1626f7020a2656572726f7273496e7465726e616c5365727665724572726f72676d65737361676575496e7465726e616c20536572766572204572726f72", 1008, "InternalServerError"},
		{"undeclared error", &Error{Status: 400, Name: "Strange", Message: "secret"},
			"a1626f7020a2656572726f7273496e7465726e616c5365727665724572726f72676d65737361676575496e7465726e616c20536572766572204572726f72", 1008, "InternalServerError"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f = func(ctx context.Context, _ *WatchParams, out *Stream[WatchMessage]) error {
				if err := out.Send(ctx, said(1)); err != nil {
					return err
				}
				return tt.err
			}
			frames, end := framesOf(t, url, "")
			want := []string{"a2" + "6174" + "6523" + "73616964" + "626f7001" + "a2" + "63736571" + "01" + "646c697374" + "80"}
			if tt.frames != "" {
				want = append(want, tt.frames)
			}
			if strings.Join(frames, "\n") != strings.Join(want, "\n") || end.Code != tt.code || end.Reason != tt.reason {
				t.Errorf("frames\n%s\nend %v\nwant\n%s", strings.Join(frames, "\n"), end, strings.Join(want, "\n"))
			}
		})
	}
	log.wait(t, "cause=secret") // a connection is closed before it is logged, so in any order
	if s := log.wait(t, "does not declare"); strings.Count(s, "level=ERROR") != 2 {
		t.Errorf("log %s", s)
	}
}

// What is wrong with parameters is told in a frame, as the contract says (repo-sync §8.1).
func TestParamsOfASubscription(t *testing.T) {
	url, _, _ := serveWatch(t, Options{}, func(context.Context, *WatchParams, *Stream[WatchMessage]) error { return nil })
	frames, end := framesOf(t, url, "?cursor=x")
	if len(frames) != 1 || end.Code != 1008 || end.Reason != "InvalidRequest" {
		t.Fatalf("%v %v", frames, end)
	}
	var m WatchMessage
	x, ok := decodeFrame("", nil, must(hex.DecodeString(frames[0])), &m, Unmarshal).(*Error)
	if want := `Invalid com.example.toy.watch params: Expected integer value type (got "x")`; !ok || x.Message != want {
		t.Errorf("%v, want %s", x, want)
	}
}

// The client knows the errors that a method declares, those of a refusal, and hosts that
// are none.
func TestErrorsOfASubscription(t *testing.T) {
	ignore := func(context.Context, WatchMessage) error { return nil }
	url, _, _ := serveWatch(t, Options{}, func(context.Context, *WatchParams, *Stream[WatchMessage]) error {
		return errFutureCursor.New(400, "Cursor in the future.")
	})
	err := watch(t.Context(), url, WatchParams{}, ignore)
	if x, ok := err.(*Error); !ok || !errors.Is(err, errFutureCursor) || x.Message != "Cursor in the future." {
		t.Errorf("declared error: %v", err)
	}
	toy, _ := serveToy(t, Options{})
	err = watch(t.Context(), toy, WatchParams{}, ignore)
	if x, ok := err.(*Error); !ok || x.Status != 501 || x.Name != "MethodNotImplemented" {
		t.Errorf("not served: %v", err)
	}
	if err := watch(t.Context(), "http://127.0.0.1:1", WatchParams{}, ignore); err == nil {
		t.Error("no host: no error")
	}
	url, _, _ = serveWatch(t, Options{}, func(ctx context.Context, _ *WatchParams, out *Stream[WatchMessage]) error {
		return errors.Join(out.Send(ctx, said(1)), out.SendFrame(ctx, []byte("nonsense")))
	})
	if err := watch(t.Context(), url, WatchParams{}, ignore); err == nil || !strings.Contains(err.Error(), "malformed DAG-CBOR") {
		t.Errorf("nonsense: %v", err)
	}
	refusal := errors.New("enough")
	if err := watch(t.Context(), url, WatchParams{}, func(context.Context, WatchMessage) error { return refusal }); err != refusal {
		t.Errorf("error of the receiver: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := watch(ctx, url, WatchParams{}, func(context.Context, WatchMessage) error { cancel(); return ctx.Err() }); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

// Without an upgrade nobody has heard of the method; who may not call it is told before
// the upgrade, and so is what is wrong with that.
func TestUpgrade(t *testing.T) {
	e, s, _ := newWatch(t, Options{Fallback: unserved}, func(context.Context, *WatchParams, *Stream[WatchMessage]) error { return nil })
	guarded := toyWatch
	guarded.NSID = "com.example.toy.guarded"
	if err := on(s, e, guarded.NSID, HandleSubscription(&guarded, Policy[WatchParams]{Auth: bearer{}, Limits: GlobalLimitOnly[WatchParams]()}, func(context.Context, *WatchParams, *Stream[WatchMessage]) error { return nil })); err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(e)
	defer h.Close()
	unknown := `{"error":"InvalidRequest","message":"No service configured for com.example.toy.watch"}`
	upgrade := []string{"Connection: keep-alive, Upgrade", "Upgrade: websocket"}
	good := append(upgrade, "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
	for _, tt := range []struct {
		name, ask string
		headers   []string
		status    int
		body      string
	}{
		{"plain", "GET /xrpc/com.example.toy.watch", nil, 400, unknown},
		{"head", "HEAD /xrpc/com.example.toy.watch", good, 400, ""},
		{"post", "POST /xrpc/com.example.toy.watch", good, 400, unknown},
		{"no key", "GET /xrpc/com.example.toy.watch", append(upgrade, "Sec-WebSocket-Version: 13"), 400, `{"error":"InvalidRequest","message":"Malformed websocket handshake"}`},
		{"old version", "GET /xrpc/com.example.toy.watch", append(upgrade, "Sec-WebSocket-Version: 8", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="), 400, `{"error":"InvalidRequest","message":"Malformed websocket handshake"}`},
		{"other site", "GET /xrpc/com.example.toy.watch", append(good, "Origin: https://elsewhere.example"), 101, ""},
		{"any case", "GET /xrpc/COM.example.toy.WATCH", good, 101, ""},
		{"guarded", "GET /xrpc/com.example.toy.guarded", good, 401, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			verb, path, _ := strings.Cut(tt.ask, " ")
			req := must(http.NewRequestWithContext(t.Context(), verb, h.URL+path, nil))
			for _, line := range tt.headers {
				name, value, _ := strings.Cut(line, ": ")
				req.Header.Set(name, value)
			}
			resp := must(http.DefaultTransport.RoundTrip(req))
			defer resp.Body.Close()
			if resp.StatusCode != tt.status {
				t.Errorf("status %d", resp.StatusCode)
			}
			if tt.body != "" {
				if body := must(io.ReadAll(resp.Body)); string(body) != tt.body {
					t.Errorf("body %s", body)
				}
			}
		})
	}
}

func TestHandleSubscriptionRefuses(t *testing.T) {
	e := echo.New()
	s := NewServer(e, Options{})
	never := func(context.Context, *WatchParams, *Stream[WatchMessage]) error { return nil }
	public := Policy[WatchParams]{Auth: Public, Limits: GlobalLimitOnly[WatchParams]()}
	list := func(context.Context, *ListParams, *Stream[WatchMessage]) error { return nil }
	for _, tt := range []struct {
		name, nsid string
		h          Handler
		want       string
	}{
		{"undecided", toyWatch.NSID, HandleSubscription(&toyWatch, Policy[WatchParams]{}, never), "policy names no Auth"},
		{"a query", toyList.NSID, HandleSubscription(&toyList, Policy[ListParams]{Auth: Public, Limits: GlobalLimitOnly[ListParams]()}, list), "a query is no subscription"},
		{"as a query", toyWatch.NSID, Handle(&toyWatch, public, func(context.Context, *WatchParams) (*None, error) { return nil, nil }), "handled by HandleSubscription"},
		{"other parameters", toyWatch.NSID, HandleSubscription(&toyWatch, Policy[None]{Auth: Public, Limits: GlobalLimitOnly[None]()}, StreamWithoutParams(func(context.Context, *Stream[WatchMessage]) error { return nil })), "does not hold the method's parameters"},
		{"not served", toyWatch.NSID, HandleSubscription(&toyWatch, NotServed[WatchParams](), never), ""},
		{"first", toyWatch.NSID, HandleSubscription(&toyWatch, public, never), ""},
		{"twice", toyWatch.NSID, HandleSubscription(&toyWatch, public, never), "handled twice"},
	} {
		if err := on(s, e, tt.nsid, tt.h); tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// pipes is a network of connections without buffers, for tests with a clock that jumps.
type pipes struct{ accept chan net.Conn }

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p.accept
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p pipes) Close() error   { close(p.accept); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p pipes) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		p.accept <- there
		return here, nil
	}}}
}

// inBubble runs f with a server of the subscription s, its clients, and a clock that
// jumps.
func inBubble(t *testing.T, o Options, s watcher, f func(t *testing.T, dial func() *websocket.Conn, client *Client, ended <-chan error)) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 10)
		e, server, _ := newWatch(t, o, func(ctx context.Context, p *WatchParams, out *Stream[WatchMessage]) error {
			err := s(ctx, p, out)
			ended <- err
			return err
		})
		network := pipes{make(chan net.Conn)}
		h := &http.Server{Handler: e}
		go h.Serve(network)
		hc := network.client()
		f(t, func() *websocket.Conn {
			conn, _, err := websocket.Dial(t.Context(), "http://pds.test/xrpc/com.example.toy.watch", &websocket.DialOptions{HTTPClient: hc})
			if err != nil {
				t.Fatal(err)
			}
			return conn
		}, &Client{Host: "http://pds.test", HTTP: hc}, ended)
		if err := server.EndSubscriptions(t.Context()); err != nil {
			t.Error(err)
		}
		h.Close()
		hc.CloseIdleConnections()
	})
}

func untilGone(ctx context.Context, _ *WatchParams, _ *Stream[WatchMessage]) error {
	<-ctx.Done()
	return ctx.Err()
}

// endlessly sends until it cannot.
func endlessly(ctx context.Context, _ *WatchParams, out *Stream[WatchMessage]) error {
	for {
		if err := out.Send(ctx, WatchMessage{&WatchSaid{Data: make([]byte, 100<<10)}}); err != nil {
			return err
		}
	}
}

// A consumer that never reads is closed after the time for one piece.
func TestConsumerThatNeverReads(t *testing.T) {
	inBubble(t, Options{}, endlessly, func(t *testing.T, dial func() *websocket.Conn, _ *Client, ended <-chan error) {
		start := time.Now()
		conn := dial()
		err := <-ended
		if x, ok := errors.AsType[*Error](err); !ok || x.Status != statusClientGone || time.Since(start) != 30*time.Second {
			t.Errorf("ended after %s: %v", time.Since(start), err)
		}
		conn.CloseNow()
	})
}

// A frame that is under way when the subscriptions end is sent to its end, and the close
// after it. Who does not read on has five seconds.
func TestEndWithinAFrame(t *testing.T) {
	for _, reads := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			e, server, _ := newWatch(t, Options{}, func(ctx context.Context, _ *WatchParams, out *Stream[WatchMessage]) error {
				if err := out.Send(ctx, WatchMessage{&WatchSaid{Seq: 1, Data: make([]byte, 1<<20)}}); err != nil {
					return err
				}
				<-ctx.Done()
				return ctx.Err()
			})
			network := pipes{make(chan net.Conn)}
			h := &http.Server{Handler: e}
			go h.Serve(network)
			hc := network.client()
			conn, _, err := websocket.Dial(t.Context(), "http://pds.test/xrpc/com.example.toy.watch", &websocket.DialOptions{HTTPClient: hc})
			if err != nil {
				t.Fatal(err)
			}
			conn.SetReadLimit(-1)
			_, frame, err := conn.Reader(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			start, ended := time.Now(), make(chan error, 1)
			go func() { ended <- server.EndSubscriptions(t.Context()) }()
			synctest.Wait()
			if reads {
				if n, err := io.Copy(io.Discard, frame); n <= 1<<20 || err != nil {
					t.Errorf("read %d: %v", n, err)
				}
				if _, _, err := conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
					t.Errorf("ended with %v", err)
				}
			}
			err = <-ended
			if took := time.Since(start); err != nil || (took == 5*time.Second) == reads || took > 5*time.Second {
				t.Errorf("reads %v: ended after %s: %v", reads, took, err)
			}
			conn.CloseNow()
			h.Close()
			hc.CloseIdleConnections()
		})
	}
}

// A consumer that reads slowly, but reads, gets everything, however long that takes, and
// its pings are answered in between.
func TestConsumerThatReadsSlowly(t *testing.T) {
	inBubble(t, Options{}, func(ctx context.Context, _ *WatchParams, out *Stream[WatchMessage]) error {
		return out.Send(ctx, WatchMessage{&WatchSaid{Seq: 1, Data: make([]byte, 2<<20)}})
	}, func(t *testing.T, dial func() *websocket.Conn, _ *Client, ended <-chan error) {
		start := time.Now()
		conn := dial()
		defer conn.CloseNow()
		conn.SetReadLimit(-1)
		_, r, err := conn.Reader(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ping := make(chan error)
		size := 0
		for b := make([]byte, 16<<10); err == nil; {
			if size == 1<<20 {
				go func() { ping <- conn.Ping(t.Context()) }()
			}
			var n int
			n, err = io.ReadFull(r, b)
			size += n
			time.Sleep(2 * time.Second)
		}
		if size < 2<<20 || time.Since(start) < 4*time.Minute {
			t.Fatalf("read %d bytes in %s: %v", size, time.Since(start), err)
		}
		if err := <-ping; err != nil {
			t.Errorf("ping: %v", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("ended: %v", err)
		}
	})
}

// A consumer that is pinged every 30 seconds and answers stays; one that is silent is
// closed after a minute, and so is a host that is.
func TestSilence(t *testing.T) {
	inBubble(t, Options{}, untilGone, func(t *testing.T, dial func() *websocket.Conn, client *Client, ended <-chan error) {
		conn := dial()
		ctx, cancel := context.WithCancel(t.Context())
		conn.CloseRead(ctx) // answers pings
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(ended) > 0 {
			t.Fatalf("a consumer that answers pings: %v", <-ended)
		}
		cancel()
		<-ended

		start := time.Now()
		mute, err := client.HTTP.Transport.(*http.Transport).DialContext(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer mute.Close()
		fmt.Fprint(mute, "GET /xrpc/com.example.toy.watch HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
		go io.Copy(io.Discard, mute) // what a network does with pings for a machine that lost its power
		<-ended
		if d := time.Since(start); d < time.Minute || d > 2*time.Minute {
			t.Errorf("a silent consumer is closed after %s", d)
		}
	})
}

// taken keeps the connection that the library takes.
type taken struct {
	http.ResponseWriter
	conn net.Conn
}

func (w *taken) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := http.NewResponseController(w.ResponseWriter).Hijack()
	w.conn = conn
	return conn, buffers, err
}

// Messages of consumers are dropped; large ones end the subscription.
func TestConsumerThatTalks(t *testing.T) {
	inBubble(t, Options{}, untilGone, func(t *testing.T, dial func() *websocket.Conn, _ *Client, ended <-chan error) {
		conn := dial()
		for range 1000 {
			if err := conn.Write(t.Context(), websocket.MessageText, make([]byte, 10<<10)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if len(ended) > 0 {
			t.Fatalf("small messages: %v", <-ended)
		}
		read := make(chan error, 1)
		go func() {
			_, _, err := conn.Read(t.Context())
			read <- err
		}()
		_ = conn.Write(t.Context(), websocket.MessageBinary, make([]byte, 1<<20)) // broken off
		if err := <-read; websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
			t.Errorf("a large message: %v", err)
		}
		<-ended
		conn.CloseNow()
	})
}

// A client does not wait for ever for a host that is gone without a word.
func TestHostThatIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			below := &taken{ResponseWriter: w}
			conn, err := websocket.Accept(below, r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.CloseNow()
			go io.Copy(io.Discard, below.conn)
			_ = conn.Write(t.Context(), websocket.MessageBinary, must(EncodeFrame(said(1))))
			time.Sleep(5 * time.Minute) // answers no ping
		})}
		network := pipes{make(chan net.Conn)}
		go h.Serve(network)
		start, got := time.Now(), 0
		err := Subscribe(t.Context(), &Client{Host: "http://pds.test", HTTP: network.client()}, &toyWatch, &WatchParams{},
			Receive(func(context.Context, WatchMessage) error {
				got++
				time.Sleep(2 * time.Minute) // who works long does not take the host for dead
				return nil
			}))
		if d := time.Since(start) - 2*time.Minute; !errors.Is(err, errSilent) || got != 1 || d < time.Minute || d > 2*time.Minute {
			t.Errorf("%d messages, then %v after %s", got, err, d)
		}
		time.Sleep(5 * time.Minute)
		h.Close()
	})
}

// Who asks for too many at a time is refused, and a server that ends says so to all.
func TestSubscriptionsAreBounded(t *testing.T) {
	o := Options{Subscriptions: 3, SubscriptionsPerIP: 2, Callers: always(Callers{TrustedProxies: 1})}
	e, s, _ := newWatch(t, o, untilGone)
	h := httptest.NewServer(e)
	defer h.Close()
	open := func(from string) (*websocket.Conn, int) {
		conn, resp, err := websocket.Dial(t.Context(), h.URL+"/xrpc/com.example.toy.watch", &websocket.DialOptions{HTTPHeader: http.Header{"X-Forwarded-For": {from}}})
		if err == nil {
			t.Cleanup(func() { conn.CloseNow() })
		}
		return conn, resp.StatusCode
	}
	var conns []*websocket.Conn
	for i, tt := range []struct {
		from   string
		status int
	}{{"192.0.2.1", 101}, {"192.0.2.1", 101}, {"192.0.2.1", 429}, {"192.0.2.2", 101}, {"192.0.2.3", 503}} {
		conn, status := open(tt.from)
		if status != tt.status {
			t.Errorf("%d: status %d, want %d", i, status, tt.status)
		}
		if conn != nil {
			conns = append(conns, conn)
		}
	}
	ends := make(chan error, len(conns))
	for _, conn := range conns {
		go func() {
			_, _, err := conn.Read(t.Context())
			ends <- err
		}()
	}
	if err := s.EndSubscriptions(t.Context()); err != nil {
		t.Error(err)
	}
	for range conns {
		if err := <-ends; websocket.CloseStatus(err) != websocket.StatusNormalClosure {
			t.Errorf("ended with %v", err)
		}
	}
	if _, status := open("192.0.2.1"); status != 503 {
		t.Errorf("after the end: status %d", status)
	}
	if s.subscriptions.all != 0 || len(s.subscriptions.open) != 0 {
		t.Errorf("%d are counted", s.subscriptions.all)
	}
}

// A handler that panics leaves no connection behind.
func TestPanicInASubscription(t *testing.T) {
	url, s, log := serveWatch(t, Options{}, func(context.Context, *WatchParams, *Stream[WatchMessage]) error { panic("oh") })
	conn, _, err := websocket.Dial(t.Context(), url+"/xrpc/com.example.toy.watch", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := conn.Read(t.Context()); err == nil {
		t.Error("something was read")
	}
	log.wait(t, "panic: oh")
	if err := s.EndSubscriptions(t.Context()); err != nil {
		t.Error(err)
	}
}

// A stream for a function can stand in for a consumer.
func TestReceive(t *testing.T) {
	var got []string
	s := Receive(func(_ context.Context, m WatchMessage) error {
		got = append(got, string(must(json.Marshal(m))))
		return nil
	})
	frame := must(EncodeFrame(said(2)))
	if err := errors.Join(s.Send(t.Context(), said(1)), s.SendFrame(t.Context(), frame)); err != nil {
		t.Fatal(err)
	}
	if want := `[{"$type":"com.example.toy.watch#said","seq":1,"list":null} {"$type":"com.example.toy.watch#said","seq":2,"list":[]}]`; fmt.Sprint(got) != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
}
