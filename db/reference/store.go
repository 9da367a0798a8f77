package reference

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"

	"portico/db"
)

const (
	reservedFolder = "reserved_keys"
	storeFile      = "store.sqlite"
	keyFile        = "key"
	keySize        = 32
	// operationFile is an operation for the directory that an entryway is to sign.
	operationFile = "did-op"
)

// prefix is the folder among the stores that has an account's.
func prefix(did string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(did)))[:2]
}

// Folders are the names of the folders of accounts, which are DIDs as the accounts have
// them, in the order of their paths. ErrDamaged tells of one thing that is there and should
// not be, such as a link that leaves the folder of the stores, and does not end them.
func (s *Source) Folders(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		prefixes, err := os.ReadDir(s.layout.Actors)
		if err != nil {
			yield("", err)
			return
		}
		for _, p := range prefixes {
			if p.Name() == reservedFolder {
				continue
			}
			if !s.foldersOf(ctx, p.Name(), yield) {
				return
			}
		}
	}
}

func (s *Source) foldersOf(ctx context.Context, prefix string, yield func(string, error) bool) bool {
	if !isPrefix(prefix) {
		return yield("", fmt.Errorf("%w: %s is no folder of stores", ErrDamaged, s.path(prefix)))
	}
	folder, err := s.folder(prefix)
	if err != nil {
		return yield("", err)
	}
	names, err := os.ReadDir(folder)
	if err != nil {
		yield("", err)
		return false
	}
	for _, n := range names {
		if err := ctx.Err(); err != nil {
			yield("", err)
			return false
		}
		did, err := s.account(prefix, n.Name())
		if !yield(did, err) {
			return false
		}
	}
	return true
}

func isPrefix(name string) bool {
	return len(name) == 2 && strings.Trim(name, "0123456789abcdef") == ""
}

// account is the name of a folder that is a DID and where its DID belongs.
func (s *Source) account(folder, name string) (string, error) {
	if _, err := syntax.ParseDID(name); err != nil || prefix(name) != folder {
		return "", fmt.Errorf("%w: %s is no folder of an account", ErrDamaged, s.path(folder, name))
	}
	_, err := s.folder(folder, name)
	return name, err
}

func (s *Source) path(names ...string) string {
	return filepath.Join(append([]string{s.layout.Actors}, names...)...)
}

// folder is a folder among the stores, where links lead.
func (s *Source) folder(names ...string) (string, error) {
	path, err := s.inside(names...)
	if err != nil {
		return "", err
	}
	if info, err := os.Stat(path); err != nil {
		return "", err
	} else if !info.IsDir() {
		return "", fmt.Errorf("%w: %s is no folder", ErrDamaged, s.path(names...))
	}
	return path, nil
}

// inside is the path of something among the stores, where links lead. It is ErrDamaged when
// they lead elsewhere: only the folder of all stores may be a link to another disk.
func (s *Source) inside(names ...string) (string, error) {
	root, err := filepath.EvalSymlinks(s.layout.Actors)
	if err != nil {
		return "", err
	}
	path, err := filepath.EvalSymlinks(s.path(names...))
	if err != nil {
		if info, linked := os.Lstat(s.path(names...)); linked == nil && info.Mode()&fs.ModeSymlink != 0 {
			err = fmt.Errorf("%w: %w", ErrDamaged, err) // it leads nowhere
		}
		return "", err
	}
	if !strings.HasPrefix(path, root+string(filepath.Separator)) {
		return "", fmt.Errorf("%w: %s leads to %s, outside of %s", ErrDamaged, s.path(names...), path, s.layout.Actors)
	}
	return path, nil
}

// Key is the signing key of an account: 32 bytes, which may be no key. It returns
// ErrNoStore, or ErrDamaged when the folder has no such file, or one of another length.
func (s *Source) Key(did string) ([]byte, error) {
	if err := s.look(did); err != nil {
		return nil, err
	}
	return s.key(prefix(did), did, keyFile)
}

// look returns ErrNoStore unless there is a folder for an account.
func (s *Source) look(did string) error {
	if _, err := syntax.ParseDID(did); err != nil {
		return fmt.Errorf("%w: account %q has no DID", ErrDamaged, did)
	}
	_, err := s.folder(prefix(did), did)
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrDamaged) {
		return fmt.Errorf("%w: account %s", ErrNoStore, did)
	}
	return err
}

func (s *Source) key(names ...string) ([]byte, error) {
	path, err := s.inside(names...)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s is missing", ErrDamaged, s.path(names...))
	}
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is no file", ErrDamaged, s.path(names...))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	key, err := io.ReadAll(io.LimitReader(f, keySize+1))
	if err != nil {
		return nil, err
	}
	if len(key) != keySize {
		return nil, fmt.Errorf("%w: %s is no key of %d bytes", ErrDamaged, s.path(names...), keySize)
	}
	return key, nil
}

// A ReservedKey is one that was handed out before there is an account.
type ReservedKey struct {
	Name string // the did:key of its public half, or the DID that it is for
	Key  []byte // 32 bytes
}

