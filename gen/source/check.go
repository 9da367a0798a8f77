package source

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// shape says which keys a schema of one type may have and what they hold.
type shape struct {
	keys     map[string]any // a Kind, or the name of what stands there (see holds)
	required []string
}

// primary are the types that only the main definition can have.
var primary = []string{"record", "query", "procedure", "subscription", "permission-set"}

// definable are the types that a definition can have; fields are those that a
// property or an array element can have.
var (
	definable = []string{
		"record", "query", "procedure", "subscription", "permission-set",
		"object", "array", "string", "integer", "boolean", "bytes", "cid-link", "blob",
		"token", "union", "ref", "unknown",
	}
	fields = []string{"object", "array", "string", "integer", "boolean", "bytes", "cid-link", "blob", "union", "ref", "unknown"}
	params = []string{"array", "string", "integer", "boolean"}
)

func keys(required string, more map[string]any) shape {
	all := map[string]any{"type": String, "description": String}
	maps.Copy(all, more)
	return shape{all, strings.Fields(required)}
}

var shapes = map[string]shape{
	"record":       keys("key record", map[string]any{"key": String, "record": "object"}),
	"query":        keys("", map[string]any{"parameters": "params", "output": "body", "errors": "errors"}),
	"procedure":    keys("", map[string]any{"parameters": "params", "input": "body", "output": "body", "errors": "errors"}),
	"subscription": keys("message", map[string]any{"parameters": "params", "message": "message", "errors": "errors"}),
	"permission-set": keys("permissions", map[string]any{
		"title": String, "title:lang": Object, "detail": String, "detail:lang": Object, "permissions": "permissions",
	}),
	"permission": keys("resource", map[string]any{
		"resource": String, "collection": "strings", "action": "strings", "lxm": "strings", "aud": String, "inheritAud": Boolean,
	}),
	"params": keys("", map[string]any{"properties": "params", "required": "strings"}),
	"object": keys("", map[string]any{"properties": "fields", "required": "strings", "nullable": "strings"}),
	"array":  keys("items", map[string]any{"items": "field", "minLength": Integer, "maxLength": Integer}),
	"string": keys("", map[string]any{
		"format": String, "minLength": Integer, "maxLength": Integer, "minGraphemes": Integer, "maxGraphemes": Integer,
		"knownValues": "strings", "enum": "strings", "default": String, "const": String,
	}),
	"integer": keys("", map[string]any{
		"minimum": Integer, "maximum": Integer, "enum": "integers", "default": Integer, "const": Integer,
	}),
	"boolean":  keys("", map[string]any{"default": Boolean, "const": Boolean}),
	"bytes":    keys("", map[string]any{"minLength": Integer, "maxLength": Integer}),
	"cid-link": keys("", nil),
	"blob":     keys("", map[string]any{"accept": "strings", "maxSize": Integer}),
	"token":    keys("", nil),
	"ref":      keys("ref", map[string]any{"ref": String}),
	"union":    keys("refs", map[string]any{"refs": "strings", "closed": Boolean}),
	"unknown":  keys("", nil),
	// What follows has no type of its own in a document.
	"body":    {map[string]any{"description": String, "encoding": String, "schema": "field"}, []string{"encoding"}},
	"message": {map[string]any{"description": String, "schema": "field"}, []string{"schema"}},
	"error":   {map[string]any{"name": String, "description": String}, []string{"name"}},
	"document": {map[string]any{
		"lexicon": Integer, "id": String, "revision": Integer, "description": String, "defs": Object, "$type": String,
	}, []string{"lexicon", "id", "defs"}},
}

type checker struct {
	doc      *Document
	problems *Problems
}

// check finds everything that is wrong with the shape of the document: what passes
// can be decoded.
func (d *Document) check(problems *Problems) {
	c := checker{d, problems}
	if d.root.Kind != Object {
		problems.Add(d, d.root, `a lexicon is an object, not %s; write {"lexicon": 1, "id": …, "defs": …}`, d.root.Kind)
		return
	}
	c.keys(d.root, "document")
	if v := d.root.Get("lexicon"); v != nil && v.Kind == Integer && v.Int != 1 {
		problems.Add(d, v, "unsupported lexicon language version %d; only 1 is known, so leave the document out", v.Int)
	}
	if v := d.root.Get("id"); v != nil && v.Kind == String && !validNSID(v.Text) {
		problems.Add(d, v, "%q is not an NSID; write it as com.example.name", v.Text)
	} else if v != nil && v.Kind == String {
		d.NSID = v.Text
	}
	defs := d.root.Get("defs")
	if defs == nil || defs.Kind != Object {
		return
	}
	c.duplicates(defs)
	for _, m := range defs.Members {
		if m.Key == "" || strings.ContainsAny(m.Key, "#.") {
			problems.Add(d, m.Value, "%q cannot be the name of a definition; give it one without # and dots", m.Key)
		}
		typ := m.Value.String("type")
		if m.Value.Kind == Object && typ != "" && !slices.Contains(definable, typ) && shapes[typ].keys == nil && Closest(typ, definable) == "" {
			problems.Warn(d, m.Value, "a definition of type %q is nothing this generator knows; left out", typ)
			continue
		}
		c.schema(m.Value, definable)
		if m.Value.Kind == Object && m.Key != "main" && slices.Contains(primary, typ) {
			c.problems.Add(d, m.Value.Get("type"), "a %s can only be the main definition; move it to a document of its own", typ)
		}
	}
}

