package db

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// connectWithin is how long it may take until a server of Postgres has let a connection in,
// where the URL does not say.
const connectWithin = 5 * time.Second

// What is said to Postgres when a connection begins, where the URL does not say it: a
// process that vanishes, or that the network is split from, leaves no locks for long.
var (
	always  = map[string]string{"idle_in_transaction_session_timeout": "30s"}
	overTCP = map[string]string{
		"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3", "tcp_user_timeout": "20000",
	}
)

// driverConfig is how the database at a URL is reached. What the URL says itself stays.
//
// A pooler has to be told nothing that it does not know, and nothing can be prepared there:
// a statement is described once for each connection of ours, and sent with its text. Nor is
// anything cancelled: see dialPooler.
func driverConfig(address string, pooled bool) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(address)
	if err != nil {
		// The driver's message leaves the password out.
		return nil, fmt.Errorf("database URL: %w", err)
	}
	config.RuntimeParams["application_name"] = "portico"
	// As bun's builder quotes texts, whatever the server is set to: a backslash is one.
	config.RuntimeParams["standard_conforming_strings"] = "on"
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectWithin
	}
	config.DialFunc = dialer.DialContext
	if pooled {
		config.DialFunc = dialPooler
		if !strings.Contains(address, "default_query_exec_mode=") {
			config.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
		}
		return config, nil
	}
	add := func(some map[string]string) {
		for name, value := range some {
			if config.RuntimeParams[name] == "" {
				config.RuntimeParams[name] = value
			}
		}
	}
	add(always)
	if network, _ := pgconn.NetworkAddress(config.Host, config.Port); network == "tcp" {
		add(overTCP)
	}
	return config, nil
}

// dialer notices in some 20 seconds that the other side is gone without a word.
var dialer = &net.Dialer{
	KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 2},
	Control:         boundAnswers,
}

// A link is a process's way to Postgres: while it is cut, connections end at once, and none
// begins. It is safe for concurrent use.
type link struct {
	through func(ctx context.Context, network, address string) (net.Conn, error)

	mu    sync.Mutex
	conns map[*linked]struct{}
	why   error // nil: it is not cut
}

// linked is a connection of a link.
type linked struct {
	net.Conn
	*link
	committing atomic.Bool // see [letCommit]
}

// nowhere is where the driver finds a server to ask it to cancel what may not be cancelled.
type nowhere struct{}

func (nowhere) Network() string { return "nowhere" }
func (nowhere) String() string  { return "nowhere" }

var errNotCancelled = errors.New("nothing is cancelled on this connection")

// dialPooler makes a connection to a pooler. Over one that is lost, also by a caller who has gone
// away, the driver asks the server to cancel what it was at; pgbouncer 1.18 may end with "server
// in bad state" over that, with all of its connections. It closes the one to Postgres in any case.
func dialPooler(ctx context.Context, network, address string) (net.Conn, error) {
	if network == (nowhere{}).Network() {
		return nil, errNotCancelled
	}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return uncancelled{conn}, nil
}

type uncancelled struct{ net.Conn }

func (uncancelled) RemoteAddr() net.Addr { return nowhere{} }

// letCommit says whether a connection is committing. What is lost then is not cancelled, as the
// driver does otherwise: a COMMIT that waits for a synchronous standby would be over with that,
// and all would see what a new primary may not have.
func letCommit(conn *pgx.Conn, committing bool) {
	on := conn.PgConn().Conn()
	if secret, ok := on.(*tls.Conn); ok {
		on = secret.NetConn()
	}
	if c, ok := on.(*linked); ok {
		c.committing.Store(committing)
	}
}

func (c *linked) RemoteAddr() net.Addr {
	if c.committing.Load() {
		return nowhere{}
	}
	return c.Conn.RemoteAddr()
}

func (l *link) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if network == (nowhere{}).Network() {
		return nil, errNotCancelled
	}
	if err := l.broken(); err != nil {
		return nil, err
	}
	conn, err := l.through(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &linked{Conn: conn, link: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why != nil {
		return nil, errors.Join(l.why, conn.Close())
	}
	if l.conns == nil {
		l.conns = make(map[*linked]struct{})
	}
	l.conns[c] = struct{}{}
	return c, nil
}

func (c *linked) Close() error {
	c.mu.Lock()
	delete(c.conns, c)
	c.mu.Unlock()
	return c.Conn.Close()
}

// broken is why the link is cut, nil when it is not.
func (l *link) broken() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.why
}

// cut ends what there is, and refuses with an error what is to begin, until it is called
// with nil.
func (l *link) cut(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.why = why
	if why == nil {
		return
	}
	for c := range l.conns {
		_ = c.Conn.Close() // whoever waits for it learns of that
	}
	clear(l.conns)
}

// unpooled says of the error of a statement that was prepared, or of a connection that did
// not begin, that it is a pooler's, when it is.
func unpooled(err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok:
	case pg.Code == "42P05", // duplicate_prepared_statement
		pg.Code == "26000", // invalid_sql_statement_name
		pg.Code == "08P01" && strings.HasPrefix(pg.Message, "unsupported startup parameter"):
		return fmt.Errorf("%w: %w", ErrPooler, err)
	}
	return err
}

// findPooler returns ErrPooler when what one connection of pool prepares is there on another,
// too. It is not sure to find that out, and costs a round trip where there is no pooler.
func findPooler(ctx context.Context, pool *sql.DB, config *pgx.ConnConfig) error {
	if config.DefaultQueryExecMode != pgx.QueryExecModeCacheStatement {
		return nil
	}
	conn, err := pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(driverConn any) error {
		one := driverConn.(*stdlib.Conn).Conn()
		var process uint32
		err = one.QueryRow(ctx, "SELECT pg_backend_pid()", pgx.QueryExecModeExec).Scan(&process)
		if err != nil || process == one.PgConn().PID() { // poolers give out numbers of their own
			return err
		}
		other, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			return err
		}
		defer other.Close(context.WithoutCancel(ctx))
		const name = "portico_looks_for_a_pooler"
		if _, err := one.Prepare(ctx, name, "SELECT 1"); err != nil {
			return err
		}
		if _, err := other.Prepare(ctx, name, "SELECT 1"); err != nil {
			return err
		}
		return one.Deallocate(ctx, name)
	})
}
