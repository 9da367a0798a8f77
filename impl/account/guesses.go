package account

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/mail"
	"portico/impl/mail/outbox"
)

// Guesses tells owners that strangers have spent what may be guessed of their passwords,
// once a day and account. That is not done where the guess is counted: an answer that
// takes longer because of a letter would tell that there is an account.
type Guesses struct {
	DB     *db.DB
	Outbox *outbox.Outbox
	Brand  func() mail.Brand
	Now    func() time.Time
}

// guessesAtATime is how many owners a run tells.
const guessesAtATime = 100

// Run tells whom nobody has told. Only confirmed addresses get a letter. It may run in
// several processes at once.
func (g *Guesses) Run(ctx context.Context) error {
	all, err := g.DB.GuessedAccounts(ctx, guessesAtATime)
	if err != nil {
		return err
	}
	for _, one := range all {
		err := g.DB.Write(ctx, func(tx *db.Tx) error { return g.tell(ctx, tx, one.DID) })
		if err != nil {
			return fmt.Errorf("tell the owner of %s of guesses: %w", one.DID, err)
		}
	}
	return nil
}

func (g *Guesses) tell(ctx context.Context, tx *db.Tx, did syntax.DID) error {
	a, err := tx.LockAccount(ctx, did)
	if err == nil {
		var until time.Time
		until, err = tx.TellGuesses(ctx, did, g.Now())
		if err == nil && (a.EmailConfirmedAt == nil || !until.After(g.Now())) {
			return nil
		}
		if err == nil {
			return g.Outbox.Announce(ctx, tx, did, mail.KindGuessed, g.Brand().Guessed(a.Email, outbox.Named(a), until))
		}
	}
	if errors.Is(err, db.ErrNotFound) {
		return nil // deleted, or told by another process
	}
	return err
}
