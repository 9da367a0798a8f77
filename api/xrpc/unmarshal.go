package xrpc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Unmarshal checks data like [Schema.Check] and decodes it into v, a pointer to
// the type that was generated for s, in one go. Missing properties with a default get it.
// data is not changed, and v does not refer to it. After an error v may hold a part of it.
//
// A type that was not generated works where its fields have the types that the generator
// gives them. What is of another type is decoded by encoding/json.
func Unmarshal(s *Schema, data []byte, v any) error {
	if err := validate(data); err != nil {
		return err
	}
	to := reflect.ValueOf(v)
	if to.Kind() != reflect.Pointer || to.IsNil() {
		return fmt.Errorf("decode %T: not a pointer", v)
	}
	c := checker{data: data}
	if issue := c.check(s, c.space(0), target{to.Elem(), formOf(s, to.Type().Elem())}); issue != nil {
		return issue
	}
	if c.failed != nil {
		return fmt.Errorf("decode %T: %w", v, c.failed)
	}
	return nil
}

// target is the Go value that a value of JSON is decoded into. The zero target takes
// nothing.
type target struct {
	v    reflect.Value
	form *form
}

// form is how a Go type holds what a schema allows. It is not changed once it is built.
type form struct {
	how    how
	elem   *form   // of what a pointer points to, of items, and of a nullable property
	fields []field // of an object, as many as the schema has properties
}

type field struct {
	index int // in the struct, -1: it has none
	form  *form
}

type how uint8

const (
	byJSON     how = iota // encoding/json knows
	asPointer             // *T
	asNullable            // Nullable[T]
	asString              // a type of strings
	asInteger             // int64
	asBoolean             // bool
	asRaw                 // json.RawMessage
	asBytes               // atdata.Bytes
	asLink                // atdata.CIDLink
	asBlob                // atdata.Blob
	asSlice               // []T
	asStruct              // of its properties
	asUnion               // a Union
)

var (
	rawType     = reflect.TypeFor[json.RawMessage]()
	bytesType   = reflect.TypeFor[atdata.Bytes]()
	linkType    = reflect.TypeFor[atdata.CIDLink]()
	blobType    = reflect.TypeFor[atdata.Blob]()
	unionType   = reflect.TypeFor[Union]()
	readerType  = reflect.TypeFor[json.Unmarshaler]()
	nullableOne = reflect.TypeFor[nullable]()
	syntaxPath  = reflect.TypeFor[syntax.DID]().PkgPath()
)

// forms has, by its type, the forms of what was decoded before: as a rule one.
var forms struct {
	sync.Mutex          // held to add one
	known      sync.Map // reflect.Type → []formOfSchema
}

type formOfSchema struct {
	schema *Schema
	form   *form
}

// formOf returns the form in which t holds what s allows.
func formOf(s *Schema, t reflect.Type) *form {
	find := func() (*form, []formOfSchema) {
		known, _ := forms.known.Load(t)
		all, _ := known.([]formOfSchema)
		for i := range all {
			if all[i].schema == s {
				return all[i].form, nil
			}
		}
		return nil, all
	}
	if f, _ := find(); f != nil {
		return f
	}
	forms.Lock()
	defer forms.Unlock()
	f, others := find()
	if f == nil {
		f = formBuilder{}.form(s, t)
		forms.known.Store(t, append(slices.Clip(others), formOfSchema{s, f}))
	}
	return f
}

// formBuilder has the forms that were begun, for types that contain themselves.
type formBuilder map[formKey]*form

type formKey struct {
	schema *Schema
	typ    reflect.Type
}

func (b formBuilder) form(s *Schema, t reflect.Type) *form {
	key := formKey{s, t}
	if f := b[key]; f != nil {
		return f
	}
	f := new(form)
	b[key] = f
	switch {
	case t == rawType:
		f.how = asRaw
	case t.Kind() == reflect.Pointer:
		f.how, f.elem = asPointer, b.form(s, t.Elem())
	case reflect.PointerTo(t).Implements(nullableOne):
		f.how, f.elem = asNullable, b.form(s, t.Field(1).Type)
	default:
		b.fill(f, s, t)
	}
	return f
}

// fill makes f the form of the values of t themselves.
func (b formBuilder) fill(f *form, s *Schema, t reflect.Type) {
	own := reflect.PointerTo(t).Implements(readerType) // it reads JSON itself
	switch kind := t.Kind(); {
	case s.kind == kindBytes && t == bytesType:
		f.how = asBytes
	case s.kind == kindCIDLink && t == linkType:
		f.how = asLink
	case s.kind == kindBlob && t == blobType:
		f.how = asBlob
	case s.kind == kindUnion && reflect.PointerTo(t).Implements(unionType):
		f.how = asUnion
	case own:
	case s.kind == kindString && kind == reflect.String && (t.PkgPath() == "" || t.PkgPath() == syntaxPath):
		f.how = asString
	case s.kind == kindInteger && t == reflect.TypeFor[int64]():
		f.how = asInteger
	case s.kind == kindBoolean && t == reflect.TypeFor[bool]():
		f.how = asBoolean
	case s.kind == kindArray && kind == reflect.Slice:
		f.how, f.elem = asSlice, b.form(s.items, t.Elem())
	case s.kind == kindObject && kind == reflect.Struct:
		index, ok := fieldsOf(t)
		if !ok {
			return
		}
		f.how, f.fields = asStruct, make([]field, len(s.props))
		for n, p := range s.props {
			f.fields[n] = field{index: -1}
			if i, ok := index[p.name]; ok {
				f.fields[n] = field{i, b.form(p.schema, t.Field(i).Type)}
			}
		}
	}
}

