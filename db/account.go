package db

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// An Account is one that lives here, in any state but a creation under way.
type Account struct {
	DID              syntax.DID
	Handle           syntax.Handle // lower case; "" for none
	Email            string        // lower case; "" for none
	EmailConfirmedAt *time.Time
	EmailAuthFactor  bool   // logging in needs a code sent by mail
	PasswordHash     string // "" for none
	CreatedAt        time.Time
	DeactivatedAt    *time.Time
	// DeleteAfter is when a deactivated account may be deleted,
	// DeleteAnnouncedAt when its owner was told that it will be.
	DeleteAfter       *time.Time
	DeleteAnnouncedAt *time.Time
	TakedownRef       *string
	InvitesDisabled   bool
	// TokensValidFrom ends the access tokens that were issued before it.
	TokensValidFrom time.Time
}

// Active reports whether the account is neither taken down nor deactivated.
func (a *Account) Active() bool { return !a.TakenDown() && !a.Deactivated() }

// TakenDown reports whether moderators took the account down.
func (a *Account) TakenDown() bool { return a.TakedownRef != nil }

// Deactivated reports whether the account is switched off; it may be taken down too.
func (a *Account) Deactivated() bool { return a.DeactivatedAt != nil }

// Status is what clients are told: "takendown", "deactivated", or "" when active.
func (a *Account) Status() string {
	switch {
	case a.TakenDown():
		return "takendown"
	case a.Deactivated():
		return "deactivated"
	}
	return ""
}

