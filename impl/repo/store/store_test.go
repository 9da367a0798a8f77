package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"github.com/bluesky-social/indigo/atproto/atcrypto"
	indigorepo "github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-cmp/cmp"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/repo"
	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/event"
	"portico/impl/repo/store"
	"portico/impl/repo/tree"
)

const (
	somebody = syntax.DID("did:plc:tfoc4jg4ai6vr2nbwlmwdzq2")
	nobody   = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// A repository is one in a database, beside a model of it.
type repository struct {
	*testing.T
	db      *db.DB
	key     atcrypto.PrivateKey
	cache   *tree.Cache
	records map[string]dagcbor.CID
	revs    map[dagcbor.CID]string // by nodes, that of the commit which made them
}

// repositories runs a test with a new repository on each engine.
func repositories(t *testing.T, test func(t *testing.T, r *repository)) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		key, err := atcrypto.GeneratePrivateKeyK256()
		if err != nil {
			t.Fatal(err)
		}
		r := &repository{T: t, db: d, key: key, records: make(map[string]dagcbor.CID), revs: make(map[dagcbor.CID]string)}
		genesis, err := repo.Genesis(somebody, key, noon)
		r.check(err)
		r.check(d.Write(t.Context(), func(tx *db.Tx) error {
			account := db.Account{DID: somebody, Handle: "alice.test", CreatedAt: noon}
			signing := db.SigningKey{DID: somebody, Purpose: "atproto", Public: "did:key:z", Sealed: []byte("sealed")}
			return errors.Join(
				tx.ReserveAccount(t.Context(), db.Reservation{Account: account, Key: signing, Genesis: []byte("{}"), Holder: "me", LeaseUntil: noon}),
				tx.FinishAccount(t.Context(), somebody, "me"),
				store.Create(t.Context(), tx, somebody, genesis))
		}))
		r.matches()
		test(t, r)
	})
}

func (r *repository) check(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *repository) row() *db.Repo {
	r.Helper()
	row, err := r.db.Repo(r.Context(), somebody)
	r.check(err)
	return row
}

// commit applies writes and returns the event, which has to be one that indigo inverts.
func (r *repository) commit(writes ...tree.Write) *event.Commit {
	r.Helper()
	before, records := r.row(), maps.Clone(r.records)
	for _, w := range writes {
		if w.Action == tree.Delete {
			delete(r.records, w.Path)
		} else {
			r.records[w.Path] = w.Record.CID
		}
	}
	var said *event.Commit
	r.check(r.db.Write(r.Context(), func(tx *db.Tx) (err error) {
		said, err = store.Commit(r.Context(), tx, somebody, r.key, noon, r.cache, writes)
		return err
	}))
	if maps.Equal(records, r.records) {
		if diff := cmp.Diff(before, r.row()); said != nil || diff != "" {
			r.Fatalf("%v, which is nothing, is %+v\n%s", writes, said, diff)
		}
		return nil
	}
	row := r.row()
	if said.Commit != store.CID(row.CommitCID) || said.Rev.String() != row.Rev || said.Since.String() != before.Rev ||
		said.PrevData != store.CID(before.DataCID) || row.Rev <= before.Rev {
		r.Fatalf("said %+v\nof %+v\nafter %+v", said, row, before)
	}
	frame, err := event.Frame(said.Event(), 1, noon)
	r.check(err)
	var m comatproto.SyncSubscribeRepos_Commit
	r.check(m.UnmarshalCBOR(bytes.NewReader(frame[15:])))
	if _, err := indigorepo.VerifyCommitMessage(r.Context(), &m); err != nil {
		r.Fatalf("indigo does not take %+v: %v", said.Ops, err)
	}
	return said
}

