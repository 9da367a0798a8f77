package gen_test

import (
	"bytes"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"portico/gen"
	"portico/gen/model"
)

// project generates what the project generates.
func project() gen.Config {
	return gen.Config{
		Lexicons: "lexicons", Out: "api",
		Model: model.Config{Emit: []string{"com.atproto.*"}, Import: "portico/api", Initialisms: initialisms},
	}
}

func generate(t *testing.T, c gen.Config, fsys fs.FS) map[string][]byte {
	t.Helper()
	files, err := c.Generate(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// shuffled is a file system whose folders are never in the same order.
type shuffled struct {
	fs.FS
	rand *rand.Rand
}

func (s shuffled) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(s.FS, name)
	s.rand.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
	return entries, err
}

func TestOutputDependsOnTheLexiconsAlone(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	want := generate(t, project(), os.DirFS(root))
	if len(want) < 100 {
		t.Fatalf("%d files, want one for each document and more", len(want))
	}
	same := func(what string, fsys fs.FS) {
		t.Helper()
		got := generate(t, project(), fsys)
		if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
			t.Errorf("%s: other files (-want +got):\n%s", what, diff)
		}
		for name := range want {
			if !bytes.Equal(want[name], got[name]) {
				t.Errorf("%s: %s", what, gen.Change{Path: name, Old: want[name], New: got[name]}.Diff())
			}
		}
	}
	same("a second time", os.DirFS(root))
	for seed := range uint64(3) {
		same("documents in another order", shuffled{os.DirFS(root), rand.New(rand.NewPCG(seed, 0))})
	}
	t.Chdir(t.TempDir())
	same("from another working directory", os.DirFS(root))
}

func TestProblemsDependOnTheLexiconsAlone(t *testing.T) {
	for _, name := range []string{"fail-many", "fail-cycle", "fail-names", "fail-duplicate"} {
		c := gen.Config{Lexicons: "lexicons", Model: model.Config{Emit: []string{"*"}, Initialisms: initialisms}}
		_, want := c.Generate(os.DirFS("testdata/" + name))
		for seed := range uint64(5) {
			_, got := c.Generate(shuffled{os.DirFS("testdata/" + name), rand.New(rand.NewPCG(seed, 0))})
			if want == nil || got == nil || got.Error() != want.Error() {
				t.Errorf("%s: got\n%v\nwant\n%v", name, got, want)
			}
		}
	}
}

// TestEveryDocumentOfIndigo runs over the lexicons of all authorities that the
// pinned indigo comes with.
func TestEveryDocumentOfIndigo(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/bluesky-social/indigo").Output()
	if err != nil {
		t.Fatal(err)
	}
	c := gen.Config{Lexicons: "lexicons", Out: "api", Model: model.Config{
		Emit: []string{"*"}, Import: "example.com/api", Initialisms: initialisms,
		Merge:  map[string]string{"app.bsky": "bsky", "chat.bsky": "chatbsky"},
		Rename: map[string]string{"app.bsky.embed.record:/defs/view/properties/record": "EmbedRecordViewUnion"},
	}}
	files := generate(t, c, os.DirFS(strings.TrimSpace(string(out))))
	if len(files) < 300 {
		t.Errorf("%d files, want more than 300", len(files))
	}
}

const ping = `{
  "lexicon": 1,
  "id": "com.atproto.server.ping",
  "defs": {"main": {"type": "query", "output": {"encoding": "application/json", "schema": {
    "type": "object", "required": ["pong"], "properties": {"pong": {"type": "string"}}
  }}}}
}`

