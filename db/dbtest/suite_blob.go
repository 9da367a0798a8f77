package dbtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
)

// withRepo makes account n with a repository.
func (s *suite) withRepo(n int) syntax.DID {
	s.Helper()
	s.create(n)
	s.must(func(tx *db.Tx) error {
		return tx.InsertRepo(s.Context(), did(n), db.Repo{CommitCID: []byte("c"), CommitBlock: []byte("b"), DataCID: []byte("d")})
	})
	return did(n)
}

func (s *suite) blob(cid, key string) db.Blob {
	return db.Blob{CID: []byte(cid), MIME: "image/png", Size: 1 << 40, TempKey: key, CreatedAt: s.now()}
}

// figures are the blobs of an account that are named, and those that are there.
func (s *suite) figures(d syntax.DID) string {
	s.Helper()
	r, err := s.db.Repo(s.Context(), d)
	s.ok(err)
	counted := fmt.Sprint(r.ExpectedBlobs, " ", r.ImportedBlobs)
	s.must(func(tx *db.Tx) error { return tx.RecountBlobs(s.Context(), d) })
	r, err = s.db.Repo(s.Context(), d)
	s.ok(err)
	s.equal("figures counted anew", fmt.Sprint(r.ExpectedBlobs, " ", r.ImportedBlobs), counted)
	return counted
}

func mentions(of ...string) (all []db.RecordBlob) {
	for i := 0; i < len(of); i += 2 {
		all = append(all, db.RecordBlob{Path: of[i], CID: []byte(of[i+1])})
	}
	return all
}

func cids(names ...string) (all [][]byte) {
	for _, n := range names {
		all = append(all, []byte(n))
	}
	return all
}

// putBlobs: rows that come before that of their repository.
func (s *suite) putBlobs() {
	ctx := s.Context()
	none, err := s.db.Totals(ctx)
	s.ok(err)
	s.equal("totals of nothing", none, db.Totals{})
	s.create(1)
	alice := did(1)
	temporary, taken := s.blob("a\x00", "key a"), s.blob("b\xff", "")
	taken.TakedownRef = "ref"
	for _, row := range []db.Blob{temporary, {CID: temporary.CID, MIME: "text/plain", Size: 7, TakedownRef: "other", CreatedAt: start0}} {
		s.must(func(tx *db.Tx) error { return tx.PutBlobs(ctx, alice, taken, row) })
		got, err := s.db.Blob(ctx, alice, row.CID)
		s.ok(err)
		s.equal("blob", *got, row)
	}
	s.must(func(tx *db.Tx) error { return tx.PutBlobs(ctx, alice) })
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.PutBlobs(ctx, did(9), temporary) })

	record := db.Record{Path: "a.b.c/1", CID: []byte("r"), Rev: "3", IndexedAt: s.now(), Value: []byte("v")}
	other := record
	other.Path = "a.b.c/2"
	s.must(func(tx *db.Tx) error {
		return errors.Join(
			tx.InsertRepo(ctx, alice, db.Repo{CommitCID: []byte("c"), CommitBlock: []byte("b"), DataCID: []byte("d"), ImportedBlobs: 2}),
			tx.PutRecords(ctx, alice, record, other),
			tx.PutRecordBlobs(ctx, alice, mentions("a.b.c/1", "a\x00", "a.b.c/1", "b\xff", "a.b.c/2", "b\xff")),
			tx.PutNodes(ctx, alice, db.Node{CID: []byte("n"), Rev: "3", Data: []byte("n")}),
			tx.PutPreferences(ctx, alice, []json.RawMessage{[]byte(`{}`)}))
	})
	s.equal("figures", s.figures(alice), "2 2")
	totals, err := s.db.Totals(ctx)
	s.ok(err)
	s.equal("totals", totals, db.Totals{Repos: 1, Nodes: 1, Records: 2, RecordBlobs: 3, Blobs: 2, Preferences: 1})
}

