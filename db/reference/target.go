package reference

import (
	"context"
	"errors"
)

// Target is a data directory that is written, of the edition that 0.4.217 to 0.5.35 have.
// One goroutine may use it.
type Target struct{}

// Create makes the folders and the two databases of a directory, which must not be there.
func Create(ctx context.Context, l Layout) (*Target, error) {
	return nil, errors.New("not written yet")
}

// Insert stores rows of account.sqlite or sequencer.sqlite: a slice of one of their types.
func (t *Target) Insert(ctx context.Context, rows any) error {
	return errors.New("not written yet")
}

// SetLastEvent makes the next event of the server get the number after seq.
func (t *Target) SetLastEvent(ctx context.Context, seq int64) error {
	return errors.New("not written yet")
}

// Store makes the folder of an account with its signing key, and has fill fill its store in
// one transaction.
func (t *Target) Store(ctx context.Context, did string, key []byte, fill func(*StoreTarget) error) error {
	return errors.New("not written yet")
}

// StoreTarget is a store that is written.
type StoreTarget struct{}

// Insert stores rows of store.sqlite: a slice of one of its types.
func (t *StoreTarget) Insert(ctx context.Context, rows any) error {
	return errors.New("not written yet")
}

// ReserveKey stores a key that was handed out.
func (t *Target) ReserveKey(k ReservedKey) error { return errors.New("not written yet") }

// Close syncs everything to disk.
func (t *Target) Close() error { return errors.New("not written yet") }
