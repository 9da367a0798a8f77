package db

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// An OAuthSession is an app that was let into an account, until RefreshExpiresAt.
type OAuthSession struct {
	bun.BaseModel `bun:"table:oauth_session,alias:os"`

	ID         []byte     `bun:"id,pk"`
	DID        syntax.DID `bun:"did"`
	ClientID   string     `bun:"client_id"`
	ClientKey  string     `bun:"client_key,nullzero"`
	ClientName string     `bun:"client_name,nullzero"`
	DPoPKey    string     `bun:"dpop_key"`
	Scope      string     `bun:"scope"`
	Consented  string     `bun:"consented"` // how the scope was spelled out when the owner saw it
	Granted    string     `bun:"granted"`   // what is left of that

	Token            []byte    `bun:"token"` // keyed hash of the id of the access token
	TokenExpiresAt   time.Time `bun:"token_expires_at"`
	Refresh          []byte    `bun:"refresh"` // keyed hash of the refresh token; nil: there is none
	RefreshExpiresAt time.Time `bun:"refresh_expires_at"`
	Refreshes        int64     `bun:"refreshes"` // how often it was refreshed
	Code             []byte    `bun:"code"`      // keyed hash of the code that it was opened with

	CreatedAt time.Time `bun:"created_at"`
	UsedAt    time.Time `bun:"used_at"` // when it was opened or refreshed last
	ExpiresAt time.Time `bun:"expires_at"`
	Address   string    `bun:"address"` // where the owner let the app in
	Agent     string    `bun:"agent"`   // what the browser calls itself
}

// A spentOAuthRefresh is a refresh token that was exchanged.
type spentOAuthRefresh struct {
	bun.BaseModel `bun:"table:oauth_spent_refresh,alias:sr"`

	Refresh    []byte    `bun:"refresh,pk"`
	Session    []byte    `bun:"session"`
	Generation int64     `bun:"generation"` // its place among those of the session
	SpentAt    time.Time `bun:"spent_at"`
}

// oauthSessions selects the sessions that their accounts have not ended: a takedown does, and
// so does what ends all tokens that were issued until then.
func (b *builder) oauthSessions() *bun.SelectQuery {
	return b.NewSelect().Model((*OAuthSession)(nil)).ColumnExpr("?TableColumns").
		Join("JOIN account AS a ON a.did = os.did AND a.state = 'ready'").
		Where("a.takedown_ref IS NULL").Where("coalesce(a.tokens_valid_from, os.created_at) <= os.created_at")
}

var (
	insertOAuthSession     = prepared(func(b *builder) bun.Query { return b.insert(new(OAuthSession)) })
	deleteOldOAuthSessions = prepared(func(b *builder) bun.Query {
		did, but, kept := b.p(), b.p(), b.p()
		old := b.NewSelect().Model((*OAuthSession)(nil)).Column("id").Where("did = ?", did).Where("id <> ?", but).
			OrderExpr("used_at DESC, id LIMIT 1000 OFFSET ?", kept)
		return b.NewDelete().Model((*OAuthSession)(nil)).Where("id IN (?)", old)
	})
	selectOAuthSessionByToken = prepared(func(b *builder) bun.Query {
		return b.oauthSessions().Where("os.token = ?", b.p())
	})
	selectOAuthSessionByRefresh = prepared(func(b *builder) bun.Query {
		return b.oauthSessions().Where("os.refresh = ?", b.p())
	})
	selectOAuthSessionByCode = prepared(func(b *builder) bun.Query {
		return b.oauthSessions().Where("os.code = ?", b.p())
	})
	selectOAuthSessionBySpent = prepared(func(b *builder) bun.Query {
		return b.oauthSessions().ColumnExpr("sr.spent_at").
			Join("JOIN oauth_spent_refresh AS sr ON sr.session = os.id").Where("sr.refresh = ?", b.p())
	})
	selectOAuthSessionOf = prepared(func(b *builder) bun.Query {
		return b.oauthSessions().Where("os.id = ?", b.p()).Where("os.did = ?", b.p())
	})
	selectOAuthSessions = prepared(func(b *builder) bun.Query {
		return b.oauthSessions().Where("os.did = ?", b.p()).Where("os.refresh_expires_at > ?", b.p()).Order("os.created_at DESC", "os.id")
	})
	refreshOAuthSession = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*OAuthSession)(nil)).Set("client_key = ?", b.p()).Set("granted = ?", b.p()).
			Set("token = ?", b.p()).Set("token_expires_at = ?", b.p()).Set("refresh = ?", b.p()).Set("refresh_expires_at = ?", b.p()).
			Set("refreshes = ?", b.p()).Set("used_at = ?", b.p()).Set("expires_at = ?", b.p()).
			Where("id = ?", b.p()).Where("refresh = ?", b.p())
	})
	insertSpentOAuthRefresh      = prepared(func(b *builder) bun.Query { return b.insert(new(spentOAuthRefresh)) })
	deleteOldSpentOAuthRefreshes = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*spentOAuthRefresh)(nil)).Where("session = ?", b.p()).Where("generation <= ?", b.p())
	})
	deleteOAuthSession = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*OAuthSession)(nil)).Where("id = ?", b.p()).Where("did = ?", b.p())
	})
	deleteOAuthSessionsOf = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*OAuthSession)(nil)).Where("did = ?", b.p())
	})
)

// maxSpentOAuthRefreshes is how many refresh tokens of a session are known that were exchanged.
const maxSpentOAuthRefreshes = 64

