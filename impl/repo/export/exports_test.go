package export_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/repo"
	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/export"
	"portico/impl/repo/tree"
)

const somebody = syntax.DID("did:plc:tfoc4jg4ai6vr2nbwlmwdzq2")

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// seed makes an account with n records, the values of which have size bytes each. It
// returns how many bytes an archive of it has.
func seed(t testing.TB, d *db.DB, n, size int) int64 {
	t.Helper()
	ctx := t.Context()
	key, err := atcrypto.GeneratePrivateKeyK256()
	check(t, err)
	rev := syntax.NewTIDFromTime(noon, 0)
	text := strings.Repeat("x", size)
	sum := countingWriter(0)
	archive, err := car.NewWriter(&sum, dagcbor.CID{})
	check(t, err)
	sum = 59 // the header with its root
	check(t, d.Write(ctx, func(tx *db.Tx) error {
		account := db.Account{DID: somebody, Handle: "alice.test", CreatedAt: noon}
		signing := db.SigningKey{DID: somebody, Purpose: "atproto", Public: "did:key:z", Sealed: []byte("sealed")}
		return errors.Join(
			tx.ReserveAccount(ctx, db.Reservation{Account: account, Key: signing, Genesis: []byte("{}"), Holder: "me", LeaseUntil: noon}),
			tx.FinishAccount(ctx, somebody, "me"))
	}))
	var nodes []db.Node
	b := tree.Builder{Emit: func(r tree.Row) error {
		nodes = append(nodes, db.Node{Low: r.Place.Low, Layer: r.Place.Layer, CID: r.CID[:], Rev: rev.String(), Data: r.Data})
		return archive.Write(car.Block{CID: r.CID, Data: r.Data})
	}}
	for first := 0; first < n; first += 5000 {
		var records []db.Record
		for i := first; i < min(n, first+5000); i++ {
			data, err := dagcbor.Marshal(map[string]any{"$type": "com.example.post", "number": i, "text": text})
			check(t, err)
			name := dagcbor.Sum(dagcbor.CodecDAGCBOR, data)
			path := fmt.Sprintf("com.example.post/%09d", i)
			check(t, b.Add(path, name))
			check(t, archive.Write(car.Block{CID: name, Data: data}))
			records = append(records, db.Record{Path: path, CID: name[:], Rev: rev.String(), IndexedAt: noon, Value: data})
		}
		check(t, d.Write(ctx, func(tx *db.Tx) error { return tx.PutRecords(ctx, somebody, records...) }))
	}
	root, err := b.Root()
	check(t, err)
	signed, err := repo.Sign(somebody, key, rev, root.CID)
	check(t, err)
	check(t, archive.Write(signed.Commit))
	check(t, d.Write(ctx, func(tx *db.Tx) error {
		for _, n := range nodes {
			if err := tx.PutNode(ctx, somebody, n); err != nil {
				return err
			}
		}
		return tx.InsertRepo(ctx, somebody, db.Repo{
			CommitCID: signed.Commit.CID[:], CommitBlock: signed.Commit.Data, Rev: rev.String(),
			DataCID: root.CID[:], Layer: root.Layer, Nodes: b.Nodes, Records: b.Records,
		})
	}))
	return int64(sum)
}

type countingWriter int64

