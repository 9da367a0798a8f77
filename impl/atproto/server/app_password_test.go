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

	"portico/db"
	"portico/impl/account/password"
	"portico/impl/servertest"
)

// appPassword makes an app password and returns its text.
func (f *fixture) appPassword(u user, name string, privileged bool) string {
	f.Helper()
	a := f.Post("createAppPassword", fmt.Sprintf(`{"name":%q,"privileged":%t}`, name, privileged), u.Access)
	return f.Accepted(a).Text(f, "password")
}

// appeal is the token that a taken-down account gets.
func (f *fixture) appeal(u user) string {
	f.Helper()
	a := f.Accepted(f.Post("createSession", fmt.Sprintf(`{"identifier":%q,"password":%q,"allowTakendown":true}`, u.Handle, goodPassword)))
	return servertest.Bearer(a.Text(f, "accessJwt"))
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
	u := f.SignUp("alice")
	plain := f.Accepted(f.Post("createAppPassword", `{"name":" My phone "}`, u.Access)).Fields(t)
	text, _ := plain["password"].(string)
	if len(plain) != 4 || plain["name"] != " My phone " || plain["privileged"] != false || plain["createdAt"] != "2026-03-01T12:00:00.000Z" ||
		!regexp.MustCompile(`^[a-z2-7]{4}(-[a-z2-7]{4}){3}$`).MatchString(text) {
		t.Errorf("answer %v", plain)
	}
	privileged := f.appPassword(u, "my phone", true)
	for password, want := range map[string]string{
		text: "com.atproto.appPass", privileged: "com.atproto.appPassPrivileged", goodPassword: "com.atproto.access",
	} {
		s := f.SignIn(u, password)
		if got := scope(t, s.Access); got != want {
			t.Errorf("scope %s, want %s", got, want)
		}
		// The scope survives the refresh.
		again := f.Accepted(f.Post("refreshSession", "", s.Refresh))
		if got := scope(t, again.Text(t, "accessJwt")); got != want {
			t.Errorf("scope %s after a refresh, want %s", got, want)
		}
	}
	for _, wrong := range []string{strings.ToUpper(text), strings.ReplaceAll(text, "-", ""), " " + text} {
		f.Refused(f.Post("createSession", login("alice.test", wrong)), 401, "AuthenticationRequired", "Invalid identifier or password")
	}
	// It is nobody else's.
	f.SignUp("bob")
	f.Refused(f.Post("createSession", login("bob.test", text)), 401, "AuthenticationRequired", "Invalid identifier or password")
	// The row does not tell it.
	apps, err := f.DB.AppPasswords(t.Context(), u.DID)
	if err != nil {
		t.Fatal(err)
	}
	for _, listed := range apps {
		app, err := f.DB.AppPasswordByName(t.Context(), u.DID, listed.Name)
		if err != nil {
			t.Fatal(err)
		}
		if len(app.MAC) != 32 || app.Scrypt != "" || strings.Contains(string(app.MAC), text) {
			t.Errorf("row %+v", app)
		}
	}
}

// An empty name is a name: its sessions get no more rights by a refresh, and end
// when it is revoked.
func TestAppPasswordWithEmptyName(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	app := f.SignIn(u, f.appPassword(u, "", false))
	again := f.Accepted(f.Post("refreshSession", "", app.Refresh))
	if got := scope(t, again.Text(t, "accessJwt")); got != "com.atproto.appPass" {
		t.Errorf("scope %s after a refresh", got)
	}
	f.Accepted(f.Post("revokeAppPassword", `{"name":""}`, u.Access))
	f.Refused(f.Post("refreshSession", "", app.Refresh), 400, "ExpiredToken", "Token has been revoked")
	f.Accepted(f.Post("refreshSession", "", u.Refresh))
}

func TestCreateAppPasswordRefuses(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	app := f.SignIn(u, f.appPassword(u, "app", true))
	for _, tt := range []struct {
		name, body, token string
		status            int
		error, message    string
	}{
		{"no credential", `{"name":"x"}`, "", 401, "AuthMissing", "Authentication Required"},
		{"app password", `{"name":"x"}`, app.Access, 400, "InvalidToken", "Bad token scope"},
		{"refresh token", `{"name":"x"}`, u.Refresh, 400, "InvalidToken", "Token could not be verified"},
		{"no name", `{}`, u.Access, 400, "InvalidRequest", `Missing required key "name" at $`},
		{"name of another type", `{"name":1}`, u.Access, 400, "InvalidRequest", `Expected string value type (got 1) at $.name`},
		{"privileged of another type", `{"name":"x","privileged":"yes"}`, u.Access, 400, "InvalidRequest", `Expected boolean value type (got "yes") at $.privileged`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.Refused(f.Post("createAppPassword", tt.body, tt.token), tt.status, tt.error, tt.message)
		})
	}
	f.Refused(f.Post("createAppPassword", `{"name":"x"}`, "Basic YWRtaW46YWRtaW4="), 400, "InvalidToken", "Unexpected authorization type")
}

