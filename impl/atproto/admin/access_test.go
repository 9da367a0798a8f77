package admin_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"portico/api/xrpc/xrpctest"
	"portico/impl/servertest"
)

// Who may call what shows in one file.
func TestPolicies(t *testing.T) {
	servertest.Golden(t, "policies.golden", xrpctest.Access(newFixture(t).Routes()))
}

// requests are one for each method, all of them about nobody, so that what is let in
// changes nothing.
var requests = map[string]string{
	"deleteAccount":           `{"did":"` + unknown + `"}`,
	"disableAccountInvites":   `{"account":"` + unknown + `"}`,
	"disableInviteCodes":      `{"codes":["none"]}`,
	"enableAccountInvites":    `{"account":"` + unknown + `"}`,
	"getAccountInfo":          "?did=" + unknown,
	"getAccountInfos":         "?dids=" + unknown,
	"getInviteCodes":          "",
	"getSubjectStatus":        "?did=" + unknown,
	"searchAccounts":          "",
	"sendEmail":               `{"recipientDid":"` + unknown + `","senderDid":"` + unknown + `","content":"x"}`,
	"updateAccountEmail":      `{"account":"` + unknown + `","email":"x@example.com"}`,
	"updateAccountHandle":     `{"did":"` + unknown + `","handle":"x.test"}`,
	"updateAccountPassword":   `{"did":"` + unknown + `","password":"a good password"}`,
	"updateAccountSigningKey": `{"did":"` + unknown + `","signingKey":"did:key:zQ3shVc2UkAfJCdc1TR8E66J85h48P43r93q8jGPkPpjF9Ef9"}`,
	"updateSubjectStatus":     `{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":"` + unknown + `"}}`,
}

