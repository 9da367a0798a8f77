// Package blobtest has what every store of blobs must do, and an S3 server inside a test.
package blobtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-cmp/cmp"

	"portico/impl/blob"
	"portico/impl/repo/dagcbor"
)

// Accounts that blobs in tests belong to.
const (
	Alice syntax.DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
	Bob   syntax.DID = "did:web:bob.example.com%3A8443"
)

const limit = 1 << 20

// Run tests a store. Each call of open gives an empty one.
func Run(t *testing.T, open func(t *testing.T, bounds blob.Bounds) blob.Store) {
	for _, tt := range []struct {
		name string
		test func(*testing.T, blob.Store)
	}{
		{"an upload is temporary, then permanent", testLife},
		{"sizes around those of buffers and parts", testSizes},
		{"an upload that ends early leaves nothing", testCutOff},
		{"an upload is measured while it is read", testLimit},
		{"making permanent again changes nothing", testAgain},
		{"accounts share nothing", testAccounts},
		{"a takedown moves there and back", testQuarantine},
		{"bytes are put under their CID alone", testPut},
		{"removing", testRemove},
		{"an account's files go with it", testRemoveAccount},
		{"all files are given", testFiles},
		{"names lead nowhere else", testNames},
		{"the same blob from many sides at once", testAtOnce},
		{"the context ends a method", testContext},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, open(t, blob.Bounds{})) })
	}
	t.Run("what uploads under way take is bounded", func(t *testing.T) {
		testBounds(t, open(t, blob.Bounds{Bytes: 1000, PerAccount: 2}))
	})
}

