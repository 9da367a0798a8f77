package backup_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/backup"
	"portico/impl/blob"
	"portico/impl/blob/blobtest"
	"portico/impl/repo/dagcbor"
)

const alice, bob = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"), syntax.DID("did:web:bob.example.com")

// A place is a store, and hands for what goes on behind its back.
type place struct {
	backup.Store
	names  func() []string
	read   func(name string) []byte
	write  func(name string, data []byte)
	remove func(name string)
}

// onEach runs a test on a store of each kind.
func onEach(t *testing.T, test func(t *testing.T, p place)) {
	t.Run("folder", func(t *testing.T) {
		root := filepath.Join(t.TempDir(), "backups")
		store, err := backup.OpenFolder(root)
		if err != nil {
			t.Fatal(err)
		}
		must := func(err error) {
			if t.Helper(); err != nil {
				t.Fatal(err)
			}
		}
		test(t, place{
			Store: store,
			names: func() (all []string) {
				must(filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
					if err == nil && e.Type().IsRegular() && e.Name() != "lock" {
						all = append(all, strings.TrimPrefix(path, root+"/"))
					}
					return err
				}))
				return all
			},
			read: func(name string) []byte {
				data, err := os.ReadFile(filepath.Join(root, name))
				must(err)
				return data
			},
			write: func(name string, data []byte) {
				must(os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o700))
				must(os.WriteFile(filepath.Join(root, name), data, 0o600))
			},
			remove: func(name string) { must(os.Remove(filepath.Join(root, name))) },
		})
	})
	t.Run("bucket", func(t *testing.T) {
		s3 := blobtest.StartS3(t)
		store, err := backup.OpenBucket(blob.S3Config{
			Bucket: s3.Bucket, Endpoint: s3.URL, Region: "here", ForcePathStyle: true, AccessKeyID: "id", SecretAccessKey: "secret",
		}, "pds")
		if err != nil {
			t.Fatal(err)
		}
		s3.Put("other/file", []byte("of somebody else"))
		test(t, place{
			Store: store,
			names: func() (all []string) {
				for _, key := range s3.Keys() {
					if name, ok := strings.CutPrefix(key, "pds/"); ok && name != "lease.json" {
						all = append(all, name)
					}
				}
				return all
			},
			read: func(name string) []byte {
				data, ok := s3.Object("pds/" + name)
				if !ok {
					t.Fatalf("there is no %s", name)
				}
				return data
			},
			write:  func(name string, data []byte) { s3.Put("pds/"+name, data) },
			remove: func(name string) { s3.Delete("pds/" + name) },
		})
		if data, _ := s3.Object("other/file"); string(data) != "of somebody else" {
			t.Error("what is not below the prefix was changed")
		}
	})
}

