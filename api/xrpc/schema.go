package xrpc

type schemaKind uint8

const (
	kindAny schemaKind = iota
	kindNull
	kindBoolean
	kindInteger
	kindString
	kindBytes
	kindCIDLink
	kindBlob
	kindUnknown
	kindArray
	kindObject
	kindUnion
)

// Schema is the lexicon's table of one value, interpreted by [Schema.Check]. It
// is built once, from package variables, and not changed afterwards.
type Schema struct {
	kind     schemaKind
	props    []Property
	items    *Schema
	variants []VariantSchema
	closed   bool
	nsid     string // of the subscription that a union holds the messages of
	typ      string // the $type of an object
	record   bool   // whether it must be there

	// Bounds, each with a bit in has. The length is that of a string in UTF-8 bytes, of
	// bytes, or of an array; the size is a blob's.
	has                        bound
	minLength, maxLength       int
	minGraphemes, maxGraphemes int
	minimum, maximum           int64
	maxSize                    int64

	enum     []string
	integers []int64
	boolean  bool // valid with hasConstBoolean
	token    bool // a string that is a name
	format   *format
	accept   []string

	fallback any // string, int64 or bool; nil: no default
}

type bound uint16

const (
	hasMinLength bound = 1 << iota
	hasMaxLength
	hasMinGraphemes
	hasMaxGraphemes
	hasMinimum
	hasMaximum
	hasMaxSize
	hasEnum
	hasIntegers
	hasConstBoolean
)

// Property is a named part of an object.
type Property struct {
	name     string
	schema   *Schema
	required bool
	nullable bool
}

// Constraint narrows a schema.
type Constraint func(*Schema)

// VariantSchema is one member of a union.
type VariantSchema struct {
	typ    string
	schema *Schema
}

// Required is a property that must be there (or has a default).
func Required(name string, s *Schema) Property {
	return Property{name: name, schema: s, required: true}
}

// Optional is a property that may be absent. It may not be null.
func Optional(name string, s *Schema) Property { return Property{name: name, schema: s} }

// OrNull lets p be null.
func OrNull(p Property) Property {
	p.nullable = true
	return p
}

// Object is an object with props, checked in their order. Other keys are ignored.
func Object(props ...Property) *Schema { return &Schema{kind: kindObject, props: props} }

// Typed is the object s, which is the definition typ, an NSID or "nsid#name". It need not
// have a "$type"; if it has one, that is typ.
func Typed(typ string, s *Schema) *Schema {
	c := *s
	c.typ = typ
	return &c
}

// Record is the object s with the "$type" nsid.
func Record(nsid string, s *Schema) *Schema {
	c := Typed(nsid, s)
	c.record = true
	return c
}

// Messages is the union s of the messages of the subscription nsid.
func Messages(nsid string, s *Schema) *Schema {
	c := *s
	c.nsid = nsid
	return &c
}

// String is a string.
func String(c ...Constraint) *Schema { return newSchema(kindString, c) }

// Token is the string typ, the name of a token: an NSID or "nsid#name".
func Token(typ string) *Schema {
	s := String(Const(typ))
	s.token = true
	return s
}

// Integer is a safe integer: its magnitude is less than 2⁵³. 1.0 is one, 1.5 is not.
func Integer(c ...Constraint) *Schema { return newSchema(kindInteger, c) }

// Boolean is true or false.
func Boolean(c ...Constraint) *Schema { return newSchema(kindBoolean, c) }

// Bytes is an object with "$bytes", decoded as atdata.Bytes.
func Bytes(c ...Constraint) *Schema { return newSchema(kindBytes, c) }

// CIDLink is an object with "$link", decoded as atdata.CIDLink.
func CIDLink(c ...Constraint) *Schema { return newSchema(kindCIDLink, c) }

// Blob is a blob reference, decoded as atdata.Blob. The legacy form is none.
func Blob(c ...Constraint) *Schema { return newSchema(kindBlob, c) }

// Unknown is any object.
func Unknown(c ...Constraint) *Schema { return newSchema(kindUnknown, c) }