func cidOf(t testing.TB, s string) dagcbor.CID {
	t.Helper()
	c, err := dagcbor.ParseCID(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func upload(t testing.TB, s blob.Store, did syntax.DID, body string) blob.Upload {
	t.Helper()
	up, err := s.Upload(t.Context(), did, strings.NewReader(body), limit, "text/plain; charset=utf-8")
	if err != nil {
		t.Fatalf("upload: %v", err)
	}
	return up
}

func permanent(t testing.TB, s blob.Store, did syntax.DID, body string) dagcbor.CID {
	t.Helper()
	up := upload(t, s, did, body)
	if err := s.MakePermanent(t.Context(), did, up.Key, up.CID); err != nil {
		t.Fatalf("make permanent: %v", err)
	}
	if err := s.Remove(t.Context(), blob.TemporaryName(did, up.Key)); err != nil {
		t.Fatalf("remove the temporary one: %v", err)
	}
	return up.CID
}

// wantNothing checks that there is nothing under a name.
func wantNothing(t testing.TB, s blob.Store, name blob.Name) {
	t.Helper()
	_, _, err := s.Open(t.Context(), name)
	_, serr := s.Stat(t.Context(), name)
	if !errors.Is(err, blob.ErrNotFound) || !errors.Is(serr, blob.ErrNotFound) {
		t.Errorf("%s: Open %v, Stat %v; want ErrNotFound", name, err, serr)
	}
}

// want checks what is under a name.
func want(t testing.TB, s blob.Store, name blob.Name, body string) {
	t.Helper()
	r, f, err := s.Open(t.Context(), name)
	st, serr := s.Stat(t.Context(), name)
	if err != nil || serr != nil {
		t.Fatalf("%s: Open %v, Stat %v", name, err, serr)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%s: read: %v", name, err)
	}
	if string(got) != body {
		t.Errorf("%s: %d bytes %.20q, want %d bytes %.20q", name, len(got), got, len(body), body)
	}
	if f.Name != name || f.Size != int64(len(body)) || st.Name != name || st.Size != f.Size {
		t.Errorf("%s: Open says %+v, Stat %+v", name, f, st)
	}
	if age := time.Since(f.Modified); age < -time.Hour || age > time.Hour {
		t.Errorf("%s: modified %v", name, f.Modified)
	}
}

// files are the names of all files, as texts, in order.
func files(t testing.TB, s blob.Store, did syntax.DID) []string {
	t.Helper()
	got := []string{}
	for f, err := range s.Files(t.Context(), did) {
		if err != nil {
			t.Fatalf("files: %v", err)
		}
		got = append(got, fmt.Sprintf("%s %d", f.Name, f.Size))
	}
	slices.Sort(got)
	return got
}

func wantFiles(t testing.TB, s blob.Store, did syntax.DID, want ...string) {
	t.Helper()
	slices.Sort(want)
	if diff := cmp.Diff(append([]string{}, want...), files(t, s, did)); diff != "" {
		t.Errorf("files of %q (-want +got):\n%s", did, diff)
	}
}

func testLife(t *testing.T, s blob.Store) {
	up := upload(t, s, Alice, "hello world")
	hello := cidOf(t, "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e")
	if up.CID != hello || up.Size != 11 || up.Type != "text/plain" || len(up.Key) != 52 {
		t.Errorf("upload: %+v", up)
	}
	temporary, kept := blob.TemporaryName(Alice, up.Key), blob.PermanentName(Alice, hello)
	want(t, s, temporary, "hello world")
	wantNothing(t, s, kept)
	if err := s.MakePermanent(t.Context(), Alice, up.Key, hello); err != nil {
		t.Fatal(err)
	}
	want(t, s, temporary, "hello world")
	want(t, s, kept, "hello world")
	if err := s.Remove(t.Context(), temporary); err != nil {
		t.Fatal(err)
	}
	wantNothing(t, s, temporary)
	want(t, s, kept, "hello world")
	wantFiles(t, s, "", "permanent did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e 11")
	png, err := s.Upload(t.Context(), Alice, strings.NewReader("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"), limit, "text/plain")
	if err != nil || png.Type != "image/png" {
		t.Errorf("PNG declared as text: %+v, %v", png, err)
	}
}

func testSizes(t *testing.T, s blob.Store) {
	for _, size := range []int{0, 1, 4095, 4096, 4097, 65535, 65536, 65537, 1 << 20, 17<<20 + 1} {
		body := make([]byte, size)
		rand.Read(body)
		wantCID := dagcbor.Sum(dagcbor.CodecRaw, body)
		up, err := s.Upload(t.Context(), Alice, iotest.DataErrReader(bytes.NewReader(body)), int64(size), "a/b")
		if err != nil || up.CID != wantCID || up.Size != int64(size) {
			t.Fatalf("%d bytes: %+v, %v", size, up, err)
		}
		if err := s.MakePermanent(t.Context(), Alice, up.Key, up.CID); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		want(t, s, blob.PermanentName(Alice, up.CID), string(body))
	}
	if empty := upload(t, s, Alice, ""); empty.CID != cidOf(t, "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku") || empty.Type != "text/plain" {
		t.Errorf("empty: %+v", empty)
	}
}

func testCutOff(t *testing.T, s blob.Store) {
	gone := errors.New("connection reset")
	for _, n := range []int{0, 1, 70000} {
		r := io.MultiReader(strings.NewReader(strings.Repeat("x", n)), iotest.ErrReader(gone))
		_, err := s.Upload(t.Context(), Alice, r, limit, "a/b")
		if !errors.Is(err, blob.ErrBody) || !errors.Is(err, gone) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
	wantFiles(t, s, "")
}

func testLimit(t *testing.T, s blob.Store) {
	if _, err := s.Upload(t.Context(), Alice, strings.NewReader(strings.Repeat("x", 100000)), 100000, "a/b"); err != nil {
		t.Errorf("as many as the limit: %v", err)
	}
	endless := iotest.OneByteReader(neverEnds{})
	for _, r := range []io.Reader{strings.NewReader(strings.Repeat("x", 100001)), endless, neverEnds{}} {
		if up, err := s.Upload(t.Context(), Bob, r, 100000, "a/b"); !errors.Is(err, blob.ErrTooLarge) {
			t.Errorf("%+v, %v; want ErrTooLarge", up, err)
		}
	}
	wantFiles(t, s, Bob)
}

type neverEnds struct{}

func (neverEnds) Read(p []byte) (int, error) { return len(p), nil }

func testAgain(t *testing.T, s blob.Store) {
	up := upload(t, s, Alice, "again")
	for range 2 {
		if err := s.MakePermanent(t.Context(), Alice, up.Key, up.CID); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Remove(t.Context(), blob.TemporaryName(Alice, up.Key)); err != nil {
		t.Fatal(err)
	}
	if err := s.MakePermanent(t.Context(), Alice, up.Key, up.CID); err != nil {
		t.Errorf("after the temporary one went: %v", err)
	}
	other := upload(t, s, Alice, "again")
	if other.Key == up.Key {
		t.Error("two uploads under one key")
	}
	if err := s.MakePermanent(t.Context(), Alice, other.Key, up.CID); err != nil {
		t.Errorf("where there is one: %v", err)
	}
	want(t, s, blob.PermanentName(Alice, up.CID), "again")
	never := dagcbor.Sum(dagcbor.CodecRaw, []byte("never"))
	if err := s.MakePermanent(t.Context(), Alice, up.Key, never); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("nothing there: %v", err)
	}
	wantNothing(t, s, blob.PermanentName(Alice, never))
}

func testAccounts(t *testing.T, s blob.Store) {
	up := upload(t, s, Alice, "mine")
	if err := s.MakePermanent(t.Context(), Bob, up.Key, up.CID); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("another's upload: %v", err)
	}
	cid := permanent(t, s, Alice, "mine")
	permanent(t, s, Bob, "mine")
	if err := s.Remove(t.Context(), blob.PermanentName(Bob, cid)); err != nil {
		t.Fatal(err)
	}
	wantNothing(t, s, blob.PermanentName(Bob, cid))
	want(t, s, blob.PermanentName(Alice, cid), "mine")
}

func testQuarantine(t *testing.T, s blob.Store) {
	cid := permanent(t, s, Alice, "unpleasant")
	kept, away := blob.PermanentName(Alice, cid), blob.QuarantineName(Alice, cid)
	for range 2 {
		if err := s.Quarantine(t.Context(), Alice, cid); err != nil {
			t.Fatal(err)
		}
		wantNothing(t, s, kept)
		want(t, s, away, "unpleasant")
	}
	for range 2 {
		if err := s.Restore(t.Context(), Alice, cid); err != nil {
			t.Fatal(err)
		}
		want(t, s, kept, "unpleasant")
		wantNothing(t, s, away)
	}
	if err := s.Quarantine(t.Context(), Bob, cid); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("quarantine of what is not there: %v", err)
	}
	if err := s.Restore(t.Context(), Bob, cid); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("restoring what is not there: %v", err)
	}
	// A takedown that ended between copy and removal is finished by the next.
	permanent(t, s, Bob, "unpleasant")
	if err := s.Quarantine(t.Context(), Bob, cid); err != nil {
		t.Fatal(err)
	}
	permanent(t, s, Bob, "unpleasant")
	if err := s.Quarantine(t.Context(), Bob, cid); err != nil {
		t.Fatal(err)
	}
	wantNothing(t, s, blob.PermanentName(Bob, cid))
	want(t, s, blob.QuarantineName(Bob, cid), "unpleasant")
}

