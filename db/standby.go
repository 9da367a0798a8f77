package db

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
)

// A standby has what the primary had a moment ago. Who reads there must find all that was
// committed before, by whatever process: a client writes to one and reads from another. So
// the primary is asked how far its log was when the read was called for, and the standby
// whether it has come as far; then it is read. Three things could make a lie of that:
//
//   - A connection may lead to another standby than the last one did. So the one that is
//     read from is the one that is asked.
//   - Places in the log are only comparable within one history: a standby that was ahead
//     when another one became the primary has come as far as a place at which something else
//     stands. So there is a mark in the database, a new one for each time line of the log,
//     which the standby must have, too. No other database has it.
//   - With synchronous_commit off a commit is visible before it is in what was flushed.

// A Reader has the reading methods, outside a transaction.
type Reader struct {
	queries
	accounts *accountCache // nil: all is read from the database
}

// Read returns what read returns, which finds at least what was committed when Read was
// called, by whatever process. With [Config.ReadURL] read is given the standby if that has
// it, or comes to have it within some milliseconds. Otherwise it is given the primary, also
// after the standby has failed it: read may be called twice, and sets its results anew. Its
// statements are not of one state. The reader is good until read returns.
func Read[T any](ctx context.Context, d *DB, read func(r *Reader) (T, error)) (T, error) {
	if d.standby == nil {
		return read(&d.Reader)
	}
	return readStandby(ctx, d, false, read)
}

// ReadPublic is Read for what anybody may know, and for what is only shown: while the primary
// does not answer, the standby does as it is, with what may be seconds old. It is not for
// what decides about sessions, budgets and limits.
func ReadPublic[T any](ctx context.Context, d *DB, read func(r *Reader) (T, error)) (T, error) {
	if d.standby == nil {
		return read(&d.Reader)
	}
	return readStandby(ctx, d, true, read)
}

func readStandby[T any](ctx context.Context, d *DB, public bool, read func(r *Reader) (T, error)) (T, error) {
	if at := d.standby.visit(ctx, public, false); at != nil {
		v, err := read(&at.Reader)
		if at.over(ctx, err) {
			return v, err
		}
	}
	return read(&d.Reader)
}

// PublicSnapshot is [DB.Snapshot] in the way of [ReadPublic]: fn may be called twice.
func (db *DB) PublicSnapshot(ctx context.Context, fn func(s *Snapshot) error) error {
	if db.standby != nil {
		if at := db.standby.visit(ctx, true, true); at != nil {
			err := fn(&Snapshot{at.queries})
			if at.over(ctx, err) {
				return err
			}
		}
	}
	return db.Snapshot(ctx, fn)
}

// Bounds of a standby.
const (
	// catchUp is how long a read waits for the standby to come as far as the primary.
	catchUp = 50 * time.Millisecond
	// standbyAnswers is within what time the standby lets a read begin. primaryAnswers is how
	// long a read waits for the primary to say how far it is, and primaryReturns, when it did
	// not say so the last time; questionEnds is when it is asked anew, by another connection.
	standbyAnswers = 500 * time.Millisecond
	primaryAnswers = time.Second
	primaryReturns = 100 * time.Millisecond
	questionEnds   = 5 * time.Second
	// shunAway and shunBehind are for how long a standby is not read that has failed, or that
	// was behind.
	shunAway   = 3 * time.Second
	shunBehind = time.Second
)

// standby reads on a standby, where that may be.
type standby struct {
	*breaker
	index readIndex
	// asks has the one connection to the primary by which it is asked how far it is: those of
	// the pool may all be in use.
	asks *sql.DB
	pool *bun.DB
	// pooled: a connection is to the same server only within a transaction.
	pooled bool
	now    func() time.Time
	seen   *observer
	write  func(ctx context.Context, fn func(tx *Tx) error) error

	read, missed atomic.Int64
}

