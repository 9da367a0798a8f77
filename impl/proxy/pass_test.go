package proxy_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"portico/impl/proxy/upstream"
	"portico/impl/servertest"
)

// do sends a request, and reads the answer as it came.
func (w world) do(r *http.Request) (*http.Response, []byte, error) {
	w.Helper()
	response, err := (&http.Transport{DisableCompression: true, DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response, body, err
}

// raw sends a request of alice byte for byte, and is the status that was answered.
func (w world) raw(verb, target, body string, header ...string) int {
	w.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.URL, "http://"))
	w.Check(err)
	defer conn.Close()
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: pds.test\r\nAuthorization: %s\r\n", verb, target, w.alice.Access)
	if verb == "POST" {
		header = append(header, "Content-Length: "+fmt.Sprint(len(body)))
	}
	for _, line := range header {
		io.WriteString(conn, line+"\r\n")
	}
	io.WriteString(conn, "\r\n"+body)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	w.Check(err)
	return response.StatusCode
}

// request is one to a method, of alice.
func (w world) request(verb, method string, body io.Reader, header ...string) *http.Request {
	w.Helper()
	r, err := http.NewRequestWithContext(w.Context(), verb, w.URL+"/xrpc/"+method, body)
	w.Check(err)
	r.Header.Set("Authorization", w.alice.Access)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header[http.CanonicalHeaderKey(name)] = append(r.Header[http.CanonicalHeaderKey(name)], value)
	}
	return r
}

// headers are those of a request, with the method of its token in the place of that.
func (w world) headers(r servertest.Asked) string {
	h := r.Header.Clone()
	token := w.tokenOf(r.Request, w.alice.DID)
	if h.Get("Authorization") != "" {
		h.Set("Authorization", "Bearer "+token.Lxm)
	}
	var b strings.Builder
	w.Check(h.Write(&b))
	return strings.ReplaceAll(b.String(), "\r\n", "\n")
}

