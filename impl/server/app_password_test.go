package server_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/dbtest"
)

// appPassword makes an app password and returns its text.
func (f *fixture) appPassword(u user, name string, privileged bool) string {
	f.Helper()
	a := f.post("createAppPassword", fmt.Sprintf(`{"name":%q,"privileged":%t}`, name, privileged), bearer(u.access)...)
	return f.accepted(a).text(f, "password")
}

// signIn opens a session of u and returns it as another user.
func (f *fixture) signIn(u user, password string) user {
	f.Helper()
	a := f.accepted(f.post("createSession", login(u.handle, password)))
	u.access, u.refresh = a.text(f, "accessJwt"), a.text(f, "refreshJwt")
	return u
}

// appeal is the token that a taken-down account gets.
func (f *fixture) appeal(u user) string {
	f.Helper()
	a := f.accepted(f.post("createSession", fmt.Sprintf(`{"identifier":%q,"password":%q,"allowTakendown":true}`, u.handle, goodPassword)))
	return a.text(f, "accessJwt")
}

// remove deletes the account row behind the server's back.
func (f *fixture) remove(did syntax.DID) {
	f.Helper()
	if err := f.db.Write(f.Context(), func(tx *db.Tx) error { return tx.DeleteAccount(f.Context(), did) }); err != nil {
		f.Fatal(err)
	}
}

// scope is that of an access token.
func scope(t testing.TB, token string) string {
	t.Helper()
	claims, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var c struct{ Scope string }
	if err := json.Unmarshal(claims, &c); err != nil {
		t.Fatal(err)
	}
	return c.Scope
}

func TestCreateAppPassword(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	plain := f.accepted(f.post("createAppPassword", `{"name":" My phone "}`, bearer(u.access)...)).fields(t)
	text, _ := plain["password"].(string)
	if len(plain) != 4 || plain["name"] != " My phone " || plain["privileged"] != false || plain["createdAt"] != "2026-03-01T12:00:00.000Z" ||
		!regexp.MustCompile(`^[a-z2-7]{4}(-[a-z2-7]{4}){3}$`).MatchString(text) {
		t.Errorf("answer %v", plain)
	}
	privileged := f.appPassword(u, "my phone", true)
	for password, want := range map[string]string{
		text: "com.atproto.appPass", privileged: "com.atproto.appPassPrivileged", goodPassword: "com.atproto.access",
	} {
		s := f.signIn(u, password)
		if got := scope(t, s.access); got != want {
			t.Errorf("scope %s, want %s", got, want)
		}
		// The scope survives the refresh.
		again := f.accepted(f.post("refreshSession", "", bearer(s.refresh)...))
		if got := scope(t, again.text(t, "accessJwt")); got != want {
			t.Errorf("scope %s after a refresh, want %s", got, want)
		}
	}
	for _, wrong := range []string{strings.ToUpper(text), strings.ReplaceAll(text, "-", ""), " " + text} {
		f.refused(f.post("createSession", login("alice.test", wrong)), 401, "AuthenticationRequired", "Invalid identifier or password")
	}
	// It is nobody else's.
	f.signUp("bob")
	f.refused(f.post("createSession", login("bob.test", text)), 401, "AuthenticationRequired", "Invalid identifier or password")
	// The row does not tell it.
	apps, err := f.db.AppPasswords(t.Context(), u.did)
	if err != nil {
		t.Fatal(err)
	}
	for _, app := range apps {
		if len(app.MAC) != 32 || app.Scrypt != "" || strings.Contains(string(app.MAC), text) {
			t.Errorf("row %+v", app)
		}
	}
}

// An empty name is a name: its sessions get no more rights by a refresh, and end
// when it is revoked.
func TestAppPasswordWithEmptyName(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	app := f.signIn(u, f.appPassword(u, "", false))
	again := f.accepted(f.post("refreshSession", "", bearer(app.refresh)...))
	if got := scope(t, again.text(t, "accessJwt")); got != "com.atproto.appPass" {
		t.Errorf("scope %s after a refresh", got)
	}
	f.accepted(f.post("revokeAppPassword", `{"name":""}`, bearer(u.access)...))
	f.refused(f.post("refreshSession", "", bearer(app.refresh)...), 400, "ExpiredToken", "Token has been revoked")
	f.accepted(f.post("refreshSession", "", bearer(u.refresh)...))
}

