package rows_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/blob"
	"portico/impl/blob/rows"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/record"
)

const alice = syntax.DID("did:plc:tfoc4jg4ai6vr2nbwlmwdzq2")

// A world is a database with one account, and a store.
type world struct {
	*testing.T
	*rows.Blobs
	clock *clock
	store *faulty
}

// A clock goes as the real one does, and can be put forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) Now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// faulty is a store that fails at its nth change, before or after it was carried out.
type faulty struct {
	blob.Store
	left  atomic.Int64 // changes until then; negative: none fails
	after atomic.Bool
}

var errStore = errors.New("the store failed")

func (f *faulty) do(change func() error) error {
	failing := f.left.Add(-1) == 0
	if failing && !f.after.Load() {
		return errStore
	}
	if err := change(); err != nil || !failing {
		return err
	}
	return errStore
}

func (f *faulty) Upload(ctx context.Context, did syntax.DID, r io.Reader, limit int64, declared string) (up blob.Upload, err error) {
	err = f.do(func() error {
		up, err = f.Store.Upload(ctx, did, r, limit, declared)
		return err
	})
	return up, err
}

func (f *faulty) MakePermanent(ctx context.Context, did syntax.DID, key string, cid dagcbor.CID) error {
	return f.do(func() error { return f.Store.MakePermanent(ctx, did, key, cid) })
}

func (f *faulty) Quarantine(ctx context.Context, did syntax.DID, cid dagcbor.CID) error {
	return f.do(func() error { return f.Store.Quarantine(ctx, did, cid) })
}

func (f *faulty) Restore(ctx context.Context, did syntax.DID, cid dagcbor.CID) error {
	return f.do(func() error { return f.Store.Restore(ctx, did, cid) })
}

func (f *faulty) Remove(ctx context.Context, name blob.Name) error {
	return f.do(func() error { return f.Store.Remove(ctx, name) })
}

func newWorld(t *testing.T, d *db.DB, c *clock) *world {
	disk, err := blob.OpenDisk(t.TempDir(), "", blob.Bounds{PerAccount: 100})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, store: &faulty{Store: disk}, clock: c}
	w.Blobs = &rows.Blobs{DB: d, Store: w.store, Now: c.Now, Log: slog.New(slog.DiscardHandler)}
	w.ok(d.Write(t.Context(), func(tx *db.Tx) error {
		return errors.Join(
			tx.ReserveAccount(t.Context(), db.Reservation{
				Account: db.Account{DID: alice, Handle: "alice.test", CreatedAt: time.Now()},
				Key:     db.SigningKey{DID: alice, Purpose: "atproto", Public: "did:key:z", Sealed: []byte("sealed")},
				Genesis: []byte("{}"), Holder: "me", LeaseUntil: time.Now(),
			}),
			tx.FinishAccount(t.Context(), alice, "me"),
			tx.InsertRepo(t.Context(), alice, db.Repo{CommitCID: []byte("c"), CommitBlock: []byte("b"), DataCID: []byte("d")}))
	}))
	t.Cleanup(func() { w.ok(w.Wait(context.Background())) })
	return w
}

func worlds(t *testing.T, test func(w *world)) {
	c := new(clock)
	dbtest.Engines(t, func(t *testing.T, d *db.DB) { test(newWorld(t, d, c)) }, func(config *db.Config) { config.Now = c.Now })
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) is(err, want error) {
	w.Helper()
	if !errors.Is(err, want) {
		w.Errorf("error %v, want %v", err, want)
	}
}

func (w *world) upload(body string) (dagcbor.CID, error) {
	up, err := w.Upload(w.Context(), alice, strings.NewReader(body), 1000, "text/plain")
	return up.CID, err
}

func cidOf(body string) dagcbor.CID { return dagcbor.Sum(dagcbor.CodecRaw, []byte(body)) }

func mention(path, body string) rows.Mention {
	return rows.Mention{Path: path, Blob: record.Blob{CID: cidOf(body).String(), MimeType: "text/plain", Size: int64(len(body))}}
}

// commit does what a write does: it forgets records and stores others.
func (w *world) commit(forget []string, mentions ...rows.Mention) error {
	ctx := context.Background()
	for {
		p, err := w.Prepare(ctx, alice, mentions)
		if err != nil {
			return err
		}
		err = w.DB.Write(ctx, func(tx *db.Tx) error {
			if _, err := tx.LockRepo(ctx, alice); err != nil {
				return err
			}
			return p.Apply(ctx, tx, forget, mentions)
		})
		if errors.Is(err, db.ErrStale) {
			continue
		}
		if err == nil {
			p.Finish(ctx)
		}
		return err
	}
}

