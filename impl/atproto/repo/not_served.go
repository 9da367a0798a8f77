package repo

import (
	"context"

	api "portico/api/atproto/repo"
	"portico/api/xrpc"
)

// The methods in this file are not served: to clients they are unknown. Each stands here
// with its decision, so that a method which is new upstream still breaks the build. What
// their behaviour says is never asked.

func (p Policy) ApplyWrites() xrpc.Policy[api.ApplyWritesInput] {
	return xrpc.NotServed[api.ApplyWritesInput]()
}
func (s *Service) ApplyWrites(context.Context, *api.ApplyWritesInput) (*api.ApplyWritesOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}

func (p Policy) CreateRecord() xrpc.Policy[api.CreateRecordInput] {
	return xrpc.NotServed[api.CreateRecordInput]()
}
func (s *Service) CreateRecord(context.Context, *api.CreateRecordInput) (*api.CreateRecordOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}

func (p Policy) DeleteRecord() xrpc.Policy[api.DeleteRecordInput] {
	return xrpc.NotServed[api.DeleteRecordInput]()
}
func (s *Service) DeleteRecord(context.Context, *api.DeleteRecordInput) (*api.DeleteRecordOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}

func (p Policy) DescribeRepo() xrpc.Policy[api.DescribeRepoParams] {
	return xrpc.NotServed[api.DescribeRepoParams]()
}
func (s *Service) DescribeRepo(context.Context, *api.DescribeRepoParams) (*api.DescribeRepoOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}

func (p Policy) GetRecord() xrpc.Policy[api.GetRecordParams] {
	return xrpc.NotServed[api.GetRecordParams]()
}
func (s *Service) GetRecord(context.Context, *api.GetRecordParams) (*api.GetRecordOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}

func (p Policy) ListMissingBlobs() xrpc.Policy[api.ListMissingBlobsParams] {
	return xrpc.NotServed[api.ListMissingBlobsParams]()
}
func (s *Service) ListMissingBlobs(context.Context, *api.ListMissingBlobsParams) (*api.ListMissingBlobsOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}

func (p Policy) ListRecords() xrpc.Policy[api.ListRecordsParams] {
	return xrpc.NotServed[api.ListRecordsParams]()
}
func (s *Service) ListRecords(context.Context, *api.ListRecordsParams) (*api.ListRecordsOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}

func (p Policy) PutRecord() xrpc.Policy[api.PutRecordInput] {
	return xrpc.NotServed[api.PutRecordInput]()
}
func (s *Service) PutRecord(context.Context, *api.PutRecordInput) (*api.PutRecordOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}

func (p Policy) UploadBlob() xrpc.Policy[xrpc.Body] { return xrpc.NotServed[xrpc.Body]() }
func (s *Service) UploadBlob(context.Context, *xrpc.Body) (*api.UploadBlobOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}
