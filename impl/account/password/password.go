// Package password hashes and verifies passwords, and makes app passwords.
//
// New hashes are argon2id; the scrypt hashes of the reference PDS verify too and are reported as due for replacement. Hashing is
// slow and hungry by design, so a [Hasher] lets only so many run at a time and only so many wait: its memory stays within
// a budget however many strangers try to sign in, and the surplus is told [ErrBusy] at once.
package password

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"

	"portico/impl/account/password/argon2id"
	"portico/impl/account/password/scrypt"
)

// Limits on the length of passwords, in UTF-16 code units (see [Length]).
const (
	MaxNew   = 256 // a password that is being set
	MaxLogin = 512 // a password that is being checked
)

// Length is the length of a password as clients count it: in UTF-16 code units.
func Length(password string) int {
	n := 0
	for _, r := range password {
		n += utf16.RuneLen(r)
	}
	return n
}

// ErrFormat says that a stored hash is none that this package knows.
var ErrFormat = errors.New("unknown password hash format")

// Params are the cost of an argon2id hash.
type Params struct {
	Memory  uint32 // KiB
	Time    uint32 // passes
	Threads uint8  // lanes; each hash is computed on one core all the same when it is 1
}

// area is how many KiB a hash works in: Memory, but for lanes that cannot share so little.
func (p Params) area() uint32 { return uint32(argon2id.Blocks(p.Memory, p.Threads)) }

// work is how many KiB a hash goes through.
func (p Params) work() uint64 { return uint64(p.area()) * uint64(p.Time) }

// DefaultParams is the least cost that a production server should use.
var DefaultParams = Params{Memory: 19 * 1024, Time: 2, Threads: 1}

const (
	saltBytes = 16
	keyBytes  = 32
)

// argonHash is a stored argon2id hash. Its text form is the PHC string format,
// https://github.com/P-H-C/phc-string-format/blob/master/phc-sf-spec.md
type argonHash struct {
	params    Params
	salt, key []byte
}

func newArgonHash(a area, random io.Reader, p Params, password string) (argonHash, error) {
	h := argonHash{params: p, salt: make([]byte, saltBytes)}
	if _, err := io.ReadFull(random, h.salt); err != nil {
		return argonHash{}, fmt.Errorf("make salt: %w", err)
	}
	h.key = h.derive(a, password, keyBytes)
	return h, nil
}

func (h argonHash) derive(a area, password string, size int) []byte {
	return argon2id.Key(a.blocks(), []byte(password), h.salt, h.params.Time, h.params.Memory, h.params.Threads, uint32(size))
}

func (h argonHash) matches(a area, password string) bool {
	return subtle.ConstantTimeCompare(h.key, h.derive(a, password, len(h.key))) == 1
}

func (h argonHash) cost() uint32 { return h.params.area() }

func (h argonHash) String() string {
	enc := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2id.Version,
		h.params.Memory, h.params.Time, h.params.Threads, enc(h.salt), enc(h.key))
}

func parseArgonHash(stored string) (argonHash, bool) {
	part := strings.Split(stored, "$")
	if len(part) != 6 || part[0] != "" || part[1] != "argon2id" || part[2] != fmt.Sprintf("v=%d", argon2id.Version) {
		return argonHash{}, false
	}
	var h argonHash
	p := &h.params
	if _, err := fmt.Sscanf(part[3], "m=%d,t=%d,p=%d", &p.Memory, &p.Time, &p.Threads); err != nil {
		return argonHash{}, false
	}
	// Bounds, so that a damaged row costs an error message and not all memory of the machine.
	if p.Memory < 8 || p.Memory > 1<<20 || p.Time < 1 || p.Time > 64 || p.Threads < 1 {
		return argonHash{}, false
	}
	var err error
	if h.salt, err = base64.RawStdEncoding.DecodeString(part[4]); err != nil || len(h.salt) < 8 || len(h.salt) > 64 {
		return argonHash{}, false
	}
	if h.key, err = base64.RawStdEncoding.DecodeString(part[5]); err != nil || len(h.key) < 16 || len(h.key) > 64 {
		return argonHash{}, false
	}
	// One text per hash: leading zeros, trailing text and loose base64 end here.
	return h, h.String() == stored
}

// The reference's scrypt cost; it takes 128·N·r bytes.
const (
	scryptN        = 16384
	scryptR        = 8
	scryptKeyBytes = 64
	scryptMemory   = 128 * scryptN * scryptR / 1024 // KiB
)

// scryptHash is a hash as the reference stores it: "<salt>:<key>", both as lower-case hex.
type scryptHash struct {
	salt string // its hex text, not the bytes that it spells, is what goes into scrypt
	key  []byte
}

func newScryptHash(a area, salt, password string) scryptHash {
	return scryptHash{salt, scrypt.Key(a.words(), []byte(password), []byte(salt), scryptN, scryptR, scryptKeyBytes)}
}

func (h scryptHash) matches(a area, password string) bool {
	return subtle.ConstantTimeCompare(h.key, newScryptHash(a, h.salt, password).key) == 1
}

func (h scryptHash) cost() uint32 { return scryptMemory }

func (h scryptHash) String() string { return h.salt + ":" + hex.EncodeToString(h.key) }

func parseScryptHash(stored string) (scryptHash, bool) {
	salt, text, ok := strings.Cut(stored, ":")
	if !ok || salt == "" || len(salt) > 128 {
		return scryptHash{}, false
	}
	key, err := hex.DecodeString(text)
	if err != nil || len(key) != scryptKeyBytes {
		return scryptHash{}, false
	}
	return scryptHash{salt, key}, true
}

// hash is a stored hash of either kind.
type hash interface {
	matches(a area, password string) bool // the slow part
	cost() uint32                         // KiB that a has at least
}

func parse(stored string) (hash, error) {
	if h, ok := parseArgonHash(stored); ok {
		return h, nil
	}
	if h, ok := parseScryptHash(stored); ok {
		return h, nil
	}
	return nil, ErrFormat
}

// decoy has the cost of a real hash. What it matches does not matter: nobody looks.
func decoy(p Params) argonHash {
	return argonHash{params: p, salt: make([]byte, saltBytes), key: make([]byte, keyBytes)}
}

// importedAppSalt is the salt that the reference gives to all app passwords of an account.
func importedAppSalt(did string) string {
	sum := sha256.Sum256([]byte(did))
	return hex.EncodeToString(sum[:16])
}
