package admin

import (
	"context"
	"errors"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/admin"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/mail/email"
)

// maxAddress is the length of an address in bytes that every engine can still put
// into an index; there is none as long.
const maxAddress = 1000

// UpdateAccountEmail gives an account another address, which its owner then has to
// confirm. Which address is the operator's business: hardly any is refused.
func (s *Service) UpdateAccountEmail(ctx context.Context, in *api.UpdateAccountEmailInput) error {
	address := email.Normalize(in.Email)
	if len(address) > maxAddress || strings.ContainsRune(address, 0) {
		return xrpc.InvalidRequest("This email address is not supported, please use a different email.")
	}
	did, err := s.find(ctx, in.Account)
	if err == nil {
		err = s.DB.Write(ctx, func(tx *db.Tx) error {
			a, err := tx.LockAccount(ctx, did)
			if err != nil {
				return err
			}
			return s.Credentials.SetEmail(ctx, tx, a, address)
		})
	}
	switch {
	case errors.Is(err, db.ErrNotFound):
		return xrpc.InvalidRequest("Account does not exist: " + in.Account.String())
	case errors.Is(err, db.ErrEmailTaken):
		return xrpc.InvalidRequest("This email address is already in use, please use a different email.")
	}
	return err
}

// find returns the DID of an account that is named by it or by its handle. It
// returns db.ErrNotFound.
func (s *Service) find(ctx context.Context, name syntax.AtIdentifier) (syntax.DID, error) {
	if did, err := name.AsDID(); err == nil {
		return did, nil
	}
	h, err := name.AsHandle()
	if err != nil {
		return "", db.ErrNotFound
	}
	a, err := s.DB.AccountByHandle(ctx, h.Normalize())
	if err != nil {
		return "", err
	}
	return a.DID, nil
}
