//go:build interop

package interop

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"portico/cmd/portico/launch"
	"portico/impl/reference/referencetest"
)

// An adoption of the directory of a reference PDS.
type adoption struct {
	*testing.T
	world     *referencetest.World
	source    string // the reference's directory
	target    string // Portico's
	directory string // of DIDs
}

// unpack prepares the adoption of a directory. Its sessions are as young as if it had been
// made now, if young says so.
func unpack(t *testing.T, name string, young bool) *adoption {
	t.Helper()
	a := &adoption{T: t, world: referencetest.Read(t, name), source: referencetest.Unpack(t, name), target: filepath.Join(t.TempDir(), "portico")}
	// The crashed one is without its settings.
	settings, err := os.ReadFile(filepath.Join(referencetest.Unpack(t, referencetest.Stopped), "pds.env"))
	if err == nil {
		err = os.WriteFile(filepath.Join(a.source, "pds.env"), settings, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if young {
		by := time.Since(a.world.MadeAt).Truncate(time.Second)
		referencetest.ShiftDirectory(t, a.source, by)
		a.world.Shift(by)
	}
	a.directory = surround(t, a.world)
	return a
}

// portico runs the binary to its end, on a machine where the directory of DIDs is another
// and everything of the firehose can be asked for.
func (a *adoption) portico(args ...string) (out, errs string, status int) {
	a.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(a.Context(), binary, args...)
	cmd.Env = append(launch.Environ(), "PDS_DID_PLC_URL="+a.directory, "PDS_DISABLE_SSRF_PROTECTION=true",
		"PDS_REPO_BACKFILL_LIMIT_MS=31536000000", "PDS_CRAWLERS=http://localhost:1")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		status = ended.ExitCode()
	} else if err != nil {
		a.Fatal(err)
	}
	return stdout.String(), stderr.String(), status
}

// adopt runs the adoption, which must come to its end.
func (a *adoption) adopt(args ...string) report {
	a.Helper()
	out, errs, status := a.portico(append([]string{"adopt", a.source, "--into", a.target, "--json"}, args...)...)
	if status != 0 {
		a.Fatalf("adopt: status %d\n%s\n%s", status, out, errs)
	}
	return a.report(out, errs)
}

// report is what adopt prints.
type report struct {
	Counts []struct {
		Of                       string
		Source, Dropped, Adopted int64
		Why                      string
	}
	Findings []struct {
		Name, DID, Text string
		Grave           bool
	}
	LastEvent int64
}

func (a *adoption) report(out, errs string) (r report) {
	a.Helper()
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		a.Fatalf("adopt printed %q: %v\n%s", out, err, errs)
	}
	return r
}

// names are those of the findings about an account, or about the directory where did is empty.
func (r report) names(did string) (names []string) {
	for _, f := range r.Findings {
		if f.DID == did {
			names = append(names, f.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// serve starts the server on what was adopted.
func (a *adoption) serve() (*launch.Process, string) {
	a.Helper()
	port, err := launch.FreePort()
	if err != nil {
		a.Fatal(err)
	}
	url := fmt.Sprintf("http://localhost:%d", port)
	p, err := launch.Start(a.Context(), url+"/xrpc/_health", "", []string{fmt.Sprintf("PDS_PORT=%d", port)}, binary, "serve", "--env-file", filepath.Join(a.target, "portico.env"))
	if err != nil {
		a.Fatal(err)
	}
	a.Cleanup(p.Kill)
	a.Cleanup(func() {
		if a.Failed() {
			a.Log(p.Log())
		}
	})
	return p, url
}

func (a *adoption) check(url string) {
	a.Helper()
	c := referencetest.Check{World: a.world, URL: url, Now: time.Now(), Portico: true, Roots: true}
	a.Logf("%d answers as expected", c.Run(a))
}

// What clients saw of the reference they see here, sessions included whose tokens were
// used just before it stopped, and codes that were on their way; nothing in its directory
// has changed.
func TestAdopt(t *testing.T) {
	a := unpack(t, referencetest.Stopped, true)
	before := hashes(t, a.source)
	if out, errs, status := a.portico("adopt", a.source, "--into", a.target, "--json", "--dry-run"); status != 0 {
		t.Fatalf("adopt --dry-run: status %d\n%s\n%s", status, out, errs)
	}
	if _, err := os.Stat(a.target); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a dry run left something: %v", err)
	}

	r := a.adopt()
	for _, c := range r.Counts {
		if c.Source != c.Adopted+c.Dropped || c.Dropped > 0 && c.Why == "" {
			t.Errorf("of %d %s %d were adopted and %d dropped (%s)", c.Source, c.Of, c.Adopted, c.Dropped, c.Why)
		}
	}
	if r.LastEvent != a.world.LastSequence {
		t.Errorf("the last event is %d, want %d", r.LastEvent, a.world.LastSequence)
	}
	p, url := a.serve()
	a.check(url)
	a.confirm(url, a.world.Account("bob"), "S34SW-CAKQE")
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	unchanged(t, a.source, before)
}

// confirm confirms an email address with the code that was sent there.
func (a *adoption) confirm(url string, account *referencetest.Account, code string) {
	a.Helper()
	session := a.post(url+"/xrpc/com.atproto.server.createSession", "", map[string]any{"identifier": account.DID, "password": account.Password})
	a.post(url+"/xrpc/com.atproto.server.confirmEmail", session.AccessJWT, map[string]any{"email": account.Email, "token": code})
}

type reply struct{ DID, AccessJWT, RefreshJWT, URI, CID string }

// post calls a method that must do what it is asked to.
func (a *adoption) post(url, token string, input any) (out reply) {
	a.Helper()
	body, err := json.Marshal(input)
	if err != nil {
		a.Fatal(err)
	}
	req, err := http.NewRequestWithContext(a.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		a.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		a.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		a.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		a.Fatalf("%s: %s %s", url, resp.Status, b.String())
	}
	if b.Len() > 0 {
		if err := json.Unmarshal(b.Bytes(), &out); err != nil {
			a.Fatal(err)
		}
	}
	return out
}

// What a crash left is named: a database with a log is read whole, a sign-up that was cut
// off is no account, a deletion is finished when it is asked for.
func TestAdoptAfterACrash(t *testing.T) {
	a := unpack(t, referencetest.Crashed, false)
	before := hashes(t, a.source)
	carol := a.world.Account("carol")

	out, errs, status := a.portico("adopt", a.source, "--into", a.target, "--json")
	if status == 0 {
		t.Fatalf("adopted without the store of %s\n%s", carol.DID, out)
	}
	refused := a.report(out, errs)
	if names := refused.names(carol.DID); !slices.Contains(names, "store-missing") {
		t.Errorf("of %s it is said %v\n%s\n%s", carol.DID, names, out, errs)
	}

	r := a.adopt("--skip-broken")
	for name, finding := range map[string]string{"carol": "deletion-finished", "bob": "sync-appended"} {
		if names := r.names(a.world.Account(name).DID); !slices.Contains(names, finding) {
			t.Errorf("of %s it is said %v, want %s", name, names, finding)
		}
	}
	p, url := a.serve()
	a.check(url)
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	unchanged(t, a.source, before)
}
