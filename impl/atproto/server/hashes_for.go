package server

import (
	"context"

	"portico/impl/account/password"
	"portico/impl/budget"
)

// hashesFor is who waits for a hash: at the place where the request comes from, unless
// that is nobody's in particular.
func (s *Service) hashesFor(ctx context.Context) password.Caller {
	ip := address(ctx)
	if s.Budgets.Nobody(ip) {
		return password.Caller{}
	}
	return password.Caller{Address: budget.Address(ip), Network: budget.Network(ip)}
}
