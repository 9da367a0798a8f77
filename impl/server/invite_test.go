package server_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-cmp/cmp"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/invite"
)

// asAdmin are the operator's credentials.
var asAdmin = []string{"Authorization", "Basic YWRtaW46YSBwYXNzd29yZCBmb3IgdGhlIGFkbWlu"}

var inviteForm = regexp.MustCompile(`^pds-test-[a-z2-7]{5}-[a-z2-7]{5}$`)

func TestCreateInviteCode(t *testing.T) {
	f := newFixture(t, func(o *options) { o.config.InviteRequired = true })
	for _, tt := range []struct {
		name, body string
		want       db.Invite
	}{
		{"for nobody", `{"useCount":2}`, db.Invite{Uses: 2, ForAccount: "admin"}},
		{"for somebody unknown", `{"useCount":1,"forAccount":"did:web:alice.test"}`, db.Invite{Uses: 1, ForAccount: "did:web:alice.test"}},
		{"for no use", `{"useCount":0}`, db.Invite{ForAccount: "admin"}},
		{"for less", `{"useCount":-5}`, db.Invite{Uses: -5, ForAccount: "admin"}},
		{"for as many as there are", `{"useCount":9007199254740991}`, db.Invite{Uses: 9007199254740991, ForAccount: "admin"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := f.accepted(f.post("createInviteCode", tt.body, asAdmin...))
			code := a.text(t, "code")
			if !inviteForm.MatchString(code) || len(a.fields(t)) != 1 {
				t.Errorf("answer %s", a.body)
			}
			got, err := f.db.Invite(t.Context(), code)
			if err != nil {
				t.Fatal(err)
			}
			tt.want.Code, tt.want.CreatedBy, tt.want.CreatedAt = code, "admin", f.clock.Now()
			if diff := cmp.Diff(tt.want, *got); diff != "" {
				t.Errorf("row (-want +got)\n%s", diff)
			}
			body := fmt.Sprintf(`{"handle":"user%d.test","email":"user%[1]d@example.com","password":"12345678","inviteCode":"%s"}`, len(tt.name), code)
			if tt.want.Uses > 0 {
				f.accepted(f.post("createAccount", body))
			} else {
				f.refused(f.post("createAccount", body), 400, "InvalidInviteCode", "Provided invite code not available")
			}
			f.refused(f.post("createAccount", strings.Replace(body, code, strings.ToUpper(code), 1)),
				400, "InvalidInviteCode", "Provided invite code not available")
		})
	}
}

func TestCreateInviteCodeRefuses(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	const body = `{"useCount":1,"codeCount":1}`
	for _, method := range []string{"createInviteCode", "createInviteCodes"} {
		for name, h := range map[string][]string{
			"nothing": nil, "wrong password": {"Authorization", "Basic YWRtaW46YWRtaW4="}, "malformed": {"Authorization", "Basic"},
			"access": bearer(u.access), "refresh": bearer(u.refresh),
		} {
			t.Run(method+"/"+name, func(t *testing.T) {
				f.refused(f.post(method, body, h...), 401, "AuthenticationRequired", "Authentication Required")
			})
		}
		for _, tt := range []struct{ body, message string }{
			{`{}`, `Missing required key "useCount" at $`},
			{`{"useCount":"1"}`, `Expected integer value type (got "1") at $.useCount`},
			{`{"useCount":1.5}`, `Expected integer value type (got 1.5) at $.useCount`},
			{`{"useCount":9007199254740992}`, `Expected integer value type (got 9007199254740992) at $.useCount`},
		} {
			f.refused(f.post(method, tt.body, asAdmin...), 400, "InvalidRequest", tt.message)
		}
	}
	f.refused(f.post("createInviteCode", `{"useCount":1,"forAccount":"admin"}`, asAdmin...),
		400, "InvalidRequest", `Invalid DID (got "admin") at $.forAccount`)
	f.refused(f.post("createInviteCodes", `{"useCount":1,"forAccounts":["did:web:a.test","alice"]}`, asAdmin...),
		400, "InvalidRequest", `Invalid DID (got "alice") at $.forAccounts[1]`)
}

