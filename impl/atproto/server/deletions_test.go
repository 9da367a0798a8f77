package server_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"portico/db"
	"portico/impl/account"
	"portico/impl/repo/event"
	"portico/impl/servertest"
)

const days = 24 * time.Hour

// deletions is the job that carries out deleteAfter.
func (f *fixture) deletions() *account.Deletions {
	return &account.Deletions{
		Accounts: f.service.Accounts, DIDs: f.service.DIDs, Outbox: f.Outbox,
		Brand: f.service.Brand, Min: 30 * days,
	}
}

// runDeletions runs the job at a time after the fixture's beginning.
func (f *fixture) runDeletions(at time.Duration) {
	f.Helper()
	begin := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f.Advance(begin.Add(at).Sub(f.Now()))
	if err := f.deletions().Run(f.Context()); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) deactivateUntil(u user, deleteAfter string) {
	f.Helper()
	f.Accepted(f.Post("deactivateAccount", fmt.Sprintf(`{"deleteAfter":%q}`, deleteAfter), u.Access))
}

// there checks whether the account exists, and how many letters have announced
// its deletion.
func (f *fixture) there(u user, want bool, announced int) {
	f.Helper()
	if got := f.account(u.DID) != nil; got != want {
		f.Errorf("at %s: account exists: %t, want %t", f.Now().Format(time.RFC3339), got, want)
	}
	n := 0
	for _, l := range f.Letters("deletion_due") {
		if l.To == u.Email {
			n++
		}
	}
	// The letter goes with the account where it was not sent.
	if want && n != announced {
		f.Errorf("at %s: %d announcements, want %d", f.Now().Format(time.RFC3339), n, announced)
	}
}

// A stolen access token that asks for a deletion in the past gets none that its
// owner does not hear of in time.
func TestDesign9DeleteAfterIsCarriedOut(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u, other := f.SignUp("alice"), f.SignUp("bob")
		f.deactivate(other) // without a wish
		f.deactivateUntil(u, "2020-01-01T00:00:00Z")
		f.runDeletions(0)
		f.there(u, true, 0)
		f.runDeletions(23*days - time.Second)
		f.there(u, true, 0)
		f.runDeletions(23*days + time.Hour)
		f.there(u, true, 1)
		letter := f.Letters("deletion_due")[0]
		if letter.To != "alice@example.com" || letter.Subject != "Your Account Will Be Deleted" ||
			!strings.Contains(letter.Text, "@alice.test") || !strings.Contains(letter.Text, "31 March 2026 at 13:00 UTC") {
			t.Errorf("letter %q to %s:\n%s", letter.Subject, letter.To, letter.Text)
		}
		f.runDeletions(30 * days)
		f.there(u, true, 1)
		before := f.lastEvent()
		f.runDeletions(30*days + time.Hour)
		f.there(u, false, 1)
		f.there(other, true, 0)
		f.said(before, u.DID, event.Account(u.DID, "deleted"))
		for _, e := range f.events(0) {
			if e.DID == u.DID && e.Seq <= before {
				t.Errorf("event %d of the deleted account is still there", e.Seq)
			}
		}
		farewell := f.Letters("account_deleted")
		if len(farewell) != 1 || farewell[0].To != "alice@example.com" || farewell[0].Subject != "Your Account Was Deleted" {
			t.Errorf("letters %v", farewell)
		}
		f.runDeletions(31 * days)
		f.said(before+1, u.DID)
		f.SignUp("alice") // the handle is free
	})
}

func TestDesign9DeleteAfterIsTheEarliestTime(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	f.deactivateUntil(u, "2026-06-09T12:00:00Z") // 100 days
	for _, at := range []time.Duration{0, 30 * days, 93*days - time.Hour} {
		f.runDeletions(at)
		f.there(u, true, 0)
	}
	f.runDeletions(93 * days)
	f.there(u, true, 1)
	f.runDeletions(100*days - time.Hour)
	f.there(u, true, 1)
	f.runDeletions(100 * days)
	f.there(u, false, 1)
}

// The owner who noticed activates the account again, or asks anew.
func TestDesign9DeleteAfterIsTakenBack(t *testing.T) {
	f := newFixture(t)
	u, v := f.SignUp("alice"), f.SignUp("bob")
	f.deactivateUntil(u, "2020-01-01T00:00:00Z")
	f.deactivateUntil(v, "2020-01-01T00:00:00Z")
	f.runDeletions(25 * days)
	f.there(u, true, 1)
	renew := func(u user) user {
		u.Access = servertest.Bearer(f.Accepted(f.Post("createSession", login(u.Handle, goodPassword))).Text(t, "accessJwt"))
		return u
	}
	u, v = renew(u), renew(v)
	f.Accepted(f.Post("activateAccount", "", u.Access))
	f.deactivateUntil(v, "2020-01-01T00:00:00Z") // the thirty days begin again
	f.runDeletions(40 * days)
	f.there(u, true, 1)
	f.there(v, true, 1)
	f.runDeletions(48 * days)
	f.there(v, true, 2)
	v = renew(v)
	f.deactivate(v) // without a wish
	f.runDeletions(400 * days)
	f.there(u, true, 1)
	f.there(v, true, 2)
}

