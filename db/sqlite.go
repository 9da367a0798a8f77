package db

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"modernc.org/sqlite"
)

const sqliteName = "sqlite"

// sqliteEngine has one connection that writes and a pool of those that read.
// SQLite allows one writer at a time anyhow; queueing in Go is fair and obeys
// contexts, which its busy handler is and does not.
type sqliteEngine struct {
	seen    *observer
	path    string
	file    os.FileInfo // of path, when it was opened
	lock    *dirLock
	writers *bun.DB
	writer  *liteWriter
	turns   turns
	// groupTime is as the constant, but in tests.
	groupTime time.Duration
	readers   *bun.DB
	read      *liteReader
	accounts  *accountCache // nil without a writer
}

func openSQLite(ctx context.Context, c Config, seen *observer) (_ *sqliteEngine, err error) {
	if c.ReadOnly {
		return openSQLiteReader(ctx, c, seen)
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	e := &sqliteEngine{seen: seen, groupTime: groupTime, accounts: newAccountCache()}
	if e.lock, err = waitForDir(ctx, c.Dir, c.Serves, c.LockWait); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
		}
	}()
	path := filepath.Join(c.Dir, liteName)
	if c.Draft {
		path = filepath.Join(c.Dir, draftName)
	}
	// Only the owner reads it. SQLite gives its -wal and -shm the same mode.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	e.path = path
	e.file, err = f.Stat()
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	pragmas := []string{"busy_timeout(10000)", "foreign_keys(1)", "temp_store(MEMORY)"}
	synchronous := "synchronous(" + cmp.Or(c.Synchronous, "FULL") + ")"

	// What commits write is moved from the log into the file when that has 8 MB, in the midst of
	// one: a page that many of them write goes there once.
	e.writers, err = openLite(path, seen, 1, append(pragmas, "journal_mode(WAL)", synchronous, "journal_size_limit(67108864)", "wal_autocheckpoint(2000)"))
	if err != nil {
		return nil, err
	}
	conn, err := e.writers.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	if e.writer, err = newLiteWriter(conn); err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	if err := e.write(ctx, true, func(r runner) error { return prepare(ctx, e, r, seen, c) }); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := e.writer.watch(e.accounts); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	e.readers, err = openLite(path, seen, cmp.Or(c.MaxConns, 4), append(pragmas, "query_only(1)"))
	if err != nil {
		return nil, err
	}
	e.read = &liteReader{db: e.readers}
	return e, nil
}

// openSQLiteReader opens the reading pool alone. WAL lets it read beside the process
// that writes.
func openSQLiteReader(ctx context.Context, c Config, seen *observer) (*sqliteEngine, error) {
	path := filepath.Join(c.Dir, liteName)
	file, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	pool, err := openLite(path, seen, cmp.Or(c.MaxConns, 4), []string{"busy_timeout(10000)", "temp_store(MEMORY)", "query_only(1)"})
	if err != nil {
		return nil, err
	}
	e := &sqliteEngine{seen: seen, path: path, file: file, readers: pool, read: &liteReader{db: pool}}
	if err := checkSchema(ctx, e, seen, c.Behind); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

func openLite(path string, seen *observer, conns int, pragmas []string) (*bun.DB, error) {
	q := url.Values{"_pragma": pragmas}
	name := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}
	pool, err := sql.Open("sqlite", name.String())
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
	return bun.NewDB(pool, withMicroseconds(sqlitedialect.New())).WithQueryHook(seen), nil
}

func (e *sqliteEngine) others() *aside { return nil }
func (e *sqliteEngine) name() string   { return sqliteName }
func (e *sqliteEngine) reader() runner { return e.read }

func (e *sqliteEngine) cache() *accountCache { return e.accounts }

func (e *sqliteEngine) ping(ctx context.Context) error {
	// What is written to a file that was removed, or replaced, is lost with this process.
	if now, err := os.Stat(e.path); err != nil {
		return err
	} else if !os.SameFile(now, e.file) {
		return fmt.Errorf("%s was replaced by another file", e.path)
	}
	return e.readers.PingContext(ctx)
}

func (e *sqliteEngine) pool() *sql.DB { return e.readers.DB }

func (e *sqliteEngine) waiting() int {
	e.turns.mu.Lock()
	defer e.turns.mu.Unlock()
	return len(e.turns.waiting)
}

func (e *sqliteEngine) files() (database, log int64) {
	size := func(path string) int64 {
		info, err := os.Stat(path)
		if err != nil {
			return 0 // it comes and goes
		}
		return info.Size()
	}
	return size(e.path), size(e.path + "-wal")
}

// run runs a statement that begins or ends a transaction, or a part of one.
func (e *sqliteEngine) run(s *statement) error {
	defer e.seen.end(s, e.seen.begin(s))
	p, err := e.writer.stmts.get(s, e.writer.conn.Conn.PrepareContext)
	if err == nil {
		_, err = p.ExecContext(context.Background())
	}
	return err
}

