//go:build interop

package interop

import (
	"bytes"
	"context"
	cryptorand "crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-cmp/cmp"

	identityapi "portico/api/atproto/identity"
	serverapi "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/cmd/portico/launch"
	"portico/db"
	"portico/db/dbtest"
	"portico/impl/account/serviceauth"
	"portico/impl/identity/plc"
)

var (
	movers      = flag.Int("movers", len(states), "accounts of the server whose DIDs are moved; 1000 by hand")
	moveRate    = flag.Int("move-rate", 6, "how many of them are looked at in a second")
	moveKills   = flag.Int("move-kills", 3, "how often that server is killed in each phase")
	moveServers = flag.Int("move-servers", 1, "its processes, which share a database of Postgres when they are more than one")
	moveSeed    = flag.Uint64("move-seed", rand.Uint64(), "of when they are killed")
)

// States of accounts.
const (
	isActive      = "active"
	isDeactivated = "deactivated"
	isTakenDown   = "taken down"
	hasFiveKeys   = "five keys"
	hasOwnKey     = "a key of the owner's before the server's"
	isRenamed     = "renamed by its owner meanwhile"
	hasArrived    = "moved here, and not activated yet"
	isAbandoned   = "a move here that was given up"
	hasNoKey      = "without our key"
	isElsewhere   = "on another host"
	isTombstoned  = "tombstoned"
	isWeb         = "did:web"
)

var states = []string{
	isActive, isDeactivated, isTakenDown, hasFiveKeys, hasOwnKey, isRenamed, hasArrived, isAbandoned, hasNoKey, isElsewhere, isTombstoned, isWeb,
}

// leftBecause is why DIDs are left as they are.
var leftBecause = map[string]string{
	isAbandoned: "no_key", hasNoKey: "no_key", isElsewhere: "elsewhere", isTombstoned: "tombstoned", isWeb: "did_web",
}

// The host names of a crowd's server, and a domain for handles that no move changes.
const oldHost, newHost, otherDomain = "old.test", "new.test", "other.test"

// A crowd has accounts in every state on a server that is killed while their DIDs are moved.
type crowd struct {
	*testing.T
	command []string // of the move
	place   *place
	lobby   *lobby
	random  *rand.Rand
	config  db.Config
	env     []string // settings that stay
	name    string   // PDS_HOSTNAME
	keys    []string // settings of rotation keys
	servers []*launch.Server
	ports   []int
	folders []string

	members []*member
	late    []*latecomer

	spent time.Duration // of the processor, by processes that were killed in this phase
	peak  int64         // bytes of memory
}

// A member has an account.
type member struct {
	*owner
	state  string
	before plc.Data // what the DID said, with the handle that its owner gave it since
	said   plc.Data // what it was expected to say last
	count  int      // of operations then
	log    string   // all operations, byte by byte, of a DID that is to be left
}

// A latecomer signs up while the server is killed.
type latecomer struct {
	did        syntax.DID
	handle     syntax.Handle
	registered bool // with the directory
}

