package db

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"
)

// ErrBlobClaimed says that the file of a blob without a row is being removed: a row can be
// made a little later.
var ErrBlobClaimed = errors.New("file of the blob is being removed")

// A Blob is what is known of the bytes that an account uploaded. Its CID is in its binary
// form; the column of the DID is left out, since who asks knows it.
type Blob struct {
	bun.BaseModel `bun:"table:blob,alias:b"`

	CID  []byte `bun:"cid"`
	MIME string `bun:"mime"`
	Size int64  `bun:"size"` // in bytes
	// TempKey is the name of the file while no record has come to name the blob.
	TempKey     string    `bun:"temp_key,nullzero"`
	CreatedAt   time.Time `bun:"created_at"` // of the latest upload, while it is temporary
	TakedownRef string    `bun:"takedown_ref,nullzero"`
}

// TakenDown reports whether moderators took the blob down.
func (b *Blob) TakenDown() bool { return b.TakedownRef != "" }

// A RecordBlob is a record's mention of a blob, which may be here or not.
type RecordBlob struct {
	bun.BaseModel `bun:"table:record_blob,alias:rb"`

	Path string `bun:"path"`
	CID  []byte `bun:"cid"`
}

// A BlobFile is the name of a file: that of a temporary blob if there is a key, else that
// of the blob with a CID.
type BlobFile struct {
	DID     syntax.DID
	CID     []byte
	TempKey string
}

type blobClaim struct {
	bun.BaseModel `bun:"table:blob_claim,alias:claim"`

	DID   syntax.DID `bun:"did"`
	CID   []byte     `bun:"cid"`
	Until time.Time  `bun:"until"`
}

// among is the condition that a column has one of the values of a parameter, see
// [queries.list]: a list of any length, in a statement of one shape.
func (b *builder) among(column, postgresType string) bun.Safe {
	p := string(b.p())
	switch {
	case b.Dialect().Name() == dialect.PG:
		return bun.Safe(column + " = ANY(" + p + "::" + postgresType + "[])")
	case postgresType == "bytea":
		return bun.Safe(column + " IN (SELECT unhex(value) FROM json_each(" + p + "))")
	default:
		return bun.Safe(column + " IN (SELECT value FROM json_each(" + p + "))")
	}
}

// list is a parameter of several values: an array to Postgres, JSON to SQLite.
func list[T string | syntax.DID | []byte](q *queries, values []T) any {
	switch values := any(values).(type) {
	case [][]byte:
		if q.seen.engine == dialect.PG {
			return values
		}
		names := make([]string, len(values))
		for i, v := range values {
			names[i] = hex.EncodeToString(v)
		}
		return asJSON(names)
	default:
		texts := make([]string, 0, len(any(values).([]T)))
		for _, v := range any(values).([]T) {
			texts = append(texts, string(v))
		}
		if q.seen.engine == dialect.PG {
			return texts
		}
		return asJSON(texts)
	}
}

func asJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // of texts and lists of them
	}
	return string(text)
}

func (b *builder) blobs() *bun.SelectQuery {
	return b.NewSelect().Model((*Blob)(nil)).Where("b.did = ?", b.p())
}

// unnamed is the condition that no record mentions the blob of a row. Of NOT EXISTS
// Postgres makes a join with all mentions of all accounts.
const unnamed = "(SELECT 1 FROM record_blob AS n WHERE n.did = b.did AND n.cid = b.cid LIMIT 1) IS NULL"

