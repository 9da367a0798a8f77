package servertest

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/google/go-cmp/cmp"

	"portico/api/xrpc"
	"portico/impl/account/token"
	"portico/impl/oauth/oauthtest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Golden compares got with a file in testdata, or writes it there when the tests run
// with -update.
func Golden(t *testing.T, name, got string) {
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
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s (-file +now; after a review of every line: go test with -update)\n%s", path, diff)
	}
}

// A Credential is a way to say, or not to say, who calls.
type Credential struct {
	Name string
	// Present is what [Server.Call] takes of the credential with which u calls a method,
	// "" for none. That of an app has to be made while the account is active: see
	// [Server.Appear].
	Present func(s *Server, u User, nsid string) string
}

// Credentials are those of the given names, in their order.
func Credentials(names ...string) []Credential {
	var chosen []Credential
	for _, name := range names {
		present, ok := credentials[name]
		if !ok {
			panic("no credential is called " + name)
		}
		chosen = append(chosen, Credential{name, present})
	}
	return chosen
}

// Plain is a credential that is the same whoever calls whatever.
func Plain(name, header string) Credential { return Credential{name, plain(header)} }

// AdminCredentials are those that tell who is the operator, and who only may seem so.
func AdminCredentials() []Credential {
	return slices.Concat(Credentials("none"), []Credential{Plain("malformed header", "Basic")}, Credentials(
		"three parts", "unknown scheme", "DPoP", "Basic admin", "Basic admin, scheme in capitals", "Basic admin, wrong password",
		"Basic admin, no password", "Basic Admin", "Basic, the account's password", "Basic, no base64", "access", "refresh",
		"moderation service", "moderation service as labeler", "moderation service, expired", "moderation service, another method",
		"service of a stranger", "service of an account here"))
}

// AppCredentials are those of apps that an account let in by OAuth.
func AppCredentials() []Credential {
	return Credentials("app, atproto alone", "app, transition:generic", "app, just the scope", "app, every scope", "app, as Bearer",
		"app, no proof", "app, another key", "app, no nonce")
}

// foreignSecret is that of a server which is not this one.
const foreignSecret = "the secret of somebody else"

var credentials = map[string]func(s *Server, u User, nsid string) string{
	"none":             plain(""),
	"malformed header": plain("Bearer"),
	"unknown scheme":   plain("Digest abc"),
	"DPoP":             func(_ *Server, u User, _ string) string { return strings.Replace(u.Access, "Bearer", "DPoP", 1) },

	"three parts":                     plain("Basic a b"),
	"Basic, no base64":                plain("Basic !"),
	"Basic admin":                     plain(Admin),
	"Basic admin, scheme in capitals": plain(strings.Replace(Admin, "Basic", "BASIC", 1)),
	"Basic admin, wrong password":     plain(Basic("admin", "guess")),
	"Basic admin, no password":        plain(Basic("admin", "")),
	"Basic Admin":                     plain(Basic("Admin", AdminPassword)),
	"Basic, the account's password":   func(_ *Server, u User, _ string) string { return Basic(u.Handle, GoodPassword) },

	"access":                          func(_ *Server, u User, _ string) string { return u.Access },
	"access, app password":            scoped(token.AppPass),
	"access, privileged app password": scoped(token.AppPassPrivileged),
	"access, takendown":               scoped(token.Takendown),
	"access, signupQueued":            scoped(token.SignupQueued),
	"access, refresh scope":           scoped(token.Refresh),
	"access, expired": func(s *Server, u User, _ string) string {
		return Bearer(s.Tokens.Access(u.DID, token.Access, s.Now().Add(-token.AccessLifetime)))
	},
	"access, foreign key": func(s *Server, u User, _ string) string {
		return Bearer(s.foreign().Access(u.DID, token.Access, s.Now()))
	},
	"refresh": func(_ *Server, u User, _ string) string { return u.Refresh },
	"refresh, expired": func(s *Server, u User, _ string) string {
		return Bearer(s.Tokens.Refresh(u.DID, "an id", s.Now().Add(-token.RefreshLifetime)))
	},
	"refresh, foreign key": func(s *Server, u User, _ string) string {
		return Bearer(s.foreign().Refresh(u.DID, "an id", s.Now()))
	},

	"app, atproto alone":      func(s *Server, u User, nsid string) string { return s.app(u, nsid, "atproto") },
	"app, transition:generic": func(s *Server, u User, nsid string) string { return s.app(u, nsid, "atproto transition:generic") },
	"app, just the scope":     func(s *Server, u User, nsid string) string { return s.app(u, nsid, justScope(nsid)) },
	"app, every scope":        func(s *Server, u User, nsid string) string { return s.app(u, nsid, everyScope) },
	"app, as Bearer": func(s *Server, u User, nsid string) string {
		return strings.Replace(s.app(u, nsid, everyScope), "DPoP", "Bearer", 1)
	},
	"app, no proof": func(s *Server, u User, nsid string) string {
		line, _, _ := strings.Cut(s.app(u, nsid, everyScope), "\n")
		return line
	},
	"app, another key": func(s *Server, u User, nsid string) string {
		a := *s.LetIn(u, everyScope)
		a.Key = oauthtest.NewKey(s, "ES256")
		return a.Credential(s.verb(nsid), nsid)
	},
	"app, no nonce": func(s *Server, u User, nsid string) string {
		a := s.LetIn(u, everyScope)
		return "DPoP " + a.Access + "\nDPoP: " + a.ProofWith(s.verb(nsid), nsid, map[string]any{"nonce": nil})
	},

	"moderation service": func(s *Server, _ User, nsid string) string {
		return s.ServiceToken(ModService, s.ModKey, nsid, time.Minute)
	},
	"moderation service as labeler": func(s *Server, _ User, nsid string) string {
		return s.ServiceToken(ModService+"#atproto_labeler", s.LabelKey, nsid, time.Minute)
	},
	"moderation service, expired": func(s *Server, _ User, nsid string) string {
		return s.ServiceToken(ModService, s.ModKey, nsid, -time.Minute)
	},
	"moderation service, another method": func(s *Server, _ User, _ string) string {
		return s.ServiceToken(ModService, s.ModKey, "com.atproto.admin.getNothing", time.Minute)
	},
	"service of a stranger": func(s *Server, _ User, nsid string) string {
		const stranger = "did:web:stranger.example"
		return s.ServiceToken(stranger, s.NewIdentity(stranger), nsid, time.Minute)
	},
	// The document of the account names another key.
	"service of an account here": func(s *Server, u User, nsid string) string {
		return s.ServiceToken(u.DID, Must(atcrypto.GeneratePrivateKeyK256()), nsid, time.Minute)
	},
}

