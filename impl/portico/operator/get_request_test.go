package operator_test

import (
	"net/url"
	"strings"
	"testing"

	"portico/impl/servertest"
)

// The operator is told how a request arrived: what it said, and what the server makes of
// it. How many proxies are counted on decides whose word that is.
func TestGetRequest(t *testing.T) {
	for _, tt := range []struct {
		name    string
		proxies int
		header  []string
		want    string // without host and protocol
	}{
		{"straight", 0, nil, `"peer":"127.0.0.1","address":"127.0.0.1","forwardedFor":[],"trustedProxies":0`},
		{"through one proxy", 1, []string{"X-Forwarded-For: 198.51.100.9, 192.0.2.7", "X-Forwarded-Proto: https"},
			`"peer":"127.0.0.1","address":"192.0.2.7","forwardedFor":["198.51.100.9","192.0.2.7"],"forwardedProto":"https","trustedProxies":1`},
		{"through one of two", 2, []string{"X-Forwarded-For: 198.51.100.9, 192.0.2.7"},
			`"peer":"127.0.0.1","address":"198.51.100.9","forwardedFor":["198.51.100.9","192.0.2.7"],"trustedProxies":2`},
		{"another host", 1, []string{"X-Forwarded-Host: pds.example.com:8443, inner"},
			`"peer":"127.0.0.1","address":"127.0.0.1","forwardedFor":[],"forwardedHost":"pds.example.com:8443, inner","trustedProxies":1`},
		{"nonsense", 1, []string{"X-Forwarded-For: , \"<a>\xff, 192.0.2.7:90"},
			`"peer":"127.0.0.1","address":"192.0.2.7","forwardedFor":["","\"<a>","192.0.2.7:90"],"trustedProxies":1`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newOperator(t, func(o *servertest.Options) { o.TrustedProxies = tt.proxies })
			at := servertest.Must(url.Parse(s.URL))
			name := at.Hostname()
			if tt.name == "another host" {
				name = "pds.example.com"
			}
			want := `{"host":"` + at.Host + `","name":"` + name + `",` + tt.want + `,"protocol":"HTTP/1.1"}`
			if got := s.Accepted(s.Get("getRequest", append(tt.header, servertest.Admin)...)).Body; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// However much somebody sends, so much is told.
func TestGetRequestIsBounded(t *testing.T) {
	s := newOperator(t, func(o *servertest.Options) { o.TrustedProxies = 1 })
	var out struct {
		ForwardedFor   []string
		ForwardedProto string
	}
	s.Accepted(s.Get("getRequest", servertest.Admin, "X-Forwarded-For: "+strings.Repeat("192.0.2.1,", 50_000)+strings.Repeat("é", 5000)+",last",
		"X-Forwarded-Proto: "+strings.Repeat("x", 100_000))).Decode(t, &out)
	n := len(out.ForwardedFor)
	if n != 100 || out.ForwardedFor[n-1] != "last" || len(out.ForwardedFor[n-2]) != 1000 || out.ForwardedFor[0] != "192.0.2.1" || len(out.ForwardedProto) != 1000 {
		t.Errorf("%d addresses, %d bytes of the protocol", n, len(out.ForwardedProto))
	}
	// Others are told nothing.
	s.Refused(s.Get("getRequest", servertest.Basic("admin", "wrong")), 401, "AuthenticationRequired", "Authentication Required")
	s.Refused(s.Get("getRequest"), 401, "AuthenticationRequired", "Authentication Required")
	alice := s.SignUp("alice")
	if a := s.Get("getRequest", alice.Access); a.Status == 200 || strings.Contains(a.Body, "127.0.0.1") {
		t.Errorf("an account: %d %s", a.Status, a.Body)
	}
}
