package grant_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/budget"
	"portico/impl/keyring"
	"portico/impl/oauth/grant"
)

const (
	alice = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	bob   = syntax.DID("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")

	clientID = "https://app.test/client.json"
	redirect = "https://app.test/callback"
	issuer   = "https://pds.test"
	firefox  = "firefox's cookie"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// A world is a database with two accounts, and a clock that stands at noon.
type world struct {
	*testing.T
	*grant.Grants
	dir      string // of the database; "" on Postgres
	clock    atomic.Int64
	sets     atomic.Pointer[string] // what every include is spelled out to; nil: none can be had
	verifier atomic.Int64
}

// worlds runs a test on both engines.
func worlds(t *testing.T, test func(w *world)) {
	t.Helper()
	keys, err := keyring.New(rand.Reader, bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	canary, err := keys.NewCanary()
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Unlock(canary); err != nil {
		t.Fatal(err)
	}
	var dir string
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		w := &world{T: t, dir: dir}
		w.clock.Store(noon.UnixNano())
		w.Grants = &grant.Grants{
			DB: d, Keys: keys, Now: w.now, Rand: rand.Reader, Secret: []byte("secret of access tokens"), Issuer: issuer,
			Budgets:  &budget.Ledger{DB: d, Keys: keys, Now: w.now},
			Audience: func() string { return "did:web:pds.test" },
			Lifetimes: func() grant.Lifetimes {
				return grant.Lifetimes{
					Access: 30 * time.Minute, PublicSession: 14 * 24 * time.Hour, PublicRefresh: 24 * time.Hour,
					ConfidentialRefresh: 90 * 24 * time.Hour, Remembered: 7 * 24 * time.Hour,
				}
			},
			Expand: func(_ context.Context, scope string) (string, error) {
				set := w.sets.Load()
				if set == nil {
					return "", errors.New("nobody answers")
				}
				var rest []string
				for _, value := range strings.Fields(scope) {
					if !strings.HasPrefix(value, "include:") {
						rest = append(rest, value)
					}
				}
				return *set + " " + strings.Join(rest, " "), nil
			},
		}
		for i, did := range []syntax.DID{alice, bob} {
			w.write(func(tx *db.Tx) error {
				r := db.Reservation{
					Account: db.Account{DID: did, Handle: syntax.Handle(fmt.Sprintf("user%d.test", i)), Email: fmt.Sprintf("user%d@mail.test", i), PasswordHash: "hash", CreatedAt: noon},
					Key:     db.SigningKey{DID: did, Purpose: "atproto", Public: "did:key:of-" + did.String(), Sealed: []byte("sealed")},
					Genesis: []byte("{}"), Holder: "me", LeaseUntil: noon.Add(time.Minute),
				}
				return errors.Join(tx.ReserveAccount(t.Context(), r), tx.FinishAccount(t.Context(), did, "me"))
			})
		}
		test(w)
	}, func(c *db.Config) { dir = c.Dir })
}

func (w *world) now() time.Time          { return time.Unix(0, w.clock.Load()).UTC() }
func (w *world) advance(d time.Duration) { w.clock.Add(int64(d)) }

func (w *world) write(f func(tx *db.Tx) error) {
	w.Helper()
	w.check(w.DB.Write(w.Context(), f))
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// refuses checks that err is an error of OAuth with that name and description.
func (w *world) refuses(err error, name, description string) {
	w.Helper()
	e, ok := errors.AsType[*grant.Error](err)
	if !ok || e.Name != name || e.Description != description {
		w.Errorf("got %v, want %s: %s", err, name, description)
	}
}

func (w *world) is(err, want error) {
	w.Helper()
	if !errors.Is(err, want) {
		w.Errorf("got %v, want %v", err, want)
	}
}

// change changes an account.
func (w *world) change(did syntax.DID, f func(a *db.Account)) {
	w.Helper()
	w.write(func(tx *db.Tx) error {
		a, err := tx.LockAccount(w.Context(), did)
		if err != nil {
			return err
		}
		f(a)
		return tx.UpdateAccount(w.Context(), a)
	})
}

var (
	public       = grant.Exchange{ClientID: clientID, DPoPKey: "thumbprint", Refreshes: true}
	confidential = grant.Exchange{ClientID: clientID, DPoPKey: "thumbprint", ClientKey: "kid ES256 key", Confidential: true, Refreshes: true}
)

func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// request is one of x, with a verifier of its own.
func (w *world) request(x grant.Exchange, scope string) (r grant.Request, verifier string) {
	verifier = fmt.Sprintf("verifier-%032d", w.verifier.Add(1))
	return grant.Request{
		ClientID: x.ClientID, ClientKey: x.ClientKey, DPoPKey: x.DPoPKey,
		Parameters: grant.Parameters{RedirectURI: redirect, Scope: scope, State: "state", CodeChallenge: challengeOf(verifier)},
	}, verifier
}

func (w *world) push(r grant.Request) string {
	w.Helper()
	uri, err := w.Push(w.Context(), budget.Payer{}, r)
	w.check(err)
	return uri
}

// open pushes a request and opens it in a browser.
func (w *world) open(x grant.Exchange, scope string) (*grant.Request, string) {
	w.Helper()
	r, verifier := w.request(x, scope)
	opened, err := w.Open(w.Context(), w.push(r), x.ClientID, []byte(firefox))
	w.check(err)
	return opened, verifier
}

func (w *world) answer(did syntax.DID, r *grant.Request) grant.Answer {
	return grant.Answer{
		DID: did, ProvedAt: w.now(), Scope: r.Scope, Granted: r.Scope, ClientName: "App", Address: "198.51.100.1", Agent: "Firefox",
	}
}

// code is a code for x, with its verifier.
func (w *world) code(x grant.Exchange, did syntax.DID, scope string) (code, verifier string) {
	w.Helper()
	r, verifier := w.open(x, scope)
	code, err := w.Approve(w.Context(), r, []byte(firefox), w.answer(did, r))
	w.check(err)
	return code, verifier
}

// let lets an app in.
func (w *world) let(x grant.Exchange, did syntax.DID) *grant.Tokens {
	w.Helper()
	code, verifier := w.code(x, did, "atproto")
	tokens, err := w.Redeem(w.Context(), x, code, redirect, verifier)
	w.check(err)
	return tokens
}

// works checks that an access token is good.
func (w *world) works(t *grant.Tokens) *grant.Session {
	w.Helper()
	s, err := w.Verify(w.Context(), t.Access, "thumbprint")
	w.check(err)
	return s
}

// over checks that an access token is not good.
func (w *world) over(t *grant.Tokens) {
	w.Helper()
	_, err := w.Verify(w.Context(), t.Access, "thumbprint")
	w.refuses(err, "invalid_token", "Invalid token")
}

func (w *world) refresh(x grant.Exchange, t *grant.Tokens) *grant.Tokens {
	w.Helper()
	next, err := w.Refresh(w.Context(), x, t.Refresh)
	w.check(err)
	return next
}

// race runs f so often at once, and counts the errors by their texts.
func race(n int, f func(i int) error) map[string]int {
	var mu sync.Mutex
	got := make(map[string]int)
	begin := make(chan struct{})
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() {
			<-begin
			text := "nil"
			if err := f(i); err != nil {
				text = err.Error()
			}
			mu.Lock()
			defer mu.Unlock()
			got[text]++
		})
	}
	close(begin)
	wait.Wait()
	return got
}

