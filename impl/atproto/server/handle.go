package server

import (
	"context"
	"errors"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/identity/handle"
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
func (s *Service) checkHandle(
	ctx context.Context, domains *handle.Domains, wanted syntax.Handle, did syntax.DID,
) (handle.Choice, error) {
	c, err := s.Handles.Check(domains, wanted.String(), false)
	if err == nil && !c.Local {
		err = s.checkForeignHandle(ctx, c.Handle, did)
	}
	if refused, ok := errors.AsType[*handle.Error](err); ok {
		return c, handleRefused(refused)
	}
	return c, err
}

func handleRefused(e *handle.Error) error {
	if name, ok := signUpErrors[e.Name]; ok {
		return name.New(http.StatusBadRequest, e.Message)
	}
	return xrpc.InvalidRequest(e.Message)
}

// holdDomain makes sure that a sign-up may have its handle by what holds when it
// takes it: the domain may have been removed since, or closed, or opened to invited
// people only.
func (s *Service) holdDomain(ctx context.Context, tx *db.Tx, c handle.Choice, code string) error {
	if !c.Local {
		return nil
	}
	d, err := s.Domains.Hold(ctx, tx, c.Domain)
	switch {
	case err != nil:
		return err
	case d.Policy == handle.Closed:
		return handle.ErrUnsupportedDomain
	case d.Policy == handle.Invite && code == "":
		return noInvite()
	}
	return nil
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
