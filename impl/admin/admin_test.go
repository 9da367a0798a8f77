package admin_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/plc"
)

// said returns what the network was told since the event after, one line each, and
// the number of the last event.
func (f *fixture) said(after int64) (string, int64) {
	f.Helper()
	events := must(f.db.Events(f.Context(), after, 1000))
	var b strings.Builder
	for _, e := range events {
		body := must(atdata.UnmarshalCBOR(e.Body))
		fmt.Fprint(&b, e.Kind)
		for _, key := range []string{"active", "status", "handle"} {
			if v, ok := body[key]; ok {
				fmt.Fprintf(&b, " %s=%v", key, v)
			}
		}
		if body["did"] == nil && body["repo"] == nil {
			f.Errorf("event %d is of nobody", e.Seq)
		}
		b.WriteByte('\n')
		after = e.Seq
	}
	return b.String(), after
}

// hears checks what the network is told when do runs.
func (f *fixture) hears(want string, do func()) {
	f.Helper()
	_, before := f.said(0)
	do()
	if got, _ := f.said(before); got != want {
		f.Errorf("the network heard\n%swant\n%s", got, want)
	}
}

// letters are kind and text of those in the outbox about an account, the newest
// first.
func (f *fixture) letters(kind string) []string {
	f.Helper()
	var all []string
	for _, m := range must(f.outbox.List(f.Context(), 100)) {
		if m.Kind != kind {
			continue
		}
		_, l, err := f.outbox.Read(f.Context(), m.ID)
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, m.To+"|"+l.Subject+"|"+l.Text+"|"+l.HTML)
	}
	return all
}

// recorded is the record of an account, the newest entry first.
func (f *fixture) recorded(did syntax.DID) string {
	f.Helper()
	var b strings.Builder
	for _, e := range must(f.db.Audit(f.Context(), did, 100)) {
		fmt.Fprintf(&b, "%s %s by %s from %s: %s\n", e.At.UTC().Format("15:04:05"), e.Event, e.Actor, e.Address, e.Detail)
	}
	return b.String()
}

const unknown = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"

func TestDeleteAccount(t *testing.T) {
	f := newFixture(t)
	alice := f.signUp("alice")
	f.hears("#account active=false status=deleted\n", func() {
		f.silent(f.do("deleteAccount", `{"did":"`+alice.did.String()+`"}`))
	})
	// Nothing else is left of what the network was told.
	if got, _ := f.said(0); got != "#account active=false status=deleted\n" {
		t.Errorf("events left: %s", got)
	}
	f.refused(f.ask("getAccountInfo?did="+alice.did.String()), 400, "NotFound", "Account not found")
	f.refused(f.post("com.atproto.server.refreshSession", alice.refresh), 400, "InvalidRequest",
		"Could not find user info for account: "+alice.did.String())
	if got, want := f.recorded(alice.did), "12:00:00 account_deleted by admin from 127.0.0.1: \n"; got != want {
		t.Errorf("record %q, want %q", got, want)
	}
	f.hears("#account active=false status=deleted\n", func() {
		f.silent(f.do("deleteAccount", `{"did":"`+unknown+`"}`))
	})
	// No operation was sent to the directory: the DID is its owner's.
	if log := must(f.plc.Audit(t.Context(), alice.did)); len(log) != 1 {
		t.Errorf("%d operations in the directory, want 1", len(log))
	}
	f.signUp("alice") // the handle and the address are free
	f.refused(f.do("deleteAccount", `{}`), 400, "InvalidRequest", `Missing required key "did" at $`)
}

