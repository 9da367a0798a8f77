package gen_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"portico/gen"
	"portico/gen/model"
	"portico/gen/source"
)

// synthesis makes values from documents, not from the model: what the model dropped
// would be missing in both otherwise.
type synthesis struct {
	t       *testing.T
	docs    map[string]*source.Document
	types   map[string]string // what the comment of a type says it is → "import/path.Type"
	rand    *rand.Rand
	samples []sample

	bad   []broken
	refs  int // how many refs deep the value is that is being made
	quiet int // above zero, nothing is broken
}

// broken is a mutation in the making: the value at path is replaced, or taken out.
type broken struct {
	what  string
	path  []any
	value any
	out   bool
}

func newSynthesis(t *testing.T, r *gen.Result) *synthesis {
	y := &synthesis{t: t, docs: map[string]*source.Document{}, types: map[string]string{}, rand: rand.New(rand.NewPCG(7, 7))}
	for _, d := range r.Documents {
		y.docs[d.NSID] = d
	}
	for _, p := range r.Packages {
		for _, f := range p.Files {
			for _, d := range f.Decls {
				var name string
				var doc []string
				switch d := d.(type) {
				case *model.Struct:
					name, doc = d.Name, d.Doc
				case *model.Union:
					name, doc = d.Name, d.Doc
				case *model.Params:
					name, doc = d.Name, d.Doc
				default:
					continue
				}
				y.types[strings.TrimPrefix(doc[0], name+" ")] = p.Import + "." + name
			}
		}
	}
	return y
}

// definition makes the samples of one definition.
func (y *synthesis) definition(def *source.Def) {
	n, id := def.Node, def.ID()
	switch n.String("type") {
	case "object", "union":
		y.sample(def, n, "is "+id+".", id, true)
	case "record":
		y.sample(def, n, "is a record of the collection "+id+".", id, true)
	case "query", "procedure":
		y.sample(def, n.Get("parameters"), "are the parameters of "+id+".", id+" params", false)
		for _, part := range [][2]string{{"input", "request"}, {"output", "response"}} {
			key, what := part[0], part[1]
			if body := n.Get(key); body.String("encoding") == "application/json" { // others are streams
				y.sample(def, body.Get("schema"), "is the body of a "+id+" "+what+".", id+" "+key, true)
			}
		}
	case "subscription":
		y.sample(def, n.Get("parameters"), "are the parameters of "+id+".", id+" params", false)
		y.sample(def, n.Get("message").Get("schema"), "is a message of the subscription "+id+".", id+" message", true)
	}
}

func (y *synthesis) sample(def *source.Def, n *source.Value, is, id string, roundTrip bool) {
	if n == nil || n.String("type") == "ref" || len(n.Get("properties").Keys()) == 0 && n.String("type") == "params" ||
		n.String("type") == "union" && len(n.Strings("refs")) == 0 {
		return // nothing of its own
	}
	typ := y.types[is]
	if typ == "" {
		y.t.Errorf("%s: no type %s", id, is)
		return
	}
	for range 2 {
		y.bad, y.refs, y.quiet = nil, 0, 0
		s := sample{Type: typ, ID: id, Value: y.value(def.Doc, n, nil), RoundTrip: roundTrip}
		for _, b := range y.bad {
			s.Bad = append(s.Bad, mutation{b.what, pathOf(b), mutated(s.Value, b.path, b)})
		}
		y.samples = append(y.samples, s)
	}
}

// pathOf is where the table must find b: the object that lacks a property, else the
// value itself.
func pathOf(b broken) string {
	parts := b.path
	if b.out {
		parts = parts[:len(parts)-1]
	}
	path := "$"
	for _, part := range parts {
		switch part := part.(type) {
		case int:
			path += fmt.Sprintf("[%d]", part)
		case string:
			if strings.Trim(part, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") == "" && part[0] > '9' || part == "$type" {
				path += "." + part
			} else {
				path += "[" + strconv.Quote(part) + "]"
			}
		}
	}
	return path
}

// mutated is a copy of v in which b is done.
func mutated(v any, path []any, b broken) any {
	if len(path) == 0 {
		return b.value
	}
	switch part := path[0].(type) {
	case int:
		c := slices.Clone(v.([]any))
		c[part] = mutated(c[part], path[1:], b)
		return c
	case string:
		c := maps.Clone(v.(map[string]any))
		if len(path) == 1 && b.out {
			delete(c, part)
		} else {
			c[part] = mutated(c[part], path[1:], b)
		}
		return c
	}
	panic("a path has names and indices")
}

func (y *synthesis) mutate(what string, path []any, v any) {
	if y.quiet == 0 {
		y.bad = append(y.bad, broken{what: what, path: slices.Clone(path), value: v})
	}
}

