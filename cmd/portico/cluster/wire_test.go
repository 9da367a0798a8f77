//go:build cluster

package main

import (
	"net"
	"sync"
	"testing"
)

// A wire is what leads from a server to what it stands on. While it is cut nothing comes
// through, and neither end is told.
type wire struct {
	mu   sync.Mutex
	cut  bool
	mend *sync.Cond // signalled when it is not cut any more
}

// lay leads to an address, and returns the address to connect to.
func (w *wire) lay(t *testing.T, address string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			go w.connect(from, address)
		}
	}()
	return l.Addr().String()
}

func (w *wire) connect(from net.Conn, address string) {
	w.wait()
	to, err := net.Dial("tcp", address)
	if err != nil {
		from.Close()
		return
	}
	go w.copy(to, from)
	w.copy(from, to)
}

// copy passes on what comes, until the end of either side is known.
func (w *wire) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		w.wait() // also with the news that there is no more
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (w *wire) wait() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.cut {
		w.mend.Wait()
	}
}

func (w *wire) set(cut bool) {
	w.mu.Lock()
	w.cut = cut
	w.mu.Unlock()
	w.mend.Broadcast()
}

func newWire() *wire {
	w := &wire{}
	w.mend = sync.NewCond(&w.mu)
	return w
}
