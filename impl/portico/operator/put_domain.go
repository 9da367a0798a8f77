package operator

import (
	"context"
	"errors"
	"net/http"
	"strings"

	api "portico/api/portico/operator"
	"portico/impl/identity/domain"
	"portico/impl/identity/handle"
)

// PutDomain adds a domain of handles, or says who may sign up under one that is there.
func (s *Service) PutDomain(ctx context.Context, in *api.PutDomainInput) (*api.PutDomainOutput, error) {
	var policy handle.Policy
	if in.InvitePolicy != nil {
		policy = handle.Policy(*in.InvitePolicy)
	}
	put, err := s.Domains.Put(ctx, in.Domain, policy)
	switch {
	case errors.Is(err, domain.ErrInvalid):
		return nil, api.ErrPutDomainInvalidDomain.New(http.StatusBadRequest, "No handle could be under "+in.Domain)
	case errors.Is(err, domain.ErrTopLevel):
		return nil, api.ErrPutDomainInvalidDomain.New(http.StatusBadRequest,
			strings.TrimPrefix(in.Domain, ".")+" is a top-level domain: handles under it are other people's")
	case err != nil:
		return nil, err
	}
	return s.domain(ctx, put)
}
