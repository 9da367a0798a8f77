package xrpc

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/labstack/echo/v4"
)

var benchBody = []byte(`{"name":"alice.example.test","did":"did:plc:abcdefghijklmnopqrstuvwx","count":3,"sort":"recent","inner":{"deep":1}}`)

// silent is a ResponseWriter that costs nothing.
type silent struct{ h http.Header }

func (s *silent) Header() http.Header         { return s.h }
func (s *silent) Write(p []byte) (int, error) { return len(p), nil }
func (s *silent) WriteHeader(int)             {}

type rewound struct{ *bytes.Reader }

func (rewound) Close() error { return nil }

func benchServe(b *testing.B, h http.Handler, verb, target string, body []byte) {
	b.Helper()
	reader := bytes.NewReader(body)
	req, _ := http.NewRequest(verb, target, nil)
	req.RemoteAddr = "127.0.0.1:1"
	if body != nil {
		req.ContentLength = int64(len(body))
		req.Header.Set("Content-Type", "application/json")
	}
	w := &silent{h: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.h)
		reader.Seek(0, 0)
		req.Body = rewound{reader}
		if body == nil {
			req.Body = http.NoBody
		}
		h.ServeHTTP(w, req)
	}
}

func BenchmarkProcedure(b *testing.B) {
	b.Run("generated", func(b *testing.B) {
		e, _ := newToy(b, Options{Logger: slog.New(slog.DiscardHandler)})
		benchServe(b, e, "POST", "/xrpc/com.example.toy.echo", benchBody)
	})
	b.Run("echo", func(b *testing.B) {
		e := echo.New()
		e.POST("/xrpc/com.example.toy.echo", func(c echo.Context) error {
			in := new(EchoInput)
			if err := c.Bind(in); err != nil {
				return err
			}
			return c.JSON(200, in)
		})
		benchServe(b, e, "POST", "/xrpc/com.example.toy.echo", benchBody)
	})
}

func BenchmarkQuery(b *testing.B) {
	const target = "/xrpc/com.example.toy.listThings?repo=alice.test&limit=20&cids=" + someCID
	b.Run("generated", func(b *testing.B) {
		e, _ := newToy(b, Options{Logger: slog.New(slog.DiscardHandler)})
		benchServe(b, e, "GET", target, nil)
	})
	b.Run("echo", func(b *testing.B) {
		e := echo.New()
		e.GET("/xrpc/com.example.toy.listThings", func(c echo.Context) error {
			var p struct {
				Repo  string   `query:"repo"`
				Limit int64    `query:"limit"`
				CIDs  []string `query:"cids"`
			}
			if err := c.Bind(&p); err != nil {
				return err
			}
			return c.JSON(200, &ListOutput{Repo: p.Repo, Limit: p.Limit, CIDs: p.CIDs, Numbers: []int64{}})
		})
		benchServe(b, e, "GET", target, nil)
	})
}

// What every request costs, where there is little to do.
func BenchmarkLittle(b *testing.B) {
	const path = "/xrpc/com.example.toy.listThings"
	options := Options{Logger: slog.New(slog.DiscardHandler), Version: "1.2.3", Health: func(context.Context) error { return nil }}
	counted := options
	counted.Callers = always(Callers{Limiter: NewMemoryLimiter(nil)})
	echoed := echo.New()
	echoed.GET(path, func(c echo.Context) error {
		return c.JSON(200, &ListOutput{Repo: "alice.test", CIDs: []string{}, Numbers: []int64{}})
	})
	for _, tt := range []struct {
		name, path string
		options    Options
		bare       *echo.Echo
	}{
		{"unknown method", "/xrpc/com.example.toy.nothing", options, nil},
		{"health", "/xrpc/_health", options, nil},
		{"query", path + "?repo=alice.test", options, nil},
		{"query, counted", path + "?repo=alice.test", counted, nil},
		{"echo", path, options, echoed},
	} {
		b.Run(tt.name, func(b *testing.B) {
			e, _ := newToy(b, tt.options)
			if tt.bare != nil {
				e = tt.bare
			}
			b.Run("in process", func(b *testing.B) { benchServe(b, e, "GET", tt.path, nil) })
			b.Run("loopback", func(b *testing.B) { benchLoopback(b, e, tt.path) })
		})
	}
}

// benchLoopback asks a real server over one connection, with a client that costs little.
func benchLoopback(b *testing.B, h http.Handler, path string) {
	server := httptest.NewServer(h)
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	request := []byte("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n")
	answer := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := conn.Write(request); err != nil {
			b.Fatal(err)
		}
		// A small answer comes in one piece.
		if n, err := conn.Read(answer); err != nil || answer[n-1] != '}' && answer[n-1] != '\n' {
			b.Fatalf("%q, %v", answer[:n], err)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	b.Run("procedure", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(benchBody)))
		for b.Loop() {
			if err := echoTable.Check(benchBody); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("arrays", func(b *testing.B) {
		data := append([]byte(`{"name":"a","children":[{"name":"b"}`), bytes.Repeat([]byte(`,{"name":"some name of a child","other":[1,2,3]}`), 1000)...)
		data = append(data, "]}"...)
		b.ReportAllocs()
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			if err := treeTable.Check(data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding/json decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := json.Unmarshal(benchBody, new(EchoInput)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
