package sync

import (
	"context"
	"errors"
	"strings"

	api "portico/api/atproto/sync"
	"portico/api/xrpc"
	"portico/impl/answer"
	"portico/impl/blob/rows"
	"portico/impl/repo/dagcbor"
)

// GetBlob gives the bytes of a blob that a record mentions. What they are is the word of
// whoever uploaded them: a browser is told to do nothing with them but to save them.
func (s *Service) GetBlob(ctx context.Context, params *api.GetBlobParams) (*xrpc.Body, error) {
	if err := s.available(ctx, params.DID); err != nil {
		return nil, err
	}
	cid, err := dagcbor.ParseCID(params.CID.String())
	if err != nil {
		return nil, blobNotFound()
	}
	body, row, err := s.Blobs.Open(ctx, params.DID, cid)
	if errors.Is(err, rows.ErrNotFound) {
		return nil, blobNotFound()
	}
	if err != nil {
		return nil, answer.Blobs(err)
	}
	h := xrpc.CallFrom(ctx).Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Disposition", `attachment; filename="`+cid.String()+`"`)
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	return &xrpc.Body{ReadCloser: body, ContentType: withCharset(row.MIME), Size: row.Size}, nil
}

// withCharset is the type of a blob as the reference sends it: of what is text it says that
// it is UTF-8.
func withCharset(mime string) string {
	switch {
	case strings.Contains(mime, ";"):
	case strings.HasPrefix(mime, "text/"), strings.HasPrefix(mime, "application/json"), strings.HasPrefix(mime, "application/javascript"):
		return mime + "; charset=utf-8"
	}
	return mime
}

func blobNotFound() error { return xrpc.InvalidRequest("Blob not found") }
