package moderation_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"portico/impl/account/token"
	"portico/impl/servertest"
)

const (
	report = `{"reasonType":"com.atproto.moderation.defs#reasonSpam","reason":"look", "subject":{"$type":"com.atproto.admin.defs#repoRef","did":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa","later":1.5},` +
		`"modTool":{"name":"a","meta":{"b":[1]}},"reportedBy":"did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"}`
	taken = `{"id":7,"reasonType":"com.atproto.moderation.defs#reasonSpam","subject":{"$type":"com.atproto.admin.defs#repoRef","did":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"},` +
		`"reportedBy":"did:plc:cccccccccccccccccccccccc","createdAt":"2026-03-01T12:00:00.000Z", "later":"ä"}`
)

func newServer(t *testing.T, change ...func(*servertest.Options)) *servertest.Server {
	t.Helper()
	in := func(o *servertest.Options) { o.Reports, o.Namespace = true, "com.atproto.moderation" }
	s := servertest.New(t, append([]func(*servertest.Options){in}, change...)...)
	if s.Reports != nil {
		s.Reports.Says(servertest.Answers(200, taken, "Set-Cookie", "a=b", "Retry-After", "1"))
	}
	return s
}

// said is what the service token of a request says of who calls what.
func said(t *testing.T, a servertest.Asked) string {
	t.Helper()
	part := strings.Split(strings.TrimPrefix(a.Header.Get("Authorization"), "Bearer "), ".")
	if len(part) != 3 {
		t.Fatalf("authorization %q", a.Header.Get("Authorization"))
	}
	raw, err := base64.RawURLEncoding.DecodeString(part[1])
	var claims struct{ Iss, Aud, Lxm string }
	if err == nil {
		err = json.Unmarshal(raw, &claims)
	}
	if err != nil {
		t.Fatal(err)
	}
	return claims.Iss + " " + claims.Aud + " " + claims.Lxm
}

// A report goes on as it came, with what the lexicon does not name, and in the name of
// whoever is signed in: what it says of that itself counts for nothing. The answer comes
// back as it was.
func TestCreateReport(t *testing.T) {
	s := newServer(t)
	alice := s.SignUp("alice")
	for _, scope := range []token.Scope{token.Access, token.AppPassPrivileged, token.AppPass, token.Takendown} {
		a := s.Accepted(s.Post("createReport?a=b", report, s.Scoped(alice, scope)))
		if a.Body != taken || a.Header.Get("Set-Cookie") != "" || a.Header.Get("Cache-Control") != "private" || a.Header.Get("Content-Type") != "application/json; charset=utf-8" {
			t.Errorf("answer %v %s", a.Header, a.Body)
		}
		asked := s.Reports.Asked()
		if len(asked) != 1 {
			t.Fatalf("asked %d times", len(asked))
		}
		if a := asked[0]; a.Method != "POST" || a.URL.String() != "/xrpc/com.atproto.moderation.createReport" || string(a.Body) != report ||
			a.Header.Get("Content-Type") != "application/json" || a.Header.Get("Accept") != "application/json" ||
			said(t, a) != alice.DID.String()+" did:web:reports.example com.atproto.moderation.createReport" {
			t.Errorf("asked %s %v %s", a.URL, a.Header, a.Body)
		}
	}
}

// What comes compressed or in another charset goes on as plain JSON.
func TestCreateReportInAnotherEncoding(t *testing.T) {
	s := newServer(t)
	alice := s.SignUp("alice")
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	io.WriteString(z, report)
	s.Check(z.Close())
	s.Accepted(s.Post("createReport", packed.String(), alice.Access, "Content-Encoding: gzip"))
	if asked := s.Reports.Asked(); len(asked) != 1 || string(asked[0].Body) != report || asked[0].Header.Get("Content-Encoding") != "" {
		t.Errorf("asked %v", asked)
	}
}

// Nobody reports in the name of somebody else, and a report is for who is signed in.
func TestWhoReports(t *testing.T) {
	s := newServer(t)
	alice := s.SignUp("alice")
	const stranger = "did:web:stranger.example"
	const method = "com.atproto.moderation.createReport"
	for who, credentials := range map[string]string{
		"nobody":                          "",
		"a service of the account":        s.ServiceToken(alice.DID, s.ModKey, method, time.Minute),
		"a stranger's service":            s.ServiceToken(stranger, s.NewIdentity(stranger), method, time.Minute),
		"the moderation service":          s.ServiceToken(servertest.ModService, s.ModKey, method, time.Minute),
		"the operator":                    servertest.Admin,
		"a refresh token":                 alice.Refresh,
		"one who waits for a place":       s.Scoped(alice, token.SignupQueued),
		"a token that ends other servers": s.Scoped(alice, token.Refresh),
	} {
		if a := s.Post("createReport", report, credentials); a.Status != 400 && a.Status != 401 {
			t.Errorf("%s: %d %s", who, a.Status, a.Body)
		}
	}
	s.Deactivate(alice.DID)
	s.Accepted(s.Post("createReport", report, alice.Access))
	// Who is taken down appeals like this, also with a token from before.
	s.TakeDown(alice.DID)
	s.Accepted(s.Post("createReport", report, alice.Access))
	s.Accepted(s.Post("createReport", report, s.Scoped(alice, token.Takendown)))
	s.Remove(alice.DID)
	s.Refused(s.Post("createReport", report, alice.Access), 403, "AccountNotFound", "Account not found")
	for _, a := range s.Reports.Asked() {
		if !strings.HasPrefix(said(t, a), alice.DID.String()+" ") {
			t.Errorf("reported by %s", said(t, a))
		}
	}
}

