package admin_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/identity/plc"
	"portico/impl/servertest"
)

// said returns what the network was told since the event after, one line each, and
// the number of the last event.
func (f *fixture) said(after int64) (string, int64) {
	f.Helper()
	events := servertest.Must(f.DB.Events(f.Context(), after, 1000))
	var b strings.Builder
	for _, e := range events {
		body := servertest.Must(atdata.UnmarshalCBOR(e.Body))
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

// letters are those of a kind in the outbox, the newest first.
func (f *fixture) letters(kind string) []string {
	f.Helper()
	var all []string
	for _, l := range f.Letters(kind) {
		all = append(all, l.To+"|"+l.Subject+"|"+l.Text+"|"+l.HTML)
	}
	return all
}

const unknown = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"

func TestDeleteAccount(t *testing.T) {
	f := newFixture(t)
	alice := f.SignUp("alice")
	f.hears("#account active=false status=deleted\n", func() {
		f.silent(f.do("deleteAccount", `{"did":"`+alice.DID.String()+`"}`))
	})
	// Nothing else is left of what the network was told.
	if got, _ := f.said(0); got != "#account active=false status=deleted\n" {
		t.Errorf("events left: %s", got)
	}
	f.Refused(f.ask("getAccountInfo?did="+alice.DID.String()), 400, "NotFound", "Account not found")
	f.Refused(f.Post("com.atproto.server.refreshSession", "", alice.Refresh), 400, "InvalidRequest",
		"Could not find user info for account: "+alice.DID.String())
	if got, want := f.Recorded(alice.DID), "12:00:00 account_deleted by admin from 127.0.0.1: \n"; got != want {
		t.Errorf("record %q, want %q", got, want)
	}
	f.hears("#account active=false status=deleted\n", func() {
		f.silent(f.do("deleteAccount", `{"did":"`+unknown+`"}`))
	})
	// No operation was sent to the directory: the DID is its owner's.
	if log := servertest.Must(f.PLC.Audit(t.Context(), alice.DID)); len(log) != 1 {
		t.Errorf("%d operations in the directory, want 1", len(log))
	}
	f.SignUp("alice") // the handle and the address are free
	f.Refused(f.do("deleteAccount", `{}`), 400, "InvalidRequest", `Missing required key "did" at $`)
}

func TestAccountInvites(t *testing.T) {
	f := newFixture(t)
	alice := f.SignUp("alice")
	f.Invite("old", 1, alice.DID.String())
	for _, step := range []struct {
		method string
		want   bool
	}{{"disableAccountInvites", true}, {"disableAccountInvites", true}, {"enableAccountInvites", false}} {
		f.silent(f.do(step.method, `{"account":"`+alice.DID.String()+`","note":"why"}`))
		info := f.Accepted(f.ask("getAccountInfo?did=" + alice.DID.String())).Fields(t)
		if info["invitesDisabled"] != step.want {
			t.Errorf("%s: invitesDisabled is %v", step.method, info["invitesDisabled"])
		}
		if err := f.DB.InviteAvailable(t.Context(), "old"); err != nil {
			t.Errorf("%s: a code from before: %v", step.method, err)
		}
		f.silent(f.do(step.method, `{"account":"`+unknown+`"}`))
	}
	const want = "12:00:00 invites_enabled by admin from 127.0.0.1: \n" +
		"12:00:00 invites_disabled by admin from 127.0.0.1: \n12:00:00 invites_disabled by admin from 127.0.0.1: \n"
	if got := f.Recorded(alice.DID); got != want {
		t.Errorf("record\n%swant\n%s", got, want)
	}
}

func TestDisableInviteCodes(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		alice := f.SignUp("alice")
		for _, code := range []string{"one", "two", "three"} {
			f.Invite(code, 1, "admin")
		}
		f.Invite("hers", 1, alice.DID.String())
		f.Refused(f.do("disableInviteCodes", `{"codes":["one"],"accounts":["`+alice.DID.String()+`","admin"]}`), 400,
			"InvalidRequest", "cannot disable admin invite codes")
		f.silent(f.do("disableInviteCodes", `{}`))
		f.silent(f.do("disableInviteCodes", `{"codes":["none","\u0000"],"accounts":["nobody","\u0000"]}`))
		f.silent(f.do("disableInviteCodes", `{"codes":["one","two"],"accounts":["`+alice.DID.String()+`"]}`))
		for code, want := range map[string]error{
			"one": db.ErrInviteUnavailable, "two": db.ErrInviteUnavailable, "hers": db.ErrInviteUnavailable, "three": nil,
		} {
			if err := f.DB.InviteAvailable(t.Context(), code); err != want {
				t.Errorf("%s: %v", code, err)
			}
		}
	})
}