// state is the rows and files of the account in words, and what of them does not fit.
func (w *world) state() (all []string) {
	w.Helper()
	w.ok(w.Wait(w.Context()))
	blobs, err := w.DB.Blobs(w.Context(), alice, nil, 1000)
	w.ok(err)
	for _, b := range blobs {
		cid := dagcbor.CID(b.CID)
		name, state := blob.PermanentName(alice, cid), "permanent"
		if b.TempKey != "" {
			name, state = blob.TemporaryName(alice, b.TempKey), "temporary"
		} else if b.TakenDown() {
			name = blob.QuarantineName(alice, cid)
		}
		if b.TakenDown() {
			state += ", taken down"
		}
		r, _, err := w.store.Store.Open(w.Context(), name)
		if errors.Is(err, blob.ErrNotFound) && b.TakenDown() {
			r, _, err = w.store.Store.Open(w.Context(), blob.PermanentName(alice, cid)) // on its way
		}
		if err != nil {
			w.Errorf("a row without bytes: %s: %v", name, err)
			continue
		}
		body, err := io.ReadAll(r)
		w.ok(errors.Join(err, r.Close()))
		if cidOf(string(body)) != cid {
			w.Errorf("%s has other bytes", name)
		}
		all = append(all, string(body)+" "+state)
	}
	slices.Sort(all)
	return all
}

func (w *world) files() (n int) {
	w.ok(w.Wait(w.Context()))
	for _, err := range w.store.Store.Files(w.Context(), "") {
		w.ok(err)
		n++
	}
	return n
}

func (w *world) want(files int, state ...string) {
	w.Helper()
	if got := w.state(); !slices.Equal(got, state) || w.files() != files {
		w.Errorf("%q and %d files, want %q and %d", got, w.files(), state, files)
	}
}

func (w *world) figures(want string) {
	w.Helper()
	r, err := w.DB.Repo(w.Context(), alice)
	w.ok(err)
	if got := fmt.Sprint(r.ExpectedBlobs, " ", r.ImportedBlobs); got != want {
		w.Errorf("figures %s, want %s", got, want)
	}
}

func TestLife(t *testing.T) {
	worlds(t, func(w *world) {
		for range 2 { // an upload takes the place of the one before
			_, err := w.upload("one")
			w.ok(err)
			w.want(1, "one temporary")
		}
		_, _, err := w.Open(w.Context(), alice, cidOf("one"))
		w.is(err, rows.ErrNotFound)
		w.figures("0 1")

		// Mentions that are not right, and one that is.
		wrongType, wrongSize, noCID := mention("p/1", "one"), mention("p/1", "one"), mention("p/1", "one")
		wrongType.MimeType, wrongSize.Size, noCID.CID = "image/png", 4, "bafy"
		w.is(w.commit(nil, mention("p/1", "two")), rows.ErrNotFound)
		w.is(w.commit(nil, wrongType), rows.ErrMIME)
		w.is(w.commit(nil, wrongSize), rows.ErrSize)
		w.is(w.commit(nil, noCID), rows.ErrNotFound)
		w.want(1, "one temporary")
		w.ok(w.commit(nil, mention("p/1", "one")))
		w.want(1, "one permanent")
		w.figures("1 1")
		body, row, err := w.Open(w.Context(), alice, cidOf("one"))
		w.ok(err)
		text, _ := io.ReadAll(body)
		w.ok(body.Close())
		if string(text) != "one" || row.MIME != "text/plain" || row.Size != 3 {
			w.Errorf("%q, %+v", text, row)
		}
		w.ok(w.commit(nil, wrongType)) // no longer compared
		_, err = w.upload("one")
		w.ok(err)
		w.want(1, "one permanent")

		// A second record keeps it when the first goes; an update may move it.
		w.ok(w.commit(nil, mention("p/2", "one")))
		w.ok(w.commit([]string{"p/1"}))
		w.ok(w.commit([]string{"p/2"}, mention("p/2", "one")))
		w.want(1, "one permanent")
		w.figures("1 1")
		w.ok(w.commit([]string{"p/2"}))
		w.want(0)
		w.figures("0 0")
	})
}