// madeCodes are the codes of an answer of createInviteCodes: "owner=number", in order.
func madeCodes(t *testing.T, f *fixture, a answer) string {
	t.Helper()
	var out struct {
		Codes []struct {
			Account string
			Codes   []string
		}
	}
	if err := json.Unmarshal([]byte(f.accepted(a).body), &out); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(a.body, "null") {
		t.Errorf("answer %s", a.body)
	}
	var all []string
	for _, of := range out.Codes {
		for _, code := range of.Codes {
			row, err := f.db.Invite(t.Context(), code)
			if err != nil || row.ForAccount != of.Account || row.Uses != 3 || row.CreatedBy != "admin" || !inviteForm.MatchString(code) {
				t.Errorf("code %s: %+v, %v", code, row, err)
			}
		}
		all = append(all, fmt.Sprintf("%s=%d", of.Account, len(of.Codes)))
	}
	return strings.Join(all, " ")
}

func TestCreateInviteCodes(t *testing.T) {
	f := newFixture(t)
	for _, tt := range []struct{ name, body, want string }{
		{"for nobody", `{"codeCount":2,"useCount":3}`, "admin=2"},
		{"one, unless told otherwise", `{"useCount":3}`, "admin=1"},
		{"several accounts, in their order", `{"codeCount":2,"useCount":3,"forAccounts":["did:web:b.test","did:web:a.test"]}`, "did:web:b.test=2 did:web:a.test=2"},
		{"the same twice", `{"useCount":3,"forAccounts":["did:web:a.test","did:web:a.test"]}`, "did:web:a.test=1 did:web:a.test=1"},
		{"no accounts", `{"useCount":3,"forAccounts":[]}`, ""},
		{"none", `{"codeCount":0,"useCount":3}`, "admin=0"},
		{"fewer than none", `{"codeCount":-9007199254740991,"useCount":3,"forAccounts":["did:web:a.test"]}`, "did:web:a.test=0"},
		{"more than go into a statement", `{"codeCount":501,"useCount":3}`, "admin=501"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := madeCodes(t, f, f.post("createInviteCodes", tt.body, asAdmin...)); got != tt.want {
				t.Errorf("made %s, want %s", got, tt.want)
			}
		})
	}
}

// A digit too many must not fill the database: one request makes up to 10,000
// codes, all or none.
func TestCreateInviteCodesBound(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, func(o *options) { o.engine = d })
		many := `"did:web:a.test"` + strings.Repeat(`,"did:web:a.test"`, 9)
		for _, body := range []string{
			`{"useCount":1,"codeCount":10001}`,
			`{"useCount":1,"codeCount":9007199254740991}`,
			`{"useCount":1,"codeCount":1001,"forAccounts":[` + many + `]}`,
			`{"useCount":1,"codeCount":9007199254740991,"forAccounts":[` + many + `]}`,
		} {
			f.refused(f.post("createInviteCodes", body, asAdmin...), 400, "InvalidRequest", "Too many invite codes. Maximum is 10000 in one request.")
		}
		for owner, want := range map[string]int{"admin": 0, "did:web:a.test": 0} {
			if codes, err := f.db.InvitesFor(t.Context(), owner); err != nil || len(codes) != want {
				t.Errorf("%s has %d codes, %v", owner, len(codes), err)
			}
		}
		f.accepted(f.post("createInviteCodes", `{"useCount":1,"codeCount":1000,"forAccounts":[`+many+`]}`, asAdmin...))
		if codes, err := f.db.InvitesFor(t.Context(), "did:web:a.test"); err != nil || len(codes) != 10000 {
			t.Errorf("%d codes, %v", len(codes), err)
		}
	})
}

