package main

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"portico/impl/account/phone/phonetest"
)

// What the settings of phones say reaches the methods: sign-up with a code of the
// provider, which is a service that speaks Twilio's interface, or the outbox.
func TestPhoneSettings(t *testing.T) {
	service := phonetest.New(t)
	for _, tt := range []struct {
		name    string
		environ []string
		code    func(environ []string) string // that was sent to +15551234567
	}{
		{"twilio", []string{
			"PORTICO_PHONE_PROVIDER=twilio", "PORTICO_PHONE_TWILIO_URL=" + service.URL + "/",
			"PORTICO_PHONE_TWILIO_ACCOUNT_SID=" + phonetest.AccountSID, "PORTICO_PHONE_TWILIO_AUTH_TOKEN=" + phonetest.AuthToken,
			"PORTICO_PHONE_TWILIO_SERVICE_SID=" + phonetest.ServiceSID,
		}, func([]string) string { return service.Code("+15551234567") }},
		{"outbox", []string{"PORTICO_PHONE_PROVIDER=outbox"}, func(environ []string) string {
			list, _, err := portico(t, environ, "mail", "list")
			if err != nil || !regexp.MustCompile(`(?m)^1 +\S+ \S+ +\+…67 +phone_code +queued `).MatchString(list) {
				t.Errorf("list: %v\n%s", err, list)
			}
			text, _, err := portico(t, environ, "mail", "show", "1")
			found := regexp.MustCompile(`\nsubject +Text message\n\nTo \+15551234567:\n\n(\d{6}) is your verification code for localhost PDS\. It works for 10 minutes\.\n$`).FindStringSubmatch(text)
			if err != nil || found == nil {
				t.Fatalf("show 1: %v\n%s", err, text)
			}
			return found[1]
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			environ := with(tt.environ, "PDS_DATA_DIRECTORY="+t.TempDir(), "PORTICO_PHONE_MAX_ACCOUNTS=1",
				"PORTICO_PHONE_BYPASS_NUMBER=+15550123456")
			s, _ := startFor(t, environ...)
			answers := func(method, body string, status int, want string) {
				t.Helper()
				answer, err := http.Post(s.PublicURL.String()+"/xrpc/com.atproto."+method, "application/json", strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				defer answer.Body.Close()
				got, err := io.ReadAll(answer.Body)
				if err != nil || answer.StatusCode != status || !strings.HasPrefix(string(got), want) {
					t.Errorf("%s: %d %s %v", method, answer.StatusCode, got, err)
				}
			}
			signUp := func(name, number, code string) string {
				return fmt.Sprintf(`{"handle":"%s.test","email":"%[1]s@example.com","verificationPhone":"%s","verificationCode":"%s"}`, name, number, code)
			}
			answers("temp.requestPhoneVerification", `{"phoneNumber":"555 123 4567"}`, 200, "")
			code := tt.code(environ)
			answers("server.createAccount", signUp("alice", "+15551234567", "0000"), 400, `{"error":"InvalidPhoneVerification",`)
			answers("server.createAccount", signUp("alice", "+15551234567", code), 200, `{"accessJwt":"`)
			answers("temp.requestPhoneVerification", `{"phoneNumber":"+15551234567"}`, 400,
				`{"error":"InvalidRequest","message":"There are too many accounts currently using this phone number. Max: 1"}`)
			answers("server.createAccount", signUp("bob", "+15550123456", "0000"), 200, `{"accessJwt":"`)
		})
	}
}
