package sync

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/api/xrpc"
	"portico/db"
	"portico/impl/answer"
	"portico/impl/repo/export"
)

// archiveType is the media type of archives.
const archiveType = "application/vnd.ipld.car"

// archive is a body for an archive of the repository of did, or the answer to the error
// with which one was not made.
func archive(did syntax.DID, r io.ReadCloser, err error) (*xrpc.Body, error) {
	switch {
	case err == nil:
		return &xrpc.Body{ReadCloser: r, ContentType: archiveType, Size: -1, Compressible: true}, nil
	case errors.Is(err, db.ErrNotFound):
		return nil, answer.RepoWithoutRoot(did)
	case errors.Is(err, export.ErrGreedy):
		return nil, xrpc.RateLimitExceeded(busyFor).Because(err)
	case errors.Is(err, export.ErrBusy):
		return nil, xrpc.NotEnoughResources(busyFor).Because(err)
	}
	return nil, err
}

// busyFor is how long it is before another archive may be asked for.
const busyFor = 10 * time.Second

// address is who asks, as archives are counted.
func address(ctx context.Context) string { return xrpc.CallFrom(ctx).IPKey() }
