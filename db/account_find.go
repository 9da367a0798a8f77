package db

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// A Standing is an account in any state, with what hangs on it.
type Standing struct {
	Account
	Creating     bool   // its creation is under way, so nobody has signed in to it
	InviteCode   string // that it signed up with, "" for none
	Sessions     int    // that can be refreshed; one and its predecessor in its grace are one
	AppPasswords int
}

const standing = `SELECT ` + accountColumns + `, a.state = 'creating',
	(SELECT u.code FROM invite_use u WHERE u.used_by = a.did ORDER BY u.used_at, u.code LIMIT 1),
	(SELECT count(*) FROM session s WHERE s.did = a.did AND s.expires_at > ? AND s.next_id IS NULL),
	(SELECT count(*) FROM app_password p WHERE p.did = a.did)
	FROM account a WHERE `

func (q *queries) standing(ctx context.Context, where, key string) (*Standing, error) {
	if !storable(key) {
		return nil, wrap(ErrNotFound, "find account %q", key)
	}
	s := new(Standing)
	dest := append(accountDest(&s.Account), &s.Creating, orEmpty{&s.InviteCode}, &s.Sessions, &s.AppPasswords)
	if err := q.get(ctx, standing+where, []any{micros(q.now()), key}, dest...); err != nil {
		return nil, wrap(err, "find account %s", key)
	}
	return s, nil
}

// StandingByDID returns an account, be it one under creation, or ErrNotFound.
func (q *queries) StandingByDID(ctx context.Context, did syntax.DID) (*Standing, error) {
	return q.standing(ctx, `a.did = ?`, string(did))
}

// StandingByHandle is StandingByDID for a handle in lower case.
func (q *queries) StandingByHandle(ctx context.Context, handle syntax.Handle) (*Standing, error) {
	return q.standing(ctx, `a.handle = ?`, string(handle))
}

// StandingByEmail is StandingByDID for an address in lower case.
func (q *queries) StandingByEmail(ctx context.Context, email string) (*Standing, error) {
	return q.standing(ctx, `a.email = ?`, email)
}
