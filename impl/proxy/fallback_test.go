package proxy_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"portico/impl/account/token"
	"portico/impl/servertest"
)

// A request is refused for the first of these reasons: its name, its verb, its method, its
// service, its caller.
func TestOrder(t *testing.T) {
	w := newWorld(t)
	const bad = "Atproto-Proxy: #"
	for _, tt := range []struct {
		name, verb, method string
		header             []string
		status             int
		error, message     string
	}{
		{"neither name nor verb", "PUT", "a..b", nil, 400, "InvalidRequest", "invalid xrpc path"},
		{"a letter", "GET", "a.b/", nil, 401, "AuthMissing", "Authentication Required"},
		{"verb", "PUT", query, []string{bad}, 400, "InvalidRequest", "XRPC requests only supports GET and POST"},
		{"DELETE", "DELETE", query, nil, 400, "InvalidRequest", "XRPC requests only supports GET and POST"},
		{"service, before the caller", "GET", query, []string{bad, "Basic !"}, 400, "InvalidRequest", "no did specified in proxy header"},
		{"caller", "GET", query, nil, 401, "AuthMissing", "Authentication Required"},
		{"caller, before what apps may not", "GET", "chat.bsky.convo.getLog", nil, 401, "AuthMissing", "Authentication Required"},
	} {
		w.sub(t, tt.name, func(t *testing.T) {
			w.Refused(w.Call(tt.verb, tt.method, "", tt.header...), tt.status, tt.error, tt.message)
		})
	}
	nobody(t, w.AppView)
}

// What is served here is not passed on, whatever the header says.
func TestServedHere(t *testing.T) {
	w := newWorld(t)
	for _, method := range []string{"com.atproto.server.describeServer", "com.atproto.server.getSession", "COM.atproto.server.getsession/"} {
		w.Accepted(w.Get(method, w.alice.Access, "Atproto-Proxy: did:web:appview.example#bsky_appview"))
	}
	w.Refused(w.Post("com.atproto.server.getSession", "{}", w.alice.Access), 400, "InvalidRequest", "Incorrect HTTP method (POST) expected GET")
	nobody(t, w.AppView)
}

// Methods that nobody serves here are passed on with any verb: which is theirs knows their
// service.
func TestAnyVerb(t *testing.T) {
	w := newWorld(t)
	for _, verb := range []string{"GET", "HEAD", "POST"} {
		for _, nsid := range []string{query, procedure, "com.example.unheardOf"} {
			w.Accepted(w.Call(verb, nsid, "", w.alice.Access))
			if r := one(t, w.AppView); r.Method != verb || r.RequestURI != "/xrpc/"+nsid {
				t.Errorf("%s %s became %s %s", verb, nsid, r.Method, r.RequestURI)
			}
		}
	}
}

// Contract §9 row 7: an event stream is not passed on as a request with one answer.
func TestEventStreamsAreNotPassedOn(t *testing.T) {
	w := newWorld(t)
	for _, nsid := range []string{"com.atproto.label.subscribeLabels", "chat.bsky.moderation.subscribeModEvents"} {
		for _, verb := range []string{"GET", "POST"} {
			w.Refused(w.Call(verb, nsid, "", w.alice.Access, "Atproto-Proxy: did:web:appview.example#bsky_appview"), 400, "InvalidRequest",
				nsid+" is an event stream, which is not passed on to other services")
		}
	}
	w.Refused(w.Post("com.atproto.sync.subscribeRepos", "", w.alice.Access), 400, "InvalidRequest",
		"com.atproto.sync.subscribeRepos is an event stream, which is not passed on to other services")
	nobody(t, w.AppView)
}

// Contract §9 row 8: an account that was taken down has nothing passed on, also with a token
// from before. One that its owner has deactivated has.
func TestStatusOfTheAccount(t *testing.T) {
	w := newWorld(t)
	w.Deactivate(w.alice.DID)
	w.Accepted(w.Get(query, w.alice.Access))
	one(t, w.AppView)
	w.TakeDown(w.alice.DID)
	w.Refused(w.Get(query, w.alice.Access), 401, "AccountTakedown", "Account has been taken down")
	w.Remove(w.alice.DID)
	w.Refused(w.Get(query, w.alice.Access), 403, "AccountNotFound", "Account not found")
	nobody(t, w.AppView)
}

// An account whose sessions were ended has nothing passed on with their tokens.
func TestSignedOut(t *testing.T) {
	w := newWorld(t)
	w.Advance(time.Second)
	w.Empty(w.Post("com.atproto.admin.updateAccountPassword", fmt.Sprintf(`{"did":%q,"password":"another password"}`, w.alice.DID), servertest.Admin))
	w.Refused(w.Get(query, w.alice.Access), 400, "ExpiredToken", "Token has expired")
	nobody(t, w.AppView)
}

