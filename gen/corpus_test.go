package gen_test

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"portico/gen"
	"portico/gen/corpora"
	"portico/gen/model"
	"portico/gen/source"
)

// indigo is the folder of the pinned module, which carries the documents of four
// authorities.
func indigo(t testing.TB) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/bluesky-social/indigo").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// four generates the documents of com.atproto, app.bsky, chat.bsky and tools.ozone.
func four() gen.Config {
	return gen.Config{Lexicons: "lexicons", Out: "api", Model: model.Config{
		Emit: []string{"*"}, Import: "portico/gen/internal/corpus/api", Initialisms: initialisms,
		Merge:  map[string]string{"app.bsky": "bsky", "chat.bsky": "chatbsky"},
		Rename: map[string]string{"app.bsky.embed.record:/defs/view/properties/record": "EmbedRecordViewUnion"},
	}}
}

// TestFigures generates everything in a process of its own and tells what that took:
// a maintainer would notice two seconds, or 200 MB. How fast the machine is, is not
// the test's to judge.
func TestFigures(t *testing.T) {
	const variable = "GEN_FIGURES"
	if dir := os.Getenv(variable); dir != "" {
		start := time.Now()
		r, err := four().Run(os.DirFS(dir))
		if err != nil {
			t.Fatal(err)
		}
		status, _ := os.ReadFile("/proc/self/status") // other systems tell in other ways
		peak := 0
		for line := range strings.Lines(string(status)) {
			fmt.Sscanf(line, "VmHWM: %d kB", &peak)
		}
		fmt.Printf("figures %d %d %d %d\n", len(r.Documents), len(r.Files), time.Since(start).Milliseconds(), peak)
		return
	}
	dir := indigo(t)
	var documents, files, milliseconds, peak int
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFigures$")
	cmd.Env = append(os.Environ(), variable+"="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := fmt.Sscanf(string(out), "figures %d %d %d %d", &documents, &files, &milliseconds, &peak); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%d documents → %d files in %s, at most %d MB", documents, files, time.Duration(milliseconds)*time.Millisecond, peak>>10)
	if documents < 370 || files < 300 {
		t.Errorf("%d documents, %d files: fewer than there were", documents, files)
	}
}

func TestCorpusInAnyOrder(t *testing.T) {
	fsys := os.DirFS(indigo(t))
	want := generate(t, four(), fsys)
	for seed := range uint64(2) {
		got := generate(t, four(), shuffled{fsys, rand.New(rand.NewPCG(seed, 1))})
		if !maps.EqualFunc(want, got, bytes.Equal) {
			t.Error("documents in another order make something else")
		}
	}
}

//go:embed internal/driver.go.txt
var driver string

// sample is a value of a generated type, and ways to break it.
type sample struct {
	Type      string // a key of the driver's types
	ID        string // what the message says
	Value     any
	RoundTrip bool
	Bad       []mutation
	Refuse    bool // Value itself is to be refused
}

type mutation struct {
	What  string
	Path  string // where the table has to find it
	Value any
}

// TestCorpusRoundTrip compiles what is generated for every document, together with
// documents in which every definition that has no type of its own (a string, a token)
// is a property. For each type a value is made from the document; it has to survive
// JSON → Go → JSON, and its table has to accept it, and to refuse it, naming the place,
// when one constraint is broken.
//
// What is generated is laid over a folder of this module that is not there, so that
// neither it nor what it imports is compiled by all but the first run.
func TestCorpusRoundTrip(t *testing.T) {
	dir := indigo(t)
	fsys := fstest.MapFS{}
	add := func(dir, prefix string) {
		t.Helper()
		err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || path.Ext(name) != ".json" {
				return err
			}
			data, err := os.ReadFile(filepath.Join(dir, name))
			fsys[path.Join(prefix, name)] = &fstest.MapFile{Data: data}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	add(filepath.Join(dir, "lexicons"), "lexicons")
	fsys["lexicons/wrapped.json"] = wrap(t, fsys)
	// Indigo's own fixtures are a tree of their own: they define com.atproto.label.defs again.
	add(filepath.Join(dir, "atproto/lexicon/testdata/catalog"), "fixtures")
	add("testdata/oddities/lexicons", "oddities")
	add("../lexicons", "authors")
	authors, err := gen.Config{Lexicons: "authors", Out: "authors", Model: model.Config{
		Emit: addAuthors(t, fsys, "authors"), Import: "portico/gen/internal/corpus/authors", Initialisms: initialisms,
	}}.Settle(fsys, gen.Settling{Decide: true})
	if err != nil {
		t.Fatal(err)
	}

	root := newOverlay(t, "internal/corpus")
	packages := map[string]bool{}
	types := map[string]string{} // "pkg.Type" → import path
	var samples []sample
	documents, definitions := 0, 0
	for _, c := range []gen.Config{four(), {
		Lexicons: "fixtures", Out: "fixtures", Foreign: true,
		Model: model.Config{Emit: []string{"*"}, Import: "portico/gen/internal/corpus/fixtures", Initialisms: initialisms},
	}, {
		Lexicons: "oddities", Out: "oddities",
		Model: model.Config{Emit: []string{"*"}, Import: "portico/gen/internal/corpus/oddities", Initialisms: initialisms},
	}, authors.Config} {
		r, err := c.Run(fsys)
		if err != nil {
			t.Fatal(err)
		}
		for name, data := range r.Files {
			root.put(name, data)
			if path.Ext(name) == ".go" {
				packages["portico/gen/internal/corpus/"+path.Dir(name)] = true
			}
		}
		y := newSynthesis(t, r)
		for _, d := range r.Documents {
			if !slices.ContainsFunc(c.Model.Emit, func(pattern string) bool { return source.Matches(pattern, d.NSID) }) {
				continue
			}
			documents++
			for _, def := range d.Defs {
				definitions++
				y.definition(def)
			}
		}
		for _, s := range y.samples {
			p := s.Type[:strings.LastIndexByte(s.Type, '.')]
			types[s.Type] = p
			samples = append(samples, s)
		}
	}
	for _, verdict := range []string{"valid", "invalid"} {
		var records []struct {
			Name string
			Data any
		}
		data, err := os.ReadFile(filepath.Join(dir, "atproto/lexicon/testdata/record-data-"+verdict+".json"))
		if err == nil {
			err = decode(data, &records)
		}
		if err != nil || len(records) == 0 {
			t.Fatal(err)
		}
		for _, f := range records {
			samples = append(samples, sample{
				Type: "portico/gen/internal/corpus/fixtures/lexicon.Record", ID: verdict + " record: " + f.Name,
				Value: f.Data, Refuse: verdict == "invalid", // and no round trip: they lack what has a default
			})
		}
	}

	var imports, entries strings.Builder
	names := map[string]string{}
	for _, imp := range slices.Sorted(maps.Keys(packages)) {
		names[imp] = "_" // compiled, and no more
		if slices.Contains(slices.Collect(maps.Values(types)), imp) {
			names[imp] = fmt.Sprintf("p%d", len(names))
		}
		fmt.Fprintf(&imports, "\t%s %q\n", names[imp], imp)
	}
	for _, typ := range slices.Sorted(maps.Keys(types)) {
		fmt.Fprintf(&entries, "\t%q: func() value { return new(%s%s) },\n", typ, names[types[typ]], typ[strings.LastIndexByte(typ, '.'):])
	}
	main := strings.Replace(driver, "//IMPORTS\n", imports.String(), 1)
	root.put("main.go", []byte(strings.Replace(main, "//TYPES\n", entries.String(), 1)))

	var lines bytes.Buffer
	e := json.NewEncoder(&lines)
	bad := 0
	for _, s := range samples {
		bad += len(s.Bad)
		if err := e.Encode(s); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d documents, %d definitions, %d types, %d values, %d of them broken", documents, definitions, len(types), len(samples)+bad, bad)
	if out := root.run("portico/gen/internal/corpus", &lines); out != "" {
		t.Errorf("%s", out)
	}
}

// addAuthors puts the documents of all authors below dir and returns their NSIDs.
func addAuthors(t *testing.T, fsys fstest.MapFS, dir string) (nsids []string) {
	t.Helper()
	all, err := corpora.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		for _, d := range c.Documents {
			if name := path.Join(dir, d.ID+".json"); fsys[name] == nil {
				fsys[name] = &fstest.MapFile{Data: d.Text}
				nsids = append(nsids, d.ID)
			}
		}
	}
	return nsids
}

// TestMessagesLeadOn does what the messages ask for, from no settings at all to
// packages of everything.
func TestMessagesLeadOn(t *testing.T) {
	c := four()
	c.Model.Merge, c.Model.Rename = map[string]string{}, map[string]string{}
	fsys := os.DirFS(indigo(t))
	merge := regexp.MustCompile(`add "(\S+)": "(\S+)" to Merge`)
	rename := regexp.MustCompile(`add "(\S+)" to Rename`)
	for range 3 {
		_, err := c.Generate(fsys)
		if err == nil {
			break
		}
		for _, m := range merge.FindAllStringSubmatch(err.Error(), -1) {
			c.Model.Merge[m[1]] = m[2]
		}
		for i, m := range rename.FindAllStringSubmatch(err.Error(), -1) {
			c.Model.Rename[m[1]] = fmt.Sprintf("Renamed%d", i)
		}
	}
	if _, err := c.Generate(fsys); err != nil {
		t.Error(err)
	}
	want := map[string]string{"app.bsky": "appbsky", "chat.bsky": "chatbsky"}
	if !maps.Equal(c.Model.Merge, want) || len(c.Model.Rename) != 1 {
		t.Errorf("merged %v, renamed %v", c.Model.Merge, c.Model.Rename)
	}
}

// TestVerdictsOfIndigo compares what is said of documents with the fixtures that indigo
// has, from which Go, TypeScript and others are tested.
func TestVerdictsOfIndigo(t *testing.T) {
	// Definitions that are a ref or unknown are refused there and occur in the world.
	tolerated := []string{"defined unknown", "defined ref"}
	seen := 0
	for _, verdict := range []string{"valid", "invalid"} {
		var documents []struct {
			Name    string
			Lexicon json.RawMessage
		}
		data, err := os.ReadFile(filepath.Join(indigo(t), "atproto/lexicon/testdata/lexicon-"+verdict+".json"))
		if err == nil {
			err = json.Unmarshal(data, &documents)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range documents {
			seen++
			var problems source.Problems
			source.Parse("x.json", d.Lexicon, &problems)
			want := verdict == "valid" || slices.Contains(tolerated, d.Name)
			if err := problems.Err(); (err == nil) != want {
				t.Errorf("%s document %q: %v", verdict, d.Name, err)
			}
		}
	}
	if seen < 8 {
		t.Errorf("only %d documents", seen)
	}
}

// wrap makes a document with an object for every definition that has no Go type that
// could be checked by itself.
func wrap(t *testing.T, fsys fs.FS) *fstest.MapFile {
	t.Helper()
	docs, problems, err := source.Load(fsys, "lexicons", source.Options{})
	if err == nil {
		err = problems.Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	var defs []string
	for _, d := range docs {
		for _, def := range d.Defs {
			switch def.Node.String("type") {
			case "query", "procedure", "subscription", "permission-set", "record", "object", "union":
			default:
				defs = append(defs, fmt.Sprintf(`"w%d": {"type": "object", "required": ["value"], "properties": {"value": {"type": "ref", "ref": %q}}}`, len(defs), def.ID()))
			}
		}
	}
	return &fstest.MapFile{Data: fmt.Appendf(nil, `{"lexicon": 1, "id": "com.example.wrapped.defs", "defs": {%s}}`, strings.Join(defs, ",\n"))}
}

// overlay is files that the go command sees in a folder of this module.
type overlay struct {
	*testing.T
	dir, actual string // where they seem to be, and are
	files       map[string]string
}

func newOverlay(t *testing.T, dir string) *overlay {
	t.Helper()
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	return &overlay{t, dir, t.TempDir(), map[string]string{}}
}

func (o *overlay) put(name string, data []byte) {
	o.Helper()
	file := filepath.Join(o.actual, fmt.Sprint(len(o.files), ".go"))
	if err := os.WriteFile(file, data, 0o666); err != nil {
		o.Fatal(err)
	}
	o.files[filepath.Join(o.dir, filepath.FromSlash(name))] = file
}

// run runs the program that is the package, and returns what it prints.
func (o *overlay) run(program string, stdin *bytes.Buffer) string {
	o.Helper()
	replace, err := json.Marshal(map[string]any{"Replace": o.files})
	if err != nil {
		o.Fatal(err)
	}
	list := filepath.Join(o.actual, "overlay.json")
	if err := os.WriteFile(list, replace, 0o666); err != nil {
		o.Fatal(err)
	}
	// What runs once is not worth the whole of the compiler's pains.
	cmd := exec.CommandContext(o.Context(), "go", "run", "-overlay", list, "-gcflags", program+"/...=-N -l -dwarf=false", "-ldflags", "-s -w", program)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		o.Fatalf("%s: %v\n%s%s", program, err, stdout.String(), stderr.String())
	}
	return stdout.String()
}

func decode(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return d.Decode(v)
}
