package db_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"portico/db"
	"portico/db/dbtest"
)

func openReader(t *testing.T, dir string) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), db.Config{Dir: dir, ReadOnly: true, Behind: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// A backup beside a process that writes has everything that was acknowledged before
// it, and of every transaction all or nothing.
func TestBackupBesideTheWriter(t *testing.T) {
	dir, copies := t.TempDir(), t.TempDir()
	writer, err := db.Open(t.Context(), db.Config{Dir: dir, Synchronous: "OFF", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	written := make(chan int)
	stop := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		defer close(written)
		for n := 1; ; n++ {
			err := writer.Write(t.Context(), func(tx *db.Tx) error {
				if err := tx.PutMeta(t.Context(), "first", []byte(fmt.Sprint(n))); err != nil {
					return err
				}
				return tx.PutMeta(t.Context(), "second", []byte(fmt.Sprint(n)))
			})
			if err != nil {
				ended <- err
				return
			}
			select {
			case written <- n:
			case <-stop:
				ended <- nil
				return
			default:
			}
		}
	}()

	reader := openReader(t, dir)
	for round := range 3 {
		before := <-written
		into := filepath.Join(copies, fmt.Sprint(round))
		if err := os.Mkdir(into, 0o755); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(into, "portico.sqlite")
		if err := reader.Backup(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("the copy is %v, %v", info.Mode(), err)
		}
		made := openReader(t, into)
		if err := made.Check(t.Context()); err != nil {
			t.Error(err)
		}
		first, err1 := made.Meta(t.Context(), "first")
		second, err2 := made.Meta(t.Context(), "second")
		var n int
		fmt.Sscan(string(first), &n)
		if err := errors.Join(err1, err2); err != nil || string(first) != string(second) || n < before {
			t.Errorf("the copy has %s and %s after %d, %v", first, second, before, err)
		}
		if entries, err := os.ReadDir(into); err != nil || len(entries) != 1 {
			t.Errorf("beside the copy there are %v, %v", entries, err)
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	// The connection that copied reads again, and nothing else.
	if err := reader.Write(t.Context(), func(tx *db.Tx) error { return nil }); err == nil {
		t.Error("the reader writes")
	}
}

// A backup that fails leaves no file, and touches none that is there.
func TestBackupThatFails(t *testing.T) {
	dir := t.TempDir()
	d, err := db.Open(t.Context(), db.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	path := filepath.Join(dir, "copy")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Backup(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file of a failed backup: %v", err)
	}
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Backup(t.Context(), path); !errors.Is(err, os.ErrExist) {
		t.Errorf("onto a file: %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "mine" {
		t.Errorf("the file there was: %s, %v", text, err)
	}
	if err := d.Backup(t.Context(), filepath.Join(dir, "none", "copy")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("into no directory: %v", err)
	}
}

func TestBackupOfPostgres(t *testing.T) {
	d, err := db.Open(t.Context(), db.Config{URL: dbtest.PostgresURL(t), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	path := filepath.Join(t.TempDir(), "copy")
	if err := d.Backup(t.Context(), path); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	if err := d.Check(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
}

// A damaged database is told from a whole one.
func TestCheckOfADamagedDatabase(t *testing.T) {
	dir := t.TempDir()
	d, err := db.Open(t.Context(), db.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	err = d.Write(t.Context(), func(tx *db.Tx) error { return tx.PutMeta(t.Context(), "x", []byte("1")) })
	if err := errors.Join(err, d.Close()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "portico.sqlite")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The root of a table is emptied.
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	var root int
	err = raw.QueryRowContext(t.Context(), `SELECT rootpage FROM sqlite_schema WHERE name = 'meta'`).Scan(&root)
	if err := errors.Join(err, raw.Close()); err != nil {
		t.Fatal(err)
	}
	const page = 4096
	clear(whole[(root-1)*page : root*page])
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := openReader(t, dir)
	if err := damaged.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "damaged") && !strings.Contains(err.Error(), "malformed") {
		t.Errorf("got %v", err)
	}
}

// A reader may take a schema that lacks steps, and never one that is ahead.
func TestReadOnlyBehind(t *testing.T) {
	dir := t.TempDir()
	c := db.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}
	d, err := db.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	change := func(statement string) {
		t.Helper()
		raw, err := sql.Open("sqlite", filepath.Join(dir, "portico.sqlite"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = raw.ExecContext(t.Context(), statement)
		if err := errors.Join(err, raw.Close()); err != nil {
			t.Fatal(err)
		}
	}
	change(`DELETE FROM migration WHERE name = (SELECT max(name) FROM migration)`)
	c.ReadOnly = true
	if d, err := db.Open(t.Context(), c); err == nil {
		d.Close()
		t.Error("a schema that lacks a step was opened")
	}
	openReader(t, dir)
	change(`INSERT INTO migration (name, applied_at) VALUES ('9999_future', 0)`)
	c.Behind = true
	if _, err := db.Open(t.Context(), c); !errors.Is(err, db.ErrSchemaAhead) {
		t.Errorf("ahead: %v", err)
	}
}

// Numbers that the server may have given after a backup are not given again by one that
// is started on it, once or more often.
func TestBackupJumpsAhead(t *testing.T) {
	dir, copies := t.TempDir(), t.TempDir()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	open := func(dir string) *db.DB {
		t.Helper()
		d, err := db.Open(t.Context(), db.Config{
			Dir: dir, Synchronous: "OFF", SequenceStart: 40, Now: func() time.Time { return now }, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	last := func(d *db.DB, want int64) {
		t.Helper()
		if n, err := d.LastEvent(t.Context()); err != nil || n != want {
			t.Errorf("last event is %d, %v, want %d", n, err, want)
		}
	}
	server := open(dir)
	last(server, 40)
	if err := server.Backup(t.Context(), filepath.Join(copies, "portico.sqlite")); err != nil {
		t.Fatal(err)
	}
	last(server, 40)
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	server = open(dir) // which is no backup
	last(server, 40)
	if at, err := server.StartedOnBackup(t.Context()); err != nil || !at.IsZero() {
		t.Errorf("started on a backup of %v, %v", at, err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	made := now
	now = now.Add(30 * time.Second)
	backup := openReader(t, copies)
	last(backup, 40)
	again := t.TempDir() // a backup of the backup
	if err := backup.Backup(t.Context(), filepath.Join(again, "portico.sqlite")); err != nil {
		t.Fatal(err)
	}
	now = now.Add(30 * time.Second)
	for range 2 {
		for _, dir := range []string{copies, again} {
			restored := open(dir)
			last(restored, 1_060_040)
			if at, err := restored.StartedOnBackup(t.Context()); err != nil || !at.Equal(made) {
				t.Errorf("started on a backup of %v, %v, want %v", at, err, made)
			}
			if err := restored.Close(); err != nil {
				t.Fatal(err)
			}
		}
		now = now.Add(time.Hour)
	}
}
