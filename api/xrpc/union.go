package xrpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/atdata"
)

// UnknownVariant is a value of an open union whose type is not in the lexicon. It
// is kept byte for byte.
type UnknownVariant struct {
	Type string
	JSON json.RawMessage
}

// NewUnknownVariant returns a variant with a copy of data. UnmarshalJSON methods
// of unions use it: the bytes they are given belong to a buffer that is used again.
func NewUnknownVariant(typ string, data []byte) *UnknownVariant {
	return &UnknownVariant{Type: typ, JSON: bytes.Clone(data)}
}

// MarshalJSON returns the kept JSON.
func (u *UnknownVariant) MarshalJSON() ([]byte, error) {
	if len(u.JSON) == 0 {
		return nil, fmt.Errorf("union variant %q without JSON", u.Type)
	}
	return u.JSON, nil
}

// MarshalVariant returns the object v with "$type" as its first key.
func MarshalVariant(typ string, v any) ([]byte, error) {
	var body, head bytes.Buffer
	if err := encodeJSON(&body, v); err != nil {
		return nil, fmt.Errorf("encode %s: %w", typ, err)
	}
	object := body.Bytes()
	if len(object) < 2 || object[0] != '{' {
		return nil, fmt.Errorf("encode %s: not an object", typ)
	}
	if bytes.HasPrefix(object, []byte(`{"$type":`)) { // a record writes its own
		return object, nil
	}
	head.WriteString(`{"$type":`)
	if err := encodeJSON(&head, typ); err != nil {
		return nil, fmt.Errorf("encode %s: %w", typ, err)
	}
	if object[1] != '}' {
		head.WriteByte(',')
	}
	head.Write(object[1:])
	return head.Bytes(), nil
}

var errNoType = errors.New(`object without a "$type"`)

// VariantType returns the "$type" of a JSON object. The key is compared exactly
// and the last one counts. It fails when there is none or it is not a string.
func VariantType(data []byte) (string, error) {
	if err := validate(data); err != nil {
		return "", err
	}
	c := checker{data: data}
	i := c.space(0)
	if data[i] != '{' {
		return "", errNoType
	}
	at := c.member(i, "$type")
	if at < 0 || data[at] != '"' {
		return "", errNoType
	}
	return c.text(at), nil
}

// Nullable is an optional property that may also be null: absent (the zero
// value), null (Set, Value nil) or a value.
type Nullable[T any] struct {
	Set   bool
	Value *T
}

// IsZero reports whether the property is absent; omitzero asks it.
func (n Nullable[T]) IsZero() bool { return !n.Set }

// MarshalJSON encodes the value, or null.
func (n Nullable[T]) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	err := encodeJSON(&b, n.Value)
	return b.Bytes(), err
}

// UnmarshalJSON is called only when the property is there.
func (n *Nullable[T]) UnmarshalJSON(data []byte) error {
	n.Set, n.Value = true, nil
	return decodeJSON(data, &n.Value)
}

// Data decodes an unknown object into the data model: CID links, bytes and blobs
// become their atdata types, integers int64. Floats are refused.
func Data(raw json.RawMessage) (map[string]any, error) { return atdata.UnmarshalJSON(raw) }

// Normalizer is implemented by generated types whose required arrays must encode
// as [] when they are nil, at every depth.
type Normalizer interface{ Normalize() }
