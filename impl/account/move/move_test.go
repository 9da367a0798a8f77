package move_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-cmp/cmp"

	"portico/db"
	"portico/impl/account"
	"portico/impl/account/move"
	"portico/impl/identity/host"
	"portico/impl/identity/plc"
	"portico/impl/keyring"
	"portico/impl/servertest"
)

const nsid = "alt.portico.operator."

// A rotation is a server before and after it was given another rotation key.
type rotation struct {
	*servertest.Server
	old, new string // did:keys
}

// rotate starts the server anew with another key beside the one that it had.
func rotate(s *servertest.Server) *rotation {
	r := &rotation{Server: s, old: servertest.DIDKey(s.Rotation)}
	s.Rotate()
	r.new = servertest.DIDKey(s.Rotation)
	return r
}

func (r *rotation) begin() {
	r.Helper()
	r.Accepted(r.ask("startMove", fmt.Sprintf(`{"kind":"key","to":%q}`, account.KeyFingerprint(r.new))))
}

func (r *rotation) ask(method, body string) servertest.Answer {
	r.Helper()
	return r.Post(nsid+method, body, servertest.Admin)
}

// run lets the job run until nothing is due, minutes apart, and returns the phase then.
func (r *rotation) run() move.Phase {
	r.Helper()
	for range 3 {
		r.Check(r.Moves.Run(r.Context()))
		r.Advance(time.Minute)
	}
	return r.phase()
}

func (r *rotation) phase() move.Phase {
	r.Helper()
	st := servertest.Must(r.Moves.State(r.Context()))
	return st.Phase
}

// keys are the rotation keys of a DID, ours by their names.
func (r *rotation) keys(did syntax.DID) []string {
	r.Helper()
	last := servertest.Must(r.PLC.Last(r.Context(), did))
	d, ok := last.Data()
	if !ok {
		return []string{"tombstone"}
	}
	for i, key := range d.RotationKeys {
		switch key {
		case r.old:
			d.RotationKeys[i] = "old"
		case r.new:
			d.RotationKeys[i] = "new"
		default:
			d.RotationKeys[i] = "foreign"
		}
	}
	return d.RotationKeys
}

func (r *rotation) has(did syntax.DID, want ...string) {
	r.Helper()
	if diff := cmp.Diff(want, r.keys(did)); diff != "" {
		r.Errorf("rotation keys of %s (-want +got):\n%s", did, diff)
	}
}

// left are the DIDs that were left, and why.
func (r *rotation) left() map[syntax.DID]string {
	r.Helper()
	reasons := map[syntax.DID]string{}
	for _, row := range servertest.Must(r.DB.DIDMoves(r.Context(), db.DIDLeft, "", 100)) {
		reasons[row.DID] = row.Reason
	}
	return reasons
}

func key(t testing.TB) string {
	t.Helper()
	return servertest.DIDKey(servertest.Must(keyring.NewKey(rand.Reader)))
}

