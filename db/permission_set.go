package db

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// How long permission sets that nobody asks for stay: those that exist, and the names of others,
// which anybody may make up.
const (
	permissionSetsStay   = 60 * 24 * time.Hour
	noPermissionSetsStay = time.Hour
)

// MaxPermissionSets is how many permission sets are remembered: anybody can publish some and
// ask for them. Those that were asked for least lately make way.
const MaxPermissionSets = 1000

// A PermissionSet is the document of a name of the network, as it was read last.
type PermissionSet struct {
	bun.BaseModel `bun:"table:permission_set,alias:ps"`

	NSID      syntax.NSID `bun:"nsid,pk"`
	Document  string      `bun:"document,nullzero"` // "" for none
	FetchedAt time.Time   `bun:"fetched_at"`        // when it was read
	TriedAt   time.Time   `bun:"tried_at"`          // when somebody was asked for it last
}

var (
	selectPermissionSet = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*PermissionSet)(nil)).Where("nsid = ?", b.p())
	})
	putPermissionSet = prepared(func(b *builder) bun.Query {
		return b.insert(new(PermissionSet)).On("CONFLICT (nsid) DO UPDATE").
			Set("document = excluded.document").Set("fetched_at = excluded.fetched_at").Set("tried_at = excluded.tried_at")
	})
	deleteOldPermissionSets = prepared(func(b *builder) bun.Query {
		before, kept := b.p(), b.p() // by the index, which the first has searched and not scanned
		old := b.NewSelect().Model((*PermissionSet)(nil)).Column("nsid").Where("tried_at <= ?", before).OrderExpr("tried_at DESC LIMIT 100 OFFSET ?", kept)
		return b.NewDelete().Model((*PermissionSet)(nil)).Where("nsid IN (?)", old)
	})
	purgeNoPermissionSets = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*PermissionSet)(nil)).Where("tried_at <= ?", b.p()).Where("document IS NULL")
	})
)

// PermissionSet returns what is remembered of a permission set, or ErrNotFound.
func (q *queries) PermissionSet(ctx context.Context, nsid syntax.NSID) (*PermissionSet, error) {
	s, err := one[PermissionSet](ctx, q, selectPermissionSet, nsid)
	return s, wrap(err, "read permission set %s", nsid)
}

// PutPermissionSet remembers a permission set in the place of what was, and forgets those beyond
// [MaxPermissionSets] that were asked for no later.
func (tx *Tx) PutPermissionSet(ctx context.Context, s PermissionSet) error {
	_, err := tx.exec(ctx, putPermissionSet, values(&s)...)
	if err == nil {
		_, err = tx.exec(ctx, deleteOldPermissionSets, s.TriedAt, MaxPermissionSets)
	}
	return wrap(err, "remember permission set %s", s.NSID)
}
