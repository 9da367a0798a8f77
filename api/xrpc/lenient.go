package xrpc

import (
	"fmt"
	"reflect"
	"strconv"
)

// An unmarshaler decodes JSON into the type that was generated for a schema: [Unmarshal] or
// decodeLenient.
type unmarshaler func(s *Schema, data []byte, v any) error

// decodeLenient is [Unmarshal] for what does not fit the lexicon, of which v gets what it
// can hold: bounds, formats and known values do not matter, null is as good as absent, and
// what is missing is its default or zero. It fails when data is not JSON, or a value is of
// another type than that which is to hold it.
func decodeLenient(s *Schema, data []byte, v any) error {
	if err := validate(data); err != nil {
		return err
	}
	c := checker{data: data}
	at := reflect.ValueOf(v).Elem()
	if issue := c.hold(s, c.space(0), target{at, formOf(s, at.Type())}); issue != nil {
		return issue
	}
	if c.failed != nil {
		return fmt.Errorf("decode %T: %w", v, c.failed)
	}
	return nil
}

// Without what a lexicon may say about them.
var (
	anyBytes = Bytes()
	anyLink  = CIDLink()
	anyBlob  = Blob()
)

// hold decodes the value at i into to.
func (c *checker) hold(s *Schema, i int, to target) *Issue {
	if to.form == nil {
		return nil
	}
	if c.data[i] == 'n' {
		to.setNull()
		return nil
	}
	if to = to.present(); to.whole() {
		c.takeWhole(i, to)
		return nil
	}
	switch to.form.how {
	case asString:
		if c.data[i] != '"' {
			return c.wrongType("string", i)
		}
		to.v.SetString(c.ownText(i))
	case asInteger:
		return c.holdInteger(i, to)
	case asBoolean:
		if c.data[i] != 't' && c.data[i] != 'f' {
			return c.wrongType("boolean", i)
		}
		to.v.SetBool(c.data[i] == 't')
	case asBytes:
		return c.check(anyBytes, i, to)
	case asLink:
		return c.check(anyLink, i, to)
	case asBlob:
		return c.check(anyBlob, i, to)
	case asSlice:
		return c.holdItems(s, i, to)
	case asStruct:
		return c.holdObject(s, i, to)
	case asUnion:
		return c.holdVariant(s, i, to)
	}
	return nil
}

func (c *checker) holdInteger(i int, to target) *Issue {
	end := c.skip(i)
	n, err := strconv.ParseInt(string(c.data[i:end]), 10, 64)
	if err != nil {
		if c.data[i] != '-' && (c.data[i] < '0' || c.data[i] > '9') {
			return c.wrongType("integer", i)
		}
		var ok bool
		if n, ok = c.integer(i, end); !ok {
			return c.wrongType("integer", i)
		}
	}
	to.v.SetInt(n)
	return nil
}

func (c *checker) holdItems(s *Schema, i int, to target) *Issue {
	if c.data[i] != '[' {
		return c.wrongType("array", i)
	}
	to.v.Set(reflect.MakeSlice(to.v.Type(), 0, min(c.count(i), fewItems)))
	n := 0
	for item := c.first(i); item >= 0; item = c.after(c.skip(item)) {
		if issue := c.hold(s.items, item, to.item(n)); issue != nil {
			return issue.at(n)
		}
		n++
	}
	return nil
}

func (c *checker) holdObject(s *Schema, i int, to target) *Issue {
	if c.data[i] != '{' {
		return c.wrongType("object", i)
	}
	found := make([]int, len(s.props)) // where the value of each begins; 0: it has none
	guess := 0
	for key := c.first(i); key >= 0; {
		at := c.value(key)
		if p := s.property(c.data[key:c.skipString(key)], guess); p >= 0 {
			found[p], guess = at, p+1
		}
		key = c.after(c.skip(at))
	}
	for n := range s.props {
		p := &s.props[n]
		absent := found[n] == 0 || c.data[found[n]] == 'n' && !p.nullable
		switch {
		case absent && p.schema.fallback != nil:
			c.setDefault(p.schema.fallback, to.property(n))
		case absent:
		default:
			if issue := c.hold(p.schema, found[n], to.property(n)); issue != nil {
				return issue.below(p.name)
			}
		}
	}
	return nil
}

func (c *checker) holdVariant(s *Schema, i int, to target) *Issue {
	if c.data[i] != '{' {
		return c.wrongType(typedObject, i)
	}
	at := c.member(i, "$type")
	if at < 0 || c.data[at] != '"' {
		return c.wrongType(typedObject, i)
	}
	typ := c.text(at)
	for n := range s.variants {
		if v := &s.variants[n]; v.typ == typ {
			return c.hold(v.schema, i, c.variant(v, i, to))
		}
	}
	to.v.Addr().Interface().(Union).Hold(typ, c.data[i:c.skip(i)]) // also where the union is closed
	return nil
}
