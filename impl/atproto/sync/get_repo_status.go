package sync

import (
	"context"
	"errors"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/sync"
	"portico/db"
)

// GetRepoStatus says whether an account is active, and if so which rev its repository has.
func (s *Service) GetRepoStatus(ctx context.Context, p *api.GetRepoStatusParams) (*api.GetRepoStatusOutput, error) {
	return db.ReadPublic(ctx, s.DB, func(r *db.Reader) (*api.GetRepoStatusOutput, error) {
		a, err := account(ctx, r, p.DID)
		if err != nil {
			return nil, err
		}
		out := &api.GetRepoStatusOutput{DID: a.DID, Active: a.Active()}
		if !out.Active {
			out.Status = new(a.Status())
			return out, nil
		}
		repo, err := r.Repo(ctx, p.DID)
		switch {
		case err == nil:
			out.Rev = new(syntax.TID(repo.Rev))
		case !errors.Is(err, db.ErrNotFound):
			return nil, err
		}
		return out, nil
	})
}
