package server_test

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/api/xrpc/xrpctest"
	"portico/db"
	"portico/impl/auth"
	"portico/impl/code"
	"portico/impl/server"
	"portico/impl/serviceauth"
	"portico/impl/token"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with a file in testdata, or writes it there.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s (-file +now; after a review of every line: go test ./impl/server -update)\n%s", path, diff)
	}
}

// routes are the methods of com.atproto.server as they are served.
func routes(t *testing.T) []xrpc.Route {
	t.Helper()
	s := xrpc.NewServer(echo.New(), xrpc.Options{})
	if err := api.Register(s, &server.Service{}, server.Policy{Gate: &auth.Gate{}}); err != nil {
		t.Fatal(err)
	}
	return s.Methods()
}

// Who may call what, how often and with how much shows in one file.
func TestPolicies(t *testing.T) { golden(t, "policies.golden", xrpctest.Access(routes(t))) }

// A subject is the account that a request is about, in one of the states of an
// account, with the code that was mailed to it for any purpose.
type subject struct {
	user
	code string
	key  *atcrypto.PrivateKeyK256 // signs its service tokens
}

// The states of an account. Every subject was active once, and got its tokens then.
var states = []struct {
	name  string
	enter func(*fixture, user)
}{
	{"active", func(*fixture, user) {}},
	{"deactivated", func(f *fixture, u user) { f.deactivate(u) }},
	{"taken down", func(f *fixture, u user) { f.takeDown(u.did) }},
	{"deleted", func(f *fixture, u user) { f.remove(u.did) }},
}

// An access is the whole of who calls: how, and on behalf of which DID.
type access struct {
	header string     // Authorization; "" for none
	did    syntax.DID // that the body of createAccount names; "" for none
}

// world makes subjects and credentials.
type world struct {
	*fixture
	made     int
	stranger syntax.DID // somebody without an account here
	key      *atcrypto.PrivateKeyK256
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{fixture: newFixture(t), stranger: "did:web:stranger.example"}
	w.key = w.internet.identity(t, w.stranger)
	return w
}

// fresh is a name that nobody has.
func (w *world) fresh() string {
	w.made++
	return fmt.Sprint("user", w.made)
}

