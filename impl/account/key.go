package account

import (
	"context"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/keyring"
)

// ReservedPurpose is the purpose under which keys are sealed that wait for their
// account. They are sealed for the id of their reservation.
const ReservedPurpose = "reserved"

// ReservationLife is how long a reserved key waits for its account.
const ReservationLife = 7 * 24 * time.Hour

// SigningKey returns the key with which an account signs its repository and its
// service tokens. It returns db.ErrNotFound when there is no such account.
func (a *Accounts) SigningKey(ctx context.Context, did syntax.DID) (*atcrypto.PrivateKeyK256, error) {
	row, err := a.DB.SigningKey(ctx, did, KeyPurpose)
	if err != nil {
		return nil, err
	}
	key, err := a.Keys.SigningKey(row.Purpose, did.String(), row.Sealed)
	if err != nil {
		return nil, fmt.Errorf("open signing key of %s: %w", did, err)
	}
	return key, nil
}

// NewReservedKey makes a key for an account to come; did is empty when nobody
// knows yet which. Nothing is stored.
func (a *Accounts) NewReservedKey(did syntax.DID) (*db.ReservedKey, error) {
	key, err := keyring.NewKey(a.Rand)
	if err != nil {
		return nil, err
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("reserved key: %w", err)
	}
	k := &db.ReservedKey{ID: did.String(), DID: did, Public: public.DIDKey(), CreatedAt: a.Now()}
	if did == "" {
		k.ID = k.Public
	}
	if k.Sealed, err = a.Keys.Seal(ReservedPurpose, k.ID, key.Bytes()); err != nil {
		return nil, err
	}
	return k, nil
}
