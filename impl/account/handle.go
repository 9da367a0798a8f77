package account

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/audit"
	"portico/impl/identity/plc"
	"portico/impl/repo/event"
)

// ErrHandleChanging says that a change of the account's handle is under way.
var ErrHandleChanging = errors.New("another change of the handle is under way")

// change gives an account a handle, whatever the rules say of it, also the one it
// has, and tells the network. When the account gets a handle that it has not, hold
// runs first in the transaction, and its error is returned. Other errors are those
// of GiveHandle.
//
// The handle of a did:plc stands in two places, and no transaction spans them. The
// account gets it first, where a constraint tells who was faster, and a row says
// that the directory may not know. While that row is there, the handle from before
// is nobody else's. The directory accepts, and the row goes; it refuses, and the
// account gets back what it had. A crash in between leaves the row, and whoever
// takes it up makes the directory say what the account says. So no DID names for
// long a handle that its account has not.
func (i *Identities) change(ctx context.Context, did syntax.DID, h syntax.Handle, hold hold) error {
	err := i.changeHandle(ctx, did, h, hold, anywhere)
	if err != nil {
		return fmt.Errorf("change handle of %s: %w", did, err)
	}
	return nil
}

// republishHandle makes the directory name the handle that an account has when its
// turn comes: a change that came first is not undone, and a DID that names another
// server is left alone. Errors are those of change, errNoHandle and errElsewhere.
func (i *Identities) republishHandle(ctx context.Context, did syntax.DID) error {
	if err := i.changeHandle(ctx, did, "", noHold, i.here(ctx)); err != nil {
		return fmt.Errorf("publish handle of %s: %w", did, err)
	}
	return nil
}

var errNoHandle = errors.New("account has no handle")

// hold says in a transaction that what allows a handle still does, and keeps it so.
type hold = func(ctx context.Context, tx *db.Tx) error

func noHold(context.Context, *db.Tx) error { return nil }

func (i *Identities) changeHandle(ctx context.Context, did syntax.DID, h syntax.Handle, hold hold, where where) error {
	if did.Method() != "plc" {
		return i.adoptHandle(ctx, did, h, hold)
	}
	ctx = context.WithoutCancel(ctx)
	c, err := i.beginHandle(ctx, did, h, hold)
	if err != nil {
		return err
	}
	if c.resumed {
		// What became of an earlier change is found out first.
		if err := i.settleHandle(ctx, c, anywhere); errors.Is(err, ErrDirectory) {
			return err
		}
		if c, err = i.beginHandle(ctx, did, h, hold); err != nil {
			return err
		}
		if c.resumed {
			return ErrHandleChanging
		}
	}
	return i.settleHandle(ctx, c, where)
}

// adoptHandle gives an account the handle that its DID, which only its owner can
// change, names already.
func (i *Identities) adoptHandle(ctx context.Context, did syntax.DID, h syntax.Handle, hold hold) error {
	if err := i.Accounts.DB.HandleFree(ctx, h, did); err != nil {
		return err
	}
	doc, err := i.Documents.Resolve(ctx, did, true)
	if err != nil {
		return errors.Join(ErrUnresolved, err)
	}
	if doc.Handle() != h.String() {
		return ErrHandleNotInDocument
	}
	return i.Accounts.DB.Write(ctx, func(tx *db.Tx) error {
		a, err := tx.LockAccount(ctx, did)
		if err != nil {
			return err
		}
		before := a.Handle
		if before != h {
			if err := hold(ctx, tx); err != nil {
				return err
			}
		}
		a.Handle = h
		if err := tx.UpdateAccount(ctx, a); err != nil {
			return err
		}
		return i.announceHandle(ctx, tx, did, before, h)
	})
}

// handleChange is a change that this call works on.
type handleChange struct {
	did           syntax.DID
	before, after syntax.Handle
	holder        string
	resumed       bool // begun by another call, which may have posted an operation
}

