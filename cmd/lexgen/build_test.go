package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"portico/gen/report"
	"portico/gen/source"
)

// TestReportAgreesWithTheCompiler makes one change after the other to upstream's documents,
// and holds what the report says of each to what becomes of code: of this repository's own,
// and of a program that uses every name of the packages that are generated now. Of that, no
// other names may stop compiling than those that the report has, and each of those has to.
func TestReportAgreesWithTheCompiler(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // it is short, and busy
	now := newModule(t)
	old := t.TempDir()
	lexicons := os.DirFS(filepath.Join(now.root, config.Lexicons))
	if err := os.CopyFS(old, lexicons); err != nil {
		t.Fatal(err)
	}
	new := t.TempDir()
	if err := os.CopyFS(new, lexicons); err != nil {
		t.Fatal(err)
	}
	if broken, own := now.broken(t, new); len(broken) > 0 || own {
		t.Fatalf("without any change: %v, %t", broken, own)
	}
	seen := map[string]bool{}
	for i, c := range buildCases {
		if raced && i%10 != 0 {
			continue // they differ in what is compared, not in how
		}
		t.Run(c.name, func(t *testing.T) {
			if seen[c.name] {
				t.Fatal("there are two of this name")
			}
			seen[c.name] = true
			defer c.restore(t, old, new)
			c.apply(t, new)

			status, stdout, stderr := lexgen(t, "-C", now.root, "diff", "-format", "json", old, new)
			var said struct{ Changes []report.Change }
			if err := json.Unmarshal([]byte(stdout), &said); err != nil || stderr != "" {
				t.Fatalf("%d %v %s", status, err, stderr)
			}
			var lines []string
			reported := map[string]bool{}
			for _, change := range said.Changes {
				lines = append(lines, fmt.Sprintf("%s: %s", change.Rule, change.Direction))
				for _, n := range change.Go {
					name := n.Name
					if strings.HasPrefix(path.Ext(name), ".New") && strings.HasPrefix(n.Old, "*") {
						name += "(" + n.Old + ")"
					}
					reported[name] = true
				}
			}
			if !slices.Equal(lines, c.want) {
				t.Errorf("the report is\n\t%s\nwant\n\t%s", strings.Join(lines, "\n\t"), strings.Join(c.want, "\n\t"))
			}

			broken, own := now.broken(t, new)
			for name := range reported {
				if !slices.ContainsFunc(slices.Collect(maps.Keys(broken)), func(b string) bool { return within(name, b) }) {
					t.Errorf("%s still compiles", name)
				}
			}
			for b, why := range broken {
				if !slices.ContainsFunc(slices.Collect(maps.Keys(reported)), func(name string) bool { return within(name, b) }) {
					t.Errorf("the report lacks %s: %s", b, why)
				}
			}
			if own != c.own {
				t.Errorf("that this repository does not compile is %t", own)
			}
			if len(reported) > 0 != c.breaks {
				t.Errorf("the report says of the build that it breaks: %t (%v)", len(reported) > 0, slices.Sorted(maps.Keys(reported)))
			}
			if own && len(reported) == 0 {
				t.Error("this repository does not compile, and the report says nothing of it")
			}
		})
	}
}

// within tells whether b is the name, or a field or variant of the type called name.
func within(name, b string) bool {
	pkg, ident, _ := strings.Cut(name, ".")
	return b == name || strings.HasPrefix(b, name+".") || strings.HasPrefix(b, pkg+".New"+ident+"(")
}

// module is this repository as it was compiled.
type module struct {
	root     string
	fset     *token.FileSet
	listed   map[string]*listed // by import path
	parsed   map[string]*ast.File
	compiled types.Importer
	files    map[string][]byte   // that are generated now
	uses     map[string]*program // by the package that they use
}

type listed struct {
	ImportPath, Dir, Export string
	GoFiles, Deps           []string
}

