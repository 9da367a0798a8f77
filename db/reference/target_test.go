package reference_test

import (
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"portico/db/reference"
	"portico/impl/reference/referencetest"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put hands the rows of a sequence on, some at a time.
func put[T any](t *testing.T, seq iter.Seq2[T, error], insert func(rows ...T) error) {
	t.Helper()
	rows := all(t, seq)
	for len(rows) > 0 {
		n := min(7, len(rows))
		check(t, insert(rows[:n]...))
		rows = rows[n:]
	}
}

// copyDirectory writes all rows and keys of a directory to another one.
func copyDirectory(t *testing.T, from *reference.Source, to *reference.Target) {
	t.Helper()
	ctx := t.Context()
	put(t, from.Actors(ctx), func(rows ...reference.Actor) error { return reference.InsertAccounts(ctx, to, rows...) })
	put(t, from.AppPasswords(ctx), func(rows ...reference.AppPassword) error { return reference.InsertAccounts(ctx, to, rows...) })
	put(t, from.RefreshTokens(ctx), func(rows ...reference.RefreshToken) error { return reference.InsertAccounts(ctx, to, rows...) })
	put(t, from.InviteCodes(ctx), func(rows ...reference.InviteCode) error { return reference.InsertAccounts(ctx, to, rows...) })
	put(t, from.InviteCodeUses(ctx), func(rows ...reference.InviteCodeUse) error { return reference.InsertAccounts(ctx, to, rows...) })
	put(t, from.Events(ctx, 0), func(rows ...reference.Event) error { return to.InsertEvents(ctx, rows...) })
	last, _, err := from.LastEvent(ctx)
	check(t, err)
	check(t, to.SetLastEvent(ctx, last))
	reserved, err := from.ReservedKeys()
	check(t, err)
	for _, k := range reserved {
		check(t, to.ReserveKey(k))
	}
	for did, err := range from.Folders(ctx) {
		check(t, err)
		copyStore(t, from, to, did)
	}
}

func copyStore(t *testing.T, from *reference.Source, to *reference.Target, did string) {
	t.Helper()
	ctx := t.Context()
	key, err := from.Key(did)
	check(t, err)
	store := openStore(t, from, did)
	root, err := store.Root(ctx)
	check(t, err)
	check(t, to.Store(ctx, did, key, func(s *reference.StoreTarget) error {
		check(t, reference.InsertRows(ctx, s, *root))
		put(t, store.Blocks(ctx), func(rows ...reference.Block) error { return reference.InsertRows(ctx, s, rows...) })
		put(t, store.Records(ctx), func(rows ...reference.Record) error { return reference.InsertRows(ctx, s, rows...) })
		put(t, store.Blobs(ctx), func(rows ...reference.Blob) error { return reference.InsertRows(ctx, s, rows...) })
		put(t, store.RecordBlobs(ctx), func(rows ...reference.RecordBlob) error { return reference.InsertRows(ctx, s, rows...) })
		put(t, store.Preferences(ctx), func(rows ...reference.Preference) error { return reference.InsertRows(ctx, s, rows...) })
		return nil
	}))
}

// What is read from a directory and written to another one has the same schema and rows
// there, but for the tables that are not read.
func TestTarget(t *testing.T) {
	source := referencetest.Unpack(t, referencetest.Stopped)
	folder := filepath.Join(t.TempDir(), "back")
	target, err := reference.Create(t.Context(), folder, time.Date(2026, 11, 29, 12, 0, 0, 123e6, time.UTC))
	check(t, err)
	copyDirectory(t, open(t, source), target)
	check(t, target.WriteSettings([]byte("PDS_HOSTNAME=pds.adopt.test\n")))
	if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is there before its end: %v", err)
	}
	check(t, target.Finish(t.Context()))

	want, got := referencetest.Tables(t, source), referencetest.Tables(t, folder)
	for table := range want {
		_, name, _ := strings.Cut(table, " ")
		switch name {
		case "kysely_migration":
			for i, row := range got[table] {
				name, at, _ := strings.Cut(row, " ")
				if before, _, _ := strings.Cut(want[table][i], " "); name != before || at != "timestamp=2026-11-29T12:00:00.123Z" {
					t.Errorf("%s has %s", table, row)
				}
			}
			delete(want, table)
			delete(got, table)
		case "email_token", "device", "account_device", "token", "authorized_client", "used_refresh_token", "authorization_request", "lexicon", "repo_root", "backlink":
			if table != "account repo_root" && name == "repo_root" {
				continue // of a store
			}
			if len(got[table]) != 0 {
				t.Errorf("%s has rows", table)
			}
			delete(want, table)
			delete(got, table)
		}
	}
	delete(want, "account sqlite_sequence") // of token
	delete(got, "account sqlite_sequence")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
	modesAndKeys(t, source, folder)
	if _, err := os.Stat(folder + ".unfinished"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the draft is there still: %v", err)
	}
	for _, name := range []string{folder, filepath.Dir(folder)} {
		if _, err := reference.Create(t.Context(), name, time.Now()); !errors.Is(err, fs.ErrExist) {
			t.Errorf("a directory in the place of another: %v", err)
		}
	}
}

