package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"portico/api/xrpc"
)

// redisTimeout is how long counting may hold a request up, all in all. A server
// that counts in its own memory needs a fraction of a millisecond; beyond this it had
// better do that.
const redisTimeout = 500 * time.Millisecond

// redisLimiter counts requests in Redis, for several processes together: their
// requests take from the same windows, exactly, whatever their clocks say. It is safe for
// concurrent use. Nothing that a client sent can be read in Redis. Ours because
// go-redis/redis_rate has leaky buckets, and the contract's limits are windows, of which
// one request takes from several at once.
type redisLimiter struct {
	client *redis.Client
	prefix string // of all keys, so that servers may share one Redis
	now    func() time.Time
	// patience is how long counting may take.
	patience time.Duration
}

var _ xrpc.Limiter = (*redisLimiter)(nil)

// newRedisLimiter returns the limiter of the server that serviceDID names. It
// connects when it is first used, and again whenever the connection was lost. patience is
// [redisTimeout] but where a test has another.
func newRedisLimiter(address, password, serviceDID string, now func() time.Time, patience time.Duration) *redisLimiter {
	logging.Disable() // the client's own log; whatever goes wrong is returned, too
	return &redisLimiter{
		client: redis.NewClient(&redis.Options{
			Addr: address, Password: password,
			DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience, PoolTimeout: patience,
			ContextTimeoutEnabled: true,
			// A request whose answer was lost may have been counted: asking again would count
			// it twice.
			MaxRetries: -1, DialerRetries: 1,
			DisableIdentity:          true,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		}),
		prefix:   "portico|" + serviceDID + "|",
		now:      now,
		patience: patience,
	}
}

// countScript adds to the counter of each key and returns, key by key, what it has come
// to and the milliseconds until its window ends. ARGV are the lengths of new windows, then
// the points of the limits, then what is to be added beside one: where a window that is
// there is over its points, no other is begun. A script runs alone, so that no two
// requests see the same number. A counter that lost its end, by whatever hand, gets a new
// one rather than live forever.
var countScript = redis.NewScript(`
local windows, new, over = {}, {}, false
local function count(i, key)
  local used = redis.call('INCRBY', key, 1 + ARGV[2 * #KEYS + i])
  local left = redis.call('PTTL', key)
  if left < 0 then
    left = tonumber(ARGV[i])
    redis.call('PEXPIRE', key, left)
  end
  windows[2 * i - 1] = used
  windows[2 * i] = left
  over = over or used > tonumber(ARGV[#KEYS + i])
end
for i, key in ipairs(KEYS) do
  new[i] = redis.call('EXISTS', key) == 0
  if not new[i] then count(i, key) end
end
local full = over
for i, key in ipairs(KEYS) do
  if new[i] and full then
    windows[2 * i - 1] = 1 + ARGV[2 * #KEYS + i]
    windows[2 * i] = tonumber(ARGV[i])
  elseif new[i] then
    count(i, key)
  end
end
return windows`)

// Take implements [xrpc.Limiter]. It fails when its patience is over;
// the request may then have been counted or not.
func (l *redisLimiter) Take(ctx context.Context, counters []xrpc.Counter) ([]xrpc.Window, error) {
	ctx, cancel := context.WithTimeout(ctx, l.patience)
	defer cancel()
	keys := make([]string, len(counters))
	arguments := make([]any, 3*len(counters))
	for i, c := range counters {
		keys[i] = l.key(c)
		arguments[i], arguments[len(counters)+i], arguments[2*len(counters)+i] = c.Per.Milliseconds(), c.Points, c.More
	}
	numbers, err := countScript.Run(ctx, l.client, keys, arguments...).Int64Slice()
	if err != nil {
		return nil, fmt.Errorf("count in Redis: %w", err)
	}
	if len(numbers) != 2*len(counters) {
		return nil, fmt.Errorf("count in Redis: %d numbers for %d counters", len(numbers), len(counters))
	}
	// Redis says how long a window goes on, not when it ends: its clock need not be ours.
	now := l.now()
	windows := make([]xrpc.Window, len(counters))
	for i := range windows {
		windows[i] = xrpc.Window{
			Used:  int(numbers[2*i]),
			Reset: now.Add(time.Duration(numbers[2*i+1]) * time.Millisecond),
		}
	}
	return windows, nil
}

// key hides addresses, and what people type where their handle belongs.
func (l *redisLimiter) key(c xrpc.Counter) string {
	sum := sha256.Sum256([]byte(c.Key))
	return l.prefix + base64.RawURLEncoding.EncodeToString(sum[:])
}

