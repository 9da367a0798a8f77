package password

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

// from is a caller: "a" at an address, "net/a" at one of a network, with "!" known.
func from(text string) Caller {
	address, known := strings.CutSuffix(text, "!")
	network, _, ok := strings.Cut(address, "/")
	if !ok {
		network = ""
	}
	return Caller{Address: address, Network: network, Known: known}
}

func TestQueue(t *testing.T) {
	times := func(n int, text string) []string { return slices.Repeat([]string{text}, n) }
	each := func(n int, format string) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprintf(format, i))
		}
		return all
	}
	for _, tt := range []struct {
		name    string
		places  int
		arrive  []string
		turns   string // in the order in which they are served
		refused string
	}{
		{"first come, first served", 20, []string{"a", "b", "c"}, "a b c", ""},
		{"addresses in turn", 20, append(times(4, "a"), "b", "b", "c"), "a b c a b a a", ""},
		{"networks before their addresses", 20, []string{"n/a", "n/b", "n/c", "n/a", "x"}, "n/a x n/b n/c n/a", ""},
		{"known and unknown in turn", 20, []string{"a", "a", "a", "b", "c!", "c!", "d!"}, "c! a d! b c! a a", ""},
		{"nobody's address is one among equals", 20, []string{"", "", "", "a"}, " a  ", ""},
		{"the longest loses its youngest", 8, []string{"a", "a", "a", "b", "c"}, "a b c a", "a"},
		{"which can be the one that comes", 8, []string{"a", "b", "a", "a", "a"}, "a b a a", "a"},
		{"half of the places are for the known", 8, append(times(9, "a"), "b!", "b!"), "b! a b! a a a", "a a a a a"},
		{"and half for the rest", 8, append(times(9, "a!"), "b", "b"), "a! b a! b a! a!", "a! a! a! a! a!"},
		{"a network has eight", 40, append(each(12, "n/%d"), "x"), "n/0 x n/1 n/2 n/3 n/4 n/5 n/6 n/7", "n/8 n/9 n/10 n/11"},
		{"in which the longest loses, too", 40, append(times(8, "n/a"), "n/b"), "n/a n/b n/a n/a n/a n/a n/a n/a", "n/a"},
		{"of as many, the youngest loses to one that comes", 8, []string{"a", "b", "c", "d", "e"}, "a b c e", "d"},
		{"a network counts as one", 16, append(each(8, "n/%d"), "x"), "n/0 x n/1 n/2 n/3 n/4 n/5 n/6", "n/7"},
		{"one place is enough for all", 1, []string{"a", "b"}, "b", "a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := newQueue(tt.places)
			texts := map[*waiter]string{}
			var turns, refused []string
			for _, text := range tt.arrive {
				w := &waiter{Caller: from(text)}
				texts[w] = text
				if lost := q.add(w); lost != nil {
					refused = append(refused, texts[lost])
				}
			}
			for w := q.next(); w != nil; w = q.next() {
				turns = append(turns, texts[w])
				q.take(w)
			}
			if got := strings.Join(turns, " "); got != tt.turns {
				t.Errorf("turns %q, want %q", got, tt.turns)
			}
			if got := strings.Join(refused, " "); got != tt.refused {
				t.Errorf("refused %q, want %q", got, tt.refused)
			}
			if n := len(q.known.since) + len(q.unknown.since); n > 0 {
				t.Errorf("%d addresses are remembered of nobody", n)
			}
		})
	}
}

// Rule 5 of budgets: slow things are shared fairly. Who is alone at an address has the
// third hash that is computed after arriving, whatever others send.
func TestFloodHoldsUpNobodyElsewhere(t *testing.T) {
	for _, flood := range []struct {
		name string
		from func(i int) Caller
	}{
		{"of one address", func(int) Caller { return Caller{Address: "192.0.2.1"} }},
		{"of 120 /64s of one /48", func(i int) Caller {
			return Caller{Address: fmt.Sprintf("2001:db8:0:%d::/64", i), Network: "2001:db8::/48"}
		}},
		{"of an address that is known", func(int) Caller { return Caller{Address: "192.0.2.1", Known: true} }},
		{"of nobody's addresses", func(int) Caller { return Caller{} }},
	} {
		t.Run(flood.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := NewHasher(Config{Rand: rand.Reader, Params: cheap, Concurrency: 1, Queue: 32})
				hash := make(chan struct{}) // each computes one
				ctx, stop := context.WithCancel(t.Context())
				for i := range 120 {
					go func() {
						for ctx.Err() == nil {
							if err := h.run(ctx, flood.from(i), 1, func(area) { <-hash }); errors.Is(err, ErrBusy) {
								return
							}
						}
					}()
				}
				synctest.Wait()
				for range 5 { // whenever the victim comes
					done := make(chan error, 1)
					go func() {
						done <- h.run(t.Context(), Caller{Address: "198.51.100.7"}, 1, func(area) { <-hash })
					}()
					synctest.Wait()
					for range 3 {
						hash <- struct{}{}
						synctest.Wait()
					}
					select {
					case err := <-done:
						if err != nil {
							t.Error(err)
						}
					default:
						t.Fatal("not served within three hashes")
					}
				}
				stop()
				close(hash)
			})
		})
	}
}

func TestHasherQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHasher(Config{Rand: rand.Reader, Params: cheap, Concurrency: 1, Queue: 4})
		// Someone hashes, for ever.
		release := make(chan struct{})
		go h.run(t.Context(), Caller{}, 1, func(area) { <-release })
		synctest.Wait()

		patient, impatient := make(chan error, 1), make(chan error, 1)
		ctx, hangUp := context.WithCancel(t.Context())
		go func() { patient <- h.VerifyNothing(t.Context(), Caller{}, "x") }()
		synctest.Wait()
		go func() { impatient <- h.VerifyNothing(ctx, Caller{}, "x") }()
		synctest.Wait()

		if _, err := h.Hash(t.Context(), Caller{}, "x"); !errors.Is(err, ErrBusy) {
			t.Errorf("full queue: %v", err)
		}
		if _, err := h.Verify(t.Context(), Caller{}, referenceHash, "x"); !errors.Is(err, ErrBusy) {
			t.Errorf("full queue: %v", err)
		}
		if _, err := h.ImportedAppHash(t.Context(), Caller{}, "did:plc:x", "x"); !errors.Is(err, ErrBusy) {
			t.Errorf("full queue: %v", err)
		}
		// A place elsewhere is another's, who learns of it at once.
		elsewhere := make(chan error, 1)
		go func() { elsewhere <- h.VerifyNothing(t.Context(), Caller{Address: "elsewhere"}, "x") }()
		if err := <-impatient; !errors.Is(err, ErrBusy) {
			t.Errorf("lost the place: %v", err)
		}
		go func() { impatient <- h.VerifyNothing(ctx, Caller{Known: true}, "x") }()
		synctest.Wait()
		hangUp()
		if err := <-impatient; !errors.Is(err, context.Canceled) {
			t.Errorf("hung up: %v", err)
		}
		close(release)
		if err := errors.Join(<-patient, <-elsewhere); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if h.free != h.total || h.queue.next() != nil {
			t.Errorf("%d of %d KiB are free, next is %v", h.free, h.total, h.queue.next())
		}
	})
}
