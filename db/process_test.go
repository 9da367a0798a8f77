package db_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"portico/db"
)

// childDir tells this binary to be a process that writes to a database until it
// is killed.
const childDir = "PORTICO_DB_TEST_CHILD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := writeForever(dir); err != nil {
			fmt.Println(err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeForever prints the number of every write that was acknowledged.
func writeForever(dir string) error {
	ctx := context.Background()
	d, err := db.Open(ctx, db.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		err := d.Write(ctx, func(tx *db.Tx) error {
			if err := tx.PutMeta(ctx, fmt.Sprint("write ", n), []byte("x")); err != nil {
				return err
			}
			return tx.AppendEvents(ctx, db.Event{DID: "did:plc:x", Kind: "account", Body: []byte("x")})
		})
		if err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// TestKill kills a process in the midst of its writes: the lock on its directory
// goes with it, and what it was told to be written is there.
func TestKill(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := db.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}
	acknowledged := 0
	for round := range 5 {
		child := exec.CommandContext(t.Context(), self)
		child.Env = append(os.Environ(), childDir+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range 5 + 7*round {
			if !lines.Scan() {
				t.Fatal("the child ended by itself")
			}
			if acknowledged, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatal(lines.Text())
			}
		}
		if round == 0 {
			_, err := db.Open(t.Context(), c)
			if !errors.Is(err, db.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("process %d on ", child.Process.Pid)) {
				t.Errorf("second process: got %v", err)
			}
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what was acknowledged before it died
			if n, err := strconv.Atoi(lines.Text()); err == nil {
				acknowledged = n
			}
		}
		_ = child.Wait() // it was killed

		d, err := db.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		for n := 1; n <= acknowledged; n++ {
			if _, err := d.Meta(t.Context(), fmt.Sprint("write ", n)); err != nil {
				t.Fatalf("round %d: acknowledged write %d of %d: %v", round, n, acknowledged, err)
			}
		}
		last, err := d.LastEvent(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n := count(t, d, "SELECT count(*) FROM event"); int64(n) != last {
			t.Errorf("%d events, the last is number %d", n, last)
		}
		rows, err := d.Query(t.Context(), "PRAGMA integrity_check")
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var verdict string
			if err := rows.Scan(&verdict); err != nil || verdict != "ok" {
				t.Errorf("integrity: %s, %v", verdict, err)
			}
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLock(t *testing.T) {
	c := db.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)}
	d, err := db.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if !d.Exclusive() {
		t.Error("an SQLite directory is exclusive")
	}
	_, err = db.Open(t.Context(), c)
	if !errors.Is(err, db.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("process %d on ", os.Getpid())) {
		t.Errorf("got %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if d, err = db.Open(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestClosed: what comes too late fails and does not wait.
func TestClosed(t *testing.T) {
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			c, _ := oldDatabase(t, engine)
			d, err := db.Open(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			ctx := context.Background()
			if err := d.Write(ctx, func(*db.Tx) error { return nil }); err == nil {
				t.Error("wrote")
			}
			if _, err := d.AccountByDID(ctx, "did:plc:x"); err == nil || errors.Is(err, db.ErrNotFound) {
				t.Errorf("read: %v", err)
			}
			if err := d.Ping(ctx); err == nil {
				t.Error("answered")
			}
		})
	}
}

// TestFileMode: the database is for its owner's eyes only.
func TestFileMode(t *testing.T) {
	dir := t.TempDir() + "/data"
	d, err := db.Open(t.Context(), db.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for path, want := range map[string]os.FileMode{
		dir: 0o700, dir + "/portico.sqlite": 0o600, dir + "/portico.sqlite-wal": 0o600, dir + "/portico.sqlite-shm": 0o600,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s: mode %o, want %o", path, got, want)
		}
	}
}

// TestPragmas pins what durability and foreign keys rest on.
func TestPragmas(t *testing.T) {
	c := db.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)}
	d, err := db.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1"} {
		if got := d.WriterPragma(t.Context(), pragma); got != want {
			t.Errorf("%s: got %s, want %s", pragma, got, want)
		}
	}
}

func raw(t *testing.T, driver, source, text string) {
	t.Helper()
	pool, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := pool.ExecContext(t.Context(), text); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
}
