package xrpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atdata"
)

// UnknownVariant is a value of an open union whose type is not in the lexicon. It
// is kept byte for byte.
type UnknownVariant struct {
	Type string
	JSON json.RawMessage
}

// NewUnknownVariant returns a variant with copies of typ and data. Unions use it: what
// they are given belongs to a buffer that is used again.
func NewUnknownVariant(typ string, data []byte) *UnknownVariant {
	return &UnknownVariant{Type: strings.Clone(typ), JSON: bytes.Clone(data)}
}

// MarshalJSON returns the kept JSON.
func (u *UnknownVariant) MarshalJSON() ([]byte, error) {
	if len(u.JSON) == 0 {
		return nil, fmt.Errorf("union variant %q without JSON", u.Type)
	}
	return u.JSON, nil
}

// Union is a generated union, or rather a pointer to one: it holds one of several types.
type Union interface {
	// Value is a pointer to what it holds; nil: it is empty.
	Value() any
	// Type is the $type of that; "" when it is empty.
	Type() string
	// Hold makes it hold an empty value of typ and returns a pointer to that, to be filled;
	// or, when the lexicon does not know typ, a copy of data, and returns nil.
	Hold(typ string, data []byte) any
}

// MarshalUnion is MarshalJSON of the unions that are generated: what u holds, with its
// $type as its first key, or null.
func MarshalUnion(u Union) ([]byte, error) {
	return appendUnion(nil, u.Type(), u.Value(), 0)
}

// UnmarshalUnion is UnmarshalJSON of the unions that are generated. It reads data as
// encoding/json does, without looking at more than the $type of what the lexicon says.
func UnmarshalUnion(u Union, data []byte) error {
	if string(data) == "null" {
		reflect.ValueOf(u).Elem().SetZero()
		return nil
	}
	typ, err := VariantType(data)
	if err != nil {
		return err
	}
	if v := u.Hold(typ, data); v != nil {
		return json.Unmarshal(data, v)
	}
	return nil
}

// MarshalVariant returns the object v with "$type" as its first key.
func MarshalVariant(typ string, v any) ([]byte, error) {
	object, err := appendJSON(nil, v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", typ, err)
	}
	if len(object) < 2 || object[0] != '{' {
		return nil, fmt.Errorf("encode %s: not an object", typ)
	}
	if bytes.HasPrefix(object, []byte(`{"$type":`)) { // a record writes its own
		return object, nil
	}
	out := appendString([]byte(`{"$type":`), typ)
	if object[1] != '}' {
		out = append(out, ',')
	}
	return append(out, object[1:]...), nil
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
	return c.ownText(at), nil
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
	return appendJSON(nil, n.Value)
}

// UnmarshalJSON is called only when the property is there.
func (n *Nullable[T]) UnmarshalJSON(data []byte) error {
	n.Set, n.Value = true, nil
	return json.Unmarshal(data, &n.Value)
}

// nullable is a [Nullable], with whatever in it.
type nullable interface{ isNullable() }

func (*Nullable[T]) isNullable() {}

// Data decodes an unknown object into the data model: CID links, bytes and blobs
// become their atdata types, integers int64. Floats are refused.
func Data(raw json.RawMessage) (map[string]any, error) { return atdata.UnmarshalJSON(raw) }

// Normalizer is implemented by generated types whose required arrays must encode
// as [] when they are nil, at every depth.
type Normalizer interface{ Normalize() }
