package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"portico/gen/source"
)

// schema compares two schemas that stand in the same place.
func (d *differ) schema(s site, old, new *source.Value) {
	was, is := old.String("type"), new.String("type")
	switch {
	case was != is && (was == "ref" || is == "ref"):
		d.inlined(s, old, new)
		return
	case was != is:
		d.add(s, new, false, Change{Rule: "type-change", What: "type", Old: was, New: is, Direction: Both})
		return
	}
	switch is {
	case "record":
		d.recordKey(s, old.Get("key"), new.Get("key"))
		d.schema(s, old.Get("record"), new.Get("record"))
	case "query", "procedure", "subscription":
		d.methodParts(s, old, new)
	case "permission-set":
		d.permissions(s, old, new)
	case "object", "params":
		d.properties(s, old, new)
	case "array":
		d.length(s, "array-length", old, new)
		d.schema(s.at("[]"), old.Get("items"), new.Get("items"))
	case "bytes":
		d.length(s, "bytes-length", old, new)
	case "string":
		d.format(s, old, new)
		d.length(s, "string-length", old, new)
		d.values(s, old, new)
		d.known(s, old, new)
	case "integer":
		d.bound(s, "integer-range", "minimum", old, new, false)
		d.bound(s, "integer-range", "maximum", old, new, true)
		d.values(s, old, new)
	case "boolean":
		d.values(s, old, new)
	case "blob":
		d.accept(s, old, new)
		d.bound(s, "blob-size", "maxSize", old, new, true)
	case "union":
		d.union(s, old, new)
	case "ref":
		d.ref(s, old, new)
	}
	d.text(s, "description", old, new)
	d.extensions(s, old, new)
}

// text compares a member that is for people only.
func (d *differ) text(s site, key string, old, new *source.Value) {
	was, is := old.Get(key), new.Get(key)
	if equal(was, is) {
		return
	}
	c := Change{Rule: key, What: key, Direction: Text}
	c.Old, c.New = apart(was, is)
	if is != nil && strings.HasPrefix(strings.ToLower(is.Text), "deprecated") &&
		(was == nil || !strings.HasPrefix(strings.ToLower(was.Text), "deprecated")) {
		c.Note = "it is deprecated: stop using it"
	}
	d.change(s, was, is, c)
}

// known to a schema, of whatever type; other members are extensions.
var keys = strings.Fields(`type description key record parameters input output message errors properties required nullable
	items minLength maxLength minGraphemes maxGraphemes minimum maximum format enum knownValues const default
	accept maxSize refs closed ref title detail title:lang detail:lang permissions`)

func (d *differ) extensions(s site, old, new *source.Value) {
	for _, key := range merged(new.Keys(), old.Keys()) {
		if !slices.Contains(keys, key) {
			if was, is := old.Get(key), new.Get(key); !equal(was, is) {
				d.change(s, was, is, Change{Rule: "extension", What: key, Old: raw(was), New: raw(is), Direction: Text})
			}
		}
	}
}

// equal compares JSON values, not how they are written.
func equal(a, b *source.Value) bool {
	if a == nil || b == nil {
		return a == b
	}
	if bytes.Equal(a.Raw, b.Raw) {
		return true
	}
	var x, y any
	return json.Unmarshal(a.Raw, &x) == nil && json.Unmarshal(b.Raw, &y) == nil && reflect.DeepEqual(x, y)
}

// merged is a followed by what only b has.
func merged(a, b []string) []string {
	all := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(a, s) {
			all = append(all, s)
		}
	}
	return all
}

// --- records, methods, permission sets ---

func (d *differ) recordKey(s site, old, new *source.Value) {
	if !equal(old, new) {
		d.add(s, new, false, Change{Rule: "record-key-type", What: "key", Old: raw(old), New: raw(new), Direction: Both})
	}
}

