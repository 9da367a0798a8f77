package db

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// A HostName is one that this server has, or had.
type HostName struct {
	bun.BaseModel `bun:"table:host_name,alias:host_name"`

	Name  string     `bun:"name,pk"` // in lower case, with a port where there is one
	Since time.Time  `bun:"since"`
	Until *time.Time `bun:"until"` // nil: it is the one that the server goes by
}

// A TakenHandle is one that an account is to get while another has it.
type TakenHandle struct {
	DID    syntax.DID    `bun:"did"`
	Wanted syntax.Handle `bun:"wanted"`
	By     syntax.DID    `bun:"by_did"`
}

var (
	selectHostNames = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*HostName)(nil)).Order("since", "name")
	})
	putHostName = prepared(func(b *builder) bun.Query {
		return b.insert(new(HostName)).On("CONFLICT (name) DO UPDATE").Set("since = excluded.since").Set("until = excluded.until")
	})
	// Whoever has the new name, and whoever may get it back.
	selectTakenHandles = prepared(func(b *builder) bun.Query {
		length, to, from := b.p(), b.p(), b.p()
		moved := func() *bun.SelectQuery {
			return b.NewSelect().TableExpr("account AS a").ColumnExpr("a.did AS did").
				ColumnExpr("substr(a.handle, 1, length(a.handle) - ?) || ? AS wanted", length, to).
				Where("a.handle_parent = ?", from)
		}
		taken := b.NewSelect().TableExpr("(?) AS m", moved()).ColumnExpr("m.did, m.wanted, b.did AS by_did").
			Join("JOIN account AS b ON b.handle = m.wanted AND b.did <> m.did").
			UnionAll(b.NewSelect().TableExpr("(?) AS m", moved()).ColumnExpr("m.did, m.wanted, c.did AS by_did").
				Join("JOIN handle_change AS c ON c.before = m.wanted AND c.did <> m.did"))
		return b.limit(b.NewSelect().TableExpr("(?) AS taken", taken).Column("did", "wanted", "by_did"), "did")
	})
)

// HostNames returns every name that the server has had, the oldest first.
func (q *queries) HostNames(ctx context.Context) ([]HostName, error) {
	names, err := many[HostName](ctx, q, selectHostNames)
	return names, wrap(err, "list host names")
}

// PutHostName stores a name in the place of what is known of it.
func (tx *Tx) PutHostName(ctx context.Context, n HostName) error {
	_, err := tx.exec(ctx, putHostName, values(&n)...)
	return wrap(err, "store host name %s", n.Name)
}

// TakenHandles returns up to limit accounts with a handle one label under the domain from,
// whose handle with to in its place is another account's, or may be again.
func (q *queries) TakenHandles(ctx context.Context, from, to string, limit int) ([]TakenHandle, error) {
	taken, err := many[TakenHandle](ctx, q, selectTakenHandles, len(from), to, from, limit)
	return taken, wrap(err, "look for handles under %s", to)
}
