package server_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/crypto/scrypt"

	"portico/db"
	"portico/impl/account/session"
	"portico/impl/servertest"
)

func TestDescribeServer(t *testing.T) {
	f := newFixture(t)
	a := f.Accepted(f.Get("describeServer"))
	const want = `{"inviteCodeRequired":false,"blobUploadLimit":5242880,"availableUserDomains":[".test"],"links":{},"contact":{},"did":"did:web:pds.test"}`
	if strings.TrimSpace(a.Body) != want {
		t.Errorf("answer %s\nwant   %s", a.Body, want)
	}
	f = newFixture(t, func(o *options) {
		o.InviteRequired = true
		o.Config.PrivacyPolicy, o.Config.TermsOfService = "https://pds.test/privacy", "https://pds.test/terms"
		o.Config.ContactEmail, o.Config.BlobUploadLimit = "help@pds.test", 1
	})
	a = f.Accepted(f.Get("describeServer"))
	for _, part := range []string{
		`"inviteCodeRequired":true`, `"blobUploadLimit":1,`, `"links":{"privacyPolicy":"https://pds.test/privacy","termsOfService":"https://pds.test/terms"}`,
		`"contact":{"email":"help@pds.test"}`,
	} {
		if !strings.Contains(a.Body, part) {
			t.Errorf("answer %s has no %s", a.Body, part)
		}
	}
}

func login(identifier, password string) string {
	return fmt.Sprintf(`{"identifier":%q,"password":%q}`, identifier, password)
}

