package temp_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/identity/handle"
	"portico/impl/servertest"
)

const (
	available   = `{"handle":%q,"result":{"$type":"com.atproto.temp.checkHandleAvailability#resultAvailable"}}`
	unavailable = "com.atproto.temp.checkHandleAvailability#resultUnavailable"
	unsupported = "Not a supported handle domain"
)

// asked is what checkHandleAvailability answers to parameters in pairs.
func asked(s *servertest.Server, h string, more ...string) servertest.Answer {
	s.Helper()
	q := url.Values{"handle": {h}}
	var header string
	for i := 0; i < len(more); i += 2 {
		if more[i] == "X-Forwarded-For" {
			header = more[i] + ": " + more[i+1]
		} else {
			q.Set(more[i], more[i+1])
		}
	}
	return s.Get("checkHandleAvailability?"+q.Encode(), header)
}

// isAvailable checks the whole answer.
func isAvailable(s *servertest.Server, h string) {
	s.Helper()
	if a := s.Accepted(asked(s, h)); a.Body != fmt.Sprintf(available, h) {
		s.Errorf("%s: %s", h, a.Body)
	}
}

// suggestions checks that h is unavailable, and returns "METHOD HANDLE" of each suggestion.
func suggestions(s *servertest.Server, h string, more ...string) []string {
	s.Helper()
	var body struct {
		Handle string
		Result struct {
			Type        string                            `json:"$type"`
			Suggestions []struct{ Handle, Method string } `json:"suggestions"`
		}
	}
	s.Accepted(asked(s, h, more...)).Decode(s, &body)
	if body.Handle != h || body.Result.Type != unavailable || body.Result.Suggestions == nil || len(body.Result.Suggestions) > 5 {
		s.Errorf("%s: %+v", h, body)
	}
	var all []string
	for _, o := range body.Result.Suggestions {
		all = append(all, o.Method+" "+o.Handle)
	}
	return all
}

// createAccount signs up for a handle, with an invite code or "", and returns the answer.
func createAccount(s *servertest.Server, h, code string) servertest.Answer {
	s.Helper()
	in := map[string]string{"handle": h, "email": strings.ReplaceAll(h, ".", "-") + "@example.org", "password": servertest.GoodPassword}
	if code != "" {
		in["inviteCode"] = code
	}
	return s.Post("com.atproto.server.createAccount", string(servertest.Must(json.Marshal(in))))
}

// DESIGN 10, com.atproto.temp: what is available is what sign-up gives away, whatever state
// the account is in that has it.
func TestHandleIsAvailableWhenSignUpGivesIt(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		for name, enter := range map[string]func(servertest.User){
			"who-is-active":      func(servertest.User) {},
			"who-is-deactivated": func(u servertest.User) { s.Deactivate(u.DID) },
			"who-is-takendown":   func(u servertest.User) { s.TakeDown(u.DID) },
		} {
			isAvailable(s, name+".test")
			enter(s.SignUp(name))
			suggestions(s, name+".test")
			suggestions(s, strings.ToUpper(name)+".Test")
			s.Refused(createAccount(s, name+".test", ""), 400, "HandleNotAvailable", "Handle already taken: "+name+".test")
		}
		gone := s.SignUp("who-was")
		s.Remove(gone.DID)
		isAvailable(s, "who-was.test")
		s.Accepted(createAccount(s, "who-was.test", ""))

		// One that its owner gets back if a change of it fails.
		u := s.SignUp("newname")
		s.Write(func(tx *db.Tx) error {
			return tx.PutHandleChange(s.Context(), db.HandleChange{DID: u.DID, Before: "oldname.test", Holder: "other", LeaseUntil: s.Now().Add(time.Minute)})
		})
		suggestions(s, "oldname.test")
		s.Refused(createAccount(s, "oldname.test", ""), 400, "HandleNotAvailable", "Handle already taken: oldname.test")

		// One of an account that is being made.
		const did = "did:web:creating.example"
		s.Write(func(tx *db.Tx) error {
			return tx.ReserveAccount(s.Context(), db.Reservation{
				Account: db.Account{DID: did, Handle: "creating.test", CreatedAt: s.Now()}, Holder: "test", LeaseUntil: s.Now().Add(time.Minute),
				Key: db.SigningKey{DID: did, Purpose: "atproto", Public: s.SigningKey(u.DID), Sealed: []byte("x")},
			})
		})
		suggestions(s, "creating.test")
		s.Refused(createAccount(s, "creating.test", ""), 400, "HandleNotAvailable", "Handle already taken: creating.test")
	}, servertest.In("com.atproto.temp"))
}

