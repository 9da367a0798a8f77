package command

import (
	"archive/tar"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing/fstest"

	"portico/gen"
	"portico/gen/model"
	"portico/gen/report"
	"portico/gen/source"
)

// The exit statuses of lexgen diff.
const (
	diffNothing = iota
	diffCompatible
	diffBreaking
	diffProblems
)

const diffUsage = "usage: lexgen [-C folder] diff [-format text|json|markdown|github] [-ignore RULE[:NSID]]… [OLD [NEW]]   (folders or git revisions; HEAD and the working tree)"

// diff prints what changed between two trees of lexicons.
func diff(c gen.Config, root string, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("lexgen diff", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintln(stderr, diffUsage)
		flags.PrintDefaults()
	}
	format := "text"
	flags.StringVar(&format, "format", format, "print the report as `text`, json, markdown (for a comment on a pull request) or github (annotations of GitHub Actions)")
	flags.BoolFunc("json", "the same as -format json", func(string) error { format = "json"; return nil })
	var ignored []string
	flags.Func("ignore", "changes of this `rule`, everywhere or with :NSID in one lexicon, do not count for the exit status; can be repeated", func(pattern string) error {
		ignored = append(ignored, pattern)
		return report.Ignore(nil, []string{pattern})
	})
	if err := flags.Parse(args); err != nil || flags.NArg() > 2 {
		if errors.Is(err, flag.ErrHelp) {
			return diffNothing
		}
		if err == nil {
			flags.Usage()
		}
		return diffProblems
	}
	write := report.Formats[format]
	if write == nil {
		fmt.Fprintf(stderr, "lexgen diff: there is no format %q: it is one of %s\n", format, strings.Join(report.FormatNames(), ", "))
		return diffProblems
	}
	above := ""
	if format == "github" {
		above = inRepository(root)
	}
	from := flags.Arg(0)
	if from == "" {
		from = "HEAD"
	}
	trees := []string{from}
	if flags.NArg() == 2 {
		trees = append(trees, flags.Arg(1))
	}
	var sides [][]*source.Document
	for _, name := range trees {
		docs, err := side(c, root, name, above)
		if err != nil {
			fmt.Fprintln(stderr, err)
			return diffProblems
		}
		sides = append(sides, docs)
	}
	if len(sides) == 1 {
		docs, err := load(os.DirFS(root), c.Lexicons, c.Options(), above)
		if err != nil {
			fmt.Fprintln(stderr, err)
			return diffProblems
		}
		sides = append(sides, docs)
	}
	changes, err := compare(c, sides[0], sides[1])
	if err != nil {
		fmt.Fprintln(stderr, err)
	}
	if err := report.Ignore(changes, ignored); err != nil {
		fmt.Fprintln(stderr, "lexgen diff:", err)
		return diffProblems
	}
	if err := write(stdout, changes); err != nil {
		fmt.Fprintln(stderr, "lexgen diff:", err)
		return diffProblems
	}
	switch worst := report.Worst(changes); {
	case worst == "":
		return diffNothing
	case worst.Breaking():
		return diffBreaking
	}
	return diffCompatible
}

// compare is the report, with what c generates from both. The error is for a tree that
// cannot be generated, so that the report may be wrong about its code.
func compare(c gen.Config, old, new []*source.Document) ([]report.Change, error) {
	var before, now source.Problems
	changes := report.Compare(old, new, report.Options{
		Old: model.Build(c.Model, old, &before), New: model.Build(c.Model, new, &now),
	})
	if err := before.Err(); err != nil {
		return changes, fmt.Errorf("what was before cannot be generated, so that Go names may be wrong:\n%w", err)
	}
	if err := now.Err(); err != nil {
		return changes, fmt.Errorf("what is new cannot be generated, so that Go names may be wrong:\n%w", err)
	}
	return changes, nil
}

