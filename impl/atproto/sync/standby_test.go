package sync_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/servertest"
)

// newReplicated returns a server that reads on the standby of a database.
func newReplicated(t *testing.T, r *dbtest.Replicated, change ...func(*servertest.Options)) *servertest.Server {
	t.Helper()
	clock := servertest.NewClock()
	d, err := db.Open(t.Context(), db.Config{URL: r.URL, ReadURL: r.ReadURL, MaxConns: 8, Now: clock.Now, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return newServer(t, append(change, func(o *servertest.Options) { o.DB, o.Clock = d, clock })...)
}

// createRecord writes a record with a key of its own.
func createRecord(s *servertest.Server, u servertest.User, key string) servertest.Answer {
	return s.Post("com.atproto.repo.createRecord",
		fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","rkey":%q,"record":{"text":%q}}`, u.DID, key, key), u.Access)
}

// lists reports whether the last record of a user is that with a key.
func lists(s *servertest.Server, u servertest.User, key string) bool {
	s.Helper()
	a := s.Accepted(s.Get("com.atproto.repo.listRecords?limit=1&collection=com.example.note&repo=" + u.DID.String()))
	return strings.Contains(a.Body, `"text":"`+key+`"`)
}

// soon repeats what a client does until the standby has answered it.
func soon(s *servertest.Server, do func()) {
	s.Helper()
	before := s.DB.Figures().OnStandby
	for deadline := time.Now().Add(time.Minute); s.DB.Figures().OnStandby == before; do() {
		if time.Now().After(deadline) {
			s.Fatal("the standby is never read")
		}
	}
}

// What a client has written it reads, whether the standby has it or not.
func TestStandbyIsBehind(t *testing.T) {
	r := dbtest.Replicate(t)
	s := newReplicated(t, r)
	alice := s.SignUp("alice")
	s.Accepted(createRecord(s, alice, "a"))
	reads := func(key string) func() {
		return func() {
			if !lists(s, alice, key) {
				t.Fatalf("%s is not the last record", key)
			}
		}
	}
	soon(s, reads("a"))
	r.Pause()
	defer r.Resume()
	before := s.DB.Figures().OnStandby
	s.Accepted(createRecord(s, alice, "b"))
	reads("b")()
	s.Accepted(s.Get("getRepo?did=" + alice.DID.String()))
	if now := s.DB.Figures().OnStandby; now != before {
		t.Errorf("the standby answered %d times without the record", now-before)
	}
	r.Resume()
	soon(s, reads("b"))
}

// What was written to one server is read from another.
func TestStandbyOfTwoServers(t *testing.T) {
	r := dbtest.Replicate(t)
	writes, reads := newReplicated(t, r), newReplicated(t, r)
	alice := writes.SignUp("alice")
	for i := range 500 {
		key := fmt.Sprintf("%03d", i)
		writes.Accepted(createRecord(writes, alice, key))
		if !lists(reads, alice, key) {
			t.Fatalf("%s is not the last record elsewhere", key)
		}
	}
	f := reads.DB.Figures()
	t.Logf("%d answers of the standby, %d of the primary", f.OnStandby, f.NotOnStandby)
	if f.OnStandby == 0 {
		t.Error("the standby was never read")
	}
}

// All that is public is read without the primary, and without the standby.
func TestStandbyAlone(t *testing.T) {
	r := dbtest.Replicate(t)
	s := newReplicated(t, r)
	alice := s.SignUp("alice")
	s.Accepted(createRecord(s, alice, "a"))
	did := alice.DID.String()
	public := []string{
		"getRepo?did=" + did, "getLatestCommit?did=" + did, "getHead?did=" + did, "getRepoStatus?did=" + did, "listRepos", "listBlobs?did=" + did,
		"getRecord?did=" + did + "&collection=com.example.note&rkey=a",
		"com.atproto.repo.listRecords?collection=com.example.note&repo=" + did,
		"com.atproto.repo.listRecords?collection=com.example.note&repo=alice.test",
		"com.atproto.repo.getRecord?collection=com.example.note&rkey=a&repo=" + did,
	}
	soon(s, func() { lists(s, alice, "a") })
	answers := make(map[string]string)
	for _, method := range public {
		answers[method] = s.Accepted(s.Get(method)).Body
	}
	same := func() {
		t.Helper()
		for _, method := range public {
			if a := s.Accepted(s.Get(method)); a.Body != answers[method] {
				t.Errorf("%s: %q, before %q", method, a.Body, answers[method])
			}
		}
	}
	r.CatchUp()
	r.KillPrimary()
	same()
	s.Refused(createRecord(s, alice, "b"), http.StatusServiceUnavailable, "NotEnoughResources", "Not Enough Resources")
	r.Start()
	// A primary that was away for long is not asked before it has answered.
	for deadline := time.Now().Add(time.Minute); s.DB.Ping(t.Context()) != nil; <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the primary is not back")
		}
	}
	r.KillStandby()
	same()
	s.Accepted(createRecord(s, alice, "b"))
	if !lists(s, alice, "b") {
		t.Error("b is not the last record")
	}
}
