package sync

import (
	"time"

	api "portico/api/atproto/sync"
	"portico/api/xrpc"
	"portico/impl/account/auth"
	"portico/impl/account/token"
)

// Policy says who may call each method of com.atproto.sync, and how often where the
// operator switched request limits on.
type Policy struct{ Gate *auth.Gate }

var _ api.Policy = Policy{}

// Anyone.

func (p Policy) GetHostStatus() xrpc.Policy[api.GetHostStatusParams] {
	return unlimited[api.GetHostStatusParams](xrpc.Public)
}
func (p Policy) SubscribeRepos() xrpc.Policy[api.SubscribeReposParams] {
	return unlimited[api.SubscribeReposParams](xrpc.Public)
}
func (p Policy) ListRepos() xrpc.Policy[api.ListReposParams] {
	return unlimited[api.ListReposParams](xrpc.Public)
}

// ListReposByCollection is no part of the reference.
func (p Policy) ListReposByCollection() xrpc.Policy[api.ListReposByCollectionParams] {
	return unlimited[api.ListReposByCollectionParams](xrpc.Public)
}

// Anyone, and of an account in quarantine itself and the operator alone.

func (p Policy) GetRepoStatus() xrpc.Policy[api.GetRepoStatusParams] {
	return unlimited[api.GetRepoStatusParams](p.Gate.Anybody(token.Standard.With(token.Takendown), auth.AnyApp))
}

// Anyone, and owner and operator also of a repository that is not given to others.

func (p Policy) GetHead() xrpc.Policy[api.GetHeadParams] {
	return unlimited[api.GetHeadParams](p.Gate.Reader(token.Standard, auth.AnyApp))
}
func (p Policy) GetLatestCommit() xrpc.Policy[api.GetLatestCommitParams] {
	return unlimited[api.GetLatestCommitParams](p.Gate.Reader(token.Standard, auth.AnyApp))
}
func (p Policy) GetBlocks() xrpc.Policy[api.GetBlocksParams] {
	return unlimited[api.GetBlocksParams](p.Gate.Reader(token.Standard, auth.AnyApp))
}
func (p Policy) GetCheckout() xrpc.Policy[api.GetCheckoutParams] {
	return unlimited[api.GetCheckoutParams](p.Gate.Reader(token.Standard, auth.AnyApp))
}
func (p Policy) GetRecord() xrpc.Policy[api.GetRecordParams] {
	return unlimited[api.GetRecordParams](p.Gate.Reader(token.Standard, auth.AnyApp))
}

// The same, and who is signed in to an account that is taken down.

func (p Policy) GetBlob() xrpc.Policy[api.GetBlobParams] {
	return unlimited[api.GetBlobParams](p.Gate.Reader(token.Standard.With(token.Takendown), auth.AnyApp))
}
func (p Policy) ListBlobs() xrpc.Policy[api.ListBlobsParams] {
	return unlimited[api.ListBlobsParams](p.Gate.Reader(token.Standard.With(token.Takendown), auth.AnyApp))
}

// GetRepo is outside of the global limit: relays fetch each repository here once.
func (p Policy) GetRepo() xrpc.Policy[api.GetRepoParams] {
	return xrpc.Policy[api.GetRepoParams]{
		Auth:   p.Gate.Reader(token.Standard.With(token.Takendown), auth.AnyApp),
		Limits: xrpc.Limits[api.GetRepoParams]{{Points: 6000, Per: 5 * time.Minute}},
	}
}

// unlimited has no limit of its own beside the global one.
func unlimited[In any](who xrpc.Authenticator) xrpc.Policy[In] {
	return xrpc.Policy[In]{Auth: who, Limits: xrpc.GlobalLimitOnly[In]()}
}