// What services of the options of a server are called in scopes.
const (
	appViewInScopes = "did:web:appview.example%23bsky_appview"
	reportsInScopes = "did:web:reports.example%23atproto_labeler"
)

// everyScope is all that there is of the fine ones.
const everyScope = "atproto account:email?action=manage account:repo?action=manage account:status?action=manage identity:* repo:* blob:*/*" +
	" rpc:*?aud=" + appViewInScopes + " rpc:*?aud=" + reportsInScopes + " rpc:com.atproto.repo.uploadBlob?aud=*" +
	" rpc?lxm=app.bsky.notification.registerPush&lxm=app.bsky.notification.unregisterPush&aud=*"

// justScope is the scope that opens a method for the request that tables send.
func justScope(nsid string) string {
	for names, scope := range map[string]string{
		"com.atproto.server.confirmEmail com.atproto.server.requestEmailConfirmation": "account:email?action=manage",
		"com.atproto.server.getSession":                                               "account:email",
		"com.atproto.server.deactivateAccount":                                        "account:status?action=manage",
		"com.atproto.server.getServiceAuth":                                           "rpc:com.atproto.repo.uploadBlob?aud=*",
		"com.atproto.identity.updateHandle":                                           "identity:handle",
		"com.atproto.identity.requestPlcOperationSignature com.atproto.identity.signPlcOperation com.atproto.identity.submitPlcOperation": "identity:*",
		"com.atproto.repo.createRecord":                                           "repo:com.example.x?action=create",
		"com.atproto.repo.putRecord":                                              "repo:com.example.x?action=create&action=update",
		"com.atproto.repo.deleteRecord":                                           "repo:com.example.x?action=delete",
		"com.atproto.repo.applyWrites":                                            "repo:com.example.x?action=create",
		"com.atproto.repo.uploadBlob":                                             "blob:application/json",
		"com.atproto.repo.importRepo":                                             "account:repo?action=manage",
		"com.atproto.moderation.createReport":                                     "rpc:com.atproto.moderation.createReport?aud=" + reportsInScopes,
		"app.bsky.feed.getFeed":                                                   "rpc:app.bsky.feed.getFeedSkeleton?aud=* rpc:app.bsky.feed.getFeed?aud=" + appViewInScopes,
		"app.bsky.notification.registerPush app.bsky.notification.unregisterPush": "rpc:" + nsid + "?aud=did:web:appview.example%23bsky_notif",
	} {
		if slices.Contains(strings.Fields(names), nsid) {
			return "atproto " + scope
		}
	}
	if strings.HasPrefix(nsid, "app.bsky.") {
		return "atproto rpc:" + nsid + "?aud=" + appViewInScopes
	}
	return "atproto"
}

