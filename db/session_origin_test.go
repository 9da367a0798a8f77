package db_test

import (
	"strings"
	"testing"
	"time"

	"portico/db"
	"portico/db/dbtest"
)

// Each purge looks at some origins, and all have their turn, over and over.
func TestForgetOrigins(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		did := create(t, d, 1)
		write := func(fn func(tx *db.Tx) error) {
			t.Helper()
			if err := d.Write(ctx, fn); err != nil {
				t.Fatal(err)
			}
		}
		open := func(family string) {
			t.Helper()
			write(func(tx *db.Tx) error {
				err := tx.InsertSession(ctx, db.Session{ID: []byte(family), DID: did, CreatedAt: start, ExpiresAt: start.Add(time.Hour)})
				if err != nil {
					return err
				}
				return tx.InsertSessionOrigin(ctx, db.SessionOrigin{DID: did, Family: []byte(family), OpenedAt: start, Agent: "of " + family})
			})
		}
		end := func(family string) {
			t.Helper()
			write(func(tx *db.Tx) error { return tx.EndFamily(ctx, did, []byte(family)) })
		}
		// An origin that stayed is seen when there is a session of its family again.
		left := func(family string) bool {
			t.Helper()
			write(func(tx *db.Tx) error {
				return tx.InsertSession(ctx, db.Session{ID: []byte(family), DID: did, CreatedAt: start, ExpiresAt: start.Add(time.Hour)})
			})
			all, err := d.OpenSessions(ctx, did, start)
			if err != nil {
				t.Fatal(err)
			}
			end(family)
			for _, s := range all {
				if string(s.Family) == family {
					return s.Agent != ""
				}
			}
			t.Fatalf("no session %s", family)
			return false
		}
		expect := func(want string) {
			t.Helper()
			write(func(tx *db.Tx) error { return tx.ForgetOrigins(ctx, start, 2) })
			var got []string
			for _, family := range []string{"a", "c", "e"} {
				if left(family) {
					got = append(got, family)
				}
			}
			if got := strings.Join(got, " "); got != want {
				t.Errorf("origins of ended sessions: %q, want %q", got, want)
			}
		}
		for _, family := range []string{"a", "b", "c", "d", "e"} {
			open(family)
		}
		for _, family := range []string{"a", "c", "e"} {
			end(family)
		}
		expect("c e") // it looked at a and b
		expect("e")   // at c and d
		expect("")    // at e, and that was all
		open("a")
		end("a")
		expect("") // from the first on again
		all, err := d.OpenSessions(ctx, did, start)
		if err != nil || len(all) != 2 || all[0].Agent == "" || all[1].Agent == "" {
			t.Errorf("b and d have not kept their origins: %v, %v", all, err)
		}
	})
}
