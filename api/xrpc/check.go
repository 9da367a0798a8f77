package xrpc

import (
	"bytes"
	"encoding/base64"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/clipperhouse/uax29/v2/graphemes"
)

// Check reports whether data is one JSON value that s allows. The error is a
// *[SyntaxError] when data is not JSON, otherwise an *[Issue] about the first
// property, in the order of the lexicon, that is wrong.
//
// It reads JSON as the reference does: keys are compared exactly, the last of
// several equal keys counts, 1.0 is an integer. encoding/json differs in each of
// these; [Unmarshal] does not, and succeeds for all that Check lets pass.
// Check does not allocate when it finds nothing (blobs, links, and strings with
// escapes excepted), and may be called from several goroutines.
func (s *Schema) Check(data []byte) error {
	if err := validate(data); err != nil {
		return err
	}
	c := checker{data: data}
	if issue := c.check(s, c.space(0), target{}); issue != nil {
		return issue
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
		if _, ok := c.integer(i, c.skip(i)); !ok {
			return c.wrongType("one of null, boolean, integer, string, cid, bytes, array or object", i)
		}
	}
	return nil
}

// check checks the value at i, and decodes it into to.
func (c *checker) check(s *Schema, i int, to target) *Issue {
	if to = to.present(); to.whole() {
		issue := c.check(s, i, target{})
		if issue == nil {
			c.takeWhole(i, to)
		}
		return issue
	}
	switch s.kind {
	case kindObject:
		return c.object(s, i, to)
	case kindString:
		return c.string(s, i, to)
	case kindInteger:
		return c.number(s, i, to)
	case kindBoolean:
		return c.boolean(s, i, to)
	case kindArray:
		return c.array(s, i, to)
	case kindUnion:
		return c.union(s, i, to)
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
		return c.bytes(s, i, to)
	case kindCIDLink:
		link, ok := c.link(i)
		if !ok {
			return c.wrongType("cid", i)
		}
		if to.form != nil {
			to.v.Set(reflect.ValueOf(link))
		}
	case kindBlob:
		return c.blob(s, i, to)
	case kindAny:
	}
	return nil
}

func (c *checker) object(s *Schema, i int, to target) *Issue {
	if c.data[i] != '{' || c.isScalar(i) {
		return c.wrongType("object", i)
	}
	var few [24]int32 // where the key of each property begins, plus one
	keys := few[:min(len(few), len(s.props))]
	if len(s.props) > len(few) {
		keys = make([]int32, len(s.props))
	}
	typeAt := -1
	guess := 0 // most clients send properties in the order of the lexicon
	for key := c.first(i); key >= 0; {
		end := c.skipString(key)
		if s.typ != "" && c.keyIs(key, "$type") {
			typeAt = c.value(key)
		}
		if p := s.property(c.data[key:end], guess); p >= 0 {
			keys[p] = int32(key) + 1
			guess = p + 1
		}
		key = c.after(c.skip(c.space(c.space(end) + 1)))
	}
	if typeAt >= 0 && !s.record {
		if issue := c.typed(s, typeAt); issue != nil {
			return issue
		}
	}
	room := to.room(keys)
	for n := range s.props {
		p := &s.props[n]
		if keys[n] == 0 {
			if p.schema.fallback != nil {
				c.setDefault(p.schema.fallback, to.property(n))
			} else if p.required {
				return &Issue{Path: "$", Text: `Missing required key "` + p.name + `"`}
			}
			continue
		}
		at := c.value(int(keys[n]) - 1)
		if p.nullable && c.data[at] == 'n' {
			to.property(n).setNull()
			continue
		}
		if issue := c.check(p.schema, at, to.property(n).in(&room)); issue != nil {
			return issue.below(p.name)
		}
	}
	if s.record {
		return c.typed(s, typeAt)
	}
	return nil
}

