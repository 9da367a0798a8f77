package referencetest

import (
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "modernc.org/sqlite" // the driver
)

// Tables are the rows of all tables in the databases of a directory that nobody has open,
// each as "column=value" of all its columns, in order. They are called by the database,
// which is "account", "sequencer" or a DID, and the table: "account actor". Files with logs
// are not read whole.
func Tables(t testing.TB, dir string) map[string][]string {
	t.Helper()
	all := make(map[string][]string)
	stores, err := filepath.Glob(filepath.Join(dir, "actors", "*", "*", "store.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	read(t, filepath.Join(dir, "account.sqlite"), "account", all)
	read(t, filepath.Join(dir, "sequencer.sqlite"), "sequencer", all)
	for _, path := range stores {
		read(t, path, filepath.Base(filepath.Dir(path)), all)
	}
	return all
}

func read(t testing.TB, path, name string, all map[string][]string) {
	t.Helper()
	file := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: "mode=ro&immutable=1"}
	d, err := sql.Open("sqlite", file.String())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, table := range rowsOf(t, d, "SELECT name FROM sqlite_master WHERE type = 'table'") {
		_, table, _ = strings.Cut(table, "=")
		rows := rowsOf(t, d, `SELECT * FROM "`+table+`"`)
		slices.Sort(rows)
		all[name+" "+table] = rows
	}
	all[name+" sqlite_master"] = rowsOf(t, d, "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name")
}

func rowsOf(t testing.TB, d *sql.DB, query string) (all []string) {
	t.Helper()
	rows, err := d.Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	values, dest := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		dest[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			t.Fatal(err)
		}
		row := make([]string, len(columns))
		for i, v := range values {
			if b, ok := v.([]byte); ok {
				v = fmt.Sprintf("%x", b)
			}
			row[i] = fmt.Sprint(columns[i], "=", v)
		}
		all = append(all, strings.Join(row, " "))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
