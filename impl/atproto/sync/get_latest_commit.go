package sync

import (
	"context"
	"errors"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/sync"
	"portico/db"
	"portico/impl/answer"
	"portico/impl/repo/store"
)

// GetLatestCommit names the last commit of a repository.
func (s *Service) GetLatestCommit(ctx context.Context, p *api.GetLatestCommitParams) (*api.GetLatestCommitOutput, error) {
	repo, err := s.repo(ctx, p.DID)
	if errors.Is(err, db.ErrNotFound) {
		return nil, answer.RepoWithoutRoot(p.DID)
	}
	if err != nil {
		return nil, err
	}
	return &api.GetLatestCommitOutput{CID: head(repo.CommitCID), Rev: syntax.TID(repo.Rev)}, nil
}

// head is the name of a commit as clients are told it.
func head(stored []byte) syntax.CID { return syntax.CID(store.CID(stored).String()) }
