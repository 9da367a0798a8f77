package reference

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"
)

// schemas are the statements that the migrations of an edition come to.
//
//go:embed schema
var schemas embed.FS

// draftSuffix is what the name of a directory has more while it is not whole.
const draftSuffix = ".unfinished"

// Target is a data directory that is written, of the edition that 0.4.173 to 0.5.35 have,
// laid out as that server's installer does it. It has another name until Finish, so that
// nobody takes a part of it for the whole. All of it is for its owner alone. One goroutine
// may use it.
type Target struct {
	folder   string // in the end
	layout   Layout // until then
	accounts *writer
	events   *writer
	empty    []byte // file of a store without rows
	done     bool
}

// Create makes the folders and the two databases of a directory, which must not be there,
// nor what an attempt before has left: both are [fs.ErrExist], with the name of what is. now is when it was made, as
// it says itself.
func Create(ctx context.Context, folder string, now time.Time) (_ *Target, err error) {
	folder, err = filepath.Abs(folder)
	if err != nil {
		return nil, err
	}
	draft := folder + draftSuffix
	t := &Target{folder: folder, layout: layoutOf(draft)}
	if _, err := os.Lstat(folder); err == nil {
		return nil, fmt.Errorf("%s: %w", folder, fs.ErrExist)
	}
	if err := os.Mkdir(draft, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Close())
		}
	}()
	for _, dir := range []string{t.layout.Actors, t.layout.Blobs} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
	}
	if t.empty, err = emptyStore(ctx, filepath.Join(draft, "store.sqlite"), now); err != nil {
		return nil, err
	}
	if t.accounts, err = newWriter(ctx, t.layout.AccountDB, nil); err != nil {
		return nil, err
	}
	if err := t.accounts.define(ctx, "account", accountMigrations, now); err != nil {
		return nil, err
	}
	if t.events, err = newWriter(ctx, t.layout.SequencerDB, nil); err != nil {
		return nil, err
	}
	return t, t.events.define(ctx, "sequencer", otherMigrations, now)
}

func layoutOf(folder string) Layout {
	in := func(name ...string) string { return filepath.Join(append([]string{folder}, name...)...) }
	return Layout{
		AccountDB: in("account.sqlite"), SequencerDB: in("sequencer.sqlite"), Actors: in("actors"), Settings: in("pds.env"),
		Blobs: in("blocks"), Temporary: in("blocks", "tempt"), Quarantine: in("blocks", "quarantine"),
	}
}

// emptyStore makes a store once, of which all are copies: that is much faster than to make
// each.
func emptyStore(ctx context.Context, path string, now time.Time) ([]byte, error) {
	w, err := newWriter(ctx, path, nil)
	if err != nil {
		return nil, err
	}
	if err = w.define(ctx, "store", otherMigrations, now); err == nil {
		err = w.commit(ctx)
	}
	if err = errors.Join(err, w.close()); err != nil {
		return nil, err
	}
	file, err := os.ReadFile(path)
	return file, errors.Join(err, os.Remove(path))
}

// Layout says where the parts of the directory are until it is finished.
func (t *Target) Layout() Layout { return t.layout }

// InsertAccounts stores rows of account.sqlite, of one of their types. The row of an account
// without an address is left out, as are all of accounts that sign up without a password.
func InsertAccounts[T Actor | AppPassword | RefreshToken | InviteCode | InviteCodeUse | RepoRoot](ctx context.Context, t *Target, rows ...T) error {
	if err := insert(ctx, t.accounts, "", rows); err != nil {
		return err
	}
	for _, row := range rows {
		if a, ok := any(row).(Actor); ok && a.Email != nil {
			if err := insert(ctx, t.accounts, "account", []Actor{a}); err != nil {
				return err
			}
		}
	}
	return nil
}

// InsertEvents stores events with their numbers.
func (t *Target) InsertEvents(ctx context.Context, events ...Event) error {
	return insert(ctx, t.events, "", events)
}

