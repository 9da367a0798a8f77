package server_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/crypto/scrypt"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/session"
)

func TestDescribeServer(t *testing.T) {
	f := newFixture(t)
	a := f.accepted(f.get("describeServer"))
	const want = `{"inviteCodeRequired":false,"blobUploadLimit":5242880,"availableUserDomains":[".test"],"links":{},"contact":{},"did":"did:web:pds.test"}`
	if strings.TrimSpace(a.body) != want {
		t.Errorf("answer %s\nwant   %s", a.body, want)
	}
	f = newFixture(t, func(o *options) {
		o.config.InviteRequired = true
		o.config.PrivacyPolicy, o.config.TermsOfService = "https://pds.test/privacy", "https://pds.test/terms"
		o.config.ContactEmail, o.config.BlobUploadLimit = "help@pds.test", 1
	})
	a = f.accepted(f.get("describeServer"))
	for _, part := range []string{
		`"inviteCodeRequired":true`, `"blobUploadLimit":1,`, `"links":{"privacyPolicy":"https://pds.test/privacy","termsOfService":"https://pds.test/terms"}`,
		`"contact":{"email":"help@pds.test"}`,
	} {
		if !strings.Contains(a.body, part) {
			t.Errorf("answer %s has no %s", a.body, part)
		}
	}
}

func login(identifier, password string) string {
	return fmt.Sprintf(`{"identifier":%q,"password":%q}`, identifier, password)
}

func TestCreateSession(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	for _, identifier := range []string{"alice.test", "ALICE.test", "alice@example.com", "Alice@Example.COM", u.did.String()} {
		got := f.accepted(f.post("createSession", login(identifier, goodPassword))).fields(t)
		for k, want := range map[string]any{
			"did": u.did.String(), "handle": "alice.test", "email": "alice@example.com", "emailConfirmed": false, "emailAuthFactor": false, "active": true,
		} {
			if got[k] != want {
				t.Errorf("%s: %s = %v, want %v", identifier, k, got[k], want)
			}
		}
		for _, absent := range []string{"status", "didDoc"} {
			if _, ok := got[absent]; ok {
				t.Errorf("%s: answer has %s", identifier, absent)
			}
		}
	}
	wrong := func(a answer) {
		t.Helper()
		f.refused(a, 401, "AuthenticationRequired", "Invalid identifier or password")
	}
	wrong(f.post("createSession", login("alice.test", "wrong password")))
	wrong(f.post("createSession", login("bob.test", goodPassword)))
	wrong(f.post("createSession", login("@alice.test", goodPassword)))
	wrong(f.post("createSession", login(" alice.test", goodPassword)))
	wrong(f.post("createSession", login("", "")))
	wrong(f.post("createSession", login("nobody@example.com", goodPassword)))
	wrong(f.post("createSession", login("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", goodPassword)))
	wrong(f.post("createSession", login("alice.test", "")))
	wrong(f.post("createSession", login("alice.test", "aaaa-bbbb-cccc-dddd")))
	f.refused(f.post("createSession", login("alice.test", strings.Repeat("x", 513))),
		401, "AuthenticationRequired", "Password too long. Consider resetting your password.")
	f.refused(f.post("createSession", `{"password":"x"}`), 400, "InvalidRequest", `Missing required key "identifier" at $`)
	f.refused(f.post("createSession", `{"identifier":null,"password":"x"}`), 400, "InvalidRequest", `Expected string value type (got null) at $.identifier`)
	// The Authorization header is not looked at.
	f.accepted(f.post("createSession", login("alice.test", goodPassword), "Authorization", "nonsense"))
}

