// Package adopted keeps what the accounts of an adopted server had there in the form that
// only that server can use, sealed, until the adoption is finished: the hashes of passwords
// that were hashed anew here, for the way back, and the ids of refresh tokens, which that
// server chose at random.
package adopted

import (
	"context"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/account/token"
	"portico/impl/keyring"
)

// Password is the secret that keeps the hash of an account's password beside the same one,
// which the account has still.
func Password(keys *keyring.Ring, did syntax.DID, scrypt string) (db.AdoptedSecret, error) {
	return seal(keys, db.AdoptedSecret{DID: did, Kind: db.AdoptedPassword, Beside: []byte(scrypt)}, scrypt)
}

// AppPassword is Password for an app password.
func AppPassword(keys *keyring.Ring, did syntax.DID, name, scrypt string) (db.AdoptedSecret, error) {
	s := db.AdoptedSecret{DID: did, Kind: db.AdoptedAppPassword, Name: []byte(name), Beside: []byte(scrypt)}
	return seal(keys, s, scrypt)
}

// Session is the secret that keeps the id of a refresh token. next is the id of its
// successor, empty if it has none: it stands beside, as a hash.
func Session(keys *keyring.Ring, tokens *token.Issuer, did syntax.DID, jti, next string) (db.AdoptedSecret, error) {
	s := db.AdoptedSecret{DID: did, Kind: db.AdoptedSession, Name: tokens.HashID(jti)}
	if next != "" {
		s.Beside = tokens.HashID(next)
	}
	return seal(keys, s, jti)
}

func seal(keys *keyring.Ring, s db.AdoptedSecret, text string) (db.AdoptedSecret, error) {
	var err error
	s.Sealed, err = keys.Seal(place(s), s.DID.String(), []byte(text))
	if err != nil {
		return s, fmt.Errorf("adopted secret of %s: %w", s.DID, err)
	}
	return s, nil
}

// place is the purpose that a secret is sealed for: it opens nowhere but in its own row.
func place(s db.AdoptedSecret) string { return "adopted " + string(s.Kind) + "\x00" + string(s.Name) }

// Open returns what is sealed in s, outdated or not. Errors are those of [keyring.Ring.Open].
func Open(keys *keyring.Ring, s db.AdoptedSecret) (string, error) {
	text, err := keys.Open(place(s), s.DID.String(), s.Sealed)
	if err != nil {
		return "", fmt.Errorf("adopted secret of %s: %w", s.DID, err)
	}
	return string(text), nil
}

// Reseal returns what is sealed in s, sealed with the current key. Errors are those of Open.
func Reseal(keys *keyring.Ring, s db.AdoptedSecret) ([]byte, error) {
	sealed, err := keys.Reseal(place(s), s.DID.String(), s.Sealed)
	if err != nil {
		return nil, fmt.Errorf("adopted secret of %s: %w", s.DID, err)
	}
	return sealed, nil
}

// KeepPassword notes that the account's password, which stays the same, has the hash now
// where it had before. Who calls it stores the new hash in the same transaction.
func KeepPassword(ctx context.Context, tx *db.Tx, did syntax.DID, before, now string) error {
	return tx.MoveAdoptedSecret(ctx, did, db.AdoptedPassword, nil, []byte(before), []byte(now))
}

// KeepAppPassword is KeepPassword for an app password that had the imported hash before and
// has the keyed hash mac now.
func KeepAppPassword(ctx context.Context, tx *db.Tx, did syntax.DID, name, before string, mac []byte) error {
	return tx.MoveAdoptedSecret(ctx, did, db.AdoptedAppPassword, []byte(name), []byte(before), mac)
}
