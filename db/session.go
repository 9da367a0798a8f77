package db

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// A Session is a refresh token that works until ExpiresAt.
type Session struct {
	bun.BaseModel `bun:"table:session,alias:s"`

	ID          []byte     `bun:"id,pk"` // keyed hash of the token's id
	DID         syntax.DID `bun:"did"`
	AppPassword *string    `bun:"app_password"` // the name, which may be empty, of the one it was opened with; nil for none
	CreatedAt   time.Time  `bun:"created_at"`
	ExpiresAt   time.Time  `bun:"expires_at"`
	NextID      []byte     `bun:"next_id"` // of the successor, once refreshed
}

const sessionColumns = `s.id, s.did, s.app_password, s.created_at, s.expires_at, s.next_id`

func (s *Session) dest() []any {
	return []any{
		&s.ID, (*string)(&s.DID), &s.AppPassword, (*stamp)(&s.CreatedAt), (*stamp)(&s.ExpiresAt), &s.NextID,
	}
}

// What is kept of sessions.
const (
	// maxGenerations is how many sessions of a family there are: a client that goes on
	// refreshing loses the oldest, though their grace is not over.
	maxGenerations = 64
	// maxFamilies is how many sessions may be opened, of an account with its own password
	// and again of it with app passwords: the next one ends the oldest.
	maxFamilies = 500
)

// InsertSession stores a session that begins a family, and ends the oldest families of
// the account when it has too many. It returns ErrNotFound when the account is gone.
func (tx *Tx) InsertSession(ctx context.Context, s Session) error {
	_, err := tx.execText(ctx, `INSERT INTO session (id, did, app_password, created_at, expires_at, next_id, family, generation)
		VALUES (?, ?, ?, ?, ?, ?, ?, 0)`,
		s.ID, string(s.DID), s.AppPassword, micros(s.CreatedAt), micros(s.ExpiresAt), s.NextID, s.ID)
	if err == nil {
		// Each time all that are too many, which is one as a rule.
		_, err = tx.execText(ctx, `DELETE FROM session WHERE family IN (
			SELECT family FROM session WHERE did = ? AND next_id IS NULL AND (app_password IS NULL) = ?
			ORDER BY created_at DESC LIMIT 100 OFFSET ?)`, string(s.DID), s.AppPassword == nil, maxFamilies)
	}
	return wrap(err, "store session of %s", s.DID)
}

// RotateSession exchanges the session id for its successor nextID, which lives
// for life, and lets id itself live for grace from now, counted from its first
// exchange. Exchanging it again within that time gives the same successor, made
// anew if it is gone. Of the sessions that came from each other the latest 64 stay.
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
		err := tx.getText(ctx, `SELECT did FROM account WHERE did = (SELECT did FROM session WHERE id = ?) {FOR KEY SHARE}`, []any{id}, &did)
		if err != nil {
			return nil, err
		}
	}
	var s Session
	var family []byte
	var generation int64
	err := tx.getText(ctx, `SELECT `+sessionColumns+`, s.family, s.generation FROM session s WHERE s.id = ? {FOR UPDATE}`, []any{id},
		append(s.dest(), &family, &generation)...)
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
	_, err = tx.execText(ctx, `UPDATE session SET expires_at = ?, next_id = ? WHERE id = ?`, micros(expires), nextID, id)
	if err != nil {
		return nil, err
	}
	if _, err = tx.execText(ctx, `INSERT INTO session (id, did, app_password, created_at, expires_at, family, generation)
		VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
		nextID, string(s.DID), s.AppPassword, micros(now), micros(now.Add(life)), family, generation+1); err != nil {
		return nil, err
	}
	_, err = tx.execText(ctx, `DELETE FROM session WHERE family = ? AND generation <= ?`, family, generation+1-maxGenerations)
	if err != nil {
		return nil, err
	}
	var next Session
	err = tx.getText(ctx, `SELECT `+sessionColumns+` FROM session s WHERE s.id = ?`, []any{nextID}, next.dest()...)
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
	var family []byte
	err := tx.getText(ctx, `SELECT did, family FROM session WHERE id = ?`, []any{id}, &did, &family)
	if err == nil {
		_, err = tx.LockAccount(ctx, syntax.DID(did)) // no exchange of this session may be under way
	}
	if errors.Is(err, ErrNotFound) {
		return nil // unknown, or deleted just now with its account
	}
	if err == nil {
		_, err = tx.execText(ctx, `DELETE FROM session WHERE family = ?`, family)
	}
	return err
}

// EndSessions ends all sessions of an account. It returns ErrNotFound when there
// is no account.
func (tx *Tx) EndSessions(ctx context.Context, did syntax.DID) error {
	_, err := tx.LockAccount(ctx, did)
	if err == nil {
		_, err = tx.execText(ctx, `DELETE FROM session WHERE did = ?`, string(did))
	}
	return wrap(err, "end sessions of %s", did)
}

// Session returns a session, also one that is over and not purged yet, or
// ErrNotFound.
func (q *queries) Session(ctx context.Context, id []byte) (*Session, error) {
	s := new(Session)
	if err := q.getText(ctx, `SELECT `+sessionColumns+` FROM session s WHERE s.id = ?`, []any{id}, s.dest()...); err != nil {
		return nil, wrap(err, "read session")
	}
	return s, nil
}

// Sessions returns the sessions of an account, the newest first.
func (q *queries) Sessions(ctx context.Context, did syntax.DID) ([]Session, error) {
	var all []Session
	err := q.eachText(ctx, `SELECT `+sessionColumns+` FROM session s WHERE s.did = ? ORDER BY s.created_at DESC, s.id`, []any{string(did)},
		func(row *sql.Rows) error {
			var s Session
			err := row.Scan(s.dest()...)
			all = append(all, s)
			return err
		})
	return all, wrap(err, "list sessions of %s", did)
}
