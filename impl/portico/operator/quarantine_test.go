package operator_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-cmp/cmp"

	"portico/db"
	"portico/impl/account"
	"portico/impl/servertest"
)

func quarantine(rule string) func(*servertest.Options) {
	return func(o *servertest.Options) { o.Quarantine, o.TrustedProxies = rule, 1 }
}

// signUp makes an account from an address of the network.
func (s operator) signUp(name, mailDomain, address string) syntax.DID {
	s.Helper()
	a := s.Accepted(s.Post("com.atproto.server.createAccount", fmt.Sprintf(`{"handle":"%s.test","email":"%s@%s","password":"correct horse battery"}`, name, name, mailDomain),
		"X-Forwarded-For: "+address))
	return syntax.DID(a.Text(s, "did"))
}

func (s operator) confirm(did syntax.DID) {
	s.Helper()
	s.SetAccount(did, func(a *db.Account) { a.EmailConfirmedAt = new(s.Now()) })
}

// heldNames are those of the accounts that a list of the quarantine has, in its order.
func (s operator) heldNames(query string) (names []string) {
	s.Helper()
	for cursor := ""; ; {
		var page struct {
			Cursor   string
			Accounts []struct{ Handle string }
		}
		s.Accepted(s.ask("listQuarantined?limit=2&"+query+cursor)).Decode(s, &page)
		for _, a := range page.Accounts {
			names = append(names, strings.TrimSuffix(a.Handle, ".test"))
		}
		if page.Cursor == "" {
			return names
		}
		cursor = "&cursor=" + url.QueryEscape(page.Cursor)
	}
}

// events are how many events there are of an account.
func (s operator) events(did syntax.DID) (n int) {
	s.Helper()
	events, err := s.DB.Events(s.Context(), 0, 1000)
	if err != nil {
		s.Fatal(err)
	}
	for _, e := range events {
		if e.DID == did {
			n++
		}
	}
	return n
}

// A flood is five accounts of two ranges and two domains of mail, an hour apart.
func (s operator) flood() (dids map[string]syntax.DID) {
	s.Helper()
	dids = make(map[string]syntax.DID)
	for i, a := range []struct{ name, domain, address string }{
		{"anna", "example.com", "192.0.2.10"},
		{"bot1", "bots.example", "198.51.100.1"},
		{"bot2", "bots.example", "198.51.100.2"},
		{"bot3", "example.com", "198.51.100.3"},
		{"carl", "example.com", "2001:db8:1:2::3"},
	} {
		if i > 0 {
			s.Advance(time.Hour)
		}
		dids[a.name] = s.signUp(a.name, a.domain, a.address)
	}
	s.confirm(dids["anna"])
	return dids
}

func TestListQuarantined(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		if got := s.Accepted(s.ask("listQuarantined")).Body; got != `{"accounts":[]}` {
			t.Errorf("nobody: %s", got)
		}
		dids := s.flood()
		want := `{"accounts":[{"did":"` + dids["carl"].String() + `","handle":"carl.test","status":"active","email":"carl@example.com",` +
			`"quarantine":{"since":"2026-03-01T16:00:00.000Z","rule":"approved","state":"held","addressRange":"2001:db8:1::/48","mailDomain":"example.com"},` +
			`"records":0,"blobs":0,"blobBytes":0}]}`
		if got := s.Accepted(s.ask("listQuarantined?addressRange=2001:db8:1::/48")).Body; got != want {
			t.Errorf("one account: %s, want %s", got, want)
		}
		for _, tt := range []struct {
			query string
			want  []string
		}{
			{"", []string{"anna", "bot1", "bot2", "bot3", "carl"}},
			{"rule=approved", []string{"anna", "bot1", "bot2", "bot3", "carl"}},
			{"rule=confirmed", nil},
			{"addressRange=198.51.100.0/24", []string{"bot1", "bot2", "bot3"}},
			{"addressRange=198.51.100.77", []string{"bot1", "bot2", "bot3"}},
			{"addressRange=::ffff:198.51.100.77", []string{"bot1", "bot2", "bot3"}},
			{"addressRange=2001:db8:1:ffff::1", []string{"carl"}},
			{"addressRange=198.51.101.0/24", nil},
			{"mailDomain=bots.example", []string{"bot1", "bot2"}},
			{"mailDomain=@Bots.Example", []string{"bot1", "bot2"}},
			{"mailDomain=%25", nil},
			{"mailDomain=%00", nil},
			{"since=2026-03-01T15:00:00Z", []string{"bot3", "carl"}},
			{"unconfirmed=true", []string{"bot1", "bot2", "bot3", "carl"}},
			{"waiting=true", []string{"anna", "bot1", "bot2", "bot3", "carl"}},
			{"mailDomain=bots.example&since=2026-03-01T14:00:00Z", []string{"bot2"}},
		} {
			if diff := cmp.Diff(tt.want, s.heldNames(tt.query)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.query, diff)
			}
		}
		s.Accepted(s.do("approveQuarantined", `{"dids":["`+dids["bot1"].String()+`"]}`))
		if got := s.heldNames("waiting=true&mailDomain=bots.example"); len(got) != 1 || got[0] != "bot2" {
			t.Errorf("waiting once one is approved: %v", got)
		}
		for query, message := range map[string]string{
			"addressRange=198.51.0.0/16":   "addressRange must be an address, a /24 of IPv4 or a /48 of IPv6",
			"addressRange=nowhere":         "addressRange must be an address, a /24 of IPv4 or a /48 of IPv6",
			"cursor=1":                     "Malformed cursor",
			"cursor=x:did:web:example.com": "Malformed cursor",
		} {
			s.Refused(s.ask("listQuarantined?"+query), 400, "InvalidRequest", message)
		}
	}, quarantine("approved"))
}