// matches compares all that is stored with a tree that is built afresh.
func (r *repository) matches() {
	r.Helper()
	want := make(map[db.Place]dagcbor.CID)
	b := tree.Builder{Emit: func(row tree.Row) error {
		want[db.Place(row.Place)] = row.CID
		return nil
	}}
	for _, path := range slices.Sorted(maps.Keys(r.records)) {
		r.check(b.Add(path, r.records[path]))
	}
	root, err := b.Root()
	r.check(err)

	row := r.row()
	if store.Root(row) != root || row.Records != len(r.records) || row.Nodes != len(want) {
		r.Fatalf("%d records: %+v\nwant root %v and %d nodes", len(r.records), row, root, len(want))
	}
	nodes, err := r.db.Nodes(r.Context(), somebody, nil, 10_000)
	r.check(err)
	got, data := make(map[db.Place]dagcbor.CID), make(map[tree.Place][]byte)
	for _, n := range nodes {
		name := store.CID(n.CID)
		got[n.Place()], data[tree.Place(n.Place())] = name, n.Data
		// What only moves keeps the rev of the commit that made it.
		if r.revs[name] == "" {
			r.revs[name] = row.Rev
		}
		if r.revs[name] != n.Rev {
			r.Fatalf("node %s is of rev %s, not %s", name, n.Rev, r.revs[name])
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		r.Fatalf("%d records: nodes (-want +got):\n%s", len(r.records), diff)
	}
	maps.DeleteFunc(r.revs, func(name dagcbor.CID, _ string) bool { return !slices.Contains(slices.Collect(maps.Values(got)), name) })
	// The stored data, against the names.
	count, records, err := tree.Verify(r.Context(), root, func(_ context.Context, place tree.Place, _ dagcbor.CID) ([]byte, error) {
		return data[place], nil
	}, func(func(tree.Record, error) bool) {}, func(p tree.Problem) error {
		if !errors.Is(p.Err, tree.ErrNoRecord) || r.records[p.Path] == (dagcbor.CID{}) {
			r.Errorf("problem: %+v", p)
		}
		return nil
	})
	if err != nil || count != len(want) || records != len(r.records) {
		r.Fatalf("verified %d nodes, %d records: %v", count, records, err)
	}

	commit, err := store.LastCommit(row)
	r.check(err)
	parsed, err := repo.ParseCommit(commit.Data)
	r.check(err)
	public, err := r.key.PublicKey()
	r.check(err)
	if err := parsed.Verify(public); err != nil || parsed.Data != root.CID || parsed.Rev.String() != row.Rev || parsed.DID != somebody {
		r.Fatalf("commit %+v, %v", parsed, err)
	}
}

func newRecord(text string) car.Block {
	data, err := dagcbor.Marshal(map[string]any{"text": text})
	if err != nil {
		panic(err)
	}
	return car.Block{CID: dagcbor.Sum(dagcbor.CodecDAGCBOR, data), Data: data}
}

func create(paths ...string) (writes []tree.Write) {
	for _, path := range paths {
		writes = append(writes, tree.Write{Action: tree.Create, Path: path, Record: newRecord(path)})
	}
	return writes
}

// Five hundred random writes through the database: indigo inverts each commit, and what is
// stored is the tree built afresh, with no node missing and none stale.
func TestRandomWrites(t *testing.T) {
	repositories(t, func(t *testing.T, r *repository) {
		random := rand.New(rand.NewPCG(1, 2))
		var pool []string
		for len(pool) < 150 {
			path := fmt.Sprintf("com.example.%c/%06d", 'a'+rune(random.IntN(3)), random.IntN(1_000_000))
			if tree.Layer(path) != 1 || len(pool)%2 == 0 { // some layers are skipped
				pool = append(pool, path)
			}
		}
		for done, n := 0, 0; done < 500; n++ {
			r.cache = nil
			if n%2 == 0 {
				r.cache = tree.NewCache(20_000)
			}
			now := maps.Clone(r.records)
			deletions := []int{10, 50, 90}[n/10%3]
			var writes []tree.Write
			for range 1 + random.IntN(12) {
				w := tree.Write{Path: pool[random.IntN(len(pool))], Record: newRecord(fmt.Sprint(random.IntN(3)))}
				_, exists := now[w.Path]
				switch {
				case !exists:
					w.Action = tree.Create
				case random.IntN(100) < deletions:
					w.Action, w.Record = tree.Delete, car.Block{}
					delete(now, w.Path)
				default:
					w.Action = tree.Update
				}
				if w.Action != tree.Delete {
					now[w.Path] = w.Record.CID
				}
				writes = append(writes, w)
			}
			done += len(writes)
			r.commit(writes...)
			r.matches()
		}
		// All of it, and then one low key: the tree begins anew.
		var all []tree.Write
		for path := range r.records {
			all = append(all, tree.Write{Action: tree.Delete, Path: path})
		}
		r.commit(all...)
		r.matches()
		r.commit(create(pool[0])...)
		r.matches()
		r.commit()
	})
}

// A commit that leaves none of the records before is one that indigo inverts, in whatever
// order it was written.
func TestReplacedRecords(t *testing.T) {
	repositories(t, func(t *testing.T, r *repository) {
		random := rand.New(rand.NewPCG(3, 4))
		for n := range 150 {
			var writes []tree.Write
			for path := range r.records {
				writes = append(writes, tree.Write{Action: tree.Delete, Path: path})
			}
			for i := range 1 + random.IntN(2) {
				writes = append(writes, create(fmt.Sprintf("com.example.%c/%d-%d-%d", 'a'+rune(random.IntN(3)), n, i, random.IntN(1000)))...)
			}
			if n%2 == 0 {
				random.Shuffle(len(writes), func(i, j int) { writes[i], writes[j] = writes[j], writes[i] })
			}
			r.commit(writes...)
			r.matches()
		}
	})
}

// What fails leaves the repository as it was.
func TestRefusedWrites(t *testing.T) {
	repositories(t, func(t *testing.T, r *repository) {
		r.commit(create("com.example.a/1")...)
		before := r.row()
		for _, tt := range []struct {
			name   string
			did    syntax.DID
			writes []tree.Write
			want   error
		}{
			{"no repository", nobody, create("com.example.a/2"), db.ErrNotFound},
			{"there already", somebody, create("com.example.a/2", "com.example.a/1"), tree.ErrExists},
			{"not there", somebody, []tree.Write{{Action: tree.Delete, Path: "com.example.a/3"}}, tree.ErrNotFound},
			{"no path", somebody, create("com.example.a"), tree.ErrPath},
		} {
			err := r.db.Write(t.Context(), func(tx *db.Tx) error {
				_, err := store.Commit(t.Context(), tx, tt.did, r.key, noon, nil, tt.writes)
				return err
			})
			if !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
			}
		}
		if diff := cmp.Diff(before, r.row()); diff != "" {
			t.Errorf("the repository changed:\n%s", diff)
		}
		r.matches()
		// A node that is missing is not made up for.
		r.check(r.db.Write(t.Context(), func(tx *db.Tx) error { return tx.DeleteNodes(t.Context(), somebody) }))
		err := r.db.Write(t.Context(), func(tx *db.Tx) error {
			_, err := store.Commit(t.Context(), tx, somebody, r.key, noon, nil, create("com.example.a/2"))
			return err
		})
		if !errors.Is(err, tree.ErrMissing) {
			t.Errorf("without a tree: %v", err)
		}
	})
}

