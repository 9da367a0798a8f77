// Package passkey is WebAuthn for one site: what browsers are asked for, and whether their
// answers are right.
//
// A passkey here is always one that its authenticator finds by itself and that it uses only
// after it knew its owner again, by a fingerprint, a face or a PIN. So it is as much as a
// password with a second factor. No attestation is asked for: which make an authenticator is
// of is nobody's business.
package passkey

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"
	"github.com/go-webauthn/webauthn/webauthn"
)

// What comes from browsers is not read beyond these sizes, in bytes.
const (
	// MaxAnswer is how long an answer may be, as JSON.
	MaxAnswer = 16 << 10
	maxID     = 1023 // as the specification has it
	maxKey    = 1024 // an RSA key of 4096 bits has 530
	maxHandle = 64
)

// timeout is how long browsers wait for their user, in milliseconds.
const timeout = 300_000

var (
	// ErrHost says that passkeys cannot be for a site: its host is an address.
	ErrHost = errors.New("passkeys are for hosts with a name")
	// ErrAnswer says that an answer of a browser is not right, whatever the reason.
	ErrAnswer = errors.New("answer of a passkey is not right")
)

// A Site is what passkeys are for. It is safe for concurrent use.
type Site struct {
	name  string
	id    string
	party *webauthn.WebAuthn
}

// New makes the site that browsers find at origin, and that people know by a name. It returns
// ErrHost.
func New(origin, name string) (*Site, error) {
	u, err := url.Parse(origin)
	if err != nil {
		return nil, fmt.Errorf("origin of passkeys: %w", err)
	}
	id := u.Hostname()
	if err := protocol.ValidateRPID(id); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHost, err)
	}
	party, err := webauthn.New(&webauthn.Config{RPID: id, RPDisplayName: name, RPOrigins: []string{origin}})
	if err != nil {
		return nil, fmt.Errorf("site of passkeys: %w", err)
	}
	return &Site{name, id, party}, nil
}

// A Key is a passkey as it is stored.
type Key struct {
	ID, Public []byte
	Flags      byte  // of the authenticator data when it was made
	Counter    int64 // 0 where none is kept
}

// An Owner is whose passkeys are.
type Owner struct {
	Handle []byte // at most 64 random bytes, which authenticators keep
	Name   string // which they show
}

// owner is an Owner as the library has it.
type owner struct {
	handle []byte
	keys   []webauthn.Credential
}

func (o owner) WebAuthnID() []byte                         { return o.handle }
func (o owner) WebAuthnName() string                       { return "" }
func (o owner) WebAuthnDisplayName() string                { return "" }
func (o owner) WebAuthnCredentials() []webauthn.Credential { return o.keys }

// algorithms are those of the keys that are taken: the one that all authenticators have, the
// better one, and that of older Windows.
var algorithms = []protocol.CredentialParameter{
	{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgES256},
	{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgEdDSA},
	{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgRS256},
}

type (
	bytes64    = protocol.URLEncodedBase64
	descriptor struct {
		Type string  `json:"type"`
		ID   bytes64 `json:"id"`
	}
	entity struct {
		ID          string `json:"id"`
		Name        string `json:"name"`
		DisplayName string `json:"displayName,omitempty"`
	}
	selection struct {
		ResidentKey string `json:"residentKey"`
		Required    bool   `json:"requireResidentKey"`
		User        string `json:"userVerification"`
	}
	creation struct {
		Site        entity                         `json:"rp"`
		User        entity                         `json:"user"`
		Challenge   bytes64                        `json:"challenge"`
		Algorithms  []protocol.CredentialParameter `json:"pubKeyCredParams"`
		Timeout     int                            `json:"timeout"`
		Exclude     []descriptor                   `json:"excludeCredentials"`
		Selection   selection                      `json:"authenticatorSelection"`
		Attestation string                         `json:"attestation"`
	}
	request struct {
		Challenge bytes64 `json:"challenge"`
		Site      string  `json:"rpId"`
		Timeout   int     `json:"timeout"`
		User      string  `json:"userVerification"`
	}
)

