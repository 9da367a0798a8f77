package server

import (
	"context"
	"time"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/impl/account/auth"
	"portico/impl/account/token"
	"portico/impl/mail/email"
	"portico/impl/oauth/scope"
)

// Policy says who may call each method of com.atproto.server, and how often
// where the operator switched request limits on.
type Policy struct{ Gate *auth.Gate }

var _ api.Policy = Policy{}

// Anyone.

func (p Policy) DescribeServer() xrpc.Policy[xrpc.None] { return public[xrpc.None]() }
func (p Policy) ReserveSigningKey() xrpc.Policy[api.ReserveSigningKeyInput] {
	return public[api.ReserveSigningKeyInput]()
}

func (p Policy) CreateSession() xrpc.Policy[api.CreateSessionInput] {
	// The identifier is folded, so that its spelling buys no more tries.
	who := func(ctx context.Context, in *api.CreateSessionInput) string {
		return email.ToLower(cleanIdentifier(in.Identifier)) + "-" + xrpc.CallFrom(ctx).IPKey()
	}
	return public(
		xrpc.Limit[api.CreateSessionInput]{Points: 30, Per: 5 * time.Minute, Key: who},
		xrpc.Limit[api.CreateSessionInput]{Points: 300, Per: day, Key: who},
	)
}

func (p Policy) RequestPasswordReset() xrpc.Policy[api.RequestPasswordResetInput] {
	return public(
		xrpc.Limit[api.RequestPasswordResetInput]{Points: 15, Per: time.Hour},
		xrpc.Limit[api.RequestPasswordResetInput]{Points: 50, Per: day},
	)
}

func (p Policy) ResetPassword() xrpc.Policy[api.ResetPasswordInput] {
	return public(xrpc.Limit[api.ResetPasswordInput]{Points: 50, Per: 5 * time.Minute})
}

// DeleteAccount asks for password and emailed code in the body instead.
func (p Policy) DeleteAccount() xrpc.Policy[api.DeleteAccountInput] {
	policy := public(xrpc.Limit[api.DeleteAccountInput]{Points: 50, Per: 5 * time.Minute})
	policy.Auth = p.Gate.Anybody(token.Standard.With(token.Takendown), noApp)
	return policy
}

// Anyone, or the owner of a DID that moves here.

func (p Policy) CreateAccount() xrpc.Policy[api.CreateAccountInput] {
	return xrpc.Policy[api.CreateAccountInput]{
		Auth:   p.Gate.ServiceOptional(),
		Limits: xrpc.Limits[api.CreateAccountInput]{{Points: 100, Per: 5 * time.Minute}},
	}
}

// Holders of a refresh token.

func (p Policy) RefreshSession() xrpc.Policy[xrpc.None] {
	return unlimited[xrpc.None](p.Gate.Refresh())
}
func (p Policy) DeleteSession() xrpc.Policy[xrpc.None] {
	return unlimited[xrpc.None](p.Gate.SpentRefresh())
}

// Any session.

func (p Policy) GetSession() xrpc.Policy[xrpc.None] {
	return unlimited[xrpc.None](p.Gate.Session(token.Standard.With(token.SignupQueued), auth.AnyApp))
}
func (p Policy) CheckAccountStatus() xrpc.Policy[xrpc.None] {
	return unlimited[xrpc.None](p.Gate.Session(token.Standard, auth.AnyApp))
}
func (p Policy) ListAppPasswords() xrpc.Policy[xrpc.None] {
	return unlimited[xrpc.None](p.Gate.Session(token.Standard, noApp, auth.NotTakenDown))
}
func (p Policy) RevokeAppPassword() xrpc.Policy[api.RevokeAppPasswordInput] {
	return unlimited[api.RevokeAppPasswordInput](p.Gate.Session(token.Standard, noApp, auth.NotTakenDown))
}
func (p Policy) ConfirmEmail() xrpc.Policy[api.ConfirmEmailInput] {
	return unlimited[api.ConfirmEmailInput](p.Gate.Session(token.Standard, managesEmail, auth.NotTakenDown))
}
func (p Policy) RequestEmailConfirmation() xrpc.Policy[xrpc.None] {
	return mailing(p.Gate.Session(token.Standard, managesEmail, auth.NotTakenDown))
}

