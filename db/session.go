package db

import (
	"context"
	"errors"
	"reflect"
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

// A LinkedSession is a session with its place among those that came from each other.
type LinkedSession struct {
	Session `bun:",extend"`

	Family     []byte `bun:"family"`     // the id of the one that was opened with a password
	Generation int64  `bun:"generation"` // how many exchanges lie between
}

var (
	insertSession = prepared(func(b *builder) bun.Query { return b.insert(new(LinkedSession)) })
	// Refreshing twice gives the same successor, which may be there.
	insertSuccessor = prepared(func(b *builder) bun.Query { return b.insert(new(LinkedSession)).On("CONFLICT (id) DO NOTHING") })
	// All that are too many go each time, which is one as a rule.
	deleteOldFamilies = prepared(func(b *builder) bun.Query {
		did := b.p()
		old := b.NewSelect().Model((*LinkedSession)(nil)).Column("family").
			Where("did = ?", did).Where("next_id IS NULL").Where("(app_password IS NULL) = ?", b.p()).
			OrderExpr("created_at DESC LIMIT 100 OFFSET ?", b.p())
		return b.NewDelete().Model((*LinkedSession)(nil)).Where("did = ?", did).Where("family IN (?)", old)
	})
	// FOR KEY SHARE is what a successor's foreign key asks for anyhow.
	lockOwnerOfSession = prepared(func(b *builder) bun.Query {
		owner := b.NewSelect().Model((*Session)(nil)).Column("did").Where("id = ?", b.p())
		return b.lock("KEY SHARE", b.NewSelect().Model((*Account)(nil)).Column("did").Where("a.did = (?)", owner))
	})
	lockSession = prepared(func(b *builder) bun.Query {
		address, id := b.p(), b.p()
		s := b.NewSelect().Model((*LinkedSession)(nil)).ColumnExpr("?TableColumns")
		for _, f := range fields(reflect.TypeFor[Account](), nil) {
			s = s.ColumnExpr("a.?", bun.Ident(f.Name))
		}
		oldest := b.NewSelect().TableExpr("session AS o").ColumnExpr("min(o.generation)").Where("o.did = s.did").Where("o.family = s.family")
		s = s.ColumnExpr("p.privileged").ColumnExpr("known_address.seen_at").ColumnExpr("(?) AS oldest", oldest).
			Join("JOIN account AS a ON a.did = s.did AND a.state = 'ready'").
			Join("LEFT JOIN app_password AS p ON p.did = s.did AND p.name = s.app_password").
			Join("LEFT JOIN known_address ON known_address.did = s.did AND known_address.address = ?", address)
		return b.lock("UPDATE OF s", s.Where("s.id = ?", id))
	})
	exchangeSession = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*Session)(nil)).Set("expires_at = ?", b.p()).Set("next_id = ?", b.p()).Where("id = ?", b.p())
	})
	deleteOldGenerations = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*LinkedSession)(nil)).Where("did = ?", b.p()).Where("family = ?", b.p()).Where("generation <= ?", b.p())
	})
	deleteFamily = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*LinkedSession)(nil)).Where("did = ?", b.p()).Where("family = ?", b.p())
	})
	deleteSessions = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*Session)(nil)).Where("did = ?", b.p())
	})
	selectSession = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*Session)(nil)).Where("id = ?", b.p())
	})
	selectFamily = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*LinkedSession)(nil)).Column("did", "family").Where("id = ?", b.p())
	})
	selectLinkedSessions = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*LinkedSession)(nil)).Where("did = ?", b.p()).Order("created_at", "id")
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
	_, err := tx.exec(ctx, insertSession, values(&LinkedSession{Session: s, Family: s.ID})...)
	if err == nil {
		_, err = tx.exec(ctx, deleteOldFamilies, s.DID, s.AppPassword == nil, maxFamilies)
	}
	return wrap(err, "store session of %s", s.DID)
}

// InsertAdoptedSession stores a session that was begun elsewhere, in the place that it has
// among those that came from each other: family is the id of the first of them, and
// generation how many exchanges lie between. It returns ErrNotFound when the account is gone.
func (tx *Tx) InsertAdoptedSession(ctx context.Context, s Session, family []byte, generation int64) error {
	_, err := tx.exec(ctx, insertSession, values(&LinkedSession{Session: s, Family: family, Generation: generation})...)
	return wrap(err, "store session of %s", s.DID)
}

// A LockedSession is a session with what decides how it goes on.
type LockedSession struct {
	LinkedSession
	Account Account
	// Privileged says whether the app password that the session was opened with is; nil:
	// there is none.
	Privileged *bool
	// SeenHere says that the owner is known to have been where the request came from, as of
	// less than an hour ago: [Tx.KnowAddress] would change nothing.
	SeenHere bool

	oldest int64 // generation of the family that is kept
}

