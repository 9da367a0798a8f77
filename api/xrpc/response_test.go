package xrpc

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/labstack/echo/v4"
)

// A handler may answer with what another server said, in the place of its output.
func TestResponse(t *testing.T) {
	e := echo.New()
	x := NewServer(e, Options{CheckOutput: true})
	r := x.On(e)
	r.GET("/xrpc/com.example.toy.fail", Handle(&toyFail, Policy[FailParams]{Auth: Public, Limits: GlobalLimitOnly[FailParams]()},
		func(context.Context, *FailParams) (*SizeOutput, error) {
			return nil, &Response{
				Status: 203, Header: http.Header{"Content-Type": {"text/plain"}, "Content-Length": {"5"}}, Size: 5,
				Body: io.NopCloser(strings.NewReader("hello")),
			}
		}))
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(e)
	defer h.Close()
	for ask, want := range map[string]string{"GET /xrpc/com.example.toy.fail": "hello", "HEAD /xrpc/com.example.toy.fail": ""} {
		resp, body := do(t, h.URL, ask, "")
		if resp.StatusCode != 203 || body != want || resp.ContentLength != 5 || resp.Header.Get("Content-Type") != "text/plain" ||
			resp.Header.Get("Access-Control-Allow-Origin") != "*" || resp.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s: %d %v %q", ask, resp.StatusCode, resp.Header, body)
		}
	}
}

// What another server does not say the type of gets none here, also if it looks like a page.
func TestResponseWithoutType(t *testing.T) {
	e := echo.New()
	r := NewServer(e, Options{}).On(e)
	r.GET("/xrpc/com.example.toy.fail", Handle(&toyFail, Policy[FailParams]{Auth: Public, Limits: GlobalLimitOnly[FailParams]()},
		func(context.Context, *FailParams) (*SizeOutput, error) {
			return nil, &Response{Status: 200, Size: -1, Body: io.NopCloser(strings.NewReader("<html><script>alert(1)</script>"))}
		}))
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(e)
	defer h.Close()
	resp, body := do(t, h.URL, "GET /xrpc/com.example.toy.fail", "")
	if values, ok := resp.Header["Content-Type"]; ok || !strings.HasPrefix(body, "<html>") {
		t.Errorf("type %q of %q", values, body)
	}
}

// A handler may have its output as text, which the client gets as it stands, in the way of
// any output. What is to be done at the end is done when it was written.
func TestJSON(t *testing.T) {
	text := `{"size":1,"type":"a","more":"` + strings.Repeat("x", compressFrom) + `"}`
	var written []bool
	e := echo.New()
	r := NewServer(e, Options{CheckOutput: true}).On(e)
	r.GET("/xrpc/com.example.toy.fail", Handle(&toyFail, Policy[FailParams]{Auth: Public, Limits: GlobalLimitOnly[FailParams]()},
		func(ctx context.Context, in *FailParams) (*SizeOutput, error) {
			c := CallFrom(ctx)
			c.AtEnd(func() { written = append(written, c.answer.ResponseWriter.Header().Get("Content-Length") != "") })
			if in.How == "wrong" {
				return nil, JSON(`{"size":"1"}`)
			}
			return nil, JSON(text)
		}))
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(e)
	defer h.Close()
	resp, body := do(t, h.URL, "GET /xrpc/com.example.toy.fail", "")
	if resp.StatusCode != 200 || body != text || resp.Header.Get("Content-Type") != "application/json; charset=utf-8" || resp.Header.Get("ETag") == "" {
		t.Errorf("%d %v %.40s", resp.StatusCode, resp.Header, body)
	}
	if resp, _ := do(t, h.URL, "GET /xrpc/com.example.toy.fail", "", "If-None-Match: "+resp.Header.Get("ETag")); resp.StatusCode != 304 {
		t.Errorf("the same once more: %d", resp.StatusCode)
	}
	if resp, _ := do(t, h.URL, "GET /xrpc/com.example.toy.fail", "", "Accept-Encoding: gzip"); resp.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("compressed: %v", resp.Header)
	}
	if resp, body := do(t, h.URL, "GET /xrpc/com.example.toy.fail?how=wrong", ""); resp.StatusCode != 500 {
		t.Errorf("what does not fit: %d %s", resp.StatusCode, body)
	}
	if len(written) != 4 || !written[0] {
		t.Errorf("written at the end: %v", written)
	}
}

// Each piece of an answer whose length nobody knows reaches the client before the next is
// there.
func TestResponseIsNotHeldBack(t *testing.T) {
	in, out := io.Pipe()
	url, _ := serveToy(t, Options{Fallback: func(context.Context, *Call) (*Response, error) {
		return &Response{Status: 200, Size: -1, Body: in}, nil
	}})
	next := make(chan string)
	go func() {
		for piece := range next {
			io.WriteString(out, piece)
		}
		out.Close()
	}()
	next <- "one"
	resp, err := http.Get(url + "/xrpc/com.example.other")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	piece := make([]byte, 3)
	if _, err := io.ReadFull(resp.Body, piece); err != nil || string(piece) != "one" {
		t.Fatalf("read %q, %v", piece, err)
	}
	next <- "two"
	close(next)
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "two" {
		t.Errorf("read %q, %v", rest, err)
	}
}

