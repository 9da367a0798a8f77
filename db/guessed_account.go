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
	_, err := tx.execText(ctx, `INSERT INTO guessed_account (did, since, until)
		SELECT did, CAST(? AS BIGINT), CAST(? AS BIGINT) FROM account WHERE did = ? {FOR KEY SHARE}
		ON CONFLICT (did) DO UPDATE SET since = excluded.since, until = excluded.until, told_at = NULL
		WHERE guessed_account.since <= ?`,
		micros(now), micros(until), string(did), micros(now.Add(-guessedFor)))
	return wrap(err, "note guesses")
}

// GuessedAccounts returns up to limit accounts whose owners were not told.
func (q *queries) GuessedAccounts(ctx context.Context, limit int) ([]GuessedAccount, error) {
	var all []GuessedAccount
	err := q.eachText(ctx, `SELECT did, until FROM guessed_account WHERE told_at IS NULL ORDER BY since, did LIMIT ?`, []any{limit},
		func(row *sql.Rows) error {
			var g GuessedAccount
			err := row.Scan((*string)(&g.DID), (*stamp)(&g.Until))
			all = append(all, g)
			return err
		})
	return all, wrap(err, "list accounts that were guessed at")
}

// TellGuesses notes that the owner of an account is being told, and returns until when
// strangers may not guess. It returns ErrNotFound when there is nothing to tell.
func (tx *Tx) TellGuesses(ctx context.Context, did syntax.DID, now time.Time) (until time.Time, err error) {
	err = tx.getText(ctx, `UPDATE guessed_account SET told_at = ? WHERE did = ? AND told_at IS NULL RETURNING until`,
		[]any{micros(now), string(did)}, (*stamp)(&until))
	return until, wrap(err, "tell of guesses at %s", did)
}
