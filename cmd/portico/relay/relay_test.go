//go:build relay

package relay

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"portico/cmd/portico/launch"
)

// indigo is the version whose programs are run.
const indigo = "v0.0.0-20260605210604-af2fec94f34c"

var (
	accounts = flag.Int("accounts", 20, "accounts that write")
	writes   = flag.Int("writes", 40, "writing calls of each account")
	seed     = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of what they write")
)

// binary is the portico binary under test, tools the folder of indigo's programs.
var binary, tools string

func TestMain(m *testing.M) {
	launch.RunTests(m, &binary, func() (err error) {
		tools, err = installTools()
		return err
	})
}

// installTools builds the programs that are not there yet, in the cache of the user, and
// returns their folder.
func installTools() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "portico", "indigo-"+indigo)
	for _, tool := range []string{"cmd/relay", "cmd/tap", "atproto/repo/cmd/repo-tool"} {
		if _, err := os.Stat(filepath.Join(dir, filepath.Base(tool))); err == nil {
			continue
		}
		install := exec.Command("go", "install", "github.com/bluesky-social/indigo/"+tool+"@"+indigo)
		install.Dir, install.Env = os.TempDir(), append(os.Environ(), "GOBIN="+dir, "CGO_ENABLED=1") // relay and tap use SQLite in C
		if out, err := install.CombinedOutput(); err != nil {
			return "", fmt.Errorf("install %s: %w\n%s", tool, err, out)
		}
	}
	return dir, nil
}

// Twenty accounts write all kinds of writes, change their handles, go away and come back,
// import, and are deleted; meanwhile the server is restarted and killed. Afterwards
// neither relay nor tap has complained, tap has the records that the server lists, and
// every archive and commit is what repo-tool takes.
func TestRelayAndTap(t *testing.T) {
	t.Logf("-seed %d", *seed)
	n := startNetwork(t)
	l := newLoad(t, n, "test")

	began := time.Now()
	l.signUp()
	l.phase("under load", func() {})
	l.phase("over a restart", func() {
		if err := n.pds().Stop(); err != nil {
			t.Error(err)
		}
		n.serve()
	})
	l.phase("over kill -9", func() {
		n.pds().Kill()
		n.serve()
	})
	stop := n.verifyFirehose()
	l.phase("with repo-tool beside", func() {})
	n.settle(l) // tap fetches what it meets first
	l.delete()
	t.Logf("%d calls that wrote, in %v", l.calls.Load(), time.Since(began).Round(time.Second))

	n.settle(l)
	stop()
	l.verifyArchives()
	for _, line := range n.complaints() {
		t.Error(line)
	}
	if t.Failed() {
		t.Logf("logs of relay and tap are in %s", n.keep())
	}
	t.Logf("%d records in %d repositories, in %v", l.records(), len(l.people), time.Since(began).Round(time.Second))
}
