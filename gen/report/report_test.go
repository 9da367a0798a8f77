package report_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"portico/gen/model"
	"portico/gen/report"
	"portico/gen/source"
)

var update = flag.Bool("update", false, "write what the report says now as what is expected")

// tree is a tree of documents: path → what stands between the braces of "defs".
type tree map[string]string

func (tr tree) load(t testing.TB) []*source.Document {
	t.Helper()
	fsys := fstest.MapFS{"lexicons/other.json": {Data: []byte(`{"lexicon":1,"id":"com.example.other","defs":{
"car":{"type":"object","required":["wheels"],"properties":{"wheels":{"type":"integer"}}},
"cart":{"type":"object","required":["wheels"],"properties":{"wheels":{"type":"integer"}}},
"boat":{"type":"object","properties":{"sail":{"type":"boolean"}}},
"name":{"type":"string","maxLength":10}
}}`)}}
	for name, defs := range tr {
		data := fmt.Sprintf("{\n\"lexicon\": 1, \"id\": \"com.example.shop.%s\", \"defs\": {\n%s\n}}", name, defs)
		fsys["lexicons/shop/"+name+".json"] = &fstest.MapFile{Data: []byte(data)}
	}
	return load(t, fsys)
}

// load reads the documents below lexicons.
func load(t testing.TB, fsys fs.FS) []*source.Document {
	t.Helper()
	docs, problems, err := source.Load(fsys, "lexicons", source.Options{})
	if err == nil {
		err = problems.Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

// twice is a method that takes schema as input.x and answers it as output.x.
func twice(schema string) tree {
	body := `{"encoding": "application/json", "schema": {"type": "object", "properties": {` + "\n\"x\": " + schema + `}}}`
	return tree{"act": `"main": {"type": "procedure", "input": ` + body + `,` + "\n\"output\": " + body + "}"}
}

// object is a method that takes and answers an object with these members.
func object(members string) tree {
	body := `{"encoding": "application/json", "schema": {"type": "object",` + "\n" + members + `}}`
	return tree{"act": `"main": {"type": "procedure", "input": ` + body + `,` + "\n\"output\": " + body + "}"}
}

func doc(defs string) tree { return tree{"act": defs} }

const method = `"main": {"type": "procedure"%s}`

// cases are changes; each is reported from the first tree to the second and back.
var cases = []struct {
	name     string
	old, new tree
}{
	{"method", tree{"look": `"main": {"type": "query"}`}, tree{"look": `"main": {"type": "query"}`, "act": fmt.Sprintf(method, "")}},
	{"method of a new namespace", tree{}, doc(fmt.Sprintf(method, ""))},
	{"subscription", tree{}, doc(`"main": {"type": "subscription", "message": {"schema": {"type": "union", "refs": []}}}`)},
	{"definition", tree{"defs": `"a": {"type": "token"}`}, tree{"defs": `"a": {"type": "token"}, "b": {"type": "object", "properties": {}}`}},
	{"kind of a method", doc(`"main": {"type": "query"}`), doc(`"main": {"type": "procedure"}`)},
	{"parameters", doc(fmt.Sprintf(method, "")), doc(fmt.Sprintf(method, `, "parameters": {"type": "params", "properties": {"a": {"type": "string"}}}`))},
	{"required parameters", doc(fmt.Sprintf(method, "")), doc(fmt.Sprintf(method, `, "parameters": {"type": "params", "required": ["a"], "properties": {"a": {"type": "string"}}}`))},
	{
		"parameter that must be there", doc(fmt.Sprintf(method, `, "parameters": {"type": "params", "properties": {"a": {"type": "string"}}}`)),
		doc(fmt.Sprintf(method, `, "parameters": {"type": "params", "required": ["a"], "properties": {"a": {"type": "string"}}}`)),
	},
	{"input", doc(fmt.Sprintf(method, "")), doc(fmt.Sprintf(method, `, "input": {"encoding": "application/json", "schema": {"type": "object"}}`))},
	{"output", doc(fmt.Sprintf(method, "")), doc(fmt.Sprintf(method, `, "output": {"encoding": "application/json", "schema": {"type": "object"}}`))},
	{"encoding", doc(fmt.Sprintf(method, `, "input": {"encoding": "image/png"}, "output": {"encoding": "image/png"}`)), doc(fmt.Sprintf(method, `, "input": {"encoding": "image/*"}, "output": {"encoding": "image/*"}`))},
	{"schema of a body", doc(fmt.Sprintf(method, `, "input": {"encoding": "application/json"}`)), doc(fmt.Sprintf(method, `, "input": {"encoding": "application/json", "schema": {"type": "object"}}`))},
	{"error", doc(fmt.Sprintf(method, `, "errors": [{"name": "A"}]`)), doc(fmt.Sprintf(method, `, "errors": [{"name": "A"}, {"name": "B"}]`))},
	{"description of an error", doc(fmt.Sprintf(method, `, "errors": [{"name": "A"}]`)), doc(fmt.Sprintf(method, `, "errors": [{"name": "A", "description": "a thing"}]`))},
	{"optional property", object(`"properties": {}`), object(`"properties": {"a": {"type": "string"}}`)},
	{"required property", object(`"properties": {}`), object(`"required": ["a"], "properties": {"a": {"type": "string"}}`)},
	{"required", object(`"properties": {"a": {"type": "string"}}`), object(`"required": ["a"], "properties": {"a": {"type": "string"}}`)},
	{"nullable", object(`"properties": {"a": {"type": "string"}}`), object(`"nullable": ["a"], "properties": {"a": {"type": "string"}}`)},
	{"type", twice(`{"type": "string"}`), twice(`{"type": "integer"}`)},
	{"type of an element", twice(`{"type": "array", "items": {"type": "string"}}`), twice(`{"type": "array", "items": {"type": "boolean"}}`)},
	{"format", twice(`{"type": "string"}`), twice(`{"type": "string", "format": "did"}`)},
	{"format with more values", twice(`{"type": "string", "format": "did"}`), twice(`{"type": "string", "format": "at-identifier"}`)},
	{"another format", twice(`{"type": "string", "format": "did"}`), twice(`{"type": "string", "format": "handle"}`)},
	{"const", twice(`{"type": "string"}`), twice(`{"type": "string", "const": "a"}`)},
	{"another const", twice(`{"type": "boolean", "const": true}`), twice(`{"type": "boolean", "const": false}`)},
	{"enum", twice(`{"type": "string"}`), twice(`{"type": "string", "enum": ["a", "b"]}`)},
	{"value of an enum", twice(`{"type": "integer", "enum": [1]}`), twice(`{"type": "integer", "enum": [1, 2]}`)},
	{"known value", twice(`{"type": "string", "knownValues": ["a"]}`), twice(`{"type": "string", "knownValues": ["a", "b"]}`)},
	{"default", twice(`{"type": "integer", "default": 1}`), twice(`{"type": "integer", "default": 2}`)},
	{"length of a string", twice(`{"type": "string", "maxLength": 10}`), twice(`{"type": "string", "maxLength": 20}`)},
	{"least length of a string", twice(`{"type": "string"}`), twice(`{"type": "string", "minLength": 1}`)},
	{"graphemes", twice(`{"type": "string", "maxGraphemes": 10}`), twice(`{"type": "string"}`)},
	{"range", twice(`{"type": "integer", "minimum": 1}`), twice(`{"type": "integer", "minimum": 5}`)},
	{"length of a list", twice(`{"type": "array", "items": {"type": "string"}}`), twice(`{"type": "array", "maxLength": 5, "items": {"type": "string"}}`)},
	{"length of bytes", twice(`{"type": "bytes", "maxLength": 5}`), twice(`{"type": "bytes", "maxLength": 4}`)},
	{"accept", twice(`{"type": "blob", "accept": ["image/png"]}`), twice(`{"type": "blob", "accept": ["image/*"]}`)},
	{"size of a blob", twice(`{"type": "blob", "maxSize": 10}`), twice(`{"type": "blob", "maxSize": 20}`)},
	{"ref to the same shape", twice(`{"type": "ref", "ref": "com.example.other#car"}`), twice(`{"type": "ref", "ref": "com.example.other#cart"}`)},
	{"ref to another shape", twice(`{"type": "ref", "ref": "com.example.other#car"}`), twice(`{"type": "ref", "ref": "com.example.other#boat"}`)},
	{"ref instead of a schema", twice(`{"type": "string", "maxLength": 10}`), twice(`{"type": "ref", "ref": "com.example.other#name"}`)},
	{"closed union", twice(`{"type": "union", "closed": true, "refs": ["com.example.other#car"]}`), twice(`{"type": "union", "closed": true, "refs": ["com.example.other#car", "com.example.other#boat"]}`)},
	{"open union", twice(`{"type": "union", "refs": ["com.example.other#car"]}`), twice(`{"type": "union", "refs": ["com.example.other#car", "com.example.other#boat"]}`)},
	{"union that closes", twice(`{"type": "union", "refs": ["com.example.other#car"]}`), twice(`{"type": "union", "closed": true, "refs": ["com.example.other#car"]}`)},
	{
		"message of a subscription", doc(`"main": {"type": "subscription", "message": {"schema": {"type": "union", "refs": ["#a"]}}}, "a": {"type": "object"}`),
		doc(`"main": {"type": "subscription", "message": {"schema": {"type": "union", "refs": ["#a", "#b"]}}}, "a": {"type": "object"}, "b": {"type": "object"}`),
	},
	{
		"key of a record", doc(`"main": {"type": "record", "key": "tid", "record": {"type": "object", "properties": {}}}`),
		doc(`"main": {"type": "record", "key": "any", "record": {"type": "object", "properties": {}}}`),
	},
	{
		"property of a record", doc(`"main": {"type": "record", "key": "tid", "record": {"type": "object", "properties": {"a": {"type": "string"}}}}`),
		doc(`"main": {"type": "record", "key": "tid", "record": {"type": "object", "required": ["a"], "properties": {"a": {"type": "string", "maxLength": 5}}}}`),
	},
	{
		"definition that is only answered",
		doc(`"main": {"type": "query", "output": {"encoding": "application/json", "schema": {"type": "ref", "ref": "#a"}}}, "a": {"type": "object", "properties": {"n": {"type": "string", "maxLength": 5}}}`),
		doc(`"main": {"type": "query", "output": {"encoding": "application/json", "schema": {"type": "ref", "ref": "#a"}}}, "a": {"type": "object", "properties": {"n": {"type": "string", "maxLength": 9}}}`),
	},
	{
		"permission", doc(`"main": {"type": "permission-set", "permissions": []}`),
		doc(`"main": {"type": "permission-set", "permissions": [{"type": "permission", "resource": "repo", "collection": ["com.example.post"]}]}`),
	},
	{"description", twice(`{"type": "string"}`), twice(`{"type": "string", "description": "Deprecated: use y."}`)},
	{
		"long description", twice(`{"type": "string", "description": "The media items in the gallery. Each item may be of a different type."}`),
		twice(`{"type": "string", "description": "The media items in the gallery. Each item may be of a different kind."}`),
	},
	{"property that refers", object(`"properties": {}`), object(`"properties": {"a": {"type": "array", "items": {"type": "ref", "ref": "com.example.other#car"}}}`)},
	{
		"variant of a union of unions",
		doc(`"u": {"type": "union", "refs": ["#a", "#b"]}, "v": {"type": "union", "refs": ["#u", "#a"]}, "a": {"type": "object", "properties": {}}, "b": {"type": "object", "properties": {}}`),
		doc(`"u": {"type": "union", "refs": ["#a"]}, "v": {"type": "union", "refs": ["#u", "#a"]}, "a": {"type": "object", "properties": {}}, "b": {"type": "object", "properties": {}}`),
	},
	{
		"two variants of a union that closes",
		twice(`{"type": "union", "refs": ["com.example.other#car", "com.example.other#cart", "com.example.other#boat"]}`),
		twice(`{"type": "union", "refs": ["com.example.other#boat"], "closed": true}`),
	},
	{
		"union that is a variant",
		doc(`"u": {"type": "union", "refs": ["#a", "#b"]}, "v": {"type": "union", "refs": ["#u", "#a"]}, "a": {"type": "object", "properties": {}}, "b": {"type": "object", "properties": {}}`),
		doc(`"u": {"type": "union", "refs": ["#a", "#b"]}, "v": {"type": "union", "refs": ["#a"]}, "a": {"type": "object", "properties": {}}, "b": {"type": "object", "properties": {}}`),
	},
	{
		"body that is what a ref leads to",
		doc(`"main": {"type": "query", "output": {"encoding": "application/json", "schema": {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}}}, "out": {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}}`),
		doc(`"main": {"type": "query", "output": {"encoding": "application/json", "schema": {"type": "ref", "ref": "#out"}}}, "out": {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}}`),
	},
	{
		"first of the params", doc(fmt.Sprintf(method, `, "parameters": {"type": "params", "properties": {}}`)),
		doc(fmt.Sprintf(method, `, "parameters": {"type": "params", "properties": {"a": {"type": "string", "knownValues": ["b"]}}}`)),
	},
	{
		"name of a property, the same in Go", object(`"properties": {"accountId": {"type": "string"}}`), object(`"properties": {"account-id": {"type": "string"}}`),
	},
	{"order of properties", object(`"properties": {"a": {"type": "string"}, "b": {"type": "string"}}`), object(`"properties": {"b": {"type": "string"}, "a": {"type": "string"}}`)},
}

// compare is the report where everything is generated.
func compare(old, new []*source.Document) []report.Change {
	config := model.Config{Emit: []string{"com.*"}, Import: "example.org/api", Initialisms: []string{"DID"}}
	var problems source.Problems
	return report.Compare(old, new, report.Options{Old: model.Build(config, old, &problems), New: model.Build(config, new, &problems)})
}

func TestChanges(t *testing.T) {
	var b strings.Builder
	for _, c := range cases {
		old, new := c.old.load(t), c.new.load(t)
		for _, way := range []struct {
			name string
			a, b []*source.Document
		}{{"", old, new}, {", the other way", new, old}} {
			changes := compare(way.a, way.b)
			fmt.Fprintf(&b, "# %s%s: %s\n", c.name, way.name, report.Summary(changes))
			if err := report.Write(&b, changes); err != nil {
				t.Fatal(err)
			}
			for _, change := range changes {
				if change.Old == "the old rule" {
					t.Errorf("%s%s: only lexlint saw %s", c.name, way.name, change.What)
				}
				if change.Place.Line < 3 || change.Place.Column < 1 {
					t.Errorf("%s%s: %s has the place %s", c.name, way.name, change, change.Place)
				}
			}
			b.WriteByte('\n')
		}
	}
	golden(t, "testdata/changes.golden", b.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll("testdata", 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestJSON(t *testing.T) {
	old, new := twice(`{"type": "string"}`).load(t), twice(`{"type": "string", "format": "did"}`).load(t)
	var b strings.Builder
	if err := report.WriteJSON(&b, compare(old, new)); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Direction string
		Changes   []map[string]any
	}
	if err := json.Unmarshal([]byte(b.String()), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"id": "com.example.shop.act", "type": "procedure", "where": "input.x", "rule": "input-format-narrower", "what": "format",
		"old": "none", "new": `"did"`, "direction": "breaking for clients and the server", "severity": "breaking",
		"go": []any{map[string]any{"name": "shop.ActInput.X", "old": "*string", "new": "*syntax.DID"}},
		"place": map[string]any{
			"file": "lexicons/shop/act.json", "line": 4.0, "column": 35.0,
			"pointer": "/defs/main/input/schema/properties/x/format",
		},
	}
	if got.Direction != "breaking for clients and the server" || len(got.Changes) != 2 {
		t.Fatalf("got %s", b.String())
	}
	if diff := cmp.Diff(want, got.Changes[0]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	b.Reset()
	if err := report.WriteJSON(&b, nil); err != nil || b.String() != "{\n  \"direction\": \"\",\n  \"severity\": \"\",\n  \"changes\": []\n}\n" {
		t.Errorf("nothing changed: %v\n%s", err, b.String())
	}
}

// TestUpstream is a change that upstream made: describeServer got blobUploadLimit.
func TestUpstream(t *testing.T) {
	var sides [2][]*source.Document
	for i, name := range []string{"old", "new"} {
		docs, problems, err := source.Load(os.DirFS("testdata/upstream"), name, source.Options{})
		if err == nil {
			err = problems.Err()
		}
		if err != nil {
			t.Fatal(err)
		}
		sides[i] = docs
	}
	for i, want := range []string{
		"~ com.atproto.server.describeServer (query)\n" +
			"    new/describeServer.json:22:32: output.blobUploadLimit: none → optional integer: compatible [property-added]\n",
		"! com.atproto.server.describeServer (query)\n" +
			"    new/describeServer.json:22:32 (before): output.blobUploadLimit: optional integer → none: breaking for the server [property-removed]; Go: server.DescribeServerOutput.BlobUploadLimit is gone\n",
	} {
		var b strings.Builder
		if err := report.Write(&b, compare(sides[i], sides[1-i])); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, b.String()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// The lines of reports, whatever documents say.
var (
	textShape     = regexp.MustCompile(`\A([-+!~] com\.example\.\S[^\n]* \([a-z-]+\)\n(    lexicons/x\.json:\d+:\d+( \(before\))?: [^\n]+\n)+)*\z`)
	markdownShape = regexp.MustCompile("\\A\\*\\*Lexicons:\\*\\* [a-z0-9, ]+\\n(\\n(- `[-+!~]` `[^\\n]+` \\([a-z-]+\\)\\n(  - `[^\\n]+\\n)+)+)?\\z")
	gitHubShape   = regexp.MustCompile(`\A(::(error|warning|notice) (file=lexicons/x\.json,line=\d+,col=\d+,)?title=[^,:\n]+::[^\n]+\n)*\z`)
)

// FuzzCompare compares any two documents: every change has a place and is a line in every
// format, and a tree that is compared with itself has none.
func FuzzCompare(f *testing.F) {
	for _, c := range cases {
		for name := range c.old {
			f.Add(c.old[name], c.new[name])
		}
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		load := func(defs string) []*source.Document {
			fsys := fstest.MapFS{"lexicons/x.json": {Data: []byte(`{"lexicon": 1, "id": "com.example.x", "defs": {` + defs + `}}`)}}
			docs, problems, err := source.Load(fsys, "lexicons", source.Options{Foreign: true})
			if err != nil || problems.Err() != nil {
				return nil
			}
			return docs
		}
		old, new := load(a), load(b)
		if old == nil || new == nil {
			return
		}
		changes := compare(old, new)
		for _, c := range changes {
			if c.Place.Line < 1 || c.Old == c.New && c.Direction.Breaking() || c.Direction == "" {
				t.Errorf("a change that is none: %+v", c)
			}
		}
		for name, shape := range map[string]*regexp.Regexp{"text": textShape, "markdown": markdownShape, "github": gitHubShape} {
			var b strings.Builder
			if err := report.Formats[name](&b, changes); err != nil || !shape.MatchString(b.String()) {
				t.Errorf("%s: %v\n%q", name, err, b.String())
			}
		}
		if changes := compare(old, load(a)); len(changes) > 0 {
			t.Errorf("compared with itself: %v", changes)
		}
	})
}
