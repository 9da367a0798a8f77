// Package db keeps everything that Portico remembers, in SQLite or Postgres.
//
// Outside it there are plain structs and sentinel errors; bun and SQL stay
// inside. The database holds the rules: what must be unique or exact is so by
// constraint and transaction, and a lost race is a sentinel error.
//
// Every table has a model beside its functions: a struct with bun's tags. A statement of
// a fixed shape is a variable that bun's builder fills once, see [prepared]; a builder
// that runs per call is for shapes that depend on the data, and its arguments become part
// of the text, so values of any length are never among them.
//
// Reading methods belong to [DB], [Reader] and [Tx], writing ones to [Tx] alone.
// Times are kept in microseconds and come back in UTC; the rest of a finer time
// is cut off. The zero time and the empty string stand for "none".
package db

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"
)

// The errors that callers tell apart; all others are internal.
var (
	ErrNotFound          = errors.New("not found")
	ErrDIDTaken          = errors.New("DID is taken")
	ErrHandleTaken       = errors.New("handle is taken")
	ErrEmailTaken        = errors.New("email is taken")
	ErrNameTaken         = errors.New("name is taken")
	ErrInviteUnavailable = errors.New("invite code is not available")
	// ErrPhoneTaken says that a phone number has as many accounts as it may have.
	ErrPhoneTaken = errors.New("phone number has its accounts")
	// ErrPasskeyTaken says that a passkey is stored already, for this account or another.
	ErrPasskeyTaken    = errors.New("passkey is stored already")
	ErrTooManyPasskeys = errors.New("account has as many passkeys as it may")
	// ErrLeaseLost says that the work on a row now belongs to somebody else, or
	// is done.
	ErrLeaseLost = errors.New("lease is lost")
	// ErrStale says that a row is not as the caller's request takes it to be.
	ErrStale = errors.New("row has changed")
	// ErrSchemaAhead says that a newer Portico has migrated the database.
	ErrSchemaAhead = errors.New("database schema is ahead of this version")
	// ErrLocked says that another process has the data directory.
	ErrLocked = errors.New("data directory is in use")
	// ErrPooler says that Postgres is behind a pooler, and [Config] does not say so.
	ErrPooler = errors.New("the database is behind a pooler, and the settings do not say so (PORTICO_DATABASE_POOLED)")
)

// Config says which database to open.
type Config struct {
	// URL is a postgres:// URL. Empty means SQLite in Dir.
	URL string
	// Pooled says that URL leads to a pooler that gives a connection to one transaction at a
	// time: nothing is prepared then, and nothing of the connection outlives a transaction.
	Pooled bool
	// ReadURL is that of a standby of the database at URL, or of several, for [Read]. It may be
	// empty.
	ReadURL string
	// ListenURL leads to the same database as URL, but to no pooler: other processes' wake-ups
	// come from there. Empty means URL or, where that is Pooled, that the database is asked.
	ListenURL string
	// Away is for how long Postgres may answer nothing until this process gives its connections
	// up and fails with ErrUnavailable whatever is asked, until it answers. 0 means 10 seconds.
	Away time.Duration
	// Dir is the data directory of SQLite. It is made when missing.
	Dir string
	// Draft opens, in the place of the database of Dir, one that is being filled there and
	// that nobody else opens until [DB.Publish] gives it its name. It is of SQLite.
	Draft bool
	// Serves is the URL, if any, at which the process is reached from its own machine.
	// [ServedAt] finds it while the process has Dir.
	Serves string
	// LockWait is how long Open waits for a process that has Dir and is about to let go of
	// it. 0: it does not wait.
	LockWait time.Duration
	// Synchronous is SQLite's pragma. Empty means FULL: an acknowledged write
	// survives a power cut.
	Synchronous string
	// ReadOnly opens a database that is there, beside the process that has it: its
	// schema is not touched, and Write returns an error.
	ReadOnly bool
	// Behind lets ReadOnly open a database that lacks the latest steps of the schema:
	// what is of older ones can be read.
	Behind bool
	// SequenceStart raises the event counter when it is below: the next event then gets
	// the number SequenceStart+1.
	SequenceStart int64
	// Check looks at the database in the transaction that brings its schema up to date,
	// when it is. After an error of Check, which Open returns, the database is as it was.
	// It may run more than once.
	Check func(ctx context.Context, tx *Tx) error
	// MaxConns bounds the connections to Postgres, the readers of SQLite.
	// 0 means 20 and 4.
	MaxConns int
	// Stepped is told of each step of the schema that was made, and how long it took, in the
	// transaction of all. It may be nil.
	Stepped func(step string, took time.Duration)
	Now     func() time.Time // nil: time.Now
	Logger  *slog.Logger     // nil: slog.Default
	// Slow returns how long a statement takes that is logged, without its parameters. 0 means
	// that none is.
	Slow func() time.Duration
	// Trace is called with each statement that is to run, possibly by several goroutines
	// at a time. It is for tests, and may be nil.
	Trace func(statement string)
}

