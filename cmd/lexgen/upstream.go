package main

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"portico/gen"
	"portico/gen/command"
	"portico/gen/pull"
)

const upstreamUsage = "usage: lexgen [-C folder] upstream [-registry URL] VERSION   (of npm's @atproto/api)"

const (
	upstreamPackage = "@atproto/api"
	// leastDocuments are fewer than there ever were: a package with less has another form.
	leastDocuments = 120
	// streamsFile has the names of all subscriptions, which the server does not pass on.
	streamsFile = "impl/proxy/streams.txt"
)

// upstreamOwns are the documents that come from the package alone: what it has no longer,
// or no longer refers to, goes.
var upstreamOwns = []string{"com.atproto.*", "app.bsky.*", "chat.bsky.*", "com.germnetwork.*"}

// fromUpstream brings the lexicons to what a version of npm's package carries. It writes
// nothing when anything is wrong.
func fromUpstream(c gen.Config, dir string, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("lexgen upstream", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprintln(stderr, upstreamUsage) }
	registry := flags.String("registry", cmp.Or(os.Getenv("NPM_CONFIG_REGISTRY"), "https://registry.npmjs.org"), "ask the registry at `url`")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() != 1 {
		flags.Usage()
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := bringUpstream(ctx, c, dir, pull.Registry{URL: *registry}, flags.Arg(0), stdout); err != nil {
		fmt.Fprintln(stderr, "lexgen:", err)
		return 1
	}
	return 0
}

func bringUpstream(ctx context.Context, c gen.Config, dir string, registry pull.Registry, version string, stdout io.Writer) error {
	root, err := command.Root(c, dir)
	if err != nil {
		return err
	}
	p, err := registry.Fetch(ctx, upstreamPackage, version)
	if err != nil {
		return err
	}
	wanted, err := p.Only(upstream)
	if err != nil {
		return err
	}
	folder, err := pull.Open(os.DirFS(root), c.Lexicons)
	if err != nil {
		return err
	}
	n, err := folder.Sync(wanted, ".", upstreamOwns, c.Exclude, "npm "+p.Name+" "+p.Version)
	if err != nil {
		return err
	}
	if all := n.New + n.Changed + n.Unchanged; all < leastDocuments {
		return fmt.Errorf("%s %s has only %d of the documents: has the package another form now?", p.Name, p.Version, all)
	}
	changes, err := folder.Changes()
	if err != nil {
		return err
	}
	old, err := os.ReadFile(filepath.Join(root, streamsFile))
	if err != nil {
		return fmt.Errorf("read the subscriptions: %w", err)
	}
	if streams := []byte(strings.Join(p.Subscriptions(), "\n") + "\n"); !bytes.Equal(old, streams) {
		changes = append(changes, gen.Change{Path: streamsFile, Old: old, New: streams})
	}
	if err := gen.Apply(root, changes); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "lexicons: %d new, %d changed, %d removed, %d unchanged, of %s %s\n", n.New, n.Changed, n.Removed, n.Unchanged, p.Name, p.Version)
	return nil
}
