package server_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/servertest"
)

func TestCreateAccount(t *testing.T) {
	f := newFixture(t)
	a := f.Accepted(f.Post("createAccount",
		`{"handle":"Alice.test","email":"Alice@Example.com","password":"correct horse battery"}`))
	var out struct {
		Handle, DID, AccessJWT, RefreshJWT string
		DIDDoc                             struct {
			ID          string
			AlsoKnownAs []string
			Service     []struct{ ID, Type, ServiceEndpoint string }
		}
	}
	if err := json.Unmarshal([]byte(a.Body), &out); err != nil {
		t.Fatal(err)
	}
	if out.Handle != "alice.test" || !strings.HasPrefix(out.DID, "did:plc:") || len(out.DID) != 32 {
		t.Errorf("handle %q, DID %q", out.Handle, out.DID)
	}
	if out.DIDDoc.ID != out.DID || out.DIDDoc.AlsoKnownAs[0] != "at://alice.test" ||
		out.DIDDoc.Service[0].ServiceEndpoint != "https://pds.test" || out.DIDDoc.Service[0].ID != "#atproto_pds" {
		t.Errorf("DID document %+v", out.DIDDoc)
	}
	for _, absent := range []string{"active", "status", "email"} {
		if _, ok := a.Fields(t)[absent]; ok {
			t.Errorf("answer has %q", absent)
		}
	}

	session := f.Accepted(f.Get("getSession", servertest.Bearer(out.AccessJWT))).Fields(t)
	want := map[string]any{"did": out.DID, "handle": "alice.test", "email": "alice@example.com", "emailConfirmed": false, "active": true}
	for k, v := range want {
		if session[k] != v {
			t.Errorf("getSession %s = %v, want %v", k, session[k], v)
		}
	}

	// The directory holds what the answer says.
	data, err := f.PLC.Data(t.Context(), syntax.DID(out.DID))
	if err != nil {
		t.Fatal(err)
	}
	public, _ := f.Rotation.PublicKey()
	key, err := f.DB.SigningKey(t.Context(), syntax.DID(out.DID), "atproto")
	if err != nil {
		t.Fatal(err)
	}
	if len(data.RotationKeys) != 1 || data.RotationKeys[0] != public.DIDKey() || data.VerificationMethods["atproto"] != key.Public {
		t.Errorf("directory has %+v", data)
	}
	// The four events of a new account, in their order.
	events, err := f.DB.Events(t.Context(), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, e := range events {
		kinds = append(kinds, e.Kind)
	}
	if got := strings.Join(kinds, " "); got != "#identity #account #commit #sync" {
		t.Errorf("events %s", got)
	}
}

// The rows of the contract's table, in their order.
func TestCreateAccountRefuses(t *testing.T) {
	long := strings.Repeat("x", 257)
	for _, tt := range []struct {
		name, body    string
		status        int
		error, answer string
	}{
		{"no handle", `{"email":"a@example.com"}`, 400, "InvalidRequest", `Missing required key "handle" at $`},
		{"bad handle", `{"handle":"alice"}`, 400, "InvalidRequest", `Invalid handle (got "alice") at $.handle`},
		{"bad did", `{"handle":"alice.test","did":"did"}`, 400, "InvalidRequest", `Invalid DID (got "did") at $.did`},
		{"plcOp", `{"handle":"alice.test","plcOp":{}}`, 400, "IncompatibleDidDoc", "invalid plc operation: not a signed operation of type plc_operation"},
		{"long password", `{"handle":"alice.test","password":"` + long + `"}`, 400, "InvalidRequest", "Password too long. Maximum length is 256 characters."},
		{"DESIGN 13: short password", `{"handle":"alice.test","password":"1234567"}`, 400, "InvalidPassword", "Password too short. Minimum length is 8 characters."},
		{"no email", `{"handle":"alice.test","password":"12345678"}`, 400, "InvalidRequest", "Email is required"},
		{"empty email", `{"handle":"alice.test","email":""}`, 400, "InvalidRequest", "Email is required"},
		{"bad email", `{"handle":"alice.test","email":"alice"}`, 400, "InvalidRequest", "This email address is not supported, please use a different email."},
		{"disposable email", `{"handle":"alice.test","email":"a@mailinator.com"}`, 400, "InvalidRequest", "This email address is not supported, please use a different email."},
		{"forbidden TLD", `{"handle":"alice.local","email":"a@example.com"}`, 400, "InvalidHandle", "Handle TLD is invalid or disallowed"},
		{"dot in front", `{"handle":"a.lice.test","email":"a@example.com"}`, 400, "InvalidHandle", "Invalid characters in handle"},
		{"too short", `{"handle":"al.test","email":"a@example.com"}`, 400, "InvalidHandle", "Handle too short"},
		{"too long", `{"handle":"aliceandbobandcarol.test","email":"a@example.com"}`, 400, "InvalidHandle", "Handle too long"},
		{"reserved", `{"handle":"admin.test","email":"a@example.com"}`, 400, "HandleNotAvailable", "Reserved handle"},
		{"foreign domain", `{"handle":"alice.example.com","email":"a@example.com"}`, 400, "UnsupportedDomain", "Not a supported handle domain"},
		{"DESIGN 24: wrong invite", `{"handle":"alice.test","email":"a@example.com","inviteCode":"nope"}`, 400, "InvalidInviteCode", "Provided invite code not available"},
		{"DESIGN 5: taken handle", `{"handle":"Taken.test","email":"a@example.com"}`, 400, "HandleNotAvailable", "Handle already taken: taken.test"},
		{"taken email", `{"handle":"alice.test","email":"TAKEN@example.com"}`, 400, "InvalidRequest", "Email already taken: TAKEN@example.com"},
		{"somebody else's did", `{"handle":"alice.test","email":"a@example.com","did":"did:web:alice.example"}`, 401, "AuthenticationRequired", "Missing auth to create account with did: did:web:alice.example"},
		{"directory refuses", `{"handle":"alice.test","email":"a@example.com","recoveryKey":"did:key:nonsense"}`, 400, "InvalidRequest", "Invalid rotationKey: did:key:nonsense"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			f.SignUp("taken")
			f.Refused(f.Post("createAccount", tt.body), tt.status, tt.error, tt.answer)
			// Nothing is taken by what was refused.
			f.SignUp("alice")
		})
	}
}

