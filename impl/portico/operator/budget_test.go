package operator_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"portico/impl/servertest"
)

// What was spent is found by what the operator types, and forgotten on demand. The record
// says so, without an address.
func TestBudgets(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		alice := s.SignUp("alice")
		for i := range 61 {
			s.Refused(s.Post("com.atproto.server.createSession", `{"identifier":"alice.test","password":"wrong"}`, fmt.Sprint("X-Forwarded-For: 203.0.113.", i%2)),
				401, "AuthenticationRequired", "Invalid identifier or password")
		}
		budgets := func(who string) string {
			t.Helper()
			var out struct {
				Budgets []struct {
					Kind, ResetAt, Protects string
					Spent, Limit            int
				}
			}
			s.Accepted(s.Get("getBudgets?who="+who, servertest.Admin)).Decode(t, &out)
			var lines []string
			for _, b := range out.Budgets {
				if b.Protects == "" || b.ResetAt != "2026-03-01T13:00:00.000Z" {
					t.Errorf("%+v", b)
				}
				lines = append(lines, fmt.Sprintf("%s %d/%d", b.Kind, b.Spent, b.Limit))
			}
			return strings.Join(lines, ", ")
		}
		clear := func(who string) {
			t.Helper()
			s.Empty(s.Post("clearBudgets", fmt.Sprintf(`{"who":%q}`, who), servertest.Admin))
		}
		for who, want := range map[string]string{
			alice.DID.String(): "failed-passwords/visitors/strangers 61/50", "203.0.113.0": "wrong-passwords-from 31/300",
			"203.0.113.9": "", "did:plc:nobody": "", "alice@example.com": "",
		} {
			if got := budgets(who); got != want {
				t.Errorf("%s has spent %q, want %q", who, got, want)
			}
		}
		s.Refused(s.Post("com.atproto.server.createSession", `{"identifier":"alice.test","password":"`+servertest.GoodPassword+`"}`, "X-Forwarded-For: 203.0.113.7"),
			401, "AuthenticationRequired", "Invalid identifier or password")
		clear(alice.DID.String())
		clear("203.0.113.0")
		clear("203.0.113.0")
		s.Accepted(s.Post("com.atproto.server.createSession", `{"identifier":"alice.test","password":"`+servertest.GoodPassword+`"}`, "X-Forwarded-For: 203.0.113.7"))
		if got := budgets(alice.DID.String()) + budgets("203.0.113.0"); got != "" {
			t.Errorf("left after clearing: %q", got)
		}
		if got := s.Recorded(alice.DID); !strings.Contains(got, "budgets_cleared by admin from 127.0.0.1") {
			t.Errorf("recorded:\n%s", got)
		}
		for _, method := range []string{"getBudgets?who=alice.test", "getBudgets?who=192.0.2"} {
			s.Refused(s.Get(method, servertest.Admin), 400, "InvalidPayer", "Not a DID, an address of the network or an email address")
		}
		s.Refused(s.Post("clearBudgets", `{"who":"x"}`, servertest.Admin), 400, "InvalidPayer", "Not a DID, an address of the network or an email address")
	}, servertest.In("alt.portico.operator"))
}

// Wrong admin passwords are paid by the caller's address, over all methods, and are one
// entry of the record for an hour; elsewhere the operator is not barred.
func TestWrongAdminPasswords(t *testing.T) {
	for _, limits := range []bool{false, true} {
		t.Run(fmt.Sprint("limits ", limits), func(t *testing.T) {
			servertest.Engines(t, testWrongAdminPasswords, servertest.In("alt.portico.operator"),
				func(o *servertest.Options) { o.Limiter = limits })
		})
	}
}

func testWrongAdminPasswords(t *testing.T, s *servertest.Server) {
	const attacker, owner = "X-Forwarded-For: 203.0.113.9", "X-Forwarded-For: 192.0.2.1"
	methods := []string{"listDomains", "com.atproto.admin.getInviteCodes", "com.atproto.admin.searchAccounts"}
	for i := range 50 {
		s.Refused(s.Get(methods[i%3], servertest.Basic("admin", fmt.Sprint("guess ", i)), attacker), 401, "AuthenticationRequired", "Authentication Required")
	}
	// What is no guess costs nothing.
	s.Refused(s.Get("listDomains", attacker), 401, "AuthenticationRequired", "Authentication Required")
	for _, credentials := range []string{servertest.Basic("admin", "guess"), servertest.Admin} {
		a := s.Get("listDomains", credentials, attacker)
		s.Refused(a, 429, "RateLimitExceeded", "Rate Limit Exceeded")
		if got := a.Header.Get("Retry-After"); got != "3600" {
			t.Errorf("Retry-After %q", got)
		}
	}
	s.Accepted(s.Get("listDomains", servertest.Admin, owner))
	s.Refused(s.Get("listDomains", servertest.Basic("root", servertest.AdminPassword), owner), 401, "AuthenticationRequired", "Authentication Required")
	s.Accepted(s.Get("listDomains", servertest.Admin, owner))
	// Who has no address of its own is recorded, and barred never: the operator may be there.
	for range 60 {
		s.Refused(s.Get("listDomains", servertest.Basic("admin", "guess")), 401, "AuthenticationRequired", "Authentication Required")
	}
	s.Accepted(s.Get("listDomains", servertest.Admin))

	recorded := func() string {
		var lines []string
		for _, e := range servertest.Must(s.DB.Audit(t.Context(), "", 100)) {
			lines = append(lines, fmt.Sprint(e.Event, " by ", e.Actor, " from ", e.Address, ": ", e.Detail))
		}
		return strings.Join(lines, "\n")
	}
	want := "admin_sign_in_failed by stranger from 127.0.0.1: 60 times\n" +
		"admin_sign_in_failed by stranger from 192.0.2.1: once\n" +
		"admin_sign_in_failed by stranger from 203.0.113.9: 50 times"
	if got := recorded(); got != want {
		t.Errorf("recorded:\n%s\nwant\n%s", got, want)
	}
	s.Advance(time.Hour)
	s.Accepted(s.Get("listDomains", servertest.Admin, attacker))
	s.Refused(s.Get("listDomains", servertest.Basic("admin", "guess"), attacker), 401, "AuthenticationRequired", "Authentication Required")
	if got := recorded(); got != "admin_sign_in_failed by stranger from 203.0.113.9: once\n"+want {
		t.Errorf("recorded an hour later:\n%s", got)
	}
}
