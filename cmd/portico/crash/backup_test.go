//go:build crash

package crash

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"portico/cmd/portico/launch"
	"portico/db/dbtest"
	"portico/impl/blob/blobtest"
)

// A patient is a server that is written to while its backups, and what is made of them, are
// killed.
type patient struct {
	*testing.T
	server  *launch.Server
	env     []string // of its commands
	place   string
	s3      *blobtest.S3 // nil: the place is a folder
	random  *rand.Rand
	did     string
	access  string
	written atomic.Int64
}

// TestKilledBackups kills backups and restores at random moments, on both databases, to a
// folder and to a bucket, while the server is written to. Whatever has a manifest then is
// whole, whatever has the name of a data directory, too, and the next run clears the rest away.
// In each of the four as many backups and restores are killed as there are rounds: three, the
// default, take a quiet machine of two cores at most 40 seconds. By hand, -rounds 15 is thorough.
func TestKilledBackups(t *testing.T) {
	t.Logf("-seed %d", *seed)
	for i, tt := range []struct {
		name             string
		postgres, bucket bool
	}{{"sqlite folder", false, false}, {"sqlite bucket", false, true}, {"postgres folder", true, false}, {"postgres bucket", true, true}} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPatient(t, *seed+uint64(i), tt.postgres, tt.bucket)
			stop := p.write()
			p.killBackups()
			stop()
			p.killRestores(tt.postgres)
		})
	}
}

func newPatient(t *testing.T, seed uint64, postgres, bucket bool) *patient {
	t.Helper()
	p := &patient{T: t, random: rand.New(rand.NewPCG(seed, 5)), place: filepath.Join(t.TempDir(), "backups")}
	p.env = []string{
		"PDS_HOSTNAME=localhost", "PDS_DATA_DIRECTORY=" + t.TempDir(),
		"PORTICO_KEY_ENCRYPTION_KEY=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
	}
	if bucket {
		p.s3 = blobtest.StartS3(t)
		p.place = "s3://" + p.s3.Bucket + "/pds"
		p.env = append(p.env, "PORTICO_BACKUP_KEY="+strings.Repeat("5d", 31)+"01", "PORTICO_BACKUP_S3_ENDPOINT="+p.s3.URL, "PORTICO_BACKUP_S3_REGION=here",
			"PORTICO_BACKUP_S3_FORCE_PATH_STYLE=true", "PORTICO_BACKUP_S3_ACCESS_KEY_ID=id", "PORTICO_BACKUP_S3_SECRET_ACCESS_KEY=secret")
	}
	if postgres {
		p.env = append(p.env, "PORTICO_DATABASE_URL="+dbtest.EmptyPostgresURL(t))
	}
	var err error
	if p.server, err = launch.StartServer(t.Context(), binary, p.data(), p.env...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.server.Kill() })
	var account struct{ DID, AccessJwt string }
	status, answer, err := post(t.Context(), p.server.URL+"/xrpc/com.atproto.server.createAccount",
		map[string]string{"handle": "patient.test", "email": "patient@example.com", "password": "password of patient"}, &account)
	if err != nil || status != http.StatusOK {
		t.Fatalf("sign up: %d %s, %v", status, answer, err)
	}
	p.did, p.access = account.DID, account.AccessJwt
	for range 40 {
		if err := p.post(); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *patient) data() string {
	for _, v := range p.env {
		if dir, ok := strings.CutPrefix(v, "PDS_DATA_DIRECTORY="); ok {
			return dir
		}
	}
	return ""
}