func TestAccountInfo(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		f.Invite("code", 5, "admin")
		alice, bob := f.SignUp("alice"), f.SignUpWith("bob", "code")
		f.Advance(time.Minute)
		carol := f.SignUpWith("carol", "code")
		f.Invite("bobs", 2, bob.DID.String())
		f.SetAccount(bob.DID, func(a *db.Account) {
			a.EmailConfirmedAt, a.DeactivatedAt, a.TakedownRef = new(f.Now()), new(f.Now()), new("ref")
		})
		f.SetAccount(carol.DID, func(a *db.Account) { a.Handle, a.Email = "", "" })
		code := `{"code":"code","available":5,"disabled":false,"forAccount":"admin","createdBy":"admin",` +
			`"createdAt":"2026-03-01T12:00:00.000Z","uses":[{"usedBy":"` + carol.DID.String() + `","usedAt":"2026-03-01T12:01:00.000Z"},` +
			`{"usedBy":"` + bob.DID.String() + `","usedAt":"2026-03-01T12:00:00.000Z"}]}`
		views := map[syntax.DID]string{
			alice.DID: `{"did":"` + alice.DID.String() + `","handle":"alice.test","email":"alice@example.com",` +
				`"indexedAt":"2026-03-01T12:00:00.000Z","invites":[],"invitesDisabled":false}`,
			bob.DID: `{"did":"` + bob.DID.String() + `","handle":"bob.test","email":"bob@example.com",` +
				`"indexedAt":"2026-03-01T12:00:00.000Z","invitedBy":` + code + `,"invites":[{"code":"bobs","available":2,` +
				`"disabled":false,"forAccount":"` + bob.DID.String() + `","createdBy":"admin","createdAt":"2026-03-01T12:01:00.000Z",` +
				`"uses":[]}],"invitesDisabled":false,"emailConfirmedAt":"2026-03-01T12:01:00.000Z","deactivatedAt":"2026-03-01T12:01:00.000Z"}`,
			carol.DID: `{"did":"` + carol.DID.String() + `","handle":"handle.invalid","indexedAt":"2026-03-01T12:01:00.000Z",` +
				`"invitedBy":` + code + `,"invites":[],"invitesDisabled":false}`,
		}
		query := "getAccountInfos?dids=" + unknown
		for did, want := range views {
			if got := f.Accepted(f.ask("getAccountInfo?did=" + did.String())).Body; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			query += "&dids=" + did.String()
		}
		var out struct{ Infos []json.RawMessage }
		if err := json.Unmarshal([]byte(f.Accepted(f.ask(query)).Body), &out); err != nil || len(out.Infos) != 3 {
			t.Fatalf("%d infos, %v", len(out.Infos), err)
		}
		for _, info := range out.Infos {
			var v struct{ DID syntax.DID }
			if err := json.Unmarshal(info, &v); err != nil || string(info) != views[v.DID] {
				t.Errorf("info %s, %v", info, err)
			}
		}
		f.Refused(f.ask("getAccountInfo?did="+unknown), 400, "NotFound", "Account not found")
		if got := f.Accepted(f.ask("getAccountInfos?dids=" + unknown)).Body; got != `{"infos":[]}` {
			t.Errorf("got %s", got)
		}
		f.Refused(f.ask("getAccountInfos"), 400, "InvalidRequest",
			`Invalid com.atproto.admin.getAccountInfos params: Missing required key "dids"`)
	})
}

