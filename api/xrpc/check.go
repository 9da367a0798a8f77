package xrpc

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/rivo/uniseg"
)

// Check reports whether data is one JSON value that s allows. The error is a
// *[SyntaxError] when data is not JSON, otherwise an *[Issue] about the first
// property, in the order of the lexicon, that is wrong.
//
// It reads JSON as the reference does: keys are compared exactly, the last of
// several equal keys counts, 1.0 is an integer. encoding/json differs in each of
// these; [Unmarshal] makes up for it and succeeds for all that Check lets pass.
// Check does not allocate when it finds nothing (blobs, links, and strings with
// escapes excepted), and may be called from several goroutines.
func (s *Schema) Check(data []byte) error {
	if err := validate(data); err != nil {
		return err
	}
	c := checker{data: data}
	if issue := c.check(s, c.space(0)); issue != nil {
		return issue
	}
	return nil
}

// Unmarshal checks data like [Schema.Check] and decodes it into v, a pointer to
// the type that was generated for s. Missing properties with a default get it.
// data is not changed, and v does not refer to it.
func Unmarshal(s *Schema, data []byte, v any) error {
	if err := validate(data); err != nil {
		return err
	}
	c := checker{data: data, collect: true}
	if issue := c.check(s, c.space(0)); issue != nil {
		return issue
	}
	if len(c.edits) > 0 {
		data = c.edited()
	}
	if err := decodeJSON(data, v); err != nil {
		return fmt.Errorf("decode %T: %w", v, err)
	}
	return nil
}

// numbers checks that the numbers in the value at i are integers that JavaScript can hold:
// there are no others in the data model.
func (c *checker) numbers(i int) *Issue {
	switch b := c.data[i]; {
	case b == '{':
		for key := c.first(i); key >= 0; {
			at := c.value(key)
			if issue := c.numbers(at); issue != nil {
				return issue.below(c.text(key))
			}
			key = c.after(c.skip(at))
		}
	case b == '[':
		n := 0
		for item := c.first(i); item >= 0; item = c.after(c.skip(item)) {
			if issue := c.numbers(item); issue != nil {
				return issue.at(n)
			}
			n++
		}
	case b == '-' || '0' <= b && b <= '9':
		if _, _, ok := c.integer(i, c.skip(i)); !ok {
			return c.wrongType("one of null, boolean, integer, string, cid, bytes, array or object", i)
		}
	}
	return nil
}

// edited returns a copy of the data with the edits made.
func (c *checker) edited() []byte {
	slices.SortStableFunc(c.edits, func(a, b edit) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) // insertions first
	})
	var out bytes.Buffer
	done := 0
	for _, e := range c.edits {
		if e.from < done { // inside of what is replaced already
			continue
		}
		out.Write(c.data[done:e.from])
		out.WriteString(e.text)
		done = e.to
	}
	out.Write(c.data[done:])
	return out.Bytes()
}

func (c *checker) edit(from, to int, text string) {
	if c.collect {
		c.edits = append(c.edits, edit{from, to, text})
	}
}

// check checks the value at i.
func (c *checker) check(s *Schema, i int) *Issue {
	switch s.kind {
	case kindObject:
		return c.object(s, i)
	case kindString:
		return c.string(s, i)
	case kindInteger:
		return c.number(s, i)
	case kindBoolean:
		if c.data[i] != 't' && c.data[i] != 'f' {
			return c.wrongType("boolean", i)
		}
		if s.has&hasConstBoolean != 0 && (c.data[i] == 't') != s.boolean {
			return c.wrongValue(i, strconv.FormatBool(s.boolean))
		}
	case kindArray:
		return c.array(s, i)
	case kindUnion:
		return c.union(s, i)
	case kindUnknown:
		if c.data[i] != '{' || c.isScalar(i) {
			return c.wrongType("object", i)
		}
		return c.numbers(i)
	case kindNull:
		if c.data[i] != 'n' {
			return c.wrongType("null", i)
		}
	case kindBytes:
		return c.bytes(s, i)
	case kindCIDLink:
		if !c.isLink(i) {
			return c.wrongType("cid", i)
		}
	case kindBlob:
		return c.blob(s, i)
	case kindAny:
	}
	return nil
}