// A code with n uses admits exactly n of any number of racing sign-ups.
func TestInviteAdmitsExactlyItsUses(t *testing.T) {
	const racers, uses = 12, 5
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, func(o *options) { o.engine, o.config.InviteRequired = d, true })
		code := f.accepted(f.post("createInviteCode", fmt.Sprintf(`{"useCount":%d}`, uses), asAdmin...)).text(t, "code")
		answers := make([]answer, racers)
		var all sync.WaitGroup
		for i := range racers {
			all.Go(func() {
				body := fmt.Sprintf(`{"handle":"user%d.test","email":"user%[1]d@example.com","password":"12345678","inviteCode":"%s"}`, i, code)
				var err error
				if answers[i], err = f.try(http.MethodPost, "createAccount", body); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		admitted := map[string]bool{}
		for i, a := range answers {
			if a.status == 200 {
				admitted[a.text(t, "did")] = true
				continue
			}
			f.refused(a, 400, "InvalidInviteCode", "Provided invite code not available")
			// Nothing is taken by who was refused.
			f.refused(f.post("createAccount", fmt.Sprintf(`{"handle":"user%d.test","email":"user%[1]d@example.com","password":"12345678","inviteCode":"nope"}`, i)),
				400, "InvalidInviteCode", "Provided invite code not available")
		}
		row, err := f.db.Invite(t.Context(), code)
		if err != nil {
			t.Fatal(err)
		}
		if len(admitted) != uses || row.Spent != uses || len(row.Used) != uses {
			t.Errorf("%d admitted, %d spent, %d uses, want %d", len(admitted), row.Spent, len(row.Used), uses)
		}
		for _, use := range row.Used {
			if !admitted[use.By.String()] {
				t.Errorf("%s used the code and has no account", use.By)
			}
		}
	})
}

// The codes of an owner who is taken down admit nobody until that is lifted;
// those of any other owner do.
func TestInviteOfInactiveOwners(t *testing.T) {
	f := newFixture(t)
	owner := f.signUp("heidi")
	gone := f.signUp("carol")
	code := f.accepted(f.post("createInviteCode", `{"useCount":9,"forAccount":"`+owner.did.String()+`"}`, asAdmin...)).text(t, "code")
	left := f.accepted(f.post("createInviteCode", `{"useCount":9,"forAccount":"`+gone.did.String()+`"}`, asAdmin...)).text(t, "code")
	f.remove(gone.did)
	n := 0
	signUp := func(code string) answer {
		n++
		return f.post("createAccount", fmt.Sprintf(`{"handle":"user%d.test","email":"user%[1]d@example.com","password":"12345678","inviteCode":"%s"}`, n, code))
	}
	f.accepted(signUp(code))
	f.accepted(signUp(left))
	f.setAccount(owner.did, func(a *db.Account) { a.DeactivatedAt = new(f.clock.Now()) })
	f.accepted(signUp(code))
	f.takeDown(owner.did)
	f.refused(signUp(code), 400, "InvalidInviteCode", "Provided invite code not available")
	f.setAccount(owner.did, func(a *db.Account) { a.TakedownRef, a.DeactivatedAt = nil, nil })
	f.accepted(signUp(code))
	if err := f.db.Write(t.Context(), func(tx *db.Tx) error { return tx.DisableInvites(t.Context(), []string{code}, nil) }); err != nil {
		t.Fatal(err)
	}
	f.refused(signUp(code), 400, "InvalidInviteCode", "Provided invite code not available")
}

// shownCode is an item of getAccountInviteCodes.
type shownCode struct {
	Code, ForAccount, CreatedBy, CreatedAt string
	Available                              int
	Disabled                               bool
	Uses                                   []struct{ UsedBy, UsedAt string }
}

// invitesOf calls getAccountInviteCodes.
func (f *fixture) invitesOf(u user, query string) []shownCode {
	f.Helper()
	return f.shownCodes(f.get("getAccountInviteCodes"+query, bearer(u.access)...))
}

