package source

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/clipperhouse/uax29/v2/graphemes"
)

// formats are the formats of strings, with what tells whether a string is of one.
var formats = map[string]func(string) bool{
	"at-identifier": parses(syntax.ParseAtIdentifier),
	"at-uri":        parses(syntax.ParseATURI),
	"cid":           parses(syntax.ParseCID),
	"datetime":      parses(syntax.ParseDatetime),
	"did":           parses(syntax.ParseDID),
	"handle":        parses(syntax.ParseHandle),
	"language":      parses(syntax.ParseLanguage),
	"nsid":          parses(syntax.ParseNSID),
	"record-key":    parses(syntax.ParseRecordKey),
	"tid":           parses(syntax.ParseTID),
	"uri":           parses(syntax.ParseURI),
}

func parses[T any](parse func(string) (T, error)) func(string) bool {
	return func(s string) bool {
		_, err := parse(s)
		return err == nil
	}
}

// values checks the values that a string, an integer or a boolean v names itself against
// what it allows.
func (c checker) values(v *Value, kind Kind) {
	enum := v.Get("enum")
	if enum != nil && enum.Kind == Array {
		if len(enum.Items) == 0 {
			c.problems.Add(c.doc, enum, "an empty enum allows no value; add values, or leave it out")
		}
		for i, item := range enum.Items {
			if slices.ContainsFunc(enum.Items[:i], func(o *Value) bool { return item.Kind == kind && same(o, item) }) {
				c.problems.Add(c.doc, item, "%s is in the enum twice; remove one", shown(item))
			} else if item.Kind == kind {
				c.value("the value", v, item)
			}
		}
	}
	for _, key := range []string{"default", "const"} {
		d := v.Get(key)
		if d == nil || d.Kind != kind {
			continue
		}
		if enum != nil && enum.Kind == Array && len(enum.Items) > 0 && !slices.ContainsFunc(enum.Items, func(e *Value) bool { return same(e, d) }) {
			c.problems.Add(c.doc, d, "%s %s is not in the enum%s", key, shown(d), cmp.Or(DidYouMean(d.Text, v.Strings("enum")), "; choose one that is"))
		}
		c.value(key, v, d)
	}
	if d := v.Get("default"); d != nil && v.Get("const") != nil {
		c.problems.Add(c.doc, d, "a schema has a default or a const, not both; remove one")
	}
}

// value checks d, which is what of the schema v, against its format and bounds.
func (c checker) value(what string, v, d *Value) {
	bound := func(key string, broken func(limit int64) bool, is string) {
		if n := v.Get(key); n != nil && n.Kind == Integer && broken(n.Int) {
			c.problems.Add(c.doc, d, "%s %s is %s %d; change one of them", what, shown(d), is, n.Int)
		}
	}
	switch d.Kind {
	case Integer:
		bound("minimum", func(n int64) bool { return d.Int < n }, "below the minimum")
		bound("maximum", func(n int64) bool { return d.Int > n }, "above the maximum")
	case String:
		bytes := int64(len(d.Text))
		bound("minLength", func(n int64) bool { return bytes < n }, "shorter than minLength")
		bound("maxLength", func(n int64) bool { return bytes > n }, "longer than maxLength")
		seen := int64(0)
		for all := graphemes.FromString(d.Text); all.Next(); {
			seen++
		}
		bound("minGraphemes", func(n int64) bool { return seen < n }, "shorter than minGraphemes")
		bound("maxGraphemes", func(n int64) bool { return seen > n }, "longer than maxGraphemes")
		if format := v.String("format"); formats[format] != nil && !formats[format](d.Text) {
			c.problems.Add(c.doc, d, "%s %q is not of the format %s; change one of them", what, d.Text, format)
		}
	}
}

// twice warns of what a list has twice where that changes nothing.
func (c checker) twice(list *Value) {
	if list == nil {
		return
	}
	for i, item := range list.Items {
		if item.Kind == String && slices.ContainsFunc(list.Items[:i], func(o *Value) bool { return same(o, item) }) {
			c.problems.Warn(c.doc, item, "%q is listed twice", item.Text)
		}
	}
}

func same(a, b *Value) bool { return a.Kind == b.Kind && a.Text == b.Text && a.Int == b.Int }

// shown is a string or an integer as messages show it.
func shown(v *Value) string {
	if v.Kind == Integer {
		return fmt.Sprint(v.Int)
	}
	return fmt.Sprintf("%q", v.Text)
}
