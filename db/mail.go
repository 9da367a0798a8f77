package db

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
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
}

func (r *mailRow) mail() Mail {
	return Mail{
		ID: r.ID, To: r.Recipient, Kind: r.Kind, DID: r.DID, Sealed: r.Sealed,
		CreatedAt: time.Time(r.CreatedAt), ExpiresAt: time.Time(r.ExpiresAt), NextAt: time.Time(r.NextAt),
		Attempts: r.Attempts, State: r.State, LastError: r.LastError, SentAt: r.SentAt.pointer(),
	}
}

// QueueMail puts m into the outbox and sets its ID and State. A zero NextAt means
// at once. Workers are woken when the transaction commits.
func (tx *Tx) QueueMail(ctx context.Context, m *Mail) error {
	if m.NextAt.IsZero() {
		m.NextAt = m.CreatedAt
	}
	m.State = MailStateQueued
	err := tx.get(ctx, `INSERT INTO mail (recipient, kind, did, sealed, created_at, expires_at, next_at, state)
		VALUES (?, ?, ?, ?, ?, ?, ?, 'queued') RETURNING id`,
		[]any{m.To, m.Kind, text(m.DID), m.Sealed, micros(m.CreatedAt), micros(m.ExpiresAt), micros(m.NextAt)}, &m.ID)
	if err != nil {
		return wrap(err, "queue mail")
	}
	tx.mailed = true
	if tx.postgres {
		// For the workers of other processes; one notification a transaction.
		_, err = tx.exec(ctx, `SELECT pg_notify('`+mailChannel+`', '')`)
	}
	return wrap(err, "announce mail")
}

// SealedMails returns up to limit mails whose bodies are not erased, in the order of
// their ids, those after the given one: the way to seal all of them anew. They have
// ID, Kind, DID and Sealed.
func (q *queries) SealedMails(ctx context.Context, after int64, limit int) ([]Mail, error) {
	var mails []Mail
	err := q.each(ctx, `SELECT id, kind, did, sealed FROM mail WHERE id > ? AND sealed IS NOT NULL ORDER BY id LIMIT ?`,
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
	_, err := tx.exec(ctx, `UPDATE mail SET sealed = ? WHERE id = ? AND sealed IS NOT NULL`, sealed, m.ID)
	return wrap(err, "reseal mail %d", m.ID)
}

// MailQueued wakes the one who receives from it after mails were queued, by this
// process or, on Postgres, by another one. Wakings that nobody waits for are
// kept as one. Some may get lost: look at the outbox now and then without.
func (db *DB) MailQueued() <-chan struct{} { return db.mailed }

// ClaimMails gives holder up to limit mails that are due at now and not expired,
// until the given time, and counts an attempt for each. A mail whose sender's
// time ran out is due again. No two holders get the same one.
func (tx *Tx) ClaimMails(ctx context.Context, holder string, now, until time.Time, limit int) ([]Mail, error) {
	var claimed []Mail
	err := tx.each(ctx, `WITH due AS MATERIALIZED (
			SELECT id FROM mail WHERE state IN ('queued', 'sending') AND next_at <= ? AND expires_at > ?
			ORDER BY next_at, id LIMIT ? {FOR UPDATE SKIP LOCKED})
		UPDATE mail SET state = 'sending', holder = ?, next_at = ?, attempts = attempts + 1
		WHERE id IN (SELECT id FROM due)
		RETURNING id, recipient, kind, did, sealed, created_at, expires_at, next_at, attempts, state, last_error`,
		[]any{micros(now), micros(now), limit, holder, micros(until)},
		func(row *sql.Rows) error {
			var m Mail
			err := row.Scan(&m.ID, &m.To, &m.Kind, orEmpty{(*string)(&m.DID)}, &m.Sealed, (*stamp)(&m.CreatedAt),
				(*stamp)(&m.ExpiresAt), (*stamp)(&m.NextAt), &m.Attempts, &m.State, orEmpty{&m.LastError})
			claimed = append(claimed, m)
			return err
		})
	slices.SortFunc(claimed, func(a, b Mail) int { return cmp.Compare(a.ID, b.ID) })
	return claimed, wrap(err, "claim mails")
}

// MailSent records the delivery of a claimed mail and erases its body. It
// returns ErrLeaseLost when the mail is not being sent.
func (tx *Tx) MailSent(ctx context.Context, id int64) error {
	err := held(tx.exec(ctx, `UPDATE mail SET state = 'sent', sent_at = ?, sealed = NULL, last_error = NULL, holder = NULL
		WHERE id = ? AND state = 'sending'`, micros(tx.now()), id))
	return wrap(err, "mark mail %d sent", id)
}

// MailFailed records why a claimed mail could not be delivered and when to try
// again; the zero time gives it up and erases its body. It returns ErrLeaseLost
// when the mail is not being sent.
func (tx *Tx) MailFailed(ctx context.Context, id int64, reason string, next time.Time) error {
	var err error
	if next.IsZero() {
		err = held(tx.exec(ctx, `UPDATE mail SET state = 'failed', last_error = ?, sealed = NULL, holder = NULL
			WHERE id = ? AND state = 'sending'`, reason, id))
	} else {
		err = held(tx.exec(ctx, `UPDATE mail SET state = 'queued', last_error = ?, next_at = ?, holder = NULL
			WHERE id = ? AND state = 'sending'`, reason, micros(next), id))
	}
	return wrap(err, "mark mail %d failed", id)
}

// NextMail returns when the next mail is due, or ErrNotFound when none waits.
func (q *queries) NextMail(ctx context.Context) (time.Time, error) {
	var next time.Time
	err := q.get(ctx, `SELECT next_at FROM mail WHERE state IN ('queued', 'sending') ORDER BY next_at LIMIT 1`, nil, (*stamp)(&next))
	return next, wrap(err, "look for the next mail")
}

// Mails returns up to limit mails, the newest first.
func (q *queries) Mails(ctx context.Context, limit int) ([]Mail, error) {
	var rows []mailRow
	if err := q.run.bun().NewSelect().Model(&rows).Order("id DESC").Limit(int64(limit)).Scan(ctx); err != nil {
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
