package dbtest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
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
	// Early says that the connection ends before Postgres has done it.
	Early bool
	// Silent says that who sent it learns of no end, either: it waits until it gives up.
	Silent bool
	// Says is what pgbouncer 1.18 says before it ends the connection, "" for nothing.
	Says string
}

// Faults stands between a server and Postgres and breaks connections. It is safe for
// concurrent use.
type Faults struct {
	URL string // of the database, by way of the faults

	mu    sync.Mutex
	next  []Fault
	met   int // of the first of them
	sends int // until now

	rate   int // one in so many breaks, 0: none but next
	chance *rand.Rand
	broke  []string // by chance

	cancelled chan struct{} // has one for each request to cancel something
}

// BreakConnections returns faults for the database of a URL that [PostgresURL] gave, of
// which there is none until [Faults.Arm]. It ends with the test.
func BreakConnections(t testing.TB, database string) *Faults {
	t.Helper()
	f := &Faults{cancelled: make(chan struct{}, 100)}
	f.URL = between(t, database, f.carry)
	return f
}

// FaultsVariable names the seed of faults at random: with each database of the tests one in 50 of
// what a server sends to be run breaks the connection, a COMMIT as any other, half of them after
// Postgres has done it; 20 times, so that what takes many statements is done in the end.
// "SEED/N" lets one in N break. The same seed breaks the same as long as a test sends the
// same. What counts what is sent has no meaning there.
const FaultsVariable = "PORTICO_TEST_FAULTS"

// mostByChance bounds how often the connections to a database break by chance.
const mostByChance = 20

// Faulty says that [FaultsVariable] is set.
func Faulty() bool { return os.Getenv(FaultsVariable) != "" }

// faultyURL is the way to a database that breaks as [FaultsVariable] says.
func faultyURL(t testing.TB, database string) string {
	t.Helper()
	seed, rate, _ := strings.Cut(os.Getenv(FaultsVariable), "/")
	n, err := strconv.ParseUint(seed, 10, 64)
	f := &Faults{rate: 50, cancelled: make(chan struct{}, 100)}
	if err == nil && rate != "" {
		f.rate, err = strconv.Atoi(rate)
	}
	if err != nil || f.rate < 1 {
		t.Fatalf("%s is no SEED or SEED/N", FaultsVariable)
	}
	name := fnv.New64()
	_, _ = name.Write([]byte(t.Name()))
	f.chance = rand.New(rand.NewPCG(n, name.Sum64()))
	t.Cleanup(func() {
		if t.Failed() {
			f.mu.Lock()
			defer f.mu.Unlock()
			t.Logf("what broke:\n%s", strings.Join(f.broke, "\n"))
		}
	})
	return between(t, database, f.carry)
}

// Arm lets a connection break once for each of some faults, one after the other.
func (f *Faults) Arm(next ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next, f.met = next, 0
}

// Broke reports whether the connection has broken for each fault of the last call of Arm.
func (f *Faults) Broke() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.next) == 0
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
	if f.rate > 0 {
		n := f.chance.IntN(2 * f.rate)
		if n > 1 || len(f.broke) >= mostByChance || texts[0] == "-- ping" { // of who opens a database, which fails at once
			return nil
		}
		f.broke = append(f.broke, fmt.Sprintf("%d done %t %.300q", f.sends, n == 1, texts))
		return &Fault{Done: n == 1}
	}
	if len(f.next) == 0 {
		return nil
	}
	fault := f.next[0]
	if !slices.ContainsFunc(texts, func(text string) bool { return strings.HasPrefix(text, fault.Text) }) {
		return nil
	}
	if f.met++; f.met < fault.At {
		return nil
	}
	f.next, f.met = f.next[1:], 0
	return &fault
}

// carry carries what a client and Postgres say to each other, message by message.
func (f *Faults) carry(client, server net.Conn) {
	var answers sync.WaitGroup
	defer answers.Wait()
	defer server.Close()
	deaf := make(chan struct{})
	ready := make(chan struct{})
	answers.Go(func() {
		defer close(ready)
		for {
			message, err := readMessage(server, true)
			select {
			case <-deaf:
				if err != nil || message[0] == 'Z' { // ReadyForQuery: all was done
					return
				}
				continue
			default:
			}
			if err == nil {
				_, err = client.Write(message)
			}
			if err != nil {
				client.Close()
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
		select {
		case f.cancelled <- struct{}{}:
		default: // nobody asks
		}
	}
	spared := f.rate > 0 && !bytes.Contains(start, []byte("application_name\x00portico\x00")) // the test's own
	if _, err := server.Write(start); err != nil {
		return
	}
	prepared := make(map[string]string)
	var going []byte   // what was not handed on yet
	var texts []string // that it runs
	snapshot := false  // it is in one, which by chance does not break: it can't be read anew
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
		if len(texts) > 0 && !spared && !(snapshot && f.rate > 0) {
			if fault := f.breaks(texts); fault != nil {
				close(deaf)
				if fault.Done {
					if _, err := server.Write(going); err == nil && !fault.Early {
						<-ready
					}
				}
				server.Close()
				if fault.Says != "" {
					_, _ = client.Write(poolerError(fault.Says))
				}
				if fault.Silent {
					_, _ = io.Copy(io.Discard, client)
				}
				return
			}
		}
		if _, err := server.Write(going); err != nil {
			return
		}
		if len(texts) > 0 {
			first := strings.ToLower(texts[0])
			snapshot = strings.HasPrefix(first, "begin isolation level repeatable read") ||
				snapshot && !strings.HasPrefix(first, "rollback") && !strings.HasPrefix(first, "commit")
		}
		going, texts = going[:0], nil
	}
}

// poolerError is the message by which pgbouncer 1.18 ends a connection, whatever was the reason.
func poolerError(text string) []byte {
	fields := "SFATAL\x00C08P01\x00M" + text + "\x00\x00"
	return append(binary.BigEndian.AppendUint32([]byte{'E'}, uint32(4+len(fields))), fields...)
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
