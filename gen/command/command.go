// Package command is the command line of generators: of this module's own, and of those
// that projects have with a configuration of their own.
package command

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"portico/gen"
	"portico/gen/openapi"
)

// Tool is the generator of one module.
type Tool struct {
	Config gen.Config
	File   string             // where Config stands in the module, for messages
	Run    string             // the command that generates, for messages
	Check  string             // the command that tells whether all is well after it
	More   map[string]Command // commands that this generator has besides, by name
}

// Command is a command with arguments of its own, which works in the folder of -C and
// returns the exit status.
type Command func(c gen.Config, dir string, args []string, stdout, stderr io.Writer) (status int)

func (t Tool) usage() string {
	s := "usage: lexgen [-C folder] [-dangling=raw] [generate | check | list | openapi | diff … | pull … | sync …"
	for _, name := range slices.Sorted(maps.Keys(t.More)) {
		s += " | " + name + " …"
	}
	return s + "]"
}

// Main is the whole command. It returns the exit status: 1 when documents are wrong or
// files are stale, 2 when the command line is. Some commands have their own.
func (t Tool) Main(args []string, stdout, stderr io.Writer) int {
	c := t.Config
	flags := flag.NewFlagSet("lexgen", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintln(stderr, t.usage())
		flags.PrintDefaults()
	}
	dir := flags.String("C", ".", "work in the module around `folder`")
	dangling := flags.String("dangling", "error", "what a ref to a document that is not there is: an `error`, or raw JSON")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	switch *dangling {
	case "error":
	case "raw":
		c.Foreign = true
	default:
		fmt.Fprintf(stderr, "lexgen: -dangling is error or raw, not %q\n", *dangling)
		return 2
	}
	name := flags.Arg(0)
	if more, ok := t.More[name]; ok {
		return more(c, *dir, flags.Args()[1:], stdout, stderr)
	}
	tools := map[string]func(gen.Config, string, []string, io.Writer, io.Writer) int{
		"diff": diff, "pull": pullLexicons, "sync": syncLexicons,
	}
	if tool := tools[name]; tool != nil {
		root, err := Root(c, *dir)
		if err != nil {
			fmt.Fprintln(stderr, "lexgen:", err)
			return map[bool]int{true: diffProblems, false: 1}[name == "diff"]
		}
		return tool(c, root, flags.Args()[1:], stdout, stderr)
	}
	commands := map[string]func(gen.Config, string, *gen.Result, io.Writer) error{
		"": t.generate, "generate": t.generate, "check": t.check, "list": list, "openapi": printOpenAPI,
	}
	command := commands[name]
	if command == nil || flags.NArg() > 1 {
		fmt.Fprintln(stderr, t.usage())
		return 2
	}
	root, err := Root(c, *dir)
	if err != nil {
		fmt.Fprintln(stderr, "lexgen:", err)
		return 1
	}
	r, err := c.Run(os.DirFS(root))
	if err != nil {
		fmt.Fprintln(stderr, err)
		t.suggest(c, root, stderr)
		return 1
	}
	for _, w := range r.Warnings {
		fmt.Fprintln(stderr, w)
	}
	if err := command(c, root, r, stdout); err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

// suggest prints what to add to the configuration, when no more than that is needed.
func (t Tool) suggest(c gen.Config, root string, stderr io.Writer) {
	s, err := c.Settle(os.DirFS(root), gen.Settling{Decide: true})
	if err != nil || len(s.Added) == 0 {
		return
	}
	fmt.Fprintf(stderr, "\nWith these entries in the model.Config of %s all of it is settled:\n\n", t.File)
	for i, d := range s.Added {
		if i == 0 || s.Added[i-1].Setting != d.Setting {
			fmt.Fprintf(stderr, "\t%s: map[string]string{\n", d.Setting)
		}
		fmt.Fprintf(stderr, "\t\t%q: %q, // %s\n", d.Entry, d.Value, d.Why)
		if i+1 == len(s.Added) || s.Added[i+1].Setting != d.Setting {
			fmt.Fprint(stderr, "\t},\n")
		}
	}
}

// Module is the root of the module that dir is in, and the path of the module.
func Module(dir string) (root, name string, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return "", "", err
	}
	for root = dir; ; root = filepath.Dir(root) {
		text, err := os.ReadFile(filepath.Join(root, "go.mod"))
		if err == nil {
			return root, modulePath(string(text)), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", "", err
		}
		if root == filepath.Dir(root) {
			return "", "", fmt.Errorf("%s is in no Go module", dir)
		}
	}
}

// modulePath is the path of a module as its go.mod has it, "" when that has none.
func modulePath(mod string) string {
	for line := range strings.Lines(mod) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "module" {
			return strings.Trim(words[1], "\"`")
		}
	}
	return ""
}

// Root is the root of the module that dir is in. Another module than that of c is an error:
// its lexicons are generated otherwise, and its files are not c's to delete.
func Root(c gen.Config, dir string) (string, error) {
	root, name, err := Module(dir)
	if err == nil && path.Join(name, c.Out) != c.Model.Import {
		err = fmt.Errorf("%s is the module %s, and this generator writes %s: use that module's own, with go tool lexgen there", root, name, c.Model.Import)
	}
	return root, err
}

func (t Tool) generate(c gen.Config, root string, r *gen.Result, stdout io.Writer) error {
	changes, err := c.Changes(os.DirFS(root), r.Files)
	if err != nil {
		return err
	}
	if err := gen.Apply(root, changes); err != nil {
		return err
	}
	removed := 0
	for _, change := range changes {
		if change.New == nil {
			removed++
		}
	}
	methods := 0
	for _, p := range r.Packages {
		methods += len(p.Methods)
	}
	written := len(changes) - removed
	fmt.Fprintf(stdout, "%s: %d documents, %d methods\n", c.Lexicons, len(r.Documents), methods)
	if err := sinceCommit(c, root, r.Documents, stdout); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s: %d written, %d removed, %d unchanged\n", c.Out, written, removed, len(r.Files)-written)
	if len(changes) > 0 {
		next := "next: go vet ./... names what has to follow"
		if t.Check != "" {
			next += ", " + t.Check + " tells whether all of it did"
		}
		fmt.Fprintln(stdout, next)
	}
	return nil
}

func (t Tool) check(c gen.Config, root string, r *gen.Result, stdout io.Writer) error {
	changes, err := c.Changes(os.DirFS(root), r.Files)
	if err != nil || len(changes) == 0 {
		return err
	}
	for _, change := range changes {
		fmt.Fprint(stdout, change.Diff())
	}
	return fmt.Errorf("%d generated files are not what the lexicons say: run `%s`", len(changes), t.Run)
}

func list(c gen.Config, _ string, r *gen.Result, stdout io.Writer) error {
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	made := map[string]string{}
	for _, p := range r.Packages {
		for _, f := range p.Files {
			made[f.Source] = "types\t\t" + path.Join(c.Out, p.Dir, f.Name)
		}
		for _, m := range p.Methods {
			made[m.NSID] = strings.Replace(made[m.NSID], "types\t", strings.ToLower(m.Kind)+"\tService."+m.Name, 1)
		}
	}
	for _, d := range r.Documents {
		what, ok := made[d.NSID]
		if !ok {
			what = "nothing\t\t"
		}
		fmt.Fprintf(w, "%s\t%s\n", d.NSID, what)
	}
	return w.Flush()
}

// printOpenAPI prints the document that generate writes to a file.
func printOpenAPI(c gen.Config, _ string, r *gen.Result, stdout io.Writer) error {
	_, err := stdout.Write(r.Files[path.Join(c.Out, openapi.File)])
	return err
}