func (d *differ) methodParts(s site, old, new *source.Value) {
	params := s.at("params").going(sent)
	switch was, is := old.Get("parameters"), new.Get("parameters"); {
	case was == nil && is == nil:
	case was == nil:
		c := Change{Rule: "params-added", Old: none, New: "params", Direction: Server, Note: "take the parameters"}
		if len(is.Strings("required")) > 0 {
			c.New, c.Direction = "params with required ones", Both
		}
		d.add(params, is, false, c)
	case is == nil:
		d.add(params, was, true, Change{Rule: "params-removed", Old: "params", New: none, Direction: Server})
	default:
		d.schema(params, was, is)
	}
	d.body(s.at("input").going(sent), "input", old, new)
	d.body(s.at("output").going(answered), "output", old, new)
	if was, is := old.Get("message").Get("schema"), new.Get("message").Get("schema"); was != nil && is != nil {
		d.schema(s.at("message").going(answered), was, is)
		d.text(s.at("message"), "description", old.Get("message"), new.Get("message"))
	}
	d.errors(s, old, new)
}

func (d *differ) body(s site, key string, old, new *source.Value) {
	was, is := old.Get(key), new.Get(key)
	switch {
	case was == nil && is == nil:
		return
	case was == nil:
		c := Change{Rule: key + "-added", Old: none, New: is.String("encoding"), Direction: Both, Note: "read it"}
		if key == "output" {
			c.Direction, c.Note = Server, "send it"
		}
		d.add(s, is, false, c)
		return
	case is == nil:
		d.add(s, was, true, Change{Rule: key + "-removed", Old: was.String("encoding"), New: none, Direction: Both})
		return
	}
	if a, b := was.String("encoding"), is.String("encoding"); a != b {
		narrower, wider := sets(split(a), split(b), covers)
		d.add(s, is.Get("encoding"), false, Change{
			Rule: "body-encoding", What: "encoding", Old: raw(was.Get("encoding")), New: raw(is.Get("encoding")),
			Direction: s.strict(narrower, wider),
		})
	}
	d.text(s, "description", was, is)
	switch a, b := was.Get("schema"), is.Get("schema"); {
	case a != nil && b != nil:
		d.schema(s, a, b)
	case a != nil || b != nil:
		c := Change{Rule: "body-schema", What: "schema", Old: none, New: none, Direction: Both}
		if a != nil {
			c.Old = a.String("type")
		}
		if b != nil {
			c.New = b.String("type")
		}
		d.change(s, a, b, c)
	}
}

func split(encodings string) []string {
	var all []string
	for e := range strings.SplitSeq(encodings, ",") {
		all = append(all, strings.ToLower(strings.TrimSpace(e)))
	}
	return all
}

// covers tells whether every value of the media type b is one of a.
func covers(a, b string) bool {
	if prefix, ok := strings.CutSuffix(a, "/*"); ok && (prefix == "*" || strings.HasPrefix(b, prefix+"/")) {
		return true
	}
	return a == b
}

// sets tells whether the values that b stands for lack some of a's, and whether they
// have some that a's lack.
func sets(a, b []string, covers func(a, b string) bool) (narrower, wider bool) {
	lacks := func(x, y []string) bool {
		return slices.ContainsFunc(y, func(v string) bool {
			return !slices.ContainsFunc(x, func(w string) bool { return covers(w, v) })
		})
	}
	return lacks(b, a), lacks(a, b)
}

func (d *differ) errors(s site, old, new *source.Value) {
	find := func(v *source.Value, name string) *source.Value {
		for _, e := range list(v, "errors") {
			if e.String("name") == name {
				return e
			}
		}
		return nil
	}
	for _, e := range list(new, "errors") {
		name := e.String("name")
		if was := find(old, name); was == nil {
			d.add(s, e, false, Change{Rule: "error-added", What: "error " + name, Old: none, New: "declared", Direction: Compatible})
		} else {
			before := len(d.changes)
			d.text(s, "description", was, e)
			for i := range d.changes[before:] {
				d.changes[before+i].What, d.changes[before+i].Rule = "description of error "+name, "error-description"
			}
		}
	}
	for _, e := range list(old, "errors") {
		if name := e.String("name"); find(new, name) == nil {
			d.add(s, e, true, Change{
				Rule: "error-removed", What: "error " + name, Old: "declared", New: none, Direction: Both, Note: "stop answering it",
			})
		}
	}
}

