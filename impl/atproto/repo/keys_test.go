package repo_test

import (
	"strings"
	"testing"

	"portico/impl/repo/record"
	"portico/impl/servertest"
)

// Servers that have drawn the same number for their clocks choose the same keys in the same
// microsecond. Clients see nothing of it.
func TestTakenKeysAreChosenAnew(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		var drawn uint
		others := func() { // none of which has chosen a key
			for _, n := range w.Nodes() {
				n.Repo.Keys = record.NewKeys(w.Now, 7, func(n uint) uint {
					if n != 992 {
						t.Errorf("drawn below %d", n)
					}
					drawn++
					return drawn
				})
			}
		}
		const it = `{"$type":"com.example.thing","n":1}`
		create := func() servertest.Answer {
			return w.post("createRecord", "collection", `"com.example.thing"`, "record", it)
		}
		key := func(a servertest.Answer) string {
			t.Helper()
			var out written
			w.Accepted(a).Decode(w, &out)
			return out.URI[strings.LastIndex(out.URI, "/")+1:]
		}
		expect := func(want ...string) {
			t.Helper()
			if got := w.keys("com.example.thing"); got != strings.Join(want, " ") {
				t.Errorf("keys %s, want %q", got, want)
			}
		}
		others()
		first := key(create())
		others()
		second := key(create())
		if drawn != 1 || first[:11] >= second[:11] || second[11:] != "33" {
			t.Errorf("%s, then %s of %d drawn", first, second, drawn)
		}
		expect(second, first) // the latest comes first
		others()
		w.write("applyWrites", "writes", `[
			{"$type":"com.atproto.repo.applyWrites#create","collection":"com.example.thing","value":`+it+`},
			{"$type":"com.atproto.repo.applyWrites#create","collection":"com.example.thing","value":`+it+`}]`)
		if drawn != 3 {
			t.Errorf("%d drawn for two writes, want 2 more", drawn)
		}
		// A key that a client gives is no other's to choose.
		others()
		w.Refused(w.post("createRecord", "collection", `"com.example.thing"`, "rkey", `"`+first+`"`, "record", it), 400, "InvalidRequest", "Record already exists")
		w.Refused(w.post("applyWrites", "writes", `[
			{"$type":"com.atproto.repo.applyWrites#create","collection":"com.example.thing","rkey":"`+second+`","value":`+it+`},
			{"$type":"com.atproto.repo.applyWrites#create","collection":"com.example.thing","value":`+it+`}]`), 400, "InvalidRequest", "Record already exists")
		if drawn != 3 {
			t.Errorf("%d drawn for keys that were given", drawn-3)
		}
	})
}