// storable reports whether a text that a client sent can be a value at all. What
// cannot, is not found; Postgres does not even take the question, and aborts the
// transaction that asks it.
func storable(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

const accountColumns = `a.did, a.handle, a.email, a.password_hash, a.created_at, a.email_confirmed_at,
	a.email_auth_factor, a.deactivated_at, a.delete_after, a.delete_announced_at, a.takedown_ref,
	a.invites_disabled, a.tokens_valid_from`

const (
	accountByDID    = `SELECT ` + accountColumns + ` FROM account a WHERE a.did = ? AND a.state = 'ready'`
	accountByHandle = `SELECT ` + accountColumns + ` FROM account a WHERE a.handle = ? AND a.state = 'ready'`
	accountByEmail  = `SELECT ` + accountColumns + ` FROM account a WHERE a.email = ? AND a.state = 'ready'`
)

// accountDest are the places that accountColumns are scanned into.
func accountDest(a *Account) []any {
	return []any{
		(*string)(&a.DID), orEmpty{(*string)(&a.Handle)}, orEmpty{&a.Email}, orEmpty{&a.PasswordHash}, (*stamp)(&a.CreatedAt),
		optional{&a.EmailConfirmedAt}, &a.EmailAuthFactor, optional{&a.DeactivatedAt}, optional{&a.DeleteAfter},
		optional{&a.DeleteAnnouncedAt}, &a.TakedownRef, &a.InvitesDisabled, (*stamp)(&a.TokensValidFrom),
	}
}

func (q *queries) account(ctx context.Context, text string, key string) (*Account, error) {
	if !storable(key) {
		return nil, wrap(ErrNotFound, "read account %q", key)
	}
	a := new(Account)
	if err := q.get(ctx, text, []any{key}, accountDest(a)...); err != nil {
		return nil, wrap(err, "read account %s", key)
	}
	return a, nil
}

// AccountByDID returns an account in any state, or ErrNotFound.
func (q *queries) AccountByDID(ctx context.Context, did syntax.DID) (*Account, error) {
	return q.account(ctx, accountByDID, string(did))
}

// AccountByHandle returns the account with a handle in lower case, or ErrNotFound.
func (q *queries) AccountByHandle(ctx context.Context, handle syntax.Handle) (*Account, error) {
	return q.account(ctx, accountByHandle, string(handle))
}

// AccountByEmail returns the account with an address in lower case, or ErrNotFound.
func (q *queries) AccountByEmail(ctx context.Context, email string) (*Account, error) {
	return q.account(ctx, accountByEmail, email)
}

// DueDeletions returns up to limit accounts whose DeleteAfter is not after
// before, the most overdue first.
func (q *queries) DueDeletions(ctx context.Context, before time.Time, limit int) ([]Account, error) {
	all, err := q.accounts(ctx, `SELECT `+accountColumns+` FROM account a WHERE a.delete_after <= ? AND a.state = 'ready'
		ORDER BY a.delete_after LIMIT ?`, micros(before), limit)
	return all, wrap(err, "list accounts to delete")
}

func (q *queries) accounts(ctx context.Context, text string, args ...any) ([]Account, error) {
	var all []Account
	err := q.each(ctx, text, args, func(row *sql.Rows) error {
		var a Account
		err := row.Scan(accountDest(&a)...)
		all = append(all, a)
		return err
	})
	return all, err
}

// Available returns ErrHandleTaken or ErrEmailTaken, in this order, when an
// account has handle or email, be it one under creation, or may get the handle back. Empty ones are not
// looked for. Nothing is reserved: a later write may still lose the race.
func (q *queries) Available(ctx context.Context, handle syntax.Handle, email string) error {
	for _, check := range []struct {
		value, text string
		taken       error
	}{
		{string(handle), `SELECT 1 FROM account WHERE handle = ?`, ErrHandleTaken},
		{string(handle), `SELECT 1 FROM handle_change WHERE before = ?`, ErrHandleTaken},
		{email, `SELECT 1 FROM account WHERE email = ?`, ErrEmailTaken},
	} {
		if check.value == "" {
			continue
		}
		taken, err := q.exists(ctx, check.text, check.value)
		if err != nil {
			return wrap(err, "look for %s", check.value)
		}
		if taken {
			return check.taken
		}
	}
	return nil
}

// ImportedHashes reports whether an account or an app password still has a hash as
// the reference makes them: those of ours begin with a dollar, or are keyed.
func (q *queries) ImportedHashes(ctx context.Context) (bool, error) {
	for _, text := range []string{
		`SELECT 1 FROM account WHERE substr(password_hash, 1, 1) <> '$' LIMIT 1`,
		`SELECT 1 FROM app_password WHERE mac IS NULL LIMIT 1`,
	} {
		if found, err := q.exists(ctx, text); found || err != nil {
			return found, wrap(err, "look for imported hashes")
		}
	}
	return false, nil
}

// exists reports whether a SELECT 1 finds a row.
func (q *queries) exists(ctx context.Context, text string, args ...any) (bool, error) {
	var one int
	err := q.get(ctx, text, args, &one)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// LockAccount returns the account and keeps other transactions from changing it,
// its sessions, passwords and codes until this one ends. Whoever decides by what
// the account is and writes accordingly locks it first, before any other row.
func (tx *Tx) LockAccount(ctx context.Context, did syntax.DID) (*Account, error) {
	return tx.account(ctx, accountByDID+` {FOR UPDATE}`, string(did))
}

// LockAccountByEmail is [Tx.LockAccount] for the account with an address in lower
// case.
func (tx *Tx) LockAccountByEmail(ctx context.Context, email string) (*Account, error) {
	return tx.account(ctx, accountByEmail+` {FOR UPDATE}`, email)
}

// UpdateAccount stores everything of a but DID and CreatedAt. It returns
// ErrHandleTaken, ErrEmailTaken or ErrNotFound.
func (tx *Tx) UpdateAccount(ctx context.Context, a *Account) error {
	err := found(tx.exec(ctx, `UPDATE account SET handle = ?, email = ?, password_hash = ?, email_confirmed_at = ?,
		email_auth_factor = ?, deactivated_at = ?, delete_after = ?, delete_announced_at = ?, takedown_ref = ?,
		invites_disabled = ?, tokens_valid_from = ? WHERE did = ? AND state = 'ready'`,
		text(a.Handle), text(a.Email), text(a.PasswordHash), microsOf(a.EmailConfirmedAt),
		a.EmailAuthFactor, microsOf(a.DeactivatedAt), microsOf(a.DeleteAfter), microsOf(a.DeleteAnnouncedAt), a.TakedownRef,
		a.InvitesDisabled, micros(a.TokensValidFrom), string(a.DID)))
	if err == nil {
		err = tx.keepsHandle(ctx, a.Handle, a.DID)
	}
	return wrap(err, "update account %s", a.DID)
}

// DeleteAccount removes every row of an account but its events, see
// [Tx.EraseEvents]. Mails that were queued for it go too, so one that announces
// the deletion is queued afterwards. Codes that it owned stay valid and lose its
// name; uses it made of others' codes stay counted. It returns ErrNotFound.
func (tx *Tx) DeleteAccount(ctx context.Context, did syntax.DID) error {
	if _, err := tx.LockAccount(ctx, did); err != nil {
		return err
	}
	d := string(did)
	for _, s := range []struct {
		text string
		args []any
	}{
		{`DELETE FROM account WHERE did = ?`, []any{d}}, // and what references it
		{`DELETE FROM mail WHERE did = ?`, []any{d}},
		{`DELETE FROM invite_use WHERE used_by = ?`, []any{d}},
		{`UPDATE invite SET for_account = 'deleted' WHERE for_account = ?`, []any{d}},
		{`UPDATE invite SET created_by = 'deleted' WHERE created_by = ?`, []any{d}},
		{`DELETE FROM reserved_key WHERE id = ?`, []any{d}},
		{`DELETE FROM did_document WHERE did = ?`, []any{d}},
		{`DELETE FROM audit WHERE did = ?`, []any{d}},
	} {
		if _, err := tx.exec(ctx, s.text, s.args...); err != nil {
			return wrap(err, "delete account %s", did)
		}
	}
	return nil
}
