package server_test

import (
	"bytes"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/event"
	"portico/impl/plc"
	"portico/impl/resolve"
	"portico/impl/serviceauth"
)

// events returns the stored events with numbers above after.
func (f *fixture) events(after int64) []db.Event {
	f.Helper()
	events, err := f.db.Events(f.Context(), after, 100)
	if err != nil {
		f.Fatal(err)
	}
	return events
}

func (f *fixture) lastEvent() int64 {
	f.Helper()
	last, err := f.db.LastEvent(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	return last
}

// said checks that exactly the events want were recorded after a number, in their
// order and without gaps.
func (f *fixture) said(after int64, did syntax.DID, want ...event.Event) {
	f.Helper()
	got := f.events(after)
	if len(got) != len(want) {
		f.Fatalf("%d events %v, want %d", len(got), got, len(want))
	}
	for i, e := range got {
		if e.Seq != after+int64(i)+1 || e.DID != did || e.Kind != want[i].Kind || !bytes.Equal(e.Body, want[i].Body) {
			f.Errorf("event %d of %s: %s %q\nwant event %d of %s: %s %q",
				e.Seq, e.DID, e.Kind, e.Body, after+int64(i)+1, did, want[i].Kind, want[i].Body)
		}
	}
}

// account is the account's row, or nil when there is none.
func (f *fixture) account(did syntax.DID) *db.Account {
	f.Helper()
	all, err := f.db.Accounts(f.Context(), "", 1000)
	if err != nil {
		f.Fatal(err)
	}
	if i := slices.IndexFunc(all, func(a db.Account) bool { return a.DID == did }); i >= 0 {
		return &all[i]
	}
	return nil
}

func (f *fixture) deactivate(u user) {
	f.Helper()
	f.accepted(f.post("deactivateAccount", `{}`, bearer(u.access)...))
}

// changeDID posts an operation of the server's rotation key to the directory.
func (f *fixture) changeDID(did syntax.DID, change func(*plc.Data)) {
	f.Helper()
	f.clock.advance(time.Second) // the directory wants operations one after the other
	client := &plc.Client{URL: f.directory}
	last, err := client.Last(f.Context(), did)
	if err != nil {
		f.Fatal(err)
	}
	op, err := plc.NewTombstone(last)
	if change != nil {
		op, err = plc.Update(last, change)
	}
	if err != nil {
		f.Fatal(err)
	}
	if err := op.Sign(f.rotation); err != nil {
		f.Fatal(err)
	}
	if err := client.Submit(f.Context(), did, op); err != nil {
		f.Fatal(err)
	}
}

// moveIn makes an account NAME.test for a DID that its owner brings along.
func (f *fixture) moveIn(did syntax.DID, name string) user {
	f.Helper()
	key := f.internet.identity(f, did)
	token, err := serviceauth.Issue(serviceauth.Request{
		Issuer: did, Audience: "did:web:pds.test", Method: "com.atproto.server.createAccount",
		IssuedAt: f.clock.Now(), Expires: f.clock.Now().Add(time.Minute).Unix(),
	}, key, rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	body := fmt.Sprintf(`{"handle":"%s.test","email":"%[1]s@example.com","password":%q,"did":%q}`, name, goodPassword, did)
	a := f.accepted(f.post("createAccount", body, bearer(token)...))
	return user{
		did: did, handle: name + ".test", email: name + "@example.com",
		access: a.text(f, "accessJwt"), refresh: a.text(f, "refreshJwt"),
	}
}

// publish gives a DID a document with one service and one key, "" for none.
func (f *fixture) publish(did syntax.DID, endpoint, multibase string) {
	f.Helper()
	service, method := "", ""
	if endpoint != "" {
		service = fmt.Sprintf(`{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":%q}`, endpoint)
	}
	if multibase != "" {
		method = fmt.Sprintf(`{"id":"#atproto","type":"Multikey","controller":%q,"publicKeyMultibase":%q}`, did, multibase)
	}
	doc, err := resolve.ParseDocument(did, fmt.Appendf(nil, `{"@context":["https://www.w3.org/ns/did/v1"],"id":%q,
		"verificationMethod":[%s],"service":[%s]}`, did, method, service))
	if err != nil {
		f.Fatal(err)
	}
	f.internet.mu.Lock()
	defer f.internet.mu.Unlock()
	f.internet.documents[did] = doc
}

func (f *fixture) unpublish(did syntax.DID) {
	f.internet.mu.Lock()
	defer f.internet.mu.Unlock()
	delete(f.internet.documents, did)
}

// repoKey is the public key of an account's repository, as documents have it.
func (f *fixture) repoKey(did syntax.DID) string {
	f.Helper()
	key, err := f.db.SigningKey(f.Context(), did, "atproto")
	if err != nil {
		f.Fatal(err)
	}
	return strings.TrimPrefix(key.Public, "did:key:")
}

func didKey(t testing.TB) string {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return public.DIDKey()
}

// Activation tells the network in the contract's order, on an active account too.
func TestActivateAccount(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	created := f.events(0)
	sync := event.Event{Kind: created[3].Kind, Body: created[3].Body}
	f.accepted(f.post("deactivateAccount", `{"deleteAfter":"2030-01-01T00:00:00Z"}`, bearer(u.access)...))
	for _, what := range []string{"deactivated", "active already"} {
		before := f.lastEvent()
		if a := f.accepted(f.post("activateAccount", "", bearer(u.access)...)); a.body != "" || a.header.Get("Content-Type") != "" {
			t.Errorf("%s: answer %q of type %q", what, a.body, a.header.Get("Content-Type"))
		}
		f.said(before, u.did, event.Account(u.did, ""), event.Identity(u.did, "alice.test"), sync)
		if row := f.account(u.did); row.DeactivatedAt != nil || row.DeleteAfter != nil || row.DeleteAnnouncedAt != nil {
			t.Errorf("%s: account %+v", what, row)
		}
	}
	session := f.accepted(f.get("getSession", bearer(u.access)...)).fields(t)
	if session["active"] != true || session["status"] != nil {
		t.Errorf("session %v", session)
	}
}

func TestActivateAccountWithoutHandle(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	f.setAccount(u.did, func(a *db.Account) { a.Handle = "" })
	before := f.lastEvent()
	f.accepted(f.post("activateAccount", "", bearer(u.access)...))
	if e := f.events(before)[1]; !bytes.Equal(e.Body, event.Identity(u.did, "handle.invalid").Body) {
		t.Errorf("event %q", e.Body)
	}
}

func TestActivateAccountRefuses(t *testing.T) {
	f := newFixture(t)
	activate := func(u user) answer { return f.post("activateAccount", "", bearer(u.access)...) }
	const (
		rotation = "Server rotation key not included in PLC DID data"
		endpoint = "DID document atproto_pds service endpoint does not match PDS public url"
		key      = "DID document verification method does not match expected signing key"
	)
	for i, tt := range []struct {
		name, message string
		change        func(*plc.Data)
	}{
		{"no rotation key", rotation, func(d *plc.Data) { d.RotationKeys = []string{didKey(t)} }},
		{"other server", endpoint, func(d *plc.Data) {
			d.Services["atproto_pds"] = plc.Service{Type: plc.ServiceType, Endpoint: "https://other.test"}
		}},
		{"slash behind the server", endpoint, func(d *plc.Data) {
			d.Services["atproto_pds"] = plc.Service{Type: plc.ServiceType, Endpoint: "https://pds.test/"}
		}},
		{"no server", endpoint, func(d *plc.Data) { delete(d.Services, "atproto_pds") }},
		{"other key", key, func(d *plc.Data) { d.VerificationMethods["atproto"] = didKey(t) }},
		{"no key", key, func(d *plc.Data) { delete(d.VerificationMethods, "atproto") }},
		{"rotation key before server before key", rotation, func(d *plc.Data) {
			d.RotationKeys, d.Services, d.VerificationMethods = []string{didKey(t)}, nil, nil
		}},
		{"server before key", endpoint, func(d *plc.Data) { d.Services, d.VerificationMethods = nil, nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := f.signUp(fmt.Sprintf("alice%d", i))
			f.deactivate(u)
			f.changeDID(u.did, tt.change)
			before := f.lastEvent()
			f.refused(activate(u), 400, "InvalidRequest", tt.message)
			f.said(before, u.did)
			if f.account(u.did).Active() {
				t.Error("account is active")
			}
		})
	}

	gone := f.signUp("gone")
	f.changeDID(gone.did, nil)
	f.refused(activate(gone), 400, "InvalidRequest", "DID not available: "+gone.did.String())

	down := f.signUp("taken")
	f.takeDown(down.did)
	f.refused(activate(down), 400, "AccountNotFound", "user not found")

	u := f.signUp("alice")
	f.refused(f.post("activateAccount", `{}`, bearer(u.access)...), 400, "InvalidRequest", "A request body was provided when none was expected")
	f.refused(f.get("activateAccount", bearer(u.access)...), 400, "InvalidRequest", "Incorrect HTTP method (GET) expected POST")
	f.refused(f.post("activateAccount", ""), 401, "AuthMissing", "Authentication Required")
	f.refused(f.post("activateAccount", "", bearer(u.refresh)...), 400, "InvalidToken", "Token could not be verified")
}

// The directory's failures reach the client as the contract says.
func TestActivateAccountMeetsABrokenDirectory(t *testing.T) {
	var status atomic.Int64
	var body atomic.Value
	f := newFixture(t, func(o *options) {
		sound := o.handler
		o.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if s := status.Load(); s != 0 {
				w.WriteHeader(int(s))
				fmt.Fprint(w, body.Load())
				return
			}
			sound.ServeHTTP(w, r)
		})
	})
	u := f.signUp("alice")
	for _, tt := range []struct {
		status        int64
		body          string
		answer        int
		name, message string
	}{
		{500, `{"message":"Internal Server Error"}`, 502, "UpstreamFailure", "Internal Server Error"},
		{503, `<html>`, 502, "UpstreamFailure", "Unable to perform PLC operation"},
		{302, ``, 502, "UpstreamFailure", "Unable to perform PLC operation"},
		{404, `{"message":"DID not registered: x"}`, 400, "InvalidRequest", "DID not registered: x"},
		{400, `{}`, 400, "InvalidRequest", "Unable to perform PLC operation"},
	} {
		body.Store(tt.body)
		status.Store(tt.status)
		f.refused(f.post("activateAccount", "", bearer(u.access)...), tt.answer, tt.name, tt.message)
		if status := f.accepted(f.get("checkAccountStatus", bearer(u.access)...)).fields(t); status["validDid"] != false {
			t.Errorf("directory answers %d: status %v", tt.status, status)
		}
	}
}

