package server_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/account/serviceauth"
	"portico/impl/servertest"
)

// serviceToken asks for a service token; params are pairs of name and value.
func (f *fixture) serviceToken(token string, params ...string) answer {
	f.Helper()
	q := url.Values{}
	for i := 0; i < len(params); i += 2 {
		q.Add(params[i], params[i+1])
	}
	return f.Get("getServiceAuth?"+q.Encode(), token)
}

// signsWith puts a DID into the internet whose signing key is a did:key.
func (f *fixture) signsWith(did syntax.DID, key string) {
	f.Helper()
	f.PublishJSON(did, fmt.Appendf(nil, `{"id":"%s","verificationMethod":[{"id":"%[1]s#atproto",
		"type":"Multikey","controller":"%[1]s","publicKeyMultibase":"%s"}]}`, did, strings.TrimPrefix(key, "did:key:")))
}

const move = "com.atproto.server.createAccount"

func TestGetServiceAuth(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	row, err := f.DB.SigningKey(t.Context(), u.DID, "atproto")
	if err != nil {
		t.Fatal(err)
	}
	key, err := atcrypto.ParsePublicDIDKey(row.Public)
	if err != nil {
		t.Fatal(err)
	}
	now := f.Now().Unix()
	seen := map[string]bool{}
	for _, tt := range []struct {
		name   string
		params []string
		claims string // without the token's id
	}{
		{"nothing but aud", []string{"aud", "did:web:api.test"},
			fmt.Sprintf(`{"iat":%d,"iss":"%s","aud":"did:web:api.test","exp":%d,`, now, u.DID, now+60)},
		{"fragment", []string{"aud", "did:web:api.test#bsky_appview", "lxm", "app.bsky.feed.getTimeline"},
			fmt.Sprintf(`{"iat":%d,"iss":"%s","aud":"did:web:api.test#bsky_appview","exp":%d,"lxm":"app.bsky.feed.getTimeline",`, now, u.DID, now+60)},
		{"empty lxm is none", []string{"aud", "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "lxm", ""},
			fmt.Sprintf(`{"iat":%d,"iss":"%s","aud":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa","exp":%d,`, now, u.DID, now+60)},
		{"an hour for one method", []string{"aud", "did:web:localhost%3A2584", "lxm", move, "exp", strconv.FormatInt(now+3600, 10)},
			fmt.Sprintf(`{"iat":%d,"iss":"%s","aud":"did:web:localhost%%3A2584","exp":%d,"lxm":"com.atproto.server.createAccount",`, now, u.DID, now+3600)},
		{"a minute for all", []string{"aud", "did:web:api.test", "exp", strconv.FormatInt(now+60, 10)},
			fmt.Sprintf(`{"iat":%d,"iss":"%s","aud":"did:web:api.test","exp":%d,`, now, u.DID, now+60)},
		{"up to now", []string{"aud", "did:web:api.test", "exp", strconv.FormatInt(now, 10)},
			fmt.Sprintf(`{"iat":%d,"iss":"%s","aud":"did:web:api.test","exp":%d,`, now, u.DID, now)},
		{"exp of zero is not checked", []string{"aud", "did:web:api.test", "exp", "0"},
			fmt.Sprintf(`{"iat":%d,"iss":"%s","aud":"did:web:api.test","exp":0,`, now, u.DID)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := f.Accepted(f.serviceToken(u.Access, tt.params...))
			if got := a.Header.Get("Cache-Control"); got != "private" {
				t.Errorf("Cache-Control %q", got)
			}
			text := a.Text(t, "token")
			part := strings.Split(text, ".")
			if len(part) != 3 || len(a.Fields(t)) != 1 {
				t.Fatalf("answer %s", a.Body)
			}
			decode := func(s string) []byte {
				b, err := base64.RawURLEncoding.DecodeString(s)
				if err != nil {
					t.Fatal(err)
				}
				return b
			}
			if got := string(decode(part[0])); got != `{"typ":"JWT","alg":"ES256K"}` {
				t.Errorf("header %s", got)
			}
			claims, id, _ := strings.Cut(string(decode(part[1])), `"jti":"`)
			if claims != tt.claims {
				t.Errorf("claims %s\nwant   %s", claims, tt.claims)
			}
			if len(id) != 34 || seen[id] {
				t.Errorf("token id %s", id)
			}
			seen[id] = true
			if err := key.HashAndVerify([]byte(part[0]+"."+part[1]), decode(part[2])); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestGetServiceAuthRefuses(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	plain := f.SignIn(u, f.appPassword(u, "plain", false)).Access
	privileged := f.SignIn(u, f.appPassword(u, "privileged", true)).Access
	now := f.Now().Unix()
	at := func(seconds int64) string { return strconv.FormatInt(now+seconds, 10) }
	const aud = "did:web:api.test"
	for _, tt := range []struct {
		name, token    string
		params         []string
		status         int
		error, message string
	}{
		{"no aud", u.Access, nil, 400, "InvalidRequest", `Invalid com.atproto.server.getServiceAuth params: Missing required key "aud"`},
		{"long aud", u.Access, []string{"aud", "did:web:" + strings.Repeat("x", 2041)}, 400, "InvalidRequest", "Invalid com.atproto.server.getServiceAuth params: string too big (maximum 2048, got 2049)"},
		{"lxm that is none", u.Access, []string{"aud", aud, "lxm", "x"}, 400, "InvalidRequest", `Invalid com.atproto.server.getServiceAuth params: Invalid NSID (got "x")`},
		{"exp that is none", u.Access, []string{"aud", aud, "exp", "soon"}, 400, "InvalidRequest", `Invalid com.atproto.server.getServiceAuth params: Expected integer value type (got "soon")`},
		{"bad parameter before missing token", "", []string{"lxm", "x"}, 400, "InvalidRequest", `Invalid com.atproto.server.getServiceAuth params: Missing required key "aud"`},
		{"no DID", u.Access, []string{"aud", "api.test"}, 400, "InvalidRequest", "aud must be a valid atproto DID or did#serviceId reference"},
		{"foreign DID method", u.Access, []string{"aud", "did:key:zQ3sh"}, 400, "InvalidRequest", "aud must be a valid atproto DID or did#serviceId reference"},
		{"did:web with a path", u.Access, []string{"aud", "did:web:api.test:path"}, 400, "InvalidRequest", "aud must be a valid atproto DID or did#serviceId reference"},
		{"empty fragment", u.Access, []string{"aud", aud + "#"}, 400, "InvalidRequest", "aud must be a valid atproto DID or did#serviceId reference"},
		{"two fragments", u.Access, []string{"aud", aud + "#a#b"}, 400, "InvalidRequest", "aud must be a valid atproto DID or did#serviceId reference"},
		{"aud before all else", u.Access, []string{"aud", "x", "exp", "1", "lxm", "com.atproto.server.getSession"}, 400, "InvalidRequest", "aud must be a valid atproto DID or did#serviceId reference"},
		{"app password, privileged method", plain, []string{"aud", aud, "lxm", "chat.bsky.convo.getLog"}, 400, "InvalidRequest", "insufficient access to request a service auth token for the following method: chat.bsky.convo.getLog"},
		{"app password, moving away", plain, []string{"aud", aud, "lxm", move}, 400, "InvalidRequest", "insufficient access to request a service auth token for the following method: com.atproto.server.createAccount"},
		{"whatever the case", plain, []string{"aud", aud, "lxm", "chat.bsky.convo.getlog"}, 400, "InvalidRequest", "insufficient access to request a service auth token for the following method: chat.bsky.convo.getlog"},
		{"access before expiration", plain, []string{"aud", aud, "lxm", move, "exp", "1"}, 400, "InvalidRequest", "insufficient access to request a service auth token for the following method: com.atproto.server.createAccount"},
		{"past", u.Access, []string{"aud", aud, "exp", at(-1)}, 400, "BadExpiration", "expiration is in past"},
		{"below zero", u.Access, []string{"aud", aud, "exp", "-9007199254740991"}, 400, "BadExpiration", "expiration is in past"},
		{"over an hour", u.Access, []string{"aud", aud, "lxm", move, "exp", at(3601)}, 400, "BadExpiration", "cannot request a token with an expiration more than an hour in the future"},
		{"over an hour without method", u.Access, []string{"aud", aud, "exp", at(3601)}, 400, "BadExpiration", "cannot request a token with an expiration more than an hour in the future"},
		{"end of time", u.Access, []string{"aud", aud, "exp", "9007199254740991"}, 400, "BadExpiration", "cannot request a token with an expiration more than an hour in the future"},
		{"over a minute without method", u.Access, []string{"aud", aud, "exp", at(61)}, 400, "BadExpiration", "cannot request a method-less token with an expiration more than a minute in the future"},
		{"expiration before protected", u.Access, []string{"aud", aud, "lxm", "com.atproto.server.getSession", "exp", "1"}, 400, "BadExpiration", "expiration is in past"},
		{"protected", u.Access, []string{"aud", aud, "lxm", "com.atproto.server.updateEmail"}, 400, "InvalidRequest", "cannot request a service auth token for the following protected method: com.atproto.server.updateEmail"},
		{"protected, whatever the case", u.Access, []string{"aud", aud, "lxm", "com.atproto.identity.signplcoperation"}, 400, "InvalidRequest", "cannot request a service auth token for the following protected method: com.atproto.identity.signplcoperation"},
		{"protected, privileged", privileged, []string{"aud", aud, "lxm", "com.atproto.server.createAppPassword"}, 400, "InvalidRequest", "cannot request a service auth token for the following protected method: com.atproto.server.createAppPassword"},
		{"refresh token", u.Refresh, []string{"aud", aud}, 400, "InvalidToken", "Token could not be verified"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.Refused(f.serviceToken(tt.token, tt.params...), tt.status, tt.error, tt.message)
		})
	}
	f.Refused(f.Get("getServiceAuth?aud="+aud), 401, "AuthMissing", "Authentication Required")
}

// The mistake this guards against: a check of privileges that is the wrong way
// around gives app passwords everything, or the account's password nothing.
func TestGetServiceAuthPrivileges(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	plain := f.SignIn(u, f.appPassword(u, "plain", false)).Access
	privileged := f.SignIn(u, f.appPassword(u, "privileged", true)).Access
	for _, lxm := range []string{
		move, "chat.bsky.convo.sendMessage", "chat.bsky.actor.deleteAccount",
		// DESIGN §10: all of chat, whatever its methods are called.
		"chat.bsky.convo.addReaction", "chat.bsky.moderation.getActorMetadata", "chat.bsky.new", "Chat.BSKY.convo.getLog",
	} {
		f.Accepted(f.serviceToken(u.Access, "aud", "did:web:api.test", "lxm", lxm))
		f.Accepted(f.serviceToken(privileged, "aud", "did:web:api.test", "lxm", lxm))
		if a := f.serviceToken(plain, "aud", "did:web:api.test", "lxm", lxm); a.Status != 400 {
			t.Errorf("an app password got a token for %s: %d %s", lxm, a.Status, a.Body)
		}
	}
	for _, token := range []string{u.Access, privileged, plain} {
		f.Accepted(f.serviceToken(token, "aud", "did:web:api.test", "lxm", "app.bsky.feed.getTimeline"))
		f.Accepted(f.serviceToken(token, "aud", "did:web:api.test", "lxm", "chat.bskyx.convo.getLog"))
		f.Accepted(f.serviceToken(token, "aud", "did:web:api.test"))
	}
}

// signUpWithDID makes an account of a DID that its owner has the key of, and lets its document
// name the signing key that it got here.
func (f *fixture) signUpWithDID(did syntax.DID, key atcrypto.PrivateKey, handle string) user {
	f.Helper()
	in := fmt.Sprintf(`{"handle":%q,"email":"%s@example.com","password":%q,"did":%q}`, handle, strings.TrimSuffix(handle, ".test"), goodPassword, did)
	a := f.Accepted(f.Post("createAccount", in, f.ServiceToken(did, key, move, time.Minute)))
	f.signsWith(did, f.SigningKey(did))
	f.Forget(did)
	return user{DID: did, Handle: handle, Access: servertest.Bearer(a.Text(f, "accessJwt"))}
}

// DESIGN §10, service tokens: the moderation account may live here, and what its app
// passwords do is to end short of moderating.
func TestDesignServiceTokensForAdminMethods(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		const admin, here = "com.atproto.admin.getInviteCodes", "did:web:pds.test"
		mod, other := f.signUpWithDID(servertest.ModService, f.ModKey, "ourmods.test"), f.SignUp("alice")
		for _, u := range []user{mod, other} {
			for _, privileged := range []bool{false, true} {
				app := f.SignIn(u, f.appPassword(u, fmt.Sprint(privileged), privileged)).Access
				for _, lxm := range []string{admin, "com.atproto.admin.sendEmail", "com.atproto.ADMIN.getInviteCodes", "com.atproto.admin.toCome"} {
					f.Refused(f.serviceToken(app, "aud", here, "lxm", lxm), 400, "InvalidRequest",
						"insufficient access to request a service auth token for the following method: "+lxm)
				}
				for _, lxm := range []string{"", "app.bsky.feed.getTimeline", "com.atproto.administration.x"} {
					switch a := f.serviceToken(app, "aud", here, "lxm", lxm); {
					case lxm == "" && u.DID == mod.DID:
						f.Refused(a, 400, "InvalidRequest", "insufficient access to request a service auth token without a method")
					default:
						f.Accepted(a)
					}
				}
			}
		}
		// Signed in with its own password it moderates.
		f.Accepted(f.serviceToken(mod.Access, "aud", here))
		token := f.Accepted(f.serviceToken(mod.Access, "aud", here, "lxm", admin)).Text(t, "token")
		f.Accepted(f.Get(admin, servertest.Bearer(token)))
		token = f.Accepted(f.serviceToken(other.Access, "aud", here, "lxm", admin)).Text(t, "token")
		f.Refused(f.Get(admin, servertest.Bearer(token)), 401, "UntrustedIss", "Untrusted issuer")
	})
}

// A key that has left the document of a DID opens nothing for longer than a minute, and
// one that came in, of whatever kind, does so at once.
func TestKeyThatLeftADIDDocument(t *testing.T) {
	const brought, admin = syntax.DID("did:web:alice.example"), "com.atproto.admin.getInviteCodes"
	secp, nist := servertest.Must(atcrypto.GeneratePrivateKeyK256()), servertest.Must(atcrypto.GeneratePrivateKeyP256())
	for _, tt := range []struct {
		name string
		did  syntax.DID
		call func(f *fixture, key atcrypto.PrivateKey) answer
	}{
		{"of the moderation service", servertest.ModService, func(f *fixture, key atcrypto.PrivateKey) answer {
			return f.Get(admin, f.ServiceToken(servertest.ModService, key, admin, time.Hour))
		}},
		{"of who brings a DID", brought, func(f *fixture, key atcrypto.PrivateKey) answer {
			// Nobody gets this handle: who may bring the DID comes before.
			in := fmt.Sprintf(`{"handle":"alice.test","email":"alice@example.com","password":%q,"did":"did:web:other.example"}`, goodPassword)
			return f.Post("createAccount", in, f.ServiceToken(brought, key, move, time.Hour))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			engines(t, func(t *testing.T, f *fixture) {
				in := func(key atcrypto.PrivateKey) bool {
					return tt.call(f, key).Outcome() != `401 BadJwtSignature "could not verify jwt signature"`
				}
				publish := func(key atcrypto.PrivateKey) {
					f.Publish(tt.did, "", map[string]atcrypto.PrivateKey{"atproto": key})
				}
				publish(secp)
				f.Forget(tt.did)
				if !in(secp) || in(nist) {
					t.Fatal("the key of the document does not count")
				}
				publish(nist)
				f.Advance(59 * time.Second)
				if !in(secp) {
					t.Error("the document was asked for again within a minute")
				}
				f.Advance(2 * time.Second)
				if in(secp) {
					t.Error("a key that left the document more than a minute ago is accepted")
				}
				publish(secp)
				f.Advance(time.Second)
				if !in(secp) {
					t.Error("a new key of another kind is not looked up")
				}
				f.Publish(tt.did, "", nil)
				f.Advance(time.Second)
				if !in(secp) {
					t.Error("the document was asked for again within a minute")
				}
				f.Advance(time.Minute)
				f.Refused(tt.call(f, secp), 401, "AuthenticationRequired", "missing or bad key in did doc")
				publish(secp)
				f.Advance(time.Second)
				if !in(secp) {
					t.Error("a key that came back is not looked up")
				}
				// Where nobody says what the key is now, none counts.
				f.Advance(2 * time.Minute)
				f.Internet.Unpublish(tt.did)
				f.Refused(tt.call(f, secp), 401, "AuthenticationRequired", "could not resolve iss did")
			})
		})
	}
}

// DESIGN 15: an account that is taken down can move away, with a token from
// before the takedown and with that of its appeal.
func TestDesign15TakenDownAccountMovesAway(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	f.TakeDown(u.DID)
	appeal := f.appeal(u)
	for name, token := range map[string]string{"older token": u.Access, "appeal": appeal} {
		t.Run(name, func(t *testing.T) {
			a := f.Accepted(f.serviceToken(token, "aud", "did:web:new.test", "lxm", move))
			// The other server accepts it, for that method and for itself.
			row, err := f.DB.SigningKey(t.Context(), u.DID, "atproto")
			if err != nil {
				t.Fatal(err)
			}
			f.signsWith(u.DID, row.Public)
			v := &serviceauth.Verifier{Audiences: []string{"did:web:new.test"}, Resolver: f.Internet, Now: f.Now}
			if claims, err := v.Verify(t.Context(), a.Text(t, "token"), move); err != nil || claims.DID != u.DID {
				t.Errorf("verified as %v, %v", claims, err)
			}
			if _, err := v.Verify(t.Context(), a.Text(t, "token"), "com.atproto.repo.uploadBlob"); err == nil {
				t.Error("the token is good for another method")
			}
		})
	}
}

// DESIGN 14: for anything but moving away, an account that is taken down gets no
// service token.
func TestDesign14ServiceTokensOfTakenDownAccounts(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	plain := f.SignIn(u, f.appPassword(u, "plain", false)).Access
	f.TakeDown(u.DID)
	appeal := f.appeal(u)
	for _, params := range [][]string{
		{"aud", "did:web:api.test"},
		{"aud", "did:web:api.test", "lxm", ""},
		{"aud", "did:web:api.test", "lxm", "app.bsky.feed.getTimeline"},
		{"aud", "did:web:api.test", "lxm", "chat.bsky.convo.getLog"},
		{"aud", "did:web:api.test", "lxm", "com.atproto.server.createaccount"},
		{"aud", "did:web:api.test", "lxm", "com.atproto.server.getSession", "exp", "1"},
	} {
		f.Refused(f.serviceToken(u.Access, params...), 401, "AccountTakedown", "Account has been taken down")
		f.Refused(f.serviceToken(plain, params...), 401, "AccountTakedown", "Account has been taken down")
		f.Refused(f.serviceToken(appeal, params...), 400, "InvalidToken", "Bad token scope")
	}
	// The other checks hold for moving away too.
	past := strconv.FormatInt(f.Now().Add(-time.Second).Unix(), 10)
	for _, token := range []string{u.Access, appeal} {
		f.Refused(f.serviceToken(token, "aud", "did:web:new.test", "lxm", move, "exp", past), 400, "BadExpiration", "expiration is in past")
		f.Refused(f.serviceToken(token, "aud", "new.test", "lxm", move), 400, "InvalidRequest", "aud must be a valid atproto DID or did#serviceId reference")
	}
	f.Refused(f.serviceToken(plain, "aud", "did:web:new.test", "lxm", move), 400, "InvalidRequest",
		"insufficient access to request a service auth token for the following method: com.atproto.server.createAccount")
}

func TestGetServiceAuthOfDeactivatedAccount(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	f.SetAccount(u.DID, func(a *db.Account) { a.DeactivatedAt = new(f.Now()) })
	f.Accepted(f.serviceToken(u.Access, "aud", "did:web:api.test"))
	f.Accepted(f.serviceToken(u.Access, "aud", "did:web:new.test", "lxm", move))
}

// DESIGN 26: the token of an account that is gone signs nothing.
func TestDesign26ServiceTokenOfDeletedAccount(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	f.Accepted(f.serviceToken(u.Access, "aud", "did:web:api.test")) // its key is in the cache now
	f.Remove(u.DID)
	f.Refused(f.serviceToken(u.Access, "aud", "did:web:api.test"), 403, "AccountNotFound", "Account not found")
}

// A HEAD is a GET without its body.
func TestGetServiceAuthHead(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	a := f.Call(http.MethodHead, "getServiceAuth?aud=did:web:api.test", "", u.Access)
	if a.Status != 200 || a.Body != "" {
		t.Errorf("answer %d %q", a.Status, a.Body)
	}
}
