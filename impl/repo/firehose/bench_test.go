package firehose

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"portico/impl/repo/dagcbor"
	"portico/impl/repo/event"
	"portico/impl/repo/tree"
)

// commit is the event of a post in a repository of some size.
func commit() event.Event {
	cid := dagcbor.Sum(dagcbor.CodecDAGCBOR, []byte("a block"))
	return event.Commit{
		Repo: alice, Commit: cid, Rev: "3jzfcijpj2z2b", Since: "3jzfcijpj2z2a", PrevData: cid, Blocks: make([]byte, 5000),
		Ops: []tree.Op{{Action: tree.Create, Path: "app.bsky.feed.post/3jzfcijpj2z2a", CID: cid}},
	}.Event()
}

// What each event costs for one more consumer that is live: b.N is events times consumers.
func BenchmarkDelivery(b *testing.B) {
	const consumers = 100
	log := &memoryLog{}
	f := New(log, slog.New(slog.DiscardHandler), Options{Poll: time.Hour})
	ctx, cancel := context.WithCancel(b.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	all.Go(func() { f.Run(ctx) })
	var have sync.WaitGroup
	for range consumers {
		all.Go(func() {
			_ = f.Follow(ctx, new(int64(0)), func(context.Context, []byte) error {
				have.Done()
				return nil
			})
		})
	}
	have.Add(consumers)
	log.append(alice, commit())
	f.Wake()
	have.Wait()
	e := commit()
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += consumers {
		have.Add(consumers)
		log.append(alice, e)
		f.Wake()
		have.Wait()
	}
}

// What an event costs a consumer that is not within the ring, besides the database.
func BenchmarkBackfill(b *testing.B) {
	e := commit()
	for _, tt := range []struct {
		name string
		cuts bool
	}{{"cut", true}, {"uncut", false}} {
		b.Run(tt.name, func(b *testing.B) {
			log := &memoryLog{}
			for range 10_000 {
				e := e
				if !tt.cuts {
					e.Cut1, e.Cut2 = 0, 0
				}
				log.append(alice, e)
			}
			f := New(log, slog.New(slog.DiscardHandler), Options{Poll: time.Hour})
			ctx, cancel := context.WithCancel(b.Context())
			var run sync.WaitGroup
			defer run.Wait()
			defer cancel()
			run.Go(func() { f.Run(ctx) })
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += len(log.events) {
				left, stop := min(len(log.events), b.N-n), context.Canceled
				err := f.Follow(ctx, new(int64(0)), func(context.Context, []byte) error {
					if left--; left == 0 {
						return stop
					}
					return nil
				})
				if err != stop {
					b.Fatal(err)
				}
			}
		})
	}
}
