package repotest

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

// Kind is how a consumer of the firehose behaves.
type Kind int

const (
	Steady   Kind = iota // comes back with its cursor when the server is gone
	Restless             // comes back with its cursor now and then
	Live                 // comes back without one, and misses what was meanwhile
)

// A Frame is an event as it came.
type Frame struct {
	Seq   int64
	Bytes []byte
}

// A Consumer reads the firehose until it is told up to where.
type Consumer struct {
	*Host
	Kind   Kind
	door   int
	stays  bool // at its door
	random *rand.Rand
	stop   context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	frames []Frame
	conns  int
}

// Begin begins to read.
func (c *Consumer) Begin() {
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

func (c *Consumer) last() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.frames) == 0 {
		return 0
	}
	return c.frames[len(c.frames)-1].Seq
}

// follow reads one connection to its end.
func (c *Consumer) follow(ctx context.Context) {
	cursor := fmt.Sprint("?cursor=", c.last())
	left := -1 // frames, then it leaves
	switch c.Kind {
	case Restless:
		left = c.random.IntN(200)
	case Live:
		cursor = ""
	}
	if !c.stays {
		c.door = (c.door + 1) % c.Doors
	}
	conn, err := c.Subscribe(ctx, c.door, cursor)
	if err != nil {
		return // it is being started
	}
	defer conn.CloseNow()
	c.conns++
	before := c.last()
	for first := true; left != 0; first, left = false, left-1 {
		f, err := Read(ctx, conn)
		if errors.Is(err, errFrame) {
			c.Errorf("consumer at %d: %v", before, err)
		}
		if err != nil {
			return
		}
		if f.Seq != before+1 && !(c.Kind == Live && first && f.Seq > before) {
			c.Errorf("a consumer of kind %d got event %d after %d, first %v", c.Kind, f.Seq, before, first)
		}
		before = f.Seq
		c.mu.Lock()
		c.frames = append(c.frames, f)
		c.mu.Unlock()
	}
}

// Subscribe opens the firehose at a door. Where one answers that asks for something else
// than patience, the test has failed.
func (h *Host) Subscribe(ctx context.Context, door int, query string) (*websocket.Conn, error) {
	url := strings.Replace(h.URL(door), "http:", "ws:", 1) + "/xrpc/com.atproto.sync.subscribeRepos" + query
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

// Read is the next event of a connection.
func Read(ctx context.Context, conn *websocket.Conn) (Frame, error) {
	_, b, err := conn.Read(ctx)
	if err != nil {
		return Frame{}, err
	}
	_, seq, err := Decode(b)
	if err != nil {
		return Frame{}, fmt.Errorf("%w: %w: %q", errFrame, err, b)
	}
	return Frame{seq, b}, nil
}

// Decode reads a frame as a relay does. The message is nil when it is no commit.
func Decode(b []byte) (*comatproto.SyncSubscribeRepos_Commit, int64, error) {
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
func (h *Host) log(last int64) (all []Frame) {
	ctx, cancel := context.WithTimeout(h.Context(), launch.Patience)
	defer cancel()
	conn, err := h.Subscribe(ctx, 0, "?cursor=0")
	if err != nil {
		h.Fatal(err)
	}
	defer conn.CloseNow()
	for int64(len(all)) < last {
		f, err := Read(ctx, conn)
		if err != nil {
			h.Fatalf("event %d: %v", len(all)+1, err)
		}
		if f.Seq != int64(len(all))+1 {
			h.Fatalf("event %d is the one after %d", f.Seq, len(all))
		}
		all = append(all, f)
	}
	return all
}
