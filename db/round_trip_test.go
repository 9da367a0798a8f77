package db_test

import (
	"context"
	"errors"
	"math"
	"net/url"
	"strings"
	"testing"

	"portico/db"
	"portico/db/dbtest"
)

func seed(t *testing.T, d *db.DB) {
	t.Helper()
	if err := d.Write(t.Context(), func(tx *db.Tx) error { return tx.PutMeta(t.Context(), "seed", []byte("x")) }); err != nil {
		t.Fatal(err)
	}
}

// TestLaterStatements: what is done later is done, in the order of the calls, and what goes
// wrong with it is what Write returns, whatever is made of it in between.
func TestLaterStatements(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		value := func(name string) string {
			t.Helper()
			v, err := d.Meta(ctx, name)
			if err != nil && !errors.Is(err, db.ErrNotFound) {
				t.Fatal(err)
			}
			return string(v)
		}
		put := func(name string) string {
			return "INSERT INTO meta (name, value) SELECT '" + name + "', value FROM meta WHERE name = 'seed'"
		}
		seed(t, d)
		for _, tt := range []struct {
			name  string
			write func(tx *db.Tx) error
			want  error
			done  bool
		}{
			{"nothing", func(*db.Tx) error { return nil }, nil, false},
			{"with COMMIT", func(tx *db.Tx) error { return tx.Later(ctx, put("with COMMIT")) }, nil, true},
			{"before a read", func(tx *db.Tx) error {
				err := tx.Later(ctx, put("before a read"))
				if v, read := tx.Meta(ctx, "before a read"); read != nil || string(v) != "x" {
					t.Errorf("read %q, %v", v, read)
				}
				return err
			}, nil, true},
			{"before a builder's", func(tx *db.Tx) error {
				err := tx.Later(ctx, put("before a"))
				return errors.Join(err, tx.Build(ctx, "UPDATE meta SET name = 'before a builder''s' WHERE name = 'before a'"))
			}, nil, true},
			{"undone", func(tx *db.Tx) error {
				_ = tx.Later(ctx, put("undone"))
				return db.ErrLeaseLost
			}, db.ErrLeaseLost, false},
			{"touches", func(tx *db.Tx) error {
				return errors.Join(tx.Later(ctx, put("touches")), tx.LaterTouching(ctx, "UPDATE meta SET value = value WHERE name = 'touches'"))
			}, nil, true},
			{"touches nothing", func(tx *db.Tx) error {
				return errors.Join(tx.Later(ctx, put("touches nothing")), tx.LaterTouching(ctx, "DELETE FROM meta WHERE name = 'nobody'"))
			}, db.ErrStale, false},
			{"touches nothing before a read", func(tx *db.Tx) error {
				err := errors.Join(tx.Later(ctx, put("touches nothing before a read")),
					tx.LaterTouching(ctx, "DELETE FROM meta WHERE name = 'nobody'"))
				if err != nil {
					return err // as SQLite does
				}
				// Nor is the failure taken for that of the read.
				if _, err := tx.Meta(ctx, "x"); err == nil || errors.Is(err, db.ErrStale) || errors.Is(err, db.ErrNotFound) {
					t.Errorf("read: %v", err)
				}
				if err := tx.PutMeta(ctx, "y", nil); err == nil {
					t.Error("something was written after the failure")
				}
				return nil
			}, db.ErrStale, false},
			{"of no account", func(tx *db.Tx) error {
				return tx.Later(ctx, "INSERT INTO known_address (did, address, seen_at) VALUES ('did:plc:nobody', '', 0)")
			}, db.ErrNotFound, false},
			{"many", func(tx *db.Tx) error {
				for range 1000 {
					if err := tx.LaterTouching(ctx, "UPDATE meta SET value = value WHERE name = 'touches'"); err != nil {
						return err
					}
				}
				return tx.Later(ctx, put("many"))
			}, nil, true},
		} {
			err := d.Write(ctx, tt.write)
			if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
				t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
			}
			if done := value(tt.name) == "x"; done != tt.done {
				t.Errorf("%s: written: %t", tt.name, done)
			}
		}
		// The context may end before.
		ended, end := context.WithCancel(ctx)
		err := d.Write(ended, func(tx *db.Tx) error {
			defer end()
			return tx.Later(ended, put("ended"))
		})
		if !errors.Is(err, context.Canceled) || value("ended") != "" {
			t.Errorf("ended: %v", err)
		}
	})
}

