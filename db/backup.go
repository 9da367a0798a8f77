package db

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"

	"portico/db/migrations"
)

// Backup writes the database as it is at one moment to a new file, for its owner
// alone, while others go on writing to the database. Whoever opens the copy to write to it
// gives events numbers far above those that it has, since others may have been given
// meanwhile. Once it returns nil the file survives a power cut (its name does when its
// directory is synced); otherwise there is no file, or a part of one when the process was
// killed. With Postgres it returns [errors.ErrUnsupported].
func (db *DB) Backup(ctx context.Context, path string) (err error) {
	e, ok := db.engine.(*sqliteEngine)
	if !ok {
		return fmt.Errorf("back up %s: %w", db.Engine(), errors.ErrUnsupported)
	}
	// SQLite takes an empty file for a new one, but would give its own a mode of its own.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("back up database: %w", err)
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	if err := e.vacuumInto(ctx, path, db.now()); err != nil {
		return fmt.Errorf("back up database to %s: %w", path, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("back up database: %w", err)
	}
	return nil
}

// vacuumInto copies in one read transaction: unlike SQLite's stepwise backup it never
// begins anew because somebody wrote, it obeys ctx, and what was deleted stays behind.
func (e *sqliteEngine) vacuumInto(ctx context.Context, path string, now time.Time) (err error) {
	conn, err := e.readers.DB.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	// The pragma of the pool counts the new file among what must not be written.
	if _, err := conn.ExecContext(ctx, "PRAGMA query_only = 0"); err != nil {
		return err
	}
	defer func() {
		_, back := conn.ExecContext(context.WithoutCancel(ctx), "PRAGMA query_only = 1")
		err = errors.Join(err, back)
	}()
	if _, err := conn.ExecContext(ctx, "VACUUM INTO ?", path); err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, "ATTACH ? AS copy", path); err != nil {
		return err
	}
	// What is a backup itself, which nobody has written to, is as old as it says.
	_, err = conn.ExecContext(ctx, "INSERT INTO copy.meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING",
		backedUpAt, []byte(now.UTC().Format(time.RFC3339)))
	_, detached := conn.ExecContext(context.WithoutCancel(ctx), "DETACH copy")
	return errors.Join(err, detached)
}

// Check reads all of the database and returns an error when it is damaged. With
// Postgres it returns [errors.ErrUnsupported].
func (db *DB) Check(ctx context.Context) (err error) {
	e, ok := db.engine.(*sqliteEngine)
	if !ok {
		return fmt.Errorf("check %s: %w", db.Engine(), errors.ErrUnsupported)
	}
	rows, err := e.readers.DB.QueryContext(ctx, "PRAGMA integrity_check(3)")
	if err != nil {
		return fmt.Errorf("check database: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var findings []string
	for rows.Next() {
		var finding string
		if err := rows.Scan(&finding); err != nil {
			return fmt.Errorf("check database: %w", err)
		}
		findings = append(findings, finding)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("check database: %w", err)
	}
	if len(findings) != 1 || findings[0] != "ok" {
		return fmt.Errorf("database is damaged: %s", strings.Join(findings, "; "))
	}
	return nil
}

// A StoredBlob is a blob with the account that it is of.
type StoredBlob struct {
	DID  syntax.DID `bun:"did"`
	Blob `bun:",extend"`
}

var selectStoredBlobs = prepared(func(b *builder) bun.Query {
	return b.limit(b.NewSelect().Model((*StoredBlob)(nil)).Where("(b.did, b.cid) > (?, ?)", b.p(), b.p()), "b.did, b.cid")
})

// HasBlobs reports whether the schema has blobs, which one that is behind need not.
func (db *DB) HasBlobs(ctx context.Context) (bool, error) {
	applied, err := db.appliedSteps(ctx)
	return applied["0015_records"], err
}

// StoredBlobs returns up to limit blobs of all accounts, those after the given one, which
// may be the zero one, in the order of their accounts and CIDs.
func (q *queries) StoredBlobs(ctx context.Context, after StoredBlob, limit int) ([]StoredBlob, error) {
	blobs, err := many[StoredBlob](ctx, q, selectStoredBlobs, after.DID, bytesOf(after.CID), limit)
	return blobs, wrap(err, "list blobs")
}

// LastStep is the name of the last step of the schema that the database has seen.
func (q *queries) LastStep(ctx context.Context) (string, error) {
	applied, err := q.appliedSteps(ctx)
	last := ""
	for name := range applied {
		last = max(last, name)
	}
	return last, err
}

// KnowsStep reports whether this version has a step of the schema of an engine, "sqlite" or
// "postgres".
func KnowsStep(engine, name string) (bool, error) {
	steps, err := migrations.For(engine)
	return slices.ContainsFunc(steps, func(s migrations.Step) bool { return s.Name == name }), err
}

// SharedSnapshot is Snapshot with a name by which pg_dump reads the same state for as long
// as fn runs, and the version of the server, such as 150004. With SQLite it returns
// [errors.ErrUnsupported].
func (db *DB) SharedSnapshot(ctx context.Context, fn func(s *Snapshot, name string, version int) error) error {
	if db.Engine() != postgresName {
		return fmt.Errorf("share a snapshot of %s: %w", db.Engine(), errors.ErrUnsupported)
	}
	return db.Snapshot(ctx, func(s *Snapshot) error {
		var name string
		var version int
		// It lies idle for as long as somebody else reads what it keeps.
		if _, err := s.run.bun().ExecContext(ctx, "SET LOCAL idle_in_transaction_session_timeout = 0"); err != nil {
			return fmt.Errorf("share a snapshot: %w", err)
		}
		err := s.run.bun().NewSelect().ColumnExpr("pg_export_snapshot()").ColumnExpr("current_setting('server_version_num')::int").Scan(ctx, &name, &version)
		if err != nil {
			return fmt.Errorf("share a snapshot: %w", err)
		}
		return fn(s, name, version)
	})
}

// EmptyPostgres reports whether a database of Postgres has no table of anybody's.
func EmptyPostgres(ctx context.Context, url string) (empty bool, err error) {
	err = onPostgres(ctx, url, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "+
			"WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%' AND c.relkind IN ('r', 'p', 'v', 'm', 'S'))").Scan(&empty)
	})
	return empty, wrap(err, "look whether the database is empty")
}

// MarkBackup notes in a database of Postgres, to which nobody has written since it was
// restored, that it is a backup of a time: see [DB.Backup].
func MarkBackup(ctx context.Context, url string, at time.Time) error {
	return wrap(onPostgres(ctx, url, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
			backedUpAt, []byte(at.UTC().Format(time.RFC3339)))
		return err
	}), "mark the database as a backup")
}

func onPostgres(ctx context.Context, url string, fn func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return fn(conn)
}