// An account says that it is in quarantine, in its own document and in the list of all.
func TestAccountInQuarantine(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		did := s.signUp("anna", "example.com", "192.0.2.10")
		want := map[string]any{
			"since": "2026-03-01T12:00:00.000Z", "rule": "confirmed", "state": "held", "addressRange": "192.0.2.0/24", "mailDomain": "example.com",
		}
		if diff := cmp.Diff(want, s.Accepted(s.account("anna.test")).Fields(t)["quarantine"]); diff != "" {
			t.Errorf("getAccount (-want +got):\n%s", diff)
		}
		if got := s.Accepted(s.ask("listAccounts")).Body; !strings.Contains(got, `"quarantine":{"since":"2026-03-01T12:00:00.000Z"`) {
			t.Errorf("listAccounts: %s", got)
		}
		s.Accepted(s.do("approveQuarantined", `{"dids":["`+did.String()+`"]}`))
		want["approvedAt"] = "2026-03-01T12:00:00.000Z"
		if diff := cmp.Diff(want, s.Accepted(s.account("anna.test")).Fields(t)["quarantine"]); diff != "" {
			t.Errorf("approved (-want +got):\n%s", diff)
		}
		s.release()
		if got := s.Accepted(s.account("anna.test")).Fields(t)["quarantine"]; got != nil {
			t.Errorf("released: %v", got)
		}
	}, quarantine("confirmed"))
}

// release does what the server does once a minute.
func (s operator) release() {
	s.Helper()
	if err := s.Server.Server.Accounts.Release(s.Context()); err != nil {
		s.Fatal(err)
	}
}

func TestApproveQuarantined(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		dids := s.flood()
		for _, tt := range []struct{ body, want string }{
			{`{"filter":{"addressRange":"198.51.100.0/24"},"dryRun":true}`, `{"approved":3,"confirmed":0,"more":false}`},
			{`{"filter":{"all":true},"dryRun":true}`, `{"approved":5,"confirmed":1,"more":false}`},
			{`{"dids":["` + dids["anna"].String() + `","` + unknown + `"],"dryRun":true}`, `{"approved":1,"confirmed":1,"more":false,"kept":["` + unknown + `"]}`},
			{`{"filter":{"addressRange":"198.51.100.0/24"},"limit":2}`, `{"approved":2,"confirmed":0,"more":true}`},
			{`{"filter":{"addressRange":"198.51.100.0/24"},"limit":2}`, `{"approved":1,"confirmed":0,"more":false}`},
			{`{"filter":{"addressRange":"198.51.100.0/24"},"limit":2}`, `{"approved":0,"confirmed":0,"more":false}`},
			{`{"dids":["` + dids["anna"].String() + `","` + dids["anna"].String() + `"]}`, `{"approved":1,"confirmed":1,"more":false}`},
		} {
			if got := s.Accepted(s.do("approveQuarantined", tt.body)).Body; got != tt.want {
				t.Errorf("%s: %s, want %s", tt.body, got, tt.want)
			}
		}
		s.release()
		if got := s.heldNames(""); len(got) != 1 || got[0] != "carl" {
			t.Errorf("still in quarantine: %v", got)
		}
		if got := s.Recorded(dids["bot1"]); !strings.Contains(got, "quarantine_approved") {
			t.Errorf("the record has no approval:\n%s", got)
		}
		if got := s.Accepted(s.do("approveQuarantined", `{"dids":["`+dids["bot1"].String()+`"]}`)).Body; got != `{"approved":0,"confirmed":0,"more":false,"kept":["`+dids["bot1"].String()+`"]}` {
			t.Errorf("one that is out: %s", got)
		}
	}, quarantine("approved"))
}