func (e *sqliteEngine) close() error {
	if !e.turns.close() {
		return nil
	}
	var errs []error
	// The writer goes last: it is the one that may fold the log into the file.
	if e.accounts != nil {
		e.accounts.stop()
	}
	if e.readers != nil {
		e.read.stmts.close()
		errs = append(errs, e.readers.Close())
	}
	if e.writer != nil {
		e.writer.stmts.close()
		errs = append(errs, e.writer.conn.Close())
	}
	if e.writers != nil {
		errs = append(errs, e.writers.Close())
	}
	if e.lock != nil {
		errs = append(errs, e.lock.release())
	}
	return errors.Join(errs...)
}

// A statementCache has the statements that were prepared on a connection or a pool.
type statementCache struct{ prepared sync.Map }

func (c *statementCache) get(s *statement, prepare func(ctx context.Context, text string) (*sql.Stmt, error)) (*sql.Stmt, error) {
	if p, ok := c.prepared.Load(s); ok {
		return p.(*sql.Stmt), nil
	}
	p, err := prepare(context.Background(), s.lite())
	if err != nil {
		return nil, err
	}
	if before, ok := c.prepared.LoadOrStore(s, p); ok {
		return before.(*sql.Stmt), p.Close()
	}
	return p, nil
}

func (c *statementCache) close() {
	c.prepared.Range(func(_, p any) bool {
		_ = p.(*sql.Stmt).Close() // the connection goes next
		return true
	})
}

// liteWriter runs statements on the writing connection, prepared once each.
//
// Contexts are not passed down: a statement takes microseconds, less than the
// goroutines that database/sql and the driver start to watch a context, and
// interrupting a writer half-way helps nobody. write looks at the context before
// it begins and before it commits.
//
// Its other fields belong to whoever has the turn to write.
type liteWriter struct {
	conn  bun.Conn
	stmts statementCache
	bytes int // of the parameters since BEGIN
	// undone says that the transaction is over by a ROLLBACK, possibly SQLite's own: what
	// runs then would be a transaction by itself.
	undone bool
	closed *bun.DB // stands for the connection then
}

func newLiteWriter(conn bun.Conn) (*liteWriter, error) {
	closed, err := sql.Open("sqlite", "")
	if err != nil {
		return nil, err
	}
	w := &liteWriter{conn: conn, closed: bun.NewDB(closed, withMicroseconds(sqlitedialect.New()))}
	err = conn.Raw(func(driverConn any) error {
		driverConn.(sqlite.HookRegisterer).RegisterRollbackHook(func() { w.undone = true })
		return nil
	})
	return w, errors.Join(err, closed.Close())
}

// watch tells c of the rows that change from now on.
func (w *liteWriter) watch(c *accountCache) error {
	return w.conn.Raw(func(driverConn any) error {
		driverConn.(sqlite.HookRegisterer).RegisterPreUpdateHook(c.changes)
		return nil
	})
}

// weigh counts the parameters of a statement that is to run, or says that none may.
func (w *liteWriter) weigh(args []any) error {
	if w.undone {
		return errUndone
	}
	for _, a := range args {
		switch a := a.(type) {
		case []byte:
			w.bytes += len(a)
		case string:
			w.bytes += len(a)
		}
	}
	return nil
}

func (w *liteWriter) exec(_ context.Context, s *statement, args []any) (sql.Result, error) {
	if err := w.weigh(args); err != nil {
		return nil, err
	}
	p, err := w.stmts.get(s, w.conn.Conn.PrepareContext)
	if err != nil {
		return nil, err
	}
	return p.ExecContext(context.Background(), args...)
}

func (w *liteWriter) query(_ context.Context, s *statement, args []any) (rows, error) {
	if err := w.weigh(args); err != nil {
		return nil, err
	}
	p, err := w.stmts.get(s, w.conn.Conn.PrepareContext)
	if err != nil {
		return nil, err
	}
	return p.QueryContext(context.Background(), args...)
}

func (w *liteWriter) queryRow(_ context.Context, s *statement, args []any) scanner {
	if err := w.weigh(args); err != nil {
		return w.closed.DB.QueryRowContext(context.Background(), s.lite())
	}
	p, err := w.stmts.get(s, w.conn.Conn.PrepareContext)
	if err != nil {
		// A Row cannot be made from an error; running the text gives it again.
		return w.conn.Conn.QueryRowContext(context.Background(), s.lite(), args...)
	}
	return p.QueryRowContext(context.Background(), args...)
}

func (w *liteWriter) bun() bun.IDB {
	if w.undone {
		return w.closed
	}
	return w.conn
}

// liteReader runs statements on the reading pool, prepared once for each
// connection. It looks at contexts before it runs a statement, for the reason
// given at liteWriter.
type liteReader struct {
	db    *bun.DB
	stmts statementCache
}

func (r *liteReader) exec(context.Context, *statement, []any) (sql.Result, error) {
	return nil, errOutside
}

func (r *liteReader) query(ctx context.Context, s *statement, args []any) (rows, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p, err := r.stmts.get(s, r.db.DB.PrepareContext)
	if err != nil {
		return nil, err
	}
	return p.QueryContext(context.Background(), args...)
}

func (r *liteReader) queryRow(ctx context.Context, s *statement, args []any) scanner {
	p, err := r.stmts.get(s, r.db.DB.PrepareContext)
	if err != nil || ctx.Err() != nil {
		return r.db.DB.QueryRowContext(ctx, s.lite(), args...)
	}
	return p.QueryRowContext(context.Background(), args...)
}

func (r *liteReader) bun() bun.IDB { return r.db }
