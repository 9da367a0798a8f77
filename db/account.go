package db

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// An Account is one that lives here, in any state but a creation under way.
type Account struct {
	bun.BaseModel `bun:"table:account,alias:a"`

	DID              syntax.DID    `bun:"did,pk"`
	Handle           syntax.Handle `bun:"handle,nullzero"` // lower case; "" for none
	Email            string        `bun:"email,nullzero"`  // lower case; "" for none
	EmailConfirmedAt *time.Time    `bun:"email_confirmed_at"`
	EmailAuthFactor  bool          `bun:"email_auth_factor"`      // logging in needs a code sent by mail
	PasswordHash     string        `bun:"password_hash,nullzero"` // "" for none
	CreatedAt        time.Time     `bun:"created_at"`
	DeactivatedAt    *time.Time    `bun:"deactivated_at"`
	// DeleteAfter is when a deactivated account may be deleted,
	// DeleteAnnouncedAt when its owner was told that it will be.
	DeleteAfter       *time.Time `bun:"delete_after"`
	DeleteAnnouncedAt *time.Time `bun:"delete_announced_at"`
	TakedownRef       *string    `bun:"takedown_ref"`
	InvitesDisabled   bool       `bun:"invites_disabled"`
	// TokensValidFrom ends the access tokens that were issued before it.
	TokensValidFrom time.Time `bun:"tokens_valid_from"`
	// HeldAt is since when the account is held in quarantine, see [Account.Held].
	HeldAt *time.Time `bun:"held_at"`
}

var (
	selectAccountByDID    = prepared(func(b *builder) bun.Query { return b.accounts().Where("a.did = ?", b.p()) })
	selectAccountByHandle = prepared(func(b *builder) bun.Query { return b.accounts().Where("a.handle = ?", b.p()) })
	selectAccountByEmail  = prepared(func(b *builder) bun.Query { return b.accounts().Where("a.email = ?", b.p()) })
	lockAccountByDID      = prepared(func(b *builder) bun.Query { return b.lock("UPDATE", b.accounts().Where("a.did = ?", b.p())) })
	lockAccountByEmail    = prepared(func(b *builder) bun.Query { return b.lock("UPDATE", b.accounts().Where("a.email = ?", b.p())) })
	countAccounts         = prepared(func(b *builder) bun.Query {
		creating := b.NewSelect().Model((*creation)(nil)).ColumnExpr("count(*)")
		return b.NewSelect().Model((*Account)(nil)).ColumnExpr("count(*) - (?)", creating)
	})
	countHidden = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*Quarantined)(nil)).ColumnExpr("count(*)").Where("q.state IN ('held', 'sent')")
	})
	selectDueDeletions = prepared(func(b *builder) bun.Query {
		return b.limit(b.accounts().Where("a.delete_after <= ?", b.p()), "a.delete_after")
	})

	handleTaken = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*Account)(nil)).ColumnExpr("1").Where("a.handle = ?", b.p())
	})
	handleComesBack = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*HandleChange)(nil)).ColumnExpr("1").Where("before = ?", b.p())
	})
	handlesTaken = prepared(func(b *builder) bun.Query {
		some := make([]bun.Safe, handlesAsked)
		for i := range some {
			some[i] = b.p()
		}
		return b.NewSelect().Model((*Account)(nil)).Column("handle").Where("a.handle IN (?)", bun.List(some)).
			UnionAll(b.NewSelect().Model((*HandleChange)(nil)).Column("before").Where("before IN (?)", bun.List(some)))
	})
	emailTaken = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*Account)(nil)).ColumnExpr("1").Where("a.email = ?", b.p())
	})

	// The text of the condition is that of the index.
	// Postgres takes nearly every account for one, and would look through the table for the first
	// of them, where there is none. In the order of its index it reads that.
	importedPassword = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*Account)(nil)).ColumnExpr("1").Where("substr(password_hash, 1, 1) <> '$'").Order("did").Limit(1)
	})
	importedAppPassword = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*AppPassword)(nil)).ColumnExpr("1").Where("mac IS NULL").Limit(1)
	})

	updateAccount = prepared(func(b *builder) bun.Query {
		return b.setAll(b.NewUpdate(), new(Account), "did", "created_at").Where("did = ?", b.p()).Where("state = 'ready'")
	})
	// What references the account's row goes with it.
	deleteAccount = []*statement{
		prepared(func(b *builder) bun.Query { return b.NewDelete().Model((*Account)(nil)).Where("did = ?", b.p()) }),
		prepared(func(b *builder) bun.Query { return b.NewDelete().Model((*Mail)(nil)).Where("did = ?", b.p()) }),
		prepared(func(b *builder) bun.Query {
			return b.NewDelete().Model((*InviteUse)(nil)).Where("used_by = ?", b.p())
		}),
		prepared(func(b *builder) bun.Query {
			return b.NewUpdate().Model((*Invite)(nil)).Set("for_account = 'deleted'").
				Set("created_by = CASE WHEN created_by = for_account THEN 'deleted' ELSE created_by END").
				Where("for_account = ?", b.p()).Where(inviteOwned)
		}),
		prepared(func(b *builder) bun.Query { return b.NewDelete().Model((*ReservedKey)(nil)).Where("id = ?", b.p()) }),
		prepared(func(b *builder) bun.Query { return b.NewDelete().Model((*didDocument)(nil)).Where("did = ?", b.p()) }),
		prepared(func(b *builder) bun.Query { return b.NewDelete().Model((*AuditEntry)(nil)).Where("did = ?", b.p()) }),
	}
)