// DB is an open database. It is safe for concurrent use.
type DB struct {
	Reader
	engine   engine
	standby  *standby // nil: there is none
	mailed   chan struct{}
	appended chan struct{}
}

// engine is what SQLite and Postgres do differently.
type engine interface {
	name() string
	ping(ctx context.Context) error
	// reader runs statements outside a transaction.
	reader() runner
	// cache is nil where other processes may write.
	cache() *accountCache
	// write runs fn in one transaction, which it commits when fn returns no error, again when
	// it has to: see [DB.Write]. Where transactions are shared, an alone one is not.
	write(ctx context.Context, alone bool, fn func(runner) error) error
	// snapshot runs fn in one transaction that reads.
	snapshot(ctx context.Context, fn func(runner) error) error
	// others are told what is new. It is nil where there are none.
	others() *aside
	// pool is that of those who read, and waiting how many wait for their turn to write.
	pool() *sql.DB
	waiting() int
	// files are the sizes of the database and of its log in bytes, 0 where they are no files here.
	files() (database, log int64)
	close() error
}

// A runner runs statements, in a transaction or not; bun's builder gives those whose
// shape depends on the data.
type runner interface {
	exec(ctx context.Context, s *statement, args []any) (sql.Result, error)
	query(ctx context.Context, s *statement, args []any) (rows, error)
	queryRow(ctx context.Context, s *statement, args []any) scanner
	bun() bun.IDB
}

// A scanner is a row: a *sql.Row, or what [rows] stand at.
type scanner interface{ Scan(dest ...any) error }

// rows are what *sql.Rows are.
type rows interface {
	scanner
	Next() bool
	Err() error
	Close() error
}

// Open opens the database and brings its schema up to date, which is safe when
// several processes do it at once. It returns ErrLocked when another process has
// the directory and ErrSchemaAhead when a newer version was here.
func Open(ctx context.Context, c Config) (*DB, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Logger = cmp.Or(c.Logger, slog.Default())
	mailed, appended := make(chan struct{}, 1), make(chan struct{}, 1)
	var e engine
	var err error
	seen := &observer{engine: dialect.SQLite, trace: c.Trace, slow: c.Slow, log: c.Logger}
	if c.URL != "" {
		seen.engine = dialect.PG
		e, err = openPostgres(ctx, c, seen, mailed, appended)
	} else {
		e, err = openSQLite(ctx, c, seen)
	}
	if err != nil {
		return nil, err
	}
	db := &DB{
		Reader: Reader{queries{run: e.reader(), now: c.Now, seen: seen}, e.cache()}, engine: e,
		mailed: mailed, appended: appended,
	}
	if c.URL != "" && c.ReadURL != "" && !c.ReadOnly {
		if db.standby, err = openStandby(c, seen, db); err != nil {
			return nil, errors.Join(err, e.close())
		}
	}
	return db, nil
}

// prepare brings the schema up to date, looks at what is there, and raises the event
// counter, in the transaction of r.
func prepare(ctx context.Context, e engine, r runner, seen *observer, c Config) error {
	tx := &Tx{queries: queries{run: r, now: c.Now, seen: seen}, postgres: e.name() == postgresName}
	if err := tx.migrate(ctx, e, c); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if c.Check != nil {
		if err := c.Check(ctx, tx); err != nil {
			return err
		}
	}
	if err := tx.startSequence(ctx, c.SequenceStart); err != nil {
		return fmt.Errorf("start event sequence: %w", err)
	}
	return tx.storeEvents(ctx)
}