// ReservedKeys are those that were handed out. With ErrDamaged, which names what cannot be
// read, it returns the others.
func (s *Source) ReservedKeys() ([]ReservedKey, error) {
	folder, err := s.folder(reservedFolder)
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrDamaged) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var keys []ReservedKey
	var damaged []error
	for _, n := range names {
		key, err := s.reservedKey(n.Name())
		switch {
		case err == nil:
			keys = append(keys, ReservedKey{Name: n.Name(), Key: key})
		case errors.Is(err, ErrDamaged):
			damaged = append(damaged, err)
		default:
			return nil, err
		}
	}
	return keys, errors.Join(damaged...)
}

func (s *Source) reservedKey(name string) ([]byte, error) {
	if _, err := syntax.ParseDID(name); err != nil {
		return nil, fmt.Errorf("%w: %s is not named by a DID", ErrDamaged, s.path(reservedFolder, name))
	}
	return s.key(reservedFolder, name)
}

// HasStore returns what [Source.Store] would, as far as it is known before the store is
// opened.
func (s *Source) HasStore(did string) error {
	_, err := s.storePath(did)
	return err
}

func (s *Source) storePath(did string) (string, error) {
	if err := s.look(did); err != nil {
		return "", err
	}
	switch _, err := os.Lstat(s.path(prefix(did), did, operationFile)); {
	case err == nil:
		return "", fmt.Errorf("%w: account %s has a file %s", ErrEntryway, did, operationFile)
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	path, err := s.inside(prefix(did), did, storeFile)
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrDamaged) {
		return "", fmt.Errorf("%w: account %s", ErrNoStore, did)
	}
	return path, err
}

// Store opens the store of an account. It returns ErrNoStore, ErrEntryway, ErrUnknownEdition
// or ErrDamaged. A store that is read in place is not looked through: what is damaged in it
// is met by who reads it.
func (s *Source) Store(ctx context.Context, did string) (*Store, error) {
	path, err := s.storePath(did)
	if err != nil {
		return nil, err
	}
	d, err := openDatabase(ctx, path, s.scratch, otherMigrations)
	if err != nil {
		return nil, fmt.Errorf("account %s: %w", did, err)
	}
	d.name = "store of " + did
	if err := d.need("repo_root", "repo_block", "record", "blob", "record_blob", "account_pref"); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return &Store{did: did, d: d}, nil
}

// Store is the store of one account that is read. Its methods may be called by several
// goroutines.
type Store struct {
	did string
	d   *database
}

func (s *Store) Close() error { return s.d.close() }

// Root is the row of the root, or ErrDamaged where there is none.
func (s *Store) Root(ctx context.Context) (*RepoRoot, error) {
	var found []RepoRoot
	for r, err := range ordered[RepoRoot](ctx, s.d, "did") {
		if err != nil {
			return nil, err
		}
		if found = append(found, r); len(found) > 1 {
			break
		}
	}
	switch {
	case len(found) == 0:
		return nil, s.d.fail("", fmt.Errorf("%w: it has no root", ErrDamaged))
	case len(found) > 1:
		return nil, s.d.fail("", fmt.Errorf("%w: it has several roots", ErrDamaged))
	case found[0].DID != s.did:
		return nil, s.d.fail("", fmt.Errorf("%w: its root is of %s", ErrDamaged, found[0].DID))
	}
	return &found[0], nil
}

// Block is the content of the block that a CID names, or db's not found.
func (s *Store) Block(ctx context.Context, cid string) (*Block, error) {
	of := rows[Block](ctx, s.d, func() (*bun.SelectQuery, error) {
		q, err := selectAll[Block](s.d)
		if err != nil {
			return nil, err
		}
		return q.Where("cid = ?", cid), nil
	})
	for b, err := range of {
		if err != nil {
			return nil, err
		}
		return &b, nil
	}
	return nil, s.d.fail("", fmt.Errorf("block %s: %w", cid, db.ErrNotFound))
}

// BlockCount is how many blocks there are.
func (s *Store) BlockCount(ctx context.Context) (n int64, err error) {
	count := s.d.db.NewSelect().TableExpr("repo_block").ColumnExpr("count(*)")
	err = s.d.first(ctx, count, "repo_block", &n)
	return n, err
}

// The rows of a store. Blocks come in the order in which they lie in the file, records by
// their URIs, preferences by their ids.

func (s *Store) Blocks(ctx context.Context) iter.Seq2[Block, error] {
	return ordered[Block](ctx, s.d, "rowid")
}

func (s *Store) Records(ctx context.Context) iter.Seq2[Record, error] {
	return ordered[Record](ctx, s.d, "uri")
}

func (s *Store) Blobs(ctx context.Context) iter.Seq2[Blob, error] {
	return ordered[Blob](ctx, s.d, "cid")
}

func (s *Store) RecordBlobs(ctx context.Context) iter.Seq2[RecordBlob, error] {
	return ordered[RecordBlob](ctx, s.d, "blobCid", "recordUri")
}

func (s *Store) Preferences(ctx context.Context) iter.Seq2[Preference, error] {
	return ordered[Preference](ctx, s.d, "id")
}
