package db

import (
	"context"
	"time"

	"github.com/uptrace/bun"
)

// What is taken over from another server is stored as it was there, in the place of what an
// earlier try has stored.

var (
	adoptAccount = prepared(func(b *builder) bun.Query {
		s := b.insert(new(Account)).Value("state", "'ready'").On("CONFLICT (did) DO UPDATE")
		for _, column := range adoptedColumns {
			s = s.Set("? = excluded.?", bun.Ident(column), bun.Ident(column))
		}
		return s
	})
	adoptInvite = prepared(func(b *builder) bun.Query { return b.insert(new(Invite)) })
	// Rows of accounts that repositories hang on stay: those are not written anew.
	forgetAdopted = []*statement{
		prepared(func(b *builder) bun.Query { return forget(b, (*Session)(nil)) }),
		prepared(func(b *builder) bun.Query { return forget(b, (*AppPassword)(nil)) }),
		prepared(func(b *builder) bun.Query { return forget(b, (*EmailCode)(nil)) }),
		prepared(func(b *builder) bun.Query { return forget(b, (*Invite)(nil)) }),
		prepared(func(b *builder) bun.Query { return forget(b, (*AdoptedSecret)(nil)) }),
		prepared(func(b *builder) bun.Query { return forget(b, (*ReservedKey)(nil)) }),
	}
	countAdopted = []*statement{
		countRows((*Account)(nil)), countRows((*AppPassword)(nil)), countRows((*Session)(nil)), countRows((*EmailCode)(nil)),
		countRows((*Invite)(nil)), countRows((*InviteUse)(nil)), countRows((*ReservedKey)(nil)), countRows((*Event)(nil)),
	}
	forgetEvents = prepared(func(b *builder) bun.Query { return forget(b, (*Event)(nil)) })
	setCounter   = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*eventCounter)(nil)).Set("last = ?", b.p()).Set("time = ?", b.p()).Set("outdated = ?", b.p()).Where("id = 1")
	})
)

// adoptedColumns are those of an account that a second try may find changed.
var adoptedColumns = []string{
	"handle", "email", "email_confirmed_at", "email_auth_factor", "password_hash", "created_at", "deactivated_at",
	"delete_after", "delete_announced_at", "takedown_ref", "invites_disabled", "tokens_valid_from",
}

func countRows(model any) *statement {
	return prepared(func(b *builder) bun.Query { return b.NewSelect().Model(model).ColumnExpr("count(*)") })
}

func forget(b *builder, model any) bun.Query {
	return b.NewDelete().Model(model).Where("1 = 1")
}

// AdoptAccount stores an account in whatever status, with its key, or what changed of it.
// It returns ErrHandleTaken or ErrEmailTaken when another account has its handle or address.
func (tx *Tx) AdoptAccount(ctx context.Context, a Account, k SigningKey) error {
	_, err := tx.exec(ctx, adoptAccount, values(&a)...)
	if err == nil {
		err = tx.PutSigningKey(ctx, k)
	}
	return wrap(err, "adopt account %s", a.DID)
}

// AdoptInvite stores a code with its uses, also those of accounts that are gone.
func (tx *Tx) AdoptInvite(ctx context.Context, i Invite) error {
	if _, err := tx.exec(ctx, adoptInvite, values(&i)...); err != nil {
		return wrap(err, "adopt invite code")
	}
	for _, use := range i.Used {
		if _, err := tx.exec(ctx, insertInviteUse, values(&use)...); err != nil {
			return wrap(err, "adopt use of invite code")
		}
	}
	return nil
}

// AdoptedRows says how many rows there are of what was adopted.
type AdoptedRows struct {
	Accounts, AppPasswords, Sessions, EmailCodes, Invites, InviteUses, ReservedKeys, Events int64
}

// CountAdopted counts the rows of what was adopted. It reads all of them.
func (q *queries) CountAdopted(ctx context.Context) (AdoptedRows, error) {
	var n AdoptedRows
	into := []*int64{&n.Accounts, &n.AppPasswords, &n.Sessions, &n.EmailCodes, &n.Invites, &n.InviteUses, &n.ReservedKeys, &n.Events}
	for i, s := range countAdopted {
		if err := q.get(ctx, s, nil, into[i]); err != nil {
			return n, wrap(err, "count what was adopted")
		}
	}
	return n, nil
}

// ForgetAdopted removes the sessions, app passwords, codes, invites and reserved keys of all
// accounts: those that are adopted next are all there are.
func (tx *Tx) ForgetAdopted(ctx context.Context) error {
	for _, s := range forgetAdopted {
		if _, err := tx.exec(ctx, s); err != nil {
			return wrap(err, "forget what was adopted")
		}
	}
	return nil
}

// ForgetEvents removes all events: those that are adopted next are all there are.
func (tx *Tx) ForgetEvents(ctx context.Context) error {
	_, err := tx.exec(ctx, forgetEvents)
	return wrap(err, "forget events")
}

// AdoptEvent stores an event under the number and with the time that it has.
func (tx *Tx) AdoptEvent(ctx context.Context, e Event) error {
	_, err := tx.exec(ctx, insertEvent, values(&e)...)
	return wrap(err, "adopt event %d", e.Seq)
}

// SetLastEvent says which number was the last one given, and when. Cursors below outdated
// ask for events that are no longer there because of their age.
func (tx *Tx) SetLastEvent(ctx context.Context, last int64, at time.Time, outdated int64) error {
	err := found(tx.exec(ctx, setCounter, last, at, outdated))
	return wrap(err, "set event counter")
}
