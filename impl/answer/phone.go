package answer

import (
	"errors"
	"strconv"

	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/phone"
)

// Phone answers a phone number that cannot be verified. limit is how many accounts a
// number may have.
func Phone(err error, limit int) error {
	switch {
	case errors.Is(err, phone.ErrInvalid):
		return xrpc.InvalidRequest("Invalid phone number")
	case errors.Is(err, db.ErrPhoneTaken):
		return xrpc.InvalidRequest("There are too many accounts currently using this phone number. Max: " + strconv.Itoa(limit))
	case errors.Is(err, phone.ErrNumber):
		return xrpc.InvalidRequest("Could not send verification text: invalid phone number").Because(err)
	case errors.Is(err, phone.ErrCountry):
		return xrpc.InvalidRequest("Could not send verification text: country not supported").Because(err)
	case errors.Is(err, phone.ErrSend):
		return xrpc.UpstreamFailure("Could not send verification text").Because(err)
	case errors.Is(err, phone.ErrCheck):
		return xrpc.UpstreamFailure("Could not verify phone number. Please try again.").Because(err)
	}
	return Spent(err)
}
