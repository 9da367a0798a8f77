package tree_test

import (
	"fmt"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/repo/tree"
)

// filled returns a tree of n posts.
func filled(b *testing.B, n int) *store {
	b.Helper()
	s := newStore(b)
	s.remove(tree.Place{})
	builder := tree.Builder{Emit: func(row tree.Row) error {
		s.put(row)
		return nil
	}}
	for i := range n {
		if err := builder.Add(post(2*i), one.CID); err != nil {
			b.Fatal(err)
		}
	}
	root, err := builder.Root()
	if err != nil {
		b.Fatal(err)
	}
	s.root = root
	return s
}

func post(i int) string {
	return "app.bsky.feed.post/" + syntax.NewTIDFromInteger(1<<60+uint64(i)*1_000_003).String()
}

// What a write costs must not depend on how many records there are.
func BenchmarkApply(b *testing.B) {
	for _, n := range []int{1000, 100_000, 1_000_000} {
		var s *store
		for _, kind := range []struct {
			name   string
			writes func(i int) []tree.Write
		}{
			{"create at the end", func(i int) []tree.Write { return create(post(2*n + i)) }},
			{"create anywhere", func(i int) []tree.Write { return create(post(2*(i*7919%n) + 1)) }},
			{"delete anywhere", func(i int) []tree.Write { return remove(post(2 * (i * 7919 % n))) }},
			{"create 10 anywhere", func(i int) (w []tree.Write) {
				for j := range 10 {
					w = append(w, create(post(2*((10*i+j)*7919%n)+1))...)
				}
				return w
			}},
		} {
			for _, cached := range []bool{false, true} {
				b.Run(fmt.Sprintf("%d records/%s/cache=%v", n, kind.name, cached), func(b *testing.B) {
					if s == nil {
						s = filled(b, n)
					}
					t := tree.Tree{Root: s.root, Source: s}
					if cached {
						t.Cache = tree.NewCache(64 << 20)
					}
					b.ReportAllocs()
					i, blocks, bytes := 0, 0, 0
					s.asked = 0
					for b.Loop() {
						change, err := t.Apply(b.Context(), kind.writes(i))
						if err != nil {
							b.Fatal(err)
						}
						for _, block := range change.Blocks {
							bytes += len(block.Data)
						}
						i, blocks = i+1, blocks+len(change.Blocks)
					}
					b.ReportMetric(float64(blocks)/float64(i), "blocks/op")
					b.ReportMetric(float64(bytes)/float64(i), "blockbytes/op")
					b.ReportMetric(float64(s.asked)/float64(i), "statements/op")
				})
			}
		}
	}
}

func BenchmarkWalk(b *testing.B) {
	s := filled(b, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tree.Walk(b.Context(), s.root, s.Get, tree.Visitor{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBuilder(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		builder := tree.Builder{Emit: func(tree.Row) error { return nil }}
		for i := range 10_000 {
			if err := builder.Add(post(i), one.CID); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := builder.Root(); err != nil {
			b.Fatal(err)
		}
	}
}
