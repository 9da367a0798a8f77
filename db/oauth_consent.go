package db

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// An OAuthConsent is what the owner of an account allowed an app, and need not be asked
// again.
type OAuthConsent struct {
	bun.BaseModel `bun:"table:oauth_consent,alias:oc"`

	DID       syntax.DID `bun:"did,pk"`
	ClientID  string     `bun:"client_id,pk"`
	Scope     string     `bun:"scope"`
	Granted   string     `bun:"granted"` // how the scope was spelled out
	UpdatedAt time.Time  `bun:"updated_at"`
}

var (
	setOAuthConsent = prepared(func(b *builder) bun.Query {
		return b.insert(new(OAuthConsent)).On("CONFLICT (did, client_id) DO UPDATE").
			Set("scope = excluded.scope").Set("granted = excluded.granted").Set("updated_at = excluded.updated_at")
	})
	deleteOldOAuthConsents = prepared(func(b *builder) bun.Query {
		did, client, kept := b.p(), b.p(), b.p()
		old := b.NewSelect().Model((*OAuthConsent)(nil)).Column("client_id").Where("did = ?", did).Where("client_id <> ?", client).
			OrderExpr("updated_at DESC, client_id LIMIT 1000 OFFSET ?", kept)
		return b.NewDelete().Model((*OAuthConsent)(nil)).Where("did = ?", did).Where("client_id IN (?)", old)
	})
	selectOAuthConsent = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*OAuthConsent)(nil)).Where("did = ?", b.p()).Where("client_id = ?", b.p())
	})
	deleteOAuthConsent = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*OAuthConsent)(nil)).Where("did = ?", b.p()).Where("client_id = ?", b.p())
	})
	deleteOAuthConsentsOf = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*OAuthConsent)(nil)).Where("did = ?", b.p())
	})
)

// SetOAuthConsent stores what the owner of an account that the caller has locked allows an
// app, instead of what that was before. Of more than most of an account the oldest are
// forgotten; never c itself. It returns ErrNotFound when the account is gone.
func (tx *Tx) SetOAuthConsent(ctx context.Context, c OAuthConsent, most int) error {
	_, err := tx.exec(ctx, setOAuthConsent, values(&c)...)
	if err == nil {
		_, err = tx.exec(ctx, deleteOldOAuthConsents, c.DID, c.ClientID, most-1)
	}
	return wrap(err, "store consent of %s", c.DID)
}

// OAuthConsent returns what the owner of an account allowed an app, or ErrNotFound.
func (q *queries) OAuthConsent(ctx context.Context, did syntax.DID, clientID string) (*OAuthConsent, error) {
	c, err := one[OAuthConsent](ctx, q, selectOAuthConsent, did, clientID)
	return c, wrap(err, "read consent of %s", did)
}

// EndOAuthConsent forgets what the owner of an account allowed an app. Nothing is no error.
func (tx *Tx) EndOAuthConsent(ctx context.Context, did syntax.DID, clientID string) error {
	_, err := tx.exec(ctx, deleteOAuthConsent, did, clientID)
	return wrap(err, "forget consent of %s", did)
}
