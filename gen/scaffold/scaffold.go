// Package scaffold starts a project on generated packages: a server whose methods all
// answer 501 until somebody writes them and decides who may call them.
package scaffold

import (
	"bytes"
	"embed"
	"fmt"
	"go/format"
	"path"
	"slices"
	"strings"
	"text/template"

	"portico/gen"
	"portico/gen/model"
)

// Project is what is to be started.
type Project struct {
	Module   string     // path of its Go module
	Go       string     // the version of the language, as in go.mod
	Checkout string     // where the module portico is, for the replace line: absolute, or beginning with "./" or "../"
	Require  []string   // "module version" of everything that it and portico need
	Config   gen.Config // of its generator
}

//go:embed templates
var templates embed.FS

// namespace is a package with methods, as the templates see it.
type namespace struct {
	*model.Package
	Project
	Impl, API string // names of the imports in main.go
	Methods   []method
}

// method is a method with its types spelt out for a package that imports the
// generated one as api.
type method struct {
	*model.Method
	Params, Result, Answer, In string
}

// Files are the files of the project beside the generated ones and the lexicons:
// path → content. Without a method to serve there is no server among them.
func (p Project) Files(pkgs []*model.Package) (map[string][]byte, error) {
	var all []namespace
	for _, pkg := range pkgs {
		if len(pkg.Methods) == 0 {
			continue
		}
		n := namespace{Package: pkg, Project: p}
		for _, m := range pkg.Methods {
			n.Methods = append(n.Methods, spell(m))
		}
		all = append(all, n)
	}
	name(all)
	t, err := template.New("").Funcs(template.FuncMap{
		"literal": func(v any) string { return fmt.Sprintf("%#v", v) },
		"base":    path.Base,
		"lower":   strings.ToLower,
	}).ParseFS(templates, "templates/*.tmpl")
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	write := func(name, from string, data any) error {
		var b bytes.Buffer
		if err := t.ExecuteTemplate(&b, from+".tmpl", data); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		src := b.Bytes()
		if path.Ext(name) == ".go" {
			if src, err = format.Source(src); err != nil {
				return fmt.Errorf("format %s: %w", name, err)
			}
		}
		files[name] = src
		return nil
	}
	names := []string{"go.mod", "README.md", "lexgen/main.go"}
	if len(all) > 0 {
		names = append(names, "main.go", "impl/undecided.go")
	}
	for _, f := range names {
		data := struct {
			Project
			Namespaces []namespace
			Packages   []*model.Package
		}{p, all, pkgs}
		if err := write(f, strings.ReplaceAll(f, "/", "_"), data); err != nil {
			return nil, err
		}
	}
	for _, n := range all {
		for _, f := range []string{"service.go", "policy.go"} {
			if err := write(path.Join("impl", n.Dir, f), f, n); err != nil {
				return nil, err
			}
		}
	}
	return files, nil
}

// name chooses what main.go calls the packages: the last segment of the folder where
// that is one package's only, else all of them.
func name(all []namespace) {
	taken := strings.Fields("context echo errors flag fmt http impl middleware net os signal syscall time xrpc api main")
	count := map[string]int{}
	for _, n := range all {
		count[n.Name]++
	}
	for i := range all {
		n := &all[i]
		usual := n.Name
		if count[usual] > 1 {
			usual = strings.ReplaceAll(n.Dir, "/", "")
		}
		name := usual
		for k := 2; slices.Contains(taken, name) || slices.Contains(taken, name+"api"); k++ {
			name = fmt.Sprintf("%s%d", usual, k)
		}
		n.Impl, n.API = name, name+"api"
		taken = append(taken, n.Impl, n.API)
	}
}

// spell says what m looks like in the interfaces that are to be satisfied.
func spell(m *model.Method) method {
	s := method{Method: m, Params: "ctx context.Context", Result: "error", In: "xrpc.None"}
	var in string
	if m.Params != nil {
		s.In = "api." + m.Params.Name
		s.Params += ", params *" + s.In
	}
	if m.Input != nil {
		in = spellType(m.Input.Type)
		s.Params += ", in *" + in
		if m.Params == nil {
			s.In = in
		} else {
			s.In = "xrpc.Args[" + s.In + ", " + in + "]"
		}
	}
	if m.Message != nil {
		s.Params += ", out *xrpc.Stream[" + spellType(m.Message.Type) + "]"
	}
	if m.Output != nil {
		s.Result = "(*" + spellType(m.Output.Type) + ", error)"
		s.Answer = "nil, "
	}
	return s
}

// spellType spells the type of a body, which is of the generated package or a stream.
func spellType(t model.Type) string {
	if t.Import == model.Runtime {
		return "xrpc." + t.Name
	}
	return "api." + t.Name
}