// SetLastEvent makes the next event of the server get the number after seq, which is not
// below that of any event stored before.
func (t *Target) SetLastEvent(ctx context.Context, seq int64) error {
	s := t.events.tx
	updated, err := s.NewUpdate().TableExpr("sqlite_sequence").Set("seq = ?", seq).Where("name = 'repo_seq'").Exec(ctx)
	if err != nil {
		return err
	}
	if n, err := updated.RowsAffected(); err != nil || n > 0 {
		return err
	}
	_, err = s.NewInsert().TableExpr("sqlite_sequence").Model(&map[string]any{"name": "repo_seq", "seq": seq}).Exec(ctx)
	return err
}

// StoreTarget is a store that is written.
type StoreTarget struct{ w *writer }

// InsertRows stores rows of a store, of one of their types. Of blocks with the same CID one
// stays, with the earliest rev.
func InsertRows[T RepoRoot | Block | Record | Blob | RecordBlob | Backlink | Preference](ctx context.Context, s *StoreTarget, rows ...T) error {
	return insert(ctx, s.w, "", rows)
}

// Store makes the folder of an account with its signing key, and has fill fill its store in
// one transaction.
func (t *Target) Store(ctx context.Context, did string, key []byte, fill func(*StoreTarget) error) (err error) {
	if err := fileName(did); err != nil {
		return err
	}
	folder := filepath.Join(t.layout.Actors, prefix(did), did)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(folder, "key"), key); err != nil {
		return err
	}
	w, err := newWriter(ctx, filepath.Join(folder, "store.sqlite"), t.empty)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if err := fill(&StoreTarget{w}); err != nil {
		return err
	}
	return w.commit(ctx)
}

// ReserveKey stores a key that was handed out.
func (t *Target) ReserveKey(k ReservedKey) error {
	if err := fileName(k.Name); err != nil {
		return err
	}
	folder := filepath.Join(t.layout.Actors, "reserved_keys")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	return writeFile(filepath.Join(folder, k.Name), k.Key)
}

