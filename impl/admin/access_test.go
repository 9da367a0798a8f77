package admin_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"

	api "portico/api/atproto/admin"
	"portico/api/xrpc"
	"portico/api/xrpc/xrpctest"
	"portico/impl/admin"
	"portico/impl/auth"
	"portico/impl/serviceauth"
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
		t.Errorf("%s (-file +now; after a review of every line: go test ./impl/admin -update)\n%s", path, diff)
	}
}

func routes(t *testing.T) []xrpc.Route {
	t.Helper()
	s := xrpc.NewServer(echo.New(), xrpc.Options{})
	if err := api.Register(s, &admin.Service{}, admin.Policy{Gate: &auth.Gate{}}); err != nil {
		t.Fatal(err)
	}
	return s.Methods()
}

// Who may call what shows in one file.
func TestPolicies(t *testing.T) { golden(t, "policies.golden", xrpctest.Access(routes(t))) }

// serviceToken is a token of issuer for a method.
func (f *fixture) serviceToken(issuer string, key atcrypto.PrivateKey, aud, lxm string, life time.Duration) string {
	f.Helper()
	now := f.Now()
	text, err := serviceauth.Issue(serviceauth.Request{
		Issuer: syntax.DID(issuer), Audience: aud, Method: lxm, IssuedAt: now, Expires: now.Add(life).Unix(),
	}, key, rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	return "Bearer " + text
}

// The credentials that there are; the caller of some is an account here.
func (f *fixture) credentials(u user) []struct {
	name    string
	present func(nsid string) string
} {
	key := must(atcrypto.GeneratePrivateKeyK256())
	f.publish("did:web:stranger.example", "stranger.example", map[string]atcrypto.PrivateKey{"atproto": key})
	plain := func(header string) func(string) string { return func(string) string { return header } }
	signed := func(iss string, key atcrypto.PrivateKey, life time.Duration) func(string) string {
		return func(nsid string) string { return f.serviceToken(iss, key, "did:web:pds.test", nsid, life) }
	}
	return []struct {
		name    string
		present func(nsid string) string
	}{
		{"none", plain("")},
		{"malformed header", plain("Basic")},
		{"three parts", plain("Basic a b")},
		{"unknown scheme", plain("Digest abc")},
		{"DPoP", plain("DPoP " + strings.TrimPrefix(u.access, "Bearer "))},
		{"Basic admin", plain(basic("admin", adminPassword))},
		{"Basic admin, scheme in capitals", plain(strings.Replace(basic("admin", adminPassword), "Basic", "BASIC", 1))},
		{"Basic admin, wrong password", plain(basic("admin", "guess"))},
		{"Basic admin, no password", plain(basic("admin", ""))},
		{"Basic Admin", plain(basic("Admin", adminPassword))},
		{"Basic, the account's password", plain(basic(u.handle, goodPassword))},
		{"Basic, no base64", plain("Basic !")},
		{"access", plain(u.access)},
		{"refresh", plain(u.refresh)},
		{"moderation service", signed(modService, f.modKey, time.Minute)},
		{"moderation service as labeler", signed(modService+"#atproto_labeler", f.labelKey, time.Minute)},
		{"moderation service, expired", signed(modService, f.modKey, -time.Minute)},
		{"moderation service, another method", func(string) string {
			return f.serviceToken(modService, f.modKey, "did:web:pds.test", "com.atproto.admin.getNothing", time.Minute)
		}},
		{"service of a stranger", signed("did:web:stranger.example", key, time.Minute)},
		{"service of an account here", signed(u.did.String(), key, time.Minute)},
	}
}

// requests are one for each method, all of them about nobody, so that what is let in
// changes nothing.
var requests = map[string]struct{ query, body string }{
	"deleteAccount":           {"", `{"did":"` + unknown + `"}`},
	"disableAccountInvites":   {"", `{"account":"` + unknown + `"}`},
	"disableInviteCodes":      {"", `{"codes":["none"]}`},
	"enableAccountInvites":    {"", `{"account":"` + unknown + `"}`},
	"getAccountInfo":          {"?did=" + unknown, ""},
	"getAccountInfos":         {"?dids=" + unknown, ""},
	"getInviteCodes":          {"", ""},
	"getSubjectStatus":        {"?did=" + unknown, ""},
	"searchAccounts":          {"", ""},
	"sendEmail":               {"", `{"recipientDid":"` + unknown + `","senderDid":"` + unknown + `","content":"x"}`},
	"updateAccountEmail":      {"", `{"account":"` + unknown + `","email":"x@example.com"}`},
	"updateAccountHandle":     {"", `{"did":"` + unknown + `","handle":"x.test"}`},
	"updateAccountPassword":   {"", `{"did":"` + unknown + `","password":"a good password"}`},
	"updateAccountSigningKey": {"", `{"did":"` + unknown + `","signingKey":"did:key:zQ3shVc2UkAfJCdc1TR8E66J85h48P43r93q8jGPkPpjF9Ef9"}`},
	"updateSubjectStatus":     {"", `{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":"` + unknown + `"}}`},
}

// Every method is called with every credential. What comes of it is a table, to be
// reviewed line by line.
func TestAccess(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	var table strings.Builder
	table.WriteString("# What each method answers to each credential, everything else being right. The request is\n" +
		"# about an account that is not here, which some methods answer with 400.\n")
	for _, r := range routes(t) {
		request, ok := requests[strings.TrimPrefix(r.NSID, "com.atproto.admin.")]
		if !ok {
			t.Errorf("%s: this test has no request for it", r.NSID)
			continue
		}
		var outcomes []string
		holders := map[string][]string{}
		for _, c := range f.credentials(u) {
			a := f.send(r.NSID+request.query, request.body, c.present(r.NSID))
			outcome := "200"
			if a.status != 200 {
				outcome = fmt.Sprintf("%d %s %q", a.status, a.text(t, "error"), a.text(t, "message"))
			}
			if a.status >= 500 {
				t.Errorf("%s, %s: %s", r.NSID, c.name, outcome)
			}
			if holders[outcome] == nil {
				outcomes = append(outcomes, outcome)
			}
			holders[outcome] = append(holders[outcome], c.name)
		}
		fmt.Fprintf(&table, "\n%s\n", r.NSID)
		for _, outcome := range outcomes {
			fmt.Fprintf(&table, "  %s\n", outcome)
			for _, name := range holders[outcome] {
				fmt.Fprintf(&table, "      [%s]\n", name)
			}
		}
	}
	golden(t, "access.golden", table.String())
}

// The checks of a moderation service's token, in the order of the contract.
func TestModeratorToken(t *testing.T) {
	f := newFixture(t)
	const method = "com.atproto.admin.getInviteCodes"
	encode := base64.RawURLEncoding.EncodeToString
	object := func(pairs ...any) map[string]any {
		m := map[string]any{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i].(string)] = pairs[i+1]
		}
		return m
	}
	now := f.Now().Unix()
	claims := func(change ...any) map[string]any {
		c := object("iss", modService, "aud", "did:web:pds.test", "exp", now+60, "lxm", method)
		for i := 0; i < len(change); i += 2 {
			if c[change[i].(string)] = change[i+1]; change[i+1] == nil {
				delete(c, change[i].(string))
			}
		}
		return c
	}
	sign := func(header, claims map[string]any, key atcrypto.PrivateKey) string {
		text := encode(must(json.Marshal(header))) + "." + encode(must(json.Marshal(claims)))
		return text + "." + encode(must(key.HashAndSign([]byte(text))))
	}
	jwt, es256 := object("alg", "ES256K", "typ", "JWT"), object("alg", "ES256", "typ", "JWT")
	other := must(atcrypto.GeneratePrivateKeyK256())
	f.publish("did:web:keyless.example", "keyless.example", nil)
	for _, tt := range []struct{ what, token, name, message string }{
		{"two parts", "a.b", "BadJwt", "poorly formatted jwt"},
		{"no JSON", "a.b.c", "BadJwt", "poorly formatted jwt"},
		{"no alg", sign(object("typ", "JWT"), claims(), f.modKey), "BadJwt", "poorly formatted jwt"},
		{"no exp", sign(jwt, claims("exp", nil), f.modKey), "BadJwt", "poorly formatted jwt"},
		{"access token's type", sign(object("alg", "ES256K", "typ", "at+jwt"), claims(), f.modKey), "BadJwtType", `Invalid jwt type "at+jwt"`},
		{"over", sign(jwt, claims("exp", now-1), f.modKey), "JwtExpired", "jwt expired"},
		{"other method", sign(jwt, claims("lxm", "com.atproto.admin.getAccountInfo"), f.modKey), "BadJwtLexiconMethod",
			`bad jwt lexicon method ("lxm"). must match: com.atproto.admin.getInviteCodes`},
		{"no method", sign(jwt, claims("lxm", nil), f.modKey), "BadJwtLexiconMethod",
			`missing jwt lexicon method ("lxm"). must match: com.atproto.admin.getInviteCodes`},
		{"no DID", sign(jwt, claims("iss", "mod.example"), f.modKey), "BadJwtIss", "jwt iss is not a valid did"},
		{"empty fragment", sign(jwt, claims("iss", modService+"#"), f.modKey), "BadJwtIss", "jwt iss is not a valid did"},
		{"stranger", sign(jwt, claims("iss", "did:web:keyless.example"), other), "UntrustedIss", "Untrusted issuer"},
		{"other fragment", sign(jwt, claims("iss", modService+"#atproto_pds"), f.modKey), "UntrustedIss", "Untrusted issuer"},
		{"other algorithm", sign(es256, claims(), f.modKey), "BadJwtSignature", "could not verify jwt signature"},
		{"other key", sign(jwt, claims(), other), "BadJwtSignature", "jwt signature does not match jwt issuer"},
		{"labeler with the account's key", sign(jwt, claims("iss", modService+"#atproto_labeler"), f.modKey), "BadJwtSignature",
			"could not verify jwt signature"},
		{"other audience", sign(jwt, claims("aud", "did:web:other.test"), f.modKey), "BadJwtAudience", "jwt audience does not match service did"},
		{"audience with fragment", sign(jwt, claims("aud", "did:web:pds.test#atproto_pds"), f.modKey), "BadJwtAudience",
			"jwt audience does not match service did"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			f.TB = t
			a := f.send(method, "", "Bearer "+tt.token)
			f.refused(a, 401, tt.name, tt.message)
			if a.header.Get("WWW-Authenticate") != "" || a.header.Get("Cache-Control") != "private" {
				t.Errorf("header %v", a.header)
			}
		})
	}
	f.TB = t
	good := sign(jwt, claims(), f.modKey)
	for range 2 { // there is no protection against replay
		f.accepted(f.send(method, "", "Bearer "+good))
	}
	f.accepted(f.send(method, "", "Bearer "+sign(es256, claims("iss", modService+"#atproto_labeler"), f.labelKey)))

	// The document is read anew when a signature does not fit, and may be gone.
	f.publish(modService, "mod.example", nil)
	f.refused(f.send(method, "", "Bearer "+good), 401, "AuthenticationRequired", "missing or bad key in did doc")
	delete(f.documents, modService)
	f.refused(f.send(method, "", "Bearer "+good), 401, "AuthenticationRequired", "could not resolve iss did")

	// What a moderator does is recorded under the service's name.
	f.publish(modService, "mod.example", map[string]atcrypto.PrivateKey{"atproto": f.modKey})
	alice := f.signUp("alice")
	disable := f.serviceToken(modService, f.modKey, "did:web:pds.test", "com.atproto.admin.disableAccountInvites", time.Minute)
	f.silent(f.send("com.atproto.admin.disableAccountInvites", `{"account":"`+alice.did.String()+`"}`, disable))
	if got := f.recorded(alice.did); !strings.HasPrefix(got, "12:00:00 invites_disabled by did:web:mod.example from 127.0.0.1: \n") {
		t.Errorf("record %q", got)
	}

	none := newFixture(t, func(o *options) { o.modService = "" })
	none.refused(none.send(method, "", "Bearer "+good), 401, "UntrustedIss", "Untrusted issuer")
	none.refused(none.send(method, "", "Bearer x"), 401, "UntrustedIss", "Untrusted issuer")
}