func TestCreateSession(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	for _, identifier := range []string{"alice.test", "ALICE.test", "alice@example.com", "Alice@Example.COM", u.DID.String()} {
		got := f.Accepted(f.Post("createSession", login(identifier, goodPassword))).Fields(t)
		for k, want := range map[string]any{
			"did": u.DID.String(), "handle": "alice.test", "email": "alice@example.com", "emailConfirmed": false, "active": true,
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
		f.Refused(a, 401, "AuthenticationRequired", "Invalid identifier or password")
	}
	wrong(f.Post("createSession", login("alice.test", "wrong password")))
	wrong(f.Post("createSession", login("bob.test", goodPassword)))
	wrong(f.Post("createSession", login("", "")))
	wrong(f.Post("createSession", login("nobody@example.com", goodPassword)))
	wrong(f.Post("createSession", login("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", goodPassword)))
	wrong(f.Post("createSession", login("alice.test", "")))
	wrong(f.Post("createSession", login("alice.test", "aaaa-bbbb-cccc-dddd")))
	f.Refused(f.Post("createSession", login("alice.test", strings.Repeat("x", 513))),
		401, "AuthenticationRequired", "Password too long. Consider resetting your password.")
	f.Refused(f.Post("createSession", `{"password":"x"}`), 400, "InvalidRequest", `Missing required key "identifier" at $`)
	f.Refused(f.Post("createSession", `{"identifier":null,"password":"x"}`), 400, "InvalidRequest", `Expected string value type (got null) at $.identifier`)
	// The Authorization header is not looked at.
	f.Accepted(f.Post("createSession", login("alice.test", goodPassword), "nonsense"))
}

func TestCreateSessionOfInactiveAccounts(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	f.SetAccount(u.DID, func(a *db.Account) { a.DeactivatedAt = new(f.Now()) })
	got := f.Accepted(f.Post("createSession", login("alice.test", goodPassword))).Fields(t)
	if got["active"] != false || got["status"] != "deactivated" {
		t.Errorf("deactivated: %v", got)
	}
	f.TakeDown(u.DID)
	f.Refused(f.Post("createSession", login("alice.test", "wrong")), 401, "AuthenticationRequired", "Invalid identifier or password")
	f.Refused(f.Post("createSession", login("alice.test", goodPassword)), 401, "AccountTakedown", "Account has been taken down")
	a := f.Accepted(f.Post("createSession", `{"identifier":"alice.test","password":"`+goodPassword+`","allowTakendown":true}`))
	if got := a.Fields(t); got["active"] != false || got["status"] != "takendown" {
		t.Errorf("taken down: %v", got)
	}
	f.Refused(f.Get("getSession", servertest.Bearer(a.Text(t, "accessJwt"))), 400, "InvalidToken", "Bad token scope")
	f.Refused(f.Post("refreshSession", "", servertest.Bearer(a.Text(t, "refreshJwt"))), 401, "AccountTakedown", "Account has been taken down")
	f.SetAccount(u.DID, func(a *db.Account) { a.TakedownRef = nil })
	// The refresh token of the appeal was for show.
	f.Refused(f.Post("refreshSession", "", servertest.Bearer(a.Text(t, "refreshJwt"))), 400, "ExpiredToken", "Token has been revoked")
}

// Wrong passwords cost a budget of the account, whoever sends them, however the
// account is named; nothing shows it, and who holds a session is not shut out.
func TestCreateSessionBudget(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	names := []string{"alice.test", "ALICE.test", "alice@example.com", u.DID.String()}
	for i := range 50 {
		f.Refused(f.from("203.0.113.9", names[i%len(names)], "wrong"), 401, "AuthenticationRequired", "Invalid identifier or password")
	}
	for _, name := range names {
		f.Refused(f.from("203.0.113.9", name, goodPassword), 401, "AuthenticationRequired", "Invalid identifier or password")
	}
	f.Accepted(f.Get("getSession", u.Access))
	f.Accepted(f.Post("refreshSession", "", u.Refresh))
	f.Advance(time.Hour)
	f.Accepted(f.from("203.0.113.9", "alice.test", goodPassword))
}

// Strangers who spend the wrong passwords of an account do not keep its owner out from
// where the owner has been, until the password changes; app passwords make no address
// known, and wrong passwords from a known one are counted too.
func TestCreateSessionBudgetOfKnownAddress(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	from := func(address, password string) answer { return f.from(address, "alice.test", password) }
	shut := func(address, password string) {
		t.Helper()
		f.Refused(from(address, password), 401, "AuthenticationRequired", "Invalid identifier or password")
	}
	f.Accepted(from("192.0.2.1", goodPassword))
	f.Accepted(f.Post("refreshSession", "", u.Refresh, "X-Forwarded-For: 2001:db8::1"))
	app := f.Accepted(f.Post("createAppPassword", `{"name":"x"}`, u.Access)).Text(t, "password")
	f.Accepted(from("192.0.2.3", app))
	spend := func(address string) {
		t.Helper()
		for range 50 {
			shut(address, "wrong")
		}
		shut(address, goodPassword)
	}
	spend("203.0.113.9")
	shut("192.0.2.3", goodPassword)
	f.Accepted(from("192.0.2.1", goodPassword))
	f.Accepted(from("2001:db8::2", goodPassword)) // of the same household
	spend("192.0.2.1")
	f.Accepted(from("2001:db8::1", goodPassword))

	f.Advance(time.Hour)
	spend("203.0.113.9")
	f.Accepted(from("192.0.2.1", goodPassword))
	f.Advance(90 * 24 * time.Hour)
	spend("203.0.113.9")
	shut("192.0.2.1", goodPassword)
}

// An owner who travels stays known where she is: the latest twenty addresses are, and a
// new one replaces the oldest. A reset makes them unknown but for the one it came from.
func TestKnownAddressesAreTheLatest(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		f.SignUp("alice")
		at := func(i int) string { return fmt.Sprint("192.0.2.", i) }
		for i := range 25 {
			f.Accepted(f.from(at(i), "alice.test", goodPassword))
			f.Advance(time.Second)
		}
		guess := func() {
			t.Helper()
			for range 51 {
				f.Refused(f.from("203.0.113.9", "alice.test", "wrong"), 401, "AuthenticationRequired", "Invalid identifier or password")
			}
		}
		guess()
		known := func(password string, want ...int) {
			t.Helper()
			var got []int
			for i := range 25 {
				known, err := f.Budgets.Known(t.Context(), f.did("alice.test"), netip.MustParseAddr(at(i)))
				f.Check(err)
				if known {
					got = append(got, i)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("known are %v, want %v", got, want)
			}
			for _, i := range want {
				f.Accepted(f.from(at(i), "alice.test", password))
			}
		}
		known(goodPassword, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24)
		f.Refused(f.from(at(4), "alice.test", goodPassword), 401, "AuthenticationRequired", "Invalid identifier or password")

		f.Accepted(f.Post("requestPasswordReset", `{"email":"alice@example.com"}`))
		f.Accepted(f.Post("resetPassword", `{"token":"`+f.Code("reset_password")+`","password":"another password"}`, "X-Forwarded-For: "+at(7)))
		guess()
		known("another password", 7)
		f.Refused(f.from(at(8), "alice.test", "another password"), 401, "AuthenticationRequired", "Invalid identifier or password")
	})
}

