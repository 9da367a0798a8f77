package owner

import (
	"context"
	"encoding/binary"
	"errors"
	"net/http"
	"time"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/impl/account/token"
	"portico/impl/page"
)

func (o *owner) signIns() {
	o.site.Handle("POST /account/sign-in", o.signIn)
	o.site.Handle("POST /account/sign-out", func(v *page.Visit) error {
		if err := v.SignOut(); err != nil {
			return err
		}
		return done(v, Path, "You are signed out of this browser.")
	})
}

// signInForm is what the page shows beside the message.
type signInForm struct {
	Alert      string
	Identifier string
	Sealed     string // the password, once a code is asked for; see seal
}

func (o *owner) showSignIn(v *page.Visit, status int, f signInForm) error {
	if f.Sealed != "" {
		return v.Show(status, "code.html", f)
	}
	return v.Show(status, "sign_in.html", f)
}

// signIn signs in with the password, and then with the emailed code where one is wanted.
func (o *owner) signIn(v *page.Visit) error {
	f := signInForm{Identifier: v.Form("identifier")}
	password, ok := o.given(v, "password", "sealed")
	if !ok {
		f.Alert = "That took too long. Sign in again."
		return o.showSignIn(v, http.StatusForbidden, f)
	}
	who, err := o.prove(v, f.Identifier, password, v.Form("code"))
	if errors.Is(err, errCodeWanted) {
		f.Sealed, err = o.seal(v, password)
		if err != nil {
			return err
		}
		return o.showSignIn(v, http.StatusOK, f)
	}
	if err == nil {
		err = v.SignIn(who.DID, who.IssuedAt, v.Guest())
	}
	if errors.Is(err, page.ErrOver) {
		err = &page.Error{Status: http.StatusForbidden, Message: "The password was changed just now. Sign in again."}
	}
	if err != nil {
		return told(err, func(status int, message string) error {
			f.Alert = message
			if f.Sealed, err = o.sealAgain(v, status, password); err != nil {
				return err
			}
			return o.showSignIn(v, status, f)
		})
	}
	return v.Redirect(Path)
}

var (
	errCodeWanted  = errors.New("an emailed code is asked for")
	errAppPassword = &page.Error{Status: http.StatusForbidden, Message: "This is an app password. Sign in with the password of the account itself."}
)

// prove finds out by createSession whose account identifier names, if the password, and the
// code where one is wanted, are right. The session that it opens is ended at once. It
// returns errCodeWanted, and the code is mailed; errAppPassword; or what createSession says.
func (o *owner) prove(v *page.Visit, identifier, password, code string) (token.Claims, error) {
	ctx, anyone := v.Context(), api.Client{Client: o.client("")}
	out, err := anyone.CreateSession(ctx, &api.CreateSessionInput{
		Identifier: identifier, Password: password, AuthFactorToken: xrpc.NonZero(code), AllowTakendown: new(true),
	})
	if x, ok := errors.AsType[*xrpc.Error](err); ok && x.Name == "AuthFactorTokenRequired" {
		return token.Claims{}, errCodeWanted
	}
	if err != nil {
		return token.Claims{}, err
	}
	claims, err := o.Tokens.VerifyAccess(out.AccessJWT, token.Full.With(token.Takendown))
	if !errors.Is(err, token.ErrScope) && err != nil {
		return token.Claims{}, err
	}
	if claims.Scope != token.Takendown { // whose refresh token never works
		opened := api.Client{Client: o.client("Bearer " + out.RefreshJWT)}
		// Also when the browser hangs up: nobody else has its token.
		if err := opened.DeleteSession(context.WithoutCancel(ctx)); err != nil {
			return token.Claims{}, err
		}
	}
	if err != nil {
		return token.Claims{}, errAppPassword
	}
	return claims, nil
}

// proved says whether who is signed in has proved lately that it is they, or proves it by
// this very form. Where neither is so the page asks, and sends the form again once it is
// answered.
func (o *owner) proved(v *page.Visit) (bool, error) {
	if v.Proved(ProofLasts) {
		return true, nil
	}
	f := proofForm{Fields: v.Sent("proof-password", "proof-sealed", "proof-code"), Who: handleOf(v.Account)}
	password, ok := o.given(v, "proof-password", "proof-sealed")
	if !ok || password == "" {
		return false, v.Show(http.StatusOK, "prove.html", f)
	}
	who, err := o.prove(v, v.Account.DID.String(), password, v.Form("proof-code"))
	switch {
	case errors.Is(err, errCodeWanted):
		if f.Sealed, err = o.seal(v, password); err != nil {
			return false, err
		}
		return false, v.Show(http.StatusOK, "prove.html", f)
	case err == nil:
		err = v.Prove(who.IssuedAt)
	}
	if errors.Is(err, page.ErrOver) {
		if err := v.Leave(); err != nil {
			return false, err
		}
		return false, done(v, Path, "You are not signed in any more.")
	}
	if err != nil {
		return false, told(err, func(status int, message string) error {
			f.Alert = message
			if f.Sealed, err = o.sealAgain(v, status, password); err != nil {
				return err
			}
			return v.Show(status, "prove.html", f)
		})
	}
	return true, nil
}

// proofForm asks for the password again, before Fields are sent once more.
type proofForm struct {
	Alert, Who string
	Fields     map[string][]string
	Sealed     string
}

// sealedFor is how long a password may wait for its code.
const sealedFor = 15 * time.Minute

// seal wraps a password for the next form, which asks for the code: nobody but this
// server can open it, for no other browser and not for long.
func (o *owner) seal(v *page.Visit, password string) (string, error) {
	text := append(binary.BigEndian.AppendUint64(nil, uint64(o.Now().Add(sealedFor).Unix())), password...)
	sealed, err := o.Keys.Seal(sealing, v.Binding(), text)
	return encode(sealed), err
}

// sealAgain is seal for a form that brought a sealed password, when what was refused with that
// status is the code; else it is "".
func (o *owner) sealAgain(v *page.Visit, status int, password string) (string, error) {
	if status != http.StatusBadRequest || v.Form("sealed")+v.Form("proof-sealed") == "" {
		return "", nil
	}
	return o.seal(v, password)
}

const sealing = "portico/page sign-in"

// given is the password of a form, typed or sealed; ok is false for a sealed one that is no
// good any more.
func (o *owner) given(v *page.Visit, typed, sealed string) (password string, ok bool) {
	if v.Form(sealed) == "" {
		return v.Form(typed), true
	}
	text, err := o.Keys.Open(sealing, v.Binding(), decode(v.Form(sealed)))
	if err != nil || len(text) < 8 || !o.Now().Before(time.Unix(int64(binary.BigEndian.Uint64(text)), 0)) {
		return "", false
	}
	return string(text[8:]), true
}
