package identity

import (
	"context"
	"errors"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/identity"
	"portico/api/xrpc"
	"portico/impl/identity/resolve"
)

// ResolveIdentity returns the DID and its document, for a handle too, and the
// handle if both point at each other.
func (s *Service) ResolveIdentity(ctx context.Context, p *api.ResolveIdentityParams) (*api.ResolveIdentityOutput, error) {
	return s.identity(ctx, p.Identifier, false, identityErrors{
		api.ErrResolveIdentityHandleNotFound, api.ErrResolveIdentityDIDNotFound, api.ErrResolveIdentityDIDDeactivated,
	})
}

// identityErrors are the names that a method declares.
type identityErrors struct{ handleNotFound, didNotFound, didDeactivated *xrpc.DeclaredError }

// identity resolves a handle or DID both ways; fresh bypasses the cache. An app view
// is not asked: its word may be old, and is not what the handle says.
func (s *Service) identity(ctx context.Context, id syntax.AtIdentifier, fresh bool, names identityErrors) (*api.IdentityInfo, error) {
	did, given := syntax.DID(id), syntax.Handle("")
	if id.IsHandle() {
		given = syntax.Handle(id).Normalize()
		var err error
		did, err = s.resolveHandle(ctx, given, s.Resolve)
		if errors.Is(err, errNotHere) || errors.Is(err, errNotThere) {
			return nil, names.handleNotFound.Wrap(http.StatusBadRequest, "Unable to resolve handle", err)
		}
		if err != nil {
			return nil, err
		}
	}
	doc, err := s.document(ctx, did, fresh)
	if err != nil {
		return nil, documentError(did, err, names.didNotFound, names.didDeactivated)
	}
	handle, err := s.verifiedHandle(ctx, doc, given)
	if err != nil {
		return nil, err
	}
	return &api.IdentityInfo{DID: did, Handle: handle, DIDDoc: doc.JSON}, nil
}

// verifiedHandle is the handle that the document claims and that points back to
// the DID, or the protocol's word for none. The handle given is known to point
// there.
func (s *Service) verifiedHandle(ctx context.Context, doc *resolve.Document, given syntax.Handle) (syntax.Handle, error) {
	claimed, err := syntax.ParseHandle(doc.Handle())
	if err != nil {
		return syntax.HandleInvalid, nil
	}
	claimed = claimed.Normalize()
	if given != "" {
		if claimed != given {
			return syntax.HandleInvalid, nil
		}
		return given, nil
	}
	did, err := s.resolveHandle(ctx, claimed, s.Resolve)
	switch {
	case errors.Is(err, errNotHere), errors.Is(err, errNotThere), err == nil && did != doc.DID:
		return syntax.HandleInvalid, nil
	case err != nil:
		return "", err
	}
	return claimed, nil
}
