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
	"testing/fstest"

	"portico/gen"
	"portico/gen/command"
	"portico/gen/scaffold"
	"portico/gen/source"
)

const newUsage = `usage: lexgen new -lexicons FOLDER [-module PATH] [-exclude PATTERN] [-skip-invalid] [-dangling=raw] [-merge=ask] [-merge GROUP=FOLDER] [-folder NAMESPACE=FOLDER] [-rename PLACE=NAME] OUT`

// leftOut is the exit status of lexgen new when the project was made, but not of all documents.
const leftOut = 3

// wishes are what a new project is to be like.
type wishes struct {
	lexicons, module, out string
	ask                   bool // settle nothing
	skipInvalid           bool // documents that are left out are no failure
}

// newProject starts a project in an empty folder: its lexicons, what is generated from
// them, and a server that answers 501. What documents need to be settled is settled in its
// configuration, and those that cannot be used are left out.
func newProject(c gen.Config, dir string, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("lexgen new", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprintln(stderr, newUsage) }
	var w wishes
	flags.StringVar(&w.lexicons, "lexicons", "", "take the documents below `folder`")
	flags.StringVar(&w.module, "module", "", "the `path` of the new module; usually the name of its folder")
	flags.BoolVar(&w.skipInvalid, "skip-invalid", false, "exit with 0 although documents were left out")
	flags.Func("exclude", "leave out the documents that `pattern` matches: an NSID, a path below the folder, or what either begins with and *", func(s string) error {
		c.Exclude = append(c.Exclude, s)
		return nil
	})
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
	flags.Func("merge", "GROUP=FOLDER as in Merge of the configuration; ask: say what has to be settled, and write nothing", func(s string) error {
		if s == "ask" {
			w.ask = true
			return nil
		}
		return pairs(c.Model.Merge)(s)
	})
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
	if flags.NArg() != 1 || w.lexicons == "" {
		flags.Usage()
		return 2
	}
	w.out = flags.Arg(0)
	left, err := start(c, dir, w, stdout, stderr)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	if len(left) == 0 {
		return 0
	}
	fmt.Fprintf(stderr, "\nleft out, for they cannot be used:\n%s\n", left.Error())
	if w.skipInvalid {
		return 0
	}
	return leftOut
}

