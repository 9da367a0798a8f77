package dbtest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// A Fault says where a connection to Postgres breaks: at what is sent in one go and has a
// statement in it that begins with Text, for the time that At counts from 1.
type Fault struct {
	Text string
	At   int
	// Done says that Postgres gets to do what was sent, and that its answer is lost. Else it
	// learns of nothing but the end of the connection.
	Done bool
}

// Faults stands between a server and Postgres and breaks connections. It is safe for
// concurrent use.
type Faults struct {
	URL string // of the database, by way of the faults

	mu    sync.Mutex
	next  *Fault
	met   int
	sends int // since the last call of Arm

	cancelled chan struct{} // has one for each request to cancel something
}

// BreakConnections returns faults for the database of a URL that [PostgresURL] gave, of
// which there is none until [Faults.Arm]. It ends with the test.
func BreakConnections(t testing.TB, database string) *Faults {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	const socket = ".s.PGSQL.5432"
	to := filepath.Join(q.Get("host"), socket)
	dir, err := os.MkdirTemp("", "portico-faults-") // sockets have short names
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
	f := &Faults{URL: u.String(), cancelled: make(chan struct{}, 100)}
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
			all.Go(func() { f.carry(client, to) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		all.Wait() // until the database was closed, which it was after this was said
	})
	return f
}

// Arm lets a connection break once, nil: none.
func (f *Faults) Arm(fault *Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next, f.met, f.sends = fault, 0, 0
}

// Broke reports whether the connection has broken since the last call of Arm.
func (f *Faults) Broke() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next == nil
}

// Sends is how often something was sent to be run since the last call of Arm.
func (f *Faults) Sends() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sends
}

// Cancelled receives for each request to cancel what a connection was at.
func (f *Faults) Cancelled() <-chan struct{} { return f.cancelled }

// cancelRequest begins a message that does that, after its length.
var cancelRequest = []byte{0x04, 0xd2, 0x16, 0x2e}

// breaks says whether the connection breaks at what runs some statements.
func (f *Faults) breaks(texts []string) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sends++
	if f.next == nil {
		return nil
	}
	for _, text := range texts {
		if len(text) >= len(f.next.Text) && text[:len(f.next.Text)] == f.next.Text {
			if f.met++; f.met == f.next.At {
				fault := f.next
				f.next = nil
				return fault
			}
			return nil
		}
	}
	return nil
}

// carry carries what a client and Postgres say to each other, message by message.
func (f *Faults) carry(client net.Conn, address string) {
	defer client.Close()
	server, err := net.Dial("unix", address)
	if err != nil {
		return
	}
	defer server.Close()
	var answers sync.WaitGroup
	defer answers.Wait()
	defer server.Close()
	deaf := make(chan struct{})
	ready := make(chan struct{})
	answers.Go(func() {
		defer client.Close()
		for {
			message, err := readMessage(server, true)
			if err != nil {
				return
			}
			select {
			case <-deaf:
				if message[0] == 'Z' { // ReadyForQuery: all was done
					close(ready)
					return
				}
				continue
			default:
			}
			if _, err := client.Write(message); err != nil {
				return
			}
		}
	})
	// The first message has no type.
	start, err := readMessage(client, false)
	if err != nil {
		return
	}
	if len(start) == 16 && bytes.Equal(start[4:8], cancelRequest) {
		f.cancelled <- struct{}{}
	}
	if _, err := server.Write(start); err != nil {
		return
	}
	prepared := make(map[string]string)
	var going []byte   // what was not handed on yet
	var texts []string // that it runs
	portal := ""       // the text that Execute runs
	for {
		message, err := readMessage(client, true)
		if err != nil {
			return
		}
		going = append(going, message...)
		body := message[5:]
		switch message[0] {
		case 'P': // Parse
			name, rest := cString(body)
			prepared[name], _ = cString(rest)
			continue
		case 'B': // Bind
			_, rest := cString(body)
			name, _ := cString(rest)
			portal = prepared[name]
			continue
		case 'E': // Execute
			texts = append(texts, portal)
			continue
		case 'Q':
			text, _ := cString(body)
			texts = append(texts, text)
		case 'S', 'H': // Sync, Flush
		case 'X', 'p', 'd', 'c', 'f': // Terminate, a password, COPY
		default:
			continue
		}
		if len(texts) > 0 {
			if fault := f.breaks(texts); fault != nil {
				if !fault.Done {
					return
				}
				close(deaf)
				if _, err := server.Write(going); err == nil {
					<-ready
				}
				return
			}
		}
		if _, err := server.Write(going); err != nil {
			return
		}
		going, texts = going[:0], nil
	}
}

// readMessage reads one message of the protocol, with its type but for the first one.
func readMessage(from io.Reader, typed bool) ([]byte, error) {
	head := make([]byte, 4, 64)
	if typed {
		head = head[:5]
	}
	if _, err := io.ReadFull(from, head); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(head[len(head)-4:])) - 4
	if n < 0 || n > 1<<30 {
		return nil, errors.New("no message of Postgres")
	}
	message := append(head, make([]byte, n)...)
	_, err := io.ReadFull(from, message[len(head):])
	return message, err
}

// cString returns a text that ends with a zero byte, and what comes after it.
func cString(b []byte) (string, []byte) {
	text, rest, _ := bytes.Cut(b, []byte{0})
	return string(text), rest
}