func newCrowd(t *testing.T, env []string, command ...string) *crowd {
	t.Helper()
	t.Logf("-move-seed %d", *moveSeed)
	directory := startDirectory(t)
	c := &crowd{
		T: t, command: command, random: rand.New(rand.NewPCG(*moveSeed, 0)), name: oldHost, lobby: startLobby(t, directory),
		keys: []string{"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=" + rotationKey},
	}
	c.env = append(env,
		"PORTICO_BIND=127.0.0.1", "PDS_DID_PLC_URL="+c.lobby.URL, "PDS_ADMIN_PASSWORD=operator of the crowd",
		"PDS_JWT_SECRET=f27f9ac1e1a17cd56cf6a3f1f5c2f8b3", "PDS_INVITE_REQUIRED=false", "PDS_DISABLE_SSRF_PROTECTION=true",
		"PDS_RATE_LIMIT_BYPASS_IPS=127.0.0.1,::1", "PDS_SERVICE_HANDLE_DOMAINS=."+oldHost+",."+otherDomain,
		"PORTICO_SIGNUP_LEASE=10s", "PORTICO_SIGNUP_RETRY=1s", "PORTICO_SIGNUP_CLEANUP_AFTER=5s,24h", fmt.Sprint("PORTICO_PLC_RATE=", *moveRate),
		"PORTICO_KEY_ENCRYPTION_KEY=00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdee")
	for range *moveServers {
		port, err := launch.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		c.ports, c.folders, c.servers = append(c.ports, port), append(c.folders, t.TempDir()), append(c.servers, nil)
	}
	c.config = db.Config{Dir: c.folders[0], Now: time.Now, Logger: slog.New(slog.DiscardHandler)}
	if *moveServers > 1 {
		c.config.Dir, c.config.URL = "", dbtest.EmptyPostgresURL(t)
		c.env = append(c.env, "PORTICO_DATABASE_URL="+c.config.URL)
	}
	c.place = &place{directory: &plc.Client{URL: directory}, url: fmt.Sprintf("http://localhost:%d", c.ports[0])}
	c.serve()
	began := time.Now()
	for i := range *movers {
		c.members = append(c.members, c.member(i))
	}
	for _, m := range c.members {
		if leftBecause[m.state] == "" {
			m.before, m.count = m.data(), len(m.audit())
			m.said = m.before
		} else if m.state != isWeb {
			m.log = m.bytes()
		}
	}
	t.Logf("%d accounts made in %v", *movers, time.Since(began).Round(time.Second))
	return c
}

// member makes an account, in one of all states.
func (c *crowd) member(i int) *member {
	name := fmt.Sprintf("person-%d", i)
	m := &member{state: states[i%len(states)]}
	server, key := rotationDIDKey(c.T), rotation(c.T)
	own := func(n int) (keys []string) {
		for range n {
			_, key := newKey(c.T)
			keys = append(keys, key)
		}
		return keys
	}
	change := func(f func(*plc.Data)) { m.post(m.signed(key, f)) }
	switch m.state {
	case isWeb:
		m.owner = c.brings(name, c.web)
		return m
	case isAbandoned:
		m.owner = c.brings(name, c.foreign)
		return m
	case hasArrived:
		var theirs atcrypto.PrivateKey
		m.owner = c.brings(name, func(name string) (did syntax.DID, key atcrypto.PrivateKey) {
			did, theirs = c.foreign(name)
			return did, theirs
		})
		m.post(m.signed(theirs, func(d *plc.Data) {
			d.RotationKeys = append(d.RotationKeys, server)
			d.Services["atproto_pds"] = plc.Service{Type: plc.ServiceType, Endpoint: "https://" + oldHost}
			d.SetHandle(syntax.Handle(name + "." + oldHost))
		}))
		return m
	}
	m.owner = c.place.signUp(c.T, name+"."+strings.TrimSuffix(oldHost, ".test"))
	switch m.state {
	case isDeactivated:
		c.portico("account", "deactivate", m.did.String())
	case isTakenDown:
		c.portico("account", "takedown", m.did.String(), "--ref", "case 17")
	case hasFiveKeys:
		change(func(d *plc.Data) { d.RotationKeys = append(own(1), append([]string{server}, own(3)...)...) })
	case hasOwnKey:
		change(func(d *plc.Data) { d.RotationKeys = append(own(1), server) })
	case hasNoKey:
		change(func(d *plc.Data) { d.RotationKeys = own(1) })
	case isElsewhere:
		change(func(d *plc.Data) {
			d.Services["atproto_pds"] = plc.Service{Type: plc.ServiceType, Endpoint: "https://elsewhere.example"}
		})
	case isTombstoned:
		last, err := m.directory.Last(c.Context(), m.did)
		m.check(err)
		op, err := plc.NewTombstone(last)
		m.check(err)
		m.check(op.Sign(key))
		m.post(op)
	}
	return m
}

// brings makes an account of somebody who has a DID already.
func (c *crowd) brings(name string, has func(name string) (syntax.DID, atcrypto.PrivateKey)) *owner {
	c.Helper()
	did, key := has(name)
	now := time.Now()
	token, err := serviceauth.Issue(serviceauth.Request{
		Issuer: did, Audience: "did:web:" + oldHost, Method: "com.atproto.server.createAccount", IssuedAt: now, Expires: now.Add(time.Minute).Unix(),
	}, key, cryptorand.Reader)
	if err != nil {
		c.Fatal(err)
	}
	in := sheet(name + "." + strings.TrimSuffix(oldHost, ".test"))
	in.DID = &did
	client := serverapi.Client{Client: xrpc.Client{Host: c.place.url, Authorization: xrpc.Bearer(token)}}
	created, err := client.CreateAccount(c.Context(), in)
	if err != nil {
		c.Fatal(err)
	}
	session := xrpc.Client{Host: c.place.url, Authorization: xrpc.Bearer(created.AccessJWT)}
	return &owner{T: c.T, place: c.place, did: did, server: &serverapi.Client{Client: session}, identity: &identityapi.Client{Client: session}}
}