func TestImported(t *testing.T) {
	worlds(t, func(w *world) {
		_, err := w.upload("before")
		w.ok(err)
		put := func(body string) error {
			cid := cidOf(body)
			return w.DB.Write(w.Context(), func(tx *db.Tx) error {
				return tx.PutRecordBlobs(w.Context(), alice, []db.RecordBlob{{Path: "p/" + body, CID: cid[:]}})
			})
		}
		w.ok(errors.Join(put("before"), put("after"), w.KeepNamed(w.Context(), alice)))
		w.want(1, "before permanent")
		w.figures("2 1")
		_, err = w.upload("after")
		w.ok(err)
		w.want(2, "after permanent", "before permanent")
		w.figures("2 2")
	})
}

// What an import left that took the mentions of a blob and did not come to its end goes
// with the next one, but not while that is under way.
func TestLeftByAnImport(t *testing.T) {
	worlds(t, func(w *world) {
		for _, body := range []string{"kept", "left"} {
			_, err := w.upload(body)
			w.ok(err)
			w.ok(w.commit(nil, mention("p/"+body, body)))
		}
		write := func(fn func(tx *db.Tx) error) {
			w.Helper()
			w.ok(w.DB.Write(w.Context(), fn))
		}
		write(func(tx *db.Tx) error {
			_, err := tx.DeleteRecordBlobs(w.Context(), alice, []string{"p/left"})
			return errors.Join(err, tx.BeginImport(w.Context(), alice, "mark"))
		})
		w.ok(w.KeepNamed(w.Context(), alice))
		w.want(2, "kept permanent", "left permanent")
		write(func(tx *db.Tx) error { return tx.EndImport(w.Context(), alice) })
		w.ok(w.KeepNamed(w.Context(), alice))
		w.want(1, "kept permanent")
		w.figures("1 1")
	})
}

func TestTakedown(t *testing.T) {
	worlds(t, func(w *world) {
		w.is(w.TakeDown(w.Context(), alice, cidOf("one"), "ref"), rows.ErrNotFound)
		w.is(w.Lift(w.Context(), alice, cidOf("one")), rows.ErrNotFound)
		for _, body := range []string{"one", "two"} {
			_, err := w.upload(body)
			w.ok(err)
		}
		w.ok(w.commit(nil, mention("p/1", "one")))
		for _, body := range []string{"one", "two"} {
			w.ok(w.TakeDown(w.Context(), alice, cidOf(body), "ref"))
			_, _, err := w.Open(w.Context(), alice, cidOf(body))
			w.is(err, rows.ErrNotFound)
			_, err = w.upload(body)
			w.is(err, rows.ErrTakenDown)
			w.is(w.commit(nil, mention("p/2", body)), rows.ErrNotFound)
		}
		w.want(2, "one permanent, taken down", "two temporary, taken down")
		// Whoever deletes the record and writes it again does not undo it.
		w.ok(w.commit([]string{"p/1"}))
		w.want(2, "one permanent, taken down", "two temporary, taken down")
		_, err := w.upload("one")
		w.is(err, rows.ErrTakenDown)
		w.figures("0 2")
		w.ok(errors.Join(w.Lift(w.Context(), alice, cidOf("one")), w.Lift(w.Context(), alice, cidOf("two")), w.Lift(w.Context(), alice, cidOf("two"))))
		w.want(1, "two temporary") // nobody mentions the other one
		w.figures("0 1")
	})
}

func TestQuota(t *testing.T) {
	worlds(t, func(w *world) {
		w.Quota = func() int64 { return 10 }
		_, err := w.upload("12345678")
		w.ok(err)
		w.is(w.Room(w.Context(), alice, 3), rows.ErrQuota)
		w.ok(w.Room(w.Context(), alice, 2))
		_, err = w.upload("123")
		w.is(err, rows.ErrQuota)
		_, err = w.upload("12345678") // takes no more room
		w.ok(err)
		w.want(1, "12345678 temporary")
	})
}

