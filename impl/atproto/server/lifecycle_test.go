package server_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/budget"
	"portico/impl/identity/plc"
	"portico/impl/repo"
	"portico/impl/repo/car"
	"portico/impl/repo/event"
	"portico/impl/repo/store"
	"portico/impl/servertest"
)

// events returns the stored events with numbers above after.
func (f *fixture) events(after int64) []db.Event {
	f.Helper()
	events, err := f.DB.Events(f.Context(), after, 100)
	if err != nil {
		f.Fatal(err)
	}
	return events
}

func (f *fixture) lastEvent() int64 {
	f.Helper()
	last, err := f.DB.LastEvent(f.Context())
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
	all, err := f.DB.Accounts(f.Context(), "", 1000)
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
	f.Accepted(f.Post("deactivateAccount", `{}`, u.Access))
}

// moveIn makes an account NAME.test for a DID that its owner brings along.
func (f *fixture) moveIn(did syntax.DID, name string) user {
	f.Helper()
	credentials := f.ServiceToken(did, f.NewIdentity(did), "com.atproto.server.createAccount", time.Minute)
	body := fmt.Sprintf(`{"handle":"%s.test","email":"%[1]s@example.com","password":%q,"did":%q}`, name, goodPassword, did)
	a := f.Accepted(f.Post("createAccount", body, credentials))
	return user{
		DID: did, Handle: name + ".test", Email: name + "@example.com",
		Access: servertest.Bearer(a.Text(f, "accessJwt")), Refresh: servertest.Bearer(a.Text(f, "refreshJwt")),
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
	f.PublishJSON(did, fmt.Appendf(nil, `{"@context":["https://www.w3.org/ns/did/v1"],"id":%q,
		"verificationMethod":[%s],"service":[%s]}`, did, method, service))
}

// repoKey is the public key of an account's repository, as documents have it.
func (f *fixture) repoKey(did syntax.DID) string {
	f.Helper()
	return strings.TrimPrefix(f.SigningKey(did), "did:key:")
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
	u := f.SignUp("alice")
	created := f.events(0)
	sync := event.Event{Kind: created[3].Kind, Body: created[3].Body}
	f.Accepted(f.Post("deactivateAccount", `{"deleteAfter":"2030-01-01T00:00:00Z"}`, u.Access))
	for _, what := range []string{"deactivated", "active already"} {
		before := f.lastEvent()
		if a := f.Accepted(f.Post("activateAccount", "", u.Access)); a.Body != "" || a.Header.Get("Content-Type") != "" {
			t.Errorf("%s: answer %q of type %q", what, a.Body, a.Header.Get("Content-Type"))
		}
		f.said(before, u.DID, event.Account(u.DID, ""), event.Identity(u.DID, "alice.test"), sync)
		if row := f.account(u.DID); row.DeactivatedAt != nil || row.DeleteAfter != nil || row.DeleteAnnouncedAt != nil {
			t.Errorf("%s: account %+v", what, row)
		}
	}
	session := f.Accepted(f.Get("getSession", u.Access)).Fields(t)
	if session["active"] != true || session["status"] != nil {
		t.Errorf("session %v", session)
	}
}

// A commit that another server signed, under the rev of its import, does not leave this
// one: readers of events would refuse it.
func TestDesignR6ActivationSignsAnImportedRepository(t *testing.T) {
	f := newFixture(t)
	u := f.moveIn("did:web:alice.example", "alice")
	f.publish(u.DID, servertest.Endpoint, f.repoKey(u.DID))
	imported := f.storeForeignCommit(u.DID)
	before := f.lastEvent()
	f.Accepted(f.Post("activateAccount", "", u.Access))
	row := servertest.Must(f.DB.Repo(t.Context(), u.DID))
	block := servertest.Must(store.LastCommit(row))
	commit := servertest.Must(repo.ParseCommit(block.Data))
	key := servertest.Must(atcrypto.ParsePublicDIDKey(f.SigningKey(u.DID)))
	if err := commit.Verify(key); err != nil || commit.Rev.String() != row.Rev || row.Rev <= imported.Rev || !bytes.Equal(row.DataCID, imported.DataCID) {
		t.Errorf("commit %+v of %+v, %v\nafter %+v", commit, row, err, imported)
	}
	f.said(before, u.DID, event.Account(u.DID, ""), event.Identity(u.DID, "alice.test"), event.Sync(u.DID, commit.Rev, car.Marshal(block.CID, block)))
	// Again, and the commit is the same.
	f.Accepted(f.Post("activateAccount", "", u.Access))
	if again := servertest.Must(f.DB.Repo(t.Context(), u.DID)); !bytes.Equal(again.CommitCID, row.CommitCID) {
		t.Error("an own commit was signed anew")
	}
}

// storeForeignCommit puts a commit with a key and a rev of elsewhere over the tree that an
// account has, as an import does, and returns the row.
func (f *fixture) storeForeignCommit(did syntax.DID) *db.Repo {
	f.Helper()
	row := servertest.Must(f.DB.Repo(f.Context(), did))
	elsewhere := servertest.Must(repo.NextRev(f.Now().Add(-time.Hour), ""))
	signed := servertest.Must(repo.Sign(did, servertest.Must(atcrypto.GeneratePrivateKeyK256()), elsewhere, store.CID(row.DataCID)))
	before := row.CommitCID
	row.CommitCID, row.CommitBlock = signed.Commit.CID[:], signed.Commit.Data
	f.Check(f.DB.Write(f.Context(), func(tx *db.Tx) error { return tx.UpdateRepo(f.Context(), did, *row, before) }))
	return row
}

// Whoever moves and forgets the repository may have meant to start over; it is in the log.
func TestActivationOfAMoveWithoutRepository(t *testing.T) {
	f := newFixture(t)
	const warning = "account was moved here without its repository"
	fresh := f.SignUp("bob")
	f.deactivate(fresh)
	f.Accepted(f.Post("activateAccount", "", fresh.Access))
	if strings.Contains(f.Logged.String(), warning) {
		t.Error("a warning for an account that was made here")
	}
	u := f.moveIn("did:web:alice.example", "alice")
	f.publish(u.DID, servertest.Endpoint, f.repoKey(u.DID))
	f.Accepted(f.Get("checkAccountStatus", u.Access))
	f.Accepted(f.Post("activateAccount", "", u.Access))
	if got := strings.Count(f.Logged.String(), "level=WARN msg=\""+warning+"\" did="+u.DID.String()); got != 2 {
		t.Errorf("%d warnings in %s", got, f.Logged)
	}
	// Who asks without end does not fill the log.
	v := f.moveIn("did:web:carol.example", "carol")
	f.publish(v.DID, servertest.Endpoint, f.repoKey(v.DID))
	for range 100 {
		f.Accepted(f.Get("checkAccountStatus", v.Access))
	}
	if got := strings.Count(f.Logged.String(), warning); got != 2+20 {
		t.Errorf("%d warnings, want 2 and the 20 of who asked 100 times", got)
	}
}

func TestActivateAccountWithoutHandle(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	f.SetAccount(u.DID, func(a *db.Account) { a.Handle = "" })
	before := f.lastEvent()
	f.Accepted(f.Post("activateAccount", "", u.Access))
	if e := f.events(before)[1]; !bytes.Equal(e.Body, event.Identity(u.DID, "handle.invalid").Body) {
		t.Errorf("event %q", e.Body)
	}
}

func TestActivateAccountRefuses(t *testing.T) {
	f := newFixture(t)
	activate := func(u user) answer { return f.Post("activateAccount", "", u.Access) }
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
			u := f.SignUp(fmt.Sprintf("alice%d", i))
			f.deactivate(u)
			f.ChangeDID(u.DID, tt.change)
			before := f.lastEvent()
			f.Refused(activate(u), 400, "InvalidRequest", tt.message)
			f.said(before, u.DID)
			if f.account(u.DID).Active() {
				t.Error("account is active")
			}
		})
	}

	gone := f.SignUp("gone")
	f.Tombstone(gone.DID)
	f.Refused(activate(gone), 400, "InvalidRequest", "DID not available: "+gone.DID.String())

	down := f.SignUp("taken")
	f.TakeDown(down.DID)
	f.Refused(activate(down), 400, "AccountNotFound", "user not found")

	u := f.SignUp("alice")
	f.Refused(f.Post("activateAccount", `{}`, u.Access), 400, "InvalidRequest", "A request body was provided when none was expected")
	f.Refused(f.Get("activateAccount", u.Access), 400, "InvalidRequest", "Incorrect HTTP method (GET) expected POST")
	f.Refused(f.Post("activateAccount", ""), 401, "AuthMissing", "Authentication Required")
	f.Refused(f.Post("activateAccount", "", u.Refresh), 400, "InvalidToken", "Token could not be verified")
}

