package reference

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// A database is one of SQLite that is open for reading.
type database struct {
	db         *bun.DB
	name       string // of the file, for errors
	copied     string // folder of its copy, empty when it is read in place
	large      bool
	columns    map[string][]string
	migrations []string
}

// logs are the files beside a database that can hold what the database lacks: of writes
// that were committed, and of those to be undone.
var logs = []string{"-wal", "-journal"}

// openDatabase opens a database whose migrations are some of known. A copy is checked.
func openDatabase(ctx context.Context, path, scratch string, known []string) (_ *database, err error) {
	d := &database{name: filepath.Base(path)}
	defer func() {
		if err != nil {
			err = errors.Join(d.fail("", err), d.close())
		}
	}()
	// The logs of a database that is reached by a link are beside the file itself.
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: not a file", ErrDamaged)
	}
	logged, err := withLogs(path)
	if err != nil {
		return nil, err
	}
	if len(logged) > 0 {
		if path, err = d.copy(ctx, path, logged, scratch); err != nil {
			return nil, err
		}
	}
	// Nobody writes to it: no lock is taken, no log looked for.
	if d.db, err = openFile(path, url.Values{"mode": {"ro"}, "immutable": {"1"}}, "query_only(1)", "trusted_schema(0)", "cell_size_check(1)"); err != nil {
		return nil, err
	}
	d.large = info.Size() > thorough
	if d.copied != "" {
		if err := d.check(ctx); err != nil {
			return nil, err
		}
	}
	if err := d.readSchema(ctx); err != nil {
		return nil, err
	}
	return d, d.readEdition(ctx, known)
}

func openFile(path string, q url.Values, pragmas ...string) (*bun.DB, error) {
	q["_pragma"] = pragmas
	name := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}
	pool, err := sql.Open("sqlite", name.String())
	if err != nil {
		return nil, err
	}
	return bun.NewDB(pool, sqlitedialect.New()), nil
}

// withLogs are the suffixes of the logs of a database that hold something.
func withLogs(path string) ([]string, error) {
	var found []string
	for _, suffix := range logs {
		info, err := os.Stat(path + suffix)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err == nil && info.Size() > 0 {
			found = append(found, suffix)
		}
	}
	return found, nil
}

// copy copies a database with its logs, works them in, and returns the path of the copy.
func (d *database) copy(ctx context.Context, path string, logged []string, scratch string) (string, error) {
	folder, err := os.MkdirTemp(scratch, "copy-")
	if err != nil {
		return "", err
	}
	d.copied = folder
	to := filepath.Join(folder, "copy.sqlite")
	for _, suffix := range append([]string{""}, logged...) {
		if err := copyFile(ctx, path+suffix, to+suffix); err != nil {
			return "", err
		}
	}
	db, err := openFile(to, url.Values{"mode": {"rw"}}, "synchronous(OFF)")
	if err != nil {
		return "", err
	}
	var mode string
	err = db.NewRaw("PRAGMA journal_mode = DELETE").Scan(ctx, &mode)
	if err == nil && mode != "delete" {
		err = fmt.Errorf("log of %s stays apart from its copy", path)
	}
	return to, errors.Join(err, db.Close())
}

// copyFile copies a file, with shared bytes where the file system can.
func copyFile(ctx context.Context, from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	for err == nil && ctx.Err() == nil {
		_, err = io.CopyN(out, in, 256<<20)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, ctx.Err(), out.Close())
}

func (d *database) close() error {
	var errs []error
	if d.db != nil {
		errs = append(errs, d.db.Close())
	}
	if d.copied != "" {
		errs = append(errs, os.RemoveAll(d.copied))
	}
	return errors.Join(errs...)
}

// thorough is up to how many bytes a database has its indexes compared with its tables:
// that reads all of it in the order of each index.
const thorough = 256 << 20

// check reads all of a database, and returns ErrDamaged when SQLite finds it to be.
func (d *database) check(ctx context.Context) error {
	pragma := "PRAGMA integrity_check(1)"
	if d.large {
		pragma = "PRAGMA quick_check(1)"
	}
	var found string
	if err := d.db.NewRaw(pragma).Scan(ctx, &found); err != nil {
		return err
	}
	if found != "ok" {
		return fmt.Errorf("%w: %s", ErrDamaged, found)
	}
	return nil
}

// readSchema asks once which columns there are.
func (d *database) readSchema(ctx context.Context) error {
	var found []struct{ Table, Column string }
	err := d.db.NewSelect().TableExpr("sqlite_master AS m").Join("JOIN pragma_table_info(m.name) AS p").
		ColumnExpr(`m.name AS "table", p.name AS "column"`).Where("m.type = 'table'").Scan(ctx, &found)
	if err != nil {
		return err
	}
	d.columns = make(map[string][]string)
	for _, f := range found {
		d.columns[f.Table] = append(d.columns[f.Table], f.Column)
	}
	return nil
}

// readEdition asks which migrations were run. Of a table of another program's, and of one
// that was cut off in the midst of a migration, nothing is known.
func (d *database) readEdition(ctx context.Context, known []string) error {
	for _, table := range []string{"kysely_migration", "kysely_migration_lock"} {
		if d.columns[table] == nil {
			return fmt.Errorf("%w: it has no table %s", ErrUnknownEdition, table)
		}
	}
	locked, err := d.db.NewSelect().TableExpr("kysely_migration_lock").Where("is_locked <> 0").Exists(ctx)
	if err != nil {
		return err
	}
	if locked {
		return fmt.Errorf("%w: a migration was cut off", ErrUnknownEdition)
	}
	err = d.db.NewSelect().TableExpr("kysely_migration").Column("name").Order("name").Scan(ctx, &d.migrations)
	if err != nil {
		return err
	}
	for _, name := range d.migrations {
		if !slices.Contains(known, name) {
			return fmt.Errorf("%w: migration %q was run", ErrUnknownEdition, name)
		}
	}
	return nil
}

// need returns an error unless there are tables of these names.
func (d *database) need(tables ...string) error {
	for _, t := range tables {
		if d.columns[t] == nil {
			return fmt.Errorf("%s: %w: it has no table %s", d.name, ErrDamaged, t)
		}
	}
	return nil
}

// fail says where an error was met, and marks as damage what SQLite finds to be such.
func (d *database) fail(where string, err error) error {
	if err == nil {
		return nil
	}
	if lite, ok := errors.AsType[*sqlite.Error](err); ok && !errors.Is(err, ErrDamaged) {
		switch lite.Code() & 0xff {
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	return fmt.Errorf("%s: %w", strings.TrimSuffix(d.name+", "+where, ", "), err)
}
