package admin

import (
	"context"
	"errors"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/admin"
	"portico/db"
	"portico/impl/audit"
)

// DisableAccountInvites makes the codes that an account earns from now on worth
// nothing. Those that it has stay as they are.
func (s *Service) DisableAccountInvites(ctx context.Context, in *api.DisableAccountInvitesInput) error {
	return s.setInvitesDisabled(ctx, in.Account, true)
}

// setInvitesDisabled does nothing to an account that is not here.
func (s *Service) setInvitesDisabled(ctx context.Context, did syntax.DID, disabled bool) error {
	event := audit.InvitesEnabled
	if disabled {
		event = audit.InvitesDisabled
	}
	err := s.DB.Write(ctx, func(tx *db.Tx) error {
		a, err := tx.LockAccount(ctx, did)
		if err != nil {
			return err
		}
		a.InvitesDisabled = disabled
		if err := tx.UpdateAccount(ctx, a); err != nil {
			return err
		}
		return s.record(ctx, tx, did, event, "")
	})
	if errors.Is(err, db.ErrNotFound) {
		return nil
	}
	return err
}
