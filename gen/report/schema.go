package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"portico/gen/model"
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
		rule := s.rule("type-changed")
		if isMethod(was) || isMethod(is) {
			rule = "method-kind-changed"
		}
		d.add(s, new, false, Change{Rule: rule, What: "type", Old: was, New: is, claims: all(old)})
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
		d.length(s, old, new)
		d.schema(s.at("[]"), old.Get("items"), new.Get("items"))
	case "bytes":
		d.length(s, old, new)
	case "string":
		d.format(s, old, new)
		d.length(s, old, new)
		d.values(s, old, new)
		d.known(s, old, new)
	case "integer":
		d.bound(s, "range", "minimum", old, new, false)
		d.bound(s, "range", "maximum", old, new, true)
		d.values(s, old, new)
	case "boolean":
		d.values(s, old, new)
	case "blob":
		d.accept(s, old, new)
		d.bound(s, "size", "maxSize", old, new, true)
	case "union":
		d.union(s, old, new)
	case "ref":
		d.ref(s, old, new)
	}
	d.text(s, "description", old, new)
	d.extensions(s, old, new)
}

// typeOf are the names that have the type of what stands at old.
func typeOf(old *source.Value) []claim { return []claim{{node: old, kinds: typeKinds}} }

// all are the names that are made of what stands at old.
func all(old *source.Value) []claim { return []claim{{node: old, below: true}} }

// constants are those for the values of old.
func constants(old *source.Value) []claim {
	return []claim{{node: old, below: true, kinds: model.ShownConst}}
}

// signature is the method that s is in.
func (s site) signature() claim { return claim{node: s.main, kinds: model.ShownMethod} }

