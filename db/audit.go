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
	ID      int64
	DID     syntax.DID // "" when it concerns no account
	At      time.Time
	Actor   string
	Address string // the caller's, or ""
	Event   string
	Detail  string
}

type auditRow struct {
	bun.BaseModel `bun:"table:audit,alias:audit"`

	ID      int64      `bun:",pk,autoincrement"`
	DID     syntax.DID `bun:"did,nullzero"`
	At      stamp      `bun:""`
	Actor   string     `bun:""`
	Address string     `bun:",nullzero"`
	Event   string     `bun:""`
	Detail  string     `bun:",nullzero"`
}

// RecordAudit adds an entry.
func (tx *Tx) RecordAudit(ctx context.Context, e AuditEntry) error {
	_, err := tx.execText(ctx, `INSERT INTO audit (did, at, actor, address, event, detail) VALUES (?, ?, ?, ?, ?, ?)`,
		text(e.DID), micros(e.At), e.Actor, text(e.Address), e.Event, text(e.Detail))
	return wrap(err, "record audit entry")
}

// RecordAuditOfAccount adds an entry about an account if there is one. It takes one
// statement, whether there is or not.
func (tx *Tx) RecordAuditOfAccount(ctx context.Context, e AuditEntry) error {
	_, err := tx.execText(ctx, `INSERT INTO audit (did, at, actor, address, event, detail)
		SELECT did, CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT)
		FROM account WHERE did = ? {FOR KEY SHARE}`,
		micros(e.At), e.Actor, text(e.Address), e.Event, text(e.Detail), string(e.DID))
	return wrap(err, "record audit entry")
}

// RecordAnotherAudit counts an entry that concerns no account into one of the same event
// and address that is younger than since, and adds it where there is none. The detail of
// the entry says how often.
func (tx *Tx) RecordAnotherAudit(ctx context.Context, e AuditEntry, since time.Time) error {
	e.Detail, e.Address = "once", cmp.Or(e.Address, "unknown")
	var id int64
	var before string
	err := tx.getText(ctx, `SELECT id, detail FROM audit WHERE did IS NULL AND event = ? AND address = ? AND at > ? ORDER BY id DESC LIMIT 1 {FOR UPDATE}`,
		[]any{e.Event, e.Address, micros(since)}, &id, &before)
	if errors.Is(err, ErrNotFound) {
		return tx.RecordAudit(ctx, e)
	}
	if err == nil {
		n := 1
		if _, bad := fmt.Sscanf(before, "%d times", &n); bad != nil {
			n = 1
		}
		_, err = tx.execText(ctx, `UPDATE audit SET detail = ? WHERE id = ?`, fmt.Sprintf("%d times", n+1), id)
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
	return q.audit(ctx, id, limit, func(s *bun.SelectQuery) *bun.SelectQuery {
		if did == "" {
			return s.Where("did IS NULL")
		}
		return s.Where("did = ?", string(did))
	})
}

// AuditOfAll is AuditBefore for all entries, whatever they concern.
func (q *queries) AuditOfAll(ctx context.Context, id int64, limit int) ([]AuditEntry, error) {
	return q.audit(ctx, id, limit, func(s *bun.SelectQuery) *bun.SelectQuery { return s })
}

func (q *queries) audit(ctx context.Context, id int64, limit int, which func(*bun.SelectQuery) *bun.SelectQuery) ([]AuditEntry, error) {
	var rows []auditRow
	err := q.run.bun().NewSelect().Model(&rows).Where("id < ?", id).Apply(which).Order("id DESC").Limit(int64(limit)).Scan(ctx)
	if err != nil {
		return nil, wrap(err, "read audit entries")
	}
	entries := make([]AuditEntry, len(rows))
	for i, r := range rows {
		entries[i] = AuditEntry{
			ID: r.ID, DID: r.DID, At: time.Time(r.At), Actor: r.Actor, Address: r.Address, Event: r.Event, Detail: r.Detail,
		}
	}
	return entries, nil
}

// PurgeAudit forgets the entries that are no younger than before.
func (tx *Tx) PurgeAudit(ctx context.Context, before time.Time) error {
	_, err := tx.execText(ctx, `DELETE FROM audit WHERE at <= ?`, micros(before))
	return wrap(err, "purge audit entries")
}
