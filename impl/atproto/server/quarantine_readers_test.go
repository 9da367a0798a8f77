package server_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-cmp/cmp"

	"portico/db"
	"portico/impl/account/token"
	"portico/impl/servertest"
)

// A reading is a method that may be asked about any account.
type reading struct {
	// asks are queries, with "?", or bodies, about a DID, a HANDLE, an EMAIL, and the BLOB and
	// the RECORD of the account that is in quarantine.
	asks []string
	// self is what the account's sessions are answered, operator what the operator is; "" is
	// 200, and "-" is what a stranger is.
	self, operator string
}

// about are the methods whose answers say something of an account that the caller names, or
// of all there are.
var about = map[string]reading{
	"com.atproto.repo.describeRepo": {asks: []string{"?repo=DID", "?repo=HANDLE"}},
	"com.atproto.repo.getRecord": {asks: []string{
		"?repo=DID&collection=com.example.note&rkey=a", "?repo=HANDLE&collection=com.example.note&rkey=a",
	}},
	"com.atproto.repo.listRecords":  {asks: []string{"?repo=DID&collection=com.example.note", "?repo=HANDLE&collection=com.example.note"}},
	"com.atproto.repo.createRecord": {asks: []string{`{"repo":"DID","collection":"com.example.note","record":{}}`, `{"repo":"HANDLE","collection":"com.example.note","record":{}}`}, operator: "-"},
	"com.atproto.repo.putRecord":    {asks: []string{`{"repo":"HANDLE","collection":"com.example.note","rkey":"b","record":{}}`}, operator: "-"},
	"com.atproto.repo.deleteRecord": {asks: []string{`{"repo":"DID","collection":"com.example.note","rkey":"b"}`}, operator: "-"},
	"com.atproto.repo.applyWrites":  {asks: []string{`{"repo":"HANDLE","writes":[]}`}, operator: "-"},

	"com.atproto.sync.getBlob":         {asks: []string{"?did=DID&cid=BLOB"}},
	"com.atproto.sync.getBlocks":       {asks: []string{"?did=DID&cids=RECORD"}},
	"com.atproto.sync.getCheckout":     {asks: []string{"?did=DID"}},
	"com.atproto.sync.getHead":         {asks: []string{"?did=DID"}},
	"com.atproto.sync.getLatestCommit": {asks: []string{"?did=DID"}},
	"com.atproto.sync.getRecord":       {asks: []string{"?did=DID&collection=com.example.note&rkey=a"}},
	"com.atproto.sync.getRepo":         {asks: []string{"?did=DID"}},
	"com.atproto.sync.getRepoStatus":   {asks: []string{"?did=DID"}},
	"com.atproto.sync.listBlobs":       {asks: []string{"?did=DID"}},

	"com.atproto.identity.resolveDid":      {asks: []string{"?did=DID"}},
	"com.atproto.identity.resolveHandle":   {asks: []string{"?handle=HANDLE"}},
	"com.atproto.identity.resolveIdentity": {asks: []string{"?identifier=DID", "?identifier=HANDLE"}},
	"com.atproto.identity.refreshIdentity": {asks: []string{`{"identifier":"DID"}`, `{"identifier":"HANDLE"}`}, self: "403 AccountQuarantined", operator: "-"},

	"com.atproto.server.createSession":        {asks: []string{`{"identifier":"HANDLE","password":"a wrong one"}`, `{"identifier":"DID","password":"a wrong one"}`}, self: "-", operator: "-"},
	"com.atproto.server.requestPasswordReset": {asks: []string{`{"email":"EMAIL"}`}},
	"com.atproto.server.deleteAccount":        {asks: []string{`{"did":"DID","password":"correct horse battery","token":"ABCDE-FGHIJ"}`}, self: "400 InvalidToken", operator: "400 InvalidToken"},
}

// lists are methods that tell of all accounts there are. One in quarantine is in none, for
// nobody.
var lists = map[string]string{
	"com.atproto.sync.listRepos":             "?limit=1000",
	"com.atproto.sync.listReposByCollection": "?collection=com.example.note",
	"com.atproto.sync.getHostStatus":         "?hostname=pds.test",
}

