package logging

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A pipe keeps what is written to it. Where it is blocked it takes nothing until it is not;
// where it fails it takes the first bytes of what is written.
type pipe struct {
	mu      sync.Mutex
	text    bytes.Buffer
	writes  int
	blocked chan struct{} // nil: not blocked
	failing bool
	takes   int // bytes of a write that fails
}

var errFull = errors.New("no space left on device")

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	blocked := p.blocked
	p.mu.Unlock()
	if blocked != nil {
		<-blocked
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writes++
	if p.failing {
		n, _ := p.text.Write(b[:min(p.takes, len(b))])
		return n, errFull
	}
	return p.text.Write(b)
}

func (p *pipe) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

func (p *pipe) block() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blocked = make(chan struct{})
}

func (p *pipe) unblock() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.blocked)
	p.blocked = nil
}

func (p *pipe) fail(failing bool, takes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failing, p.takes = failing, takes
}

// messages are those of lines of text, without their times.
func messages(text string) []string {
	var list []string
	for line := range strings.Lines(text) {
		_, message, _ := strings.Cut(line, " level=")
		list = append(list, strings.TrimSuffix(message, "\n"))
	}
	return list
}

func expect(t *testing.T, p *pipe, want ...string) {
	t.Helper()
	if got := messages(p.String()); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("written:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

const lost = `ERROR msg="lines of the log were lost: nobody took them, or too slowly" lines=`

// Lines are those of slog's own handlers.
func TestLines(t *testing.T) {
	for _, json := range []bool{false, true} {
		var own, ours bytes.Buffer
		options := &slog.HandlerOptions{Level: slog.LevelInfo}
		var theirs slog.Handler = slog.NewTextHandler(&own, options)
		if json {
			theirs = slog.NewJSONHandler(&own, options)
		}
		log, _, stop := New(&ours, slog.LevelInfo, json)
		r := slog.NewRecord(time.Now(), slog.LevelInfo, "a \"request\"\n\x00\xff", 0)
		r.AddAttrs(slog.Int("status", 200), slog.Duration("duration", 1234567), slog.Any("error", errFull), slog.Group("g", "a b", "=", "", nil))
		for _, h := range []slog.Handler{theirs, log.Handler()} {
			if h.Enabled(t.Context(), slog.LevelDebug) {
				t.Error("it is enabled below its level")
			}
			for _, h := range []slog.Handler{h, h.WithAttrs([]slog.Attr{slog.String("with", "x")}), h.WithGroup("in"), h.WithGroup("in").WithAttrs([]slog.Attr{slog.Bool("with", true)})} {
				if err := h.Handle(t.Context(), r); err != nil {
					t.Error(err)
				}
			}
		}
		stop()
		if own.Len() == 0 || own.String() != ours.String() {
			t.Errorf("json %t:\n%s\nslog's:\n%s", json, ours.String(), own.String())
		}
	}
}

// A line waits for others, but not for long, and an idle log holds nothing back.
func TestSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipe{}
		log, _, stop := New(p, slog.LevelInfo, false)
		defer stop()
		for _, message := range []string{"one", "two"} {
			log.Debug("not this")
			log.Info(message)
			time.Sleep(delay / 3)
		}
		expect(t, p)
		time.Sleep(delay)
		expect(t, p, "INFO msg=one", "INFO msg=two")
		log.Info("three")
		time.Sleep(delay + 1)
		expect(t, p, "INFO msg=one", "INFO msg=two", "INFO msg=three")
		if p.writes != 2 {
			t.Errorf("%d writes, want 2", p.writes)
		}
	})
}

// What is worth a look is written before the call returns, and what came before it too.
func TestAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipe{}
		log, _, stop := New(p, slog.LevelInfo, false)
		defer stop()
		log.Info("one")
		log.Warn("two")
		expect(t, p, "INFO msg=one", "WARN msg=two")
		log.With("a", 1).WithGroup("g").Error("three", "b", 2)
		expect(t, p, "INFO msg=one", "WARN msg=two", "ERROR msg=three a=1 g.b=2")
		begin := time.Now()
		for i := range 100 {
			log.Error(fmt.Sprint(i))
		}
		if passed := time.Since(begin); passed != 0 {
			t.Errorf("errors took %s", passed)
		}
	})
}

// A full buffer is written without waiting for its time.
func TestMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipe{}
		log, _, stop := New(p, slog.LevelInfo, false)
		begin, long := time.Now(), strings.Repeat("x", 1000)
		for range 3 * size / len(long) {
			log.Info(long)
		}
		if passed := time.Since(begin); passed != 0 {
			t.Errorf("it took %s", passed)
		}
		stop()
		if got := strings.Count(p.String(), "msg="+long+"\n"); got != 3*size/len(long) {
			t.Errorf("%d lines", got)
		}
	})
}

// A line that is longer than the buffer is written whole.
func TestLongLine(t *testing.T) {
	p := &pipe{}
	log, _, stop := New(p, slog.LevelInfo, false)
	long := strings.Repeat("x", size+1)
	for range 3 {
		log.Info(long)
	}
	stop()
	expect(t, p, "INFO msg="+long, "INFO msg="+long, "INFO msg="+long)
}

