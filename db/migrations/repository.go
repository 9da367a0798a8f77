package migrations

import (
	"context"
	"encoding/base32"
	"encoding/hex"
	"fmt"

	"github.com/uptrace/bun"
)

// The empty tree, which is all that repositories had before step 0014.
var (
	emptyTreeCID  = mustHex("01711220" + "9dfefe61dd76ea3dcae5023880b08379d57adf20482d6fdbe2759289f647677b")
	emptyTreeData = mustHex("a2616580616cf6")
)

// A repoRoot is a row of before the step, with the block that its root names; none if
// that is missing.
type repoRoot struct {
	DID   string `bun:"did"`
	Root  string `bun:"root"`
	Rev   string `bun:"rev"`
	Block []byte `bun:"data"`
}

type repoRow struct {
	bun.BaseModel `bun:"table:repo"`

	DID           string `bun:"did"`
	CommitCID     []byte `bun:"commit_cid"`
	CommitBlock   []byte `bun:"commit_block"`
	Rev           string `bun:"rev"`
	DataCID       []byte `bun:"data_cid"`
	Layer         int    `bun:"layer"`
	Records       int    `bun:"records"`
	Nodes         int    `bun:"nodes"`
	ExpectedBlobs int    `bun:"expected_blobs"`
	ImportedBlobs int    `bun:"imported_blobs"`
}

type nodeRow struct {
	bun.BaseModel `bun:"table:node"`

	DID   string `bun:"did"`
	Low   string `bun:"low"`
	Layer int    `bun:"layer"`
	CID   []byte `bun:"cid"`
	Rev   string `bun:"rev"`
	Data  []byte `bun:"data"`
}

// moveRepositories is the rest of step 0014: every repository gets its row and its node.
// Where the root is no name, or its block is missing, the columns are empty: a start is
// not the time to give up one account for another, and account repair finds it.
func moveRepositories(ctx context.Context, tx bun.IDB) error {
	after := ""
	for {
		// A page at a time: a connection cannot write while it reads.
		var page []repoRoot
		err := tx.NewSelect().TableExpr("repo_root AS r").ColumnExpr("r.did, r.root, r.rev, b.data").
			Join("LEFT JOIN repo_block AS b ON b.did = r.did AND b.cid = r.root").
			Where("r.did > ?", after).OrderExpr("r.did").Limit(500).Scan(ctx, &page)
		if err != nil {
			return fmt.Errorf("read repositories: %w", err)
		}
		if len(page) == 0 {
			break
		}
		repos, nodes := make([]repoRow, len(page)), make([]nodeRow, len(page))
		for i, r := range page {
			repos[i] = repoRow{
				DID: r.DID, CommitCID: binaryCID(r.Root), CommitBlock: append([]byte{}, r.Block...), Rev: r.Rev,
				DataCID: emptyTreeCID, Nodes: 1,
			}
			nodes[i] = nodeRow{DID: r.DID, CID: emptyTreeCID, Rev: r.Rev, Data: emptyTreeData}
		}
		for _, rows := range []any{&repos, &nodes} {
			if _, err := tx.NewInsert().Model(rows).Exec(ctx); err != nil {
				return fmt.Errorf("move repositories: %w", err)
			}
		}
		after = page[len(page)-1].DID
	}
	for _, table := range []string{"repo_root", "repo_block"} {
		if _, err := tx.NewDropTable().Table(table).Exec(ctx); err != nil {
			return fmt.Errorf("drop table %s: %w", table, err)
		}
	}
	return nil
}

// binaryCID returns the bytes of the name of a block of DAG-CBOR, empty if it is none.
func binaryCID(text string) []byte {
	if len(text) == 59 && text[0] == 'b' {
		b, err := base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding).DecodeString(text[1:])
		if err == nil && len(b) == 36 && string(b[:4]) == "\x01\x71\x12\x20" {
			return b
		}
	}
	return []byte{}
}

func mustHex(text string) []byte {
	b, err := hex.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return b
}
