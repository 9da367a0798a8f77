package grant

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
)

// A Remembered account is one that signed in with a browser before.
type Remembered struct {
	DID      syntax.DID
	ProvedAt time.Time
}

// Remembered are the accounts that a browser remembers, those proved last first. What ends
// the sessions of an account ends that too.
func (g *Grants) Remembered(ctx context.Context, browser []byte) ([]Remembered, error) {
	rows, err := g.DB.OAuthRemembered(ctx, g.mac("browser", string(browser)), g.Now())
	if err != nil {
		return nil, err
	}
	all := make([]Remembered, len(rows))
	for i, r := range rows {
		all[i] = Remembered{r.DID, r.ProvedAt}
	}
	return all, nil
}

// Remember lets a browser remember an account, at most [MaxRemembered] of them: beyond it the one
// that was proved least lately is forgotten. It returns ErrOver.
func (g *Grants) Remember(ctx context.Context, browser []byte, did syntax.DID, proved time.Time, address, agent string) error {
	now := g.Now()
	row := db.OAuthRemembered{
		Browser: g.mac("browser", string(browser)), DID: did, CreatedAt: now, ProvedAt: proved, ExpiresAt: now.Add(g.Lifetimes().Remembered),
		Address: line(address), Agent: line(agent),
	}
	err := g.DB.Write(ctx, func(tx *db.Tx) error {
		account, err := tx.LockAccount(ctx, did)
		switch {
		case errors.Is(err, db.ErrNotFound), err == nil && (account.TakenDown() || proved.Before(account.TokensValidFrom)):
			return ErrOver
		case err != nil:
			return err
		}
		return tx.RememberOAuth(ctx, row, MaxRemembered, maxBrowsers)
	})
	if err != nil {
		return fmt.Errorf("remember account in a browser: %w", err)
	}
	return nil
}

// Forget is the opposite of Remember.
func (g *Grants) Forget(ctx context.Context, browser []byte, did syntax.DID) error {
	return g.DB.Write(ctx, func(tx *db.Tx) error { return tx.ForgetOAuth(ctx, g.mac("browser", string(browser)), did) })
}

// Move gives another browser all that one has: requests that it opened, accounts that it
// remembers. The cookie of a browser changes when somebody signs in. What the other
// remembered before it forgets.
func (g *Grants) Move(ctx context.Context, from, to []byte) error {
	if bytes.Equal(from, to) {
		return nil
	}
	return g.DB.Write(ctx, func(tx *db.Tx) error {
		return tx.MoveOAuthBrowser(ctx, g.mac("browser", string(from)), g.mac("browser", string(to)))
	})
}