func (f *fixture) shownCodes(a answer) []shownCode {
	f.Helper()
	var out struct{ Codes []shownCode }
	if err := json.Unmarshal([]byte(f.accepted(a).body), &out); err != nil {
		f.Fatal(err)
	}
	return out.Codes
}

// earning is a server where accounts earn a code a day.
func earning(o *options) {
	o.config.InviteRequired = true
	o.config.InviteEarning = invite.Earning{Interval: 24 * time.Hour}
}

// earner signs up where codes are asked for.
func (f *fixture) earner(name string) user {
	f.Helper()
	f.invite("for "+name, 1, "admin")
	a := f.accepted(f.post("createAccount", fmt.Sprintf(
		`{"handle":"%s.test","email":"%[1]s@example.com","password":"%s","inviteCode":"for %[1]s"}`, name, goodPassword)))
	return user{did: syntax.DID(a.text(f, "did")), handle: name + ".test", access: a.text(f, "accessJwt"), refresh: a.text(f, "refreshJwt")}
}

// renew gives u a token that is good now.
func (f *fixture) renew(u user) user { f.Helper(); return f.signIn(u, goodPassword) }

func TestGetAccountInviteCodes(t *testing.T) {
	f := newFixture(t, earning)
	u := f.earner("alice")
	a := f.accepted(f.get("getAccountInviteCodes", bearer(u.access)...))
	if strings.TrimSpace(a.body) != `{"codes":[]}` {
		t.Errorf("answer %s", a.body)
	}
	// A gift of the operator's, used twice.
	f.invite("gift", 3, u.did.String())
	f.clock.advance(time.Minute)
	var users []string
	for i := range 2 {
		f.clock.advance(time.Second)
		a := f.accepted(f.post("createAccount", fmt.Sprintf(
			`{"handle":"guest%d.test","email":"guest%[1]d@example.com","password":"12345678","inviteCode":"gift"}`, i)))
		users = append(users, a.text(t, "did"))
	}
	f.clock.advance(3 * 24 * time.Hour)
	u = f.renew(u)
	if got := f.invitesOf(u, "?createAvailable=false"); len(got) != 1 {
		t.Errorf("codes %+v", got)
	}
	got := f.invitesOf(u, "")
	if len(got) != 4 {
		t.Fatalf("%d codes, want the gift and three earned", len(got))
	}
	gift := shownCode{
		Code: "gift", ForAccount: u.did.String(), CreatedBy: "admin", CreatedAt: "2026-03-01T12:00:00.000Z", Available: 3,
		Uses: []struct{ UsedBy, UsedAt string }{
			{users[1], "2026-03-01T12:01:02.000Z"}, {users[0], "2026-03-01T12:01:01.000Z"}, // the newest first
		},
	}
	if diff := cmp.Diff(gift, got[0]); diff != "" {
		t.Errorf("gift (-want +got)\n%s", diff)
	}
	for _, c := range got[1:] {
		if !inviteForm.MatchString(c.Code) || c.Available != 1 || c.CreatedBy != u.did.String() || c.ForAccount != u.did.String() ||
			c.CreatedAt != "2026-03-04T12:01:02.000Z" || c.Disabled || c.Uses == nil || len(c.Uses) != 0 {
			t.Errorf("earned code %+v", c)
		}
	}
	// They are kept, and they work.
	if again := f.invitesOf(u, ""); len(again) != 4 || again[0].Code != "gift" {
		t.Errorf("asked again: %+v", again)
	}
	f.accepted(f.post("createAccount", `{"handle":"guest9.test","email":"g9@example.com","password":"12345678","inviteCode":"`+got[1].Code+`"}`))
	if n := len(f.invitesOf(u, "?includeUsed=false")); n != 3 {
		t.Errorf("%d codes are not used up, want 3", n)
	}
	if n := len(f.invitesOf(u, "?includeUsed=true")); n != 4 {
		t.Errorf("%d codes with those used up, want 4", n)
	}
	// Disabled ones are not shown.
	err := f.db.Write(t.Context(), func(tx *db.Tx) error { return tx.DisableInvites(t.Context(), []string{"gift"}, nil) })
	if err != nil {
		t.Fatal(err)
	}
	if n := len(f.invitesOf(u, "")); n != 3 {
		t.Errorf("%d codes that are not disabled, want 3", n)
	}
}

