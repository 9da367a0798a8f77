package db

import (
	"context"
	"errors"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// States of a [Quarantined].
const (
	// Held: nobody but its owner and the operator knows of the account, and the directory
	// was not told of its DID.
	Held = "held"
	// HeldSent is Held whose genesis the directory may have by now.
	HeldSent = "sent"
	// HeldShown: the directory has the DID, and the account is there for everybody, but no
	// event of it was appended.
	HeldShown = "shown"
	// HeldBrought: an account of a DID that its owner brought is there as any such, but is
	// not activated before the operator says so. Its events are appended.
	HeldBrought = "brought"
)

// Rules by which a [Quarantined] is released.
const (
	HeldUntilConfirmed = "confirmed" // its owner confirms the email address, or as below
	HeldUntilApproved  = "approved"  // the operator approves it
)

// A Quarantined is an account in quarantine: no event of one is appended, whatever
// transaction wants to, unless it is [HeldBrought].
type Quarantined struct {
	bun.BaseModel `bun:"table:quarantine,alias:q"`

	DID        syntax.DID `bun:"did,pk"`
	Rule       string     `bun:"rule"`
	State      string     `bun:"state"`
	Since      time.Time  `bun:"since"`
	Address    string     `bun:"address,nullzero"`     // the range of the address that signed up, "" for nobody's
	MailDomain string     `bun:"mail_domain,nullzero"` // of the email address that it signed up with, lower case
	Genesis    []byte     `bun:"genesis"`              // the signed operation as JSON; nil when the DID was brought
	// ClientSigned says that the genesis is the client's own, whose DID is never to be
	// ended from here.
	ClientSigned bool       `bun:"client_signed"`
	ApprovedAt   *time.Time `bun:"approved_at"`
	// NextAt is when its release may be tried, or who works on it gives up.
	NextAt   time.Time `bun:"next_at"`
	Holder   string    `bun:"holder,nullzero"` // who works on it
	Attempts int       `bun:"attempts"`
	Reason   string    `bun:"reason,nullzero"` // why it waits, where it could be released otherwise
}

// silent holds for rows of those whose events are not appended.
const silent = "q.state IN ('held', 'sent', 'shown')"

var (
	insertQuarantined = prepared(func(b *builder) bun.Query { return b.insert(new(Quarantined)) })
	selectQuarantined = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*Quarantined)(nil)).Where("did = ?", b.p())
	})
	lockQuarantined = prepared(func(b *builder) bun.Query {
		return b.lock("UPDATE", b.NewSelect().Model((*Quarantined)(nil)).Where("did = ?", b.p()))
	})
	updateQuarantined = prepared(func(b *builder) bun.Query {
		return b.setAll(b.NewUpdate(), new(Quarantined), "did").Where("did = ?", b.p())
	})
	deleteQuarantined = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*Quarantined)(nil)).Where("did = ?", b.p())
	})
	isSilent = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*Quarantined)(nil)).ColumnExpr("1").Where("q.did = ?", b.p()).Where(silent)
	})
	// What moderators or owners have switched off waits until it is on again, unless everybody
	// may have seen it.
	selectReleasable = prepared(func(b *builder) bun.Query {
		s := b.NewSelect().Model((*Quarantined)(nil)).Join("JOIN account AS a ON a.did = q.did").
			Where("q.state IN ('held', 'sent', 'shown')").Where("q.next_at <= ?", b.p()).
			Where("q.state = 'shown' OR (a.takedown_ref IS NULL AND a.deactivated_at IS NULL)").
			Where("q.state <> 'held' OR q.approved_at IS NOT NULL OR (q.rule = 'confirmed' AND a.email_confirmed_at IS NOT NULL)")
		// What was begun is finished first, then comes what the operator has approved.
		return b.limit(s, "CASE WHEN q.state <> 'held' THEN 0 WHEN q.approved_at IS NOT NULL THEN 1 ELSE 2 END, q.since, q.did")
	})
	selectUnconfirmed = prepared(func(b *builder) bun.Query {
		s := b.NewSelect().Model((*Quarantined)(nil)).Column("did").Join("JOIN account AS a ON a.did = q.did").
			Where("q.state = 'held'").Where("q.approved_at IS NULL").Where("a.email_confirmed_at IS NULL").Where("q.since <= ?", b.p())
		return b.limit(s, "q.since, q.did")
	})
	countAhead = prepared(func(b *builder) bun.Query {
		since, did := b.p(), b.p()
		return b.NewSelect().Model((*Quarantined)(nil)).ColumnExpr("count(*)").Where(silent).
			Where("q.since < ? OR (q.since = ? AND q.did < ?)", since, since, did)
	})
	sumHeld = prepared(func(b *builder) bun.Query {
		blobs := b.NewSelect().Model((*Blob)(nil)).ColumnExpr("coalesce(sum(CASE WHEN b.size < 4096 THEN 4096 ELSE b.size END), 0)").Where("b.did = a.did")
		values := b.NewSelect().Model((*Record)(nil)).ColumnExpr("coalesce(sum(length(r.value)), 0)").Where("r.did = a.did")
		return b.NewSelect().Model((*Account)(nil)).ColumnExpr("CAST((?) + (?) AS BIGINT)", blobs, values).
			Where("a.did = ?", b.p()).Where("a.held_at IS NOT NULL")
	})
	selectHeldPage = prepared(func(b *builder) bun.Query {
		s := b.heldAccounts().ColumnExpr("?TableColumns").ColumnExpr("a.handle, a.email, a.email_confirmed_at, a.status").
			Where("(q.since, q.did) > (?, ?)", b.p(), b.p())
		return b.limit(s, "q.since, q.did")
	})
	countHeld = prepared(func(b *builder) bun.Query {
		return b.heldAccounts().ColumnExpr("count(*), count(a.email_confirmed_at)")
	})
	selectSomeQuarantined = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*Quarantined)(nil)).Where("?", b.among("q.did", "text"))
	})
)