// fieldsOf returns the fields of the struct t by their names in JSON. It fails when some
// are those of an embedded struct.
func fieldsOf(t reflect.Type) (map[string]int, bool) {
	index := map[string]int{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous:
			return nil, false
		case !f.IsExported():
		case name == "":
			index[f.Name] = i
		default:
			index[name] = i
		}
	}
	return index, true
}

// property is where the n-th property of an object goes.
func (to target) property(n int) target {
	if to.form == nil || to.form.how != asStruct || to.form.fields[n].index < 0 {
		return target{}
	}
	f := &to.form.fields[n]
	return target{to.v.Field(f.index), f.form}
}

// room makes room for the optional strings of an object that are there: once for all of
// them, of which an object has many. keys are not 0 for the properties that are there.
func (to target) room(keys []int32) []string {
	if to.form == nil {
		return nil
	}
	n := 0
	for i, key := range keys {
		if f := to.form.fields[i].form; key != 0 && f != nil && f.isText() {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return make([]string, n)
}

// isText reports whether f is a pointer to a string.
func (f *form) isText() bool { return f.how == asPointer && f.elem.how == asString }

// in takes a string of room for to to point to, if it is one that does.
func (to target) in(room *[]string) target {
	if to.form == nil || !to.form.isText() {
		return to
	}
	at := reflect.ValueOf(&(*room)[0])
	*room = (*room)[1:]
	if t := to.v.Type(); t != at.Type() {
		at = at.Convert(t)
	}
	to.v.Set(at)
	return target{to.v.Elem(), to.form.elem}
}

// present returns where a value goes that is not null: what to points to, which is made.
func (to target) present() target {
	for to.form != nil {
		switch to.form.how {
		case asNullable:
			to.v.Field(0).SetBool(true)
			to = target{to.v.Field(1), to.form.elem}
		case asPointer:
			to.v.Set(reflect.New(to.v.Type().Elem()))
			to = target{to.v.Elem(), to.form.elem}
		default:
			return to
		}
	}
	return to
}

// setNull sets a property that may be null, and is.
func (to target) setNull() {
	if to.form == nil {
		return
	}
	to.v.SetZero()
	if to.form.how == asNullable {
		to.v.Field(0).SetBool(true)
	}
}

// setDefault sets a property that is missing.
func (c *checker) setDefault(value any, to target) {
	to = to.present()
	if to.form == nil {
		return
	}
	switch v := value.(type) {
	case string:
		if to.form.how == asString {
			to.v.SetString(v)
			return
		}
	case int64:
		if to.form.how == asInteger {
			to.v.SetInt(v)
			return
		}
	case bool:
		if to.form.how == asBoolean {
			to.v.SetBool(v)
			return
		}
	}
	text, err := json.Marshal(value)
	if err == nil {
		err = json.Unmarshal(text, to.v.Addr().Interface())
	}
	c.fail(err)
}

// whole reports whether to takes the text of a value, and no part of it.
func (to target) whole() bool {
	return to.form != nil && (to.form.how == asRaw || to.form.how == byJSON)
}

// takeWhole decodes the value at i, which was checked.
func (c *checker) takeWhole(i int, to target) {
	raw := c.data[i:c.skip(i)]
	if to.form.how == asRaw {
		to.v.SetBytes(bytes.Clone(raw))
		return
	}
	c.fail(json.Unmarshal(raw, to.v.Addr().Interface()))
}

// fail notes that a Go type cannot hold what its schema allows.
func (c *checker) fail(err error) {
	if c.failed == nil {
		c.failed = err
	}
}

// fewItems is for how many items of an array there is room before they are checked. More
// of it is taken as they turn out to be right.
const fewItems = 16

// item makes room for the n-th item of an array, which goes behind the others.
func (to target) item(n int) target {
	if to.form == nil {
		return target{}
	}
	if n == to.v.Cap() {
		to.v.Grow(1)
	}
	to.v.SetLen(n + 1)
	return target{to.v.Index(n), to.form.elem}
}

// variant is where the object at i goes, of the type v, that a union has.
func (c *checker) variant(v *VariantSchema, i int, to target) target {
	if to.form == nil {
		return target{}
	}
	held := to.v.Addr().Interface().(Union).Hold(v.typ, c.data[i:c.skip(i)])
	if held == nil || v.schema == nil {
		return target{}
	}
	at := reflect.ValueOf(held).Elem()
	return target{at, formOf(v.schema, at.Type())}
}
