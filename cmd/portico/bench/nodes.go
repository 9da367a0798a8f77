package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"portico/cmd/portico/launch"
	"portico/db/dbtest"
)

// mostNodes is how many servers of one database are measured at most.
const mostNodes = 3

// nodesAlike is who some servers of one database are.
func nodesAlike(n int) string {
	if n == 1 {
		return "1 node"
	}
	return fmt.Sprint(n, " nodes")
}

// A cluster is some servers of one database, with people on them.
type cluster struct {
	all     programs
	clients []*client // of each server, with the same accounts
}

// turns lets the requests of a worker go to the servers in turns.
func (c *cluster) turns(workers int, request func(c *client, worker int) error) func(worker int) error {
	var some []*client
	for _, of := range c.clients {
		some = append(some, of.divided(workers)) // with the same accounts for the same worker
	}
	next := make([]int, workers)
	return func(worker int) error {
		next[worker]++
		return request(some[(worker+next[worker])%len(some)], worker)
	}
}

// nodes compares 1, 2 and 3 servers of one database each, all of which are of one Postgres,
// with what the statements of a write take by themselves.
func (b *bench) nodes(ctx context.Context) (*table, error) {
	if !dbtest.Available() {
		note(errors.New("nothing is measured on Postgres: there is no initdb, on PATH or under /usr/lib/postgresql"))
		return nil, nil
	}
	urls, err := dbtest.Databases("nodes_1", "nodes_2", "nodes_3", "nodes_bare")
	if err != nil {
		return nil, err
	}
	below, err := postmasterOf(urls[0])
	if err != nil {
		return nil, err
	}
	var clusters []*cluster
	for n := 1; n <= mostNodes; n++ {
		c, err := b.startCluster(ctx, n, urls[n-1])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", nodesAlike(n), err)
		}
		clusters = append(clusters, c)
	}
	bare, err := b.newBare(ctx, urls[mostNodes])
	if err != nil {
		return nil, err
	}
	t := &table{mode: "nodes"}
	for _, w := range []struct {
		name              string
		requests, workers int
		do                func(c *client, worker int) error
	}{
		{"getSession", 6000, 32, (*client).getSession},
		{"refreshSession", 2000, 32, (*client).refreshSession},
		{"createRecord", 3000, 32, (*client).createRecord},
		{"createRecord", 3000, 64, (*client).createRecord},
	} {
		r := &row{name: fmt.Sprintf("%s, %d accounts", w.name, w.workers), requests: scaled(w.requests), workers: w.workers}
		for i, c := range clusters {
			r.add(nodesAlike(i+1), c.all, c.turns(w.workers, w.do)).below = below.CPU
		}
		t.rows = append(t.rows, r)
	}
	for _, workers := range []int{1, 32, 64} {
		r := &row{name: fmt.Sprintf("the statements alone, %d accounts", workers), requests: scaled(min(3000, 500*workers)), workers: workers}
		for _, how := range bareWays {
			r.add(how.name, below, func(worker int) error { return bare.write(ctx, worker, how) })
		}
		t.rows = append(t.rows, r)
	}
	t.print = func() {
		fmt.Printf("Servers of one database, beside the statements of a write sent by themselves, in one round trip. Everything is on this machine's\n"+
			"processors. Medians of %d rounds; behind a ratio the least and the most of a round.\n\n", *rounds)
		w := newWriter()
		fmt.Fprintln(w, "what\tby\trequests\tper second\t÷ first\trounds\thalf\tp99\tnodes\tPostgres\t")
		for _, r := range t.rows {
			for _, of := range r.targets {
				nodes, postgres := of.time(), show(of.figure(sample.beneath).median)
				if of.below == nil {
					nodes, postgres = "", nodes
				}
				over := of.over(r.targets[0], sample.rate)
				fmt.Fprintf(w, "%s\t%s\t%d\t%.0f/s\t%.2f\t%s\t%s\t%s\t%s\t%s\t\n", r.name, of.who, r.requests, of.figure(sample.rate).median, over.median, over.spread(),
					show(of.figure(sample.median).median), show(of.figure(sample.p99).median), nodes, postgres)
			}
		}
		w.Flush()
		flush, err := flushes(filepath.Dir(below.data))
		if err != nil {
			note(err)
			return
		}
		fmt.Printf("\nThe disk of Postgres takes %s to store 8 kB (half of the times; a tenth takes %s): 1 ÷ that is %.0f a second.\n",
			show(flush.median()), show(flush.within(90)), float64(time.Second)/flush.median())
	}
	return t, nil
}

