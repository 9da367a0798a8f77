package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/urfave/cli/v3"

	"portico/db"
)

// tryName is the folder in which an upgrade is tried on a copy. One that a process left that
// was killed is taken by the next.
const tryName = "portico-upgrade-check"

func upgradeCheckCommand(config func(*cli.Command) configuration, envFile cli.Flag, stdout, stderr io.Writer) *cli.Command {
	return &cli.Command{
		Name:  "upgrade-check",
		Usage: "try on a copy what the next start with this binary would do to the database",
		Description: `Says whether the settings are right for this version, which steps it would make to
bring the database up to date, and how long they take here: it makes a copy of the
database beside it, or in the folder that --on names, brings that up to date, checks
that it is whole, and removes it. The server may run meanwhile, and nothing is changed.
In the end it says whether a start would fail, with status 1.

What is in Postgres is not copied: the steps are listed, with how large the database is.
--try makes them there in one transaction and undoes it. Meanwhile the tables that they
change are locked and requests wait, but never longer than --longest says. Without any
of that: restore a dump of it into a database of its own and start this version there.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "on", Usage: "make the copy in `FOLDER`", TakesFile: true},
			&cli.BoolFlag{Name: "try", Usage: "with Postgres: make the steps in the database, and undo them"},
			&cli.DurationFlag{Name: "longest", Value: longestTrial, Usage: "with --try: undo them after `DURATION` at the latest"},
			envFile, jsonFlag(),
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return usage("upgrade-check takes no arguments, not even %q", c.Args().First())
			}
			s, err := config(c).read()
			if err != nil {
				return err
			}
			out := &console{out: stdout}
			how := trial{on: c.String("on"), longest: c.Duration("longest"), warn: stderr}
			if c.Bool("try") {
				how.lock = min(trialLock, how.longest)
			}
			switch {
			case how.longest <= 0:
				return usage("--longest is %s, and has to be more than nothing", how.longest)
			case c.IsSet("longest") && !c.Bool("try"):
				return usage("--longest is for --try")
			case c.Bool("try") && s.DatabaseURL == "":
				return usage("--try is for Postgres: of a database in a file the steps are tried on a copy in any case")
			case how.on != "" && s.DatabaseURL != "":
				return usage("--on is for a copy, and a database in Postgres is not copied: see --try")
			}
			report, err := s.checkUpgrade(ctx, how)
			if report == nil {
				return err
			}
			if c.Bool("json") {
				return errors.Join(out.printJSON(report), err)
			}
			return errors.Join(report.print(stdout), err)
		},
	}
}

const (
	// longestTrial is how long the tables of a server stay locked for a trial, unless --longest
	// says otherwise.
	longestTrial = 30 * time.Second
	// trialLock is how long a trial waits for each lock: requests that came later wait with it.
	trialLock = 5 * time.Second
)

// trial is how steps are tried.
type trial struct {
	on string // folder of the copy, "" for that of the data

	// With Postgres:
	lock    time.Duration // see [db.TrialBounds]; 0: not at all
	longest time.Duration
	warn    io.Writer // told of what is locked, before it is
}

// upgradeReport is what the next start would do.
type upgradeReport struct {
	Version string `json:"version"`           // of this binary
	Running string `json:"running,omitempty"` // of the server that has the database, "" for none
	Schema  string `json:"schema"`            // the last step that the database has seen
	// Oldest is the newest step that the oldest version knows which works with the database
	// afterwards.
	Oldest  string        `json:"oldest"`
	Steps   []upgradeStep `json:"steps"`
	Tried   bool          `json:"tried"`             // on a copy, or in Postgres itself and undone
	Copied  int64         `json:"copied,omitempty"`  // bytes
	Seconds float64       `json:"seconds,omitempty"` // that the steps took all in all
	Size    int64         `json:"size,omitempty"`    // of a Postgres database in bytes
	Tables  []tableSize   `json:"tables,omitempty"`  // its largest
	Fails   string        `json:"fails,omitempty"`   // why a start would
}

type tableSize struct {
	Name  string `json:"name"`
	Rows  *int64 `json:"rows,omitempty"` // about; not known before its statistics were made
	Bytes int64  `json:"bytes"`
}

type upgradeStep struct {
	Name    string  `json:"name"`
	About   string  `json:"about,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
}

// checkUpgrade says what a start on the database of s would do to it. The error is what a start would fail for, or why that is not
// known.
func (s *settings) checkUpgrade(ctx context.Context, how trial) (report *upgradeReport, err error) {
	if file := s.databaseFile(); file != "" && !exists(file) {
		return nil, fmt.Errorf("there is nothing to upgrade: %s does not exist", file)
	}
	store, err := db.Open(ctx, db.Config{
		URL: string(s.DatabaseURL), Pooled: s.DatabasePooled, Dir: s.DataDirectory, ReadOnly: true, Behind: true, MaxConns: 1, Logger: slog.New(slog.DiscardHandler),
	})
	if errors.Is(err, db.ErrSchemaAhead) {
		return nil, fmt.Errorf("this version (%s) is too old for the database: %w: start a version that does", s.Version, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	report = &upgradeReport{Version: s.Version, Steps: []upgradeStep{}, Running: runningVersion(ctx, s)}
	if report.Schema, err = store.LastStep(ctx); err != nil {
		return nil, err
	}
	pending, err := store.PendingSteps(ctx)
	if err != nil {
		return nil, err
	}
	if report.Oldest, err = store.OldestVersion(ctx, pending...); err != nil {
		return nil, err
	}
	for _, step := range pending {
		report.Steps = append(report.Steps, upgradeStep{Name: step.Name, About: step.About()})
	}
	if len(pending) == 0 {
		return report, nil
	}
	var failed error
	gone := "the copy is removed"
	if s.DatabaseURL != "" {
		if err := report.measure(ctx, store); err != nil {
			return nil, err
		}
		if how.lock == 0 {
			return report, nil
		}
		gone = "the steps are undone"
		failed, err = report.tryInPlace(ctx, db.Config{URL: string(s.DatabaseURL), Pooled: s.DatabasePooled}, how)
	} else {
		failed, err = report.try(ctx, store, s.databaseFile(), filepath.Join(cmp.Or(how.on, s.DataDirectory), tryName))
	}
	if failed != nil {
		report.Fails = failed.Error()
		return report, errors.Join(fmt.Errorf("a start of this version would fail: %w", failed), err)
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("interrupted: %s, and nothing was changed", gone)
	}
	if err != nil {
		return nil, fmt.Errorf("try the upgrade: %w", err)
	}
	return report, nil
}

// try brings a copy of the database up to date in folder, which it makes and removes. failed is
// why that cannot be done, err what else went wrong.
func (r *upgradeReport) try(ctx context.Context, store *db.DB, file, folder string) (failed, err error) {
	free, err := claimTrial(folder)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, free()) }()
	var size int64
	for _, path := range []string{file, file + "-wal"} {
		if info, err := os.Stat(path); err == nil {
			size += info.Size()
		}
	}
	// The steps write parts of it anew, into the log of the copy first.
	need := uint64(3 * size)
	if disk, err := diskOf(folder); err == nil && disk.Free < need {
		return nil, fmt.Errorf("%s has %s free, and a copy with its log may take %s: name another disk with --on",
			folder, inBytes(int64(disk.Free)), inBytes(int64(need)))
	}
	path := filepath.Join(folder, databaseName)
	if err := store.Backup(ctx, path); err != nil {
		return nil, err
	}
	if info, err := os.Stat(path); err == nil {
		r.Copied = info.Size()
	}
	began := time.Now()
	tried, err := db.Open(ctx, db.Config{Dir: folder, Logger: slog.New(slog.DiscardHandler), Stepped: r.stepped})
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return err, nil
	}
	r.Tried, r.Seconds = true, time.Since(began).Seconds()
	err = tried.Check(ctx)
	return nil, errors.Join(err, tried.Close())
}

