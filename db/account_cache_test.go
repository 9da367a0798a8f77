package db_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/dbtest"
)

// statements returns how many statements f runs.
func statements(d *db.DB, f func()) int64 {
	before := d.Statements()
	f()
	return d.Statements() - before
}

// TestAccountsAreCached: an account and its key are read once, until their rows change, by
// whatever statement, or go with the account.
func TestAccountsAreCached(t *testing.T) {
	for _, tt := range []struct {
		name    string
		account bool // is read anew
		write   func(ctx context.Context, tx *db.Tx, did syntax.DID) error
	}{
		{"nothing", false, func(context.Context, *db.Tx, syntax.DID) error { return nil }},
		{"a session", false, func(ctx context.Context, tx *db.Tx, did syntax.DID) error {
			return tx.InsertSession(ctx, db.Session{ID: id(1), DID: did, CreatedAt: start, ExpiresAt: start.Add(time.Hour)})
		}},
		{"another account", false, func(ctx context.Context, tx *db.Tx, _ syntax.DID) error {
			return tx.Exec(ctx, "UPDATE account SET takedown_ref = 'x' WHERE handle = 'user2.test'")
		}},
		{"the account", true, func(ctx context.Context, tx *db.Tx, did syntax.DID) error {
			a, err := tx.LockAccount(ctx, did)
			if err != nil {
				return err
			}
			a.TokensValidFrom = start
			return tx.UpdateAccount(ctx, a)
		}},
		{"a key", true, func(ctx context.Context, tx *db.Tx, did syntax.DID) error {
			return tx.PutSigningKey(ctx, db.SigningKey{DID: did, Purpose: "atproto", Public: "did:key:other", Sealed: []byte("other")})
		}},
		{"a key sealed anew", true, func(ctx context.Context, tx *db.Tx, did syntax.DID) error {
			k, err := tx.SigningKey(ctx, did, "atproto")
			if err != nil {
				return err
			}
			return tx.ResealSigningKey(ctx, *k, []byte("sealed anew"))
		}},
		{"a text", true, func(ctx context.Context, tx *db.Tx, did syntax.DID) error {
			return tx.Exec(ctx, "UPDATE account SET takedown_ref = 'x'")
		}},
		{"a builder", true, func(ctx context.Context, tx *db.Tx, _ syntax.DID) error {
			return tx.Build(ctx, "UPDATE account SET takedown_ref = 'x'")
		}},
		{"by way of another table", true, func(ctx context.Context, tx *db.Tx, did syntax.DID) error {
			if err := tx.Exec(ctx, "CREATE TABLE other (x)"); err != nil {
				return err
			}
			err := tx.Exec(ctx, "CREATE TRIGGER t AFTER INSERT ON other BEGIN UPDATE account SET takedown_ref = 'x'; END")
			if err == nil {
				err = tx.Exec(ctx, "INSERT INTO other VALUES (1)")
			}
			return err
		}},
		{"all accounts", true, func(ctx context.Context, tx *db.Tx, did syntax.DID) error {
			return tx.Exec(ctx, "DELETE FROM account")
		}},
		{"and takes it back", true, func(ctx context.Context, tx *db.Tx, did syntax.DID) error {
			return errors.Join(tx.Exec(ctx, "UPDATE account SET takedown_ref = 'x'"), errFails)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, ctx := dbtest.Open(t), t.Context()
			did := create(t, d, 1)
			create(t, d, 2)
			read := func() (*db.Account, *db.SigningKey) {
				a, err := d.AccountByDID(ctx, did)
				k, missing := d.SigningKey(ctx, did, "atproto")
				if err := errors.Join(err, missing); err != nil && !errors.Is(err, db.ErrNotFound) {
					t.Fatal(err)
				}
				return a, k
			}
			a, _ := read()
			a.Email = "changed by who has read it"
			if n := statements(d, func() { read() }); n != 0 {
				t.Errorf("%d statements, want 0", n)
			}
			if a, _ := read(); a.Email != "user1@mail.test" {
				t.Errorf("read %q", a.Email)
			}
			within := int64(-1)
			err := d.Write(ctx, func(tx *db.Tx) error {
				err := tt.write(ctx, tx, did)
				within = statements(d, func() { read(); read() }) // by others
				return err
			})
			if err != nil && !errors.Is(err, errFails) {
				t.Fatal(err)
			}
			after := statements(d, func() { read() })
			if tt.account && (within != 4 || after != 2) || !tt.account && within+after != 0 {
				t.Errorf("%d statements before COMMIT, %d after it", within, after)
			}
		})
	}
}