// Every method is called with every credential. What comes of it is a table, to be
// reviewed line by line.
func TestAccess(t *testing.T) {
	table := newFixture(t).AccessTable(requests, servertest.AdminCredentials())
	servertest.Golden(t, "access.golden", "# What each method answers to each credential, everything else being right. The request is\n"+
		"# about an account that is not here, which some methods answer with 400.\n"+table)
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
		c := object("iss", servertest.ModService, "aud", "did:web:pds.test", "exp", now+60, "lxm", method)
		for i := 0; i < len(change); i += 2 {
			if c[change[i].(string)] = change[i+1]; change[i+1] == nil {
				delete(c, change[i].(string))
			}
		}
		return c
	}
	sign := func(header, claims map[string]any, key atcrypto.PrivateKey) string {
		text := encode(servertest.Must(json.Marshal(header))) + "." + encode(servertest.Must(json.Marshal(claims)))
		return text + "." + encode(servertest.Must(key.HashAndSign([]byte(text))))
	}
	jwt, es256 := object("alg", "ES256K", "typ", "JWT"), object("alg", "ES256", "typ", "JWT")
	other := servertest.Must(atcrypto.GeneratePrivateKeyK256())
	f.Publish("did:web:keyless.example", "keyless.example", nil)
	for _, tt := range []struct{ what, token, name, message string }{
		{"two parts", "a.b", "BadJwt", "poorly formatted jwt"},
		{"no JSON", "a.b.c", "BadJwt", "poorly formatted jwt"},
		{"no alg", sign(object("typ", "JWT"), claims(), f.ModKey), "BadJwt", "poorly formatted jwt"},
		{"no exp", sign(jwt, claims("exp", nil), f.ModKey), "BadJwt", "poorly formatted jwt"},
		{"access token's type", sign(object("alg", "ES256K", "typ", "at+jwt"), claims(), f.ModKey), "BadJwtType", `Invalid jwt type "at+jwt"`},
		{"over", sign(jwt, claims("exp", now-1), f.ModKey), "JwtExpired", "jwt expired"},
		{"other method", sign(jwt, claims("lxm", "com.atproto.admin.getAccountInfo"), f.ModKey), "BadJwtLexiconMethod",
			`bad jwt lexicon method ("lxm"). must match: com.atproto.admin.getInviteCodes`},
		{"no method", sign(jwt, claims("lxm", nil), f.ModKey), "BadJwtLexiconMethod",
			`missing jwt lexicon method ("lxm"). must match: com.atproto.admin.getInviteCodes`},
		{"no DID", sign(jwt, claims("iss", "mod.example"), f.ModKey), "BadJwtIss", "jwt iss is not a valid did"},
		{"empty fragment", sign(jwt, claims("iss", servertest.ModService+"#"), f.ModKey), "BadJwtIss", "jwt iss is not a valid did"},
		{"stranger", sign(jwt, claims("iss", "did:web:keyless.example"), other), "UntrustedIss", "Untrusted issuer"},
		{"other fragment", sign(jwt, claims("iss", servertest.ModService+"#atproto_pds"), f.ModKey), "UntrustedIss", "Untrusted issuer"},
		{"other algorithm", sign(es256, claims(), f.ModKey), "BadJwtSignature", "could not verify jwt signature"},
		{"other key", sign(jwt, claims(), other), "BadJwtSignature", "jwt signature does not match jwt issuer"},
		{"labeler with the account's key", sign(jwt, claims("iss", servertest.ModService+"#atproto_labeler"), f.ModKey), "BadJwtSignature",
			"could not verify jwt signature"},
		{"other audience", sign(jwt, claims("aud", "did:web:other.test"), f.ModKey), "BadJwtAudience", "jwt audience does not match service did"},
		{"audience with fragment", sign(jwt, claims("aud", "did:web:pds.test#atproto_pds"), f.ModKey), "BadJwtAudience",
			"jwt audience does not match service did"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			f.TB = t
			a := f.Get(method, "Bearer "+tt.token)
			f.Refused(a, 401, tt.name, tt.message)
			if a.Header.Get("WWW-Authenticate") != "" || a.Header.Get("Cache-Control") != "private" {
				t.Errorf("header %v", a.Header)
			}
		})
	}
	f.TB = t
	good := sign(jwt, claims(), f.ModKey)
	for range 2 { // there is no protection against replay
		f.Accepted(f.Get(method, "Bearer "+good))
	}
	f.Accepted(f.Get(method, "Bearer "+sign(es256, claims("iss", servertest.ModService+"#atproto_labeler"), f.LabelKey)))

	// The document is read anew when a signature does not fit, and may be gone.
	f.Publish(servertest.ModService, "mod.example", nil)
	f.Forget(servertest.ModService)
	f.Refused(f.Get(method, "Bearer "+good), 401, "AuthenticationRequired", "missing or bad key in did doc")
	f.Internet.Unpublish(servertest.ModService)
	f.Forget(servertest.ModService)
	f.Refused(f.Get(method, "Bearer "+good), 401, "AuthenticationRequired", "could not resolve iss did")

	// What a moderator does is recorded under the service's name.
	f.Publish(servertest.ModService, "mod.example", map[string]atcrypto.PrivateKey{"atproto": f.ModKey})
	alice := f.SignUp("alice")
	disable := f.ServiceToken(servertest.ModService, f.ModKey, "com.atproto.admin.disableAccountInvites", time.Minute)
	f.silent(f.Post("disableAccountInvites", `{"account":"`+alice.DID.String()+`"}`, disable))
	if got := f.Recorded(alice.DID); !strings.HasPrefix(got, "12:00:00 invites_disabled by did:web:mod.example from 127.0.0.1: \n") {
		t.Errorf("record %q", got)
	}

	none := newFixture(t, func(o *servertest.Options) { o.ModService = "" })
	none.Refused(none.Get(method, "Bearer "+good), 401, "UntrustedIss", "Untrusted issuer")
	none.Refused(none.Get(method, "Bearer x"), 401, "UntrustedIss", "Untrusted issuer")
}
