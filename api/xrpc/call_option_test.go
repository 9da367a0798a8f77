package xrpc

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

func TestCallOptions(t *testing.T) {
	var got http.Header
	status := 200
	c := toyClient{Client{Host: "https://pds.test", Header: http.Header{"x-client": {"1"}, "X-Trace": {"0"}}, HTTP: &http.Client{Transport: inside(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		w.Header().Set("Atproto-Repo-Rev", "3")
		w.WriteHeader(status)
		w.Write([]byte(`{"size":1,"type":"x"}`))
	})}}}
	var answer http.Header
	with := func(o ...CallOption) *toyClient { return &toyClient{c.With(o...)} }
	proxied := with(ProxyTo("did:web:api.bsky.chat", "bsky_chat"), SetHeader("x-trace", "abc"))
	if _, err := (&toyClient{proxied.With(AcceptLabelers(Labeler{DID: "did:plc:a"}, Labeler{"did:plc:b", true}), AnswerHeader(&answer))}).Fail(t.Context(), &FailParams{}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Atproto-Proxy": "did:web:api.bsky.chat#bsky_chat", "Atproto-Accept-Labelers": "did:plc:a, did:plc:b;redact", "X-Trace": "abc", "X-Client": "1",
	} {
		if value := strings.Join(got[name], "|"); value != want {
			t.Errorf("%s: %s", name, value)
		}
	}
	if answer.Get("Atproto-Repo-Rev") != "3" {
		t.Error(answer)
	}
	// Copies are what has options, not what was copied.
	if _, err := proxied.Fail(t.Context(), &FailParams{}); err != nil || got.Get("Atproto-Accept-Labelers") != "" || got.Get("X-Trace") != "abc" {
		t.Error(err, got)
	}
	if _, err := c.Fail(t.Context(), &FailParams{}); err != nil || got.Get("Atproto-Proxy") != "" || got.Get("X-Trace") != "0" {
		t.Error(err, got)
	}
	status, answer = 400, nil
	if _, err := with(AnswerHeader(&answer)).Fail(t.Context(), &FailParams{}); err == nil || answer.Get("Atproto-Repo-Rev") != "3" {
		t.Error(err, answer)
	}
}