func newModule(t *testing.T) *module {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	m := &module{
		root: root, fset: token.NewFileSet(), listed: map[string]*listed{}, parsed: map[string]*ast.File{}, uses: map[string]*program{},
	}
	list := exec.CommandContext(t.Context(), "go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,Deps",
		"./api/...", "./impl/...", "./cmd/portico")
	list.Dir = root
	var errs bytes.Buffer
	list.Stderr = &errs
	out, err := list.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		m.listed[p.ImportPath] = &p
	}
	m.compiled = importer.ForCompiler(m.fset, "gc", func(p string) (io.ReadCloser, error) {
		if m.listed[p] == nil {
			return nil, fmt.Errorf("%s was not compiled", p)
		}
		return os.Open(m.listed[p].Export)
	})
	m.files = packages(t, filepath.Join(root, config.Lexicons))
	return m
}

// broken generates from the lexicons below dir and finds what no longer compiles: names that
// other code uses, with the first error, and whether this repository's own code does.
func (m *module) broken(t *testing.T, dir string) (names map[string]string, own bool) {
	t.Helper()
	files := packages(t, dir)
	affected := map[string]bool{}
	for _, names := range []map[string][]byte{files, m.files} {
		for name := range names {
			if !bytes.Equal(files[name], m.files[name]) {
				affected[path.Join("portico", path.Dir(name))] = true
			}
		}
	}
	from := maps.Clone(affected) // what is compiled anew
	for _, p := range m.listed {
		if slices.ContainsFunc(p.Deps, func(d string) bool { return affected[d] }) {
			from[p.ImportPath] = true
		}
	}
	checked := map[string]*types.Package{}
	var check importFunc
	check = func(p string) (*types.Package, error) {
		if !from[p] {
			return m.compiled.Import(p)
		}
		if pkg, ok := checked[p]; ok {
			return pkg, nil
		}
		generated := strings.HasPrefix(p, "portico/api/")
		var parsed []*ast.File
		if affected[p] {
			for name, data := range files {
				if path.Join("portico", path.Dir(name)) == p {
					parsed = append(parsed, m.parse(t, name, data))
				}
			}
		} else {
			for _, name := range m.listed[p].GoFiles {
				parsed = append(parsed, m.parse(t, filepath.Join(m.listed[p].Dir, name), nil))
			}
		}
		if len(parsed) == 0 {
			return nil, fmt.Errorf("there is no %s any longer", p)
		}
		pkg, _ := (&types.Config{Importer: check, Error: func(err error) {
			if generated {
				t.Errorf("what was generated does not compile: %v", err)
			}
			own = true
			t.Log(err)
		}}).Check(p, m.fset, parsed, nil)
		checked[p] = pkg
		return pkg, nil
	}
	for _, p := range slices.Sorted(maps.Keys(from)) {
		if _, err := check(p); err != nil && m.listed[p] == nil {
			t.Error(err)
		}
	}
	names = map[string]string{}
	for p := range affected {
		if m.listed[p] == nil {
			continue // new, and nobody uses it
		}
		if m.uses[p] == nil {
			m.uses[p] = m.program(t, p)
		}
		use := m.uses[p]
		_, _ = (&types.Config{Importer: check, Error: func(err error) {
			e := err.(types.Error)
			name := use.names[m.fset.Position(e.Pos).Line]
			if name == "" {
				name = path.Base(p)
			}
			if lacks := missing.FindStringSubmatch(e.Msg); lacks != nil {
				name = path.Base(p) + ".Service." + lacks[1]
			}
			if names[name] == "" {
				names[name] = e.Msg
			}
		}}).Check("use", m.fset, []*ast.File{use.file}, nil)
	}
	return names, own
}

