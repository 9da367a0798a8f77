package adopt

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-cmp/cmp"

	"portico/db"
	"portico/impl/blob"
	"portico/impl/blob/blobtest"
	"portico/impl/reference/referencetest"
	"portico/impl/repo/dagcbor"
)

func TestWaysOfBlobs(t *testing.T) {
	for _, how := range []Blobs{CopyBlobs, LinkBlobs, LeaveBlobs} {
		t.Run(string(how), func(t *testing.T) {
			pds := referencetest.Unpack(t, referencetest.Stopped)
			before := contents(t, pds)
			a := adoptionOf(t, pds, t.TempDir(), nil)
			a.How = how
			if err := a.adoptAll(t.Context()); err != nil {
				t.Fatal(err)
			}
			compareFiles(t, a)
			for f, err := range a.filesOfSource().Files(t.Context(), "") {
				if err != nil {
					t.Fatal(err)
				}
				of := filepath.Join(f.Name.DID.String(), f.Name.Key)
				switch f.Name.Area {
				case blob.Temporary:
					of = filepath.Join("tempt", of)
				case blob.Quarantine:
					of = filepath.Join("quarantine", of)
				}
				old, err := os.Stat(filepath.Join(pds, "blocks", of))
				if err != nil {
					t.Fatal(err)
				}
				made, err := os.Stat(filepath.Join(a.Folder, "blobs", of))
				left := how == LeaveBlobs && f.Name.Area == blob.Permanent
				if errors.Is(err, os.ErrNotExist) != left || err != nil && !left {
					t.Errorf("%s: %v", of, err)
				}
				if err == nil && os.SameFile(old, made) != (how == LinkBlobs) {
					t.Errorf("%s is one file: %v", of, how != LinkBlobs)
				}
			}
			if diff := cmp.Diff(before, contents(t, pds)); diff != "" {
				t.Errorf("the source has changed:\n%s", diff)
			}
		})
	}
}

// Blobs without a file, with other bytes than their names say, and files without a row are
// told, and keep nobody from being adopted.
func TestBrokenBlobs(t *testing.T) {
	const avatar = "bafkreigpmk2l33yfexd535e52hswycveieccrhgczyr5qaz4xe2kpnovcy" // kim's
	const kim = syntax.DID("did:plc:u7qzys5wcqoclfwvcd6dp6fl")
	of := func(pds string, names ...string) string {
		return filepath.Join(append([]string{pds, "blocks"}, names...)...)
	}
	spoil := func(pds string) error {
		path := of(pds, kim.String(), avatar)
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		b[0] ^= 1
		return os.WriteFile(path, b, 0o600)
	}
	for _, tt := range []struct {
		name  string
		how   Blobs
		spoil func(pds string) error
		want  string
	}{
		{"missing", CopyBlobs, func(pds string) error { return os.Remove(of(pds, kim.String(), avatar)) }, "blob-missing " + string(kim)},
		{"missing and left", LeaveBlobs, func(pds string) error { return os.Remove(of(pds, kim.String(), avatar)) }, "blob-missing " + string(kim)},
		{"cut short", LinkBlobs, func(pds string) error { return os.Truncate(of(pds, kim.String(), avatar), 3) }, "blob-missing " + string(kim)},
		{"other bytes", CopyBlobs, spoil, "blob-missing " + string(kim)},
		{"other bytes, linked", LinkBlobs, spoil, "blob-damaged " + string(kim)},
		{"other bytes, left", LeaveBlobs, spoil, "blob-damaged " + string(kim)},
		{"no row", CopyBlobs, func(pds string) error {
			return os.WriteFile(of(pds, kim.String(), dagcbor.Sum(dagcbor.CodecRaw, nil).String()), nil, 0o600)
		}, "blob-files-spare"},
		{"folder is elsewhere", CopyBlobs, func(pds string) error {
			return errors.Join(os.Rename(of(pds, kim.String()), filepath.Join(pds, "moved")), os.Symlink(filepath.Join(pds, "moved"), of(pds, kim.String())))
		}, "link-outside! " + string(kim)},
		{"folder is a link inside", CopyBlobs, func(pds string) error {
			return errors.Join(os.Rename(of(pds, kim.String()), of(pds, "moved")), os.Symlink(of(pds, "moved"), of(pds, kim.String())))
		}, ""},
		{"all are elsewhere", CopyBlobs, func(pds string) error {
			return errors.Join(os.Rename(of(pds), filepath.Join(pds, "disk")), os.Symlink(filepath.Join(pds, "disk"), of(pds)))
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pds := referencetest.Unpack(t, referencetest.Stopped)
			if err := tt.spoil(pds); err != nil {
				t.Fatal(err)
			}
			a := adoptionOf(t, pds, t.TempDir(), nil)
			a.How = tt.how
			if err := a.adoptAll(t.Context()); errors.Is(err, ErrRefused) != strings.Contains(tt.want, "!") || err != nil && !errors.Is(err, ErrRefused) {
				t.Fatal(err)
			}
			var got []string
			for _, name := range a.names() {
				if !strings.HasPrefix(name, "commit-imported") {
					got = append(got, name)
				}
			}
			if strings.Join(got, ", ") != tt.want {
				t.Errorf("findings %q, want %q", got, tt.want)
			}
		})
	}
}