func TestSearchAccounts(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		for _, name := range []string{"anna1", "anna2", "anna3", "berta"} {
			f.SignUp(name)
		}
		f.SetAccount(f.mustFind("anna2.test"), func(a *db.Account) { a.TakedownRef = new("ref") })
		search := func(query string) (names, cursor string) {
			t.Helper()
			var out struct {
				Accounts []struct{ Handle string }
				Cursor   *string
			}
			if err := json.Unmarshal([]byte(f.Accepted(f.ask("searchAccounts"+query)).Body), &out); err != nil {
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
		f.Refused(f.ask("searchAccounts?limit=101"), 400, "InvalidRequest",
			"Invalid com.atproto.admin.searchAccounts params: integer too big (maximum 100, got 101)")
	})
}

func (f *fixture) mustFind(handle syntax.Handle) syntax.DID {
	f.Helper()
	return servertest.Must(f.DB.AccountByHandle(f.Context(), handle)).DID
}

func TestInviteCodes(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		page := func(query string) (codes, cursor string) {
			t.Helper()
			var out struct {
				Codes  []struct{ Code string }
				Cursor *string
			}
			if err := json.Unmarshal([]byte(f.Accepted(f.ask("getInviteCodes"+query)).Body), &out); err != nil {
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
		if got := f.Accepted(f.ask("getInviteCodes")).Body; got != `{"codes":[]}` {
			t.Errorf("no codes: %s", got)
		}
		f.Invite("a", 3, "admin")
		f.Invite("b", 3, "admin")
		f.Advance(time.Microsecond) // within the millisecond that a cursor names
		f.Invite("c", 3, "admin")
		f.Advance(time.Hour)
		f.Invite("d", 3, "admin")
		f.SignUpWith("alice", "a")
		f.SignUpWith("bob", "a")
		f.SignUpWith("carol", "c")
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
			{"?sort=usage&limit=2&cursor=1.9::d", "cd", "0::d"}, // uses are counted in whole ones
			{"?sort=usage&cursor=0.9::d", "b", "0::b"},
			{"?sort=usage&limit=1&cursor=1" + strings.Repeat("0", 400) + "::zzz", "a", "2::a"},
			{"?sort=usage&cursor=-1" + strings.Repeat("0", 400) + "::zzz", "", ""},
			// The number is read as far as it goes.
			{"?sort=usage&cursor=1abc::d", "cdb", "0::b"},
			{"?sort=usage&cursor=1e30::d", "cdb", "0::b"},
			{"?sort=usage&cursor=%20%2B1.::d", "cdb", "0::b"},
			{"?limit=1&cursor=1772366400000.001abc::c", "b", "1772366400000::b"},
			{"?cursor=12abc::x", "", ""},
			{"?limit=1&cursor=8640000000000000::zzz", "d", "1772370000000.001::d"}, // the end of time
		} {
			if codes, cursor := page(tt.query); codes != tt.codes || cursor != tt.cursor {
				t.Errorf("%s: %q, cursor %q", tt.query, codes, cursor)
			}
		}
		f.Refused(f.ask("getInviteCodes?sort=age"), 400, "InvalidRequest", "unknown sort method: age")
		for _, cursor := range []string{"x", "::a", "1::", "x::a", "1", "1::a::b", "NaN::a", "Inf::a", "abc12::a", "-::a", ".5::a", "8640000000000001::a", "-8640000000000001::a"} {
			f.Refused(f.ask("getInviteCodes?cursor="+url.QueryEscape(cursor)), 400, "InvalidRequest", "Malformed cursor")
		}
		f.Refused(f.ask("getInviteCodes?limit=501"), 400, "InvalidRequest",
			"Invalid com.atproto.admin.getInviteCodes params: integer too big (maximum 500, got 501)")
	})
}

const cid = "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"