// A client goes to the server that the document in its session names. Right after a
// move the one in the cache still names the old server.
func TestActivateAccountForgetsTheOldDocument(t *testing.T) {
	f := newFixture(t, func(o *options) { o.config.DocumentInSessions = true })
	u := f.signUp("alice")
	f.publish(u.did, "https://old.test", f.repoKey(u.did))
	named := func() string {
		session := f.accepted(f.get("getSession", bearer(u.access)...)).fields(t)
		document, _ := json.Marshal(session["didDoc"])
		var doc struct {
			Service []struct{ ServiceEndpoint string }
		}
		if err := json.Unmarshal(document, &doc); err != nil || len(doc.Service) != 1 {
			t.Fatalf("document %s, %v", document, err)
		}
		return doc.Service[0].ServiceEndpoint
	}
	if got := named(); got != "https://old.test" {
		t.Fatalf("before the move the document names %s", got)
	}
	f.publish(u.did, "https://pds.test", f.repoKey(u.did))
	if got := named(); got != "https://old.test" {
		t.Fatalf("the document that names %s is not from the cache", got)
	}
	f.accepted(f.post("activateAccount", "", bearer(u.access)...))
	if got := named(); got != "https://pds.test" {
		t.Errorf("after the move the document names %s, want https://pds.test", got)
	}
	// Activation does not depend on it.
	f.unpublish(u.did)
	f.accepted(f.post("activateAccount", "", bearer(u.access)...))
}

