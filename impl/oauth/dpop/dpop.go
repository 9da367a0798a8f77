// Package dpop checks the proofs by which clients show that a token is theirs (RFC 9449).
//
// A proof is a JWT that a client's key signed for one request. Each is good once: package
// [Verifier.Once] remembers them. The package also has the keys of clients, as JSON Web Keys
// (RFC 7517), and what verifies their signatures; it parses what strangers send, and is bounded
// in what it takes.
package dpop

import (
	"context"
	"crypto"
	"net/http"
	"time"
)

// A Key is a public key of a client.
type Key struct {
	ID        string // kid, "" for none
	Algorithm string // alg, "" for none
	Public    crypto.PublicKey
}

// ParseKey reads a JSON Web Key: an RSA key of 2048 to 8192 bits, or one of the curves P-256,
// P-384, P-521, secp256k1. A private or symmetric key is an error.
func ParseKey(raw []byte) (*Key, error) { panic("not written") }

// Thumbprint is that of RFC 7638, with SHA-256.
func (k *Key) Thumbprint() string { panic("not written") }

// Algorithms are those of signatures that clients may use, as metadata and challenges name them.
var Algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES256K", "ES384", "ES512"}

// Verify checks the signature of a JWT in the compact form by k, under an algorithm that is one
// of [Algorithms] and fits k, and returns its payload.
func (k *Key) Verify(token string) (payload []byte, err error) { panic("not written") }

// An Error refuses a proof: Name is invalid_dpop_proof or use_dpop_nonce.
type Error struct{ Name, Description string }

func (e *Error) Error() string { return e.Name + ": " + e.Description }

// A Proof is one that was found good.
type Proof struct {
	Thumbprint string // of the key
}

// A Verifier checks proofs. It is safe for concurrent use.
type Verifier struct {
	// URL is the origin of this server as clients see it. What a proof names is compared with it, and with
	// no header of the request.
	URL string
	Now func() time.Time
	// Nonces are what proofs have to have.
	Nonces *Nonces
	// Once notes that the proof with this id was used, and says false if it had been before. An id
	// is to be remembered until then.
	Once func(ctx context.Context, id []byte, until time.Time) (bool, error)
}

// Check looks at the proof of a request: token is the access token that comes with it, "" at the
// endpoints of the authorization server. A missing proof, and every fault of one, is an [*Error],
// in the order of contract/oauth.md §8; other errors are those of Once.
func (v *Verifier) Check(ctx context.Context, r *http.Request, token string) (*Proof, error) {
	panic("not written")
}

// Nonces are what this server gives clients to put into proofs: all clients the same, another
// every minute, each good for two to three minutes. It is safe for concurrent use.
type Nonces struct{}

// NewNonces makes them of a secret: with the same one every process takes those of the others.
func NewNonces(secret []byte, now func() time.Time) *Nonces { panic("not written") }

// Next is the one to hand out now.
func (n *Nonces) Next() string { panic("not written") }

// Good says whether one may still be used.
func (n *Nonces) Good(nonce string) bool { panic("not written") }
