//go:build interop

package interop

import (
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/cmd/portico/launch"
	"portico/impl/identity/plc"
)

// A server gets another host name: killed at any moment it goes on, after the switch it is
// turned back half-way, begun again it comes to its end. Every DID that is the server's to
// change is changed once in each phase, and no other is, whatever state the account is in.
func TestHostNameChanges(t *testing.T) {
	front, err := launch.NewFront(t.TempDir(), newHost, "*."+newHost)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(front.Close)
	c := newCrowd(t, front.Environ(), "move-host")
	if err := front.Lead(newHost, c.place.url); err != nil {
		t.Fatal(err)
	}
	c.move(newHost, "--yes")
	c.until("some are done", func(m moveState) bool { return m.Done >= int64(*movers/4) })
	c.move("--switch", "--yes")
	c.again(func() { c.name = newHost })
	c.move("--undo", "--yes")
	c.again(func() { c.name = oldHost })
	c.killedUntil("undone", true)
	c.check(true, func(d *plc.Data) { renameHost(d, newHost, oldHost) })

	c.move(newHost, "--yes")
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
