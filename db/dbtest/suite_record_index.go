package dbtest

import (
	"bytes"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
)

func (s *suite) recordIndex() {
	ctx := s.Context()
	s.create(1)
	s.create(2)
	name := func(n byte) []byte { return bytes.Repeat([]byte{n}, 36) }
	put := func(n int, path string) {
		s.must(func(tx *db.Tx) error {
			return tx.PutRecords(ctx, did(n), db.Record{Path: path, CID: name(9), Rev: "rev", IndexedAt: s.now(), Value: []byte("v")})
		})
	}
	put(1, "a/1")
	put(1, "a/2")
	put(2, "a/1")
	named := func() (all string) {
		var after db.RecordBlob
		for {
			page, err := s.db.RecordBlobs(ctx, did(1), after, 2)
			s.ok(err)
			for _, b := range page {
				all += fmt.Sprint(b.Path, "=", b.CID[0], " ")
			}
			if len(page) == 0 {
				return all
			}
			after = page[len(page)-1]
		}
	}
	s.equal("of none", named(), "")
	s.must(func(tx *db.Tx) error {
		if err := tx.SetRecordIndex(ctx, did(2), "a/1", "", name(1)); err != nil {
			return err
		}
		if err := tx.SetRecordIndex(ctx, did(1), "a/2", "", name(2), name(1), name(3), name(3)); err != nil {
			return err
		}
		if err := tx.SetRecordIndex(ctx, did(1), "a/3", "somebody", name(1)); err != nil { // which is not there
			return err
		}
		return tx.SetRecordIndex(ctx, did(1), "a/1", "somebody", name(2))
	})
	s.equal("named", named(), "a/1=2 a/2=1 a/2=2 a/2=3 ")
	counts, err := s.db.BlobCounts(ctx, did(1))
	s.ok(err)
	s.equal("counts", counts, db.BlobCounts{Expected: 3})
	r, err := s.db.Record(ctx, did(1), "a/1")
	s.ok(err)
	s.equal("where it points", r.LinkTo, "somebody")

	s.must(func(tx *db.Tx) error { return tx.SetRecordIndex(ctx, did(1), "a/1", "", name(4)) })
	s.equal("named anew", named(), "a/1=4 a/2=1 a/2=2 a/2=3 ")
	r, err = s.db.Record(ctx, did(1), "a/1")
	s.ok(err)
	s.equal("where it points", r.LinkTo, "")

	// What a record left that went without its index.
	s.must(func(tx *db.Tx) error { return tx.DeleteRecords(ctx, did(1), "a/1") })
	s.must(func(tx *db.Tx) error { return tx.SetRecordIndex(ctx, did(1), "a/1", "") })
	s.equal("of a record that is gone", named(), "a/2=1 a/2=2 a/2=3 ")
}

func (s *suite) storedBlobs() {
	ctx := s.Context()
	alice, bob := s.withRepo(1), s.withRepo(2)
	s.must(func(tx *db.Tx) error {
		for _, name := range []string{"b", "a", "c"} {
			if err := tx.InsertBlob(ctx, bob, s.blob(name, "key "+name)); err != nil {
				return err
			}
		}
		return tx.InsertBlob(ctx, alice, s.blob("b", "key"))
	})
	var after db.StoredBlob
	var all []string
	for {
		page, err := s.db.StoredBlobs(ctx, after, 2)
		s.ok(err)
		if len(page) == 0 {
			break
		}
		for _, b := range page {
			s.equal("size", b.Size, int64(1<<40))
			all = append(all, fmt.Sprint(b.DID, " ", string(b.CID), " ", b.TempKey))
		}
		after = page[len(page)-1]
	}
	s.must(func(tx *db.Tx) error {
		repo, err := tx.LockRepo(ctx, bob)
		s.ok(err)
		repo.Records = 7
		return tx.UpdateRepo(ctx, bob, *repo, repo.CommitCID)
	})
	s.create(3)
	sizes, err := s.db.Sizes(ctx, alice, bob, did(3), did(9))
	s.ok(err)
	s.equal("sizes", sizes, map[syntax.DID]db.Size{
		alice: {BlobSum: db.BlobSum{Blobs: 1, Bytes: 1 << 40}}, bob: {Records: 7, BlobSum: db.BlobSum{Blobs: 3, Bytes: 3 << 40}},
	})
	s.equal("blobs of all", fmt.Sprint(all), fmt.Sprint([]string{
		alice.String() + " b key", bob.String() + " a key a", bob.String() + " b key b", bob.String() + " c key c",
	}))
}
