package main

import (
	"bytes"
	"context"
	"crypto/rand"
	encoding "encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"github.com/coder/websocket"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/blob"
	"portico/impl/blob/blobtest"
	"portico/impl/blob/rows"
	"portico/impl/repo/dagcbor"
)

const testBackupKey = "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdee"

// A writing person posts until enough is closed, and deletes what was posted a while ago.
func (p *poster) keepsPosting(t *testing.T, enough <-chan struct{}) (wrote <-chan int, ended <-chan error) {
	w, e := make(chan int), make(chan error, 1)
	go func() {
		defer close(w)
		for n := 0; ; n++ {
			err := p.post(t.Context(), fmt.Sprint(n), fmt.Sprint("note ", n))
			if err == nil && n >= 2 && n%3 == 0 {
				gone := fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","rkey":"%d"}`, p.DID, n-2)
				err = p.ask(t.Context(), "repo.deleteRecord", "application/json", gone, new(struct{}))
			}
			select {
			case <-enough:
				e <- err
				return
			default:
			}
			if err != nil {
				e <- err
				return
			}
			select {
			case w <- n:
			default:
			}
		}
	}()
	return w, e
}

// A world is a server with its settings, and where its backups go.
type world struct {
	*testing.T
	dir     string
	environ []string // without the data directory
	place   string
	s3      *blobtest.S3 // of the place; nil: it is a folder
}