// A server that was switched off still gives its notice.
func TestDesign9DeleteAfterIsAnnouncedAWeekAhead(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	f.deactivateUntil(u, "2020-01-01T00:00:00Z")
	f.runDeletions(50 * days)
	f.there(u, true, 1)
	f.runDeletions(57*days - time.Second)
	f.there(u, true, 1)
	f.runDeletions(57 * days)
	f.there(u, false, 1)
}

func TestDesign9DeleteAfterIsPostponedWhileTakenDown(t *testing.T) {
	f := newFixture(t)
	u, v := f.SignUp("alice"), f.SignUp("bob")
	f.deactivateUntil(u, "2020-01-01T00:00:00Z")
	f.deactivateUntil(v, "2020-01-01T00:00:00Z")
	f.TakeDown(u.DID)
	f.runDeletions(25 * days)
	f.there(u, true, 0)
	f.there(v, true, 1)
	f.TakeDown(v.DID) // announced already
	f.runDeletions(60 * days)
	f.there(u, true, 0)
	f.there(v, true, 1)
	for _, u := range []user{u, v} {
		f.SetAccount(u.DID, func(a *db.Account) { a.TakedownRef = nil })
	}
	// Once it is lifted the owner gets the whole notice, and a new letter.
	f.runDeletions(61 * days)
	f.there(u, true, 1)
	f.there(v, true, 2)
	f.runDeletions(68 * days)
	f.there(u, false, 1)
	f.there(v, false, 2)
}

func TestDesign9DeleteAfterWithoutAnAddress(t *testing.T) {
	f := newFixture(t)
	a := f.Accepted(f.Post("createAccount", `{"handle":"alice.test","email":"alice@example.com"}`))
	f.Accepted(f.Post("deactivateAccount", `{"deleteAfter":"2020-01-01T00:00:00Z"}`, servertest.Bearer(a.Text(t, "accessJwt"))))
	f.runDeletions(23*days + time.Hour)
	f.runDeletions(30 * days)
	if all, err := f.DB.Accounts(t.Context(), "", 10); err != nil || len(all) != 1 {
		t.Fatalf("accounts %v, %v", all, err)
	}
	f.runDeletions(30*days + time.Hour)
	if all, err := f.DB.Accounts(t.Context(), "", 10); err != nil || len(all) != 0 {
		t.Errorf("accounts %v, %v", all, err)
	}
}

// A move here that its owner gave up is cleared, unless the DID may have nowhere
// else to be.
func TestDesign9AbandonedMoves(t *testing.T) {
	f := newFixture(t)
	elsewhere := f.moveIn("did:web:elsewhere.example", "elsewhere")
	here := f.moveIn("did:web:here.example", "hereby")
	slash := f.moveIn("did:web:slash.example", "slashed")
	unknown := f.moveIn("did:web:unknown.example", "unheard")
	down := f.moveIn("did:web:down.example", "downed")
	asked := f.moveIn("did:web:asked.example", "asking")
	finished := f.moveIn("did:web:finished.example", "arrived")
	f.publish(elsewhere.DID, "https://other.test", "")
	f.publish(here.DID, "https://pds.test", "")
	f.publish(slash.DID, "https://PDS.test/", "")
	f.Internet.Unpublish(unknown.DID)
	f.publish(down.DID, "https://other.test", "")
	f.publish(asked.DID, "https://other.test", "")
	f.publish(finished.DID, "https://pds.test", f.repoKey(finished.DID))
	f.TakeDown(down.DID)
	f.deactivateUntil(asked, "2020-01-01T00:00:00Z") // by the owner, in the moment of the move
	f.Accepted(f.Post("activateAccount", "", finished.Access))
	f.publish(finished.DID, "https://other.test", "")
	before := f.lastEvent()

	f.runDeletions(3*days - time.Second)
	f.there(elsewhere, true, 0)
	f.runDeletions(3 * days)
	f.there(elsewhere, false, 0)
	for _, u := range []user{here, slash, unknown, down, asked, finished} {
		f.there(u, true, 0)
	}
	// The network never heard of that account from here.
	f.said(before, elsewhere.DID)
	if n := len(f.Letters("deletion_due")) + len(f.Letters("account_deleted")); n != 0 {
		t.Errorf("%d letters", n)
	}
	f.runDeletions(25 * days)
	f.there(here, true, 0)
	f.there(asked, true, 1)

	// The owner may still go on, or the document may say something else at last.
	f.publish(here.DID, "https://other.test", "")
	f.runDeletions(26 * days)
	f.there(here, false, 0)
	f.there(unknown, true, 0)
}

// Accounts that are postponed do not keep others from their turn.
func TestDesign9DeletionsBehindPostponedOnes(t *testing.T) {
	f := newFixture(t)
	for i := range 60 {
		u := f.SignUp(fmt.Sprintf("alice%d", i))
		f.SetAccount(u.DID, func(a *db.Account) {
			a.DeactivatedAt, a.DeleteAfter = new(a.CreatedAt.Add(time.Second)), new(a.CreatedAt.Add(time.Second))
			a.TakedownRef = new("test")
		})
	}
	u := f.SignUp("bob")
	f.deactivateUntil(u, "2026-03-02T12:00:00Z")
	f.runDeletions(25 * days)
	f.there(u, true, 1)
	f.runDeletions(32 * days)
	f.there(u, false, 1)
	if all, err := f.DB.Accounts(t.Context(), "", 100); err != nil || len(all) != 60 {
		t.Errorf("%d accounts left, %v", len(all), err)
	}
}