// beginHandle gives the account the handle, "" for the one that it has, and records
// that the directory is to know. Where there is a change that nobody works on any
// more, it takes up that one instead.
func (i *Identities) beginHandle(ctx context.Context, did syntax.DID, h syntax.Handle, hold hold) (*handleChange, error) {
	holder, err := i.newHolder()
	if err != nil {
		return nil, err
	}
	var c *handleChange
	err = i.Accounts.DB.Write(ctx, func(tx *db.Tx) error {
		a, err := tx.LockAccount(ctx, did)
		if err != nil {
			return err
		}
		if a.Held() {
			return ErrHeld // the genesis, and with it the DID, says the handle that it has
		}
		c, err = i.takeUp(ctx, tx, a, holder, i.Accounts.Now())
		if err != nil || c != nil {
			return err
		}
		c = &handleChange{did: did, before: a.Handle, after: cmp.Or(h, a.Handle), holder: holder}
		if c.after == "" {
			return errNoHandle
		}
		if c.after != c.before {
			if err := hold(ctx, tx); err != nil {
				return err
			}
		}
		a.Handle = c.after
		if err := tx.UpdateAccount(ctx, a); err != nil {
			return err
		}
		return i.lease(ctx, tx, c, i.Accounts.leaseFrom(i.Accounts.Now()))
	})
	return c, err
}

