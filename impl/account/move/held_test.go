package move_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/account/move"
	"portico/impl/servertest"
)

func held(o *servertest.Options) { o.Quarantine = "approved" }

// release lets an account out of quarantine.
func (r *rotation) release(did syntax.DID) {
	r.Helper()
	r.Check(r.Server.Server.Accounts.Approve(r.Context(), did))
	r.Check(r.Server.Server.Accounts.Release(r.Context()))
	if r.Account(did).Held() {
		r.Fatalf("%s is in quarantine still", did)
	}
}

// operations is how many the directory has of a DID.
func (r *rotation) operations(did syntax.DID) int {
	r.Helper()
	return len(servertest.Must(r.PLC.Audit(r.Context(), did)))
}

// An account in quarantine does not keep a move of keys from going on, and its DID has the
// keys of the others whenever it is released: before, in and after each phase.
func TestHeldInKeyMove(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		first, second := s.SignUp("user1"), s.SignUp("user2")
		r := rotate(s)
		asked := len(s.PLC.Asked())
		r.begin()
		if phase := r.run(); phase != move.Moved {
			t.Errorf("phase %s with accounts in quarantine, want moved", phase)
		}
		if more := s.PLC.Asked()[asked:]; len(more) > 0 {
			t.Errorf("the directory was asked: %v", more)
		}
		r.release(first.DID)
		r.has(first.DID, "new", "old")
		if n := r.operations(first.DID); n != 2 {
			t.Errorf("%d operations, want 2", n)
		}
		third, fourth := s.SignUp("user3"), s.SignUp("user4")
		r.release(third.DID)
		r.has(third.DID, "new", "old")
		if n := r.operations(third.DID); n != 1 {
			t.Errorf("%d operations of a DID that was made for both keys, want 1", n)
		}

		// What was made for the old key alone has to be out before that goes.
		r.Advance(move.Hold)
		r.Refused(r.ask("updateMove", `{"action":"finish"}`), 400, "MoveRefused",
			"1 accounts in quarantine have DIDs that were made for the old key alone: approve or delete them first (portico account list --quarantined)")
		r.release(second.DID)
		r.has(second.DID, "new", "old")
		r.Accepted(r.ask("updateMove", `{"action":"finish"}`))
		if phase := r.run(); phase != move.Finished {
			t.Errorf("phase %s, want finished", phase)
		}
		for _, u := range []servertest.User{first, second, third} {
			r.has(u.DID, "new")
		}
		r.release(fourth.DID)
		r.has(fourth.DID, "new")
	}, held)
}

// The old key is taken out of a DID that was made for both also when the server does not have
// it any more.
func TestHeldAfterKeyMove(t *testing.T) {
	s := servertest.New(t, held)
	r := rotate(s)
	r.begin()
	alice := s.SignUp("alice")
	r.run()
	r.Advance(move.Hold)
	r.Accepted(r.ask("updateMove", `{"action":"finish"}`))
	if phase := r.run(); phase != move.Finished {
		t.Fatalf("phase %s, want finished", phase)
	}
	s.ForgetOldKey()
	r.release(alice.DID)
	r.has(alice.DID, "new")
}

// A DID that was made during a move which was undone is released without the new key.
func TestHeldInUndo(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		before := s.SignUp("user1")
		r := rotate(s)
		r.begin()
		during, other := s.SignUp("user2"), s.SignUp("user3")
		r.run()
		r.Accepted(r.ask("updateMove", `{"action":"undo"}`))
		r.release(other.DID)
		r.has(other.DID, "old")
		if phase := r.run(); phase != move.Undone {
			t.Errorf("phase %s, want undone", phase)
		}
		for _, u := range []servertest.User{before, during} {
			r.release(u.DID)
			r.has(u.DID, "old")
		}
	}, held)
}

// One whose DID no key of this server is in waits for the operator, and is not registered.
func TestHeldWithoutKey(t *testing.T) {
	s := servertest.New(t, held)
	alice := s.SignUp("alice")
	s.Rotate()
	s.ForgetOldKey()
	asked := len(s.PLC.Asked())
	s.Check(s.Server.Accounts.Approve(t.Context(), alice.DID))
	s.Check(s.Server.Accounts.Release(t.Context()))
	h := servertest.Must(s.DB.Quarantined(t.Context(), alice.DID))
	if h.State != "held" || h.Reason != "the rotation keys of the DID do not include that of this server" {
		t.Errorf("state %s, reason %q", h.State, h.Reason)
	}
	if more := s.PLC.Asked()[asked:]; len(more) > 0 {
		t.Errorf("the directory was asked: %v", more)
	}
}

