// Command cluster starts a PDS of three servers on one machine, with all that such a one
// stands on: HAProxy before them, Postgres with a synchronous standby under Patroni and etcd,
// pgbouncer, Redis, and versitygw for blobs. make cluster runs it. It says where everything
// is, starts again what ends or is killed, and ends with all of it when it is interrupted.
//
// It needs Linux, and Debian's etcd-server, patroni, postgresql, haproxy, pgbouncer and
// redis-server.
//
// The test, which make cluster-test runs, kills each part in turn while clients of all kinds
// are at work, and then looks for what must never be: something acknowledged that is not
// there, events that differ between servers, an invite used twice or for nobody, a session
// that goes on twice, a repository that does not verify.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"portico/cmd/portico/launch"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "portico-binary-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	say := func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	say("compiling the server (minutes at first, seconds later)")
	binary, err := launch.Binary(ctx, dir)
	if err != nil {
		return err
	}
	c, err := startCluster(ctx, binary, say, nil, "PDS_INVITE_REQUIRED=false")
	if err != nil {
		return err
	}
	defer c.stop()
	c.tell()
	for _, p := range c.parts {
		go c.again(ctx, p)
	}
	<-ctx.Done()
	return nil
}

// tell says where everything is.
func (c *cluster) tell() {
	c.say(`
A PDS of three servers is at %[1]s

    curl -s %[1]s/xrpc/com.atproto.server.createAccount -H 'Content-Type: application/json' \
        -d '{"handle":"alice.%[2]s","email":"alice@example.com","password":"correct horse"}'

the servers     %[3]v
admin           admin:%[4]s
database        %[5]s
mails           curl '%[6]s/next?to=alice@example.com'
directory       %[7]s
logs            %[8]s/log

A part is killed by its name, and started again after ten seconds:
`, c.URL, hostName, c.nodeURLs, c.password, c.database, c.mailbox, c.directory, c.dir)
	for _, p := range c.parts {
		if p.postgres != "" {
			c.say("    kill -9 $(cat %s) $(head -n 1 %s/postmaster.pid)", p.pidFile(), p.postgres)
		} else {
			c.say("    kill -9 $(cat %s)", p.pidFile())
		}
	}
}

// again starts a part anew whenever it has ended.
func (c *cluster) again(ctx context.Context, p *part) {
	for {
		select {
		case <-p.ended():
		case <-ctx.Done():
			return
		}
		if ctx.Err() != nil {
			return
		}
		c.say("%s ended", p.name)
		select {
		case <-time.After(10 * time.Second):
		case <-ctx.Done():
			return
		}
		if err := p.start(ctx); err != nil {
			if ctx.Err() == nil {
				c.say("%v", err)
			}
			continue
		}
		c.say("%s is up again", p.name)
	}
}