// ignored is a key that no generated type has.
const ignored = `"\u007f"`

func (c *checker) object(s *Schema, i int) *Issue {
	if c.data[i] != '{' || c.isScalar(i) {
		return c.wrongType("object", i)
	}
	var few [24]int32 // where the key of each property begins, plus one
	keys := few[:min(len(few), len(s.props))]
	if len(s.props) > len(few) {
		keys = make([]int32, len(s.props))
	}
	guess := 0 // most clients send properties in the order of the lexicon
	for key := c.first(i); key >= 0; {
		end := c.skipString(key)
		if p := s.property(c.data[key:end], guess); p >= 0 {
			if before := int(keys[p]) - 1; before >= 0 {
				c.edit(before, c.skipString(before), ignored)
			}
			keys[p] = int32(key) + 1
			guess = p + 1
		} else if c.collect && s.folds(c.data[key:end]) {
			c.edit(key, end, ignored)
		}
		key = c.after(c.skip(c.space(c.space(end) + 1)))
	}
	for n := range s.props {
		p := &s.props[n]
		if keys[n] == 0 {
			if p.schema.fallback != nil {
				c.insert(i, p)
			} else if p.required {
				return &Issue{Path: "$", Text: `Missing required key "` + p.name + `"`}
			}
			continue
		}
		at := c.value(int(keys[n]) - 1)
		if p.nullable && c.data[at] == 'n' {
			continue
		}
		if issue := c.check(p.schema, at); issue != nil {
			return issue.below(p.name)
		}
	}
	return nil
}

// property returns the index of the property with the quoted key, or -1.
func (s *Schema) property(quoted []byte, guess int) int {
	name := quoted[1 : len(quoted)-1]
	if guess < len(s.props) && string(name) == s.props[guess].name {
		return guess
	}
	for n := range s.props {
		if string(name) == s.props[n].name {
			return n
		}
	}
	if bytes.IndexByte(name, '\\') >= 0 {
		plain := unquote(quoted)
		return slices.IndexFunc(s.props, func(p Property) bool { return p.name == plain })
	}
	return -1
}

// folds reports whether encoding/json would take the quoted key for a property's
// although it is none.
func (s *Schema) folds(quoted []byte) bool {
	name := quoted[1 : len(quoted)-1]
	plain := ""
	for _, b := range name {
		if b == '\\' || b >= utf8.RuneSelf {
			plain = unquote(quoted)
			break
		}
	}
	for n := range s.props {
		p := s.props[n].name
		if plain != "" {
			if strings.EqualFold(plain, p) {
				return true
			}
		} else if len(name) == len(p) && strings.EqualFold(string(name), p) {
			return true
		}
	}
	return false
}

// insert gives the object at i the default of p.
func (c *checker) insert(i int, p *Property) {
	if !c.collect {
		return
	}
	var value string
	switch v := p.schema.fallback.(type) {
	case string:
		value = jsString(v)
	case int64:
		value = strconv.FormatInt(v, 10)
	case bool:
		value = strconv.FormatBool(v)
	}
	text := jsString(p.name) + ":" + value
	if c.first(i) >= 0 {
		text += ","
	} else if slices.ContainsFunc(c.edits, func(e edit) bool { return e.from == i+1 }) {
		text = "," + text // not the first one in an empty object
	}
	c.edit(i+1, i+1, text)
}

func (c *checker) string(s *Schema, i int) *Issue {
	if s.has&hasEnum != 0 {
		if c.data[i] != '"' || !slices.Contains(s.enum, c.text(i)) {
			return c.wrongValue(i, quoteAll(s.enum)...)
		}
	} else if c.data[i] != '"' {
		return c.wrongType("string", i)
	}
	if s.format == nil && s.has&^hasEnum == 0 {
		return nil
	}
	if issue := s.checkText(c.text(i)); issue != nil {
		return issue
	}
	if s.format != nil && !s.format.valid(c.text(i)) {
		return &Issue{Path: "$", Text: "Invalid " + s.format.what + " (got " + c.preview(i) + ")"}
	}
	return nil
}

