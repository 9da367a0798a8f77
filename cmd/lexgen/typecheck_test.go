package main

import (
	"bytes"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// typecheck holds every package of the module called name in dir to the rules of the
// language, as the compiler does, without making code of them. What they import from
// elsewhere was compiled for this module.
func typecheck(t *testing.T, dir, name string) (packages int) {
	t.Helper()
	fset := token.NewFileSet()
	files := map[string][]*ast.File{} // by import path
	foreign := map[string]bool{}
	err := filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(fset, file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel(dir, filepath.Dir(file))
		if err != nil {
			return err
		}
		p := path.Join(name, filepath.ToSlash(folder))
		files[p] = append(files[p], f)
		for _, i := range f.Imports {
			if imported, _ := strconv.Unquote(i.Path.Value); imported != name && !strings.HasPrefix(imported, name+"/") {
				foreign[imported] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	args := append([]string{"list", "-export", "-deps", "-f", "{{if .Export}}{{.ImportPath}} {{.Export}}{{end}}"}, slices.Sorted(maps.Keys(foreign))...)
	var errs bytes.Buffer
	list := exec.CommandContext(t.Context(), "go", args...)
	list.Stderr = &errs
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	exports := map[string]string{}
	for line := range strings.Lines(string(out)) {
		p, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		exports[p] = file
	}
	compiled := importer.ForCompiler(fset, "gc", func(p string) (io.ReadCloser, error) { return os.Open(exports[p]) })
	checked := map[string]*types.Package{}
	var imports importFunc
	imports = func(p string) (*types.Package, error) {
		if files[p] == nil {
			return compiled.Import(p)
		}
		if checked[p] != nil {
			return checked[p], nil
		}
		c := types.Config{Importer: imports, Error: func(err error) { t.Error(err) }}
		pkg, err := c.Check(p, fset, files[p], nil)
		checked[p] = pkg
		return pkg, err
	}
	for p := range files {
		if _, err := imports(p); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
	return len(files)
}

type importFunc func(string) (*types.Package, error)

func (f importFunc) Import(p string) (*types.Package, error) { return f(p) }
