package db

import (
	"context"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// InvitesForEach returns the codes that each of the accounts owns, the oldest
// first, each with its uses. Accounts without codes are left out.
func (q *queries) InvitesForEach(ctx context.Context, accounts ...string) (map[string][]Invite, error) {
	all := make(map[string][]Invite)
	for some := range slices.Chunk(accounts, listed) {
		var codes []Invite
		err := q.invites(&codes).Where("for_account IN (?)", bun.List(some)).Where(inviteOwned).Order("created_at", "code").Scan(ctx)
		if err != nil {
			return nil, wrap(sentinel(err), "list invite codes of %d accounts", len(some))
		}
		for _, i := range codes {
			all[i.ForAccount] = append(all[i.ForAccount], i)
		}
	}
	return all, nil
}

// InvitesUsedBy returns the code that each of the accounts signed up with.
// Accounts that used none are left out.
func (q *queries) InvitesUsedBy(ctx context.Context, dids ...syntax.DID) (map[syntax.DID]Invite, error) {
	all := make(map[syntax.DID]Invite)
	for some := range slices.Chunk(dids, listed) {
		var uses []InviteUse
		err := q.run.bun().NewSelect().Model(&uses).Where("used_by IN (?)", bun.List(some)).Order("used_at DESC", "code").Scan(ctx)
		if err != nil {
			return nil, wrap(sentinel(err), "find invite codes that were used")
		}
		if len(uses) == 0 {
			continue
		}
		codes := make([]string, len(uses))
		for n, u := range uses {
			codes[n] = u.Code
		}
		slices.Sort(codes)
		var used []Invite
		err = q.invites(&used).Where("code IN (?)", bun.List(slices.Compact(codes))).Scan(ctx)
		if err != nil {
			return nil, wrap(sentinel(err), "read invite codes that were used")
		}
		byCode := make(map[string]Invite, len(used))
		for _, i := range used {
			byCode[i.Code] = i
		}
		for _, u := range uses { // the first use comes last
			all[u.By] = byCode[u.Code]
		}
	}
	return all, nil
}

// An InviteMark is a place in a list of codes: that of a code with this age or
// this number of uses.
type InviteMark struct {
	CreatedAt time.Time // in a list by age
	Spent     int       // in a list by use
	Code      string
}

// RecentInvites returns up to limit codes with their uses, the newest first, those
// that follow after; nil stands for the beginning.
func (q *queries) RecentInvites(ctx context.Context, after *InviteMark, limit int) ([]Invite, error) {
	var page []Invite
	s := q.invites(&page)
	if after != nil {
		s = s.Where("(created_at, code) < (?, ?)", after.CreatedAt, after.code())
	}
	err := s.Order("created_at DESC", "code DESC").Limit(int64(limit)).Scan(ctx)
	return page, wrap(sentinel(err), "list invite codes")
}

// MostUsedInvites is RecentInvites for those that were used most often. A page of codes
// that were never used reads over those that were and lie between them.
func (q *queries) MostUsedInvites(ctx context.Context, after *InviteMark, limit int) ([]Invite, error) {
	var page []Invite
	if after == nil || after.Spent > 0 {
		s := q.invites(&page).Where("used > 0")
		if after != nil {
			s = s.Where("(used, code) < (?, ?)", after.Spent, after.code())
		}
		if err := s.Order("used DESC", "code DESC").Limit(int64(limit)).Scan(ctx); err != nil {
			return nil, wrap(sentinel(err), "list invite codes that were used")
		}
		after = nil
	}
	if len(page) == limit || after != nil && after.Spent < 0 {
		return page, nil
	}
	var unused []Invite
	s := q.invites(&unused).Where("used = 0").Where("code > ''")
	if after != nil {
		s = s.Where("code < ?", after.code())
	}
	err := s.Order("code DESC").Limit(int64(limit - len(page))).Scan(ctx)
	return append(page, unused...), wrap(sentinel(err), "list invite codes that were not used")
}

// code is the code of a mark, or one before all others when none can be like it.
func (m *InviteMark) code() string {
	if !storable(m.Code) {
		return ""
	}
	return m.Code
}
