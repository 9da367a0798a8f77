package authorize

import (
	"bytes"
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"portico/api/xrpc"
	"portico/db"
	"portico/impl/answer"
	"portico/impl/oauth/grant"
	"portico/impl/oauth/permissionset"
	"portico/impl/oauth/scope"
	"portico/impl/page"
	"portico/impl/page/wording"
)

// A consent is what the owner of an account allows an app, or is about to.
type consent struct {
	*ask
	account *db.Account
	proved  time.Time
}

func (q *ask) consenting(account *db.Account, proved time.Time) *consent {
	return &consent{q, account, proved}
}

// asks are the values of the scope that are understood; the others permit nothing.
func (c *consent) asks() string {
	return strings.Join(slices.DeleteFunc(scope.Values(c.request.Scope), func(value string) bool {
		_, ok := scope.Known(value)
		return !ok
	}), " ")
}

// granted spells a scope out. A set that cannot be had ends the request, and done says so.
func (c *consent) granted(of string) (granted string, done bool, err error) {
	granted, err = c.Sets.Expand(c.Context(), of)
	if set, ok := errors.AsType[*permissionset.Error](err); ok {
		return "", true, c.fail("invalid_scope", set.Reason)
	}
	return granted, false, unexplained(err)
}

// setsBusyFor is how long the server is best left alone that looks for many permission sets.
const setsBusyFor = 10 * time.Second

// unexplained is what people are told where a set could not be looked for. The request
// stands, so that they may try again.
func unexplained(err error) error {
	if errors.Is(err, permissionset.ErrBusy) {
		return xrpc.NotEnoughResources(setsBusyFor).Because(err)
	}
	return answer.Spent(err)
}

// again allows what the owner has allowed the same app before, and says whether it was that. It is
// not where anything has to be asked first.
func (c *consent) again() (done bool, err error) {
	if !c.remembers() || c.request.Prompt == "consent" || c.account.Held() || c.account.Deactivated() {
		return false, nil
	}
	asks := c.asks()
	granted, done, err := c.granted(asks)
	if done || err != nil {
		return true, err
	}
	before, err := c.Grants.Consented(c.Context(), c.account.DID, c.client.ID, asks, granted)
	if err != nil || !before {
		return err != nil, err
	}
	return true, c.approve(asks, granted)
}

// A consentForm is what the page shows beside what all do.
type consentForm struct {
	form
	Ticket  string
	Handle  string
	DID     string
	Items   []wording.Entry
	Only    bool   // the app wants to know who the account is, and nothing else
	Loud    bool   // something of it cannot be undone
	Email   string // the word for what may be taken out of it: "read" or "manage"
	Several bool   // the browser remembers accounts to choose from
}

// show asks the owner what to do.
func (c *consent) show(status int, alert string) error {
	if c.account.Held() {
		return c.showHeld(status, alert)
	}
	asks := c.asks()
	granted, done, err := c.granted(asks)
	if done || err != nil {
		return err
	}
	sets, err := c.Sets.All(c.Context(), asks)
	if set, ok := errors.AsType[*permissionset.Error](err); ok {
		return c.fail("invalid_scope", set.Reason)
	}
	if err != nil {
		return unexplained(err)
	}
	items := scope.Describe(scope.Values(c.request.Scope), sets)
	if grave(items) && c.Now().Sub(c.proved).Abs() >= graveProved {
		return c.showSignIn(http.StatusForbidden, signInForm{form: form{Alert: saysGrave}, Identifier: cmp.Or(strings.TrimPrefix(named(c.account), "@"), c.account.DID.String())})
	}
	f := consentForm{form: c.form(alert), Handle: named(c.account), DID: c.account.DID.String()}
	if f.Ticket, err = c.ticket(c.account, c.proved, granted); err != nil {
		return err
	}
	f.Items, f.Email = wording.Items(c.Language(), items), c.optional(items)
	f.Only = len(items) == 1 && items[0].Kind == scope.Identify
	f.Loud = slices.ContainsFunc(items, func(i scope.Item) bool { return i.Dangerous })
	all, err := c.accounts()
	if err != nil {
		return err
	}
	f.Several = len(all) > 0
	return c.Show(status, "consent.html", f)
}

