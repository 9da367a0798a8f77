package upstream_test

import (
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"portico/impl/proxy/upstream"
)

// Calls of the server's own have headers of their own, and what is answered comes unpacked.
func TestDo(t *testing.T) {
	for _, tt := range []struct {
		name string
		upstream.Call
		head, answer string
		want         string // the request
		body, read   string
	}{
		{"query", upstream.Call{URL: "/xrpc/a.b?c=d", Token: "token", Output: true}, ok, "{}", `
GET /xrpc/a.b?c=d HTTP/1.1
User-Agent: Portico
Accept: application/json
Accept-Encoding: gzip
Accept-Language: *
Authorization: Bearer token`, "", "{}"},
		{"procedure without an output", upstream.Call{URL: "/xrpc/a.b", Input: []byte(`{"a":1}`)}, "HTTP/1.1 200 OK\nContent-Length: 4", "text", `
POST /xrpc/a.b HTTP/1.1
User-Agent: Portico
Content-Length: 7
Accept: */*
Accept-Encoding: gzip
Accept-Language: *
Content-Type: application/json`, `{"a":1}`, ""},
		{"packed", upstream.Call{URL: "/xrpc/a.b", Output: true}, "HTTP/1.1 200 OK\nContent-Encoding: gzip\nConnection: close", pack(t, `{"a":"b"}`, "gzip"), `
GET /xrpc/a.b HTTP/1.1
User-Agent: Portico
Accept: application/json
Accept-Encoding: gzip
Accept-Language: *`, "", `{"a":"b"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := saying(t, tt.head, tt.answer)
			call := tt.Call
			call.URL = s.URL + call.URL
			text, err := upstream.New(upstream.Options{Private: true}).Do(t.Context(), &call)
			if err != nil || string(text) != tt.read {
				t.Errorf("%q, %v", text, err)
			}
			head, body := s.last()
			if diff := cmp.Diff(strings.TrimPrefix(tt.want, "\n"), strings.ReplaceAll(strings.TrimSuffix(head, "\r\n\r\n"), "\r\n", "\n")); diff != "" {
				t.Error(diff)
			}
			if body != tt.body {
				t.Errorf("body %q, want %q", body, tt.body)
			}
		})
	}
}

// A call that is refused says so; one that is sent elsewhere goes nowhere.
func TestDoFails(t *testing.T) {
	for _, tt := range []struct {
		name, head, body string
		refused          int
	}{
		{"refused", "HTTP/1.1 400 X\nContent-Length: 13", `{"error":"A"}`, 400},
		{"redirect", "HTTP/1.1 302 Found\nLocation: /xrpc/c.d\nContent-Length: 0", "", 0},
		{"breaks off", "HTTP/1.1 200 OK\nContent-Length: 3\nConnection: close", "{}", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := saying(t, tt.head, tt.body)
			text, err := upstream.New(upstream.Options{Private: true}).Do(t.Context(), &upstream.Call{URL: s.URL + "/xrpc/a.b", Output: true})
			refused, ok := errors.AsType[*upstream.Refused](err)
			if text != nil || ok != (tt.refused != 0) || ok && refused.Status != tt.refused || !ok && !errors.Is(err, upstream.ErrUnreachable) {
				t.Errorf("%q, %v", text, err)
			}
			if _, n := s.count(); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// HTTP/2 is spoken where both want it, and then, too, a request has its headers and no
// others.
func TestHTTP2(t *testing.T) {
	for _, tt := range []struct {
		own, theirs bool
		want        string
	}{{false, true, "HTTP/1.1"}, {true, false, "HTTP/1.1"}, {true, true, "HTTP/2.0"}} {
		var got *http.Request
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got = r
			io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, "{}")
		}))
		s.EnableHTTP2 = tt.theirs
		s.StartTLS()
		t.Cleanup(s.Close)
		c := upstream.New(upstream.Options{Private: true, HTTP2: tt.own})
		t.Cleanup(c.CloseIdle)
		roots := x509.NewCertPool()
		roots.AddCert(s.Certificate())
		c.Trust(roots)
		answer, err := c.Send(t.Context(), &upstream.Request{
			Verb: "POST", URL: s.URL + "/xrpc/a.b%2f?c=+;%", Body: strings.NewReader("text"), Size: -1, Header: http.Header{"X-Atproto-A": {"b"}, "Cookie": {"c"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if text, err := c.Read(answer); err != nil || string(text) != "{}" {
			t.Errorf("%q, %v", text, err)
		}
		want := http.Header{"X-Atproto-A": {"b"}, "Accept-Encoding": {"identity"}}
		if diff := cmp.Diff(want, got.Header); diff != "" || got.Proto != tt.want || got.RequestURI != "/xrpc/a.b%2f?c=+;%" {
			t.Errorf("%s %s, want %s: %s", got.Proto, got.RequestURI, tt.want, diff)
		}
	}
}
