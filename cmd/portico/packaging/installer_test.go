//go:build packaging

package packaging

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
)

const (
	installer = "../deploy/install.sh"
	install   = "sh /install.sh --host pds.test --email operator@example.com --local --plc http://" + directoryAddress + " --no-systemd "
)

var inviteCode = regexp.MustCompile(`(?m)^An invite code, for one person: (\S+)$`)

// files tells any change of what is installed or configured in a machine from no change.
func (m *machine) files() string {
	m.t.Helper()
	return m.run("find /etc /usr /var/lib/portico /var/lib/caddy /var/lib/dpkg /run /tmp -xdev ! -type d ! -path '*-wal' ! -path '*-shm' ! -path '*.sqlite' ! -path '*/caddy/locks/*' -printf '%p %s %T@ %m %u %l\\n' | sort")
}

// unchanged says what fn changed of the files of a machine, which must be nothing.
func (m *machine) unchanged(what string, fn func()) {
	m.t.Helper()
	before := m.files()
	fn()
	if after := m.files(); after != before {
		had := make(map[string]bool)
		for line := range strings.Lines(before) {
			had[line] = true
		}
		for line := range strings.Lines(after) {
			if !had[line] {
				m.t.Errorf("%s changes %s", what, strings.TrimSpace(line))
			}
		}
		if len(after) < len(before) {
			m.t.Errorf("%s removes files", what)
		}
	}
}

// refused runs the installer, which must end with an error that says this, and change nothing.
func (m *machine) refused(line, says string, env ...string) {
	m.t.Helper()
	m.unchanged(line, func() {
		out, err := m.try(line, env...)
		if err == nil || !strings.Contains(out, "install.sh: ") || !strings.Contains(out, says) {
			m.t.Errorf("%s: %v; it does not say %q:\n%s", line, err, says, out)
		}
	})
}

