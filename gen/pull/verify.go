package pull

import (
	"fmt"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/bluesky-social/indigo/atproto/syntax"
)

// verify finds the record nsid in a proof: a CAR file with a commit of did's
// repository, signed by key, and the blocks on the way from it to the record.
func verify(proof []byte, did syntax.DID, key atcrypto.PublicKey, nsid syntax.NSID) (*Record, error) {
	b, root, err := readCAR(proof)
	if err != nil {
		return nil, fmt.Errorf("read the proof: %w", err)
	}
	commit, tree, err := b.commit(root)
	if err != nil {
		return nil, fmt.Errorf("read the proof: %w", err)
	}
	if commit["did"] != did.String() {
		return nil, fmt.Errorf("the proof is of the repository %v", commit["did"])
	}
	if err := verifyCommit(commit, key); err != nil {
		return nil, fmt.Errorf("the commit is not signed by %s: %w", did, err)
	}
	data, id, err := b.find(tree, collection+"/"+nsid.String())
	if err != nil {
		return nil, fmt.Errorf("the proof does not lead to the record: %w", err)
	}
	rev, _ := commit["rev"].(string)
	value, err := atdata.UnmarshalCBOR(data)
	if err != nil {
		return nil, fmt.Errorf("read the record: %w", err)
	}
	if value["$type"] != collection {
		return nil, fmt.Errorf("the record is a %v", value["$type"])
	}
	if value["id"] != nsid.String() {
		return nil, fmt.Errorf("the record is the lexicon %v", value["id"])
	}
	return &Record{NSID: nsid, DID: did, CID: id.String(), Rev: rev, Value: value}, nil
}
