package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"portico/api/xrpc"
	"portico/db"
	"portico/impl/blob"
	"portico/impl/blob/rows"
	"portico/impl/budget"
	"portico/impl/identity/plc"
	"portico/impl/logging"
	"portico/impl/mail/outbox"
	"portico/impl/metrics"
	"portico/impl/proxy"
)

// newMetrics returns what is counted where there is a listener for it, else nil.
func newMetrics(s *settings, at listeners, log *slog.Logger) *metrics.Set {
	if at.metrics == nil {
		return nil
	}
	return metrics.New(metrics.Config{Version: s.Version, Budgets: budgetKinds(), Now: time.Now, Log: log})
}

func budgetKinds() []string {
	kinds := make([]string, 0, len(budget.All))
	for _, b := range budget.All {
		kinds = append(kinds, b.Kind)
	}
	return kinds
}

// watcher is told of what the services do, and tells it to the metrics and the traces that
// there are.
type watcher struct {
	metrics *metrics.Set
	traces  *traces
}

func (w watcher) idle() bool { return w.metrics == nil && w.traces == nil }

// watch lets w be told of what the services do. It is called before they do anything for others;
// without metrics and traces nobody is told.
func (p *parts) watch(s *settings, w watcher, notices *logging.Notices) {
	if w.idle() {
		return
	}
	p.methods.Observe(w)
	p.store.Observe(w)
	p.letters.Observe = w.mailed
	p.passing.Observe = w.passed
	for _, c := range p.plcs {
		c.Observe = w.asked
	}
	m := w.metrics
	if m == nil {
		return
	}
	var names []string
	for _, r := range p.methods.Methods() {
		names = append(names, r.NSID)
	}
	m.Methods(names)
	p.sched.Observe = func(_ context.Context, job string, _ time.Time, took time.Duration, err error) { m.Ran(job, took, err) }
	p.budgets.Refused = m.Refused
	p.apps.observe(m.OAuth)
	p.blobs.Observe = func(_ context.Context, bytes int64, _ time.Time, _ time.Duration, err error) {
		outcome := uploadOutcome(err)
		if outcome != uploadStored {
			bytes = 0
		}
		m.Uploaded(outcome, bytes)
	}
	m.Add(metrics.Look{Metrics: shownFigures, Values: func(set func(string, float64, ...string)) { p.showFigures(s, notices, set) }})
	m.Add(metrics.Look{Metrics: shownBacklog, Values: (&backlog{store: p.store, now: time.Now, log: p.log}).show})
}

// Begin implements [xrpc.Observer].
func (w watcher) Begin(ctx context.Context, _ *xrpc.Call) context.Context {
	if w.metrics != nil {
		w.metrics.RequestBegan()
	}
	return w.traces.begin(ctx)
}

// End implements [xrpc.Observer].
func (w watcher) End(ctx context.Context, c *xrpc.Call, status int, took time.Duration) {
	method, kind := kindOf(c)
	if w.metrics != nil {
		w.metrics.RequestEnded(method, kind, status, took)
	}
	w.traces.end(ctx, c, method, status)
}

// Wrote implements [db.Observer].
func (w watcher) Wrote(ctx context.Context, began time.Time, took time.Duration, err error) {
	if w.metrics != nil {
		w.metrics.Wrote(ctx, began, took, err)
	}
	w.traces.within(ctx, done{name: "database write", began: began, took: took, failed: err != nil})
}

// Committed implements [db.Observer].
func (w watcher) Committed(took time.Duration) {
	if w.metrics != nil {
		w.metrics.Committed(took)
	}
}

func (w watcher) mailed(ctx context.Context, a outbox.Attempt) {
	if w.metrics != nil {
		w.metrics.Mailed(a.Outcome, a.Took)
	}
	w.traces.alone(ctx, done{name: "mail", outgoing: true, began: a.Began, took: a.Took, failed: a.Outcome != outbox.Sent})
}

func (w watcher) passed(ctx context.Context, sent proxy.Sent) {
	if w.metrics != nil {
		w.metrics.Passed(sent.To, sent.Status, sent.Took)
	}
	w.traces.within(ctx, done{name: "proxy " + sent.To, outgoing: true, verb: sent.Verb, status: sent.Status, began: sent.Began, took: sent.Took})
}

func (w watcher) asked(ctx context.Context, r plc.Request) {
	if w.metrics != nil {
		w.metrics.Asked(r.Write, r.Status, r.Took)
	}
	verb := http.MethodGet
	if r.Write {
		verb = http.MethodPost
	}
	w.traces.within(ctx, done{name: "directory", outgoing: true, verb: verb, status: r.Status, began: r.Began, took: r.Took})
}

