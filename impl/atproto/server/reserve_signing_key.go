package server

import (
	"context"
	"errors"
	"fmt"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account"
	"portico/impl/answer"
	"portico/impl/budget"
)

// ReserveSigningKey makes a key for an account that is to come here. For the same
// DID it is the same key as long as the reservation lasts, whoever asks. Anybody
// may, so an address may for so many only.
func (s *Service) ReserveSigningKey(ctx context.Context, in *api.ReserveSigningKeyInput) (*api.ReserveSigningKeyOutput, error) {
	did := xrpc.ValueOf(in.DID)
	if did != "" {
		kept, err := s.DB.ReservedKey(ctx, did.String())
		if err == nil {
			return &api.ReserveSigningKeyOutput{SigningKey: kept.Public}, nil
		}
		if !errors.Is(err, db.ErrNotFound) {
			return nil, err
		}
	}
	fresh, err := s.Accounts.NewReservedKey(did)
	if err != nil {
		return nil, err
	}
	fresh.ExpiresAt = fresh.CreatedAt.Add(account.ReservationLife)
	var kept *db.ReservedKey
	err = s.DB.Write(ctx, func(tx *db.Tx) error {
		if err := s.Budgets.SpendIn(ctx, tx, budget.ReservedKeys, s.caller(ctx)); err != nil {
			return err
		}
		kept, err = tx.ReserveKey(ctx, *fresh)
		return err
	})
	if err != nil {
		return nil, answer.Spent(fmt.Errorf("reserve signing key: %w", err))
	}
	return &api.ReserveSigningKeyOutput{SigningKey: kept.Public}, nil
}
