package console

import (
	"context"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	operatorapi "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/impl/page"
)

const (
	heldOnPage = 50
	// heldAtOnce is how many accounts one call is for, and heldPatience how long a page goes
	// on with calls; what is left then is told.
	heldAtOnce   = 500
	heldPatience = 20 * time.Second
)

// held says which accounts in quarantine are meant: one, those that the other fields let
// through, or all, which has to be said: a filter that got lost on the way means nobody.
type held struct {
	DID                        string
	Range, Domain, Rule, Since string
	Waiting, Unconfirmed       bool
	All                        bool
}

// heldIn reads it from the fields of a form or of a URL.
func heldIn(get func(name string) string) held {
	value := func(name string) string { return strings.TrimSpace(get(name)) }
	return held{
		DID: value("did"), Range: value("range"), Domain: value("domain"), Rule: value("rule"), Since: value("since"),
		Waiting: value("waiting") != "", Unconfirmed: value("unconfirmed") != "", All: value("all") != "",
	}
}

// values are the fields again.
func (h held) values() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{"did": h.DID, "range": h.Range, "domain": h.Domain, "rule": h.Rule, "since": h.Since} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for name, on := range map[string]bool{"waiting": h.Waiting, "unconfirmed": h.Unconfirmed, "all": h.All} {
		if on {
			q.Set(name, "yes")
		}
	}
	return q
}

func (h held) since() (*syntax.Datetime, error) {
	if h.Since == "" {
		return nil, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, h.Since); err == nil {
			return new(syntax.Datetime(t.UTC().Format(time.RFC3339))), nil
		}
	}
	return nil, unreadable("The time has to be written as 2026-01-31 or 2026-01-31T12:00:00Z.")
}

func yes(on bool) *bool {
	if !on {
		return nil
	}
	return &on
}

// choice is what a method takes: the account, or a filter.
func (h held) choice() (dids []syntax.DID, filter *operatorapi.QuarantineFilter, err error) {
	if h.DID != "" {
		did, err := syntax.ParseDID(h.DID)
		if err != nil {
			return nil, nil, noAccount
		}
		return []syntax.DID{did}, nil, nil
	}
	since, err := h.since()
	if err != nil {
		return nil, nil, err
	}
	return nil, &operatorapi.QuarantineFilter{
		All: yes(h.All), Rule: xrpc.NonZero(h.Rule), AddressRange: xrpc.NonZero(h.Range), MailDomain: xrpc.NonZero(h.Domain), Since: since,
		Waiting: yes(h.Waiting), Unconfirmed: yes(h.Unconfirmed),
	}, nil
}

// facts say in words which accounts are meant.
func (h held) facts() (facts []fact) {
	add := func(name, value string) {
		if value != "" {
			facts = append(facts, fact{name, text(value)})
		}
	}
	add("Account", h.DID)
	add("Signed up from", h.Range)
	add("Address at", h.Domain)
	add("Released when", h.Rule)
	add("Made since", h.Since)
	if h.Waiting {
		add("Only those", "that nothing but an approval releases")
	}
	if h.Unconfirmed {
		add("Only those", "whose address is not confirmed")
	}
	if h.All {
		add("Which", "all in quarantine that were not approved")
	}
	return facts
}

type quarantinePage struct {
	held
	Accounts []operatorapi.QuarantinedAccount
	Query    template.URL // of what is asked for, to do something with all of them
	Next     string
}

func (c *console) quarantine(v *page.Visit) error {
	p := quarantinePage{held: heldIn(v.Request.URL.Query().Get)}
	p.DID, p.All = "", false
	since, err := p.since()
	if err != nil {
		return err
	}
	out, err := c.operator.ListQuarantined(v.Context(), &operatorapi.ListQuarantinedParams{
		Rule: xrpc.NonZero(p.Rule), AddressRange: xrpc.NonZero(p.Range), MailDomain: xrpc.NonZero(p.Domain), Since: since,
		Waiting: yes(p.Waiting), Unconfirmed: yes(p.Unconfirmed), Limit: heldOnPage, Cursor: query(v, "cursor"),
	})
	if err != nil {
		return err
	}
	p.All = p.held == held{}
	p.Accounts, p.Query, p.Next = out.Accounts, template.URL(p.values().Encode()), nextPage(v, out.Cursor)
	return v.Show(http.StatusOK, "quarantine.html", p)
}

// A verdict is what can be done to accounts in quarantine.
type verdict struct {
	name, ask, button, done string
	text                    string
	danger                  bool
	// call does it to up to heldAtOnce accounts, or counts them all.
	call func(c *console, ctx context.Context, dids []syntax.DID, f *operatorapi.QuarantineFilter, dry bool) (n, confirmed int64, more bool, err error)
}

