package twilio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"portico/impl/account/phone"
	"portico/impl/account/phone/phonetest"
)

const number = phone.Number("+15551234567")

func client(s *phonetest.Service) *Client {
	return &Client{URL: s.URL, AccountSID: phonetest.AccountSID, AuthToken: phonetest.AuthToken, ServiceSID: phonetest.ServiceSID}
}

func TestSendAndCheck(t *testing.T) {
	s := phonetest.New(t)
	c := client(s)
	check := func(code string, want bool) {
		t.Helper()
		if ok, err := c.Check(t.Context(), number, code); ok != want || err != nil {
			t.Errorf("check %s: %v, %v; want %v", code, ok, err, want)
		}
	}
	check("123456", false) // nothing was sent
	if err := c.Send(t.Context(), number); err != nil {
		t.Fatal(err)
	}
	if sent := s.Sent(); len(sent) != 1 || sent[0] != "+15551234567" {
		t.Errorf("sent to %q", sent)
	}
	code := s.Code("+15551234567")
	check("999999", false)
	check(code, true)
	check(code, false) // it is used
	if err := c.Send(t.Context(), number); err != nil {
		t.Fatal(err)
	}
	code = s.Code("+15551234567")
	for range 5 {
		check("999999", false)
	}
	check(code, false) // it was guessed at too often
}

// What is asked is what Twilio's documentation says.
func TestRequests(t *testing.T) {
	var got []string
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		name, token, _ := r.BasicAuth()
		got = append(got, fmt.Sprint(r.Method, " ", r.URL, " ", r.Header.Get("Content-Type"), " ", name, ":", token, " ", r.PostForm.Encode()))
		w.Write([]byte(`{"status":"approved"}`))
	}))
	defer h.Close()
	c := &Client{URL: h.URL + "/v2", AccountSID: "AC1", AuthToken: "token", ServiceSID: "VA1"}
	if err := c.Send(t.Context(), number); err != nil {
		t.Error(err)
	}
	if ok, err := c.Check(t.Context(), number, "123456"); !ok || err != nil {
		t.Error(ok, err)
	}
	want := []string{
		"POST /v2/Services/VA1/Verifications application/x-www-form-urlencoded AC1:token Channel=sms&To=%2B15551234567",
		"POST /v2/Services/VA1/VerificationCheck application/x-www-form-urlencoded AC1:token Code=123456&To=%2B15551234567",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

func TestFailures(t *testing.T) {
	s := phonetest.New(t)
	c := client(s)
	if err := c.Send(t.Context(), number); err != nil {
		t.Fatal(err)
	}
	released := make(chan struct{})
	t.Cleanup(func() { close(released) }) // before the service is closed
	says := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	refuses := func(status, code int) http.HandlerFunc {
		return phonetest.Refuses(status, code, "To: +15551234567, token: "+phonetest.AuthToken)
	}
	var elsewhere bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere = true }))
	defer other.Close()
	const failed = "fails"
	for _, tt := range []struct {
		name        string
		fault       http.HandlerFunc
		send, check string // "": no error, failed: any but ErrNumber and ErrCountry
	}{
		{"invalid parameter", refuses(400, 60200), "number", ""},
		{"landline", refuses(403, 60205), "number", failed},
		{"invalid number", refuses(400, 60033), "number", failed},
		{"invalid To", refuses(400, 21211), "number", failed},
		{"no mobile phone", refuses(400, 21614), "number", failed},
		{"blocked for fraud", refuses(403, 60410), "country", failed},
		{"blocked by permissions", refuses(403, 60605), "country", failed},
		{"to be vetted", refuses(403, 60220), "country", failed},
		{"not permitted", refuses(400, 21408), "country", failed},
		{"too many texts", refuses(429, 60203), failed, failed},
		{"too many guesses", refuses(429, 60202), failed, ""},
		{"not found", refuses(404, 20404), failed, ""},
		{"wrong token", refuses(401, 20003), failed, failed},
		{"server error", says(500, "oops"), failed, failed},
		{"gateway", says(503, "<html>"), failed, failed},
		{"refusal without a code", says(400, `{"message":"no"}`), failed, failed},
		{"code of another kind", says(400, `{"code":"60200"}`), failed, failed},
		{"no JSON", says(200, "fine"), failed, failed},
		{"nothing", says(200, ""), failed, failed},
		{"no status", says(200, "{}"), failed, failed},
		{"status of another kind", says(200, `{"status":1}`), failed, failed},
		{"huge", says(200, `{"x":"`+strings.Repeat("x", 1<<20)+`","status":"approved"}`), failed, failed},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		}, failed, failed},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, failed, failed},
		{"silent", func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-released:
			case <-r.Context().Done():
			}
		}, failed, failed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.Spoil(tt.fault)
			if tt.name == "silent" { // nobody waits for that
				c.Timeout = 50 * time.Millisecond
			}
			ok, err := c.Check(t.Context(), number, "123456")
			if ok {
				t.Error("the code was accepted")
			}
			for what, outcome := range map[string]struct {
				err  error
				want string
			}{"send": {c.Send(t.Context(), number), tt.send}, "check": {err, tt.check}} {
				got := ""
				switch {
				case errors.Is(outcome.err, phone.ErrNumber):
					got = "number"
				case errors.Is(outcome.err, phone.ErrCountry):
					got = "country"
				case outcome.err != nil:
					got = failed
				}
				if got != outcome.want {
					t.Errorf("%s: %v", what, outcome.err)
				}
				if text := fmt.Sprint(outcome.err); strings.Contains(text, "5551234567") || strings.Contains(text, phonetest.AuthToken) {
					t.Errorf("%s: the error tells too much: %s", what, text)
				}
			}
		})
	}
	if elsewhere {
		t.Error("a redirect was followed")
	}
	s.Spoil(nil)
	c = client(s)
	nobody := client(s)
	nobody.URL = "http://127.0.0.1:1"
	if err := nobody.Send(t.Context(), number); err == nil || errors.Is(err, phone.ErrNumber) {
		t.Errorf("nobody there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Check(ctx, number, "123456"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestTokenIsNotPrinted(t *testing.T) {
	var b bytes.Buffer
	c := &Client{AuthToken: "secret token"}
	fmt.Fprintf(&b, "%v %+v %#v %s", c, c, c, c)
	slog.New(slog.NewTextHandler(&b, nil)).Info("client", "is", c)
	if strings.Contains(b.String(), "secret token") {
		t.Error(b.String())
	}
}

func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{`{"status":"approved"}`, `{"code":60200,"status":400}`, "{}", "", "<html>", `{"status":null}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		errorCode(body)
		if status, err := statusOf(body); (status == "") != (err != nil) {
			t.Errorf("status %q, %v", status, err)
		}
	})
}
