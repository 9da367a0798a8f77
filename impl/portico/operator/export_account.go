package operator

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account"
	"portico/impl/answer"
	"portico/impl/repo/store"
)

// ExportAccount gives out an account that moves to another host.
func (s *Service) ExportAccount(ctx context.Context, in *api.ExportAccountInput) (*api.ExportAccountOutput, error) {
	packed, err := s.Transfers.Pack(ctx, in.DID)
	switch refused, ok := errors.AsType[*account.TransferRefusal](err); {
	case ok:
		return nil, api.ErrExportAccountMoveRefused.New(http.StatusBadRequest, refused.Message)
	case errors.Is(err, db.ErrNotFound):
		return nil, api.ErrExportAccountAccountNotFound.New(http.StatusBadRequest, "Account not found")
	case err != nil:
		return nil, err
	}
	out := &api.ExportAccountOutput{
		Account: movedOf(packed), Host: s.Accounts.PublicURL(ctx), OwnDomain: s.Domains.Current(ctx).Of(packed.Account.Handle) != "",
		Version: xrpc.NonZero(packed.Version), Departure: departureOf(packed.Move),
	}
	passkeys, err := s.DB.Passkeys(ctx, in.DID)
	if err != nil {
		return nil, err
	}
	codes, err := s.DB.RecoveryCodes(ctx, in.DID)
	if err != nil {
		return nil, err
	}
	invites, err := s.DB.InvitesFor(ctx, in.DID.String())
	if err != nil {
		return nil, err
	}
	standing, err := s.DB.StandingByDID(ctx, in.DID)
	if err != nil {
		return nil, err
	}
	out.Stays = api.ExportAccountStays{
		Passkeys: int64(len(passkeys)), RecoveryCodes: int64(codes), Sessions: int64(standing.Sessions), InviteCodes: int64(len(invites)),
	}
	return out, nil
}

func departureOf(m *db.AccountMove) *api.Departure {
	if m == nil {
		return nil
	}
	return &api.Departure{State: m.State, Host: m.Host, Since: answer.Datetime(m.Since)}
}

func movedOf(p *account.Packed) api.MovedAccount {
	a := &p.Account
	out := api.MovedAccount{
		DID: a.DID, Handle: cmp.Or(a.Handle, syntax.HandleInvalid), Email: xrpc.NonZero(a.Email), EmailConfirmedAt: answer.Moment(a.EmailConfirmedAt),
		EmailAuthFactor: a.EmailAuthFactor, InvitesDisabled: a.InvitesDisabled,
		DeactivatedAt: answer.Moment(p.DeactivatedAt), DeleteAfter: answer.Moment(p.DeleteAfter), TakedownRef: a.TakedownRef,
		Preferences: p.Preferences,
	}
	for _, d := range p.Takedowns {
		down := api.Takedown{Ref: d.Ref, Record: xrpc.NonZero(d.Path)}
		if d.Path == "" {
			down.Blob = new(syntax.CID(store.CID(d.CID).String()))
		}
		out.Takedowns = append(out.Takedowns, down)
	}
	if p.Proofs == nil {
		return out
	}
	out.Proofs = &api.MovedProofs{PasswordHash: xrpc.NonZero(p.Proofs.PasswordHash)}
	for _, app := range p.Proofs.AppPasswords {
		out.Proofs.AppPasswords = append(out.Proofs.AppPasswords, api.MovedAppPassword{
			Name: app.Name, Hash: app.Scrypt, Privileged: app.Privileged, CreatedAt: answer.Datetime(app.CreatedAt),
		})
	}
	if t := p.Proofs.TOTP; t != nil {
		out.Proofs.Totp = &api.MovedTotp{Secret: base64.StdEncoding.EncodeToString(t.Secret), Step: t.Step, CreatedAt: answer.Datetime(t.CreatedAt)}
	}
	return out
}
