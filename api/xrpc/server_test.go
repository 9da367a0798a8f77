package xrpc

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"
)

// unserved is a fallback that has nothing to say.
func unserved(_ context.Context, c *Call) (*Response, error) {
	return nil, InvalidRequest("No service configured for " + c.NSID)
}

func TestPathsAndVerbs(t *testing.T) {
	url, _ := serveToy(t, Options{Version: "1.2.3", Fallback: unserved})
	const (
		invalidPath = `{"error":"InvalidRequest","message":"invalid xrpc path"}`
		badVerb     = `{"error":"InvalidRequest","message":"XRPC requests only supports GET and POST"}`
		fine        = `{"size":0,"type":"fine"}`
	)
	notFound := func(path string) string {
		return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Error</title>\n</head>\n<body>\n<pre>Cannot GET " +
			path + "</pre>\n</body>\n</html>\n"
	}
	for _, tt := range []struct {
		ask    string
		status int
		body   string
	}{
		{"GET /xrpc/com.example.toy.fail", 200, fine},
		{"GET /xrpc/com.example.toy.fail/", 200, fine},
		{"GET /xrpc/COM.Example.toy.FAIL/?x=1", 200, fine},
		{"GET /XRPC/com.example.toy.fail", 200, fine},
		{"GET /XRPC/_Health/", 200, `{"version":"1.2.3"}`},
		{"HEAD /xrpc/com.example.toy.fail", 200, ""},
		{"GET /xrpc/com.example.toy.echo", 400, `{"error":"InvalidRequest","message":"Incorrect HTTP method (GET) expected POST"}`},
		{"HEAD /xrpc/com.example.toy.echo", 400, ""},
		{"POST /xrpc/com.example.toy.fail", 400, `{"error":"InvalidRequest","message":"Incorrect HTTP method (POST) expected GET"}`},
		{"POST /xrpc/com.example.toy.listThings?limit=x", 400, `{"error":"InvalidRequest","message":"Incorrect HTTP method (POST) expected GET"}`},
		{"PUT /xrpc/com.example.toy.fail", 400, badVerb},
		{"DELETE /xrpc/com.example.toy.echo", 400, badVerb},
		{"PATCH /xrpc/foo", 400, badVerb},
		{"PROPFIND /xrpc/foo", 400, badVerb},
		{"MADEUP /xrpc/foo", 400, badVerb},
		{"DELETE /xrpc/", 400, invalidPath},
		{"GET /xrpc/", 400, invalidPath},
		{"GET /xrpc/a", 400, invalidPath},
		{"GET /xrpc/ab", 400, `{"error":"InvalidRequest","message":"No service configured for ab"}`},
		{"GET /xrpc/ab/?x=1", 400, `{"error":"InvalidRequest","message":"No service configured for ab"}`},
		{"POST /xrpc/com.example.Other", 400, `{"error":"InvalidRequest","message":"No service configured for com.example.Other"}`},
		{"GET /xrpc/.ab", 400, invalidPath},
		{"GET /xrpc/ab.", 400, invalidPath},
		{"GET /xrpc/-ab", 400, invalidPath},
		{"GET /xrpc/ab-", 400, invalidPath},
		{"GET /xrpc/a..b", 400, invalidPath},
		{"GET /xrpc/a--b", 400, invalidPath},
		{"GET /xrpc/a_b", 400, invalidPath},
		{"GET /xrpc/ab/cd", 400, invalidPath},
		{"GET /xrpc/com.example.toy.fail//", 400, invalidPath},
		{"GET /xrpc/com.example.toy.fail/x", 400, invalidPath},
		{"GET /xrpc/com%2eexample.toy.fail", 400, invalidPath},
		{"GET /xrpc/com.e%58ample.toy.fail", 400, invalidPath},
		{"GET /XRPC/com.e%58ample.toy.fail", 404, notFound("/XRPC/com.e%58ample.toy.fail")},
		{"GET /XRPC/com.example.toy.fail//", 404, notFound("/XRPC/com.example.toy.fail//")},
		{"PROPFIND /xrpc/com.example.toy.fail", 400, badVerb},
		{"MADEUP /xrpc/com.example.toy.echo", 400, badVerb},
		{"MADEUP /xrpc/COM.example.toy.echo/", 400, badVerb},
		{"POST /XRPC/com.example.toy.FAIL/", 400, `{"error":"InvalidRequest","message":"Incorrect HTTP method (POST) expected GET"}`},
		{"POST /XRPC/_health", 400, invalidPath},
		{"PUT /xrpc/_health/", 400, invalidPath},
		{"GET /xrpc/_health", 200, `{"version":"1.2.3"}`},
		{"HEAD /xrpc/_health", 200, ""},
		{"POST /xrpc/_health", 400, invalidPath},
		{"GET /hello", 200, "hello"},
	} {
		t.Run(tt.ask, func(t *testing.T) {
			resp, body := do(t, url, tt.ask, "")
			if resp.StatusCode != tt.status || body != tt.body {
				t.Errorf("got %d %s", resp.StatusCode, body)
			}
			if got := resp.Header.Get("Access-Control-Allow-Origin"); got != "*" {
				t.Errorf("Access-Control-Allow-Origin: %q", got)
			}
		})
	}
}

func TestPagesOutsideXRPC(t *testing.T) {
	url, _ := serveToy(t, Options{})
	for ask, want := range map[string]string{
		"GET /xrpc":       "<pre>Cannot GET /xrpc</pre>",
		"GET /XRPC/a.b.c": "<pre>Cannot GET /XRPC/a.b.c</pre>",
		"GET /xrpcx":      "<pre>Cannot GET /xrpcx</pre>",
		"GET /other":      "<pre>Cannot GET /other</pre>",
		"POST /hello":     "<pre>Cannot POST /hello</pre>",
		"PUT /a%3Cb?q=%3": "<pre>Cannot PUT /a%3Cb</pre>",
	} {
		resp, body := do(t, url, ask, "")
		if resp.StatusCode != 404 || !strings.Contains(body, want) || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" ||
			resp.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %d %v %s", ask, resp.StatusCode, resp.Header, body)
		}
	}
}

func TestPreflight(t *testing.T) {
	url, _ := serveToy(t, Options{})
	for _, path := range []string{"/", "/xrpc/com.example.toy.echo", "/xrpc/", "/nowhere"} {
		resp, body := do(t, url, "OPTIONS "+path, "", "Access-Control-Request-Headers: a,b", "Origin: https://x")
		want := map[string]string{
			"Access-Control-Allow-Origin":      "*",
			"Access-Control-Allow-Methods":     "GET,HEAD,PUT,PATCH,POST,DELETE",
			"Access-Control-Allow-Headers":     "a,b",
			"Access-Control-Max-Age":           "86400",
			"Vary":                             "Access-Control-Request-Headers",
			"Access-Control-Allow-Credentials": "",
		}
		for name, value := range want {
			if got := resp.Header.Get(name); got != value {
				t.Errorf("%s: %s: %q", path, name, got)
			}
		}
		if resp.StatusCode != 204 || body != "" {
			t.Errorf("%s: %d %q", path, resp.StatusCode, body)
		}
	}
}

