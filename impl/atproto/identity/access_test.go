package identity_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"portico/api/xrpc"
	"portico/api/xrpc/xrpctest"
	"portico/impl/servertest"
)

// Who may call what, how often and with how much shows in one file.
func TestPolicies(t *testing.T) {
	servertest.Golden(t, "policies.golden", xrpctest.Access(newFixture(t).Routes()))
}

var states = []struct {
	name  string
	enter func(*fixture, user)
}{
	{"active", func(*fixture, user) {}},
	{"deactivated", func(f *fixture, u user) { f.Deactivate(u.DID) }},
	{"taken down", func(f *fixture, u user) { f.TakeDown(u.DID) }},
	{"deleted", func(f *fixture, u user) { f.Remove(u.DID) }},
}

var credentials = append(servertest.Credentials(
	"none", "malformed header", "unknown scheme", "Basic admin", "DPoP", "access", "access, app password",
	"access, privileged app password", "access, takendown", "access, signupQueued", "access, expired", "access, foreign key",
	"refresh"), servertest.AppCredentials()...)

// request calls a method about u in the best of ways: everything but the credential
// is right.
func (f *fixture) request(r xrpc.Route, u user, code, header string) answer {
	f.Helper()
	method := strings.TrimPrefix(r.NSID, "com.atproto.identity.")
	query, body := "", ""
	switch method {
	case "resolveHandle":
		query = "?handle=" + u.Handle
	case "resolveDid":
		query = "?did=" + u.DID.String()
	case "resolveIdentity":
		query = "?identifier=" + u.DID.String()
	case "refreshIdentity":
		body = `{"identifier":"` + u.DID.String() + `"}`
	case "updateHandle":
		body = to("new-" + u.Handle)
	case "signPlcOperation":
		body = `{"token":"` + code + `"}`
	case "submitPlcOperation":
		last, err := f.PLC.Last(f.Context(), u.DID)
		f.Check(err)
		d, _ := last.Data()
		cid, err := last.CID()
		f.Check(err)
		op := map[string]any{
			"type": "plc_operation", "prev": cid.String(), "rotationKeys": d.RotationKeys, "alsoKnownAs": d.AlsoKnownAs,
			"verificationMethods": d.VerificationMethods, "services": d.Services,
		}
		b, err := json.Marshal(map[string]any{"operation": f.signed(op)})
		f.Check(err)
		body = string(b)
	case "getRecommendedDidCredentials", "requestPlcOperationSignature":
	default:
		f.Fatalf("%s: this test has no request for it", method)
	}
	verb := http.MethodPost
	if r.Kind == xrpc.Query {
		verb = http.MethodGet
	}
	return f.Call(verb, method+query, body, header)
}

// Every method is called with every credential on behalf of an account in every
// state. What comes of it is a table, to be reviewed line by line.
func TestAccess(t *testing.T) {
	f := newFixture(t)
	made := 0
	var table strings.Builder
	table.WriteString("# What each method answers to each credential, everything else being right. The account that\n" +
		"# credential and body are about is active, deactivated, taken down or deleted.\n")
	for _, r := range f.Routes() {
		var outcomes servertest.Outcomes
		for _, c := range credentials {
			var answers servertest.States
			for _, state := range states {
				made++
				u := f.signUp(fmt.Sprint("user", made))
				code := f.signature(u)
				f.Appear(u, r.NSID)
				state.enter(f, u)
				a := f.request(r, u, code, c.Present(f.Server, u, r.NSID))
				if a.Status >= 500 {
					t.Errorf("%s, %s, %s: %s", r.NSID, c.Name, state.name, a.Body)
				}
				answers.Add(state.name, a.Outcome())
			}
			outcomes.Add(answers.String(), c.Name)
		}
		fmt.Fprintf(&table, "\n%s\n", r.NSID)
		for outcome, names := range outcomes.All() {
			who := "[" + strings.Join(names, "] [") + "]"
			if outcomes.Len() == 1 {
				who = "[whatever the credential]"
			}
			fmt.Fprintf(&table, "  %s\n      %s\n", outcome, who)
		}
	}
	servertest.Golden(t, "access.golden", table.String())
}