// A service gets the client's verb, path and query as they are, a token for it, and few of
// the client's headers.
func TestWhatAServiceGets(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		name, verb, method, body string
		header                   []string
		want                     string
	}{
		{"bare", "GET", query, "", nil, "Accept-Encoding: identity\n"},
		{"HEAD", "HEAD", query, "", nil, "Accept-Encoding: identity\n"},
		{"path and query", "GET", query + "/?a=%2f+b%20c&&x[]=1;2&é=%zz?#f", "", nil, "Accept-Encoding: identity\n"},
		{"no query", "GET", query + "?", "", nil, "Accept-Encoding: identity\n"},
		{"headers", "GET", query, "", []string{
			"Accept-Encoding: zstd, gzip;q=0.5", "Accept-Language: de-DE,en;q=0.5", "Atproto-Accept-Labelers: did:web:a;redact, did:web:b",
			"X-Bsky-Topics: cats", "x-atproto-anything: goes", "Accept: */*", "User-Agent: App", "Cookie: a=b", "Origin: https://a", "Range: bytes=0-1",
			"If-None-Match: x", "X-Forwarded-For: 203.0.113.7", "Traceparent: 0", "Atproto-Proxy: did:web:appview.example#bsky_appview",
			"Content-Type: text/plain", "X-Ratelimit-Bypass: secret", "Dpop: x", "Referer: https://a",
		}, `Accept-Encoding: zstd, gzip;q=0.5
Accept-Language: de-DE,en;q=0.5
Atproto-Accept-Labelers: did:web:a;redact, did:web:b
X-Atproto-Anything: goes
X-Bsky-Topics: cats
`},
		{"POST without a body", "POST", procedure, "", nil, "Accept-Encoding: identity\nContent-Length: 0\n"},
		{"POST", "POST", procedure, `{"a":1`, []string{"Content-Type: application/json; charset=x", "Content-Encoding: odd", "Accept: */*"},
			"Accept-Encoding: identity\nContent-Encoding: odd\nContent-Length: 6\nContent-Type: application/json; charset=x\n"},
	} {
		w.sub(t, tt.name, func(t *testing.T) {
			if status := w.raw(tt.verb, "/xrpc/"+tt.method, tt.body, tt.header...); status != 200 {
				t.Fatalf("status %d", status)
			}
			asked := one(t, w.AppView)
			if asked.Method != tt.verb || asked.RequestURI != "/xrpc/"+tt.method || string(asked.Body) != tt.body {
				t.Errorf("got %s %s with %q", asked.Method, asked.RequestURI, asked.Body)
			}
			name, _, _ := strings.Cut(tt.method, "?")
			want := sorted(tt.want + "Authorization: Bearer " + strings.TrimSuffix(name, "/"))
			if diff := cmp.Diff(want, sorted(w.headers(asked))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func sorted(text string) []string {
	return slices.Sorted(strings.SplitSeq(strings.TrimSpace(text), "\n"))
}

// Bodies of ten megabytes go both ways as they came, compressed or not.
func TestBodies(t *testing.T) {
	w := newWorld(t)
	large := bytes.Repeat([]byte("0123456789abcdef"), 10<<20/16)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(large)
	z.Close()
	for _, tt := range []struct {
		name     string
		body     []byte
		encoding string
		known    bool
	}{
		{"of known size", large, "", true},
		{"of unknown size", large, "", false},
		{"compressed", packed.Bytes(), "gzip", true},
		{"no gzip at all", []byte("\x00\xff"), "gzip", true},
	} {
		w.sub(t, tt.name, func(t *testing.T) {
			w.AppView.Says(func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Content-Type", "application/x")
				if tt.encoding != "" {
					rw.Header().Set("Content-Encoding", tt.encoding)
				}
				if tt.known {
					rw.Header().Set("Content-Length", fmt.Sprint(len(tt.body)))
				}
				rw.Write(tt.body)
			})
			var body io.Reader = bytes.NewReader(tt.body)
			if !tt.known {
				body = struct{ io.Reader }{body}
			}
			r := w.request("POST", procedure, body, "Content-Type: application/x", "Accept-Encoding: gzip")
			if tt.encoding != "" {
				r.Header.Set("Content-Encoding", tt.encoding)
			}
			response, got, err := w.do(r)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, tt.body) || response.Header.Get("Content-Encoding") != tt.encoding || (response.ContentLength >= 0) != tt.known {
				t.Errorf("%d bytes came back, header %v", len(got), response.Header)
			}
			asked := one(t, w.AppView)
			if !bytes.Equal(asked.Body, tt.body) || asked.Header.Get("Content-Encoding") != tt.encoding || (asked.ContentLength >= 0) != tt.known {
				t.Errorf("%d bytes went there, header %v", len(asked.Body), asked.Header)
			}
		})
	}
}

// Of an answer below 400 a client gets the status, the body and few headers, and beside
// them what every answer of this server has.
func TestAnswers(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		name, verb string
		status     int
		header     map[string][]string
		body       string
		want       string // the header
		wantBody   string
	}{
		{"bare", "GET", 200, nil, "", "Content-Length: 0\n", ""},
		{"all that is passed on", "GET", 201, http.Header{
			"Content-Type": {"a/b"}, "Content-Language": {"de"}, "Atproto-Repo-Rev": {"3k"}, "Atproto-Content-Labelers": {"did:web:a", "did:web:b"}, "Retry-After": {"7"},
			"Content-Encoding": {"br"},
		}, "body", "Atproto-Content-Labelers: did:web:a,did:web:b\nAtproto-Repo-Rev: 3k\nContent-Encoding: br\nContent-Language: de\nContent-Length: 4\nContent-Type: a/b\nRetry-After: 7\n", "body"},
		{"what is not", "GET", 200, http.Header{
			"Content-Type": {"a/b"}, "Set-Cookie": {"a=b"}, "Cache-Control": {"public"}, "Etag": {"x"}, "Ratelimit-Limit": {"1"}, "Vary": {"Origin"}, "Www-Authenticate": {"x"},
			"Access-Control-Allow-Origin": {"https://a"}, "Strict-Transport-Security": {"x"}, "Server": {"x"}, "Location": {"/"}, "Content-Security-Policy": {"x"},
			"Cross-Origin-Resource-Policy":  {"same-origin"},
			"Access-Control-Expose-Headers": {"x"}, "Link": {"x"}, "Content-Disposition": {"x"}, "X-Atproto-A": {"b"}, "Dpop-Nonce": {"x"},
		}, "body", "Content-Length: 4\nContent-Type: a/b\n", "body"},
		{"HEAD", "HEAD", 200, http.Header{"Content-Type": {"a/b"}, "Content-Length": {"1000"}}, "", "Content-Length: 1000\nContent-Type: a/b\n", ""},
		{"nothing", "GET", 204, http.Header{"Atproto-Repo-Rev": {"3k"}}, "", "Atproto-Repo-Rev: 3k\n", ""},
	} {
		w.sub(t, tt.name, func(t *testing.T) {
			w.AppView.Says(func(rw http.ResponseWriter, _ *http.Request) {
				for name, values := range tt.header {
					rw.Header()[name] = values
				}
				if tt.header["Content-Type"] == nil {
					rw.Header()["Content-Type"] = nil
				}
				rw.WriteHeader(tt.status)
				io.WriteString(rw, tt.body)
			})
			response, body, err := w.do(w.request(tt.verb, query, nil))
			if err != nil {
				t.Fatal(err)
			}
			h := response.Header
			for name, want := range map[string]string{
				"Cache-Control": "private", "Vary": "Authorization, Accept-Encoding", "Access-Control-Allow-Origin": "*",
				"Cross-Origin-Resource-Policy": "cross-origin",
			} {
				if got := strings.Join(h[name], " | "); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
				h.Del(name)
			}
			for _, name := range []string{"Date", "Connection", "Access-Control-Expose-Headers", "X-Request-Id"} {
				h.Del(name)
			}
			var b strings.Builder
			w.Check(h.Write(&b))
			if got := strings.ReplaceAll(b.String(), "\r\n", "\n"); response.StatusCode != tt.status || got != tt.want || string(body) != tt.wantBody {
				t.Errorf("got %d %q\n%s\nwant\n%s", response.StatusCode, body, got, tt.want)
			}
		})
	}
}

// A redirect is an answer: nobody goes there, and the client is not told where.
func TestRedirect(t *testing.T) {
	w := newWorld(t)
	w.AppView.Says(func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "/xrpc/elsewhere", http.StatusFound)
	})
	response, _, err := w.do(w.request("GET", query, nil))
	if err != nil || response.StatusCode != 302 || response.Header.Get("Location") != "" {
		t.Errorf("%v, %v", response, err)
	}
	one(t, w.AppView)
}

