package db

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Backup writes the database as it is at one moment to a new file, for its owner
// alone, while others go on writing to the database. Once it returns nil the file
// survives a power cut (its name does when its directory is synced); otherwise there
// is no file, or a part of one when the process was killed. With Postgres it returns
// [errors.ErrUnsupported].
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
	if err := e.vacuumInto(ctx, path); err != nil {
		return fmt.Errorf("back up database to %s: %w", path, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("back up database: %w", err)
	}
	return nil
}

// vacuumInto copies in one read transaction: unlike SQLite's stepwise backup it never
// begins anew because somebody wrote, it obeys ctx, and what was deleted stays behind.
func (e *sqliteEngine) vacuumInto(ctx context.Context, path string) (err error) {
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
	_, err = conn.ExecContext(ctx, "VACUUM INTO ?", path)
	return err
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