// DESIGN, small ones: names of more than 2000 bytes, or with NUL, are a 400. What is
// taken fits into what every engine can index.
func TestDesignSmallOnesAppPasswordNames(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u := f.SignUp("alice")
		// Something that does not compress.
		var name strings.Builder
		for x := uint32(1); name.Len() < 2000; x = x*1664525 + 1013904223 {
			name.WriteByte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"[x>>26])
		}
		s := f.SignIn(u, f.appPassword(u, name.String(), false))
		f.Accepted(f.Post("refreshSession", "", s.Refresh))
		f.Accepted(f.Post("revokeAppPassword", fmt.Sprintf(`{"name":%q}`, name.String()), u.Access))
		f.Refused(f.Post("refreshSession", "", s.Refresh), 400, "ExpiredToken", "Token has been revoked")
		f.Refused(f.Post("createAppPassword", fmt.Sprintf(`{"name":%q}`, name.String()+"x"), u.Access), 400, "InvalidRequest", "App password name is too long")
		f.Refused(f.Post("createAppPassword", `{"name":"`+strings.Repeat("ä", 1001)+`"}`, u.Access), 400, "InvalidRequest", "App password name is too long")
		f.Refused(f.Post("createAppPassword", `{"name":"a\u0000b"}`, u.Access), 400, "InvalidRequest", "App password name must not contain NUL")
		// A name that no engine's row can have is nobody's.
		f.Accepted(f.Post("revokeAppPassword", `{"name":"a\u0000b"}`, u.Access))
	})
}

// DESIGN 12: the name of an app password is taken once, however many ask for it.
func TestDesign12DuplicateAppPasswordName(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u := f.SignUp("alice")
		answers := make([]answer, 8)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() {
				var err error
				if answers[i], err = f.Try(http.MethodPost, "createAppPassword", `{"name":"phone"}`, u.Access); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		won := slices.IndexFunc(answers, func(a answer) bool { return a.Status == 200 })
		if won < 0 {
			t.Fatalf("nobody won: %+v", answers)
		}
		for i, a := range answers {
			if i != won {
				f.Refused(a, 400, "InvalidRequest", "An app password with this name already exists")
			}
		}
		f.SignIn(u, answers[won].Text(t, "password"))
		f.appPassword(u, "Phone", false)               // case counts
		f.appPassword(f.SignUp("bob"), "phone", false) // and whose it is
	})
}

// Rule 6 of budgets: what an account keeps has a bound, also when many make it at once.
func TestAnAccountHasAtMost100AppPasswords(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u := f.SignUp("alice")
		for n := range 97 {
			f.appPassword(u, fmt.Sprint(n), false)
		}
		outcomes := make([]string, 10)
		var all sync.WaitGroup
		for i := range outcomes {
			all.Go(func() {
				a, err := f.Try(http.MethodPost, "createAppPassword", fmt.Sprintf(`{"name":"at once %d"}`, i), u.Access)
				if err != nil {
					t.Error(err)
				}
				outcomes[i] = a.Outcome()
			})
		}
		all.Wait()
		slices.Sort(outcomes)
		const refused = `400 InvalidRequest "An account has at most 100 app passwords: revoke one that is no longer used"`
		want := []string{"200", "200", "200", refused, refused, refused, refused, refused, refused, refused}
		if !slices.Equal(outcomes, want) {
			t.Errorf("got %q, want %q", outcomes, want)
		}
		f.Accepted(f.Post("revokeAppPassword", `{"name":"7"}`, u.Access))
		f.appPassword(u, "in its place", false)
	})
}

