package server_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"testing"
	"time"

	"portico/impl/budget"
	"portico/impl/oauth/grant"
	"portico/impl/servertest"
)

const (
	appID       = "https://app.test/oauth-client-metadata.json"
	appRedirect = "https://app.test/callback"
	appKey      = "thumbprint"
)

// An appSession is all that OAuth knows of an account: an app that was let in, a code that
// another one did not exchange yet, a browser that remembers the account, and a consent.
type appSession struct {
	f        *fixture
	u        user
	x        grant.Exchange
	tokens   *grant.Tokens
	code     string
	verifier string
	browser  []byte
}

// apps makes an appSession of an account that proved who it is now.
func (f *fixture) apps(u user) *appSession {
	f.Helper()
	a := &appSession{f: f, u: u, x: grant.Exchange{ClientID: appID, DPoPKey: appKey, Refreshes: true}, browser: []byte("browser of " + u.DID)}
	code, verifier := a.approve()
	var err error
	a.tokens, err = f.Grants.Redeem(f.Context(), a.x, code, appRedirect, verifier)
	f.Check(err)
	a.code, a.verifier = a.approve()
	f.Check(f.Grants.Remember(f.Context(), a.browser, u.DID, f.provedAt(u), "198.51.100.1", "Firefox"))
	a.are(true)
	return a
}

// provedAt is when u may have proved who they are, for it to count.
func (f *fixture) provedAt(u user) time.Time {
	f.Helper()
	if from := f.Account(u.DID).TokensValidFrom; from.After(f.Now()) {
		return from
	}
	return f.Now()
}

func (a *appSession) approve() (code, verifier string) {
	f := a.f
	f.Helper()
	verifier = rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(verifier))
	uri, err := f.Grants.Push(f.Context(), budget.Payer{}, grant.Request{ClientID: appID, DPoPKey: appKey, Parameters: grant.Parameters{
		RedirectURI: appRedirect, Scope: "atproto transition:generic", CodeChallenge: base64.RawURLEncoding.EncodeToString(sum[:]),
	}})
	f.Check(err)
	r, err := f.Grants.Open(f.Context(), uri, appID, a.browser)
	f.Check(err)
	code, err = f.Grants.Approve(f.Context(), r, a.browser, grant.Answer{
		DID: a.u.DID, ProvedAt: f.provedAt(a.u), Scope: r.Scope, Granted: r.Scope, Remember: true, Address: "198.51.100.1", Agent: "Firefox",
	})
	f.Check(err)
	return code, verifier
}

// are checks that all of it is there, or nothing any more.
func (a *appSession) are(there bool) {
	f := a.f
	f.Helper()
	_, err := f.Grants.Verify(f.Context(), a.tokens.Access, appKey)
	if (err == nil) != there {
		f.Errorf("access token: %v", err)
	}
	all, err := f.Grants.Sessions(f.Context(), a.u.DID)
	if (len(all) > 0) != there || err != nil {
		f.Errorf("sessions %v, %v", all, err)
	}
	remembered, err := f.Grants.Remembered(f.Context(), a.browser)
	if (len(remembered) > 0) != there || err != nil {
		f.Errorf("remembered %v, %v", remembered, err)
	}
	consented, err := f.Grants.Consented(f.Context(), a.u.DID, appID, "atproto", "atproto")
	if consented != there || err != nil {
		f.Errorf("consented: %v, %v", consented, err)
	}
	if there {
		return
	}
	for what, exchange := range map[string]func() (*grant.Tokens, error){
		"refresh token": func() (*grant.Tokens, error) { return f.Grants.Refresh(f.Context(), a.x, a.tokens.Refresh) },
		"code": func() (*grant.Tokens, error) {
			return f.Grants.Redeem(f.Context(), a.x, a.code, appRedirect, a.verifier)
		},
	} {
		_, err := exchange()
		if e, ok := errors.AsType[*grant.Error](err); !ok || e.Name != "invalid_grant" {
			f.Errorf("%s: %v", what, err)
		}
	}
}

// DESIGN §10: a new password, deactivation, takedown and deletion end the apps that were let
// in, by whatever door, with codes that were not exchanged and browsers that remember the account;
// those of others go on, and nothing comes back when an account does.
func TestDesignAppsEnd(t *testing.T) {
	admin := func(f *fixture, method, body string) {
		f.Helper()
		f.Accepted(f.Post("com.atproto.admin."+method, body, servertest.Admin))
	}
	subject := func(u user, more string) string {
		return fmt.Sprintf(`{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":%q},%s}`, u.DID, more)
	}
	for _, tt := range []struct {
		name string
		do   func(f *fixture, u user)
		undo func(f *fixture, u user)
	}{
		{"reset by mailed code", func(f *fixture, u user) { f.Accepted(f.reset(u, "another password")) }, nil},
		{"reset by the operator", func(f *fixture, u user) { f.Accepted(f.resetByOperator(u, "another password")) }, nil},
		{"new password by the operator", func(f *fixture, u user) {
			admin(f, "updateAccountPassword", fmt.Sprintf(`{"did":%q,"password":"another password"}`, u.DID))
		}, nil},
		{"deactivation", func(f *fixture, u user) { f.Accepted(f.Post("deactivateAccount", `{}`, u.Access)) },
			func(f *fixture, u user) { f.Accepted(f.Post("activateAccount", "", u.Access)) }},
		{"deactivation by the operator", func(f *fixture, u user) {
			admin(f, "updateSubjectStatus", subject(u, `"deactivated":{"applied":true}`))
		},
			func(f *fixture, u user) {
				admin(f, "updateSubjectStatus", subject(u, `"deactivated":{"applied":false}`))
			}},
		{"takedown", func(f *fixture, u user) {
			admin(f, "updateSubjectStatus", subject(u, `"takedown":{"applied":true,"ref":"case 7"}`))
		},
			func(f *fixture, u user) { admin(f, "updateSubjectStatus", subject(u, `"takedown":{"applied":false}`)) }},
		{"deletion", func(f *fixture, u user) {
			f.Accepted(f.Post("deleteAccount", deletion(u.DID, goodPassword, f.deletionCode(u))))
		}, nil},
		{"deletion by the operator", func(f *fixture, u user) { admin(f, "deleteAccount", fmt.Sprintf(`{"did":%q}`, u.DID)) }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			engines(t, func(t *testing.T, f *fixture) {
				u, other := f.SignUp("alice"), f.apps(f.SignUp("bob"))
				mine := f.apps(u)
				tt.do(f, u)
				mine.are(false)
				other.are(true)
				if tt.undo != nil {
					tt.undo(f, u)
					mine.are(false)
					f.apps(u) // let in again
				}
			})
		})
	}
}