func testPut(t *testing.T, s blob.Store) {
	cid := dagcbor.Sum(dagcbor.CodecRaw, []byte("restored"))
	name := blob.PermanentName(Alice, cid)
	for _, tt := range []struct {
		what, body string
		size       int64
	}{
		{"other bytes", "restoreD", 8},
		{"fewer", "restore", 8},
		{"more", "restored!", 8},
		{"another size, less", "restored", 7},
		{"another size, more", "restored", 9},
	} {
		if err := s.Put(t.Context(), Alice, cid, strings.NewReader(tt.body), tt.size); !errors.Is(err, blob.ErrMismatch) {
			t.Errorf("%s: %v; want ErrMismatch", tt.what, err)
		}
	}
	if err := s.Put(t.Context(), Alice, cid, io.MultiReader(strings.NewReader("rest"), iotest.ErrReader(io.ErrUnexpectedEOF)), 8); !errors.Is(err, blob.ErrBody) {
		t.Errorf("cut off: %v; want ErrBody", err)
	}
	wantFiles(t, s, "")
	for range 2 {
		if err := s.Put(t.Context(), Alice, cid, strings.NewReader("restored"), 8); err != nil {
			t.Fatal(err)
		}
		want(t, s, name, "restored")
	}
	if len(files(t, s, "")) != 1 {
		t.Errorf("files: %q", files(t, s, ""))
	}
}

func testRemove(t *testing.T, s blob.Store) {
	cid := permanent(t, s, Alice, "gone")
	for range 2 {
		if err := s.Remove(t.Context(), blob.PermanentName(Alice, cid)); err != nil {
			t.Fatal(err)
		}
	}
	wantFiles(t, s, "")
}

