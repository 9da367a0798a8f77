package owner

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"time"

	"portico/impl/oauth/grant"
	"portico/impl/oauth/scope"
	"portico/impl/page"
	"portico/impl/page/wording"
)

const appsPath = "/account/apps"

func (o *owner) apps() {
	o.show(appsPath, o.showApps)
	o.change(appsPath+"/end", o.endApp)
	o.change(appsPath+"/forget", o.forgetBrowser)
}

// A shownApp is an app that was let in, once: who lets one in on two devices sees two.
type shownApp struct {
	Session        string // for the form that ends it
	Name           string // the address of those whose name the operator does not trust
	ID             string // "" where Name is it
	Local          bool
	Wants          []wording.Entry
	Agent, Address string
	Opened, Used   time.Time
	Ends           time.Time
}

// A shownBrowser is one that remembers the account.
type shownBrowser struct {
	ID             string // for the form that lets it forget
	Agent, Address string
	Proved, Ends   time.Time
}

func (o *owner) showApps(v *page.Visit) error {
	sessions, err := o.Grants.Sessions(v.Context(), v.Account.DID)
	if err != nil {
		return err
	}
	browsers, err := o.Grants.Browsers(v.Context(), v.Account.DID)
	if err != nil {
		return err
	}
	var data struct {
		Apps     []shownApp
		Browsers []shownBrowser
	}
	for _, s := range sessions {
		// What the app may do is what its sets gave when they were spelled out: nobody is asked for that here.
		a := shownApp{
			Session: encode(s.ID), Name: page.Printable(s.ClientName, 100), ID: page.Printable(s.ClientID, 2000),
			Local: strings.HasPrefix(s.ClientID, "http://localhost"), Wants: wording.Items(v.Language(), scope.Describe(scope.Values(s.Granted), nil)),
			Agent: s.Agent, Address: s.Address, Opened: s.CreatedAt, Used: s.UsedAt, Ends: s.ExpiresAt,
		}
		if a.Name == "" {
			a.Name, a.ID = a.ID, ""
		}
		data.Apps = append(data.Apps, a)
	}
	for _, b := range browsers {
		data.Browsers = append(data.Browsers, shownBrowser{encode(b.ID), b.Agent, b.Address, b.ProvedAt, b.ExpiresAt})
	}
	return v.Show(http.StatusOK, "apps.html", data)
}

// endApp ends a session of an app, which is asked about again the next time that it wants in.
func (o *owner) endApp(v *page.Visit) error {
	if err := o.Grants.End(o.acting(v), v.Account.DID, decode(v.Form("session"))); err != nil {
		return err
	}
	return done(v, appsPath, "The app is signed out.")
}

func (o *owner) forgetBrowser(v *page.Visit) error {
	id := decode(v.Form("browser"))
	browsers, err := o.Grants.Browsers(v.Context(), v.Account.DID)
	if err != nil {
		return err
	}
	// What is forgotten already is nothing to be recorded.
	if slices.ContainsFunc(browsers, func(b grant.Browser) bool { return bytes.Equal(b.ID, id) }) {
		if err := o.Grants.ForgetBrowser(o.acting(v), v.Account.DID, id); err != nil {
			return err
		}
	}
	return done(v, appsPath, "The browser has forgotten your account.")
}
