package sync

import (
	"context"
	"errors"
	"io"
	"strings"

	api "portico/api/atproto/sync"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/export"
)

// GetBlocks gives out blocks of a repository by their names. All that the account has is
// read for it, so there are not many at a time.
func (s *Service) GetBlocks(ctx context.Context, p *api.GetBlocksParams) (*xrpc.Body, error) {
	if err := s.available(ctx, p.DID); err != nil {
		return nil, err
	}
	wanted := make([]dagcbor.CID, len(p.CIDs))
	for i, name := range p.CIDs {
		var err error
		if wanted[i], err = dagcbor.ParseCID(name.String()); err != nil {
			return nil, noBlocks(name.String()) // no block here has such a name
		}
	}
	r, err := s.Exports.OpenWhole(ctx, address(ctx), func(ctx context.Context, state *db.Snapshot, w io.Writer) error {
		return export.Blocks(ctx, state, p.DID, wanted, w)
	})
	if missing, ok := errors.AsType[*export.MissingError](err); ok {
		names := make([]string, len(missing.CIDs))
		for i, name := range missing.CIDs {
			names[i] = name.String()
		}
		return nil, noBlocks(names...)
	}
	return archive(p.DID, r, err)
}

func noBlocks(names ...string) error {
	return xrpc.InvalidRequest("Could not find cids: " + strings.Join(names, ","))
}
