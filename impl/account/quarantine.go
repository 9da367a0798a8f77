package account

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"golang.org/x/net/publicsuffix"

	"portico/db"
	"portico/impl/audit"
	"portico/impl/budget"
	"portico/impl/identity/plc"
	"portico/impl/repo/car"
	"portico/impl/repo/event"
	"portico/impl/repo/store"
)

// A Quarantine keeps new accounts from others until it is known that somebody is behind
// them. The owner signs in and writes; to everybody else but the operator the account does
// not exist. Its genesis is signed, so that the DID is known, and kept: neither the
// directory nor the firehose hears of the account before its release, and so nothing is
// left of one that is deleted.
//
// The release is the rest of the saga that makes an account:
//
//	register  the genesis goes to the directory
//	show      the account is there for everybody, its handle and blobs with it
//	amend     the DID gets the rotation key or host name that the server has got meanwhile
//	announce  one transaction signs a commit anew and tells the network of all there is
//
// Whoever releases an account holds its lease, as during creation; what a crash leaves is
// taken up from the state that it was left in.
//
// Relays take only so many accounts of a server, so releases are metered: so many an hour,
// and so many a day whose addresses are at one mail domain or below it, unless that is one of
// the large providers. What is above the latter waits for the operator.
type Quarantine struct {
	// Terms returns what holds at the moment; nil: the zero value.
	Terms func() Terms

	ready wakeup
}

// Terms are what the operator decides about quarantine.
type Terms struct {
	// Rule is by what those who sign up from now on are released: db.HeldUntilConfirmed or
	// db.HeldUntilApproved. With "" they are not held. Who is held already stays so by the
	// rule of that time.
	Rule string
	// Releases is how many accounts are released in an hour; 0: [DefaultReleases].
	Releases int
	// LargeMailDomains are domains of mail, in lower case, that everybody has addresses at,
	// beside those that are known as such.
	LargeMailDomains []string
}

func (q *Quarantine) terms() Terms {
	if q.Terms == nil {
		return Terms{}
	}
	return q.Terms()
}

// Rule is that by which those who sign up now are held, "" where they are not.
func (q *Quarantine) Rule() string { return q.terms().Rule }

// DefaultReleases is far below what a relay takes from a server that it does not know.
const DefaultReleases = 20

const (
	// unconfirmedFor is how long an account is held whose owner does not confirm the address.
	unconfirmedFor = 7 * 24 * time.Hour
	// releasePause is the time after the first attempt to release an account that failed; it
	// doubles with each, up to an hour or so.
	releasePause = time.Minute
	// maxRefusals is how often a release is tried that the directory refuses; then the account
	// waits for the operator, and keeps nobody else from being released.
	maxRefusals = 20
)

// AddressRange is the range of addresses that ip is one of for who looks through accounts in
// quarantine: the /24 of IPv4, the /48 of IPv6, "" for an address that is nobody's.
func (a *Accounts) AddressRange(ip netip.Addr) string {
	if a.Budgets.Nobody(ip) {
		return ""
	}
	return RangeOf(ip)
}

// RangeOf is AddressRange for an address that is somebody's.
func RangeOf(ip netip.Addr) string {
	ip, bits := ip.Unmap().WithZone(""), 24
	if ip.Is6() {
		bits = 48
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return ""
	}
	return p.String()
}

// hold is what is stored of an account that begins in quarantine.
func (a *Accounts) hold(d *draft, r Request) (*db.Quarantined, error) {
	if r.Quarantine == "" || d.genesis == nil && r.Quarantine != db.HeldUntilApproved {
		return nil, nil
	}
	h := &db.Quarantined{
		DID: d.account.DID, Rule: r.Quarantine, State: db.Held, Since: d.account.CreatedAt, NextAt: d.account.CreatedAt,
		Address: r.AddressRange, MailDomain: mailDomain(r.Email), ClientSigned: r.Genesis != nil,
	}
	if d.genesis == nil {
		h.State = db.HeldBrought
		return h, nil
	}
	d.account.HeldAt = new(d.account.CreatedAt)
	var err error
	if h.Genesis, err = json.Marshal(d.genesis); err != nil {
		return nil, fmt.Errorf("encode genesis: %w", err)
	}
	return h, nil
}

func mailDomain(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }

// Approve lets an account out of quarantine whatever its rule: it is released as soon as
// releases are metered out to it, one that was brought may be activated. It returns
// db.ErrNotFound when the account is not in quarantine.
func (a *Accounts) Approve(ctx context.Context, did syntax.DID) error {
	err := a.DB.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.LockAccount(ctx, did); err != nil {
			return err
		}
		h, err := tx.LockQuarantined(ctx, did)
		if err != nil {
			return err
		}
		if err := audit.Record(ctx, tx, a.Now(), did, audit.QuarantineApproved, ""); err != nil {
			return err
		}
		if h.State == db.HeldBrought {
			return tx.EndQuarantine(ctx, did)
		}
		if h.ApprovedAt == nil {
			h.ApprovedAt = new(a.Now())
		}
		if h.Reason != "" && h.Holder == "" {
			h.Reason, h.NextAt, h.Attempts = "", a.Now(), 0 // it is tried anew
		}
		return tx.UpdateQuarantined(ctx, h)
	})
	if err != nil {
		return fmt.Errorf("approve %s: %w", did, err)
	}
	a.Quarantine.ready.wake()
	return nil
}

// DeleteHeld deletes an account in quarantine of which nobody else was told anything, so that
// nothing of it is left and its handle and address are free. It returns db.ErrNotFound when
// there is none any more: it is gone, was released, or its release is under way.
func (a *Accounts) DeleteHeld(ctx context.Context, did syntax.DID) error {
	err := a.DB.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.LockAccount(ctx, did); err != nil {
			return err
		}
		h, err := tx.LockQuarantined(ctx, did)
		if err != nil {
			return err
		}
		if h.State != db.Held && h.State != db.HeldBrought {
			return db.ErrNotFound
		}
		if err := a.remove(ctx, tx, did); err != nil {
			return err
		}
		return audit.Record(ctx, tx, a.Now(), did, audit.AccountDeleted, "in quarantine")
	})
	if err != nil {
		return fmt.Errorf("delete %s from quarantine: %w", did, err)
	}
	a.Forget(ctx, did)
	return nil
}

// Waiting is how long an account is still in quarantine.
type Waiting struct {
	// Place is how many were held before it and still are.
	Place int
	// Estimate is when it will be released if nothing comes between, 0 where that is not up
	// to the server: the owner has to confirm the address, or the operator to look.
	Estimate time.Duration
}

// Waiting says how long an account is still in quarantine, nil for one that is not held.
func (a *Accounts) Waiting(ctx context.Context, acct *db.Account) (*Waiting, error) {
	h, err := a.DB.Quarantined(ctx, acct.DID)
	switch {
	case errors.Is(err, db.ErrNotFound), err == nil && h.State == db.HeldBrought:
		return nil, nil
	case err != nil:
		return nil, err
	}
	w := new(Waiting)
	if w.Place, err = a.DB.HeldBefore(ctx, h); err != nil {
		return nil, err
	}
	if h.State != db.Held || h.ApprovedAt != nil || h.Rule == db.HeldUntilConfirmed && acct.EmailConfirmedAt != nil {
		w.Estimate = time.Minute + time.Duration(w.Place)*time.Hour/time.Duration(a.releases())
	}
	return w, nil
}

// heldGenesis is the operation that the directory will be sent for an account that is held.
// It returns db.ErrNotFound when it may have it by now, or there is none.
func (a *Accounts) heldGenesis(ctx context.Context, did syntax.DID) (plc.Operation, error) {
	h, err := a.DB.Quarantined(ctx, did)
	if err != nil {
		return nil, err
	}
	if h.State != db.Held {
		return nil, db.ErrNotFound
	}
	genesis, err := plc.Parse(h.Genesis)
	if err != nil {
		return nil, fmt.Errorf("stored genesis of %s: %w", did, err)
	}
	return genesis, nil
}

// ReleaseSoon has the release of accounts begin at once where somebody waits on
// [Accounts.ReleasesDue]: an address was confirmed.
func (a *Accounts) ReleaseSoon() { a.Quarantine.ready.wake() }

// ReleasesDue receives when there may be an account to release, beside those that wait for
// their time. There is one channel for all.
func (a *Accounts) ReleasesDue() <-chan struct{} { return a.Quarantine.ready.channel() }

func (a *Accounts) releases() int {
	return cmp.Or(a.Quarantine.terms().Releases, DefaultReleases)
}

