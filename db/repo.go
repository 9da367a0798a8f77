package db

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// A Block is a piece of a repository. The column of the DID is left out: who asks knows it.
type Block struct {
	bun.BaseModel `bun:"table:repo_block,alias:b"`

	CID  string `bun:"cid,pk"`
	Data []byte `bun:"data"`
}

// A Repo is where the repository of an account stands. The server has no records
// or blobs yet, so those counts are zero. The column of the DID is left out.
type Repo struct {
	bun.BaseModel `bun:"table:repo,alias:r"`

	Root          string `bun:"root"`
	Rev           string `bun:"rev"`
	Blocks        int    `bun:"blocks,scanonly"`
	Records       int    `bun:"-"`
	ExpectedBlobs int    `bun:"-"`
	ImportedBlobs int    `bun:"-"`
}

var (
	selectRepo = prepared(func(b *builder) bun.Query {
		blocks := b.NewSelect().Model((*Block)(nil)).ColumnExpr("count(*)").Where("b.did = r.did")
		return b.NewSelect().Model((*Repo)(nil)).ColumnExpr("?TableColumns").ColumnExpr("(?)", blocks).Where("r.did = ?", b.p())
	})
	putRepo = prepared(func(b *builder) bun.Query {
		return b.insert(new(Repo)).Value("did", "?", b.p()).On("CONFLICT (did) DO UPDATE").
			Set("root = excluded.root").Set("rev = excluded.rev")
	})
	selectRepoBlock = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*Block)(nil)).Column("data").Where("did = ?", b.p()).Where("cid = ?", b.p())
	})
	selectRepoBlocks = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*Block)(nil)).Where("did = ?", b.p()).Order("cid")
	})
	putRepoBlock = prepared(func(b *builder) bun.Query {
		return b.insert(new(Block)).Value("did", "?", b.p()).On("CONFLICT (did, cid) DO NOTHING")
	})
	deleteRepoBlocks = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*Block)(nil)).Where("did = ?", b.p())
	})
)

// Repo returns the repository of an account, or ErrNotFound.
func (q *queries) Repo(ctx context.Context, did syntax.DID) (*Repo, error) {
	r := new(Repo)
	if err := q.get(ctx, selectRepo, []any{did}, append(places(r), &r.Blocks)...); err != nil {
		return nil, wrap(err, "read repository of %s", did)
	}
	return r, nil
}

// RepoBlock returns the data of one block, or ErrNotFound.
func (q *queries) RepoBlock(ctx context.Context, did syntax.DID, cid string) ([]byte, error) {
	var data []byte
	err := q.get(ctx, selectRepoBlock, []any{did, cid}, &data)
	return data, wrap(err, "read block %s of %s", cid, did)
}

// RepoBlocks returns all blocks of a repository, in the order of their CIDs.
func (q *queries) RepoBlocks(ctx context.Context, did syntax.DID) ([]Block, error) {
	blocks, err := many[Block](ctx, q, selectRepoBlocks, did)
	return blocks, wrap(err, "read blocks of %s", did)
}

// PutRepo moves the root of a repository and adds blocks; those it has already
// are left alone. It returns ErrNotFound when there is no account.
func (tx *Tx) PutRepo(ctx context.Context, did syntax.DID, root, rev string, blocks []Block) error {
	if _, err := tx.exec(ctx, putRepo, append(values(&Repo{Root: root, Rev: rev}), did)...); err != nil {
		return wrap(err, "store repository of %s", did)
	}
	for _, b := range blocks {
		if _, err := tx.exec(ctx, putRepoBlock, append(values(&b), did)...); err != nil {
			return wrap(err, "store block %s of %s", b.CID, did)
		}
	}
	return nil
}

// ResetRepo is PutRepo for a repository that has no other blocks than these
// afterwards.
func (tx *Tx) ResetRepo(ctx context.Context, did syntax.DID, root, rev string, blocks []Block) error {
	if _, err := tx.exec(ctx, deleteRepoBlocks, did); err != nil {
		return wrap(err, "reset repository of %s", did)
	}
	return tx.PutRepo(ctx, did, root, rev, blocks)
}