// TestAccountIsNotCached: not one that is missing, and not by a transaction.
func TestAccountIsNotCached(t *testing.T) {
	d, ctx := dbtest.Open(t), t.Context()
	did := create(t, d, 1)
	n := statements(d, func() {
		for range 3 {
			_, err := d.AccountByDID(ctx, "did:plc:missing")
			if !errors.Is(err, db.ErrNotFound) {
				t.Errorf("got %v", err)
			}
			_, err = d.SigningKey(ctx, did, "other")
			if !errors.Is(err, db.ErrNotFound) {
				t.Errorf("got %v", err)
			}
		}
	})
	if n != 6 {
		t.Errorf("%d statements, want 6", n)
	}
	if _, err := d.AccountByDID(ctx, did); err != nil {
		t.Fatal(err)
	}
	err := d.Write(ctx, func(tx *db.Tx) error {
		n := statements(d, func() {
			for range 3 {
				if _, err := tx.AccountByDID(ctx, did); err != nil {
					t.Error(err)
				}
			}
		})
		if n != 3 {
			t.Errorf("%d statements, want 3", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.AccountByDID(ctx, did); err == nil {
		t.Error("read after Close")
	}
}

// TestAccountsInGroups: what a group has changed is read once all are committed, also of
// one that could not be, whose members run again.
func TestAccountsInGroups(t *testing.T) {
	for _, fails := range []bool{false, true} {
		t.Run(fmt.Sprint(fails), func(t *testing.T) {
			c := gather(t)
			took := func(name string, want error) {
				c.join(func() {
					err := c.db.Write(t.Context(), func(tx *db.Tx) error {
						return errors.Join(tx.Exec(t.Context(), "UPDATE account SET takedown_ref = '"+name+"'"), want)
					})
					if !errors.Is(err, want) {
						t.Errorf("%s: got %v, want %v", name, err, want)
					}
				})
			}
			c.let()
			did := create(t, c.db, 1)
			c.hold()
			if _, err := c.db.AccountByDID(t.Context(), did); err != nil {
				t.Fatal(err)
			}
			took("a", nil)
			took("b", nil)
			took("c", errFails)
			if fails {
				c.join(func() {
					err := c.db.Write(t.Context(), func(tx *db.Tx) error {
						return errors.Join(tx.Exec(t.Context(), "PRAGMA defer_foreign_keys = 1"),
							tx.InsertSession(t.Context(), db.Session{ID: []byte("x"), DID: "did:plc:nobody", CreatedAt: start, ExpiresAt: start}))
					})
					if err == nil {
						t.Error("committed a session of nobody")
					}
				})
			}
			c.let()
			a, err := c.db.AccountByDID(t.Context(), did)
			if err != nil || a.TakedownRef == nil || *a.TakedownRef != "b" && !fails {
				t.Errorf("read %+v, %v", a, err)
			}
		})
	}
}

// TestAcknowledgedIsSeen: whoever reads an account after a change of it was acknowledged
// finds that change or a later one, however many read and write meanwhile.
func TestAcknowledgedIsSeen(t *testing.T) {
	d, ctx := dbtest.Open(t), t.Context()
	const accounts, changes = 3, 50
	var dids [accounts]syntax.DID
	var acknowledged [accounts]atomic.Int64
	for n := range dids {
		dids[n] = create(t, d, n+1)
		acknowledged[n].Store(start.UnixMicro())
	}
	if err := d.Write(ctx, func(tx *db.Tx) error {
		return tx.Exec(ctx, fmt.Sprintf("UPDATE account SET tokens_valid_from = %d", start.UnixMicro()))
	}); err != nil {
		t.Fatal(err)
	}
	var done atomic.Int64
	var wait sync.WaitGroup
	for n, did := range dids {
		wait.Go(func() {
			defer done.Add(1)
			for i := range changes {
				at := start.Add(time.Duration(i+1) * time.Second)
				err := d.Write(ctx, func(tx *db.Tx) error {
					a, err := tx.LockAccount(ctx, did)
					if err != nil {
						return err
					}
					a.TokensValidFrom = at
					if err := tx.UpdateAccount(ctx, a); err != nil {
						return err
					}
					return tx.PutSigningKey(ctx, db.SigningKey{DID: did, Purpose: "atproto", Public: at.Format(time.RFC3339), Sealed: []byte("x")})
				})
				if err != nil {
					t.Error(err)
					return
				}
				acknowledged[n].Store(at.UnixMicro())
				if a, err := d.AccountByDID(ctx, did); err != nil || !a.TokensValidFrom.Equal(at) {
					t.Errorf("read %v, %v, having written %v", a, err, at)
				}
				// One that is undone leaves nothing behind.
				_ = d.Write(ctx, func(tx *db.Tx) error {
					return errors.Join(tx.Exec(ctx, "UPDATE account SET tokens_valid_from = 4e15"), errFails)
				})
			}
		})
		for range 4 {
			wait.Go(func() {
				for done.Load() < accounts {
					least := time.UnixMicro(acknowledged[n].Load())
					a, err := d.AccountByDID(ctx, did)
					if err != nil || a.TokensValidFrom.Before(least) || a.TokensValidFrom.After(start.Add(changes*time.Second)) {
						t.Errorf("read %v, %v, after %v", a, err, least)
						return
					}
					k, err := d.SigningKey(ctx, did, "atproto")
					if err != nil || least.After(start) && k.Public < least.UTC().Format(time.RFC3339) {
						t.Errorf("read %v, %v, after %v", k, err, least)
						return
					}
				}
			})
		}
	}
	wait.Wait()
}