func TestActivateAccountOfOtherDIDs(t *testing.T) {
	f := newFixture(t)
	const did = "did:web:alice.example"
	u := f.moveIn(did, "alice")
	key := f.repoKey(did)
	other := strings.TrimPrefix(didKey(t), "did:key:")
	for _, tt := range []struct{ name, endpoint, key, message string }{
		{"other server", "https://other.test", key, "DID document atproto_pds service endpoint does not match PDS public url"},
		{"no server", "", key, "DID document atproto_pds service endpoint does not match PDS public url"},
		{"other key", "https://pds.test", other, "DID document verification method does not match expected signing key"},
		{"no key", "https://pds.test", "", "DID document verification method does not match expected signing key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.publish(did, tt.endpoint, tt.key)
			f.refused(f.post("activateAccount", "", bearer(u.access)...), 400, "InvalidRequest", tt.message)
			if status := f.accepted(f.get("checkAccountStatus", bearer(u.access)...)).fields(t); status["validDid"] != false {
				t.Errorf("status %v", status)
			}
		})
	}
	f.unpublish(did)
	f.refused(f.post("activateAccount", "", bearer(u.access)...), 400, "InvalidRequest", "Could not resolve DID")
	f.said(0, did)

	f.publish(did, "https://pds.test", key)
	status := f.accepted(f.get("checkAccountStatus", bearer(u.access)...)).fields(t)
	if status["validDid"] != true || status["activated"] != false {
		t.Errorf("status %v", status)
	}
	f.accepted(f.post("activateAccount", "", bearer(u.access)...))
	var kinds []string
	for _, e := range f.events(0) {
		kinds = append(kinds, e.Kind)
	}
	if got := strings.Join(kinds, " "); got != "#account #identity #sync" {
		t.Errorf("events %s", got)
	}
	if status := f.accepted(f.get("checkAccountStatus", bearer(u.access)...)).fields(t); status["activated"] != true {
		t.Errorf("status %v", status)
	}
}