// What a client gets, and what is kept of it.
func TestLetIn(t *testing.T) {
	worlds(t, func(w *world) {
		w.advance(300 * time.Millisecond)
		code, verifier := w.code(public, alice, "atproto transition:generic")
		tokens, err := w.Redeem(w.Context(), public, code, redirect, verifier)
		w.check(err)
		if tokens.DID != alice || tokens.Scope != "atproto transition:generic" || tokens.ExpiresIn != 30*time.Minute-300*time.Millisecond {
			w.Errorf("tokens %+v", tokens)
		}
		if len(code) != 4+64 || !strings.HasPrefix(code, "cod-") || len(tokens.Refresh) != 4+64 || !strings.HasPrefix(tokens.Refresh, "ref-") {
			w.Errorf("code %s, refresh token %s", code, tokens.Refresh)
		}
		parts := strings.Split(tokens.Access, ".")
		head, _ := base64.RawURLEncoding.DecodeString(parts[0])
		body, _ := base64.RawURLEncoding.DecodeString(parts[1])
		if string(head) != `{"typ":"at+jwt","alg":"HS256"}` {
			w.Errorf("header %s", head)
		}
		var claims map[string]any
		w.check(json.Unmarshal(body, &claims))
		jti, _ := claims["jti"].(string)
		if len(jti) != 4+32 || !strings.HasPrefix(jti, "tok-") {
			w.Errorf("jti %s", jti)
		}
		delete(claims, "jti")
		want := map[string]any{
			"sub": "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "iat": 1772366400.0, "exp": 1772368200.0, "aud": "did:web:pds.test", "cnf": map[string]any{"jkt": "thumbprint"},
			"client_id": "https://app.test/client.json", "iss": "https://pds.test",
		}
		if fmt.Sprint(claims) != fmt.Sprint(want) {
			w.Errorf("claims %v, want %v", claims, want)
		}
		s := w.works(tokens)
		if s.DID != alice || s.ClientID != clientID || s.ClientName != "App" || s.Scope != "atproto transition:generic" || s.Granted != s.Scope ||
			s.Address != "198.51.100.1" || s.Agent != "Firefox" || !s.ExpiresAt.Equal(w.now().Add(24*time.Hour)) || !s.CreatedAt.Equal(w.now()) {
			w.Errorf("session %+v", s)
		}
		all, err := w.Sessions(w.Context(), alice)
		if err != nil || len(all) != 1 || !bytes.Equal(all[0].ID, s.ID) {
			w.Errorf("sessions %v, %v", all, err)
		}
		audit, err := w.DB.Audit(w.Context(), alice, 10)
		if err != nil || len(audit) != 1 || audit[0].Event != "app_allowed" || audit[0].Detail != clientID || audit[0].Actor != alice.String() {
			w.Errorf("audit %+v, %v", audit, err)
		}
	})
}

// A code is taken by the first attempt, whatever comes of it.
func TestRedeemRefuses(t *testing.T) {
	worlds(t, func(w *world) {
		for _, tt := range []struct {
			name   string
			x      grant.Exchange
			change func(redirect, verifier *string)
			after  time.Duration
			want   string
		}{
			{"expired", public, nil, time.Minute, "This code has expired"},
			{"of another client", grant.Exchange{ClientID: "https://evil.test/client.json", DPoPKey: "thumbprint"}, nil, 0, "Token was not issued to this client"},
			{"with another DPoP key", grant.Exchange{ClientID: clientID, DPoPKey: "other"}, nil, 0, "DPoP proof does not match the expected JKT"},
			{"for another redirect URI", public, func(r, _ *string) { *r = "https://app.test/callback/" }, 0,
				"The redirect_uri parameter must match the one used in the authorization request"},
			{"without redirect URI", public, func(r, _ *string) { *r = "" }, 0,
				"The redirect_uri parameter must match the one used in the authorization request"},
			{"without verifier", public, func(_, v *string) { *v = "" }, 0, "code_verifier is required"},
			{"with another verifier", public, func(_, v *string) { *v += "x" }, 0, "Invalid code_verifier"},
			{"with the challenge as verifier", public, func(_, v *string) { *v = challengeOf(*v) }, 0, "Invalid code_verifier"},
		} {
			code, verifier := w.code(public, alice, "atproto")
			to, shown := redirect, verifier
			if tt.change != nil {
				tt.change(&to, &shown)
			}
			w.advance(tt.after)
			_, err := w.Redeem(w.Context(), tt.x, code, to, shown)
			w.refuses(err, "invalid_grant", tt.want)
			_, err = w.Redeem(w.Context(), public, code, redirect, verifier)
			w.refuses(err, "invalid_grant", "Invalid code")
		}
		for _, code := range []string{"", "cod-", "cod-" + strings.Repeat("0", 64), "cod-" + strings.Repeat("A", 64), "ref-" + strings.Repeat("0", 64), strings.Repeat("x", 1<<20)} {
			_, err := w.Redeem(w.Context(), public, code, redirect, "verifier")
			w.refuses(err, "invalid_grant", "Invalid code")
		}
		// A client that had a key has to show it.
		code, verifier := w.code(confidential, alice, "atproto")
		_, err := w.Redeem(w.Context(), public, code, redirect, verifier)
		w.refuses(err, "invalid_grant", "The session was initiated with a different key than the client assertion currently used")
		// A challenge is good once, whosever it was.
		r, verifier := w.request(public, "atproto")
		for _, want := range []string{"", "Code challenge already used"} {
			opened, err := w.Open(w.Context(), w.push(r), clientID, []byte(firefox))
			w.check(err)
			code, err := w.Approve(w.Context(), opened, []byte(firefox), w.answer(alice, opened))
			w.check(err)
			if _, err = w.Redeem(w.Context(), public, code, redirect, verifier); want != "" {
				w.refuses(err, "invalid_grant", want)
				break
			}
			w.check(err)
			w.advance(20 * time.Hour)
			w.write(func(tx *db.Tx) error { return tx.Purge(w.Context(), w.now()) })
		}
		if all, err := w.Sessions(w.Context(), alice); err != nil || len(all) != 1 {
			w.Errorf("sessions %v, %v", all, err)
		}
	})
}

