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
func (s *Service) ConfirmEmail(context.Context, *api.ConfirmEmailInput) error {
	return xrpc.MethodNotImplemented()
}
func (s *Service) CreateAppPassword(context.Context, *api.CreateAppPasswordInput) (*api.CreateAppPasswordAppPassword, error) {
	return nil, xrpc.MethodNotImplemented()
}
func (s *Service) CreateInviteCode(context.Context, *api.CreateInviteCodeInput) (*api.CreateInviteCodeOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}
func (s *Service) CreateInviteCodes(context.Context, *api.CreateInviteCodesInput) (*api.CreateInviteCodesOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}
func (s *Service) DeactivateAccount(context.Context, *api.DeactivateAccountInput) error {
	return xrpc.MethodNotImplemented()
}
func (s *Service) DeleteAccount(context.Context, *api.DeleteAccountInput) error {
	return xrpc.MethodNotImplemented()
}
func (s *Service) GetAccountInviteCodes(context.Context, *api.GetAccountInviteCodesParams) (*api.GetAccountInviteCodesOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}
func (s *Service) GetServiceAuth(context.Context, *api.GetServiceAuthParams) (*api.GetServiceAuthOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}
func (s *Service) ListAppPasswords(context.Context) (*api.ListAppPasswordsOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}
func (s *Service) RequestAccountDelete(context.Context) error     { return xrpc.MethodNotImplemented() }
func (s *Service) RequestEmailConfirmation(context.Context) error { return xrpc.MethodNotImplemented() }
func (s *Service) RequestEmailUpdate(context.Context) (*api.RequestEmailUpdateOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}
func (s *Service) RequestPasswordReset(context.Context, *api.RequestPasswordResetInput) error {
	return xrpc.MethodNotImplemented()
}
func (s *Service) ReserveSigningKey(context.Context, *api.ReserveSigningKeyInput) (*api.ReserveSigningKeyOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}
func (s *Service) ResetPassword(context.Context, *api.ResetPasswordInput) error {
	return xrpc.MethodNotImplemented()
}
func (s *Service) RevokeAppPassword(context.Context, *api.RevokeAppPasswordInput) error {
	return xrpc.MethodNotImplemented()
}
func (s *Service) UpdateEmail(context.Context, *api.UpdateEmailInput) error {
	return xrpc.MethodNotImplemented()
}
