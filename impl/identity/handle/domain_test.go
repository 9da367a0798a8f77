package handle

import (
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

func TestDomains(t *testing.T) {
	d := NewDomains("pds.example.com", Open, []Domain{
		{Name: "closed.example.com", Policy: Closed}, {Name: "example.com", Policy: Invite},
		{Name: "users.example.com", Policy: Open}, {Name: "test", Policy: Open},
	}, "old.example.com", "gone.org", "a.users.example.com")
	for _, tt := range []struct {
		name                string
		ours, root, removed bool
		policy              Policy
	}{
		{"alice.test", true, false, false, Open},
		{"ALICE.Test", true, false, false, Open},
		{"test", true, true, false, Open},
		{"alice.example.com", true, false, false, Invite},
		{"alice.users.example.com", true, false, false, Open}, // the longest counts, whatever the order
		{"alice.closed.example.com", true, false, false, Closed},
		{"users.example.com", true, true, false, Invite},
		{"example.com", true, true, false, Open},
		{"pds.example.com", true, true, false, Invite},
		{"alice.myexample.com", false, false, false, Open},
		{"alice.org", false, false, false, Open},
		{"alice.gone.org", false, false, true, Open},
		{"gone.org", false, false, true, Open},
		{"alice.old.example.com", false, false, true, Open}, // no longer there, and not the wider one's
		{"old.example.com", true, false, false, Invite},
		{"x.a.users.example.com", false, false, true, Open},
		{"localhost", false, false, false, Open},
		{"127.0.0.1", false, false, false, Open},
		{".test", false, false, false, Open},
		{"", false, false, false, Open},
	} {
		h := syntax.Handle(tt.name)
		if d.Ours(tt.name) != tt.ours || d.Root(tt.name) != tt.root || d.Removed(h) != tt.removed || d.Policy(h) != tt.policy {
			t.Errorf("%s: ours %v, root %v, removed %v, policy %s", tt.name, d.Ours(tt.name), d.Root(tt.name), d.Removed(h), d.Policy(h))
		}
	}
	if got := strings.Join(d.Available(), " "); got != ".example.com .users.example.com .test" || !d.InviteRequired() || !d.CodesWanted() {
		t.Errorf("available %s, invite required %v", got, d.InviteRequired())
	}
}

// What clients are told is what the first domain asks that they can have.
func TestInviteRequired(t *testing.T) {
	for _, tt := range []struct {
		elsewhere        Policy
		policies         []Policy
		available        int
		required, wanted bool
	}{
		{Open, []Policy{Open, Invite}, 2, false, true},
		{Open, []Policy{Closed, Invite, Open}, 2, true, true},
		{Open, []Policy{Open, Closed}, 1, false, false},
		{Invite, []Policy{Open}, 1, false, true},
		{Invite, []Policy{Closed}, 0, true, true},
		{Open, []Policy{Closed}, 0, false, false},
		{Invite, nil, 0, true, true},
	} {
		var list []Domain
		for _, p := range tt.policies {
			list = append(list, Domain{Name: string(p) + ".test", Policy: p})
		}
		d := NewDomains("pds.test", tt.elsewhere, list)
		if d.Available() == nil || len(d.Available()) != tt.available || d.InviteRequired() != tt.required || d.CodesWanted() != tt.wanted {
			t.Errorf("%v: %v, required %v, wanted %v", tt, d.Available(), d.InviteRequired(), d.CodesWanted())
		}
	}
}

// Of the server's own names, an administrator disposes; to others they are what
// they would be anywhere.
func TestCheckRoots(t *testing.T) {
	d := NewDomains("me.example.com", Open, []Domain{
		{Name: "example.com", Policy: Open}, {Name: "sub.example.com", Policy: Closed}, {Name: "example.org", Policy: Open},
	}, "gone.example.com")
	r := &Rules{Reserved: builtIn}
	foreign := func(h syntax.Handle) Choice { return Choice{Handle: h} }
	local := func(h syntax.Handle, domain string) Choice { return Choice{h, domain, true} }
	for _, tt := range []struct {
		text           string
		owner, admin   Choice
		refused, never error
	}{
		{"example.org", foreign("example.org"), local("example.org", "example.org"), nil, nil},
		{"Example.com", foreign("example.com"), local("example.com", "example.com"), nil, nil},
		{"me.example.com", Choice{}, local("me.example.com", "example.com"), ErrTooShort, nil},
		{"sub.example.com", Choice{}, local("sub.example.com", "sub.example.com"), ErrReserved, nil},
		{"alice.sub.example.com", local("alice.sub.example.com", "sub.example.com"), local("alice.sub.example.com", "sub.example.com"), ErrUnsupportedDomain, nil},
		{"ab.sub.example.com", local("ab.sub.example.com", "sub.example.com"), Choice{}, ErrUnsupportedDomain, ErrTooShort},
		{"alice.gone.example.com", foreign("alice.gone.example.com"), foreign("alice.gone.example.com"), nil, nil},
		{"al.ice.example.com", Choice{}, Choice{}, ErrDot, ErrDot},
	} {
		if c, err := r.Check(d, tt.text, false); c != tt.owner || err != tt.refused {
			t.Errorf("%s, owner: %v, %v", tt.text, c, err)
		}
		if c, err := r.Check(d, tt.text, true); c != tt.admin || err != tt.never {
			t.Errorf("%s, administrator: %v, %v", tt.text, c, err)
		}
	}
	other := NewDomains("portico.example.com", Open, []Domain{{Name: "example.com", Policy: Open}})
	if _, err := r.Check(other, "portico.example.com", false); err != ErrReserved {
		t.Errorf("the host's own name: %v", err)
	}
	elsewhere := NewDomains("portico.example.com", Open, []Domain{{Name: "example.org", Policy: Open}})
	if c, err := r.Check(elsewhere, "portico.example.com", true); c != local("portico.example.com", "") || err != nil {
		t.Errorf("the host's name under no domain: %v, %v", c, err)
	}
}

func FuzzDomains(f *testing.F) {
	d := NewDomains("pds.example.com", Open, []Domain{{Name: "example.com", Policy: Invite}, {Name: "test", Policy: Open}}, "a.test")
	for _, name := range []string{"alice.test", "a.test", "x.a.test", ".test", "pds.example.com", "\xff.test", "ALICE.TEST."} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		h := syntax.Handle(name)
		if d.Ours(name) && d.Removed(h) {
			t.Errorf("%q is ours and removed", name)
		}
		if d.Ours(name) != d.Ours(strings.ToLower(name)) || d.Root(name) && !d.Ours(name) && !strings.EqualFold(name, "pds.example.com") {
			t.Errorf("%q: ours %v, root %v", name, d.Ours(name), d.Root(name))
		}
	})
}
