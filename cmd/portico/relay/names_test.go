//go:build relay

package relay

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"portico/cmd/portico/launch"
)

// Relays take hosts with public addresses and certificates only. So these tests have a
// network of their own, in which one such address is this machine's, and the names of the
// servers lead there. That takes Linux, with unshare of util-linux and ip of iproute2.
const (
	ownNetwork    = "PORTICO_TEST_OWN_NETWORK" // in the environment of a test that has one
	publicAddress = "11.0.0.1"
)

// inOwnNetwork runs the test once more, in a network in which names lead to the public
// address, and says whether this is that run.
func inOwnNetwork(t *testing.T, names ...string) bool {
	t.Helper()
	if os.Getenv(ownNetwork) != "" {
		return true
	}
	hosts := filepath.Join(t.TempDir(), "hosts")
	text := "127.0.0.1 localhost\n::1 localhost\n" + publicAddress + " " + strings.Join(names, " ") + "\n"
	if err := os.WriteFile(hosts, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	const furnish = `ip link set lo up; ip addr add ` + publicAddress + `/32 dev lo; mount --bind "$0" /etc/hosts; exec "$@"`
	args := []string{"--user", "--map-root-user", "--net", "--mount", "sh", "-ec", furnish, hosts, os.Args[0], "-test.run=^" + t.Name() + "$", "-test.v"}
	for _, name := range []string{"accounts", "writes", "seed"} {
		args = append(args, "-"+name+"="+flag.Lookup(name).Value.String())
	}
	inside := exec.CommandContext(t.Context(), "unshare", args...)
	inside.Env = append(os.Environ(), ownNetwork+"=1", "PORTICO_BINARY="+binary)
	inside.Stdout, inside.Stderr = os.Stderr, os.Stderr
	inside.WaitDelay = time.Minute
	if err := inside.Run(); err != nil {
		t.Errorf("in a network of its own: %v", err)
	}
	return false
}

// newWorld is a network in which servers have names, with certificates, and the relay
// comes when it is asked to.
func newWorld(t *testing.T, names ...string) (*network, *launch.Front) {
	t.Helper()
	n := newNetwork(t)
	var all []string
	for _, name := range names {
		all = append(all, name, "*."+name)
	}
	front, err := launch.NewFront(n.dir, all...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(front.Close)
	if _, err := front.Listen(publicAddress + ":443"); err != nil {
		t.Fatal(err)
	}
	n.asTheWorld = []string{"SSL_CERT_FILE=" + front.CertificateFile, "NODE_EXTRA_CA_CERTS=" + front.CertificateFile}
	n.relayOn(freePort(t))()
	n.startTap()
	n.env = append(n.env, n.asTheWorld...)
	n.env = append(n.env, "PDS_CRAWLERS="+n.relayAt, "PDS_INVITE_REQUIRED=false", "PORTICO_BIND=127.0.0.1",
		"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=5c1d9a4e0b7f38261a9d4c7e2f60b58313e8a7c6d5f4b3a2918070605f4e3d2c")
	return n, front
}

func (n *network) lead(front *launch.Front, name, to string) {
	n.Helper()
	if err := front.Lead(name, to); err != nil {
		n.Fatal(err)
	}
}

// requestCrawl asks the relay to read a host, as anybody can.
func (n *network) requestCrawl(host string) {
	n.Helper()
	resp, err := http.Post(n.relayAt+"/xrpc/com.atproto.sync.requestCrawl", "application/json", strings.NewReader(`{"hostname":"`+host+`"}`))
	if err != nil {
		n.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		n.Fatalf("the relay does not read %s: %d %s %v", host, resp.StatusCode, body, err)
	}
}

// handles are those that people may have under a name, as far as anybody asks for them.
func handles(name string) []string {
	all := []string{name}
	for i := range *accounts {
		all = append(all, fmt.Sprintf("person-%d.%s", i, name))
		for phase := range 8 {
			all = append(all, fmt.Sprintf("person-%d-%d.%s", i, phase, name))
		}
	}
	return all
}

// portico runs a command of the operator's, which must do what it is asked to.
func (n *network) portico(env []string, args ...string) string {
	n.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(n.Context(), binary, args...)
	cmd.Env = append(launch.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		n.Fatalf("portico %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String()
}

// known are the accounts that relay and tap have, the ones beside the names of their hosts.
func (n *network) known() (relay, tap []string) {
	n.Helper()
	relay = n.query(n.relayDatabase(), `SELECT account.did || ' ' || host.hostname || ' ' || account.status || ' ' || account.upstream_status
		FROM account JOIN host ON host.id = account.host_id`)
	tap = n.query(filepath.Join(n.dir, "tap.db"), `SELECT did || ' ' || state || ' ' || status FROM repos`)
	slices.Sort(relay)
	slices.Sort(tap)
	return relay, tap
}

// kept expects relay and tap to know everybody, the relay as one of a host, and all active.
func (l *load) kept(host string) {
	l.Helper()
	var relay, tap []string
	for _, p := range l.people {
		if p.deleted {
			relay = append(relay, p.did+" "+host+" active deleted")
			continue
		}
		relay = append(relay, p.did+" "+host+" active active")
		tap = append(tap, p.did+" active active")
	}
	slices.Sort(relay)
	slices.Sort(tap)
	gotRelay, gotTap := l.n.known()
	for _, c := range []struct {
		who       string
		got, want []string
	}{{"relay", gotRelay, relay}, {"tap", gotTap, tap}} {
		if !slices.Equal(c.got, c.want) {
			l.Errorf("%s has\n%s\nwant\n%s", c.who, strings.Join(c.got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

// relaySeq is where the relay is with a host.
func (n *network) relaySeq(host string) string {
	n.Helper()
	return strings.Join(n.query(n.relayDatabase(), `SELECT last_seq FROM host WHERE hostname = ?`, host), "")
}

// end looks at everything once more.
func (l *load) end(began time.Time) {
	l.n.settle(l)
	l.verifyArchives()
	for _, line := range l.n.complaints() {
		l.Error(line)
	}
	if l.Failed() {
		l.Logf("logs of relay and tap are in %s", l.n.keep())
	}
	l.Logf("%d calls that wrote, %d records in %d repositories, in %v", l.calls.Load(), l.records(), len(l.people), time.Since(began).Round(time.Second))
}

const adopted = "pds.adopted.test"

// A reference PDS that relay and tap have read is stopped and adopted. They go on with the
// new server as with the old one, which it is to them: all accounts, no line of complaint,
// and numbers of events above the old ones.
func TestAdoption(t *testing.T) {
	referenceNode, err := launch.NodeIn(referencePDS, "better-sqlite3")
	if err != nil {
		t.Fatal(err)
	}
	if !inOwnNetwork(t, handles(adopted)...) {
		return
	}
	t.Logf("-seed %d", *seed)
	n, front := newWorld(t, adopted)
	n.hostOfRecord = adopted
	began := time.Now()

	// The reference's address changes with the server, as in front of a proxy that is told.
	source, port := filepath.Join(n.dir, "reference"), freePort(t)
	if err := os.Mkdir(source, 0o700); err != nil {
		t.Fatal(err)
	}
	settings := append(slices.Clone(n.env), "PDS_HOSTNAME="+adopted, "PDS_PORT="+port, "PDS_DATA_DIRECTORY="+source,
		"PDS_BLOBSTORE_DISK_LOCATION="+filepath.Join(source, "blocks"), "PDS_DISABLE_SSRF_PROTECTION=true", "LOG_ENABLED=true", "LOG_LEVEL=warn")
	if err := os.WriteFile(filepath.Join(source, "pds.env"), []byte(strings.Join(settings, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	url := "http://localhost:" + port
	n.lead(front, adopted, url)
	reference, err := launch.Start(t.Context(), url+"/xrpc/_health", referencePDS, settings, referenceNode, "reference.mjs", "pds")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reference.Kill)
	n.server.Store(&launch.Server{Process: reference, URL: url})

	// The reference tells the relay of its first event, which reads what comes after that.
	n.requestCrawl(adopted)
	l := newLoad(t, n, adopted)
	l.signUp()
	l.plain = true
	l.phase("at the reference", func() {})
	n.settle(l)
	l.kept(adopted)
	last := n.relaySeq(adopted)
	t.Logf("%d calls that wrote at the reference, which is at event %s", l.calls.Load(), last)

	reference.Kill()
	target := filepath.Join(n.dir, "portico")
	var report struct{ LastEvent int64 }
	out := n.portico(n.asTheWorld, "adopt", source, "--into", target, "--json")
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	port = freePort(t)
	url = "http://localhost:" + port
	n.lead(front, adopted, url)
	server, err := launch.Start(t.Context(), url+"/xrpc/_health", "", append(slices.Clone(n.asTheWorld), "PDS_PORT="+port), binary,
		"serve", "--env-file", filepath.Join(target, "portico.env"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	n.server.Store(&launch.Server{Process: server, URL: url})
	n.before = n.lastEvent()
	if n.before < report.LastEvent {
		t.Errorf("the server is at event %d, the reference was at %d", n.before, report.LastEvent)
	}

	l.plain = false
	for _, name := range []string{"as before", "and on"} {
		l.phase(name, func() {})
	}
	l.end(began)
	l.kept(adopted)
	t.Logf("the server is at event %d, the reference was at %d", n.lastEvent(), report.LastEvent)
}

// referencePDS is the folder with the packages of the reference PDS.
const referencePDS = "../compare"

const before, after = "pds.before.test", "pds.after.test"

// A server gets another host name while it is written to. It tells the relay, which keeps
// all accounts, as ones of the new host, and so does tap.
func TestHostMove(t *testing.T) {
	if !inOwnNetwork(t, append(handles(before), handles(after)...)...) {
		return
	}
	t.Logf("-seed %d", *seed)
	n, front := newWorld(t, before, after)
	port := freePort(t)
	for _, name := range []string{before, after} {
		n.lead(front, name, "http://localhost:"+port)
	}
	n.env = append(n.env, "PDS_PORT="+port, "PDS_HOSTNAME="+before, "PORTICO_PLC_RATE=100", "PORTICO_SIGNUP_RETRY=1s", "PDS_DISABLE_SSRF_PROTECTION=true")
	n.hostOfRecord = before
	n.serve()
	began := time.Now()
	l := newLoad(t, n, before)
	l.signUp()
	l.phase("under the old name", func() {})
	n.settle(l)
	l.kept(before)

	n.moveHost(after, "--yes")
	l.domain = after
	l.phase("while DIDs move", func() {})
	n.moved("moved")
	n.moveHost("--switch", "--yes")
	l.phase("over the switch", func() {
		if err := n.pds().Stop(); err != nil {
			t.Error(err)
		}
		n.env = append(n.env, "PDS_HOSTNAME="+after)
		n.hostOfRecord = after
		n.left = before
		n.serve()
	})
	l.phase("under the new name", func() {})
	n.settle(l)
	l.kept(after)
	n.moveHost("--finish", "--yes")
	n.moved("finished")
	l.signIn() // tokens for the old name are good for nothing now
	// The old name is given up.
	n.lead(front, before, "")
	n.leftUntil = time.Now().Add(time.Second) // for what the relay has heard by then
	l.phase("without the old name", func() {})
	l.delete()
	l.end(began)
	l.kept(after)
}

// moveHost runs portico move-host.
func (n *network) moveHost(args ...string) string {
	n.Helper()
	return n.portico(append(slices.Clone(n.env), "PDS_DATA_DIRECTORY="+n.pds().Data), append([]string{"move-host"}, args...)...)
}

// moved waits until the move is in a phase.
func (n *network) moved(phase string) {
	n.Helper()
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		var out struct{ Move struct{ Phase string } }
		text := n.moveHost("--status", "--json")
		if err := json.Unmarshal([]byte(text), &out); err != nil {
			n.Fatal(err)
		}
		if out.Move.Phase == phase {
			return
		}
		if time.Now().After(deadline) {
			n.Fatalf("it stands at %s", text)
		}
	}
}
