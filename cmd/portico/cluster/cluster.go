package main

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"portico/cmd/portico/launch"
	"portico/impl/identity/directory"
	"portico/impl/mail/mailtest"
)

// The files that an operator writes are those that the cluster runs with, but for addresses.
var (
	//go:embed example/haproxy.cfg
	haproxyExample string
	//go:embed example/patroni.yml
	patroniExample string
	//go:embed example/pgbouncer.ini
	pgbouncerExample string
)

// versitygw is a real S3 server, from the module proxy.
const versitygw = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"

// hostName is the name of the PDS.
const hostName = "pds.example.com"

const nodes = 3

// A cluster is a PDS of several servers, and all that it stands on, on one machine: in one
// folder, on ports of loopback. It ends with this process, however that ends.
type cluster struct {
	dir       string
	URL       string // of HAProxy
	nodeURLs  []string
	directory string // URL
	mailbox   string // URL
	password  string // of the admin
	database  string // URL of the primary

	parts []*part // in the order in which they are started
	mail  *mailtest.Server
	ends  []func()
	say   func(string, ...any)
	way   func(node int, address string) string

	secret  string // of the database's users
	as      *syscall.Credential
	ports   map[string]int // of example addresses
	alive   *os.File
	started bool
}

// startCluster starts one in a new folder, with a built portico. say hears what is done. What
// leads a server to an address of the database is what way says, if it is not nil.
func startCluster(ctx context.Context, binary string, say func(string, ...any), way func(node int, address string) string, settings ...string) (_ *cluster, err error) {
	c := &cluster{say: say, way: way, ports: map[string]int{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.stop())
		}
	}()
	if err := c.prepare(); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{c.serveDirectory, c.plan(binary, settings)} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	for _, p := range c.parts {
		if strings.HasPrefix(p.name, "node-") && !c.started {
			if err := c.provide(ctx); err != nil {
				return nil, err
			}
			c.started = true
		}
		at := time.Now()
		if err := p.start(ctx); err != nil {
			return nil, err
		}
		say("%s is up after %.1f s", p.name, time.Since(at).Seconds())
	}
	return c, nil
}

// keeper waits until its standard input ends, ends what runs, and clears up. It is a process
// of its own because ours may end in ways that run no code of ours. Patroni is ended before
// its Postgres, which it would start again.
const keeper = `read -r _
for f in "$1"/run/*; do test -f "$f" && kill -KILL $(cat "$f"); done
for d in "$1"/db-*/data; do
	p=$(head -n 1 "$d/postmaster.pid" 2>/dev/null) && test "$(readlink "/proc/$p/cwd")" = "$d" && kill -QUIT "$p"
	while test -n "$p" && test "$(readlink "/proc/$p/cwd")" = "$d"; do sleep 0.05; done
done
test -e "$1/keep" || rm -rf "$1"`