// text compares a member that is for people only.
func (d *differ) text(s site, key string, old, new *source.Value) {
	was, is := old.Get(key), new.Get(key)
	if equal(was, is) {
		return
	}
	c := Change{Rule: "text-changed", What: key}
	c.Old, c.New = apart(was, is)
	if is != nil && strings.HasPrefix(strings.ToLower(is.Text), "deprecated") &&
		(was == nil || !strings.HasPrefix(strings.ToLower(was.Text), "deprecated")) {
		c.Rule, c.Note = "deprecated", "stop using it"
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
				d.change(s, was, is, Change{Rule: "extension-changed", What: key, Old: raw(was), New: raw(is)})
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
	if equal(old, new) {
		return
	}
	covers := func(a, b string) bool { return a == b || a == "any" }
	narrower, wider := sets([]string{old.Text}, []string{new.Text}, covers)
	d.add(s, new, false, Change{Rule: "record-key" + manner(narrower, wider), What: "key", Old: raw(old), New: raw(new)})
}

func (d *differ) methodParts(s site, old, new *source.Value) {
	params := s.at("params").going(sent)
	switch was, is := old.Get("parameters"), new.Get("parameters"); {
	case was == nil && is == nil:
	case was == nil:
		c := Change{Rule: "params-added", Old: none, New: "params", Note: "take the parameters", claims: []claim{s.signature()}}
		if len(is.Strings("required")) > 0 {
			c.Rule, c.New = "required-params-added", "params with required ones"
		}
		d.add(params, is, false, c)
	case is == nil:
		d.add(params, was, true, Change{Rule: "params-removed", Old: "params", New: none, claims: append(all(was), s.signature())})
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
		c := Change{Rule: key + "-added", Old: none, New: is.String("encoding"), Note: "read it", claims: []claim{s.signature()}}
		if key == "output" {
			c.Note = "send it"
		}
		d.add(s, is, false, c)
		return
	case is == nil:
		d.add(s, was, true, Change{Rule: key + "-removed", Old: was.String("encoding"), New: none, claims: append(all(was), s.signature())})
		return
	}
	if a, b := was.String("encoding"), is.String("encoding"); a != b {
		narrower, wider := sets(split(a), split(b), covers)
		c := Change{
			Rule: "notation-changed", What: "encoding", Old: raw(was.Get("encoding")), New: raw(is.Get("encoding")),
			claims: append(all(was), s.signature()),
		}
		if narrower || wider {
			c.Rule = s.rule("encoding" + manner(narrower, wider))
		}
		d.add(s, is.Get("encoding"), false, c)
	}
	d.text(s, "description", was, is)
	switch a, b := was.Get("schema"), is.Get("schema"); {
	case a != nil && b != nil:
		d.schema(s, a, b)
	case a != nil:
		d.add(s, a, true, Change{
			Rule: s.rule("schema-removed"), What: "schema", Old: a.String("type"), New: none, claims: append(all(was), s.signature()),
		})
	case b != nil:
		d.add(s, b, false, Change{
			Rule: s.rule("schema-added"), What: "schema", Old: none, New: b.String("type"), claims: append(all(was), s.signature()),
		})
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
			d.add(s, e, false, Change{Rule: "error-added", What: "error " + name, Old: none, New: "declared"})
		} else {
			before := len(d.changes)
			d.text(s, "description", was, e)
			for i := range d.changes[before:] {
				d.changes[before+i].What = "description of error " + name
			}
		}
	}
	for _, e := range list(old, "errors") {
		if name := e.String("name"); find(new, name) == nil {
			d.add(s, e, true, Change{
				Rule: "error-removed", What: "error " + name, Old: "declared", New: none, Note: "stop answering it", claims: all(e),
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
			d.add(s, p, false, Change{Rule: "permission-added", What: "permission", Old: none, New: raw(p)})
		}
	}
	for _, p := range list(old, "permissions") {
		if !has(new, p) {
			d.add(s, p, true, Change{Rule: "permission-removed", What: "permission", Old: raw(p), New: none})
		}
	}
}

// --- objects ---

func (d *differ) properties(s site, old, new *source.Value) {
	was, is := old.Get("properties"), new.Get("properties")
	params := new.String("type") == "params"
	for _, key := range merged(is.Keys(), was.Keys()) {
		a, b := was.Get(key), is.Get(key)
		p := s.at(key)
		wasRequired := slices.Contains(old.Strings("required"), key)
		isRequired := slices.Contains(new.Strings("required"), key)
		switch {
		case a == nil:
			c := Change{Rule: "property-added", Old: none, New: presence(isRequired) + kind(s.new, b)}
			if isRequired {
				c.Rule = s.rule("required-property-added")
				c.Note = s.always()
			}
			if params && len(was.Keys()) == 0 {
				c.claims = []claim{s.signature()} // the first one
			}
			d.add(p, b, false, c)
			continue
		case b == nil:
			c := Change{Rule: "property-removed", Old: presence(wasRequired) + kind(s.old, a), New: none, claims: all(a)}
			if wasRequired {
				c.Rule = s.rule("required-property-removed")
			}
			if params && len(is.Keys()) == 0 {
				c.claims = append(all(old), s.signature()) // the last one
			}
			d.add(p, a, true, c)
			continue
		case wasRequired != isRequired:
			c := Change{
				Rule: s.rule("property-optional"), Old: strings.TrimSpace(presence(wasRequired)), New: strings.TrimSpace(presence(isRequired)),
				claims: field(a),
			}
			if isRequired {
				c.Rule, c.Note = s.rule("property-required"), s.always()
			}
			d.add(p, b, false, c)
		}
		wasNullable := slices.Contains(old.Strings("nullable"), key)
		isNullable := slices.Contains(new.Strings("nullable"), key)
		if wasNullable != isNullable {
			c := Change{Rule: s.rule("property-nullable"), Old: "never null", New: "nullable", claims: field(a)}
			if wasNullable {
				c.Rule, c.Old, c.New = s.rule("property-not-nullable"), c.New, c.Old
			}
			d.add(p, b, false, c)
		}
		d.schema(p, a, b)
	}
}

// field is the field of a property.
func field(property *source.Value) []claim {
	return []claim{{node: property, kinds: model.ShownField}}
}

func presence(required bool) string {
	if required {
		return "required "
	}
	return "optional "
}

// always is what to do about a property that must be there from now on.
func (s site) always() string {
	if s.way&answered != 0 {
		return "send it always"
	}
	return ""
}

// --- strings, numbers, bytes ---

func (d *differ) length(s site, old, new *source.Value) {
	d.bound(s, "length", "minLength", old, new, false)
	d.bound(s, "length", "maxLength", old, new, true)
	d.bound(s, "length", "minGraphemes", old, new, false)
	d.bound(s, "length", "maxGraphemes", old, new, true)
}

// bound compares a bound, of which more is wider when it is an upper one.
func (d *differ) bound(s site, rule, key string, old, new *source.Value, upper bool) {
	was, is := old.Get(key), new.Get(key)
	if equal(was, is) {
		return
	}
	wider := is == nil || was != nil && (is.Int > was.Int) == upper
	d.change(s, was, is, Change{Rule: s.rule(rule + manner(!wider, wider)), What: key, Old: raw(was), New: raw(is)})
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
		Rule: s.rule("format" + manner(narrower, wider)), What: "format", Old: raw(was), New: raw(is), claims: typeOf(old),
	})
}

// values compares const, enum and default.
func (d *differ) values(s site, old, new *source.Value) {
	if was, is := old.Get("const"), new.Get("const"); !equal(was, is) {
		d.change(s, was, is, Change{Rule: s.rule("const" + cameOrWent(was, is)), What: "const", Old: raw(was), New: raw(is)})
	}
	was, is := old.Get("enum"), new.Get("enum")
	if wasThere, isThere := was != nil && len(was.Items) > 0, is != nil && len(is.Items) > 0; wasThere != isThere {
		d.change(s, was, is, Change{
			Rule: s.rule("enum" + manner(isThere, wasThere)), What: "enum", Old: raw(was), New: raw(is), claims: constants(old),
		})
	} else {
		d.members(s, s.rule("enum-wider"), s.rule("enum-narrower"), "enum", "allowed", old, new)
	}
	if was, is := old.Get("default"), new.Get("default"); !equal(was, is) {
		d.change(s, was, is, Change{Rule: "default" + cameOrWent(was, is), What: "default", Old: raw(was), New: raw(is), claims: field(old)})
	}
}

