package adopt

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-cmp/cmp"

	"portico/db"
	"portico/db/reference"
	"portico/impl/account/token"
	"portico/impl/blob"
	"portico/impl/keyring"
	"portico/impl/reference/referencetest"
	"portico/impl/repo"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/store"
	"portico/impl/repo/tree"
)

// Accounts of the directories.
const (
	aliceDID = syntax.DID("did:plc:n7flptxnnur5t4ulmjv3oz37")
	bobDID   = syntax.DID("did:plc:pu2pzz5wjr6fmhepelxsvkqv")
	carolDID = syntax.DID("did:plc:pdjqvg4tyf7ffkhnswvn3t5z")
	heidiDID = syntax.DID("did:plc:qnet3k2r7qzee4647rwk3jwj")
)

func layoutOf(pds string) reference.Layout {
	blocks := filepath.Join(pds, "blocks")
	return reference.Layout{
		AccountDB: filepath.Join(pds, "account.sqlite"), SequencerDB: filepath.Join(pds, "sequencer.sqlite"), Actors: filepath.Join(pds, "actors"),
		Blobs: blocks, Temporary: filepath.Join(blocks, "tempt"), Quarantine: filepath.Join(blocks, "quarantine"), Settings: filepath.Join(pds, "pds.env"),
	}
}

// adoptionOf begins an adoption of a directory, or goes on with that of a folder. trace may
// be nil.
func adoptionOf(t testing.TB, pds, folder string, trace func(string)) *Adoption {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	l := layoutOf(pds)
	source, err := reference.Open(t.Context(), l, t.TempDir())
	check(err)
	t.Cleanup(func() { source.Close() })
	now := func() time.Time { return time.Date(2026, 11, 28, 14, 53, 22, 73_000_000, time.UTC) }
	log := slog.New(slog.DiscardHandler)
	target, err := db.Open(t.Context(), db.Config{Dir: folder, Draft: true, Synchronous: "NORMAL", Now: now, Logger: log, Trace: trace})
	check(err)
	t.Cleanup(func() { target.Close() })
	keys, err := keyring.New(rand.Reader, make([]byte, keyring.KeySize))
	check(err)
	canary, err := keys.NewCanary()
	check(err)
	check(keys.Unlock(canary))
	disk, err := blob.OpenDisk(filepath.Join(folder, "blobs"), "", blob.Bounds{})
	check(err)
	return &Adoption{
		Source: source, Layout: l, Target: target, Folder: folder, Keys: keys, Blobs: disk, How: CopyBlobs, Now: now, Rand: rand.Reader,
		Tokens: &token.Issuer{Secret: []byte("8b8c5db6e13a84a33641018730c8cccd"), ServiceDID: "did:web:pds.adopt.test", Now: now, Rand: rand.Reader},
		Log:    log, report: new(Report),
	}
}

