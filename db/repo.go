package db

import (
	"context"
	"database/sql"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// A Block is a piece of a repository.
type Block struct {
	CID  string
	Data []byte
}

// A Repo is where the repository of an account stands. The server has no records
// or blobs yet, so those counts are zero.
type Repo struct {
	Root, Rev     string
	Blocks        int
	Records       int
	ExpectedBlobs int
	ImportedBlobs int
}

// Repo returns the repository of an account, or ErrNotFound.
func (q *queries) Repo(ctx context.Context, did syntax.DID) (*Repo, error) {
	r := new(Repo)
	err := q.getText(ctx, `SELECT root, rev, (SELECT count(*) FROM repo_block b WHERE b.did = repo.did) FROM repo WHERE did = ?`,
		[]any{string(did)}, &r.Root, &r.Rev, &r.Blocks)
	if err != nil {
		return nil, wrap(err, "read repository of %s", did)
	}
	return r, nil
}

// RepoBlock returns the data of one block, or ErrNotFound.
func (q *queries) RepoBlock(ctx context.Context, did syntax.DID, cid string) ([]byte, error) {
	var data []byte
	err := q.getText(ctx, `SELECT data FROM repo_block WHERE did = ? AND cid = ?`, []any{string(did), cid}, &data)
	return data, wrap(err, "read block %s of %s", cid, did)
}

// RepoBlocks returns all blocks of a repository, in the order of their CIDs.
func (q *queries) RepoBlocks(ctx context.Context, did syntax.DID) ([]Block, error) {
	var blocks []Block
	err := q.eachText(ctx, `SELECT cid, data FROM repo_block WHERE did = ? ORDER BY cid`, []any{string(did)}, func(row *sql.Rows) error {
		var b Block
		err := row.Scan(&b.CID, &b.Data)
		blocks = append(blocks, b)
		return err
	})
	return blocks, wrap(err, "read blocks of %s", did)
}

// PutRepo moves the root of a repository and adds blocks; those it has already
// are left alone. It returns ErrNotFound when there is no account.
func (tx *Tx) PutRepo(ctx context.Context, did syntax.DID, root, rev string, blocks []Block) error {
	_, err := tx.execText(ctx, `INSERT INTO repo (did, root, rev) VALUES (?, ?, ?)
		ON CONFLICT (did) DO UPDATE SET root = excluded.root, rev = excluded.rev`, string(did), root, rev)
	if err != nil {
		return wrap(err, "store repository of %s", did)
	}
	for _, b := range blocks {
		_, err := tx.execText(ctx, `INSERT INTO repo_block (did, cid, data) VALUES (?, ?, ?) ON CONFLICT (did, cid) DO NOTHING`,
			string(did), b.CID, b.Data)
		if err != nil {
			return wrap(err, "store block %s of %s", b.CID, did)
		}
	}
	return nil
}

// ResetRepo is PutRepo for a repository that has no other blocks than these
// afterwards.
func (tx *Tx) ResetRepo(ctx context.Context, did syntax.DID, root, rev string, blocks []Block) error {
	if _, err := tx.execText(ctx, `DELETE FROM repo_block WHERE did = ?`, string(did)); err != nil {
		return wrap(err, "reset repository of %s", did)
	}
	return tx.PutRepo(ctx, did, root, rev, blocks)
}