// start makes the project and returns what is wrong with the documents that it has not.
func start(c gen.Config, dir string, w wishes, stdout, stderr io.Writer) (left source.Error, err error) {
	checkout, _, err := command.Module(dir)
	if err != nil {
		return nil, err
	}
	out, lexicons, name := w.out, w.lexicons, w.module
	if out, err = filepath.Abs(out); err != nil {
		return nil, err
	}
	if entries, err := os.ReadDir(out); err == nil && len(entries) > 0 {
		return nil, fmt.Errorf("%s is not empty: a new project needs a folder of its own", out)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if lexicons, err = filepath.Abs(lexicons); err != nil {
		return nil, err
	}
	if name == "" {
		name = filepath.Base(out)
	}
	if !moduleName(name) {
		return nil, fmt.Errorf("%q cannot be the path of a module: choose one with -module, example.com/name say", name)
	}
	documents := os.DirFS(filepath.Dir(lexicons))
	var lent []string
	if !c.Foreign {
		if documents, lent, err = lend(documents, filepath.Base(lexicons), os.DirFS(checkout), c.Lexicons); err != nil {
			return nil, err
		}
	}
	// The configuration is that of the new project, but for where the documents are now.
	c.Lexicons, c.Out, c.OpenAPI = filepath.Base(lexicons), "api", path.Base(name)
	c.Errors = nil // are those of the server here
	c.Model.Emit, c.Model.Import = []string{"*"}, name+"/api"
	s, err := c.Settle(documents, gen.Settling{Decide: !w.ask, LeaveOut: !w.ask || w.skipInvalid})
	if err != nil {
		return nil, fmt.Errorf("%w\n\nNothing was written. What a message asks to add to Merge, Folders or Rename is given with -merge, -folder or -rename; "+
			"-dangling=raw takes refs to documents that are not there as raw JSON", err)
	}
	c, left = s.Config, s.LeftOut
	r, err := c.Run(documents)
	if err != nil {
		return nil, err
	}
	if len(r.Packages) == 0 {
		nothing := fmt.Errorf("nothing was written: no document below %s has anything to generate", w.lexicons)
		if len(left) > 0 {
			nothing = fmt.Errorf("%w\n\n%w", left, nothing)
		}
		return nil, nothing
	}
	for _, w := range r.Warnings {
		fmt.Fprintln(stderr, w)
	}
	p, err := project(c, checkout, name, out)
	if err != nil {
		return nil, err
	}
	files, err := p.Files(r.Packages)
	if err != nil {
		return nil, err
	}
	for _, d := range r.Documents {
		data, err := fs.ReadFile(documents, d.Path)
		if err != nil {
			return nil, err
		}
		files["lexicons"+strings.TrimPrefix(d.Path, c.Lexicons)] = data
	}
	maps.Copy(files, r.Files)
	if files["go.sum"], err = os.ReadFile(filepath.Join(checkout, "go.sum")); err != nil {
		return nil, err
	}
	var changes []gen.Change
	for name, data := range files {
		changes = append(changes, gen.Change{Path: name, New: data})
	}
	slices.SortFunc(changes, func(a, b gen.Change) int { return strings.Compare(a.Path, b.Path) })
	if err := gen.Apply(out, changes); err != nil {
		return nil, err
	}
	if len(lent) > 0 {
		fmt.Fprintf(stdout, "taken from the lexicons of portico: %s\n", strings.Join(lent, ", "))
	}
	for _, d := range s.Added {
		fmt.Fprintf(stdout, "settled in lexgen/main.go: %s\n", d)
	}
	methods := 0
	for _, p := range r.Packages {
		methods += len(p.Methods)
	}
	if methods == 0 {
		fmt.Fprintf(stdout, "%s: %d documents, nothing to serve: api has types and their tables, and there is no server\n", name, len(r.Documents))
		fmt.Fprintf(stdout, "next: go vet ./... in the new folder; then import its packages\n")
		return left, nil
	}
	fmt.Fprintf(stdout, "%s: %d documents, %d methods, all of which answer 501\n", name, len(r.Documents), methods)
	fmt.Fprintf(stdout, "next: go run . in the new folder; then write the methods in impl\n")
	return left, nil
}

// lend adds to the documents below folder those that they refer to and do not have, where
// the checkout has them among its own: nearly everybody refers to com.atproto.repo.strongRef.
func lend(documents fs.FS, folder string, checkout fs.FS, own string) (all fstest.MapFS, lent []string, err error) {
	all = fstest.MapFS{}
	err = fs.WalkDir(documents, folder, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Ext(name) != ".json" {
			return err
		}
		data, err := fs.ReadFile(documents, name)
		all[name] = &fstest.MapFile{Data: data, Mode: 0o644}
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read lexicons: %w", err)
	}
	queue, _, err := source.Load(all, folder, source.Options{Foreign: true})
	if err != nil {
		return nil, nil, err
	}
	ours, _, err := source.Load(checkout, own, source.Options{Foreign: true})
	if err != nil {
		return nil, nil, err
	}
	there := map[string]bool{}
	for _, d := range queue {
		there[d.NSID] = true
	}
	for ; len(queue) > 0; queue = queue[1:] {
		for _, nsid := range queue[0].Refs() {
			i := slices.IndexFunc(ours, func(d *source.Document) bool { return d.NSID == nsid })
			if there[nsid] || i < 0 {
				continue
			}
			name := folder + strings.TrimPrefix(ours[i].Path, own)
			if all[name] != nil { // what is wrong with it is for others to say
				continue
			}
			data, err := fs.ReadFile(checkout, ours[i].Path)
			if err != nil {
				return nil, nil, err
			}
			there[nsid] = true
			all[name] = &fstest.MapFile{Data: data, Mode: 0o644}
			lent = append(lent, nsid)
			queue = append(queue, ours[i])
		}
	}
	slices.Sort(lent)
	return all, lent, nil
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
	p.Require, err = list("-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}{{end}}{{end}}", "./api/xrpc", "./gen/command")
	slices.Sort(p.Require)
	p.Require = slices.Compact(p.Require)
	return p, err
}