var (
	selectBlob      = prepared(func(b *builder) bun.Query { return b.blobs().Where("b.cid = ?", b.p()) })
	selectBlobs     = prepared(func(b *builder) bun.Query { return b.limit(b.blobs().Where("b.cid > ?", b.p()), "b.cid") })
	selectSomeBlobs = prepared(func(b *builder) bun.Query { return b.blobs().Where("?", b.among("b.cid", "bytea")) })
	insertBlob      = prepared(func(b *builder) bun.Query { return b.insert(new(Blob)).Value("did", "?", b.p()) })
	putBlob         = prepared(func(b *builder) bun.Query {
		return b.insert(new(Blob)).Value("did", "?", b.p()).On("CONFLICT (did, cid) DO UPDATE").
			Set("mime = excluded.mime").Set("size = excluded.size").Set("temp_key = excluded.temp_key").
			Set("created_at = excluded.created_at").Set("takedown_ref = excluded.takedown_ref")
	})
	replaceTempKey = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*Blob)(nil)).Set("temp_key = ?", b.p()).Set("created_at = ?", b.p()).
			Where("did = ?", b.p()).Where("cid = ?", b.p()).Where("temp_key = ?", b.p())
	})
	keepBlob = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*Blob)(nil)).Set("temp_key = NULL").
			Where("did = ?", b.p()).Where("cid = ?", b.p()).Where("temp_key = ?", b.p())
	})
	setBlobTakedown = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*Blob)(nil)).Set("takedown_ref = ?", b.p()).Where("did = ?", b.p()).Where("cid = ?", b.p())
	})
	deleteBlobs = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*Blob)(nil)).Where("b.did = ?", b.p()).Where("?", b.among("b.cid", "bytea")).
			Where("b.takedown_ref IS NULL").Where(unnamed).Returning("cid, temp_key")
	})
	selectOldUploads = prepared(func(b *builder) bun.Query {
		old := b.NewSelect().Model((*Blob)(nil)).Column("b.did", "b.temp_key").Where("b.temp_key IS NOT NULL").
			Where("b.created_at < ?", b.p()).Where("b.takedown_ref IS NULL").Where(unnamed)
		return b.limit(old, "b.created_at")
	})
	deleteOldUploads = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*Blob)(nil)).Where("b.did = ?", b.p()).Where("?", b.among("b.temp_key", "text")).Where("b.temp_key IS NOT NULL").
			Where("b.created_at < ?", b.p()).Where("b.takedown_ref IS NULL").Where(unnamed).Returning("temp_key")
	})
	countBlobs = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*Repo)(nil)).Set("expected_blobs = expected_blobs + ?", b.p()).
			Set("imported_blobs = imported_blobs + ?", b.p()).Where("did = ?", b.p())
	})
	recountBlobs = prepared(func(b *builder) bun.Query {
		expected, imported := b.blobCounts("r.did")
		return b.NewUpdate().Model((*Repo)(nil)).Set("expected_blobs = (?)", expected).Set("imported_blobs = (?)", imported).
			Where("did = ?", b.p())
	})
	sumBlobs = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*Blob)(nil)).Column("did").ColumnExpr("count(*)").ColumnExpr("CAST(sum(b.size) AS BIGINT)").
			Where("?", b.among("b.did", "text")).Group("did")
	})

	// Files of which there is no row, by their number in the list.
	selectSpareFiles = prepared(func(b *builder) bun.Query { return b.spareFiles("bytea", "b.cid") })
	selectSpareKeys  = prepared(func(b *builder) bun.Query { return b.spareFiles("text", "b.temp_key") })

	claimBlob = prepared(func(b *builder) bun.Query {
		return b.insert(new(blobClaim)).On("CONFLICT (did, cid) DO UPDATE").Set("until = excluded.until").Where("claim.until <= ?", b.p())
	})
	selectBlobClaim = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*blobClaim)(nil)).ColumnExpr("1").
			Where("claim.did = ?", b.p()).Where("claim.cid = ?", b.p()).Where("claim.until > ?", b.p())
	})
	releaseBlob = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*blobClaim)(nil)).Where("did = ?", b.p()).Where("cid = ?", b.p())
	})
)

// blobCounts counts the blobs that the records of an account name, and those that it has.
func (b *builder) blobCounts(did bun.Safe) (named, here *bun.SelectQuery) {
	named = b.NewSelect().Model((*RecordBlob)(nil)).ColumnExpr("count(DISTINCT rb.cid)").Where("rb.did = ?", did)
	here = b.NewSelect().Model((*Blob)(nil)).ColumnExpr("count(*)").Where("b.did = ?", did)
	return named, here
}

