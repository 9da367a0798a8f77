package db_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/dbtest"
)

// fillLists makes 10,000 accounts, each with a code that it signed up with, and
// one that it owns; and as many entries in the record of ten.
func fillLists(t testing.TB, d *db.DB) {
	t.Helper()
	const numbers = ` WITH RECURSIVE number (n) AS (SELECT 10000 UNION ALL SELECT n + 1 FROM number WHERE n < 19999) SELECT `
	empty := "x''"
	if !d.Exclusive() {
		empty = "'\\x'::bytea"
	}
	err := d.Write(t.Context(), func(tx *db.Tx) error {
		for _, text := range []string{
			`INSERT INTO account (did, handle, email, state, created_at)` + numbers +
				`'did:plc:' || n, 'user' || n || '.test', 'user' || n || '@mail.test', 'ready', n FROM number`,
			`INSERT INTO invite (code, uses, used, for_account, created_by, created_at)` + numbers +
				`'used-' || n, 1, 1, 'admin', 'admin', n FROM number`,
			`INSERT INTO invite (code, uses, used, for_account, created_by, created_at)` + numbers +
				`'owned-' || n, 1, 0, 'did:plc:' || n, 'admin', n FROM number`,
			`INSERT INTO invite_use (code, used_by, used_at)` + numbers + `'used-' || n, 'did:plc:' || n, n FROM number`,
			`INSERT INTO audit (did, at, actor, event)` + numbers + `'did:plc:' || (10000 + n % 10), n, 'admin', 'event' FROM number`,
			`UPDATE account SET deactivated_at = 1 WHERE created_at % 17 = 1`,
			`UPDATE account SET takedown_ref = 'ref' WHERE created_at % 19 = 1`,
			`UPDATE account SET state = 'creating' WHERE created_at % 97 BETWEEN 10 AND 12`,
			`INSERT INTO repo (did, commit_cid, commit_block, rev, data_cid, layer, records, nodes, expected_blobs, imported_blobs)` + numbers +
				`'did:plc:' || n, ` + empty + `, ` + empty + `, 'rev', ` + empty + `, 0, 0, 1, 0, 0 FROM number`,
			`UPDATE account SET handle = 'user' || created_at || '.sub.test' WHERE created_at % 29 = 1`,
		} {
			if err := tx.Exec(t.Context(), text); err != nil {
				return err
			}
		}
		if d.Exclusive() {
			return nil // nothing gathers statistics where there is no daemon
		}
		return tx.Exec(t.Context(), "ANALYZE")
	})
	if err != nil {
		t.Fatal(err)
	}
}

func hundred() (dids []syntax.DID, texts []string) {
	for n := range 100 {
		texts = append(texts, fmt.Sprint("did:plc:", 10000+n*97))
		dids = append(dids, syntax.DID(texts[n]))
	}
	return dids, texts
}

