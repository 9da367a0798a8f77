package repo

import (
	"context"

	api "portico/api/atproto/repo"
	"portico/impl/account/auth"
	"portico/impl/oauth/scope"
	"portico/impl/records"
)

// DeleteRecord deletes a record, if it is there.
func (s *Service) DeleteRecord(ctx context.Context, in *api.DeleteRecordInput) (*api.DeleteRecordOutput, error) {
	a, err := s.owner(ctx, in.Repo)
	if err != nil {
		return nil, err
	}
	if err := auth.Permit(ctx, scope.Repo{Collection: in.Collection.String(), Action: "delete"}); err != nil {
		return nil, err
	}
	result, err := s.write(ctx, a, in.SwapCommit, api.ErrDeleteRecordInvalidSwap, records.Write{
		Action: records.Remove, Collection: in.Collection, Key: in.Rkey, Was: (*string)(in.SwapRecord),
	})
	if err != nil || !result.Changed {
		return &api.DeleteRecordOutput{}, err
	}
	return &api.DeleteRecordOutput{Commit: commitMeta(result)}, nil
}
