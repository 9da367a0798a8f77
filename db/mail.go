package db

import (
	"context"
	"database/sql"
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
	ID        int64
	To        string
	Kind      string
	DID       syntax.DID // "" when it concerns no account
	Sealed    []byte     // the encrypted body, nil once erased
	CreatedAt time.Time
	ExpiresAt time.Time // from then on it is not sent any more
	NextAt    time.Time // of the next attempt, or the end of the sender's lease
	Attempts  int       // the running one included
	State     string
	LastError string
	SentAt    *time.Time

	Urgent bool   // it goes before all that are not
	Pile   int    // among equals those with less go first
	Cause  string // key of whoever caused it, "" for nobody
}

type mailRow struct {
	bun.BaseModel `bun:"table:mail,alias:mail"`

	ID        int64      `bun:",pk,autoincrement"`
	Recipient string     `bun:""`
	Kind      string     `bun:""`
	DID       syntax.DID `bun:"did,nullzero"`
	Sealed    []byte     `bun:""`
	CreatedAt stamp      `bun:""`
	ExpiresAt stamp      `bun:""`
	NextAt    stamp      `bun:""`
	Attempts  int        `bun:""`
	State     string     `bun:""`
	LastError string     `bun:",nullzero"`
	SentAt    stamp      `bun:""`
	Urgent    int        `bun:""`
	Pile      int        `bun:""`
	Cause     string     `bun:",nullzero"`
}

func (r *mailRow) mail() Mail {
	return Mail{
		ID: r.ID, To: r.Recipient, Kind: r.Kind, DID: r.DID, Sealed: r.Sealed,
		CreatedAt: time.Time(r.CreatedAt), ExpiresAt: time.Time(r.ExpiresAt), NextAt: time.Time(r.NextAt),
		Attempts: r.Attempts, State: r.State, LastError: r.LastError, SentAt: r.SentAt.pointer(),
		Urgent: r.Urgent == 1, Pile: r.Pile, Cause: r.Cause,
	}
}

// QueueMail puts m into the outbox and sets its ID and State. A zero NextAt means
// at once. Workers are woken when the transaction commits.
func (tx *Tx) QueueMail(ctx context.Context, m *Mail) error {
	if m.NextAt.IsZero() {
		m.NextAt = m.CreatedAt
	}
	m.State = MailStateQueued
	urgent := 0
	if m.Urgent {
		urgent = 1
	}
	err := tx.getText(ctx, `INSERT INTO mail (recipient, kind, did, sealed, created_at, expires_at, next_at, state, urgent, pile, cause)
		VALUES (?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?) RETURNING id`,
		[]any{m.To, m.Kind, text(m.DID), m.Sealed, micros(m.CreatedAt), micros(m.ExpiresAt), micros(m.NextAt), urgent, m.Pile, text(m.Cause)}, &m.ID)
	if err != nil {
		return wrap(err, "queue mail")
	}
	tx.mailed = true
	if tx.postgres {
		// For the workers of other processes; one notification a transaction.
		_, err = tx.execText(ctx, `SELECT pg_notify('`+mailChannel+`', '')`)
	}
	return wrap(err, "announce mail")
}

// SealedMails returns up to limit mails whose bodies are not erased, in the order of
// their ids, those after the given one: the way to seal all of them anew. They have
// ID, Kind, DID and Sealed.
func (q *queries) SealedMails(ctx context.Context, after int64, limit int) ([]Mail, error) {
	var mails []Mail
	err := q.eachText(ctx, `SELECT id, kind, did, sealed FROM mail WHERE id > ? AND sealed IS NOT NULL ORDER BY id LIMIT ?`,
		[]any{after, limit}, func(row *sql.Rows) error {
			var m Mail
			err := row.Scan(&m.ID, &m.Kind, orEmpty{(*string)(&m.DID)}, &m.Sealed)
			mails = append(mails, m)
			return err
		})
	return mails, wrap(err, "list sealed mails")
}

// ResealMail replaces the sealed body of m. One that is erased by now stays erased.
func (tx *Tx) ResealMail(ctx context.Context, m Mail, sealed []byte) error {
	_, err := tx.execText(ctx, `UPDATE mail SET sealed = ? WHERE id = ? AND sealed IS NOT NULL`, sealed, m.ID)
	return wrap(err, "reseal mail %d", m.ID)
}

// MailQueued wakes the one who receives from it after mails were queued, by this
// process or, on Postgres, by another one. Wakings that nobody waits for are
// kept as one. Some may get lost: look at the outbox now and then without.
func (db *DB) MailQueued() <-chan struct{} { return db.mailed }

