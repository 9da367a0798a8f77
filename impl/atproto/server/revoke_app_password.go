package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	api "portico/api/atproto/server"
	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/audit"
)

// RevokeAppPassword ends an app password and the sessions that it opened. A name
// that none has is no error.
func (s *Service) RevokeAppPassword(ctx context.Context, in *api.RevokeAppPasswordInput) error {
	if strings.ContainsRune(in.Name, 0) {
		return nil // none has such a name, and Postgres does not even take the question
	}
	did := auth.Caller(ctx).DID
	err := s.DB.Write(ctx, func(tx *db.Tx) error {
		_, missing := tx.AppPasswordByName(ctx, did, in.Name)
		if missing != nil && !errors.Is(missing, db.ErrNotFound) {
			return missing
		}
		if err := tx.DeleteAppPassword(ctx, did, in.Name); err != nil {
			return err
		}
		if missing != nil {
			return nil // or the record would keep whatever text a caller likes
		}
		return audit.Record(ctx, tx, s.Now(), did, audit.AppPasswordRevoked, in.Name)
	})
	if errors.Is(err, db.ErrNotFound) {
		return auth.AccountNotFound()
	}
	if err != nil {
		return fmt.Errorf("revoke app password: %w", err)
	}
	return nil
}
