package dbtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"portico/db"
)

// template is the database that those of the tests are copies of.
const template = "portico_template"

var errNoInitdb = errors.New("no initdb")

// A cluster is a Postgres server that listens on a socket in a directory of its own.
type cluster struct {
	bin, dir string
	// alive are the pipes whose ends tell the cluster's keepers that this process is
	// gone: one for each time that it was started. Nobody writes to them, and they are
	// closed by no one but the kernel.
	alive []*os.File
	// strategy is a clause of CREATE DATABASE: copying files is cheaper than copying pages
	// through the log where nothing waits for the disk. Before version 15 it was the only
	// way, without a name.
	strategy string
}

// What is started stays reachable: the pipe of a cluster that nobody knows is closed.
var (
	startOnce    = sync.OnceValues(func() (*cluster, error) { return start(forTests) })
	startDurable = sync.OnceValues(func() (*cluster, error) { return start("") })
)

func (c *cluster) url(database string) string {
	return "postgres://portico@/" + database + "?host=" + c.dir
}

// own is the way of what is no test's: a standby answers nothing that is to be serializable.
func (c *cluster) own() string {
	return c.url("postgres") + "&default_transaction_isolation=read%20committed"
}

// keeper runs the server until its standard input ends, and clears up. It is a
// process of its own because ours may end in ways that run no code of ours.
const keeper = `"$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= \
	-c max_connections=400 -c shared_buffers=64MB -c deadlock_timeout=100ms $3 >"$2/log" 2>&1 &
read -r _
kill -QUIT $!
wait $!
rm -rf "$2"`

// IsolationVariable names the isolation of the tests' transactions on Postgres that do not ask for
// one: "serializable". The default is READ COMMITTED, as Postgres's own.
const IsolationVariable = "PORTICO_TEST_ISOLATION"

// forTests are settings of a server that never has to come back.
const forTests = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c autovacuum=off -c wal_level=minimal -c max_wal_senders=0"

// Databases makes databases without a schema on a Postgres server that waits for the disk,
// as one in use does, and returns their URLs. The server is started for the first and ends
// with this process.
func Databases(names ...string) (urls []string, err error) {
	c, err := startDurable()
	for _, name := range names {
		if err == nil {
			err = c.exec("CREATE DATABASE " + name)
			urls = append(urls, c.url(name))
		}
	}
	return urls, err
}

func start(settings string) (*cluster, error) {
	c, attr, err := newCluster()
	if err != nil {
		return nil, err
	}
	if err := c.make(attr, "initdb", "-D", filepath.Join(c.dir, "data"), "-U", "portico",
		"-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"); err != nil {
		return nil, err
	}
	if err := c.run(attr, settings); err != nil {
		return nil, err
	}
	if err := c.prepare(); err != nil {
		return nil, c.explain(err)
	}
	return c, nil
}

// newCluster returns a cluster without data, and how its processes are to run.
func newCluster() (*cluster, *syscall.SysProcAttr, error) {
	bin, err := programs()
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "portico-postgres-")
	if err != nil {
		return nil, nil, err
	}
	// A group of its own: an interrupt at the terminal must not stop the keeper.
	attr := &syscall.SysProcAttr{Setsid: true}
	if os.Geteuid() == 0 {
		// Postgres refuses to run as root.
		if attr.Credential, err = unprivileged(); err != nil {
			return nil, nil, err
		}
		if err := os.Chown(dir, int(attr.Credential.Uid), int(attr.Credential.Gid)); err != nil {
			return nil, nil, err
		}
	}
	return &cluster{bin: bin, dir: dir}, attr, nil
}

// make runs a program that makes the data.
func (c *cluster) make(attr *syscall.SysProcAttr, program string, args ...string) error {
	cmd := exec.Command(filepath.Join(c.bin, program), args...)
	cmd.Dir, cmd.SysProcAttr = c.dir, attr
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", program, err, out)
	}
	return nil
}

// run starts the server, and does not wait for it.
func (c *cluster) run(attr *syscall.SysProcAttr, settings string) error {
	stdin, alive, err := os.Pipe()
	if err != nil {
		return err
	}
	defer stdin.Close()
	if level := os.Getenv(IsolationVariable); level != "" {
		settings += " -c default_transaction_isolation=" + level
	}
	server := exec.Command("/bin/sh", "-c", keeper, "keeper", c.bin, c.dir, settings)
	server.Dir, server.SysProcAttr, server.Stdin = c.dir, attr, stdin
	if err := server.Start(); err != nil {
		return err
	}
	c.alive = append(c.alive, alive)
	return nil
}

func (c *cluster) explain(err error) error {
	log, _ := os.ReadFile(filepath.Join(c.dir, "log"))
	return fmt.Errorf("throw-away Postgres: %w\n%s", err, log)
}

// prepare waits for the server and makes the template.
func (c *cluster) prepare() error {
	var err error
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = c.exec("CREATE DATABASE " + template); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	d, err := db.Open(context.Background(), db.Config{URL: c.url(template), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	if err := d.Close(); err != nil {
		return err
	}
	conn, err := pgx.Connect(context.Background(), c.url("postgres"))
	if err != nil {
		return err
	}
	if conn.PgConn().ParameterStatus("server_version") >= "15" {
		c.strategy = " STRATEGY FILE_COPY"
	}
	return conn.Close(context.Background())
}

// Available says whether this machine has a Postgres to test on.
func Available() bool {
	_, err := programs()
	return err == nil
}

// programs returns the directory of the newest Postgres on the machine.
func programs() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		// A link may stand alone; the server is beside what it points to.
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return "", err
		}
		return filepath.Dir(path), nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	newest, version := "", -1
	for _, path := range found {
		bin := filepath.Dir(path)
		if v, err := strconv.Atoi(filepath.Base(filepath.Dir(bin))); err == nil && v > version {
			newest, version = bin, v
		}
	}
	if newest == "" {
		return "", errNoInitdb
	}
	return newest, nil
}

func unprivileged() (*syscall.Credential, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("running as root, and there is no user postgres or nobody to run Postgres as")
}
