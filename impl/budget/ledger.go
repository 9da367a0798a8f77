package budget

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/keyring"
)

// A Ledger keeps the budgets of one server. It is safe for concurrent use.
type Ledger struct {
	DB   *db.DB
	Keys *keyring.Ring
	// Exempt returns the addresses that the operator counts as nobody's; nil: there are none.
	Exempt func() []netip.Addr
	Now    func() time.Time
	// Hidden is called, once, when a hundred visitors came and none of them had an address
	// of its own: a proxy hides them. It may be nil.
	Hidden func()
	// Refused is told the kind of each budget of which somebody wanted more than there was. It may be
	// nil.
	Refused func(kind string)

	seen   atomic.Bool  // a visitor had one
	unseen atomic.Int64 // those before that had none
}

// watch counts a visitor that may be hidden.
func (l *Ledger) watch(ip netip.Addr) {
	switch {
	case l.seen.Load():
	case !l.Nobody(ip):
		l.seen.Store(true)
	case l.unseen.Add(1) == 100 && l.Hidden != nil:
		l.Hidden()
	}
}

// key stands for a payer in the database.
func (l *Ledger) key(who string) string {
	mac := l.Keys.MAC("budget", []byte(who))
	return base64.RawURLEncoding.EncodeToString(mac[:])
}

// Hash stands for p, all its shares and purposes, where rows are counted by who pays for
// them; nil for nobody.
func (l *Ledger) Hash(p Payer) []byte {
	if p.who == "" {
		return nil
	}
	mac := l.Keys.MAC("budget", []byte(p.who))
	return mac[:]
}

// rows are what p pays from, in the order in which it does.
func (l *Ledger) rows(b Budget, p Payer) []row {
	if p.who == "" {
		return nil
	}
	// The share goes before the purpose, so that all purposes of a share are below it.
	kind, purpose, ok := strings.Cut(b.Kind, "/")
	if p.share != "" {
		kind += "/" + p.share
	}
	if ok {
		kind += "/" + purpose
	}
	rows := []row{{kind, l.key(p.who), b.Points}}
	if p.wide != "" {
		rows = append(rows, row{kind, l.key(p.wide), wideShare * b.Points})
	}
	return rows
}

type row struct {
	kind, key string
	points    int
}

// Left returns nil when p has some of b left, and a [*Spent] when not. It spends nothing.
func (l *Ledger) Left(ctx context.Context, b Budget, p Payer) error {
	now := l.Now()
	for _, r := range l.rows(b, p) {
		left, end, err := l.DB.BudgetLeft(ctx, r.kind, r.key, r.points, now)
		if err != nil {
			return fmt.Errorf("read budget %s: %w", r.kind, err)
		}
		if left <= 0 {
			return l.spent(b, r, end.Sub(now))
		}
	}
	return nil
}

// spent says that there is nothing in a row of b.
func (l *Ledger) spent(b Budget, r row, wait time.Duration) error {
	if l.Refused != nil {
		l.Refused(b.Kind)
	}
	return &Spent{r.kind, wait}
}

// Spend takes one point of b from p. It returns a [*Spent] when there was none to take.
func (l *Ledger) Spend(ctx context.Context, b Budget, p Payer) error {
	if p.who == "" {
		return nil
	}
	var spent error
	err := l.DB.Write(ctx, func(tx *db.Tx) error {
		spent = l.SpendIn(ctx, tx, b, p)
		if _, ok := errors.AsType[*Spent](spent); ok {
			return nil // what was tried is counted too
		}
		return spent
	})
	return cmp.Or(err, spent)
}

// SpendIn is Spend within the caller's transaction. If that does not commit, nothing
// was spent.
func (l *Ledger) SpendIn(ctx context.Context, tx *db.Tx, b Budget, p Payer) error {
	now := l.Now()
	for _, r := range l.rows(b, p) {
		left, end, err := tx.SpendBudget(ctx, r.kind, r.key, r.points, b.Window, now)
		if err != nil {
			return fmt.Errorf("spend budget %s: %w", r.kind, err)
		}
		if left < 0 {
			return l.spent(b, r, end.Sub(now)) // and one /64 does not spend what its /48 has
		}
	}
	return nil
}

