package db_test

import (
	"errors"
	"log/slog"
	"testing"

	"portico/db"
	"portico/db/dbtest"
)

// A reader works beside the process that has the database, and sees what that
// has committed.
func TestReadOnlyBesideTheWriter(t *testing.T) {
	for _, tt := range []struct {
		name string
		c    db.Config
	}{
		{"sqlite", db.Config{Dir: t.TempDir(), Synchronous: "OFF"}},
		{"postgres", db.Config{URL: dbtest.PostgresURL(t)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.c.Logger = slog.New(slog.DiscardHandler)
			writer, err := db.Open(t.Context(), tt.c)
			if err != nil {
				t.Fatal(err)
			}
			defer writer.Close()
			tt.c.ReadOnly = true
			reader, err := db.Open(t.Context(), tt.c)
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			put := func(tx *db.Tx) error { return tx.PutMeta(t.Context(), "x", []byte("1")) }
			if err := reader.Write(t.Context(), put); err == nil || err.Error() != "database is open for reading only" {
				t.Errorf("got %v", err)
			}
			if err := reader.TryWrite(t.Context()); err == nil {
				t.Error("a reader can write")
			}
			if err := errors.Join(writer.TryWrite(t.Context()), writer.Write(t.Context(), put)); err != nil {
				t.Fatal(err)
			}
			if v, err := reader.Meta(t.Context(), "x"); err != nil || string(v) != "1" {
				t.Errorf("got %q, %v", v, err)
			}
		})
	}
	if _, err := db.Open(t.Context(), db.Config{Dir: t.TempDir(), ReadOnly: true}); err == nil {
		t.Error("a database that is not there was opened")
	}
}
