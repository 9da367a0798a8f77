package server

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/server"
)

// DescribeServer tells clients how to sign up here. Whether that takes an invite
// code is what the first domain asks, which clients offer; another may ask otherwise.
func (s *Service) DescribeServer(ctx context.Context) (*api.DescribeServerOutput, error) {
	domains := s.Domains.Current(ctx)
	out := &api.DescribeServerOutput{
		DID:                  s.Config.ServiceDID,
		AvailableUserDomains: domains.Available(),
		InviteCodeRequired:   new(domains.InviteRequired()),
		BlobUploadLimit:      new(s.Config.BlobUploadLimit),
		Links:                new(api.DescribeServerLinks),
		Contact:              new(api.DescribeServerContact),
	}
	if s.Phones != nil {
		out.PhoneVerificationRequired = new(true)
	}
	if u := s.Config.PrivacyPolicy; u != "" {
		out.Links.PrivacyPolicy = new(syntax.URI(u))
	}
	if u := s.Config.TermsOfService; u != "" {
		out.Links.TermsOfService = new(syntax.URI(u))
	}
	if e := s.Config.ContactEmail; e != "" {
		out.Contact.Email = new(e)
	}
	return out, nil
}
