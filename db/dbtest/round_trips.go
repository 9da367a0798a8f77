package dbtest

import (
	"bytes"
	"io"
	"net"
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
	r := new(RoundTrips)
	r.URL = between(t, database, func(client, server net.Conn) {
		asked := false             // and not answered yet
		counts := new(atomic.Bool) // the connection is of the pool
		var both sync.WaitGroup
		both.Go(func() { r.pass(server, client, &asked, counts, true) })
		both.Go(func() { r.pass(client, server, &asked, counts, false) })
		both.Wait()
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
