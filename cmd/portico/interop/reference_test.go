//go:build interop

package interop

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"portico/cmd/portico/launch"
	"portico/impl/reference/referencetest"
)

// The expectations are those of the reference itself: it meets them on the directory.
func TestReferenceIsAsExpected(t *testing.T) {
	w, dir := referencetest.Read(t, referencetest.Stopped), referencetest.Unpack(t, referencetest.Stopped)
	by := time.Since(w.MadeAt).Truncate(time.Second)
	referencetest.ShiftDirectory(t, dir, by)
	w.Shift(by)
	_, url := startReference(t, dir, surround(t, w))
	check := referencetest.Check{World: w, URL: url, Now: time.Now()}
	t.Logf("%d answers as expected", check.Run(t))
}

// referencePDS is the folder with the packages of the reference PDS, which make compare
// holds the server against too.
const referencePDS = "../compare"

// referenceNode installs the reference PDS once and is the path of the Node it runs on.
var referenceNode = sync.OnceValues(func() (string, error) { return launch.NodeIn(referencePDS, "better-sqlite3") })

// surround starts the real PLC directory with what its server asks, and returns its URL.
func surround(t *testing.T, w *referencetest.World) (directory string) {
	t.Helper()
	directory = startDirectory(t)
	w.Surround(t, directory)
	return directory
}

// startReference starts the reference PDS on a data directory, which it writes to, with the
// settings that the directory has, as docker would read them.
func startReference(t *testing.T, dir, directory string) (*launch.Process, string) {
	t.Helper()
	node, err := referenceNode()
	if err != nil {
		t.Fatal(err)
	}
	port, err := launch.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("http://localhost:%d", port)
	env := linesOf(t, filepath.Join(dir, "pds.env"))
	env = append(env, fmt.Sprintf("PDS_PORT=%d", port), "PDS_DATA_DIRECTORY="+dir, "PDS_BLOBSTORE_DISK_LOCATION="+filepath.Join(dir, "blocks"),
		"PDS_DID_PLC_URL="+directory, "PDS_DISABLE_SSRF_PROTECTION=true", "PDS_CRAWLERS=http://localhost:1",
		"PDS_REPO_BACKFILL_LIMIT_MS=31536000000", "LOG_ENABLED=true", "LOG_LEVEL=warn")
	p, err := launch.Start(t.Context(), url+"/xrpc/_health", referencePDS, env, node, "reference.mjs", "pds")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p, url
}

// hashes are those of all files in a folder, by their paths, with their modes and times.
func hashes(t *testing.T, dir string) map[string]string {
	t.Helper()
	sums := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if e.IsDir() {
			sums[path] = fmt.Sprint(info.Mode(), " ", info.ModTime())
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		sums[path] = fmt.Sprintf("%x %s %s", sha256.Sum256(content), info.Mode(), info.ModTime())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sums
}

// unchanged says what has become of the files of a folder since.
func unchanged(t *testing.T, dir string, before map[string]string) {
	t.Helper()
	after := hashes(t, dir)
	if maps.Equal(before, after) {
		return
	}
	for path, sum := range before {
		if after[path] != sum {
			t.Errorf("%s was %s, is %q", path, sum, after[path])
		}
	}
	for path := range after {
		if before[path] == "" {
			t.Errorf("%s is new", path)
		}
	}
}

// linesOf are the settings in a file.
func linesOf(t *testing.T, file string) (lines []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			lines = append(lines, line)
		}
	}
	return lines
}