// The directory's failures reach the client as the contract says.
func TestActivateAccountMeetsABrokenDirectory(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	for _, tt := range []struct {
		status        int
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
		f.PLC.Spoil(servertest.Says("", tt.status, tt.body))
		f.Refused(f.Post("activateAccount", "", u.Access), tt.answer, tt.name, tt.message)
		if status := f.Accepted(f.Get("checkAccountStatus", u.Access)).Fields(t); status["validDid"] != false {
			t.Errorf("directory answers %d: status %v", tt.status, status)
		}
	}
}

// A client goes to the server that the document in its session names. Right after a
// move the one in the cache still names the old server.
func TestActivateAccountForgetsTheOldDocument(t *testing.T) {
	f := newFixture(t, func(o *options) { o.Config.DocumentInSessions = true })
	u := f.SignUp("alice")
	f.publish(u.DID, "https://old.test", f.repoKey(u.DID))
	named := func() string {
		session := f.Accepted(f.Get("getSession", u.Access)).Fields(t)
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
	f.publish(u.DID, "https://pds.test", f.repoKey(u.DID))
	if got := named(); got != "https://old.test" {
		t.Fatalf("the document that names %s is not from the cache", got)
	}
	f.Accepted(f.Post("activateAccount", "", u.Access))
	if got := named(); got != "https://pds.test" {
		t.Errorf("after the move the document names %s, want https://pds.test", got)
	}
	// Activation does not depend on it.
	f.Internet.Unpublish(u.DID)
	f.Accepted(f.Post("activateAccount", "", u.Access))
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
			f.Refused(f.Post("activateAccount", "", u.Access), 400, "InvalidRequest", tt.message)
			if status := f.Accepted(f.Get("checkAccountStatus", u.Access)).Fields(t); status["validDid"] != false {
				t.Errorf("status %v", status)
			}
		})
	}
	f.Internet.Unpublish(did)
	f.Refused(f.Post("activateAccount", "", u.Access), 400, "InvalidRequest", "Could not resolve DID")
	f.said(0, did)

	f.publish(did, "https://pds.test", key)
	status := f.Accepted(f.Get("checkAccountStatus", u.Access)).Fields(t)
	if status["validDid"] != true || status["activated"] != false {
		t.Errorf("status %v", status)
	}
	f.Accepted(f.Post("activateAccount", "", u.Access))
	var kinds []string
	for _, e := range f.events(0) {
		kinds = append(kinds, e.Kind)
	}
	if got := strings.Join(kinds, " "); got != "#account #identity #sync" {
		t.Errorf("events %s", got)
	}
	if status := f.Accepted(f.Get("checkAccountStatus", u.Access)).Fields(t); status["activated"] != true {
		t.Errorf("status %v", status)
	}
}