// People in every state: each DID gets the key, or is left, and nothing else changes.
func TestRotation(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		alice, off, down := s.SignUp("alice"), s.SignUp("user-off"), s.SignUp("user-down")
		s.Deactivate(off.DID)
		s.TakeDown(down.DID)
		own := servertest.Must(keyring.NewKey(rand.Reader))
		strong, five, foreign, away, ended := s.SignUp("user-strong"), s.SignUp("user-five"), s.SignUp("user-foreign"), s.SignUp("user-away"), s.SignUp("user-ended")
		s.ChangeDID(strong.DID, func(d *plc.Data) { d.RotationKeys = append([]string{key(t)}, d.RotationKeys...) })
		s.ChangeDID(five.DID, func(d *plc.Data) {
			d.RotationKeys = []string{key(t), d.RotationKeys[0], key(t), key(t), key(t)}
		})
		s.ChangeDID(foreign.DID, func(d *plc.Data) { d.RotationKeys = []string{servertest.DIDKey(own)} })
		s.ChangeDID(away.DID, func(d *plc.Data) {
			d.Services["atproto_pds"] = plc.Service{Type: plc.ServiceType, Endpoint: "https://elsewhere.example"}
		})
		s.Tombstone(ended.DID)
		const web = "did:web:web.example"
		creating := reserve(s, "user-creating.test")
		s.Write(func(tx *db.Tx) error { return tx.ReserveAccount(s.Context(), reservation(s, web, "user-web.test")) })
		s.Write(func(tx *db.Tx) error { return tx.FinishAccount(s.Context(), web, "gone") })

		before := servertest.Must(s.PLC.Last(s.Context(), alice.DID))
		r := rotate(s)
		new := r.SignUp("user-new")
		r.has(new.DID, "new", "old")
		r.begin()
		if phase := r.run(); phase != move.Moving {
			t.Errorf("phase %s with an account under creation", phase)
		}
		s.Check(s.Server.Accounts.Resume(s.Context(), true))
		if phase := r.run(); phase != move.Moved {
			t.Errorf("phase %s, want moved", phase)
		}
		both := func() {
			t.Helper()
			for _, did := range []syntax.DID{alice.DID, off.DID, down.DID, new.DID, creating} {
				r.has(did, "new", "old")
			}
			r.has(strong.DID, "foreign", "new", "old")
			r.has(five.DID, "foreign", "old", "foreign", "foreign", "foreign")
		}
		both()
		untouched := func() {
			t.Helper()
			r.has(foreign.DID, "foreign")
			r.has(away.DID, "old")
			r.has(ended.DID, "tombstone")
			want := map[syntax.DID]string{
				foreign.DID: move.LeftNoKey, away.DID: move.LeftElsewhere, ended.DID: move.LeftTombstoned, web: move.LeftWeb,
			}
			if diff := cmp.Diff(want, r.left()); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
		}
		untouched()
		is := servertest.Must(s.PLC.Last(s.Context(), alice.DID))
		x, _ := before.Data()
		y, _ := is.Data()
		x.RotationKeys, y.RotationKeys = nil, nil
		if diff := cmp.Diff(x, y); diff != "" {
			t.Errorf("more of the DID has changed than its keys:\n%s", diff)
		}

		// Finishing waits for 72 hours after the last change, and for a word about those left.
		r.Refused(r.ask("updateMove", `{"action":"finish"}`), 400, "MoveRefused", "4 DIDs were left as they are: see which, and say that they are to stay so")
		a := r.ask("updateMove", `{"action":"finish","acceptLeft":true}`)
		if a.Status != 400 || !strings.Contains(string(a.Body), "72 hours after the last DID was changed") {
			t.Errorf("finished at once: %d %s", a.Status, a.Body)
		}
		r.Advance(move.Hold - 5*time.Minute)
		late := r.SignUp("user-late") // needs no change, and so does not put it off
		if phase := r.run(); phase != move.Moved {
			t.Errorf("phase %s, want moved", phase)
		}
		r.Advance(5 * time.Minute)
		r.Accepted(r.ask("updateMove", `{"action":"finish","acceptLeft":true}`))
		last := r.SignUp("user-last")
		r.has(last.DID, "new")
		if phase := r.run(); phase != move.Finished {
			t.Errorf("phase %s, want finished", phase)
		}
		for _, did := range []syntax.DID{alice.DID, off.DID, down.DID, new.DID, creating, late.DID, last.DID} {
			r.has(did, "new")
		}
		r.has(strong.DID, "foreign", "new")
		r.has(five.DID, "foreign", "new", "foreign", "foreign", "foreign")
		untouched()
		r.Refused(r.ask("updateMove", `{"action":"undo"}`), 400, "MoveRefused", "there is nothing to undo: the move is finished")
	})
}

// An undo half-way takes the new key out of those that have it, and changes no other.
func TestUndo(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		people := []servertest.User{s.SignUp("user1"), s.SignUp("user2"), s.SignUp("user3"), s.SignUp("user4")}
		r := rotate(s)
		r.begin()
		var posts atomic.Int32
		r.PLC.Spoil(func(w http.ResponseWriter, q *http.Request) bool {
			if q.Method == http.MethodPost && posts.Add(1) > 2 {
				return servertest.Says("", 503, "")(w, q)
			}
			return false
		})
		r.Check(r.Moves.Run(r.Context()))
		r.PLC.Spoil(nil)
		with := 0
		for _, u := range people {
			if slices.Contains(r.keys(u.DID), "new") {
				with++
			}
		}
		if with != 2 {
			t.Fatalf("%d have the new key, want 2", with)
		}
		r.Accepted(r.ask("updateMove", `{"action":"undo"}`))
		during := r.SignUp("user-during")
		r.has(during.DID, "old")
		r.Refused(r.ask("startMove", fmt.Sprintf(`{"kind":"key","to":%q}`, account.KeyFingerprint(r.new))), 400, "MoveRefused",
			"a move to another key is under way: undoing")
		if phase := r.run(); phase != move.Undone {
			t.Errorf("phase %s, want undone", phase)
		}
		for _, u := range append(people, during) {
			r.has(u.DID, "old")
		}
		// And once more, to the end.
		r.begin()
		if phase := r.run(); phase != move.Moved {
			t.Errorf("phase %s, want moved", phase)
		}
		for _, u := range append(people, during) {
			r.has(u.DID, "new", "old")
		}
	})
}

