package answer

import (
	"errors"
	"net/http"

	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account"
	"portico/impl/account/auth"
)

// errUserNotFound is the name that activation has for an account that cannot be switched
// on; the lexicons declare none.
var errUserNotFound = xrpc.Undeclared("AccountNotFound")

// Activation answers an activation that failed.
func Activation(err error) error {
	switch {
	case errors.Is(err, account.ErrTakenDown), errors.Is(err, db.ErrNotFound):
		return errUserNotFound.New(http.StatusBadRequest, "user not found")
	case errors.Is(err, account.ErrHeld):
		return auth.Quarantined()
	case errors.Is(err, account.ErrMoving):
		return xrpc.InvalidRequest("The account is on its way between two hosts").Because(err)
	case errors.Is(err, account.ErrImportUnfinished):
		return xrpc.InvalidRequest("The import of the repository was broken off: import it again")
	}
	return err
}
