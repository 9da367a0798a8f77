package db

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// An Invite is a code that lets people sign up.
type Invite struct {
	bun.BaseModel `bun:"table:invite,alias:invite"`

	Code       string      `bun:"code,pk"`
	Uses       int         `bun:"uses"` // how often it can be used in all
	Spent      int         `bun:"used"` // how often it was, by accounts that are gone too
	Disabled   bool        `bun:"disabled"`
	ForAccount string      `bun:"for_account"` // the owner's DID, "admin", or "deleted"
	CreatedBy  string      `bun:"created_by"`  // "admin", or what ForAccount is for earned codes
	CreatedAt  time.Time   `bun:"created_at"`
	Used       []InviteUse `bun:"rel:has-many,join:code=code"` // the newest first
}

// An InviteUse is one sign-up with a code.
type InviteUse struct {
	bun.BaseModel `bun:"table:invite_use,alias:invite_use"`

	Code string     `bun:"code,pk"`
	By   syntax.DID `bun:"used_by,pk"`
	At   time.Time  `bun:"used_at"`
}

var (
	insertInvite     = prepared(func(b *builder) bun.Query { return b.insert(new(Invite), "used") })
	selectGoodInvite = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*Invite)(nil)).ColumnExpr("1").Where("code = ?", b.p()).Where(inviteGood)
	})
	disableInvites = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*Invite)(nil)).Set("disabled = ?", true).Where("?", b.among("code", "text"))
	})
	disableInvitesFor = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*Invite)(nil)).Set("disabled = ?", true).
			Where("?", b.among("for_account", "text")).Where(inviteOwned)
	})
	selectUseBy = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*InviteUse)(nil)).ColumnExpr("1").Where("used_by = ?", b.p()).Limit(1)
	})
)

// inviteOwned is the condition of the index that has codes by their owners.
const inviteOwned = "for_account <> 'admin'"

// invites begins a query for codes with their uses.
func (q *queries) invites(into any) *bun.SelectQuery {
	return q.run.bun().NewSelect().Model(into).Relation("Used", newestUseFirst)
}

func newestUseFirst(q *bun.SelectQuery) *bun.SelectQuery { return q.Order("used_at DESC", "used_by") }

// shownUses leaves out what the owner of a code does not get to know.
func shownUses(q *bun.SelectQuery) *bun.SelectQuery {
	return newestUseFirst(q).Where("NOT EXISTS (SELECT 1 FROM account AS held WHERE held.did = used_by AND held.held_at IS NOT NULL)")
}

// InsertInvites stores new codes; their uses are not looked at.
func (tx *Tx) InsertInvites(ctx context.Context, invites ...Invite) error {
	for i := range invites {
		if err := tx.later(ctx, "store invite codes", insertInvite, values(&invites[i], "used")...); err != nil {
			return err
		}
	}
	return nil
}

// Invite returns a code with its uses, or ErrNotFound.
func (q *queries) Invite(ctx context.Context, code string) (*Invite, error) {
	i := &Invite{Code: code}
	if err := q.invites(i).WherePK().Scan(ctx); err != nil {
		return nil, wrap(sentinel(err), "read invite code")
	}
	return i, nil
}

// InviteAvailable returns ErrInviteUnavailable unless the code exists, is not
// disabled, has uses left, and its owner is not taken down.
func (q *queries) InviteAvailable(ctx context.Context, code string) error {
	if !storable(code) {
		return ErrInviteUnavailable
	}
	ok, err := q.exists(ctx, selectGoodInvite, code)
	if err == nil && !ok {
		return ErrInviteUnavailable
	}
	return wrap(err, "look for invite code")
}

// Invited reports whether an account signed up with an invite code.
func (q *queries) Invited(ctx context.Context, did syntax.DID) (bool, error) {
	ok, err := q.exists(ctx, selectUseBy, did)
	return ok, wrap(err, "look whether %s was invited", did)
}

// InvitesFor returns the codes that an account owns, the oldest first, each with
// its uses by accounts that are not held in quarantine. Those of the operator are listed by [queries.RecentInvites] alone.
func (q *queries) InvitesFor(ctx context.Context, account string) ([]Invite, error) {
	var all []Invite
	err := q.run.bun().NewSelect().Model(&all).Relation("Used", shownUses).Where("for_account = ?", account).Where(inviteOwned).Order("created_at", "code").Scan(ctx)
	return all, wrap(sentinel(err), "list invite codes of %s", account)
}

// DisableInvites disables the given codes and all that the given accounts own.
func (tx *Tx) DisableInvites(ctx context.Context, codes, accounts []string) error {
	if len(codes) > 0 {
		if _, err := tx.exec(ctx, disableInvites, list(&tx.queries, codes)); err != nil {
			return wrap(err, "disable invite codes")
		}
	}
	if len(accounts) > 0 {
		if _, err := tx.exec(ctx, disableInvitesFor, list(&tx.queries, accounts)); err != nil {
			return wrap(err, "disable invite codes of accounts")
		}
	}
	return nil
}
