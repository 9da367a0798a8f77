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
		pid, err := r.holder(path)
		if err != nil {
			return err
		}
		if pid != 0 {
			return fmt.Errorf("%w: process %d has %s open", ErrInUse, pid, path)
		}
	}
	return nil
}

// holder is the number of a process with a lock, 0 when there is none or no such file. It
// is -1 for a lock that belongs to no single process.
func (r lockRange) holder(path string) (int, error) {
	f, err := os.Open(path + r.suffix)
	if r.suffix != "" && errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: 0, Start: r.start, Len: r.length}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return 0, fmt.Errorf("ask who locks %s: %w", f.Name(), err)
	}
	if lock.Type == unix.F_UNLCK {
		return 0, nil
	}
	return int(lock.Pid), nil
}