// subject makes an account with a confirmed address and enters a state.
func (w *world) subject(enter func(*fixture, user)) *subject {
	w.Helper()
	s := &subject{user: w.signUp(w.fresh())}
	s.key = w.internet.identity(w, s.did)
	var err error
	if s.code, err = code.New(rand.Reader); err != nil {
		w.Fatal(err)
	}
	w.setAccount(s.did, func(a *db.Account) { a.EmailConfirmedAt = new(w.clock.Now()) })
	err = w.db.Write(w.Context(), func(tx *db.Tx) error {
		for _, purpose := range []string{"confirm_email", "update_email", "reset_password", "delete_account"} {
			did := s.did.String()
			if purpose == "reset_password" {
				did = "" // such a code is found without an account
			}
			mac := w.service.Sessions.Keys.MAC("email-code", []byte(purpose+"\x00"+did+"\x00"+s.code))
			err := tx.InsertCode(w.Context(), db.EmailCode{
				Purpose: purpose, DID: s.did, Email: s.email, MAC: mac[:],
				CreatedAt: w.clock.Now(), ExpiresAt: w.clock.Now().Add(time.Minute),
			}, 3)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
	enter(w.fixture, s.user)
	return s
}

// issuer makes tokens as the server does, or as somebody would who has not its
// secret.
func (w *world) issuer(secret string) *token.Issuer {
	i := *w.service.Sessions.Tokens
	i.Secret = []byte(cmp.Or(secret, string(i.Secret)))
	return &i
}

// serviceJWT is a service token that issuer signs with key.
func (w *world) serviceJWT(issuer syntax.DID, key atcrypto.PrivateKey, aud, lxm string, life time.Duration) string {
	w.Helper()
	now := w.clock.Now()
	text, err := serviceauth.Issue(serviceauth.Request{
		Issuer: issuer, Audience: aud, Method: lxm, IssuedAt: now, Expires: now.Add(life).Unix(),
	}, key, rand.Reader)
	if err != nil {
		w.Fatal(err)
	}
	return "Bearer " + text
}

// The credentials that there are. Each is presented to every method, on behalf of
// an account in every state.
var credentials = []struct {
	name    string
	present func(w *world, s *subject, nsid string) access
}{
	{"none", func(*world, *subject, string) access { return access{} }},
	{"malformed header", plain("Bearer")},
	{"unknown scheme", plain("Digest abc")},
	{"DPoP", func(_ *world, s *subject, _ string) access { return access{header: "DPoP " + s.access} }},
	{"Basic admin", plain(basic("admin", adminPassword))},
	{"Basic admin, wrong password", plain(basic("admin", "guess"))},
	{"Basic, the account's password", func(_ *world, s *subject, _ string) access {
		return access{header: basic(s.handle, goodPassword)}
	}},
	{"access", func(_ *world, s *subject, _ string) access { return access{header: "Bearer " + s.access} }},
	{"access, app password", scoped(token.AppPass)},
	{"access, privileged app password", scoped(token.AppPassPrivileged)},
	{"access, takendown", scoped(token.Takendown)},
	{"access, signupQueued", scoped(token.SignupQueued)},
	{"access, expired", func(w *world, s *subject, _ string) access {
		return access{header: "Bearer " + w.issuer("").Access(s.did, token.Access, w.clock.Now().Add(-token.AccessLifetime))}
	}},
	{"access, foreign key", func(w *world, s *subject, _ string) access {
		return access{header: "Bearer " + w.issuer("the secret of somebody else").Access(s.did, token.Access, w.clock.Now())}
	}},
	{"access, refresh scope", scoped(token.Refresh)},
	{"refresh", func(_ *world, s *subject, _ string) access { return access{header: "Bearer " + s.refresh} }},
	{"refresh, expired", func(w *world, s *subject, _ string) access {
		return access{header: "Bearer " + w.issuer("").Refresh(s.did, "an id", w.clock.Now().Add(-token.RefreshLifetime))}
	}},
	{"refresh, foreign key", func(w *world, s *subject, _ string) access {
		return access{header: "Bearer " + w.issuer("the secret of somebody else").Refresh(s.did, "an id", w.clock.Now())}
	}},
	{"service, account here", func(w *world, s *subject, nsid string) access {
		return access{w.serviceJWT(s.did, s.key, "did:web:pds.test", nsid, time.Minute), s.did}
	}},
	{"service, DID from elsewhere", func(w *world, _ *subject, nsid string) access {
		did := syntax.DID("did:web:" + w.fresh() + ".example")
		return access{w.serviceJWT(did, w.internet.identity(w, did), "did:web:pds.test", nsid, time.Minute), did}
	}},
	{"service, other DID", func(w *world, s *subject, nsid string) access {
		return access{w.serviceJWT(w.stranger, w.key, "did:web:pds.test", nsid, time.Minute), s.did}
	}},
	{"service, foreign key", func(w *world, s *subject, nsid string) access {
		return access{w.serviceJWT(s.did, w.key, "did:web:pds.test", nsid, time.Minute), s.did}
	}},
	{"service, wrong aud", func(w *world, s *subject, nsid string) access {
		return access{w.serviceJWT(w.stranger, w.key, "did:web:elsewhere.test", nsid, time.Minute), w.stranger}
	}},
	{"service, wrong lxm", func(w *world, _ *subject, _ string) access {
		return access{w.serviceJWT(w.stranger, w.key, "did:web:pds.test", "com.atproto.sync.getRepo", time.Minute), w.stranger}
	}},
	{"service, no lxm", func(w *world, s *subject, _ string) access {
		return access{w.serviceJWT(w.stranger, w.key, "did:web:pds.test", "", time.Minute), w.stranger}
	}},
	{"service, expired", func(w *world, s *subject, nsid string) access {
		return access{w.serviceJWT(w.stranger, w.key, "did:web:pds.test", nsid, -time.Minute), w.stranger}
	}},
}

func plain(header string) func(*world, *subject, string) access {
	return func(*world, *subject, string) access { return access{header: header} }
}

func basic(name, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
}

func scoped(scope token.Scope) func(*world, *subject, string) access {
	return func(w *world, s *subject, _ string) access {
		return access{header: "Bearer " + w.issuer("").Access(s.did, scope, w.clock.Now())}
	}
}

// A call is a method, asked for one of the things that it does.
type call struct {
	xrpc.Route
	variant string // "" for what it usually does
}

func (c call) String() string {
	if c.variant == "" {
		return c.NSID
	}
	return c.NSID + ", " + c.variant
}

// calls are all methods, and again those for which more than the method decides
// who may call.
func calls(t *testing.T) []call {
	t.Helper()
	var all []call
	for _, r := range routes(t) {
		all = append(all, call{Route: r})
		switch r.NSID {
		case "com.atproto.server.createSession":
			all = append(all, call{r, "allowTakendown"})
		case "com.atproto.server.getServiceAuth":
			all = append(all, call{r, "lxm createAccount"}, call{r, "lxm getSession"}, call{r, "no lxm"})
		}
	}
	return all
}

// request makes a call about s in the best of ways: everything but the credential
// is right.
func (w *world) request(r call, s *subject, who access) answer {
	w.Helper()
	method := strings.TrimPrefix(r.NSID, "com.atproto.server.")
	query := ""
	type object map[string]any
	var input object // nil: no body
	switch method {
	case "createAccount":
		name := w.fresh()
		input = object{"handle": name + ".test", "email": name + "@example.com", "password": goodPassword}
		if who.did != "" {
			input["did"] = who.did
		}
	case "createSession":
		input = object{"identifier": s.handle, "password": goodPassword, "allowTakendown": r.variant == "allowTakendown"}
	case "createAppPassword", "revokeAppPassword":
		input = object{"name": "phone"}
	case "createInviteCode":
		input = object{"useCount": 1}
	case "createInviteCodes":
		input = object{"codeCount": 1, "useCount": 1}
	case "confirmEmail":
		input = object{"email": s.email, "token": s.code}
	case "updateEmail":
		input = object{"email": w.fresh() + "@example.com", "token": s.code}
	case "requestPasswordReset":
		input = object{"email": s.email}
	case "resetPassword":
		input = object{"token": s.code, "password": "another good password"}
	case "deleteAccount":
		input = object{"did": s.did, "password": goodPassword, "token": s.code}
	case "deactivateAccount", "reserveSigningKey":
		input = object{}
	case "getServiceAuth":
		query = "?aud=did:web:elsewhere.test" + map[string]string{
			"": "&lxm=com.atproto.repo.uploadBlob", "no lxm": "",
			"lxm createAccount": "&lxm=com.atproto.server.createAccount", "lxm getSession": "&lxm=com.atproto.server.getSession",
		}[r.variant]
	case "activateAccount", "checkAccountStatus", "deleteSession", "describeServer", "getAccountInviteCodes", "getSession",
		"listAppPasswords", "refreshSession", "requestAccountDelete", "requestEmailConfirmation", "requestEmailUpdate":
	default:
		w.Fatalf("%s: this test has no request for it", method)
	}
	body := ""
	if input != nil {
		b, err := json.Marshal(input)
		if err != nil {
			w.Fatal(err)
		}
		body = string(b)
	}
	verb := http.MethodPost
	if r.Kind == xrpc.Query {
		verb = http.MethodGet
	}
	if who.header == "" {
		return w.call(verb, method+query, body)
	}
	return w.call(verb, method+query, body, "Authorization", who.header)
}

// outcome is a as the golden table shows it.
func (w *world) outcome(a answer, s *subject) string {
	w.Helper()
	if a.status == http.StatusOK {
		return "200"
	}
	name, message := a.text(w, "error"), a.text(w, "message")
	message = strings.NewReplacer(s.did.String(), "DID", s.handle, "HANDLE").Replace(message)
	return fmt.Sprintf("%d %s %q", a.status, name, message)
}

// changes tells whether a method that succeeded leaves the account other than it
// was, so that the next request needs another one.
func changes(r call) bool {
	switch strings.TrimPrefix(r.NSID, "com.atproto.server.") {
	case "createInviteCode", "createInviteCodes", "createSession", "reserveSigningKey":
		return false
	}
	return r.Kind == xrpc.Procedure
}

// wrapped puts names into indented lines of a readable length.
func wrapped(names []string) string {
	var b strings.Builder
	line := ""
	for _, name := range names {
		if line != "" && len(line)+len(name) > 100 {
			b.WriteString("      " + line + "\n")
			line = ""
		}
		line += "[" + name + "] "
	}
	b.WriteString("      " + line + "\n")
	return strings.ReplaceAll(b.String(), " \n", "\n")
}

// Every method is called with every credential on behalf of an account in every
// state. What comes of it is a table, to be reviewed line by line.
func TestAccess(t *testing.T) {
	w := newWorld(t)
	var table strings.Builder
	table.WriteString("# What each method answers to each credential, everything else being right. The account that\n" +
		"# credential and body are about is active, deactivated, taken down or deleted.\n")
	for _, r := range calls(t) {
		subjects := make([]*subject, len(states))
		var outcomes []string            // in order of their first credential
		holders := map[string][]string{} // of an outcome
		for _, c := range credentials {
			var parts []string // "state, state: answer", neighbours of one answer together
			last := ""
			for i, state := range states {
				if subjects[i] == nil {
					subjects[i] = w.subject(state.enter)
				}
				s := subjects[i]
				a := w.request(r, s, c.present(w, s, r.NSID))
				if a.status >= 500 || a.status == http.StatusTooManyRequests {
					t.Errorf("%s, %s, %s: %d %s", r, c.name, state.name, a.status, a.body)
				}
				if a.status == http.StatusOK && changes(r) {
					subjects[i] = nil
				}
				outcome := w.outcome(a, s)
				if outcome == last {
					parts[len(parts)-1] = strings.Replace(parts[len(parts)-1], ": ", ", "+state.name+": ", 1)
				} else {
					parts = append(parts, state.name+": "+outcome)
				}
				last = outcome
			}
			line := strings.Join(parts, "\n  ")
			if len(parts) == 1 {
				line = last
			}
			if holders[line] == nil {
				outcomes = append(outcomes, line)
			}
			holders[line] = append(holders[line], c.name)
		}
		fmt.Fprintf(&table, "\n%s\n", r)
		for _, outcome := range outcomes {
			fmt.Fprintf(&table, "  %s\n", outcome)
			if len(outcomes) == 1 {
				holders[outcome] = []string{"whatever the credential"}
			}
			table.WriteString(wrapped(holders[outcome]))
		}
	}
	golden(t, "access.golden", table.String())
}

// Whoever shows nothing is let in nowhere but where the list of policies says so.
func TestNothingIsOpenByAccident(t *testing.T) {
	list, err := os.ReadFile(filepath.Join("testdata", "policies.golden"))
	if err != nil {
		t.Fatal(err)
	}
	who := map[string]string{}
	for line := range strings.Lines(string(list)) {
		_, line, _ = strings.Cut(strings.TrimSpace(line), " ")
		nsid, policy, _ := strings.Cut(line, ": ")
		who[nsid], _, _ = strings.Cut(policy, ";")
	}
	w := newWorld(t)
	all := routes(t)
	if len(all) != 25 || len(who) != 25 {
		t.Errorf("%d methods, %d of them in the list; want 25", len(all), len(who))
	}
	for _, r := range all {
		for _, header := range []string{"", "Bearer", "Bearer ", "Basic Og==", "Bearer e30.e30.", "Bearer null"} {
			a := w.request(call{Route: r}, w.subject(states[0].enter), access{header: header})
			want := who[r.NSID] == "public" || who[r.NSID] == "service token or anonymous" && header == ""
			switch in := a.status == http.StatusOK; {
			case want && !in:
				t.Errorf("%s is open, but answers %q with %d %s", r.NSID, header, a.status, a.body)
			case !want && in:
				t.Errorf("%s lets %q in", r.NSID, header)
			case !want && a.status != http.StatusUnauthorized && a.status != http.StatusBadRequest:
				t.Errorf("%s answers %q with %d %s", r.NSID, header, a.status, a.body)
			}
		}
	}
}
