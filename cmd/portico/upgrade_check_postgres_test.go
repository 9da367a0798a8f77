package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"portico/db"
	"portico/db/dbtest"
	"portico/db/migrations"
)

// An oldPostgres is a database that has seen the steps up to one, with the rows of their days.
type oldPostgres struct {
	*testing.T
	*settings
	conn *pgx.Conn
}

func newOldPostgres(t *testing.T, last string) *oldPostgres {
	t.Helper()
	url := dbtest.EmptyPostgresURL(t)
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	p := &oldPostgres{T: t, conn: conn, settings: mustRead(t, "PDS_DATA_DIRECTORY="+t.TempDir(),
		"PORTICO_DATABASE_URL="+url, "PORTICO_KEY_ENCRYPTION_KEY="+strings.Repeat("0f", 32))}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	steps, err := migrations.For("postgres")
	if err != nil {
		t.Fatal(err)
	}
	pool := bun.NewDB(stdlib.OpenDB(*config), pgdialect.New())
	defer pool.Close()
	p.run("CREATE TABLE migration (name TEXT PRIMARY KEY, applied_at BIGINT NOT NULL)")
	for _, s := range steps {
		if s.Name > last {
			break
		}
		p.run(s.SQL)
		if s.Then != nil {
			if err := s.Then(t.Context(), pool); err != nil {
				t.Fatal(err)
			}
		}
		p.run("INSERT INTO migration (name, applied_at) VALUES ('" + s.Name + "', 0)")
		rows, err := os.ReadFile(filepath.Join("../../db/testdata", s.Name+".sql"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		p.run(strings.ReplaceAll(string(rows), " AS BLOB)", " AS BYTEA)"))
	}
	return p
}

// run runs statements.
func (p *oldPostgres) run(text string) {
	p.Helper()
	if err := p.conn.PgConn().Exec(p.Context(), text).Close(); err != nil {
		p.Fatal(err)
	}
}

// read returns the first column of all rows.
func (p *oldPostgres) read(query string) []string {
	p.Helper()
	rows, err := p.conn.Query(p.Context(), query, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		p.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		p.Fatal(err)
	}
	return all
}

// all is the schema, and the rows of all tables.
func (p *oldPostgres) all() map[string][]string {
	p.Helper()
	here := " WHERE schemaname = current_schema() ORDER BY 1"
	state := map[string][]string{
		"columns": p.read("SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default)" +
			" FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY 1"),
		"indexes":     p.read("SELECT indexdef FROM pg_indexes" + here),
		"constraints": p.read("SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = current_schema()::regnamespace ORDER BY 1"),
	}
	for _, table := range p.read("SELECT tablename::text FROM pg_tables" + here) {
		state["rows of "+table] = p.read("SELECT t::text FROM " + table + " AS t ORDER BY 1")
	}
	return state
}

// unchanged compares with what all was before, when nobody else is connected any more.
func (p *oldPostgres) unchanged(before map[string][]string) {
	p.Helper()
	p.until("the connections of the trial are gone", "SELECT pid::text FROM pg_stat_activity WHERE application_name = 'portico' AND datname = current_database()", 0)
	if diff := cmp.Diff(before, p.all()); diff != "" {
		p.Errorf("it changed the database: %s", diff)
	}
}

// until waits for a query to have so many rows.
func (p *oldPostgres) until(what, query string, n int) {
	p.Helper()
	for deadline := time.Now().Add(20 * time.Second); len(p.read(query)) != n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.Fatalf("in vain waited for: %s", what)
		}
	}
}

// hold has somebody else read a table in a transaction that does not end before release.
func (p *oldPostgres) hold(table string) (release func()) {
	p.Helper()
	other, err := pgx.Connect(p.Context(), string(p.DatabaseURL))
	if err != nil {
		p.Fatal(err)
	}
	if err := other.PgConn().Exec(p.Context(), "BEGIN; LOCK TABLE "+table+" IN ACCESS SHARE MODE").Close(); err != nil {
		p.Fatal(err)
	}
	return func() {
		if err := other.Close(p.Context()); err != nil {
			p.Error(err)
		}
	}
}

// Without being told to it tries nothing in Postgres, and says how large the database is.
func TestUpgradeCheckListsPostgres(t *testing.T) {
	p := newOldPostgres(t, "0020_adoption")
	p.run("CREATE TABLE unread (x TEXT) WITH (autovacuum_enabled = false); INSERT INTO unread SELECT repeat(n::text, 100) FROM generate_series(1, 1000) AS n; ANALYZE account")
	before := p.all()
	r, err := p.checkUpgrade(t.Context(), trial{longest: time.Minute})
	if err != nil || r.Tried || len(r.Steps) == 0 || r.Steps[0].Name != "0021_quarantine" || r.Size < 1<<20 || len(r.Tables) != 5 {
		t.Fatalf("%+v, %v", r, err)
	}
	var b strings.Builder
	if err := r.print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"0021_quarantine\n", "\n  account ", "about 3 rows\n", "\n  unread ", "nobody has counted its rows\n", "--try", "pg_dump"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
	p.unchanged(before)
}

