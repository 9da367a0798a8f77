package db_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/dbtest"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestSQLite(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, o ...dbtest.Option) *db.DB {
		d := dbtest.Open(t, o...)
		plans := d.WatchPlans()
		t.Cleanup(func() { noFullScans(t, plans) })
		return d
	})
}

func TestPostgres(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, o ...dbtest.Option) *db.DB { return dbtest.Postgres(t, o...) })
}

// noFullScans fails the test when a statement of the suite reads a whole table.
func noFullScans(t *testing.T, plans func(context.Context) (map[string][]string, error)) {
	t.Helper()
	statements, err := plans(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(statements) < 2 {
		t.Errorf("only %d statements were seen", len(statements))
	}
	for text, plan := range statements {
		for _, line := range plan {
			if strings.HasPrefix(line, "SCAN ") && !mayScan(text, line) {
				t.Errorf("full scan\n%s\n%s", text, strings.Join(plan, "\n"))
			}
		}
	}
}

func mayScan(text, line string) bool {
	switch {
	case strings.HasPrefix(text, "SELECT count(*) FROM") && !strings.Contains(text, "WHERE"), // all is counted, once
		strings.HasSuffix(text, "WHERE (1 = 1)"), // all is removed, before there is a server
		line == "SCAN due",                       // the few rows just claimed
		line == "SCAN f", line == "SCAN family",  // the sessions just found
		line == "SCAN creation",                                                                                             // as many as are being created right now
		line == "SCAN handle_change",                                                                                        // as many as are being changed
		line == "SCAN handle_domain",                                                                                        // what an operator typed
		line == "SCAN host_name",                                                                                            // a few in the life of a server
		strings.Contains(line, "USING INDEX oauth_request_payer"), strings.Contains(line, "INDEX oauth_request_expires_at"), // the few thousand that there may be
		line == "SCAN taken", // the rows just found
		strings.HasPrefix(line, "SCAN m USING INDEX mail_next_at"), // only what waits is in that index
		strings.Contains(line, " VIRTUAL TABLE "),                  // a list that is a parameter
		line == "SCAN claim",                                       // as many as files are being removed
		strings.HasSuffix(line, "_imported_hash"),                  // only what was imported is in those
		line == "SCAN CONSTANT ROW", strings.HasSuffix(line, "ROW VALUES CLAUSE"):
		return true
	}
	return slices.ContainsFunc([]string{
		"FROM migration",                                              // at start
		"NOT EXISTS (SELECT 1 FROM event)",                            // ends at the first row
		`SELECT 1 FROM "plc_operation" AS "plc" LIMIT 1`,              // the same
		`FROM "invite" ORDER BY "created_at" DESC, "code" DESC LIMIT`, // in the order of an index
		`FROM "invite" ORDER BY "used" DESC, "code" DESC LIMIT`,       // the same
		`SELECT (SELECT count(*) FROM "repo" AS "r"), (SELECT`,        // once, after an adoption
	}, func(s string) bool { return strings.Contains(text, s) })
}

func account(n int) db.Reservation {
	did := syntax.DID(fmt.Sprintf("did:plc:bbbbbbbbbbbbbbbbbbbb%04d", n))
	return db.Reservation{
		Account: db.Account{
			DID: did, Handle: syntax.Handle(fmt.Sprintf("user%d.test", n)), Email: fmt.Sprintf("user%d@mail.test", n),
			PasswordHash: "hash", CreatedAt: start,
		},
		Phone:   db.PhoneClaim{Number: fmt.Append(nil, "number of ", did), Max: 1},
		Key:     db.SigningKey{DID: did, Purpose: "atproto", Public: "did:key:z", Sealed: []byte("sealed")},
		Genesis: []byte("{}"), Holder: "me", LeaseUntil: start.Add(time.Minute),
	}
}

func create(t testing.TB, d *db.DB, n int) syntax.DID {
	t.Helper()
	r := account(n)
	err := d.Write(context.Background(), func(tx *db.Tx) error {
		if err := tx.ReserveAccount(context.Background(), r); err != nil {
			return err
		}
		return tx.FinishAccount(context.Background(), r.Account.DID, "me")
	})
	if err != nil {
		t.Fatal(err)
	}
	return r.Account.DID
}

// TestDeletionLeavesNothing looks into every column of every table.
func TestDeletionLeavesNothing(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		did := create(t, d, 1)
		var before, after int
		for _, step := range []struct {
			rows *int
			do   func(tx *db.Tx) error
		}{
			{&before, func(tx *db.Tx) error { return dbtest.Fill(ctx, tx, did) }},
			{&after, func(tx *db.Tx) error { return tx.DeleteAccount(ctx, did) }},
		} {
			if err := d.Write(ctx, step.do); err != nil {
				t.Fatal(err)
			}
			for _, column := range columns(t, d) {
				for _, trace := range []string{did.String(), "user1.test", "user1@mail.test"} {
					n := count(t, d, "SELECT count(*) FROM "+column.table+" WHERE CAST("+column.name+" AS TEXT) = $1", trace)
					if n > 0 && step.rows == &after {
						t.Errorf("%s is left in %s.%s", trace, column.table, column.name)
					}
					*step.rows += n
				}
			}
		}
		if before < 15 {
			t.Errorf("only %d traces before the deletion", before)
		}
	})
}

type column struct{ table, name string }