func TestCreateAppPasswordRefuses(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	app := f.signIn(u, f.appPassword(u, "app", true))
	for _, tt := range []struct {
		name, body, token string
		status            int
		error, message    string
	}{
		{"no credential", `{"name":"x"}`, "", 401, "AuthMissing", "Authentication Required"},
		{"app password", `{"name":"x"}`, app.access, 400, "InvalidToken", "Bad token scope"},
		{"refresh token", `{"name":"x"}`, u.refresh, 400, "InvalidToken", "Token could not be verified"},
		{"no name", `{}`, u.access, 400, "InvalidRequest", `Missing required key "name" at $`},
		{"name of another type", `{"name":1}`, u.access, 400, "InvalidRequest", `Expected string value type (got 1) at $.name`},
		{"privileged of another type", `{"name":"x","privileged":"yes"}`, u.access, 400, "InvalidRequest", `Expected boolean value type (got "yes") at $.privileged`},
		{"NUL", `{"name":"a\u0000b"}`, u.access, 400, "InvalidRequest", "App password name must not contain NUL"},
		{"very long name", `{"name":"` + strings.Repeat("x", 2001) + `"}`, u.access, 400, "InvalidRequest", "App password name is too long"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var h []string
			if tt.token != "" {
				h = bearer(tt.token)
			}
			f.refused(f.post("createAppPassword", tt.body, h...), tt.status, tt.error, tt.message)
		})
	}
	f.refused(f.post("createAppPassword", `{"name":"x"}`, "Authorization", "Basic YWRtaW46YWRtaW4="), 400, "InvalidToken", "Unexpected authorization type")
}

// A long name fits into what every engine can index.
func TestCreateAppPasswordWithLongNames(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, func(o *options) { o.engine = d })
		u := f.signUp("alice")
		// Something that does not compress.
		var name strings.Builder
		for x := uint32(1); name.Len() < 2000; x = x*1664525 + 1013904223 {
			name.WriteByte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"[x>>26])
		}
		s := f.signIn(u, f.appPassword(u, name.String(), false))
		f.accepted(f.post("refreshSession", "", bearer(s.refresh)...))
		f.accepted(f.post("revokeAppPassword", fmt.Sprintf(`{"name":%q}`, name.String()), bearer(u.access)...))
		f.refused(f.post("refreshSession", "", bearer(s.refresh)...), 400, "ExpiredToken", "Token has been revoked")
		// A name that no engine's row can have is nobody's.
		f.accepted(f.post("revokeAppPassword", `{"name":"a\u0000b"}`, bearer(u.access)...))
	})
}

// DESIGN 12: the name of an app password is taken once, however many ask for it.
func TestDesign12DuplicateAppPasswordName(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, func(o *options) { o.engine = d })
		u := f.signUp("alice")
		answers := make([]answer, 8)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() {
				var err error
				if answers[i], err = f.try(http.MethodPost, "createAppPassword", `{"name":"phone"}`, bearer(u.access)...); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		won := slices.IndexFunc(answers, func(a answer) bool { return a.status == 200 })
		if won < 0 {
			t.Fatalf("nobody won: %+v", answers)
		}
		for i, a := range answers {
			if i != won {
				f.refused(a, 400, "InvalidRequest", "An app password with this name already exists")
			}
		}
		f.signIn(u, answers[won].text(t, "password"))
		f.appPassword(u, "Phone", false)               // case counts
		f.appPassword(f.signUp("bob"), "phone", false) // and whose it is
	})
}

func TestListAppPasswords(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	a := f.accepted(f.get("listAppPasswords", bearer(u.access)...))
	if strings.TrimSpace(a.body) != `{"passwords":[]}` {
		t.Errorf("answer %s", a.body)
	}
	text := f.appPassword(u, "one", false)
	f.clock.advance(1500 * time.Millisecond)
	f.appPassword(u, "two", true)
	f.appPassword(f.signUp("bob"), "bob's", false)
	const want = `{"passwords":[{"name":"two","createdAt":"2026-03-01T12:00:01.500Z","privileged":true},` +
		`{"name":"one","createdAt":"2026-03-01T12:00:00.000Z","privileged":false}]}`
	// An app password's session sees all of them.
	for _, token := range []string{u.access, f.signIn(u, text).access} {
		a = f.accepted(f.get("listAppPasswords", bearer(token)...))
		if strings.TrimSpace(a.body) != want {
			t.Errorf("answer %s\nwant   %s", a.body, want)
		}
	}
	f.refused(f.get("listAppPasswords"), 401, "AuthMissing", "Authentication Required")
}

