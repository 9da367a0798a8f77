package db

import (
	"context"
	"database/sql"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// An AppPassword is a secondary password of an account.
type AppPassword struct {
	DID        syntax.DID
	Name       string
	MAC        []byte // keyed hash; nil for an imported one that was not used yet
	Scrypt     string // an imported one's hash, "" for none
	Privileged bool
	CreatedAt  time.Time
}

const appPasswordColumns = `p.did, p.name, p.mac, p.scrypt, p.privileged, p.created_at`

func (p *AppPassword) dest() []any {
	return []any{(*string)(&p.DID), &p.Name, &p.MAC, orEmpty{&p.Scrypt}, &p.Privileged, (*stamp)(&p.CreatedAt)}
}

// AppPasswords returns the app passwords of an account, the newest first.
func (q *queries) AppPasswords(ctx context.Context, did syntax.DID) ([]AppPassword, error) {
	var all []AppPassword
	err := q.each(ctx, `SELECT `+appPasswordColumns+` FROM app_password p WHERE p.did = ? ORDER BY p.created_at DESC, p.name`,
		[]any{string(did)}, func(row *sql.Rows) error {
			var p AppPassword
			err := row.Scan(p.dest()...)
			all = append(all, p)
			return err
		})
	return all, wrap(err, "list app passwords of %s", did)
}

// AppPasswordByMAC returns an account's app password by its hash, or ErrNotFound.
func (q *queries) AppPasswordByMAC(ctx context.Context, did syntax.DID, mac []byte) (*AppPassword, error) {
	p := new(AppPassword)
	err := q.get(ctx, `SELECT `+appPasswordColumns+` FROM app_password p WHERE p.did = ? AND p.mac = ?`, []any{string(did), mac}, p.dest()...)
	if err != nil {
		return nil, wrap(err, "read app password of %s", did)
	}
	return p, nil
}

// AppPasswordByName returns an account's app password by its name, or ErrNotFound.
func (q *queries) AppPasswordByName(ctx context.Context, did syntax.DID, name string) (*AppPassword, error) {
	p := new(AppPassword)
	err := q.get(ctx, `SELECT `+appPasswordColumns+` FROM app_password p WHERE p.did = ? AND p.name = ?`, []any{string(did), name}, p.dest()...)
	if err != nil {
		return nil, wrap(err, "read app password of %s", did)
	}
	return p, nil
}

// HasImportedAppPasswords reports whether an account has app passwords that came from
// another server and were not used here yet.
func (q *queries) HasImportedAppPasswords(ctx context.Context, did syntax.DID) (bool, error) {
	var n int
	err := q.get(ctx, `SELECT count(*) FROM (SELECT 1 FROM app_password WHERE did = ? AND mac IS NULL LIMIT 1) one`, []any{string(did)}, &n)
	return n > 0, wrap(err, "look for imported app passwords of %s", did)
}

// ImportedAppPassword returns the one of those with the hash that it was imported with,
// or ErrNotFound.
func (q *queries) ImportedAppPassword(ctx context.Context, did syntax.DID, scrypt string) (*AppPassword, error) {
	p := new(AppPassword)
	err := q.get(ctx, `SELECT `+appPasswordColumns+` FROM app_password p WHERE p.did = ? AND p.mac IS NULL AND p.scrypt = ? LIMIT 1`,
		[]any{string(did), scrypt}, p.dest()...)
	if err != nil {
		return nil, wrap(err, "read imported app password of %s", did)
	}
	return p, nil
}

// CountAppPasswords returns how many app passwords an account has.
func (q *queries) CountAppPasswords(ctx context.Context, did syntax.DID) (int, error) {
	var n int
	err := q.get(ctx, `SELECT count(*) FROM app_password WHERE did = ?`, []any{string(did)}, &n)
	return n, wrap(err, "count app passwords of %s", did)
}

// InsertAppPassword stores an app password. It returns ErrNameTaken when the
// account has one of that name, ErrNotFound when there is no account.
func (tx *Tx) InsertAppPassword(ctx context.Context, p AppPassword) error {
	_, err := tx.exec(ctx, `INSERT INTO app_password (did, name, mac, scrypt, privileged, created_at) VALUES (?, ?, ?, ?, ?, ?)`,
		string(p.DID), p.Name, p.MAC, text(p.Scrypt), p.Privileged, micros(p.CreatedAt))
	return wrap(err, "store app password of %s", p.DID)
}

// SetAppPasswordMAC replaces the hash of an imported app password by ours. It
// returns ErrNotFound when there is none of that name.
func (tx *Tx) SetAppPasswordMAC(ctx context.Context, did syntax.DID, name string, mac []byte) error {
	err := found(tx.exec(ctx, `UPDATE app_password SET mac = ?, scrypt = NULL WHERE did = ? AND name = ?`, mac, string(did), name))
	return wrap(err, "store hash of app password of %s", did)
}

// DeleteAppPassword removes an app password and ends its sessions. One that is
// not there is no error; a missing account is ErrNotFound.
func (tx *Tx) DeleteAppPassword(ctx context.Context, did syntax.DID, name string) error {
	_, err := tx.LockAccount(ctx, did)
	if err == nil {
		_, err = tx.exec(ctx, `DELETE FROM session WHERE did = ? AND app_password = ?`, string(did), name)
	}
	if err == nil {
		_, err = tx.exec(ctx, `DELETE FROM app_password WHERE did = ? AND name = ?`, string(did), name)
	}
	return wrap(err, "delete app password of %s", did)
}

// DeleteAppPasswords removes all app passwords of an account that the caller has
// locked, and returns how many there were. Their sessions are not its business.
func (tx *Tx) DeleteAppPasswords(ctx context.Context, did syntax.DID) (int64, error) {
	n, err := tx.exec(ctx, `DELETE FROM app_password WHERE did = ?`, string(did))
	return n, wrap(err, "delete app passwords of %s", did)
}
