package db

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// An OAuthRemembered is an account that a browser remembers at the pages where apps are let
// in, until ExpiresAt.
type OAuthRemembered struct {
	bun.BaseModel `bun:"table:oauth_remembered,alias:rem"`

	Browser   []byte     `bun:"browser,pk"` // keyed hash of its cookie
	DID       syntax.DID `bun:"did,pk"`
	CreatedAt time.Time  `bun:"created_at"`
	ProvedAt  time.Time  `bun:"proved_at"` // when its owner proved who they are
	ExpiresAt time.Time  `bun:"expires_at"`
	Address   string     `bun:"address"` // where that was
	Agent     string     `bun:"agent"`   // what the browser calls itself
}

var (
	setOAuthRemembered = prepared(func(b *builder) bun.Query {
		return b.insert(new(OAuthRemembered)).On("CONFLICT (browser, did) DO UPDATE").
			Set("proved_at = excluded.proved_at").Set("expires_at = excluded.expires_at").
			Set("address = excluded.address").Set("agent = excluded.agent")
	})
	deleteOldOAuthRemembered = prepared(func(b *builder) bun.Query {
		browser, did, kept := b.p(), b.p(), b.p()
		old := b.NewSelect().Model((*OAuthRemembered)(nil)).Column("did").Where("browser = ?", browser).Where("did <> ?", did).
			OrderExpr("proved_at DESC, did LIMIT 1000 OFFSET ?", kept)
		return b.NewDelete().Model((*OAuthRemembered)(nil)).Where("browser = ?", browser).Where("did IN (?)", old)
	})
	deleteOldOAuthBrowsers = prepared(func(b *builder) bun.Query {
		did, browser, kept := b.p(), b.p(), b.p()
		old := b.NewSelect().Model((*OAuthRemembered)(nil)).Column("browser").Where("did = ?", did).Where("browser <> ?", browser).
			OrderExpr("proved_at DESC, browser LIMIT 1000 OFFSET ?", kept)
		return b.NewDelete().Model((*OAuthRemembered)(nil)).Where("did = ?", did).Where("browser IN (?)", old)
	})
	// What the account ended is as over as what expired.
	selectOAuthRemembered = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*OAuthRemembered)(nil)).ColumnExpr("?TableColumns").
			Join("JOIN account AS a ON a.did = rem.did AND a.state = 'ready'").
			Where("a.takedown_ref IS NULL").Where("coalesce(a.tokens_valid_from, rem.proved_at) <= rem.proved_at").
			Where("rem.browser = ?", b.p()).Where("rem.expires_at > ?", b.p()).Order("rem.proved_at DESC", "rem.did")
	})
	selectOAuthRememberedOf = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*OAuthRemembered)(nil)).ColumnExpr("?TableColumns").
			Join("JOIN account AS a ON a.did = rem.did AND a.state = 'ready'").
			Where("coalesce(a.tokens_valid_from, rem.proved_at) <= rem.proved_at").
			Where("rem.did = ?", b.p()).Where("rem.expires_at > ?", b.p()).Order("rem.proved_at DESC", "rem.browser")
	})
	deleteOAuthRemembered = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*OAuthRemembered)(nil)).Where("browser = ?", b.p()).Where("did = ?", b.p())
	})
	deleteOAuthRememberedOf = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*OAuthRemembered)(nil)).Where("did = ?", b.p())
	})
	deleteOAuthRememberedAt = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*OAuthRemembered)(nil)).Where("browser = ?", b.p())
	})
	moveOAuthRemembered = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*OAuthRemembered)(nil)).Set("browser = ?", b.p()).Where("browser = ?", b.p())
	})
)

// RememberOAuth lets a browser remember an account that the caller has locked, from now on as
// r says where it did so before. Of more than accounts in a browser, and of more than browsers
// of an account, those proved least lately are forgotten; never r itself. It returns
// ErrNotFound when the account is gone.
func (tx *Tx) RememberOAuth(ctx context.Context, r OAuthRemembered, accounts, browsers int) error {
	_, err := tx.exec(ctx, setOAuthRemembered, values(&r)...)
	if err == nil {
		_, err = tx.exec(ctx, deleteOldOAuthRemembered, r.Browser, r.DID, accounts-1)
	}
	if err == nil {
		_, err = tx.exec(ctx, deleteOldOAuthBrowsers, r.DID, r.Browser, browsers-1)
	}
	return wrap(err, "remember %s in a browser", r.DID)
}

// OAuthRemembered returns the accounts that a browser remembers at now, those proved last
// first. Those that were taken down, or take no proofs of then any more, are not among them.
func (q *queries) OAuthRemembered(ctx context.Context, browser []byte, now time.Time) ([]OAuthRemembered, error) {
	all, err := many[OAuthRemembered](ctx, q, selectOAuthRemembered, browser, now)
	return all, wrap(err, "list accounts of a browser")
}

// OAuthRememberedOf returns the browsers that remember an account at now, those proved last
// first, but for those that the account takes no proofs of any more.
func (q *queries) OAuthRememberedOf(ctx context.Context, did syntax.DID, now time.Time) ([]OAuthRemembered, error) {
	all, err := many[OAuthRemembered](ctx, q, selectOAuthRememberedOf, did, now)
	return all, wrap(err, "list browsers that remember %s", did)
}

// ForgetOAuth lets a browser forget an account. One that it does not remember is no error.
func (tx *Tx) ForgetOAuth(ctx context.Context, browser []byte, did syntax.DID) error {
	_, err := tx.exec(ctx, deleteOAuthRemembered, browser, did)
	return wrap(err, "forget %s in a browser", did)
}

// MoveOAuthBrowser gives another browser, in place of what that has of the same kind, all
// requests that one opened and all accounts that it remembers.
func (tx *Tx) MoveOAuthBrowser(ctx context.Context, from, to []byte) error {
	_, err := tx.exec(ctx, moveOAuthRequests, to, from)
	if err == nil {
		_, err = tx.exec(ctx, deleteOAuthRememberedAt, to)
	}
	if err == nil {
		_, err = tx.exec(ctx, moveOAuthRemembered, to, from)
	}
	return wrap(err, "move what a browser has")
}
