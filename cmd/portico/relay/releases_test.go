//go:build relay

package relay

import (
	"slices"
	"testing"
	"time"
)

// Accounts are held in quarantine while their owners write, and let out: some one by one,
// the others all at once, with kill -9 in between. Relay and tap hear of nobody before, and
// of everybody afterwards, with all that was written before and since. One that is deleted
// while it is held and one that is taken down leave nothing.
func TestReleases(t *testing.T) {
	t.Logf("-seed %d", *seed)
	n := startNetwork(t, "PORTICO_SIGNUP_QUARANTINE=approved", "PORTICO_RELEASES_PER_HOUR=100000", "PORTICO_SIGNUP_RETRY=500ms", "PORTICO_SIGNUP_LEASE=5s")
	l := newLoad(t, n, "test")
	l.plain = true // fifty records are what one who is held may have
	l.create()
	l.each(func(p *person) {
		for range 3 {
			l.write(p, "createRecord", p.create(post, p.key()))
		}
	})
	time.Sleep(time.Second) // for what should not come
	if heard, last := n.query(n.relayDatabase(), `SELECT did FROM account`), n.lastEvent(); len(heard) > 0 || last != 0 {
		t.Errorf("the relay has heard of %v; the last event is %d", heard, last)
	}

	deleted, down := l.people[0], l.people[1]
	l.post(deleted, "com.atproto.admin.deleteAccount", map[string]any{"did": deleted.did}, nil)
	l.post(down, "com.atproto.admin.updateSubjectStatus", map[string]any{
		"subject":  map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": down.did},
		"takedown": map[string]any{"applied": true},
	}, nil)
	approve := func(p *person) {
		l.post(p, "alt.portico.operator.approveQuarantined", map[string]any{"dids": []any{p.did}}, nil)
	}
	approve(down)
	all := l.people[2:]
	singly := all[:len(all)/4]
	for i, p := range singly {
		approve(p)
		l.people = all[:i+1]
		l.noticed()
		l.resynced(p)
	}
	for _, p := range all[len(singly):] {
		approve(p)
	}
	l.people = all
	l.each(func(p *person) { l.write(p, "createRecord", p.create(post, p.key())) })
	n.pds().Kill()
	n.serve()
	l.noticed()
	l.each(l.resynced)
	l.phase("after their release", func() {})
	n.settle(l)
	l.verifyArchives()
	for _, line := range n.complaints() {
		t.Error(line)
	}
	for _, did := range n.query(n.relayDatabase(), `SELECT did FROM account`) {
		if !slices.ContainsFunc(all, func(p *person) bool { return p.did == did }) {
			t.Errorf("the relay has heard of %s, which was deleted or taken down while it was held", did)
		}
	}
	if t.Failed() {
		t.Logf("logs of relay and tap are in %s", n.keep())
	}
	t.Logf("%d accounts released, %d records", len(all), l.records())
}
