package server

import (
	"context"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
)

// The methods that nobody has written yet. Each answers 501 and does nothing.

func (s *Service) ActivateAccount(context.Context) error { return xrpc.MethodNotImplemented() }
func (s *Service) CheckAccountStatus(context.Context) (*api.CheckAccountStatusOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}
func (s *Service) DeactivateAccount(context.Context, *api.DeactivateAccountInput) error {
	return xrpc.MethodNotImplemented()
}
func (s *Service) DeleteAccount(context.Context, *api.DeleteAccountInput) error {
	return xrpc.MethodNotImplemented()
}
