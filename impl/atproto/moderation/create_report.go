package moderation

import (
	"bytes"
	"context"
	"errors"
	"net/http"

	api "portico/api/atproto/moderation"
	"portico/api/xrpc"
	"portico/impl/account/auth"
)

var errInvalidResponse = xrpc.Undeclared("InvalidResponse")

// CreateReport sends a report on in the name of the caller, as it came, and answers what
// the service says to it. Nothing of it stays here.
func (s *Service) CreateReport(ctx context.Context, _ *api.CreateReportInput) (*api.CreateReportOutput, error) {
	c := xrpc.CallFrom(ctx)
	to, err := s.Proxy.Target(ctx, c, s.Proxy.Reports)
	if err != nil {
		return nil, err
	}
	answer, err := s.Proxy.Call(ctx, to, auth.Caller(ctx).DID, c.NSID, nil, bytes.Clone(c.Sent()))
	if err != nil {
		return nil, err
	}
	err = (*api.CreateReportOutput)(nil).Schema().Check(answer)
	if _, broken := errors.AsType[*xrpc.SyntaxError](err); broken || err != nil && s.CheckOutput {
		x := errInvalidResponse.Wrap(http.StatusBadGateway, "Invalid response payload: "+err.Error(), err)
		x.ByCaller = true
		return nil, x
	}
	return nil, xrpc.JSON(answer)
}
