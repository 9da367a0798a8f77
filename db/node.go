package db

import (
	"context"
	"errors"
	"math"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"
)

// A Place is where in its tree a node stands: after the greatest key of a higher layer to
// its left, empty if there is none, on a layer that counts from the bottom.
type Place struct {
	Low   string
	Layer int
}

// A Node is a piece of a repository's tree. The column of the DID is left out.
type Node struct {
	bun.BaseModel `bun:"table:node,alias:n"`

	Low   string `bun:"low"`
	Layer int    `bun:"layer"`
	CID   []byte `bun:"cid"`
	Rev   string `bun:"rev"` // of the commit that made it, wherever it stood
	Data  []byte `bun:"data"`
}

// Place is where n stands.
func (n *Node) Place() Place { return Place{n.Low, n.Layer} }

// maxLayer is the highest layer that there can be.
const maxLayer = 128

var (
	selectNode = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*Node)(nil)).Where("n.did = ?", b.p()).Where("n.low = ?", b.p()).Where("n.layer = ?", b.p())
	})
	// Postgres has the nodes in order layer by layer, so a page of all is the first of
	// what a page of each has.
	selectNodes = prepared(func(b *builder) bun.Query {
		nodes := func() *bun.SelectQuery {
			return b.NewSelect().Model((*Node)(nil)).Where("n.did = ?", b.p()).Where("n.low >= ?", b.p()).
				Where("(n.low > ? OR n.layer < ?)", b.p(), b.p())
		}
		if b.Dialect().Name() != dialect.PG {
			return b.limit(nodes(), "n.low, n.layer DESC")
		}
		ofLayer := b.limit(nodes().Where("n.layer = l.layer"), "n.low")
		return b.NewSelect().ColumnExpr("n.*").TableExpr("generate_series(0, ?) AS l (layer)", maxLayer).
			Join("CROSS JOIN LATERAL (?) AS n", ofLayer).OrderExpr("n.low, n.layer DESC LIMIT ?", bun.Safe("$5"))
	})
	selectNodesOnPaths = prepared(func(b *builder) bun.Query { // Postgres'
		paths := b.NewSelect().ColumnExpr("*").TableExpr("unnest(?::text[]) AS k (key)", b.p()).
			Join("CROSS JOIN generate_series(0, ?::integer) AS l (layer)", b.p())
		node := b.NewSelect().Model((*Node)(nil)).Where("n.did = ?", b.p()).Where("n.layer = path.layer").
			Where("n.low < path.key").OrderExpr("n.low DESC").Limit(1)
		return b.NewSelect().DistinctOn("n.low, n.layer").ColumnExpr("n.*").
			TableExpr("(?) AS path", paths).Join("CROSS JOIN LATERAL (?) AS n", node)
	})
	putNode = prepared(func(b *builder) bun.Query {
		return b.onNode(b.insert(new(Node)).Value("did", "?", b.p()))
	})
	putNodes = prepared(func(b *builder) bun.Query { // Postgres'
		rows := b.NewSelect().ColumnExpr("?::text AS did", b.p()).ColumnExpr("*").TableExpr(
			"unnest(?::text[], ?::integer[], ?::bytea[], ?::text[], ?::bytea[]) AS u", b.p(), b.p(), b.p(), b.p(), b.p())
		return b.onNode(b.NewInsert().Model((*Node)(nil)).Column("did", "low", "layer", "cid", "rev", "data").
			TableExpr("(?) AS new (did, low, layer, cid, rev, data)", rows).Returning("NULL"))
	})
	deleteNode = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*Node)(nil)).Where("did = ?", b.p()).Where("low = ?", b.p()).Where("layer = ?", b.p())
	})
	deleteNodes = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*Node)(nil)).Where("did = ?", b.p())
	})
)

func (b *builder) onNode(s *bun.InsertQuery) *bun.InsertQuery {
	return s.On("CONFLICT (did, low, layer) DO UPDATE").
		Set("cid = excluded.cid").Set("rev = excluded.rev").Set("data = excluded.data")
}

// Node returns the node at a place, or ErrNotFound.
func (q *queries) Node(ctx context.Context, did syntax.DID, at Place) (*Node, error) {
	n, err := one[Node](ctx, q, selectNode, did, at.Low, at.Layer)
	return n, wrap(err, "read node of %s", did)
}