// SpendHeld is SpendIn for a mail that a session of a causes, which pays: [Account] or [App].
// It takes something only while a is held in quarantine.
func (l *Ledger) SpendHeld(ctx context.Context, tx *db.Tx, a *db.Account, p Payer) error {
	if !a.Held() {
		return nil
	}
	if p == App(a.DID) {
		if err := l.SpendIn(ctx, tx, HeldMailsOfApps, p); err != nil {
			return err
		}
	}
	return l.SpendIn(ctx, tx, HeldMails, Account(a.DID))
}

// CountIn is SpendIn for what has happened, whether there was something left or not.
func (l *Ledger) CountIn(ctx context.Context, tx *db.Tx, b Budget, p Payer) error {
	err := l.SpendIn(ctx, tx, b, p)
	if _, spent := errors.AsType[*Spent](err); spent {
		return nil
	}
	return err
}

// Refund takes back one Spend of p, if the window is still open.
func (l *Ledger) Refund(ctx context.Context, b Budget, p Payer) error {
	return l.DB.Write(ctx, func(tx *db.Tx) error { return l.RefundIn(ctx, tx, b, p) })
}

// RefundIn is Refund within the caller's transaction.
func (l *Ledger) RefundIn(ctx context.Context, tx *db.Tx, b Budget, p Payer) error {
	now := l.Now()
	for _, r := range l.rows(b, p) {
		if err := tx.GiveBudgetBack(ctx, r.kind, r.key, now); err != nil {
			return fmt.Errorf("refund budget %s: %w", r.kind, err)
		}
	}
	return nil
}

// GiveBack forgets what p, all its shares and all purposes, has spent of budgets.
func (l *Ledger) GiveBack(ctx context.Context, tx *db.Tx, p Payer, budgets ...Budget) error {
	for _, b := range budgets {
		for _, r := range l.rows(b, p) {
			if err := tx.ClearBudget(ctx, r.kind, r.key); err != nil {
				return fmt.Errorf("give back budget %s: %w", r.kind, err)
			}
		}
	}
	return nil
}

// Spendings are what p and all its shares have spent of all budgets in windows that are
// open now, by kind.
func (l *Ledger) Spendings(ctx context.Context, p Payer) ([]db.Spending, error) {
	all, err := l.DB.Spendings(ctx, l.key(p.who), l.Now())
	if err != nil {
		return nil, fmt.Errorf("list what was spent: %w", err)
	}
	return all, nil
}

// Limit is how much of b p has.
func (l *Ledger) Limit(b Budget, p Payer) int {
	if strings.HasPrefix(p.who, "address ") && strings.HasSuffix(p.who, "/48") {
		return wideShare * b.Points
	}
	return b.Points
}

// Forget removes what p and all its shares have spent of all budgets.
func (l *Ledger) Forget(ctx context.Context, tx *db.Tx, p Payer) error {
	if err := tx.ForgetBudgets(ctx, l.key(p.who)); err != nil {
		return fmt.Errorf("forget what was spent: %w", err)
	}
	return nil
}

const (
	// knownFor is how long an address stays known that its owner does not come back to.
	knownFor = 90 * day
	// knownAddresses is how many of an owner's are known at a time: each is good for as
	// many wrong passwords as all unknown ones together, also to a thief of a session.
	knownAddresses = 20
)

// Know remembers that the owner of an account was at an address: signed in there with
// the account password and all that is asked for beside it, or went on with such a
// session. Of more than twenty addresses the oldest is forgotten.
func (l *Ledger) Know(ctx context.Context, tx *db.Tx, did syntax.DID, ip netip.Addr) error {
	if l.Nobody(ip) {
		return nil
	}
	if err := tx.KnowAddress(ctx, did, Address(ip), l.Now(), knownAddresses); err != nil {
		return fmt.Errorf("know address: %w", err)
	}
	return nil
}