// ExpireHeld deletes the accounts that are in quarantine for seven days without a
// confirmed address or an approval: handle and address are free again, and nobody else ever
// knew of them.
func (a *Accounts) ExpireHeld(ctx context.Context) error {
	before := a.Now().Add(-unconfirmedFor)
	for {
		dids, err := a.DB.UnconfirmedHeld(ctx, before, 100)
		if err != nil || len(dids) == 0 {
			return err
		}
		var failures []error
		for _, did := range dids {
			if err := a.expireHeld(ctx, did, before); err != nil {
				failures = append(failures, fmt.Errorf("delete unconfirmed account: %w", err))
			}
		}
		if len(failures) > 0 {
			return errors.Join(failures...) // they are the first of the next page, too
		}
	}
}

func (a *Accounts) expireHeld(ctx context.Context, did syntax.DID, before time.Time) error {
	gone := false
	err := a.DB.Write(ctx, func(tx *db.Tx) error {
		gone = false
		acct, err := tx.LockAccount(ctx, did)
		if errors.Is(err, db.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		h, err := tx.LockQuarantined(ctx, did)
		if errors.Is(err, db.ErrNotFound) {
			return nil
		}
		if err != nil || h.State != db.Held || h.ApprovedAt != nil || acct.EmailConfirmedAt != nil || h.Since.After(before) {
			return err
		}
		gone = true
		return a.Delete(ctx, tx, did)
	})
	if err == nil && gone {
		a.Forget(ctx, did)
	}
	return err
}

// Release releases the accounts whose quarantine may end, until none is left or as many are
// out as may be in an hour. What fails is tried again later.
func (a *Accounts) Release(ctx context.Context) error {
	for failures := 0; failures < maxFailures; {
		due, err := a.DB.Releasable(ctx, a.Now(), 1)
		if err != nil || len(due) == 0 {
			return err
		}
		h, err := a.beginRelease(ctx, due[0])
		if _, spent := errors.AsType[*budget.Spent](err); spent {
			return nil // all of this hour are out
		}
		if err != nil {
			return fmt.Errorf("begin release of %s: %w", due[0].DID, err)
		}
		if h == nil {
			continue // somebody was faster, or it waits for the operator now
		}
		err = a.release(ctx, h)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			failures++
			a.Log.WarnContext(ctx, "release account from quarantine, left for later", "did", h.DID, "error", err)
			if err := a.postponeRelease(ctx, h, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// beginRelease takes the lease of an account that was read as one that may be released. It
// returns nil when it is not any more, and *budget.Spent when no more are released in this
// hour.
func (a *Accounts) beginRelease(ctx context.Context, read db.Quarantined) (h *db.Quarantined, err error) {
	err = a.DB.Write(ctx, func(tx *db.Tx) error {
		h = nil
		acct, err := tx.LockAccount(ctx, read.DID)
		if errors.Is(err, db.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		now, err := tx.LockQuarantined(ctx, read.DID)
		if errors.Is(err, db.ErrNotFound) {
			return nil
		}
		if err != nil || !acct.Active() && now.State != db.HeldShown || now.State != read.State || !now.NextAt.Equal(read.NextAt) {
			return err
		}
		if now.State == db.Held {
			if now.ApprovedAt == nil && (now.Rule != db.HeldUntilConfirmed || acct.EmailConfirmedAt == nil) {
				return nil
			}
			if err := a.Budgets.SpendIn(ctx, tx, budget.Releases(a.releases()), budget.Server()); err != nil {
				return err
			}
			now.MailDomain = mailDomain(acct.Email) // another one since, perhaps
			full, err := a.domainFull(ctx, tx, now)
			if err != nil {
				return err
			}
			if full {
				if err := a.Budgets.RefundIn(ctx, tx, budget.Releases(a.releases()), budget.Server()); err != nil {
					return err
				}
				now.Rule, now.Reason = db.HeldUntilApproved, "more accounts with addresses at "+registered(now.MailDomain)+" than are released in a day"
				return tx.UpdateQuarantined(ctx, now)
			}
			now.State = db.HeldSent
		}
		now.Holder, now.NextAt, now.Reason = a.Holder, a.leaseFrom(a.Now()), ""
		now.Attempts++
		h = now
		return tx.UpdateQuarantined(ctx, now)
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// domainFull takes a release from those of the account's mail domain, unless the operator
// has approved it or the domain is everybody's, and reports whether there was none left.
func (a *Accounts) domainFull(ctx context.Context, tx *db.Tx, h *db.Quarantined) (bool, error) {
	if h.ApprovedAt != nil || a.Quarantine.everybodys(h.MailDomain) {
		return false, nil
	}
	err := a.Budgets.SpendIn(ctx, tx, budget.ReleasesOfDomain, budget.MailDomain(registered(h.MailDomain)))
	if _, spent := errors.AsType[*budget.Spent](err); spent {
		return true, nil
	}
	return false, err
}

// release goes on from the state that h is in, with its lease.
func (a *Accounts) release(ctx context.Context, h *db.Quarantined) error {
	if h.State == db.HeldSent {
		genesis, err := plc.Parse(h.Genesis)
		if err != nil {
			return fmt.Errorf("stored genesis: %w", err)
		}
		if err := a.controllable(genesis); err != nil {
			return err
		}
		if err := a.Directory.Register(ctx, h.DID, genesis); err != nil {
			return err
		}
		if err := a.show(ctx, h); err != nil {
			return err
		}
		if a.shown != nil {
			a.shown()
		}
	}
	if err := a.amend(ctx, h); err != nil {
		return err
	}
	return a.announceReleased(ctx, h)
}

// errReleaseStopped says that the account is not to be shown any more.
var errReleaseStopped = errors.New("account was switched off, taken down or deleted meanwhile")

// show makes the account one that is there for everybody.
func (a *Accounts) show(ctx context.Context, h *db.Quarantined) error {
	return a.DB.Write(ctx, func(tx *db.Tx) error {
		acct, now, err := a.lockReleased(ctx, tx, h)
		if err != nil {
			return err
		}
		if !acct.Active() {
			return errReleaseStopped
		}
		acct.HeldAt, now.State = nil, db.HeldShown
		if err := tx.UpdateAccount(ctx, acct); err != nil {
			return err
		}
		return tx.UpdateQuarantined(ctx, now)
	})
}

// announceReleased tells the network of an account that is there by now: readers take its
// repository from a commit of this moment.
func (a *Accounts) announceReleased(ctx context.Context, h *db.Quarantined) error {
	err := a.DB.Write(ctx, func(tx *db.Tx) error {
		acct, _, err := a.lockReleased(ctx, tx, h)
		if err != nil {
			return err
		}
		said := []event.Event{event.Identity(h.DID, acct.Handle), event.Account(h.DID, acct.Status())}
		if acct.Active() {
			row, err := tx.LockRepo(ctx, h.DID)
			if err != nil {
				return err
			}
			sealed, err := tx.SigningKey(ctx, h.DID, KeyPurpose)
			if err != nil {
				return err
			}
			key, err := a.Keys.SigningKey(KeyPurpose, h.DID.String(), sealed.Sealed)
			if err != nil {
				return fmt.Errorf("open signing key: %w", err)
			}
			signed, err := store.SignAnew(ctx, tx, h.DID, row, key, a.Now())
			if err != nil {
				return err
			}
			said = append(said, event.Sync(h.DID, signed.Rev, car.Marshal(signed.Commit.CID, signed.Commit)))
		}
		if err := tx.EndQuarantine(ctx, h.DID); err != nil {
			return err
		}
		if err := audit.Record(ctx, tx, a.Now(), h.DID, audit.Released, ""); err != nil {
			return err
		}
		return tx.AppendEvents(ctx, Events(h.DID, said...)...)
	})
	if err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	return nil
}

// lockReleased locks an account whose lease this process has, else it returns
// db.ErrLeaseLost.
func (a *Accounts) lockReleased(ctx context.Context, tx *db.Tx, h *db.Quarantined) (*db.Account, *db.Quarantined, error) {
	acct, err := tx.LockAccount(ctx, h.DID)
	if err != nil {
		return nil, nil, err
	}
	now, err := tx.LockQuarantined(ctx, h.DID)
	switch {
	case errors.Is(err, db.ErrNotFound), err == nil && now.Holder != a.Holder:
		return nil, nil, db.ErrLeaseLost
	}
	return acct, now, err
}

// postponeRelease gives the lease back and says when it is tried again, and, for the
// operator, why.
func (a *Accounts) postponeRelease(ctx context.Context, h *db.Quarantined, failure error) error {
	err := a.DB.Write(ctx, func(tx *db.Tx) error {
		_, now, err := a.lockReleased(ctx, tx, h)
		if errors.Is(err, db.ErrLeaseLost) || errors.Is(err, db.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		now.Holder, now.Reason = "", reasonOf(failure)
		now.NextAt = a.Now().Add(releasePause << min(now.Attempts-1, 6))
		if _, refused := errors.AsType[*plc.Refused](failure); refused && now.State == db.HeldSent || errors.Is(failure, errUncontrolled) {
			now.State = db.Held // it certainly is not there
			// Whether its domain has paid goes by the approval, so that comes first.
			if err := a.takeReleaseBack(ctx, tx, now); err != nil {
				return err
			}
			if now.Attempts >= maxRefusals {
				now.Rule, now.ApprovedAt = db.HeldUntilApproved, nil
			}
		}
		return tx.UpdateQuarantined(ctx, now)
	})
	if err != nil {
		return fmt.Errorf("postpone release of %s: %w", h.DID, err)
	}
	return nil
}

// takeReleaseBack gives back what the begin of a release took: an account that the directory
// never takes must not spend, with each attempt, what others wait for.
func (a *Accounts) takeReleaseBack(ctx context.Context, tx *db.Tx, h *db.Quarantined) error {
	if err := a.Budgets.RefundIn(ctx, tx, budget.Releases(a.releases()), budget.Server()); err != nil {
		return err
	}
	if h.ApprovedAt != nil || a.Quarantine.everybodys(h.MailDomain) {
		return nil // its domain paid nothing
	}
	return a.Budgets.RefundIn(ctx, tx, budget.ReleasesOfDomain, budget.MailDomain(registered(h.MailDomain)))
}

// reasonOf is what the operator is told of an attempt that failed.
func reasonOf(failure error) string {
	var refused *plc.Refused
	switch {
	case errors.As(failure, &refused):
		return "the directory refuses: " + refused.Message
	case errors.Is(failure, errUncontrolled):
		return errUncontrolled.Error()
	case errors.Is(failure, plc.ErrTombstoned):
		return "the DID has ended"
	case errors.Is(failure, errReleaseStopped):
		return errReleaseStopped.Error()
	case errors.Is(failure, plc.ErrUnreachable), errors.Is(failure, plc.ErrUnknown):
		return "the directory does not answer"
	}
	return "see the log"
}

// A wakeup lets one goroutine wait for what others have done. Its zero value is ready.
type wakeup struct {
	once sync.Once
	c    chan struct{}
}

func (w *wakeup) channel() chan struct{} {
	w.once.Do(func() { w.c = make(chan struct{}, 1) })
	return w.c
}

func (w *wakeup) wake() {
	select {
	case w.channel() <- struct{}{}:
	default: // already awake
	}
}

// registered is the domain above a mail domain that somebody has registered: who has it has
// all below it for nothing.
func registered(domain string) string {
	name, err := publicsuffix.EffectiveTLDPlusOne(domain)
	if err != nil {
		return domain // it is a suffix itself, or no name
	}
	return name
}

// everybodys reports whether everybody may have an address at a mail domain.
func (q *Quarantine) everybodys(domain string) bool {
	return largeMailDomains[domain] || slices.Contains(q.terms().LargeMailDomains, domain)
}

// largeMailDomains are those of providers at which many people who have nothing to do with
// each other have their addresses.
var largeMailDomains = map[string]bool{
	"gmail.com": true, "googlemail.com": true, "outlook.com": true, "hotmail.com": true, "live.com": true, "msn.com": true,
	"yahoo.com": true, "yahoo.co.jp": true, "yahoo.co.uk": true, "ymail.com": true, "aol.com": true,
	"icloud.com": true, "me.com": true, "mac.com": true, "proton.me": true, "protonmail.com": true, "pm.me": true,
	"fastmail.com": true, "gmx.de": true, "gmx.net": true, "gmx.com": true, "web.de": true, "t-online.de": true, "mail.com": true,
	"zoho.com": true, "tutanota.com": true, "tuta.com": true, "posteo.de": true, "mailbox.org": true, "orange.fr": true,
	"free.fr": true, "laposte.net": true, "libero.it": true, "uol.com.br": true, "terra.com.br": true, "naver.com": true,
	"daum.net": true, "qq.com": true, "163.com": true, "126.com": true, "docomo.ne.jp": true, "ezweb.ne.jp": true,
	"softbank.ne.jp": true, "comcast.net": true, "att.net": true, "verizon.net": true, "btinternet.com": true, "wp.pl": true,
	"o2.pl": true, "seznam.cz": true, "hey.com": true, "duck.com": true,
}