// What the rules of sign-up refuse under a domain of this server is unavailable, and its
// name lends itself to suggestions where it may.
func TestHandleThatTheRulesRefuse(t *testing.T) {
	s := newServer(t)
	for _, tt := range []struct {
		handle, name, message string
		suggested             int
	}{
		{"al.test", "InvalidHandle", "Handle too short", 5},
		{"a-name-that-is-far-too-long.test", "InvalidHandle", "Handle too long", 5},
		{"al.ice.test", "InvalidHandle", "Invalid characters in handle", 5},
		{"admin.test", "HandleNotAvailable", "Reserved handle", 0},
		{"c00n.test", "InvalidHandle", "Inappropriate language in handle", 0},
	} {
		s.Refused(createAccount(s, tt.handle, ""), 400, tt.name, tt.message)
		if got := suggestions(s, tt.handle); len(got) != tt.suggested {
			t.Errorf("%s: %q", tt.handle, got)
		}
	}
	if a := asked(s, "admin.test"); a.Body != `{"handle":"admin.test","result":{"$type":"`+unavailable+`","suggestions":[]}}` {
		t.Error(a.Body)
	}
	if got := suggestions(s, "admin.test", "email", "jdoe@example.com"); len(got) != 5 || got[0] != "email jdoe.test" {
		t.Errorf("a reserved name with an address: %q", got)
	}
}

// What is not this server's to give is an error, with the words of sign-up; so is what
// cannot be a handle or an address.
func TestHandleOfElsewhere(t *testing.T) {
	s := newServer(t, func(o *servertest.Options) {
		o.HandleDomains = []string{".test", ".old.example.com", ".closed.example.com"}
	})
	_, err := s.Domains.Put(s.Context(), "closed.example.com", handle.Closed)
	s.Check(err)
	s.Check(s.Domains.Remove(s.Context(), "old.example.com", false))
	for h, want := range map[string][2]string{
		"alice.example.com":        {"UnsupportedDomain", unsupported},
		"alice.old.example.com":    {"UnsupportedDomain", unsupported},
		"alice.closed.example.com": {"UnsupportedDomain", unsupported},
		"pds.test.example.com":     {"UnsupportedDomain", unsupported},
		"alice.local":              {"InvalidHandle", "Handle TLD is invalid or disallowed"},
		"c00n.example.com":         {"InvalidHandle", "Inappropriate language in handle"},
	} {
		s.Refused(asked(s, h), 400, want[0], want[1])
		s.Refused(createAccount(s, h, ""), 400, want[0], want[1])
	}
	const notSupported = "This email address is not supported, please use a different email."
	for _, email := range []string{"alice", "alice@", "a b@example.com", "alice@mailinator.com"} {
		s.Refused(asked(s, "alice.test", "email", email), 400, "InvalidEmail", notSupported)
	}
	if a := s.Accepted(asked(s, "alice.test", "email", "")); a.Body != fmt.Sprintf(available, "alice.test") {
		t.Errorf("no address yet: %s", a.Body)
	}
	for query, message := range map[string]string{
		"":                                 `Missing required key \"handle\"`,
		"?handle=alice":                    "Invalid handle",
		"?handle=alice.test&birthDate=now": "Invalid datetime",
	} {
		if a := s.Get("checkHandleAvailability" + query); a.Status != 400 || !strings.Contains(a.Body, message) {
			t.Errorf("%q: %d %s", query, a.Status, a.Body)
		}
	}
}

// Each suggestion is one that sign-up takes at that moment, on domains for everybody and on
// those for who was invited; what somebody took meanwhile is not suggested again.
func TestEachSuggestionIsTakenBySignUp(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		_, err := s.Domains.Put(s.Context(), "invited.example.com", handle.Invite)
		s.Check(err)
		s.Invite("code", 100, "admin")
		for _, domain := range []string{".test", ".invited.example.com"} {
			wanted := "alice" + domain
			if a := s.Accepted(asked(s, wanted)); a.Body != fmt.Sprintf(available, wanted) {
				t.Error(a.Body)
			}
			s.Accepted(createAccount(s, wanted, "code"))
			seen := map[string]bool{}
			for range 3 {
				got := suggestions(s, wanted, "email", "Alice.Smith@example.com", "birthDate", "1984-06-01T00:00:00.000Z")
				if len(got) != 5 {
					t.Errorf("%s: %q", wanted, got)
				}
				for _, suggestion := range got {
					_, h, _ := strings.Cut(suggestion, " ")
					if seen[h] || !strings.HasSuffix(h, domain) {
						t.Errorf("%s suggested", h)
					}
					seen[h] = true
					isAvailable(s, h)
					s.Accepted(createAccount(s, h, "code"))
				}
			}
		}
	}, servertest.In("com.atproto.temp"))
}