// Creation is the JSON of PublicKeyCredentialCreationOptions by which a browser makes a passkey
// for o, who has some already.
func (s *Site) Creation(challenge []byte, o Owner, has [][]byte) string {
	c := creation{
		Site: entity{ID: s.id, Name: s.name}, Challenge: challenge, Algorithms: algorithms, Timeout: timeout, Exclude: []descriptor{},
		User:      entity{ID: bytes64(o.Handle).String(), Name: o.Name, DisplayName: o.Name},
		Selection: selection{"required", true, "required"}, Attestation: "none",
	}
	for _, id := range has {
		c.Exclude = append(c.Exclude, descriptor{"public-key", id})
	}
	return text(c)
}

// Request is the JSON of PublicKeyCredentialRequestOptions by which a browser signs with any
// passkey that its user has for the site.
func (s *Site) Request(challenge []byte) string {
	return text(request{Challenge: challenge, Site: s.id, Timeout: timeout, User: "required"})
}

func text(options any) string {
	b, err := json.Marshal(options)
	if err != nil {
		panic("passkey: " + err.Error()) // there is nothing in it that could fail
	}
	return string(b)
}

// Made is the passkey that a browser has made when it was asked with a challenge for the owner
// with a handle. It returns ErrAnswer.
func (s *Site) Made(challenge, handle, answer []byte) (*Key, error) {
	if len(answer) > MaxAnswer {
		return nil, ErrAnswer
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(answer)
	if err != nil {
		return nil, wrong(err)
	}
	// Browsers leave out what was not asked for, but for a signature by the key itself. What
	// else there is to attest with is a lot to parse, and not needed.
	object := parsed.Response.AttestationObject
	if _, certified := object.AttStatement["x5c"]; certified || object.Format != "none" && object.Format != "packed" {
		return nil, fmt.Errorf("%w: attestation %.20q", ErrAnswer, object.Format)
	}
	made, err := s.party.CreateCredential(owner{handle: handle}, webauthn.SessionData{
		Challenge: bytes64(challenge).String(), RelyingPartyID: s.id, UserID: handle, UserVerification: protocol.VerificationRequired, CredParams: algorithms,
	}, parsed)
	if err != nil {
		return nil, wrong(err)
	}
	if len(made.ID) == 0 || len(made.ID) > maxID || len(made.PublicKey) > maxKey {
		return nil, ErrAnswer
	}
	return &Key{made.ID, made.PublicKey, byte(object.AuthData.Flags), int64(made.Authenticator.SignCount)}, nil
}

// An Answer is what a browser says in the name of somebody who has a passkey, as long as it is
// not checked.
type Answer struct {
	parsed *protocol.ParsedCredentialAssertionData
}

// Read reads the answer to a [Site.Request]. It returns ErrAnswer.
func Read(answer []byte) (*Answer, error) {
	if len(answer) > MaxAnswer {
		return nil, ErrAnswer
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(answer)
	if err != nil {
		return nil, wrong(err)
	}
	if len(parsed.RawID) > maxID || len(parsed.Response.UserHandle) > maxHandle {
		return nil, ErrAnswer
	}
	return &Answer{parsed}, nil
}

// ID is that of the passkey which the answer is said to be of.
func (a *Answer) ID() []byte { return a.parsed.RawID }

// Check returns the counter of an answer if it was made with a key, of the owner with a handle,
// for a challenge; else ErrAnswer. Whether the counter goes on is to be checked where it is
// stored.
func (s *Site) Check(a *Answer, challenge, handle []byte, k Key) (int64, error) {
	of := owner{handle, []webauthn.Credential{{
		ID: k.ID, PublicKey: k.Public, Flags: webauthn.NewCredentialFlags(protocol.AuthenticatorFlags(k.Flags)),
		AttestationFormat: "none", Authenticator: webauthn.Authenticator{SignCount: uint32(k.Counter)},
	}}}
	_, _, err := s.party.ValidatePasskeyLogin(func([]byte, []byte) (webauthn.User, error) { return of, nil }, webauthn.SessionData{
		Challenge: bytes64(challenge).String(), RelyingPartyID: s.id, UserVerification: protocol.VerificationRequired,
	}, a.parsed)
	if err != nil {
		return 0, wrong(err)
	}
	return int64(a.parsed.Response.AuthenticatorData.Counter), nil
}

// wrong is ErrAnswer with what the library says, for the log.
func wrong(err error) error {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return fmt.Errorf("%w: %s: %s", ErrAnswer, e.Details, e.DevInfo)
	}
	return fmt.Errorf("%w: %w", ErrAnswer, err)
}