func TestDeactivateAccount(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	deactivate := func(body string) answer { return f.post("deactivateAccount", body, bearer(u.access)...) }
	f.refused(deactivate(""), 400, "InvalidRequest", "Request encoding (Content-Type) required but not provided")
	f.refused(deactivate(`{"deleteAfter":"2030-01-01"}`), 400, "InvalidRequest", `Invalid datetime (got "2030-01-01") at $.deleteAfter`)
	f.refused(deactivate(`{"deleteAfter":null}`), 400, "InvalidRequest", "Expected string value type (got null) at $.deleteAfter")
	f.refused(f.post("deactivateAccount", `{}`), 401, "AuthMissing", "Authentication Required")
	if !f.account(u.did).Active() {
		t.Fatal("refused and deactivated")
	}

	now := f.clock.Now()
	for _, tt := range []struct {
		body        string
		deleteAfter *time.Time
	}{
		{`{}`, nil},
		{`{"deleteAfter":"2030-01-01T00:00:00Z"}`, new(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))},
		{`{"deleteAfter":"2030-01-01T02:00:00.5+02:00"}`, new(time.Date(2030, 1, 1, 0, 0, 0, 500e6, time.UTC))},
		{`{"deleteAfter":"9999-12-31T23:59:59Z"}`, new(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC))},
		// What is over means as soon as may be.
		{`{"deleteAfter":"2020-01-01T00:00:00Z"}`, new(now.Add(time.Microsecond))},
		{`{"deleteAfter":"0001-01-01T00:00:00Z"}`, new(now.Add(time.Microsecond))},
		{`{}`, nil},
	} {
		before := f.lastEvent()
		if a := f.accepted(deactivate(tt.body)); a.body != "" || a.header.Get("Content-Type") != "" {
			t.Errorf("answer %q of type %q", a.body, a.header.Get("Content-Type"))
		}
		f.said(before, u.did, event.Account(u.did, "deactivated"))
		row := f.account(u.did)
		if row.DeactivatedAt == nil || (row.DeleteAfter == nil) != (tt.deleteAfter == nil) ||
			row.DeleteAfter != nil && !row.DeleteAfter.Equal(*tt.deleteAfter) {
			t.Errorf("%s: deactivated at %v, to be deleted after %v, want %v", tt.body, row.DeactivatedAt, row.DeleteAfter, tt.deleteAfter)
		}
	}

	// Sessions go on, and a taken-down account can be deactivated too.
	session := f.accepted(f.get("getSession", bearer(u.access)...)).fields(t)
	if session["active"] != false || session["status"] != "deactivated" {
		t.Errorf("session %v", session)
	}
	f.accepted(f.post("refreshSession", "", bearer(u.refresh)...))
	f.takeDown(u.did)
	before := f.lastEvent()
	f.accepted(deactivate(`{}`))
	f.said(before, u.did, event.Account(u.did, "takendown"))
}