// Whatever the directory does, every DID has each change once in the end.
func TestDirectoryFails(t *testing.T) {
	lost := func(real string) servertest.Fault {
		return func(w http.ResponseWriter, q *http.Request) bool {
			if q.Method != http.MethodPost {
				return false
			}
			forward(real, q)
			return servertest.HangsUp(w, q)
		}
	}
	for name, fault := range map[string]func(real string) servertest.Fault{
		"answers are lost":   lost,
		"500":                func(string) servertest.Fault { return servertest.Says("", 500, `{"message":"Internal Server Error"}`) },
		"500 to operations":  func(string) servertest.Fault { return servertest.Says("POST", 500, "") },
		"404 from elsewhere": func(string) servertest.Fault { return servertest.Says("", 404, "") },
		"429": func(string) servertest.Fault {
			return func(w http.ResponseWriter, q *http.Request) bool {
				w.Header().Set("Retry-After", "600")
				return servertest.Says("", 429, "")(w, q)
			}
		},
		"too many operations": func(string) servertest.Fault {
			return servertest.Says("POST", 400, `{"message":"To many operations within last hour (max 10)"}`)
		},
		"accepts and loses": func(string) servertest.Fault { return servertest.Says("POST", 200, "{}") },
		"hangs up":          func(string) servertest.Fault { return servertest.HangsUp },
	} {
		t.Run(name, func(t *testing.T) {
			s := servertest.New(t)
			var people []servertest.User
			for n := range 8 {
				people = append(people, s.SignUp(fmt.Sprintf("user%d", n)))
			}
			r := rotate(s)
			r.begin()
			r.PLC.Spoil(fault(r.PLC.URL))
			r.run()
			if left := r.left(); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			r.PLC.Spoil(nil)
			r.Advance(2 * time.Hour)
			if phase := r.run(); phase != move.Moved {
				t.Errorf("phase %s, want moved", phase)
			}
			for _, u := range people {
				r.has(u.DID, "new", "old")
				if log := servertest.Must(r.PLC.Audit(r.Context(), u.DID)); len(log) != 2 {
					t.Errorf("%s has %d operations, want 2", u.Handle, len(log))
				}
			}
		})
	}
}