// TestNewMethod adds a lexicon to those of the project: a file appears, and the
// interfaces of its namespace grow by the method. Nothing else changes.
func TestNewMethod(t *testing.T) {
	lexicons := fstest.MapFS{}
	err := fs.WalkDir(os.DirFS(".."), "lexicons", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile("../" + name)
		lexicons[name] = &fstest.MapFile{Data: data}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	present := fstest.MapFS{}
	for name, data := range generate(t, project(), lexicons) {
		present[name] = &fstest.MapFile{Data: data}
	}

	lexicons["lexicons/com/atproto/server/ping.json"] = &fstest.MapFile{Data: []byte(ping)}
	changes, err := project().Changes(present, generate(t, project(), lexicons))
	if err != nil {
		t.Fatal(err)
	}
	if len(changes) != 2 || changes[0].Path != "api/atproto/server/ping_gen.go" || changes[1].Path != "api/atproto/server/service_gen.go" {
		t.Fatalf("changed files: %v", changes)
	}
	var added []string
	for line := range strings.Lines(changes[1].Diff()) {
		switch {
		case strings.HasPrefix(line, "-") && !strings.HasPrefix(line, "---"):
			t.Errorf("a line went away: %s", line)
		case strings.HasPrefix(line, "+\t") && !strings.HasPrefix(line, "+\t//"):
			added = append(added, strings.TrimSpace(line[1:]))
		}
	}
	want := []string{
		"Ping(ctx context.Context) (*PingOutput, error)",
		"Ping() xrpc.Policy[xrpc.None]",
		"xrpc.Handle(s, &ping, p.Ping(), xrpc.WithoutInput(svc.Ping)),",
		"return xrpc.Do[xrpc.None, PingOutput](ctx, &c.Client, &ping, nil)",
	}
	if diff := cmp.Diff(want, added); diff != "" {
		t.Errorf("added lines (-want +got):\n%s", diff)
	}

	delete(lexicons, "lexicons/com/atproto/server/ping.json")
	for _, c := range changes {
		present[c.Path] = &fstest.MapFile{Data: c.New}
	}
	changes, err = project().Changes(present, generate(t, project(), lexicons))
	if err != nil {
		t.Fatal(err)
	}
	if len(changes) != 2 || changes[0].Path != "api/atproto/server/ping_gen.go" || changes[0].New != nil {
		t.Errorf("ping is gone, but the changes are %v", changes)
	}
}

const header = "// Code generated by lexgen from com.example.x. DO NOT EDIT.\n"

func TestChanges(t *testing.T) {
	c := gen.Config{Out: "api"}
	fsys := fstest.MapFS{
		"api/a/same_gen.go":    {Data: []byte(header + "same")},
		"api/a/changed_gen.go": {Data: []byte(header + "old")},
		"api/a/stale_gen.go":   {Data: []byte(header + "stale")},
		"api/a/written_gen.go": {Data: []byte("// Written by hand.\n" + header)},
		"api/a/other_gen.go":   {Data: []byte("// Code generated by stringer. DO NOT EDIT.\n")},
		"api/a/doc.go":         {Data: []byte(header)},
		"elsewhere/old_gen.go": {Data: []byte(header)},
	}
	files := map[string][]byte{
		"api/a/same_gen.go":    []byte(header + "same"),
		"api/a/changed_gen.go": []byte(header + "new"),
		"api/b/added_gen.go":   []byte(header + "added"),
	}
	got, err := c.Changes(fsys, files)
	if err != nil {
		t.Fatal(err)
	}
	want := []gen.Change{
		{Path: "api/a/changed_gen.go", Old: []byte(header + "old"), New: []byte(header + "new")},
		{Path: "api/a/stale_gen.go", Old: []byte(header + "stale")},
		{Path: "api/b/added_gen.go", New: []byte(header + "added")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	files["api/a/written_gen.go"] = []byte(header)
	files["api/a/other_gen.go"] = []byte(header)
	_, err = c.Changes(fsys, files)
	const clashes = "api/a/other_gen.go: was not generated and is in the way; move it or rename the document\n" +
		"api/a/written_gen.go: was not generated and is in the way; move it or rename the document"
	if err == nil || err.Error() != clashes {
		t.Errorf("got error %v, want\n%s", err, clashes)
	}

	if got, err := c.Changes(fstest.MapFS{}, nil); len(got) > 0 || err != nil {
		t.Errorf("without an output folder: %v, %v", got, err)
	}
}

func TestApply(t *testing.T) {
	root := t.TempDir()
	if err := gen.Apply(root, []gen.Change{
		{Path: "api/a/b/x_gen.go", New: []byte("x")},
		{Path: "api/c/y_gen.go", New: []byte("y")},
	}); err != nil {
		t.Fatal(err)
	}
	if err := gen.Apply(root, []gen.Change{
		{Path: "api/a/b/x_gen.go", Old: []byte("x")},
		{Path: "api/c/y_gen.go", Old: []byte("y"), New: []byte("z")},
	}); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(root, "api/c/y_gen.go")); string(data) != "z" || err != nil {
		t.Errorf("y_gen.go: %q, %v", data, err)
	}
	if _, err := os.Stat(filepath.Join(root, "api/a")); !os.IsNotExist(err) {
		t.Errorf("the empty folders are still there: %v", err)
	}
}

func TestDiff(t *testing.T) {
	many := func(lines ...string) []byte { return []byte(strings.Join(lines, "\n") + "\n") }
	tests := []struct {
		name string
		gen.Change
		want string
	}{
		{"new file", gen.Change{Path: "x", New: many("a", "b")}, "--- /dev/null\n+++ x\n@@ -0,0 +1,2 @@\n+a\n+b\n"},
		{"stale file", gen.Change{Path: "x", Old: many("a", "b")}, "--- x\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-a\n-b\n"},
		{
			"one line", gen.Change{Path: "x", Old: many("1", "2", "3", "4", "5", "6", "7", "8"), New: many("1", "2", "3", "4", "five", "6", "7", "8")},
			"--- x\n+++ x\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n",
		},
		{
			"two hunks",
			gen.Change{Path: "x", Old: many("a", "1", "2", "3", "4", "5", "6", "7", "8", "z"), New: many("1", "2", "3", "4", "5", "6", "7", "8", "y", "z")},
			"--- x\n+++ x\n@@ -1,4 +1,3 @@\n-a\n 1\n 2\n 3\n@@ -7,4 +6,5 @@\n 6\n 7\n 8\n+y\n z\n",
		},
		{
			"near changes are one hunk",
			gen.Change{Path: "x", Old: many("a", "1", "2", "b"), New: many("A", "1", "2", "B")},
			"--- x\n+++ x\n@@ -1,4 +1,4 @@\n-a\n+A\n 1\n 2\n-b\n+B\n",
		},
	}
	for _, test := range tests {
		if diff := cmp.Diff(test.want, test.Change.Diff()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func FuzzGenerate(f *testing.F) {
	err := fs.WalkDir(os.DirFS("testdata"), ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(name, ".json") && strings.Contains(name, "lexicons") {
			var data []byte
			data, err = os.ReadFile("testdata/" + name)
			f.Add(data, []byte(ping))
		}
		return err
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		fsys := fstest.MapFS{"lexicons/a.json": {Data: a}, "lexicons/b.json": {Data: b}}
		for _, foreign := range []bool{false, true} {
			c := gen.Config{Lexicons: "lexicons", Foreign: foreign, Model: model.Config{Emit: []string{"*"}, Import: "x", Initialisms: initialisms}}
			files, err := c.Generate(fsys)
			if err != nil {
				if strings.HasPrefix(err.Error(), "generate:") {
					t.Errorf("documents without problems make no Go: %v", err)
				}
				continue
			}
			again, err := c.Generate(fsys)
			if err != nil || !maps.EqualFunc(files, again, slices.Equal) {
				t.Errorf("another run makes something else: %v", err)
			}
		}
	})
}
