// Package outbox gets letters to the mail server.
//
// A letter is queued in the transaction of its cause, so that neither is there
// without the other, and sent afterwards by a worker: who asks for a letter waits
// for no mail server, and learns nothing of what that says. Letters rest sealed,
// and their bodies are erased once they are delivered, expired or refused for
// good.
//
// Letters that people wait for, those with codes, leave before all others, and have
// places of their own. Among equals those go first that found fewer letters waiting to the
// same recipient or from the same cause, and one recipient has one conversation at a time:
// nobody's pile delays somebody else's letter. Piles have an end too, see [ErrFull].
//
// A letter is sent at least once: when a mail server's receipt is lost, or a process
// dies between receipt and record, it goes out again, under the same Message-ID.
package outbox

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	mathrand "math/rand/v2"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/audit"
	"portico/impl/budget"
	"portico/impl/keyring"
	"portico/impl/mail"
)

// Sender hands letters to a mail server; *mail.SMTP is one. An error that is a
// permanent *mail.Error ends the attempts.
type Sender interface {
	Send(ctx context.Context, l mail.Letter) error
}

const (
	// lease is for how long a claimed letter belongs to this process; it is longer
	// than deadline, so that nobody else sends a letter that is under way.
	lease    = 5 * time.Minute
	deadline = 4 * time.Minute
	// grace is how long a stop waits for conversations under way.
	grace = 10 * time.Second
	// poll is how long the queue is left alone when nothing wakes the worker, for
	// wakings from other processes may get lost.
	poll = 30 * time.Second
	// breath is between two looks at a queue in which something is due and can't
	// be had.
	breath = time.Second

	firstRetry = 5 * time.Second
	lastRetry  = 15 * time.Minute

	defaultConcurrency = 4
	// perCause is how many letters of one cause are sent at a time.
	perCause = 2

	// maxTo, maxFrom and maxOthers are how many letters may wait to one recipient, from one
	// cause, and in all that carry no code.
	maxTo     = 100
	maxFrom   = 200
	maxOthers = 20_000
)

// ErrFull says that too many letters wait already.
var ErrFull = errors.New("too many letters wait in the outbox")

// Outbox queues letters and sends them. Its fields are set before first use and
// not changed; its methods are safe for concurrent use, and several processes
// may each run one on the same database.
type Outbox struct {
	DB   *db.DB
	Keys *keyring.Ring
	// Sender returns the way to the mail server at the moment. Where it is or returns nil there
	// is none, and letters stay until they expire or there is one.
	Sender func() Sender
	// Holder names this process in leases; no two processes share a name.
	Holder string
	// Concurrency is how many letters are sent at a time; zero is 4.
	Concurrency int
	Now         func() time.Time
	// Chance spreads retries: it gives numbers from [0, 1). Nil is math/rand.
	Chance func() float64
	Log    *slog.Logger
	// Observe is told of each attempt when it is over. It may be nil.
	Observe func(ctx context.Context, a Attempt)
}

// An Attempt is a conversation with the mail server about one letter.
type Attempt struct {
	Outcome string // one of the constants
	Began   time.Time
	Took    time.Duration
}

// The outcomes of attempts.
const (
	Sent    = "sent"
	Failed  = "failed"  // there will be another attempt, or the letter expires
	Refused = "refused" // for good
)

// purpose separates sealed letters from all else that is sealed, and letters of
// one kind from those of another.
func purpose(kind string) string { return "mail/" + kind }

// Reseal returns the body of m sealed with the current key of keys. Errors are those of
// package keyring.
func Reseal(keys *keyring.Ring, m *db.Mail) ([]byte, error) {
	return keys.Reseal(purpose(m.Kind), m.DID.String(), m.Sealed)
}