// spareFiles has two parameters on Postgres, the DIDs and what names the files there; on
// SQLite one, a list of pairs.
func (b *builder) spareFiles(postgresType, column string) bun.Query {
	did, value, number := "f.value->>0", "f.value->>1", "CAST(f.key AS INTEGER)"
	var files string
	if b.Dialect().Name() == dialect.PG {
		did, value, number = "f.did", "f.name", "f.number - 1"
		files = "unnest(" + string(b.p()) + "::text[], " + string(b.p()) + "::" + postgresType + "[]) WITH ORDINALITY AS f (did, name, number)"
	} else {
		files = "json_each(" + string(b.p()) + ") AS f"
		if postgresType == "bytea" {
			value = "unhex(" + value + ")"
		}
	}
	row := b.NewSelect().Model((*Blob)(nil)).ColumnExpr("1").Where("b.did = ?", bun.Safe(did)).Where("? = ?", bun.Safe(column), bun.Safe(value))
	return b.NewSelect().ColumnExpr(number).TableExpr(files).Where("NOT EXISTS (?)", row)
}

var (
	selectRecordBlobs = prepared(func(b *builder) bun.Query {
		all := b.NewSelect().Model((*RecordBlob)(nil)).Where("rb.did = ?", b.p()).Where("(rb.path, rb.cid) > (?, ?)", b.p(), b.p())
		return b.limit(all, "rb.path, rb.cid")
	})
	putRecordBlobs = prepared(func(b *builder) bun.Query {
		insert := b.NewInsert().Model((*RecordBlob)(nil)).Column("did", "path", "cid")
		did := "CAST(" + string(b.p()) + " AS TEXT) AS did"
		if b.Dialect().Name() == dialect.PG {
			insert = insert.TableExpr("(SELECT " + did + ", x.path, x.cid FROM unnest(" + string(b.p()) + "::text[], " +
				string(b.p()) + "::bytea[]) AS x (path, cid)) AS x")
		} else {
			insert = insert.TableExpr("(SELECT " + did + ", value->>0 AS path, unhex(value->>1) AS cid FROM json_each(" +
				string(b.p()) + ")) AS x WHERE true")
		}
		return insert.On("CONFLICT (did, path, cid) DO NOTHING").Returning("NULL")
	})
	deleteRecordBlobs = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*RecordBlob)(nil)).Where("rb.did = ?", b.p()).Where("?", b.among("rb.path", "text")).Returning("cid")
	})
	// What most commits need: SQLite reads a list as it reads a table.
	deleteBlobsOfRecord = prepared(func(b *builder) bun.Query { // SQLite's
		return b.NewDelete().Model((*RecordBlob)(nil)).Where("rb.did = ?", b.p()).Where("rb.path = ?", b.p()).Returning("cid")
	})
	selectNamed = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*RecordBlob)(nil)).Distinct().Column("cid").Where("rb.did = ?", b.p()).Where("?", b.among("rb.cid", "bytea"))
	})
	selectNamedPage = prepared(func(b *builder) bun.Query {
		all := b.NewSelect().Model((*RecordBlob)(nil)).Distinct().Column("cid").Where("rb.did = ?", b.p()).Where("rb.cid > ?", b.p())
		return b.limit(all, "rb.cid")
	})
	// From the records, which are few when the rev is a recent one.
	selectNamedSince = prepared(func(b *builder) bun.Query {
		// SQLite keeps the order of a CROSS JOIN, which to Postgres is a join as any other.
		all := b.NewSelect().ColumnExpr("DISTINCT rb.cid").TableExpr("record AS r").Join("CROSS JOIN record_blob AS rb").
			Where("r.did = ?", b.p()).Where("r.rev > ?", b.p()).Where("rb.did = r.did").Where("rb.path = r.path").Where("rb.cid > ?", b.p())
		return b.limit(all, "rb.cid")
	})
	// One that is temporary although a record mentions it was uploaded when the server was
	// killed: uploaded again it is kept.
	selectMissing = prepared(func(b *builder) bun.Query {
		row := b.NewSelect().Model((*Blob)(nil)).ColumnExpr("1").Where("b.did = rb.did").Where("b.cid = rb.cid").
			Where("(b.temp_key IS NULL OR b.takedown_ref IS NOT NULL)").Limit(1)
		all := b.NewSelect().Model((*RecordBlob)(nil)).ColumnExpr("min(rb.path) AS path").Column("cid").
			Where("rb.did = ?", b.p()).Where("rb.cid > ?", b.p()).Where("(?) IS NULL", row).Group("rb.cid")
		return b.limit(all, "rb.cid")
	})
)

