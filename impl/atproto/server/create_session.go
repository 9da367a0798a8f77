package server

import (
	"context"
	"errors"
	"net/http"
	"time"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/account/password"
	"portico/impl/account/session"
	"portico/impl/audit"
)

// signInAnswers is when sign-in answers while accounts have imported hashes,
// counted from its beginning. There is room in it for each kind of hash.
const signInAnswers = 350 * time.Millisecond

// CreateSession signs in with a handle, an email address or a DID. Nothing in
// the answer or in its time tells a wrong password from an unknown account.
func (s *Service) CreateSession(ctx context.Context, in *api.CreateSessionInput) (*api.CreateSessionOutput, error) {
	if password.Length(in.Password) > password.MaxLogin {
		return nil, xrpc.AuthenticationRequired("Password too long. Consider resetting your password.")
	}
	began := s.Now()
	ctx = session.OpenedBy(auth.Acting(ctx, audit.Stranger), agent(ctx))
	login, tokens, err := s.signIn(ctx, in)
	if errors.Is(err, session.ErrStale) {
		// The password was changed while it was being checked. Or it got a new kind of
		// hash by another sign-in, and is as right as before: check it against that.
		login, tokens, err = s.signIn(ctx, in)
	}
	if errors.Is(err, session.ErrStale) {
		err = errBadCredentials
	}
	if err := s.evenOut(ctx, began); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, loginError(err, "Invalid identifier or password")
	}
	a := login.account
	return &api.CreateSessionOutput{
		AccessJWT: tokens.Access, RefreshJWT: tokens.Refresh,
		DID: a.DID, Handle: shownHandle(a), DIDDoc: s.sessionDocument(ctx, a),
		Email: shownEmail(a), EmailConfirmed: new(a.EmailConfirmedAt != nil), EmailAuthFactor: xrpc.NonZero(a.EmailAuthFactor),
		Active: new(a.Active()), Status: shownStatus(a),
	}, nil
}

// agent is what the caller calls itself.
func agent(ctx context.Context) string {
	if c := xrpc.CallFrom(ctx); c != nil {
		return c.Request.UserAgent()
	}
	return ""
}

// evenOut waits until every sign-in has taken the same time, where hashes of the
// reference are left: they cost another time than ours, and would tell which
// accounts exist. Ours cost an unknown account as much as a known one.
func (s *Service) evenOut(ctx context.Context, began time.Time) error {
	imported, err := s.DB.ImportedHashes(ctx)
	if err == nil && imported && s.Wait != nil {
		s.Wait(ctx, signInAnswers-s.Now().Sub(began))
	}
	return err
}

// signIn checks the credentials and opens a session. It returns session.ErrStale
// when they were replaced meanwhile.
func (s *Service) signIn(ctx context.Context, in *api.CreateSessionInput) (*login, *session.Tokens, error) {
	login, err := s.login(ctx, in.Identifier, in.Password)
	if err != nil {
		return nil, nil, err
	}
	if err := s.checkAuthFactor(ctx, login, xrpc.ValueOf(in.AuthFactorToken)); err != nil {
		return nil, nil, err
	}
	tokens, err := s.startSession(auth.Acting(ctx, login.account.DID.String()), login, in)
	return login, tokens, err
}

func (s *Service) startSession(ctx context.Context, login *login, in *api.CreateSessionInput) (*session.Tokens, error) {
	if !login.account.TakenDown() {
		return s.Sessions.Start(ctx, login.account, login.app)
	}
	if in.AllowTakendown != nil && *in.AllowTakendown {
		return s.Sessions.Restricted(ctx, login.account)
	}
	err := s.DB.Write(ctx, func(tx *db.Tx) error {
		return audit.RecordOfAccount(ctx, tx, s.Now(), login.account.DID, audit.SignInFailed, "taken down")
	})
	if err != nil {
		return nil, err
	}
	return nil, api.ErrCreateSessionAccountTakedown.New(http.StatusUnauthorized, "Account has been taken down")
}