// Databases of all ages are brought up to date, and are afterwards as they were.
func TestUpgradeCheckTriesPostgres(t *testing.T) {
	steps, err := migrations.For("postgres")
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range steps {
		t.Run(step.Name, func(t *testing.T) {
			p := newOldPostgres(t, step.Name)
			before := p.all()
			var warned bytes.Buffer
			r, err := p.checkUpgrade(t.Context(), trial{lock: time.Second, longest: time.Minute, warn: &warned})
			if err != nil {
				t.Fatal(err)
			}
			if pending := len(steps) - i - 1; len(r.Steps) != pending || r.Tried != (pending > 0) || strings.Contains(warned.String(), "1m0s at most") != r.Tried {
				t.Errorf("%+v, and beforehand: %s", r, &warned)
			}
			for k, next := range r.Steps {
				if next.Name != steps[i+1+k].Name || next.Seconds <= 0 {
					t.Errorf("step %+v, want %s", next, steps[i+1+k].Name)
				}
			}
			var b strings.Builder
			if err := r.print(&b); err != nil || strings.Contains(b.String(), "and undone: they take") != r.Tried {
				t.Errorf("%s, %v", &b, err)
			}
			p.unchanged(before)
		})
	}
}

// What keeps a trial from its end is told, and leaves nothing behind: neither a change nor a
// connection that holds a lock.
func TestUpgradeCheckOfPostgresEnds(t *testing.T) {
	p := newOldPostgres(t, "0020_adoption")
	before := p.all()
	how := func(lock, longest time.Duration) trial {
		return trial{lock: lock, longest: longest, warn: new(bytes.Buffer)}
	}

	release := p.hold("account")
	_, err := p.checkUpgrade(t.Context(), how(100*time.Millisecond, time.Minute))
	if !errors.Is(err, db.ErrTrialBlocked) || !strings.Contains(err.Error(), "each is waited for 100ms") || !strings.Contains(err.Error(), "step 0021_quarantine") {
		t.Errorf("where somebody has a lock: %v", err)
	}
	p.unchanged(before)

	_, err = p.checkUpgrade(t.Context(), how(time.Minute, 200*time.Millisecond))
	if !errors.Is(err, db.ErrTrialTooLong) || !strings.Contains(err.Error(), "--longest") {
		t.Errorf("where it takes too long: %v", err)
	}
	p.unchanged(before)

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := p.checkUpgrade(ctx, how(time.Minute, time.Minute))
		ended <- err
	}()
	waits := "SELECT pid::text FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
	p.until("the trial waits for the lock", waits, 1)
	cancel()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "interrupted: the steps are undone") {
		t.Errorf("interrupted: %v", err)
	}
	p.unchanged(before)

	// Somebody ends its connection.
	go func() {
		_, err := p.checkUpgrade(t.Context(), how(time.Minute, time.Minute))
		ended <- err
	}()
	p.until("the trial waits for the lock", waits, 1)
	p.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
	if err := <-ended; !errors.Is(err, db.ErrTrialCut) || strings.Contains(err.Error(), "would fail") {
		t.Errorf("cut off: %v", err)
	}
	p.unchanged(before)
	release()

	// What would let a start fail is told as that.
	p.run("CREATE TABLE quarantine (x TEXT)")
	before = p.all()
	r, err := p.checkUpgrade(t.Context(), how(time.Second, time.Minute))
	if err == nil || !strings.Contains(err.Error(), "a start of this version would fail") || !strings.Contains(r.Fails, "step 0021_quarantine") || exitStatus(err) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	p.unchanged(before)
}

// Flags that mean nothing to a database are no silent surprise.
func TestUpgradeCheckFlags(t *testing.T) {
	file := "PDS_DATA_DIRECTORY=" + t.TempDir()
	server := []string{file, "PORTICO_DATABASE_URL=postgres://127.0.0.1:1/x", "PORTICO_KEY_ENCRYPTION_KEY=" + strings.Repeat("0f", 32)}
	for _, c := range []struct {
		environ []string
		args    []string
		want    string
	}{
		{[]string{file}, []string{"--try"}, "--try is for Postgres"},
		{server, []string{"--on", "/tmp"}, "--on is for a copy"},
		{server, []string{"--longest", "1s"}, "--longest is for --try"},
		{server, []string{"--try", "--longest", "0s"}, "more than nothing"},
	} {
		var out, errs bytes.Buffer
		err := newCommand(append(c.environ, "PDS_DEV_MODE=true"), &out, &errs).Run(t.Context(), append([]string{"portico", "upgrade-check"}, c.args...))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c.args, err)
		}
	}
}