func (c *countingWriter) Write(p []byte) (int, error) {
	*c += countingWriter(len(p))
	return len(p), nil
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func whole(ctx context.Context, s *db.Snapshot, w io.Writer) error {
	return export.Archive(ctx, s, somebody, "", w)
}

// Clients who read slowly, or not at all, keep no connection of the database; what they
// did not fetch yet is in files that have no names, and goes with them.
func TestSlowClientsHoldNoConnection(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		size := seed(t, d, 1000, 700)
		dir := t.TempDir()
		e := export.New(d, dir, export.Bounds{Memory: 5 << 20})
		var clients []io.ReadCloser
		for n := range 100 {
			r, err := e.Open(t.Context(), fmt.Sprint("address ", n%10), whole)
			check(t, err)
			_, err = io.ReadFull(r, make([]byte, 1000))
			check(t, err)
			clients = append(clients, r)
		}
		// All of them have been read from the database, and all its connections are free.
		e.Idle()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		var together sync.WaitGroup
		var entered atomic.Int32
		all := make(chan struct{})
		for range 4 {
			together.Go(func() {
				err := d.Snapshot(ctx, func(s *db.Snapshot) error {
					if entered.Add(1) == 4 {
						close(all)
					}
					select {
					case <-all:
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		together.Wait()
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("files: %v, %v", left, err)
		}
		archives, bytes, memory := e.Kept()
		if archives != 100 || bytes < 100*size || memory > 5<<20 {
			t.Errorf("%d archives, %d bytes, %d of them in memory", archives, bytes, memory)
		}
		for n, r := range clients {
			if n%2 == 0 { // the others go
				got, err := io.Copy(io.Discard, r)
				if err != nil || got+1000 != size {
					t.Errorf("%d of %d bytes, %v", got+1000, size, err)
				}
			}
			check(t, r.Close())
			check(t, r.Close())
		}
		if archives, bytes, memory := e.Kept(); archives != 0 || bytes != 0 || memory != 0 {
			t.Errorf("left: %d archives, %d bytes, %d of memory", archives, bytes, memory)
		}
	})
}

// What goes through memory, through the file, and through both, is the same, however it
// is read; it is of one state, whatever is written meanwhile.
func TestArchiveIsOfOneState(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		seed(t, d, 3000, 200)
		read := func(e *export.Exports, write export.Writer, step int) []byte {
			t.Helper()
			r, err := e.Open(t.Context(), "address", write)
			check(t, err)
			defer r.Close()
			var all bytes.Buffer
			_, err = io.CopyBuffer(struct{ io.Writer }{&all}, r, make([]byte, step))
			check(t, err)
			return all.Bytes()
		}
		inMemory, inFile := export.New(d, t.TempDir(), export.Bounds{}), export.New(d, t.TempDir(), export.Bounds{Memory: 1})
		want := read(inMemory, whole, 1<<20)
		slowly := func(ctx context.Context, s *db.Snapshot, w io.Writer) error {
			n := 0
			return export.Archive(ctx, s, somebody, "", writerFunc(func(p []byte) (int, error) {
				if n++; n == 10 {
					if err := d.Write(ctx, func(tx *db.Tx) error {
						return errors.Join(tx.DeleteAllRecords(ctx, somebody), tx.DeleteNodes(ctx, somebody), tx.DeleteRepo(ctx, somebody))
					}); err != nil {
						return 0, err
					}
				}
				return w.Write(p)
			}))
		}
		for name, got := range map[string][]byte{
			"in a file": read(inFile, whole, 1000), "byte by byte": read(inMemory, whole, 77), "while all is deleted": read(inFile, slowly, 4096),
		} {
			if !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes, not the %d", name, len(got), len(want))
			}
		}
		if _, err := inFile.Open(t.Context(), "address", whole); !errors.Is(err, db.ErrNotFound) {
			t.Errorf("of nothing: %v", err)
		}
		if archives, bytes, memory := inFile.Kept(); archives != 0 || bytes != 0 || memory != 0 {
			t.Errorf("left: %d archives, %d bytes, %d of memory", archives, bytes, memory)
		}
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// An address has no more than its share, and all together no more than there is; who is
// over it hears so, and who leaves makes room.
func TestExportsAreBounded(t *testing.T) {
	d := dbtest.Open(t)
	size := seed(t, d, 200, 1000)
	open := func(e *export.Exports, address string) io.Closer {
		t.Helper()
		r, err := e.OpenWhole(t.Context(), address, whole)
		check(t, err)
		return r
	}
	refused := func(e *export.Exports, address string, want error) {
		t.Helper()
		if _, err := e.Open(t.Context(), address, whole); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", address, err, want)
		}
	}
	for name, b := range map[string]export.Bounds{
		"in number": {PerAddress: 2, Archives: 3},
		"in bytes":  {BytesPerAddress: size + 100_000, Bytes: 2*size + 200_000},
	} {
		t.Run(name, func(t *testing.T) {
			e := export.New(d, t.TempDir(), b)
			one, two := open(e, "a"), open(e, "a")
			refused(e, "a", export.ErrGreedy)
			three := open(e, "b")
			refused(e, "c", export.ErrBusy)
			one.Close()
			two.Close()
			open(e, "a").Close()
			three.Close()
			open(e, "c").Close()
			if archives, bytes, memory := e.Kept(); archives != 0 || bytes != 0 || memory != 0 {
				t.Errorf("left: %d archives, %d bytes, %d of memory", archives, bytes, memory)
			}
		})
	}
	t.Run("in bytes, while others wait", func(t *testing.T) {
		b := export.Bounds{Readers: 1, BytesPerAddress: 3 * size, Bytes: 3 * size}
		for address, want := range map[string]error{"a": export.ErrGreedy, "b": export.ErrBusy} {
			e := export.New(d, t.TempDir(), b)
			r, err := e.Open(t.Context(), "a", func(_ context.Context, _ *db.Snapshot, w io.Writer) error {
				_, err := w.Write([]byte("x"))
				for archives := 0; archives < 2; archives, _, _ = e.Kept() {
					runtime.Gosched()
				}
				_, more := w.Write(make([]byte, 3*size))
				return errors.Join(err, more)
			})
			check(t, err)
			refused(e, address, want)
			check(t, r.Close())
			e.Idle()
			open(e, address).Close()
		}
	})
	t.Run("in readers", func(t *testing.T) {
		e := export.New(d, t.TempDir(), export.Bounds{Readers: 2, Wait: time.Millisecond})
		stop := make(chan struct{})
		stuck := func(ctx context.Context, s *db.Snapshot, w io.Writer) error {
			_, err := w.Write([]byte("x"))
			<-stop
			return err
		}
		for _, address := range []string{"a", "b"} {
			r, err := e.Open(t.Context(), address, stuck)
			check(t, err)
			defer r.Close()
		}
		refused(e, "a", export.ErrGreedy)
		refused(e, "c", export.ErrBusy)
		close(stop)
		e.Idle()
		open(e, "a").Close()
	})
}

// A client who goes ends the reading for it.
func TestClientThatGoes(t *testing.T) {
	d := dbtest.Open(t)
	seed(t, d, 10, 10)
	e := export.New(d, t.TempDir(), export.Bounds{})
	ended := make(chan error, 1)
	r, err := e.Open(t.Context(), "a", func(ctx context.Context, s *db.Snapshot, w io.Writer) error {
		var err error
		for err == nil {
			_, err = w.Write(make([]byte, 10_000))
		}
		ended <- err
		return err
	})
	check(t, err)
	check(t, r.Close())
	if err := <-ended; err == nil {
		t.Error("no error")
	}
	e.Idle()
	if archives, bytes, memory := e.Kept(); archives != 0 || bytes != 0 || memory != 0 {
		t.Errorf("left: %d archives, %d bytes, %d of memory", archives, bytes, memory)
	}
}

// An error after the beginning is one of reading: no client takes the part for the whole.
func TestErrorInTheMiddle(t *testing.T) {
	d := dbtest.Open(t)
	e := export.New(d, t.TempDir(), export.Bounds{})
	broken := errors.New("broken")
	write := func(_ context.Context, _ *db.Snapshot, w io.Writer) error {
		_, err := w.Write([]byte("begin"))
		return errors.Join(err, broken)
	}
	r, err := e.Open(t.Context(), "a", write)
	check(t, err)
	defer r.Close()
	if got, err := io.ReadAll(r); string(got) != "begin" || !errors.Is(err, broken) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := e.OpenWhole(t.Context(), "a", write); !errors.Is(err, broken) {
		t.Errorf("the whole: %v", err)
	}
	missing := export.New(d, "/no/such/folder", export.Bounds{Memory: 1})
	if r, err := missing.Open(t.Context(), "a", func(_ context.Context, _ *db.Snapshot, w io.Writer) error {
		_, err := w.Write(make([]byte, 200_000))
		return err
	}); err == nil {
		_, err = io.ReadAll(r)
		r.Close()
		if err == nil {
			t.Error("no error without a folder")
		}
	}
}

// Memory stays flat when an archive is large, and its first byte comes before the rest is
// read. The repository of the second has 100,000 records.
func TestLargeArchive(t *testing.T) {
	d := dbtest.Open(t)
	const records = 100_000
	size := seed(t, d, records, 100)
	e := export.New(d, t.TempDir(), export.Bounds{})
	runtime.GC()
	var before, after, peak runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	r, err := e.Open(t.Context(), "a", whole)
	check(t, err)
	defer r.Close()
	_, err = io.ReadFull(r, make([]byte, 1))
	check(t, err)
	first := time.Since(start)
	n := int64(1)
	buf := make([]byte, 32<<10)
	for step := 0; ; step++ {
		got, err := r.Read(buf)
		n += int64(got)
		if step%100 == 0 {
			runtime.ReadMemStats(&after)
			peak.HeapInuse = max(peak.HeapInuse, after.HeapInuse)
		}
		if err == io.EOF {
			break
		}
		check(t, err)
	}
	t.Logf("%d bytes; first byte after %v, all after %v; heap in use %d kB before, at most %d kB", n, first, time.Since(start), before.HeapInuse>>10, peak.HeapInuse>>10)
	if n != size {
		t.Errorf("%d bytes, want %d", n, size)
	}
	if grown := int64(peak.HeapInuse) - int64(before.HeapInuse); grown > 24<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}

// BenchmarkArchive is what one archive of 1,000 records (320 kB) costs, of a database on
// the disk, without the network.
func BenchmarkArchive(b *testing.B) {
	d := dbtest.Open(b)
	size := seed(b, d, 1000, 130)
	e := export.New(d, b.TempDir(), export.Bounds{})
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		r, err := e.Open(b.Context(), "a", whole)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, r); err != nil || n != size {
			b.Fatal(n, err)
		}
		r.Close()
	}
}

// While a hundred clients read slowly, SQLite's log does not grow: what is written is
// moved into the database as ever.
func TestSlowClientsDoNotKeepTheLog(t *testing.T) {
	dir := t.TempDir()
	d, err := db.Open(t.Context(), db.Config{Dir: dir, Synchronous: "OFF"})
	check(t, err)
	defer d.Close()
	seed(t, d, 1000, 300)
	e := export.New(d, t.TempDir(), export.Bounds{})
	for n := range 100 {
		r, err := e.Open(t.Context(), fmt.Sprint("address ", n%10), whole)
		check(t, err)
		defer r.Close()
		_, err = io.ReadFull(r, make([]byte, 1000))
		check(t, err)
	}
	e.Idle()
	record := db.Record{Path: "com.example.post/x", CID: make([]byte, 36), Rev: "3zzzzzzzzzzzz", IndexedAt: noon, Value: make([]byte, 100_000)}
	for range 300 { // 30 MB
		check(t, d.Write(t.Context(), func(tx *db.Tx) error { return tx.PutRecords(t.Context(), somebody, record) }))
	}
	// SQLite moves it from 2,000 pages (8 MB) on.
	log, err := os.Stat(dir + "/portico.sqlite-wal")
	check(t, err)
	if log.Size() > 12<<20 {
		t.Errorf("the log has %d bytes", log.Size())
	}
}
