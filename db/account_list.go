package db

import (
	"context"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"
)

// listed is how many keys one statement asks for at most.
const listed = 500

// AccountsByDIDs returns those of the accounts that exist, in no certain order.
func (q *queries) AccountsByDIDs(ctx context.Context, dids ...syntax.DID) ([]Account, error) {
	var all []Account
	for some := range slices.Chunk(dids, listed) {
		var found []Account
		if err := q.accounts(&found).Where("a.did IN (?)", bun.List(some)).Scan(ctx); err != nil {
			return nil, wrap(sentinel(err), "read %d accounts", len(some))
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
	var all []Account
	err := byEmail(q.accounts(&all), prefix, after).Limit(int64(limit)).Scan(ctx)
	return all, wrap(sentinel(err), "search accounts")
}

// Accounts returns up to limit accounts in the order of their DIDs, those after
// the given one.
func (q *queries) Accounts(ctx context.Context, after syntax.DID, limit int) ([]Account, error) {
	var all []Account
	err := q.accounts(&all).Where("a.did > ?", string(after)).OrderExpr("a.did").Limit(int64(limit)).Scan(ctx)
	return all, wrap(sentinel(err), "list accounts")
}

// A StandingFilter says which accounts are listed: the zero value all of them.
type StandingFilter struct {
	Status string // "active", "deactivated", "takendown" or "creating"
	Email  string // the address begins with it; in lower case
	Domain string // the handle is one label under it; in lower case
	// Unconfirmed and Since, unless zero, let through accounts whose address was not
	// confirmed, and those made at that time or later. They have no index: a list that
	// they make short has cost reading all accounts.
	Unconfirmed bool
	Since       time.Time
}

// Standings returns up to limit accounts that f lets through, without the counts
// of their sessions and app passwords: those behind after, a DID, in the order of
// their DIDs; or, where f names an address, those behind after, an address, in the
// order of their addresses.
func (q *queries) Standings(ctx context.Context, f StandingFilter, after string, limit int) ([]Standing, error) {
	if !storable(f.Status) || !storable(f.Email) || !storable(f.Domain) || !storable(after) {
		return nil, nil
	}
	var all []Standing
	s := q.run.bun().NewSelect().Model(&all).ColumnExpr("?TableColumns").ColumnExpr("a.state = 'creating' AS creating")
	status, domain := "a.status", "a.handle_parent"
	if q.run.bun().Dialect().Name() == dialect.SQLite {
		// It has no statistics here, and would take an index of what most accounts
		// have in common, and sort them. A plus keeps it from the index of a column.
		switch {
		case f.Email != "":
			status, domain = "+"+status, "+"+domain
		case f.Status == "active" && f.Domain != "":
			status = "+" + status
		case f.Status != "":
			domain = "+" + domain
		}
	}
	if f.Status != "" {
		s = s.Where(status+" = ?", f.Status)
	}
	if f.Domain != "" {
		s = s.Where(domain+" = ?", f.Domain)
	}
	if f.Unconfirmed {
		s = s.Where("a.email_confirmed_at IS NULL")
	}
	if !f.Since.IsZero() {
		s = s.Where("a.created_at >= ?", f.Since)
	}
	if f.Email != "" {
		s = byEmail(s, f.Email, after)
	} else {
		s = s.Where("a.did > ?", after).OrderExpr("a.did")
	}
	if err := s.Limit(int64(limit)).Scan(ctx); err != nil {
		return nil, wrap(sentinel(err), "list accounts")
	}
	return all, q.addInviteCodes(ctx, all)
}

// addInviteCodes fills in the code that each account signed up with.
func (q *queries) addInviteCodes(ctx context.Context, all []Standing) error {
	for some := range slices.Chunk(all, listed) {
		dids := make([]syntax.DID, len(some))
		for i := range some {
			dids[i] = some[i].DID
		}
		var uses []InviteUse
		err := q.run.bun().NewSelect().Model(&uses).Where("used_by IN (?)", bun.List(dids)).Order("used_at DESC", "code DESC").Scan(ctx)
		if err != nil {
			return wrap(sentinel(err), "find invite codes that were used")
		}
		codes := make(map[syntax.DID]string, len(uses))
		for _, u := range uses { // the first use comes last
			codes[u.By] = u.Code
		}
		for i := range some {
			some[i].InviteCode = codes[some[i].DID]
		}
	}
	return nil
}

// byEmail picks the accounts whose address begins with prefix and is behind after,
// in the order of their addresses.
func byEmail(s *bun.SelectQuery, prefix, after string) *bun.SelectQuery {
	if after < prefix {
		s = s.Where("a.email >= ?", prefix)
	} else {
		s = s.Where("a.email > ?", after)
	}
	// No text that begins with prefix is behind this one.
	return s.Where("a.email < ?", prefix+"\U0010ffff").OrderExpr("a.email")
}

// accounts begins a query for those that are not under creation.
func (q *queries) accounts(into *[]Account) *bun.SelectQuery {
	return q.run.bun().NewSelect().Model(into).Where("a.state = 'ready'")
}
