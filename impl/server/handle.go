package server

import (
	"context"
	"errors"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/impl/handle"
)

// signUpErrors are the names under which createAccount refuses a handle.
var signUpErrors = map[string]*xrpc.DeclaredError{
	"InvalidHandle":      api.ErrCreateAccountInvalidHandle,
	"HandleNotAvailable": api.ErrCreateAccountHandleNotAvailable,
	"UnsupportedDomain":  api.ErrCreateAccountUnsupportedDomain,
}

// checkHandle returns the handle as it is stored, or the answer that refuses it.
// One outside this server's domains is for the owner of did only, and only if it
// points there already.
func (s *Service) checkHandle(ctx context.Context, wanted syntax.Handle, did syntax.DID) (syntax.Handle, error) {
	h, local, err := s.Handles.Check(wanted.String(), false)
	if err == nil && !local {
		err = s.checkForeignHandle(ctx, h, did)
	}
	if refused, ok := errors.AsType[*handle.Error](err); ok {
		if name, ok := signUpErrors[refused.Name]; ok {
			return "", name.New(http.StatusBadRequest, refused.Message)
		}
		return "", xrpc.InvalidRequest(refused.Message)
	}
	return h, err
}

func (s *Service) checkForeignHandle(ctx context.Context, h syntax.Handle, did syntax.DID) error {
	if did == "" {
		return handle.ErrUnsupportedDomain
	}
	found, err := s.Resolve.ResolveHandle(ctx, h)
	if err != nil || found != did {
		s.Log.DebugContext(ctx, "foreign handle", "handle", h, "did", did, "found", found, "error", err)
		return handle.ErrUnresolved
	}
	return nil
}
