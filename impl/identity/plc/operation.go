// Package plc makes, signs, checks and submits the operations that say what a
// did:plc is: its rotation keys, its signing key, its handle and its server.
//
// Everything but [Operation.Sign] leaves its arguments alone, so that an
// operation may be shared by goroutines once it is signed.
package plc

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/repo/dagcbor"
)

// Values of an operation's type. A legacy first operation is read, never made.
const (
	TypeOperation = "plc_operation"
	TypeTombstone = "plc_tombstone"
	TypeLegacy    = "create"
)

// What the directory says, and only that, to an operation of more than MaxBytes of
// DAG-CBOR.
const (
	MaxBytes = 4000
	TooLarge = "Operation too large (4000 bytes maximum in cbor encoding)"
)

// ServiceType is the type of the service by which a DID names its account server.
const ServiceType = "AtprotoPersonalDataServer"

var (
	// ErrOperation says that something does not have the structure of an operation.
	ErrOperation = errors.New("not a PLC operation")
	// ErrSignature says that a signature is missing, malformed or made by another key.
	ErrSignature = errors.New("invalid signature on PLC operation")
	// ErrTombstoned says that a DID has ended and cannot be changed any more.
	ErrTombstoned = errors.New("DID is tombstoned")
	// ErrKey says that a text is not a did:key of a curve that may sign
	// operations, secp256k1 or P-256.
	ErrKey = errors.New("not a did:key of a supported curve")
)

// An Operation is one operation of a did:plc. It is kept as the JSON object that
// it travels as, because hash and signature cover all of it, fields included that
// nobody here has heard of. [Parse] and the constructors give objects of the right
// structure, with strings, bools, int64, nil, []any and map[string]any inside; use
// the methods to read them. A nil Operation is none.
type Operation map[string]any

// A Service is an entry of a DID's services.
type Service struct {
	Type     string `json:"type"`
	Endpoint string `json:"endpoint"`
}

// Data is the state that an operation gives to its DID.
type Data struct {
	RotationKeys        []string           `json:"rotationKeys"` // did:keys, the strongest first
	VerificationMethods map[string]string  `json:"verificationMethods"`
	AlsoKnownAs         []string           `json:"alsoKnownAs"`
	Services            map[string]Service `json:"services"`
}

// Handle returns the handle that the DID claims, as it is written there, or the
// empty string.
func (d Data) Handle() string {
	for _, uri := range d.AlsoKnownAs {
		if handle, ok := strings.CutPrefix(uri, "at://"); ok {
			return handle
		}
	}
	return ""
}

// SetHandle replaces the handle, which is the first at:// name, and keeps every
// other name in its place. Where there was no handle it becomes the first name.
func (d *Data) SetHandle(handle syntax.Handle) {
	uri := "at://" + handle.String()
	names := slices.Clone(d.AlsoKnownAs)
	i := slices.IndexFunc(names, func(s string) bool { return strings.HasPrefix(s, "at://") })
	if i < 0 {
		d.AlsoKnownAs = slices.Insert(names, 0, uri)
		return
	}
	names[i] = uri
	d.AlsoKnownAs = names
}

// CheckRotationKey returns ErrKey unless key is a did:key that may sign operations.
func CheckRotationKey(key string) error {
	if _, err := atcrypto.ParsePublicDIDKey(key); err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	return nil
}

