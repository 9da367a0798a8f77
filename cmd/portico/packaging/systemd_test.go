//go:build packaging

package packaging

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"portico/cmd/portico/launch"
)

// booted is a machine that systemd has booted, as far as units of services need it: it has the
// programs of this one, and writes to memory. Its network is this machine's.
type booted struct {
	*testing.T
	first int    // its first process, as this machine counts
	url   string // of the server
}

// boot boots a machine, which ends with the test, and has the files in /opt.
func boot(t *testing.T, files map[string]string) *booted {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("to boot another machine this wants to be root")
	}
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "cp", binary, filepath.Join(dir, "portico"))
	before := groups(t)
	root := t.TempDir()
	// Not the root itself, which is no folder that a machine may have.
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", `mount --bind / "$0" && exec "$@"`, root,
		"systemd-nspawn", "--quiet", "--directory="+root, "--volatile=overlay", "--bind-ro="+dir+":/opt", "--register=no", "--keep-unit",
		"--console=pipe", "--link-journal=no", "--machine=portico-test", "--uuid=0123456789abcdef0123456789abcdef", "--boot", "systemd.unit=basic.target")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log safeBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	m := &booted{T: t}
	t.Cleanup(func() {
		if t.Failed() && m.first != 0 {
			out, err := m.try("journalctl --no-pager -n 100 -o short-monotonic")
			t.Logf("the journal of the machine ends with (%v)\n%s", err, out)
		}
		if m.first != 0 {
			syscall.Kill(m.first, syscall.SIGKILL) // and with it all others there
		} else {
			cmd.Process.Kill()
		}
		<-ended
		for _, group := range groups(t) {
			if !slices.Contains(before, group) {
				removeGroup(group)
			}
		}
	})
	for deadline := time.Now().Add(launch.Patience); ; time.Sleep(50 * time.Millisecond) {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("systemd-nspawn ended: %v\n%s", err, log.String())
		default:
		}
		m.first = child(cmd.Process.Pid, "systemd")
		if m.first != 0 {
			if out, err := m.try("systemctl is-active basic.target"); err == nil && out == "active\n" {
				return m
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the machine does not come up\n%s", log.String())
		}
	}
}

// child is the process of a name that pid has started, 0 for none.
func child(pid int, name string) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	for field := range strings.FieldsSeq(string(text)) {
		comm, err := os.ReadFile("/proc/" + field + "/comm")
		if n, _ := strconv.Atoi(field); err == nil && string(comm) == name+"\n" {
			return n
		}
	}
	return 0
}

// groups are the control groups that machines leave behind.
func groups(t *testing.T) (all []string) {
	t.Helper()
	for _, pattern := range []string{"/sys/fs/cgroup/payload", "/sys/fs/cgroup/supervisor", "/sys/fs/cgroup/*/payload", "/sys/fs/cgroup/*/supervisor"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

func removeGroup(group string) {
	var inner []string
	_ = filepath.WalkDir(group, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			inner = append(inner, path)
		}
		return nil
	})
	for _, path := range slices.Backward(inner) {
		_ = os.Remove(path) // which fails while something runs in it
	}
}

// try runs a line of the shell in the machine, as root.
func (m *booted) try(line string) (string, error) {
	cmd := exec.Command("nsenter", "--target", fmt.Sprint(m.first), "--mount", "--pid", "--uts", "--ipc", "--cgroup", "sh", "-c", line)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (m *booted) run(line string) string {
	m.Helper()
	out, err := m.try(line)
	if err != nil {
		m.Fatalf("%s: %v\n%s", line, err, out)
	}
	return out
}

// is is what systemd says of a property of the server's unit.
func (m *booted) is(property string) string {
	m.Helper()
	return strings.TrimSpace(m.run("systemctl show portico.service --value -p " + property))
}

// until waits for ok.
func (m *booted) until(what string, ok func() bool) {
	m.Helper()
	for deadline := time.Now().Add(launch.Patience); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			m.Fatalf("in vain waited for: %s", what)
		}
	}
}