func TestAccountInvites(t *testing.T) {
	f := newFixture(t)
	alice := f.signUp("alice")
	f.invite("old", 1, alice.did.String())
	for _, step := range []struct {
		method string
		want   bool
	}{{"disableAccountInvites", true}, {"disableAccountInvites", true}, {"enableAccountInvites", false}} {
		f.silent(f.do(step.method, `{"account":"`+alice.did.String()+`","note":"why"}`))
		info := f.accepted(f.ask("getAccountInfo?did=" + alice.did.String())).fields(t)
		if info["invitesDisabled"] != step.want {
			t.Errorf("%s: invitesDisabled is %v", step.method, info["invitesDisabled"])
		}
		if err := f.db.InviteAvailable(t.Context(), "old"); err != nil {
			t.Errorf("%s: a code from before: %v", step.method, err)
		}
		f.silent(f.do(step.method, `{"account":"`+unknown+`"}`))
	}
	const want = "12:00:00 invites_enabled by admin from 127.0.0.1: \n" +
		"12:00:00 invites_disabled by admin from 127.0.0.1: \n12:00:00 invites_disabled by admin from 127.0.0.1: \n"
	if got := f.recorded(alice.did); got != want {
		t.Errorf("record\n%swant\n%s", got, want)
	}
}

func TestDisableInviteCodes(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		alice := f.signUp("alice")
		for _, code := range []string{"one", "two", "three"} {
			f.invite(code, 1, "admin")
		}
		f.invite("hers", 1, alice.did.String())
		f.refused(f.do("disableInviteCodes", `{"codes":["one"],"accounts":["`+alice.did.String()+`","admin"]}`), 400,
			"InvalidRequest", "cannot disable admin invite codes")
		f.silent(f.do("disableInviteCodes", `{}`))
		f.silent(f.do("disableInviteCodes", `{"codes":["none","\u0000"],"accounts":["nobody","\u0000"]}`))
		f.silent(f.do("disableInviteCodes", `{"codes":["one","two"],"accounts":["`+alice.did.String()+`"]}`))
		for code, want := range map[string]error{
			"one": db.ErrInviteUnavailable, "two": db.ErrInviteUnavailable, "hers": db.ErrInviteUnavailable, "three": nil,
		} {
			if err := f.db.InviteAvailable(t.Context(), code); err != want {
				t.Errorf("%s: %v", code, err)
			}
		}
	})
}

func TestAccountInfo(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		f.invite("code", 5, "admin")
		alice, bob := f.signUp("alice"), f.signUpWith("bob", "code")
		f.advance(time.Minute)
		carol := f.signUpWith("carol", "code")
		f.invite("bobs", 2, bob.did.String())
		f.setAccount(bob.did, func(a *db.Account) {
			a.EmailConfirmedAt, a.DeactivatedAt, a.TakedownRef = new(f.Now()), new(f.Now()), new("ref")
		})
		f.setAccount(carol.did, func(a *db.Account) { a.Handle, a.Email = "", "" })
		code := `{"code":"code","available":5,"disabled":false,"forAccount":"admin","createdBy":"admin",` +
			`"createdAt":"2026-03-01T12:00:00.000Z","uses":[{"usedBy":"` + carol.did.String() + `","usedAt":"2026-03-01T12:01:00.000Z"},` +
			`{"usedBy":"` + bob.did.String() + `","usedAt":"2026-03-01T12:00:00.000Z"}]}`
		views := map[syntax.DID]string{
			alice.did: `{"did":"` + alice.did.String() + `","handle":"alice.test","email":"alice@example.com",` +
				`"indexedAt":"2026-03-01T12:00:00.000Z","invites":[],"invitesDisabled":false}`,
			bob.did: `{"did":"` + bob.did.String() + `","handle":"bob.test","email":"bob@example.com",` +
				`"indexedAt":"2026-03-01T12:00:00.000Z","invitedBy":` + code + `,"invites":[{"code":"bobs","available":2,` +
				`"disabled":false,"forAccount":"` + bob.did.String() + `","createdBy":"admin","createdAt":"2026-03-01T12:01:00.000Z",` +
				`"uses":[]}],"invitesDisabled":false,"emailConfirmedAt":"2026-03-01T12:01:00.000Z","deactivatedAt":"2026-03-01T12:01:00.000Z"}`,
			carol.did: `{"did":"` + carol.did.String() + `","handle":"handle.invalid","indexedAt":"2026-03-01T12:01:00.000Z",` +
				`"invitedBy":` + code + `,"invites":[],"invitesDisabled":false}`,
		}
		query := "getAccountInfos?dids=" + unknown
		for did, want := range views {
			if got := f.accepted(f.ask("getAccountInfo?did=" + did.String())).body; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			query += "&dids=" + did.String()
		}
		var out struct{ Infos []json.RawMessage }
		if err := json.Unmarshal([]byte(f.accepted(f.ask(query)).body), &out); err != nil || len(out.Infos) != 3 {
			t.Fatalf("%d infos, %v", len(out.Infos), err)
		}
		for _, info := range out.Infos {
			var v struct{ DID syntax.DID }
			if err := json.Unmarshal(info, &v); err != nil || string(info) != views[v.DID] {
				t.Errorf("info %s, %v", info, err)
			}
		}
		f.refused(f.ask("getAccountInfo?did="+unknown), 400, "NotFound", "Account not found")
		if got := f.accepted(f.ask("getAccountInfos?dids=" + unknown)).body; got != `{"infos":[]}` {
			t.Errorf("got %s", got)
		}
		f.refused(f.ask("getAccountInfos"), 400, "InvalidRequest",
			`Invalid com.atproto.admin.getAccountInfos params: Missing required key "dids"`)
	})
}