// RFC 6749, 4.1.2: a code that is shown again ends what came from it, but for a race and for
// somebody else, who could not have used it.
func TestCodeAgain(t *testing.T) {
	worlds(t, func(w *world) {
		code, verifier := w.code(public, alice, "atproto")
		tokens, err := w.Redeem(w.Context(), public, code, redirect, verifier)
		w.check(err)
		thief := grant.Exchange{ClientID: clientID, DPoPKey: "thief", Refreshes: true}
		again := func(x grant.Exchange) {
			w.Helper()
			_, err := w.Redeem(w.Context(), x, code, redirect, verifier)
			w.refuses(err, "invalid_grant", "Invalid code")
		}
		again(public)
		w.advance(9 * time.Second)
		again(public)
		w.works(tokens)
		w.advance(time.Hour - 40*time.Minute)
		again(thief)
		again(grant.Exchange{ClientID: "https://evil.test/client.json", DPoPKey: "thumbprint"})
		w.works(tokens)
		again(public)
		w.over(tokens)
		_, err = w.Refresh(w.Context(), public, tokens.Refresh)
		w.refuses(err, "invalid_grant", "Invalid refresh token")
	})
}

func TestRefresh(t *testing.T) {
	worlds(t, func(w *world) {
		first := w.let(public, alice)
		w.advance(20 * time.Minute)
		second := w.refresh(public, first)
		if second.Scope != "atproto" || second.DID != alice || second.Refresh == first.Refresh || second.Access == first.Access {
			w.Errorf("tokens %+v", second)
		}
		w.over(first)
		s := w.works(second)
		if !s.UsedAt.Equal(w.now()) || !s.CreatedAt.Equal(noon) {
			w.Errorf("session %+v", s)
		}
		for _, refresh := range []string{"", "ref-", "ref-" + strings.Repeat("0", 64), first.Access, strings.Repeat("x", 1<<20)} {
			_, err := w.Refresh(w.Context(), public, refresh)
			w.refuses(err, "invalid_grant", "Invalid refresh token")
		}
		_, err := w.Refresh(w.Context(), grant.Exchange{ClientID: clientID, DPoPKey: "thumbprint"}, second.Refresh)
		w.refuses(err, "unauthorized_client", "Client is not registered for the refresh_token grant type")
		w.works(second)
	})
}

// Row 7: of two at once one is refused, and the session goes on. Later the same token again
// ends it.
func TestRefreshAgain(t *testing.T) {
	worlds(t, func(w *world) {
		first := w.let(public, alice)
		second := w.refresh(public, first)
		again := func(x grant.Exchange, tokens *grant.Tokens, want string) {
			w.Helper()
			_, err := w.Refresh(w.Context(), x, tokens.Refresh)
			w.refuses(err, "invalid_grant", want)
		}
		again(public, first, "Refresh token replayed")
		w.advance(9 * time.Second)
		again(public, first, "Refresh token replayed")
		w.works(second)
		third := w.refresh(public, second)
		w.advance(-time.Hour) // the clock is set back
		again(public, first, "Refresh token replayed")
		w.works(third)
		w.advance(time.Hour + time.Second)
		again(public, second, "Refresh token replayed") // 1 s later
		w.works(third)
		again(public, first, "Refresh token replayed") // 10 s later
		w.over(third)
		again(public, third, "Invalid refresh token")
		audit, err := w.DB.Audit(w.Context(), alice, 1)
		if err != nil || len(audit) != 1 || audit[0].Event != "app_ended" || audit[0].Detail != clientID+": refresh token was shown again" {
			w.Errorf("audit %+v, %v", audit, err)
		}
	})
}

// Row 8: who has a refresh token but not the key, or is another client, neither gets tokens
// nor ends the session, neither with a fresh token nor with a spent one.
func TestRefreshOfAThief(t *testing.T) {
	worlds(t, func(w *world) {
		for _, x := range []grant.Exchange{public, confidential} {
			first := w.let(x, alice)
			second := w.refresh(x, first)
			w.advance(time.Minute)
			for _, tt := range []struct {
				change func(x *grant.Exchange)
				want   string
			}{
				{func(x *grant.Exchange) { x.DPoPKey = "thief" }, "DPoP proof does not match the expected JKT"},
				{func(x *grant.Exchange) { x.ClientID = "https://evil.test/client.json" }, "Token was not issued to this client"},
			} {
				thief := x
				tt.change(&thief)
				for _, stolen := range []*grant.Tokens{first, second} {
					_, err := w.Refresh(w.Context(), thief, stolen.Refresh)
					w.refuses(err, "invalid_grant", tt.want)
				}
			}
			if x.ClientKey != "" {
				thief := x
				thief.ClientKey = "kid ES256 another"
				for _, stolen := range []*grant.Tokens{first, second} {
					_, err := w.Refresh(w.Context(), thief, stolen.Refresh)
					w.refuses(err, "invalid_grant", "The session was initiated with a different key than the client assertion currently used")
				}
			}
			w.works(second)
			w.refresh(x, second)
		}
	})
}

// A public client may become a confidential one; then there is no way back.
func TestClientGetsAKey(t *testing.T) {
	worlds(t, func(w *world) {
		tokens := w.refresh(confidential, w.let(public, alice))
		_, err := w.Refresh(w.Context(), public, tokens.Refresh)
		w.refuses(err, "invalid_grant", "The session was initiated with a different key than the client assertion currently used")
		if s := w.works(tokens); s.ClientKey != "kid ES256 key" || !s.ExpiresAt.Equal(noon.Add(90*24*time.Hour)) {
			w.Errorf("session %+v", s)
		}
	})
}

