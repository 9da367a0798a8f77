package operator

import (
	"context"
	"errors"
	"net/http"

	api "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/answer"
)

// ImportRepo makes an archive the repository of an account.
func (s *Service) ImportRepo(ctx context.Context, p *api.ImportRepoParams, in *xrpc.Body) error {
	var lost []db.Blob
	_, err := s.DB.AccountByDID(ctx, p.DID)
	if err == nil {
		lost, err = s.Imports.Import(ctx, p.DID, in)
	}
	if errors.Is(err, db.ErrNotFound) {
		return api.ErrImportRepoAccountNotFound.New(http.StatusBadRequest, "Account not found")
	}
	if err != nil {
		return answer.Import(err)
	}
	s.Blobs.Discard(ctx, p.DID, lost)
	return s.Blobs.KeepNamed(context.WithoutCancel(ctx), p.DID)
}
