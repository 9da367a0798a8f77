package sync

import (
	"context"
	"errors"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/answer"
)

// account returns an account in any state, or the error that says that it is not here, or
// not for the caller.
func (s *Service) account(ctx context.Context, did syntax.DID) (*db.Account, error) {
	a, err := s.DB.AccountByDID(ctx, did)
	a, err = auth.Seen(ctx, a, err)
	if errors.Is(err, db.ErrNotFound) {
		return nil, answer.RepoNotFound(did)
	}
	return a, err
}

// available returns the account whose repository or blobs the caller wants, or the error
// that refuses them: those of an account that is not active are for its owner and the
// operator. The policy of the method is that of [auth.Gate.Reader].
func (s *Service) available(ctx context.Context, did syntax.DID) (*db.Account, error) {
	a, err := s.account(ctx, did)
	if err != nil {
		return nil, err
	}
	if !auth.Owns(ctx, did) {
		if err := answer.RepoUnavailable(a); err != nil {
			return nil, err
		}
	}
	return a, nil
}
