package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/urfave/cli/v3"
	"golang.org/x/sync/errgroup"

	"portico/db"
	"portico/impl/backup"
	"portico/impl/blob"
	"portico/impl/keyring"
	"portico/impl/repo/store"
)

// settingsName is the file in a restored directory with secrets that are configured.
const settingsName = "settings.env"

// restoreCommand is "portico restore".
func restoreCommand(config func(*cli.Command) configuration, envFile cli.Flag, stdout io.Writer) *cli.Command {
	return &cli.Command{
		Name:  "restore",
		Usage: "make a data directory of a backup, having checked all of it",
		Description: `Takes a snapshot that "portico backup --to" made, or a folder of "portico backup FOLDER", and
makes FOLDER of it, which must be new or empty. First it looks at everything: that the
snapshot is whole and its blobs are there, that this version can read it, that the settings
have the keys that open it and all secrets that are not in it, and that there is room. Then
it writes beside FOLDER, and gives it its name when all is there: one that was killed leaves
no FOLDER, and the next removes what it wrote.

What is kept in Postgres pg_restore brings to the database of PORTICO_DATABASE_URL, which
must be empty, in one transaction; FOLDER has the blobs then. Where PDS_BLOBSTORE_S3_BUCKET
is set the blobs are brought to that bucket, which must have none. --into-bucket goes on with
one that has some: those of the snapshot are written over them, and what was taken down is
moved out of reach there. So give it only when no server uses the bucket.

Nothing is started, and nothing else is changed of the server of which the backup is: stop
it, if it runs, before you start another in its place.

("portico account restore" lifts a takedown of an account.)`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "from", Usage: "take it from `PLACE`: a folder, or s3://BUCKET/PREFIX", TakesFile: true},
			&cli.StringFlag{Name: "snapshot", Usage: "take the snapshot `NAME`, as \"portico backup list\" has it", Value: "latest"},
			&cli.StringFlag{Name: "into", Usage: "make the data directory `FOLDER`", TakesFile: true},
			&cli.BoolFlag{Name: "dry-run", Usage: "check all that can be checked before anything is written, and end"},
			&cli.BoolFlag{Name: "accept-missing-blobs", Usage: "go on although blobs of the snapshot are not at the place any more"},
			&cli.BoolFlag{Name: "into-bucket", Usage: "bring the blobs to the bucket of the settings although blobs are there"},
			envFile, jsonFlag(),
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() || c.String("from") == "" || c.String("into") == "" {
				return usage(`restore takes --from and --into; "portico account restore" lifts a takedown`)
			}
			r := &restore{
				configuration: config(c), place: c.String("from"), snapshot: c.String("snapshot"),
				dryRun: c.Bool("dry-run"), acceptMissing: c.Bool("accept-missing-blobs"), intoBucket: c.Bool("into-bucket"),
			}
			err := r.run(ctx, c.String("into"))
			if ctx.Err() != nil && err != nil && len(r.left) == 0 {
				return errors.New("interrupted: nothing was restored")
			}
			if err != nil {
				return errors.Join(append([]error{withKeyName(err)}, r.left...)...)
			}
			con := &console{out: stdout}
			if c.Bool("json") {
				return con.printJSON(r.done)
			}
			return con.say("%s", r.report(c.String("env-file")))
		},
	}
}

// restore makes a data directory of a backup.
type restore struct {
	configuration
	place, snapshot                   string
	dryRun, acceptMissing, intoBucket bool

	settings *settings
	into     string
	repo     *backup.Repository
	manifest *backup.Manifest
	// file and lines are the secrets of the snapshot: those of the file, and those that were
	// configured.
	file, lines []byte
	problems    []string
	// left is what was written to other places than the folder, and stays after an error.
	left []error
	done restored
}

