package owner

import (
	"bytes"
	"context"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"time"

	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/account/session"
	"portico/impl/audit"
	"portico/impl/page"
)

func (o *owner) sessions() {
	o.show("/account/sessions", func(v *page.Visit) error { return o.showSessions(v, http.StatusOK, "") })
	o.change("/account/sessions/end", o.endSession)
	o.change("/account/sessions/end-others", o.endOthers)
}

// A shownSession is something that is signed in.
type shownSession struct {
	ID             string // for the form that ends it
	Name           string
	Agent, Address string
	Opened, Used   time.Time
	Here           bool // it is this one
}

func (o *owner) showSessions(v *page.Visit, status int, alert string) error {
	ctx, did := v.Context(), v.Account.DID
	browsers, err := o.DB.BrowserSessions(ctx, db.BrowserOfAccount, did)
	if err != nil {
		return err
	}
	apps, err := o.DB.OpenSessions(ctx, did, o.Now())
	if err != nil {
		return err
	}
	others, err := o.others(v)
	if err != nil {
		return err
	}
	var shown []shownSession
	for _, b := range browsers {
		if !b.ExpiresAt.After(o.Now()) {
			continue
		}
		shown = append(shown, shownSession{
			ID: "browser " + encode(b.ID), Name: "These pages, in a browser", Agent: b.Agent, Address: b.Address, Opened: b.CreatedAt, Used: b.SeenAt,
			Here: bytes.Equal(b.ID, v.Session.ID),
		})
	}
	for _, a := range apps {
		s := shownSession{ID: "app " + encode(a.Family), Name: "An app, with the password of the account", Agent: a.Agent, Address: a.Address, Opened: a.OpenedAt, Used: a.UsedAt}
		if a.AppPassword != nil {
			s.Name = "An app, with the app password “" + page.Printable(*a.AppPassword, 200) + "”"
		}
		shown = append(shown, s)
	}
	return v.Show(status, "sessions.html", struct {
		Alert    string
		Sessions []shownSession
		Others   bool
		Apps     bool
	}{alert, shown, len(others) > 0, o.Grants != nil})
}

// endSession ends one session of the account's, an app's with all that came from it.
func (o *owner) endSession(v *page.Visit) error {
	ctx, did := o.acting(v), v.Account.DID
	kind, id := cut(v.Form("session"))
	if kind == "browser" && bytes.Equal(id, v.Session.ID) {
		if err := v.SignOut(); err != nil {
			return err
		}
		return done(v, Path, "You are signed out of this browser.")
	}
	others, err := o.others(v)
	if err != nil {
		return err
	}
	if kind != "app" && kind != "browser" || !slices.Contains(others, kind+" "+encode(id)) { // it is over, and nothing to be recorded
		return done(v, "/account/sessions", ended)
	}
	err = o.DB.Write(ctx, func(tx *db.Tx) error {
		if kind != "browser" {
			if err := tx.EndFamily(ctx, did, id); err != nil {
				return err
			}
		} else if err := tx.EndBrowserSessionOf(ctx, did, id); err != nil {
			return err
		}
		return audit.Record(ctx, tx, o.Now(), did, audit.SessionsEnded, "one")
	})
	if err != nil {
		return err
	}
	return done(v, "/account/sessions", ended)
}

const ended = "The session is ended. An app may go on for up to two hours until it notices."

// others are the IDs of all that is signed in to the account but this session, as forms have them: also
// of apps that were let in, and browsers that remember the account, see [owner.apps].
func (o *owner) others(v *page.Visit) (ids []string, err error) {
	ctx, did := v.Context(), v.Account.DID
	browsers, err := o.DB.BrowserSessions(ctx, db.BrowserOfAccount, did)
	if err != nil {
		return nil, err
	}
	apps, err := o.DB.OpenSessions(ctx, did, o.Now())
	if err != nil {
		return nil, err
	}
	for _, b := range browsers {
		if !bytes.Equal(b.ID, v.Session.ID) {
			ids = append(ids, "browser "+encode(b.ID))
		}
	}
	for _, a := range apps {
		ids = append(ids, "app "+encode(a.Family))
	}
	if o.Grants == nil {
		return ids, nil
	}
	letIn, err := o.Grants.Sessions(ctx, did)
	if err != nil {
		return nil, err
	}
	remembering, err := o.Grants.Browsers(ctx, did)
	if err != nil {
		return nil, err
	}
	for _, s := range letIn {
		ids = append(ids, "let-in "+encode(s.ID))
	}
	for _, b := range remembering {
		ids = append(ids, "remembering "+encode(b.ID))
	}
	return ids, nil
}

// endOthers ends all but this session, and all access tokens with them.
func (o *owner) endOthers(v *page.Visit) error {
	ctx, did := o.acting(v), v.Account.DID
	others, err := o.others(v)
	if err != nil {
		return err
	}
	if len(others) == 0 {
		return done(v, "/account/sessions", "There are no other sessions.")
	}
	var a *db.Account
	err = o.DB.Write(ctx, func(tx *db.Tx) (err error) {
		if a, err = tx.LockAccount(ctx, did); err != nil {
			return err
		}
		a.TokensValidFrom = session.ValidFrom(o.Now(), a.TokensValidFrom)
		if err := tx.UpdateAccount(ctx, a); err != nil {
			return err
		}
		if err := tx.EndAppSessions(ctx, did); err != nil {
			return err
		}
		if err := tx.EndOtherBrowserSessions(ctx, db.BrowserOfAccount, did, v.Session.ID); err != nil {
			return err
		}
		return audit.Record(ctx, tx, o.Now(), did, audit.SessionsEnded, "all but one")
	})
	if err != nil {
		return err
	}
	// This one goes on, as one of now.
	if err := v.Prove(a.TokensValidFrom); err != nil {
		return err
	}
	return done(v, "/account/sessions", "All other sessions are ended.")
}

// acting says in the context of v who acts, for the record.
func (o *owner) acting(v *page.Visit) context.Context {
	return auth.Acting(v.Context(), v.Account.DID.String())
}

// cut takes the two parts of a session's ID apart.
func cut(text string) (kind string, id []byte) {
	kind, rest, _ := strings.Cut(text, " ")
	return kind, decode(rest)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// decode is what encode was given, or nil.
func decode(text string) []byte {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil
	}
	return b
}
