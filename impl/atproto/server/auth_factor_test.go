package server_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"portico/db"
	"portico/impl/servertest"
)

// withFactor signs up somebody who signs in with emailed codes.
func (f *fixture) withFactor(name string) user {
	f.Helper()
	u := f.SignUp(name)
	f.confirm(u)
	f.Accepted(f.Post("updateEmail", fmt.Sprintf(`{"email":%q,"emailAuthFactor":true}`, u.Email), u.Access))
	return u
}

// mayNotTakeOver fails the test if a session alone, without a mailbox, switches off what
// protects the account from it.
func (f *fixture) mayNotTakeOver(u user) {
	f.Helper()
	for _, body := range []string{
		`{"email":"` + u.Email + `","emailAuthFactor":false}`,
		`{"email":"` + u.Email + `"}`,
		`{"email":"` + u.Email + `","token":""}`,
		`{"email":"thief@example.org"}`,
		`{"email":"thief@example.org","emailAuthFactor":false}`,
		`{"email":"thief@example.org","emailAuthFactor":true}`,
	} {
		f.Refused(f.Post("updateEmail", body, u.Access), 400, "TokenRequired", "confirmation token required")
	}
	if a := f.Account(u.DID); a.Email != u.Email || !a.EmailAuthFactor {
		f.Errorf("account %+v", a)
	}
}

// DESIGN §10, updateEmail while 2FA is on: it always wants a code, and an unchanged
// address keeps its confirmation.
func TestDesignUpdateEmailWhile2FAIsOn(t *testing.T) {
	code := func(f *fixture, u user) string {
		f.Helper()
		if got := f.Accepted(f.Post("requestEmailUpdate", "", u.Access)).Fields(f)["tokenRequired"]; got != true {
			f.Errorf("tokenRequired %v", got)
		}
		return f.Code("update_email")
	}
	confirmed := func(f *fixture, u user, want bool) {
		f.Helper()
		a := f.Accepted(f.Get("getSession", u.Access)).Fields(f)
		if a["emailConfirmed"] != want || a["emailAuthFactor"] != true || a["email"] != u.Email {
			f.Errorf("session %v, want a confirmed address %v", a, want)
		}
	}
	engines(t, func(t *testing.T, f *fixture) {
		u := f.withFactor("alice")
		f.mayNotTakeOver(u)

		// The owner repeats the address, with a code.
		f.Accepted(f.Post("updateEmail", fmt.Sprintf(`{"email":"Alice@example.com","token":%q}`, code(f, u)), u.Access))
		confirmed(f, u, true)
		f.mayNotTakeOver(u)

		// The operator sets the address that it is.
		f.Accepted(f.Post("com.atproto.admin.updateAccountEmail", fmt.Sprintf(`{"account":%q,"email":"alice@example.com"}`, u.DID), servertest.Admin))
		confirmed(f, u, true)
		f.mayNotTakeOver(u)

		// An address that was left unconfirmed by either, before it could not be.
		f.SetAccount(u.DID, func(a *db.Account) { a.EmailConfirmedAt = nil })
		f.mayNotTakeOver(u)
		f.Refused(f.Post("updateEmail", `{"email":"alice@example.com","emailAuthFactor":true}`, u.Access), 400, "TokenRequired", "confirmation token required")
		f.Accepted(f.Post("updateEmail", fmt.Sprintf(`{"email":"alice@example.com","emailAuthFactor":true,"token":%q}`, code(f, u)), u.Access))
		confirmed(f, u, false)
		f.Accepted(f.Post("updateEmail", fmt.Sprintf(`{"email":"alice@example.com","token":%q}`, code(f, u)), u.Access))
		confirmed(f, u, false)
		f.Accepted(f.Post("updateEmail", fmt.Sprintf(`{"email":"alice@example.com","emailAuthFactor":false,"token":%q}`, code(f, u)), u.Access))
		if a := f.Account(u.DID); a.EmailAuthFactor {
			t.Error("a code does not switch it off")
		}

		// Another address by the operator: the codes went to the old one.
		bob := f.withFactor("bob")
		f.Accepted(f.Post("com.atproto.admin.updateAccountEmail", fmt.Sprintf(`{"account":%q,"email":"bob@example.org"}`, bob.DID), servertest.Admin))
		if a := f.Account(bob.DID); a.EmailAuthFactor || a.EmailConfirmedAt != nil {
			t.Errorf("account %+v", a)
		}
		if l := f.Letters("email_changed"); len(l) != 1 || l[0].To != "bob@example.com" {
			t.Errorf("announcements %v", l)
		}
	})
}

// DESIGN §10, getSession and createSession: emailAuthFactor is sent when true, and
// absent otherwise.
func TestDesignEmailAuthFactorOnlyWhenTrue(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		shows := func(u user, want any) {
			t.Helper()
			in := func(code string) answer {
				return f.Post("createSession", fmt.Sprintf(`{"identifier":%q,"password":%q,"authFactorToken":%q}`, u.Handle, goodPassword, code))
			}
			opened := in("")
			if want == true {
				opened = in(f.Code("sign_in"))
			}
			for _, a := range []answer{
				opened, f.Get("getSession", u.Access), f.Post("refreshSession", "", servertest.Bearer(f.Accepted(opened).Text(t, "refreshJwt"))),
			} {
				if got, sent := f.Accepted(a).Fields(t)["emailAuthFactor"]; got != want || sent != (want != nil) {
					t.Errorf("answer %s, want emailAuthFactor %v", a.Body, want)
				}
			}
		}
		shows(f.SignUp("alice"), nil)
		shows(f.withFactor("bob"), true)
	})
}

