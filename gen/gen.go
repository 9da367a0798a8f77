// Package gen generates Go packages from lexicons: types, schema tables, declared
// errors, and for every namespace with methods a service, a policy, routes and a
// client. The output depends on the lexicons and the configuration alone.
package gen

import (
	"fmt"
	"io/fs"
	"path"
	"strings"

	"portico/gen/model"
	"portico/gen/openapi"
	"portico/gen/render"
	"portico/gen/source"
)

// Config is what the generator is told besides the lexicons.
type Config struct {
	Lexicons string   // folder of the documents
	Out      string   // folder of the generated packages; nothing else may live there but files without the header
	Foreign  bool     // a ref to a document that is not there is raw JSON instead of a problem
	Exclude  []string // documents that do not count, by NSID or path below Lexicons; "com.example.*" and "drafts/*" are many
	OpenAPI  string   // title of the OpenAPI document beside the packages; "": none is made
	Errors   []string // names that any method may answer with besides those of the protocol, which xrpc.Undeclared was given
	Model    model.Config
}

// Result is what came of one run.
type Result struct {
	Files     map[string][]byte  // path → content, of every file below Config.Out
	Documents []*source.Document // ordered by NSID
	Packages  []*model.Package
	Warnings  []source.Problem
}

// Options are how documents are read.
func (c Config) Options() source.Options {
	return source.Options{Foreign: c.Foreign, Exclude: c.Exclude}
}

// Generate makes the files in memory; paths are relative to fsys, slash-separated.
// When anything is wrong with the documents, the error is a [source.Error] with all
// of it and nothing else is returned.
func (c Config) Generate(fsys fs.FS) (map[string][]byte, error) {
	r, err := c.Run(fsys)
	if err != nil {
		return nil, err
	}
	return r.Files, nil
}

// Run is Generate with an account of what was found.
func (c Config) Run(fsys fs.FS) (*Result, error) {
	docs, problems, err := source.Load(fsys, c.Lexicons, c.Options())
	if err != nil {
		return nil, err
	}
	pkgs := model.Build(c.Model, docs, &problems)
	if err := problems.Err(); err != nil {
		return nil, err
	}
	files, err := render.Packages(pkgs)
	if err != nil {
		return nil, fmt.Errorf("generate: %w", err)
	}
	r := &Result{Files: map[string][]byte{}, Documents: docs, Packages: pkgs, Warnings: problems.Warnings()}
	for name, data := range files {
		r.Files[path.Join(c.Out, name)] = data
	}
	if c.OpenAPI == "" || len(pkgs) == 0 {
		return r, nil
	}
	document, err := openapi.Document(c.OpenAPI, docs, pkgs, c.Errors)
	if err != nil {
		return nil, err
	}
	r.Files[path.Join(c.Out, openapi.File)] = document
	r.Files[path.Join(c.Out, openapi.GoFile)] = openapi.Package(path.Base(c.Model.Import), render.Header+strings.Join(c.Model.Emit, ", ")+render.HeaderEnd)
	return r, nil
}