// restored is what was restored, or would be.
type restored struct {
	Place    string    `json:"place"`
	Snapshot string    `json:"snapshot,omitempty"`
	Folder   string    `json:"folder"`
	Hostname string    `json:"hostname,omitempty"`
	Time     time.Time `json:"time,omitzero"`
	Database int64     `json:"database"` // bytes
	Blobs    int64     `json:"blobs"`
	Bytes    int64     `json:"bytes"` // of the blobs
	Missing  int64     `json:"missingBlobs"`
	// Settings is the names of the secrets in the file of that name, which belong into the
	// settings.
	Settings  []string `json:"settings"`
	DryRun    bool     `json:"dryRun"`
	elsewhere string
}

func (r *restore) problem(format string, args ...any) {
	r.problems = append(r.problems, fmt.Sprintf(format, args...))
}

// refusal is all that was found wrong before anything was written.
func (r *restore) refusal() error {
	if len(r.problems) == 0 {
		return nil
	}
	return errors.New("nothing was restored:\n  " + strings.Join(r.problems, "\n  "))
}

func (r *restore) run(ctx context.Context, into string) (err error) {
	if r.settings, err = r.read(); err != nil {
		return err
	}
	if r.into, err = filepath.Abs(into); err != nil {
		return err
	}
	r.done = restored{Place: r.place, Folder: r.into, Settings: []string{}, DryRun: r.dryRun}
	if entries, err := os.ReadDir(r.into); err == nil && len(entries) > 0 {
		r.problem("%s is not empty: name a new folder", r.into)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.problem("%s cannot be a data directory: %v", r.into, err)
	}
	if !strings.HasPrefix(r.place, "s3:") && exists(filepath.Join(r.place, databaseName)) {
		return r.fromFolder(ctx)
	}
	return r.fromSnapshot(ctx)
}

// fromFolder restores what "portico backup FOLDER" wrote.
func (r *restore) fromFolder(ctx context.Context) error {
	if r.snapshot != "latest" {
		return usage("%s is one backup and has no snapshots", r.place)
	}
	if r.settings.DatabaseURL != "" {
		r.problem("the backup is of SQLite, and PORTICO_DATABASE_URL is set")
	}
	if exists(filepath.Join(r.place, draftName)) {
		r.problem("%s has a backup that is being written, or was interrupted", r.place)
	}
	secrets, err := os.ReadFile(filepath.Join(r.place, secretsName))
	if err == nil {
		r.file = secrets
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := r.checkFile(ctx, r.place); err != nil {
		r.problem("%v", err)
	}
	info, err := os.Stat(filepath.Join(r.place, databaseName))
	if err != nil {
		return err
	}
	r.done.Database = info.Size()
	blobs := filepath.Join(r.place, blobsName)
	from := blob.FoldersToRead(blobs, filepath.Join(blobs, "tempt"), filepath.Join(blobs, "quarantine"))
	if len(r.problems) == 0 && r.settings.BlobBucket.Bucket == "" {
		if err := r.countBlobs(ctx, from); err != nil {
			return err
		}
	}
	r.checkRoom(r.done.Database + r.done.Bytes)
	if err := r.refusal(); err != nil || r.dryRun {
		return err
	}
	return r.inDraft(func(draft string) error {
		if err := copyFile(filepath.Join(r.place, databaseName), filepath.Join(draft, databaseName)); err != nil {
			return fmt.Errorf("copy database: %w", err)
		}
		if r.file != nil {
			if err := writeDurably(filepath.Join(draft, secretsName), string(r.file)); err != nil {
				return fmt.Errorf("copy secrets: %w", err)
			}
		}
		if r.done.Blobs > 0 {
			if err := r.copyBlobs(ctx, from, draft); err != nil {
				return fmt.Errorf("copy blobs: %w", err)
			}
		}
		return r.checkFile(ctx, draft)
	})
}

// eachBlob calls fn with the blobs that the database in a folder knows, some of an account at
// a time.
func eachBlob(ctx context.Context, folder string, fn func(did syntax.DID, some []blob.Want) error) (err error) {
	known, err := openCopy(ctx, folder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, known.Close()) }()
	if any, err := known.HasBlobs(ctx); err != nil || !any {
		return err
	}
	var after db.StoredBlob
	for {
		page, err := known.StoredBlobs(ctx, after, blobPage)
		if err != nil || len(page) == 0 {
			return err
		}
		after = page[len(page)-1]
		wants := make(map[syntax.DID][]blob.Want)
		for _, row := range page {
			wants[row.DID] = append(wants[row.DID], blob.Want{CID: store.CID(row.CID), Size: row.Size, Key: row.TempKey})
		}
		for _, did := range slices.Sorted(maps.Keys(wants)) {
			if err := fn(did, wants[did]); err != nil {
				return err
			}
		}
	}
}

