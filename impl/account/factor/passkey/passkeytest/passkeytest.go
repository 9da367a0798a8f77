// Package passkeytest is an authenticator and a browser for tests of passkeys: it makes what
// those send, byte by byte, and can be told to make it wrong.
package passkeytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"testing"
)

// Flags of authenticator data.
const (
	UserPresent    = 0x01
	UserVerified   = 0x04
	BackupEligible = 0x08
	BackedUp       = 0x10
	attested       = 0x40
)

// A Key is a passkey of an authenticator, and where it believes to be. Change what is to be
// wrong.
type Key struct {
	ID, Handle []byte
	Origin     string
	Site       string // the ID of the relying party
	Flags      byte
	Counter    uint32
	Format     string // of the attestation
	CrossSite  bool

	private *ecdsa.PrivateKey
}

// New is a key that nobody knows yet, in a browser that is at origin, for site.
func New(t testing.TB, origin, site string) *Key {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		t.Fatal(err)
	}
	return &Key{ID: id, Origin: origin, Site: site, Flags: UserPresent | UserVerified | BackupEligible | BackedUp, Format: "none", private: private}
}

func (k *Key) client(kind string, challenge string) []byte {
	b, _ := json.Marshal(map[string]any{"type": kind, "challenge": challenge, "origin": k.Origin, "crossOrigin": k.CrossSite})
	return b
}

func (k *Key) data(flags byte) []byte {
	site := sha256.Sum256([]byte(k.Site))
	return binary.BigEndian.AppendUint32(append(site[:], flags), k.Counter)
}

// Make answers the options of a page with a new credential.
func (k *Key) Make(t testing.TB, options string) string {
	t.Helper()
	var asked struct {
		Challenge string
		User      struct{ ID string }
	}
	if err := json.Unmarshal([]byte(options), &asked); err != nil {
		t.Fatalf("options %q: %v", options, err)
	}
	handle, err := base64.RawURLEncoding.DecodeString(asked.User.ID)
	if err != nil {
		t.Fatal(err)
	}
	k.Handle = handle
	data := append(k.data(k.Flags|attested), make([]byte, 16)...) // no AAGUID
	data = append(binary.BigEndian.AppendUint16(data, uint16(len(k.ID))), k.ID...)
	data = append(data, k.cose()...)
	// {"fmt": Format, "attStmt": {}, "authData": data}
	object := append([]byte{0xa3, 0x63}, "fmt"...)
	object = append(object, 0x60|byte(len(k.Format)))
	object = append(append(object, k.Format...), 0x67)
	object = append(append(object, "attStmt"...), 0xa0, 0x68)
	object = append(append(object, "authData"...), 0x59, byte(len(data)>>8), byte(len(data)))
	object = append(object, data...)
	return k.answer(map[string]string{"clientDataJSON": encode(k.client("webauthn.create", asked.Challenge)), "attestationObject": encode(object)})
}

// Sign answers the options of a page with a signature; one of an authenticator that counts
// comes with the next number.
func (k *Key) Sign(t testing.TB, options string) string {
	t.Helper()
	var asked struct{ Challenge string }
	if err := json.Unmarshal([]byte(options), &asked); err != nil {
		t.Fatalf("options %q: %v", options, err)
	}
	if k.Counter > 0 {
		k.Counter++
	}
	client, data := k.client("webauthn.get", asked.Challenge), k.data(k.Flags)
	sum := sha256.Sum256(client)
	digest := sha256.Sum256(append(data[:len(data):len(data)], sum[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, k.private, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return k.answer(map[string]string{
		"clientDataJSON": encode(client), "authenticatorData": encode(data), "signature": encode(signature), "userHandle": encode(k.Handle),
	})
}

func (k *Key) answer(response map[string]string) string {
	b, _ := json.Marshal(map[string]any{
		"id": encode(k.ID), "rawId": encode(k.ID), "type": "public-key", "response": response, "clientExtensionResults": map[string]any{},
	})
	return string(b)
}

// cose is the public key: {1: 2 (EC2), 3: -7 (ES256), -1: 1 (P-256), -2: x, -3: y}.
func (k *Key) cose() []byte {
	public, err := k.private.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	b := append([]byte{0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 32}, public[1:33]...)
	return append(append(b, 0x22, 0x58, 32), public[33:]...)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
