package identity

import (
	"context"
	"errors"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/identity"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/answer"
)

// ResolveHandle says which DID a handle names: that of an account here, or what
// the app view says; without one, what DNS or the handle's host says.
func (s *Service) ResolveHandle(ctx context.Context, p *api.ResolveHandleParams) (*api.ResolveHandleOutput, error) {
	elsewhere := HandleResolver(s.Resolve)
	if s.AppView != nil {
		elsewhere = s.AppView
	}
	did, err := s.resolveHandle(ctx, p.Handle, elsewhere)
	switch {
	case errors.Is(err, errNotHere):
		return nil, api.ErrResolveHandleHandleNotFound.New(http.StatusBadRequest, "Unable to resolve handle")
	case errors.Is(err, errNotThere):
		return nil, xrpc.InvalidRequest("Unable to resolve handle").Because(err)
	case err != nil:
		return nil, err
	}
	return &api.ResolveHandleOutput{DID: did}, nil
}

var (
	errNotHere  = errors.New("handle is this server's to give, and nobody has it")
	errNotThere = errors.New("handle resolves to nothing")
)

// resolveHandle returns errNotHere or errNotThere when h names no DID. Who has a
// handle under a domain of this server is never asked elsewhere, and under one that
// was removed never said here. An account in quarantine has its handle for those alone
// who may know of it.
func (s *Service) resolveHandle(ctx context.Context, h syntax.Handle, elsewhere HandleResolver) (syntax.DID, error) {
	h = h.Normalize()
	domains := s.Domains.Current(ctx)
	if !domains.Removed(h) {
		a, err := s.Accounts.AccountByHandle(ctx, h)
		a, err = auth.Seen(ctx, a, err)
		if err == nil && a.Active() {
			return a.DID, nil
		}
		if err != nil && !errors.Is(err, db.ErrNotFound) {
			return "", err
		}
	}
	if domains.Ours(h.String()) {
		return "", errNotHere
	}
	if err := auth.LookUp(ctx, s.Budgets); err != nil {
		return "", answer.Spent(err)
	}
	did, err := elsewhere.ResolveHandle(ctx, h)
	if err != nil {
		return "", errors.Join(errNotThere, err)
	}
	return did, nil
}