// graveProved is how long ago somebody may have proved who they are to allow what is grave: a
// browser that remembers an account is not enough.
const graveProved = 10 * time.Minute

// grave says whether an app that may do all this could do what the owner cannot undo.
func grave(items []scope.Item) bool {
	return slices.ContainsFunc(items, func(i scope.Item) bool {
		return i.Dangerous || i.Kind == scope.Repository && slices.Contains(i.Actions, "manage")
	})
}

// optional is what the owner can leave out of the scope: to read the email address, or to
// change it. Apps of before there were such scopes are not ready for that, so it is "" for them.
func (c *consent) optional(items []scope.Item) string {
	if strings.Contains(c.request.Scope, "transition:") {
		return ""
	}
	for _, item := range items {
		if item.Kind == scope.Email {
			return item.Actions[0]
		}
	}
	return ""
}

// narrowed is a scope without the values for the email address.
func narrowed(asks string) string {
	var rest []string
	for _, value := range scope.Values(asks) {
		items := scope.Describe([]string{value}, nil)
		if len(items) == 1 && items[0].Kind == scope.Email {
			continue
		}
		rest = append(rest, value)
	}
	return strings.Join(rest, " ")
}

// allow lets the app in, to the account that the form's ticket is for.
func (q *ask) allow() error {
	c, err := q.ticketed()
	if c == nil || err != nil {
		return err
	}
	if c.account.Held() {
		return c.showHeld(http.StatusForbidden, "")
	}
	asks := c.asks()
	granted, done, err := c.granted(asks)
	if done || err != nil {
		return err
	}
	if t := q.brought(); !bytes.Equal(t.Shown, digest(granted)) {
		return c.show(http.StatusConflict, saysGrew)
	}
	if c.optional(scope.Describe(scope.Values(asks), nil)) != "" && c.Form("email") == "" {
		asks = narrowed(asks)
		if granted, done, err = c.granted(asks); done || err != nil {
			return err
		}
	}
	return c.approve(asks, granted)
}

// ticketed is the consent that the form's ticket is for. It is nil where there is none that is
// good, and the owner has been asked to sign in again.
func (q *ask) ticketed() (*consent, error) {
	t := q.brought()
	if t == nil {
		return nil, q.showSignIn(http.StatusForbidden, signInForm{form: form{Alert: saysTooLong}, Identifier: q.hinted()})
	}
	account, err := q.DB.ReadAccount(q.Context(), t.DID)
	if errors.Is(err, db.ErrNotFound) {
		return nil, q.showSignIn(http.StatusForbidden, signInForm{form: form{Alert: saysGone}})
	}
	if err != nil {
		return nil, err
	}
	switch {
	case account.TakenDown():
		return nil, q.showSignIn(http.StatusForbidden, signInForm{form: form{Alert: saysTakenDown}})
	case t.Proved.Before(account.TokensValidFrom):
		return nil, q.showSignIn(http.StatusForbidden, signInForm{form: form{Alert: saysChangedPass}, Identifier: q.hinted()})
	}
	return q.consenting(account, t.Proved), nil
}

// approve sends the app its code.
func (c *consent) approve(asks, granted string) error {
	browser, err := c.Browser()
	if err != nil {
		return err
	}
	g := c.Guest()
	var name string
	if c.client.Trusted {
		name = page.Printable(c.client.Metadata.Name, 100)
	}
	code, err := c.Grants.Approve(c.Context(), c.request, browser, grant.Answer{
		DID: c.account.DID, ProvedAt: c.proved, Scope: asks, Granted: granted, Remember: c.remembers(), ClientName: name,
		Address: g.Address, Agent: page.Printable(g.Agent, 300),
	})
	refused, told := errors.AsType[*grant.Error](err)
	switch {
	case told && refused.Answered() && c.Request.Method == http.MethodPost:
		return c.showAnswered()
	case told:
		return c.fail(refused.Name, refused.Description)
	case errors.Is(err, grant.ErrOver):
		return c.showSignIn(http.StatusForbidden, signInForm{form: form{Alert: saysChangedPass}})
	case errors.Is(err, grant.ErrHeld):
		return c.showHeld(http.StatusForbidden, "")
	case err != nil:
		return err
	}
	return c.answer(url.Values{"code": {code}})
}