func TestSearchAccounts(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		for _, name := range []string{"anna1", "anna2", "anna3", "berta"} {
			f.signUp(name)
		}
		f.setAccount(f.mustFind("anna2.test"), func(a *db.Account) { a.TakedownRef = new("ref") })
		search := func(query string) (names, cursor string) {
			t.Helper()
			var out struct {
				Accounts []struct{ Handle string }
				Cursor   *string
			}
			if err := json.Unmarshal([]byte(f.accepted(f.ask("searchAccounts"+query)).body), &out); err != nil {
				t.Fatal(err)
			}
			for _, a := range out.Accounts {
				names += strings.TrimSuffix(a.Handle, ".test") + " "
			}
			if out.Cursor != nil {
				cursor = *out.Cursor
			}
			return names, cursor
		}
		for _, tt := range []struct{ query, names, cursor string }{
			{"?email=anna", "anna1 anna2 anna3 ", ""},
			{"?email=ANNA&limit=2", "anna1 anna2 ", "anna2@example.com"},
			{"?email=ANNA&limit=2&cursor=anna2@example.com", "anna3 ", ""},
			{"?email=anna2@example.com", "anna2 ", ""},
			{"?email=example", "", ""},
			{"?email=%25", "", ""},
			{"?email=%00", "", ""},
			{"?email=a&cursor=%00", "", ""},
			{"?cursor=%00zzz", "", ""},
		} {
			if names, cursor := search(tt.query); names != tt.names || cursor != tt.cursor {
				t.Errorf("%s: %q, cursor %q", tt.query, names, cursor)
			}
		}
		// Without an address all are listed, in pages.
		all, cursor := "", ""
		for range 3 {
			names, next := search("?limit=2&cursor=" + cursor)
			all, cursor = all+names, next
			if cursor == "" {
				break
			}
		}
		names := strings.Fields(all)
		slices.Sort(names)
		if got := strings.Join(names, " "); got != "anna1 anna2 anna3 berta" {
			t.Errorf("all accounts: %s", got)
		}
		f.refused(f.ask("searchAccounts?limit=101"), 400, "InvalidRequest",
			"Invalid com.atproto.admin.searchAccounts params: integer too big (maximum 100, got 101)")
	})
}

func (f *fixture) mustFind(handle syntax.Handle) syntax.DID {
	f.Helper()
	return must(f.db.AccountByHandle(f.Context(), handle)).DID
}

