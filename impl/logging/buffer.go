package logging

import (
	"bytes"
	"io"
	"sync"
	"time"
)

const (
	delay    = 100 * time.Millisecond // how old a line gets before it is written
	patience = time.Second            // how long a call waits for the writer below
	size     = 256 << 10              // bytes of lines that wait
)

// A buffer gathers lines, each of a Write of its own, so that not every request costs a
// system call. A goroutine writes them: when the oldest is delay old, when the buffer is
// half full, and for Flush. So a line is lost when the process ends without Close within
// delay.
//
// It holds at most size bytes, and as many that are being written. Where these are not
// taken, by a pipe that nobody reads, callers wait, but not for ever, or nobody could sign
// in: nothing waits longer than patience, and once something did, nothing waits at all
// until the write has come to its end. What does not fit then is dropped and counted, as is
// what a write fails for. The number is told to lost as soon as something is taken again,
// behind the lines that were kept.
//
// All methods may be called at the same time.
type buffer struct {
	w    io.Writer
	lost func(lines int) error // writes to w

	filled chan struct{} // of 1: there are lines
	urgent chan struct{} // of 1: they must not wait

	mu      sync.Mutex
	lines   []byte
	in, out int           // bytes that came; of these, how many are written or lost
	moved   chan struct{} // closed when a write begins or ends, and made anew
	dropped int           // lines that lost was not told of
	stuck   bool          // somebody lost patience with the write that goes on
	closed  bool
}

func newBuffer(w io.Writer, lost func(lines int) error) *buffer {
	b := &buffer{
		w: w, lost: lost, moved: make(chan struct{}),
		filled: make(chan struct{}, 1), urgent: make(chan struct{}, 1),
	}
	go b.run()
	return b
}

// Write keeps a copy of line. It never fails.
func (b *buffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed && b.in == b.out {
		_, _ = b.w.Write(line)
		return len(line), nil
	}
	fits := func() bool { return len(b.lines) == 0 || len(b.lines)+len(line) <= size }
	if b.closed || !b.await(fits) {
		b.dropped++
		return len(line), nil
	}
	b.lines = append(b.lines, line...)
	b.in += len(line)
	wake(b.filled)
	if len(b.lines) > size/2 {
		wake(b.urgent)
	}
	return len(line), nil
}

// Flush returns when all that was written to b before is written, or can't be.
func (b *buffer) Flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flush()
}

func (b *buffer) flush() {
	end := b.in
	b.await(func() bool { return b.out >= end })
}

// Close flushes b and ends its goroutine. Lines that come later are not gathered.
func (b *buffer) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed, b.stuck = true, false // one last wait
	wake(b.filled)
	wake(b.urgent)
	b.flush()
}

// await waits, without b.mu, until done holds, and says whether it does. There must be
// lines to write until then.
func (b *buffer) await(done func() bool) bool {
	if done() {
		return true
	}
	wake(b.urgent)
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for !b.stuck {
		moved, late := b.moved, false
		b.mu.Unlock()
		select {
		case <-moved:
		case <-limit.C:
			late = true
		}
		b.mu.Lock()
		if done() {
			return true
		}
		b.stuck = b.stuck || late
	}
	return false
}

// run writes what is gathered until b is closed.
func (b *buffer) run() {
	var spare []byte
	torn := false // the last write ended inside of a line
	for {
		<-b.filled
		soon := time.NewTimer(delay)
		select {
		case <-soon.C:
		case <-b.urgent:
		}
		soon.Stop()

		b.mu.Lock()
		lines, dropped := b.lines, b.dropped
		b.lines, b.dropped = spare[:0], 0
		b.move()
		b.mu.Unlock()
		var err error
		if torn {
			_, err = b.w.Write([]byte("\n"))
			torn = err != nil
		}
		n := 0
		if err == nil && len(lines) > 0 {
			n, err = b.w.Write(lines)
			torn = n > 0 && lines[n-1] != '\n'
		}
		dropped += bytes.Count(lines[n:], []byte("\n"))
		if err == nil && dropped > 0 && b.lost(dropped) == nil {
			dropped = 0
		}
		if spare = lines; cap(spare) > 2*size {
			spare = nil
		}

		b.mu.Lock()
		b.out += len(lines)
		b.dropped += dropped
		b.stuck = false
		b.move()
		end := b.closed && b.in == b.out
		b.mu.Unlock()
		if end {
			return
		}
	}
}

// move tells whoever waits to look again.
func (b *buffer) move() {
	close(b.moved)
	b.moved = make(chan struct{})
}

// wake makes the receiver of c, which holds one, go on, now or when it comes there.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