// NewGenesis returns the unsigned first operation of an account's DID. A rotation
// key that is given twice counts where it stands first.
func NewGenesis(rotationKeys []string, signingKey string, handle syntax.Handle, endpoint string) Operation {
	var keys []string
	for _, k := range rotationKeys {
		if !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	return New(Data{
		RotationKeys:        keys,
		VerificationMethods: map[string]string{"atproto": signingKey},
		AlsoKnownAs:         []string{"at://" + handle.String()},
		Services:            map[string]Service{"atproto_pds": {Type: ServiceType, Endpoint: endpoint}},
	}, "")
}

// New returns an unsigned operation that gives its DID the state d. The CID of the
// operation before it is prev, or the empty string for the first.
func New(d Data, prev string) Operation {
	methods := make(map[string]any, len(d.VerificationMethods))
	for id, key := range d.VerificationMethods {
		methods[id] = key
	}
	services := make(map[string]any, len(d.Services))
	for id, s := range d.Services {
		services[id] = map[string]any{"type": s.Type, "endpoint": s.Endpoint}
	}
	op := Operation{
		"type":                TypeOperation,
		"rotationKeys":        list(d.RotationKeys),
		"verificationMethods": methods,
		"alsoKnownAs":         list(d.AlsoKnownAs),
		"services":            services,
		"prev":                nil,
	}
	if prev != "" {
		op["prev"] = prev
	}
	return op
}

// Update returns the unsigned operation that follows last and differs from it by
// what change does to its state. It returns ErrTombstoned when nothing can follow.
func Update(last Operation, change func(*Data)) (Operation, error) {
	d, ok := last.Data()
	if !ok {
		return nil, ErrTombstoned
	}
	prev, err := last.CID()
	if err != nil {
		return nil, err
	}
	change(&d)
	return New(d, prev.String()), nil
}

// NewTombstone returns the unsigned operation that ends a DID after last. It
// returns ErrTombstoned when last has ended it already.
func NewTombstone(last Operation) (Operation, error) {
	if last.Type() == TypeTombstone {
		return nil, ErrTombstoned
	}
	prev, err := last.CID()
	if err != nil {
		return nil, err
	}
	return Operation{"type": TypeTombstone, "prev": prev.String()}, nil
}

func list(s []string) []any {
	out := make([]any, len(s))
	for i, v := range s {
		out[i] = v
	}
	return out
}

// Parse reads a signed operation: regular, tombstone or legacy. Fields that it does
// not know are kept. Whether the signature is right, and the operation acceptable
// where it is to go, is not its question. Errors are ErrOperation.
func Parse(b []byte) (Operation, error) {
	object, err := ParseObject(b)
	if err != nil {
		return nil, err
	}
	op := Operation(object)
	if err := op.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOperation, err)
	}
	return op, nil
}

// ParseObject reads a JSON object of any structure as the value of an operation's
// field. Errors are ErrOperation.
func ParseObject(b []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber() // a float could not tell 1 from 1.0, which encode differently
	var object map[string]any
	if err := d.Decode(&object); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOperation, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: trailing data", ErrOperation)
	}
	for k, v := range object {
		var err error
		if object[k], err = integers(v, 0); err != nil {
			return nil, fmt.Errorf("%w: field %q: %w", ErrOperation, k, err)
		}
	}
	return object, nil
}

// UnmarshalJSON is Parse.
func (op *Operation) UnmarshalJSON(b []byte) (err error) {
	*op, err = Parse(b)
	return err
}

