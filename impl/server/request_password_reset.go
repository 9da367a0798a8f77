package server

import (
	"context"
	"errors"

	api "portico/api/atproto/server"
	"portico/db"
	"portico/impl/budget"
	"portico/impl/email"
)

// RequestPasswordReset mails a code that sets a new password, if there is an
// account with the address. The answer does not tell, nor does its time: a write
// is made for an unknown address too, and a letter nobody gets is composed.
func (s *Service) RequestPasswordReset(ctx context.Context, in *api.RequestPasswordResetInput) error {
	address := email.Normalize(in.Email)
	err := s.DB.Write(ctx, func(tx *db.Tx) error {
		a, err := tx.AccountByEmail(ctx, address)
		if errors.Is(err, db.ErrNotFound) {
			return s.mailNobody(ctx, tx, address)
		}
		if err != nil {
			return err
		}
		return s.mailCodeIn(ctx, tx, a, purposeResetPassword)
	})
	if errors.Is(err, errMailsSpent) {
		// To say so would tell that the address is known.
		return nil
	}
	return err
}

// mailNobody does what mailCodeIn does, up to sending a letter.
func (s *Service) mailNobody(ctx context.Context, tx *db.Tx, address string) error {
	ok, err := budget.Mails.SpendIn(ctx, tx, address, s.Now())
	if err != nil || !ok {
		return err
	}
	nobody := &db.Account{Email: address}
	_ = s.codeMAC(purposeResetPassword, "", address)
	_ = s.codeLetter(purposeResetPassword, nobody, "AAAAA-AAAAA")
	return nil
}