// An answer that breaks off is cut off for the client too, and is no fault of the server.
func TestResponseThatBreaksOff(t *testing.T) {
	url, log := serveToy(t, Options{Fallback: func(context.Context, *Call) (*Response, error) {
		return &Response{Status: 200, Size: -1, Body: io.NopCloser(io.MultiReader(strings.NewReader("half"), failing{}))}, nil
	}})
	resp, err := http.Get(url + "/xrpc/com.example.other")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err == nil || string(body) != "half" {
		t.Errorf("read %q, %v", body, err)
	}
	if text := log.String(); !strings.Contains(text, "level=INFO") || !strings.Contains(text, "connection reset by a service") {
		t.Errorf("logged %s", text)
	}
}

// A fallback reads the body as it was sent: compressed bodies stay so, and are not limited
// in size.
func TestCallBody(t *testing.T) {
	var got []byte
	var announced int64
	url, _ := serveToy(t, Options{Fallback: func(_ context.Context, c *Call) (*Response, error) {
		body, size := c.Body()
		announced = size
		var err error
		got, err = io.ReadAll(body)
		return &Response{Status: 200, Body: http.NoBody}, err
	}})
	sent := strings.Repeat("\x1f\x8b no gzip ", 1<<20)
	if resp, _ := do(t, url, "POST /xrpc/com.example.other", sent, "Content-Encoding: gzip"); resp.StatusCode != 200 {
		t.Fatalf("status %d", resp.StatusCode)
	}
	if string(got) != sent || announced != int64(len(sent)) {
		t.Errorf("read %d bytes of %d, announced %d", len(got), len(sent), announced)
	}
	if do(t, url, "GET /xrpc/com.example.other", ""); len(got) != 0 || announced != 0 {
		t.Errorf("read %q of a request without a body", got)
	}
}

// A handler passes on the JSON that it was given as that was read: decoded, in UTF-8. It is
// good for longer than the handler, which the sender of a request to elsewhere may outlive.
func TestCallBodyOfHandler(t *testing.T) {
	var size int64
	var body io.ReadCloser
	var header http.Header
	e := echo.New()
	r := NewServer(e, Options{}).On(e)
	r.POST("/xrpc/com.example.toy.echo", Handle(&toyEcho, Policy[EchoInput]{Auth: Public, Limits: GlobalLimitOnly[EchoInput]()},
		func(ctx context.Context, _ *EchoInput) (*EchoInput, error) {
			body, size = CallFrom(ctx).Body()
			header = CallFrom(ctx).Request.Header
			return nil, &Response{Status: 200, Body: http.NoBody}
		}))
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(e)
	defer h.Close()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	for _, unit := range utf16.Encode([]rune(`{"name":"a","more":"ä"}`)) {
		z.Write([]byte{byte(unit), byte(unit >> 8)})
	}
	z.Close()
	resp, text := do(t, h.URL, "POST /xrpc/com.example.toy.echo", packed.String(), "Content-Encoding: gzip", "Content-Type: application/json; charset=utf-16le")
	if resp.StatusCode != 200 {
		t.Fatalf("%d %s", resp.StatusCode, text)
	}
	do(t, h.URL, "POST /xrpc/com.example.toy.echo", `{"name":"something else that takes the same buffer"}`, "Content-Type: application/json; charset=utf-32")
	got, err := io.ReadAll(body)
	if want := `{"name":"a","more":"ä"}`; err != nil || string(got) != want || size != int64(len(want)) {
		t.Errorf("read %q, announced %d, %v", got, size, err)
	}
	if header.Get("Content-Encoding") != "" || header.Get("Content-Type") != "application/json" {
		t.Errorf("header %v", header)
	}
}

// What a handler passes on of another server's refusal need not be declared.
func TestForeignError(t *testing.T) {
	for foreign, want := range map[bool]int{true: 418, false: 500} {
		err := declared(&toyEcho, &Error{Status: 418, Name: "OfAnother", Foreign: foreign})
		if got := asError(err).status(); got != want {
			t.Errorf("foreign %v: %d, want %d", foreign, got, want)
		}
	}
}

// What a client that hung up wanted need not be done; the context of a handler goes on.
func TestCallConnected(t *testing.T) {
	asked, ended := make(chan struct{}), make(chan error)
	url, _ := serveToy(t, Options{Fallback: func(ctx context.Context, c *Call) (*Response, error) {
		close(asked)
		<-c.Connected().Done()
		ended <- ctx.Err()
		return nil, InvalidRequest("too late")
	}})
	ctx, hangUp := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", url+"/xrpc/com.example.other", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	<-asked
	hangUp()
	if err := <-ended; err != nil {
		t.Errorf("the handler's context ended: %v", err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("connection reset by a service") }
