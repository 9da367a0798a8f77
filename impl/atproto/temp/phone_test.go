package temp_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/account/phone"
	"portico/impl/account/phone/phonetest"
	"portico/impl/account/phone/twilio"
	"portico/impl/servertest"
)

// The answers of createAccount.
const (
	demanded = "Text verification is now required on this server. Please make sure you're using the latest version of the Bluesky app."
	unproven = "Could not verify phone number. Please try again."
	tooMany  = "There are too many accounts currently using this phone number. Max: 3"
)

// verify switches phone verification on.
func verify(s *servertest.Server, p phone.Provider) {
	v := &phone.Verification{DB: s.DB, Keys: s.Keys, Budgets: s.Budgets, Provider: p, Max: 3, Bypass: "+15550123456", Now: s.Now}
	for _, n := range s.Nodes() {
		n.Server.Phones, n.Temp.Phones = v, v
	}
}

// verifyByService is verify with a verification service.
func verifyByService(s *servertest.Server) *phonetest.Service {
	service := phonetest.New(s)
	verify(s, &twilio.Client{
		URL: service.URL, AccountSID: phonetest.AccountSID, AuthToken: phonetest.AuthToken, ServiceSID: phonetest.ServiceSID,
	})
	return service
}

// verifyByOutbox is verify as on a development server.
func verifyByOutbox(s *servertest.Server) {
	verify(s, &phone.Outbox{DB: s.DB, Keys: s.Keys, Outbox: s.Outbox, Service: func() string { return "Test PDS" }, Now: s.Now, Rand: rand.Reader})
}

// stub is a provider that accepts one code, as often as it is shown.
type stub struct{}

func (stub) Send(context.Context, phone.Number) error { return nil }
func (stub) Check(_ context.Context, _ phone.Number, code string) (bool, error) {
	return code == "123456", nil
}

// request asks for a code.
func request(s *servertest.Server, number string, header ...string) servertest.Answer {
	s.Helper()
	return s.Post("requestPhoneVerification", string(servertest.Must(json.Marshal(map[string]string{"phoneNumber": number}))), header...)
}

// signUp is the body of createAccount for NAME.test.
func signUp(name, number, code string, more ...string) string {
	in := map[string]string{"handle": name + ".test", "email": name + "@example.com", "password": servertest.GoodPassword}
	if number != "" {
		in["verificationPhone"] = number
	}
	if code != "" {
		in["verificationCode"] = code
	}
	for i := 0; i < len(more); i += 2 {
		in[more[i]] = more[i+1]
	}
	return string(servertest.Must(json.Marshal(in)))
}

func create(s *servertest.Server, body string, header ...string) servertest.Answer {
	s.Helper()
	return s.Post("com.atproto.server.createAccount", body, header...)
}

var sixDigits = regexp.MustCompile(`(?m)^\d{6}\b`)

// texted is the code in the newest text message of the outbox.
func texted(s *servertest.Server) string {
	s.Helper()
	letters := s.Letters("phone_code")
	if len(letters) == 0 {
		s.Fatal("no text message in the outbox")
	}
	return sixDigits.FindString(letters[0].Text)
}

func TestPhonesAreNotVerified(t *testing.T) {
	s := newServer(t)
	s.Refused(request(s, "+15551234567"), 400, "InvalidRequest", "phone verification not enabled")
	s.Refused(request(s, "nonsense"), 400, "InvalidRequest", "phone verification not enabled")
	s.Refused(s.Post("requestPhoneVerification", `{}`), 400, "InvalidRequest", `Missing required key "phoneNumber" at $`)
	if a := s.Accepted(s.Get("com.atproto.server.describeServer")); strings.Contains(a.Body, "phone") {
		t.Errorf("describeServer: %s", a.Body)
	}
	s.Accepted(create(s, signUp("alice", "", "")))
	s.Accepted(create(s, signUp("bob", "nonsense", "nonsense")))
}

