package dbtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Pooled says that PORTICO_TEST_POOLER=true: the databases of all tests are then behind
// pgbouncer. Tests that open a database by themselves have to say so in their configuration;
// what counts round trips, and what stops Postgres, has no meaning there.
func Pooled() bool { return os.Getenv("PORTICO_TEST_POOLER") == "true" }

// A pooler is a pgbouncer before the cluster, which gives a connection of Postgres to one
// transaction at a time.
type pooler struct {
	dir   string
	alive *os.File // as a cluster's
}

var startPooler = sync.OnceValues(func() (*pooler, error) {
	c, err := startOnce()
	if err != nil {
		return nil, err
	}
	program, err := poolerProgram()
	if err != nil {
		return nil, err
	}
	return newPooler(program, c)
})

var errNoPooler = errors.New("no pgbouncer")

// poolerProgram looks where Debian has it, too, which is on the PATH of root alone.
func poolerProgram() (string, error) {
	if path, err := exec.LookPath("pgbouncer"); err == nil {
		return path, nil
	}
	const debian = "/usr/sbin/pgbouncer"
	if _, err := os.Stat(debian); err != nil {
		return "", errNoPooler
	}
	return debian, nil
}

// PoolerAvailable says whether this machine has a pooler to test behind.
func PoolerAvailable() bool {
	_, err := poolerProgram()
	return err == nil
}

// PoolerURL returns the way through pgbouncer, in transaction mode, to a database of a URL that
// [PostgresURL] gave. All of a process go through one, which ends with the process. Without
// pgbouncer on the machine the test is skipped, or fails where CI is set.
func PoolerURL(t testing.TB, database string) string {
	t.Helper()
	p, err := startPooler()
	switch {
	case err == errNoPooler && os.Getenv("CI") == "true":
		t.Fatal("pgbouncer is missing: it is neither on PATH nor in /usr/sbin")
	case err == errNoPooler:
		t.Skip("SKIPPED, NOTHING WAS TESTED BEHIND A POOLER: pgbouncer is neither on PATH nor in /usr/sbin")
	case err != nil:
		t.Fatal(err)
	}
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("host", p.dir)
	u.RawQuery = q.Encode()
	return u.String()
}

// poolerKeeper is what keeper is to Postgres. A shell has what it runs beside it ignore SIGQUIT.
const poolerKeeper = `"$1" "$2/pgbouncer.ini" >"$2/log" 2>&1 &
read -r _
kill -TERM $!
wait $!
rm -rf "$2"`

// The socket has the name that Postgres gives its own, so that a directory is all that
// differs in a URL.
const poolerSettings = `[databases]
* = host=%s user=portico
[pgbouncer]
unix_socket_dir = %s
listen_port = 5432
pool_mode = transaction
auth_type = any
default_pool_size = 20
max_client_conn = 2000
server_idle_timeout = 5
ignore_startup_parameters = extra_float_digits, idle_in_transaction_session_timeout
`

func newPooler(program string, c *cluster) (*pooler, error) {
	dir, err := os.MkdirTemp("", "portico-pooler-")
	if err != nil {
		return nil, err
	}
	attr := &syscall.SysProcAttr{Setsid: true}
	if os.Geteuid() == 0 {
		// pgbouncer refuses to run as root.
		if attr.Credential, err = unprivileged(); err != nil {
			return nil, err
		}
		if err := os.Chown(dir, int(attr.Credential.Uid), int(attr.Credential.Gid)); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "pgbouncer.ini"), fmt.Appendf(nil, poolerSettings, c.dir, dir), 0o644); err != nil {
		return nil, err
	}
	stdin, alive, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stdin.Close()
	server := exec.Command("/bin/sh", "-c", poolerKeeper, "keeper", program, dir)
	server.Dir, server.SysProcAttr, server.Stdin = dir, attr, stdin
	if err := server.Start(); err != nil {
		return nil, err
	}
	p := &pooler{dir: dir, alive: alive}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		conn, err := pgx.Connect(context.Background(), "postgres://portico@/postgres?host="+dir)
		if err == nil {
			return p, conn.Close(context.Background())
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			return nil, fmt.Errorf("throw-away pgbouncer: %w\n%s", err, log)
		}
	}
}
