package account

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"portico/db"
	"portico/impl/identity/plc"
)

// rotation are the did:keys of Rotation and OldRotation.
type rotation struct {
	once     sync.Once
	key, old string
	err      error
}

func (a *Accounts) readRotation() *rotation {
	r := &a.rotation
	r.once.Do(func() {
		if r.key, r.err = publicKey(a.Rotation); r.err == nil && a.OldRotation != nil {
			r.old, r.err = publicKey(a.OldRotation)
		}
	})
	return r
}

func publicKey(key atcrypto.PrivateKey) (string, error) {
	public, err := key.PublicKey()
	if err != nil {
		return "", fmt.Errorf("rotation key: %w", err)
	}
	return public.DIDKey(), nil
}

// RotationKey is the did:key of Rotation.
func (a *Accounts) RotationKey() (string, error) {
	r := a.readRotation()
	return r.key, r.err
}

// OldRotationKey is the did:key of OldRotation, "" for none.
func (a *Accounts) OldRotationKey() (string, error) {
	r := a.readRotation()
	return r.old, r.err
}

// ownKeys are the keys with which this server can change a DID, and the operator's own.
func (a *Accounts) ownKeys() ([]string, error) {
	r := a.readRotation()
	return slices.DeleteFunc([]string{a.Recovery, r.key, r.old}, func(key string) bool { return key == "" }), r.err
}

// Controls reports whether this server can change a DID of did:plc that says d.
func (a *Accounts) Controls(d plc.Data) (bool, error) {
	r := a.readRotation()
	return slices.Contains(d.RotationKeys, r.key) || r.old != "" && slices.Contains(d.RotationKeys, r.old), r.err
}

// Sign signs an operation that follows last with that of this server's rotation keys which
// last names: the old one where it does, and that of today otherwise.
//
// Which one it is depends on nothing else, and never is that of today because that is
// there too: of two operations after one, the directory takes the later back in favour of
// that with the stronger key. Two of this server's that cross must not do that to each
// other, so whoever signs for it after the same operation signs with the same key, also a
// process that was not yet given the new one.
func (a *Accounts) Sign(op, last plc.Operation) error {
	r := a.readRotation()
	if r.err != nil {
		return r.err
	}
	key := a.Rotation
	if d, ok := last.Data(); ok && r.old != "" && slices.Contains(d.RotationKeys, r.old) {
		key = a.OldRotation
	}
	return op.Sign(key)
}

// RetiredKey is the value of db.Meta that has the did:key of the rotation key which is
// being taken out of all DIDs, or was the last that was. It is empty while all are to stay.
const RetiredKey = "retired rotation key"

// RotationKeys are the rotation keys that this server puts into the DIDs of its
// accounts, the strongest first. An old one is among them until it is taken out of all:
// who goes back to a backup of before the new one can still change all DIDs. So is a new one
// until it is taken out again.
func (a *Accounts) RotationKeys(ctx context.Context) ([]string, error) {
	keys, err := a.accountKeys(ctx)
	if a.Recovery != "" {
		keys = append([]string{a.Recovery}, keys...)
	}
	return keys, err
}

// accountKeys is RotationKeys without the operator's own.
func (a *Accounts) accountKeys(ctx context.Context) ([]string, error) {
	r := a.readRotation()
	if r.err != nil || r.old == "" {
		return []string{r.key}, r.err
	}
	retired, err := a.DB.Meta(ctx, RetiredKey)
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return nil, err
	}
	switch string(retired) {
	case r.old:
		return []string{r.key}, nil
	case r.key:
		return []string{r.old}, nil
	}
	return []string{r.key, r.old}, nil
}

// MaxRotationKeys is how many rotation keys a DID has at most.
const MaxRotationKeys = 5

// WithKey is keys with one of this server's rotation keys right before another, or in the
// place of that one. Keys that have it, or have not the other, stay as they are.
func WithKey(keys []string, beside, key string, inPlace bool) []string {
	at := slices.Index(keys, beside)
	if at < 0 || slices.Contains(keys, key) {
		return keys
	}
	keys = slices.Insert(slices.Clone(keys), at, key)
	if inPlace {
		keys = slices.DeleteFunc(keys, func(k string) bool { return k == beside })
	}
	return keys
}

// KeyFingerprint is what people compare of a did:key: four groups of four hexadecimal
// digits.
func KeyFingerprint(didKey string) string {
	sum := sha256.Sum256([]byte(didKey))
	text := hex.EncodeToString(sum[:8])
	return strings.Join([]string{text[:4], text[4:8], text[8:12], text[12:]}, "-")
}