// The way of somebody who signs up on a development server.
func TestDesign32SignUpByOutbox(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		verifyByOutbox(s)
		if a := s.Accepted(s.Get("com.atproto.server.describeServer")); a.Fields(t)["phoneVerificationRequired"] != true {
			t.Errorf("describeServer: %s", a.Body)
		}
		s.Refused(create(s, signUp("alice", "", "")), 400, "InvalidPhoneVerification", demanded)
		s.Refused(create(s, signUp("alice", "+15551234567", "")), 400, "InvalidPhoneVerification", demanded)
		s.Refused(create(s, signUp("alice", "", "123456")), 400, "InvalidPhoneVerification", demanded)
		s.Refused(create(s, signUp("alice", "15551234567", "123456")), 400, "InvalidRequest", "Invalid phone number")
		s.Refused(create(s, signUp("alice", "+15551234567", "123456")), 400, "InvalidPhoneVerification", unproven)

		s.Empty(request(s, "(555) 123-4567"))
		letter := s.Letters("phone_code")[0]
		first := texted(s)
		if want := "To +15551234567:\n\n" + first + " is your verification code for Test PDS. It works for 10 minutes.\n"; letter.Text != want || first == "" {
			t.Errorf("text message %q", letter.Text)
		}
		s.Refused(create(s, signUp("alice", "+15551234568", first)), 400, "InvalidPhoneVerification", unproven)
		s.Refused(create(s, signUp("alice", "+15551234567", "not a code")), 400, "InvalidPhoneVerification", unproven)
		// Another text does not void the first.
		s.Empty(request(s, "+1 555 123 4567"))
		second := texted(s)
		s.Accepted(create(s, signUp("alice", "555-123-4567", " "+first[:3]+" "+first[3:])))
		// The code is used, and the other one with it.
		s.Refused(create(s, signUp("bob", "+15551234567", first)), 400, "InvalidPhoneVerification", unproven)
		s.Refused(create(s, signUp("bob", "+15551234567", second)), 400, "InvalidPhoneVerification", unproven)

		s.Empty(request(s, "+15551234567"))
		late := texted(s)
		s.Advance(10 * time.Minute)
		s.Refused(create(s, signUp("bob", "+15551234567", late)), 400, "InvalidPhoneVerification", unproven)
		s.Empty(request(s, "+15551234567"))
		s.Advance(10*time.Minute - time.Second)
		s.Accepted(create(s, signUp("bob", "+15551234567", texted(s))))
	}, servertest.In("com.atproto.temp"))
}

// The same with a verification service, up to the last account that a number may have.
func TestDesign32SignUpByService(t *testing.T) {
	s := newServer(t)
	service := verifyByService(s)
	for i, name := range []string{"alice", "bob", "carol"} {
		s.Empty(request(s, "(555) 123-4567"))
		code := service.Code("+15551234567")
		s.Refused(create(s, signUp(name, "+15551234567", "0000")), 400, "InvalidPhoneVerification", unproven)
		checked := service.Checked()
		s.Refused(create(s, signUp(name, "+15551234567", "12 34 5x")), 400, "InvalidPhoneVerification", unproven)
		if service.Checked() != checked {
			t.Error("the service was asked about what cannot be a code")
		}
		s.Accepted(create(s, signUp(name, "+15551234567", code)))
		if sent := service.Sent(); len(sent) != i+1 {
			t.Errorf("sent to %q", sent)
		}
	}
	s.Refused(request(s, "(555) 123-4567"), 400, "InvalidRequest", tooMany)
	checked := service.Checked()
	s.Refused(create(s, signUp("dave", "+15551234567", "123456")), 400, "InvalidRequest", tooMany)
	if len(service.Sent()) != 3 || service.Checked() != checked {
		t.Error("the service was bothered for a number that is full")
	}
	// A takedown leaves the number counted, a deletion does not.
	alice := s.Accepted(s.Get("com.atproto.identity.resolveHandle?handle=alice.test")).Text(t, "did")
	takeDown := `{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":"` + alice + `"},"takedown":{"applied":true}}`
	s.Accepted(s.Post("com.atproto.admin.updateSubjectStatus", takeDown, servertest.Admin))
	s.Refused(request(s, "(555) 123-4567"), 400, "InvalidRequest", tooMany)
	s.Accepted(s.Post("com.atproto.admin.deleteAccount", `{"did":"`+alice+`"}`, servertest.Admin))
	s.Empty(request(s, "(555) 123-4567"))
	s.Accepted(create(s, signUp("dave", "+15551234567", service.Code("+15551234567"))))
	s.Refused(request(s, "(555) 123-4567"), 400, "InvalidRequest", tooMany)
}

