package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"
	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	schema "github.com/pb33f/libopenapi-validator/schema_validation"

	"portico/api"
	methods "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/db/dbtest"
	"portico/impl/account/auth"
	"portico/impl/atproto/server"
	"portico/impl/identity/domain"
)

func serveDocs(t *testing.T) *httptest.Server {
	t.Helper()
	e := echo.New()
	routes := xrpc.NewServer(e, xrpc.Options{Logger: slog.New(slog.DiscardHandler)})
	domains, err := domain.Open(t.Context(), dbtest.Open(t), domain.Config{Configured: func() domain.Configured { return domain.Configured{Domains: []string{".test"}} }, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	service := &server.Service{
		Domains: domains, Config: func() server.Config { return server.Config{ServiceDID: "did:web:pds.test", ContactEmail: "a@pds.test"} },
	}
	if err := methods.Register(e, routes, service, server.Policy{Gate: &auth.Gate{}}); err != nil {
		t.Fatal(err)
	}
	if err := describeMethods(e, routes.Methods(), "v1.2.3", ".test"); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(e)
	t.Cleanup(s.Close)
	return s
}

// The document has the methods that are served, and what their policies ask for.
func TestOpenAPISecurity(t *testing.T) {
	status, kind, body := fetch(t, serveDocs(t), "/openapi.json", "pds.test")
	if status != 200 || kind != "application/json" {
		t.Fatalf("%d %s", status, kind)
	}
	var d struct {
		Info       struct{ Title, Version string }
		Tags       []struct{ Name string }
		Paths      map[string]map[string]struct{ Security json.RawMessage }
		Components struct{ SecuritySchemes, Schemas map[string]json.RawMessage }
	}
	if err := json.Unmarshal([]byte(body), &d); err != nil {
		t.Fatal(err)
	}
	if d.Info.Title != "Portico" || d.Info.Version != "v1.2.3" || len(d.Tags) != 1 || d.Tags[0].Name != "com.atproto.server" {
		t.Errorf("info %v, tags %v", d.Info, d.Tags)
	}
	var got []string
	for path, verbs := range d.Paths {
		for verb, op := range verbs {
			got = append(got, fmt.Sprintf("%s %s %s", strings.TrimPrefix(path, "/xrpc/com.atproto.server."), verb, op.Security))
		}
	}
	slices.Sort(got)
	want := []string{
		`activateAccount post [{"session":[]}]`,
		`checkAccountStatus get [{"session":[]}]`,
		`confirmEmail post [{"session":[]}]`,
		`createAccount post [{},{"service":[]}]`,
		`createAppPassword post [{"session":[]}]`,
		`createInviteCode post [{"admin":[]}]`,
		`createInviteCodes post [{"admin":[]}]`,
		`createSession post []`,
		`deactivateAccount post [{"session":[]}]`,
		`deleteAccount post [{},{"session":[]},{"admin":[]}]`,
		`deleteSession post [{"refresh":[]}]`,
		`describeServer get []`,
		`getAccountInviteCodes get [{"session":[]}]`,
		`getServiceAuth get [{"session":[]}]`,
		`getSession get [{"session":[]}]`,
		`listAppPasswords get [{"session":[]}]`,
		`refreshSession post [{"refresh":[]}]`,
		`requestAccountDelete post [{"session":[]}]`,
		`requestEmailConfirmation post [{"session":[]}]`,
		`requestEmailUpdate post [{"session":[]}]`,
		`requestPasswordReset post []`,
		`reserveSigningKey post []`,
		`resetPassword post []`,
		`revokeAppPassword post [{"session":[]}]`,
		`updateEmail post [{"session":[]}]`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(d.Components.SecuritySchemes) != 4 {
		t.Errorf("%d security schemes, want 4", len(d.Components.SecuritySchemes))
	}
	// Schemas that only other methods need are left out, those behind others are not.
	for name, want := range map[string]bool{
		"Error": true, "com.atproto.server.defs_inviteCode": true, "com.atproto.server.defs_inviteCodeUse": true,
		"com.atproto.sync.listRepos_repo": false,
	} {
		if _, ok := d.Components.Schemas[name]; ok != want {
			t.Errorf("schema %s: %v, want %v", name, ok, want)
		}
	}
}

// A validator of OpenAPI 3.1 accepts the document, and with it what the server answers.
func TestOpenAPIValid(t *testing.T) {
	s := serveDocs(t)
	_, _, body := fetch(t, s, "/openapi.json", "pds.test")
	d, err := libopenapi.NewDocument([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	model, err := d.BuildV3Model()
	if err != nil {
		t.Fatal(err)
	}
	_, problems := schema.ValidateOpenAPIDocument(d)
	for _, p := range problems {
		t.Error(p, p.SchemaValidationErrors)
	}
	v := validator.NewValidatorFromV3Model(&model.Model)
	defer v.Release()
	for _, tt := range []struct {
		verb, method, body string
		status             int
		request            bool // whether the request itself is valid
	}{
		{"GET", "describeServer", "", 200, true},
		{"POST", "createSession", `{"identifier":"alice.test"}`, 400, false},
		{"POST", "createSession", `{"identifier":"alice.test","password":1}`, 400, false},
		{"GET", "getServiceAuth", "", 400, false},
		{"GET", "getSession", "", 401, false}, // for want of a token
	} {
		r, err := http.NewRequest(tt.verb, s.URL+"/xrpc/com.atproto.server."+tt.method, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		if ok, _ := v.ValidateHttpRequest(r.Clone(t.Context())); ok != tt.request {
			t.Errorf("%s %s: valid is %v, want %v", tt.method, tt.body, ok, tt.request)
		}
		r.Body = io.NopCloser(strings.NewReader(tt.body))
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if answer.StatusCode != tt.status {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.body, answer.StatusCode, tt.status)
		}
		_, problems := v.ValidateHttpResponse(r, answer)
		for _, p := range problems {
			t.Errorf("%s %s: the answer: %v", tt.method, tt.body, p)
		}
	}
}

// Who may call a method is told in words, for every policy that methods have.
func TestOpenAPIWhoMayCall(t *testing.T) {
	known, err := readMethods(".test")
	if err != nil {
		t.Fatal(err)
	}
	const session = "session([com.atproto.access"
	for _, tt := range []struct{ auth, want, err string }{
		{"public", "Anybody.", ""},
		{session + "]; app: none)", "Whoever is signed in with the account's own password (not with an app password).", ""},
		{session + " com.atproto.appPassPrivileged com.atproto.appPass]; app: none), not taken down", "Whoever is signed in, also with an app password; not while the account is taken down.", ""},
		{session + " com.atproto.appPassPrivileged]; app: none), exists", "Whoever is signed in, with an app password only if it is a privileged one.", ""},
		{session + " com.atproto.takendown]; app: none), exists", "Whoever is signed in with the account's own password (not with an app password); also while the account is taken down.", ""},
		{"moderation service or " + session + " com.atproto.appPassPrivileged com.atproto.appPass com.atproto.takendown]; app: none)", "Whoever is signed in, also with an app password; also while the account is taken down. And the moderation service that the server is set up for, about any account.", ""},
		{session + "]; app: none), not taken down, not in quarantine", "Whoever is signed in with the account's own password (not with an app password); not while the account is taken down; not while the account is in quarantine.", ""},
		{session + "]; app: any), exists", "Whoever is signed in with the account's own password (not with an app password). And every app that the account let in by OAuth.", ""},
		{session + "]; app: identity:*), not in quarantine", "Whoever is signed in with the account's own password (not with an app password); not while the account is in quarantine. And apps that the account let in by OAuth with the scope `identity:*`, or one that contains it.", ""},
		{session + "])", "", `com.atproto.server.getSession: describe the methods: no words are known for the policy "session([com.atproto.access])"`},
		{"public; what is in quarantine: " + session + "]; app: none) or admin", "Anybody. While the account is in quarantine, its owner, signed in, and the operator, with the admin password.", ""},
		{"refresh token", "Whoever has the refresh token of a session.", ""},
		{"admin", "The operator, with the admin password.", ""},
		{session + " com.atproto.moon]; app: none)", "", `com.atproto.server.getSession: describe the methods: no words are known for the scope "com.atproto.moon"`},
		{session + "]; app: none), on Sundays", "", `com.atproto.server.getSession: describe the methods: no words are known for the condition ", on Sundays"`},
		{"astrology", "", `com.atproto.server.getSession: describe the methods: no words are known for the policy "astrology"`},
	} {
		text, err := describe(api.OpenAPI, []xrpc.Route{{NSID: "com.atproto.server.getSession", Auth: tt.auth}}, known, "")
		if tt.err != "" {
			if err == nil || err.Error() != tt.err {
				t.Errorf("%s: %v, want %s", tt.auth, err, tt.err)
			}
			continue
		}
		if err != nil || !strings.Contains(string(text), `\n\n**Who may call:** `+tt.want+`"`) {
			t.Errorf("%s: %v\n%s", tt.auth, err, text)
		}
	}
	_, err = describe(api.OpenAPI, []xrpc.Route{{NSID: "com.example.nothing", Auth: "public"}}, known, "")
	if err == nil || err.Error() != "com.example.nothing is served and not in the generated OpenAPI document: run `make generate`" {
		t.Errorf("a method that is not there: %v", err)
	}
}

// The document has methods by use: signing up comes first.
func TestOpenAPIOrder(t *testing.T) {
	_, _, body := fetch(t, serveDocs(t), "/openapi.json", "pds.test")
	at := -1
	for _, name := range []string{"createAccount", "createSession", "getSession", "refreshSession", "deleteSession", "describeServer", "createInviteCodes"} {
		next := strings.Index(body, `"/xrpc/com.atproto.server.`+name+`":`)
		if next <= at {
			t.Errorf("%s is not where it belongs", name)
		}
		at = next
	}
}

// The names of errors are an enum, which has each that the server may answer with: those
// that a method declares, those of the protocol, and those that are declared in code.
func TestOpenAPIErrors(t *testing.T) {
	_, _, body := fetch(t, serveDocs(t), "/openapi.json", "pds.test")
	type response struct {
		Properties struct{ Error struct{ Enum []string } }
	}
	var d struct {
		Paths map[string]map[string]struct {
			Responses map[string]struct {
				Content map[string]struct{ Schema response }
			}
		}
		Components struct{ Schemas map[string]response }
	}
	if err := json.Unmarshal([]byte(body), &d); err != nil {
		t.Fatal(err)
	}
	all := []string{
		"InvalidRequest", "AuthenticationRequired", "InvalidToken", "ExpiredToken", "Forbidden", "XRPCNotSupported", "NotAcceptable",
		"PayloadTooLarge", "UnsupportedMediaType", "RateLimitExceeded", "InternalServerError", "MethodNotImplemented",
		"UpstreamFailure", "NotEnoughResources", "UpstreamTimeout",
	}
	for _, name := range xrpc.UndeclaredNames() {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	hold := func(what string, got []string, declared ...string) {
		t.Helper()
		want := slices.Clone(declared)
		for _, name := range all {
			if !slices.Contains(want, name) {
				want = append(want, name)
			}
		}
		slices.Sort(want)
		got = slices.Clone(got)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	hold("of all methods", d.Components.Schemas["Error"].Properties.Error.Enum)
	of := func(method string) []string {
		return d.Paths["/xrpc/com.atproto.server."+method]["post"].Responses["default"].Content["application/json"].Schema.Properties.Error.Enum
	}
	hold("createSession", of("createSession"), "AccountTakedown", "AuthFactorTokenRequired")
	hold("createAccount", of("createAccount"), "InvalidHandle", "InvalidPassword", "InvalidInviteCode", "HandleNotAvailable", "UnsupportedDomain", "UnresolvableDid", "IncompatibleDidDoc")
	if got := of("createSession")[:2]; !slices.Equal(got, []string{"AccountTakedown", "AuthFactorTokenRequired"}) {
		t.Errorf("createSession begins with %v, not with its own", got)
	}
}