// Post queues l, which is about the account did ("" for none), in the caller's
// transaction. It is not sent any more from expires on. The worker hears of it
// when the transaction commits.
//
// The cause of the letter is who acts in ctx, see package audit. Post returns ErrFull, and
// queues nothing, when too many letters wait to its recipient, or from its cause unless
// that is the operator, or in all.
func (o *Outbox) Post(ctx context.Context, tx *db.Tx, did syntax.DID, kind string, l mail.Letter, expires time.Time) error {
	l.ID = cmp.Or(l.ID, rand.Text())
	m := &db.Mail{
		To: l.To, Kind: kind, DID: did, CreatedAt: o.Now(), ExpiresAt: expires, Urgent: mail.Urgent(kind), Cause: o.cause(ctx),
	}
	to, from, all, err := tx.WaitingMails(ctx, m.To, m.Cause)
	if err != nil {
		return fmt.Errorf("post %s letter: %w", kind, err)
	}
	byOperator := audit.From(ctx).Actor == audit.Admin
	if to >= maxTo || from >= maxFrom && !byOperator || all >= maxOthers && !m.Urgent {
		return ErrFull
	}
	m.Pile = max(to, from)
	body, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("post %s letter: %w", kind, err)
	}
	m.Sealed, err = o.Keys.Seal(purpose(kind), did.String(), body)
	if err != nil {
		return fmt.Errorf("post %s letter: %w", kind, err)
	}
	if err := tx.QueueMail(ctx, m); err != nil {
		return fmt.Errorf("post %s letter: %w", kind, err)
	}
	return nil
}

// cause is the key of whoever acts in ctx, the address of one who has not shown who it is:
// a keyed hash, for addresses do not stay in the outbox. The server itself causes nothing.
func (o *Outbox) cause(ctx context.Context) string {
	who := audit.From(ctx)
	name := who.Actor
	switch name {
	case audit.Server:
		return ""
	case audit.Stranger:
		ip, err := netip.ParseAddr(who.Address)
		if err != nil {
			return ""
		}
		name = budget.Address(ip)
	}
	mac := o.Keys.MAC("mail-cause", []byte(name))
	return hex.EncodeToString(mac[:16])
}

// announcementLife is how long an announcement is worth sending.
const announcementLife = 3 * 24 * time.Hour

// Announce queues a letter that tells an owner what happened to the account. An
// account without an address has nobody to tell, and what happened is no less true
// when too many letters wait.
func (o *Outbox) Announce(ctx context.Context, tx *db.Tx, did syntax.DID, kind string, l mail.Letter) error {
	if l.To == "" {
		return nil
	}
	err := o.Post(ctx, tx, did, kind, l, o.Now().Add(announcementLife))
	if errors.Is(err, ErrFull) {
		o.Log.InfoContext(ctx, "announcement left out", "kind", kind, "did", did, "reason", err)
		return nil
	}
	return err
}

// Named is how a letter calls an account.
func Named(a *db.Account) string {
	if a.Handle == "" {
		return a.Email
	}
	return a.Handle.String()
}

// List returns what the outbox knows of letters, up to limit, the newest first: those
// queued before the one of that number, or with 0 the last ones.
func (o *Outbox) List(ctx context.Context, before int64, limit int) ([]db.Mail, error) {
	mails, err := o.DB.Mails(ctx, before, limit)
	if err != nil {
		return nil, fmt.Errorf("list outbox: %w", err)
	}
	return mails, nil
}

// Read returns what the outbox knows of a letter, and the letter itself, codes
// included, or nil when its body is erased. An unknown id is db.ErrNotFound; a body
// that can't be opened is an error of package keyring, and the rest is returned
// even so.
func (o *Outbox) Read(ctx context.Context, id int64) (*db.Mail, *mail.Letter, error) {
	m, err := o.DB.MailByID(ctx, id)
	if err != nil {
		return nil, nil, fmt.Errorf("read outbox: %w", err)
	}
	if m.Sealed == nil {
		return m, nil, nil
	}
	l, err := o.open(m)
	if err != nil {
		return m, nil, fmt.Errorf("read outbox: letter %d: %w", id, err)
	}
	return m, l, nil
}

func (o *Outbox) open(m *db.Mail) (*mail.Letter, error) {
	body, err := o.Keys.Open(purpose(m.Kind), m.DID.String(), m.Sealed)
	if err != nil {
		return nil, err
	}
	var l mail.Letter
	if err := json.Unmarshal(body, &l); err != nil {
		return nil, fmt.Errorf("%w: %w", keyring.ErrSealed, err)
	}
	return &l, nil
}

