package operator

import (
	"context"
	"errors"
	"net/http"

	api "portico/api/portico/operator"
	"portico/db"
)

// DisableAuthFactor lets an account sign in without an emailed code, and tells its
// owner if one was asked for.
func (s *Service) DisableAuthFactor(ctx context.Context, in *api.DisableAuthFactorInput) error {
	err := s.DB.Write(ctx, func(tx *db.Tx) error {
		a, err := tx.LockAccount(ctx, in.DID)
		if err != nil {
			return err
		}
		return s.Credentials.SetAuthFactor(ctx, tx, a, false)
	})
	if errors.Is(err, db.ErrNotFound) {
		return api.ErrDisableAuthFactorAccountNotFound.New(http.StatusBadRequest, "Account not found")
	}
	return err
}