// One command makes a server of a bare Debian, and once it is there, the same command
// changes nothing.
func testInstaller(t *testing.T, m *machine, deb string) {
	m.bring(installer, "install.sh")
	m.bring(deb, "portico.deb")

	for _, tt := range []struct{ line, says string }{
		{"sh /install.sh --hots pds.test", "there is no flag --hots"},
		{"sh /install.sh --host", "--host needs a value"},
		{"sh /install.sh", "--host pds.example.com"},
		{"sh /install.sh --host https://pds.test", "is no host name"},
		{"sh /install.sh --host Pds.test", "is no host name"},
		{"sh /install.sh --host 'pds.test$(id)'", "is no host name"},
		{"sh /install.sh --host pds.test", "--email you@example.com"},
		{"sh /install.sh --host pds.test --email operator", "is no email address"},
		{"sh /install.sh --host pds.test --email a@b.example --local", "--local needs --plc"},
		{"sh /install.sh --host pds.test --email a@b.example --from c@d.example", "set PDS_EMAIL_SMTP_URL"},
		{"PDS_EMAIL_SMTP_URL=smtp.example.com sh /install.sh --host pds.test --email a@b.example", "must begin with smtps://"},
		{`PDS_EMAIL_SMTP_URL="smtps://a:b'c@d" sh /install.sh --host pds.test --email a@b.example --from a@b.example`, "%27"},
		{"PDS_EMAIL_SMTP_URL=smtps://a:b@d sh /install.sh --host pds.test --email a@b.example", "--from accounts@example.com"},
		{"sh /install.sh --set 'PDS_X=a'\\''b'", "--set takes NAME=VALUE"},
		{install, "say where Portico is"},
		{install + "--portico /nowhere.deb", "there is no such file"},
		{install + "--portico /etc/passwd", "neither a package of Portico nor a binary"},
		{install + "--portico /portico.deb --sha256 " + strings.Repeat("0", 64), "it is not the file that you mean"},
		{install + "--portico http://example.com/portico.deb", "is not https"},
		{install + "--portico https://example.com/portico.deb", "needs --sha256"},
	} {
		m.refused(tt.line, tt.says)
	}
	// The accounts of a reference PDS are not for a new server to live beside.
	m.write("pds/pds.env", "PDS_HOSTNAME=pds.test\n")
	m.refused(install+"--portico /portico.deb", "follow ADOPTING.md")
	m.run("rm -r /pds")

	m.unchanged("--dry-run", func() {
		out := m.run(install + "--portico /portico.deb --dry-run")
		for _, says := range []string{"install ca-certificates curl caddy", "install Portico from /portico.deb", "write /etc/portico/portico.env", "write /etc/caddy/Caddyfile"} {
			if !strings.Contains(out, says) {
				t.Errorf("--dry-run does not say %q:\n%s", says, out)
			}
		}
	})
	began := time.Now()
	out := m.run(install + "--portico /portico.deb --sha256 $(sha256sum </portico.deb | cut -d ' ' -f 1) --set PDS_SERVICE_NAME='The Lake'")
	t.Logf("after %v:\n%s", time.Since(began).Round(100*time.Millisecond), out)
	found := inviteCode.FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("there is no invite code:\n%s", out)
	}
	code := found[1]
	for _, says := range []string{"https://pds.test/invite/" + code, "portico account create alice.pds.test", "Keep a copy of /etc/portico/portico.env", "There is no mail server"} {
		if !strings.Contains(out, says) {
			t.Errorf("it does not say %q:\n%s", says, out)
		}
	}
	if got, want := m.run("stat -c '%a %U' /etc/portico/portico.env /etc/portico /var/lib/portico"), "600 portico\n750 portico\n700 portico\n"; got != want {
		t.Errorf("modes are %q, not %q", got, want)
	}
	settings := m.run("cat /etc/portico/portico.env")
	secrets := regexp.MustCompile(`(?m)=([0-9a-f]{32,64})$`).FindAllStringSubmatch(settings, -1)
	if len(secrets) != 4 {
		t.Errorf("there are %d secrets", len(secrets))
	}
	for _, secret := range secrets {
		if strings.Contains(out, secret[1]) || m.run("cat /var/log/portico.log /var/log/caddy.log | grep -c "+secret[1]+" || true") != "0\n" {
			t.Error("a secret is on the terminal or in a log")
		}
	}
	if !strings.Contains(settings, "\nPDS_SERVICE_NAME='The Lake'\n") {
		t.Errorf("--set is not in the settings:\n%s", settings)
	}
	if got := m.run("ps -eo user= 2>/dev/null || stat -c %U /proc/[0-9]*"); !strings.Contains(got, "portico") || !strings.Contains(got, "caddy") {
		t.Errorf("processes are of %q", got)
	}

	// Somebody signs up with the code, through Caddy; another cannot.
	client := m.browser()
	anybody := &api.Client{Client: xrpc.Client{Host: "https://pds.test", HTTP: client}}
	sheet := func(name string) *api.CreateAccountInput {
		return &api.CreateAccountInput{
			Handle: syntax.Handle(name + ".pds.test"), Email: new(name + "@example.com"), Password: new("a boat on the lake"), InviteCode: &code,
		}
	}
	made, err := anybody.CreateAccount(t.Context(), sheet("alice"))
	if err != nil {
		t.Fatalf("sign up with the first code: %v", err)
	}
	if _, err := anybody.CreateAccount(t.Context(), sheet("bob")); err == nil {
		t.Error("the code, which is for one person, let two in")
	}
	for url, want := range map[string]string{
		"https://alice.pds.test/.well-known/atproto-did": made.DID.String(),
		"https://pds.test/xrpc/_health":                  `"version"`,
	} {
		if got := get(t, client, url); !strings.Contains(got, want) {
			t.Errorf("%s is %q", url, got)
		}
	}
	// Nobody has this name, so that no certificate is made for it.
	if resp, err := client.Get("https://nobody.pds.test/"); err == nil {
		resp.Body.Close()
		t.Errorf("https://nobody.pds.test has a certificate: %s", resp.Status)
	}

	running := m.run("cat /run/portico.pid /run/caddy.pid")
	fetched := m.fetched.Load()
	m.unchanged("the second run", func() {
		for _, line := range []string{install + "--portico /portico.deb", "sh /install.sh --no-systemd"} {
			if out = m.run(line); !strings.Contains(out, "https://pds.test is an account server.") || inviteCode.MatchString(out) {
				t.Errorf("another run says\n%s", out)
			}
		}
	})
	if got := m.run("cat /run/portico.pid /run/caddy.pid"); got != running {
		t.Error("another run starts the server again")
	}
	if got := m.fetched.Load(); got != fetched {
		t.Errorf("another run fetches %d packages", got-fetched)
	}
	if got := m.run("sh /install.sh"); !strings.Contains(got, "No systemd runs here") || !strings.Contains(got, "portico serve --env-file /etc/portico/portico.env") {
		t.Errorf("without systemd it says\n%s", got)
	}
	m.refused("sh /install.sh --host other.test", "is for the host pds.test")

	// The machine starts anew: all of it is as it was.
	m.run("kill $(cat /run/portico.pid /run/caddy.pid); while kill -0 $(cat /run/portico.pid) 2>/dev/null || kill -0 $(cat /run/caddy.pid) 2>/dev/null; do sleep 0.1; done; rm /run/portico.pid /run/caddy.pid")
	m.run("sh /install.sh --no-systemd")
	if got := m.run("cat /etc/portico/portico.env"); got != settings {
		t.Error("the settings changed")
	}
	if _, err := anybody.CreateSession(t.Context(), &api.CreateSessionInput{Identifier: "alice.pds.test", Password: "a boat on the lake"}); err != nil {
		t.Errorf("after another start: %v", err)
	}

	// Without its secrets a database is of no use, and new ones make it worse.
	m.run("mv /etc/portico/portico.env /root/")
	m.refused(install, "Bring that file back")
	m.run("mv /root/portico.env /etc/portico/")
	m.run("printf 'example.org {\\n}\\n' >/etc/caddy/Caddyfile")
	m.refused("sh /install.sh --no-systemd", "run this again with --no-caddy")
	m.run("sh /install.sh --no-systemd --no-caddy")
}

