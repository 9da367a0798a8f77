package operator

import (
	"context"
	"errors"
	"net/http"

	api "portico/api/portico/operator"
	"portico/db"
)

// DisableAuthFactor lets an account be signed in to with its password alone, removes its
// authenticator app, recovery codes and passkeys, and tells its owner if there was anything.
func (s *Service) DisableAuthFactor(ctx context.Context, in *api.DisableAuthFactorInput) error {
	err := s.DB.Write(ctx, func(tx *db.Tx) error {
		a, err := tx.LockAccount(ctx, in.DID)
		if err != nil {
			return err
		}
		return s.Credentials.ResetFactors(ctx, tx, a)
	})
	if errors.Is(err, db.ErrNotFound) {
		return api.ErrDisableAuthFactorAccountNotFound.New(http.StatusBadRequest, "Account not found")
	}
	return err
}