// checkText checks the lengths of a string.
func (s *Schema) checkText(text string) *Issue {
	if s.has&hasMinLength != 0 && len(text) < s.minLength {
		return tooSmall("string", int64(s.minLength), int64(len(text)))
	}
	if s.has&hasMaxLength != 0 && len(text) > s.maxLength {
		return tooBig("string", int64(s.maxLength), int64(len(text)))
	}
	// There are at most as many graphemes as bytes; counting them is slow.
	if s.has&hasMinGraphemes != 0 && (len(text) < s.minGraphemes || s.minGraphemes > 1 || text == "") {
		if n := uniseg.GraphemeClusterCount(text); n < s.minGraphemes {
			return tooSmall("grapheme", int64(s.minGraphemes), int64(n))
		}
	}
	if s.has&hasMaxGraphemes != 0 && len(text) > s.maxGraphemes {
		if n := uniseg.GraphemeClusterCount(text); n > s.maxGraphemes {
			return tooBig("grapheme", int64(s.maxGraphemes), int64(n))
		}
	}
	return nil
}

func (c *checker) number(s *Schema, i int) *Issue {
	isNumber := c.data[i] == '-' || '0' <= c.data[i] && c.data[i] <= '9'
	end := i
	var n int64
	plain, ok := false, false
	if isNumber {
		end = c.skip(i)
		n, plain, ok = c.integer(i, end)
	}
	if s.has&hasIntegers != 0 {
		if !ok || !slices.Contains(s.integers, n) {
			return c.wrongValue(i, formatAll(s.integers)...)
		}
	} else if !ok {
		return c.wrongType("integer", i)
	}
	if issue := s.checkInteger(n); issue != nil {
		return issue
	}
	if !plain {
		c.edit(i, end, strconv.FormatInt(n, 10))
	}
	return nil
}

func (s *Schema) checkInteger(n int64) *Issue {
	if s.has&hasMinimum != 0 && n < s.minimum {
		return tooSmall("integer", s.minimum, n)
	}
	if s.has&hasMaximum != 0 && n > s.maximum {
		return tooBig("integer", s.maximum, n)
	}
	return nil
}

func (c *checker) array(s *Schema, i int) *Issue {
	if c.data[i] != '[' {
		return c.wrongType("array", i)
	}
	if s.has&(hasMinLength|hasMaxLength) != 0 {
		n := 0
		for item := c.first(i); item >= 0; item = c.after(c.skip(item)) {
			n++
		}
		if issue := s.checkCount("array", n); issue != nil {
			return issue
		}
	}
	n := 0
	for item := c.first(i); item >= 0; item = c.after(c.skip(item)) {
		if issue := c.check(s.items, item); issue != nil {
			return issue.at(n)
		}
		n++
	}
	return nil
}

func (s *Schema) checkCount(what string, n int) *Issue {
	if s.has&hasMinLength != 0 && n < s.minLength {
		return tooSmall(what, int64(s.minLength), int64(n))
	}
	if s.has&hasMaxLength != 0 && n > s.maxLength {
		return tooBig(what, int64(s.maxLength), int64(n))
	}
	return nil
}

const typedObject = `an object which includes the "$type" property`

func (c *checker) union(s *Schema, i int) *Issue {
	if c.data[i] != '{' || c.isScalar(i) {
		return c.wrongType(typedObject, i)
	}
	at := c.member(i, "$type")
	if at < 0 {
		return c.wrongType(typedObject, i)
	}
	typ, isString := "", c.data[at] == '"'
	if isString {
		typ = c.text(at)
		for n := range s.variants {
			if s.variants[n].typ == typ {
				return c.check(s.variants[n].schema, i)
			}
		}
	}
	if s.closed {
		types := make([]string, len(s.variants))
		for n := range s.variants {
			types[n] = s.variants[n].typ
		}
		return c.wrongValue(at, quoteAll(types)...).below("$type")
	}
	if !isString {
		return c.wrongType("string", at).below("$type")
	}
	return nil
}