// value makes a value of the schema n, which stands at path of the sample.
func (y *synthesis) value(doc *source.Document, n *source.Value, path []any) any {
	bound := func(key string) (int64, bool) {
		if v := n.Get(key); v != nil {
			return v.Int, true
		}
		return 0, false
	}
	switch typ := n.String("type"); typ {
	case "boolean":
		y.mutate("type", path, "true")
		if c := n.Get("const"); c != nil {
			yes := string(c.Raw) == "true"
			y.mutate("const", path, !yes)
			return yes
		}
		return y.rand.IntN(2) == 0
	case "integer":
		y.mutate("type", path, 1.5)
		v := int64(y.rand.IntN(100))
		if low, ok := bound("minimum"); ok {
			y.mutate("minimum", path, low-1)
			v = max(v, low)
		}
		if high, ok := bound("maximum"); ok {
			if high < 1<<53-1 {
				y.mutate("maximum", path, high+1)
			}
			v = min(v, high)
		}
		if e := n.Get("enum"); e != nil {
			y.mutate("enum", path, 987654321)
			v = e.Items[y.rand.IntN(len(e.Items))].Int
		}
		if c := n.Get("const"); c != nil {
			y.mutate("const", path, c.Int+1)
			v = c.Int
		}
		return v
	case "string":
		y.mutate("type", path, 1)
		return y.text(n, path)
	case "bytes":
		y.mutate("type", path, "AAAA")
		size := 3
		if low, ok := bound("minLength"); ok {
			size = max(size, int(low))
			if low > 0 {
				y.mutate("minLength", path, bytesOf(int(low)-1))
			}
		}
		if high, ok := bound("maxLength"); ok {
			size = min(size, int(high))
			if high < 1e5 {
				y.mutate("maxLength", path, bytesOf(int(high)+1))
			}
		}
		return bytesOf(size)
	case "cid-link":
		y.mutate("type", path, map[string]any{"$link": "x"})
		return map[string]any{"$link": link}
	case "blob":
		return y.blob(n, path)
	case "unknown":
		y.mutate("type", path, "x")
		return map[string]any{"$type": "com.example.thing", "a": []any{1, "b", nil}}
	case "array":
		y.mutate("type", path, map[string]any{})
		size := 1 + y.rand.IntN(2)
		if y.refs > 3 {
			size = 0
		}
		low, hasLow := bound("minLength")
		high, hasHigh := bound("maxLength")
		size = max(size, int(low))
		if hasHigh {
			size = min(size, int(high))
		}
		list := []any{}
		for i := range size {
			if i > 0 {
				y.quiet++ // one element is like another
			}
			list = append(list, y.value(doc, n.Get("items"), append(slices.Clone(path), i)))
			if i > 0 {
				y.quiet--
			}
		}
		if hasLow && low > 0 {
			y.mutate("minLength", path, list[:low-1])
		}
		if hasHigh && high < 1000 && size > 0 {
			many := slices.Clone(list)
			for len(many) <= int(high) {
				many = append(many, list[0])
			}
			y.mutate("maxLength", path, many)
		}
		return list
	case "object", "params":
		return y.object(doc, n, path)
	case "record":
		v := y.object(doc, n.Get("record"), path)
		v["$type"] = doc.NSID
		y.mutate("$type", append(slices.Clone(path), "$type"), "com.example.other")
		return v
	case "ref":
		def := y.target(doc, n.String("ref"))
		if def == nil {
			return []any{"anything"}
		}
		switch def.Node.String("type") {
		case "object", "record", "union": // have samples of their own
			y.mutate("type", path, 1)
			y.quiet++
			y.refs++
			v := y.value(def.Doc, def.Node, path)
			y.refs--
			y.quiet--
			return v
		case "token":
			y.mutate("token", path, "com.example.other")
			return def.ID()
		}
		return y.value(def.Doc, def.Node, path)
	case "union":
		return y.union(doc, n, path)
	default:
		y.t.Fatalf("%s: a value of type %q", doc.Place(n), typ)
		return nil
	}
}

// target is the definition that ref leads to, or nil.
func (y *synthesis) target(doc *source.Document, ref string) *source.Def {
	nsid, name := source.SplitRef(doc.NSID, ref)
	if to := y.docs[nsid]; to != nil {
		return to.Def(name)
	}
	return nil
}

func (y *synthesis) object(doc *source.Document, n *source.Value, path []any) map[string]any {
	y.mutate("type", path, []any{})
	v := map[string]any{}
	if n.Get("properties") == nil {
		return v
	}
	for _, m := range n.Get("properties").Members {
		required := slices.Contains(n.Strings("required"), m.Key)
		nullable := slices.Contains(n.Strings("nullable"), m.Key)
		// A default is there after decoding, so it has to be there before.
		if !required && m.Value.Get("default") == nil && (y.refs > 1 || y.rand.IntN(8) == 0) {
			continue
		}
		at := append(slices.Clone(path), m.Key)
		if v[m.Key] = y.value(doc, m.Value, at); nullable && y.rand.IntN(2) == 0 {
			v[m.Key] = nil
			// What was noted below is gone.
			y.bad = slices.DeleteFunc(y.bad, func(b broken) bool {
				return len(b.path) > len(at) && slices.Equal(b.path[:len(at)], at)
			})
		}
		if required && m.Value.Get("default") == nil && y.quiet == 0 {
			y.bad = append(y.bad, broken{what: "required", path: at, out: true})
		}
		if !nullable && !y.anything(doc, m.Value) {
			y.mutate("null", at, nil)
		}
	}
	return v
}