func TestHealthFailing(t *testing.T) {
	url, log := serveToy(t, Options{Version: "9", Health: func(context.Context) error { return errors.New("no disk") }})
	resp, body := do(t, url, "GET /xrpc/_health", "")
	if resp.StatusCode != 503 || body != `{"version":"9","error":"Service Unavailable"}` {
		t.Errorf("got %d %s", resp.StatusCode, body)
	}
	log.wait(t, "no disk")
}

func TestOrder(t *testing.T) {
	// params → auth → body → handler, on a method that has all of them.
	e := echo.New()
	s := NewServer(e, Options{Logger: slog.New(slog.DiscardHandler)})
	r := s.On(e)
	r.POST("/xrpc/com.example.toy.both", Handle(&toyBoth,
		Policy[Args[FailParams, EchoInputInner]]{Auth: bearer{}, Limits: GlobalLimitOnly[Args[FailParams, EchoInputInner]]()}, WithParams(toy{}.Both)))
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(e)
	defer srv.Close()
	for _, tt := range []struct {
		name, query, body string
		headers           []string
		status            int
		want              string
		private           bool
	}{
		{"params first", "?how=a&how=b", `{`, nil, 400, failure("InvalidRequest", `Invalid com.example.toy.both params: Expected string value type (got ["a", "b"])`), false},
		{"then auth", "?how=a", `{`, nil, 401, failure("AuthenticationRequired", "Authentication Required"), true},
		{"then body", "?how=a", `{"deep":6}`, []string{"Authorization: Bearer good", "Content-Type: application/json"}, 400, failure("InvalidRequest", "integer too big (maximum 5, got 6) at $.deep"), true},
		{"then handler", "?how=a", `{"deep":5}`, []string{"Authorization: Bearer good", "Content-Type: application/json"}, 200, `{"size":5,"type":"a"}`, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := do(t, srv.URL, "POST /xrpc/com.example.toy.both"+tt.query, tt.body, tt.headers...)
			if resp.StatusCode != tt.status || body != tt.want {
				t.Errorf("got %d %s", resp.StatusCode, body)
			}
			cache, vary := resp.Header.Get("Cache-Control"), resp.Header.Get("Vary")
			if tt.private && (cache != "private" || vary != "Authorization, Accept-Encoding") || !tt.private && (cache != "" || vary != "Accept-Encoding") {
				t.Errorf("Cache-Control %q, Vary %q", cache, vary)
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	url, _ := serveToy(t, Options{})
	t.Run("output", func(t *testing.T) {
		resp, body := do(t, url, "GET /xrpc/com.example.toy.listThings?repo=a.test", "")
		if resp.StatusCode != 200 || body != `{"repo":"a.test","limit":50,"cids":[],"numbers":[]}` {
			t.Errorf("got %d %s", resp.StatusCode, body)
		}
		if resp.Header.Get("Content-Type") != "application/json; charset=utf-8" || resp.ContentLength != int64(len(body)) {
			t.Errorf("header %v", resp.Header)
		}
	})
	t.Run("no output", func(t *testing.T) {
		resp, body := do(t, url, "POST /xrpc/com.example.toy.ping", "", "Authorization: Bearer good")
		if _, typed := resp.Header["Content-Type"]; resp.StatusCode != 200 || body != "" || typed || resp.ContentLength != 0 {
			t.Errorf("got %d %q %v", resp.StatusCode, body, resp.Header)
		}
	})
	t.Run("stream", func(t *testing.T) {
		resp, body := do(t, url, "GET /xrpc/com.example.toy.download", "")
		if body != "0123456789" || resp.Header.Get("Content-Type") != "application/vnd.ipld.car" {
			t.Errorf("got %q %v", body, resp.Header)
		}
		resp, body = do(t, url, "GET /xrpc/com.example.toy.download?how=sized", "")
		if body != "0123456789" || resp.Header.Get("Content-Type") != "application/x-sized" || resp.ContentLength != 10 {
			t.Errorf("got %q %v", body, resp.Header)
		}
		resp, body = do(t, url, "HEAD /xrpc/com.example.toy.download?how=sized", "")
		if body != "" || resp.ContentLength != 10 {
			t.Errorf("got %q %v", body, resp.Header)
		}
	})
	t.Run("broken stream", func(t *testing.T) {
		for _, how := range []string{"broken", "short", "panic"} {
			resp, err := plainHTTP.Get(url + "/xrpc/com.example.toy.download?how=" + how)
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			if err == nil {
				t.Errorf("%s: client read a broken stream to its end", how)
			}
		}
	})
}

func TestErrors(t *testing.T) {
	url, log := serveToy(t, Options{CheckOutput: true})
	internal := `{"error":"InternalServerError","message":"Internal Server Error"}`
	for _, tt := range []struct {
		how    string
		status int
		want   string
		logged string
	}{
		{"declared", 401, `{"error":"Declared","message":"as declared"}`, "error=Declared"},
		{"hand", 403, `{"error":"ToyUndeclared","message":"by hand"}`, "error=ToyUndeclared"},
		{"unknown", 500, internal, "does not declare the error it answered"},
		{"plain", 500, internal, "secret cause"},
		{"named500", 500, internal, "status=500"},
		{"panic", 500, internal, "secret panic"},
		{"nothing", 500, internal, "neither output nor error"},
		{"bad", 500, internal, "does not fit the lexicon"},
		{"upstream", 502, `{"error":"UpstreamFailure","message":"Unable"}`, "plc down"},
		{"notimplemented", 501, `{"error":"MethodNotImplemented","message":"Method Not Implemented"}`, "status=501"},
	} {
		t.Run(tt.how, func(t *testing.T) {
			resp, body := do(t, url, "GET /xrpc/com.example.toy.fail?how="+tt.how, "", "Authorization: Bearer topsecret")
			if resp.StatusCode != tt.status || body != tt.want {
				t.Errorf("got %d %s", resp.StatusCode, body)
			}
			if resp.Header.Get("Content-Type") != "application/json; charset=utf-8" {
				t.Errorf("header %v", resp.Header)
			}
			for line := range strings.Lines(log.wait(t, tt.logged)) {
				if !strings.Contains(line, "method=com.example.toy.fail") {
					t.Errorf("log: %s", line)
				}
			}
		})
	}
	if strings.Contains(log.String(), "topsecret") || strings.Contains(log.String(), "how=") {
		t.Error("log has credentials or a query")
	}
	if !strings.Contains(log.String(), "stack=") {
		t.Error("log has no stack")
	}
	resp, body := do(t, url, "GET /xrpc/com.example.toy.fail?how=header", "")
	if resp.StatusCode != 401 || body != `{"error":"AuthenticationRequired","message":"dpop"}` || resp.Header.Get("WWW-Authenticate") != "DPoP" {
		t.Errorf("got %d %s %v", resp.StatusCode, body, resp.Header)
	}
	if diff := cmp.Diff([]string{"DPoP-Nonce", "WWW-Authenticate"}, resp.Header.Values("Access-Control-Expose-Headers")); diff != "" {
		t.Error(diff)
	}
}

func TestDefaultErrors(t *testing.T) {
	for status, want := range map[int]string{
		400: "InvalidRequest: Invalid Request", 401: "AuthenticationRequired: Authentication Required",
		403: "Forbidden: Forbidden", 404: "XRPCNotSupported: XRPC Not Supported", 406: "NotAcceptable: Not Acceptable",
		413: "PayloadTooLarge: Payload Too Large", 415: "UnsupportedMediaType: Unsupported Media Type",
		429: "RateLimitExceeded: Rate Limit Exceeded", 500: "InternalServerError: Internal Server Error",
		501: "MethodNotImplemented: Method Not Implemented", 502: "UpstreamFailure: Upstream Failure",
		503: "NotEnoughResources: Not Enough Resources", 504: "UpstreamTimeout: Upstream Timeout",
		418: "InvalidRequest: Invalid Request", 599: "InternalServerError: Internal Server Error",
		0: "InternalServerError: Internal Server Error",
	} {
		e := &Error{Status: status}
		if got := e.name() + ": " + e.message(); got != want {
			t.Errorf("%d: %s", status, got)
		}
	}
}

func compressed(encoding, text string) string {
	var b bytes.Buffer
	var w io.WriteCloser
	switch encoding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "deflate":
		w = zlib.NewWriter(&b)
	case "br":
		w = brotli.NewWriter(&b)
	}
	io.WriteString(w, text)
	w.Close()
	return b.String()
}

func TestBodies(t *testing.T) {
	url, _ := serveToy(t, Options{})
	const typ = "Content-Type: application/json"
	big := `{"name":"a","x":"` + strings.Repeat("0", 153600) + `"}`
	fits := `{"name":"a","x":"` + strings.Repeat("0", 153600-19) + `"}`
	const ok = `{"name":"a","count":1}`
	const missing = `{"error":"InvalidRequest","message":"Missing required key \"name\" at $"}`
	const noType = `{"error":"InvalidRequest","message":"Request encoding (Content-Type) required but not provided"}`
	const tooLarge = `{"error":"PayloadTooLargeError","message":"request entity too large"}`
	const badHeader = `{"error":"Error","message":"incorrect header check"}`
	const endOfFile = `{"error":"Error","message":"unexpected end of file"}`
	for _, tt := range []struct {
		name    string
		body    string
		headers []string
		status  int
		want    string
	}{
		{"fine", `{"name":"a"}`, []string{typ}, 200, ok},
		{"parameters", `{"name":"a"}`, []string{typ + `; charset="UTF-8"; x=y`}, 200, ok},
		{"empty parameter", `{"name":"a"}`, []string{typ + ";"}, 200, ok},
		{"type in any case", `{"name":"a"}`, []string{"Content-Type: Application/JSON"}, 200, ok},
		{"no type", `{}`, nil, 400, noType},
		{"no type at all", `{}`, []string{"Content-Type: foo"}, 400, noType},
		{"several types", `{}`, []string{"Content-Type: application/json, a/b"}, 400, `{"error":"InvalidRequest","message":"Wrong request encoding (Content-Type): application/json, a/b"}`},
		{"other type", `{}`, []string{"Content-Type: text/plain; x"}, 400, `{"error":"InvalidRequest","message":"Wrong request encoding (Content-Type): text/plain"}`},
		{"longer type", `{}`, []string{"Content-Type: application/json5"}, 400, `{"error":"InvalidRequest","message":"Wrong request encoding (Content-Type): application/json5"}`},
		{"latin1", `{}`, []string{typ + "; charset=latin1"}, 415, `{"error":"UnsupportedMediaTypeError","message":"unsupported charset \"LATIN1\""}`},
		{"unknown utf", `{}`, []string{typ + "; charset=utf-99"}, 415, `{"error":"UnsupportedMediaTypeError","message":"unsupported charset \"UTF-99\""}`},
		{"utf-16", "{\x00\"\x00n\x00a\x00m\x00e\x00\"\x00:\x00\"\x00a\x00\"\x00}\x00", []string{typ + "; charset=utf-16"}, 200, ok},
		{"byte order mark", "\ufeff" + `{"name":"a"}`, []string{typ}, 200, ok},
		{"identity", `{"name":"a"}`, []string{typ, "Content-Encoding: identity"}, 200, ok},
		{"gzip", compressed("gzip", `{"name":"a"}`), []string{typ, "Content-Encoding: GZIP"}, 200, ok},
		{"deflate", compressed("deflate", `{"name":"a"}`), []string{typ, "Content-Encoding: deflate"}, 200, ok},
		{"br", compressed("br", `{"name":"a"}`), []string{typ, "Content-Encoding: br"}, 200, ok},
		{"unknown coding", `{}`, []string{typ, "Content-Encoding: foo"}, 415, `{"error":"UnsupportedMediaTypeError","message":"unsupported content encoding \"foo\""}`},
		{"two codings", `{}`, []string{typ, "Content-Encoding: gzip, gzip"}, 415, `{"error":"UnsupportedMediaTypeError","message":"unsupported content encoding \"gzip, gzip\""}`},
		{"not gzip", `{"name":"a"}`, []string{typ, "Content-Encoding: gzip"}, 400, badHeader},
		{"not gzip and short", `{}`, []string{typ, "Content-Encoding: gzip"}, 400, badHeader},
		{"not deflate", `{}`, []string{typ, "Content-Encoding: deflate"}, 400, badHeader},
		{"not br", `{"name":"a"}`, []string{typ, "Content-Encoding: br"}, 400, `{"error":"Error","message":"Decompression failed"}`},
		{"half gzip", compressed("gzip", fits)[:50], []string{typ, "Content-Encoding: gzip"}, 400, endOfFile},
		{"large", big, []string{typ}, 413, tooLarge},
		{"large when decoded", compressed("gzip", big), []string{typ, "Content-Encoding: gzip"}, 413, tooLarge},
		{"as large as can be", fits, []string{typ}, 200, ok},
		{"as large as can be decoded", compressed("br", fits), []string{typ, "Content-Encoding: br"}, 200, ok},
		{"null", `null`, []string{typ}, 400, `{"error":"SyntaxError","message":"Unexpected token 'n', the body is not a JSON object"}`},
		{"number", ` 5`, []string{typ}, 400, `{"error":"SyntaxError","message":"Unexpected token '5', the body is not a JSON object"}`},
		{"string", `"x"`, []string{typ}, 400, `{"error":"SyntaxError","message":"Unexpected token '\"', the body is not a JSON object"}`},
		{"blank", "  ", []string{typ}, 400, `{"error":"SyntaxError","message":"Unexpected end of JSON input"}`},
		{"unfinished", `{"a":`, []string{typ}, 400, `{"error":"SyntaxError","message":"Unexpected end of JSON input"}`},
		{"comma", `{"a":1,}`, []string{typ}, 400, `{"error":"SyntaxError","message":"Unexpected token '}' in JSON at position 7"}`},
		{"two values", `{} {}`, []string{typ}, 400, `{"error":"SyntaxError","message":"Unexpected token '{' in JSON at position 3"}`},
		{"array", `[1,2,3]`, []string{typ}, 400, `{"error":"InvalidRequest","message":"Expected object value type (got [1, 2, ...]) at $"}`},
		{"proto", `{"name":5,"x":[{"__pro\u0074o__":1}]}`, []string{typ}, 400, `{"error":"InvalidRequest","message":"Invalid key: __proto__"}`},
		{"schema", `{}`, []string{typ}, 400, missing},
		{"last duplicate wins", `{"name":5,"name":"a"}`, []string{typ}, 200, ok},
		{"last duplicate fails", `{"name":"a","name":5}`, []string{typ}, 400, `{"error":"InvalidRequest","message":"Expected string value type (got 5) at $.name"}`},
		{"case counts", `{"NAME":"b","name":"a","Name":5,"\u004eame":1,"COUNT":[]}`, []string{typ}, 200, ok},
		{"case counts below", `{"name":"a","inner":{"DEEP":"x","deep":1.0,"ſ":1}}`, []string{typ}, 200, `{"name":"a","count":1,"inner":{"deep":1}}`},
		{"case is no key", `{"NAME":"b"}`, []string{typ}, 400, missing},
		{"unknown keys", `{"name":"a","other":{"x":[null,1e5]}}`, []string{typ}, 200, ok},
		{"escaped key", `{"n\u0061me":"a"}`, []string{typ}, 200, ok},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := do(t, url, "POST /xrpc/com.example.toy.echo", tt.body, tt.headers...)
			if resp.StatusCode != tt.status || body != tt.want {
				t.Errorf("got %d %.300s", resp.StatusCode, body)
			}
		})
	}
}

