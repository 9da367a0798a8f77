package importer_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/repo"
	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/importer"
	"portico/impl/repo/store"
	"portico/impl/repo/tree"
)

var records = flag.Int("records", 20_000, "how many records the largest repository has")

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// A place is a database with accounts that are off, and an importer of it.
type place struct {
	testing.TB
	*importer.Importer
	key atcrypto.PrivateKey
}

func newPlace(t testing.TB, d *db.DB, dids ...syntax.DID) *place {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	p := &place{t, &importer.Importer{DB: d, Dir: t.TempDir(), Now: func() time.Time { return noon }}, key}
	p.Finish = func(ctx context.Context, tx *db.Tx, did syntax.DID, _ time.Time, i importer.Imported) error {
		row, err := tx.LockRepo(ctx, did)
		if err != nil {
			return err
		}
		before := row.CommitCID
		row.CommitCID, row.CommitBlock, row.Rev = i.Commit.CID[:], i.Commit.Data, i.Rev.String()
		row.DataCID, row.Layer, row.Nodes, row.Records = i.Root.CID[:], i.Root.Layer, i.Nodes, i.Records
		return tx.UpdateRepo(ctx, did, *row, before)
	}
	for _, did := range dids {
		genesis, err := repo.Genesis(did, key, noon.Add(-time.Hour))
		p.check(err)
		account := db.Account{DID: did, Handle: syntax.Handle(did.Identifier() + ".test"), CreatedAt: noon, DeactivatedAt: new(noon)}
		p.check(d.Write(t.Context(), func(tx *db.Tx) error {
			signing := db.SigningKey{DID: did, Purpose: "atproto", Public: "did:key:z", Sealed: []byte("sealed")}
			return errors.Join(
				tx.ReserveAccount(t.Context(), db.Reservation{Account: account, Key: signing, Holder: "me", LeaseUntil: noon}),
				tx.FinishAccount(t.Context(), did, "me"), store.Create(t.Context(), tx, did, genesis))
		}))
	}
	return p
}

func (p *place) check(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// imports is check of an import that leaves no blob behind.
func (p *place) imports(lost []db.Blob, err error) {
	p.Helper()
	p.check(err)
	if len(lost) > 0 {
		p.Errorf("lost %d blobs", len(lost))
	}
}

// archive is a repository of n records of about a thousand bytes. It is never in memory.
func (p *place) archive(did syntax.DID, n int) io.Reader {
	p.Helper()
	body, err := os.CreateTemp(p.TempDir(), "")
	p.check(err)
	p.Cleanup(func() { body.Close() })
	w, err := car.NewWriter(io.Discard)
	p.check(err)
	var root dagcbor.CID
	write := func(b car.Block) {
		var part bytes.Buffer
		w, _ = car.NewWriter(&part)
		part.Reset()
		p.check(w.Write(b))
		_, err := body.Write(part.Bytes())
		p.check(err)
	}
	builder := tree.Builder{Emit: func(r tree.Row) error {
		root = r.CID
		write(car.Block{CID: r.CID, Data: r.Data})
		return nil
	}}
	filler := strings.Repeat("x", 900)
	for i := range n {
		data, err := dagcbor.Marshal(map[string]any{"$type": "app.bsky.feed.post", "text": fmt.Sprint(i, filler)})
		p.check(err)
		b := car.Block{CID: dagcbor.Sum(dagcbor.CodecDAGCBOR, data), Data: data}
		write(b)
		p.check(builder.Add(fmt.Sprintf("app.bsky.feed.post/3k%09d", i), b.CID))
	}
	top, err := builder.Root()
	p.check(err)
	root = top.CID
	signed, err := repo.Sign(did, p.key, syntax.NewTIDFromTime(noon.Add(-time.Minute), 0), root)
	p.check(err)
	_, err = body.Seek(0, io.SeekStart)
	p.check(err)
	return io.MultiReader(bytes.NewReader(car.Marshal(signed.Commit.CID, signed.Commit)), body)
}

// What an import holds in memory does not depend on how long the archive is.
func TestMemoryOfAnImport(t *testing.T) {
	const did = syntax.DID("did:web:alice.example")
	p := newPlace(t, dbtest.Open(t), did)
	archive := p.archive(did, *records)
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	most, done := uint64(0), make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(10 * time.Millisecond):
				runtime.ReadMemStats(&now)
				most = max(most, now.HeapAlloc)
			}
		}
	})
	began := time.Now()
	p.imports(p.Import(t.Context(), did, archive))
	t.Logf("%d records in %v", *records, time.Since(began))
	close(done)
	watch.Wait()
	row, err := p.DB.Repo(t.Context(), did)
	p.check(err)
	if row.Records != *records {
		t.Errorf("%d records", row.Records)
	}
	held := most - min(most, before.HeapAlloc)
	t.Logf("%d bytes held at most", held)
	if held > 64<<20 {
		t.Errorf("%d bytes held at most", held)
	}
}

