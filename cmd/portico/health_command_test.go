package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A server that is not well, and what is no server at all, are told from one that is, and
// from none.
func TestAskHealth(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		body   string
		want   string // or part of the error
	}{
		{"well", 200, `{"version":"1.2.3"}`, "1.2.3"},
		{"no database", 503, `{"version":"1.2.3","error":"Service Unavailable"}`, "the server answers, and is not well (503 Service Unavailable)"},
		{"something else", 200, `<html>`, "is no account server (200 OK)"},
		{"without an end", 200, `{"version":"` + strings.Repeat("1", 5000), "is no account server"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/xrpc/_health" {
					t.Errorf("asked for %s", r.URL)
				}
				w.WriteHeader(tt.status)
				io.WriteString(w, tt.body)
			}))
			defer s.Close()
			version, err := askHealth(t.Context(), s.URL)
			if err != nil && (!strings.Contains(err.Error(), tt.want) || exitStatus(err) != statusFailed) || err == nil && version != tt.want {
				t.Errorf("%q, %v (status %d), want %q", version, err, exitStatus(err), tt.want)
			}
		})
	}
}
