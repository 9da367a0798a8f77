package main

import (
	encoding "encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"portico/cmd/portico/launch"
)

// An operator makes a key, restarts with it, confirms it and follows the move.
func TestRotateKeys(t *testing.T) {
	dir := t.TempDir()
	common := []string{"PDS_DATA_DIRECTORY=" + dir, "PORTICO_SIGNUP_RETRY=20ms", "PORTICO_PLC_RATE=1000"}
	s, stop := startFor(t, common...)
	port := "PDS_PORT=" + strconv.Itoa(s.Port)
	environ := append(common, port)
	ask := func(args ...string) (string, error) {
		t.Helper()
		out, _, err := portico(t, environ, append([]string{"keys", "rotate-plc"}, args...)...)
		return out, err
	}
	if out, _, err := portico(t, environ, "account", "create", "alice.test", "alice@example.com", "--json"); err != nil {
		t.Fatal(out, err)
	}
	if out, err := ask("--status"); err != nil || !strings.HasPrefix(out, "There was no move of all DIDs yet. The rotation key of the server has the fingerprint ") {
		t.Fatal(out, err)
	}
	out, err := ask("--json")
	if err != nil {
		t.Fatal(out, err)
	}
	var made newRotation
	if err := encoding.Unmarshal([]byte(out), &made); err != nil {
		t.Fatal(out, err)
	}
	info, err := os.Stat(made.File)
	if err != nil || info.Mode().Perm() != 0o600 || made.File != filepath.Join(dir, "rotation-key.env") {
		t.Errorf("%s: %v, %v", made.File, info, err)
	}
	lines, err := readSecrets(made.File)
	if err != nil || len(lines) != 2 {
		t.Fatalf("%v, %v", lines, err)
	}
	for name, want := range map[string]string{rotationKeyName: made.Key, oldRotationKeyName: made.OldKey} {
		if got, err := didKeyOf(lines[name]); err != nil || got != want {
			t.Errorf("%s is %s, %v; want %s", name, got, err, want)
		}
		if strings.Contains(out, lines[name]) {
			t.Errorf("%s was printed", name)
		}
	}
	if _, err := ask(); err == nil || exitStatus(err) != statusRefused || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("a second key in the same file: %v", err)
	}
	if _, err := ask("--confirm", made.Fingerprint, "--yes"); err == nil || exitStatus(err) != statusRefused {
		t.Errorf("confirmed before the restart: %v", err)
	}

	stop()
	environ = append(environ, rotationKeyName+"="+lines[rotationKeyName], oldRotationKeyName+"="+lines[oldRotationKeyName])
	startFor(t, environ...)
	if _, err := ask(); err == nil || exitStatus(err) != statusRefused || !strings.Contains(err.Error(), "is set already") {
		t.Errorf("a new key while another is on its way: %v", err)
	}
	if _, err := ask("--confirm", made.OldFingerprint, "--yes"); err == nil || !strings.Contains(err.Error(), "has the fingerprint "+made.Fingerprint) {
		t.Errorf("confirmed the old key: %v", err)
	}
	if _, err := ask("--confirm", made.Fingerprint); err == nil || exitStatus(err) != statusUsage {
		t.Errorf("without a word: %v", err)
	}
	if out, err := ask("--confirm", made.Fingerprint, "--yes"); err != nil {
		t.Fatal(out, err)
	}
	for deadline := time.Now().Add(launch.Patience); ; {
		out, err = ask("--status")
		if err != nil || time.Now().After(deadline) {
			t.Fatal(out, err)
		}
		if strings.Contains(out, "moved, since") {
			break
		}
	}
	for _, line := range []string{"from", made.OldFingerprint, "to", made.Fingerprint, "done", "Deletions and clean-ups stand still"} {
		if !strings.Contains(out, line) {
			t.Errorf("%q is not in\n%s", line, out)
		}
	}
	exported := filepath.Join(t.TempDir(), "pds")
	local := append(environ, "PDS_HOSTNAME=localhost")
	_, _, err = portico(t, local, "export", "--reference", exported)
	if err == nil || !strings.Contains(err.Error(), "are moving to another key") || !strings.Contains(err.Error(), "keys rotate-plc --status") || exists(exported) {
		t.Errorf("exported in the midst of it: %v", err)
	}
	if _, _, err := portico(t, local, "export", "--reference", exported, "--unfinished-move"); err != nil {
		t.Error(err)
	}
	if env, err := readSecrets(filepath.Join(exported, "pds.env")); err != nil || env[rotationKeyName] != lines[oldRotationKeyName] {
		t.Errorf("exported with the key %q, %v; want the old one, which is in all DIDs", env[rotationKeyName], err)
	}
	if _, err := ask("--finish", "--yes"); err == nil || exitStatus(err) != statusRefused || !strings.Contains(err.Error(), "72 hours after the last DID was changed") {
		t.Errorf("finished at once: %v", err)
	}
	if _, err := ask("--finish", "--undo"); err == nil || exitStatus(err) != statusUsage {
		t.Errorf("two things at once: %v", err)
	}
	if out, err := ask("--undo", "--yes", "--json"); err != nil || !strings.Contains(out, `"phase": "undoing"`) {
		t.Errorf("undo: %s %v", out, err)
	}
}