func (r *restore) countBlobs(ctx context.Context, from *blob.Disk) error {
	var first []string
	err := eachBlob(ctx, r.place, func(did syntax.DID, some []blob.Want) error {
		for _, w := range some {
			names := []blob.Name{blob.PermanentName(did, w.CID), blob.QuarantineName(did, w.CID)}
			if w.Key != "" {
				names = append(names, blob.TemporaryName(did, w.Key))
			}
			there := slices.ContainsFunc(names, func(n blob.Name) bool {
				f, err := from.Stat(ctx, n)
				return err == nil && f.Size == w.Size
			})
			if there {
				r.done.Blobs++
				r.done.Bytes += w.Size
				continue
			}
			if r.done.Missing++; len(first) < 3 {
				first = append(first, did.String()+"/"+w.CID.String())
			}
		}
		return ctx.Err()
	})
	if err == nil && r.done.Missing > 0 && !r.acceptMissing {
		r.problem("%d blobs that the database knows are not in the backup, such as %s: --accept-missing-blobs goes on without them",
			r.done.Missing, strings.Join(first, ", "))
	}
	return err
}

func (r *restore) copyBlobs(ctx context.Context, from *blob.Disk, draft string) error {
	target, err := blob.OpenDisk(filepath.Join(draft, blobsName), "", blob.Bounds{})
	if err != nil {
		return err
	}
	var missing int64
	err = eachBlob(ctx, draft, func(did syntax.DID, some []blob.Want) error {
		gone, err := target.TakeCopies(ctx, from, did, some)
		missing += int64(len(gone))
		return err
	})
	if err == nil && missing != r.done.Missing {
		return fmt.Errorf("%d are not what their CID says", missing-r.done.Missing)
	}
	return err
}

// fromSnapshot restores a snapshot.
func (r *restore) fromSnapshot(ctx context.Context) (err error) {
	if r.repo, err = r.settings.openBackups(r.place, r.Now); err != nil {
		return err
	}
	if err := r.repo.Store.Check(ctx); err != nil {
		return fmt.Errorf("open %s: %w", r.repo.Store, err)
	}
	if r.snapshot == "latest" {
		if r.snapshot, err = r.repo.Latest(ctx); errors.Is(err, backup.ErrNotFound) {
			return fmt.Errorf("there is no snapshot at %s, and no %s", r.repo.Store, databaseName)
		} else if err != nil {
			return err
		}
	}
	m, err := r.repo.Manifest(ctx, r.snapshot)
	if err != nil {
		return err
	}
	r.manifest = m
	r.done.Place, r.done.Snapshot, r.done.Hostname, r.done.Time = r.repo.Store.String(), m.Snapshot, m.Hostname, m.Time
	r.done.Database, r.done.Blobs, r.done.Bytes, r.done.elsewhere = m.Size(backup.Database), m.Blobs.Count, m.Blobs.Bytes, m.Blobs.Elsewhere
	if err := r.checkSnapshot(ctx); err != nil {
		return err
	}
	if err := r.refusal(); err != nil || r.dryRun {
		return err
	}
	return r.inDraft(func(draft string) error { return r.write(ctx, draft) })
}

// secretsMost is more than secrets take.
const secretsMost = 1 << 20

