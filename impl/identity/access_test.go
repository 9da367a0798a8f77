package identity_test

import (
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"

	api "portico/api/atproto/identity"
	"portico/api/xrpc"
	"portico/api/xrpc/xrpctest"
	"portico/impl/auth"
	"portico/impl/identity"
	"portico/impl/token"
)

var update = flag.Bool("update", false, "write the golden files anew")

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
		t.Errorf("%s (-file +now; after a review of every line: go test ./impl/identity -update)\n%s", path, diff)
	}
}

func routes(t *testing.T) []xrpc.Route {
	t.Helper()
	s := xrpc.NewServer(echo.New(), xrpc.Options{})
	if err := api.Register(s, &identity.Service{}, identity.Policy{Gate: &auth.Gate{}}); err != nil {
		t.Fatal(err)
	}
	return s.Methods()
}

// Who may call what, how often and with how much shows in one file.
func TestPolicies(t *testing.T) { golden(t, "policies.golden", xrpctest.Access(routes(t))) }

var states = []struct {
	name  string
	enter func(*fixture, user)
}{
	{"active", func(*fixture, user) {}},
	{"deactivated", func(f *fixture, u user) { f.deactivate(u.did) }},
	{"taken down", func(f *fixture, u user) { f.takeDown(u.did) }},
	{"deleted", func(f *fixture, u user) { f.remove(u.did) }},
}

var credentials = []struct {
	name    string
	present func(f *fixture, u user) string
}{
	{"none", plain("")},
	{"malformed header", plain("Bearer")},
	{"unknown scheme", plain("Digest abc")},
	{"Basic admin", plain("Basic " + base64.StdEncoding.EncodeToString([]byte("admin:a password for the admin")))},
	{"DPoP", func(_ *fixture, u user) string { return strings.Replace(u.bearer, "Bearer", "DPoP", 1) }},
	{"access", func(_ *fixture, u user) string { return u.bearer }},
	{"access, app password", scoped(token.AppPass)},
	{"access, privileged app password", scoped(token.AppPassPrivileged)},
	{"access, takendown", scoped(token.Takendown)},
	{"access, signupQueued", scoped(token.SignupQueued)},
	{"access, expired", func(f *fixture, u user) string {
		return "Bearer " + f.tokens.Access(u.did, token.Access, f.clock.Now().Add(-token.AccessLifetime))
	}},
	{"access, foreign key", func(f *fixture, u user) string {
		i := *f.tokens
		i.Secret = []byte("the secret of somebody else")
		return "Bearer " + i.Access(u.did, token.Access, f.clock.Now())
	}},
	{"refresh", func(f *fixture, u user) string { return "Bearer " + f.tokens.Refresh(u.did, "an id", f.clock.Now()) }},
}

func plain(header string) func(*fixture, user) string {
	return func(*fixture, user) string { return header }
}

func scoped(scope token.Scope) func(*fixture, user) string {
	return func(f *fixture, u user) string { return f.scoped(u, scope) }
}

// request calls a method about u in the best of ways: everything but the credential
// is right.
func (f *fixture) request(r xrpc.Route, u user, code, header string) answer {
	f.Helper()
	method := strings.TrimPrefix(r.NSID, "com.atproto.identity.")
	query, body := "", ""
	switch method {
	case "resolveHandle":
		query = "?handle=" + u.handle
	case "resolveDid":
		query = "?did=" + u.did.String()
	case "resolveIdentity":
		query = "?identifier=" + u.did.String()
	case "refreshIdentity":
		body = `{"identifier":"` + u.did.String() + `"}`
	case "updateHandle":
		body = to("new-" + u.handle)
	case "signPlcOperation":
		body = `{"token":"` + code + `"}`
	case "submitPlcOperation":
		last, err := f.directory.Last(f.Context(), u.did)
		f.check(err)
		d, _ := last.Data()
		cid, err := last.CID()
		f.check(err)
		op := map[string]any{
			"type": "plc_operation", "prev": cid.String(), "rotationKeys": d.RotationKeys, "alsoKnownAs": d.AlsoKnownAs,
			"verificationMethods": d.VerificationMethods, "services": d.Services,
		}
		b, err := json.Marshal(map[string]any{"operation": f.signed(op)})
		f.check(err)
		body = string(b)
	case "getRecommendedDidCredentials", "requestPlcOperationSignature":
	default:
		f.Fatalf("%s: this test has no request for it", method)
	}
	verb := http.MethodPost
	if r.Kind == xrpc.Query {
		verb = http.MethodGet
	}
	return f.call(verb, method+query, body, header)
}

// Every method is called with every credential on behalf of an account in every
// state. What comes of it is a table, to be reviewed line by line.
func TestAccess(t *testing.T) {
	f := newFixture(t)
	made := 0
	var table strings.Builder
	table.WriteString("# What each method answers to each credential, everything else being right. The account that\n" +
		"# credential and body are about is active, deactivated, taken down or deleted.\n")
	for _, r := range routes(t) {
		var outcomes []string
		holders := map[string][]string{}
		for _, c := range credentials {
			var parts []string
			last := ""
			for _, state := range states {
				made++
				u := f.signUp(fmt.Sprint("user", made))
				code := f.signature(u)
				state.enter(f, u)
				a := f.request(r, u, code, c.present(f, u))
				outcome := fmt.Sprint(a.status)
				if a.status != http.StatusOK {
					outcome = fmt.Sprintf("%d %s %q", a.status, a.text(t, "error"), a.text(t, "message"))
				}
				if a.status >= 500 {
					t.Errorf("%s, %s, %s: %s", r.NSID, c.name, state.name, a.body)
				}
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
		fmt.Fprintf(&table, "\n%s\n", r.NSID)
		for _, outcome := range outcomes {
			who := "[" + strings.Join(holders[outcome], "] [") + "]"
			if len(outcomes) == 1 {
				who = "[whatever the credential]"
			}
			fmt.Fprintf(&table, "  %s\n      %s\n", outcome, who)
		}
	}
	golden(t, "access.golden", table.String())
}