func integers(v any, depth int) (any, error) {
	if depth > dagcbor.MaxDepth {
		return nil, errors.New("nested too deeply")
	}
	switch v := v.(type) {
	case json.Number:
		n, err := v.Int64()
		if err != nil || n > dagcbor.MaxInt || n < -dagcbor.MaxInt {
			return nil, fmt.Errorf("number %s is not an integer of 53 bits", v)
		}
		return n, nil
	case []any:
		for i := range v {
			var err error
			if v[i], err = integers(v[i], depth+1); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for k := range v {
			var err error
			if v[k], err = integers(v[k], depth+1); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

func (op Operation) check() error {
	str := func(field string) error {
		if _, ok := op[field].(string); !ok {
			return fmt.Errorf("%s is not a string", field)
		}
		return nil
	}
	strs := func(fields ...string) error {
		for _, f := range fields {
			if err := str(f); err != nil {
				return err
			}
		}
		return nil
	}
	switch op["type"] {
	case TypeTombstone:
		return strs("prev", "sig")
	case TypeLegacy:
		if prev, ok := op["prev"]; !ok || prev != nil {
			return errors.New("prev is not null")
		}
		return strs("signingKey", "recoveryKey", "handle", "service", "sig")
	case TypeOperation:
	default:
		return errors.New("unknown type")
	}
	for _, field := range []string{"rotationKeys", "alsoKnownAs"} {
		items, ok := op[field].([]any)
		if !ok {
			return fmt.Errorf("%s is not an array", field)
		}
		for _, item := range items {
			if _, ok := item.(string); !ok {
				return fmt.Errorf("%s has an entry that is not a string", field)
			}
		}
	}
	methods, ok := op["verificationMethods"].(map[string]any)
	if !ok {
		return errors.New("verificationMethods is not an object")
	}
	for id, key := range methods {
		if _, ok := key.(string); !ok {
			return fmt.Errorf("verification method %q is not a string", id)
		}
	}
	services, ok := op["services"].(map[string]any)
	if !ok {
		return errors.New("services is not an object")
	}
	for id, s := range services {
		service, _ := s.(map[string]any)
		_, ok1 := service["type"].(string)
		_, ok2 := service["endpoint"].(string)
		if !ok1 || !ok2 {
			return fmt.Errorf("service %q lacks type or endpoint", id)
		}
	}
	if prev, ok := op["prev"]; !ok {
		return errors.New("prev is missing")
	} else if prev != nil {
		if err := str("prev"); err != nil {
			return err
		}
	}
	return str("sig")
}

func (op Operation) str(field string) string {
	s, _ := op[field].(string)
	return s
}

// Type returns the operation's type.
func (op Operation) Type() string { return op.str("type") }

// Prev returns the CID of the operation before, or the empty string for the first.
func (op Operation) Prev() string { return op.str("prev") }

// Sig returns the signature as it is written, or the empty string.
func (op Operation) Sig() string { return op.str("sig") }

// Data returns the state that op gives to its DID, false for a tombstone. A legacy
// operation gives what its fields mean in today's terms. The result shares nothing
// with op.
func (op Operation) Data() (Data, bool) {
	switch op.Type() {
	case TypeOperation:
	case TypeLegacy:
		handle := op.str("handle")
		if !strings.HasPrefix(handle, "at://") {
			handle = strings.Replace(strings.Replace(handle, "http://", "", 1), "https://", "", 1)
			handle = "at://" + handle
		}
		endpoint := op.str("service")
		if !strings.HasPrefix(endpoint, "http://") && !strings.HasPrefix(endpoint, "https://") {
			endpoint = "https://" + endpoint
		}
		return Data{
			RotationKeys:        []string{op.str("recoveryKey"), op.str("signingKey")},
			VerificationMethods: map[string]string{"atproto": op.str("signingKey")},
			AlsoKnownAs:         []string{handle},
			Services:            map[string]Service{"atproto_pds": {Type: ServiceType, Endpoint: endpoint}},
		}, true
	default:
		return Data{}, false
	}
	d := Data{
		RotationKeys:        texts(op["rotationKeys"]),
		VerificationMethods: map[string]string{},
		AlsoKnownAs:         texts(op["alsoKnownAs"]),
		Services:            map[string]Service{},
	}
	methods, _ := op["verificationMethods"].(map[string]any)
	for id, key := range methods {
		d.VerificationMethods[id], _ = key.(string)
	}
	services, _ := op["services"].(map[string]any)
	for id, s := range services {
		object, _ := s.(map[string]any)
		var service Service
		service.Type, _ = object["type"].(string)
		service.Endpoint, _ = object["endpoint"].(string)
		d.Services[id] = service
	}
	return d, true
}

// PlainServices says whether all services have their two fields and no other.
func (op Operation) PlainServices() bool {
	services, _ := op["services"].(map[string]any)
	for _, s := range services {
		if object, _ := s.(map[string]any); len(object) != 2 {
			return false
		}
	}
	return true
}

func texts(v any) []string {
	items, _ := v.([]any)
	out := make([]string, len(items))
	for i, item := range items {
		out[i], _ = item.(string)
	}
	return out
}

// Encode returns the DAG-CBOR of op, with its signature. It returns ErrOperation
// when op holds what cannot be encoded.
func (op Operation) Encode() ([]byte, error) {
	b, err := dagcbor.Marshal(map[string]any(op))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOperation, err)
	}
	return b, nil
}

// unsigned returns the bytes that are signed.
func (op Operation) unsigned() ([]byte, error) {
	rest := maps.Clone(op)
	delete(rest, "sig")
	return rest.Encode()
}

// CID returns the name by which the next operation refers to op. It returns
// ErrSignature for one that is not signed.
func (op Operation) CID() (dagcbor.CID, error) {
	if op.Sig() == "" {
		return dagcbor.CID{}, fmt.Errorf("name operation: %w: not signed", ErrSignature)
	}
	b, err := op.Encode()
	if err != nil {
		return dagcbor.CID{}, err
	}
	return dagcbor.Sum(dagcbor.CodecDAGCBOR, b), nil
}

// Same reports whether both are one signed operation.
func (op Operation) Same(other Operation) bool {
	a, err := op.CID()
	if err != nil {
		return false
	}
	b, err := other.CID()
	return err == nil && a == b
}

var didEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// DID returns the DID that the signed first operation op makes. It returns
// ErrSignature for one that is not signed, ErrOperation for one that is not a first.
func DID(op Operation) (syntax.DID, error) {
	if op.Sig() == "" {
		return "", fmt.Errorf("derive DID: %w: not signed", ErrSignature)
	}
	if op.Type() == TypeTombstone || op.Prev() != "" {
		return "", fmt.Errorf("derive DID: %w that comes first", ErrOperation)
	}
	cid, err := op.CID()
	if err != nil {
		return "", err
	}
	return DIDOf(cid), nil
}

// DIDOf returns the DID whose first operation is called cid: it is cut from the hash there.
func DIDOf(cid dagcbor.CID) syntax.DID {
	return syntax.DID("did:plc:" + didEncoding.EncodeToString(cid[4:])[:24])
}

// Sign signs op with a rotation key, replacing any signature that it has. It
// changes op, so no other goroutine may be using it.
func (op Operation) Sign(key atcrypto.PrivateKey) error {
	b, err := op.unsigned()
	if err != nil {
		return err
	}
	sig, err := key.HashAndSign(b)
	if err != nil {
		return fmt.Errorf("sign PLC operation: %w", err)
	}
	op["sig"] = base64.RawURLEncoding.EncodeToString(sig)
	return nil
}

var sigEncoding = base64.RawURLEncoding.Strict()

// Verify returns the index of the first of keys, which are did:keys, that made the
// signature, or ErrSignature. A key that cannot be read has signed nothing. There is
// exactly one accepted text for a signature: anything else would let a stranger give
// an operation a second CID.
func (op Operation) Verify(keys []string) (int, error) {
	text := op.Sig()
	// The decoder skips line breaks, strict or not.
	if len(text) != 86 || strings.ContainsAny(text, "\r\n") {
		return 0, ErrSignature
	}
	sig, err := sigEncoding.DecodeString(text)
	if err != nil || len(sig) != 64 {
		return 0, ErrSignature
	}
	b, err := op.unsigned()
	if err != nil {
		return 0, err
	}
	for i, k := range keys {
		key, err := atcrypto.ParsePublicDIDKey(k)
		if err != nil {
			continue
		}
		// HashAndVerify refuses high-S signatures on both curves.
		if key.HashAndVerify(b, sig) == nil {
			return i, nil
		}
	}
	return 0, ErrSignature
}