// adoptAll takes the steps of an adoption between the plan and its end.
func (a *Adoption) adoptAll(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		a.accounts, a.repositories, a.events, a.blobs, func(ctx context.Context) error { return a.check(ctx, a.report) },
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (a *Adoption) names() (names []string) {
	for _, f := range a.report.Findings {
		name := f.Name
		if f.Grave {
			name += "!"
		}
		names = append(names, strings.TrimSpace(name+" "+string(f.DID)))
	}
	slices.Sort(names)
	return names
}

func (a *Adoption) counted(of string) string {
	for _, c := range a.report.Counts {
		if c.Of == of {
			return fmt.Sprint(c.Source, " ", c.Dropped, " ", c.Adopted)
		}
	}
	return ""
}

// contents are what is in all files of a folder.
func contents(t testing.TB, folder string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		sum := sha256.Sum256(b)
		all[path] = hex.EncodeToString(sum[:]) + info.ModTime().String() + info.Mode().String()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// compare looks whether the repository of an account, with all that is beside it, is what
// its store has.
func compare(t *testing.T, a *Adoption, did syntax.DID) {
	t.Helper()
	ctx := t.Context()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", did, err)
		}
	}
	s, err := a.Source.Store(ctx, did.String())
	check(err)
	defer s.Close()
	root, err := s.Root(ctx)
	check(err)
	row, err := a.Target.Repo(ctx, did)
	check(err)
	if row.Rev != root.Rev || store.CID(row.CommitCID).String() != root.CID {
		t.Errorf("%s: commit %s of %s, want %s of %s", did, store.CID(row.CommitCID), row.Rev, root.CID, root.Rev)
	}
	// Blocks, each with its rev where there is one.
	got := map[string]string{root.CID: string(row.CommitBlock)}
	revs := map[string]string{}
	nodes, err := a.Target.Nodes(ctx, did, nil, 1_000_000)
	check(err)
	for _, n := range nodes {
		got[store.CID(n.CID).String()] = string(n.Data)
		revs[store.CID(n.CID).String()] = n.Rev
	}
	records, err := a.Target.Records(ctx, did, db.RecordRange{Limit: 1_000_000})
	check(err)
	byURI := make(map[string]db.Record)
	for _, r := range records {
		got[store.CID(r.CID).String()] = string(r.Value)
		byURI["at://"+did.String()+"/"+r.Path] = r
	}
	want := make(map[string]string)
	for b, err := range s.Blocks(ctx) {
		check(err)
		want[b.CID] = string(b.Content)
		if rev, ok := revs[b.CID]; ok && rev != b.RepoRev {
			t.Errorf("%s: node %s of rev %s, want %s", did, b.CID, rev, b.RepoRev)
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("%s: %d blocks differ from the store's %d", did, len(got), len(want))
	}
	n := 0
	for w, err := range s.Records(ctx) {
		check(err)
		n++
		r, ok := byURI[w.URI]
		ref := ""
		if w.TakedownRef != nil {
			ref = *w.TakedownRef
		}
		if !ok || store.CID(r.CID).String() != w.CID || r.Rev != w.RepoRev || reference.FormatTime(r.IndexedAt) != w.IndexedAt || r.TakedownRef != ref {
			t.Errorf("record %+v is %+v", w, r)
		}
	}
	if n != len(records) {
		t.Errorf("%s: %d records, want %d", did, len(records), n)
	}
	mentions, err := a.Target.RecordBlobs(ctx, did, db.RecordBlob{}, 1_000_000)
	check(err)
	var gotMentions, wantMentions []string
	for _, m := range mentions {
		gotMentions = append(gotMentions, store.CID(m.CID).String()+" at://"+did.String()+"/"+m.Path)
	}
	for m, err := range s.RecordBlobs(ctx) {
		check(err)
		wantMentions = append(wantMentions, m.BlobCID+" "+m.RecordURI)
	}
	slices.Sort(gotMentions)
	slices.Sort(wantMentions)
	if diff := cmp.Diff(wantMentions, gotMentions); diff != "" {
		t.Errorf("%s: mentions (-want +got):\n%s", did, diff)
	}
	compareBeside(t, a, s, did)
}

// compareBeside compares blobs and preferences.
func compareBeside(t *testing.T, a *Adoption, s *reference.Store, did syntax.DID) {
	t.Helper()
	ctx := t.Context()
	rows, err := a.Target.Blobs(ctx, did, nil, 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	blobs := make(map[string]db.Blob)
	for _, b := range rows {
		blobs[store.CID(b.CID).String()] = b
	}
	for w, err := range s.Blobs(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		b := blobs[w.CID]
		delete(blobs, w.CID)
		or := func(s *string) string {
			if s == nil {
				return ""
			}
			return *s
		}
		if b.MIME != w.MimeType || b.Size != w.Size || b.TempKey != or(w.TempKey) || b.TakedownRef != or(w.TakedownRef) || reference.FormatTime(b.CreatedAt) != w.CreatedAt {
			t.Errorf("blob %+v is %+v", w, b)
		}
	}
	if len(blobs) > 0 {
		t.Errorf("%s: more blobs: %v", did, blobs)
	}
	preferences, err := a.Target.Preferences(ctx, did)
	if err != nil {
		t.Fatal(err)
	}
	for w, err := range s.Preferences(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if len(preferences) == 0 || string(preferences[0]) != w.ValueJSON {
			t.Fatalf("%s: preference %s is not the next of %s", did, w.ValueJSON, preferences)
		}
		preferences = preferences[1:]
	}
	if len(preferences) > 0 {
		t.Errorf("%s: more preferences: %s", did, preferences)
	}
}

func TestRepositories(t *testing.T) {
	for _, name := range []string{referencetest.Stopped, referencetest.Crashed} {
		t.Run(name, func(t *testing.T) {
			pds := referencetest.Unpack(t, name)
			before := contents(t, pds)
			a := adoptionOf(t, pds, t.TempDir(), nil)
			a.SkipBroken = true
			if err := a.adoptAll(t.Context()); err != nil {
				t.Fatal(err, a.report.Findings)
			}
			for row, err := range a.Source.Actors(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				if name == referencetest.Stopped || syntax.DID(row.DID) != carolDID {
					compare(t, a, syntax.DID(row.DID))
				}
			}
			want := []string{"commit-imported did:plc:qnet3k2r7qzee4647rwk3jwj", "commit-imported did:plc:u7qzys5wcqoclfwvcd6dp6fl"}
			counts := "repositories 12 0 12, blocks 182 0 182, records 123 0 123, mentions of blobs 8 0 8, blobs 7 0 7, accounts with preferences 2 0 2, "
			if name == referencetest.Crashed {
				want = append(want, "deletion-finished "+string(carolDID), "sync-appended "+string(bobDID))
				counts = "repositories 11 0 11, blocks 184 0 184, records 125 0 125, mentions of blobs 8 0 8, blobs 7 0 7, accounts with preferences 2 0 2, "
			}
			if diff := cmp.Diff(want, a.names()); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			got := ""
			for _, of := range []string{"repositories", "blocks", "records", "mentions of blobs", "blobs", "accounts with preferences"} {
				got += of + " " + a.counted(of) + ", "
			}
			if got != counts {
				t.Errorf("%s\nwant %s", got, counts)
			}
			compareFiles(t, a)
			if diff := cmp.Diff(before, contents(t, pds)); diff != "" {
				t.Errorf("the source has changed:\n%s", diff)
			}
		})
	}
}

// compareFiles looks whether every file of the source's blobs is there.
func compareFiles(t *testing.T, a *Adoption) {
	t.Helper()
	n := 0
	for f, err := range a.filesOfSource().Files(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		n++
		r, got, err := a.Blobs.Open(t.Context(), f.Name)
		if err != nil {
			t.Errorf("%s: %v", f.Name, err)
			continue
		}
		cid, _, err := blob.Sum(r)
		if err := errors.Join(err, r.Close()); err != nil || got.Size != f.Size || f.Name.Area != blob.Temporary && cid.String() != f.Name.Key {
			t.Errorf("%s is %s of %d bytes, %v", f.Name, cid, got.Size, err)
		}
	}
	if n != 7 {
		t.Errorf("%d files", n)
	}
}

// change runs statements on the store of an account.
func change(t testing.TB, pds string, did syntax.DID, statements ...string) {
	t.Helper()
	sum := sha256.Sum256([]byte(did))
	path := filepath.Join(pds, "actors", hex.EncodeToString(sum[:1]), did.String(), "store.sqlite")
	pool, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(DELETE)")
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	for _, s := range statements {
		r, err := pool.Exec(s)
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			t.Fatalf("%s: %d rows, %v", s, n, err)
		}
	}
}

// What is wrong with one store is told, nothing of its repository is written, and all others
// are.
func TestBrokenRepositories(t *testing.T) {
	const record = "(SELECT cid FROM record WHERE collection = 'app.bsky.feed.post' ORDER BY uri LIMIT 1)"
	const node = "(SELECT cid FROM repo_block WHERE cid NOT IN (SELECT cid FROM record) AND cid NOT IN (SELECT cid FROM repo_root) LIMIT 1)"
	for _, tt := range []struct{ name, statement, want string }{
		{"no root", "DELETE FROM repo_root", "store-damaged!"},
		{"commit is missing", "DELETE FROM repo_block WHERE cid = (SELECT cid FROM repo_root)", "block-missing!"},
		{"commit is another", "UPDATE repo_root SET cid = " + record, "commit-damaged!"},
		{"rev", "UPDATE repo_root SET rev = 'today'", "store-damaged!"},
		{"node is missing", "DELETE FROM repo_block WHERE cid = " + node, "block-missing!"},
		{"node is damaged", "UPDATE repo_block SET content = x'a0' WHERE cid = " + node, "block-damaged!"},
		{"record is missing", "DELETE FROM repo_block WHERE cid = " + record, "block-missing!"},
		{"record is damaged", "UPDATE repo_block SET content = x'a0' WHERE cid = " + record, "block-damaged!"},
		{"row is missing", "DELETE FROM record WHERE cid = " + record, "records-differ!"},
		{"row is spare", "INSERT INTO record SELECT uri || 'z', cid, collection, rkey || 'z', repoRev, indexedAt, NULL FROM record WHERE cid = " + record, "records-differ!"},
		{"last row is spare", "INSERT INTO record SELECT 'at://' || did || '/z.z.z/z', cid, 'z.z.z', 'z', rev, indexedAt, NULL FROM repo_root", "records-differ!"},
		{"row of another value", "UPDATE record SET cid = (SELECT cid FROM repo_root) WHERE cid = " + record, "records-differ!"},
		{"date", "UPDATE record SET indexedAt = 'today' WHERE cid = " + record, "store-damaged!"},
		{"date of a blob", "UPDATE blob SET createdAt = 'today'", "store-damaged!"},
		{"preference", "INSERT INTO account_pref (name, valueJson) VALUES ('a', '{')", "store-damaged!"},
		{"preference of another kind", "INSERT INTO account_pref (name, valueJson) VALUES ('a', ' [1]')", "preference-left"},
		{"name of a block", "UPDATE repo_block SET cid = 'b' || cid WHERE cid = " + node, "store-damaged!"},
		{"spare block", "INSERT INTO repo_block VALUES ('bafyreib2rxk3rybk3aobmv5cjuql3bm2twh4jo5uxgf5kpqcsgz7soitae', '3', 1, x'a0')", ""},
		{"name of a blob", "INSERT INTO blob VALUES ('b', 'a/b', 1, NULL, NULL, NULL, '2026-11-28T14:53:22.073Z', NULL)", "blob-name"},
		{"key of a blob that waits", "UPDATE blob SET tempKey = '../../../../etc/passwd' WHERE rowid = (SELECT rowid FROM blob WHERE tempKey IS NOT NULL)", "blob-name"},
		{"mention of no record", "INSERT INTO record_blob SELECT cid, 'at://' || did || '/a.b.c/d' FROM repo_root", "mentions-differ"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pds := referencetest.Unpack(t, referencetest.Stopped)
			change(t, pds, aliceDID, tt.statement)
			a := adoptionOf(t, pds, t.TempDir(), nil)
			err := a.accounts(t.Context())
			if err == nil {
				err = a.repositories(t.Context())
			}
			grave := strings.HasSuffix(tt.want, "!")
			if errors.Is(err, ErrRefused) != grave || err != nil && !grave {
				t.Fatal(err)
			}
			var want []string
			if tt.want != "" {
				want = []string{tt.want + " " + string(aliceDID)}
			}
			if diff := cmp.Diff(want, a.names()); diff != "" {
				t.Errorf("findings (-want +got):\n%s%v", diff, a.report.Findings)
			}
			totals, err := a.Target.Totals(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.Target.Repo(t.Context(), aliceDID); errors.Is(err, db.ErrNotFound) != grave || totals.Repos < 11 {
				t.Errorf("%d repositories, alice's %v", totals.Repos, err)
			}
			if records, err := a.Target.Records(t.Context(), aliceDID, db.RecordRange{Limit: 1}); err != nil || grave == (len(records) > 0) {
				t.Errorf("%d records of alice's, %v", len(records), err)
			}
			if notes, err := a.notes(t.Context()); err != nil || (notes.Figures.Dropped == 1) != (tt.name == "spare block") {
				t.Errorf("noted: %+v, %v", notes, err)
			}
			compare(t, a, bobDID)
		})
	}
}

// Broken off wherever the database is asked or written to, and run again, all is there.
func TestRepositoriesGoOn(t *testing.T) {
	pds := referencetest.Unpack(t, referencetest.Stopped)
	first := "" // what is told
	for at, ended := 5, false; !ended; at += at/3 + 1 {
		folder := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		var statements atomic.Int64
		a := adoptionOf(t, pds, folder, func(string) {
			if statements.Add(1) == int64(at) {
				cancel()
			}
		})
		statements.Store(0)
		err := a.adoptAll(ctx)
		cancel()
		if ended = err == nil; !ended && !errors.Is(err, context.Canceled) {
			t.Fatalf("broken off at %d: %v", at, err)
		}
		if err := a.Target.Close(); err != nil {
			t.Fatal(err)
		}
		a = adoptionOf(t, pds, folder, nil)
		if err := a.adoptAll(t.Context()); err != nil {
			t.Fatalf("after %d: %v", at, err)
		}
		for _, did := range []syntax.DID{aliceDID, bobDID, heidiDID} {
			compare(t, a, did)
		}
		got := fmt.Sprint(a.names(), a.counted("blocks"), a.counted("records"), a.counted("blobs"), a.counted("accounts with preferences"))
		if first == "" {
			first = got
		}
		if got != first {
			t.Errorf("after %d: %s, want %s", at, got, first)
		}
	}
}

// A store of any size is read without being held.
func TestLargeRepository(t *testing.T) {
	records := 50_000
	if raced {
		records = 2_000
	}
	pds := referencetest.Unpack(t, referencetest.Stopped)
	fill(t, pds, bobDID, records, 400)
	a := adoptionOf(t, pds, t.TempDir(), nil)
	if err := a.accounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop, most := make(chan struct{}), make(chan uint64)
	go func() {
		var high uint64
		for {
			select {
			case <-stop:
				most <- high
				return
			case <-time.After(20 * time.Millisecond):
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				high = max(high, m.HeapAlloc)
			}
		}
	}()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if err := a.repositories(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(stop)
	if high := <-most; high > m.HeapAlloc+60<<20 {
		t.Errorf("%d MB of heap for %d MB of records", (high-m.HeapAlloc)>>20, records*500>>20)
	}
	for _, step := range []func(context.Context) error{a.blobs, func(ctx context.Context) error { return a.check(ctx, a.report) }} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	compare(t, a, bobDID)
	for _, f := range a.report.Findings {
		if f.DID == bobDID && f.Grave {
			t.Error(f)
		}
	}
}

// fill puts another repository in the place of the one of an account: so many records, with
// texts of some bytes.
func fill(t testing.TB, pds string, did syntax.DID, records, bytesEach int) {
	t.Helper()
	sum := sha256.Sum256([]byte(did))
	folder := filepath.Join(pds, "actors", hex.EncodeToString(sum[:1]), did.String())
	raw, err := os.ReadFile(filepath.Join(folder, "key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := atcrypto.ParsePrivateBytesK256(raw)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := sql.Open("sqlite", "file:"+filepath.Join(folder, "store.sqlite")+"?_pragma=journal_mode(DELETE)&_pragma=synchronous(0)")
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	pool.SetMaxOpenConns(1)
	if err := write(pool, did, key, records, bytesEach); err != nil {
		t.Fatal(err)
	}
}

func write(pool *sql.DB, did syntax.DID, key atcrypto.PrivateKey, records, bytesEach int) error {
	tx, err := pool.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, table := range []string{"repo_root", "repo_block", "record", "record_blob", "blob"} {
		if _, err := tx.Exec("DELETE FROM " + table); err != nil {
			return err
		}
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	rev := syntax.NewTIDFromTime(at, 0).String()
	put := func(cid dagcbor.CID, data []byte) error {
		_, err := tx.Exec("INSERT OR IGNORE INTO repo_block (cid, repoRev, size, content) VALUES (?, ?, ?, ?)", cid.String(), rev, len(data), data)
		return err
	}
	b := tree.Builder{Emit: func(row tree.Row) error { return put(row.CID, row.Data) }}
	for n := range records {
		rkey := syntax.NewTIDFromTime(at.Add(time.Duration(n)*time.Second), 0).String()
		value, err := dagcbor.Marshal(map[string]any{
			"$type": "app.bsky.feed.post", "createdAt": reference.FormatTime(at), "text": fmt.Sprint(n, strings.Repeat("x", bytesEach)),
		})
		if err != nil {
			return err
		}
		cid := dagcbor.Sum(dagcbor.CodecDAGCBOR, value)
		path := "app.bsky.feed.post/" + rkey
		if err := errors.Join(put(cid, value), b.Add(path, cid)); err != nil {
			return err
		}
		if _, err := tx.Exec("INSERT INTO record (uri, cid, collection, rkey, repoRev, indexedAt) VALUES (?, ?, 'app.bsky.feed.post', ?, ?, ?)",
			"at://"+did.String()+"/"+path, cid.String(), rkey, rev, reference.FormatTime(at)); err != nil {
			return err
		}
	}
	root, err := b.Root()
	if err != nil {
		return err
	}
	signed, err := repo.Sign(did, key, syntax.TID(rev), root.CID)
	if err != nil {
		return err
	}
	if err := put(signed.Commit.CID, signed.Commit.Data); err != nil {
		return err
	}
	if _, err := tx.Exec("INSERT INTO repo_root (did, cid, rev, indexedAt) VALUES (?, ?, ?, ?)", did.String(), signed.Commit.CID.String(), rev, reference.FormatTime(at)); err != nil {
		return err
	}
	return tx.Commit()
}
