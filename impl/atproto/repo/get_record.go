package repo

import (
	"context"
	"errors"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/repo"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/proxy"
	"portico/impl/repo/record"
	"portico/impl/repo/store"
)

// GetRecord returns a record of an active account, unless it is taken down. Records of all
// others are asked for elsewhere.
func (s *Service) GetRecord(ctx context.Context, p *api.GetRecordParams) (*api.GetRecordOutput, error) {
	path := p.Collection.String() + "/" + p.Rkey.String()
	var a *db.Account
	r, err := db.ReadPublic(ctx, s.DB, func(from *db.Reader) (*db.Record, error) {
		var err error
		if a, err = s.readAccount(ctx, from, p.Repo); err != nil || a == nil || !a.Active() {
			return nil, err
		}
		return from.Record(ctx, a.DID, path)
	})
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return nil, err
	}
	if a == nil || !a.Active() {
		return nil, s.recordElsewhere(ctx)
	}
	uri := newURI(a.DID, path)
	if err != nil || r.TakedownRef != "" || p.CID != nil && p.CID.String() != store.CID(r.CID).String() {
		return nil, api.ErrGetRecordRecordNotFound.New(http.StatusBadRequest, "Could not locate record: "+uri.String())
	}
	value, err := record.AppendJSON(nil, r.Value)
	if err != nil {
		return nil, err
	}
	return &api.GetRecordOutput{URI: uri, CID: new(syntax.CID(store.CID(r.CID).String())), Value: value}, nil
}

// recordElsewhere passes the request on to the app view, or where the client wants it, in
// nobody's name: what it returns in the place of an error may be the answer.
func (s *Service) recordElsewhere(ctx context.Context) error {
	if s.Proxy.AppView == (proxy.Service{}) {
		return xrpc.InvalidRequest("Could not locate record")
	}
	c := xrpc.CallFrom(ctx)
	to, err := s.Proxy.Target(ctx, c, s.Proxy.AppView)
	if err != nil {
		return err
	}
	answer, err := s.Proxy.Ask(ctx, c, to, "")
	if err != nil {
		return err
	}
	return answer.Response
}
