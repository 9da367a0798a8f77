package owner

import (
	"errors"
	"net/http"

	"portico/db"
	"portico/impl/page"
)

func (o *owner) overview() {
	o.site.Handle("GET /account", func(v *page.Visit) error {
		if v.Session == nil {
			return o.showSignIn(v, http.StatusOK, signInForm{})
		}
		held, err := o.DB.Quarantined(v.Context(), v.Account.DID)
		if err != nil && !errors.Is(err, db.ErrNotFound) {
			return err
		}
		data := struct {
			Handle  string
			Account *db.Account
			Held    *db.Quarantined
			Contact string
			Apps    bool
		}{handleOf(v.Account), v.Account, held, o.Contact, o.Grants != nil}
		return v.Show(http.StatusOK, "overview.html", data)
	})
}
