package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/urfave/cli/v3"

	syncapi "portico/api/atproto/sync"
	operatorapi "portico/api/portico/operator"
	"portico/db"
	"portico/impl/portico/operator"
	"portico/impl/repo/car"
	"portico/impl/repo/export"
)

// A repoSource is where repositories are read: a server, or the database of one.
type repoSource interface {
	GetAccount(ctx context.Context, p *operatorapi.GetAccountParams) (*operatorapi.GetAccountOutput, error)
	GetRepo(ctx context.Context, p *operatorapi.GetRepoParams) (*operatorapi.GetRepoOutput, error)
	// archive writes a repository, as com.atproto.sync.getRepo gives it out.
	archive(ctx context.Context, did syntax.DID, since syntax.TID, w io.Writer) error
}

// servedRepos are those of a running server.
type servedRepos struct{ *operatorapi.Client }

func (s servedRepos) archive(ctx context.Context, did syntax.DID, since syntax.TID, w io.Writer) error {
	client := syncapi.Client{Client: s.Client.Client}
	p := &syncapi.GetRepoParams{DID: did}
	if since != "" {
		p.Since = &since
	}
	body, err := client.GetRepo(ctx, p)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(w, body)
	return err
}

// storedRepos are those of a database, whether a server runs on it or not.
type storedRepos struct {
	*operator.Service
}

func (s storedRepos) archive(ctx context.Context, did syntax.DID, since syntax.TID, w io.Writer) error {
	return s.DB.Snapshot(ctx, func(state *db.Snapshot) error { return export.Archive(ctx, state, did, since, w) })
}

const offlineHelp = `With --offline it reads the database that the settings name, which need not have a
server: it is opened for reading only.`

func offlineFlag() cli.Flag {
	return &cli.BoolFlag{Name: "offline", Usage: "read the database itself, without a server"}
}

func repoExportCommand(o operators, one string) *cli.Command {
	return &cli.Command{
		Name: "export", ArgsUsage: "ACCOUNT [FILE]",
		Usage: "write a repository as an archive (CAR)",
		Description: `The archive is what com.atproto.sync.getRepo gives out, which other servers import:
commit, tree and records, also of an account that is taken down or deactivated, and
without its blobs. Every block is compared with its name. It goes to FILE, which must
be new, or to standard output.

` + offlineHelp,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "since", Usage: "only what was made after a `REV`"},
			offlineFlag(),
		},
		Action: repoAction(o, one+", and a file", 1, 2, exportRepo),
	}
}

func repoStatCommand(o operators, one string) *cli.Command {
	return &cli.Command{
		Name: "stat", ArgsUsage: "ACCOUNT",
		Usage: "say where a repository stands, and how much there is",
		Description: `As the server has noted it: "repo verify" counts.

` + offlineHelp,
		Flags:  []cli.Flag{offlineFlag()},
		Action: repoAction(o, one, 1, 1, statRepo),
	}
}

// repoAction is a command about the repository of the account that its first argument
// names, on a server or, with --offline, on a database.
func repoAction(
	o operators, what string, least, most int,
	do func(context.Context, *console, *cli.Command, repoSource, *operatorapi.Account) error,
) cli.ActionFunc {
	find := func(ctx context.Context, con *console, c *cli.Command, repos repoSource) error {
		name := c.Args().First()
		a, err := repos.GetAccount(ctx, &operatorapi.GetAccountParams{Account: name})
		if errors.Is(err, operatorapi.ErrGetAccountAccountNotFound) {
			return fail(statusNotFound, "there is no account %s", printable(name))
		}
		if err != nil {
			return err
		}
		return do(ctx, con, c, repos, (*operatorapi.Account)(a))
	}
	served := o.action(what, least, most, func(ctx context.Context, con *console, c *cli.Command) error {
		return find(ctx, con, c, servedRepos{con.patient()})
	})
	return func(ctx context.Context, c *cli.Command) error {
		if n := c.Args().Len(); !c.Bool("offline") || n < least || n > most {
			return served(ctx, c)
		}
		return withStoredRepos(ctx, o.config(c), func(repos repoSource) error {
			return find(ctx, &console{out: o.out, errs: o.errs, json: c.Bool("json")}, c, repos)
		})
	}
}

