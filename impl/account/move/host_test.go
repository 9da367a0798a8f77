package move_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-cmp/cmp"

	"portico/db"
	"portico/impl/account"
	"portico/impl/account/move"
	"portico/impl/identity/plc"
	"portico/impl/servertest"
)

// underPDS gives handles under the host name of the server.
func underPDS(o *servertest.Options) { o.HandleDomains = []string{".pds.test"} }

func beginHost(s *servertest.Server, to string) servertest.Answer {
	s.Helper()
	return s.Post(nsid+"startMove", fmt.Sprintf(`{"kind":"host","to":%q}`, to), servertest.Admin)
}

// says checks what the DID of an account names, and which handle the account has.
func (r *rotation) says(did syntax.DID, endpoint, handle string) {
	r.Helper()
	d, _ := servertest.Must(r.PLC.Last(r.Context(), did)).Data()
	got := []string{d.Services["atproto_pds"].Endpoint, d.Handle(), r.Account(did).Handle.String()}
	if diff := cmp.Diff([]string{endpoint, handle, handle}, got); diff != "" {
		r.Errorf("%s (-want +got):\n%s", did, diff)
	}
}

func (r *rotation) resolves(handle string, did syntax.DID) {
	r.Helper()
	a := r.Accepted(r.Get("com.atproto.identity.resolveHandle?handle=" + handle))
	if got := a.Text(r, "did"); got != did.String() {
		r.Errorf("%s resolves to %s, want %s", handle, got, did)
	}
}

func (r *rotation) signUp(handle string) servertest.Answer {
	r.Helper()
	return r.Post("com.atproto.server.createAccount", fmt.Sprintf(`{"handle":%q,"email":"%d@example.com","password":"correct horse battery"}`, handle, len(handle)+r.Now().Second()))
}

