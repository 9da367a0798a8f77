package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account"
	"portico/impl/account/auth"
	"portico/impl/account/password"
	"portico/impl/account/session"
	"portico/impl/answer"
	"portico/impl/audit"
	"portico/impl/budget"
	"portico/impl/identity/handle"
	"portico/impl/identity/plc"
	"portico/impl/mail/email"
	"portico/impl/mail/emailcode"
)

// Names that the lexicon does not declare for createAccount.
var errAlreadyExists = xrpc.Undeclared("AlreadyExists")

// CreateAccount signs up. With the caller's own DID, proven by a service token,
// the account starts deactivated and waits for its migration. A new DID is made by this
// server, or by an operation that the client signed. Where the server has a quarantine, the
// account is there for its owner alone until it is released.
func (s *Service) CreateAccount(ctx context.Context, in *api.CreateAccountInput) (*api.CreateAccountOutput, error) {
	request, err := s.signUp(ctx, in)
	if err != nil {
		return nil, err
	}
	number, err := s.phoneNumber(ctx, in)
	if err != nil {
		return nil, err
	}
	if text := xrpc.ValueOf(in.Password); text != "" {
		request.PasswordHash, err = s.Passwords.Hash(ctx, s.hashesFor(ctx), text)
		if err != nil {
			return nil, answer.Spent(err)
		}
	}
	if err := s.provePhone(ctx, number, in, request); err != nil {
		return nil, err
	}
	by := session.OpenedBy(auth.Acting(ctx, cmp.Or(request.DID.String(), audit.Stranger)), agent(ctx))
	created, err := s.Accounts.Create(by, *request)
	if err != nil {
		return nil, s.creationError(err, in)
	}
	if request.InviteCode != "" {
		s.forgiveSignUp(ctx)
	}
	s.askToConfirm(ctx, created.Account)
	document := created.Document
	if request.DID != "" {
		document = s.broughtDocument(ctx, request.DID)
	}
	return &api.CreateAccountOutput{
		DID: created.Account.DID, Handle: created.Account.Handle, DIDDoc: document,
		AccessJWT: created.Tokens.Access, RefreshJWT: created.Tokens.Refresh,
	}, nil
}

// askToConfirm mails the code that confirms the address of an account in quarantine: it lets
// one out, or keeps one from being deleted while the operator is waited for, and clients ask
// for a code when it suits them.
func (s *Service) askToConfirm(ctx context.Context, a *db.Account) {
	if !a.Held() || a.Email == "" || !s.Config().SendsMail {
		return
	}
	// The account is there, whatever becomes of this, and its owner can ask again.
	if err := s.Codes.Mail(context.WithoutCancel(ctx), a.DID, emailcode.ConfirmEmail, budget.Account(a.DID)); err != nil {
		s.Log.WarnContext(ctx, "mail a code to who signed up", "did", a.DID, "error", err)
	}
}