// schema checks one schema, whose type must be among allowed.
func (c checker) schema(v *Value, allowed []string) {
	if v.Kind != Object {
		c.problems.Add(c.doc, v, `a schema is an object, not %s; write {"type": …}`, v.Kind)
		return
	}
	t := v.Get("type")
	switch {
	case t == nil:
		c.problems.Add(c.doc, v, "the schema has no type; one of %s is due", strings.Join(allowed, ", "))
		return
	case t.Kind != String:
		c.problems.Add(c.doc, t, "the type of a schema is a string, not %s; write \"string\" or another name", t.Kind)
		return
	case !slices.Contains(allowed, t.Text):
		if shapes[t.Text].required == nil && shapes[t.Text].keys == nil {
			hint := cmp.Or(DidYouMean(t.Text, allowed), "; one of "+strings.Join(allowed, ", ")+" is due")
			c.problems.Add(c.doc, t, "unknown type %q%s", t.Text, hint)
		} else {
			c.problems.Add(c.doc, t, "a schema of type %q cannot stand here; one of %s can", t.Text, strings.Join(allowed, ", "))
		}
		return
	}
	c.keys(v, t.Text)
	switch t.Text {
	case "object", "params":
		c.properties(v)
	case "string":
		c.format(v)
		c.twice(v.Get("knownValues"))
		c.values(v, String)
	case "integer":
		c.values(v, Integer)
	case "boolean":
		c.values(v, Boolean)
	case "record":
		if key := v.Get("key"); key != nil && key.Kind == String && !validKey(key.Text) {
			c.problems.Add(c.doc, key, "%q is no kind of record key; tid, nsid, any and literal:… are", key.Text)
		}
	case "blob":
		c.twice(v.Get("accept"))
		if n := v.Get("maxSize"); n != nil && n.Kind == Integer && n.Int <= 0 {
			c.problems.Add(c.doc, n, "no blob has a maxSize of %d; leave it out or make it 1 at least", n.Int)
		}
	case "union":
		refs, closed := v.Get("refs"), v.Get("closed")
		c.twice(refs)
		if refs != nil && len(refs.Items) == 0 && closed != nil && string(closed.Raw) == "true" {
			c.problems.Add(c.doc, closed, "a closed union of nothing has no values; add refs, or leave closed out")
		}
	}
	c.bounds(v, "minLength", "maxLength")
	c.bounds(v, "minGraphemes", "maxGraphemes")
	c.bounds(v, "minimum", "maximum")
	// A grapheme is a byte at least, but a byte need not be a grapheme.
	c.ordered(v, "minGraphemes", "maxLength")
}

func validKey(key string) bool {
	return slices.Contains([]string{"tid", "nsid", "any"}, key) || strings.HasPrefix(key, "literal:")
}

func (c checker) duplicates(v *Value) {
	seen := map[string]bool{}
	for _, m := range v.Members {
		if seen[m.Key] {
			c.problems.Add(c.doc, m.key(), "%q appears twice in one object; remove one", m.Key)
		}
		seen[m.Key] = true
	}
}

// keys checks the members of v against the shape called name, and what is below them.
func (c checker) keys(v *Value, name string) {
	s := shapes[name]
	c.duplicates(v)
	for _, key := range s.required {
		if v.Get(key) == nil {
			c.problems.Add(c.doc, v, "%q is missing; add it", key)
		}
	}
	known := slices.Sorted(maps.Keys(s.keys))
	for _, m := range v.Members {
		want, ok := s.keys[m.Key]
		if !ok {
			// A slip of the pen would drop a constraint in silence. Anything else is
			// an extension, which the language allows. Texts constrain nothing, and
			// permission sets make nothing.
			if near := Closest(m.Key, known); near != "" && !prose(m.Key) && !strings.HasPrefix(name, "permission") {
				c.problems.Add(c.doc, m.key(), "unknown key %q (did you mean %q?)", m.Key, near)
			} else {
				c.problems.Warn(c.doc, m.key(), "unknown key %q", m.Key)
			}
			continue
		}
		c.holds(m.Key, m.Value, want)
	}
}

