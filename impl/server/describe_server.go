package server

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/server"
)

// DescribeServer tells clients how to sign up here.
func (s *Service) DescribeServer(context.Context) (*api.DescribeServerOutput, error) {
	out := &api.DescribeServerOutput{
		DID:                  s.Config.ServiceDID,
		AvailableUserDomains: s.Config.HandleDomains,
		InviteCodeRequired:   new(s.Config.InviteRequired),
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
