package resolve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"golang.org/x/net/dns/dnsmessage"
)

func TestPublic(t *testing.T) {
	for address, want := range map[string]bool{
		"1.1.1.1": true, "93.184.215.14": true, "2606:4700:4700::1111": true, "172.32.0.1": true, "::ffff:1.1.1.1": true,
		"127.0.0.1": false, "127.1.2.3": false, "::1": false, "0.0.0.0": false, "::": false, "0.1.2.3": false,
		"10.0.0.1": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false, "100.100.100.200": false,
		"192.0.0.192": false, "192.0.2.1": false, "198.18.0.1": false, "198.51.100.1": false, "203.0.113.1": false,
		"224.0.0.1": false, "240.0.0.1": false, "255.255.255.255": false,
		"fe80::1": false, "fe80::1%eth0": false, "fc00::1": false, "fd00:ec2::254": false, "fec0::1": false, "ff02::1": false,
		"::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::127.0.0.1": false, "64:ff9b::7f00:1": false, "64:ff9b:1::1": false,
		"2002:7f00:1::": false, "2001:0:7f00:1::": false, "2001:db8::1": false, "100::1": false,
	} {
		if got := Public(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	if Public(netip.Addr{}) {
		t.Error("no address is public")
	}
}

// Addresses are checked where connections are made: for literal addresses, for names, and for every redirect.
func TestGuard(t *testing.T) {
	secret := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "secret") }))
	defer secret.Close()
	inside, _ := url.Parse(secret.URL)
	_, port, _ := net.SplitHostPort(inside.Host)
	outside := httptest.NewUnstartedServer(http.RedirectHandler(secret.URL, http.StatusFound))
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	outside.Listener.Close()
	outside.Listener = l
	outside.Start()
	defer outside.Close()

	guarded := NewClient(false)
	for _, target := range []string{secret.URL, "http://localhost:" + port, "http://[::ffff:127.0.0.1]:" + port, "http://2130706433:" + port, "http://0:" + port} {
		res, err := guarded.Get(target)
		if err == nil {
			res.Body.Close()
			t.Errorf("%s: connected", target)
		} else if !errors.Is(err, ErrForbiddenAddress) && !strings.Contains(err.Error(), "lookup") {
			t.Errorf("%s: %v", target, err)
		}
	}
	// Here 127.0.0.2 is the world and 127.0.0.1 is at home.
	world := newClient(newDialer(func(a netip.Addr) bool { return a == netip.MustParseAddr("127.0.0.2") }, nil))
	if _, err := world.Get(outside.URL); !errors.Is(err, ErrForbiddenAddress) {
		t.Errorf("redirected inside: %v", err)
	}
	res, err := NewClient(true).Get(outside.URL)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("unguarded: %v", err)
	}
	res.Body.Close()
}

// What a proxy is named for goes through it, wherever it is; the rest is guarded as ever.
func TestThrough(t *testing.T) {
	by := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "through to ", r.URL) }))
	defer by.Close()
	there, _ := url.Parse(by.URL)
	broken := errors.New("no proxy")
	client := Through(func(r *http.Request) (*url.URL, error) {
		switch r.URL.Hostname() {
		case "new.example":
			return there, nil
		case "broken.example":
			return nil, broken
		}
		return nil, nil
	}, NewClient(false))
	res, err := client.Get("http://new.example/x?y=1")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != "through to http://new.example/x?y=1" {
		t.Errorf("%q %v", body, err)
	}
	if _, err := client.Get("http://broken.example"); !errors.Is(err, broken) {
		t.Errorf("with a proxy that is none: %v", err)
	}
	if _, err := client.Get(by.URL); !errors.Is(err, ErrForbiddenAddress) {
		t.Errorf("straight to the inside: %v", err)
	}
}

