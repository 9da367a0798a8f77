//go:build crash

package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"portico/cmd/portico/launch"
	"portico/cmd/portico/repotest"
	"portico/db/dbtest"
)

var moves = flag.Int("moves", 9, "moves of a round")

const (
	// moveLease is how long after a move was broken off the servers themselves go on.
	moveLease    = 2 * time.Second
	movePassword = "correct horse battery"
)

// TestKilledInTheMidstOfMoves kills the command that moves an account, the host that it leaves and
// the one that it comes to, while its owner writes. Then the command is given once more, or the
// hosts are left to themselves. Rounds are from SQLite to Postgres and back, and from SQLite to
// SQLite; the directory loses answers and operations in both.
func TestKilledInTheMidstOfMoves(t *testing.T) {
	t.Logf("-seed %d", *seed)
	for i := range min(*rounds, 2) {
		t.Run(fmt.Sprint(i+1), func(t *testing.T) {
			w := newMoves(t, *seed+uint64(i), i%2 == 0)
			for n := range *moves {
				if n%3 == 0 { // the directory takes ten operations of a DID in an hour
					w.begin()
				}
				w.move(n)
				if t.Failed() {
					t.Fatalf("after move %d", n)
				}
				if n%3 == 2 || n == *moves-1 {
					w.end()
				}
			}
			w.stop()
		})
	}
}

// A movingWorld is two hosts, an account that moves between them, and its owner.
type movingWorld struct {
	*testing.T
	fleet
	proxy  *proxy
	random *rand.Rand
	client *http.Client

	name     string // of the account
	did, app string // the account, and an app password of it
	accounts int    // that there were
	at       int    // the host that has it, as far as is known
	took     time.Duration

	// The writer's.
	written map[string]string // CIDs of the records that were acknowledged, by path
	blobs   []string
	rev     string // the last that was acknowledged
	over    context.CancelFunc
	running sync.WaitGroup
	session string // that was there before all

	outcomes map[string]int
}

