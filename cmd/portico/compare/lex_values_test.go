//go:build compare

package compare

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// schemas are the documents that requests are made from, by their NSID.
type schemas map[string]map[string]any

// definition is what ref means in the document called from, and which document has it.
func (s schemas) definition(from, ref string) (doc string, def map[string]any) {
	doc, name, _ := strings.Cut(ref, "#")
	if doc == "" {
		doc = from
	}
	if name == "" {
		name = "main"
	}
	defs, _ := s[doc]["defs"].(map[string]any)
	def, _ = defs[name].(map[string]any)
	return doc, def
}

// typeName is the $type that objects of a definition have.
func typeName(from, ref string) string {
	if strings.HasPrefix(ref, "#") {
		ref = from + ref
	}
	return strings.TrimSuffix(ref, "#main")
}

// A value is JSON that can be written wrongly.
type value struct {
	text    string   // of a scalar, or of anything at all
	items   []*value // of a list, not nil
	members []member // of an object, not nil
}

type member struct {
	key   string // as it is quoted
	value *value
}

func (v *value) write(b *strings.Builder) {
	switch {
	case v.members != nil:
		b.WriteByte('{')
		for i, m := range v.members {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(m.key)
			b.WriteByte(':')
			m.value.write(b)
		}
		b.WriteByte('}')
	case v.items != nil:
		b.WriteByte('[')
		for i, item := range v.items {
			if i > 0 {
				b.WriteByte(',')
			}
			item.write(b)
		}
		b.WriteByte(']')
	default:
		b.WriteString(v.text)
	}
}

func (v *value) String() string {
	var b strings.Builder
	v.write(&b)
	return b.String()
}

func scalar(text string) *value { return &value{text: text} }

// A spot is a value with what is known of it.
type spot struct {
	value  *value
	schema map[string]any
	doc    string // that the schema is from
	typ    string // $type of a definition, or ""
}

// invention makes values of schemas, and breaks them.
type invention struct {
	schemas schemas
	rand    *rand.Rand
	spots   []spot
	depth   int
}

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

func (g *invention) chance(n int) bool { return g.rand.IntN(n) == 0 }

func (g *invention) number(schema map[string]any, key string, otherwise int) int {
	if n, ok := schema[key].(float64); ok {
		return int(n)
	}
	return otherwise
}

