// Package domain keeps the domains under which this server gives handles away.
//
// The settings name those that it starts with. What an operator decides while it
// runs is laid over them: rows in the database add domains, remove them, and say
// who may take handles there. Every process of a server sees what another one
// decided within [MaxAge]; who is given a handle is checked once more in the
// transaction that gives it, by what holds at that moment.
package domain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/audit"
	"portico/impl/identity/handle"
)

// Why a domain is not added or removed.
var (
	// ErrInvalid says that no handle could be under such a domain.
	ErrInvalid = errors.New("no handle could be under such a domain")
	// ErrTopLevel says that a domain has one label: the handles under it are other people's.
	ErrTopLevel = errors.New("a top-level domain")
	// ErrUnknown says that there is no such domain.
	ErrUnknown = errors.New("no such domain")
	// ErrLast says that the domain is the only one.
	ErrLast = errors.New("the last domain")
)

// InUseError says that accounts have handles under a domain.
type InUseError struct{ Accounts int }

func (e *InUseError) Error() string { return fmt.Sprintf("%d accounts have handles there", e.Accounts) }

// MaxAge is how long after another process decided something this one may go by
// what was before.
const MaxAge = 2 * time.Second

// patience bounds the wait for the database where what was before would do.
const patience = 5 * time.Second

// Config is what the settings say.
type Config struct {
	// Configured returns what is configured at the moment. Where it begins to return
	// something else, [Domains.Forget] lets that be seen at once.
	Configured func() Configured
	Hostname   string // of this server, as clients know it
	// Twin returns the handle that goes with another one while the server moves from one
	// name to another, by what tx sees, or "". Nil: there are none.
	Twin func(ctx context.Context, tx *db.Tx, handle string) (string, error)
	Now  func() time.Time
	Log  *slog.Logger // nil: slog.Default
}

// Configured is what the settings say of domains, as long as nobody decided otherwise.
type Configured struct {
	// Domains are those to start with, each with or without a leading dot.
	Domains []string
	// InviteRequired is the policy of domains for which nobody decided one, and of
	// handles elsewhere.
	InviteRequired bool
}