// modesAndKeys checks that all is for the owner alone, and keys are what they were.
func modesAndKeys(t *testing.T, source, folder string) {
	t.Helper()
	check(t, filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		check(t, err)
		info, err := e.Info()
		check(t, err)
		if mode := info.Mode().Perm(); mode != 0o600 && !(e.IsDir() && mode == 0o700) {
			t.Errorf("%s has mode %o", path, mode)
		}
		switch name := filepath.Base(path); {
		case strings.HasSuffix(name, "-wal"), strings.HasSuffix(name, "-shm"), strings.HasSuffix(name, "-journal"):
			t.Errorf("%s was left", path)
		case strings.HasSuffix(name, ".sqlite"):
			head, err := os.ReadFile(path)
			check(t, err)
			if head[18] != 2 || head[19] != 2 {
				t.Errorf("%s keeps no log", path)
			}
		}
		return nil
	}))
	keys := 0
	check(t, filepath.WalkDir(filepath.Join(source, "actors"), func(path string, e fs.DirEntry, err error) error {
		check(t, err)
		if e.Name() != "key" && filepath.Base(filepath.Dir(path)) != "reserved_keys" {
			return nil
		}
		keys++
		want, err := os.ReadFile(path)
		check(t, err)
		name, err := filepath.Rel(source, path)
		check(t, err)
		got, err := os.ReadFile(filepath.Join(folder, name))
		check(t, err)
		if string(got) != string(want) {
			t.Errorf("%s is another key", name)
		}
		return nil
	}))
	if keys != 14 {
		t.Errorf("%d keys", keys)
	}
}

// A directory that is given up is not there afterwards, and its draft is not written over.
func TestTargetGivenUp(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "back")
	target, err := reference.Create(t.Context(), folder, time.Now())
	check(t, err)
	for _, did := range []string{"", ".", "..", "../x", "did:plc:a/b", "/x"} {
		err := target.Store(t.Context(), did, make([]byte, 32), func(*reference.StoreTarget) error { return nil })
		if !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("store of %q: %v", did, err)
		}
		if err := target.ReserveKey(reference.ReservedKey{Name: did}); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("key of %q: %v", did, err)
		}
	}
	failed := errors.New("failed")
	if err := target.Store(t.Context(), alice, make([]byte, 32), func(*reference.StoreTarget) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("store: %v", err)
	}
	check(t, target.SetLastEvent(t.Context(), 7)) // where there is no event
	if _, err := reference.Create(t.Context(), folder, time.Now()); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over the draft: %v", err)
	}
	check(t, target.Close())
	for _, name := range []string{folder, folder + ".unfinished"} {
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there: %v", name, err)
		}
	}
}
