package dbtest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
)

// record is one with a value that its path and rev make up.
func record(path, rev string) db.Record {
	return db.Record{Path: path, CID: []byte("cid of " + path + rev), Rev: rev, IndexedAt: start0, Value: []byte("value of " + path + rev)}
}

func paths(records []db.Record) string {
	var all []string
	for _, r := range records {
		all = append(all, r.Path)
	}
	return strings.Join(all, " ")
}

func (s *suite) putRecords(n int, records ...db.Record) {
	s.Helper()
	s.must(func(tx *db.Tx) error { return tx.PutRecords(s.Context(), did(n), records...) })
}

func (s *suite) records() {
	ctx := s.Context()
	s.create(1)
	s.create(2)
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.PutRecords(ctx, did(9), record("a.b.c/1", "1")) })
	s.fails(db.ErrNotFound, func(tx *db.Tx) error {
		return tx.PutRecords(ctx, did(9), record("a.b.c/1", "1"), record("a.b.c/2", "1"))
	})
	_, err := s.db.Record(ctx, did(1), "a.b.c/1")
	s.is(err, db.ErrNotFound)
	_, err = s.db.Record(ctx, did(1), "a.b.c/\xff")
	s.is(err, db.ErrNotFound)

	like := record("a.b.c/2", "1")
	like.LinkTo = "at://did:plc:x/y/z"
	none := db.Record{Path: "a.b.c/0", CID: []byte{}, IndexedAt: start0, Value: []byte{}}
	// The slash comes before the digits, behind the dot and the hyphen: the paths are
	// not in the order of collections and keys.
	s.putRecords(1, record("a.b.c/1", "1"), like, record("a.b.c/10", "1"), none, record("a.b.c.d/1", "1"), record("a.b.c-d/1", "1"), record("a.b.c0/1", "1"))
	s.putRecords(2, record("a.b.c/1", "1"))
	s.putRecords(2)
	got, err := s.db.Record(ctx, did(1), "a.b.c/2")
	s.ok(err)
	s.equal("record", *got, like)
	got, err = s.db.Record(ctx, did(1), "a.b.c/0")
	s.ok(err)
	s.equal("empty record", fmt.Sprintf("%x", *got), fmt.Sprintf("%x", none))

	inC := db.CollectionRange("a.b.c")
	for _, tt := range []struct {
		name string
		in   db.RecordRange
		want string
	}{
		{"all", db.RecordRange{Limit: 100}, "a.b.c-d/1 a.b.c.d/1 a.b.c/0 a.b.c/1 a.b.c/10 a.b.c/2 a.b.c0/1"},
		{"a collection", db.RecordRange{After: inC.After, Before: inC.Before, Limit: 9}, "a.b.c/0 a.b.c/1 a.b.c/10 a.b.c/2"},
		{"reversed", db.RecordRange{After: inC.After, Before: inC.Before, Reverse: true, Limit: 9}, "a.b.c/2 a.b.c/10 a.b.c/1 a.b.c/0"},
		{"first", db.RecordRange{After: inC.After, Before: inC.Before, Limit: 2}, "a.b.c/0 a.b.c/1"},
		{"next", db.RecordRange{After: "a.b.c/1", Before: inC.Before, Limit: 2}, "a.b.c/10 a.b.c/2"},
		{"last", db.RecordRange{After: inC.After, Before: inC.Before, Reverse: true, Limit: 2}, "a.b.c/2 a.b.c/10"},
		{"next to last", db.RecordRange{After: inC.After, Before: "a.b.c/10", Reverse: true, Limit: 2}, "a.b.c/1 a.b.c/0"},
		{"one byte", db.RecordRange{Limit: 9, Bytes: 1}, "a.b.c-d/1"},
		{"two values", db.RecordRange{Limit: 9, Bytes: 20}, "a.b.c-d/1 a.b.c.d/1"},
		{"no text", db.RecordRange{After: "\x00", Limit: 9}, ""},
		{"none", db.RecordRange{After: "b", Limit: 9}, ""},
	} {
		page, err := s.db.Records(ctx, did(1), tt.in)
		s.ok(err)
		s.equal(tt.name, paths(page), tt.want)
	}

	// What is taken down is there, and not shown; whatever comes in its place is not
	// shown either.
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.TakeDownRecord(ctx, did(1), "a.b.c/3", "ref") })
	s.must(func(tx *db.Tx) error { return tx.TakeDownRecord(ctx, did(1), "a.b.c/2", "ref") })
	s.putRecords(1, record("a.b.c/2", "2"))
	got, err = s.db.Record(ctx, did(1), "a.b.c/2")
	s.ok(err)
	want := record("a.b.c/2", "2")
	want.TakedownRef = "ref"
	s.equal("taken down", *got, want)
	for _, reverse := range []bool{false, true} {
		page, err := s.db.Records(ctx, did(1), db.RecordRange{After: "a.b.c/1", Before: inC.Before, Limit: 9, Shown: true, Reverse: reverse})
		s.ok(err)
		s.equal("shown", paths(page), "a.b.c/10")
	}
	s.must(func(tx *db.Tx) error { return tx.TakeDownRecord(ctx, did(1), "a.b.c/2", "") })
	got, err = s.db.Record(ctx, did(1), "a.b.c/2")
	s.ok(err)
	s.equal("no longer", got.TakedownRef, "")

	// What was written since a revision, unless that is older than all that is there.
	s.putRecords(2, record("a.b.c/1", "5"), record("a.b.d/1", "4"), record("a.b.e/1", "5"))
	for _, tt := range []struct {
		name, rev string
		n, limit  int
		want      string
	}{
		{"since", "4", 2, 9, "a.b.c/1 a.b.e/1"},
		{"since, the first", "4", 2, 1, "a.b.c/1"},
		{"since before all", "3", 2, 9, ""},
		{"since the last", "5", 2, 9, ""},
		{"since, of many", "1", 1, 9, "a.b.c/2"},
		{"since, of nobody", "1", 3, 9, ""},
		{"since no text", "\xff", 2, 9, ""},
	} {
		page, err := s.db.RecordsSince(ctx, did(tt.n), tt.rev, tt.limit)
		s.ok(err)
		s.equal(tt.name, paths(page), tt.want)
	}
	s.must(func(tx *db.Tx) error { return tx.DeleteAllRecords(ctx, did(2)) })
	s.putRecords(2, record("a.b.c/1", "1"))

	// What points at the same thing, of one collection.
	for _, path := range []string{"a.b.c/5", "a.b.c/4", "a.b.d/1"} {
		r := record(path, "3")
		r.LinkTo = "did:plc:x"
		s.putRecords(1, r)
		s.putRecords(2, r)
	}
	links, err := s.db.RecordsByLink(ctx, did(1), "a.b.c", "did:plc:x", 9)
	s.ok(err)
	s.equal("by link", paths(links), "a.b.c/4 a.b.c/5")
	links, err = s.db.RecordsByLink(ctx, did(1), "a.b.c", "did:plc:x", 1)
	s.ok(err)
	s.equal("first by link", paths(links), "a.b.c/4")
	s.putRecords(1, record("a.b.c/4", "4"))
	links, err = s.db.RecordsByLink(ctx, did(1), "a.b.c", "did:plc:x", 9)
	s.ok(err)
	s.equal("by link that is no more", paths(links), "a.b.c/5")
	links, err = s.db.RecordsByLink(ctx, did(1), "a.b.c", "\x00", 9)
	s.ok(err)
	s.equal("by no text", paths(links), "")

	s.must(func(tx *db.Tx) error {
		return errors.Join(
			tx.DeleteRecords(ctx, did(1), "a.b.c/1", "a.b.c/99", "a.b.c/2"), tx.DeleteRecords(ctx, did(1)), tx.DeleteRecords(ctx, did(1), "a.b.c/0"))
	})
	page, err := s.db.Records(ctx, did(1), db.RecordRange{Limit: 100})
	s.ok(err)
	s.equal("what is left", paths(page), "a.b.c-d/1 a.b.c.d/1 a.b.c/10 a.b.c/4 a.b.c/5 a.b.c0/1 a.b.d/1")
	s.must(func(tx *db.Tx) error { return tx.DeleteAllRecords(ctx, did(1)) })
	page, err = s.db.Records(ctx, did(1), db.RecordRange{Limit: 100})
	s.ok(err)
	s.equal("nothing", paths(page), "")
	page, err = s.db.Records(ctx, did(2), db.RecordRange{Limit: 100})
	s.ok(err)
	s.equal("another one's", paths(page), "a.b.c/1 a.b.c/4 a.b.c/5 a.b.d/1")
}

