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
	"strings"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

const sqliteName = "sqlite"

// sqliteEngine has one connection that writes and a pool of those that read.
// SQLite allows one writer at a time anyhow; queueing in Go is fair and obeys
// contexts, which its busy handler is and does not.
type sqliteEngine struct {
	path    string
	file    os.FileInfo // of path, when it was opened
	lock    *dirLock
	writers *bun.DB
	writer  *liteWriter
	turn    chan struct{} // holds a token while nobody writes
	closed  chan struct{}
	readers *bun.DB
	read    *liteReader
}

func openSQLite(ctx context.Context, c Config) (_ *sqliteEngine, err error) {
	if c.ReadOnly {
		return openSQLiteReader(ctx, c)
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	e := &sqliteEngine{turn: make(chan struct{}, 1), closed: make(chan struct{})}
	e.turn <- struct{}{}
	if e.lock, err = lockDir(c.Dir, c.Serves); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
		}
	}()
	path := filepath.Join(c.Dir, "portico.sqlite")
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

	e.writers, err = openLite(path, 1, append(pragmas, "journal_mode(WAL)", synchronous, "journal_size_limit(67108864)"))
	if err != nil {
		return nil, err
	}
	conn, err := e.writers.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	e.writer = &liteWriter{conn: conn}
	if err := e.write(ctx, func(r runner) error { return prepare(ctx, e, r, c) }); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	e.readers, err = openLite(path, cmp.Or(c.MaxConns, 4), append(pragmas, "query_only(1)"))
	if err != nil {
		return nil, err
	}
	e.read = &liteReader{db: e.readers}
	return e, nil
}

// openSQLiteReader opens the reading pool alone. WAL lets it read beside the process
// that writes.
func openSQLiteReader(ctx context.Context, c Config) (*sqliteEngine, error) {
	path := filepath.Join(c.Dir, "portico.sqlite")
	file, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	pool, err := openLite(path, cmp.Or(c.MaxConns, 4), []string{"busy_timeout(10000)", "temp_store(MEMORY)", "query_only(1)"})
	if err != nil {
		return nil, err
	}
	e := &sqliteEngine{path: path, file: file, turn: make(chan struct{}, 1), closed: make(chan struct{}), readers: pool, read: &liteReader{db: pool}}
	e.turn <- struct{}{}
	if err := checkSchema(ctx, e, c.Behind); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

func openLite(path string, conns int, pragmas []string) (*bun.DB, error) {
	q := url.Values{"_pragma": pragmas}
	name := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}
	pool, err := sql.Open("sqlite", name.String())
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
	return bun.NewDB(pool, sqlitedialect.New()), nil
}

func (e *sqliteEngine) name() string   { return sqliteName }
func (e *sqliteEngine) reader() runner { return e.read }

func (e *sqliteEngine) ping(ctx context.Context) error {
	// What is written to a file that was removed, or replaced, is lost with this process.
	if now, err := os.Stat(e.path); err != nil {
		return err
	} else if !os.SameFile(now, e.file) {
		return fmt.Errorf("%s was replaced by another file", e.path)
	}
	return e.readers.PingContext(ctx)
}

// retry: there is nobody else who writes.
func (e *sqliteEngine) retry(error) bool { return false }

