package operator

import (
	"context"

	api "portico/api/portico/operator"
	"portico/impl/answer"
	"portico/impl/handle"
)

// ListDomains lists the domains of handles, also closed ones.
func (s *Service) ListDomains(ctx context.Context) (*api.ListDomainsOutput, error) {
	out := new(api.ListDomainsOutput)
	for _, d := range s.Domains.Current(ctx).All() {
		out.Domains = append(out.Domains, domainOf(d))
	}
	return out, nil
}

func domainOf(d handle.Domain) api.Domain {
	out := api.Domain{Domain: d.Name, InvitePolicy: string(d.Policy), Configured: d.Configured}
	if !d.DecidedAt.IsZero() {
		out.AddedAt = new(answer.Datetime(d.DecidedAt))
	}
	return out
}
