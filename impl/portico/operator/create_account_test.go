package operator_test

import (
	"fmt"
	"testing"

	"portico/impl/servertest"
)

// The operator makes accounts where nobody can sign up: no invite code, no phone, no
// open domain, no request limit is asked for, and nobody's session begins.
func TestCreateAccountByTheOperator(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		s.Accepted(s.do("putDomain", `{"domain":"test","invitePolicy":"closed"}`))
		made := s.Accepted(s.do("createAccount", `{"handle":"Alice.test","email":"Alice@Example.com","password":"correct horse"}`)).Fields(t)
		did, _ := made["did"].(string)
		if made["handle"] != "alice.test" || did == "" || len(made) != 2 {
			t.Fatalf("answer %v", made)
		}
		alice := s.Accepted(s.account(did)).Fields(t)
		for name, want := range map[string]any{"status": "active", "email": "alice@example.com", "sessions": 0.0, "emailConfirmedAt": nil, "inviteCode": nil} {
			if alice[name] != want {
				t.Errorf("%s is %v, want %v", name, alice[name], want)
			}
		}
		s.Accepted(s.Post("com.atproto.server.createSession", `{"identifier":"alice.test","password":"correct horse"}`, ""))
		if log := s.log(did, 100); log[len(log)-1] != "2026-03-01T12:00:00.000Z account_created by admin from 127.0.0.1: alice.test" {
			t.Errorf("the log begins with %q", log[len(log)-1])
		}
		s.Refused(s.Post("com.atproto.server.createAccount", `{"handle":"bob.test","email":"bob@example.com","password":"correct horse"}`, ""),
			400, "UnsupportedDomain", "Not a supported handle domain")
	}, func(o *servertest.Options) { o.InviteRequired, o.Limiter = true, true })
}

func TestCreateAccountByTheOperatorIsRefused(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		s.SignUp("alice")
		s.Invite("code", 1, "admin")
		const ok = "correct horse"
		for _, tt := range []struct{ name, handle, email, password, more, error, message string }{
			{"handle taken", "alice.test", "other@example.com", ok, "", "HandleNotAvailable", "Handle already taken: alice.test"},
			{"address taken", "bob.test", "Alice@example.com", ok, "", "InvalidRequest", "Email already taken: Alice@example.com"},
			{"no address", "bob.test", "bob", ok, "", "InvalidRequest", "This email address is not supported, please use a different email."},
			{"short password", "bob.test", "bob@example.com", "horse", "", "InvalidPassword", "Password too short. Minimum length is 8 characters."},
			{"domain of elsewhere", "bob.example.org", "bob@example.com", ok, "", "UnsupportedDomain", "Not a supported handle domain"},
			{"too short", "bo.test", "bob@example.com", ok, "", "InvalidHandle", "Handle too short"},
			{"reserved", "admin.test", "bob@example.com", ok, "", "HandleNotAvailable", "Reserved handle"},
			{"the server's own", "pds.test", "bob@example.com", ok, "", "HandleNotAvailable", "Reserved handle"},
			{"inappropriate", "nigger.test", "bob@example.com", ok, "", "InvalidHandle", "Inappropriate language in handle"},
			{"unknown code", "bob.test", "bob@example.com", ok, `,"inviteCode":"nonsense"`, "InvalidInviteCode", "Provided invite code not available"},
		} {
			s.Refused(s.do("createAccount", fmt.Sprintf(`{"handle":%q,"email":%q,"password":%q%s}`, tt.handle, tt.email, tt.password, tt.more)),
				400, tt.error, tt.message)
		}
		// What is kept back the operator gives away on purpose, under closed domains too.
		s.Accepted(s.do("putDomain", `{"domain":"test","invitePolicy":"closed"}`))
		s.Refused(s.do("createAccount", `{"handle":"admin.test","email":"bob@example.com","password":"correct horse"}`),
			400, "HandleNotAvailable", "Reserved handle")
		for _, h := range []string{"admin", "pds"} {
			s.Accepted(s.do("createAccount", fmt.Sprintf(`{"handle":"%s.test","email":"%[1]s@example.com","password":"correct horse","allowReserved":true}`, h)))
		}
		a := s.Accepted(s.do("createAccount", `{"handle":"carol.test","email":"carol@example.com","password":"correct horse","inviteCode":"code"}`)).Fields(t)
		if got := s.account(a["did"].(string)).Fields(t); got["inviteCode"] != "code" {
			t.Errorf("signed up with %v", got["inviteCode"])
		}
		s.Refused(s.do("createAccount", `{"handle":"dave.test","email":"dave@example.com","password":"correct horse","inviteCode":"code"}`),
			400, "InvalidInviteCode", "Provided invite code not available")
		s.Refused(s.Post("createAccount", `{"handle":"dave.test","email":"dave@example.com","password":"correct horse"}`, ""),
			401, "AuthenticationRequired", "Authentication Required")
	})
}

// Of calls that race for a handle one wins.
func TestCreateAccountByTheOperatorTwiceAtOnce(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		answers := make(chan servertest.Answer)
		for n := range 8 {
			go func() {
				answers <- s.Post("createAccount", fmt.Sprintf(`{"handle":"alice.test","email":"alice%d@example.com","password":"correct horse"}`, n), servertest.Admin)
			}()
		}
		made := 0
		for range 8 {
			if a := <-answers; a.Status == 200 {
				made++
			} else {
				s.Refused(a, 400, "HandleNotAvailable", "Handle already taken: alice.test")
			}
		}
		if made != 1 {
			t.Errorf("%d accounts, want 1", made)
		}
		all, err := s.DB.Accounts(s.Context(), "", 10)
		if len(all) != 1 {
			t.Errorf("%d accounts are stored, want 1", len(all))
		}
		s.Check(err)
	})
}