func (e *sqliteEngine) write(ctx context.Context, fn func(runner) error) (err error) {
	select {
	case <-e.turn:
	case <-e.closed:
		return sql.ErrConnDone
	case <-ctx.Done():
		return fmt.Errorf("wait for the writing connection: %w", ctx.Err())
	}
	defer func() { e.turn <- struct{}{} }()
	if e.writer == nil {
		return errReadOnly
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := e.writer.exec(ctx, "BEGIN IMMEDIATE", nil); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	committed := false
	defer func() { // also when fn panics
		if committed {
			return
		}
		// After some errors SQLite has rolled back by itself.
		_, rollback := e.writer.exec(ctx, "ROLLBACK", nil)
		if rollback != nil && !strings.Contains(rollback.Error(), "no transaction is active") {
			err = errors.Join(err, fmt.Errorf("roll back: %w", rollback))
		}
	}()
	if err := fn(e.writer); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := e.writer.exec(ctx, "COMMIT", nil); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	committed = true
	return nil
}

func (e *sqliteEngine) close() error {
	<-e.turn // and never back
	close(e.closed)
	var errs []error
	// The writer goes last: it is the one that may fold the log into the file.
	if e.readers != nil {
		e.read.close()
		errs = append(errs, e.readers.Close())
	}
	if e.writer != nil {
		e.writer.close()
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

// plain is a text without what only Postgres needs.
func plain(text string) string {
	for {
		before, rest, ok := strings.Cut(text, "{")
		if !ok {
			return text
		}
		_, after, _ := strings.Cut(rest, "}")
		text = before + after
	}
}

// liteWriter runs statements on the writing connection, prepared once each.
//
// Contexts are not passed down: a statement takes microseconds, less than the
// goroutines that database/sql and the driver start to watch a context, and
// interrupting a writer half-way helps nobody. write looks at the context before
// it begins and before it commits.
type liteWriter struct {
	conn  bun.Conn
	stmts memo[*sql.Stmt]
}

func (w *liteWriter) prepare(text string) (*sql.Stmt, error) {
	return w.stmts.get(text, func() (*sql.Stmt, error) {
		return w.conn.Conn.PrepareContext(context.Background(), plain(text))
	})
}

func (w *liteWriter) exec(_ context.Context, text string, args []any) (sql.Result, error) {
	s, err := w.prepare(text)
	if err != nil {
		return nil, err
	}
	return s.ExecContext(context.Background(), args...)
}

func (w *liteWriter) query(_ context.Context, text string, args []any) (*sql.Rows, error) {
	s, err := w.prepare(text)
	if err != nil {
		return nil, err
	}
	return s.QueryContext(context.Background(), args...)
}

func (w *liteWriter) queryRow(_ context.Context, text string, args []any) *sql.Row {
	s, err := w.prepare(text)
	if err != nil {
		// A Row cannot be made from an error; running the text gives it again.
		return w.conn.Conn.QueryRowContext(context.Background(), plain(text), args...)
	}
	return s.QueryRowContext(context.Background(), args...)
}

func (w *liteWriter) bun() bun.IDB { return w.conn }

func (w *liteWriter) close() { closeAll(&w.stmts) }

// liteReader runs statements on the reading pool, prepared once for each
// connection. It looks at contexts before it runs a statement, for the reason
// given at liteWriter.
type liteReader struct {
	db    *bun.DB
	stmts memo[*sql.Stmt]
}

func (r *liteReader) prepare(text string) (*sql.Stmt, error) {
	return r.stmts.get(text, func() (*sql.Stmt, error) {
		return r.db.DB.PrepareContext(context.Background(), plain(text))
	})
}

func (r *liteReader) exec(context.Context, string, []any) (sql.Result, error) {
	return nil, errors.New("write outside a transaction")
}

func (r *liteReader) query(ctx context.Context, text string, args []any) (*sql.Rows, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s, err := r.prepare(text)
	if err != nil {
		return nil, err
	}
	return s.QueryContext(context.Background(), args...)
}

func (r *liteReader) queryRow(ctx context.Context, text string, args []any) *sql.Row {
	s, err := r.prepare(text)
	if err != nil || ctx.Err() != nil {
		return r.db.DB.QueryRowContext(ctx, plain(text), args...)
	}
	return s.QueryRowContext(context.Background(), args...)
}

func (r *liteReader) bun() bun.IDB { return r.db }

func (r *liteReader) close() { closeAll(&r.stmts) }

func closeAll(m *memo[*sql.Stmt]) {
	m.m.Range(func(_, s any) bool {
		_ = s.(*sql.Stmt).Close() // the connection goes next
		return true
	})
}