func TestInviteCodes(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		page := func(query string) (codes, cursor string) {
			t.Helper()
			var out struct {
				Codes  []struct{ Code string }
				Cursor *string
			}
			if err := json.Unmarshal([]byte(f.accepted(f.ask("getInviteCodes"+query)).body), &out); err != nil {
				t.Fatal(err)
			}
			for _, c := range out.Codes {
				codes += c.Code
			}
			if out.Cursor != nil {
				cursor = *out.Cursor
			}
			return codes, cursor
		}
		if got := f.accepted(f.ask("getInviteCodes")).body; got != `{"codes":[]}` {
			t.Errorf("no codes: %s", got)
		}
		f.invite("a", 3, "admin")
		f.invite("b", 3, "admin")
		f.advance(time.Microsecond) // within the millisecond that a cursor names
		f.invite("c", 3, "admin")
		f.advance(time.Hour)
		f.invite("d", 3, "admin")
		f.signUpWith("alice", "a")
		f.signUpWith("bob", "a")
		f.signUpWith("carol", "c")
		for _, tt := range []struct{ query, codes, cursor string }{
			{"", "dcba", "1772366400000::a"},
			{"?sort=recent&limit=2", "dc", "1772366400000.001::c"},
			{"?limit=2&cursor=1772366400000.001::c", "ba", "1772366400000::a"},
			{"?limit=2&cursor=1772366400000::a", "", ""},
			{"?sort=usage", "acdb", "0::b"},
			{"?sort=usage&limit=1", "a", "2::a"},
			{"?sort=usage&limit=2&cursor=2::a", "cd", "0::d"},
			{"?sort=usage&cursor=0::d", "b", "0::b"},
			{"?sort=usage&cursor=1::%00", "db", "0::b"},
		} {
			if codes, cursor := page(tt.query); codes != tt.codes || cursor != tt.cursor {
				t.Errorf("%s: %q, cursor %q", tt.query, codes, cursor)
			}
		}
		f.refused(f.ask("getInviteCodes?sort=age"), 400, "InvalidRequest", "unknown sort method: age")
		for _, cursor := range []string{"x", "::a", "1::", "x::a", "1", "1::a::b", "NaN::a", "1e300::a"} {
			f.refused(f.ask("getInviteCodes?cursor="+url.QueryEscape(cursor)), 400, "InvalidRequest", "Malformed cursor")
		}
		f.refused(f.ask("getInviteCodes?limit=501"), 400, "InvalidRequest",
			"Invalid com.atproto.admin.getInviteCodes params: integer too big (maximum 500, got 501)")
	})
}

// code is an emailed code in a letter.
var code = regexp.MustCompile(`[A-Z2-7]{5}-[A-Z2-7]{5}`)

const cid = "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"