// Where nobody reads the log, all that log wait once, for a second in all; memory does not
// grow, and how many lines are missing is told when somebody reads again.
func TestBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipe{}
		b := newBuffer(p, func(n int) error { _, err := fmt.Fprintln(p, "lost", n); return err })
		p.block()
		begin := time.Now()
		write := func(i int) { fmt.Fprintf(b, "%99d\n", i) }
		const lines = 6000
		for i := range lines {
			write(i)
		}
		b.Flush()
		var others sync.WaitGroup
		for i := range 100 {
			others.Go(func() { write(lines + i) })
		}
		others.Wait()
		if passed := time.Since(begin); passed != patience {
			t.Errorf("they waited %s", passed)
		}
		b.mu.Lock()
		if waits := cap(b.lines); waits > 2*size {
			t.Errorf("%d bytes wait", waits)
		}
		b.mu.Unlock()

		p.unblock()
		synctest.Wait()
		fmt.Fprintln(b, "again")
		b.Close()
		text := p.String()
		written := strings.Count(text, "\n") - 2
		if want := fmt.Sprintf("\nlost %d\nagain\n", lines+100-written); !strings.HasSuffix(text, want) {
			t.Errorf("%d lines are there, and the end is %q, want %q", written, text[max(0, len(text)-len(want)):], want)
		}
		// First those that came first.
		for i := range size / 100 {
			if want := fmt.Sprintf("%99d\n", i); !strings.HasPrefix(text[100*i:], want) {
				t.Fatalf("line %d is %q", i, text[100*i:100*i+100])
			}
		}
	})
}

// Who reads slowly, but reads, gets everything.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipe{}
		log, _, stop := New(p, slog.LevelInfo, false)
		for i := range 3 {
			p.block()
			time.AfterFunc(patience*9/10, p.unblock)
			for range 2 * size / 1000 {
				log.Info(strings.Repeat("x", 1000))
			}
			log.Error(fmt.Sprint(i))
		}
		stop()
		text := p.String()
		if got := strings.Count(text, "\n"); got != 3*(2*size/1000+1) || strings.Contains(text, "lost") {
			t.Errorf("%d lines", got)
		}
	})
}

// A log that can't be written stops nobody, and says what is missing once it can.
func TestFailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipe{}
		log, _, stop := New(p, slog.LevelInfo, false)
		defer stop()
		log.Error("one")
		p.fail(true, 0)
		begin := time.Now()
		for range 3 {
			log.Info("two")
			log.Error("three")
		}
		if passed := time.Since(begin); passed != 0 {
			t.Errorf("they waited %s", passed)
		}
		p.fail(false, 0)
		log.Error("four")
		expect(t, p, "ERROR msg=one", "ERROR msg=four", lost+"6")

		// What was cut off ends its line, and counts as lost.
		p.fail(true, len("time=2000-01-01T00:00:00.100Z level=ERROR msg=fi"))
		log.Error("five")
		p.fail(true, 0)
		log.Error("six")
		p.fail(false, 0)
		log.Error("seven")
		expect(t, p, "ERROR msg=one", "ERROR msg=four", lost+"6", "ERROR msg=fi", "ERROR msg=seven", lost+"2")
	})
}

func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipe{}
		log, _, stop := New(p, slog.LevelInfo, false)
		log.Info("one")
		stop()
		expect(t, p, "INFO msg=one")
		log.Info("two")
		expect(t, p, "INFO msg=one", "INFO msg=two")
		stop()
	})
}

// A stop with nobody there to read ends too.
func TestStopBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipe{}
		log, _, stop := New(p, slog.LevelInfo, false)
		p.block()
		log.Info("one")
		begin := time.Now()
		stop()
		log.Info("two")
		log.Error("three")
		if passed := time.Since(begin); passed != patience {
			t.Errorf("it took %s", passed)
		}
		p.unblock()
		synctest.Wait()
		log.Info("four")
		expect(t, p, "INFO msg=one", "INFO msg=four")
	})
}

// What many log at a time is there once, line by line, in the order of each.
func TestConcurrent(t *testing.T) {
	p := &pipe{}
	log, _, stop := New(p, slog.LevelInfo, false)
	const callers, lines = 8, 500
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			log := log.With("caller", caller)
			for i := range lines {
				level := slog.LevelInfo
				if i%100 == 0 {
					level = slog.LevelError
				}
				log.Log(context.Background(), level, "line", "i", i)
			}
		})
	}
	all.Wait()
	stop()
	next := make([]int, callers)
	for _, message := range messages(p.String()) {
		var caller, i int
		_, rest, _ := strings.Cut(message, " ")
		if _, err := fmt.Sscanf(rest, "msg=line caller=%d i=%d", &caller, &i); err != nil || next[caller] != i {
			t.Fatalf("%q, want line %d: %v", message, next[caller], err)
		}
		next[caller]++
	}
	for caller, n := range next {
		if n != lines {
			t.Errorf("%d lines of caller %d", n, caller)
		}
	}
}

func BenchmarkInfo(b *testing.B) {
	log, _, stop := New(io.Discard, slog.LevelInfo, true)
	defer stop()
	b.ReportAllocs()
	for b.Loop() {
		log.LogAttrs(b.Context(), slog.LevelInfo, "request", slog.String("method", "com.atproto.server.getSession"), slog.String("verb", "GET"),
			slog.Int("status", 200), slog.Float64("duration_ms", 0.153))
	}
}