// signUp refuses what can be refused before anything is tried: first what is wrong by
// itself, then who may not bring this DID, and only then, paid by the caller's address,
// what others have already.
func (s *Service) signUp(ctx context.Context, in *api.CreateAccountInput) (*account.Request, error) {
	address, text, code, did := xrpc.ValueOf(in.Email), xrpc.ValueOf(in.Password), xrpc.ValueOf(in.InviteCode), xrpc.ValueOf(in.DID)
	domains := s.Domains.Current(ctx)
	genesis, err := s.signedGenesis(ctx, in)
	switch {
	case err != nil:
		return nil, err
	case genesis != nil:
		did = "" // not brought: the operation makes it
	}
	switch {
	case password.Length(text) > password.MaxNew:
		return nil, xrpc.InvalidRequest("Password too long. Maximum length is 256 characters.")
	case text != "" && password.Length(text) < s.Config().PasswordMinLength:
		return nil, api.ErrCreateAccountInvalidPassword.New(http.StatusBadRequest, answer.PasswordTooShort(s.Config().PasswordMinLength))
	case code == "" && domains.Policy(in.Handle) == handle.Invite:
		return nil, noInvite()
	case address == "":
		return nil, xrpc.InvalidRequest("Email is required")
	case !s.Emails.Supported(address):
		return nil, xrpc.InvalidRequest("This email address is not supported, please use a different email.")
	}
	choice, err := s.Handles.Check(domains, in.Handle.String(), false)
	if err == nil && !choice.Local && did == "" {
		err = handle.ErrUnsupportedDomain
	}
	if err != nil {
		return nil, handleError(err)
	}
	if did != "" && auth.Issuer(ctx) != did {
		return nil, xrpc.AuthenticationRequired("Missing auth to create account with did: " + did.String())
	}
	if err := s.spendSignUp(ctx, code); err != nil {
		return nil, err
	}
	if !choice.Local {
		if err := s.checkForeignHandle(ctx, choice.Handle, did); err != nil {
			return nil, handleError(err)
		}
	}
	if code != "" {
		if err := s.DB.InviteAvailable(ctx, code); errors.Is(err, db.ErrInviteUnavailable) {
			return nil, inviteUnavailable()
		} else if err != nil {
			return nil, err
		}
	}
	r := &account.Request{
		Handle: choice.Handle, Email: email.Normalize(address), InviteCode: code, RecoveryKey: xrpc.ValueOf(in.RecoveryKey), DID: did, Genesis: genesis,
		Quarantine: s.Accounts.Quarantine.Rule(), AddressRange: s.Accounts.AddressRange(xrpc.CallFrom(ctx).IP),
		Hold: func(ctx context.Context, tx *db.Tx) error {
			if err := s.countSignUp(ctx, tx, code); err != nil {
				return err
			}
			return s.holdDomain(ctx, tx, choice, code)
		},
	}
	if text == "" {
		// No password, no way to prove who owns the address: it stays free.
		r.Email = ""
	}
	if err := s.DB.Available(ctx, r.Handle, email.Normalize(address)); err != nil {
		return nil, s.creationError(err, in)
	}
	if did == "" {
		return r, nil
	}
	if _, err := s.DB.AccountByDID(ctx, did); err == nil {
		return nil, s.creationError(db.ErrDIDTaken, in)
	} else if !errors.Is(err, db.ErrNotFound) {
		return nil, err
	}
	return r, nil
}

// creationError is the answer to a creation that failed. A race that was lost
// answers like the check that it slipped past.
func (s *Service) creationError(err error, in *api.CreateAccountInput) error {
	if answer := genesisError(err); answer != nil {
		return answer
	}
	var refused *plc.Refused
	switch {
	case errors.Is(err, db.ErrHandleTaken):
		return api.ErrCreateAccountHandleNotAvailable.New(http.StatusBadRequest,
			"Handle already taken: "+in.Handle.Normalize().String())
	case errors.Is(err, db.ErrEmailTaken):
		return xrpc.InvalidRequest("Email already taken: " + xrpc.ValueOf(in.Email))
	case errors.Is(err, db.ErrDIDTaken):
		return errAlreadyExists.New(http.StatusBadRequest, "Repo already exists")
	case errors.Is(err, db.ErrInviteUnavailable):
		return inviteUnavailable()
	case errors.Is(err, handle.ErrUnsupportedDomain):
		return handleError(handle.ErrUnsupportedDomain)
	case errors.Is(err, db.ErrPhoneTaken):
		return s.phoneError(err)
	case errors.As(err, &refused):
		return xrpc.InvalidRequest(refused.Message)
	case errors.Is(err, account.ErrDirectory):
		return xrpc.UpstreamFailure("Unable to perform PLC operation").Because(err)
	}
	return err
}

// broughtDocument is the document of a DID that moves here, which its owner may
// just have changed. One that does not resolve now is left out.
func (s *Service) broughtDocument(ctx context.Context, did syntax.DID) json.RawMessage {
	doc, err := s.Resolve.Resolve(ctx, did, true)
	if err != nil {
		s.Log.DebugContext(ctx, "account without DID document", "did", did, "error", err)
		return nil
	}
	return doc.JSON
}

func noInvite() error {
	return api.ErrCreateAccountInvalidInviteCode.New(http.StatusBadRequest, "No invite code provided")
}

func inviteUnavailable() error {
	return api.ErrCreateAccountInvalidInviteCode.New(http.StatusBadRequest, "Provided invite code not available")
}