// Appear makes the apps of credentials of u for a method.
func (s *Server) Appear(u User, nsid string) {
	s.Helper()
	for _, scope := range []string{"atproto", "atproto transition:generic", justScope(nsid), everyScope} {
		s.LetIn(u, scope)
	}
}

// app is the credential of an app that was let in with a scope.
func (s *Server) app(u User, nsid, scope string) string {
	s.Helper()
	return s.LetIn(u, scope).Credential(s.verb(nsid), nsid)
}

// verb is what a method is called with.
func (s *Server) verb(nsid string) string {
	for _, r := range s.routes {
		if r.NSID == nsid && r.Kind == xrpc.Procedure {
			return http.MethodPost
		}
	}
	return http.MethodGet
}

func plain(header string) func(*Server, User, string) string {
	return func(*Server, User, string) string { return header }
}

func scoped(scope token.Scope) func(*Server, User, string) string {
	return func(s *Server, u User, _ string) string { return s.Scoped(u, scope) }
}

func (s *Server) foreign() *token.Issuer {
	own := s.Tokens
	return &token.Issuer{Secret: []byte(foreignSecret), ServiceDID: own.ServiceDID, Now: own.Now, Rand: own.Rand}
}

// Outcomes are the answers to credentials, alike ones together.
type Outcomes struct {
	order   []string
	holders map[string][]string
}

// Add notes the answer to a credential.
func (o *Outcomes) Add(outcome, credential string) {
	if o.holders == nil {
		o.holders = map[string][]string{}
	}
	if o.holders[outcome] == nil {
		o.order = append(o.order, outcome)
	}
	o.holders[outcome] = append(o.holders[outcome], credential)
}

// Len is the number of different answers.
func (o *Outcomes) Len() int { return len(o.order) }

// All are the answers, in the order of their first credential, and the credentials
// of each.
func (o *Outcomes) All() func(yield func(outcome string, credentials []string) bool) {
	return func(yield func(string, []string) bool) {
		for _, outcome := range o.order {
			if !yield(outcome, o.holders[outcome]) {
				return
			}
		}
	}
}

// States joins the answers of an account's states: "state, state: answer", neighbours
// with the same answer together, or the answer alone where all have the same.
type States struct {
	parts []string
	last  string
}

// Add notes the answer of the next state.
func (p *States) Add(state, outcome string) {
	if n := len(p.parts); n > 0 && outcome == p.last {
		p.parts[n-1] = strings.Replace(p.parts[n-1], ": ", ", "+state+": ", 1)
	} else {
		p.parts = append(p.parts, state+": "+outcome)
	}
	p.last = outcome
}

func (p *States) String() string {
	if len(p.parts) == 1 {
		return p.last
	}
	return strings.Join(p.parts, "\n  ")
}

// AccessTable calls every method of the server's namespace with every credential of
// an account here, and renders what comes of it for a golden file. requests has what
// to send to each, by its name in the namespace: the query with its "?", or the body.
func (s *Server) AccessTable(requests map[string]string, all []Credential) string {
	s.Helper()
	u := s.SignUp("alice")
	var table strings.Builder
	for _, r := range s.Routes() {
		request, ok := requests[strings.TrimPrefix(r.NSID, s.namespace+".")]
		if !ok {
			s.Errorf("%s: there is no request for it", r.NSID)
			continue
		}
		var outcomes Outcomes
		for _, c := range all {
			var a Answer
			if header := c.Present(s, u, r.NSID); r.Kind == xrpc.Query {
				a = s.Get(r.NSID+request, header)
			} else if strings.HasPrefix(request, "?") {
				a = s.Post(r.NSID+request, "", header)
			} else {
				a = s.Post(r.NSID, request, header)
			}
			if a.Status >= 500 && a.Status != 501 {
				s.Errorf("%s, %s: %d %s", r.NSID, c.Name, a.Status, a.Body)
			}
			outcomes.Add(a.Outcome(), c.Name)
		}
		fmt.Fprintf(&table, "\n%s\n", r.NSID)
		for outcome, names := range outcomes.All() {
			fmt.Fprintf(&table, "  %s\n", outcome)
			for _, name := range names {
				fmt.Fprintf(&table, "      [%s]\n", name)
			}
		}
	}
	return table.String()
}