// forward sends a request on, and drops the answer.
func forward(real string, q *http.Request) {
	res, err := http.Post(real+q.URL.EscapedPath(), q.Header.Get("Content-Type"), q.Body)
	if err == nil {
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
}

// A directory that wants to be left alone is not asked until its time is over.
func TestRetryAfter(t *testing.T) {
	s := servertest.New(t)
	for n := range 6 {
		s.SignUp(fmt.Sprintf("user%d", n))
	}
	r := rotate(s)
	r.begin()
	r.PLC.Spoil(func(w http.ResponseWriter, q *http.Request) bool {
		w.Header().Set("Retry-After", "600")
		return servertest.Says("", 429, "")(w, q)
	})
	r.PLC.Asked()
	r.Check(r.Moves.Run(r.Context()))
	if asked := r.PLC.Asked(); len(asked) > 5 { // one, and those that were on their way
		t.Errorf("asked on: %v", asked)
	}
	r.PLC.Spoil(nil)
	r.Advance(9 * time.Minute)
	r.Check(r.Moves.Run(r.Context()))
	if asked := r.PLC.Asked(); len(asked) > 0 {
		t.Errorf("asked before the time: %v", asked)
	}
	r.Advance(time.Minute)
	r.Check(r.Moves.Run(r.Context()))
	if phase := r.phase(); phase != move.Moved {
		t.Errorf("phase %s, want moved", phase)
	}
}

// A run ends when its time is over, wherever it is: its lease does, too.
func TestSlice(t *testing.T) {
	s := servertest.New(t)
	for n := range 20 {
		s.SignUp(fmt.Sprintf("user%d", n))
	}
	r := rotate(s)
	r.begin()
	r.PLC.Spoil(func(http.ResponseWriter, *http.Request) bool {
		r.Advance(5 * time.Second)
		return false
	})
	r.Check(r.Moves.Run(r.Context()))
	n := servertest.Must(r.DB.CountDIDMoves(r.Context()))
	if n.Done == 0 || n.Done > 12 || n.Done+n.Waiting != 20 {
		t.Errorf("after a minute at 10 seconds each: %+v", n)
	}
	r.PLC.Spoil(nil)
	if phase := r.run(); phase != move.Moved {
		t.Errorf("phase %s, want moved", phase)
	}
}

// An operation that the directory does not take is tried a few times; then the DID is left,
// with the words of the directory, until the operator asks for it.
func TestRefused(t *testing.T) {
	s := servertest.New(t)
	alice := s.SignUp("alice")
	r := rotate(s)
	r.begin()
	r.PLC.Spoil(servertest.Says("POST", 400, `{"message":"Not today"}`))
	for range 6 {
		r.run()
		r.Advance(time.Hour)
	}
	if diff := cmp.Diff(map[syntax.DID]string{alice.DID: "refused: Not today"}, r.left()); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	r.PLC.Spoil(nil)
	r.Accepted(r.ask("updateMove", `{"action":"retry"}`))
	r.run()
	r.has(alice.DID, "new", "old")
}

// What the directory accepts and loses is not taken for done: it is tried a few times, and
// then the DID is left.
func TestAcceptedAndLost(t *testing.T) {
	s := servertest.New(t)
	alice := s.SignUp("alice")
	r := rotate(s)
	r.begin()
	r.PLC.Spoil(servertest.Says("POST", 200, "{}"))
	if phase := r.run(); phase != move.Moving {
		t.Errorf("phase %s, want moving", phase)
	}
	for range 6 {
		r.run()
		r.Advance(time.Hour)
	}
	want := map[syntax.DID]string{alice.DID: "refused: the directory has accepted the operation, and does not have it"}
	if diff := cmp.Diff(want, r.left()); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	if audited := r.audited(alice.DID); len(audited) > 0 {
		t.Errorf("audit log: %q", audited)
	}
	r.PLC.Spoil(nil)
	r.Accepted(r.ask("updateMove", `{"action":"retry"}`))
	r.run()
	r.has(alice.DID, "new", "old")
}

// audited are the changes of a DID that the audit log has, the latest first.
func (r *rotation) audited(did syntax.DID) (found []string) {
	r.Helper()
	for _, e := range servertest.Must(r.DB.Audit(r.Context(), did, 100)) {
		if e.Event == "rotation_keys_changed" || e.Event == "endpoint_changed" {
			found = append(found, e.Event+" by "+e.Actor+": "+e.Detail)
		}
	}
	return found
}

// Each change is in the audit log of its account, also one whose answer was lost.
func TestAudit(t *testing.T) {
	s := servertest.New(t)
	alice := s.SignUp("alice")
	r := rotate(s)
	r.begin()
	real := r.PLC.URL
	var lost atomic.Bool
	r.PLC.Spoil(func(w http.ResponseWriter, q *http.Request) bool {
		switch {
		case q.Method == http.MethodPost:
			forward(real, q)
			lost.Store(true)
			return servertest.HangsUp(w, q)
		case lost.Load():
			return servertest.Says("", 503, "")(w, q)
		}
		return false
	})
	r.Check(r.Moves.Run(r.Context()))
	r.PLC.Spoil(nil)
	r.Advance(time.Minute)
	if phase := r.run(); phase != move.Moved {
		t.Errorf("phase %s, want moved", phase)
	}
	r.run() // does nothing
	r.Advance(move.Hold)
	r.Accepted(r.ask("updateMove", `{"action":"finish"}`))
	r.run()
	want := []string{
		"rotation_keys_changed by server: without " + account.KeyFingerprint(r.old),
		"rotation_keys_changed by server: with " + account.KeyFingerprint(r.new),
	}
	if diff := cmp.Diff(want, r.audited(alice.DID)); diff != "" {
		t.Errorf("audit log (-want +got):\n%s", diff)
	}
}

// What was noted by a clock that was years ahead keeps no DID waiting, and no phase from
// ending, once the clock is right again.
func TestClockWasAhead(t *testing.T) {
	const ahead = 10 * 365 * 24 * time.Hour
	s := servertest.New(t)
	alice := s.SignUp("alice")
	r := rotate(s)
	r.begin()
	r.PLC.Spoil(servertest.Says("", 503, ""))
	r.Advance(ahead)
	r.Check(r.Moves.Run(r.Context()))
	r.Advance(-ahead)
	r.PLC.Spoil(nil)
	if phase := r.run(); phase != move.Moved {
		t.Errorf("phase %s, want moved", phase)
	}
	r.has(alice.DID, "new", "old")
	r.Advance(ahead)
	r.Accepted(r.ask("updateMove", `{"action":"undo"}`))
	r.Advance(-ahead)
	if phase := r.run(); phase != move.Undone {
		t.Errorf("phase %s, want undone", phase)
	}
	r.has(alice.DID, "old")
}

// What was left with the old key, repair mends.
func TestRepair(t *testing.T) {
	s := servertest.New(t)
	alice := s.SignUp("alice")
	r := rotate(s)
	inspect := func(want string) {
		t.Helper()
		var out struct {
			Findings []struct {
				Name       string
				Repairable bool
			}
		}
		r.Accepted(r.Get(nsid+"inspectAccount?did="+alice.DID.String(), servertest.Admin)).Decode(t, &out)
		got := ""
		for _, f := range out.Findings {
			if strings.HasPrefix(f.Name, "did_") {
				got += fmt.Sprint(f.Name, " ", f.Repairable)
			}
		}
		if got != want {
			t.Errorf("found %q, want %q", got, want)
		}
	}
	inspect("")
	r.begin()
	inspect("") // its turn comes
	r.PLC.Spoil(servertest.Says("POST", 400, `{"message":"Not today"}`))
	for range 6 {
		r.run()
		r.Advance(time.Hour)
	}
	r.PLC.Spoil(nil)
	inspect("did_rotation_key true")
	r.Accepted(r.ask("repairAccount", fmt.Sprintf(`{"did":%q}`, alice.DID)))
	r.has(alice.DID, "new", "old")
	inspect("")
	// And after the end, in place of the old one.
	r.Advance(move.Hold)
	r.ChangeDID(alice.DID, func(d *plc.Data) { d.RotationKeys = []string{r.old} })
	r.Write(func(tx *db.Tx) error { return tx.PutMeta(r.Context(), account.RetiredKey, []byte(r.old)) })
	inspect("did_rotation_key true")
	r.Accepted(r.ask("repairAccount", fmt.Sprintf(`{"did":%q}`, alice.DID)))
	r.has(alice.DID, "new")
}

// A process that is killed at whatever request or statement leaves what the next one ends.
func TestKilled(t *testing.T) {
	s := servertest.New(t)
	var people []servertest.User
	for n := range 3 {
		people = append(people, s.SignUp(fmt.Sprintf("user%d", n)))
	}
	r := rotate(s)
	r.begin()
	r.killed(move.Moving)
	for _, u := range people {
		r.has(u.DID, "new", "old")
	}
}

// killed lets the job run, killed at one request after the other, until a phase is over.
func (r *rotation) killed(phase move.Phase) {
	r.Helper()
	for n := 1; r.phase() == phase; n++ {
		if n > 100 {
			r.Fatal("it does not end")
		}
		ctx, kill := context.WithCancel(r.Context())
		var calls atomic.Int32
		r.PLC.Spoil(func(w http.ResponseWriter, q *http.Request) bool {
			if calls.Add(1) == int32(n%5) {
				kill()
			}
			return false
		})
		if err := r.Moves.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			r.Fatal(err)
		}
		kill()
		r.Advance(3 * time.Minute)
	}
}

