package export

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"portico/db"
)

// Bounds of [Exports]; what is 0 is as said.
type Bounds struct {
	// Readers is how many archives are read from the database at a time, for which each
	// has a connection: 2. One address has one.
	Readers int
	// Wait is how long a client waits for that: 30 seconds.
	Wait time.Duration
	// Archives is how many may be under way to clients, 512, PerAddress how many to those of
	// one address, 128.
	Archives, PerAddress int
	// Bytes is how much of them may be kept before another one is refused, also one that
	// has waited, 8 GiB, BytesPerAddress how much for one address, 2 GiB.
	Bytes, BytesPerAddress int64
	// Memory is how many bytes of that may be in memory: 32 MiB.
	Memory int64
}

var (
	// ErrBusy says that too much is under way for all clients together.
	ErrBusy = errors.New("too many archives are under way")
	// ErrGreedy says that too much is under way for an address.
	ErrGreedy = errors.New("too many archives are under way to this address")
)

// Exports makes archives for clients. It is safe for concurrent use.
type Exports struct {
	db     *db.DB
	dir    string
	bounds Bounds
	turns  chan struct{} // holds a token for each reader that there may be

	readers sync.WaitGroup

	mu      sync.Mutex
	clients map[string]*client
	total   client
	memory  int64 // that is taken
}

// A client is an address, or all of them.
type client struct {
	archives int
	bytes    int64
	turn     chan struct{} // holds a token while nothing is read for it
}

// New makes archives of what is in a database. Files are kept in dir, which must exist;
// empty is that of the system for temporary files.
func New(d *db.DB, dir string, b Bounds) *Exports {
	b.Readers, b.Wait = cmp.Or(b.Readers, 2), cmp.Or(b.Wait, 30*time.Second)
	b.Archives, b.PerAddress = cmp.Or(b.Archives, 512), cmp.Or(b.PerAddress, 128)
	b.Bytes, b.BytesPerAddress = cmp.Or(b.Bytes, 8<<30), cmp.Or(b.BytesPerAddress, 2<<30)
	b.Memory = cmp.Or(b.Memory, 32<<20)
	e := &Exports{db: d, dir: dir, bounds: b, turns: make(chan struct{}, b.Readers), clients: make(map[string]*client)}
	for range b.Readers {
		e.turns <- struct{}{}
	}
	return e
}

// A Writer writes an archive of one state of the database; [Archive] is one.
type Writer func(ctx context.Context, s *db.Snapshot, w io.Writer) error

// Open returns the archive that write makes for a client of an address, to be read while
// it is made, and to be closed. Errors of write come from Open, if it has written nothing
// yet; later ones come from reading. Errors are ErrBusy and ErrGreedy too.
func (e *Exports) Open(ctx context.Context, address string, write Writer) (io.ReadCloser, error) {
	return e.open(ctx, address, write, (*spool).begun)
}

// OpenWhole is Open that returns when all has been written: all errors come from it.
func (e *Exports) OpenWhole(ctx context.Context, address string, write Writer) (io.ReadCloser, error) {
	return e.open(ctx, address, write, (*spool).ended)
}

func (e *Exports) open(ctx context.Context, address string, write Writer, ready func(*spool) error) (_ io.ReadCloser, err error) {
	who, err := e.enter(address)
	if err != nil {
		return nil, err
	}
	s := newSpool(e, address, who)
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if err := e.turn(ctx, who); err != nil {
		return nil, err
	}
	reading, cancel := context.WithCancel(ctx)
	s.cancel = cancel
	e.readers.Go(func() {
		defer cancel()
		twice := resumed{to: s}
		err := e.db.PublicSnapshot(reading, func(snapshot *db.Snapshot) error {
			twice.begin()
			return write(reading, snapshot, &twice)
		})
		e.turns <- struct{}{}
		who.turn <- struct{}{}
		s.end(err)
	})
	if err := ready(s); err != nil {
		return nil, err
	}
	return s, nil
}

// Settle waits until nothing is read from the database, when nobody opens an archive any
// more. The error is that of ctx.
func (e *Exports) Settle(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		e.readers.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("archives are still read: %w", ctx.Err())
	}
}

// turn waits until one may read for who.
func (e *Exports) turn(ctx context.Context, who *client) error {
	late := time.NewTimer(e.bounds.Wait)
	defer late.Stop()
	select {
	case <-who.turn:
	case <-late.C:
		return ErrGreedy
	case <-ctx.Done():
		return ctx.Err()
	}
	var err error
	select {
	case <-e.turns:
		// What was read for others meanwhile may have left no room.
		e.mu.Lock()
		err = e.room(who)
		e.mu.Unlock()
		if err == nil {
			return nil
		}
		e.turns <- struct{}{}
	case <-late.C:
		err = ErrBusy
	case <-ctx.Done():
		err = ctx.Err()
	}
	who.turn <- struct{}{}
	return err
}

// enter counts an archive for the clients of an address.
func (e *Exports) enter(address string) (*client, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	who := e.clients[address]
	if who == nil {
		who = &client{turn: make(chan struct{}, 1)}
		who.turn <- struct{}{}
	}
	if who.archives >= e.bounds.PerAddress {
		return nil, ErrGreedy
	}
	if err := e.room(who); err != nil {
		return nil, err
	}
	if e.total.archives >= e.bounds.Archives {
		return nil, ErrBusy
	}
	e.clients[address] = who
	who.archives++
	e.total.archives++
	return who, nil
}

// room returns ErrGreedy or ErrBusy when as many bytes are kept as may be, for who or for
// all. The caller has locked mu.
func (e *Exports) room(who *client) error {
	switch {
	case who.bytes >= e.bounds.BytesPerAddress:
		return ErrGreedy
	case e.total.bytes >= e.bounds.Bytes:
		return ErrBusy
	}
	return nil
}

// leave is for an archive of some bytes that its client has, or does not want any more.
func (e *Exports) leave(address string, who *client, bytes int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	who.archives--
	who.bytes -= bytes
	e.total.archives--
	e.total.bytes -= bytes
	if who.archives == 0 {
		delete(e.clients, address)
	}
}

// keep counts bytes that are kept for who.
func (e *Exports) keep(who *client, bytes int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	who.bytes += bytes
	e.total.bytes += bytes
}

// take takes memory, or reports that there is none.
func (e *Exports) take(bytes int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.memory+bytes > e.bounds.Memory {
		return false
	}
	e.memory += bytes
	return true
}

func (e *Exports) give(bytes int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.memory -= bytes
}
