// Lexgen generates the packages below api from the documents below lexicons.
//
//	lexgen [-C folder] [generate]   write what changed, delete what is no longer produced
//	lexgen [-C folder] check        print what generate would change; exit 1 when there is anything
//	lexgen [-C folder] list         print every document and what is made of it
//	lexgen [-C folder] openapi      print the OpenAPI document of what is generated
//	lexgen [-C folder] diff [-json] [OLD [NEW]]
//	                                print what changed between two trees of lexicons, and whom it breaks
//	lexgen [-C folder] pull NSID|AUTHORITY…
//	                                bring lexicons from where they are published, proven
//	lexgen [-C folder] sync FOLDER  bring the lexicons to the state of a checkout of upstream
//	lexgen [-C folder] new -lexicons FOLDER OUT
//	                                start a project of its own from the documents below FOLDER
//
// It works in the module that the folder is in (usually the current one). With
// -dangling=raw, a ref to a document that is not there is raw JSON and no problem.
//
// OLD and NEW of diff are folders or git revisions: usually the last commit and the
// working tree. Its exit status is 0 when nothing changed, 1 when what changed is
// compatible, 2 when it breaks clients or the server, and 3 when a tree has problems.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"portico/gen"
)

func main() {
	os.Exit(run(config, os.Args[1:], os.Stdout, os.Stderr))
}

const usage = "usage: lexgen [-C folder] [-dangling=raw] [generate | check | list | openapi | diff … | pull … | sync … | new …]"

// tools are the commands that take arguments of their own. dir is what -C says.
var tools = map[string]func(c gen.Config, dir string, args []string, stdout, stderr io.Writer) (status int){}

// run is the whole command. It returns the exit status: 1 when documents are wrong or
// files are stale, 2 when the command line is. Tools have their own.
func run(c gen.Config, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("lexgen", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprintln(stderr, usage) }
	dir := flags.String("C", ".", "work in the module around `folder`")
	dangling := flags.String("dangling", "error", "what a ref to a document that is not there is: an `error`, or raw JSON")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	commands := map[string]func(gen.Config, string, *gen.Result, io.Writer) error{
		"generate": generate, "check": check, "list": list, "openapi": printOpenAPI,
	}
	switch *dangling {
	case "error":
	case "raw":
		c.Foreign = true
	default:
		fmt.Fprintf(stderr, "lexgen: -dangling is error or raw, not %q\n", *dangling)
		return 2
	}
	if tool := tools[flags.Arg(0)]; tool != nil {
		return tool(c, *dir, flags.Args()[1:], stdout, stderr)
	}
	name := flags.Arg(0)
	if name == "" {
		name = "generate"
	}
	command := commands[name]
	if command == nil || flags.NArg() > 1 {
		fmt.Fprintln(stderr, usage)
		return 2
	}
	root, err := module(*dir)
	if err != nil {
		fmt.Fprintln(stderr, "lexgen:", err)
		return 1
	}
	r, err := c.Run(os.DirFS(root))
	if err != nil {
		fmt.Fprintln(stderr, err)
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

// module is the root of the module that dir is in.
func module(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return at, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("%s is in no Go module", dir)
		}
	}
}

func generate(c gen.Config, root string, r *gen.Result, stdout io.Writer) error {
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
		fmt.Fprintln(stdout, "next: go vet ./... names what has to follow, make check tells whether all of it did")
	}
	return nil
}

func check(c gen.Config, root string, r *gen.Result, stdout io.Writer) error {
	changes, err := c.Changes(os.DirFS(root), r.Files)
	if err != nil || len(changes) == 0 {
		return err
	}
	for _, change := range changes {
		fmt.Fprint(stdout, change.Diff())
	}
	return fmt.Errorf("%d generated files are not what the lexicons say: run `make generate`", len(changes))
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
