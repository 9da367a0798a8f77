package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"portico/api/xrpc"
	"portico/cmd/portico/launch"
)

// A redisServer is a Redis of one test's own. It listens on a socket in the file
// system, so that no two tests can want the same port.
type redisServer struct {
	testing.TB
	dir, password string
	command       *exec.Cmd
}

func startRedis(t testing.TB, password string) *redisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("Redis is missing: %v", err)
		}
		t.Skipf("SKIPPED, NOTHING WAS TESTED ON REDIS: %v", err)
	}
	dir, err := os.MkdirTemp("", "redis") // t.TempDir() is too long for the name of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &redisServer{TB: t, dir: dir, password: password}
	r.start()
	t.Cleanup(r.kill)
	return r
}

func (r *redisServer) address() string { return filepath.Join(r.dir, "socket") }

// start runs the server and waits until it listens.
func (r *redisServer) start() {
	r.Helper()
	args := []string{"--port", "0", "--unixsocket", r.address(), "--save", "", "--appendonly", "no", "--dir", r.dir}
	if r.password != "" {
		args = append(args, "--requirepass", r.password)
	}
	var out bytes.Buffer
	r.command = exec.Command("redis-server", args...)
	r.command.Stdout, r.command.Stderr = &out, &out
	if err := r.command.Start(); err != nil {
		r.Fatal(err)
	}
	for deadline := time.Now().Add(launch.Patience); ; time.Sleep(time.Millisecond) {
		c, err := net.Dial("unix", r.address())
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			r.kill()
			r.Fatalf("redis-server does not listen: %v\n%s", err, out.String())
		}
	}
}

func (r *redisServer) signal(s syscall.Signal) {
	r.Helper()
	if err := r.command.Process.Signal(s); err != nil {
		r.Fatal(err)
	}
}

// kill ends the server at once; what it counted is lost.
func (r *redisServer) kill() {
	r.command.Process.Kill() // also one that is stopped
	r.command.Wait()
}

// limiter is one that a busy machine does not make fail.
func (r *redisServer) limiter(now func() time.Time) *redisLimiter {
	return r.limiterFor(launch.Patience, now)
}

func (r *redisServer) limiterFor(patience time.Duration, now func() time.Time) *redisLimiter {
	l := newRedisLimiter(r.address(), r.password, "did:web:pds.test", now, patience)
	r.Cleanup(func() { l.Close() })
	return l
}

// A counted is a limiter under test, opened twice over what it counts in, and its
// clock.
type counted struct {
	a, b    xrpc.Limiter
	now     func() time.Time
	advance func(time.Duration)
}

// limiters open every kind of limiter.
var limiters = map[string]func(*testing.T) *counted{
	"memory": func(*testing.T) *counted {
		c := &counted{}
		clock := standing(c)
		l := xrpc.NewMemoryLimiter(c.now)
		c.a, c.b, c.advance = l, l, clock
		return c
	},
	"redis": func(t *testing.T) *counted {
		server := startRedis(t, "")
		c := &counted{}
		clock := standing(c)
		a, b := server.limiter(c.now), server.limiter(c.now)
		c.a, c.b = a, b
		// Redis has its own idea of time: instead of waiting, bring the ends nearer.
		c.advance = func(d time.Duration) {
			clock(d)
			keys, err := a.client.Keys(t.Context(), a.prefix+"*").Result()
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range keys {
				left, err := a.client.PTTL(t.Context(), key).Result()
				if err != nil {
					t.Fatal(err)
				}
				if left < 0 {
					t.Errorf("%s never ends", key)
				}
				// What ends now or has ended is deleted by this.
				if err := a.client.PExpire(t.Context(), key, left-d).Err(); err != nil {
					t.Fatal(err)
				}
			}
		}
		return c
	},
}

// standing gives c a clock that stands still, and returns what moves it.
func standing(c *counted) (advance func(time.Duration)) {
	var mu sync.Mutex
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	c.now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	return func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(d)
	}
}

func take(t *testing.T, l xrpc.Limiter, counters ...xrpc.Counter) []xrpc.Window {
	t.Helper()
	windows, err := l.Take(t.Context(), counters)
	if err != nil {
		t.Fatal(err)
	}
	if len(windows) != len(counters) {
		t.Fatalf("%d windows for %d counters", len(windows), len(counters))
	}
	return windows
}

