package account

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/audit"
	"portico/impl/budget"
	"portico/impl/repo/car"
	"portico/impl/repo/event"
	"portico/impl/repo/store"
)

// ErrTakenDown says that moderators took the account down, so that its owner
// cannot switch it on.
var ErrTakenDown = errors.New("account is taken down")

// PayForChange lets payer pay before an account, its DID or what the network was told of
// it is changed. It returns a [*budget.Spent]: each change makes the directory work, or
// whoever reads the events.
func (a *Accounts) PayForChange(ctx context.Context, payer budget.Payer) error {
	return a.Budgets.Spend(ctx, budget.IdentityChanges, payer)
}

// Activate switches an account on and forgets that its deletion was asked for. It
// tells the network anew what the account is, also when that was active already. A
// repository whose last commit is of another server is signed here first, since readers
// of events take none that the account's key of today has not signed.
//
// Whether the DID names this server is not its business, see [Verifier].
//
// It returns ErrTakenDown, ErrHeld for an account that the operator has to approve first,
// ErrMoving, ErrImportUnfinished or db.ErrNotFound.
func (a *Accounts) Activate(ctx context.Context, did syntax.DID) error {
	var movedEmpty bool
	err := a.DB.Write(ctx, func(tx *db.Tx) error {
		acct, err := tx.LockAccount(ctx, did)
		if err != nil {
			return err
		}
		if acct.TakenDown() {
			return ErrTakenDown
		}
		if acct.Deactivated() {
			if err := mayActivate(tx.LockQuarantined(ctx, did)); err != nil {
				return err
			}
		}
		if err := notMoving(ctx, tx, did); err != nil {
			return err
		}
		unfinished, err := tx.UnfinishedImport(ctx, did)
		if err != nil {
			return err
		}
		if unfinished != "" {
			return ErrImportUnfinished
		}
		brought := NeverActivated(acct)
		acct.DeactivatedAt, acct.DeleteAfter, acct.DeleteAnnouncedAt = nil, nil, nil
		if err := tx.UpdateAccount(ctx, acct); err != nil {
			return err
		}
		if err := audit.Record(ctx, tx, a.Now(), did, audit.Activated, ""); err != nil {
			return err
		}
		r, err := a.sayAnew(ctx, tx, acct)
		if err != nil {
			return err
		}
		movedEmpty = brought && r.Records == 0
		return nil
	})
	if err != nil {
		return fmt.Errorf("activate account %s: %w", did, err)
	}
	if movedEmpty {
		a.WarnOfEmptyMove(ctx, did)
	}
	return nil
}

// sayAnew tells the network what an account is, with a commit that its key of today has signed.
// It returns the row of the repository.
func (a *Accounts) sayAnew(ctx context.Context, tx *db.Tx, acct *db.Account) (*db.Repo, error) {
	r, err := a.ownCommit(ctx, tx, acct.DID)
	if err != nil {
		return nil, err
	}
	sync, err := SyncEvent(acct.DID, r)
	if err != nil {
		return nil, err
	}
	return r, tx.AppendEvents(ctx, Events(acct.DID,
		event.Account(acct.DID, acct.Status()),
		event.Identity(acct.DID, cmp.Or(acct.Handle, syntax.HandleInvalid)),
		sync,
	)...)
}

// WarnOfEmptyMove puts into the log that an account of which its owner says that it
// lives here now has no records. It is not refused: some start over.
func (a *Accounts) WarnOfEmptyMove(ctx context.Context, did syntax.DID) {
	a.Log.WarnContext(ctx, "account was moved here without its repository", "did", did)
}

// ownCommit returns the row of the repository of did, over which there is now a commit
// signed with the account's key, unless it is damaged.
func (a *Accounts) ownCommit(ctx context.Context, tx *db.Tx, did syntax.DID) (*db.Repo, error) {
	r, err := tx.LockRepo(ctx, did)
	if err != nil {
		return nil, err
	}
	key, err := tx.SigningKey(ctx, did, KeyPurpose)
	if err != nil {
		return nil, err
	}
	_, err = a.signOver(ctx, tx, did, r, *key)
	return r, err
}

// SyncEvent says what the last commit of the repository of did is.
func SyncEvent(did syntax.DID, r *db.Repo) (event.Event, error) {
	commit, err := store.LastCommit(r)
	if err != nil {
		return event.Event{}, fmt.Errorf("repository of %s: %w", did, err)
	}
	return event.Sync(did, syntax.TID(r.Rev), car.Marshal(commit.CID, commit)), nil
}