func (r *restore) readSmall(ctx context.Context, part string) ([]byte, error) {
	if !r.manifest.Has(part) {
		return nil, nil
	}
	if size := r.manifest.Size(part); size > secretsMost {
		return nil, fmt.Errorf("%s of snapshot %s: %w: %d bytes are too many", part, r.manifest.Snapshot, backup.ErrDamaged, size)
	}
	f, err := r.repo.OpenPart(ctx, r.manifest, part)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// checkSnapshot looks at all that can be looked at before anything is written.
func (r *restore) checkSnapshot(ctx context.Context) (err error) {
	m, s := r.manifest, r.settings
	if known, err := db.KnowsStep(m.Engine, cmp.Or(m.Oldest, m.Schema)); err != nil {
		return err
	} else if !known {
		r.problem("its database has seen %s, with which this version does not work: restore it with the version that made it, %s", printable(m.Schema), printable(m.Release))
	}
	switch {
	case m.Engine == "sqlite" && s.DatabaseURL != "":
		r.problem("the snapshot is of SQLite, and PORTICO_DATABASE_URL is set")
	case m.Engine == "postgres" && s.DatabaseURL == "":
		r.problem("the snapshot is of Postgres, and PORTICO_DATABASE_URL is not set: it names the empty database that it is restored to")
	case m.Engine == "postgres":
		direct, err := s.directURL()
		if err != nil {
			r.problem("%v", err)
			break
		}
		empty, err := db.EmptyPostgres(ctx, direct)
		if err != nil {
			r.problem("%v", err)
		} else if !empty {
			r.problem("the database of PORTICO_DATABASE_URL is not empty: make a new one")
		}
		if _, err := postgresProgram(ctx, "pg_restore", 1); err != nil {
			r.problem("%v", err)
		}
		if _, err := libpqEnviron(direct, nil); err != nil {
			r.problem("%v", err)
		}
	}
	if r.file, err = r.readSmall(ctx, backup.Secrets); err != nil {
		return err
	}
	if r.lines, err = r.readSmall(ctx, backup.Settings); err != nil {
		return err
	}
	if err := r.checkSecrets(); err != nil {
		return err
	}
	needs := m.Size(backup.Database)
	if s.BlobBucket.Bucket == "" {
		needs += m.Blobs.Bytes
	}
	r.checkRoom(needs)
	if err := r.checkBucket(ctx); err != nil {
		return err
	}
	missing, count, err := r.repo.MissingBlobs(ctx, m, 3)
	if err != nil {
		return err
	}
	r.done.Missing = count
	if count > 0 && !r.acceptMissing {
		var first []string
		for _, row := range missing {
			first = append(first, row.String())
		}
		r.problem("%d of its blobs are not at %s any more, or are damaged, such as %s: --accept-missing-blobs goes on without them",
			count, r.repo.Store, strings.Join(first, ", "))
	}
	return nil
}

// checkBucket says when the bucket that the blobs would be brought to has blobs.
func (r *restore) checkBucket(ctx context.Context) error {
	bucket := r.settings.BlobBucket
	if bucket.Bucket == "" || r.manifest.Blobs.Count == 0 || r.intoBucket {
		return nil
	}
	target, err := blob.OpenS3(bucket)
	if err != nil {
		return err
	}
	for _, err := range target.Files(ctx, "") {
		if err != nil {
			return fmt.Errorf("look whether the bucket %s is empty: %w", bucket.Bucket, err)
		}
		r.problem("the bucket %s of PDS_BLOBSTORE_S3_BUCKET has blobs, which a server may be using: name an empty one, or none to have the blobs in the folder; "+
			"--into-bucket writes over those that are there", bucket.Bucket)
		break
	}
	return nil
}

// checkSecrets says which secrets are missing, and whether there is the key that opens what
// is sealed in the database.
func (r *restore) checkSecrets() error {
	for _, name := range r.manifest.Absent {
		value, err := r.given(name)
		if err != nil {
			return err
		}
		if value == "" && lost[name] != "" {
			r.problem("%s is in no backup: set it to its old value; without it %s", name, lost[name])
		}
	}
	if err := r.noteSettings(); err != nil {
		return err
	}
	if err := r.unlock(r.manifest.Canary); err != nil {
		r.problem("%v", err)
	}
	return nil
}

// noteSettings notes which secrets of the snapshot belong into the settings and are not there.
func (r *restore) noteSettings() error {
	file, err := parseEnvFile(r.lines)
	if err != nil {
		return fmt.Errorf("%s of snapshot %s:%w", backup.Settings, r.manifest.Snapshot, err)
	}
	for _, p := range file.pairs {
		if value, err := r.given(p.name); err != nil {
			return err
		} else if value == "" {
			r.done.Settings = append(r.done.Settings, printable(p.name))
		}
	}
	return nil
}

// unlock looks whether there is the key that opens a canary: in the settings or, where they
// do not say, among the secrets of the backup.
func (r *restore) unlock(canary []byte) error {
	key, old := r.settings.KeyEncryptionKey, r.settings.OldKeyEncryptionKey
	for _, text := range [][]byte{r.lines, r.file} {
		file, err := parseEnvFile(text)
		if err != nil {
			return fmt.Errorf("secrets of the backup:%w", err)
		}
		for _, p := range file.pairs {
			switch {
			case p.name == "PORTICO_KEY_ENCRYPTION_KEY" && key == nil:
				if key, err = key32(p.value); err != nil {
					return fmt.Errorf("%s of the backup %w", p.name, err)
				}
			case p.name == "PORTICO_KEY_ENCRYPTION_KEY_OLD":
				for _, one := range splitList(p.value) {
					if k, err := key32(one); err == nil {
						old = append(old, k)
					}
				}
			}
		}
	}
	if key == nil {
		return fmt.Errorf("PORTICO_KEY_ENCRYPTION_KEY is neither in the settings nor in the backup: without it %s", lost["PORTICO_KEY_ENCRYPTION_KEY"])
	}
	ring, err := keyring.New(r.Rand, key, old...)
	if err != nil {
		return err
	}
	return unlock(ring, canary)
}

// checkFile opens the database in a folder as a server does that starts with it: it is whole,
// of no later version than this one, and there is the key that sealed it.
func (r *restore) checkFile(ctx context.Context, folder string) (err error) {
	known, err := openCopy(ctx, folder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, known.Close()) }()
	if err := known.Check(ctx); err != nil {
		return err
	}
	canary, err := known.Meta(ctx, canaryName)
	if errors.Is(err, db.ErrNotFound) {
		return errors.New("the database is empty: no server has started with it yet")
	}
	if err != nil {
		return err
	}
	return r.unlock(canary)
}

