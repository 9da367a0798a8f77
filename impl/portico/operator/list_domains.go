package operator

import (
	"context"

	api "portico/api/portico/operator"
	"portico/impl/answer"
	"portico/impl/identity/handle"
)

// ListDomains lists the domains of handles, also closed ones.
func (s *Service) ListDomains(ctx context.Context) (*api.ListDomainsOutput, error) {
	out := new(api.ListDomainsOutput)
	for _, d := range s.Domains.Current(ctx).All() {
		domain, err := s.domain(ctx, d)
		if err != nil {
			return nil, err
		}
		out.Domains = append(out.Domains, *domain)
	}
	return out, nil
}

func (s *Service) domain(ctx context.Context, d handle.Domain) (*api.Domain, error) {
	accounts, err := s.DB.HandlesAt(ctx, d.Name)
	if err != nil {
		return nil, err
	}
	out := &api.Domain{Domain: d.Name, InvitePolicy: string(d.Policy), Configured: d.Configured, Accounts: int64(accounts)}
	if !d.DecidedAt.IsZero() {
		out.AddedAt = new(answer.Datetime(d.DecidedAt))
	}
	return out, nil
}