// A recovery key that no directory takes is kept nowhere until one says so.
func TestCreateAccountWithHugeRecoveryKey(t *testing.T) {
	f := newFixture(t)
	f.PLC.Spoil(servertest.Says("", 500, ""))
	f.Refused(f.Post("createAccount", `{"handle":"alice.test","email":"a@example.com","recoveryKey":"did:key:z`+strings.Repeat("z", 50_000)+`"}`),
		400, "InvalidRequest", "Operation too large (4000 bytes maximum in cbor encoding)")
	if asked := f.PLC.Asked(); len(asked) > 0 {
		t.Errorf("the directory was asked %q", asked)
	}
	f.PLC.Spoil(nil)
	f.SignUp("alice")
}

func TestCreateAccountWithInvites(t *testing.T) {
	f := newFixture(t, func(o *options) { o.InviteRequired = true })
	body := func(name, code string) string {
		return fmt.Sprintf(`{"handle":"%s.test","email":"%[1]s@example.com","password":"correct horse","inviteCode":"%s"}`, name, code)
	}
	f.Refused(f.Post("createAccount", body("alice", "")), 400, "InvalidInviteCode", "No invite code provided")
	f.Refused(f.Post("createAccount", body("alice", "nope")), 400, "InvalidInviteCode", "Provided invite code not available")
	f.Invite("one-use", 1, "admin")
	f.Accepted(f.Post("createAccount", body("alice", "one-use")))
	f.Refused(f.Post("createAccount", body("bob", "one-use")), 400, "InvalidInviteCode", "Provided invite code not available")
	f.Invite("no-use", 0, "admin")
	f.Refused(f.Post("createAccount", body("bob", "no-use")), 400, "InvalidInviteCode", "Provided invite code not available")
}

// DESIGN 6: the handle and the email of an inactive account are as taken as any.
func TestDesign6CreateAccountMeetsInactiveAccounts(t *testing.T) {
	f := newFixture(t)
	gone := f.SignUp("taken")
	for _, change := range []func(*db.Account){
		func(a *db.Account) { a.DeactivatedAt = new(f.Now()) },
		func(a *db.Account) { a.TakedownRef = new("x") },
	} {
		f.SetAccount(gone.DID, change)
		f.Refused(f.Post("createAccount", `{"handle":"taken.test","email":"a@example.com"}`),
			400, "HandleNotAvailable", "Handle already taken: taken.test")
		f.Refused(f.Post("createAccount", `{"handle":"alice.test","email":"taken@example.com","password":"12345678"}`),
			400, "InvalidRequest", "Email already taken: taken@example.com")
	}
}

// Of racing sign-ups for one handle, one email or one use of a code exactly one
// gets it, the others get the ordinary answer, and nothing stays taken by them.
func TestCreateAccountRaces(t *testing.T) {
	const racers = 8
	bodies := map[string]func(i int) string{
		"handle": func(i int) string {
			return fmt.Sprintf(`{"handle":"alice.test","email":"a%d@example.com","password":"12345678"}`, i)
		},
		"email": func(i int) string {
			return fmt.Sprintf(`{"handle":"alice%d.test","email":"alice@example.com","password":"12345678"}`, i)
		},
		"invite": func(i int) string {
			return fmt.Sprintf(`{"handle":"alice%d.test","email":"a%[1]d@example.com","password":"12345678","inviteCode":"once"}`, i)
		},
	}
	for what, body := range bodies {
		t.Run(what, func(t *testing.T) {
			engines(t, func(t *testing.T, f *fixture) {
				f.Invite("once", 1, "admin")
				answers := make([]answer, racers)
				var all sync.WaitGroup
				for i := range racers {
					all.Go(func() {
						var err error
						if answers[i], err = f.Try(http.MethodPost, "createAccount", body(i)); err != nil {
							t.Error(err)
						}
					})
				}
				all.Wait()
				won := 0
				for _, a := range answers {
					switch {
					case a.Status == 200:
						won++
					case a.Status != 400:
						t.Errorf("a loser got %d %s", a.Status, a.Body)
					}
				}
				if won != 1 {
					t.Errorf("%d of %d racers won", won, racers)
				}
			})
		})
	}
}

