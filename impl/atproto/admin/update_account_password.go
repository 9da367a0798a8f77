package admin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	api "portico/api/atproto/admin"
	"portico/db"
	"portico/impl/account/password"
	"portico/impl/answer"
	"portico/impl/mail/emailcode"
)

// UpdateAccountPassword sets a password. Every session of the account ends, and the
// access tokens issued so far end with them; app passwords stay. It is content when
// there is no account.
func (s *Service) UpdateAccountPassword(ctx context.Context, in *api.UpdateAccountPasswordInput) error {
	if err := answer.NewPassword(in.Password, s.PasswordMinLength()); err != nil {
		return err
	}
	if _, err := s.DB.AccountByDID(ctx, in.DID); errors.Is(err, db.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	hash, err := s.Passwords.Hash(ctx, password.Caller{Known: true}, in.Password)
	if err != nil {
		return answer.Spent(fmt.Errorf("hash new password: %w", err))
	}
	err = s.DB.Write(ctx, func(tx *db.Tx) error {
		a, err := tx.LockAccount(ctx, in.DID)
		if err != nil {
			return err
		}
		if err := tx.DeleteCodes(ctx, a.DID, string(emailcode.ResetPassword)); err != nil {
			return err
		}
		return s.Credentials.SetPassword(ctx, tx, a, hash, netip.Addr{})
	})
	if errors.Is(err, db.ErrNotFound) {
		return nil // deleted meanwhile
	}
	return err
}
