package db

import (
	"context"
	"math"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"
)

// A Record is one of a repository, with its value. The column of the DID is left out.
type Record struct {
	bun.BaseModel `bun:"table:record,alias:r"`

	Path        string    `bun:"path"` // collection/key
	CID         []byte    `bun:"cid"`
	Rev         string    `bun:"rev"` // of the commit that wrote it
	IndexedAt   time.Time `bun:"indexed_at"`
	TakedownRef string    `bun:"takedown_ref,nullzero"` // why it is not served; empty: it is
	// LinkTo is what the record points at, if it is of those that replace each other.
	LinkTo string `bun:"link_to,nullzero"`
	Value  []byte `bun:"value"`
}

// Takedowns stay with the path: a record that replaces another one is as visible.
var (
	putRecord = prepared(func(b *builder) bun.Query { // SQLite's
		return b.onRecord(b.insert(new(Record)).Value("did", "?", b.p()))
	})
	putRecords = prepared(func(b *builder) bun.Query { // Postgres'
		rows := b.NewSelect().ColumnExpr("?::text AS did", b.p()).ColumnExpr("*").TableExpr(
			"unnest(?::text[], ?::bytea[], ?::text[], ?::bigint[], ?::text[], ?::text[], ?::bytea[]) AS u",
			b.p(), b.p(), b.p(), b.p(), b.p(), b.p(), b.p())
		return b.onRecord(b.NewInsert().Model((*Record)(nil)).
			Column("did", "path", "cid", "rev", "indexed_at", "takedown_ref", "link_to", "value").
			TableExpr("(?) AS new (did, path, cid, rev, indexed_at, takedown_ref, link_to, value)", rows).Returning("NULL"))
	})
	deleteRecord = prepared(func(b *builder) bun.Query { // SQLite's
		return b.NewDelete().Model((*Record)(nil)).Where("did = ?", b.p()).Where("path = ?", b.p())
	})
	deleteRecords = prepared(func(b *builder) bun.Query { // Postgres'
		return b.NewDelete().Model((*Record)(nil)).Where("did = ?", b.p()).Where("path = ANY (?::text[])", b.p())
	})
	deleteAllRecords = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*Record)(nil)).Where("did = ?", b.p())
	})
	takeDownRecord = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*Record)(nil)).Set("takedown_ref = ?", b.p()).Where("did = ?", b.p()).Where("path = ?", b.p())
	})

	selectRecord = prepared(func(b *builder) bun.Query {
		return b.records().Where("r.path = ?", b.p())
	})
	selectRecords     = prepared(func(b *builder) bun.Query { return b.limit(b.recordsBetween(), "r.path") })
	selectRecordsDown = prepared(func(b *builder) bun.Query { return b.limit(b.recordsBetween(), "r.path DESC") })
	selectShown       = prepared(func(b *builder) bun.Query {
		return b.limit(b.recordsBetween().Where("r.takedown_ref IS NULL"), "r.path")
	})
	selectShownDown = prepared(func(b *builder) bun.Query {
		return b.limit(b.recordsBetween().Where("r.takedown_ref IS NULL"), "r.path DESC")
	})
	// SQLite has no statistics, and would read all records of the account.
	selectRecordsByLink = prepared(func(b *builder) bun.Query {
		s := b.recordsBetween().Where("r.link_to = ?", b.p())
		if b.Dialect().Name() != dialect.PG {
			s = s.ModelTableExpr("record AS r INDEXED BY record_link_to")
		}
		return b.limit(s, "r.path")
	})
	selectRecordsSince = prepared(func(b *builder) bun.Query {
		s := b.records().Where("r.rev > ?", b.p()).
			Where("(SELECT min(o.rev) FROM record AS o WHERE o.did = ?) <= ?", b.p(), b.p())
		return b.limit(s, "r.rev, r.path")
	})
)

func (b *builder) onRecord(s *bun.InsertQuery) *bun.InsertQuery {
	return s.On("CONFLICT (did, path) DO UPDATE").Set("cid = excluded.cid").Set("rev = excluded.rev").
		Set("indexed_at = excluded.indexed_at").Set("link_to = excluded.link_to").Set("value = excluded.value")
}

func (b *builder) records() *bun.SelectQuery {
	return b.NewSelect().Model((*Record)(nil)).Where("r.did = ?", b.p())
}

func (b *builder) recordsBetween() *bun.SelectQuery {
	return b.records().Where("r.path > ?", b.p()).Where("r.path < ?", b.p())
}

// A RecordRange says which records are listed: in the bytewise order of their paths,
// those between two paths, which themselves are not among them.
type RecordRange struct {
	After  string // empty: from the beginning
	Before string // empty: to the end
	// Reverse lists the last ones first.
	Reverse bool
	// Shown leaves out those that are taken down.
	Shown bool
	Limit int
	// Bytes, unless 0, ends the page after the record with whose value the sum of all
	// comes to as much: there may be more.
	Bytes int
}

// CollectionRange is the range of all records of a collection.
func CollectionRange(collection string) RecordRange {
	return RecordRange{After: collection + "/", Before: collection + "0"} // what follows "/"
}

// afterPaths is greater than every path: those begin with a letter.
const afterPaths = "~"

