package db

import (
	"context"
	"errors"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// renewAfter is how old the note that an address was seen gets before it is written
// anew: sessions go on every few minutes.
const renewAfter = time.Hour

// KnowAddress notes that the owner of an account was at an address at now, give or take
// an hour. Of more than most addresses the one that was not seen for longest is
// forgotten. It returns ErrNotFound when there is no such account.
func (tx *Tx) KnowAddress(ctx context.Context, did syntax.DID, address string, now time.Time, most int) error {
	n, err := tx.execText(ctx, `INSERT INTO known_address (did, address, seen_at) VALUES (?, ?, ?)
		ON CONFLICT (did, address) DO UPDATE SET seen_at = excluded.seen_at WHERE known_address.seen_at <= ?`,
		string(did), address, micros(now), micros(now.Add(-renewAfter)))
	if err == nil && n > 0 {
		// Among those seen at the same time the new one stays.
		_, err = tx.execText(ctx, `DELETE FROM known_address WHERE did = ? AND address IN (
			SELECT address FROM known_address WHERE did = ? AND address <> ? ORDER BY seen_at DESC, address LIMIT 1000 OFFSET ?)`,
			string(did), string(did), address, most-1)
	}
	return wrap(err, "know address of %s", did)
}

// AddressKnown reports whether the owner of an account was at an address later than since.
func (q *queries) AddressKnown(ctx context.Context, did syntax.DID, address string, since time.Time) (bool, error) {
	var at time.Time
	err := q.getText(ctx, `SELECT seen_at FROM known_address WHERE did = ? AND address = ? AND seen_at > ?`,
		[]any{string(did), address, micros(since)}, (*stamp)(&at))
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, wrap(err, "look for known address of %s", did)
}

// ForgetAddresses forgets where the owner of an account was, but for the address kept.
func (tx *Tx) ForgetAddresses(ctx context.Context, did syntax.DID, kept string) error {
	_, err := tx.execText(ctx, `DELETE FROM known_address WHERE did = ? AND address <> ?`, string(did), kept)
	return wrap(err, "forget known addresses of %s", did)
}
