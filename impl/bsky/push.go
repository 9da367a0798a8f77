package bsky

import (
	"bytes"
	"context"
	"errors"
	"net/url"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/api/xrpc"
	"portico/impl/account/auth"
	"portico/impl/answer"
	"portico/impl/budget"
	"portico/impl/identity/resolve"
	"portico/impl/proxy"
)

// push sends what the caller was sent on to a service for push messages.
func (s *Service) push(ctx context.Context, service syntax.DID) error {
	c := xrpc.CallFrom(ctx)
	if err := s.Proxy.Permit(ctx, proxy.Service{DID: service, ID: proxy.PushID}, c.NSID); err != nil {
		return err
	}
	to, err := s.pushService(ctx, service)
	if err != nil {
		return err
	}
	_, err = s.Proxy.Call(ctx, to, auth.Caller(ctx).DID, c.NSID, nil, bytes.Clone(c.Sent()))
	return err
}

// pushService is the service for push messages of a DID; its errors are answers.
func (s *Service) pushService(ctx context.Context, did syntax.DID) (proxy.Service, error) {
	if did == s.Proxy.AppView.DID {
		return proxy.Service{DID: did, ID: proxy.PushID, URL: s.Proxy.AppView.URL}, nil
	}
	doc, err := s.Proxy.Documents.Resolve(ctx, did, false)
	_, spent := errors.AsType[*budget.Spent](err)
	switch {
	case spent:
		return proxy.Service{}, answer.Spent(err)
	case errors.Is(err, resolve.ErrDocument):
		return proxy.Service{}, xrpc.InvalidRequest("invalid did document: " + did.String()).Because(err)
	case err != nil:
		return proxy.Service{}, xrpc.InvalidRequest("could not resolve did document: " + did.String()).Because(err)
	}
	u, err := url.Parse(doc.ServiceEndpoint(proxy.PushID, "BskyNotificationService"))
	if err != nil || u.Host == "" {
		return proxy.Service{}, xrpc.InvalidRequest("invalid notification service details in did document: " + did.String())
	}
	return proxy.Service{DID: did, ID: proxy.PushID, URL: u.Scheme + "://" + u.Host}, nil
}
