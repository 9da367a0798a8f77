package db

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// A Session is a refresh token that works until ExpiresAt.
type Session struct {
	ID          []byte // keyed hash of the token's id
	DID         syntax.DID
	AppPassword *string // the name, which may be empty, of the one it was opened with; nil for none
	CreatedAt   time.Time
	ExpiresAt   time.Time
	NextID      []byte // of the successor, once refreshed
}

const sessionColumns = `s.id, s.did, s.app_password, s.created_at, s.expires_at, s.next_id`

func (s *Session) dest() []any {
	return []any{
		&s.ID, (*string)(&s.DID), &s.AppPassword, (*stamp)(&s.CreatedAt), (*stamp)(&s.ExpiresAt), &s.NextID,
	}
}

// InsertSession stores a session. It returns ErrNotFound when the account is gone.
func (tx *Tx) InsertSession(ctx context.Context, s Session) error {
	_, err := tx.exec(ctx, `INSERT INTO session (id, did, app_password, created_at, expires_at, next_id) VALUES (?, ?, ?, ?, ?, ?)`,
		s.ID, string(s.DID), s.AppPassword, micros(s.CreatedAt), micros(s.ExpiresAt), s.NextID)
	return wrap(err, "store session of %s", s.DID)
}

// RotateSession exchanges the session id for its successor nextID, which lives
// for life, and lets id itself live for grace from now, counted from its first
// exchange. Exchanging it again within that time gives the same successor, made
// anew if it is gone. Expired rows of the account are purged.
//
// It returns ErrNotFound when the session is unknown or over, and ErrStale when
// it has another successor than nextID.
func (tx *Tx) RotateSession(
	ctx context.Context, id, nextID []byte, now time.Time, grace, life time.Duration,
) (*Session, error) {
	next, err := tx.rotate(ctx, id, nextID, now, grace, life)
	return next, wrap(err, "rotate session")
}

func (tx *Tx) rotate(ctx context.Context, id, nextID []byte, now time.Time, grace, life time.Duration) (*Session, error) {
	if tx.postgres {
		// The account first, as everybody does; FOR KEY SHARE is what the
		// successor's foreign key will ask for anyhow.
		var did string
		err := tx.get(ctx, `SELECT did FROM account WHERE did = (SELECT did FROM session WHERE id = ?) {FOR KEY SHARE}`, []any{id}, &did)
		if err != nil {
			return nil, err
		}
	}
	var s Session
	err := tx.get(ctx, `SELECT `+sessionColumns+` FROM session s WHERE s.id = ? {FOR UPDATE}`, []any{id}, s.dest()...)
	if err != nil {
		return nil, err
	}
	expires := s.ExpiresAt
	if end := now.Add(grace).Truncate(time.Microsecond); end.Before(expires) {
		expires = end
	}
	if !expires.After(now) {
		return nil, ErrNotFound
	}
	if s.NextID != nil && !slices.Equal(s.NextID, nextID) {
		return nil, ErrStale
	}
	_, err = tx.exec(ctx, `UPDATE session SET expires_at = ?, next_id = ? WHERE id = ?`, micros(expires), nextID, id)
	if err != nil {
		return nil, err
	}
	if _, err = tx.exec(ctx, `INSERT INTO session (id, did, app_password, created_at, expires_at) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (id) DO NOTHING`, nextID, string(s.DID), s.AppPassword, micros(now), micros(now.Add(life))); err != nil {
		return nil, err
	}
	if _, err = tx.exec(ctx, `DELETE FROM session WHERE did = ? AND expires_at <= ?`, string(s.DID), micros(now)); err != nil {
		return nil, err
	}
	var next Session
	err = tx.get(ctx, `SELECT `+sessionColumns+` FROM session s WHERE s.id = ?`, []any{nextID}, next.dest()...)
	if err != nil {
		return nil, err
	}
	return &next, nil
}

// EndSession ends a session together with the ones it came from and the ones
// that came from it. An unknown id is no error.
func (tx *Tx) EndSession(ctx context.Context, id []byte) error {
	return wrap(tx.endSession(ctx, id), "end session")
}

func (tx *Tx) endSession(ctx context.Context, id []byte) error {
	var did string
	err := tx.get(ctx, `SELECT did FROM session WHERE id = ?`, []any{id}, &did)
	if err == nil {
		_, err = tx.LockAccount(ctx, syntax.DID(did)) // no exchange of this session may be under way
	}
	if errors.Is(err, ErrNotFound) {
		return nil // unknown, or deleted just now with its account
	}
	if err != nil {
		return err
	}
	// A session has one predecessor and one successor at most. In two hours a client
	// can make its chain as long as it likes, so it is walked in one statement each.
	for _, walk := range []string{
		`SELECT s.id FROM session s JOIN family f ON s.next_id = f.id`,
		`SELECT s.next_id FROM session s JOIN family f ON s.id = f.id WHERE s.next_id IS NOT NULL`,
	} {
		_, err := tx.exec(ctx, `WITH RECURSIVE family (id) AS (SELECT id FROM session WHERE id = ? UNION `+walk+`)
			DELETE FROM session WHERE id IN (SELECT id FROM family) AND id <> ?`, id, id)
		if err != nil {
			return err
		}
	}
	_, err = tx.exec(ctx, `DELETE FROM session WHERE id = ?`, id)
	return err
}

// EndSessions ends all sessions of an account. It returns ErrNotFound when there
// is no account.
func (tx *Tx) EndSessions(ctx context.Context, did syntax.DID) error {
	_, err := tx.LockAccount(ctx, did)
	if err == nil {
		_, err = tx.exec(ctx, `DELETE FROM session WHERE did = ?`, string(did))
	}
	return wrap(err, "end sessions of %s", did)
}

// Session returns a session, also one that is over and not purged yet, or
// ErrNotFound.
func (q *queries) Session(ctx context.Context, id []byte) (*Session, error) {
	s := new(Session)
	if err := q.get(ctx, `SELECT `+sessionColumns+` FROM session s WHERE s.id = ?`, []any{id}, s.dest()...); err != nil {
		return nil, wrap(err, "read session")
	}
	return s, nil
}

// Sessions returns the sessions of an account, the newest first.
func (q *queries) Sessions(ctx context.Context, did syntax.DID) ([]Session, error) {
	var all []Session
	err := q.each(ctx, `SELECT `+sessionColumns+` FROM session s WHERE s.did = ? ORDER BY s.created_at DESC, s.id`, []any{string(did)},
		func(row *sql.Rows) error {
			var s Session
			err := row.Scan(s.dest()...)
			all = append(all, s)
			return err
		})
	return all, wrap(err, "list sessions of %s", did)
}
