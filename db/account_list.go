package db

import (
	"context"
	"slices"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// listed is how many keys one statement asks for at most.
const listed = 500

// AccountsByDIDs returns those of the accounts that exist, in no certain order.
func (q *queries) AccountsByDIDs(ctx context.Context, dids ...syntax.DID) ([]Account, error) {
	var all []Account
	for some := range slices.Chunk(dids, listed) {
		found, err := q.selectAccounts(ctx, func(s *bun.SelectQuery) *bun.SelectQuery { return s.Where("a.did IN (?)", bun.List(some)) })
		if err != nil {
			return nil, wrap(err, "read %d accounts", len(some))
		}
		all = append(all, found...)
	}
	return all, nil
}

// AccountsByEmail returns up to limit accounts whose address, which is in lower
// case, begins with prefix and comes after the given one, in the order of their
// addresses.
func (q *queries) AccountsByEmail(ctx context.Context, prefix, after string, limit int) ([]Account, error) {
	if !storable(prefix) || !storable(after) {
		return nil, nil
	}
	all, err := q.selectAccounts(ctx, func(s *bun.SelectQuery) *bun.SelectQuery {
		if after < prefix {
			s = s.Where("a.email >= ?", prefix)
		} else {
			s = s.Where("a.email > ?", after)
		}
		// No text that begins with prefix is behind this one.
		return s.Where("a.email < ?", prefix+"\U0010ffff").OrderExpr("a.email").Limit(int64(limit))
	})
	return all, wrap(err, "search accounts")
}

// Accounts returns up to limit accounts in the order of their DIDs, those after
// the given one.
func (q *queries) Accounts(ctx context.Context, after syntax.DID, limit int) ([]Account, error) {
	all, err := q.selectAccounts(ctx, func(s *bun.SelectQuery) *bun.SelectQuery {
		return s.Where("a.did > ?", string(after)).OrderExpr("a.did").Limit(int64(limit))
	})
	return all, wrap(err, "list accounts")
}

func (q *queries) selectAccounts(ctx context.Context, what func(*bun.SelectQuery) *bun.SelectQuery) ([]Account, error) {
	s := q.run.bun().NewSelect().TableExpr("account AS a").ColumnExpr(accountColumns).Where("a.state = 'ready'")
	rows, err := what(s).Rows(ctx)
	if err != nil {
		return nil, sentinel(err)
	}
	defer rows.Close()
	var all []Account
	for rows.Next() {
		var a Account
		if err := rows.Scan(accountDest(&a)...); err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, sentinel(rows.Err())
}