// A reset or a takedown that comes between the check of a password and the start
// of its session wins.
func TestSessionOfReplacedPassword(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	read, err := f.DB.AccountByDID(t.Context(), u.DID)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*db.Account){
		"another password": func(a *db.Account) { a.PasswordHash = "another" },
		"taken down":       func(a *db.Account) { a.PasswordHash, a.TakedownRef = read.PasswordHash, new("x") },
	} {
		f.SetAccount(u.DID, change)
		if _, err := f.service.Sessions.Start(t.Context(), read, nil); !errors.Is(err, session.ErrStale) {
			t.Errorf("%s: error %v, want %v", name, err, session.ErrStale)
		}
	}
}

func TestGetSessionRefuses(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
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
			"scope": "com.atproto.access", "aud": "did:web:pds.test", "sub": u.DID.String(),
			"iat": f.Now().Unix(), "exp": f.Now().Add(2 * time.Hour).Unix(),
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
	f.Accepted(f.Get("getSession", servertest.Bearer(sign(claims(nil), "at+jwt", secret))))
	f.Accepted(f.Get("getSession", servertest.Bearer(sign(claims(map[string]any{"exp": nil}), "application/AT+JWT", secret))))
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
		{"DPoP", "DPoP x", 401, "invalid_dpop_proof", "DPoP proof required"},
		{"no JWT", "Bearer x", 400, "InvalidToken", "Token could not be verified"},
		{"refresh token", u.Refresh, 400, "InvalidToken", "Token could not be verified"},
		{"foreign key", "Bearer " + sign(claims(nil), "at+jwt", "another secret of 32 characters.."), 400, "InvalidToken", "Token could not be verified"},
		{"foreign audience", "Bearer " + sign(claims(map[string]any{"aud": "did:web:other.test"}), "at+jwt", secret), 400, "InvalidToken", "Token could not be verified"},
		{"not yet", "Bearer " + sign(claims(map[string]any{"nbf": f.Now().Add(time.Hour).Unix()}), "at+jwt", secret), 400, "InvalidToken", "Token could not be verified"},
		{"expired", "Bearer " + sign(claims(map[string]any{"exp": f.Now().Unix() - 1}), "at+jwt", secret), 400, "ExpiredToken", "Token has expired"},
		{"audience list", "Bearer " + sign(claims(map[string]any{"aud": []string{"did:web:pds.test"}}), "at+jwt", secret), 400, "InvalidToken", "Malformed token"},
		{"lxm", "Bearer " + sign(claims(map[string]any{"lxm": "x"}), "at+jwt", secret), 400, "InvalidToken", "Malformed token"},
		{"no DID", "Bearer " + sign(claims(map[string]any{"sub": "alice"}), "at+jwt", secret), 400, "InvalidToken", "Malformed token"},
		{"other scope", "Bearer " + sign(claims(map[string]any{"scope": "com.atproto.takendown"}), "at+jwt", secret), 400, "InvalidToken", "Bad token scope"},
		{"no scope", "Bearer " + sign(claims(map[string]any{"scope": nil}), "at+jwt", secret), 400, "InvalidToken", "Bad token scope"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.Refused(f.Get("getSession", "Authorization: "+tt.header), tt.status, tt.error, tt.answer)
		})
	}
	// A token that outlived its account, and one of an account that is taken down.
	unknown := sign(claims(map[string]any{"sub": "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"}), "at+jwt", secret)
	f.Refused(f.Get("getSession", servertest.Bearer(unknown)), 400, "InvalidRequest", "Could not find user info for account: did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	f.TakeDown(u.DID)
	f.Refused(f.Get("getSession", u.Access), 400, "InvalidRequest", "Could not find user info for account: "+u.DID.String())
}

