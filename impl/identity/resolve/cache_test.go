package resolve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// network is a Fetch that counts, waits a second, and can fail. Its documents say how often they were fetched.
type network struct {
	mu    sync.Mutex
	count int
	err   error
}

func (n *network) fetch(ctx context.Context, did syntax.DID) (*Document, error) {
	time.Sleep(time.Second)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.count++
	if n.err != nil {
		return nil, n.err
	}
	return ParseDocument(did, fmt.Appendf(nil, `{"id":%q,"alsoKnownAs":["at://h%d.test"]}`, did, n.count))
}

func newCache(store Store) (*Cache, *network) {
	n := new(network)
	return &Cache{Fetch: n.fetch, Store: store, Now: time.Now, Log: slog.New(slog.DiscardHandler)}, n
}

func TestCacheStates(t *testing.T) {
	down := errors.New("down")
	for _, tt := range []struct {
		name    string
		age     time.Duration // of what is in the store; negative: nothing is
		fresh   bool
		err     error  // of the network
		want    string // handle
		wantErr error
		fetched int
		then    string // handle in the store afterwards, "" for none
	}{
		{"absent", -1, false, nil, "h1.test", nil, 1, "h1.test"},
		{"absent, down", -1, false, down, "", down, 1, ""},
		{"absent, not found", -1, false, ErrNotFound, "", ErrNotFound, 1, ""},
		{"fresh", time.Hour - 1, false, nil, "h0.test", nil, 0, "h0.test"},
		{"stale", time.Hour, false, nil, "h0.test", nil, 1, "h1.test"},
		{"stale, down", time.Hour, false, down, "h0.test", nil, 1, "h0.test"},
		{"stale, not found", time.Hour, false, ErrNotFound, "h0.test", nil, 1, ""},
		{"expired", 24 * time.Hour, false, nil, "h1.test", nil, 1, "h1.test"},
		{"expired, down", 24 * time.Hour, false, down, "", down, 1, "h0.test"},
		{"expired, not found", 24 * time.Hour, false, ErrNotFound, "", ErrNotFound, 1, ""},
		{"forced", time.Minute, true, nil, "h1.test", nil, 1, "h1.test"},
		{"forced, down", time.Minute, true, down, "", down, 1, "h0.test"},
		{"forced, not found", time.Minute, true, ErrNotFound, "", ErrNotFound, 1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := NewMemory(10)
				c, n := newCache(store)
				n.err = tt.err
				if tt.age >= 0 {
					store.SaveDIDDocument(t.Context(), alice, []byte(`{"id":"did:plc:gnme2elp3bnvqq53n6oc6qgx","alsoKnownAs":["at://h0.test"]}`), time.Now().Add(-tt.age), time.Time{})
				}
				doc, err := c.Resolve(t.Context(), alice, tt.fresh)
				if !errors.Is(err, tt.wantErr) || tt.wantErr == nil && doc.Handle() != tt.want {
					t.Errorf("got %+v, %v", doc, err)
				}
				c.Wait()
				data, _, _ := store.DIDDocument(t.Context(), alice)
				var then string
				if data != nil {
					doc, _ := ParseDocument(alice, data)
					then = doc.Handle()
				}
				if n.count != tt.fetched || then != tt.then {
					t.Errorf("fetched %d times, stored %q", n.count, then)
				}
			})
		})
	}
}

func TestCacheSingleFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, n := newCache(NewMemory(10))
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if doc, err := c.Resolve(t.Context(), alice, false); err != nil || doc.Handle() != "h1.test" {
					t.Error(doc, err)
				}
			})
		}
		// One of the crowd hangs up; the others get their answer.
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := c.Resolve(ctx, alice, false); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		wg.Wait()
		if n.count != 1 {
			t.Errorf("fetched %d times", n.count)
		}
		// Those who find it stale wait for nothing and cause one refresh.
		time.Sleep(time.Hour)
		for range 20 {
			wg.Go(func() {
				if raw, err := c.Document(t.Context(), alice, false); err != nil || string(raw) != `{"id":"did:plc:gnme2elp3bnvqq53n6oc6qgx","alsoKnownAs":["at://h1.test"]}` {
					t.Errorf("%s, %v", raw, err)
				}
			})
		}
		wg.Wait()
		c.Wait()
		if n.count != 2 {
			t.Errorf("fetched %d times", n.count)
		}
	})
}