// foreign is a DID of another host's, with its key.
func (c *crowd) foreign(name string) (syntax.DID, atcrypto.PrivateKey) {
	c.Helper()
	key, public := newKey(c.T)
	op := plc.NewGenesis([]string{public}, public, syntax.Handle(name+".elsewhere.test"), "https://elsewhere.example")
	err := op.Sign(key)
	did, fault := plc.DID(op)
	if err = errors.Join(err, fault); err == nil {
		err = c.place.directory.Submit(c.Context(), did, op)
	}
	if err != nil {
		c.Fatal(err)
	}
	return did, key
}

// web is a did:web, whose host serves its document.
func (c *crowd) web(name string) (syntax.DID, atcrypto.PrivateKey) {
	c.Helper()
	key, public := newKey(c.T)
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	c.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		c.Fatal(err)
	}
	did := "did:web:localhost%3A" + u.Port()
	mux.HandleFunc("GET /.well-known/did.json", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"id":%[1]q,"alsoKnownAs":["at://%[2]s.%[4]s"],
			"verificationMethod":[{"id":"%[1]s#atproto","type":"Multikey","controller":%[1]q,"publicKeyMultibase":%[3]q}],
			"service":[{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":"https://%[4]s"}]}`,
			did, name, strings.TrimPrefix(public, "did:key:"), oldHost)
	})
	return syntax.DID(did), key
}

// audit is all that the directory has of the DID.
func (m *member) audit() []plc.LogEntry {
	m.Helper()
	all, err := m.directory.Audit(m.Context(), m.did)
	m.check(err)
	return all
}

// bytes is audit as the directory says it.
func (m *member) bytes() string {
	m.Helper()
	req, err := http.NewRequestWithContext(m.Context(), http.MethodGet, m.directory.URL+"/"+m.did.String()+"/log/audit", nil)
	m.check(err)
	resp, err := http.DefaultClient.Do(req)
	m.check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	m.check(err)
	if resp.StatusCode != http.StatusOK {
		m.Fatalf("%s: %s", req.URL, resp.Status)
	}
	return string(body)
}

func (c *crowd) settings(i int) []string {
	return slices.Concat(c.env, c.keys, []string{"PDS_HOSTNAME=" + c.name, fmt.Sprint("PDS_PORT=", c.ports[i]), "PDS_DATA_DIRECTORY=" + c.folders[i]})
}

func (c *crowd) serve() {
	c.Helper()
	for i := range c.servers {
		c.start(i)
	}
}

func (c *crowd) start(i int) {
	c.Helper()
	s, err := launch.StartServer(context.WithoutCancel(c.Context()), binary, c.folders[i], c.settings(i)...)
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(s.Kill)
	c.servers[i] = s
}

func (c *crowd) stop() {
	c.Helper()
	for _, s := range c.servers {
		if err := s.Stop(); err != nil {
			c.Fatal(err)
		}
	}
}

// again stops the servers, does something, and starts them.
func (c *crowd) again(meanwhile func()) {
	c.Helper()
	c.stop()
	meanwhile()
	c.serve()
}

// open opens the database of servers that have stopped.
func (c *crowd) open() *db.DB {
	c.Helper()
	store, err := db.Open(c.Context(), c.config)
	if err != nil {
		c.Fatal(err)
	}
	return store
}