func TestDeactivateAccount(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	deactivate := func(body string) answer { return f.Post("deactivateAccount", body, u.Access) }
	f.Refused(deactivate(""), 400, "InvalidRequest", "Request encoding (Content-Type) required but not provided")
	f.Refused(deactivate(`{"deleteAfter":"2030-01-01"}`), 400, "InvalidRequest", `Invalid datetime (got "2030-01-01") at $.deleteAfter`)
	for _, when := range []string{"2030-01-01T00:00:00+24:00", "2030-01-01T00:00:00-24:00", "9999-12-31T23:59:59-00:01", "10000-01-01T00:00:00Z"} {
		f.Refused(deactivate(`{"deleteAfter":"`+when+`"}`), 400, "InvalidRequest", `Invalid datetime (got "`+when+`") at $.deleteAfter`)
	}
	f.Refused(deactivate(`{"deleteAfter":null}`), 400, "InvalidRequest", "Expected string value type (got null) at $.deleteAfter")
	f.Refused(f.Post("deactivateAccount", `{}`), 401, "AuthMissing", "Authentication Required")
	if !f.account(u.DID).Active() {
		t.Fatal("refused and deactivated")
	}

	now := f.Now()
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
		if a := f.Accepted(deactivate(tt.body)); a.Body != "" || a.Header.Get("Content-Type") != "" {
			t.Errorf("answer %q of type %q", a.Body, a.Header.Get("Content-Type"))
		}
		f.said(before, u.DID, event.Account(u.DID, "deactivated"))
		row := f.account(u.DID)
		if row.DeactivatedAt == nil || (row.DeleteAfter == nil) != (tt.deleteAfter == nil) ||
			row.DeleteAfter != nil && !row.DeleteAfter.Equal(*tt.deleteAfter) {
			t.Errorf("%s: deactivated at %v, to be deleted after %v, want %v", tt.body, row.DeactivatedAt, row.DeleteAfter, tt.deleteAfter)
		}
	}

	// Sessions go on, and a taken-down account can be deactivated too.
	session := f.Accepted(f.Get("getSession", u.Access)).Fields(t)
	if session["active"] != false || session["status"] != "deactivated" {
		t.Errorf("session %v", session)
	}
	f.Accepted(f.Post("refreshSession", "", u.Refresh))
	f.TakeDown(u.DID)
	before := f.lastEvent()
	f.Accepted(deactivate(`{}`))
	f.said(before, u.DID, event.Account(u.DID, "takendown"))
}

