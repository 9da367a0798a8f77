package db

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// The file of the database in its directory, and the one that it has as a draft. SQLite
// has two more beside each while it is open.
const (
	liteName  = "portico.sqlite"
	draftName = liteName + ".adopting"
)

var besides = []string{"", "-wal", "-shm"}

// Publish closes a draft and gives it the name by which Open finds it. The file is whole
// and on the disk before it gets there, and its name is once Publish returns nil. It
// returns an error when there is a database already, and when db is no draft.
func (db *DB) Publish(ctx context.Context) error {
	e, ok := db.engine.(*sqliteEngine)
	if !ok || filepath.Base(e.path) != draftName {
		return errors.New("publish database: it is no draft")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := e.publish(filepath.Join(filepath.Dir(e.path), liteName)); err != nil {
		return fmt.Errorf("publish database: %w", err)
	}
	return nil
}

func (e *sqliteEngine) publish(path string) error {
	lock := e.lock
	e.lock = nil // nobody else may have the directory in between
	defer lock.release()
	if err := e.close(); err != nil {
		return err
	}
	// The last connection has moved what the log had into the file.
	if log, err := os.Stat(e.path + "-wal"); err == nil && log.Size() > 0 {
		return fmt.Errorf("%s-wal is still in use", e.path)
	}
	for _, name := range []string{"", "-wal"} {
		if _, err := os.Lstat(path + name); !errors.Is(err, os.ErrNotExist) {
			return errors.Join(fmt.Errorf("%s%s is there already", path, name), err)
		}
	}
	if err := syncFile(e.path); err != nil {
		return err
	}
	if err := os.Rename(e.path, path); err != nil {
		return err
	}
	return syncFile(filepath.Dir(path))
}

// syncFile waits until a file, or the names in a folder, are on the disk.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// RemoveDraft removes the draft of a directory, if there is one. It returns ErrLocked when
// another process has the directory.
func RemoveDraft(dir string) error {
	lock, err := lockDir(dir, "")
	if err != nil {
		return err
	}
	defer lock.release()
	for _, name := range besides {
		if err := os.Remove(filepath.Join(dir, draftName) + name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove draft of database: %w", err)
		}
	}
	return nil
}

// HasDraft reports whether a directory has a draft.
func HasDraft(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, draftName))
	return err == nil
}
