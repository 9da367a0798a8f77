package source_test

import (
	"os"
	"strings"
	"testing"

	"portico/gen/source"
)

func TestOrderAndPlaces(t *testing.T) {
	const text = `{
  "lexicon": 1,
  "id": "com.example.defs",
  "defs": {
    "zoo": {"type": "object", "properties": {
      "b": {"type": "string"},
      "a/~": {"type": "integer", "minimum": -1}
    }},
    "ant": {"type": "token"}
  }
}`
	var problems source.Problems
	d := source.Parse("x.json", []byte(text), &problems)
	if d == nil || len(problems) > 0 {
		t.Fatalf("problems: %v", problems)
	}
	if len(d.Defs) != 2 || d.Defs[0].Name != "zoo" || d.Defs[1].Name != "ant" {
		t.Fatalf("definitions are not in the order of the document: %v", d.Defs)
	}
	properties := d.Def("zoo").Node.Get("properties")
	if got := strings.Join(properties.Keys(), " "); got != "b a/~" {
		t.Errorf("properties %q, want %q", got, "b a/~")
	}
	v := properties.Get("a/~").Get("minimum")
	if v.Int != -1 || v.Pointer != "/defs/zoo/properties/a~1~0/minimum" || d.Place(v) != "x.json:7:45" {
		t.Errorf("minimum is %d at %s, %s", v.Int, d.Place(v), v.Pointer)
	}
	if id := d.Def("ant").ID(); id != "com.example.defs#ant" {
		t.Errorf("ID of #ant: %q", id)
	}
}

func TestDeepDocument(t *testing.T) {
	var problems source.Problems
	source.Parse("deep.json", []byte(strings.Repeat("[", 5000)+strings.Repeat("]", 5000)), &problems)
	if err := problems.Err(); err == nil || err.Error() != "deep.json:1:102: nested more than 100 levels deep; mend the JSON there" {
		t.Errorf("got %v", err)
	}
}

func TestDidYouMean(t *testing.T) {
	candidates := []string{"minLength", "maxLength", "maxGraphemes", "format"}
	for word, want := range map[string]string{
		"maxLenght": "maxLength", "maxlength": "maxLength", "fromat": "format", "size": "", "x": "", "minLengthh": "minLength",
	} {
		if got := source.Closest(word, candidates); got != want {
			t.Errorf("Closest(%q) = %q, want %q", word, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{
		"../testdata/odd-names/lexicons/shop/oddOne.json", "../testdata/fail-many/lexicons/shop/getItem.json",
		"../testdata/subscription/lexicons/shop/watch.json", "../testdata/permission-set/lexicons/shop/authFull.json",
	} {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"lexicon":1,"id":"a.b.c","defs":{"main":{"type":"record","key":"any","record":{"type":"object"}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var problems source.Problems
		d := source.Parse("x.json", data, &problems)
		if d == nil && problems.Err() == nil {
			t.Error("no document and no reason")
		}
		for _, p := range problems {
			if p.Line < 1 || p.Col < 1 || p.Message == "" {
				t.Errorf("problem without place or text: %+v", p)
			}
		}
	})
}