// checkRoom says when a number of bytes does not fit where the folder will be.
func (r *restore) checkRoom(needs int64) {
	dir := r.into
	for !exists(dir) {
		dir = filepath.Dir(dir)
	}
	var room syscall.Statfs_t
	if err := syscall.Statfs(dir, &room); err != nil {
		return // whoever writes will see
	}
	const spare = 64 << 20
	if free := uint64(room.Bavail) * uint64(room.Bsize); free < uint64(needs)+spare {
		r.problem("there is no room at %s: %d bytes are free, and %d are needed", dir, free, needs+spare)
	}
}

// restoringName ends the name of a folder that is being written.
const restoringName = ".restoring"

// draftNames is what a restore that was killed may leave in it.
var draftNames = []string{databaseName, databaseName + "-wal", databaseName + "-shm", databaseName + "-journal", secretsName, settingsName, blobsName}

// inDraft has write fill a folder beside the one that is wanted, and gives it that name.
func (r *restore) inDraft(write func(draft string) error) (err error) {
	parent := filepath.Dir(r.into)
	if err := makeDirectory(parent); err != nil {
		return err
	}
	draft := filepath.Join(parent, "."+filepath.Base(r.into)+restoringName)
	if exists(draft) {
		old, err := lockFolder(draft)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("another process restores %s", r.into)
		}
		if err != nil {
			return err
		}
		defer old.Close()
		entries, err := os.ReadDir(draft)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !slices.Contains(draftNames, e.Name()) {
				return fmt.Errorf("%s is in the way, with %q in it: remove it", draft, e.Name())
			}
		}
		if err := os.RemoveAll(draft); err != nil {
			return fmt.Errorf("remove what was not finished: %w", err)
		}
	}
	if err := os.Mkdir(draft, 0o700); err != nil {
		return err
	}
	lock, err := lockFolder(draft)
	if err != nil {
		return err
	}
	defer lock.Close()
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(draft))
		}
	}()
	if err := write(draft); err != nil {
		return err
	}
	if err := syncDirectory(draft); err != nil {
		return err
	}
	// It is empty, if it is there.
	if err := removeIfThere(r.into); err != nil {
		return err
	}
	if err := os.Rename(draft, r.into); err != nil {
		return err
	}
	return syncDirectory(parent)
}

