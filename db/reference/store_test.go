package reference_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"portico/db"
	"portico/db/reference"
	"portico/impl/reference/referencetest"
)

const (
	carol = "did:plc:pdjqvg4tyf7ffkhnswvn3t5z"
	peggy = "did:plc:6tm5tjpmh5ie7k4vtcx6emk4"
)

func TestStore(t *testing.T) {
	s := open(t, referencetest.Unpack(t, referencetest.Crashed))
	folders := all(t, s.Folders(t.Context()))
	if !slices.Contains(folders, peggy) || !slices.Contains(folders, ivan) || slices.Contains(folders, carol) {
		t.Errorf("folders %q", folders)
	}
	if _, err := s.Store(t.Context(), carol); !errors.Is(err, reference.ErrNoStore) {
		t.Errorf("carol's store: %v", err)
	}
	if _, err := s.Key(carol); !errors.Is(err, reference.ErrNoStore) {
		t.Errorf("carol's key: %v", err)
	}

	// Of alice the last commit is in the log.
	store := openStore(t, s, alice)
	root, err := store.Root(t.Context())
	if err != nil || root.CID != "bafyreiag3fgt6i3rphbjcl4wfuqo4dh6p7lh4blgouk5laoseyfsyxkeeq" || root.Rev != "3n3exfjz5xk2v" {
		t.Errorf("root %v, %v", root, err)
	}
	const post = "bafyreihucafdydwhymhndy67rpkki2xdryxrggxh5odj5pqpbc543n3awy"
	if b, err := store.Block(t.Context(), post); err != nil || b.RepoRev != root.Rev || len(b.Content) != int(b.Size) {
		t.Errorf("block %v, %v", b, err)
	}
	if _, err := store.Block(t.Context(), "bafyrei"); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("block that is not there: %v", err)
	}
	posts := slices.DeleteFunc(all(t, store.Records(t.Context())), func(r reference.Record) bool { return r.CID != post })
	if len(posts) != 1 || posts[0].URI != "at://"+alice+"/app.bsky.feed.post/3n3exfjyw5k2v" || posts[0].RKey != "3n3exfjyw5k2v" || posts[0].TakedownRef != nil {
		t.Errorf("posts %v", posts)
	}
	var names []string
	var last int64
	for _, p := range all(t, store.Preferences(t.Context())) {
		names = append(names, p.Name)
		if p.ID <= last || !strings.HasPrefix(p.ValueJSON, "{") {
			t.Errorf("%+v", p)
		}
		last = p.ID
	}
	if !slices.Contains(names, "app.bsky.actor.defs#personalDetailsPref") {
		t.Errorf("preferences %q", names)
	}
}

// A blob that waits for its record has a key, one that is taken down a reference, and a
// record may name one that is not there.
func TestBlobRows(t *testing.T) {
	s := open(t, referencetest.Unpack(t, referencetest.Stopped))
	waiting, down, named := 0, 0, 0
	for _, did := range all(t, s.Folders(t.Context())) {
		store := openStore(t, s, did)
		rows := make(map[string]bool)
		for _, b := range all(t, store.Blobs(t.Context())) {
			rows[b.CID] = true
			if b.TempKey != nil {
				waiting++
			}
			if b.TakedownRef != nil {
				down++
			}
		}
		for _, r := range all(t, store.RecordBlobs(t.Context())) {
			if !rows[r.BlobCID] {
				named++
			}
		}
	}
	if waiting != 1 || down != 1 || named != 1 {
		t.Errorf("%d wait, %d are taken down, %d are missing", waiting, down, named)
	}
}

