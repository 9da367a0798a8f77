//go:build crash

package crash

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/cmd/portico/launch"
	"portico/db"
	"portico/db/dbtest"
	"portico/impl/identity/directory"
	"portico/impl/identity/plc"
)

var (
	rounds  = flag.Int("rounds", 3, "number of rounds; every third has two servers on one Postgres")
	signUps = flag.Int("signups", 200, "sign-ups of a round")
	seed    = flag.Uint64("seed", rand.Uint64(), "seed of what happens when; timing remains the machine's")
)

// concurrency is how many clients sign up at a time.
const concurrency = 8

// The times of the servers under test. They are an operator's settings, only
// shorter. The last look comes after everything that the proxy holds back.
var (
	lease  = 5 * time.Second
	looks  = []time.Duration{time.Second, 3 * time.Second, 6 * time.Second}
	retry  = 500 * time.Millisecond
	settle = lease + looks[len(looks)-1] + 10*retry
)

// asDirectory is set in the process that is the directory.
const asDirectory = "PORTICO_CRASH_DIRECTORY"

var binary string

func TestMain(m *testing.M) {
	if address := os.Getenv(asDirectory); address != "" {
		serveDirectory(address)
	}
	if how := os.Getenv(asNewer); how != "" && len(os.Args) > 1 && os.Args[1] == "serve" {
		takeOver(how)
	}
	launch.RunTests(m, &binary, nil)
}

// serveDirectory is the directory's process: the handler that portico embeds, on
// memory. It ends when it is killed.
func serveDirectory(address string) {
	h := directory.New(directory.NewMemory(), time.Now, "crash", slog.New(slog.DiscardHandler))
	fmt.Fprintln(os.Stderr, http.ListenAndServe(address, h))
	os.Exit(1)
}

func startDirectory(t *testing.T) string {
	t.Helper()
	port, err := launch.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("127.0.0.1", fmt.Sprint(port))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := launch.Start(t.Context(), "http://"+address+"/_health", "", []string{asDirectory + "=" + address}, self)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return "http://" + address
}

func TestKilledInTheMidstOfSignUps(t *testing.T) {
	t.Logf("-seed %d", *seed)
	for i := range *rounds {
		servers, engine := 1, "sqlite"
		if i%3 == 2 {
			servers, engine = 2, "postgres"
		}
		t.Run(fmt.Sprintf("%d %s", i+1, engine), func(t *testing.T) {
			r := newRound(t, *seed+uint64(i), servers)
			r.run(t)
			r.check(t)
			r.proxy.report(t)
		})
	}
}

// signUp is one person's attempt and what came of it.
type signUp struct {
	handle, email, password, invite string

	// signs is one who signs the operation of their DID: that DID then.
	signs bool
	own   syntax.DID

	acknowledged syntax.DID // of a 200; empty: none was seen
	refused      string     // the last answer that was not 200
}

type round struct {
	fleet
	proxy     *proxy
	directory string
	random    *rand.Rand
	rotation  *atcrypto.PrivateKeyK256 // of the servers
	config    db.Config                // of the servers' database
	env       []string
	folders   []string // of the servers
	people    []*signUp
	invites   []db.Invite
	// amended says that DIDs may be changed to name another of the servers, which on this
	// machine have a name each.
	amended bool
}

