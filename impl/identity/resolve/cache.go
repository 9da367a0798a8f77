package resolve

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
)

// Ages of cached documents when nothing else is said.
const (
	StaleAfter  = time.Hour
	ExpireAfter = 24 * time.Hour
)

// maxRefreshes is how many documents are refreshed in the background at a time. What is beyond it is refreshed when it is next
// asked for.
const maxRefreshes = 16

// Store keeps documents. Its methods may be called concurrently. A failing store is as good as an empty one: a [Cache] logs
// its errors and goes on.
type Store interface {
	// DIDDocument returns the document of did and when it was fetched; no document and no error if it has none.
	DIDDocument(ctx context.Context, did syntax.DID) (document []byte, fetched time.Time, err error)
	// SaveDIDDocument keeps a document. If since is not zero, it does nothing unless the document it has now was fetched then.
	SaveDIDDocument(ctx context.Context, did syntax.DID, document []byte, fetched, since time.Time) error
	// DeleteDIDDocument forgets a document, under the same condition.
	DeleteDIDDocument(ctx context.Context, did syntax.DID, since time.Time) error
}

// Fetch finds a document where it is published; [DIDs.Fetch] is one.
type Fetch func(ctx context.Context, did syntax.DID) (*Document, error)

// Cache answers from a store as long as what it has is young enough:
//
//   - a fresh document is the answer;
//   - a stale one is too, and is fetched again in the background;
//   - an expired one, or none, is fetched now, and a failure to do so is an error.
//
// Fetch, Store, Now and Log are required. It may be used concurrently.
type Cache struct {
	Fetch Fetch
	// Pay, unless nil, is asked before every fetch that somebody waits for. Its error is what they get.
	Pay         func(ctx context.Context) error
	Store       Store
	Now         func() time.Time
	Log         *slog.Logger
	StaleAfter  time.Duration // default [StaleAfter]
	ExpireAfter time.Duration // default [ExpireAfter]

	flights singleflight.Group

	mu         sync.Mutex
	refreshing map[syntax.DID]struct{}
	background sync.WaitGroup
}

// Resolve returns the document of did. With fresh it is fetched now, by this very call, whatever is in the store. The errors
// are those of Fetch and of ctx.
func (c *Cache) Resolve(ctx context.Context, did syntax.DID, fresh bool) (*Document, error) {
	if fresh {
		doc, _, err := c.fetchPaid(ctx, did)
		return doc, err
	}
	if doc, fetched := c.load(ctx, did); doc != nil {
		switch age := c.Now().Sub(fetched); {
		case age < cmp.Or(c.StaleAfter, StaleAfter):
			return doc, nil
		case age < cmp.Or(c.ExpireAfter, ExpireAfter):
			c.refresh(ctx, did, fetched)
			return doc, nil
		}
	}
	doc, _, err := c.fetchTogether(ctx, did)
	return doc, err
}

// Within returns the document of did as it was fetched less than age ago, and when that was. With no age it is fetched now, by
// this very call. Unlike Resolve it answers with nothing older when there is no answer: the errors are those of Fetch and of ctx.
func (c *Cache) Within(ctx context.Context, did syntax.DID, age time.Duration) (*Document, time.Time, error) {
	if age <= 0 {
		return c.fetchPaid(ctx, did)
	}
	if doc, fetched := c.load(ctx, did); doc != nil && c.Now().Sub(fetched) < age {
		return doc, fetched, nil
	}
	return c.fetchTogether(ctx, did)
}

func (c *Cache) pay(ctx context.Context) error {
	if c.Pay == nil {
		return nil
	}
	return c.Pay(ctx)
}

func (c *Cache) fetchPaid(ctx context.Context, did syntax.DID) (*Document, time.Time, error) {
	if err := c.pay(ctx); err != nil {
		return nil, time.Time{}, err
	}
	return c.fetch(ctx, did, time.Time{})
}

// fetchTogether fetches a document for everybody who waits for it now. One who hangs up does not end the fetch for the others.
func (c *Cache) fetchTogether(ctx context.Context, did syntax.DID) (*Document, time.Time, error) {
	type fetched struct {
		doc *Document
		at  time.Time
	}
	if err := c.pay(ctx); err != nil {
		return nil, time.Time{}, err
	}
	flight := c.flights.DoChan(did.String(), func() (any, error) {
		doc, at, err := c.fetch(context.WithoutCancel(ctx), did, time.Time{})
		return fetched{doc, at}, err
	})
	select {
	case r := <-flight:
		f, _ := r.Val.(fetched)
		return f.doc, f.at, r.Err
	case <-ctx.Done():
		return nil, time.Time{}, fmt.Errorf("resolve %s: %w", did, ctx.Err())
	}
}