// People in every state: each DID and handle gets the new name, or is left; both names
// serve until the end.
func TestHostMove(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		r := &rotation{Server: s, old: servertest.DIDKey(s.Rotation)}
		alice, off, down, foreign, away := s.SignUp("alice.pds"), s.SignUp("user-off.pds"), s.SignUp("user-down.pds"), s.SignUp("user-foreign.pds"), s.SignUp("user-away.pds")
		own := s.SignUp("user-own.pds")
		s.SetAccount(own.DID, func(a *db.Account) { a.Handle = "own.example" })
		s.ChangeDID(own.DID, func(d *plc.Data) { d.SetHandle("own.example") })
		s.Deactivate(off.DID)
		s.TakeDown(down.DID)
		s.ChangeDID(foreign.DID, func(d *plc.Data) { d.RotationKeys = []string{key(t)} })
		s.ChangeDID(away.DID, func(d *plc.Data) {
			d.Services["atproto_pds"] = plc.Service{Type: plc.ServiceType, Endpoint: "https://elsewhere.example"}
		})
		const web = "did:web:web.example"
		s.Write(func(tx *db.Tx) error {
			res := reservation(s, web, "user-web.pds.test")
			res.Account.Email = "web@example.com"
			return tx.ReserveAccount(s.Context(), res)
		})
		s.Write(func(tx *db.Tx) error { return tx.FinishAccount(s.Context(), web, "gone") })

		// Nothing begins before the name is proven, and its handles are free.
		s.Unproven = errors.New("what answers there is not this server")
		a := beginHost(s, "new.test")
		if a.Status != 400 || !strings.Contains(string(a.Body), "https://new.test does not lead to this server") {
			t.Errorf("unproven: %d %s", a.Status, a.Body)
		}
		s.Unproven = nil
		r.Refused(beginHost(s, "pds.test"), 400, "MoveRefused", "the server has the name pds.test")
		s.SetAccount(own.DID, func(a *db.Account) { a.Handle = "alice.new.test" })
		r.Refused(beginHost(s, "new.test"), 400, "MoveRefused", fmt.Sprintf("handles under new.test are taken: alice.new.test is to be that of %s, and %s has it", alice.DID, own.DID))
		s.SetAccount(own.DID, func(a *db.Account) { a.Handle = "own.example" })
		r.says(alice.DID, "https://pds.test", "alice.pds.test")
		r.Accepted(beginHost(s, "new.test"))
		s.CatchUp()

		// Until its turn comes, nobody takes the name that an account is to get.
		r.Refused(r.signUp("alice.new.test"), 400, "HandleNotAvailable", "Handle already taken: alice.new.test")
		r.Refused(r.signUp("late.pds.test"), 400, "UnsupportedDomain", "Not a supported handle domain")
		r.resolves("alice.new.test", alice.DID)
		late := syntax.DID(r.Accepted(r.signUp("late.new.test")).Text(t, "did"))
		if phase := r.run(); phase != move.Moved {
			t.Errorf("phase %s, want moved", phase)
		}
		r.says(alice.DID, "https://new.test", "alice.new.test")
		r.says(off.DID, "https://new.test", "user-off.new.test")
		r.says(down.DID, "https://new.test", "user-down.new.test")
		r.says(own.DID, "https://new.test", "own.example")
		r.says(late, "https://new.test", "late.new.test")
		r.says(foreign.DID, "https://pds.test", "user-foreign.pds.test")
		r.says(away.DID, "https://elsewhere.example", "user-away.pds.test")
		want := map[syntax.DID]string{foreign.DID: move.LeftNoKey, away.DID: move.LeftElsewhere, web: move.LeftWeb}
		if diff := cmp.Diff(want, r.left()); diff != "" {
			t.Errorf("left (-want +got):\n%s", diff)
		}
		if log := servertest.Must(r.PLC.Audit(r.Context(), alice.DID)); len(log) != 2 {
			t.Errorf("alice has %d operations, want 2", len(log))
		}
		for _, name := range []string{"alice.pds.test", "alice.new.test"} {
			r.resolves(name, alice.DID)
			r.Accepted(r.TrySignIn(name, servertest.GoodPassword))
		}
		r.Refused(r.signUp("alice.pds.test"), 400, "UnsupportedDomain", "Not a supported handle domain")
		valid := func(u servertest.User) {
			t.Helper()
			if a := r.Accepted(r.Get("com.atproto.server.checkAccountStatus", u.Access)); a.Fields(t)["validDid"] != true {
				t.Errorf("%s: %s", u.Handle, a.Body)
			}
		}
		valid(alice)
		r.Accepted(r.Post("com.atproto.server.activateAccount", "", off.Access))

		// Tokens of before are good after the switch, and the other way round.
		r.Refused(r.ask("updateMove", `{"action":"finish","acceptLeft":true}`), 400, "MoveRefused", "the server does not go by new.test yet: switch it first")
		r.Accepted(r.ask("updateMove", `{"action":"switch"}`))
		if name := s.Hosts.Last().Name; name != "new.test" {
			t.Errorf("the server that was asked to switch goes by %s", name)
		}
		r.Refused(r.ask("updateMove", `{"action":"finish","acceptLeft":true}`), 400, "MoveRefused",
			"the server was started with PDS_HOSTNAME=pds.test: set it to new.test and start again first")
		r.Rename("new.test")
		if did := r.Accepted(r.Get("com.atproto.server.describeServer")).Text(t, "did"); did != "did:web:new.test" {
			t.Errorf("the server is %s", did)
		}
		r.Accepted(r.Get("com.atproto.server.getSession", alice.Access))
		valid(alice)
		fresh := r.SignIn(servertest.User{Handle: "alice.pds.test"}, "")
		r.Rename("pds.test")
		r.Accepted(r.Get("com.atproto.server.getSession", fresh.Access))
		r.Accepted(r.Post("com.atproto.server.refreshSession", "", alice.Refresh))
		r.Rename("new.test")

		r.Refused(r.ask("updateMove", `{"action":"finish"}`), 400, "MoveRefused", "3 DIDs were left as they are: see which, and say that they are to stay so")
		if letters := r.Letters("host_moved"); len(letters) != 0 {
			t.Errorf("letters before: %v", letters)
		}
		r.Accepted(r.ask("updateMove", `{"action":"finish","acceptLeft":true}`))
		if phase := r.run(); phase != move.Finished {
			t.Errorf("phase %s, want finished", phase)
		}
		var to []string
		for _, l := range r.Letters("host_moved") {
			to = append(to, l.To)
		}
		slices.Sort(to)
		if diff := cmp.Diff([]string{"user-foreign.pds@example.com", "web@example.com"}, to); diff != "" {
			t.Errorf("letters (-want +got):\n%s", diff)
		}
		// The old name goes on to serve those that it was left with.
		r.resolves("user-foreign.pds.test", foreign.DID)
		r.Accepted(r.Get("com.atproto.server.getSession", alice.Access))
		if still := servertest.Must(r.Server.Server.Accounts.Standstill(r.Context())); still != "" {
			t.Errorf("stands still: %s", still)
		}
	}, underPDS)
}