func TestFetch(t *testing.T) {
	var asked string
	answer := map[string]func(w http.ResponseWriter){
		"did:plc:gnme2elp3bnvqq53n6oc6qgx": func(w http.ResponseWriter) { fmt.Fprint(w, older) },
		"did:plc:gone":                     func(w http.ResponseWriter) { w.WriteHeader(410) },
		"did:plc:ended": func(w http.ResponseWriter) {
			w.WriteHeader(404)
			fmt.Fprint(w, `{"message":"DID not available: did:plc:ended"}`)
		},
		"did:plc:broken": func(w http.ResponseWriter) { w.WriteHeader(500) },
		"did:plc:moved":  func(w http.ResponseWriter) { w.Header().Set("Location", "/x"); w.WriteHeader(302) },
		"did:plc:other":  func(w http.ResponseWriter) { fmt.Fprint(w, older) },
		"did:plc:large":  func(w http.ResponseWriter) { w.Write(make([]byte, maxDocument+1)) },
	}
	directory := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.RequestURI + " " + r.Header.Get("Accept")
		if f, ok := answer[strings.TrimPrefix(r.URL.Path, "/")]; ok {
			f(w)
			return
		}
		w.WriteHeader(404)
	}))
	defer directory.Close()
	d := &DIDs{Directory: directory.URL, Web: NewClient(false)}

	doc, err := d.Fetch(t.Context(), alice)
	if err != nil || doc.Handle() != "dom1.test" {
		t.Errorf("%v, %v", doc, err)
	}
	if want := "/did%3Aplc%3Agnme2elp3bnvqq53n6oc6qgx application/did+ld+json,application/json"; asked != want {
		t.Errorf("asked for %s", asked)
	}
	for did, want := range map[syntax.DID]error{
		"did:plc:nobody":           ErrNotFound,
		"did:plc:gone":             ErrDeactivated,
		"did:plc:ended":            ErrDeactivated,
		"did:plc:other":            ErrDocument,
		"did:plc:large":            ErrDocument,
		"did:key:zQ3sh":            ErrUnsupported,
		"did:web:example.com:path": ErrUnsupported,
		"did:web:a%2Fb":            ErrUnsupported,
		"did:web:a%40b":            ErrUnsupported,
		"did:web:a%3Ab":            ErrUnsupported,
		"did:web:127.0.0.1":        ErrForbiddenAddress,
		"did:web:localhost":        ErrForbiddenAddress,
	} {
		if _, err := d.Fetch(t.Context(), did); !errors.Is(err, want) {
			t.Errorf("%s: %v", did, err)
		}
	}
	if _, err := d.Fetch(t.Context(), "did:plc:nobody"); errors.Is(err, ErrDeactivated) || !errors.Is(ErrDeactivated, ErrNotFound) {
		t.Errorf("never registered: %v", err)
	}
	for _, did := range []syntax.DID{"did:plc:broken", "did:plc:moved"} {
		if _, err := d.Fetch(t.Context(), did); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", did, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Fetch(ctx, alice); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestFetchWeb(t *testing.T) {
	status, body := 200, ""
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/.well-known/did.json" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	defer host.Close()
	u, _ := url.Parse(host.URL)
	did := syntax.DID("did:web:localhost%3A" + u.Port())
	d := &DIDs{Web: NewClient(true)}
	body = `{"id":"` + did.String() + `"}`
	if doc, err := d.Fetch(t.Context(), did); err != nil || doc.DID != did {
		t.Errorf("%v, %v", doc, err)
	}
	for _, status = range []int{404, 400, 500} {
		if _, err := d.Fetch(t.Context(), did); !errors.Is(err, ErrNotFound) {
			t.Errorf("%d: %v", status, err)
		}
	}
	status = 301
	if _, err := d.Fetch(t.Context(), did); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("redirect: %v", err)
	}
	for did, want := range map[syntax.DID]string{
		"did:web:example.com":          "https://example.com/.well-known/did.json",
		"did:web:example.com%3A8443":   "https://example.com:8443/.well-known/did.json",
		"did:web:localhost%3A2583":     "http://localhost:2583/.well-known/did.json",
		"did:web:localhost.evil.com":   "https://localhost.evil.com/.well-known/did.json",
		"did:web:example.com%3A999999": "",
		"did:web:example.com%3A":       "",
		"did:web:ex%23ample.com":       "",
		"did:web:%zz":                  "",
	} {
		if got, err := webURL(did); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", did, got, err)
		}
	}
}

func FuzzWebURL(f *testing.F) {
	f.Add("did:web:example.com%3A8443")
	f.Add("did:web:a%2F..%40b")
	f.Fuzz(func(t *testing.T, text string) {
		did, err := syntax.ParseDID(text)
		if err != nil || did.Method() != "web" {
			return
		}
		target, err := webURL(did)
		if err != nil {
			return
		}
		u, err := url.Parse(target)
		if err != nil {
			return // a request for it fails as well
		}
		if u.Path != "/.well-known/did.json" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme == "http" && u.Hostname() != "localhost" {
			t.Errorf("%s gives %s", did, target)
		}
	})
}

// transport answers requests without a network.
type transport func(r *http.Request) (string, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := f(r)
	if err != nil {
		return nil, err
	}
	rec := httptest.NewRecorder()
	rec.WriteHeader(http.StatusTeapot) // the status does not matter
	rec.WriteString(body)
	return rec.Result(), nil
}

var errNoHost = errors.New("no such host")

