package xrpc

import (
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ParamsDecoder is implemented by generated parameter types. DecodeParams gets
// values that were checked against Method.Params.
type ParamsDecoder interface{ DecodeParams(v *Values) }

// ParamsEncoder is implemented by generated parameter types, for the client.
type ParamsEncoder interface{ EncodeParams(e *QueryWriter) }

// Values are the parameters of a request that the method knows. Accessors give
// the default where a parameter is absent, and the zero value or nil where there
// is none.
type Values struct {
	schema *Schema
	pairs  []param
}

type param struct {
	prop  int // index in schema.props
	value string
}

// parseParams reads the raw query and checks it against s. The texts of issues are
// sent without their path. With loose, a name may have brackets behind it.
func parseParams(s *Schema, query string, loose bool, v *Values) *Issue {
	v.schema = s
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		key, value, _ := strings.Cut(pair, "=")
		if value == "" { // as if absent
			continue
		}
		if key = unescapeQuery(key); loose {
			key = withoutBrackets(key)
		}
		prop := slices.IndexFunc(s.props, func(p Property) bool { return p.name == key })
		if prop >= 0 {
			v.pairs = append(v.pairs, param{prop, unescapeQuery(value)})
		}
	}
	if issue := v.coerce(); issue != nil {
		return issue
	}
	for n := range s.props {
		if issue := v.check(n); issue != nil {
			return issue
		}
	}
	return nil
}

// withoutBrackets is "actors" of "actors[]" and "actors[0]", as clients of old wrote lists.
func withoutBrackets(key string) string {
	name, index, ok := strings.Cut(key, "[")
	if index, closed := strings.CutSuffix(index, "]"); ok && closed && strings.Trim(index, "0123456789") == "" {
		return name
	}
	return key
}

// coerce looks for values that are none of those listed, and for integers and booleans that
// are none. The reference does that before anything else, with the text of the query, key by
// key as they come there.
func (v *Values) coerce() *Issue {
	var few [32]bool
	done := few[:]
	if len(v.schema.props) > len(few) {
		done = make([]bool, len(v.schema.props))
	}
	for _, p := range v.pairs {
		if done[p.prop] {
			continue
		}
		done[p.prop] = true
		s := v.schema.props[p.prop].schema
		if s.kind == kindArray {
			s = s.items
		}
		for _, q := range v.pairs {
			if q.prop != p.prop {
				continue
			}
			if want := s.expected(q.value); want != "" {
				return &Issue{"$", "Expected " + want + " (got " + previewText(q.value) + ")"}
			}
		}
	}
	return nil
}

// expected is what s expects instead of a text in a query that cannot be a value of it; "" if
// it can.
func (s *Schema) expected(text string) string {
	switch s.kind {
	case kindString:
		if s.has&hasEnum != 0 && !slices.Contains(s.enum, text) {
			return oneOf(quoteAll(s.enum))
		}
	case kindInteger:
		if s.has&hasIntegers != 0 {
			if all := formatAll(s.integers); !slices.Contains(all, text) {
				return oneOf(all)
			}
		}
		if !isDecimal(text) {
			return "integer value type"
		}
	case kindBoolean:
		if only := strconv.FormatBool(s.boolean); s.has&hasConstBoolean != 0 && text != only {
			return only
		}
		if text != "true" && text != "false" {
			return "boolean value type"
		}
	}
	return ""
}

