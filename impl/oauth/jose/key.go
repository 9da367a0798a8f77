package jose

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"unicode"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
)

// A Key is a public key of a client. It is not changed once made.
type Key struct {
	ID        string // kid, "" for none
	Algorithm string // alg, "" for none

	public     any // *rsa.PublicKey, *ecdsa.PublicKey or *atcrypto.PublicKeyK256
	fits       []string
	thumbprint string
}

// Errors of keys.
var (
	// ErrPrivate says that a key is a secret that should not have been sent.
	ErrPrivate = errors.New("key is not public")
	// ErrUnsupported says that there may be such keys, but that nothing here is signed with them.
	ErrUnsupported = errors.New("key of another kind, or for another use")
)

const (
	maxKey  = 8 << 10 // bytes of a key, which may have certificates with it
	maxID   = 256     // bytes of its name
	minBits = 2048
	maxBits = 8192
)

// private are the members of keys that only their owners have (RFC 7518, section 6).
var private = []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"}

var rsaAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}

// curves are those of keys, with what signs on them.
var curves = []struct {
	name  string
	size  int // bytes of a coordinate
	curve elliptic.Curve
	fits  []string
}{
	{"P-256", 32, elliptic.P256(), []string{"ES256"}},
	{"P-384", 48, elliptic.P384(), []string{"ES384"}},
	{"P-521", 66, elliptic.P521(), []string{"ES512"}},
	{"secp256k1", 32, nil, []string{"ES256K"}},
}

// ParseKey reads a JSON Web Key: an RSA key of 2048 to 8192 bits, or one of the curves P-256,
// P-384, P-521, secp256k1. What it says of itself has to fit. It returns ErrPrivate,
// ErrUnsupported, or another error.
func ParseKey(raw []byte) (*Key, error) {
	if len(raw) > maxKey {
		return nil, errors.New("key is too long")
	}
	o, err := ParseObject(raw, maxMembers)
	if err != nil {
		return nil, err
	}
	kind, ok := o.Text("kty")
	if !ok {
		return nil, errors.New(`"kty" is missing`)
	}
	for _, name := range private {
		if _, has := o.Raw(name); has {
			return nil, ErrPrivate
		}
	}
	k := &Key{}
	for _, m := range []struct {
		name string
		text *string
	}{{"kid", &k.ID}, {"alg", &k.Algorithm}} {
		if _, has := o.Raw(m.name); has {
			if *m.text, ok = o.Text(m.name); !ok || *m.text == "" || len(*m.text) > maxID || strings.ContainsFunc(*m.text, unicode.IsControl) {
				return nil, fmt.Errorf("%q is invalid", m.name)
			}
		}
	}
	if err := forSignatures(o); err != nil {
		return nil, err
	}
	switch kind {
	case "EC":
		err = k.elliptic(o)
	case "RSA":
		err = k.rsa(o)
	default:
		err = ErrUnsupported
	}
	if err != nil {
		return nil, err
	}
	if k.Algorithm != "" && !slices.Contains(k.fits, k.Algorithm) {
		return nil, fmt.Errorf(`%w: "alg" does not fit the key`, ErrUnsupported)
	}
	return k, nil
}

// forSignatures fails for a key that is meant for something else (RFC 7517, sections 4.2 and 4.3).
func forSignatures(o Object) error {
	if _, has := o.Raw("use"); has {
		if use, ok := o.Text("use"); !ok || use != "sig" {
			return fmt.Errorf(`%w: "use"`, ErrUnsupported)
		}
	}
	if _, has := o.Raw("key_ops"); has {
		ops, ok := o.Texts("key_ops", 16)
		if !ok || !slices.Contains(ops, "verify") {
			return fmt.Errorf(`%w: "key_ops"`, ErrUnsupported)
		}
	}
	return nil
}

func (k *Key) elliptic(o Object) error {
	name, _ := o.Text("crv")
	for _, c := range curves {
		if c.name != name {
			continue
		}
		x, err1 := octets(o, "x")
		y, err2 := octets(o, "y")
		if err1 != nil || err2 != nil || len(x) != c.size || len(y) != c.size {
			return errors.New("coordinates are invalid")
		}
		point := make([]byte, 0, 1+2*66)
		point = append(append(append(point, 4), x...), y...)
		var err error
		if c.curve == nil {
			k.public, err = atcrypto.ParsePublicUncompressedBytesK256(point)
		} else {
			k.public, err = ecdsa.ParseUncompressedPublicKey(c.curve, point)
		}
		if err != nil {
			return errors.New("point is not on the curve")
		}
		k.fits = c.fits
		k.print(`{"crv":"`, name, `","kty":"EC","x":"`, encoding.EncodeToString(x), `","y":"`, encoding.EncodeToString(y), `"}`)
		return nil
	}
	return fmt.Errorf(`%w: "crv"`, ErrUnsupported)
}

func (k *Key) rsa(o Object) error {
	n, err1 := octets(o, "n")
	e, err2 := octets(o, "e")
	// Numbers have no zeros before them, so that each key has one thumbprint.
	if err1 != nil || err2 != nil || n[0] == 0 || e[0] == 0 || len(e) > 4 || len(n) > maxBits/8 {
		return errors.New("numbers are invalid")
	}
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	if bits := key.N.BitLen(); bits < minBits || key.N.Bit(0) == 0 {
		return errors.New("modulus is invalid")
	}
	if key.E < 3 || key.E%2 == 0 || key.E > 1<<31-1 {
		return errors.New("exponent is invalid")
	}
	k.public, k.fits = key, rsaAlgorithms
	k.print(`{"e":"`, encoding.EncodeToString(e), `","kty":"RSA","n":"`, encoding.EncodeToString(n), `"}`)
	return nil
}

// octets returns a member that is base64url of at least one byte.
func octets(o Object, name string) ([]byte, error) {
	s, _ := o.Text(name)
	b, err := decode(s)
	if err != nil || len(b) == 0 {
		return nil, errObject
	}
	return b, nil
}

// print remembers the hash of what a key is, as RFC 7638 spells it.
func (k *Key) print(parts ...string) {
	text := make([]byte, 0, 256)
	for _, part := range parts {
		text = append(text, part...)
	}
	sum := sha256.Sum256(text)
	k.thumbprint = encoding.EncodeToString(sum[:])
}

// Thumbprint is that of RFC 7638, with SHA-256.
func (k *Key) Thumbprint() string { return k.thumbprint }

// Takes says whether signatures of an algorithm can be made with the key, and are meant to be.
func (k *Key) Takes(algorithm string) bool {
	return slices.Contains(k.fits, algorithm) && (k.Algorithm == "" || k.Algorithm == algorithm)
}
