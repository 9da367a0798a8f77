package sync

import (
	"context"

	api "portico/api/atproto/sync"
	"portico/api/xrpc"
)

// The methods in this file are not served: requests for them are passed on like those for
// any name that is unknown here. Each stands here with its decision, so that a method which
// is new upstream still breaks the build. What their behaviour says is never asked.

func (p Policy) ListHosts() xrpc.Policy[api.ListHostsParams] {
	return xrpc.NotServed[api.ListHostsParams]()
}
func (s *Service) ListHosts(context.Context, *api.ListHostsParams) (*api.ListHostsOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}

func (p Policy) NotifyOfUpdate() xrpc.Policy[api.NotifyOfUpdateInput] {
	return xrpc.NotServed[api.NotifyOfUpdateInput]()
}
func (s *Service) NotifyOfUpdate(context.Context, *api.NotifyOfUpdateInput) error {
	return xrpc.MethodNotImplemented()
}

func (p Policy) RequestCrawl() xrpc.Policy[api.RequestCrawlInput] {
	return xrpc.NotServed[api.RequestCrawlInput]()
}
func (s *Service) RequestCrawl(context.Context, *api.RequestCrawlInput) error {
	return xrpc.MethodNotImplemented()
}