func TestListAppPasswords(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	a := f.Accepted(f.Get("listAppPasswords", u.Access))
	if strings.TrimSpace(a.Body) != `{"passwords":[]}` {
		t.Errorf("answer %s", a.Body)
	}
	text := f.appPassword(u, "one", false)
	f.Advance(1500 * time.Millisecond)
	f.appPassword(u, "two", true)
	f.appPassword(f.SignUp("bob"), "bob's", false)
	const want = `{"passwords":[{"name":"two","createdAt":"2026-03-01T12:00:01.500Z","privileged":true},` +
		`{"name":"one","createdAt":"2026-03-01T12:00:00.000Z","privileged":false}]}`
	// An app password's session sees all of them.
	for _, token := range []string{u.Access, f.SignIn(u, text).Access} {
		a = f.Accepted(f.Get("listAppPasswords", token))
		if strings.TrimSpace(a.Body) != want {
			t.Errorf("answer %s\nwant   %s", a.Body, want)
		}
	}
	f.Refused(f.Get("listAppPasswords"), 401, "AuthMissing", "Authentication Required")
}

func TestRevokeAppPassword(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	one, two := f.appPassword(u, "one", false), f.appPassword(u, "two", false)
	first, second, third := f.SignIn(u, one), f.SignIn(u, two), f.SignIn(u, one)

	a := f.Accepted(f.Post("revokeAppPassword", `{"name":"one"}`, u.Access))
	if a.Body != "" || a.Header.Get("Content-Type") != "" {
		t.Errorf("answer %q of type %q", a.Body, a.Header.Get("Content-Type"))
	}
	f.Refused(f.Post("createSession", login("alice.test", one)), 401, "AuthenticationRequired", "Invalid identifier or password")
	for _, s := range []user{first, third} {
		f.Refused(f.Post("refreshSession", "", s.Refresh), 400, "ExpiredToken", "Token has been revoked")
		// Access tokens live on, two hours at most.
		f.Accepted(f.Get("getSession", s.Access))
	}
	f.Accepted(f.Post("refreshSession", "", second.Refresh))
	f.Accepted(f.Post("refreshSession", "", u.Refresh))
	// Again, a name that never was, and the empty one: the account password's
	// sessions are none of its.
	for _, name := range []string{"one", "three", ""} {
		f.Accepted(f.Post("revokeAppPassword", fmt.Sprintf(`{"name":%q}`, name), u.Access))
	}
	f.Accepted(f.Post("refreshSession", "", u.Refresh))
	// An app password may revoke itself, and others.
	f.appPassword(u, "four", false)
	f.Accepted(f.Post("revokeAppPassword", `{"name":"four"}`, second.Access))
	f.Accepted(f.Post("revokeAppPassword", `{"name":"two"}`, second.Access))
	f.Refused(f.Post("createSession", login("alice.test", two)), 401, "AuthenticationRequired", "Invalid identifier or password")
	// The name is free again.
	f.appPassword(u, "one", false)

	f.Refused(f.Post("revokeAppPassword", `{}`, u.Access), 400, "InvalidRequest", `Missing required key "name" at $`)
	f.Refused(f.Post("revokeAppPassword", `{"name":"one"}`), 401, "AuthMissing", "Authentication Required")
}

// Of somebody else's app passwords nobody learns or revokes any.
func TestRevokeAppPasswordOfSomebodyElse(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	text := f.appPassword(u, "phone", false)
	f.Accepted(f.Post("revokeAppPassword", `{"name":"phone"}`, f.SignUp("bob").Access))
	f.SignIn(u, text)
}

// appPasswordMethods are those that read or change app passwords.
var appPasswordMethods = map[string]func(f *fixture, token string) answer{
	"createAppPassword": func(f *fixture, token string) answer {
		return f.Post("createAppPassword", `{"name":"x"}`, token)
	},
	"listAppPasswords": func(f *fixture, token string) answer { return f.Get("listAppPasswords", token) },
	"revokeAppPassword": func(f *fixture, token string) answer {
		return f.Post("revokeAppPassword", `{"name":"phone"}`, token)
	},
}

// DESIGN 14: an access token from before a takedown reads and changes no app
// passwords, neither does the token of an appeal.
func TestDesign14AppPasswordsOfTakenDownAccounts(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	text := f.appPassword(u, "phone", false)
	f.TakeDown(u.DID)
	appeal := f.appeal(u)
	for method, call := range appPasswordMethods {
		t.Run(method, func(t *testing.T) {
			f.Refused(call(f, u.Access), 401, "AccountTakedown", "Account has been taken down")
			f.Refused(call(f, appeal), 400, "InvalidToken", "Bad token scope")
		})
	}
	// They are not for signing in either, and nothing has happened to them.
	f.Refused(f.Post("createSession", login("alice.test", text)), 401, "AuthenticationRequired", "Invalid identifier or password")
	f.SetAccount(u.DID, func(a *db.Account) { a.TakedownRef = nil })
	f.SignIn(u, text)
}

