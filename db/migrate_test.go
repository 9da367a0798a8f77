package db_test

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/schema"

	"portico/db"
	"portico/db/dbtest"
	"portico/db/migrations"
)

// TestMigrations makes a database of each step's day, with the rows that each step up
// to it was given, migrates it to the newest, and reads them back.
func TestMigrations(t *testing.T) {
	newest := map[string]int{}
	for _, engine := range []string{"sqlite", "postgres"} {
		steps, err := migrations.For(engine)
		if err != nil {
			t.Fatal(err)
		}
		newest[engine] = len(steps)
		for n, step := range steps {
			t.Run(engine+"/"+step.Name, func(t *testing.T) {
				c, exec := oldDatabase(t, engine)
				exec("CREATE TABLE migration (name TEXT PRIMARY KEY, applied_at BIGINT NOT NULL)")
				for _, s := range steps[:n+1] {
					exec(s.SQL)
					then(t, engine, c, s)
					exec("INSERT INTO migration (name, applied_at) VALUES ('" + s.Name + "', 0)")
					exec(rowsOf(t, engine, s.Name))
				}
				d, err := db.Open(t.Context(), c)
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close()
				made := func(step string) bool {
					return slices.ContainsFunc(steps[:n+1], func(s migrations.Step) bool { return s.Name == step })
				}
				if n == len(steps)-1 {
					everyTableHasRows(t, engine, c)
				}
				readBack(t, d, made)
			})
		}
	}
	if newest["sqlite"] != newest["postgres"] {
		t.Errorf("the engines have different numbers of steps: %v", newest)
	}
}

// A database that Check refuses is as old as before, and Check has seen it as new.
func TestCheckRefuses(t *testing.T) {
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			steps, err := migrations.For(engine)
			if err != nil {
				t.Fatal(err)
			}
			c, exec := oldDatabase(t, engine)
			exec("CREATE TABLE migration (name TEXT PRIMARY KEY, applied_at BIGINT NOT NULL)")
			exec(steps[0].SQL)
			exec("INSERT INTO migration (name, applied_at) VALUES ('" + steps[0].Name + "', 0)")
			refused := errors.New("refused")
			c.SequenceStart = 1000
			c.Check = func(ctx context.Context, tx *db.Tx) error {
				if _, err := tx.HandleDomains(ctx); err != nil { // of a later step
					t.Error(err)
				}
				return refused
			}
			if _, err := db.Open(t.Context(), c); !errors.Is(err, refused) {
				t.Fatalf("opened: %v", err)
			}
			c.Check, c.SequenceStart = nil, 0
			d, err := db.Open(t.Context(), db.Config{URL: c.URL, Dir: c.Dir, Logger: c.Logger, ReadOnly: true})
			if err == nil || !strings.Contains(err.Error(), steps[1].Name) {
				t.Errorf("the schema is not what it was: %v, %v", d, err)
			}
			d, err = db.Open(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if last, err := d.LastEvent(t.Context()); err != nil || last != 0 {
				t.Errorf("events begin after %d, %v", last, err)
			}
		})
	}
}

// rowsOf are the rows of a step, which one without new tables need not have.
func rowsOf(t *testing.T, engine, step string) string {
	t.Helper()
	rows, err := os.ReadFile(filepath.Join("testdata", step+"."+engine+".sql"))
	if errors.Is(err, fs.ErrNotExist) {
		rows, err = os.ReadFile(filepath.Join("testdata", step+".sql"))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if engine == "postgres" {
		return strings.ReplaceAll(string(rows), " AS BLOB)", " AS BYTEA)")
	}
	return string(rows)
}

// everyTableHasRows reminds of the rows that a step with a new table has to bring.
func everyTableHasRows(t *testing.T, engine string, c db.Config) {
	t.Helper()
	pool := open(t, engine, c)
	defer pool.Close()
	for _, name := range tableNames(t, engine, c) {
		var n int
		if err := pool.QueryRowContext(t.Context(), "SELECT count(*) FROM "+name).Scan(&n); err != nil || n == 0 {
			t.Errorf("table %s: %d rows, %v; put some into the testdata of the step that made it", name, n, err)
		}
	}
}

func tableNames(t *testing.T, engine string, c db.Config) []string {
	t.Helper()
	list := "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
	if engine == "postgres" {
		list = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
	}
	pool := open(t, engine, c)
	defer pool.Close()
	rows, err := pool.QueryContext(t.Context(), list)
	if err != nil {
		t.Fatal(err)
	}
	var tables []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		tables = append(tables, name)
	}
	if err := rows.Err(); err != nil || len(tables) < 20 {
		t.Fatalf("tables %v, %v", tables, err)
	}
	return tables
}

