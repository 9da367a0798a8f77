package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// backupStateName is the file in the data directory that says when backups were made: whoever
// backs up may not write to the database of a server that runs.
const backupStateName = "backup.json"

// backupState is what is known of the backups to one place.
type backupState struct {
	// Snapshot is the latest, which has what there was at LastSuccess; both are zero before
	// the first.
	Snapshot    string    `json:"snapshot,omitzero"`
	LastSuccess time.Time `json:"lastSuccess,omitzero"`
	// Seconds is how long it took, Bytes how many were sent.
	Seconds float64 `json:"seconds,omitzero"`
	Bytes   int64   `json:"bytes,omitzero"`
	// LastFailure and Error are of a failure since; zero where there was none.
	LastFailure time.Time `json:"lastFailure,omitzero"`
	Error       string    `json:"error,omitzero"`
}

// readBackupState returns what is known of the backups of the data directory dir, by their
// place: nothing where none was ever made to one.
func readBackupState(dir string) (map[string]backupState, error) {
	var file struct {
		Places map[string]backupState `json:"places"`
	}
	text, err := os.ReadFile(filepath.Join(dir, backupStateName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &file)
	}
	if err != nil {
		return nil, fmt.Errorf("read state of backups: %w", err)
	}
	return file.Places, nil
}

// noteBackup notes how a backup to a place went.
func noteBackup(dir, place string, b *storedBackup, failed error, now time.Time) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("note in %s how the backup went: %w", dir, err)
		}
	}()
	lock, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	// Backups to two places may end at once.
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	places, err := readBackupState(dir)
	if err != nil || places == nil {
		places = make(map[string]backupState) // a file that cannot be read says nothing
	}
	state := places[place]
	if failed != nil {
		state.LastFailure, state.Error = now.UTC().Truncate(time.Second), failed.Error()
	} else {
		state = backupState{
			Snapshot: b.Manifest.Snapshot, LastSuccess: b.Manifest.Time, Seconds: float64(b.Took.Milliseconds()) / 1000, Bytes: b.SentBytes,
		}
	}
	places[place] = state
	text, err := json.MarshalIndent(map[string]any{"places": places}, "", "  ")
	if err != nil {
		return err
	}
	draft := filepath.Join(dir, "."+backupStateName)
	if err := removeIfThere(draft); err != nil {
		return err
	}
	if err := writeDurably(draft, string(text)+"\n"); err != nil {
		return errors.Join(err, removeIfThere(draft))
	}
	return os.Rename(draft, filepath.Join(dir, backupStateName))
}
