package captcha_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"portico/impl/account/captcha"
)

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name, response, answer string
		status                 int
		asked                  bool
		refused, failed        bool
	}{
		{"solved", "good", `{"success":true,"hostname":"pds.example.com"}`, 200, true, false, false},
		{"not solved", "bad", `{"success":false,"error-codes":["invalid-input-response"]}`, 200, true, true, false},
		{"used already", "old", `{"success":false,"error-codes":["already-seen-response"]}`, 200, true, true, false},
		{"missing", "", ``, 200, false, true, false},
		{"larger than any", strings.Repeat("x", 16<<10+1), ``, 200, false, true, false},
		{"wrong secret", "good", `{"success":false,"error-codes":["invalid-input-secret"]}`, 200, true, false, true},
		{"a page", "good", `<html>`, 200, true, false, true},
		{"an answer without end", "good", `"` + strings.Repeat("x", 100<<10), 200, true, false, true},
		{"out of order", "good", `{"success":true}`, 503, true, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var asked string
			h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_ = r.ParseForm()
				asked = r.Method + " " + r.Form.Encode()
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.answer)
			}))
			defer h.Close()
			c := &captcha.Captcha{SiteKey: "site", Secret: "sesame", URL: h.URL, Client: h.Client()}
			err := c.Check(t.Context(), tt.response, netip.MustParseAddr("::ffff:192.0.2.1"))
			if errors.Is(err, captcha.ErrRefused) != tt.refused || (err != nil) != (tt.refused || tt.failed) {
				t.Errorf("error %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "sesame") {
				t.Errorf("error with the secret: %v", err)
			}
			want := ""
			if tt.asked {
				want = "POST remoteip=192.0.2.1&response=" + tt.response + "&secret=sesame&sitekey=site"
			}
			if asked != want {
				t.Errorf("asked %q, want %q", asked, want)
			}
		})
	}
}

// Who asks pays, and whoever cannot does not make the server ask.
func TestCheckIsPaidFor(t *testing.T) {
	errSpent := errors.New("spent")
	c := &captcha.Captcha{
		Secret: "sesame", URL: "http://127.0.0.1:1/", Client: http.DefaultClient, Pay: func(context.Context) error { return errSpent },
	}
	if err := c.Check(t.Context(), "good", netip.Addr{}); !errors.Is(err, errSpent) {
		t.Errorf("error %v", err)
	}
	if text := fmt.Sprintf("%v %+v", c, c); strings.Contains(text, "sesame") {
		t.Errorf("printed as %q", text)
	}
}
