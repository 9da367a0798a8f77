// Package temp is com.atproto.temp, as far as this server has a part in it.
//
// Its lexicons are a collection of what other services do: most of its methods are
// those of an entryway or a labeler, and are not served, see not_served.go.
package temp

import (
	api "portico/api/atproto/temp"
	"portico/impl/account/phone"
	"portico/impl/budget"
)

// Service is the behaviour of com.atproto.temp. It is safe for concurrent use.
type Service struct {
	Phones  *phone.Verification // nil: phones are not verified
	Budgets *budget.Ledger
}

var _ api.Service = (*Service)(nil)