// Who writes to one repository at the same time comes one after the other, and nobody's
// write is lost.
func TestWritersAtOnce(t *testing.T) {
	repositories(t, func(t *testing.T, r *repository) {
		var all sync.WaitGroup
		for n := range 16 {
			path := fmt.Sprint("com.example.a/", n)
			r.records[path] = newRecord(path).CID
			all.Go(func() {
				err := r.db.Write(t.Context(), func(tx *db.Tx) error {
					_, err := store.Commit(t.Context(), tx, somebody, r.key, noon, nil, create(path))
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		r.revs = make(map[dagcbor.CID]string)
		nodes, err := r.db.Nodes(t.Context(), somebody, nil, 100)
		r.check(err)
		for _, n := range nodes {
			r.revs[store.CID(n.CID)] = n.Rev
		}
		r.matches()
	})
}

// Another signature over the same tree, and another row over what is stored.
func TestSignAnewAndReplace(t *testing.T) {
	repositories(t, func(t *testing.T, r *repository) {
		var paths []string
		for n := range 40 {
			paths = append(paths, fmt.Sprint("com.example.a/", n))
		}
		r.commit(create(paths...)...)
		r.matches()
		before := r.row()
		var err error
		r.key, err = atcrypto.GeneratePrivateKeyK256()
		r.check(err)
		r.check(r.db.Write(t.Context(), func(tx *db.Tx) error {
			row, err := tx.LockRepo(t.Context(), somebody)
			r.check(err)
			signed, err := store.SignAnew(t.Context(), tx, somebody, row, r.key, noon)
			if err == nil && signed.Commit.CID != store.CID(row.CommitCID) {
				t.Errorf("signed %s, the row has %x", signed.Commit.CID, row.CommitCID)
			}
			return err
		}))
		r.matches()
		if r.row().Rev <= before.Rev {
			t.Errorf("rev %s after %s", r.row().Rev, before.Rev)
		}

		// From the nodes alone.
		spare := db.Node{Low: "com.example.b/1", Layer: 100, CID: before.CommitCID, Rev: "x", Data: []byte("x")}
		r.check(r.db.Write(t.Context(), func(tx *db.Tx) error {
			return errors.Join(tx.DeleteRepo(t.Context(), somebody), tx.PutNode(t.Context(), somebody, spare))
		}))
		top, err := store.Top(t.Context(), r.db, somebody)
		r.check(err)
		found, err := store.Walk(t.Context(), r.db, somebody, top, tree.Visitor{})
		r.check(err)
		want := store.Contents{Root: store.Root(before), Nodes: before.Nodes, Records: 40, Spare: []db.Place{spare.Place()}}
		if diff := cmp.Diff(want, found); diff != "" {
			t.Errorf("walk (-want +got):\n%s", diff)
		}
		replace := func(c store.Contents) {
			t.Helper()
			r.check(r.db.Write(t.Context(), func(tx *db.Tx) error {
				_, err := store.Replace(t.Context(), tx, somebody, r.key, noon, syntax.TID(before.Rev), c)
				return err
			}))
			r.matches()
		}
		replace(found)
		clear(r.records)
		clear(r.revs)
		replace(store.Contents{Root: tree.Empty})
		if _, err := store.Top(t.Context(), r.db, nobody); !errors.Is(err, db.ErrNotFound) {
			t.Errorf("top of nothing: %v", err)
		}
	})
}

// A walk reads more than one page, and finds what is missing where it is.
func TestWalk(t *testing.T) {
	repositories(t, func(t *testing.T, r *repository) {
		for batch := range 20 {
			var paths []string
			for n := range 200 {
				paths = append(paths, fmt.Sprintf("com.example.a/%d-%d", batch, n))
			}
			r.commit(create(paths...)...)
			r.matches()
		}
		row := r.row()
		var last string
		found, err := store.Walk(t.Context(), r.db, somebody, store.Root(row), tree.Visitor{Record: func(path string, name dagcbor.CID) error {
			if path <= last || r.records[path] != name {
				t.Errorf("%s is %s, after %s", path, name, last)
			}
			last = path
			return nil
		}})
		r.check(err)
		if found.Nodes != row.Nodes || found.Records != 4000 || found.Spare != nil || found.Nodes < 1000 {
			t.Errorf("found %+v, counted %+v", found, row)
		}
		all, err := r.db.Nodes(t.Context(), somebody, nil, 10_000)
		r.check(err)
		gone := all[700].Place()
		r.check(r.db.Write(t.Context(), func(tx *db.Tx) error { return tx.DeleteNode(t.Context(), somebody, gone) }))
		var faults []tree.Place
		_, err = store.Walk(t.Context(), r.db, somebody, store.Root(row), tree.Visitor{Fault: func(place tree.Place, _ string, err error) error {
			if !errors.Is(err, tree.ErrMissing) {
				t.Error(err)
			}
			faults = append(faults, place)
			return nil
		}})
		r.check(err)
		if diff := cmp.Diff([]tree.Place{tree.Place(gone)}, faults); diff != "" {
			t.Errorf("faults (-want +got):\n%s", diff)
		}
	})
}

func BenchmarkCommit(b *testing.B) {
	for _, records := range []int{1000, 100_000} {
		b.Run(fmt.Sprint(records, " records"), func(b *testing.B) { benchmarkCommit(b, records) })
	}
}

func benchmarkCommit(b *testing.B, records int) {
	d := dbtest.Open(b)
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		b.Fatal(err)
	}
	genesis, err := repo.Genesis(somebody, key, noon)
	if err != nil {
		b.Fatal(err)
	}
	cache, n := tree.NewCache(16<<20), 0
	next := func() string {
		n++
		return "app.bsky.feed.post/" + syntax.NewTIDFromTime(noon.Add(time.Duration(n)*time.Second), 0).String()
	}
	write := func(count int) {
		var writes []tree.Write
		for range count {
			writes = append(writes, create(next())...)
		}
		err := d.Write(b.Context(), func(tx *db.Tx) error {
			_, err := store.Commit(b.Context(), tx, somebody, key, noon, cache, writes)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	err = d.Write(b.Context(), func(tx *db.Tx) error {
		account := db.Account{DID: somebody, Handle: "alice.test", CreatedAt: noon}
		signing := db.SigningKey{DID: somebody, Purpose: "atproto", Public: "did:key:z", Sealed: []byte("sealed")}
		return errors.Join(
			tx.ReserveAccount(b.Context(), db.Reservation{Account: account, Key: signing, Genesis: []byte("{}"), Holder: "me", LeaseUntil: noon}),
			tx.FinishAccount(b.Context(), somebody, "me"),
			store.Create(b.Context(), tx, somebody, genesis))
	})
	if err != nil {
		b.Fatal(err)
	}
	for range records / 1000 {
		write(1000)
	}
	b.ReportAllocs()
	for b.Loop() {
		write(1)
	}
}