// age makes the move that is under way so much older.
func (c *crowd) age(by time.Duration) {
	c.Helper()
	store := c.open()
	defer store.Close()
	err := store.Write(c.Context(), func(tx *db.Tx) error {
		raw, err := tx.Meta(c.Context(), "move")
		if err != nil {
			return err
		}
		state := map[string]any{}
		if err := json.Unmarshal(raw, &state); err != nil {
			return err
		}
		for _, name := range []string{"begunAt", "phaseAt", "lastAt"} {
			at, err := time.Parse(time.RFC3339, fmt.Sprint(state[name]))
			if err != nil {
				return err
			}
			state[name] = at.Add(-by)
		}
		if raw, err = json.Marshal(state); err != nil {
			return err
		}
		return tx.PutMeta(c.Context(), "move", raw)
	})
	if err != nil {
		c.Fatal(err)
	}
}

// portico runs a command of the operator's, which must do what it is asked to.
func (c *crowd) portico(args ...string) (out string) {
	c.Helper()
	out, err := c.run(args...)
	if err != nil {
		c.Fatalf("portico %s: %v", strings.Join(args, " "), err)
	}
	return out
}

func (c *crowd) run(args ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(c.Context(), binary, args...)
	cmd.Env = append(launch.Environ(), c.settings(0)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%w\n%s%s", err, out.String(), errs.String())
	}
	return out.String(), nil
}

// move runs the command of the move.
func (c *crowd) move(args ...string) string {
	c.Helper()
	return c.portico(slices.Concat(c.command, args)...)
}

// refuses expects that the operator is told why not.
func (c *crowd) refuses(want string, args ...string) {
	c.Helper()
	if _, err := c.run(slices.Concat(c.command, args)...); err == nil || !strings.Contains(err.Error(), want) {
		c.Errorf("%s: %v, want %q", strings.Join(args, " "), err, want)
	}
}

func (c *crowd) decode(text string, out any) {
	c.Helper()
	if err := json.Unmarshal([]byte(text), out); err != nil {
		c.Fatalf("%v: %s", err, text)
	}
}

// moveState is what --status says.
type moveState struct {
	Phase               string
	Waiting, Done, Left int64
}

func (c *crowd) status(args ...string) (m moveState, left map[syntax.DID]string) {
	c.Helper()
	var out struct {
		Move moveState
		DIDs []struct {
			DID    syntax.DID
			Reason string
		}
	}
	c.decode(c.move(append([]string{"--status", "--json"}, args...)...), &out)
	left = map[syntax.DID]string{}
	for _, d := range out.DIDs {
		left[d.DID] = d.Reason
	}
	return out.Move, left
}

// until waits until the move is so far.
func (c *crowd) until(what string, far func(moveState) bool) {
	c.Helper()
	for deadline := time.Now().Add(5*time.Minute + c.round()); ; time.Sleep(100 * time.Millisecond) {
		m, _ := c.status("--limit", "1")
		if far(m) {
			return
		}
		if time.Now().After(deadline) {
			c.Fatalf("%s: it stands at %+v\n%s", what, m, c.servers[0].Log())
		}
	}
}

// round is how long it takes to look at all DIDs.
func (c *crowd) round() time.Duration {
	return time.Duration(*movers) * time.Second / time.Duration(*moveRate)
}

// killedUntil kills servers on the way to a phase, at first while people sign up; the last
// time the directory says again what became of these. Meanwhile owners change handles, if so.
func (c *crowd) killedUntil(phase string, renamed bool) {
	c.Helper()
	began := time.Now()
	for n := range *moveKills {
		i := 0 // where people sign up
		if n > 0 {
			i = c.random.IntN(len(c.servers))
		}
		select {
		case <-c.servers[i].Done():
			c.Fatal(c.servers[i].Log())
		case <-time.After(time.Duration(c.random.Int64N(int64(c.round())/2 + 1))):
		}
		if n == 0 {
			c.dieSigningUp()
		} else {
			c.kill(i)
		}
		if n == *moveKills-1 {
			c.lobby.open()
		}
		c.start(i)
		if n == 0 && renamed {
			c.rename(phase)
		}
	}
	c.until(phase, func(m moveState) bool { return m.Phase == phase })
	spent := c.spent
	for i := range c.servers {
		spent += c.uses(i)
	}
	c.Logf("%s in %v, killed %d times; %v of processor, starts included, and %d MB at most", phase, time.Since(began).Round(time.Second), *moveKills,
		spent.Round(time.Millisecond), c.peak>>20)
	c.spent = 0
}

