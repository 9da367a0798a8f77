package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"portico/gen"
	"portico/gen/scaffold"
)

const newUsage = `usage: lexgen new -lexicons FOLDER [-module PATH] [-dangling=raw] [-merge GROUP=FOLDER] [-folder NAMESPACE=FOLDER] [-rename PLACE=NAME] OUT`

func init() { tools["new"] = newProject }

// newProject starts a project in an empty folder: its lexicons, what is generated from
// them, and a server that answers 501. Nothing is written when anything is wrong.
func newProject(c gen.Config, dir string, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("lexgen new", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprintln(stderr, newUsage) }
	lexicons := flags.String("lexicons", "", "take the documents below `folder`")
	module := flags.String("module", "", "the `path` of the new module; usually the name of its folder")
	dangling := flags.String("dangling", "", "raw: a ref to a document that is not there is raw JSON")
	c.Model.Merge, c.Model.Folders, c.Model.Rename = map[string]string{}, map[string]string{}, map[string]string{}
	pairs := func(into map[string]string) func(string) error {
		return func(s string) error {
			// A place has colons and slashes, an identifier and a folder no "=".
			i := strings.LastIndexByte(s, '=')
			if i < 0 {
				return errors.New("want A=B")
			}
			into[s[:i]] = s[i+1:]
			return nil
		}
	}
	flags.Func("merge", "GROUP=FOLDER as in Merge of the configuration", pairs(c.Model.Merge))
	flags.Func("folder", "NAMESPACE=FOLDER as in Folders", pairs(c.Model.Folders))
	flags.Func("rename", "PLACE=NAME as in Rename", pairs(c.Model.Rename))
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	switch *dangling {
	case "", "error":
	case "raw":
		c.Foreign = true
	default:
		flags.Usage()
		return 2
	}
	if flags.NArg() != 1 || *lexicons == "" {
		flags.Usage()
		return 2
	}
	if err := start(c, dir, *lexicons, *module, flags.Arg(0), stdout, stderr); err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

func start(c gen.Config, dir, lexicons, name, out string, stdout, stderr io.Writer) error {
	checkout, err := module(dir)
	if err != nil {
		return err
	}
	if out, err = filepath.Abs(out); err != nil {
		return err
	}
	if entries, err := os.ReadDir(out); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty: a new project needs a folder of its own", out)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if lexicons, err = filepath.Abs(lexicons); err != nil {
		return err
	}
	if name == "" {
		name = filepath.Base(out)
	}
	if !moduleName(name) {
		return fmt.Errorf("%q cannot be the path of a module: choose one with -module, example.com/name say", name)
	}
	// The configuration is that of the new project, but for where the documents are now.
	c.Lexicons, c.Out, c.OpenAPI = filepath.Base(lexicons), "api", path.Base(name)
	c.Model.Emit, c.Model.Import = []string{"*"}, name+"/api"
	r, err := c.Run(os.DirFS(filepath.Dir(lexicons)))
	if err != nil {
		return fmt.Errorf("%w\n\nNothing was written. What a message asks to add to Merge, Folders or Rename is given with -merge, -folder or -rename; "+
			"-dangling=raw takes refs to documents that are not there as raw JSON", err)
	}
	for _, w := range r.Warnings {
		fmt.Fprintln(stderr, w)
	}
	p, err := project(c, checkout, name, out)
	if err != nil {
		return err
	}
	files, err := p.Files(r.Packages)
	if err != nil {
		return err
	}
	for _, d := range r.Documents {
		source := filepath.Join(filepath.Dir(lexicons), filepath.FromSlash(d.Path))
		data, err := os.ReadFile(source)
		if err != nil {
			return err
		}
		files["lexicons"+strings.TrimPrefix(d.Path, c.Lexicons)] = data
	}
	maps.Copy(files, r.Files)
	if files["go.sum"], err = os.ReadFile(filepath.Join(checkout, "go.sum")); err != nil {
		return err
	}
	var changes []gen.Change
	for name, data := range files {
		changes = append(changes, gen.Change{Path: name, New: data})
	}
	slices.SortFunc(changes, func(a, b gen.Change) int { return strings.Compare(a.Path, b.Path) })
	if err := gen.Apply(out, changes); err != nil {
		return err
	}
	methods := 0
	for _, p := range r.Packages {
		methods += len(p.Methods)
	}
	fmt.Fprintf(stdout, "%s: %d documents, %d methods, all of which answer 501\n", name, len(r.Documents), methods)
	fmt.Fprintf(stdout, "next: go run . in the new folder; then write the methods in impl\n")
	return nil
}

// moduleName tells whether p is fit for a module path and for what is made of it.
func moduleName(p string) bool {
	for segment := range strings.SplitSeq(p, "/") {
		if segment == "" || strings.Trim(segment, ".") == "" {
			return false
		}
	}
	return p != "portico" && !strings.HasPrefix(p, "portico/") && strings.IndexFunc(p, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("./-_~", r))
	}) < 0
}

// project is what the new module takes from the checkout: where it is, the version of
// Go, and the modules behind what the project imports.
func project(c gen.Config, checkout, name, out string) (p scaffold.Project, err error) {
	c.Lexicons = "lexicons"
	p = scaffold.Project{Module: name, Config: c}
	if within, err := filepath.Rel(checkout, out); err == nil && filepath.IsLocal(within) {
		return p, fmt.Errorf("%s is inside of the checkout of portico: a project of its own needs a folder outside", out)
	}
	if p.Checkout, err = filepath.Rel(out, checkout); err != nil {
		p.Checkout = checkout
	}
	p.Checkout = filepath.ToSlash(p.Checkout)
	list := func(args ...string) ([]string, error) {
		cmd := exec.Command("go", append([]string{"list"}, args...)...)
		cmd.Dir = checkout
		var errs strings.Builder
		cmd.Stderr = &errs
		text, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("go list in %s: %w: %s", checkout, err, errs.String())
		}
		return strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' || r == '\r' }), nil
	}
	main, err := list("-m", "-f", "{{.Path}} {{.GoVersion}}")
	if err != nil {
		return p, err
	}
	var ok bool
	if p.Go, ok = strings.CutPrefix(strings.Join(main, ""), "portico "); !ok {
		return p, fmt.Errorf("%s is not a checkout of portico: run lexgen new in one, or name it with -C", checkout)
	}
	p.Require, err = list("-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}{{end}}{{end}}", "./api/xrpc", "./gen")
	slices.Sort(p.Require)
	p.Require = slices.Compact(p.Require)
	return p, err
}