// cameOrWent is the ending of the rule for a member that came, went, or is another.
func cameOrWent(was, is *source.Value) string {
	switch {
	case was == nil:
		return "-added"
	case is == nil:
		return "-removed"
	}
	return "-changed"
}

// members compares two lists whose order means nothing.
func (d *differ) members(s site, added, removed, key, state string, old, new *source.Value) {
	has := func(v, item *source.Value) bool {
		return slices.ContainsFunc(list(v, key), func(o *source.Value) bool { return bytes.Equal(o.Raw, item.Raw) })
	}
	for _, item := range list(new, key) {
		if !has(old, item) {
			d.add(s, item, false, Change{Rule: added, What: key + " " + raw(item), Old: none, New: state})
		}
	}
	for _, item := range list(old, key) {
		if !has(new, item) {
			d.add(s, item, true, Change{Rule: removed, What: key + " " + raw(item), Old: state, New: none, claims: constants(item)})
		}
	}
}

func (d *differ) known(s site, old, new *source.Value) {
	d.members(s, "known-value-added", "known-value-removed", "knownValues", "known", old, new)
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
	c := Change{Rule: "notation-changed", What: "accept", Old: raw(was), New: raw(is)}
	if narrower, wider := sets(a, b, covers); narrower || wider {
		c.Rule = s.rule("accept" + manner(narrower, wider))
	}
	d.change(s, was, is, c)
}

// --- refs and unions ---

func (d *differ) union(s site, old, new *source.Value) {
	closed := func(v *source.Value) bool { c := v.Get("closed"); return c != nil && string(c.Raw) == "true" }
	was, is := closed(old), closed(new)
	if was != is {
		c := Change{
			Rule: s.rule("union-closed"), What: "union", Old: "open", New: "closed",
			claims: []claim{{node: old, kinds: model.ShownVariant, only: []string{""}}},
		}
		if was {
			c.Rule, c.Old, c.New = s.rule("union-opened"), c.New, c.Old
		}
		d.add(s, new, false, c)
	}
	find := func(doc *source.Document, v *source.Value, ref string) bool {
		return slices.ContainsFunc(list(v, "refs"), func(o *source.Value) bool { return full(doc, o.Text) == ref })
	}
	added, removed := "variant-added", "variant-removed" // an open union lets through what it does not list
	if was && is {
		added, removed = s.rule("closed-variant-added"), s.rule("closed-variant-removed")
	}
	before := len(d.changes)
	for _, r := range list(new, "refs") {
		if ref := full(s.new, r.Text); !find(s.old, old, ref) {
			// With its first variant, a union is a type of its own.
			d.add(s, r, false, Change{Rule: added, What: "variant " + ref, Old: none, New: "listed", claims: typeOf(old)})
		}
	}
	for _, r := range list(old, "refs") {
		if ref := full(s.old, r.Text); !find(s.new, new, ref) {
			variant := claim{node: old, kinds: model.ShownVariant, only: d.leaves(s.old, r.Text, []string{})}
			d.add(s, r, true, Change{Rule: removed, What: "variant " + ref, Old: "listed", New: none, claims: append(typeOf(old), variant)})
		}
	}
	if refs := new.Get("refs"); before == len(d.changes) && !equal(old.Get("refs"), refs) {
		c := Change{Rule: "notation-changed", What: "refs"}
		c.Old, c.New = apart(old.Get("refs"), refs)
		d.add(s, refs, false, c)
	}
}

// leaves are the variants that ref in the old document doc is or, when it leads to a union,
// has; besides those of seen.
func (d *differ) leaves(doc *source.Document, ref string, seen []string) []string {
	def := d.old.target(doc, ref)
	if def == nil || slices.Contains(seen, def.ID()) {
		return seen
	}
	seen = append(seen, def.ID())
	if def.Node.String("type") == "union" {
		for _, r := range def.Node.Strings("refs") {
			seen = d.leaves(def.Doc, r, seen)
		}
	}
	return seen
}

// ref compares two refs. When they lead to one definition, that is compared where it
// stands; otherwise what they lead to decides.
func (d *differ) ref(s site, old, new *source.Value) {
	a, b := full(s.old, old.String("ref")), full(s.new, new.String("ref"))
	if a == b {
		if old.String("ref") != new.String("ref") { // lexlint compares the text
			d.add(s, new.Get("ref"), false, Change{Rule: "notation-changed", What: "ref", Old: raw(old.Get("ref")), New: raw(new.Get("ref"))})
		}
		return
	}
	was, is := d.old.target(s.old, old.String("ref")), d.new.target(s.new, new.String("ref"))
	c := Change{Rule: "ref-changed", What: "ref", Old: a, New: b, claims: typeOf(old)}
	c.Direction, c.Note = d.shapes(s, was, is)
	d.add(s, new.Get("ref"), false, c)
}

// inlined compares a ref with a schema that stands in its place.
func (d *differ) inlined(s site, old, new *source.Value) {
	c := Change{Rule: "ref-inlined", What: "type", Old: old.String("type"), New: new.String("type"), claims: all(old)}
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
	inner := &differ{old: d.old, new: d.new, reach: d.reach, compared: map[[2]string]bool{pair: true}}
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
