package identity

import (
	"context"
	"errors"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/identity"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account"
	"portico/impl/account/auth"
	"portico/impl/answer"
	"portico/impl/audit"
	"portico/impl/identity/plc"
	"portico/impl/repo/event"
)

// SubmitPLCOperation posts an operation that somebody signed for the caller's DID,
// if the account can live here with it.
func (s *Service) SubmitPLCOperation(ctx context.Context, in *api.SubmitPLCOperationInput) error {
	caller := auth.Caller(ctx)
	a := caller.Account
	op, err := plc.Parse(in.Operation)
	if err != nil || op.Type() != plc.TypeOperation {
		return xrpc.InvalidRequest("Invalid operation")
	}
	if err := s.checkOperation(ctx, a, op); err != nil {
		return err
	}
	if err := s.Accounts.PayForChange(ctx, caller.Payer()); err != nil {
		return answer.Spent(err)
	}
	// What is on its way cannot be taken back, so a client that hangs up does not
	// keep the network from hearing of it.
	ctx = context.WithoutCancel(ctx)
	if err := s.submit(ctx, a.DID, op); err != nil {
		return answer.Directory(err)
	}
	err = s.DB.Write(ctx, func(tx *db.Tx) error {
		// An account that is gone has nothing to say any more.
		if _, err := tx.LockAccount(ctx, a.DID); errors.Is(err, db.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		if err := audit.Record(ctx, tx, s.Accounts.Now(), a.DID, audit.PLCOperationSubmitted, ""); err != nil {
			return err
		}
		return tx.AppendEvents(ctx, account.Events(a.DID, event.Identity(a.DID, ""))...)
	})
	if err != nil {
		return fmt.Errorf("announce new identity of %s: %w", a.DID, err)
	}
	if _, err := s.Resolve.Resolve(ctx, a.DID, true); err != nil {
		s.Log.InfoContext(ctx, "cached DID document may be an old one", "did", a.DID, "error", err)
	}
	return nil
}

// checkOperation refuses an operation with which the account could not live here.
func (s *Service) checkOperation(ctx context.Context, a *db.Account, op plc.Operation) error {
	key, err := s.DB.SigningKey(ctx, a.DID, account.KeyPurpose)
	if errors.Is(err, db.ErrNotFound) {
		return auth.AccountNotFound() // deleted since the token was checked
	}
	if err != nil {
		return err
	}
	d, _ := op.Data() // a regular operation has it
	ours, err := s.Accounts.Controls(d)
	if err != nil {
		return err
	}
	pds := d.Services["atproto_pds"]
	switch {
	case !ours:
		return xrpc.InvalidRequest("Rotation keys do not include server's rotation key")
	case pds.Type != plc.ServiceType:
		return xrpc.InvalidRequest("Incorrect type on atproto_pds service")
	case !s.Accounts.MayName(ctx, pds.Endpoint):
		return xrpc.InvalidRequest("Incorrect endpoint on atproto_pds service")
	case d.VerificationMethods["atproto"] != key.Public:
		return xrpc.InvalidRequest("Incorrect signing key")
	case a.Handle != "" && (len(d.AlsoKnownAs) == 0 || d.AlsoKnownAs[0] != "at://"+a.Handle.String()):
		return xrpc.InvalidRequest("Incorrect handle in alsoKnownAs")
	}
	return nil
}

// submit posts op once. An answer that was lost is no refusal: the directory is
// asked whether it has op.
func (s *Service) submit(ctx context.Context, did syntax.DID, op plc.Operation) error {
	defer s.Accounts.DIDChanged(did)
	failure := s.Directory.Submit(ctx, did, op)
	refused, ok := errors.AsType[*plc.Error](failure)
	if !ok || refused.Status >= 400 && refused.Status < 500 {
		return failure
	}
	if presence, err := s.Directory.Registered(ctx, did, op); err == nil && presence == plc.Untouched {
		return nil
	}
	return failure
}