// What a client reads when no code is sent, or none can be checked. The words of the
// service reach neither the client nor, as they quote the number, the log.
func TestDesign32ServiceFails(t *testing.T) {
	const (
		invalid  = `400 InvalidRequest "Could not send verification text: invalid phone number"`
		country  = `400 InvalidRequest "Could not send verification text: country not supported"`
		upstream = `502 UpstreamFailure "Could not send verification text"`
		wrong    = `400 InvalidPhoneVerification "Could not verify phone number. Please try again."`
		lost     = `502 UpstreamFailure "Could not verify phone number. Please try again."`
	)
	const said = "the service's words about +15551234567"
	for _, tt := range []struct {
		name          string
		fault         http.HandlerFunc
		request, used string
	}{
		{"invalid number", phonetest.Refuses(400, 60200, said), invalid, wrong},
		{"landline", phonetest.Refuses(403, 60205, said), invalid, lost},
		{"country", phonetest.Refuses(403, 60410, said), country, lost},
		{"geography", phonetest.Refuses(403, 60605, said), country, lost},
		{"too many texts", phonetest.Refuses(429, 60203, said), upstream, lost},
		{"token", phonetest.Refuses(401, 20003, said), upstream, lost},
		{"not there", phonetest.Refuses(404, 20404, said), upstream, wrong},
		{"error", phonetest.Refuses(500, 0, said), upstream, lost},
		{"no JSON", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, said) }, upstream, lost},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, upstream, lost},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t)
			service := verifyByService(s)
			service.Spoil(tt.fault)
			if got := request(s, "+15551234567").Outcome(); got != tt.request {
				t.Errorf("requestPhoneVerification: %s", got)
			}
			if got := create(s, signUp("alice", "+15551234567", "123456")).Outcome(); got != tt.used {
				t.Errorf("createAccount: %s", got)
			}
			service.Spoil(nil)
			s.Empty(request(s, "+15551234567"))
			code := service.Code("+15551234567")
			s.Accepted(create(s, signUp("alice", "+15551234567", code)))
			for _, hidden := range []string{"service's words", "5551234567", code, phonetest.AuthToken} {
				if strings.Contains(s.Logged.String(), hidden) {
					t.Errorf("%q is in the log:\n%s", hidden, s.Logged)
				}
			}
		})
	}
}

// A phone is asked for when all else is fine, and before anything is made: no code is
// spent, and nothing reaches the directory, for nothing.
func TestOrderOfChecks(t *testing.T) {
	s := newServer(t, func(o *servertest.Options) { o.InviteRequired = true })
	s.Invite("code", 9, "admin")
	verify(s, stub{})
	s.Accepted(create(s, signUp("alice", "+15551234567", "123456", "inviteCode", "code")))
	s.PLC.Asked()
	for _, tt := range []struct{ name, body, want string }{
		{"invite missing", signUp("bob", "", ""), `400 InvalidInviteCode "No invite code provided"`},
		{"invite wrong", signUp("bob", "", "", "inviteCode", "x"), `400 InvalidInviteCode "Provided invite code not available"`},
		{"handle taken", signUp("alice", "", "", "inviteCode", "code"), `400 HandleNotAvailable "Handle already taken: alice.test"`},
		{"email taken", signUp("bob", "", "", "inviteCode", "code", "email", "alice@example.com"), `400 InvalidRequest "Email already taken: alice@example.com"`},
		{"phone missing", signUp("bob", "", "", "inviteCode", "code"), `400 InvalidPhoneVerification "` + demanded + `"`},
		{"code wrong", signUp("bob", "+15551234567", "654321", "inviteCode", "code"), `400 InvalidPhoneVerification "` + unproven + `"`},
	} {
		if got := create(s, tt.body).Outcome(); got != tt.want {
			t.Errorf("%s: %s", tt.name, got)
		}
	}
	if asked := s.PLC.Asked(); len(asked) > 0 {
		t.Errorf("the directory was asked %q", asked)
	}
	s.Accepted(create(s, signUp("bob", "+15551234567", "123456", "inviteCode", "code")))
}

