package xrpc

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
)

// echo lists what is served: a method by its name, GET with HEAD beside it.
func TestRoutes(t *testing.T) {
	e, _ := newToy(t, Options{})
	var got []string
	for _, r := range e.Routes() {
		if strings.HasPrefix(r.Path, "/xrpc/") {
			got = append(got, r.Method+" "+r.Path+" "+r.Name)
		}
	}
	slices.Sort(got)
	want := []string{
		"GET /xrpc/_health health",
		"GET /xrpc/com.example.toy.download com.example.toy.download",
		"GET /xrpc/com.example.toy.fail com.example.toy.fail",
		"GET /xrpc/com.example.toy.listThings com.example.toy.listThings",
		"HEAD /xrpc/_health health",
		"HEAD /xrpc/com.example.toy.download com.example.toy.download",
		"HEAD /xrpc/com.example.toy.fail com.example.toy.fail",
		"HEAD /xrpc/com.example.toy.listThings com.example.toy.listThings",
		"POST /xrpc/com.example.toy.both com.example.toy.both",
		"POST /xrpc/com.example.toy.echo com.example.toy.echo",
		"POST /xrpc/com.example.toy.images com.example.toy.images",
		"POST /xrpc/com.example.toy.ping com.example.toy.ping",
		"POST /xrpc/com.example.toy.upload com.example.toy.upload",
		"echo_route_not_found /xrpc/* not served",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := e.Reverse("com.example.toy.fail"); got != "/xrpc/com.example.toy.fail" {
		t.Errorf("the path by its name: %q", got)
	}
}

// Middleware surrounds all requests, those of a namespace or those of a method, however
// their path is spelled, and sees the path of the route.
func TestMiddleware(t *testing.T) {
	var passed []string
	pass := func(name string) echo.MiddlewareFunc {
		return func(next echo.HandlerFunc) echo.HandlerFunc {
			return func(c echo.Context) error {
				passed = append(passed, name+" "+c.Path()+" for "+c.RealIP())
				return next(c)
			}
		}
	}
	type key struct{}
	mark := func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			c.SetRequest(c.Request().WithContext(context.WithValue(c.Request().Context(), key{}, "marked")))
			return next(c)
		}
	}
	e := echo.New()
	s := NewServer(e, Options{Fallback: unserved, Logger: slog.New(slog.DiscardHandler)})
	e.Use(pass("all"))
	r := s.On(e.Group("", pass("namespace"), mark))
	read := Policy[FailParams]{Auth: Public, Limits: GlobalLimitOnly[FailParams](), Middleware: []echo.MiddlewareFunc{pass("outer"), pass("inner")}}
	r.GET("/xrpc/com.example.toy.fail", Handle(&toyFail, read, func(ctx context.Context, _ *FailParams) (*SizeOutput, error) {
		return &SizeOutput{Type: ctx.Value(key{}).(string)}, nil
	}))
	write := Policy[Body]{Auth: Public, Limits: GlobalLimitOnly[Body](), Middleware: []echo.MiddlewareFunc{middleware.BodyLimit("10B")}}
	r.POST("/xrpc/com.example.toy.images", Handle(&toyImages, write, WithoutOutput(toy{}.Images)))
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	e.GET("/hello", func(c echo.Context) error { return c.String(200, "hello") })
	srv := httptest.NewServer(e)
	defer srv.Close()

	const fail = "/xrpc/com.example.toy.fail for 6.6.6.6"
	surrounded := []string{"all " + fail, "namespace " + fail, "outer " + fail, "inner " + fail}
	unserved := []string{"all /xrpc/* for 6.6.6.6"}
	for _, tt := range []struct {
		ask, body string
		status    int
		passed    []string
	}{
		{"GET /xrpc/com.example.toy.fail", "", 200, surrounded},
		{"HEAD /xrpc/com.example.toy.fail", "", 200, surrounded},
		{"GET /XRPC/COM.example.TOY.fail/", "", 200, surrounded},
		{"GET /xrpc/com.e%58ample.toy.fail", "", 400, unserved},
		{"POST /xrpc/com.example.toy.fail", "", 400, unserved},
		{"PUT /xrpc/com.example.toy.fail", "", 400, unserved},
		{"GET /xrpc/com.example.toy.other", "", 400, unserved},
		{"POST /xrpc/com.example.toy.images", strings.Repeat("x", 11), 413, []string{
			"all /xrpc/com.example.toy.images for 6.6.6.6", "namespace /xrpc/com.example.toy.images for 6.6.6.6"}},
		{"GET /hello", "", 200, []string{"all /hello for 6.6.6.6"}},
		{"OPTIONS /xrpc/com.example.toy.fail", "", 204, nil},
	} {
		passed = nil
		resp, body := do(t, srv.URL, tt.ask, tt.body, "X-Forwarded-For: 6.6.6.6", "Content-Type: image/png")
		if resp.StatusCode != tt.status {
			t.Errorf("%s: %d %s", tt.ask, resp.StatusCode, body)
		}
		if tt.status == 200 && strings.HasPrefix(tt.ask, "GET /X") && body != `{"size":0,"type":"marked"}` {
			t.Errorf("%s: %s", tt.ask, body)
		}
		if diff := cmp.Diff(tt.passed, passed); diff != "" {
			t.Errorf("%s passed (-want +got):\n%s", tt.ask, diff)
		}
	}
}
