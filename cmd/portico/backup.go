package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"

	"portico/db"
	"portico/impl/keyring"
)

// draftName is the folder inside of a backup's in which it is written. While it is
// there nobody else writes to that one; one that stays was left by a process that
// was killed.
const draftName = ".unfinished"

// backupCommand is "portico backup".
func backupCommand(config func(*cli.Command) configuration, envFile cli.Flag, stdout, stderr io.Writer) *cli.Command {
	return &cli.Command{
		Name:      "backup",
		Usage:     "copy the database, its secrets and the blobs, also while the server runs",
		ArgsUsage: "FOLDER",
		Description: `Writes what the data directory has at one moment to FOLDER, which must be new or
empty, checks that it is whole and opens with its secrets, and says how to restore
it. FOLDER/` + databaseName + ` is there only when all of it is. With the secrets in it
one can be the server: keep it where nobody else reads it.

Blobs on the same disk are not copied, but get a second name there, as links: they
take no more room, and are lost with that disk. Copy the folder to another one. Blobs
in a bucket stay there. A server on a backup gives events numbers far above those that
it has, so that relays take none for one that they know.

With --to PLACE a snapshot is made instead, beside those that are there: in a folder, for
instance of another disk, or in an S3 bucket. Of the blobs, also those in a bucket, only what
no snapshot has is sent. With PORTICO_BACKUP_KEY the database and all secrets, those that are
configured too, are sealed; to a bucket nothing goes without it. What is kept in Postgres
pg_dump copies, as of the same moment. --every makes snapshots until it gets SIGTERM; one that
fails is told in the log and tried again. Those that are too old are removed when a new one is
there: --keep-hourly 24 --keep-daily 7 --keep-weekly 4 keeps at most 35. "portico restore" makes
a data directory of a snapshot, or of a FOLDER.

Settings are found as "portico serve" finds them.`,
		Flags: []cli.Flag{
			toFlag("make a snapshot at"),
			&cli.StringFlag{Name: "every", Usage: "go on with --to, and make a snapshot every `TIME` such as 1h"},
			&cli.IntFlag{Name: "keep-hourly", Usage: "after --to, keep the latest snapshot of each of the latest `N` hours that have one"},
			&cli.IntFlag{Name: "keep-daily", Usage: "and of the latest `N` days"},
			&cli.IntFlag{Name: "keep-weekly", Usage: "and of the latest `N` weeks; without any of these all are kept"},
			&cli.BoolFlag{Name: "without-blobs", Usage: "leave the blobs where they are, with --to"},
			envFile, jsonFlag(),
		},
		Commands: []*cli.Command{backupList(config, envFile, stdout), backupVerify(config, envFile, stdout)},
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.String("to") != "" {
				return backUpToPlace(ctx, c, config(c), stdout, stderr)
			}
			for _, flag := range []string{"every", "keep-hourly", "keep-daily", "keep-weekly", "without-blobs"} {
				if c.IsSet(flag) {
					return usage("--%s goes with --to", flag)
				}
			}
			if c.Args().Len() != 1 || c.Args().First() == "" {
				return usage("backup takes the folder to write to, or --to and a place for many")
			}
			b, err := config(c).backUp(ctx, c.Args().First())
			if ctx.Err() != nil && err != nil {
				return errors.New("interrupted: there is no backup")
			}
			if err != nil {
				return err
			}
			con := &console{out: stdout}
			if c.Bool("json") {
				return con.printJSON(b)
			}
			return con.say("%s", b.report(c.String("env-file")))
		},
	}
}

// folderBackup is what was written to a folder.
type folderBackup struct {
	Folder string       `json:"folder"`
	Files  []backupFile `json:"files"`
	Blobs  *backupBlobs `json:"blobs"`
	// Keep is the secrets that the folder lacks.
	Keep []keptSecret `json:"keep"`

	settings *settings
}

type backupFile struct {
	Name string `json:"name"`
	Size int64  `json:"size"` // bytes
}

type keptSecret struct {
	Name string `json:"name"`
	From string `json:"from"`
}

