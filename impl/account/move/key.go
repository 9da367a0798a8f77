package move

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/account"
	"portico/impl/audit"
	"portico/impl/identity/plc"
)

// A KeyMove gives all DIDs another rotation key of this server. It is the [Kind] of [Key].
//
// The new key comes right before the old one, which so stays until the move is finished:
// who goes back to a backup of before can change all DIDs, and undo the move. A DID that
// has as many keys as it may have has no room for both. It keeps the old one until then,
// and gets the new one in its place in one operation: to do that sooner would leave DIDs
// that such a backup has no key of, while all the others could still be turned back.
type KeyMove struct {
	Accounts *account.Accounts
	Now      func() time.Time
}

// RotationKeys is the value of db.Meta that has a line for each rotation key, a did:key, that
// DIDs of accounts may have.
const RotationKeys = "rotation key"

// BeginKey begins the move from the old rotation key to that of today, which the operator
// names by its fingerprint: so they have it, and not only this server. It returns a
// [*Refusal].
func (m *Moves) BeginKey(ctx context.Context, fingerprint string) (*State, error) {
	key, err := m.Accounts.RotationKey()
	if err != nil {
		return nil, err
	}
	old, err := m.Accounts.OldRotationKey()
	if err != nil {
		return nil, err
	}
	switch {
	case old == "":
		return nil, refuse("PORTICO_PLC_ROTATION_KEY_OLD is not set: this server does not have the old rotation key")
	case !strings.EqualFold(strings.TrimSpace(fingerprint), account.KeyFingerprint(key)):
		return nil, refuse("the rotation key of this server has the fingerprint %s: was it restarted with the new key?", account.KeyFingerprint(key))
	}
	return m.Begin(ctx, Key, old, key)
}

// Ready is [Kind]'s.
func (k *KeyMove) Ready(s *State) error {
	key, err := k.Accounts.RotationKey()
	if err != nil {
		return err
	}
	old, err := k.Accounts.OldRotationKey()
	if err != nil {
		return err
	}
	if s.From != old || s.To != key {
		return refuse("this server needs the two keys that the move began with: PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX is to have "+
			"the fingerprint %s, and PORTICO_PLC_ROTATION_KEY_OLD %s", account.KeyFingerprint(s.To), account.KeyFingerprint(s.From))
	}
	return nil
}

// Enter is [Kind]'s.
func (k *KeyMove) Enter(ctx context.Context, tx *db.Tx, s *State) error {
	switch s.Phase {
	case Moving:
		if err := known(ctx, tx, s.From); err != nil {
			return err
		}
		return tx.PutMeta(ctx, account.RetiredKey, []byte{})
	case Finishing:
		if held, err := heldWithout(ctx, tx, s.To); err != nil {
			return err
		} else if held > 0 {
			return refuse("%d accounts in quarantine have DIDs that were made for the old key alone: approve or delete them first (portico account list --quarantined)", held)
		}
		if over := later(s.LastAt, s.BegunAt).Add(Hold); k.Now().Before(over) {
			return refuse("the move can be finished from %s on, 72 hours after the last DID was changed", over.UTC().Format(time.RFC3339))
		}
		return tx.PutMeta(ctx, account.RetiredKey, []byte(s.From))
	case Undoing:
		return tx.PutMeta(ctx, account.RetiredKey, []byte(s.To))
	}
	return nil
}

// heldWithout counts the accounts in quarantine whose DIDs, once they are in the directory, do
// not have a rotation key.
func heldWithout(ctx context.Context, tx *db.Tx, key string) (n int, err error) {
	for after, last := (time.Time{}), syntax.DID(""); ; {
		rows, err := tx.HeldAccounts(ctx, db.HeldFilter{}, after, last, page)
		if err != nil {
			return 0, err
		}
		for _, h := range rows {
			after, last = h.Since, h.DID
			if h.State != db.Held && h.State != db.HeldSent {
				continue
			}
			genesis, err := plc.Parse(h.Genesis)
			if err != nil {
				return 0, fmt.Errorf("stored genesis of %s: %w", h.DID, err)
			}
			if d, _ := genesis.Data(); !slices.Contains(d.RotationKeys, key) {
				n++
			}
		}
		if len(rows) < page {
			return n, nil
		}
	}
}

// known refuses an old key that no DID can have.
func known(ctx context.Context, tx *db.Tx, old string) error {
	lines, err := tx.Meta(ctx, RotationKeys)
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return err
	}
	if err == nil && !slices.Contains(strings.Split(string(lines), "\n"), old) {
		return refuse("PORTICO_PLC_ROTATION_KEY_OLD, with the fingerprint %s, was never the rotation key of this server", account.KeyFingerprint(old))
	}
	return nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Step is [Kind]'s.
func (k *KeyMove) Step(ctx context.Context, s *State, _ *db.Standing, last plc.Operation) (Step, error) {
	d, _ := last.Data()
	if !k.Accounts.Named(ctx, d) {
		return Step{Left: LeftElsewhere}, nil
	}
	keys := rotated(d.RotationKeys, s)
	if slices.Equal(keys, d.RotationKeys) {
		return Step{}, nil
	}
	op, err := plc.Update(last, func(d *plc.Data) { d.RotationKeys = keys })
	if err != nil {
		return Step{}, err
	}
	if encoded, err := op.Encode(); err != nil || len(encoded)+sizeOfSignature > plc.MaxBytes && len(keys) > len(d.RotationKeys) {
		return Step{}, err // there is no room for both keys, as where there are five
	}
	return Step{Operation: op}, nil
}

// sizeOfSignature is what a signature adds to an operation, with its name.
const sizeOfSignature = 100

// rotated is what the rotation keys become in the phase of s.
func rotated(keys []string, s *State) []string {
	goes, stays := s.From, s.To
	switch s.Phase {
	case Undoing:
		goes, stays = s.To, s.From
	case Finishing:
	default:
		if len(keys) >= account.MaxRotationKeys {
			return keys
		}
		return account.WithKey(keys, s.From, s.To, false)
	}
	keys = account.WithKey(keys, goes, stays, true)
	if slices.Contains(keys, stays) {
		keys = slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return key == goes })
	}
	return keys
}

// Settle is [Kind]'s.
func (k *KeyMove) Settle(ctx context.Context, tx *db.Tx, s *State, did syntax.DID, step Step) error {
	if !step.changed() {
		return nil
	}
	detail := "with " + account.KeyFingerprint(s.To)
	switch s.Phase {
	case Undoing:
		detail = "without " + account.KeyFingerprint(s.To)
	case Finishing:
		detail = "without " + account.KeyFingerprint(s.From)
	}
	return audit.RecordOfAccount(ctx, tx, k.Now(), did, audit.RotationKeysChanged, detail)
}

// FinishableAt is when a move of keys can be finished at the earliest, the zero time when
// that is not known yet or there is nothing to wait for.
func (s *State) FinishableAt() time.Time {
	if s.Kind != Key || s.Phase != Moved {
		return time.Time{}
	}
	return later(s.LastAt, s.BegunAt).Add(Hold)
}