// Of an answer of 400 and more the client gets its two texts under the same status, except
// that an error within the service is not one of this server.
// Contract §9 row 2: and when to try again.
func TestErrors(t *testing.T) {
	w := newWorld(t)
	says := func(status int, contentType, body string) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", contentType)
			rw.Header().Set("Set-Cookie", "a=b")
			rw.Header().Set("Atproto-Repo-Rev", "3k")
			rw.WriteHeader(status)
			io.WriteString(rw, body)
		}
	}
	const unreachable = "Upstream service unreachable"
	for _, tt := range []struct {
		name           string
		says           http.HandlerFunc
		status         int
		error, message string
	}{
		{"of the service's own", says(400, "application/json", `{"error":"Odd","message":"Not so"}`), 400, "Odd", "Not so"},
		{"500", says(500, "application/json", `{"error":"Odd","message":"Not so"}`), 502, "Odd", "Not so"},
		{"500 without texts", says(500, "application/json", ``), 502, "UpstreamFailure", "Upstream Failure"},
		{"503", says(503, "application/json; charset=x", `{"error":"Odd","message":"Not so","more":1}`), 503, "Odd", "Not so"},
		{"HTML", says(404, "text/html", `<title>{"error":"Odd","message":"Not so"}</title>`), 404, "XRPCNotSupported", "XRPC Not Supported"},
		{"broken JSON", says(403, "application/json", `{"error":"Odd","message":"Not so"`), 403, "Forbidden", "Forbidden"},
		{"other types", says(401, "application/json", `{"error":7,"message":null}`), 401, "AuthenticationRequired", "Authentication Required"},
		{"one text", says(400, "application/json", `{"message":"Not so"}`), 400, "InvalidRequest", "Not so"},
		{"dies before the head", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 502, "UpstreamFailure", unreachable},
	} {
		w.sub(t, tt.name, func(t *testing.T) {
			w.AppView.Says(tt.says)
			a := w.Get(query, w.alice.Access)
			w.Refused(a, tt.status, tt.error, tt.message)
			for _, name := range []string{"Set-Cookie", "Atproto-Repo-Rev", "Retry-After"} {
				if a.Header.Get(name) != "" {
					t.Errorf("%s is passed on", name)
				}
			}
			a = w.Call("HEAD", query, "", w.alice.Access)
			if a.Status != tt.status || a.Body != "" {
				t.Errorf("HEAD: %d %q", a.Status, a.Body)
			}
		})
	}
	if strings.Contains(w.Logged.String(), "level=ERROR") {
		t.Errorf("the log has what others do as errors of this server:\n%s", w.Logged)
	}
	w.AppView.Says(servertest.Answers(429, `{"error":"RateLimitExceeded","message":"Slowly"}`, "Retry-After", "17", "Ratelimit-Limit", "3"))
	a := w.Get(query, w.alice.Access)
	w.Refused(a, 429, "RateLimitExceeded", "Slowly")
	if a.Header.Get("Retry-After") != "17" || a.Header.Get("Ratelimit-Limit") != "" || !strings.Contains(a.Header.Get("Access-Control-Expose-Headers"), "Retry-After") {
		t.Errorf("header %v", a.Header)
	}
}

