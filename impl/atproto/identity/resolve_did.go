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
	"portico/impl/budget"
	"portico/impl/identity/resolve"
)

// ResolveDID returns the document of a DID, of whoever it is.
func (s *Service) ResolveDID(ctx context.Context, p *api.ResolveDIDParams) (*api.ResolveDIDOutput, error) {
	doc, err := s.document(ctx, p.DID, false)
	if err != nil {
		return nil, documentError(p.DID, err, api.ErrResolveDIDDIDNotFound, api.ErrResolveDIDDIDDeactivated)
	}
	return &api.ResolveDIDOutput{DIDDoc: doc.JSON}, nil
}

// document is what is published of a DID, or, for the owner of an account in quarantine
// and the operator, is going to be.
func (s *Service) document(ctx context.Context, did syntax.DID, fresh bool) (*resolve.Document, error) {
	a, err := s.DB.AccountByDID(ctx, did)
	a, err = auth.Seen(ctx, a, err)
	if errors.Is(err, db.ErrNotFound) {
		return s.Resolve.Resolve(ctx, did, fresh)
	}
	if err != nil {
		return nil, err
	}
	return s.Accounts.Document(ctx, a, fresh, s.Resolve)
}

// documentError is the answer to a document that could not be had. The names are
// those that the method declares.
func documentError(did syntax.DID, err error, notFound, deactivated *xrpc.DeclaredError) error {
	if _, spent := errors.AsType[*budget.Spent](err); spent {
		return answer.Spent(err)
	}
	switch {
	case errors.Is(err, resolve.ErrDeactivated):
		return deactivated.Wrap(http.StatusBadRequest, "DID is deactivated", err)
	case errors.Is(err, resolve.ErrNotFound):
		return notFound.Wrap(http.StatusBadRequest, "DID not found", err)
	case errors.Is(err, resolve.ErrUnsupported):
		return xrpc.InvalidRequest("Unsupported DID").Because(err)
	case errors.Is(err, resolve.ErrDocument):
		return xrpc.InvalidRequest("Poorly formatted DID Document").Because(err)
	}
	failure := xrpc.UpstreamFailure("Unable to resolve DID").Because(err)
	failure.ByCaller = did.Method() != "plc" // the host that failed is the caller's choice
	return failure
}