// accounts selects those that are not under creation.
func (b *builder) accounts() *bun.SelectQuery {
	return b.NewSelect().Model((*Account)(nil)).Where("a.state = 'ready'")
}

// CountAccounts returns how many accounts there are, in whatever status. It reads all of
// an index.
func (q *queries) CountAccounts(ctx context.Context) (int64, error) {
	var n int64
	err := q.get(ctx, countAccounts, nil, &n)
	return n, wrap(err, "count accounts")
}

// CountShown is CountAccounts without those that are held in quarantine.
func (q *queries) CountShown(ctx context.Context) (int64, error) {
	n, err := q.CountAccounts(ctx)
	if err != nil {
		return 0, err
	}
	var held int64
	err = q.get(ctx, countHidden, nil, &held)
	return max(0, n-held), wrap(err, "count accounts in quarantine")
}

// Active reports whether the account is neither taken down nor deactivated.
func (a *Account) Active() bool { return !a.TakenDown() && !a.Deactivated() }

// TakenDown reports whether moderators took the account down.
func (a *Account) TakenDown() bool { return a.TakedownRef != nil }

// Deactivated reports whether the account is switched off; it may be taken down too.
func (a *Account) Deactivated() bool { return a.DeactivatedAt != nil }

// Held reports whether the account is in quarantine: to all but the sessions of its own and
// the operator it does not exist. Whoever answers anybody else about it answers as about
// one that is not there.
func (a *Account) Held() bool { return a.HeldAt != nil }

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

func (q *queries) account(ctx context.Context, s *statement, key string) (*Account, error) {
	if !storable(key) {
		return nil, wrap(ErrNotFound, "read account %q", key)
	}
	a, err := one[Account](ctx, q, s, key)
	return a, wrap(err, "read account %s", key)
}

// AccountByDID returns an account in any state, or ErrNotFound. See [DB.AccountByDID].
func (q *queries) AccountByDID(ctx context.Context, did syntax.DID) (*Account, error) {
	return q.account(ctx, selectAccountByDID, string(did))
}

// AccountByHandle returns the account with a handle in lower case, or ErrNotFound.
func (q *queries) AccountByHandle(ctx context.Context, handle syntax.Handle) (*Account, error) {
	return q.account(ctx, selectAccountByHandle, string(handle))
}

// AccountByEmail returns the account with an address in lower case, or ErrNotFound.
func (q *queries) AccountByEmail(ctx context.Context, email string) (*Account, error) {
	return q.account(ctx, selectAccountByEmail, email)
}

// DueDeletions returns up to limit accounts whose DeleteAfter is not after
// before, the most overdue first.
func (q *queries) DueDeletions(ctx context.Context, before time.Time, limit int) ([]Account, error) {
	due, err := many[Account](ctx, q, selectDueDeletions, before, limit)
	return due, wrap(err, "list accounts to delete")
}

