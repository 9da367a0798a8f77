package repo

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/repo"
	"portico/api/xrpc"
	"portico/impl/account/auth"
	"portico/impl/oauth/scope"
	"portico/impl/records"
)

// CreateRecord writes a record that is not there. One that points at the same thing as
// others of its kind (a like, say) takes their place.
func (s *Service) CreateRecord(ctx context.Context, in *api.CreateRecordInput) (*api.CreateRecordOutput, error) {
	a, err := s.owner(ctx, in.Repo)
	if err != nil {
		return nil, err
	}
	if err := auth.Permit(ctx, scope.Repo{Collection: in.Collection.String(), Action: "create"}); err != nil {
		return nil, err
	}
	var done *api.CreateRecordOutput
	err = s.choosing(func(choose chooser) error {
		draft := Draft{
			Collection: in.Collection, Key: choose(in.Rkey), Record: in.Record, Validate: in.Validate, Path: "$.record",
		}
		r, status, err := draft.Prepare()
		if err != nil {
			return err
		}
		w := records.Write{
			Action: records.Create, Collection: in.Collection, Key: draft.Key, Record: r,
			Replace: in.Validate == nil || *in.Validate,
		}
		result, err := s.write(ctx, a, in.SwapCommit, api.ErrCreateRecordInvalidSwap, w)
		if err != nil {
			return err
		}
		done = &api.CreateRecordOutput{
			URI: newURI(a.DID, w.Path()), CID: syntax.CID(r.CID.String()), Commit: commitMeta(result), ValidationStatus: xrpc.NonZero(status),
		}
		return nil
	})
	return done, err
}