// value makes a valid one and notes its spots.
func (g *invention) value(doc string, schema map[string]any, typ string) *value {
	v := &value{}
	g.spots = append(g.spots, spot{v, schema, doc, typ})
	g.depth++
	defer func() { g.depth-- }()
	switch schema["type"] {
	case "boolean":
		v.text = pick(g.rand, []string{"true", "false"})
		if c, ok := schema["const"]; ok {
			v.text = fmt.Sprint(c)
		}
	case "integer":
		v.text = g.integer(schema)
	case "string":
		v.text = quote(g.text(schema))
	case "token":
		v.text = quote(typ)
	case "unknown":
		*v = *g.anyObject()
	case "bytes":
		n := max(g.number(schema, "minLength", 0), min(3, g.number(schema, "maxLength", 3)))
		v.text = fmt.Sprintf(`{"$bytes":%q}`, base64Of(n))
	case "cid-link":
		v.text = fmt.Sprintf(`{"$link":%q}`, aLink)
	case "blob":
		v.text = g.blob(schema)
	case "array":
		v.items = []*value{}
		low, high := g.number(schema, "minLength", 0), g.number(schema, "maxLength", 3)
		n := low
		if g.depth < 5 {
			n = min(max(low, g.rand.IntN(3)), high)
		}
		for range n {
			v.items = append(v.items, g.value(doc, schema["items"].(map[string]any), ""))
		}
	case "ref":
		g.spots = g.spots[:len(g.spots)-1]
		ref, _ := schema["ref"].(string)
		to, def := g.schemas.definition(doc, ref)
		if def == nil {
			return scalar(`{"no":"definition"}`)
		}
		return g.value(to, def, typeName(doc, ref))
	case "union":
		refs, _ := schema["refs"].([]any)
		closed, _ := schema["closed"].(bool)
		if len(refs) == 0 || !closed && (g.chance(5) || g.depth > 6) {
			*v = value{members: []member{{`"$type"`, scalar(`"com.example.unheard.of"`)}, {`"n"`, scalar("1.5")}}}
			return v
		}
		ref := pick(g.rand, refs).(string)
		to, def := g.schemas.definition(doc, ref)
		if def == nil {
			*v = value{members: []member{{`"$type"`, scalar(quote(typeName(doc, ref)))}}}
			return v
		}
		chosen := g.value(to, def, typeName(doc, ref))
		if chosen.members != nil && !slices.ContainsFunc(chosen.members, func(m member) bool { return m.key == `"$type"` }) {
			chosen.members = slices.Insert(chosen.members, g.rand.IntN(len(chosen.members)+1), member{`"$type"`, scalar(quote(typeName(doc, ref)))})
		}
		g.spots[slices.IndexFunc(g.spots, func(s spot) bool { return s.value == v })].value = chosen
		return chosen
	case "record":
		g.spots = g.spots[:len(g.spots)-1]
		r := g.value(doc, schema["record"].(map[string]any), typ)
		r.members = append(r.members, member{`"$type"`, scalar(quote(doc))})
		return r
	case "object":
		v.members = []member{}
		properties, _ := schema["properties"].(map[string]any)
		required, _ := schema["required"].([]any)
		nullable, _ := schema["nullable"].([]any)
		keys := slices.Sorted(maps.Keys(properties))
		g.rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		for _, key := range keys {
			if !slices.Contains(required, any(key)) && (g.depth > 4 || g.rand.IntN(len(keys)+3) > 5) {
				continue
			}
			of := g.value(doc, properties[key].(map[string]any), "")
			if slices.Contains(nullable, any(key)) && g.chance(4) {
				*of = value{text: "null"}
			}
			v.members = append(v.members, member{quote(key), of})
		}
		if typ != "" && g.chance(6) {
			v.members = append(v.members, member{`"$type"`, scalar(quote(typ))})
		}
	default:
		v.text = `{}`
	}
	return v
}

func (g *invention) integer(schema map[string]any) string {
	if c, ok := schema["const"].(float64); ok {
		return strconv.Itoa(int(c))
	}
	if enum, ok := schema["enum"].([]any); ok {
		return fmt.Sprint(pick(g.rand, enum))
	}
	low, high := g.number(schema, "minimum", 0), g.number(schema, "maximum", 100)
	return strconv.Itoa(low + g.rand.IntN(max(1, high-low+1)))
}

// text is a string that the schema takes.
func (g *invention) text(schema map[string]any) string {
	if c, ok := schema["const"].(string); ok {
		return c
	}
	if enum, ok := schema["enum"].([]any); ok {
		return pick(g.rand, enum).(string)
	}
	if format, ok := schema["format"].(string); ok {
		if texts := wellFormed[format]; texts != nil {
			return pick(g.rand, texts)
		}
	}
	low := max(g.number(schema, "minLength", 0), g.number(schema, "minGraphemes", 0))
	high := min(g.number(schema, "maxLength", 6), g.number(schema, "maxGraphemes", 6))
	return strings.Repeat("a", max(low, g.rand.IntN(high+1)))
}

func (g *invention) blob(schema map[string]any) string {
	mime := "image/png"
	if accept, ok := schema["accept"].([]any); ok && len(accept) > 0 {
		mime = strings.NewReplacer("*/*", "a/b", "*", "png").Replace(pick(g.rand, accept).(string))
	}
	return fmt.Sprintf(`{"$type":"blob","ref":{"$link":%q},"mimeType":%q,"size":%d}`, rawCID, mime, g.rand.IntN(min(1000, g.number(schema, "maxSize", 1000))))
}

func (g *invention) anyObject() *value {
	v := &value{members: []member{}}
	for range g.rand.IntN(4) {
		v.members = append(v.members, member{quote(pick(g.rand, []string{"a", "$type", "x y", "n", "é"})), scalar(pick(g.rand, harmless))})
	}
	return v
}

// quote writes a string as JSON, with nothing escaped that need not be.
func quote(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.Encode(s)
	return strings.TrimSuffix(b.String(), "\n")
}

func base64Of(n int) string {
	return strings.TrimRight(strings.Repeat("AAAA", (n+2)/3), "=")[:(n*4+2)/3]
}