// oldDatabase returns an empty database and a way to run statements in it.
func oldDatabase(t *testing.T, engine string) (c db.Config, exec func(text string)) {
	c = db.Config{Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return start }}
	if engine == "postgres" {
		c.URL = dbtest.EmptyPostgresURL(t)
		return c, func(text string) { t.Helper(); raw(t, "pgx", c.URL, text) }
	}
	c.Dir = t.TempDir()
	return c, func(text string) { t.Helper(); raw(t, "sqlite", filepath.Join(c.Dir, "portico.sqlite"), text) }
}

// readBack reads the rows of testdata/*.sql; made reports whether those of a step are
// there.
func readBack(t *testing.T, d *db.DB, made func(step string) bool) {
	ctx := t.Context()
	at := func(micros int) time.Time { return start.Add(time.Duration(micros) * time.Microsecond) }
	check := func(what string, got any, err error, want any) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	a, err := d.AccountByDID(ctx, "did:plc:one")
	check("account", a, err, &db.Account{
		DID: "did:plc:one", Handle: "one.test", Email: "one@mail.test", EmailConfirmedAt: new(at(2)), EmailAuthFactor: true,
		PasswordHash: "hash", CreatedAt: at(1), DeactivatedAt: new(at(3)), DeleteAfter: new(at(4)), DeleteAnnouncedAt: new(at(5)),
		TakedownRef: new("ref"), InvitesDisabled: true, TokensValidFrom: at(1e6),
	})
	if made("0003_handle_change") {
		c, err := d.HandleChange(ctx, "did:plc:one")
		check("handle change", c, err, &db.HandleChange{DID: "did:plc:one", Before: "old.test", Holder: "holder", LeaseUntil: start})
	}
	if made("0006_phone") {
		n, err := d.PhoneAccounts(ctx, []byte("number"))
		want := 1
		if made("0012_phone_spent") {
			want = 3
		}
		check("accounts of the phone number", n, err, want)
	}
	if made("0007_handle_domain") {
		all, err := d.HandleDomains(ctx)
		check("handle domains", all, err, []db.HandleDomain{{Domain: "example.com", InvitePolicy: "invite", At: start}})
	}
	if made("0020_adoption") {
		names, err := d.HostNames(ctx)
		check("host names", names, err, []db.HostName{{Name: "pds.example.com", Since: start}})
	}
	if made("0021_quarantine") {
		browser, err := d.BrowserSession(ctx, []byte("browser"))
		check("browser session", browser, err, &db.BrowserSession{
			ID: []byte("browser"), Kind: db.BrowserOfAccount, DID: "did:plc:one", CreatedAt: start, SeenAt: start, ProvedAt: start,
			ExpiresAt: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), Address: "198.51.100.1", Agent: "Firefox",
		})
		h, err := d.Quarantined(ctx, "did:plc:one")
		check("account in quarantine", h, err, &db.Quarantined{
			DID: "did:plc:one", Rule: db.HeldUntilConfirmed, State: db.Held, Since: start, Address: "198.51.100.0/24", MailDomain: "mail.test",
			Genesis: []byte("{}"), NextAt: start, Attempts: 1, Reason: "the directory does not answer",
		})
	}
	if made("0023_second_factor") {
		o, err := d.TOTP(ctx, "did:plc:one")
		check("TOTP", o, err, &db.TOTP{DID: "did:plc:one", Sealed: []byte("sealed"), Step: 58910768, CreatedAt: start})
		n, err := d.RecoveryCodes(ctx, "did:plc:one")
		check("recovery codes", n, err, 1)
		p, err := d.Passkey(ctx, []byte("passkey"))
		check("passkey", p, err, &db.Passkey{
			ID: []byte("passkey"), DID: "did:plc:one", Name: "Telephone", Public: []byte("public"), Flags: 29, Counter: 7, CreatedAt: start, UsedAt: new(start.Add(time.Second)),
		})
	}
	if made("0022_oauth") {
		set, err := d.PermissionSet(ctx, "com.example.auth")
		check("permission set", set, err, &db.PermissionSet{NSID: "com.example.auth", Document: "{}", FetchedAt: start, TriedAt: start})
		far := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
		r, err := d.OAuthRequest(ctx, []byte("request"))
		check("authorization request", r, err, &db.OAuthRequest{
			ID: []byte("request"), Payer: []byte("payer"), ClientID: "https://app.test/client.json", ClientKey: "kid ES256 thumbprint", DPoPKey: "dpop",
			Parameters: `{"redirect_uri":"https://app.test/cb"}`, CreatedAt: start, ExpiresAt: far, Browser: []byte("browser"), AnsweredAt: new(start),
			OAuthAnswer: db.OAuthAnswer{
				DID: "did:plc:one", ProvedAt: start, Scope: "atproto", Consented: "atproto", Code: []byte("code"), CodeExpiresAt: start.Add(time.Minute),
				ClientName: "App", Address: "198.51.100.1", Agent: "Firefox",
			},
		})
		s, spent, err := d.OAuthSessionBySpent(ctx, []byte("spent"))
		check("session of an app", s, err, &db.OAuthSession{
			ID: []byte("session"), DID: "did:plc:six", ClientID: "https://app.test/client.json", DPoPKey: "dpop",
			Scope: "atproto include:com.example.auth", Consented: "repo:com.example.a atproto", Granted: "atproto",
			Token: []byte("token"), TokenExpiresAt: start.Add(30 * time.Minute), Refresh: []byte("refresh"), RefreshExpiresAt: far, Refreshes: 1,
			Code: []byte("old code"), CreatedAt: start, UsedAt: start, ExpiresAt: far, Address: "198.51.100.1", Agent: "Firefox",
		})
		check("spent refresh token", spent, err, start)
		err = d.Write(ctx, func(tx *db.Tx) error { return tx.UseOAuthOnce(ctx, []byte("used"), start, far) })
		check("what was used", errors.Is(err, db.ErrStale), nil, true)
		remembered, err := d.OAuthRemembered(ctx, []byte("browser"), start)
		check("remembered accounts", remembered, err, []db.OAuthRemembered{{
			Browser: []byte("browser"), DID: "did:plc:six", CreatedAt: start, ProvedAt: start, ExpiresAt: far, Address: "198.51.100.1", Agent: "Firefox",
		}})
		consent, err := d.OAuthConsent(ctx, "did:plc:one", "https://app.test/client.json")
		check("consent", consent, err, &db.OAuthConsent{
			DID: "did:plc:one", ClientID: "https://app.test/client.json", Scope: "atproto", Granted: "atproto", UpdatedAt: start,
		})
	}
	if made("0017_preferences") {
		list, err := d.Preferences(ctx, "did:plc:one")
		check("preferences", list, err, []json.RawMessage{[]byte(`{"$type":"app.bsky.actor.defs#adultContentPref","enabled":true}`)})
	}
	if made("0018_fewer_indexes") {
		owned, err := d.InvitesFor(ctx, "did:plc:six")
		check("invites of an account", owned, err, []db.Invite{
			{Code: "earned", Uses: 1, ForAccount: "did:plc:six", CreatedBy: "did:plc:six", CreatedAt: at(1)},
			{Code: "given", Uses: 1, ForAccount: "did:plc:six", CreatedBy: "admin", CreatedAt: at(2)},
		})
		all, err := d.MostUsedInvites(ctx, nil, 10)
		var codes []string
		for _, i := range all {
			codes = append(codes, i.Code)
		}
		check("invites by use", codes, err, []string{"code", "unused", "given", "earned"})
		err = d.Write(ctx, func(tx *db.Tx) error {
			e := db.AuditEntry{At: at(1e6), Address: "192.0.2.1", Event: "admin_sign_in_failed"}
			return errors.Join(tx.RecordAnotherAudit(ctx, e, start.Add(-time.Hour)), tx.RecordAudit(ctx, db.AuditEntry{At: at(1e6), Actor: "admin", Event: "new"}))
		})
		nobodys, failed := d.Audit(ctx, "", 10)
		check("audit of nobody", nobodys, errors.Join(err, failed), []db.AuditEntry{
			{ID: 5, At: at(1e6), Actor: "admin", Event: "new"},
			{ID: 4, At: start, Actor: "admin", Event: "invite_codes_created", Detail: "1, uses of each: 1"},
			{ID: 3, At: start, Actor: "admin", Address: "192.0.2.1", Event: "admin_sign_in_failed", Detail: "no"},
			{ID: 2, At: start, Actor: "stranger", Address: "192.0.2.1", Event: "admin_sign_in_failed", Detail: "4 times"},
		})
	}
	for did, f := range map[syntax.DID]db.StandingFilter{"did:plc:one": {Status: "takendown", Domain: "test"}, "did:plc:two": {Status: "creating"}} {
		if all, err := d.Standings(ctx, f, "", 10); err != nil || len(all) != 1 || all[0].DID != did {
			t.Errorf("accounts listed: %v, %v", all, err)
		}
	}
	n, err := d.HandlesAt(ctx, "test")
	check("handles under .test", n, err, 1)
	k, err := d.SigningKey(ctx, "did:plc:one", "atproto")
	check("signing key", k, err, &db.SigningKey{
		DID: "did:plc:one", Purpose: "atproto", Public: "did:key:one", Sealed: []byte("sealed"),
	})
	far := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	reserved, err := d.ReservedKey(ctx, "did:plc:four")
	check("reserved key", reserved, err, &db.ReservedKey{
		ID: "did:plc:four", DID: "did:plc:four", Public: "did:key:four", Sealed: []byte("sealed"), CreatedAt: start, ExpiresAt: far,
	})
	repo, err := d.Repo(ctx, "did:plc:one")
	commit, empty := "01711220 d373a0e1ff9ed9c677718339d50a89c90516e01b72c6a8a23daaa3214e432dd0", "01711220 9dfefe61dd76ea3dcae5023880b08379d57adf20482d6fdbe2759289f647677b"
	check("repository", repo, err, &db.Repo{
		CommitCID: unhex(t, commit), CommitBlock: []byte("commit"), Rev: "rev", DataCID: unhex(t, empty), Nodes: 1,
	})
	nodes, err := d.Nodes(ctx, "did:plc:one", nil, 10)
	check("nodes", nodes, err, []db.Node{{CID: unhex(t, empty), Rev: "rev", Data: unhex(t, "a2616580616cf6")}})
	events, err := d.Events(ctx, 0, 10)
	check("events", events, err, []db.Event{{Seq: 7, DID: "did:plc:one", Kind: "account", Body: []byte("body"), Time: start}})
	last, err := d.LastEvent(ctx)
	check("last event", last, err, int64(7))
	sessions, err := d.Sessions(ctx, "did:plc:one")
	check("sessions", sessions, err, []db.Session{{
		ID: []byte("id"), DID: "did:plc:one", AppPassword: new("app"), CreatedAt: start, ExpiresAt: far, NextID: []byte("next"),
	}})
	if made("0008_account_list") {
		chain, err := d.Sessions(ctx, "did:plc:six")
		check("sessions of a chain", len(chain), err, 64)
		check("the latest", string(chain[0].ID), nil, "link 170")
		err = d.Write(ctx, func(tx *db.Tx) error { return tx.EndSession(ctx, []byte("link 120")) })
		check("end of the chain", nil, err, nil)
		chain, err = d.Sessions(ctx, "did:plc:six")
		check("sessions of an ended chain", len(chain), err, 0)
	}
	app, err := d.AppPasswordByName(ctx, "did:plc:one", "app")
	check("app password", app, err, &db.AppPassword{
		DID: "did:plc:one", Name: "app", MAC: []byte("mac"), Scrypt: "salt:hash", Privileged: true, CreatedAt: start,
	})
	code, err := d.EmailCode(ctx, "confirm_email", "did:plc:one", []byte("mac"))
	check("email code", code, err, &db.EmailCode{
		Purpose: "confirm_email", DID: "did:plc:one", MAC: []byte("mac"), CreatedAt: start, ExpiresAt: start.Add(15 * time.Minute),
		Email: "one@mail.test",
	})
	mails, err := d.Mails(ctx, 0, 10)
	check("mails", mails, err, []db.Mail{{
		ID: 1, To: "one@mail.test", Kind: "confirm_email", DID: "did:plc:one", CreatedAt: start, ExpiresAt: start.Add(15 * time.Minute),
		NextAt: start, Attempts: 2, State: "sent", LastError: "451 later", SentAt: new(at(1e6)),
	}})
	invite, err := d.Invite(ctx, "code")
	check("invite", invite, err, &db.Invite{
		Code: "code", Uses: 3, Spent: 2, Disabled: true, ForAccount: "admin", CreatedBy: "admin", CreatedAt: start,
		Used: []db.InviteUse{{Code: "code", By: "did:plc:two", At: start}},
	})
	left, reset, err := d.BudgetLeft(ctx, "failed-passwords", "key", 10, start)
	if made("0009_known_address") {
		check("budget", left, err, 6)
		check("budget's end", reset, err, start.Add(time.Hour))
		known, err := d.AddressKnown(ctx, "did:plc:one", "192.0.2.0", start.Add(-time.Second))
		check("known address", known, err, true)
		guessed, err := d.GuessedAccounts(ctx, 10)
		check("accounts that were guessed at", guessed, err, []db.GuessedAccount{{DID: "did:plc:one", Until: start.Add(time.Hour)}})
	} else {
		check("budget of before keys were hashed", left, err, 10)
	}
	doc, updated, err := d.DIDDocument(ctx, "did:plc:five")
	check("document", string(doc), err, "{}")
	check("document's time", updated, err, start)
	meta, err := d.Meta(ctx, "canary")
	check("meta", string(meta), err, "value")
	ops, err := d.PLCOperations(ctx, "did:plc:one")
	check("PLC log", ops, err, []db.PLCOperation{{
		Seq: 1, DID: "did:plc:one", CID: "cid", Operation: []byte("{}"), Nullified: true, CreatedAt: start,
	}})
	audit, err := d.Audit(ctx, "did:plc:one", 10)
	check("audit", audit, err, []db.AuditEntry{{
		ID: 1, DID: "did:plc:one", At: start, Actor: "did:plc:one", Address: "192.0.2.1", Event: "sign-in", Detail: "detail",
	}})

	err = d.Write(ctx, func(tx *db.Tx) error {
		unfinished, err := tx.ClaimUnfinished(ctx, "me", start, start.Add(time.Hour), false, 10)
		check("unfinished", unfinished, err, []db.Unfinished{{
			Account: db.Account{DID: "did:plc:two", CreatedAt: start}, Genesis: []byte("{}"), InviteCode: "code",
			Key: db.SigningKey{DID: "did:plc:two", Purpose: "atproto"},
		}})
		cleanups, err := tx.ClaimCleanups(ctx, "me", start, start.Add(time.Hour), 10)
		check("clean-ups", cleanups, err, []db.Cleanup{{DID: "did:plc:three", Genesis: []byte("{}"), Attempts: 1, AbortedAt: start}})
		mine, err := tx.ClaimJob(ctx, "mail", "me", start, start.Add(time.Hour))
		check("job", mine, err, true)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if made("0020_adoption") {
		secrets, err := d.AdoptedSecretsOf(ctx, "did:plc:one")
		for i := range secrets {
			secrets[i].Name = nil // SQLite's empty values are nil
		}
		check("adopted secrets", secrets, err, []db.AdoptedSecret{
			{DID: "did:plc:one", Kind: db.AdoptedPassword, Beside: []byte("hash"), Sealed: []byte("sealed")},
		})
	}
}

// then runs the part of a step that is in Go.
func then(t *testing.T, engine string, c db.Config, s migrations.Step) {
	t.Helper()
	if s.Then == nil {
		return
	}
	pool := open(t, engine, c)
	defer pool.Close()
	tx, err := pool.BeginTx(t.Context(), nil)
	if err == nil {
		err = errors.Join(s.Then(t.Context(), tx), tx.Commit())
	}
	if err != nil {
		t.Fatalf("step %s: %v", s.Name, err)
	}
}

func open(t *testing.T, engine string, c db.Config) *bun.DB {
	t.Helper()
	driver, source, d := "sqlite", filepath.Join(c.Dir, "portico.sqlite"), schema.Dialect(sqlitedialect.New())
	if engine == "postgres" {
		driver, source, d = "pgx", c.URL, pgdialect.New()
	}
	pool, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	return bun.NewDB(pool, d)
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Repositories move from rows by name to rows by place, page by page, and what is damaged
// does not stop the others.
func TestMoveOfRepositories(t *testing.T) {
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			steps, err := migrations.For(engine)
			if err != nil {
				t.Fatal(err)
			}
			before := slices.IndexFunc(steps, func(s migrations.Step) bool { return s.Name == "0014_repository" })
			c, exec := oldDatabase(t, engine)
			exec("CREATE TABLE migration (name TEXT PRIMARY KEY, applied_at BIGINT NOT NULL)")
			for _, s := range steps[:before] {
				exec(s.SQL)
				exec("INSERT INTO migration (name, applied_at) VALUES ('" + s.Name + "', 0)")
			}
			const whole = "bafyreigtooqod7463hdho4mdhhkqvcojauloag3sy2ukepnkumqu4qzn2a"
			const accounts = 1203
			blob := func(text string) string {
				if engine == "postgres" {
					return "CAST('" + text + "' AS BYTEA)"
				}
				return "CAST('" + text + "' AS BLOB)"
			}
			var text strings.Builder
			for n := range accounts {
				root := whole
				if n == 7 {
					root = "root"
				}
				fmt.Fprintf(&text, "INSERT INTO account (did, state, created_at) VALUES ('did:plc:%04d', 'ready', 0);\n", n)
				fmt.Fprintf(&text, "INSERT INTO repo (did, root, rev) VALUES ('did:plc:%04d', '%s', 'rev%d');\n", n, root, n)
				if n != 8 {
					fmt.Fprintf(&text, "INSERT INTO repo_block (did, cid, data) VALUES ('did:plc:%04d', '%s', %s);\n", n, root, blob(fmt.Sprint("commit ", n)))
				}
			}
			exec("BEGIN; " + text.String() + " COMMIT")
			began := time.Now()
			d, err := db.Open(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			t.Logf("%d accounts in %v", accounts, time.Since(began))
			empty := unhex(t, "01711220 9dfefe61dd76ea3dcae5023880b08379d57adf20482d6fdbe2759289f647677b")
			for n := range accounts {
				did := syntax.DID(fmt.Sprintf("did:plc:%04d", n))
				want := db.Repo{
					CommitCID: unhex(t, "01711220 d373a0e1ff9ed9c677718339d50a89c90516e01b72c6a8a23daaa3214e432dd0"), CommitBlock: fmt.Append(nil, "commit ", n),
					Rev: fmt.Sprint("rev", n), DataCID: empty, Nodes: 1,
				}
				switch n {
				case 7:
					want.CommitCID = nil
				case 8:
					want.CommitBlock = nil
				}
				got, err := d.Repo(t.Context(), did)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(&want, got, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("repository of %s (-want +got):\n%s", did, diff)
				}
				nodes, err := d.Nodes(t.Context(), did, nil, 10)
				if err != nil || len(nodes) != 1 || nodes[0].Rev != want.Rev || nodes[0].Place() != (db.Place{}) || string(nodes[0].CID) != string(empty) {
					t.Errorf("nodes of %s: %v, %v", did, nodes, err)
				}
			}
		})
	}
}

