package db

import (
	"context"
	"time"

	"github.com/uptrace/bun"
)

// An oauthUsed is something that is good for once, and was used.
type oauthUsed struct {
	bun.BaseModel `bun:"table:oauth_used,alias:ou"`

	ID        []byte    `bun:"id,pk"` // keyed hash
	ExpiresAt time.Time `bun:"expires_at"`
}

var useOAuthOnce = prepared(func(b *builder) bun.Query {
	return b.insert(new(oauthUsed)).On("CONFLICT (id) DO UPDATE").
		Set("expires_at = excluded.expires_at").Where("ou.expires_at <= ?", b.p())
})

// UseOAuthOnce notes at now that something is used, which is remembered until then. It
// returns ErrStale when it had been used before: of those who do so at once all but one are told.
func (tx *Tx) UseOAuthOnce(ctx context.Context, id []byte, now, until time.Time) error {
	used := oauthUsed{ID: id, ExpiresAt: until}
	return wrap(fresh(tx.exec(ctx, useOAuthOnce, append(values(&used), now)...)), "note that something is used")
}
