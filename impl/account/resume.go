package account

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/identity/plc"
)

// maxFailures ends a round of Resume or CleanUp: a directory that is down costs the
// whole of its timeout with every question. What was asked about goes to the end
// of the queue, so the next round begins with others.
const maxFailures = 5

// Resume takes up the accounts whose creation stopped half-way: those the
// directory knows are completed, so that their owners can log in; those it does
// not know are given up. Where the directory cannot be asked the account stays
// as it is until a later call.
//
// At the start of a process that has the database to itself, abandoned is true:
// then every lease that is not this process's own belongs to one that died.
func (a *Accounts) Resume(ctx context.Context, abandoned bool) error {
	start := a.Now()
	return a.round(ctx, "resume account", func(tx *db.Tx, until time.Time) (syntax.DID, work, error) {
		found, err := tx.ClaimUnfinished(ctx, a.Holder, start, until, abandoned, 1)
		if err != nil || len(found) == 0 {
			return "", nil, err
		}
		return found[0].Account.DID, func() error { return a.resume(ctx, found[0]) }, nil
	})
}

// CleanUp looks after the DIDs of creations that were given up while the
// directory's answer was unknown. A DID that turns up there with nothing but our
// genesis is tombstoned; after the last look, or when an account has the DID, the matter
// is closed. What the owner of the DID signed is not looked for. As long as
// [Accounts.Standstill] has a reason, nothing is done.
func (a *Accounts) CleanUp(ctx context.Context) error {
	if still, err := a.Standstill(ctx); err != nil || still != "" {
		return err
	}
	start := a.Now()
	return a.round(ctx, "clean up", func(tx *db.Tx, until time.Time) (syntax.DID, work, error) {
		due, err := tx.ClaimCleanups(ctx, a.Holder, start, until, 1)
		if err != nil || len(due) == 0 {
			return "", nil, err
		}
		return due[0].DID, func() error { return a.cleanUp(ctx, due[0]) }, nil
	})
}

// work is what is to be done about a DID that was claimed.
type work func() error

// round claims and works until nothing is left. It claims one at a time, so that
// no lease runs out in a queue, and claim takes only what was due at the start of
// the round, so that each is tried once.
func (a *Accounts) round(ctx context.Context, doing string, claim func(*db.Tx, time.Time) (syntax.DID, work, error)) error {
	for failures := 0; failures < maxFailures; {
		var did syntax.DID
		var do work
		err := a.DB.Write(ctx, func(tx *db.Tx) (err error) {
			did, do, err = claim(tx, a.leaseFrom(a.Now()))
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
		if do == nil {
			return nil
		}
		err = do()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			failures++
			a.Log.WarnContext(ctx, doing+", left for later", "did", did, "error", err)
		}
	}
	return nil
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
		return a.abort(ctx, u.Account.DID, a.firstCleanup())
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

func (a *Accounts) cleanUp(ctx context.Context, c db.Cleanup) error {
	_, err := a.DB.StandingByDID(ctx, c.DID)
	if err == nil {
		return a.finishCleanUp(ctx, c) // the DID is somebody's
	}
	if !errors.Is(err, db.ErrNotFound) {
		return err
	}
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
		if err := a.Sign(tombstone, genesis); err != nil {
			return fmt.Errorf("sign tombstone: %w", err)
		}
		if err := a.Directory.Submit(ctx, c.DID, tombstone); err != nil {
			return fmt.Errorf("tombstone: %w", err)
		}
		a.Log.InfoContext(ctx, "tombstoned the DID of an account that was given up", "did", c.DID)
	case plc.Absent:
		if next := c.Attempts + 1; next < len(a.cleanupDelays()) {
			return a.DB.Write(ctx, func(tx *db.Tx) error {
				return tx.PostponeCleanup(ctx, c.DID, a.Holder, c.AbortedAt.Add(a.cleanupDelays()[next]))
			})
		}
	}
	return a.finishCleanUp(ctx, c)
}

func (a *Accounts) finishCleanUp(ctx context.Context, c db.Cleanup) error {
	return a.DB.Write(ctx, func(tx *db.Tx) error { return tx.FinishCleanup(ctx, c.DID, a.Holder) })
}