func TestRevokeAppPassword(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	one, two := f.appPassword(u, "one", false), f.appPassword(u, "two", false)
	first, second, third := f.signIn(u, one), f.signIn(u, two), f.signIn(u, one)

	a := f.accepted(f.post("revokeAppPassword", `{"name":"one"}`, bearer(u.access)...))
	if a.body != "" || a.header.Get("Content-Type") != "" {
		t.Errorf("answer %q of type %q", a.body, a.header.Get("Content-Type"))
	}
	f.refused(f.post("createSession", login("alice.test", one)), 401, "AuthenticationRequired", "Invalid identifier or password")
	for _, s := range []user{first, third} {
		f.refused(f.post("refreshSession", "", bearer(s.refresh)...), 400, "ExpiredToken", "Token has been revoked")
		// Access tokens live on, two hours at most.
		f.accepted(f.get("getSession", bearer(s.access)...))
	}
	f.accepted(f.post("refreshSession", "", bearer(second.refresh)...))
	f.accepted(f.post("refreshSession", "", bearer(u.refresh)...))
	// Again, a name that never was, and the empty one: the account password's
	// sessions are none of its.
	for _, name := range []string{"one", "three", ""} {
		f.accepted(f.post("revokeAppPassword", fmt.Sprintf(`{"name":%q}`, name), bearer(u.access)...))
	}
	f.accepted(f.post("refreshSession", "", bearer(u.refresh)...))
	// An app password may revoke itself, and others.
	f.appPassword(u, "four", false)
	f.accepted(f.post("revokeAppPassword", `{"name":"four"}`, bearer(second.access)...))
	f.accepted(f.post("revokeAppPassword", `{"name":"two"}`, bearer(second.access)...))
	f.refused(f.post("createSession", login("alice.test", two)), 401, "AuthenticationRequired", "Invalid identifier or password")
	// The name is free again.
	f.appPassword(u, "one", false)

	f.refused(f.post("revokeAppPassword", `{}`, bearer(u.access)...), 400, "InvalidRequest", `Missing required key "name" at $`)
	f.refused(f.post("revokeAppPassword", `{"name":"one"}`), 401, "AuthMissing", "Authentication Required")
}

// Of somebody else's app passwords nobody learns or revokes any.
func TestRevokeAppPasswordOfSomebodyElse(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	text := f.appPassword(u, "phone", false)
	f.accepted(f.post("revokeAppPassword", `{"name":"phone"}`, bearer(f.signUp("bob").access)...))
	f.signIn(u, text)
}

// appPasswordMethods are those that read or change app passwords.
var appPasswordMethods = map[string]func(f *fixture, token string) answer{
	"createAppPassword": func(f *fixture, token string) answer {
		return f.post("createAppPassword", `{"name":"x"}`, bearer(token)...)
	},
	"listAppPasswords": func(f *fixture, token string) answer { return f.get("listAppPasswords", bearer(token)...) },
	"revokeAppPassword": func(f *fixture, token string) answer {
		return f.post("revokeAppPassword", `{"name":"phone"}`, bearer(token)...)
	},
}

// DESIGN 14: an access token from before a takedown reads and changes no app
// passwords, neither does the token of an appeal.
func TestDesign14AppPasswordsOfTakenDownAccounts(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	text := f.appPassword(u, "phone", false)
	f.takeDown(u.did)
	appeal := f.appeal(u)
	for method, call := range appPasswordMethods {
		t.Run(method, func(t *testing.T) {
			f.refused(call(f, u.access), 401, "AccountTakedown", "Account has been taken down")
			f.refused(call(f, appeal), 400, "InvalidToken", "Bad token scope")
		})
	}
	// They are not for signing in either, and nothing has happened to them.
	f.refused(f.post("createSession", login("alice.test", text)), 401, "AuthenticationRequired", "Invalid identifier or password")
	f.setAccount(u.did, func(a *db.Account) { a.TakedownRef = nil })
	f.signIn(u, text)
}

