package repo

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/repo"

	"portico/impl/repo/tree"
)

// replay is a key that gives the signature of a deterministic signer.
type replay struct {
	atcrypto.PrivateKey
	t *testing.T
}

func (r replay) HashAndSign(content []byte) ([]byte, error) {
	const want = "a56364696478206469643a706c633a74666f63346a67346169367672326e62776c6d77647a7132637265766d336a716663717a6d33666f326a6464617461d82a582500017112209dfefe61dd76ea3dcae5023880b08379d57adf20482d6fdbe2759289f647677b6470726576f66776657273696f6e03"
	if got := hex.EncodeToString(content); got != want {
		r.t.Errorf("unsigned bytes:\n got %s\nwant %s", got, want)
	}
	return hex.DecodeString("d972a217a6d02c7bc595e878e7a0ee18ffa174ff85cad000040ee04e23e0d5d40f5faf5bdc2e5cb4f68463693976853532e963dac122d3c5f3641c6b5c079979")
}

func TestVector(t *testing.T) {
	r, err := genesis("did:plc:tfoc4jg4ai6vr2nbwlmwdzq2", replay{t: t}, "3jqfcqzm3fo2j")
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Commit.CID.String(); got != "bafyreigtooqod7463hdho4mdhhkqvcojauloag3sy2ukepnkumqu4qzn2a" {
		t.Errorf("commit: %s", got)
	}
	if got := r.Data.String(); got != "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm" {
		t.Errorf("tree: %s", got)
	}
	if got := hex.EncodeToString(tree.EmptyNode().Data); got != "a2616580616cf6" {
		t.Errorf("tree's bytes: %s", got)
	}
}

// TestGenesis reads a repository as another implementation does.
func TestGenesis(t *testing.T) {
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)
	r, err := Genesis("did:plc:tfoc4jg4ai6vr2nbwlmwdzq2", key, now)
	if err != nil {
		t.Fatal(err)
	}
	commit, records, err := repo.LoadRepoFromCAR(t.Context(), bytes.NewReader(r.CommitCAR))
	if err != nil {
		t.Fatal(err)
	}
	if err := commit.VerifyStructure(); err != nil {
		t.Error(err)
	}
	if err := commit.VerifySignature(public); err != nil {
		t.Error(err)
	}
	if commit.DID != "did:plc:tfoc4jg4ai6vr2nbwlmwdzq2" || commit.Version != 3 || commit.Prev != nil || commit.Rev != r.Rev.String() {
		t.Errorf("commit: %+v", commit)
	}
	if !records.MST.IsEmpty() {
		t.Error("tree is not empty")
	}
	if got := r.Rev.Time(); !got.Equal(now) || len(r.Rev) != 13 || r.Rev[11:] != "22" {
		t.Errorf("rev %s is %v", r.Rev, got)
	}
	alone, cid, err := repo.LoadCommitFromCAR(t.Context(), bytes.NewReader(r.SyncCAR))
	if err != nil {
		t.Fatal(err)
	}
	if cid.String() != r.Commit.CID.String() || alone.Rev != r.Rev.String() {
		t.Errorf("sync has commit %s, rev %s", cid, alone.Rev)
	}
	if len(r.SyncCAR) >= len(r.CommitCAR) || bytes.Contains(r.SyncCAR, tree.EmptyNode().Data) {
		t.Error("sync holds more than the commit")
	}
	if err := r.Commit.Check(); err != nil {
		t.Error(err)
	}
}

func BenchmarkGenesis(b *testing.B) {
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Genesis("did:plc:tfoc4jg4ai6vr2nbwlmwdzq2", key, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
