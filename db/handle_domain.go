package db

import (
	"context"
	"time"

	"github.com/uptrace/bun"
)

// A HandleDomain is what an operator decided about a domain of handles.
type HandleDomain struct {
	bun.BaseModel `bun:"table:handle_domain,alias:handle_domain"`

	Domain       string    `bun:"domain,pk"`              // in lower case, without a leading dot
	InvitePolicy string    `bun:"invite_policy,nullzero"` // "open", "invite" or "closed"; "" leaves it to the settings
	Removed      bool      `bun:"removed"`                // no handles are given there, even if the settings name it
	At           time.Time `bun:"at"`
}

var (
	selectHandleDomains = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*HandleDomain)(nil)).Order("at", "domain")
	})
	putHandleDomain = prepared(func(b *builder) bun.Query {
		return b.insert(new(HandleDomain)).On("CONFLICT (domain) DO UPDATE").
			Set("invite_policy = excluded.invite_policy").Set("removed = excluded.removed").Set("at = excluded.at")
	})
	// Postgres' only; a transaction of SQLite is alone.
	// Who reads waits for neither.
	holdHandleDomains = prepared(func(b *builder) bun.Query { return b.NewRaw("LOCK TABLE handle_domain IN SHARE MODE") })
	lockHandleDomains = prepared(func(b *builder) bun.Query { return b.NewRaw("LOCK TABLE handle_domain IN EXCLUSIVE MODE") })
	// Changes of handles under way are few; accounts are counted by their indexes. A UNION of
	// all would hold a DID of each in memory.
	countHandlesAt = prepared(func(b *builder) bun.Query {
		domain, under, deeper := b.p(), b.p(), b.p()
		count := func(column string) *bun.SelectQuery {
			return b.NewSelect().Model((*Account)(nil)).ColumnExpr("count(*)").Where(column+" = ?", domain)
		}
		counted := b.NewSelect().Model((*Account)(nil)).ColumnExpr("1").Where("a.did = handle_change.did").
			Where("a.handle_parent = ? OR a.handle = ?", domain, domain)
		back := b.NewSelect().Model((*HandleChange)(nil)).ColumnExpr("count(*)").
			Where("handle_change.before = ? OR handle_change.before LIKE ? AND handle_change.before NOT LIKE ?", domain, under, deeper).Where("NOT EXISTS (?)", counted)
		return b.NewSelect().ColumnExpr("(?) + (?) + (?)", count("a.handle_parent"), count("a.handle"), back)
	})
)

// HandleDomains returns what was decided about domains, the oldest first.
func (q *queries) HandleDomains(ctx context.Context) ([]HandleDomain, error) {
	all, err := many[HandleDomain](ctx, q, selectHandleDomains)
	return all, wrap(err, "list handle domains")
}

// HoldHandleDomains keeps others from changing what is decided about domains until
// tx ends. Many transactions may hold it at a time; none of them changes it.
func (tx *Tx) HoldHandleDomains(ctx context.Context) error {
	return tx.lockHandleDomains(ctx, holdHandleDomains)
}

// LockHandleDomains waits until nobody holds what is decided about domains, and
// keeps others from holding it until tx ends. Whoever changes it locks it first.
func (tx *Tx) LockHandleDomains(ctx context.Context) error {
	return tx.lockHandleDomains(ctx, lockHandleDomains)
}

func (tx *Tx) lockHandleDomains(ctx context.Context, lock *statement) error {
	if !tx.postgres {
		return nil // there is one writer at a time
	}
	_, err := tx.exec(ctx, lock)
	return wrap(err, "lock handle domains")
}

// PutHandleDomain stores a decision about a domain in place of the one there was.
func (tx *Tx) PutHandleDomain(ctx context.Context, d HandleDomain) error {
	_, err := tx.exec(ctx, putHandleDomain, values(&d)...)
	return wrap(err, "store handle domain %s", d.Domain)
}

// HandlesAt counts the accounts, in any state, whose handle is a domain or one
// label under it, or that may get such a handle back.
func (q *queries) HandlesAt(ctx context.Context, domain string) (int, error) {
	var n int
	err := q.get(ctx, countHandlesAt, []any{domain, "%." + domain, "%.%." + domain}, &n)
	return n, wrap(err, "count handles at %s", domain)
}
