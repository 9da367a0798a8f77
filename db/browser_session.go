package db

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// Kinds of a [BrowserSession].
const (
	BrowserOfAccount = "account" // the pages for people, of the account that it names
	BrowserOfConsole = "console" // the pages for the operator
)

// A BrowserSession is somebody who is signed in to the pages of the server with a browser,
// until ExpiresAt.
type BrowserSession struct {
	bun.BaseModel `bun:"table:browser_session,alias:bs"`

	ID        []byte     `bun:"id,pk"` // keyed hash of what the browser has in its cookie
	Kind      string     `bun:"kind"`
	DID       syntax.DID `bun:"did,nullzero"` // "" for the console
	CreatedAt time.Time  `bun:"created_at"`
	SeenAt    time.Time  `bun:"seen_at"`
	ProvedAt  time.Time  `bun:"proved_at"` // when the password was given last
	ExpiresAt time.Time  `bun:"expires_at"`
	Address   string     `bun:"address"` // where it was opened
	Agent     string     `bun:"agent"`   // what the browser calls itself, which anybody may have made up
	Bound     []byte     `bun:"bound"`   // keyed hash of what it ends with: another one ends it; nil for nothing
}

var (
	insertBrowserSession = prepared(func(b *builder) bun.Query { return b.insert(new(BrowserSession)) })
	// Those of the console have no DID, and are counted together.
	deleteOldBrowserSessions = prepared(func(b *builder) bun.Query {
		kind, did, kept, but := b.p(), b.p(), b.p(), b.p()
		old := b.NewSelect().Model((*BrowserSession)(nil)).Column("id").Where("kind = ?", kind).Where("coalesce(did, '') = ?", did).
			OrderExpr("created_at DESC, id LIMIT 1000 OFFSET ?", kept)
		return b.NewDelete().Model((*BrowserSession)(nil)).Where("id IN (?)", old).Where("id <> ?", but)
	})
	selectBrowserSession = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*BrowserSession)(nil)).Where("id = ?", b.p())
	})
	selectBrowserSessions = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*BrowserSession)(nil)).Where("kind = ?", b.p()).Where("coalesce(did, '') = ?", b.p()).Order("created_at DESC", "id")
	})
	seeBrowserSession = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*BrowserSession)(nil)).Set("seen_at = ?", b.p()).Set("expires_at = ?", b.p()).Where("id = ?", b.p())
	})
	deleteBrowserSession = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*BrowserSession)(nil)).Where("id = ?", b.p())
	})
	deleteBrowserSessionOf = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*BrowserSession)(nil)).Where("id = ?", b.p()).Where("did = ?", b.p())
	})
	deleteOtherBrowserSessions = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*BrowserSession)(nil)).Where("kind = ?", b.p()).Where("coalesce(did, '') = ?", b.p()).Where("id <> ?", b.p())
	})
	deleteBrowserSessionsOf = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*BrowserSession)(nil)).Where("did = ?", b.p())
	})
)

// InsertBrowserSession stores a session, and ends the oldest of the same account, or of the
// console, when there are more than most; never s itself, which is the oldest where the clock
// was set back; then there may be one more. It returns ErrNotFound when the account is gone.
func (tx *Tx) InsertBrowserSession(ctx context.Context, s BrowserSession, most int) error {
	_, err := tx.exec(ctx, insertBrowserSession, values(&s)...)
	if err == nil {
		_, err = tx.exec(ctx, deleteOldBrowserSessions, s.Kind, s.DID.String(), most, s.ID)
	}
	return wrap(err, "store browser session")
}

// BrowserSession returns a session, also one that is over and not purged yet, or
// ErrNotFound.
func (q *queries) BrowserSession(ctx context.Context, id []byte) (*BrowserSession, error) {
	s, err := one[BrowserSession](ctx, q, selectBrowserSession, id)
	return s, wrap(err, "read browser session")
}

// BrowserSessions returns the sessions of an account, or of the console where did is "",
// the newest first; among them those that are over and not purged yet.
func (q *queries) BrowserSessions(ctx context.Context, kind string, did syntax.DID) ([]BrowserSession, error) {
	s, err := many[BrowserSession](ctx, q, selectBrowserSessions, kind, did.String())
	return s, wrap(err, "list browser sessions")
}

// SeeBrowserSession notes that a session was used at now, and when it ends unless it is used
// again. It returns ErrNotFound when it is gone.
func (tx *Tx) SeeBrowserSession(ctx context.Context, id []byte, now, expires time.Time) error {
	return wrap(found(tx.exec(ctx, seeBrowserSession, now, expires, id)), "note use of browser session")
}

// EndBrowserSession ends a session. It returns ErrNotFound when it is gone.
func (tx *Tx) EndBrowserSession(ctx context.Context, id []byte) error {
	return wrap(found(tx.exec(ctx, deleteBrowserSession, id)), "end browser session")
}

// EndBrowserSessionOf ends a session if it is one of that account. Any other is no error.
func (tx *Tx) EndBrowserSessionOf(ctx context.Context, did syntax.DID, id []byte) error {
	_, err := tx.exec(ctx, deleteBrowserSessionOf, id, did)
	return wrap(err, "end browser session of %s", did)
}

// EndOtherBrowserSessions ends the sessions of an account, or of the console where did is
// "", but for one of them; nil is none.
func (tx *Tx) EndOtherBrowserSessions(ctx context.Context, kind string, did syntax.DID, but []byte) error {
	if but == nil {
		but = []byte{}
	}
	_, err := tx.exec(ctx, deleteOtherBrowserSessions, kind, did.String(), but)
	return wrap(err, "end browser sessions")
}