func (d *differ) permissions(s site, old, new *source.Value) {
	for _, key := range []string{"title", "title:lang", "detail", "detail:lang"} {
		d.text(s, key, old, new)
	}
	has := func(v, p *source.Value) bool {
		return slices.ContainsFunc(list(v, "permissions"), func(q *source.Value) bool { return equal(p, q) })
	}
	for _, p := range list(new, "permissions") {
		if !has(old, p) {
			d.add(s, p, false, Change{Rule: "permission-added", What: "permission", Old: none, New: raw(p), Direction: Compatible})
		}
	}
	for _, p := range list(old, "permissions") {
		if !has(new, p) {
			d.add(s, p, true, Change{Rule: "permission-removed", What: "permission", Old: raw(p), New: none, Direction: Clients})
		}
	}
}

// --- objects ---

func (d *differ) properties(s site, old, new *source.Value) {
	rule := "object-required"
	if new.String("type") == "params" {
		rule = "params-required"
	}
	was, is := old.Get("properties"), new.Get("properties")
	for _, key := range merged(is.Keys(), was.Keys()) {
		a, b := was.Get(key), is.Get(key)
		p := s.at(key)
		wasRequired := slices.Contains(old.Strings("required"), key)
		isRequired := slices.Contains(new.Strings("required"), key)
		switch {
		case a == nil:
			c := Change{Rule: "property-added", Old: none, New: presence(isRequired) + kind(s.new, b), Direction: Compatible, covers: []string{"object-nullable"}}
			if isRequired {
				c.covers = append(c.covers, rule)
				c.Direction, c.Note = s.required(true)
			}
			d.add(p, b, false, c)
			continue
		case b == nil:
			c := Change{
				Rule: "property-removed", Old: presence(wasRequired) + kind(s.old, a), New: none, Direction: Server,
				Note: "delete what uses its field", covers: []string{"object-nullable"},
			}
			if wasRequired {
				c.covers = append(c.covers, rule)
				if s.way&answered != 0 {
					c.Direction = Both
				}
			}
			d.add(p, a, true, c)
			continue
		case wasRequired != isRequired:
			c := Change{
				Rule: rule, Old: strings.TrimSpace(presence(wasRequired)), New: strings.TrimSpace(presence(isRequired)),
			}
			c.Direction, c.Note = s.required(isRequired)
			d.add(p, b, false, c)
		}
		wasNullable := slices.Contains(old.Strings("nullable"), key)
		isNullable := slices.Contains(new.Strings("nullable"), key)
		if wasNullable != isNullable {
			c := Change{Rule: "object-nullable", Old: "never null", New: "nullable", Direction: p.strict(!isNullable, isNullable)}
			if wasNullable {
				c.Old, c.New = c.New, c.Old
			}
			d.add(p, b, false, c)
		}
		d.schema(p, a, b)
	}
}

func presence(required bool) string {
	if required {
		return "required "
	}
	return "optional "
}

// required is the direction of a property that must be there from now on, or need not
// be any longer.
func (s site) required(now bool) (Direction, string) {
	direction, do := Compatible, ""
	if s.way&sent != 0 && now || s.way&answered != 0 && !now {
		direction = Clients
	}
	if s.way&answered != 0 && now {
		direction, do = direction.and(Server), "send it always"
	}
	return direction, do
}

// --- strings, numbers, bytes ---

func (d *differ) length(s site, rule string, old, new *source.Value) {
	d.bound(s, rule, "minLength", old, new, false)
	d.bound(s, rule, "maxLength", old, new, true)
	if rule == "string-length" {
		d.bound(s, rule, "minGraphemes", old, new, false)
		d.bound(s, rule, "maxGraphemes", old, new, true)
	}
}

// bound compares a bound, of which more is wider when it is an upper one.
func (d *differ) bound(s site, rule, key string, old, new *source.Value, upper bool) {
	was, is := old.Get(key), new.Get(key)
	if equal(was, is) {
		return
	}
	wider := is == nil || was != nil && (is.Int > was.Int) == upper
	d.change(s, was, is, Change{Rule: rule, What: key, Old: raw(was), New: raw(is), Direction: s.bounds(!wider, wider)})
}

