package owner

import (
	"net/http"

	api "portico/api/atproto/server"
	"portico/impl/page"
)

func (o *owner) closing() {
	const path = "/account/close"
	o.show(path, func(v *page.Visit) error { return o.showClosing(v, http.StatusOK, closeForm{}) })
	refused := func(v *page.Visit, f closeForm, err error) error {
		return told(err, func(status int, message string) error {
			f.Alert = message
			return o.showClosing(v, status, f)
		})
	}
	o.change("/account/deactivate", func(v *page.Visit) error {
		if err := o.server(v).DeactivateAccount(v.Context(), &api.DeactivateAccountInput{}); err != nil {
			return refused(v, closeForm{}, err)
		}
		return done(v, path, "Your account is deactivated.")
	})
	o.change("/account/activate", func(v *page.Visit) error {
		if err := o.server(v).ActivateAccount(v.Context()); err != nil {
			return refused(v, closeForm{}, err)
		}
		return done(v, path, "Your account is active.")
	})
	o.change("/account/delete-request", func(v *page.Visit) error {
		if err := o.server(v).RequestAccountDelete(v.Context()); err != nil {
			return refused(v, closeForm{}, err)
		}
		return o.showClosing(v, http.StatusOK, closeForm{Deleting: true})
	})
	o.change("/account/delete", func(v *page.Visit) error {
		// Whom the password and the code belong to, not who is signed in, decides the method. But
		// an account in quarantine is there for its own sessions alone.
		err := o.server(v).DeleteAccount(v.Context(), &api.DeleteAccountInput{DID: v.Account.DID, Password: v.Form("password"), Token: v.Form("code")})
		if err != nil {
			return refused(v, closeForm{Deleting: true}, err)
		}
		if err := v.Leave(); err != nil {
			return err
		}
		return done(v, Path, "Your account is deleted.")
	})
}

type closeForm struct {
	Alert                  string
	Deleting               bool // a code was mailed
	Deactivated, TakenDown bool
	Handle                 string
}

func (o *owner) showClosing(v *page.Visit, status int, f closeForm) error {
	a, err := o.account(v)
	if err != nil {
		return err
	}
	f.Deactivated, f.TakenDown, f.Handle = a.Deactivated(), a.TakenDown(), handleOf(a)
	return v.Show(status, "close.html", f)
}