func (s *suite) blobs() {
	ctx := s.Context()
	alice, bob := s.withRepo(1), s.withRepo(2)
	_, err := s.db.Blob(ctx, alice, []byte("a"))
	s.is(err, db.ErrNotFound)
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.InsertBlob(ctx, did(9), s.blob("a", "key")) })

	temporary, permanent, taken := s.blob("a\x00", "key a"), s.blob("b\xff", ""), s.blob("c", "key c")
	taken.TakedownRef = "ref"
	s.must(func(tx *db.Tx) error {
		return errors.Join(tx.InsertBlob(ctx, alice, temporary), tx.InsertBlob(ctx, alice, permanent), tx.InsertBlob(ctx, alice, taken),
			tx.InsertBlob(ctx, bob, temporary))
	})
	for _, want := range []db.Blob{temporary, permanent, taken} {
		got, err := s.db.Blob(ctx, alice, want.CID)
		s.ok(err)
		s.equal("blob", *got, want)
	}
	s.equal("figures", s.figures(alice), "0 3")
	some, err := s.db.BlobsByCIDs(ctx, alice, cids("b\xff", "x", "a\x00"))
	s.ok(err)
	slices.SortFunc(some, func(a, b db.Blob) int { return slices.Compare(a.CID, b.CID) })
	s.equal("some", some, []db.Blob{temporary, permanent})
	some, err = s.db.BlobsByCIDs(ctx, alice, nil)
	s.ok(err)
	s.equal("none", len(some), 0)
	page, err := s.db.Blobs(ctx, alice, nil, 2)
	s.ok(err)
	s.equal("page", page, []db.Blob{temporary, permanent})
	page, err = s.db.Blobs(ctx, alice, permanent.CID, 2)
	s.ok(err)
	s.equal("second page", page, []db.Blob{taken})
	sums, err := s.db.BlobSums(ctx, alice, bob, did(9))
	s.ok(err)
	s.equal("sums", sums, map[syntax.DID]db.BlobSum{alice: {Blobs: 3, Bytes: 3 << 40}, bob: {Blobs: 1, Bytes: 1 << 40}})

	// Another upload, then a record.
	later := s.now().Add(time.Hour)
	s.fails(db.ErrStale, func(tx *db.Tx) error { return tx.ReplaceUpload(ctx, alice, temporary.CID, "other", "new", later) })
	s.fails(db.ErrStale, func(tx *db.Tx) error { return tx.ReplaceUpload(ctx, alice, permanent.CID, "", "new", later) })
	s.must(func(tx *db.Tx) error { return tx.ReplaceUpload(ctx, alice, temporary.CID, "key a", "new", later) })
	temporary.TempKey, temporary.CreatedAt = "new", later
	got, err := s.db.Blob(ctx, alice, temporary.CID)
	s.ok(err)
	s.equal("uploaded again", *got, temporary)
	s.fails(db.ErrStale, func(tx *db.Tx) error { return tx.KeepBlob(ctx, alice, temporary.CID, "key a") })
	s.must(func(tx *db.Tx) error { return tx.KeepBlob(ctx, alice, temporary.CID, "new") })
	temporary.TempKey = ""
	got, err = s.db.Blob(ctx, alice, temporary.CID)
	s.ok(err)
	s.equal("kept", *got, temporary)

	// Taken down, what has lost its last record stays.
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.SetBlobTakedown(ctx, alice, []byte("x"), "ref") })
	s.must(func(tx *db.Tx) error {
		return errors.Join(tx.SetBlobTakedown(ctx, alice, permanent.CID, "ref"), tx.SetBlobTakedown(ctx, alice, taken.CID, ""))
	})
	s.must(func(tx *db.Tx) error { return tx.PutRecordBlobs(ctx, alice, mentions("path", "a\x00")) })
	var deleted []db.Blob
	s.must(func(tx *db.Tx) error {
		deleted, err = tx.DeleteBlobs(ctx, alice, cids("a\x00", "b\xff", "c", "x"))
		return err
	})
	s.equal("deleted", deleted, []db.Blob{{CID: []byte("c"), TempKey: "key c"}})
	s.equal("figures", s.figures(alice), "1 2")
	s.equal("figures of another one", s.figures(bob), "0 1")
}

