// Package temp is com.atproto.temp, as far as this server has a part in it.
//
// Its lexicons are a collection of what other services do: most of its methods are
// those of an entryway or a labeler, and are not served, see not_served.go.
package temp

import (
	"net/netip"

	api "portico/api/atproto/temp"
	"portico/impl/account/phone"
)

// Service is the behaviour of com.atproto.temp. It is safe for concurrent use.
type Service struct {
	Phones *phone.Verification // nil: phones are not verified
	// Exempt are addresses that the budgets of addresses do not count.
	Exempt []netip.Addr
}

var _ api.Service = (*Service)(nil)