// A refresh that began before somebody else stored a newer document does not overwrite it.
func TestCacheRefreshLosesToNewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, err := range []error{nil, ErrNotFound} {
			store := NewMemory(10)
			c, n := newCache(store)
			n.err = err
			const newer = `{"id":"did:plc:gnme2elp3bnvqq53n6oc6qgx","alsoKnownAs":["at://newer.test"]}`
			store.SaveDIDDocument(t.Context(), alice, []byte(older), time.Now().Add(-2*time.Hour), time.Time{})
			if _, err := c.Resolve(t.Context(), alice, false); err != nil {
				t.Fatal(err)
			}
			store.SaveDIDDocument(t.Context(), alice, []byte(newer), time.Now(), time.Time{})
			c.Wait()
			if data, _, _ := store.DIDDocument(t.Context(), alice); string(data) != newer {
				t.Errorf("network %v: stored %s", err, data)
			}
		}
	})
}

// broken is a Store on a bad day.
type broken struct{}

var errStore = errors.New("disk on fire")

func (broken) DIDDocument(context.Context, syntax.DID) ([]byte, time.Time, error) {
	return nil, time.Time{}, errStore
}
func (broken) SaveDIDDocument(context.Context, syntax.DID, []byte, time.Time, time.Time) error {
	return errStore
}
func (broken) DeleteDIDDocument(context.Context, syntax.DID, time.Time) error { return errStore }

func TestCacheSurvivesItsStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, n := newCache(broken{})
		if doc, err := c.Resolve(t.Context(), alice, false); err != nil || doc.Handle() != "h1.test" {
			t.Error(doc, err)
		}
		n.err = ErrNotFound
		if _, err := c.Resolve(t.Context(), alice, true); !errors.Is(err, ErrNotFound) || errors.Is(err, errStore) {
			t.Error(err)
		}
		store := NewMemory(1)
		c, _ = newCache(store)
		store.SaveDIDDocument(t.Context(), alice, []byte("damaged"), time.Now(), time.Time{})
		if doc, err := c.Resolve(t.Context(), alice, false); err != nil || doc.Handle() != "h1.test" {
			t.Error(doc, err)
		}
	})
}

// What Within answers is never older than was asked for, not even while nobody answers.
func TestCacheWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, n := newCache(NewMemory(10))
		const did = syntax.DID("did:web:alice.example.com")
		within := func(age time.Duration) (string, time.Duration, error) {
			doc, fetched, err := c.Within(t.Context(), did, age)
			if err != nil {
				return "", 0, err
			}
			return doc.Handle(), time.Since(fetched), nil
		}
		for _, tt := range []struct {
			name       string
			wait, age  time.Duration
			handle     string
			fetchedAgo time.Duration
		}{
			{"absent", 0, time.Minute, "h1.test", time.Second},
			{"younger", 58 * time.Second, time.Minute, "h1.test", 59 * time.Second},
			{"as old", time.Second, time.Minute, "h2.test", time.Second},
			{"now", 0, 0, "h3.test", time.Second},
		} {
			time.Sleep(tt.wait)
			if handle, ago, err := within(tt.age); err != nil || handle != tt.handle || ago != tt.fetchedAgo {
				t.Errorf("%s: %s, fetched %v ago, %v; want %s, %v", tt.name, handle, ago, err, tt.handle, tt.fetchedAgo)
			}
		}
		n.err = errors.New("down")
		time.Sleep(time.Minute)
		if handle, _, err := within(time.Minute); !errors.Is(err, n.err) {
			t.Errorf("while nobody answers: %s, %v", handle, err)
		}
		if doc, err := c.Resolve(t.Context(), did, false); err != nil || doc.Handle() != "h3.test" {
			t.Errorf("what was fetched before is lost: %v", err)
		}
	})
}