// Whoever brings a DID proves a phone as well.
func TestDesign32OwnDID(t *testing.T) {
	s := newServer(t)
	verify(s, stub{})
	const did = "did:web:alice.example"
	key := s.NewIdentity(did)
	header := s.ServiceToken(did, key, "com.atproto.server.createAccount", time.Minute)
	s.Refused(create(s, signUp("alice", "", "", "did", did)), 401, "AuthenticationRequired", "Missing auth to create account with did: "+did)
	s.Refused(create(s, signUp("alice", "", "", "did", did), header), 400, "InvalidPhoneVerification", demanded)
	s.Refused(create(s, signUp("alice", "+15551234567", "654321", "did", did), header), 400, "InvalidPhoneVerification", unproven)
	s.Accepted(create(s, signUp("alice", "+15551234567", "123456", "did", did), header))
}

// A sign-up that the directory refuses gives the number back, but not the code.
func TestSignUpIsGivenUp(t *testing.T) {
	s := newServer(t)
	service := verifyByService(s)
	s.Temp.Phones.Max = 1
	s.Empty(request(s, "+15551234567"))
	code := service.Code("+15551234567")
	s.PLC.Spoil(servertest.Says(http.MethodPost, 400, `{"message":"no"}`))
	s.Refused(create(s, signUp("alice", "+15551234567", code)), 400, "InvalidRequest", "no")
	s.PLC.Spoil(nil)
	s.Refused(create(s, signUp("alice", "+15551234567", code)), 400, "InvalidPhoneVerification", unproven)
	s.Empty(request(s, "+15551234567"))
	s.Accepted(create(s, signUp("alice", "+15551234567", service.Code("+15551234567"))))
	s.Refused(request(s, "+15551234567"), 400, "InvalidRequest", "There are too many accounts currently using this phone number. Max: 1")
}

// DESIGN §10, resetPassword by mailed code: where the address was never confirmed, the
// number that somebody signed up with is not the account's any more, and is used up: it
// gives nobody more accounts than it may have.
func TestDesignResetForgetsThePhone(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		service := verifyByService(s)
		s.Temp.Phones.Max = 2
		for i, name := range []string{"alice", "bob"} {
			s.Empty(request(s, "+15551234567"))
			a := s.Accepted(create(s, signUp(name, "+15551234567", service.Code("+15551234567"))))
			did, address := syntax.DID(a.Text(t, "did")), s.Account(syntax.DID(a.Text(t, "did"))).Email
			if name == "bob" { // who has confirmed the address
				s.SetAccount(did, func(a *db.Account) { a.EmailConfirmedAt = new(s.Now()) })
			}
			s.Accepted(s.Post("com.atproto.server.requestPasswordReset", fmt.Sprintf(`{"email":%q}`, address)))
			s.Accepted(s.Post("com.atproto.server.resetPassword", fmt.Sprintf(`{"token":%q,"password":"a new password"}`, s.Code("reset_password"))))
			if got, want := strings.Contains(s.Recorded(did), "phone number forgotten"), i == 0; got != want {
				t.Errorf("%s: record\n%s", name, s.Recorded(did))
			}
		}
		s.Refused(request(s, "+15551234567"), 400, "InvalidRequest", "There are too many accounts currently using this phone number. Max: 2")
	}, servertest.In("com.atproto.temp"))
}

// One number needs no phone. Nothing is sent to it, and its accounts are not counted.
func TestBypassNumber(t *testing.T) {
	s := newServer(t)
	service := verifyByService(s)
	for i := range 5 {
		s.Empty(request(s, "555-012-3456"))
		s.Accepted(create(s, signUp(fmt.Sprint("user", i), "+1 555 012 3456", "anything")))
	}
	s.Refused(create(s, signUp("alice", "+15550123456", "")), 400, "InvalidPhoneVerification", demanded)
	s.Refused(create(s, signUp("alice", "+15550123457", "123456")), 400, "InvalidPhoneVerification", unproven)
	if len(service.Sent()) != 0 || service.Checked() != 1 {
		t.Errorf("sent to %q, checked %d", service.Sent(), service.Checked())
	}
}

// Request limits of the method, where they are switched on.
func TestLimits(t *testing.T) {
	s := newServer(t, func(o *servertest.Options) { o.Limiter = true })
	for _, allowed := range []int{50, 49, 0} { // what was refused counts too
		for range allowed {
			s.Refused(request(s, "+15551234567"), 400, "InvalidRequest", "phone verification not enabled")
		}
		s.Refused(request(s, "+15551234567"), 429, "RateLimitExceeded", "Rate Limit Exceeded")
		s.Advance(5 * time.Minute)
	}
	s.Advance(45 * time.Minute)
	s.Refused(request(s, "+15551234567"), 400, "InvalidRequest", "phone verification not enabled")
}