// TestSchemaAhead: an older version goes on with what works with it, and keeps its hands off
// the rest.
func TestSchemaAhead(t *testing.T) {
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			c, exec := oldDatabase(t, engine)
			var said strings.Builder
			c.Logger = slog.New(slog.NewTextHandler(&said, nil))
			reopen := func(c db.Config) error {
				d, err := db.Open(context.Background(), c)
				if err != nil {
					return err
				}
				return d.Close()
			}
			reader, behind := c, c
			reader.ReadOnly, behind.ReadOnly, behind.Behind = true, true, true
			for range 2 { // the second time there is nothing to do
				if err := reopen(c); err != nil {
					t.Fatal(err)
				}
			}
			for _, tt := range []struct{ rows, want string }{
				{"('9999_future', 0, NULL)", "it has seen 9999_future, with which only a version works that knows 9999_future"},
				{"('9999_future', 0, '9998_later')", "it has seen 9999_future, with which only a version works that knows 9998_later"},
				{"('9998_later', 0, '0024_more_nodes'), ('9999_future', 0, '9998_later')", "it has seen 9999_future, with which only a version works that knows 9998_later"},
				{"('9998_later', 0, NULL), ('9999_future', 0, '0024_more_nodes')", "it has seen 9998_later, with which"},
				{"('9999_future', 0, '0024_more_nodes')", ""},
				{"('9998_later', 0, '0024_more_nodes'), ('9999_future', 0, '0024_more_nodes')", ""},
			} {
				exec("INSERT INTO migration (name, applied_at, oldest) VALUES " + tt.rows)
				for _, c := range []db.Config{reader, behind, c} {
					said.Reset()
					err := reopen(c)
					switch {
					case tt.want == "" && err != nil:
						t.Errorf("%s: %v", tt.rows, err)
					case tt.want != "" && (!errors.Is(err, db.ErrSchemaAhead) || !strings.Contains(err.Error(), tt.want)):
						t.Errorf("%s: got %v", tt.rows, err)
					}
					told := strings.Count(said.String(), "a newer version has migrated the database")
					if want := tt.want == "" && !c.ReadOnly; (told == 1) != want || want && !strings.Contains(said.String(), "9999_future") {
						t.Errorf("%s: it says %q", tt.rows, said.String())
					}
				}
				exec("DELETE FROM migration WHERE name > '9'")
			}
			if err := reopen(c); err != nil { // the lock was given back
				t.Error(err)
			}
		})
	}
}