func TestGetSubjectStatus(t *testing.T) {
	f := newFixture(t)
	alice := f.SignUp("alice")
	did := alice.DID.String()
	status := func(want string) {
		t.Helper()
		if got := f.Accepted(f.ask("getSubjectStatus?did=" + did)).Body; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	subject := `{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":"` + did + `"},`
	status(subject + `"takedown":{"applied":false},"deactivated":{"applied":false}}`)
	f.SetAccount(alice.DID, func(a *db.Account) { a.TakedownRef, a.DeactivatedAt = new("case 7"), new(f.Now()) })
	status(subject + `"takedown":{"applied":true,"ref":"case 7"},"deactivated":{"applied":true}}`)
	f.Refused(f.ask("getSubjectStatus"), 400, "InvalidRequest", "No provided subject")
	f.Refused(f.ask("getSubjectStatus?did="+unknown), 400, "NotFound", "Subject not found")
	f.Refused(f.ask("getSubjectStatus?blob="+cid), 400, "InvalidRequest", "Must provide a did to request blob state")
	f.Refused(f.ask("getSubjectStatus?blob="+cid+"&did="+did), 400, "NotFound", "Subject not found")
	f.Refused(f.ask("getSubjectStatus?blob="+cid+"&did="+unknown), 400, "NotFound", "Repo not found")
	f.Refused(f.ask("getSubjectStatus?did="+did+"&uri=at://"+did+"/app.bsky.feed.post/abc"), 400, "NotFound", "Subject not found")
	f.Refused(f.ask("getSubjectStatus?uri=at://"+unknown+"/app.bsky.feed.post/abc"), 400, "NotFound", "Repo not found")
	f.Refused(f.ask("getSubjectStatus?uri=at://alice.test/app.bsky.feed.post/abc"), 400, "NotFound", "Repo not found")
}

func TestSendEmail(t *testing.T) {
	f := newFixture(t)
	alice := f.SignUp("alice")
	send := func(more string) answer {
		return f.do("sendEmail", `{"recipientDid":"`+alice.DID.String()+`","senderDid":"`+servertest.ModService+`","content":"<p>Hello &amp; bye</p>"`+more+`}`)
	}
	for _, more := range []string{"", `,"subject":"Your post","comment":"not for her eyes"`} {
		if a := f.Accepted(send(more)); a.Body != `{"sent":true}` {
			t.Errorf("got %s", a.Body)
		}
	}
	f.SetAccount(alice.DID, func(a *db.Account) { a.TakedownRef, a.DeactivatedAt = new("ref"), new(f.Now()) })
	f.Accepted(send(`,"subject":"Appeal"`))
	got := strings.Join(f.letters("moderator_message"), "\n")
	const want = "alice@example.com|Appeal|Hello & bye\n|<p>Hello &amp; bye</p>\n" +
		"alice@example.com|Your post|Hello & bye\n|<p>Hello &amp; bye</p>\n" +
		"alice@example.com|Message via your PDS|Hello & bye\n|<p>Hello &amp; bye</p>"
	if got != want {
		t.Errorf("letters\n%s\nwant\n%s", got, want)
	}
	f.SetAccount(alice.DID, func(a *db.Account) { a.Email = "" })
	f.Refused(send(""), 400, "InvalidRequest", "account does not have an email address")
	f.Refused(f.do("sendEmail", `{"recipientDid":"`+unknown+`","senderDid":"`+servertest.ModService+`","content":"x"}`), 400,
		"InvalidRequest", "Recipient not found")
	if log := f.Recorded(alice.DID); strings.Count(log, "email_sent by admin") != 3 || strings.Contains(log, "Hello") {
		t.Errorf("record\n%s", log)
	}
}

func TestUpdateAccountEmail(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		alice := f.SignUp("alice")
		f.SignUp("bob")
		f.Accepted(f.Post("com.atproto.server.requestAccountDelete", "", alice.Access))
		f.SetAccount(alice.DID, func(a *db.Account) { a.EmailConfirmedAt, a.EmailAuthFactor = new(f.Now()), true })
		f.silent(f.do("updateAccountEmail", `{"account":"`+alice.DID.String()+`","email":"Not An Address"}`))
		a := f.Account(alice.DID)
		if a.Email != "not an address" || a.EmailConfirmedAt != nil || a.EmailAuthFactor {
			t.Errorf("account %+v", a)
		}
		if got := f.letters("email_changed"); len(got) != 1 || !strings.HasPrefix(got[0], "alice@example.com|") {
			t.Errorf("letters %q", got)
		}
		// The code that went to the old address is worth nothing.
		code := f.Code("delete_account")
		f.Refused(f.Post("com.atproto.server.deleteAccount", `{"did":"`+alice.DID.String()+`","password":"`+goodPassword+`","token":"`+code+`"}`),
			400, "InvalidToken", "Token is invalid")
		f.silent(f.do("updateAccountEmail", `{"account":"ALICE.test","email":"alice@example.org"}`))
		// The same address once more has to be confirmed again, and is announced to nobody.
		f.SetAccount(alice.DID, func(a *db.Account) { a.EmailConfirmedAt, a.TakedownRef = new(f.Now()), new("ref") })
		f.silent(f.do("updateAccountEmail", `{"account":"alice.test","email":"ALICE@example.org"}`))
		if a := f.Account(alice.DID); a.Email != "alice@example.org" || a.EmailConfirmedAt != nil {
			t.Errorf("account %+v", a)
		}
		if got := f.letters("email_changed"); len(got) != 2 {
			t.Errorf("letters %q", got)
		}
		f.Refused(f.do("updateAccountEmail", `{"account":"carol.test","email":"x@example.com"}`), 400, "InvalidRequest",
			"Account does not exist: carol.test")
		f.Refused(f.do("updateAccountEmail", `{"account":"`+unknown+`","email":"x@example.com"}`), 400, "InvalidRequest",
			"Account does not exist: "+unknown)
		f.Refused(f.do("updateAccountEmail", `{"account":"alice.test","email":"BOB@example.com"}`), 400, "InvalidRequest",
			"This email address is already in use, please use a different email.")
		for _, odd := range []string{`a\u0000b`, strings.Repeat("a", 5000)} {
			f.Refused(f.do("updateAccountEmail", `{"account":"alice.test","email":"`+odd+`"}`), 400, "InvalidRequest",
				"This email address is not supported, please use a different email.")
		}
		const want = "12:00:00 email_changed by admin from 127.0.0.1: to be confirmed again\n" +
			"12:00:00 email_changed by admin from 127.0.0.1: \n" +
			"12:00:00 email_changed by admin from 127.0.0.1: sign-in codes off\n"
		if got := f.Recorded(alice.DID); !strings.HasPrefix(got, want) {
			t.Errorf("record\n%s", got)
		}
	})
}

