package job

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"portico/db/dbtest"
)

// A table is the leases, as several nodes have them.
type table struct {
	mu     sync.Mutex
	holder map[string]string
	until  map[string]time.Time
}

func newTable() *table {
	return &table{holder: map[string]string{}, until: map[string]time.Time{}}
}

// A node is one that may be cut off from the leases.
type node struct {
	*table
	name string
	mu   sync.Mutex
	cut  bool
	skew time.Duration // of its clock
}

var errCut = errors.New("the database is away")

func (n *node) claim(ctx context.Context, names []string, holder string, now, until time.Time) ([]bool, error) {
	n.mu.Lock()
	cut := n.cut
	n.mu.Unlock()
	if cut {
		<-ctx.Done() // as one does that lost its connection
		return nil, errCut
	}
	n.table.mu.Lock()
	defer n.table.mu.Unlock()
	mine := make([]bool, len(names))
	for i, name := range names {
		if n.holder[name] == holder || !n.until[name].After(now) {
			n.holder[name], n.until[name], mine[i] = holder, until, true
		}
	}
	return mine, nil
}

func (n *node) release(_ context.Context, names []string, holder string) error {
	n.table.mu.Lock()
	defer n.table.mu.Unlock()
	for _, name := range names {
		if n.holder[name] == holder {
			delete(n.holder, name)
			delete(n.until, name)
		}
	}
	return nil
}

func (n *node) sever(cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = cut
}

// A record is of who runs a job, and since when.
type record struct {
	testing.TB
	mu      sync.Mutex
	running []string
	began   []string
	at      []time.Duration // since the start
	start   time.Time
}

// begin notes that a node runs the job, which no other does.
func (r *record) begin(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = append(r.running, name)
	if len(r.running) > 1 {
		r.Errorf("%v run the job at once", r.running)
	}
	r.began, r.at = append(r.began, name), append(r.at, time.Since(r.start))
}

func (r *record) end(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = slices.DeleteFunc(r.running, func(n string) bool { return n == name })
}

// hosts are the nodes that have begun the job, in their order.
func (r *record) hosts() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.began)
}

// times are when it was begun, since the start.
func (r *record) times() []time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.at)
}

func (n *node) scheduler() *Scheduler {
	return &Scheduler{Holder: n.name, Now: func() time.Time { return time.Now().Add(n.skew) }, Log: slog.New(slog.DiscardHandler), leases: n}
}

// long is a job that takes until it is told to end.
func (r *record) long(name string) Job {
	return Job{Name: "long", Every: time.Hour, Run: func(ctx context.Context) error {
		r.begin(name)
		defer r.end(name)
		<-ctx.Done()
		return ctx.Err()
	}}
}

// A node that dies, or can't reach the database, in the midst of a run is followed by another
// one within two minutes, which begins when the first one has ended. It does not get the job
// back by itself.
func TestTakeover(t *testing.T) {
	for _, skew := range []time.Duration{0, 15 * time.Second, -15 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			shared, r := newTable(), &record{TB: t, start: time.Now()}
			a, b := &node{table: shared, name: "a"}, &node{table: shared, name: "b", skew: skew}
			ctx, stop := context.WithCancel(t.Context())
			var both sync.WaitGroup
			both.Go(func() { a.scheduler().Run(ctx, r.long("a")) })
			synctest.Wait()
			both.Go(func() { b.scheduler().Run(ctx, r.long("b")) })
			time.Sleep(10 * time.Minute) // a run goes on for longer than its lease
			if !slices.Equal(r.hosts(), []string{"a"}) {
				t.Fatalf("began %v", r.hosts())
			}
			a.sever(true)
			died := time.Since(r.start)
			time.Sleep(2 * time.Minute)
			if !slices.Equal(r.hosts(), []string{"a", "b"}) {
				t.Fatalf("began %v", r.hosts())
			}
			t.Logf("taken over after %v", r.times()[1]-died)
			if Takeover > 2*time.Minute {
				t.Errorf("Takeover is %v", Takeover)
			}
			a.sever(false)
			time.Sleep(10 * time.Minute)
			if !slices.Equal(r.hosts(), []string{"a", "b"}) {
				t.Errorf("began %v", r.hosts())
			}
			stop()
			both.Wait()
		})
	}
}