// withStoredRepos opens the database of the settings for reading.
func withStoredRepos(ctx context.Context, c configuration, do func(repoSource) error) (err error) {
	s, err := c.read()
	if err != nil {
		return err
	}
	if file := s.databaseFile(); file != "" && !exists(file) {
		return fmt.Errorf("there are no repositories: %s does not exist", file)
	}
	store, err := db.Open(ctx, db.Config{
		URL: string(s.DatabaseURL), Pooled: s.DatabasePooled, Dir: s.DataDirectory, ReadOnly: true, MaxConns: 1, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return do(storedRepos{&operator.Service{DB: store}})
}

// exported is an archive that was written, as scripts are told of it.
type exported struct {
	DID    syntax.DID `json:"did"`
	File   string     `json:"file"`
	Root   string     `json:"root"` // the commit
	Blocks int        `json:"blocks"`
	Bytes  int64      `json:"bytes"`
}

func exportRepo(ctx context.Context, con *console, c *cli.Command, repos repoSource, a *operatorapi.Account) error {
	since := syntax.TID(c.String("since"))
	if _, err := syntax.ParseTID(since.String()); err != nil && since != "" {
		return usage("%q is no rev", c.String("since"))
	}
	write := func(w io.Writer) (*exported, error) {
		out := &exported{DID: a.DID}
		return out, out.check(w, func(w io.Writer) error { return repos.archive(ctx, a.DID, since, w) })
	}
	file := c.Args().Get(1)
	if file == "" || file == "-" {
		if con.json {
			return usage("the archive goes to standard output: there is no place for JSON")
		}
		if f, ok := con.out.(*os.File); ok && isTerminal(f) {
			return usage("the archive is nothing for a terminal: name a file")
		}
		_, err := write(con.out)
		return err
	}
	out, err := writeNewFile(file, write)
	if err != nil {
		return err
	}
	if out.File, err = filepath.Abs(file); err != nil {
		return err
	}
	if con.json {
		return con.printJSON(out)
	}
	return con.say("%d blocks, %d bytes, of the commit %s", out.Blocks, out.Bytes, out.Root)
}

// check passes to w the archive that write writes, and looks at every block of it.
func (e *exported) check(w io.Writer, write func(io.Writer) error) error {
	r, through := io.Pipe()
	checked := make(chan error, 1)
	go func() {
		err := e.read(r)
		r.CloseWithError(err) // also nil: then there is nothing more to come
		checked <- err
	}()
	err := write(io.MultiWriter(through, w))
	through.CloseWithError(err)
	if found := <-checked; err == nil {
		err = found
	}
	return err
}

func (e *exported) read(r io.Reader) error {
	archive, err := car.NewReader(r)
	if err != nil {
		return err
	}
	if len(archive.Roots()) == 1 {
		e.Root = archive.Roots()[0].String()
	}
	for {
		b, err := archive.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		e.Blocks++
		e.Bytes = archive.Offset() + int64(len(b.Data))
	}
}

// writeNewFile makes a file, which is there only when all of it is.
func writeNewFile(name string, write func(io.Writer) (*exported, error)) (_ *exported, err error) {
	draft := name + ".unfinished"
	if exists(name) {
		return nil, usage("%s is there already", name)
	}
	f, err := os.OpenFile(draft, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeIfThere(draft))
		}
	}()
	out, err := write(f)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, err
	}
	return out, os.Rename(draft, name)
}

func statRepo(ctx context.Context, con *console, _ *cli.Command, repos repoSource, a *operatorapi.Account) error {
	repo, err := repos.GetRepo(ctx, &operatorapi.GetRepoParams{DID: a.DID})
	if errors.Is(err, operatorapi.ErrGetRepoRepoNotFound) {
		return fail(statusFailed, "%s has no repository", a.Handle)
	}
	if err != nil {
		return err
	}
	if con.json {
		return con.printJSON(repo)
	}
	names := make([]string, len(repo.Collections))
	for i, name := range repo.Collections {
		names[i] = name.String()
	}
	return con.facts(
		"did", repo.DID.String(),
		"handle", a.Handle.String(),
		"state", stateWords(a.Status),
		"commit", repo.Commit.String(),
		"rev", repo.Rev.String(),
		"records", number(&repo.Records),
		"nodes", number(&repo.Nodes),
		"blobs named", number(&repo.ExpectedBlobs),
		"blobs here", number(&repo.ImportedBlobs),
		"collections", strings.Join(names, " "),
	)
}