// write writes a snapshot to a draft.
func (r *restore) write(ctx context.Context, draft string) error {
	for name, text := range map[string][]byte{secretsName: r.file, settingsName: r.lines} {
		if text == nil {
			continue
		}
		if err := writeDurably(filepath.Join(draft, name), string(text)); err != nil {
			return fmt.Errorf("write secrets: %w", err)
		}
	}
	file := filepath.Join(draft, databaseName)
	if err := r.writePart(ctx, backup.Database, file); err != nil {
		return err
	}
	if r.manifest.Engine == "sqlite" {
		if err := r.checkFile(ctx, draft); err != nil {
			return err
		}
	}
	if err := r.writeBlobs(ctx, draft); err != nil {
		return err
	}
	if r.manifest.Engine == "sqlite" {
		return nil
	}
	if err := r.fillPostgres(ctx, file); err != nil {
		return err
	}
	return os.Remove(file)
}

func (r *restore) writePart(ctx context.Context, part, path string) error {
	from, err := r.repo.OpenPart(ctx, r.manifest, part)
	if err != nil {
		return err
	}
	defer from.Close()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", part, err)
	}
	return nil
}

// writeBlobs brings the blobs to the folder in the draft, or to the bucket of the settings.
func (r *restore) writeBlobs(ctx context.Context, draft string) error {
	if r.manifest.Blobs.Count == 0 {
		return nil
	}
	var target blob.Store
	var err error
	if r.settings.BlobBucket.Bucket != "" {
		target, err = blob.OpenS3(r.settings.BlobBucket)
		r.left = append(r.left, fmt.Errorf("the bucket %s may have some of the blobs now", r.settings.BlobBucket.Bucket))
	} else {
		target, err = blob.OpenDisk(filepath.Join(draft, blobsName), "", blob.Bounds{})
	}
	if err != nil {
		return err
	}
	all, writing := errgroup.WithContext(ctx)
	all.SetLimit(8)
	var missing, bytes atomic.Int64
	for row, err := range r.repo.BlobRows(writing, r.manifest) {
		if err != nil {
			return errors.Join(err, all.Wait())
		}
		all.Go(func() error {
			err := r.writeBlob(writing, target, row)
			if r.acceptMissing && (errors.Is(err, backup.ErrNotFound) || errors.Is(err, backup.ErrDamaged)) {
				missing.Add(1)
				bytes.Add(row.Size)
				return nil
			}
			return err
		})
	}
	err = all.Wait()
	r.done.Missing = missing.Load()
	r.done.Blobs -= r.done.Missing
	r.done.Bytes -= bytes.Load()
	return err
}

func (r *restore) writeBlob(ctx context.Context, target blob.Store, row backup.BlobRow) error {
	from, err := r.repo.OpenBlob(ctx, row)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := target.Put(ctx, row.DID, row.CID, from, row.Size); err != nil {
		return fmt.Errorf("blob %s: %w", row, err)
	}
	if row.TakenDown {
		return target.Quarantine(ctx, row.DID, row.CID)
	}
	return nil
}

// markPatience is how long a database has to be marked that was filled.
const markPatience = time.Minute

