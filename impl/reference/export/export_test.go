package export_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"portico/db"
	"portico/db/reference"
	"portico/impl/account/adopted"
	"portico/impl/blob"
	"portico/impl/reference/export"
	"portico/impl/reference/referencetest"
	"portico/impl/servertest"
)

// exported writes the directory of a server's accounts.
func exported(t *testing.T, f *servertest.Server) (folder string, r *export.Report) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), "pds")
	target, err := reference.Create(t.Context(), folder, f.Now())
	f.Check(err)
	x := &export.Export{DB: f.DB, Keys: f.Keys, Tokens: f.Tokens, Blobs: f.Blobs.Store.(*blob.Disk), Target: target, Now: f.Now}
	r, err = x.Run(t.Context())
	f.Check(err)
	return folder, r
}

// has fails the test unless a table has these rows, of which some columns are not asked for.
func has(t *testing.T, tables map[string][]string, table string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, tables[table]); diff != "" {
		t.Errorf("%s (-want +got):\n%s", table, diff)
	}
}

// Everything that was made here is in the directory, and what cannot be is in the report.
func TestExport(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, f *servertest.Server) {
		alice := f.SignUp("alice")
		at := func(seconds int) string {
			return reference.FormatTime(f.Now().Add(time.Duration(seconds) * time.Second))
		}
		const phone = "phone"
		f.Accepted(f.Post("com.atproto.server.createAppPassword", `{"name":"`+phone+`"}`, alice.Access))
		uploaded := f.Accepted(f.Post("com.atproto.repo.uploadBlob", "named by a post", alice.Access, "Content-Type: text/plain")).Fields(t)["blob"].(map[string]any)
		cid := uploaded["ref"].(map[string]any)["$link"].(string)
		waiting := f.Accepted(f.Post("com.atproto.repo.uploadBlob", "named by nothing", alice.Access, "Content-Type: text/plain")).Fields(t)["blob"].(map[string]any)
		create := func(collection, key, record string) {
			f.Accepted(f.Post("com.atproto.repo.createRecord", fmt.Sprintf(
				`{"repo":%q,"collection":%q,"rkey":%q,"record":%s}`, alice.DID, collection, key, record), alice.Access))
		}
		create("net.example.thing", "one", `{"$type":"net.example.thing","blob":{"$type":"blob","ref":{"$link":"`+cid+`"},"mimeType":"text/plain","size":15}}`)
		create("net.example.thing", "two", `{"$type":"net.example.thing","same":1}`)
		create("net.example.thing", "three", `{"$type":"net.example.thing","same":1}`)
		create("app.bsky.graph.follow", "3jzfcijpj2z2a", `{"$type":"app.bsky.graph.follow","subject":"did:plc:z72i7hdynmk6r22z27h6tvur","createdAt":"2026-03-01T12:00:00Z"}`)
		f.Check(f.DB.Write(t.Context(), func(tx *db.Tx) error {
			return tx.PutPreferences(t.Context(), alice.DID, []json.RawMessage{[]byte(`{"$type":"app.bsky.actor.defs#adultContentPref","enabled":true}`)})
		}))
		f.Check(f.DB.Write(t.Context(), func(tx *db.Tx) error {
			return tx.InsertInvites(t.Context(), db.Invite{Code: "pds-test-aaaaa-bbbbb", Uses: 3, ForAccount: "admin", CreatedBy: "admin", CreatedAt: f.Now()})
		}))
		bob := f.SignUpWith("bob", "pds-test-aaaaa-bbbbb")
		f.Accepted(f.Post("com.atproto.server.deactivateAccount", `{"deleteAfter":"2027-01-01T00:00:00.000Z"}`, bob.Access))
		f.SetAccount(bob.DID, func(a *db.Account) { a.EmailAuthFactor = true; a.PasswordHash = "salt:hash" })
		reserved := f.Accepted(f.Post("com.atproto.server.reserveSigningKey", `{}`)).Text(t, "signingKey")

		folder, r := exported(t, f)
		tables := referencetest.Tables(t, folder)
		none := strings.Repeat("0", 32) + ":" + strings.Repeat("0", 128)
		byDID := func(a, b string) []string {
			if alice.DID > bob.DID {
				return []string{b, a}
			}
			return []string{a, b}
		}
		has(t, tables, "account actor", byDID(
			"did="+alice.DID.String()+" handle=alice.test createdAt="+at(0)+" takedownRef=<nil> deactivatedAt=<nil> deleteAfter=<nil>",
			"did="+bob.DID.String()+" handle=bob.test createdAt="+at(0)+" takedownRef=<nil> deactivatedAt="+at(0)+" deleteAfter=2027-01-01T00:00:00.000Z")...)
		has(t, tables, "account account", byDID(
			"did="+alice.DID.String()+" email=alice@example.com passwordScrypt="+none+" emailConfirmedAt=<nil> invitesDisabled=0",
			"did="+bob.DID.String()+" email=bob@example.com passwordScrypt=salt:hash emailConfirmedAt=<nil> invitesDisabled=0")...)
		has(t, tables, "account app_password")
		has(t, tables, "account refresh_token")
		has(t, tables, "account invite_code", "code=pds-test-aaaaa-bbbbb availableUses=3 disabled=0 forAccount=admin createdBy=admin createdAt="+at(0))
		has(t, tables, "account invite_code_use", "code=pds-test-aaaaa-bbbbb usedBy="+bob.DID.String()+" usedAt="+at(0))
		store := alice.DID.String()
		has(t, tables, store+" account_pref", `id=1 name=app.bsky.actor.defs#adultContentPref valueJson={"$type":"app.bsky.actor.defs#adultContentPref","enabled":true}`)
		has(t, tables, store+" backlink", "uri=at://"+store+"/app.bsky.graph.follow/3jzfcijpj2z2a path=subject linkTo=did:plc:z72i7hdynmk6r22z27h6tvur")
		has(t, tables, store+" record_blob", "blobCid="+cid+" recordUri=at://"+store+"/net.example.thing/one")
		if n := len(tables[store+" record"]); n != 4 {
			t.Errorf("%d records", n)
		}
		// A commit, a tree of some nodes, and three values: two records have the same.
		repo, err := f.DB.Repo(t.Context(), alice.DID)
		f.Check(err)
		if n := len(tables[store+" repo_block"]); n != 1+repo.Nodes+3 {
			t.Errorf("%d blocks", n)
		}
		root := tables[store+" repo_root"][0]
		if !strings.Contains(root, " rev="+repo.Rev+" ") || root[:strings.Index(root, " indexedAt=")] != tables["account repo_root"][0][:strings.Index(root, " indexedAt=")] && alice.DID < bob.DID {
			t.Errorf("root %s, %s", root, tables["account repo_root"])
		}
		has(t, tables, "sequencer sqlite_sequence", fmt.Sprint("name=repo_seq seq=", r.LastEvent))
		if n := len(tables["sequencer repo_seq"]); int64(n) != r.LastEvent || !strings.Contains(tables["sequencer repo_seq"][n-1], "invalidated=0") {
			t.Errorf("%d events of %d", n, r.LastEvent)
		}
		for name, want := range map[string]string{
			filepath.Join("blocks", store, cid): "named by a post",
			filepath.Join("blocks", "tempt", store, tempKey(t, tables[store+" blob"], waiting["ref"].(map[string]any)["$link"].(string))): "named by nothing",
		} {
			got, err := os.ReadFile(filepath.Join(folder, name))
			if err != nil || string(got) != want {
				t.Errorf("file %s: %q, %v", name, got, err)
			}
		}
		key, err := os.ReadFile(filepath.Join(folder, "actors", "reserved_keys", reserved))
		if err != nil || len(key) != 32 {
			t.Errorf("reserved key: %d bytes, %v", len(key), err)
		}
		// What cannot be taken along.
		want := map[string]export.Count{
			"accounts": {Of: "accounts", Exported: 2}, "sessions": {Of: "sessions", Left: 2, Why: "they were begun here, or what they began with is not kept any more"},
			"passwords":     {Of: "passwords", Exported: 1, Left: 1, Why: "they were set here"},
			"app passwords": {Of: "app passwords", Left: 1, Why: "they were made here"},
			"records":       {Of: "records", Exported: 4}, "blobs": {Of: "blobs", Exported: 2}, "files of blobs": {Of: "files of blobs", Exported: 2},
			"preferences": {Of: "preferences", Exported: 1}, "invite codes": {Of: "invite codes", Exported: 1},
			"uses of invite codes": {Of: "uses of invite codes", Exported: 1}, "reserved keys": {Of: "reserved keys", Exported: 1},
			"events": {Of: "events", Exported: r.LastEvent},
		}
		got := make(map[string]export.Count)
		for _, c := range r.Counts {
			got[c.Of] = c
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("counts (-want +got):\n%s", diff)
		}
		found := make(map[string]bool)
		for _, one := range r.Findings {
			found[one.Name+" "+one.DID.String()] = true
		}
		if diff := cmp.Diff(map[string]bool{
			"password-lost " + store: true, "app-password-lost " + store: true, "second-factor-lost " + bob.DID.String(): true,
		}, found); diff != "" {
			t.Errorf("findings (-want +got):\n%s", diff)
		}
	}, func(o *servertest.Options) { o.InviteRequired = false })
}