// While both keys are there, the owner can change the handle, and so can two processes with
// different settings: none takes back what another did.
func TestBothKeysLive(t *testing.T) {
	s := servertest.New(t)
	alice := s.SignUp("alice")
	r := rotate(s)
	r.begin()
	r.run()
	r.has(alice.DID, "new", "old")
	r.Accepted(r.Post("com.atproto.identity.updateHandle", `{"handle":"alicia.test"}`, alice.Access))
	r.Accepted(r.Get("com.atproto.server.checkAccountStatus", alice.Access))
	log := servertest.Must(r.PLC.Audit(r.Context(), alice.DID))
	for i, entry := range log {
		if entry.Nullified {
			t.Errorf("operation %d was taken back", i)
		}
		if i == 0 {
			continue
		}
		if _, err := entry.Operation.Verify([]string{r.old}); err != nil {
			t.Errorf("operation %d is not signed with the old key", i)
		}
	}
	var out struct{ RotationKeys []string }
	r.Accepted(r.Get("com.atproto.identity.getRecommendedDidCredentials", alice.Access)).Decode(t, &out)
	if !slices.Equal(out.RotationKeys, []string{r.new, r.old}) {
		t.Errorf("recommended keys %v", out.RotationKeys)
	}
	var status struct{ ValidDid bool }
	r.Accepted(r.Get("com.atproto.server.checkAccountStatus", alice.Access)).Decode(t, &status)
	if !status.ValidDid {
		t.Error("the DID is not valid")
	}
}

