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
	"portico/impl/account/invite"
	"portico/impl/servertest"
)

var inviteForm = regexp.MustCompile(`^pds-test-[a-z2-7]{5}-[a-z2-7]{5}$`)

func TestCreateInviteCode(t *testing.T) {
	f := newFixture(t, func(o *options) { o.InviteRequired = true })
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
			a := f.Accepted(f.Post("createInviteCode", tt.body, servertest.Admin))
			code := a.Text(t, "code")
			if !inviteForm.MatchString(code) || len(a.Fields(t)) != 1 {
				t.Errorf("answer %s", a.Body)
			}
			got, err := f.DB.Invite(t.Context(), code)
			if err != nil {
				t.Fatal(err)
			}
			tt.want.Code, tt.want.CreatedBy, tt.want.CreatedAt = code, "admin", f.Now()
			if diff := cmp.Diff(tt.want, *got); diff != "" {
				t.Errorf("row (-want +got)\n%s", diff)
			}
			body := fmt.Sprintf(`{"handle":"user%d.test","email":"user%[1]d@example.com","password":"12345678","inviteCode":"%s"}`, len(tt.name), code)
			if tt.want.Uses > 0 {
				f.Accepted(f.Post("createAccount", body))
			} else {
				f.Refused(f.Post("createAccount", body), 400, "InvalidInviteCode", "Provided invite code not available")
			}
			f.Refused(f.Post("createAccount", strings.Replace(body, code, strings.ToUpper(code), 1)),
				400, "InvalidInviteCode", "Provided invite code not available")
		})
	}
}

func TestCreateInviteCodeRefuses(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	const body = `{"useCount":1,"codeCount":1}`
	for _, method := range []string{"createInviteCode", "createInviteCodes"} {
		for name, h := range map[string]string{
			"nothing": "", "wrong password": "Basic YWRtaW46YWRtaW4=", "malformed": "Basic",
			"access": u.Access, "refresh": u.Refresh,
		} {
			t.Run(method+"/"+name, func(t *testing.T) {
				f.Refused(f.Post(method, body, h), 401, "AuthenticationRequired", "Authentication Required")
			})
		}
		for _, tt := range []struct{ body, message string }{
			{`{}`, `Missing required key "useCount" at $`},
			{`{"useCount":"1"}`, `Expected integer value type (got "1") at $.useCount`},
			{`{"useCount":1.5}`, `Expected integer value type (got 1.5) at $.useCount`},
			{`{"useCount":9007199254740992}`, `Expected integer value type (got 9007199254740992) at $.useCount`},
		} {
			f.Refused(f.Post(method, tt.body, servertest.Admin), 400, "InvalidRequest", tt.message)
		}
	}
	f.Refused(f.Post("createInviteCode", `{"useCount":1,"forAccount":"admin"}`, servertest.Admin),
		400, "InvalidRequest", `Invalid DID (got "admin") at $.forAccount`)
	f.Refused(f.Post("createInviteCodes", `{"useCount":1,"forAccounts":["did:web:a.test","alice"]}`, servertest.Admin),
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
	if err := json.Unmarshal([]byte(f.Accepted(a).Body), &out); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(a.Body, "null") {
		t.Errorf("answer %s", a.Body)
	}
	var all []string
	for _, of := range out.Codes {
		for _, code := range of.Codes {
			row, err := f.DB.Invite(t.Context(), code)
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
			if got := madeCodes(t, f, f.Post("createInviteCodes", tt.body, servertest.Admin)); got != tt.want {
				t.Errorf("made %s, want %s", got, tt.want)
			}
		})
	}
}