// Available returns ErrHandleTaken or ErrEmailTaken, in this order, when an
// account has handle or email, be it one under creation, or may get the handle back. Empty ones are not
// looked for. Nothing is reserved: a later write may still lose the race.
func (q *queries) Available(ctx context.Context, handle syntax.Handle, email string) error {
	for _, check := range []struct {
		value string
		find  *statement
		taken error
	}{
		{string(handle), handleTaken, ErrHandleTaken},
		{string(handle), handleComesBack, ErrHandleTaken},
		{email, emailTaken, ErrEmailTaken},
	} {
		if check.value == "" {
			continue
		}
		taken, err := q.exists(ctx, check.find, check.value)
		if err != nil {
			return wrap(err, "look for %s", check.value)
		}
		if taken {
			return check.taken
		}
	}
	return nil
}

// handlesAsked is how many handles one statement asks for.
const handlesAsked = 16

// HandlesTaken returns those of some handles in lower case for which Available returns
// ErrHandleTaken, in no certain order, perhaps twice. It takes one statement for 16.
func (q *queries) HandlesTaken(ctx context.Context, handles ...syntax.Handle) ([]syntax.Handle, error) {
	var taken []syntax.Handle
	for some := range slices.Chunk(handles, handlesAsked) {
		args := make([]any, handlesAsked)
		for i := range args {
			args[i] = some[min(i, len(some)-1)]
		}
		err := q.each(ctx, handlesTaken, args, func(row scanner) error {
			taken = append(taken, "")
			return row.Scan((*string)(&taken[len(taken)-1]))
		})
		if err != nil {
			return nil, wrap(err, "look for %d handles", len(some))
		}
	}
	return taken, nil
}

// ImportedHashes reports whether an account or an app password still has a hash as
// the reference makes them: those of ours begin with a dollar, or are keyed.
func (q *queries) ImportedHashes(ctx context.Context) (bool, error) {
	for _, imported := range []*statement{importedPassword, importedAppPassword} {
		if found, err := q.exists(ctx, imported); found || err != nil {
			return found, wrap(err, "look for imported hashes")
		}
	}
	return false, nil
}

// LockAccount returns the account and keeps other transactions from changing it,
// its sessions, passwords and codes until this one ends. Whoever decides by what
// the account is and writes accordingly locks it first, before any other row.
func (tx *Tx) LockAccount(ctx context.Context, did syntax.DID) (*Account, error) {
	return tx.account(ctx, lockAccountByDID, string(did))
}

// LockAccountByEmail is [Tx.LockAccount] for the account with an address in lower
// case.
func (tx *Tx) LockAccountByEmail(ctx context.Context, email string) (*Account, error) {
	return tx.account(ctx, lockAccountByEmail, email)
}

// UpdateAccount stores everything of a but DID and CreatedAt. It returns
// ErrHandleTaken, ErrEmailTaken or ErrNotFound.
func (tx *Tx) UpdateAccount(ctx context.Context, a *Account) error {
	err := found(tx.exec(ctx, updateAccount, append(values(a, "did", "created_at"), a.DID)...))
	if err == nil {
		err = tx.keepsHandle(ctx, a.Handle, a.DID)
	}
	return wrap(err, "update account %s", a.DID)
}

// DeleteAccount removes every row of an account but its events, see
// [Tx.EraseEvents]. Mails that were queued for it go too, so one that announces
// the deletion is queued afterwards. Codes that it owned stay valid and lose its
// name; uses it made of others' codes stay counted. Of one that was held in quarantine the
// network is told nothing: events that the transaction appends for it are not stored. It
// returns ErrNotFound.
func (tx *Tx) DeleteAccount(ctx context.Context, did syntax.DID) error {
	if _, err := tx.LockAccount(ctx, did); err != nil {
		return err
	}
	if err := tx.hush(ctx, did); err != nil {
		return wrap(err, "delete account %s", did)
	}
	for _, s := range deleteAccount {
		if _, err := tx.exec(ctx, s, did); err != nil {
			return wrap(err, "delete account %s", did)
		}
	}
	return nil
}