func (p *patient) call(method, contentType string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(p.Context(), http.MethodPost, p.server.URL+"/xrpc/com.atproto.repo."+method, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Authorization", "Bearer "+p.access)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", method, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

// post writes a record with a blob, and deletes one from before now and then.
func (p *patient) post() error {
	n := p.written.Add(1)
	var uploaded struct{ Blob json.RawMessage }
	body := bytes.Repeat(fmt.Appendf(nil, "blob %d ", n), 1+int(n*7919%9000))
	if err := p.call("uploadBlob", "text/plain", body, &uploaded); err != nil {
		return err
	}
	record := map[string]any{"repo": p.did, "collection": "com.example.photo", "rkey": fmt.Sprint(n), "record": map[string]any{"blob": uploaded.Blob}}
	in, err := json.Marshal(record)
	if err != nil {
		return err
	}
	if err := p.call("createRecord", "application/json", in, new(any)); err != nil || n%3 != 0 {
		return err
	}
	in, err = json.Marshal(map[string]string{"repo": p.did, "collection": "com.example.photo", "rkey": fmt.Sprint(n - 2)})
	if err != nil {
		return err
	}
	return p.call("deleteRecord", "application/json", in, new(any))
}

// write writes until it is stopped.
func (p *patient) write() (stop func()) {
	enough, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-enough:
				return
			default:
				if err := p.post(); err != nil {
					p.Error(err)
					return
				}
			}
		}
	}()
	return func() {
		close(enough)
		<-ended
	}
}

// command is a command on the patient, with settings that go before its own.
func (p *patient) command(more []string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	c := exec.Command(binary, args...)
	c.Env = append(append(launch.Environ(), p.env...), more...)
	// Those that it starts are of its group, and are killed with it.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	said := new(bytes.Buffer)
	c.Stdout, c.Stderr = said, said
	return c, said
}

func (p *patient) must(more []string, args ...string) string {
	p.Helper()
	c, said := p.command(more, args...)
	if err := c.Run(); err != nil {
		p.Fatalf("portico %s: %v\n%s", strings.Join(args, " "), err, said)
	}
	return said.String()
}

// killed starts a command and kills it after a while, unless it ends before.
func (p *patient) killed(after time.Duration, more []string, args ...string) (ended bool) {
	p.Helper()
	c, said := p.command(more, args...)
	if err := c.Start(); err != nil {
		p.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			p.Fatalf("portico %s: %v\n%s", strings.Join(args, " "), err, said)
		}
		return true
	case <-time.After(after):
	}
	if err := syscall.Kill(-c.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		p.Fatal(err)
	}
	return <-done == nil
}

// moment is when the nth is killed that takes so long: at any time, also after its end, but
// the first surely before.
func (p *patient) moment(n int, takes time.Duration) time.Duration {
	if n == 0 {
		return time.Duration(p.random.Int64N(int64(takes / 2)))
	}
	return time.Duration(p.random.Int64N(int64(takes * 5 / 4)))
}

func (p *patient) killBackups() {
	began := time.Now()
	p.must(nil, "backup", "--to", p.place)
	takes := time.Since(began)
	made, kills := 1, 0
	for n := range *rounds {
		// The bucket has no locks of the kernel's: who knows that nobody writes ends the wait.
		if p.s3 != nil {
			p.s3.Delete("pds/lease.json")
		}
		if p.killed(p.moment(n, takes), nil, "backup", "--to", p.place) {
			made++
		} else {
			kills++
		}
		if kills%3 == 0 {
			p.must(nil, "backup", "verify", "--to", p.place)
		}
	}
	if kills == 0 {
		p.Error("none was killed")
	}
	if p.s3 != nil {
		p.s3.Delete("pds/lease.json")
	}
	p.must(nil, "backup", "--to", p.place)
	made++
	out := p.must(nil, "backup", "verify", "--to", p.place)
	var listed struct{ Snapshots []struct{ Error string } }
	if err := json.Unmarshal([]byte(p.must(nil, "backup", "list", "--json", "--to", p.place)), &listed); err != nil || len(listed.Snapshots) < made {
		p.Errorf("%d snapshots are listed of %d that were made, %v", len(listed.Snapshots), made, err)
	}
	// A kill after the manifest, and before the end, makes one more.
	p.Logf("%d backups made, %d killed, a whole one takes %v; %s", made, kills, takes.Round(time.Millisecond), strings.TrimSpace(out))
	for name, files := range p.snapshots() {
		if !files["manifest.json"] {
			p.Errorf("snapshot %s has only %v", name, files)
		}
	}
	if left, err := filepath.Glob(filepath.Join(p.data(), ".backup*")); err != nil || len(left) > 0 {
		p.Errorf("in the data directory there is %v, %v", left, err)
	}
	if p.s3 != nil && p.s3.UnderWay() > 0 {
		p.Errorf("%d uploads in parts are under way", p.s3.UnderWay())
	}
}