func TestReservedKeys(t *testing.T) {
	dir := referencetest.Unpack(t, referencetest.Stopped)
	s := open(t, dir)
	reserved := filepath.Join(dir, "actors", "reserved_keys")
	must(t, os.WriteFile(filepath.Join(reserved, "did:plc:short"), []byte("short"), 0o600))
	must(t, os.WriteFile(filepath.Join(reserved, "note.txt"), []byte(strings.Repeat("x", 32)), 0o600))
	must(t, os.Symlink("/etc/passwd", filepath.Join(reserved, "did:plc:linked")))
	keys, err := s.ReservedKeys()
	if !errors.Is(err, reference.ErrDamaged) {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"did:plc:short is no key of 32 bytes", "note.txt is not named", "did:plc:linked leads to /etc/passwd"} {
		if !strings.Contains(fmt.Sprint(err), name) {
			t.Errorf("%q is not in %v", name, err)
		}
	}
	if len(keys) != 2 || keys[0].Name != "did:key:zQ3shUGP1Tq4UWpCpeBbHDrpVE3ofessGBYByYyj4sqyLjLrD" || len(keys[0].Key) != 32 || keys[1].Name != "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa" {
		t.Errorf("got %d keys", len(keys))
	}
	must(t, os.RemoveAll(reserved))
	if keys, err := s.ReservedKeys(); err != nil || keys != nil {
		t.Errorf("without a folder: %d keys, %v", len(keys), err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A store that cannot be what it was is refused by name. The stores beside it are read.
func TestStoreRefused(t *testing.T) {
	run := func(statements ...string) func(*testing.T, string) {
		return func(t *testing.T, folder string) {
			execute(t, filepath.Join(folder, "store.sqlite"), statements...)
		}
	}
	root := func(s *reference.Store, t *testing.T) error { _, err := s.Root(t.Context()); return err }
	blocks := func(s *reference.Store, t *testing.T) error { return failure(s.Blocks(t.Context())) }
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, folder string)
		read   func(s *reference.Store, t *testing.T) error // nil: it is not opened
		want   error
		says   string
	}{
		{"no file", func(t *testing.T, folder string) {
			must(t, os.Remove(filepath.Join(folder, "store.sqlite")))
		}, nil, reference.ErrNoStore, "no store: account " + bob},
		{"no folder", func(t *testing.T, folder string) { must(t, os.RemoveAll(folder)) },
			nil, reference.ErrNoStore, "no store: account " + bob},
		{"entryway", func(t *testing.T, folder string) {
			must(t, os.WriteFile(filepath.Join(folder, "did-op"), nil, 0o600))
		}, nil, reference.ErrEntryway, "server is behind an entryway: account " + bob + " has a file did-op"},
		{"link to nothing", func(t *testing.T, folder string) {
			path := filepath.Join(folder, "store.sqlite")
			must(t, os.Remove(path))
			must(t, os.Symlink("nothing", path))
		}, nil, reference.ErrDamaged, "file is damaged: "},
		{"link to elsewhere", func(t *testing.T, folder string) {
			path, elsewhere := filepath.Join(folder, "store.sqlite"), filepath.Join(t.TempDir(), "x.sqlite")
			must(t, os.Rename(path, elsewhere))
			must(t, os.Symlink(elsewhere, path))
		}, nil, reference.ErrDamaged, "file is damaged: "},
		{"folder in its place", func(t *testing.T, folder string) {
			path := filepath.Join(folder, "store.sqlite")
			must(t, os.Remove(path))
			must(t, os.Mkdir(path, 0o700))
		}, nil, reference.ErrDamaged, "account " + bob + ": store.sqlite: file is damaged: not a file"},
		{"unknown migration", run("INSERT INTO kysely_migration VALUES ('002', '')"),
			nil, reference.ErrUnknownEdition, "account " + bob + ": store.sqlite: edition is not known: migration"},
		{"table missing", run("DROP TABLE record"), nil, reference.ErrDamaged, "store of " + bob + ": file is damaged: it has no table record"},
		{"cut off", func(t *testing.T, folder string) {
			truncate(t, filepath.Join(folder, "store.sqlite"), 30000)
		}, nil, reference.ErrDamaged, "account " + bob + ": store.sqlite: file is damaged"},
		{"garbage in a page", func(t *testing.T, folder string) {
			overwrite(t, filepath.Join(folder, "store.sqlite"), 4*4096, strings.Repeat("x", 20*4096))
		}, blocks, reference.ErrDamaged, "store of " + bob + ", table repo_block: file is damaged"},
		{"no root", run("DELETE FROM repo_root"), root, reference.ErrDamaged, "store of " + bob + ": file is damaged: it has no root"},
		{"two roots", run("INSERT INTO repo_root VALUES ('did:plc:x', '', '', '')"),
			root, reference.ErrDamaged, "store of " + bob + ": file is damaged: it has several roots"},
		{"root of another", run("UPDATE repo_root SET did = 'did:plc:x'"),
			root, reference.ErrDamaged, "store of " + bob + ": file is damaged: its root is of did:plc:x"},
		{"content is text", run("UPDATE repo_block SET content = 'x' WHERE rowid = 12"),
			blocks, reference.ErrDamaged, "store of " + bob + ", table repo_block: row 12: file is damaged: column content: text where bytes belong"},
		{"size is text", run("UPDATE repo_block SET size = 'x' WHERE rowid = 12"),
			blocks, reference.ErrDamaged, "store of " + bob + ", table repo_block: row 12: file is damaged: column size: text where a number belongs"},
		{"column missing", run("DROP INDEX repo_block_repo_rev_idx", "ALTER TABLE repo_block DROP COLUMN repoRev"),
			blocks, reference.ErrDamaged, "store of " + bob + ", table repo_block: file is damaged: it has no column repoRev"},
		{"without sizes of pictures", run("ALTER TABLE blob DROP COLUMN width", "ALTER TABLE blob DROP COLUMN height"),
			func(s *reference.Store, t *testing.T) error { return failure(s.Blobs(t.Context())) }, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := referencetest.Unpack(t, referencetest.Stopped)
			s := open(t, dir)
			tt.change(t, storePath(t, dir, bob, ""))
			store, err := s.Store(t.Context(), bob)
			if err == nil {
				defer store.Close()
				if tt.read == nil {
					t.Fatal("it was opened")
				}
				err = tt.read(store, t)
			}
			if !errors.Is(err, tt.want) || !strings.HasPrefix(fmt.Sprint(err), tt.says) && err != nil {
				t.Errorf("got %v", err)
			}
			openStore(t, s, alice)
		})
	}
}

func TestKeyRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(t *testing.T, path string)
		says   string
	}{
		"none":     {func(t *testing.T, path string) { must(t, os.Remove(path)) }, "is missing"},
		"short":    {func(t *testing.T, path string) { truncate(t, path, 31) }, "is no key of 32 bytes"},
		"long":     {func(t *testing.T, path string) { truncate(t, path, 1<<40) }, "is no key of 32 bytes"},
		"folder":   {func(t *testing.T, path string) { must(t, errors.Join(os.Remove(path), os.Mkdir(path, 0o700))) }, "is no file"},
		"circular": {func(t *testing.T, path string) { must(t, errors.Join(os.Remove(path), os.Symlink(path, path))) }, "too many links"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := referencetest.Unpack(t, referencetest.Stopped)
			tt.change(t, storePath(t, dir, bob, "key"))
			if key, err := open(t, dir).Key(bob); !errors.Is(err, reference.ErrDamaged) || !strings.Contains(err.Error(), tt.says) || key != nil {
				t.Errorf("got %v", err)
			}
		})
	}
}

// What is among the stores and is no account's is told, and the others are found
// nevertheless.
func TestFolders(t *testing.T) {
	dir := referencetest.Unpack(t, referencetest.Stopped)
	s := open(t, dir)
	actors := filepath.Join(dir, "actors")
	must(t, os.Mkdir(filepath.Join(actors, "lost+found"), 0o700))
	must(t, os.WriteFile(filepath.Join(actors, ".DS_Store"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(actors, "aa"), nil, 0o600))
	must(t, os.Symlink(t.TempDir(), filepath.Join(actors, "bb")))
	must(t, os.Mkdir(filepath.Join(actors, "32", "note"), 0o700))
	must(t, os.Mkdir(filepath.Join(actors, "32", strings.ToUpper(alice)), 0o700))
	must(t, os.Mkdir(filepath.Join(actors, "32", alice), 0o700))
	must(t, os.WriteFile(filepath.Join(actors, "35", "did:plc:vvuwdnwgwzz2q7qgmhizqvfb"), nil, 0o600))
	moved := filepath.Join(t.TempDir(), "moved")
	must(t, os.Rename(storePath(t, dir, bob, ""), moved))
	must(t, os.Symlink(moved, filepath.Join(actors, "32", bob)))
	must(t, os.Rename(filepath.Join(actors, "42"), filepath.Join(actors, "reserved_keys", "x")))
	must(t, os.Symlink("reserved_keys/x", filepath.Join(actors, "42")))

	var found, wrong []string
	for name, err := range s.Folders(t.Context()) {
		switch {
		case err == nil:
			found = append(found, name)
		case errors.Is(err, reference.ErrDamaged):
			wrong = append(wrong, strings.ReplaceAll(err.Error(), actors, "…"))
		default:
			t.Fatal(err)
		}
	}
	if len(found) != 11 || !slices.Contains(found, ivan) || slices.Contains(found, bob) {
		t.Errorf("found %q", found)
	}
	for i, want := range []string{
		"…/.DS_Store is no folder of stores", "…/32/DID:PLC:", "…/32/" + alice + " is no folder of an account", "…/32/" + bob + " leads to " + moved,
		"…/32/note is no folder", "…/35/did:plc:", "…/aa is no folder", "…/bb leads to ", "…/lost+found is no folder of stores",
	} {
		if len(wrong) != 9 || !strings.HasPrefix(wrong[i], "file is damaged: "+want) {
			t.Errorf("%q, want %q", wrong, want)
			break
		}
	}
	if _, err := s.Store(t.Context(), bob); !errors.Is(err, reference.ErrDamaged) {
		t.Errorf("bob's store outside: %v", err)
	}
	openStore(t, s, ivan)
}

// The folder of the stores may be on another disk, and so may each database.
func TestLinkedRoots(t *testing.T) {
	dir := referencetest.Unpack(t, referencetest.Crashed)
	disk := t.TempDir()
	for _, name := range []string{"actors", "account.sqlite", "account.sqlite-wal", "sequencer.sqlite", "sequencer.sqlite-wal"} {
		must(t, os.Rename(filepath.Join(dir, name), filepath.Join(disk, name)))
		if !strings.HasSuffix(name, "-wal") {
			must(t, os.Symlink(filepath.Join(disk, name), filepath.Join(dir, name)))
		}
	}
	before := traces(t, disk)
	s := open(t, dir)
	if n := len(all(t, s.Events(t.Context(), 0))); n != 85 {
		t.Errorf("%d events", n)
	}
	if n := len(all(t, s.Folders(t.Context()))); n != 12 {
		t.Errorf("%d folders", n)
	}
	if root, err := openStore(t, s, alice).Root(t.Context()); err != nil || root.Rev != "3n3exfjz5xk2v" {
		t.Errorf("root %v, %v", root, err)
	}
	if after := traces(t, disk); len(after) != len(before) {
		t.Error("files appeared on the other disk")
	}
}

func TestNoActors(t *testing.T) {
	dir := referencetest.Unpack(t, referencetest.Stopped)
	s := open(t, dir)
	must(t, os.RemoveAll(filepath.Join(dir, "actors")))
	if err := failure(s.Folders(t.Context())); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
