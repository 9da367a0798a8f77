package repo

import (
	"errors"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/repo/dagcbor"
)

var (
	// ErrCommit says that a block is no commit of version 3 or 2.
	ErrCommit = errors.New("not a commit")
	// ErrSignature says that a commit was signed with another key, if at all.
	ErrSignature = errors.New("commit is not signed with this key")
)

// A Commit is the signed root of a repository, as it was stored.
type Commit struct {
	CID  dagcbor.CID
	DID  syntax.DID
	Rev  syntax.TID  // empty in some of version 2
	Data dagcbor.CID // of the tree's root

	unsigned, sig []byte
}

// ParseCommit reads the block of a commit: one of the version made here, or one of
// version 2, which owners may still bring along and which may lack a rev. Errors are
// ErrCommit; whether the signature is right is [Commit.Verify]'s question.
func ParseCommit(block []byte) (*Commit, error) {
	entries, err := dagcbor.Entries(block)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCommit, err)
	}
	fields, err := atdata.UnmarshalCBOR(block)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCommit, err)
	}
	version, _ := fields["version"].(int64)
	did, _ := fields["did"].(string)
	rev, _ := fields["rev"].(string)
	data, _ := fields["data"].(atdata.CIDLink)
	sig, _ := fields["sig"].(atdata.Bytes)
	if version != Version && version != 2 || sig == nil || !data.IsDefined() {
		return nil, fmt.Errorf("%w: a field is missing or odd", ErrCommit)
	}
	c := &Commit{CID: dagcbor.Sum(dagcbor.CodecDAGCBOR, block), sig: sig}
	if c.DID, err = syntax.ParseDID(did); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCommit, err)
	}
	if _, given := fields["rev"]; given || version == Version {
		if c.Rev, err = syntax.ParseTID(rev); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCommit, err)
		}
	}
	if c.Data, err = dagcbor.ParseCID(data.String()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCommit, err)
	}
	c.unsigned = dagcbor.AppendMap(nil, len(entries)-1)
	for _, e := range entries {
		if e.Key != "sig" {
			c.unsigned = append(dagcbor.AppendText(c.unsigned, e.Key), e.Value...)
		}
	}
	return c, nil
}

// Verify returns ErrSignature unless the commit was signed with the private half of
// key.
func (c *Commit) Verify(key atcrypto.PublicKey) error {
	if err := key.HashAndVerify(c.unsigned, c.sig); err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return nil
}
