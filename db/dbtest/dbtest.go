// Package dbtest gives tests fresh databases of both engines and holds the suite
// that every engine has to pass.
package dbtest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"portico/db"
)

// An Option changes how a database is opened.
type Option func(*db.Config)

// Open returns an empty SQLite database in a directory of its own, closed when
// the test ends. It does not wait for the disk.
func Open(t testing.TB, options ...Option) *db.DB {
	t.Helper()
	dir := t.TempDir()
	empty, err := emptySQLite()
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, sqliteFile), empty, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return open(t, db.Config{Dir: dir, Synchronous: "OFF"}, options)
}

const sqliteFile = "portico.sqlite"

// emptySQLite is the file of a database with the newest schema and no rows: all that
// [Open] returns are copies of it.
var emptySQLite = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "portico-sqlite-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	d, err := db.Open(context.Background(), db.Config{Dir: dir, Synchronous: "OFF", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	if err := d.Close(); err != nil { // which empties the log into the file
		return nil, err
	}
	return os.ReadFile(filepath.Join(dir, sqliteFile))
})

// Postgres returns an empty Postgres database, closed and dropped when the test
// ends. See [PostgresURL] for where it lives.
func Postgres(t testing.TB, options ...Option) *db.DB {
	t.Helper()
	return open(t, db.Config{URL: PostgresURL(t)}, options)
}

// Engines runs a test as a subtest on a fresh database of each engine.
func Engines(t *testing.T, test func(t *testing.T, d *db.DB), options ...Option) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, Open(t, options...)) })
	t.Run("postgres", func(t *testing.T) { test(t, Postgres(t, options...)) })
}

func open(t testing.TB, c db.Config, options []Option) *db.DB {
	t.Helper()
	c.MaxConns, c.Pooled = 8, Pooled()
	c.Logger = slog.New(slog.DiscardHandler)
	for _, o := range options {
		o(&c)
	}
	return openAs(t, c)
}

// opened has how the Postgres databases that are open were opened, by their *db.DB.
var opened sync.Map

func openAs(t testing.TB, c db.Config) *db.DB {
	t.Helper()
	d, err := db.Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if c.URL != "" {
		opened.Store(d, c)
	}
	t.Cleanup(func() {
		opened.Delete(d)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// Again opens a database of [Postgres] or [Engines] once more, as another process does, with
// the options that it was opened with. Of SQLite, which is for one process, it returns nil.
func Again(t testing.TB, d *db.DB) *db.DB {
	t.Helper()
	c, ok := opened.Load(d)
	if !ok {
		return nil
	}
	return openAs(t, c.(db.Config))
}

var databases atomic.Int64

// PostgresURL returns the URL of a database with the newest schema and no rows,
// dropped when the test ends. All of a process's live in one cluster that is
// started for the first and ends with the process. Without initdb on the machine
// the test is skipped, or fails where CI is set.
func PostgresURL(t testing.TB) string {
	t.Helper()
	return tested(t, createDatabase(t, "TEMPLATE "+template+sharedCluster(t).strategy))
}

// SoundURL is [PostgresURL] without faults by chance, also where [Faulty].
func SoundURL(t testing.TB) string {
	t.Helper()
	database := DirectURL(t)
	if Pooled() {
		return PoolerURL(t, database)
	}
	return database
}

// EmptyPostgresURL is [PostgresURL] without a schema.
func EmptyPostgresURL(t testing.TB) string {
	t.Helper()
	return tested(t, createDatabase(t, ""))
}

// DirectURL is [PostgresURL] that leads past a pooler, also where [Pooled], and past faults.
func DirectURL(t testing.TB) string {
	t.Helper()
	return createDatabase(t, "TEMPLATE "+template+sharedCluster(t).strategy)
}

// TwoServers returns the URLs of two empty databases of one name and with the newest schema
// on two servers, one of them both that leads to whichever takes writes, and a function that has
// the first take none any more, and end its connections. Both end with the test.
func TwoServers(t testing.TB) (one, other, both string, demote func()) {
	t.Helper()
	first := sharedCluster(t)
	one = DirectURL(t)
	name := strings.TrimPrefix(strings.SplitN(one, "?", 2)[0], "postgres://portico@/")
	urls, err := Databases(name)
	if err != nil {
		t.Fatal(err)
	}
	other = urls[0]
	d, err := db.Open(context.Background(), db.Config{URL: other, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := startDurable()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := second.exec("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	both = "postgres://portico@/" + name + "?host=" + first.dir + "," + second.dir + "&target_session_attrs=read-write"
	return one, other, both, func() {
		for _, sql := range []string{
			"ALTER DATABASE " + name + " SET default_transaction_read_only = on",
			"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '" + name + "'",
		} {
			if err := first.exec(sql); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// tested is the way to a database that the tests go.
func tested(t testing.TB, database string) string {
	t.Helper()
	if Pooled() {
		database = PoolerURL(t, database)
	}
	if Faulty() {
		database = faultyURL(t, database)
	}
	return database
}

func createDatabase(t testing.TB, options string) string {
	t.Helper()
	c := sharedCluster(t)
	name := fmt.Sprintf("test_%d", databases.Add(1))
	if err := c.exec("CREATE DATABASE " + name + " " + options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.exec("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	return c.url(name)
}

func sharedCluster(t testing.TB) *cluster {
	t.Helper()
	c, err := startOnce()
	switch {
	case err == errNoInitdb && os.Getenv("CI") == "true":
		t.Fatal("Postgres is missing: initdb is neither on PATH nor under /usr/lib/postgresql")
	case err == errNoInitdb:
		t.Skip("SKIPPED, NOTHING WAS TESTED ON POSTGRES: initdb is neither on PATH nor under /usr/lib/postgresql")
	case err != nil:
		t.Fatal(err)
	}
	return c
}

func (c *cluster) exec(sql string) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, c.own())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}
