package resolve

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/mr-tron/base58"
)

// Errors of resolution. Any other error means that nobody answered, or nobody gave an answer that means anything.
var (
	// ErrNotFound says that the identity does not exist, for all that the authority over it knows.
	ErrNotFound = errors.New("not found")
	// ErrDeactivated is an ErrNotFound that there was a document once, and its owner ended the identity.
	ErrDeactivated = fmt.Errorf("%w: deactivated", ErrNotFound)
	// ErrDocument says that what was found for a DID is no DID document, or that of another DID.
	ErrDocument = errors.New("poorly formatted DID document")
	// ErrKey says that a document has no key of that name, or none of a kind that atproto uses.
	ErrKey = errors.New("missing or bad key in DID document")
)

// Document is a DID document, read as far as atproto needs it. It is never changed after it was parsed, so it may be shared.
type Document struct {
	DID         syntax.DID
	AlsoKnownAs []string
	Keys        []VerificationMethod
	Services    []Service

	// JSON is the document as it was found, with what the fields above leave out.
	JSON json.RawMessage
}

// VerificationMethod is a public key in a document.
type VerificationMethod struct {
	ID        string `json:"id"` // with "#", with or without the DID in front
	Type      string `json:"type"`
	Multibase string `json:"publicKeyMultibase"`
}

// Service is a service in a document.
type Service struct {
	ID       string          `json:"id"` // with "#", with or without the DID in front
	Type     string          `json:"type"`
	Endpoint json.RawMessage `json:"serviceEndpoint"` // a string, usually; may be an object
}

// ParseDocument reads the document of did. It returns ErrDocument when data is not one, or is that of another DID.
func ParseDocument(did syntax.DID, data []byte) (*Document, error) {
	var in struct {
		Context     json.RawMessage       `json:"@context"`
		ID          *string               `json:"id"`
		AlsoKnownAs []string              `json:"alsoKnownAs"`
		Keys        []*VerificationMethod `json:"verificationMethod"`
		Services    []*Service            `json:"service"`
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDocument, err)
	}
	if in.ID == nil || *in.ID != did.String() {
		return nil, fmt.Errorf("%w: id is not %s", ErrDocument, did)
	}
	if !contextOK(in.Context) {
		return nil, fmt.Errorf("%w: @context", ErrDocument)
	}
	doc := &Document{DID: did, AlsoKnownAs: in.AlsoKnownAs, JSON: slices.Clone(data)}
	for _, k := range in.Keys {
		if k == nil || k.ID == "" || k.Type == "" {
			return nil, fmt.Errorf("%w: verificationMethod", ErrDocument)
		}
		doc.Keys = append(doc.Keys, *k)
	}
	for _, s := range in.Services {
		if s == nil || s.ID == "" || s.Type == "" || len(s.Endpoint) == 0 || s.Endpoint[0] != '"' && s.Endpoint[0] != '{' {
			return nil, fmt.Errorf("%w: service", ErrDocument)
		}
		doc.Services = append(doc.Services, *s)
	}
	return doc, nil
}

// contextOK accepts no context, the URL of the first version, or a list of URLs.
func contextOK(raw json.RawMessage) bool {
	if len(raw) == 0 {
		return true
	}
	if raw[0] == '"' {
		var one string
		return json.Unmarshal(raw, &one) == nil && one == "https://www.w3.org/ns/did/v1"
	}
	var many []*string
	if json.Unmarshal(raw, &many) != nil || many == nil {
		return false
	}
	return !slices.ContainsFunc(many, func(s *string) bool {
		if s == nil {
			return true
		}
		u, err := url.Parse(*s)
		return err != nil || !u.IsAbs()
	})
}

// Handle returns the handle that the document claims, as it is written there, or "". Nothing says yet that the
// handle points back.
func (d *Document) Handle() string {
	for _, a := range d.AlsoKnownAs {
		if h, ok := strings.CutPrefix(a, "at://"); ok {
			return h
		}
	}
	return ""
}

// is reports whether id names the fragment of this document.
func (d *Document) is(id, fragment string) bool {
	if !strings.HasPrefix(id, "#") {
		var ok bool
		if id, ok = strings.CutPrefix(id, d.DID.String()); !ok {
			return false
		}
	}
	return id == "#"+fragment
}

// Key returns the public key of the given name: "atproto" for an account's signing key, "atproto_label" for a labeler's.
// It returns ErrKey.
func (d *Document) Key(name string) (atcrypto.PublicKey, error) {
	for _, k := range d.Keys {
		if d.is(k.ID, name) {
			return k.key()
		}
	}
	return nil, fmt.Errorf("%w: no #%s", ErrKey, name)
}

func (k VerificationMethod) key() (atcrypto.PublicKey, error) {
	var compressed, uncompressed func([]byte) (atcrypto.PublicKey, error)
	switch k.Type {
	case "Multikey":
		key, err := atcrypto.ParsePublicMultibase(k.Multibase)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKey, err)
		}
		return key, nil
	case "EcdsaSecp256k1VerificationKey2019":
		compressed = func(b []byte) (atcrypto.PublicKey, error) { return atcrypto.ParsePublicBytesK256(b) }
		uncompressed = func(b []byte) (atcrypto.PublicKey, error) { return atcrypto.ParsePublicUncompressedBytesK256(b) }
	case "EcdsaSecp256r1VerificationKey2019":
		compressed = func(b []byte) (atcrypto.PublicKey, error) { return atcrypto.ParsePublicBytesP256(b) }
		uncompressed = func(b []byte) (atcrypto.PublicKey, error) { return atcrypto.ParsePublicUncompressedBytesP256(b) }
	default:
		return nil, fmt.Errorf("%w: type %q", ErrKey, k.Type)
	}
	// The older kinds hold the bare point, which older directories do not compress.
	text, ok := strings.CutPrefix(k.Multibase, "z")
	if !ok || len(text) > 128 { // base58 takes quadratic time
		return nil, fmt.Errorf("%w: not base58btc", ErrKey)
	}
	point, err := base58.Decode(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	parse := compressed
	if len(point) == 65 {
		parse = uncompressed
	}
	key, err := parse(point)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return key, nil
}

// PDS returns the URL of the account's PDS, as it is written in the document, or "".
func (d *Document) PDS() string {
	return d.ServiceEndpoint("atproto_pds", "AtprotoPersonalDataServer")
}

// ServiceEndpoint returns the http or https URL of the service with that name and type, as it is written in the document,
// or "". An empty type stands for any.
func (d *Document) ServiceEndpoint(name, typ string) string {
	for _, s := range d.Services {
		if !d.is(s.ID, name) {
			continue
		}
		var text string
		if typ != "" && s.Type != typ || json.Unmarshal(s.Endpoint, &text) != nil {
			return ""
		}
		if !strings.HasPrefix(text, "http://") && !strings.HasPrefix(text, "https://") {
			return ""
		}
		if u, err := url.Parse(text); err != nil || u.Host == "" {
			return ""
		}
		return text
	}
	return ""
}
