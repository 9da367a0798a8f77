package sync

import (
	"bytes"
	"context"
	"io"

	api "portico/api/atproto/sync"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/repo/export"
)

// GetRecord proves that a record is in a repository, or that it is not.
func (s *Service) GetRecord(ctx context.Context, p *api.GetRecordParams) (*xrpc.Body, error) {
	if err := s.available(ctx, p.DID); err != nil {
		return nil, err
	}
	var proof bytes.Buffer
	err := s.DB.PublicSnapshot(ctx, func(state *db.Snapshot) error {
		proof.Reset()
		path := p.Collection.String() + "/" + p.Rkey.String()
		return export.Proof(ctx, state, p.DID, path, s.Nodes, &proof)
	})
	return archive(p.DID, io.NopCloser(&proof), err)
}
