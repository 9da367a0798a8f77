package operator_test

import (
	"crypto/rand"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"portico/db"
	"portico/impl/account/factor/totp"
	"portico/impl/audit"
	"portico/impl/mail"
	"portico/impl/servertest"
)

const unknown = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"

// operator speaks to a server as its operator does.
type operator struct{ *servertest.Server }

func newOperator(t testing.TB, change ...func(*servertest.Options)) operator {
	t.Helper()
	return operator{servertest.New(t, append([]func(*servertest.Options){servertest.In("alt.portico.operator")}, change...)...)}
}

func engines(t *testing.T, test func(t *testing.T, s operator), change ...func(*servertest.Options)) {
	t.Helper()
	change = append([]func(*servertest.Options){servertest.In("alt.portico.operator")}, change...)
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) { test(t, operator{s}) }, change...)
}

func (s operator) ask(method string) servertest.Answer {
	s.Helper()
	return s.Get(method, servertest.Admin)
}

func (s operator) do(method, body string) servertest.Answer {
	s.Helper()
	return s.Post(method, body, servertest.Admin)
}

func (s operator) account(name string) servertest.Answer {
	s.Helper()
	return s.ask("getAccount?account=" + url.QueryEscape(name))
}

func TestGetAccount(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		s.Invite("code", 1, "admin")
		alice := s.SignUpWith("alice", "code")
		want := map[string]any{
			"did": alice.DID.String(), "handle": "alice.test", "status": "active", "email": "alice@example.com",
			"emailAuthFactor": false, "createdAt": "2026-03-01T12:00:00.000Z", "invitesDisabled": false, "inviteCode": "code",
			"sessions": 1.0, "appPasswords": 0.0, "records": 0.0, "blobs": 0.0, "blobBytes": 0.0,
		}
		for _, name := range []string{
			alice.DID.String(), "alice.test", "Alice.TEST", "@alice.test", "alice@example.com", "Alice@Example.com", " alice.test ",
		} {
			if diff := cmp.Diff(want, s.Accepted(s.account(name)).Fields(t)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}

		// A session and its predecessor, which can be refreshed for two hours more, are one.
		s.Accepted(s.Post("com.atproto.server.refreshSession", "", alice.Refresh))
		second := s.SignIn(alice, "")
		for _, name := range []string{"phone", "tablet"} {
			s.Accepted(s.Post("com.atproto.server.createAppPassword", `{"name":"`+name+`"}`, second.Access))
		}
		s.SetAccount(alice.DID, func(a *db.Account) {
			a.EmailConfirmedAt, a.EmailAuthFactor, a.InvitesDisabled = new(servertest.Start), true, true
			a.DeactivatedAt, a.DeleteAfter = new(servertest.Start.Add(time.Hour)), new(servertest.Start.Add(48*time.Hour))
		})
		for key, value := range map[string]any{
			"status": "deactivated", "emailConfirmedAt": "2026-03-01T12:00:00.000Z", "emailAuthFactor": true, "invitesDisabled": true,
			"deactivatedAt": "2026-03-01T13:00:00.000Z", "deleteAfter": "2026-03-03T12:00:00.000Z", "sessions": 2.0, "appPasswords": 2.0,
		} {
			want[key] = value
		}
		if diff := cmp.Diff(want, s.Accepted(s.account("alice.test")).Fields(t)); diff != "" {
			t.Errorf("later (-want +got):\n%s", diff)
		}
		s.TakeDown(alice.DID)
		if a := s.account("alice.test").Fields(t); a["status"] != "takendown" || a["takedownRef"] != "test" {
			t.Errorf("taken down: %v", a)
		}
		s.Advance(91 * 24 * time.Hour)
		if a := s.account("alice.test").Fields(t); a["sessions"] != 0.0 {
			t.Errorf("sessions that are over count: %v", a)
		}

		// One without anything, and one under creation.
		bob := s.SignUp("bob")
		s.SetAccount(bob.DID, func(a *db.Account) { a.Handle, a.Email, a.PasswordHash = "", "", "" })
		a := s.account(bob.DID.String()).Fields(t)
		if _, ok := a["email"]; ok || a["handle"] != "handle.invalid" || a["inviteCode"] != nil || a["takedownRef"] != nil {
			t.Errorf("bare: %v", a)
		}
		s.reserve(unknown, "carol.test", "carol@example.com")
		for _, name := range []string{unknown, "carol.test", "carol@example.com"} {
			if a := s.account(name).Fields(t); a["did"] != unknown || a["status"] != "creating" || a["sessions"] != 0.0 {
				t.Errorf("under creation, by %s: %v", name, a)
			}
		}

		for _, name := range []string{"did:plc:bbbbbbbbbbbbbbbbbbbbbbbb", "nobody.test", "nobody@example.com", "nobody", "@", "\x00"} {
			s.Refused(s.account(name), 400, "AccountNotFound", "Account not found")
		}
		s.Refused(s.ask("getAccount"), 400, "InvalidRequest",
			`Invalid alt.portico.operator.getAccount params: Missing required key "account"`)
	})
}

