package operator

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	api "portico/api/portico/operator"
	"portico/impl/identity/domain"
)

// RemoveDomain gives no more handles under a domain. Accounts that have some there
// keep it from being removed, or with force lose what they resolve to.
func (s *Service) RemoveDomain(ctx context.Context, in *api.RemoveDomainInput) error {
	err := s.Domains.Remove(ctx, in.Domain, in.Force != nil && *in.Force)
	if used, ok := errors.AsType[*domain.InUseError](err); ok {
		have := fmt.Sprintf("%d accounts have handles", used.Accounts)
		if used.Accounts == 1 {
			have = "1 account has a handle"
		}
		return api.ErrRemoveDomainDomainInUse.New(http.StatusBadRequest, have+" under it, which would no longer resolve")
	}
	switch {
	case errors.Is(err, domain.ErrUnknown):
		return api.ErrRemoveDomainDomainNotFound.New(http.StatusBadRequest, "There is no such domain")
	case errors.Is(err, domain.ErrLast):
		return api.ErrRemoveDomainLastDomain.New(http.StatusBadRequest, "It is the last domain, and the server needs one")
	}
	return err
}