// Before there was a place for it, no step says that an older version works with it.
func TestSchemaAheadOfOld(t *testing.T) {
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			c, exec := oldDatabase(t, engine)
			exec("CREATE TABLE migration (name TEXT PRIMARY KEY, applied_at BIGINT NOT NULL)")
			exec("INSERT INTO migration (name, applied_at) VALUES ('9999_future', 0)")
			if _, err := db.Open(t.Context(), c); !errors.Is(err, db.ErrSchemaAhead) || !strings.Contains(err.Error(), "9999_future") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// What a step says of the oldest version that works with it is kept, and counts for all.
func TestOldestVersion(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		newest, err := d.LastStep(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		oldest := func(want string, pending ...migrations.Step) {
			t.Helper()
			if got, err := d.OldestVersion(t.Context(), pending...); err != nil || got != want {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
		}
		before, err := d.OldestVersion(t.Context())
		if err != nil || before < "0024_more_nodes" || before > newest {
			t.Errorf("got %q, %v", before, err)
		}
		oldest("9999_third", migrations.Step{Name: "9998_second", Oldest: newest}, migrations.Step{Name: "9999_third", Oldest: "9999_third"})
		for _, s := range []migrations.Step{{Name: "9997_first", Oldest: newest}, {Name: "9998_second", Oldest: "9998_second"}, {Name: "9999_third", Oldest: newest}} {
			if err := d.Write(t.Context(), func(tx *db.Tx) error { return tx.RememberStep(t.Context(), s) }); err != nil {
				t.Fatal(err)
			}
			if s.Name == "9997_first" {
				oldest(newest)
			}
		}
		oldest("9998_second")
	})
}

// An older version names the columns that it reads and writes: it works with a schema that
// has columns and tables that it does not know.
func TestUnknownColumns(t *testing.T) {
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			dbtest.Run(t, func(t *testing.T, o ...dbtest.Option) *db.DB {
				o = append(o, func(c *db.Config) { addUnknown(t, engine, *c) })
				if engine == "postgres" {
					return dbtest.Postgres(t, o...)
				}
				return dbtest.Open(t, o...)
			})
		})
	}
}

