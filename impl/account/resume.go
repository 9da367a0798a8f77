package account

import (
	"context"
	"fmt"
	"time"

	"portico/db"
	"portico/impl/plc"
)

// batch is how many accounts one round of Resume or CleanUp takes at a time.
const batch = 50

// Resume takes up the accounts whose creation stopped half-way: those the
// directory knows are completed, so that their owners can log in; those it does
// not know are given up. Where the directory cannot be asked the account stays
// as it is until the next call.
//
// At the start of a process that has the database to itself, abandoned is true:
// then every lease that is not this process's own belongs to one that died.
func (a *Accounts) Resume(ctx context.Context, abandoned bool) error {
	for {
		var found []db.Unfinished
		err := a.DB.Write(ctx, func(tx *db.Tx) (err error) {
			now := a.Now()
			found, err = tx.ClaimUnfinished(ctx, a.Holder, now, now.Add(a.Lease), abandoned, batch)
			return err
		})
		if err != nil {
			return fmt.Errorf("claim unfinished accounts: %w", err)
		}
		for _, u := range found {
			if err := a.resume(ctx, u); err != nil {
				a.Log.WarnContext(ctx, "unfinished account left for later", "did", u.Account.DID, "error", err)
			}
		}
		if len(found) < batch || ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (a *Accounts) resume(ctx context.Context, u db.Unfinished) error {
	d := &draft{account: u.Account}
	if u.Genesis == nil {
		// Its owner never had an answer and holds no session. Starting over costs
		// them nothing, and frees the DID for it.
		return a.abort(ctx, u.Account.DID, time.Time{})
	}
	var err error
	if d.genesis, err = plc.Parse(u.Genesis); err != nil {
		return fmt.Errorf("stored genesis: %w", err)
	}
	presence, err := a.Directory.Registered(ctx, u.Account.DID, d.genesis)
	if err != nil {
		return err
	}
	if presence != plc.Untouched {
		// Absent, or its owner has already taken the DID elsewhere. Absent is not
		// never: our own request may still be under way, so the clean-up looks.
		return a.abort(ctx, u.Account.DID, a.Now().Add(a.Looks[0]))
	}
	d.key, err = a.Keys.SigningKey(KeyPurpose, u.Account.DID.String(), u.Key.Sealed)
	if err != nil {
		return fmt.Errorf("stored signing key: %w", err)
	}
	if err := a.complete(ctx, d, nil); err != nil {
		return err
	}
	a.Log.InfoContext(ctx, "completed an account that a crash had left", "did", u.Account.DID)
	return nil
}

// CleanUp looks after the DIDs of creations that were given up while the
// directory's answer was unknown. A DID that turns up there with nothing but our
// genesis is tombstoned; after the last look the matter is closed.
func (a *Accounts) CleanUp(ctx context.Context) error {
	for {
		var due []db.Cleanup
		err := a.DB.Write(ctx, func(tx *db.Tx) (err error) {
			now := a.Now()
			due, err = tx.ClaimCleanups(ctx, a.Holder, now, now.Add(a.Lease), batch)
			return err
		})
		if err != nil {
			return fmt.Errorf("claim clean-ups: %w", err)
		}
		for _, c := range due {
			if err := a.cleanUp(ctx, c); err != nil {
				a.Log.WarnContext(ctx, "clean-up left for later", "did", c.DID, "error", err)
			}
		}
		if len(due) < batch || ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (a *Accounts) cleanUp(ctx context.Context, c db.Cleanup) error {
	genesis, err := plc.Parse(c.Genesis)
	if err != nil {
		return fmt.Errorf("stored genesis: %w", err)
	}
	presence, err := a.Directory.Registered(ctx, c.DID, genesis)
	if err != nil {
		return err
	}
	switch presence {
	case plc.Untouched:
		tombstone, err := plc.NewTombstone(genesis)
		if err != nil {
			return err
		}
		if err := tombstone.Sign(a.Rotation); err != nil {
			return fmt.Errorf("sign tombstone: %w", err)
		}
		if err := a.Directory.Submit(ctx, c.DID, tombstone); err != nil {
			return fmt.Errorf("tombstone: %w", err)
		}
		a.Log.InfoContext(ctx, "tombstoned the DID of an account that was given up", "did", c.DID)
	case plc.Absent:
		if next := c.Looks + 1; next < len(a.Looks) {
			return a.DB.Write(ctx, func(tx *db.Tx) error {
				return tx.PostponeCleanup(ctx, c.DID, a.Holder, c.AbortedAt.Add(a.Looks[next]))
			})
		}
	}
	return a.DB.Write(ctx, func(tx *db.Tx) error { return tx.FinishCleanup(ctx, c.DID, a.Holder) })
}