var verdicts = map[string]verdict{
	"approve": {
		name: "approve", ask: "Approve %s?", button: "Approve", done: "approved",
		text: "Each is released as soon as releases are metered out to it, and then it is there for everybody.",
		call: func(c *console, ctx context.Context, dids []syntax.DID, f *operatorapi.QuarantineFilter, dry bool) (int64, int64, bool, error) {
			in := &operatorapi.ApproveQuarantinedInput{DIDs: dids, Filter: f, DryRun: yes(dry), Limit: new(int64(heldAtOnce))}
			out, err := c.operator.ApproveQuarantined(ctx, in)
			if err != nil {
				return 0, 0, false, err
			}
			return out.Approved, out.Confirmed, out.More, nil
		},
	},
	"delete": {
		name: "delete", ask: "Delete %s for good?", button: "Delete for good", done: "deleted", danger: true,
		text: "Nothing of them is left, and their handles and addresses are free. This can't be undone. One that was released meanwhile is not deleted.",
		call: func(c *console, ctx context.Context, dids []syntax.DID, f *operatorapi.QuarantineFilter, dry bool) (int64, int64, bool, error) {
			in := &operatorapi.DeleteQuarantinedInput{DIDs: dids, Filter: f, DryRun: yes(dry), Limit: new(int64(heldAtOnce))}
			out, err := c.operator.DeleteQuarantined(ctx, in)
			if err != nil {
				return 0, 0, false, err
			}
			return out.Deleted, out.Confirmed, out.More, nil
		},
	},
}

func accountsWord(n int64) string {
	if n == 1 {
		return "1 account"
	}
	return fmt.Sprintf("%d accounts", n)
}

// verdictPage asks before a verdict is carried out on so many accounts, of which the page that
// sends it knows.
func (c *console) verdictPage(v *page.Visit, do verdict, h held) (ask, int64, error) {
	dids, filter, err := h.choice()
	if err != nil {
		return ask{}, 0, err
	}
	n, confirmed, _, err := do.call(c, v.Context(), dids, filter, true)
	if err != nil {
		return ask{}, 0, err
	}
	back := Home + "/quarantine"
	list := h
	list.DID, list.All = "", false
	if q := list.values().Encode(); q != "" {
		back += "?" + q
	}
	a := ask{
		Title: fmt.Sprintf(do.ask, accountsWord(n)), Text: []string{do.text}, Button: do.button, Danger: do.danger,
		Facts:  append(h.facts(), fact{"Accounts", fmt.Sprint(n)}, fact{"With a confirmed address", fmt.Sprint(confirmed)}),
		Action: Home + "/quarantine/" + do.name, Back: back, Impossible: n == 0,
		Fields: []field{{Name: "count", Type: "hidden", Value: fmt.Sprint(n)}},
	}
	if n == 0 {
		a.Title = "There is no such account in quarantine"
		a.Text = []string{"Accounts that were approved, or whose release is under way, are left out."}
	}
	for name, values := range h.values() {
		a.Fields = append(a.Fields, field{Name: name, Type: "hidden", Value: values[0]})
	}
	return a, n, nil
}

func (c *console) askVerdict(do verdict) func(*page.Visit) error {
	return func(v *page.Visit) error {
		a, _, err := c.verdictPage(v, do, heldIn(v.Request.URL.Query().Get))
		if err != nil {
			return err
		}
		return c.ask(v, a)
	}
}

// carryOut does what was asked about, unless there are more accounts by now than were
// counted then.
func (c *console) carryOut(do verdict) func(*page.Visit) error {
	return func(v *page.Visit) error {
		h := heldIn(v.Form)
		a, n, err := c.verdictPage(v, do, h)
		if err != nil {
			return err
		}
		var counted int64
		if _, err := fmt.Sscan(v.Form("count"), &counted); err != nil || n > counted {
			return c.askAgain(v, a, &page.Error{Status: http.StatusConflict, Message: "There are more of them by now. Nothing was done."})
		}
		dids, filter, err := h.choice()
		if err != nil {
			return err
		}
		var done int64
		for began, more := time.Now(), true; more && time.Since(began) < heldPatience; {
			var n int64
			n, _, more, err = do.call(c, v.Context(), dids, filter, false)
			if err != nil {
				return err
			}
			if done += n; n == 0 {
				break
			}
			if more && time.Since(began) >= heldPatience {
				return c.done(v, a.Back, "%s %s; there are more: do it again.", accountsWord(done), do.done)
			}
		}
		return c.done(v, a.Back, "%s %s.", accountsWord(done), do.done)
	}
}
