package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/answer"
)

// DeactivateAccount switches the caller's account off; its sessions go on. The
// wish to have it deleted later is carried out by a job, which gives the owner
// time to notice that somebody else had it.
func (s *Service) DeactivateAccount(ctx context.Context, in *api.DeactivateAccountInput) error {
	var deleteAfter time.Time
	if in.DeleteAfter != nil {
		switch deleteAfter = in.DeleteAfter.Time(); {
		case deleteAfter.UTC().Year() > 9999:
			// A time of day behind Greenwich's: as it would be shown, it is none.
			return xrpc.InvalidRequest(fmt.Sprintf("Invalid datetime (got %q) at $.deleteAfter", *in.DeleteAfter))
		case deleteAfter.IsZero():
			// The first moment of the year one is a time like any other that is over.
			deleteAfter = s.Now()
		}
	}
	caller := auth.Caller(ctx)
	if err := s.Accounts.PayForChange(ctx, caller.Payer()); err != nil {
		return answer.Spent(err)
	}
	err := s.Accounts.Deactivate(ctx, caller.DID, deleteAfter)
	if errors.Is(err, db.ErrNotFound) {
		return xrpc.InvalidRequest("Account not found")
	}
	return err
}