// others are the methods that tell nobody of an account whose session they are not called in,
// and why.
var others = map[string]string{
	"com.atproto.sync.subscribeRepos":           "no event of the account is stored",
	"com.atproto.server.createAccount":          "what is taken is taken",
	"com.atproto.temp.checkHandleAvailability":  "what is taken is taken",
	"com.atproto.server.describeServer":         "about the server",
	"com.atproto.server.reserveSigningKey":      "about keys without an account",
	"com.atproto.server.resetPassword":          "asks for a code that the owner was mailed",
	"com.atproto.temp.requestPhoneVerification": "about a telephone",
	"com.atproto.server.refreshSession":         "of the session",
	"com.atproto.server.deleteSession":          "of the session",
}

// Each method stands in one of the tables above, or is for sessions of the account itself or
// for the operator alone. One that is new has to be thought about.
func TestEveryMethodIsKnownToHideQuarantine(t *testing.T) {
	s := servertest.New(t, func(o *servertest.Options) { o.AppView = true })
	for _, r := range s.EveryRoute() {
		own := strings.HasPrefix(r.Auth, "session(") || strings.HasPrefix(r.Auth, "service token or session(") ||
			strings.HasPrefix(r.Auth, "moderation service or session(")
		operator := r.Auth == "admin" || r.Auth == "moderation service or admin"
		_, read := about[r.NSID]
		_, list := lists[r.NSID]
		_, other := others[r.NSID]
		if !own && !operator && !read && !list && !other {
			t.Errorf("%s (%s): add it to the tables of this test", r.NSID, r.Auth)
		}
	}
}

// inQuarantine are an account that is held, of whom nobody was told anything, and one that is
// not there and is called alike.
type inQuarantine struct {
	*servertest.Server
	held, nobody, other servertest.User
	blob, record        string
}

// inQuarantineTest runs a test with each engine of the database.
func inQuarantineTest(t *testing.T, test func(t *testing.T, q *inQuarantine)) {
	t.Helper()
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) { test(t, newInQuarantine(t, s)) }, approving)
}

// approving is a server with an app view on which the operator lets everybody out.
func approving(o *servertest.Options) { o.Quarantine, o.AppView = db.HeldUntilApproved, true }

func newInQuarantine(t *testing.T, s *servertest.Server) *inQuarantine {
	t.Helper()
	s.TB = t
	s.Advance(200 * time.Microsecond)
	q := &inQuarantine{Server: s, other: s.SignUp("othr")}
	s.Advance(300 * time.Microsecond) // in the same millisecond
	s.AppView.Says(servertest.Answers(400, `{"error":"InvalidRequest","message":"not known there"}`))
	q.release(q.other)
	q.held = s.SignUp("held")
	q.nobody = servertest.User{DID: syntax.DID("did:plc:" + unlike(q.held.DID)), Handle: "nope.test", Email: "nope@example.com"}
	blob := s.Accepted(s.Post("com.atproto.repo.uploadBlob", "bytes", q.held.Access)).Fields(t)["blob"].(map[string]any)
	q.blob = blob["ref"].(map[string]any)["$link"].(string)
	a := s.Accepted(s.Post("com.atproto.repo.createRecord", fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","rkey":"a",`+
		`"record":{"of":{"$type":"blob","ref":{"$link":%q},"mimeType":%q,"size":5}}}`, q.held.DID, q.blob, blob["mimeType"]), q.held.Access)).Fields(t)
	q.record = a["cid"].(string)
	return q
}

// unlike is an identifier that a DID could have, and that did has not.
func unlike(did syntax.DID) string {
	id := []byte(did.Identifier())
	slices.Reverse(id)
	return strings.Repeat("z", 4) + string(id[4:])
}

func (q *inQuarantine) release(u servertest.User) {
	q.Helper()
	q.Check(q.Server.Server.Accounts.Approve(q.Context(), u.DID))
	q.Check(q.Server.Server.Accounts.Release(q.Context()))
}

// ask asks about somebody, and forgets in the answer who that is.
func (q *inQuarantine) ask(method, ask string, u servertest.User, header ...string) servertest.Answer {
	q.Helper()
	names := []string{"DID", u.DID.String(), "HANDLE", u.Handle, "EMAIL", u.Email, "BLOB", q.blob, "RECORD", q.record}
	request := strings.NewReplacer(names...).Replace(ask)
	var a servertest.Answer
	if strings.HasPrefix(ask, "?") {
		a = q.Get(method+request, header...)
	} else {
		a = q.Post(method, request, header...)
	}
	a.Header = a.Header.Clone()
	a.Header.Del("Date")
	a.Header.Del("X-Request-Id")
	a.Body = strings.NewReplacer(u.DID.String(), "DID", u.Handle, "HANDLE").Replace(a.Body)
	return a
}