// DESIGN, small ones: an address that the operator changes is announced to the old one,
// whether that was confirmed or is a minute old.
func TestDesignSmallOnesOperatorsChangeOfAnAddressIsAnnounced(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		alice := f.SignUp("alice")
		f.Advance(time.Minute)
		f.silent(f.do("updateAccountEmail", `{"account":"alice.test","email":"second@example.com"}`))
		f.SetAccount(alice.DID, func(a *db.Account) { a.EmailConfirmedAt = new(f.Now()) })
		f.silent(f.do("updateAccountEmail", `{"account":"alice.test","email":"third@example.com"}`))
		told := []string{}
		for _, l := range f.Letters("email_changed") {
			told = append(told, l.To)
		}
		slices.Sort(told)
		if want := []string{"alice@example.com", "second@example.com"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}

// DESIGN 26: addresses that are taken, or none, and subjects whose repository is not here
// are no 500.
func TestDesign26OperatorsMistakes(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		alice := f.SignUp("alice")
		f.SignUp("bob")
		f.Refused(f.do("updateAccountEmail", `{"account":"alice.test","email":"Bob@example.com"}`), 400, "InvalidRequest",
			"This email address is already in use, please use a different email.")
		for _, name := range []string{"alice", "bob"} {
			f.silent(f.do("updateAccountEmail", `{"account":"`+name+`.test","email":""}`))
		}
		if _, ok := f.Accepted(f.ask("getAccountInfo?did=" + alice.DID.String())).Fields(t)["email"]; ok {
			t.Error("there is an empty address")
		}
		for _, authority := range []string{unknown, "alice.test"} {
			uri := "at://" + authority + "/app.bsky.feed.post/abc"
			f.Refused(f.ask("getSubjectStatus?uri="+url.QueryEscape(uri)), 400, "NotFound", "Repo not found")
			f.Refused(f.do("updateSubjectStatus", `{"subject":{"$type":"com.atproto.repo.strongRef","uri":"`+uri+`","cid":"`+cid+`"},"takedown":{"applied":true}}`),
				400, "NotFound", "Repo not found")
		}
		f.Refused(f.do("updateSubjectStatus", `{"subject":{"$type":"com.atproto.admin.defs#repoBlobRef","did":"`+unknown+`","cid":"`+cid+`"},"takedown":{"applied":true}}`),
			400, "NotFound", "Repo not found")
	})
}

