// Package signin proves for pages who somebody is: by the methods that clients call, with
// their budgets, and in steps where a second proof is asked for beside the password.
package signin

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"time"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/factor"
	"portico/impl/account/token"
	"portico/impl/answer"
	"portico/impl/audit"
	"portico/impl/keyring"
	"portico/impl/page"
)

// Methods are those of the server as pages call them on behalf of their visitors. It is safe
// for concurrent use.
type Methods struct {
	Origin string       // of the server
	HTTP   *http.Client // see [page.Inside]
	Keys   *keyring.Ring
	Tokens *token.Issuer
	Now    func() time.Time
	// Factors know the passkeys of accounts; nil: the site takes none.
	Factors *factor.Factors
}

// As calls methods with an Authorization header, "" for nobody in particular.
func (m *Methods) As(header string) xrpc.Client {
	c := xrpc.Client{Host: m.Origin, HTTP: m.HTTP}
	if header != "" {
		c.Authorization = func(context.Context, *xrpc.Method) (string, error) { return header, nil }
	}
	return c
}

// Bearer is the Authorization of an account whose owner proved who they are: an access token
// which never leaves the process. It is issued no earlier than the account's tokens have to be.
func (m *Methods) Bearer(a *db.Account) string {
	at, scope := m.Now(), token.Access
	if at.Before(a.TokensValidFrom) {
		at = a.TokensValidFrom
	}
	if a.TakenDown() {
		scope = token.Takendown
	}
	return "Bearer " + m.Tokens.Access(a.DID, scope, at)
}

// Errors of Prove.
var (
	// ErrCodeWanted says that a code is asked for beside the password: one that was mailed, or,
	// where it is ErrAppCodeWanted too, one of the authenticator app or a recovery code.
	ErrCodeWanted    = errors.New("a code is asked for")
	ErrAppCodeWanted = fmt.Errorf("%w: that of the authenticator app", ErrCodeWanted)
	// ErrAppPassword is for people: it says that app passwords open no pages.
	ErrAppPassword = &page.Error{Status: http.StatusForbidden, Message: "This is an app password. Sign in with the password of the account itself."}
)

// Prove finds out by createSession whose account identifier names, if the password, and the
// code where one is wanted, are right. The session that it opens is ended at once. It
// returns [ErrCodeWanted] or [ErrAppCodeWanted], [ErrAppPassword], or what createSession says.
func (m *Methods) Prove(v *page.Visit, identifier, password, code string) (token.Claims, error) {
	ctx, anyone := v.Context(), api.Client{Client: m.As("")}
	out, err := anyone.CreateSession(ctx, &api.CreateSessionInput{
		Identifier: identifier, Password: password, AuthFactorToken: xrpc.NonZero(code), AllowTakendown: new(true),
	})
	if x, ok := errors.AsType[*xrpc.Error](err); ok && x.Name == "AuthFactorTokenRequired" {
		if x.Message == factor.Wanted {
			return token.Claims{}, ErrAppCodeWanted
		}
		return token.Claims{}, ErrCodeWanted
	}
	if err != nil {
		return token.Claims{}, err
	}
	claims, err := m.Tokens.VerifyAccess(out.AccessJWT, token.Full.With(token.Takendown))
	if !errors.Is(err, token.ErrScope) && err != nil {
		return token.Claims{}, err
	}
	if claims.Scope != token.Takendown { // whose refresh token never works
		opened := api.Client{Client: m.As("Bearer " + out.RefreshJWT)}
		// Also when the browser hangs up: nobody else has its token.
		if err := opened.DeleteSession(context.WithoutCancel(ctx)); err != nil {
			return token.Claims{}, err
		}
	}
	if err != nil {
		return token.Claims{}, ErrAppPassword
	}
	return claims, nil
}

// sealedFor is how long a password may wait for its code.
const sealedFor = 15 * time.Minute

const sealing = "portico/page sign-in"

// Seal wraps a password for the next form, which asks for the code: nobody but this
// server can open it, for no other browser and not for long.
func (m *Methods) Seal(v *page.Visit, password string) (string, error) {
	text := append(binary.BigEndian.AppendUint64(nil, uint64(m.Now().Add(sealedFor).Unix())), password...)
	sealed, err := m.Keys.Seal(sealing, v.Binding(), text)
	return base64.RawURLEncoding.EncodeToString(sealed), err
}

// SealAgain is Seal for a form that brought a sealed password in that field, when what was
// refused with that status is the code; else it is "".
func (m *Methods) SealAgain(v *page.Visit, status int, field, password string) (string, error) {
	if status != http.StatusBadRequest || v.Form(field) == "" {
		return "", nil
	}
	return m.Seal(v, password)
}

// Given is the password of a form, typed or sealed; ok is false for a sealed one that is no
// good any more.
func (m *Methods) Given(v *page.Visit, typed, sealed string) (password string, ok bool) {
	if v.Form(sealed) == "" {
		return v.Form(typed), true
	}
	b, err := base64.RawURLEncoding.DecodeString(v.Form(sealed))
	if err != nil {
		return "", false
	}
	text, err := m.Keys.Open(sealing, v.Binding(), b)
	if err != nil || len(text) < 8 || !m.Now().Before(time.Unix(int64(binary.BigEndian.Uint64(text)), 0)) {
		return "", false
	}
	return string(text[8:]), true
}

// ErrPasskey is for people: it says that a passkey opens nothing here.
var ErrPasskey = &page.Error{Status: http.StatusForbidden, Message: "This passkey opens no account here. Sign in with the password."}

var errLatePasskey = &page.Error{Status: http.StatusForbidden, Message: "That took too long. Try again."}

// AskPasskey asks the browser of v for a passkey, by a form of which the template "passkey" makes
// the fields; it returns nil where there are none.
func (m *Methods) AskPasskey(v *page.Visit) (*factor.Challenge, error) {
	if m.Factors == nil {
		return nil, nil
	}
	if _, err := v.Browser(); err != nil {
		return nil, err
	}
	c, err := m.Factors.Ask(v.Binding())
	if errors.Is(err, factor.ErrNoPasskeys) {
		return nil, nil
	}
	return c, err
}

// ByPasskey says whether a form brings a passkey.
func (m *Methods) ByPasskey(v *page.Visit) bool {
	return m.Factors != nil && v.Form("passkey-answer") != ""
}

// ProveByPasskey finds out whose account the passkey opens that a form brings: it stands for the
// password and all that is asked for beside it. It returns [ErrPasskey], or what else there is to
// tell people.
func (m *Methods) ProveByPasskey(v *page.Visit) (token.Claims, error) {
	ctx := audit.With(v.Context(), audit.Who{Actor: audit.Stranger, Address: v.Guest().Address})
	did, at, err := m.Factors.SignIn(ctx, v.Binding(), v.Form("passkey-state"), v.Form("passkey-answer"))
	switch {
	case errors.Is(err, factor.ErrPasskey), errors.Is(err, factor.ErrNoPasskeys):
		return token.Claims{}, ErrPasskey
	case errors.Is(err, factor.ErrLate):
		return token.Claims{}, errLatePasskey
	case err != nil:
		return token.Claims{}, answer.Spent(err)
	}
	return token.Claims{DID: did, IssuedAt: at}, nil
}