// uses is how much of the processor a process has used.
func (c *crowd) uses(i int) time.Duration {
	c.Helper()
	spent, err := c.servers[i].CPU()
	memory, fault := c.servers[i].PeakMemory()
	if err = errors.Join(err, fault); err != nil {
		c.Fatal(err)
	}
	c.peak = max(c.peak, memory)
	return spent
}

func (c *crowd) kill(i int) {
	c.Helper()
	c.spent += c.uses(i)
	c.servers[i].Kill()
}

// rename has owners change their handles.
func (c *crowd) rename(how string) {
	c.Helper()
	for i, m := range c.members {
		if m.state == isRenamed {
			h := syntax.Handle(fmt.Sprintf("%s-%d.%s", how, i, otherDomain))
			if err := m.rename(h); err != nil {
				c.Errorf("%s is not renamed: %v", m.did, err)
				continue
			}
			m.before = clone(m.before)
			m.before.SetHandle(h)
		}
	}
}

// dieSigningUp kills the first server while people sign up there: some whose DIDs the
// directory has by then, and some whose it has not.
func (c *crowd) dieSigningUp() {
	c.Helper()
	n := 2 + *movers/100
	c.lobby.hold()
	var clients sync.WaitGroup
	for range n {
		in := sheet(fmt.Sprintf("late-%d.%s", len(c.late), strings.TrimSuffix(otherDomain, ".test")))
		c.late = append(c.late, &latecomer{handle: in.Handle})
		clients.Go(func() {
			if _, err := c.place.anybody().CreateAccount(c.Context(), in); err == nil {
				c.Errorf("%s has signed up", in.Handle)
			}
		})
	}
	for range n {
		select {
		case came := <-c.lobby.came:
			for _, l := range c.late {
				if l.handle == came.handle {
					*l = came
				}
			}
		case <-time.After(time.Minute):
			c.Fatalf("somebody does not sign up\n%s", c.servers[0].Log())
		}
	}
	c.kill(0)
	clients.Wait()
	c.lobby.pass()
}

// check looks at what the DIDs have become by now: change is what the move has done to those
// that are the server's to change, each in one operation, or in two or none if turned back.
func (c *crowd) check(turnedBack bool, change func(*plc.Data)) {
	c.Helper()
	_, left := c.status("--all")
	for _, m := range c.members {
		if left[m.did] != leftBecause[m.state] {
			c.Errorf("%s (%s) was left because of %q, want %q", m.did, m.state, left[m.did], leftBecause[m.state])
		}
		delete(left, m.did)
		if m.state == isWeb {
			continue
		}
		if leftBecause[m.state] != "" {
			if now := m.bytes(); now != m.log {
				c.Errorf("%s (%s) is not ours to change: the directory had %s, has %s", m.did, m.state, m.log, now)
			}
			continue
		}
		want := clone(m.before)
		change(&want)
		if diff := cmp.Diff(want, m.data()); diff != "" {
			c.Errorf("%s (%s) says (-want +got):\n%s", m.did, m.state, diff)
		}
		all := m.audit()
		for i, e := range all {
			if e.Nullified {
				c.Errorf("%s (%s): operation %d was taken back", m.did, m.state, i)
			}
		}
		operations, expected := len(all)-m.count, 0
		if !cmp.Equal(want, m.said) {
			expected = 1
		}
		if operations != expected && !(turnedBack && operations == 2) && m.state != isRenamed {
			c.Errorf("%s (%s) had %d operations, want %d", m.did, m.state, operations, expected)
		}
		m.said, m.count = want, len(all)
	}
	if len(left) > 0 {
		c.Errorf("left, too: %v", left)
	}
	for _, l := range c.late {
		all, err := c.place.directory.Audit(c.Context(), l.did)
		if !l.registered {
			if !errors.Is(err, plc.ErrNotFound) {
				c.Errorf("%s of %s is in the directory: %v, %v", l.did, l.handle, all, err)
			}
			continue
		}
		if err != nil {
			c.Fatal(err)
		}
		want, _ := all[0].Operation.Data()
		got, _ := all[len(all)-1].Operation.Data()
		want = clone(want)
		change(&want)
		if diff := cmp.Diff(want, got); diff != "" {
			c.Errorf("%s, made as the server was killed, says (-want +got):\n%s", l.did, diff)
		}
	}
}

