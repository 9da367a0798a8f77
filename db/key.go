package db

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// A SigningKey is a private key of an account, encrypted by its owner's package.
type SigningKey struct {
	bun.BaseModel `bun:"table:signing_key,alias:k"`

	DID     syntax.DID `bun:"did,pk"`
	Purpose string     `bun:"purpose,pk"` // "atproto" for the repository's
	Public  string     `bun:"public"`     // did:key
	Sealed  []byte     `bun:"sealed"`
}

// A ReservedKey waits for the account it was made for.
type ReservedKey struct {
	bun.BaseModel `bun:"table:reserved_key,alias:r"`

	ID        string     `bun:"id,pk"`        // the DID, or Public when none was given
	DID       syntax.DID `bun:"did,nullzero"` // "" when none was given
	Public    string     `bun:"public"`       // did:key
	Sealed    []byte     `bun:"sealed"`
	CreatedAt time.Time  `bun:"created_at"`
	ExpiresAt time.Time  `bun:"expires_at"`
}

var (
	selectSigningKey = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*SigningKey)(nil)).Where("did = ?", b.p()).Where("purpose = ?", b.p())
	})
	// Of an account that is switched off nothing is written any more, also by who was let in
	// before.
	selectWritingKey = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*SigningKey)(nil)).Join("JOIN account AS a ON a.did = k.did").
			Where("k.did = ?", b.p()).Where("k.purpose = ?", b.p()).Where("a.deactivated_at IS NULL")
	})
	selectSigningKeys = prepared(func(b *builder) bun.Query {
		return b.limit(b.NewSelect().Model((*SigningKey)(nil)).Where("(did, purpose) > (?, ?)", b.p(), b.p()).Order("did"), "purpose")
	})
	putSigningKey = prepared(func(b *builder) bun.Query {
		return b.insert(new(SigningKey)).On("CONFLICT (did, purpose) DO UPDATE").
			Set("public = excluded.public").Set("sealed = excluded.sealed")
	})
	resealSigningKey = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*SigningKey)(nil)).Set("sealed = ?", b.p()).
			Where("did = ?", b.p()).Where("purpose = ?", b.p()).Where("public = ?", b.p())
	})

	selectReservedKey = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*ReservedKey)(nil)).Where("id = ?", b.p())
	})
	selectValidReservedKey = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*ReservedKey)(nil)).Where("id = ?", b.p()).Where("expires_at > ?", b.p())
	})
	selectReservedKeys = prepared(func(b *builder) bun.Query {
		return b.limit(b.NewSelect().Model((*ReservedKey)(nil)).Where("id > ?", b.p()), "id")
	})
	// The reservation that is there gives way only once it has expired.
	reserveKey = prepared(func(b *builder) bun.Query {
		return b.insert(new(ReservedKey)).On("CONFLICT (id) DO UPDATE").
			Set("public = excluded.public").Set("sealed = excluded.sealed").
			Set("created_at = excluded.created_at").Set("expires_at = excluded.expires_at").
			Where("r.expires_at <= excluded.created_at")
	})
	resealReservedKey = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*ReservedKey)(nil)).Set("sealed = ?", b.p()).Where("id = ?", b.p()).Where("public = ?", b.p())
	})
	takeReservedKey = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*ReservedKey)(nil)).Where("id = ?", b.p()).Where("public = ?", b.p())
	})
	deleteReservedKey = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*ReservedKey)(nil)).Where("id = ?", b.p())
	})
)

// SigningKey returns a key of an account, or ErrNotFound. See [DB.SigningKey].
func (q *queries) SigningKey(ctx context.Context, did syntax.DID, purpose string) (*SigningKey, error) {
	k, err := one[SigningKey](ctx, q, selectSigningKey, did, purpose)
	return k, wrap(err, "read signing key of %s", did)
}

// WritingKey is SigningKey for who signs what the owner writes: there is none while the account
// is deactivated. Who deactivates one and makes a commit in the same transaction can be sure
// that none of the owner's follows.
func (q *queries) WritingKey(ctx context.Context, did syntax.DID, purpose string) (*SigningKey, error) {
	k, err := one[SigningKey](ctx, q, selectWritingKey, did, purpose)
	return k, wrap(err, "read signing key of %s", did)
}

// SigningKeys returns up to limit keys in the order of DID and purpose, those
// after the given pair: the way to seal all of them anew.
func (q *queries) SigningKeys(ctx context.Context, after syntax.DID, purpose string, limit int) ([]SigningKey, error) {
	keys, err := many[SigningKey](ctx, q, selectSigningKeys, after, purpose, limit)
	return keys, wrap(err, "list signing keys")
}

// PutSigningKey stores a key in the place of the one that the account had for
// the purpose. It returns ErrNotFound when there is no account.
func (tx *Tx) PutSigningKey(ctx context.Context, k SigningKey) error {
	_, err := tx.exec(ctx, putSigningKey, values(&k)...)
	return wrap(err, "store signing key of %s", k.DID)
}

// ResealSigningKey replaces the sealed form of k by another one of the same key.
// An account that is gone or has another key by now stays as it is.
func (tx *Tx) ResealSigningKey(ctx context.Context, k SigningKey, sealed []byte) error {
	_, err := tx.exec(ctx, resealSigningKey, sealed, k.DID, k.Purpose, k.Public)
	return wrap(err, "reseal signing key of %s", k.DID)
}

// ReservedKey returns a reservation that has not expired, or ErrNotFound.
func (q *queries) ReservedKey(ctx context.Context, id string) (*ReservedKey, error) {
	k, err := one[ReservedKey](ctx, q, selectValidReservedKey, id, q.now())
	return k, wrap(err, "read reserved key %s", id)
}

// ReserveKey stores k and returns it, or the reservation that k.ID has already
// and that has not expired.
func (tx *Tx) ReserveKey(ctx context.Context, k ReservedKey) (*ReservedKey, error) {
	if _, err := tx.exec(ctx, reserveKey, values(&k)...); err != nil {
		return nil, wrap(err, "reserve key %s", k.ID)
	}
	kept, err := one[ReservedKey](ctx, &tx.queries, selectReservedKey, k.ID)
	return kept, wrap(err, "reserve key %s", k.ID)
}

// ReservedKeys returns up to limit reservations in the order of their ids, those
// after the given one, expired ones too: the way to seal all of them anew.
func (q *queries) ReservedKeys(ctx context.Context, after string, limit int) ([]ReservedKey, error) {
	keys, err := many[ReservedKey](ctx, q, selectReservedKeys, after, limit)
	return keys, wrap(err, "list reserved keys")
}

// ResealReservedKey replaces the sealed form of k by another one of the same key.
// A reservation that is gone or of another key by now stays as it is.
func (tx *Tx) ResealReservedKey(ctx context.Context, k ReservedKey, sealed []byte) error {
	_, err := tx.exec(ctx, resealReservedKey, sealed, k.ID, k.Public)
	return wrap(err, "reseal reserved key %s", k.ID)
}

// TakeReservedKey ends a reservation that was read, for the one account that gets its
// key. It returns ErrNotFound when somebody was faster.
func (tx *Tx) TakeReservedKey(ctx context.Context, k ReservedKey) error {
	err := found(tx.exec(ctx, takeReservedKey, k.ID, k.Public))
	return wrap(err, "take reserved key %s", k.ID)
}

// DeleteReservedKeys removes the reservation of a DID, if there is one.
func (tx *Tx) DeleteReservedKeys(ctx context.Context, did syntax.DID) error {
	_, err := tx.exec(ctx, deleteReservedKey, did)
	return wrap(err, "delete reserved key of %s", did)
}
