package db

import (
	"context"

	"github.com/uptrace/bun"
)

// To Postgres a statement that is waited for is a round trip, also while what it locks is
// locked; to SQLite it is a call. So whoever reads several things at once says so with
// [queries.together], and whoever writes what it need not look at afterwards with
// [Tx.later]. What goes where is then decided here: BEGIN goes with the first statement of a
// transaction, what comes later with the next one that is waited for, or with COMMIT.

// later runs a statement of which nobody wants to know more than that it was run: on SQLite
// at once; on Postgres together with the next statement of the transaction that is waited
// for, at the latest with COMMIT. All run in the order of the calls.
//
// On Postgres an error of it is what [DB.Write] returns, whatever the function given to it
// makes of that: what is run after it fails with an error that is none of this package's,
// and nothing is committed. doing says for the error what was being done. The arguments are
// not to be changed until the transaction ends.
func (tx *Tx) later(ctx context.Context, doing string, s *statement, args ...any) error {
	if t, ok := tx.run.(*pgTx); ok {
		tx.seen.begin(s)
		t.put(ctx, doing, s, parameters(args))
		return nil
	}
	n, err := tx.exec(ctx, s, args...)
	if err == nil && n == 0 {
		err = s.unmet
	}
	return wrap(err, "%s", doing)
}

// touching is prepared for a statement that writes and has to touch a row: run by
// [Tx.later], and not otherwise, it fails with the error unmet when it touches none.
// Postgres divides by their number, so that the transaction ends there and then.
func touching(unmet error, build func(b *builder) bun.Query) *statement {
	s := prepared(build)
	text := s.postgres
	s.postgres = func() string {
		return "WITH touched AS (" + text() + " RETURNING 1) SELECT 1 / count(*) FROM touched"
	}
	s.unmet = unmet
	return s
}

// A read is a statement, and what is done with each row of it.
type read struct {
	*statement
	args []any
	row  func(row scanner) error
	undo func() // what row did, before all is read anew; nil: that replaces it
}

// onlyLock is a read for what it locks.
func onlyLock(s *statement, args ...any) read {
	return read{s, args, func(scanner) error { return nil }, nil}
}

// readOne reads the row of a statement that selects the columns of a model, of which *to
// stays nil when there is none.
func readOne[T any](to **T, s *statement, args ...any) read {
	return read{s, args, func(row scanner) error {
		model := new(T)
		err := row.Scan(places(model)...)
		if err == nil {
			*to = model
		}
		return err
	}, func() { *to = nil }}
}

// readMany reads the rows of a statement that selects the columns of a model to *to, which
// has none.
func readMany[T any](to *[]T, s *statement, args ...any) read {
	return read{s, args, func(row scanner) error {
		*to = append(*to, *new(T))
		return row.Scan(places(&(*to)[len(*to)-1])...)
	}, func() { *to = nil }}
}

// together does some reads, none of which depends on another: on Postgres in one round
// trip, on SQLite one after the other. In a transaction each sees what was locked by those
// before it. It is not for what has many rows: they wait in the connection.
func (q *queries) together(ctx context.Context, reads ...read) error {
	t, ok := q.run.(interface {
		together(ctx context.Context, reads []read) error
	})
	if !ok {
		for _, r := range reads {
			if err := q.each(ctx, r.statement, r.args, r.row); err != nil {
				return err
			}
		}
		return nil
	}
	for i, r := range reads {
		reads[i].args = parameters(r.args)
		defer q.seen.end(r.statement, q.seen.begin(r.statement))
	}
	return sentinel(t.together(ctx, reads))
}