// Run sends letters until ctx is done, and returns when the conversations then
// under way have ended or ten seconds are over; a letter whose conversation was
// cut off is left for the next run.
func (o *Outbox) Run(ctx context.Context) {
	o.takeBack(ctx)

	// Conversations outlive ctx for a while.
	talking, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	slots := cmp.Or(o.Concurrency, defaultConcurrency)
	ended := make(chan db.Mail, slots)
	running, others := 0, 0
	look := true
	for ctx.Err() == nil {
		sends := o.sender() != nil
		if !sends {
			if err := o.expire(ctx); err != nil && ctx.Err() == nil {
				o.Log.ErrorContext(ctx, "outbox", "error", err)
			}
		} else if look && running < slots {
			// A place is left for letters with codes.
			claimed, err := o.claim(ctx, slots-running, max(0, max(1, slots-1)-others))
			if err != nil && ctx.Err() == nil {
				o.Log.ErrorContext(ctx, "outbox", "error", err)
			}
			for _, m := range claimed {
				running++
				if !m.Urgent {
					others++
				}
				go func() {
					defer func() { ended <- m }()
					o.deliver(talking, m)
				}()
			}
		}
		var due <-chan time.Time
		switch {
		case !sends:
			due = time.After(poll)
		case running < slots:
			due = time.After(o.pause(ctx, look))
		}
		select {
		case <-ctx.Done():
		case m := <-ended:
			running--
			if !m.Urgent {
				others--
			}
			look = true // others may have waited for its slot, or to the same recipient
		case <-o.DB.MailQueued():
			look = true
		case <-due:
			look = true
		}
	}

	late := time.AfterFunc(grace, hangUp)
	defer late.Stop()
	for range running {
		<-ended
	}
}

func (o *Outbox) sender() Sender {
	if o.Sender == nil {
		return nil
	}
	return o.Sender()
}

// errNoServer is of a letter that was taken while there was a mail server.
var errNoServer = errors.New("there is no mail server any more")