// Quarantine puts an account into quarantine, which has to be one that this transaction
// makes. Unless the state is [HeldBrought] the account is held from then on: see
// [Account.Held]. It returns ErrNotFound when there is no account.
func (tx *Tx) Quarantine(ctx context.Context, h Quarantined) error {
	_, err := tx.exec(ctx, insertQuarantined, values(&h)...)
	return wrap(err, "put %s into quarantine", h.DID)
}

// Quarantined returns the row of an account in quarantine, or ErrNotFound.
func (q *queries) Quarantined(ctx context.Context, did syntax.DID) (*Quarantined, error) {
	if !storable(string(did)) {
		return nil, wrap(ErrNotFound, "read quarantine of %q", did)
	}
	h, err := one[Quarantined](ctx, q, selectQuarantined, did)
	return h, wrap(err, "read quarantine of %s", did)
}

// LockQuarantined is Quarantined that keeps others from changing the row. Whoever locks the
// account too has done so before.
func (tx *Tx) LockQuarantined(ctx context.Context, did syntax.DID) (*Quarantined, error) {
	h, err := one[Quarantined](ctx, &tx.queries, lockQuarantined, did)
	return h, wrap(err, "lock quarantine of %s", did)
}

// UpdateQuarantined stores all of h but its DID. It returns ErrNotFound.
func (tx *Tx) UpdateQuarantined(ctx context.Context, h *Quarantined) error {
	err := found(tx.exec(ctx, updateQuarantined, append(values(h, "did"), h.DID)...))
	return wrap(err, "update quarantine of %s", h.DID)
}

// EndQuarantine removes the row of an account. Events that this transaction appends are
// stored. It returns ErrNotFound.
func (tx *Tx) EndQuarantine(ctx context.Context, did syntax.DID) error {
	err := found(tx.exec(ctx, deleteQuarantined, did))
	return wrap(err, "end quarantine of %s", did)
}

// Releasable returns up to limit accounts whose quarantine may end at now: what was begun
// first, then what is approved, the oldest first.
func (q *queries) Releasable(ctx context.Context, now time.Time, limit int) ([]Quarantined, error) {
	all, err := many[Quarantined](ctx, q, selectReleasable, now, limit)
	return all, wrap(err, "list accounts to release")
}

// UnconfirmedHeld returns up to limit accounts that have been held since before a time,
// were not approved, and have no confirmed address: the oldest first.
func (q *queries) UnconfirmedHeld(ctx context.Context, before time.Time, limit int) (all []syntax.DID, err error) {
	err = q.each(ctx, selectUnconfirmed, []any{before, limit}, func(row scanner) error {
		var did string
		err := row.Scan(&did)
		all = append(all, syntax.DID(did))
		return err
	})
	return all, wrap(err, "list unconfirmed accounts in quarantine")
}

// HeldBytes returns how many bytes the blobs of an account, temporary ones too, and the values
// of its records have together if it is held. A blob counts as 4096 bytes at least, which is
// what it takes. It reports false, and counts nothing, if it is
// not.
func (q *queries) HeldBytes(ctx context.Context, did syntax.DID) (bytes int64, held bool, err error) {
	err = q.get(ctx, sumHeld, []any{did}, &bytes)
	if errors.Is(err, ErrNotFound) {
		return 0, false, nil
	}
	return bytes, err == nil, wrap(err, "sum what %s has in quarantine", did)
}

// HeldBefore counts the accounts that are held since before h, or since the same time.
func (q *queries) HeldBefore(ctx context.Context, h *Quarantined) (int, error) {
	var n int
	err := q.get(ctx, countAhead, []any{h.Since, h.DID}, &n)
	return n, wrap(err, "count accounts in quarantine")
}

// A HeldFilter says which accounts in quarantine are meant: those of all that is not zero.
type HeldFilter struct {
	Rule       string
	Address    string // as stored
	MailDomain string // lower case
	Since      time.Time
	// Waiting are those that nothing but the operator's approval releases, Unconfirmed those
	// whose address is not confirmed.
	Waiting     bool
	Unconfirmed bool
	// Undecided are those that nobody else was told of and that the operator has not approved.
	Undecided bool
}

