package operator

import (
	"context"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/mail/email"
)

// ListAccounts lists accounts in pages. The cursor is the DID of a page's last account
// or, in a list by address, its address: accounts that come or go meanwhile move
// nothing to another page.
func (s *Service) ListAccounts(ctx context.Context, p *api.ListAccountsParams) (*api.ListAccountsOutput, error) {
	filter := db.StandingFilter{
		Status: xrpc.ValueOf(p.Status), Email: email.Normalize(xrpc.ValueOf(p.Email)),
		Domain: strings.ToLower(strings.TrimPrefix(xrpc.ValueOf(p.Domain), ".")), Unconfirmed: xrpc.ValueOf(p.Unconfirmed),
	}
	if p.Since != nil {
		filter.Since = p.Since.Time()
	}
	after, limit := xrpc.ValueOf(p.Cursor), int(p.Limit)
	if after != "" && !place(filter, after) {
		return nil, xrpc.InvalidRequest("Malformed cursor")
	}
	return db.ReadPublic(ctx, s.DB, func(r *db.Reader) (*api.ListAccountsOutput, error) {
		found, err := r.Standings(ctx, filter, after, limit+1)
		if err != nil {
			return nil, err
		}
		out := new(api.ListAccountsOutput)
		if len(found) > limit {
			found = found[:limit]
			out.Cursor = new(found[limit-1].DID.String())
			if filter.Email != "" {
				out.Cursor = new(found[limit-1].Email)
			}
		}
		dids := make([]syntax.DID, len(found))
		for i := range found {
			dids[i] = found[i].DID
		}
		sizes, err := r.Sizes(ctx, dids...)
		if err != nil {
			return nil, err
		}
		held, err := r.QuarantinedOf(ctx, dids...)
		if err != nil {
			return nil, err
		}
		for i := range found {
			a := accountOf(&found[i])
			setSize(&a, sizes[a.DID])
			setQuarantine(&a, held)
			out.Accounts = append(out.Accounts, a)
		}
		return out, nil
	})
}

// place reports whether cursor can be a place in the list that filter makes.
func place(filter db.StandingFilter, cursor string) bool {
	if filter.Email != "" {
		return strings.HasPrefix(cursor, filter.Email)
	}
	_, err := syntax.ParseDID(cursor)
	return err == nil
}
