package db

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// An EmailCode is a code that was sent to the owner of an account.
type EmailCode struct {
	bun.BaseModel `bun:"table:email_code,alias:c"`

	Purpose   string     `bun:"purpose,pk"`
	DID       syntax.DID `bun:"did,pk"`
	MAC       []byte     `bun:"mac,pk"` // keyed hash of the code
	CreatedAt time.Time  `bun:"created_at"`
	ExpiresAt time.Time  `bun:"expires_at"`
	Email     string     `bun:"email"` // where it was sent
}

var (
	insertEmailCode = prepared(func(b *builder) bun.Query { return b.insert(new(EmailCode)) })
	// The newest code is not counted: others may be of the same time.
	deleteOldEmailCodes = prepared(func(b *builder) bun.Query {
		did, purpose, newest, kept := b.p(), b.p(), b.p(), b.p()
		others := b.NewSelect().Model((*EmailCode)(nil)).Column("mac").
			Where("did = ?", did).Where("purpose = ?", purpose).Where("mac <> ?", newest).
			OrderExpr("created_at DESC, mac LIMIT ?", kept)
		return b.NewDelete().Model((*EmailCode)(nil)).
			Where("did = ?", did).Where("purpose = ?", purpose).Where("mac <> ?", newest).Where("mac NOT IN (?)", others)
	})

	selectEmailCode = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*EmailCode)(nil)).Where("purpose = ?", b.p()).Where("mac = ?", b.p())
	})
	selectEmailCodeOf = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*EmailCode)(nil)).Where("purpose = ?", b.p()).Where("mac = ?", b.p()).Where("did = ?", b.p())
	})
	countLiveCodes = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*EmailCode)(nil)).ColumnExpr("count(*)").
			Where("purpose = ?", b.p()).Where("did = ?", b.p()).Where("email = ?", b.p()).Where("expires_at > ?", b.p())
	})

	deleteEmailCodes = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*EmailCode)(nil)).Where("did = ?", b.p())
	})
	deleteEmailCodesFor = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*EmailCode)(nil)).Where("did = ?", b.p()).Where("purpose = ?", b.p())
	})
)

// InsertCode stores a code and drops the account's oldest of the same purpose, so
// that keep are left. It returns ErrNotFound when there is no account.
func (tx *Tx) InsertCode(ctx context.Context, c EmailCode, keep int) error {
	// One at a time for each account: two might each leave keep.
	if _, err := tx.LockAccount(ctx, c.DID); err != nil {
		return wrap(err, "store email code of %s", c.DID)
	}
	_, err := tx.exec(ctx, insertEmailCode, values(&c)...)
	if err == nil {
		_, err = tx.exec(ctx, deleteOldEmailCodes, c.DID, c.Purpose, c.MAC, keep-1)
	}
	return wrap(err, "store email code of %s", c.DID)
}

// EmailCode returns a code of a purpose, of any account when did is "". An
// expired one is returned too as long as it is there. It returns ErrNotFound.
func (q *queries) EmailCode(ctx context.Context, purpose string, did syntax.DID, mac []byte) (*EmailCode, error) {
	var c *EmailCode
	var err error
	if did == "" {
		c, err = one[EmailCode](ctx, q, selectEmailCode, purpose, mac)
	} else {
		c, err = one[EmailCode](ctx, q, selectEmailCodeOf, purpose, mac, did)
	}
	return c, wrap(err, "read email code")
}

// LiveCodes counts the codes of a purpose that an account has at now for an address. One
// that went to another address is good for nothing any more.
func (q *queries) LiveCodes(ctx context.Context, purpose string, did syntax.DID, email string, now time.Time) (int, error) {
	var n int
	err := q.get(ctx, countLiveCodes, []any{purpose, did, email, now}, &n)
	return n, wrap(err, "count email codes of %s", did)
}

// DeleteCodes removes an account's codes of the given purposes, all when none is
// given.
func (tx *Tx) DeleteCodes(ctx context.Context, did syntax.DID, purposes ...string) error {
	var err error
	if len(purposes) == 0 {
		_, err = tx.exec(ctx, deleteEmailCodes, did)
	}
	for _, p := range purposes {
		if err == nil {
			_, err = tx.exec(ctx, deleteEmailCodesFor, did, p)
		}
	}
	return wrap(err, "delete email codes of %s", did)
}