// Close waits for a running write and closes the database. What is called afterwards
// fails, but Close, which does nothing then.
func (db *DB) Close() error {
	var err error
	if db.standby != nil {
		err = db.standby.close()
	}
	if err := errors.Join(err, db.engine.close()); err != nil {
		return fmt.Errorf("close database: %w", err)
	}
	return nil
}

// Ping reports whether the database answers, and its file is still there.
func (db *DB) Ping(ctx context.Context) error {
	if err := db.engine.ping(ctx); err != nil {
		return fmt.Errorf("ping database: %w", err)
	}
	return nil
}

// TryWrite writes, and so reports whether the database takes that: the disk may be full,
// or the database open for reading only.
func (db *DB) TryWrite(ctx context.Context) error {
	return db.Write(ctx, func(tx *Tx) error { return tx.PutMeta(ctx, "last try", []byte(db.now().UTC().Format(time.RFC3339))) })
}

// Exclusive reports whether this process has the database to itself, so that any
// lease another holder has on a row is that of a process which is gone.
func (db *DB) Exclusive() bool { return db.engine.name() == sqliteName }

// Engine is "sqlite" or "postgres".
func (db *DB) Engine() string { return db.engine.name() }

// Write runs fn in a transaction and commits it when fn returns nil. It is committed once,
// when Write returns nil, and else not at all; but for ErrUnavailable, after which it may be
// either. When ctx ends before fn does nothing is written.
//
// SQLite runs one at a time, those that wait for each other in one transaction of the
// database: each is undone by itself when it fails, and answered when all are committed. It
// runs fn again, from the start, when what it shared a transaction with could not be committed.
//
// Postgres runs them side by side, READ COMMITTED if the server is not told otherwise. It runs
// fn again when others were in the way (a deadlock, or what a stricter isolation does not let
// pass: so also of a key that is taken, the first time), and when the connection was lost or
// can't be had, until ctx ends; where ctx has no deadline, for 30 seconds. What fn returned of
// such a run is not looked at. When the connection is lost over COMMIT, Write finds out
// whether it took place.
//
// So fn must be repeatable: set its results anew in every run, and not call the network.
// Its own errors are returned as they are, after one run.
func (db *DB) Write(ctx context.Context, fn func(tx *Tx) error) error {
	return db.write(ctx, false, fn)
}

// WriteAlone is Write for what takes long: no other write is acknowledged later because it
// shares a transaction with this one.
func (db *DB) WriteAlone(ctx context.Context, fn func(tx *Tx) error) error {
	return db.write(ctx, true, fn)
}

func (db *DB) write(ctx context.Context, alone bool, fn func(tx *Tx) error) (err error) {
	if watch := db.seen.watch.Load(); watch != nil {
		began := time.Now()
		defer func() { (*watch).Wrote(ctx, began, time.Since(began), err) }()
	}
	var mailed, appended bool
	once := func(run runner) error {
		tx := &Tx{queries: queries{run: run, now: db.now, seen: db.seen}, postgres: !db.Exclusive()}
		if err := fn(tx); err != nil {
			return err
		}
		mailed, appended = tx.mailed, len(tx.events) > 0
		return tx.storeEvents(ctx)
	}
	if err := db.engine.write(ctx, alone, once); err != nil {
		return err
	}
	if mailed {
		wake(db.mailed)
	}
	if appended {
		wake(db.appended)
	}
	db.engine.others().tell(mailed, appended)
	return nil
}

// Tx is a transaction; it lives as long as the function given to [DB.Write] and
// belongs to one goroutine.
type Tx struct {
	queries
	postgres bool
	mailed   bool
	events   []Event // that were appended

	hushed map[syntax.DID]bool // accounts of which no event is stored, see [Tx.hush]
}

// queries has the reading methods and what all methods are made of.
type queries struct {
	run  runner
	now  func() time.Time
	seen *observer
}

// held is for updates WHERE holder is the caller: no row means the lease is lost.
func held(n int64, err error) error {
	if err == nil && n == 0 {
		return ErrLeaseLost
	}
	return err
}

// found is for updates by key: no row means there is none.
func found(n int64, err error) error {
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}

// fresh is for updates of what the caller has read before: no row means that it changed.
func fresh(n int64, err error) error {
	if err == nil && n == 0 {
		return ErrStale
	}
	return err
}

// wrap adds what was being done to an error; sentinels stay recognisable.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}

func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // already awake
	}
}
