package referencetest

import (
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	_ "modernc.org/sqlite" // what the directory is in
)

// ShiftDirectory makes the sessions and codes of a directory so much younger: what ends
// within hours of its making has not ended then. Other dates stay.
func ShiftDirectory(t testing.TB, dir string, by time.Duration) {
	t.Helper()
	d, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "account.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	for table, column := range map[string]string{"refresh_token": "expiresAt", "email_token": "requestedAt"} {
		if err := shiftColumn(d, table, column, by); err != nil {
			t.Fatalf("shift %s: %v", table, err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func shiftColumn(d *sql.DB, table, column string, by time.Duration) error {
	rows, err := d.Query("SELECT rowid, " + column + " FROM " + table)
	if err != nil {
		return err
	}
	dates := map[int64]string{}
	for rows.Next() {
		var id int64
		var date string
		if err = rows.Scan(&id, &date); err != nil {
			break
		}
		dates[id] = date
	}
	if err := errors.Join(err, rows.Err(), rows.Close()); err != nil {
		return err
	}
	for id, date := range dates {
		at, err := time.Parse(time.RFC3339Nano, date)
		if err != nil {
			return err
		}
		_, err = d.Exec("UPDATE "+table+" SET "+column+" = ? WHERE rowid = ?", at.Add(by).UTC().Format("2006-01-02T15:04:05.000Z"), id)
		if err != nil {
			return err
		}
	}
	return nil
}