// anything tells whether n is raw JSON: a ref that leads nowhere, a union of nothing.
func (y *synthesis) anything(doc *source.Document, n *source.Value) bool {
	known := func(ref string) bool { return y.target(doc, ref) != nil }
	switch n.String("type") {
	case "ref":
		return !known(n.String("ref"))
	case "union":
		return !slices.ContainsFunc(n.Strings("refs"), known)
	}
	return false
}

func (y *synthesis) union(doc *source.Document, n *source.Value, path []any) any {
	var variants []*source.Def
	for _, ref := range n.Strings("refs") {
		def := y.target(doc, ref)
		if def == nil {
			continue
		}
		if t := def.Node.String("type"); t == "object" || t == "record" {
			variants = append(variants, def)
		}
	}
	if len(variants) > 0 {
		y.mutate("type", path, map[string]any{"no": "type"})
	}
	closed := n.Get("closed") != nil && string(n.Get("closed").Raw) == "true"
	if closed {
		y.mutate("closed", path, map[string]any{"$type": "com.example.other"})
	}
	if len(variants) == 0 || !closed && y.refs > 3 {
		return map[string]any{"$type": "com.example.other", "a": 1}
	}
	def := variants[y.rand.IntN(len(variants))]
	y.refs++
	y.quiet++
	v := y.value(def.Doc, def.Node, path).(map[string]any)
	y.refs--
	y.quiet--
	v["$type"] = def.ID()
	return v
}

const link = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq"

func bytesOf(n int) any {
	return map[string]any{"$bytes": base64.RawStdEncoding.EncodeToString(make([]byte, n))}
}

func (y *synthesis) blob(n *source.Value, path []any) any {
	mime := "image/png"
	if accept := n.Strings("accept"); len(accept) > 0 {
		mime = strings.Replace(accept[0], "/*", "/x", 1)
		mime = strings.Replace(mime, "*/", "x/", 1)
		if !slices.Contains(accept, "*/*") {
			y.mutate("accept", append(slices.Clone(path), "mimeType"), "x/y")
		}
	}
	size := int64(y.rand.IntN(1000))
	if most := n.Get("maxSize"); most != nil {
		size = min(size, most.Int)
		y.mutate("maxSize", path, map[string]any{"$type": "blob", "ref": map[string]any{"$link": link}, "mimeType": mime, "size": most.Int + 1})
	}
	y.mutate("type", path, map[string]any{"$type": "blob"})
	return map[string]any{"$type": "blob", "ref": map[string]any{"$link": link}, "mimeType": mime, "size": size}
}

// formats are a value that is right and one that is not.
var formats = map[string][2]string{
	"did": {"did:plc:ewvi7nxzyoun6zhxrhs64oiz", "did"}, "handle": {"alice.example.com", "alice"},
	"at-identifier": {"alice.example.com", "@"}, "nsid": {"com.example.thing", "thing"},
	"at-uri": {"at://alice.example.com/com.example.thing/self", "at:/x"}, "uri": {"https://example.com/a", "a b"},
	"cid": {link, "b"}, "datetime": {"2026-01-02T03:04:05.678Z", "yesterday"}, "tid": {"3jzfcijpj2z2a", "0"},
	"record-key": {"self", "a/b"}, "language": {"de-AT", "!"},
}

func (y *synthesis) text(n *source.Value, path []any) any {
	text := []string{"", "a", "grün 👩‍👩‍👧", "<&>\u2028\"\\"}[y.rand.IntN(4)]
	length := func(key, what string, upper bool) {
		bound := n.Get(key)
		if bound == nil {
			return
		}
		size := int(bound.Int)
		if upper {
			if len(text) > size {
				text = text[:0]
			}
			if size < 1e6 {
				y.mutate(what, path, strings.Repeat("a", size+1))
			}
			return
		}
		if size > 0 {
			y.mutate(what, path, strings.Repeat("a", size-1))
		}
		if len(text) < size {
			text = strings.Repeat("b", size)
		}
	}
	length("maxLength", "maxLength", true)
	length("maxGraphemes", "maxGraphemes", true)
	length("minLength", "minLength", false)
	length("minGraphemes", "minGraphemes", false)
	if f := n.Get("format"); f != nil {
		if sample, ok := formats[f.Text]; ok {
			y.mutate("format", path, sample[1])
			text = sample[0]
		}
	}
	if known := n.Strings("knownValues"); len(known) > 0 {
		text = known[y.rand.IntN(len(known))]
	}
	if enum := n.Strings("enum"); len(enum) > 0 {
		y.mutate("enum", path, "none of these")
		text = enum[y.rand.IntN(len(enum))]
	}
	if c := n.Get("const"); c != nil {
		y.mutate("const", path, c.Text+"x")
		text = c.Text
	}
	return text
}