// With nobody left, the old name ends with the move.
func TestHostMoveToTheEnd(t *testing.T) {
	s := servertest.New(t, underPDS)
	r := &rotation{Server: s}
	alice := s.SignUp("alice.pds")
	r.Accepted(beginHost(s, "new.test"))
	r.run()
	r.Accepted(r.ask("updateMove", `{"action":"switch"}`))
	r.Rename("new.test")
	r.Accepted(r.ask("updateMove", `{"action":"finish"}`))
	if phase := r.run(); phase != move.Finished {
		t.Errorf("phase %s, want finished", phase)
	}
	r.Refused(r.Get("com.atproto.server.getSession", alice.Access), 400, "InvalidToken", "Token could not be verified")
	alice = r.SignIn(servertest.User{Handle: "alice.new.test"}, "")
	r.Accepted(r.Get("com.atproto.server.getSession", alice.Access))
	if domains := fmt.Sprint(s.Domains.Current(s.Context()).All()); !strings.Contains(domains, "new.test") || strings.Contains(domains, "pds.test") {
		t.Errorf("domains %s", domains)
	}
	// What names the old one again is still ours, and can be mended.
	s.ChangeDID(alice.DID, func(d *plc.Data) {
		d.Services["atproto_pds"] = plc.Service{Type: plc.ServiceType, Endpoint: "https://pds.test"}
	})
	repaired, remaining, err := s.Operator.Identities.Repair(s.Context(), alice.DID)
	if err != nil || len(repaired) != 1 || repaired[0].Name != account.DIDEndpoint || len(remaining) != 0 {
		t.Errorf("repaired %v, remaining %v, %v", repaired, remaining, err)
	}
	r.says(alice.DID, "https://new.test", "alice.new.test")
}

// Turned back half-way, after the switch.
func TestHostUndo(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		r := &rotation{Server: s}
		var people []servertest.User
		for n := range 4 {
			people = append(people, s.SignUp(fmt.Sprintf("user%d.pds", n)))
		}
		r.Accepted(beginHost(s, "new.test"))
		var posts atomic.Int32
		r.PLC.Spoil(func(w http.ResponseWriter, q *http.Request) bool {
			if q.Method == http.MethodPost && posts.Add(1) > 2 {
				return servertest.Says("", 503, "")(w, q)
			}
			return false
		})
		r.Check(r.Moves.Run(r.Context()))
		r.PLC.Spoil(nil)
		moved := 0
		for _, u := range people {
			if strings.HasSuffix(r.Account(u.DID).Handle.String(), ".new.test") {
				moved++
			}
		}
		if moved != 2 {
			t.Fatalf("%d are moved, want 2", moved)
		}
		r.Accepted(r.ask("updateMove", `{"action":"switch"}`))
		r.Rename("new.test")
		during := syntax.DID(r.Accepted(r.signUp("during.new.test")).Text(t, "did"))
		r.Accepted(r.ask("updateMove", `{"action":"undo"}`))
		r.Rename("pds.test")
		if phase := r.run(); phase != move.Undone {
			t.Errorf("phase %s, want undone", phase)
		}
		for n, u := range people {
			r.says(u.DID, "https://pds.test", fmt.Sprintf("user%d.pds.test", n))
			r.Accepted(r.Get("com.atproto.server.getSession", u.Access))
		}
		r.says(during, "https://pds.test", "during.pds.test")
		r.Accepted(r.signUp("after.pds.test"))
		if letters := r.Letters("host_moved"); len(letters) != 0 {
			t.Errorf("letters: %v", letters)
		}
	}, underPDS)
}

