package db

import (
	"context"
	"math"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// The states of a mail.
const (
	MailStateQueued  = "queued"
	MailStateSending = "sending"
	MailStateSent    = "sent"
	MailStateFailed  = "failed"
	MailStateExpired = "expired"
)

// A Mail is a row of the outbox.
type Mail struct {
	bun.BaseModel `bun:"table:mail,alias:m"`

	ID        int64      `bun:"id,pk,autoincrement"`
	To        string     `bun:"recipient"`
	Kind      string     `bun:"kind"`
	DID       syntax.DID `bun:"did,nullzero"` // "" when it concerns no account
	Sealed    []byte     `bun:"sealed"`       // the encrypted body, nil once erased
	CreatedAt time.Time  `bun:"created_at"`
	ExpiresAt time.Time  `bun:"expires_at"` // from then on it is not sent any more
	NextAt    time.Time  `bun:"next_at"`    // of the next attempt, or the end of the sender's lease
	Attempts  int        `bun:"attempts"`   // the running one included
	State     string     `bun:"state"`
	LastError string     `bun:"last_error,nullzero"`
	SentAt    *time.Time `bun:"sent_at"`

	Urgent bool   `bun:"urgent,type:integer"` // it goes before all that are not
	Pile   int    `bun:"pile"`                // among equals those with less go first
	Cause  string `bun:"cause,nullzero"`      // key of whoever caused it, "" for nobody
}

// unsent are the columns that a mail gets later.
var unsent = []string{"id", "attempts", "last_error", "sent_at"}

var (
	insertMail = prepared(func(b *builder) bun.Query { return b.insertReturning("id", new(Mail), unsent...) })

	selectMail  = prepared(func(b *builder) bun.Query { return b.NewSelect().Model((*Mail)(nil)).Where("id = ?", b.p()) })
	selectMails = prepared(func(b *builder) bun.Query {
		return b.limit(b.NewSelect().Model((*Mail)(nil)).Where("id < ?", b.p()), "id DESC")
	})
	selectMailsIn = prepared(func(b *builder) bun.Query {
		return b.limit(b.NewSelect().Model((*Mail)(nil)).Where("id < ?", b.p()).Where("state = ?", b.p()), "id DESC")
	})
	lockMail = prepared(func(b *builder) bun.Query {
		return b.lock("UPDATE", b.NewSelect().Model((*Mail)(nil)).Where("id = ?", b.p()))
	})
	hastenMail = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*Mail)(nil)).Set("next_at = ?", b.p()).Where("id = ?", b.p()).Where("state = 'queued'")
	})
	deleteMail        = prepared(func(b *builder) bun.Query { return b.NewDelete().Model((*Mail)(nil)).Where("id = ?", b.p()) })
	selectSealedMails = prepared(func(b *builder) bun.Query {
		return b.limit(b.NewSelect().Model((*Mail)(nil)).Where("id > ?", b.p()).Where("sealed IS NOT NULL"), "id")
	})
	resealMail = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*Mail)(nil)).Set("sealed = ?", b.p()).Where("id = ?", b.p()).Where("sealed IS NOT NULL")
	})

	countWaitingMails = prepared(func(b *builder) bun.Query {
		waiting := func() *bun.SelectQuery { return b.waitingMails().ColumnExpr("count(*)") }
		return b.NewSelect().ColumnExpr("(?)", waiting().Where("recipient = ?", b.p())).
			ColumnExpr("(?)", waiting().Where("cause = ?", b.p())).ColumnExpr("(?)", waiting())
	})
	selectNextMail = prepared(func(b *builder) bun.Query {
		return b.waitingMails().Column("next_at", "expires_at").Order("next_at").Limit(1)
	})
	countSending = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*Mail)(nil)).Column("cause").ColumnExpr("count(*)").
			Where("state = 'sending'").Where("next_at > ?", b.p()).Where("cause IS NOT NULL").Group("cause")
	})
	lockDueMails = prepared(func(b *builder) bun.Query {
		urgent, now := b.p(), b.p()
		same := b.NewSelect().Model((*Mail)(nil)).ModelTableExpr("mail AS s").ColumnExpr("1").
			Where("s.state = 'sending'").Where("s.next_at > ?", now).Where("s.recipient = m.recipient")
		return b.lock("UPDATE SKIP LOCKED", b.waitingMails().Column("id", "recipient", "cause").
			Where("m.urgent = ?", urgent).Where("m.next_at <= ?", now).Where("m.expires_at > ?", now).
			Where("NOT EXISTS (?)", same).Order("m.pile", "m.next_at", "m.id").Limit(choice))
	})

	claimMail = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*Mail)(nil)).Set("state = 'sending'").Set("holder = ?", b.p()).Set("next_at = ?", b.p()).
			Set("attempts = attempts + 1").Where("id = ?", b.p()).Returning("?Columns")
	})
	markMailSent = prepared(func(b *builder) bun.Query {
		return b.endMail(MailStateSent).Set("sent_at = ?", b.p()).Set("last_error = NULL").Where("id = ?", b.p()).Where("state = 'sending'")
	})
	markMailFailed = prepared(func(b *builder) bun.Query {
		return b.endMail(MailStateFailed).Set("last_error = ?", b.p()).Where("id = ?", b.p()).Where("state = 'sending'")
	})
	requeueMail = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*Mail)(nil)).Set("state = 'queued'").Set("last_error = ?", b.p()).Set("next_at = ?", b.p()).
			Set("holder = NULL").Where("id = ?", b.p()).Where("state = 'sending'")
	})
)

