package account

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/identity/plc"
)

// ChangeHandle is GiveHandle to a handle that no rule is asked about.
func (i *Identities) ChangeHandle(ctx context.Context, did syntax.DID, h syntax.Handle) error {
	return i.change(ctx, did, h, noHold)
}

// Shown has f called between the last steps of each release.
func (a *Accounts) Shown(f func()) { a.shown = f }

// Operation is what the client has signed.
func (g *SignedGenesis) Operation() plc.Operation { return g.op }