// A second reset in the same second ends the tokens that were issued after the first.
func TestDesignAccessTokensBetweenTwoResets(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u := f.SignUp("alice")
		for i := range 3 {
			password := fmt.Sprint("a new password ", i)
			f.Accepted(f.Post("com.atproto.admin.updateAccountPassword", fmt.Sprintf(`{"did":%q,"password":%q}`, u.DID, password), servertest.Admin))
			f.Refused(f.Get("getSession", u.Access), 400, "ExpiredToken", "Token has expired")
			u = f.SignIn(u, password)
			f.Accepted(f.Get("getSession", u.Access))
		}
	})
}

// aroundCommit runs issue, and then act; or act in its middle, when the time of its
// tokens is taken only after others can see what it wrote.
func (f *fixture) aroundCommit(committed func() bool, issue, act func()) {
	f.Helper()
	acted := false
	sessions := f.service.Sessions
	now := sessions.Now
	defer func() { sessions.Now = now }()
	sessions.Now = func() time.Time {
		if !acted && committed() {
			acted = true
			act()
			f.Advance(2 * time.Second)
		}
		return now()
	}
	issue()
	sessions.Now = now
	if !acted {
		act()
	}
}

// Whatever ends the tokens of an account between the commit that gives out new ones and
// the answer ends those too.
func TestResetWhileTokensAreIssued(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		reset := func(u user) func() {
			return func() {
				f.Accepted(f.Post("com.atproto.admin.updateAccountPassword", fmt.Sprintf(`{"did":%q,"password":"a new password"}`, u.DID), servertest.Admin))
			}
		}
		sessions := func(u user) int {
			rows, err := f.DB.Sessions(t.Context(), u.DID)
			f.Check(err)
			return len(rows)
		}
		alice := f.SignUp("alice")
		var got answer
		f.aroundCommit(func() bool { return sessions(alice) > 1 }, func() { got = f.Post("refreshSession", "", alice.Refresh) }, reset(alice))
		f.Refused(f.Get("getSession", servertest.Bearer(f.Accepted(got).Text(t, "accessJwt"))), 400, "ExpiredToken", "Token has expired")

		bob := f.SignUp("bob")
		f.aroundCommit(func() bool { return sessions(bob) > 1 }, func() { got = f.Post("createSession", login("bob.test", goodPassword)) }, reset(bob))
		f.Refused(f.Get("getSession", servertest.Bearer(f.Accepted(got).Text(t, "accessJwt"))), 400, "ExpiredToken", "Token has expired")

		carol := f.SignUp("carol")
		f.TakeDown(carol.DID)
		recorded := len(f.Recorded(carol.DID))
		f.aroundCommit(func() bool { return len(f.Recorded(carol.DID)) > recorded }, func() {
			got = f.Post("createSession", `{"identifier":"carol.test","password":"`+goodPassword+`","allowTakendown":true}`)
		}, reset(carol))
		f.Refused(f.Post("deactivateAccount", "{}", servertest.Bearer(f.Accepted(got).Text(t, "accessJwt"))), 400, "ExpiredToken", "Token has expired")
	})
}

// whileBodyIsAwaited sends a request whose body comes only after do, which runs when the
// server has let the caller in.
func (f *fixture) whileBodyIsAwaited(method, body, token string, do func()) answer {
	f.Helper()
	trace := &httptrace.ClientTrace{Got100Continue: do}
	request, err := http.NewRequestWithContext(httptrace.WithClientTrace(f.Context(), trace), http.MethodPost,
		f.URL+"/xrpc/com.atproto.server."+method, strings.NewReader(body))
	f.Check(err)
	request.Header.Set("Authorization", token)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Expect", "100-continue")
	transport := &http.Transport{ExpectContinueTimeout: time.Hour}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	f.Check(err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	f.Check(err)
	return answer{Status: response.StatusCode, Header: response.Header, Body: string(text)}
}

// Who was let in before a reset, and sends the body after it, leaves no way in behind.
func TestSlowBodyOutlivesNoReset(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		for i, tt := range []struct{ method, body string }{
			{"createAppPassword", `{"name":"way in"}`},
			{"updateEmail", `{"email":"thief@example.org"}`},
		} {
			u := f.SignUp(fmt.Sprint("alice", i))
			reset := func() {
				f.Accepted(f.Post("requestPasswordReset", fmt.Sprintf(`{"email":%q}`, u.Email)))
				f.Accepted(f.Post("resetPassword", fmt.Sprintf(`{"token":%q,"password":"a new password"}`, f.Code("reset_password"))))
			}
			f.Refused(f.whileBodyIsAwaited(tt.method, tt.body, u.Access, reset), 400, "ExpiredToken", "Token has expired")
			if a := f.Account(u.DID); a.Email != u.Email {
				t.Errorf("the address is %s", a.Email)
			}
			if all, err := f.DB.AppPasswords(t.Context(), u.DID); err != nil || len(all) != 0 {
				t.Errorf("app passwords %v, %v", all, err)
			}
		}
	})
}
