package db_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"portico/db"
)

func openDraft(t *testing.T, dir string) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), db.Config{Dir: dir, Draft: true, Synchronous: "NORMAL", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// Nobody opens a draft as a database until it is published; then all that was written to
// it is there.
func TestDraft(t *testing.T) {
	dir := t.TempDir()
	d := openDraft(t, dir)
	if err := d.Write(t.Context(), func(tx *db.Tx) error { return tx.PutMeta(t.Context(), "name", []byte("value")) }); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Open(t.Context(), db.Config{Dir: dir}); !errors.Is(err, db.ErrLocked) {
		t.Errorf("opened beside the draft: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if !db.HasDraft(dir) {
		t.Error("no draft is left")
	}
	if err := openDraft(t, dir).Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(names) != 2 || db.HasDraft(dir) {
		t.Errorf("left after publishing: %v, %v", names, err)
	}
	published, err := db.Open(t.Context(), db.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer published.Close()
	if v, err := published.Meta(t.Context(), "name"); err != nil || string(v) != "value" {
		t.Errorf("value %q, %v", v, err)
	}
	if err := published.Publish(t.Context()); err == nil {
		t.Error("published twice")
	}
}

// A database that is there is never replaced.
func TestPublishBesideADatabase(t *testing.T) {
	dir := t.TempDir()
	d := openDraft(t, dir)
	there := filepath.Join(dir, "portico.sqlite")
	if err := os.WriteFile(there, []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Publish(t.Context()); err == nil {
		t.Fatal("published")
	}
	if b, err := os.ReadFile(there); err != nil || string(b) != "another" {
		t.Errorf("the database is %q, %v", b, err)
	}
	if err := db.RemoveDraft(dir); err != nil {
		t.Fatal(err)
	}
	if db.HasDraft(dir) {
		t.Error("the draft is still there")
	}
}

func TestRemoveDraftInUse(t *testing.T) {
	dir := t.TempDir()
	openDraft(t, dir)
	if err := db.RemoveDraft(dir); !errors.Is(err, db.ErrLocked) {
		t.Errorf("removed: %v", err)
	}
}