// Of the refresh tokens of a session the latest 64 are known.
func TestSpentRefreshTokens(t *testing.T) {
	worlds(t, func(w *world) {
		all := []*grant.Tokens{w.let(public, alice)}
		for range 65 {
			all = append(all, w.refresh(public, all[len(all)-1]))
		}
		w.advance(time.Minute)
		_, err := w.Refresh(w.Context(), public, all[0].Refresh)
		w.refuses(err, "invalid_grant", "Invalid refresh token")
		w.works(all[65])
		_, err = w.Refresh(w.Context(), public, all[1].Refresh)
		w.refuses(err, "invalid_grant", "Refresh token replayed")
		w.over(all[65])
	})
}

func TestLifetimes(t *testing.T) {
	worlds(t, func(w *world) {
		// A refresh token that is not used.
		tokens := w.let(public, alice)
		w.advance(24 * time.Hour)
		_, err := w.Refresh(w.Context(), public, tokens.Refresh)
		w.refuses(err, "invalid_grant", "Refresh token expired")
		_, err = w.Refresh(w.Context(), public, tokens.Refresh)
		w.refuses(err, "invalid_grant", "Invalid refresh token")

		// A session that is.
		tokens = w.let(public, alice)
		for range 27 {
			w.advance(12 * time.Hour)
			tokens = w.refresh(public, tokens)
		}
		w.advance(11*time.Hour + 50*time.Minute)
		tokens = w.refresh(public, tokens)
		if tokens.ExpiresIn != 10*time.Minute {
			w.Errorf("expires in %v, with its session in 10 minutes", tokens.ExpiresIn)
		}
		w.works(tokens)
		w.advance(10 * time.Minute)
		_, err = w.Verify(w.Context(), tokens.Access, "thumbprint")
		w.refuses(err, "invalid_token", `"exp" claim timestamp check failed`)
		_, err = w.Refresh(w.Context(), public, tokens.Refresh)
		w.refuses(err, "invalid_grant", "Session expired")

		// One of a client with a key goes on for as long as it is used.
		tokens = w.let(confidential, alice)
		for range 20 {
			w.advance(89 * 24 * time.Hour)
			tokens = w.refresh(confidential, tokens)
		}
		w.works(tokens)

		// Without refresh tokens it is over with its token.
		x := public
		x.Refreshes = false
		tokens = w.let(x, bob)
		if tokens.Refresh != "" {
			w.Error("got a refresh token")
		}
		w.works(tokens)
		w.advance(30 * time.Minute)
		if all, err := w.Sessions(w.Context(), bob); err != nil || len(all) != 0 {
			w.Errorf("sessions %v, %v", all, err)
		}
		before := w.rows()
		w.write(func(tx *db.Tx) error { return tx.Purge(w.Context(), w.now()) })
		if after := w.rows(); after["oauth_session"] != before["oauth_session"]-1 {
			w.Errorf("rows %v, after the purge %v", before, after)
		}
	})
}

// rows counts those of sessions.
func (w *world) rows() map[string]int {
	w.Helper()
	n := 0
	for _, did := range []syntax.DID{alice, bob} {
		all, err := w.DB.OAuthSessions(w.Context(), did, time.Unix(1, 0))
		w.check(err)
		n += len(all)
	}
	return map[string]int{"oauth_session": n}
}

// What is refused of an access token, in which words.
func TestVerify(t *testing.T) {
	worlds(t, func(w *world) {
		tokens := w.let(public, alice)
		parts := strings.Split(tokens.Access, ".")
		encode := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
		foreign := func(change func(g *grant.Grants)) string {
			g := *w.Grants
			change(&g)
			code, verifier := w.code(public, alice, "atproto")
			t, err := g.Redeem(w.Context(), public, code, redirect, verifier)
			w.check(err)
			return t.Access
		}
		for _, tt := range []struct{ name, token, key, want string }{
			{"nothing", "", "thumbprint", "Malformed token"},
			{"a refresh token", tokens.Refresh, "thumbprint", "Malformed token"},
			{"two parts", parts[0] + "." + parts[1], "thumbprint", "Malformed token"},
			{"four parts", tokens.Access + ".x", "thumbprint", "Malformed token"},
			{"no JSON", "x.x.x", "thumbprint", "Malformed token"},
			{"long", strings.Repeat("x", 1<<20) + ".x.x", "thumbprint", "Malformed token"},
			{"a session token", encode(`{"typ":"at+jwt","alg":"HS256"}`) + "." + encode(`{"scope":"com.atproto.access"}`) + ".x", "thumbprint", `missing required "iss" claim`},
			{"other claims", parts[0] + "." + encode(`{"iss":"https://pds.test"}`) + "." + parts[2], "thumbprint", "signature verification failed"},
			{"no algorithm", encode(`{"typ":"at+jwt","alg":"none"}`) + "." + parts[1] + ".", "thumbprint", "signature verification failed"},
			{"another spelling", parts[0] + "." + parts[1] + "." + parts[2] + "=", "thumbprint", "signature verification failed"},
			{"without signature", parts[0] + "." + parts[1] + ".", "thumbprint", "signature verification failed"},
			{"another secret", foreign(func(g *grant.Grants) { g.Secret = []byte("another") }), "thumbprint", "signature verification failed"},
			{"another issuer", foreign(func(g *grant.Grants) { g.Issuer = "https://other.test" }), "thumbprint", `unexpected "iss" claim value`},
			{"another audience", foreign(func(g *grant.Grants) { g.Audience = func() string { return "did:web:other.test" } }), "thumbprint", `unexpected "aud" claim value`},
			{"another key", tokens.Access, "thief", "Invalid DPoP key binding"},
			{"no key", tokens.Access, "", "Invalid DPoP key binding"},
		} {
			s, err := w.Verify(w.Context(), tt.token, tt.key)
			if s != nil {
				w.Errorf("%s: verifies", tt.name)
			}
			w.refuses(err, "invalid_token", tt.want)
		}
		w.works(tokens)
		w.advance(-time.Hour)
		w.works(tokens)
		w.advance(90*time.Minute - time.Nanosecond)
		w.works(tokens)
		w.advance(time.Nanosecond)
		_, err := w.Verify(w.Context(), tokens.Access, "thumbprint")
		w.refuses(err, "invalid_token", `"exp" claim timestamp check failed`)
	})
}

