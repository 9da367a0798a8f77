package operator

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/answer"
	"portico/impl/mail/email"
)

// GetAccount shows an account, whatever its state, found by its DID, handle or
// address.
func (s *Service) GetAccount(ctx context.Context, p *api.GetAccountParams) (*api.GetAccountOutput, error) {
	return db.ReadPublic(ctx, s.DB, func(r *db.Reader) (*api.GetAccountOutput, error) {
		found, err := find(ctx, r, strings.TrimSpace(p.Account))
		if errors.Is(err, db.ErrNotFound) {
			return nil, api.ErrGetAccountAccountNotFound.New(http.StatusBadRequest, "Account not found")
		}
		if err != nil {
			return nil, err
		}
		out := accountOf(found)
		sizes, err := r.Sizes(ctx, found.DID)
		if err != nil {
			return nil, err
		}
		setSize(&out, sizes[found.DID])
		held, err := r.QuarantinedOf(ctx, found.DID)
		if err != nil {
			return nil, err
		}
		setQuarantine(&out, held)
		out.Sessions, out.AppPasswords = new(int64(found.Sessions)), new(int64(found.AppPasswords))
		return &out, nil
	})
}

// accountOf is an account without what has to be counted.
func accountOf(a *db.Standing) api.Account {
	return api.Account{
		DID: a.DID, Handle: cmp.Or(a.Handle, syntax.HandleInvalid), Status: status(a),
		EmailConfirmedAt: answer.Moment(a.EmailConfirmedAt), EmailAuthFactor: a.EmailAuthFactor,
		CreatedAt: answer.Datetime(a.CreatedAt), DeactivatedAt: answer.Moment(a.DeactivatedAt), DeleteAfter: answer.Moment(a.DeleteAfter),
		TakedownRef: a.TakedownRef, InvitesDisabled: a.InvitesDisabled,
		Email: xrpc.NonZero(a.Email), InviteCode: xrpc.NonZero(a.InviteCode),
	}
}

func setSize(a *api.Account, s db.Size) {
	a.Records, a.Blobs, a.BlobBytes = new(int64(s.Records)), new(int64(s.Blobs)), new(s.Bytes)
}

func setQuarantine(a *api.Account, held map[syntax.DID]db.Quarantined) {
	if h, ok := held[a.DID]; ok {
		a.Quarantine = quarantineOf(&h)
	}
}

// find returns the account that a text names, or db.ErrNotFound. A handle may have
// the @ before it that people write.
func find(ctx context.Context, r *db.Reader, name string) (*db.Standing, error) {
	if did, err := syntax.ParseDID(name); err == nil {
		return r.StandingByDID(ctx, did)
	}
	if h, err := syntax.ParseHandle(strings.TrimPrefix(name, "@")); err == nil {
		return r.StandingByHandle(ctx, h.Normalize())
	}
	return r.StandingByEmail(ctx, email.Normalize(name))
}

func status(a *db.Standing) string {
	if a.Creating {
		return api.AccountStatusCreating
	}
	return cmp.Or(a.Status(), api.AccountStatusActive)
}
