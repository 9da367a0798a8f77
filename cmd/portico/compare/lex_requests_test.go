//go:build compare

package compare

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// A lexRequest is one of those that both servers get.
type lexRequest struct {
	nsid, query string
	post        bool
	contentType string // "": none
	body        string
	how         string // what is done to a valid one
}

func (r lexRequest) String() string {
	s := r.nsid
	if r.query != "" {
		s += "?" + r.query
	}
	if r.body != "" {
		s += " " + r.body
	}
	if len(s) > 600 {
		s = s[:600] + "…"
	}
	return s
}

// requests makes n requests to each method of the documents, in a fixed order.
func (s schemas) requests(methods []string, n func(nsid string) int) []lexRequest {
	var all []lexRequest
	for _, nsid := range methods {
		// Each has numbers of its own, so that a new method changes no other's requests.
		g := &invention{schemas: s, rand: rand.New(rand.NewPCG(uint64(len(nsid))+*lexSeed, seed(nsid)))}
		for range n(nsid) {
			all = append(all, g.request(nsid))
		}
	}
	return all
}

func seed(s string) (h uint64) {
	for _, b := range []byte(s) {
		h = h*1099511628211 ^ uint64(b)
	}
	return h
}

func (g *invention) request(nsid string) lexRequest {
	_, def := g.schemas.definition("", nsid)
	r := lexRequest{nsid: nsid, post: def["type"] == "procedure"}
	input, _ := def["input"].(map[string]any)
	params, _ := def["parameters"].(map[string]any)
	if params != nil {
		r.query = g.query(params, input == nil || g.chance(4), &r.how)
	} else if g.chance(30) {
		r.query, r.how = "unheard=of", "parameter of none"
	}
	switch schema, _ := input["schema"].(map[string]any); {
	case schema != nil:
		r.contentType = "application/json"
		g.spots, g.depth = nil, 0
		v := g.value(nsid, schema, "")
		if v.members == nil && schema["type"] != "ref" && schema["type"] != "union" {
			v = scalar("{}")
		}
		r.body = g.broken(v, &r.how)
	case input != nil:
		r.contentType = cmp.Or(strings.ReplaceAll(input["encoding"].(string), "*", "x"), "application/json")
		r.body = pick(g.rand, jsonTexts)
	}
	if r.how == "" {
		r.how = "valid"
	}
	return r
}

func note(how *string, what string) {
	if *how != "" {
		*how += ", "
	}
	*how += what
}

// broken writes v, in which more or less is wrong.
func (g *invention) broken(v *value, how *string) string {
	switch n := g.rand.IntN(100); {
	case n < 8:
		return v.String()
	case n < 12:
		return g.wrongBody(v, how)
	}
	for range 1 + g.rand.IntN(12)/11 {
		g.breakAt(pick(g.rand, g.spots), how)
	}
	return v.String()
}

