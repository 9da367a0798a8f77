package authorize

import (
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

func (q *ask) showChoice(status int, alert string, all []remembered) error {
	return q.Show(status, "choose.html", struct {
		form
		Accounts []remembered
	}{q.form(alert), all})
}

// chosen is the account that a form names, if the browser remembers it, else nil.
func (q *ask) chosen() (*remembered, error) {
	did, err := syntax.ParseDID(q.Form("did"))
	if err != nil {
		return nil, nil
	}
	all, err := q.accounts()
	for _, r := range all {
		if r.Account.DID == did {
			return &r, err
		}
	}
	return nil, err
}

// choose goes on with an account that the browser remembers.
func (q *ask) choose() error {
	r, err := q.chosen()
	switch {
	case err != nil:
		return err
	case r == nil:
		return q.showSignIn(http.StatusForbidden, signInForm{form: form{Alert: saysNoAccount}})
	case !r.Fresh:
		f := signInForm{Identifier: r.Account.DID.String(), Remember: true}
		if r.Named() != "" {
			f.Identifier = r.Account.Handle.String()
		}
		return q.showSignIn(http.StatusOK, f)
	}
	return q.proved(r.Account, r.Proved)
}

// forget lets the browser remember an account no more.
func (q *ask) forget() error {
	did, err := syntax.ParseDID(q.Form("did"))
	if err != nil {
		return q.Redirect(q.self())
	}
	browser, err := q.Browser()
	if err != nil {
		return err
	}
	if err := q.Grants.Forget(q.Context(), browser, did); err != nil {
		return err
	}
	q.Say(saysForgotten)
	return q.Redirect(q.self())
}
