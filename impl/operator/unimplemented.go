package operator

import (
	"context"

	api "portico/api/portico/operator"
	"portico/api/xrpc"
)

func (s *Service) ListDomains(context.Context) (*api.ListDomainsOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}
func (s *Service) PutDomain(context.Context, *api.PutDomainInput) (*api.PutDomainOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}
func (s *Service) RemoveDomain(context.Context, *api.RemoveDomainInput) error {
	return xrpc.MethodNotImplemented()
}