// Deactivate switches an account off. The zero deleteAfter asks for no deletion,
// and takes back what was asked for before; see [Deletions] for what becomes of
// any other.
//
// Apps that were let in by OAuth have to be let in again. Other sessions go on, so that
// their owner can turn the account on again.
//
// It returns db.ErrNotFound.
func (a *Accounts) Deactivate(ctx context.Context, did syntax.DID, deleteAfter time.Time) error {
	return a.deactivate(ctx, did, deleteAfter, func(*db.Tx) error { return nil })
}

// DeactivateForAll is [Accounts.Deactivate], and ends app passwords and what was opened with
// them too.
func (a *Accounts) DeactivateForAll(ctx context.Context, did syntax.DID, deleteAfter time.Time) error {
	return a.deactivate(ctx, did, deleteAfter, func(tx *db.Tx) error {
		all, err := tx.AppPasswords(ctx, did)
		if err != nil {
			return err
		}
		for _, p := range all {
			if err := tx.DeleteAppPassword(ctx, did, p.Name); err != nil {
				return err
			}
		}
		return nil
	})
}

func (a *Accounts) deactivate(ctx context.Context, did syntax.DID, deleteAfter time.Time, also func(*db.Tx) error) error {
	err := a.DB.Write(ctx, func(tx *db.Tx) error {
		acct, err := tx.LockAccount(ctx, did)
		if err != nil {
			return err
		}
		// Later than its creation even on a clock that stands still: that is how
		// an account whose owner asked is told from one that was never activated.
		at := a.Now()
		if first := acct.CreatedAt.Add(time.Microsecond); at.Before(first) {
			at = first
		}
		acct.DeactivatedAt, acct.DeleteAfter, acct.DeleteAnnouncedAt = new(at), nil, nil
		if !deleteAfter.IsZero() {
			// A time that is over means as soon as may be.
			acct.DeleteAfter = new(later(deleteAfter, at))
		}
		if err := tx.UpdateAccount(ctx, acct); err != nil {
			return err
		}
		if err := tx.EndOAuth(ctx, did); err != nil {
			return err
		}
		if err := also(tx); err != nil {
			return err
		}
		detail := ""
		if acct.DeleteAfter != nil {
			detail = "to be deleted after " + acct.DeleteAfter.UTC().Format(time.RFC3339)
		}
		if err := audit.Record(ctx, tx, a.Now(), did, audit.Deactivated, detail); err != nil {
			return err
		}
		return tx.AppendEvents(ctx, Events(did, event.Account(did, acct.Status()))...)
	})
	if err != nil {
		return fmt.Errorf("deactivate account %s: %w", did, err)
	}
	return nil
}

// NeverActivated says that a deactivated account was brought here by its owner,
// who has not finished the move: it has been off since it was made.
func NeverActivated(a *db.Account) bool {
	return a.DeactivatedAt != nil && !a.DeactivatedAt.After(a.CreatedAt)
}

// Delete removes every row of an account, and whatever the network was told of it
// but that it is deleted. It is the last thing that a transaction does; after the
// commit the caller calls [Accounts.Forget].
//
// It returns db.ErrNotFound.
func (a *Accounts) Delete(ctx context.Context, tx *db.Tx, did syntax.DID) error {
	return a.remove(ctx, tx, did, event.Account(did, "deleted"))
}

func (a *Accounts) remove(ctx context.Context, tx *db.Tx, did syntax.DID, said ...event.Event) error {
	if err := tx.DeleteAccount(ctx, did); err != nil {
		return fmt.Errorf("delete account %s: %w", did, err)
	}
	if err := a.Budgets.Forget(ctx, tx, budget.Account(did)); err != nil {
		return err
	}
	if err := a.replaceEvents(ctx, tx, did, said...); err != nil {
		return fmt.Errorf("delete account %s: %w", did, err)
	}
	return nil
}

// replaceEvents erases what the network was told of an account that is gone, and
// tells it what is said now.
func (a *Accounts) replaceEvents(ctx context.Context, tx *db.Tx, did syntax.DID, said ...event.Event) error {
	// Nobody appends events of an account that he has not locked, so all there
	// are come before those that follow.
	if err := tx.EraseEvents(ctx, did, math.MaxInt64); err != nil {
		return err
	}
	return tx.AppendEvents(ctx, Events(did, said...)...)
}

// Forget drops what this process remembers of an account that was deleted, and the files
// of its blobs.
func (a *Accounts) Forget(ctx context.Context, did syntax.DID) {
	a.Keys.Forget(KeyPurpose, did.String())
	if a.Blobs != nil {
		a.Blobs.RemoveAccount(ctx, did)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