func (s *suite) recordBlobs() {
	ctx := s.Context()
	alice, bob := s.withRepo(1), s.withRepo(2)
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.PutRecordBlobs(ctx, did(9), mentions("p", "a")) })
	all := mentions("a.b/1", "a\x00", "a.b/1", "b", "a.b/2", "b", "a.b.c/1", "c\xff", "a.b.c/1", "d")
	for range 2 { // the second time nothing changes
		s.must(func(tx *db.Tx) error {
			return errors.Join(tx.PutRecordBlobs(ctx, alice, all), tx.PutRecordBlobs(ctx, alice, nil), tx.PutRecordBlobs(ctx, bob, all[:1]))
		})
		s.equal("figures", s.figures(alice), "4 0")
	}
	list := func(after db.RecordBlob, limit int) []db.RecordBlob {
		s.Helper()
		got, err := s.db.RecordBlobs(ctx, alice, after, limit)
		s.ok(err)
		return got
	}
	ordered := mentions("a.b.c/1", "c\xff", "a.b.c/1", "d", "a.b/1", "a\x00", "a.b/1", "b", "a.b/2", "b")
	s.equal("mentions", list(db.RecordBlob{}, 9), ordered)
	s.equal("a page of them", list(ordered[0], 2), ordered[1:3])

	after := func(rev, cid string, limit int) (got [][]byte) {
		s.Helper()
		got, err := s.db.NamedBlobsAfter(ctx, alice, rev, []byte(cid), limit)
		s.ok(err)
		return got
	}
	s.equal("named", after("", "", 9), cids("a\x00", "b", "c\xff", "d"))
	s.equal("named, a page", after("", "a\x00", 2), cids("b", "c\xff"))
	s.must(func(tx *db.Tx) error { return tx.InsertBlob(ctx, alice, s.blob("b", "key")) })
	missing := func(after string, limit int) []db.RecordBlob {
		s.Helper()
		got, err := s.db.MissingBlobs(ctx, alice, []byte(after), limit)
		s.ok(err)
		return got
	}
	s.equal("missing, one that is temporary too", missing("", 9), mentions("a.b/1", "a\x00", "a.b/1", "b", "a.b.c/1", "c\xff", "a.b.c/1", "d"))
	s.must(func(tx *db.Tx) error { return tx.SetBlobTakedown(ctx, alice, []byte("b"), "ref") })
	s.equal("not one that is taken down", missing("a\x00", 1), mentions("a.b.c/1", "c\xff"))
	s.must(func(tx *db.Tx) error {
		return errors.Join(tx.SetBlobTakedown(ctx, alice, []byte("b"), ""), tx.KeepBlob(ctx, alice, []byte("b"), "key"))
	})
	s.equal("missing", missing("", 9), mentions("a.b/1", "a\x00", "a.b.c/1", "c\xff", "a.b.c/1", "d"))
	s.equal("missing, a page", missing("a\x00", 1), mentions("a.b.c/1", "c\xff"))
	named, err := s.db.NamedBlobs(ctx, alice, cids("d", "x", "b"))
	s.ok(err)
	s.equal("of some", named, cids("b", "d"))

	var gone [][]byte
	forget := func(paths ...string) [][]byte {
		s.Helper()
		s.must(func(tx *db.Tx) error {
			gone, err = tx.DeleteRecordBlobs(ctx, alice, paths)
			return err
		})
		slices.SortFunc(gone, slices.Compare)
		return gone
	}
	s.equal("nothing", len(forget("a.b/3")), 0)
	s.equal("no paths", len(forget()), 0)
	s.equal("still named", forget("a.b/1", "x"), cids("a\x00"))
	s.equal("figures", s.figures(alice), "3 1")
	s.equal("the last ones", forget("a.b.c/1", "a.b/2"), cids("b", "c\xff", "d"))
	s.equal("figures", s.figures(alice), "0 1")
	s.equal("figures of another one", s.figures(bob), "1 0")
}

func (s *suite) oldUploads() {
	ctx := s.Context()
	alice, bob := s.withRepo(1), s.withRepo(2)
	at := func(cid, key string, minute int) db.Blob {
		b := s.blob(cid, key)
		b.CreatedAt = start0.Add(time.Duration(minute) * time.Minute)
		return b
	}
	taken := at("t", "taken", 0)
	taken.TakedownRef = "ref"
	s.must(func(tx *db.Tx) error {
		return errors.Join(tx.InsertBlob(ctx, alice, at("a", "second", 2)), tx.InsertBlob(ctx, alice, at("p", "", 0)), tx.InsertBlob(ctx, alice, taken),
			tx.InsertBlob(ctx, alice, at("n", "named", 0)), tx.PutRecordBlobs(ctx, alice, mentions("path", "n")),
			tx.InsertBlob(ctx, bob, at("a", "first", 1)), tx.InsertBlob(ctx, bob, at("b", "third", 3)), tx.InsertBlob(ctx, bob, at("c", "young", 4)))
	})
	before := start0.Add(4 * time.Minute)
	old, err := s.db.OldUploads(ctx, before, 2)
	s.ok(err)
	s.equal("old", old, []db.BlobFile{{DID: bob, TempKey: "first"}, {DID: alice, TempKey: "second"}})
	old, err = s.db.OldUploads(ctx, before, 9)
	s.ok(err)
	s.equal("all old", old, []db.BlobFile{{DID: bob, TempKey: "first"}, {DID: alice, TempKey: "second"}, {DID: bob, TempKey: "third"}})
	var deleted []string
	s.must(func(tx *db.Tx) error {
		deleted, err = tx.DeleteOldUploads(ctx, alice, before, []string{"second", "taken", "named", "first", ""})
		return err
	})
	s.equal("deleted", deleted, []string{"second"})
	s.must(func(tx *db.Tx) error {
		deleted, err = tx.DeleteOldUploads(ctx, bob, before, []string{"third", "young"})
		return err
	})
	s.equal("deleted of another one", deleted, []string{"third"})
	s.equal("figures", s.figures(alice)+", "+s.figures(bob), "1 3, 0 2")
}