// takeUp makes holder the one who works on the change that a, which tx has locked,
// is in. It returns nil when there is none, and ErrHandleChanging when somebody
// works on it and will beyond now.
func (i *Identities) takeUp(ctx context.Context, tx *db.Tx, a *db.Account, holder string, now time.Time) (*handleChange, error) {
	row, err := tx.HandleChange(ctx, a.DID)
	switch {
	case errors.Is(err, db.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case now.Before(row.LeaseUntil):
		return nil, ErrHandleChanging
	}
	c := &handleChange{did: a.DID, before: row.Before, after: a.Handle, holder: holder, resumed: true}
	return c, i.lease(ctx, tx, c, i.Accounts.leaseFrom(i.Accounts.Now()))
}

func (i *Identities) lease(ctx context.Context, tx *db.Tx, c *handleChange, until time.Time) error {
	return tx.PutHandleChange(ctx, db.HandleChange{DID: c.did, Before: c.before, Holder: c.holder, LeaseUntil: until})
}

// newHolder names one piece of work of this process.
func (i *Identities) newHolder() (string, error) {
	var b [8]byte
	if _, err := io.ReadFull(i.Accounts.Rand, b[:]); err != nil {
		return "", fmt.Errorf("name the holder of a change: %w", err)
	}
	return i.Accounts.Holder + "/" + hex.EncodeToString(b[:]), nil
}

// settleHandle brings a change that was begun to its end, whichever that is.
func (i *Identities) settleHandle(ctx context.Context, c *handleChange, where where) error {
	failure := i.publishHandle(ctx, c, where)
	unknown := errors.Is(failure, plc.ErrUnknown)
	err := i.Accounts.DB.Write(ctx, func(tx *db.Tx) error {
		a, err := tx.LockAccount(ctx, c.did)
		if err != nil {
			return err
		}
		row, err := tx.HandleChange(ctx, c.did)
		if errors.Is(err, db.ErrNotFound) || err == nil && row.Holder != c.holder {
			return nil // it took so long that others took it up
		}
		if err != nil {
			return err
		}
		if unknown {
			return i.lease(ctx, tx, c, i.Accounts.Now())
		}
		if err := tx.DeleteHandleChange(ctx, c.did); err != nil {
			return err
		}
		if failure == nil {
			return i.announceHandle(ctx, tx, c.did, c.before, c.after)
		}
		a.Handle = c.before
		return tx.UpdateAccount(ctx, a)
	})
	if err != nil {
		return err // the lease runs out, and the change is taken up
	}
	if unknown {
		return fmt.Errorf("%w: %w", ErrDirectory, failure)
	}
	if failure == nil {
		i.refresh(ctx, c.did)
	}
	return failure
}

// publishHandle makes the directory name the handle. plc.ErrUnknown says that it
// may do so or not; after any other error it does not.
func (i *Identities) publishHandle(ctx context.Context, c *handleChange, where where) error {
	for tries := 1; ; tries++ {
		last, err := i.publishAfterLast(ctx, c, where)
		if _, refused := errors.AsType[*plc.Refused](err); !refused || tries == maxOvertaken || !i.overtaken(ctx, c.did, last) {
			return err
		}
	}
}

// maxOvertaken is how often an operation is made that another one comes before.
const maxOvertaken = 3

// overtaken reports whether the directory has an operation after last, so that none of ours
// could come there.
func (i *Identities) overtaken(ctx context.Context, did syntax.DID, last plc.Operation) bool {
	now, err := i.Directory.Last(ctx, did)
	return err == nil && !now.Same(last)
}

// publishAfterLast is one try of publishHandle. It returns the operation that was the last.
func (i *Identities) publishAfterLast(ctx context.Context, c *handleChange, where where) (plc.Operation, error) {
	last, err := i.Directory.Last(ctx, c.did)
	if err != nil {
		if c.resumed && !errors.Is(err, plc.ErrNotFound) {
			return nil, fmt.Errorf("%w: %w", plc.ErrUnknown, err) // an operation may be there
		}
		return nil, err
	}
	if now, ok := last.Data(); ok && c.resumed && now.Handle() == c.after.String() {
		return last, nil
	}
	if err := where(last); err != nil {
		return last, err
	}
	op, err := plc.Update(last, func(d *plc.Data) { d.SetHandle(c.after) })
	if err != nil {
		return last, err
	}
	if err := i.Accounts.Sign(op, last); err != nil {
		return last, fmt.Errorf("sign operation: %w", err)
	}
	defer i.Accounts.DIDChanged(c.did)
	return last, i.Accounts.Directory.Register(ctx, c.did, op)
}

// announceHandle is the last thing in a transaction that changes a handle.
func (i *Identities) announceHandle(ctx context.Context, tx *db.Tx, did syntax.DID, before, after syntax.Handle) error {
	none := syntax.Handle("none")
	detail := fmt.Sprintf("from %s to %s", cmp.Or(before, none), after)
	if err := audit.Record(ctx, tx, i.Accounts.Now(), did, audit.HandleChanged, detail); err != nil {
		return err
	}
	return tx.AppendEvents(ctx, Events(did, event.Identity(did, after))...)
}

// resumePage is how many changes a run takes up; the next run sees the others.
const resumePage = 100

// Resume takes up the changes that their calls did not finish: the directory was
// away, or the process was. With all it takes up those too whose lease has not run
// out; that is for a process that has the database to itself, at its start.
//
// While no DID may be changed it does nothing: a change whose outcome is unknown is neither
// finished nor taken back.
func (i *Identities) Resume(ctx context.Context, all bool) error {
	if i.Accounts.MayPublish(ctx) != nil {
		return nil
	}
	until := i.Accounts.Now()
	if all {
		until = i.Accounts.leaseFrom(until)
	}
	rows, err := i.Accounts.DB.HandleChanges(ctx, until, resumePage)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if err := i.resume(ctx, row.DID, until); err != nil {
			i.Accounts.Log.WarnContext(ctx, "change of handle not finished", "did", row.DID, "error", err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

func (i *Identities) resume(ctx context.Context, did syntax.DID, until time.Time) error {
	if err := i.Accounts.MayPublish(ctx); err != nil {
		return err
	}
	holder, err := i.newHolder()
	if err != nil {
		return err
	}
	var c *handleChange
	err = i.Accounts.DB.Write(ctx, func(tx *db.Tx) error {
		a, err := tx.LockAccount(ctx, did)
		if err != nil {
			return err
		}
		c, err = i.takeUp(ctx, tx, a, holder, until)
		return err
	})
	if err != nil || c == nil {
		return err
	}
	return i.settleHandle(context.WithoutCancel(ctx), c, anywhere)
}
