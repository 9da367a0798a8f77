package servertest_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/servertest"
)

// Each request is answered by another server than the one before, and whatever was said to one
// of them all the others know at once.
func TestAnyNodeAnswersAnything(t *testing.T) {
	clock := servertest.NewClock()
	s := servertest.New(t, func(o *servertest.Options) {
		o.Nodes, o.Clock, o.InviteRequired = 3, clock, true
		o.DB = dbtest.Postgres(t, func(c *db.Config) { c.Now = clock.Now })
	})
	if n := len(s.Nodes()); n != 3 {
		t.Fatalf("%d nodes", n)
	}
	const server, repo = "com.atproto.server.", "com.atproto.repo."
	var code struct{ Code string }
	s.Accepted(s.Post(server+"createInviteCode", `{"useCount":1}`, servertest.Admin)).Decode(t, &code)
	alice := s.SignUpWith("alice", code.Code)
	s.Refused(s.Post(server+"createAccount", fmt.Sprintf(`{"handle":"bob.test","email":"bob@example.com","password":"a password","inviteCode":%q}`, code.Code)),
		400, "InvalidInviteCode", "Provided invite code not available")

	// A session: its refresh token may be used again for a while, and no more after its successor was.
	for range s.Nodes() {
		s.Accepted(s.Get(server+"getSession", alice.Access))
	}
	first := s.Accepted(s.Post(server+"refreshSession", "", alice.Refresh))
	again := s.Accepted(s.Post(server+"refreshSession", "", alice.Refresh))
	if first.Text(t, "did") != again.Text(t, "did") {
		t.Error("another account")
	}
	next := servertest.Bearer(again.Text(t, "refreshJwt"))
	s.Accepted(s.Post(server+"refreshSession", "", next))

	// A password by mail, and what it ends.
	s.Empty(s.Post(server+"requestPasswordReset", `{"email":"alice@example.com"}`))
	reset := s.Code("reset_password")
	s.Empty(s.Post(server+"resetPassword", fmt.Sprintf(`{"token":%q,"password":"another good password"}`, reset)))
	for range s.Nodes() {
		if a := s.Post(server+"resetPassword", fmt.Sprintf(`{"token":%q,"password":"a third password"}`, reset)); a.Status != 400 {
			t.Errorf("code used again: %d %s", a.Status, a.Body)
		}
		if a := s.Get(server+"getSession", alice.Access); a.Status != 400 {
			t.Errorf("session from before the reset: %d %s", a.Status, a.Body)
		}
	}
	s.Advance(time.Minute)
	alice = s.SignIn(alice, "another good password")

	// A blob that one is given, another mentions, and a third hands out.
	var uploaded struct{ Blob json.RawMessage }
	s.Accepted(s.Post(repo+"uploadBlob", "bytes", alice.Access, "Content-Type: text/plain")).Decode(t, &uploaded)
	s.Accepted(s.Post(repo+"createRecord", fmt.Sprintf(`{"repo":%q,"collection":"com.example.x","record":{"$type":"com.example.x","blob":%s}}`, alice.DID, uploaded.Blob), alice.Access))
	var ref struct {
		Ref struct {
			Link string `json:"$link"`
		}
	}
	if err := json.Unmarshal(uploaded.Blob, &ref); err != nil {
		t.Fatal(err)
	}
	for range s.Nodes() {
		if a := s.Accepted(s.Get(fmt.Sprintf("com.atproto.sync.getBlob?did=%s&cid=%s", alice.DID, ref.Ref.Link))); a.Body != "bytes" {
			t.Errorf("blob %q", a.Body)
		}
	}

	// Commits follow one another, whoever makes them.
	for n := range 9 {
		s.Accepted(s.Post(repo+"putRecord", fmt.Sprintf(`{"repo":%q,"collection":"com.example.x","rkey":"self","record":{"$type":"com.example.x","n":%d}}`, alice.DID, n), alice.Access))
		a := s.Accepted(s.Get(fmt.Sprintf(repo+"getRecord?repo=%s&collection=com.example.x&rkey=self", alice.DID)))
		if !strings.Contains(a.Body, fmt.Sprintf(`"n":%d`, n)) {
			t.Errorf("record %d: %s", n, a.Body)
		}
	}

	// An app: pushed to one, its code redeemed at another; a proof is good once, wherever.
	app := s.NewApp("atproto transition:generic").SignIn(alice)
	s.Accepted(app.Get(server + "getSession"))
	proof := app.Credentials("GET", server+"getSession")
	s.Accepted(s.Get(server+"getSession", proof...))
	for range s.Nodes() {
		if a := s.Get(server+"getSession", proof...); a.Status != 401 {
			t.Errorf("proof used again: %d %s", a.Status, a.Body)
		}
	}
	s.Accepted(app.Renew())

	// Another handle.
	s.Empty(s.Post("com.atproto.identity.updateHandle", `{"handle":"carol.test"}`, alice.Access))
	for range s.Nodes() {
		if did := s.Accepted(s.Get("com.atproto.identity.resolveHandle?handle=carol.test")).Text(t, "did"); did != alice.DID.String() {
			t.Errorf("handle of %s", did)
		}
		if a := s.Get("com.atproto.identity.resolveHandle?handle=alice.test"); a.Status != 400 {
			t.Errorf("old handle: %d %s", a.Status, a.Body)
		}
	}

	// A takedown.
	s.Accepted(s.Post("com.atproto.admin.updateSubjectStatus",
		fmt.Sprintf(`{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":%q},"takedown":{"applied":true}}`, alice.DID), servertest.Admin))
	for range s.Nodes() {
		if a := s.Post(repo+"createRecord", fmt.Sprintf(`{"repo":%q,"collection":"com.example.x","record":{"$type":"com.example.x"}}`, alice.DID), alice.Access); a.Status/100 != 4 {
			t.Errorf("writes after the takedown: %d %s", a.Status, a.Body)
		}
		if a := s.Get(fmt.Sprintf("com.atproto.sync.getBlob?did=%s&cid=%s", alice.DID, ref.Ref.Link)); a.Status != 400 {
			t.Errorf("blob after the takedown: %d %s", a.Status, a.Body)
		}
		if a := app.Get(server + "getSession"); a.Status != 401 {
			t.Errorf("app after the takedown: %d %s", a.Status, a.Body)
		}
	}
}
