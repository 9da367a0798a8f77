package admin

import (
	api "portico/api/atproto/admin"
	"portico/api/xrpc"
	"portico/impl/account/auth"
)

// Policy says who may call each method of com.atproto.admin. None has a limit of
// its own.
type Policy struct{ Gate *auth.Gate }

var _ api.Policy = Policy{}

// The operator alone: what gives an account to somebody else, or ends it.

func (p Policy) DeleteAccount() xrpc.Policy[api.DeleteAccountInput] {
	return unlimited[api.DeleteAccountInput](p.Gate.Admin())
}
func (p Policy) UpdateAccountEmail() xrpc.Policy[api.UpdateAccountEmailInput] {
	return unlimited[api.UpdateAccountEmailInput](p.Gate.Admin())
}
func (p Policy) UpdateAccountHandle() xrpc.Policy[api.UpdateAccountHandleInput] {
	return unlimited[api.UpdateAccountHandleInput](p.Gate.Admin())
}
func (p Policy) UpdateAccountPassword() xrpc.Policy[api.UpdateAccountPasswordInput] {
	return unlimited[api.UpdateAccountPasswordInput](p.Gate.Admin())
}
func (p Policy) UpdateAccountSigningKey() xrpc.Policy[api.UpdateAccountSigningKeyInput] {
	return unlimited[api.UpdateAccountSigningKeyInput](p.Gate.Admin())
}

// The moderation service too.

func (p Policy) DisableAccountInvites() xrpc.Policy[api.DisableAccountInvitesInput] {
	return unlimited[api.DisableAccountInvitesInput](p.Gate.Moderator())
}
func (p Policy) DisableInviteCodes() xrpc.Policy[api.DisableInviteCodesInput] {
	return unlimited[api.DisableInviteCodesInput](p.Gate.Moderator())
}
func (p Policy) EnableAccountInvites() xrpc.Policy[api.EnableAccountInvitesInput] {
	return unlimited[api.EnableAccountInvitesInput](p.Gate.Moderator())
}
func (p Policy) GetAccountInfo() xrpc.Policy[api.GetAccountInfoParams] {
	return unlimited[api.GetAccountInfoParams](p.Gate.Moderator())
}
func (p Policy) GetAccountInfos() xrpc.Policy[api.GetAccountInfosParams] {
	return unlimited[api.GetAccountInfosParams](p.Gate.Moderator())
}
func (p Policy) GetInviteCodes() xrpc.Policy[api.GetInviteCodesParams] {
	return unlimited[api.GetInviteCodesParams](p.Gate.Moderator())
}
func (p Policy) GetSubjectStatus() xrpc.Policy[api.GetSubjectStatusParams] {
	return unlimited[api.GetSubjectStatusParams](p.Gate.Moderator())
}
func (p Policy) SearchAccounts() xrpc.Policy[api.SearchAccountsParams] {
	return unlimited[api.SearchAccountsParams](p.Gate.Moderator())
}
func (p Policy) SendEmail() xrpc.Policy[api.SendEmailInput] {
	return unlimited[api.SendEmailInput](p.Gate.Moderator())
}
func (p Policy) UpdateSubjectStatus() xrpc.Policy[api.UpdateSubjectStatusInput] {
	return unlimited[api.UpdateSubjectStatusInput](p.Gate.Moderator())
}

// unlimited has no limit of its own beside the global one.
func unlimited[In any](who xrpc.Authenticator) xrpc.Policy[In] {
	return xrpc.Policy[In]{Auth: who, Limits: xrpc.GlobalLimitOnly[In]()}
}
