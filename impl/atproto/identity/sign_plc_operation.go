package identity

import (
	"context"
	"errors"
	"fmt"

	api "portico/api/atproto/identity"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/answer"
	"portico/impl/audit"
	"portico/impl/budget"
	"portico/impl/identity/plc"
	"portico/impl/mail/emailcode"
)

// SignPLCOperation signs an operation that changes the caller's DID as asked, and
// leaves it to the caller to post it, here or elsewhere. Each field that is given
// replaces what the DID has of it; nobody looks at what is in it. An emailed code
// allows it once, whatever comes of it.
func (s *Service) SignPLCOperation(ctx context.Context, in *api.SignPLCOperationInput) (*api.SignPLCOperationOutput, error) {
	if in.Token == nil || *in.Token == "" {
		return nil, xrpc.InvalidRequest("email confirmation token required to sign PLC operations")
	}
	caller := auth.Caller(ctx)
	did := caller.DID
	err := s.Codes.Use(ctx, caller.Payer(), emailcode.PLCOperation, did, *in.Token, func(tx *db.Tx, _ *db.Account) error {
		return s.Accounts.Budgets.SpendIn(ctx, tx, budget.IdentityChanges, caller.Payer())
	})
	if errors.Is(err, db.ErrNotFound) {
		return nil, auth.AccountNotFound() // deleted since the token was checked
	}
	if err != nil {
		return nil, answer.Code(err)
	}
	last, err := s.Directory.Last(ctx, did)
	if err != nil {
		return nil, answer.Directory(err)
	}
	op, err := successor(last, in)
	if errors.Is(err, plc.ErrTombstoned) {
		return nil, xrpc.InvalidRequest("Did is tombstoned")
	}
	if err == nil {
		err = s.Accounts.Sign(op, last)
	}
	if errors.Is(err, plc.ErrOperation) {
		return nil, xrpc.InvalidRequest("Invalid operation").Because(err)
	}
	if err != nil {
		return nil, err
	}
	signed, err := object(op)
	if err != nil {
		return nil, err
	}
	// With it in hand anybody can take the DID elsewhere.
	err = s.DB.Write(ctx, func(tx *db.Tx) error {
		return audit.Record(ctx, tx, s.Accounts.Now(), did, audit.PLCOperationSigned, "")
	})
	if err != nil {
		return nil, err
	}
	s.Accounts.DIDChanged(did) // by whoever posts it
	s.Log.InfoContext(ctx, "signed a PLC operation", "did", did)
	return &api.SignPLCOperationOutput{Operation: signed}, nil
}

// successor is the unsigned operation that follows last with what is given.
func successor(last plc.Operation, in *api.SignPLCOperationInput) (plc.Operation, error) {
	op, err := plc.Update(last, func(d *plc.Data) {
		if in.RotationKeys != nil {
			d.RotationKeys = in.RotationKeys
		}
		if in.AlsoKnownAs != nil {
			d.AlsoKnownAs = in.AlsoKnownAs
		}
	})
	if err != nil {
		return nil, err
	}
	for field, given := range map[string][]byte{"verificationMethods": in.VerificationMethods, "services": in.Services} {
		if given == nil {
			continue
		}
		if op[field], err = plc.ParseObject(given); err != nil {
			return nil, fmt.Errorf("%s: %w", field, err)
		}
	}
	return op, nil
}