// Any is any JSON value.
func Any(c ...Constraint) *Schema { return newSchema(kindAny, c) }

// Null is null.
func Null() *Schema { return newSchema(kindNull, nil) }

// Array is a list of items.
func Array(items *Schema, c ...Constraint) *Schema {
	s := newSchema(kindArray, c)
	s.items = items
	return s
}

// Variant is the member of a union with the "$type" typ, which is an NSID or
// "nsid#name" ("nsid#main" is the NSID).
func Variant(typ string, s *Schema) VariantSchema { return VariantSchema{typ, s} }

// OpenUnion is an object with a "$type"; those that v lists are checked.
func OpenUnion(v ...VariantSchema) *Schema { return &Schema{kind: kindUnion, variants: v} }

// ClosedUnion is an object with one of the listed "$type"s.
func ClosedUnion(v ...VariantSchema) *Schema {
	return &Schema{kind: kindUnion, variants: v, closed: true}
}

func newSchema(k schemaKind, constraints []Constraint) *Schema {
	s := &Schema{kind: k}
	for _, c := range constraints {
		c(s)
	}
	return s
}

// Set fills a table that was declared empty; recursive definitions need it,
// because package variables may not refer to themselves.
func (s *Schema) Set(from *Schema) { *s = *from }

// MinLength is the least length of a string in UTF-8 bytes, of bytes, or of an array.
func MinLength(n int) Constraint {
	return func(s *Schema) { s.minLength, s.has = n, s.has|hasMinLength }
}

// MaxLength is the greatest length of a string in UTF-8 bytes, of bytes, or of an array.
func MaxLength(n int) Constraint {
	return func(s *Schema) { s.maxLength, s.has = n, s.has|hasMaxLength }
}

// MinGraphemes is the least length of a string in grapheme clusters.
func MinGraphemes(n int) Constraint {
	return func(s *Schema) { s.minGraphemes, s.has = n, s.has|hasMinGraphemes }
}

// MaxGraphemes is the greatest length of a string in grapheme clusters.
func MaxGraphemes(n int) Constraint {
	return func(s *Schema) { s.maxGraphemes, s.has = n, s.has|hasMaxGraphemes }
}

// Minimum is the least integer.
func Minimum(n int64) Constraint {
	return func(s *Schema) { s.minimum, s.has = n, s.has|hasMinimum }
}

// Maximum is the greatest integer.
func Maximum(n int64) Constraint {
	return func(s *Schema) { s.maximum, s.has = n, s.has|hasMaximum }
}

// Enum lists the strings that are allowed.
func Enum(v ...string) Constraint {
	return func(s *Schema) { s.enum, s.has = v, s.has|hasEnum }
}

// EnumInteger lists the integers that are allowed.
func EnumInteger(v ...int64) Constraint {
	return func(s *Schema) { s.integers, s.has = v, s.has|hasIntegers }
}

// Const is the one string that is allowed.
func Const(v string) Constraint { return Enum(v) }

// ConstInteger is the one integer that is allowed.
func ConstInteger(v int64) Constraint { return EnumInteger(v) }

// ConstBoolean is the one boolean that is allowed.
func ConstBoolean(v bool) Constraint {
	return func(s *Schema) { s.boolean, s.has = v, s.has|hasConstBoolean }
}

// Default stands in for a missing string.
func Default(v string) Constraint { return func(s *Schema) { s.fallback = v } }

// DefaultInteger stands in for a missing integer.
func DefaultInteger(v int64) Constraint { return func(s *Schema) { s.fallback = v } }

// DefaultBoolean stands in for a missing boolean.
func DefaultBoolean(v bool) Constraint { return func(s *Schema) { s.fallback = v } }

// Accept lists the media types of a blob: "image/png", "image/*" or "*/*".
func Accept(mime ...string) Constraint { return func(s *Schema) { s.accept = mime } }

// MaxSize is the greatest size of a blob in bytes.
func MaxSize(n int64) Constraint {
	return func(s *Schema) { s.maxSize, s.has = n, s.has|hasMaxSize }
}