// within are the formats whose every value is one of another format, too.
var within = map[string][]string{
	"did": {"at-identifier", "uri"}, "handle": {"at-identifier"}, "at-uri": {"uri"}, "tid": {"record-key"}, "nsid": {"record-key"},
}

func (d *differ) format(s site, old, new *source.Value) {
	was, is := old.Get("format"), new.Get("format")
	if equal(was, is) {
		return
	}
	narrower := is != nil && (was == nil || !slices.Contains(within[was.Text], is.Text))
	wider := was != nil && (is == nil || !slices.Contains(within[is.Text], was.Text))
	d.change(s, was, is, Change{
		Rule: "string-format", What: "format", Old: raw(was), New: raw(is), Direction: s.strict(narrower, wider),
	})
}

// values compares const, enum and default.
func (d *differ) values(s site, old, new *source.Value) {
	if was, is := old.Get("const"), new.Get("const"); !equal(was, is) {
		d.change(s, was, is, Change{
			Rule: "const-value", What: "const", Old: raw(was), New: raw(is), Direction: s.strict(is != nil, was != nil),
		})
	}
	was, is := old.Get("enum"), new.Get("enum")
	if (was == nil || len(was.Items) == 0) != (is == nil || len(is.Items) == 0) {
		d.change(s, was, is, Change{
			Rule: "enum-values", What: "enum", Old: raw(was), New: raw(is), Direction: s.strict(is != nil && len(is.Items) > 0, is == nil || len(is.Items) == 0),
		})
	} else {
		d.members(s, "enum-values", "enum", "allowed", old, new, s.strict(false, true), s.strict(true, false))
	}
	if was, is := old.Get("default"), new.Get("default"); !equal(was, is) {
		d.change(s, was, is, Change{Rule: "default-value", What: "default", Old: raw(was), New: raw(is), Direction: Compatible})
	}
}

// members compares two lists whose order means nothing.
func (d *differ) members(s site, rule, key, state string, old, new *source.Value, added, removed Direction) {
	has := func(v, item *source.Value) bool {
		return slices.ContainsFunc(list(v, key), func(o *source.Value) bool { return bytes.Equal(o.Raw, item.Raw) })
	}
	for _, item := range list(new, key) {
		if !has(old, item) {
			d.add(s, item, false, Change{Rule: rule, What: key + " " + raw(item), Old: none, New: state, Direction: added})
		}
	}
	for _, item := range list(old, key) {
		if !has(new, item) {
			d.add(s, item, true, Change{Rule: rule, What: key + " " + raw(item), Old: state, New: none, Direction: removed})
		}
	}
}

func (d *differ) known(s site, old, new *source.Value) {
	d.members(s, "known-values", "knownValues", "known", old, new, Compatible, Compatible)
}

func (d *differ) accept(s site, old, new *source.Value) {
	was, is := old.Get("accept"), new.Get("accept")
	a, b := old.Strings("accept"), new.Strings("accept")
	if slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))) {
		return
	}
	all := []string{"*/*"} // what an absent list means
	if len(a) == 0 {
		a = all
	}
	if len(b) == 0 {
		b = all
	}
	narrower, wider := sets(a, b, covers)
	d.change(s, was, is, Change{Rule: "blob-accept", What: "accept", Old: raw(was), New: raw(is), Direction: s.bounds(narrower, wider)})
}

// --- refs and unions ---