// Whatever a stranger asks about an account in quarantine, with whichever credentials, is
// answered byte for byte as about one that never was there. Its own sessions and the operator
// are answered as about any account, and after its release everybody is.
func TestQuarantineIsInvisible(t *testing.T) { inQuarantineTest(t, testQuarantineIsInvisible) }

func testQuarantineIsInvisible(t *testing.T, q *inQuarantine) {
	strangers := map[string]string{
		"nobody": "", "another account": q.other.Access, "its app": q.Scoped(q.other, token.AppPass), "refresh token": q.held.Refresh,
		"expired":  servertest.Bearer(q.Tokens.Access(q.held.DID, token.Access, q.Now().Add(-token.AccessLifetime))),
		"no token": "Bearer x", "malformed": "Bearer", "DPoP": strings.Replace(q.held.Access, "Bearer", "DPoP", 1),
		"not the operator": servertest.Basic("admin", "guess"), "password of the account": servertest.Basic(q.held.Handle, servertest.GoodPassword),
	}
	for _, method := range slices.Sorted(maps.Keys(about)) {
		r := about[method]
		q.Advance(time.Minute) // wrong passwords are forgotten
		for _, ask := range r.asks {
			for name, credentials := range strangers {
				want, got := q.ask(method, ask, q.nobody, credentials), q.ask(method, ask, q.held, credentials)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s %s, %s: (-about nobody +about the account)\n%s", method, ask, name, diff)
				}
				if got.Status == http.StatusOK && method != "com.atproto.server.requestPasswordReset" {
					t.Errorf("%s %s, %s: %s", method, ask, name, got.Body)
				}
			}
			for name, credentials := range map[string]string{
				"itself": q.held.Access, "its app": q.Scoped(q.held, token.AppPass), "its privileged app": q.Scoped(q.held, token.AppPassPrivileged),
			} {
				if r.self != "-" {
					q.expect(method, ask, name, r.self, q.ask(method, ask, q.held, credentials))
				}
			}
			if r.operator != "-" {
				q.expect(method, ask, "operator", r.operator, q.ask(method, ask, q.held, servertest.Admin))
			}
		}
	}
	for method, ask := range lists {
		for name, credentials := range map[string]string{"nobody": "", "another": q.other.Access, "itself": q.held.Access} {
			a := q.Accepted(q.ask(method, ask, q.held, credentials))
			if strings.Contains(a.Body, "DID") || strings.Contains(a.Body, `"accountCount":2`) {
				t.Errorf("%s, %s: %s", method, name, a.Body)
			}
		}
	}
	cursor := fmt.Sprintf("?cursor=%d::DID", q.Account(q.held.DID).CreatedAt.UnixMilli())
	if diff := cmp.Diff(q.ask("com.atproto.sync.listRepos", cursor, q.nobody), q.ask("com.atproto.sync.listRepos", cursor, q.held)); diff != "" {
		t.Errorf("listRepos from the account on: (-about nobody +about the account)\n%s", diff)
	}

	q.release(q.held)
	q.Advance(time.Hour)
	for _, method := range slices.Sorted(maps.Keys(about)) {
		for _, ask := range about[method].asks {
			if !strings.HasPrefix(ask, "?") {
				continue
			}
			if a := q.ask(method, ask, q.held); a.Status != http.StatusOK {
				t.Errorf("%s %s after the release: %d %s", method, ask, a.Status, a.Body)
			}
		}
	}
	for method, ask := range lists {
		a := q.Accepted(q.ask(method, ask, q.held))
		if !strings.Contains(a.Body, "DID") && !strings.Contains(a.Body, `"accountCount":2`) {
			t.Errorf("%s after the release: %s", method, a.Body)
		}
	}
}

func (q *inQuarantine) expect(method, ask, who, want string, a servertest.Answer) {
	q.Helper()
	if want == "" {
		want = "200"
	}
	if !strings.HasPrefix(a.Outcome(), want) {
		q.Errorf("%s %s, %s: %s, want %s", method, ask, who, a.Outcome(), want)
	}
}

// What would leave the quarantine is refused, all under one name.
func TestNothingLeavesQuarantine(t *testing.T) { inQuarantineTest(t, testNothingLeavesQuarantine) }