// side loads the tree called name: a folder of lexicons, or the lexicons in a revision,
// whose paths are shown below above.
func side(c gen.Config, root, name, above string) ([]*source.Document, error) {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return load(os.DirFS(name), ".", c.Options(), filepath.ToSlash(name))
	}
	fsys, err := revision(root, name, c.Lexicons)
	if err != nil {
		return nil, err
	}
	docs, err := load(fsys, c.Lexicons, c.Options(), above)
	if err != nil {
		return nil, fmt.Errorf("in %s:\n%w", name, err)
	}
	return docs, nil
}

// inRepository is the path of root in its repository, by which others know its files; "" when
// it is the whole repository or in none.
func inRepository(root string) string {
	top, err := git(root, "rev-parse", "--show-toplevel")
	if err != nil {
		return ""
	}
	real, err := filepath.EvalSymlinks(root) // as git has it
	if err != nil {
		return ""
	}
	below, err := filepath.Rel(strings.TrimSpace(string(top)), real)
	if err != nil {
		return ""
	}
	return filepath.ToSlash(below)
}

// load reads the documents below dir. Their paths are shown below prefix.
func load(fsys fs.FS, dir string, o source.Options, prefix string) ([]*source.Document, error) {
	docs, problems, err := source.Load(fsys, dir, o)
	if err != nil {
		return nil, err
	}
	for i := range problems {
		problems[i].Path = path.Join(prefix, problems[i].Path)
	}
	for _, d := range docs {
		d.Path = path.Join(prefix, d.Path)
	}
	return docs, problems.Err()
}

// errNoRevision is for a revision that git does not know, or a folder that is in no
// repository.
var errNoRevision = errors.New("neither a folder nor a git revision here")

// revision is what the folder dir was at the revision called name of the repository
// around root. It is empty when the revision has no such folder.
func revision(root, name, dir string) (fs.FS, error) {
	// The hash cannot be taken for an option, whatever name is.
	hash, err := git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", name+"^{commit}")
	if err != nil {
		return nil, fmt.Errorf("%q is %w", name, errNoRevision)
	}
	commit := strings.TrimSpace(string(hash))
	files := fstest.MapFS{dir: {Mode: fs.ModeDir | 0o777}}
	if names, err := git(root, "ls-tree", commit, "--", dir); err != nil {
		return nil, err
	} else if len(names) == 0 {
		return files, nil
	}
	archive, err := git(root, "archive", "--format=tar", commit, "--", dir)
	if err != nil {
		return nil, err
	}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s of %s: %w", dir, name, err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return nil, fmt.Errorf("read %s of %s: %w", header.Name, name, err)
		}
		files[header.Name] = &fstest.MapFile{Data: data}
	}
}

func git(root string, args ...string) ([]byte, error) {
	out, err := exec.Command("git", append([]string{"-C", root}, args...)...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil, fmt.Errorf("git %s: %w: %s", args[0], err, bytes.TrimSpace(exit.Stderr))
	}
	if err != nil {
		return nil, fmt.Errorf("git %s: %w", args[0], err)
	}
	return out, nil
}

// sinceCommit prints the changes of docs since the last commit, except for those of
// text, which it counts; and what to do next. Without a commit to compare with, or with
// one whose lexicons are no good, it says so and no more.
func sinceCommit(c gen.Config, root string, docs []*source.Document, stdout io.Writer) error {
	old, err := side(c, root, "HEAD", "")
	switch {
	case errors.Is(err, errNoRevision):
		_, err = fmt.Fprintln(stdout, "changes: there is no commit to compare with")
		return err
	case err != nil:
		_, err = fmt.Fprintln(stdout, "changes: the lexicons of the last commit cannot be compared with:", err)
		return err
	}
	changes, wrong := compare(c, old, docs)
	if wrong != nil {
		fmt.Fprintln(stdout, "changes:", wrong)
	}
	if _, err := fmt.Fprintf(stdout, "changes since HEAD: %s\n", report.Summary(changes)); err != nil {
		return err
	}
	changes = slices.DeleteFunc(changes, func(c report.Change) bool { return c.Direction == report.Text })
	return report.Write(stdout, changes)
}