// DESIGN 13: passwords that the operator gives have a minimum length, too.
func TestDesign13PasswordsOfTheOperator(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		alice := f.SignUp("alice")
		for _, short := range []string{"", "1234567"} {
			f.Refused(f.do("updateAccountPassword", `{"did":"`+alice.DID.String()+`","password":"`+short+`"}`), 400,
				"InvalidPassword", "Password too short. Minimum length is 8 characters.")
		}
		f.Accepted(f.TrySignIn("alice.test", goodPassword))
	})
}

func TestUpdateAccountHandle(t *testing.T) {
	f := newFixture(t)
	alice := f.SignUp("alice")
	f.SignUp("bob")
	change := func(handle string) answer {
		return f.do("updateAccountHandle", `{"did":"`+alice.DID.String()+`","handle":"`+handle+`"}`)
	}
	f.hears("#identity handle=admin.test\n", func() { f.silent(change("ADMIN.test")) }) // a reserved name
	f.hears("#identity handle=admin.test\n", func() { f.silent(change("admin.test")) }) // and again
	log := servertest.Must(f.PLC.Log(t.Context(), alice.DID))
	if data, _ := log[len(log)-1].Data(); len(log) != 3 || data.Handle() != "admin.test" {
		t.Errorf("%d operations, handle %s", len(log), data.Handle())
	}
	if a := f.Account(alice.DID); a.Handle != "admin.test" {
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
		f.Refused(change(tt.handle), 400, tt.name, tt.message)
	}
	f.Internet.Point("alice.example.com", alice.DID)
	f.hears("#identity handle=alice.example.com\n", func() { f.silent(change("alice.example.com")) })

	f.PLC.Spoil(servertest.Says("", 503, ""))
	f.hears("", func() {
		if a := change("alice.test"); a.Status != 502 || a.Text(t, "error") != "UpstreamFailure" {
			t.Errorf("directory away: %d %s", a.Status, a.Body)
		}
	})
	f.PLC.Spoil(nil)

	f.SetAccount(alice.DID, func(a *db.Account) { a.TakedownRef = new("ref") })
	f.Refused(change("carol.test"), 400, "InvalidRequest", "Account not found")
	f.Refused(f.do("updateAccountHandle", `{"did":"`+unknown+`","handle":"carol.test"}`), 400, "InvalidRequest", "Account not found")
}

func TestUpdateAccountPassword(t *testing.T) {
	f := newFixture(t)
	alice := f.SignUp("alice")
	app := f.Accepted(f.Post("com.atproto.server.createAppPassword", `{"name":"phone"}`, alice.Access)).Text(t, "password")
	f.Accepted(f.Post("com.atproto.server.requestPasswordReset", `{"email":"alice@example.com"}`))
	change := func(did, text string) answer {
		return f.do("updateAccountPassword", `{"did":"`+did+`","password":"`+text+`"}`)
	}
	f.Advance(time.Minute)
	f.Refused(change(alice.DID.String(), strings.Repeat("a", 257)), 400, "InvalidRequest", "Invalid password length.")
	f.Refused(change(alice.DID.String(), "short"), 400, "InvalidPassword", "Password too short. Minimum length is 8 characters.")
	f.Accepted(f.Get("com.atproto.server.getSession", alice.Access))
	f.silent(change(alice.DID.String(), strings.Repeat("a", 256)))
	// Sessions end, and so do the access tokens issued before; app passwords stay.
	f.Refused(f.Get("com.atproto.server.getSession", alice.Access), 400, "ExpiredToken", "Token has expired")
	f.Refused(f.Post("com.atproto.server.refreshSession", "", alice.Refresh), 400, "ExpiredToken", "Token has been revoked")
	f.Refused(f.TrySignIn("alice.test", goodPassword), 401, "AuthenticationRequired", "Invalid identifier or password")
	now := f.Accepted(f.TrySignIn("alice.test", strings.Repeat("a", 256)))
	f.Accepted(f.Get("com.atproto.server.getSession", "Bearer "+now.Text(t, "accessJwt")))
	f.Accepted(f.TrySignIn("alice.test", app))
	if got := f.letters("password_changed"); len(got) != 1 || !strings.HasPrefix(got[0], "alice@example.com|") {
		t.Errorf("letters %q", got)
	}
	f.silent(change(unknown, "a good password"))
	if got := f.Recorded(alice.DID); !strings.Contains(got, "12:01:00 password_changed by admin from 127.0.0.1: \n") || strings.Contains(got, "aaaa") {
		t.Errorf("record\n%s", got)
	}
}