func (s *suite) spareBlobFiles() {
	ctx := s.Context()
	alice, bob := s.withRepo(1), s.withRepo(2)
	s.must(func(tx *db.Tx) error {
		return errors.Join(tx.InsertBlob(ctx, alice, s.blob("a\x00", "key")), tx.InsertBlob(ctx, alice, s.blob("b", "")))
	})
	file := func(d syntax.DID, cid, key string) db.BlobFile {
		if key != "" {
			return db.BlobFile{DID: d, TempKey: key}
		}
		return db.BlobFile{DID: d, CID: []byte(cid)}
	}
	spare, err := s.db.SpareBlobFiles(ctx, []db.BlobFile{
		file(alice, "a\x00", ""), file(alice, "", "key"), file(alice, "", "old"), file(bob, "a\x00", ""), file(bob, "", "key"),
		file(alice, "b", ""), file(alice, "c", ""), file(did(9), "b", ""),
	})
	s.ok(err)
	slices.Sort(spare)
	s.equal("spare", spare, []int{2, 3, 4, 6, 7})
	spare, err = s.db.SpareBlobFiles(ctx, nil)
	s.ok(err)
	s.equal("of none", len(spare), 0)

	// While a file is claimed, no row comes to be; a claim ends, or lapses.
	claim := func(d syntax.DID, cid string, want bool) {
		s.Helper()
		var got bool
		s.must(func(tx *db.Tx) (err error) {
			got, err = tx.ClaimBlob(ctx, d, []byte(cid), s.now().Add(time.Minute))
			return err
		})
		s.equal("claim of "+cid, got, want)
	}
	claim(alice, "b", false)
	claim(alice, "c", true)
	claim(alice, "c", false)
	claim(bob, "c", true)
	claim(did(9), "c", true)
	insert := func(tx *db.Tx) error { return tx.InsertBlob(ctx, alice, s.blob("c", "new")) }
	s.fails(db.ErrBlobClaimed, insert)
	s.must(func(tx *db.Tx) error { return tx.ReleaseBlob(ctx, alice, []byte("c")) })
	claim(alice, "c", true)
	s.clock.Store(new(s.now().Add(time.Minute)))
	claim(alice, "c", true)
	s.fails(db.ErrBlobClaimed, insert)
	s.clock.Store(new(s.now().Add(time.Minute)))
	s.must(insert)
	claim(alice, "c", false)
	s.must(func(tx *db.Tx) error { return tx.Purge(ctx, s.now()) })
	s.equal("figures", s.figures(alice), "0 3")
}

// raceBlobClaim: of a row and the claim of its file only one comes to be.
func (s *suite) raceBlobClaim() {
	alice := s.withRepo(1)
	for n := range 20 {
		cid := []byte(fmt.Sprint("cid ", n))
		errClaimed := errors.New("claimed")
		got := s.race(2, func(ctx context.Context, i int) error {
			return s.write(func(tx *db.Tx) error {
				if i == 0 {
					if _, err := tx.LockRepo(ctx, alice); err != nil {
						return err
					}
					return tx.InsertBlob(ctx, alice, s.blob(string(cid), fmt.Sprint("key ", n)))
				}
				ok, err := tx.ClaimBlob(ctx, alice, cid, s.now().Add(time.Minute))
				if err == nil && !ok {
					return errClaimed
				}
				return err
			})
		})
		row := got[nil] == 1 && got[errClaimed] == 1
		claim := got[nil] == 1 && got[db.ErrBlobClaimed] == 1
		if !row && !claim {
			s.Errorf("outcomes %v", got)
		}
	}
}