func TestRevoke(t *testing.T) {
	worlds(t, func(w *world) {
		for _, of := range []func(first, second *grant.Tokens) string{
			func(_, second *grant.Tokens) string { return second.Access },
			func(_, second *grant.Tokens) string { return second.Refresh },
			func(first, _ *grant.Tokens) string { return first.Refresh },
			func(_, second *grant.Tokens) string {
				var c struct{ JTI string }
				body, _ := base64.RawURLEncoding.DecodeString(strings.Split(second.Access, ".")[1])
				w.check(json.Unmarshal(body, &c))
				return c.JTI
			},
		} {
			first := w.let(public, alice)
			second := w.refresh(public, first)
			bystander := w.let(public, bob)
			token := of(first, second)
			w.check(w.Revoke(w.Context(), grant.Exchange{ClientID: "https://evil.test/client.json", DPoPKey: "thumbprint"}, token))
			w.check(w.Revoke(w.Context(), grant.Exchange{ClientID: clientID, DPoPKey: "thief"}, token))
			w.check(w.Revoke(w.Context(), grant.Exchange{ClientID: clientID}, token))
			w.works(second)
			w.check(w.Revoke(w.Context(), public, token))
			w.over(second)
			_, err := w.Refresh(w.Context(), public, second.Refresh)
			w.refuses(err, "invalid_grant", "Invalid refresh token")
			w.check(w.Revoke(w.Context(), public, token))
			w.works(bystander)
		}
		tokens := w.let(public, alice)
		w.advance(2 * time.Hour)
		w.check(w.Revoke(w.Context(), public, tokens.Access))
		_, err := w.Refresh(w.Context(), public, tokens.Refresh)
		w.refuses(err, "invalid_grant", "Invalid refresh token")

		code, verifier := w.code(public, alice, "atproto")
		w.check(w.Revoke(w.Context(), grant.Exchange{ClientID: clientID, DPoPKey: "thief"}, code))
		w.check(w.Revoke(w.Context(), public, code))
		_, err = w.Redeem(w.Context(), public, code, redirect, verifier)
		w.refuses(err, "invalid_grant", "Invalid code")
		for _, junk := range []string{"", "x", "a.b.c", strings.Repeat("x", 1<<20)} {
			w.check(w.Revoke(w.Context(), public, junk))
		}
	})
}

// Row 9: only the first browser answers, once, and nothing that others do changes that.
func TestOpen(t *testing.T) {
	worlds(t, func(w *world) {
		pushed, verifier := w.request(public, "atproto")
		uri := w.push(pushed)
		if len(uri) != len("urn:ietf:params:oauth:request_uri:req-")+32 {
			w.Errorf("URI %s", uri)
		}
		open := func(browser, client string) (*grant.Request, error) {
			return w.Open(w.Context(), uri, client, []byte(browser))
		}
		_, err := open(firefox, "https://evil.test/client.json")
		w.refuses(err, "access_denied", "This request was initiated for another client")
		r, err := open(firefox, clientID)
		w.check(err)
		if r.State != "state" || r.RedirectURI != redirect || r.Scope != "atproto" || r.ClientID != clientID || r.DPoPKey != "thumbprint" ||
			!r.ExpiresAt.Equal(noon.Add(5*time.Minute)) {
			w.Errorf("request %+v", r)
		}
		w.advance(2 * time.Minute)
		for range 3 {
			stranger, err := open("chrome", clientID)
			w.refuses(err, "access_denied", "This request was initiated from another device")
			_, err = w.Approve(w.Context(), stranger, []byte("chrome"), w.answer(bob, stranger))
			w.refuses(err, "access_denied", "This request was initiated from another device")
			w.check(w.Reject(w.Context(), stranger, []byte("chrome")))
			again, err := open(firefox, clientID)
			w.check(err)
			if !again.ExpiresAt.Equal(noon.Add(5 * time.Minute)) {
				w.Errorf("ends at %v", again.ExpiresAt)
			}
		}
		code, err := w.Approve(w.Context(), r, []byte(firefox), w.answer(alice, r))
		w.check(err)
		_, err = open(firefox, clientID)
		w.refuses(err, "access_denied", "This request was already authorized")
		_, err = open("chrome", clientID)
		w.refuses(err, "access_denied", "This request was initiated from another device")
		_, err = w.Approve(w.Context(), r, []byte(firefox), w.answer(bob, r))
		w.refuses(err, "access_denied", "This request was already authorized")
		w.check(w.Reject(w.Context(), r, []byte(firefox)))
		tokens, err := w.Redeem(w.Context(), public, code, redirect, verifier)
		w.check(err)
		w.works(tokens)
		_, err = open(firefox, clientID)
		w.is(err, grant.ErrUnknown)
	})
}

func TestRequestsEnd(t *testing.T) {
	worlds(t, func(w *world) {
		pushed, _ := w.request(public, "atproto")
		uri := w.push(pushed)
		r, _ := w.open(public, "atproto")
		late, verifier := w.open(public, "atproto")
		w.advance(5*time.Minute - time.Second)
		code, err := w.Approve(w.Context(), late, []byte(firefox), w.answer(alice, late))
		w.check(err)
		w.advance(time.Second)
		opened, err := w.Open(w.Context(), uri, clientID, []byte(firefox))
		w.refuses(err, "access_denied", "This request has expired")
		if opened == nil || opened.RedirectURI != redirect {
			w.Errorf("request %+v", opened)
		}
		_, err = w.Approve(w.Context(), r, []byte(firefox), w.answer(alice, r))
		w.refuses(err, "access_denied", "This request has expired")
		w.write(func(tx *db.Tx) error { return tx.Purge(w.Context(), w.now()) })
		_, err = w.Open(w.Context(), uri, clientID, []byte(firefox))
		w.is(err, grant.ErrUnknown)
		_, err = w.Approve(w.Context(), r, []byte(firefox), w.answer(alice, r))
		w.refuses(err, "access_denied", "This request has expired")
		// The code of one that was answered in time is not purged.
		_, err = w.Redeem(w.Context(), public, code, redirect, verifier)
		w.check(err)
		for _, uri := range []string{"", "urn:ietf:params:oauth:request_uri:req-", "urn:ietf:params:oauth:request_uri:req-" + strings.Repeat("0", 32), strings.Repeat("x", 1<<20)} {
			_, err = w.Open(w.Context(), uri, clientID, []byte(firefox))
			w.is(err, grant.ErrUnknown)
		}

		r, _ = w.open(public, "atproto")
		w.check(w.Reject(w.Context(), r, []byte(firefox)))
		_, err = w.Approve(w.Context(), r, []byte(firefox), w.answer(alice, r))
		w.refuses(err, "access_denied", "This request was already rejected")
	})
}