func TestCheckAccountStatus(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	row, err := f.DB.Repo(t.Context(), u.DID)
	if err != nil {
		t.Fatal(err)
	}
	check := func(activated, valid bool) {
		t.Helper()
		want := fmt.Sprintf(`{"activated":%t,"validDid":%t,"repoCommit":"%s","repoRev":"%s","repoBlocks":2,`+
			`"indexedRecords":0,"privateStateValues":0,"expectedBlobs":0,"importedBlobs":0}`, activated, valid, store.CID(row.CommitCID), row.Rev)
		if a := f.Accepted(f.Get("checkAccountStatus", u.Access)); strings.TrimSpace(a.Body) != want {
			t.Errorf("answer %s\nwant   %s", a.Body, want)
		}
	}
	check(true, true)
	f.deactivate(u)
	check(false, true)
	f.Accepted(f.Post("activateAccount", "", u.Access))
	f.TakeDown(u.DID)
	check(false, true)
	f.ChangeDID(u.DID, func(d *plc.Data) { d.Services = nil })
	check(false, false)
	f.Refused(f.Get("checkAccountStatus"), 401, "AuthMissing", "Authentication Required")
}

// deletion is the body of deleteAccount.
func deletion(did syntax.DID, password, token string) string {
	return fmt.Sprintf(`{"did":%q,"password":%q,"token":%q}`, did, password, token)
}

// deletionCode asks for the code that deletes the account.
func (f *fixture) deletionCode(u user) string {
	f.Helper()
	f.Accepted(f.Post("requestAccountDelete", "", u.Access))
	return f.Code("delete_account")
}

