package server_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/api/xrpc"
	"portico/api/xrpc/xrpctest"
	"portico/db"
	"portico/impl/mail/code"
	"portico/impl/servertest"
)

// Who may call what, how often and with how much shows in one file.
func TestPolicies(t *testing.T) {
	servertest.Golden(t, "policies.golden", xrpctest.Access(newFixture(t).Routes()))
}

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
	{"taken down", func(f *fixture, u user) { f.TakeDown(u.DID) }},
	{"deleted", func(f *fixture, u user) { f.Remove(u.DID) }},
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
	w.key = w.NewIdentity(w.stranger)
	return w
}

// fresh is a name that nobody has.
func (w *world) fresh() string {
	w.made++
	return fmt.Sprint("user", w.made)
}

// subject makes an account with a confirmed address and enters a state. A method is to be
// called by apps of it.
func (w *world) subject(nsid string, enter func(*fixture, user)) *subject {
	w.Helper()
	s := &subject{user: w.SignUp(w.fresh())}
	s.key = w.NewIdentity(s.DID)
	var err error
	if s.code, err = code.New(rand.Reader); err != nil {
		w.Fatal(err)
	}
	w.SetAccount(s.DID, func(a *db.Account) { a.EmailConfirmedAt = new(w.Now()) })
	w.Write(func(tx *db.Tx) error {
		for _, purpose := range []string{"confirm_email", "update_email", "reset_password", "delete_account"} {
			did := s.DID.String()
			if purpose == "reset_password" {
				did = "" // such a code is found without an account
			}
			mac := w.Keys.MAC("email-code", []byte(purpose+"\x00"+did+"\x00"+s.code))
			err := tx.InsertCode(w.Context(), db.EmailCode{
				Purpose: purpose, DID: s.DID, Email: s.Email, MAC: mac[:],
				CreatedAt: w.Now(), ExpiresAt: w.Now().Add(time.Minute),
			}, 3)
			if err != nil {
				return err
			}
		}
		return nil
	})
	w.Appear(s.user, nsid)
	enter(w.fixture, s.user)
	return s
}

// A credential is presented to every method, on behalf of an account in every state.
type credential struct {
	name    string
	present func(w *world, s *subject, nsid string) access
}

// The credentials that there are.
var credentials = append(ordinary(
	"none", "malformed header", "unknown scheme", "DPoP", "Basic admin", "Basic admin, wrong password",
	"Basic, the account's password", "access", "access, app password", "access, privileged app password", "access, takendown",
	"access, signupQueued", "access, expired", "access, foreign key", "access, refresh scope", "refresh", "refresh, expired",
	"refresh, foreign key"),
	append(asOrdinary(servertest.AppCredentials()), []credential{
		{"service, account here", func(w *world, s *subject, nsid string) access {
			return access{w.ServiceToken(s.DID, s.key, nsid, time.Minute), s.DID}
		}},
		{"service, DID from elsewhere", func(w *world, _ *subject, nsid string) access {
			did := syntax.DID("did:web:" + w.fresh() + ".example")
			return access{w.ServiceToken(did, w.NewIdentity(did), nsid, time.Minute), did}
		}},
		{"service, other DID", func(w *world, s *subject, nsid string) access {
			return access{w.ServiceToken(w.stranger, w.key, nsid, time.Minute), s.DID}
		}},
		{"service, foreign key", func(w *world, s *subject, nsid string) access {
			return access{w.ServiceToken(s.DID, w.key, nsid, time.Minute), s.DID}
		}},
		{"service, wrong aud", func(w *world, s *subject, nsid string) access {
			return access{w.ServiceTokenFor("did:web:elsewhere.test", w.stranger, w.key, nsid, time.Minute), w.stranger}
		}},
		{"service, wrong lxm", func(w *world, _ *subject, _ string) access {
			return access{w.ServiceToken(w.stranger, w.key, "com.atproto.sync.getRepo", time.Minute), w.stranger}
		}},
		{"service, no lxm", func(w *world, s *subject, _ string) access {
			return access{w.ServiceToken(w.stranger, w.key, "", time.Minute), w.stranger}
		}},
		{"service, expired", func(w *world, s *subject, nsid string) access {
			return access{w.ServiceToken(w.stranger, w.key, nsid, -time.Minute), w.stranger}
		}},
	}...)...)