func TestCheckAccountStatus(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	repo, err := f.db.Repo(t.Context(), u.did)
	if err != nil {
		t.Fatal(err)
	}
	check := func(activated, valid bool) {
		t.Helper()
		want := fmt.Sprintf(`{"activated":%t,"validDid":%t,"repoCommit":"%s","repoRev":"%s","repoBlocks":2,`+
			`"indexedRecords":0,"privateStateValues":0,"expectedBlobs":0,"importedBlobs":0}`, activated, valid, repo.Root, repo.Rev)
		if a := f.accepted(f.get("checkAccountStatus", bearer(u.access)...)); strings.TrimSpace(a.body) != want {
			t.Errorf("answer %s\nwant   %s", a.body, want)
		}
	}
	check(true, true)
	f.deactivate(u)
	check(false, true)
	f.accepted(f.post("activateAccount", "", bearer(u.access)...))
	f.takeDown(u.did)
	check(false, true)
	f.changeDID(u.did, func(d *plc.Data) { d.Services = nil })
	check(false, false)
	f.refused(f.get("checkAccountStatus"), 401, "AuthMissing", "Authentication Required")
}

// deletion is the body of deleteAccount.
func deletion(did syntax.DID, password, token string) string {
	return fmt.Sprintf(`{"did":%q,"password":%q,"token":%q}`, did, password, token)
}

// deletionCode asks for the code that deletes the account.
func (f *fixture) deletionCode(u user) string {
	f.Helper()
	f.accepted(f.post("requestAccountDelete", "", bearer(u.access)...))
	return f.code("delete_account")
}