func TestDeleteAccount(t *testing.T) {
	f := newFixture(t)
	u, other := f.SignUp("alice"), f.SignUp("bob")
	app := f.Accepted(f.Post("createAppPassword", `{"name":"app"}`, u.Access)).Text(t, "password")
	code := f.deletionCode(u)
	remove := func(password, token string) answer { return f.Post("deleteAccount", deletion(u.DID, password, token)) }

	f.Refused(f.Post("deleteAccount", `{"password":"x","token":"x"}`), 400, "InvalidRequest", `Missing required key "did" at $`)
	f.Refused(f.Post("deleteAccount", `{"did":"x","password":"x","token":"x"}`), 400, "InvalidRequest", `Invalid DID (got "x") at $.did`)
	f.Refused(remove(strings.Repeat("x", 513), code), 401, "AuthenticationRequired", "Password too long. Consider resetting your password.")
	f.Refused(f.Post("deleteAccount", deletion("did:web:nobody.example", goodPassword, code)), 400, "InvalidRequest", "account not found")
	f.Refused(remove("wrong", code), 401, "AuthenticationRequired", "Invalid did or password")
	f.Refused(remove(app, code), 401, "AuthenticationRequired", "Invalid did or password")
	f.Refused(remove(goodPassword, "AAAAA-AAAAA"), 400, "InvalidToken", "Token is invalid")
	f.Refused(remove(goodPassword, ""), 400, "InvalidToken", "Token is invalid")
	// The code of somebody else.
	f.Refused(f.Post("deleteAccount", deletion(other.DID, goodPassword, code)), 400, "InvalidToken", "Token is invalid")
	f.Advance(15 * time.Minute)
	f.Refused(remove(goodPassword, code), 400, "ExpiredToken", "Token is expired")
	if f.account(u.DID) == nil {
		t.Fatal("refused and deleted")
	}

	// Nothing of that has used a code up. The header is not looked at.
	code = f.deletionCode(u)
	before := f.lastEvent()
	a := f.Accepted(f.Post("deleteAccount", deletion(u.DID, goodPassword, " "+strings.ToLower(code)+"\n"), "nonsense"))
	if a.Body != "" || a.Header.Get("Content-Type") != "" {
		t.Errorf("answer %q of type %q", a.Body, a.Header.Get("Content-Type"))
	}
	f.said(before, u.DID, event.Account(u.DID, "deleted"))
	for _, e := range f.events(0) {
		if e.DID == u.DID && e.Seq <= before {
			t.Errorf("event %d of the deleted account is still there", e.Seq)
		}
	}
	if n := len(f.events(0)); n != 4+1 {
		t.Errorf("%d events, want the other account's four and the last one", n)
	}

	f.Refused(remove(goodPassword, code), 400, "InvalidRequest", "account not found")
	f.Refused(f.Post("createSession", login("alice.test", goodPassword)), 401, "AuthenticationRequired", "Invalid identifier or password")
	f.Refused(f.Post("createSession", login(u.DID.String(), app)), 401, "AuthenticationRequired", "Invalid identifier or password")
	f.Accepted(f.Get("getSession", other.Access))
	// The DID is not the server's to end: the directory has it as it was.
	data, err := f.PLC.Data(t.Context(), u.DID)
	if err != nil || data.Services["atproto_pds"].Endpoint != "https://pds.test" {
		t.Errorf("directory has %+v, %v", data, err)
	}
	// Handle and email are free again.
	if again := f.SignUp("alice"); again.DID == u.DID {
		t.Error("the DID came back")
	}
	if n := len(f.Letters("account_deleted")); n != 0 {
		t.Errorf("%d letters, the contract has none", n)
	}
}

func TestDeleteAccountInEveryState(t *testing.T) {
	f := newFixture(t)
	for name, state := range map[string]func(user){
		"deactivated": f.deactivate,
		"takendown":   func(u user) { f.TakeDown(u.DID) },
		"both":        func(u user) { f.deactivate(u); f.TakeDown(u.DID) },
	} {
		t.Run(name, func(t *testing.T) {
			u := f.SignUp("is" + name)
			code := f.deletionCode(u)
			state(u)
			before := f.lastEvent()
			f.Accepted(f.Post("deleteAccount", deletion(u.DID, goodPassword, code)))
			f.said(before, u.DID, event.Account(u.DID, "deleted"))
		})
	}
}

// A DID that was deleted here and comes back finds nothing of its former life:
// no app password, no session, no token of that time.
func TestDesign10DeletionLeavesNothingBehind(t *testing.T) {
	f := newFixture(t)
	const did = "did:web:alice.example"
	u := f.moveIn(did, "alice")
	app := f.Accepted(f.Post("createAppPassword", `{"name":"app"}`, u.Access)).Text(t, "password")
	opened := f.Accepted(f.Post("createSession", login(did, app)))
	f.Accepted(f.Post("deleteAccount", deletion(did, goodPassword, f.deletionCode(u))))
	f.Advance(time.Second) // tokens know whole seconds only
	back := f.moveIn(did, "alice")
	f.Refused(f.Post("createSession", login(did, app)), 401, "AuthenticationRequired", "Invalid identifier or password")
	for _, old := range []string{u.Access, servertest.Bearer(opened.Text(t, "accessJwt"))} {
		f.Refused(f.Get("getSession", old), 400, "ExpiredToken", "Token has expired")
	}
	for _, old := range []string{u.Refresh, servertest.Bearer(opened.Text(t, "refreshJwt"))} {
		f.Refused(f.Post("refreshSession", "", old), 400, "ExpiredToken", "Token has been revoked")
	}
	f.Accepted(f.Get("getSession", back.Access))
	if list := f.Accepted(f.Get("listAppPasswords", back.Access)); strings.TrimSpace(list.Body) != `{"passwords":[]}` {
		t.Errorf("app passwords %s", list.Body)
	}
}