// log is the record of an account as the operator reads it in pages, the newest entry
// first.
func (s operator) log(did string, limit int) (lines []string) {
	s.Helper()
	for cursor := ""; ; {
		query := fmt.Sprintf("getLog?did=%s&limit=%d", did, limit)
		if cursor != "" {
			query += "&cursor=" + cursor
		}
		var page struct {
			Cursor  string
			Entries []struct{ At, Actor, Address, Event, Detail string }
		}
		s.Accepted(s.ask(query)).Decode(s, &page)
		for _, e := range page.Entries {
			lines = append(lines, fmt.Sprintf("%s %s by %s from %s: %s", e.At, e.Event, e.Actor, e.Address, e.Detail))
		}
		if cursor = page.Cursor; cursor == "" {
			return lines
		}
		if len(page.Entries) != limit {
			s.Fatalf("page of %d, want %d", len(page.Entries), limit)
		}
	}
}

func TestGetLog(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		did := s.SignUp("alice").DID
		s.SignUp("bob")
		record := func(n int) {
			s.Write(func(tx *db.Tx) error {
				ctx := audit.With(t.Context(), audit.Who{Actor: "admin", Address: "192.0.2.1"})
				return audit.Record(ctx, tx, servertest.Start, did, audit.EmailSent, fmt.Sprint(n))
			})
		}
		want := []string{"2026-03-01T12:00:00.000Z account_created by stranger from 127.0.0.1: alice.test"}
		for n := range 7 {
			record(n)
			want = append([]string{fmt.Sprintf("2026-03-01T12:00:00.000Z email_sent by admin from 192.0.2.1: %d", n)}, want...)
		}
		for _, limit := range []int{1, 3, 8, 500} {
			if diff := cmp.Diff(want, s.log(did.String(), limit)); diff != "" {
				t.Errorf("in pages of %d (-want +got):\n%s", limit, diff)
			}
		}

		// What is added between two pages moves nothing.
		var page struct {
			Cursor  string
			Entries []struct{ Detail string }
		}
		s.Accepted(s.ask("getLog?limit=3&did="+did.String())).Decode(t, &page)
		record(7)
		cursor := page.Cursor
		s.Accepted(s.ask("getLog?limit=2&did="+did.String()+"&cursor="+cursor)).Decode(t, &page)
		if len(page.Entries) != 2 || page.Entries[0].Detail != "3" || page.Entries[1].Detail != "2" {
			t.Errorf("second page %+v", page)
		}

		// Without an account it is the log of all, and of what concerns none.
		s.Accepted(s.do("putDomain", `{"domain":"example.com"}`))
		const all = `{"cursor":"11","entries":[` +
			`{"at":"2026-03-01T12:00:00.000Z","actor":"admin","address":"127.0.0.1","event":"domain_added","detail":"example.com, open"}]}`
		if got := s.Accepted(s.ask("getLog?limit=1")).Body; got != all {
			t.Errorf("log of all: %s", got)
		}
		s.Accepted(s.ask("getLog?limit=2&cursor=3")).Decode(t, &page)
		if len(page.Entries) != 2 || page.Entries[0].Detail != "bob.test" || page.Entries[1].Detail != "alice.test" {
			t.Errorf("log of all, the last page: %+v", page)
		}

		if got := s.Accepted(s.ask("getLog?did=" + unknown)).Body; got != `{"entries":[]}` {
			t.Errorf("log of nobody: %s", got)
		}
		for _, cursor := range []string{"x", "1.5", "99999999999999999999", "%00"} {
			s.Refused(s.ask("getLog?did="+unknown+"&cursor="+cursor), 400, "InvalidRequest", "Malformed cursor")
		}

		// The operator's deletion is the last of what is told.
		s.Empty(s.do("com.atproto.admin.deleteAccount", `{"did":"`+did.String()+`"}`))
		got := s.log(did.String(), 10)
		if len(got) != 1 || got[0] != "2026-03-01T12:00:00.000Z account_deleted by admin from 127.0.0.1: " {
			t.Errorf("log of a deleted account: %q", got)
		}
	})
}

