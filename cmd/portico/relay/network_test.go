//go:build relay

package relay

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	_ "modernc.org/sqlite" // what relay and tap keep their state in

	"portico/cmd/portico/launch"
	"portico/impl/identity/directory"
)

const adminPassword = "9b1a2c63e7d84f50"

// network is a server and its readers.
type network struct {
	*testing.T
	dir    string
	env    []string
	server atomic.Pointer[launch.Server]
	plc    string // URL of the directory

	relay, tap   *launch.Process
	relayAt      string    // URL
	asTheWorld   []string  // environment in which relay and tap find the server
	left         string    // the name that the server has left, by which the relay hears of it too
	leftUntil    time.Time // when that name was given up
	hostOfRecord string    // of the server, as relays know it; "" for that of its URL

	// before is the number of the last event that there was when the server was started
	// anew. The relay asks again for some of what it has.
	before      int64
	asDirectory []string // environment in which the directory of this network is https://plc.directory
}

func (n *network) pds() *launch.Server { return n.server.Load() }

// startNetwork starts a server with settings of its own, and who reads it.
func startNetwork(t *testing.T, settings ...string) *network {
	n := newNetwork(t)
	port := freePort(t)
	n.env = append(append(n.env, "PDS_PORT="+port), settings...)
	n.serve()

	// The relay takes no host on loopback, not even from its admin.
	relay := n.relayOn(freePort(t))
	relay()
	n.relay.Kill()
	n.query(n.relayDatabase(), `INSERT INTO host (hostname, no_ssl, status, account_limit, last_seq) VALUES (?, 1, 'active', 100000, 0)`, "localhost:"+port)
	relay()
	n.startTap()
	return n
}

// newNetwork has a directory, and what a server needs beside its port.
func newNetwork(t *testing.T) *network {
	n := &network{T: t, dir: t.TempDir()}
	plc := directory.New(directory.NewMemory(), time.Now, "relay", slog.New(slog.DiscardHandler))
	d := httptest.NewServer(plc)
	n.Cleanup(d.Close)
	n.plc = strings.Replace(d.URL, "127.0.0.1", "localhost", 1) // the reference takes no address
	n.asDirectory = n.standIn(plc)
	n.env = []string{"PDS_DID_PLC_URL=" + n.plc, "PDS_ADMIN_PASSWORD=" + adminPassword, "PDS_JWT_SECRET=f27f9ac1e1a17cd56cf6a3f1f5c2f8b3"}
	n.Cleanup(func() {
		if s := n.pds(); s != nil {
			s.Kill()
		}
	})
	return n
}

func (n *network) relayDatabase() string { return filepath.Join(n.dir, "relay.sqlite") }

// relayOn returns what starts the relay on a port.
func (n *network) relayOn(port string) func() {
	n.relayAt = "http://127.0.0.1:" + port
	metrics := freePort(n.T)
	return func() {
		n.relay = n.start(n.relayAt+"/xrpc/_health", "relay", "--plc-host", n.plc, "serve", "--bind", "127.0.0.1:"+port,
			"--metrics-listen", "127.0.0.1:"+metrics, "--db-url", "sqlite://"+n.relayDatabase(), "--persist-dir", filepath.Join(n.dir, "persist"),
			"--allow-insecure-hosts", "--default-account-limit", "100000")
	}
}

func (n *network) startTap() {
	port := freePort(n.T)
	n.tap = n.start("http://127.0.0.1:"+port+"/health", "tap", "run", "--plc-url", n.plc, "--relay-url", n.relayAt,
		"--bind", "127.0.0.1:"+port, "--db-url", "sqlite://"+filepath.Join(n.dir, "tap.db"), "--full-network", "--disable-acks")
}

// serve starts the server, for the first time or again.
func (n *network) serve() {
	s, err := launch.StartServer(n.Context(), binary, filepath.Join(n.dir, "pds"), n.env...)
	if err != nil {
		n.Fatal(err)
	}
	n.server.Store(s)
	n.before = n.lastEvent()
}