// tempKey is that of a blob among rows.
func tempKey(t *testing.T, rows []string, cid string) string {
	t.Helper()
	for _, row := range rows {
		if strings.HasPrefix(row, "cid="+cid+" ") {
			_, key, _ := strings.Cut(row, "tempKey=")
			key, _, _ = strings.Cut(key, " ")
			return key
		}
	}
	t.Fatalf("no blob %s in %s", cid, rows)
	return ""
}

// What accounts had on an adopted server goes back to it, however it was used here, unless
// it is another one by now.
func TestExportOfAdopted(t *testing.T) {
	f := servertest.New(t)
	u := f.SignUp("alice")
	const first, second, scrypt = "first/+", "second", "00112233445566778899aabbccddeeff:00"
	keep := func(s db.AdoptedSecret, err error) {
		t.Helper()
		f.Check(err)
		f.Check(f.DB.Write(t.Context(), func(tx *db.Tx) error { return tx.PutAdoptedSecrets(t.Context(), []db.AdoptedSecret{s}) }))
	}
	session := func(jti, next, family string, generation int64, life time.Duration) {
		t.Helper()
		keep(adopted.Session(f.Keys, f.Tokens, u.DID, jti, next))
		row := db.Session{ID: f.Tokens.HashID(jti), DID: u.DID, CreatedAt: f.Now(), ExpiresAt: f.Now().Add(life)}
		if next != "" {
			row.NextID = f.Tokens.HashID(next)
		}
		f.Check(f.DB.Write(t.Context(), func(tx *db.Tx) error {
			return tx.InsertAdoptedSession(t.Context(), row, f.Tokens.HashID(family), generation)
		}))
	}
	session(first, second, first, 0, time.Hour)
	session(second, "", first, 1, 90*24*time.Hour)
	f.Check(f.DB.Write(t.Context(), func(tx *db.Tx) error {
		return tx.InsertAppPassword(t.Context(), db.AppPassword{DID: u.DID, Name: "unused", Scrypt: scrypt, CreatedAt: f.Now()})
	}))
	f.SetAccount(u.DID, func(a *db.Account) { a.PasswordHash = "$ours" })
	keep(adopted.Password(f.Keys, u.DID, scrypt))
	tables := func() map[string][]string {
		t.Helper()
		folder, _ := exported(t, f)
		return referencetest.Tables(t, folder)
	}
	password := func(want bool) {
		t.Helper()
		if got := strings.Contains(tables()["account account"][0], " passwordScrypt="+scrypt+" "); got != want {
			t.Errorf("the old password is there: %v", got)
		}
	}
	password(false)
	f.Check(f.DB.Write(t.Context(), func(tx *db.Tx) error {
		return adopted.KeepPassword(t.Context(), tx, u.DID, scrypt, "$ours")
	}))
	password(true)
	f.SetAccount(u.DID, func(a *db.Account) { a.PasswordHash = "$ours, changed" })
	password(false)

	at := func(d time.Duration) string { return reference.FormatTime(f.Now().Add(d)) }
	has(t, tables(), "account app_password", "did="+u.DID.String()+" name=unused passwordScrypt="+scrypt+" createdAt="+at(0)+" privileged=0")
	token := func(jti, next string, life time.Duration) string {
		return "id=" + jti + " did=" + u.DID.String() + " expiresAt=" + at(life) + " nextId=" + next + " appPasswordName=<nil>"
	}
	has(t, tables(), "account refresh_token", token(first, second, time.Hour), token(second, "<nil>", 90*24*time.Hour))

	// The second is exchanged here, and what came of it again, after which the first is over.
	third, fourth := f.Tokens.SuccessorID(second), f.Tokens.SuccessorID(f.Tokens.SuccessorID(second))
	for _, jti := range []string{second, third} {
		f.Accepted(f.Post("refreshSession", "", servertest.Bearer(f.Tokens.Refresh(u.DID, jti, f.Now()))))
	}
	f.Advance(90 * time.Minute)
	want := []string{
		token(second, third, 30*time.Minute), token(third, fourth, 30*time.Minute), token(fourth, "<nil>", 90*24*time.Hour-90*time.Minute),
	}
	got := tables()["account refresh_token"]
	for _, row := range want {
		if len(got) != len(want) || !bytes.Contains([]byte(strings.Join(got, "\n")), []byte(row)) {
			t.Errorf("tokens\n%s\nwithout\n%s", strings.Join(got, "\n"), row)
		}
	}
}

// An account in quarantine is in no directory of DIDs, so the other server could not have it.
func TestHeldIsNotExported(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, f *servertest.Server) {
		anna, bert := f.SignUp("anna"), f.SignUp("bert")
		f.Check(f.Server.Accounts.Approve(t.Context(), anna.DID))
		f.Check(f.Server.Accounts.Release(t.Context()))
		folder, r := exported(t, f)
		want := []export.Count{{Of: "accounts", Exported: 1, Left: 1, Why: "they are in quarantine"}}
		if diff := cmp.Diff(want, r.Counts[:1]); diff != "" {
			t.Errorf("counts (-want +got):\n%s", diff)
		}
		finding := export.Finding{Name: "quarantined", DID: bert.DID, Text: "the account is in quarantine, so that its DID is in no directory: it is not in the export"}
		if !slices.Contains(r.Findings, finding) {
			t.Errorf("findings: %v", r.Findings)
		}
		for table, rows := range referencetest.Tables(t, folder) {
			if strings.Contains(strings.Join(rows, "\n"), bert.DID.String()) {
				t.Errorf("%s has the account in quarantine", table)
			}
		}
	}, func(o *servertest.Options) { o.Quarantine = "approved" })
}