// Record returns a record, also one that is taken down, or ErrNotFound.
func (q *queries) Record(ctx context.Context, did syntax.DID, path string) (*Record, error) {
	if !storable(path) {
		return nil, wrap(ErrNotFound, "read record %q of %s", path, did)
	}
	r, err := one[Record](ctx, q, selectRecord, did, path)
	return r, wrap(err, "read record %s of %s", path, did)
}

// Records returns a page of the records of a repository.
func (q *queries) Records(ctx context.Context, did syntax.DID, in RecordRange) ([]Record, error) {
	if in.Before == "" {
		in.Before = afterPaths
	}
	if !storable(in.After) || !storable(in.Before) {
		return nil, nil
	}
	s := selectRecords
	switch {
	case in.Shown && in.Reverse:
		s = selectShownDown
	case in.Shown:
		s = selectShown
	case in.Reverse:
		s = selectRecordsDown
	}
	page, err := q.recordPage(ctx, s, in.Bytes, did, in.After, in.Before, in.Limit)
	return page, wrap(err, "list records of %s", did)
}

// RecordsByLink returns up to limit records of a collection, also those that are taken
// down, that point at link, in the order of their paths.
func (q *queries) RecordsByLink(ctx context.Context, did syntax.DID, collection, link string, limit int) ([]Record, error) {
	if !storable(link) {
		return nil, nil
	}
	in := CollectionRange(collection)
	page, err := q.recordPage(ctx, selectRecordsByLink, 0, did, in.After, in.Before, link, limit)
	return page, wrap(err, "find records of %s by what they point at", did)
}

// RecordsSince returns up to limit records, also those that are taken down, that commits
// after the revision rev wrote, in the order of the commits; none where no record is as old
// as rev: who names it has not seen this repository from its beginning.
func (q *queries) RecordsSince(ctx context.Context, did syntax.DID, rev string, limit int) ([]Record, error) {
	if !storable(rev) {
		return nil, nil
	}
	page, err := q.recordPage(ctx, selectRecordsSince, 0, did, rev, did, rev, limit)
	return page, wrap(err, "list records of %s since %s", did, rev)
}

func (q *queries) recordPage(ctx context.Context, s *statement, bytes int, args ...any) ([]Record, error) {
	if bytes == 0 {
		bytes = math.MaxInt
	}
	var page []Record
	sum := 0
	err := q.each(ctx, s, args, func(row scanner) error {
		if sum >= bytes {
			return errEnough
		}
		page = append(page, Record{})
		last := &page[len(page)-1]
		if err := row.Scan(places(last)...); err != nil {
			return err
		}
		sum += len(last.Value)
		return nil
	})
	return page, err
}

// PutRecords stores records, each in the place of the one with its path, if there is one:
// of that only the takedown stays, whatever the new one says. No path may be there twice.
// It returns ErrNotFound when there is no account.
func (tx *Tx) PutRecords(ctx context.Context, did syntax.DID, records ...Record) error {
	if len(records) == 0 {
		return nil
	}
	if tx.postgres {
		return tx.putRecords(ctx, did, records)
	}
	for i := range records {
		if _, err := tx.exec(ctx, putRecord, append(values(&records[i]), did)...); err != nil {
			return wrap(err, "store record %s of %s", records[i].Path, did)
		}
	}
	return nil
}

func (tx *Tx) putRecords(ctx context.Context, did syntax.DID, records []Record) error {
	n := len(records)
	paths, cids, revs, times := make([]string, n), make([][]byte, n), make([]string, n), make([]int64, n)
	takedowns, links, all := make([]*string, n), make([]*string, n), make([][]byte, n)
	for i := range records {
		r := &records[i]
		paths[i], cids[i], revs[i], times[i], all[i] = r.Path, r.CID, r.Rev, r.IndexedAt.UnixMicro(), r.Value
		if r.TakedownRef != "" {
			takedowns[i] = &r.TakedownRef
		}
		if r.LinkTo != "" {
			links[i] = &r.LinkTo
		}
	}
	return tx.later(ctx, "store records of "+did.String(), putRecords, did, paths, cids, revs, times, takedowns, links, all)
}

// DeleteRecords removes those of the records that there are.
func (tx *Tx) DeleteRecords(ctx context.Context, did syntax.DID, paths ...string) error {
	if len(paths) == 0 {
		return nil
	}
	if tx.postgres {
		return tx.later(ctx, "delete records of "+did.String(), deleteRecords, did, paths)
	}
	for _, path := range paths {
		if _, err := tx.exec(ctx, deleteRecord, did, path); err != nil {
			return wrap(err, "delete record %s of %s", path, did)
		}
	}
	return nil
}

// DeleteAllRecords removes the records of a repository.
func (tx *Tx) DeleteAllRecords(ctx context.Context, did syntax.DID) error {
	_, err := tx.exec(ctx, deleteAllRecords, did)
	return wrap(err, "delete records of %s", did)
}

// TakeDownRecord takes a record down, or, when ref is empty, lifts that. It returns
// ErrNotFound when there is none.
func (tx *Tx) TakeDownRecord(ctx context.Context, did syntax.DID, path, ref string) error {
	if !storable(path) || !storable(ref) {
		return wrap(ErrNotFound, "take down record %q of %s", path, did)
	}
	return wrap(found(tx.exec(ctx, takeDownRecord, orNull(ref), did, path)), "take down record %s of %s", path, did)
}