// WaitingMails counts the mails that are not delivered yet: those to a recipient, those
// from a cause, which is none's when it is "", and all.
func (q *queries) WaitingMails(ctx context.Context, recipient, cause string) (to, from, all int, err error) {
	err = q.getText(ctx, `SELECT
			(SELECT count(*) FROM mail WHERE state IN ('queued', 'sending') AND recipient = ?),
			(SELECT count(*) FROM mail WHERE state IN ('queued', 'sending') AND cause = ?),
			(SELECT count(*) FROM mail WHERE state IN ('queued', 'sending'))`,
		[]any{recipient, text(cause)}, &to, &from, &all)
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
	err := tx.eachText(ctx, `SELECT cause, count(*) FROM mail WHERE state = 'sending' AND next_at > ? AND cause IS NOT NULL GROUP BY cause`,
		[]any{micros(c.Now)}, func(row *sql.Rows) error {
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
		return tx.eachText(ctx, `SELECT m.id, m.recipient, m.cause FROM mail m
			WHERE m.urgent = ? AND m.state IN ('queued', 'sending') AND m.next_at <= ? AND m.expires_at > ? AND NOT EXISTS (
				SELECT 1 FROM mail s WHERE s.state = 'sending' AND s.next_at > ? AND s.recipient = m.recipient)
			ORDER BY m.pile, m.next_at, m.id LIMIT ? {FOR UPDATE SKIP LOCKED}`,
			[]any{urgent, micros(c.Now), micros(c.Now), micros(c.Now), choice}, func(row *sql.Rows) error {
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
		var m Mail
		err := tx.getText(ctx, `UPDATE mail SET state = 'sending', holder = ?, next_at = ?, attempts = attempts + 1 WHERE id = ?
			RETURNING id, recipient, kind, did, sealed, created_at, expires_at, next_at, attempts, state, last_error, urgent, pile, cause`,
			[]any{c.Holder, micros(c.Until), id}, &m.ID, &m.To, &m.Kind, orEmpty{(*string)(&m.DID)}, &m.Sealed, (*stamp)(&m.CreatedAt),
			(*stamp)(&m.ExpiresAt), (*stamp)(&m.NextAt), &m.Attempts, &m.State, orEmpty{&m.LastError}, &m.Urgent, &m.Pile, orEmpty{&m.Cause})
		if err != nil {
			return nil, wrap(err, "claim mail %d", id)
		}
		claimed = append(claimed, m)
	}
	return claimed, nil
}

// nobodys erases the recipient of a mail that is over and concerns no account, with which
// it would go.
const nobodys = `recipient = CASE WHEN did IS NULL THEN '' ELSE recipient END`

// MailSent records the delivery of a claimed mail and erases its body, and its recipient
// when it concerns no account. It returns ErrLeaseLost when the mail is not being sent.
func (tx *Tx) MailSent(ctx context.Context, id int64) error {
	err := held(tx.execText(ctx, `UPDATE mail SET state = 'sent', sent_at = ?, sealed = NULL, last_error = NULL, holder = NULL, `+nobodys+`
		WHERE id = ? AND state = 'sending'`, micros(tx.now()), id))
	return wrap(err, "mark mail %d sent", id)
}

// MailFailed records why a claimed mail could not be delivered and when to try
// again; the zero time gives it up and erases the same as MailSent. It returns ErrLeaseLost
// when the mail is not being sent.
func (tx *Tx) MailFailed(ctx context.Context, id int64, reason string, next time.Time) error {
	var err error
	if next.IsZero() {
		err = held(tx.execText(ctx, `UPDATE mail SET state = 'failed', last_error = ?, sealed = NULL, holder = NULL, `+nobodys+`
			WHERE id = ? AND state = 'sending'`, reason, id))
	} else {
		err = held(tx.execText(ctx, `UPDATE mail SET state = 'queued', last_error = ?, next_at = ?, holder = NULL
			WHERE id = ? AND state = 'sending'`, reason, micros(next), id))
	}
	return wrap(err, "mark mail %d failed", id)
}

// NextMail returns when the next mail is due and when it expires, or ErrNotFound when none
// waits.
func (q *queries) NextMail(ctx context.Context) (next, expires time.Time, err error) {
	err = q.getText(ctx, `SELECT next_at, expires_at FROM mail WHERE state IN ('queued', 'sending') ORDER BY next_at LIMIT 1`,
		nil, (*stamp)(&next), (*stamp)(&expires))
	return next, expires, wrap(err, "look for the next mail")
}

// Mails returns up to limit mails, the newest first: those whose numbers are smaller
// than before, or with 0 the last ones.
func (q *queries) Mails(ctx context.Context, before int64, limit int) ([]Mail, error) {
	var rows []mailRow
	s := q.run.bun().NewSelect().Model(&rows).Order("id DESC").Limit(int64(limit))
	if before > 0 {
		s = s.Where("id < ?", before)
	}
	if err := s.Scan(ctx); err != nil {
		return nil, wrap(err, "list mails")
	}
	mails := make([]Mail, len(rows))
	for i := range rows {
		mails[i] = rows[i].mail()
	}
	return mails, nil
}

// MailByID returns a mail, or ErrNotFound.
func (q *queries) MailByID(ctx context.Context, id int64) (*Mail, error) {
	row := mailRow{ID: id}
	if err := q.run.bun().NewSelect().Model(&row).WherePK().Scan(ctx); err != nil {
		return nil, wrap(sentinel(err), "read mail %d", id)
	}
	return new(row.mail()), nil
}