func TestGetSubjectStatus(t *testing.T) {
	f := newFixture(t)
	alice := f.signUp("alice")
	did := alice.did.String()
	status := func(want string) {
		t.Helper()
		if got := f.accepted(f.ask("getSubjectStatus?did=" + did)).body; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	subject := `{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":"` + did + `"},`
	status(subject + `"takedown":{"applied":false},"deactivated":{"applied":false}}`)
	f.setAccount(alice.did, func(a *db.Account) { a.TakedownRef, a.DeactivatedAt = new("case 7"), new(f.Now()) })
	status(subject + `"takedown":{"applied":true,"ref":"case 7"},"deactivated":{"applied":true}}`)
	f.refused(f.ask("getSubjectStatus"), 400, "InvalidRequest", "No provided subject")
	f.refused(f.ask("getSubjectStatus?did="+unknown), 400, "NotFound", "Subject not found")
	f.refused(f.ask("getSubjectStatus?blob="+cid), 400, "InvalidRequest", "Must provide a did to request blob state")
	f.refused(f.ask("getSubjectStatus?blob="+cid+"&did="+did), 400, "NotFound", "Subject not found")
	f.refused(f.ask("getSubjectStatus?blob="+cid+"&did="+unknown), 400, "NotFound", "Repo not found")
	f.refused(f.ask("getSubjectStatus?did="+did+"&uri=at://"+did+"/app.bsky.feed.post/abc"), 400, "NotFound", "Subject not found")
	f.refused(f.ask("getSubjectStatus?uri=at://"+unknown+"/app.bsky.feed.post/abc"), 400, "NotFound", "Repo not found")
	f.refused(f.ask("getSubjectStatus?uri=at://alice.test/app.bsky.feed.post/abc"), 400, "NotFound", "Repo not found")
}

func TestSendEmail(t *testing.T) {
	f := newFixture(t)
	alice := f.signUp("alice")
	send := func(more string) answer {
		return f.do("sendEmail", `{"recipientDid":"`+alice.did.String()+`","senderDid":"`+modService+`","content":"<p>Hello &amp; bye</p>"`+more+`}`)
	}
	for _, more := range []string{"", `,"subject":"Your post","comment":"not for her eyes"`} {
		if a := f.accepted(send(more)); a.body != `{"sent":true}` {
			t.Errorf("got %s", a.body)
		}
	}
	f.setAccount(alice.did, func(a *db.Account) { a.TakedownRef, a.DeactivatedAt = new("ref"), new(f.Now()) })
	f.accepted(send(`,"subject":"Appeal"`))
	got := strings.Join(f.letters("moderator_message"), "\n")
	const want = "alice@example.com|Appeal|Hello & bye\n|<p>Hello &amp; bye</p>\n" +
		"alice@example.com|Your post|Hello & bye\n|<p>Hello &amp; bye</p>\n" +
		"alice@example.com|Message via your PDS|Hello & bye\n|<p>Hello &amp; bye</p>"
	if got != want {
		t.Errorf("letters\n%s\nwant\n%s", got, want)
	}
	f.setAccount(alice.did, func(a *db.Account) { a.Email = "" })
	f.refused(send(""), 400, "InvalidRequest", "account does not have an email address")
	f.refused(f.do("sendEmail", `{"recipientDid":"`+unknown+`","senderDid":"`+modService+`","content":"x"}`), 400,
		"InvalidRequest", "Recipient not found")
	if log := f.recorded(alice.did); strings.Count(log, "email_sent by admin") != 3 || strings.Contains(log, "Hello") {
		t.Errorf("record\n%s", log)
	}
}

func TestUpdateAccountEmail(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		alice := f.signUp("alice")
		f.signUp("bob")
		f.accepted(f.post("com.atproto.server.requestAccountDelete", alice.access))
		f.setAccount(alice.did, func(a *db.Account) { a.EmailConfirmedAt, a.EmailAuthFactor = new(f.Now()), true })
		f.silent(f.do("updateAccountEmail", `{"account":"`+alice.did.String()+`","email":"Not An Address"}`))
		a := f.account(alice.did)
		if a.Email != "not an address" || a.EmailConfirmedAt != nil || a.EmailAuthFactor {
			t.Errorf("account %+v", a)
		}
		if got := f.letters("email_changed"); len(got) != 1 || !strings.HasPrefix(got[0], "alice@example.com|") {
			t.Errorf("letters %q", got)
		}
		// The code that went to the old address is worth nothing.
		code := code.FindString(f.letters("delete_account")[0])
		f.refused(f.serverDo("deleteAccount", `{"did":"`+alice.did.String()+`","password":"`+goodPassword+`","token":"`+code+`"}`, ""),
			400, "InvalidToken", "Token is invalid")
		f.silent(f.do("updateAccountEmail", `{"account":"ALICE.test","email":"alice@example.org"}`))
		// The same address once more has to be confirmed again, and is announced to nobody.
		f.setAccount(alice.did, func(a *db.Account) { a.EmailConfirmedAt, a.TakedownRef = new(f.Now()), new("ref") })
		f.silent(f.do("updateAccountEmail", `{"account":"alice.test","email":"ALICE@example.org"}`))
		if a := f.account(alice.did); a.Email != "alice@example.org" || a.EmailConfirmedAt != nil {
			t.Errorf("account %+v", a)
		}
		if got := f.letters("email_changed"); len(got) != 2 {
			t.Errorf("letters %q", got)
		}
		f.refused(f.do("updateAccountEmail", `{"account":"carol.test","email":"x@example.com"}`), 400, "InvalidRequest",
			"Account does not exist: carol.test")
		f.refused(f.do("updateAccountEmail", `{"account":"`+unknown+`","email":"x@example.com"}`), 400, "InvalidRequest",
			"Account does not exist: "+unknown)
		f.refused(f.do("updateAccountEmail", `{"account":"alice.test","email":"BOB@example.com"}`), 400, "InvalidRequest",
			"This email address is already in use, please use a different email.")
		for _, odd := range []string{`a\u0000b`, strings.Repeat("a", 5000)} {
			f.refused(f.do("updateAccountEmail", `{"account":"alice.test","email":"`+odd+`"}`), 400, "InvalidRequest",
				"This email address is not supported, please use a different email.")
		}
		const want = "12:00:00 email_changed by admin from 127.0.0.1: to be confirmed again\n" +
			"12:00:00 email_changed by admin from 127.0.0.1: \n" +
			"12:00:00 email_changed by admin from 127.0.0.1: sign-in codes off\n"
		if got := f.recorded(alice.did); !strings.HasPrefix(got, want) {
			t.Errorf("record\n%s", got)
		}
	})
}