// InsertOAuthSession stores a session of an account that the caller has locked, and ends
// those of the account that were not used for longest when there are more than most; never s
// itself. It returns ErrNotFound when the account is gone.
func (tx *Tx) InsertOAuthSession(ctx context.Context, s OAuthSession, most int) error {
	_, err := tx.exec(ctx, insertOAuthSession, values(&s)...)
	if err == nil {
		_, err = tx.exec(ctx, deleteOldOAuthSessions, s.DID, s.ID, most-1)
	}
	return wrap(err, "store session of an app with %s", s.DID)
}

// OAuthSessionByToken returns the session that has an access token now, also one that is
// over and not purged yet, or ErrNotFound. Like those that follow it knows no session that
// its account has ended, by a takedown or because no tokens of then are valid.
func (q *queries) OAuthSessionByToken(ctx context.Context, token []byte) (*OAuthSession, error) {
	s, err := one[OAuthSession](ctx, q, selectOAuthSessionByToken, token)
	return s, wrap(err, "read session of access token")
}

// OAuthSessionByRefresh returns the session that has a refresh token now, or ErrNotFound.
func (q *queries) OAuthSessionByRefresh(ctx context.Context, refresh []byte) (*OAuthSession, error) {
	s, err := one[OAuthSession](ctx, q, selectOAuthSessionByRefresh, refresh)
	return s, wrap(err, "read session of refresh token")
}

// OAuthSessionByCode returns the session that was opened with a code, or ErrNotFound.
func (q *queries) OAuthSessionByCode(ctx context.Context, code []byte) (*OAuthSession, error) {
	s, err := one[OAuthSession](ctx, q, selectOAuthSessionByCode, code)
	return s, wrap(err, "read session of authorization code")
}

// OAuthSessionBySpent returns the session that had a refresh token once, which is one of the
// latest 64 that were exchanged, and when it was. Else it returns ErrNotFound.
func (q *queries) OAuthSessionBySpent(ctx context.Context, refresh []byte) (*OAuthSession, time.Time, error) {
	var s OAuthSession
	var spent time.Time
	err := q.scan(ctx, selectOAuthSessionBySpent, []any{refresh}, append(places(&s), (*stamp)(&spent)))
	if err != nil {
		return nil, time.Time{}, wrap(err, "read session of spent refresh token")
	}
	return &s, spent, nil
}

// OAuthSession returns a session of an account, or ErrNotFound.
func (q *queries) OAuthSession(ctx context.Context, did syntax.DID, id []byte) (*OAuthSession, error) {
	s, err := one[OAuthSession](ctx, q, selectOAuthSessionOf, id, did)
	return s, wrap(err, "read session of an app with %s", did)
}

// OAuthSessions returns the sessions of an account that are not over at now, the newest
// first.
func (q *queries) OAuthSessions(ctx context.Context, did syntax.DID, now time.Time) ([]OAuthSession, error) {
	all, err := many[OAuthSession](ctx, q, selectOAuthSessions, did, now)
	return all, wrap(err, "list sessions of apps with %s", did)
}

// RefreshOAuthSession exchanges the refresh token old of a session, which is spent at
// s.UsedAt, and stores what may have changed: the key of the client, what is granted, both
// tokens, and their times. It returns ErrNotFound when the session is gone or has another
// refresh token.
func (tx *Tx) RefreshOAuthSession(ctx context.Context, s *OAuthSession, old []byte) error {
	err := found(tx.exec(ctx, refreshOAuthSession, orNull(s.ClientKey), s.Granted, s.Token, s.TokenExpiresAt, s.Refresh, s.RefreshExpiresAt,
		s.Refreshes, s.UsedAt, s.ExpiresAt, s.ID, old))
	if err == nil {
		spent := spentOAuthRefresh{Refresh: old, Session: s.ID, Generation: s.Refreshes, SpentAt: s.UsedAt}
		err = tx.later(ctx, "store spent refresh token", insertSpentOAuthRefresh, values(&spent)...)
	}
	if err == nil && s.Refreshes > maxSpentOAuthRefreshes {
		err = tx.later(ctx, "forget spent refresh tokens", deleteOldSpentOAuthRefreshes, s.ID, s.Refreshes-maxSpentOAuthRefreshes)
	}
	return wrap(err, "refresh session of an app with %s", s.DID)
}

// EndOAuthSession ends a session if it is one of that account. It returns ErrNotFound for
// any other.
func (tx *Tx) EndOAuthSession(ctx context.Context, did syntax.DID, id []byte) error {
	return wrap(found(tx.exec(ctx, deleteOAuthSession, id, did)), "end session of an app with %s", did)
}

// EndOAuth ends all that OAuth knows of an account: sessions of apps, codes that were not
// exchanged, browsers that remember it, and what its owner consented to. It returns
// ErrNotFound when there is no account.
func (tx *Tx) EndOAuth(ctx context.Context, did syntax.DID) error {
	_, err := tx.LockAccount(ctx, did) // nothing of it may be under way
	if err == nil {
		err = tx.endOAuth(ctx, did)
	}
	return wrap(err, "end sessions of apps with %s", did)
}

func (tx *Tx) endOAuth(ctx context.Context, did syntax.DID) error {
	for _, s := range []*statement{deleteOAuthSessionsOf, deleteOAuthRequestsOf, deleteOAuthRememberedOf, deleteOAuthConsentsOf} {
		if _, err := tx.exec(ctx, s, did); err != nil {
			return err
		}
	}
	return nil
}