func testNothingLeavesQuarantine(t *testing.T, q *inQuarantine) {
	const message = "Account is in quarantine until its email address is confirmed, or the operator approves it where this server asks for that"
	q.AppView.Asked()
	for _, call := range []struct{ verb, method, body string }{
		{"GET", "getServiceAuth?aud=did:web:example.com", ""},
		{"POST", "com.atproto.identity.updateHandle", `{"handle":"else.test"}`},
		{"POST", "com.atproto.identity.requestPlcOperationSignature", ""},
		{"POST", "com.atproto.identity.signPlcOperation", `{"token":"x"}`},
		{"POST", "com.atproto.identity.submitPlcOperation", `{"operation":{}}`},
		{"POST", "com.atproto.identity.refreshIdentity", `{"identifier":"othr.test"}`},
		{"POST", "com.atproto.moderation.createReport", `{"reasonType":"com.atproto.moderation.defs#reasonSpam","subject":{"$type":"com.atproto.admin.defs#repoRef","did":"did:web:x.example"}}`},
		{"POST", "app.bsky.notification.registerPush", `{"serviceDid":"did:web:push.example","token":"t","platform":"ios","appId":"a"}`},
		{"POST", "app.bsky.notification.unregisterPush", `{"serviceDid":"did:web:push.example","token":"t","platform":"ios","appId":"a"}`},
		{"POST", "com.atproto.repo.importRepo", "bytes"},
		{"POST", "app.bsky.graph.muteActor", `{"actor":"did:web:x.example"}`},
	} {
		q.Refused(q.Call(call.verb, call.method, call.body, q.held.Access), 403, "AccountQuarantined", message)
	}
	q.Refused(q.Post("com.atproto.admin.updateAccountHandle", fmt.Sprintf(`{"did":%q,"handle":"else.test"}`, q.held.DID), servertest.Admin),
		403, "AccountQuarantined", message)
	if asked := q.AppView.Asked(); len(asked) > 0 {
		t.Errorf("the app view was asked %d times", len(asked))
	}
	if asked := q.PLC.Asked(); slices.ContainsFunc(asked, func(a string) bool { return strings.HasPrefix(a, "POST") }) && len(asked) > 1 {
		t.Errorf("the directory was asked %q", asked)
	}

	// Queries are passed on without a name, others' with theirs.
	for _, method := range []string{"app.bsky.feed.getTimeline", "app.bsky.unspecced.getConfig", "app.bsky.actor.getProfile?actor=othr.test"} {
		q.AppView.Says(servertest.Answers(200, `{"feed":[]}`))
		q.Get(method, q.held.Access)
		q.Get(method, q.other.Access)
		asked := q.AppView.Asked()
		if len(asked) != 2 || asked[0].Header.Get("Authorization") != "" || asked[1].Header.Get("Authorization") == "" {
			t.Errorf("%s: asked %d times, %v", method, len(asked), asked)
		}
	}
	chat := q.NewUpstream("did:web:chat.example", "bsky_chat")
	q.Accepted(q.Get("chat.bsky.convo.listConvos", q.held.Access, "Atproto-Proxy: did:web:chat.example#bsky_chat"))
	if asked := chat.Asked(); len(asked) != 1 || asked[0].Header.Get("Authorization") != "" {
		t.Errorf("chat was asked %v", asked)
	}

	q.release(q.held)
	q.Accepted(q.Get("getServiceAuth?aud=did:web:example.com", q.held.Access))
	q.Accepted(q.Post("com.atproto.identity.updateHandle", `{"handle":"else.test"}`, q.held.Access))
}

// Of who used a code its owner does not hear while the account is in quarantine, but that it
// is used; codes of its own the account earns later.
func TestInvitesInQuarantine(t *testing.T) {
	s := servertest.New(t, func(o *servertest.Options) { o.Quarantine, o.InviteRequired = db.HeldUntilApproved, true })
	s.Invite("first", 1, "admin")
	owner := s.SignUpWith("alice", "first")
	s.Invite("second", 1, owner.DID.String())
	guest := s.SignUpWith("bob", "second")
	list := func() string {
		return s.Accepted(s.Get("getAccountInviteCodes?includeUsed=true", owner.Access)).Body
	}
	if body := list(); !strings.Contains(body, `"second"`) || strings.Contains(body, guest.DID.String()) {
		t.Errorf("codes of the owner: %s", body)
	}
	s.Check(s.Server.Accounts.Approve(s.Context(), guest.DID))
	s.Check(s.Server.Accounts.Release(s.Context()))
	if body := list(); !strings.Contains(body, guest.DID.String()) {
		t.Errorf("codes of the owner after the release: %s", body)
	}
	if a := s.Get("getAccountInviteCodes?includeUsed=false&createAvailable=false", owner.Access); strings.Contains(a.Body, `"second"`) {
		t.Errorf("codes with uses left: %s", a.Body)
	}
}

