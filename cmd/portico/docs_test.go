package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"portico/api/xrpc"
)

// The pages can load nothing, from here or elsewhere, but what stands in them, and run
// nothing else.
func TestDocsPolicy(t *testing.T) {
	docs, home := serveDocs(t), servePages(t, xrpc.Options{})
	for _, tt := range []struct {
		url    string
		script bool
	}{{docs.URL + "/docs", true}, {home.URL + "/", false}} {
		r, err := http.NewRequest(http.MethodGet, tt.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "pds.test"
		r.Header.Set("Accept", "text/html,application/xhtml+xml")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		page, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != 200 || answer.Header.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Fatalf("%s: %d %v %v", tt.url, answer.StatusCode, answer.Header, err)
		}
		sum := func(element string) string {
			m := regexp.MustCompile(`(?s)<`+element+`[^>]*>(.*?)</`+element+`>`).FindAllSubmatch(page, -1)
			if len(m) != 1 {
				t.Fatalf("%s has %d %s elements, want 1", tt.url, len(m), element)
			}
			s := sha256.Sum256(m[0][1])
			return base64.StdEncoding.EncodeToString(s[:])
		}
		want := "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
			"require-trusted-types-for 'script'; style-src 'sha256-" + sum("style") + "'"
		if tt.script {
			want += "; script-src 'sha256-" + sum("script") + "'"
		}
		if got := answer.Header.Get("Content-Security-Policy"); got != want {
			t.Errorf("%s: Content-Security-Policy\n%s, want\n%s", tt.url, got, want)
		}
		// No element names a file, and nothing is there that the policy would stop.
		if m := regexp.MustCompile(`(?i) (src|style|on[a-z]+)=|<link rel="stylesheet|\.innerHTML`).Find(page); m != nil {
			t.Errorf("%s has %q", tt.url, m)
		}
	}
}

// Who takes gzip gets it; what a cache keeps of one is not taken for the other.
func TestDocsCompressed(t *testing.T) {
	s := serveDocs(t)
	get := func(path string, headers ...string) (*http.Response, []byte) {
		t.Helper()
		r, err := http.NewRequest(http.MethodGet, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Add(headers[i], headers[i+1])
		}
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer, body
	}
	for _, path := range []string{"/docs", "/openapi.json"} {
		plain, whole := get(path, "Accept-Encoding", "identity")
		packed, short := get(path, "Accept-Encoding", "br;q=1.0, gzip;q=0.8, *;q=0.1")
		if plain.Header.Get("Content-Encoding") != "" || packed.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("%s: %q and %q", path, plain.Header.Get("Content-Encoding"), packed.Header.Get("Content-Encoding"))
		}
		z, err := gzip.NewReader(bytes.NewReader(short))
		if err != nil {
			t.Fatal(err)
		}
		if unpacked, err := io.ReadAll(z); err != nil || !bytes.Equal(unpacked, whole) {
			t.Errorf("%s: unpacked it is not the same (%v)", path, err)
		}
		if len(short)*2 > len(whole) {
			t.Errorf("%s: %d bytes of %d", path, len(short), len(whole))
		}
		tag := packed.Header.Get("ETag")
		if tag == plain.Header.Get("ETag") || packed.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s: ETag %s, Vary %s", path, tag, packed.Header.Get("Vary"))
		}
		if again, _ := get(path, "Accept-Encoding", "gzip", "If-None-Match", tag); again.StatusCode != 304 {
			t.Errorf("%s with its ETag: %d, want 304", path, again.StatusCode)
		}
	}
	for header, want := range map[string]bool{
		"": false, "gzip": true, "GZIP": true, "gzip;q=0": false, "gzip;q=0.0, *": false, "*": true, "*;q=0": false, "br": false,
		"deflate, gzip; q=0.5": true, "gzip;q=x": false, "identity, gzip": true,
	} {
		if got := takesGzip([]string{header}); got != want {
			t.Errorf("Accept-Encoding %q: %v", header, got)
		}
	}
}

// Every method that is served has its place in the list, and an example where it takes
// something.
func TestDocsHaveEveryMethod(t *testing.T) {
	s, _ := startFor(t, "PDS_DATA_DIRECTORY="+t.TempDir(), "PDS_BSKY_APP_VIEW_URL=http://localhost:1", "PDS_BSKY_APP_VIEW_DID=did:web:localhost")
	d := readDocument(t, s.PublicURL.String())
	known, err := readMethods(".test")
	if err != nil {
		t.Fatal(err)
	}
	position := known.position()
	last := position("") // that of a method which is not there
	for path, verbs := range d.Paths {
		nsid := strings.TrimPrefix(path, "/xrpc/")
		if position(nsid) == last {
			t.Errorf("%s is not in docs/methods.json", nsid)
		}
		for _, op := range verbs {
			if op.RequestBody == nil {
				continue
			}
			if json, ok := op.RequestBody.Content["application/json"]; ok && json.Example == nil {
				t.Errorf("%s has no example", nsid)
			}
		}
	}
}

// document is what the tests read of /openapi.json.
type document struct {
	Samples map[string]string `json:"x-samples"`
	Paths   map[string]map[string]struct {
		Security   []map[string][]string
		Parameters []struct {
			Name    string
			Example any
		}
		RequestBody *struct {
			Content map[string]struct{ Example any }
		}
	}
}

func readDocument(t *testing.T, server string) *document {
	t.Helper()
	answer, err := http.Get(server + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var d document
	if err := json.NewDecoder(answer.Body).Decode(&d); err != nil {
		t.Fatal(err)
	}
	return &d
}