func TestDeleteAccount(t *testing.T) {
	f := newFixture(t)
	u, other := f.signUp("alice"), f.signUp("bob")
	app := f.accepted(f.post("createAppPassword", `{"name":"app"}`, bearer(u.access)...)).text(t, "password")
	code := f.deletionCode(u)
	remove := func(password, token string) answer { return f.post("deleteAccount", deletion(u.did, password, token)) }

	f.refused(f.post("deleteAccount", `{"password":"x","token":"x"}`), 400, "InvalidRequest", `Missing required key "did" at $`)
	f.refused(f.post("deleteAccount", `{"did":"x","password":"x","token":"x"}`), 400, "InvalidRequest", `Invalid DID (got "x") at $.did`)
	f.refused(remove(strings.Repeat("x", 513), code), 401, "AuthenticationRequired", "Password too long. Consider resetting your password.")
	f.refused(f.post("deleteAccount", deletion("did:web:nobody.example", goodPassword, code)), 400, "InvalidRequest", "account not found")
	f.refused(remove("wrong", code), 401, "AuthenticationRequired", "Invalid did or password")
	f.refused(remove(app, code), 401, "AuthenticationRequired", "Invalid did or password")
	f.refused(remove(goodPassword, "AAAAA-AAAAA"), 400, "InvalidToken", "Token is invalid")
	f.refused(remove(goodPassword, ""), 400, "InvalidToken", "Token is invalid")
	f.refused(remove(goodPassword, strings.ReplaceAll(code, "-", "")), 400, "InvalidToken", "Token is invalid")
	// The code of somebody else.
	f.refused(f.post("deleteAccount", deletion(other.did, goodPassword, code)), 400, "InvalidToken", "Token is invalid")
	f.clock.advance(15 * time.Minute)
	f.refused(remove(goodPassword, code), 400, "ExpiredToken", "Token is expired")
	if f.account(u.did) == nil {
		t.Fatal("refused and deleted")
	}

	// Nothing of that has used a code up. The header is not looked at.
	code = f.deletionCode(u)
	before := f.lastEvent()
	a := f.accepted(f.post("deleteAccount", deletion(u.did, goodPassword, " "+strings.ToLower(code)+"\n"), "Authorization", "nonsense"))
	if a.body != "" || a.header.Get("Content-Type") != "" {
		t.Errorf("answer %q of type %q", a.body, a.header.Get("Content-Type"))
	}
	f.said(before, u.did, event.Account(u.did, "deleted"))
	for _, e := range f.events(0) {
		if e.DID == u.did && e.Seq <= before {
			t.Errorf("event %d of the deleted account is still there", e.Seq)
		}
	}
	if n := len(f.events(0)); n != 4+1 {
		t.Errorf("%d events, want the other account's four and the last one", n)
	}

	f.refused(remove(goodPassword, code), 400, "InvalidRequest", "account not found")
	f.refused(f.post("createSession", login("alice.test", goodPassword)), 401, "AuthenticationRequired", "Invalid identifier or password")
	f.refused(f.post("createSession", login(u.did.String(), app)), 401, "AuthenticationRequired", "Invalid identifier or password")
	f.accepted(f.get("getSession", bearer(other.access)...))
	// The DID is not the server's to end: the directory has it as it was.
	data, err := (&plc.Client{URL: f.directory}).Data(t.Context(), u.did)
	if err != nil || data.Services["atproto_pds"].Endpoint != "https://pds.test" {
		t.Errorf("directory has %+v, %v", data, err)
	}
	// Handle and email are free again.
	if again := f.signUp("alice"); again.did == u.did {
		t.Error("the DID came back")
	}
	if n := len(f.letters("account_deleted")); n != 0 {
		t.Errorf("%d letters, the contract has none", n)
	}
}

func TestDeleteAccountInEveryState(t *testing.T) {
	f := newFixture(t)
	for name, state := range map[string]func(user){
		"deactivated": f.deactivate,
		"takendown":   func(u user) { f.takeDown(u.did) },
		"both":        func(u user) { f.deactivate(u); f.takeDown(u.did) },
	} {
		t.Run(name, func(t *testing.T) {
			u := f.signUp("is" + name)
			code := f.deletionCode(u)
			state(u)
			before := f.lastEvent()
			f.accepted(f.post("deleteAccount", deletion(u.did, goodPassword, code)))
			f.said(before, u.did, event.Account(u.did, "deleted"))
		})
	}
}

