package main

import (
	encoding "encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"portico/cmd/portico/launch"
)

// ask calls a method of the server under url and decodes its answer.
func ask(t *testing.T, verb, url, authorization, body string) (out struct {
	AccessJWT, Code, Error string
	Codes                  []struct{ Code string }
}) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), verb, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", authorization)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if err := encoding.NewDecoder(answer.Body).Decode(&out); err != nil {
		t.Fatal(err)
	}
	if out.Error != "" {
		t.Fatalf("%s: %d %s", url, answer.StatusCode, out.Error)
	}
	return out
}

// The operator's interval and epoch reach the method that makes earned codes, and
// the host name is in every code.
func TestInviteSettings(t *testing.T) {
	for _, tt := range []struct {
		name, setting string
		earned        int
	}{
		{"interval", "PDS_INVITE_EPOCH=0", 5},
		{"epoch in the future", fmt.Sprintf("PDS_INVITE_EPOCH=%d", time.Now().Add(24*time.Hour).UnixMilli()), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := startFor(t, "PDS_DATA_DIRECTORY="+t.TempDir(), "PDS_INVITE_REQUIRED=true", "PDS_INVITE_INTERVAL=1",
				"PDS_ADMIN_PASSWORD=secret", tt.setting)
			server := s.PublicURL.String() + "/xrpc/com.atproto.server."
			code := ask(t, "POST", server+"createInviteCode", "Basic YWRtaW46c2VjcmV0", `{"useCount":1}`).Code
			if !regexp.MustCompile(`^localhost-[a-z2-7]{5}-[a-z2-7]{5}$`).MatchString(code) {
				t.Errorf("code %s", code)
			}
			token := ask(t, "POST", server+"createAccount", "",
				`{"handle":"alice.test","email":"alice@example.com","password":"12345678","inviteCode":"`+code+`"}`).AccessJWT
			for deadline := time.Now().Add(launch.Patience); ; {
				// A code a millisecond: after five of them there are five.
				codes := ask(t, "GET", server+"getAccountInviteCodes", "Bearer "+token, "").Codes
				if len(codes) == tt.earned {
					return
				}
				if len(codes) > tt.earned || time.Now().After(deadline) {
					t.Fatalf("%d codes, want %d", len(codes), tt.earned)
				}
			}
		})
	}
}
