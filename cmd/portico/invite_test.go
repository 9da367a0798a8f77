package main

import (
	"context"
	"crypto/rand"
	encoding "encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"portico/cmd/portico/launch"
)

// A starting server says where everything is once it can be reached.
type starting struct {
	once  sync.Once
	ready chan struct{}
}

func (s *starting) Write(b []byte) (int, error) {
	s.once.Do(func() { close(s.ready) })
	return len(b), nil
}

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
			var ports [2]int
			for i := range ports {
				var err error
				if ports[i], err = launch.FreePort(); err != nil {
					t.Fatal(err)
				}
			}
			s, err := configuration{Environ: []string{
				"PDS_DATA_DIRECTORY=" + t.TempDir(), fmt.Sprintf("PDS_PORT=%d", ports[0]), fmt.Sprintf("PORTICO_PLC_PORT=%d", ports[1]),
				"PDS_INVITE_REQUIRED=true", "PDS_INVITE_INTERVAL=1", "PDS_ADMIN_PASSWORD=secret", "PORTICO_LOG_LEVEL=error", tt.setting,
			}, Rand: rand.Reader, Now: time.Now}.load()
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			out := &starting{ready: make(chan struct{})}
			ended := make(chan error, 1)
			go func() { ended <- run(ctx, s, out) }()
			defer func() {
				stop()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}()
			select {
			case <-out.ready:
			case err := <-ended:
				ended <- nil
				t.Fatal(err)
			}

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