// takeBack queues again what a process that died was sending, where nobody else can
// be sending it. Elsewhere the lease has to run out.
func (o *Outbox) takeBack(ctx context.Context) {
	if !o.DB.Exclusive() {
		return
	}
	err := o.DB.Write(ctx, func(tx *db.Tx) error {
		// Those that were under way are among the last ones, but for retries of
		// older letters, which can wait.
		mails, err := tx.Mails(ctx, 0, 1000)
		if err != nil {
			return err
		}
		for _, m := range mails {
			if m.State == db.MailStateSending {
				if err := tx.MailFailed(ctx, m.ID, "interrupted", o.Now()); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		o.Log.ErrorContext(ctx, "outbox", "error", fmt.Errorf("take back interrupted letters: %w", err))
	}
}

// claim takes up to limit letters to send, up to others of them without a code.
func (o *Outbox) claim(ctx context.Context, limit, others int) (claimed []db.Mail, err error) {
	err = o.DB.Write(ctx, func(tx *db.Tx) (err error) {
		now := o.Now()
		claimed, err = tx.ClaimMails(ctx, db.MailClaim{
			Holder: o.Holder, Now: now, Until: now.Add(lease), Limit: limit, Others: others, PerCause: perCause,
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("claim letters: %w", err)
	}
	return claimed, nil
}

// pause is how long the queue can be left alone. What is due right after a look
// that could have had more is over.
func (o *Outbox) pause(ctx context.Context, looked bool) time.Duration {
	next, expires, err := o.DB.NextMail(ctx)
	if errors.Is(err, db.ErrNotFound) {
		return poll
	}
	wait := next.Sub(o.Now())
	if err == nil && wait <= 0 {
		if !looked {
			return 0
		}
		wait = breath
		if !o.Now().Before(expires) {
			err = o.expire(ctx)
		}
	}
	if err != nil {
		if ctx.Err() == nil {
			o.Log.ErrorContext(ctx, "outbox", "error", err)
		}
		return breath
	}
	return min(wait, poll)
}

// expire gives up what is over and erases it.
func (o *Outbox) expire(ctx context.Context) error {
	err := o.DB.WriteAlone(ctx, func(tx *db.Tx) error { return tx.Purge(ctx, o.Now()) })
	if err != nil {
		return fmt.Errorf("expire letters: %w", err)
	}
	return nil
}

// deliver makes one attempt at a claimed letter and records what came of it.
func (o *Outbox) deliver(ctx context.Context, m db.Mail) {
	began := o.Now()
	err := o.send(ctx, &m)
	took := o.Now().Sub(began)
	log := o.Log.With("id", m.ID, "kind", m.Kind, "did", m.DID, "attempt", m.Attempts, "took_ms", took.Milliseconds())
	if o.Observe != nil {
		outcome := Sent
		switch {
		case err != nil && permanent(err):
			outcome = Refused
		case err != nil:
			outcome = Failed
		}
		o.Observe(ctx, Attempt{outcome, began, took})
	}
	if err == nil {
		o.record(ctx, &m, func(ctx context.Context, tx *db.Tx) error { return tx.MailSent(ctx, m.ID) })
		log.InfoContext(ctx, "mail sent")
		return
	}

	// A mail server may quote the letter that it refuses.
	reason := mail.Redact(err.Error())
	var next time.Time
	if !permanent(err) {
		next = o.retry(&m)
	}
	if ctx.Err() != nil {
		next = o.Now() // a stop is no failure
	}
	o.record(ctx, &m, func(ctx context.Context, tx *db.Tx) error { return tx.MailFailed(ctx, m.ID, reason, next) })
	if next.IsZero() {
		log.InfoContext(ctx, "mail refused", "error", reason) // mostly an address that somebody made up
	} else {
		log.WarnContext(ctx, "mail not sent", "error", reason, "next", next)
	}
}

func (o *Outbox) send(ctx context.Context, m *db.Mail) (err error) {
	defer func() {
		if p := recover(); p != nil {
			o.Log.ErrorContext(ctx, "outbox", "panic", mail.Redact(fmt.Sprint(p)), "stack", string(debug.Stack()))
			err = errors.New("panic while sending")
		}
	}()
	l, err := o.open(m)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	sender := o.sender()
	if sender == nil {
		return errNoServer
	}
	return sender.Send(ctx, *l)
}

// permanent says that another attempt would end like this one.
func permanent(err error) bool {
	if e, ok := errors.AsType[*mail.Error](err); ok {
		return e.Permanent
	}
	// A key that is missing may be configured again; damage stays.
	return errors.Is(err, keyring.ErrSealed)
}

// retry is when to try again after the attempt counted last: after 5 seconds,
// then twice as long each time, up to 15 minutes, spread by a quarter so that
// what failed together does not come back together. At its expiry a letter is
// looked at for the last time, to erase it. Ours because modules for this count the
// attempts, which here the database does.
func (o *Outbox) retry(m *db.Mail) time.Time {
	chance := mathrand.Float64
	if o.Chance != nil {
		chance = o.Chance
	}
	wait := min(float64(firstRetry)*math.Pow(2, float64(m.Attempts-1)), float64(lastRetry))
	wait *= 0.75 + chance()/2
	next := o.Now().Add(time.Duration(wait))
	if next.After(m.ExpiresAt) {
		return m.ExpiresAt
	}
	return next
}

// record writes what came of an attempt, also when the server is stopping: what is
// not recorded is sent again.
func (o *Outbox) record(ctx context.Context, m *db.Mail, write func(context.Context, *db.Tx) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	var err error
	for range 3 {
		err = o.DB.Write(ctx, func(tx *db.Tx) error { return write(ctx, tx) })
		if err == nil {
			return
		}
		if errors.Is(err, db.ErrLeaseLost) {
			break // somebody else sent it, or the account is gone and its letters too
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	o.Log.ErrorContext(ctx, "outbox", "id", m.ID, "error", fmt.Errorf("record attempt: %w", err))
}
