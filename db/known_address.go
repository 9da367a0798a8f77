package db

import (
	"cmp"
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// A knownAddress is where the owner of an account was.
type knownAddress struct {
	bun.BaseModel `bun:"table:known_address,alias:known_address"`

	DID     syntax.DID `bun:"did,pk"`
	Address string     `bun:"address,pk"`
	SeenAt  time.Time  `bun:"seen_at"`
}

var (
	knowAddress = prepared(func(b *builder) bun.Query {
		return b.insert(new(knownAddress)).On("CONFLICT (did, address) DO UPDATE").
			Set("seen_at = excluded.seen_at").Where("known_address.seen_at <= ?", b.p())
	})
	// Among those seen at the same time the one that is not to be counted stays.
	forgetOldAddresses = prepared(func(b *builder) bun.Query {
		did, address, kept := b.p(), b.p(), b.p()
		old := b.NewSelect().Model((*knownAddress)(nil)).Column("address").Where("did = ?", did).Where("address <> ?", address).
			OrderExpr("seen_at DESC, address LIMIT 1000 OFFSET ?", kept)
		return b.NewDelete().Model((*knownAddress)(nil)).Where("did = ?", did).Where("address IN (?)", old)
	})
	addressKnown = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*knownAddress)(nil)).ColumnExpr("1").
			Where("did = ?", b.p()).Where("address = ?", b.p()).Where("seen_at > ?", b.p())
	})
	forgetAddresses = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*knownAddress)(nil)).Where("did = ?", b.p()).Where("address <> ?", b.p())
	})
)

// renewAfter is how old the note that an address was seen gets before it is written
// anew: sessions go on every few minutes.
const renewAfter = time.Hour

// KnowAddress notes that the owner of an account was at an address at now, give or take
// an hour. Of more than most addresses the one that was not seen for longest is
// forgotten. It returns ErrNotFound when there is no such account.
func (tx *Tx) KnowAddress(ctx context.Context, did syntax.DID, address string, now time.Time, most int) error {
	seen := knownAddress{DID: did, Address: address, SeenAt: now}
	args := append(values(&seen), now.Add(-renewAfter))
	if tx.postgres { // to wait for whether the second one is needed takes longer than to run it
		err := tx.later(ctx, "know address", knowAddress, args...)
		return cmp.Or(err, tx.later(ctx, "forget old addresses", forgetOldAddresses, did, address, most-1))
	}
	n, err := tx.exec(ctx, knowAddress, args...)
	if err == nil && n > 0 {
		_, err = tx.exec(ctx, forgetOldAddresses, did, address, most-1)
	}
	return wrap(err, "know address of %s", did)
}

// AddressKnown reports whether the owner of an account was at an address later than since.
func (q *queries) AddressKnown(ctx context.Context, did syntax.DID, address string, since time.Time) (bool, error) {
	known, err := q.exists(ctx, addressKnown, did, address, since)
	return known, wrap(err, "look for known address of %s", did)
}

// ForgetAddresses forgets where the owner of an account was, but for the address kept.
func (tx *Tx) ForgetAddresses(ctx context.Context, did syntax.DID, kept string) error {
	_, err := tx.exec(ctx, forgetAddresses, did, kept)
	return wrap(err, "forget known addresses of %s", did)
}
