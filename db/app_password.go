package db

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// An AppPassword is a secondary password of an account.
type AppPassword struct {
	bun.BaseModel `bun:"table:app_password,alias:p"`

	DID        syntax.DID `bun:"did,pk"`
	Name       string     `bun:"name,pk"`
	MAC        []byte     `bun:"mac"`             // keyed hash; nil for an imported one that was not used yet
	Scrypt     string     `bun:"scrypt,nullzero"` // the hash of an imported one, not always by scrypt; "" for none
	Privileged bool       `bun:"privileged"`
	CreatedAt  time.Time  `bun:"created_at"`
}

var (
	selectAppPasswords = prepared(func(b *builder) bun.Query {
		// The driver asks for name and type of each column each time.
		return b.appPasswords().Column("name", "privileged", "created_at").Order("created_at DESC", "name")
	})
	selectAppPasswordByMAC     = prepared(func(b *builder) bun.Query { return b.appPasswords().Where("mac = ?", b.p()) })
	selectAppPasswordByName    = prepared(func(b *builder) bun.Query { return b.appPasswords().Where("name = ?", b.p()) })
	selectImportedAppPasswords = prepared(func(b *builder) bun.Query { return b.appPasswords().Where("mac IS NULL") })
	countAppPasswords          = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*AppPassword)(nil)).ColumnExpr("count(*)").Where("did = ?", b.p())
	})
	insertAppPassword = prepared(func(b *builder) bun.Query { return b.insert(new(AppPassword)) })
	updateAppPassword = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*AppPassword)(nil)).Set("mac = ?", b.p()).Set("scrypt = NULL").
			Where("did = ?", b.p()).Where("name = ?", b.p())
	})
	deleteAppPassword = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*AppPassword)(nil)).Where("did = ?", b.p()).Where("name = ?", b.p())
	})
	deleteAppPasswordSessions = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*Session)(nil)).Where("did = ?", b.p()).Where("app_password = ?", b.p())
	})
	deleteAppPasswords = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*AppPassword)(nil)).Where("did = ?", b.p())
	})
)

// appPasswords selects those of the account that is the first parameter.
func (b *builder) appPasswords() *bun.SelectQuery {
	return b.NewSelect().Model((*AppPassword)(nil)).Where("did = ?", b.p())
}

// AppPasswords returns the app passwords of an account, the newest first, all of them but
// their hashes.
func (q *queries) AppPasswords(ctx context.Context, did syntax.DID) ([]AppPassword, error) {
	var passwords []AppPassword
	p := AppPassword{DID: did}
	dest := []any{&p.Name, &p.Privileged, (*stamp)(&p.CreatedAt)}
	err := q.each(ctx, selectAppPasswords, []any{did}, func(row scanner) error {
		err := row.Scan(dest...)
		passwords = append(passwords, p)
		return err
	})
	return passwords, wrap(err, "list app passwords of %s", did)
}

// AppPasswordByMAC returns an account's app password by its hash, or ErrNotFound.
func (q *queries) AppPasswordByMAC(ctx context.Context, did syntax.DID, mac []byte) (*AppPassword, error) {
	p, err := one[AppPassword](ctx, q, selectAppPasswordByMAC, did, mac)
	return p, wrap(err, "read app password of %s", did)
}

// AppPasswordByName returns an account's app password by its name, or ErrNotFound.
func (q *queries) AppPasswordByName(ctx context.Context, did syntax.DID, name string) (*AppPassword, error) {
	p, err := one[AppPassword](ctx, q, selectAppPasswordByName, did, name)
	return p, wrap(err, "read app password of %s", did)
}

// ImportedAppPasswords returns those of an account that came from another server and were not
// used here yet, in no certain order.
func (q *queries) ImportedAppPasswords(ctx context.Context, did syntax.DID) ([]AppPassword, error) {
	all, err := many[AppPassword](ctx, q, selectImportedAppPasswords, did)
	return all, wrap(err, "look for imported app passwords of %s", did)
}

// CountAppPasswords returns how many app passwords an account has.
func (q *queries) CountAppPasswords(ctx context.Context, did syntax.DID) (int, error) {
	var n int
	err := q.get(ctx, countAppPasswords, []any{did}, &n)
	return n, wrap(err, "count app passwords of %s", did)
}

// InsertAppPassword stores an app password. It returns ErrNameTaken when the
// account has one of that name, ErrNotFound when there is no account.
func (tx *Tx) InsertAppPassword(ctx context.Context, p AppPassword) error {
	_, err := tx.exec(ctx, insertAppPassword, values(&p)...)
	return wrap(err, "store app password of %s", p.DID)
}

// SetAppPasswordMAC replaces the hash of an imported app password by ours. It
// returns ErrNotFound when there is none of that name.
func (tx *Tx) SetAppPasswordMAC(ctx context.Context, did syntax.DID, name string, mac []byte) error {
	err := found(tx.exec(ctx, updateAppPassword, mac, did, name))
	return wrap(err, "store hash of app password of %s", did)
}

// DeleteAppPassword removes an app password and ends its sessions. One that is
// not there is no error; a missing account is ErrNotFound.
func (tx *Tx) DeleteAppPassword(ctx context.Context, did syntax.DID, name string) error {
	_, err := tx.LockAccount(ctx, did)
	if err == nil {
		_, err = tx.exec(ctx, deleteAppPasswordSessions, did, name)
	}
	if err == nil {
		_, err = tx.exec(ctx, deleteAppPassword, did, name)
	}
	return wrap(err, "delete app password of %s", did)
}

// DeleteAppPasswords removes all app passwords of an account that the caller has
// locked, and returns how many there were. Their sessions are not its business.
func (tx *Tx) DeleteAppPasswords(ctx context.Context, did syntax.DID) (int64, error) {
	n, err := tx.exec(ctx, deleteAppPasswords, did)
	return n, wrap(err, "delete app passwords of %s", did)
}