// An account in quarantine may have 50 records, 10 MB of blobs and record values, and cause 5
// mails a day, of which its apps have 2.
func TestBoundsInQuarantine(t *testing.T) { servertest.Engines(t, testBoundsInQuarantine, approving) }

func testBoundsInQuarantine(t *testing.T, s *servertest.Server) {
	s.TB = t
	alice := s.SignUp("alice")
	write := func(n int) servertest.Answer {
		return s.Post("com.atproto.repo.createRecord", fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","rkey":"n%d","record":{}}`, alice.DID, n), alice.Access)
	}
	for n := range 50 {
		s.Accepted(write(n))
	}
	s.Refused(write(50), 400, "InvalidRequest", "Account has as many records as this server allows")
	s.Accepted(s.Post("com.atproto.repo.deleteRecord", fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","rkey":"n1"}`, alice.DID), alice.Access))
	s.Accepted(write(1))

	upload := func(fill string, size int) servertest.Answer {
		return s.Post("com.atproto.repo.uploadBlob", strings.Repeat(fill, size), alice.Access)
	}
	s.Accepted(upload("a", 5_000_000))
	s.Accepted(upload("b", 4_500_000))
	s.Refused(upload("c", 600_000), 400, "InvalidRequest", "The blobs of an account may have 10000000 bytes together, and this one is too much")
	large := fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","rkey":"n2","record":{"text":%%q}}`, alice.DID)
	s.Accepted(s.Post("com.atproto.repo.putRecord", fmt.Sprintf(large, strings.Repeat("x", 400_000)), alice.Access))
	s.Refused(s.Post("com.atproto.repo.putRecord", fmt.Sprintf(large, strings.Repeat("x", 600_000)), alice.Access),
		400, "InvalidRequest", "Account has as many records as this server allows")
	s.Refused(upload("d", 100_000), 400, "InvalidRequest", "The blobs of an account may have 10000000 bytes together, and this one is too much")

	app := s.Scoped(alice, token.AppPass)
	for range 2 {
		s.Accepted(s.Post("requestEmailConfirmation", "", app))
	}
	if a := s.Post("requestEmailConfirmation", "", app); a.Status != 429 || a.Header.Get("Retry-After") == "" {
		t.Errorf("third mail of an app: %d %s", a.Status, a.Body)
	}
	for range 2 { // and one was sent at sign-up
		s.Accepted(s.Post("requestEmailConfirmation", "", alice.Access))
	}
	if a := s.Post("requestAccountDelete", "", alice.Access); a.Status != 429 {
		t.Errorf("sixth mail: %d %s", a.Status, a.Body)
	}
	s.Advance(24 * time.Hour)
	s.Accepted(s.Post("requestAccountDelete", "", s.SignIn(alice, "").Access))

	s.Check(s.Server.Accounts.Approve(s.Context(), alice.DID))
	s.Check(s.Server.Accounts.Release(s.Context()))
	alice = s.SignIn(alice, "")
	s.Accepted(write(51))
	s.Accepted(upload("e", 600_000))
}

// The queue says how many came before, and how long it takes once that is up to the server.
func TestSignUpQueue(t *testing.T) {
	s := servertest.New(t, approving)
	const method = "com.atproto.temp.checkSignupQueue"
	alice := s.SignUp("alice")
	s.Advance(time.Second)
	bob := s.SignUp("bob")
	for u, want := range map[servertest.User]string{
		alice: `{"activated":false,"placeInQueue":0}`, bob: `{"activated":false,"placeInQueue":1}`,
	} {
		if a := s.Accepted(s.Get(method, u.Access)); a.Body != want {
			t.Errorf("%s: %s, want %s", u.Handle, a.Body, want)
		}
	}
	s.Check(s.Server.Accounts.Approve(s.Context(), bob.DID))
	if a := s.Accepted(s.Get(method, bob.Access)); a.Body != `{"activated":false,"placeInQueue":1,"estimatedTimeMs":240000}` {
		t.Errorf("approved: %s", a.Body)
	}
	s.Check(s.Server.Accounts.Release(s.Context()))
	if a := s.Accepted(s.Get(method, bob.Access)); a.Body != `{"activated":true}` {
		t.Errorf("released: %s", a.Body)
	}
}

// A DID that was brought is not in quarantine, but while the operator approves accounts it is
// not activated before that.
func TestBroughtAccountWaitsForApproval(t *testing.T) {
	s := servertest.New(t, approving)
	const did = "did:web:moved.example"
	key := s.NewIdentity(did)
	in := fmt.Sprintf(`{"handle":"moved.test","email":"m@example.com","password":%q,"did":%q}`, servertest.GoodPassword, did)
	a := s.Accepted(s.Post("createAccount", in, s.ServiceToken(did, key, "com.atproto.server.createAccount", time.Minute)))
	access := servertest.Bearer(a.Text(t, "accessJwt"))
	const message = "Account is in quarantine until its email address is confirmed, or the operator approves it where this server asks for that"
	s.Refused(s.Post("activateAccount", "", access), 403, "AccountQuarantined", message)
	s.Empty(s.Post("deactivateAccount", `{}`, access))
	s.Refused(s.Post("activateAccount", "", access), 403, "AccountQuarantined", message)
	s.Check(s.Server.Accounts.Approve(s.Context(), did))
	if a := s.Post("activateAccount", "", access); a.Status != 400 || strings.Contains(a.Body, "Quarantine") {
		t.Errorf("after the approval: %d %s", a.Status, a.Body) // its document does not name this server
	}
}

// The owner deletes an account that is in quarantine, signed in or with the code of the letter
// alone; without either it is not there.
func TestDeleteAccountInQuarantine(t *testing.T) {
	s := servertest.New(t, approving)
	for name, signedIn := range map[string]bool{"alice": true, "bob": false} {
		u := s.SignUp(name)
		s.Empty(s.Post("requestAccountDelete", "", u.Access))
		in := func(password, code string) string {
			return fmt.Sprintf(`{"did":%q,"password":%q,"token":%q}`, u.DID, password, code)
		}
		code, credentials := s.Code("delete_account"), ""
		s.Refused(s.Post("deleteAccount", in(servertest.GoodPassword, "ABCDE-FGHIJ")), 400, "InvalidRequest", "account not found")
		if signedIn {
			credentials = u.Access
			s.Refused(s.Post("deleteAccount", in(servertest.GoodPassword, "ABCDE-FGHIJ"), credentials), 400, "InvalidToken", "Token is invalid")
		}
		s.Refused(s.Post("deleteAccount", in("a wrong one", code), credentials), 401, "AuthenticationRequired", "Invalid did or password")
		s.Empty(s.Post("deleteAccount", in(servertest.GoodPassword, code), credentials))
		s.Refused(s.Post("deleteAccount", in(servertest.GoodPassword, code)), 400, "InvalidRequest", "account not found")
	}
}

// A held account's sessions read where credentials decide, and caches are told so; about
// others nobody's credentials are looked at.
func TestCredentialsAreLookedAtForQuarantineAlone(t *testing.T) {
	q := newInQuarantine(t, servertest.New(t, approving))
	const ask = "?repo=DID"
	if a := q.ask("com.atproto.repo.describeRepo", ask, q.held, q.held.Access); a.Header.Get("Cache-Control") != "private" || !strings.Contains(a.Header.Get("Vary"), "Authorization") {
		t.Errorf("its own: %v", a.Header)
	}
	plain := q.ask("com.atproto.repo.describeRepo", ask, q.other)
	for _, credentials := range []string{q.held.Access, q.other.Access, "Bearer x", servertest.Basic("admin", "guess"), servertest.Admin, "Digest x"} {
		if diff := cmp.Diff(plain, q.ask("com.atproto.repo.describeRepo", ask, q.other, credentials)); diff != "" {
			t.Errorf("%s: (-without +with credentials)\n%s", credentials, diff)
		}
	}
	q.Advance(token.AccessLifetime)
	a := q.ask("com.atproto.repo.describeRepo", ask, q.held, q.held.Access)
	q.Refused(a, 400, "RepoNotFound", "Could not find repo for DID: DID")
}
