//go:build interop

package interop

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"portico/impl/identity/plc"
)

// The rotation key of a server changes: killed at any moment it goes on, half-way it is
// undone, begun again it comes to its end, and a backup from before is of use until then.
// Every DID that is the server's to change is changed once in each phase, and no other is,
// whatever state the account is in.
func TestRotationKeyChanges(t *testing.T) {
	c := newCrowd(t, nil, "keys", "rotate-plc")
	backup := filepath.Join(t.TempDir(), "backup")
	if *moveServers == 1 {
		c.portico("backup", backup)
	}
	file := filepath.Join(t.TempDir(), "rotation-key.env")
	var made struct{ Fingerprint, Key string }
	c.decode(c.move("--out", file, "--json"), &made)
	old, before := rotationDIDKey(t), c.keys
	c.again(func() { c.keys = linesOf(t, file) })

	c.move("--confirm", made.Fingerprint, "--yes")
	c.until("some are done", func(m moveState) bool { return m.Done >= int64(*movers/4) })
	c.move("--undo", "--yes")
	c.killedUntil("undone", true)
	c.check(true, func(d *plc.Data) { d.RotationKeys = without(d.RotationKeys, made.Key) })

	c.move("--confirm", made.Fingerprint, "--yes")
	c.killedUntil("moved", true)
	c.check(false, func(d *plc.Data) {
		if at := slices.Index(d.RotationKeys, old); len(d.RotationKeys) < 5 && !slices.Contains(d.RotationKeys, made.Key) {
			d.RotationKeys = slices.Insert(d.RotationKeys, at, made.Key)
		}
	})
	c.refuses("72 hours after the last DID was changed", "--finish", "--accept-left", "--yes")

	if *moveServers == 1 {
		// The machine burns down, and what is left is the backup with its settings.
		after, data, active := c.keys, c.folders[0], c.members[0]
		c.again(func() { c.keys, c.folders[0] = before, backup })
		if err := active.rename("renamed-0." + otherDomain); err != nil {
			t.Errorf("with the backup from before: %v", err)
		}
		active.resolved("renamed-0." + otherDomain)
		c.again(func() { c.keys, c.folders[0] = after, data })
		for _, d := range []*plc.Data{&active.before, &active.said} {
			*d = clone(*d)
			d.SetHandle("renamed-0." + otherDomain)
		}
		active.count++
	}

	c.again(func() { c.age(73 * time.Hour) })
	c.refuses("DIDs were left as they are", "--finish", "--yes")
	c.move("--finish", "--accept-left", "--yes")
	c.killedUntil("finished", false)
	c.check(false, func(d *plc.Data) {
		at := slices.Index(d.RotationKeys, old)
		if at >= 0 && !slices.Contains(d.RotationKeys, made.Key) {
			d.RotationKeys[at] = made.Key
		}
		d.RotationKeys = without(d.RotationKeys, old)
	})
	c.nothingLost(asBefore)
}

// without is keys without one.
func without(keys []string, key string) []string {
	return slices.DeleteFunc(keys, func(k string) bool { return k == key })
}