// TestTogether: several reads, in a transaction and outside.
func TestTogether(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		seed(t, d)
		did := create(t, d, 1)
		want := did.String() + " user1.test"
		check := func(name, got string, err error) {
			t.Helper()
			if err != nil || got != want {
				t.Errorf("%s: %q, %v, want %q", name, got, err, want)
			}
		}
		got, err := d.ReadTogether(ctx, did)
		check("outside", got, err)
		err = d.Snapshot(ctx, func(s *db.Snapshot) (err error) {
			got, err = s.ReadTogether(ctx, did)
			return err
		})
		check("snapshot", got, err)
		err = d.Write(ctx, func(tx *db.Tx) (err error) {
			if err := tx.Later(ctx, "UPDATE meta SET name = 'later' WHERE name = 'seed'"); err != nil {
				return err
			}
			got, err = tx.ReadTogether(ctx, did)
			return err
		})
		check("inside", got, err)
		if _, err := d.Meta(ctx, "later"); err != nil {
			t.Error(err)
		}
		if got, err := d.ReadTogether(ctx, "did:plc:nobody"); err != nil || got != "" {
			t.Errorf("of nobody: %q, %v", got, err)
		}
	})
}

// TestRoundTripsOfTransactions on the wire, in whichever way the driver is told to speak to
// a pooler, once what it has prepared is known.
func TestRoundTripsOfTransactions(t *testing.T) {
	for _, mode := range []string{"cache_statement", "cache_describe", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			count := dbtest.CountRoundTrips(t, dbtest.SoundURL(t))
			d := dbtest.Postgres(t, func(c *db.Config) {
				c.URL, c.MaxConns = count.URL+"&default_query_exec_mode="+url.QueryEscape(mode), 1
			})
			ctx := t.Context()
			did := create(t, d, 1)
			later := func(tx *db.Tx) error {
				return errors.Join(tx.Later(ctx, "UPDATE meta SET value = value WHERE name = 'x'"), tx.AppendEvents(ctx, db.Event{DID: did, Kind: "x", Body: []byte("x")}))
			}
			read := func(tx *db.Tx) error { _, err := tx.ReadTogether(ctx, did); return err }
			for _, tt := range []struct {
				name  string
				steps string
				want  int
			}{
				{"nothing", "", 0},
				{"later", "later", 1},
				{"read", "read", 2},
				{"read and write", "read later", 2},
				{"write, read, write", "later read later", 2},
				{"two reads", "read read", 3},
			} {
				// The driver asks a connection that it took a second ago whether it is there, so on a
				// slow machine there may be more once in a while.
				least := math.MaxInt
				for range 8 {
					count.Take()
					err := d.Write(ctx, func(tx *db.Tx) error {
						for step := range strings.FieldsSeq(tt.steps) {
							if err := map[string]func(*db.Tx) error{"later": later, "read": read}[step](tx); err != nil {
								return err
							}
						}
						return nil
					})
					if err != nil {
						t.Fatal(err)
					}
					least = min(least, count.Take())
				}
				if least != tt.want {
					t.Errorf("%s: %d round trips, want %d", tt.name, least, tt.want)
				}
			}
			least := math.MaxInt
			for range 8 {
				count.Take()
				if _, err := d.ReadTogether(ctx, did); err != nil {
					t.Fatal(err)
				}
				least = min(least, count.Take())
			}
			if least != 1 {
				t.Errorf("outside of a transaction: %d round trips, want 1", least)
			}
		})
	}
}
