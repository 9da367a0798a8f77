//go:build crash

package crash

import (
	"bytes"
	"context"
	cryptorand "crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/cmd/portico/launch"
	"portico/db"
	"portico/db/dbtest"
	"portico/impl/budget"
	"portico/impl/keyring"
	"portico/impl/oauth/grant"
	"portico/impl/oauth/oauthtest"
)

var apps = flag.Int("apps", 48, "apps that are let in in a round")

const (
	appRedirect  = "http://127.0.0.1/callback"
	appRefreshes = 6
)

// TestKilledInTheMidstOfExchanges kills servers while apps exchange codes and refresh tokens.
// Afterwards what an app was given last works, unless it asked for more and had no answer; and
// no code is good twice. One round is on SQLite, one has two servers on one Postgres.
func TestKilledInTheMidstOfExchanges(t *testing.T) {
	t.Logf("-seed %d", *seed)
	for i, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			f := newExchanges(t, *seed+uint64(i), engine == "postgres")
			f.run()
			f.check()
		})
	}
}

type exchanges struct {
	*testing.T
	fleet
	random *rand.Rand
	issuer string
	apps   []*exchanging
}

// An exchanging app has a code, and then tokens.
type exchanging struct {
	*exchanges
	did            syntax.DID
	id             string
	key            *oauthtest.Key
	code, verifier string
	nonce          string
	server         int
	random         *rand.Rand

	access, refresh string // that it was given last
	// lost says that the app asked for more once, had no answer, and is refused since: the
	// answer had it.
	lost bool
}

func newExchanges(t *testing.T, seed uint64, postgres bool) *exchanges {
	t.Helper()
	f := &exchanges{T: t, random: rand.New(rand.NewPCG(seed, 4))}
	data, secret := t.TempDir(), newKey(t).Bytes()
	config := db.Config{Dir: data, Logger: slog.New(slog.DiscardHandler)}
	env := []string{
		"PDS_JWT_SECRET=f27f9ac1e1a17cd56cf6a3f1f5c2f8b3", "PDS_ADMIN_PASSWORD=9b1a2c63e7d84f50",
		"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=" + hex.EncodeToString(newKey(t).Bytes()), "PDS_DPOP_SECRET=" + hex.EncodeToString(newKey(t).Bytes()),
		"PORTICO_KEY_ENCRYPTION_KEY=" + hex.EncodeToString(secret),
		"PDS_HOSTNAME=pds.example.com", "PDS_SERVICE_HANDLE_DOMAINS=.test", // both servers are the same one to clients
		"PDS_DID_PLC_URL=" + startDirectory(t), "PDS_INVITE_REQUIRED=false", "PDS_RATE_LIMIT_BYPASS_IPS=127.0.0.1,::1",
	}
	folders := []string{data}
	if postgres {
		config = db.Config{URL: dbtest.EmptyPostgresURL(t), Logger: config.Logger}
		env = append(env, "PORTICO_DATABASE_URL="+config.URL)
		folders = append(folders, data)
	}
	f.start(t, env, folders...)
	var metadata struct{ Issuer string }
	f.must(get(f.server(0).URL+"/.well-known/oauth-authorization-server", &metadata))
	f.issuer = metadata.Issuer
	var people []syntax.DID
	for i := range accounts {
		var out struct{ DID syntax.DID }
		handle := fmt.Sprintf("person-%d.test", i)
		status, answer, err := post(t.Context(), f.server(0).URL+"/xrpc/com.atproto.server.createAccount",
			map[string]string{"handle": handle, "email": handle + "@example.com", "password": "password of " + handle}, &out)
		if err != nil || status != http.StatusOK {
			t.Fatalf("sign up %s: %d %s, %v", handle, status, answer, err)
		}
		people = append(people, out.DID)
	}
	for i := range f.servers {
		f.server(i).Kill()
	}
	f.allow(config, secret, people)
	for i := range f.servers {
		f.again(t, i)
	}
	return f
}

// allow lets apps in, as the pages do it, where no server has the database.
func (f *exchanges) allow(config db.Config, secret []byte, people []syntax.DID) {
	f.Helper()
	ctx := f.Context()
	d, err := db.Open(ctx, config)
	f.must(err)
	defer func() { f.must(d.Close()) }()
	keys, err := keyring.New(cryptorand.Reader, secret)
	f.must(err)
	canary, err := d.Meta(ctx, "key canary")
	f.must(err)
	f.must(keys.Unlock(canary))
	grants := &grant.Grants{DB: d, Keys: keys, Budgets: &budget.Ledger{DB: d, Keys: keys, Now: time.Now}, Now: time.Now, Rand: cryptorand.Reader}
	id := "http://localhost?" + url.Values{"redirect_uri": {appRedirect}, "scope": {"atproto"}}.Encode()
	for i := range *apps {
		a := &exchanging{
			exchanges: f, did: people[i%len(people)], id: id, key: oauthtest.NewKey(f, "ES256"), verifier: cryptorand.Text() + cryptorand.Text(),
			server: i / concurrency % len(f.servers), random: rand.New(rand.NewPCG(f.random.Uint64(), 5)),
		}
		challenge := sha256.Sum256([]byte(a.verifier))
		uri, err := grants.Push(ctx, budget.Payer{}, grant.Request{ClientID: id, DPoPKey: a.key.Thumbprint(f), Parameters: grant.Parameters{
			RedirectURI: appRedirect, Scope: "atproto", CodeChallenge: base64.RawURLEncoding.EncodeToString(challenge[:]),
		}})
		f.must(err)
		r, err := grants.Open(ctx, uri, id, []byte("browser"))
		f.must(err)
		a.code, err = grants.Approve(ctx, r, []byte("browser"), grant.Answer{DID: a.did, ProvedAt: time.Now(), Scope: "atproto", Granted: "atproto"})
		f.must(err)
		f.apps = append(f.apps, a)
	}
}

