package account

import (
	"context"
	"errors"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/identity/host"
	"portico/impl/identity/plc"
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
	return a.ReadByHandle(ctx, &a.DB.Reader, h)
}

// ReadByHandle is AccountByHandle that reads with r.
func (a *Accounts) ReadByHandle(ctx context.Context, r *db.Reader, h syntax.Handle) (*db.Account, error) {
	found, err := r.AccountByHandle(ctx, h)
	if !errors.Is(err, db.ErrNotFound) {
		return found, err
	}
	if a.Hosts == nil {
		return nil, err
	}
	if twin := a.Hosts.Last().Twin(h.String()); twin != "" {
		return r.AccountByHandle(ctx, syntax.Handle(twin))
	}
	return nil, err
}

// ShownByHandle is AccountByHandle for pages that anybody reads: an account that is held in
// quarantine is not there.
func (a *Accounts) ShownByHandle(ctx context.Context, h syntax.Handle) (*db.Account, error) {
	found, err := a.AccountByHandle(ctx, h)
	if err == nil && found.Held() {
		return nil, fmt.Errorf("look for handle %s: %w", h, db.ErrNotFound)
	}
	return found, err
}

// PublicURL is what DIDs are to name as the server of their accounts.
func (a *Accounts) PublicURL(ctx context.Context) string {
	if a.Hosts == nil {
		return a.Endpoint
	}
	return a.Host(ctx).Endpoint()
}

// MayName reports whether an owner may have a DID name an endpoint: the public URL, or that
// which all DIDs are being given.
func (a *Accounts) MayName(ctx context.Context, endpoint string) bool {
	return endpoint == a.PublicURL(ctx) || a.Hosts != nil && endpoint == host.URL(a.Host(ctx).Wanted())
}

// serves reports whether the DID of an account that is valid here may name an endpoint.
func (a *Accounts) serves(ctx context.Context, endpoint string) bool {
	if a.Hosts == nil {
		return endpoint == a.Endpoint
	}
	return a.Host(ctx).Serves(endpoint)
}

// Named reports whether a DID names this server, under any name that it had, as the one of
// its account.
func (a *Accounts) Named(ctx context.Context, d plc.Data) bool {
	pds := d.Services["atproto_pds"]
	return pds.Type == plc.ServiceType && (pds.Endpoint == a.Endpoint || a.Host(ctx).Had(pds.Endpoint))
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