// snapshots are the files of each.
func (p *patient) snapshots() map[string]map[string]bool {
	var names []string
	if p.s3 != nil {
		names = p.s3.Keys()
	} else {
		paths, err := filepath.Glob(filepath.Join(p.place, "snapshots", "*", "*"))
		if err != nil {
			p.Fatal(err)
		}
		names = paths
	}
	all := map[string]map[string]bool{}
	for _, name := range names {
		if _, rest, ok := strings.Cut(name, "snapshots/"); ok {
			snapshot, file, _ := strings.Cut(rest, "/")
			if all[snapshot] == nil {
				all[snapshot] = map[string]bool{}
			}
			all[snapshot][file] = true
		}
	}
	return all
}

func (p *patient) killRestores(postgres bool) {
	if err := p.server.Stop(); err != nil {
		p.Error(err)
	}
	into := filepath.Join(p.TempDir(), "restored")
	args := []string{"restore", "--from", p.place, "--into", into}
	database := func() []string {
		if !postgres {
			return nil
		}
		return []string{"PORTICO_DATABASE_URL=" + dbtest.EmptyPostgresURL(p.T)}
	}
	began := time.Now()
	more := database()
	p.must(more, args...)
	takes := time.Since(began)
	kills := 0
	for n := range *rounds {
		if err := os.RemoveAll(into); err != nil {
			p.Fatal(err)
		}
		more = database()
		if !p.killed(p.moment(n, takes), more, args...) {
			kills++
		}
		if _, err := os.Stat(into); err == nil {
			p.Log("one had its name when it was killed, or had ended")
			p.serve(into, more)
		}
	}
	if kills == 0 {
		p.Error("no restore was killed")
	}
	if err := os.RemoveAll(into); err != nil {
		p.Fatal(err)
	}
	more = database()
	p.must(more, args...)
	p.serve(into, more)
	entries, err := os.ReadDir(filepath.Dir(into))
	if err != nil || len(entries) != 1 {
		p.Errorf("beside what was restored there is %v, %v", entries, err)
	}
	p.Logf("%d of %d restores killed, a whole one takes %v", kills, *rounds, takes.Round(time.Millisecond))
}

// serve starts a server on what was restored, looks whether all is whole, and writes to it.
func (p *patient) serve(dir string, more []string) {
	p.Helper()
	env := append(append([]string{}, p.env...), more...)
	env = append(env, "PDS_DATA_DIRECTORY="+dir)
	was := p.server
	defer func() { p.server = was }()
	s, err := launch.StartServer(p.Context(), binary, dir, env...)
	if err != nil {
		p.Fatal(err)
	}
	defer s.Kill()
	p.server = s
	port := "PDS_PORT=" + s.URL[strings.LastIndex(s.URL, ":")+1:]
	out := p.must(append(append([]string{}, more...), "PDS_DATA_DIRECTORY="+dir, port), "repo", "verify", "--all")
	if !strings.Contains(out, "1 repositories with ") || !strings.HasSuffix(out, ", all whole\n") {
		p.Errorf("repo verify says %s", out)
	}
	var missing struct{ Blobs []any }
	req, err := http.NewRequestWithContext(p.Context(), http.MethodGet, s.URL+"/xrpc/com.atproto.repo.listMissingBlobs", nil)
	if err != nil {
		p.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+p.access)
	resp, err := client.Do(req)
	if err != nil {
		p.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&missing); err != nil || len(missing.Blobs) > 0 {
		p.Errorf("missing blobs: %v, %v", missing.Blobs, err)
	}
	if err := p.post(); err != nil {
		p.Errorf("a write after the restore: %v", err)
	}
	if err := s.Stop(); err != nil {
		p.Error(err)
	}
}
