package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/urfave/cli/v3"

	"portico/db"
	"portico/db/reference"
	"portico/impl/account/token"
	"portico/impl/blob"
	"portico/impl/identity/plc"
	"portico/impl/reference/adopt"
)

// The folders in that of an adoption which are its own.
const (
	scratchName = "scratch" // of copies of databases, while they are read
	beforeName  = "before"  // of what the old server had that cannot be had again
	adoptedEnv  = "portico.env"
)

// adoptCommand is "portico adopt".
func adoptCommand(config func(*cli.Command) configuration, envFile cli.Flag, stdout, stderr io.Writer) *cli.Command {
	return &cli.Command{
		Name:      "adopt",
		Usage:     "take the accounts of a stopped reference PDS over",
		ArgsUsage: "DIRECTORY",
		Description: `DIRECTORY is the data directory of a reference PDS, /pds where its installer made it.
Stop that server first, and see to it that nothing starts it again (systemctl disable
--now pds). DIRECTORY is only read: until the new server has started, starting the old
one again is the way back.

Accounts with their passwords and sessions, repositories, blobs, preferences, invites
and the events go to the folder that --into names (or PDS_DATA_DIRECTORY). In the end
all of it is checked: counts, the signature of every repository, the hash of every blob
(of those in an S3 bucket, too, unless --skip-bucket), what the PLC directory says of
every DID. What was found is told, and written to
FOLDER/` + adopt.ReportName + `. Interrupted, be it by a power cut, it is run again and goes on.

  portico adopt /pds --into /var/lib/portico --dry-run
  portico adopt /pds --into /var/lib/portico
  portico serve --env-file /var/lib/portico/` + adoptedEnv + `

Settings are those of DIRECTORY/pds.env; the environment and --env-file go before them,
but for those that the accounts hang on. All go to FOLDER/` + adoptedEnv + `. The key that
encrypts the signing keys is made in FOLDER/` + secretsName + `: keep a copy of both files, without
which no backup is of use. Whose accounts they are is in FOLDER/` + beforeName + ` as it was: the database
of accounts, all signing keys, the settings, and the number of the last event. Remove it
once all is well.

"portico serve" does not start there for the first time while the old server answers. If
what answers is something else, remove FOLDER/adopted and start it again.

While it may be that you go back ("portico export --reference"), the hashes of the old
passwords are kept beside the new ones, and no account is deleted. Stop the server and run
"portico adopt --finish --env-file FOLDER/` + adoptedEnv + `" once you stay.

Ends with 1 when something grave was found, which has to be mended first, or waived by
the option that is named.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "into", Usage: "write to `FOLDER`, which is new, or of an adoption that was interrupted", TakesFile: true},
			&cli.BoolFlag{Name: "dry-run", Usage: "look at everything, say what would be done and what is wrong, and write nothing"},
			&cli.StringFlag{Name: "reference-env", Usage: "read the old settings from `FILE` instead of DIRECTORY/pds.env", TakesFile: true},
			&cli.StringFlag{Name: "blobs", Value: string(adopt.CopyBlobs), Usage: "`HOW` files of blobs come along: copy, link (second names of the same files) or leave (they are read where they are)"},
			&cli.BoolFlag{Name: "skip-bucket", Usage: "do not read the blobs that stay in an S3 bucket: hashing them takes long where there are many, and the provider may charge for it"},
			&cli.BoolFlag{Name: "all-events", Usage: "take all events, also those that are older than PDS_REPO_BACKFILL_LIMIT_MS, after which a server deletes them"},
			&cli.BoolFlag{Name: "skip-broken", Usage: "leave out accounts whose repository is gone, and finish their deletion"},
			&cli.BoolFlag{Name: "accept-unmanaged", Usage: "go on though the DIDs of some accounts lack this server's rotation key or the account's key"},
			&cli.StringFlag{Name: "check-token", Usage: "verify `TOKEN`, a session token that an app has, with PDS_JWT_SECRET: a wrong secret signs everybody out"},
			&cli.BoolFlag{Name: "offline", Usage: "ask nobody: neither the host name whether the old server runs, nor the PLC directory about the DIDs, nor a bucket for its blobs"},
			&cli.BoolFlag{Name: "finish", Usage: "end the way back: delete what is kept of the old server's passwords and sessions for it, and let deletions go on"},
			&cli.BoolFlag{Name: "yes", Usage: "finish without asking"},
			envFile, jsonFlag(),
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.Bool("finish") {
				return finishAdoption(ctx, config(c), c, stdout, stderr)
			}
			if c.Args().Len() != 1 || c.Args().First() == "" {
				return usage("adopt takes the data directory of the old server")
			}
			how := adopt.Blobs(c.String("blobs"))
			if !slices.Contains([]adopt.Blobs{adopt.CopyBlobs, adopt.LinkBlobs, adopt.LeaveBlobs}, how) {
				return usage("--blobs is copy, link or leave, not %q", how)
			}
			a := &adopter{
				config: config(c), directory: c.Args().First(), into: c.String("into"), oldEnv: c.String("reference-env"), token: c.String("check-token"),
				blobs: how, allEvents: c.Bool("all-events"), skipBucket: c.Bool("skip-bucket"), skipBroken: c.Bool("skip-broken"), accept: c.Bool("accept-unmanaged"),
				offline: c.Bool("offline"), json: c.Bool("json"), in: c.Root().Reader, out: stdout, errs: stderr,
			}
			err := a.prepare()
			if err == nil && c.Bool("dry-run") {
				err = a.dryRun(ctx)
			} else if err == nil {
				err = a.run(ctx)
			}
			if ctx.Err() != nil && err != nil {
				return errors.New("interrupted: run it again, it goes on")
			}
			return explained(err)
		},
	}
}

// finishAdoption ends the way back of the database that the settings name.
func finishAdoption(ctx context.Context, config configuration, c *cli.Command, out, errs io.Writer) (err error) {
	if c.Args().Present() {
		return usage("adopt --finish takes no directory: the settings name the database, see --env-file")
	}
	s, err := config.read()
	if err != nil {
		return err
	}
	if file := s.databaseFile(); file != "" && !exists(file) {
		return fmt.Errorf("%s does not exist: name the settings of the server with --env-file", file)
	}
	if !c.Bool("yes") && !confirmed(c.Root().Reader, errs, "There is no way back to the old server then that keeps its passwords and sessions. Go on? [y/N] ") {
		return errors.New("not confirmed: --yes finishes without asking")
	}
	store, err := openData(ctx, config, s, nil, slog.New(slog.DiscardHandler))
	if errors.Is(err, db.ErrLocked) {
		return fmt.Errorf("%w: stop the server for a moment", err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	n, err := adopt.Finish(ctx, store)
	if err != nil {
		return fmt.Errorf("finish the adoption: %w", err)
	}
	con := &console{out: out}
	if c.Bool("json") {
		return con.printJSON(struct {
			Deleted int64 `json:"deleted"`
		}{n})
	}
	return con.say("The adoption is finished: %d old passwords and sessions were deleted. What the old server had is in %s still, with all signing keys: remove it.",
		n, filepath.Join(s.DataDirectory, beforeName))
}

// confirmed asks who sits at a terminal.
func confirmed(in io.Reader, out io.Writer, question string) bool {
	if !isTerminal(in) {
		return false
	}
	fmt.Fprint(out, question)
	answer, _ := bufio.NewReader(in).ReadString('\n')
	return strings.EqualFold(strings.TrimSpace(answer), "y")
}

// explained is err with what to do about it.
func explained(err error) error {
	for _, known := range []struct {
		err  error
		text string
	}{
		{reference.ErrInUse, "stop the old server first, and see to it that nothing starts it again (systemctl disable --now pds)"},
		{reference.ErrTooOld, "start an image of version 0.4 with it once, which brings it up to date"},
		{reference.ErrUnknownEdition, "only what is known is adopted; is there a newer Portico?"},
		{adopt.ErrChanged, "the next run starts over"},
		{db.ErrLocked, "an adoption into it, or a server, is running"},
	} {
		if errors.Is(err, known.err) {
			return fmt.Errorf("%w: %s", err, known.text)
		}
	}
	return err
}

// adopter is one run of the command.
type adopter struct {
	config                         configuration
	directory, into, oldEnv, token string
	blobs                          adopt.Blobs
	allEvents, skipBucket          bool
	skipBroken, accept             bool
	offline, json                  bool
	in                             io.Reader
	out, errs                      io.Writer

	old      *referenceEnv
	layout   reference.Layout
	pairs    []envPair // the new settings
	left     []string  // old settings that are not taken over
	settings *settings
	found    []adopt.Finding // before there was a report
}

// prepare reads the settings and decides on the folders. It writes nothing.
func (a *adopter) prepare() (err error) {
	if a.directory, err = realPath(a.directory); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	given, err := a.given()
	if err != nil {
		return err
	}
	if a.into == "" {
		return usage("--into names the folder to write to")
	}
	if a.into, err = filepath.Abs(a.into); err != nil {
		return err
	}
	if err := a.apart(); err != nil {
		return err
	}
	if a.old, err = readReferenceEnv(cmp.Or(a.oldEnv, filepath.Join(a.directory, "pds.env"))); err != nil {
		return err
	}
	if err := a.old.refuse(); err != nil {
		return err
	}
	if err := a.agree(given); err != nil {
		return err
	}
	if a.layout, err = a.old.layout(a.directory); err != nil {
		return err
	}
	leftBlobs := ""
	if a.blobs == adopt.LeaveBlobs {
		leftBlobs = a.layout.Blobs
	}
	a.pairs, a.left = a.old.takenOver(given, a.into, leftBlobs)
	a.acceptSecret()
	return a.check()
}

// realPath is a whole path of a folder that is there, without links.
func realPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

// given are the settings that go before the old ones; an empty one unsets. The folder among
// them is where to write to, unless an option names one.
func (a *adopter) given() ([]envPair, error) {
	var given []envPair
	set := func(name, value string, over bool) {
		i := slices.IndexFunc(given, func(p envPair) bool { return p.name == name })
		switch {
		case !ours(name):
		case name == "PDS_DATA_DIRECTORY":
			a.into = cmp.Or(a.into, value)
		case i < 0:
			given = append(given, envPair{name, value})
		case over:
			given[i].value = value
		}
	}
	for _, pair := range a.config.Environ {
		if name, value, ok := strings.Cut(pair, "="); ok {
			set(name, value, true)
		}
	}
	if a.config.EnvFile == "" {
		return given, nil
	}
	file, err := readEnvFile(a.config.EnvFile)
	if err != nil {
		return nil, unfit(err)
	}
	for _, p := range file.pairs {
		set(p.name, p.value, false)
	}
	return given, nil
}

// apart returns an error unless the two folders are outside of each other.
func (a *adopter) apart() error {
	into := a.into
	for !exists(into) {
		into = filepath.Dir(into)
	}
	into, err := realPath(into)
	if err != nil {
		return err
	}
	inside := func(path, folder string) bool {
		return path == folder || strings.HasPrefix(path, strings.TrimSuffix(folder, "/")+"/")
	}
	if inside(into, a.directory) {
		return usage("%s is in the directory of the old server, which stays as it is: name a folder elsewhere with --into", a.into)
	}
	if exists(a.into) && inside(a.directory, into) {
		return usage("%s has the directory of the old server in it: name a folder of its own with --into", a.into)
	}
	return nil
}

// agree returns an error when a setting that accounts hang on is given another value.
func (a *adopter) agree(given []envPair) error {
	var problems settingsError
	for _, p := range given {
		if was := a.old.value(p.name); slices.Contains(mustStay, p.name) && was != p.value &&
			!(p.name == "PDS_SERVICE_DID" && was == "" && p.value == "did:web:"+a.old.value("PDS_HOSTNAME")) {
			problems = append(problems, problem{p.name, "differs from that in " + a.old.path + ": the accounts, their tokens or DIDs hang on it"})
		}
	}
	if problems != nil {
		return problems
	}
	return nil
}

// acceptSecret lets a weak secret of the tokens be used on: another one would sign
// everybody out.
func (a *adopter) acceptSecret() {
	secret := a.old.value("PDS_JWT_SECRET")
	if !weakSecret(secret) {
		return
	}
	a.pairs = append(a.pairs, envPair{"PORTICO_ACCEPT_WEAK_JWT_SECRET", "true"})
	a.found = append(a.found, adopt.Finding{Name: "weak-secret", Text: "PDS_JWT_SECRET is weak: who guesses it can log in as anybody. It is taken over so that sessions go on; " +
		"change it, and remove PORTICO_ACCEPT_WEAK_JWT_SECRET, when it may be that everybody signs in again"})
}

// check reads the new settings as serve will.
func (a *adopter) check() error {
	environ := make([]string, len(a.pairs))
	for i, p := range a.pairs {
		if p.name == "PORTICO_DATABASE_URL" { // wherever it stands: the server would serve another, empty database
			return settingsError{{p.name, "is set: an adoption writes to SQLite, in the folder that --into names, and the server goes on with that"}}
		}
		environ[i] = p.name + "=" + p.value
	}
	a.config.Environ, a.config.EnvFile = environ, ""
	s, err := a.config.read()
	if err != nil {
		return fmt.Errorf("the server would not start with the settings of %s. Give other values in the environment or with --env-file: %w", a.old.path, err)
	}
	a.settings = s
	for _, warning := range s.Warnings {
		a.found = append(a.found, adopt.Finding{Name: "setting", Text: warning})
	}
	if len(a.left) > 0 {
		a.found = append(a.found, adopt.Finding{Name: "settings-left", Text: "settings without effect here, which are not taken over: " + strings.Join(a.left, ", ")})
	}
	if err := a.checkAmbiguous(); err != nil {
		return err
	}
	return a.checkToken()
}

// checkAmbiguous tells of values that may mean something else than they say. Of a secret
// that signed the tokens nobody would notice before everybody is signed out.
func (a *adopter) checkAmbiguous() error {
	names := a.old.ambiguous()
	if slices.Contains(names, "PDS_JWT_SECRET") && a.token == "" {
		return fmt.Errorf("PDS_JWT_SECRET in %s has a $, a comment or a blank, which docker compose replaces and docker run takes as they are: "+
			"which one it was shows a token that an app has, see --check-token; where it was docker compose, write a copy of the file with the value "+
			"that the old server had, and name it with --reference-env", a.old.path)
	}
	if len(names) > 0 {
		a.found = append(a.found, adopt.Finding{Name: "settings-ambiguous", Text: "settings with a $, a comment or a blank in their values, which docker compose replaces " +
			"and docker run takes as they are: they are taken as they are; look whether that is right: " + strings.Join(names, ", ")})
	}
	return nil
}

// checkToken verifies the token that an app has with the secret.
func (a *adopter) checkToken() error {
	if a.token == "" {
		return nil
	}
	issuer := a.issuer()
	_, refresh := issuer.VerifyRefreshAnyTime(a.token)
	_, access := issuer.VerifyAccess(a.token, token.Scopes{token.Access})
	for _, err := range []error{refresh, access} {
		// What has expired was signed with the secret all the same.
		if err == nil || errors.Is(err, token.ErrExpired) || errors.Is(err, token.ErrScope) {
			return nil
		}
	}
	return errors.New("the token of --check-token was not signed with the PDS_JWT_SECRET of " + a.old.path + ", or not for its PDS_HOSTNAME: is it the right file?")
}

func (a *adopter) issuer() *token.Issuer {
	s := a.settings
	return &token.Issuer{Secret: []byte(s.JWTSecret), ServiceDID: s.ServiceDID.String(), Now: time.Now, Rand: rand.Reader}
}

// oldURLs are where the old server would answer.
func (a *adopter) oldURLs() []string {
	return []string{a.settings.PublicURL.String(), "http://localhost:" + cmp.Or(a.old.value("PDS_PORT"), "3000")}
}

// stopped returns an error when the old server answers.
func (a *adopter) stopped(ctx context.Context) error {
	urls := a.oldURLs()
	if a.offline {
		urls = urls[1:]
		a.found = append(a.found, adopt.Finding{Name: "offline", Text: "neither the host name nor the PLC directory was asked: whether the old server runs on another machine, and what the DIDs say, is not known"})
	}
	for _, url := range urls {
		if does := signOfLife(ctx, healthClient, url); does != "" {
			return fmt.Errorf("%w: what is at %s/xrpc/_health %s", reference.ErrInUse, url, does)
		}
	}
	if l, err := net.Listen("tcp", a.settings.listenAddress()); err != nil {
		a.found = append(a.found, adopt.Finding{Name: "port-taken", Text: fmt.Sprintf("the new server could not listen now (PDS_PORT): %v", err)})
	} else {
		_ = l.Close()
	}
	return nil
}

// adoption is what does the work, of source.
func (a *adopter) adoption(source *reference.Source, show func(adopt.Progress)) (_ *adopt.Adoption, err error) {
	s := a.settings
	ad := &adopt.Adoption{
		Source: source, Layout: a.layout, Folder: a.into, Tokens: a.issuer(), How: a.blobs, Rotation: s.RotationKey, Endpoint: s.PublicURL.String(),
		Window: s.BackfillLimit, DeleteAfterMin: s.DeleteAfterMin, SkipBroken: a.skipBroken, Confirm: a.confirm, Progress: show,
		Now: time.Now, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler), Found: a.found,
	}
	if a.allEvents {
		ad.Window = 0
	}
	if !a.offline && s.PLCURL != nil {
		ad.Directory = &plc.Client{URL: s.PLCURL.String()}
	}
	if s.BlobBucket.Bucket != "" && !a.offline && !a.skipBucket {
		ad.Bucket, err = blob.OpenS3(s.BlobBucket)
	}
	return ad, err
}

// confirm asks whether to go on although DIDs of accounts lack keys.
func (a *adopter) confirm(unmanaged []syntax.DID) bool {
	if a.accept || a.json || !isTerminal(a.in) {
		return a.accept
	}
	for _, did := range unmanaged {
		fmt.Fprintln(a.errs, "  "+did)
	}
	return confirmed(a.in, a.errs, fmt.Sprintf("%d accounts have DIDs that lack this server's rotation key or the account's key: this server cannot change them. Go on? [y/N] ", len(unmanaged)))
}

// dryRun says what an adoption would do.
func (a *adopter) dryRun(ctx context.Context) (err error) {
	if err := a.stopped(ctx); err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "portico-adopt-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	source, err := reference.Open(ctx, a.layout, scratch)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	show, done := a.shower()
	ad, err := a.adoption(source, show)
	if err != nil {
		return err
	}
	r, err := ad.Plan(ctx)
	done()
	if r == nil || err != nil && !errors.Is(err, adopt.ErrRefused) {
		return err
	}
	return errors.Join(a.print(r, true), err)
}

// run adopts, or goes on with it.
func (a *adopter) run(ctx context.Context) (err error) {
	finished, err := a.claim()
	if err != nil || finished {
		return err
	}
	if err := a.stopped(ctx); err != nil {
		return err
	}
	if err := makeDirectory(a.into); err != nil {
		return err
	}
	scratch := filepath.Join(a.into, scratchName)
	release, err := adopt.Scratch(scratch)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	// Another run may have come to its end before the folder was this one's alone.
	if finished, err := a.claim(); err != nil || finished {
		return err
	}
	source, err := reference.Open(ctx, a.layout, scratch)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	mark, err := a.mark(source)
	if err != nil {
		return err
	}
	again, err := adopt.Begin(a.into, mark)
	if err != nil {
		return err
	}
	if again != "" {
		a.say("starting over: %s", again)
	}
	if err := a.writeSettings(); err != nil {
		return err
	}
	if err := adopt.BackUp(ctx, source, a.layout, filepath.Join(a.into, beforeName), scratch, mark.Fingerprint); err != nil {
		return err
	}
	return a.fill(ctx, source, mark)
}

// mark is what tells this adoption from others.
func (a *adopter) mark(source *reference.Source) (adopt.Mark, error) {
	fingerprint, err := source.Fingerprint()
	return adopt.Mark{
		Source: a.directory, Fingerprint: fingerprint, Began: time.Now().UTC().Truncate(time.Second), Old: a.oldURLs(), Layout: a.layout,
	}, err
}

// writeSettings makes the secrets and the settings file, before anything is written that
// could not be read without them.
func (a *adopter) writeSettings() error {
	if err := a.config.fill(a.settings); err != nil {
		return err
	}
	path := filepath.Join(a.into, adoptedEnv)
	if err := errors.Join(removeIfThere(path+".new"), writeDurably(path+".new", envText(a.pairs)), os.Rename(path+".new", path)); err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	if a.settings.SecretsMade {
		a.say("the key that encrypts the signing keys was made in %s: keep a copy of it in a safe place", a.settings.SecretsFile)
	}
	return syncDirectory(a.into)
}

// claim looks whether the folder may be written to. finished says that there is nothing left
// to do.
func (a *adopter) claim() (finished bool, err error) {
	mark, done, err := adopt.ReadMark(a.into)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	database := exists(filepath.Join(a.into, databaseName))
	switch {
	case err == nil && database && mark.Source == a.directory && mark.Changed():
		return false, fmt.Errorf("%s was written to since all of it was adopted into %s: remove that folder, from which no server has started yet, and run this again", a.directory, a.into)
	case err == nil && database && mark.Source == a.directory:
		if !done {
			if err := adopt.Settle(a.into); err != nil {
				return false, err
			}
		}
		return true, a.printAgain()
	case database:
		return false, fmt.Errorf("%s has a database already: name a new folder with --into", a.into)
	case err == nil:
		return false, nil
	}
	entries, err := os.ReadDir(a.into)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	// What was killed before there was a mark has left no more than this.
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		return slices.Contains([]string{scratchName, db.LockName, adopt.MarkDraft}, e.Name())
	})
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("%s is not empty, and not of an adoption: name a new folder with --into", a.into)
	}
	return false, err
}

// fill opens the draft of the database and adopts into it.
func (a *adopter) fill(ctx context.Context, source *reference.Source, mark adopt.Mark) (err error) {
	store, err := a.openDraft(ctx, mark)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	show, done := a.shower()
	ad, err := a.adoption(source, show)
	if err != nil {
		return err
	}
	ad.Target = store
	if ad.Keys, err = openKeys(ctx, a.settings, store); err != nil {
		return err
	}
	if s := a.settings; s.BlobFolder != "" {
		if ad.Blobs, err = blob.OpenDisk(s.BlobFolder, s.BlobTempFolder, blob.Bounds{}); err != nil {
			return err
		}
	}
	r, err := ad.Run(ctx)
	done()
	if err != nil && !errors.Is(err, adopt.ErrRefused) {
		return err
	}
	return errors.Join(a.print(r, false), err)
}

// openDraft opens the draft of an earlier try, or a new one in the place of what cannot be
// gone on with.
func (a *adopter) openDraft(ctx context.Context, mark adopt.Mark) (*db.DB, error) {
	open := func() (*db.DB, error) {
		return db.Open(ctx, db.Config{
			Dir: a.into, Draft: true, Synchronous: "NORMAL", Logger: slog.New(slog.DiscardHandler),
			Check: func(ctx context.Context, tx *db.Tx) error {
				if err := adopt.CheckDraft(ctx, tx, mark); err != nil {
					return err
				}
				return checkKeys(ctx, a.settings, tx)
			},
		})
	}
	there := db.HasDraft(a.into)
	store, err := open()
	if err == nil || !there || errors.Is(err, db.ErrLocked) || ctx.Err() != nil {
		return store, err
	}
	a.say("starting over: %v", err)
	if err := db.RemoveDraft(a.into); err != nil {
		return nil, err
	}
	return open()
}

// say tells a person how it goes.
func (a *adopter) say(format string, args ...any) { fmt.Fprintf(a.errs, format+"\n", args...) }

// printAgain prints the report of an adoption that was done before.
func (a *adopter) printAgain() error {
	b, err := os.ReadFile(filepath.Join(a.into, adopt.ReportName))
	if err != nil {
		return err
	}
	var r adopt.Report
	if err := json.Unmarshal(b, &r); err != nil {
		return fmt.Errorf("%s: %w", adopt.ReportName, err)
	}
	a.say("all of it was adopted already")
	return a.print(&r, false)
}
