package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/account"
	"portico/impl/account/adopted"
	"portico/impl/keyring"
	"portico/impl/mail"
	"portico/impl/mail/outbox"
)

// After a start with a new key-encryption key, the old one is not needed for
// anything that is kept: keys of accounts, keys reserved for accounts, mails that wait,
// what is kept of an adopted server, and the secrets of authenticator apps.
func TestKeyRotation(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, store *db.DB) {
		ctx := t.Context()
		kek := func(b byte) []byte { return bytes.Repeat([]byte{b}, keyring.KeySize) }
		first, err := openKeys(ctx, &settings{KeyEncryptionKey: kek(1)}, store)
		if err != nil {
			t.Fatal(err)
		}
		did := syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
		secret := []byte("the private key of an account")
		sealed, err := first.Seal(account.KeyPurpose, did.String(), secret)
		if err != nil {
			t.Fatal(err)
		}
		// More reservations than are sealed in one transaction.
		var ids []string
		err = store.Write(ctx, func(tx *db.Tx) error {
			now := time.Now()
			if err := tx.ReserveAccount(ctx, db.Reservation{
				Account: db.Account{DID: did, CreatedAt: now}, Holder: "test", LeaseUntil: now,
				Key: db.SigningKey{DID: did, Purpose: account.KeyPurpose, Public: "did:key:z", Sealed: sealed},
			}); err != nil {
				return err
			}
			ids = nil
			for i := range resealPage + 1 {
				id := fmt.Sprintf("did:web:%d.test", i)
				sealed, err := first.Seal(account.ReservedPurpose, id, []byte(id))
				if err != nil {
					return err
				}
				ids = append(ids, id)
				if _, err := tx.ReserveKey(ctx, db.ReservedKey{
					ID: id, Public: "did:key:" + id, Sealed: sealed, CreatedAt: now, ExpiresAt: now.Add(time.Hour),
				}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		mac := first.MAC("test", []byte("x"))
		queue := func(keys *keyring.Ring, text string) {
			t.Helper()
			o := &outbox.Outbox{DB: store, Keys: keys, Holder: "test", Now: time.Now}
			if err := store.Write(ctx, func(tx *db.Tx) error {
				return o.Post(ctx, tx, did, "test", mail.Letter{To: "alice@example.com", Text: text}, time.Now().Add(time.Hour))
			}); err != nil {
				t.Fatal(err)
			}
		}
		queue(first, "a code")
		lost, err := keyring.New(rand.Reader, kek(9))
		if err != nil {
			t.Fatal(err)
		}
		queue(lost, "lost before")
		for i, ring := range []*keyring.Ring{first, lost} {
			if err := store.Write(ctx, func(tx *db.Tx) error {
				for n := range []int{resealPage + 1, 1}[i] {
					s, err := adopted.AppPassword(ring, did, fmt.Sprint([]string{"app ", "lost "}[i], n), "a hash")
					if err == nil {
						err = tx.PutAdoptedSecrets(ctx, []db.AdoptedSecret{s})
					}
					if err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}

		// One account more has an authenticator app than are read at once.
		owners := []syntax.DID{did}
		for i := range resealPage {
			owners = append(owners, syntax.DID(fmt.Sprintf("did:web:app%d.test", i)))
		}
		const lostApp = syntax.DID("did:web:applost.test")
		if err := store.Write(ctx, func(tx *db.Tx) error {
			now := time.Now()
			for _, owner := range append(owners[1:len(owners):len(owners)], lostApp) {
				key, err := first.Seal(account.KeyPurpose, owner.String(), secret)
				if err == nil {
					err = tx.ReserveAccount(ctx, db.Reservation{
						Account: db.Account{DID: owner, CreatedAt: now}, Holder: "test", LeaseUntil: now,
						Key: db.SigningKey{DID: owner, Purpose: account.KeyPurpose, Public: "did:key:z", Sealed: key},
					})
				}
				if err != nil {
					return err
				}
			}
			for _, owner := range append(owners[:len(owners):len(owners)], lostApp) {
				ring := first
				if owner == lostApp {
					ring = lost
				}
				sealed, err := ring.Seal("portico/totp", owner.String(), []byte("secret of "+owner))
				if err == nil {
					err = tx.PutTOTP(ctx, db.TOTP{DID: owner, Sealed: sealed, Step: 7, CreatedAt: now})
				}
				if err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}

		if _, err := openKeys(ctx, &settings{KeyEncryptionKey: kek(2)}, store); err == nil ||
			!strings.Contains(err.Error(), "PORTICO_KEY_ENCRYPTION_KEY_OLD") {
			t.Errorf("with the new key alone: %v", err)
		}
		if _, err := openKeys(ctx, &settings{KeyEncryptionKey: kek(2), OldKeyEncryptionKey: [][]byte{kek(1)}}, store); err != nil {
			t.Fatal(err)
		}
		ring, err := openKeys(ctx, &settings{KeyEncryptionKey: kek(2)}, store)
		if err != nil {
			t.Fatal(err)
		}
		if ring.MAC("test", []byte("x")) != mac {
			t.Error("keyed hashes changed with the key")
		}
		row, err := store.SigningKey(ctx, did, account.KeyPurpose)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ring.Open(account.KeyPurpose, did.String(), row.Sealed); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("signing key: %q, %v", got, err)
		}
		o := &outbox.Outbox{DB: store, Keys: ring}
		if _, l, err := o.Read(ctx, 1); err != nil || l.Text != "a code" {
			t.Errorf("mail: %v, %v", l, err)
		}
		if _, _, err := o.Read(ctx, 2); !errors.Is(err, keyring.ErrUnknownKey) {
			t.Errorf("mail of a key that was lost before: %v", err)
		}
		secrets, err := store.AdoptedSecretsOf(ctx, did)
		if err != nil || len(secrets) != resealPage+2 {
			t.Errorf("%d adopted secrets, %v", len(secrets), err)
		}
		for _, s := range secrets {
			text, err := adopted.Open(ring, s)
			if errors.Is(err, keyring.ErrUnknownKey) && string(s.Name) == "lost 0" {
				continue
			}
			if err != nil || text != "a hash" {
				t.Fatalf("adopted secret %q: %q, %v", s.Name, text, err)
			}
		}
		for _, owner := range owners {
			o, err := store.TOTP(ctx, owner)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := ring.Open("portico/totp", owner.String(), o.Sealed); err != nil || string(got) != "secret of "+owner.String() || o.Step != 7 {
				t.Fatalf("authenticator app of %s: %q of step %d, %v", owner, got, o.Step, err)
			}
		}
		if o, err := store.TOTP(ctx, lostApp); err != nil {
			t.Error(err)
		} else if _, err := ring.Open("portico/totp", lostApp.String(), o.Sealed); !errors.Is(err, keyring.ErrUnknownKey) {
			t.Errorf("authenticator app of a key that was lost before: %v", err)
		}
		for _, id := range ids {
			k, err := store.ReservedKey(ctx, id)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := ring.Open(account.ReservedPurpose, id, k.Sealed); err != nil || string(got) != id {
				t.Fatalf("reserved key %s: %q, %v", id, got, err)
			}
		}
	})
}

// Of several servers the first to start with a new key-encryption key seals anew what
// is there. What another seals with the old one after that is sealed anew by the next
// start that has the old one still.
func TestKeyRotationWhileOthersRun(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, store *db.DB) {
		ctx := t.Context()
		kek := func(b byte) []byte { return bytes.Repeat([]byte{b}, keyring.KeySize) }
		both := &settings{KeyEncryptionKey: kek(2), OldKeyEncryptionKey: [][]byte{kek(1)}}
		other, err := openKeys(ctx, &settings{KeyEncryptionKey: kek(1)}, store)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := openKeys(ctx, both, store); err != nil {
			t.Fatal(err)
		}
		lost, err := keyring.New(rand.Reader, kek(9))
		if err != nil {
			t.Fatal(err)
		}
		dids := []syntax.DID{"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"}
		for i, ring := range []*keyring.Ring{other, lost} {
			sealed, err := ring.Seal(account.KeyPurpose, dids[i].String(), []byte("secret"))
			if err != nil {
				t.Fatal(err)
			}
			if err := store.Write(ctx, func(tx *db.Tx) error {
				now := time.Now()
				return tx.ReserveAccount(ctx, db.Reservation{
					Account: db.Account{DID: dids[i], CreatedAt: now}, Holder: "test", LeaseUntil: now,
					Key: db.SigningKey{DID: dids[i], Purpose: account.KeyPurpose, Public: "did:key:z", Sealed: sealed},
				})
			}); err != nil {
				t.Fatal(err)
			}
		}

		if _, err := openKeys(ctx, both, store); err != nil {
			t.Fatal(err)
		}
		ring, err := openKeys(ctx, &settings{KeyEncryptionKey: kek(2)}, store)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []error{nil, keyring.ErrUnknownKey} {
			row, err := store.SigningKey(ctx, dids[i], account.KeyPurpose)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ring.Open(account.KeyPurpose, dids[i].String(), row.Sealed); !errors.Is(err, want) {
				t.Errorf("signing key of %s: %v, want %v", dids[i], err, want)
			}
		}
	})
}
