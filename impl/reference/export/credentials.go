package export

import (
	"bytes"
	"context"
	"errors"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/reference"
	"portico/impl/account/adopted"
	"portico/impl/keyring"
)

// noPassword has the form of the reference's hashes, and is that of no password.
var noPassword = strings.Repeat("0", 32) + ":" + strings.Repeat("0", 128)

// secrets are what an account had on the server that it was adopted from.
type secrets map[db.AdoptedKind]map[string]db.AdoptedSecret

func secretsOf(ctx context.Context, s *db.Snapshot, did syntax.DID) (secrets, error) {
	list, err := s.AdoptedSecretsOf(ctx, did)
	all := secrets{db.AdoptedPassword: {}, db.AdoptedAppPassword: {}, db.AdoptedSession: {}}
	for _, one := range list {
		all[one.Kind][string(one.Name)] = one
	}
	return all, err
}

// open returns what was kept under a name, empty where that is nothing, or is sealed with a
// key that nobody has.
func (x *Export) open(kept map[string]db.AdoptedSecret, name string) (string, error) {
	one, ok := kept[name]
	if !ok {
		return "", nil
	}
	text, err := adopted.Open(x.Keys, one)
	if errors.Is(err, keyring.ErrUnknownKey) || errors.Is(err, keyring.ErrSealed) {
		return "", nil
	}
	return text, err
}

// hash returns the hash that was kept of the password that now stands for it, empty if it
// is of one from before.
func (x *Export) hash(kept map[string]db.AdoptedSecret, name string, now []byte) (string, error) {
	if len(now) == 0 || !bytes.Equal(kept[name].Beside, now) {
		return "", nil
	}
	return x.open(kept, name)
}

// credentials writes an account's rows but those of its repository.
func (x *Export) credentials(ctx context.Context, s *db.Snapshot, a *db.Account) error {
	kept, err := secretsOf(ctx, s, a.DID)
	if err != nil {
		return err
	}
	row := reference.Actor{
		DID: a.DID.String(), CreatedAt: reference.FormatTime(a.CreatedAt), TakedownRef: a.TakedownRef, InvitesDisabled: a.InvitesDisabled,
		Handle: orNil(a.Handle.String()), Email: orNil(a.Email),
	}
	if a.DeactivatedAt != nil {
		row.DeactivatedAt = new(reference.FormatTime(*a.DeactivatedAt))
	}
	if a.DeleteAfter != nil {
		row.DeleteAfter = new(reference.FormatTime(*a.DeleteAfter))
	}
	if a.EmailConfirmedAt != nil {
		row.EmailConfirmedAt = new(reference.FormatTime(*a.EmailConfirmedAt))
	}
	if row.PasswordScrypt, err = x.password(a, kept); err != nil {
		return err
	}
	if err := reference.InsertAccounts(ctx, x.Target, row); err != nil {
		return err
	}
	x.count("accounts", 1, 0, "")
	if a.EmailAuthFactor {
		x.found("second-factor-lost", a.DID, "signing in needs no emailed code any more")
	}
	if err := x.appPasswords(ctx, s, a, kept[db.AdoptedAppPassword]); err != nil {
		return err
	}
	return x.sessions(ctx, s, a, kept[db.AdoptedSession])
}

func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// password is the hash of an account's password in the reference's form.
func (x *Export) password(a *db.Account, kept secrets) (*string, error) {
	if a.PasswordHash != "" && !strings.HasPrefix(a.PasswordHash, "$") {
		x.count("passwords", 1, 0, "")
		return &a.PasswordHash, nil
	}
	hash, err := x.hash(kept[db.AdoptedPassword], "", []byte(a.PasswordHash))
	if err != nil {
		return nil, err
	}
	switch {
	case a.Email == "" && a.PasswordHash != "":
		x.count("passwords", 0, 1, "they have no address, without which the reference keeps no password")
		x.found("password-lost", a.DID, "the account has no email address, without which it has no password there")
	case hash != "":
		x.count("passwords", 1, 0, "")
		return &hash, nil
	case a.PasswordHash != "":
		x.count("passwords", 0, 1, "they were set here")
		x.found("password-lost", a.DID, "the password was set here: its owner asks for a reset")
	}
	return &noPassword, nil
}

