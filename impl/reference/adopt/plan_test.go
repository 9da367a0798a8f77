package adopt_test

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db/reference"
	"portico/impl/identity/plc"
	"portico/impl/reference/adopt"
	"portico/impl/reference/referencetest"
)

// directory is what the PLC directory says about DIDs, and whom it gives no answer.
type directory struct {
	data   map[syntax.DID]plc.Data
	silent map[syntax.DID]error
	asked  atomic.Int64
}

func (d *directory) Data(_ context.Context, did syntax.DID) (plc.Data, error) {
	d.asked.Add(1)
	if err := d.silent[did]; err != nil {
		return plc.Data{}, err
	}
	data, ok := d.data[did]
	if !ok {
		return data, plc.ErrNotFound
	}
	return data, nil
}

// A plan is a dry run on a directory that a test has changed.
type plan struct {
	*adopt.Adoption
	dir       string
	directory *directory
	names     map[string]string // of accounts, by their DIDs
	dids      map[string]string // by the names
}

func newPlan(t *testing.T, name string) *plan {
	t.Helper()
	var world struct {
		MadeAt   time.Time `json:"madeAt"`
		Secrets  map[string]string
		Accounts []struct{ Name, DID string }
		PLC      struct {
			Operations []struct {
				DID       syntax.DID
				Operation plc.Data
			}
		}
	}
	if err := json.Unmarshal(referencetest.Expected(t, referencetest.Stopped), &world); err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(world.Secrets["PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX"])
	if err != nil {
		t.Fatal(err)
	}
	rotation, err := atcrypto.ParsePrivateBytesK256(raw)
	if err != nil {
		t.Fatal(err)
	}
	p := &plan{
		dir:       referencetest.Unpack(t, name),
		directory: &directory{data: make(map[syntax.DID]plc.Data), silent: make(map[syntax.DID]error)},
		names:     map[string]string{"did:plc:6tm5tjpmh5ie7k4vtcx6emk4": "peggy"}, dids: make(map[string]string),
	}
	for _, o := range world.PLC.Operations {
		p.directory.data[o.DID] = o.Operation
	}
	for _, a := range world.Accounts {
		p.names[a.DID], p.dids[a.Name] = a.Name, a.DID
	}
	p.Adoption = &adopt.Adoption{
		Layout: reference.Layout{
			AccountDB: filepath.Join(p.dir, "account.sqlite"), SequencerDB: filepath.Join(p.dir, "sequencer.sqlite"),
			Actors: filepath.Join(p.dir, "actors"), Blobs: filepath.Join(p.dir, "blocks"),
			Temporary: filepath.Join(p.dir, "blocks", "tempt"), Quarantine: filepath.Join(p.dir, "blocks", "quarantine"),
		},
		How: adopt.CopyBlobs, Directory: p.directory, Rotation: rotation, Endpoint: "https://pds.adopt.test",
		Now:     func() time.Time { return world.MadeAt },
		Confirm: func([]syntax.DID) bool { return true },
	}
	return p
}