// fileName returns an error for what would lead elsewhere as a name of a file.
func fileName(name string) error {
	if !filepath.IsLocal(name) || strings.ContainsAny(name, `/\`) || name == "." {
		return fmt.Errorf("name %q: %w", name, fs.ErrInvalid)
	}
	return nil
}

func writeFile(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

// WriteSettings stores the file of the settings.
func (t *Target) WriteSettings(text []byte) error { return writeFile(t.layout.Settings, text) }

// Finish ends the directory: when it returns nil the directory has its name and survives a
// power cut.
func (t *Target) Finish(ctx context.Context) error {
	err := errors.Join(t.accounts.commit(ctx), t.events.commit(ctx))
	if err = errors.Join(err, t.closeDatabases()); err != nil {
		return err
	}
	draft := t.folder + draftSuffix
	if err := syncAll(ctx, draft); err != nil {
		return err
	}
	if err := os.Rename(draft, t.folder); err != nil {
		return err
	}
	t.done = true
	return syncFile(filepath.Dir(t.folder))
}

// Close removes what was written unless it is finished. What a process leaves that was
// killed has to be removed by hand.
func (t *Target) Close() error {
	err := t.closeDatabases()
	if !t.done {
		err = errors.Join(err, os.RemoveAll(t.folder+draftSuffix))
	}
	return err
}

func (t *Target) closeDatabases() error {
	var errs []error
	for _, w := range []*writer{t.accounts, t.events} {
		if w != nil {
			errs = append(errs, w.close())
		}
	}
	t.accounts, t.events = nil, nil
	return errors.Join(errs...)
}

// syncAll syncs all files and folders below one. What was written long ago costs nothing.
func syncAll(ctx context.Context, root string) error {
	return filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		return syncFile(path)
	})
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// A writer writes a database in one transaction.
type writer struct {
	db         *bun.DB
	tx         bun.Tx
	statements map[string]*prepared
}

type prepared struct {
	*sql.Stmt
	fields []*schema.Field
	args   []any
}

// newWriter writes to a new file that begins as a copy of another one. Nothing of it counts
// until the whole directory is synced, so that SQLite need not care for crashes.
func newWriter(ctx context.Context, path string, begin []byte) (*writer, error) {
	if err := writeFile(path, begin); err != nil {
		return nil, err
	}
	db, err := openFile(path, url.Values{"mode": {"rw"}}, "journal_mode(OFF)", "synchronous(OFF)", "locking_mode(EXCLUSIVE)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	w := &writer{db: db, statements: make(map[string]*prepared)}
	if w.tx, err = db.BeginTx(ctx, nil); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return w, nil
}

// define makes the tables of a schema and notes the migrations that make them.
func (w *writer) define(ctx context.Context, name string, migrations []string, now time.Time) error {
	text, err := schemas.ReadFile("schema/" + name + ".sql")
	if err != nil {
		return err
	}
	if _, err := w.tx.ExecContext(ctx, string(text)); err != nil {
		return err
	}
	for _, m := range migrations {
		row := map[string]any{"name": m, "timestamp": FormatTime(now)}
		if _, err := w.tx.NewInsert().Model(&row).TableExpr("kysely_migration").Exec(ctx); err != nil {
			return err
		}
	}
	row := map[string]any{"id": "migration_lock", "is_locked": 0}
	_, err = w.tx.NewInsert().Model(&row).TableExpr("kysely_migration_lock").Exec(ctx)
	return err
}

// insert stores rows in a table, that of their type if none is named.
func insert[T any](ctx context.Context, w *writer, table string, rows []T) error {
	model := w.db.Dialect().Tables().Get(reflect.TypeFor[*T]())
	if table == "" {
		table = model.Name
	}
	s, err := w.statement(ctx, table, model)
	if err != nil {
		return err
	}
	for i := range rows {
		v := reflect.ValueOf(&rows[i]).Elem()
		for n, f := range s.fields {
			s.args[n] = f.Value(v).Interface()
		}
		if _, err := s.ExecContext(ctx, s.args...); err != nil {
			return fmt.Errorf("table %s: %w", table, err)
		}
	}
	return nil
}

// statement is prepared for the columns of a table that a model has.
func (w *writer) statement(ctx context.Context, table string, model *schema.Table) (*prepared, error) {
	if known := w.statements[table]; known != nil {
		return known, nil
	}
	var columns []string
	if err := w.tx.NewSelect().TableExpr("pragma_table_info(?)", table).Column("name").Scan(ctx, &columns); err != nil {
		return nil, err
	}
	s := &prepared{}
	row := make(map[string]any)
	for _, c := range columns {
		if f := model.FieldMap[c]; f != nil {
			s.fields = append(s.fields, f)
			row[c] = bun.Safe("?" + fmt.Sprint(len(s.fields)))
		}
	}
	text, err := w.tx.NewInsert().Model(&row).TableExpr("?", bun.Ident(table)).AppendQuery(w.db.QueryGen(), nil)
	if err != nil {
		return nil, err
	}
	if table == "repo_block" {
		text = append(text, ` ON CONFLICT (cid) DO UPDATE SET "repoRev" = min("repoRev", excluded."repoRev")`...)
	}
	if s.Stmt, err = w.tx.PrepareContext(ctx, string(text)); err != nil {
		return nil, err
	}
	s.args = make([]any, len(s.fields))
	w.statements[table] = s
	return s, nil
}

// commit ends the transaction and lets the database keep a log from now on, as the server
// wants it.
func (w *writer) commit(ctx context.Context) error {
	if err := w.tx.Commit(); err != nil {
		return err
	}
	var mode string
	return w.db.NewRaw("PRAGMA journal_mode = WAL").Scan(ctx, &mode)
}

func (w *writer) close() error {
	w.tx.Rollback() // which there may be nothing of
	return w.db.Close()
}
