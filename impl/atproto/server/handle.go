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

// handleError answers a handle that the rules refuse, and other errors as they are.
func handleError(err error) error {
	refused, ok := errors.AsType[*handle.Error](err)
	if !ok {
		return err
	}
	if name, ok := signUpErrors[refused.Name]; ok {
		return name.New(http.StatusBadRequest, refused.Message)
	}
	return xrpc.InvalidRequest(refused.Message)
}

// holdDomain makes sure that a sign-up may have its handle by what holds when it
// takes it: the domain may have been removed since, or closed, or opened to invited
// people only.
func (s *Service) holdDomain(ctx context.Context, tx *db.Tx, c handle.Choice, code string) error {
	if !c.Local {
		return nil
	}
	d, err := s.Domains.Hold(ctx, tx, c.Domain, c.Handle, "")
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

// checkForeignHandle refuses a handle outside this server's domains unless it points to
// did already. It asks the network.
func (s *Service) checkForeignHandle(ctx context.Context, h syntax.Handle, did syntax.DID) error {
	found, err := s.Resolve.ResolveHandle(ctx, h)
	if err != nil || found != did {
		s.Log.DebugContext(ctx, "foreign handle", "handle", h, "did", did, "found", found, "error", err)
		return handle.ErrUnresolved
	}
	return nil
}
