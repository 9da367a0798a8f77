// Package temp is com.atproto.temp, as far as this server has a part in it.
//
// Its lexicons are a collection of what other services do: most of its methods are
// those of an entryway or a labeler, and are not served, see not_served.go.
package temp

import (
	"io"
	"time"

	api "portico/api/atproto/temp"
	"portico/db"
	"portico/impl/account"
	"portico/impl/account/phone"
	"portico/impl/budget"
	"portico/impl/identity/domain"
	"portico/impl/identity/handle"
	"portico/impl/mail/email"
)

// Service is the behaviour of com.atproto.temp. It is safe for concurrent use.
type Service struct {
	DB       *db.DB
	Accounts *account.Accounts
	Phones   *phone.Verification // nil: phones are not verified
	Budgets  *budget.Ledger
	// Handles, Domains and Emails are those of sign-up.
	Handles *handle.Rules
	Domains *domain.Domains
	Emails  *email.Rules
	Now     func() time.Time
	Rand    io.Reader // of suggestions; safe for concurrent use
}

var _ api.Service = (*Service)(nil)