func TestAccessTokenEnds(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	f.Advance(2*time.Hour - time.Second)
	f.Accepted(f.Get("getSession", u.Access))
	f.Advance(2 * time.Second)
	f.Refused(f.Get("getSession", u.Access), 400, "ExpiredToken", "Token has expired")
}

// DESIGN, row of §2.12–2.13: what ends all tokens of an account ends access
// tokens too, those of the same second included, and none that come after.
func TestDesignAccessTokensFromBeforeAReset(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	f.Advance(300 * time.Millisecond)
	f.SetAccount(u.DID, func(a *db.Account) { a.TokensValidFrom = session.ValidFrom(f.Now(), a.TokensValidFrom) })
	f.Refused(f.Get("getSession", u.Access), 400, "ExpiredToken", "Token has expired")
	again := f.Accepted(f.Post("createSession", login("alice.test", goodPassword)))
	f.Accepted(f.Get("getSession", servertest.Bearer(again.Text(t, "accessJwt"))))
}

func TestRefreshSession(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	f.Advance(time.Minute)
	first := f.Accepted(f.Post("refreshSession", "", u.Refresh))
	if got := first.Fields(t); got["did"] != u.DID.String() || got["handle"] != "alice.test" || got["active"] != true || got["emailConfirmed"] != false {
		t.Errorf("answer %v", got)
	}
	f.Accepted(f.Get("getSession", servertest.Bearer(first.Text(t, "accessJwt"))))
	// A used token gives the same successor for two hours after its first use.
	f.Advance(time.Hour)
	again := f.Accepted(f.Post("refreshSession", "", u.Refresh))
	if id(t, again) != id(t, first) {
		t.Error("the second refresh has another successor")
	}
	f.Advance(59 * time.Minute)
	f.Accepted(f.Post("refreshSession", "", u.Refresh))
	f.Advance(2 * time.Minute)
	f.Refused(f.Post("refreshSession", "", u.Refresh), 400, "ExpiredToken", "Token has been revoked")
	// The family lives on.
	f.Accepted(f.Post("refreshSession", "", servertest.Bearer(first.Text(t, "refreshJwt"))))

	f.Refused(f.Post("refreshSession", "", u.Access), 400, "InvalidToken", "Token could not be verified")
	f.Refused(f.Post("refreshSession", ""), 401, "AuthMissing", "Authentication Required")
	f.Refused(f.Post("refreshSession", "", "Basic YTpi"), 401, "AuthMissing", "Authentication Required")
	f.Refused(f.Post("refreshSession", "{}", u.Refresh), 400, "InvalidRequest", "A request body was provided when none was expected")

	f.Advance(91 * 24 * time.Hour)
	f.Refused(f.Post("refreshSession", "", servertest.Bearer(first.Text(t, "refreshJwt"))), 400, "ExpiredToken", "Token has expired")
}

// id is the jti of the refresh token in a.
func id(t *testing.T, a answer) string {
	t.Helper()
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(a.Text(t, "refreshJwt"), claims); err != nil {
		t.Fatal(err)
	}
	return claims["jti"].(string)
}

func TestRefreshSessionOfLostAccounts(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	f.TakeDown(u.DID)
	f.Refused(f.Post("refreshSession", "", u.Refresh), 401, "AccountTakedown", "Account has been taken down")
	err := f.DB.Write(t.Context(), func(tx *db.Tx) error { return tx.DeleteAccount(t.Context(), u.DID) })
	if err != nil {
		t.Fatal(err)
	}
	f.Refused(f.Post("refreshSession", "", u.Refresh), 400, "InvalidRequest", "Could not find user info for account: "+u.DID.String())
}