// configured is what is configured now, each domain once and without a dot.
func (d *Domains) configured() Configured {
	c := d.config.Configured()
	names := make([]string, 0, len(c.Domains))
	for _, name := range c.Domains {
		if name = plain(name); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	c.Domains = names
	return c
}

func (c Configured) policy() handle.Policy {
	if c.InviteRequired {
		return handle.Invite
	}
	return handle.Open
}

// Domains are those of a running server. They are safe for concurrent use.
type Domains struct {
	db      *db.DB
	config  Config
	current atomic.Pointer[reading]
	turn    sync.Mutex // to read anew
}

// reading is what was decided at a time.
type reading struct {
	domains *handle.Domains
	at      time.Time
	stale   bool
}

// Open returns the domains of a server after it has read what was decided about
// them.
func Open(ctx context.Context, store *db.DB, c Config) (*Domains, error) {
	c.Log = cmp.Or(c.Log, slog.Default())
	d := &Domains{db: store, config: c}
	at := c.Now()
	rows, err := store.HandleDomains(ctx)
	if err != nil {
		return nil, err
	}
	domains := d.overlay(rows)
	if len(domains.All()) == 0 {
		c.Log.WarnContext(ctx, "every domain of handles was removed: nobody can sign up for one", "configured", d.configured().Domains)
	}
	d.current.Store(&reading{domains: domains, at: at})
	return d, nil
}

// Current returns the domains as they are now, or were at most MaxAge ago if it is
// another process that changed them. While the database does not answer, they stay
// as they were. It costs nothing but once in MaxAge.
func (d *Domains) Current(ctx context.Context) *handle.Domains {
	if r := d.current.Load(); d.fresh(r) {
		return r.domains
	}
	d.turn.Lock()
	defer d.turn.Unlock()
	r := d.current.Load()
	if d.fresh(r) {
		return r.domains // somebody was faster
	}
	// Others wait for this too, so it does not end with one caller.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	next := &reading{domains: r.domains, at: d.config.Now()}
	if rows, err := d.db.HandleDomains(ctx); err == nil {
		next.domains = d.overlay(rows)
	} else {
		d.config.Log.ErrorContext(ctx, "domains of handles not read anew", "error", err)
		next.at = d.config.Now() // those who wait do not each find out in their turn
	}
	d.current.Store(next)
	return next.domains
}

func (d *Domains) fresh(r *reading) bool {
	age := d.config.Now().Sub(r.at)
	return !r.stale && 0 <= age && age < MaxAge
}

// Forget makes whoever asks next see what has just been committed.
func (d *Domains) Forget() {
	d.turn.Lock() // a reading under way may have begun before the commit
	defer d.turn.Unlock()
	r := *d.current.Load()
	r.stale = true
	d.current.Store(&r)
}

// overlay lays what was decided over what is configured.
func (d *Domains) overlay(rows []db.HandleDomain) *handle.Domains {
	decided := make(map[string]db.HandleDomain, len(rows))
	for _, row := range rows {
		decided[row.Domain] = row
	}
	var list []handle.Domain
	var removed []string
	c := d.configured()
	for _, name := range c.Domains {
		if row := decided[name]; !row.Removed {
			list = append(list, c.domain(name, row))
		}
	}
	for _, row := range rows {
		if row.Removed {
			removed = append(removed, row.Domain)
		} else if !slices.Contains(c.Domains, row.Domain) {
			list = append(list, c.domain(row.Domain, row))
		}
	}
	return handle.NewDomains(d.config.Hostname, c.policy(), list, removed...)
}

// domain is the one of a name about which row, which may be zero, was decided.
func (c Configured) domain(name string, row db.HandleDomain) handle.Domain {
	policy := handle.Policy(row.InvitePolicy)
	if policy == "" {
		policy = c.policy()
	}
	return handle.Domain{
		Name: name, Policy: policy, Configured: slices.Contains(c.Domains, name), DecidedAt: row.At,
	}
}

// Hold returns the domain of a name as it is now, and keeps it so until tx ends, in which
// did, "" for a new account, gets the handle h there. It returns handle.ErrUnsupportedDomain
// when there is no such domain, and db.ErrHandleTaken when another account has h under the
// other name of a server that moves, and so is to have h.
func (d *Domains) Hold(ctx context.Context, tx *db.Tx, name string, h syntax.Handle, did syntax.DID) (handle.Domain, error) {
	if err := tx.HoldHandleDomains(ctx); err != nil {
		return handle.Domain{}, err
	}
	rows, err := tx.HandleDomains(ctx)
	if err != nil {
		return handle.Domain{}, err
	}
	domain, ok := d.overlay(rows).Named(name)
	if !ok {
		return handle.Domain{}, handle.ErrUnsupportedDomain
	}
	// Of the domains of a move both were decided about.
	if d.config.Twin == nil || domain.DecidedAt.IsZero() {
		return domain, nil
	}
	twin, err := d.config.Twin(ctx, tx, h.String())
	if err == nil && twin != "" {
		err = tx.HandleFree(ctx, syntax.Handle(twin), did)
	}
	return domain, err
}

// Replace lets handles be taken under to instead of from, by the policy that from had,
// which it returns. Those under from stay, and resolve. It returns ErrUnknown where from is
// no domain of handles, and ErrInvalid or ErrTopLevel where to cannot be one. After the
// commit the caller calls [Domains.Forget].
func (d *Domains) Replace(ctx context.Context, tx *db.Tx, from, to string) (handle.Policy, error) {
	rows, err := d.lock(ctx, tx)
	if err != nil {
		return "", err
	}
	old, ok := d.overlay(rows).Named(from)
	if !ok {
		return "", ErrUnknown
	}
	if _, err := parse(to); err != nil {
		return "", err
	}
	policy := old.Policy
	return policy, d.exchange(ctx, tx, from, to, policy)
}

// PutBack is Replace the other way round, with the policy that it returned. Handles are
// taken under from again, and those under to stay, and resolve.
func (d *Domains) PutBack(ctx context.Context, tx *db.Tx, from, to string, policy handle.Policy) error {
	if _, err := d.lock(ctx, tx); err != nil {
		return err
	}
	return d.exchange(ctx, tx, to, from, policy)
}

func (d *Domains) exchange(ctx context.Context, tx *db.Tx, from, to string, policy handle.Policy) error {
	now := d.config.Now()
	for _, row := range []db.HandleDomain{{Domain: to, InvitePolicy: string(policy)}, {Domain: from, InvitePolicy: string(handle.Closed)}} {
		row.At = now
		if err := tx.PutHandleDomain(ctx, row); err != nil {
			return err
		}
		if err := audit.Record(ctx, tx, now, "", audit.DomainChanged, row.Domain+", "+row.InvitePolicy); err != nil {
			return err
		}
	}
	return nil
}

// Retire removes a domain under which no account has a handle any more, and keeps it
// closed otherwise.
func (d *Domains) Retire(ctx context.Context, tx *db.Tx, name string) error {
	if _, err := d.lock(ctx, tx); err != nil {
		return err
	}
	accounts, err := tx.HandlesAt(ctx, name)
	if err != nil || accounts > 0 {
		return err
	}
	if err := tx.PutHandleDomain(ctx, db.HandleDomain{Domain: name, Removed: true, At: d.config.Now()}); err != nil {
		return err
	}
	return audit.Record(ctx, tx, d.config.Now(), "", audit.DomainRemoved, name)
}

// Put adds a domain, given with or without a leading dot, or decides its policy.
// With no policy one that is there stays as it is, and a new one follows the
// settings. It returns ErrInvalid or ErrTopLevel.
func (d *Domains) Put(ctx context.Context, text string, policy handle.Policy) (handle.Domain, error) {
	name, err := parse(text)
	if err != nil {
		// One that the settings insist on may be given a policy all the same.
		if name = plain(text); !slices.Contains(d.configured().Domains, name) {
			return handle.Domain{}, err
		}
	}
	var put handle.Domain
	err = d.db.Write(ctx, func(tx *db.Tx) error {
		rows, err := d.lock(ctx, tx)
		if err != nil {
			return err
		}
		there, ok := d.overlay(rows).Named(name)
		i := slices.IndexFunc(rows, func(r db.HandleDomain) bool { return r.Domain == name })
		row := db.HandleDomain{Domain: name, At: d.config.Now()}
		if i >= 0 && !rows[i].Removed {
			row = rows[i] // which keeps its place among the others
		}
		if ok && (policy == "" || row.InvitePolicy == string(policy)) {
			put = there
			return nil
		}
		row.InvitePolicy = string(policy)
		put = d.configured().domain(name, row)
		if err := tx.PutHandleDomain(ctx, row); err != nil {
			return err
		}
		event := audit.DomainAdded
		if ok {
			event = audit.DomainChanged
		}
		return audit.Record(ctx, tx, d.config.Now(), "", event, name+", "+string(put.Policy))
	})
	if err != nil {
		return handle.Domain{}, fmt.Errorf("put domain %s: %w", name, err)
	}
	d.Forget()
	return put, nil
}

// Remove gives no more handles under a domain, also after the next start. Unless
// force is set, it returns *InUseError while accounts have handles there; with it,
// those no longer resolve here. It returns ErrUnknown, and ErrLast when no other
// domain is there.
func (d *Domains) Remove(ctx context.Context, text string, force bool) error {
	name := plain(text)
	err := d.db.Write(ctx, func(tx *db.Tx) error {
		rows, err := d.lock(ctx, tx)
		if err != nil {
			return err
		}
		now := d.overlay(rows)
		if _, ok := now.Named(name); !ok {
			return ErrUnknown
		}
		if len(now.All()) == 1 {
			return ErrLast
		}
		accounts, err := tx.HandlesAt(ctx, name)
		if err != nil {
			return err
		}
		if accounts > 0 && !force {
			return &InUseError{accounts}
		}
		if err := tx.PutHandleDomain(ctx, db.HandleDomain{Domain: name, Removed: true, At: d.config.Now()}); err != nil {
			return err
		}
		detail := name
		if accounts > 0 {
			detail = fmt.Sprintf("%s, where %d accounts had handles", name, accounts)
		}
		return audit.Record(ctx, tx, d.config.Now(), "", audit.DomainRemoved, detail)
	})
	if err != nil {
		return fmt.Errorf("remove domain %q: %w", name, err)
	}
	d.Forget()
	return nil
}

// lock returns what is decided, which nobody else changes until tx ends.
func (d *Domains) lock(ctx context.Context, tx *db.Tx) ([]db.HandleDomain, error) {
	if err := tx.LockHandleDomains(ctx); err != nil {
		return nil, err
	}
	return tx.HandleDomains(ctx)
}

func plain(text string) string { return strings.ToLower(strings.TrimPrefix(text, ".")) }

// parse returns the name of a domain under which handles can be.
func parse(text string) (string, error) {
	name := plain(text)
	h, err := handle.Normalize("abc." + name)
	if err != nil || !h.AllowedTLD() {
		return "", ErrInvalid
	}
	// Of those, only the one for tests is nobody's.
	if !strings.Contains(name, ".") && name != "test" {
		return "", ErrTopLevel
	}
	return name, nil
}
