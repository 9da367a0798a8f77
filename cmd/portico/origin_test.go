package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/keyring"
)

// A rotation key or public URL that changes is told of at every start, until no DID of
// an account names another one any more.
func TestWarnOfChange(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, store *db.DB) {
		key := func() *atcrypto.PrivateKeyK256 {
			t.Helper()
			k, err := keyring.NewKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			return k
		}
		public := func(s *settings) string {
			k, err := s.RotationKey.PublicKey()
			if err != nil {
				t.Fatal(err)
			}
			return k.DIDKey()
		}
		at := func(k *atcrypto.PrivateKeyK256, host string) *settings {
			return &settings{RotationKey: k, PublicURL: &url.URL{Scheme: "https", Host: host}}
		}
		one, two := key(), key()
		first, second, moved := at(one, "pds.test"), at(two, "pds.test"), at(two, "pds2.test")

		// What the DIDs say.
		type said struct {
			endpoint string
			keys     []string
			err      error
		}
		dids := map[syntax.DID]said{}
		var log bytes.Buffer
		begin := func(s *settings) *origins {
			t.Helper()
			log.Reset()
			o, err := newOrigins(s, store, slog.New(slog.NewTextHandler(&log, nil)))
			if err != nil {
				t.Fatal(err)
			}
			if err := o.warn(t.Context()); err != nil {
				t.Fatal(err)
			}
			return o
		}
		settle := func(o *origins) error {
			return o.settle(t.Context(), func(_ context.Context, did syntax.DID) (string, []string, error) {
				return dids[did].endpoint, dids[did].keys, dids[did].err
			})
		}
		warned := func(step string, want ...string) {
			t.Helper()
			if n := strings.Count(log.String(), "level=WARN"); n != len(want) {
				t.Errorf("%s: %d warnings, want %d:\n%s", step, n, len(want), &log)
			}
			for _, want := range want {
				if !strings.Contains(log.String(), want) {
					t.Errorf("%s: log %s, want %s", step, &log, want)
				}
			}
		}
		const keyChanged, from1, from2 = `"the rotation key was another one at earlier starts`, `before=https://pds.test now=https://pds2.test`, `before=https://pds2.test now=https://pds.test`

		begin(first)
		warned("first start")
		begin(moved)
		warned("another one without accounts")
		begin(first)
		warned("back without accounts")

		for _, did := range []syntax.DID{"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "did:web:bob.test"} {
			err := store.Write(t.Context(), func(tx *db.Tx) error {
				err := tx.ReserveAccount(t.Context(), db.Reservation{
					Account: db.Account{DID: did, CreatedAt: time.Now()}, Holder: "test", LeaseUntil: time.Now(),
					Key: db.SigningKey{DID: did, Purpose: "atproto", Public: "did:key:z", Sealed: []byte{1}},
				})
				if err != nil {
					return err
				}
				return tx.FinishAccount(t.Context(), did, "test")
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		const alice, bob = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"), syntax.DID("did:web:bob.test")
		dids[alice] = said{endpoint: "https://pds.test", keys: []string{public(first)}}
		dids[bob] = said{endpoint: "https://pds.test"}

		begin(first)
		warned("the same")
		begin(second)
		warned("another key", keyChanged)
		if err := settle(begin(second)); err != nil {
			t.Error(err)
		}
		warned("that again", keyChanged)
		begin(moved)
		warned("another host", keyChanged, from1)
		begin(first)
		warned("all back, but who knows what was done meanwhile", keyChanged, from2)
		if err := settle(begin(first)); err != nil {
			t.Error(err)
		}
		begin(first)
		warned("all DIDs agree")

		// One that changes is followed account by account.
		begin(moved)
		dids[alice] = said{endpoint: "https://pds2.test", keys: []string{public(first), public(moved)}}
		if err := settle(begin(moved)); err != nil {
			t.Error(err)
		}
		warned("the document of one names the old host", from1, keyChanged)
		begin(moved)
		warned("the key has agreed", from1)
		dids[bob] = said{err: errors.New("no answer")}
		if err := settle(begin(moved)); err == nil {
			t.Error("settled, though nobody knows what a DID says")
		}
		dids[bob] = said{endpoint: "https://third.test"} // it has moved away
		if err := settle(begin(moved)); err != nil {
			t.Error(err)
		}
		begin(moved)
		warned("in the end")
	})
}
