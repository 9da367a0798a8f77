package grant

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/audit"
)

// A Browser is one that remembers an account.
type Browser struct {
	ID        []byte // of no use to browsers
	ProvedAt  time.Time
	ExpiresAt time.Time
	// Address and Agent are where its owner proved last who they are, and what the browser calls
	// itself.
	Address, Agent string
}

// Browsers are those that remember an account, those proved last first.
func (g *Grants) Browsers(ctx context.Context, did syntax.DID) ([]Browser, error) {
	rows, err := g.DB.OAuthRememberedOf(ctx, did, g.Now())
	if err != nil {
		return nil, err
	}
	all := make([]Browser, len(rows))
	for i, r := range rows {
		all[i] = Browser{r.Browser, r.ProvedAt, r.ExpiresAt, r.Address, r.Agent}
	}
	return all, nil
}

// ForgetBrowser lets one of [Grants.Browsers] forget the account. One that does not remember it is no error.
func (g *Grants) ForgetBrowser(ctx context.Context, did syntax.DID, id []byte) error {
	return g.DB.Write(ctx, func(tx *db.Tx) error {
		if err := tx.ForgetOAuth(ctx, id, did); err != nil {
			return err
		}
		return audit.Record(acting(ctx, did), tx, g.Now(), did, audit.SessionsEnded, "one")
	})
}
