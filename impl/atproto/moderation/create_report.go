package moderation

import (
	"context"

	api "portico/api/atproto/moderation"
	"portico/api/xrpc"
)

func (s *Service) CreateReport(context.Context, *api.CreateReportInput) (*api.CreateReportOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}
