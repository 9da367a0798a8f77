package pull

import (
	"encoding/json"
	"testing"
)

// Whatever the text is, what is made of it is JSON, or a place in it is named.
func FuzzLiterals(f *testing.F) {
	for _, text := range []string{
		"{};", "{ A: { lexicon: 1, 'b-c': [true, null, -1.5e3,], } };", `{ a: '\u2019\x41\n' };`, `{ a: '\ud83d\ude42' };`, "{ a: /* x */ 1 // y\n };", "{ a: f() };", "{ a: '\\u12",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := literals(data, 0)
		if err != nil {
			e, ok := err.(*LiteralError)
			if !ok || e.Line < 1 || e.Column < 1 || e.Message == "" || entries != nil {
				t.Errorf("%#v with %v", err, entries)
			}
		}
		for _, e := range entries {
			if !json.Valid(e.value) {
				t.Errorf("%q is %q", e.key, e.value)
			}
		}
	})
}
