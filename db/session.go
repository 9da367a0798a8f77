package db

import (
	"context"
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

// link is a session with its place among those that came from each other.
type link struct {
	Session `bun:",extend"`

	Family     []byte `bun:"family"`     // the id of the one that was opened with a password
	Generation int64  `bun:"generation"` // how many exchanges lie between
}

var (
	insertSession = prepared(func(b *builder) bun.Query { return b.insert(new(link)) })
	// Refreshing twice gives the same successor, which may be there.
	insertSuccessor = prepared(func(b *builder) bun.Query { return b.insert(new(link)).On("CONFLICT (id) DO NOTHING") })
	// All that are too many go each time, which is one as a rule.
	deleteOldFamilies = prepared(func(b *builder) bun.Query {
		old := b.NewSelect().Model((*link)(nil)).Column("family").
			Where("did = ?", b.p()).Where("next_id IS NULL").Where("(app_password IS NULL) = ?", b.p()).
			OrderExpr("created_at DESC LIMIT 100 OFFSET ?", b.p())
		return b.NewDelete().Model((*link)(nil)).Where("family IN (?)", old)
	})
	// FOR KEY SHARE is what a successor's foreign key asks for anyhow.
	lockOwnerOfSession = prepared(func(b *builder) bun.Query {
		owner := b.NewSelect().Model((*Session)(nil)).Column("did").Where("id = ?", b.p())
		return b.lock("KEY SHARE", b.NewSelect().Model((*Account)(nil)).Column("did").Where("a.did = (?)", owner))
	})
	lockSession = prepared(func(b *builder) bun.Query {
		return b.lock("UPDATE", b.NewSelect().Model((*link)(nil)).Where("id = ?", b.p()))
	})
	exchangeSession = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*Session)(nil)).Set("expires_at = ?", b.p()).Set("next_id = ?", b.p()).Where("id = ?", b.p())
	})
	deleteOldGenerations = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*link)(nil)).Where("family = ?", b.p()).Where("generation <= ?", b.p())
	})
	deleteFamily = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*link)(nil)).Where("family = ?", b.p())
	})
	deleteSessions = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*Session)(nil)).Where("did = ?", b.p())
	})
	selectSession = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*Session)(nil)).Where("id = ?", b.p())
	})
	selectFamily = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*link)(nil)).Column("did", "family").Where("id = ?", b.p())
	})
	selectSessions = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*Session)(nil)).Where("did = ?", b.p()).Order("created_at DESC", "id")
	})
)

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
	_, err := tx.exec(ctx, insertSession, values(&link{Session: s, Family: s.ID})...)
	if err == nil {
		_, err = tx.exec(ctx, deleteOldFamilies, s.DID, s.AppPassword == nil, maxFamilies)
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
		// The account first, as everybody does.
		var did string
		if err := tx.get(ctx, lockOwnerOfSession, []any{id}, &did); err != nil {
			return nil, err
		}
	}
	s, err := one[link](ctx, &tx.queries, lockSession, id)
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
	if _, err := tx.exec(ctx, exchangeSession, expires, nextID, id); err != nil {
		return nil, err
	}
	next := link{
		Session:    Session{ID: nextID, DID: s.DID, AppPassword: s.AppPassword, CreatedAt: stored(now), ExpiresAt: stored(now.Add(life))},
		Family:     s.Family,
		Generation: s.Generation + 1,
	}
	inserted, err := tx.exec(ctx, insertSuccessor, values(&next)...)
	if err != nil {
		return nil, err
	}
	if _, err := tx.exec(ctx, deleteOldGenerations, s.Family, next.Generation-maxGenerations); err != nil {
		return nil, err
	}
	if inserted == 0 { // exchanged before
		return one[Session](ctx, &tx.queries, selectSession, nextID)
	}
	return &next.Session, nil
}

// EndSession ends a session together with the ones it came from and the ones
// that came from it. An unknown id is no error.
func (tx *Tx) EndSession(ctx context.Context, id []byte) error {
	return wrap(tx.endSession(ctx, id), "end session")
}

func (tx *Tx) endSession(ctx context.Context, id []byte) error {
	var did syntax.DID
	var family []byte
	err := tx.get(ctx, selectFamily, []any{id}, &did, &family)
	if err == nil {
		_, err = tx.LockAccount(ctx, did) // no exchange of this session may be under way
	}
	if errors.Is(err, ErrNotFound) {
		return nil // unknown, or deleted just now with its account
	}
	if err == nil {
		_, err = tx.exec(ctx, deleteFamily, family)
	}
	return err
}

// EndSessions ends all sessions of an account. It returns ErrNotFound when there
// is no account.
func (tx *Tx) EndSessions(ctx context.Context, did syntax.DID) error {
	_, err := tx.LockAccount(ctx, did)
	if err == nil {
		_, err = tx.exec(ctx, deleteSessions, did)
	}
	return wrap(err, "end sessions of %s", did)
}

// Session returns a session, also one that is over and not purged yet, or
// ErrNotFound.
func (q *queries) Session(ctx context.Context, id []byte) (*Session, error) {
	s, err := one[Session](ctx, q, selectSession, id)
	return s, wrap(err, "read session")
}

// Sessions returns the sessions of an account, the newest first.
func (q *queries) Sessions(ctx context.Context, did syntax.DID) ([]Session, error) {
	sessions, err := many[Session](ctx, q, selectSessions, did)
	return sessions, wrap(err, "list sessions of %s", did)
}
