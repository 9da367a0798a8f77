package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/identity/domain"
	"portico/impl/identity/handle"
)

// A server of the world on which anybody can make any number of accounts says so, however
// sign-up came to be open.
func TestOpenSignUpIsWarnedOf(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, store *db.DB) {
		for _, tt := range []struct {
			name string
			s    settings
			open bool // by decision of the operator, for one more domain
			want bool
		}{
			{"invites", settings{InviteRequired: true}, false, false},
			{"open", settings{}, false, true},
			{"development", settings{Development: true}, false, false},
			{"limits", settings{RateLimits: true}, false, false},
			{"phones", settings{PhoneProvider: phoneTwilio}, false, false},
			{"a cap", settings{SignUpsPerDay: 100}, false, false},
			{"one domain is open", settings{InviteRequired: true}, true, true},
		} {
			domains, err := domain.Open(t.Context(), store, domain.Config{
				Configured: func() domain.Configured {
					return domain.Configured{Domains: []string{".example.com"}, InviteRequired: tt.s.InviteRequired}
				}, Hostname: "pds.example.com", Now: time.Now,
				Log: slog.New(slog.DiscardHandler),
			})
			if err == nil && tt.open {
				_, err = domains.Put(t.Context(), "example.org", handle.Open)
			}
			if err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			warnOfOpenSignUp(t.Context(), &tt.s, domains, slog.New(slog.NewTextHandler(&log, nil)))
			if got := strings.Contains(log.String(), "level=WARN") && strings.Contains(log.String(), "PORTICO_SIGNUPS_PER_DAY"); got != tt.want {
				t.Errorf("%s: warned %v, want %v: %s", tt.name, got, tt.want, &log)
			}
		}
	})
}