// only returns where the value of an object's one member begins, or -1 when it has
// another name or is not alone.
func (c *checker) only(i int, name string) int {
	if c.data[i] != '{' {
		return -1
	}
	key := c.first(i)
	if key < 0 || !c.keyIs(key, name) {
		return -1
	}
	at := c.value(key)
	if c.after(c.skip(at)) >= 0 {
		return -1
	}
	return at
}

// isScalar reports whether the object at i is a link or bytes, which are no objects
// in the data model.
func (c *checker) isScalar(i int) bool {
	key := c.first(i)
	if key < 0 || c.data[key+1] != '$' && c.data[key+1] != '\\' {
		return false
	}
	return c.isLink(i) || c.isBytes(i)
}

// isBytes is decodeBytes without an edit.
func (c *checker) isBytes(i int) bool {
	collect := c.collect
	c.collect = false
	_, ok := c.decodeBytes(i)
	c.collect = collect
	return ok
}

func (c *checker) isLink(i int) bool {
	at := c.only(i, "$link")
	if at < 0 || c.data[at] != '"' {
		return false
	}
	var link atdata.CIDLink
	return link.UnmarshalJSON(c.data[i:c.skip(i)]) == nil
}

// decodeBytes reads {"$bytes": base64}, padded or not.
func (c *checker) decodeBytes(i int) (size int, ok bool) {
	at := c.only(i, "$bytes")
	if at < 0 || c.data[at] != '"' {
		return 0, false
	}
	text := c.text(at)
	plain := strings.TrimRight(text, "=")
	if pad := len(text) - len(plain); pad > 0 && (pad > 2 || len(text)%4 != 0) {
		return 0, false
	}
	if strings.ContainsAny(plain, "\r\n") { // base64 would skip them
		return 0, false
	}
	b, err := base64.RawStdEncoding.DecodeString(plain)
	if err != nil {
		return 0, false
	}
	if plain != text {
		c.edit(at, c.skip(at), jsString(plain))
	}
	return len(b), true
}

func (c *checker) bytes(s *Schema, i int) *Issue {
	n, ok := c.decodeBytes(i)
	if !ok {
		return c.wrongType("bytes", i)
	}
	return s.checkCount("bytes", n)
}

var blobTable = Object(
	Required("$type", String(Const("blob"))),
	Required("ref", CIDLink()),
	Required("mimeType", String()),
	Required("size", Integer(Minimum(0))),
)

func (c *checker) blob(s *Schema, i int) *Issue {
	if !c.isBlob(i) {
		return c.wrongType("blob", i)
	}
	if len(s.accept) > 0 {
		at := c.member(i, "mimeType")
		if !accepts(s.accept, c.text(at)) {
			return c.wrongValue(at, quoteAll(s.accept)...).below("mimeType")
		}
	}
	if s.has&hasMaxSize != 0 {
		at := c.member(i, "size")
		if n, _, _ := c.integer(at, c.skip(at)); n > s.maxSize {
			return tooBig("blob", s.maxSize, n)
		}
	}
	return nil
}

// isBlob reports whether the value at i is a blob, with nothing else in it: what passes
// here is what a server finds in a record. Its CID may be of any codec, as in the published
// test vectors, which the reference itself refuses.
func (c *checker) isBlob(i int) bool {
	if c.data[i] != '{' || c.check(blobTable, i) != nil {
		return false
	}
	for key := c.first(i); key >= 0; key = c.after(c.skip(c.value(key))) {
		if blobTable.property(c.data[key:c.skipString(key)], 0) < 0 {
			return false
		}
	}
	return strings.Contains(c.text(c.member(i, "mimeType")), "/")
}

// accepts reports whether one of the patterns ("image/png", "image/*", "*/*") has mime.
func accepts(patterns []string, mime string) bool {
	for _, p := range patterns {
		if p == "*/*" || p == mime {
			return true
		}
		if prefix, ok := strings.CutSuffix(p, "/*"); ok && strings.HasPrefix(mime, prefix+"/") {
			return true
		}
	}
	return false
}