// Without the old key, with another new one, and with a key that was never there, nothing
// begins.
func TestBegin(t *testing.T) {
	s := servertest.New(t)
	s.SignUp("alice")
	start := func(print string) servertest.Answer {
		return s.Post(nsid+"startMove", fmt.Sprintf(`{"kind":"key","to":%q}`, print), servertest.Admin)
	}
	current := account.KeyFingerprint(servertest.DIDKey(s.Rotation))
	s.Refused(start(current), 400, "MoveRefused", "PORTICO_PLC_ROTATION_KEY_OLD is not set: this server does not have the old rotation key")
	s.Write(func(tx *db.Tx) error { return tx.PutMeta(s.Context(), move.RotationKeys, []byte(key(t))) })
	r := rotate(s)
	s.Refused(start(current), 400, "MoveRefused", "the rotation key of this server has the fingerprint "+account.KeyFingerprint(r.new)+
		": was it restarted with the new key?")
	s.Refused(start(account.KeyFingerprint(r.new)), 400, "MoveRefused", "PORTICO_PLC_ROTATION_KEY_OLD, with the fingerprint "+
		current+", was never the rotation key of this server")
	s.Write(func(tx *db.Tx) error { return tx.PutMeta(s.Context(), move.RotationKeys, []byte(r.old+"\n"+r.new)) })
	// Nor does a move begin as long as there is a server to go back to.
	s.Write(func(tx *db.Tx) error {
		return tx.PutMeta(s.Context(), account.AdoptionState, []byte(`{"source":"/pds"}`))
	})
	for _, asked := range []servertest.Answer{start(account.KeyFingerprint(r.new)), beginHost(s, "new.test")} {
		s.Refused(asked, 400, "MoveRefused",
			"the adoption is unfinished, and the way back to the server from before would be lost: finish it first, with portico adopt --finish")
	}
	s.Write(func(tx *db.Tx) error { return tx.DeleteMeta(s.Context(), account.AdoptionState) })
	s.Accepted(start(account.KeyFingerprint(r.new)))
	// A process that lacks one of the two does nothing, and says so.
	r.Rotate()
	if err := r.Moves.Run(r.Context()); err == nil || !strings.Contains(err.Error(), "needs the two keys that the move began with") {
		t.Errorf("run with other keys: %v", err)
	}
}

