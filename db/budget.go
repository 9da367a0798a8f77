package db

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// BudgetLeft returns how much of limit a key has left in its window at now, and
// when that ends: the zero time when none has begun. left is negative when more
// was tried than there was.
func (q *queries) BudgetLeft(ctx context.Context, kind, key string, limit int, now time.Time) (left int, reset time.Time, err error) {
	var spent int
	err = q.getText(ctx, `SELECT spent, reset_at FROM budget WHERE kind = ? AND key = ? AND reset_at > ?`,
		[]any{kind, key, micros(now)}, &spent, (*stamp)(&reset))
	if errors.Is(err, ErrNotFound) {
		return limit, time.Time{}, nil
	}
	return limit - spent, reset, wrap(err, "read budget %s", kind)
}

// SpendBudget takes one from a key and returns what is left of limit, negative
// when there was nothing to take, and when the window ends. A window begins with
// the first thing spent in it. Exact under concurrency.
func (tx *Tx) SpendBudget(
	ctx context.Context, kind, key string, limit int, window time.Duration, now time.Time,
) (left int, reset time.Time, err error) {
	var spent int
	at, end := micros(now), micros(now.Add(window))
	err = tx.getText(ctx, `INSERT INTO budget (kind, key, spent, reset_at) VALUES (?, ?, 1, ?)
		ON CONFLICT (key, kind) DO UPDATE SET
			spent = CASE WHEN budget.reset_at <= ? THEN 1 ELSE budget.spent + 1 END,
			reset_at = CASE WHEN budget.reset_at <= ? THEN excluded.reset_at ELSE budget.reset_at END
		RETURNING spent, reset_at`, []any{kind, key, end, at, at}, &spent, (*stamp)(&reset))
	return limit - spent, reset, wrap(err, "spend budget %s", kind)
}

// GiveBudgetBack undoes one SpendBudget in the window of a key that is open at now, if
// there is one.
func (tx *Tx) GiveBudgetBack(ctx context.Context, kind, key string, now time.Time) error {
	_, err := tx.execText(ctx, `UPDATE budget SET spent = spent - 1 WHERE kind = ? AND key = ? AND reset_at > ? AND spent > 0`,
		kind, key, micros(now))
	return wrap(err, "give back budget %s", kind)
}

// ClearBudget forgets what a key has spent of a kind, and of those below it, whose
// names have the kind and a slash before them.
func (tx *Tx) ClearBudget(ctx context.Context, kind, key string) error {
	_, err := tx.execText(ctx, `DELETE FROM budget WHERE key = ? AND (kind = ? OR substr(kind, 1, ?) = ?)`,
		key, kind, len(kind)+1, kind+"/")
	return wrap(err, "clear budget %s", kind)
}

// ForgetBudgets forgets what a key has spent of all kinds.
func (tx *Tx) ForgetBudgets(ctx context.Context, key string) error {
	_, err := tx.execText(ctx, `DELETE FROM budget WHERE key = ?`, key)
	return wrap(err, "forget budgets")
}

// A Spending is what a key has spent of a kind in a window that ends at Reset.
type Spending struct {
	Kind  string
	Spent int
	Reset time.Time
}

// Spendings returns what a key has spent in windows that are open at now, by kind.
func (q *queries) Spendings(ctx context.Context, key string, now time.Time) ([]Spending, error) {
	var all []Spending
	err := q.eachText(ctx, `SELECT kind, spent, reset_at FROM budget WHERE key = ? AND reset_at > ? ORDER BY kind`, []any{key, micros(now)},
		func(row *sql.Rows) error {
			var s Spending
			err := row.Scan(&s.Kind, &s.Spent, (*stamp)(&s.Reset))
			all = append(all, s)
			return err
		})
	return all, wrap(err, "list budgets")
}
