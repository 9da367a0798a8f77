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
	repo, err := s.DB.Repo(ctx, caller.DID)
	if errors.Is(err, db.ErrNotFound) || caller.Account == nil {
		return nil, errNotFound.New(http.StatusBadRequest, "Repo not found")
	}
	if err != nil {
		return nil, err
	}
	// Who asks too often is told what the document said when it was last read.
	asked := s.Budgets.Spend(ctx, budget.IdentityChanges.For("status"), caller.Payer())
	_, spent := errors.AsType[*budget.Spent](asked)
	if asked != nil && !spent {
		return nil, asked
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
	return &api.CheckAccountStatusOutput{
		Activated: caller.Account.Active(), ValidDID: unfit == nil,
		RepoCommit: syntax.CID(store.CID(repo.CommitCID).String()), RepoRev: repo.Rev,
		RepoBlocks:     int64(1 + repo.Nodes + repo.Records), // the commit is one
		IndexedRecords: int64(repo.Records),
		ExpectedBlobs:  int64(repo.ExpectedBlobs), ImportedBlobs: int64(repo.ImportedBlobs),
	}, nil
}