func TestAppPasswordsOfDeactivatedAccounts(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	f.SetAccount(u.DID, func(a *db.Account) { a.DeactivatedAt = new(f.Now()) })
	for _, call := range appPasswordMethods {
		f.Accepted(call(f, u.Access))
	}
}

// DESIGN 26 and small ones: the token of an account that is gone is answered 403, by the
// list and the revocation of app passwords too.
func TestDesign26AppPasswordsOfDeletedAccounts(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u := f.SignUp("alice")
		text := f.appPassword(u, "phone", false)
		f.Remove(u.DID)
		for method, call := range appPasswordMethods {
			t.Run(method, func(t *testing.T) {
				f.Refused(call(f, u.Access), 403, "AccountNotFound", "Account not found")
			})
		}
		f.Refused(f.Post("createSession", login(u.DID.String(), text)), 401, "AuthenticationRequired", "Invalid identifier or password")
	})
}

// imported stores an app password as it comes from another server.
func (f *fixture) imported(u user, name, text string) {
	f.Helper()
	hash, err := f.service.Passwords.ImportedAppHash(f.Context(), password.Caller{}, u.DID.String(), text)
	if err != nil {
		f.Fatal(err)
	}
	err = f.DB.Write(f.Context(), func(tx *db.Tx) error {
		return tx.InsertAppPassword(f.Context(), db.AppPassword{DID: u.DID, Name: name, Scrypt: hash, CreatedAt: f.Now()})
	})
	if err != nil {
		f.Fatal(err)
	}
}

// An imported app password is looked up by its old hash once, and like all others
// from then on.
func TestImportedAppPassword(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u := f.SignUp("alice")
		f.imported(u, "old", "abcd-efgh-ijkl-mnop")
		f.imported(u, "older", "bbbb-cccc-dddd-eeee")
		f.Refused(f.Post("createSession", login("alice.test", "abcd-efgh-ijkl-mnoq")), 401, "AuthenticationRequired", "Invalid identifier or password")

		answers := make([]answer, 4)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() {
				var err error
				if answers[i], err = f.Try(http.MethodPost, "createSession", login("alice.test", "abcd-efgh-ijkl-mnop")); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for _, a := range answers {
			if got := scope(t, f.Accepted(a).Text(t, "accessJwt")); got != "com.atproto.appPass" {
				t.Errorf("scope %s", got)
			}
			f.Accepted(f.Post("refreshSession", "", servertest.Bearer(a.Text(t, "refreshJwt"))))
		}
		for name, adopted := range map[string]bool{"old": true, "older": false} {
			app, err := f.DB.AppPasswordByName(t.Context(), u.DID, name)
			if err != nil || (len(app.MAC) == 32) != adopted || (app.Scrypt == "") != adopted {
				t.Errorf("row %+v, %v", app, err)
			}
		}
		f.SignIn(u, "abcd-efgh-ijkl-mnop")

		f.Accepted(f.Post("revokeAppPassword", `{"name":"older"}`, u.Access))
		f.Refused(f.Post("createSession", login("alice.test", "bbbb-cccc-dddd-eeee")), 401, "AuthenticationRequired", "Invalid identifier or password")
	})
}

// One that came without a name gives no more rights than any other.
func TestImportedAppPasswordWithoutName(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	f.imported(u, "", "abcd-efgh-ijkl-mnop")
	s := f.SignIn(u, "abcd-efgh-ijkl-mnop")
	again := f.Accepted(f.Post("refreshSession", "", s.Refresh))
	for _, token := range []string{s.Access, servertest.Bearer(again.Text(t, "accessJwt"))} {
		if got := scope(t, token); got != "com.atproto.appPass" {
			t.Errorf("scope %s", got)
		}
	}
}

// Looking for an imported app password costs a slow hash, so the budget of wrong
// passwords counts it; app passwords with our own hash are found all the same.
func TestImportedAppPasswordBudget(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	text := f.appPassword(u, "phone", false)
	f.imported(u, "old", "abcd-efgh-ijkl-mnop")
	for range 50 {
		f.Refused(f.from("203.0.113.9", "alice.test", "wrong"), 401, "AuthenticationRequired", "Invalid identifier or password")
	}
	f.Refused(f.from("203.0.113.9", "alice.test", "abcd-efgh-ijkl-mnop"), 401, "AuthenticationRequired", "Invalid identifier or password")
	f.Accepted(f.from("203.0.113.9", "alice.test", text))
	f.Advance(time.Hour)
	f.Accepted(f.from("203.0.113.9", "alice.test", "abcd-efgh-ijkl-mnop"))
}
