//go:build crash

package crash

import (
	"bytes"
	"context"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"
)

// fault is one way in which a network and the directory behind it misbehave.
type fault struct {
	name    string
	weight  int
	posts   bool // happens to operations alone
	request func(p *proxy, w http.ResponseWriter, r *http.Request)
}

// faults are what may happen to a request, with how often out of a hundred.
var faults = []fault{
	{"slow request", 8, false, func(p *proxy, w http.ResponseWriter, r *http.Request) {
		time.Sleep(p.upTo(700 * time.Millisecond))
		p.pass(w, r)
	}},
	{"slow answer", 6, false, func(p *proxy, w http.ResponseWriter, r *http.Request) {
		a := p.forward(r.Context(), r)
		time.Sleep(p.upTo(1500 * time.Millisecond))
		a.write(w)
	}},
	{"answer lost after acceptance", 8, true, func(p *proxy, w http.ResponseWriter, r *http.Request) {
		p.forward(r.Context(), r)
		panic(http.ErrAbortHandler)
	}},
	{"500 after acceptance", 8, true, func(p *proxy, w http.ResponseWriter, r *http.Request) {
		p.forward(r.Context(), r)
		http.Error(w, `{"message":"Internal Server Error"}`, http.StatusInternalServerError)
	}},
	{"connection lost", 5, false, func(_ *proxy, _ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	}},
	{"500", 8, false, func(_ *proxy, w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		http.Error(w, `{"message":"Internal Server Error"}`, http.StatusInternalServerError)
	}},
	// The worst one: the sender has long given up when the operation arrives.
	{"accepted late, answer lost", 4, true, func(p *proxy, _ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		late := r.Clone(context.WithoutCancel(r.Context()))
		late.Body = io.NopCloser(bytes.NewReader(body))
		p.late.Go(func() {
			time.Sleep(p.upTo(1200 * time.Millisecond))
			p.forward(late.Context(), late)
		})
		panic(http.ErrAbortHandler)
	}},
}

// proxy stands between the servers and the directory.
type proxy struct {
	*httptest.Server
	directory string
	client    *http.Client
	late      sync.WaitGroup // operations still on their way

	mu     sync.Mutex
	random *rand.Rand
	honest bool
	reads  bool // it is honest about what is read
	counts map[string]int
}

func startProxy(t *testing.T, directory string, seed uint64) *proxy {
	p := &proxy{
		directory: directory, counts: map[string]int{}, random: rand.New(rand.NewPCG(seed, 1)),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}},
	}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

// behave ends all faults and waits for what is still on its way.
func (p *proxy) behave() {
	p.mu.Lock()
	p.honest = true
	p.mu.Unlock()
	p.late.Wait()
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f := p.draw(r.Method == http.MethodPost); f != nil {
		f.request(p, w, r)
		return
	}
	p.pass(w, r)
}

func (p *proxy) draw(post bool) *fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.random.IntN(100)
	for i, f := range faults {
		if n < f.weight && !p.honest && (post || !f.posts && !p.reads) {
			p.counts[f.name]++
			return &faults[i]
		}
		n -= f.weight
	}
	p.counts["none"]++
	return nil
}

func (p *proxy) upTo(d time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Duration(p.random.Int64N(int64(d)))
}

func (p *proxy) pass(w http.ResponseWriter, r *http.Request) { p.forward(r.Context(), r).write(w) }

// answer is what the directory said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (p *proxy) forward(ctx context.Context, r *http.Request) answer {
	// A server that was killed has hung up; its operation is on its way all the
	// same.
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), r.Method, p.directory+r.URL.EscapedPath(), r.Body)
	if err != nil {
		return answer{status: http.StatusBadGateway}
	}
	req.URL.RawQuery = r.URL.RawQuery
	req.Header = r.Header.Clone()
	resp, err := p.client.Do(req)
	if err != nil {
		return answer{status: http.StatusBadGateway}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{status: http.StatusBadGateway}
	}
	return answer{resp.StatusCode, resp.Header, body}
}

func (a answer) write(w http.ResponseWriter) {
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.status)
	w.Write(a.body)
}

// report is how often each fault happened.
func (p *proxy) report(t *testing.T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(p.counts)) {
		t.Logf("  directory: %4d × %s", p.counts[name], name)
	}
}
