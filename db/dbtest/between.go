package dbtest

import (
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// between stands between a server and the database at a URL that [PostgresURL] gave: it
// returns another URL of that, and calls carry for each connection, with both of its ends, which are
// closed when carry returns, or when the test ends.
func between(t testing.TB, database string, carry func(client, server net.Conn)) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	const socket = ".s.PGSQL.5432"
	to := filepath.Join(q.Get("host"), socket)
	dir, err := os.MkdirTemp("", "portico-between-") // sockets have short names
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
	ended := make(chan struct{})
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
				client.Close()
				continue
			}
			carried := make(chan struct{})
			all.Go(func() {
				carry(client, server)
				close(carried)
			})
			all.Go(func() {
				select {
				case <-carried:
				case <-ended:
				}
				client.Close()
				server.Close()
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		close(ended)
		all.Wait()
	})
	return u.String()
}
