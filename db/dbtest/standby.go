package dbtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Replicated is a database of a Postgres server with a standby, which the test may stop.
type Replicated struct {
	URL     string // of the database
	ReadURL string // of the same on the standby

	t       testing.TB
	servers *replicas
}

// replicas are a server and its standby.
type replicas struct {
	primary, standby *cluster
	attr             *syscall.SysProcAttr
}

// forReplicas are settings of both: they need not outlive the machine, but each other.
const forReplicas = "-c fsync=off -c autovacuum=off -c wal_retrieve_retry_interval=50ms -c max_standby_streaming_delay=100ms"

var startReplicas = sync.OnceValues(func() (*replicas, error) {
	primary, err := start(forReplicas)
	if err != nil {
		return nil, err
	}
	standby, attr, err := newCluster()
	if err != nil {
		return nil, err
	}
	if err := standby.make(attr, "pg_basebackup", "-D", filepath.Join(standby.dir, "data"), "-h", primary.dir, "-U", "portico",
		"-R", "-X", "stream", "-c", "fast", "--no-sync"); err != nil {
		return nil, err
	}
	r := &replicas{primary, standby, attr}
	return r, r.run(standby)
})

// Replicate returns a database with the newest schema and no rows, dropped when the test
// ends, on a server with a standby. All of a process's live there, so tests that want one do
// not run side by side. Where there is no Postgres it does what [PostgresURL] does.
func Replicate(t testing.TB) *Replicated {
	t.Helper()
	sharedCluster(t)
	servers, err := startReplicas()
	if err != nil {
		t.Fatal(err)
	}
	r := &Replicated{t: t, servers: servers}
	name := fmt.Sprintf("replicated_%d", databases.Add(1))
	r.check(servers.primary.exec("CREATE DATABASE " + name + " TEMPLATE " + template))
	r.URL, r.ReadURL = servers.primary.url(name), servers.standby.url(name)
	r.CatchUp() // a standby without the database is not tried again for seconds
	t.Cleanup(func() {
		r.Start()
		r.check(servers.primary.exec("DROP DATABASE " + name + " WITH (FORCE)"))
	})
	return r
}

func (r *Replicated) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// Pause keeps the standby where it is, and Resume lets it go on.
func (r *Replicated) Pause() {
	r.t.Helper()
	r.check(r.servers.standby.exec("SELECT pg_wal_replay_pause()"))
	r.until("the standby to pause", func(conn *pgx.Conn) (paused bool, err error) {
		err = conn.QueryRow(context.Background(), "SELECT pg_get_wal_replay_pause_state() = 'paused'").Scan(&paused)
		return paused, err
	})
}

// Resume ends what Pause began.
func (r *Replicated) Resume() {
	r.t.Helper()
	r.check(r.servers.standby.exec("SELECT pg_wal_replay_resume()"))
}

// CatchUp waits until the standby has all that was written.
func (r *Replicated) CatchUp() {
	r.t.Helper()
	var place string
	r.check(r.servers.primary.row("SELECT pg_current_wal_insert_lsn()::text", &place))
	r.until("the standby to catch up", func(conn *pgx.Conn) (there bool, err error) {
		err = conn.QueryRow(context.Background(), "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", place).Scan(&there)
		return there, err
	})
}

// KillStandby ends the standby as a loss of power does, and KillPrimary the primary.
func (r *Replicated) KillStandby() { r.check(r.servers.standby.kill()) }

// KillPrimary is KillStandby for the other one.
func (r *Replicated) KillPrimary() { r.check(r.servers.primary.kill()) }

// Start starts what was killed.
func (r *Replicated) Start() {
	r.t.Helper()
	for _, c := range []*cluster{r.servers.primary, r.servers.standby} {
		if !c.runs() {
			r.check(r.servers.run(c))
		}
	}
	r.Resume()
}

func (r *Replicated) until(what string, done func(conn *pgx.Conn) (bool, error)) {
	r.t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, r.servers.standby.own())
	r.check(err)
	defer conn.Close(ctx)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		ok, err := done(conn)
		r.check(err)
		if ok {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("waited too long for %s", what)
		}
	}
}

// run starts a server that there is, and waits for it.
func (r *replicas) run(c *cluster) error {
	if err := c.run(r.attr, forReplicas); err != nil {
		return err
	}
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var one int
		if err = c.row("SELECT 1", &one); err == nil {
			return nil
		}
	}
	return c.explain(err)
}

func (c *cluster) row(sql string, to any) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, c.own())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return conn.QueryRow(ctx, sql).Scan(to)
}

// pid is that of the server, 0 if none runs.
func (c *cluster) pid() int {
	text, err := os.ReadFile(filepath.Join(c.dir, "data", "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		return 0
	}
	return pid
}

func (c *cluster) runs() bool {
	pid := c.pid()
	return pid != 0 && syscall.Kill(pid, 0) == nil
}

// kill ends the server at once, with all its connections, and waits until it is gone.
func (c *cluster) kill() error {
	pid := c.pid()
	if pid == 0 {
		return errors.New("no server runs")
	}
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil {
		return err
	}
	for deadline := time.Now().Add(time.Minute); c.runs(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return errors.New("the server does not end")
		}
	}
	return nil
}
