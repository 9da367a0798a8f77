package server_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"portico/db"
	"portico/impl/servertest"
)

// held is a server that holds those who sign up.
func held(rule string) func(*servertest.Options) {
	return func(o *servertest.Options) {
		o.Quarantine = rule
		o.Config.DocumentInSessions = true
	}
}

func kinds(s *servertest.Server, of servertest.User) (kinds []string) {
	s.Helper()
	events, err := s.DB.Events(s.Context(), 0, 100)
	s.Check(err)
	for _, e := range events {
		if e.DID == of.DID {
			kinds = append(kinds, e.Kind)
		}
	}
	return kinds
}

// Who signs up where there is a quarantine gets a letter at once, signs in, writes, and is
// known to nobody, not to the directory either, until the code of the letter is typed.
func TestSignUpIntoQuarantine(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		s.TB = t
		alice := s.SignUp("alice")
		letters := s.Letters("confirm_email")
		if len(letters) != 1 || letters[0].To != alice.Email {
			t.Fatalf("letters %+v", letters)
		}
		record := fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","record":{"text":"hello"}}`, alice.DID)
		s.Accepted(s.Post("com.atproto.repo.createRecord", record, alice.Access))
		again := s.SignIn(alice, "")
		s.Accepted(s.Post("refreshSession", "", again.Refresh))
		session := s.Accepted(s.Get("getSession", alice.Access)).Fields(t)
		document, _ := session["didDoc"].(map[string]any)
		if document["id"] != alice.DID.String() || !slices.Equal(document["alsoKnownAs"].([]any), []any{"at://alice.test"}) {
			t.Errorf("session %v", session)
		}
		if status := s.Accepted(s.Get("checkAccountStatus", alice.Access)).Fields(t); status["activated"] != true || status["validDid"] != true {
			t.Errorf("status %v", status)
		}
		s.Accepted(s.Post("deactivateAccount", `{}`, alice.Access))
		s.Accepted(s.Get("checkAccountStatus", alice.Access))
		s.Accepted(s.Post("activateAccount", "", alice.Access))
		s.Accepted(s.Post("requestPasswordReset", `{"email":"alice@example.com"}`))
		s.Accepted(s.Post("resetPassword", fmt.Sprintf(`{"token":%q,"password":"another horse battery"}`, s.Code("reset_password"))))
		s.Advance(time.Second)
		alice = s.SignIn(alice, "another horse battery")
		s.Accepted(s.Post("requestEmailConfirmation", "", alice.Access))
		code := s.Code("confirm_email")
		if asked := s.PLC.Asked(); len(asked) > 0 {
			t.Errorf("the directory was asked %q", asked)
		}
		if k := kinds(s, alice); k != nil {
			t.Errorf("events %v", k)
		}
		select {
		case <-s.Server.Accounts.ReleasesDue():
			t.Error("a release is due before the address is confirmed")
		default:
		}

		s.Accepted(s.Post("confirmEmail", fmt.Sprintf(`{"email":%q,"token":%q}`, alice.Email, code), alice.Access))
		select {
		case <-s.Server.Accounts.ReleasesDue():
		default:
			t.Error("no release is due once the address is confirmed")
		}
		s.Check(s.Server.Accounts.Release(t.Context()))
		if k := kinds(s, alice); !slices.Equal(k, []string{"#identity", "#account", "#sync"}) {
			t.Errorf("events %v", k)
		}
		s.Accepted(s.Post("com.atproto.repo.createRecord", record, alice.Access))
		if k := kinds(s, alice); len(k) != 4 || k[3] != "#commit" {
			t.Errorf("events %v", k)
		}
	}, held(db.HeldUntilConfirmed))
}

// Where the operator lets accounts out, no address that is confirmed does. It is asked for
// all the same: who has confirmed one is not deleted while they wait.
func TestSignUpUntilApproved(t *testing.T) {
	s := servertest.New(t, held(db.HeldUntilApproved))
	alice := s.SignUp("alice")
	s.Accepted(s.Post("confirmEmail", fmt.Sprintf(`{"email":%q,"token":%q}`, alice.Email, s.Code("confirm_email")), alice.Access))
	s.Check(s.Server.Accounts.Release(t.Context()))
	if k := kinds(s, alice); k != nil {
		t.Errorf("events %v", k)
	}
	s.Check(s.Server.Accounts.Approve(t.Context(), alice.DID))
	s.Check(s.Server.Accounts.Release(t.Context()))
	if k := kinds(s, alice); len(k) != 3 {
		t.Errorf("events %v", k)
	}
}