// Text messages cost money: how many go to one number, and how many one address can
// cause, is limited always, whatever came of them.
func TestBudgetsOfTexts(t *testing.T) {
	s := newServer(t, func(o *servertest.Options) { o.TrustedProxies = 1 })
	service := verifyByService(s)
	for i := range 5 {
		s.Empty(request(s, "+15551234567", fmt.Sprint("X-Forwarded-For: 192.0.2.", i)))
	}
	s.Empty(request(s, "+15551234567")) // nothing is sent, and nothing said
	s.Empty(request(s, "+15551234568"))
	s.Advance(time.Hour)
	s.Empty(request(s, "+15551234567"))

	const stranger = "X-Forwarded-For: 198.51.100.7"
	for i := range 50 {
		s.Empty(request(s, fmt.Sprint("+1555200", 1000+i), stranger))
	}
	service.Spoil(phonetest.Refuses(400, 60200, ""))
	for i := range 50 {
		s.Refused(request(s, fmt.Sprint("+1555300", 1000+i), stranger), 400, "InvalidRequest", "Could not send verification text: invalid phone number")
	}
	service.Spoil(nil)
	s.Refused(request(s, "+15559999999", stranger), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	s.Empty(request(s, "+15559999999", "X-Forwarded-For: 198.51.100.8"))
	s.Advance(24 * time.Hour)
	s.Empty(request(s, "+15559999999", stranger))
	if got := len(service.Sent()); got != 5+1+1+50+2 {
		t.Errorf("%d texts were sent", got)
	}
}

// Nobody's phone rings all day because strangers ask for codes.
func TestBudgetOfTextsInADay(t *testing.T) {
	s := newServer(t)
	service := verifyByService(s)
	for range 2 {
		for range 5 {
			s.Empty(request(s, "+15551234567"))
		}
		s.Empty(request(s, "+15551234567")) // nothing is sent, and nothing said
		s.Advance(time.Hour)
	}
	s.Empty(request(s, "+15551234567")) // nothing is sent, and nothing said
	s.Advance(22 * time.Hour)
	s.Empty(request(s, "+15551234567"))
	if got := len(service.Sent()); got != 11 {
		t.Errorf("%d texts were sent", got)
	}
}

// However many addresses and numbers there are, a day costs no more than the operator
// wants it to.
func TestTextsInADay(t *testing.T) {
	s := newServer(t)
	service := verifyByService(s)
	s.Temp.Phones.MaxTexts = 3
	for i := range 3 {
		s.Empty(request(s, fmt.Sprint("+1555123456", i)))
	}
	s.Refused(request(s, "+15551234569"), 502, "UpstreamFailure", "Could not send verification text")
	if !strings.Contains(s.Logged.String(), "there were 3 in a day") {
		t.Errorf("the operator is not told:\n%s", s.Logged)
	}
	s.Empty(request(s, "+15550123456"))
	s.Advance(24 * time.Hour)
	s.Empty(request(s, "+15551234569"))
	if got := len(service.Sent()); got != 4 {
		t.Errorf("%d texts were sent", got)
	}
}

// Whoever looks for numbers that have accounts, or for the one that needs no code, pays
// for each that is tried, and learns nothing any more when nothing is left.
func TestBudgetsOfSearches(t *testing.T) {
	s := newServer(t, func(o *servertest.Options) { o.TrustedProxies = 1 })
	verify(s, stub{})
	for i := range 3 {
		s.Accepted(create(s, signUp(fmt.Sprint("alice", i), "+15551234567", "123456"), "X-Forwarded-For: 192.0.2.1"))
	}
	const stranger = "X-Forwarded-For: 198.51.100.7"
	for range 100 {
		s.Refused(request(s, "+15551234567", stranger), 400, "InvalidRequest", tooMany)
	}
	for range 200 {
		s.Refused(create(s, signUp("bob", "+15551234567", "123456"), stranger), 400, "InvalidRequest", tooMany)
	}
	for _, number := range []string{"+15551234567", "+15550123456", "+15559999999"} {
		s.Refused(request(s, number, stranger), 429, "RateLimitExceeded", "Rate Limit Exceeded")
		s.Refused(create(s, signUp("bob", number, "123456"), stranger), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	}
	s.Advance(24 * time.Hour)
	s.Empty(request(s, "+15550123456", stranger))
	s.Accepted(create(s, signUp("bob", "+15550123456", "none"), stranger))
}

// Twenty codes an hour may be tried for a number.
func TestBudgetOfTries(t *testing.T) {
	s := newServer(t)
	verify(s, stub{})
	answers := make([]servertest.Answer, 30)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			var err error
			answers[i], err = s.Try(http.MethodPost, "com.atproto.server.createAccount", signUp("alice", "+15551234567", fmt.Sprint(900000+i)))
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	got := map[string]int{}
	for _, a := range answers {
		got[a.Outcome()]++
	}
	if got[`400 InvalidPhoneVerification "`+unproven+`"`] != 30 {
		t.Errorf("answers %v", got)
	}
	s.Refused(create(s, signUp("alice", "+15551234567", "123456")), 400, "InvalidPhoneVerification", unproven)
	s.Accepted(create(s, signUp("alice", "+15551234568", "123456")))
	s.Advance(time.Hour)
	s.Accepted(create(s, signUp("bob", "+15551234567", "123456")))
}

// However many sign up with one number at the same time, three succeed, and the others
// are told so before the directory hears of them.
func TestRace(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		verify(s, stub{})
		answers := make([]servertest.Answer, 12)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() {
				var err error
				answers[i], err = s.Try(http.MethodPost, "com.atproto.server.createAccount", signUp(fmt.Sprint("user", i), "+15551234567", "123456"))
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		made := 0
		for _, a := range answers {
			if a.Status == 200 {
				made++
			} else {
				s.Refused(a, 400, "InvalidRequest", tooMany)
			}
		}
		posts := 0
		for _, asked := range s.PLC.Asked() {
			if asked == "POST" {
				posts++
			}
		}
		if made != 3 || posts != 3 {
			t.Errorf("%d accounts were made, %d DIDs", made, posts)
		}
	}, servertest.In("com.atproto.temp"))
}

// One code makes one account, whoever is faster.
func TestRaceForOneCode(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		verifyByOutbox(s)
		s.Empty(request(s, "+15551234567"))
		code := texted(s)
		answers := make([]servertest.Answer, 8)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() {
				var err error
				answers[i], err = s.Try(http.MethodPost, "com.atproto.server.createAccount", signUp(fmt.Sprint("user", i), "+15551234567", code))
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		made := 0
		for _, a := range answers {
			if a.Status == 200 {
				made++
			} else {
				s.Refused(a, 400, "InvalidPhoneVerification", unproven)
			}
		}
		if made != 1 {
			t.Errorf("%d accounts were made", made)
		}
	}, servertest.In("com.atproto.temp"))
}