func newKey(t *testing.T, b byte) *backup.Key {
	t.Helper()
	key, err := backup.NewKey(bytes.Repeat([]byte{b}, backup.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func repository(store backup.Store, key *backup.Key, now time.Time) *backup.Repository {
	return &backup.Repository{Store: store, Key: key, Now: func() time.Time { return now }}
}

// A server has blobs and a database that is a text.
type server struct {
	*testing.T
	blobs *blob.Disk
	rows  []backup.BlobRow
	text  string
}

func newServer(t *testing.T) *server {
	t.Helper()
	d, err := blob.OpenDisk(t.TempDir(), "", blob.Bounds{})
	if err != nil {
		t.Fatal(err)
	}
	return &server{T: t, blobs: d, text: strings.Repeat("a database ", 30_000)}
}

func (s *server) add(did syntax.DID, body string) backup.BlobRow {
	s.Helper()
	row := backup.BlobRow{DID: did, CID: dagcbor.Sum(dagcbor.CodecRaw, []byte(body)), Size: int64(len(body))}
	if err := s.blobs.Put(s.Context(), did, row.CID, strings.NewReader(body), row.Size); err != nil {
		s.Fatal(err)
	}
	s.rows = append(s.rows, row)
	return row
}

func each(rows []backup.BlobRow) iter.Seq2[backup.BlobRow, error] {
	return func(yield func(backup.BlobRow, error) bool) {
		for _, r := range rows {
			if !yield(r, nil) {
				return
			}
		}
	}
}

var manifest = backup.Manifest{Server: "abc", Hostname: "pds.example.com", Engine: "sqlite", Schema: "0001_start", Canary: []byte{1}}

// write writes the parts of a snapshot.
func (s *server) write(w *backup.Writer) (backup.BlobCount, map[string]bool, error) {
	missing, err := w.Send(s.blobs, each(s.rows))
	if err != nil {
		return backup.BlobCount{}, nil, err
	}
	count, err := w.Blobs(each(s.rows))
	if err == nil {
		err = w.Part(backup.Database, strings.NewReader(s.text))
	}
	if err == nil {
		err = w.Part(backup.Secrets, strings.NewReader("SECRET=sesame\n"))
	}
	return count, missing, err
}

func (s *server) backUp(r *backup.Repository, keep backup.Keep) (*backup.Manifest, *backup.Writer, backup.Pruned) {
	s.Helper()
	w, err := r.Begin(s.Context(), "abc")
	if err != nil {
		s.Fatal(err)
	}
	count, _, err := s.write(w)
	if err != nil {
		s.Fatal(err)
	}
	m := manifest
	m.Blobs, m.Time = count, r.Now()
	made, err := w.Finish(m)
	if err != nil {
		s.Fatal(err)
	}
	pruned, err := w.Prune(keep)
	if err := errors.Join(err, w.Close()); err != nil {
		s.Fatal(err)
	}
	return made, w, pruned
}

func readPart(ctx context.Context, r *backup.Repository, m *backup.Manifest, name string) (string, error) {
	f, err := r.OpenPart(ctx, m, name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	return string(text), err
}

var day = time.Date(2026, 1, 31, 4, 0, 0, 0, time.UTC)

func TestLife(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		t.Run(fmt.Sprint("sealed ", sealed), func(t *testing.T) {
			onEach(t, func(t *testing.T, p place) {
				var key *backup.Key
				if sealed {
					key = newKey(t, 'k')
				}
				s := newServer(t)
				s.add(alice, "hello")
				s.add(alice, strings.Repeat("large ", 100_000))
				s.add(bob, "hello")
				s.add(bob, "")
				r := repository(p, key, day)
				first, w, _ := s.backUp(r, backup.Keep{})
				if w.Sent != 4 || w.SentBytes != 600_010 || first.Blobs != (backup.BlobCount{Count: 4, Bytes: 600_010}) {
					t.Errorf("sent %d with %d bytes, %+v", w.Sent, w.SentBytes, first.Blobs)
				}
				s.add(alice, "new")
				s.text += "and more"
				second, w, _ := s.backUp(repository(p, key, day.Add(time.Hour)), backup.Keep{})
				if w.Sent != 1 || second.Blobs.Count != 5 {
					t.Errorf("the second sent %d of %d blobs", w.Sent, second.Blobs.Count)
				}
				all, err := r.Snapshots(t.Context())
				if err != nil || len(all) != 2 || all[0].Name != second.Snapshot || all[1].Name != first.Snapshot || all[0].Err != nil {
					t.Fatalf("snapshots: %+v, %v", all, err)
				}
				if latest, err := r.Latest(t.Context()); err != nil || latest != second.Snapshot {
					t.Errorf("latest: %s, %v", latest, err)
				}
				if text, err := readPart(t.Context(), r, all[0].Manifest, backup.Database); err != nil || text != s.text {
					t.Errorf("database: %d bytes, %v", len(text), err)
				}
				if text, err := readPart(t.Context(), r, all[1].Manifest, backup.Secrets); err != nil || text != "SECRET=sesame\n" {
					t.Errorf("secrets: %q, %v", text, err)
				}
				for row, err := range r.BlobRows(t.Context(), second) {
					if err != nil || !slices.Contains(s.rows, row) {
						t.Fatalf("%v, %v", row, err)
					}
					f, err := r.OpenBlob(t.Context(), row)
					if err != nil {
						t.Fatal(err)
					}
					if cid, _, err := blob.Sum(f); err != nil || cid != row.CID {
						t.Errorf("%v: %v, %v", row, cid, err)
					}
					f.Close()
				}
				if v, err := r.Verify(t.Context(), []string{first.Snapshot, second.Snapshot}); err != nil || len(v.Findings) > 0 || v.Blobs != 5 {
					t.Errorf("verify: %+v, %v", v, err)
				}
				secret := p.read("snapshots/" + first.Snapshot + "/secrets")
				if packed := bytes.HasPrefix(secret, []byte("\x28\xb5\x2f\xfd")); packed == sealed || sealed && bytes.Contains(secret, []byte("sesame")) {
					t.Errorf("sealed %v: secrets are %q", sealed, secret)
				}
			})
		})
	}
}

// Blobs that are not there, or are others, are in no list; nor is half of one stored.
func TestMissingAndOther(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		s := newServer(t)
		good := s.add(alice, "good")
		gone, other, short := s.add(alice, "gone"), s.add(alice, "other"), s.add(alice, "short")
		if err := s.blobs.Remove(t.Context(), blob.PermanentName(alice, gone.CID)); err != nil {
			t.Fatal(err)
		}
		for row, text := range map[backup.BlobRow]string{other: "OTHER", short: "shor"} {
			f, _, err := s.blobs.Open(t.Context(), blob.PermanentName(alice, row.CID))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(f.(*os.File).Name(), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
		// One that is taken down is where those are, and is sent from there.
		away := s.add(bob, "away")
		if err := s.blobs.Quarantine(t.Context(), bob, away.CID); err != nil {
			t.Fatal(err)
		}
		s.rows[len(s.rows)-1].TakenDown = true
		r := repository(p, nil, day)
		w, err := r.Begin(t.Context(), "abc")
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		count, missing, err := s.write(w)
		if err != nil || count != (backup.BlobCount{Count: 2, Bytes: 8, Missing: 3}) || len(missing) != 3 {
			t.Errorf("%+v, missing %v, %v", count, missing, err)
		}
		m := manifest
		m.Blobs = count
		made, err := w.Finish(m)
		if err != nil {
			t.Fatal(err)
		}
		var listed []backup.BlobRow
		for row, err := range r.BlobRows(t.Context(), made) {
			if err != nil {
				t.Fatal(err)
			}
			listed = append(listed, row)
		}
		if !slices.Equal(listed, []backup.BlobRow{good, s.rows[len(s.rows)-1]}) {
			t.Errorf("listed: %v", listed)
		}
		for _, name := range p.names() {
			if strings.Contains(name, other.CID.String()) || strings.Contains(name, short.CID.String()) || strings.HasPrefix(name, "partial/") {
				t.Errorf("there is %s", name)
			}
		}
	})
}

// What is damaged in the store is told by its name, and never given as what it was.
func TestDamage(t *testing.T) {
	flip := func(b []byte) []byte {
		b = bytes.Clone(b)
		b[len(b)/2] ^= 1
		return b
	}
	for _, sealed := range []bool{false, true} {
		for _, tt := range []struct {
			name, file string
			change     func([]byte) []byte // nil: it is removed
			want       string
		}{
			{"database flipped", "database", flip, "database of snapshot NAME: damaged"},
			{"database cut off", "database", func(b []byte) []byte { return b[:len(b)-1] }, "database of snapshot NAME: damaged: it has "},
			{"database longer", "database", func(b []byte) []byte { return append(bytes.Clone(b), 0) }, "database of snapshot NAME: damaged: it has "},
			{"database empty", "database", func([]byte) []byte { return nil }, "database of snapshot NAME: damaged: it has 0 bytes"},
			{"database gone", "database", nil, "database of snapshot NAME: not in the store"},
			{"secrets flipped", "secrets", flip, "secrets of snapshot NAME: damaged"},
			{"list flipped", "blobs", flip, "blobs of snapshot NAME: damaged"},
			{"list gone", "blobs", nil, "blobs of snapshot NAME: not in the store"},
			{"manifest cut off", "manifest.json", func(b []byte) []byte { return b[:len(b)/2] }, "snapshot NAME: manifest is damaged"},
			{"manifest empty", "manifest.json", func([]byte) []byte { return nil }, "snapshot NAME: manifest is damaged"},
			{"manifest too long", "manifest.json", func(b []byte) []byte { return append(bytes.Clone(b), make([]byte, 1<<20)...) }, "snapshot NAME: manifest is damaged: it has "},
			{"blob flipped", "../../blobs/BLOB", flip, "blob BLOB is damaged"},
			{"blob cut off", "../../blobs/BLOB", func(b []byte) []byte { return b[:3] }, "blob BLOB of snapshot NAME: not in the store, or of another size"},
			{"blob gone", "../../blobs/BLOB", nil, "blob BLOB of snapshot NAME: not in the store, or of another size"},
		} {
			t.Run(fmt.Sprint(tt.name, " sealed ", sealed), func(t *testing.T) {
				onEach(t, func(t *testing.T, p place) {
					var key *backup.Key
					if sealed {
						key = newKey(t, 'k')
					}
					s := newServer(t)
					row := s.add(alice, "hello world")
					r := repository(p, key, day)
					m, _, _ := s.backUp(r, backup.Keep{})
					named := strings.NewReplacer("NAME", m.Snapshot, "BLOB", row.String())
					file := filepath.Clean("snapshots/" + m.Snapshot + "/" + named.Replace(tt.file))
					if tt.change == nil {
						p.remove(file)
					} else {
						p.write(file, tt.change(p.read(file)))
					}
					v, err := r.Verify(t.Context(), []string{m.Snapshot})
					if err != nil || len(v.Findings) != 1 || !strings.HasPrefix(v.Findings[0], named.Replace(tt.want)) {
						t.Fatalf("%+v, %v; want %s", v, err, named.Replace(tt.want))
					}
					if text, err := readPart(t.Context(), r, m, backup.Database); (err == nil) != (tt.file != "database") || err == nil && text != s.text {
						t.Errorf("the database is given: %v", err)
					}
				})
			})
		}
	}
}

// A store is hostile: it has the manifests that it likes.
func TestHostileManifest(t *testing.T) {
	part := func(name string, size int) map[string]any {
		return map[string]any{"name": name, "size": size, "stored": 10, "sha256": strings.Repeat("00", 32)}
	}
	parts := []any{part("database", 10), part("blobs", 10)}
	const name = "20260131T040000Z-aaaaaaaaaa"
	for _, tt := range []struct {
		name  string
		with  map[string]any
		is    error
		wants string
	}{
		{"as it should be", nil, nil, ""},
		{"of a later version", map[string]any{"version": 2}, backup.ErrVersion, "its format is 2"},
		{"of no version", map[string]any{"version": 0}, backup.ErrDamaged, "version 0"},
		{"of something else", map[string]any{"format": "a backup"}, backup.ErrDamaged, "of no backup"},
		{"of another snapshot", map[string]any{"snapshot": "20260131T040000Z-bbbbbbbbbb"}, backup.ErrDamaged, "another snapshot"},
		{"a part elsewhere", map[string]any{"parts": append(slices.Clone(parts), part("../../../etc/passwd", 1))}, backup.ErrDamaged, `part "../../../etc/passwd"`},
		{"a part twice", map[string]any{"parts": append(slices.Clone(parts), part("database", 1))}, backup.ErrDamaged, `part "database"`},
		{"a part of less than nothing", map[string]any{"parts": []any{parts[1], part("database", -1)}}, backup.ErrDamaged, "size of the database"},
		{"a part of 2^60 bytes", map[string]any{"parts": []any{parts[1], part("database", 1<<60)}}, backup.ErrDamaged, "size of the database"},
		{"a part of 1e40 bytes", map[string]any{"blobs": map[string]any{"bytes": 1e40}}, backup.ErrDamaged, "manifest is damaged"},
		{"no database", map[string]any{"parts": parts[1:]}, backup.ErrDamaged, "no database"},
		{"an engine with a bell", map[string]any{"engine": "\a"}, backup.ErrDamaged, `engine "?"`},
		{"sealed without a signature", map[string]any{"parts": []any{parts[1], map[string]any{
			"name": "database", "size": 1, "stored": 1, "sha256": strings.Repeat("00", 32), "sealed": true,
		}}}, backup.ErrDamaged, "no signature"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, p place) {
				m := map[string]any{"format": "portico backup", "version": 1, "snapshot": name, "engine": "sqlite", "parts": parts}
				for k, v := range tt.with {
					m[k] = v
				}
				text, err := json.Marshal(map[string]any{"manifest": m})
				if err != nil {
					t.Fatal(err)
				}
				p.write("snapshots/"+name+"/manifest.json", text)
				if _, err = repository(p, nil, day).Manifest(t.Context(), name); !errors.Is(err, tt.is) || err != nil && !strings.Contains(err.Error(), tt.wants) {
					t.Errorf("%v; want %v with %q", err, tt.is, tt.wants)
				}
				// Whoever has a key does not take what anybody can have made.
				if _, err = repository(p, newKey(t, 'k'), day).Manifest(t.Context(), name); err == nil || tt.is == nil && !errors.Is(err, backup.ErrKey) {
					t.Errorf("with a key: %v", err)
				}
			})
		})
	}
}

