package xrpc

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/bluesky-social/indigo/atproto/atdata"
)

// layout is how values of a Go type are written. It is not changed once it is built.
type layout struct {
	how     how
	elem    *layout // of what a pointer points to, of items, and of a nullable property
	members []member
	typ     string // the $type that a record begins with
}

// member is a field of a struct.
type member struct {
	index  int
	name   string // in JSON
	key    string // the name, quoted, with its colon
	omit   bool   // when it has the zero value
	asked  bool   // whether it is, by its method IsZero
	layout *layout
}

// layouts has the layouts of types that were written before, reflect.Type → *layout.
var layouts sync.Map

var (
	schemedType = reflect.TypeFor[interface{ Schema() *Schema }]()
	zeroedType  = reflect.TypeFor[interface{ IsZero() bool }]()
	writerType  = reflect.TypeFor[json.Marshaler]()
)

// layoutOf returns the layout of t.
func layoutOf(t reflect.Type) *layout {
	if l, ok := layouts.Load(t); ok {
		return l.(*layout)
	}
	l, _ := layouts.LoadOrStore(t, layoutBuilder{}.layout(t))
	return l.(*layout)
}

// layoutBuilder has the layouts that were begun, for types that contain themselves.
type layoutBuilder map[reflect.Type]*layout

func (b layoutBuilder) layout(t reflect.Type) *layout {
	if l := b[t]; l != nil {
		return l
	}
	l := new(layout)
	b[t] = l
	pointer := reflect.PointerTo(t)
	switch kind := t.Kind(); {
	case kind == reflect.Pointer:
		l.how, l.elem = asPointer, b.layout(t.Elem())
	case pointer.Implements(nullableOne):
		l.how, l.elem = asNullable, b.layout(t.Field(1).Type)
	case t == rawType:
		l.how = asRaw
	case t == bytesType:
		l.how = asBytes
	case t == linkType:
		l.how = asLink
	case t == blobType:
		l.how = asBlob
	case pointer.Implements(unionType):
		l.how = asUnion
	case pointer.Implements(schemedType) && kind == reflect.Struct:
		b.object(l, t)
	case pointer.Implements(writerType) && t.PkgPath() != syntaxPath:
	case kind == reflect.String && (t.PkgPath() == "" || t.PkgPath() == syntaxPath):
		l.how = asString
	case t == reflect.TypeFor[int64]():
		l.how = asInteger
	case t == reflect.TypeFor[bool]():
		l.how = asBoolean
	case kind == reflect.Slice && t.PkgPath() == "" && t.Elem().Kind() != reflect.Uint8:
		l.how, l.elem = asSlice, b.layout(t.Elem())
	}
	return l
}

// object makes l the layout of t, a struct that was generated.
func (b layoutBuilder) object(l *layout, t reflect.Type) {
	if _, ok := fieldsOf(t); !ok {
		return // a generated one is embedded in it
	}
	l.how = asStruct
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() {
			continue
		}
		if name == "" {
			name = f.Name
		}
		l.members = append(l.members, member{
			index: i, name: name, key: string(appendString(nil, name)) + ":", omit: options == "omitzero",
			asked: f.Type.Implements(zeroedType), layout: b.layout(f.Type),
		})
	}
	if s := reflect.New(t).Interface().(interface{ Schema() *Schema }).Schema(); s.record {
		l.typ = s.typ
	}
}

// maxMarshalDepth is how deep a value may nest that is written: one that contains itself
// does so for ever.
const maxMarshalDepth = 1000

var errTooDeep = errors.New("a value contains itself, or nests too deep")

// appendJSON appends v as encodeJSON does.
func appendJSON(b []byte, v any) ([]byte, error) {
	at := reflect.ValueOf(v)
	if !at.IsValid() {
		return append(b, "null"...), nil
	}
	l := layoutOf(at.Type())
	if l.how == byJSON || l.how == asPointer && l.elem.how == byJSON {
		return appendOther(b, v)
	}
	return l.append(b, at, 0)
}

// append appends v, which nests at depth.
func (l *layout) append(b []byte, v reflect.Value, depth int) ([]byte, error) {
	if depth > maxMarshalDepth {
		return b, errTooDeep
	}
	switch l.how {
	case asString:
		return appendString(b, v.String()), nil
	case asInteger:
		return strconv.AppendInt(b, v.Int(), 10), nil
	case asBoolean:
		return strconv.AppendBool(b, v.Bool()), nil
	case asPointer:
		if v.IsNil() {
			return append(b, "null"...), nil
		}
		return l.elem.append(b, v.Elem(), depth+1)
	case asNullable:
		return l.elem.append(b, v.Field(1), depth+1)
	case asRaw:
		return appendRaw(b, v.Bytes())
	case asBytes:
		if !v.IsNil() {
			b = append(b, `{"$bytes":"`...)
			b = base64.RawStdEncoding.AppendEncode(b, v.Bytes())
			return append(b, `"}`...), nil
		}
	case asLink, asBlob:
		return l.data(b, v)
	case asSlice:
		return l.list(b, v, depth)
	case asStruct:
		return l.object(b, v, "", depth)
	case asUnion:
		if v.CanAddr() {
			u := v.Addr().Interface().(Union)
			return appendUnion(b, u.Type(), u.Value(), depth)
		}
		copied := reflect.New(v.Type())
		copied.Elem().Set(v)
		return l.append(b, copied.Elem(), depth)
	}
	return appendOther(b, v.Interface())
}