// Known reports whether the owner of an account was at an address within 90 days. It
// takes one statement, whatever the account and the address are.
func (l *Ledger) Known(ctx context.Context, did syntax.DID, ip netip.Addr) (bool, error) {
	return l.known(ctx, l.DB, did, ip)
}

// KnownIn is Known within the caller's transaction.
func (l *Ledger) KnownIn(ctx context.Context, tx *db.Tx, did syntax.DID, ip netip.Addr) (bool, error) {
	return l.known(ctx, tx, did, ip)
}

func (l *Ledger) known(ctx context.Context, from interface {
	AddressKnown(ctx context.Context, did syntax.DID, address string, since time.Time) (bool, error)
}, did syntax.DID, ip netip.Addr) (bool, error) {
	address := ""
	if !l.Nobody(ip) {
		address = Address(ip)
	}
	known, err := from.AddressKnown(ctx, did, address, l.Now().Add(-knownFor))
	if err != nil {
		return false, fmt.Errorf("look for known address: %w", err)
	}
	return known, nil
}

// Unknow forgets where the owner of an account was, but for one address. That may be
// invalid, for none.
func (l *Ledger) Unknow(ctx context.Context, tx *db.Tx, did syntax.DID, but netip.Addr) error {
	kept := ""
	if !l.Nobody(but) {
		kept = Address(but)
	}
	if err := tx.ForgetAddresses(ctx, did, kept); err != nil {
		return fmt.Errorf("forget known addresses: %w", err)
	}
	return nil
}

// Visitor is who pays for what callers of an address try on an account that they name
// and hold no session of: the address, if it is known for that account, or all unknown
// ones together. did is "" where they name none; it takes as many statements.
func (l *Ledger) Visitor(ctx context.Context, did syntax.DID, ip netip.Addr) (Payer, error) {
	l.watch(ip)
	known, err := l.Known(ctx, did, ip)
	switch {
	case err != nil:
		return Payer{}, err
	case known:
		return l.at(did, ip), nil
	case did == "":
		// There is nothing to guess. It costs the same, and keeps no names that somebody
		// made up.
		return Payer{who: "no account, " + l.Caller(ip).who, share: strangers}, nil
	}
	return Payer{who: accountKey(did), share: strangers}, nil
}

// at is the share of an account that a known address has.
func (l *Ledger) at(did syntax.DID, ip netip.Addr) Payer {
	return Payer{who: accountKey(did), share: visitors + "/" + l.key("share "+Address(ip))}
}

// Stranger reports whether p is what [Ledger.Visitor] returns for unknown addresses.
func (p Payer) Stranger() bool { return p.share == strangers }

const (
	visitors  = "visitors"
	strangers = visitors + "/strangers"
)

// WrongPasswords is the budget of a [Ledger.Visitor] for wrong passwords.
func (l *Ledger) WrongPasswords(ip netip.Addr) Budget {
	if l.Nobody(ip) {
		return HiddenPasswords
	}
	return FailedPasswords
}

// SignedIn gives back to an address, where somebody signed in to an account with all
// that is asked for, what visitors from there had spent of it, and knows it from now on.
func (l *Ledger) SignedIn(ctx context.Context, tx *db.Tx, did syntax.DID, ip netip.Addr) error {
	if l.Nobody(ip) {
		return nil
	}
	if err := l.GiveBack(ctx, tx, l.at(did, ip), FailedPasswords, WrongCodes, WrongAuthenticatorCodes, OwnMails); err != nil {
		return err
	}
	return l.Know(ctx, tx, did, ip)
}

// Proven gives back what visitors from anywhere had spent of an account, for an owner who
// has proven to be one without its password; but for the codes of its authenticator app,
// which are asked of those, too, who proved no more than that.
func (l *Ledger) Proven(ctx context.Context, tx *db.Tx, did syntax.DID) error {
	return l.GiveBack(ctx, tx, Payer{who: accountKey(did), share: visitors}, FailedPasswords, HiddenPasswords, WrongCodes, OwnMails)
}