// testInstallerOfBinary is a machine that gets the binary alone, and has a proxy of its own.
func testInstallerOfBinary(t *testing.T, m *machine) {
	m.bring(installer, "install.sh")
	m.bring(binary, "portico")
	out := m.run(install + "--no-caddy --portico /portico")
	if !inviteCode.MatchString(out) {
		t.Errorf("there is no invite code:\n%s", out)
	}
	m.run("cmp /portico /usr/local/bin/portico && curl -fsS http://127.0.0.1:2583/xrpc/_health && test ! -e /etc/caddy")
	m.run("grep -q '^ExecStart=/usr/local/bin/portico serve --env-file /etc/portico/portico.env' /etc/systemd/system/portico.service")
	m.unchanged("the second run", func() { m.run(install + "--no-caddy --portico /portico") })

	// Of the world, with Caddy: what it writes is the example.
	if out = m.run("sh /install.sh"); !strings.Contains(out, "DNS leads nowhere for pds.test yet") || !strings.Contains(out, "No systemd runs here") {
		t.Errorf("it says\n%s", out)
	}
	example, err := os.ReadFile("../deploy/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	lines := func(text string) (all []string) {
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			if line != "" && line[0] != '#' && line != "email operator@example.com" {
				all = append(all, line)
			}
		}
		return all
	}
	got, want := lines(m.run("cat /etc/caddy/Caddyfile")), lines(strings.ReplaceAll(string(example), "pds.example.com", "pds.test"))
	if !slices.Equal(got, want) {
		t.Errorf("the Caddyfile is\n%q, and the example\n%q", got, want)
	}
}

// browser is a client in the machine, which takes every name under pds.test to be it.
func (m *machine) browser() *http.Client {
	m.t.Helper()
	pem, err := os.ReadFile(filepath.Join(m.root, "var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt"))
	if err != nil {
		m.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		m.t.Fatal("Caddy's authority has no certificate")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return m.dial(ctx, network, "127.0.0.1:443")
	}
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

func get(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Errorf("%s: %v", url, err)
		return ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("%s: %v", url, err)
	}
	return string(body)
}
