package account

import (
	"context"
	"errors"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/identity/plc"
	"portico/impl/identity/resolve"
)

// Documents reads the documents of DIDs; *resolve.Cache does.
type Documents interface {
	// Resolve returns the document of a DID; fresh bypasses the cache.
	Resolve(ctx context.Context, did syntax.DID, fresh bool) (*resolve.Document, error)
}

// Document is the DID document of an account. That of one which is held in quarantine is
// what its genesis makes, as long as nobody else has heard of the DID; all others are read
// from published, whose errors it returns.
func (a *Accounts) Document(ctx context.Context, acct *db.Account, fresh bool, published Documents) (*resolve.Document, error) {
	if acct.Held() {
		genesis, err := a.heldGenesis(ctx, acct.DID)
		switch {
		case err == nil:
			return resolve.ParseDocument(acct.DID, plc.Document(acct.DID, genesis))
		case !errors.Is(err, db.ErrNotFound): // it is being released, or is
			return nil, err
		}
	}
	return published.Resolve(ctx, acct.DID, fresh)
}

// ErrHeld says that an account is in quarantine, and that what was asked for has to wait
// until it is released or approved.
var ErrHeld = errors.New("account is in quarantine")

// MayActivate returns ErrHeld for an account of a DID that was brought and that the operator
// has to approve before it is activated.
func (a *Accounts) MayActivate(ctx context.Context, acct *db.Account) error {
	if !acct.Deactivated() {
		return nil
	}
	return mayActivate(a.DB.Quarantined(ctx, acct.DID))
}

func mayActivate(h *db.Quarantined, err error) error {
	switch {
	case errors.Is(err, db.ErrNotFound):
		return nil
	case err != nil:
		return err
	case h.State == db.HeldBrought:
		return ErrHeld
	}
	return nil
}
