package db

import (
	"context"
	"database/sql"
	"strings"

	"github.com/uptrace/bun"
)

// Query runs any statement that reads.
func (db *DB) Query(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	return db.run.query(ctx, text, args)
}

// bunTexts collects what bun's builder makes.
type bunTexts struct{ texts *[]string }

func (b bunTexts) BeforeQuery(ctx context.Context, _ *bun.QueryEvent) context.Context { return ctx }

func (b bunTexts) AfterQuery(_ context.Context, e *bun.QueryEvent) {
	*b.texts = append(*b.texts, e.Query)
}

// WatchPlans returns a function that gives the SQLite query plan of every
// statement that was run between the two calls. Only one goroutine may have read
// with bun's builder.
func (db *DB) WatchPlans() func(ctx context.Context) (map[string][]string, error) {
	e := db.engine.(*sqliteEngine)
	var texts []string
	e.read.db = e.readers.WithQueryHook(bunTexts{&texts})
	return func(ctx context.Context) (map[string][]string, error) {
		for _, stmts := range []*memo[*sql.Stmt]{&e.read.stmts, &e.writer.stmts} {
			stmts.m.Range(func(text, _ any) bool {
				texts = append(texts, plain(text.(string)))
				return true
			})
		}
		plans := make(map[string][]string)
		for _, text := range texts {
			verb, _, _ := strings.Cut(strings.TrimSpace(text), " ")
			switch verb {
			case "BEGIN", "COMMIT", "ROLLBACK", "CREATE", "EXPLAIN":
				continue
			}
			if plans[text] != nil {
				continue
			}
			rows, err := e.readers.DB.QueryContext(ctx, "EXPLAIN QUERY PLAN "+text, make([]any, strings.Count(text, "?"))...)
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
	_, err := tx.exec(ctx, text)
	return err
}

// Query runs any statement that reads.
func (tx *Tx) Query(ctx context.Context, text string) (*sql.Rows, error) {
	return tx.run.query(ctx, text, nil)
}

// WatchTexts returns what is read through d with bun's builder, as long as only
// one goroutine does.
func (db *DB) WatchTexts() *[]string {
	texts := new([]string)
	switch e := db.engine.(type) {
	case *sqliteEngine:
		e.read.db = e.readers.WithQueryHook(bunTexts{texts})
	case *postgresEngine:
		db.run.(*pgRunner).idb = e.db.WithQueryHook(bunTexts{texts})
	}
	return texts
}

// WriterPragma returns a pragma of the writing connection.
func (db *DB) WriterPragma(ctx context.Context, name string) (value string) {
	err := db.engine.(*sqliteEngine).writer.conn.Conn.QueryRowContext(ctx, "PRAGMA "+name).Scan(&value)
	if err != nil {
		return err.Error()
	}
	return value
}
