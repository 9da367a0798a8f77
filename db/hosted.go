package db

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// A HostedRepo is the repository of an account as others are told of it.
type HostedRepo struct {
	bun.BaseModel `bun:"table:account,alias:a"`

	DID       syntax.DID `bun:"did"`
	CreatedAt time.Time  `bun:"created_at"` // the account
	Status    string     `bun:"status"`     // "active", "deactivated" or "takendown"
	CommitCID []byte     `bun:"commit_cid"`
	Rev       string     `bun:"rev"`
}

var selectHostedRepos = prepared(func(b *builder) bun.Query {
	return b.limit(b.hosted().Where("(a.created_at, a.did) > (?, ?)", b.p(), b.p()), "a.created_at, a.did")
})

// hosted selects the accounts that have a repository, but those under creation and those
// that are held in quarantine.
func (b *builder) hosted() *bun.SelectQuery {
	return b.NewSelect().Model((*HostedRepo)(nil)).ColumnExpr("a.did, a.created_at, a.status, r.commit_cid, r.rev").
		Join("JOIN repo AS r ON r.did = a.did").Where("a.state = 'ready'").Where("a.held_at IS NULL")
}

// heldAccount selects the account with a DID if it is held in quarantine.
func (b *builder) heldAccount(did string) *bun.SelectQuery {
	return b.NewSelect().TableExpr("account AS held").ColumnExpr("1").Where("held.did = " + did).Where("held.held_at IS NOT NULL")
}

// HostedRepos returns up to limit repositories in the order of the creation of their
// accounts and then of their DIDs: those after the account that was created at after and
// has a DID, be it there or not.
func (q *queries) HostedRepos(ctx context.Context, after time.Time, did syntax.DID, limit int) ([]HostedRepo, error) {
	if !storable(did.String()) {
		return nil, nil
	}
	repos, err := many[HostedRepo](ctx, q, selectHostedRepos, after.UnixMicro(), did, limit)
	return repos, wrap(err, "list repositories")
}
