package budget_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/budget"
	"portico/impl/keyring"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const (
	alice = syntax.DID("did:plc:alice")
	bob   = syntax.DID("did:plc:bob")
)

// A ledger is one with a clock that stands at noon.
type ledger struct {
	*testing.T
	*budget.Ledger
	now time.Time
}

// ledgers runs a test for each budget that there is, on both engines.
func ledgers(t *testing.T, test func(l *ledger, b budget.Budget)) {
	t.Helper()
	keys, err := keyring.New(rand.Reader, bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	canary, err := keys.NewCanary()
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Unlock(canary); err != nil {
		t.Fatal(err)
	}
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		for _, b := range budget.All {
			t.Run(b.Kind, func(t *testing.T) {
				l := &ledger{t, &budget.Ledger{DB: d, Keys: keys, Exempt: func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("203.0.113.99")} }}, noon}
				l.Now = func() time.Time { return l.now }
				test(l, b)
			})
		}
	})
}

func (l *ledger) check(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

// spend takes n points, which must be there.
func (l *ledger) spend(b budget.Budget, p budget.Payer, n int) {
	l.Helper()
	l.check(l.DB.Write(l.Context(), func(tx *db.Tx) error {
		for range n {
			if err := l.SpendIn(l.Context(), tx, b, p); err != nil {
				return err
			}
		}
		return nil
	}))
}

// isSpent says how long it is told to wait for.
func (l *ledger) isSpent(b budget.Budget, p budget.Payer, wait time.Duration) {
	l.Helper()
	for what, err := range map[string]error{"Left": l.Left(l.Context(), b, p), "Spend": l.Spend(l.Context(), b, p)} {
		if spent, ok := errors.AsType[*budget.Spent](err); !ok || spent.Wait != wait {
			l.Errorf("%s: %v, want spent for %v", what, err, wait)
		}
	}
}

func (l *ledger) ip(text string) netip.Addr { return netip.MustParseAddr(text) }

// payers are two that pay from a budget, apart from each other.
func (l *ledger) payers(b budget.Budget) (one, other budget.Payer) {
	switch b.Payers {
	case budget.Callers:
		return l.Caller(l.ip("192.0.2.1")), l.Caller(l.ip("192.0.2.2"))
	case budget.Accounts:
		return budget.Account(alice), budget.Account(bob)
	case budget.Recipients:
		return budget.Recipient("alice@example.com"), budget.Recipient("bob@example.com")
	case budget.Servers:
		return budget.Server(), budget.Payer{}
	}
	l.Fatalf("%s is paid by %q", b.Kind, b.Payers)
	return one, other
}

// Each budget has a size, a reason, and a name of its own.
func TestBudgetsAreATable(t *testing.T) {
	seen := map[string]bool{}
	for _, b := range budget.All {
		if b.Points <= 0 || b.Window <= 0 || b.Window > 24*time.Hour || b.Protects == "" || b.Payers == "" || strings.Contains(b.Kind, "/") || seen[b.Kind] {
			t.Errorf("%+v", b)
		}
		seen[b.Kind] = true
	}
}

// Each budget holds what it says and no more, says until when it is spent, and is whole
// again then; one payer takes nothing from another, nor one purpose.
func TestEachBudgetIsSpentAndWholeAgain(t *testing.T) {
	ledgers(t, func(l *ledger, b budget.Budget) {
		one, other := l.payers(b)
		l.spend(b, one, 1)
		l.now = l.now.Add(b.Window / 4)
		l.spend(b, one, b.Points-1)
		l.isSpent(b, one, b.Window-b.Window/4)
		l.check(l.Left(l.Context(), b, other))
		l.check(l.Spend(l.Context(), b, other))
		l.check(l.Spend(l.Context(), b.For("something"), one))
		l.now = noon.Add(b.Window - time.Microsecond)
		l.isSpent(b, one, time.Microsecond)
		l.now = noon.Add(b.Window)
		l.check(l.Left(l.Context(), b, one))
		l.spend(b, one, b.Points)
		l.isSpent(b, one, b.Window)
	})
}

// Rule 1: a caller pays by its address, of IPv6 by the /64, and a /48 has eight times as
// much; what one /64 tries beyond its share is not taken from its neighbours.
func TestEachBudgetOfCallersCountsNetworks(t *testing.T) {
	ledgers(t, func(l *ledger, b budget.Budget) {
		if b.Payers != budget.Callers {
			return
		}
		for i := range 8 {
			p := l.Caller(l.ip(fmt.Sprintf("2001:db8:1:%x::1", i)))
			l.spend(b, p, b.Points)
			for range 3 {
				l.isSpent(b, l.Caller(l.ip(fmt.Sprintf("2001:db8:1:%x:ffff::2", i))), b.Window)
			}
		}
		l.isSpent(b, l.Caller(l.ip("2001:db8:1:ffff::1")), b.Window)
		l.check(l.Spend(l.Context(), b, l.Caller(l.ip("2001:db8:2::1"))))
		// An IPv4 address within an IPv6 one is that.
		l.spend(b, l.Caller(l.ip("::ffff:192.0.2.1")), b.Points)
		l.isSpent(b, l.Caller(l.ip("192.0.2.1")), b.Window)
	})
}

// An address that is nobody's has no share: it spends nothing, and is never known.
func TestNobodysAddressesPayNothing(t *testing.T) {
	ledgers(t, func(l *ledger, b budget.Budget) {
		for _, text := range []string{"127.0.0.1", "::1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "fd00::1", "fe80::1", "203.0.113.99", "::ffff:127.0.0.1", "0.0.0.0", "::"} {
			if !l.Nobody(l.ip(text)) || l.Caller(l.ip(text)) != (budget.Payer{}) {
				l.Errorf("%s is somebody's", text)
			}
		}
		if !l.Nobody(netip.Addr{}) || l.Nobody(l.ip("192.0.2.1")) || l.Nobody(l.ip("2001:db8::1")) {
			l.Error("Nobody")
		}
		for range b.Points + 1 {
			l.check(l.Spend(l.Context(), b, l.Caller(l.ip("127.0.0.1"))))
		}
	})
}

// Rules 2 and 4: what strangers spend of an account is theirs alone. Its owner's sessions,
// its apps and the places where the owner has been each have a share of their own.
func TestEachBudgetOfAccountsHasShares(t *testing.T) {
	ledgers(t, func(l *ledger, b budget.Budget) {
		if b.Payers != budget.Accounts {
			return
		}
		l.create(alice)
		defer l.remove(alice)
		l.check(l.DB.Write(l.Context(), func(tx *db.Tx) error { return l.Know(l.Context(), tx, alice, l.ip("192.0.2.1")) }))
		visitor := func(did syntax.DID, ip string) budget.Payer {
			p, err := l.Visitor(l.Context(), did, l.ip(ip))
			l.check(err)
			return p
		}
		strangers, known := visitor(alice, "198.51.100.1"), visitor(alice, "192.0.2.1")
		if strangers != visitor(alice, "198.51.100.2") || strangers != visitor(alice, "127.0.0.1") || !strangers.Stranger() || known.Stranger() {
			l.Error("strangers do not share")
		}
		shares := []budget.Payer{strangers, known, budget.Account(alice), budget.App(alice), visitor("", "198.51.100.1"), visitor(bob, "192.0.2.1")}
		for i, p := range shares {
			l.spend(b, p, b.Points)
			l.isSpent(b, p, b.Window)
			for _, later := range shares[i+1:] {
				l.check(l.Left(l.Context(), b, later))
			}
		}
		l.check(l.DB.Write(l.Context(), func(tx *db.Tx) error {
			return l.GiveBack(l.Context(), tx, budget.Account(alice), b)
		}))
		for _, p := range shares[:4] {
			l.check(l.Left(l.Context(), b, p))
		}
		l.isSpent(b, shares[5], b.Window)
	})
}

// Rule 3: proof gives back what strangers could have spent, and nothing that the account
// itself caused; signing in does so for its address alone.
func TestProofGivesBack(t *testing.T) {
	given := map[string]bool{"failed-passwords": true, "hidden-passwords": true, "wrong-codes": true, "own-mails": true}
	signedIn := map[string]bool{"failed-passwords": true, "wrong-codes": true, "wrong-authenticator-codes": true, "own-mails": true}
	ledgers(t, func(l *ledger, b budget.Budget) {
		if b.Payers != budget.Accounts {
			return
		}
		l.create(alice)
		defer l.remove(alice)
		visitor := func(ip string) budget.Payer {
			p, err := l.Visitor(l.Context(), alice, l.ip(ip))
			l.check(err)
			return p
		}
		strangers := visitor("192.0.2.1")
		l.check(l.DB.Write(l.Context(), func(tx *db.Tx) error { return l.Know(l.Context(), tx, alice, l.ip("192.0.2.1")) }))
		known, own := visitor("192.0.2.1"), budget.Account(alice)
		purpose := b.For("sign_in")
		for _, p := range []budget.Payer{strangers, known, own} {
			l.spend(b, p, b.Points)
			l.spend(purpose, p, b.Points)
		}
		left := func(p budget.Payer, want bool) {
			l.Helper()
			for _, b := range []budget.Budget{b, purpose} {
				if err := l.Left(l.Context(), b, p); (err == nil) != want {
					l.Errorf("left of %s: %v, want %v", b.Kind, err, want)
				}
			}
		}
		l.check(l.DB.Write(l.Context(), func(tx *db.Tx) error { return l.SignedIn(l.Context(), tx, alice, l.ip("192.0.2.1")) }))
		left(strangers, false)
		left(known, signedIn[b.Kind])
		left(own, false)
		l.check(l.DB.Write(l.Context(), func(tx *db.Tx) error { return l.Proven(l.Context(), tx, alice) }))
		left(strangers, given[b.Kind])
		left(known, given[b.Kind] || signedIn[b.Kind])
		left(own, false)
	})
}

// Rows of budgets hold keyed hashes: nobody's address or name, of whatever length.
func TestKeysOfBudgetsAreHashes(t *testing.T) {
	ledgers(t, func(l *ledger, b budget.Budget) {
		l.create(alice)
		defer l.remove(alice)
		l.check(l.DB.Write(l.Context(), func(tx *db.Tx) error { return l.Know(l.Context(), tx, alice, l.ip("2001:db8::1")) }))
		known, err := l.Visitor(l.Context(), alice, l.ip("2001:db8::1"))
		l.check(err)
		long := strings.Repeat("x", 100_000) + "\x00@example.com"
		payers := []budget.Payer{
			budget.Account(alice), budget.App(alice), known, budget.Recipient("alice@example.com"), budget.Recipient(long), budget.Number([]byte("number")),
			l.Caller(l.ip("192.0.2.1")), l.Caller(l.ip("2001:db8::1")), budget.Server(),
		}
		for _, p := range payers {
			l.check(l.Spend(l.Context(), b, p))
			all, err := l.Spendings(l.Context(), p)
			l.check(err)
			if len(all) == 0 {
				l.Errorf("%v has spent nothing", p)
			}
			for _, s := range all {
				for _, plain := range []string{"alice", "192.0.2", "2001:", "did:"} {
					if strings.Contains(s.Kind, plain) {
						l.Errorf("kind %q", s.Kind)
					}
				}
			}
			l.check(l.DB.Write(l.Context(), func(tx *db.Tx) error { return l.Forget(l.Context(), tx, p) }))
		}
	})
}

// What an operator types is the payer that spent.
func TestParsePayer(t *testing.T) {
	ledgers(t, func(l *ledger, b budget.Budget) {
		for text, p := range map[string]budget.Payer{
			"did:plc:alice": budget.Account(alice), "alice@example.com": budget.Recipient("alice@example.com"),
			"192.0.2.1": l.Caller(l.ip("192.0.2.1")), "2001:db8::5": l.Caller(l.ip("2001:db8::1")), "2001:db8::/64": l.Caller(l.ip("2001:db8::1")),
		} {
			typed, ok := budget.ParsePayer(text)
			if !ok {
				l.Errorf("%s is nobody", text)
				continue
			}
			l.check(l.Spend(l.Context(), b, p))
			all, err := l.Spendings(l.Context(), typed)
			l.check(err)
			if len(all) != 1 || all[0].Kind != b.Kind {
				l.Errorf("%s has spent %v", text, all)
			}
			l.check(l.DB.Write(l.Context(), func(tx *db.Tx) error { return l.Forget(l.Context(), tx, p) }))
		}
		for _, text := range []string{"", "alice", "alice.test", "192.0.2", "2001:db8::/999"} {
			if _, ok := budget.ParsePayer(text); ok {
				l.Errorf("%q is somebody", text)
			}
		}
	})
}

// create makes an account.
func (l *ledger) create(did syntax.DID) {
	l.Helper()
	l.check(l.DB.Write(l.Context(), func(tx *db.Tx) error {
		err := tx.ReserveAccount(l.Context(), db.Reservation{
			Account: db.Account{DID: did, Handle: "alice.test", Email: "alice@example.com", CreatedAt: noon},
			Key:     db.SigningKey{DID: did, Purpose: "atproto", Public: "did:key:z", Sealed: []byte("x")},
			Genesis: []byte("{}"), Holder: "me", LeaseUntil: noon.Add(time.Minute),
		})
		if err != nil {
			return err
		}
		return tx.FinishAccount(l.Context(), did, "me")
	}))
}

func (l *ledger) remove(did syntax.DID) {
	l.Helper()
	l.check(l.DB.Write(l.Context(), func(tx *db.Tx) error { return tx.DeleteAccount(l.Context(), did) }))
}
