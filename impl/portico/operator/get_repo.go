package operator

import (
	"context"
	"errors"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/portico/operator"
	"portico/db"
	"portico/impl/repo/store"
)

// GetRepo says where a repository stands, as its row says it: nothing is counted.
func (s *Service) GetRepo(ctx context.Context, p *api.GetRepoParams) (*api.GetRepoOutput, error) {
	return db.ReadPublic(ctx, s.DB, func(r *db.Reader) (*api.GetRepoOutput, error) {
		repo, err := r.Repo(ctx, p.DID)
		if errors.Is(err, db.ErrNotFound) {
			return nil, api.ErrGetRepoRepoNotFound.New(http.StatusBadRequest, "Repo not found")
		}
		if err != nil {
			return nil, err
		}
		names, err := r.Collections(ctx, p.DID)
		if err != nil {
			return nil, err
		}
		out := &api.GetRepoOutput{
			DID: p.DID, Commit: syntax.CID(store.CID(repo.CommitCID).String()), Rev: syntax.TID(repo.Rev),
			Records: int64(repo.Records), Nodes: int64(repo.Nodes),
			ExpectedBlobs: int64(repo.ExpectedBlobs), ImportedBlobs: int64(repo.ImportedBlobs),
		}
		for _, name := range names {
			out.Collections = append(out.Collections, syntax.NSID(name))
		}
		return out, nil
	})
}
