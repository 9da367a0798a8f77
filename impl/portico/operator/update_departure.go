package operator

import (
	"context"
	"errors"
	"net/http"

	api "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account"
	"portico/impl/answer"
)

// UpdateDeparture takes an account on the way to another host a step further.
func (s *Service) UpdateDeparture(ctx context.Context, in *api.UpdateDepartureInput) (*api.UpdateDepartureOutput, error) {
	m, err := s.depart(ctx, in)
	if err != nil {
		return nil, departureError(err)
	}
	return &api.UpdateDepartureOutput{Departure: departureOf(m)}, nil
}

func (s *Service) depart(ctx context.Context, in *api.UpdateDepartureInput) (*db.AccountMove, error) {
	switch in.Action {
	case api.UpdateDepartureInputActionStop:
		if xrpc.ValueOf(in.Host) == "" {
			return nil, xrpc.InvalidRequest("To stop an account takes the host that it moves to")
		}
		return s.Transfers.Stop(ctx, in.DID, *in.Host)
	case api.UpdateDepartureInputActionPoint:
		p := in.Point
		if p == nil {
			return nil, xrpc.InvalidRequest("To point a DID elsewhere takes what it is to say")
		}
		to := account.Destination{SigningKey: p.SigningKey, RotationKeys: p.RotationKeys, Handle: p.Handle.Normalize()}
		return s.Transfers.Point(ctx, in.DID, to, p.Commit.String(), p.Version)
	case api.UpdateDepartureInputActionLeave:
		if err := s.Transfers.Leave(ctx, in.DID); err != nil {
			return nil, err
		}
		return s.DB.AccountMove(ctx, in.DID)
	default:
		return nil, s.Transfers.Abandon(ctx, in.DID)
	}
}

func departureError(err error) error {
	if refused, ok := errors.AsType[*account.TransferRefusal](err); ok {
		return api.ErrUpdateDepartureMoveRefused.New(http.StatusBadRequest, refused.Message)
	}
	switch {
	case errors.Is(err, account.ErrOutdated):
		return api.ErrUpdateDepartureOutdated.New(http.StatusBadRequest, "The other host has not what the account has")
	case errors.Is(err, db.ErrNotFound):
		return api.ErrUpdateDepartureAccountNotFound.New(http.StatusBadRequest, "Account not found")
	}
	return answer.DID(err)
}
