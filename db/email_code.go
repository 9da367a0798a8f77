package db

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// An EmailCode is a code that was sent to the owner of an account.
type EmailCode struct {
	Purpose   string
	DID       syntax.DID
	MAC       []byte // keyed hash of the code
	CreatedAt time.Time
	ExpiresAt time.Time
	Email     string // where it was sent
}

// InsertCode stores a code and drops the account's oldest of the same purpose, so
// that keep are left. It returns ErrNotFound when there is no account.
func (tx *Tx) InsertCode(ctx context.Context, c EmailCode, keep int) error {
	// One at a time for each account: two might each leave keep.
	if _, err := tx.LockAccount(ctx, c.DID); err != nil {
		return wrap(err, "store email code of %s", c.DID)
	}
	_, err := tx.execText(ctx, `INSERT INTO email_code (did, purpose, mac, email, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)`,
		string(c.DID), c.Purpose, c.MAC, c.Email, micros(c.CreatedAt), micros(c.ExpiresAt))
	if err == nil {
		_, err = tx.execText(ctx, `DELETE FROM email_code WHERE did = ? AND purpose = ? AND mac <> ? AND mac NOT IN (
			SELECT mac FROM email_code WHERE did = ? AND purpose = ? AND mac <> ? ORDER BY created_at DESC, mac LIMIT ?)`,
			string(c.DID), c.Purpose, c.MAC, string(c.DID), c.Purpose, c.MAC, keep-1)
	}
	return wrap(err, "store email code of %s", c.DID)
}

// EmailCode returns a code of a purpose, of any account when did is "". An
// expired one is returned too as long as it is there. It returns ErrNotFound.
func (q *queries) EmailCode(ctx context.Context, purpose string, did syntax.DID, mac []byte) (*EmailCode, error) {
	c := &EmailCode{Purpose: purpose, MAC: mac}
	dest := []any{(*string)(&c.DID), &c.Email, (*stamp)(&c.CreatedAt), (*stamp)(&c.ExpiresAt)}
	var err error
	if did == "" {
		err = q.getText(ctx, `SELECT did, email, created_at, expires_at FROM email_code WHERE purpose = ? AND mac = ?`,
			[]any{purpose, mac}, dest...)
	} else {
		err = q.getText(ctx, `SELECT did, email, created_at, expires_at FROM email_code WHERE did = ? AND purpose = ? AND mac = ?`,
			[]any{string(did), purpose, mac}, dest...)
	}
	if err != nil {
		return nil, wrap(err, "read email code")
	}
	return c, nil
}

// LiveCodes counts the codes of a purpose that an account has at now for an address. One
// that went to another address is good for nothing any more.
func (q *queries) LiveCodes(ctx context.Context, purpose string, did syntax.DID, email string, now time.Time) (int, error) {
	var n int
	err := q.getText(ctx, `SELECT count(*) FROM email_code WHERE did = ? AND purpose = ? AND email = ? AND expires_at > ?`,
		[]any{string(did), purpose, email, micros(now)}, &n)
	return n, wrap(err, "count email codes of %s", did)
}

// DeleteCodes removes an account's codes of the given purposes, all when none is
// given.
func (tx *Tx) DeleteCodes(ctx context.Context, did syntax.DID, purposes ...string) error {
	var err error
	if len(purposes) == 0 {
		_, err = tx.execText(ctx, `DELETE FROM email_code WHERE did = ?`, string(did))
	}
	for _, p := range purposes {
		if err == nil {
			_, err = tx.execText(ctx, `DELETE FROM email_code WHERE did = ? AND purpose = ?`, string(did), p)
		}
	}
	return wrap(err, "delete email codes of %s", did)
}