// raw sends bytes as they are, for what http.Client would mend.
func raw(t *testing.T, url, request string) (int, string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, strings.ReplaceAll(request, "\n", "\r\n"))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

func TestBodyPresence(t *testing.T) {
	url, _ := serveToy(t, Options{})
	const provided = `{"error":"InvalidRequest","message":"A request body was provided when none was expected"}`
	for _, tt := range []struct {
		name, request string
		status        int
		want          string
	}{
		{"none", "POST /xrpc/com.example.toy.echo HTTP/1.1\nHost: x\n\n", 400, `{"error":"InvalidRequest","message":"A request body is expected but none was provided"}`},
		{"length 0, no type", "POST /xrpc/com.example.toy.echo HTTP/1.1\nHost: x\nContent-Length: 0\n\n", 400, `{"error":"InvalidRequest","message":"Request encoding (Content-Type) required but not provided"}`},
		{"length 0", "POST /xrpc/com.example.toy.echo HTTP/1.1\nHost: x\nContent-Length: 0\nContent-Type: application/json\n\n", 400, `{"error":"InvalidRequest","message":"Missing required key \"name\" at $"}`},
		{"length 0 is {}", "POST /xrpc/com.example.toy.both?how=x HTTP/1.1\nHost: x\nContent-Length: 0\nContent-Type: application/json\n\n", 200, `{"size":0,"type":"x"}`},
		{"empty chunks are {}", "POST /xrpc/com.example.toy.both HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\nContent-Type: application/json\n\n0\n\n", 200, `{"size":0,"type":""}`},
		{"chunks", "POST /xrpc/com.example.toy.both HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\nContent-Type: application/json\n\n4\n{\"de\n6\nep\":3}\n0\n\n", 200, `{"size":3,"type":""}`},
		{"broken chunks", "POST /xrpc/com.example.toy.both HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\nContent-Type: application/json\n\nzz\n", 400, `{"error":"Error","message":"request body could not be read"}`},
		{"length 0, gzip", "POST /xrpc/com.example.toy.echo HTTP/1.1\nHost: x\nContent-Length: 0\nContent-Type: application/json\nContent-Encoding: gzip\n\n", 400, `{"error":"Error","message":"unexpected end of file"}`},
		{"unexpected none", "POST /xrpc/com.example.toy.ping HTTP/1.1\nHost: x\nAuthorization: Bearer good\nContent-Type: foo\n\n", 200, ""},
		{"unexpected length 0", "POST /xrpc/com.example.toy.ping HTTP/1.1\nHost: x\nAuthorization: Bearer good\nContent-Length: 0\nContent-Type: text/plain\n\n", 200, ""},
		{"unexpected empty chunks", "POST /xrpc/com.example.toy.ping HTTP/1.1\nHost: x\nAuthorization: Bearer good\nTransfer-Encoding: chunked\n\n0\n\n", 200, ""},
		{"unexpected data", "POST /xrpc/com.example.toy.ping HTTP/1.1\nHost: x\nAuthorization: Bearer good\nContent-Length: 2\n\n{}", 400, provided},
		{"unexpected chunk", "POST /xrpc/com.example.toy.ping HTTP/1.1\nHost: x\nAuthorization: Bearer good\nTransfer-Encoding: chunked\n\n2\n{}\n0\n\n", 400, provided},
		{"unexpected broken chunk", "POST /xrpc/com.example.toy.ping HTTP/1.1\nHost: x\nAuthorization: Bearer good\nTransfer-Encoding: chunked\n\nzz\n", 400, `{"error":"InvalidRequest","message":"Failed to process unexpected request body"}`},
		{"query with data", "GET /xrpc/com.example.toy.fail HTTP/1.1\nHost: x\nContent-Length: 2\n\n{}", 400, provided},
		{"query with length 0", "GET /xrpc/com.example.toy.fail HTTP/1.1\nHost: x\nContent-Length: 0\n\n", 200, `{"size":0,"type":"fine"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if status, body := raw(t, url, tt.request); status != tt.status || body != tt.want {
				t.Errorf("got %d %s", status, body)
			}
		})
	}
}

func TestStreamedInput(t *testing.T) {
	url, _ := serveToy(t, Options{})
	good := "Authorization: Bearer good"
	for _, tt := range []struct {
		name, method, body string
		headers            []string
		status             int
		want               string
	}{
		{"fine", "upload", "0123456789", []string{good, "Content-Type: image/png; a=b"}, 200, `{"size":10,"type":"image/png; a=b"}`},
		{"compressed", "upload", compressed("gzip", "0123456789"), []string{good, "Content-Type: image/png", "Content-Encoding: gzip"}, 200, `{"size":10,"type":"image/png"}`},
		{"as large as can be", "upload", strings.Repeat("x", 1000), []string{good, "Content-Type: a/b"}, 200, `{"size":1000,"type":"a/b"}`},
		{"too large", "upload", strings.Repeat("x", 1001), []string{good, "Content-Type: a/b"}, 413, failure("PayloadTooLarge", "request entity too large")},
		{"too large when decoded", "upload", compressed("gzip", strings.Repeat("x", 1001)), []string{good, "Content-Type: a/b", "Content-Encoding: gzip"}, 413, failure("PayloadTooLarge", "request entity too large")},
		{"broken", "upload", compressed("gzip", strings.Repeat("x", 900))[:15], []string{good, "Content-Type: a/b", "Content-Encoding: gzip"}, 400, failure("Error", "unexpected end of file")},
		{"no type", "upload", "x", []string{good}, 400, failure("InvalidRequest", "Request encoding (Content-Type) required but not provided")},
		{"listed", "images", "x", []string{"Content-Type: IMAGE/png"}, 200, ""},
		{"wildcard", "images", "x", []string{"Content-Type: video/mp4"}, 200, ""},
		{"not listed", "images", "x", []string{"Content-Type: image/gif"}, 400, failure("InvalidRequest", "Wrong request encoding (Content-Type): image/gif")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := do(t, url, "POST /xrpc/com.example.toy."+tt.method, tt.body, tt.headers...)
			if resp.StatusCode != tt.status || body != tt.want {
				t.Errorf("got %d %s", resp.StatusCode, body)
			}
		})
	}
}

func TestParams(t *testing.T) {
	url, _ := serveToy(t, Options{})
	for _, tt := range []struct{ query, want string }{
		{"", `Missing required key "repo"`},
		{"?repo=", `Missing required key "repo"`},
		{"?repo", `Missing required key "repo"`},
		{"?limit=x", `Expected integer value type (got "x")`},
		{"?repo=!&limit=1.5", `Expected integer value type (got "1.5")`},
		{"?repo=!&limit=500", `Invalid AT identifier (got "!")`},
		{"?repo=did:x", `Invalid AT identifier (got "did:x")`},
		{"?%72epo=%21", `Invalid AT identifier (got "!")`},
		{"?repo=%zz", `Invalid AT identifier (got "%zz")`},
		{"?repo=%ff%41", `Invalid AT identifier (got "` + "\ufffd" + `A")`},
		{"?repo=a+b;c", `Invalid AT identifier (got "a b;c")`},
		{"?repo=a.test&repo=b.test", `Expected string value type (got ["a.test", "b.test"])`},
		{"?repo=1&repo=2&repo=3", `Expected string value type (got ["1", "2", ...])`},
		{"?repo=d%C3%A9&repo=%F0%9F%98%80", `Expected string value type (got ["dé", "😀"])`},
		{"?repo=a.test&limit=500", `integer too big (maximum 100, got 500)`},
		{"?repo=a.test&limit=0", `integer too small (minimum 1, got 0)`},
		{"?repo=a.test&limit=-0", `integer too small (minimum 1, got 0)`},
		{"?repo=a.test&limit=1&limit=2", `Expected integer value type (got [1, 2])`},
		{"?repo=a.test&limit=1&limit=x", `Expected integer value type (got "x")`},
		{"?repo=a.test&limit=+5", `Expected integer value type (got " 5")`},
		{"?repo=a.test&limit=1e1", `Expected integer value type (got "1e1")`},
		{"?repo=a.test&limit=9007199254740993", `Expected integer value type (got 9007199254740992)`},
		{"?repo=a.test&limit=" + strings.Repeat("9", 400), `Expected integer value type (got Infinity)`},
		{"?repo=a.test&reverse=1", `Expected boolean value type (got "1")`},
		{"?repo=a.test&reverse=TRUE", `Expected boolean value type (got "TRUE")`},
		{"?repo=a.test&reverse=true&reverse=false", `Expected boolean value type (got [true, false])`},
		{"?reverse=x&limit=y", `Expected boolean value type (got "x")`},
		{"?limit=1&reverse=x&limit=y", `Expected integer value type (got "y")`},
		{"?repo=a.test&cids=1", `Invalid CID string (got "1")`},
		{"?repo=a.test&collection=x", `Invalid NSID (got "x")`},
		{"?repo=a.test&long=" + strings.Repeat("x", 3000), `string too big (maximum 2048, got 3000)`},
		{"?repo=a.test&long=" + strings.Repeat("%C3%A9", 1025), `string too big (maximum 2048, got 2050)`},
	} {
		t.Run(tt.query, func(t *testing.T) {
			resp, body := do(t, url, "GET /xrpc/com.example.toy.listThings"+tt.query, "")
			if want := failure("InvalidRequest", "Invalid com.example.toy.listThings params: "+tt.want); resp.StatusCode != 400 || body != want {
				t.Errorf("got %d %s", resp.StatusCode, body)
			}
		})
	}
	for query, want := range map[string]string{
		"?repo=a.test&repo=&limit=&limit=2":    `{"repo":"a.test","limit":2,"cids":[],"numbers":[]}`,
		"?repo=a.test&limit=007&reverse=false": `{"repo":"a.test","limit":7,"reverse":false,"cids":[],"numbers":[]}`,
		"?repo=a.test&cids=" + someCID + "&cids=&cids=QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKyVnN": `{"repo":"a.test","limit":50,"cids":["` +
			someCID + `","QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKyVnN"],"numbers":[]}`,
		"?repo=a.test&numbers=-1&numbers=2":               `{"repo":"a.test","limit":50,"cids":[],"numbers":[-1,2]}`,
		"?repo=a.test&cids[]=x&cids[0]=y&__proto__=5&=&&": `{"repo":"a.test","limit":50,"cids":[],"numbers":[]}`,
	} {
		if resp, body := do(t, url, "GET /xrpc/com.example.toy.listThings"+query, ""); resp.StatusCode != 200 || body != want {
			t.Errorf("%s: got %d %s", query, resp.StatusCode, body)
		}
	}
	for key, want := range map[string]string{
		"cids": "cids", "cids[]": "cids", "cids[0]": "cids", "cids[12]": "cids", "[]": "", "[]]": "[]]", "cids[": "cids[", "cids]": "cids]", "cids[x]": "cids[x]", "cids[0][1]": "cids[0][1]",
	} {
		if got := withoutBrackets(key); got != want {
			t.Errorf("loose: %s is %s", key, got)
		}
	}
	if resp, body := do(t, url, "POST /xrpc/com.example.toy.ping?unknown=%zz", "", "Authorization: Bearer good"); resp.StatusCode != 200 {
		t.Errorf("unknown keys on a procedure: %d %s", resp.StatusCode, body)
	}
}

func TestCompression(t *testing.T) {
	url, _ := serveToy(t, Options{})
	long := "GET /xrpc/com.example.toy.listThings?repo=long.test"
	plain, want := do(t, url, long, "")
	if plain.Header.Get("Content-Encoding") != "" || plain.Header.Get("Vary") != "Accept-Encoding" || len(want) < 5000 {
		t.Fatalf("%v %s", plain.Header, want)
	}
	for accept, encoding := range map[string]string{
		"gzip": "gzip", "deflate": "deflate", "br": "br", "gzip, deflate, br": "br", "*": "br",
		"gzip;q=1, br;q=0.5": "gzip", "br;q=0, *": "gzip", "identity": "", "gzip;q=0": "", "zstd": "", "gzip;q=x": "",
	} {
		resp, body := do(t, url, long, "", "Accept-Encoding: "+accept)
		if got := resp.Header.Get("Content-Encoding"); got != encoding {
			t.Errorf("%s: %s", accept, got)
			continue
		}
		if resp.ContentLength != int64(len(body)) || resp.Header.Get("Etag") != plain.Header.Get("Etag") {
			t.Errorf("%s: %v", accept, resp.Header)
		}
		var r io.Reader = strings.NewReader(body)
		switch encoding {
		case "gzip":
			r, _ = gzip.NewReader(r)
		case "deflate":
			r, _ = zlib.NewReader(r)
		case "br":
			r = brotli.NewReader(r)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != want {
			t.Errorf("%s: %v", accept, err)
		}
	}
	if resp, _ := do(t, url, "GET /xrpc/com.example.toy.fail", "", "Accept-Encoding: gzip"); resp.Header.Get("Content-Encoding") != "" {
		t.Error("short answer is compressed")
	}
}

func TestEntityTags(t *testing.T) {
	url, _ := serveToy(t, Options{})
	const ask = "GET /xrpc/com.example.toy.fail"
	resp, _ := do(t, url, ask, "")
	tag := resp.Header.Get("Etag")
	if !strings.HasPrefix(tag, `W/"`) {
		t.Fatalf("tag %s", tag)
	}
	for _, tt := range []struct {
		want   string
		cache  string
		status int
	}{
		{tag, "", 304}, {strings.TrimPrefix(tag, "W/"), "", 304}, {`"x", ` + tag, "", 304}, {"*", "", 304}, {`"x"`, "", 200}, {tag, "no-cache", 200},
	} {
		resp, body := do(t, url, ask, "", "If-None-Match: "+tt.want, "Cache-Control: "+tt.cache)
		if resp.StatusCode != tt.status || (tt.status == 304) != (body == "") || resp.Header.Get("Etag") != tag {
			t.Errorf("%v: %d %s", tt, resp.StatusCode, body)
		}
	}
}

func TestRateLimits(t *testing.T) {
	now := time.Unix(1_000_000, 500_000_000)
	clock := func() time.Time { return now }
	url, _ := serveToy(t, Options{Now: clock, Callers: always(Callers{Limiter: NewMemoryLimiter(clock), BypassKey: "open sesame"})})
	const typ = "Content-Type: application/json"
	call := func(name string, headers ...string) *http.Response {
		resp, _ := do(t, url, "POST /xrpc/com.example.toy.echo", `{"name":"`+name+`"}`, append(headers, typ)...)
		return resp
	}
	check := func(resp *http.Response, status int, limit, remaining, reset, policy, retry string) {
		t.Helper()
		got := []string{resp.Header.Get("RateLimit-Limit"), resp.Header.Get("RateLimit-Remaining"), resp.Header.Get("RateLimit-Reset"), resp.Header.Get("RateLimit-Policy"), resp.Header.Get("Retry-After")}
		if diff := cmp.Diff([]string{limit, remaining, reset, policy, retry}, got); diff != "" || resp.StatusCode != status {
			t.Errorf("%d %s", resp.StatusCode, diff)
		}
	}
	resp := call("a")
	check(resp, 200, "2", "1", "1000060", "2;w=60", "")
	if got := resp.Header.Values("Access-Control-Expose-Headers"); cmp.Diff([]string{"RateLimit-Limit, RateLimit-Reset, RateLimit-Remaining, RateLimit-Policy"}, got) != "" {
		t.Error(got)
	}
	check(call("a"), 200, "2", "0", "1000060", "2;w=60", "")
	check(call("b"), 200, "2", "1", "1000060", "2;w=60", "")
	now = now.Add(100 * time.Millisecond)
	resp, body := do(t, url, "POST /xrpc/com.example.toy.echo", `{"name":"a"}`, typ)
	check(resp, 429, "2", "0", "1000060", "2;w=60", "60")
	if body != `{"error":"RateLimitExceeded","message":"Rate Limit Exceeded"}` {
		t.Error(body)
	}
	if got := resp.Header.Values("Access-Control-Expose-Headers"); len(got) != 2 || got[1] != "Retry-After" {
		t.Error(got)
	}
	// Five calls in all reach the limit by address; refused ones count.
	check(call("c"), 200, "5", "0", "1003600", "5;w=3600", "")
	check(call("d"), 429, "5", "0", "1003600", "5;w=3600", "3600")
	check(call("d", "X-RateLimit-Bypass: open sesame"), 200, "", "", "", "", "")
	check(call("d", "X-RateLimit-Bypass: wrong"), 429, "5", "0", "1003600", "5;w=3600", "3600")
	// What fails earlier is not counted.
	resp, _ = do(t, url, "POST /xrpc/com.example.toy.echo", `{}`, typ)
	check(resp, 400, "", "", "", "", "")
	resp, _ = do(t, url, "GET /xrpc/com.example.toy.echo", "")
	check(resp, 400, "", "", "", "", "")
	// Unknown methods take from the global limit, which all of the above did, too.
	resp, _ = do(t, url, "GET /xrpc/com.foo.bar", "")
	check(resp, 501, "3000", "2992", "1000300", "3000;w=300", "")
	resp, _ = do(t, url, "PUT /xrpc/com.example.toy.echo", "")
	check(resp, 400, "3000", "2991", "1000300", "3000;w=300", "")
	resp, _ = do(t, url, "PUT /xrpc/a", "")
	check(resp, 400, "", "", "", "", "")
	resp, _ = do(t, url, "GET /xrpc/com.example.toy.fail?how=declared", "")
	check(resp, 401, "3000", "2990", "1000300", "3000;w=300", "")
	// A handler in a window of its own, after the first has ended.
	now = now.Add(time.Hour)
	check(call("a"), 200, "2", "1", "1003660", "2;w=60", "")
}

func TestLimiterFails(t *testing.T) {
	url, log := serveToy(t, Options{Callers: always(Callers{Limiter: brokenLimiter{}})})
	if resp, _ := do(t, url, "GET /xrpc/com.example.toy.fail", ""); resp.StatusCode != 200 {
		t.Errorf("only a global limit: %d", resp.StatusCode)
	}
	if resp, body := do(t, url, "POST /xrpc/com.example.toy.echo", `{"name":"a"}`, "Content-Type: application/json"); resp.StatusCode != 500 || body != failure("InternalServerError", "Internal Server Error") {
		t.Errorf("limits of its own: %d %s", resp.StatusCode, body)
	}
	log.wait(t, "redis is away")
}

type brokenLimiter struct{}

func (brokenLimiter) Take(context.Context, []Counter) ([]Window, error) {
	return nil, errors.New("redis is away")
}

func TestMemoryLimiterForgets(t *testing.T) {
	now := time.Unix(0, 0)
	l := NewMemoryLimiter(func() time.Time { return now })
	for i := range 5000 {
		now = now.Add(time.Second)
		l.Take(t.Context(), []Counter{{Key: time.Duration(i).String(), Points: 1, Per: time.Minute}})
	}
	if n := len(l.windows); n > 1100 {
		t.Errorf("%d windows kept", n)
	}
}

func TestClientIP(t *testing.T) {
	listed := []netip.Addr{netip.MustParseAddr("9.9.9.9")}
	for _, tt := range []struct {
		name, peer string
		forwarded  []string
		hops       int
		want, key  string
	}{
		{"direct", "1.2.3.4:5", nil, 0, "1.2.3.4", "1.2.3.4"},
		{"stranger's word", "1.2.3.4:5", []string{"6.6.6.6"}, 0, "1.2.3.4", "1.2.3.4"},
		{"loopback", "127.0.0.1:5", []string{"6.6.6.6"}, 0, "6.6.6.6", "6.6.6.6"},
		{"loopback 6", "[::1]:5", []string{"6.6.6.6"}, 0, "6.6.6.6", "6.6.6.6"},
		{"mapped", "[::ffff:127.0.0.1]:5", []string{"::ffff:6.6.6.6"}, 0, "6.6.6.6", "6.6.6.6"},
		{"private", "10.0.0.1:5", []string{"6.6.6.6"}, 0, "6.6.6.6", "6.6.6.6"},
		{"unique local", "[fd00::1]:5", []string{"6.6.6.6"}, 0, "6.6.6.6", "6.6.6.6"},
		{"link local", "[fe80::1%eth0]:5", []string{"6.6.6.6"}, 0, "6.6.6.6", "6.6.6.6"},
		{"listed", "9.9.9.9:5", []string{"6.6.6.6"}, 0, "6.6.6.6", "6.6.6.6"},
		{"made up on the left", "127.0.0.1:5", []string{"8.8.8.8, 6.6.6.6"}, 0, "6.6.6.6", "6.6.6.6"},
		{"chain", "127.0.0.1:5", []string{"8.8.8.8, 6.6.6.6", "10.0.0.1,9.9.9.9"}, 0, "6.6.6.6", "6.6.6.6"},
		{"all ours", "127.0.0.1:5", []string{"10.0.0.2, 10.0.0.1"}, 0, "10.0.0.2", "10.0.0.2"},
		{"rubbish", "127.0.0.1:5", []string{"8.8.8.8, what"}, 0, "127.0.0.1", "127.0.0.1"},
		{"with port", "127.0.0.1:5", []string{"[2001:db8:1:2:3::4]:99"}, 0, "2001:db8:1:2:3::4", "2001:db8:1:2::/64"},
		{"one hop", "1.2.3.4:5", []string{"8.8.8.8, 6.6.6.6"}, 1, "6.6.6.6", "6.6.6.6"},
		{"two hops", "1.2.3.4:5", []string{"8.8.8.8, 6.6.6.6"}, 2, "8.8.8.8", "8.8.8.8"},
		{"more hops than header", "1.2.3.4:5", []string{"8.8.8.8"}, 3, "8.8.8.8", "8.8.8.8"},
		{"hop not in the header", "127.0.0.1:5", nil, 1, "127.0.0.1", "127.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &http.Request{RemoteAddr: tt.peer, Header: http.Header{}}
			if tt.forwarded != nil {
				r.Header["X-Forwarded-For"] = tt.forwarded
			}
			ip := clientIP(r, parseIP(r.RemoteAddr), tt.hops, listed)
			c := Call{IP: ip}
			if ip.String() != tt.want || c.IPKey() != tt.key {
				t.Errorf("got %v, key %s", ip, c.IPKey())
			}
		})
	}
}

func TestBypassAddress(t *testing.T) {
	url, _ := serveToy(t, Options{Callers: always(Callers{Limiter: NewMemoryLimiter(nil), BypassIPs: []netip.Addr{netip.MustParseAddr("6.6.6.6")}})})
	resp, _ := do(t, url, "GET /xrpc/com.example.toy.fail", "", "X-Forwarded-For: 6.6.6.6")
	if resp.StatusCode != 200 || resp.Header.Get("RateLimit-Limit") != "" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	resp, _ = do(t, url, "GET /xrpc/com.example.toy.fail", "", "X-Forwarded-For: 6.6.6.7")
	if resp.Header.Get("RateLimit-Remaining") != "2999" {
		t.Errorf("%v", resp.Header)
	}
}

func TestHandleRefuses(t *testing.T) {
	e := echo.New()
	s := NewServer(e, Options{})
	r := s.On(e)
	r.POST("/xrpc/com.example.toy.ping", Handle(&toyPing, Policy[None]{}, WithoutBoth(toy{}.Ping)))
	r.GET("/xrpc/com.example.toy.fail", Handle(&toyFail, Policy[FailParams]{Auth: Public}, toy{}.Fail))
	wrong := func(context.Context, *EchoInput) (*None, error) { return nil, nil }
	public := Policy[EchoInput]{Auth: Public, Limits: GlobalLimitOnly[EchoInput]()}
	r.GET("/xrpc/a.b.c", Handle(&Method{NSID: "a.b.c"}, public, wrong))
	good := Handle(&toyEcho, public, toy{}.Echo)
	r.GET("/xrpc/com.example.toy.echo", good)
	r.POST("/xrpc/com.example.toy.other", good)
	r.POST("/com.example.toy.echo", good)
	below := s.On(e.Group("/below"))
	below.POST("/xrpc/com.example.toy.echo", good)
	want := `com.example.toy.ping: policy names no Auth (use xrpc.Public to let anyone call it)
com.example.toy.ping: policy names no Limits (use xrpc.GlobalLimitOnly to have none of its own)
com.example.toy.fail: policy names no Limits (use xrpc.GlobalLimitOnly to have none of its own)
a.b.c: *xrpc.EchoInput does not hold the method's input
com.example.toy.echo: a procedure is not served as GET /xrpc/com.example.toy.echo
com.example.toy.echo: a procedure is not served as POST /xrpc/com.example.toy.other
com.example.toy.echo: a procedure is not served as POST /com.example.toy.echo
com.example.toy.echo: a group with the prefix /below cannot serve it: its path is /xrpc/com.example.toy.echo`
	if err := errors.Join(r.Err(), below.Err()); err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if len(s.Methods()) != 0 {
		t.Error("an undecided method is served")
	}
	if err := registerToy(e, s); err != nil {
		t.Fatal(err)
	}
	if err := registerToy(e, s); err == nil || !strings.Contains(err.Error(), "com.example.toy.echo: handled twice") {
		t.Errorf("got %v", err)
	}
}

// A method that is decided not to be served is none: whatever asks for it hears what
// it would hear of any other name.
func TestNotServed(t *testing.T) {
	e := echo.New()
	s := NewServer(e, Options{Fallback: unserved, Logger: slog.New(slog.DiscardHandler)})
	called := func(context.Context, *EchoInput) (*EchoInput, error) {
		t.Error("the handler was called")
		return nil, nil
	}
	r := s.On(e)
	r.POST("/xrpc/com.example.toy.echo", Handle(&toyEcho, NotServed[EchoInput](), called))
	r.GET("/xrpc/com.example.toy.watch", Handle(&Method{NSID: "com.example.toy.watch", Kind: Subscription}, NotServed[None](), WithoutBoth(toy{}.Ping)))
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	if got := s.Methods(); len(got) != 0 {
		t.Errorf("methods %v", got)
	}
	h := httptest.NewServer(e)
	defer h.Close()
	for ask, message := range map[string]string{
		"POST /xrpc/com.example.toy.echo": "No service configured for com.example.toy.echo",
		"GET /xrpc/com.example.toy.echo":  "No service configured for com.example.toy.echo",
		"POST /xrpc/COM.example.toy.ECHO": "No service configured for COM.example.toy.ECHO",
		"PUT /xrpc/com.example.toy.echo":  "XRPC requests only supports GET and POST",
		"GET /xrpc/com.example.toy.watch": "No service configured for com.example.toy.watch",
	} {
		resp, body := do(t, h.URL, ask, "")
		if resp.StatusCode != 400 || body != `{"error":"InvalidRequest","message":"`+message+`"}` {
			t.Errorf("%s: %d %s", ask, resp.StatusCode, body)
		}
	}

	contradiction := NotServed[EchoInput]()
	contradiction.Auth = Public
	r.POST("/xrpc/com.example.toy.echo", Handle(&toyEcho, contradiction, called))
	if err := r.Err(); err == nil || err.Error() != "com.example.toy.echo: policy is xrpc.NotServed and says who may call it" {
		t.Errorf("got %v", err)
	}
}

func TestMethods(t *testing.T) {
	e := echo.New()
	s := NewServer(e, Options{})
	if err := registerToy(e, s); err != nil {
		t.Fatal(err)
	}
	want := Route{NSID: "com.example.toy.echo", Kind: Procedure, Auth: "public", MaxBody: 153600, Limits: []RouteLimit{
		{Name: "who", Points: 2, Per: time.Minute}, {Name: "all", Points: 5, Per: time.Hour, ByIP: true},
	}}
	for _, r := range s.Methods() {
		if r.NSID == want.NSID {
			if diff := cmp.Diff(want, r); diff != "" {
				t.Error(diff)
			}
		}
	}
}

// A client that sends no more of its body is answered and cut off, wanted or not
// as the body may be; one that is slow to get its answer is not.
func TestSlowBodies(t *testing.T) {
	url, _ := serveToy(t, Options{BodyTime: 20 * time.Millisecond, Fallback: unserved})
	const head = "Host: x\nAuthorization: Bearer good\nContent-Type: application/json\nContent-Length: 100\n\n{"
	for _, line := range []string{
		"POST /xrpc/com.example.toy.echo", "POST /xrpc/com.example.toy.upload", "GET /xrpc/com.example.toy.listThings",
		"POST /xrpc/com.example.toy.ping", "POST /xrpc/com.example.toy.unknown", "POST /elsewhere",
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(time.Minute)) // a busy machine's; BodyTime is what counts
		io.WriteString(conn, strings.ReplaceAll(line+" HTTP/1.1\n"+head, "\n", "\r\n"))
		answer, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 4") {
			t.Errorf("%s: %.60q, %v", line, answer, err)
		}
	}
}

// Who is over a limit cannot make the limiter remember more names, and nobody can
// make it remember more than there is room for.
func TestMemoryLimiterIsBounded(t *testing.T) {
	now := time.Unix(0, 0)
	l := NewMemoryLimiter(func() time.Time { return now })
	take := func(i int) []Window {
		w, _ := l.Take(t.Context(), []Counter{{"name " + strconv.Itoa(i), 30, 24 * time.Hour, 0}, {"global", 10, time.Hour, 0}})
		return w
	}
	for i := range 1000 {
		w := take(i)
		if w[0].Used != 1 || w[1].Used != i+1 || w[0].Reset.Sub(now) != 24*time.Hour {
			t.Fatalf("windows %v at %d", w, i)
		}
	}
	if n := len(l.windows); n != 11 {
		t.Errorf("%d windows kept, want 11", n)
	}
	for i := range maxWindows + 10 {
		l.Take(t.Context(), []Counter{{strconv.Itoa(i), 30, 24 * time.Hour, 0}})
	}
	if n := len(l.windows); n != maxWindows {
		t.Errorf("%d windows kept, want %d", n, maxWindows)
	}
}

// A server without a fallback speaks of no services that it would pass methods on to.
func TestUnknownMethodWithoutFallback(t *testing.T) {
	url, _ := serveToy(t, Options{})
	for ask, want := range map[string]struct {
		status int
		body   string
	}{
		"GET /xrpc/com.example.toy.other":  {501, `{"error":"MethodNotImplemented","message":"Method Not Implemented"}`},
		"POST /xrpc/com.example.toy.other": {501, `{"error":"MethodNotImplemented","message":"Method Not Implemented"}`},
		"PUT /xrpc/com.example.toy.other":  {400, `{"error":"InvalidRequest","message":"XRPC requests only supports GET and POST"}`},
		"GET /xrpc/..":                     {400, `{"error":"InvalidRequest","message":"invalid xrpc path"}`},
	} {
		resp, body := do(t, url, ask, "Atproto-Proxy: did:web:api.test#service")
		if resp.StatusCode != want.status || body != want.body {
			t.Errorf("%s: %d %s, want %d %s", ask, resp.StatusCode, body, want.status, want.body)
		}
	}
}

// A request has one name, in the log and for the client, whatever a client sends under that
// name. It does not tell how many others there were. Its duration is in a unit.
func TestRequestID(t *testing.T) {
	lines := make(chan []byte, 10)
	url, _ := serveToy(t, Options{Logger: slog.New(slog.NewJSONHandler(lineWriter(lines), nil))})
	seen := make(map[string]bool)
	for _, ask := range []string{
		"GET /xrpc/com.example.toy.listThings?repo=alice.test", "GET /xrpc/com.example.toy.nothing", "GET /xrpc/_health", "OPTIONS /xrpc/_health", "GET /nowhere", "POST /xrpc/com.example.toy.echo",
	} {
		resp, _ := do(t, url, ask, "", "X-Request-Id: mine")
		ids := resp.Header["X-Request-Id"]
		if len(ids) != 1 || !regexp.MustCompile(`^[0-9a-f]{16}$`).MatchString(ids[0]) || seen[ids[0]] {
			t.Fatalf("%s: X-Request-Id %q", ask, ids)
		}
		seen[ids[0]] = true
		if line := string(<-lines); !strings.Contains(line, `"request":"`+ids[0]+`"`) || !regexp.MustCompile(`"duration_ms":\d+(\.\d+)?,`).MatchString(line) {
			t.Errorf("%s, %s: the log has %s", ask, ids[0], line)
		}
	}
}

type lineWriter chan<- []byte

func (w lineWriter) Write(line []byte) (int, error) {
	w <- bytes.Clone(line)
	return len(line), nil
}

// told keeps what an observer is told.
type told struct {
	ended chan string
}

type toldKey struct{}

func (o told) Begin(ctx context.Context, c *Call) context.Context {
	return context.WithValue(ctx, toldKey{}, c.Request.Method)
}

func (o told) End(ctx context.Context, c *Call, status int, took time.Duration) {
	name := "none"
	if c.Method != nil {
		name = c.Method.NSID
	}
	o.ended <- fmt.Sprint(name, " ", status, " ", ctx.Value(toldKey{}), " ", c.Request.Context().Value(toldKey{}), " ", took >= 0)
}

// An observer is told of each request once, whatever becomes of it, and what it put into the
// context is there while it is served.
func TestObserver(t *testing.T) {
	o := told{make(chan string, 10)}
	e := echo.New()
	s := NewServer(e, Options{Logger: slog.New(slog.DiscardHandler)})
	s.Observe(o)
	if err := registerToy(e, s); err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(e)
	t.Cleanup(listener.Close)
	url := listener.URL
	for ask, want := range map[string]string{
		"GET /xrpc/com.example.toy.listThings?repo=alice.test": "com.example.toy.listThings 200 GET GET true",
		"POST /xrpc/com.example.toy.listThings":                "com.example.toy.listThings 400 POST POST true",
		"GET /xrpc/com.example.toy.nothing":                    "none 501 GET GET true",
		"OPTIONS /xrpc/com.example.toy.echo":                   "none 204 OPTIONS OPTIONS true",
		"GET /nowhere":                                         "none 404 GET GET true",
	} {
		do(t, url, ask, "")
		if got := <-o.ended; got != want {
			t.Errorf("%s: %s, want %s", ask, got, want)
		}
	}
}
