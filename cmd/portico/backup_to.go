package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v3"

	"portico/db"
	"portico/db/migrations"
	"portico/impl/backup"
	"portico/impl/blob"
	"portico/impl/logging"
	"portico/impl/repo/store"
)

// toFlag names the place of backups.
func toFlag(usage string) cli.Flag {
	return &cli.StringFlag{Name: "to", Usage: usage + " `PLACE`: a folder, or s3://BUCKET/PREFIX", TakesFile: true}
}

// openBackups opens the place of backups that is named so.
func (s *settings) openBackups(place string, now func() time.Time) (*backup.Repository, error) {
	r := &backup.Repository{Now: now}
	if s.BackupKey != nil {
		key, err := backup.NewKey(s.BackupKey)
		if err != nil {
			return nil, err
		}
		r.Key = key
	}
	if !strings.HasPrefix(place, "s3:") {
		folder, err := backup.OpenFolder(place)
		r.Store = folder
		return r, err
	}
	if r.Key == nil {
		return nil, unfit(errors.New("PORTICO_BACKUP_KEY is missing: with the secrets and the database of a backup one can be the server, " +
			"so that nothing goes to a bucket unsealed; `openssl rand -hex 32` makes a key. Keep it elsewhere, too: without it the backups are lost"))
	}
	bucket, prefix, err := backup.ParseBucket(place)
	if err != nil {
		return nil, usage("%w", err)
	}
	config := s.BackupBucket
	config.Bucket = bucket
	r.Store, err = backup.OpenBucket(config, prefix)
	return r, err
}

// backupRun is what is asked of a backup to a place.
type backupRun struct {
	place        string
	every        time.Duration // 0: once
	keep         backup.Keep
	withoutBlobs bool
}

func backupRunOf(c *cli.Command) (*backupRun, error) {
	b := &backupRun{place: c.String("to"), withoutBlobs: c.Bool("without-blobs")}
	for _, rule := range []struct {
		flag string
		at   *int
	}{{"keep-hourly", &b.keep.Hours}, {"keep-daily", &b.keep.Days}, {"keep-weekly", &b.keep.Weeks}} {
		if *rule.at = c.Int(rule.flag); *rule.at < 0 {
			return nil, usage("--%s is a number of snapshots", rule.flag)
		}
	}
	if every := c.String("every"); every != "" {
		var err error
		if b.every, err = parseDuration(every); err != nil || b.every < time.Minute {
			return nil, usage("--every is a time such as 1h, of at least a minute")
		}
	}
	return b, nil
}

// storedBackup is what was written to a place.
type storedBackup struct {
	Place    string           `json:"place"`
	Manifest *backup.Manifest `json:"manifest"`
	// Sent is how many blobs were not there yet, and SentBytes all that was sent.
	Sent      int64         `json:"sentBlobs"`
	SentBytes int64         `json:"sentBytes"`
	Pruned    backup.Pruned `json:"removed"`
	// Warning is why not all that is too old was removed, or the backup is not noted.
	Warning string        `json:"warning,omitempty"`
	Took    time.Duration `json:"-"`
	Keep    []keptSecret  `json:"keep"`
}

func (b *storedBackup) report() string {
	m := b.Manifest
	lines := []string{"Wrote to " + b.Place + ":", "  snapshot " + m.Snapshot}
	for _, p := range m.Parts {
		sealed := ""
		if p.Sealed {
			sealed = ", sealed"
		}
		lines = append(lines, fmt.Sprintf("  %-10s %d bytes, %d there%s", p.Name, p.Size, p.Stored, sealed))
	}
	if m.Blobs.Elsewhere == "" {
		lines = append(lines, fmt.Sprintf("It has %d blobs with %d bytes; %d of them were not there yet.", m.Blobs.Count, m.Blobs.Bytes, b.Sent))
	} else {
		lines = append(lines, "Its blobs are not there, but in "+m.Blobs.Elsewhere+".")
	}
	if m.Blobs.Missing > 0 {
		lines = append(lines, fmt.Sprintf("Blobs that the database knows, but that were not on the server: %d.", m.Blobs.Missing))
	}
	lines = append(lines, keepLines(b.Keep)...)
	if p := b.Pruned; p.Snapshots > 0 || p.Blobs > 0 {
		lines = append(lines, fmt.Sprintf("Removed %d older snapshots and %d blobs with %d bytes.", p.Snapshots, p.Blobs, p.Bytes))
	}
	if b.Warning != "" {
		lines = append(lines, "Beside that something failed: "+b.Warning)
	}
	return strings.Join(append(lines, fmt.Sprintf("To look at it: portico restore --from %s --into FOLDER --dry-run", shellWord(b.Place))), "\n")
}