// A DID that was deleted here and comes back finds nothing of its former life:
// no app password, no session, no token of that time.
func TestDesign10DeletionLeavesNothingBehind(t *testing.T) {
	f := newFixture(t)
	const did = "did:web:alice.example"
	u := f.moveIn(did, "alice")
	app := f.accepted(f.post("createAppPassword", `{"name":"app"}`, bearer(u.access)...)).text(t, "password")
	opened := f.accepted(f.post("createSession", login(did, app)))
	f.accepted(f.post("deleteAccount", deletion(did, goodPassword, f.deletionCode(u))))
	f.clock.advance(time.Second) // tokens know whole seconds only
	back := f.moveIn(did, "alice")
	f.refused(f.post("createSession", login(did, app)), 401, "AuthenticationRequired", "Invalid identifier or password")
	for _, old := range []string{u.access, opened.text(t, "accessJwt")} {
		f.refused(f.get("getSession", bearer(old)...), 400, "ExpiredToken", "Token has expired")
	}
	for _, old := range []string{u.refresh, opened.text(t, "refreshJwt")} {
		f.refused(f.post("refreshSession", "", bearer(old)...), 400, "ExpiredToken", "Token has been revoked")
	}
	f.accepted(f.get("getSession", bearer(back.access)...))
	if list := f.accepted(f.get("listAppPasswords", bearer(back.access)...)); strings.TrimSpace(list.body) != `{"passwords":[]}` {
		t.Errorf("app passwords %s", list.body)
	}
}

// No table keeps a row of a deleted account, whatever it did before: but the event
// that says so, and the DID itself where this server is its directory.
func TestDesign10DeletionRemovesEveryRow(t *testing.T) {
	var dir string
	d := dbtest.Open(t, func(c *db.Config) { dir = c.Dir })
	f := newFixture(t, func(o *options) { o.engine = d })
	f.invite("friends", 2, "admin")
	a := f.accepted(f.post("createAccount",
		`{"handle":"alice.test","email":"alice@example.com","password":"`+goodPassword+`","inviteCode":"friends"}`))
	u := user{
		did: syntax.DID(a.text(t, "did")), handle: "alice.test", email: "alice@example.com",
		access: a.text(t, "accessJwt"), refresh: a.text(t, "refreshJwt"),
	}
	f.invite("own", 5, u.did.String())
	f.confirm(u)
	f.accepted(f.post("createAppPassword", `{"name":"app"}`, bearer(u.access)...))
	f.accepted(f.post("requestEmailUpdate", "", bearer(u.access)...))
	f.accepted(f.post("requestPasswordReset", `{"email":"alice@example.com"}`))
	f.accepted(f.post("reserveSigningKey", fmt.Sprintf(`{"did":%q}`, u.did)))
	f.refused(f.post("createSession", login("alice.test", "wrong")), 401, "AuthenticationRequired", "Invalid identifier or password")
	code := f.deletionCode(u)
	f.refused(f.post("deleteAccount", deletion(u.did, goodPassword, "AAAAA-AAAAA")), 400, "InvalidToken", "Token is invalid")
	f.deactivate(u)

	raw, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "portico.sqlite")+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	// tables are those with the DID in any column.
	tables := func() map[string]int {
		rows, err := raw.Query(`SELECT t.name, c.name FROM sqlite_master t, pragma_table_info(t.name) c WHERE t.type = 'table'`)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		found := map[string]int{}
		for rows.Next() {
			var table, column string
			if err := rows.Scan(&table, &column); err != nil {
				t.Fatal(err)
			}
			var n int
			err := raw.QueryRow(fmt.Sprintf(`SELECT count(*) FROM %q WHERE instr(CAST(%q AS TEXT), ?) > 0`, table, column), u.did.String()).Scan(&n)
			if err != nil {
				t.Fatal(err)
			}
			if n > 0 {
				found[table] = n
			}
		}
		return found
	}
	before := tables()
	for _, table := range []string{
		"account", "app_password", "budget", "email_code", "event", "invite", "invite_use", "mail", "repo", "repo_block",
		"reserved_key", "session", "signing_key",
	} {
		if before[table] == 0 {
			t.Errorf("the account has no row in %s, so this test says nothing of it", table)
		}
	}
	f.accepted(f.post("deleteAccount", deletion(u.did, goodPassword, code)))
	if got := tables(); len(got) != 1 || got["event"] != 1 {
		t.Errorf("left behind: %v, want the last event alone", got)
	}
}

