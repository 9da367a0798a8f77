package db_test

import (
	"strings"
	"testing"
	"time"

	"portico/db"
	"portico/db/dbtest"
)

// Each page of blobs comes in the order of an index, and what is looked up by keys is
// looked up by them, also when an account has many.
func TestBlobsAreFoundByIndexes(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		did := create(t, d, 1)
		cid := []byte("cid 1")
		err := d.Write(t.Context(), func(tx *db.Tx) error {
			const numbers = `WITH RECURSIVE number (n) AS (SELECT 10000 UNION ALL SELECT n + 1 FROM number WHERE n < 14999) SELECT `
			bytes := map[bool]string{true: "CAST('cid' || n AS BLOB)", false: "CAST('cid' || n AS BYTEA)"}[d.Exclusive()]
			who := "'" + did.String() + "'"
			for _, text := range []string{
				`INSERT INTO repo (did, commit_cid, commit_block, rev, data_cid, layer, records, nodes, expected_blobs, imported_blobs) ` +
					strings.Replace(numbers, "14999", "10000", 1) + who + `, ` + bytes + `, ` + bytes + `, '', ` + bytes + `, 0, 0, 0, 0, 0 FROM number`,
				`INSERT INTO blob (did, cid, mime, size, temp_key, created_at) ` + numbers + who + `, ` + bytes + `, 'image/png', 1, 'key' || n, n FROM number`,
				`INSERT INTO record_blob (did, path, cid) ` + numbers + who + `, 'path' || n, ` + bytes + ` FROM number`,
				`INSERT INTO record (did, path, cid, rev, indexed_at, value) ` + numbers + who + `, 'path' || n, ` + bytes + `, 'rev' || n, n, ` + bytes + ` FROM number`,
			} {
				if err := tx.Exec(t.Context(), text); err != nil {
					return err
				}
			}
			if d.Exclusive() {
				return nil
			}
			return tx.Exec(t.Context(), "ANALYZE")
		})
		if err != nil {
			t.Fatal(err)
		}
		texts := d.WatchTexts()
		write := func(f func(tx *db.Tx) error) func() error {
			return func() error { return d.Write(t.Context(), f) }
		}
		keys := [][]byte{cid, []byte("cid 2")}
		for name, ask := range map[string]func() error{
			"one":         func() error { _, err := d.Blob(t.Context(), did, []byte("cid10001")); return err },
			"some":        func() error { _, err := d.BlobsByCIDs(t.Context(), did, keys); return err },
			"page":        func() error { _, err := d.Blobs(t.Context(), did, cid, 10); return err },
			"named":       func() error { _, err := d.NamedBlobs(t.Context(), did, keys); return err },
			"named page":  func() error { _, err := d.NamedBlobsAfter(t.Context(), did, "", cid, 10); return err },
			"named since": func() error { _, err := d.NamedBlobsAfter(t.Context(), did, "rev14900", cid, 10); return err },
			"missing":     func() error { _, err := d.MissingBlobs(t.Context(), did, cid, 10); return err },
			"mentions": func() error {
				_, err := d.RecordBlobs(t.Context(), did, db.RecordBlob{Path: "path10100"}, 10)
				return err
			},
			"old": func() error { _, err := d.OldUploads(t.Context(), time.UnixMicro(10_010), 10); return err },
			"spare": func() error {
				_, err := d.SpareBlobFiles(t.Context(), []db.BlobFile{{DID: did, CID: cid}, {DID: did, TempKey: "key"}})
				return err
			},
			"delete": write(func(tx *db.Tx) error { _, err := tx.DeleteBlobs(t.Context(), did, keys); return err }),
			"delete old": write(func(tx *db.Tx) error {
				_, err := tx.DeleteOldUploads(t.Context(), did, time.UnixMicro(1), []string{"key"})
				return err
			}),
			"forget a path": write(func(tx *db.Tx) error {
				_, err := tx.DeleteRecordBlobs(t.Context(), did, []string{"path10002"})
				return err
			}),
			"claim a file":   write(func(tx *db.Tx) error { _, err := tx.ClaimBlob(t.Context(), did, cid, time.UnixMicro(1)); return err }),
			"keep an upload": write(func(tx *db.Tx) error { return tx.KeepBlob(t.Context(), did, []byte("cid10003"), "key10003") }),
		} {
			texts()
			if err := ask(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			seen := texts()
			if len(seen) == 0 {
				t.Errorf("%s: no statement was seen", name)
			}
			for _, text := range seen {
				if text == "BEGIN" || text == "BEGIN IMMEDIATE" || text == "COMMIT" {
					continue
				}
				plan := explained(t, d, text)
				scan := strings.Contains(plan, "Seq Scan")
				for line := range strings.Lines(plan) {
					if strings.Contains(line, "SCAN ") && !strings.Contains(line, "VIRTUAL TABLE") && !strings.Contains(line, "USING INDEX") && !strings.Contains(line, "SCAN CONSTANT") {
						scan = true
					}
				}
				// What is named since a rev is sorted: it is what came since.
				sort := strings.Contains(text, "LIMIT") && name != "named since" && (strings.Contains(plan, "Sort") || strings.Contains(plan, "TEMP B-TREE"))
				whole := !strings.HasPrefix(text, "INSERT") && !strings.Contains(plan, "Index Cond") && !strings.Contains(plan, "SEARCH")
				if scan || sort || whole {
					t.Errorf("%s\n%s\n%s", name, text, plan)
				}
				// Postgres chooses by what it knows of the revs.
				if name == "named since" && d.Exclusive() && !strings.Contains(plan, "record_rev") {
					t.Errorf("%s\n%s\n%s", name, text, plan)
				}
			}
		}
	})
}