// addUnknown makes the database of c as one that a later version has added to.
func addUnknown(t *testing.T, engine string, c db.Config) {
	t.Helper()
	pool := open(t, engine, c)
	defer pool.Close()
	var text strings.Builder
	for _, name := range tableNames(t, engine, c) {
		fmt.Fprintf(&text, "ALTER TABLE %s ADD COLUMN unknown_text TEXT NOT NULL DEFAULT 'unknown'; ALTER TABLE %s ADD COLUMN unknown_number INTEGER;\n", name, name)
	}
	text.WriteString("CREATE TABLE unknown (id TEXT PRIMARY KEY);\n")
	text.WriteString("INSERT INTO migration (name, applied_at, oldest) VALUES ('9999_future', 0, '0024_more_nodes');\n")
	if _, err := pool.ExecContext(t.Context(), text.String()); err != nil {
		t.Fatal(err)
	}
}

// TestMigrationFails: a step that fails leaves no trace.
func TestMigrationFails(t *testing.T) {
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			c, exec := oldDatabase(t, engine)
			exec("CREATE TABLE audit (id TEXT)") // in the way of the first step's last table
			if _, err := db.Open(t.Context(), c); err == nil {
				t.Fatal("opened")
			}
			exec("DROP TABLE audit")
			d, err := db.Open(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