func newWorld(t *testing.T, postgres, bucket bool) *world {
	t.Helper()
	w := &world{T: t, dir: filepath.Join(t.TempDir(), "data"), place: filepath.Join(t.TempDir(), "backups")}
	if bucket {
		w.s3 = blobtest.StartS3(t)
		w.place = "s3://" + w.s3.Bucket + "/pds"
		w.environ = append(w.environ, "PORTICO_BACKUP_KEY="+testBackupKey, "PORTICO_BACKUP_S3_ENDPOINT="+w.s3.URL, "PORTICO_BACKUP_S3_REGION=here",
			"PORTICO_BACKUP_S3_FORCE_PATH_STYLE=true", "PORTICO_BACKUP_S3_ACCESS_KEY_ID=id", "PORTICO_BACKUP_S3_SECRET_ACCESS_KEY=secret")
	}
	if postgres {
		w.environ = append(w.environ, "PORTICO_DATABASE_URL="+dbtest.EmptyPostgresURL(t),
			"PORTICO_KEY_ENCRYPTION_KEY=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	}
	return w
}

func (w *world) with(dir string) []string {
	return append(slices.Clone(w.environ), "PDS_HOSTNAME=localhost", "PDS_DATA_DIRECTORY="+dir)
}

// lastEvent is the number of the last event of the server in a folder.
func (w *world) lastEvent(dir string) int64 {
	w.Helper()
	address := ""
	for _, v := range w.environ {
		if after, ok := strings.CutPrefix(v, "PORTICO_DATABASE_URL="); ok {
			address = after
		}
	}
	store, err := db.Open(w.Context(), db.Config{URL: address, Dir: dir, ReadOnly: true})
	if err != nil {
		w.Fatal(err)
	}
	defer store.Close()
	last, err := store.LastEvent(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	return last
}

// nextEvent is the number of the first event that a consumer with a cursor gets.
func nextEvent(t *testing.T, server *url.URL, cursor int64) int64 {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), fmt.Sprintf("ws://%s/xrpc/com.atproto.sync.subscribeRepos?cursor=%d", server.Host, cursor), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(8 << 20)
	_, frame, err := conn.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// {"t": "#commit", "op": 1} stands before the message.
	_, message, ok := bytes.Cut(frame, []byte("#commit\x62op\x01"))
	if !ok {
		t.Fatalf("the first event after %d is %.80q", cursor, frame)
	}
	var commit comatproto.SyncSubscribeRepos_Commit
	if err := commit.UnmarshalCBOR(bytes.NewReader(message)); err != nil {
		t.Fatal(err)
	}
	return commit.Seq
}

// The drill: backups are made while people write; the server is lost, with all that it had;
// of a backup another machine makes a server, on which all is whole, and goes on.
func TestRestoreDrill(t *testing.T) {
	for _, tt := range []struct {
		name             string
		postgres, bucket bool
	}{{"sqlite folder", false, false}, {"sqlite bucket", false, true}, {"postgres folder", true, false}, {"postgres bucket", true, true}} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.postgres, tt.bucket)
			s, stop := startFor(t, w.with(w.dir)...)
			alice := &poster{url: s.PublicURL.String()}
			account := `{"handle":"alice.test","email":"alice@example.com","password":"correct-horse"}`
			if err := alice.ask(t.Context(), "server.createAccount", "application/json", account, alice); err != nil {
				t.Fatal(err)
			}
			if err := alice.post(t.Context(), "kept", "this one stays"); err != nil {
				t.Fatal(err)
			}
			enough := make(chan struct{})
			wrote, ended := alice.keepsPosting(t, enough)
			var made []storedBackup
			for range 3 {
				if _, ok := <-wrote; !ok {
					t.Fatal(<-ended)
				}
				out, _, err := portico(t, w.with(w.dir), "backup", "--json", "--to", w.place)
				if err != nil {
					t.Fatal(err)
				}
				var one storedBackup
				if err := encoding.Unmarshal([]byte(out), &one); err != nil {
					t.Fatal(err)
				}
				made = append(made, one)
			}
			<-wrote
			close(enough)
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			last := made[len(made)-1]
			if last.Sent >= last.Manifest.Blobs.Count || last.Manifest.Blobs.Count < made[0].Manifest.Blobs.Count/2 {
				t.Errorf("the last sent %d of %d blobs", last.Sent, last.Manifest.Blobs.Count)
			}
			seen := w.lastEvent(w.dir) // by a consumer that reads along
			stop()
			if err := os.RemoveAll(w.dir); err != nil {
				t.Fatal(err)
			}

			if out, _, err := portico(t, w.environ, "backup", "verify", "--to", w.place); err != nil || !strings.HasSuffix(out, ": all whole\n") {
				t.Errorf("verify: %v, %s", err, out)
			}
			// The other machine has a database of its own.
			for i, v := range w.environ {
				if strings.HasPrefix(v, "PORTICO_DATABASE_URL=") {
					w.environ[i] = "PORTICO_DATABASE_URL=" + dbtest.EmptyPostgresURL(t)
				}
			}
			into := filepath.Join(t.TempDir(), "restored")
			out, _, err := portico(t, w.environ, "restore", "--from", w.place, "--into", into)
			if err != nil || !strings.HasPrefix(out, "Restored snapshot "+last.Manifest.Snapshot+" of localhost to "+into+":\n") {
				t.Fatalf("restore: %v\n%s", err, out)
			}
			s, _ = startFor(t, w.with(into)...)
			alice.url = s.PublicURL.String()
			if now := w.lastEvent(into); now < last.Manifest.Sequence+1_000_000 || now < seen+900_000 {
				t.Errorf("the counter is at %d, was at %d in the backup and at %d on the server that was lost", now, last.Manifest.Sequence, seen)
			}
			if err := alice.post(t.Context(), "later", "after the restore"); err != nil {
				t.Fatal(err)
			}
			if next := nextEvent(t, s.PublicURL, seen); next < seen+900_000 {
				t.Errorf("a consumer that had event %d gets event %d", seen, next)
			}
			if out, _, err := portico(t, append(w.with(into), fmt.Sprint("PDS_PORT=", s.Port)), "repo", "verify", "--all"); err != nil || !strings.HasSuffix(out, ", all whole\n") {
				t.Errorf("repo verify: %v, %s", err, out)
			}
			alice.readsAllBlobs(t, 3, last.Manifest.Blobs.Missing)
			var missing struct{ Blobs []any }
			if err := alice.ask(t.Context(), "repo.listMissingBlobs", "", "", &missing); err != nil || len(missing.Blobs) > 0 {
				t.Errorf("missing blobs: %v, %v", missing, err)
			}
		})
	}
}

