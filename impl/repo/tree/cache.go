package tree

import (
	"math"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"portico/impl/repo/dagcbor"
)

// A Cache holds nodes that were used lately, of any trees: what a name stands for never
// changes. It is safe for concurrent use; a nil one holds nothing.
type Cache struct {
	mu    sync.Mutex
	nodes *simplelru.LRU[dagcbor.CID, *node]
	bytes int // that the nodes take
	limit int
}

// NewCache returns a cache that takes about limit bytes of memory.
func NewCache(limit int) *Cache {
	c := &Cache{limit: limit}
	// Its own bound is a number, which is never reached.
	c.nodes, _ = simplelru.NewLRU(math.MaxInt, func(_ dagcbor.CID, n *node) { c.bytes -= n.size() })
	return c
}

func (c *Cache) get(name dagcbor.CID) (*node, bool) {
	if c == nil {
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes.Get(name)
}

func (c *Cache) add(name dagcbor.CID, n *node) {
	if c == nil || n.size() > c.limit/8 {
		return // it would push out what others need
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nodes.Contains(name) {
		return
	}
	c.nodes.Add(name, n)
	for c.bytes += n.size(); c.bytes > c.limit; {
		c.nodes.RemoveOldest()
	}
}
