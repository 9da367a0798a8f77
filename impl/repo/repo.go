// Package repo makes and reads the commits of repositories: what is signed over the
// root of a tree of records, and the archives in which a change is announced. The tree
// itself is that of portico/impl/repo/tree.
//
// All functions are pure and safe for concurrent use.
package repo

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/tree"
)

const (
	// Version is that of the commits made here.
	Version = 3
	// MaxArchive is how long, in bytes, the archive of a commit may be that readers of
	// events take.
	MaxArchive = 2_000_000
)

var (
	// ErrTooLarge says that a commit changes more than fits into one event.
	ErrTooLarge = errors.New("commit is too large for an event")
	// ErrLastRev says that there is no later rev than one that is given.
	ErrLastRev = errors.New("no rev is later")
)

// Signed is a new commit, ready to be stored and announced.
type Signed struct {
	Commit car.Block
	Rev    syntax.TID
	// Archive holds the commit, which is its root, and then what it was signed with.
	Archive []byte
}

// Sign makes the commit of did over the tree with the root data. With it go the blocks
// that its archive is to have beside the commit: those by which a change is checked for
// a #commit, none for a #sync. It returns ErrTooLarge when the archive, as it is sent,
// is longer than MaxArchive; other errors are those of the key.
func Sign(did syntax.DID, key atcrypto.PrivateKey, rev syntax.TID, data dagcbor.CID, with ...car.Block) (*Signed, error) {
	sig, err := key.HashAndSign(appendCommit(nil, did, rev, nil, data))
	if err != nil {
		return nil, fmt.Errorf("sign commit: %w", err)
	}
	signed := newBlock(appendCommit(nil, did, rev, sig, data))
	archive := car.Marshal(signed.CID, append([]car.Block{signed}, with...)...)
	if len(archive) > MaxArchive {
		return nil, ErrTooLarge
	}
	return &Signed{Commit: signed, Rev: rev, Archive: archive}, nil
}

// NextRev returns the rev of a commit that is made now, after one with the given rev,
// or after none if that is empty. It is the time now, or the first microsecond after the
// commit before if the clock is not ahead of that. It returns ErrLastRev when there is
// none, which nobody's clock brings about.
func NextRev(now time.Time, after syntax.TID) (syntax.TID, error) {
	rev := syntax.NewTIDFromTime(now, 0)
	if rev <= after {
		rev = syntax.NewTID(int64(after.Integer()>>10)+1, 0)
	}
	if rev <= after {
		return "", fmt.Errorf("%w than %s", ErrLastRev, after)
	}
	return rev, nil
}

// A Repository is the first state of a repository, which has no records, ready to be
// stored and announced.
type Repository struct {
	Commit car.Block
	Data   dagcbor.CID // of the tree's root
	Rev    syntax.TID
	// CommitCAR holds the commit and the tree, SyncCAR the commit alone; the root of both
	// is the commit.
	CommitCAR, SyncCAR []byte
}

// Genesis returns the first state of the repository of did: a commit, signed with
// its account's key, over the empty tree. Its rev is the time now.
func Genesis(did syntax.DID, key atcrypto.PrivateKey, now time.Time) (*Repository, error) {
	rev, err := NextRev(now, "")
	if err != nil {
		return nil, err
	}
	return genesis(did, key, rev)
}

func genesis(did syntax.DID, key atcrypto.PrivateKey, rev syntax.TID) (*Repository, error) {
	empty := tree.EmptyNode()
	s, err := Sign(did, key, rev, empty.CID, car.Block{CID: empty.CID, Data: empty.Data})
	if err != nil {
		return nil, err
	}
	return &Repository{
		Commit: s.Commit, Data: empty.CID, Rev: rev, CommitCAR: s.Archive, SyncCAR: car.Marshal(s.Commit.CID, s.Commit),
	}, nil
}

// appendCommit appends a commit, without its signature when sig is nil.
func appendCommit(b []byte, did syntax.DID, rev syntax.TID, sig []byte, data dagcbor.CID) []byte {
	entries := 5
	if sig != nil {
		entries++
	}
	b = dagcbor.AppendMap(slices.Grow(b, 256), entries)
	b = dagcbor.AppendText(dagcbor.AppendText(b, "did"), did)
	b = dagcbor.AppendText(dagcbor.AppendText(b, "rev"), rev)
	if sig != nil {
		b = dagcbor.AppendBytes(dagcbor.AppendText(b, "sig"), sig)
	}
	b = dagcbor.AppendLink(dagcbor.AppendText(b, "data"), data)
	b = dagcbor.AppendNull(dagcbor.AppendText(b, "prev"))
	return dagcbor.AppendInt(dagcbor.AppendText(b, "version"), Version)
}

func newBlock(data []byte) car.Block {
	return car.Block{CID: dagcbor.Sum(dagcbor.CodecDAGCBOR, data), Data: data}
}
