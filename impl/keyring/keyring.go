// Package keyring keeps secrets at rest: it seals them with the server's
// key-encryption key, and makes the keyed hashes by which random secrets, such as
// app passwords and emailed codes, are found again without being stored.
package keyring

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/crypto/chacha20poly1305"
)

// KeySize is the length of a key-encryption key in bytes.
const KeySize = 32

// cached is how many parsed signing keys are kept, at some 500 bytes each. Parsing
// costs about as much as signing, because the public key is computed anew.
const cached = 4096

var (
	// ErrKeySize says that a key-encryption key is not KeySize bytes long.
	ErrKeySize = errors.New("key-encryption key is not 32 bytes long")
	// ErrUnknownKey says that something was sealed with a key that is not on the ring.
	ErrUnknownKey = errors.New("sealed with a key that is not configured")
	// ErrSealed says that sealed bytes are damaged, or were sealed for something else.
	ErrSealed = errors.New("sealed secret is damaged or belongs elsewhere")
)

// A sealed secret is: version (1 byte), id of the key, nonce, ciphertext with tag.
const (
	version    = 1
	idSize     = 8
	headSize   = 1 + idSize
	cipherHead = headSize + chacha20poly1305.NonceSizeX
)

const (
	canaryPurpose = "portico/canary"
	rootSize      = 32
)

type keyID [idSize]byte

// Ring holds the current key-encryption key and those before it. It is safe for
// concurrent use once [Ring.Unlock] has returned.
type Ring struct {
	mu      sync.Mutex // of random, which need not be safe
	random  io.Reader
	current keyID
	keys    map[keyID]cipher.AEAD
	root    []byte
	parsed  *lru.Cache[string, parsedKey]
}

type parsedKey struct {
	sealed []byte
	key    *atcrypto.PrivateKeyK256
}

// New returns a ring that seals with current and opens what current or any of old
// has sealed. Nonces are read from random, which has to be a secure source. A key of
// the wrong length is ErrKeySize.
func New(random io.Reader, current []byte, old ...[]byte) (*Ring, error) {
	r := &Ring{random: random, keys: make(map[keyID]cipher.AEAD)}
	var err error
	if r.parsed, err = lru.New[string, parsedKey](cached); err != nil {
		return nil, fmt.Errorf("make key cache: %w", err)
	}
	for _, key := range old {
		if _, err := r.add(key); err != nil {
			return nil, err
		}
	}
	if r.current, err = r.add(current); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Ring) add(key []byte) (id keyID, err error) {
	if len(key) != KeySize {
		return id, ErrKeySize
	}
	// Two keys are derived, so that the published id tells nothing about the other.
	public, err := hkdf.Key(sha256.New, key, nil, "portico key id", idSize)
	if err != nil {
		return id, fmt.Errorf("derive key id: %w", err)
	}
	secret, err := hkdf.Key(sha256.New, key, nil, "portico sealing key", chacha20poly1305.KeySize)
	if err != nil {
		return id, fmt.Errorf("derive sealing key: %w", err)
	}
	aead, err := chacha20poly1305.NewX(secret)
	if err != nil {
		return id, fmt.Errorf("derive sealing key: %w", err)
	}
	id = keyID(public)
	r.keys[id] = aead
	return id, nil
}

// LogValue keeps keys out of logs.
func (*Ring) LogValue() slog.Value { return slog.StringValue("REDACTED") }

// String keeps keys out of everything else that prints.
func (*Ring) String() string { return "REDACTED" }

// GoString is String.
func (*Ring) GoString() string { return "REDACTED" }

func (r *Ring) read(b []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := io.ReadFull(r.random, b); err != nil {
		return fmt.Errorf("read random bytes: %w", err)
	}
	return nil
}

// additional binds a secret to its place: moved to another row it does not open.
func additional(head []byte, purpose, did string) []byte {
	b := slices.Clone(head)
	b = append(binary.AppendUvarint(b, uint64(len(purpose))), purpose...)
	return append(binary.AppendUvarint(b, uint64(len(did))), did...)
}

// Seal encrypts plaintext for a purpose and a DID; without the same two it cannot be
// opened. The result is 49 bytes longer.
func (r *Ring) Seal(purpose, did string, plaintext []byte) ([]byte, error) {
	b := make([]byte, cipherHead, cipherHead+len(plaintext)+chacha20poly1305.Overhead)
	b[0] = version
	copy(b[1:], r.current[:])
	if err := r.read(b[headSize:]); err != nil {
		return nil, fmt.Errorf("seal %s: %w", purpose, err)
	}
	return r.keys[r.current].Seal(b, b[headSize:cipherHead], plaintext, additional(b[:headSize], purpose, did)), nil
}