// An account may be made without a password; then its email is not kept.
func TestCreateAccountWithoutPassword(t *testing.T) {
	f := newFixture(t)
	a := f.Accepted(f.Post("createAccount", `{"handle":"alice.test","email":"alice@example.com"}`))
	session := f.Accepted(f.Get("getSession", servertest.Bearer(a.Text(t, "accessJwt")))).Fields(t)
	if _, ok := session["email"]; ok {
		t.Errorf("session has an email: %v", session)
	}
	f.Refused(f.Post("createSession", `{"identifier":"alice.test","password":""}`), 401, "AuthenticationRequired", "Invalid identifier or password")
	f.Accepted(f.Post("createAccount", `{"handle":"bob.test","email":"alice@example.com","password":"12345678"}`))
}

func TestCreateAccountWithOwnDID(t *testing.T) {
	f := newFixture(t)
	const did = "did:web:alice.example"
	key := f.NewIdentity(did)
	sign := func(c map[string]any) string {
		head := base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"JWT","alg":"ES256K"}`))
		claims, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		text := head + "." + base64.RawURLEncoding.EncodeToString(claims)
		sig, err := key.HashAndSign([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return text + "." + base64.RawURLEncoding.EncodeToString(sig)
	}
	good := map[string]any{
		"iss": did, "aud": "did:web:pds.test", "exp": f.Now().Add(time.Minute).Unix(), "lxm": "com.atproto.server.createAccount",
	}
	with := func(name string, value any) map[string]any {
		c := map[string]any{}
		for k, v := range good {
			c[k] = v
		}
		c[name] = value
		if value == nil {
			delete(c, name)
		}
		return c
	}
	body := `{"handle":"alice.test","email":"alice@example.com","password":"correct horse","did":"` + did + `"}`

	for _, tt := range []struct {
		name, token, error, message string
	}{
		{"not three parts", "a.b", "BadJwt", "poorly formatted jwt"},
		{"DESIGN 30: header is no JSON", "x.y.z", "BadJwt", "poorly formatted jwt"},
		{"expired", sign(with("exp", 1)), "JwtExpired", "jwt expired"},
		{"other method", sign(with("lxm", "com.atproto.server.getSession")), "BadJwtLexiconMethod", `bad jwt lexicon method ("lxm"). must match: com.atproto.server.createAccount`},
		{"no method", sign(with("lxm", nil)), "BadJwtLexiconMethod", `missing jwt lexicon method ("lxm"). must match: com.atproto.server.createAccount`},
		{"no DID", sign(with("iss", "alice")), "BadJwtIss", "jwt iss is not a valid did"},
		{"unknown DID", sign(with("iss", "did:web:bob.example")), "AuthenticationRequired", "could not resolve iss did"},
		{"other audience", sign(with("aud", "did:web:other.test")), "BadJwtAudience", "jwt audience does not match service did"},
		{"other key", sign(good)[:len(sign(good))-10] + "AAAAAAAAAA", "BadJwtSignature", "jwt signature does not match jwt issuer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.Refused(f.Post("createAccount", body, servertest.Bearer(tt.token)), 401, tt.error, tt.message)
		})
	}
	f.Refused(f.Post("createAccount", body, "Basic YTpi"), 401, "AuthenticationRequired", "Invalid authorization header")
	f.Refused(f.Post("createAccount", body, "Bearer"), 400, "InvalidToken", "Malformed authorization header")
	f.Refused(f.Post("createAccount", body, "Magic abc"), 400, "InvalidToken", "Unsupported authorization type: Magic")

	a := f.Accepted(f.Post("createAccount", body, servertest.Bearer(sign(good))))
	if a.Text(t, "did") != did {
		t.Errorf("DID %s", a.Text(t, "did"))
	}
	session := f.Accepted(f.Get("getSession", servertest.Bearer(a.Text(t, "accessJwt")))).Fields(t)
	if session["active"] != false || session["status"] != "deactivated" {
		t.Errorf("session %v", session)
	}
	row, err := f.DB.AccountByDID(t.Context(), did)
	if err != nil {
		t.Fatal(err)
	}
	if row.DeleteAfter == nil || !row.DeleteAfter.Equal(f.Now().Add(3*24*time.Hour)) {
		t.Errorf("deleteAfter %v", row.DeleteAfter)
	}
	if events, err := f.DB.Events(t.Context(), 0, 10); err != nil || len(events) != 0 {
		t.Errorf("events %v, %v: an account that moves here is silent until it is activated", events, err)
	}
	f.Refused(f.Post("createAccount", strings.Replace(body, "alice", "alice2", 2), servertest.Bearer(sign(good))), 400, "AlreadyExists", "Repo already exists")
}
