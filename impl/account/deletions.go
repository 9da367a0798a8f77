package account

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"portico/db"
	"portico/impl/mail"
	"portico/impl/mail/outbox"
)

const (
	// notice is how long before its deletion an owner is told of it.
	notice = 7 * 24 * time.Hour
	// farewell is for how long it is tried to tell an owner that it is done.
	farewell = 7 * 24 * time.Hour
	// firstPage is how many accounts a run looks at to begin with.
	firstPage = 50
)

// Deletions deletes the accounts whose time has come.
//
// One is deleted because its owner asked for it at the deactivation: not before
// the time they named, nor before Min has passed since, nor before a week has
// passed since a letter told them. Whoever steals a token can ask too; the owner
// has that long to notice. While an account is taken down nothing happens to it,
// and afterwards there is a new letter.
//
// One that was brought here and never activated is cleared when its time is over,
// but only if the document of its DID, read then, names another server, and this one has no
// key in it: otherwise this might be the only copy.
type Deletions struct {
	Accounts *Accounts
	DIDs     *Verifier
	Outbox   *outbox.Outbox
	Brand    func() mail.Brand
	Min      time.Duration
}

// Run does what is due. What cannot be done for one account is logged and tried
// in the next run. It may run in several processes at once.
//
// As long as [Accounts.Standstill] has a reason, nothing is done, not even announced.
func (d *Deletions) Run(ctx context.Context) error {
	if still, err := d.Accounts.Standstill(ctx); err != nil || still != "" {
		return err
	}
	// Accounts that are postponed stay on the list, at its head, so it is read
	// with ever higher limits until it ends.
	seen := make(map[string]bool)
	for limit := firstPage; ; limit *= 2 {
		due, err := d.Accounts.DB.DueDeletions(ctx, d.Accounts.Now().Add(notice), limit)
		if err != nil {
			return err
		}
		for i := range due {
			a := &due[i]
			if seen[a.DID.String()] {
				continue
			}
			seen[a.DID.String()] = true
			if err := d.handle(ctx, a); err != nil {
				d.Accounts.Log.WarnContext(ctx, "deletion left for later", "did", a.DID, "error", err)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		if len(due) < limit {
			return nil
		}
	}
}

// step is what is to be done with an account now.
type step int

const (
	wait step = iota
	announce
	takeBack // an announcement that no longer holds
	carryOut // what the owner asked for
	clearOut // an abandoned move
)

func (d *Deletions) next(a *db.Account, now time.Time) step {
	switch {
	case !a.Deactivated() || a.DeleteAfter == nil:
		return wait
	case a.TakenDown() && a.DeleteAnnouncedAt != nil:
		return takeBack
	case a.TakenDown() || now.Before(a.DeleteAfter.Add(-notice)):
		return wait
	case NeverActivated(a):
		if now.Before(*a.DeleteAfter) {
			return wait
		}
		return clearOut
	case a.DeleteAnnouncedAt == nil && !now.Before(d.due(a).Add(-notice)):
		return announce
	case a.DeleteAnnouncedAt == nil || now.Before(later(d.due(a), a.DeleteAnnouncedAt.Add(notice))):
		return wait
	}
	return carryOut
}

// due is the earliest time of a deletion that was asked for, but for the notice.
func (d *Deletions) due(a *db.Account) time.Time {
	return later(*a.DeleteAfter, a.DeactivatedAt.Add(d.Min))
}

func (d *Deletions) handle(ctx context.Context, listed *db.Account) error {
	now, did := d.Accounts.Now(), listed.DID
	todo := d.next(listed, now)
	if todo == wait {
		return nil
	}
	if todo == clearOut {
		if ours, err := d.DIDs.mayBeOurs(ctx, did); err != nil || ours {
			return err
		}
	}
	done := false
	err := d.Accounts.DB.Write(ctx, func(tx *db.Tx) error {
		done = false
		a, err := tx.LockAccount(ctx, did)
		if errors.Is(err, db.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if d.next(a, now) != todo {
			return nil // its owner was faster
		}
		done = true
		return d.do(ctx, tx, a, todo, now)
	})
	if err != nil || !done {
		return err
	}
	switch todo {
	case announce:
		d.Accounts.Log.InfoContext(ctx, "announced a deletion", "did", did)
	case carryOut:
		d.Accounts.Forget(ctx, did)
		d.Accounts.Log.InfoContext(ctx, "deleted an account as its owner asked", "did", did)
	case clearOut:
		d.Accounts.Forget(ctx, did)
		d.Accounts.Log.InfoContext(ctx, "cleared an account that was never activated", "did", did)
	}
	return nil
}

func (d *Deletions) do(ctx context.Context, tx *db.Tx, a *db.Account, todo step, now time.Time) error {
	name := cmp.Or(a.Handle.String(), a.Email)
	switch todo {
	case announce:
		on := later(d.due(a), now.Add(notice))
		a.DeleteAnnouncedAt = new(now)
		if err := tx.UpdateAccount(ctx, a); err != nil || a.Email == "" {
			return err
		}
		return d.Outbox.Post(ctx, tx, a.DID, mail.KindDeletionDue, d.Brand().DeletionDue(a.Email, name, on), on)
	case takeBack:
		a.DeleteAnnouncedAt = nil
		return tx.UpdateAccount(ctx, a)
	case carryOut:
		if a.Email != "" {
			// Not filed under the account, whose mails go with it.
			letter := d.Brand().AccountDeleted(a.Email, name, now)
			if err := d.Outbox.Post(ctx, tx, "", mail.KindAccountDeleted, letter, now.Add(farewell)); err != nil {
				return err
			}
		}
		return d.Accounts.Delete(ctx, tx, a.DID)
	case clearOut:
		// The network never heard of it from here, and has it elsewhere.
		return d.Accounts.remove(ctx, tx, a.DID)
	}
	return fmt.Errorf("no such step: %d", todo)
}