func openStandby(c Config, seen *observer, d *DB) (*standby, error) {
	ask, err := driverConfig(c.URL, c.Pooled)
	if err != nil {
		return nil, err
	}
	config, err := readConfig(c.ReadURL, c.Pooled)
	if err != nil {
		return nil, fmt.Errorf("standby: %w", err)
	}
	asks, pool := stdlib.OpenDB(*ask), stdlib.OpenDB(*config)
	asks.SetMaxOpenConns(1)
	conns := cmp.Or(c.MaxConns, 20)
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	s := &standby{
		breaker: &breaker{log: c.Logger}, asks: asks, pool: bun.NewDB(pool, withMicroseconds(pgdialect.New())).WithQueryHook(seen),
		pooled: c.Pooled, now: c.Now, seen: seen, write: d.Write,
	}
	s.index.ask = s.askPrimary
	return s, nil
}

// readConfig is [driverConfig] of a standby.
func readConfig(address string, pooled bool) (*pgx.ConnConfig, error) {
	config, err := driverConfig(address, pooled)
	if err == nil && !pooled {
		// At others a statement may see less than what was replayed before it, or none may run.
		config.RuntimeParams["default_transaction_isolation"] = "read committed"
	}
	return config, err
}

func (s *standby) close() error {
	s.index.settle()
	return errors.Join(s.asks.Close(), s.pool.Close())
}

// timelineMark is the meta value that begins with the time line of the log on which it was
// written.
const timelineMark = "time line"

// A position is how far the log of a database is.
type position struct {
	place string // in the log
	mark  []byte // see [standby]
}

var (
	selectPosition = prepared(func(b *builder) bun.Query {
		return b.NewRaw("SELECT (CASE WHEN current_setting('synchronous_commit') = 'off' THEN pg_current_wal_insert_lsn() ELSE pg_current_wal_flush_lsn() END)::text,"+
			" left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), (SELECT value FROM meta WHERE name = ?)", b.p())
	})
	selectReached = prepared(func(b *builder) bun.Query {
		return b.NewRaw("SELECT coalesce((CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END) >= ?::text::pg_lsn, false),"+
			" coalesce((SELECT value = ?::bytea FROM meta WHERE name = ?), false), pg_postmaster_start_time()::text", b.p(), b.p(), b.p())
	})
	selectServer = prepared(func(b *builder) bun.Query { return b.NewRaw("SELECT pg_postmaster_start_time()::text") })
)

// askPrimary asks the primary for its position, and leaves a mark where the time line has none.
func (s *standby) askPrimary(ctx context.Context) (position, error) {
	for {
		var p position
		var line string
		err := func() error {
			defer s.seen.end(selectPosition, s.seen.begin(selectPosition))
			return s.asks.QueryRowContext(ctx, selectPosition.postgres(), timelineMark).Scan(&p.place, &line, &p.mark)
		}()
		if err != nil || strings.HasPrefix(string(p.mark), line+" ") {
			return p, wrap(err, "ask the primary how far it is")
		}
		random := make([]byte, 8)
		rand.Read(random)
		err = s.write(ctx, func(tx *Tx) error {
			return tx.SwapMeta(ctx, timelineMark, p.mark, []byte(line+" "+hex.EncodeToString(random)))
		})
		if err != nil && !errors.Is(err, ErrStale) { // by now another process has left one
			return p, wrap(err, "mark the time line")
		}
	}
}

// notAnswered reports whether err says that a server was not there to answer, or was not the
// primary, rather than what it answered.
func notAnswered(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return err != nil
	}
	switch pg.Code {
	case "55000", "25006", "53300": // in recovery, reads only, too many connections
		return true
	}
	return strings.HasPrefix(pg.Code, "57P") || strings.HasPrefix(pg.Code, "08")
}

// A visit is a connection to the standby, or to one of several, that has what it must have.
type visit struct {
	Reader
	standby *standby
	conn    bun.Conn
	driver  *pgx.Conn
	tx      *bun.Tx // nil: none is needed
	cancel  context.CancelFunc
}

var (
	errUnanswered = errors.New("the primary does not say how far it is")

	errBehind = errors.New("it is behind the primary")
	errOther  = errors.New("it has not the mark of the primary's time line")
)

// visit returns nil where the primary is to be read.
func (s *standby) visit(ctx context.Context, public, snapshot bool) *visit {
	v := s.tryVisit(ctx, public, snapshot)
	if v == nil {
		s.missed.Add(1)
	}
	return v
}

