package owner

import (
	"net/http"

	api "portico/api/atproto/server"
	"portico/impl/page"
)

func (o *owner) appPasswords() {
	o.show("/account/app-passwords", func(v *page.Visit) error { return o.showAppPasswords(v, http.StatusOK, appPasswordForm{}) })
	o.change("/account/app-passwords/create", func(v *page.Visit) error {
		f := appPasswordForm{Name: v.Form("name"), Privileged: v.Form("privileged") != ""}
		if f.Name == "" {
			f.Alert = "Give it a name, by which you know later what it is for."
			return o.showAppPasswords(v, http.StatusBadRequest, f)
		}
		made, err := o.server(v).CreateAppPassword(v.Context(), &api.CreateAppPasswordInput{Name: f.Name, Privileged: &f.Privileged})
		if err != nil {
			return told(err, func(status int, message string) error {
				f.Alert = message
				return o.showAppPasswords(v, status, f)
			})
		}
		return o.showAppPasswords(v, http.StatusOK, appPasswordForm{Made: made})
	})
	o.change("/account/app-passwords/revoke", func(v *page.Visit) error {
		err := o.server(v).RevokeAppPassword(v.Context(), &api.RevokeAppPasswordInput{Name: v.Form("name")})
		if err != nil {
			return told(err, func(status int, message string) error {
				return o.showAppPasswords(v, status, appPasswordForm{Alert: message})
			})
		}
		return done(v, "/account/app-passwords", "The app password is revoked, and what was signed in with it is signed out.")
	})
}

type appPasswordForm struct {
	Alert      string
	Name       string
	Privileged bool
	Made       *api.CreateAppPasswordOutput // shown this once
	List       []api.ListAppPasswordsAppPassword
}

func (o *owner) showAppPasswords(v *page.Visit, status int, f appPasswordForm) error {
	list, err := o.server(v).ListAppPasswords(v.Context())
	if err != nil {
		return err
	}
	f.List = list.Passwords
	return v.Show(status, "app_passwords.html", f)
}