// Contract §9 row 4: app passwords that are not privileged have nothing of chat passed on,
// also what is new in it; DESIGN §10: none has anything passed on that is for moderators.
func TestAppPasswords(t *testing.T) {
	w := newWorld(t)
	chat := w.NewUpstream("did:web:chat.example", "bsky_chat")
	const header = "Atproto-Proxy: did:web:chat.example#bsky_chat"
	ordinary, privileged := w.Scoped(w.alice, token.AppPass), w.Scoped(w.alice, token.AppPassPrivileged)
	for _, tt := range []struct{ method, credential, refused string }{
		{"chat.bsky.convo.getLog", w.alice.Access, ""},
		{"chat.bsky.convo.getLog", privileged, ""},
		{"chat.bsky.convo.getLog", ordinary, "Bad token method"},
		{"chat.bsky.convo.listConvoRequests", privileged, ""},
		{"chat.bsky.convo.listConvoRequests", ordinary, "Bad token method"},
		{"CHAT.bsky.still.toCome", ordinary, "Bad token method"},
		{"com.atproto.admin.stillToCome", w.alice.Access, ""},
		{"com.atproto.admin.stillToCome", privileged, "Bad token method"},
		{"com.atproto.Admin.stillToCome", ordinary, "Bad token method"},
		{query, ordinary, ""},
		{"chat.bskyx.y", ordinary, ""},
	} {
		a := w.Get(tt.method, tt.credential, header)
		if tt.refused != "" {
			w.Refused(a, 400, "InvalidToken", tt.refused)
			nobody(t, chat)
			continue
		}
		w.Accepted(a)
		one(t, chat)
	}
}

// Contract §9 row 5: chat goes to the app view unless the client says where it is, and that
// it does is in the log.
func TestChatWithoutHeader(t *testing.T) {
	w := newWorld(t)
	w.Accepted(w.Get("chat.bsky.convo.listConvos", w.alice.Access))
	one(t, w.AppView)
	if !strings.Contains(w.Logged.String(), "level=DEBUG msg=\"chat without atproto-proxy goes to the app view, which does not serve it\" method=chat.bsky.convo.listConvos") {
		t.Error("the log does not say it")
	}
}

// Methods with which the owner of an account is known to this server go nowhere, and are
// refused before anybody is asked who they are.
func TestProtectedMethods(t *testing.T) {
	w := newWorld(t)
	for nsid := range strings.FieldsSeq(`
		com.atproto.admin.sendEmail com.atproto.identity.requestPlcOperationSignature com.atproto.identity.signPlcOperation
		com.atproto.identity.updateHandle com.atproto.server.activateAccount com.atproto.server.confirmEmail
		com.atproto.server.createAppPassword com.atproto.server.deactivateAccount com.atproto.server.getAccountInviteCodes
		com.atproto.server.getSession com.atproto.server.listAppPasswords com.atproto.server.requestAccountDelete
		com.atproto.server.requestEmailConfirmation com.atproto.server.requestEmailUpdate com.atproto.server.revokeAppPassword
		com.atproto.server.updateEmail`) {
		for _, verb := range []string{http.MethodGet, http.MethodPost} {
			w.Call(verb, nsid, "", "Atproto-Proxy: did:web:appview.example#bsky_appview")
			w.Call(verb, strings.ToUpper(nsid)+"/", "", "Atproto-Proxy: did:web:appview.example#bsky_appview")
		}
	}
	nobody(t, w.AppView)
}

// The body of a stranger is not waited for.
func TestBodyIsNotReadBeforeTheLogin(t *testing.T) {
	w := newWorld(t)
	body := make(unread)
	defer close(body)
	r, err := http.NewRequestWithContext(t.Context(), "POST", w.URL+"/xrpc/"+procedure, body)
	w.Check(err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Expect", "100-continue")
	response, err := (&http.Transport{ExpectContinueTimeout: 1 << 40}).RoundTrip(r)
	w.Check(err)
	response.Body.Close()
	if response.StatusCode != 401 {
		t.Errorf("status %d", response.StatusCode)
	}
	nobody(t, w.AppView)
}

// unread is a body that nobody may read.
type unread chan struct{}

func (u unread) Read([]byte) (int, error) {
	<-u
	return 0, http.ErrAbortHandler
}

// Whoever is signed in has what is not served here passed on, and nobody else.
func TestAccess(t *testing.T) {
	var b strings.Builder
	b.WriteString("# What becomes of requests for methods that are not served here, for each credential.\n")
	all := servertest.Credentials("none", "malformed header", "three parts", "unknown scheme", "DPoP", "Basic admin", "Basic, no base64",
		"access", "access, app password", "access, privileged app password", "access, takendown", "access, signupQueued", "access, refresh scope",
		"access, expired", "access, foreign key", "refresh", "refresh, expired", "moderation service", "service of a stranger", "service of an account here")
	all = append(all, servertest.AppCredentials()...)
	w := newWorld(t, func(o *servertest.Options) { o.Reports = true })
	states := []struct {
		name  string
		enter func(servertest.User)
	}{
		{"active", func(servertest.User) {}},
		{"deactivated", func(u servertest.User) { w.Deactivate(u.DID) }},
		{"taken down", func(u servertest.User) { w.TakeDown(u.DID) }},
		{"deleted", func(u servertest.User) { w.Remove(u.DID) }},
	}
	users := make([]servertest.User, len(states))
	for i, state := range states {
		users[i] = w.SignUp(fmt.Sprint("user", i))
		w.Appear(users[i], query)
		state.enter(users[i])
	}
	for _, nsid := range []string{query, "chat.bsky.convo.getLog", "tools.ozone.moderation.queryEvents", "com.atproto.admin.unheardOf", "com.example.unheardOf"} {
		var outcomes servertest.Outcomes
		for _, c := range all {
			var by servertest.States
			for i, state := range states {
				a := w.Get(nsid, c.Present(w.Server, users[i], nsid))
				by.Add(state.name, a.Outcome())
			}
			outcomes.Add(by.String(), c.Name)
		}
		fmt.Fprintf(&b, "\n%s\n", nsid)
		for outcome, names := range outcomes.All() {
			fmt.Fprintf(&b, "  %s\n", outcome)
			for _, name := range names {
				fmt.Fprintf(&b, "      [%s]\n", name)
			}
		}
	}
	servertest.Golden(t, "access.golden", b.String())
}