// backUpEvery makes a backup at once and then every so often, until ctx ends. What fails is
// logged and tried again, soon at first.
func (c configuration) backUpEvery(ctx context.Context, run *backupRun, stderr io.Writer) error {
	s, err := c.read()
	if err != nil {
		return err
	}
	if _, err := s.openBackups(run.place, c.Now); err != nil {
		return err
	}
	log, _, end := logging.New(stderr, s.LogLevel, s.LogFormat == "json")
	defer end()
	failures := 0
	for {
		began := c.Now()
		b, err := c.backUpTo(ctx, run)
		if ctx.Err() != nil && err != nil {
			return nil // it was asked to end
		}
		wait := max(0, run.every-c.Now().Sub(began))
		if err != nil {
			wait = min(run.every, time.Minute<<min(failures, 10))
			failures++
			log.ErrorContext(ctx, "no backup was made", "place", run.place, "error", err, "again_in", wait.String())
		} else {
			failures = 0
			log.InfoContext(ctx, "made a backup", "place", run.place, "snapshot", b.Manifest.Snapshot, "took", b.Took.Round(time.Millisecond),
				"sent_blobs", b.Sent, "sent_bytes", b.SentBytes, "removed_snapshots", b.Pruned.Snapshots)
			if b.Warning != "" {
				log.WarnContext(ctx, "something failed beside the backup", "place", run.place, "error", b.Warning)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// backUpTo makes a snapshot at a place, removes what is not to be kept there any more, and
// notes in the data directory how it went.
func (c configuration) backUpTo(ctx context.Context, run *backupRun) (b *storedBackup, err error) {
	s, err := c.read()
	if err != nil {
		return nil, err
	}
	repo, err := s.openBackups(run.place, c.Now)
	if err != nil {
		return nil, err
	}
	if file := s.databaseFile(); file != "" && !exists(file) {
		return nil, fmt.Errorf("there is nothing to back up: %s does not exist", file)
	}
	if err := c.fill(s); err != nil {
		return nil, err
	}
	began := c.Now()
	b, err = c.snapshot(ctx, s, repo, run)
	if err == nil {
		b.Took = c.Now().Sub(began)
	}
	noted := noteBackup(s.DataDirectory, repo.Store.String(), b, err, c.Now())
	if err != nil {
		return nil, errors.Join(err, noted)
	}
	if noted != nil { // there is a backup, and to make it again would not help
		b.Warning = strings.TrimPrefix(b.Warning+"; "+noted.Error(), "; ")
	}
	return b, nil
}

// snapshot makes a snapshot. What fails once there is one is a warning.
func (c configuration) snapshot(ctx context.Context, s *settings, repo *backup.Repository, run *backupRun) (b *storedBackup, err error) {
	also := func(failed error) {
		if failed != nil && b != nil {
			b.Warning = strings.TrimPrefix(b.Warning+"; "+failed.Error(), "; ")
		} else {
			err = errors.Join(err, failed)
		}
	}
	from, err := db.Open(ctx, db.Config{
		URL: string(s.DatabaseURL), Pooled: s.DatabasePooled, Dir: s.DataDirectory, ReadOnly: true, Behind: true, MaxConns: 2, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	defer func() { also(from.Close()) }()
	ring, err := readKeys(ctx, s, from)
	if err != nil {
		return nil, err
	}
	id := ring.MAC("backup server", nil)
	w, err := repo.Begin(ctx, hex.EncodeToString(id[:8]))
	if err != nil {
		return nil, fmt.Errorf("back up to %s: %w", repo.Store, err)
	}
	defer func() { also(w.Close()) }()

	// Most of the blobs first, so that there is little to wait for once the database stands
	// still for the snapshot.
	maker := &snapshotMaker{settings: s, writer: w, from: from, now: c.Now}
	if maker.blobs, err = s.backedUpBlobs(ctx, from, run.withoutBlobs); err != nil {
		return nil, err
	}
	if maker.missing, err = maker.send(from); err != nil {
		return nil, fmt.Errorf("back up blobs: %w", err)
	}
	m := backup.Manifest{Server: hex.EncodeToString(id[:8]), Hostname: s.Hostname, Release: s.Version, Engine: from.Engine()}
	if m.Canary, err = from.Meta(ctx, canaryName); err != nil {
		return nil, err
	}
	copyData := maker.copyFile
	if s.DatabaseURL != "" {
		copyData = maker.dump
	}
	if err := copyData(w.Context, &m); err != nil {
		return nil, err
	}
	if maker.blobs == nil && s.BlobBucket.Bucket != "" {
		m.Blobs.Elsewhere = "the bucket " + s.BlobBucket.Bucket
	} else if maker.blobs == nil && run.withoutBlobs {
		m.Blobs.Elsewhere = "the folder " + s.BlobFolder
	}
	made := &storedBackup{Place: repo.Store.String(), Keep: s.kept()}
	if err := c.addSecrets(s, repo.Key != nil, w, &m, made); err != nil {
		return nil, err
	}
	if made.Manifest, err = w.Finish(m); err != nil {
		return nil, err
	}
	b = made
	b.Sent, b.SentBytes = w.Sent, w.SentBytes
	for _, p := range b.Manifest.Parts {
		b.SentBytes += p.Stored
	}
	b.Pruned, err = w.Prune(run.keep)
	also(err)
	return b, nil
}

// backedUpBlobs opens what blobs are read from; nil: they are not backed up, or there are none.
func (s *settings) backedUpBlobs(ctx context.Context, from *db.DB, without bool) (blob.Store, error) {
	if without {
		return nil, nil
	}
	if s.BlobBucket.Bucket != "" {
		return blob.OpenS3(s.BlobBucket)
	}
	any, err := from.HasBlobs(ctx)
	if err != nil || !any {
		return nil, err
	}
	first, err := from.StoredBlobs(ctx, db.StoredBlob{}, 1)
	if err != nil || len(first) == 0 && !exists(s.BlobFolder) {
		return nil, err
	}
	return s.openBlobFolder()
}

// A snapshotMaker copies a database and its blobs in step.
type snapshotMaker struct {
	settings *settings
	writer   *backup.Writer
	from     *db.DB
	blobs    blob.Store      // nil: they stay where they are
	missing  map[string]bool // blobs that were nowhere when they were last looked for
	now      func() time.Time
}

// blobReader is a database, or a state of one.
type blobReader interface {
	StoredBlobs(ctx context.Context, after db.StoredBlob, limit int) ([]db.StoredBlob, error)
}

// rows gives all blobs that a database knows.
func (k *snapshotMaker) rows(of blobReader) iter.Seq2[backup.BlobRow, error] {
	return func(yield func(backup.BlobRow, error) bool) {
		if k.blobs == nil {
			return
		}
		var after db.StoredBlob
		for {
			page, err := of.StoredBlobs(k.writer.Context, after, blobPage)
			if err != nil {
				yield(backup.BlobRow{}, err)
				return
			}
			if len(page) == 0 {
				return
			}
			after = page[len(page)-1]
			for _, row := range page {
				r := backup.BlobRow{DID: row.DID, CID: store.CID(row.CID), Size: row.Size, Key: row.TempKey, TakenDown: row.TakenDown()}
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

func (k *snapshotMaker) send(of blobReader) (missing map[string]bool, err error) {
	if k.blobs == nil {
		return nil, nil
	}
	return k.writer.Send(k.blobs, k.rows(of))
}

// inStep calls once, with what brings those blobs to the store that a state of the database
// knows, until none of them was missing but those that were so the time before: see
// [settings.copyData]. What once does after settled says so is the last.
func (k *snapshotMaker) inStep(once func(settled func(of blobReader) (bool, error)) error) error {
	for copies := 1; ; copies++ {
		again := false
		err := once(func(of blobReader) (bool, error) {
			missing, err := k.send(of)
			if err != nil {
				return false, fmt.Errorf("back up blobs: %w", err)
			}
			for name := range missing {
				again = again || !k.missing[name]
			}
			again = again && copies < databaseCopies
			k.missing = missing
			return !again, nil
		})
		if err != nil || !again {
			return err
		}
	}
}

// copyFile copies the file of SQLite beside itself, and from there to the store.
func (k *snapshotMaker) copyFile(ctx context.Context, m *backup.Manifest) error {
	draft, clear, err := copyFolder(k.settings.DataDirectory)
	if err != nil {
		return fmt.Errorf("make a folder for the copy of the database: %w", err)
	}
	defer clear()
	file := filepath.Join(draft, databaseName)
	return k.inStep(func(settled func(blobReader) (bool, error)) (err error) {
		if err := removeIfThere(file); err != nil {
			return err
		}
		m.Time = k.now()
		if err := k.from.Backup(ctx, file); err != nil {
			return err
		}
		known, err := openCopy(ctx, draft)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, known.Close()) }()
		if ok, err := settled(known); err != nil || !ok {
			return err
		}
		if err := known.Check(ctx); err != nil {
			return fmt.Errorf("check backup: %w", err)
		}
		if err := k.describe(ctx, m, known, known); err != nil {
			return err
		}
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		return k.writer.Part(backup.Database, f)
	})
}

// describe says in the manifest what the database has, and stores the list of its blobs.
func (k *snapshotMaker) describe(ctx context.Context, m *backup.Manifest, blobs blobReader, of interface {
	LastStep(context.Context) (string, error)
	OldestVersion(context.Context, ...migrations.Step) (string, error)
	LastEvent(context.Context) (int64, error)
}) (err error) {
	if m.Schema, err = of.LastStep(ctx); err != nil {
		return err
	}
	if m.Oldest, err = of.OldestVersion(ctx); err != nil {
		return err
	}
	if m.Sequence, err = of.LastEvent(ctx); err != nil {
		return err
	}
	m.Blobs, err = k.writer.Blobs(k.rows(blobs))
	return err
}

const copyPrefix = ".backup-"

// copyFolder makes a folder in dir for a copy of the database, and removes those that
// processes have left which were killed.
func copyFolder(dir string) (folder string, clear func(), err error) {
	left, err := filepath.Glob(filepath.Join(dir, copyPrefix+"*"))
	if err != nil {
		return "", nil, err
	}
	for _, old := range left {
		if f, err := lockFolder(old); err == nil {
			os.RemoveAll(old)
			f.Close()
		}
	}
	if folder, err = os.MkdirTemp(dir, copyPrefix); err != nil {
		return "", nil, err
	}
	lock, err := lockFolder(folder)
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(folder))
	}
	return folder, func() {
		os.RemoveAll(folder)
		lock.Close()
	}, nil
}

// lockFolder locks a folder until the file is closed or the process ends.
func lockFolder(folder string) (*os.File, error) {
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// addSecrets puts the file of secrets into the snapshot, and the secrets that are configured
// where they are sealed.
func (c configuration) addSecrets(s *settings, sealed bool, w *backup.Writer, m *backup.Manifest, b *storedBackup) error {
	text, err := os.ReadFile(filepath.Join(s.DataDirectory, secretsName))
	if err == nil {
		err = w.Part(backup.Secrets, bytes.NewReader(text))
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("back up secrets: %w", err)
	}
	if !sealed {
		for _, k := range b.Keep {
			m.Absent = append(m.Absent, k.Name)
		}
		return nil
	}
	var lines strings.Builder
	for _, k := range b.Keep {
		value, err := c.given(k.Name)
		if err != nil {
			return err
		}
		fmt.Fprintf(&lines, "%s=%s\n", k.Name, quoted(value))
	}
	b.Keep = []keptSecret{{"PORTICO_BACKUP_KEY", "it opens the backup"}}
	if lines.Len() == 0 {
		return nil
	}
	if err := w.Part(backup.Settings, strings.NewReader(lines.String())); err != nil {
		return fmt.Errorf("back up secrets: %w", err)
	}
	return nil
}

// given is the value of a variable, from where read has it.
func (c configuration) given(name string) (string, error) {
	value := ""
	for _, pair := range c.Environ {
		if n, v, ok := strings.Cut(pair, "="); ok && n == name {
			value = v
		}
	}
	if value != "" || c.EnvFile == "" {
		return value, nil
	}
	file, err := readEnvFile(c.EnvFile)
	if err != nil {
		return "", unfit(err)
	}
	for _, p := range file.pairs {
		if p.name == name {
			value = p.value
		}
	}
	return value, nil
}

// quoted is a value as parseEnvFile reads it, and a shell.
func quoted(v string) string {
	if shellWord(v) == v {
		return v
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`").Replace(v) + `"`
}

// backupList is "portico backup list".
func backupList(config func(*cli.Command) configuration, envFile cli.Flag, stdout io.Writer) *cli.Command {
	return &cli.Command{
		Name:  "list",
		Usage: "list the snapshots at a place, the latest first",
		Flags: []cli.Flag{toFlag("list those at"), envFile, jsonFlag()},
		Action: func(ctx context.Context, c *cli.Command) error {
			repo, err := config(c).openPlace(c)
			if err != nil {
				return err
			}
			all, err := repo.Snapshots(ctx)
			if err != nil {
				return err
			}
			con := &console{out: stdout}
			if c.Bool("json") {
				type listed struct {
					Snapshot string           `json:"snapshot"`
					Manifest *backup.Manifest `json:"manifest,omitempty"`
					Error    string           `json:"error,omitempty"`
				}
				list := make([]listed, len(all))
				for i, one := range all {
					list[i] = listed{Snapshot: one.Name, Manifest: one.Manifest}
					if one.Err != nil {
						list[i].Error = one.Err.Error()
					}
				}
				return con.printJSON(struct {
					Snapshots []listed `json:"snapshots"`
				}{list})
			}
			var rows [][]string
			for _, one := range all {
				m := one.Manifest
				if m == nil {
					rows = append(rows, []string{one.Name, "", "", "", "", "", printable(one.Err.Error())})
					continue
				}
				sealed := "no"
				if m.Sealed() {
					sealed = "yes"
				}
				rows = append(rows, []string{
					m.Snapshot, printable(m.Hostname), printable(m.Schema), fmt.Sprint(m.Size(backup.Database)),
					fmt.Sprint(m.Blobs.Count), fmt.Sprint(m.Blobs.Bytes), "sealed: " + sealed,
				})
			}
			return con.table("There is no snapshot.", "SNAPSHOT HOST SCHEMA DATABASE BLOBS BYTES REMARK", rows)
		},
	}
}

func (c configuration) openPlace(cmd *cli.Command) (*backup.Repository, error) {
	if cmd.String("to") == "" {
		return nil, usage("%s takes --to and the place of the backups", cmd.FullName())
	}
	s, err := c.read()
	if err != nil {
		return nil, err
	}
	repo, err := s.openBackups(cmd.String("to"), c.Now)
	if err != nil {
		return nil, err
	}
	return repo, repo.Store.Check(context.Background())
}

// backupVerify is "portico backup verify".
func backupVerify(config func(*cli.Command) configuration, envFile cli.Flag, stdout io.Writer) *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "read all of the snapshots at a place, and say what is damaged or missing",
		ArgsUsage: "[SNAPSHOT...]",
		Description: `Reads each part and each blob, and holds it against its sum. Without a SNAPSHOT all are
read; "latest" is the latest. Ends with 1 when anything is wrong.`,
		Flags: []cli.Flag{toFlag("look at those at"), envFile, jsonFlag()},
		Action: func(ctx context.Context, c *cli.Command) error {
			repo, err := config(c).openPlace(c)
			if err != nil {
				return err
			}
			names := slices.Clone(c.Args().Slice())
			for i, name := range names {
				if name == "latest" {
					if names[i], err = repo.Latest(ctx); err != nil {
						return err
					}
				}
			}
			if len(names) == 0 {
				all, err := repo.Snapshots(ctx)
				if err != nil {
					return err
				}
				for _, one := range all {
					names = append(names, one.Name)
				}
			}
			if len(names) == 0 {
				return fmt.Errorf("there is no snapshot at %s", repo.Store)
			}
			v, err := repo.Verify(ctx, names)
			if err != nil {
				return err
			}
			con := &console{out: stdout}
			wrong := stillWrong(len(v.Findings) + v.More)
			if c.Bool("json") {
				return errors.Join(con.printJSON(v), wrong)
			}
			for _, f := range v.Findings {
				if err := con.say("%s", printable(f)); err != nil {
					return err
				}
			}
			end := "all whole"
			if len(v.Findings) > 0 {
				end = fmt.Sprintf("%d findings", len(v.Findings)+v.More)
			}
			return errors.Join(con.say("%d snapshots and %d blobs, %d bytes: %s", v.Snapshots, v.Blobs, v.Bytes, end), wrong)
		},
	}
}

// withKeyName says of an error of the key where it is set.
func withKeyName(err error) error {
	if errors.Is(err, backup.ErrKey) {
		return fmt.Errorf("%w (PORTICO_BACKUP_KEY)", err)
	}
	return err
}

// backUpToPlace is "portico backup --to".
func backUpToPlace(ctx context.Context, c *cli.Command, config configuration, stdout, stderr io.Writer) error {
	if c.Args().Present() {
		return usage("backup takes a folder or --to, not both")
	}
	run, err := backupRunOf(c)
	if err != nil {
		return err
	}
	if run.every > 0 {
		return config.backUpEvery(ctx, run, stderr)
	}
	b, err := config.backUpTo(ctx, run)
	if ctx.Err() != nil && err != nil {
		return errors.New("interrupted: there is no new snapshot")
	}
	if err != nil {
		return err
	}
	con := &console{out: stdout}
	if c.Bool("json") {
		return con.printJSON(b)
	}
	return con.say("%s", b.report())
}

// checkBackups says what of the settings of backups does not go together.
func (s *settings) checkBackups(given func(name string) string, add func(variable, text string)) {
	const id, key = "PORTICO_BACKUP_S3_ACCESS_KEY_ID", "PORTICO_BACKUP_S3_SECRET_ACCESS_KEY"
	if (given(id) == "") != (given(key) == "") {
		add(cmp.Or(missing(given, id), key), "is missing: the two access keys go together")
		return
	}
	config := s.BackupBucket
	config.Bucket = "backups"
	if _, err := config.Core(); err != nil {
		add("PORTICO_BACKUP_S3_ENDPOINT", "can't be used: "+err.Error())
	}
	if s.BackupKey != nil && string(s.BackupKey) == string(s.KeyEncryptionKey) {
		add("PORTICO_BACKUP_KEY", "must differ from PORTICO_KEY_ENCRYPTION_KEY")
	}
}
