//go:build packaging

package packaging

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// writeUnits puts the units that the binary prints into a folder of their own.
func writeUnits(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, args := range map[string][]string{
		"portico.service":        {"systemd", "--binary", binary},
		"portico.socket":         {"systemd", "--socket", "server"},
		"portico-metrics.socket": {"systemd", "--socket", "metrics"},
		"portico-console.socket": {"systemd", "--socket", "console", "--listen", "[::1]:9101"},
		"portico-backup.service": {"systemd", "--binary", binary, "--backup", "s3://bucket/portico"},
	} {
		text, _ := run(t, binary, args...)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// systemd has nothing to say about the units; about one with a key that it does not know
// it has.
func TestUnitsVerify(t *testing.T) {
	dir := writeUnits(t)
	units, err := filepath.Glob(filepath.Join(dir, "portico*"))
	if err != nil || len(units) != 5 {
		t.Fatalf("%q, %v", units, err)
	}
	if out, errs := run(t, "systemd-analyze", append([]string{"verify", "--man=no"}, units...)...); out+errs != "" {
		t.Errorf("systemd-analyze verify says\n%s%s", out, errs)
	}

	path := filepath.Join(dir, "portico.service")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	wrong := strings.Replace(string(text), "\nWatchdogSec=", "\nWatchDog=", 1)
	if err := os.WriteFile(path, []byte(wrong), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, errs, _ := try(t, "systemd-analyze", "verify", "--man=no", path); !strings.Contains(out+errs, "WatchDog") {
		t.Errorf("of a unit with an unknown key systemd-analyze verify says %q", out+errs)
	}
}

// What the unit lets the server do beyond what nothing can do without, by systemd's own
// count: 0 is a service that can do nothing, 10 one that is let do everything.
func TestUnitExposure(t *testing.T) {
	unit := filepath.Join(writeUnits(t), "portico.service")
	out, _ := run(t, "systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=12", unit)
	if !strings.Contains(out, "Overall exposure level for portico.service: 1.2 OK") {
		t.Errorf("systemd-analyze security ends with %q, not 1.2", out[max(0, len(out)-120):])
	}
	left, _ := run(t, "systemd-analyze", "security", "--offline=true", "--no-pager", "--json=short", unit)
	var rows []struct {
		Name, Exposure string
		Set            *bool
	}
	if err := json.Unmarshal([]byte(left), &rows); err != nil {
		t.Fatalf("%v: %s", err, left)
	}
	// The network, which is what it is there for; reading the machine's files and its
	// /proc/sys; and who may speak to systemd for it.
	allowed := map[string]string{
		"PrivateNetwork=":                          "0.5",
		"RestrictAddressFamilies=~AF_(INET|INET6)": "0.3",
		"IPAddressDeny=":                           "0.2",
		"NotifyAccess=":                            "0.2",
		"RestrictAddressFamilies=~AF_UNIX":         "0.1",
		"RootDirectory=/RootImage=":                "0.1",
		"DeviceAllow=":                             "0.1",
		"ProcSubset=":                              "0.1",
	}
	for _, row := range rows {
		if row.Exposure == "" || row.Set != nil && *row.Set {
			continue
		}
		if allowed[row.Name] != row.Exposure {
			t.Errorf("%s exposes %s", row.Name, row.Exposure)
		}
		delete(allowed, row.Name)
	}
	for name := range allowed {
		t.Errorf("%s exposes nothing any more", name)
	}
}

// What makes backups is let do less than the server, and to a folder it may write there.
func TestBackupUnitExposure(t *testing.T) {
	unit := filepath.Join(writeUnits(t), "portico-backup.service")
	out, _ := run(t, "systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=12", unit)
	if !strings.Contains(out, "Overall exposure level for portico-backup.service: 1.1 OK") {
		t.Errorf("systemd-analyze security ends with %q, not 1.1", out[max(0, len(out)-120):])
	}
	text, _ := run(t, binary, "systemd", "--backup", "/mnt/backups", "--data", "/srv/portico")
	for _, line := range []string{" --to /mnt/backups --every 1h ", "\nReadWritePaths=/mnt/backups\n", "\nReadWritePaths=/srv/portico\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("the unit of backups to a folder has no %q:\n%s", line, text)
		}
	}
	if _, errs, _ := try(t, binary, "systemd", "--backup", "s3://bucket/a b"); !strings.Contains(errs, "--backup: ") {
		t.Errorf("a place with a blank: %q", errs)
	}
}
