package authorize

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/account/factor"
	"portico/impl/oauth/grant"
	"portico/impl/page"
	"portico/impl/page/signin"
)

// A signInForm is what the page shows beside what all do.
type signInForm struct {
	form
	Identifier string
	Remember   bool
	Sealed     string // the password, once a code is asked for; see [signin.Methods.Seal]
	Generated  bool   // it is that of the authenticator app
	Passkey    *factor.Challenge
	Remembers  bool // there are accounts to choose from
}

func (q *ask) showSignIn(status int, f signInForm) error {
	f.form = q.form(f.Alert)
	all, err := q.accounts()
	if err != nil {
		return err
	}
	if f.Passkey, err = q.methods.AskPasskey(q.Visit); err != nil {
		return err
	}
	f.Remembers = len(all) > 0 && q.request.Prompt != "login"
	if f.Sealed != "" {
		return q.Show(status, "code.html", f)
	}
	return q.Show(status, "sign_in.html", f)
}

// signIn signs in with the password, and then with the code where one is wanted.
func (q *ask) signIn() error {
	f := signInForm{Identifier: q.Form("identifier"), Remember: q.Form("remember") != "", Generated: q.Form("app") != ""}
	if q.methods.ByPasskey(q.Visit) {
		return q.signInByPasskey(f)
	}
	password, ok := q.methods.Given(q.Visit, "password", "sealed")
	if !ok {
		f.Alert = saysTooLong
		return q.showSignIn(http.StatusForbidden, f)
	}
	who, err := q.methods.Prove(q.Visit, f.Identifier, password, q.Form("code"))
	if errors.Is(err, signin.ErrCodeWanted) {
		f.Generated = errors.Is(err, signin.ErrAppCodeWanted)
		if f.Sealed, err = q.methods.Seal(q.Visit, password); err != nil {
			return err
		}
		return q.showSignIn(http.StatusOK, f)
	}
	var account *db.Account
	if err == nil {
		account, err = q.signedIn(who.DID, who.IssuedAt, f.Remember)
	}
	if err != nil {
		return told(err, func(status int, message string) error {
			f.Alert = message
			if f.Sealed, err = q.methods.SealAgain(q.Visit, status, "sealed", password); err != nil {
				return err
			}
			return q.showSignIn(status, f)
		})
	}
	return q.proved(account, who.IssuedAt)
}

// signInByPasskey signs in without a password.
func (q *ask) signInByPasskey(f signInForm) error {
	who, err := q.methods.ProveByPasskey(q.Visit)
	var account *db.Account
	if err == nil {
		account, err = q.signedIn(who.DID, who.IssuedAt, f.Remember)
	}
	if err != nil {
		return told(err, func(status int, message string) error {
			f.Alert = message
			return q.showSignIn(status, f)
		})
	}
	return q.proved(account, who.IssuedAt)
}

// proved goes on with an account whose owner has just proved to be there.
func (q *ask) proved(account *db.Account, at time.Time) error {
	c := q.consenting(account, at)
	if q.request.Prompt != "consent" {
		if done, err := c.again(); done || err != nil {
			return err
		}
	}
	return c.show(http.StatusOK, "")
}

// signedIn notes that somebody proved to be the owner of an account, and lets the browser
// remember it where that is wanted. The browser is known by another cookie from then on. Its errors are for people.
func (q *ask) signedIn(did syntax.DID, proved time.Time, remember bool) (*db.Account, error) {
	ctx := context.WithoutCancel(q.Context()) // or the browser has no cookie that anybody knows
	account, err := q.DB.ReadAccount(ctx, did)
	switch {
	case errors.Is(err, db.ErrNotFound):
		return nil, &page.Error{Status: http.StatusForbidden, Message: saysGone}
	case err != nil:
		return nil, err
	case account.TakenDown():
		return nil, &page.Error{Status: http.StatusForbidden, Message: saysTakenDown}
	}
	if err := q.Renew(func(from, to []byte) error { return q.Grants.Move(ctx, from, to) }); err != nil {
		return nil, err
	}
	browser, err := q.Browser()
	if err != nil {
		return nil, err
	}
	if remember {
		g := q.Guest()
		err := q.Grants.Remember(ctx, browser, did, proved, g.Address, page.Printable(g.Agent, 300))
		if errors.Is(err, grant.ErrOver) {
			return nil, &page.Error{Status: http.StatusForbidden, Message: saysChangedPass}
		}
		if err != nil {
			return nil, err
		}
	}
	all, err := q.Grants.Remembered(ctx, browser)
	if err == nil && len(all) > 0 {
		q.Keep(keepsCookie)
	}
	return account, err
}

// deny tells the app that its request was refused, by whoever has it open.
func (q *ask) deny() error {
	return q.fail("access_denied", "The user rejected the request")
}
