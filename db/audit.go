package db

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// An AuditEntry says what happened to an account, by whom. It holds no secrets.
type AuditEntry struct {
	bun.BaseModel `bun:"table:audit,alias:audit"`

	ID      int64      `bun:"id,pk,autoincrement"`
	DID     syntax.DID `bun:"did,nullzero"` // "" when it concerns no account
	At      time.Time  `bun:"at"`
	Actor   string     `bun:"actor"`
	Address string     `bun:"address,nullzero"` // the caller's, or ""
	Event   string     `bun:"event"`
	Detail  string     `bun:"detail,nullzero"`
}

var (
	insertAudit = prepared(func(b *builder) bun.Query { return b.insert(new(AuditEntry), "id") })
	// Postgres takes the parameters of a SELECT for texts.
	insertAuditOfAccount = prepared(func(b *builder) bun.Query {
		entry := b.NewSelect().Model((*Account)(nil)).Column("did").
			ColumnExpr("CAST(? AS BIGINT) AS at", b.p()).ColumnExpr("CAST(? AS TEXT) AS actor", b.p()).
			ColumnExpr("CAST(? AS TEXT) AS address", b.p()).ColumnExpr("CAST(? AS TEXT) AS event", b.p()).
			ColumnExpr("CAST(? AS TEXT) AS detail", b.p()).Where("did = ?", b.p())
		return b.NewInsert().Model((*AuditEntry)(nil)).Column("did", "at", "actor", "address", "event", "detail").
			TableExpr("(?) AS entry", b.lock("KEY SHARE", entry)).Returning("NULL")
	})
	lockAuditOfNobody = prepared(func(b *builder) bun.Query {
		return b.lock("UPDATE", b.NewSelect().Model((*AuditEntry)(nil)).Column("id", "detail").Where("did IS NULL").Where("actor = 'stranger'").
			Where("event = ?", b.p()).Where("address = ?", b.p()).Where("at > ?", b.p()).Order("id DESC").Limit(1))
	})
	updateAuditDetail = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*AuditEntry)(nil)).Set("detail = ?", b.p()).Where("id = ?", b.p())
	})

	selectAudit = prepared(func(b *builder) bun.Query {
		return b.limit(b.auditBefore().Where("did = ?", b.p()), "id DESC")
	})
	selectAuditOfNobody = prepared(func(b *builder) bun.Query {
		return b.limit(b.auditBefore().Where("did IS NULL"), "id DESC")
	})
	selectAuditOfAll = prepared(func(b *builder) bun.Query { return b.limit(b.auditBefore(), "id DESC") })

	// The ages of entries are in two indexes.
	deleteAudit = []*statement{
		prepared(func(b *builder) bun.Query {
			return b.NewDelete().Model((*AuditEntry)(nil)).Where("at <= ?", b.p()).Where("address IS NULL")
		}),
		prepared(func(b *builder) bun.Query {
			return b.NewDelete().Model((*AuditEntry)(nil)).Where("at <= ?", b.p()).Where("address IS NOT NULL")
		}),
	}
)

// auditBefore selects the entries whose ID is smaller than the first parameter.
func (b *builder) auditBefore() *bun.SelectQuery {
	return b.NewSelect().Model((*AuditEntry)(nil)).Where("id < ?", b.p())
}

// RecordAudit adds an entry.
func (tx *Tx) RecordAudit(ctx context.Context, e AuditEntry) error {
	return tx.later(ctx, "record audit entry", insertAudit, values(&e, "id")...)
}

// RecordAuditOfAccount adds an entry about an account if there is one. It takes one
// statement, whether there is or not.
func (tx *Tx) RecordAuditOfAccount(ctx context.Context, e AuditEntry) error {
	_, err := tx.exec(ctx, insertAuditOfAccount, append(values(&e, "id", "did"), e.DID)...)
	return wrap(err, "record audit entry")
}

// RecordAnotherAudit counts an entry of a stranger that concerns no account into one of the
// same event and address that is younger than since, and adds it where there is none. The
// detail of the entry says how often.
func (tx *Tx) RecordAnotherAudit(ctx context.Context, e AuditEntry, since time.Time) error {
	e.Actor, e.Detail, e.Address = "stranger", "once", cmp.Or(e.Address, "unknown")
	var id int64
	var before string
	err := tx.get(ctx, lockAuditOfNobody, []any{e.Event, e.Address, since}, &id, &before)
	if errors.Is(err, ErrNotFound) {
		return tx.RecordAudit(ctx, e)
	}
	if err == nil {
		n := 1
		if _, bad := fmt.Sscanf(before, "%d times", &n); bad != nil {
			n = 1
		}
		_, err = tx.exec(ctx, updateAuditDetail, fmt.Sprintf("%d times", n+1), id)
	}
	return wrap(err, "record audit entry once more")
}

// Audit returns up to limit entries about an account, or with "" those that concern
// none, the newest first.
func (q *queries) Audit(ctx context.Context, did syntax.DID, limit int) ([]AuditEntry, error) {
	return q.AuditBefore(ctx, did, math.MaxInt64, limit)
}

// AuditBefore is Audit for the entries whose ID is smaller than id.
func (q *queries) AuditBefore(ctx context.Context, did syntax.DID, id int64, limit int) ([]AuditEntry, error) {
	var entries []AuditEntry
	var err error
	if did == "" {
		entries, err = many[AuditEntry](ctx, q, selectAuditOfNobody, id, limit)
	} else {
		entries, err = many[AuditEntry](ctx, q, selectAudit, id, did, limit)
	}
	return entries, wrap(err, "read audit entries")
}

// AuditOfAll is AuditBefore for all entries, whatever they concern.
func (q *queries) AuditOfAll(ctx context.Context, id int64, limit int) ([]AuditEntry, error) {
	entries, err := many[AuditEntry](ctx, q, selectAuditOfAll, id, limit)
	return entries, wrap(err, "read audit entries")
}

// PurgeAudit forgets the entries that are no younger than before.
func (tx *Tx) PurgeAudit(ctx context.Context, before time.Time) error {
	for _, s := range deleteAudit {
		if _, err := tx.exec(ctx, s, before); err != nil {
			return wrap(err, "purge audit entries")
		}
	}
	return nil
}