func (b *bench) startCluster(ctx context.Context, n int, url string) (*cluster, error) {
	c := new(cluster)
	for i := range n {
		port, err := launch.FreePort()
		if err != nil {
			return nil, err
		}
		env := append(slices.Clone(b.env), fmt.Sprint(metricsBind, "127.0.0.1:", port), "PORTICO_DATABASE_URL="+url)
		server, err := launch.StartServer(ctx, b.binary, fmt.Sprintf("%s/nodes-%d-%d", b.dir, n, i), env...)
		if err != nil {
			return nil, err
		}
		b.subjects["nodes"] = append(b.subjects["nodes"], &subject{Server: server, who: ofServer})
		b.started, c.all = append(b.started, server.Process), append(c.all, server.Process)
		c.clients = append(c.clients, newClient(server.URL, *workers))
	}
	if err := c.clients[0].signUp(people); err != nil {
		return nil, err
	}
	for _, of := range c.clients[1:] {
		of.accounts = c.clients[0].accounts
	}
	return c, nil
}

// A bareWay is what a write does without a server.
type bareWay struct {
	name         string
	counts, mark bool
}

var bareWays = []bareWay{
	{"with the counter", true, false},
	{"without the counter", false, false},
	{"with the counter and a mark", true, true},
}

// bare has connections that write what a createRecord does.
type bare struct {
	conns []*pgx.Conn
	seq   atomic.Int64
	marks atomic.Int64
}

func (b *bench) newBare(ctx context.Context, url string) (*bare, error) {
	server, err := launch.StartServer(ctx, b.binary, b.dir+"/nodes-bare", append(slices.Clone(b.env), "PORTICO_METRICS_BIND=off", "PORTICO_DATABASE_URL="+url)...)
	if err == nil {
		err = server.Stop() // which leaves the tables
	}
	if err != nil {
		return nil, err
	}
	c, err := newCrowd(ctx)
	if err == nil {
		err = c.fillPostgres(ctx, url, people)
	}
	if err != nil {
		return nil, err
	}
	all := new(bare)
	all.seq.Store(1 << 40) // where the counter does not get
	for range people {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return nil, err
		}
		all.conns = append(all.conns, conn)
	}
	return all, nil
}

// What a createRecord sends, with values of the sizes that they have.
const (
	bareRepo = `UPDATE repo SET commit_cid = $2, commit_block = $3, rev = $4, records = records + 1 WHERE did = $1`
	bareNode = `INSERT INTO node (did, low, layer, cid, rev, data) SELECT $1, * FROM unnest($2::text[], $3::int[], $4::bytea[], $5::text[], $6::bytea[])
		ON CONFLICT (did, low, layer) DO UPDATE SET cid = excluded.cid, rev = excluded.rev, data = excluded.data`
	bareRecord  = `INSERT INTO record (did, path, cid, rev, indexed_at, value) VALUES ($1, $2, $3, $4, $5, $6)`
	bareCounted = `WITH c AS (UPDATE event_counter SET last = last + 1, time = greatest(time, $3) WHERE id = 1 RETURNING last, time)
		INSERT INTO event (seq, did, kind, body, time) SELECT last, $1, 'commit', $2, time FROM c`
	bareUncounted = `INSERT INTO event (seq, did, kind, body, time) VALUES ($4, $1, 'commit', $2, $3)`
	bareMark      = `INSERT INTO tx_mark (id) VALUES ($1)`
)

func (b *bare) write(ctx context.Context, worker int, how bareWay) error {
	did, now := crowdDID(worker).String(), time.Now().UnixMicro()
	n := b.seq.Add(1)
	cid, rev := []byte(fmt.Sprintf("%036d", n)), fmt.Sprintf("%013d", n)
	var batch pgx.Batch
	batch.Queue("BEGIN")
	if how.mark {
		batch.Queue(bareMark, []byte(fmt.Sprintf("%016d%016d", now, b.marks.Add(1))))
	}
	batch.Queue(bareRepo, did, cid, make([]byte, 220), rev)
	batch.Queue(bareNode, did, []string{"", "app.bsky.feed.post/3"}, []int32{1, 0}, [][]byte{cid, cid}, []string{rev, rev}, [][]byte{make([]byte, 700), make([]byte, 700)})
	batch.Queue(bareRecord, did, posts+"/"+rev, cid, rev, now, make([]byte, 250))
	if how.counts {
		batch.Queue(bareCounted, did, make([]byte, 2500), now)
	} else {
		batch.Queue(bareUncounted, did, make([]byte, 2500), now, n)
	}
	batch.Queue("COMMIT")
	return b.conns[worker].SendBatch(ctx, &batch).Close()
}

// flushes is how long it takes to let a page wait for the disk of a folder.
func flushes(dir string) (s sample, err error) {
	f, err := os.CreateTemp(dir, "flush-")
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	page := []byte(strings.Repeat("page....", 1024))
	const pages, times = 64, 500
	for range pages { // so that no size changes later
		if _, err := f.Write(page); err != nil {
			return s, err
		}
	}
	if err := f.Sync(); err != nil {
		return s, err
	}
	for n := range times {
		began := time.Now()
		if _, err := f.WriteAt(page, int64(n%pages*len(page))); err != nil {
			return s, err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return s, err
		}
		s.took = append(s.took, time.Since(began))
	}
	return s, nil
}
