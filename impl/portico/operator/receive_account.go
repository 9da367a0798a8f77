package operator

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account"
	"portico/impl/account/factor/totp"
	"portico/impl/answer"
	"portico/impl/identity/handle"
	"portico/impl/mail/email"
	"portico/impl/repo/dagcbor"
)

// ReceiveAccount makes an account that moves here, or brings it up to date. The operator of this
// server vouches for the other host: what comes with the account is believed.
func (s *Service) ReceiveAccount(ctx context.Context, in *api.ReceiveAccountInput) (*api.ReceiveAccountOutput, error) {
	out, err := s.receive(ctx, in)
	if err != nil {
		return nil, arrivalError(err, in)
	}
	return out, nil
}

func (s *Service) receive(ctx context.Context, in *api.ReceiveAccountInput) (*api.ReceiveAccountOutput, error) {
	r, err := arrivalOf(in)
	if err != nil {
		return nil, err
	}
	if r.Proofs != nil && r.Proofs.PasswordHash != "" {
		if dearer, err := s.Passwords.Dearer(r.Proofs.PasswordHash); err != nil {
			return nil, xrpc.InvalidRequest("the hash of the password is none")
		} else if dearer {
			return nil, &account.TransferRefusal{Message: "To verify the hash of the password costs more than is allowed here: see PORTICO_PASSWORD_HASH_MEMORY"}
		}
	}
	if err := s.chooseMoved(ctx, in, r); err != nil {
		return nil, err
	}
	out := &api.ReceiveAccountOutput{Host: s.Accounts.PublicURL(ctx), Handle: r.Handle}
	if out.RotationKeys, err = s.Accounts.RotationKeys(ctx); err != nil {
		return nil, err
	}
	if still, err := s.Accounts.Standstill(ctx); err != nil {
		return nil, err
	} else if still != "" {
		return nil, &account.TransferRefusal{Message: out.Host + " takes no account now: " + still}
	}
	var key string
	if out.State, key, err = s.Transfers.Arrived(ctx, r.DID, r.From); err != nil {
		return nil, err
	}
	if out.State == account.ArrivalNone && key == "" {
		if err := s.DB.Available(ctx, r.Handle, r.Email); err != nil {
			return nil, err
		}
	}
	if !xrpc.ValueOf(in.DryRun) && out.State != account.ArrivalHere {
		if key, err = s.Transfers.Arrive(ctx, *r); err != nil {
			return nil, err
		}
	}
	out.SigningKey = xrpc.NonZero(key)
	return out, nil
}

// chooseMoved applies the rules for handles to the one that an account comes with: one under the
// server's domains as the operator may give it away, and any other only where it has that already.
func (s *Service) chooseMoved(ctx context.Context, in *api.ReceiveAccountInput, r *account.Arrival) error {
	wanted := in.Account.Handle
	if in.Handle != nil {
		wanted = *in.Handle
	}
	if wanted == syntax.HandleInvalid {
		return nil
	}
	domains := s.Domains.Current(ctx)
	choice, err := s.Handles.Check(domains, wanted.String(), true)
	if err != nil {
		return err
	}
	if !choice.Local && wanted.Normalize() != in.Account.Handle.Normalize() {
		return handle.ErrUnsupportedDomain
	}
	r.Handle = choice.Handle
	r.Hold = func(ctx context.Context, tx *db.Tx) error {
		if !choice.Local {
			return nil
		}
		return s.holdDomain(ctx, tx, choice)
	}
	return nil
}

// arrivalOf reads what another host gave out.
func arrivalOf(in *api.ReceiveAccountInput) (*account.Arrival, error) {
	a := &in.Account
	if u, err := url.Parse(in.From); err != nil || u.Host == "" {
		return nil, xrpc.InvalidRequest("from is not the URL of a server")
	}
	if a.DID.Method() != "plc" {
		return nil, &account.TransferRefusal{Message: "Only accounts with a did:plc move"}
	}
	r := &account.Arrival{
		DID: a.DID, From: in.From, Email: email.Normalize(xrpc.ValueOf(a.Email)), EmailConfirmedAt: momentOf(a.EmailConfirmedAt),
		EmailAuthFactor: a.EmailAuthFactor, InvitesDisabled: a.InvitesDisabled, Preferences: a.Preferences,
		Standing: account.Standing{DeactivatedAt: momentOf(a.DeactivatedAt), DeleteAfter: momentOf(a.DeleteAfter), TakedownRef: a.TakedownRef},
	}
	for _, d := range a.Takedowns {
		down := db.Takedown{Path: xrpc.ValueOf(d.Record), Ref: d.Ref}
		if d.Blob != nil {
			cid, err := dagcbor.ParseCID(d.Blob.String())
			if err != nil {
				return nil, xrpc.InvalidRequest("a blob that is taken down has no CID")
			}
			down.CID = cid[:]
		}
		r.Standing.Takedowns = append(r.Standing.Takedowns, down)
	}
	if xrpc.ValueOf(in.Final) != (a.Proofs != nil) {
		return nil, xrpc.InvalidRequest("proofs come with the final state of an account, and only with that")
	}
	if a.Proofs == nil {
		return r, nil
	}
	r.Proofs = &account.Proofs{PasswordHash: xrpc.ValueOf(a.Proofs.PasswordHash)}
	for _, app := range a.Proofs.AppPasswords {
		r.Proofs.AppPasswords = append(r.Proofs.AppPasswords, db.AppPassword{
			Name: app.Name, Scrypt: app.Hash, Privileged: app.Privileged, CreatedAt: app.CreatedAt.Time(),
		})
	}
	if t := a.Proofs.Totp; t != nil {
		secret, err := base64.StdEncoding.DecodeString(t.Secret)
		if err != nil || len(secret) != len(totp.Secret{}) {
			return nil, xrpc.InvalidRequest("the secret of the authenticator app is none")
		}
		r.Proofs.TOTP = &account.TOTPProof{Secret: secret, Step: t.Step, CreatedAt: t.CreatedAt.Time()}
	}
	return r, nil
}

func momentOf(d *syntax.Datetime) *time.Time {
	if d == nil {
		return nil
	}
	return new(d.Time())
}

func arrivalError(err error, in *api.ReceiveAccountInput) error {
	if refused, ok := errors.AsType[*account.TransferRefusal](err); ok {
		return api.ErrReceiveAccountMoveRefused.New(http.StatusBadRequest, refused.Message)
	}
	switch {
	case errors.Is(err, db.ErrDIDTaken):
		return api.ErrReceiveAccountAccountExists.New(http.StatusBadRequest, "The DID has an account here already")
	case errors.Is(err, db.ErrEmailTaken):
		return api.ErrReceiveAccountEmailNotAvailable.New(http.StatusBadRequest, "Email already taken: "+xrpc.ValueOf(in.Account.Email))
	}
	wanted := in.Account.Handle
	if in.Handle != nil {
		wanted = *in.Handle
	}
	return answer.Handle(err, wanted)
}