// DESIGN 26: the token of an account that is gone is answered 403, for a 500.
func TestDesign26ActivationOfDeletedAccount(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	f.accepted(f.post("deleteAccount", deletion(u.did, goodPassword, f.deletionCode(u))))
	before := f.lastEvent()
	f.refused(f.post("activateAccount", "", bearer(u.access)...), 403, "AccountNotFound", "Account not found")
	f.refused(f.get("checkAccountStatus", bearer(u.access)...), 400, "NotFound", "Repo not found")
	f.refused(f.post("deactivateAccount", `{}`, bearer(u.access)...), 400, "InvalidRequest", "Account not found")
	f.said(before, u.did)
}

// Deleting and signing in share one budget of wrong passwords; wrong codes have
// theirs, which only who knows the password can spend.
func TestDeleteAccountBudgets(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	code := f.deletionCode(u)
	for range 20 {
		f.refused(f.post("deleteAccount", deletion(u.did, "wrong", "AAAAA-AAAAA")), 401, "AuthenticationRequired", "Invalid did or password")
		f.refused(f.post("deleteAccount", deletion(u.did, goodPassword, "AAAAA-AAAAA")), 400, "InvalidToken", "Token is invalid")
	}
	f.refused(f.post("deleteAccount", deletion(u.did, goodPassword, code)), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	for range 30 {
		f.refused(f.post("createSession", login("alice.test", "wrong")), 401, "AuthenticationRequired", "Invalid identifier or password")
	}
	f.refused(f.post("deleteAccount", deletion(u.did, goodPassword, code)), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	f.refused(f.post("createSession", login("alice.test", goodPassword)), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	// Whoever is signed in stays so.
	f.accepted(f.post("refreshSession", "", bearer(u.refresh)...))
	f.clock.advance(time.Hour)
	u.access = f.accepted(f.post("createSession", login("alice.test", goodPassword))).text(t, "accessJwt")
	f.accepted(f.post("deleteAccount", deletion(u.did, goodPassword, f.deletionCode(u))))
}

func TestDeleteAccountRaces(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, func(o *options) { o.engine = d })
		u := f.signUp("alice")
		code := f.deletionCode(u)
		answers := make([]answer, 8)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() {
				var err error
				if i%2 == 0 {
					answers[i], err = f.try(http.MethodPost, "deleteAccount", deletion(u.did, goodPassword, code))
				} else {
					// What else changes the account is before or after, never between.
					answers[i], err = f.try(http.MethodPost, "deactivateAccount", `{}`, bearer(u.access)...)
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		won := 0
		for i, a := range answers {
			switch {
			case a.status == 200 && i%2 == 0:
				won++
			case a.status == 200:
			case i%2 == 0:
				f.refused(a, 400, "InvalidRequest", "account not found")
			default:
				f.refused(a, 400, "InvalidRequest", "Account not found")
			}
		}
		if won != 1 {
			t.Errorf("%d of the racers deleted the account", won)
		}
		events := f.events(0)
		if len(events) != 1 || !bytes.Equal(events[0].Body, event.Account(u.did, "deleted").Body) || events[0].Seq != f.lastEvent() {
			t.Errorf("events %v, want the deletion alone, and nothing after it", events)
		}
	}, func(c *db.Config) { c.Now = func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) } })
}