// Every limiter keeps the same promises.
func TestLimiters(t *testing.T) {
	for name, open := range limiters {
		t.Run(name, func(t *testing.T) {
			c := open(t)
			// ends fails unless w ends at want: some seconds too early is the time that went by
			// in Redis while the test's clock stood still.
			ends := func(w xrpc.Window, want time.Time) {
				t.Helper()
				if early := want.Sub(w.Reset); early < 0 || early > 30*time.Second {
					t.Errorf("window ends %v, want %v", w.Reset, want)
				}
			}
			used := func(windows []xrpc.Window, want ...int) {
				t.Helper()
				var got []int
				for _, w := range windows {
					got = append(got, w.Used)
				}
				if !slices.Equal(got, want) {
					t.Errorf("used %v, want %v", got, want)
				}
			}
			hour := func(key string) xrpc.Counter { return xrpc.Counter{Key: key, Points: 2, Per: time.Hour} }
			day := func(key string) xrpc.Counter { return xrpc.Counter{Key: key, Points: 5, Per: 24 * time.Hour} }

			used(take(t, c.a))
			start := c.now()
			w := take(t, c.a, hour("hour|x"), day("day|x"))
			used(w, 1, 1)
			ends(w[0], start.Add(time.Hour))
			ends(w[1], start.Add(24*time.Hour))

			// Later requests take from the window of the first one and do not move its end,
			// through whatever door they come.
			c.advance(50 * time.Minute)
			w = take(t, c.b, hour("hour|x"), day("day|x"))
			used(w, 2, 2)
			ends(w[0], start.Add(time.Hour))
			ends(w[1], start.Add(24*time.Hour))
			// Beyond the limit they go on being counted.
			used(take(t, c.a, hour("hour|x"), day("day|x")), 3, 3)
			// Other callers and other limits are not concerned; order is that of the call.
			used(take(t, c.b, day("day|x"), hour("hour|y"), hour("hour|x")), 4, 1, 4)
			// What is over one limit has begun no window of another.
			used(take(t, c.b, hour("hour|y")), 1)
			// One counter twice counts twice.
			used(take(t, c.a, hour("hour|z"), hour("hour|z")), 1, 2)

			// A window that has ended begins anew with the next request, not before.
			c.advance(10 * time.Minute)
			w = take(t, c.a, hour("hour|x"), hour("hour|y"), day("day|x"))
			used(w, 1, 2, 5)
			ends(w[0], start.Add(2*time.Hour))
			ends(w[1], start.Add(110*time.Minute))
			c.advance(7 * 24 * time.Hour)
			w = take(t, c.b, day("day|x"))
			used(w, 1)
			ends(w[0], c.now().Add(24*time.Hour))
			// Some take more than one point, also those that begin a window.
			dear := func(c xrpc.Counter, more int) xrpc.Counter { c.More = more; return c }
			used(take(t, c.a, dear(day("day|x"), 2), dear(hour("hour|d"), 1)), 4, 2)
			used(take(t, c.b, dear(hour("hour|d"), 1), dear(hour("hour|e"), 4)), 4, 5)
			used(take(t, c.b, hour("hour|e")), 1)
		})
	}
}

// However many ask at once, through however many processes, the numbers are dealt
// out without a gap and without a double.
func TestLimitersRace(t *testing.T) {
	const callers, calls = 10, 20
	for name, open := range limiters {
		t.Run(name, func(t *testing.T) {
			c := open(t)
			var (
				group sync.WaitGroup
				mu    sync.Mutex
				seen  = map[string][]int{}
			)
			for caller := range callers {
				l := c.a
				if caller%2 == 1 {
					l = c.b
				}
				group.Go(func() {
					for call := range calls {
						counters := []xrpc.Counter{
							{Key: "all", Points: 50, Per: time.Hour},
							{Key: fmt.Sprint("some|", call%2), Points: 50, Per: time.Minute},
						}
						windows, err := l.Take(t.Context(), counters)
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						for i, w := range windows {
							seen[counters[i].Key] = append(seen[counters[i].Key], w.Used)
						}
						mu.Unlock()
					}
				})
			}
			group.Wait()
			for key, want := range map[string]int{"all": 200, "some|0": 100, "some|1": 100} {
				numbers := seen[key]
				slices.Sort(numbers)
				for i, n := range numbers {
					if n != i+1 || len(numbers) != want {
						t.Errorf("%s: %d numbers, want 1 to %d: %v", key, len(numbers), want, numbers)
						break
					}
				}
			}
		})
	}
}

