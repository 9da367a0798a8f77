package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	hasher "portico/impl/account/password"
	"portico/impl/account/serviceauth"
	"portico/impl/account/token"
)

const (
	secret        = "f27f9ac1e1a17cd56cf6a3f1f5c2f8b3"
	adminPassword = "9b1a2c63e7d84f50"
)

// floor does in this process what the server's methods can't do without, and nothing
// else: it is what they are measured by.
type floor struct {
	issuer    *token.Issuer
	access    string
	passwords *hasher.Hasher
	store     *db.DB
	dids      []syntax.DID
	key       *atcrypto.PrivateKeyK256
}

func newFloor(ctx context.Context, dir string) (*floor, error) {
	o := &floor{
		issuer:    &token.Issuer{Secret: []byte(secret), ServiceDID: "did:web:bench.example.com", Now: time.Now, Rand: rand.Reader},
		passwords: hasher.NewHasher(hasher.Config{Rand: rand.Reader}),
	}
	o.access = o.issuer.Access("did:plc:abcdefghijklmnopqrstuvwx", token.Access, time.Now())
	var err error
	if o.key, err = atcrypto.GeneratePrivateKeyK256(); err != nil {
		return nil, err
	}
	if o.store, err = db.Open(ctx, db.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}); err != nil {
		return nil, err
	}
	for n := range 1000 {
		o.dids = append(o.dids, syntax.DID(fmt.Sprintf("did:plc:%024d", n)))
	}
	return o, o.store.Write(ctx, func(tx *db.Tx) error {
		for n, did := range o.dids {
			a := db.Account{
				DID: did, Handle: syntax.Handle(fmt.Sprintf("person-%d.bench.example.com", n)),
				Email: fmt.Sprintf("person-%d@example.com", n), CreatedAt: time.Now(),
				PasswordHash: "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$c29tZWhhc2hzb21laGFzaHNvbWVoYXNoc29tZWhhc2g",
			}
			err := tx.ReserveAccount(ctx, db.Reservation{
				Account: a, Holder: "bench", LeaseUntil: time.Now(),
				Key: db.SigningKey{DID: did, Purpose: "atproto", Public: "did:key:bench", Sealed: []byte("bench")},
			})
			if err != nil {
				return err
			}
			if err := tx.FinishAccount(ctx, did, "bench"); err != nil {
				return err
			}
		}
		return nil
	})
}

func (o *floor) close() { o.store.Close() }

func (o *floor) verify(int) error {
	_, err := o.issuer.VerifyAccess(o.access, token.Standard)
	return err
}

func (o *floor) read(int) error {
	_, err := o.store.AccountByDID(context.Background(), o.dids[mathrand.IntN(len(o.dids))])
	return err
}

func (o *floor) sign(int) error {
	_, err := serviceauth.Issue(serviceauth.Request{
		Issuer: o.dids[0], Audience: appViewDID, Method: "app.bsky.feed.getFeedGenerators", IssuedAt: time.Now(), Expires: time.Now().Add(serviceauth.Lifetime).Unix(),
	}, o.key, rand.Reader)
	return err
}

func (o *floor) hash(int) error {
	_, err := o.passwords.Hash(context.Background(), hasher.Caller{}, password)
	return err
}
