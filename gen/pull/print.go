package pull

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"portico/gen/source"
)

// Format is the text of a lexicon as it stands in a file. Records keep no order of
// their properties, so they have that of old (which may be nil), and what is new comes
// in the order that upstream's documents have. A record that says what old says is
// old's text, byte for byte.
func Format(value map[string]any, old []byte) ([]byte, error) {
	value = maps.Clone(value)
	delete(value, "$type") // it says that this is a lexicon, which the file need not
	text, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("write a lexicon: %w", err)
	}
	was := new(source.Value)
	if old != nil {
		if same(text, old) {
			return old, nil
		}
		if doc := source.Parse("old", old, new(source.Problems)); doc != nil {
			was = doc.Root()
		}
	}
	// Once more, so that what the data model has types for is plain JSON.
	var plain any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&plain); err != nil {
		return nil, fmt.Errorf("write a lexicon: %w", err)
	}
	var b bytes.Buffer
	if err := print(&b, plain, was, "", "", 0); err != nil {
		return nil, fmt.Errorf("write a lexicon: %w", err)
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// same tells whether two documents say the same.
func same(a, b []byte) bool {
	read := func(text []byte) any {
		var v map[string]any
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if d.Decode(&v) != nil {
			return text
		}
		delete(v, "$type")
		return v
	}
	return reflect.DeepEqual(read(a), read(b))
}

// usual is the order of keys in upstream's documents.
var usual = strings.Fields("lexicon id revision type title title:lang detail detail:lang description key record " +
	"parameters input output message encoding errors name schema required nullable properties items ref refs closed " +
	"format minimum maximum minLength maxLength minGraphemes maxGraphemes accept maxSize default const enum knownValues " +
	"permissions resource collection action lxm aud inheritAud defs main")

// order sorts the keys of an object: those that old has as there, all others after the
// one that usually stands before them.
func order(keys []string, old *source.Value, named bool) []string {
	rank := func(key string) int {
		if i := slices.Index(usual, key); i >= 0 && (!named || key == "main") {
			return i
		}
		return len(usual)
	}
	slices.SortFunc(keys, func(a, b string) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a, b)) })
	had := old.Keys()
	if len(had) == 0 {
		return keys
	}
	sorted := slices.DeleteFunc(slices.Clone(had), func(k string) bool { return !slices.Contains(keys, k) })
	for i, key := range keys {
		if slices.Contains(had, key) {
			continue
		}
		at := 0
		for _, before := range keys[:i] {
			at = max(at, slices.Index(sorted, before)+1)
		}
		if named { // among names that have no order, new ones come last
			at = len(sorted)
		}
		sorted = slices.Insert(sorted, at, key)
	}
	return sorted
}

// print writes JSON much as upstream does: two spaces; short lists and schemas on one
// line. key is what v is the value of, before what stands before it on its line.
func print(b *bytes.Buffer, v any, old *source.Value, key, indent string, before int) error {
	line, err := oneLine(v, old, key)
	if err != nil {
		return err
	}
	fits := len(indent)+before+utf8.RuneCountInString(line) < 80
	deeper := indent + "  "
	switch v := v.(type) {
	case []any:
		if len(v) == 0 || flat(slices.Values(v)) && fits {
			b.WriteString(line)
			return nil
		}
		b.WriteString("[\n")
		for i, item := range v {
			if i > 0 {
				b.WriteString(",\n")
			}
			b.WriteString(deeper)
			var was *source.Value
			if old != nil && i < len(old.Items) {
				was = old.Items[i]
			}
			if err := print(b, item, was, "", deeper, 0); err != nil {
				return err
			}
		}
		b.WriteString("\n" + indent + "]")
	case map[string]any:
		_, described := v["description"]
		if len(v) == 0 || flat(maps.Values(v)) && fits && !described {
			b.WriteString(line)
			return nil
		}
		b.WriteString("{\n")
		for i, k := range order(slices.Collect(maps.Keys(v)), old, names(key)) {
			if i > 0 {
				b.WriteString(",\n")
			}
			quoted, err := oneLine(k, nil, "")
			if err != nil {
				return err
			}
			b.WriteString(deeper + quoted + ": ")
			if err := print(b, v[k], old.Get(k), k, deeper, len(quoted)+2); err != nil {
				return err
			}
		}
		b.WriteString("\n" + indent + "}")
	default:
		b.WriteString(line)
	}
	return nil
}

// names tells whether the keys below key are names that somebody chose.
func names(key string) bool { return key == "properties" || key == "defs" }

func flat(values func(func(any) bool)) bool {
	for v := range values {
		switch v.(type) {
		case []any, map[string]any:
			return false
		}
	}
	return true
}

// oneLine is v on one line, with spaces.
func oneLine(v any, old *source.Value, key string) (string, error) {
	join := func(open string, parts []string, end string) string {
		if len(parts) == 0 {
			return strings.TrimSpace(open) + strings.TrimSpace(end)
		}
		return open + strings.Join(parts, ", ") + end
	}
	var parts []string
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			s, err := oneLine(item, nil, "")
			if err != nil {
				return "", err
			}
			parts = append(parts, s)
		}
		return join("[", parts, "]"), nil
	case map[string]any:
		for _, k := range order(slices.Collect(maps.Keys(v)), old, names(key)) {
			name, err := oneLine(k, nil, "")
			if err != nil {
				return "", err
			}
			s, err := oneLine(v[k], old.Get(k), k)
			if err != nil {
				return "", err
			}
			parts = append(parts, name+": "+s)
		}
		return join("{ ", parts, " }"), nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}