// typed checks the $type at i, -1 when there is none, of an object of a known type.
func (c *checker) typed(s *Schema, i int) *Issue {
	switch {
	case i < 0:
		return (&Issue{"$", "Expected " + jsString(s.typ) + " (got undefined)"}).below("$type")
	case c.data[i] != '"' || c.text(i) != s.typ:
		return c.wrongValue(i, jsString(s.typ)).below("$type")
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

func (c *checker) string(s *Schema, i int, to target) *Issue {
	isString := c.data[i] == '"'
	switch {
	case !isString && s.token:
		return c.wrongType("token", i)
	case !isString && s.has&hasEnum == 0:
		return c.wrongType("string", i)
	}
	text, own := "", false
	if isString && (to.form != nil || s.format != nil || s.has != 0) {
		text, own = c.view(i)
	}
	if s.has&hasEnum != 0 && (!isString || !slices.Contains(s.enum, text)) {
		return c.wrongValue(i, quoteAll(s.enum)...)
	}
	if issue := s.checkText(text); issue != nil {
		return issue
	}
	if s.format != nil && !s.format.valid(text) {
		return &Issue{Path: "$", Text: "Invalid " + s.format.what + " (got " + c.preview(i) + ")"}
	}
	if to.form != nil {
		if !own {
			text = strings.Clone(text)
		}
		to.v.SetString(text)
	}
	return nil
}

func (c *checker) boolean(s *Schema, i int, to target) *Issue {
	isBoolean, value := c.data[i] == 't' || c.data[i] == 'f', c.data[i] == 't'
	switch {
	case s.has&hasConstBoolean != 0 && (!isBoolean || value != s.boolean):
		return c.wrongValue(i, strconv.FormatBool(s.boolean))
	case !isBoolean:
		return c.wrongType("boolean", i)
	}
	if to.form != nil {
		to.v.SetBool(value)
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
		if n := countGraphemes(text); n < s.minGraphemes {
			return tooSmall("grapheme", int64(s.minGraphemes), int64(n))
		}
	}
	if s.has&hasMaxGraphemes != 0 && len(text) > s.maxGraphemes {
		if n := countGraphemes(text); n > s.maxGraphemes {
			return tooBig("grapheme", int64(s.maxGraphemes), int64(n))
		}
	}
	return nil
}

func (c *checker) number(s *Schema, i int, to target) *Issue {
	isNumber := c.data[i] == '-' || '0' <= c.data[i] && c.data[i] <= '9'
	n, ok := int64(0), false
	if isNumber {
		n, ok = c.integer(i, c.skip(i))
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
	if to.form != nil {
		to.v.SetInt(n)
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

func (c *checker) array(s *Schema, i int, to target) *Issue {
	if c.data[i] != '[' {
		return c.wrongType("array", i)
	}
	if s.has&(hasMinLength|hasMaxLength) != 0 {
		if issue := s.checkCount("array", c.count(i)); issue != nil {
			return issue
		}
	}
	if to.form != nil {
		to.v.Set(reflect.MakeSlice(to.v.Type(), 0, min(c.count(i), fewItems)))
	}
	n := 0
	for item := c.first(i); item >= 0; item = c.after(c.skip(item)) {
		if issue := c.check(s.items, item, to.item(n)); issue != nil {
			return issue.at(n)
		}
		n++
	}
	return nil
}

// count returns how many items the array at i has.
func (c *checker) count(i int) (n int) {
	for item := c.first(i); item >= 0; item = c.after(c.skip(item)) {
		n++
	}
	return n
}

// countGraphemes counts as Intl.Segmenter does in a browser: what people see as one character
// is one, also a conjunct of several letters in Devanagari or Khmer.
func countGraphemes(text string) (n int) {
	for all := graphemes.FromString(text); all.Next(); {
		n++
	}
	return n
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

func (c *checker) union(s *Schema, i int, to target) *Issue {
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
			if v := &s.variants[n]; v.typ == typ {
				return c.check(v.schema, i, c.variant(v, i, to))
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
	c.variant(&VariantSchema{typ: typ}, i, to)
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

func (c *checker) isBytes(i int) bool {
	_, ok := c.decodeBytes(i)
	return ok
}

func (c *checker) isLink(i int) bool {
	_, ok := c.link(i)
	return ok
}

// link reads {"$link": CID}, of a CID as it is usually written.
func (c *checker) link(i int) (link atdata.CIDLink, ok bool) {
	at := c.only(i, "$link")
	if at < 0 || c.data[at] != '"' || link.UnmarshalJSON(c.data[i:c.skip(i)]) != nil {
		return link, false
	}
	return link, link.String() == c.text(at)
}

// standardAlphabet is base64 of the alphabet for URLs in the usual one.
var standardAlphabet = strings.NewReplacer("-", "+", "_", "/")

// decodeBytes reads {"$bytes": base64}, of both alphabets, with all, some or none of its
// padding.
func (c *checker) decodeBytes(i int) (b []byte, ok bool) {
	at := c.only(i, "$bytes")
	if at < 0 || c.data[at] != '"' {
		return nil, false
	}
	text := c.text(at)
	plain := strings.TrimRight(text, "=")
	if len(text) > (len(plain)+3)/4*4 || strings.ContainsAny(plain, "\r\n") { // base64 would skip the line breaks
		return nil, false
	}
	b, err := base64.RawStdEncoding.DecodeString(standardAlphabet.Replace(plain))
	return b, err == nil
}

func (c *checker) bytes(s *Schema, i int, to target) *Issue {
	b, ok := c.decodeBytes(i)
	if !ok {
		return c.wrongType("bytes", i)
	}
	if issue := s.checkCount("bytes", len(b)); issue != nil {
		return issue
	}
	if to.form != nil {
		to.v.SetBytes(b)
	}
	return nil
}

var blobTable = Object(
	Required("$type", String(Const("blob"))),
	Required("ref", CIDLink()),
	Required("mimeType", String()),
	Required("size", Integer(Minimum(0))),
)

func (c *checker) blob(s *Schema, i int, to target) *Issue {
	if !c.isBlob(i) {
		return c.wrongType("blob", i)
	}
	at := c.member(i, "mimeType")
	if len(s.accept) > 0 && !accepts(s.accept, c.text(at)) {
		return c.wrongValue(at, quoteAll(s.accept)...).below("mimeType")
	}
	sizeAt := c.member(i, "size")
	size, _ := c.integer(sizeAt, c.skip(sizeAt))
	if s.has&hasMaxSize != 0 && size > s.maxSize {
		return tooBig("blob", s.maxSize, size)
	}
	if to.form != nil {
		link, _ := c.link(c.member(i, "ref"))
		to.v.Set(reflect.ValueOf(atdata.Blob{Ref: link, MimeType: c.ownText(at), Size: size}))
	}
	return nil
}

// isBlob reports whether the value at i is a blob, with nothing else in it: what passes
// here is what a server finds in a record. Its CID may be of any codec, as in the published
// test vectors, which the reference itself refuses.
func (c *checker) isBlob(i int) bool {
	if c.data[i] != '{' || c.check(blobTable, i, target{}) != nil {
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