// backUp writes a backup to folder, which it makes. After an error there is nothing
// of it.
func (c configuration) backUp(ctx context.Context, folder string) (_ *folderBackup, err error) {
	s, err := c.read()
	if s != nil && s.DatabaseURL != "" {
		return nil, errors.New(strings.Join(append(
			[]string{"the database is in Postgres: portico backup --to PLACE has pg_dump copy it"},
			keepLines(s.kept())...), "\n"))
	}
	if err != nil {
		return nil, err
	}
	if file := s.databaseFile(); !exists(file) {
		return nil, fmt.Errorf("there is nothing to back up: %s does not exist", file)
	}
	if s, err = c.load(); err != nil {
		return nil, err
	}
	store, err := openCopy(ctx, s.DataDirectory)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()

	if folder, err = filepath.Abs(folder); err != nil {
		return nil, fmt.Errorf("find %s: %w", folder, err)
	}
	isNew := !exists(folder)
	if err := claim(folder); err != nil {
		return nil, err
	}
	draft := filepath.Join(folder, draftName)
	defer func() {
		if err == nil {
			return
		}
		err = errors.Join(err, os.RemoveAll(draft), os.RemoveAll(filepath.Join(folder, blobsName)))
		for _, name := range []string{databaseName, secretsName} {
			err = errors.Join(err, removeIfThere(filepath.Join(folder, name)))
		}
		if isNew {
			err = errors.Join(err, os.Remove(folder))
		}
	}()
	b := &folderBackup{Folder: folder, Keep: s.kept(), settings: s}
	if b.Blobs, err = s.copyData(ctx, store, draft); err != nil {
		return nil, err
	}
	secrets, err := os.ReadFile(filepath.Join(s.DataDirectory, secretsName))
	if err == nil {
		err = writeDurably(filepath.Join(draft, secretsName), string(secrets))
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("copy secrets: %w", err)
	}
	if err := c.checkBackup(ctx, draft); err != nil {
		return nil, fmt.Errorf("check backup: %w", err)
	}
	if b.Files, err = finish(folder); err != nil {
		return nil, fmt.Errorf("finish backup: %w", err)
	}
	return b, nil
}

