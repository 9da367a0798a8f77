package account

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// ChangeHandle is GiveHandle to a handle that no rule is asked about.
func (i *Identities) ChangeHandle(ctx context.Context, did syntax.DID, h syntax.Handle) error {
	return i.change(ctx, did, h, noHold)
}