// Bytes that become many more are read no further than the manifest says.
func TestBomb(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		s := newServer(t)
		s.text = strings.Repeat("\x00", 64<<20)
		r := repository(p, nil, day)
		m, _, _ := s.backUp(r, backup.Keep{})
		file := "snapshots/" + m.Snapshot + "/manifest.json"
		p.write(file, bytes.Replace(p.read(file), []byte(`"size":67108864`), []byte(`"size":1000`), 1))
		m, err := r.Manifest(t.Context(), m.Snapshot)
		if err != nil {
			t.Fatal(err)
		}
		text, err := readPart(t.Context(), r, m, backup.Database)
		if !errors.Is(err, backup.ErrDamaged) || len(text) > 1000 {
			t.Errorf("%d bytes, %v", len(text), err)
		}
	})
}

// Whoever has the store and not the key makes no snapshot that is taken.
func TestForgery(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		s := newServer(t)
		r := repository(p, newKey(t, 'k'), day)
		first, _, _ := s.backUp(r, backup.Keep{})
		s.text = "another"
		second, _, _ := s.backUp(r, backup.Keep{})
		file := func(m *backup.Manifest, part string) string { return "snapshots/" + m.Snapshot + "/" + part }

		// The manifest is changed.
		was := p.read(file(second, "manifest.json"))
		p.write(file(second, "manifest.json"), bytes.Replace(was, []byte("pds.example.com"), []byte("pds.example.org"), 1))
		if _, err := r.Manifest(t.Context(), second.Snapshot); !errors.Is(err, backup.ErrDamaged) {
			t.Errorf("changed manifest: %v", err)
		}
		p.write(file(second, "manifest.json"), was)
		// A part is that of another snapshot: with the sums of a manifest of one's own, too.
		p.write(file(second, "database"), p.read(file(first, "database")))
		swapped := *second
		swapped.Parts = first.Parts
		if _, err := readPart(t.Context(), r, &swapped, backup.Database); !errors.Is(err, backup.ErrDamaged) {
			t.Errorf("database of another snapshot: %v", err)
		}
		// An older snapshot under a later name.
		p.write("snapshots/20270131T040000Z-aaaaaaaaaa/manifest.json", p.read(file(first, "manifest.json")))
		if _, err := r.Manifest(t.Context(), "20270131T040000Z-aaaaaaaaaa"); !errors.Is(err, backup.ErrDamaged) {
			t.Errorf("manifest under another name: %v", err)
		}
		// Another key, and none.
		if _, err := repository(p, newKey(t, 'x'), day).Manifest(t.Context(), first.Snapshot); !errors.Is(err, backup.ErrKey) {
			t.Errorf("another key: %v", err)
		}
		m, err := repository(p, nil, day).Manifest(t.Context(), first.Snapshot)
		if err != nil {
			t.Fatalf("without a key, to list it: %v", err)
		}
		if _, err := repository(p, nil, day).OpenPart(t.Context(), m, backup.Database); !errors.Is(err, backup.ErrKey) {
			t.Errorf("without a key: %v", err)
		}
	})
}