// LockSession returns a session with its account and what belongs to both, and keeps other
// transactions from exchanging it, and from changing the account, until this one ends.
// address is where the request came from, as in [Tx.KnowAddress], or empty.
//
// It returns ErrNotFound when there is no such session, or none any more of an account.
func (tx *Tx) LockSession(ctx context.Context, id []byte, address string, now time.Time) (*LockedSession, error) {
	s, err := tx.lockSession(ctx, id, address, now)
	return s, wrap(err, "lock session")
}

func (tx *Tx) lockSession(ctx context.Context, id []byte, address string, now time.Time) (*LockedSession, error) {
	var locked *LockedSession
	read := read{lockSession, []any{address, id}, func(row scanner) error {
		s := new(LockedSession)
		var seen time.Time
		dest := append(places(&s.LinkedSession), places(&s.Account)...)
		if err := row.Scan(append(dest, &s.Privileged, (*stamp)(&seen), &s.oldest)...); err != nil {
			return err
		}
		s.SeenHere = !seen.IsZero() && seen.After(now.Add(-renewAfter))
		locked = s
		return nil
	}, nil}
	var err error
	if tx.postgres {
		// The account first, as everybody does.
		err = tx.together(ctx, onlyLock(lockOwnerOfSession, id), read)
	} else {
		err = tx.together(ctx, read)
	}
	if err == nil && locked == nil {
		err = ErrNotFound
	}
	return locked, err
}

// Exchange exchanges a session that is locked for its successor nextID, which lives for
// life, and lets the session itself live for grace from now, counted from its first
// exchange. Exchanging it again within that time gives the same successor, made
// anew if it is gone. Of the sessions that came from each other the latest 64 stay.
//
// It returns ErrNotFound when the session is over, and ErrStale when it has another
// successor than nextID.
func (tx *Tx) Exchange(
	ctx context.Context, s *LockedSession, nextID []byte, now time.Time, grace, life time.Duration,
) (*Session, error) {
	next, err := tx.exchange(ctx, s, nextID, now, grace, life)
	return next, wrap(err, "exchange session")
}

func (tx *Tx) exchange(
	ctx context.Context, s *LockedSession, nextID []byte, now time.Time, grace, life time.Duration,
) (*Session, error) {
	expires := s.ExpiresAt
	if end := now.Add(grace).Truncate(time.Microsecond); end.Before(expires) {
		expires = end
	}
	if !expires.After(now) {
		return nil, ErrNotFound
	}
	again := s.NextID != nil
	if again && !slices.Equal(s.NextID, nextID) {
		return nil, ErrStale
	}
	if !again || expires.Before(s.ExpiresAt) {
		if err := tx.later(ctx, "update session", exchangeSession, expires, nextID, s.ID); err != nil {
			return nil, err
		}
	}
	next := LinkedSession{
		Session:    Session{ID: nextID, DID: s.DID, AppPassword: s.AppPassword, CreatedAt: stored(now), ExpiresAt: stored(now.Add(life))},
		Family:     s.Family,
		Generation: s.Generation + 1,
	}
	insert := insertSession
	if again {
		insert = insertSuccessor
	}
	if err := tx.later(ctx, "store successor", insert, values(&next)...); err != nil {
		return nil, err
	}
	if through := next.Generation - maxGenerations; s.oldest <= through {
		if err := tx.later(ctx, "delete old generations", deleteOldGenerations, s.DID, s.Family, through); err != nil {
			return nil, err
		}
	}
	if again {
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
		_, err = tx.exec(ctx, deleteFamily, did, family)
	}
	return err
}

// EndSessions ends all sessions of an account, those of browsers and of apps too, and all
// else that [Tx.EndOAuth] does. It returns ErrNotFound when there is no account.
func (tx *Tx) EndSessions(ctx context.Context, did syntax.DID) error {
	_, err := tx.LockAccount(ctx, did)
	if err == nil {
		_, err = tx.exec(ctx, deleteSessions, did)
	}
	if err == nil {
		_, err = tx.exec(ctx, deleteBrowserSessionsOf, did)
	}
	if err == nil {
		err = tx.endOAuth(ctx, did)
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

// LinkedSessions returns the sessions of an account, the oldest first.
func (q *queries) LinkedSessions(ctx context.Context, did syntax.DID) ([]LinkedSession, error) {
	sessions, err := many[LinkedSession](ctx, q, selectLinkedSessions, did)
	return sessions, wrap(err, "list sessions of %s", did)
}
