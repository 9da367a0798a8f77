package db_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
)

// What writes often is in few indexes. As long as a database is small each of them, and
// each table, is one page, and so one more in the log of each commit.
func TestPagesOfACommit(t *testing.T) {
	c := db.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)}
	d, err := db.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	pages := func(do func(tx *db.Tx) error) int64 {
		t.Helper()
		size := func() int64 {
			i, err := os.Stat(filepath.Join(c.Dir, "portico.sqlite-wal"))
			if err != nil {
				t.Fatal(err)
			}
			return i.Size()
		}
		before := size()
		if err := d.Write(t.Context(), do); err != nil {
			t.Fatal(err)
		}
		return (size() - before) / (4096 + 24)
	}
	entry := func(tx *db.Tx, did syntax.DID, address string) error {
		return tx.RecordAudit(t.Context(), db.AuditEntry{DID: did, At: start, Actor: "admin", Address: address, Event: "event"})
	}
	code := func(tx *db.Tx, code, owner string) error {
		return tx.InsertInvites(t.Context(), db.Invite{Code: code, Uses: 1, ForAccount: owner, CreatedBy: "admin", CreatedAt: start})
	}
	for _, tt := range []struct {
		name string
		want int64
		do   func(tx *db.Tx) error
	}{
		// The tables, their two last indexes each: by age, by whom it is about.
		{"a code of the operator", 5, func(tx *db.Tx) error { return errors.Join(code(tx, "a", "admin"), entry(tx, "", "192.0.2.1")) }},
		// One index more has the owner.
		{"a code of an account", 6, func(tx *db.Tx) error {
			return errors.Join(code(tx, "b", "did:plc:one"), entry(tx, "did:plc:one", "192.0.2.1"))
		}},
		{"an entry of the record", 3, func(tx *db.Tx) error { return entry(tx, "did:plc:one", "192.0.2.1") }},
		{"an entry of the server's", 3, func(tx *db.Tx) error { return entry(tx, "did:plc:one", "") }},
	} {
		if got := pages(tt.do); got != tt.want {
			t.Errorf("%s: %d pages, want %d", tt.name, got, tt.want)
		}
	}
}
