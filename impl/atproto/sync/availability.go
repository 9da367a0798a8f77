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
func account(ctx context.Context, r *db.Reader, did syntax.DID) (*db.Account, error) {
	a, err := r.AccountByDID(ctx, did)
	a, err = auth.Seen(ctx, a, err)
	if errors.Is(err, db.ErrNotFound) {
		return nil, answer.RepoNotFound(did)
	}
	return a, err
}

// available returns nil where the caller may have the repository and the blobs of an account,
// or the error that refuses them: those of an account that is not active are for its owner and the
// operator. The policy of the method is that of [auth.Gate.Reader].
func (s *Service) available(ctx context.Context, did syntax.DID) error {
	_, err := db.ReadPublic(ctx, s.DB, func(r *db.Reader) (struct{}, error) { return struct{}{}, available(ctx, r, did) })
	return err
}

// available is as the method, and reads with r.
func available(ctx context.Context, r *db.Reader, did syntax.DID) error {
	a, err := account(ctx, r, did)
	if err != nil || auth.Owns(ctx, did) {
		return err
	}
	return answer.RepoUnavailable(a)
}

// repo returns the repository of an account that is available, or db.ErrNotFound.
func (s *Service) repo(ctx context.Context, did syntax.DID) (*db.Repo, error) {
	return db.ReadPublic(ctx, s.DB, func(r *db.Reader) (*db.Repo, error) {
		if err := available(ctx, r, did); err != nil {
			return nil, err
		}
		return r.Repo(ctx, did)
	})
}
