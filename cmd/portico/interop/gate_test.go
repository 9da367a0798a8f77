//go:build interop

package interop

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// A gate stands before a directory and shuts when it is told to: then connections
// break off without an answer.
type gate struct {
	*httptest.Server
	next http.Handler

	mu   sync.Mutex
	mode gateMode
	did  syntax.DID
}

type gateMode int

const (
	gateOpen gateMode = iota
	gateShut
	gateShutBeforeOperation // with the next operation outside
	gateShutAfterOperation  // with the next operation inside, and the answer to it
)

// startGate opens a gate before the directory at that URL.
func startGate(t *testing.T, directory string) *gate {
	t.Helper()
	target, err := url.Parse(directory)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{next: httputil.NewSingleHostReverseProxy(target)}
	g.Server = httptest.NewServer(g)
	t.Cleanup(g.Close)
	return g
}

func (g *gate) open()                { g.set(gateOpen) }
func (g *gate) shut()                { g.set(gateShut) }
func (g *gate) shutBeforeOperation() { g.set(gateShutBeforeOperation) }
func (g *gate) shutAfterOperation()  { g.set(gateShutAfterOperation) }

func (g *gate) set(mode gateMode) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mode = mode
}

// lost is the DID of the last operation of which the sender got no answer.
func (g *gate) lost(t *testing.T) syntax.DID {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.did == "" {
		t.Fatal("no answer was lost")
	}
	return g.did
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	mode := g.mode
	if r.Method == http.MethodPost && mode != gateOpen {
		g.mode, g.did = gateShut, syntax.DID(r.URL.Path[1:])
	}
	g.mu.Unlock()
	switch {
	case mode == gateOpen, mode != gateShut && r.Method != http.MethodPost:
		g.next.ServeHTTP(w, r)
		return
	case mode == gateShutAfterOperation:
		g.next.ServeHTTP(httptest.NewRecorder(), r)
	}
	panic(http.ErrAbortHandler)
}