// slow is an archive that does not come before it is let to.
type slow struct {
	io.Reader
	asked, let chan struct{}
	once       sync.Once
}

func (s *slow) Read(b []byte) (int, error) {
	s.once.Do(func() { close(s.asked); <-s.let })
	return s.Reader.Read(b)
}

// Imports of one account come one after the other, those of others beside them, and there
// are not more than there may be.
func TestImportsAtOnce(t *testing.T) {
	const alice, bob, carol = syntax.DID("did:web:alice.example"), syntax.DID("did:web:bob.example"), syntax.DID("did:web:carol.example")
	p := newPlace(t, dbtest.Open(t), alice, bob, carol)
	p.Bounds = importer.Bounds{Imports: 3, PerAccount: 2}
	start := func(did syntax.DID, n int) (*slow, <-chan error) {
		s := &slow{Reader: p.archive(did, n), asked: make(chan struct{}), let: make(chan struct{})}
		result := make(chan error, 1)
		go func() {
			_, err := p.Import(t.Context(), did, s)
			result <- err
		}()
		return s, result
	}
	first, firstDone := start(alice, 10)
	<-first.asked
	second, secondDone := start(alice, 20)
	for p.Waiting(alice) < 2 {
		runtime.Gosched()
	}
	if _, err := p.Import(t.Context(), alice, p.archive(alice, 1)); !errors.Is(err, importer.ErrBusy) {
		t.Errorf("a third import of an account: %v", err)
	}
	other, otherDone := start(bob, 5)
	<-other.asked
	if _, err := p.Import(t.Context(), carol, p.archive(carol, 1)); !errors.Is(err, importer.ErrBusy) {
		t.Errorf("a fourth import: %v", err)
	}
	close(other.let)
	p.check(<-otherDone)
	select {
	case <-second.asked:
		t.Error("two imports of one account at a time")
	default:
	}
	close(first.let)
	p.check(<-firstDone)
	<-second.asked
	close(second.let)
	p.check(<-secondDone)
	for did, want := range map[syntax.DID]int{alice: 20, bob: 5, carol: 0} {
		row, err := p.DB.Repo(t.Context(), did)
		p.check(err)
		if row.Records != want {
			t.Errorf("%s has %d records, want %d", did, row.Records, want)
		}
	}
	// What one account sends is no more than half of what all may.
	p.Bounds.Bytes = 20_000
	if _, err := p.Import(t.Context(), carol, p.archive(carol, 11)); !errors.Is(err, importer.ErrBusy) {
		t.Errorf("more than may be: %v", err)
	}
	p.imports(p.Import(t.Context(), carol, p.archive(carol, 5)))
}

// A commit that comes while an archive is looked at is not lost, and the import is made
// after it.
func TestImportMeetsACommit(t *testing.T) {
	const did = syntax.DID("did:web:alice.example")
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		p := newPlace(t, d, did)
		commits := 0
		p.Now = func() time.Time {
			if commits++; commits == 2 { // the commit of the archive was read, and the row of the repository
				p.check(d.Write(t.Context(), func(tx *db.Tx) error {
					data, err := dagcbor.Marshal(map[string]any{"text": "meanwhile"})
					p.check(err)
					_, err = store.Commit(t.Context(), tx, did, p.key, noon, nil, []tree.Write{{
						Action: tree.Create, Path: "app.bsky.feed.post/self",
						Record: car.Block{CID: dagcbor.Sum(dagcbor.CodecDAGCBOR, data), Data: data},
					}})
					return err
				}))
			}
			return noon
		}
		p.imports(p.Import(t.Context(), did, p.archive(did, 30)))
		nodes, err := d.Nodes(t.Context(), did, nil, 1000)
		p.check(err)
		row, err := d.Repo(t.Context(), did)
		p.check(err)
		if row.Records != 30 || row.Nodes != len(nodes) || commits != 3 {
			t.Errorf("%d records, %d nodes, %d stored, looked %d times", row.Records, row.Nodes, len(nodes), commits)
		}
	})
}

// What it costs to bring 1,000 records along, and to bring them again.
func BenchmarkImport(b *testing.B) {
	const did = syntax.DID("did:web:alice.example")
	for _, again := range []bool{false, true} {
		b.Run(fmt.Sprintf("again=%t", again), func(b *testing.B) {
			p := newPlace(b, dbtest.Open(b), did)
			whole, err := io.ReadAll(p.archive(did, 1000))
			p.check(err)
			empty, err := io.ReadAll(p.archive(did, 0))
			p.check(err)
			p.imports(p.Import(b.Context(), did, bytes.NewReader(whole)))
			for b.Loop() {
				if !again {
					b.StopTimer()
					p.imports(p.Import(b.Context(), did, bytes.NewReader(empty)))
					b.StartTimer()
				}
				p.imports(p.Import(b.Context(), did, bytes.NewReader(whole)))
			}
		})
	}
}
