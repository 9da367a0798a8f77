package db

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// guessedFor is how long an account counts as guessed at: for so long its owner is told
// once.
const guessedFor = 24 * time.Hour

// A GuessedAccount is one at which strangers have spent what they may guess: new places
// can try again at Until.
type GuessedAccount struct {
	bun.BaseModel `bun:"table:guessed_account,alias:g"`

	DID   syntax.DID `bun:"did,pk"`
	Until time.Time  `bun:"until"`
}

var (
	// Postgres takes the parameters of a SELECT for texts; "WHERE true" keeps SQLite from
	// taking what follows for the condition of a join.
	noteGuessed = prepared(func(b *builder) bun.Query {
		guessed := b.NewSelect().Model((*Account)(nil)).Column("did").
			ColumnExpr("CAST(? AS BIGINT) AS since", b.p()).ColumnExpr("CAST(? AS BIGINT) AS until", b.p()).Where("did = ?", b.p())
		return b.NewInsert().Model((*GuessedAccount)(nil)).Column("did", "since", "until").
			TableExpr("(?) AS guessed WHERE true", b.lock("KEY SHARE", guessed)).
			On("CONFLICT (did) DO UPDATE").
			Set("since = excluded.since").Set("until = excluded.until").Set("told_at = NULL").
			Where("g.since <= ?", b.p()).Returning("NULL")
	})
	selectGuessedAccounts = prepared(func(b *builder) bun.Query {
		return b.limit(b.NewSelect().Model((*GuessedAccount)(nil)).Where("told_at IS NULL").Order("since"), "did")
	})
	tellGuesses = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*GuessedAccount)(nil)).Set("told_at = ?", b.p()).
			Where("did = ?", b.p()).Where("told_at IS NULL").Returning("until")
	})
)

// NoteGuessed notes that strangers may not guess at an account any more until a time. In
// a day the first note counts. It takes one statement, whether there is such an account
// or not.
func (tx *Tx) NoteGuessed(ctx context.Context, did syntax.DID, now, until time.Time) error {
	_, err := tx.exec(ctx, noteGuessed, now, until, did, now.Add(-guessedFor))
	return wrap(err, "note guesses")
}

// GuessedAccounts returns up to limit accounts whose owners were not told.
func (q *queries) GuessedAccounts(ctx context.Context, limit int) ([]GuessedAccount, error) {
	all, err := many[GuessedAccount](ctx, q, selectGuessedAccounts, limit)
	return all, wrap(err, "list accounts that were guessed at")
}

// TellGuesses notes that the owner of an account is being told, and returns until when
// strangers may not guess. It returns ErrNotFound when there is nothing to tell.
func (tx *Tx) TellGuesses(ctx context.Context, did syntax.DID, now time.Time) (until time.Time, err error) {
	err = tx.get(ctx, tellGuesses, []any{now, did}, &until)
	return until, wrap(err, "tell of guesses at %s", did)
}