func TestUpdateAccountHandle(t *testing.T) {
	f := newFixture(t)
	alice := f.signUp("alice")
	f.signUp("bob")
	change := func(handle string) answer {
		return f.do("updateAccountHandle", `{"did":"`+alice.did.String()+`","handle":"`+handle+`"}`)
	}
	f.hears("#identity handle=admin.test\n", func() { f.silent(change("ADMIN.test")) }) // a reserved name
	f.hears("#identity handle=admin.test\n", func() { f.silent(change("admin.test")) }) // and again
	log := must(f.plc.Log(t.Context(), alice.did))
	if data, _ := log[len(log)-1].Data(); len(log) != 3 || data.Handle() != "admin.test" {
		t.Errorf("%d operations, handle %s", len(log), data.Handle())
	}
	if a := f.account(alice.did); a.Handle != "admin.test" {
		t.Errorf("handle %s", a.Handle)
	}
	for _, tt := range []struct{ handle, name, message string }{
		{"bob.test", "HandleNotAvailable", "Handle already taken: bob.test"},
		{"a.b.test", "InvalidHandle", "Invalid characters in handle"},
		{"ab.test", "InvalidHandle", "Handle too short"},
		{"abcdefghijklmnopqrs.test", "InvalidHandle", "Handle too long"},
		{"alice.local", "InvalidHandle", "Handle TLD is invalid or disallowed"},
		{"alice.example.com", "InvalidRequest", "External handle did not resolve to DID"},
		{"nodots", "InvalidRequest", `Invalid handle (got "nodots") at $.handle`},
	} {
		f.refused(change(tt.handle), 400, tt.name, tt.message)
	}
	f.handles["alice.example.com"] = alice.did
	f.hears("#identity handle=alice.example.com\n", func() { f.silent(change("alice.example.com")) })

	f.plcDown = true
	f.hears("", func() {
		if a := change("alice.test"); a.status != 502 || a.text(t, "error") != "UpstreamFailure" {
			t.Errorf("directory away: %d %s", a.status, a.body)
		}
	})
	f.plcDown = false

	f.setAccount(alice.did, func(a *db.Account) { a.TakedownRef = new("ref") })
	f.refused(change("carol.test"), 400, "InvalidRequest", "Account not found")
	f.refused(f.do("updateAccountHandle", `{"did":"`+unknown+`","handle":"carol.test"}`), 400, "InvalidRequest", "Account not found")
}

func TestUpdateAccountPassword(t *testing.T) {
	f := newFixture(t)
	alice := f.signUp("alice")
	app := f.accepted(f.serverDo("createAppPassword", `{"name":"phone"}`, alice.access)).text(t, "password")
	f.accepted(f.serverDo("requestPasswordReset", `{"email":"alice@example.com"}`, ""))
	change := func(did, text string) answer {
		return f.do("updateAccountPassword", `{"did":"`+did+`","password":"`+text+`"}`)
	}
	f.advance(time.Minute)
	f.refused(change(alice.did.String(), strings.Repeat("a", 257)), 400, "InvalidRequest", "Invalid password length.")
	f.refused(change(alice.did.String(), "short"), 400, "InvalidPassword", "Password too short. Minimum length is 8 characters.")
	f.accepted(f.send("com.atproto.server.getSession", "", alice.access))
	f.silent(change(alice.did.String(), strings.Repeat("a", 256)))
	// Sessions end, and so do the access tokens issued before; app passwords stay.
	f.refused(f.send("com.atproto.server.getSession", "", alice.access), 400, "ExpiredToken", "Token has expired")
	f.refused(f.post("com.atproto.server.refreshSession", alice.refresh), 400, "ExpiredToken", "Token has been revoked")
	f.refused(f.signIn("alice.test", goodPassword), 401, "AuthenticationRequired", "Invalid identifier or password")
	now := f.accepted(f.signIn("alice.test", strings.Repeat("a", 256)))
	f.accepted(f.send("com.atproto.server.getSession", "", "Bearer "+now.text(t, "accessJwt")))
	f.accepted(f.signIn("alice.test", app))
	if got := f.letters("password_changed"); len(got) != 1 || !strings.HasPrefix(got[0], "alice@example.com|") {
		t.Errorf("letters %q", got)
	}
	f.silent(change(unknown, "a good password"))
	if got := f.recorded(alice.did); !strings.Contains(got, "12:01:00 password_changed by admin from 127.0.0.1: \n") || strings.Contains(got, "aaaa") {
		t.Errorf("record\n%s", got)
	}
}

