package authorize

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/oauth/grant"
	"portico/impl/page"
)

// arrive shows a request to a browser that an app sent here.
func (a *authorize) arrive(v *page.Visit) error {
	h, wanted := v.Request.Header, v.Request.URL.Query()
	switch {
	case v.Request.Method == http.MethodHead:
		return &page.Error{Status: http.StatusMethodNotAllowed, Message: saysIncomplete} // who looks at links opens none
	case h.Get("Sec-Fetch-Dest") != "" && h.Get("Sec-Fetch-Dest") != "document",
		h.Get("Sec-Fetch-Mode") != "" && h.Get("Sec-Fetch-Mode") != "navigate", h.Get("Sec-Purpose") != "":
		return &page.Error{Status: http.StatusBadRequest, Message: saysElsewhere}
	}
	q, err := a.open(v, wanted.Get("client_id"), wanted.Get("request_uri"))
	return q.then(err, func(q *ask) error {
		if q.request.Prompt == "none" {
			return q.silently()
		}
		switch wanted.Get("show") {
		case "sign-in":
			return q.showSignIn(http.StatusOK, signInForm{Identifier: q.hinted()})
		case "sign-up":
			return q.showSignUp(http.StatusOK, signUpForm{})
		case "reset":
			return q.showReset(http.StatusOK, resetForm{})
		}
		return q.begin()
	})
}

// A remembered account is one of the browser's.
type remembered struct {
	Account *db.Account
	Proved  time.Time
	Fresh   bool // nothing else has to prove who is there
}

// Named is the handle of an account as it is shown, "" where it has none.
func (r remembered) Named() string { return named(r.Account) }

func named(a *db.Account) string {
	if a.Handle == "" || a.Handle == syntax.HandleInvalid {
		return ""
	}
	return "@" + a.Handle.String()
}

// accounts are those that the browser remembers and that apps can be let into.
func (q *ask) accounts() (all []remembered, err error) {
	browser, err := q.Browser()
	if err != nil {
		return nil, err
	}
	list, err := q.Grants.Remembered(q.Context(), browser)
	if err != nil {
		return nil, err
	}
	for _, r := range list {
		a, err := q.DB.ReadAccount(q.Context(), r.DID)
		if errors.Is(err, db.ErrNotFound) || err == nil && a.TakenDown() {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, remembered{a, r.ProvedAt, q.fresh(r)})
	}
	return all, nil
}

// fresh says whether a remembered account needs no other proof. One from further ahead than the
// time it is good for, of before the clock was set back, is none.
func (q *ask) fresh(r grant.Remembered) bool {
	lasts := rememberedProves
	if most := q.request.MaxAge; most != nil && *most < int64(lasts/time.Second) {
		lasts = time.Duration(*most) * time.Second
	}
	return q.request.Prompt != "login" && q.Now().Sub(r.ProvedAt).Abs() < lasts
}

// hint is the account that the app named, nil where it named none that is here.
func (q *ask) hint() (*db.Account, error) {
	hint := strings.TrimPrefix(q.request.LoginHint, "@")
	if hint == "" {
		return nil, nil
	}
	var a *db.Account
	did, err := syntax.ParseDID(hint)
	if err == nil {
		a, err = q.DB.ReadAccount(q.Context(), did)
	} else if handle, bad := syntax.ParseHandle(hint); bad == nil {
		a, err = q.DB.AccountByHandle(q.Context(), handle.Normalize())
	} else {
		return nil, nil
	}
	if errors.Is(err, db.ErrNotFound) {
		return nil, nil
	}
	return a, err
}

// hinted is what the app named for the field that asks for it: a handle rather than a DID, of
// accounts that everybody may know to be here.
func (q *ask) hinted() string {
	if strings.HasPrefix(q.request.LoginHint, "did:") {
		if a, err := q.hint(); err == nil && a != nil && a.Active() && !a.Held() && named(a) != "" {
			return a.Handle.String()
		}
	}
	return page.Printable(q.request.LoginHint, 300)
}

// silently answers a request for which nobody is to be asked.
func (q *ask) silently() error {
	if !q.remembers() {
		return q.fail("invalid_request", "Public clients are not allowed to use silent-sign-on")
	}
	r, err := q.hintRemembered()
	if err != nil {
		return err
	}
	if r == nil || !r.Fresh {
		return q.fail("login_required", "Login is required")
	}
	c := q.consenting(r.Account, r.Proved)
	done, err := c.again()
	if done || err != nil {
		return err
	}
	return q.fail("consent_required", "Consent is required")
}

// remembers says whether what is allowed to the client is remembered, and need not be asked
// again: anybody can say to be a client that proves nothing.
func (q *ask) remembers() bool {
	return !q.client.Loopback && (q.client.Confidential() || q.client.Trusted)
}

// hintRemembered is the account that the app named if the browser remembers it, else nil.
func (q *ask) hintRemembered() (*remembered, error) {
	hint, err := q.hint()
	if hint == nil || err != nil {
		return nil, err
	}
	all, err := q.accounts()
	for _, r := range all {
		if r.Account.DID == hint.DID {
			return &r, err
		}
	}
	return nil, err
}

// begin shows what the prompt, the hint and what the browser remembers make the first page.
func (q *ask) begin() error {
	if q.request.Prompt == "create" {
		return q.showSignUp(http.StatusOK, signUpForm{})
	}
	all, err := q.accounts()
	if err != nil {
		return err
	}
	if q.request.Prompt == "select_account" && len(all) > 0 {
		return q.showChoice(http.StatusOK, "", all)
	}
	if q.request.LoginHint != "" {
		r, err := q.hintRemembered()
		if err != nil {
			return err
		}
		if r == nil || !r.Fresh {
			return q.showSignIn(http.StatusOK, signInForm{Identifier: q.hinted()})
		}
		c := q.consenting(r.Account, r.Proved)
		if q.request.Prompt == "" {
			if done, err := c.again(); done || err != nil {
				return err
			}
		}
		return c.show(http.StatusOK, "")
	}
	switch {
	case q.request.Prompt == "login", len(all) == 0:
		return q.showSignIn(http.StatusOK, signInForm{})
	case len(all) == 1 && all[0].Fresh:
		return q.consenting(all[0].Account, all[0].Proved).show(http.StatusOK, "")
	}
	return q.showChoice(http.StatusOK, "", all)
}
