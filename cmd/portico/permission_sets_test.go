package main

import (
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/dbtest"
)

// A permission set that an account of this server publishes is read from its repository, and
// only while everybody could read it there. The network is asked for those of accounts that
// are not here, or not any more.
func TestPermissionSetOfAnAccountHere(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		ctx, now := t.Context(), time.Now()
		const did, key = syntax.DID("did:web:authority.example"), syntax.NSID("com.example.forum.set")
		const path = "com.atproto.lexicon.schema/com.example.forum.set"
		write := func(do func(tx *db.Tx) error) {
			t.Helper()
			if err := d.Write(ctx, do); err != nil {
				t.Fatal(err)
			}
		}
		set := func(change func(a *db.Account)) {
			t.Helper()
			write(func(tx *db.Tx) error {
				a, err := tx.LockAccount(ctx, did)
				if err != nil {
					return err
				}
				change(a)
				return tx.UpdateAccount(ctx, a)
			})
		}
		check := func(what, wanted string, wantHere bool) {
			t.Helper()
			got, here, err := setStore{d}.own(ctx, did, key)
			if err != nil || string(got) != wanted || here != wantHere {
				t.Errorf("%s: %q, here %v, %v", what, got, here, err)
			}
		}
		check("of nobody", "", false)
		write(func(tx *db.Tx) error {
			if err := tx.ReserveAccount(ctx, db.Reservation{
				Account: db.Account{DID: did, Handle: "authority.test", CreatedAt: now}, Holder: "test", LeaseUntil: now,
				Key: db.SigningKey{DID: did, Purpose: "atproto", Public: "did:key:z", Sealed: []byte("sealed")},
			}); err != nil {
				return err
			}
			return tx.FinishAccount(ctx, did, "test")
		})
		check("not published", "", true)
		write(func(tx *db.Tx) error {
			return tx.PutRecords(ctx, did, db.Record{Path: path, CID: []byte("cid"), Value: []byte("a lexicon"), Rev: "3kaaaaaaaaa2a", IndexedAt: now})
		})
		check("published", "a lexicon", true)
		set(func(a *db.Account) { a.HeldAt = &now })
		check("in quarantine", "", false)
		set(func(a *db.Account) { a.HeldAt, a.TakedownRef = nil, new("a reason") })
		check("taken down", "", false)
		set(func(a *db.Account) { a.TakedownRef, a.DeactivatedAt = nil, &now })
		check("deactivated", "", false) // or it has moved: its document says where
		set(func(a *db.Account) { a.DeactivatedAt = nil })
		check("activated", "a lexicon", true)
		write(func(tx *db.Tx) error { return tx.TakeDownRecord(ctx, did, path, "a reason") })
		check("the record taken down", "", true)
		write(func(tx *db.Tx) error { return tx.TakeDownRecord(ctx, did, path, "") })
		check("and restored", "a lexicon", true)
		write(func(tx *db.Tx) error { return tx.DeleteAccount(ctx, did) })
		check("of an account that is gone", "", false)
	})
}
