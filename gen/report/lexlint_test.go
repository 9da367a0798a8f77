package report

import (
	"testing"

	"portico/gen/source"
)

// TestNet has lexlint look at a change that nothing else has noticed yet.
func TestNet(t *testing.T) {
	parse := func(schema string) *source.Def {
		var problems source.Problems
		doc := source.Parse("x.json", []byte(`{"lexicon": 1, "id": "com.example.x", "defs": {"main": `+schema+`}}`), &problems)
		if err := problems.Err(); err != nil {
			t.Fatal(err)
		}
		return doc.Def("main")
	}
	old, new := parse(`{"type": "string", "enum": ["did:web:b", "did:web:a"]}`), parse(`{"type": "string", "enum": ["did:web:c", "did:web:a"], "format": "did"}`)
	d := &differ{}
	d.lexlint(site{old: old.Doc, new: new.Doc, id: "com.example.x", typ: "string"}, old, new, 0)
	if len(d.changes) != 2 || d.changes[0].Rule != "lexlint" || d.changes[0].What[:11] != "enum-values" || d.changes[1].What[:13] != "string-format" ||
		d.changes[0].Direction != Both || d.changes[0].Place.String() != "x.json:1:56" {
		t.Errorf("got %+v", d.changes)
	}
	d.changes = []Change{{Rule: "input-enum-wider"}, {Rule: "output-format-changed"}}
	d.lexlint(site{old: old.Doc, new: new.Doc, id: "com.example.x", typ: "string"}, old, new, 0)
	if len(d.changes) != 2 {
		t.Errorf("what is accounted for came again: %+v", d.changes[2:])
	}
}