// Document is Resolve for those who want the document as it was published.
func (c *Cache) Document(ctx context.Context, did syntax.DID, fresh bool) (json.RawMessage, error) {
	doc, err := c.Resolve(ctx, did, fresh)
	if err != nil {
		return nil, err
	}
	return doc.JSON, nil
}

// Wait returns when no refresh runs in the background any more.
func (c *Cache) Wait() { c.background.Wait() }

func (c *Cache) load(ctx context.Context, did syntax.DID) (*Document, time.Time) {
	data, fetched, err := c.Store.DIDDocument(ctx, did)
	if err != nil {
		c.warn(ctx, did, "read", err)
		return nil, time.Time{}
	}
	if data == nil {
		return nil, time.Time{}
	}
	doc, err := ParseDocument(did, data)
	if err != nil {
		c.warn(ctx, did, "parse", err)
		return nil, time.Time{}
	}
	return doc, fetched
}

// fetch asks the network and tells the store, the latter only if what it has is still from since. The document is returned with
// the time from which on it was asked for.
func (c *Cache) fetch(ctx context.Context, did syntax.DID, since time.Time) (*Document, time.Time, error) {
	at := c.Now()
	doc, err := c.Fetch(ctx, did)
	switch {
	case errors.Is(err, ErrNotFound):
		if err := c.Store.DeleteDIDDocument(ctx, did, since); err != nil {
			c.warn(ctx, did, "delete", err)
		}
		return nil, at, err
	case err != nil:
		return nil, at, err
	}
	if err := c.Store.SaveDIDDocument(ctx, did, doc.JSON, at, since); err != nil {
		c.warn(ctx, did, "write", err)
	}
	return doc, at, nil
}

func (c *Cache) refresh(ctx context.Context, did syntax.DID, since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.refreshing[did]; ok || len(c.refreshing) >= maxRefreshes {
		return
	}
	if c.refreshing == nil {
		c.refreshing = make(map[syntax.DID]struct{})
	}
	c.refreshing[did] = struct{}{}
	ctx = context.WithoutCancel(ctx)
	c.background.Go(func() {
		if _, _, err := c.fetch(ctx, did, since); err != nil {
			c.Log.InfoContext(ctx, "DID document not refreshed", "did", did, "error", err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.refreshing, did)
	})
}

func (c *Cache) warn(ctx context.Context, did syntax.DID, what string, err error) {
	c.Log.WarnContext(ctx, "DID cache", "do", what, "did", did, "error", err)
}

// Memory is a [Store] that forgets what was not used for longest, and everything when the process ends.
type Memory struct {
	mu      sync.Mutex
	entries *lru.Cache[syntax.DID, memoryEntry]
}

type memoryEntry struct {
	document []byte
	fetched  time.Time
}

// NewMemory returns a Memory for that many documents, which must be at least one.
func NewMemory(size int) *Memory {
	entries, err := lru.New[syntax.DID, memoryEntry](size)
	if err != nil {
		panic(err) // only for a size below one
	}
	return &Memory{entries: entries}
}

// DIDDocument implements [Store].
func (m *Memory) DIDDocument(_ context.Context, did syntax.DID) ([]byte, time.Time, error) {
	e, _ := m.entries.Get(did)
	return e.document, e.fetched, nil
}

// SaveDIDDocument implements [Store].
func (m *Memory) SaveDIDDocument(_ context.Context, did syntax.DID, document []byte, fetched, since time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unchanged(did, since) {
		m.entries.Add(did, memoryEntry{document, fetched})
	}
	return nil
}

// DeleteDIDDocument implements [Store].
func (m *Memory) DeleteDIDDocument(_ context.Context, did syntax.DID, since time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unchanged(did, since) {
		m.entries.Remove(did)
	}
	return nil
}

func (m *Memory) unchanged(did syntax.DID, since time.Time) bool {
	if since.IsZero() {
		return true
	}
	e, ok := m.entries.Peek(did)
	return ok && e.fetched.Equal(since)
}
