package xrpc

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"
)

// serveKept serves a method whose answer is kept for as long as *key is the same, and counts in
// made how often it was made.
func serveKept(t *testing.T, key, made *int, o Options) string {
	t.Helper()
	m := &Method{NSID: "com.example.toy.kept", Kind: Query, Output: &Media{jsonEncoding, listOutputTable}}
	var kept Kept[int, ListOutput]
	e := echo.New()
	r := NewServer(e, o).On(e)
	r.GET("/xrpc/com.example.toy.kept", Handle(m, Policy[None]{Auth: Public, Limits: GlobalLimitOnly[None]()},
		func(context.Context, *None) (*ListOutput, error) {
			return nil, kept.Answer(*key, func(key int) *ListOutput {
				*made++
				out := &ListOutput{Repo: "<kept>", Limit: int64(key)}
				if key < 0 {
					out.Text = new(strings.Repeat("long ", 1000))
				}
				return out
			})
		}))
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(e)
	t.Cleanup(srv.Close)
	return srv.URL
}

// A kept answer is what any other is: normalized, with a tag, compressed and checked. It is
// made anew when its key changes, and then alone.
func TestKept(t *testing.T) {
	key, made := 1, 0
	url := serveKept(t, &key, &made, Options{CheckOutput: true, Logger: slog.New(slog.DiscardHandler)})
	ask := func(header ...string) (*http.Response, string) {
		return do(t, url, "GET /xrpc/com.example.toy.kept", "", header...)
	}

	const one = `{"repo":"<kept>","limit":1,"cids":[],"numbers":[]}`
	resp, body := ask()
	tag := resp.Header.Get("Etag")
	if resp.StatusCode != 200 || body != one || tag != `W/"32-98275a4fbd3f3cce"` || resp.ContentLength != 50 ||
		resp.Header.Get("Content-Type") != "application/json; charset=utf-8" || resp.Header.Get("Vary") != "Accept-Encoding" {
		t.Errorf("got %d %s, %v", resp.StatusCode, body, resp.Header)
	}
	if resp, body := ask("If-None-Match: " + tag); resp.StatusCode != 304 || body != "" || resp.Header.Get("Etag") != tag {
		t.Errorf("got %d %s, %v", resp.StatusCode, body, resp.Header)
	}
	if resp, body := do(t, url, "HEAD /xrpc/com.example.toy.kept", ""); resp.StatusCode != 200 || body != "" || resp.ContentLength != 50 {
		t.Errorf("HEAD: got %d %s, %v", resp.StatusCode, body, resp.Header)
	}
	if made != 1 {
		t.Errorf("made %d times", made)
	}

	key = 2
	if resp, body := ask("If-None-Match: " + tag); resp.StatusCode != 200 || body != `{"repo":"<kept>","limit":2,"cids":[],"numbers":[]}` || made != 2 {
		t.Errorf("got %d %s, made %d times", resp.StatusCode, body, made)
	}
	key = -1
	for range 2 {
		if resp, body := ask("Accept-Encoding: gzip"); resp.StatusCode != 200 || resp.Header.Get("Content-Encoding") != "gzip" || resp.ContentLength != int64(len(body)) {
			t.Errorf("got %d, %d bytes, %v", resp.StatusCode, len(body), resp.Header)
		}
	}
	if resp, body := ask(); resp.StatusCode != 200 || resp.ContentLength != 5061 || len(body) != 5061 {
		t.Errorf("got %d, %d bytes, %v", resp.StatusCode, len(body), resp.Header)
	}
	key = 1 << 60 // more than is safe
	if resp, _ := ask(); resp.StatusCode != 500 {
		t.Errorf("of a wrong output: got %d", resp.StatusCode)
	}
	if made != 4 {
		t.Errorf("made %d times", made)
	}
}

// A connection that was idle for longer than an answer may take has all its time again for
// the word that a body may come.
func TestTimeOfTheLastAnswerIsTakenBack(t *testing.T) {
	e, _ := newToy(t, Options{})
	for _, tt := range []struct {
		body string
		want bool
	}{{`{"name":"a"}`, true}, {"", false}} {
		w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		r := httptest.NewRequest("POST", "/xrpc/com.example.toy.echo", strings.NewReader(tt.body))
		r.Header.Set("Content-Type", "application/json")
		e.ServeHTTP(w, r)
		if len(w.ends) == 0 || w.ends[0].IsZero() != tt.want {
			t.Errorf("with the body %q: until %v", tt.body, w.ends)
		}
	}
}
