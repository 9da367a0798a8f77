package admin

import (
	"context"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/admin"
	"portico/api/xrpc"
	"portico/db"
)

// SearchAccounts lists the accounts whose address begins with a text, in the order
// of their addresses; or, without one, all accounts in the order of their DIDs.
func (s *Service) SearchAccounts(ctx context.Context, p *api.SearchAccountsParams) (*api.SearchAccountsOutput, error) {
	prefix, after, limit := strings.ToLower(xrpc.ValueOf(p.Email)), xrpc.ValueOf(p.Cursor), int(p.Limit)
	return db.ReadPublic(ctx, s.DB, func(r *db.Reader) (*api.SearchAccountsOutput, error) {
		var found []db.Account
		var err error
		if prefix != "" {
			found, err = r.AccountsByEmail(ctx, prefix, after, limit+1)
		} else {
			found, err = r.Accounts(ctx, syntax.DID(strings.ReplaceAll(after, "\x00", "")), limit+1)
		}
		if err != nil {
			return nil, err
		}
		out := new(api.SearchAccountsOutput)
		if len(found) > limit {
			found = found[:limit]
			out.Cursor = new(found[limit-1].DID.String())
			if prefix != "" {
				out.Cursor = new(found[limit-1].Email)
			}
		}
		out.Accounts, err = views(ctx, r, found)
		return out, err
	})
}
