package command

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/gen"
	"portico/gen/pull"
)

const (
	pullUsage = "usage: lexgen [-C folder] pull [-dns HOST:PORT] [-plc URL] NSID|AUTHORITY…   (AUTHORITY: com.example.shop.* or example.com)"
	syncUsage = "usage: lexgen [-C folder] sync FOLDER   (a checkout of upstream, or its folder of lexicons)"
)

// pullLexicons brings lexicons from where their authorities publish them.
func pullLexicons(c gen.Config, root string, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("lexgen pull", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprintln(stderr, pullUsage) }
	dns := flags.String("dns", "", "ask the name server at `host:port`; usually those of the machine")
	plc := flags.String("plc", identity.DefaultPLCURL, "the PLC directory's `url`")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if flags.NArg() == 0 {
		flags.Usage()
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	directory := &identity.BaseDirectory{PLCURL: strings.TrimSuffix(*plc, "/"), UserAgent: "lexgen"}
	if *dns != "" {
		directory.Resolver = net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, *dns)
		}}
	}
	if err := pullAll(ctx, c, root, &pull.Network{Directory: directory}, flags.Args(), stdout); err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

// pullAll writes nothing when anything is wrong, and all problems are reported.
func pullAll(ctx context.Context, c gen.Config, root string, network *pull.Network, args []string, stdout io.Writer) error {
	folder, err := pull.Open(os.DirFS(root), c.Lexicons)
	if err != nil {
		return err
	}
	var wanted []syntax.NSID
	var errs []error
	for _, arg := range args {
		if domain, ok := pull.Authority(arg); ok {
			list, err := network.List(ctx, domain)
			if err == nil && len(list) == 0 {
				err = fmt.Errorf("the repository of %s has no lexicons of that authority", domain)
			}
			errs = append(errs, err)
			wanted = append(wanted, list...)
			continue
		}
		nsid, err := syntax.ParseNSID(arg)
		if err != nil {
			errs = append(errs, fmt.Errorf("%q is no NSID, and no authority: com.example.shop.* or example.com is one", arg))
			continue
		}
		wanted = append(wanted, nsid)
	}
	var records []*pull.Record
	seen := map[syntax.NSID]bool{}
	for _, nsid := range wanted {
		if seen[nsid] {
			continue
		}
		seen[nsid] = true
		r, err := network.Fetch(ctx, nsid)
		errs = append(errs, err)
		if err == nil {
			records = append(records, r)
		}
	}
	var said strings.Builder
	missing := map[string][]string{} // by who refers to them
	for _, r := range records {
		changed, lacks, err := folder.Add(r)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		what := "unchanged"
		if changed {
			what = "written"
		}
		fmt.Fprintf(&said, "%s: %s, from %s\n", r.NSID, what, r.URI())
		missing[r.NSID.String()] = lacks
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, r := range records {
		for _, nsid := range missing[r.NSID.String()] {
			if !seen[syntax.NSID(nsid)] {
				seen[syntax.NSID(nsid)] = true
				fmt.Fprintf(&said, "%s refers to %s, which is not here: lexgen pull %s\n", r.NSID, nsid, nsid)
			}
		}
	}
	if err := write(root, folder); err != nil {
		return err
	}
	_, err = io.WriteString(stdout, said.String())
	return err
}

func write(root string, folder *pull.Folder) error {
	changes, err := folder.Changes()
	if err != nil {
		return err
	}
	return gen.Apply(root, changes)
}

// syncLexicons brings the lexicons that are generated to the state of a checkout.
func syncLexicons(c gen.Config, root string, args []string, stdout, stderr io.Writer) int {
	if len(args) != 1 || strings.HasPrefix(args[0], "-") {
		fmt.Fprintln(stderr, syncUsage)
		return 2
	}
	if err := syncWith(c, root, args[0], stdout); err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

func syncWith(c gen.Config, root, other string, stdout io.Writer) error {
	folder, err := pull.Open(os.DirFS(root), c.Lexicons)
	if err != nil {
		return err
	}
	if info, err := os.Stat(filepath.Join(other, "lexicons")); err == nil && info.IsDir() {
		other = filepath.Join(other, "lexicons")
	}
	line, err := describeFolder(other)
	if err != nil {
		return err
	}
	n, err := folder.Sync(os.DirFS(other), ".", c.Model.Emit, c.Exclude, line)
	if err != nil {
		return fmt.Errorf("sync with %s: %w", other, err)
	}
	if err := write(root, folder); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s: %d new, %d changed, %d removed, %d unchanged, from %s\n", c.Lexicons, n.New, n.Changed, n.Removed, n.Unchanged, line)
	return nil
}

// describeFolder says which state of what dir is, in words that mean the same on
// every machine: repository and commit, or a checksum where there is no repository.
func describeFolder(dir string) (string, error) {
	git := func(args ...string) (string, bool) {
		cmd := exec.Command("git", append([]string{"-C", dir}, args...)...)
		out, err := cmd.Output()
		return strings.TrimSpace(string(out)), err == nil
	}
	if commit, ok := git("rev-parse", "HEAD"); ok {
		name, _ := git("config", "--get", "remote.origin.url")
		if u, err := url.Parse(name); err == nil && u.User != nil {
			u.User = nil // it may be a token
			name = u.String()
		}
		if name == "" || filepath.IsAbs(name) || strings.HasPrefix(name, "file:") || strings.HasPrefix(name, ".") {
			top, _ := git("rev-parse", "--show-toplevel")
			name = filepath.Base(top)
		}
		if changed, ok := git("status", "--porcelain", "--", "."); ok && changed != "" {
			commit += " with changes"
		}
		return "git " + name + " " + commit, nil
	}
	sum := sha256.New()
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(name) != ".json" {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err == nil {
			text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
			fmt.Fprintf(sum, "%s %d\n%s", name, len(text), text)
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read %s: %w", dir, err)
	}
	return fmt.Sprintf("folder sha256:%x", sum.Sum(nil)), nil
}