// stepped takes down how long a step took.
func (r *upgradeReport) stepped(name string, took time.Duration) {
	for i := range r.Steps {
		if r.Steps[i].Name == name {
			r.Steps[i].Seconds = took.Seconds()
		}
	}
}

// measure takes down how large a Postgres database is.
func (r *upgradeReport) measure(ctx context.Context, store *db.DB) error {
	size, tables, err := store.PostgresSizes(ctx)
	r.Size = size
	for _, t := range tables {
		s := tableSize{Name: t.Name, Bytes: t.Bytes}
		if t.Rows >= 0 {
			s.Rows = &t.Rows
		}
		r.Tables = append(r.Tables, s)
	}
	return err
}

// tryInPlace makes the steps in the Postgres database at url, and undoes them. failed and err
// are as those of try.
func (r *upgradeReport) tryInPlace(ctx context.Context, in db.Config, how trial) (failed, err error) {
	_, err = fmt.Fprintf(how.warn, "The steps are made in the database itself, and undone. Until that is over, %s at most, the tables that they\n"+
		"change are locked: requests that need these wait, and so does a server that starts. What they write\n"+
		"takes room on its disk, which vacuuming gives back.\n", how.longest)
	if err != nil {
		return nil, err
	}
	in.Logger, in.Stepped = slog.New(slog.DiscardHandler), r.stepped
	began := time.Now()
	err = db.Try(ctx, in, db.TrialBounds{Lock: how.lock, All: how.longest})
	switch {
	case err == nil:
		r.Tried, r.Seconds = true, time.Since(began).Seconds()
	case ctx.Err() != nil:
	case errors.Is(err, db.ErrTrialBlocked):
		err = fmt.Errorf("nothing was changed, try it when less is going on (a long query or a dump may hold the lock): each is waited for %s: %w", how.lock, err)
	case errors.Is(err, db.ErrTrialTooLong):
		err = fmt.Errorf("nothing was changed: after %s the steps were undone, --longest gives them more: %w", how.longest, err)
	case errors.Is(err, db.ErrTrialCut):
		err = fmt.Errorf("nothing was changed: %w", err)
	default:
		return err, nil
	}
	return nil, err
}

