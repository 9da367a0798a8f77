package db

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// A PhoneClaim is the phone number that an account signs up with.
type PhoneClaim struct {
	Number []byte // its keyed hash; nil for no number
	Max    int    // accounts that may have it at a time
}

// PhoneAccounts counts the accounts, those under creation too, that signed up with
// a number, given as its keyed hash, also those that no longer have it, see
// [Tx.ReleasePhone].
func (q *queries) PhoneAccounts(ctx context.Context, number []byte) (int, error) {
	slots, spent, err := q.phoneUses(ctx, number)
	return len(slots) + spent, wrap(err, "count accounts of a phone number")
}

// phoneUses returns the slots that a number's accounts take, and how many accounts no
// longer have it. One that is released meanwhile is counted twice rather than not.
func (q *queries) phoneUses(ctx context.Context, number []byte) (slots []int, spent int, err error) {
	err = q.eachText(ctx, `SELECT slot FROM phone_verification WHERE number = ? ORDER BY slot`, []any{number},
		func(row *sql.Rows) error {
			var slot int
			err := row.Scan(&slot)
			slots = append(slots, slot)
			return err
		})
	if err == nil {
		err = q.getText(ctx, `SELECT uses FROM phone_spent WHERE number = ? AND until > ?`, []any{number, micros(q.now())}, &spent)
	}
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	return slots, spent, err
}

// claimPhone takes one of the uses of a number for did, or returns ErrPhoneTaken.
func (tx *Tx) claimPhone(ctx context.Context, did syntax.DID, c PhoneClaim) error {
	for {
		taken, spent, err := tx.phoneUses(ctx, c.Number)
		if err != nil {
			return err
		}
		if len(taken)+spent >= c.Max {
			return ErrPhoneTaken
		}
		free := 0
		for slices.Contains(taken, free) {
			free++
		}
		// Whoever sees the same slots goes for the same one, and waits here for the other.
		n, err := tx.execText(ctx, `INSERT INTO phone_verification (did, number, slot, created_at) VALUES (?, ?, ?, ?)
			ON CONFLICT (number, slot) DO NOTHING`, string(did), c.Number, free, micros(tx.now()))
		if n == 1 || err != nil {
			return err
		}
	}
}

// phoneSpentFor is how long a number stays spent that an account had.
const phoneSpentFor = 365 * 24 * time.Hour

// ReleasePhone makes the number that an account signed up with no longer its, and
// reports whether there was one. For a year it counts as before: nobody gets more
// accounts for a number by giving them away.
func (tx *Tx) ReleasePhone(ctx context.Context, did syntax.DID) (bool, error) {
	_, err := tx.execText(ctx, `INSERT INTO phone_spent (number, uses, until) SELECT number, 1, ? FROM phone_verification WHERE did = ?
		ON CONFLICT (number) DO UPDATE SET
			uses = CASE WHEN phone_spent.until <= ? THEN 1 ELSE phone_spent.uses + 1 END, until = excluded.until`,
		micros(tx.now().Add(phoneSpentFor)), string(did), micros(tx.now()))
	if err != nil {
		return false, wrap(err, "release phone number of %s", did)
	}
	n, err := tx.execText(ctx, `DELETE FROM phone_verification WHERE did = ?`, string(did))
	return n > 0, wrap(err, "release phone number of %s", did)
}

// InsertPhoneCode stores a code that was sent to a number, both as keyed hashes.
func (tx *Tx) InsertPhoneCode(ctx context.Context, number, mac []byte, expires time.Time) error {
	_, err := tx.execText(ctx, `INSERT INTO phone_code (number, mac, expires_at) VALUES (?, ?, ?)
		ON CONFLICT (number, mac) DO UPDATE SET expires_at = excluded.expires_at`, number, mac, micros(expires))
	return wrap(err, "store phone code")
}

// UsePhoneCode spends a code of a number, and with it all others that were sent
// there. It returns ErrNotFound when there is no such code that is still good at
// now; of two that use the same one does.
func (tx *Tx) UsePhoneCode(ctx context.Context, number, mac []byte, now time.Time) error {
	err := found(tx.execText(ctx, `DELETE FROM phone_code WHERE number = ? AND mac = ? AND expires_at > ?`, number, mac, micros(now)))
	if err == nil {
		_, err = tx.execText(ctx, `DELETE FROM phone_code WHERE number = ?`, number)
	}
	return wrap(err, "use phone code")
}
