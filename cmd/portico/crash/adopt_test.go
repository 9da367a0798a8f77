//go:build crash

package crash

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"portico/cmd/portico/launch"
	"portico/impl/reference/referencetest"
)

// adoptions is how many adoptions are killed.
const adoptions = 50

// takeover is the adoption of one directory, again and again.
type takeover struct {
	*testing.T
	world             *referencetest.World
	source, directory string
	volatile          map[string]bool // columns that differ between adoptions, table.column
	want              map[string][]string
}

// An adoption that is killed anywhere, and run again, comes to what one comes to that
// nobody killed, and a server starts on it.
func TestAdoptionsKilled(t *testing.T) {
	t.Logf("-seed %d", *seed)
	random := rand.New(rand.NewPCG(*seed, 13))
	a := newTakeover(t)
	began := time.Now()
	first := t.TempDir()
	a.run(first)
	whole := time.Since(began)
	began = time.Now()
	second := t.TempDir()
	a.run(second)
	whole = min(whole, time.Since(began)) // the first may be slow, and kills would come after the end
	a.learn(first, second)

	kills, late := 0, 0
	for i := range adoptions {
		target := filepath.Join(t.TempDir(), "data")
		// Now and then more than once.
		for range 1 + random.IntN(2) {
			if a.killed(target, time.Duration(random.Int64N(int64(whole)))) {
				kills++
			} else {
				late++
			}
		}
		a.run(target)
		a.same(target)
		if i%25 == 0 {
			a.serves(target)
		}
		os.RemoveAll(target)
	}
	t.Logf("%d kills in %d adoptions of %v each, %d came after the end", kills, adoptions, whole.Round(time.Millisecond), late)
	if kills < adoptions/2 {
		t.Errorf("only %d of %d adoptions were killed", kills, adoptions)
	}
}

func newTakeover(t *testing.T) *takeover {
	t.Helper()
	a := &takeover{T: t, world: referencetest.Read(t, referencetest.Crashed), source: referencetest.Unpack(t, referencetest.Crashed), directory: startDirectory(t)}
	a.world.Surround(t, a.directory)
	// The crashed one is without its settings.
	settings, err := os.ReadFile(filepath.Join(referencetest.Unpack(t, referencetest.Stopped), "pds.env"))
	if err == nil {
		err = os.WriteFile(filepath.Join(a.source, "pds.env"), settings, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// settings are what the machine says beside the settings of the directory.
func (a *takeover) settings() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir(),
		"PDS_DID_PLC_URL=" + a.directory, "PDS_DISABLE_SSRF_PROTECTION=true",
		"PDS_REPO_BACKFILL_LIMIT_MS=31536000000", "PORTICO_KEY_ENCRYPTION_KEY=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
	}
}

func (a *takeover) command(ctx context.Context, target string) (*exec.Cmd, *bytes.Buffer) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, "adopt", a.source, "--into", target, "--json", "--skip-broken")
	cmd.Env, cmd.Stdout, cmd.Stderr = a.settings(), &out, &out
	return cmd, &out
}

// run adopts to the end.
func (a *takeover) run(target string) {
	a.Helper()
	cmd, out := a.command(a.Context(), target)
	if err := cmd.Run(); err != nil {
		a.Fatalf("adopt: %v\n%s", err, out)
	}
}

// killed adopts and kills that after so long, and says whether it was under way still.
func (a *takeover) killed(target string, after time.Duration) bool {
	a.Helper()
	cmd, out := a.command(a.Context(), target)
	if err := cmd.Start(); err != nil {
		a.Fatal(err)
	}
	timer := time.AfterFunc(after, func() { cmd.Process.Kill() })
	err := cmd.Wait()
	timer.Stop()
	switch {
	case err == nil:
		return false
	case cmd.ProcessState.ExitCode() >= 0:
		a.Fatalf("adopt: %v\n%s", err, out)
	}
	return true
}

// dump is every row of a database, by table, as text, but for the columns that are
// volatile; and the files of blobs.
func (a *takeover) dump(target string) map[string][]string {
	a.Helper()
	dump := map[string][]string{}
	for table, rows := range a.tables(target) {
		for _, row := range rows {
			var text []string
			for _, column := range slices.Sorted(maps.Keys(row)) {
				if !a.volatile[table+"."+column] {
					text = append(text, column+"="+row[column])
				}
			}
			dump[table] = append(dump[table], strings.Join(text, " "))
		}
		slices.Sort(dump[table])
	}
	return dump
}

