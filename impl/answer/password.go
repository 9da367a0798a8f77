package answer

import (
	"fmt"
	"net/http"

	"portico/api/xrpc"
	"portico/impl/account/password"
)

// errInvalidPassword is a name that not every lexicon with a new password declares.
var errInvalidPassword = xrpc.Undeclared("InvalidPassword")

// NewPassword answers a password that no account is given: one that is too long, or
// shorter than least, in UTF-16 code units.
func NewPassword(text string, least int) error {
	switch n := password.Length(text); {
	case n > password.MaxNew:
		return xrpc.InvalidRequest("Invalid password length.")
	case n < least:
		return errInvalidPassword.New(http.StatusBadRequest, PasswordTooShort(least))
	}
	return nil
}

// PasswordTooShort is what clients are told of a password shorter than least.
func PasswordTooShort(least int) string {
	return fmt.Sprintf("Password too short. Minimum length is %d characters.", least)
}
