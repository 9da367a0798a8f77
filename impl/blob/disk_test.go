package blob_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-cmp/cmp"

	"portico/impl/blob"
	"portico/impl/blob/blobtest"
	"portico/impl/repo/dagcbor"
)

const alice = blobtest.Alice

func openDisk(t testing.TB, bounds blob.Bounds) (d *blob.Disk, root string) {
	t.Helper()
	root = t.TempDir()
	d, err := blob.OpenDisk(root, "", bounds)
	if err != nil {
		t.Fatal(err)
	}
	return d, root
}

func TestDisk(t *testing.T) {
	blobtest.Run(t, func(t *testing.T, bounds blob.Bounds) blob.Store {
		d, _ := openDisk(t, bounds)
		return d
	})
}

// Where folders are on different file systems, or theirs has no links, blobs are copied.
func TestDiskWithoutLinks(t *testing.T) {
	open := func(t *testing.T, bounds blob.Bounds, errno syscall.Errno) *blob.Disk {
		d, err := blob.OpenDisk(t.TempDir(), t.TempDir(), bounds)
		if err != nil {
			t.Fatal(err)
		}
		d.OnStep(func(step, path string) error {
			if step == "link" {
				return &os.LinkError{Op: "link", New: path, Err: errno}
			}
			return nil
		})
		return d
	}
	blobtest.Run(t, func(t *testing.T, bounds blob.Bounds) blob.Store { return open(t, bounds, syscall.EXDEV) })
	for _, errno := range []syscall.Errno{syscall.EPERM, syscall.EMLINK, syscall.ENOTSUP} {
		d := open(t, blob.Bounds{}, errno)
		up, err := d.Upload(t.Context(), alice, strings.NewReader("copied"), 100, "a/b")
		if err == nil {
			err = d.MakePermanent(t.Context(), alice, up.Key, up.CID)
		}
		if err != nil {
			t.Errorf("%v: %v", errno, err)
		}
	}
}