// clone is a copy that shares nothing.
func clone(d plc.Data) plc.Data {
	d.RotationKeys, d.AlsoKnownAs = slices.Clone(d.RotationKeys), slices.Clone(d.AlsoKnownAs)
	d.VerificationMethods, d.Services = maps.Clone(d.VerificationMethods), maps.Clone(d.Services)
	return d
}

// accounts are all that servers have that stopped, as far as a move must not change them.
func (c *crowd) accounts() map[syntax.DID]string {
	c.Helper()
	store := c.open()
	defer store.Close()
	all, err := store.Accounts(c.Context(), "", 10**movers+1000)
	if err != nil {
		c.Fatal(err)
	}
	have := map[syntax.DID]string{}
	for _, a := range all {
		have[a.DID] = fmt.Sprint(a.Handle, " deactivated: ", a.DeactivatedAt != nil, " taken down: ", a.TakedownRef != nil)
	}
	return have
}

// nothingLost stops the servers and looks for the account of everybody; named is what has
// become of a handle.
func (c *crowd) nothingLost(named func(syntax.Handle) syntax.Handle) {
	c.Helper()
	c.stop()
	want := map[syntax.DID]string{}
	for i, m := range c.members {
		h := named(syntax.Handle(fmt.Sprintf("person-%d.%s", i, oldHost)))
		if leftBecause[m.state] != "" {
			h = syntax.Handle(fmt.Sprintf("person-%d.%s", i, oldHost))
		}
		if m.state == isRenamed {
			h = syntax.Handle(m.before.Handle())
		}
		inactive := m.state == isDeactivated || m.state == hasArrived || m.state == isAbandoned || m.state == isWeb
		want[m.did] = fmt.Sprint(h, " deactivated: ", inactive, " taken down: ", m.state == isTakenDown)
	}
	for _, l := range c.late {
		if l.registered {
			want[l.did] = fmt.Sprint(l.handle, " deactivated: false taken down: false")
		}
	}
	if diff := cmp.Diff(want, c.accounts()); diff != "" {
		c.Errorf("accounts (-want +got):\n%s", diff)
	}
}

// A lobby is where operations that make a DID wait before the directory when they are held,
// every other one once that has it, until who sent them is gone. After that nobody learns
// what became of these DIDs before it is open again.
type lobby struct {
	*httptest.Server
	next http.Handler
	came chan latecomer

	mu      sync.Mutex
	holding bool
	held    map[syntax.DID]bool
}

func startLobby(t *testing.T, directory string) *lobby {
	t.Helper()
	target, err := url.Parse(directory)
	if err != nil {
		t.Fatal(err)
	}
	l := &lobby{
		next: &httputil.ReverseProxy{
			Transport: plc.HTTP().Transport, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
			Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		},
		came: make(chan latecomer, 100), held: map[syntax.DID]bool{},
	}
	l.Server = httptest.NewServer(l)
	t.Cleanup(l.Close)
	return l
}

func (l *lobby) hold() { l.set(func() { l.holding = true }) }
func (l *lobby) pass() { l.set(func() { l.holding = false }) }
func (l *lobby) open() { l.set(func() { clear(l.held) }) }

func (l *lobby) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// place is what becomes of a request: a held DID is nobody's to ask about.
func (l *lobby) place(r *http.Request, op plc.Operation) (held, came, registered bool) {
	path, _, _ := strings.Cut(r.URL.Path[1:], "/")
	did := syntax.DID(path)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[did] {
		return true, false, false
	}
	if !l.holding || op == nil || op.Prev() != "" {
		return false, false, false
	}
	l.held[did] = true
	return true, true, len(l.held)%2 == 1
}

func (l *lobby) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	var op plc.Operation
	if r.Method == http.MethodPost {
		if op, err = plc.Parse(body); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	held, came, registered := l.place(r, op)
	switch {
	case !held:
		l.next.ServeHTTP(w, r)
	case !came:
		w.WriteHeader(http.StatusServiceUnavailable)
	default:
		if registered {
			l.next.ServeHTTP(httptest.NewRecorder(), r)
		}
		d, _ := op.Data()
		l.came <- latecomer{did: syntax.DID(r.URL.Path[1:]), handle: syntax.Handle(d.Handle()), registered: registered}
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}
}