func (x *Export) appPasswords(ctx context.Context, s *db.Snapshot, a *db.Account, kept map[string]db.AdoptedSecret) error {
	list, err := s.AppPasswords(ctx, a.DID)
	if err != nil {
		return err
	}
	for _, p := range list {
		p, err := s.AppPasswordByName(ctx, a.DID, p.Name)
		if err != nil {
			return err
		}
		hash := p.Scrypt
		if hash == "" {
			if hash, err = x.hash(kept, p.Name, p.MAC); err != nil {
				return err
			}
		}
		if hash == "" {
			x.count("app passwords", 0, 1, "they were made here")
			x.found("app-password-lost", a.DID, "an app password was made here: its owner makes another one")
			continue
		}
		err = reference.InsertAccounts(ctx, x.Target, reference.AppPassword{
			DID: a.DID.String(), Name: p.Name, PasswordScrypt: hash, CreatedAt: reference.FormatTime(p.CreatedAt), Privileged: p.Privileged,
		})
		if err != nil {
			return err
		}
		x.count("app passwords", 1, 0, "")
	}
	return nil
}

// sessions writes those whose refresh token is known: that which the adopted server issued,
// and those that it was exchanged for.
func (x *Export) sessions(ctx context.Context, s *db.Snapshot, a *db.Account, kept map[string]db.AdoptedSecret) error {
	list, err := s.LinkedSessions(ctx, a.DID)
	if err != nil {
		return err
	}
	known, err := x.tokens(list, kept)
	if err != nil {
		return err
	}
	for _, one := range list {
		if !one.ExpiresAt.After(x.Now()) {
			continue
		}
		jti := known[string(one.ID)]
		if jti == "" {
			x.count("sessions", 0, 1, "they were begun here, or what they began with is not kept any more")
			continue
		}
		err := reference.InsertAccounts(ctx, x.Target, reference.RefreshToken{
			ID: jti, DID: a.DID.String(), ExpiresAt: reference.FormatTime(one.ExpiresAt), NextID: orNil(known[string(one.NextID)]),
			AppPasswordName: one.AppPassword,
		})
		if err != nil {
			return err
		}
		x.count("sessions", 1, 0, "")
	}
	return nil
}

// exchanges is how many exchanges of an account's tokens are followed. Who exchanges one
// every minute needs two years for as many.
const exchanges = 1_000_000

// tokens returns the ids of the refresh tokens of sessions, and of those that come after
// them, by the ids of their rows, as far as they are known. Each family begins with a token
// that was kept, goes on with those that are said to follow it, and from then on with those
// that are computed.
func (x *Export) tokens(list []db.LinkedSession, kept map[string]db.AdoptedSecret) (map[string]string, error) {
	known, left := make(map[string]string), exchanges
	wanted, last := make(map[string]bool), make(map[string]int64)
	for _, one := range list {
		wanted[string(one.ID)] = true
		if one.NextID != nil {
			wanted[string(one.NextID)] = true
			last[string(one.Family)] = max(last[string(one.Family)], one.Generation+1)
		}
		last[string(one.Family)] = max(last[string(one.Family)], one.Generation)
	}
	for family, through := range last {
		id, generation := family, int64(0)
		jti, err := x.open(kept, id)
		if err != nil {
			return nil, err
		}
		for jti != "" && left > 0 {
			left--
			if wanted[id] {
				known[id] = jti
			}
			if generation++; generation > through {
				break
			}
			if next := kept[id].Beside; len(next) > 0 {
				id = string(next)
				if jti, err = x.open(kept, id); err != nil {
					return nil, err
				}
				continue
			}
			jti = x.Tokens.SuccessorID(jti)
			id = string(x.Tokens.HashID(jti))
		}
	}
	return known, nil
}
