package db_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"portico/db"
	"portico/db/migrations"
)

// The server itself ends what takes too long, so that a trial whose process was killed holds no
// lock for longer than it may; and of the steps nothing stays.
func TestTrialIsBoundedByTheServer(t *testing.T) {
	steps, err := migrations.For("postgres")
	if err != nil {
		t.Fatal(err)
	}
	c, exec := oldDatabase(t, "postgres")
	exec("CREATE TABLE migration (name TEXT PRIMARY KEY, applied_at BIGINT NOT NULL)")
	exec(steps[0].SQL)
	exec("INSERT INTO migration (name, applied_at) VALUES ('" + steps[0].Name + "', 0)")
	made := 0
	c.Stepped = func(string, time.Duration) { made++ }
	bounds := db.TrialBounds{Lock: 2 * time.Second, All: 5 * time.Second}
	if err := db.Try(t.Context(), c, bounds); err != nil || made != len(steps)-1 {
		t.Errorf("%d steps of %d: %v", made, len(steps)-1, err)
	}
	for setting, want := range map[string]string{"lock_timeout": "2s", "statement_timeout": "5s", "idle_in_transaction_session_timeout": "5s"} {
		c.Check = func(ctx context.Context, tx *db.Tx) error {
			return tx.Exec(ctx, "SELECT 1 / (current_setting('"+setting+"') = '"+want+"')::int")
		}
		if err := db.Try(t.Context(), c, bounds); err != nil {
			t.Errorf("%s is not %s: %v", setting, want, err)
		}
	}
	c.Check = func(ctx context.Context, tx *db.Tx) error {
		return tx.Exec(context.WithoutCancel(ctx), "SELECT pg_sleep(60)")
	}
	bounds.All = 2 * time.Second
	began := time.Now()
	if err := db.Try(t.Context(), c, bounds); !errors.Is(err, db.ErrTrialTooLong) || time.Since(began) > 30*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
	d, err := db.Open(t.Context(), db.Config{URL: c.URL, Logger: c.Logger, ReadOnly: true})
	if err == nil || !strings.Contains(err.Error(), steps[1].Name) {
		t.Errorf("the schema is not what it was: %v, %v", d, err)
	}
	if err := db.Try(t.Context(), db.Config{Dir: t.TempDir()}, bounds); err == nil {
		t.Error("a database in a file was tried in place")
	}
}
