package xrpc

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-cmp/cmp"
)

// TestClientIsService makes the same calls directly and over HTTP.
func TestClientIsService(t *testing.T) {
	url, _ := serveToy(t, Options{CheckOutput: true})
	for name, s := range map[string]toyService{
		"direct": toy{},
		"client": &toyClient{Client{Host: url + "/", Authorization: Bearer("good")}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			in := &EchoInput{Name: "<é>", Count: 3, DID: new(syntax.DID("did:plc:a")), Maybe: Nullable[string]{Set: true},
				List: []EchoInputInner{{Deep: new(int64(2))}}, Flag: new(false)}
			got, err := s.Echo(ctx, in)
			if diff := cmp.Diff(in, got); err != nil || diff != "" {
				t.Error(err, diff)
			}
			list, err := s.ListThings(ctx, &ListParams{Repo: "a.test", Limit: 5, Reverse: new(true), CIDs: []syntax.CID{someCID, "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKyVnN"}, Numbers: []int64{1}})
			if err != nil || list.Limit != 5 || !*list.Reverse || len(list.CIDs) != 2 {
				t.Error(err, list)
			}
			if err := s.Ping(ctx); err != nil {
				t.Error(err)
			}
			size, err := s.Upload(ctx, &Body{ReadCloser: io.NopCloser(strings.NewReader("abc")), ContentType: "a/b", Size: 3})
			if err != nil || size.Size != 3 || size.Type != "a/b" {
				t.Error(err, size)
			}
			body, err := s.Download(ctx, &FailParams{How: "sized"})
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(body)
			if body.Close(); err != nil || string(data) != "0123456789" || body.ContentType != "application/x-sized" || body.Size != 10 {
				t.Error(err, body)
			}
			both, err := s.Both(ctx, &FailParams{How: "x"}, &EchoInputInner{Deep: new(int64(1))})
			if err != nil || both.Size != 1 || both.Type != "x" {
				t.Error(err, both)
			}
			_, err = s.Fail(ctx, &FailParams{How: "declared"})
			var x *Error
			if !errors.Is(err, errToyDeclared) || errors.Is(err, errToyUndeclared) || !errors.As(err, &x) || x.Status != 401 || x.Message != "as declared" {
				t.Error(err)
			}
		})
	}
}

func TestClientAnswers(t *testing.T) {
	var status int
	var answer string
	var got *http.Request
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.WriteHeader(status)
		io.WriteString(w, answer)
	}))
	defer srv.Close()
	c := &toyClient{Client{Host: srv.URL, MaxAnswer: 100, Header: http.Header{"atproto-proxy": {"did:x#y"}}}}
	for _, tt := range []struct {
		name   string
		status int
		answer string
		want   string
	}{
		{"error", 400, `{"error":"InvalidToken","message":"no"}`, `400 InvalidToken "no"`},
		{"error without names", 503, `{"Error":"x","error":5}`, `503 NotEnoughResources "Not Enough Resources"`},
		{"not JSON", 502, `<html>`, `502 UpstreamFailure "Upstream Failure"`},
		{"does not fit", 200, `{"size":"x","type":"y"}`, `answer of com.example.toy.fail: Expected integer value type (got "x") at $.size`},
		{"not an answer", 200, `hello`, "answer of com.example.toy.fail: Unexpected token 'h' in JSON at position 0"},
		{"too long", 200, `{"size":1,"type":"` + strings.Repeat("x", 100) + `"}`, "answer of com.example.toy.fail has more than 100 bytes"},
		{"fine", 200, `{"size":1,"type":"y"}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, answer = tt.status, tt.answer
			_, err := c.Fail(t.Context(), &FailParams{How: "a b&c"})
			if text := errorText(err); text != tt.want {
				t.Errorf("got %s", text)
			}
		})
	}
	if got.URL.RawQuery != "how=a+b%26c" || got.Header.Get("Atproto-Proxy") != "did:x#y" || got.Header.Get("Authorization") != "" {
		t.Errorf("%v %v", got.URL, got.Header)
	}
	srv.Close()
	if err := c.Ping(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "call com.example.toy.ping: ") {
		t.Error(err)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