// ordinary credentials name no DID.
func ordinary(names ...string) []credential { return asOrdinary(servertest.Credentials(names...)) }

func asOrdinary(those []servertest.Credential) (all []credential) {
	for _, c := range those {
		all = append(all, credential{c.Name, func(w *world, s *subject, nsid string) access {
			return access{header: c.Present(w.Server, s.user, nsid)}
		}})
	}
	return all
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
func calls(routes []xrpc.Route) []call {
	var all []call
	for _, r := range routes {
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
		input = object{"identifier": s.Handle, "password": goodPassword, "allowTakendown": r.variant == "allowTakendown"}
	case "createAppPassword", "revokeAppPassword":
		input = object{"name": "phone"}
	case "createInviteCode":
		input = object{"useCount": 1}
	case "createInviteCodes":
		input = object{"codeCount": 1, "useCount": 1}
	case "confirmEmail":
		input = object{"email": s.Email, "token": s.code}
	case "updateEmail":
		input = object{"email": w.fresh() + "@example.com", "token": s.code}
	case "requestPasswordReset":
		input = object{"email": s.Email}
	case "resetPassword":
		input = object{"token": s.code, "password": "another good password"}
	case "deleteAccount":
		input = object{"did": s.DID, "password": goodPassword, "token": s.code}
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
		return w.Call(verb, method+query, body)
	}
	return w.Call(verb, method+query, body, who.header)
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
	for _, r := range calls(w.Routes()) {
		subjects := make([]*subject, len(states))
		var outcomes servertest.Outcomes
		for _, c := range credentials {
			var answers servertest.States
			for i, state := range states {
				if subjects[i] == nil {
					subjects[i] = w.subject(r.NSID, state.enter)
				}
				s := subjects[i]
				a := w.request(r, s, c.present(w, s, r.NSID))
				if a.Status >= 500 || a.Status == http.StatusTooManyRequests {
					t.Errorf("%s, %s, %s: %d %s", r, c.name, state.name, a.Status, a.Body)
				}
				if a.Status == http.StatusOK && changes(r) {
					subjects[i] = nil
				}
				answers.Add(state.name, strings.NewReplacer(s.DID.String(), "DID", s.Handle, "HANDLE").Replace(a.Outcome()))
			}
			outcomes.Add(answers.String(), c.name)
		}
		fmt.Fprintf(&table, "\n%s\n", r)
		for outcome, names := range outcomes.All() {
			fmt.Fprintf(&table, "  %s\n", outcome)
			if outcomes.Len() == 1 {
				names = []string{"whatever the credential"}
			}
			table.WriteString(wrapped(names))
		}
	}
	servertest.Golden(t, "access.golden", table.String())
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
	all := w.Routes()
	if len(all) != 25 || len(who) != 25 {
		t.Errorf("%d methods, %d of them in the list; want 25", len(all), len(who))
	}
	for _, r := range all {
		for _, header := range []string{"", "Bearer", "Bearer ", "Basic Og==", "Bearer e30.e30.", "Bearer null"} {
			a := w.request(call{Route: r}, w.subject(r.NSID, states[0].enter), access{header: header})
			want := who[r.NSID] == "public" || who[r.NSID] == "service token or anonymous" && header == ""
			switch in := a.Status == http.StatusOK; {
			case want && !in:
				t.Errorf("%s is open, but answers %q with %d %s", r.NSID, header, a.Status, a.Body)
			case !want && in:
				t.Errorf("%s lets %q in", r.NSID, header)
			case !want && a.Status != http.StatusUnauthorized && a.Status != http.StatusBadRequest:
				t.Errorf("%s answers %q with %d %s", r.NSID, header, a.Status, a.Body)
			}
		}
	}
}