// A call says which accounts it means: none for want of a word, and not all of them.
func TestQuarantinedAreNamed(t *testing.T) {
	s := newOperator(t, quarantine("approved"))
	s.flood()
	for body, message := range map[string]string{
		`{}`:          "Either dids or filter must say which accounts",
		`{"dids":[]}`: "Either dids or filter must say which accounts",
		`{"dids":["` + unknown + `"],"filter":{"all":true}}`: "Either dids or filter must say which accounts",
		`{"filter":{}}`: "filter must say which accounts, or all of them",
		`{"filter":{"maildomain":"bots.example"}}`:      "filter must say which accounts, or all of them",
		`{"filter":{"all":true,"mailDomain":"b.test"}}`: "filter must say which accounts, or all of them",
		`{"filter":{"addressRange":"198.51.100.0/25"}}`: "addressRange must be an address, a /24 of IPv4 or a /48 of IPv6",
		`{"filter":{"all":true},"limit":501}`:           "Integer too big (maximum 500, got 501) at $.limit",
		`{"filter":{"rule":"none"},"dryRun":true}`:      `Expected one of "confirmed", "approved" (got "none") at $.filter.rule`,
	} {
		for _, method := range []string{"approveQuarantined", "deleteQuarantined"} {
			a := s.do(method, body)
			if a.Status != 400 || !strings.Contains(a.Body, `"InvalidRequest"`) {
				t.Errorf("%s %s: %d %s, want %s", method, body, a.Status, a.Body, message)
			}
		}
	}
	if got := s.heldNames(""); len(got) != 5 {
		t.Errorf("in quarantine: %v", got)
	}
}

// Of an account that is deleted in quarantine nothing is left but that it was, here or
// anywhere else.
func TestDeleteQuarantined(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		dids := s.flood()
		s.Accepted(s.do("approveQuarantined", `{"dids":["`+dids["bot3"].String()+`"]}`))
		for _, tt := range []struct{ body, want string }{
			{`{"filter":{"addressRange":"198.51.100.9"},"dryRun":true}`, `{"deleted":2,"confirmed":0,"more":false}`}, // the approved one is not meant
			{`{"filter":{"addressRange":"198.51.100.9"},"limit":1}`, `{"deleted":1,"confirmed":0,"more":true}`},
			{`{"filter":{"addressRange":"198.51.100.9"},"limit":1}`, `{"deleted":1,"confirmed":0,"more":false}`},
			{`{"dids":["` + dids["anna"].String() + `","` + unknown + `"]}`, `{"deleted":1,"confirmed":1,"more":false,"kept":["` + unknown + `"]}`},
		} {
			if got := s.Accepted(s.do("deleteQuarantined", tt.body)).Body; got != tt.want {
				t.Errorf("%s: %s, want %s", tt.body, got, tt.want)
			}
		}
		if diff := cmp.Diff([]string{"bot3", "carl"}, s.heldNames("")); diff != "" {
			t.Errorf("left (-want +got):\n%s", diff)
		}
		if asked := s.PLC.Asked(); len(asked) > 0 {
			t.Errorf("the directory was asked: %v", asked)
		}
		for _, name := range []string{"anna", "bot1", "bot2"} {
			if n := s.events(dids[name]); n > 0 {
				t.Errorf("%s has %d events", name, n)
			}
			if got := s.Recorded(dids[name]); !strings.Contains(got, "account_deleted") || strings.Contains(got, "account_created") {
				t.Errorf("the record of %s:\n%s", name, got)
			}
			s.signUp(name, "bots.example", "192.0.2.7") // its handle is free
		}
		if err := s.Server.Server.Accounts.CleanUp(t.Context()); err != nil {
			t.Error(err)
		}
		if asked := s.PLC.Asked(); len(asked) > 0 {
			t.Errorf("the directory was asked about DIDs that were never sent: %v", asked)
		}
	}, quarantine("approved"))
}