func TestCreateSessionOfInactiveAccounts(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	f.setAccount(u.did, func(a *db.Account) { a.DeactivatedAt = new(f.clock.Now()) })
	got := f.accepted(f.post("createSession", login("alice.test", goodPassword))).fields(t)
	if got["active"] != false || got["status"] != "deactivated" {
		t.Errorf("deactivated: %v", got)
	}
	f.takeDown(u.did)
	f.refused(f.post("createSession", login("alice.test", "wrong")), 401, "AuthenticationRequired", "Invalid identifier or password")
	f.refused(f.post("createSession", login("alice.test", goodPassword)), 401, "AccountTakedown", "Account has been taken down")
	a := f.accepted(f.post("createSession", `{"identifier":"alice.test","password":"`+goodPassword+`","allowTakendown":true}`))
	if got := a.fields(t); got["active"] != false || got["status"] != "takendown" {
		t.Errorf("taken down: %v", got)
	}
	f.refused(f.get("getSession", bearer(a.text(t, "accessJwt"))...), 400, "InvalidToken", "Bad token scope")
	f.refused(f.post("refreshSession", "", bearer(a.text(t, "refreshJwt"))...), 401, "AccountTakedown", "Account has been taken down")
	f.setAccount(u.did, func(a *db.Account) { a.TakedownRef = nil })
	// The refresh token of the appeal was for show.
	f.refused(f.post("refreshSession", "", bearer(a.text(t, "refreshJwt"))...), 400, "ExpiredToken", "Token has been revoked")
}

