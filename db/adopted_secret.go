package db

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// An AdoptedSecret is what an account had on the server that it was adopted from, in the
// form that only that one can use, sealed by its owner's package.
type AdoptedSecret struct {
	bun.BaseModel `bun:"table:adopted_secret,alias:s"`

	DID  syntax.DID  `bun:"did,pk"`
	Kind AdoptedKind `bun:"kind,pk"`
	// Name tells those of a kind apart: the name of an app password, the id of a session;
	// the password of an account has none.
	Name []byte `bun:"name,pk"`
	// Beside is what stands for the secret here: the hash of a password, of whatever kind.
	// Once that is another one, the secret is outdated. Of a session it is the id of the
	// successor that it had when it was adopted, or empty.
	Beside []byte `bun:"beside"`
	Sealed []byte `bun:"sealed"`
}

// An AdoptedKind says what an adopted secret is of.
type AdoptedKind string

// The kinds of adopted secrets.
const (
	AdoptedPassword    AdoptedKind = "password"
	AdoptedAppPassword AdoptedKind = "app password"
	AdoptedSession     AdoptedKind = "session"
)

var (
	putAdoptedSecret = prepared(func(b *builder) bun.Query {
		return b.insert(new(AdoptedSecret)).On("CONFLICT (did, kind, name) DO UPDATE").
			Set("beside = excluded.beside").Set("sealed = excluded.sealed")
	})
	selectAdoptedSecret = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*AdoptedSecret)(nil)).Where("did = ?", b.p()).Where("kind = ?", b.p()).Where("name = ?", b.p())
	})
	selectAdoptedSecretsOf = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*AdoptedSecret)(nil)).Where("did = ?", b.p()).Order("kind", "name")
	})
	selectAdoptedSecrets = prepared(func(b *builder) bun.Query {
		return b.limit(b.NewSelect().Model((*AdoptedSecret)(nil)).
			Where("(did, kind, name) > (?, ?, ?)", b.p(), b.p(), b.p()).Order("did", "kind"), "name")
	})
	moveAdoptedSecret = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*AdoptedSecret)(nil)).Set("beside = ?", b.p()).
			Where("did = ?", b.p()).Where("kind = ?", b.p()).Where("name = ?", b.p()).Where("beside = ?", b.p())
	})
	resealAdoptedSecret = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*AdoptedSecret)(nil)).Set("sealed = ?", b.p()).
			Where("did = ?", b.p()).Where("kind = ?", b.p()).Where("name = ?", b.p()).Where("sealed = ?", b.p())
	})
	deleteAdoptedSecrets = prepared(func(b *builder) bun.Query {
		// The condition that all meet makes it the first rows of the key.
		first := b.limit(b.NewSelect().Model((*AdoptedSecret)(nil)).Column("did", "kind", "name").Where("did > ''").Order("did", "kind"), "name")
		return b.NewDelete().Model((*AdoptedSecret)(nil)).Where("(did, kind, name) IN (?)", first)
	})
)

// PutAdoptedSecrets stores secrets, each in the place of the one that its account has of
// that kind and name. It returns ErrNotFound when there is no account.
func (tx *Tx) PutAdoptedSecrets(ctx context.Context, secrets []AdoptedSecret) error {
	for _, s := range secrets {
		s.Name, s.Beside = bytesOf(s.Name), bytesOf(s.Beside)
		if _, err := tx.exec(ctx, putAdoptedSecret, values(&s)...); err != nil {
			return wrap(err, "store adopted secret of %s", s.DID)
		}
	}
	return nil
}

// AdoptedSecret returns a secret, outdated or not, or ErrNotFound.
func (q *queries) AdoptedSecret(ctx context.Context, did syntax.DID, kind AdoptedKind, name []byte) (*AdoptedSecret, error) {
	s, err := one[AdoptedSecret](ctx, q, selectAdoptedSecret, did, string(kind), bytesOf(name))
	return s, wrap(err, "read adopted secret of %s", did)
}

// AdoptedSecretsOf returns the secrets of an account, outdated or not, in the order of kind
// and name.
func (q *queries) AdoptedSecretsOf(ctx context.Context, did syntax.DID) ([]AdoptedSecret, error) {
	secrets, err := many[AdoptedSecret](ctx, q, selectAdoptedSecretsOf, did)
	return secrets, wrap(err, "list adopted secrets of %s", did)
}

// AdoptedSecrets returns up to limit secrets in the order of DID, kind and name, those after
// the given one, of which these three count: the way to seal all of them anew.
func (q *queries) AdoptedSecrets(ctx context.Context, after AdoptedSecret, limit int) ([]AdoptedSecret, error) {
	secrets, err := many[AdoptedSecret](ctx, q, selectAdoptedSecrets, after.DID, string(after.Kind), bytesOf(after.Name), limit)
	return secrets, wrap(err, "list adopted secrets")
}

// MoveAdoptedSecret notes that another value stands for the same secret: to, where from has
// been. One that is outdated or not there is no error, and stays so.
func (tx *Tx) MoveAdoptedSecret(ctx context.Context, did syntax.DID, kind AdoptedKind, name, from, to []byte) error {
	_, err := tx.exec(ctx, moveAdoptedSecret, to, did, string(kind), bytesOf(name), from)
	return wrap(err, "move adopted secret of %s", did)
}

// ResealAdoptedSecret replaces the sealed form of s by another one of the same secret.
// What is gone or sealed otherwise by now stays as it is.
func (tx *Tx) ResealAdoptedSecret(ctx context.Context, s AdoptedSecret, sealed []byte) error {
	_, err := tx.exec(ctx, resealAdoptedSecret, sealed, s.DID, string(s.Kind), bytesOf(s.Name), s.Sealed)
	return wrap(err, "reseal adopted secret of %s", s.DID)
}

// DeleteAdoptedSecrets removes up to limit secrets of whatever accounts, and returns how
// many there were.
func (tx *Tx) DeleteAdoptedSecrets(ctx context.Context, limit int) (int64, error) {
	n, err := tx.exec(ctx, deleteAdoptedSecrets, limit)
	return n, wrap(err, "delete adopted secrets")
}