func TestGetAccountInviteCodesRefuses(t *testing.T) {
	f := newFixture(t, earning)
	u := f.earner("alice")
	app := f.signIn(u, f.appPassword(u, "app", true))
	f.refused(f.get("getAccountInviteCodes"), 401, "AuthMissing", "Authentication Required")
	f.refused(f.get("getAccountInviteCodes", bearer(app.access)...), 400, "InvalidToken", "Bad token scope")
	f.refused(f.get("getAccountInviteCodes?includeUsed=1", bearer(u.access)...),
		400, "InvalidRequest", `Invalid com.atproto.server.getAccountInviteCodes params: Expected boolean value type (got "1")`)
	f.setAccount(u.did, func(a *db.Account) { a.DeactivatedAt = new(f.clock.Now()) })
	f.refused(f.get("getAccountInviteCodes", bearer(u.access)...), 400, "NotFound", "Account not found")
	f.takeDown(u.did)
	f.refused(f.get("getAccountInviteCodes", bearer(u.access)...), 401, "AccountTakedown", "Account has been taken down")
	f.refused(f.get("getAccountInviteCodes", bearer(f.appeal(u))...), 400, "InvalidToken", "Bad token scope")
	f.remove(u.did)
	f.refused(f.get("getAccountInviteCodes", bearer(u.access)...), 403, "AccountNotFound", "Account not found")
}

// What the operator configured decides whether codes are earned, and how many.
func TestEarnedInvites(t *testing.T) {
	const day = 24 * time.Hour
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name   string
		change func(*options)
		after  time.Duration
		want   int
	}{
		{"none before the interval is over", earning, day - time.Millisecond, 0},
		{"one for each", earning, 2 * day, 2},
		{"up to five unused", earning, 100 * day, 5},
		{"none without an interval", func(o *options) { o.config.InviteRequired = true }, 100 * day, 0},
		{"none where none are required", func(o *options) { earning(o); o.config.InviteRequired = false }, 100 * day, 0},
		{"none for the time before the epoch", func(o *options) {
			earning(o)
			o.config.InviteEarning.Epoch = start.Add(7 * day)
		}, 9 * day, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, tt.change)
			u := f.earner("alice")
			f.clock.advance(tt.after)
			if got := f.invitesOf(f.renew(u), ""); len(got) != tt.want {
				t.Errorf("%d codes, want %d", len(got), tt.want)
			}
		})
	}
}

// Codes that were made together stand in the answer that made them as in later ones.
func TestEarnedInvitesKeepTheirOrder(t *testing.T) {
	f := newFixture(t, earning)
	u := f.earner("alice")
	f.clock.advance(100 * 24 * time.Hour)
	u = f.renew(u)
	made, listed := f.invitesOf(u, ""), f.invitesOf(u, "")
	if len(made) != 5 || len(listed) != 5 {
		t.Fatalf("%d codes made, %d listed", len(made), len(listed))
	}
	for i := range made {
		if made[i].Code != listed[i].Code {
			t.Errorf("code %d: %s, then %s", i, made[i].Code, listed[i].Code)
		}
	}
}

// The codes of an account that may not invite are made disabled: they use up what
// it has earned.
func TestEarnedInvitesOfWhoMayNotInvite(t *testing.T) {
	f := newFixture(t, earning)
	u := f.earner("alice")
	f.setAccount(u.did, func(a *db.Account) { a.InvitesDisabled = true })
	f.clock.advance(2 * 24 * time.Hour)
	u = f.renew(u)
	if got := f.invitesOf(u, ""); len(got) != 0 {
		t.Errorf("codes %+v", got)
	}
	rows, err := f.db.InvitesFor(t.Context(), u.did.String())
	if err != nil || len(rows) != 2 || !rows[0].Disabled || !rows[1].Disabled {
		t.Errorf("rows %+v, %v", rows, err)
	}
	f.setAccount(u.did, func(a *db.Account) { a.InvitesDisabled = false })
	if got := f.invitesOf(u, ""); len(got) != 0 {
		t.Errorf("codes %+v", got)
	}
}

