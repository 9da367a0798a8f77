package upstream_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// A stub is a service that records the bytes of each request, and answers with the bytes
// that the test wants.
type stub struct {
	URL string

	mu          sync.Mutex
	heads       []string // of each request, without Host
	bodies      []string
	connections int
}

// newStub answers each request by answer, which gets the number of the connection and of
// the request on it, from 1, and returns whether another may follow.
func newStub(t *testing.T, answer func(c net.Conn, connection, request int) (more bool)) *stub {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &stub{URL: "http://" + l.Addr().String()}
	var all sync.WaitGroup
	var open sync.Map
	t.Cleanup(func() {
		l.Close()
		open.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		all.Wait()
	})
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Store(c, nil)
			s.mu.Lock()
			s.connections++
			n := s.connections
			s.mu.Unlock()
			all.Go(func() {
				defer open.Delete(c)
				defer c.Close()
				r := bufio.NewReader(c)
				for request := 1; s.record(r) && answer(c, n, request); request++ {
				}
			})
		}
	})
	return s
}

// record reads one request as it is on the wire.
func (s *stub) record(r *bufio.Reader) bool {
	var head strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return false
		}
		if !strings.HasPrefix(line, "Host: ") {
			head.WriteString(line)
		}
		if line == "\r\n" {
			break
		}
	}
	// What is to follow, the standard library may say.
	q, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader(head.String()), r)))
	body := []byte{}
	if err == nil && q.Method == http.MethodPost {
		// The reader above may have read ahead: as there is one request at a time, no more
		// than its body.
		body, _ = io.ReadAll(q.Body)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heads, s.bodies = append(s.heads, head.String()), append(s.bodies, string(body))
	return true
}

func (s *stub) last() (head, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heads[len(s.heads)-1], s.bodies[len(s.bodies)-1]
}

func (s *stub) count() (connections, requests int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connections, len(s.heads)
}

// saying answers each request with the same bytes, lines of its head ending as HTTP's do.
func saying(t *testing.T, head, body string) *stub {
	t.Helper()
	var s *stub
	s = newStub(t, func(c net.Conn, _, _ int) bool {
		text := lines(head)
		if request, _ := s.last(); !strings.HasPrefix(request, "HEAD ") {
			text += body
		}
		_, err := io.WriteString(c, text)
		return err == nil && !strings.Contains(head, "Connection: close")
	})
	return s
}

func lines(head string) string {
	return strings.ReplaceAll(strings.TrimSpace(head), "\n", "\r\n") + "\r\n\r\n"
}
