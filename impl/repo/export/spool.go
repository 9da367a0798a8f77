package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// A spool has pieces of pieceSize bytes in memory: one, and up to smallSize bytes if there
// is so much for all. An archive that does not fit goes through the one into a file.
const (
	pieceSize = 64 << 10
	smallSize = 512 << 10
)

// errGone tells a writer that nobody reads any more.
var errGone = errors.New("the client has gone")

// pieces are again and again of use.
var pieces = sync.Pool{New: func() any { return new([pieceSize]byte) }}

// A spool is an archive on its way: one goroutine writes it, as fast as it can, another
// one reads.
type spool struct {
	exports *Exports
	address string
	who     *client
	cancel  context.CancelFunc // ends the writer; nil: there is none

	mu     sync.Mutex
	change sync.Cond
	// The archive is what is in the file, then what is in memory: in pieces that are full
	// but the last one, which has free bytes left.
	file    *os.File
	filed   int64
	memory  []*[pieceSize]byte
	free    int
	read    int64 // of the archive
	done    bool
	closed  bool
	err     error // of the writer
	granted int64 // memory that was taken
	kept    int64 // that was counted
}

func newSpool(e *Exports, address string, who *client) *spool {
	s := &spool{exports: e, address: address, who: who}
	s.change.L = &s.mu
	return s
}

func (s *spool) size() int64 { return s.filed + int64(len(s.memory)*pieceSize-s.free) }

// begun waits until something has been written, and returns the error of a writer that
// has written nothing.
func (s *spool) begun() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.size() == 0 && !s.done {
		s.change.Wait()
	}
	if s.size() > 0 {
		return nil
	}
	return s.err
}

// ended waits until all has been written.
func (s *spool) ended() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.done {
		s.change.Wait()
	}
	return s.err
}

// end says that no more will be written, because of an error if there is one.
func (s *spool) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.file != nil && !s.closed {
		err = s.flush() // the memory is of use to others
	}
	s.done, s.err = true, err
	if s.closed {
		s.drop()
	}
	s.change.Signal()
}

// Write implements io.Writer for the one who writes.
func (s *spool) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	written := 0
	for written < len(p) {
		if s.closed {
			return written, errGone
		}
		if s.free == 0 {
			if err := s.room(); err != nil {
				return written, err
			}
		}
		last := s.memory[len(s.memory)-1]
		n := copy(last[pieceSize-s.free:], p[written:])
		s.free -= n
		written += n
	}
	s.change.Signal()
	return written, nil
}

// room makes the last piece one with free bytes.
func (s *spool) room() error {
	s.exports.keep(s.who, pieceSize)
	s.kept += pieceSize
	if s.file == nil && len(s.memory) < smallSize/pieceSize && s.exports.take(pieceSize) {
		s.granted += pieceSize
	} else if len(s.memory) > 0 {
		if err := s.flush(); err != nil {
			return err
		}
	}
	s.memory, s.free = append(s.memory, pieces.Get().(*[pieceSize]byte)), pieceSize
	return nil
}

// flush moves all that is in memory into the file.
func (s *spool) flush() error {
	if s.file == nil {
		f, err := unnamedFile(s.exports.dir)
		if err != nil {
			return err
		}
		s.file = f
	}
	for i, piece := range s.memory {
		full := piece[:]
		if i == len(s.memory)-1 {
			full = piece[:pieceSize-s.free]
		}
		if _, err := s.file.WriteAt(full, s.filed); err != nil {
			return fmt.Errorf("keep archive: %w", err)
		}
		s.filed += int64(len(full))
		pieces.Put(piece)
	}
	s.memory, s.free = nil, 0
	s.exports.give(s.granted)
	s.granted = 0
	return nil
}

func unnamedFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "portico-archive-")
	if err != nil {
		return nil, fmt.Errorf("keep archive: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("keep archive: %w", err), f.Close())
	}
	return f, nil
}

// Read implements io.Reader for the one who reads.
func (s *spool) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.read == s.size() {
		if s.done {
			if s.err != nil {
				return 0, s.err
			}
			return 0, io.EOF
		}
		s.change.Wait()
	}
	if s.read < s.filed {
		file, at, n := s.file, s.read, int(min(int64(len(p)), s.filed-s.read))
		s.mu.Unlock()
		n, err := file.ReadAt(p[:n], at)
		s.mu.Lock()
		if n > 0 {
			s.read += int64(n)
			return n, nil
		}
		return 0, fmt.Errorf("read kept archive: %w", err)
	}
	at := int(s.read - s.filed)
	piece := s.memory[at/pieceSize][at%pieceSize:]
	if at/pieceSize == len(s.memory)-1 {
		piece = piece[:len(piece)-s.free]
	}
	n := copy(p, piece)
	s.read += int64(n)
	return n, nil
}

// Close ends the writer, who may take a moment to notice, and gives back what the archive
// took.
func (s *spool) Close() error {
	if s.cancel != nil {
		s.cancel()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.done || s.cancel == nil {
		s.drop()
	}
	return nil
}

// drop gives back what the archive took, when nobody writes nor reads.
func (s *spool) drop() {
	for _, piece := range s.memory {
		pieces.Put(piece)
	}
	s.memory, s.free = nil, 0
	if s.file != nil {
		s.file.Close()
		s.file, s.filed = nil, 0
	}
	s.exports.give(s.granted)
	s.exports.leave(s.address, s.who, s.kept)
	s.granted, s.kept = 0, 0
}
