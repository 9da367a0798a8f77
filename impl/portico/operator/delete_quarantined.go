package operator

import (
	"context"

	api "portico/api/portico/operator"
	"portico/api/xrpc"
)

// DeleteQuarantined deletes accounts in quarantine. Those that were deleted before it failed
// are gone.
func (s *Service) DeleteQuarantined(ctx context.Context, in *api.DeleteQuarantinedInput) (*api.DeleteQuarantinedOutput, error) {
	chosen, err := heldChosen(in.DIDs, in.Filter, in.Limit, xrpc.ValueOf(in.DryRun))
	if err != nil {
		return nil, err
	}
	chosen.untold = true
	done, err := s.eachHeld(ctx, chosen, s.Accounts.DeleteHeld)
	if err != nil {
		return nil, err
	}
	return &api.DeleteQuarantinedOutput{Deleted: done.done, Confirmed: done.confirmed, More: done.more, Kept: done.kept}, nil
}
