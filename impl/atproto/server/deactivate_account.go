package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/answer"
)

// DeactivateAccount switches the caller's account off; its sessions go on, but not those of
// apps. One of these that does it may be the last that its owner wants, so all apps end, those
// with an app password too; none has the account deleted. The
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
	if caller.App != nil && in.DeleteAfter != nil {
		return &xrpc.Error{Status: http.StatusForbidden, Name: "Forbidden", Message: "Account deletion is not available with OAuth credentials"}
	}
	if err := s.Accounts.PayForChange(ctx, caller.Payer()); err != nil {
		return answer.Spent(err)
	}
	deactivate := s.Accounts.Deactivate
	if caller.App != nil {
		deactivate = s.Accounts.DeactivateForAll
	}
	err := deactivate(ctx, caller.DID, deleteAfter)
	if errors.Is(err, db.ErrNotFound) {
		return xrpc.InvalidRequest("Account not found")
	}
	return err
}
