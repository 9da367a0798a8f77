package account

import (
	"context"
	"errors"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/identity/host"
)

// Host says under which names this server has its accounts; see [host.State] for which of
// them a question is asked of.
func (a *Accounts) Host(ctx context.Context) *host.State {
	if a.Hosts == nil {
		return host.Only(host.Of(a.Endpoint))
	}
	return a.Hosts.State(ctx)
}

// AccountByHandle returns the account with a handle in lower case, or, while the server moves
// to another name, the one whose handle under the other name it is, or db.ErrNotFound.
func (a *Accounts) AccountByHandle(ctx context.Context, h syntax.Handle) (*db.Account, error) {
	found, err := a.DB.AccountByHandle(ctx, h)
	if !errors.Is(err, db.ErrNotFound) {
		return found, err
	}
	if twin := a.Host(ctx).Twin(h.String()); twin != "" {
		return a.DB.AccountByHandle(ctx, syntax.Handle(twin))
	}
	return nil, err
}

// MayPublish says why no DID may be changed or made now, nil if it may: this process was
// started with a name that is not the server's.
func (a *Accounts) MayPublish(ctx context.Context) error {
	if a.Host(ctx).Disagrees() {
		return errMisnamed
	}
	return nil
}

var errMisnamed = errors.New("PDS_HOSTNAME is not the name that this server goes by")
