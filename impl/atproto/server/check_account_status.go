package server

import (
	"context"
	"errors"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/server"
	"portico/db"
	"portico/impl/account"
	"portico/impl/account/auth"
	"portico/impl/budget"
	"portico/impl/repo/store"
)

// CheckAccountStatus tells somebody who moves an account how far that is.
func (s *Service) CheckAccountStatus(ctx context.Context) (*api.CheckAccountStatusOutput, error) {
	caller := auth.Caller(ctx)
	repo, err := s.DB.RepoStatus(ctx, caller.DID, account.KeyPurpose)
	if errors.Is(err, db.ErrNotFound) || caller.Account == nil {
		return nil, errNotFound.New(http.StatusBadRequest, "Repo not found")
	}
	if err != nil {
		return nil, err
	}
	// Who moves an account asks until its DID is valid, and wants to know when it no longer
	// is, so that as long as it is not active here the network is asked.
	valid := caller.Account.Active() && s.DIDs.FoundValid(caller.DID, repo.SigningKey)
	if !valid {
		if valid, err = s.askIfValid(ctx, caller, repo); err != nil {
			return nil, err
		}
	}
	return &api.CheckAccountStatusOutput{
		Activated: caller.Account.Active(), ValidDID: valid,
		RepoCommit: syntax.CID(store.CID(repo.CommitCID).String()), RepoRev: repo.Rev,
		RepoBlocks:     int64(1 + repo.Nodes + repo.Records), // the commit is one
		IndexedRecords: int64(repo.Records),
		ExpectedBlobs:  int64(repo.ExpectedBlobs), ImportedBlobs: int64(repo.ImportedBlobs),
	}, nil
}

// askIfValid reports whether the DID of the caller's account is valid. Who asks too often
// is told what the document said when it was last read.
func (s *Service) askIfValid(ctx context.Context, caller auth.Principal, repo *db.RepoStatus) (bool, error) {
	asking := budget.IdentityChanges.For("status")
	asked := s.Budgets.Left(ctx, asking, caller.Payer())
	if asked == nil {
		asked = s.Budgets.Spend(ctx, asking, caller.Payer())
	}
	_, spent := errors.AsType[*budget.Spent](asked)
	if asked != nil && !spent {
		return false, asked
	}
	verify := s.DIDs.Verify
	if spent {
		verify = s.DIDs.VerifyKnown
	}
	unfit := verify(ctx, caller.DID)
	if unfit != nil {
		s.Log.DebugContext(ctx, "account whose DID is not valid", "did", caller.DID, "error", unfit)
	}
	if !spent && unfit == nil && repo.Records == 0 && account.NeverActivated(caller.Account) {
		s.Accounts.WarnOfEmptyMove(ctx, caller.DID)
	}
	return unfit == nil, nil
}
