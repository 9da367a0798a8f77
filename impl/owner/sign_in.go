package owner

import (
	"errors"
	"net/http"

	"portico/impl/account/factor"
	"portico/impl/account/token"
	"portico/impl/page"
	"portico/impl/page/signin"
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
	Sealed     string // the password, once a code is asked for; see [signin.Methods.Seal]
	App        bool   // it is that of the authenticator app
	Passkey    *factor.Challenge
}

func (o *owner) showSignIn(v *page.Visit, status int, f signInForm) error {
	var err error
	if f.Passkey, err = o.methods.AskPasskey(v); err != nil {
		return err
	}
	if f.Sealed != "" {
		return v.Show(status, "code.html", f)
	}
	return v.Show(status, "sign_in.html", f)
}

// signIn signs in with the password, and then with the code where one is wanted.
func (o *owner) signIn(v *page.Visit) error {
	f := signInForm{Identifier: v.Form("identifier"), App: v.Form("app") != ""}
	if o.methods.ByPasskey(v) {
		return o.signInByPasskey(v, f)
	}
	password, ok := o.methods.Given(v, "password", "sealed")
	if !ok {
		f.Alert = "That took too long. Sign in again."
		return o.showSignIn(v, http.StatusForbidden, f)
	}
	who, err := o.methods.Prove(v, f.Identifier, password, v.Form("code"))
	if errors.Is(err, signin.ErrCodeWanted) {
		f.App = errors.Is(err, signin.ErrAppCodeWanted)
		f.Sealed, err = o.methods.Seal(v, password)
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
			if f.Sealed, err = o.methods.SealAgain(v, status, "sealed", password); err != nil {
				return err
			}
			return o.showSignIn(v, status, f)
		})
	}
	return v.Redirect(Path)
}

// signInByPasskey signs in without a password.
func (o *owner) signInByPasskey(v *page.Visit, f signInForm) error {
	who, err := o.methods.ProveByPasskey(v)
	if err == nil {
		err = v.SignIn(who.DID, who.IssuedAt, v.Guest())
	}
	if errors.Is(err, page.ErrOver) {
		err = signin.ErrPasskey
	}
	if err != nil {
		return told(err, func(status int, message string) error {
			f.Alert = message
			return o.showSignIn(v, status, f)
		})
	}
	return v.Redirect(Path)
}

// proved says whether who is signed in has proved lately that it is they, or proves it by
// this very form. Where neither is so the page asks, and sends the form again once it is
// answered.
func (o *owner) proved(v *page.Visit) (bool, error) {
	if v.Proved(ProofLasts) {
		return true, nil
	}
	f := proofForm{Fields: v.Sent("proof-password", "proof-sealed", "proof-code", "proof-app", "passkey-state", "passkey-answer"), App: v.Form("proof-app") != "", Who: handleOf(v.Account)}
	password, ok := o.methods.Given(v, "proof-password", "proof-sealed")
	if !o.methods.ByPasskey(v) && (!ok || password == "") {
		return false, o.askProof(v, http.StatusOK, f)
	}
	var who token.Claims
	var err error
	if o.methods.ByPasskey(v) {
		if who, err = o.methods.ProveByPasskey(v); err == nil && who.DID != v.Account.DID {
			err = &page.Error{Status: http.StatusForbidden, Message: "This is the passkey of another account."}
		}
	} else {
		who, err = o.methods.Prove(v, v.Account.DID.String(), password, v.Form("proof-code"))
	}
	switch {
	case errors.Is(err, signin.ErrCodeWanted):
		f.App = errors.Is(err, signin.ErrAppCodeWanted)
		if f.Sealed, err = o.methods.Seal(v, password); err != nil {
			return false, err
		}
		return false, o.askProof(v, http.StatusOK, f)
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
			if f.Sealed, err = o.methods.SealAgain(v, status, "proof-sealed", password); err != nil {
				return err
			}
			return o.askProof(v, status, f)
		})
	}
	return true, nil
}

// proofForm asks for the password again, before Fields are sent once more.
type proofForm struct {
	Alert, Who string
	Fields     map[string][]string
	Sealed     string
	App        bool // the code is that of the authenticator app
	Passkey    *factor.Challenge
}

func (o *owner) askProof(v *page.Visit, status int, f proofForm) error {
	var err error
	if f.Passkey, err = o.methods.AskPasskey(v); err != nil {
		return err
	}
	return v.Show(status, "prove.html", f)
}