// A deleted invitee still counts as a use, and is not named.
func TestInviteUsedByADeletedAccount(t *testing.T) {
	f := newFixture(t, earning)
	u := f.earner("alice")
	f.invite("gift", 1, u.did.String())
	guest := f.accepted(f.post("createAccount", `{"handle":"dave.test","email":"dave@example.com","password":"12345678","inviteCode":"gift"}`))
	f.remove(syntax.DID(guest.text(t, "did")))
	if got := f.invitesOf(u, ""); len(got) != 1 || len(got[0].Uses) != 0 {
		t.Errorf("codes %+v", got)
	}
	if got := f.invitesOf(u, "?includeUsed=false"); len(got) != 0 {
		t.Errorf("codes %+v", got)
	}
}

// DESIGN 22: of requests that make earned codes at the same time, the one that
// comes too late is told so, and leaves nothing behind.
func TestDesign22EarnedInvitesRace(t *testing.T) {
	t.Run("one overtakes another", func(t *testing.T) {
		dbtest.Engines(t, func(t *testing.T, d *db.DB) {
			f := newFixture(t, earning, func(o *options) { o.engine = d })
			u := f.earner("alice")
			f.clock.advance(3 * 24 * time.Hour)
			u = f.renew(u)
			// Between reading the codes and writing new ones, texts are made for them.
			var first answer
			f.service.Rand = &interruption{do: func() {
				var err error
				if first, err = f.try(http.MethodGet, "getAccountInviteCodes", "", bearer(u.access)...); err != nil {
					t.Error(err)
				}
			}}
			second := f.get("getAccountInviteCodes", bearer(u.access)...)
			f.refused(second, 400, "DuplicateCreate", "attempted to create additional codes in another request")
			if got := f.shownCodes(first); len(got) != 3 {
				t.Errorf("codes %+v", got)
			}
			if got := f.invitesOf(u, ""); len(got) != 3 {
				t.Errorf("codes afterwards %+v", got)
			}
		})
	})
	t.Run("many at once", func(t *testing.T) {
		dbtest.Engines(t, func(t *testing.T, d *db.DB) {
			f := newFixture(t, earning, func(o *options) { o.engine = d })
			u := f.earner("alice")
			f.clock.advance(3 * 24 * time.Hour)
			u = f.renew(u)
			answers := make([]answer, 12)
			var all sync.WaitGroup
			for i := range answers {
				all.Go(func() {
					var err error
					if answers[i], err = f.try(http.MethodGet, "getAccountInviteCodes", "", bearer(u.access)...); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			won := 0
			for _, a := range answers {
				if a.status != 200 {
					f.refused(a, 400, "DuplicateCreate", "attempted to create additional codes in another request")
				} else if won++; len(f.shownCodes(a)) != 3 {
					t.Errorf("answer %s", a.body)
				}
			}
			rows, err := f.db.InvitesFor(t.Context(), u.did.String())
			if err != nil || len(rows) != 3 || won == 0 {
				t.Errorf("%d codes, %d answers, %v", len(rows), won, err)
			}
		})
	})
}

// An interruption is a source of randomness that does something when it is first
// read.
type interruption struct {
	mu   sync.Mutex
	done bool
	do   func()
}

func (i *interruption) Read(b []byte) (int, error) {
	i.mu.Lock()
	first := !i.done
	i.done = true
	i.mu.Unlock()
	if first {
		i.do()
	}
	return io.ReadFull(rand.Reader, b)
}