// fillPostgres has pg_restore fill the database in one transaction, and marks it in another:
// also when ctx ends between them.
func (r *restore) fillPostgres(ctx context.Context, file string) error {
	program, err := postgresProgram(ctx, "pg_restore", 1)
	if err != nil {
		return err
	}
	url, err := r.settings.directURL()
	if err != nil {
		return err
	}
	environ, err := libpqEnviron(url, os.Environ())
	if err != nil {
		return err
	}
	name := ""
	for _, pair := range environ {
		if value, ok := strings.CutPrefix(pair, "PGDATABASE="); ok {
			name = value
		}
	}
	if name == "" || strings.ContainsAny(name, "=:/") { // which it would take for more than a name
		return errors.New("PORTICO_DATABASE_URL names no database to restore to")
	}
	var stderr tail
	fill := exec.CommandContext(ctx, program, "--dbname="+name, "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", "--no-password", file)
	fill.Env, fill.Stderr = environ, &stderr
	err = fill.Run()
	if err != nil {
		err = fmt.Errorf("pg_restore: %w: %s", err, stderr.text())
	}
	marking, stop := context.WithTimeout(context.WithoutCancel(ctx), markPatience)
	defer stop()
	if err != nil {
		// It may have been killed after its COMMIT.
		if empty, asked := db.EmptyPostgres(marking, url); asked == nil && empty {
			return err
		}
	}
	r.left = append(r.left, errors.New("the database of PORTICO_DATABASE_URL is filled: start no server on it, drop it, and begin with a new one"))
	return errors.Join(err, db.MarkBackup(marking, url, r.manifest.Time))
}

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	if err == nil {
		err = target.Sync()
	}
	return errors.Join(err, target.Close())
}

// report is what a person is told: what was restored, what comes next, and what is lost.
func (r *restore) report(envFile string) string {
	d := r.done
	what := "the backup " + d.Place
	if d.Snapshot != "" {
		what = fmt.Sprintf("snapshot %s of %s", d.Snapshot, printable(d.Hostname))
	}
	var lines []string
	if d.DryRun {
		lines = append(lines, "Checked "+what+", and wrote nothing. It has:")
	} else {
		lines = append(lines, "Restored "+what+" to "+d.Folder+":")
	}
	lines = append(lines, fmt.Sprintf("  database  %d bytes", d.Database))
	if d.elsewhere == "" {
		lines = append(lines, fmt.Sprintf("  blobs     %d bytes in %d files", d.Bytes, d.Blobs))
	} else {
		lines = append(lines, "  no blobs: they are in "+printable(d.elsewhere))
	}
	if d.Missing > 0 {
		lines = append(lines, fmt.Sprintf("  %d blobs are missing", d.Missing))
	}
	if len(d.Settings) > 0 && !d.DryRun {
		lines = append(lines, fmt.Sprintf("Put the lines of %s into the settings, and remove it: %s", filepath.Join(d.Folder, settingsName), strings.Join(d.Settings, ", ")))
	} else if len(d.Settings) > 0 {
		lines = append(lines, "It has secrets that the settings lack: "+strings.Join(d.Settings, ", "))
	}
	if d.DryRun {
		return strings.Join(lines, "\n")
	}
	serve := "  "
	if r.settings.BlobFolderGiven && d.Blobs > 0 {
		serve += "PDS_BLOBSTORE_DISK_LOCATION=" + shellWord(filepath.Join(d.Folder, blobsName)) + " "
	}
	if r.settings.BlobTempFolder != "" && d.Blobs > 0 {
		serve += "PDS_BLOBSTORE_DISK_TMP_LOCATION=" + shellWord(filepath.Join(d.Folder, blobsName, "tempt")) + " "
	}
	serve += "PDS_DATA_DIRECTORY=" + shellWord(d.Folder) + " portico serve"
	if envFile != "" {
		serve += " --env-file " + shellWord(envFile)
	}
	since := "the backup was made"
	if !d.Time.IsZero() {
		since = d.Time.Format(time.RFC3339)
	}
	return strings.Join(append(lines,
		"Once no other server runs in its place, start one on it:",
		serve,
		"and look whether all is whole: portico repo verify --all.",
		"What was written since "+since+" is lost: records, and accounts, whose DIDs exist all the same. Accounts that were",
		"released from quarantine since are in it again. Events get numbers far above those that were given, so relays go on by themselves.",
	), "\n")
}
