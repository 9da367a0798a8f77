package db_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/dbtest"
)

// refresh is what the database does for a refreshSession.
func refresh(ctx context.Context, tx *db.Tx, id, next []byte) error {
	s, err := tx.LockSession(ctx, id, "192.0.2.1", start)
	if err == nil {
		_, err = tx.Exchange(ctx, s, next, start, 2*time.Hour, 90*24*time.Hour)
	}
	if err == nil && !s.SeenHere {
		err = errors.New("address is not known")
	}
	return err
}

// BenchmarkRefresh shows processor time, which does not depend on what else the machine
// does as the time of a clock does.
func BenchmarkRefresh(b *testing.B) {
	benchmarkRefresh(b, func(ctx context.Context, d *db.DB, _ syntax.DID, id, next []byte) error {
		return d.Write(ctx, func(tx *db.Tx) error { return refresh(ctx, tx, id, next) })
	})
}

// BenchmarkConcurrentRefresh shows what it is worth that those who wait for SQLite share
// transactions: 64 refresh at FULL, now so and now each in a transaction of its own, by
// turns, so that both meet the same machine. The time of a sync is that of a page.
func BenchmarkConcurrentRefresh(b *testing.B) {
	const clients = 64
	dir := b.TempDir()
	d := dbtest.Open(b, func(c *db.Config) { c.Dir, c.Synchronous, c.Now = dir, "FULL", func() time.Time { return start } })
	ctx := context.Background()
	generations := make([]int, clients)
	for n := range clients {
		did := create(b, d, n)
		err := d.Write(ctx, func(tx *db.Tx) error {
			s := db.Session{ID: hashed(n, 0), DID: did, CreatedAt: start, ExpiresAt: start.Add(90 * 24 * time.Hour)}
			return errors.Join(tx.InsertSession(ctx, s), tx.KnowAddress(ctx, did, "192.0.2.1", start, 20))
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	round := func(write func(context.Context, func(*db.Tx) error) error) float64 {
		var done atomic.Int64
		var all sync.WaitGroup
		began := time.Now()
		for n := range clients {
			all.Go(func() {
				for time.Since(began) < 300*time.Millisecond {
					id, next := hashed(n, generations[n]), hashed(n, generations[n]+1)
					if err := write(ctx, func(tx *db.Tx) error { return refresh(ctx, tx, id, next) }); err != nil {
						b.Error(err)
						return
					}
					generations[n]++
					done.Add(1)
				}
			})
		}
		all.Wait()
		return float64(done.Load()) / time.Since(began).Seconds()
	}
	var shared, alone, ratio, syncs []float64
	for b.Loop() {
		shared, alone = append(shared, round(d.Write)), append(alone, round(d.WriteAlone))
		ratio = append(ratio, shared[len(shared)-1]/alone[len(alone)-1])
		syncs = append(syncs, syncTime(b, dir))
	}
	b.ReportMetric(median(shared), "shared/s")
	b.ReportMetric(median(alone), "alone/s")
	b.ReportMetric(median(ratio), "shared/alone")
	b.ReportMetric(median(syncs), "sync-µs")
}

// syncTime is how many microseconds a page takes to the disk.
func syncTime(b *testing.B, dir string) float64 {
	f, err := os.CreateTemp(dir, "sync")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	began := time.Now()
	for range 20 {
		_, err := f.Write(make([]byte, 4096))
		if err := errors.Join(err, f.Sync()); err != nil {
			b.Fatal(err)
		}
	}
	return float64(time.Since(began).Microseconds()) / 20
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// cpu is the processor time of this process so far.
func cpu() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func benchmarkRefresh(b *testing.B, refresh func(ctx context.Context, d *db.DB, did syntax.DID, id, next []byte) error) {
	d, dids := benchmarkAccounts(b)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	err := d.Write(ctx, func(tx *db.Tx) error {
		for n, did := range dids {
			s := db.Session{ID: hashed(n, 0), DID: did, CreatedAt: start, ExpiresAt: start.Add(90 * 24 * time.Hour)}
			err := errors.Join(tx.InsertSession(ctx, s), tx.KnowAddress(ctx, did, "192.0.2.1", start, 20))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	n, statements, used := 0, d.Statements(), cpu()
	for b.Loop() {
		of, generation := n%len(dids), n/len(dids)
		if err := refresh(ctx, d, dids[of], hashed(of, generation), hashed(of, generation+1)); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(cpu()-used)/float64(n), "cpu-ns/op")
	b.ReportMetric(float64(d.Statements()-statements)/float64(n), "statements/op")
}

// hashed is the id of a session: they are spread as those of tokens are.
func hashed(of, generation int) []byte {
	sum := sha256.Sum256(fmt.Append(nil, of, " ", generation))
	return sum[:]
}