// waitingMails selects those that are not delivered yet, by the condition of their indexes.
func (b *builder) waitingMails() *bun.SelectQuery {
	return b.NewSelect().Model((*Mail)(nil)).Where("m.state IN ('queued', 'sending')")
}

// endMail gives a mail a state that is its last, and erases its body. It erases the
// recipient when the mail concerns no account, with which it would go.
func (b *builder) endMail(state string) *bun.UpdateQuery {
	return b.NewUpdate().Model((*Mail)(nil)).Set("state = ?", state).Set("sealed = NULL").Set("holder = NULL").
		Set("recipient = CASE WHEN did IS NULL THEN '' ELSE recipient END")
}

// QueueMail puts m into the outbox and sets its ID and State. A zero NextAt means
// at once. Workers are woken when the transaction commits.
func (tx *Tx) QueueMail(ctx context.Context, m *Mail) error {
	if m.NextAt.IsZero() {
		m.NextAt = m.CreatedAt
	}
	m.State = MailStateQueued
	if err := tx.get(ctx, insertMail, values(m, unsent...), &m.ID); err != nil {
		return wrap(err, "queue mail")
	}
	tx.mailed = true
	return nil
}

// LockMail returns a mail and keeps others from changing it, or returns ErrNotFound.
func (tx *Tx) LockMail(ctx context.Context, id int64) (*Mail, error) {
	m, err := one[Mail](ctx, &tx.queries, lockMail, id)
	return m, wrap(err, "lock mail %d", id)
}

// HastenMail makes a mail that is queued due now, and wakes the workers when the
// transaction commits. It returns ErrNotFound when there is no such mail, or it is not
// queued.
func (tx *Tx) HastenMail(ctx context.Context, id int64) error {
	if err := found(tx.exec(ctx, hastenMail, tx.now(), id)); err != nil {
		return wrap(err, "hasten mail %d", id)
	}
	tx.mailed = true
	return nil
}

// DeleteMail removes a mail, whatever its state. It returns ErrNotFound.
func (tx *Tx) DeleteMail(ctx context.Context, id int64) error {
	err := found(tx.exec(ctx, deleteMail, id))
	return wrap(err, "delete mail %d", id)
}

// SealedMails returns up to limit mails whose bodies are not erased, in the order of
// their ids, those after the given one: the way to seal all of them anew.
func (q *queries) SealedMails(ctx context.Context, after int64, limit int) ([]Mail, error) {
	mails, err := many[Mail](ctx, q, selectSealedMails, after, limit)
	return mails, wrap(err, "list sealed mails")
}

// ResealMail replaces the sealed body of m. One that is erased by now stays erased.
func (tx *Tx) ResealMail(ctx context.Context, m Mail, sealed []byte) error {
	_, err := tx.exec(ctx, resealMail, sealed, m.ID)
	return wrap(err, "reseal mail %d", m.ID)
}

// MailQueued wakes the one who receives from it after mails were queued, by this
// process or, on Postgres, by another one. Wakings that nobody waits for are
// kept as one. Some may get lost: look at the outbox now and then without.
func (db *DB) MailQueued() <-chan struct{} { return db.mailed }

// WaitingMails counts the mails that are not delivered yet: those to a recipient, those
// from a cause, which is none's when it is "", and all.
func (q *queries) WaitingMails(ctx context.Context, recipient, cause string) (to, from, all int, err error) {
	// No mail has the cause "".
	err = q.get(ctx, countWaitingMails, []any{recipient, cause}, &to, &from, &all)
	return to, from, all, wrap(err, "count waiting mails")
}

