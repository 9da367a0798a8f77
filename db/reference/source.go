// Package reference reads the data directory of a reference PDS, the server in TypeScript,
// and writes one: account.sqlite, sequencer.sqlite, and for every account a folder with its
// signing key and store.sqlite.
//
// Reading writes nothing there, not even a lock: SQLite leaves files beside a database that
// it opens for reading, and without its log a database lacks what was written last. So a
// database whose log holds something is copied with it to a scratch folder and read there,
// and others are read in place as what does not change. Whether it did is for the caller to
// compare, see [Source.Fingerprint].
package reference

import (
	"context"
	"errors"
	"iter"
)

// A Layout says where the parts of a data directory are, as whole paths on this machine.
type Layout struct {
	AccountDB   string
	SequencerDB string
	Actors      string // the folder of the stores
	Blobs       string // empty: in a bucket
	Temporary   string // folder of the blobs that no record names yet
	Quarantine  string // folder of the blobs that are taken down
}

// How a directory is refused.
var (
	// ErrInUse says that a process has one of the databases open.
	ErrInUse = errors.New("directory is in use")
	// ErrTooOld says that the directory is of an edition from before there was a file for
	// each account.
	ErrTooOld = errors.New("edition is too old")
	// ErrUnknownEdition says that a migration was run that is not known here, or one was
	// cut off.
	ErrUnknownEdition = errors.New("edition is not known")
	// ErrDamaged says that a file is not what it must be.
	ErrDamaged = errors.New("file is damaged")
	// ErrNoStore says that an account has no store.
	ErrNoStore = errors.New("no store")
)

// Source is a data directory that is read. Its methods may be called by several goroutines.
type Source struct{}

// Open opens the two databases of a directory. Copies go to scratch, a folder of the
// caller's, and leave it with Close; a store takes the room of its copy there while it is
// open.
//
// It returns ErrInUse with the process that has a database open, ErrTooOld,
// ErrUnknownEdition, and ErrDamaged when a database does not pass SQLite's check.
func Open(ctx context.Context, l Layout, scratch string) (*Source, error) {
	return nil, errors.New("not written yet")
}

func (s *Source) Close() error { return nil }

// InUse returns ErrInUse, with the process, when one has a database open on this machine.
func (s *Source) InUse() error { return errors.New("not written yet") }

// Migrations are the names of the migrations that were run on account.sqlite.
func (s *Source) Migrations() []string { return nil }

// Fingerprint changes with the sizes and times of the two databases, their logs and the
// settings file: one of an earlier time is the same when nothing has been written since.
func (s *Source) Fingerprint() (string, error) { return "", errors.New("not written yet") }

// The rows of account.sqlite, in the order of their primary keys. An error ends them.
func (s *Source) Actors(ctx context.Context) iter.Seq2[Actor, error]               { return nil }
func (s *Source) AppPasswords(ctx context.Context) iter.Seq2[AppPassword, error]   { return nil }
func (s *Source) RefreshTokens(ctx context.Context) iter.Seq2[RefreshToken, error] { return nil }
func (s *Source) EmailTokens(ctx context.Context) iter.Seq2[EmailToken, error]     { return nil }
func (s *Source) InviteCodes(ctx context.Context) iter.Seq2[InviteCode, error]     { return nil }
func (s *Source) InviteCodeUses(ctx context.Context) iter.Seq2[InviteCodeUse, error] {
	return nil
}

// OAuthGrants counts the clients that are signed in by OAuth.
func (s *Source) OAuthGrants(ctx context.Context) (int, error) {
	return 0, errors.New("not written yet")
}

// Events are those with numbers above after, in order.
func (s *Source) Events(ctx context.Context, after int64) iter.Seq2[Event, error] { return nil }

// LastEvent is the highest number given, whether that event is still there or not, and
// when the last one was sequenced.
func (s *Source) LastEvent(ctx context.Context) (seq int64, at string, err error) {
	return 0, "", errors.New("not written yet")
}

// LastRevs are the revs of the last #commit or #sync event of every account that has one.
func (s *Source) LastRevs(ctx context.Context) (map[string]string, error) {
	return nil, errors.New("not written yet")
}

// Folders are the names of the folders of accounts, which are DIDs, but for what else lies
// there, in order.
func (s *Source) Folders(ctx context.Context) iter.Seq2[string, error] { return nil }

// Key is the signing key of an account: 32 bytes. It returns ErrNoStore, or ErrDamaged
// when the file has another length.
func (s *Source) Key(did string) ([]byte, error) { return nil, errors.New("not written yet") }

// A ReservedKey is one that was handed out before there is an account.
type ReservedKey struct {
	Name string // the did:key of its public half, or the DID that it is for
	Key  []byte // 32 bytes
}

func (s *Source) ReservedKeys() ([]ReservedKey, error) { return nil, errors.New("not written yet") }

// Store opens the store of an account. It returns ErrNoStore, or ErrDamaged.
func (s *Source) Store(ctx context.Context, did string) (*Store, error) {
	return nil, errors.New("not written yet")
}

// Store is the store of one account that is read.
type Store struct{}

func (s *Store) Close() error { return nil }

// Root is the row of the root, or ErrDamaged where there is none.
func (s *Store) Root(ctx context.Context) (*RepoRoot, error) {
	return nil, errors.New("not written yet")
}

// Block is the content of the block that a CID names, or db's not found.
func (s *Store) Block(ctx context.Context, cid string) (*Block, error) {
	return nil, errors.New("not written yet")
}

// The rows of a store. Blocks come in the order in which they lie in the file, records by
// their URIs, preferences by their ids.
func (s *Store) Blocks(ctx context.Context) iter.Seq2[Block, error]           { return nil }
func (s *Store) Records(ctx context.Context) iter.Seq2[Record, error]         { return nil }
func (s *Store) Blobs(ctx context.Context) iter.Seq2[Blob, error]             { return nil }
func (s *Store) RecordBlobs(ctx context.Context) iter.Seq2[RecordBlob, error] { return nil }
func (s *Store) Preferences(ctx context.Context) iter.Seq2[Preference, error] { return nil }