// data appends a link or a blob. What is undefined, or of the legacy form, is left to their
// own methods.
func (l *layout) data(b []byte, v reflect.Value) ([]byte, error) {
	switch x := v.Interface().(type) {
	case atdata.CIDLink:
		if x.IsDefined() {
			return appendLink(b, x), nil
		}
	case atdata.Blob:
		if x.Size >= 0 && x.Ref.IsDefined() {
			b = appendLink(append(b, `{"$type":"blob","ref":`...), x.Ref)
			b = appendString(append(b, `,"mimeType":`...), x.MimeType)
			b = strconv.AppendInt(append(b, `,"size":`...), x.Size, 10)
			return append(b, '}'), nil
		}
	}
	return appendOther(b, v.Interface())
}

func appendLink(b []byte, link atdata.CIDLink) []byte {
	return append(appendString(append(b, `{"$link":`...), link.String()), '}')
}

func (l *layout) list(b []byte, v reflect.Value, depth int) (_ []byte, err error) {
	if v.IsNil() {
		return append(b, "null"...), nil
	}
	b = append(b, '[')
	for i := range v.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = l.elem.append(b, v.Index(i), depth+1); err != nil {
			return b, err
		}
	}
	return append(b, ']'), nil
}

// object appends a struct, and as its first key the $type that it has in a union, or as a
// record.
func (l *layout) object(b []byte, v reflect.Value, typ string, depth int) (_ []byte, err error) {
	begin := len(b)
	b = append(b, '{')
	if l.typ != "" {
		typ = l.typ
	}
	for i := range l.members {
		m := &l.members[i]
		at := v.Field(m.index)
		if m.omit && m.isZero(at) {
			continue
		}
		switch first := len(b) == begin+1; {
		case first && typ != "" && m.name != "$type":
			b = appendString(append(b, `"$type":`...), typ)
			b = append(b, ',')
		case !first:
			b = append(b, ',')
		}
		b = append(b, m.key...)
		if b, err = m.layout.append(b, at, depth+1); err != nil {
			return b, err
		}
	}
	if len(b) == begin+1 && typ != "" {
		b = appendString(append(b, `"$type":`...), typ)
	}
	return append(b, '}'), nil
}

// isZero reports whether the field v is absent.
func (m *member) isZero(v reflect.Value) bool {
	switch m.layout.how {
	case asPointer, asSlice, asRaw, asBytes:
		return v.IsNil()
	case asNullable:
		return !v.Field(0).Bool()
	}
	if m.asked {
		return v.Interface().(interface{ IsZero() bool }).IsZero()
	}
	return v.IsZero()
}

// appendUnion appends what a union holds, v, with its $type as its first key.
func appendUnion(b []byte, typ string, v any, depth int) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case *UnknownVariant:
		text, err := v.MarshalJSON()
		if err != nil {
			return b, err
		}
		return appendRaw(b, text)
	}
	at := reflect.ValueOf(v)
	if l := layoutOf(at.Type()); l.how == asPointer && l.elem.how == asStruct && !at.IsNil() {
		return l.elem.object(b, at.Elem(), typ, depth+1)
	}
	text, err := MarshalVariant(typ, v)
	return append(b, text...), err
}

// appendRaw appends JSON without its white space, as encoding/json does.
func appendRaw(b, raw []byte) ([]byte, error) {
	if raw == nil {
		return append(b, "null"...), nil
	}
	switch err := validate(raw); {
	case err != nil && err != errProto:
		out := bytes.NewBuffer(b) // what is nested deeper than what clients send, and errors
		if err := json.Compact(out, raw); err != nil {
			return b, fmt.Errorf("raw JSON: %w", err)
		}
		return out.Bytes(), nil
	case bytes.IndexByte(raw, ' ') < 0 && bytes.IndexByte(raw, '\n') < 0 && bytes.IndexByte(raw, '\t') < 0 && bytes.IndexByte(raw, '\r') < 0:
		return append(b, raw...), nil
	}
	c := checker{data: raw}
	for i := 0; i < len(raw); {
		switch raw[i] {
		case ' ', '\n', '\t', '\r':
			i++
		case '"':
			end := c.skipString(i)
			b = append(b, raw[i:end]...)
			i = end
		default:
			b = append(b, raw[i])
			i++
		}
	}
	return b, nil
}

// appendString appends s in quotes, as encoding/json does when it is not to escape HTML.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	done := 0 // what is appended already
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			b = append(b, s[done:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\b':
				b = append(b, `\b`...)
			case '\f':
				b = append(b, `\f`...)
			case '\n':
				b = append(b, `\n`...)
			case '\r':
				b = append(b, `\r`...)
			case '\t':
				b = append(b, `\t`...)
			default:
				b = append(b, `\u00`...)
				b = append(b, hex[c>>4], hex[c&15])
			}
			i++
			done = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		escaped := ""
		switch {
		case r == utf8.RuneError && size == 1:
			escaped = `\ufffd`
		case r == '\u2028':
			escaped = `\u2028`
		case r == '\u2029':
			escaped = `\u2029`
		}
		if escaped != "" {
			b = append(append(b, s[done:i]...), escaped...)
			done = i + size
		}
		i += size
	}
	return append(append(b, s[done:]...), '"')
}
