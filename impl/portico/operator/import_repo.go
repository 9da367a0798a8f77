package operator

import (
	"context"
	"errors"
	"net/http"

	api "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account"
	"portico/impl/answer"
	"portico/impl/repo/importer"
)

// ImportRepo makes an archive the repository of an account.
func (s *Service) ImportRepo(ctx context.Context, p *api.ImportRepoParams, in *xrpc.Body) error {
	var lost []db.Blob
	_, err := s.DB.AccountByDID(ctx, p.DID)
	if err == nil {
		var on []importer.Condition
		if xrpc.ValueOf(p.Arriving) {
			on = append(on, s.Transfers.MayImport)
		}
		lost, err = s.Imports.Import(ctx, p.DID, in, on...)
	}
	if refused, ok := errors.AsType[*account.TransferRefusal](err); ok {
		return api.ErrImportRepoMoveRefused.New(http.StatusBadRequest, refused.Message)
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