func TestUpdateAccountSigningKey(t *testing.T) {
	f := newFixture(t)
	alice, bob := f.signUp("alice"), f.signUp("bob")
	reserve := func(body string) string {
		t.Helper()
		return f.accepted(f.serverDo("reserveSigningKey", body, "")).text(t, "signingKey")
	}
	change := func(did syntax.DID, key string) answer {
		return f.do("updateAccountSigningKey", `{"did":"`+did.String()+`","signingKey":"`+key+`"}`)
	}
	named := func(did syntax.DID) string {
		t.Helper()
		return must(f.plc.Data(t.Context(), did)).VerificationMethods["atproto"]
	}
	signs := func(u user) string {
		t.Helper()
		a := f.accepted(f.send("com.atproto.server.getServiceAuth?aud=did:web:elsewhere.test&lxm=com.atproto.repo.uploadBlob", "", u.access))
		key, err := atcrypto.ParsePublicDIDKey(named(u.did))
		if err != nil {
			t.Fatal(err)
		}
		text := a.text(t, "token")
		i := strings.LastIndexByte(text, '.')
		if err := key.HashAndVerify([]byte(text[:i]), must(base64.RawURLEncoding.DecodeString(text[i+1:]))); err != nil {
			return "another key"
		}
		return "the key that the DID names"
	}
	old := named(alice.did)
	key := reserve(`{}`)
	f.hears("#identity\n", func() { f.silent(change(alice.did, key)) })
	if got := named(alice.did); got != key || signs(alice) != "the key that the DID names" {
		t.Errorf("DID names %s, signed with %s", got, signs(alice))
	}
	// That key serves one account, and one that was never here none.
	f.refused(change(bob.did, key), 400, "InvalidRequest", "Signing key is not known here: reserve one with com.atproto.server.reserveSigningKey")
	f.refused(change(alice.did, old), 400, "InvalidRequest", "Signing key is not known here: reserve one with com.atproto.server.reserveSigningKey")
	f.refused(change(unknown, key), 400, "InvalidRequest", "Account not found")
	f.refused(change(bob.did, "nonsense"), 400, "InvalidRequest", `Invalid DID (got "nonsense") at $.signingKey`)

	reserved := reserve(`{"did":"` + bob.did.String() + `"}`)
	f.plcDown = true
	if a := change(bob.did, reserved); a.status != 502 {
		t.Errorf("directory away: %d %s", a.status, a.body)
	}
	f.plcDown = false
	f.silent(change(bob.did, reserved))
	if got := named(bob.did); got != reserved || signs(bob) != "the key that the DID names" {
		t.Errorf("DID names %s, signed with %s", got, signs(bob))
	}
	// A DID that names something else is mended with the key that the account has.
	last := must(f.plc.Last(t.Context(), bob.did))
	op := must(plc.Update(last, func(d *plc.Data) { d.VerificationMethods["atproto"] = old }))
	if err := op.Sign(f.identities.Accounts.Rotation); err != nil {
		t.Fatal(err)
	}
	if err := f.plc.Submit(t.Context(), bob.did, op); err != nil {
		t.Fatal(err)
	}
	f.silent(change(bob.did, reserved))
	if got := named(bob.did); got != reserved {
		t.Errorf("DID names %s", got)
	}
}
