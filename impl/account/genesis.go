package account

import (
	"context"
	"errors"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/identity/plc"
)

// ErrRegistered says that a DID that was to be made is in the directory already.
var ErrRegistered = errors.New("DID is registered already")

// A SignedGenesis is the first operation that a client has signed for its DID, with
// the key that was reserved here for it. [Accounts.AcceptGenesis] makes them.
//
// Once the directory has it, it is public, and anybody can send it again. So it makes
// an account only where the directory has never heard of it, and only as long as its
// key is reserved: the transaction that takes its DID ends the reservation for good.
// Nobody here ends its DID.
type SignedGenesis struct {
	did syntax.DID
	op  plc.Operation
	key db.ReservedKey
}

// DID is the one that the operation makes.
func (g *SignedGenesis) DID() syntax.DID { return g.did }

// AcceptGenesis reads the operation that a client has signed for an account with the
// handle h, in lower case.
//
// It returns *plc.GenesisError where the operation is not what an account here begins
// with, db.ErrDIDTaken where it has made an account or is at it, and ErrKeyUnknown
// where its key is not reserved, or for a certain DID.
func (a *Accounts) AcceptGenesis(ctx context.Context, operation []byte, h syntax.Handle) (*SignedGenesis, error) {
	rotation, err := a.accountKeys(ctx)
	if err != nil {
		return nil, err
	}
	op, did, public, err := plc.ParseGenesis(operation, plc.Terms{Handle: h, Endpoint: a.PublicURL(ctx), RotationKeys: rotation})
	if err != nil {
		return nil, err
	}
	key, err := a.DB.ReservedKey(ctx, public)
	if err == nil && key.DID == "" {
		return &SignedGenesis{did, op, *key}, nil
	}
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return nil, err
	}
	// Whoever missed the answer to the first try is told what became of it.
	_, err = a.DB.StandingByDID(ctx, did)
	switch {
	case err == nil:
		return nil, fmt.Errorf("accept genesis of %s: %w", did, db.ErrDIDTaken)
	case errors.Is(err, db.ErrNotFound):
		return nil, fmt.Errorf("accept genesis of %s: %w", did, ErrKeyUnknown)
	}
	return nil, err
}

// unregistered returns ErrRegistered if the directory has g, which anybody may then
// have from there, and ErrDirectory if that can't be found out. It comes before all
// else: what is reserved here has passed it, so that [Accounts.Resume] may complete it.
func (a *Accounts) unregistered(ctx context.Context, g *SignedGenesis) error {
	presence, err := a.Directory.Registered(ctx, g.did, g.op)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrDirectory, err)
	case presence != plc.Absent:
		return fmt.Errorf("create %s: %w", g.did, ErrRegistered)
	}
	return nil
}

// takeKey ends the reservation of a key, so that no second account gets it. It returns
// ErrKeyUnknown when one was faster.
func takeKey(ctx context.Context, tx *db.Tx, k db.ReservedKey) error {
	err := tx.TakeReservedKey(ctx, k)
	if errors.Is(err, db.ErrNotFound) {
		return ErrKeyUnknown
	}
	return err
}

// openReserved is the private half of a key that was reserved.
func (a *Accounts) openReserved(k db.ReservedKey) (*atcrypto.PrivateKeyK256, error) {
	raw, err := a.Keys.Open(ReservedPurpose, k.ID, k.Sealed)
	if err != nil {
		return nil, fmt.Errorf("open reserved key %s: %w", k.Public, err)
	}
	key, err := atcrypto.ParsePrivateBytesK256(raw)
	if err != nil {
		return nil, fmt.Errorf("open reserved key %s: %w", k.Public, err)
	}
	return key, nil
}