func testRemoveAccount(t *testing.T, s blob.Store) {
	for _, did := range []syntax.DID{Alice, Bob} {
		permanent(t, s, did, "one")
		permanent(t, s, did, "two")
		upload(t, s, did, "three")
		if err := s.Quarantine(t.Context(), did, dagcbor.Sum(dagcbor.CodecRaw, []byte("two"))); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := s.RemoveAccount(t.Context(), Alice); err != nil {
			t.Fatal(err)
		}
	}
	wantFiles(t, s, Alice)
	if n := len(files(t, s, "")); n != 3 {
		t.Errorf("the other account has %d files, want 3", n)
	}
}

func testFiles(t *testing.T, s blob.Store) {
	var wanted, ofBob []string
	for i := range 30 {
		body := strings.Repeat("x", i)
		did := []syntax.DID{Alice, Bob}[i%2]
		line := ""
		switch up := upload(t, s, did, body); i % 3 {
		case 0:
			line = fmt.Sprintf("temporary %s/%s %d", did, up.Key, i)
		case 1:
			line = fmt.Sprintf("permanent %s/%s %d", did, permanent(t, s, did, body), i)
			if err := s.Remove(t.Context(), blob.TemporaryName(did, up.Key)); err != nil {
				t.Fatal(err)
			}
		case 2:
			cid := permanent(t, s, did, body)
			if err := errors.Join(s.Remove(t.Context(), blob.TemporaryName(did, up.Key)), s.Quarantine(t.Context(), did, cid)); err != nil {
				t.Fatal(err)
			}
			line = fmt.Sprintf("quarantine %s/%s %d", did, cid, i)
		}
		if wanted = append(wanted, line); did == Bob {
			ofBob = append(ofBob, line)
		}
	}
	wantFiles(t, s, "", wanted...)
	wantFiles(t, s, Bob, ofBob...)
	wantFiles(t, s, "did:plc:nobodynobodynobodynobod")
	n := 0
	for range s.Files(t.Context(), "") { // a reader who has enough
		if n++; n == 7 {
			break
		}
	}
	// Files may be removed while they are listed.
	for f, err := range s.Files(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Remove(t.Context(), f.Name); err != nil {
			t.Fatal(err)
		}
	}
	wantFiles(t, s, "")
}

func testNames(t *testing.T, s blob.Store) {
	up := upload(t, s, Alice, "safe")
	commit := dagcbor.Sum(dagcbor.CodecDAGCBOR, []byte("a commit"))
	for _, did := range []syntax.DID{"", ".", "..", "../" + Alice, "did:plc:../../x", "did:web:a/b", "did:plc:a\x00b", "did:plc:a\\b", "did:plc:", "/etc", "tempt", Alice + "/.."} {
		if _, err := s.Upload(t.Context(), did, strings.NewReader("x"), limit, "a/b"); !errors.Is(err, blob.ErrName) {
			t.Errorf("upload of %q: %v", did, err)
		}
		if err := s.MakePermanent(t.Context(), did, up.Key, up.CID); !errors.Is(err, blob.ErrName) {
			t.Errorf("make permanent of %q: %v", did, err)
		}
		if err := s.Put(t.Context(), did, up.CID, strings.NewReader("safe"), 4); !errors.Is(err, blob.ErrName) {
			t.Errorf("put of %q: %v", did, err)
		}
		if err := s.RemoveAccount(t.Context(), did); !errors.Is(err, blob.ErrName) {
			t.Errorf("remove the account %q: %v", did, err)
		}
	}
	for _, key := range []string{"", ".", "..", "../../x", strings.Repeat("a", 51), strings.Repeat("a", 51) + "/", strings.Repeat("a", 51) + "A", strings.Repeat("a", 53), up.CID.String()} {
		if err := s.MakePermanent(t.Context(), Alice, key, up.CID); !errors.Is(err, blob.ErrName) {
			t.Errorf("make permanent of key %q: %v", key, err)
		}
		if err := s.Remove(t.Context(), blob.TemporaryName(Alice, key)); !errors.Is(err, blob.ErrName) {
			t.Errorf("remove key %q: %v", key, err)
		}
	}
	for _, cid := range []dagcbor.CID{{}, commit} {
		if err := s.MakePermanent(t.Context(), Alice, up.Key, cid); !errors.Is(err, blob.ErrName) {
			t.Errorf("make permanent as %q: %v", cid, err)
		}
		if _, _, err := s.Open(t.Context(), blob.PermanentName(Alice, cid)); !errors.Is(err, blob.ErrName) {
			t.Errorf("open %q: %v", cid, err)
		}
		if _, err := s.Stat(t.Context(), blob.QuarantineName(Alice, cid)); !errors.Is(err, blob.ErrName) {
			t.Errorf("stat %q: %v", cid, err)
		}
		if err := s.Quarantine(t.Context(), Alice, cid); !errors.Is(err, blob.ErrName) {
			t.Errorf("quarantine %q: %v", cid, err)
		}
	}
	if got := files(t, s, ""); len(got) != 1 {
		t.Errorf("files: %q", got)
	}
}

