package db

import (
	"context"
	"time"
)

const (
	// codesStay is how long an expired code can still be told from a wrong one.
	codesStay = 24 * time.Hour
	// knownFor is how long any plain address of the network stays.
	knownFor = 90 * 24 * time.Hour
	// mailsStay is how long the outbox remembers what became of a mail.
	mailsStay = 30 * 24 * time.Hour
	// mailsKept is how many mails the outbox remembers at most.
	mailsKept = 100_000
)

// Purge removes what is over at now: sessions, budgets, reserved keys, codes sent
// to phones, numbers that are spent; emailed codes a day later. Mails that were not delivered in time become
// expired and lose their bodies; a mail that needs no more attempts is forgotten 30 days
// after it was queued, or when 100,000 came after it.
func (tx *Tx) Purge(ctx context.Context, now time.Time) error {
	at := micros(now)
	for _, s := range []struct {
		text string
		arg  any
	}{
		{`DELETE FROM session WHERE expires_at <= ?`, at},
		{`DELETE FROM budget WHERE reset_at <= ?`, at},
		{`DELETE FROM known_address WHERE seen_at <= ?`, micros(now.Add(-knownFor))},
		{`DELETE FROM guessed_account WHERE since <= ?`, micros(now.Add(-guessedFor))},
		{`UPDATE audit SET address = NULL WHERE address IS NOT NULL AND at <= ?`, micros(now.Add(-knownFor))},
		{`DELETE FROM reserved_key WHERE expires_at <= ?`, at},
		{`DELETE FROM phone_code WHERE expires_at <= ?`, at},
		{`DELETE FROM phone_spent WHERE until <= ?`, at},
		{`DELETE FROM email_code WHERE expires_at <= ?`, micros(now.Add(-codesStay))},
		{`UPDATE mail SET state = 'expired', sealed = NULL, holder = NULL, ` + nobodys + ` WHERE state IN ('queued', 'sending') AND expires_at <= ?`, at},
		{`DELETE FROM mail WHERE created_at <= ? AND state NOT IN ('queued', 'sending')`, micros(now.Add(-mailsStay))},
		{`DELETE FROM mail WHERE id <= (SELECT max(id) FROM mail) - ? AND state NOT IN ('queued', 'sending')`, mailsKept},
	} {
		if _, err := tx.execText(ctx, s.text, s.arg); err != nil {
			return wrap(err, "purge")
		}
	}
	return nil
}
