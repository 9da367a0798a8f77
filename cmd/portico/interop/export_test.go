//go:build interop

package interop

import (
	"path/filepath"
	"testing"
	"time"

	"portico/impl/reference/referencetest"
)

// Who comes can leave again: what was adopted and written to here the reference goes on
// with, and what was written to there is adopted again, and leaves once more.
func TestThereAndBack(t *testing.T) {
	a := unpack(t, referencetest.Stopped, true)
	for round := range 2 {
		a.adopt()
		p, url := a.serve()
		a.check(url)
		a.write(url, "mallory")
		a.write(url, "alice")
		a.check(url)
		if err := p.Stop(); err != nil {
			t.Fatal(err)
		}

		left := filepath.Join(t.TempDir(), "pds")
		if out, errs, status := a.portico("export", "--reference", left, "--env-file", filepath.Join(a.target, "portico.env")); status != 0 {
			t.Fatalf("export: status %d\n%s\n%s", status, out, errs)
		}
		p, url = startReference(t, left, a.directory)
		check := referencetest.Check{World: a.world, URL: url, Now: time.Now(), Roots: true}
		t.Logf("round %d: the reference answers %d as expected", round+1, check.Run(t))
		a.write(url, "mallory")
		p.Kill() // so that some of it is in the logs of databases alone
		a.source, a.target = left, filepath.Join(t.TempDir(), "portico")
	}
}

// write posts as somebody, and expects it of the server from then on.
func (a *adoption) write(url, name string) {
	a.Helper()
	account := a.world.Account(name)
	session := a.post(url+"/xrpc/com.atproto.server.createSession", "", map[string]any{"identifier": account.DID, "password": account.Password})
	made := a.post(url+"/xrpc/com.atproto.repo.createRecord", session.AccessJWT, map[string]any{
		"repo": account.DID, "collection": "app.bsky.feed.post",
		"record": map[string]any{"$type": "app.bsky.feed.post", "text": "written at " + url, "createdAt": time.Now().UTC().Format(time.RFC3339)},
	})
	var latest struct{ CID, Rev string }
	get(a.T, url+"/xrpc/com.atproto.sync.getLatestCommit?did="+account.DID, &latest)
	a.world.Wrote(name, latest.CID, latest.Rev, made.URI, made.CID)
}
