package importer

import (
	"cmp"
	"context"
	"io"
	"sync"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Bounds are what imports may take together. Zero values stand for the defaults.
type Bounds struct {
	// Imports is how many there may be at a time, those too whose archives still come in and
	// those that wait for another one of their account; default 64.
	Imports int
	// PerAccount is how many of them may be of one account; default 4. One of them goes on.
	PerAccount int
	// Bytes is how long their archives may be together, half of it for one account; default
	// DefaultBytes.
	Bytes int64
	// Working is how many of them look at their archives, and write, at a time; default 2.
	Working int
	// AtOnce is how many rows one transaction changes on its own; default 10,000. An active
	// account gets all of an import in one. Batch is how many one of several changes;
	// default 1,500.
	AtOnce, Batch int
}

// DefaultBytes is what archives may take together unless the bounds say otherwise.
const DefaultBytes = 8 << 30

// A queue lets imports in, those of one account one after the other.
type queue struct {
	mu       sync.Mutex
	imports  int
	bytes    int64
	accounts map[syntax.DID]*turn
	working  chan struct{}
}

// A turn is had by one import of an account.
type turn struct {
	imports int
	bytes   int64
	free    chan struct{}
}

// enter waits for the turn of did. It returns ErrBusy when too many are there, and the
// error of ctx.
func (q *queue) enter(ctx context.Context, b Bounds, did syntax.DID) (leave func(), err error) {
	q.mu.Lock()
	if q.accounts == nil {
		q.accounts = make(map[syntax.DID]*turn)
		q.working = make(chan struct{}, cmp.Or(b.Working, 2))
	}
	t := q.accounts[did]
	if q.imports >= cmp.Or(b.Imports, 64) || t != nil && t.imports >= cmp.Or(b.PerAccount, 4) {
		q.mu.Unlock()
		return nil, ErrBusy
	}
	if t == nil {
		t = &turn{free: make(chan struct{}, 1)}
		q.accounts[did] = t
	}
	q.imports++
	t.imports++
	q.mu.Unlock()
	gone := func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.imports--
		if t.imports--; t.imports == 0 {
			delete(q.accounts, did)
		}
	}
	select {
	case t.free <- struct{}{}:
		return func() {
			q.mu.Lock()
			q.bytes -= t.bytes
			t.bytes = 0
			q.mu.Unlock()
			<-t.free
			gone()
		}, nil
	case <-ctx.Done():
		gone()
		return nil, ctx.Err()
	}
}

// work waits for a place among those that work.
func (q *queue) work() (done func()) {
	q.working <- struct{}{}
	return func() { <-q.working }
}

// count is r, which the import of did that has its turn reads. It fails with ErrBusy where
// the archives are too long together.
func (q *queue) count(b Bounds, did syntax.DID, r io.Reader) io.Reader {
	q.mu.Lock()
	defer q.mu.Unlock()
	return &counted{r: r, queue: q, turn: q.accounts[did], max: cmp.Or(b.Bytes, DefaultBytes)}
}

type counted struct {
	r     io.Reader
	queue *queue
	turn  *turn
	max   int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	c.queue.bytes += int64(n)
	c.turn.bytes += int64(n)
	if c.queue.bytes > c.max || c.turn.bytes > c.max/2 {
		return 0, ErrBusy
	}
	return n, err
}
