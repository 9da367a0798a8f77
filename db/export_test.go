package db

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"

	"portico/db/migrations"
)

// Query runs any statement that reads.
func (r *Reader) Query(ctx context.Context, text string, args ...any) (rows, error) {
	return r.run.query(ctx, textStatement(text), args)
}

func textStatement(text string) *statement {
	return prepared(func(b *builder) bun.Query { return b.NewRaw(text) })
}

// WatchPlans returns a function that gives the SQLite query plan of every
// statement that was run between the two calls.
func (db *DB) WatchPlans() func(ctx context.Context) (map[string][]string, error) {
	texts := db.WatchTexts()
	return func(ctx context.Context) (map[string][]string, error) {
		plans := make(map[string][]string)
		for _, text := range texts() {
			verb, _, _ := strings.Cut(strings.TrimSpace(text), " ")
			switch verb {
			case "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "CREATE", "EXPLAIN":
				continue
			}
			if plans[text] != nil {
				continue
			}
			params := strings.Count(text, "?")
			for strings.Contains(text, "$"+strconv.Itoa(params+1)) {
				params++
			}
			rows, err := db.engine.(*sqliteEngine).readers.DB.QueryContext(ctx, "EXPLAIN QUERY PLAN "+text, make([]any, params)...)
			if err != nil {
				return nil, err
			}
			plans[text] = []string{}
			for rows.Next() {
				var id, parent, unused int
				var detail string
				if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
					return nil, err
				}
				plans[text] = append(plans[text], detail)
			}
			if err := rows.Err(); err != nil {
				return nil, err
			}
		}
		return plans, nil
	}
}

// Exec runs any statement.
func (tx *Tx) Exec(ctx context.Context, text string) error {
	_, err := tx.exec(ctx, textStatement(text))
	return err
}

// RememberStep is as if a step was made.
func (tx *Tx) RememberStep(ctx context.Context, s migrations.Step) error {
	return tx.rememberStep(ctx, s, tx.now())
}

// Query runs any statement that reads.
func (tx *Tx) Query(ctx context.Context, text string, args ...any) (rows, error) {
	return tx.run.query(ctx, textStatement(text), args)
}

// Later is [Tx.later] of any statement.
func (tx *Tx) Later(ctx context.Context, text string) error {
	return tx.later(ctx, "test", textStatement(text))
}

// LaterTouching is Later of one that has to touch a row.
func (tx *Tx) LaterTouching(ctx context.Context, text string) error {
	return tx.later(ctx, "test", touching(ErrStale, func(b *builder) bun.Query { return b.NewRaw(text) }))
}

// Build runs a statement as bun's builder does.
func (tx *Tx) Build(ctx context.Context, text string) error {
	_, err := tx.run.bun().ExecContext(ctx, text)
	return err
}

// ReadTogether reads the DID and the handle of an account, by two statements.
func (q *queries) ReadTogether(ctx context.Context, did syntax.DID) (string, error) {
	var one *Account
	var many []Account
	err := q.together(ctx, readOne(&one, selectAccountByDID, did), readMany(&many, selectAccountByDID, did))
	if err != nil || one == nil {
		return "", err
	}
	return one.DID.String() + " " + many[0].Handle.String(), nil
}

// WatchTexts returns a function that gives the statements that were run since the call,
// or since it was called last.
func (db *DB) WatchTexts() func() []string {
	var mu sync.Mutex
	var texts []string
	db.seen.trace = func(text string) {
		mu.Lock()
		defer mu.Unlock()
		texts = append(texts, text)
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		seen := texts
		texts = nil
		return seen
	}
}

// WriterPragma returns a pragma of the writing connection.
func (db *DB) WriterPragma(ctx context.Context, name string) (value string) {
	err := db.engine.(*sqliteEngine).writer.conn.Conn.QueryRowContext(ctx, "PRAGMA "+name).Scan(&value)
	if err != nil {
		return err.Error()
	}
	return value
}

// Waiting is how many wait for the writing connection.
func (db *DB) Waiting() int {
	t := &db.engine.(*sqliteEngine).turns
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiting)
}

// GroupsTakeTime lets groups run for as long as they do.
func (db *DB) GroupsTakeTime() { db.engine.(*sqliteEngine).groupTime = time.Hour }

// SetWriterPragma sets a pragma of the writing connection, which nobody uses.
func (db *DB) SetWriterPragma(ctx context.Context, name, value string) {
	_, err := db.engine.(*sqliteEngine).writer.conn.Conn.ExecContext(ctx, "PRAGMA "+name+" = "+value)
	if err != nil {
		panic(err)
	}
}

// ForgetOrigins is what [Tx.Purge] does with some origins of sessions.
func (tx *Tx) ForgetOrigins(ctx context.Context, now time.Time, some int) error {
	return tx.forgetOrigins(ctx, now, some)
}

// Impatient lets nothing on Postgres wait before it is run again, and gives up when now says
// so. It returns a function that gives the longest pauses that there would have been.
func (db *DB) Impatient(now func() time.Time) func() []time.Duration {
	var mu sync.Mutex
	var pauses []time.Duration
	again := db.engine.(*postgresEngine).again
	again.now = now
	again.chance = func() float64 { return 1 }
	again.wait = func(ctx context.Context, d time.Duration) error {
		mu.Lock()
		defer mu.Unlock()
		pauses = append(pauses, d)
		return ctx.Err()
	}
	return func() []time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return pauses
	}
}

// AnswersWithin is how long a COMMIT is waited for.
func (db *DB) AnswersWithin(d time.Duration) { db.engine.(*postgresEngine).answers = d }

// Marks counts the marks of transactions.
func (db *DB) Marks(ctx context.Context) (n int, err error) {
	err = db.get(ctx, textStatement("SELECT count(*) FROM tx_mark"), nil, &n)
	return n, err
}
