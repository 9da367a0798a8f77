package operator

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"

	api "portico/api/portico/operator"
	"portico/db"
	"portico/impl/account/password"
	"portico/impl/answer"
)

// ResetPassword sets a new password and ends everything else that could sign in, as the
// owner's own reset does.
func (s *Service) ResetPassword(ctx context.Context, in *api.ResetPasswordInput) error {
	if err := answer.NewPassword(in.Password, s.PasswordMinLength()); err != nil {
		return err
	}
	_, err := s.DB.AccountByDID(ctx, in.DID)
	if err == nil {
		err = s.resetPassword(ctx, in)
	}
	if errors.Is(err, db.ErrNotFound) {
		return api.ErrResetPasswordAccountNotFound.New(http.StatusBadRequest, "Account not found")
	}
	return err
}

func (s *Service) resetPassword(ctx context.Context, in *api.ResetPasswordInput) error {
	hash, err := s.Passwords.Hash(ctx, password.Caller{Known: true}, in.Password)
	if err != nil {
		return answer.Spent(fmt.Errorf("hash new password: %w", err))
	}
	keys := s.DIDs.ForeignKeys(ctx, in.DID)
	return s.DB.Write(ctx, func(tx *db.Tx) error {
		a, err := tx.LockAccount(ctx, in.DID)
		if err != nil {
			return err
		}
		return s.Credentials.Recover(ctx, tx, a, hash, netip.Addr{}, keys)
	})
}