// No table keeps a row of a deleted account, whatever it did before: but the event
// that says so, and the DID itself where this server is its directory.
func TestDesign10DeletionRemovesEveryRow(t *testing.T) {
	var dir string
	d := dbtest.Open(t, func(c *db.Config) { dir = c.Dir })
	f := newFixture(t, func(o *options) { o.DB = d })
	f.Invite("friends", 2, "admin")
	u := f.SignUpWith("alice", "friends")
	// It had other addresses, each of which was told so.
	f.Advance(2 * time.Hour)
	u = f.SignIn(u, "")
	f.Empty(f.Post("updateEmail", `{"email":"alice2@example.com"}`, u.Access))
	f.Advance(2 * time.Hour)
	u = f.SignIn(u, "")
	f.Empty(f.Post("updateEmail", `{"email":"alice@example.com"}`, u.Access))
	f.Invite("own", 5, u.DID.String())
	f.confirm(u)
	f.Accepted(f.Post("createAppPassword", `{"name":"app"}`, u.Access))
	f.Accepted(f.Post("requestEmailUpdate", "", u.Access))
	f.Accepted(f.Post("requestPasswordReset", `{"email":"alice@example.com"}`))
	f.Accepted(f.Post("reserveSigningKey", fmt.Sprintf(`{"did":%q}`, u.DID)))
	f.Refused(f.Post("createSession", login("alice.test", "wrong")), 401, "AuthenticationRequired", "Invalid identifier or password")
	f.Accepted(f.from("203.0.113.9", "alice.test", goodPassword))
	code := f.deletionCode(u)
	f.Refused(f.Post("deleteAccount", deletion(u.DID, goodPassword, "AAAAA-AAAAA")), 400, "InvalidToken", "Token is invalid")
	f.deactivate(u)
	// Records, and blobs that they name. A claim on the file of one would stay: it has a time,
	// and ends by itself.
	f.Write(func(tx *db.Tx) error {
		cid := bytes.Repeat([]byte{1}, 36)
		return errors.Join(
			tx.PutRecords(t.Context(), u.DID, db.Record{Path: "com.example.a/1", CID: cid, Rev: "3jqfcqzm3fo2j", IndexedAt: f.Now(), Value: []byte("x")}),
			tx.AddCollection(t.Context(), u.DID, "com.example.a"),
			tx.InsertBlob(t.Context(), u.DID, db.Blob{CID: cid, MIME: "text/plain", Size: 1, TempKey: "key", CreatedAt: f.Now()}),
			tx.PutRecordBlobs(t.Context(), u.DID, []db.RecordBlob{{Path: "com.example.a/1", CID: cid}}),
			tx.PutPreferences(t.Context(), u.DID, []json.RawMessage{[]byte(`{"$type":"app.bsky.x"}`)}))
	})

	raw, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "portico.sqlite")+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	// tables are those with a text in any column.
	tables := func(text string) map[string]int {
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
			err := raw.QueryRow(fmt.Sprintf(`SELECT count(*) FROM %q WHERE instr(CAST(%q AS TEXT), ?) > 0`, table, column), text).Scan(&n)
			if err != nil {
				t.Fatal(err)
			}
			if n > 0 {
				found[table] = n
			}
		}
		return found
	}
	before := tables(u.DID.String())
	for _, table := range []string{
		"account", "app_password", "blob", "collection", "email_code", "event", "invite", "invite_use", "known_address", "mail",
		"node", "preferences", "record", "record_blob", "repo", "reserved_key", "session", "signing_key",
	} {
		if before[table] == 0 {
			t.Errorf("the account has no row in %s, so this test says nothing of it", table)
		}
	}
	spent, err := f.Budgets.Spendings(t.Context(), budget.Account(u.DID))
	f.Check(err)
	if len(spent) == 0 {
		t.Error("the account has spent nothing, so this test says nothing of it")
	}
	f.Accepted(f.Post("deleteAccount", deletion(u.DID, goodPassword, code)))
	if spent, err = f.Budgets.Spendings(t.Context(), budget.Account(u.DID)); err != nil || len(spent) != 0 {
		t.Errorf("left behind: %v, %v", spent, err)
	}
	if got := tables(u.DID.String()); len(got) != 1 || got["event"] != 1 {
		t.Errorf("left behind: %v, want the last event alone", got)
	}
	for _, address := range []string{"alice@", "alice2@", "alice%2b", "203.0.113.9"} {
		if got := tables(address); len(got) != 0 {
			t.Errorf("left behind of %s: %v", address, got)
		}
	}
}

