package adopt

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"portico/db"
	"portico/impl/reference/referencetest"
)

// A folder is of one state of one directory; of another one nothing is gone on with.
func TestBegin(t *testing.T) {
	folder := t.TempDir()
	m := Mark{Source: "/pds", Fingerprint: "one", Began: made, Old: []string{"http://localhost:3000"}}
	if again, err := Begin(folder, m); err != nil || again != "" {
		t.Fatalf("the first time: %q, %v", again, err)
	}
	draft := filepath.Join(folder, "portico.sqlite.adopting")
	for _, tt := range []struct {
		name   string
		change func(*Mark)
		again  string
	}{
		{"the same", func(m *Mark) { m.Began = made.Add(time.Hour) }, ""},
		{"changed", func(m *Mark) { m.Fingerprint = "two" }, "/pds has changed since the adoption began 2026-11-28T14:53:22Z"},
		{"another", func(m *Mark) { m.Source = "/srv" }, "the adoption that began here was of /pds"},
	} {
		if err := os.WriteFile(draft, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		now := m
		tt.change(&now)
		again, err := Begin(folder, now)
		if err != nil || again != tt.again || db.HasDraft(folder) != (again == "") {
			t.Errorf("%s: %q, %v, draft %v", tt.name, again, err, db.HasDraft(folder))
		}
		got, done, err := ReadMark(folder)
		if err != nil || done || !got.same(now) {
			t.Errorf("%s: mark %+v, %v, %v", tt.name, got, done, err)
		}
		if again, err := Begin(folder, m); err != nil || again == "" && tt.again != "" {
			t.Fatalf("%s: back to the first: %q, %v", tt.name, again, err)
		}
	}
	if err := Settle(folder); err != nil {
		t.Fatal(err)
	}
	if _, done, err := ReadMark(folder); err != nil || !done {
		t.Errorf("settled: %v, %v", done, err)
	}
	if again, err := Begin(folder, m); err != nil || again != "the database that was adopted before is gone" {
		t.Errorf("without its database: %q, %v", again, err)
	}
	for range 2 {
		if err := Forget(folder); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := ReadMark(folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("forgotten: %v", err)
	}
}

// A draft of something else is not filled on.
func TestCheckDraft(t *testing.T) {
	d, err := db.Open(t.Context(), db.Config{Dir: t.TempDir(), Draft: true, Synchronous: "OFF"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	m := Mark{Source: "/pds", Fingerprint: "one"}
	for _, tt := range []struct {
		mark Mark
		want error
	}{{m, nil}, {Mark{Source: "/pds", Fingerprint: "one", Began: made}, nil}, {Mark{Source: "/pds", Fingerprint: "two"}, ErrChanged}} {
		err := d.Write(t.Context(), func(tx *db.Tx) error { return CheckDraft(t.Context(), tx, tt.mark) })
		if !errors.Is(err, tt.want) {
			t.Errorf("%+v: %v, want %v", tt.mark, err, tt.want)
		}
	}
}

// Copies that a process has left go; those of one that runs stay.
func TestScratch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "scratch")
	release, err := Scratch(path)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(path, "copy")
	if err := os.WriteFile(copied, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Scratch(path); !errors.Is(err, db.ErrLocked) {
		t.Errorf("beside another: %v", err)
	}
	if _, err := os.Stat(copied); err != nil {
		t.Errorf("the copy of the other: %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path, "left", "behind"), 0o700); err != nil {
		t.Fatal(err)
	}
	if release, err = Scratch(path); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(path); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
}

// Who has the backup of a source alone has all accounts and the keys of their DIDs.
func TestBackUp(t *testing.T) {
	for _, name := range []string{referencetest.Stopped, referencetest.Crashed} {
		a := begin(t, name, made)
		folder := filepath.Join(t.TempDir(), "before")
		if err := BackUp(t.Context(), a.Source, a.Layout, folder, t.TempDir(), "one"); err != nil {
			t.Fatal(err)
		}
		for file, from := range map[string]string{
			"account.sqlite": a.Layout.AccountDB, "account.sqlite-wal": a.Layout.AccountDB + "-wal", "pds.env": a.Layout.Settings,
		} {
			want, missing := os.ReadFile(from)
			got, err := os.ReadFile(filepath.Join(folder, file))
			if !bytes.Equal(got, want) || (err == nil) != (missing == nil) {
				t.Errorf("%s: %s has %d bytes, want %d, %v", name, file, len(got), len(want), err)
			}
		}
		number, err := os.ReadFile(filepath.Join(folder, "last-event"))
		if want := map[string]string{referencetest.Stopped: "88\n", referencetest.Crashed: "90\n"}[name]; err != nil || string(number) != want {
			t.Errorf("%s: last event %q, %v; want %q", name, number, err, want)
		}
		if _, err := os.Stat(filepath.Join(folder, "sequencer.sqlite")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: events are copied", name)
		}
		if diff := different(t, a.Layout.Actors, keysIn(t, filepath.Join(folder, "keys.tar"))); diff != "" {
			t.Errorf("%s: keys: %s", name, diff)
		}
	}
}

// A database that is on another disk has its log there. What a link among the keys leads to
// outside of their folder is nobody's key.
func TestBackUpOfLinks(t *testing.T) {
	a := begin(t, referencetest.Crashed, made)
	elsewhere := t.TempDir()
	for _, path := range []string{a.Layout.AccountDB, a.Layout.SequencerDB} {
		for _, suffix := range []string{"", "-wal"} {
			if err := os.Rename(path+suffix, filepath.Join(elsewhere, filepath.Base(path)+suffix)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(filepath.Join(elsewhere, filepath.Base(path)), path); err != nil {
			t.Fatal(err)
		}
	}
	keys, err := filepath.Glob(filepath.Join(a.Layout.Actors, "*", "*", "key"))
	if err != nil || len(keys) == 0 {
		t.Fatal(keys, err)
	}
	secret := filepath.Join(elsewhere, "secret")
	if err := errors.Join(os.WriteFile(secret, []byte("of somebody else"), 0o600), os.Remove(keys[0]), os.Symlink(secret, keys[0])); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(t.TempDir(), "before")
	if err := BackUp(t.Context(), a.Source, a.Layout, folder, t.TempDir(), "one"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"account.sqlite", "account.sqlite-wal"} {
		want, missing := os.ReadFile(filepath.Join(elsewhere, name))
		got, err := os.ReadFile(filepath.Join(folder, name))
		if err := errors.Join(missing, err); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s has %d bytes, want %d, %v", name, len(got), len(want), err)
		}
	}
	backedUp := keysIn(t, filepath.Join(folder, "keys.tar"))
	for name, content := range backedUp {
		if content == "of somebody else" {
			t.Errorf("%s is in the backup", name)
		}
	}
	if len(backedUp) < 10 {
		t.Errorf("%d keys are in the backup", len(backedUp))
	}
}

func keysIn(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	keys := map[string]string{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return keys
		}
		b, read := io.ReadAll(r)
		if err := errors.Join(err, read); err != nil {
			t.Fatal(err)
		}
		keys[h.Name] = string(b)
	}
}

// different says which files of keys below a folder are not among keys.
func different(t *testing.T, actors string, keys map[string]string) string {
	t.Helper()
	var wrong []string
	count := 0
	err := filepath.WalkDir(actors, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() != "key" && filepath.Base(filepath.Dir(path)) != "reserved_keys" {
			return err
		}
		count++
		b, err := os.ReadFile(path)
		name, rel := filepath.Rel(actors, path)
		if keys[filepath.ToSlash(name)] != string(b) {
			wrong = append(wrong, name)
		}
		return errors.Join(err, rel)
	})
	if err != nil {
		t.Fatal(err)
	}
	if count < 10 || count != len(keys) {
		wrong = append(wrong, "the number")
	}
	return strings.Join(wrong, ", ")
}

// A backup that is whole is not made again, and one that was cut off is; what is not a
// database is no backup.
func TestBackUpAgain(t *testing.T) {
	a := begin(t, referencetest.Stopped, made)
	folder := filepath.Join(t.TempDir(), "before")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := BackUp(ended, a.Source, a.Layout, folder, t.TempDir(), "one"); !errors.Is(err, context.Canceled) {
		t.Fatalf("cut off: %v", err)
	}
	for range 2 {
		if err := BackUp(t.Context(), a.Source, a.Layout, folder, t.TempDir(), "one"); err != nil {
			t.Fatal(err)
		}
		// The second time nothing is written.
		if err := os.Chmod(folder, 0o500); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.Layout.AccountDB, slices.Repeat([]byte("x"), 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := BackUp(t.Context(), a.Source, a.Layout, folder, t.TempDir(), "two"); err == nil {
		t.Error("backed up what is no database")
	}
	if _, err := os.Stat(filepath.Join(folder, forName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("counts as whole: %v", err)
	}
}
