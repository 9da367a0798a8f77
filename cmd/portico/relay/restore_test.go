//go:build relay

package relay

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"portico/cmd/portico/launch"
)

// Backups are made while all write, and once more when they rest. The server is lost with all
// that it had, and one that was restored from the latest takes its place: relay and tap go on
// with it as if nothing had been, and so do those who write.
func TestRestoredServer(t *testing.T) {
	t.Logf("-seed %d", *seed)
	n := startNetwork(t)
	l := newLoad(t, n, "test")
	place, data := filepath.Join(t.TempDir(), "backups"), filepath.Join(n.dir, "pds")
	portico := func(args ...string) string {
		t.Helper()
		c := exec.Command(binary, args...)
		c.Env = append(append(launch.Environ(), n.env...), "PDS_HOSTNAME=localhost", "PDS_DATA_DIRECTORY="+data)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("portico %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	l.signUp()
	l.phase("while backups are made", func() {
		for range 3 {
			portico("backup", "--to", place)
		}
	})
	n.settle(l)
	portico("backup", "--to", place)
	seen := n.lastEvent()
	n.pds().Kill()
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	portico("restore", "--from", place, "--into", data)
	n.serve()
	if now := n.lastEvent(); now < seen+1_000_000 {
		t.Errorf("the counter is at %d, and was at %d", now, seen)
	}
	if out := portico("repo", "verify", "--all"); !strings.HasSuffix(out, ", all whole\n") {
		t.Errorf("repo verify says %s", out)
	}
	l.phase("after the restore", func() {})
	n.settle(l)
	l.verifyArchives()
	for _, line := range n.complaints() {
		t.Error(line)
	}
	if t.Failed() {
		t.Logf("logs of relay and tap are in %s", n.keep())
	}
	t.Logf("event %d before, %d in the end, %d records in %d repositories", seen, n.lastEvent(), l.records(), len(l.people))
}