// heldAccounts selects the accounts in quarantine that the first parameters, see
// [HeldFilter.args], mean.
func (b *builder) heldAccounts() *bun.SelectQuery {
	rule, address, domain, since := b.p(), b.p(), b.p(), b.p()
	waiting, unconfirmed, undecided := b.p(), b.p(), b.p()
	return b.NewSelect().Model((*Quarantined)(nil)).Join("JOIN account AS a ON a.did = q.did").
		Where("? = '' OR q.rule = ?", rule, rule).Where("? = '' OR q.address = ?", address, address).
		Where("? = '' OR q.mail_domain = ?", domain, domain).Where("q.since >= ?", since).
		Where("NOT ? OR (q.rule = 'approved' AND q.approved_at IS NULL AND q.state IN ('held', 'brought'))", waiting).
		Where("NOT ? OR a.email_confirmed_at IS NULL", unconfirmed).
		Where("NOT ? OR (q.approved_at IS NULL AND q.state IN ('held', 'brought'))", undecided)
}

func (f *HeldFilter) args() []any {
	return []any{f.Rule, f.Address, f.MailDomain, f.Since.UnixMicro(), f.Waiting, f.Unconfirmed, f.Undecided}
}

func (f *HeldFilter) storable() bool {
	return storable(f.Rule) && storable(f.Address) && storable(f.MailDomain)
}

// A HeldAccount is an account in quarantine as the operator sees it.
type HeldAccount struct {
	Quarantined `bun:",extend"`

	Handle           syntax.Handle `bun:"handle,scanonly"`
	Email            string        `bun:"email,scanonly"`
	EmailConfirmedAt *time.Time    `bun:"email_confirmed_at,scanonly"`
	Status           string        `bun:"status,scanonly"` // "active", "deactivated" or "takendown"
}

// HeldAccounts returns up to limit accounts in quarantine that f means, in the order of the
// time since when, and then of their DIDs: those behind the account since after with a DID.
func (q *queries) HeldAccounts(ctx context.Context, f HeldFilter, after time.Time, did syntax.DID, limit int) ([]HeldAccount, error) {
	if !f.storable() || !storable(string(did)) {
		return nil, nil
	}
	var all []HeldAccount
	args := append(f.args(), after.UnixMicro(), did, limit)
	err := q.each(ctx, selectHeldPage, args, func(row scanner) error {
		var h HeldAccount
		handle, email := orEmpty{(*string)(&h.Handle)}, orEmpty{&h.Email}
		err := row.Scan(append(places(&h.Quarantined), handle, email, optional{&h.EmailConfirmedAt}, &h.Status)...)
		all = append(all, h)
		return err
	})
	return all, wrap(err, "list accounts in quarantine")
}

// CountHeld counts the accounts in quarantine that f means, and those of them whose address
// is confirmed.
func (q *queries) CountHeld(ctx context.Context, f HeldFilter) (all, confirmed int, err error) {
	if !f.storable() {
		return 0, 0, nil
	}
	err = q.get(ctx, countHeld, f.args(), &all, &confirmed)
	return all, confirmed, wrap(err, "count accounts in quarantine")
}

// QuarantinedOf returns the rows of those of the accounts that are in quarantine.
func (q *queries) QuarantinedOf(ctx context.Context, dids ...syntax.DID) (map[syntax.DID]Quarantined, error) {
	found, err := many[Quarantined](ctx, q, selectSomeQuarantined, list(q, dids))
	rows := make(map[syntax.DID]Quarantined, len(found))
	for _, h := range found {
		rows[h.DID] = h
	}
	return rows, wrap(err, "read quarantine of %d accounts", len(dids))
}

// hush keeps the events of an account that is being deleted, and of which nobody was told
// anything, out of the log. Where the directory may know its DID, that is looked after.
func (tx *Tx) hush(ctx context.Context, did syntax.DID) error {
	h, err := tx.LockQuarantined(ctx, did)
	if errors.Is(err, ErrNotFound) || err == nil && (h.State == HeldBrought || h.State == HeldShown) {
		return nil
	}
	if err != nil {
		return err
	}
	if tx.hushed == nil {
		tx.hushed = make(map[syntax.DID]bool)
	}
	tx.hushed[did] = true
	if h.State == Held || h.ClientSigned {
		return nil
	}
	_, err = tx.exec(ctx, insertCleanup, did, h.Genesis, tx.now(), tx.now())
	return err
}

// audible returns those of the events whose accounts are not in quarantine.
func (tx *Tx) audible(ctx context.Context, events []Event) ([]Event, error) {
	quiet := make(map[syntax.DID]bool, 1)
	kept := events[:0:0]
	for _, e := range events {
		mute, known := quiet[e.DID]
		if !known {
			var err error
			if mute = tx.hushed[e.DID]; !mute {
				if mute, err = tx.exists(ctx, isSilent, e.DID); err != nil {
					return nil, wrap(err, "look whether %s is in quarantine", e.DID)
				}
			}
			quiet[e.DID] = mute
		}
		if !mute {
			kept = append(kept, e)
		}
	}
	return kept, nil
}
