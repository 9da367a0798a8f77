package db_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"portico/db"
	"portico/db/dbtest"
)

// Slow statements are told without what they are about.
func TestSlowStatements(t *testing.T) {
	var log bytes.Buffer
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		log.Reset()
		before := d.Statements()
		create(t, d, 1)
		if _, err := d.AccountByEmail(t.Context(), "user1@mail.test"); err != nil {
			t.Fatal(err)
		}
		if all, err := d.AccountsByEmail(t.Context(), "user1@", "", 10); err != nil || len(all) != 1 {
			t.Fatalf("%d accounts, %v", len(all), err)
		}
		if n := d.Statements() - before; n < 10 {
			t.Errorf("%d statements were counted", n)
		}
		for _, want := range []string{"level=WARN", "statement was slow", "INSERT INTO", "COMMIT", `statement="SELECT account"`, "took_ms="} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("%s is missing in the log", want)
			}
		}
		for _, secret := range []string{"user1", "did:plc"} {
			if strings.Contains(log.String(), secret) {
				t.Errorf("%s is in the log", secret)
			}
		}
	}, func(c *db.Config) {
		c.Slow, c.Logger = func() time.Duration { return time.Nanosecond }, slog.New(slog.NewTextHandler(&log, nil))
	})
}