// Suggestions come of what was told, and of chance, which is a parameter.
func TestSuggestionsComeOfWhatWasTold(t *testing.T) {
	s := newServer(t)
	s.SignUp("alice")
	seed := func() { s.Temp.Rand = rand.NewChaCha8([32]byte{1}) }
	for _, tt := range []struct {
		email, birthDate string
		want             string
	}{
		{"", "", "number alice## number alice## number alice### number alice### number alice####"},
		{"Alice.Smith+portico@example.com", "1984-06-01T00:00:00Z",
			"email alice-smith.test email alicesmith.test birth-year alice84.test birth-year alice1984.test number alice##"},
		{"alice@example.com", "", "number alice## number alice## number alice### number alice### number alice####"},
		// Whoever is under age does not tell it by a public name; nor is everything a year of birth.
		{"", servertest.Start.AddDate(-18, 0, 1).Format(time.RFC3339), "number"},
		{"", servertest.Start.AddDate(-18, 0, 0).Format(time.RFC3339), "birth-year"},
		{"", "1899-12-31T00:00:00Z", "number"},
		{"", "2999-12-31T00:00:00Z", "number"},
	} {
		seed()
		got := suggestions(s, "alice.test", "email", tt.email, "birthDate", cmp.Or(tt.birthDate, "1800-01-01T00:00:00Z"))
		seed()
		again := suggestions(s, "alice.test", "email", tt.email, "birthDate", cmp.Or(tt.birthDate, "1800-01-01T00:00:00Z"))
		if strings.Join(got, " ") != strings.Join(again, " ") {
			t.Errorf("the same chance: %q, then %q", got, again)
		}
		for i, suggestion := range got {
			if method, name, _ := strings.Cut(suggestion, " "); method == "number" {
				name = strings.Map(func(c rune) rune {
					if '0' <= c && c <= '9' {
						return '#'
					}
					return c
				}, strings.TrimSuffix(name, ".test"))
				got[i] = method + " " + name
			}
		}
		if text := strings.Join(got, " "); !strings.HasPrefix(text, tt.want) {
			t.Errorf("%+v: %s", tt, text)
		}
	}
	for _, n := range s.Nodes() {
		n.Temp.Rand = bytes.NewReader(nil)
	}
	s.Refused(asked(s, "alice.test"), 500, "InternalServerError", "Internal Server Error")
}

// The caller's address pays, after what is refused for its form, and nobody else does. Who
// types as fast as apps ask does not spend it; sign-up has a budget of its own.
func TestQuestionsAboutHandlesArePaid(t *testing.T) {
	s := newServer(t, func(o *servertest.Options) { o.TrustedProxies = 1 })
	const stranger, neighbour = "198.51.100.7", "203.0.113.5"
	for range 20 {
		s.Refused(asked(s, "alice.example.com", "X-Forwarded-For", stranger), 400, "UnsupportedDomain", unsupported)
		s.Refused(asked(s, "alice.test", "email", "x", "X-Forwarded-For", stranger), 400, "InvalidEmail",
			"This email address is not supported, please use a different email.")
	}
	// Apps ask half a second after a key at the earliest: eight minutes without a pause.
	for i := range 1000 {
		if i%100 == 0 {
			s.Advance(48 * time.Second)
		}
		s.Accepted(asked(s, fmt.Sprint("alice", i, ".test"), "X-Forwarded-For", stranger))
	}
	a := asked(s, "alice.test", "X-Forwarded-For", stranger)
	s.Refused(a, 429, "RateLimitExceeded", "Rate Limit Exceeded")
	if a.Header.Get("Retry-After") == "" {
		t.Error("429 without Retry-After")
	}
	s.Accepted(asked(s, "alice.test", "X-Forwarded-For", neighbour))
	s.Accepted(s.Post("com.atproto.server.createAccount", `{"handle":"alice.test","email":"a@example.com","password":"12345678"}`, "X-Forwarded-For: "+stranger))
	s.Advance(time.Hour)
	suggestions(s, "alice.test", "X-Forwarded-For", stranger)
}

// Whether an address is known shows in nothing: answer and statements are the same.
func TestNothingIsToldOfTheAddress(t *testing.T) {
	var statements []string
	s := newServer(t, func(o *servertest.Options) {
		o.DB = dbtest.Open(t, func(c *db.Config) {
			c.Now, c.Trace = o.Clock.Now, func(text string) { statements = append(statements, text) }
		})
	})
	s.SignUp("alice") // whose address is alice@example.com
	ask := func(domain string) (string, int) {
		for _, n := range s.Nodes() {
			n.Temp.Rand = rand.NewChaCha8([32]byte{1})
		}
		statements = nil
		a := s.Accepted(asked(s, "alice.test", "email", "alice@"+domain))
		return a.Body, len(statements)
	}
	known, n := ask("example.com")
	unknown, m := ask("example.org")
	if known != unknown || n != m {
		t.Errorf("known address: %d statements, %s\nunknown address: %d statements, %s", n, known, m, unknown)
	}
	// One for all suggestions: nobody here has an address that pays.
	if n != 1 {
		t.Errorf("%d statements: %q", n, statements)
	}
	for _, text := range statements {
		if strings.Contains(text, "email") {
			t.Error(text)
		}
	}
}
