package handover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Predecessor is the process that this one was started by, to take over from it.
type Predecessor struct {
	PID int

	wire     *wire
	released chan Released // has room for one
	gone     chan struct{} // closed when it says nothing more

	mu      sync.Mutex
	conns   []connection // that nobody has accepted
	arrived chan struct{}
}

// Prepared is what a process says that could take over.
type Prepared struct {
	Version string `json:"version"`
	// Beside says that the process serves now, beside the one before.
	Beside bool `json:"beside"`
	// Migrates says that the database is behind the process: to bring it up to date may take
	// its time.
	Migrates bool `json:"migrates"`
}

// Released is what a process says that has let go of the database.
type Released struct {
	// Stopped is since when it has accepted nobody.
	Stopped time.Time `json:"stopped"`
}

// Serving is what a process says that has taken over.
type Serving struct {
	Pause time.Duration `json:"pause"` // in which nobody was accepted
}

type failure struct {
	Error string `json:"error"`
}

type connection struct {
	fd    int
	Begun bool `json:"begun"`
}

func newPredecessor(fd int) (*Predecessor, error) {
	w, err := newWire(fd)
	if err != nil {
		return nil, err
	}
	p := &Predecessor{
		PID: os.Getppid(), wire: w,
		released: make(chan Released, 1), gone: make(chan struct{}), arrived: make(chan struct{}, 1),
	}
	go p.listen()
	return p, nil
}

// listen takes what the other process says until it is gone.
func (p *Predecessor) listen() {
	defer close(p.gone)
	for {
		m, err := p.wire.receive()
		if err != nil {
			return
		}
		switch m.kind {
		case saidReleased:
			var r Released
			if json.Unmarshal(m.text, &r) == nil && len(p.released) == 0 {
				p.released <- r
			}
		case saidConnection:
			c := connection{fd: m.fd}
			if json.Unmarshal(m.text, &c) != nil || m.fd < 0 {
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, c)
			p.mu.Unlock()
			select {
			case p.arrived <- struct{}{}:
			default: // somebody is about to look
			}
		}
	}
}

// next waits for a connection, until the other process is gone or ended is closed.
func (p *Predecessor) next(ended <-chan struct{}) (fd int, begun bool, err error) {
	for {
		gone := false
		select {
		case <-p.gone:
			gone = true
		default:
		}
		p.mu.Lock()
		if len(p.conns) > 0 {
			c := p.conns[0]
			p.conns = p.conns[1:]
			p.mu.Unlock()
			return c.fd, c.Begun, nil
		}
		p.mu.Unlock()
		if gone {
			return -1, false, errGone
		}
		select {
		case <-p.arrived:
		case <-p.gone:
		case <-ended:
			return -1, false, errGone
		}
	}
}

var errGone = errors.New("the process before is gone")

// Prepared says that this process can take over, and waits until the other has let go of
// what two cannot have, unless it is beside. Not to wait any more, the other process kills
// this one.
func (p *Predecessor) Prepared(ctx context.Context, v Prepared) (Released, error) {
	if err := p.wire.send(saidPrepared, v, -1); err != nil {
		return Released{}, fmt.Errorf("tell the process before: %w", err)
	}
	if v.Beside {
		return Released{}, nil
	}
	select {
	case r := <-p.released:
		return r, nil
	case <-p.gone:
		select {
		case r := <-p.released:
			return r, nil
		default:
		}
		return Released{}, errGone
	case <-ctx.Done():
		return Released{}, ctx.Err()
	}
}

// Serving says that this process has taken over.
func (p *Predecessor) Serving(v Serving) error {
	if err := p.wire.send(saidServing, v, -1); err != nil {
		return fmt.Errorf("tell the process before: %w", err)
	}
	return nil
}

// Failed says why this process does not take over. It is for before Serving.
func (p *Predecessor) Failed(reason error) {
	text := reason.Error()
	_ = p.wire.send(saidFailed, failure{text[:min(len(text), maxMessage/8)]}, -1) // it sees the end of this one anyway
}

// Close lets go of the other process, and closes the connections that nobody has accepted.
func (p *Predecessor) Close() {
	p.wire.close()
	<-p.gone
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = unix.Close(c.fd)
	}
	p.conns = nil
}
