package logging

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
)

// A File is a file that lines are appended to, and that can be moved away meanwhile: another
// one takes its place with Reopen. All methods may be called at the same time, and no Write
// is split between two files.
type File struct {
	path string
	mu   sync.Mutex
	f    *os.File
}

// OpenFile opens the file at path, which is made where there is none, for its owner to write
// and its group to read. What it has stays. A pipe that nobody reads is an error.
func OpenFile(path string) (*File, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	return &File{path: path, f: f}, nil
}

func open(path string) (*os.File, error) {
	// Without O_NONBLOCK a pipe would be waited for.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return f, nil
}

// Write appends to the file that was opened last.
func (f *File) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.f.Write(b)
}

// Reopen opens what is at the path now, and closes the file from before. Where that fails
// the latter stays in use.
func (f *File) Reopen() error {
	next, err := open(f.path)
	if err != nil {
		return err
	}
	f.mu.Lock()
	last := f.f
	f.f = next
	f.mu.Unlock()
	if err := last.Close(); err != nil {
		return fmt.Errorf("close the log from before: %w", err)
	}
	return nil
}

// Close closes the file. What is written later is lost.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close log: %w", err)
	}
	return nil
}
