package handle

import (
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Policy says who may take handles under a domain.
type Policy string

// The policies that there are. They are stored and told to operators.
const (
	Open   Policy = "open"   // anybody
	Invite Policy = "invite" // at sign-up, who has an invite code
	Closed Policy = "closed" // nobody but an administrator gives them
)

// Domain is one under which this server gives handles away.
type Domain struct {
	Name       string // in lower case, without a leading dot
	Policy     Policy
	Configured bool // the settings name it
	// DecidedAt is when an operator added the domain or decided its policy; zero when the settings alone speak.
	DecidedAt time.Time
}

// Domains are all that this server has at a moment. They do not change, so that they may be used concurrently.
//
// Where one domain is under another, a handle belongs to the longest that it is under.
type Domains struct {
	list           []Domain
	removed        []string
	hostname       string
	elsewhere      Policy
	available      []string
	inviteRequired bool
	codesWanted    bool
}

// NewDomains returns the domains of list, in its order, of the server that clients know as hostname. removed are domains that it
// once had; elsewhere is the policy for handles under none of them.
func NewDomains(hostname string, elsewhere Policy, list []Domain, removed ...string) *Domains {
	d := &Domains{list: list, removed: removed, hostname: strings.ToLower(hostname), elsewhere: elsewhere, available: []string{}}
	first := elsewhere
	d.codesWanted = elsewhere == Invite
	for _, domain := range list {
		if domain.Policy == Closed {
			continue
		}
		if len(d.available) == 0 {
			first = domain.Policy
		}
		d.available = append(d.available, "."+domain.Name)
		d.codesWanted = d.codesWanted || domain.Policy == Invite
	}
	d.inviteRequired = first == Invite
	return d
}

// All returns the domains in the order in which clients are told of them. The caller does not change them.
func (d *Domains) All() []Domain { return d.list }

// Available returns those that are not closed, each with a leading dot. It is never nil, and the caller does not change it.
func (d *Domains) Available() []string { return d.available }

// InviteRequired reports whether the first available domain, which clients offer, asks for an invite code.
func (d *Domains) InviteRequired() bool { return d.inviteRequired }

// CodesWanted reports whether there is a use for invite codes.
func (d *Domains) CodesWanted() bool { return d.codesWanted }

// Named returns the domain of that name, in lower case and without a leading dot.
func (d *Domains) Named(name string) (Domain, bool) {
	i := slices.IndexFunc(d.list, func(domain Domain) bool { return domain.Name == name })
	if i < 0 {
		return Domain{}, false
	}
	return d.list[i], true
}

// Policy says who may take h, which may have any text, at sign-up.
func (d *Domains) Policy(h syntax.Handle) Policy {
	if domain, _, ok := d.over(h.Normalize().String()); ok {
		return domain.Policy
	}
	return d.elsewhere
}

// Of returns the name of the domain that h belongs to, "" for none.
func (d *Domains) Of(h syntax.Handle) string {
	domain, _, _ := d.over(h.Normalize().String())
	return domain.Name
}

// Ours reports whether name, a handle or the name of a host, is under a domain or is one itself, so that there is nobody else to
// ask about it.
func (d *Domains) Ours(name string) bool {
	name = strings.ToLower(name)
	if _, _, ok := d.over(name); ok {
		return true
	}
	_, ok := d.Named(name)
	return ok
}

// Root reports whether name is the server itself: the host that clients know, or a domain.
func (d *Domains) Root(name string) bool {
	name = strings.ToLower(name)
	if name == d.hostname {
		return true
	}
	_, ok := d.Named(name)
	return ok
}

// Removed reports whether h is under a domain that was removed, or is one, so that whose it is can no longer be said here.
func (d *Domains) Removed(h syntax.Handle) bool {
	name := h.Normalize().String()
	if d.Root(name) {
		return false
	}
	_, removed, ok := d.over(name)
	return removed != "" || !ok && slices.Contains(d.removed, name)
}

// over returns the domain that name, in lower case, is under. Where the longest one was removed it returns that instead.
func (d *Domains) over(name string) (domain Domain, removed string, ok bool) {
	for _, candidate := range d.list {
		if len(candidate.Name) > len(domain.Name) && under(name, candidate.Name) {
			domain, ok = candidate, true
		}
	}
	for _, gone := range d.removed {
		if len(gone) > max(len(domain.Name), len(removed)) && under(name, gone) {
			removed = gone
		}
	}
	if removed != "" {
		return Domain{}, removed, false
	}
	return domain, "", ok
}

// under reports whether name has at least one more label than domain, and ends with it.
func under(name, domain string) bool {
	rest, ok := strings.CutSuffix(name, domain)
	return ok && len(rest) > 1 && rest[len(rest)-1] == '.'
}
