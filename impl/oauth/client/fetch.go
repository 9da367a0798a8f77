package client

import (
	"context"
	"io"
	"mime"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"portico/impl/oauth/jose"
)

const (
	// patience is how long somebody else's server may take for all of its answer.
	patience = 10 * time.Second
	// fresh is how long what was fetched is good.
	fresh = 10 * time.Minute
	// pause is how long nothing is fetched again that was just tried: after a failure, and for a key
	// that was not there.
	pause = 10 * time.Second
	again = 30 * time.Second
	// together is how many fetches there are at a time.
	together = 256
)

// A source keeps what is fetched, good or bad, and forgets what was not asked for for longest. It is
// safe for concurrent use.
type source[V any] struct {
	pay   func(ctx context.Context) error
	now   func() time.Time
	fetch func(ctx context.Context, uri string) (V, int, error)

	room chan struct{}

	mu      sync.Mutex
	flights map[string]*flight[V]
	kept    *simplelru.LRU[string, entry[V]]
	bytes   int
}

type entry[V any] struct {
	value V
	has   bool // value is one, of then
	then  time.Time
	err   error // of the last try, at tried
	tried time.Time
	size  int
}

func newSource[V any](pay func(context.Context) error, now func() time.Time, fetch func(context.Context, string) (V, int, error)) *source[V] {
	s := &source[V]{pay: pay, now: now, fetch: fetch, room: make(chan struct{}, together), flights: make(map[string]*flight[V])}
	kept, err := simplelru.NewLRU(keptEntries, func(_ string, e entry[V]) { s.bytes -= e.size })
	if err != nil {
		panic(err) // only for a size below one
	}
	s.kept = kept
	return s
}

// get returns what is at an address, which those who want it at a time fetch and pay for once:
// what was fetched within ten minutes, or with anew, half a minute. When it cannot be fetched
// anew what is ten minutes old is good all the same.
func (s *source[V]) get(ctx context.Context, uri string, anew bool) (V, error) {
	e, f, mine := s.join(uri, anew)
	if f == nil {
		return e.value, e.err
	}
	if mine {
		s.begin(ctx, uri, f)
	}
	// Whoever hangs up does not end it for the others.
	select {
	case <-f.done:
	case <-ctx.Done():
		var none V
		return none, ctx.Err()
	}
	switch {
	case f.unpaid && !mine:
		return s.get(ctx, uri, anew) // who began it had nothing to pay with
	case f.err != nil && !f.unpaid && s.good(e):
		return e.value, nil
	}
	return f.value, f.err
}

// good says whether what was fetched once still counts.
func (s *source[V]) good(e entry[V]) bool { return e.has && s.within(e.then, fresh) }

// within says whether something was less than a time ago, by a clock that may have been set.
func (s *source[V]) within(then time.Time, most time.Duration) bool {
	age := s.now().Sub(then)
	return 0 <= age && age < most
}

// A flight is a fetch that is under way.
type flight[V any] struct {
	done   chan struct{} // closed when the rest is there
	value  V
	err    error
	unpaid bool // there was none
}

// join returns what is known of an address where that is the answer. Else it returns the flight
// to it, and whether that is the caller's to begin.
func (s *source[V]) join(uri string, anew bool) (e entry[V], f *flight[V], mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, known := s.kept.Get(uri)
	if s.good(e) && (!anew || s.within(e.tried, again)) {
		e.err = nil
		return e, nil, false
	}
	if known && e.err != nil && s.within(e.tried, pause) {
		return entry[V]{err: e.err}, nil, false
	}
	if f = s.flights[uri]; f != nil {
		return e, f, false
	}
	f = &flight[V]{done: make(chan struct{})}
	s.flights[uri] = f
	return e, f, true
}

