package pull

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/atdata"
)

// A block's name: a CID as repositories use them, version 1, DAG-CBOR, SHA-256.
type name [4 + sha256.Size]byte

func nameOf(data []byte) name {
	sum := sha256.Sum256(data)
	return name(append([]byte{0x01, 0x71, 0x12, sha256.Size}, sum[:]...))
}

// link is the name that a value of the data model is, if it is one.
func link(v any) (n name, ok bool) {
	l, ok := v.(atdata.CIDLink)
	if !ok || !l.IsDefined() || len(l.CID().Bytes()) != len(n) {
		return n, false
	}
	return name(l.CID().Bytes()), true
}

// blocks are pieces of a repository. Each is what its name says.
type blocks map[name][]byte

// readCAR reads a CAR file of version 1, which has one root. It keeps parts of file.
// Ours because indigo's atproto/repo, which does it, would bring lexgen some 90 packages
// more.
func readCAR(file []byte) (b blocks, root name, err error) {
	section := func() ([]byte, error) {
		n, used := binary.Uvarint(file)
		if used <= 0 || n == 0 || n > uint64(len(file)-used) {
			return nil, errors.New("a section is cut short")
		}
		s := file[used : used+int(n)]
		file = file[used+int(n):]
		return s, nil
	}
	text, err := section()
	if err != nil {
		return nil, root, err
	}
	header, err := atdata.UnmarshalCBOR(text)
	if err != nil {
		return nil, root, fmt.Errorf("header: %w", err)
	}
	roots, _ := header["roots"].([]any)
	if header["version"] != int64(1) || len(roots) != 1 {
		return nil, root, errors.New("it is no CAR file of version 1 with one root")
	}
	root, ok := link(roots[0])
	if !ok {
		return nil, root, errors.New("its root is no commit")
	}
	b = blocks{}
	for len(file) > 0 {
		s, err := section()
		if err != nil {
			return nil, root, err
		}
		if len(s) < len(root) || nameOf(s[len(root):]) != name(s[:len(root)]) {
			return nil, root, errors.New("a block is not what its CID says")
		}
		b[name(s[:len(root)])] = s[len(root):]
	}
	return b, root, nil
}

// object is the block called n as a value of the data model.
func (b blocks) object(n name) (map[string]any, error) {
	data, ok := b[n]
	if !ok {
		return nil, errors.New("a block is missing")
	}
	return atdata.UnmarshalCBOR(data)
}

// commit returns the repository's commit called n, and the tree that it is of.
func (b blocks) commit(n name) (commit map[string]any, tree name, err error) {
	if commit, err = b.object(n); err != nil {
		return nil, tree, fmt.Errorf("commit: %w", err)
	}
	tree, ok := link(commit["data"])
	if !ok || commit["version"] != int64(3) {
		return nil, tree, errors.New("the commit is none of version 3")
	}
	return commit, tree, nil
}

// verifyCommit tells whether key signed the commit.
func verifyCommit(commit map[string]any, key atcrypto.PublicKey) error {
	sig, ok := commit["sig"].(atdata.Bytes)
	if !ok {
		return errors.New("it has no signature")
	}
	unsigned := map[string]any{}
	for field, v := range commit {
		if field != "sig" {
			unsigned[field] = v
		}
	}
	data, err := atdata.MarshalCBOR(unsigned)
	if err != nil {
		return err
	}
	return key.HashAndVerify(data, sig)
}

// find looks for a path in the tree called n, and returns its record and the name of it.
//
// A node is {l, e}: the subtree on its left, and entries {p, k, v, t}, in the order of
// their keys. A key is the first p bytes of the one before and k; v is the record, t the
// subtree between this key and the next one. Names being hashes, no way is a circle.
func (b blocks) find(n name, path string) (record []byte, id name, err error) {
	for {
		node, err := b.object(n)
		if err != nil {
			return nil, id, err
		}
		entries, ok := node["e"].([]any)
		if !ok {
			return nil, id, errors.New("a node has no entries")
		}
		below, key := node["l"], ""
		for _, v := range entries {
			e, _ := v.(map[string]any)
			p, _ := e["p"].(int64)
			k, ok := e["k"].(atdata.Bytes)
			if !ok || p < 0 || p > int64(len(key)) {
				return nil, id, errors.New("a node has a malformed entry")
			}
			if key = key[:p] + string(k); key > path {
				break
			}
			if key == path {
				if id, ok = link(e["v"]); !ok || b[id] == nil {
					return nil, id, errors.New("the record is missing")
				}
				return b[id], id, nil
			}
			below = e["t"]
		}
		if n, ok = link(below); !ok {
			return nil, id, errors.New("the tree has no such record")
		}
	}
}

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// String is the text form of the CID.
func (n name) String() string { return "b" + base32Lower.EncodeToString(n[:]) }