func TestUpdateAccountSigningKey(t *testing.T) {
	f := newFixture(t)
	alice, bob := f.SignUp("alice"), f.SignUp("bob")
	reserve := func(body string) string {
		t.Helper()
		return f.Accepted(f.Post("com.atproto.server.reserveSigningKey", body)).Text(t, "signingKey")
	}
	change := func(did syntax.DID, key string) answer {
		return f.do("updateAccountSigningKey", `{"did":"`+did.String()+`","signingKey":"`+key+`"}`)
	}
	named := func(did syntax.DID) string {
		t.Helper()
		return servertest.Must(f.PLC.Data(t.Context(), did)).VerificationMethods["atproto"]
	}
	signs := func(u user) string {
		t.Helper()
		a := f.Accepted(f.Get("com.atproto.server.getServiceAuth?aud=did:web:elsewhere.test&lxm=com.atproto.repo.uploadBlob", u.Access))
		key, err := atcrypto.ParsePublicDIDKey(named(u.DID))
		if err != nil {
			t.Fatal(err)
		}
		text := a.Text(t, "token")
		i := strings.LastIndexByte(text, '.')
		if err := key.HashAndVerify([]byte(text[:i]), servertest.Must(base64.RawURLEncoding.DecodeString(text[i+1:]))); err != nil {
			return "another key"
		}
		return "the key that the DID names"
	}
	old := named(alice.DID)
	key := reserve(`{}`)
	f.hears("#identity\n#sync\n", func() { f.silent(change(alice.DID, key)) })
	if got := named(alice.DID); got != key || signs(alice) != "the key that the DID names" {
		t.Errorf("DID names %s, signed with %s", got, signs(alice))
	}
	// That key serves one account, and one that was never here none.
	f.Refused(change(bob.DID, key), 400, "InvalidRequest", "Signing key is not known here: reserve one with com.atproto.server.reserveSigningKey")
	f.Refused(change(alice.DID, old), 400, "InvalidRequest", "Signing key is not known here: reserve one with com.atproto.server.reserveSigningKey")
	f.Refused(change(unknown, key), 400, "InvalidRequest", "Account not found")
	f.Refused(change(bob.DID, "nonsense"), 400, "InvalidRequest", `Invalid DID (got "nonsense") at $.signingKey`)

	reserved := reserve(`{"did":"` + bob.DID.String() + `"}`)
	f.PLC.Spoil(servertest.Says("", 503, ""))
	if a := change(bob.DID, reserved); a.Status != 502 {
		t.Errorf("directory away: %d %s", a.Status, a.Body)
	}
	f.PLC.Spoil(nil)
	f.silent(change(bob.DID, reserved))
	if got := named(bob.DID); got != reserved || signs(bob) != "the key that the DID names" {
		t.Errorf("DID names %s, signed with %s", got, signs(bob))
	}
	// A DID that names something else is mended with the key that the account has.
	last := servertest.Must(f.PLC.Last(t.Context(), bob.DID))
	op := servertest.Must(plc.Update(last, func(d *plc.Data) { d.VerificationMethods["atproto"] = old }))
	if err := op.Sign(f.Rotation); err != nil {
		t.Fatal(err)
	}
	if err := f.PLC.Submit(t.Context(), bob.DID, op); err != nil {
		t.Fatal(err)
	}
	f.silent(change(bob.DID, reserved))
	if got := named(bob.DID); got != reserved {
		t.Errorf("DID names %s", got)
	}
}