// A MailClaim says which mails somebody may have.
type MailClaim struct {
	Holder string
	Now    time.Time
	Until  time.Time // when they are due again if nothing became of them
	Limit  int
	// Others is how many of them may be such that are not urgent.
	Others int
	// PerCause is how many of one cause may be sent at a time, by whomever.
	PerCause int
}

// choice is how many mails are looked at to claim a few.
const choice = 64

// ClaimMails gives a holder mails that are due and not expired, and counts an attempt for
// each. Urgent ones come first, then those with a smaller pile, then those that are due
// for longer. Of one recipient there is one at a time, so that a mail server that takes
// long over it delays nobody else's; of one cause there are a few. A mail whose sender's
// time ran out is due again. No two holders get the same one.
func (tx *Tx) ClaimMails(ctx context.Context, c MailClaim) ([]Mail, error) {
	sending := map[string]int{}
	err := tx.each(ctx, countSending, []any{c.Now}, func(row scanner) error {
		var cause string
		var n int
		err := row.Scan(&cause, &n)
		sending[cause] = n
		return err
	})
	if err != nil {
		return nil, wrap(err, "claim mails")
	}
	var chosen []int64
	recipients := map[string]bool{}
	choose := func(urgent, limit int) error {
		return tx.each(ctx, lockDueMails, []any{urgent, c.Now}, func(row scanner) error {
			var id int64
			var recipient, cause string
			if err := row.Scan(&id, &recipient, orEmpty{&cause}); err != nil {
				return err
			}
			if limit <= 0 || recipients[recipient] || cause != "" && sending[cause] >= c.PerCause {
				return nil
			}
			chosen, recipients[recipient] = append(chosen, id), true
			sending[cause]++
			limit--
			return nil
		})
	}
	if err := choose(1, c.Limit); err != nil {
		return nil, wrap(err, "claim urgent mails")
	}
	if others := min(c.Others, c.Limit-len(chosen)); others > 0 {
		if err := choose(0, others); err != nil {
			return nil, wrap(err, "claim mails")
		}
	}
	var claimed []Mail
	for _, id := range chosen {
		m, err := one[Mail](ctx, &tx.queries, claimMail, c.Holder, c.Until, id)
		if err != nil {
			return nil, wrap(err, "claim mail %d", id)
		}
		claimed = append(claimed, *m)
	}
	return claimed, nil
}

// MailSent records the delivery of a claimed mail and erases its body, and its recipient
// when it concerns no account. It returns ErrLeaseLost when the mail is not being sent.
func (tx *Tx) MailSent(ctx context.Context, id int64) error {
	err := held(tx.exec(ctx, markMailSent, tx.now(), id))
	return wrap(err, "mark mail %d sent", id)
}

// MailFailed records why a claimed mail could not be delivered and when to try
// again; the zero time gives it up and erases the same as MailSent. It returns ErrLeaseLost
// when the mail is not being sent.
func (tx *Tx) MailFailed(ctx context.Context, id int64, reason string, next time.Time) error {
	var err error
	if next.IsZero() {
		err = held(tx.exec(ctx, markMailFailed, reason, id))
	} else {
		err = held(tx.exec(ctx, requeueMail, reason, next, id))
	}
	return wrap(err, "mark mail %d failed", id)
}

// NextMail returns when the next mail is due and when it expires, or ErrNotFound when none
// waits.
func (q *queries) NextMail(ctx context.Context) (next, expires time.Time, err error) {
	err = q.get(ctx, selectNextMail, nil, &next, &expires)
	return next, expires, wrap(err, "look for the next mail")
}

// Mails returns up to limit mails, the newest first: those whose numbers are smaller
// than before, or with 0 the last ones.
func (q *queries) Mails(ctx context.Context, before int64, limit int) ([]Mail, error) {
	if before <= 0 {
		before = math.MaxInt64
	}
	mails, err := many[Mail](ctx, q, selectMails, before, limit)
	return mails, wrap(err, "list mails")
}

// MailsIn is Mails of those in a state.
func (q *queries) MailsIn(ctx context.Context, state string, before int64, limit int) ([]Mail, error) {
	if before <= 0 {
		before = math.MaxInt64
	}
	mails, err := many[Mail](ctx, q, selectMailsIn, before, state, limit)
	return mails, wrap(err, "list %s mails", state)
}

// MailByID returns a mail, or ErrNotFound.
func (q *queries) MailByID(ctx context.Context, id int64) (*Mail, error) {
	m, err := one[Mail](ctx, q, selectMail, id)
	return m, wrap(err, "read mail %d", id)
}