// Nothing is deleted or ended for good as long as a move is unfinished.
func TestStandstill(t *testing.T) {
	s := servertest.New(t)
	alice := s.SignUp("alice")
	s.Check(s.Server.Accounts.Deactivate(s.Context(), alice.DID, s.Now().Add(time.Hour)))
	deletions := &account.Deletions{Accounts: s.Server.Accounts, DIDs: s.Server.DIDs, Outbox: s.Outbox, Brand: s.Server.Brand}
	s.Advance(24 * time.Hour)
	r := rotate(s)
	deletions.Accounts = s.Server.Accounts
	r.begin()
	for range 20 {
		r.Check(deletions.Run(r.Context()))
		r.Advance(24 * time.Hour)
		r.run()
	}
	if r.Account(alice.DID).DeleteAnnouncedAt != nil {
		t.Error("the deletion was announced")
	}
	var out struct{ Standstill string }
	r.Accepted(r.Get(nsid+"getMove", servertest.Admin)).Decode(t, &out)
	if out.Standstill != "a move of all DIDs to another key is unfinished" {
		t.Errorf("standstill %q", out.Standstill)
	}
	r.Accepted(r.ask("updateMove", `{"action":"finish"}`))
	if phase := r.run(); phase != move.Finished {
		t.Errorf("phase %s, want finished", phase)
	}
	r.Check(deletions.Run(r.Context()))
	if r.Account(alice.DID).DeleteAnnouncedAt == nil {
		t.Error("the deletion was not announced")
	}
	r.Advance(8 * 24 * time.Hour)
	r.Check(deletions.Run(r.Context()))
	if _, err := r.DB.AccountByDID(r.Context(), alice.DID); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("account after its time: %v", err)
	}
}

// An unfinished adoption and a public URL that DIDs do not name are reasons to delete
// nothing, too; what a creation left behind is not ended then.
func TestOtherStandstills(t *testing.T) {
	s := servertest.New(t)
	accounts := s.Server.Accounts
	for name, value := range map[string]string{
		account.AdoptionState: `{"source":"/pds"}`, host.PublicURLs: "https://old.test\n" + servertest.Endpoint,
	} {
		if still, err := accounts.Standstill(s.Context()); err != nil || still != "" {
			t.Errorf("before %s: %q, %v", name, still, err)
		}
		s.Write(func(tx *db.Tx) error { return tx.PutMeta(s.Context(), name, []byte(value)) })
		if still, err := accounts.Standstill(s.Context()); err != nil || still == "" {
			t.Errorf("with %s: %q, %v", name, still, err)
		}
		given := reserve(s, "given-up.test")
		s.Write(func(tx *db.Tx) error { return tx.AbortAccount(s.Context(), given, "gone", s.Now()) })
		s.Check(accounts.CleanUp(s.Context()))
		if last := servertest.Must(s.PLC.Last(s.Context(), given)); last.Type() == plc.TypeTombstone {
			t.Errorf("with %s: tombstoned", name)
		}
		s.Write(func(tx *db.Tx) error { return tx.DeleteMeta(s.Context(), name) })
		s.Check(accounts.CleanUp(s.Context()))
		if last := servertest.Must(s.PLC.Last(s.Context(), given)); last.Type() != plc.TypeTombstone {
			t.Errorf("without %s: not tombstoned", name)
		}
	}
}

// An operation of the server's that crosses another is made anew after it, and takes nothing
// back.
func TestCrossing(t *testing.T) {
	s := servertest.New(t)
	alice := s.SignUp("alice")
	r := rotate(s)
	r.begin()
	// The move comes between what a change of the handle reads and what it posts.
	var crossed atomic.Bool
	r.PLC.Spoil(func(w http.ResponseWriter, q *http.Request) bool {
		if q.Method == http.MethodPost && !crossed.Swap(true) {
			last := servertest.Must(r.PLC.Last(r.Context(), alice.DID))
			op := servertest.Must(plc.Update(last, func(d *plc.Data) { d.RotationKeys = []string{r.new, r.old} }))
			r.Check(r.Server.Server.Accounts.Sign(op, last))
			r.Check(r.PLC.Submit(r.Context(), alice.DID, op))
		}
		return false
	})
	r.Accepted(r.Post("com.atproto.identity.updateHandle", `{"handle":"alicia.test"}`, alice.Access))
	r.has(alice.DID, "new", "old")
	d := servertest.Must(r.PLC.Data(r.Context(), alice.DID))
	if d.Handle() != "alicia.test" {
		t.Errorf("the DID names %s", d.Handle())
	}
	for i, entry := range servertest.Must(r.PLC.Audit(r.Context(), alice.DID)) {
		if entry.Nullified {
			t.Errorf("operation %d was taken back", i)
		}
	}
}

// reservation is that of an account whose process is gone.
func reservation(s *servertest.Server, did syntax.DID, handle syntax.Handle) db.Reservation {
	s.Helper()
	return reservationWith(s, did, handle, servertest.Must(keyring.NewKey(rand.Reader)))
}

