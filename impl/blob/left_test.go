package blob_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/blob"
	"portico/impl/blob/blobtest"
	"portico/impl/repo/dagcbor"
)

const bob = syntax.DID("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")

func TestDiskOverAnother(t *testing.T) {
	blobtest.Run(t, func(t *testing.T, bounds blob.Bounds) blob.Store {
		d, _ := openDisk(t, bounds)
		if err := d.Over(t.TempDir()); err != nil {
			t.Fatal(err)
		}
		return d
	})
	d, _ := openDisk(t, blob.Bounds{})
	if err := d.Over(filepath.Join(t.TempDir(), "nowhere")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("over no folder: %v", err)
	}
}

func rawCID(text string) dagcbor.CID { return dagcbor.Sum(dagcbor.CodecRaw, []byte(text)) }

// What another server has left is read where it is; nothing is written there, and what was
// removed stays so.
func TestLeftBlobs(t *testing.T) {
	left := t.TempDir()
	for _, text := range []string{"kept", "gone", "hidden", "again"} {
		for _, did := range []syntax.DID{alice, bob} {
			leave(t, left, did.String()+"/"+rawCID(text).String(), text)
		}
	}
	before := tree(t, left)
	root := t.TempDir()
	ctx := t.Context()
	open := func() *blob.Disk {
		d, err := blob.OpenDisk(root, "", blob.Bounds{})
		if err == nil {
			err = d.Over(left)
		}
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	there := func(d *blob.Disk, did syntax.DID, text string, want bool) {
		t.Helper()
		r, f, err := d.Open(ctx, blob.PermanentName(did, rawCID(text)))
		stat, serr := d.Stat(ctx, blob.PermanentName(did, rawCID(text)))
		if !want {
			if !errors.Is(err, blob.ErrNotFound) || !errors.Is(serr, blob.ErrNotFound) {
				t.Errorf("%s of %s: %v, %v", text, did, err, serr)
			}
			return
		}
		check(errors.Join(err, serr))
		b, err := io.ReadAll(r)
		check(errors.Join(err, r.Close()))
		if string(b) != text || f != stat || f.Size != int64(len(text)) {
			t.Errorf("%s of %s is %q, %+v, %+v", text, did, b, f, stat)
		}
	}
	d := open()
	there(d, alice, "kept", true)
	there(d, alice, "never", false)

	d.OnStep(func(step, _ string) error {
		if step == "create" {
			return syscall.ENOSPC
		}
		return nil
	})
	if err := d.Remove(ctx, blob.PermanentName(alice, rawCID("gone"))); !errors.Is(err, blob.ErrFull) {
		t.Errorf("removed on a full disk: %v", err)
	}
	d = open()
	there(d, alice, "gone", true)
	for range 2 {
		check(d.Remove(ctx, blob.PermanentName(alice, rawCID("gone"))))
		check(d.Quarantine(ctx, alice, rawCID("hidden")))
	}
	for _, d := range []*blob.Disk{d, open()} {
		there(d, alice, "gone", false)
		there(d, alice, "hidden", false)
		there(d, bob, "gone", true)
	}
	check(d.Restore(ctx, alice, rawCID("hidden")))
	there(d, alice, "hidden", true)
	check(d.Remove(ctx, blob.PermanentName(alice, rawCID("hidden"))))
	there(d, alice, "hidden", false)

	// Uploaded anew, over one that is left and over one that was removed.
	for _, text := range []string{"again", "gone"} {
		up, err := d.Upload(ctx, alice, strings.NewReader(text), 100, "a/b")
		check(err)
		check(d.MakePermanent(ctx, alice, up.Key, up.CID))
		there(d, alice, text, true)
		check(d.Remove(ctx, blob.PermanentName(alice, up.CID)))
		check(d.Remove(ctx, blob.TemporaryName(alice, up.Key)))
		there(open(), alice, text, false)
	}
	for f, err := range d.Files(ctx, "") {
		t.Errorf("files: %v, %v", f, err)
	}

	// A backup has copies.
	backup, _ := openDisk(t, blob.Bounds{})
	missing, err := backup.Take(ctx, d, alice, []blob.Want{{CID: rawCID("kept"), Size: 4}, {CID: rawCID("gone"), Size: 4}})
	check(err)
	if len(missing) != 1 || missing[0].CID != rawCID("gone") {
		t.Errorf("a backup misses %v", missing)
	}
	there(backup, alice, "kept", true)

	check(d.RemoveAccount(ctx, alice))
	for _, d := range []*blob.Disk{d, open()} {
		for _, text := range []string{"kept", "gone", "hidden", "again"} {
			there(d, alice, text, false)
		}
		there(d, bob, "kept", true)
	}
	if after := tree(t, left); after != before {
		t.Errorf("what was left has changed:\n%s\n%s", before, after)
	}
}

// tree is what is in a folder: names, bytes, times, and how many names a file has.
func tree(t *testing.T, root string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		all.WriteString(strings.Join([]string{path, string(b), info.ModTime().String(), info.Mode().String()}, " "))
		if info.Sys().(*syscall.Stat_t).Nlink != 1 {
			all.WriteString(" has links")
		}
		all.WriteString("\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// Copies are taken from folders that are only read, whichever of them there are; what is
// not what its name says is not taken.
func TestTakeCopies(t *testing.T) {
	from := t.TempDir()
	leave(t, from, "blocks/"+alice.String()+"/"+rawCID("kept").String(), "kept")
	leave(t, from, "blocks/"+alice.String()+"/"+rawCID("spoilt").String(), "spilot")
	leave(t, from, "away/"+alice.String()+"/"+rawCID("hidden").String(), "hidden")
	before := tree(t, from)
	source := blob.FoldersToRead(filepath.Join(from, "blocks"), "", filepath.Join(from, "away"))
	to, root := openDisk(t, blob.Bounds{})
	want := func(text string) blob.Want { return blob.Want{CID: rawCID(text), Size: int64(len(text))} }
	uploaded := want("waits")
	uploaded.Key = strings.Repeat("a", 52)
	for range 2 {
		missing, err := to.TakeCopies(t.Context(), source, alice, []blob.Want{want("kept"), want("spoilt"), want("hidden"), uploaded})
		if err != nil || len(missing) != 2 || missing[0] != want("spoilt") || missing[1] != uploaded {
			t.Errorf("missing: %v, %v", missing, err)
		}
	}
	var got []string
	for f, err := range to.Files(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, f.Name.String())
	}
	if len(got) != 2 {
		t.Errorf("taken: %v", got)
	}
	if b, err := os.ReadFile(filepath.Join(root, "quarantine", alice.String(), rawCID("hidden").String())); err != nil || string(b) != "hidden" {
		t.Errorf("hidden: %q, %v", b, err)
	}
	n := 0
	for f, err := range source.Files(t.Context(), "") {
		if n++; err != nil || f.Name.Area == blob.Temporary {
			t.Errorf("file %v, %v", f, err)
		}
	}
	if after := tree(t, from); n != 3 || after != before {
		t.Errorf("%d files; were\n%sare\n%s", n, before, after)
	}
}

// A name that leads elsewhere, or to another program, is no blob: what is behind it stays
// there.
func TestLeftLinks(t *testing.T) {
	left, secret := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("of somebody else"), 0o600); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(left, alice.String())
	link, pipe := rawCID("link"), rawCID("pipe")
	for _, err := range []error{
		os.Mkdir(folder, 0o700), os.Symlink(secret, filepath.Join(folder, link.String())), syscall.Mkfifo(filepath.Join(folder, pipe.String()), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	d, err := blob.OpenDisk(t.TempDir(), "", blob.Bounds{})
	if err == nil {
		err = d.Over(left)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, cid := range []dagcbor.CID{link, pipe} {
		if r, _, err := d.Open(t.Context(), blob.PermanentName(alice, cid)); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("%v was opened: %v", r, err)
		}
	}
}