// stored is told of requests to the bucket of blobs.
func (w watcher) stored(ctx context.Context, verb string, status int, began time.Time, took time.Duration) {
	if w.metrics != nil {
		w.metrics.Stored(verb, status, took)
	}
	w.traces.within(ctx, done{name: "blob store", outgoing: true, verb: verb, status: status, began: began, took: took})
}

// kindOf is what a request counts as.
func kindOf(c *xrpc.Call) (method string, kind metrics.Kind) {
	switch {
	case c.Method != nil && c.Passed():
		return c.Method.NSID, metrics.Proxied
	case c.Passed():
		return metrics.ProxiedMethod, metrics.Proxied
	case c.Method == nil && c.NSID == metrics.HealthMethod:
		return metrics.HealthMethod, metrics.Query
	case c.Method == nil && (c.NSID != "" || strings.HasPrefix(c.Request.URL.Path, "/xrpc/")):
		return metrics.OtherMethod, metrics.Other
	case c.Method == nil:
		return metrics.PageMethod, metrics.Page
	case c.Method.Kind == xrpc.Subscription:
		return c.Method.NSID, metrics.Subscription
	case c.Method.Kind == xrpc.Procedure:
		return c.Method.NSID, metrics.Procedure
	}
	return c.Method.NSID, metrics.Query
}

// The outcomes of uploads of blobs.
const (
	uploadStored  = "stored"
	uploadRefused = "refused"
	uploadFailed  = "failed"
)

func uploadOutcome(err error) string {
	if err == nil {
		return uploadStored
	}
	for _, refusal := range []error{
		blob.ErrTooLarge, blob.ErrBody, blob.ErrBusy, blob.ErrName, rows.ErrQuota, rows.ErrTakenDown, db.ErrNotFound, context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, refusal) {
			return uploadRefused
		}
	}
	return uploadFailed
}

// shownFigures are what the parts know by themselves.
var shownFigures = []metrics.Metric{
	{Name: "healthy", Help: "1 while the database answers and takes what is written."},
	{Name: "log_records_total", Help: "Lines of the log of the levels warn and error.", Labels: []string{"level"}},
	{Name: "data_free_bytes", Help: "Bytes that the disk of the data directory has left for the server."},
	{Name: "database_statements_total", Help: "Statements that were run, BEGIN and COMMIT among them."},
	{Name: "database_slow_statements_total", Help: "Statements that took as long as PORTICO_LOG_SLOW_STATEMENTS says."},
	{Name: "database_connections", Help: "Connections, to Postgres all, to SQLite those that read.", Labels: []string{"state"}},
	{Name: "database_connections_max", Help: "How many there may be of these."},
	{Name: "database_connection_waits_total", Help: "How often a connection was waited for."},
	{Name: "database_connection_wait_seconds_total", Help: "How long connections were waited for."},
	{Name: "database_standby_reads_total", Help: "Reads that may be answered by a standby, by what answered; without a standby there are none.", Labels: []string{"where"}},
	{Name: "database_writers_waiting", Help: "How many wait for their turn to write, on SQLite."},
	{Name: "database_file_bytes", Help: "Bytes of SQLite's database and of its write-ahead log.", Labels: []string{"file"}},
	{Name: "password_hashes", Help: "Hashes of passwords that run, and callers that wait for one.", Labels: []string{"state"}},
	{Name: "password_hashes_total", Help: "Hashes of passwords, and callers that were refused one because too many waited.", Labels: []string{"outcome"}},
	{Name: "limits_alone", Help: "1 while Redis does not answer and the server counts limits of requests by itself; only with Redis."},
	{Name: "firehose_consumers", Help: "Consumers of the firehose."},
	{Name: "firehose_lag_events", Help: "How many events the slowest of them is behind."},
	{Name: "firehose_last_seq", Help: "Number of the last event."},
	{Name: "firehose_events_total", Help: "Events that came into the firehose."},
	{Name: "firehose_frames_total", Help: "Events that were sent to consumers, from the ring, or from the log for who is behind it.", Labels: []string{"source"}},
	{Name: "firehose_ring_entries", Help: "Events in the ring."},
	{Name: "firehose_ring_bytes", Help: "Bytes of these."},
	{Name: "firehose_ring_max_bytes", Help: "Bytes that the ring may have."},
}