func (s *standby) tryVisit(ctx context.Context, public, snapshot bool) *visit {
	if !s.allows(time.Now()) {
		return nil
	}
	p, err := s.index.position(ctx)
	if err != nil {
		if ctx.Err() != nil || !public || !notAnswered(err) || p.mark == nil {
			return nil
		}
		p.place = "0/0"
	}
	v := &visit{standby: s}
	reading, cancel := context.WithCancel(ctx)
	v.cancel = cancel
	late := time.AfterFunc(standbyAnswers, cancel)
	err = v.begin(reading, p, snapshot)
	if late.Stop() && err == nil {
		s.works()
		return v
	}
	v.end()
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, errBehind):
		s.shun(time.Now(), "behind", err, shunBehind)
	default:
		s.shun(time.Now(), "away", cmp.Or(err, context.DeadlineExceeded), shunAway)
	}
	return nil
}

// begin waits until the standby has come to p.
func (v *visit) begin(ctx context.Context, p position, snapshot bool) (err error) {
	if v.conn, err = v.standby.pool.Conn(ctx); err != nil {
		return err
	}
	err = v.conn.Raw(func(driverConn any) error {
		v.driver = driverConn.(*stdlib.Conn).Conn()
		return nil
	})
	if err != nil {
		return err
	}
	if v.standby.pooled {
		if err := v.beginTx(ctx, sql.LevelReadCommitted); err != nil {
			return err
		}
	}
	server, err := v.reach(ctx, p)
	if err != nil || !snapshot {
		return err
	}
	if v.tx != nil {
		if err := v.tx.Rollback(); err != nil {
			return err
		}
	}
	if err := v.beginTx(ctx, sql.LevelRepeatableRead); err != nil || !v.standby.pooled {
		return err
	}
	var now string
	if err := v.get(ctx, selectServer, nil, &now); err != nil {
		return err
	}
	if now != server {
		return errBehind // for all that one knows
	}
	return nil
}

func (v *visit) beginTx(ctx context.Context, level sql.IsolationLevel) error {
	tx, err := v.conn.BeginTx(ctx, &sql.TxOptions{Isolation: level, ReadOnly: true})
	if err == nil {
		v.tx = &tx
		v.queries = queries{run: &pgRunner{on: tx.Tx, idb: tx}, now: v.standby.now, seen: v.standby.seen}
	}
	return err
}