// The store fails at each of its steps in turn, before or after it did what it was asked
// for: whatever is left is tried again, and no row is ever without its bytes. The cleaner
// finds what is spare.
func TestStoreFailsAtEachStep(t *testing.T) {
	worlds(t, func(w *world) {
		story := []func() error{
			func() error { _, err := w.upload("one"); return err },
			func() error { _, err := w.upload("one"); return err },
			func() error { return w.commit(nil, mention("p/1", "one")) },
			func() error { return w.TakeDown(w.Context(), alice, cidOf("one"), "ref") },
			func() error { return w.Lift(w.Context(), alice, cidOf("one")) },
			func() error { _, err := w.upload("two"); return err },
			func() error { return w.commit([]string{"p/1"}, mention("p/2", "two")) },
			func() error { return w.commit([]string{"p/2"}) },
		}
		for _, after := range []bool{false, true} {
			for step := int64(1); ; step++ {
				w.store.after.Store(after)
				w.store.left.Store(step)
				for i, do := range story {
					err := do()
					w.state()
					if err != nil {
						w.is(err, errStore)
						if err := do(); err != nil {
							w.Fatalf("step %d, part %d again: %v", step, i, err)
						}
						w.state()
					}
				}
				w.ok(w.Wait(w.Context()))
				reached := w.store.left.Load() <= 0
				w.store.left.Store(-1)
				w.clock.ahead.Add(int64(48 * time.Hour))
				_, err := w.Cleaner().Run(w.Context())
				w.ok(err)
				w.want(0)
				w.figures("0 0")
				if !reached {
					if step < 10 {
						w.Errorf("only %d steps", step)
					}
					break
				}
			}
		}
	})
}

// Uploads, records, deletions and the cleaner at once over few blobs: whenever a row says
// permanent, the bytes are there; and afterwards figures, rows and files agree.
func TestRaceOfUploadsAndRecords(t *testing.T) {
	worlds(t, func(w *world) {
		bodies := []string{"one", "two", "three"}
		rounds := 10
		var all sync.WaitGroup
		for client := range 3 {
			all.Go(func() {
				for n := range rounds {
					body := bodies[rand.IntN(len(bodies))]
					if _, err := w.upload(body); err != nil {
						w.Errorf("upload: %v", err)
					}
					path := fmt.Sprintf("p/%d", client)
					if err := w.commit([]string{path}, mention(path, body)); err != nil && !errors.Is(err, rows.ErrNotFound) {
						w.Errorf("commit: %v", err)
					}
					if n%3 == 2 {
						if err := w.commit([]string{path}); err != nil {
							w.Errorf("delete: %v", err)
						}
					}
				}
			})
		}
		all.Go(func() {
			cleaner := w.Cleaner()
			for range rounds {
				for f, err := range w.store.Store.Files(w.Context(), "") {
					if err != nil {
						w.Error(err)
						return
					}
					if f.Name.Area == blob.Permanent {
						if err := cleaner.Discard(w.Context(), alice, must(dagcbor.ParseCID(f.Name.Key))); err != nil {
							w.Errorf("discard: %v", err)
						}
					}
				}
			}
		})
		all.Wait()
		state := w.state()
		w.ok(w.DB.Write(w.Context(), func(tx *db.Tx) error {
			before, err := tx.Repo(w.Context(), alice)
			if err != nil {
				return err
			}
			if err := tx.RecountBlobs(w.Context(), alice); err != nil {
				return err
			}
			after, err := tx.Repo(w.Context(), alice)
			if err == nil && (before.ExpectedBlobs != after.ExpectedBlobs || before.ImportedBlobs != after.ImportedBlobs) {
				w.Errorf("figures %+v, counted anew %+v", before, after)
			}
			return err
		}))
		w.clock.ahead.Add(int64(2 * time.Hour))
		_, err := w.Cleaner().Run(w.Context())
		w.ok(err)
		if w.files() != len(state) {
			w.Errorf("%d files for %q", w.files(), state)
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestVerify(t *testing.T) {
	worlds(t, func(w *world) {
		for _, body := range []string{"one", "two", "taken"} {
			_, err := w.upload(body)
			w.ok(err)
		}
		w.ok(w.commit(nil, mention("p/1", "one"), mention("p/1", "taken")))
		w.ok(w.TakeDown(w.Context(), alice, cidOf("taken"), "ref"))
		verify := func(body string, want error) {
			w.Helper()
			cid := cidOf(body)
			row, err := w.DB.Blob(w.Context(), alice, cid[:])
			w.ok(err)
			w.is(w.Verify(w.Context(), alice, row), want)
			if want == nil {
				row.Size++
				w.is(w.Verify(w.Context(), alice, row), rows.ErrOtherBytes)
			}
		}
		verify("one", nil)
		verify("two", nil)
		verify("taken", nil)
		w.ok(w.store.Store.RemoveAccount(w.Context(), alice))
		verify("one", rows.ErrNoBytes)
		verify("two", rows.ErrNoBytes)
		verify("taken", rows.ErrNoBytes)
	})
}
