package owner

import (
	"net/http"
	"strings"

	api "portico/api/atproto/server"
	"portico/impl/page"
)

// password lets those who know their password no more, or want another, have a code mailed
// and choose a new one with it. Nobody has to be signed in.
func (o *owner) password() {
	const path = "/account/password"
	anyone := &api.Client{Client: o.methods.As("")}
	o.site.Handle("GET "+path, func(v *page.Visit) error { return o.showPassword(v, http.StatusOK, passwordForm{}) })
	o.site.Handle("POST "+path+"/request", func(v *page.Visit) error {
		f := passwordForm{Email: strings.TrimSpace(v.Form("email"))}
		if v.Account != nil {
			f.Email = v.Account.Email
		}
		if err := anyone.RequestPasswordReset(v.Context(), &api.RequestPasswordResetInput{Email: f.Email}); err != nil {
			return told(err, func(status int, message string) error {
				f.Alert = message
				return o.showPassword(v, status, f)
			})
		}
		f.Sent = true
		return o.showPassword(v, http.StatusOK, f)
	})
	o.site.Handle("POST "+path+"/reset", func(v *page.Visit) error {
		f := passwordForm{Sent: true}
		err := anyone.ResetPassword(v.Context(), &api.ResetPasswordInput{Token: v.Form("code"), Password: v.Form("password")})
		if err != nil {
			return told(err, func(status int, message string) error {
				f.Alert = message
				return o.showPassword(v, status, f)
			})
		}
		// All sessions are over, most likely this one too.
		if err := v.SignOut(); err != nil {
			return err
		}
		return done(v, Path, "Your password is changed, everything that was signed in is signed out, and passkeys are removed. Sign in with the new password.")
	})
}

type passwordForm struct {
	Alert     string
	Email     string
	Sent      bool
	SendsMail bool
	Signed    string // the address of who is signed in
	SignedIn  bool
}

func (o *owner) showPassword(v *page.Visit, status int, f passwordForm) error {
	f.SendsMail = o.SendsMail
	if v.Account != nil {
		f.Signed, f.SignedIn = v.Account.Email, true
	}
	return v.Show(status, "password.html", f)
}