// The folders are those of the reference (contract/adoption.md §1), read and written.
func TestDiskHasTheReferencesFolders(t *testing.T) {
	d, root := openDisk(t, blob.Bounds{})
	up, err := d.Upload(t.Context(), alice, strings.NewReader("kept"), 100, "a/b")
	if err != nil {
		t.Fatal(err)
	}
	kept := up.CID.String()
	if err := d.MakePermanent(t.Context(), alice, up.Key, up.CID); err != nil {
		t.Fatal(err)
	}
	left := map[string]string{ // by the reference
		"did:plc:bbbbbbbbbbbbbbbbbbbbbbbb/" + kept:                                                           "kept",
		"tempt/did:plc:bbbbbbbbbbbbbbbbbbbbbbbb/abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrst":        "waits",
		"quarantine/did:plc:bbbbbbbbbbbbbbbbbbbbbbbb/" + dagcbor.Sum(dagcbor.CodecRaw, []byte("x")).String(): "x",
		"did:plc:bbbbbbbbbbbbbbbbbbbbbbbb/README":                                                            "not ours",
		"lost+found/x": "not ours",
		"a file":       "not ours",
	}
	for path, body := range left {
		leave(t, root, path, body)
	}
	for path, body := range map[string]string{
		"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/" + kept:         "kept",
		"tempt/did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/" + up.Key: "kept",
	} {
		got, err := os.ReadFile(filepath.Join(root, path))
		if err != nil || string(got) != body {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	var got []string
	for f, err := range d.Files(t.Context(), "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, f.Name.String())
	}
	slices.Sort(got)
	want := []string{
		"permanent did:plc:bbbbbbbbbbbbbbbbbbbbbbbb/" + kept,
		"quarantine did:plc:bbbbbbbbbbbbbbbbbbbbbbbb/" + dagcbor.Sum(dagcbor.CodecRaw, []byte("x")).String(),
		"temporary did:plc:bbbbbbbbbbbbbbbbbbbbbbbb/abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrst",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if err := d.MakePermanent(t.Context(), "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb", "abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrst", dagcbor.Sum(dagcbor.CodecRaw, []byte("waits"))); err != nil {
		t.Error(err)
	}
}

// leave puts a file into a folder.
func leave(t *testing.T, root, path, body string) {
	t.Helper()
	path = filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A permanent file that the reference left half, in a crash, is made whole by the next
// upload of the blob.
func TestDiskMendsHalfAFile(t *testing.T) {
	d, root := openDisk(t, blob.Bounds{})
	up, err := d.Upload(t.Context(), alice, strings.NewReader("whole"), 100, "a/b")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, alice.String(), up.CID.String())
	leave(t, root, alice.String()+"/"+up.CID.String(), "who")
	if err := d.MakePermanent(t.Context(), alice, up.Key, up.CID); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "whole" {
		t.Errorf("%q, %v", got, err)
	}
}

// Before a method returns, its bytes are synced, then their name; before a name is used,
// the folder's own.
func TestDiskSyncsBeforeItAnswers(t *testing.T) {
	d, root := openDisk(t, blob.Bounds{})
	var steps []string
	d.OnStep(func(step, path string) error {
		path, _ = filepath.Rel(root, path)
		for i, part := range strings.Split(path, "/") {
			switch {
			case i == 0:
				path = part
			case len(part) == 52:
				path += "/KEY"
			case len(part) == 59:
				path += "/CID"
			default:
				path += "/DID"
			}
		}
		path = strings.ReplaceAll(path, alice.String(), "DID")
		steps = append(steps, step+" "+path)
		return nil
	})
	expect := func(what string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, steps); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		steps = nil
	}
	up, err := d.Upload(t.Context(), alice, strings.NewReader("durable"), 100, "a/b")
	if err != nil {
		t.Fatal(err)
	}
	expect("first upload", "mkdir tempt/DID", "sync folder tempt", "create tempt/DID/KEY", "write tempt/DID/KEY", "sync tempt/DID/KEY", "sync folder tempt/DID")
	for _, what := range []string{"first", "again"} {
		if err := d.MakePermanent(t.Context(), alice, up.Key, up.CID); err != nil {
			t.Fatal(err)
		}
		if what == "first" {
			expect("make permanent", "mkdir DID", "sync folder .", "link DID/CID", "sync folder DID")
		} else { // somebody else's link may not be durable yet
			expect("make permanent again", "link DID/CID", "sync folder DID")
		}
	}
	if err := d.Put(t.Context(), alice, up.CID, strings.NewReader("durable"), 7); err != nil {
		t.Fatal(err)
	}
	expect("put", "mkdir partial/DID", "sync folder partial", "create partial/DID/KEY", "write partial/DID/KEY", "sync partial/DID/KEY", "sync folder partial/DID", "rename DID/CID", "sync folder DID")
	if err := d.Quarantine(t.Context(), alice, up.CID); err != nil {
		t.Fatal(err)
	}
	expect("quarantine", "mkdir quarantine/DID", "sync folder quarantine", "link quarantine/DID/CID", "sync folder quarantine/DID", "remove DID/CID")
}

// A story has every kind of change in it. Rows are lines of a file: "AREA DID KEY CID",
// written once the store has answered, and "-" before a line that is gone.
func story(d *blob.Disk, rows io.Writer) error {
	ctx := context.Background()
	body := strings.Repeat("a blob of several writes ", 10000)
	up, err := d.Upload(ctx, alice, strings.NewReader(body), 1<<20, "a/b")
	if err != nil {
		return err
	}
	fmt.Fprintln(rows, "temporary", alice, up.Key, up.CID)
	if err := d.MakePermanent(ctx, alice, up.Key, up.CID); err != nil {
		return err
	}
	fmt.Fprintln(rows, "permanent", alice, up.CID, up.CID)
	fmt.Fprintln(rows, "-temporary", alice, up.Key, up.CID)
	if err := d.Remove(ctx, blob.TemporaryName(alice, up.Key)); err != nil {
		return err
	}
	fmt.Fprintln(rows, "-permanent", alice, up.CID, up.CID) // taken down: in either place
	if err := d.Quarantine(ctx, alice, up.CID); err != nil {
		return err
	}
	fmt.Fprintln(rows, "quarantine", alice, up.CID, up.CID)
	fmt.Fprintln(rows, "-quarantine", alice, up.CID, up.CID)
	if err := d.Restore(ctx, alice, up.CID); err != nil {
		return err
	}
	fmt.Fprintln(rows, "permanent", alice, up.CID, up.CID)
	if err := d.Put(ctx, blobtest.Bob, up.CID, strings.NewReader(body), int64(len(body))); err != nil {
		return err
	}
	fmt.Fprintln(rows, "permanent", blobtest.Bob, up.CID, up.CID)
	if err := d.Put(ctx, blobtest.Bob, up.CID, strings.NewReader(body), int64(len(body))); err != nil {
		return err
	}
	fmt.Fprintln(rows, "-permanent", alice, up.CID, up.CID)
	return d.RemoveAccount(ctx, alice)
}

// check holds the files in root against the rows, then has the cleaner run.
func check(t *testing.T, root, rows string) {
	t.Helper()
	d, err := blob.OpenDisk(root, "", blob.Bounds{})
	if err != nil {
		t.Fatal(err)
	}
	named := make(map[string]dagcbor.CID)
	data, err := os.ReadFile(rows)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		key := strings.TrimPrefix(f[0], "-") + " " + f[1] + "/" + f[2]
		if delete(named, key); !strings.HasPrefix(f[0], "-") {
			named[key], err = dagcbor.ParseCID(f[3])
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	found := make(map[string]bool)
	for f, err := range d.Files(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		found[f.Name.String()] = true
		r, _, err := d.Open(t.Context(), f.Name)
		if err != nil {
			t.Fatal(err)
		}
		cid, _, err := blob.Sum(r)
		r.Close()
		if err != nil {
			t.Fatal(err)
		}
		switch whole, ok := named[f.Name.String()]; {
		case ok && cid != whole:
			t.Errorf("%s has other bytes", f.Name)
		case (f.Name.Area == blob.Permanent || f.Name.Area == blob.Quarantine) && cid.String() != f.Name.Key:
			t.Errorf("half a file: %s", f.Name)
		}
	}
	for name := range named {
		if !found[name] {
			t.Errorf("a row without bytes: %s", name)
		}
	}
	cleaner := &blob.Cleaner{Store: d, Rows: fixedRows(named), Now: func() time.Time { return time.Now().Add(2 * time.Hour) }}
	if _, err := cleaner.Run(t.Context()); err != nil {
		t.Errorf("clean: %v", err)
	}
	left := make(map[string]dagcbor.CID)
	for f, err := range d.Files(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		left[f.Name.String()] = named[f.Name.String()]
	}
	if diff := cmp.Diff(named, left); diff != "" {
		t.Errorf("after the cleaner (-rows +files):\n%s", diff)
	}
}

// fixedRows are rows that do not change: by the texts of their files' names.
type fixedRows map[string]dagcbor.CID

func (r fixedRows) Expire(context.Context, time.Time, int) ([]blob.Name, error) { return nil, nil }

func (r fixedRows) Unnamed(_ context.Context, names []blob.Name) ([]blob.Name, error) {
	return slices.DeleteFunc(slices.Clone(names), func(n blob.Name) bool { _, ok := r[n.String()]; return ok }), nil
}

func (r fixedRows) Claim(_ context.Context, did syntax.DID, cid dagcbor.CID) (bool, error) {
	for _, n := range []blob.Name{blob.PermanentName(did, cid), blob.QuarantineName(did, cid)} {
		if _, ok := r[n.String()]; ok {
			return false, nil
		}
	}
	return true, nil
}

func (r fixedRows) Release(context.Context, syntax.DID, dagcbor.CID) error { return nil }

// Killed at any step, the store leaves spare files, never a row without bytes and never
// half a permanent blob.
func TestDiskKilledAtEveryStep(t *testing.T) {
	if at := os.Getenv("BLOB_KILLED_AT"); at != "" {
		killed(at)
	}
	for _, links := range []string{"links", "copies"} {
		t.Run(links, func(t *testing.T) {
			t.Parallel()
			for at := 1; ; at++ {
				root, rows := t.TempDir(), filepath.Join(t.TempDir(), "rows")
				child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDiskKilledAtEveryStep$")
				child.Env = append(os.Environ(), "BLOB_KILLED_AT="+strconv.Itoa(at), "BLOB_ROOT="+root, "BLOB_ROWS="+rows, "BLOB_LINKS="+links)
				out, err := child.CombinedOutput()
				check(t, root, rows)
				var exit *exec.ExitError
				switch {
				case err == nil:
					if at < 25 {
						t.Errorf("the story has only %d steps", at-1)
					}
					return
				case !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL:
					t.Fatalf("step %d: %v\n%s", at, err, out)
				}
			}
		})
	}
}

// killed is the process that ends at a step.
func killed(at string) {
	rows, err := os.OpenFile(os.Getenv("BLOB_ROWS"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err == nil {
		var d *blob.Disk
		if d, err = blob.OpenDisk(os.Getenv("BLOB_ROOT"), "", blob.Bounds{}); err == nil {
			n := 0
			d.OnStep(func(step, _ string) error {
				if n++; strconv.Itoa(n) == at {
					syscall.Kill(os.Getpid(), syscall.SIGKILL)
					select {}
				}
				if step == "link" && os.Getenv("BLOB_LINKS") == "copies" {
					return syscall.EXDEV
				}
				return nil
			})
			err = story(d, rows)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// A disk that is full at any step is ErrFull, and whatever was begun is gone again.
func TestDiskFullAtEveryStep(t *testing.T) {
	for _, links := range []string{"links", "copies"} {
		t.Run(links, func(t *testing.T) {
			t.Parallel()
			for at := 1; ; at++ {
				root, path := t.TempDir(), filepath.Join(t.TempDir(), "rows")
				d, err := blob.OpenDisk(root, "", blob.Bounds{})
				if err != nil {
					t.Fatal(err)
				}
				n, failed := 0, ""
				d.OnStep(func(step, path string) error {
					if step == "remove" { // takes no space
						return nil
					}
					if n++; n == at {
						failed = step + " " + path
						return &fs.PathError{Op: step, Path: path, Err: syscall.ENOSPC}
					}
					if step == "link" && links == "copies" {
						return syscall.EXDEV
					}
					return nil
				})
				rows, err := os.Create(path)
				if err != nil {
					t.Fatal(err)
				}
				err = story(d, rows)
				rows.Close()
				if failed == "" {
					break
				}
				if !errors.Is(err, blob.ErrFull) || !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("%s: %v; want ErrFull", failed, err)
				}
				for f, err := range d.Files(t.Context(), "") {
					if err != nil {
						t.Fatal(err)
					}
					if f.Size != 250000 || f.Name.Area == blob.Partial {
						t.Errorf("%s: left behind %s, %d bytes", failed, f.Name, f.Size)
					}
				}
				check(t, root, path)
			}
		})
	}
}

// Ten thousand uploads that are cut off leave neither files nor descriptors.
func TestDiskTenThousandCutOff(t *testing.T) {
	d, root := openDisk(t, blob.Bounds{})
	gone := errors.New("gone")
	for i := range 10000 {
		r := io.MultiReader(strings.NewReader(strings.Repeat("x", i)), iotest.ErrReader(gone))
		if _, err := d.Upload(t.Context(), alice, r, 1<<20, "a/b"); !errors.Is(err, gone) {
			t.Fatal(err)
		}
	}
	left := 0
	err := filepath.WalkDir(root, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			left++
		}
		return err
	})
	if err != nil || left != 0 {
		t.Errorf("%d files are left, %v", left, err)
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err == nil && len(open) > 500 {
		t.Errorf("%d open files", len(open))
	}
}
