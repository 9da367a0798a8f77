package db

import (
	"context"
	"database/sql"
	"time"
)

// A HandleDomain is what an operator decided about a domain of handles.
type HandleDomain struct {
	Domain       string // in lower case, without a leading dot
	InvitePolicy string // "open", "invite" or "closed"; "" leaves it to the settings
	Removed      bool   // no handles are given there, even if the settings name it
	At           time.Time
}

// HandleDomains returns what was decided about domains, the oldest first.
func (q *queries) HandleDomains(ctx context.Context) ([]HandleDomain, error) {
	var all []HandleDomain
	err := q.eachText(ctx, `SELECT domain, invite_policy, removed, at FROM handle_domain ORDER BY at, domain`, nil,
		func(row *sql.Rows) error {
			var d HandleDomain
			err := row.Scan(&d.Domain, orEmpty{&d.InvitePolicy}, &d.Removed, (*stamp)(&d.At))
			all = append(all, d)
			return err
		})
	return all, wrap(err, "list handle domains")
}

// HoldHandleDomains keeps others from changing what is decided about domains until
// tx ends. Many transactions may hold it at a time.
func (tx *Tx) HoldHandleDomains(ctx context.Context) error {
	return tx.lockHandleDomains(ctx, `SELECT pg_advisory_xact_lock_shared(?)`)
}

// LockHandleDomains waits until nobody holds what is decided about domains, and
// keeps others from holding it until tx ends. Whoever changes it locks it first.
func (tx *Tx) LockHandleDomains(ctx context.Context) error {
	return tx.lockHandleDomains(ctx, `SELECT pg_advisory_xact_lock(?)`)
}

func (tx *Tx) lockHandleDomains(ctx context.Context, lock string) error {
	if !tx.postgres {
		return nil // there is one writer at a time
	}
	_, err := tx.execText(ctx, lock, int64(domainLock))
	return wrap(err, "lock handle domains")
}

// PutHandleDomain stores a decision about a domain in place of the one there was.
func (tx *Tx) PutHandleDomain(ctx context.Context, d HandleDomain) error {
	_, err := tx.execText(ctx, `INSERT INTO handle_domain (domain, invite_policy, removed, at) VALUES (?, ?, ?, ?)
		ON CONFLICT (domain) DO UPDATE SET invite_policy = excluded.invite_policy, removed = excluded.removed, at = excluded.at`,
		d.Domain, text(d.InvitePolicy), d.Removed, micros(d.At))
	return wrap(err, "store handle domain %s", d.Domain)
}

// HandlesAt counts the accounts, in any state, whose handle is a domain or one
// label under it, or that may get such a handle back.
func (q *queries) HandlesAt(ctx context.Context, domain string) (int, error) {
	var n int
	// Changes of handles under way are few; accounts come from their indexes.
	err := q.getText(ctx, `SELECT count(*) FROM (
		SELECT did FROM account WHERE handle_parent = ? UNION SELECT did FROM account WHERE handle = ?
		UNION SELECT did FROM handle_change WHERE before = ? OR before LIKE ? AND before NOT LIKE ?) AS at_domain`,
		[]any{domain, domain, domain, "%." + domain, "%.%." + domain}, &n)
	return n, wrap(err, "count handles at %s", domain)
}
