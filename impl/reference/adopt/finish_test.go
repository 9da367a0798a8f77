package adopt_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/account"
	"portico/impl/reference/adopt"
)

// Finishing deletes everything that was kept, however much it is, and is done once.
func TestFinish(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		const did, kept = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", 1001
		if _, err := adopt.Finish(t.Context(), d); !errors.Is(err, adopt.ErrFinished) {
			t.Errorf("what was not adopted: %v", err)
		}
		err := d.Write(t.Context(), func(tx *db.Tx) error {
			now := time.Now()
			err := tx.ReserveAccount(t.Context(), db.Reservation{
				Account: db.Account{DID: did, CreatedAt: now}, Holder: "test", LeaseUntil: now,
				Key: db.SigningKey{DID: did, Purpose: account.KeyPurpose, Public: "did:key:z", Sealed: []byte("sealed")},
			})
			if err != nil {
				return err
			}
			for n := range kept {
				s := db.AdoptedSecret{DID: did, Kind: db.AdoptedAppPassword, Name: fmt.Append(nil, n), Sealed: []byte("sealed")}
				if err := tx.PutAdoptedSecrets(t.Context(), []db.AdoptedSecret{s}); err != nil {
					return err
				}
			}
			return adopt.CheckDraft(t.Context(), tx, adopt.Mark{Source: "/pds"})
		})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := adopt.Finish(t.Context(), d); err != nil || n != kept {
			t.Errorf("deleted %d, %v", n, err)
		}
		left, err := d.AdoptedSecretsOf(t.Context(), did)
		if err != nil || len(left) != 0 {
			t.Errorf("%d secrets are left, %v", len(left), err)
		}
		if _, err := adopt.Finish(t.Context(), d); !errors.Is(err, adopt.ErrFinished) {
			t.Errorf("again: %v", err)
		}
	})
}
