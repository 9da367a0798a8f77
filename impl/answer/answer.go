// Package answer is what the methods of all namespaces say alike: how a failure of
// the domain is told to a client, and how a time is written.
//
// Each function for errors returns those that are not its business as they are, so
// that the caller may pass on whatever it got.
package answer

import (
	"cmp"
	"errors"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account"
	"portico/impl/account/factor"
	"portico/impl/account/password"
	"portico/impl/budget"
	"portico/impl/identity/plc"
	"portico/impl/mail/emailcode"
)

// Code answers a code, emailed or of another second factor, that was not accepted.
func Code(err error) error {
	switch {
	case errors.Is(err, emailcode.ErrInvalid), errors.Is(err, factor.ErrInvalid):
		return xrpc.InvalidToken("Token is invalid")
	case errors.Is(err, emailcode.ErrExpired):
		return xrpc.ExpiredToken("Token is expired")
	}
	return Spent(err)
}

// Spent answers a budget of the caller's own that is spent, or more passwords to hash
// than the server can.
func Spent(err error) error {
	if spent, ok := errors.AsType[*budget.Spent](err); ok {
		return xrpc.RateLimitExceeded(spent.Wait).Because(err)
	}
	if errors.Is(err, password.ErrBusy) {
		return xrpc.NotEnoughResources(busyFor).Because(err)
	}
	return err
}

// busyFor is how long a server that has too much to do is best left alone.
const busyFor = 5 * time.Second

// Mail answers a mail that could not be queued.
func Mail(err error) error {
	switch {
	case errors.Is(err, db.ErrNotFound):
		return xrpc.InvalidRequest("account not found")
	case errors.Is(err, emailcode.ErrNoEmail):
		return xrpc.InvalidRequest("account does not have an email address")
	}
	return Spent(err)
}

// Directory answers a PLC directory that refused, or of which nobody knows what
// it did. What it says about that reaches the client.
func Directory(err error) error {
	const unable = "Unable to perform PLC operation"
	if refused, ok := errors.AsType[*plc.Refused](err); ok {
		return xrpc.InvalidRequest(cmp.Or(refused.Message, unable))
	}
	if failed, ok := errors.AsType[*plc.Error](err); ok {
		message := cmp.Or(failed.Message, unable)
		if failed.Status >= 400 && failed.Status < 500 {
			return xrpc.InvalidRequest(message)
		}
		return xrpc.UpstreamFailure(message).Because(err)
	}
	if errors.Is(err, account.ErrDirectory) || errors.Is(err, plc.ErrUnknown) || errors.Is(err, plc.ErrUnreachable) {
		return xrpc.UpstreamFailure(unable).Because(err)
	}
	return err
}

// Datetime is t as clients are told it: in UTC, to the millisecond.
func Datetime(t time.Time) syntax.Datetime {
	return syntax.Datetime(t.UTC().Format("2006-01-02T15:04:05.000Z"))
}

// Moment is Datetime for a time that may be absent.
func Moment(t *time.Time) *syntax.Datetime {
	if t == nil {
		return nil
	}
	return new(Datetime(*t))
}
