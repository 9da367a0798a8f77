package temp

import (
	"context"

	api "portico/api/atproto/temp"
	"portico/api/xrpc"
)

// The methods in this file are not served: requests for them are passed on like those for
// any name that is unknown here, as on the reference. Each stands here with its decision,
// so that a method which is new upstream still breaks the build. What their behaviour says
// is never asked.

func (p Policy) AddReservedHandle() xrpc.Policy[api.AddReservedHandleInput] {
	return xrpc.NotServed[api.AddReservedHandleInput]()
}
func (s *Service) AddReservedHandle(context.Context, *api.AddReservedHandleInput) (*api.AddReservedHandleOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}

func (p Policy) DereferenceScope() xrpc.Policy[api.DereferenceScopeParams] {
	return xrpc.NotServed[api.DereferenceScopeParams]()
}
func (s *Service) DereferenceScope(context.Context, *api.DereferenceScopeParams) (*api.DereferenceScopeOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}

func (p Policy) FetchLabels() xrpc.Policy[api.FetchLabelsParams] {
	return xrpc.NotServed[api.FetchLabelsParams]()
}
func (s *Service) FetchLabels(context.Context, *api.FetchLabelsParams) (*api.FetchLabelsOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}

func (p Policy) RevokeAccountCredentials() xrpc.Policy[api.RevokeAccountCredentialsInput] {
	return xrpc.NotServed[api.RevokeAccountCredentialsInput]()
}
func (s *Service) RevokeAccountCredentials(context.Context, *api.RevokeAccountCredentialsInput) error {
	return xrpc.MethodNotImplemented()
}
