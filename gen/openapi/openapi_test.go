package openapi_test

import (
	"encoding/json"
	"flag"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator/errors"
	schema "github.com/pb33f/libopenapi-validator/schema_validation"

	"portico/gen"
	"portico/gen/model"
)

var update = flag.Bool("update", false, "write the golden file anew")

func generate(t *testing.T, fsys fs.FS, c gen.Config) []byte {
	t.Helper()
	c.Lexicons, c.Out, c.OpenAPI, c.Model.Import = "lexicons", "api", "Test", "example.com/api"
	files, err := c.Generate(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return files["api/openapi.json"]
}

// everything emits all documents, and takes refs that lead nowhere as they are.
var everything = gen.Config{Foreign: true, Model: model.Config{Emit: []string{"*"}}}

// valid asks a validator of OpenAPI 3.1 for its opinion.
func valid(t *testing.T, document []byte) {
	t.Helper()
	for _, p := range problems(t, document) {
		t.Error(p)
		for _, reason := range p.SchemaValidationErrors {
			t.Error(reason)
		}
	}
}

func problems(t *testing.T, document []byte) []*validator.ValidationError {
	t.Helper()
	d, err := libopenapi.NewDocument(document)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.BuildV3Model(); err != nil { // which follows every $ref
		t.Fatal(err)
	}
	_, all := schema.ValidateOpenAPIDocument(d)
	return all
}

func TestEveryConstruct(t *testing.T) {
	got := generate(t, os.DirFS("testdata"), everything)
	valid(t, got)
	const golden = "testdata/openapi.json"
	if *update {
		if err := os.WriteFile(golden, got, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("not as in %s (-want +got):\n%s", golden, diff)
	}
}

func TestValidatorRefuses(t *testing.T) {
	broken := strings.Replace(string(generate(t, os.DirFS("testdata"), everything)), `"in": "query"`, `"in": "nowhere"`, 1)
	if len(problems(t, []byte(broken))) == 0 {
		t.Error("the validator accepts a parameter that is nowhere")
	}
}

// The document of the project is valid; that it is the one that the lexicons make is
// the business of lexgen check.
func TestProject(t *testing.T) {
	document, err := os.ReadFile("../../api/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	valid(t, document)
}

type shuffled struct {
	fs.FS
	rand *rand.Rand
}

func (s shuffled) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(s.FS, name)
	s.rand.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
	return entries, err
}

// indigo is the folder of the pinned module, which carries the documents of four
// authorities.
func indigo(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/bluesky-social/indigo").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func ofIndigo() gen.Config {
	c := everything
	c.Model.Merge = map[string]string{"app.bsky": "bsky", "chat.bsky": "chatbsky"}
	c.Model.Rename = map[string]string{"app.bsky.embed.record:/defs/view/properties/record": "EmbedRecordViewUnion"}
	return c
}

func TestEveryDocumentOfIndigo(t *testing.T) {
	fsys, c := os.DirFS(indigo(t)), ofIndigo()
	document := generate(t, fsys, c)
	valid(t, document)
	for seed := range uint64(2) {
		if again := generate(t, shuffled{fsys, rand.New(rand.NewPCG(seed, 0))}, c); string(again) != string(document) {
			t.Error("documents in another order give another OpenAPI document")
		}
	}
	var d struct {
		Paths map[string]map[string]struct{ OperationID string }
	}
	if err := json.Unmarshal(document, &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Paths) < 200 {
		t.Errorf("%d paths, want more than 200", len(d.Paths))
	}
	if d.Paths["/xrpc/app.bsky.feed.getFeed"]["get"].OperationID != "app.bsky.feed.getFeed" {
		t.Error("getFeed is not there")
	}
}