// prose tells whether a key is a text for people in one of several languages.
func prose(key string) bool {
	base, _, ok := strings.Cut(key, ":")
	return ok && slices.Contains([]string{"title", "detail", "description", "name"}, base)
}

func (c checker) holds(key string, v *Value, want any) {
	kind := func(k Kind) bool {
		if v.Kind != k {
			c.problems.Add(c.doc, v, "%q is %s, not %s; write %[2]s", key, k, v.Kind)
		}
		return v.Kind == k
	}
	list := func(k Kind) {
		if !kind(Array) {
			return
		}
		for _, item := range v.Items {
			if item.Kind != k {
				c.problems.Add(c.doc, item, "an element of %q is %s, not %s; write %[2]s", key, k, item.Kind)
			}
		}
	}
	switch want := want.(type) {
	case Kind:
		kind(want)
	case string:
		switch want {
		case "strings":
			list(String)
		case "integers":
			list(Integer)
		case "object":
			c.schema(v, []string{"object"})
		case "params":
			if key == "properties" {
				c.schemas(key, v, params)
			} else {
				c.schema(v, []string{"params"})
			}
		case "fields":
			c.schemas(key, v, fields)
		case "field":
			c.schema(v, fields)
		case "body", "message":
			if kind(Object) {
				c.keys(v, want)
			}
		case "errors":
			if kind(Array) {
				c.errors(v)
			}
		case "permissions":
			if kind(Array) {
				for _, item := range v.Items {
					c.schema(item, []string{"permission"})
				}
			}
		}
	}
}

func (c checker) schemas(key string, v *Value, allowed []string) {
	if v.Kind != Object {
		c.problems.Add(c.doc, v, "%q is an object, not %s; write {…}", key, v.Kind)
		return
	}
	c.duplicates(v)
	for _, m := range v.Members {
		if m.Key == "" {
			c.problems.Add(c.doc, m.key(), "a property needs a name; give it one or remove it")
		}
		c.schema(m.Value, allowed)
		if m.Value.Kind == Object && m.Value.String("type") == "array" && slices.Equal(allowed, params) {
			if items := m.Value.Get("items"); items != nil && items.Kind == Object && slices.Contains(fields, items.String("type")) {
				if t := items.String("type"); t == "array" || !slices.Contains(params, t) {
					c.problems.Add(c.doc, items, "a list of parameters cannot hold %q; strings, integers and booleans it can", t)
				}
			}
		}
	}
}

func (c checker) errors(v *Value) {
	seen := map[string]bool{}
	for _, item := range v.Items {
		if item.Kind != Object {
			c.problems.Add(c.doc, item, `an error is an object, not %s; write {"name": …}`, item.Kind)
			continue
		}
		c.keys(item, "error")
		name := item.Get("name")
		if name == nil || name.Kind != String {
			continue
		}
		if name.Text == "" || strings.ContainsAny(name.Text, " \t\n") {
			c.problems.Add(c.doc, name, "%q cannot be the name of an error; write it as one word, like SoldOut", name.Text)
		}
		if seen[name.Text] {
			c.problems.Add(c.doc, name, "error %q is declared twice; remove one", name.Text)
		}
		seen[name.Text] = true
	}
}

func (c checker) properties(v *Value) {
	names := v.Get("properties").Keys()
	for _, key := range []string{"required", "nullable"} {
		list := v.Get(key)
		if list == nil {
			continue
		}
		for _, item := range list.Items {
			if item.Kind == String && !slices.Contains(names, item.Text) {
				c.problems.Add(c.doc, item, "%q is no property of this object%s", item.Text, cmp.Or(DidYouMean(item.Text, names), "; define it or take it off the list"))
			}
		}
		c.twice(list)
	}
}

func (c checker) format(v *Value) {
	f := v.Get("format")
	if f == nil || f.Kind != String || formats[f.Text] != nil {
		return
	}
	if hint := DidYouMean(f.Text, slices.Sorted(maps.Keys(formats))); hint != "" {
		c.problems.Add(c.doc, f, "unknown format %q%s", f.Text, hint)
	} else {
		c.problems.Warn(c.doc, f, "unknown format %q; any string will do", f.Text)
	}
}

func (c checker) bounds(v *Value, low, high string) {
	for _, key := range []string{low, high} {
		if b := v.Get(key); b != nil && b.Kind == Integer && b.Int < 0 && low != "minimum" {
			c.problems.Add(c.doc, b, "a length cannot be negative; leave it out or make it 0 at least")
		}
	}
	c.ordered(v, low, high)
}

func (c checker) ordered(v *Value, low, high string) {
	l, h := v.Get(low), v.Get(high)
	if l != nil && h != nil && l.Kind == Integer && h.Kind == Integer && h.Int < l.Int {
		c.problems.Add(c.doc, h, "%s %d is below %s %d; change one of them", high, h.Int, low, l.Int)
	}
}