// One that was released meanwhile, or is on its way out, is not deleted as one that nobody
// knows of.
func TestShownAccountIsNotDeletedFromQuarantine(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		dids := s.flood()
		s.Accepted(s.do("approveQuarantined", `{"dids":["`+dids["anna"].String()+`"]}`))
		s.release()
		s.Write(func(tx *db.Tx) error {
			h, err := tx.LockQuarantined(t.Context(), dids["carl"])
			if err != nil {
				return err
			}
			h.State = db.HeldSent
			return tx.UpdateQuarantined(t.Context(), h)
		})
		for _, name := range []string{"anna", "carl"} {
			for _, dry := range []string{"true", "false"} {
				body := `{"dids":["` + dids[name].String() + `"],"dryRun":` + dry + `}`
				if got := s.Accepted(s.do("deleteQuarantined", body)).Body; got != `{"deleted":0,"confirmed":0,"more":false,"kept":["`+dids[name].String()+`"]}` {
					t.Errorf("%s: %s", name, got)
				}
			}
			s.Account(dids[name])
		}
		if got := s.Accepted(s.do("deleteQuarantined", `{"filter":{"all":true}}`)).Body; got != `{"deleted":3,"confirmed":0,"more":false}` {
			t.Errorf("all: %s", got)
		}
		s.Account(dids["carl"])
	}, quarantine("approved"))
}

// A DID that its owner brought may be activated once it is approved. It is deleted without a
// word: its account lives elsewhere.
func TestBroughtAccountInQuarantine(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		bring := func(name string) string {
			did := syntax.DID("did:web:" + name + ".example")
			key := servertest.Must(atcrypto.GeneratePrivateKeyK256())
			s.Publish(did, name+".test", map[string]atcrypto.PrivateKey{"atproto": key})
			const method = "com.atproto.server.createAccount"
			s.Accepted(s.Post(method, fmt.Sprintf(`{"handle":"%s.test","email":"%s@example.com","password":"correct horse battery","did":%q}`, name, name, did),
				s.ServiceToken(did, key, method, time.Minute)))
			return did.String()
		}
		anna, bert := bring("anna"), bring("bert")
		if got := s.Accepted(s.ask("listQuarantined?waiting=true")).Body; strings.Count(got, `"state":"brought"`) != 2 {
			t.Errorf("waiting: %s", got)
		}
		s.Accepted(s.do("approveQuarantined", `{"dids":["`+anna+`"]}`))
		if got := s.Accepted(s.do("deleteQuarantined", `{"filter":{"all":true}}`)).Body; got != `{"deleted":1,"confirmed":0,"more":false}` {
			t.Errorf("deleted: %s", got)
		}
		s.Account(syntax.DID(anna))
		if n := s.events(syntax.DID(bert)); n > 0 {
			t.Errorf("%d events of an account that lives elsewhere", n)
		}
	}, quarantine("approved"))
}

// An account in quarantine is deleted as its owner asked, or by the operator, without a word
// to others; and as long as it is there its domain is not removed.
func TestAccountInQuarantineEnds(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		anna, bert := s.SignUp("anna"), s.SignUp("bert")
		s.Refused(s.do("removeDomain", `{"domain":".test"}`), 400, "DomainInUse", "2 accounts have handles under it, which would no longer resolve")
		s.Empty(s.Post("com.atproto.server.deactivateAccount", `{"deleteAfter":"2026-03-02T12:00:00Z"}`, anna.Access))
		deletions := &account.Deletions{Accounts: s.Server.Server.Accounts, DIDs: s.Server.Server.DIDs, Outbox: s.Outbox, Brand: s.Server.Server.Brand}
		for range 3 {
			s.Check(deletions.Run(t.Context()))
			s.Advance(8 * 24 * time.Hour)
		}
		s.Empty(s.do("com.atproto.admin.deleteAccount", `{"did":"`+bert.DID.String()+`"}`))
		for _, u := range []servertest.User{anna, bert} {
			s.Refused(s.account(u.DID.String()), 400, "AccountNotFound", "Account not found")
			if n := s.events(u.DID); n > 0 {
				t.Errorf("%d events of %s", n, u.Handle)
			}
		}
		s.Check(s.Server.Server.Accounts.CleanUp(t.Context()))
		if asked := s.PLC.Asked(); len(asked) > 0 {
			t.Errorf("the directory was asked: %v", asked)
		}
	}, quarantine("approved"), func(o *servertest.Options) { o.HandleDomains = []string{".test", ".more.test"} })
}
