package server

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/server"
	"portico/impl/identity/handle"
)

// DescribeServer tells clients how to sign up here. Whether that takes an invite
// code is what the first domain asks, which clients offer; another may ask otherwise.
func (s *Service) DescribeServer(ctx context.Context) (*api.DescribeServerOutput, error) {
	return nil, s.described.Answer(described{s.Domains.Current(ctx), s.Config(), s.Phones != nil}, described.output)
}

// described is what the answer of describeServer is made of. Domains do not change; others
// take their place.
type described struct {
	domains *handle.Domains
	config  Config
	phones  bool
}

func (d described) output() *api.DescribeServerOutput {
	out := &api.DescribeServerOutput{
		DID:                  d.config.ServiceDID,
		AvailableUserDomains: d.domains.Available(),
		InviteCodeRequired:   new(d.domains.InviteRequired()),
		BlobUploadLimit:      new(d.config.BlobUploadLimit),
		Links:                new(api.DescribeServerLinks),
		Contact:              new(api.DescribeServerContact),
	}
	if d.phones {
		out.PhoneVerificationRequired = new(true)
	}
	if u := d.config.PrivacyPolicy; u != "" {
		out.Links.PrivacyPolicy = new(syntax.URI(u))
	}
	if u := d.config.TermsOfService; u != "" {
		out.Links.TermsOfService = new(syntax.URI(u))
	}
	if e := d.config.ContactEmail; e != "" {
		out.Contact.Email = new(e)
	}
	return out
}