// Consent may narrow the scope, never widen it.
func TestApprove(t *testing.T) {
	worlds(t, func(w *world) {
		r, verifier := w.open(public, "atproto account:email transition:generic")
		a := w.answer(alice, r)
		a.Scope = "transition:generic"
		_, err := w.Approve(w.Context(), r, []byte(firefox), a)
		w.refuses(err, "access_denied", `The "atproto" scope is required`)
		a.Scope, a.Granted = "transition:generic identity:* atproto", "transition:generic atproto"
		a.Remember = true

		// Whose account it is.
		none := a
		none.DID = "did:plc:nobody"
		_, err = w.Approve(w.Context(), r, []byte(firefox), none)
		w.is(err, grant.ErrOver)
		for _, tt := range []struct {
			change func(a *db.Account, on bool)
			want   string
		}{
			{func(a *db.Account, on bool) { a.DeactivatedAt = map[bool]*time.Time{true: new(noon)}[on] }, "This account has been deactivated"},
			{func(a *db.Account, on bool) { a.TakedownRef = map[bool]*string{true: new("ref")}[on] }, "This account has been taken down"},
		} {
			w.change(alice, func(a *db.Account) { tt.change(a, true) })
			_, err = w.Approve(w.Context(), r, []byte(firefox), a)
			w.refuses(err, "access_denied", tt.want)
			w.change(alice, func(a *db.Account) { tt.change(a, false) })
		}
		w.change(alice, func(a *db.Account) { a.HeldAt = new(noon) })
		_, err = w.Approve(w.Context(), r, []byte(firefox), a)
		w.is(err, grant.ErrHeld)
		w.change(alice, func(a *db.Account) { a.HeldAt = nil; a.TokensValidFrom = noon.Add(time.Second) })
		_, err = w.Approve(w.Context(), r, []byte(firefox), a)
		w.is(err, grant.ErrOver)
		a.ProvedAt = noon.Add(time.Second)
		code, err := w.Approve(w.Context(), r, []byte(firefox), a)
		w.check(err)
		tokens, err := w.Redeem(w.Context(), public, code, redirect, verifier)
		w.check(err)
		if tokens.Scope != "transition:generic atproto" {
			w.Errorf("scope %s", tokens.Scope)
		}
		w.works(tokens) // as young as the account's tokens have to be
		for _, tt := range []struct {
			did            syntax.DID
			client         string
			scope, granted string
			want           bool
		}{
			{alice, clientID, "atproto transition:generic", "transition:generic atproto", true},
			{alice, clientID, "atproto", "atproto", true},
			{alice, clientID, "atproto account:email transition:generic", "account:email transition:generic atproto", false},
			{alice, clientID, "atproto", "atproto identity:*", false},
			{alice, "https://evil.test/client.json", "atproto", "atproto", false},
			{bob, clientID, "atproto", "atproto", false},
		} {
			if got, err := w.Consented(w.Context(), tt.did, tt.client, tt.scope, tt.granted); got != tt.want || err != nil {
				w.Errorf("%s, %s, %s, %s: consented %v, %v", tt.did, tt.client, tt.scope, tt.granted, got, err)
			}
		}
	})
}

// Row 10: a set that grew gives no more than its owner saw, one that lost something less.
func TestPermissionSets(t *testing.T) {
	worlds(t, func(w *world) {
		const both, one, more = "repo:com.example.a repo:com.example.b", "repo:com.example.a", "repo:com.example.a repo:com.example.b repo:com.example.c"
		w.sets.Store(new(both))
		r, verifier := w.open(public, "atproto include:com.example.auth")
		a := w.answer(alice, r)
		a.Granted = both + " atproto"
		code, err := w.Approve(w.Context(), r, []byte(firefox), a)
		w.check(err)
		tokens, err := w.Redeem(w.Context(), public, code, redirect, verifier)
		w.check(err)
		for _, tt := range []struct {
			set  *string
			want string
		}{
			{new(both), both + " atproto"},
			{new(one), one + " atproto"},
			{new(more), both + " atproto"},
			{nil, both + " atproto"},
			{new(""), " atproto"},
			{new(both), both + " atproto"},
		} {
			w.sets.Store(tt.set)
			if tokens = w.refresh(public, tokens); tokens.Scope != tt.want {
				w.Errorf("scope %q, want %q", tokens.Scope, tt.want)
			}
			if s := w.works(tokens); s.Granted != tt.want || s.Scope != "atproto include:com.example.auth" {
				w.Errorf("session %+v", s)
			}
		}
	})
}

// All that is kept has a bound.
func TestBounds(t *testing.T) {
	worlds(t, func(w *world) {
		payer := w.Budgets.Caller(netip.MustParseAddr("198.51.100.7"))
		r, _ := w.request(public, "atproto")
		push := func() error { _, err := w.Push(w.Context(), payer, r); return err }
		var uris []string
		for range 100 {
			uri, err := w.Push(w.Context(), payer, r)
			w.check(err)
			uris = append(uris, uri)
			w.advance(time.Millisecond)
		}
		// A browser may be on its way to the first one for five seconds.
		w.advance(4*time.Second + 899*time.Millisecond)
		w.is(push(), grant.ErrMany)
		w.advance(time.Millisecond)
		uri, err := w.Push(w.Context(), payer, r)
		w.check(err)
		uris = append(uris, uri)
		_, err = w.Open(w.Context(), uris[0], clientID, []byte(firefox))
		w.is(err, grant.ErrUnknown)
		for _, uri := range uris[1:] {
			_, err := w.Open(w.Context(), uri, clientID, []byte(firefox))
			w.check(err)
		}
		w.is(push(), grant.ErrMany)
		w.advance(time.Minute)
		w.is(push(), grant.ErrMany) // all of them are open
		if _, err := w.Push(w.Context(), w.Budgets.Caller(netip.MustParseAddr("198.51.100.8")), r); err != nil {
			w.Errorf("from another address: %v", err)
		}
		w.advance(5 * time.Minute)
		w.check(push())
		long := r
		long.State = strings.Repeat("x", 16<<10)
		_, err = w.Push(w.Context(), payer, long)
		w.refuses(err, "invalid_request", "Authorization request is too long")
		long = r
		long.ClientID = "https://app.test/" + strings.Repeat("x", 2048)
		_, err = w.Push(w.Context(), payer, long)
		w.refuses(err, "invalid_request", "Authorization request is too long")

		oldest := w.let(public, alice)
		used := w.let(public, alice)
		for range 198 {
			w.advance(time.Second)
			w.let(public, alice)
		}
		used = w.refresh(public, used)
		w.works(oldest)
		w.advance(-time.Hour) // also when the clock is set back
		newest := w.let(public, alice)
		w.over(oldest)
		w.works(used)
		w.works(newest)
		if all, err := w.Sessions(w.Context(), alice); err != nil || len(all) != 200 {
			w.Errorf("%d sessions, %v", len(all), err)
		}
	})
}

