package sync

import (
	"context"
	"errors"
	"net/http"

	api "portico/api/atproto/sync"
	"portico/db"
)

// GetHead names the last commit of a repository, in the way of before GetLatestCommit.
func (s *Service) GetHead(ctx context.Context, p *api.GetHeadParams) (*api.GetHeadOutput, error) {
	repo, err := s.repo(ctx, p.DID)
	if errors.Is(err, db.ErrNotFound) {
		return nil, api.ErrGetHeadHeadNotFound.New(http.StatusBadRequest, "Could not find root for DID: "+p.DID.String())
	}
	if err != nil {
		return nil, err
	}
	return &api.GetHeadOutput{Root: head(repo.CommitCID)}, nil
}