// DESIGN, small ones: createInviteCodes makes at most 10,000, all or none. A digit too
// many must not fill the database.
func TestDesignSmallOnesCreateInviteCodes(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		many := `"did:web:a.test"` + strings.Repeat(`,"did:web:a.test"`, 9)
		for _, body := range []string{
			`{"useCount":1,"codeCount":10001}`,
			`{"useCount":1,"codeCount":9007199254740991}`,
			`{"useCount":1,"codeCount":1001,"forAccounts":[` + many + `]}`,
			`{"useCount":1,"codeCount":9007199254740991,"forAccounts":[` + many + `]}`,
		} {
			f.Refused(f.Post("createInviteCodes", body, servertest.Admin), 400, "InvalidRequest", "Too many invite codes. Maximum is 10000 in one request.")
		}
		for owner, want := range map[string]int{"admin": 0, "did:web:a.test": 0} {
			if codes, err := f.DB.InvitesFor(t.Context(), owner); err != nil || len(codes) != want {
				t.Errorf("%s has %d codes, %v", owner, len(codes), err)
			}
		}
		f.Accepted(f.Post("createInviteCodes", `{"useCount":1,"codeCount":1000,"forAccounts":[`+many+`]}`, servertest.Admin))
		if codes, err := f.DB.InvitesFor(t.Context(), "did:web:a.test"); err != nil || len(codes) != 10000 {
			t.Errorf("%d codes, %v", len(codes), err)
		}
	})
}

