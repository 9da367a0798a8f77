package owner

import (
	"net/http"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/impl/page"
)

func (o *owner) email() {
	const path = "/account/email"
	o.show(path, func(v *page.Visit) error { return o.showEmail(v, http.StatusOK, emailForm{}) })
	// try does what a form asks for, and shows the form again where that is refused.
	try := func(step string, do func(v *page.Visit, f *emailForm) (string, error)) {
		o.change(path+"/"+step, func(v *page.Visit) error {
			f := emailForm{Email: v.Form("email")}
			message, err := do(v, &f)
			if err != nil {
				return told(err, func(status int, message string) error {
					f.Alert = message
					return o.showEmail(v, status, f)
				})
			}
			if message == "" {
				return o.showEmail(v, http.StatusOK, f)
			}
			return done(v, path, message)
		})
	}
	try("confirm-request", func(v *page.Visit, f *emailForm) (string, error) {
		f.Confirming = true
		return "", o.server(v).RequestEmailConfirmation(v.Context())
	})
	try("confirm", func(v *page.Visit, f *emailForm) (string, error) {
		f.Confirming = true
		return "Your email address is confirmed.",
			o.server(v).ConfirmEmail(v.Context(), &api.ConfirmEmailInput{Email: v.Account.Email, Token: v.Form("code")})
	})
	try("update-request", func(v *page.Visit, f *emailForm) (string, error) {
		out, err := o.server(v).RequestEmailUpdate(v.Context())
		if err == nil {
			f.Updating, f.CodeNeeded = true, out.TokenRequired
		}
		return "", err
	})
	try("update", func(v *page.Visit, f *emailForm) (string, error) {
		f.Updating, f.CodeNeeded = true, needsCode(v)
		err := o.server(v).UpdateEmail(v.Context(), &api.UpdateEmailInput{Email: f.Email, Token: xrpc.NonZero(v.Form("code"))})
		return "Your email address is changed. Confirm the new one.", err
	})
	try("factor-on", func(v *page.Visit, _ *emailForm) (string, error) {
		err := o.server(v).UpdateEmail(v.Context(), &api.UpdateEmailInput{Email: v.Account.Email, EmailAuthFactor: new(true)})
		return "From now on, signing in with your password asks for a code that is mailed to you.", err
	})
	try("factor-request", func(v *page.Visit, f *emailForm) (string, error) {
		f.SwitchingOff = true
		_, err := o.server(v).RequestEmailUpdate(v.Context())
		return "", err
	})
	try("factor-off", func(v *page.Visit, f *emailForm) (string, error) {
		f.SwitchingOff = true
		err := o.server(v).UpdateEmail(v.Context(), &api.UpdateEmailInput{
			Email: v.Account.Email, EmailAuthFactor: new(false), Token: xrpc.NonZero(v.Form("code")),
		})
		return "Signing in asks for your password alone.", err
	})
}

// needsCode says whether a change of the address of v's account takes an emailed code.
func needsCode(v *page.Visit) bool {
	return v.Account.EmailConfirmedAt != nil || v.Account.EmailAuthFactor
}

type emailForm struct {
	Alert string
	Email string // the new one
	// Confirming, Updating and SwitchingOff are what the owner is about to do; CodeNeeded says
	// that a code was mailed for it.
	Confirming, Updating, SwitchingOff, CodeNeeded bool

	Current   string
	Confirmed bool
	Factor    bool
	SendsMail bool
}

func (o *owner) showEmail(v *page.Visit, status int, f emailForm) error {
	a, err := o.account(v)
	if err != nil {
		return err
	}
	f.Current, f.Confirmed, f.Factor, f.SendsMail = a.Email, a.EmailConfirmedAt != nil, a.EmailAuthFactor, o.SendsMail
	return v.Show(status, "email.html", f)
}