// GetServiceAuth lets a taken-down account through: the handler allows it the
// one token that it needs to move away. Of an app it asks whether it may call the method that
// the token is for, of the service that it is for.
func (p Policy) GetServiceAuth() xrpc.Policy[api.GetServiceAuthParams] {
	return unlimited[api.GetServiceAuthParams](p.Gate.Session(token.Standard.With(token.Takendown), auth.AppAsked("rpc:<lxm>?aud=<aud>"), auth.Exists, auth.NotHeld))
}

// Sessions with the account password only, and of apps those that were let into just this.

func (p Policy) ActivateAccount() xrpc.Policy[xrpc.None] {
	return unlimited[xrpc.None](p.Gate.Session(token.Full, auth.NoApp(
		"Account reactivation is not available with OAuth credentials. Sign in to your account management page to reactivate.")))
}
func (p Policy) DeactivateAccount() xrpc.Policy[api.DeactivateAccountInput] {
	return unlimited[api.DeactivateAccountInput](p.Gate.Session(token.Full.With(token.Takendown),
		auth.AppWith(scope.Account{Attr: "status", Action: "manage"})))
}
func (p Policy) CreateAppPassword() xrpc.Policy[api.CreateAppPasswordInput] {
	return unlimited[api.CreateAppPasswordInput](p.Gate.Session(token.Full, noApp, auth.NotTakenDown))
}
func (p Policy) GetAccountInviteCodes() xrpc.Policy[api.GetAccountInviteCodesParams] {
	return unlimited[api.GetAccountInviteCodesParams](p.Gate.Session(token.Full, noApp, auth.NotTakenDown))
}
func (p Policy) UpdateEmail() xrpc.Policy[api.UpdateEmailInput] {
	return unlimited[api.UpdateEmailInput](p.Gate.Session(token.Full, ownersEmail, auth.NotTakenDown))
}
func (p Policy) RequestEmailUpdate() xrpc.Policy[xrpc.None] {
	return mailing(p.Gate.Session(token.Full, ownersEmail, auth.NotTakenDown))
}
func (p Policy) RequestAccountDelete() xrpc.Policy[xrpc.None] {
	return mailing(p.Gate.Session(token.Full, noApp, auth.NotTakenDown))
}

// The operator.

func (p Policy) CreateInviteCode() xrpc.Policy[api.CreateInviteCodeInput] {
	return unlimited[api.CreateInviteCodeInput](p.Gate.Admin())
}
func (p Policy) CreateInviteCodes() xrpc.Policy[api.CreateInviteCodesInput] {
	return unlimited[api.CreateInviteCodesInput](p.Gate.Admin())
}

// What apps may do.
var (
	noApp        = auth.NoApp(auth.Unsupported)
	managesEmail = auth.AppWith(scope.Account{Attr: "email", Action: "manage"})
	ownersEmail  = auth.NoApp("Use the account manager interface to update email address associated with an account")
)

const day = 24 * time.Hour

// public lets anyone call, limited by limits and the global limit.
func public[In any](limits ...xrpc.Limit[In]) xrpc.Policy[In] {
	return xrpc.Policy[In]{Auth: xrpc.Public, Limits: append(xrpc.GlobalLimitOnly[In](), limits...)}
}

// unlimited has no limit of its own beside the global one.
func unlimited[In any](who xrpc.Authenticator) xrpc.Policy[In] {
	return xrpc.Policy[In]{Auth: who, Limits: xrpc.GlobalLimitOnly[In]()}
}

// mailing limits the methods that send the caller a mail.
func mailing(who xrpc.Authenticator) xrpc.Policy[xrpc.None] {
	account := func(ctx context.Context, _ *xrpc.None) string { return auth.Caller(ctx).DID.String() }
	return xrpc.Policy[xrpc.None]{Auth: who, Limits: xrpc.Limits[xrpc.None]{
		{Points: 5, Per: time.Hour, Key: account},
		{Points: 15, Per: day, Key: account},
	}}
}