func TestRefreshSessionRaces(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u := f.SignUp("alice")
		answers := make([]answer, 10)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() {
				var err error
				if answers[i], err = f.Try(http.MethodPost, "refreshSession", "", u.Refresh); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for _, a := range answers {
			if a.Status != 200 {
				t.Fatalf("answer %d %s", a.Status, a.Body)
			}
			if id(t, a) != id(t, answers[0]) {
				t.Error("two successors")
			}
		}
	})
}

func TestDeleteSession(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	a := f.Accepted(f.Post("deleteSession", "", u.Refresh))
	if a.Body != "" || a.Header.Get("Content-Type") != "" {
		t.Errorf("answer %q of type %q", a.Body, a.Header.Get("Content-Type"))
	}
	f.Accepted(f.Post("deleteSession", "", u.Refresh))
	f.Refused(f.Post("refreshSession", "", u.Refresh), 400, "ExpiredToken", "Token has been revoked")
	f.Accepted(f.Get("getSession", u.Access))
	f.Advance(100 * 24 * time.Hour)
	f.Accepted(f.Post("deleteSession", "", u.Refresh))
	f.Refused(f.Post("deleteSession", ""), 401, "AuthMissing", "Authentication Required")
	f.Refused(f.Post("deleteSession", "", u.Access), 400, "InvalidToken", "Token could not be verified")
}

// DESIGN, row of §2.12–2.13: signing out ends predecessor and successor.
func TestDesignSigningOutEndsTheWholeSession(t *testing.T) {
	for _, which := range []string{"first", "second"} {
		t.Run(which, func(t *testing.T) {
			f := newFixture(t)
			u := f.SignUp("alice")
			second := servertest.Bearer(f.Accepted(f.Post("refreshSession", "", u.Refresh)).Text(t, "refreshJwt"))
			out := map[string]string{"first": u.Refresh, "second": second}[which]
			f.Accepted(f.Post("deleteSession", "", out))
			f.Refused(f.Post("refreshSession", "", u.Refresh), 400, "ExpiredToken", "Token has been revoked")
			f.Refused(f.Post("refreshSession", "", second), 400, "ExpiredToken", "Token has been revoked")
		})
	}
}

// Of a session that goes on for long the latest 64 refresh tokens are kept, and signing
// out ends them all.
func TestLongSessionKeeps64Tokens(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u := f.SignUp("alice")
		other := f.SignIn(u, goodPassword)
		tokens, ids := []string{u.Refresh}, []string{""}
		for range 70 {
			a := f.Accepted(f.Post("refreshSession", "", tokens[len(tokens)-1]))
			tokens, ids = append(tokens, servertest.Bearer(a.Text(t, "refreshJwt"))), append(ids, id(t, a))
		}
		kept := tokens[len(tokens)-64:]
		f.Refused(f.Post("refreshSession", "", tokens[len(tokens)-65]), 400, "ExpiredToken", "Token has been revoked")
		if again := id(t, f.Accepted(f.Post("refreshSession", "", kept[0]))); again != ids[len(ids)-63] {
			t.Error("the oldest token that is kept has another successor than before")
		}
		f.Empty(f.Post("deleteSession", "", kept[20]))
		for _, token := range kept {
			f.Refused(f.Post("refreshSession", "", token), 400, "ExpiredToken", "Token has been revoked")
		}
		f.Accepted(f.Post("refreshSession", "", other.Refresh))
	})
}

