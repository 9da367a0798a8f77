//go:build crash

package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"github.com/coder/websocket"

	"portico/cmd/portico/launch"
)

// kind is how a consumer of the firehose behaves.
type kind int

const (
	steady   kind = iota // comes back with its cursor when the server is gone
	restless             // comes back with its cursor now and then
	live                 // comes back without one, and misses what was meanwhile
)

// A frame is an event as it came.
type frame struct {
	seq   int64
	bytes []byte
}

// A consumer reads the firehose until it is told up to where.
type consumer struct {
	*host
	kind   kind
	server int
	random *rand.Rand
	stop   context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	frames []frame
	conns  int
}

func (c *consumer) begin() {
	ctx, stop := context.WithCancel(c.Context())
	c.stop, c.done = stop, make(chan struct{})
	go func() {
		defer close(c.done)
		for ctx.Err() == nil {
			c.follow(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
}

func (c *consumer) last() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.frames) == 0 {
		return 0
	}
	return c.frames[len(c.frames)-1].seq
}

// follow reads one connection to its end.
func (c *consumer) follow(ctx context.Context) {
	cursor := fmt.Sprint("?cursor=", c.last())
	left := -1 // frames, then it leaves
	switch c.kind {
	case restless:
		left = c.random.IntN(200)
	case live:
		cursor = ""
	}
	c.server = (c.server + 1) % len(c.servers)
	conn, err := c.subscribe(ctx, c.server, cursor)
	if err != nil {
		return // it is being started
	}
	defer conn.CloseNow()
	c.conns++
	before := c.last()
	for first := true; left != 0; first, left = false, left-1 {
		f, err := read(ctx, conn)
		if errors.Is(err, errFrame) {
			c.Errorf("consumer at %d: %v", before, err)
		}
		if err != nil {
			return
		}
		if f.seq != before+1 && !(c.kind == live && first && f.seq > before) {
			c.Errorf("a consumer of kind %d got event %d after %d, first %v", c.kind, f.seq, before, first)
		}
		before = f.seq
		c.mu.Lock()
		c.frames = append(c.frames, f)
		c.mu.Unlock()
	}
}

func (h *host) subscribe(ctx context.Context, server int, query string) (*websocket.Conn, error) {
	url := strings.Replace(h.server(server).URL, "http:", "ws:", 1) + "/xrpc/com.atproto.sync.subscribeRepos" + query
	conn, resp, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		if resp != nil && resp.StatusCode < http.StatusInternalServerError {
			h.Errorf("subscribe: %s", resp.Status)
		}
		return nil, err
	}
	conn.SetReadLimit(8 << 20)
	return conn, nil
}

// errFrame says that a frame came that is no event.
var errFrame = errors.New("a frame that is no event")

func read(ctx context.Context, conn *websocket.Conn) (frame, error) {
	_, b, err := conn.Read(ctx)
	if err != nil {
		return frame{}, err
	}
	_, seq, err := decode(b)
	if err != nil {
		return frame{}, fmt.Errorf("%w: %w: %q", errFrame, err, b)
	}
	return frame{seq, b}, nil
}

// decode reads a frame as a relay does. The message is nil when it is no commit.
func decode(b []byte) (*comatproto.SyncSubscribeRepos_Commit, int64, error) {
	for _, kind := range []string{"#commit", "#sync", "#identity", "#account"} {
		// {"t": kind, "op": 1}
		body, ok := bytes.CutPrefix(b, fmt.Appendf(nil, "\xa2at%c%sbop\x01", rune(0x60+len(kind)), kind))
		if !ok {
			continue
		}
		r := bytes.NewReader(body)
		switch kind {
		case "#commit":
			var m comatproto.SyncSubscribeRepos_Commit
			err := m.UnmarshalCBOR(r)
			return &m, m.Seq, err
		case "#sync":
			var m comatproto.SyncSubscribeRepos_Sync
			err := m.UnmarshalCBOR(r)
			return nil, m.Seq, err
		case "#identity":
			var m comatproto.SyncSubscribeRepos_Identity
			err := m.UnmarshalCBOR(r)
			return nil, m.Seq, err
		}
		var m comatproto.SyncSubscribeRepos_Account
		err := m.UnmarshalCBOR(r)
		return nil, m.Seq, err
	}
	return nil, 0, errors.New("a header of no known kind")
}

// log reads the events from the first to the one with number last.
func (h *host) log(last int64) (all []frame) {
	ctx, cancel := context.WithTimeout(h.Context(), launch.Patience)
	defer cancel()
	conn, err := h.subscribe(ctx, 0, "?cursor=0")
	if err != nil {
		h.Fatal(err)
	}
	defer conn.CloseNow()
	for int64(len(all)) < last {
		f, err := read(ctx, conn)
		if err != nil {
			h.Fatalf("event %d: %v", len(all)+1, err)
		}
		if f.seq != int64(len(all))+1 {
			h.Fatalf("event %d is the one after %d", f.seq, len(all))
		}
		all = append(all, f)
	}
	return all
}