func testAtOnce(t *testing.T, s blob.Store) {
	body := strings.Repeat("the same ", 20000)
	cid := dagcbor.Sum(dagcbor.CodecRaw, []byte(body))
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			up, err := s.Upload(t.Context(), Alice, strings.NewReader(body), limit, "a/b")
			if err != nil {
				t.Errorf("upload: %v", err)
				return
			}
			if err := s.MakePermanent(t.Context(), Alice, up.Key, up.CID); err != nil {
				t.Errorf("make permanent: %v", err)
			}
			want(t, s, blob.PermanentName(Alice, up.CID), body)
			if err := s.Remove(t.Context(), blob.TemporaryName(Alice, up.Key)); err != nil {
				t.Errorf("remove: %v", err)
			}
		})
	}
	all.Wait()
	want(t, s, blob.PermanentName(Alice, cid), body)
	if got := files(t, s, ""); len(got) != 1 {
		t.Errorf("files: %q", got)
	}
}

func testContext(t *testing.T, s blob.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	r := readerFunc(func(p []byte) (int, error) {
		if n++; n == 3 {
			cancel()
		}
		return len(p), nil
	})
	if _, err := s.Upload(ctx, Alice, r, 1<<40, "a/b"); !errors.Is(err, context.Canceled) {
		t.Errorf("upload: %v", err)
	}
	wantFiles(t, s, "")
	permanent(t, s, Alice, "a file")
	ended := false
	for _, err := range s.Files(ctx, "") {
		ended = err != nil
	}
	if !ended {
		t.Error("files are listed although the context ended")
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// testBounds has a store that takes 1000 bytes of all uploads under way and two
// uploads of one account.
func testBounds(t *testing.T, s blob.Store) {
	// begin starts an upload and returns when its first bytes were taken.
	begin := func(did syntax.DID, n int) (end func() error) {
		pr, pw := io.Pipe()
		done := make(chan error, 1)
		go func() {
			_, err := s.Upload(t.Context(), did, pr, 1<<20, "a/b")
			pr.CloseWithError(io.ErrClosedPipe)
			done <- err
		}()
		pw.Write(make([]byte, n))
		pw.Write([]byte{0}) // is taken only once those before were written
		return func() error {
			pw.Close()
			return <-done
		}
	}
	first, second := begin(Alice, 300), begin(Alice, 300)
	if _, err := s.Upload(t.Context(), Alice, strings.NewReader("x"), limit, "a/b"); !errors.Is(err, blob.ErrBusy) {
		t.Errorf("third upload of one account: %v; want ErrBusy", err)
	}
	if _, err := s.Upload(t.Context(), Bob, strings.NewReader(strings.Repeat("x", 500)), limit, "a/b"); !errors.Is(err, blob.ErrBusy) {
		t.Errorf("more bytes than all uploads may take: %v; want ErrBusy", err)
	}
	upload(t, s, Bob, strings.Repeat("x", 300))
	if err := errors.Join(first(), second()); err != nil {
		t.Errorf("uploads that were under way: %v", err)
	}
	upload(t, s, Alice, strings.Repeat("x", 500)) // what they took is given back
	upload(t, s, Alice, strings.Repeat("x", 5000))
	if got := files(t, s, ""); len(got) != 5 {
		t.Errorf("files: %q", got)
	}
}
