// Package repo makes signed repositories: a commit over a tree of records, of which
// this server so far only needs the empty one.
//
// All functions are pure and safe for concurrent use.
package repo

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/repo/dagcbor"
)

// Version is that of the commits made here.
const Version = 3

// A Block is a piece of a repository under its name.
type Block struct {
	CID  dagcbor.CID
	Data []byte
}

// A Repository is one state of a repository, ready to be stored and announced.
type Repository struct {
	Root   dagcbor.CID // of the commit
	Data   dagcbor.CID // of the tree's root
	Rev    syntax.TID
	Blocks []Block // the tree first, the commit last
	// CommitCAR holds all blocks, SyncCAR the commit alone; the root of both is the
	// commit.
	CommitCAR, SyncCAR []byte
}

// Genesis returns the first state of the repository of did: a commit, signed with
// its account's key, over the empty tree. Its rev is the time now.
func Genesis(did syntax.DID, key atcrypto.PrivateKey, now time.Time) (*Repository, error) {
	return genesis(did, key, syntax.NewTIDFromTime(now, 0))
}

func genesis(did syntax.DID, key atcrypto.PrivateKey, rev syntax.TID) (*Repository, error) {
	tree, err := emptyTree()
	if err != nil {
		return nil, err
	}
	object := commit(did, rev, tree.CID)
	unsigned, err := dagcbor.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("encode commit: %w", err)
	}
	sig, err := key.HashAndSign(unsigned)
	if err != nil {
		return nil, fmt.Errorf("sign commit: %w", err)
	}
	object["sig"] = sig
	signed, err := newBlock(object)
	if err != nil {
		return nil, err
	}
	r := &Repository{Root: signed.CID, Data: tree.CID, Rev: rev, Blocks: []Block{tree, signed}}
	if r.CommitCAR, err = CAR(r.Root, r.Blocks...); err != nil {
		return nil, err
	}
	if r.SyncCAR, err = CAR(r.Root, signed); err != nil {
		return nil, err
	}
	return r, nil
}

func emptyTree() (Block, error) { return newBlock(map[string]any{"e": []any{}, "l": nil}) }

func commit(did syntax.DID, rev syntax.TID, data dagcbor.CID) map[string]any {
	return map[string]any{"did": did.String(), "version": Version, "data": data, "rev": rev.String(), "prev": nil}
}

func newBlock(object map[string]any) (Block, error) {
	data, err := dagcbor.Marshal(object)
	if err != nil {
		return Block{}, fmt.Errorf("encode block: %w", err)
	}
	return Block{CID: dagcbor.Sum(dagcbor.CodecDAGCBOR, data), Data: data}, nil
}

// CAR returns a version 1 archive of the blocks, in the given order, with one root.
func CAR(root dagcbor.CID, blocks ...Block) ([]byte, error) {
	header, err := dagcbor.Marshal(map[string]any{"roots": []any{root}, "version": 1})
	if err != nil {
		return nil, fmt.Errorf("encode archive: %w", err)
	}
	out := append(binary.AppendUvarint(nil, uint64(len(header))), header...)
	for _, b := range blocks {
		out = binary.AppendUvarint(out, uint64(len(b.CID)+len(b.Data)))
		out = append(append(out, b.CID[:]...), b.Data...)
	}
	return out, nil
}