func (d *differ) union(s site, old, new *source.Value) {
	closed := func(v *source.Value) bool { c := v.Get("closed"); return c != nil && string(c.Raw) == "true" }
	was, is := closed(old), closed(new)
	if was != is {
		c := Change{Rule: "union-open-closed", What: "union", Old: "open", New: "closed", Direction: s.strict(is, was), covers: []string{"union-closed-refs"}}
		if was {
			c.Old, c.New = c.New, c.Old
		}
		d.add(s, new, false, c)
	}
	find := func(doc *source.Document, v *source.Value, ref string) bool {
		return slices.ContainsFunc(list(v, "refs"), func(o *source.Value) bool { return full(doc, o.Text) == ref })
	}
	rule := "union-open-refs"
	added, removed := Compatible, Server // an open union lets through what it does not list
	if was && is {
		rule, added, removed = "union-closed-refs", s.strict(false, true), s.strict(true, false)
	}
	before := len(d.changes)
	for _, r := range list(new, "refs") {
		if ref := full(s.new, r.Text); !find(s.old, old, ref) {
			d.add(s, r, false, Change{Rule: rule, What: "variant " + ref, Old: none, New: "listed", Direction: added})
		}
	}
	for _, r := range list(old, "refs") {
		if ref := full(s.old, r.Text); !find(s.new, new, ref) {
			d.add(s, r, true, Change{Rule: rule, What: "variant " + ref, Old: "listed", New: none, Direction: removed})
		}
	}
	if refs := new.Get("refs"); before == len(d.changes) && !equal(old.Get("refs"), refs) {
		c := Change{Rule: rule, What: "refs", Direction: Text}
		c.Old, c.New = apart(old.Get("refs"), refs)
		d.add(s, refs, false, c)
	}
}

// ref compares two refs. When they lead to one definition, that is compared where it
// stands; otherwise what they lead to decides.
func (d *differ) ref(s site, old, new *source.Value) {
	a, b := full(s.old, old.String("ref")), full(s.new, new.String("ref"))
	if a == b {
		if old.String("ref") != new.String("ref") { // lexlint compares the text
			d.add(s, new.Get("ref"), false, Change{Rule: "ref-change", What: "ref", Old: raw(old.Get("ref")), New: raw(new.Get("ref")), Direction: Text})
		}
		return
	}
	was, is := d.old.target(s.old, old.String("ref")), d.new.target(s.new, new.String("ref"))
	c := Change{Rule: "ref-change", What: "ref", Old: a, New: b}
	c.Direction, c.Note = d.shapes(s, was, is)
	d.add(s, new.Get("ref"), false, c)
}

// inlined compares a ref with a schema that stands in its place.
func (d *differ) inlined(s site, old, new *source.Value) {
	c := Change{Rule: "type-change", What: "type", Old: old.String("type"), New: new.String("type")}
	a, b := &source.Def{Doc: s.old, Name: s.id, Node: old}, &source.Def{Doc: s.new, Name: s.id, Node: new}
	if r := old.Get("ref"); r != nil {
		c.Old += " " + full(s.old, r.Text)
		a = d.old.target(s.old, r.Text)
	}
	if r := new.Get("ref"); r != nil {
		c.New += " " + full(s.new, r.Text)
		b = d.new.target(s.new, r.Text)
	}
	c.Direction, c.Note = d.shapes(s, a, b)
	c.Direction = c.Direction.and(Server) // the Go type is another one
	d.add(s, new, false, c)
}

// shapes is the direction of a change from the values of one definition to those of
// another, and how they differ.
func (d *differ) shapes(s site, was, is *source.Def) (Direction, string) {
	if was == nil || is == nil {
		return Both, ""
	}
	pair := [2]string{was.Doc.NSID + was.Node.Pointer, is.Doc.NSID + is.Node.Pointer}
	if d.compared[pair] {
		return Compatible, "" // a recursion that is being compared already
	}
	inner := &differ{options: d.options, old: d.old, new: d.new, reach: d.reach, compared: map[[2]string]bool{pair: true}}
	for p := range d.compared {
		inner.compared[p] = true
	}
	inner.schema(site{old: was.Doc, new: is.Doc, id: s.id, typ: s.typ, way: s.way}, was.Node, is.Node)
	direction := Compatible
	var differences []string
	for _, c := range inner.changes {
		if c.Direction == Text {
			continue
		}
		direction = direction.and(c.Direction)
		differences = append(differences, c.String())
	}
	switch n := len(differences); {
	case n == 0:
		return direction, "the two have one shape"
	case n > 3:
		differences = append(differences[:3], fmt.Sprintf("and %d more", n-3))
	}
	return direction, "differs in " + strings.Join(differences, "; ")
}
