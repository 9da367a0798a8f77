package operator

import (
	"context"

	api "portico/api/portico/operator"
	"portico/api/xrpc"
)

// ApproveQuarantined lets accounts out of quarantine. Those that were approved before it
// failed stay so.
func (s *Service) ApproveQuarantined(ctx context.Context, in *api.ApproveQuarantinedInput) (*api.ApproveQuarantinedOutput, error) {
	chosen, err := heldChosen(in.DIDs, in.Filter, in.Limit, xrpc.ValueOf(in.DryRun))
	if err != nil {
		return nil, err
	}
	done, err := s.eachHeld(ctx, chosen, s.Accounts.Approve)
	if err != nil {
		return nil, err
	}
	return &api.ApproveQuarantinedOutput{Approved: done.done, Confirmed: done.confirmed, More: done.more, Kept: done.kept}, nil
}
