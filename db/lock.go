package db

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// LockName is the file in a data directory that who uses it has locked. It stays there.
const LockName = "portico.lock"

const servesPrefix = "serving "

// dirLock keeps a second process out of a data directory. The kernel drops it
// with the process, however that ends; the file's text only says whose it is.
type dirLock struct{ file *os.File }

// lockEvery is how often a lock is tried that is waited for: often, since others wait for who
// waits.
const lockEvery = 2 * time.Millisecond

// waitForDir is lockDir, again and again for as long as wait while another process has dir.
func waitForDir(ctx context.Context, dir, serves string, wait time.Duration) (*dirLock, error) {
	late := time.Now().Add(wait)
	for {
		l, err := lockDir(dir, serves)
		if !errors.Is(err, ErrLocked) || !time.Now().Before(late) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s: %w", dir, ctx.Err())
		case <-time.After(lockEvery):
		}
	}
}

// lockDir locks dir for a process that serves at the URL serves, if it does.
func lockDir(dir, serves string) (*dirLock, error) {
	path := filepath.Join(dir, LockName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		holder, _ := os.ReadFile(path) // the message is worth having without it
		return nil, fmt.Errorf("%w: %s is held by %s", ErrLocked, dir, describe(string(holder)))
	}
	text := fmt.Sprintf("process %d on %s since %s\n", os.Getpid(), hostname(), time.Now().UTC().Format(time.RFC3339))
	if serves != "" {
		text += servesPrefix + serves + "\n"
	}
	if err := errors.Join(f.Truncate(0), writeAt(f, text)); err != nil {
		return nil, errors.Join(fmt.Errorf("write lock file: %w", err), f.Close())
	}
	return &dirLock{f}, nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

func describe(holder string) string {
	if holder = strings.TrimSpace(holder); holder != "" {
		return strings.ReplaceAll(holder, "\n", ", ")
	}
	return "another process"
}

func hostname() string {
	host, err := os.Hostname()
	if err != nil {
		return "unknown host"
	}
	return host
}

// ServedAt is the URL, "" for none, at which a process of this machine serves the data
// directory, as far as is known: one that was killed has left its own behind.
func ServedAt(dir string) string {
	text, err := os.ReadFile(filepath.Join(dir, LockName))
	if err != nil {
		return ""
	}
	holder, serves, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	serves, ok := strings.CutPrefix(serves, servesPrefix)
	if !ok || !strings.Contains(holder, " on "+hostname()+" since ") {
		return ""
	}
	return serves
}

// HeldBy is the number of the process of this machine that uses the data directory, as far
// as is known: one that was killed has left its number behind. 0: none.
func HeldBy(dir string) int {
	text, err := os.ReadFile(filepath.Join(dir, LockName))
	if err != nil {
		return 0
	}
	var pid int
	var host string
	if _, err := fmt.Sscanf(string(text), "process %d on %s", &pid, &host); err != nil || host != hostname() {
		return 0
	}
	return pid
}

// Holder is the number of the process of this machine that has locked the data directory, 0
// when none has.
func Holder(dir string) (pid int, err error) {
	f, err := os.Open(filepath.Join(dir, LockName))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("open lock file: %w", err)
	}
	defer f.Close()
	// Who was killed has left its text behind, but no lock.
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if err == nil {
		return 0, nil
	}
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return 0, fmt.Errorf("try the lock of %s: %w", dir, err)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return 0, fmt.Errorf("read lock file: %w", err)
	}
	var host string
	if _, err := fmt.Sscanf(string(text), "process %d on %s since", &pid, &host); err != nil || host != hostname() {
		return 0, fmt.Errorf("%s is locked by %s", dir, describe(string(text)))
	}
	return pid, nil
}

// release leaves the file where it is: removing it would let two processes lock
// two different files of one name.
func (l *dirLock) release() error {
	return errors.Join(l.file.Truncate(0), l.file.Close())
}
