package server

import (
	"context"
	"errors"
	"net/http"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/impl/account"
	"portico/impl/identity/plc"
)

// signedGenesis is the first operation that the client signed for its DID, or nil. The
// DID is new, and whose it is says its key: no service token is asked for.
func (s *Service) signedGenesis(ctx context.Context, in *api.CreateAccountInput) (*account.SignedGenesis, error) {
	if in.PLCOp == nil {
		return nil, nil
	}
	if xrpc.ValueOf(in.RecoveryKey) != "" {
		// The rotation keys are those of the operation, which this server cannot change.
		return nil, xrpc.InvalidRequest(`Unsupported input: "recoveryKey" beside "plcOp"`)
	}
	g, err := s.Accounts.AcceptGenesis(ctx, in.PLCOp, in.Handle.Normalize())
	if err != nil {
		return nil, s.creationError(err, in)
	}
	if in.DID != nil && *in.DID != g.DID() {
		return nil, incompatible("DID does not match that of plcOp: " + g.DID().String())
	}
	return g, nil
}

// genesisError is the answer to an operation of the client's that makes no account
// here, or nil for another error.
func genesisError(err error) error {
	if unfit, ok := errors.AsType[*plc.GenesisError](err); ok {
		return incompatible(unfit.Reason)
	}
	switch {
	case errors.Is(err, account.ErrKeyUnknown):
		return xrpc.InvalidRequest("reserved signing key does not exist")
	case errors.Is(err, account.ErrRegistered):
		return incompatible("DID is registered already")
	}
	return nil
}

func incompatible(reason string) error {
	return api.ErrCreateAccountIncompatibleDIDDoc.New(http.StatusBadRequest, reason)
}
