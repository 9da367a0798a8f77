package main

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/identity/directory"
	"portico/impl/identity/directory/directorytest"
)

func TestPLCStore(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		directorytest.Run(t, func(t testing.TB) directory.Store { return plcStore{dbtest.Open(t)} })
	})
	t.Run("postgres", func(t *testing.T) {
		directorytest.Run(t, func(t testing.TB) directory.Store { return plcStore{dbtest.Postgres(t)} })
	})
}

// Anybody can show tokens of DIDs that they make up. Their documents do not fill the
// database; an account's survive a restart there.
func TestDocumentStore(t *testing.T) {
	ctx := t.Context()
	d := dbtest.Open(t)
	s := newDocumentStore(d)
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for i := range otherDocuments + 1 {
		did := syntax.DID(fmt.Sprintf("did:web:%d.example", i))
		if err := s.SaveDIDDocument(ctx, did, []byte("{}"), at, time.Time{}); err != nil {
			t.Fatal(err)
		}
		if doc, fetched, err := s.DIDDocument(ctx, did); err != nil || string(doc) != "{}" || !fetched.Equal(at) {
			t.Errorf("%s: %q of %v, %v", did, doc, fetched, err)
		}
		if _, _, err := d.DIDDocument(ctx, did); !errors.Is(err, db.ErrNotFound) {
			t.Errorf("%s is in the database: %v", did, err)
		}
	}
	if doc, _, err := s.DIDDocument(ctx, "did:web:0.example"); doc != nil || err != nil {
		t.Errorf("the oldest of too many: %q, %v", doc, err)
	}
	if err := s.DeleteDIDDocument(ctx, "did:web:1.example", time.Time{}); err != nil {
		t.Fatal(err)
	}
	if doc, _, err := s.DIDDocument(ctx, "did:web:1.example"); doc != nil || err != nil {
		t.Errorf("deleted: %q, %v", doc, err)
	}

	const ours = syntax.DID("did:web:5.example") // one that others knew before it moved here
	err := d.Write(ctx, func(tx *db.Tx) error {
		err := tx.ReserveAccount(ctx, db.Reservation{
			Account: db.Account{DID: ours, Handle: "five.test", CreatedAt: at}, Holder: "test", LeaseUntil: at,
			Key: db.SigningKey{DID: ours, Purpose: "atproto", Public: "did:key:z", Sealed: []byte("sealed")},
		})
		if err != nil {
			return err
		}
		return tx.FinishAccount(ctx, ours, "test")
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SaveDIDDocument(ctx, ours, []byte(`{"new":1}`), at.Add(time.Second), time.Time{}); err != nil {
		t.Fatal(err)
	}
	if doc, _, err := newDocumentStore(d).DIDDocument(ctx, ours); err != nil || string(doc) != `{"new":1}` {
		t.Errorf("of an account: %q, %v", doc, err)
	}
	if err := s.DeleteDIDDocument(ctx, ours, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if doc, _, err := s.DIDDocument(ctx, ours); doc != nil || err != nil {
		t.Errorf("deleted: %q, %v", doc, err)
	}
}
