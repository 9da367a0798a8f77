package db

import (
	"context"
	"database/sql"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// guessedFor is how long an account counts as guessed at: for so long its owner is told
// once.
const guessedFor = 24 * time.Hour

// A GuessedAccount is one at which strangers have spent what they may guess: new places
// can try again at Until.
type GuessedAccount struct {
	DID   syntax.DID
	Until time.Time
}

// NoteGuessed notes that strangers may not guess at an account any more until a time. In
// a day the first note counts. It takes one statement, whether there is such an account
// or not.
func (tx *Tx) NoteGuessed(ctx context.Context, did syntax.DID, now, until time.Time) error {
	_, err := tx.exec(ctx, `INSERT INTO guessed_account (did, since, until)
		SELECT did, CAST(? AS BIGINT), CAST(? AS BIGINT) FROM account WHERE did = ? {FOR KEY SHARE}
		ON CONFLICT (did) DO UPDATE SET since = excluded.since, until = excluded.until, told_at = NULL
		WHERE guessed_account.since <= ?`,
		micros(now), micros(until), string(did), micros(now.Add(-guessedFor)))
	return wrap(err, "note guesses")
}

// GuessedAccounts returns up to limit accounts whose owners were not told.
func (q *queries) GuessedAccounts(ctx context.Context, limit int) ([]GuessedAccount, error) {
	var all []GuessedAccount
	err := q.each(ctx, `SELECT did, until FROM guessed_account WHERE told_at IS NULL ORDER BY since, did LIMIT ?`, []any{limit},
		func(row *sql.Rows) error {
			var g GuessedAccount
			err := row.Scan((*string)(&g.DID), (*stamp)(&g.Until))
			all = append(all, g)
			return err
		})
	return all, wrap(err, "list accounts that were guessed at")
}

// GuessesTold notes that the owner of an account was told.
func (tx *Tx) GuessesTold(ctx context.Context, did syntax.DID, now time.Time) error {
	_, err := tx.exec(ctx, `UPDATE guessed_account SET told_at = ? WHERE did = ?`, micros(now), string(did))
	return wrap(err, "note that the owner was told")
}
