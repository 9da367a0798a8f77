package server

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	api "portico/api/atproto/server"
	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/account/invite"
	"portico/impl/answer"
)

// GetAccountInviteCodes lists the caller's codes, and first makes those that the
// account has earned since it last asked, unless it is in quarantine. Who used one and is in
// quarantine is not told, but that somebody did.
func (s *Service) GetAccountInviteCodes(
	ctx context.Context, p *api.GetAccountInviteCodesParams,
) (*api.GetAccountInviteCodesOutput, error) {
	a := auth.Caller(ctx).Account
	if a.Deactivated() {
		return nil, errNotFound.New(http.StatusBadRequest, "Account not found")
	}
	codes, err := s.DB.InvitesFor(ctx, a.DID.String())
	if err != nil {
		return nil, err
	}
	if p.CreateAvailable && !a.Held() && s.Domains.Current(ctx).CodesWanted() {
		earned, err := s.earnInvites(ctx, a, codes)
		if err != nil {
			return nil, err
		}
		codes = append(codes, earned...)
	}
	out := new(api.GetAccountInviteCodesOutput)
	for _, c := range codes {
		if !c.Disabled && (p.IncludeUsed || c.Spent < c.Uses) {
			out.Codes = append(out.Codes, answer.Invite(c))
		}
	}
	return out, nil
}

// earnInvites makes the codes that a has earned beyond those that it has. When
// somebody else made some since these were read, it makes none and says so.
func (s *Service) earnInvites(ctx context.Context, a *db.Account, codes []db.Invite) ([]db.Invite, error) {
	owner, now := a.DID.String(), s.Now()
	create, total := s.Config().InviteEarning.Due(now, a.CreatedAt, countable(codes))
	if create == 0 {
		return nil, nil
	}
	earned := make([]db.Invite, create)
	for i := range earned {
		text, err := invite.New(s.Config().Hostname, s.Rand)
		if err != nil {
			return nil, err
		}
		earned[i] = db.Invite{Code: text, Uses: 1, ForAccount: owner, CreatedBy: owner, CreatedAt: now}
	}
	// As they will be listed from now on: codes of one moment come by their text.
	slices.SortFunc(earned, func(a, b db.Invite) int { return strings.Compare(a.Code, b.Code) })
	err := s.DB.Write(ctx, func(tx *db.Tx) error {
		// The lock makes racing requests count one after the other.
		locked, err := tx.LockAccount(ctx, a.DID)
		if err != nil {
			return err
		}
		there, err := tx.InvitesFor(ctx, owner)
		if err != nil {
			return err
		}
		if routine(there)+create > total {
			return api.ErrGetAccountInviteCodesDuplicateCreate.New(http.StatusBadRequest,
				"attempted to create additional codes in another request")
		}
		for i := range earned {
			earned[i].Disabled = locked.InvitesDisabled
		}
		return tx.InsertInvites(ctx, earned...)
	})
	if errors.Is(err, db.ErrNotFound) {
		return nil, auth.AccountNotFound()
	}
	return earned, err
}

// countable is what the arithmetic of earning needs of codes.
func countable(codes []db.Invite) []invite.Code {
	out := make([]invite.Code, len(codes))
	for i, c := range codes {
		out[i] = invite.Code{
			CreatedAt: c.CreatedAt, ByAdmin: c.CreatedBy == inviteAdmin, Disabled: c.Disabled, Uses: c.Spent, Available: c.Uses,
		}
	}
	return out
}

// routine is how many of codes were earned.
func routine(codes []db.Invite) (n int) {
	for _, c := range codes {
		if c.CreatedBy != inviteAdmin {
			n++
		}
	}
	return n
}