// lists are the questions that operators ask about many accounts.
var lists = map[string]func(t testing.TB, d *db.DB) (rows int, err error){
	"accounts": func(t testing.TB, d *db.DB) (int, error) {
		dids, _ := hundred()
		all, err := d.AccountsByDIDs(t.Context(), dids...)
		return len(all), err
	},
	"codes owned": func(t testing.TB, d *db.DB) (int, error) {
		_, owners := hundred()
		all, err := d.InvitesForEach(t.Context(), owners...)
		return len(all), err
	},
	"codes used": func(t testing.TB, d *db.DB) (int, error) {
		dids, _ := hundred()
		all, err := d.InvitesUsedBy(t.Context(), dids...)
		return len(all), err
	},
	"record": func(t testing.TB, d *db.DB) (int, error) {
		all, err := d.Audit(t.Context(), "did:plc:10007", 100)
		return len(all), err
	},
	"record, a later page": func(t testing.TB, d *db.DB) (int, error) {
		all, err := d.AuditBefore(t.Context(), "did:plc:10007", 5000, 100)
		return len(all), err
	},
	"whole record": func(t testing.TB, d *db.DB) (int, error) {
		all, err := d.AuditOfAll(t.Context(), 5000, 100)
		return len(all), err
	},
	"all accounts": func(t testing.TB, d *db.DB) (int, error) {
		all, err := d.Accounts(t.Context(), "", 100)
		return len(all), err
	},
	"all accounts, a later page": func(t testing.TB, d *db.DB) (int, error) {
		all, err := d.Accounts(t.Context(), "did:plc:15000", 100)
		return len(all), err
	},
	"repositories": func(t testing.TB, d *db.DB) (int, error) {
		all, err := d.HostedRepos(t.Context(), time.Time{}, "", 100)
		return len(all), err
	},
	"repositories, a later page": func(t testing.TB, d *db.DB) (int, error) {
		all, err := d.HostedRepos(t.Context(), time.UnixMicro(15000), "did:plc:15000", 100)
		return len(all), err
	},
	"search": func(t testing.TB, d *db.DB) (int, error) {
		all, err := d.AccountsByEmail(t.Context(), "user15", "user1505", 100)
		return len(all), err
	},
	"search, one": func(t testing.TB, d *db.DB) (int, error) {
		all, err := d.AccountsByEmail(t.Context(), "user15", "", 100)
		return len(all), err
	},
	"standings":                            standings(db.StandingFilter{}, "did:plc:15000"),
	"standings, active":                    standings(db.StandingFilter{Status: "active"}, "did:plc:15000"),
	"standings, deactivated":               standings(db.StandingFilter{Status: "deactivated"}, ""),
	"standings, deactivated, a later page": standings(db.StandingFilter{Status: "deactivated"}, "did:plc:12345"),
	"standings, taken down":                standings(db.StandingFilter{Status: "takendown"}, "did:plc:12345"),
	"standings, creating":                  standings(db.StandingFilter{Status: "creating"}, "did:plc:12345"),
	"standings by address":                 standings(db.StandingFilter{Email: "user15"}, ""),
	"standings by address, a later page":   standings(db.StandingFilter{Email: "user15"}, "user1505"),
	"standings at a domain":                standings(db.StandingFilter{Domain: "test"}, ""),
	"standings at a domain, a later page":  standings(db.StandingFilter{Domain: "test"}, "did:plc:15000"),
	"standings at a small domain":          standings(db.StandingFilter{Domain: "sub.test"}, "did:plc:15000"),
	"standings, taken down at a domain":    standings(db.StandingFilter{Status: "takendown", Domain: "test"}, "did:plc:12345"),
	"standings, active at a domain":        standings(db.StandingFilter{Status: "active", Domain: "test"}, "did:plc:12345"),
	"standings, active, by address":        standings(db.StandingFilter{Status: "active", Email: "user1"}, ""),
	"standings at a domain by address":     standings(db.StandingFilter{Domain: "test", Email: "user1"}, ""),
	"standings, all filters":               standings(db.StandingFilter{Status: "active", Domain: "test", Email: "user1"}, "user15"),
	"recent codes": func(t testing.TB, d *db.DB) (int, error) {
		all, err := d.RecentInvites(t.Context(), nil, 100)
		return len(all), err
	},
	"recent codes, a later page": func(t testing.TB, d *db.DB) (int, error) {
		all, err := d.RecentInvites(t.Context(), &db.InviteMark{CreatedAt: start, Code: "code"}, 100)
		return len(all), err
	},
	"codes by use": func(t testing.TB, d *db.DB) (int, error) {
		all, err := d.MostUsedInvites(t.Context(), nil, 100)
		return len(all), err
	},
	"codes by use, a later page": func(t testing.TB, d *db.DB) (int, error) {
		all, err := d.MostUsedInvites(t.Context(), &db.InviteMark{Spent: 1, Code: "used-15000"}, 100)
		return len(all), err
	},
	"codes by use, some unused": func(t testing.TB, d *db.DB) (int, error) {
		all, err := d.MostUsedInvites(t.Context(), &db.InviteMark{Spent: 1, Code: "used-10007"}, 100)
		return len(all), err
	},
	"codes by use, all unused": func(t testing.TB, d *db.DB) (int, error) {
		all, err := d.MostUsedInvites(t.Context(), &db.InviteMark{Spent: 0, Code: "owned-15000"}, 100)
		return len(all), err
	},
}

func standings(f db.StandingFilter, after string) func(t testing.TB, d *db.DB) (int, error) {
	return func(t testing.TB, d *db.DB) (int, error) {
		all, err := d.Standings(t.Context(), f, after, 100)
		return len(all), err
	}
}

