package records

import (
	"context"
	"fmt"
	"sync"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// turns lets one at a time write to a repository. Those who wait do so here and not with a
// connection of the database in their hands, of which there are few.
type turns struct {
	mu  sync.Mutex
	all map[syntax.DID]*turn
}

type turn struct {
	taken chan struct{} // holds one value while somebody has it
	users int           // who has it or waits for it
}

// take waits for the turn of did; leave ends it.
func (t *turns) take(ctx context.Context, did syntax.DID) (leave func(), err error) {
	t.mu.Lock()
	if t.all == nil {
		t.all = make(map[syntax.DID]*turn)
	}
	mine := t.all[did]
	if mine == nil {
		mine = &turn{taken: make(chan struct{}, 1)}
		t.all[did] = mine
	}
	mine.users++
	t.mu.Unlock()
	select {
	case mine.taken <- struct{}{}:
		return func() { <-mine.taken; t.forget(did, mine) }, nil
	case <-ctx.Done():
		t.forget(did, mine)
		return nil, fmt.Errorf("wait to write to the repository of %s: %w", did, ctx.Err())
	}
}

func (t *turns) forget(did syntax.DID, mine *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mine.users--; mine.users == 0 {
		delete(t.all, did)
	}
}
