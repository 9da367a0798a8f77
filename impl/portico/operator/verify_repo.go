package operator

import (
	"context"
	"errors"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/db"
)

// VerifyRepo goes through the whole repository of an account.
func (s *Service) VerifyRepo(ctx context.Context, p *api.VerifyRepoParams) (*api.VerifyRepoOutput, error) {
	found, err := s.Identities.VerifyRepo(ctx, p.DID)
	if errors.Is(err, db.ErrNotFound) {
		return nil, api.ErrVerifyRepoAccountNotFound.New(http.StatusBadRequest, "Account not found")
	}
	if err != nil {
		return nil, err
	}
	out := &api.VerifyRepoOutput{
		Nodes: int64(found.Nodes), Records: int64(found.Records), Rev: xrpc.NonZero(found.Rev.String()), Findings: findings(found.Findings),
	}
	if found.Commit.Valid() {
		out.Commit = new(syntax.CID(found.Commit.String()))
	}
	return out, nil
}