// Neither the numbers of accounts nor the codes that were sent to them are anywhere in
// the database or in the log.
func TestNumbersAreNotKept(t *testing.T) {
	var dir string
	s := newServer(t, func(o *servertest.Options) {
		o.DB = dbtest.Open(t, func(c *db.Config) { dir, c.Now = c.Dir, o.Clock.Now })
	})
	verifyByOutbox(s)
	s.Empty(request(s, "+15551234567"))
	code := texted(s)
	s.Refused(create(s, signUp("alice", "+15551234567", "000000")), 400, "InvalidPhoneVerification", unproven)
	s.Accepted(create(s, signUp("alice", "+15551234567", code)))
	s.Empty(request(s, "+15551234567"))

	stored := []byte(s.Logged.String())
	files := servertest.Must(filepath.Glob(filepath.Join(dir, "portico.sqlite*")))
	for _, file := range files {
		stored = append(stored, servertest.Must(os.ReadFile(file))...)
	}
	if len(files) < 2 || !bytes.Contains(stored, []byte("alice@example.com")) {
		t.Fatalf("the database is not in %q", files)
	}
	for _, hidden := range []string{"5551234567", "\"" + code, code + " is", "is your verification code"} {
		if bytes.Contains(stored, []byte(hidden)) {
			t.Errorf("%q is in the database or the log", hidden)
		}
	}
}