func columns(t *testing.T, d *db.DB) (all []column) {
	t.Helper()
	text := `SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'`
	if d.Engine() == "sqlite" {
		text = `SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table'`
	}
	rows, err := d.Query(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var c column
		if err := rows.Scan(&c.table, &c.name); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func count(t *testing.T, d *db.DB, text string, args ...any) (n int) {
	t.Helper()
	rows, err := d.Query(t.Context(), text, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestSequenceStart(t *testing.T) {
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			c := db.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)}
			if engine == "postgres" {
				c.URL = dbtest.PostgresURL(t)
			}
			for _, step := range []struct {
				start  int64
				append bool
				want   int64
			}{
				{1000, false, 1000},
				{2000, false, 2000}, // nothing was numbered yet
				{1500, true, 2001},
				{9000, true, 9001}, // one that has begun is raised too
				{5000, true, 9002}, // and never lowered
			} {
				c.SequenceStart = step.start
				d, err := db.Open(t.Context(), c)
				if err != nil {
					t.Fatal(err)
				}
				if step.append {
					err := d.Write(t.Context(), func(tx *db.Tx) error {
						return tx.AppendEvents(t.Context(), db.Event{DID: "did:plc:x", Kind: "account", Body: []byte("x")})
					})
					if err != nil {
						t.Fatal(err)
					}
				}
				got, err := d.LastEvent(t.Context())
				if err != nil || got != step.want {
					t.Errorf("started at %d: got %d, %v, want %d", step.start, got, err, step.want)
				}
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestDeadlock: Postgres ends one of two transactions that wait for each other,
// and that one is run again.
func TestDeadlock(t *testing.T) {
	d := dbtest.Postgres(t)
	ctx := t.Context()
	dids := []syntax.DID{create(t, d, 1), create(t, d, 2)}
	var both sync.WaitGroup
	both.Add(2)
	var runs [2]int
	var wait sync.WaitGroup
	for i := range 2 {
		wait.Go(func() {
			err := d.Write(ctx, func(tx *db.Tx) error {
				if _, err := tx.LockAccount(ctx, dids[i]); err != nil {
					return err
				}
				if runs[i]++; runs[i] == 1 {
					both.Done()
					both.Wait()
				}
				_, err := tx.LockAccount(ctx, dids[1-i])
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if runs[0]+runs[1] < 3 {
		t.Errorf("runs: %v: there was no deadlock", runs)
	}
}

// TestWaitIsGivenUp: who waits for a lock longer than its context lasts is told that, and
// nothing of the connection, which the driver closes then; the next one gets another.
func TestWaitIsGivenUp(t *testing.T) {
	d := dbtest.Postgres(t)
	ctx := t.Context()
	alice := create(t, d, 1)
	lock := func(ctx context.Context) error {
		return d.Write(ctx, func(tx *db.Tx) error {
			_, err := tx.LockAccount(ctx, alice)
			return err
		})
	}
	err := d.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.LockAccount(ctx, alice); err != nil {
			return err
		}
		for range 10 { // more than there are connections
			short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			err := lock(short)
			cancel()
			// Where the time ends before anything waits, the driver speaks of connections.
			if !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "roll back") {
				t.Errorf("got error %v, want %v and no failed ROLLBACK", err, context.DeadlineExceeded)
			}
		}
		return nil
	})
	if err := errors.Join(err, lock(ctx)); err != nil {
		t.Error(err)
	}
}

// TestTwoProcesses: what one process on a Postgres does the other one sees.
func TestTwoProcesses(t *testing.T) {
	c := db.Config{URL: dbtest.EmptyPostgresURL(t), Logger: slog.New(slog.DiscardHandler), MaxConns: 2}
	ctx := t.Context()
	const processes = 4
	var all [processes]*db.DB
	var wait sync.WaitGroup
	for i := range processes { // all migrate at once
		wait.Go(func() {
			d, err := db.Open(ctx, c)
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() {
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			})
			all[i] = d
		})
	}
	wait.Wait()
	if t.Failed() {
		return
	}
	if all[0].Exclusive() {
		t.Error("a Postgres is not exclusive")
	}
	did := create(t, all[0], 1)
	if _, err := all[1].AccountByDID(ctx, did); err != nil {
		t.Error(err)
	}
	err := all[1].Write(ctx, func(tx *db.Tx) error { return tx.ReserveAccount(ctx, account(1)) })
	if !errors.Is(err, db.ErrDIDTaken) {
		t.Errorf("reserved again: %v", err)
	}

	// The other one may not listen yet, so there may have to be another mail.
	for woken, tries := false, 0; !woken; tries++ {
		if tries == 1000 {
			t.Fatal("not woken by another process's mail")
		}
		err := all[0].Write(ctx, func(tx *db.Tx) error {
			return tx.QueueMail(ctx, &db.Mail{To: "x@mail.test", Kind: "x", CreatedAt: start, ExpiresAt: start.Add(time.Hour)})
		})
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-all[1].MailQueued():
			woken = true
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func TestPostgresURLThatIsWrong(t *testing.T) {
	_, err := db.Open(t.Context(), db.Config{URL: "postgres://user:hunter2@localhost:notaport/x"})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

// TestBackslashIsText: also where a server takes it for the beginning of an escape.
func TestBackslashIsText(t *testing.T) {
	at, err := url.Parse(dbtest.PostgresURL(t))
	if err != nil {
		t.Fatal(err)
	}
	q := at.Query()
	q.Set("standard_conforming_strings", "off")
	at.RawQuery = q.Encode()
	d, err := db.Open(t.Context(), db.Config{URL: at.String(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	create(t, d, 1)
	for _, prefix := range []string{`\`, `\' OR 1 = 1 --`} {
		if found, err := d.AccountsByEmail(t.Context(), prefix, "", 10); err != nil || len(found) > 0 {
			t.Errorf("%s: got %v, %v", prefix, found, err)
		}
	}
}

// A database that was closed stays so, and nobody who closes it again waits.
func TestCloseTwice(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		for range 2 {
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.TryWrite(t.Context()); err == nil {
			t.Error("written to a closed database")
		}
	})
}
