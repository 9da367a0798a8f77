package admin

import (
	"cmp"
	"context"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/admin"
	"portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/answer"
)

// GetAccountInfo shows an account, whatever its state.
func (s *Service) GetAccountInfo(ctx context.Context, p *api.GetAccountInfoParams) (*api.GetAccountInfoOutput, error) {
	shown, err := s.show(ctx, p.DID)
	if err != nil {
		return nil, err
	}
	if len(shown) == 0 {
		return nil, errNotFound.New(http.StatusBadRequest, "Account not found")
	}
	return new(shown[0]), nil
}

// show returns those of the accounts that exist.
func (s *Service) show(ctx context.Context, dids ...syntax.DID) ([]api.AccountView, error) {
	return db.ReadPublic(ctx, s.DB, func(r *db.Reader) ([]api.AccountView, error) {
		accounts, err := r.AccountsByDIDs(ctx, dids...)
		if err != nil {
			return nil, err
		}
		return views(ctx, r, accounts)
	})
}

// views shows accounts with their invites, in the same order.
func views(ctx context.Context, r *db.Reader, accounts []db.Account) ([]api.AccountView, error) {
	dids, owners := make([]syntax.DID, len(accounts)), make([]string, len(accounts))
	for i, a := range accounts {
		dids[i], owners[i] = a.DID, a.DID.String()
	}
	used, err := r.InvitesUsedBy(ctx, dids...)
	if err != nil {
		return nil, err
	}
	owned, err := r.InvitesForEach(ctx, owners...)
	if err != nil {
		return nil, err
	}
	shown := make([]api.AccountView, len(accounts))
	for i, a := range accounts {
		shown[i] = view(&a)
		if code, ok := used[a.DID]; ok {
			shown[i].InvitedBy = new(answer.Invite(code))
		}
		shown[i].Invites = make([]server.InviteCode, 0, len(owned[a.DID.String()])) // empty, but there
		for _, code := range owned[a.DID.String()] {
			shown[i].Invites = append(shown[i].Invites, answer.Invite(code))
		}
	}
	return shown, nil
}

func view(a *db.Account) api.AccountView {
	return api.AccountView{
		DID: a.DID, Handle: cmp.Or(a.Handle, syntax.HandleInvalid), IndexedAt: answer.Datetime(a.CreatedAt),
		EmailConfirmedAt: answer.Moment(a.EmailConfirmedAt), DeactivatedAt: answer.Moment(a.DeactivatedAt), InvitesDisabled: new(a.InvitesDisabled),
		Email: xrpc.NonZero(a.Email),
	}
}