func TestDisableAuthFactor(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		alice := s.SignUp("alice")
		body := `{"did":"` + alice.DID.String() + `"}`
		s.Empty(s.do("disableAuthFactor", body)) // nothing to switch off
		if n := len(s.Letters(mail.KindSignInCodeOff)); n != 0 || strings.Contains(s.Recorded(alice.DID), "sign_in_code") {
			t.Errorf("%d letters, record %q", n, s.Recorded(alice.DID))
		}
		s.SetAccount(alice.DID, func(a *db.Account) { a.EmailConfirmedAt, a.EmailAuthFactor = new(s.Now()), true })
		s.Refused(s.TrySignIn("alice.test", servertest.GoodPassword), 401, "AuthFactorTokenRequired",
			"A sign in code has been sent to your email address")
		s.Empty(s.do("disableAuthFactor", body))
		s.Empty(s.do("disableAuthFactor", body))
		if a := s.Account(alice.DID); a.EmailAuthFactor || a.EmailConfirmedAt == nil {
			t.Errorf("account %+v", a)
		}
		s.SignIn(alice, "")
		letters := s.Letters(mail.KindSignInCodeOff)
		if len(letters) != 1 || letters[0].To != "alice@example.com" || !strings.Contains(letters[0].Text, "@alice.test") {
			t.Errorf("letters %+v", letters)
		}
		if got := s.log(alice.DID.String(), 10); len(got) != 3 ||
			got[1] != "2026-03-01T12:00:00.000Z sign_in_code_off by admin from 127.0.0.1: " {
			t.Errorf("log %q", got)
		}
		secret := servertest.Must(totp.New(rand.Reader))
		servertest.Must(s.Factors.Enable(t.Context(), alice.DID, secret, secret.Code(totp.StepAt(s.Now()))))
		s.Check(s.DB.Write(t.Context(), func(tx *db.Tx) error {
			return tx.InsertPasskey(t.Context(), db.Passkey{ID: []byte("id"), DID: alice.DID, Name: "Key", Public: []byte("x"), CreatedAt: s.Now()}, 20)
		}))
		s.Refused(s.TrySignIn("alice.test", servertest.GoodPassword), 401, "AuthFactorTokenRequired",
			"Enter the code of your authenticator app, or a recovery code")
		s.Empty(s.do("disableAuthFactor", body))
		s.Empty(s.do("disableAuthFactor", body))
		s.SignIn(alice, "")
		if n := len(servertest.Must(s.DB.Passkeys(t.Context(), alice.DID))); n != 0 {
			t.Errorf("%d passkeys", n)
		}
		letters = s.Letters(mail.KindFactorsChanged)
		if len(letters) != 2 || !strings.Contains(letters[0].HTML+letters[1].HTML, "The operator removed your authenticator app") {
			t.Errorf("letters %+v", letters)
		}
		if got := s.log(alice.DID.String(), 10); len(got) != 6 ||
			got[1] != "2026-03-01T12:00:00.000Z factors_reset by admin from 127.0.0.1: authenticator app, passkeys: 1" {
			t.Errorf("log %q", got)
		}
		s.Refused(s.do("disableAuthFactor", `{"did":"`+unknown+`"}`), 400, "AccountNotFound", "Account not found")
	})
}
