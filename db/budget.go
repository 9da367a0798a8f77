package db

import (
	"context"
	"errors"
	"time"

	"github.com/uptrace/bun"
)

// A Spending is what a key has spent of a kind in a window that ends at Reset. The
// column of the key is left out: who asks knows it.
type Spending struct {
	bun.BaseModel `bun:"table:budget,alias:b"`

	Kind  string    `bun:"kind,pk"`
	Spent int       `bun:"spent"`
	Reset time.Time `bun:"reset_at"`
}

var (
	selectSpending = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*Spending)(nil)).Column("spent", "reset_at").
			Where("kind = ?", b.p()).Where("key = ?", b.p()).Where("reset_at > ?", b.p())
	})
	selectSpendings = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*Spending)(nil)).Where("key = ?", b.p()).Where("reset_at > ?", b.p()).Order("kind")
	})
	// A window that is over begins anew with what is inserted.
	spendBudget = prepared(func(b *builder) bun.Query {
		return b.insertReturning("spent, reset_at", new(Spending)).Value("key", "?", b.p()).
			On("CONFLICT (key, kind) DO UPDATE").
			Set("spent = CASE WHEN b.reset_at <= ? THEN excluded.spent ELSE b.spent + excluded.spent END", b.p()).
			Set("reset_at = CASE WHEN b.reset_at <= ? THEN excluded.reset_at ELSE b.reset_at END", b.p())
	})
	giveBudgetBack = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*Spending)(nil)).Set("spent = spent - 1").
			Where("kind = ?", b.p()).Where("key = ?", b.p()).Where("reset_at > ?", b.p()).Where("spent > 0")
	})
	clearBudget = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*Spending)(nil)).Where("key = ?", b.p()).
			Where("kind = ? OR substr(kind, 1, ?) = ?", b.p(), b.p(), b.p())
	})
	forgetBudgets = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*Spending)(nil)).Where("key = ?", b.p())
	})
)

// BudgetLeft returns how much of limit a key has left in its window at now, and
// when that ends: the zero time when none has begun. left is negative when more
// was tried than there was.
func (q *queries) BudgetLeft(ctx context.Context, kind, key string, limit int, now time.Time) (left int, reset time.Time, err error) {
	var spent int
	err = q.get(ctx, selectSpending, []any{kind, key, now}, &spent, &reset)
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
	one := Spending{Kind: kind, Spent: 1, Reset: now.Add(window)}
	var spent int
	err = tx.get(ctx, spendBudget, append(values(&one), key, now, now), &spent, &reset)
	return limit - spent, reset, wrap(err, "spend budget %s", kind)
}

// GiveBudgetBack undoes one SpendBudget in the window of a key that is open at now, if
// there is one.
func (tx *Tx) GiveBudgetBack(ctx context.Context, kind, key string, now time.Time) error {
	_, err := tx.exec(ctx, giveBudgetBack, kind, key, now)
	return wrap(err, "give back budget %s", kind)
}

// ClearBudget forgets what a key has spent of a kind, and of those below it, whose
// names have the kind and a slash before them.
func (tx *Tx) ClearBudget(ctx context.Context, kind, key string) error {
	_, err := tx.exec(ctx, clearBudget, key, kind, len(kind)+1, kind+"/")
	return wrap(err, "clear budget %s", kind)
}

// ForgetBudgets forgets what a key has spent of all kinds.
func (tx *Tx) ForgetBudgets(ctx context.Context, key string) error {
	_, err := tx.exec(ctx, forgetBudgets, key)
	return wrap(err, "forget budgets")
}

// Spendings returns what a key has spent in windows that are open at now, by kind.
func (q *queries) Spendings(ctx context.Context, key string, now time.Time) ([]Spending, error) {
	all, err := many[Spending](ctx, q, selectSpendings, key, now)
	return all, wrap(err, "list budgets")
}
