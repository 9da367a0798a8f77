package answer

import (
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/api/xrpc"
	"portico/db"
	"portico/impl/repo/dagcbor"
)

// Not all methods that answer these names declare them.
var (
	errRepoNotFound    = xrpc.Undeclared("RepoNotFound")
	errRepoTakendown   = xrpc.Undeclared("RepoTakendown")
	errRepoDeactivated = xrpc.Undeclared("RepoDeactivated")
)

// RepoNotFound answers a DID of which there is no account here.
func RepoNotFound(did syntax.DID) error {
	return errRepoNotFound.New(http.StatusBadRequest, "Could not find repo for DID: "+did.String())
}

// RepoWithoutRoot answers for an account that has no repository.
func RepoWithoutRoot(did syntax.DID) error {
	return errRepoNotFound.New(http.StatusBadRequest, "Could not find root for DID: "+did.String())
}

// RepoUnavailable answers strangers who want the repository of an account that is not
// active, and returns nil for others.
func RepoUnavailable(a *db.Account) error {
	switch {
	case a.TakenDown():
		return errRepoTakendown.New(http.StatusBadRequest, "Repo has been takendown: "+a.DID.String())
	case a.Deactivated():
		return errRepoDeactivated.New(http.StatusBadRequest, "Repo has been deactivated: "+a.DID.String())
	}
	return nil
}

// AfterCID reads the cursor of a list of blobs: the binary form of a CID, nil where there
// is no cursor. Others were given by nobody here, and are refused.
func AfterCID(cursor *string) ([]byte, error) {
	if cursor == nil {
		return nil, nil
	}
	cid, err := dagcbor.ParseCID(*cursor)
	if err != nil {
		return nil, xrpc.InvalidRequest("Malformed cursor").Because(err)
	}
	return cid[:], nil
}
