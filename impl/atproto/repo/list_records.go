package repo

import (
	"context"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/repo"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/repo/record"
	"portico/impl/repo/store"
)

// largePage is how many bytes of records end a page.
const largePage = 8 << 20

// ListRecords returns a page of the records of a collection, the last ones first, without
// those that are taken down.
func (s *Service) ListRecords(ctx context.Context, p *api.ListRecordsParams) (*api.ListRecordsOutput, error) {
	in := db.CollectionRange(p.Collection.String())
	in.Reverse, in.Shown, in.Limit, in.Bytes = !xrpc.ValueOf(p.Reverse), true, int(p.Limit), largePage
	if cursor := xrpc.ValueOf(p.Cursor); cursor != "" {
		if in.Reverse {
			in.Before = p.Collection.String() + "/" + cursor
		} else {
			in.After = p.Collection.String() + "/" + cursor
		}
	}
	var did syntax.DID
	page, err := db.ReadPublic(ctx, s.DB, func(r *db.Reader) ([]db.Record, error) {
		a, err := s.readAccount(ctx, r, p.Repo)
		if err != nil {
			return nil, err
		}
		if a == nil || !a.Active() {
			return nil, xrpc.InvalidRequest("Could not find repo: " + p.Repo.String())
		}
		did = a.DID
		return r.Records(ctx, did, in)
	})
	if err != nil {
		return nil, err
	}
	out := &api.ListRecordsOutput{Records: make([]api.ListRecordsRecord, len(page))}
	for i, r := range page {
		value, err := record.AppendJSON(nil, r.Value)
		if err != nil {
			return nil, err
		}
		out.Records[i] = api.ListRecordsRecord{URI: newURI(did, r.Path), CID: syntax.CID(store.CID(r.CID).String()), Value: value}
		_, key, _ := strings.Cut(r.Path, "/")
		out.Cursor = &key
	}
	return out, nil
}