// Blob returns the row of a blob of an account, or ErrNotFound.
func (q *queries) Blob(ctx context.Context, did syntax.DID, cid []byte) (*Blob, error) {
	blob, err := one[Blob](ctx, q, selectBlob, did, cid)
	return blob, wrap(err, "read blob of %s", did)
}

// Blobs returns up to limit blobs of an account, in the order of their CIDs, from after
// one, which may be nil.
func (q *queries) Blobs(ctx context.Context, did syntax.DID, after []byte, limit int) ([]Blob, error) {
	blobs, err := many[Blob](ctx, q, selectBlobs, did, bytesOf(after), limit)
	return blobs, wrap(err, "list blobs of %s", did)
}

// BlobsByCIDs returns those of some blobs of an account that have a row, in no certain
// order.
func (q *queries) BlobsByCIDs(ctx context.Context, did syntax.DID, cids [][]byte) ([]Blob, error) {
	if len(cids) == 0 {
		return nil, nil
	}
	blobs, err := many[Blob](ctx, q, selectSomeBlobs, did, list(q, cids))
	return blobs, wrap(err, "read %d blobs of %s", len(cids), did)
}

// bytesOf makes of nothing the empty value, which comes before all others.
func bytesOf(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// InsertBlob stores the row of a blob that has none and counts it. It returns
// ErrBlobClaimed while there is a claim, and ErrNotFound when there is no account. The
// transaction has locked the repository.
func (tx *Tx) InsertBlob(ctx context.Context, did syntax.DID, b Blob) error {
	claimed, err := tx.exists(ctx, selectBlobClaim, did, b.CID, tx.now())
	if err == nil && claimed {
		err = ErrBlobClaimed
	}
	if err == nil {
		_, err = tx.exec(ctx, insertBlob, append(values(&b), did)...)
	}
	if err == nil {
		err = tx.countBlobs(ctx, did, 0, 1)
	}
	return wrap(err, "store blob of %s", did)
}

// PutBlobs stores rows of blobs, each in the place of the one with its CID, and counts none
// of them: that is for the row of a repository which comes after them. It returns
// ErrNotFound, or DB.Write does, when there is no account.
func (tx *Tx) PutBlobs(ctx context.Context, did syntax.DID, blobs ...Blob) error {
	for i := range blobs {
		if err := tx.later(ctx, "store blob of "+did.String(), putBlob, append(values(&blobs[i]), did)...); err != nil {
			return err
		}
	}
	return nil
}

// ReplaceUpload gives a temporary blob the key and the time of another upload. It returns
// ErrStale when its key is not the one that it is said to have.
func (tx *Tx) ReplaceUpload(ctx context.Context, did syntax.DID, cid []byte, key, by string, at time.Time) error {
	n, err := tx.exec(ctx, replaceTempKey, by, at, did, cid, key)
	return wrap(fresh(n, err), "replace upload of %s", did)
}

// KeepBlob makes the blob with a temporary key a permanent one. It returns ErrStale when
// there is none with this key.
func (tx *Tx) KeepBlob(ctx context.Context, did syntax.DID, cid []byte, key string) error {
	n, err := tx.exec(ctx, keepBlob, did, cid, key)
	return wrap(fresh(n, err), "keep blob of %s", did)
}

// SetBlobTakedown takes a blob down under a reference, or with an empty one up again. It
// returns ErrNotFound when it has no row.
func (tx *Tx) SetBlobTakedown(ctx context.Context, did syntax.DID, cid []byte, ref string) error {
	return wrap(found(tx.exec(ctx, setBlobTakedown, orNull(ref), did, cid)), "take down blob of %s", did)
}

// DeleteBlobs removes those of some rows that no record names and that are not taken down,
// and returns CIDs and temporary keys of them. The transaction has locked the repository.
func (tx *Tx) DeleteBlobs(ctx context.Context, did syntax.DID, cids [][]byte) ([]Blob, error) {
	if len(cids) == 0 {
		return nil, nil
	}
	var deleted []Blob
	err := tx.each(ctx, deleteBlobs, []any{did, list(&tx.queries, cids)}, func(row scanner) error {
		var b Blob
		err := row.Scan(&b.CID, orEmpty{&b.TempKey})
		deleted = append(deleted, b)
		return err
	})
	if err == nil && len(deleted) > 0 {
		err = tx.countBlobs(ctx, did, 0, -len(deleted))
	}
	return deleted, wrap(err, "delete blobs of %s", did)
}

// OldUploads returns up to limit temporary blobs that were uploaded before a time, that no
// record names, and that are not taken down; the oldest first.
func (q *queries) OldUploads(ctx context.Context, before time.Time, limit int) ([]BlobFile, error) {
	var files []BlobFile
	err := q.each(ctx, selectOldUploads, []any{before, limit}, func(row scanner) error {
		var f BlobFile
		err := row.Scan((*string)(&f.DID), &f.TempKey)
		files = append(files, f)
		return err
	})
	return files, wrap(err, "list old uploads")
}

// DeleteOldUploads removes those of the temporary blobs of an account with some keys that
// still are what OldUploads gives, and returns the keys of those. The transaction has
// locked the repository.
func (tx *Tx) DeleteOldUploads(ctx context.Context, did syntax.DID, before time.Time, keys []string) ([]string, error) {
	var deleted []string
	err := tx.each(ctx, deleteOldUploads, []any{did, list(&tx.queries, keys), before}, func(row scanner) error {
		var key string
		err := row.Scan(&key)
		deleted = append(deleted, key)
		return err
	})
	if err == nil && len(deleted) > 0 {
		err = tx.countBlobs(ctx, did, 0, -len(deleted))
	}
	return deleted, wrap(err, "delete old uploads of %s", did)
}

// countBlobs changes the figures of a repository.
func (tx *Tx) countBlobs(ctx context.Context, did syntax.DID, expected, imported int) error {
	_, err := tx.exec(ctx, countBlobs, expected, imported, did)
	return err
}

// RecountBlobs counts the blobs that records name and those that have a row anew.
func (tx *Tx) RecountBlobs(ctx context.Context, did syntax.DID) error {
	_, err := tx.exec(ctx, recountBlobs, did)
	return wrap(err, "count blobs of %s", did)
}

// A BlobSum is how many blobs an account has, temporary ones too, and how many bytes.
type BlobSum struct {
	Blobs int
	Bytes int64
}

// BlobSums returns the sums of those of some accounts that have any.
func (q *queries) BlobSums(ctx context.Context, dids ...syntax.DID) (map[syntax.DID]BlobSum, error) {
	sums := make(map[syntax.DID]BlobSum, len(dids))
	err := q.each(ctx, sumBlobs, []any{list(q, dids)}, func(row scanner) error {
		var did string
		var sum BlobSum
		err := row.Scan(&did, &sum.Blobs, &sum.Bytes)
		sums[syntax.DID(did)] = sum
		return err
	})
	return sums, wrap(err, "sum blobs of %d accounts", len(dids))
}

// SpareBlobFiles returns the numbers, in the list, of those files that are of no row: one
// of a temporary blob when no row has its key, any other when its account has no row of
// its CID, in whatever state.
func (q *queries) SpareBlobFiles(ctx context.Context, files []BlobFile) ([]int, error) {
	var temporary, others []int
	for i, f := range files {
		if f.TempKey != "" {
			temporary = append(temporary, i)
		} else {
			others = append(others, i)
		}
	}
	spare, err := q.spare(ctx, selectSpareKeys, files, temporary)
	if err == nil {
		var more []int
		more, err = q.spare(ctx, selectSpareFiles, files, others)
		spare = append(spare, more...)
	}
	return spare, wrap(err, "look for rows of %d files", len(files))
}

// spare asks for some of the files.
func (q *queries) spare(ctx context.Context, s *statement, files []BlobFile, some []int) (spare []int, err error) {
	if len(some) == 0 {
		return nil, nil
	}
	var dids, keys []string
	var cids [][]byte
	var pairs [][2]string
	for _, i := range some {
		f := &files[i]
		dids, keys, cids = append(dids, f.DID.String()), append(keys, f.TempKey), append(cids, f.CID)
		pairs = append(pairs, [2]string{f.DID.String(), f.TempKey + hex.EncodeToString(f.CID)})
	}
	var args []any
	switch {
	case q.seen.engine != dialect.PG:
		args = []any{asJSON(pairs)}
	case s == selectSpareKeys:
		args = []any{dids, keys}
	default:
		args = []any{dids, cids}
	}
	err = q.each(ctx, s, args, func(row scanner) error {
		var n int
		if err := row.Scan(&n); err != nil {
			return err
		}
		spare = append(spare, some[n])
		return nil
	})
	return spare, err
}

// ClaimBlob keeps a blob that has no row from getting one until a time, and reports
// whether it does: not when there is a row, or another claim.
func (tx *Tx) ClaimBlob(ctx context.Context, did syntax.DID, cid []byte, until time.Time) (bool, error) {
	// Rows come to be under the lock of the repository. Where there is none, none can.
	if _, err := tx.LockRepo(ctx, did); err != nil && !errors.Is(err, ErrNotFound) {
		return false, err
	}
	if _, err := tx.Blob(ctx, did, cid); err == nil || !errors.Is(err, ErrNotFound) {
		return false, err
	}
	n, err := tx.exec(ctx, claimBlob, append(values(&blobClaim{DID: did, CID: cid, Until: until}), tx.now())...)
	return n > 0, wrap(err, "claim blob of %s", did)
}

// ReleaseBlob ends a claim.
func (tx *Tx) ReleaseBlob(ctx context.Context, did syntax.DID, cid []byte) error {
	_, err := tx.exec(ctx, releaseBlob, did, cid)
	return wrap(err, "release blob of %s", did)
}

// RecordBlobs returns up to limit mentions of blobs in records of an account, in the order
// of path and CID, from after one, which may be the zero one.
func (q *queries) RecordBlobs(ctx context.Context, did syntax.DID, after RecordBlob, limit int) ([]RecordBlob, error) {
	blobs, err := many[RecordBlob](ctx, q, selectRecordBlobs, did, after.Path, bytesOf(after.CID), limit)
	return blobs, wrap(err, "list mentions of blobs of %s", did)
}

// PutRecordBlobs stores that records mention blobs, and counts the blobs that none did
// before. The transaction has locked the repository.
func (tx *Tx) PutRecordBlobs(ctx context.Context, did syntax.DID, mentions []RecordBlob) error {
	if len(mentions) == 0 {
		return nil
	}
	distinct := make(map[string]bool, len(mentions))
	var paths []string
	var cids [][]byte
	var pairs [][2]string
	for _, m := range mentions {
		distinct[string(m.CID)] = true
		paths, cids = append(paths, m.Path), append(cids, m.CID)
		pairs = append(pairs, [2]string{m.Path, hex.EncodeToString(m.CID)})
	}
	before, err := tx.NamedBlobs(ctx, did, cids)
	if err != nil {
		return err
	}
	args := []any{did, paths, cids}
	if !tx.postgres {
		args = []any{did, asJSON(pairs)}
	}
	_, err = tx.exec(ctx, putRecordBlobs, args...)
	if more := len(distinct) - len(before); err == nil && more > 0 {
		err = tx.countBlobs(ctx, did, more, 0)
	}
	return wrap(err, "store mentions of blobs of %s", did)
}

// DeleteRecordBlobs forgets the blobs that the records with some paths mention, and
// returns the CIDs of those that no other record does; these it counts. The transaction
// has locked the repository.
func (tx *Tx) DeleteRecordBlobs(ctx context.Context, did syntax.DID, paths []string) ([][]byte, error) {
	if len(paths) == 0 {
		return nil, nil
	}
	gone := make(map[string]bool)
	var cids [][]byte
	statement, which := deleteRecordBlobs, list(&tx.queries, paths)
	if len(paths) == 1 && !tx.postgres {
		statement, which = deleteBlobsOfRecord, paths[0]
	}
	err := tx.each(ctx, statement, []any{did, which}, func(row scanner) error {
		var cid []byte
		err := row.Scan(&cid)
		if !gone[string(cid)] {
			gone[string(cid)] = true
			cids = append(cids, cid)
		}
		return err
	})
	if err != nil || len(cids) == 0 {
		return nil, wrap(err, "delete mentions of blobs of %s", did)
	}
	still, err := tx.NamedBlobs(ctx, did, cids)
	if err != nil {
		return nil, err
	}
	for _, cid := range still {
		delete(gone, string(cid))
	}
	lost := cids[:0]
	for _, cid := range cids {
		if gone[string(cid)] {
			lost = append(lost, cid)
		}
	}
	if len(lost) > 0 {
		err = tx.countBlobs(ctx, did, -len(lost), 0)
	}
	return lost, wrap(err, "delete mentions of blobs of %s", did)
}

// NamedBlobs returns those of some blobs that a record of the account mentions.
func (q *queries) NamedBlobs(ctx context.Context, did syntax.DID, cids [][]byte) ([][]byte, error) {
	if len(cids) == 0 {
		return nil, nil
	}
	return q.cids(ctx, selectNamed, did, list(q, cids))
}

// NamedBlobsAfter returns up to limit blobs that records of an account mention, in the
// order of their CIDs, from after one, which may be nil. With a rev, only records that
// were written after it count.
func (q *queries) NamedBlobsAfter(ctx context.Context, did syntax.DID, rev string, after []byte, limit int) ([][]byte, error) {
	if rev != "" {
		return q.cids(ctx, selectNamedSince, did, rev, bytesOf(after), limit)
	}
	return q.cids(ctx, selectNamedPage, did, bytesOf(after), limit)
}

func (q *queries) cids(ctx context.Context, s *statement, did syntax.DID, args ...any) (cids [][]byte, err error) {
	err = q.each(ctx, s, append([]any{did}, args...), func(row scanner) error {
		var cid []byte
		err := row.Scan(&cid)
		cids = append(cids, cid)
		return err
	})
	return cids, wrap(err, "list blobs that records of %s mention", did)
}

// MissingBlobs returns up to limit blobs that records of an account mention and that have
// no row, or one that is temporary and not taken down, each with the first of its records,
// in the order of their CIDs, from after one, which may be nil.
func (q *queries) MissingBlobs(ctx context.Context, did syntax.DID, after []byte, limit int) ([]RecordBlob, error) {
	missing, err := many[RecordBlob](ctx, q, selectMissing, did, bytesOf(after), limit)
	return missing, wrap(err, "list missing blobs of %s", did)
}