func reservationWith(s *servertest.Server, did syntax.DID, handle syntax.Handle, key *atcrypto.PrivateKeyK256) db.Reservation {
	return db.Reservation{
		Account: db.Account{DID: did, Handle: handle, Email: handle.String() + "@example.com", PasswordHash: "$", CreatedAt: s.Now()},
		Key: db.SigningKey{
			DID: did, Purpose: account.KeyPurpose, Public: servertest.DIDKey(key),
			Sealed: servertest.Must(s.Keys.Seal(account.KeyPurpose, did.String(), key.Bytes())),
		},
		Holder: "gone", LeaseUntil: s.Now().Add(time.Minute),
	}
}

// reserve leaves an account under creation whose DID is in the directory.
func reserve(s *servertest.Server, handle syntax.Handle) syntax.DID {
	s.Helper()
	key := servertest.Must(keyring.NewKey(rand.Reader))
	op := plc.NewGenesis([]string{servertest.DIDKey(s.Rotation)}, servertest.DIDKey(key), handle, servertest.Endpoint)
	s.Check(op.Sign(s.Rotation))
	did := servertest.Must(plc.DID(op))
	r := reservationWith(s, did, handle, key)
	r.Genesis = servertest.Must(jsonOf(op))
	s.Write(func(tx *db.Tx) error { return tx.ReserveAccount(s.Context(), r) })
	s.Check(s.PLC.Submit(s.Context(), did, op))
	return did
}

func jsonOf(op plc.Operation) ([]byte, error) { return json.Marshal(op) }

// What a process was at when it died, the next one takes up at once, where it has the
// database to itself. What rests after a turn is not disturbed.
func TestResume(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		people := []servertest.User{s.SignUp("user1"), s.SignUp("user2")}
		r := rotate(s)
		r.Check(r.Moves.Resume(r.Context())) // there is no move yet
		r.begin()
		dies := func() {
			t.Helper()
			r.Write(func(tx *db.Tx) error {
				if _, err := tx.AddDIDMoves(r.Context(), "", 10, r.Now()); err != nil {
					return err
				}
				row, err := tx.DIDMove(r.Context(), people[0].DID)
				if err != nil {
					return err
				}
				return tx.ClaimDIDMove(r.Context(), row, r.Now().Add(2*time.Minute))
			})
		}
		run := func(want move.Phase) {
			t.Helper()
			r.Check(r.Moves.Run(r.Context()))
			if phase := r.phase(); phase != want {
				t.Errorf("phase %s, want %s", phase, want)
			}
		}
		dies()
		run(move.Moving)
		r.has(people[0].DID, "old")
		r.Check(r.Moves.Resume(r.Context()))
		run(move.Moved)
		r.has(people[0].DID, "new", "old")

		r.Accepted(r.ask("updateMove", `{"action":"undo"}`))
		r.Check(r.Moves.Resume(r.Context()))
		run(move.Undoing)
		r.has(people[0].DID, "new", "old")
		r.Advance(time.Minute)
		dies()
		run(move.Undoing)
		r.has(people[0].DID, "new", "old")
		r.has(people[1].DID, "old")
		r.Check(r.Moves.Resume(r.Context()))
		run(move.Undone)
		r.has(people[0].DID, "old")
	})
}

// The rest after a turn is what it is set to, between what a request may take and a minute.
func TestRest(t *testing.T) {
	for _, tt := range []struct{ set, want time.Duration }{
		{0, time.Minute}, {time.Second, 5 * time.Second}, {10 * time.Second, 10 * time.Second}, {time.Hour, time.Minute},
	} {
		t.Run(tt.set.String(), func(t *testing.T) {
			s := servertest.New(t)
			alice := s.SignUp("alice")
			r := rotate(s)
			for _, n := range s.Nodes() {
				n.Moves.Rest = tt.set
			}
			r.begin()
			r.Check(r.Moves.Run(r.Context()))
			r.has(alice.DID, "new", "old")
			r.Accepted(r.ask("updateMove", `{"action":"undo"}`))
			r.Advance(tt.want - 1)
			r.Check(r.Moves.Run(r.Context()))
			r.has(alice.DID, "new", "old")
			r.Advance(1)
			r.Check(r.Moves.Run(r.Context()))
			r.has(alice.DID, "old")
			if phase := r.phase(); phase != move.Undone {
				t.Errorf("phase %s, want undone", phase)
			}
		})
	}
}
