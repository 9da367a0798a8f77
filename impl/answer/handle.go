package answer

import (
	"errors"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account"
	"portico/impl/account/auth"
	"portico/impl/budget"
	"portico/impl/identity/handle"
	"portico/impl/identity/plc"
)

// handleErrors are the names under which a handle is refused where the lexicon
// declares none.
var handleErrors = map[string]*xrpc.DeclaredError{
	"InvalidHandle":      xrpc.Undeclared("InvalidHandle"),
	"HandleNotAvailable": xrpc.Undeclared("HandleNotAvailable"),
	"UnsupportedDomain":  xrpc.Undeclared("UnsupportedDomain"),
}

// Handle answers a handle that an account is not given, wanted as it was asked for, a DID
// that could not be made to name it, or a budget of the caller's own that is spent.
func Handle(err error, wanted syntax.Handle) error {
	if refused, ok := errors.AsType[*handle.Error](err); ok {
		if name, ok := handleErrors[refused.Name]; ok {
			return name.New(http.StatusBadRequest, refused.Message)
		}
		return xrpc.InvalidRequest(refused.Message)
	}
	if errors.Is(err, db.ErrHandleTaken) {
		return handleErrors["HandleNotAvailable"].New(http.StatusBadRequest, "Handle already taken: "+wanted.Normalize().String())
	}
	if errors.Is(err, account.ErrHandleChanging) {
		return xrpc.InvalidRequest("Another change of the handle is under way")
	}
	if _, ok := errors.AsType[*budget.Spent](err); ok {
		return Spent(err)
	}
	return DID(err)
}

// DID answers a DID that does not fit its account, that could not be changed, or of
// which nobody could tell.
func DID(err error) error {
	if wrong, ok := errors.AsType[*account.DIDError](err); ok {
		return xrpc.InvalidRequest(wrong.Message)
	}
	if errors.Is(err, account.ErrHeld) {
		return auth.Quarantined()
	}
	if errors.Is(err, plc.ErrTombstoned) {
		return xrpc.InvalidRequest("Did is tombstoned")
	}
	return Directory(err)
}