func bucketOf(t *testing.T, server *blobtest.S3) *blob.S3 {
	t.Helper()
	s, err := blob.OpenS3(blob.S3Config{
		Bucket: server.Bucket, Region: "us-east-1", Endpoint: server.URL, ForcePathStyle: true, AccessKeyID: "key", SecretAccessKey: "secret", Spool: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Blobs that stay in a bucket are read there, wherever in it they are.
func TestBlobsInBucket(t *testing.T) {
	const avatar = "blocks/did:plc:u7qzys5wcqoclfwvcd6dp6fl/bafkreigpmk2l33yfexd535e52hswycveieccrhgczyr5qaz4xe2kpnovcy"
	const missing = ": 1 blobs are not in the bucket, CID among them: they are served as little as before, until their owner uploads them again"
	const damaged = ": 1 blobs in the bucket are not what was uploaded, CID among them"
	const whole = "bucket-read: 7 blobs stay in the bucket, and all were read there and hashed"
	for _, tt := range []struct {
		name   string
		change func(*blobtest.S3)
		want   []string
	}{
		{"whole", func(*blobtest.S3) {}, []string{whole}},
		{"gone", func(s *blobtest.S3) { s.Delete(avatar) }, []string{"blob-missing did:plc:u7qzys5wcqoclfwvcd6dp6fl" + missing, whole}},
		{"other bytes", func(s *blobtest.S3) { s.Put(avatar, make([]byte, 72)) }, []string{"blob-damaged did:plc:u7qzys5wcqoclfwvcd6dp6fl" + damaged, whole}},
		{"cut short", func(s *blobtest.S3) { s.Put(avatar, nil) }, []string{"blob-damaged did:plc:u7qzys5wcqoclfwvcd6dp6fl" + damaged, whole}},
		{"a temporary one is gone", deleteOne("tmp/" + string(aliceDID)), []string{"blob-missing " + string(aliceDID) + missing, whole}},
		{"one that was taken down is gone", deleteOne("quarantine/"), []string{"blob-missing " + string(bobDID) + missing, whole}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pds, server := referencetest.Unpack(t, referencetest.Stopped), blobtest.StartS3(t)
			referencetest.PutIntoBucket(t, pds, server.Put)
			tt.change(server)
			a := adoptionOf(t, pds, t.TempDir(), nil)
			a.Blobs, a.Bucket = nil, bucketOf(t, server)
			var mu sync.Mutex
			var read []int64
			a.Progress = func(p Progress) {
				if p.Part == "blobs in the bucket" {
					mu.Lock()
					defer mu.Unlock()
					read = append(read, p.Done)
				}
			}
			if err := a.adoptAll(t.Context()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, bucketFindings(a)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			if slices.Sort(read); !slices.Equal(read, []int64{1, 2, 3, 4, 5, 6, 7}) {
				t.Errorf("progress: %d", read)
			}
		})
	}
}

var cidPattern = regexp.MustCompile(`bafkrei[a-z2-7]{52}`)

// deleteOne deletes the only object whose key has a prefix.
func deleteOne(prefix string) func(*blobtest.S3) {
	return func(s *blobtest.S3) {
		for _, key := range s.Keys() {
			if strings.HasPrefix(key, prefix) {
				s.Delete(key)
			}
		}
	}
}

// bucketFindings are those about blobs, with CID in the place of CIDs.
func bucketFindings(a *Adoption) (found []string) {
	for _, f := range a.report.Findings {
		if strings.HasPrefix(f.Name, "blob-") || strings.HasPrefix(f.Name, "bucket-") {
			found = append(found, strings.TrimSpace(f.Name+" "+f.DID.String())+": "+cidPattern.ReplaceAllString(f.Text, "CID"))
		}
	}
	return found
}

// A bucket that nobody asks is said to be so, and one that fails ends the adoption, which can
// be gone on with.
func TestBucketIsNotRead(t *testing.T) {
	pds, server := referencetest.Unpack(t, referencetest.Stopped), blobtest.StartS3(t)
	referencetest.PutIntoBucket(t, pds, server.Put)
	server.Fail = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "u7qzys5wcqoclfwvcd6dp6fl") {
			return false
		}
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, "<Error><Code>AccessDenied</Code><Message>not you</Message></Error>")
		return true
	}
	a := adoptionOf(t, pds, t.TempDir(), nil)
	a.Blobs, a.Bucket = nil, bucketOf(t, server)
	err := a.adoptAll(t.Context())
	if err == nil || !strings.Contains(err.Error(), "of did:plc:u7qzys5wcqoclfwvcd6dp6fl in the bucket: blob store fails: not you") {
		t.Errorf("denied: %v", err)
	}
	a.Bucket = nil
	a.start()
	if err := a.adoptAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{"bucket-skipped: 7 blobs stay in the bucket, and were not looked at: portico blob verify reads those of an account"}
	if diff := cmp.Diff(want, bucketFindings(a)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

// Whatever becomes of what was adopted before the end is seen.
func TestChecks(t *testing.T) {
	ctx := t.Context()
	put := func(change func(a *Adoption, tx *db.Tx) error) func(*Adoption) error {
		return func(a *Adoption) error {
			return a.Target.Write(ctx, func(tx *db.Tx) error { return change(a, tx) })
		}
	}
	for _, tt := range []struct {
		name   string
		change func(*Adoption) error
		want   []string
	}{
		{"nothing", func(*Adoption) error { return nil }, nil},
		{"a record is gone", put(func(a *Adoption, tx *db.Tx) error {
			all, err := tx.Records(ctx, aliceDID, db.RecordRange{Limit: 1})
			if err != nil {
				return err
			}
			return tx.DeleteRecords(ctx, aliceDID, all[0].Path)
		}), []string{"counts-differ!", "counts-differ!", "repository-differs! " + string(aliceDID)}},
		{"a node is another", put(func(a *Adoption, tx *db.Tx) error {
			all, err := tx.Nodes(ctx, aliceDID, nil, 2)
			if err != nil {
				return err
			}
			all[1].Data = all[0].Data
			return tx.PutNode(ctx, aliceDID, all[1])
		}), []string{"repository-differs! " + string(aliceDID)}},
		{"a mention is more", put(func(a *Adoption, tx *db.Tx) error {
			return tx.PutRecordBlobs(ctx, bobDID, []db.RecordBlob{{Path: "a.b.c/d", CID: []byte("c")}})
		}), []string{"counts-differ!", "repository-differs! " + string(bobDID)}},
		{"preferences are gone", put(func(a *Adoption, tx *db.Tx) error { return tx.PutPreferences(ctx, aliceDID, nil) }), []string{"counts-differ!"}},
		{"another's key", put(func(a *Adoption, tx *db.Tx) error {
			raw, err := a.Source.Key(bobDID.String())
			if err != nil {
				return err
			}
			k, err := tx.SigningKey(ctx, aliceDID, "atproto")
			if err != nil {
				return err
			}
			sealed, err := a.Keys.Seal("atproto", aliceDID.String(), raw)
			if err != nil {
				return err
			}
			return tx.ResealSigningKey(ctx, *k, sealed)
		}), []string{"key-differs! " + string(aliceDID)}},
		{"an event is another", put(func(a *Adoption, tx *db.Tx) error {
			page, err := tx.Events(ctx, 0, 1000)
			if err != nil {
				return err
			}
			if err := tx.ForgetEvents(ctx); err != nil {
				return err
			}
			page[len(page)-1].Time = page[0].Time
			for _, e := range page {
				if err := tx.AdoptEvent(ctx, e); err != nil {
					return err
				}
			}
			return nil
		}), []string{"event-differs! "}},
		{"a blob is gone", func(a *Adoption) error { return a.Blobs.RemoveAccount(ctx, aliceDID) }, []string{"blob-missing " + string(aliceDID)}},
		{"a blob is another", func(a *Adoption) error {
			for f, err := range a.Blobs.Files(ctx, aliceDID) {
				if err != nil || f.Name.Area != blob.Permanent {
					continue
				}
				return os.WriteFile(filepath.Join(a.Folder, "blobs", aliceDID.String(), f.Name.Key), make([]byte, f.Size), 0o600)
			}
			return io.EOF
		}, []string{"blob-damaged " + string(aliceDID)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := adoptionOf(t, referencetest.Unpack(t, referencetest.Stopped), t.TempDir(), nil)
			for _, step := range []func(context.Context) error{a.accounts, a.repositories, a.events, a.blobs} {
				if err := step(ctx); err != nil {
					t.Fatal(err)
				}
			}
			if err := tt.change(a); err != nil {
				t.Fatal(err)
			}
			if err := a.check(ctx, a.report); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, name := range a.names() {
				if strings.HasPrefix(name, "event-differs! ") {
					name = "event-differs! "
				}
				if !strings.HasPrefix(name, "commit-imported") {
					got = append(got, name)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s%v", diff, a.report.Findings)
			}
		})
	}
}
