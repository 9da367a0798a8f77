package db

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// An Invite is a code that lets people sign up.
type Invite struct {
	Code       string
	Uses       int // how often it can be used in all
	Spent      int // how often it was, by accounts that are gone too
	Disabled   bool
	ForAccount string // the owner's DID, "admin", or "deleted"
	CreatedBy  string // "admin", the owner's DID for earned codes, or "deleted"
	CreatedAt  time.Time
	Used       []InviteUse // the newest first
}

// An InviteUse is one sign-up with a code.
type InviteUse struct {
	By syntax.DID
	At time.Time
}

type inviteRow struct {
	bun.BaseModel `bun:"table:invite,alias:invite"`

	Code       string          `bun:",pk"`
	Uses       int             `bun:""`
	Used       int             `bun:""`
	Disabled   bool            `bun:""`
	ForAccount string          `bun:""`
	CreatedBy  string          `bun:""`
	CreatedAt  stamp           `bun:""`
	UsedBy     []*inviteUseRow `bun:"rel:has-many,join:code=code"`
}

type inviteUseRow struct {
	bun.BaseModel `bun:"table:invite_use,alias:invite_use"`

	Code   string     `bun:",pk"`
	UsedBy syntax.DID `bun:",pk"`
	UsedAt stamp      `bun:""`
}

func (r *inviteRow) invite() Invite {
	i := Invite{
		Code: r.Code, Uses: r.Uses, Spent: r.Used, Disabled: r.Disabled, ForAccount: r.ForAccount, CreatedBy: r.CreatedBy,
		CreatedAt: time.Time(r.CreatedAt),
	}
	for _, u := range r.UsedBy {
		i.Used = append(i.Used, InviteUse{By: u.UsedBy, At: time.Time(u.UsedAt)})
	}
	return i
}

func newestUseFirst(q *bun.SelectQuery) *bun.SelectQuery { return q.Order("used_at DESC", "used_by") }

// InsertInvites stores new codes; their uses are not looked at.
func (tx *Tx) InsertInvites(ctx context.Context, invites ...Invite) error {
	if len(invites) == 0 {
		return nil
	}
	rows := make([]inviteRow, len(invites))
	for n, i := range invites {
		rows[n] = inviteRow{
			Code: i.Code, Uses: i.Uses, Disabled: i.Disabled, ForAccount: i.ForAccount, CreatedBy: i.CreatedBy,
			CreatedAt: stamp(i.CreatedAt),
		}
	}
	_, err := tx.run.bun().NewInsert().Model(&rows).Exec(ctx)
	return wrap(sentinel(err), "store invite codes")
}

// Invite returns a code with its uses, or ErrNotFound.
func (q *queries) Invite(ctx context.Context, code string) (*Invite, error) {
	row := inviteRow{Code: code}
	err := q.run.bun().NewSelect().Model(&row).WherePK().Relation("UsedBy", newestUseFirst).Scan(ctx)
	if err != nil {
		return nil, wrap(sentinel(err), "read invite code")
	}
	return new(row.invite()), nil
}

// InviteAvailable returns ErrInviteUnavailable unless the code exists, is not
// disabled, has uses left, and its owner is not taken down.
func (q *queries) InviteAvailable(ctx context.Context, code string) error {
	if !storable(code) {
		return ErrInviteUnavailable
	}
	ok, err := q.existsText(ctx, `SELECT 1 FROM invite WHERE code = ? AND `+inviteGood, code)
	if err == nil && !ok {
		return ErrInviteUnavailable
	}
	return wrap(err, "look for invite code")
}

// Invited reports whether an account signed up with an invite code.
func (q *queries) Invited(ctx context.Context, did syntax.DID) (bool, error) {
	ok, err := q.existsText(ctx, `SELECT 1 FROM invite_use WHERE used_by = ? LIMIT 1`, string(did))
	return ok, wrap(err, "look whether %s was invited", did)
}

// InvitesFor returns the codes that an account owns, the oldest first, each with
// its uses.
func (q *queries) InvitesFor(ctx context.Context, account string) ([]Invite, error) {
	var rows []inviteRow
	err := q.run.bun().NewSelect().Model(&rows).Where("for_account = ?", account).Order("created_at", "code").
		Relation("UsedBy", newestUseFirst).Scan(ctx)
	if err != nil {
		return nil, wrap(err, "list invite codes of %s", account)
	}
	invites := make([]Invite, len(rows))
	for i := range rows {
		invites[i] = rows[i].invite()
	}
	return invites, nil
}

// DisableInvites disables the given codes and all that the given accounts own.
func (tx *Tx) DisableInvites(ctx context.Context, codes, accounts []string) error {
	if len(codes)+len(accounts) == 0 {
		return nil
	}
	_, err := tx.run.bun().NewUpdate().Model((*inviteRow)(nil)).Set("disabled = ?", true).
		WhereOr("code IN (?)", bun.List(append(codes, ""))).WhereOr("for_account IN (?)", bun.List(append(accounts, ""))).
		Exec(ctx)
	return wrap(err, "disable invite codes")
}
