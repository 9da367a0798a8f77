package db_test

import (
	"fmt"
	"strings"
	"testing"

	"portico/db"
	"portico/db/dbtest"
)

// Records come from the index that has them in the order asked for: none that is not
// asked for is read.
func TestRecordsAreFoundByIndexes(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		did := create(t, d, 1)
		var records []db.Record
		for n := range 300 {
			r := db.Record{Path: fmt.Sprint("a.b.c/", n), CID: []byte("cid"), Rev: fmt.Sprint(n / 3), IndexedAt: start, Value: []byte("value")}
			if n%3 == 0 {
				r.LinkTo = "at://x"
			}
			records = append(records, r)
		}
		err := d.Write(t.Context(), func(tx *db.Tx) error { return tx.PutRecords(t.Context(), did, records...) })
		if err != nil {
			t.Fatal(err)
		}
		in := func(change func(*db.RecordRange)) func() error {
			return func() error {
				r := db.CollectionRange("a.b.c")
				r.Limit = 10
				change(&r)
				_, err := d.Records(t.Context(), did, r)
				return err
			}
		}
		since := func() error {
			return d.Snapshot(t.Context(), func(s *db.Snapshot) error {
				return s.ValueBlocks(t.Context(), did, "50", func(_, _ []byte) error { return nil })
			})
		}
		byPath := [2]string{"record_pkey", "SEARCH r USING PRIMARY KEY (did=? AND path>? AND path<?)"}
		texts := d.WatchTexts()
		for name, tt := range map[string]struct {
			ask   func() error
			index [2]string
		}{
			"one":             {func() error { _, err := d.Record(t.Context(), did, "a.b.c/1"); return err }, [2]string{"record_pkey", "SEARCH r USING PRIMARY KEY (did=? AND path=?)"}},
			"a page":          {in(func(*db.RecordRange) {}), byPath},
			"reversed":        {in(func(r *db.RecordRange) { r.Reverse = true }), byPath},
			"shown":           {in(func(r *db.RecordRange) { r.Shown = true }), byPath},
			"shown, reversed": {in(func(r *db.RecordRange) { r.Shown, r.Reverse = true, true }), byPath},
			"since":           {since, [2]string{"record_rev", "SEARCH r USING INDEX record_rev (did=? AND rev>?)"}},
			"since, in order": {func() error { _, err := d.RecordsSince(t.Context(), did, "50", 9); return err }, [2]string{"record_rev", "SEARCH r USING INDEX record_rev (did=? AND rev>?)"}},
			"by link":         {func() error { _, err := d.RecordsByLink(t.Context(), did, "a.b.c", "at://x", 9); return err }, [2]string{"record_link_to", "SEARCH r USING INDEX record_link_to (did=? AND link_to=? AND path>? AND path<?)"}},
			"collections":     {func() error { _, err := d.Collections(t.Context(), did); return err }, [2]string{"collection_pkey", "PRIMARY KEY (did=?)"}},
			"by collection":   {func() error { _, err := d.AccountsByCollection(t.Context(), "a.b.c", did, 9); return err }, [2]string{"collection_collection", "INDEX collection_collection (collection=? AND did>?)"}},
			"last of its kind": {func() error {
				return d.Write(t.Context(), func(tx *db.Tx) error { return tx.DropCollection(t.Context(), did, "a.b.c") })
			}, [2]string{"record_pkey", "SEARCH r USING PRIMARY KEY (did=? AND path>? AND path<?)"}},
		} {
			texts()
			if err := tt.ask(); err != nil {
				t.Error(err)
			}
			for _, text := range texts() {
				if !strings.HasPrefix(text, "SELECT") && !strings.HasPrefix(text, "DELETE") {
					continue // of the transaction
				}
				plan := explained(t, d, text)
				want := tt.index[0]
				if d.Exclusive() {
					want = tt.index[1]
				}
				page := name != "by link" && name != "collections" // which are few
				sorts := page && (strings.Contains(plan, "Sort") || strings.Contains(plan, "TEMP B-TREE"))
				if !strings.Contains(plan, want) || strings.Contains(plan, "Seq Scan") || sorts {
					t.Errorf("%s\n%s\n%s", name, text, plan)
				}
			}
		}
	})
}
