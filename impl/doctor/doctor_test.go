package doctor

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Checks run side by side and are told in their order. One that nothing ends is left alone,
// and says so.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var under atomic.Int32
		together := func(ctx context.Context) Result {
			under.Add(1)
			time.Sleep(time.Second)
			if under.Load() != 2 {
				return failed("alone", "")
			}
			return ok("together")
		}
		began := time.Now()
		results := Run(t.Context(), []Check{
			{"one", together},
			{"hangs", func(context.Context) Result { <-release; return ok("") }},
			{"waits", func(ctx context.Context) Result { <-ctx.Done(); return warning("late", "") }},
			{"other", together},
		}, 10*time.Second)
		got := ""
		for _, r := range results {
			got += r.Name + " " + string(r.State) + " " + r.Found + "\n"
		}
		const want = "one ok together\nhangs failed no result after 10s\nwaits warning late\nother ok together\n"
		if got != want || results[1].Do == "" {
			t.Errorf("got\n%s", got)
		}
		if took := time.Since(began); took != 11*time.Second {
			t.Errorf("it took %v", took)
		}
		close(release)
	})
}

func TestWorst(t *testing.T) {
	for _, tt := range []struct {
		name string
		all  []Result
		want Result
	}{
		{"all is well", []Result{ok("a"), ok("b")}, Result{State: OK, Found: "a; b"}},
		{"one is not tried", []Result{ok("a"), notTried("b")}, Result{State: NotTried, Found: "b"}},
		{"warnings stay beside what failed", []Result{ok("a"), warning("b", "mend b"), notTried("c"), failed("d", "mend d")}, Result{State: Failed, Found: "b; d", Do: "mend b\nmend d"}},
		{"one way to mend two", []Result{failed("a", "mend"), failed("b", "mend")}, Result{State: Failed, Found: "a; b", Do: "mend"}},
	} {
		if got := worst(tt.all...); got != tt.want {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

// What others say can do nothing to a terminal, has no passwords, and an end.
func TestClean(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"→ 203.0.113.7", "→ 203.0.113.7"},
		{"\x1b[2J\u009b\u202e\xff\r\n.", "?[2J????\n."},
		{`Get "https://user:sesame@plc.example/x": refused`, `Get "https://plc.example/x": refused`},
	} {
		if got := clean(tt.text); got != tt.want {
			t.Errorf("%q: %q", tt.text, got)
		}
	}
	if got := clean(strings.Repeat("é", 100_000)); len(got) > maxText+len("…") {
		t.Errorf("%d bytes", len(got))
	}
	if got := brief("a\nb\t c" + strings.Repeat("é", 1000)); len(got) > 100+len("…") || !strings.HasPrefix(got, "a b") {
		t.Errorf("%q", got)
	}
}