func isDecimal(s string) bool {
	s = strings.TrimPrefix(s, "-")
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// check checks the parameter n of the schema.
func (v *Values) check(n int) *Issue {
	p := &v.schema.props[n]
	count := 0
	valid := true
	item := p.schema
	if item.kind == kindArray {
		item = item.items
	}
	for _, pair := range v.pairs {
		if pair.prop == n {
			count++
			valid = valid && item.allows(pair.value)
		}
	}
	switch {
	case count == 0:
		if p.required && p.schema.fallback == nil {
			return &Issue{"$", `Missing required key "` + p.name + `"`}
		}
		return nil
	case p.schema.kind == kindArray:
		valid = valid && p.schema.checkCount("array", count) == nil
	case count > 1:
		valid = false
	}
	if valid {
		return nil
	}
	// What is wrong is found by the interpreter, on the JSON form of the coerced value.
	c := checker{data: []byte(v.json(n, p.schema.kind == kindArray || count > 1))}
	return c.check(p.schema, 0, target{})
}

// allows reports whether the coerced text is a value of s.
func (s *Schema) allows(text string) bool {
	switch s.kind {
	case kindString, kindUnknown, kindAny:
		return (s.has&hasEnum == 0 || slices.Contains(s.enum, text)) &&
			s.checkText(text) == nil && (s.format == nil || s.format.valid(text))
	case kindInteger:
		n, ok := parseInteger(text)
		return ok && (s.has&hasIntegers == 0 || slices.Contains(s.integers, n)) && s.checkInteger(n) == nil
	case kindBoolean:
		return s.has&hasConstBoolean == 0 || (text == "true") == s.boolean
	}
	return false
}

// parseInteger reads what isDecimal accepts; it fails beyond safe integers.
func parseInteger(text string) (int64, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n <= maxSafeInteger && n >= -maxSafeInteger
}

// json returns the coerced value of parameter n, or the list of all of them.
func (v *Values) json(n int, list bool) string {
	kind := v.schema.props[n].schema.kind
	if kind == kindArray {
		kind = v.schema.props[n].schema.items.kind
	}
	var parts []string
	for _, p := range v.pairs {
		if p.prop != n {
			continue
		}
		text := p.value
		switch kind {
		case kindInteger:
			f, _ := strconv.ParseFloat(text, 64)
			if text = jsNumber(f); math.IsInf(f, 0) {
				text = strings.Replace(text, "Infinity", "1e999", 1) // JSON has no infinity
			}
		case kindBoolean:
		default:
			text = jsString(text)
		}
		if !list {
			return text
		}
		parts = append(parts, text)
	}
	return "[" + strings.Join(parts, ",") + "]"
}

func previewText(s string) string { return previewString(units([]byte(jsString(s)))) }

// unescapeQuery decodes + and %XX; what is no escape stays as it is, and what is
// not UTF-8 becomes U+FFFD, as in URLSearchParams.
func unescapeQuery(s string) string {
	if strings.IndexByte(s, '%') >= 0 || strings.IndexByte(s, '+') >= 0 {
		b := make([]byte, 0, len(s))
		for i := 0; i < len(s); i++ {
			switch {
			case s[i] == '+':
				b = append(b, ' ')
			case s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
				b = append(b, unhex(s[i+1])<<4|unhex(s[i+2]))
				i += 2
			default:
				b = append(b, s[i])
			}
		}
		s = string(b)
	}
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// find returns the first value of name and its default.
func (v *Values) find(name string) (value string, given bool, fallback any) {
	for _, p := range v.pairs {
		if v.schema.props[p.prop].name == name {
			return p.value, true, nil
		}
	}
	for n := range v.schema.props {
		if v.schema.props[n].name == name {
			return "", false, v.schema.props[n].schema.fallback
		}
	}
	return "", false, nil
}

// all yields every value of name.
func (v *Values) all(name string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, p := range v.pairs {
			if v.schema.props[p.prop].name == name && !yield(p.value) {
				return
			}
		}
	}
}

// text returns the string called name, or its default.
func (v *Values) text(name string) (string, bool) {
	value, given, fallback := v.find(name)
	if !given {
		value, given = fallback.(string)
	}
	return value, given
}

// integer returns the integer called name, or its default.
func (v *Values) integer(name string) (int64, bool) {
	value, given, fallback := v.find(name)
	if !given {
		n, ok := fallback.(int64)
		return n, ok
	}
	return parseInteger(value)
}

// boolean returns the boolean called name, or its default.
func (v *Values) boolean(name string) (value, ok bool) {
	text, given, fallback := v.find(name)
	if !given {
		value, ok = fallback.(bool)
		return value, ok
	}
	return text == "true", true
}

// pointer keeps the value off the heap when it is absent.
func pointer[T any](value T, ok bool) *T {
	if !ok {
		return nil
	}
	return new(value)
}

// String returns a string, "" when absent.
func (v *Values) String(name string) string {
	s, _ := v.text(name)
	return s
}

// OptString returns a string, nil when absent.
func (v *Values) OptString(name string) *string { return pointer(v.text(name)) }

// Integer returns an integer, 0 when absent.
func (v *Values) Integer(name string) int64 {
	n, _ := v.integer(name)
	return n
}

// OptInteger returns an integer, nil when absent.
func (v *Values) OptInteger(name string) *int64 { return pointer(v.integer(name)) }

// Boolean returns a boolean, false when absent.
func (v *Values) Boolean(name string) bool {
	b, _ := v.boolean(name)
	return b
}

// OptBoolean returns a boolean, nil when absent.
func (v *Values) OptBoolean(name string) *bool { return pointer(v.boolean(name)) }

// Strings returns a list, nil when absent.
func Strings[S ~string](v *Values, name string) []S {
	var out []S
	for s := range v.all(name) {
		out = append(out, S(s))
	}
	return out
}

// Integers returns a list, nil when absent.
func (v *Values) Integers(name string) []int64 {
	var out []int64
	for s := range v.all(name) {
		n, _ := parseInteger(s)
		out = append(out, n)
	}
	return out
}

// Booleans returns a list, nil when absent.
func (v *Values) Booleans(name string) []bool {
	var out []bool
	for s := range v.all(name) {
		out = append(out, s == "true")
	}
	return out
}

// QueryWriter is a query string being written. The zero value is empty.
type QueryWriter struct{ b []byte }

func (q *QueryWriter) add(name, value string) {
	if len(q.b) > 0 {
		q.b = append(q.b, '&')
	}
	q.b = append(q.b, url.QueryEscape(name)...)
	q.b = append(q.b, '=')
	q.b = append(q.b, url.QueryEscape(value)...)
}

// encoded returns the query without "?".
func (q *QueryWriter) encoded() string { return string(q.b) }

// String adds a string.
func (q *QueryWriter) String(name, value string) { q.add(name, value) }

// OptString adds a string unless it is nil.
func (q *QueryWriter) OptString(name string, value *string) {
	if value != nil {
		q.add(name, *value)
	}
}

// Integer adds an integer.
func (q *QueryWriter) Integer(name string, value int64) { q.add(name, strconv.FormatInt(value, 10)) }

// OptInteger adds an integer unless it is nil.
func (q *QueryWriter) OptInteger(name string, value *int64) {
	if value != nil {
		q.Integer(name, *value)
	}
}

// Boolean adds a boolean.
func (q *QueryWriter) Boolean(name string, value bool) { q.add(name, strconv.FormatBool(value)) }

// OptBoolean adds a boolean unless it is nil.
func (q *QueryWriter) OptBoolean(name string, value *bool) {
	if value != nil {
		q.Boolean(name, *value)
	}
}

// AddStrings adds one parameter for each of values.
func AddStrings[S ~string](q *QueryWriter, name string, values []S) {
	for _, v := range values {
		q.add(name, string(v))
	}
}

// Integers adds one parameter for each of values.
func (q *QueryWriter) Integers(name string, values []int64) {
	for _, v := range values {
		q.Integer(name, v)
	}
}

// Booleans adds one parameter for each of values.
func (q *QueryWriter) Booleans(name string, values []bool) {
	for _, v := range values {
		q.Boolean(name, v)
	}
}
