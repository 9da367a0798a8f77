package dbtest

import (
	"io"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
)

// A Cable is what lies between a server and Postgres, and can be cut.
type Cable struct {
	URL string // of the database, by way of the cable; over TCP

	mu   sync.Mutex
	cut  bool
	last chan struct{} // closed when the connections of before are dead
}

// LayCable returns a cable to the database of a URL that [PostgresURL] gave. It ends with the
// test.
func LayCable(t testing.TB, database string) *Cable {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	to := filepath.Join(q.Get("host"), ".s.PGSQL.5432")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	q.Del("host")
	q.Set("sslmode", "disable")
	u.Host, u.RawQuery = listener.Addr().String(), q.Encode()
	c := &Cable{URL: u.String(), last: make(chan struct{})}
	ended := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", to)
			if err != nil {
				client.Close()
				continue
			}
			c.mu.Lock()
			cut, dead := c.cut, c.last
			c.mu.Unlock()
			if cut { // it is dead already
				closed := make(chan struct{})
				close(closed)
				dead = closed
			}
			all.Go(func() { pass(server, client, dead) })
			all.Go(func() { pass(client, server, dead) })
			all.Go(func() { <-ended; client.Close(); server.Close() })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		close(ended)
		all.Wait()
	})
	return c
}

// Cut lets nothing more through, and tells nobody: connections stay as they are, and new ones
// are made, but no byte comes out at the other end.
func (c *Cable) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
	close(c.last)
	c.last = make(chan struct{})
}

// Mend lets the connections work that are made from now on. Those of before stay dead.
func (c *Cable) Mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = false
}

// pass hands on what comes until dead is closed. Then it reads and says nothing, also not
// that the other side has gone.
func pass(to, from net.Conn, dead <-chan struct{}) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		select {
		case <-dead:
			_, _ = io.Copy(io.Discard, from)
			return
		default:
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			to.Close()
			return
		}
	}
}