func newMoves(t *testing.T, seed uint64, postgres bool) *movingWorld {
	w := &movingWorld{
		T: t, random: rand.New(rand.NewPCG(seed, 5)), written: map[string]string{}, outcomes: map[string]int{},
		client: &http.Client{Timeout: 10 * time.Second},
	}
	w.proxy = startProxy(t, startDirectory(t), seed)
	w.proxy.behave()
	w.proxy.reads = true // or hardly a move would begin
	for i := range 2 {
		env := []string{
			"PDS_DID_PLC_URL=" + w.proxy.URL, "PDS_INVITE_REQUIRED=false", "PDS_RATE_LIMIT_BYPASS_IPS=127.0.0.1,::1",
			fmt.Sprintf("PDS_ADMIN_PASSWORD=the password of %d", i), fmt.Sprintf("PDS_SERVICE_HANDLE_DOMAINS=.host-%d.test", i),
			"PORTICO_SIGNUP_RETRY=200ms", "PORTICO_MOVE_LEASE=" + moveLease.String(),
		}
		if postgres && i == 1 {
			env = append(env, "PORTICO_DATABASE_URL="+dbtest.EmptyPostgresURL(t), "PORTICO_KEY_ENCRYPTION_KEY=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
		}
		w.start(t, env, t.TempDir())
	}
	return w
}

// handle is that of the account at a host.
func (w *movingWorld) handle(host int) string { return fmt.Sprintf("%s.host-%d.test", w.name, host) }

func (w *movingWorld) email() string { return w.name + "@example.com" }

// ask calls a method of com.atproto of a host. What answers nothing has the status 0.
func (w *movingWorld) ask(ctx context.Context, host int, method, token string, in, out any) (status int, said string) {
	verb, body, kind := http.MethodGet, io.Reader(nil), ""
	switch in := in.(type) {
	case nil:
	case []byte:
		verb, body, kind = http.MethodPost, bytes.NewReader(in), "application/octet-stream"
	default:
		text, err := json.Marshal(in)
		if err != nil {
			w.Error(err)
			return 0, ""
		}
		verb, body, kind = http.MethodPost, bytes.NewReader(text), "application/json"
	}
	r, err := http.NewRequestWithContext(ctx, verb, w.server(host).URL+"/xrpc/com.atproto."+method, body)
	if err != nil {
		w.Error(err)
		return 0, ""
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	a, err := w.client.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		return 0, err.Error()
	}
	if raw, ok := out.(*[]byte); ok {
		*raw = text
	} else if out != nil && a.StatusCode == http.StatusOK {
		if err := json.Unmarshal(text, out); err != nil {
			w.Errorf("%s: %s: %v", method, text, err)
		}
	}
	return a.StatusCode, string(text)
}

// accepted is ask for what has to be answered with 200.
func (w *movingWorld) accepted(host int, method, token string, in, out any) {
	w.Helper()
	if status, said := w.ask(w.Context(), host, method, token, in, out); status != http.StatusOK {
		w.Fatalf("%s of host %d: %d %s", method, host, status, said)
	}
}

// begin makes an account at the first host and lets its owner write, and finds out how long a
// move takes.
func (w *movingWorld) begin() {
	w.proxy.behave()
	w.accounts++
	w.name = fmt.Sprint("person-", w.accounts)
	w.written, w.blobs, w.rev = map[string]string{}, nil, ""
	var made struct{ DID, AccessJwt string }
	w.accepted(0, "server.createAccount", "", map[string]string{"handle": w.handle(0), "email": w.email(), "password": movePassword}, &made)
	w.did, w.session = made.DID, made.AccessJwt
	var app struct{ Password string }
	w.accepted(0, "server.createAppPassword", w.session, map[string]string{"name": "telephone"}, &app)
	w.app = app.Password
	ctx, cancel := context.WithCancel(w.Context())
	w.over = cancel
	w.Cleanup(cancel)
	w.running.Go(func() { w.write(ctx, made.AccessJwt) })
	w.running.Go(func() { w.watch(ctx) })
	began := time.Now()
	if out, err := w.command(1).CombinedOutput(); err != nil {
		w.Fatalf("a move that nobody disturbs: %v\n%s", err, out)
	}
	w.took = time.Since(began)
	w.at = 1
	w.check()
	w.Logf("a move takes %v", w.took)
	w.proxy.mu.Lock()
	w.proxy.honest = false
	w.proxy.mu.Unlock()
}

// command moves the account to a host.
func (w *movingWorld) command(to int) *exec.Cmd {
	c := exec.Command(binary, "account", "move", w.did, w.server(to).URL, "--handle", w.handle(to), "--yes")
	c.Env = append(launch.Environ(), "PDS_HOST="+w.server(1-to).URL, fmt.Sprintf("PDS_ADMIN_PASSWORD=the password of %d", 1-to),
		fmt.Sprintf("PORTICO_MOVE_ADMIN_PASSWORD=the password of %d", to))
	return c
}

// move begins a move, kills what takes part in it, and checks that the account is at one host.
func (w *movingWorld) move(n int) {
	to := 1 - w.at
	said := &watched{words: "switched off", seen: make(chan struct{})}
	c := w.command(to)
	c.Stdout, c.Stderr = said, said
	if err := c.Start(); err != nil {
		w.Fatal(err)
	}
	ended := make(chan error, 2)
	go func() { ended <- c.Wait() }()
	victim := []string{"the command", "the host that it leaves", "the host that it comes to"}[n%3]
	// Anywhere, and every other time in what follows once the account is switched off.
	when, late := time.Duration(w.random.Int64N(int64(w.took))), w.random.IntN(2) == 0
	if late {
		when /= 2
		select {
		case <-said.seen:
		case err := <-ended:
			ended <- err
		}
	}
	time.Sleep(when)
	switch n % 3 {
	case 0:
		_ = c.Process.Kill() // it may have ended
	case 1:
		w.kill(1 - to)
		w.again(w.T, 1-to)
	case 2:
		w.kill(to)
		w.again(w.T, to)
	}
	err := <-ended
	again := w.random.IntN(2) == 0
	repeats := 0
	if again {
		time.Sleep(time.Duration(w.random.Int64N(int64(moveLease * 3 / 2)))) // the hosts may be at it, too
		for deadline := time.Now().Add(launch.Patience); ; repeats++ {
			out, failed := w.command(to).CombinedOutput()
			if failed == nil {
				break
			}
			if time.Now().After(deadline) {
				w.Fatalf("the command does not move the account: %v\n%s", failed, out)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	w.at = w.settled()
	if again && w.at != to {
		w.Errorf("the command said that the account has moved, and it has not")
	}
	w.check()
	ending := "left to the hosts"
	if again {
		ending = "given again"
	}
	side := "old"
	if w.at == to {
		side = "new"
	}
	w.outcomes[fmt.Sprintf("%s killed, %s: at the %s host", victim, ending, side)]++
	w.Logf("move %d to host %d: %s killed (late: %t, %v), %s, %d repeats, at %d", n, to, victim, late, err, ending, repeats, w.at)
	if w.Failed() {
		w.Logf("the command wrote\n%s", said.String())
	}
}

// watched is what a program writes, and tells when it has written some words.
type watched struct {
	words string
	seen  chan struct{}

	mu  sync.Mutex
	all []byte
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := strings.Contains(string(w.all), w.words)
	w.all = append(w.all, b...)
	if !before && strings.Contains(string(w.all), w.words) {
		close(w.seen)
	}
	return len(b), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.all)
}

// active reports whether a host says that the account is active there.
func (w *movingWorld) active(host int) bool {
	var status struct{ Active bool }
	w.ask(w.Context(), host, "sync.getRepoStatus?did="+w.did, "", nil, &status)
	return status.Active
}

// settled waits until the account is active at a host, which is to be within a few leases.
func (w *movingWorld) settled() int {
	w.Helper()
	w.proxy.behave() // for the moment
	defer func() {
		w.proxy.mu.Lock()
		w.proxy.honest = false
		w.proxy.mu.Unlock()
	}()
	for deadline := time.Now().Add(launch.Patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for host := range w.servers {
			if w.active(host) {
				return host
			}
		}
	}
	for i, s := range w.servers {
		w.Logf("host %d:\n%s", i, s.Log())
	}
	w.Fatal("the account is active nowhere")
	return 0
}

// watch looks whether the account is ever active at both hosts.
func (w *movingWorld) watch(ctx context.Context) {
	for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		if w.active(0) && w.active(1) && w.active(0) && w.active(1) {
			w.Error("the account is active at both hosts")
			return
		}
	}
}

// write writes for the owner, at whichever host lets them.
func (w *movingWorld) write(ctx context.Context, token string) {
	host := 0
	for n := 0; ctx.Err() == nil; n++ {
		record := map[string]any{"$type": "com.example.note", "text": fmt.Sprint(n)}
		blob := ""
		if n%5 == 0 {
			var up struct {
				Blob struct {
					Ref struct {
						Link string `json:"$link"`
					} `json:"ref"`
					MimeType string `json:"mimeType"`
					Size     int    `json:"size"`
				} `json:"blob"`
			}
			if status, _ := w.ask(ctx, host, "repo.uploadBlob", token, fmt.Append(nil, "blob ", n, " of ", w.did), &up); status == http.StatusOK {
				blob = up.Blob.Ref.Link
				record["blob"] = map[string]any{"$type": "blob", "ref": map[string]any{"$link": blob}, "mimeType": up.Blob.MimeType, "size": up.Blob.Size}
			}
		}
		path := fmt.Sprintf("com.example.note/n%d", n)
		var wrote struct {
			CID    string
			Commit struct{ Rev string }
		}
		status, _ := w.ask(ctx, host, "repo.createRecord", token, map[string]any{
			"repo": w.did, "collection": "com.example.note", "rkey": strings.TrimPrefix(path, "com.example.note/"), "record": record,
		}, &wrote)
		if status == http.StatusOK {
			w.mu.Lock()
			if wrote.Commit.Rev <= w.rev {
				w.Errorf("rev %s after %s", wrote.Commit.Rev, w.rev)
			}
			w.written[path], w.rev = wrote.CID, wrote.Commit.Rev
			if blob != "" {
				w.blobs = append(w.blobs, blob)
			}
			w.mu.Unlock()
			time.Sleep(20 * time.Millisecond)
			continue
		}
		time.Sleep(50 * time.Millisecond)
		for h := range 2 {
			if !w.active(h) {
				continue // with no password yet all are wrong, and of these there may be only so many
			}
			var s struct {
				AccessJwt string
				Active    bool
			}
			status, _ := w.ask(ctx, h, "server.createSession", "", map[string]string{"identifier": w.did, "password": movePassword}, &s)
			if status == http.StatusOK && s.Active {
				host, token = h, s.AccessJwt
			}
		}
	}
}

// check looks for what must never be, at a moment at which the account is active at one host.
func (w *movingWorld) check() {
	w.Helper()
	other := 1 - w.at
	if w.active(other) {
		w.Errorf("the account is active at host %d, too", other)
	}
	w.mu.Lock()
	written, blobs, rev := maps.Clone(w.written), slices.Clone(w.blobs), w.rev
	w.mu.Unlock()

	var says struct {
		AlsoKnownAs         []string
		VerificationMethods map[string]string
		Services            map[string]struct{ Endpoint string }
	}
	if err := w.directorySays(&says); err != nil {
		w.Fatal(err)
	}
	if endpoint := says.Services["atproto_pds"].Endpoint; endpoint != w.server(w.at).URL {
		w.Errorf("the DID names %s, and the account is at %s", endpoint, w.server(w.at).URL)
	}
	if len(says.AlsoKnownAs) != 1 || says.AlsoKnownAs[0] != "at://"+w.handle(w.at) {
		w.Errorf("the DID is known as %v", says.AlsoKnownAs)
	}
	key, err := atcrypto.ParsePublicDIDKey(says.VerificationMethods["atproto"])
	if err != nil {
		w.Fatal(err)
	}
	var found struct{ DID string }
	if w.accepted(w.at, "identity.resolveHandle?handle="+w.handle(w.at), "", nil, &found); found.DID != w.did {
		w.Errorf("the handle is that of %s", found.DID)
	}
	for _, proof := range [][2]string{{w.handle(w.at), movePassword}, {w.email(), movePassword}, {w.did, w.app}} {
		var s struct {
			DID    string
			Active bool
		}
		status, said := w.ask(w.Context(), w.at, "server.createSession", "", map[string]string{"identifier": proof[0], "password": proof[1]}, &s)
		if status != http.StatusOK {
			w.Errorf("sign in as %s at %d: %d %s", proof[0], w.at, status, said)
		} else if s.DID != w.did || !s.Active {
			w.Errorf("signed in as %s: %+v", proof[0], s)
		}
	}

	var archive []byte
	w.accepted(w.at, "sync.getRepo?did="+w.did, "", nil, &archive)
	commit, records, err := repotest.Archived(w.Context(), archive, key)
	if err != nil {
		w.Fatalf("the repository: %v", err)
	}
	if commit.Rev < rev {
		w.Errorf("the repository is at %s, and %s was acknowledged", commit.Rev, rev)
	}
	for path, cid := range written {
		if records[path].String() != cid {
			w.Errorf("%s was acknowledged as %s, and is %s", path, cid, records[path])
		}
	}
	for _, name := range blobs {
		var b []byte
		w.accepted(w.at, "sync.getBlob?did="+w.did+"&cid="+name, "", nil, &b)
		if err := repotest.IsBlob(name, b); err != nil {
			w.Errorf("blob %s: %v", name, err)
		}
	}
	if len(written) == 0 || len(blobs) == 0 {
		w.Error("nothing was written")
	}
}

func (w *movingWorld) directorySays(out any) error {
	a, err := w.client.Get(w.proxy.directory + "/" + w.did + "/data")
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusOK {
		return errors.New(a.Status)
	}
	return json.NewDecoder(a.Body).Decode(out)
}

// end lets the owner stop, and sees that the session of before the first move is over.
func (w *movingWorld) end() {
	w.over()
	w.running.Wait()
	w.check()
	if status, said := w.ask(w.Context(), 0, "server.getSession", w.session, nil, nil); status == http.StatusOK {
		w.Errorf("the session of before the first move: %s", said)
	}
	w.Logf("%d records and %d blobs acknowledged", len(w.written), len(w.blobs))
}

func (w *movingWorld) stop() {
	for _, what := range slices.Sorted(maps.Keys(w.outcomes)) {
		w.Logf("%2d × %s", w.outcomes[what], what)
	}
	w.Logf("%d kills of hosts", w.kills)
	w.proxy.report(w.T)
	for i := range w.servers {
		if err := w.server(i).Stop(); err != nil {
			w.Error(err)
		}
	}
}
