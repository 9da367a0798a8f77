package dbtest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

// RoundTrips counts how often a server waits for Postgres on the connections of its pool: it
// stands between the two, and looks at who speaks.
type RoundTrips struct {
	URL string // of the database, by way of the count

	mu    sync.Mutex
	count int
}

// CountRoundTrips returns a count for the database of a URL that [PostgresURL] gave. It
// ends with the test.
func CountRoundTrips(t testing.TB, database string) *RoundTrips {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	const socket = ".s.PGSQL.5432"
	to := filepath.Join(q.Get("host"), socket)
	dir, err := os.MkdirTemp("", "portico-count-") // sockets have short names
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	listener, err := net.Listen("unix", filepath.Join(dir, socket))
	if err != nil {
		t.Fatal(err)
	}
	q.Set("host", dir)
	u.RawQuery = q.Encode()
	r := &RoundTrips{URL: u.String()}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
				return
			}
			server, err := net.Dial("unix", to)
			if err != nil {
				t.Error(err)
				client.Close()
				continue
			}
			asked := false             // and not answered yet
			counts := new(atomic.Bool) // the connection is of the pool
			all.Go(func() { r.pass(server, client, &asked, counts, true) })
			all.Go(func() { r.pass(client, server, &asked, counts, false) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		all.Wait() // until the database was closed, which it was after this was said
	})
	return r
}

// Take returns how many round trips there were since it was called last.
func (r *RoundTrips) Take() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.count
	r.count = 0
	return n
}

// pass hands on what comes. What is said while an answer is awaited belongs to the same
// round trip.
func (r *RoundTrips) pass(to, from net.Conn, asked *bool, counts *atomic.Bool, asks bool) {
	defer to.Close()
	buffer := make([]byte, 64<<10)
	for first := true; ; {
		n, err := from.Read(buffer)
		if n > 0 {
			if first && asks {
				counts.Store(bytes.Contains(buffer[:n], []byte("application_name\x00portico\x00")))
			}
			first = false
			r.mu.Lock()
			if asks && !*asked && counts.Load() {
				r.count++
			}
			*asked = asks
			r.mu.Unlock()
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if err != io.EOF {
				from.Close()
			}
			return
		}
	}
}
