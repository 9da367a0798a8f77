package account

import (
	"context"
	"errors"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/audit"
	"portico/impl/repo/event"
)

// TakeDown takes an account down for the reason that ref names, ends its sessions,
// and tells the network. While it is down its invite codes are worth nothing, and
// access tokens open hardly anything.
//
// Of an account that is not here the network is told that it is deleted.
func (a *Accounts) TakeDown(ctx context.Context, did syntax.DID, ref string) error {
	err := a.DB.Write(ctx, func(tx *db.Tx) error {
		acct, err := tx.LockAccount(ctx, did)
		if err == nil {
			acct.TakedownRef = &ref
			err = errors.Join(tx.UpdateAccount(ctx, acct), tx.EndSessions(ctx, did))
		}
		return a.announce(ctx, tx, did, acct, err, audit.TakenDown, ref)
	})
	if err != nil {
		return fmt.Errorf("take %s down: %w", did, err)
	}
	return nil
}

// Restore lifts the takedown of an account, if there is one, and tells the network.
// Nothing else changes: who has signed in meanwhile stays signed in.
//
// Of an account that is not here the network is told that it is deleted.
func (a *Accounts) Restore(ctx context.Context, did syntax.DID) error {
	err := a.DB.Write(ctx, func(tx *db.Tx) error {
		acct, err := tx.LockAccount(ctx, did)
		if err == nil {
			acct.TakedownRef = nil
			err = tx.UpdateAccount(ctx, acct)
		}
		return a.announce(ctx, tx, did, acct, err, audit.TakedownLifted, "")
	})
	if err != nil {
		return fmt.Errorf("lift takedown of %s: %w", did, err)
	}
	return nil
}

// Announce tells the network again what the status of an account is: that it is
// deleted, when it is not here.
func (a *Accounts) Announce(ctx context.Context, did syntax.DID) error {
	err := a.DB.Write(ctx, func(tx *db.Tx) error {
		acct, err := tx.LockAccount(ctx, did)
		return a.announce(ctx, tx, did, acct, err, audit.StatusAnnounced, "")
	})
	if err != nil {
		return fmt.Errorf("announce status of %s: %w", did, err)
	}
	return nil
}

// announce records what was done to an account, and queues the event with the
// status that it has now. failure is what came of it so far.
func (a *Accounts) announce(
	ctx context.Context, tx *db.Tx, did syntax.DID, acct *db.Account, failure error, what, detail string,
) error {
	status := "deleted"
	switch {
	case errors.Is(failure, db.ErrNotFound):
	case failure != nil:
		return failure
	default:
		status = acct.Status()
	}
	if err := audit.Record(ctx, tx, a.Now(), did, what, detail); err != nil {
		return err
	}
	return tx.AppendEvents(ctx, Events(did, event.Account(did, status))...)
}

// Remove deletes an account like [Accounts.Delete], in a transaction of its own,
// and is no less sure of one that is not here: whatever the network was told of it
// is erased, and it is told that it is deleted.
func (a *Accounts) Remove(ctx context.Context, did syntax.DID) error {
	err := a.DB.Write(ctx, func(tx *db.Tx) error {
		if err := tx.DeleteAccount(ctx, did); err != nil && !errors.Is(err, db.ErrNotFound) {
			return err
		}
		if err := audit.Record(ctx, tx, a.Now(), did, audit.AccountDeleted, ""); err != nil {
			return err
		}
		return a.replaceEvents(ctx, tx, did, event.Account(did, "deleted"))
	})
	if err != nil {
		return fmt.Errorf("remove account %s: %w", did, err)
	}
	a.Forget(ctx, did)
	return nil
}
