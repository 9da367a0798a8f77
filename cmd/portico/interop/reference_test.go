//go:build interop

package interop

import (
	"fmt"
	"path/filepath"
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
	_, url := startReference(t, w, dir, surround(t, w))
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

// startReference starts the reference PDS on a data directory, which it writes to.
func startReference(t *testing.T, w *referencetest.World, dir, directory string) (*launch.Process, string) {
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
	env := []string{
		"PDS_HOSTNAME=" + w.Host, fmt.Sprintf("PDS_PORT=%d", port), "PDS_DATA_DIRECTORY=" + dir, "PDS_BLOBSTORE_DISK_LOCATION=" + filepath.Join(dir, "blocks"),
		"PDS_BLOB_UPLOAD_LIMIT=52428800", "PDS_INVITE_REQUIRED=true", "PDS_DID_PLC_URL=" + directory, "PDS_DISABLE_SSRF_PROTECTION=true",
		"PDS_BSKY_APP_VIEW_URL=https://api.bsky.app", "PDS_BSKY_APP_VIEW_DID=did:web:api.bsky.app",
		"PDS_REPO_BACKFILL_LIMIT_MS=31536000000", "LOG_ENABLED=true", "LOG_LEVEL=warn",
	}
	for name, value := range w.Secrets {
		env = append(env, name+"="+value)
	}
	p, err := launch.Start(t.Context(), url+"/xrpc/_health", referencePDS, env, node, "reference.mjs", "pds")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p, url
}