func TestResolveHandle(t *testing.T) {
	records := func(values ...string) LookupTXT {
		return func(_ context.Context, name string) ([]string, error) {
			if name != "_atproto.alice.example.com." {
				t.Errorf("looked up %s", name)
			}
			return values, nil
		}
	}
	serve := func(body string) transport {
		return func(r *http.Request) (string, error) {
			if got := r.URL.String(); got != "https://alice.example.com/.well-known/atproto-did" {
				t.Errorf("asked for %s", got)
			}
			return body, nil
		}
	}
	noDNS := func(context.Context, string) ([]string, error) { return nil, errNoHost }
	noHost := transport(func(*http.Request) (string, error) { return "", errNoHost })
	for _, tt := range []struct {
		name   string
		dns    LookupTXT
		host   transport
		backup LookupTXT
		want   syntax.DID
	}{
		{"DNS", records("did=did:plc:dns"), noHost, nil, "did:plc:dns"},
		{"DNS wins", records("v=spf1", "did=did:plc:dns"), serve("did:plc:web"), nil, "did:plc:dns"},
		{"two records", records("did=did:plc:a", "did=did:plc:b"), serve("did:plc:web"), nil, "did:plc:web"},
		{"no record", records("v=spf1", "DID=did:plc:a", " did=did:plc:b"), serve("did:plc:web"), nil, "did:plc:web"},
		{"record without DID", records("did=hello"), serve("did:plc:web"), nil, ""},
		{"host", noDNS, serve("did:plc:web"), nil, "did:plc:web"},
		{"host, first line", noDNS, serve("  did:plc:web \r\nmore"), nil, "did:plc:web"},
		{"host, no DID", noDNS, serve("<html>did:plc:web"), nil, ""},
		{"host, bad DID", noDNS, serve("did:plc:w e b"), nil, ""},
		{"host, endless line", noDNS, serve("did:plc:" + strings.Repeat("a", 1<<20)), nil, ""},
		{"backup", noDNS, noHost, records("did=did:plc:backup"), "did:plc:backup"},
		{"backup after a host without DID", records(), serve("x"), records("did=did:plc:backup"), "did:plc:backup"},
		{"host before backup", noDNS, serve("did:plc:web"), records("did=did:plc:backup"), "did:plc:web"},
		{"nobody", noDNS, noHost, noDNS, ""},
		{"nobody, no backup", noDNS, noHost, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &Handles{Client: &http.Client{Transport: tt.host}, TXT: tt.dns, Backup: tt.backup}
			got, err := r.ResolveHandle(t.Context(), "Alice.example.com")
			if got != tt.want || (err == nil) != (tt.want != "") || err != nil && !errors.Is(err, ErrNotFound) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	r := &Handles{Client: &http.Client{Transport: serve("")}, TXT: records()}
	for _, h := range []syntax.Handle{"handle.invalid", "printer.local"} {
		if _, err := r.ResolveHandle(t.Context(), h); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", h, err)
		}
	}
}

// Both questions are asked at once, each answer is waited for no longer than the timeout, and the answer from DNS ends the
// other question.
func TestResolveHandleTiming(t *testing.T) {
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	slowDNS := func(ctx context.Context, _ string) ([]string, error) { return nil, hang(ctx) }
	ended := false
	slowHost := transport(func(r *http.Request) (string, error) { err := hang(r.Context()); ended = true; return "", err })
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		r := &Handles{Client: &http.Client{Transport: slowHost}, TXT: slowDNS, Backup: slowDNS}
		if _, err := r.ResolveHandle(t.Context(), "alice.example.com"); !errors.Is(err, ErrNotFound) || !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if d := time.Since(start); d != 6*time.Second {
			t.Errorf("took %s", d)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ended = false
		dns := func(context.Context, string) ([]string, error) {
			time.Sleep(time.Second)
			return []string{"did=did:plc:dns"}, nil
		}
		r := &Handles{Client: &http.Client{Transport: slowHost}, TXT: dns}
		if did, err := r.ResolveHandle(t.Context(), "alice.example.com"); err != nil || did != "did:plc:dns" {
			t.Error(did, err)
		}
		synctest.Wait()
		if d := time.Since(start); d != time.Second || !ended {
			t.Errorf("took %s, host still asked %v", d, !ended)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r := &Handles{Client: &http.Client{Transport: slowHost}, TXT: slowDNS, Backup: slowDNS}
		if _, err := r.ResolveHandle(ctx, "alice.example.com"); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	})
}

func TestNameServers(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go answerDNS(conn)
	lookup := NameServers([]string{conn.LocalAddr().String()})
	for range 2 {
		got, err := lookup(t.Context(), "_atproto.alice.example.com.")
		if err != nil || len(got) != 1 || got[0] != "did=did:plc:in_two_chunks" {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if NameServers(nil) != nil {
		t.Error("no servers, but a lookup")
	}
}

// answerDNS answers every question with one TXT record of two chunks.
func answerDNS(conn net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) == 0 {
			continue
		}
		m.Response, m.Additionals = true, nil
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET, TTL: 1},
			Body:   &dnsmessage.TXTResource{TXT: []string{"did=did:plc:", "in_two_chunks"}},
		}}
		if out, err := m.Pack(); err == nil {
			conn.WriteTo(out, from)
		}
	}
}
