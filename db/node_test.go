package db_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"portico/db"
	"portico/db/dbtest"
)

// indexed is how Postgres finds nodes by all columns of the key.
var indexed = regexp.MustCompile(`Index Cond: \(\((n\.)?did = .*\((n\.)?layer = .*\((n\.)?low [<>=]+ `)

// What is asked for of a large tree comes by the primary key: a probe for each layer of a
// path, and a page for each layer of a walk, which is sorted alone.
func TestNodesAreFoundByTheirPlaces(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		did := create(t, d, 1)
		err := d.Write(t.Context(), func(tx *db.Tx) error {
			for n := range 300 {
				if err := tx.PutNode(t.Context(), did, db.Node{Low: fmt.Sprint("key", n), Layer: n % 3, CID: []byte("cid"), Data: []byte("data")}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		texts := d.WatchTexts()
		nobody := func(*db.Node, string) (db.Place, bool) { return db.Place{}, false }
		for name, ask := range map[string]func() error{
			"a place": func() error { _, err := d.Node(t.Context(), did, db.Place{Low: "key3"}); return err },
			"paths": func() error {
				_, err := d.NodesOnPaths(t.Context(), did, 2, []string{"key5", "key7"}, nobody)
				return err
			},
			"a page": func() error { _, err := d.Nodes(t.Context(), did, &db.Place{Low: "key3"}, 10); return err },
		} {
			texts()
			if err := ask(); err != nil {
				t.Error(err)
			}
			seen := texts()
			if len(seen) == 0 || !d.Exclusive() && len(seen) > 1 {
				t.Errorf("%s: statements %q", name, seen)
			}
			for _, text := range seen {
				plan := explained(t, d, text)
				byPlace := strings.Contains(plan, "SEARCH n USING PRIMARY KEY (did=? AND low")
				if !d.Exclusive() {
					byPlace = indexed.MatchString(plan)
				}
				if !byPlace || strings.Contains(plan, "Seq Scan") {
					t.Errorf("%s\n%s\n%s", name, text, plan)
				}
			}
		}
	})
}