// lastEvent is the number of the last event of the server.
func (n *network) lastEvent() int64 {
	n.Helper()
	s, host := n.pds(), n.hostOfRecord
	if host == "" {
		host = strings.TrimPrefix(s.URL, "http://")
	}
	resp, err := http.Get(s.URL + "/xrpc/com.atproto.sync.getHostStatus?hostname=" + host)
	if err != nil {
		n.Fatal(err)
	}
	defer resp.Body.Close()
	var status struct{ Seq int64 }
	if err := json.NewDecoder(resp.Body).Decode(&status); err != nil {
		n.Fatal(err)
	}
	return status.Seq
}

func (n *network) start(ready, tool string, args ...string) *launch.Process {
	n.Helper()
	p, err := launch.Start(n.Context(), ready, n.dir, n.asTheWorld, filepath.Join(tools, tool), args...)
	if err != nil {
		n.Fatal(err)
	}
	n.Cleanup(p.Kill)
	return p
}

func freePort(t *testing.T) string {
	port, err := launch.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(port)
}

// query runs a statement on a database of SQLite and returns the rows, their columns
// joined by blanks.
func (n *network) query(database, statement string, args ...any) (rows []string) {
	n.Helper()
	d, err := sql.Open("sqlite", "file:"+database+"?_pragma=busy_timeout(10000)")
	if err != nil {
		n.Fatal(err)
	}
	defer d.Close()
	found, err := d.QueryContext(n.Context(), statement, args...)
	if err != nil {
		n.Fatal(err)
	}
	defer found.Close()
	columns, err := found.Columns()
	for err == nil && found.Next() {
		values, dest := make([]string, len(columns)), make([]any, len(columns))
		for i := range values {
			dest[i] = &values[i]
		}
		if err = found.Scan(dest...); err == nil {
			rows = append(rows, strings.Join(values, " "))
		}
	}
	if err == nil {
		err = found.Err()
	}
	if err != nil {
		n.Fatal(err)
	}
	return rows
}

// records are those that tap has of an account.
func (n *network) records(did string) []string {
	rows := n.query(filepath.Join(n.dir, "tap.db"), `SELECT collection || '/' || rkey, cid FROM repo_records WHERE did = ?`, did)
	slices.Sort(rows)
	return rows
}

// resynced waits until tap is at rev with an account, or beyond.
func (n *network) resynced(did, rev string) {
	n.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		rows := n.query(filepath.Join(n.dir, "tap.db"), `SELECT rev FROM repos WHERE did = ? AND state = 'active'`, did)
		if len(rows) == 1 && rows[0] >= rev {
			return
		}
		if time.Now().After(deadline) {
			n.Errorf("%s: tap is at %q, the server at %s", did, rows, rev)
			return
		}
	}
}

// settle waits until tap has what the server has.
func (n *network) settle(l *load) {
	n.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for _, p := range l.people {
		want := l.list(p)
		for got := n.records(p.did); !slices.Equal(got, want); got = n.records(p.did) {
			if time.Now().After(deadline) {
				n.Errorf("%s (%s): tap has %d records, the server %d (-server +tap):\n%s", p.did, p.handle, len(got), len(want), cmp.Diff(want, got))
				break
			}
			time.Sleep(200 * time.Millisecond)
		}
	}
}

// complaints are the warnings and errors of relay and tap.
func (n *network) complaints() (lines []string) {
	for name, p := range map[string]*launch.Process{"relay": n.relay, "tap": n.tap} {
		understood := false
		for line := range strings.Lines(p.Log()) {
			var said struct {
				Level, Msg, Host, Err, Reason string
				Seq                           int64
				Time                          time.Time
			}
			if err := json.Unmarshal([]byte(line), &said); err != nil {
				continue // what it says before it logs
			}
			understood = understood || said.Level == "INFO"
			switch {
			case said.Level != "WARN" && said.Level != "ERROR":
			case said.Msg == "dialing failed", said.Msg == "host connection failed": // the server went away
			case said.Msg == "resync failed" && strings.Contains(line, "connection refused"):
			case said.Msg == "dropping commit with old rev" && said.Seq <= n.before:
			case said.Time.Before(n.leftUntil) && n.heardTwice(said.Msg, said.Host, said.Err, said.Reason):
			default:
				lines = append(lines, name+": "+strings.TrimSpace(line))
			}
		}
		if !understood {
			lines = append(lines, name+" writes its log in another way than it did")
		}
	}
	return lines
}