func TestRaces(t *testing.T) {
	worlds(t, func(w *world) {
		code, verifier := w.code(public, alice, "atproto")
		var mu sync.Mutex
		var tokens *grant.Tokens
		got := race(64, func(int) error {
			t, err := w.Redeem(w.Context(), public, code, redirect, verifier)
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				tokens = t
			}
			return err
		})
		if got["nil"] != 1 || got["invalid_grant: Invalid code"] != 63 {
			w.Fatalf("64 redeem: %v", got)
		}
		w.works(tokens)
		first := tokens
		got = race(64, func(int) error {
			t, err := w.Refresh(w.Context(), public, first.Refresh)
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				tokens = t
			}
			return err
		})
		if got["nil"] != 1 || got["invalid_grant: Refresh token replayed"] != 63 {
			w.Fatalf("64 refresh: %v", got)
		}
		w.works(tokens)
		w.refresh(public, tokens)

		pushed, _ := w.request(public, "atproto")
		uri := w.push(pushed)
		got = race(16, func(i int) error {
			_, err := w.Open(w.Context(), uri, clientID, fmt.Append(nil, "browser ", i))
			return err
		})
		if got["nil"] != 1 || got["access_denied: This request was initiated from another device"] != 15 {
			w.Errorf("16 browsers open: %v", got)
		}
		r, _ := w.open(public, "atproto")
		got = race(16, func(int) error {
			_, err := w.Approve(w.Context(), r, []byte(firefox), w.answer(alice, r))
			if e, ok := errors.AsType[*grant.Error](err); ok {
				return e
			}
			return err
		})
		if got["nil"] != 1 || got["access_denied: This request was already authorized"] != 15 {
			w.Errorf("16 approve: %v", got)
		}
		payer := w.Budgets.Caller(netip.MustParseAddr("198.51.100.7"))
		got = race(120, func(int) error {
			_, err := w.Push(w.Context(), payer, pushed)
			if errors.Is(err, grant.ErrMany) {
				return grant.ErrMany
			}
			return err
		})
		live := 0
		w.write(func(tx *db.Tx) (err error) {
			live, _, err = tx.CountOAuthRequests(w.Context(), w.Budgets.Hash(payer), w.now())
			return err
		})
		if got["nil"] != 100 || got["too many authorization requests"] != 20 || live != 100 {
			w.Errorf("120 push: %v, %d are live", got, live)
		}
		got = race(16, func(int) error {
			first, err := w.Once(w.Context(), []byte("jti"), w.now().Add(time.Minute))
			if !first && err == nil {
				return errors.New("again")
			}
			return err
		})
		if got["nil"] != 1 || got["again"] != 15 {
			w.Errorf("16 use something once: %v", got)
		}
	})
}

// However a refresh or an exchange and the end of all sessions fall together, none is left.
func TestRaceWithEnd(t *testing.T) {
	worlds(t, func(w *world) {
		for range 10 {
			tokens := w.let(public, alice)
			code, verifier := w.code(public, alice, "atproto")
			race(9, func(i int) error {
				switch i % 3 {
				case 0:
					_, err := w.Refresh(w.Context(), public, tokens.Refresh)
					return err
				case 1:
					_, err := w.Redeem(w.Context(), public, code, redirect, verifier)
					return err
				}
				return w.DB.Write(w.Context(), func(tx *db.Tx) error { return tx.EndSessions(w.Context(), alice) })
			})
			if all, err := w.Sessions(w.Context(), alice); err != nil || len(all) != 0 {
				w.Fatalf("sessions %v, %v", all, err)
			}
		}
	})
}

func TestOnce(t *testing.T) {
	worlds(t, func(w *world) {
		once := func(id string, want bool) {
			w.Helper()
			if got, err := w.Once(w.Context(), []byte(id), w.now().Add(time.Minute)); got != want || err != nil {
				w.Errorf("%s: %v, %v", id, got, err)
			}
		}
		once("a", true)
		once("a", false)
		once("b", true)
		w.advance(59 * time.Second)
		once("a", false)
		w.write(func(tx *db.Tx) error { return tx.Purge(w.Context(), w.now()) })
		once("a", false)
		w.advance(time.Second)
		once("a", true)
		once(strings.Repeat("x", 1<<20), true)
	})
}