// DESIGN 26: the token of an account that is gone is answered 403, for a 500.
func TestDesign26ActivationOfDeletedAccount(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	f.Accepted(f.Post("deleteAccount", deletion(u.DID, goodPassword, f.deletionCode(u))))
	before := f.lastEvent()
	f.Refused(f.Post("activateAccount", "", u.Access), 403, "AccountNotFound", "Account not found")
	f.Refused(f.Get("checkAccountStatus", u.Access), 400, "NotFound", "Repo not found")
	f.Refused(f.Post("deactivateAccount", `{}`, u.Access), 400, "InvalidRequest", "Account not found")
	f.said(before, u.DID)
}

// Deleting and signing in share one budget of wrong passwords; wrong codes have
// theirs, which only who knows the password can spend.
func TestDeleteAccountBudgets(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	code := f.deletionCode(u)
	const stranger = "X-Forwarded-For: 203.0.113.9"
	del := func(password, code string) answer {
		return f.Post("deleteAccount", deletion(u.DID, password, code), stranger)
	}
	for range 20 {
		f.Refused(del("wrong", "AAAAA-AAAAA"), 401, "AuthenticationRequired", "Invalid did or password")
		f.Refused(del(goodPassword, "AAAAA-AAAAA"), 400, "InvalidToken", "Token is invalid")
	}
	f.Refused(del(goodPassword, code), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	for range 30 {
		f.Refused(f.from("203.0.113.9", "alice.test", "wrong"), 401, "AuthenticationRequired", "Invalid identifier or password")
	}
	f.Refused(del(goodPassword, code), 401, "AuthenticationRequired", "Invalid did or password")
	f.Refused(f.from("203.0.113.9", "alice.test", goodPassword), 401, "AuthenticationRequired", "Invalid identifier or password")
	// Whoever is signed in stays so.
	f.Accepted(f.Post("refreshSession", "", u.Refresh))
	f.Advance(time.Hour)
	u.Access = servertest.Bearer(f.Accepted(f.from("203.0.113.9", "alice.test", goodPassword)).Text(t, "accessJwt"))
	f.Accepted(del(goodPassword, f.deletionCode(u)))
}

func TestDeleteAccountRaces(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u := f.SignUp("alice")
		code := f.deletionCode(u)
		answers := make([]answer, 8)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() {
				var err error
				if i%2 == 0 {
					answers[i], err = f.Try(http.MethodPost, "deleteAccount", deletion(u.DID, goodPassword, code))
				} else {
					// What else changes the account is before or after, never between.
					answers[i], err = f.Try(http.MethodPost, "deactivateAccount", `{}`, u.Access)
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
			case a.Status == 200 && i%2 == 0:
				won++
			case a.Status == 200:
			case i%2 == 0:
				f.Refused(a, 400, "InvalidRequest", "account not found")
			default:
				f.Refused(a, 400, "InvalidRequest", "Account not found")
			}
		}
		if won != 1 {
			t.Errorf("%d of the racers deleted the account", won)
		}
		events := f.events(0)
		if len(events) != 1 || !bytes.Equal(events[0].Body, event.Account(u.DID, "deleted").Body) || events[0].Seq != f.lastEvent() {
			t.Errorf("events %v, want the deletion alone, and nothing after it", events)
		}
	})
}