// One that ends in the middle leaves no snapshot, and the next removes what it left.
func TestUnfinished(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		s := newServer(t)
		s.add(alice, "hello")
		r := repository(p, nil, day)
		made, _, _ := s.backUp(r, backup.Keep{})
		whole := p.names()
		s.add(alice, "new")
		w, err := r.Begin(t.Context(), "abc")
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.write(w); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if len(p.names()) != len(whole)+4 {
			t.Fatalf("it left %v", p.names())
		}
		if latest, err := r.Latest(t.Context()); err != nil || latest != made.Snapshot {
			t.Errorf("latest: %s, %v", latest, err)
		}
		if w, err = r.Begin(t.Context(), "abc"); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if len(p.names()) != len(whole)+1 { // the blob is of use
			t.Errorf("after the next: %v", p.names())
		}
	})
}

// A snapshot whose bytes end with an error is none.
func TestReaderFails(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		r := repository(p, newKey(t, 'k'), day)
		w, err := r.Begin(t.Context(), "abc")
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		failed := errors.New("the disk is gone")
		err = w.Part(backup.Database, io.MultiReader(strings.NewReader(strings.Repeat("x", 100_000)), readerFunc(func([]byte) (int, error) { return 0, failed })))
		if !errors.Is(err, failed) {
			t.Errorf("%v", err)
		}
		if names := p.names(); len(names) > 0 {
			t.Errorf("there is %v", names)
		}
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestOneAtATime(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		r := repository(p, nil, day)
		w, err := r.Begin(t.Context(), "abc")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Begin(t.Context(), "abc"); !errors.Is(err, backup.ErrBusy) {
			t.Errorf("a second: %v", err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if w, err = r.Begin(t.Context(), "abc"); err != nil {
			t.Fatalf("after it: %v", err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A bucket has no locks: one that was killed is waited for, but not for long, and one that
// comes back after another took over makes no snapshot.
func TestLease(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		if _, folder := p.Store.(*backup.Folder); folder {
			return
		}
		s := newServer(t)
		r := repository(p, nil, day)
		lease := func(holder string, until time.Time) {
			text, _ := json.Marshal(map[string]any{"holder": holder, "host": "elsewhere\x1b[31m", "until": until})
			p.write("lease.json", text)
		}
		lease("other", time.Now().Add(time.Minute))
		if _, err := r.Begin(t.Context(), "abc"); !errors.Is(err, backup.ErrBusy) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("while another writes: %v", err)
		}
		for _, until := range []time.Time{time.Now().Add(-time.Second), time.Now().Add(1000 * time.Hour)} { // killed, and a clock that was wrong
			lease("other", until)
			w, err := r.Begin(t.Context(), "abc")
			if err != nil {
				t.Fatalf("lease until %v: %v", until, err)
			}
			if _, _, err := s.write(w); err != nil {
				t.Fatal(err)
			}
			lease("third", time.Now().Add(time.Minute))
			if _, err := w.Finish(manifest); !errors.Is(err, backup.ErrLost) {
				t.Errorf("after another took over: %v", err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(p.read("lease.json"), []byte("third")) {
				t.Error("it took the lease of another away")
			}
		}
	})
}

func TestForeign(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		s := newServer(t)
		r := repository(p, nil, day)
		s.backUp(r, backup.Keep{})
		if _, err := r.Begin(t.Context(), "def"); !errors.Is(err, backup.ErrForeign) || !strings.Contains(err.Error(), "pds.example.com") {
			t.Errorf("another server: %v", err)
		}
		if _, w, _ := s.backUp(r, backup.Keep{}); w == nil {
			t.Error("it is not given back")
		}
	})
}

// Servers with keys of their own do not come to share a place, and where they do, since they
// began at once or by another version, neither removes what is the other's.
func TestForeignKeys(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		s := newServer(t)
		at := func(key byte, hours int) *backup.Repository {
			return repository(p, newKey(t, key), day.Add(time.Duration(hours)*time.Hour))
		}
		mine, _, _ := s.backUp(at(1, 0), backup.Keep{})
		if _, err := at(2, 1).Begin(t.Context(), "def"); !errors.Is(err, backup.ErrForeign) || !strings.Contains(err.Error(), "pds.example.com") {
			t.Errorf("another server with another key: %v", err)
		}
		path := "snapshots/" + mine.Snapshot + "/manifest.json"
		was := p.read(path)
		for _, with := range []string{`{`, strings.Replace(string(was), `"version":1`, `"version":2`, 1)} {
			p.write(path, []byte(with))
			if _, err := at(2, 1).Begin(t.Context(), "def"); err == nil || !strings.Contains(err.Error(), mine.Snapshot) {
				t.Errorf("behind a manifest that cannot be read: %v", err)
			}
		}
		p.write(path, was)

		// The server itself may have another key.
		w, err := at(3, 24).Begin(t.Context(), "abc")
		if err != nil {
			t.Fatal(err)
		}
		other := manifest
		other.Server = "def"
		if other.Blobs, _, err = s.write(w); err != nil {
			t.Fatal(err)
		}
		theirs, err := w.Finish(other)
		if err != nil {
			t.Fatal(err)
		}
		// Its manifest says another server than began it: of the two only the first is this one's.
		if _, err := w.Prune(backup.Keep{Hours: 1}); err == nil || !strings.Contains(err.Error(), "no blob is removed") {
			t.Errorf("beside those of another: %v", err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		for _, m := range []*backup.Manifest{mine, theirs} {
			if !slices.Contains(p.names(), "snapshots/"+m.Snapshot+"/manifest.json") {
				t.Errorf("the snapshot of %s is gone", m.Server)
			}
		}
	})
}

func TestFolderWithOtherThings(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "portico.sqlite"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	store, err := backup.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := repository(store, nil, day).Begin(t.Context(), "abc"); err == nil || !strings.Contains(err.Error(), `has something else in it, "portico.sqlite"`) {
		t.Errorf("%v", err)
	}
}

func TestPrune(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		s := newServer(t)
		stays, goes := s.add(alice, "stays"), s.add(alice, "goes")
		start := time.Now().UTC().Truncate(24 * time.Hour).Add(48 * time.Hour)
		at := func(hours int) *backup.Repository {
			return repository(p, nil, start.Add(time.Duration(hours)*time.Hour))
		}
		first, _, _ := s.backUp(at(0), backup.Keep{Hours: 2})
		s.rows = []backup.BlobRow{stays}
		second, _, pruned := s.backUp(at(1), backup.Keep{Hours: 2})
		if pruned != (backup.Pruned{}) {
			t.Errorf("while all are kept: %+v", pruned)
		}
		// A third on the same day removes a snapshot, and leaves the blobs for another day.
		_, _, pruned = s.backUp(at(2), backup.Keep{Hours: 2})
		if pruned != (backup.Pruned{Snapshots: 1}) {
			t.Errorf("later that day: %+v", pruned)
		}
		if _, err := at(2).Manifest(t.Context(), first.Snapshot); !errors.Is(err, backup.ErrNotFound) {
			t.Errorf("the first: %v", err)
		}
		has := func(row backup.BlobRow) bool {
			return slices.Contains(p.names(), "blobs/"+row.String())
		}
		if !has(goes) {
			t.Error("the blob is gone already")
		}
		// While a snapshot that is kept cannot be read no blob goes.
		list := "snapshots/" + second.Snapshot + "/blobs"
		was := p.read(list)
		p.write(list, was[:len(was)-1])
		w, err := at(24).Begin(t.Context(), "abc")
		if err != nil {
			t.Fatal(err)
		}
		count, _, err := s.write(w)
		if err != nil {
			t.Fatal(err)
		}
		m := manifest
		m.Blobs = count
		made, err := w.Finish(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Prune(backup.Keep{Hours: 9}); !errors.Is(err, backup.ErrDamaged) || !has(goes) {
			t.Errorf("with a damaged list: %v", err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		p.write(list, was)
		_, _, pruned = s.backUp(at(48), backup.Keep{Hours: 1})
		if pruned != (backup.Pruned{Snapshots: 3, Blobs: 1, Bytes: 4}) || has(goes) || !has(stays) {
			t.Errorf("the next day: %+v, %v", pruned, p.names())
		}
		all, err := at(48).Snapshots(t.Context())
		if err != nil || len(all) != 1 || all[0].Name == made.Snapshot {
			t.Errorf("left: %+v, %v", all, err)
		}
		if v, err := at(48).Verify(t.Context(), []string{all[0].Name}); err != nil || len(v.Findings) > 0 {
			t.Errorf("what is left: %+v, %v", v, err)
		}
	})
}

// A blob that was brought there just now is not removed, whatever names it.
func TestPruneKeepsWhatIsNew(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		s := newServer(t)
		row := s.add(alice, "new")
		r := repository(p, nil, time.Now())
		s.backUp(r, backup.Keep{})
		for _, name := range p.names() {
			if strings.HasPrefix(name, "snapshots/") {
				p.remove(name)
			}
		}
		s.rows = nil
		if _, _, pruned := s.backUp(r, backup.Keep{Hours: 1}); pruned != (backup.Pruned{}) || !slices.Contains(p.names(), "blobs/"+row.String()) {
			t.Errorf("%+v, %v", pruned, p.names())
		}
	})
}

// What is in the store beside is neither read nor removed.
func TestOtherNames(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		s := newServer(t)
		others := []string{"blobs/README", "blobs/did:plc:x/not-a-cid", "snapshots/notes", "snapshots/2026/manifest.json"}
		r := repository(p, nil, time.Now().Add(72*time.Hour))
		s.backUp(r, backup.Keep{})
		for _, name := range others {
			p.write(name, []byte("kept"))
		}
		s.backUp(repository(p, nil, time.Now().Add(144*time.Hour)), backup.Keep{Hours: 1})
		for _, name := range others {
			if string(p.read(name)) != "kept" {
				t.Errorf("%s is not as it was", name)
			}
		}
	})
}

func TestContextEnds(t *testing.T) {
	onEach(t, func(t *testing.T, p place) {
		s := newServer(t)
		s.add(alice, "hello")
		ctx, cancel := context.WithCancel(t.Context())
		r := repository(p, nil, day)
		w, err := r.Begin(ctx, "abc")
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, _, err := s.write(w); !errors.Is(err, context.Canceled) {
			t.Errorf("write: %v", err)
		}
		if err := w.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if w, err = r.Begin(t.Context(), "abc"); err != nil {
			t.Errorf("it was not given back: %v", err)
		} else {
			w.Close()
		}
	})
}