func newRound(t *testing.T, seed uint64, servers int) *round {
	t.Helper()
	r := &round{
		directory: startDirectory(t),
		random:    rand.New(rand.NewPCG(seed, 2)),
		config:    db.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)},
		rotation:  newKey(t),
	}
	r.proxy = startProxy(t, r.directory, seed)
	r.env = []string{
		"PDS_JWT_SECRET=f27f9ac1e1a17cd56cf6a3f1f5c2f8b3", "PDS_ADMIN_PASSWORD=9b1a2c63e7d84f50",
		"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=" + hex.EncodeToString(r.rotation.Bytes()),
		"PORTICO_KEY_ENCRYPTION_KEY=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
		"PDS_DID_PLC_URL=" + r.proxy.URL, "PDS_INVITE_REQUIRED=true", "PDS_RATE_LIMIT_BYPASS_IPS=127.0.0.1,::1",
		"PORTICO_SIGNUP_LEASE=" + lease.String(), "PORTICO_SIGNUP_RETRY=" + retry.String(),
		fmt.Sprintf("PORTICO_SIGNUP_CLEANUP_AFTER=%s,%s,%s", looks[0], looks[1], looks[2]),
	}
	r.folders = []string{r.config.Dir}
	if servers > 1 {
		r.folders = []string{t.TempDir(), t.TempDir()}
		r.config = db.Config{URL: dbtest.EmptyPostgresURL(t), Logger: r.config.Logger}
		r.env = append(r.env, "PORTICO_DATABASE_URL="+r.config.URL)
	}

	// Invites of several sizes, a place for everybody and none to spare: a use
	// that gets lost is missed by somebody.
	left := *signUps
	for n := 1; left > 0; n++ {
		uses := min(left, 1+r.random.IntN(1+*signUps/8))
		left -= uses
		invite := db.Invite{Code: fmt.Sprintf("crash-%d", n), Uses: uses, ForAccount: "admin", CreatedBy: "admin", CreatedAt: time.Now()}
		r.invites = append(r.invites, invite)
		for range uses {
			i := len(r.people)
			r.people = append(r.people, &signUp{
				handle: fmt.Sprintf("person-%d.test", i), email: fmt.Sprintf("person-%d@example.com", i),
				password: fmt.Sprintf("password of %d", i), invite: invite.Code, signs: i%3 == 0,
			})
		}
	}
	r.random.Shuffle(len(r.people), func(i, j int) { r.people[i], r.people[j] = r.people[j], r.people[i] })
	store := r.open(t)
	err := store.Write(t.Context(), func(tx *db.Tx) error { return tx.InsertInvites(t.Context(), r.invites...) })
	if err := firstOf(err, store.Close()); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *round) open(t *testing.T) *db.DB {
	t.Helper()
	store, err := db.Open(t.Context(), r.config)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// run lets everybody sign up while servers are killed, and then waits until all
// that was begun is settled.
func (r *round) run(t *testing.T) {
	t.Helper()
	r.start(t, r.env, r.folders...)

	people := make(chan *signUp)
	var clients sync.WaitGroup
	for range concurrency {
		clients.Go(func() {
			for p := range people {
				r.signUp(t.Context(), p)
			}
		})
	}
	var over atomic.Bool
	var killer sync.WaitGroup
	killer.Go(func() {
		for !over.Load() {
			time.Sleep(50*time.Millisecond + time.Duration(r.random.Int64N(int64(1200*time.Millisecond))))
			i := r.random.IntN(len(r.servers))
			r.kill(i)
			r.again(t, i)
		}
	})
	for _, p := range r.people {
		people <- p
	}
	close(people)
	clients.Wait()
	over.Store(true)
	killer.Wait()
	r.proxy.behave()
	time.Sleep(settle)
}

// signUp tries until the server says something: a client whose connection broke
// does not know what became of its account.
func (r *round) signUp(ctx context.Context, p *signUp) {
	input := map[string]any{"handle": p.handle, "email": p.email, "password": p.password, "inviteCode": p.invite}
	servers := len(r.servers)
	if p.signs {
		servers = 1 // the one that the operation names; on this machine each has a name of its own
		var err error
		if input["plcOp"], p.own, err = r.genesis(ctx, p); err != nil {
			p.refused = "no operation: " + err.Error()
			return
		}
	}
	var out struct {
		DID syntax.DID `json:"did"`
	}
	status, answer := r.try(ctx, servers, "createAccount", input, &out)
	if status == http.StatusOK {
		p.acknowledged = out.DID
		return
	}
	p.refused = fmt.Sprintf("%d %s", status, strings.NewReplacer(p.handle, "HANDLE", p.email, "EMAIL").Replace(answer))
}

// try calls a method until one of the first servers says something.
func (r *round) try(ctx context.Context, servers int, method string, in, out any) (status int, answer string) {
	deadline := time.Now().Add(launch.Patience)
	for attempt := 0; time.Now().Before(deadline); attempt++ {
		url := r.server(attempt%servers).URL + "/xrpc/com.atproto.server." + method
		status, answer, err := post(ctx, url, in, out)
		if err == nil {
			return status, answer
		}
		time.Sleep(20 * time.Millisecond)
	}
	return 0, "no server answered"
}

// genesis is the operation of somebody who signs it, with a key that was reserved.
func (r *round) genesis(ctx context.Context, p *signUp) (plc.Operation, syntax.DID, error) {
	var reserved struct {
		SigningKey string `json:"signingKey"`
	}
	if status, answer := r.try(ctx, len(r.servers), "reserveSigningKey", map[string]any{}, &reserved); status != http.StatusOK {
		return nil, "", fmt.Errorf("reserve a key: %d %s", status, answer)
	}
	own, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		return nil, "", err
	}
	var rotation []string
	for _, key := range []*atcrypto.PrivateKeyK256{own, r.rotation} {
		public, err := key.PublicKey()
		if err != nil {
			return nil, "", err
		}
		rotation = append(rotation, public.DIDKey())
	}
	op := plc.NewGenesis(rotation, reserved.SigningKey, syntax.Handle(p.handle), r.server(0).URL)
	if err := op.Sign(own); err != nil {
		return nil, "", err
	}
	did, err := plc.DID(op)
	return op, did, err
}

func newKey(t *testing.T) *atcrypto.PrivateKeyK256 {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var client = &http.Client{Timeout: launch.Patience, Transport: &http.Transport{MaxIdleConnsPerHost: concurrency}}

// post sends JSON and returns the status and the body, read into out when it is
// 200. An error means that no whole answer came.
func post(ctx context.Context, url string, in, out any) (int, string, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return 0, "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode == http.StatusOK {
		err = json.Unmarshal(answer, out)
	}
	return resp.StatusCode, string(answer), err
}

func firstOf(errs ...error) error {
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		return errs[i]
	}
	return nil
}