// A wrong option sends nothing.
func TestCallOptionsThatAreWrong(t *testing.T) {
	c := toyClient{Client{Host: "https://pds.test", HTTP: &http.Client{Transport: inside(func(http.ResponseWriter, *http.Request) { t.Error("something was sent") })}}}
	for want, o := range map[string]CallOption{
		`"X Y" is no name of a header`:                                         SetHeader("X Y", "1"),
		`"X\r\nY" is no name of a header`:                                      SetHeader("X\r\nY", "1"),
		`the value of X-Y cannot be that of a header`:                          SetHeader("X-Y", "SECRET\r\nZ: 1"),
		`Authorization is not for options`:                                     SetHeader("authorization", "Bearer SECRET"),
		`Content-Length is not for options`:                                    SetHeader("content-length", "3"),
		`proxy to "a.test": DID syntax didn't validate via regex`:              ProxyTo("a.test", "x"),
		`proxy to did:web:a.test: "" is no ID of a service`:                    ProxyTo("did:web:a.test", ""),
		`proxy to did:web:a.test: "a#b" is no ID of a service`:                 ProxyTo("did:web:a.test", "a#b"),
		`proxy to did:web:a.test: "a\r\nb" is no ID of a service`:              ProxyTo("did:web:a.test", "a\r\nb"),
		`labeler "did:plc:a, did:plc:b": DID syntax didn't validate via regex`: AcceptLabelers(Labeler{DID: syntax.DID("did:plc:a, did:plc:b")}),
	} {
		_, err := (&toyClient{c.With(SetHeader("X-Fine", "1"), o, SetHeader("", ""))}).Fail(t.Context(), &FailParams{})
		if err == nil || err.Error() != "call com.example.toy.fail: invalid option: "+want {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
}

// What is meant for one host stays there, wherever that sends the call.
func TestRedirects(t *testing.T) {
	var got http.Header
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		w.Write([]byte(`{"size":1,"type":"other"}`))
	}))
	defer other.Close()
	to, status := "", http.StatusFound
	first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/here" {
			got = r.Header
			w.Write([]byte(`{"size":1,"type":"here"}`))
			return
		}
		http.Redirect(w, r, to, status)
	}))
	defer first.Close()
	c := toyClient{Client{Host: first.URL, Authorization: Bearer("SECRET"), Header: http.Header{"X-Key": {"SECRET"}}}}
	c = toyClient{c.With(ProxyTo("did:web:a.test", "x"), SetHeader("Cookie", "SECRET"))}

	to = other.URL + "/there" // the same name, another port
	out, err := c.Fail(t.Context(), &FailParams{})
	if err != nil || out.Type != "other" {
		t.Fatal(err)
	}
	for name, values := range got {
		if name != "Accept" && name != "User-Agent" && name != "Accept-Encoding" {
			t.Errorf("the other host got %s: %s", name, values)
		}
	}
	to = "/here"
	if out, err := c.Fail(t.Context(), &FailParams{}); err != nil || out.Type != "here" || got.Get("Authorization") != "Bearer SECRET" || got.Get("Atproto-Proxy") == "" {
		t.Error(err, got)
	}
	got = nil
	for _, status = range []int{301, 302, 303, 307, 308} {
		for _, to = range []string{other.URL, "/here"} {
			if _, err := c.Upload(t.Context(), NewBody(strings.NewReader("abc"), "a/b")); err == nil || !strings.HasSuffix(err.Error(), "the host sends the call elsewhere: a procedure is not sent to another place") {
				t.Error(err)
			}
		}
	}
	if got != nil {
		t.Errorf("a procedure went elsewhere: %v", got)
	}
	to = "/xrpc/again"
	if _, err := c.Fail(t.Context(), &FailParams{}); err == nil || !strings.HasSuffix(err.Error(), "elsewhere: more than 10 times") {
		t.Error(err)
	}
	// What the caller's own client decides goes first.
	c.HTTP = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	_, err = c.Fail(t.Context(), &FailParams{})
	if x, ok := err.(*Error); !ok || x.Status != 308 {
		t.Error(err)
	}
}

// Whoever is sent to and fro stays without, and nobody is sent from https to http.
func TestRedirectsOnTheWayBack(t *testing.T) {
	steps := map[string]string{
		"https://a.test/xrpc/com.example.toy.fail":     "https://sub.a.test/1",
		"https://sub.a.test/1":                         "https://A.test:443/2",
		"https://same.test/xrpc/com.example.toy.fail":  "https://same.test:443/2",
		"https://plain.test/xrpc/com.example.toy.fail": "http://plain.test/2",
	}
	seen := map[string]string{}
	transport := inside(func(w http.ResponseWriter, r *http.Request) {
		url := r.URL.Scheme + "://" + r.URL.Host + r.URL.Path
		seen[url] = r.Header.Get("Authorization") + r.Header.Get("X-Key")
		if to := steps[url]; to != "" {
			w.Header().Set("Location", to)
			w.WriteHeader(302)
			return
		}
		w.Write([]byte(`{"size":1,"type":"x"}`))
	})
	for host, want := range map[string]string{"https://a.test": "", "https://same.test": "", "https://plain.test": `the host sends the call elsewhere: not from https to http`} {
		c := toyClient{Client{Host: host, Authorization: Bearer("SECRET"), Header: http.Header{"X-Key": {"ET"}}, HTTP: &http.Client{Transport: transport}}}
		if _, err := c.Fail(t.Context(), &FailParams{}); !strings.HasSuffix(errorText(err), want) {
			t.Error(err)
		}
	}
	if len(seen) != 6 || seen["https://sub.a.test/1"] != "" || seen["https://A.test:443/2"] != "" || seen["https://same.test:443/2"] != "Bearer SECRETET" {
		t.Error(seen)
	}
}
