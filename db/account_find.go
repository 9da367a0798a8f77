package db

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// A Standing is an account in any state, with what hangs on it.
type Standing struct {
	Account `bun:",extend"`

	Creating     bool   `bun:"creating,scanonly"`    // its creation is under way, so nobody has signed in to it
	InviteCode   string `bun:"invite_code,scanonly"` // that it signed up with, "" for none
	Sessions     int    `bun:"sessions,scanonly"`    // that can be refreshed; one and its predecessor in its grace are one
	AppPasswords int    `bun:"app_passwords,scanonly"`
}

var (
	selectStandingByDID    = prepared(func(b *builder) bun.Query { return b.standing().Where("a.did = ?", b.p()) })
	selectStandingByHandle = prepared(func(b *builder) bun.Query { return b.standing().Where("a.handle = ?", b.p()) })
	selectStandingByEmail  = prepared(func(b *builder) bun.Query { return b.standing().Where("a.email = ?", b.p()) })
)

// standing selects accounts with what hangs on them at the time of the first parameter.
func (b *builder) standing() *bun.SelectQuery {
	invite := b.NewSelect().Model((*InviteUse)(nil)).Column("code").Where("used_by = a.did").Order("used_at", "code").Limit(1)
	sessions := b.NewSelect().Model((*Session)(nil)).ColumnExpr("count(*)").
		Where("s.did = a.did").Where("s.expires_at > ?", b.p()).Where("s.next_id IS NULL")
	passwords := b.NewSelect().Model((*AppPassword)(nil)).ColumnExpr("count(*)").Where("p.did = a.did")
	return b.NewSelect().Model((*Account)(nil)).ColumnExpr("?TableColumns").
		ColumnExpr("a.state = 'creating'").ColumnExpr("(?)", invite).ColumnExpr("(?)", sessions).ColumnExpr("(?)", passwords)
}

func (q *queries) standing(ctx context.Context, find *statement, key string) (*Standing, error) {
	if !storable(key) {
		return nil, wrap(ErrNotFound, "find account %q", key)
	}
	s := new(Standing)
	dest := append(places(&s.Account), &s.Creating, &s.InviteCode, &s.Sessions, &s.AppPasswords)
	if err := q.get(ctx, find, []any{q.now(), key}, dest...); err != nil {
		return nil, wrap(err, "find account %s", key)
	}
	return s, nil
}

// StandingByDID returns an account, be it one under creation, or ErrNotFound.
func (q *queries) StandingByDID(ctx context.Context, did syntax.DID) (*Standing, error) {
	return q.standing(ctx, selectStandingByDID, string(did))
}

// StandingByHandle is StandingByDID for a handle in lower case.
func (q *queries) StandingByHandle(ctx context.Context, handle syntax.Handle) (*Standing, error) {
	return q.standing(ctx, selectStandingByHandle, string(handle))
}

// StandingByEmail is StandingByDID for an address in lower case.
func (q *queries) StandingByEmail(ctx context.Context, email string) (*Standing, error) {
	return q.standing(ctx, selectStandingByEmail, email)
}