// A code with n uses admits exactly n of any number of racing sign-ups.
func TestInviteAdmitsExactlyItsUses(t *testing.T) {
	const racers, uses = 12, 5
	engines(t, func(t *testing.T, f *fixture) {
		code := f.Accepted(f.Post("createInviteCode", fmt.Sprintf(`{"useCount":%d}`, uses), servertest.Admin)).Text(t, "code")
		answers := make([]answer, racers)
		var all sync.WaitGroup
		for i := range racers {
			all.Go(func() {
				body := fmt.Sprintf(`{"handle":"user%d.test","email":"user%[1]d@example.com","password":"12345678","inviteCode":"%s"}`, i, code)
				var err error
				if answers[i], err = f.Try(http.MethodPost, "createAccount", body); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		admitted := map[string]bool{}
		for i, a := range answers {
			if a.Status == 200 {
				admitted[a.Text(t, "did")] = true
				continue
			}
			f.Refused(a, 400, "InvalidInviteCode", "Provided invite code not available")
			// Nothing is taken by who was refused.
			f.Refused(f.Post("createAccount", fmt.Sprintf(`{"handle":"user%d.test","email":"user%[1]d@example.com","password":"12345678","inviteCode":"nope"}`, i)),
				400, "InvalidInviteCode", "Provided invite code not available")
		}
		row, err := f.DB.Invite(t.Context(), code)
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
	}, func(o *options) { o.InviteRequired = true })
}

// The codes of an owner who is taken down admit nobody until that is lifted;
// those of any other owner do.
func TestInviteOfInactiveOwners(t *testing.T) {
	f := newFixture(t)
	owner := f.SignUp("heidi")
	gone := f.SignUp("carol")
	code := f.Accepted(f.Post("createInviteCode", `{"useCount":9,"forAccount":"`+owner.DID.String()+`"}`, servertest.Admin)).Text(t, "code")
	left := f.Accepted(f.Post("createInviteCode", `{"useCount":9,"forAccount":"`+gone.DID.String()+`"}`, servertest.Admin)).Text(t, "code")
	f.Remove(gone.DID)
	n := 0
	signUp := func(code string) answer {
		n++
		return f.Post("createAccount", fmt.Sprintf(`{"handle":"user%d.test","email":"user%[1]d@example.com","password":"12345678","inviteCode":"%s"}`, n, code))
	}
	f.Accepted(signUp(code))
	f.Accepted(signUp(left))
	f.SetAccount(owner.DID, func(a *db.Account) { a.DeactivatedAt = new(f.Now()) })
	f.Accepted(signUp(code))
	f.TakeDown(owner.DID)
	f.Refused(signUp(code), 400, "InvalidInviteCode", "Provided invite code not available")
	f.SetAccount(owner.DID, func(a *db.Account) { a.TakedownRef, a.DeactivatedAt = nil, nil })
	f.Accepted(signUp(code))
	if err := f.DB.Write(t.Context(), func(tx *db.Tx) error { return tx.DisableInvites(t.Context(), []string{code}, nil) }); err != nil {
		t.Fatal(err)
	}
	f.Refused(signUp(code), 400, "InvalidInviteCode", "Provided invite code not available")
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
	return f.shownCodes(f.Get("getAccountInviteCodes"+query, u.Access))
}

func (f *fixture) shownCodes(a answer) []shownCode {
	f.Helper()
	var out struct{ Codes []shownCode }
	if err := json.Unmarshal([]byte(f.Accepted(a).Body), &out); err != nil {
		f.Fatal(err)
	}
	return out.Codes
}

// earning is a server where accounts earn a code a day.
func earning(o *options) {
	o.InviteRequired = true
	o.Config.InviteEarning = invite.Earning{Interval: 24 * time.Hour}
}

// earner signs up where codes are asked for.
func (f *fixture) earner(name string) user {
	f.Helper()
	f.Invite("for "+name, 1, "admin")
	return f.SignUpWith(name, "for "+name)
}

// renew gives u a token that is good now.
func (f *fixture) renew(u user) user { f.Helper(); return f.SignIn(u, goodPassword) }

func TestGetAccountInviteCodes(t *testing.T) {
	f := newFixture(t, earning)
	u := f.earner("alice")
	a := f.Accepted(f.Get("getAccountInviteCodes", u.Access))
	if strings.TrimSpace(a.Body) != `{"codes":[]}` {
		t.Errorf("answer %s", a.Body)
	}
	// A gift of the operator's, used twice.
	f.Invite("gift", 3, u.DID.String())
	f.Advance(time.Minute)
	var users []string
	for i := range 2 {
		f.Advance(time.Second)
		a := f.Accepted(f.Post("createAccount", fmt.Sprintf(
			`{"handle":"guest%d.test","email":"guest%[1]d@example.com","password":"12345678","inviteCode":"gift"}`, i)))
		users = append(users, a.Text(t, "did"))
	}
	f.Advance(3 * 24 * time.Hour)
	u = f.renew(u)
	if got := f.invitesOf(u, "?createAvailable=false"); len(got) != 1 {
		t.Errorf("codes %+v", got)
	}
	got := f.invitesOf(u, "")
	if len(got) != 4 {
		t.Fatalf("%d codes, want the gift and three earned", len(got))
	}
	gift := shownCode{
		Code: "gift", ForAccount: u.DID.String(), CreatedBy: "admin", CreatedAt: "2026-03-01T12:00:00.000Z", Available: 3,
		Uses: []struct{ UsedBy, UsedAt string }{
			{users[1], "2026-03-01T12:01:02.000Z"}, {users[0], "2026-03-01T12:01:01.000Z"}, // the newest first
		},
	}
	if diff := cmp.Diff(gift, got[0]); diff != "" {
		t.Errorf("gift (-want +got)\n%s", diff)
	}
	for _, c := range got[1:] {
		if !inviteForm.MatchString(c.Code) || c.Available != 1 || c.CreatedBy != u.DID.String() || c.ForAccount != u.DID.String() ||
			c.CreatedAt != "2026-03-04T12:01:02.000Z" || c.Disabled || c.Uses == nil || len(c.Uses) != 0 {
			t.Errorf("earned code %+v", c)
		}
	}
	// They are kept, and they work.
	if again := f.invitesOf(u, ""); len(again) != 4 || again[0].Code != "gift" {
		t.Errorf("asked again: %+v", again)
	}
	f.Accepted(f.Post("createAccount", `{"handle":"guest9.test","email":"g9@example.com","password":"12345678","inviteCode":"`+got[1].Code+`"}`))
	if n := len(f.invitesOf(u, "?includeUsed=false")); n != 3 {
		t.Errorf("%d codes are not used up, want 3", n)
	}
	if n := len(f.invitesOf(u, "?includeUsed=true")); n != 4 {
		t.Errorf("%d codes with those used up, want 4", n)
	}
	// Disabled ones are not shown.
	err := f.DB.Write(t.Context(), func(tx *db.Tx) error { return tx.DisableInvites(t.Context(), []string{"gift"}, nil) })
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
	app := f.SignIn(u, f.appPassword(u, "app", true))
	f.Refused(f.Get("getAccountInviteCodes"), 401, "AuthMissing", "Authentication Required")
	f.Refused(f.Get("getAccountInviteCodes", app.Access), 400, "InvalidToken", "Bad token scope")
	f.Refused(f.Get("getAccountInviteCodes?includeUsed=1", u.Access),
		400, "InvalidRequest", `Invalid com.atproto.server.getAccountInviteCodes params: Expected boolean value type (got "1")`)
	f.SetAccount(u.DID, func(a *db.Account) { a.DeactivatedAt = new(f.Now()) })
	f.Refused(f.Get("getAccountInviteCodes", u.Access), 400, "NotFound", "Account not found")
	f.TakeDown(u.DID)
	f.Refused(f.Get("getAccountInviteCodes", u.Access), 401, "AccountTakedown", "Account has been taken down")
	f.Refused(f.Get("getAccountInviteCodes", f.appeal(u)), 400, "InvalidToken", "Bad token scope")
	f.Remove(u.DID)
	f.Refused(f.Get("getAccountInviteCodes", u.Access), 403, "AccountNotFound", "Account not found")
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
		{"none without an interval", func(o *options) { o.InviteRequired = true }, 100 * day, 0},
		{"none where none are required", func(o *options) { earning(o); o.InviteRequired = false }, 100 * day, 0},
		{"none for the time before the epoch", func(o *options) {
			earning(o)
			o.Config.InviteEarning.Epoch = start.Add(7 * day)
		}, 9 * day, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, tt.change)
			u := f.earner("alice")
			f.Advance(tt.after)
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
	f.Advance(100 * 24 * time.Hour)
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
	f.SetAccount(u.DID, func(a *db.Account) { a.InvitesDisabled = true })
	f.Advance(2 * 24 * time.Hour)
	u = f.renew(u)
	if got := f.invitesOf(u, ""); len(got) != 0 {
		t.Errorf("codes %+v", got)
	}
	rows, err := f.DB.InvitesFor(t.Context(), u.DID.String())
	if err != nil || len(rows) != 2 || !rows[0].Disabled || !rows[1].Disabled {
		t.Errorf("rows %+v, %v", rows, err)
	}
	f.SetAccount(u.DID, func(a *db.Account) { a.InvitesDisabled = false })
	if got := f.invitesOf(u, ""); len(got) != 0 {
		t.Errorf("codes %+v", got)
	}
}

// A deleted invitee still counts as a use, and is not named.
func TestInviteUsedByADeletedAccount(t *testing.T) {
	f := newFixture(t, earning)
	u := f.earner("alice")
	f.Invite("gift", 1, u.DID.String())
	guest := f.Accepted(f.Post("createAccount", `{"handle":"dave.test","email":"dave@example.com","password":"12345678","inviteCode":"gift"}`))
	f.Remove(syntax.DID(guest.Text(t, "did")))
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
		engines(t, func(t *testing.T, f *fixture) {
			u := f.earner("alice")
			f.Advance(3 * 24 * time.Hour)
			u = f.renew(u)
			// Between reading the codes and writing new ones, texts are made for them.
			var first answer
			f.service.Rand = &interruption{do: func() {
				var err error
				if first, err = f.Try(http.MethodGet, "getAccountInviteCodes", "", u.Access); err != nil {
					t.Error(err)
				}
			}}
			second := f.Get("getAccountInviteCodes", u.Access)
			f.Refused(second, 400, "DuplicateCreate", "attempted to create additional codes in another request")
			if got := f.shownCodes(first); len(got) != 3 {
				t.Errorf("codes %+v", got)
			}
			if got := f.invitesOf(u, ""); len(got) != 3 {
				t.Errorf("codes afterwards %+v", got)
			}
		}, earning)
	})
	t.Run("many at once", func(t *testing.T) {
		engines(t, func(t *testing.T, f *fixture) {
			u := f.earner("alice")
			f.Advance(3 * 24 * time.Hour)
			u = f.renew(u)
			answers := make([]answer, 12)
			var all sync.WaitGroup
			for i := range answers {
				all.Go(func() {
					var err error
					if answers[i], err = f.Try(http.MethodGet, "getAccountInviteCodes", "", u.Access); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			won := 0
			for _, a := range answers {
				if a.Status != 200 {
					f.Refused(a, 400, "DuplicateCreate", "attempted to create additional codes in another request")
				} else if won++; len(f.shownCodes(a)) != 3 {
					t.Errorf("answer %s", a.Body)
				}
			}
			rows, err := f.DB.InvitesFor(t.Context(), u.DID.String())
			if err != nil || len(rows) != 3 || won == 0 {
				t.Errorf("%d codes, %d answers, %v", len(rows), won, err)
			}
		}, earning)
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
