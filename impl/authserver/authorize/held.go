package authorize

import (
	"errors"
	"net/http"

	api "portico/api/atproto/server"
	"portico/db"
)

// A heldForm is what the page shows that an account in quarantine gets instead of the question.
type heldForm struct {
	form
	Ticket  string
	Handle  string
	Email   string
	Confirm bool // the mailed code is asked for
	Approve bool // the operator has to look
}

// showHeld says what an account waits for that nobody else sees yet: until it is there for all no
// app could find it.
func (c *consent) showHeld(status int, alert string) error {
	held, err := c.DB.Quarantined(c.Context(), c.account.DID)
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return err
	}
	f := heldForm{form: c.form(alert), Handle: named(c.account), Email: c.account.Email}
	if f.Ticket, err = c.ticket(c.account, c.proved, ""); err != nil {
		return err
	}
	if held != nil && held.ApprovedAt == nil {
		f.Confirm = held.Rule == db.HeldUntilConfirmed && c.account.EmailConfirmedAt == nil
		f.Approve = held.Rule == db.HeldUntilApproved
	}
	return c.Show(status, "held.html", f)
}

// confirm takes the code that confirms the address of an account in quarantine, mails another,
// or looks whether the account is out.
func (q *ask) confirm() error {
	c, err := q.ticketed()
	if c == nil || err != nil {
		return err
	}
	if !c.account.Held() {
		return q.proved(c.account, c.proved)
	}
	methods := api.Client{Client: q.methods.As(q.methods.Bearer(c.account))}
	alert, status := "", http.StatusOK
	switch {
	case q.Form("again") != "":
		err = methods.RequestEmailConfirmation(q.Context())
		alert = saysMailed
	case q.Form("code") != "":
		err = methods.ConfirmEmail(q.Context(), &api.ConfirmEmailInput{Email: c.account.Email, Token: q.Form("code")})
	}
	if err != nil {
		return told(err, func(status int, message string) error { return c.showHeld(status, message) })
	}
	if c.account, err = q.DB.ReadAccount(q.Context(), c.account.DID); err != nil {
		return err
	}
	if !c.account.Held() {
		return q.proved(c.account, c.proved)
	}
	return c.showHeld(status, alert)
}