// packages generates the packages from the lexicons below dir.
func packages(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	c := config
	c.Lexicons, c.OpenAPI = ".", ""
	files, err := c.Generate(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

var missing = regexp.MustCompile(`(?:missing|wrong type for) method (\w+)`)

func (m *module) parse(t *testing.T, name string, data []byte) *ast.File {
	t.Helper()
	key := name + "\x00" + string(data)
	if m.parsed[key] == nil {
		var src any
		if data != nil {
			src = data
		}
		f, err := parser.ParseFile(m.fset, name, src, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		m.parsed[key] = f
	}
	return m.parsed[key]
}

// program uses every name of a package as code does, each on a line of its own.
type program struct {
	names   map[int]string // by line
	file    *ast.File
	body    strings.Builder
	lines   int
	pkg     *types.Package
	imports map[string]string // path → name
}

// program is written from what the compiler knows of the package p, and not from the model.
func (m *module) program(t *testing.T, p string) *program {
	t.Helper()
	pkg, err := m.compiled.Import(p)
	if err != nil {
		t.Fatal(err)
	}
	g := &program{names: map[int]string{}, pkg: pkg, imports: map[string]string{}}
	for _, name := range pkg.Scope().Names() {
		if obj := pkg.Scope().Lookup(name); obj.Exported() {
			g.use(obj)
		}
	}
	var head strings.Builder
	head.WriteString("package use; import (")
	for _, p := range slices.Sorted(maps.Keys(g.imports)) {
		fmt.Fprintf(&head, "%s %q; ", g.imports[p], p)
	}
	head.WriteString(")\n")
	text := head.String() + g.body.String()
	g.file, err = parser.ParseFile(m.fset, "use_"+pkg.Name()+".go", text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return g
}

// line writes a line about the name.
func (g *program) line(name, format string, args ...any) {
	fmt.Fprintf(&g.body, format+"\n", args...)
	g.lines++
	g.names[g.lines+1] = g.pkg.Name() + "." + name // below the imports
}

// typ is how the program spells t.
func (g *program) typ(t types.Type) string {
	return types.TypeString(t, func(p *types.Package) string {
		if g.imports[p.Path()] == "" {
			g.imports[p.Path()] = fmt.Sprintf("p%d", len(g.imports))
		}
		return g.imports[p.Path()]
	})
}

func (g *program) use(obj types.Object) {
	name, typ := obj.Name(), g.typ(obj.Type())
	own := strings.TrimSuffix(g.typ(types.NewNamed(types.NewTypeName(0, g.pkg, "X", nil), types.Typ[types.Int], nil)), "X")
	switch obj := obj.(type) {
	case *types.Const:
		g.line(name, "const _ string = %s%s", own, name)
	case *types.Var:
		g.line(name, "var _ %s = %s%s", typ, own, name)
	case *types.Func:
		g.construct(obj, own)
	case *types.TypeName:
		if obj.IsAlias() {
			g.line(name, "func _(v %s%s) %s { return v }", own, name, g.typ(types.Unalias(obj.Type())))
			return
		}
		switch u := obj.Type().Underlying().(type) {
		case *types.Struct:
			g.object(obj, u)
		case *types.Interface:
			g.implement(obj, u)
		}
	}
}

// construct calls the New of a union with each of its variants.
func (g *program) construct(f *types.Func, own string) {
	params := f.Signature().TypeParams()
	if params.Len() == 0 {
		return // Register and Records come and go with methods and records
	}
	union := params.At(0).Constraint().Underlying().(*types.Interface).EmbeddedType(0)
	terms := []types.Type{union}
	if u, ok := union.(*types.Union); ok {
		terms = nil
		for term := range u.Terms() {
			terms = append(terms, term.Type())
		}
	}
	for _, v := range terms {
		shown := types.TypeString(v, func(p *types.Package) string {
			if p == g.pkg {
				return ""
			}
			return p.Name()
		})
		g.line(f.Name()+"("+shown+")", "func _(v %s) { _ = %s%s(v) }", g.typ(v), own, f.Name())
	}
}

// object sets the fields of a struct in a literal, and reads them.
func (g *program) object(obj *types.TypeName, s *types.Struct) {
	typ := g.typ(obj.Type())
	if obj.Name() == "Client" {
		return // what it can is the Service
	}
	opaque := false
	for f := range s.Fields() {
		if !f.Exported() {
			opaque = true
			continue
		}
		ft := g.typ(f.Type())
		g.line(obj.Name()+"."+f.Name(), "func _(v %s) %s { s := %s{%s: v}; return s.%s }", ft, ft, typ, f.Name(), f.Name())
	}
	if opaque { // a union
		g.line(obj.Name(), "func _(v *%s) any { return v.Value() }", typ)
		return
	}
	g.line(obj.Name(), "func _() *%s { return &%s{} }", typ, typ)
}

// implement implements Service and Policy, and calls the Service and the Client.
func (g *program) implement(obj *types.TypeName, i *types.Interface) {
	typ := g.typ(obj.Type())
	mine := strings.ToLower(obj.Name())
	g.line(obj.Name(), "type %s struct{}; var _ %s = %s{}", mine, typ, mine)
	for f := range i.Methods() {
		name, signature := "Service."+f.Name(), g.typ(f.Signature())
		g.line(name, "func (%s) %s%s { panic(0) }", mine, f.Name(), strings.TrimPrefix(signature, "func"))
		if obj.Name() == "Service" {
			g.line(name, "func _(s %s) %s { return s.%s }", typ, signature, f.Name())
			g.line(name, "func _(c *%s) %s { return c.%s }", strings.Replace(typ, ".Service", ".Client", 1), signature, f.Name())
		}
	}
}

// edit is a change of one document: the value at a JSON pointer becomes another. A member
// that is not there is added, as is what "-" at the end of a list stands for; and "" takes
// one away. Without a pointer, the whole document comes or goes.
type edit struct{ nsid, pointer, value string }

// file is where the document is below a folder of lexicons.
func (e edit) file() string { return strings.ReplaceAll(e.nsid, ".", "/") + ".json" }

// apply makes the edits below the folder new.
func (c buildCase) apply(t *testing.T, new string) {
	t.Helper()
	for _, e := range c.edits {
		file := filepath.Join(new, filepath.FromSlash(e.file()))
		switch {
		case e.pointer == "" && e.value == "":
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			continue
		case e.pointer == "":
			put(t, new, e.file(), fmt.Sprintf(`{"lexicon": 1, "id": %q, "defs": %s}`, e.nsid, e.value))
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		put(t, new, e.file(), e.splice(t, data))
	}
}

func (e edit) splice(t *testing.T, data []byte) string {
	t.Helper()
	var problems source.Problems // between one edit and the next there may be some
	doc := source.Parse(e.nsid, data, &problems)
	at, segments := doc.Root(), strings.Split(e.pointer, "/")[1:]
	last := segments[len(segments)-1]
	for _, s := range segments[:len(segments)-1] {
		if next := at.Get(s); next != nil {
			at = next
		} else {
			var i int
			if _, err := fmt.Sscan(s, &i); err != nil || i >= len(at.Items) {
				t.Fatalf("%s has no %s", e.nsid, e.pointer)
			}
			at = at.Items[i]
		}
	}
	var parts []string
	done := false
	set := func(prefix string) {
		if done = true; e.value != "" {
			parts = append(parts, prefix+e.value)
		}
	}
	brackets := "{}"
	for _, m := range at.Members {
		key := fmt.Sprintf("%q: ", m.Key)
		if m.Key == last {
			set(key)
		} else {
			parts = append(parts, key+string(m.Value.Raw))
		}
	}
	if at.Kind == source.Array {
		brackets = "[]"
		for i, item := range at.Items {
			if fmt.Sprint(i) == last {
				set("")
			} else {
				parts = append(parts, string(item.Raw))
			}
		}
		if last == "-" {
			set("")
		}
	} else if !done {
		set(fmt.Sprintf("%q: ", last))
	}
	return string(data[:at.Offset]) + brackets[:1] + strings.Join(parts, ",\n") + brackets[1:] + string(data[at.Offset+len(at.Raw):])
}

// restore makes what the edits changed below new what it is below old.
func (c buildCase) restore(t *testing.T, old, new string) {
	t.Helper()
	for _, e := range c.edits {
		data, err := os.ReadFile(filepath.Join(old, filepath.FromSlash(e.file())))
		switch {
		case err == nil:
			put(t, new, e.file(), string(data))
		case os.IsNotExist(err):
			if err := os.Remove(filepath.Join(new, filepath.FromSlash(e.file()))); err != nil {
				t.Error(err)
			}
		default:
			t.Error(err)
		}
	}
}
