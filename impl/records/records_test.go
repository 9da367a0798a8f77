package records_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/keyring"
	"portico/impl/records"
	"portico/impl/repo"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/record"
	"portico/impl/repo/store"
	"portico/impl/repo/tree"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func did(n int) syntax.DID { return syntax.DID(fmt.Sprintf("did:plc:aaaaaaaaaaaaaaaaaaaaa%03d", n)) }

// newWriter returns one for some accounts.
func newWriter(t testing.TB, d *db.DB, accounts int) *records.Writer {
	t.Helper()
	keys, err := keyring.New(rand.Reader, make([]byte, 32))
	check(t, err)
	canary, err := keys.NewCanary()
	check(t, err)
	check(t, keys.Unlock(canary))
	for n := range accounts {
		key, err := keyring.NewKey(rand.Reader)
		check(t, err)
		sealed, err := keys.Seal(keyring.Repository, did(n).String(), key.Bytes())
		check(t, err)
		genesis, err := repo.Genesis(did(n), key, noon)
		check(t, err)
		check(t, d.Write(t.Context(), func(tx *db.Tx) error {
			account := db.Account{DID: did(n), Handle: syntax.Handle(fmt.Sprintf("user%d.test", n)), CreatedAt: noon}
			signing := db.SigningKey{DID: did(n), Purpose: keyring.Repository, Public: "did:key:z", Sealed: sealed}
			return errors.Join(
				tx.ReserveAccount(t.Context(), db.Reservation{Account: account, Key: signing, Genesis: []byte("{}"), Holder: "me", LeaseUntil: noon}),
				tx.FinishAccount(t.Context(), did(n), "me"),
				store.Create(t.Context(), tx, did(n), genesis))
		}))
	}
	return &records.Writer{DB: d, Keys: keys, Cache: tree.NewCache(1 << 20), Now: func() time.Time { return noon }}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t testing.TB, key string) records.Write {
	value, err := dagcbor.Marshal(map[string]any{"key": key})
	check(t, err)
	r, err := record.Read("com.example.x", value)
	check(t, err)
	return records.Write{Action: records.Create, Collection: "com.example.x", Key: syntax.RecordKey(key), Record: r}
}

// Who writes at the same time, also to one repository, and through more than one process,
// finds all of it there: each commit follows the one before.
func TestWritersAtOnce(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		const accounts, writers, each = 3, 4, 5
		w := newWriter(t, d, accounts)
		other := &records.Writer{DB: d, Keys: w.Keys, Now: w.Now} // of a process that shares the database
		var all sync.WaitGroup
		for n := range accounts * writers {
			by := w
			if n%2 == 1 {
				by = other
			}
			all.Go(func() {
				for i := range each {
					if _, err := by.Write(t.Context(), did(n%accounts), nil, create(t, fmt.Sprintf("%02d-%d", n, i))); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		events, err := d.Events(t.Context(), 0, 1000)
		check(t, err)
		if len(events) != accounts*writers*each {
			t.Errorf("%d events", len(events))
		}
		for n := range accounts {
			row, err := d.Repo(t.Context(), did(n))
			check(t, err)
			page, err := d.Records(t.Context(), did(n), db.RecordRange{Limit: 1000})
			check(t, err)
			revs := make(map[string]bool)
			for _, r := range page {
				revs[r.Rev] = true
			}
			if row.Records != writers*each || len(page) != writers*each || len(revs) != writers*each {
				t.Errorf("%s: counted %d, %d records of %d revs", did(n), row.Records, len(page), len(revs))
			}
			b := tree.Builder{Emit: func(tree.Row) error { return nil }}
			for _, r := range page {
				check(t, b.Add(r.Path, store.CID(r.CID)))
			}
			if root, err := b.Root(); err != nil || root != store.Root(row) {
				t.Errorf("%s: root %v, built afresh %v, %v", did(n), store.Root(row), root, err)
			}
		}
	})
}

// Of writes under the same condition one is done.
func TestSwapsAtOnce(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		w := newWriter(t, d, 1)
		row, err := d.Repo(t.Context(), did(0))
		check(t, err)
		at := store.CID(row.CommitCID).String()
		var mu sync.Mutex
		outcomes := make(map[bool]int)
		var all sync.WaitGroup
		for n := range 8 {
			all.Go(func() {
				_, err := w.Write(t.Context(), did(0), &at, create(t, fmt.Sprint(n)))
				if err != nil && !errors.Is(err, records.ErrSwap) {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				outcomes[err == nil]++
			})
		}
		all.Wait()
		if outcomes[true] != 1 || outcomes[false] != 7 {
			t.Errorf("outcomes %v", outcomes)
		}
	})
}

// Who waits for a turn gives up with its context, and what failed leaves nothing behind.
func TestRefused(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		w := newWriter(t, d, 1)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := w.Write(gone, did(0), nil, create(t, "a")); !errors.Is(err, context.Canceled) {
			t.Errorf("without a caller: %v", err)
		}
		if _, err := w.Write(t.Context(), did(9), nil, create(t, "a")); !errors.Is(err, db.ErrNotFound) {
			t.Errorf("without a repository: %v", err)
		}
		result, err := w.Write(t.Context(), did(0), nil)
		row, lost := d.Repo(t.Context(), did(0))
		check(t, lost)
		if err != nil || result.Changed || result.Commit != store.CID(row.CommitCID) || result.Rev.String() != row.Rev {
			t.Errorf("without writes: %+v, %v", result, err)
		}
		events, err := d.Events(t.Context(), 0, 10)
		if err != nil || len(events) > 0 {
			t.Errorf("%d events, %v", len(events), err)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{100, 10_000} {
		b.Run(fmt.Sprint(size, " records"), func(b *testing.B) {
			d := dbtest.Open(b)
			w := newWriter(b, d, 1)
			w.Cache = tree.NewCache(32 << 20)
			n := 0
			next := func() records.Write {
				n++
				write := create(b, syntax.NewTIDFromTime(noon.Add(time.Duration(n)*time.Second), 0).String())
				write.Collection = "app.bsky.feed.post"
				return write
			}
			for n < size {
				var batch []records.Write
				for range min(200, size) {
					batch = append(batch, next())
				}
				_, err := w.Write(b.Context(), did(0), nil, batch...)
				check(b, err)
			}
			b.ReportAllocs()
			for b.Loop() {
				_, err := w.Write(b.Context(), did(0), nil, next())
				check(b, err)
			}
		})
	}
}