// A process that is killed at whatever request leaves what the next one ends.
func TestHostMoveKilled(t *testing.T) {
	s := servertest.New(t, underPDS)
	r := &rotation{Server: s}
	var people []servertest.User
	for n := range 3 {
		people = append(people, s.SignUp(fmt.Sprintf("user%d.pds", n)))
	}
	r.Accepted(beginHost(s, "new.test"))
	r.killed(move.Moving)
	for n, u := range people {
		r.says(u.DID, "https://new.test", fmt.Sprintf("user%d.new.test", n))
		if log := servertest.Must(r.PLC.Audit(r.Context(), u.DID)); len(log) != 2 {
			t.Errorf("%s has %d operations, want 2", u.Handle, len(log))
		}
	}
}

// Under another name by mistake, with the deletion job running, nothing is lost or written,
// and going back is all that it takes.
func TestHostByMistake(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		r := &rotation{Server: s}
		alice, brought := s.SignUp("alice.pds"), s.SignUp("brought.pds")
		asked := s.SignUp("asked.pds")
		s.Advance(time.Hour)
		then := s.Now()
		s.SetAccount(brought.DID, func(a *db.Account) { a.DeactivatedAt, a.DeleteAfter = new(a.CreatedAt), &then })
		s.SetAccount(asked.DID, func(a *db.Account) { a.DeactivatedAt, a.DeleteAfter, a.DeleteAnnouncedAt = &then, &then, &then })
		s.Advance(60 * 24 * time.Hour)
		run := func() {
			t.Helper()
			d := &account.Deletions{Accounts: s.Server.Accounts, DIDs: s.Server.DIDs, Outbox: s.Outbox, Brand: s.Server.Brand}
			s.Check(d.Run(s.Context()))
			s.Check(s.Server.Accounts.CleanUp(s.Context()))
			s.Check(s.Identity.Identities.Resume(s.Context(), true))
		}
		s.Rename("wrong.test")
		s.PLC.Asked()
		run()
		for _, u := range []servertest.User{alice, brought, asked} {
			s.Account(u.DID)
		}
		if a := r.signUp("fresh.pds.test"); a.Status < 500 {
			t.Errorf("signed up: %d %s", a.Status, a.Body)
		}
		alice = s.SignIn(alice, "")
		if a := s.Post("com.atproto.identity.updateHandle", `{"handle":"alicia.pds.test"}`, alice.Access); a.Status < 500 {
			t.Errorf("changed the handle: %d %s", a.Status, a.Body)
		}
		if a := beginHost(s, "other.test"); a.Status != 400 {
			t.Errorf("began to move: %d %s", a.Status, a.Body)
		}
		for _, asked := range s.PLC.Asked() {
			if strings.HasPrefix(asked, "POST") {
				t.Errorf("written: %s", asked)
			}
		}
		r.says(alice.DID, "https://pds.test", "alice.pds.test")

		s.Rename("pds.test")
		run()
		s.Account(brought.DID) // its DID names this server: there is no other copy
		if _, err := s.DB.AccountByDID(s.Context(), asked.DID); !errors.Is(err, db.ErrNotFound) {
			t.Errorf("not deleted as its owner asked: %v", err)
		}
		r.Accepted(r.signUp("fresh.pds.test"))
		alice = s.SignIn(alice, "")
		r.Accepted(s.Post("com.atproto.identity.updateHandle", `{"handle":"alicia.pds.test"}`, alice.Access))
		r.says(alice.DID, "https://pds.test", "alicia.pds.test")
	}, underPDS)
}