func TestSessionHeaders(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	private := func(a answer, want bool) {
		t.Helper()
		if got := a.Header.Get("Cache-Control") == "private" && strings.Contains(strings.Join(a.Header.Values("Vary"), ","), "Authorization"); got != want {
			t.Errorf("answer %d %v: private is %v, want %v", a.Status, a.Header, got, want)
		}
	}
	private(f.Get("getSession", u.Access), true)
	private(f.Get("getSession", servertest.Bearer("x")), true)
	private(f.Get("getSession"), true)
	private(f.Get("getSession", "Bearer"), false)
	private(f.Get("getSession", "Magic x"), false)
	private(f.Post("refreshSession", "", "Bearer"), true)
	private(f.Post("deleteSession", "", "Magic x"), true)
	private(f.Get("describeServer"), false)
	private(f.Post("createSession", login("alice.test", goodPassword)), false)
	private(f.Post("getSession", ""), false)
}

// DESIGN 28: another spelling of the identifier does not evade the limit.
func TestDesign28LoginLimit(t *testing.T) {
	f := newFixture(t, func(o *options) { o.Limiter = true })
	f.SignUp("alice")
	for i := range 30 {
		name := []string{"alice.test", "Alice.test", "ALICE.TEST"}[i%3]
		a := f.Accepted(f.Post("createSession", login(name, goodPassword)))
		if got, want := a.Header.Get("RateLimit-Remaining"), fmt.Sprint(29-i); got != want {
			t.Fatalf("login %d: RateLimit-Remaining %s, want %s", i, got, want)
		}
	}
	a := f.Post("createSession", login("aLiCe.test", goodPassword))
	f.Refused(a, 429, "RateLimitExceeded", "Rate Limit Exceeded")
	if a.Header.Get("Retry-After") != "300" || a.Header.Get("RateLimit-Policy") != "30;w=300" {
		t.Errorf("headers %v", a.Header)
	}
}

func TestSessionWithDocument(t *testing.T) {
	f := newFixture(t, func(o *options) { o.Config.DocumentInSessions = true })
	u := f.SignUp("alice")
	f.Internet.Unpublish(u.DID)
	a := f.Accepted(f.Get("getSession", u.Access))
	if _, ok := a.Fields(t)["didDoc"]; ok {
		t.Error("a document that does not resolve is in the answer")
	}
	f.NewIdentity(u.DID)
	for _, a := range []answer{
		f.Get("getSession", u.Access), f.Post("refreshSession", "", u.Refresh),
		f.Post("createSession", login("alice.test", goodPassword)),
	} {
		doc, _ := f.Accepted(a).Fields(t)["didDoc"].(map[string]any)
		if doc["id"] != u.DID.String() {
			t.Errorf("didDoc %v", doc)
		}
	}
}

// importedHash is the reference's hash of goodPassword, made with its own salt text.
func importedHash(t *testing.T) string {
	t.Helper()
	const salt = "00112233445566778899aabbccddeeff"
	key, err := scrypt.Key([]byte(goodPassword), []byte(salt), 16384, 8, 1, 64)
	if err != nil {
		t.Fatal(err)
	}
	return salt + ":" + hex.EncodeToString(key)
}

// DESIGN §7.4: while an imported hash is left all sign-ins take the same time, and
// afterwards nobody waits.
func TestDesignSignInWaitsForImportedHashesOnly(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	f.SignUp("bob")
	var waited []time.Duration
	f.service.Wait = func(_ context.Context, d time.Duration) { waited = append(waited, d) }
	try := func(want ...time.Duration) {
		t.Helper()
		waited = nil
		f.Accepted(f.Post("createSession", login("bob.test", goodPassword)))
		f.Refused(f.Post("createSession", login("bob.test", "wrong")), 401, "AuthenticationRequired", "Invalid identifier or password")
		f.Refused(f.Post("createSession", login("nobody.test", "wrong")), 401, "AuthenticationRequired", "Invalid identifier or password")
		if !slices.Equal(waited, want) {
			t.Errorf("waited %v, want %v", waited, want)
		}
	}
	try()
	f.SetAccount(u.DID, func(a *db.Account) { a.PasswordHash = importedHash(t) })
	const even = 350 * time.Millisecond
	try(even, even, even)
	f.Accepted(f.Post("createSession", login("alice.test", goodPassword)))
	try()
}
