package account

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/audit"
	"portico/impl/identity/plc"
	"portico/impl/repo"
	"portico/impl/repo/event"
)

// Repair mends what [Identities.Inspect] finds and says that it can be mended, and
// returns what it has mended and what is still, or newly, wrong. What could not be
// mended now is in the log with its reason. Each repair is one that a crash or
// another caller at the same time leaves whole, and doing it again does no harm.
//
// An account whose creation was given up is gone, and has nothing wrong with it. It
// returns db.ErrNotFound for one that was not there.
func (i *Identities) Repair(ctx context.Context, did syntax.DID) (repaired, remaining []Finding, err error) {
	found, err := i.Inspect(ctx, did)
	if err != nil {
		return nil, nil, fmt.Errorf("repair: %w", err)
	}
	for _, f := range found {
		if f.mend == nil {
			continue
		}
		if err := f.mend(context.WithoutCancel(ctx)); err != nil {
			i.Accounts.Log.WarnContext(ctx, "not repaired", "did", did, "finding", f.Name, "error", err)
			continue
		}
		repaired = append(repaired, f)
	}
	remaining, err = i.Inspect(ctx, did)
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return nil, nil, fmt.Errorf("repair: %w", err)
	}
	repaired = slices.DeleteFunc(repaired, func(f Finding) bool {
		return slices.ContainsFunc(remaining, func(r Finding) bool { return r.Name == f.Name })
	})
	return repaired, remaining, nil
}

// record records a repair that was made.
func (n *inspection) record(ctx context.Context, name string) error {
	return n.Accounts.DB.Write(ctx, func(tx *db.Tx) error {
		return audit.Record(ctx, tx, n.Accounts.Now(), n.did, audit.Repaired, name)
	})
}

func (n *inspection) mendCreation(ctx context.Context) error {
	a := n.Accounts
	var u *db.Unfinished
	err := a.DB.Write(ctx, func(tx *db.Tx) (err error) {
		now := a.Now()
		u, err = tx.ClaimCreation(ctx, n.did, a.Holder, now, a.leaseFrom(now))
		return err
	})
	if err == nil {
		err = a.resume(ctx, *u)
	}
	if err != nil {
		return err
	}
	return n.record(ctx, CreationUnfinished)
}

func (n *inspection) mendChange(ctx context.Context) error {
	if err := n.resume(ctx, n.did, n.Accounts.Now()); err != nil {
		// One that the directory refused is settled too: the handle is the old one.
		_, still := n.Accounts.DB.HandleChange(ctx, n.did)
		if !errors.Is(still, db.ErrNotFound) {
			return err
		}
	}
	return n.record(ctx, HandleChangeUnsettled)
}

func (n *inspection) mendKey(ctx context.Context) error {
	if err := n.changeSigningKey(ctx, n.did, n.key.Public, n.here(ctx)); err != nil {
		return err
	}
	return n.record(ctx, DIDSigningKey)
}

func (n *inspection) mendHandle(ctx context.Context) error {
	if err := n.republishHandle(ctx, n.did); err != nil {
		return err
	}
	return n.record(ctx, DIDHandle)
}

// mendEndpoint gives a DID that names this server under another name the one of today.
func (n *inspection) mendEndpoint(ctx context.Context) error {
	wanted := n.wanted(ctx)
	err := n.update(ctx, n.did, n.here(ctx), func(d *plc.Data) {
		d.Services["atproto_pds"] = plc.Service{Type: plc.ServiceType, Endpoint: wanted}
	})
	if err != nil {
		return err
	}
	n.refresh(ctx, n.did)
	err = n.Accounts.DB.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.LockAccount(ctx, n.did); err != nil {
			return err
		}
		return tx.AppendEvents(ctx, Events(n.did, event.Identity(n.did, ""))...)
	})
	if err != nil {
		return err
	}
	return n.record(ctx, DIDEndpoint)
}

// newCommit is what the network is told of a commit that changes nothing in the tree.
func newCommit(acct *db.Account, signed *repo.Signed) []event.Event {
	if acct.Deactivated() {
		return nil // the network hears of it at the activation
	}
	return []event.Event{event.Sync(acct.DID, signed.Rev, signed.Archive)}
}