// A node that stops gives its jobs back, and another one has them with its next look.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared, r := newTable(), &record{TB: t, start: time.Now()}
		a, b := &node{table: shared, name: "a"}, &node{table: shared, name: "b"}
		var both sync.WaitGroup
		first, stop := context.WithCancel(t.Context())
		both.Go(func() { a.scheduler().Run(first, r.long("a")) })
		synctest.Wait()
		second, end := context.WithCancel(t.Context())
		both.Go(func() { b.scheduler().Run(second, r.long("b")) })
		time.Sleep(time.Minute + time.Second) // not when anybody looks
		stop()
		time.Sleep(beat)
		if !slices.Equal(r.hosts(), []string{"a", "b"}) {
			t.Errorf("began %v", r.hosts())
		}
		end()
		both.Wait()
		if len(shared.holder) > 0 {
			t.Errorf("held is %v", shared.holder)
		}
	})
}

// A job runs in its own rhythm, on one node, whatever the beat; errors and panics end none.
func TestRhythm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared, r := newTable(), &record{TB: t, start: time.Now()}
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for _, name := range []string{"a", "b", "c"} {
			n := &node{table: shared, name: name}
			all.Go(func() {
				n.scheduler().Run(ctx, Job{Name: "hourly", Every: time.Hour, Run: func(context.Context) error {
					r.begin(name)
					defer r.end(name)
					if time.Since(r.start) > time.Hour {
						panic("once")
					}
					return errCut
				}})
			})
		}
		time.Sleep(3*time.Hour - time.Minute)
		stop()
		all.Wait()
		if want := []time.Duration{0, time.Hour, 2 * time.Hour}; !slices.Equal(r.times(), want) {
			t.Errorf("began at %v, by %v; want %v", r.times(), r.hosts(), want)
		}
	})
}

// A database that is away for less than the patience ends no run.
func TestShortOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, n := &record{TB: t, start: time.Now()}, &node{table: newTable(), name: "a"}
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { n.scheduler().Run(ctx, r.long("a")) })
		time.Sleep(beat + time.Second)
		for range 5 { // in which one look fails, after a beat
			n.sever(true)
			time.Sleep(beat)
			n.sever(false)
			time.Sleep(3 * beat)
		}
		if !slices.Equal(r.hosts(), []string{"a"}) {
			t.Errorf("began %v at %v", r.hosts(), r.times())
		}
		stop()
		all.Wait()
	})
}

// The leases of a database are one node's each, as those of the tests above are.
func TestStored(t *testing.T) {
	d := dbtest.Postgres(t)
	l, now := stored{d}, time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	names := []string{"one", "two"}
	claims := func(holder string, after time.Duration, want ...bool) {
		t.Helper()
		at := now.Add(after)
		if mine, err := l.claim(t.Context(), names, holder, at, at.Add(lease*beat)); err != nil || !slices.Equal(mine, want) {
			t.Errorf("%s has %v, %v; want %v", holder, mine, err, want)
		}
	}
	claims("a", 0, true, true)
	claims("b", lease*beat-1, false, false)
	claims("a", beat, true, true)
	claims("b", lease*beat, false, false)
	claims("b", beat+lease*beat, true, true)
	claims("a", beat+lease*beat, false, false)
	if err := l.release(t.Context(), names, "a"); err != nil {
		t.Error(err)
	}
	claims("a", beat+lease*beat, false, false)
	if err := l.release(t.Context(), names, "b"); err != nil {
		t.Error(err)
	}
	claims("a", beat+lease*beat, true, true)
}