// Open decrypts what Seal has made. Errors are ErrUnknownKey and ErrSealed.
func (r *Ring) Open(purpose, did string, sealed []byte) ([]byte, error) {
	if len(sealed) < cipherHead+chacha20poly1305.Overhead || sealed[0] != version {
		return nil, fmt.Errorf("open %s: %w", purpose, ErrSealed)
	}
	key, ok := r.keys[keyID(sealed[1:headSize])]
	if !ok {
		return nil, fmt.Errorf("open %s: %w", purpose, ErrUnknownKey)
	}
	plaintext, err := key.Open(nil, sealed[headSize:cipherHead], sealed[cipherHead:], additional(sealed[:headSize], purpose, did))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", purpose, ErrSealed)
	}
	return plaintext, nil
}

// Current says whether sealed was made with the current key. What was not is to be
// sealed anew before its key leaves the ring.
func (r *Ring) Current(sealed []byte) bool {
	return len(sealed) >= headSize && sealed[0] == version && keyID(sealed[1:headSize]) == r.current
}

// Reseal opens sealed and seals it with the current key. Errors are those of Open.
func (r *Ring) Reseal(purpose, did string, sealed []byte) ([]byte, error) {
	plaintext, err := r.Open(purpose, did, sealed)
	if err != nil {
		return nil, err
	}
	return r.Seal(purpose, did, plaintext)
}

// NewCanary makes the one secret that a database has from its first day: it tells at
// every start whether the configured key is the right one, and it is the root of all
// keyed hashes, which therefore outlive a change of the key.
func (r *Ring) NewCanary() ([]byte, error) {
	root := make([]byte, rootSize)
	if err := r.read(root); err != nil {
		return nil, fmt.Errorf("make canary: %w", err)
	}
	return r.Seal(canaryPurpose, "", root)
}

// Unlock checks the ring against the database's canary and makes MAC ready. It
// returns ErrUnknownKey when the configured key is another one, ErrSealed when the
// canary is damaged. It is called once, before the ring is shared.
func (r *Ring) Unlock(canary []byte) error {
	root, err := r.Open(canaryPurpose, "", canary)
	if err != nil {
		return err
	}
	if len(root) != rootSize {
		return fmt.Errorf("open %s: %w", canaryPurpose, ErrSealed)
	}
	r.root = root
	return nil
}

// ResealCanary is Reseal for the canary.
func (r *Ring) ResealCanary(canary []byte) ([]byte, error) {
	return r.Reseal(canaryPurpose, "", canary)
}

// MAC returns a keyed hash of data, HMAC-SHA256 with a key of its own for each
// purpose. It is meant for random secrets: a guessable one is only as safe as the
// key. It panics before Unlock, since no hash made then could ever be found again.
func (r *Ring) MAC(purpose string, data []byte) [32]byte {
	key := r.MACKey(purpose)
	h := hmac.New(sha256.New, key[:])
	h.Write(data)
	return [32]byte(h.Sum(nil))
}

// MACKey is the key of a purpose, with which whoever is given keyed hashes can compare them. It
// tells nothing of that of another purpose. It panics before Unlock.
func (r *Ring) MACKey(purpose string) [32]byte {
	if r.root == nil {
		panic("keyring: MAC before Unlock")
	}
	key, err := hkdf.Expand(sha256.New, r.root, "portico mac "+purpose, sha256.Size)
	if err != nil {
		panic("keyring: " + err.Error()) // 32 bytes are never too many
	}
	return [32]byte(key)
}

// Repository is the purpose of the keys with which accounts sign their repositories.
const Repository = "atproto"

// SigningKey opens a sealed K-256 private key and parses it. Parsed keys are
// remembered, the latest 4096 used; what is remembered counts only for the same
// sealed bytes, so that a replaced key is never served.
func (r *Ring) SigningKey(purpose, did string, sealed []byte) (*atcrypto.PrivateKeyK256, error) {
	id := purpose + "\x00" + did
	if known, ok := r.parsed.Get(id); ok && bytes.Equal(known.sealed, sealed) {
		return known.key, nil
	}
	private, err := r.Open(purpose, did, sealed)
	if err != nil {
		return nil, err
	}
	key, err := atcrypto.ParsePrivateBytesK256(private)
	if err != nil {
		return nil, fmt.Errorf("signing key of %s: %w", did, err)
	}
	r.parsed.Add(id, parsedKey{bytes.Clone(sealed), key})
	return key, nil
}

// Forget drops the remembered key of an account that is no more.
func (r *Ring) Forget(purpose, did string) { r.parsed.Remove(purpose + "\x00" + did) }

// NewKey makes a K-256 private key of 32 bytes from random, which has to be a secure
// source.
func NewKey(random io.Reader) (*atcrypto.PrivateKeyK256, error) {
	var b [32]byte
	// One in 2^128 byte strings is no key; two in a row mean a broken source.
	for range 2 {
		if _, err := io.ReadFull(random, b[:]); err != nil {
			return nil, fmt.Errorf("make signing key: %w", err)
		}
		if key, err := atcrypto.ParsePrivateBytesK256(b[:]); err == nil {
			return key, nil
		}
	}
	return nil, errors.New("make signing key: random source gives no keys")
}