// run returns the report, and of its findings the names with those of the accounts, those
// that are grave with a star.
func (p *plan) run(t *testing.T) (*adopt.Report, []string) {
	t.Helper()
	source, err := reference.Open(t.Context(), p.Layout, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p.Source = source
	defer func() {
		if err := source.Close(); err != nil {
			t.Error(err)
		}
	}()
	report, err := p.Plan(t.Context())
	var found []string
	grave := false
	for _, f := range report.Findings {
		name := f.Name
		if f.Grave {
			grave = true
			name += "*"
		}
		if f.DID != "" {
			name += " " + p.names[f.DID.String()]
		}
		if f.Text == "" {
			t.Errorf("%s says nothing", name)
		}
		found = append(found, name)
	}
	if errors.Is(err, adopt.ErrRefused) != grave || err != nil && !grave {
		t.Fatalf("%v with %q", err, found)
	}
	slices.Sort(found)
	return report, found
}

// in runs statements on a database of the directory.
func (p *plan) in(t *testing.T, path string, statements ...string) {
	t.Helper()
	d, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range statements {
		if _, err := d.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// file is a file in the folder of an account.
func (p *plan) file(t *testing.T, account, name string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(p.Layout.Actors, "??", p.dids[account]))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	return filepath.Join(found[0], name)
}

func (p *plan) store(t *testing.T, account string, statements ...string) {
	t.Helper()
	p.in(t, p.file(t, account, "store.sqlite"), statements...)
}

// data changes what the directory says about an account.
func (p *plan) data(account string, change func(*plc.Data)) {
	did := syntax.DID(p.dids[account])
	data := p.directory.data[did]
	change(&data)
	p.directory.data[did] = data
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// always is what every look at the fixture finds: heidi has not moved in yet, ivan has a DID of
// his own, and two are
// to be deleted.
var always = []string{"deletion-waits dave", "deletion-waits heidi", "identity-elsewhere heidi", "identity-of-owner ivan"}

// besides are findings besides those there are always, in order.
func besides(names ...string) []string {
	names = append(names, always...)
	slices.Sort(names)
	return names
}

func TestPlan(t *testing.T) {
	for name, want := range map[string][]string{
		referencetest.Stopped: besides(),
		referencetest.Crashed: besides("event-missing bob", "root-lags bob", "store-missing* carol", "store-without-account peggy"),
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlan(t, name)
			report, found := p.run(t)
			if !slices.Equal(found, want) {
				t.Errorf("found %q, want %q", found, want)
			}
			if report.Edition != "0.4.177 or later" || len(report.Unmanaged) != 0 {
				t.Errorf("edition %s, unmanaged %v", report.Edition, report.Unmanaged)
			}
		})
	}
}

func TestPlanCounts(t *testing.T) {
	p := newPlan(t, referencetest.Crashed)
	p.SkipBroken, p.Window = true, time.Hour
	p.in(t, p.Layout.SequencerDB, "UPDATE repo_seq SET sequencedAt = '2026-11-28T12:00:00.000Z' WHERE seq <= 10",
		"UPDATE repo_seq SET eventType = 'handle' WHERE seq = 20", "UPDATE repo_seq SET invalidated = 1 WHERE seq = 21")
	p.in(t, p.Layout.AccountDB, "UPDATE refresh_token SET expiresAt = '2026-11-28T12:00:00.000Z' WHERE rowid = 1",
		"UPDATE email_token SET requestedAt = '2026-11-28T12:00:00.000Z' WHERE rowid = 1")
	report, found := p.run(t)
	if want := besides("event-missing bob", "root-lags bob", "store-missing carol", "store-without-account peggy"); !slices.Equal(found, want) {
		t.Errorf("found %q", found)
	}
	for _, want := range []adopt.Count{
		{Of: "accounts", Source: 12, Dropped: 1, Why: "their repositories are gone: their deletion is finished"},
		{Of: "reserved keys", Source: 2},
		{Of: "app passwords", Source: 6, Dropped: 2, Why: "their accounts are gone"},
		{Of: "sessions", Source: 26, Dropped: 4, Why: "they have expired; their accounts are gone"},
		{Of: "emailed codes", Source: 5, Dropped: 1, Why: "they have expired"},
		{Of: "invite codes", Source: 6},
		{Of: "uses of invite codes", Source: 13},
		{Of: "clients signed in by OAuth", Source: 3, Dropped: 3, Why: "they are asked to sign in again"},
		{Of: "events", Source: 85, Dropped: 12, Why: "they are older than what is kept; there are no events of their kind any more; they were withdrawn"},
	} {
		if !slices.Contains(report.Counts, want) {
			t.Errorf("%+v is not in %+v", want, report.Counts)
		}
	}
	if report.LastEvent != 90 {
		t.Errorf("last event %d", report.LastEvent)
	}
}

// Everything that can be wrong is found under its name, and nothing else is.
func TestFindings(t *testing.T) {
	for _, tt := range []struct {
		want   string // besides always
		change func(t *testing.T, p *plan)
	}{
		{"row-damaged*", func(t *testing.T, p *plan) {
			p.in(t, p.Layout.AccountDB, "UPDATE invite_code SET availableUses = 'many' WHERE rowid = 1")
		}},
		{"account-damaged* bob", func(t *testing.T, p *plan) {
			p.in(t, p.Layout.AccountDB, "UPDATE actor SET createdAt = 'yesterday' WHERE did = '"+p.dids["bob"]+"'")
		}},
		{"account-damaged* bob", func(t *testing.T, p *plan) {
			p.in(t, p.Layout.AccountDB, "UPDATE actor SET createdAt = '0001-01-01T00:00:00.000Z' WHERE did = '"+p.dids["bob"]+"'")
		}},
		{"row-damaged*", func(t *testing.T, p *plan) {
			p.in(t, p.Layout.SequencerDB, "UPDATE repo_seq SET seq = 9223372036854775807 WHERE seq = (SELECT max(seq) FROM repo_seq)")
		}},
		{"handle-malformed bob", func(t *testing.T, p *plan) {
			p.in(t, p.Layout.AccountDB, "UPDATE actor SET handle = 'bob..test' WHERE did = '"+p.dids["bob"]+"'")
		}},
		{"deletion-waits bob", func(t *testing.T, p *plan) {
			p.in(t, p.Layout.AccountDB, "UPDATE actor SET deactivatedAt = '2026-11-28T12:00:00.000Z', deleteAfter = '2030-02-30T00:00:00Z' WHERE did = '"+p.dids["bob"]+"'")
		}},
		{"account-damaged*", func(t *testing.T, p *plan) {
			p.in(t, p.Layout.AccountDB, "INSERT INTO actor (did, createdAt) VALUES ('x', '2026-11-28T12:00:00.000Z')")
		}},
		{"entryway* bob", func(t *testing.T, p *plan) { must(t, os.WriteFile(p.file(t, "bob", "did-op"), nil, 0o600)) }},
		{"store-missing* bob", func(t *testing.T, p *plan) { must(t, os.RemoveAll(p.file(t, "bob", ""))) }},
		{"store-damaged* bob", func(t *testing.T, p *plan) { p.store(t, "bob", "DELETE FROM repo_root") }},
		{"store-damaged* bob", func(t *testing.T, p *plan) { must(t, os.Truncate(p.file(t, "bob", "store.sqlite"), 30000)) }},
		{"store-damaged* bob", func(t *testing.T, p *plan) {
			elsewhere := filepath.Join(t.TempDir(), "x")
			must(t, os.Rename(p.file(t, "bob", "store.sqlite"), elsewhere))
			must(t, os.Symlink(elsewhere, p.file(t, "bob", "store.sqlite")))
		}},
		{"block-missing* bob", func(t *testing.T, p *plan) {
			p.store(t, "bob", "DELETE FROM repo_block WHERE cid = (SELECT cid FROM repo_root)")
		}},
		{"block-missing* bob", func(t *testing.T, p *plan) {
			p.store(t, "bob", "DELETE FROM repo_block WHERE cid = (SELECT cid FROM record LIMIT 1)")
		}},
		{"block-damaged* bob", func(t *testing.T, p *plan) {
			p.store(t, "bob", "UPDATE repo_block SET content = x'a0' WHERE cid = (SELECT cid FROM record LIMIT 1)")
		}},
		{"block-damaged* bob", func(t *testing.T, p *plan) {
			p.store(t, "bob", "UPDATE repo_block SET content = x'a0' WHERE cid = (SELECT cid FROM repo_root)")
		}},
		{"records-differ* bob", func(t *testing.T, p *plan) {
			p.store(t, "bob", "DELETE FROM record WHERE rowid = (SELECT rowid FROM record LIMIT 1)")
		}},
		{"key-damaged* bob", func(t *testing.T, p *plan) { must(t, os.Remove(p.file(t, "bob", "key"))) }},
		{"key-damaged* bob", func(t *testing.T, p *plan) { must(t, os.Truncate(p.file(t, "bob", "key"), 31)) }},
		{"key-damaged* bob", func(t *testing.T, p *plan) {
			must(t, os.WriteFile(p.file(t, "bob", "key"), make([]byte, 32), 0o600))
		}},
		{"root-lags bob", func(t *testing.T, p *plan) {
			p.in(t, p.Layout.AccountDB, "DELETE FROM repo_root WHERE did = '"+p.dids["bob"]+"'")
		}},
		{"event-missing kim", func(t *testing.T, p *plan) {
			p.in(t, p.Layout.SequencerDB, "UPDATE repo_seq SET event = x'a1637265766133' WHERE did = '"+p.dids["kim"]+"' AND eventType IN ('append', 'sync')")
		}},
		{"store-without-account judy", func(t *testing.T, p *plan) {
			must(t, os.MkdirAll(filepath.Join(p.Layout.Actors, "35", p.dids["judy"]), 0o700))
		}},
		{"stray-file", func(t *testing.T, p *plan) { must(t, os.Mkdir(filepath.Join(p.Layout.Actors, "lost+found"), 0o700)) }},
		{"reserved-key-damaged", func(t *testing.T, p *plan) {
			must(t, os.WriteFile(filepath.Join(p.Layout.Actors, "reserved_keys", "did:plc:x"), nil, 0o600))
		}},
		{"reserved-key-damaged", func(t *testing.T, p *plan) {
			must(t, os.WriteFile(filepath.Join(p.Layout.Actors, "reserved_keys", "did:key:z"), []byte(strings.Repeat("x", 32)), 0o600))
		}},
		{"blob-missing alice", func(t *testing.T, p *plan) { must(t, os.RemoveAll(filepath.Join(p.Layout.Blobs, p.dids["alice"]))) }},
		{"blob-missing bob", func(t *testing.T, p *plan) {
			must(t, os.RemoveAll(filepath.Join(p.Layout.Quarantine, p.dids["bob"])))
		}},
		{"blob-missing alice", func(t *testing.T, p *plan) {
			must(t, os.RemoveAll(filepath.Join(p.Layout.Temporary, p.dids["alice"])))
		}},
		{"identity-unknown bob", func(t *testing.T, p *plan) {
			p.directory.silent[syntax.DID(p.dids["bob"])] = plc.ErrUnreachable
		}},
		{"identity-not-found bob", func(t *testing.T, p *plan) { delete(p.directory.data, syntax.DID(p.dids["bob"])) }},
		{"identity-elsewhere bob", func(t *testing.T, p *plan) {
			p.data("bob", func(d *plc.Data) {
				d.Services = map[string]plc.Service{"atproto_pds": {Endpoint: "https://elsewhere.test"}}
			})
		}},
		{"signing-key-differs bob", func(t *testing.T, p *plan) {
			p.data("bob", func(d *plc.Data) { d.VerificationMethods = map[string]string{"atproto": "did:key:z"} })
		}},
		{"rotation-key-missing bob", func(t *testing.T, p *plan) {
			p.data("bob", func(d *plc.Data) { d.RotationKeys = []string{"did:key:z"} })
		}},
		{"handle-differs bob", func(t *testing.T, p *plan) {
			p.data("bob", func(d *plc.Data) { d.AlsoKnownAs = []string{"at://x.test"} })
		}},
	} {
		t.Run(tt.want, func(t *testing.T) {
			p := newPlan(t, referencetest.Stopped)
			tt.change(t, p)
			want := besides(tt.want)
			report, found := p.run(t)
			if !slices.Equal(found, want) {
				t.Errorf("found %q, want %q", found, want)
			}
			for _, name := range []string{"identity-unknown", "identity-not-found", "signing-key", "rotation-key", "key-damaged"} {
				if strings.HasPrefix(tt.want, name) && fmt.Sprint(report.Unmanaged) != "["+p.dids["bob"]+"]" {
					t.Errorf("unmanaged %v", report.Unmanaged)
				}
			}
		})
	}
}

// The rotation key of another server is noticed, and so is a directory out of reach, and
// one that is not to be asked.
func TestPlanDirectory(t *testing.T) {
	p := newPlan(t, referencetest.Stopped)
	other, err := atcrypto.GeneratePrivateKeyK256()
	must(t, err)
	p.Rotation = other
	report, found := p.run(t)
	if !slices.Contains(found, "wrong-rotation-key*") || len(report.Unmanaged) != 6 {
		t.Errorf("with another key: %q, unmanaged %v", found, report.Unmanaged)
	}

	p = newPlan(t, referencetest.Stopped)
	for did := range p.directory.data {
		p.directory.silent[did] = plc.ErrUnreachable
	}
	report, found = p.run(t)
	if n := len(slices.DeleteFunc(found, func(f string) bool { return !strings.HasPrefix(f, "identity-unknown") })); n != 11 || len(report.Unmanaged) != 6 {
		t.Errorf("out of reach: %d unknown, unmanaged %v", n, report.Unmanaged)
	}

	// Of a hundred more it is not asked.
	p.in(t, p.Layout.AccountDB, `WITH RECURSIVE n(i) AS (SELECT 100 UNION SELECT i + 1 FROM n WHERE i < 199)
		INSERT INTO actor (did, createdAt) SELECT 'did:plc:a' || i, '2026-11-28T12:00:00.000Z' FROM n`)
	p.directory.asked.Store(0)
	for i := range 100 {
		p.directory.silent[syntax.DID(fmt.Sprint("did:plc:a", 100+i))] = plc.ErrUnreachable
	}
	report, _ = p.run(t)
	if n := p.directory.asked.Load(); n < 20 || n > 30 || len(report.Unmanaged) != 106 {
		t.Errorf("asked %d times, %d are unmanaged", n, len(report.Unmanaged))
	}

	p = newPlan(t, referencetest.Stopped)
	p.Directory = nil
	if _, found := p.run(t); !slices.Equal(found, []string{always[0], always[1], "identities-not-asked"}) {
		t.Errorf("without a directory: %q", found)
	}
}

// Who does not say that it may be goes no further with DIDs that this server cannot change.
func TestUnconfirmed(t *testing.T) {
	p := newPlan(t, referencetest.Stopped)
	for did := range p.directory.data {
		p.directory.silent[did] = plc.ErrUnreachable
	}
	asked := 0
	p.Confirm = func(unmanaged []syntax.DID) bool { asked = len(unmanaged); return false }
	if _, found := p.run(t); !slices.Contains(found, "unmanaged*") || asked != 6 {
		t.Errorf("after a no: %q, asked about %d", found, asked)
	}
	p.Directory, p.Confirm = nil, nil
	if _, found := p.run(t); !slices.Equal(found, []string{always[0], always[1], "identities-not-asked", "identities-unknown*"}) {
		t.Errorf("without a directory: %q", found)
	}
}

// Of seven blobs of 455 bytes one waits and one is taken down.
func TestSpace(t *testing.T) {
	p := newPlan(t, referencetest.Crashed)
	for how, want := range map[adopt.Blobs]int64{
		adopt.CopyBlobs: 2766047, adopt.LinkBlobs: 2765592, adopt.LeaveBlobs: 2765736,
	} {
		p.How = how
		if got, err := p.Space(t.Context()); err != nil || got != want {
			t.Errorf("%s: %d, %v", how, got, err)
		}
	}
}

func TestPlanCanceled(t *testing.T) {
	p := newPlan(t, referencetest.Stopped)
	ctx, cancel := context.WithCancel(t.Context())
	p.Progress = func(adopt.Progress) { cancel() }
	source, err := reference.Open(t.Context(), p.Layout, t.TempDir())
	must(t, err)
	defer source.Close()
	p.Source = source
	if _, err := p.Plan(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
