package xrpc

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"
)

// Whoever hands over hears which answers only wait for their clients.
func TestSendingIsTold(t *testing.T) {
	type key struct{}
	for _, tt := range []struct {
		ask  string
		want int
	}{
		{"fail?how=large", 1}, {"download?how=sized", 1}, {"download", 1}, {"fail", 0}, {"fail?how=plain", 0},
	} {
		told := 0
		e, _ := newToy(t, Options{Sending: func(ctx context.Context) {
			if ctx.Value(key{}) != tt.ask {
				t.Errorf("%s: of another request", tt.ask)
			}
			told++
		}})
		r := httptest.NewRequest("GET", "/xrpc/com.example.toy."+tt.ask, nil)
		e.ServeHTTP(httptest.NewRecorder(), r.WithContext(context.WithValue(r.Context(), key{}, tt.ask)))
		if told != tt.want {
			t.Errorf("%s: told %d times", tt.ask, told)
		}
	}
}

// What fails because the server ends is to be tried again, and is nobody's error; what the
// client did wrong remains that.
func TestFailuresOfAnEndingServer(t *testing.T) {
	log := &logBuffer{changed: make(chan struct{}, 1)}
	e := echo.New()
	s := NewServer(e, Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err := registerToy(e, s); err != nil {
		t.Fatal(err)
	}
	ask := func(how string, want int) *httptest.ResponseRecorder {
		t.Helper()
		w := httptest.NewRecorder()
		e.ServeHTTP(w, httptest.NewRequest("GET", "/xrpc/com.example.toy.fail?how="+how, nil))
		if w.Code != want {
			t.Errorf("%s: %d %s", how, w.Code, w.Body)
		}
		return w
	}
	ask("plain", 500)
	errors := strings.Count(log.String(), "level=ERROR")
	s.Ending()
	if w := ask("plain", 503); w.Header().Get("Retry-After") != "1" || w.Body.String() != failure("NotEnoughResources", "Not Enough Resources") {
		t.Errorf("%v %s", w.Header(), w.Body)
	}
	ask("declared", 401)
	ask("", 200)
	if now := strings.Count(log.String(), "level=ERROR"); errors != 1 || now != 1 {
		t.Errorf("%d errors, then %d: %s", errors, now, log)
	}
}