// Nodes returns up to limit nodes of a repository, those after a place or, if that is nil,
// the first ones, in the order of Low and then from the top: the order in which a walk
// through the tree reaches them.
func (q *queries) Nodes(ctx context.Context, did syntax.DID, after *Place, limit int) ([]Node, error) {
	if after == nil {
		after = &Place{Layer: math.MaxInt32}
	}
	nodes, err := many[Node](ctx, q, selectNodes, did, after.Low, after.Low, after.Layer, limit)
	return nodes, wrap(err, "list nodes of %s", did)
}

// NodesOnPaths returns the nodes on the search paths of some keys, in a tree whose root is
// on the layer top, and maybe others, in any order. Postgres looks all up in one
// statement: on each layer what stands left of the key. To SQLite a statement costs
// little, so it goes down from the root: below tells the place of the next node on the
// path of a key, if there is one.
func (q *queries) NodesOnPaths(
	ctx context.Context, did syntax.DID, top int, keys []string, below func(n *Node, key string) (Place, bool),
) ([]Node, error) {
	if q.seen.engine == dialect.PG {
		nodes, err := many[Node](ctx, q, selectNodesOnPaths, keys, min(top, maxLayer), did)
		return nodes, wrap(err, "read paths of %s", did)
	}
	read := make(map[Place]*Node)
	var nodes []Node
	for _, key := range keys {
		at, more := Place{Layer: top}, true
		for more && at.Layer >= 0 {
			n := read[at]
			if n == nil {
				var err error
				n, err = q.Node(ctx, did, at)
				if errors.Is(err, ErrNotFound) {
					break
				}
				if err != nil {
					return nil, err
				}
				read[at], nodes = n, append(nodes, *n)
			}
			at, more = below(n, key)
		}
	}
	return nodes, nil
}

// PutNode stores a node in the place of what stands there, if anything does. It returns
// ErrNotFound when there is no account.
func (tx *Tx) PutNode(ctx context.Context, did syntax.DID, n Node) error {
	return tx.later(ctx, "store node of "+did.String(), putNode, append(values(&n), did)...)
}

// PutNodes is PutNode for some nodes, of which no two have the same place.
func (tx *Tx) PutNodes(ctx context.Context, did syntax.DID, nodes ...Node) error {
	if !tx.postgres || len(nodes) <= 1 {
		for _, n := range nodes {
			if err := tx.PutNode(ctx, did, n); err != nil {
				return err
			}
		}
		return nil
	}
	n := len(nodes)
	lows, layers, cids, revs, all := make([]string, n), make([]int32, n), make([][]byte, n), make([]string, n), make([][]byte, n)
	for i, n := range nodes {
		lows[i], layers[i], cids[i], revs[i], all[i] = n.Low, int32(n.Layer), n.CID, n.Rev, n.Data
	}
	return tx.later(ctx, "store nodes of "+did.String(), putNodes, did, lows, layers, cids, revs, all)
}

// MoveNodes puts nodes from their places, the keys, to others, also to those of each
// other, and in the place of what stands there. What they leave stays, unless another one
// comes there. It returns ErrNotFound when there is no node at a place.
func (tx *Tx) MoveNodes(ctx context.Context, did syntax.DID, to map[Place]Place) error {
	if len(to) == 0 {
		return nil
	}
	found, places, reads := make([]*Node, len(to)), make([]Place, 0, len(to)), make([]read, 0, len(to))
	for from, at := range to {
		reads = append(reads, readOne(&found[len(places)], selectNode, did, from.Low, from.Layer))
		places = append(places, at)
	}
	if err := tx.together(ctx, reads...); err != nil {
		return wrap(err, "read nodes of %s", did)
	}
	moved := make([]Node, len(to))
	for i, n := range found {
		if n == nil {
			return wrap(ErrNotFound, "read node of %s", did)
		}
		moved[i] = *n
		moved[i].Low, moved[i].Layer = places[i].Low, places[i].Layer
	}
	return tx.PutNodes(ctx, did, moved...)
}

// DeleteNode removes the node at a place, if there is one.
func (tx *Tx) DeleteNode(ctx context.Context, did syntax.DID, at Place) error {
	return tx.later(ctx, "delete node of "+did.String(), deleteNode, did, at.Low, at.Layer)
}

// DeleteNodes removes all nodes of a repository.
func (tx *Tx) DeleteNodes(ctx context.Context, did syntax.DID) error {
	_, err := tx.exec(ctx, deleteNodes, did)
	return wrap(err, "delete nodes of %s", did)
}