// heardTwice says whether a complaint of the relay's is about an event that it gets a second
// time, by the name that the server has left: it goes on to read from there as long as that
// name answers, and refuses what it hears of accounts that it has with the new one. To find
// out where an account is it forgets its DID and asks anew, which another event of the same
// account may notice. Nothing is lost: what tap has is compared.
func (n *network) heardTwice(msg, host, err, reason string) bool {
	switch msg {
	case "failed handling event":
		return host == n.left && strings.HasPrefix(err, "new account from a different host: ")
	case "failed to load identity":
		return err == "identity not found in cache after coalesce returned"
	case "skipping commit signature validation":
		return reason == "ident unavailable"
	case "dropping commit with old rev", "commit with miss-matching prevData", "commit with miss-matching since":
		return true // what comes by both names is taken in no order, and the older may be written down last
	}
	return false
}

// keep writes the logs where they stay.
func (n *network) keep() string {
	dir, err := os.MkdirTemp("", "portico-relay-logs")
	if err != nil {
		n.Fatal(err)
	}
	for name, log := range map[string]string{"relay": n.relay.Log(), "tap": n.tap.Log(), "portico": n.pds().Log()} {
		if err := os.WriteFile(filepath.Join(dir, name+".log"), []byte(log), 0o600); err != nil {
			n.Error(err)
		}
	}
	return dir
}

// verifyFirehose lets repo-tool look at every commit until stop is called.
func (n *network) verifyFirehose() (stop func()) {
	n.Helper()
	var out bytes.Buffer
	tool := exec.CommandContext(n.Context(), filepath.Join(tools, "repo-tool"), "--log-level", "debug", "verify-firehose", "--relay-host", strings.Replace(n.pds().URL, "http", "ws", 1))
	tool.Stdout, tool.Stderr = &out, &out
	if err := tool.Start(); err != nil {
		n.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- tool.Wait() }()
	return func() {
		select {
		case err := <-ended:
			n.Errorf("repo-tool verify-firehose ended: %v\n%s", err, out.String())
			return
		default:
		}
		tool.Process.Kill()
		<-ended
		commits := 0
		for line := range strings.Lines(out.String()) {
			if strings.Contains(line, "level=ERROR") || strings.Contains(line, "level=WARN") {
				n.Errorf("repo-tool verify-firehose: %s", line)
			}
			if strings.Contains(line, "commit event") {
				commits++
			}
		}
		if commits == 0 {
			n.Errorf("repo-tool verify-firehose saw no commit:\n%s", out.String())
		}
		n.Logf("repo-tool verify-firehose took %d commits", commits)
	}
}

// repoTool runs a command of repo-tool on a file. It asks https://plc.directory and no
// other.
func (n *network) repoTool(command, file string) error {
	tool := exec.CommandContext(n.Context(), filepath.Join(tools, "repo-tool"), command, file)
	tool.Env = append(os.Environ(), n.asDirectory...)
	if out, err := tool.CombinedOutput(); err != nil {
		return fmt.Errorf("repo-tool %s: %w\n%s", command, err, out)
	}
	return nil
}

// standIn returns the environment in which a program takes plc for
// https://plc.directory.
func (n *network) standIn(plc http.Handler) []string {
	n.Helper()
	front, err := launch.NewFront(n.TempDir(), "plc.directory")
	if err != nil {
		n.Fatal(err)
	}
	n.Cleanup(front.Close)
	front.LeadTo("plc.directory", plc)
	return front.Environ()
}
