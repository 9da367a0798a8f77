package reference

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Where SQLite locks. Who has a database with a write-ahead log open holds a lock on some of
// these bytes of the file, which need not be there, and on one of the index of the log.
var (
	sharedBytes = lockRange{suffix: "", start: 1073741826, length: 510}
	indexByte   = lockRange{suffix: "-shm", start: 128, length: 1}
)

type lockRange struct {
	suffix        string
	start, length int64
}

// inUse returns ErrInUse when a process of this machine has a database open. It takes no
// lock, and needs the file to be readable only.
func inUse(path string) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	for _, r := range []lockRange{sharedBytes, indexByte} {
		holder, err := r.holder(path)
		if err != nil {
			return err
		}
		if holder != "" {
			return fmt.Errorf("%w: %s has %s open", ErrInUse, holder, path)
		}
	}
	return nil
}

// holder says which process has a lock, "" when there is none or no such file.
func (r lockRange) holder(path string) (string, error) {
	f, err := os.Open(path + r.suffix)
	if r.suffix != "" && errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: 0, Start: r.start, Len: r.length}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return "", fmt.Errorf("ask who locks %s: %w", f.Name(), err)
	}
	return holderOf(lock), nil
}

// holderOf says which process has the lock that the system answered with. One without a
// number here is in another container, whose processes are not seen from this one, or the
// lock is of no single process.
func holderOf(lock unix.Flock_t) string {
	switch {
	case lock.Type == unix.F_UNLCK:
		return ""
	case lock.Pid <= 0:
		return "a process of another container"
	}
	return fmt.Sprintf("process %d", lock.Pid)
}