func (m *booted) healthy() bool {
	ctx, cancel := context.WithTimeout(m.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.url+"/xrpc/_health", nil)
	if err != nil {
		m.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// The unit under systemd: what is let through is enough for all that a server does, what is not
// is refused, and whatever ends the server but an operator or its settings starts it again.
func TestUnitRuns(t *testing.T) {
	port, err := launch.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	unit, _ := run(t, binary, "systemd")
	socket, _ := run(t, binary, "systemd", "--socket", "server", "--listen", fmt.Sprint("127.0.0.1:", port))
	settings := fmt.Sprintf("PDS_HOSTNAME=localhost\nPORTICO_PLC_PORT=0\nPDS_DATA_DIRECTORY=/var/lib/portico\nPDS_PORT=%d\n", port)
	m := boot(t, map[string]string{
		"portico.service": unit, "portico.socket": socket,
		"portico.env": settings, "wrong.env": settings + "PORTICO_BIND=nowhere\n",
	})
	m.url = fmt.Sprint("http://127.0.0.1:", port)
	m.run(`install -m 755 /opt/portico /usr/local/bin/portico &&
		useradd --system --home-dir /var/lib/portico --shell /usr/sbin/nologin portico &&
		install -d -m 750 -o portico -g portico /etc/portico &&
		install -m 600 -o portico -g portico /opt/wrong.env /etc/portico/portico.env &&
		cp /opt/portico.service /opt/portico.socket /etc/systemd/system/ && systemctl daemon-reload`)

	// Wrong settings end the start, once.
	if out, err := m.try("systemctl start portico"); err == nil {
		t.Errorf("with wrong settings it starts: %s", out)
	}
	for property, want := range map[string]string{"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0"} {
		if got := m.is(property); got != want {
			t.Errorf("with wrong settings %s is %s, not %s", property, got, want)
		}
	}

	m.run("install -m 600 -o portico -g portico /opt/portico.env /etc/portico/portico.env && systemctl start portico")
	if !m.healthy() { // at once
		t.Error("systemd says that it has started, and it does not answer")
	}
	if got, want := m.is("StatusText"), fmt.Sprint("serves http://localhost:", port); got != want {
		t.Errorf("its status is %q, not %q", got, want)
	}
	m.story()

	// What it is in.
	pid := m.is("MainPID")
	status := m.run("cat /proc/" + pid + "/status")
	for _, line := range []string{"Seccomp:\t2", "NoNewPrivs:\t1", "CapBnd:\t0000000000000000", "CapEff:\t0000000000000000"} {
		if !strings.Contains(status, line+"\n") {
			t.Errorf("the process is not %q:\n%s", line, status)
		}
	}
	if got := m.run("stat -c '%U %a' /var/lib/portico && stat -c '%U %a' /proc/" + pid); got != "portico 700\nportico 555\n" {
		t.Errorf("whose the data and the process are: %s", got)
	}
	if got := m.run("find /var/lib/portico -perm /077"); got != "" {
		t.Errorf("others can read %s", got)
	}
	for _, path := range []string{"/usr/local/bin/x", "/etc/portico/x", "/var/lib/x", "/home/x", "/root/x"} {
		if out, err := m.try("nsenter --target " + pid + " --mount touch " + path); err == nil {
			t.Errorf("it could write %s: %s", path, out)
		}
	}

	m.run("systemctl reload portico")
	if got := m.is("MainPID"); got != pid || !m.healthy() {
		t.Errorf("after a reload the process is %s, not %s", got, pid)
	}

	// Killed, it comes again.
	m.run("kill -KILL " + pid)
	m.until("a start after it was killed", func() bool { return m.is("NRestarts") == "1" && m.is("ActiveState") == "active" })
	if !m.healthy() {
		t.Error("after it was killed it does not answer")
	}

	// What an operator adds is a log that is a file. Stopped in the midst of everything, it is ended, says where it was, and comes again.
	m.run("mkdir /etc/systemd/system/portico.service.d && printf '[Service]\\nWatchdogSec=2\\nLogsDirectory=portico\\nEnvironment=PORTICO_LOG_FILE=/var/log/portico/log\\n' > /etc/systemd/system/portico.service.d/test.conf && " +
		"systemctl daemon-reload && systemctl restart portico")
	m.until("a log in the file", func() bool {
		_, err := m.try("grep -q msg=request /var/log/portico/log")
		return m.healthy() && err == nil
	})
	before, _ := strconv.Atoi(m.is("NRestarts"))
	m.run("kill -STOP " + m.is("MainPID"))
	m.until("a start after it was stopped", func() bool { n, _ := strconv.Atoi(m.is("NRestarts")); return n > before && m.healthy() })
	journal := m.run("journalctl --no-pager -u portico")
	for _, part := range []string{"Watchdog timeout", "SIGABRT", "goroutine 1 "} {
		if !strings.Contains(journal, part) {
			t.Errorf("the journal has no %q", part)
		}
	}
	// Left alone, it stays, for three times as long as its silence may last.
	pid, before = m.is("MainPID"), before+1
	begin := time.Now()
	m.until("six seconds", func() bool { return time.Since(begin) > 6*time.Second })
	if now, n := m.is("MainPID"), m.is("NRestarts"); now != pid || n != fmt.Sprint(before) {
		t.Errorf("left alone it was started again: process %s became %s, %s starts", pid, now, n)
	}

	m.run("systemctl stop portico")
	if state, result := m.is("ActiveState"), m.is("Result"); state != "inactive" || result != "success" {
		t.Errorf("the stop leaves it %s, %s", state, result)
	}

	// Who asks at a socket of systemd starts it, and waits.
	m.run("systemctl start portico.socket")
	if state := m.is("ActiveState"); state != "inactive" {
		t.Errorf("before anybody asks it is %s", state)
	}
	if !m.healthy() || m.is("ActiveState") != "active" {
		t.Error("who asks at the socket is not answered")
	}
}

// story is what a server does: accounts, writes, files, hashes, mails, archives.
func (m *booted) story() {
	m.Helper()
	ask := func(method, name, kind, token, body string) []byte {
		m.Helper()
		req, err := http.NewRequestWithContext(m.Context(), method, m.url+"/xrpc/"+name, strings.NewReader(body))
		if err != nil {
			m.Fatal(err)
		}
		if kind != "" {
			req.Header.Set("Content-Type", kind)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			m.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			m.Fatalf("%s: %s %s, %v", name, resp.Status, b, err)
		}
		return b
	}
	var a account
	b := ask("POST", "com.atproto.server.createAccount", "application/json", "", `{"handle":"alice.test","email":"alice@example.com","password":"correct horse"}`)
	if err := json.Unmarshal(b, &a); err != nil {
		m.Fatal(err)
	}
	ask("POST", "com.atproto.server.createSession", "application/json", "", `{"identifier":"alice.test","password":"correct horse"}`)
	ask("POST", "com.atproto.server.requestPasswordReset", "application/json", "", `{"email":"alice@example.com"}`)
	ask("POST", "com.atproto.repo.uploadBlob", "text/plain", a.AccessJWT, strings.Repeat("blob ", 100_000))
	ask("POST", "com.atproto.repo.createRecord", "application/json", a.AccessJWT,
		`{"repo":"`+a.DID+`","collection":"app.bsky.feed.post","record":{"text":"Hello","createdAt":"2026-03-01T12:00:00Z"}}`)
	archive := ask("GET", "com.atproto.sync.getRepo?did="+a.DID, "", "", "")
	ask("POST", "com.atproto.server.deactivateAccount", "application/json", a.AccessJWT, `{}`)
	ask("POST", "com.atproto.repo.importRepo", "application/vnd.ipld.car", a.AccessJWT, string(archive))
}