// readsAllBlobs reads the blob of each record, of which there are at least some. As many as
// are absent may be those of records that were deleted while the backup was made.
func (p *poster) readsAllBlobs(t *testing.T, least int, absent int64) {
	t.Helper()
	cursor, count := "", 0
	for {
		var page struct {
			Cursor  string
			Records []struct {
				URI   string
				Value struct {
					Blob struct {
						Ref struct {
							Link string `json:"$link"`
						}
						Size int
					}
				}
			}
		}
		if err := p.ask(t.Context(), "repo.listRecords?limit=100&collection=com.example.note&repo="+p.DID+"&cursor="+cursor, "", "", &page); err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Records {
			var text []byte
			if err := p.ask(t.Context(), "sync.getBlob?did="+p.DID+"&cid="+r.Value.Blob.Ref.Link, "", "", &text); err != nil || len(text) != r.Value.Blob.Size {
				// One that was deleted while every copy of the database was made: the backup says so.
				if n, other := strconv.Atoi(path.Base(r.URI)); absent > 0 && other == nil && n%3 == 1 {
					absent--
					continue
				}
				t.Errorf("%s: %q, %v", r.URI, text, err)
			}
			count++
		}
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	if count < least {
		t.Errorf("there are %d records with blobs", count)
	}
}

// With the key of the backup alone a server comes back: its other secrets are in the backup,
// those of its settings too, and in no file there as they are.
func TestRestoreOfSecrets(t *testing.T) {
	w := newWorld(t, false, true)
	const jwt, rotation = "0123456789abcdef0123456789abcdef$x", "5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d01"
	secrets := []string{"PDS_JWT_SECRET=" + jwt, "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=" + rotation}
	_, stop := startFor(t, append(w.with(w.dir), secrets...)...)
	stop()
	out, _, err := portico(t, append(w.with(w.dir), secrets...), "backup", "--to", w.place)
	if err != nil || !strings.Contains(out, "Keep besides, since they are in no backup:\n  PORTICO_BACKUP_KEY (it opens the backup)\n") {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, key := range w.s3.Keys() {
		data, _ := w.s3.Object(key)
		for _, secret := range []string{jwt, rotation, "PORTICO_KEY_ENCRYPTION_KEY"} {
			if bytes.Contains(data, []byte(secret)) {
				t.Errorf("%s has a secret in it", key)
			}
		}
	}
	into := filepath.Join(t.TempDir(), "restored")
	out, _, err = portico(t, w.environ, "restore", "--from", w.place, "--into", into, "--json")
	if err != nil {
		t.Fatal(err)
	}
	var done restored
	if err := encoding.Unmarshal([]byte(out), &done); err != nil || !slices.Equal(done.Settings, []string{"PDS_JWT_SECRET", "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX"}) {
		t.Errorf("%v, %s", err, out)
	}
	file, err := readEnvFile(filepath.Join(into, settingsName))
	if err != nil || len(file.pairs) != 2 || file.pairs[0].value != jwt || file.pairs[1].value != rotation {
		t.Errorf("%v", err)
	}
	if info, err := os.Stat(filepath.Join(into, settingsName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	for _, tt := range []struct {
		name    string
		environ []string
		want    string
	}{
		{"without the key", slices.DeleteFunc(slices.Clone(w.environ), func(v string) bool { return strings.HasPrefix(v, "PORTICO_BACKUP_KEY=") }), "PORTICO_BACKUP_KEY is missing: "},
		{"with another", append(slices.Clone(w.environ), "PORTICO_BACKUP_KEY="+strings.Repeat("ab", 32)), "the snapshot is sealed with "},
		{"with another key-encryption key", append(slices.Clone(w.environ), "PORTICO_KEY_ENCRYPTION_KEY="+strings.Repeat("12", 32)), "PORTICO_KEY_ENCRYPTION_KEY is not the key that this database was sealed with"},
	} {
		other := filepath.Join(t.TempDir(), "other")
		if _, _, err := portico(t, tt.environ, "restore", "--from", w.place, "--into", other); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if entries, err := os.ReadDir(filepath.Dir(other)); err != nil || len(entries) > 0 {
			t.Errorf("%s: it left %v", tt.name, entries)
		}
	}
}

// What is wrong with a backup is said before anything is written.
func TestRestoreRefuses(t *testing.T) {
	w := newWorld(t, false, false)
	s, stop := startFor(t, w.with(w.dir)...)
	alice := &poster{url: s.PublicURL.String()}
	account := `{"handle":"alice.test","email":"alice@example.com","password":"correct-horse"}`
	if err := alice.ask(t.Context(), "server.createAccount", "application/json", account, alice); err != nil {
		t.Fatal(err)
	}
	if err := alice.post(t.Context(), "kept", "this one stays"); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, _, err := portico(t, w.with(w.dir), "backup", "--to", w.place); err != nil {
		t.Fatal(err)
	}
	find := func(pattern string) string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(w.place, pattern))
		if err != nil || len(found) != 1 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		return found[0]
	}
	manifest, database, stored := find("snapshots/*/manifest.json"), find("snapshots/*/database"), find("blobs/*/*")
	change := func(path string, with func([]byte) []byte) (back func()) {
		t.Helper()
		was, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, with(bytes.Clone(was)), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := os.WriteFile(path, was, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	replace := func(old, with string) func([]byte) []byte {
		return func(b []byte) []byte {
			if !bytes.Contains(b, []byte(old)) {
				t.Fatalf("no %s in %s", old, b)
			}
			return bytes.Replace(b, []byte(old), []byte(with), 1)
		}
	}
	for _, tt := range []struct {
		name, file string
		with       func([]byte) []byte
		args       []string
		environ    []string
		want       string // none: it is restored
	}{
		{"a later format", manifest, replace(`"version":1`, `"version":2`), nil, nil, "made by a later version: its format is 2, and this one reads 1"},
		{"a later schema", manifest, replace(`"oldest":"0`, `"oldest":"9`), nil, nil, "its database has seen 0"},
		{"a later schema that says nothing", manifest, func(b []byte) []byte {
			return replace(`"oldest":`, `"said":`)(replace(`"schema":"0`, `"schema":"9`)(b))
		}, nil, nil, "its database has seen 9"},
		{"a later schema that this version works with", manifest, replace(`"schema":"0`, `"schema":"9`), nil, nil, ""},
		{"more than there is room for", manifest, replace(`"database","size":`, `"database","size":99999999`), nil, nil, "there is no room at "},
		{"a database that is cut off", database, func(b []byte) []byte { return b[:len(b)/2] }, nil, nil, "database of snapshot "},
		{"a database with another byte", database, func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, nil, nil, "damaged"},
		{"a blob that is cut off", stored, func(b []byte) []byte { return b[:3] }, nil, nil, "1 of its blobs are not at "},
		{"a blob with another byte", stored, func(b []byte) []byte { b[0] ^= 1; return b }, nil, nil, "is damaged: its bytes are those of another blob"},
		{"a blob that may be missing", stored, func(b []byte) []byte { return b[:3] }, []string{"--accept-missing-blobs"}, nil, ""},
		{"no such snapshot", "", nil, []string{"--snapshot", "20260131T040000Z-aaaaaaaaaa"}, nil, "not in the store"},
		{"a name that leads elsewhere", "", nil, []string{"--snapshot", "../../x"}, nil, "is no name of a snapshot"},
		{"a database of Postgres that is named", "", nil, nil, []string{"PORTICO_DATABASE_URL=postgres://localhost/x", "PORTICO_KEY_ENCRYPTION_KEY=" + testBackupKey}, "the snapshot is of SQLite, and PORTICO_DATABASE_URL is set"},
		{"a key that nothing was sealed with", "", nil, nil, []string{"PORTICO_BACKUP_KEY=" + testBackupKey}, "the snapshot is not sealed"},
		{"a look alone", "", nil, []string{"--dry-run"}, nil, ""},
		{"all as it was", "", nil, nil, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.file != "" {
				defer change(tt.file, tt.with)()
			}
			parent := t.TempDir()
			into := filepath.Join(parent, "restored")
			out, _, err := portico(t, append(slices.Clone(w.environ), tt.environ...), append([]string{"restore", "--from", w.place, "--into", into}, tt.args...)...)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("%v, want %s\n%s", err, tt.want, out)
			}
			entries, err := os.ReadDir(parent)
			if err != nil {
				t.Fatal(err)
			}
			wrote := tt.want == "" && !slices.Contains(tt.args, "--dry-run")
			if wrote != (len(entries) == 1 && entries[0].Name() == "restored") || !wrote && len(entries) > 0 {
				t.Errorf("there is %v", entries)
			}
		})
	}
}

// Backups are made again and again until the command is asked to end, and one that fails is
// made soon after.
func TestBackupEvery(t *testing.T) {
	dir := t.TempDir()
	_, stop := serveIn(t, dir)
	stop()
	state := func(place string) backupState {
		t.Helper()
		places, err := readBackupState(dir)
		if err != nil {
			t.Fatal(err)
		}
		return places[place]
	}
	environ := []string{"PDS_HOSTNAME=localhost", "PDS_DATA_DIRECTORY=" + dir}
	good, bad := filepath.Join(t.TempDir(), "backups"), filepath.Join(t.TempDir(), "occupied")
	if err := os.MkdirAll(filepath.Join(bad, "something"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := portico(t, environ, "backup", "--to", bad); err == nil || !strings.Contains(err.Error(), "has something else in it") {
		t.Errorf("%v", err)
	}
	if got := state(bad); got.LastFailure.IsZero() || got.Error == "" || !got.LastSuccess.IsZero() {
		t.Errorf("state after a failure: %+v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		var out, errs bytes.Buffer
		ended <- newCommand(environ, &out, &errs).Run(ctx, []string{"portico", "backup", "--to", good, "--every", "1h"})
	}()
	for deadline := time.Now().Add(time.Minute); state(good).Snapshot == ""; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no backup was made")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
	if got := state(good); got.LastSuccess.IsZero() || got.Bytes == 0 || state(bad).Error == "" {
		t.Errorf("state: %+v, of the other %+v", got, state(bad))
	}
	for _, args := range [][]string{
		{"--to", good, "--every", "10s"}, {"--to", good, "--every", "x"}, {"--every", "1h", "folder"}, {"--to", good, "folder"}, {"--to", good, "--keep-daily", "-1"},
		{"--keep-daily", "1", "folder"}, {"--to", "s3:bucket"}, {"--to", "s3://bucket?x=y"},
	} {
		if _, _, err := portico(t, append(environ, "PORTICO_BACKUP_KEY="+testBackupKey), append([]string{"backup"}, args...)...); exitStatus(err) != statusUsage {
			t.Errorf("%q: %v", args, err)
		}
	}
}

// The password of the database is on no command line.
func TestLibpqEnviron(t *testing.T) {
	environ := []string{"PATH=/bin", "PGHOST=old", "PDS_JWT_SECRET=x", "PORTICO_BACKUP_KEY=y", "PGSSLMODE=disable"}
	got, err := libpqEnviron("postgres://user:p%40ss@db.example.com:5433/portico?sslmode=verify-full&pool_max_conns=3&application_name=x", environ)
	want := []string{
		"PATH=/bin", "PGHOST=old", "PGSSLMODE=disable", "LC_ALL=C", "PGAPPNAME=portico backup", "PGHOST=db.example.com", "PGPORT=5433", "PGUSER=user",
		"PGPASSWORD=p@ss", "PGDATABASE=portico", "PGSSLMODE=verify-full",
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	got, err = libpqEnviron("postgres://u@/d?host=/run/postgresql", nil)
	if err != nil || !slices.Equal(got[2:], []string{"PGUSER=u", "PGDATABASE=d", "PGHOST=/run/postgresql"}) {
		t.Errorf("%q, %v", got, err)
	}
	got, err = libpqEnviron("postgres://a:1,b:2/d", nil)
	if err != nil || !slices.Equal(got[2:], []string{"PGHOST=a,b", "PGPORT=1,2", "PGDATABASE=d"}) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := libpqEnviron("postgres://u@h/d?search_path=x", nil); err == nil || !strings.Contains(err.Error(), `"search_path"`) {
		t.Errorf("%v", err)
	}
	if _, err := postgresProgram(t.Context(), "pg_dump", 999); err == nil {
		t.Error("a server of the far future is dumped")
	}
}

// inBucket has the blobs of a server in a bucket.
func inBucket(s3 *blobtest.S3) []string {
	return []string{
		"PDS_BLOBSTORE_S3_BUCKET=" + s3.Bucket, "PDS_BLOBSTORE_S3_ENDPOINT=" + s3.URL, "PDS_BLOBSTORE_S3_REGION=here", "PDS_BLOBSTORE_S3_FORCE_PATH_STYLE=true",
		"PDS_BLOBSTORE_S3_ACCESS_KEY_ID=id", "PDS_BLOBSTORE_S3_SECRET_ACCESS_KEY=secret",
	}
}

// With all settings of a server that runs neither a restore nor the server on what was
// restored takes anything out of its bucket.
func TestRestoreWithTheBucketOfTheServer(t *testing.T) {
	w := newWorld(t, false, false)
	live := blobtest.StartS3(t)
	w.environ = append(w.environ, inBucket(live)...)
	s, stop := startFor(t, w.with(w.dir)...)
	alice := &poster{url: s.PublicURL.String()}
	account := `{"handle":"alice.test","email":"alice@example.com","password":"correct-horse"}`
	if err := alice.ask(t.Context(), "server.createAccount", "application/json", account, alice); err != nil {
		t.Fatal(err)
	}
	if err := alice.post(t.Context(), "kept", "kept"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := portico(t, w.with(w.dir), "backup", "--to", w.place); err != nil {
		t.Fatal(err)
	}
	if err := alice.post(t.Context(), "since", "since"); err != nil {
		t.Fatal(err)
	}
	stop() // so that only the restore may change something
	var changes atomic.Int64
	live.Fail = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			changes.Add(1)
		}
		return false
	}
	into := filepath.Join(t.TempDir(), "restored")
	for _, more := range []string{"--dry-run", "--accept-missing-blobs"} {
		_, _, err := portico(t, w.with(w.dir), "restore", "--from", w.place, "--into", into, more)
		if err == nil || !strings.Contains(err.Error(), "the bucket blobs of PDS_BLOBSTORE_S3_BUCKET has blobs") || exists(into) || changes.Load() > 0 {
			t.Errorf("into a bucket in use: %v, %d changes", err, changes.Load())
		}
	}
	if _, _, err := portico(t, w.with(w.dir), "restore", "--from", w.place, "--into", into, "--into-bucket"); err != nil || changes.Load() == 0 {
		t.Fatalf("%v, %d changes", err, changes.Load())
	}

	store, err := db.Open(t.Context(), db.Config{Dir: into, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	made, err := store.StartedOnBackup(t.Context())
	if err != nil || made.IsZero() {
		t.Fatal(made, err)
	}
	opened := func(environ ...string) (*rows.Blobs, string) {
		t.Helper()
		c := configuration{Environ: append([]string{"PDS_HOSTNAME=localhost", "PDS_DATA_DIRECTORY=" + into}, environ...), Rand: rand.Reader, Now: time.Now}
		s, err := c.read()
		if err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		blobs, err := openBlobs(t.Context(), s, nil, store, slog.New(slog.NewTextHandler(&said, nil)))
		if err != nil {
			t.Fatal(err)
		}
		blobs.Now = func() time.Time { return time.Now().Add(2 * time.Hour) }
		return blobs, said.String()
	}
	since, elsewhere := made.Format(time.RFC3339), t.TempDir()
	for _, tt := range []struct {
		environ []string
		known   time.Time
	}{
		{nil, time.Time{}},
		{[]string{"PDS_BLOBSTORE_DISK_LOCATION=" + filepath.Join(into, "blobs")}, time.Time{}},
		{[]string{"PDS_BLOBSTORE_DISK_LOCATION=" + elsewhere}, made},
		{[]string{"PDS_BLOBSTORE_DISK_TMP_LOCATION=" + elsewhere}, made},
		{[]string{"PDS_BLOBSTORE_DISK_LOCATION=" + elsewhere, "PORTICO_BLOBSTORE_OWN_SINCE=" + since}, time.Time{}},
		{append(inBucket(live), "PORTICO_BLOBSTORE_OWN_SINCE=2020-01-31T04:00:00Z"), made},
	} {
		blobs, said := opened(tt.environ...)
		if !blobs.Known.Equal(tt.known) || strings.Contains(said, "PORTICO_BLOBSTORE_OWN_SINCE="+since) == tt.known.IsZero() {
			t.Errorf("%q: known until %v, want %v; it says %s", tt.environ, blobs.Known, tt.known, said)
		}
	}
	before := live.Keys()
	blobs, _ := opened(inBucket(live)...)
	if report, err := blobs.Cleaner().Run(t.Context()); err != nil || report != (blob.Report{}) || !slices.Equal(live.Keys(), before) {
		t.Errorf("the restored server removes %+v of the bucket, %v", report, err)
	}
	blobs, _ = opened(append(inBucket(live), "PORTICO_BLOBSTORE_OWN_SINCE="+since)...)
	if report, err := blobs.Cleaner().Run(t.Context()); err != nil || report != (blob.Report{Spare: 1, Bytes: int64(len("since"))}) {
		t.Errorf("with the bucket for itself it removes %+v, %v", report, err)
	}
}

// A restore that is interrupted once the database is filled says so, and events of a server
// that is started on it all the same have numbers of their own.
func TestRestoreInterruptedAfterCommit(t *testing.T) {
	w := newWorld(t, true, false)
	_, stop := startFor(t, w.with(w.dir)...)
	stop()
	if _, _, err := portico(t, w.with(w.dir), "backup", "--to", w.place); err != nil {
		t.Fatal(err)
	}
	program, err := postgresProgram(t.Context(), "pg_restore", 1)
	if err != nil {
		t.Fatal(err)
	}
	// One that has done its work, and does not end.
	dir, into, fresh := t.TempDir(), filepath.Join(t.TempDir(), "restored"), dbtest.EmptyPostgresURL(t)
	done := filepath.Join(dir, "done")
	script := fmt.Sprintf("#!/bin/sh\n%[1]s \"$@\" || exit\ncase $1 in --version) exit;; esac\n: > %[2]s\nexec tail -f /dev/null\n", program, done)
	if err := os.WriteFile(filepath.Join(dir, "pg_restore"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		var out, errs bytes.Buffer
		environ := append(slices.Clone(w.environ), "PORTICO_DATABASE_URL="+fresh)
		ended <- newCommand(environ, &out, &errs).Run(ctx, []string{"portico", "restore", "--from", w.place, "--into", into})
	}()
	for deadline := time.Now().Add(time.Minute); !exists(done); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing was restored")
		}
	}
	cancel()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "the database of PORTICO_DATABASE_URL is filled") || strings.Contains(err.Error(), "nothing was restored") || exists(into) {
		t.Errorf("%v", err)
	}
	store, err := db.Open(t.Context(), db.Config{URL: fresh, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if last, err := store.LastEvent(t.Context()); err != nil || last < 1_000_000 {
		t.Errorf("the last event is %d, %v", last, err)
	}
}

// Whatever fails once there is a snapshot, the backup is told and noted as made.
func TestBackupWithALateFailure(t *testing.T) {
	for _, name := range []string{"asked to end", "the lease stays"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, false, true)
			_, stop := startFor(t, w.with(w.dir)...)
			stop()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var made atomic.Bool
			w.s3.Fail = func(rw http.ResponseWriter, r *http.Request) bool {
				if slices.ContainsFunc(w.s3.Keys(), func(key string) bool { return strings.HasSuffix(key, "/manifest.json") }) {
					made.Store(true)
				} else {
					return false
				}
				if name == "asked to end" {
					cancel()
					return false
				}
				if r.Method == http.MethodDelete && strings.HasSuffix(r.URL.Path, "/lease.json") {
					rw.WriteHeader(http.StatusForbidden)
					return true
				}
				return false
			}
			var out, errs bytes.Buffer
			err := newCommand(w.with(w.dir), &out, &errs).Run(ctx, []string{"portico", "backup", "--to", w.place, "--keep-hourly", "1"})
			if err != nil || !made.Load() || !strings.Contains(out.String(), "\nBeside that something failed: ") {
				t.Errorf("%v\n%s", err, &out)
			}
			places, err := readBackupState(w.dir)
			if got := places[w.place]; err != nil || got.LastSuccess.IsZero() || got.Snapshot == "" || !got.LastFailure.IsZero() {
				t.Errorf("noted: %+v, %v", got, err)
			}
		})
	}
}

// Blobs in a bucket are backed up, and come back into a bucket; one that is taken down is so
// afterwards, and comes back when it is lifted.
func TestRestoreOfBlobsInABucket(t *testing.T) {
	for _, to := range []string{"bucket", "folder"} {
		t.Run("to a "+to, func(t *testing.T) {
			w := newWorld(t, false, true)
			old, fresh := blobtest.StartS3(t), blobtest.StartS3(t)
			const password = "9b1a2c63e7d84f50"
			w.environ = append(w.environ, "PDS_ADMIN_PASSWORD="+password)
			s, stop := startFor(t, append(w.with(w.dir), inBucket(old)...)...)
			alice := &poster{url: s.PublicURL.String()}
			account := `{"handle":"alice.test","email":"alice@example.com","password":"correct-horse"}`
			if err := alice.ask(t.Context(), "server.createAccount", "application/json", account, alice); err != nil {
				t.Fatal(err)
			}
			cids := map[string]string{}
			for _, text := range []string{"good", "bad"} {
				if err := alice.post(t.Context(), text, text); err != nil {
					t.Fatal(err)
				}
				cids[text] = dagcbor.Sum(dagcbor.CodecRaw, []byte(text)).String()
			}
			takedown := func(applied bool) {
				t.Helper()
				body := fmt.Sprintf(`{"subject":{"$type":"com.atproto.admin.defs#repoBlobRef","did":%q,"cid":%q},"takedown":{"applied":%v}}`, alice.DID, cids["bad"], applied)
				request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, alice.url+"/xrpc/com.atproto.admin.updateSubjectStatus", strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Content-Type", "application/json")
				request.SetBasicAuth("admin", password)
				answer, err := http.DefaultClient.Do(request)
				if err != nil || answer.StatusCode != http.StatusOK {
					t.Fatal(answer, err)
				}
				answer.Body.Close()
			}
			read := func(text string) bool {
				var got []byte
				err := alice.ask(t.Context(), "sync.getBlob?did="+alice.DID+"&cid="+cids[text], "", "", &got)
				return err == nil && string(got) == text
			}
			takedown(true)
			out, _, err := portico(t, append(w.with(w.dir), inBucket(old)...), "backup", "--to", w.place, "--json")
			if err != nil {
				t.Fatal(err)
			}
			var made storedBackup
			if err := encoding.Unmarshal([]byte(out), &made); err != nil || made.Manifest.Blobs.Count != 2 || made.Manifest.Blobs.Missing != 0 || made.Sent != 2 {
				t.Errorf("%v, %s", err, out)
			}
			without, _, err := portico(t, append(w.with(w.dir), inBucket(old)...), "backup", "--to", filepath.Join(t.TempDir(), "other"), "--without-blobs")
			if err != nil || !strings.Contains(without, "\nIts blobs are not there, but in the bucket blobs.\n") {
				t.Errorf("%v, %s", err, without)
			}
			stop()
			environ := append(slices.Clone(w.environ), "PDS_HOSTNAME=localhost")
			if to == "bucket" {
				environ = append(environ, inBucket(fresh)...)
			}
			into := filepath.Join(t.TempDir(), "restored")
			if _, _, err := portico(t, environ, "restore", "--from", w.place, "--into", into); err != nil {
				t.Fatal(err)
			}
			if exists(filepath.Join(into, blobsName)) != (to == "folder") || (len(fresh.Keys()) == 2) != (to == "bucket") {
				t.Errorf("the bucket has %v", fresh.Keys())
			}
			s, _ = startFor(t, append(environ, "PDS_DATA_DIRECTORY="+into)...)
			alice.url = s.PublicURL.String()
			if !read("good") || read("bad") {
				t.Error("the wrong blobs are served")
			}
			takedown(false)
			if !read("bad") {
				t.Error("the blob whose takedown was lifted is not served")
			}
		})
	}
}

func TestBackupSettings(t *testing.T) {
	for _, tt := range []struct {
		environ []string
		want    string // none: they are good
	}{
		{[]string{"PORTICO_BACKUP_KEY=" + testBackupKey}, ""},
		{[]string{"PORTICO_BACKUP_KEY=sesame"}, "PORTICO_BACKUP_KEY is not 32 bytes in hex"},
		{[]string{"PORTICO_BACKUP_S3_ENDPOINT=http://localhost:9000", "PORTICO_BACKUP_S3_ACCESS_KEY_ID=id", "PORTICO_BACKUP_S3_SECRET_ACCESS_KEY=x"}, ""},
		{[]string{"PORTICO_BACKUP_S3_ENDPOINT=localhost:9000"}, "PORTICO_BACKUP_S3_ENDPOINT can't be used: "},
		{[]string{"PORTICO_BACKUP_S3_ACCESS_KEY_ID=id"}, "PORTICO_BACKUP_S3_SECRET_ACCESS_KEY is missing: the two access keys go together"},
		{[]string{"PORTICO_BACKUP_S3_SECRET_ACCESS_KEY=x"}, "PORTICO_BACKUP_S3_ACCESS_KEY_ID is missing: the two access keys go together"},
		{[]string{"PORTICO_BACKUP_KEY=" + testBackupKey, "PORTICO_KEY_ENCRYPTION_KEY=" + testBackupKey}, "PORTICO_BACKUP_KEY must differ from PORTICO_KEY_ENCRYPTION_KEY"},
	} {
		c := configuration{Environ: append(tt.environ, "PDS_HOSTNAME=localhost"), Rand: rand.Reader, Now: time.Now}
		_, err := c.read()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %s", tt.environ, err, tt.want)
		}
	}
}
