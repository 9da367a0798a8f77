package db

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// A RepoStatus says how far a repository has come, and with which key its commits are
// signed.
type RepoStatus struct {
	bun.BaseModel `bun:"table:repo,alias:r"`

	CommitCID     []byte `bun:"commit_cid"`
	Rev           string `bun:"rev"`
	Records       int    `bun:"records"`
	Nodes         int    `bun:"nodes"`
	ExpectedBlobs int    `bun:"expected_blobs"`
	ImportedBlobs int    `bun:"imported_blobs"`
	SigningKey    string `bun:"public,nullzero"` // a did:key; "" when it is missing
}

var selectRepoStatus = prepared(func(b *builder) bun.Query {
	return b.NewSelect().Model((*RepoStatus)(nil)).
		Column("commit_cid", "rev", "records", "nodes", "expected_blobs", "imported_blobs").ColumnExpr("k.public").
		Join("LEFT JOIN signing_key AS k ON k.did = r.did AND k.purpose = ?", b.p()).Where("r.did = ?", b.p())
})

// RepoStatus returns the status of the repository of an account, with the key that it has
// for a purpose, or ErrNotFound.
func (q *queries) RepoStatus(ctx context.Context, did syntax.DID, purpose string) (*RepoStatus, error) {
	r, err := one[RepoStatus](ctx, q, selectRepoStatus, purpose, did)
	return r, wrap(err, "read status of repository of %s", did)
}