// prepare makes the folder, and has it kept.
func (c *cluster) prepare() (err error) {
	if c.dir, err = os.MkdirTemp("", "portico-cluster-"); err != nil {
		return err
	}
	if c.dir, err = filepath.EvalSymlinks(c.dir); err != nil {
		return err
	}
	for _, name := range []string{"run", "log"} {
		if err := os.Mkdir(filepath.Join(c.dir, name), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(c.dir, 0o755); err != nil { // for those who run as somebody else
		return err
	}
	stdin, alive, err := os.Pipe()
	if err != nil {
		return err
	}
	defer stdin.Close()
	c.alive = alive
	k := exec.Command("/bin/sh", "-c", keeper, "keeper", c.dir)
	k.Stdin, k.SysProcAttr = stdin, &syscall.SysProcAttr{Setsid: true}
	if err := k.Start(); err != nil {
		return err
	}
	c.ends = append(c.ends, func() {
		alive.Close()
		k.Wait()
	})
	if os.Geteuid() == 0 { // some of the programs refuse to run as root
		c.as, err = lookUp("postgres")
	}
	random := make([]byte, 16)
	rand.Read(random)
	c.secret, c.password = hex.EncodeToString(random[:8]), hex.EncodeToString(random[8:])
	return err
}

func lookUp(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("running as root, and Postgres, etcd and pgbouncer must not: %w", err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err1, err2)
}

// serveDirectory starts the PLC directory and the mail server, which are in this process
// and are never away.
func (c *cluster) serveDirectory(context.Context) error {
	box, stop, err := mailtest.Listen(mailtest.Config{})
	if err != nil {
		return err
	}
	c.mail, c.ends = box, append(c.ends, stop)
	plc := directory.New(directory.NewMemory(), time.Now, "cluster", slog.New(slog.DiscardHandler))
	for _, s := range []struct {
		url     *string
		handler http.Handler
	}{{&c.directory, plc}, {&c.mailbox, box.Mailbox()}} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		server := &http.Server{Handler: s.handler}
		go server.Serve(l)
		c.ends = append(c.ends, func() { server.Close() })
		*s.url = fmt.Sprintf("http://localhost:%d", l.Addr().(*net.TCPAddr).Port)
	}
	return nil
}

// at is where on this machine that is which an example has at an address.
func (c *cluster) at(example string) string {
	port, ok := c.ports[example]
	for !ok {
		var err error
		if port, err = launch.FreePort(); err != nil {
			port = 1 // nobody can listen there, and who tries says so
		}
		ok = true
		for _, taken := range c.ports {
			ok = ok && taken != port
		}
	}
	c.ports[example] = port
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// The addresses of the examples.
var (
	servers     = []string{"10.0.0.11:2583", "10.0.0.12:2583", "10.0.0.13:2583"}
	front       = "10.0.0.10:80"
	primary     = "10.0.0.10:5000"
	standby     = "10.0.0.10:5001"
	pooler      = "10.0.0.10:6432"
	machines    = []string{"10.0.0.21:5432", "10.0.0.22:5432"}
	rests       = []string{"10.0.0.21:8008", "10.0.0.22:8008"}
	etcdAddress = "10.0.0.31:2379"
)

// plan knows all parts and writes their files.
func (c *cluster) plan(binary string, settings []string) func(context.Context) error {
	return func(ctx context.Context) error {
		return errors.Join(c.etcd(), c.patroni(0), c.patroni(1), c.haproxy(), c.pgbouncer(), c.redis(), c.s3(ctx), c.nodes(binary, settings))
	}
}

// add adds a part. A program that is not there is an error that names its package.
func (c *cluster) add(p *part, pkg string) error {
	path, err := exec.LookPath(p.path)
	if err != nil {
		return fmt.Errorf("a cluster needs %s, of Debian's %s: %w", p.path, pkg, err)
	}
	p.path, p.dir = path, c.dir
	c.parts = append(c.parts, p)
	return nil
}

func (c *cluster) part(name string) *part {
	for _, p := range c.parts {
		if p.name == name {
			return p
		}
	}
	panic("no part " + name)
}

// folder makes a folder for a part.
func (c *cluster) folder(name string, as *syscall.Credential) (string, error) {
	path := filepath.Join(c.dir, name)
	if err := os.MkdirAll(path, 0o700); err != nil || as == nil {
		return path, err
	}
	return path, os.Chown(path, int(as.Uid), int(as.Gid))
}

// write writes a file that a part reads.
func (c *cluster) write(path, text string, as *syscall.Credential) error {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil || as == nil {
		return err
	}
	return os.Chown(path, int(as.Uid), int(as.Gid))
}

func (c *cluster) etcd() error {
	dir, err := c.folder("etcd", c.as)
	if err != nil {
		return err
	}
	url, peers := "http://"+c.at(etcdAddress), "http://"+c.at("etcd's peers")
	return c.add(&part{
		name: "etcd", path: "etcd", user: c.as, ready: answers(url + "/health"),
		args: []string{"--name", "etcd", "--data-dir", filepath.Join(dir, "data"), "--listen-client-urls", url, "--advertise-client-urls", url,
			"--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", "etcd=" + peers},
	}, "etcd-server")
}

func (c *cluster) patroni(i int) error {
	name := fmt.Sprintf("db-%d", i+1)
	dir, err := c.folder(name, c.as)
	if err != nil {
		return err
	}
	initdb, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(initdb) == 0 {
		return errors.New("a cluster needs Debian's postgresql, below /usr/lib/postgresql")
	}
	data := filepath.Join(dir, "data")
	text := strings.NewReplacer(
		"name: db-1", "name: "+name, machines[0], c.at(machines[i]), rests[0], c.at(rests[i]), etcdAddress, c.at(etcdAddress),
		"/usr/lib/postgresql/15/bin", filepath.Dir(initdb[len(initdb)-1]), "/var/lib/postgresql/15/portico", data,
		"/var/lib/postgresql/.pgpass.patroni", filepath.Join(dir, "pgpass"), "/var/run/postgresql", dir,
		"10.0.0.0/24", "127.0.0.0/8", "in-secret", c.secret,
	).Replace(patroniExample)
	file := filepath.Join(dir, "patroni.yml")
	if err := c.write(file, text, c.as); err != nil {
		return err
	}
	role := "http://" + c.at(rests[i]) + []string{"/primary", "/sync"}[i]
	ready := answers(role)
	return c.add(&part{
		name: name, path: "patroni", user: c.as, args: []string{file}, postgres: data,
		ready: func(ctx context.Context) error {
			if c.started { // either may be either, later
				role = "http://" + c.at(rests[i]) + "/health"
				return answers(role)(ctx)
			}
			return ready(ctx)
		},
	}, "patroni")
}

func (c *cluster) haproxy() error {
	var pairs []string
	for i, example := range machines {
		_, port, _ := strings.Cut(c.at(rests[i]), ":")
		pairs = append(pairs, example+" check port 8008", c.at(example)+" check port "+port)
	}
	for _, example := range append([]string{front, primary, standby}, servers...) {
		pairs = append(pairs, example, c.at(example))
	}
	file := filepath.Join(c.dir, "haproxy.cfg")
	if err := c.write(file, strings.NewReplacer(pairs...).Replace(haproxyExample), nil); err != nil {
		return err
	}
	c.URL = "http://" + c.at(front)
	return c.add(&part{name: "haproxy", path: "haproxy", args: []string{"-db", "-f", file}, ready: listens(c.at(front))}, "haproxy")
}

func (c *cluster) pgbouncer() error {
	dir, err := c.folder("pgbouncer", c.as)
	if err != nil {
		return err
	}
	_, to, _ := strings.Cut(c.at(primary), ":")
	_, at, _ := strings.Cut(c.at(pooler), ":")
	users, file := filepath.Join(dir, "userlist.txt"), filepath.Join(dir, "pgbouncer.ini")
	text := strings.NewReplacer("port=5000", "port="+to, "listen_port = 6432", "listen_port = "+at, "10.0.0.10", "127.0.0.1",
		"/etc/pgbouncer/userlist.txt", users).Replace(pgbouncerExample)
	if err := errors.Join(c.write(file, text, c.as), c.write(users, fmt.Sprintf("%q %q\n", "portico", c.secret), c.as)); err != nil {
		return err
	}
	return c.add(&part{name: "pgbouncer", path: "pgbouncer", user: c.as, args: []string{file}, ready: listens(c.at(pooler))}, "pgbouncer")
}

func (c *cluster) redis() error {
	dir, err := c.folder("redis", c.as)
	if err != nil {
		return err
	}
	_, port, _ := strings.Cut(c.at("redis"), ":")
	return c.add(&part{
		name: "redis", path: "redis-server", user: c.as, ready: listens(c.at("redis")),
		args: []string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", dir},
	}, "redis-server")
}

// s3 is versitygw, which Go fetches and builds the first time.
func (c *cluster) s3(ctx context.Context) error {
	dir, err := c.folder("s3", nil)
	if err != nil {
		return err
	}
	c.say("building versitygw (minutes at first, seconds later)")
	install := exec.CommandContext(ctx, "go", "install", versitygw)
	install.Dir, install.Env = dir, append(os.Environ(), "GOBIN="+dir)
	if out, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("install versitygw: %w\n%s", err, out)
	}
	args := []string{"--port", c.at("s3"), "--quiet", "posix", "--sidecar", filepath.Join(dir, "meta"), filepath.Join(dir, "data")}
	for _, name := range []string{"meta", "data"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return err
		}
	}
	return c.add(&part{
		name: "s3", path: filepath.Join(dir, "versitygw"), args: args, ready: listens(c.at("s3")),
		env: []string{"ROOT_ACCESS_KEY=portico", "ROOT_SECRET_KEY=" + c.secret},
	}, "none")
}

