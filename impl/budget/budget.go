// Package budget holds the security budgets: how often a thing that helps an
// attacker may happen before the server stops playing along.
//
// Budgets are always on and live in the database, so that they hold across
// restarts and across the nodes of one Postgres. They are fixed windows which
// begin with the first thing counted. They are no request limits: those are the
// operator's choice, these are not.
package budget

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
)

// A Budget is a number of points that one key may spend in a window.
type Budget struct {
	Kind   string
	Points int
	Window time.Duration
}

// The budgets of the server. Changing a kind forgets what was counted under it.
var (
	// FailedPasswords counts wrong passwords of one account, or of one login
	// identifier that names no account. createSession and deleteAccount share it.
	// Addresses where the owner has been have one each, see [KnowAddress]: strangers
	// who spend the other do not keep the owner out.
	FailedPasswords = Budget{"failed-passwords", 50, time.Hour}
	// signedIn is what an owner spends of an address by being there.
	signedIn = Budget{"signed-in", 1, 90 * 24 * time.Hour}
	// WrongCodes counts wrong emailed codes of one account and purpose, across
	// all codes: 50 random bits leave a guesser nothing with this.
	WrongCodes = Budget{"wrong-codes", 20, time.Hour}
	// WrongResetCodes counts wrong password-reset codes of one address of
	// callers: such a code names no account that could be charged.
	WrongResetCodes = Budget{"wrong-reset-codes", 50, time.Hour}
	// Mails counts the mails of one purpose that callers cause to one recipient, see
	// [Budget.For]: what a stranger asks for must not shut out an owner who signs in
	// or holds a session.
	Mails = Budget{"mails", 30, 24 * time.Hour}
	// SignUps counts the sign-ups that are tried from one address, except for the accounts
	// that were made with an invite: each answer tells whether somebody has the handle and
	// the email address.
	SignUps = Budget{"sign-ups", 200, 24 * time.Hour}
	// ReservedKeys counts signing keys reserved from one address.
	ReservedKeys = Budget{"reserved-keys", 100, 24 * time.Hour}
	// TextsTo and TextsToInADay count the text messages to one phone number, TextsFrom those
	// that callers of one address ask for, sent or not: each costs the operator money,
	// and they come to somebody who may not have asked.
	TextsTo       = Budget{"texts-to", 5, time.Hour}
	TextsToInADay = Budget{"texts-to-in-a-day", 10, 24 * time.Hour}
	TextsFrom     = Budget{"texts-from", 100, 24 * time.Hour}
	// NumbersFrom counts the phone numbers that sign-ups from one address name: the answer
	// tells of some whether they have accounts.
	NumbersFrom = Budget{"numbers-from", 200, 24 * time.Hour}
	// PhoneCodes counts the codes that are tried for one phone number, right or wrong: of
	// a million they are few.
	PhoneCodes = Budget{"phone-codes", 20, time.Hour}
)

// For returns a budget of the same size that is spent apart from b and from those
// for other purposes.
func (b Budget) For(purpose string) Budget {
	b.Kind += "/" + purpose
	return b
}

// maxKey is more than any DID or address that means somebody has.
const maxKey = 320