func TestAppPasswordsOfDeactivatedAccounts(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	f.setAccount(u.did, func(a *db.Account) { a.DeactivatedAt = new(f.clock.Now()) })
	for _, call := range appPasswordMethods {
		f.accepted(call(f, u.access))
	}
}

// DESIGN 26: the token of an account that is gone is answered 403.
func TestDesign26AppPasswordsOfDeletedAccounts(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	text := f.appPassword(u, "phone", false)
	f.remove(u.did)
	for method, call := range appPasswordMethods {
		t.Run(method, func(t *testing.T) {
			f.refused(call(f, u.access), 403, "AccountNotFound", "Account not found")
		})
	}
	f.refused(f.post("createSession", login(u.did.String(), text)), 401, "AuthenticationRequired", "Invalid identifier or password")
}

// imported stores an app password as it comes from another server.
func (f *fixture) imported(u user, name, text string) {
	f.Helper()
	hash, err := f.service.Passwords.ImportedAppHash(f.Context(), u.did.String(), text)
	if err != nil {
		f.Fatal(err)
	}
	err = f.db.Write(f.Context(), func(tx *db.Tx) error {
		return tx.InsertAppPassword(f.Context(), db.AppPassword{DID: u.did, Name: name, Scrypt: hash, CreatedAt: f.clock.Now()})
	})
	if err != nil {
		f.Fatal(err)
	}
}

// An imported app password is looked up by its old hash once, and like all others
// from then on.
func TestImportedAppPassword(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, func(o *options) { o.engine = d })
		u := f.signUp("alice")
		f.imported(u, "old", "abcd-efgh-ijkl-mnop")
		f.imported(u, "older", "bbbb-cccc-dddd-eeee")
		f.refused(f.post("createSession", login("alice.test", "abcd-efgh-ijkl-mnoq")), 401, "AuthenticationRequired", "Invalid identifier or password")

		answers := make([]answer, 4)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() {
				var err error
				if answers[i], err = f.try(http.MethodPost, "createSession", login("alice.test", "abcd-efgh-ijkl-mnop")); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for _, a := range answers {
			if got := scope(t, f.accepted(a).text(t, "accessJwt")); got != "com.atproto.appPass" {
				t.Errorf("scope %s", got)
			}
			f.accepted(f.post("refreshSession", "", bearer(a.text(t, "refreshJwt"))...))
		}
		for name, adopted := range map[string]bool{"old": true, "older": false} {
			app, err := f.db.AppPasswordByName(t.Context(), u.did, name)
			if err != nil || (len(app.MAC) == 32) != adopted || (app.Scrypt == "") != adopted {
				t.Errorf("row %+v, %v", app, err)
			}
		}
		f.signIn(u, "abcd-efgh-ijkl-mnop")

		f.accepted(f.post("revokeAppPassword", `{"name":"older"}`, bearer(u.access)...))
		f.refused(f.post("createSession", login("alice.test", "bbbb-cccc-dddd-eeee")), 401, "AuthenticationRequired", "Invalid identifier or password")
	})
}

// One that came without a name gives no more rights than any other.
func TestImportedAppPasswordWithoutName(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	f.imported(u, "", "abcd-efgh-ijkl-mnop")
	s := f.signIn(u, "abcd-efgh-ijkl-mnop")
	again := f.accepted(f.post("refreshSession", "", bearer(s.refresh)...))
	for _, token := range []string{s.access, again.text(t, "accessJwt")} {
		if got := scope(t, token); got != "com.atproto.appPass" {
			t.Errorf("scope %s", got)
		}
	}
}

// Looking for an imported app password costs a slow hash, so the budget of wrong
// passwords counts it; app passwords with our own hash are found all the same.
func TestImportedAppPasswordBudget(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	text := f.appPassword(u, "phone", false)
	f.imported(u, "old", "abcd-efgh-ijkl-mnop")
	for range 50 {
		f.refused(f.post("createSession", login("alice.test", "wrong")), 401, "AuthenticationRequired", "Invalid identifier or password")
	}
	f.refused(f.post("createSession", login("alice.test", "abcd-efgh-ijkl-mnop")), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	f.signIn(u, text)
	f.clock.advance(time.Hour)
	f.signIn(u, "abcd-efgh-ijkl-mnop")
}
