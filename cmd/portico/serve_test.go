package main

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"portico/db"
	"portico/db/dbtest"
)

// A database on another machine does not tell by its file that its secrets are
// missing.
func TestCheckSecrets(t *testing.T) {
	store := dbtest.Open(t)
	start := func() (*settings, error) {
		dir := t.TempDir()
		s, err := configuration{Environ: []string{"PDS_DATA_DIRECTORY=" + dir}, Rand: rand.Reader, Now: time.Now}.load()
		if err != nil {
			t.Fatal(err)
		}
		return s, checkSecrets(t.Context(), s, store)
	}
	if _, err := start(); err != nil {
		t.Fatalf("with an empty database: %v", err)
	}
	err := store.Write(t.Context(), func(tx *db.Tx) error {
		a := db.Account{DID: "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", Handle: "alice.test", CreatedAt: time.Now()}
		err := tx.ReserveAccount(t.Context(), db.Reservation{
			Account: a, Holder: "test", LeaseUntil: time.Now(),
			Key: db.SigningKey{DID: a.DID, Purpose: "atproto", Public: "did:key:z", Sealed: []byte{1}},
		})
		if err != nil {
			return err
		}
		return tx.FinishAccount(t.Context(), a.DID, "test")
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := start()
	if err == nil || !strings.Contains(err.Error(), "secrets.env") {
		t.Fatalf("with accounts: %v", err)
	}
	// The next start must not take the made-up secrets for the right ones.
	if _, err := os.Stat(filepath.Join(s.DataDirectory, "secrets.env")); !os.IsNotExist(err) {
		t.Errorf("the new secrets are still there: %v", err)
	}
}