// openCopy opens the database in dir for reading. Before an upgrade it may be the new
// version that makes the backup.
func openCopy(ctx context.Context, dir string) (*db.DB, error) {
	store, err := db.Open(ctx, db.Config{Dir: dir, ReadOnly: true, Behind: true, MaxConns: 1, Logger: slog.New(slog.DiscardHandler)})
	if errors.Is(err, db.ErrSchemaAhead) {
		return nil, fmt.Errorf("open database: %w: make the backup with a version that does", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	return store, nil
}

// claim makes folder, unless it is there and empty, and the draft in it. Of several
// processes that claim a folder one gets it.
func claim(folder string) error {
	check := func(allowed int) error {
		entries, err := os.ReadDir(folder)
		switch {
		case err != nil:
			return fmt.Errorf("make backup folder: %w", err)
		case len(entries) <= allowed:
			return nil
		case allowed == 0 && exists(filepath.Join(folder, draftName)):
			return fmt.Errorf("%s has a backup that is being written, or was interrupted: name another folder, or remove that one", folder)
		}
		return fmt.Errorf("%s is not empty: name a new folder", folder)
	}
	if err := makeDirectory(folder); err != nil {
		return fmt.Errorf("make backup folder: %w", err)
	}
	if err := check(0); err != nil {
		return err
	}
	// An empty folder that somebody made may be open to others.
	info, err := os.Stat(folder)
	if err == nil && info.Mode().Perm() != 0o700 {
		err = os.Chmod(folder, 0o700)
	}
	if err == nil {
		err = os.Mkdir(filepath.Join(folder, draftName), 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		return check(0)
	}
	if err != nil {
		return fmt.Errorf("make backup folder: %w", err)
	}
	// Another backup may have been finished between the look and the claim.
	if err := check(1); err != nil {
		return errors.Join(err, os.Remove(filepath.Join(folder, draftName)))
	}
	return nil
}

// checkBackup opens what is in dir as a server does that starts with it: a whole
// database, of no later version than this one, and the key that sealed it.
func (c configuration) checkBackup(ctx context.Context, dir string) (err error) {
	c.Environ = append(slices.Clone(c.Environ), "PDS_DATA_DIRECTORY="+dir)
	s, err := c.load()
	if err != nil {
		return err
	}
	store, err := openCopy(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := store.Check(ctx); err != nil {
		return err
	}
	ring, err := keyring.New(rand.Reader, s.KeyEncryptionKey, s.OldKeyEncryptionKey...)
	if err != nil {
		return fmt.Errorf("PORTICO_KEY_ENCRYPTION_KEY: %w", err)
	}
	canary, err := store.Meta(ctx, canaryName)
	if errors.Is(err, db.ErrNotFound) {
		return errors.New("the database is empty: no server has started with it yet")
	}
	if err != nil {
		return err
	}
	return unlock(ring, canary)
}

// finish moves the files of the draft to their place, the database last, so that they
// survive a power cut, and lists them.
func finish(folder string) ([]backupFile, error) {
	draft := filepath.Join(folder, draftName)
	if blobs := filepath.Join(draft, blobsName); exists(blobs) {
		if err := os.Rename(blobs, filepath.Join(folder, blobsName)); err != nil {
			return nil, err
		}
	}
	var files []backupFile
	for _, name := range []string{secretsName, databaseName} {
		info, err := os.Stat(filepath.Join(draft, name))
		if errors.Is(err, fs.ErrNotExist) && name == secretsName {
			continue
		}
		if err == nil {
			err = os.Rename(filepath.Join(draft, name), filepath.Join(folder, name))
		}
		if err == nil {
			err = syncDirectory(folder)
		}
		if err != nil {
			return nil, err
		}
		files = append(files, backupFile{name, info.Size()})
	}
	slices.Reverse(files)
	return files, errors.Join(os.Remove(draft), syncDirectory(folder))
}

// kept is the secrets that no backup of the data directory has and nobody can make
// anew, by name.
func (s *settings) kept() []keptSecret {
	kept := []keptSecret{}
	for _, v := range s.values {
		irreplaceable := lost[v.name] != "" || v.name == "PORTICO_KEY_ENCRYPTION_KEY_OLD"
		if irreplaceable && !slices.Contains([]string{"secrets file", "default", "development default"}, v.from) {
			kept = append(kept, keptSecret{v.name, v.from})
		}
	}
	return kept
}

func keepLines(kept []keptSecret) []string {
	if len(kept) == 0 {
		return nil
	}
	lines := []string{"Keep besides, since they are in no backup:"}
	for _, k := range kept {
		lines = append(lines, fmt.Sprintf("  %s (%s)", k.Name, k.From))
	}
	return lines
}

// report is what a person is told: what was written, what else to keep, and how to
// restore it.
func (b *folderBackup) report(envFile string) string {
	lines := []string{"Wrote to " + b.Folder + ", and checked:"}
	for _, f := range b.Files {
		lines = append(lines, fmt.Sprintf("  %-14s  %d bytes", f.Name, f.Size))
	}
	written, besides := b.Blobs.lines()
	lines = append(append(append(lines, written...), keepLines(b.Keep)...), besides...)
	serve := "  "
	if b.Blobs.Count > 0 {
		// Settings that name a folder would find the blobs of now in it.
		blobs := filepath.Join(b.Folder, blobsName)
		if b.settings.BlobFolderGiven {
			serve += "PDS_BLOBSTORE_DISK_LOCATION=" + shellWord(blobs) + " "
		}
		if b.settings.BlobTempFolder != "" {
			serve += "PDS_BLOBSTORE_DISK_TMP_LOCATION=" + shellWord(filepath.Join(blobs, "tempt")) + " "
		}
	}
	serve += "PDS_DATA_DIRECTORY=" + shellWord(b.Folder) + " portico serve"
	if envFile != "" {
		serve += " --env-file " + shellWord(envFile)
	}
	return strings.Join(append(lines,
		"To restore it, stop the server, and start one with the same settings on the folder, or on a copy, since it writes there:",
		serve), "\n")
}

// shellWord is text as one word of a shell's command.
func shellWord(text string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@,", r)
	}
	if text != "" && !strings.ContainsFunc(text, func(r rune) bool { return !plain(r) }) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
