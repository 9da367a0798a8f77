package repo

import (
	"context"
	"errors"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/repo"
	"portico/api/xrpc"
	"portico/impl/account/auth"
	"portico/impl/oauth/scope"
	"portico/impl/records"
)

// ApplyWrites makes one commit of some writes, which come one after the other, or none of
// any. Without a change there is no new commit, and the answer names the last one.
func (s *Service) ApplyWrites(ctx context.Context, in *api.ApplyWritesInput) (*api.ApplyWritesOutput, error) {
	a, err := s.owner(ctx, in.Repo)
	if err != nil {
		return nil, err
	}
	if len(in.Writes) > records.Max {
		return nil, xrpc.InvalidRequest(fmt.Sprintf("Too many writes. Max: %d", records.Max))
	}
	for _, w := range in.Writes {
		if err := permitWrite(ctx, w); err != nil {
			return nil, err
		}
	}
	var done *api.ApplyWritesOutput
	err = s.choosing(func(choose chooser) error {
		all := make([]records.Write, len(in.Writes))
		results := make([]api.ApplyWritesOutputResultsItem, len(in.Writes))
		for i, w := range in.Writes {
			var err error
			if all[i], results[i], err = oneOf(a.DID, w, choose, in.Validate, fmt.Sprintf("$.writes[%d].record", i)); err != nil {
				return err
			}
		}
		result, err := s.write(ctx, a, in.SwapCommit, api.ErrApplyWritesInvalidSwap, all...)
		if err != nil {
			return err
		}
		done = &api.ApplyWritesOutput{Commit: commitMeta(result), Results: results}
		return nil
	})
	return done, err
}

// permitWrite returns the answer to an app that may not make one of the writes.
func permitWrite(ctx context.Context, in api.ApplyWritesInputWritesItem) error {
	switch in := in.Value().(type) {
	case *api.ApplyWritesCreate:
		return auth.Permit(ctx, scope.Repo{Collection: in.Collection.String(), Action: "create"})
	case *api.ApplyWritesUpdate:
		return auth.Permit(ctx, scope.Repo{Collection: in.Collection.String(), Action: "update"})
	case *api.ApplyWritesDelete:
		return auth.Permit(ctx, scope.Repo{Collection: in.Collection.String(), Action: "delete"})
	}
	return errNoWrite
}

var errNoWrite = errors.New("write of no type")

// oneOf prepares one of the writes, and what is answered when all are done.
func oneOf(did syntax.DID, in api.ApplyWritesInputWritesItem, choose chooser, validate *bool, path string) (
	w records.Write, done api.ApplyWritesOutputResultsItem, err error,
) {
	var status string
	prepare := func(collection syntax.NSID, key syntax.RecordKey, value []byte) error {
		w.Collection, w.Key = collection, key
		w.Record, status, err = Draft{Collection: collection, Key: key, Record: value, Validate: validate, Path: path}.Prepare()
		return err
	}
	switch in := in.Value().(type) {
	case *api.ApplyWritesCreate:
		w.Action = records.Create
		if err := prepare(in.Collection, choose(in.Rkey), in.Value); err != nil {
			return w, done, err
		}
		done = api.NewApplyWritesOutputResultsItem(&api.ApplyWritesCreateResult{
			URI: newURI(did, w.Path()), CID: syntax.CID(w.Record.CID.String()), ValidationStatus: xrpc.NonZero(status),
		})
	case *api.ApplyWritesUpdate:
		w.Action = records.Update
		if err := prepare(in.Collection, in.Rkey, in.Value); err != nil {
			return w, done, err
		}
		done = api.NewApplyWritesOutputResultsItem(&api.ApplyWritesUpdateResult{
			URI: newURI(did, w.Path()), CID: syntax.CID(w.Record.CID.String()), ValidationStatus: xrpc.NonZero(status),
		})
	case *api.ApplyWritesDelete:
		w = records.Write{Action: records.Delete, Collection: in.Collection, Key: in.Rkey}
		done = api.NewApplyWritesOutputResultsItem(&api.ApplyWritesDeleteResult{})
	default:
		return w, done, errNoWrite
	}
	return w, done, nil
}