// A client that names a service has its report there.
func TestCreateReportElsewhere(t *testing.T) {
	s := newServer(t)
	alice := s.SignUp("alice")
	labeler := s.NewUpstream("did:web:labeler.example", "atproto_labeler")
	labeler.Says(servertest.Answers(200, taken))
	for range 2 {
		s.Accepted(s.Post("createReport", report, alice.Access, "Atproto-Proxy: did:web:labeler.example#atproto_labeler"))
		asked := labeler.Asked()
		if len(asked) != 1 || string(asked[0].Body) != report || asked[0].Header.Get("Atproto-Proxy") != "" ||
			said(t, asked[0]) != alice.DID.String()+" did:web:labeler.example com.atproto.moderation.createReport" {
			t.Errorf("asked %v", asked)
		}
	}
	s.Refused(s.Post("createReport", report, alice.Access, "Atproto-Proxy: did:web:nobody.example#atproto_labeler"), 400, "InvalidRequest", "could not resolve proxy did")
	s.Refused(s.Post("createReport", report, alice.Access, "Atproto-Proxy: did:web:labeler.example"), 400, "InvalidRequest", "no service id specified in proxy header")
	if asked := s.Reports.Asked(); len(asked) > 0 {
		t.Errorf("asked %v", asked)
	}
}

// Without a service for reports there is none to send them to, unless the client names one.
func TestCreateReportWithoutService(t *testing.T) {
	s := newServer(t, func(o *servertest.Options) { o.Reports = false })
	alice := s.SignUp("alice")
	s.Refused(s.Post("createReport", report, alice.Access), 400, "InvalidRequest", "No service configured for com.atproto.moderation.createReport")
	s.Refused(s.Post("createReport", report), 401, "AuthMissing", "Authentication Required")
	s.NewUpstream("did:web:labeler.example", "atproto_labeler").Says(servertest.Answers(200, taken))
	s.Accepted(s.Post("createReport", report, alice.Access, "Atproto-Proxy: did:web:labeler.example#atproto_labeler"))
}

func TestCreateReportRefuses(t *testing.T) {
	s := newServer(t)
	alice := s.SignUp("alice")
	for _, tt := range []struct {
		name, body string
		status     int
		error      string
		message    string
	}{
		{"no reason", `{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"}}`, 400, "InvalidRequest", `Missing required key "reasonType" at $`},
		{"no subject", `{"reasonType":"com.atproto.moderation.defs#reasonSpam"}`, 400, "InvalidRequest", `Missing required key "subject" at $`},
		{"no DID", `{"reasonType":"a","subject":{"$type":"com.atproto.admin.defs#repoRef","did":"alice.test"}}`, 400, "InvalidRequest", `Invalid DID (got "alice.test") at $.subject.did`},
		{"long text", `{"reasonType":"a","reason":"` + strings.Repeat("x", 20001) + `","subject":{"$type":"com.atproto.admin.defs#repoRef","did":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"}}`, 400, "InvalidRequest",
			`string too big (maximum 20000, got 20001) at $.reason`},
		{"large", `{"reasonType":"` + strings.Repeat("x", 150<<10) + `"}`, 413, "PayloadTooLargeError", "request entity too large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.TB = t
			s.Refused(s.Post("createReport", tt.body, alice.Access), tt.status, tt.error, tt.message)
		})
	}
	s.TB = t
	if asked := s.Reports.Asked(); len(asked) > 0 {
		t.Errorf("asked %v", asked)
	}
}

// What the service says against a report the client is told; where it says nothing that is
// an answer, that.
func TestCreateReportFails(t *testing.T) {
	s := newServer(t)
	alice := s.SignUp("alice")
	for _, tt := range []struct {
		name    string
		answers http.HandlerFunc
		status  int
		error   string
		message string
	}{
		{"refusal", servertest.Answers(400, `{"error":"AppealRefused","message":"not again","more":1}`), 400, "AppealRefused", "not again"},
		{"its own failure", servertest.Answers(500, `{"error":"InternalServerError","message":"theirs"}`), 502, "InternalServerError", "theirs"},
		{"a field is missing", servertest.Answers(200, strings.Replace(taken, `"id":7,`, "", 1)), 502, "InvalidResponse", `Invalid response payload: Missing required key "id" at $`},
		{"a field is of another kind", servertest.Answers(200, strings.Replace(taken, `7`, `"7"`, 1)), 502, "InvalidResponse", `Invalid response payload: Expected integer value type (got "7") at $.id`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.TB = t
			s.Reports.Says(tt.answers)
			s.Refused(s.Post("createReport", report, alice.Access), tt.status, tt.error, tt.message)
		})
	}
	s.TB = t
	if log := s.Logged.String(); strings.Contains(log, "level=ERROR") || strings.Contains(log, "Bearer") {
		t.Errorf("logged %s", log)
	}
	// In production it may say what the lexicon of today does not allow, but not what nobody
	// could read.
	for _, n := range s.Nodes() {
		n.Moderation.CheckOutput = false
	}
	for _, broken := range []string{"", "<html>", `{"id":7`} {
		s.Reports.Says(servertest.Answers(200, broken))
		if a := s.Post("createReport", report, alice.Access); a.Status != 502 || !strings.Contains(a.Body, "Invalid response payload: Unexpected ") {
			t.Errorf("%q: %d %s", broken, a.Status, a.Body)
		}
	}
}