func (s *suite) collections() {
	ctx := s.Context()
	for n := range 4 {
		s.create(n)
	}
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.AddCollection(ctx, did(9), "a.b.c") })
	s.must(func(tx *db.Tx) error {
		for n := range 4 {
			s.ok(tx.AddCollection(ctx, did(n), "a.b.c"))
		}
		return errors.Join(tx.AddCollection(ctx, did(1), "a.b.d"), tx.AddCollection(ctx, did(1), "a.b.c.e"), tx.AddCollection(ctx, did(1), "a.b.c"))
	})
	all, err := s.db.Collections(ctx, did(1))
	s.ok(err)
	s.equal("collections", all, []string{"a.b.c", "a.b.c.e", "a.b.d"})
	dids, err := s.db.AccountsByCollection(ctx, "a.b.c", "", 3)
	s.ok(err)
	s.equal("accounts", dids, []syntax.DID{did(0), did(1), did(2)})
	dids, err = s.db.AccountsByCollection(ctx, "a.b.c", did(2), 3)
	s.ok(err)
	s.equal("next accounts", dids, []syntax.DID{did(3)})
	dids, err = s.db.AccountsByCollection(ctx, "a.b.\xff", "", 3)
	s.ok(err)
	s.equal("no text", dids, []syntax.DID(nil))

	s.putRecords(1, record("a.b.c/1", "1"), record("a.b.dd/1", "1"))
	s.must(func(tx *db.Tx) error {
		return errors.Join(tx.DropCollection(ctx, did(1), "a.b.c"), tx.DropCollection(ctx, did(1), "a.b.d"), tx.DropCollection(ctx, did(1), "a.b.x"))
	})
	all, err = s.db.Collections(ctx, did(1))
	s.ok(err)
	s.equal("with records", all, []string{"a.b.c", "a.b.c.e"})
	s.must(func(tx *db.Tx) error { return tx.DeleteCollections(ctx, did(1)) })
	all, err = s.db.Collections(ctx, did(1))
	s.ok(err)
	s.equal("none", all, []string(nil))
	dids, err = s.db.AccountsByCollection(ctx, "a.b.c", "", 9)
	s.ok(err)
	s.equal("of others", dids, []syntax.DID{did(0), did(2), did(3)})
}
