package db

import (
	"bytes"
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// A Repo is where the repository of an account stands: its last commit, the root of its
// tree, and how much there is, which every commit keeps. CIDs are in their binary form;
// the column of the DID is left out, since who asks knows it.
type Repo struct {
	bun.BaseModel `bun:"table:repo,alias:r"`

	CommitCID     []byte `bun:"commit_cid"`
	CommitBlock   []byte `bun:"commit_block"`
	Rev           string `bun:"rev"`
	DataCID       []byte `bun:"data_cid"` // of the tree's root
	Layer         int    `bun:"layer"`    // of the tree's root
	Records       int    `bun:"records"`
	Nodes         int    `bun:"nodes"`
	ExpectedBlobs int    `bun:"expected_blobs"`
	ImportedBlobs int    `bun:"imported_blobs"`
}

// Same reports whether the repository stands where other says, commit's block and figures of
// blobs aside.
func (r *Repo) Same(other *Repo) bool {
	return bytes.Equal(r.CommitCID, other.CommitCID) && bytes.Equal(r.DataCID, other.DataCID) && r.Rev == other.Rev &&
		r.Layer == other.Layer && r.Records == other.Records && r.Nodes == other.Nodes
}

// blobFigures change with the rows that they count, whoever writes those.
var blobFigures = []string{"expected_blobs", "imported_blobs"}

var (
	selectRepo = prepared(func(b *builder) bun.Query { return b.repo() })
	lockRepo   = prepared(func(b *builder) bun.Query { return b.lock("NO KEY UPDATE", b.repo()) })
	insertRepo = prepared(func(b *builder) bun.Query { return b.insert(new(Repo)).Value("did", "?", b.p()) })
	updateRepo = prepared(func(b *builder) bun.Query {
		return b.setAll(b.NewUpdate(), new(Repo), blobFigures...).Where("did = ?", b.p()).Where("commit_cid = ?", b.p())
	})
	advanceRepo = touching(ErrStale, func(b *builder) bun.Query {
		return b.setAll(b.NewUpdate(), new(Repo), blobFigures...).Where("did = ?", b.p()).Where("commit_cid = ?", b.p()).Where("rev = ?", b.p()).
			Where("data_cid = ?", b.p()).Where("layer = ?", b.p()).Where("records = ?", b.p()).Where("nodes = ?", b.p())
	})
	deleteRepo = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*Repo)(nil)).Where("did = ?", b.p())
	})
)

func (b *builder) repo() *bun.SelectQuery {
	return b.NewSelect().Model((*Repo)(nil)).Where("r.did = ?", b.p())
}

// Repo returns the repository of an account, or ErrNotFound.
func (q *queries) Repo(ctx context.Context, did syntax.DID) (*Repo, error) {
	r, err := one[Repo](ctx, q, selectRepo, did)
	return r, wrap(err, "read repository of %s", did)
}

// LockRepo is Repo for a transaction that writes to the repository: others that lock it
// wait until it ends.
func (tx *Tx) LockRepo(ctx context.Context, did syntax.DID) (*Repo, error) {
	r, err := one[Repo](ctx, &tx.queries, lockRepo, did)
	return r, wrap(err, "lock repository of %s", did)
}

// InsertRepo stores the first state of a repository. It returns ErrNotFound when there is
// no account.
func (tx *Tx) InsertRepo(ctx context.Context, did syntax.DID, r Repo) error {
	_, err := tx.exec(ctx, insertRepo, append(values(&r), did)...)
	return wrap(err, "store repository of %s", did)
}

// UpdateRepo stores the state of a repository after the commit with the CID before, all
// but the figures of blobs. It returns ErrStale when another one is the last.
func (tx *Tx) UpdateRepo(ctx context.Context, did syntax.DID, r Repo, before []byte) error {
	n, err := tx.exec(ctx, updateRepo, append(values(&r, blobFigures...), did, before)...)
	return wrap(fresh(n, err), "update repository of %s", did)
}

// AdvanceRepo is UpdateRepo for a state that was made from the whole one before: it returns
// ErrStale, or DB.Write does, unless the row is as before says, commit's block and figures of
// blobs aside.
func (tx *Tx) AdvanceRepo(ctx context.Context, did syntax.DID, r, before Repo) error {
	args := append(values(&r, blobFigures...), did, before.CommitCID, before.Rev, before.DataCID, before.Layer, before.Records, before.Nodes)
	return tx.later(ctx, "update repository of "+did.String(), advanceRepo, args...)
}

// LockRepoAndKey is [Tx.LockRepo] and [queries.WritingKey] in one, which then says who signs
// what follows the state that was locked. It returns ErrNotFound when one of them is missing.
func (tx *Tx) LockRepoAndKey(ctx context.Context, did syntax.DID, purpose string) (*Repo, *SigningKey, error) {
	var r *Repo
	var k *SigningKey
	err := tx.together(ctx, readOne(&r, lockRepo, did), readOne(&k, selectWritingKey, did, purpose))
	if err == nil && (r == nil || k == nil) {
		err = ErrNotFound
	}
	return r, k, wrap(err, "lock repository of %s", did)
}

// DeleteRepo removes the row of a repository, if there is one, and none of its nodes.
func (tx *Tx) DeleteRepo(ctx context.Context, did syntax.DID) error {
	_, err := tx.exec(ctx, deleteRepo, did)
	return wrap(err, "delete repository of %s", did)
}