// tables are the rows of a database, and the files of blobs as one more.
func (a *takeover) tables(target string) map[string][]map[string]string {
	a.Helper()
	tables := map[string][]map[string]string{}
	d, err := sql.Open("sqlite", "file:"+filepath.Join(target, "portico.sqlite"))
	if err != nil {
		a.Fatal(err)
	}
	defer d.Close()
	for _, table := range a.query(d, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name") {
		name := strings.Trim(table["name"], `"`)
		tables[name] = a.query(d, "SELECT * FROM "+name)
	}
	err = filepath.WalkDir(filepath.Join(target, "blobs"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		name, _ := filepath.Rel(target, path)
		if strings.HasPrefix(name, "blobs/partial/") {
			return err // what a kill left of a copy under way is the clean-up's, and nobody's blob
		}
		tables["files of blobs"] = append(tables["files of blobs"], map[string]string{"name": name, "sum": fmt.Sprintf("%x", sha256.Sum256(content))})
		return err
	})
	if err != nil {
		a.Fatal(err)
	}
	return tables
}

func (a *takeover) query(d *sql.DB, statement string) (rows []map[string]string) {
	a.Helper()
	found, err := d.QueryContext(a.Context(), statement)
	if err != nil {
		a.Fatal(err)
	}
	defer found.Close()
	columns, err := found.Columns()
	for err == nil && found.Next() {
		values, dest := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			dest[i] = &values[i]
		}
		err = found.Scan(dest...)
		row := map[string]string{}
		for i, column := range columns {
			row[column] = fmt.Sprintf("%q", fmt.Sprint(values[i]))
		}
		rows = append(rows, row)
	}
	if err = errors.Join(err, found.Err()); err != nil {
		a.Fatal(err)
	}
	return rows
}

// learn finds the columns in which two adoptions differ that nobody killed: times, and
// what is sealed. Without them all adoptions must come to the same.
func (a *takeover) learn(first, second string) {
	a.Helper()
	a.volatile = map[string]bool{}
	one, two := a.columns(first), a.columns(second)
	for column, values := range one {
		a.volatile[column] = !slices.Equal(values, two[column])
	}
	a.want = a.dump(first)
	if got := a.dump(second); !maps.EqualFunc(a.want, got, slices.Equal) {
		a.Fatalf("two adoptions that nobody killed differ:\n%s", cmp.Diff(a.want, got))
	}
	for _, table := range []string{"account", "session", "record", "event", "files of blobs"} {
		if len(a.want[table]) == 0 {
			a.Fatalf("no %s in an adoption", table)
		}
	}
	var left []string
	for column, differs := range a.volatile {
		if differs {
			left = append(left, column)
		}
	}
	slices.Sort(left)
	a.Logf("not compared: %v", left)
}

// columns are the sorted values of every column, by table.column.
func (a *takeover) columns(target string) map[string][]string {
	a.Helper()
	columns := map[string][]string{}
	for table, rows := range a.tables(target) {
		for _, row := range rows {
			for column, value := range row {
				columns[table+"."+column] = append(columns[table+"."+column], value)
			}
		}
	}
	for _, values := range columns {
		slices.Sort(values)
	}
	return columns
}

// same compares an adoption with one that nobody killed.
func (a *takeover) same(target string) {
	a.Helper()
	if got := a.dump(target); !maps.EqualFunc(a.want, got, slices.Equal) {
		a.Errorf("the adoption differs (-not killed +killed):\n%s", cmp.Diff(a.want, got))
	}
}

// serves starts the server on an adoption and holds its answers against the reference's.
func (a *takeover) serves(target string) {
	a.Helper()
	port, err := launch.FreePort()
	if err != nil {
		a.Fatal(err)
	}
	url := fmt.Sprintf("http://localhost:%d", port)
	p, err := launch.Start(a.Context(), url+"/xrpc/_health", "", []string{fmt.Sprintf("PDS_PORT=%d", port)}, binary, "serve", "--env-file", filepath.Join(target, "portico.env"))
	if err != nil {
		a.Fatal(err)
	}
	defer p.Kill()
	check := referencetest.Check{World: a.world, URL: url, Now: time.Now(), Portico: true, Roots: true}
	check.Run(a)
	if err := p.Stop(); err != nil {
		a.Error(err)
	}
}
