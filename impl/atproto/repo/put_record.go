package repo

import (
	"context"
	"errors"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/repo"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/oauth/scope"
	"portico/impl/records"
	"portico/impl/repo/dagcbor"
)

// PutRecord writes a record, whether it is there or not. There is no commit when it is
// there as it is already.
func (s *Service) PutRecord(ctx context.Context, in *api.PutRecordInput) (*api.PutRecordOutput, error) {
	a, err := s.owner(ctx, in.Repo)
	if err != nil {
		return nil, err
	}
	// Whether the record is there is not to be found out by being refused.
	for _, action := range []string{"create", "update"} {
		if err := auth.Permit(ctx, scope.Repo{Collection: in.Collection.String(), Action: action}); err != nil {
			return nil, err
		}
	}
	draft := Draft{Collection: in.Collection, Key: in.Rkey, Record: in.Record, Validate: in.Validate, Path: "$.record"}
	w := records.Write{Action: records.Put, Collection: in.Collection, Key: in.Rkey}
	if in.Collection == profiles {
		// Clients of old send a profile back as they got it.
		draft.Size = s.sizes(ctx, a.DID, w.Path())
	}
	var status string
	if w.Record, status, err = draft.Prepare(); err != nil {
		return nil, err
	}
	if in.SwapRecord.Set {
		w.Was = new(xrpc.ValueOf(in.SwapRecord.Value).String())
	}
	result, err := s.write(ctx, a, in.SwapCommit, api.ErrPutRecordInvalidSwap, w)
	if err != nil {
		return nil, err
	}
	out := &api.PutRecordOutput{URI: newURI(a.DID, w.Path()), CID: syntax.CID(w.Record.CID.String()), ValidationStatus: xrpc.NonZero(status)}
	if result.Changed {
		out.Commit = commitMeta(result)
	}
	return out, nil
}

const profiles = "app.bsky.actor.profile"

// sizes tells those of the blobs that an account has, or errNew where there is no record
// at a path yet.
func (s *Service) sizes(ctx context.Context, did syntax.DID, path string) func(cid string) (int64, error) {
	return func(text string) (int64, error) {
		if _, err := s.DB.Record(ctx, did, path); errors.Is(err, db.ErrNotFound) {
			return 0, errNew
		} else if err != nil {
			return 0, err
		}
		cid, err := dagcbor.ParseCID(text)
		if err != nil {
			return 0, xrpc.InvalidRequest("Blob not found")
		}
		b, err := s.DB.Blob(ctx, did, cid[:])
		if errors.Is(err, db.ErrNotFound) {
			return 0, xrpc.InvalidRequest("Blob not found")
		}
		if err != nil {
			return 0, err
		}
		return b.Size, nil
	}
}
