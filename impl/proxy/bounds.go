package proxy

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/api/xrpc"
	"portico/impl/account/auth"
	"portico/impl/account/token"
	"portico/impl/budget"
)

// Bounds are what one account, or one address of callers who are not signed in, may have
// passed on. What is over them is answered 429.
//
// They hold in the memory of each process: what they protect are the connections of this
// one, and the patience of other services with all accounts here. Sessions of app passwords
// have bounds of their own, so that none of them shuts the owner out. Addresses of IPv6
// count by /64, and eight times as much by /48; those that are nobody's, see
// [budget.Ledger.Nobody], have no bounds.
type Bounds struct {
	Requests int           // within Window. 0: 6000
	Window   time.Duration // 0: five minutes
	AtATime  int           // under way. 0: 100
}

// payer is who has what is passed on counted, and how many times the bounds.
type payer struct {
	name  string
	times int
}

// payers are who pays for what the request c has passed on in the name of did, "" for
// nobody.
func (p *Proxy) payers(ctx context.Context, c *xrpc.Call, did syntax.DID) []payer {
	if did != "" {
		name := did.String()
		if caller, ok := auth.SignedIn(ctx); ok && caller.DID == did && !token.Full.Has(caller.Scope) {
			name = "apps of " + name
		}
		return []payer{{name, 1}}
	}
	if c == nil || p.Gate.Budgets.Nobody(c.IP) {
		return nil
	}
	all := []payer{{budget.Address(c.IP), 1}}
	if network := budget.Network(c.IP); network != "" {
		all = append(all, payer{network, networkShare})
	}
	return all
}

// networkShare is how many times what a /64 may a /48 may: see budget.
const networkShare = 8

// enter counts a request that is to be passed on, and is how to say that it is over: that
// may be said more than once, and is said at the latest when the request c is over itself.
// It fails with the answer to one that is too much.
func (p *Proxy) enter(ctx context.Context, c *xrpc.Call, did syntax.DID) (leave func(), err error) {
	b := Bounds{cmp.Or(p.Bounds.Requests, 6000), cmp.Or(p.Bounds.Window, 5*time.Minute), cmp.Or(p.Bounds.AtATime, 100)}
	payers := p.payers(ctx, c, did)
	kind := &p.callers.accounts
	if did == "" {
		kind = &p.callers.addresses
	}
	if wait := kind.enter(b, payers, p.Now()); wait > 0 {
		return nil, xrpc.RateLimitExceeded(wait)
	}
	once := sync.OnceFunc(func() { kind.leave(payers) })
	if c == nil {
		return once, nil
	}
	stop := context.AfterFunc(c.Connected(), once)
	return func() { stop(); once() }, nil
}

// callers are those who had something passed on lately. Accounts and addresses are kept
// apart: whoever has many of one kind makes nobody of the other forgotten.
type callers struct{ accounts, addresses counters }

const (
	// keptCallers is how many callers of a kind are kept, at some 150 bytes each. Beyond it
	// one is forgotten for each that is added, unless it has something under way.
	keptCallers = 1 << 17
	// leastSweep is the size from which on callers are looked for who may be forgotten.
	leastSweep = 1024
)

// counters count what callers have passed on. The zero value is empty.
type counters struct {
	mu      sync.Mutex
	by      map[string]*counter
	sweepAt int
}

type counter struct {
	used  int       // requests in this window
	reset time.Time // when it ends
	under int       // requests under way
}

// over reports whether nothing is known of a caller that a new counter would not say.
func (c *counter) over(now time.Time) bool { return c.under == 0 && !now.Before(c.reset) }

// enter counts one request for all of payers, or none, and returns how long to wait then.
func (cs *counters) enter(b Bounds, payers []payer, now time.Time) (wait time.Duration) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, p := range payers {
		c := cs.by[p.name]
		switch {
		case c == nil:
		case c.under >= p.times*b.AtATime:
			return time.Second
		case now.Before(c.reset) && c.used >= p.times*b.Requests:
			return c.reset.Sub(now)
		}
	}
	for _, p := range payers {
		c := cs.by[p.name]
		if c == nil {
			c = cs.add(p.name, now)
		}
		if !now.Before(c.reset) {
			c.used, c.reset = 0, now.Add(b.Window)
		}
		c.used++
		c.under++
	}
	return 0
}

// leave says that a request is over.
func (cs *counters) leave(payers []payer) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, p := range payers {
		cs.by[p.name].under--
	}
}

func (cs *counters) add(name string, now time.Time) *counter {
	if cs.by == nil {
		cs.by, cs.sweepAt = make(map[string]*counter), leastSweep
	}
	if len(cs.by) >= cs.sweepAt {
		for name, c := range cs.by {
			if c.over(now) {
				delete(cs.by, name)
			}
		}
		cs.sweepAt = max(leastSweep, 2*len(cs.by))
	}
	if len(cs.by) >= keptCallers {
		for name, c := range cs.by {
			if c.under == 0 {
				delete(cs.by, name)
				break
			}
		}
	}
	c := new(counter)
	cs.by[name] = c
	return c
}
