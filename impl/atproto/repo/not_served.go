package repo

import (
	"context"

	api "portico/api/atproto/repo"
	"portico/api/xrpc"
)

// The methods in this file are not served: to clients they are unknown. Each stands here
// with its decision, so that a method which is new upstream still breaks the build. What
// their behaviour says is never asked.

func (p Policy) ListMissingBlobs() xrpc.Policy[api.ListMissingBlobsParams] {
	return xrpc.NotServed[api.ListMissingBlobsParams]()
}
func (s *Service) ListMissingBlobs(context.Context, *api.ListMissingBlobsParams) (*api.ListMissingBlobsOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}

func (p Policy) UploadBlob() xrpc.Policy[xrpc.Body] { return xrpc.NotServed[xrpc.Body]() }
func (s *Service) UploadBlob(context.Context, *xrpc.Body) (*api.UploadBlobOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}