// reach waits until the standby has come to p, and returns what server it is.
func (v *visit) reach(ctx context.Context, p position) (server string, err error) {
	if v.tx == nil {
		v.queries = queries{run: &pgRunner{on: v.conn.Conn, idb: v.conn}, now: v.standby.now, seen: v.standby.seen}
	}
	began := time.Now()
	for pause := time.Millisecond; ; pause = min(2*pause, 8*time.Millisecond) {
		var reached, marked bool
		if err := v.get(ctx, selectReached, []any{p.place, p.mark, timelineMark}, &reached, &marked, &server); err != nil {
			return "", err
		}
		if reached && marked {
			return server, nil
		}
		if time.Since(began) >= catchUp {
			if reached {
				return "", errOther
			}
			return "", errBehind
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// over ends the visit, and reports whether what was read with err stands: what the standby
// could not answer the primary may.
func (v *visit) over(ctx context.Context, err error) bool {
	lost := v.driver.IsClosed()
	v.end()
	if err == nil || ctx.Err() != nil {
		v.standby.read.Add(1)
		return true
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok && !lost {
		v.standby.read.Add(1)
		return true
	}
	v.standby.missed.Add(1)
	// A statement that stood in the way of what was to be replayed says nothing about others.
	if lost || notAnswered(pg) {
		v.standby.shun(time.Now(), "away", err, shunAway)
	}
	return false
}

func (v *visit) end() {
	if v.tx != nil {
		_ = v.tx.Rollback() // there is nothing to commit
	}
	if v.conn.Conn != nil {
		_ = v.conn.Close() // it says no more than whether a statement that failed has closed it
	}
	v.cancel()
}

// A breaker keeps readers from what has failed some, but for one now and then.
type breaker struct {
	log *slog.Logger

	mu    sync.Mutex
	state string // "": it works
	until time.Time
}

// allows reports whether the caller may try.
func (b *breaker) allows(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state != "" {
		if now.Before(b.until) {
			return false
		}
		b.until = now.Add(shunBehind) // others wait for what comes of this one
	}
	return true
}

func (b *breaker) works() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state != "" {
		b.state = ""
		b.log.Info("the standby is read again")
	}
}

func (b *breaker) shun(now time.Time, state string, why error, pause time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.until = now.Add(pause)
	if b.state != state {
		b.state = state
		b.log.Warn("the standby is not read", slog.String("state", state), slog.Any("error", why))
	}
}

// A readIndex asks the primary how far it is, one question at a time for all who want to know:
// the answer to a question that was asked before somebody came is not for them.
type readIndex struct {
	ask func(ctx context.Context) (position, error)

	mu      sync.Mutex
	next    *question // is asked when the one that is asked was answered; nil: nobody waits for it
	asking  bool
	closed  bool
	last    []byte // mark that the primary had
	away    bool   // the last question was not answered, or not soon
	running sync.WaitGroup
}

type question struct {
	done chan struct{}
	position
	err error
}

// position returns a position that the primary had after the call. With an error it has the
// mark that the primary had last.
func (x *readIndex) position(ctx context.Context) (position, error) {
	x.mu.Lock()
	if x.closed {
		x.mu.Unlock()
		return position{}, sql.ErrConnDone
	}
	if x.next == nil {
		x.next = &question{done: make(chan struct{})}
	}
	q := x.next
	if !x.asking {
		x.asking = true
		x.running.Go(x.run)
	}
	patience, last := primaryAnswers, x.last
	if x.away {
		patience = primaryReturns
	}
	x.mu.Unlock()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-q.done:
		return q.position, q.err
	case <-ctx.Done():
		return position{}, ctx.Err()
	case <-late.C:
		x.mu.Lock()
		x.away = true
		x.mu.Unlock()
		return position{mark: last}, errUnanswered
	}
}

func (x *readIndex) run() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for x.next != nil {
		q := x.next
		x.next = nil
		x.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), questionEnds)
		q.position, q.err = x.ask(ctx)
		cancel()
		x.mu.Lock()
		x.away = notAnswered(q.err)
		if q.err == nil {
			x.last = q.mark
		} else {
			q.position = position{mark: x.last}
		}
		close(q.done)
	}
	x.asking = false
}

// settle waits until nothing is asked any more, and lets nobody ask.
func (x *readIndex) settle() {
	x.mu.Lock()
	x.closed = true
	x.mu.Unlock()
	x.running.Wait()
}

// A StandbyState says how a standby stands to its primary.
type StandbyState struct {
	Primary bool  // it is none
	Other   bool  // it is of another database
	Unknown bool  // no server has left a mark yet that tells
	Behind  int64 // bytes of the log that it has still to replay
}

// LookAtStandby connects to the servers at URL and ReadURL, and compares them. It changes
// nothing.
func LookAtStandby(ctx context.Context, c Config) (StandbyState, error) {
	var s StandbyState
	one := func(url, text string, args []any, dest ...any) error {
		config, err := readConfig(url, c.Pooled)
		if err != nil {
			return err
		}
		conn, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		return conn.QueryRow(ctx, text, args...).Scan(dest...)
	}
	var p position
	var line string
	if err := one(c.URL, selectPosition.postgres(), []any{timelineMark}, &p.place, &line, &p.mark); err != nil {
		return s, fmt.Errorf("primary: %w", err)
	}
	var mark []byte
	const text = "SELECT NOT pg_is_in_recovery(), greatest(0, pg_wal_lsn_diff($1::text::pg_lsn, coalesce(pg_last_wal_replay_lsn(), '0/0')))::bigint," +
		" (SELECT value FROM meta WHERE name = $2)"
	if err := one(c.ReadURL, text, []any{p.place, timelineMark}, &s.Primary, &s.Behind, &mark); err != nil {
		return s, fmt.Errorf("standby: %w", err)
	}
	s.Unknown = p.mark == nil
	s.Other = !s.Unknown && !bytes.Equal(mark, p.mark)
	return s, nil
}
