package upstream_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/google/go-cmp/cmp"

	"portico/impl/proxy/upstream"
)

const ok = "HTTP/1.1 200 OK\nContent-Type: application/json\nContent-Length: 2"

// Of a request the service gets the verb, the path and the query as they are, few headers,
// and no others.
func TestRequest(t *testing.T) {
	s := saying(t, ok, "{}")
	c := upstream.New(upstream.Options{Private: true})
	type header = http.Header
	for _, tt := range []struct {
		name string
		upstream.Request
		body string
		want string
	}{
		{"bare", upstream.Request{Verb: "GET", URL: "/xrpc/a.b"}, "", `
GET /xrpc/a.b HTTP/1.1
Accept-Encoding: identity`},
		{"path and query as they came", upstream.Request{Verb: "GET", URL: "/xrpc/a.b%2fC/?q=a+b%20c;d&%&x=%2F&é=%zz&&a=[]{}|^\\#f?"}, "", `
GET /xrpc/a.b%2fC/?q=a+b%20c;d&%&x=%2F&é=%zz&&a=[]{}|^\#f? HTTP/1.1
Accept-Encoding: identity`},
		{"query without anything", upstream.Request{Verb: "GET", URL: "/xrpc/a.b?"}, "", `
GET /xrpc/a.b? HTTP/1.1
Accept-Encoding: identity`},
		{"no header but these", upstream.Request{Verb: "GET", URL: "/xrpc/a.b", Token: "token", Header: header{
			"Accept-Encoding": {"gzip;q=0.5, br"}, "Accept-Language": {"de"}, "Atproto-Accept-Labelers": {"did:web:a;redact"}, "X-Bsky-Topics": {"x"},
			"X-Atproto-Bsky-Topics": {"y"}, "X-Atproto-": {"z"},
			"Authorization": {"Bearer secret"}, "User-Agent": {"app"}, "Cookie": {"a=b"}, "Accept": {"*/*"}, "Origin": {"https://a"}, "X-Forwarded-For": {"1.2.3.4"},
			"Atproto-Proxy": {"did:web:a#b"}, "Range": {"bytes=0-1"}, "If-None-Match": {"x"}, "Traceparent": {"0"}, "Connection": {"close"}, "Dpop": {"x"}, "X-Atprotox": {"x"},
			"Content-Type": {"text/plain"}, "Content-Encoding": {"gzip"}, "Content-Length": {"10"}, "Transfer-Encoding": {"chunked"}, "Te": {"x"}, "Expect": {"100-continue"},
			"Referer": {"a"}, "Upgrade": {"websocket"}, "Forwarded": {"for=1.2.3.4"},
		}}, "", `
GET /xrpc/a.b HTTP/1.1
Accept-Encoding: gzip;q=0.5, br
Accept-Language: de
Atproto-Accept-Labelers: did:web:a;redact
Authorization: Bearer token
X-Atproto-: z
X-Atproto-Bsky-Topics: y
X-Bsky-Topics: x`},
		{"several values", upstream.Request{Verb: "POST", URL: "/xrpc/a.b", Header: header{
			"Accept-Encoding": {"gzip", "br"}, "Accept-Language": {"de", "en"}, "X-Atproto-A": {"1", "", "2"}, "Content-Type": {"a/b", "c/d"}, "Content-Encoding": {"gzip", "br"},
		}}, "", `
POST /xrpc/a.b HTTP/1.1
Content-Length: 0
Accept-Encoding: gzip, br
Accept-Language: de, en
Content-Encoding: gzip, br
Content-Type: a/b
X-Atproto-A: 1, , 2`},
		{"empty values", upstream.Request{Verb: "GET", URL: "/xrpc/a.b", Header: header{
			"Accept-Encoding": {""}, "Accept-Language": {""}, "X-Bsky-Topics": {""}, "X-Atproto-A": {""}, "Atproto-Accept-Labelers": {""},
		}}, "", `
GET /xrpc/a.b HTTP/1.1
Accept-Encoding: identity
Accept-Language: 
Atproto-Accept-Labelers: 
X-Atproto-A: 
X-Bsky-Topics: `},
		{"encodings of the server's own", upstream.Request{Verb: "GET", URL: "/xrpc/a.b", Encodings: "identity;q=1", Header: header{"Accept-Encoding": {"zstd"}}}, "", `
GET /xrpc/a.b HTTP/1.1
Accept-Encoding: identity;q=1`},
		{"HEAD", upstream.Request{Verb: "HEAD", URL: "/xrpc/a.b?c"}, "", `
HEAD /xrpc/a.b?c HTTP/1.1
Accept-Encoding: identity`},
		{"body of known size", upstream.Request{Verb: "POST", URL: "/xrpc/a.b", Size: 4, Header: header{"Content-Type": {"x/y"}, "Content-Encoding": {"any"}}}, "\x00\xffab", `
POST /xrpc/a.b HTTP/1.1
Content-Length: 4
Accept-Encoding: identity
Content-Encoding: any
Content-Type: x/y`},
		{"body in chunks", upstream.Request{Verb: "POST", URL: "/xrpc/a.b", Size: -1}, "abc", `
POST /xrpc/a.b HTTP/1.1
Transfer-Encoding: chunked
Accept-Encoding: identity`},
		{"no body of a GET", upstream.Request{Verb: "GET", URL: "/xrpc/a.b", Size: 3, Header: header{"Content-Length": {"3"}}, Body: strings.NewReader("abc")}, "", `
GET /xrpc/a.b HTTP/1.1
Accept-Encoding: identity`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := tt.Request
			r.URL = s.URL + r.URL
			if tt.body != "" {
				r.Body = strings.NewReader(tt.body)
			}
			answer, err := c.Send(t.Context(), &r)
			if err != nil {
				t.Fatal(err)
			}
			if r.Verb != "HEAD" {
				if text, err := c.Read(answer); err != nil || string(text) != "{}" {
					t.Errorf("read %q, %v", text, err)
				}
			}
			answer.Body.Close()
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

// Of an answer a client may see few headers, those of the body as they came; of a
// redirect not where it leads.
func TestAnswer(t *testing.T) {
	type header = http.Header
	for _, tt := range []struct {
		name, verb, head, body string
		status                 int
		want                   header
		read                   string
		size                   int64
	}{
		{"all that pass", "GET", `
HTTP/1.1 201 Created
Content-Length: 2
Content-Type: text/x; charset=y
Content-Language: de
Content-Language: en
Content-Encoding: odd
Atproto-Repo-Rev: 1
Atproto-Repo-Rev: 2
Atproto-Content-Labelers: did:web:a
Atproto-Content-Labelers: did:web:b
Retry-After: 3
Set-Cookie: a=b
Cache-Control: no-store
ETag: "x"
Ratelimit-Limit: 1
Location: /x
Date: today
Server: x
Access-Control-Allow-Origin: evil`, "{}", 201, header{
			"Content-Length": {"2"}, "Content-Type": {"text/x; charset=y"}, "Content-Language": {"de", "en"}, "Content-Encoding": {"odd"},
			"Atproto-Repo-Rev": {"1,2"}, "Atproto-Content-Labelers": {"did:web:a,did:web:b"}, "Retry-After": {"3"},
		}, "{}", 2},
		{"nothing", "GET", "HTTP/1.1 200\nContent-Length: 0", "", 200, header{"Content-Length": {"0"}}, "", 0},
		{"chunks", "GET", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked", "1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", 200, header{}, "abc", -1},
		{"to the end of the connection", "GET", "HTTP/1.1 200 OK\nConnection: close", "abc", 200, header{}, "abc", -1},
		{"no content", "POST", "HTTP/1.1 204 No Content", "", 204, header{}, "", 0},
		{"HEAD", "HEAD", "HTTP/1.1 200 OK\nContent-Length: 20000000\nContent-Type: a/b", "", 200, header{"Content-Length": {"20000000"}, "Content-Type": {"a/b"}}, "", 20000000},
		{"redirect", "GET", "HTTP/1.1 302 Found\nLocation: /elsewhere\nContent-Type: text/html\nContent-Length: 5\nAtproto-Repo-Rev: 1", "<html", 302, header{"Content-Type": {"text/html"}, "Content-Length": {"5"}, "Atproto-Repo-Rev": {"1"}}, "<html", 5},
		{"redirect of a POST", "POST", "HTTP/1.1 308 Permanent Redirect\nLocation: /elsewhere\nContent-Length: 0", "", 308, header{"Content-Length": {"0"}}, "", 0},
		{"early hints first", "GET", "HTTP/1.1 103 Early Hints\nLink: x\n\nHTTP/1.1 200 OK\nContent-Length: 1", "a", 200, header{"Content-Length": {"1"}}, "a", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := saying(t, tt.head, tt.body)
			c := upstream.New(upstream.Options{Private: true})
			answer, err := c.Send(t.Context(), &upstream.Request{Verb: tt.verb, URL: s.URL + "/xrpc/a.b"})
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			if answer.Status != tt.status || answer.Size != tt.size {
				t.Errorf("status %d, size %d, want %d, %d", answer.Status, answer.Size, tt.status, tt.size)
			}
			if diff := cmp.Diff(tt.want, answer.Header); diff != "" {
				t.Error(diff)
			}
			if text, err := io.ReadAll(answer.Body); err != nil || string(text) != tt.read {
				t.Errorf("read %q, %v, want %q", text, err, tt.read)
			}
			if _, requests := s.count(); requests != 1 {
				t.Errorf("%d requests", requests)
			}
		})
	}
}

func pack(t testing.TB, text string, encodings ...string) string {
	t.Helper()
	for _, name := range encodings {
		var b bytes.Buffer
		var w io.WriteCloser
		switch name {
		case "gzip":
			w = gzip.NewWriter(&b)
		case "deflate":
			w = zlib.NewWriter(&b)
		case "br":
			w = brotli.NewWriter(&b)
		}
		_, err := io.WriteString(w, text)
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		text = b.String()
	}
	return text
}

// Of an answer of 400 and more what counts is the text of its two fields, however it is
// packed.
func TestRefused(t *testing.T) {
	const said = `{"error":"A","message":"b"}`
	for _, tt := range []struct {
		name, verb, head, body string
		want                   upstream.Refused
	}{
		{"JSON", "GET", "400 X\nContent-Type: application/json", said, upstream.Refused{400, "A", "b", "", ""}},
		{"JSON with a charset", "GET", "401 X\nContent-Type: Application/JSON; charset=utf-8", said, upstream.Refused{401, "A", "b", "", ""}},
		{"JSON of a kind", "GET", "402 X\nContent-Type: application/problem+json", said, upstream.Refused{402, "A", "b", "", ""}},
		{"no type", "POST", "500 X", said, upstream.Refused{500, "A", "b", "", ""}},
		{"an empty type", "POST", "500 X\nContent-Type:", said, upstream.Refused{500, "A", "b", "", ""}},
		{"another type", "GET", "502 X\nContent-Type: text/html", said, upstream.Refused{502, "", "", "", ""}},
		{"a time to wait", "GET", "429 X\nRetry-After: 5\nRatelimit-Limit: 1", said, upstream.Refused{429, "A", "b", "5", ""}},
		{"a revision", "GET", "404 X\nAtproto-Repo-Rev: 3kabc", said, upstream.Refused{404, "A", "b", "", "3kabc"}},
		{"two times", "GET", "429 X\nRetry-After: 5\nRetry-After: 6\nContent-Type: text/plain", said, upstream.Refused{429, "", "", "5,6", ""}},
		{"one field", "GET", "404 X", `{"message":"b"}`, upstream.Refused{404, "", "b", "", ""}},
		{"no texts", "GET", "404 X", `{"error":1,"message":["b"]}`, upstream.Refused{404, "", "", "", ""}},
		{"null", "GET", "404 X", `{"error":null,"message":"b"}`, upstream.Refused{404, "", "b", "", ""}},
		{"other spelling", "GET", "404 X", `{"Error":"A","MESSAGE":"b"}`, upstream.Refused{404, "", "", "", ""}},
		{"twice", "GET", "404 X", `{"error":"A","error":"B"}`, upstream.Refused{404, "B", "", "", ""}},
		{"no object", "GET", "404 X", `["error"]`, upstream.Refused{404, "", "", "", ""}},
		{"no JSON", "GET", "404 X", `{"error":"A","message":"b"`, upstream.Refused{404, "", "", "", ""}},
		{"nothing", "GET", "503 X", ``, upstream.Refused{503, "", "", "", ""}},
		{"HEAD", "HEAD", "404 X", ``, upstream.Refused{404, "", "", "", ""}},
		{"a strange status", "GET", "999 X", said, upstream.Refused{999, "A", "b", "", ""}},
		{"gzip", "GET", "400 X\nContent-Encoding: gzip", pack(t, said, "gzip"), upstream.Refused{400, "A", "b", "", ""}},
		{"gzip by its old name", "GET", "400 X\nContent-Encoding: X-GZIP", pack(t, said, "gzip"), upstream.Refused{400, "A", "b", "", ""}},
		{"deflate", "GET", "400 X\nContent-Encoding: deflate", pack(t, said, "deflate"), upstream.Refused{400, "A", "b", "", ""}},
		{"br", "GET", "400 X\nContent-Encoding: br", pack(t, said, "br"), upstream.Refused{400, "A", "b", "", ""}},
		{"identity", "GET", "400 X\nContent-Encoding: identity", said, upstream.Refused{400, "A", "b", "", ""}},
		{"several", "GET", "400 X\nContent-Encoding: gzip, br\nContent-Encoding: deflate", pack(t, said, "gzip", "br", "deflate"), upstream.Refused{400, "A", "b", "", ""}},
		{"in a row without end", "GET", "400 X\nContent-Encoding: gzip,gzip,gzip,gzip", pack(t, said, "gzip", "gzip", "gzip", "gzip"), upstream.Refused{400, "", "", "", ""}},
		{"not what it says", "GET", "400 X\nContent-Encoding: gzip", said, upstream.Refused{400, "", "", "", ""}},
		{"broken off", "GET", "400 X\nContent-Encoding: gzip", pack(t, said, "gzip")[:20], upstream.Refused{400, "", "", "", ""}},
		{"an unknown encoding", "GET", "400 X\nContent-Encoding: zstd", said, upstream.Refused{400, "", "", "", ""}},
		{"too large", "GET", "400 X", said + strings.Repeat(" ", 64<<10), upstream.Refused{400, "", "", "", ""}},
		{"as large as may be", "GET", "400 X", said + strings.Repeat(" ", 64<<10-len(said)), upstream.Refused{400, "A", "b", "", ""}},
		{"too large unpacked", "GET", "400 X\nContent-Encoding: br", pack(t, said+strings.Repeat(" ", 1<<20), "br"), upstream.Refused{400, "", "", "", ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := saying(t, "HTTP/1.1 "+tt.head+"\nConnection: close", tt.body)
			c := upstream.New(upstream.Options{Private: true})
			_, err := c.Send(t.Context(), &upstream.Request{Verb: tt.verb, URL: s.URL + "/xrpc/a.b"})
			refused, ok := errors.AsType[*upstream.Refused](err)
			if !ok {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, *refused); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Where no answer comes, or none that is HTTP, the service is unreachable.
func TestUnreachable(t *testing.T) {
	silent := newStub(t, func(c net.Conn, _, _ int) bool { c.Read(make([]byte, 1)); return false })
	cut := newStub(t, func(c net.Conn, _, _ int) bool { io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-"); return false })
	hung := newStub(t, func(net.Conn, int, int) bool { return false })
	odd := saying(t, "SSH-2.0-x", "")
	switching := saying(t, "HTTP/1.1 101 Switching Protocols\nUpgrade: x\nConnection: upgrade", "")
	early := saying(t, "HTTP/1.1 007 Bond\nContent-Length: 0", "")
	huge := saying(t, "HTTP/1.1 200 OK\nX: "+strings.Repeat("x", 40<<10), "")
	for _, tt := range []struct{ name, url string }{
		{"nobody listens", "http://127.0.0.1:1/xrpc/a.b"},
		{"no header in time", silent.URL + "/xrpc/a.b"},
		{"closed in the header", cut.URL + "/xrpc/a.b"},
		{"closed before the header", hung.URL + "/xrpc/a.b"},
		{"no HTTP", odd.URL + "/xrpc/a.b"},
		{"another protocol", switching.URL + "/xrpc/a.b"},
		{"no status", early.URL + "/xrpc/a.b"},
		{"a header without end", huge.URL + "/xrpc/a.b"},
		{"no name", "http://nowhere.invalid/xrpc/a.b"},
		{"no host", "http:///xrpc/a.b"},
		{"no URL", "nowhere"},
		{"nothing", ""},
		{"no port", "http://127.0.0.1:x/xrpc/a.b"},
		{"a user", "http://a:b@127.0.0.1/xrpc/a.b"},
		{"another scheme", "ftp://127.0.0.1/xrpc/a.b"},
		{"no path", silent.URL},
		{"a query only", silent.URL + "?a"},
		{"two slashes", silent.URL + "//evil/xrpc/a.b"},
		{"a blank", silent.URL + "/xrpc/a b"},
		{"a line", silent.URL + "/xrpc/a\r\nX: y"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := upstream.New(upstream.Options{Private: true, HeadersTimeout: 100 * time.Millisecond})
			if answer, err := c.Send(t.Context(), &upstream.Request{Verb: "GET", URL: tt.url}); !errors.Is(err, upstream.ErrUnreachable) {
				t.Errorf("got %v, %v", answer, err)
			}
		})
	}
}

// Unless it is for development, nothing is sent without TLS or to an address that is not
// public, however it is written.
func TestPublicOnly(t *testing.T) {
	asked := false
	s := newStub(t, func(net.Conn, int, int) bool { asked = true; return false })
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(s.URL, "http://"))
	c := upstream.New(upstream.Options{Own: []string{s.URL, "https://127.0.0.1:" + port}})
	for _, origin := range []string{
		s.URL, "http://bsky.example", "https://127.0.0.1:" + port, "https://localhost:" + port, "https://[::1]:" + port, "https://[::ffff:127.0.0.1]:" + port,
		"https://0.0.0.0:" + port, "https://[::]:" + port, "https://10.0.0.1", "https://169.254.169.254", "https://[fe80::1%25lo]:" + port, "https://[64:ff9b::7f00:1]:" + port,
		"https://127.1:" + port, "https://2130706433:" + port, "https://0x7f.1:" + port,
	} {
		if answer, err := c.Send(t.Context(), &upstream.Request{Verb: "GET", URL: origin + "/xrpc/a.b"}); !errors.Is(err, upstream.ErrUnreachable) {
			t.Errorf("%s: %v, %v", origin, answer, err)
		}
	}
	if n, _ := s.count(); n != 0 || asked {
		t.Errorf("%d connections were made", n)
	}
}