// A service where nobody listens, and one that takes too long, are unreachable.
func TestUnreachable(t *testing.T) {
	w := newWorld(t)
	w.PublishService("did:web:closed.example", "view", "x", "http://127.0.0.1:1")
	w.Refused(w.Get(query, w.alice.Access, "Atproto-Proxy: did:web:closed.example#view"), 502, "UpstreamFailure", "Upstream service unreachable")
	w.Proxy.Client = upstream.New(upstream.Options{Private: true, HeadersTimeout: 50 * time.Millisecond})
	w.AppView.Says(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	w.Refused(w.Get(query, w.alice.Access), 502, "UpstreamFailure", "Upstream service unreachable")
	// Unless it is for development, private addresses are.
	w.Proxy.Client = upstream.New(upstream.Options{})
	w.Refused(w.Get(query, w.alice.Access), 502, "UpstreamFailure", "Upstream service unreachable")
}

// An answer that breaks off in its body, falls silent in it or is too long is cut for the
// client too, so that it does not take a part for the whole.
func TestAnswersThatBreakOff(t *testing.T) {
	w := newWorld(t)
	for name, says := range map[string]func(rw http.ResponseWriter, r *http.Request){
		"breaks off":  func(rw http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
		"silent":      func(rw http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"without end": func(rw http.ResponseWriter, r *http.Request) { io.Copy(rw, zeros{}) },
	} {
		w.sub(t, name, func(t *testing.T) {
			o := upstream.Options{Private: true, MaxAnswer: 1 << 20}
			if name == "silent" {
				o.BodyTimeout = time.Second
			}
			w.Proxy.Client = upstream.New(o)
			w.AppView.Says(func(rw http.ResponseWriter, r *http.Request) {
				io.WriteString(rw, "half")
				rw.(http.Flusher).Flush()
				says(rw, r)
			})
			_, body, err := w.do(w.request("GET", query, nil))
			if err == nil {
				t.Errorf("read %d bytes as the whole", len(body))
			}
			if !strings.HasPrefix(string(body), "half") {
				t.Errorf("body %.10q", body)
			}
		})
	}
	if strings.Contains(w.Logged.String(), "level=ERROR") {
		t.Errorf("the log has what others do as errors of this server:\n%s", w.Logged)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Each piece of an answer is the client's before the next is there, and so is each piece of
// a body the service's.
func TestPiecesAreNotHeldBack(t *testing.T) {
	w := newWorld(t)
	next := make(chan string)
	w.AppView.Says(func(rw http.ResponseWriter, r *http.Request) {
		for piece := range next {
			io.WriteString(rw, piece)
			rw.(http.Flusher).Flush()
		}
	})
	go func() { next <- "one" }()
	response, err := http.DefaultTransport.RoundTrip(w.request("GET", query, nil, "Accept-Encoding: identity"))
	w.Check(err)
	defer response.Body.Close()
	for _, piece := range []string{"one", "two", "three"} {
		got := make([]byte, len(piece))
		if _, err := io.ReadFull(response.Body, got); err != nil || string(got) != piece {
			t.Fatalf("%q, %v", got, err)
		}
		switch piece {
		case "one":
			next <- "two"
		case "two":
			next <- "three"
		}
	}
	close(next)
	if rest, err := io.ReadAll(response.Body); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
}

// What a client that hung up wanted is not gone on with, whether the answer has begun or
// not, and it is no fault of anybody in the log.
func TestHangUp(t *testing.T) {
	for _, begun := range []bool{false, true} {
		t.Run(fmt.Sprint("answer begun: ", begun), func(t *testing.T) {
			w := newWorld(t)
			there, ended := make(chan struct{}), make(chan struct{})
			w.AppView.Says(func(rw http.ResponseWriter, r *http.Request) {
				if begun {
					io.WriteString(rw, "half")
					rw.(http.Flusher).Flush()
				}
				close(there)
				<-r.Context().Done()
				close(ended)
			})
			ctx, hangUp := context.WithCancel(t.Context())
			over := make(chan struct{})
			go func() {
				defer close(over)
				if response, err := http.DefaultTransport.RoundTrip(w.request("GET", query, nil).WithContext(ctx)); err == nil {
					io.Copy(io.Discard, response.Body)
					response.Body.Close()
				}
			}()
			<-there
			hangUp()
			<-ended
			<-over
		})
	}
}

// A client that hangs up in the middle of its body ends the request, too.
func TestHangUpInTheBody(t *testing.T) {
	w := newWorld(t)
	there := make(chan struct{})
	service := w.NewRaw("did:web:raw.example", "view", func(rw http.ResponseWriter, r *http.Request) {
		io.ReadFull(r.Body, make([]byte, 3))
		there <- struct{}{}
		io.Copy(io.Discard, r.Body) // until the connection is cut
		there <- struct{}{}
	})
	in, out := io.Pipe()
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	r := w.request("POST", procedure, in, "Content-Type: x/y", "Atproto-Proxy: "+service).WithContext(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		if response, err := http.DefaultTransport.RoundTrip(r); err == nil {
			response.Body.Close()
		}
	}()
	io.WriteString(out, "abc")
	<-there
	hangUp()
	<-there
	out.Close()
	<-over
}

// The log says which method of which service it was, and nothing that opens anything.
func TestLog(t *testing.T) {
	w := newWorld(t)
	w.NewUpstream("did:web:other.example", "view")
	w.Accepted(w.Get(query+"?q=private", w.alice.Access, "Atproto-Proxy: did:web:other.example#view"))
	w.Accepted(w.Get(query, w.alice.Access))
	log := w.Logged.String()
	for _, want := range []string{
		"level=INFO msg=request method=app.bsky.feed.getLikes service=did:web:other.example#view verb=GET status=200",
		"level=INFO msg=request method=app.bsky.feed.getLikes service=did:web:appview.example#bsky_appview verb=GET status=200",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log has no %q", want)
		}
	}
	sent := strings.TrimPrefix(one(t, w.AppView).Header.Get("Authorization"), "Bearer ")
	for _, secret := range []string{sent, strings.TrimPrefix(w.alice.Access, "Bearer "), "private"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}

// What another service says may be long, and is not so in the log.
func TestLogOfErrors(t *testing.T) {
	w := newWorld(t)
	long := strings.Repeat("x", 10_000)
	w.AppView.Says(servertest.Answers(400, `{"error":"`+long+`","message":"`+long+`"}`))
	before := len(w.Logged.String())
	w.Refused(w.Get(query, w.alice.Access), 400, long, long)
	w.Accepted(w.Get("com.atproto.server.describeServer"))
	if n := len(w.Logged.String()) - before; n > 2000 {
		t.Errorf("%d bytes of log for two requests", n)
	}
}
