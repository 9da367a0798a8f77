//go:build crash

package crash

import (
	"context"
	"sync"
	"testing"

	"portico/cmd/portico/launch"
)

// A fleet is the servers of one PDS, which are killed and come back.
type fleet struct {
	mu      sync.Mutex
	servers []*launch.Server
	kills   int // of one goroutine
}

// start starts a server for each of the folders.
func (f *fleet) start(t *testing.T, env []string, folders ...string) {
	t.Helper()
	t.Cleanup(func() {
		for _, s := range f.servers {
			s.Kill()
		}
	})
	for _, data := range folders {
		s, err := launch.StartServer(t.Context(), binary, data, env...)
		if err != nil {
			t.Fatal(err)
		}
		f.servers = append(f.servers, s)
	}
}

func (f *fleet) server(i int) *launch.Server {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.servers[i]
}

func (f *fleet) kill(i int) {
	f.server(i).Kill()
	f.kills++
}

// again starts the i-th server anew.
func (f *fleet) again(t *testing.T, i int) {
	s, err := f.server(i).Again(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Error(err) // not Fatal: this may not be the test's goroutine
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.servers[i] = s
}
