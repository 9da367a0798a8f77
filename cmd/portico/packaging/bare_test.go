//go:build packaging

package packaging

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What becomes of a bare Debian by the package, and by the installer.
func TestBareMachine(t *testing.T) {
	deb := makePackage(t)
	t.Run("lintian", func(t *testing.T) { testLintian(t, deb) })
	archive := bareDebian(t)
	t.Run("package", func(t *testing.T) { testPackage(t, newMachine(t, archive), deb) })
	t.Run("installer", func(t *testing.T) { testInstaller(t, newMachine(t, archive), deb) })
	t.Run("installer of a binary", func(t *testing.T) { testInstallerOfBinary(t, newMachine(t, archive)) })
}

// makePackage makes the package of the binary, twice: nothing in it is of the moment, or
// of whoever makes it.
func makePackage(t *testing.T) string {
	t.Helper()
	var made [2]string
	for i := range made {
		cmd := exec.CommandContext(t.Context(), "go", "run", "./cmd/internal/deb",
			"-version", "v1.2.3-4-gabcdef0", "-maintainer", "Portico <portico@debian.org>", binary, t.TempDir())
		cmd.Dir = "../../.."
		cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1767323045", "TZ="+[]string{"UTC", "Asia/Tokyo"}[i])
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("make the package: %v", err)
		}
		made[i] = strings.TrimSpace(string(out))
	}
	if name := filepath.Base(made[0]); !strings.HasPrefix(name, "portico_1.2.3+4.gabcdef0_") {
		t.Errorf("the package is called %s", name)
	}
	one, err := os.ReadFile(made[0])
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(made[1])
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one, other) {
		t.Errorf("two packages of one binary differ: %s and %s", made[0], made[1])
	}
	return made[0]
}

// testLintian has lintian look at the package, which finds nothing that it calls an error or
// warns of; and each override is of something that is there.
func testLintian(t *testing.T, deb string) {
	out, _, err := try(t, "lintian", "--fail-on", "error,warning", "--info", "--display-info", "--tag-display-limit", "0", deb)
	if err != nil || strings.Contains(out, "unused-override") {
		t.Errorf("lintian: %v\n%s", err, out)
	}
}

func testPackage(t *testing.T, m *machine, deb string) {
	m.bring(deb, "portico.deb")
	state := func(format string) string { return m.run(`stat -c '%a %U:%G' ` + format) }
	m.run("apt-get -qq update")

	out := m.run("apt-get -qq -y install --no-install-recommends ./portico.deb 2>&1")
	if !strings.Contains(out, "it starts once its settings are in /etc/portico/portico.env") {
		t.Errorf("nobody is told how to go on:\n%s", out)
	}
	if got := m.run("portico version"); got == "" {
		t.Error("the installed program says no version")
	}
	// The program of the package is the one under test, and needs nothing of the machine.
	m.bring(binary, "portico.built")
	m.run("cmp /portico.built /usr/bin/portico")
	if got := m.run("dpkg --verify portico"); got != "" {
		t.Errorf("dpkg --verify says\n%s", got)
	}
	if got, want := state("/etc/portico /var/lib/portico"), "750 portico:portico\n700 portico:portico\n"; got != want {
		t.Errorf("folders are\n%snot\n%s", got, want)
	}
	if got := m.run("getent passwd portico"); !strings.Contains(got, ":/var/lib/portico:/usr/sbin/nologin") {
		t.Errorf("the user is %s", got)
	}
	if got := m.run("readlink /etc/systemd/system/multi-user.target.wants/portico.service"); !strings.HasSuffix(got, "/lib/systemd/system/portico.service\n") {
		t.Errorf("the unit is enabled as %q", got)
	}
	m.run("grep -q '^ExecStart=/usr/bin/portico serve --env-file /etc/portico/portico.env' /lib/systemd/system/portico.service")
	if got, want := m.run("zcat /usr/share/man/man1/portico.1.gz"), m.run("portico man"); got != want {
		t.Error("the manual page is not of the program")
	}

	// What an operator does with it: settings, data, a unit that is disabled.
	m.run(`umask 077; printf 'PDS_HOSTNAME=pds.test\n' >/etc/portico/portico.env; chmod 700 /etc/portico
		chown portico:portico /etc/portico/portico.env; echo accounts >/var/lib/portico/portico.sqlite
		rm /etc/systemd/system/multi-user.target.wants/portico.service`)
	kept := func(after string) {
		t.Helper()
		if got := m.run("cat /etc/portico/portico.env /var/lib/portico/portico.sqlite"); got != "PDS_HOSTNAME=pds.test\naccounts\n" {
			t.Errorf("after %s settings and data are\n%s", after, got)
		}
		if got, want := state("/etc/portico /etc/portico/portico.env"), "700 portico:portico\n600 portico:portico\n"; got != want {
			t.Errorf("after %s modes are\n%snot\n%s", after, got, want)
		}
		m.run("getent passwd portico")
	}
	disabled := func(after string) {
		t.Helper()
		if out, err := m.try("test ! -e /etc/systemd/system/multi-user.target.wants/portico.service"); err != nil {
			t.Errorf("after %s the unit is enabled again %s", after, out)
		}
	}
	m.run("dpkg -i /portico.deb")
	kept("an upgrade")
	disabled("an upgrade")

	m.run("dpkg -r portico")
	kept("a removal")
	m.run("test ! -e /usr/bin/portico && test ! -e /lib/systemd/system/portico.service")
	m.run("dpkg -i /portico.deb")
	kept("another installation")

	out = m.run("dpkg -P portico 2>&1")
	kept("a purge")
	if !strings.Contains(out, "kept /etc/portico /var/lib/portico and the user portico") {
		t.Errorf("nobody is told what a purge leaves:\n%s", out)
	}
	m.run("dpkg -i /portico.deb")
	kept("an installation after a purge")
	m.run("rm /etc/portico/portico.env /var/lib/portico/portico.sqlite")
	out = m.run("dpkg -P portico 2>&1; test ! -e /etc/portico && test ! -e /var/lib/portico")
	if strings.Contains(out, "portico: kept") {
		t.Errorf("nothing was there to be kept:\n%s", out)
	}
	if got := m.run("find / -xdev -path /proc -prune -o -path /dev -prune -o -name '*portico*' -print | grep -v '^/portico\\.' || true"); got != "" {
		t.Errorf("after a purge there is\n%s", got)
	}
}
