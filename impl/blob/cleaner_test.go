package blob_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/blob"
	"portico/impl/blob/blobtest"
	"portico/impl/repo/dagcbor"
)

// rows are those of a database: each method is a transaction.
type rows struct {
	mu      sync.Mutex
	blobs   map[blob.Name]row // by the permanent name
	claimed map[blob.Name]bool
}

type row struct {
	key     string // of the temporary file; empty once permanent
	created time.Time
}

func newRows() *rows {
	return &rows{blobs: make(map[blob.Name]row), claimed: make(map[blob.Name]bool)}
}

// insert is what an upload does; false is "come again".
func (r *rows) insert(did syntax.DID, up blob.Upload, now time.Time) (replaced string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := blob.PermanentName(did, up.CID)
	if r.claimed[name] {
		return "", false
	}
	had, found := r.blobs[name]
	switch {
	case !found:
		r.blobs[name] = row{key: up.Key, created: now}
		return "", true
	case had.key == "":
		return up.Key, true
	}
	r.blobs[name] = row{key: up.Key, created: had.created}
	return had.key, true
}

func (r *rows) get(name blob.Name) (row, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	have, ok := r.blobs[name]
	return have, ok
}

// commit makes a blob permanent, if its row still has that key.
func (r *rows) commit(name blob.Name, key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	have, ok := r.blobs[name]
	if !ok || have.key != key {
		return false
	}
	r.blobs[name] = row{created: have.created}
	return true
}

func (r *rows) remove(name blob.Name) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.blobs, name)
}

func (r *rows) Expire(_ context.Context, before time.Time, limit int) ([]blob.Name, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []blob.Name
	for name, have := range r.blobs {
		if have.key != "" && have.created.Before(before) && len(names) < limit {
			names = append(names, blob.TemporaryName(name.DID, have.key))
			delete(r.blobs, name)
		}
	}
	return names, nil
}

func (r *rows) Unnamed(_ context.Context, names []blob.Name) ([]blob.Name, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := make(map[blob.Name]bool)
	for name, have := range r.blobs {
		keys[blob.TemporaryName(name.DID, have.key)] = true
	}
	return slices.DeleteFunc(slices.Clone(names), func(n blob.Name) bool {
		if n.Area == blob.Temporary {
			return keys[n]
		}
		n.Area = blob.Permanent
		_, ok := r.blobs[n]
		return ok
	}), nil
}

func (r *rows) Claim(_ context.Context, did syntax.DID, cid dagcbor.CID) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := blob.PermanentName(did, cid)
	if _, ok := r.blobs[name]; ok || r.claimed[name] {
		return false, nil
	}
	r.claimed[name] = true
	return true, nil
}

func (r *rows) Release(_ context.Context, did syntax.DID, cid dagcbor.CID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.claimed, blob.PermanentName(did, cid))
	return nil
}

func TestCleaner(t *testing.T) {
	for _, store := range []string{"disk", "S3"} {
		t.Run(store, func(t *testing.T) { testCleaner(t, store) })
	}
}