// A fallingLimiter counts in Redis and, while Redis does not answer, in the memory of this
// process, as every other process does in its own. Redis is not waited for then: one probe at a
// time finds out whether it is back. It is safe for concurrent use.
//
// The two know nothing of each other's windows. Those in memory are kept from one absence to the
// next, so whoever can make Redis come and go gets no more than a limit of each process beside
// that of Redis, and Redis's anew where it forgot what it counted.
type fallingLimiter struct {
	shared *redisLimiter
	memory *xrpc.MemoryLimiter
	probe  time.Duration // between two probes
	log    *slog.Logger

	ctx     context.Context // until Close
	stop    context.CancelFunc
	probing sync.WaitGroup

	mu     sync.Mutex
	closed bool
	away   atomic.Bool // changed with mu held
}

var _ xrpc.Limiter = (*fallingLimiter)(nil)

// redisProbe is how long Redis is let alone when it does not answer.
const redisProbe = time.Second

// newFallingLimiter takes shared over. probe is [redisProbe] but where a test has another.
func newFallingLimiter(shared *redisLimiter, probe time.Duration, log *slog.Logger) *fallingLimiter {
	l := &fallingLimiter{shared: shared, memory: xrpc.NewMemoryLimiter(shared.now), probe: probe, log: log}
	l.ctx, l.stop = context.WithCancel(context.Background())
	return l
}

// Take implements [xrpc.Limiter]. It fails for a caller who goes away alone.
func (l *fallingLimiter) Take(ctx context.Context, counters []xrpc.Counter) ([]xrpc.Window, error) {
	if l.away.Load() {
		return l.memory.Take(ctx, counters)
	}
	windows, err := l.shared.Take(ctx, counters)
	if err == nil || ctx.Err() != nil {
		return windows, err
	}
	l.leave(err)
	return l.memory.Take(ctx, counters)
}

// leave counts in memory from now on, until Redis answers.
func (l *fallingLimiter) leave(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.away.Load() {
		return
	}
	l.away.Store(true)
	l.log.Warn("Redis (PDS_REDIS_SCRATCH_ADDRESS) does not answer: until it does, this server counts limits of requests by itself, and so does each other one",
		slog.Any("error", err))
	l.probing.Go(l.wait)
}

// wait returns when Redis counts again, or l is closed. Something is counted: one that
// answers and takes no writes is no use.
func (l *fallingLimiter) wait() {
	every := time.NewTicker(l.probe)
	defer every.Stop()
	for {
		select {
		case <-every.C:
		case <-l.ctx.Done():
			return
		}
		if _, err := l.shared.Take(l.ctx, []xrpc.Counter{{Key: "probe", Points: 1, Per: time.Second}}); err == nil {
			break
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away.Store(false)
	l.log.Info("Redis counts limits of requests again")
}

// Close ends the connections.
func (l *fallingLimiter) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.stop()
	l.probing.Wait()
	return l.shared.Close()
}

// openLimiter returns what counts requests by the settings, nil for nothing, and
// what is to be called in the end.
func openLimiter(ctx context.Context, s *settings, log *slog.Logger) (xrpc.Limiter, func() error, error) {
	nothing := func() error { return nil }
	switch {
	case !s.RateLimits:
		return nil, nothing, nil
	case s.RedisAddress == "":
		return xrpc.NewMemoryLimiter(time.Now), nothing, nil
	}
	shared := newRedisLimiter(s.RedisAddress, string(s.RedisPassword), s.ServiceDID.String(), time.Now, redisTimeout)
	away, err := shared.check(ctx)
	if err != nil {
		return nil, nothing, errors.Join(err, shared.Close())
	}
	l := newFallingLimiter(shared, redisProbe, log)
	if away != nil {
		l.leave(away)
	}
	return l, l.Close, nil
}

// check tells at the start what users would notice otherwise. Only a Redis that refuses us is
// an error; one that is away, for the reason that it returns, may come back.
func (l *redisLimiter) check(ctx context.Context) (away, err error) {
	ctx, cancel := context.WithTimeout(ctx, 4*l.patience)
	defer cancel()
	away = l.client.Ping(ctx).Err()
	if away != nil && (redis.IsAuthError(away) || redis.IsPermissionError(away) || redis.HasErrorPrefix(away, "ERR AUTH")) {
		return nil, unfit(fmt.Errorf("password of Redis (PDS_REDIS_SCRATCH_PASSWORD): %w", away))
	}
	return away, nil
}

// Close ends the connections.
func (l *redisLimiter) Close() error { return l.client.Close() }