func (f *exchanges) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// run lets all apps exchange what they have while servers are killed.
func (f *exchanges) run() {
	var over atomic.Bool
	var workers, trouble sync.WaitGroup
	for i := range concurrency {
		workers.Go(func() {
			for range 1 + appRefreshes {
				for j := i; j < len(f.apps); j += concurrency {
					f.apps[j].exchange()
				}
			}
		})
	}
	trouble.Go(func() {
		for !over.Load() || f.kills < 3 {
			time.Sleep(50*time.Millisecond + time.Duration(f.random.Int64N(int64(200*time.Millisecond))))
			i := f.random.IntN(len(f.servers))
			f.kill(i)
			f.again(f.T, i)
		}
	})
	workers.Wait()
	over.Store(true)
	trouble.Wait()
}

var loopback = &http.Client{Timeout: 20 * time.Second}

func get(url string, out any) error {
	resp, err := loopback.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(out)
}

// ask sends a request with a proof to the server of the app, once more where the nonce is an
// old one.
func (a *exchanging) ask(verb, path, token string, form url.Values) (int, []byte, error) {
	for again := false; ; again = true {
		r, err := http.NewRequestWithContext(context.WithoutCancel(a.Context()), verb, a.exchanges.fleet.server(a.server).URL+path, strings.NewReader(form.Encode()))
		if err != nil {
			return 0, nil, err
		}
		r.Header.Set("DPoP", a.key.Proof(a, time.Now(), verb, a.issuer+path, a.nonce, token, nil))
		if token != "" {
			r.Header.Set("Authorization", "DPoP "+token)
		}
		if form != nil {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		resp, err := loopback.Do(r)
		if err != nil {
			return 0, nil, err
		}
		body, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return 0, nil, err
		}
		if nonce := resp.Header.Get("DPoP-Nonce"); nonce != "" {
			a.nonce = nonce
		}
		if again || !bytes.Contains(body, []byte("use_dpop_nonce")) {
			return resp.StatusCode, body, nil
		}
	}
}

func (a *exchanging) form() url.Values {
	if a.refresh != "" {
		return url.Values{"client_id": {a.id}, "grant_type": {"refresh_token"}, "refresh_token": {a.refresh}}
	}
	return url.Values{
		"client_id": {a.id}, "grant_type": {"authorization_code"}, "code": {a.code}, "redirect_uri": {appRedirect}, "code_verifier": {a.verifier},
	}
}

// exchange asks for tokens until somebody answers.
func (a *exchanging) exchange() {
	if a.lost {
		return
	}
	first := a.refresh == ""
	unanswered := false
	for deadline := time.Now().Add(launch.Patience); time.Now().Before(deadline); {
		status, body, err := a.ask(http.MethodPost, "/oauth/token", "", a.form())
		switch {
		case err != nil || status >= 500:
			unanswered = true
			time.Sleep(20 * time.Millisecond)
			continue
		case status == http.StatusOK:
			a.keep(body)
			if first && a.random.IntN(2) == 0 {
				a.codeAgain()
			}
		case unanswered && bytes.Contains(body, []byte("invalid_grant")):
			a.lost = true
		default:
			a.Errorf("exchange of an app: %d %s", status, body)
			a.lost = true
		}
		return
	}
	a.Error("nobody answers an app")
}

func (a *exchanging) keep(body []byte) {
	var out struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
		Subject string `json:"sub"`
	}
	if err := json.Unmarshal(body, &out); err != nil || out.Access == "" || out.Refresh == "" || out.Subject != a.did.String() {
		a.Errorf("tokens %s, %v", body, err)
	}
	a.access, a.refresh = out.Access, out.Refresh
}

// codeAgain shows a code that was exchanged.
func (a *exchanging) codeAgain() {
	b := *a
	b.refresh = ""
	status, body, err := b.ask(http.MethodPost, "/oauth/token", "", b.form())
	if err == nil && status < 500 && (status != http.StatusBadRequest || !bytes.Contains(body, []byte("Invalid code"))) {
		a.Errorf("the same code again: %d %s", status, body)
	}
	a.nonce = b.nonce
}

// check asks servers that nobody kills for what all apps have.
func (f *exchanges) check() {
	lost := 0
	for _, a := range f.apps {
		if a.lost {
			lost++
			continue
		}
		if a.access == "" {
			f.Error("an app was given nothing")
			continue
		}
		status, body, err := a.ask(http.MethodGet, "/xrpc/com.atproto.server.getSession", a.access, nil)
		if err != nil || status != http.StatusOK || !bytes.Contains(body, []byte(a.did)) {
			f.Errorf("access token: %d %s, %v", status, body, err)
		}
		status, body, err = a.ask(http.MethodPost, "/oauth/token", "", a.form())
		if err != nil || status != http.StatusOK {
			f.Errorf("refresh token: %d %s, %v", status, body, err)
			continue
		}
		old := a.access
		a.keep(body)
		for token, want := range map[string]int{old: http.StatusUnauthorized, a.access: http.StatusOK} {
			if status, body, err := a.ask(http.MethodGet, "/xrpc/com.atproto.server.getSession", token, nil); err != nil || status != want {
				f.Errorf("access token: %d %s, %v; want %d", status, body, err, want)
			}
		}
	}
	f.Logf("%d kills; %d apps, of which %d lost an answer that had their tokens", f.kills, len(f.apps), lost)
	if lost == len(f.apps) {
		f.Error("no app has any tokens, so this test says nothing")
	}
}