// stored is the key as the database has it: one that somebody made up may be too
// long for an index, or no text.
func stored(key string) string {
	if len(key) <= maxKey && utf8.ValidString(key) && !strings.ContainsRune(key, 0) {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Left says whether key has any of b left at now. It spends nothing.
func (b Budget) Left(ctx context.Context, d *db.DB, key string, now time.Time) (bool, error) {
	left, _, err := d.BudgetLeft(ctx, b.Kind, stored(key), b.Points, now)
	if err != nil {
		return false, fmt.Errorf("read budget %s: %w", b.Kind, err)
	}
	return left > 0, nil
}

// Spend takes one point from key and reports whether there was one to take.
func (b Budget) Spend(ctx context.Context, d *db.DB, key string, now time.Time) (ok bool, err error) {
	err = d.Write(ctx, func(tx *db.Tx) error {
		ok, err = b.SpendIn(ctx, tx, key, now)
		return err
	})
	return ok, err
}

// SpendIn is Spend within the caller's transaction.
func (b Budget) SpendIn(ctx context.Context, tx *db.Tx, key string, now time.Time) (bool, error) {
	left, _, err := tx.SpendBudget(ctx, b.Kind, stored(key), b.Points, b.Window, now)
	if err != nil {
		return false, fmt.Errorf("spend budget %s: %w", b.Kind, err)
	}
	return left >= 0, nil
}

// GiveBack takes back one Spend of key, if its window is still open.
func (b Budget) GiveBack(ctx context.Context, d *db.DB, key string, now time.Time) error {
	return d.Write(ctx, func(tx *db.Tx) error { return tx.GiveBudgetBack(ctx, b.Kind, stored(key), now) })
}

// maxAddresses is how many addresses of an owner are known at a time: each is good for
// as many wrong passwords as all unknown ones together, also to a thief of a session.
const maxAddresses = 20

// KnowAddress remembers for 90 days, give or take one, that an owner was at an address:
// signed in there with the password, or went on with such a session. An address that is
// none is not remembered, nor is another one while 20 are known.
func KnowAddress(ctx context.Context, tx *db.Tx, did syntax.DID, ip netip.Addr, now time.Time) error {
	if !ip.IsValid() {
		return nil
	}
	b, key := signedIn.For(Address(ip)), stored(did.String())
	left, end, err := tx.BudgetLeft(ctx, b.Kind, key, b.Points, now)
	switch {
	case err != nil:
		return fmt.Errorf("know address: %w", err)
	case left <= 0 && end.Sub(now) > b.Window-24*time.Hour:
		return nil // it was renewed lately: sessions go on every few minutes
	case left > 0:
		n, err := tx.BudgetsBelow(ctx, signedIn.Kind, key, now)
		if err != nil {
			return fmt.Errorf("know address: %w", err)
		}
		if n >= maxAddresses {
			return nil
		}
	}
	if err := tx.SetBudget(ctx, b.Kind, key, b.Points, now.Add(b.Window)); err != nil {
		return fmt.Errorf("know address: %w", err)
	}
	return nil
}

// ForgetPasswords forgets the wrong passwords of an account, and where its owner was:
// for one whose password has changed.
func ForgetPasswords(ctx context.Context, tx *db.Tx, did syntax.DID) error {
	for _, b := range []Budget{FailedPasswords, signedIn} {
		if err := tx.ClearBudget(ctx, b.Kind, stored(did.String())); err != nil {
			return fmt.Errorf("forget wrong passwords: %w", err)
		}
	}
	return nil
}

// PasswordsFrom is the budget for wrong passwords of an account that come from an
// address: FailedPasswords, or the address's own if it is known.
func PasswordsFrom(ctx context.Context, d *db.DB, did syntax.DID, ip netip.Addr, now time.Time) (Budget, error) {
	if !ip.IsValid() {
		return FailedPasswords, nil
	}
	unknown, err := signedIn.For(Address(ip)).Left(ctx, d, did.String(), now)
	if err != nil || unknown {
		return FailedPasswords, err
	}
	return FailedPasswords.For(Address(ip)), nil
}

// Payer is the key of a caller's address, or "" when that is none to be counted: one
// that the operator exempts, or this machine, for which a proxy that hides its clients
// stands too.
func Payer(ip netip.Addr, exempt []netip.Addr) string {
	if !ip.IsValid() || ip.IsLoopback() || slices.Contains(exempt, ip) {
		return ""
	}
	return Address(ip)
}

// Address is the key of a caller's address: the address itself, or its /64 for
// IPv6, because a household or a rented server owns a whole /64.
func Address(ip netip.Addr) string {
	ip = ip.Unmap()
	if ip.Is6() {
		p, _ := ip.WithZone("").Prefix(64) // 64 bits always fit
		return p.String()
	}
	return ip.String()
}
