package authorize

import (
	"net/http"
	"strings"

	api "portico/api/atproto/server"
)

// A resetForm is what the page shows that has a code mailed, and takes it with a new password.
type resetForm struct {
	form
	Email   string
	Sent    bool
	NoMails bool
}

func (q *ask) showReset(status int, f resetForm) error {
	f.form, f.NoMails = q.form(f.Alert), !q.SendsMail
	return q.Show(status, "reset.html", f)
}

func (q *ask) requestReset() error {
	f := resetForm{Email: strings.TrimSpace(q.Form("email"))}
	anyone := api.Client{Client: q.methods.As("")}
	if err := anyone.RequestPasswordReset(q.Context(), &api.RequestPasswordResetInput{Email: f.Email}); err != nil {
		return told(err, func(status int, message string) error {
			f.Alert = message
			return q.showReset(status, f)
		})
	}
	f.Sent = true
	return q.showReset(http.StatusOK, f)
}

// reset chooses a new password by the mailed code. That ends all that was signed in, and
// whoever has the code signs in with the password, and the code where one is wanted.
func (q *ask) reset() error {
	anyone := api.Client{Client: q.methods.As("")}
	err := anyone.ResetPassword(q.Context(), &api.ResetPasswordInput{Token: q.Form("code"), Password: q.Form("password")})
	if err != nil {
		return told(err, func(status int, message string) error {
			return q.showReset(status, resetForm{form: form{Alert: message}, Sent: true})
		})
	}
	q.Say(saysNewPassword)
	return q.Redirect(q.self() + "&show=sign-in")
}