func (p *parts) showFigures(s *settings, notices *logging.Notices, set func(name string, value float64, labels ...string)) {
	healthy := 0.
	if p.health.known() == nil {
		healthy = 1
	}
	set("healthy", healthy)
	warnings, faults := notices.Counts()
	set("log_records_total", float64(warnings), "warn")
	set("log_records_total", float64(faults), "error")
	if free, ok := freeBytes(s.DataDirectory); ok {
		set("data_free_bytes", float64(free))
	}

	f := p.store.Figures()
	set("database_statements_total", float64(f.Statements))
	set("database_slow_statements_total", float64(f.Slow))
	set("database_connections", float64(f.Pool.InUse), "in_use")
	set("database_connections", float64(f.Pool.Idle), "idle")
	set("database_connections_max", float64(f.Pool.MaxOpenConnections))
	set("database_connection_waits_total", float64(f.Pool.WaitCount))
	set("database_connection_wait_seconds_total", f.Pool.WaitDuration.Seconds())
	set("database_standby_reads_total", float64(f.OnStandby), "standby")
	set("database_standby_reads_total", float64(f.NotOnStandby), "primary")
	if p.store.Exclusive() {
		set("database_writers_waiting", float64(f.Waiting))
		set("database_file_bytes", float64(f.File), "database")
		set("database_file_bytes", float64(f.Log), "log")
	}

	if l, ok := p.live.callers().Limiter.(*fallingLimiter); ok {
		alone := 0.
		if l.away.Load() {
			alone = 1
		}
		set("limits_alone", alone)
	}

	load := p.passwords.Load()
	set("password_hashes", float64(load.Running), "running")
	set("password_hashes", float64(load.Waiting), "waiting")
	set("password_hashes_total", float64(load.Done), "done")
	set("password_hashes_total", float64(load.Refused), "refused")

	last, consumers := p.hose.Consumers()
	var lag int64
	for _, c := range consumers {
		lag = max(lag, c.Lag)
	}
	hose := p.hose.Figures()
	set("firehose_consumers", float64(len(consumers)))
	set("firehose_lag_events", float64(lag))
	set("firehose_last_seq", float64(last))
	set("firehose_events_total", float64(hose.Events))
	set("firehose_frames_total", float64(hose.Frames-hose.Backfilled), "ring")
	set("firehose_frames_total", float64(hose.Backfilled), "log")
	set("firehose_ring_entries", float64(hose.Entries))
	set("firehose_ring_bytes", float64(hose.Bytes))
	set("firehose_ring_max_bytes", float64(hose.Most))
}

// shownBacklog are what is counted in the database.
var shownBacklog = []metrics.Metric{
	{Name: "accounts", Help: "Accounts, by state.", Labels: []string{"state"}},
	{Name: "quarantine_waiting", Help: "Accounts that are held in quarantine, or on their way out of it."},
	{Name: "directory_operations_waiting", Help: "Accounts whose DID has still to be made, looked for, or changed in the directory, by the reason.", Labels: []string{"reason"}},
	{Name: "mails_waiting", Help: "Mails that are not handed to the mail server yet."},
	{Name: "mail_oldest_seconds", Help: "How long the oldest of these has waited."},
	{Name: "counts_timestamp_seconds", Help: "When accounts and what waits were counted: once a minute at most, and only when somebody looks."},
}

// How often what waits is counted at most, for how long, and how much of the time that may take.
const (
	backlogEvery    = time.Minute
	backlogPatience = 5 * time.Second
	backlogShare    = 100
)

// backlog keeps what was counted, so that who looks every second costs no more than who
// looks every minute. Where counting takes long it is done less often: a hundredth of the
// time goes into it.
type backlog struct {
	store interface {
		Backlog(context.Context) (db.Backlog, error)
	}
	now func() time.Time
	log *slog.Logger

	mu   sync.Mutex
	last db.Backlog
	at   time.Time // when last was counted, zero if never
	next time.Time // when to count again
}

func (b *backlog) show(set func(name string, value float64, labels ...string)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := b.now(); !now.Before(b.next) {
		ctx, cancel := context.WithTimeout(context.Background(), backlogPatience)
		counted, err := b.store.Backlog(ctx)
		cancel()
		if err != nil {
			b.log.Warn("accounts and what waits could not be counted", "error", err)
		} else {
			b.last, b.at = counted, now
		}
		b.next = now.Add(max(backlogEvery, backlogShare*b.now().Sub(now)))
	}
	if b.at.IsZero() {
		return
	}
	for _, state := range []string{db.CountedActive, db.CountedCreating, db.CountedDeactivated, db.CountedHeld, db.CountedTakenDown} {
		set("accounts", float64(b.last.Accounts[state]), state)
	}
	set("quarantine_waiting", float64(b.last.Quarantined))
	set("directory_operations_waiting", float64(b.last.Creations), "creation")
	set("directory_operations_waiting", float64(b.last.CleanUps), "clean_up")
	set("directory_operations_waiting", float64(b.last.HandleChanges), "handle_change")
	set("directory_operations_waiting", float64(b.last.Moves), "move")
	set("mails_waiting", float64(b.last.Mails))
	oldest := 0.
	if b.last.Mails > 0 {
		oldest = b.now().Sub(b.last.Oldest).Seconds()
	}
	set("mail_oldest_seconds", oldest)
	set("counts_timestamp_seconds", float64(b.at.Unix()))
}
