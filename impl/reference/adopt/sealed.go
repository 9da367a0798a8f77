package adopt

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
)

func (a *Adoption) sealPassword(ctx context.Context, tx *db.Tx, did syntax.DID, scrypt string) error {
	return nil
}

func (a *Adoption) sealAppPassword(ctx context.Context, tx *db.Tx, did syntax.DID, name, scrypt string) error {
	return nil
}

func (a *Adoption) sealSession(ctx context.Context, tx *db.Tx, did syntax.DID, id []byte, jti, next string) error {
	return nil
}