// Windows end by Redis's clock alone, too.
func TestRedisEndsWindows(t *testing.T) {
	l := startRedis(t, "").limiter(time.Now)
	counter := xrpc.Counter{Key: "short", Points: 1, Per: 50 * time.Millisecond}
	if w := take(t, l, counter); w[0].Used != 1 {
		t.Errorf("used %d, want 1", w[0].Used)
	}
	for deadline := time.Now().Add(launch.Patience); take(t, l, counter)[0].Used != 1; {
		if time.Now().After(deadline) {
			t.Fatal("the window does not end")
		}
	}
}

// Nothing of what clients sent is readable, everything ends, servers that share a
// Redis don't count for each other, and a counter without an end gets one.
func TestRedisKeys(t *testing.T) {
	server := startRedis(t, "")
	l := server.limiter(time.Now)
	counter := xrpc.Counter{Key: "com.atproto.server.createSession||30/5m0s|alice@example.com-192.0.2.1", Points: 30, Per: 5 * time.Minute}
	take(t, l, counter)
	other := newRedisLimiter(server.address(), "", "did:web:other.test", time.Now, launch.Patience)
	defer other.Close()
	if w := take(t, other, counter); w[0].Used != 1 {
		t.Errorf("another server's first request is number %d", w[0].Used)
	}
	keys, err := l.client.Keys(t.Context(), "*").Result()
	if err != nil || len(keys) != 2 {
		t.Fatalf("keys %v, %v", keys, err)
	}
	for _, key := range keys {
		if !strings.HasPrefix(key, "portico|did:web:") || strings.Contains(key, "alice") || strings.Contains(key, "192.0.2.1") {
			t.Errorf("key %s", key)
		}
		if left, err := l.client.PTTL(t.Context(), key).Result(); err != nil || left <= 0 || left > 5*time.Minute {
			t.Errorf("%s ends in %v, %v", key, left, err)
		}
		if err := l.client.Persist(t.Context(), key).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if w := take(t, l, counter); w[0].Used != 2 || time.Until(w[0].Reset) > 5*time.Minute {
		t.Errorf("window %+v", w[0])
	}
	if err := l.client.ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if w := take(t, l, counter); w[0].Used != 3 {
		t.Errorf("after Redis forgot the script: %+v", w[0])
	}
}

// serveLimited serves com.example.limited, five calls an hour, and
// com.example.free, with the global limit alone.
func serveLimited(t *testing.T, l xrpc.Limiter) string {
	t.Helper()
	e := echo.New()
	r := xrpc.NewServer(e, xrpc.Options{Logger: slog.New(slog.DiscardHandler), Callers: func() *xrpc.Callers { return &xrpc.Callers{Limiter: l} }}).On(e)
	for nsid, limits := range map[string]xrpc.Limits[xrpc.None]{
		"com.example.limited": {{Points: 5, Per: time.Hour}},
		"com.example.free":    xrpc.GlobalLimitOnly[xrpc.None](),
	} {
		r.POST("/xrpc/"+nsid, xrpc.Handle(&xrpc.Method{NSID: nsid, Kind: xrpc.Procedure}, xrpc.Policy[xrpc.None]{Auth: xrpc.Public, Limits: limits},
			func(context.Context, *xrpc.None) (*xrpc.None, error) { return nil, nil }))
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(e)
	t.Cleanup(h.Close)
	return h.URL
}

func post(t *testing.T, url string) (status int, body string, header http.Header) {
	t.Helper()
	r, err := http.Post(url, "", nil)
	if err != nil {
		t.Error(err)
		return 0, "", nil
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	return r.StatusCode, string(text), r.Header
}

// Two servers on one Redis let through what one would.
func TestRedisLimitsTwoServers(t *testing.T) {
	redis := startRedis(t, "")
	urls := []string{serveLimited(t, redis.limiter(time.Now)), serveLimited(t, redis.limiter(time.Now))}
	var group sync.WaitGroup
	statuses := make([]int, 30)
	for i := range statuses {
		group.Go(func() { statuses[i], _, _ = post(t, urls[i%2]+"/xrpc/com.example.limited") })
	}
	group.Wait()
	count := map[int]int{}
	for _, s := range statuses {
		count[s]++
	}
	if count[200] != 5 || count[429] != 25 {
		t.Errorf("answers %v, want 5 times 200 and 25 times 429", count)
	}
	_, _, h := post(t, urls[0]+"/xrpc/com.example.free")
	if h.Get("RateLimit-Limit") != "3000" || h.Get("RateLimit-Remaining") != "2969" || h.Get("RateLimit-Policy") != "3000;w=300" {
		t.Errorf("global limit after 31 requests: %v", h)
	}
}

// falling is a limiter that gives up soon, and its log.
func (r *redisServer) falling(patience time.Duration) (*fallingLimiter, *lines) {
	log := new(lines)
	l := newFallingLimiter(newRedisLimiter(r.address(), r.password, "did:web:pds.test", time.Now, patience), time.Millisecond, slog.New(slog.NewTextHandler(log, nil)))
	r.Cleanup(func() {
		if err := l.Close(); err != nil {
			r.Error(err)
		}
	})
	return l, log
}

// lines are what was logged, without the times.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// count is how many lines of a level there are.
func (l *lines) count(level string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), "level="+level)
}

// While Redis is away each server counts by itself, and none waits for it again; when it is
// back, they count together.
func TestRedisLimitsOutage(t *testing.T) {
	for _, tt := range []struct {
		name        string
		leave, back func(*redisServer)
	}{
		{"dead", (*redisServer).kill, (*redisServer).start},
		{"hanging", func(r *redisServer) { r.signal(syscall.SIGSTOP) }, func(r *redisServer) { r.signal(syscall.SIGCONT) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			redis := startRedis(t, "")
			a, logged := redis.falling(launch.Patience)
			b, _ := redis.falling(launch.Patience)
			urls := []string{serveLimited(t, a), serveLimited(t, b)}
			expect := func(url string, status int, left string) {
				t.Helper()
				got, body, h := post(t, url+"/xrpc/com.example.limited")
				if got != status || h.Get("RateLimit-Remaining") != left {
					t.Errorf("%d %s, %q left; want %d, %s left", got, body, h.Get("RateLimit-Remaining"), status, left)
				}
			}
			away := func(want bool) {
				t.Helper()
				for deadline := time.Now().Add(launch.Patience); a.away.Load() != want || b.away.Load() != want; time.Sleep(time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("away %v and %v, want %v", a.away.Load(), b.away.Load(), want)
					}
				}
			}
			expect(urls[0], 200, "4")
			expect(urls[1], 200, "3")
			for range 2 {
				tt.leave(redis)
				a.leave(errors.New("no answer")) // as after its patience
				b.leave(errors.New("no answer"))
				if !a.away.Load() || !b.away.Load() {
					t.Fatal("a Redis that does not answer is asked")
				}
				tt.back(redis)
				away(false)
			}
			tt.leave(redis)
			a.leave(errors.New("no answer"))
			b.leave(errors.New("no answer"))
			for left := 4; left >= 0; left-- {
				expect(urls[0], 200, fmt.Sprint(left))
			}
			expect(urls[0], 429, "0")
			expect(urls[1], 200, "4") // each by itself
			tt.back(redis)
			away(false)
			if tt.name == "dead" {
				expect(urls[0], 200, "4") // it forgot
			} else {
				expect(urls[0], 200, "2")
			}
			// Who comes and goes gets no windows anew.
			tt.leave(redis)
			a.leave(errors.New("no answer"))
			expect(urls[0], 429, "0")
			if warned, told := logged.count("WARN"), logged.count("INFO"); warned != 4 || told != 3 {
				t.Errorf("%d and %d lines of the log, want 4 and 3:\n%s", warned, told, logged.text.String())
			}
			tt.back(redis)
		})
	}
}