// begin pays for a flight, and lets it begin.
func (s *source[V]) begin(ctx context.Context, uri string, f *flight[V]) {
	end := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.flights, uri)
		close(f.done)
	}
	if s.pay != nil {
		if f.err = s.pay(ctx); f.err != nil {
			f.unpaid = true
			end()
			return
		}
	}
	go func() {
		defer end()
		f.value, f.err = s.load(context.WithoutCancel(ctx), uri)
	}()
}

func (s *source[V]) load(ctx context.Context, uri string) (V, error) {
	select {
	case s.room <- struct{}{}:
		defer func() { <-s.room }()
	default:
		var none V
		return none, &Error{http.StatusServiceUnavailable, "temporarily_unavailable", "Too many clients are being looked up"}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	at := s.now()
	value, size, err := s.fetch(ctx, uri)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, _ := s.kept.Peek(uri)
	s.kept.Remove(uri) // counts its bytes away
	e.tried, e.err = at, err
	if err == nil {
		e.value, e.has, e.then, e.size = value, true, at, size
	}
	e.size = max(e.size, len(uri)+500)
	s.kept.Add(uri, e)
	s.bytes += e.size
	for s.bytes > keptBytes {
		s.kept.RemoveOldest()
	}
	return value, err
}

// fetcher asks the servers of clients.
type fetcher struct {
	client  *http.Client
	largest int64
}

// document fetches that of a client.
func (f fetcher) document(ctx context.Context, id string) (*Client, int, error) {
	raw, reason := f.get(ctx, id)
	if reason != "" {
		return nil, 0, unobtainable(id, reason)
	}
	c, err := parse(id, raw)
	if err != nil {
		return nil, 0, err
	}
	return c, c.size(), nil
}

// size is some number of bytes that a client takes.
func (c *Client) size() int {
	m := &c.Metadata
	n := 1000 + 2*len(c.ID) + len(m.Name) + len(m.URI) + len(m.LogoURI) + len(m.TermsURI) + len(m.PolicyURI) + len(m.Scope) + len(m.JWKSURI)
	for _, list := range [][]string{m.RedirectURIs, m.GrantTypes, m.ResponseTypes} {
		for _, text := range list {
			n += 16 + len(text)
		}
	}
	return n + len(c.keys)*keySize
}

// keySize is some number of bytes that a key takes at most.
const keySize = 2000

// keySet fetches one that a client's document names.
func (f fetcher) keySet(ctx context.Context, uri string) ([]*jose.Key, int, error) {
	raw, reason := f.get(ctx, uri)
	if reason == "" {
		keys, err := keySet(raw)
		if err == nil {
			return keys, 500 + len(uri) + len(keys)*keySize, nil
		}
		reason = err.Error()
	}
	return nil, 0, refuse("invalid_client", "Unable to obtain client keys from %s: %s", quoted(uri), reason)
}

// get fetches JSON. Where it fails it says why, in words for the developer of the client, which
// do not tell one way of not reaching a server from another: that would be a map of networks.
func (f fetcher) get(ctx context.Context, uri string) (body []byte, reason string) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return nil, "Invalid URL"
	}
	r.Header.Set("Accept", "application/json")
	client := *f.client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client.Jar = nil
	res, err := client.Do(r)
	if err != nil {
		return nil, "Failed to fetch"
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode >= 300 && res.StatusCode < 400:
		return nil, "unexpected redirect"
	case res.StatusCode < 200 || res.StatusCode > 299:
		if text := http.StatusText(res.StatusCode); text != "" {
			return nil, text
		}
		return nil, "Unexpected status"
	}
	kind := res.Header.Get("Content-Type")
	if media, _, err := mime.ParseMediaType(kind); err != nil || media != "application/json" {
		return nil, "Unexpected response Content-Type (" + printable(kind, 100) + ")"
	}
	body, err = io.ReadAll(io.LimitReader(res.Body, f.largest+1))
	switch {
	case err != nil:
		return nil, "Failed to fetch"
	case int64(len(body)) > f.largest:
		return nil, "Response too large"
	}
	return body, ""
}