// Wrong passwords cost a budget of the account, whoever sends them, however the
// account is named; who holds a session is not shut out.
func TestCreateSessionBudget(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	names := []string{"alice.test", "ALICE.test", "alice@example.com", u.did.String()}
	for i := range 50 {
		f.refused(f.post("createSession", login(names[i%len(names)], "wrong")), 401, "AuthenticationRequired", "Invalid identifier or password")
	}
	for _, name := range names {
		f.refused(f.post("createSession", login(name, goodPassword)), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	}
	f.accepted(f.get("getSession", bearer(u.access)...))
	f.accepted(f.post("refreshSession", "", bearer(u.refresh)...))
	f.clock.advance(time.Hour)
	f.accepted(f.post("createSession", login("alice.test", goodPassword)))
	// An unknown account looks the same.
	for range 50 {
		f.refused(f.post("createSession", login("nobody.test", "wrong")), 401, "AuthenticationRequired", "Invalid identifier or password")
	}
	f.refused(f.post("createSession", login("Nobody.test", "wrong")), 429, "RateLimitExceeded", "Rate Limit Exceeded")
}

// Strangers who spend the wrong passwords of an account do not keep its owner out from
// where the owner has been, until the password changes; app passwords make no address
// known, and wrong passwords from a known one are counted too.
func TestCreateSessionBudgetOfKnownAddress(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	from := func(address, password string) answer {
		return f.post("createSession", login("alice.test", password), "X-Forwarded-For", address)
	}
	f.accepted(from("192.0.2.1", goodPassword))
	f.accepted(f.post("refreshSession", "", append(bearer(u.refresh), "X-Forwarded-For", "2001:db8::1")...))
	app := f.accepted(f.post("createAppPassword", `{"name":"x"}`, bearer(u.access)...)).text(t, "password")
	f.accepted(from("192.0.2.3", app))
	spend := func(address string) {
		t.Helper()
		for range 50 {
			f.refused(from(address, "wrong"), 401, "AuthenticationRequired", "Invalid identifier or password")
		}
		f.refused(from(address, goodPassword), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	}
	spend("203.0.113.9")
	f.refused(from("192.0.2.3", goodPassword), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	f.accepted(from("192.0.2.1", goodPassword))
	f.accepted(from("2001:db8::2", goodPassword)) // of the same household
	spend("192.0.2.1")
	f.accepted(from("2001:db8::1", goodPassword))

	f.clock.advance(time.Hour)
	spend("203.0.113.9")
	f.accepted(from("192.0.2.1", goodPassword))
	f.clock.advance(90 * 24 * time.Hour)
	spend("203.0.113.9")
	f.refused(from("192.0.2.1", goodPassword), 429, "RateLimitExceeded", "Rate Limit Exceeded")

	// A new password forgets wrong ones and addresses.
	f.clock.advance(time.Hour)
	f.accepted(from("192.0.2.1", goodPassword))
	spend("203.0.113.9")
	f.accepted(f.post("requestPasswordReset", `{"email":"alice@example.com"}`))
	f.accepted(f.post("resetPassword", `{"token":"`+f.code("reset_password")+`","password":"another password"}`))
	for range 50 {
		f.refused(from("192.0.2.1", "wrong"), 401, "AuthenticationRequired", "Invalid identifier or password")
	}
	f.refused(from("203.0.113.9", "another password"), 429, "RateLimitExceeded", "Rate Limit Exceeded")
}

// A reset or a takedown that comes between the check of a password and the start
// of its session wins.
func TestSessionOfReplacedPassword(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	read, err := f.db.AccountByDID(t.Context(), u.did)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*db.Account){
		"another password": func(a *db.Account) { a.PasswordHash = "another" },
		"taken down":       func(a *db.Account) { a.PasswordHash, a.TakedownRef = read.PasswordHash, new("x") },
	} {
		f.setAccount(u.did, change)
		if _, err := f.service.Sessions.Start(t.Context(), read, nil); !errors.Is(err, session.ErrStale) {
			t.Errorf("%s: error %v, want %v", name, err, session.ErrStale)
		}
	}
}

func TestGetSessionRefuses(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	sign := func(claims jwt.MapClaims, typ, secret string) string {
		token := jwt.NewWithClaims(jwt.SigningMethodHS256, claims)
		token.Header["typ"] = typ
		s, err := token.SignedString([]byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	const secret = "a secret of thirty-two characters"
	claims := func(change map[string]any) jwt.MapClaims {
		c := jwt.MapClaims{
			"scope": "com.atproto.access", "aud": "did:web:pds.test", "sub": u.did.String(),
			"iat": f.clock.Now().Unix(), "exp": f.clock.Now().Add(2 * time.Hour).Unix(),
		}
		for k, v := range change {
			if v == nil {
				delete(c, k)
			} else {
				c[k] = v
			}
		}
		return c
	}
	f.accepted(f.get("getSession", bearer(sign(claims(nil), "at+jwt", secret))...))
	f.accepted(f.get("getSession", bearer(sign(claims(map[string]any{"exp": nil}), "application/AT+JWT", secret))...))
	for _, tt := range []struct {
		name, header  string
		status        int
		error, answer string
	}{
		{"nothing", "", 401, "AuthMissing", "Authentication Required"},
		{"no token", "Bearer", 400, "InvalidToken", "Malformed authorization header"},
		{"two spaces", "Bearer  x", 400, "InvalidToken", "Malformed authorization header"},
		{"trailing text", "Bearer x y", 400, "InvalidToken", "Malformed authorization header"},
		{"unknown scheme", "Magic x", 400, "InvalidToken", "Unsupported authorization type: Magic"},
		{"Basic", "Basic YTpi", 400, "InvalidToken", "Unexpected authorization type"},
		{"DPoP", "DPoP x", 400, "InvalidToken", "Unexpected authorization type"},
		{"no JWT", "Bearer x", 400, "InvalidToken", "Token could not be verified"},
		{"refresh token", "Bearer " + u.refresh, 400, "InvalidToken", "Token could not be verified"},
		{"foreign key", "Bearer " + sign(claims(nil), "at+jwt", "another secret of 32 characters.."), 400, "InvalidToken", "Token could not be verified"},
		{"foreign audience", "Bearer " + sign(claims(map[string]any{"aud": "did:web:other.test"}), "at+jwt", secret), 400, "InvalidToken", "Token could not be verified"},
		{"not yet", "Bearer " + sign(claims(map[string]any{"nbf": f.clock.Now().Add(time.Hour).Unix()}), "at+jwt", secret), 400, "InvalidToken", "Token could not be verified"},
		{"expired", "Bearer " + sign(claims(map[string]any{"exp": f.clock.Now().Unix() - 1}), "at+jwt", secret), 400, "ExpiredToken", "Token has expired"},
		{"audience list", "Bearer " + sign(claims(map[string]any{"aud": []string{"did:web:pds.test"}}), "at+jwt", secret), 400, "InvalidToken", "Malformed token"},
		{"lxm", "Bearer " + sign(claims(map[string]any{"lxm": "x"}), "at+jwt", secret), 400, "InvalidToken", "Malformed token"},
		{"no DID", "Bearer " + sign(claims(map[string]any{"sub": "alice"}), "at+jwt", secret), 400, "InvalidToken", "Malformed token"},
		{"other scope", "Bearer " + sign(claims(map[string]any{"scope": "com.atproto.takendown"}), "at+jwt", secret), 400, "InvalidToken", "Bad token scope"},
		{"no scope", "Bearer " + sign(claims(map[string]any{"scope": nil}), "at+jwt", secret), 400, "InvalidToken", "Bad token scope"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.refused(f.get("getSession", "Authorization", tt.header), tt.status, tt.error, tt.answer)
		})
	}
	// A token that outlived its account, and one of an account that is taken down.
	unknown := sign(claims(map[string]any{"sub": "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"}), "at+jwt", secret)
	f.refused(f.get("getSession", bearer(unknown)...), 400, "InvalidRequest", "Could not find user info for account: did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	f.takeDown(u.did)
	f.refused(f.get("getSession", bearer(u.access)...), 400, "InvalidRequest", "Could not find user info for account: "+u.did.String())
}

func TestAccessTokenEnds(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	f.clock.advance(2*time.Hour - time.Second)
	f.accepted(f.get("getSession", bearer(u.access)...))
	f.clock.advance(2 * time.Second)
	f.refused(f.get("getSession", bearer(u.access)...), 400, "ExpiredToken", "Token has expired")
}

// DESIGN, row of §2.12–2.13: what ends all tokens of an account ends access
// tokens too, those of the same second included, and none that come after.
func TestDesignAccessTokensFromBeforeAReset(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	f.clock.advance(300 * time.Millisecond)
	f.setAccount(u.did, func(a *db.Account) { a.TokensValidFrom = session.ValidFrom(f.clock.Now()) })
	f.refused(f.get("getSession", bearer(u.access)...), 400, "ExpiredToken", "Token has expired")
	again := f.accepted(f.post("createSession", login("alice.test", goodPassword)))
	f.accepted(f.get("getSession", bearer(again.text(t, "accessJwt"))...))
}

func TestRefreshSession(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	f.clock.advance(time.Minute)
	first := f.accepted(f.post("refreshSession", "", bearer(u.refresh)...))
	if got := first.fields(t); got["did"] != u.did.String() || got["handle"] != "alice.test" || got["active"] != true || got["emailConfirmed"] != false {
		t.Errorf("answer %v", got)
	}
	f.accepted(f.get("getSession", bearer(first.text(t, "accessJwt"))...))
	// A used token gives the same successor for two hours after its first use.
	f.clock.advance(time.Hour)
	again := f.accepted(f.post("refreshSession", "", bearer(u.refresh)...))
	if id(t, again) != id(t, first) {
		t.Error("the second refresh has another successor")
	}
	f.clock.advance(59 * time.Minute)
	f.accepted(f.post("refreshSession", "", bearer(u.refresh)...))
	f.clock.advance(2 * time.Minute)
	f.refused(f.post("refreshSession", "", bearer(u.refresh)...), 400, "ExpiredToken", "Token has been revoked")
	// The family lives on.
	f.accepted(f.post("refreshSession", "", bearer(first.text(t, "refreshJwt"))...))

	f.refused(f.post("refreshSession", "", bearer(u.access)...), 400, "InvalidToken", "Token could not be verified")
	f.refused(f.post("refreshSession", ""), 401, "AuthMissing", "Authentication Required")
	f.refused(f.post("refreshSession", "", "Authorization", "Basic YTpi"), 401, "AuthMissing", "Authentication Required")
	f.refused(f.post("refreshSession", "{}", bearer(u.refresh)...), 400, "InvalidRequest", "A request body was provided when none was expected")

	f.clock.advance(91 * 24 * time.Hour)
	f.refused(f.post("refreshSession", "", bearer(first.text(t, "refreshJwt"))...), 400, "ExpiredToken", "Token has expired")
}

// id is the jti of the refresh token in a.
func id(t *testing.T, a answer) string {
	t.Helper()
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(a.text(t, "refreshJwt"), claims); err != nil {
		t.Fatal(err)
	}
	return claims["jti"].(string)
}

func TestRefreshSessionOfLostAccounts(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	f.takeDown(u.did)
	f.refused(f.post("refreshSession", "", bearer(u.refresh)...), 401, "AccountTakedown", "Account has been taken down")
	err := f.db.Write(t.Context(), func(tx *db.Tx) error { return tx.DeleteAccount(t.Context(), u.did) })
	if err != nil {
		t.Fatal(err)
	}
	f.refused(f.post("refreshSession", "", bearer(u.refresh)...), 400, "InvalidRequest", "Could not find user info for account: "+u.did.String())
}

func TestRefreshSessionRaces(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, func(o *options) { o.engine = d })
		u := f.signUp("alice")
		answers := make([]answer, 10)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() {
				var err error
				if answers[i], err = f.try(http.MethodPost, "refreshSession", "", bearer(u.refresh)...); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for _, a := range answers {
			if a.status != 200 {
				t.Fatalf("answer %d %s", a.status, a.body)
			}
			if id(t, a) != id(t, answers[0]) {
				t.Error("two successors")
			}
		}
	})
}

func TestDeleteSession(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	a := f.accepted(f.post("deleteSession", "", bearer(u.refresh)...))
	if a.body != "" || a.header.Get("Content-Type") != "" {
		t.Errorf("answer %q of type %q", a.body, a.header.Get("Content-Type"))
	}
	f.accepted(f.post("deleteSession", "", bearer(u.refresh)...))
	f.refused(f.post("refreshSession", "", bearer(u.refresh)...), 400, "ExpiredToken", "Token has been revoked")
	f.accepted(f.get("getSession", bearer(u.access)...))
	f.clock.advance(100 * 24 * time.Hour)
	f.accepted(f.post("deleteSession", "", bearer(u.refresh)...))
	f.refused(f.post("deleteSession", ""), 401, "AuthMissing", "Authentication Required")
	f.refused(f.post("deleteSession", "", bearer(u.access)...), 400, "InvalidToken", "Token could not be verified")
}

// DESIGN, row of §2.12–2.13: signing out ends predecessor and successor.
func TestDesignSigningOutEndsTheWholeSession(t *testing.T) {
	for _, which := range []string{"first", "second"} {
		t.Run(which, func(t *testing.T) {
			f := newFixture(t)
			u := f.signUp("alice")
			second := f.accepted(f.post("refreshSession", "", bearer(u.refresh)...)).text(t, "refreshJwt")
			out := map[string]string{"first": u.refresh, "second": second}[which]
			f.accepted(f.post("deleteSession", "", bearer(out)...))
			f.refused(f.post("refreshSession", "", bearer(u.refresh)...), 400, "ExpiredToken", "Token has been revoked")
			f.refused(f.post("refreshSession", "", bearer(second)...), 400, "ExpiredToken", "Token has been revoked")
		})
	}
}

func TestSessionHeaders(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	private := func(a answer, want bool) {
		t.Helper()
		if got := a.header.Get("Cache-Control") == "private" && strings.Contains(strings.Join(a.header.Values("Vary"), ","), "Authorization"); got != want {
			t.Errorf("answer %d %v: private is %v, want %v", a.status, a.header, got, want)
		}
	}
	private(f.get("getSession", bearer(u.access)...), true)
	private(f.get("getSession", bearer("x")...), true)
	private(f.get("getSession"), true)
	private(f.get("getSession", "Authorization", "Bearer"), false)
	private(f.get("getSession", "Authorization", "Magic x"), false)
	private(f.post("refreshSession", "", "Authorization", "Bearer"), true)
	private(f.post("deleteSession", "", "Authorization", "Magic x"), true)
	private(f.get("describeServer"), false)
	private(f.post("createSession", login("alice.test", goodPassword)), false)
	private(f.post("getSession", ""), false)
}

// DESIGN 28: another spelling of the identifier does not evade the limit.
func TestDesign28LoginLimit(t *testing.T) {
	f := newFixture(t, func(o *options) { o.limiter = true })
	f.signUp("alice")
	for i := range 30 {
		name := []string{"alice.test", "Alice.test", "ALICE.TEST"}[i%3]
		a := f.accepted(f.post("createSession", login(name, goodPassword)))
		if got, want := a.header.Get("RateLimit-Remaining"), fmt.Sprint(29-i); got != want {
			t.Fatalf("login %d: RateLimit-Remaining %s, want %s", i, got, want)
		}
	}
	a := f.post("createSession", login("aLiCe.test", goodPassword))
	f.refused(a, 429, "RateLimitExceeded", "Rate Limit Exceeded")
	if a.header.Get("Retry-After") != "300" || a.header.Get("RateLimit-Policy") != "30;w=300" {
		t.Errorf("headers %v", a.header)
	}
}

func TestSessionWithDocument(t *testing.T) {
	f := newFixture(t, func(o *options) { o.config.DocumentInSessions = true })
	u := f.signUp("alice")
	a := f.accepted(f.get("getSession", bearer(u.access)...))
	if _, ok := a.fields(t)["didDoc"]; ok {
		t.Error("a document that does not resolve is in the answer")
	}
	f.internet.identity(t, u.did)
	for _, a := range []answer{
		f.get("getSession", bearer(u.access)...), f.post("refreshSession", "", bearer(u.refresh)...),
		f.post("createSession", login("alice.test", goodPassword)),
	} {
		doc, _ := f.accepted(a).fields(t)["didDoc"].(map[string]any)
		if doc["id"] != u.did.String() {
			t.Errorf("didDoc %v", doc)
		}
	}
}

// DESIGN §7.4: while an imported hash is left all sign-ins take the same time, and
// afterwards nobody waits.
func TestDesignSignInWaitsForImportedHashesOnly(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	f.signUp("bob")
	var waited []time.Duration
	f.service.Wait = func(_ context.Context, d time.Duration) { waited = append(waited, d) }
	try := func(want ...time.Duration) {
		t.Helper()
		waited = nil
		f.accepted(f.post("createSession", login("bob.test", goodPassword)))
		f.refused(f.post("createSession", login("bob.test", "wrong")), 401, "AuthenticationRequired", "Invalid identifier or password")
		f.refused(f.post("createSession", login("nobody.test", "wrong")), 401, "AuthenticationRequired", "Invalid identifier or password")
		if !slices.Equal(waited, want) {
			t.Errorf("waited %v, want %v", waited, want)
		}
	}
	try()
	// The reference's hash of goodPassword, made with its own salt text.
	const salt = "00112233445566778899aabbccddeeff"
	key, err := scrypt.Key([]byte(goodPassword), []byte(salt), 16384, 8, 1, 64)
	if err != nil {
		t.Fatal(err)
	}
	f.setAccount(u.did, func(a *db.Account) { a.PasswordHash = salt + ":" + hex.EncodeToString(key) })
	const even = 350 * time.Millisecond
	try(even, even, even)
	f.accepted(f.post("createSession", login("alice.test", goodPassword)))
	try()
}
