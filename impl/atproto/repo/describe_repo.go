package repo

import (
	"context"
	"errors"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/repo"
	"portico/api/xrpc"
	"portico/impl/answer"
	"portico/impl/budget"
	"portico/impl/identity/resolve"
)

// DescribeRepo says whose a repository is and which collections are in it.
func (s *Service) DescribeRepo(ctx context.Context, p *api.DescribeRepoParams) (*api.DescribeRepoOutput, error) {
	a, err := s.account(ctx, p.Repo)
	if err != nil {
		return nil, err
	}
	if a == nil {
		return nil, answer.RepoNotFound(syntax.DID(p.Repo))
	}
	if err := answer.RepoUnavailable(a); err != nil {
		return nil, err
	}
	doc, err := s.Accounts.Document(ctx, a, false, s.Documents)
	if err != nil {
		return nil, documentError(a.DID, err)
	}
	collections, err := s.DB.Collections(ctx, a.DID)
	if err != nil {
		return nil, err
	}
	out := &api.DescribeRepoOutput{
		Handle: a.Handle, DID: a.DID, DIDDoc: doc.JSON, HandleIsCorrect: doc.Handle() == a.Handle.String(),
		Collections: make([]syntax.NSID, len(collections)),
	}
	for i, c := range collections {
		out.Collections[i] = syntax.NSID(c)
	}
	return out, nil
}

// documentError answers for a document that could not be had.
func documentError(did syntax.DID, err error) error {
	if _, spent := errors.AsType[*budget.Spent](err); spent {
		return answer.Spent(err)
	}
	reason := "Could not resolve DID: " + did.String()
	if errors.Is(err, resolve.ErrDocument) {
		reason = "Poorly formatted DID Document"
	}
	return xrpc.InvalidRequest("Could not resolve DID: Error: " + reason).Because(err)
}
