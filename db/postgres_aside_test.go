package db_test

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"portico/db"
	"portico/db/dbtest"
)

// within fails the test when f has not become true after a while.
func within(t *testing.T, d time.Duration, what string, f func() bool) {
	t.Helper()
	for late := time.Now().Add(d); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("%s: not within %v", what, d)
		}
	}
}

func openURL(t *testing.T, c db.Config) *db.DB {
	t.Helper()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	d, err := db.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func appendEvent(ctx context.Context, d *db.DB) error {
	return d.Write(ctx, func(tx *db.Tx) error {
		return tx.AppendEvents(ctx, db.Event{DID: account(1).Account.DID, Kind: "#commit", Body: []byte("body")})
	})
}

// listeners is how many connections listen to the database at a URL.
func listeners(t *testing.T, url string) (pids []int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, err := conn.Query(t.Context(), "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'portico listening' AND query LIKE '%LISTEN portico_event%'")
	if err == nil {
		pids, err = pgx.CollectRows(rows, pgx.RowTo[int])
	}
	if err != nil {
		t.Fatal(err)
	}
	return pids
}

// wakes fails the test unless something that is done on one process wakes the other, which
// takes about as long as the trip by the database.
func wakes(t *testing.T, woken <-chan struct{}, do func() error) {
	t.Helper()
	select {
	case <-woken:
	default:
	}
	if err := do(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-woken:
	case <-time.After(time.Minute):
		t.Fatal("not woken")
	}
}

// One process's events and mails wake the others: without a pooler, and behind one by a way
// past it. Who lost that way finds it again, and is woken for what was missed.
func TestWakeOthers(t *testing.T) {
	for _, tt := range []struct {
		name  string
		store func(direct string) db.Config
	}{
		{"direct", func(direct string) db.Config { return db.Config{URL: direct} }},
		{"past a pooler", func(direct string) db.Config {
			return db.Config{URL: dbtest.PoolerURL(t, direct), Pooled: true, ListenURL: direct}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx := t.Context()
			direct := dbtest.DirectURL(t)
			one, other := openURL(t, tt.store(direct)), openURL(t, tt.store(direct))
			create(t, one, 1)
			var pids []int
			within(t, time.Minute, "listening", func() bool { pids = listeners(t, direct); return len(pids) == 2 })
			wakes(t, other.EventsAppended(), func() error { return appendEvent(ctx, one) })
			wakes(t, other.MailQueued(), func() error {
				return one.Write(ctx, func(tx *db.Tx) error {
					return tx.QueueMail(ctx, &db.Mail{To: "x@mail.test", Kind: "x", CreatedAt: start, ExpiresAt: start.Add(time.Hour)})
				})
			})

			conn, err := pgx.Connect(ctx, direct)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			wakes(t, other.EventsAppended(), func() error { // by being there again
				_, err := conn.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid", pids)
				return err
			})
			if err := appendEvent(ctx, one); err != nil {
				t.Errorf("without those who listen: %v", err)
			}
			within(t, time.Minute, "listening again", func() bool { return len(listeners(t, direct)) == 2 })
			wakes(t, other.EventsAppended(), func() error { return appendEvent(ctx, one) })
		})
	}
}

// Behind a pooler nobody listens by way of it, and nobody is told.
func TestPoolerWithoutListening(t *testing.T) {
	direct := dbtest.DirectURL(t)
	d := openURL(t, db.Config{URL: dbtest.PoolerURL(t, direct), Pooled: true})
	create(t, d, 1)
	for range 20 {
		if err := appendEvent(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if pids := listeners(t, direct); len(pids) != 0 {
		t.Errorf("%d listen", len(pids))
	}
}

// While nothing comes back from Postgres all fail soon who wait for it, and all at once who
// ask then. When it answers again all goes on, and what was acknowledged is there.
func TestDatabaseAway(t *testing.T) {
	ctx := t.Context()
	cable := dbtest.LayCable(t, dbtest.DirectURL(t))
	d := openURL(t, db.Config{URL: cable.URL, Away: time.Second, MaxConns: 4})
	did := create(t, d, 1)
	if err := d.Ping(ctx); err != nil {
		t.Fatal(err)
	}

	var acknowledged, refused atomic.Int64
	stop := make(chan struct{})
	var running sync.WaitGroup
	for range 10 { // more than there are connections
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := appendEvent(ctx, d); err == nil {
					acknowledged.Add(1)
				} else {
					refused.Add(1)
					time.Sleep(time.Millisecond)
				}
				_, _ = d.AccountByDID(ctx, did)
			}
		})
	}
	within(t, time.Minute, "written", func() bool { return acknowledged.Load() > 10 })
	cable.Cut()
	within(t, 30*time.Second, "refused", func() bool { return refused.Load() > 100 }) // none of them hangs
	if err := d.Ping(ctx); !errors.Is(err, db.ErrUnavailable) {
		t.Errorf("ping: %v", err)
	}
	began := time.Now()
	if _, err := d.AccountByDID(ctx, did); !errors.Is(err, db.ErrUnavailable) {
		t.Errorf("read: %v", err)
	}
	if err := appendEvent(ctx, d); !errors.Is(err, db.ErrUnavailable) {
		t.Errorf("write: %v", err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("refused after %v", took)
	}

	cable.Mend()
	within(t, 30*time.Second, "answers", func() bool { return d.Ping(ctx) == nil })
	before := acknowledged.Load()
	within(t, time.Minute, "written again", func() bool { return acknowledged.Load() > before+10 })
	close(stop)
	running.Wait()
	last, err := d.LastEvent(ctx)
	if err != nil || last < acknowledged.Load() {
		t.Errorf("%d events of %d that were acknowledged, %v", last, acknowledged.Load(), err)
	}
}

// A process that hangs does not keep others from what it has locked.
func TestAbandonedTransaction(t *testing.T) {
	at := dbtest.DirectURL(t)
	ctx := t.Context()
	one, other := openURL(t, db.Config{URL: at + "&idle_in_transaction_session_timeout=100ms"}), openURL(t, db.Config{URL: at})
	create(t, one, 1)
	did := account(1).Account.DID
	held, done := make(chan struct{}), make(chan struct{})
	var hung error
	var running sync.WaitGroup
	running.Go(func() {
		var once sync.Once
		defer once.Do(func() { close(held) })
		hung = one.Write(ctx, func(tx *db.Tx) error {
			if err := tx.EraseEvents(ctx, did, 100); err != nil {
				return err
			}
			if err := tx.PutMeta(ctx, "held", []byte("mine")); err != nil {
				return err
			}
			once.Do(func() { close(held) })
			<-done
			return nil
		})
	})
	<-held
	if err := other.Write(ctx, func(tx *db.Tx) error { return tx.PutMeta(ctx, "held", []byte("other's")) }); err != nil {
		t.Errorf("what was locked: %v", err)
	}
	close(done)
	running.Wait()
	if hung != nil { // else it was run again
		t.Log(hung)
	}
}

// A snapshot that is shared is there for as long as somebody reads by its name.
func TestSharedSnapshotThatWaits(t *testing.T) {
	ctx := t.Context()
	at := dbtest.DirectURL(t)
	d := openURL(t, db.Config{URL: at + "&idle_in_transaction_session_timeout=2s"})
	err := d.SharedSnapshot(ctx, func(s *db.Snapshot, name string, _ int) error {
		conn, err := pgx.Connect(ctx, at)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, "SELECT pg_sleep(3)"); err != nil {
			return err
		}
		_, err = conn.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '"+name+"'")
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Of several servers of Postgres in a URL the one is used that takes writes, also when that
// becomes another one.
func TestSeveralHosts(t *testing.T) {
	ctx := t.Context()
	one, other, at, demote := dbtest.TwoServers(t)
	d := openURL(t, db.Config{URL: at})
	tries := 0
	where := func() string {
		t.Helper()
		tries++
		value := strconv.Itoa(tries)
		if err := d.Write(ctx, func(tx *db.Tx) error { return tx.PutMeta(ctx, "here", []byte(value)) }); err != nil {
			return err.Error()
		}
		for _, url := range []string{one, other} {
			conn, err := pgx.Connect(ctx, url)
			if err != nil {
				t.Fatal(err)
			}
			var here bool
			err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM meta WHERE name = 'here' AND value = $1)", []byte(value)).Scan(&here)
			if err := errors.Join(err, conn.Close(ctx)); err != nil {
				t.Fatal(err)
			}
			if here {
				return url
			}
		}
		return "nowhere"
	}
	if got := where(); got != one {
		t.Fatalf("written to %s", got)
	}
	demote()
	within(t, time.Minute, "written to the other", func() bool { return where() == other })
}
