package db

import (
	"context"
	"database/sql"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// A SigningKey is a private key of an account, encrypted by its owner's package.
type SigningKey struct {
	DID     syntax.DID
	Purpose string // "atproto" for the repository's
	Public  string // did:key
	Sealed  []byte
}

// A ReservedKey waits for the account it was made for.
type ReservedKey struct {
	ID        string     // the DID, or Public when none was given
	DID       syntax.DID // "" when none was given
	Public    string     // did:key
	Sealed    []byte
	CreatedAt time.Time
	ExpiresAt time.Time
}

// SigningKey returns a key of an account, or ErrNotFound.
func (q *queries) SigningKey(ctx context.Context, did syntax.DID, purpose string) (*SigningKey, error) {
	k := &SigningKey{DID: did, Purpose: purpose}
	err := q.get(ctx, `SELECT public, sealed FROM signing_key WHERE did = ? AND purpose = ?`,
		[]any{string(did), purpose}, &k.Public, &k.Sealed)
	if err != nil {
		return nil, wrap(err, "read signing key of %s", did)
	}
	return k, nil
}

// SigningKeys returns up to limit keys in the order of DID and purpose, those
// after the given pair: the way to seal all of them anew.
func (q *queries) SigningKeys(ctx context.Context, after syntax.DID, purpose string, limit int) ([]SigningKey, error) {
	var keys []SigningKey
	err := q.each(ctx, `SELECT did, purpose, public, sealed FROM signing_key WHERE (did, purpose) > (?, ?)
		ORDER BY did, purpose LIMIT ?`, []any{string(after), purpose, limit}, func(row *sql.Rows) error {
		var k SigningKey
		err := row.Scan((*string)(&k.DID), &k.Purpose, &k.Public, &k.Sealed)
		keys = append(keys, k)
		return err
	})
	return keys, wrap(err, "list signing keys")
}

// PutSigningKey stores a key in the place of the one that the account had for
// the purpose. It returns ErrNotFound when there is no account.
func (tx *Tx) PutSigningKey(ctx context.Context, k SigningKey) error {
	_, err := tx.exec(ctx, `INSERT INTO signing_key (did, purpose, public, sealed) VALUES (?, ?, ?, ?)
		ON CONFLICT (did, purpose) DO UPDATE SET public = excluded.public, sealed = excluded.sealed`,
		string(k.DID), k.Purpose, k.Public, k.Sealed)
	return wrap(err, "store signing key of %s", k.DID)
}

// ResealSigningKey replaces the sealed form of k by another one of the same key.
// An account that is gone or has another key by now stays as it is.
func (tx *Tx) ResealSigningKey(ctx context.Context, k SigningKey, sealed []byte) error {
	_, err := tx.exec(ctx, `UPDATE signing_key SET sealed = ? WHERE did = ? AND purpose = ? AND public = ?`,
		sealed, string(k.DID), k.Purpose, k.Public)
	return wrap(err, "reseal signing key of %s", k.DID)
}

func (k *ReservedKey) dest() []any {
	return []any{
		&k.ID, orEmpty{(*string)(&k.DID)}, &k.Public, &k.Sealed, (*stamp)(&k.CreatedAt), (*stamp)(&k.ExpiresAt),
	}
}

const reservedColumns = `SELECT id, did, public, sealed, created_at, expires_at FROM reserved_key WHERE `

func (q *queries) reservedKey(ctx context.Context, where string, args ...any) (*ReservedKey, error) {
	k := new(ReservedKey)
	err := q.get(ctx, reservedColumns+where, args, k.dest()...)
	if err != nil {
		return nil, err
	}
	return k, nil
}

// ReservedKey returns a reservation that has not expired, or ErrNotFound.
func (q *queries) ReservedKey(ctx context.Context, id string) (*ReservedKey, error) {
	k, err := q.reservedKey(ctx, `id = ? AND expires_at > ?`, id, micros(q.now()))
	return k, wrap(err, "read reserved key %s", id)
}

// ReserveKey stores k and returns it, or the reservation that k.ID has already
// and that has not expired.
func (tx *Tx) ReserveKey(ctx context.Context, k ReservedKey) (*ReservedKey, error) {
	_, err := tx.exec(ctx, `INSERT INTO reserved_key (id, did, public, sealed, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET public = excluded.public, sealed = excluded.sealed,
			created_at = excluded.created_at, expires_at = excluded.expires_at
		WHERE reserved_key.expires_at <= ?`,
		k.ID, text(k.DID), k.Public, k.Sealed, micros(k.CreatedAt), micros(k.ExpiresAt), micros(k.CreatedAt))
	if err != nil {
		return nil, wrap(err, "reserve key %s", k.ID)
	}
	kept, err := tx.reservedKey(ctx, `id = ?`, k.ID)
	return kept, wrap(err, "reserve key %s", k.ID)
}

// ReservedKeys returns up to limit reservations in the order of their ids, those
// after the given one, expired ones too: the way to seal all of them anew.
func (q *queries) ReservedKeys(ctx context.Context, after string, limit int) ([]ReservedKey, error) {
	var keys []ReservedKey
	err := q.each(ctx, reservedColumns+`id > ? ORDER BY id LIMIT ?`, []any{after, limit}, func(row *sql.Rows) error {
		var k ReservedKey
		err := row.Scan(k.dest()...)
		keys = append(keys, k)
		return err
	})
	return keys, wrap(err, "list reserved keys")
}

// ResealReservedKey replaces the sealed form of k by another one of the same key.
// A reservation that is gone or of another key by now stays as it is.
func (tx *Tx) ResealReservedKey(ctx context.Context, k ReservedKey, sealed []byte) error {
	_, err := tx.exec(ctx, `UPDATE reserved_key SET sealed = ? WHERE id = ? AND public = ?`, sealed, k.ID, k.Public)
	return wrap(err, "reseal reserved key %s", k.ID)
}

// TakeReservedKey ends a reservation that was read, for the one account that gets its
// key. It returns ErrNotFound when somebody was faster.
func (tx *Tx) TakeReservedKey(ctx context.Context, k ReservedKey) error {
	err := found(tx.exec(ctx, `DELETE FROM reserved_key WHERE id = ? AND public = ?`, k.ID, k.Public))
	return wrap(err, "take reserved key %s", k.ID)
}

// DeleteReservedKeys removes the reservation of a DID, if there is one.
func (tx *Tx) DeleteReservedKeys(ctx context.Context, did syntax.DID) error {
	_, err := tx.exec(ctx, `DELETE FROM reserved_key WHERE id = ?`, string(did))
	return wrap(err, "delete reserved key of %s", did)
}