// claimTrial makes folder, or takes the one that a killed process left, and keeps others out
// until free, which removes it.
func claimTrial(folder string) (free func() error, err error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("make a folder for the copy: %w", err)
	}
	held, err := os.Open(folder)
	if err != nil {
		return nil, fmt.Errorf("open the folder for the copy: %w", err)
	}
	if err := syscall.Flock(int(held.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another upgrade-check is at work in %s", folder), held.Close())
	}
	empty := func() error {
		left, err := filepath.Glob(filepath.Join(folder, databaseName+"*"))
		for _, path := range append(left, filepath.Join(folder, db.LockName)) {
			err = errors.Join(err, removeIfThere(path))
		}
		return err
	}
	if err := empty(); err != nil {
		return nil, errors.Join(fmt.Errorf("remove the copy that was left in %s: %w", folder, err), held.Close())
	}
	return func() error {
		err := errors.Join(empty(), os.Remove(folder))
		return errors.Join(err, held.Close())
	}, nil
}

// runningVersion is that of the server that has the database, "" where none answers.
func runningVersion(ctx context.Context, s *settings) string {
	url := s.localURL()
	if s.DatabaseURL == "" {
		if url = db.ServedAt(s.DataDirectory); url == "" {
			return ""
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/xrpc/_health", nil)
	if err != nil {
		return ""
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	var health struct{ Version string }
	if json.NewDecoder(io.LimitReader(answer.Body, 1<<10)).Decode(&health) != nil {
		return ""
	}
	return health.Version
}

func (r *upgradeReport) print(w io.Writer) error {
	fmt.Fprintf(w, "This version  %s\n", r.Version)
	switch r.Running {
	case "":
		fmt.Fprintln(w, "Server        none answers")
	case r.Version:
		fmt.Fprintln(w, "Server        runs this version")
	default:
		fmt.Fprintf(w, "Server        runs %s: this version serves after a restart\n", printable(r.Running))
	}
	fmt.Fprintf(w, "Database      has seen %s\n", printable(r.Schema))
	if len(r.Steps) == 0 {
		_, err := fmt.Fprintf(w, "Works with    versions that know %s\n\nThere is nothing to migrate.\n", printable(r.Oldest))
		return err
	}
	fmt.Fprintln(w, "\nThe next start of this version makes these steps:")
	for _, step := range r.Steps {
		took := ""
		if r.Tried {
			took = fmt.Sprintf(" (%.2f s)", step.Seconds)
		}
		fmt.Fprintf(w, "\n  %s%s\n", step.Name, took)
		for line := range wrapped(step.About, 70) {
			fmt.Fprintf(w, "    %s\n", line)
		}
	}
	var err error
	switch {
	case r.Tried && r.Size > 0:
		_, err = fmt.Fprintf(w, "\nTried in the database itself, and undone: they take %.2f s here, in which nobody else gets at what they change.\n"+
			"Make a backup first%s\n", r.Seconds, r.after())
	case r.Tried:
		_, err = fmt.Fprintf(w, "\nTried on a copy of %s, which is whole and removed again: they take %.2f s here.\n"+
			"Make a backup first%s\n", inBytes(r.Copied), r.Seconds, r.after())
	case r.Fails == "":
		fmt.Fprintf(w, "\nNot tried: the database is in Postgres. It has %s, and these are its largest tables:\n\n", inBytes(r.Size))
		for _, t := range r.Tables {
			rows := "nobody has counted its rows"
			if t.Rows != nil {
				rows = fmt.Sprintf("about %d rows", *t.Rows)
			}
			fmt.Fprintf(w, "  %-20s %10s  %s\n", printable(t.Name), inBytes(t.Bytes), rows)
		}
		_, err = fmt.Fprintf(w, "\nWith --try they are made there and undone, in %s at most, while requests wait. Or restore a\n"+
			"dump of it (pg_dump) into a database of its own, and start this version on that one.\n"+
			"Make a backup first%s\n", longestTrial, r.after())
	}
	return err
}

// after says what versions from before are to a database that has seen the steps.
func (r *upgradeReport) after() string {
	if r.Oldest <= r.Schema {
		return fmt.Sprintf(". Servers of a version that knows %s go on beside this one, and\ncan be started again.", printable(r.Oldest))
	}
	return ": a version from before cannot read what they leave. Of several servers of\nthe database stop all before the first of this version is started."
}

// inBytes is a size for a person.
func inBytes(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d KiB", (n+1023)>>10)
}
