package pull

import (
	"bytes"
	"context"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/syntax"
)

// verify finds the record nsid in a proof: a CAR file with a commit of did's
// repository, signed by key, and the blocks on the way from it to the record.
func verify(ctx context.Context, proof []byte, did syntax.DID, key atcrypto.PublicKey, nsid syntax.NSID) (*Record, error) {
	// The reader holds every block to its CID.
	commit, tree, err := repo.LoadRepoFromCAR(ctx, bytes.NewReader(proof))
	if err != nil {
		return nil, fmt.Errorf("read the proof: %w", err)
	}
	if commit.DID != did.String() {
		return nil, fmt.Errorf("the proof is of the repository %s", commit.DID)
	}
	if err := commit.VerifySignature(key); err != nil {
		return nil, fmt.Errorf("the commit is not signed by %s: %w", did, err)
	}
	data, id, err := tree.GetRecordBytes(ctx, collection, syntax.RecordKey(nsid))
	if err != nil {
		return nil, fmt.Errorf("the proof does not lead to the record: %w", err)
	}
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
	return &Record{NSID: nsid, DID: did, CID: id.String(), Rev: commit.Rev, Value: value}, nil
}