// The network is told of every DID that names another host, also of one whose handle stays
// and whose operation came through when nobody saw it.
func TestHostMoveAnnounces(t *testing.T) {
	for name, after := range map[string]servertest.Fault{
		"no answer":         servertest.HangsUp,
		"too many requests": servertest.Says("GET", 429, ""),
	} {
		t.Run(name, func(t *testing.T) {
			s := servertest.New(t, underPDS)
			r := &rotation{Server: s}
			own := s.SignUp("user-own.pds")
			s.SetAccount(own.DID, func(a *db.Account) { a.Handle = "own.example" })
			s.ChangeDID(own.DID, func(d *plc.Data) { d.SetHandle("own.example") })
			told := func() (n int) {
				for _, e := range servertest.Must(s.DB.Events(s.Context(), 0, 1000)) {
					if e.DID == own.DID && e.Kind == "#identity" {
						n++
					}
				}
				return n
			}
			before := told()
			r.Accepted(beginHost(s, "new.test"))
			var posted atomic.Bool
			r.PLC.Spoil(func(w http.ResponseWriter, q *http.Request) bool {
				if q.Method == http.MethodPost {
					posted.Store(true)
					forward(r.PLC.URL, q)
					return servertest.HangsUp(w, q)
				}
				return posted.Load() && after(w, q)
			})
			r.Check(r.Moves.Run(r.Context()))
			if !posted.Load() {
				t.Fatal("nothing was posted")
			}
			r.PLC.Spoil(nil)
			r.Advance(2 * time.Minute)
			if phase := r.run(); phase != move.Moved {
				t.Errorf("phase %s, want moved", phase)
			}
			r.says(own.DID, "https://new.test", "own.example")
			if n := told() - before; n != 1 {
				t.Errorf("the network was told %d times, want once", n)
			}
			if log := servertest.Must(r.PLC.Audit(r.Context(), own.DID)); len(log) != 3 {
				t.Errorf("%d operations, want 3", len(log))
			}
		})
	}
}

// A backup of before the move, restored after it, knows nothing of the other name: nothing is
// done to the DIDs until the operator begins anew, and then the accounts are as their DIDs say.
func TestHostMoveAfterBackup(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		r := &rotation{Server: s}
		alice, own := s.SignUp("alice.pds"), s.SignUp("user-own.pds")
		s.SetAccount(own.DID, func(a *db.Account) { a.Handle = "own.example" })
		moved := func(handle syntax.Handle) func(d *plc.Data) {
			return func(d *plc.Data) {
				d.Services["atproto_pds"] = plc.Service{Type: plc.ServiceType, Endpoint: "https://new.test"}
				d.SetHandle(handle)
			}
		}
		s.ChangeDID(alice.DID, moved("alice.new.test"))
		s.ChangeDID(own.DID, moved("own.example"))
		// Of those that were not activated yet, one had come as far as to name this server.
		came, gaveUp := s.SignUp("came.pds"), s.SignUp("gave-up.pds")
		for _, u := range []servertest.User{came, gaveUp} {
			s.SetAccount(u.DID, func(a *db.Account) { a.DeactivatedAt, a.DeleteAfter = new(a.CreatedAt), new(a.CreatedAt) })
			s.ChangeDID(u.DID, moved(syntax.Handle(strings.Replace(u.Handle, ".pds.", ".new.", 1))))
		}
		s.ChangeDID(gaveUp.DID, func(d *plc.Data) { d.RotationKeys = []string{key(t)} })
		s.Advance(60 * 24 * time.Hour)
		s.Check((&account.Deletions{Accounts: s.Server.Accounts, DIDs: s.Server.DIDs, Outbox: s.Outbox, Brand: s.Server.Brand}).Run(s.Context()))
		s.Account(came.DID)
		if _, err := s.DB.AccountByDID(s.Context(), gaveUp.DID); !errors.Is(err, db.ErrNotFound) {
			t.Errorf("a move here that was given up: %v", err)
		}
		s.PLC.Asked()
		r.Accepted(beginHost(s, "new.test"))
		if phase := r.run(); phase != move.Moved {
			t.Errorf("phase %s, want moved", phase)
		}
		for _, asked := range s.PLC.Asked() {
			if strings.HasPrefix(asked, "POST") {
				t.Errorf("written: %s", asked)
			}
		}
		if left := r.left(); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		r.says(alice.DID, "https://new.test", "alice.new.test")
		r.says(own.DID, "https://new.test", "own.example")
	}, underPDS)
}