// Lists of a server with many accounts come from indexes, in their order: nothing
// is read that is not asked for, and nothing sorted but what is.
func TestListsScanNoTable(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		fillLists(t, d)
		texts := d.WatchTexts()
		for name, list := range lists {
			texts()
			rows, err := list(t, d)
			if err != nil || rows != 100 {
				t.Errorf("%s: %d rows, %v", name, rows, err)
			}
			seen := texts()
			if len(seen) == 0 {
				t.Errorf("%s: no statement was seen", name)
			}
			for _, text := range seen {
				plan := explained(t, d, text)
				page := strings.Contains(text, "LIMIT")
				scan := strings.Contains(plan, "Seq Scan") || strings.Contains(plan, "SCAN") && !strings.Contains(plan, "USING INDEX")
				// The uses of a page of codes may be sorted, a page itself may not.
				sort := page && (strings.Contains(plan, "Sort") || strings.Contains(plan, "TEMP B-TREE"))
				whole := !page && !strings.Contains(plan, "Index Cond") && !strings.Contains(plan, "SEARCH")
				if scan || sort || whole {
					t.Errorf("%s\n%.300s\n%.300s", name, text, plan)
				}
			}
		}
	})
}

// Each sign-in asks whether there are imported hashes: with many accounts and no such hash
// Postgres knows better than to look at all of them, by its own choice.
func TestImportedHashesAreNotLookedFor(t *testing.T) {
	d := dbtest.Postgres(t)
	fillLists(t, d)
	err := d.Write(t.Context(), func(tx *db.Tx) error {
		return errors.Join(tx.Exec(t.Context(), "UPDATE account SET password_hash = '$argon2id$'"), tx.Exec(t.Context(), "ANALYZE account"))
	})
	if err != nil {
		t.Fatal(err)
	}
	texts := d.WatchTexts()
	if found, err := d.ImportedHashes(t.Context()); err != nil || found {
		t.Fatal(found, err)
	}
	seen := texts()
	if len(seen) != 2 {
		t.Fatalf("statements: %q", seen)
	}
	for _, text := range seen {
		rows, err := d.Query(t.Context(), "EXPLAIN "+text)
		if err != nil {
			t.Fatal(err)
		}
		var plan []string
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, line)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
		if text := strings.Join(plan, "\n"); strings.Contains(text, "Seq Scan on account") {
			t.Error(text)
		}
	}
}

// explained is the plan of a statement that reads. Postgres must not prefer to
// read a table that is small as yet.
func explained(t *testing.T, d *db.DB, text string) string {
	t.Helper()
	var b strings.Builder
	err := d.Write(t.Context(), func(tx *db.Tx) error {
		explain, args := "EXPLAIN QUERY PLAN "+text, make([]any, strings.Count(text, "?"))
		if !d.Exclusive() {
			params := 0
			for strings.Contains(text, fmt.Sprint("$", params+1)) {
				params++
			}
			nulls := strings.TrimSuffix(strings.Repeat("NULL, ", params), ", ")
			explain, args = "EXPLAIN EXECUTE explained ("+nulls+")", nil
			if nulls == "" {
				explain = "EXPLAIN EXECUTE explained"
			}
			for _, s := range []string{
				"SET LOCAL enable_seqscan = off", "SET LOCAL plan_cache_mode = force_generic_plan", "PREPARE explained AS " + text,
			} {
				if err := tx.Exec(t.Context(), s); err != nil {
					return err
				}
			}
			defer tx.Exec(t.Context(), "DEALLOCATE explained")
		}
		rows, err := tx.Query(t.Context(), explain, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		before := 3 // columns, on SQLite
		if !d.Exclusive() {
			before = 0
		}
		for rows.Next() {
			dest := make([]any, before, before+1)
			for i := range dest {
				dest[i] = new(any)
			}
			var line string
			if err := rows.Scan(append(dest, &line)...); err != nil {
				return err
			}
			b.WriteString(line + "\n")
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func BenchmarkLists(b *testing.B) {
	d := dbtest.Open(b)
	fillLists(b, d)
	for name, list := range lists {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := list(b, d); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
