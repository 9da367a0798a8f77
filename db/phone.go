package db

import (
	"context"
	"database/sql"
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
// a number, given as its keyed hash.
func (q *queries) PhoneAccounts(ctx context.Context, number []byte) (int, error) {
	slots, err := q.phoneSlots(ctx, number)
	return len(slots), wrap(err, "count accounts of a phone number")
}

func (q *queries) phoneSlots(ctx context.Context, number []byte) ([]int, error) {
	var slots []int
	err := q.each(ctx, `SELECT slot FROM phone_verification WHERE number = ? ORDER BY slot`, []any{number},
		func(row *sql.Rows) error {
			var slot int
			err := row.Scan(&slot)
			slots = append(slots, slot)
			return err
		})
	return slots, err
}

// claimPhone takes one of the uses of a number for did, or returns ErrPhoneTaken.
func (tx *Tx) claimPhone(ctx context.Context, did syntax.DID, c PhoneClaim) error {
	for {
		taken, err := tx.phoneSlots(ctx, c.Number)
		if err != nil {
			return err
		}
		if len(taken) >= c.Max {
			return ErrPhoneTaken
		}
		free := 0
		for slices.Contains(taken, free) {
			free++
		}
		// Whoever sees the same slots goes for the same one, and waits here for the other.
		n, err := tx.exec(ctx, `INSERT INTO phone_verification (did, number, slot, created_at) VALUES (?, ?, ?, ?)
			ON CONFLICT (number, slot) DO NOTHING`, string(did), c.Number, free, micros(tx.now()))
		if n == 1 || err != nil {
			return err
		}
	}
}

// InsertPhoneCode stores a code that was sent to a number, both as keyed hashes.
func (tx *Tx) InsertPhoneCode(ctx context.Context, number, mac []byte, expires time.Time) error {
	_, err := tx.exec(ctx, `INSERT INTO phone_code (number, mac, expires_at) VALUES (?, ?, ?)
		ON CONFLICT (number, mac) DO UPDATE SET expires_at = excluded.expires_at`, number, mac, micros(expires))
	return wrap(err, "store phone code")
}

// UsePhoneCode spends a code of a number, and with it all others that were sent
// there. It returns ErrNotFound when there is no such code that is still good at
// now; of two that use the same one does.
func (tx *Tx) UsePhoneCode(ctx context.Context, number, mac []byte, now time.Time) error {
	err := found(tx.exec(ctx, `DELETE FROM phone_code WHERE number = ? AND mac = ? AND expires_at > ?`, number, mac, micros(now)))
	if err == nil {
		_, err = tx.exec(ctx, `DELETE FROM phone_code WHERE number = ?`, number)
	}
	return wrap(err, "use phone code")
}