// DESIGN §10, "blobs": temporary ones that nothing references go after a day.
func testCleaner(t *testing.T, kind string) {
	var s blob.Store
	var parts func() // leaves a copy half done
	var left func() []string
	if kind == "disk" {
		d, root := openDisk(t, blob.Bounds{})
		s = d
		parts = func() { leave(t, root, "partial/"+alice.String()+"/"+strings.Repeat("p", 52), "half") }
		left = func() []string { return nil }
	} else {
		server := blobtest.StartS3(t)
		s = openS3(t, s3Config(t, server))
		parts = func() { server.BeginParts("tmp/" + alice.String() + "/" + strings.Repeat("p", 52)) }
		left = func() []string { return make([]string, server.UnderWay()) }
	}
	r := newRows()
	start := time.Now()
	at := func(body string) blob.Upload {
		up, err := s.Upload(t.Context(), alice, strings.NewReader(body), 100, "a/b")
		if err != nil {
			t.Fatal(err)
		}
		return up
	}
	keep := func(up blob.Upload) {
		if err := s.MakePermanent(t.Context(), alice, up.Key, up.CID); err != nil {
			t.Fatal(err)
		}
	}
	// A row for each: kept, waiting, and taken down; and files without a row.
	kept, waits, down := at("kept"), at("waits"), at("down")
	for _, up := range []blob.Upload{kept, waits, down} {
		r.insert(alice, up, start)
	}
	keep(kept)
	keep(down)
	r.commit(blob.PermanentName(alice, kept.CID), kept.Key)
	r.commit(blob.PermanentName(alice, down.CID), down.Key)
	if err := s.Quarantine(t.Context(), alice, down.CID); err != nil {
		t.Fatal(err)
	}
	at("no row")
	lost := at("lost")
	keep(lost)
	gone := at("gone")
	keep(gone)
	if err := s.Quarantine(t.Context(), alice, gone.CID); err != nil {
		t.Fatal(err)
	}
	parts()
	files := func() map[blob.Name]bool {
		m := make(map[blob.Name]bool)
		for f, err := range s.Files(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			m[f.Name] = true
		}
		return m
	}
	now := start
	cleaner := &blob.Cleaner{Store: s, Rows: r, Now: func() time.Time { return now }}
	run := func(want blob.Report) {
		t.Helper()
		got, err := cleaner.Run(t.Context())
		if got != want || err != nil {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
	before := len(files())
	run(blob.Report{})
	now = start.Add(50 * time.Minute)
	run(blob.Report{})
	if n := len(files()); n != before {
		t.Errorf("young files were removed: %d of %d are left", n, before)
	}
	// With rows of before the uploads nobody knows whether others have theirs.
	now, cleaner.Known = start.Add(2*time.Hour), start
	run(blob.Report{})
	if n := len(files()); n != before {
		t.Errorf("files that are newer than the rows were removed: %d of %d are left", n, before)
	}
	cleaner.Known = start.Add(90 * time.Minute)
	// Five temporary files that no row has the key of, one permanent and one in quarantine, half a copy.
	bytes := int64(len("kept" + "down" + "lost" + "no row" + "gone" + "lost" + "gone"))
	if kind == "disk" {
		bytes += int64(len("half"))
	}
	run(blob.Report{Spare: 8, Bytes: bytes})
	want := map[blob.Name]bool{
		blob.PermanentName(alice, kept.CID):  true,
		blob.TemporaryName(alice, waits.Key): true,
		blob.QuarantineName(alice, down.CID): true,
	}
	if got := files(); !maps.Equal(got, want) || len(left()) != 0 {
		t.Errorf("files: %v, want %v; %d uploads in parts", got, want, len(left()))
	}
	run(blob.Report{})
	now = start.Add(25 * time.Hour)
	run(blob.Report{Expired: 1})
	delete(want, blob.TemporaryName(alice, waits.Key))
	if got := files(); !maps.Equal(got, want) {
		t.Errorf("files after a day: %v, want %v", got, want)
	}
}

// A record is deleted: its blob's file goes, unless a row came to be again meanwhile.
func TestDiscard(t *testing.T) {
	d, _ := openDisk(t, blob.Bounds{})
	r := newRows()
	cleaner := &blob.Cleaner{Store: d, Rows: r, Now: time.Now}
	up, err := d.Upload(t.Context(), alice, strings.NewReader("x"), 100, "a/b")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.MakePermanent(t.Context(), alice, up.Key, up.CID); err != nil {
		t.Fatal(err)
	}
	name := blob.PermanentName(alice, up.CID)
	r.insert(alice, up, time.Now())
	if err := cleaner.Discard(t.Context(), alice, up.CID); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Stat(t.Context(), name); err != nil {
		t.Errorf("with a row: %v", err)
	}
	r.remove(name)
	// A store that fails keeps the claim: what it was asked for may still come.
	broken := errors.New("input/output error")
	d.OnStep(func(step, _ string) error {
		if step == "remove" {
			return broken
		}
		return nil
	})
	if err := cleaner.Discard(t.Context(), alice, up.CID); !errors.Is(err, broken) {
		t.Errorf("error: %v", err)
	}
	if _, ok := r.insert(alice, up, time.Now()); ok {
		t.Error("a row came to be while the file may be going")
	}
	d.OnStep(func(string, string) error { return nil })
	if err := r.Release(t.Context(), alice, up.CID); err != nil { // it lapses
		t.Fatal(err)
	}
	if err := cleaner.Discard(t.Context(), alice, up.CID); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Stat(t.Context(), name); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("without a row: %v", err)
	}
	if _, ok := r.insert(alice, up, time.Now()); !ok {
		t.Error("the claim was not released")
	}
}

// Uploads, records, deletions and the cleaner, all at once over few blobs: whenever a row
// says permanent, the bytes are there.
func TestNeverARowWithoutBytes(t *testing.T) {
	d, _ := openDisk(t, blob.Bounds{PerAccount: 100})
	// The steps of the store are where others come in between.
	d.OnStep(func(string, string) error {
		if rand.IntN(3) == 0 {
			time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
		}
		return nil
	})
	r := newRows()
	cleaner := &blob.Cleaner{Store: d, Rows: r, Now: time.Now}
	bodies := []string{"one", "two", "three"}
	const rounds = 150
	var all sync.WaitGroup
	ctx := context.Background()
	must := func(err error) {
		if err != nil {
			t.Error(err)
		}
	}
	verify := func(name blob.Name) {
		r.mu.Lock() // rows stand still
		defer r.mu.Unlock()
		if have, ok := r.blobs[name]; ok {
			if have.key != "" {
				name = blob.TemporaryName(name.DID, have.key)
			}
			if _, err := d.Stat(ctx, name); err != nil {
				t.Errorf("a row without bytes: %s: %v", name, err)
			}
		}
	}
	for range 3 {
		all.Go(func() { // clients that upload and write records
			for range rounds {
				up, err := d.Upload(ctx, alice, strings.NewReader(bodies[rand.IntN(len(bodies))]), 100, "a/b")
				must(err)
				name := blob.PermanentName(alice, up.CID)
				replaced, ok := r.insert(alice, up, time.Now())
				for !ok {
					replaced, ok = r.insert(alice, up, time.Now())
				}
				if replaced != "" {
					must(d.Remove(ctx, blob.TemporaryName(alice, replaced)))
				}
				for {
					have, ok := r.get(name)
					if !ok || have.key == "" {
						break // deleted, or permanent already
					}
					err := d.MakePermanent(ctx, alice, have.key, up.CID)
					if errors.Is(err, blob.ErrNotFound) {
						continue // another upload took the key's place
					}
					must(err)
					if r.commit(name, have.key) {
						verify(name)
						must(d.Remove(ctx, blob.TemporaryName(alice, have.key)))
						break
					}
				}
				verify(name)
			}
		})
	}
	for range 2 {
		all.Go(func() { // records are deleted
			for range rounds {
				cid := dagcbor.Sum(dagcbor.CodecRaw, []byte(bodies[rand.IntN(len(bodies))]))
				r.remove(blob.PermanentName(alice, cid))
				must(cleaner.Discard(ctx, alice, cid))
				verify(blob.PermanentName(alice, cid))
			}
		})
	}
	all.Go(func() { // the cleaner, which finds the permanent files old enough
		for range rounds {
			for f, err := range d.Files(ctx, "") {
				must(err)
				if f.Name.Area == blob.Permanent {
					cid, err := dagcbor.ParseCID(f.Name.Key)
					must(err)
					must(cleaner.Discard(ctx, alice, cid))
				}
			}
		}
	})
	all.Wait()
	for name := range r.blobs {
		verify(name)
	}
	// What is left over is found.
	cleaner.Now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	if _, err := cleaner.Run(ctx); err != nil {
		t.Error(err)
	}
	n := 0
	for _, err := range d.Files(ctx, "") {
		must(err)
		n++
	}
	if n != len(r.blobs) {
		t.Errorf("%d files for %d rows", n, len(r.blobs))
	}
}