// wrongBody is wrong as a whole.
func (g *invention) wrongBody(v *value, how *string) string {
	text := v.String()
	note(how, "body")
	switch g.rand.IntN(9) {
	case 0:
		return pick(g.rand, jsonTexts)
	case 1:
		return text[:g.rand.IntN(len(text))]
	case 2:
		return " \t\r\n" + text + "\n "
	case 3:
		return text + pick(g.rand, []string{"x", "{}", ",", "]", "}", "\x00", "\u00a0"})
	case 4:
		return "[" + text + "]"
	case 5:
		return strings.Replace(text, `"`, `'`, 1)
	case 6:
		return strings.Replace(text, ",", ",,", 1)
	case 7:
		return strings.Replace(text, "}", ",}", 1)
	default:
		i := g.rand.IntN(len(text))
		return text[:i] + pick(g.rand, []string{`\`, "\n", "\t", "\"", "{", "NaN", "undefined", "/**/", "\x7f", "+1"}) + text[i:]
	}
}

// breakAt does something to a value that may make it wrong.
func (g *invention) breakAt(s spot, how *string) {
	v := s.value
	typ, _ := s.schema["type"].(string)
	if g.chance(4) {
		note(how, typ+" as anything")
		*v = value{text: pick(g.rand, jsonTexts)}
		return
	}
	if v.members != nil && (typ == "object" || typ == "union" || typ == "record") {
		g.breakObject(s, how)
		return
	}
	switch typ {
	case "string", "token":
		format, _ := s.schema["format"].(string)
		note(how, cmp.Or(format, typ))
		*v = value{text: g.quoted(g.wrongText(s.schema))}
	case "integer":
		note(how, "integer")
		*v = value{text: g.wrongInteger(s.schema)}
	case "boolean":
		note(how, "boolean")
		*v = value{text: pick(g.rand, []string{"true", "false", `"true"`, "1", "0", "null", `""`})}
	case "bytes":
		note(how, "bytes")
		n := g.number(s.schema, pick(g.rand, []string{"minLength", "maxLength"}), 3) + g.rand.IntN(3) - 1
		*v = value{text: fmt.Sprintf(`{"$bytes":%q}`, base64Of(max(0, n))+pick(g.rand, []string{"", "", "=", "=="}))}
	case "blob":
		note(how, "blob")
		*v = value{text: g.wrongBlob(s.schema)}
	case "array":
		note(how, "array")
		n := g.number(s.schema, pick(g.rand, []string{"minLength", "maxLength"}), 3) + g.rand.IntN(3) - 1
		for i := 0; len(v.items) < n && len(v.items) < 200; i++ {
			if len(v.items) == 0 {
				v.items = []*value{g.value(s.doc, s.schema["items"].(map[string]any), "")}
				continue
			}
			v.items = append(v.items, v.items[0])
		}
		if n >= 0 && len(v.items) > n {
			v.items = v.items[:n]
		}
	case "unknown":
		note(how, "unknown")
		if v.members != nil {
			v.members = append(v.members, member{quote(pick(g.rand, []string{"a", "x", "$type", "a b"})), scalar(pick(g.rand, jsonTexts))})
		}
	default:
		note(how, typ+" as anything")
		*v = value{text: pick(g.rand, jsonTexts)}
	}
}

func (g *invention) breakObject(s spot, how *string) {
	v := s.value
	typ, _ := s.schema["type"].(string)
	at := func() int { return g.rand.IntN(len(v.members) + 1) }
	what := g.rand.IntN(9)
	if len(v.members) == 0 && what > 1 {
		what = g.rand.IntN(2)
	}
	switch what {
	case 0:
		note(how, "$type of "+typ)
		wrong := scalar(pick(g.rand, []string{`"x"`, `""`, "5", "null", "true", "{}", `{"a":1}`, "[]", quote(s.typ + "#main"), quote(s.typ), quote(strings.ToUpper(s.typ)), quote(s.doc), quote(s.doc + "#main"), `"blob"`, `"#item"`}))
		v.members = slices.DeleteFunc(v.members, func(m member) bool { return m.key == `"$type"` && g.chance(2) })
		v.members = slices.Insert(v.members, at(), member{`"$type"`, wrong})
	case 1:
		note(how, "unheard of key")
		key := pick(g.rand, []string{`"extra"`, `"__proto__"`, `"constructor"`, `"toString"`, `"hasOwnProperty"`, `""`, `"a.b"`, `"\u0000"`, `"$link"`, `"$bytes"`, `"é"`, `"0"`})
		v.members = slices.Insert(v.members, at(), member{key, scalar(pick(g.rand, jsonTexts))})
	case 2, 3:
		note(how, "missing key")
		i := g.rand.IntN(len(v.members))
		v.members = slices.Delete(v.members, i, i+1)
	case 4:
		note(how, "null")
		v.members[g.rand.IntN(len(v.members))].value = scalar("null")
	case 5:
		note(how, "key twice")
		m := pick(g.rand, v.members)
		again := m
		if g.chance(2) {
			again.value = scalar(pick(g.rand, jsonTexts))
		}
		v.members = slices.Insert(v.members, at(), again)
	case 6:
		note(how, "escaped key")
		i := g.rand.IntN(len(v.members))
		if key := v.members[i].key; len(key) > 2 && key[1] < 0x80 && key[1] != '\\' {
			v.members[i].key = fmt.Sprintf(`"\u%04x%s`, key[1], key[2:])
		}
	case 7:
		note(how, "key in other case")
		i := g.rand.IntN(len(v.members))
		again := member{strings.ToUpper(v.members[i].key), v.members[i].value}
		if strings.Contains(again.key, `\`) {
			break
		}
		if g.chance(2) {
			again.value = scalar(pick(g.rand, jsonTexts))
			v.members = append(v.members, again)
		} else {
			v.members[i] = again
		}
	default:
		note(how, "keys the other way round")
		slices.Reverse(v.members)
	}
}

// quoted writes a string with escapes that need not be there.
func (g *invention) quoted(text string) string {
	q := quote(text)
	if !g.chance(6) || strings.Contains(q, `\`) {
		return q
	}
	var b strings.Builder
	for _, r := range text {
		if r > 0xffff {
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04X`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		} else if g.chance(2) || r < ' ' || r == '"' || r == '\\' {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return `"` + b.String() + `"`
}

// wrongText is a string near the edge of what a schema takes.
func (g *invention) wrongText(schema map[string]any) string {
	format, _ := schema["format"].(string)
	if texts := nearlyFormed[format]; texts != nil {
		switch g.rand.IntN(4) {
		case 0:
			return g.mistyped(pick(g.rand, wellFormed[format]))
		case 1:
			return g.mistyped(pick(g.rand, texts))
		}
		return pick(g.rand, texts)
	}
	if enum, ok := schema["enum"].([]any); ok || schema["const"] != nil {
		if !ok {
			enum = []any{schema["const"]}
		}
		text := fmt.Sprint(pick(g.rand, enum))
		return pick(g.rand, []string{text, strings.ToUpper(text), strings.ToLower(text), text + " ", " " + text, "", text + text, text + "\u0000", text[:len(text)/2]})
	}
	var bounds []string
	for _, key := range []string{"minLength", "maxLength", "minGraphemes", "maxGraphemes"} {
		if schema[key] != nil {
			bounds = append(bounds, key)
		}
	}
	if len(bounds) == 0 {
		return strings.Repeat(pick(g.rand, counted), g.rand.IntN(4))
	}
	bound := pick(g.rand, bounds)
	n := max(0, g.number(schema, bound, 0)+g.rand.IntN(3)-1)
	unit := pick(g.rand, append([]string{"a", "a", " "}, counted...))
	if n > 1000 && len(unit) > 1 {
		unit = "a" // the line of a request is of 16 KB at most
	}
	if strings.HasSuffix(bound, "Length") {
		n -= len(unit) * (n / len(unit))
		text := strings.Repeat(unit, max(0, g.number(schema, bound, 0)/len(unit)))
		return text + strings.Repeat("a", n)
	}
	return strings.Repeat(unit, n)
}

// mistyped changes a character or two.
func (g *invention) mistyped(text string) string {
	runes := []rune(text)
	for range 1 + g.rand.IntN(2) {
		i := g.rand.IntN(len(runes) + 1)
		with := pick(g.rand, []rune("aZ09.-_:/#?%@$~+ \n\té*!'()[]\\\"<>|,;=&^`{}\u007f\u0000\u00a0\u200b😀"))
		switch g.rand.IntN(3) {
		case 0:
			runes = slices.Insert(runes, i, with)
		case 1:
			if i < len(runes) {
				runes[i] = with
			}
		default:
			if i < len(runes) {
				runes = slices.Delete(runes, i, i+1)
			}
		}
	}
	return string(runes)
}

func (g *invention) wrongInteger(schema map[string]any) string {
	var around []int
	for _, key := range []string{"minimum", "maximum", "const"} {
		if schema[key] != nil {
			around = append(around, g.number(schema, key, 0))
		}
	}
	if enum, ok := schema["enum"].([]any); ok {
		around = append(around, int(pick(g.rand, enum).(float64)))
	}
	if len(around) == 0 {
		return pick(g.rand, jsonTexts)
	}
	n := pick(g.rand, around) + g.rand.IntN(3) - 1
	return fmt.Sprintf(pick(g.rand, []string{"%d", "%d", "%d", "%d.0", "%de0", "%d.5", `"%d"`, "%d00e-2", "[%d]"}), n)
}

func (g *invention) wrongBlob(schema map[string]any) string {
	text := pick(g.rand, blobs)
	mime := "image/png"
	if accept, ok := schema["accept"].([]any); ok && len(accept) > 0 {
		mime = strings.ReplaceAll(strings.ReplaceAll(pick(g.rand, accept).(string), "*/", "a/"), "*", "png")
	}
	text = strings.Replace(text, "%s", mime, 1)
	return strings.Replace(text, "%d", strconv.Itoa(g.number(schema, "maxSize", 1000)+g.rand.IntN(3)-1), 1)
}

// query makes the query of a request, in which something may be wrong.
func (g *invention) query(schema map[string]any, wrong bool, how *string) string {
	properties, _ := schema["properties"].(map[string]any)
	required, _ := schema["required"].([]any)
	var pairs [][2]string
	add := func(key, text string) { pairs = append(pairs, [2]string{key, text}) }
	keys := slices.Sorted(maps.Keys(properties))
	g.rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	plainText := func(of map[string]any) string {
		switch of["type"] {
		case "integer":
			return g.integer(of)
		case "boolean":
			if c, ok := of["const"]; ok {
				return fmt.Sprint(c)
			}
			return pick(g.rand, []string{"true", "false"})
		}
		return g.text(of)
	}
	present := func(key string) bool {
		return slices.Contains(required, any(key)) || g.rand.IntN(len(keys)+2) < 4
	}
	for _, key := range keys {
		if !present(key) {
			continue
		}
		of, _ := properties[key].(map[string]any)
		n := 1
		if of["type"] == "array" {
			n = max(1, g.number(of, "minLength", 0), min(g.rand.IntN(3), g.number(of, "maxLength", 3)))
			of, _ = of["items"].(map[string]any)
		}
		for range n {
			add(key, plainText(of))
		}
	}
	if wrong && !g.chance(8) && len(keys) > 0 {
		for range 1 + g.rand.IntN(12)/11 {
			pairs = g.breakQuery(pairs, properties, pick(g.rand, keys), how)
		}
	}
	var parts []string
	for _, p := range pairs {
		parts = append(parts, g.escape(p[0])+"="+g.escape(p[1]))
	}
	switch {
	case wrong && *how == "" && g.chance(20):
		note(how, "name of a prototype")
		parts = append(parts, pick(g.rand, []string{"__proto__=x", "constructor=x", "toString=x"}))
	case wrong && g.chance(25):
		note(how, "odd query")
		parts = append(parts, pick(g.rand, []string{"", "=", "&", "a", "=x", "%", "%zz=1", "a=%zz", "a=%ff", "a=%00", "a=b=c", "a;b=c", "a+b=c", "a[]=1", "a[0]=1", "a=\\u0041", "a=%u0041"}))
	}
	return strings.Join(parts, "&")
}

func (g *invention) escape(text string) string {
	switch g.rand.IntN(6) {
	case 0:
		return strings.ReplaceAll(url.QueryEscape(text), "+", "%20")
	case 1:
		return strings.NewReplacer("%3A", ":", "%2F", "/", "%40", "@", "%2C", ",", "%5B", "[", "%5D", "]").Replace(url.QueryEscape(text))
	}
	return url.QueryEscape(text)
}

func (g *invention) breakQuery(pairs [][2]string, properties map[string]any, key string, how *string) [][2]string {
	of, _ := properties[key].(map[string]any)
	item := of
	if of["type"] == "array" {
		item, _ = of["items"].(map[string]any)
	}
	typ, _ := item["type"].(string)
	set := func(text string) {
		if i := slices.IndexFunc(pairs, func(p [2]string) bool { return p[0] == key }); i >= 0 {
			pairs[i][1] = text
		} else {
			pairs = append(pairs, [2]string{key, text})
		}
	}
	switch g.rand.IntN(12) {
	case 0:
		note(how, "missing parameter")
		return slices.DeleteFunc(pairs, func(p [2]string) bool { return p[0] == key })
	case 1:
		note(how, "repeated parameter")
		if of["type"] == "array" {
			n := g.number(of, "maxLength", 3) + g.rand.IntN(2)
			for range min(n, 200) {
				pairs = append(pairs, [2]string{key, pick(g.rand, append(wellFormed[formatOf(item)], "a"))})
			}
			return pairs
		}
		for _, p := range pairs {
			if p[0] == key {
				return append(pairs, [2]string{key, pick(g.rand, []string{p[1], "x", "", "1"})})
			}
		}
		return pairs
	case 2:
		note(how, "empty parameter")
		set("")
		return pairs
	case 3:
		note(how, "parameter in brackets")
		for i, p := range pairs {
			if p[0] == key {
				pairs[i][0] += pick(g.rand, []string{"[]", "[0]", "[x]", "[", "."})
			}
		}
		return pairs
	case 4:
		note(how, "parameter in other case")
		for i, p := range pairs {
			if p[0] == key {
				pairs[i][0] = strings.ToUpper(key)
			}
		}
		return pairs
	}
	switch typ {
	case "integer":
		note(how, "integer parameter")
		if g.chance(2) {
			set(strings.Trim(g.wrongInteger(item), `"[]`))
		} else {
			set(pick(g.rand, []string{"01", "+1", " 1", "1 ", "-0", "--1", "1-", "0x10", "1e2", "1.0", "1.5", "9007199254740991", "9007199254740992", "-9007199254740993", "99999999999999999999999999", "NaN", "Infinity", "null", "true", "1,2", "١", "１", "1\n", "0", "00", "-"}))
		}
	case "boolean":
		note(how, "boolean parameter")
		set(pick(g.rand, []string{"true", "false", "TRUE", "True", "1", "0", "yes", "t", " true", "true ", "null", "undefined", "on"}))
	default:
		format, _ := item["format"].(string)
		note(how, cmp.Or(format, "string")+" parameter")
		set(g.wrongText(item))
	}
	return pairs
}

func formatOf(schema map[string]any) string {
	format, _ := schema["format"].(string)
	return format
}