// Whoever asks just when Redis goes away waits its patience once, and is counted in memory.
func TestRedisGivenUp(t *testing.T) {
	redis := startRedis(t, "")
	l, logged := redis.falling(50 * time.Millisecond)
	redis.signal(syscall.SIGSTOP)
	url := serveLimited(t, l)
	var group sync.WaitGroup
	statuses := make([]int, 20)
	for i := range statuses {
		group.Go(func() { statuses[i], _, _ = post(t, url+"/xrpc/com.example.limited") })
	}
	group.Wait()
	count := map[int]int{}
	for _, s := range statuses {
		count[s]++
	}
	if count[200] != 5 || count[429] != 15 {
		t.Errorf("answers %v, want 5 times 200 and 15 times 429", count)
	}
	if n := logged.count("WARN"); n != 1 {
		t.Errorf("%d warnings, want 1", n)
	}
	redis.signal(syscall.SIGCONT)
}

// One that answers but takes no writes is away: a standby that nobody made the first.
func TestRedisThatOnlyReads(t *testing.T) {
	redis := startRedis(t, "")
	l, _ := redis.falling(launch.Patience)
	if err := l.shared.client.Do(t.Context(), "REPLICAOF", "127.0.0.1", "1").Err(); err != nil {
		t.Fatal(err)
	}
	counter := xrpc.Counter{Key: "x", Points: 2, Per: time.Hour}
	for want := 1; want <= 3; want++ {
		if w := take(t, l, counter); w[0].Used != want || !l.away.Load() {
			t.Errorf("used %d, want %d; away %v", w[0].Used, want, l.away.Load())
		}
	}
	if err := l.shared.client.Do(t.Context(), "REPLICAOF", "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(launch.Patience); l.away.Load(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it stays away")
		}
	}
	if w := take(t, l, counter); w[0].Used != 1 {
		t.Errorf("used %d, want 1", w[0].Used)
	}
}