// An account in quarantine gets its handle under the new name here, and its DID follows with
// the release.
func TestHeldInHostMove(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		r := &rotation{Server: s, old: servertest.DIDKey(s.Rotation)}
		first, second := s.SignUp("user1.pds"), s.SignUp("user2.pds")
		r.Accepted(beginHost(s, "new.test"))
		if phase := r.run(); phase != move.Moved {
			t.Errorf("phase %s with accounts in quarantine, want moved", phase)
		}
		if got := r.Account(first.DID).Handle; got != "user1.new.test" {
			t.Errorf("handle %s in quarantine", got)
		}
		if n := len(servertest.Must(s.DB.Events(t.Context(), 0, 100))); n > 0 {
			t.Errorf("%d events of accounts in quarantine", n)
		}
		r.release(first.DID)
		r.says(first.DID, "https://new.test", "user1.new.test")
		r.Accepted(r.ask("updateMove", `{"action":"switch"}`))
		s.Rename("new.test")
		r.Accepted(r.ask("updateMove", `{"action":"finish"}`))
		if phase := r.run(); phase != move.Finished {
			t.Errorf("phase %s, want finished", phase)
		}
		r.release(second.DID)
		r.says(second.DID, "https://new.test", "user2.new.test")
	}, held, underPDS)
}

// An undo gives an account in quarantine its handle back.
func TestHeldInUndoneHostMove(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		r := &rotation{Server: s, old: servertest.DIDKey(s.Rotation)}
		first := s.SignUp("user1.pds")
		r.Accepted(beginHost(s, "new.test"))
		r.run()
		late := syntax.DID(r.Accepted(r.signUp("late.new.test")).Text(t, "did"))
		r.Accepted(r.ask("updateMove", `{"action":"undo"}`))
		if phase := r.run(); phase != move.Undone {
			t.Errorf("phase %s, want undone", phase)
		}
		r.release(first.DID)
		r.says(first.DID, "https://pds.test", "user1.pds.test")
		if n := r.operations(first.DID); n != 1 {
			t.Errorf("%d operations, want 1", n)
		}
		r.release(late)
		r.says(late, "https://pds.test", "late.pds.test")
	}, held, underPDS)
}

// What is released while the directory takes no more than the genesis is told of once its
// DID says what it is to say.
func TestReleaseIsToldOfAfterTheDIDWasAmended(t *testing.T) {
	s := servertest.New(t, held)
	alice := s.SignUp("alice")
	r := rotate(s)
	r.begin()
	posts := 0
	r.PLC.Spoil(func(w http.ResponseWriter, q *http.Request) bool {
		if q.Method == http.MethodPost {
			posts++
			if posts > 1 {
				return servertest.Says("", 503, "")(w, q)
			}
		}
		return false
	})
	s.Check(s.Server.Accounts.Approve(t.Context(), alice.DID))
	s.Check(s.Server.Accounts.Release(t.Context()))
	if n := len(servertest.Must(s.DB.Events(t.Context(), 0, 100))); n > 0 {
		t.Errorf("%d events before the DID is amended", n)
	}
	r.PLC.Spoil(nil)
	r.Advance(2 * time.Minute)
	s.Check(s.Server.Accounts.Release(t.Context()))
	r.has(alice.DID, "new", "old")
	if n := len(servertest.Must(s.DB.Events(t.Context(), 0, 100))); n != 3 {
		t.Errorf("%d events, want 3", n)
	}
}

// Of an account in quarantine nothing is changed that its DID is made of, and nothing is
// wrong with it.
func TestHeldIsNotChanged(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		alice := s.SignUp("alice")
		const admin = "com.atproto.admin."
		const message = "Account is in quarantine until its email address is confirmed, or the operator approves it where this server asks for that"
		asked := len(s.PLC.Asked())
		s.Refused(s.Post(admin+"updateAccountHandle", `{"did":"`+alice.DID.String()+`","handle":"anna.test"}`, servertest.Admin), 403, "AccountQuarantined", message)
		key := s.Accepted(s.Post("com.atproto.server.reserveSigningKey", `{}`)).Text(t, "signingKey")
		s.Refused(s.Post(admin+"updateAccountSigningKey", `{"did":"`+alice.DID.String()+`","signingKey":"`+key+`"}`, servertest.Admin), 403, "AccountQuarantined", message)
		if got := s.Account(alice.DID).Handle; got != "alice.test" {
			t.Errorf("handle %s", got)
		}
		if got := s.Accepted(s.Get(nsid+"inspectAccount?did="+alice.DID.String(), servertest.Admin)).Body; got != `{"findings":[]}` {
			t.Errorf("inspected: %s", got)
		}
		if got := s.Accepted(s.Post(nsid+"repairAccount", `{"did":"`+alice.DID.String()+`"}`, servertest.Admin)).Body; got != `{"repaired":[],"remaining":[]}` {
			t.Errorf("repaired: %s", got)
		}
		if got := s.Accepted(s.Get(nsid+"verifyRepo?did="+alice.DID.String(), servertest.Admin)).Body; !strings.Contains(got, `"findings":[]`) {
			t.Errorf("verified: %s", got)
		}
		if more := s.PLC.Asked()[asked:]; len(more) > 0 {
			t.Errorf("the directory was asked: %v", more)
		}
		r := &rotation{Server: s}
		r.release(alice.DID)
		s.Accepted(s.Post(admin+"updateAccountHandle", `{"did":"`+alice.DID.String()+`","handle":"anna.test"}`, servertest.Admin))
	}, held)
}