const bucket = "blobs"

// provide makes the bucket and the database.
func (c *cluster) provide(ctx context.Context) error {
	client, err := minio.New(c.at("s3"), &minio.Options{Creds: credentials.NewStaticV4("portico", c.secret, ""), Region: "us-east-1", BucketLookup: minio.BucketLookupPath})
	if err == nil {
		err = client.MakeBucket(ctx, bucket, minio.MakeBucketOptions{Region: "us-east-1"})
	}
	if err != nil {
		return fmt.Errorf("make the bucket: %w", err)
	}
	conn, err := pgx.Connect(ctx, "postgres://postgres:"+c.secret+"@"+c.at(machines[0])+"/postgres")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, "CREATE DATABASE portico OWNER portico")
	return err
}

// postgresURL leads to the database by way of an address.
func (c *cluster) postgresURL(address string) string {
	return "postgres://portico:" + c.secret + "@" + address + "/portico"
}

func (c *cluster) nodes(binary string, settings []string) error {
	random := make([]byte, 96)
	rand.Read(random)
	c.database = c.postgresURL(c.at(primary))
	common := append([]string{
		"PDS_HOSTNAME=" + hostName, "PORTICO_BIND=127.0.0.1", "PDS_DID_PLC_URL=" + c.directory, "PDS_DISABLE_SSRF_PROTECTION=true",
		"PDS_JWT_SECRET=" + hex.EncodeToString(random[:32]), "PDS_ADMIN_PASSWORD=" + c.password,
		"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=" + hex.EncodeToString(random[32:64]),
		"PORTICO_KEY_ENCRYPTION_KEY=" + hex.EncodeToString(random[64:]),
		"PORTICO_DATABASE_POOLED=true",
		"PDS_REDIS_SCRATCH_ADDRESS=" + c.at("redis"), "PDS_RATE_LIMITS_ENABLED=true",
		"PDS_BLOBSTORE_S3_BUCKET=" + bucket, "PDS_BLOBSTORE_S3_REGION=us-east-1", "PDS_BLOBSTORE_S3_ENDPOINT=http://" + c.at("s3"),
		"PDS_BLOBSTORE_S3_FORCE_PATH_STYLE=true", "PDS_BLOBSTORE_S3_ACCESS_KEY_ID=portico", "PDS_BLOBSTORE_S3_SECRET_ACCESS_KEY=" + c.secret,
		"PDS_EMAIL_SMTP_URL=" + c.mail.URL().String(), "PDS_EMAIL_FROM_ADDRESS=accounts@" + hostName,
	}, settings...)
	for i, example := range servers {
		name := fmt.Sprintf("node-%d", i+1)
		dir, err := c.folder(name, nil)
		if err != nil {
			return err
		}
		_, port, _ := strings.Cut(c.at(example), ":")
		url := "http://" + c.at(example)
		c.nodeURLs = append(c.nodeURLs, url)
		to := func(example string) string {
			if c.way == nil {
				return c.postgresURL(c.at(example))
			}
			return c.postgresURL(c.way(i, c.at(example)))
		}
		env := []string{
			"PDS_DATA_DIRECTORY=" + dir, "PDS_PORT=" + port, "PORTICO_METRICS_BIND=" + c.at(name+"'s metrics"),
			"PORTICO_DATABASE_URL=" + to(pooler), "PORTICO_DATABASE_LISTEN_URL=" + to(primary), "PORTICO_DATABASE_READ_URL=" + to(standby),
		}
		err = c.add(&part{name: name, path: binary, args: []string{"serve"}, ready: answers(url + "/xrpc/_health"), env: append(env, common...)}, "none")
		if err != nil {
			return err
		}
	}
	return nil
}

// keep has the folder stay when the cluster ends.
func (c *cluster) keep() error { return os.WriteFile(filepath.Join(c.dir, "keep"), nil, 0o600) }

// stop ends all of it.
func (c *cluster) stop() error {
	for _, p := range c.parts {
		if p.cmd != nil && p.postgres == "" && p.name != "haproxy" && strings.HasPrefix(p.name, "node-") {
			p.cmd.Process.Signal(syscall.SIGTERM)
		}
	}
	for i := len(c.ends) - 1; i >= 0; i-- {
		c.ends[i]()
	}
	return nil
}

// answers says whether a GET is answered with 200.
func answers(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			b, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
			return fmt.Errorf("%s answers %s: %s", url, resp.Status, bytes.TrimSpace(b))
		}
		return nil
	}
}

// listens says whether an address takes connections.
func listens(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}