// A caller who goes away does not wait for Redis.
func TestRedisLimiterHeedsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := startRedis(t, "").limiter(time.Now).Take(ctx, []xrpc.Counter{{Key: "x", Points: 1, Per: time.Hour}}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestOpenLimiter(t *testing.T) {
	redis := startRedis(t, "the password")
	for _, tt := range []struct {
		name      string
		s         settings
		kind, err string
		log       string
	}{
		{"off", settings{RedisAddress: redis.address()}, "<nil>", "", ""},
		{"memory", settings{RateLimits: true}, "*xrpc.MemoryLimiter", "", ""},
		{"redis", settings{RateLimits: true, RedisAddress: redis.address(), RedisPassword: "the password"}, "*main.fallingLimiter", "", ""},
		{"wrong password", settings{RateLimits: true, RedisAddress: redis.address(), RedisPassword: "password1"}, "<nil>", "PDS_REDIS_SCRATCH_PASSWORD", ""},
		{"no password", settings{RateLimits: true, RedisAddress: redis.address()}, "<nil>", "PDS_REDIS_SCRATCH_PASSWORD", ""},
		{"away", settings{RateLimits: true, RedisAddress: "127.0.0.1:1"}, "*main.fallingLimiter", "", "PDS_REDIS_SCRATCH_ADDRESS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			l, stop, err := openLimiter(t.Context(), &tt.s, slog.New(slog.NewTextHandler(&log, nil)))
			if got := fmt.Sprintf("%T", l); got != tt.kind {
				t.Errorf("limiter %s, want %s", got, tt.kind)
			}
			if got := fmt.Sprint(err); (err != nil) != (tt.err != "") || !strings.Contains(got, tt.err) {
				t.Errorf("error %v, want one about %q", err, tt.err)
			}
			if got := log.String(); (got != "") != (tt.log != "") || !strings.Contains(got, tt.log) {
				t.Errorf("log %q, want %q", got, tt.log)
			}
			if text := fmt.Sprint(err) + log.String(); strings.Contains(text, "password1") {
				t.Errorf("the password shows: %s", text)
			}
			if err := stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

func BenchmarkRedisLimiter(b *testing.B) {
	l := startRedis(b, "").limiter(time.Now)
	counters := []xrpc.Counter{
		{Key: "a", Points: 30, Per: 5 * time.Minute}, {Key: "b", Points: 300, Per: 24 * time.Hour}, {Key: "c", Points: 3000, Per: 5 * time.Minute},
	}
	for b.Loop() {
		if _, err := l.Take(b.Context(), counters); err != nil {
			b.Fatal(err)
		}
	}
}
