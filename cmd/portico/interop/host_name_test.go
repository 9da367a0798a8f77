//go:build interop

package interop

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	ours "portico/impl/account"
	"portico/impl/account/move"
	"portico/impl/identity/domain"
	"portico/impl/identity/host"
	"portico/impl/identity/plc"
)

// A server gets another host name: killed at any moment it goes on, after the switch it is
// turned back half-way, begun again it comes to its end. Every DID that is the server's to
// change is changed once in each phase, and no other is, whatever state the account is in.
func TestHostNameChanges(t *testing.T) {
	c := newCrowd(t, "move-host")
	c.begin()
	c.until("some are done", func(m moveState) bool { return m.Done >= int64(*movers/4) })
	c.move("--switch", "--yes")
	c.again(func() { c.name = newHost })
	c.move("--undo", "--yes")
	c.again(func() { c.name = oldHost })
	c.killedUntil("undone", true)
	c.check(true, func(d *plc.Data) { renameHost(d, newHost, oldHost) })

	c.begin()
	c.killedUntil("moved", true)
	c.check(false, func(d *plc.Data) { renameHost(d, oldHost, newHost) })
	c.move("--switch", "--yes")
	c.refuses("the server was started with PDS_HOSTNAME="+oldHost, "--finish", "--accept-left", "--yes")
	c.again(func() { c.name = newHost })
	c.refuses("DIDs were left as they are", "--finish", "--yes")
	c.move("--finish", "--accept-left", "--yes")
	c.killedUntil("finished", false)
	c.check(false, func(d *plc.Data) { renameHost(d, oldHost, newHost) })
	c.nothingLost(func(h syntax.Handle) syntax.Handle { return renamed(h, oldHost, newHost) })
}

// asBefore is the handle of a server that keeps its name.
func asBefore(h syntax.Handle) syntax.Handle { return h }

func renameHost(d *plc.Data, from, to string) {
	d.Services["atproto_pds"] = plc.Service{Type: plc.ServiceType, Endpoint: "https://" + to}
	if h := syntax.Handle(d.Handle()); renamed(h, from, to) != h {
		d.SetHandle(renamed(h, from, to))
	}
}

// renamed is a handle under one name under the other, and any other as it is.
func renamed(h syntax.Handle, from, to string) syntax.Handle {
	if front, found := strings.CutSuffix(h.String(), "."+from); found {
		return syntax.Handle(front + "." + to)
	}
	return h
}

// begin begins the move as portico move-host does, but for the question whether the new name
// leads to the server: nobody on this machine finds it by DNS.
func (c *crowd) begin() {
	c.Helper()
	c.again(func() {
		store := c.open()
		defer store.Close()
		hosts, err := host.Open(c.Context(), store, host.Config{Name: c.name, Now: time.Now, Log: c.config.Logger})
		if err != nil {
			c.Fatal(err)
		}
		domains, err := domain.Open(c.Context(), store, domain.Config{Configured: []string{oldHost, otherDomain}, Hostname: c.name, Twin: hosts.Twin, Now: time.Now, Log: c.config.Logger})
		if err != nil {
			c.Fatal(err)
		}
		accounts := &ours.Accounts{DB: store, Rotation: rotation(c.T), Endpoint: "https://" + c.name, Hosts: hosts, Now: time.Now, Log: c.config.Logger}
		kind := &move.HostMove{Accounts: accounts, Domains: domains, Prove: func(context.Context, string, string) error { return nil }}
		moves := &move.Moves{DB: store, Accounts: accounts, Kinds: map[string]move.Kind{move.Host: kind}, Now: time.Now, Log: c.config.Logger}
		if _, err := kind.BeginHost(c.Context(), moves, newHost); err != nil {
			c.Fatal(err)
		}
	})
}
