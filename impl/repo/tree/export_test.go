package tree

import (
	"context"

	"portico/impl/repo/dagcbor"
)

// ApplyAny is Apply for keys that are no paths, which the vectors of others have.
func (t Tree) ApplyAny(ctx context.Context, writes []Write) (*Change, error) {
	return t.apply(ctx, writes)
}

// Decode decodes and checks a node that stands at a place below the root.
func Decode(data []byte, place Place, high string) error {
	n, err := decode(data)
	if err != nil {
		return err
	}
	return n.check(place, high, false)
}

// Recode decodes a node and encodes it again.
func Recode(data []byte) ([]byte, error) {
	n, err := decode(data)
	if err != nil {
		return nil, err
	}
	block, err := n.encode()
	return block.Data, err
}

// Fill puts a node into the cache.
func (c *Cache) Fill(name dagcbor.CID, data []byte) error {
	n, err := decode(data)
	if err == nil {
		c.add(name, n)
	}
	return err
}

// Size returns what the cache takes, as it counts, and how many nodes it has.
func (c *Cache) Size() (bytes, nodes int) { return c.bytes, c.nodes.Len() }
