package db_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"portico/db"
	"portico/db/dbtest"
)

// BenchmarkConcurrentWrites shows writes a second: unlike the others it waits for the disk,
// with SQLite's synchronous=FULL. A write is what one of a repository is, in small: rows of
// an account and an event. The Postgres is that of PORTICO_BENCH_POSTGRES_URL, which has to
// be empty, since the one of the tests does not wait.
func BenchmarkConcurrentWrites(b *testing.B) {
	for _, engine := range []string{"sqlite", "postgres"} {
		for _, writers := range []int{1, 8, 32} {
			b.Run(fmt.Sprintf("%s/writers=%d", engine, writers), func(b *testing.B) {
				d := dbtest.Open(b, func(c *db.Config) {
					c.Synchronous = "FULL"
					if engine == "postgres" {
						c.URL = os.Getenv("PORTICO_BENCH_POSTGRES_URL")
						c.MaxConns = 40
					}
				})
				if d.Engine() != engine {
					b.Skip("PORTICO_BENCH_POSTGRES_URL is not set")
				}
				ctx := context.Background()
				first := int(time.Now().UnixNano()/1e6) % 1e9
				var next atomic.Int64
				b.ResetTimer()
				began := time.Now()
				var wait sync.WaitGroup
				for w := range writers {
					did := create(b, d, first+w)
					wait.Go(func() {
						for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
							err := d.Write(ctx, func(tx *db.Tx) error {
								for i := range 3 {
									node := db.Node{Low: fmt.Sprint(n, i), CID: make([]byte, 36), Rev: "rev", Data: make([]byte, 1000)}
									if err := tx.PutNode(ctx, did, node); err != nil {
										return err
									}
								}
								return tx.AppendEvents(ctx, db.Event{DID: did, Kind: "commit", Body: make([]byte, 3000)})
							})
							if err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wait.Wait()
				b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "writes/s")
			})
		}
	}
}
