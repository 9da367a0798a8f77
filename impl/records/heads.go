package records

import (
	"sync"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"portico/db"
)

// maxHeads is how many repositories' rows are remembered, at less than a kilobyte each.
const maxHeads = 4096

// heads are the rows of repositories as this process left them, where no other writes.
// Commits are made without it too: what is here says only what the next commit probably
// follows, and whoever goes by it finds out before anything comes of it.
type heads struct {
	mu  sync.Mutex
	all *simplelru.LRU[syntax.DID, *db.Repo]
}

// get returns a row, which is not to be changed, or nil.
func (h *heads) get(did syntax.DID) *db.Repo {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all == nil {
		return nil
	}
	row, _ := h.all.Get(did)
	return row
}

func (h *heads) put(did syntax.DID, row *db.Repo) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all == nil {
		h.all, _ = simplelru.NewLRU[syntax.DID, *db.Repo](maxHeads, nil) // no error above 0
	}
	h.all.Add(did, row)
}

func (h *heads) drop(did syntax.DID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all != nil {
		h.all.Remove(did)
	}
}
