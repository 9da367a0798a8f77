package db_test

import (
	"errors"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"

	"portico/db"
	"portico/db/dbtest"
)

// TestEventsGoWithCommit: in whichever way the driver is told to speak to a pooler, and
// what goes wrong at the end of a transaction leaves the connection to the next one.
func TestEventsGoWithCommit(t *testing.T) {
	for _, mode := range []string{"", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		t.Run("mode "+mode, func(t *testing.T) {
			d := dbtest.Postgres(t, func(c *db.Config) {
				c.MaxConns = 1
				if mode == "" {
					return
				}
				u, err := url.Parse(c.URL)
				if err != nil {
					t.Fatal(err)
				}
				q := u.Query()
				q.Set("default_query_exec_mode", mode)
				u.RawQuery = q.Encode()
				c.URL = u.String()
			})
			ctx := t.Context()
			write := func(name, kind string, also func(tx *db.Tx) error) error {
				return d.Write(ctx, func(tx *db.Tx) error {
					e := db.Event{DID: "did:plc:x", Kind: kind, Body: []byte("\\x00\x00'")}
					if err := errors.Join(tx.AppendEvents(ctx, e), tx.PutMeta(ctx, name, []byte("x")), tx.AppendEvents(ctx, e, e)); err != nil {
						return err
					}
					return also(tx)
				})
			}
			nothing := func(*db.Tx) error { return nil }
			if err := write("a", "it's", nothing); err != nil {
				t.Fatal(err)
			}
			if err := write("b", "\x00", nothing); err == nil {
				t.Error("an event that Postgres refuses was stored")
			}
			err := write("c", "kept quiet", func(tx *db.Tx) error { _ = tx.Exec(ctx, "SELECT 1/0"); return nil })
			if err == nil {
				t.Error("a transaction in which a statement failed was committed")
			}
			err = d.Write(ctx, func(tx *db.Tx) error { _ = tx.Exec(ctx, "SELECT 1/0"); return nil })
			if !errors.Is(err, pgx.ErrTxCommitRollback) {
				t.Errorf("the same without an event: %v", err)
			}
			if err := write("d", "last", nothing); err != nil {
				t.Fatal(err)
			}
			for name, want := range map[string]error{"a": nil, "b": db.ErrNotFound, "c": db.ErrNotFound, "d": nil} {
				if _, err := d.Meta(ctx, name); !errors.Is(err, want) {
					t.Errorf("%s: %v, want %v", name, err, want)
				}
			}
			events, err := d.Events(ctx, 0, 100)
			if err != nil || len(events) != 6 {
				t.Fatalf("%d events, %v, want 6", len(events), err)
			}
			for i, e := range events {
				if want := []string{"it's", "last"}[i/3]; e.Seq != int64(i+1) || e.Kind != want || string(e.Body) != "\\x00\x00'" {
					t.Errorf("event %d: got %+v, want %s", i+1, e, want)
				}
			}
		})
	}
}