func TestRemembered(t *testing.T) {
	worlds(t, func(w *world) {
		list := func(browser string) string {
			w.Helper()
			all, err := w.Remembered(w.Context(), []byte(browser))
			w.check(err)
			return fmt.Sprint(all)
		}
		remember := func(browser string, did syntax.DID) {
			w.Helper()
			w.check(w.Remember(w.Context(), []byte(browser), did, w.now(), "198.51.100.1", "Firefox"))
		}
		remember(firefox, alice)
		w.advance(time.Minute)
		remember(firefox, bob)
		at := func(did syntax.DID, at time.Time) grant.Remembered { return grant.Remembered{DID: did, ProvedAt: at} }
		want := fmt.Sprint([]grant.Remembered{at(bob, noon.Add(time.Minute)), at(alice, noon)})
		if got := list(firefox); got != want {
			w.Errorf("got %s, want %s", got, want)
		}
		remember("chrome", alice)
		w.check(w.Move(w.Context(), []byte(firefox), []byte("new")))
		if list(firefox) != "[]" || list("new") != want || list("chrome") == "[]" {
			w.Errorf("moved: %s, %s, %s", list(firefox), list("new"), list("chrome"))
		}
		w.check(w.Move(w.Context(), []byte("new"), []byte("new")))
		w.check(w.Forget(w.Context(), []byte("new"), alice))
		if got, want := list("new"), fmt.Sprint([]grant.Remembered{at(bob, noon.Add(time.Minute))}); got != want {
			w.Errorf("got %s, want %s", got, want)
		}
		// What ends sessions ends that too.
		w.write(func(tx *db.Tx) error { return tx.EndSessions(w.Context(), alice) })
		w.change(bob, func(a *db.Account) { a.TokensValidFrom = w.now().Add(time.Second) })
		if list("new") != "[]" || list("chrome") != "[]" {
			w.Errorf("after the end: %s, %s", list("new"), list("chrome"))
		}
		w.is(w.Remember(w.Context(), []byte("new"), bob, w.now(), "", ""), grant.ErrOver)
		w.is(w.Remember(w.Context(), []byte("new"), "did:plc:nobody", w.now(), "", ""), grant.ErrOver)
		w.advance(time.Second)
		remember("new", bob)
		w.advance(7 * 24 * time.Hour)
		if list("new") != "[]" {
			w.Errorf("a week later: %s", list("new"))
		}
		// Requests move too.
		r, verifier := w.open(public, "atproto")
		w.check(w.Move(w.Context(), []byte(firefox), []byte("newer")))
		_, err := w.Approve(w.Context(), r, []byte(firefox), w.answer(alice, r))
		w.refuses(err, "access_denied", "This request was initiated from another device")
		code, err := w.Approve(w.Context(), r, []byte("newer"), w.answer(alice, r))
		w.check(err)
		_, err = w.Redeem(w.Context(), public, code, redirect, verifier)
		w.check(err)
	})
}

// An app that is signed out has no code that lets it in again; others have theirs.
func TestEndTakesCodes(t *testing.T) {
	worlds(t, func(w *world) {
		w.let(public, alice)
		code, verifier := w.code(public, alice, "atproto")
		others, otherVerifier := w.code(public, bob, "atproto")
		all, err := w.Sessions(w.Context(), alice)
		w.check(err)
		w.check(w.End(w.Context(), alice, all[0].ID))
		_, err = w.Redeem(w.Context(), public, code, redirect, verifier)
		w.refuses(err, "invalid_grant", "Invalid code")
		_, err = w.Redeem(w.Context(), public, others, redirect, otherVerifier)
		w.check(err)
	})
}

// What ends an account's sessions ends those of apps, codes that were not exchanged, and what
// it consented to.
func TestEnd(t *testing.T) {
	worlds(t, func(w *world) {
		tokens, other := w.let(public, alice), w.let(public, bob)
		r, verifier := w.open(public, "atproto")
		a := w.answer(alice, r)
		a.Remember = true
		code, err := w.Approve(w.Context(), r, []byte(firefox), a)
		w.check(err)
		w.write(func(tx *db.Tx) error { return tx.EndSessions(w.Context(), alice) })
		w.over(tokens)
		_, err = w.Redeem(w.Context(), public, code, redirect, verifier)
		w.refuses(err, "invalid_grant", "Invalid code")
		if ok, err := w.Consented(w.Context(), alice, clientID, "atproto", "atproto"); ok || err != nil {
			w.Errorf("consented %v, %v", ok, err)
		}
		// Nor is one good from before the account's tokens are.
		w.change(bob, func(a *db.Account) { a.TokensValidFrom = w.now().Add(time.Second) })
		w.over(other)
		_, err = w.Refresh(w.Context(), public, other.Refresh)
		w.refuses(err, "invalid_grant", "Invalid refresh token")

		// One session, with what was consented to.
		tokens, other = w.let(public, alice), w.let(public, alice)
		r, verifier = w.open(public, "atproto")
		a = w.answer(alice, r)
		a.Remember = true
		code, err = w.Approve(w.Context(), r, []byte(firefox), a)
		w.check(err)
		id := w.works(tokens).ID
		w.check(w.End(w.Context(), bob, id))
		w.works(tokens)
		w.check(w.End(w.Context(), alice, id))
		w.check(w.End(w.Context(), alice, id))
		w.check(w.End(w.Context(), "did:plc:nobody", id))
		w.over(tokens)
		w.works(other)
		_, err = w.Redeem(w.Context(), public, code, redirect, verifier)
		w.refuses(err, "invalid_grant", "Invalid code")
		if ok, err := w.Consented(w.Context(), alice, clientID, "atproto", "atproto"); ok || err != nil {
			w.Errorf("consented %v, %v", ok, err)
		}
		w.write(func(tx *db.Tx) error { return tx.DeleteAccount(w.Context(), alice) })
		w.over(other)
	})
}

// Codes, tokens and browsers rest as keyed hashes.
func TestNothingRestsInClear(t *testing.T) {
	worlds(t, func(w *world) {
		if w.dir == "" {
			return // the rows are the same
		}
		pending, _ := w.request(public, "atproto")
		secrets := []string{firefox, w.push(pending)}
		unused, _ := w.code(public, alice, "atproto")
		used, verifier := w.code(public, alice, "atproto")
		first, err := w.Redeem(w.Context(), public, used, redirect, verifier)
		w.check(err)
		second := w.refresh(public, first)
		w.check(w.Remember(w.Context(), []byte(firefox), alice, w.now(), "", ""))
		_, err = w.Once(w.Context(), []byte("the id of a proof"), w.now().Add(time.Minute))
		w.check(err)
		secrets = append(secrets, unused, used, first.Refresh, second.Refresh, first.Access, second.Access, verifier, "the id of a proof")

		raw, err := sql.Open("sqlite", filepath.Join(w.dir, "portico.sqlite"))
		w.check(err)
		defer raw.Close()
		n := 0
		for _, table := range []string{"oauth_request", "oauth_session", "oauth_spent_refresh", "oauth_used", "oauth_remembered"} {
			rows, err := raw.Query("SELECT * FROM " + table)
			w.check(err)
			columns, err := rows.Columns()
			w.check(err)
			for rows.Next() {
				n++
				values, places := make([][]byte, len(columns)), make([]any, len(columns))
				for i := range values {
					places[i] = &values[i]
				}
				w.check(rows.Scan(places...))
				for i, value := range values {
					for _, secret := range secrets {
						if bytes.Contains(value, []byte(secret)) {
							w.Errorf("%s.%s has %s", table, columns[i], secret)
						}
					}
				}
			}
			w.check(rows.Err())
		}
		if n < 6 {
			w.Errorf("%d rows, so this test says nothing", n)
		}
	})
}
