package main

import (
	"bytes"
	"crypto/rand"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/keyring"
)

// A rotation key or public URL that changes is told of once, and again when it changes
// back.
func TestWarnOfChange(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, store *db.DB) {
		key := func() *settings {
			t.Helper()
			k, err := keyring.NewKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			return &settings{RotationKey: k, PublicURL: &url.URL{Scheme: "https", Host: "pds.test"}}
		}
		first, second := key(), key()
		moved := *second
		moved.PublicURL = &url.URL{Scheme: "https", Host: "pds2.test"}
		for _, tt := range []struct {
			name string
			s    *settings
			want []string // of each warning
		}{
			{"first start", first, nil},
			{"the same", first, nil},
			{"another key", second, []string{`"the rotation key is another one than at the last start`}},
			{"that again", second, nil},
			{"another host", &moved, []string{`before=https://pds.test now=https://pds2.test`}},
			{"all back", first, []string{"the rotation key is", `before=https://pds2.test now=https://pds.test`}},
		} {
			var log bytes.Buffer
			if err := warnOfChange(t.Context(), tt.s, store, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(log.String(), "level=WARN"); n != len(tt.want) {
				t.Errorf("%s: %d warnings, want %d:\n%s", tt.name, n, len(tt.want), &log)
			}
			for _, want := range tt.want {
				if !strings.Contains(log.String(), want) {
					t.Errorf("%s: log %s, want %s", tt.name, &log, want)
				}
			}
		}
	})
}
