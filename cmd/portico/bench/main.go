// Command bench measures what each method costs the server: the processor time of the
// built binary per request, beside that of a floor server, which does only what can't be
// left out (see portico/cmd/portico/bench/floor) and is driven in the same way in the same
// run. make bench runs it. It reads /proc, and so needs Linux.
//
// Everything is measured a bit in each of -rounds, one program right after the other, in an
// order that rotates. What is printed are medians over the rounds; ratios are of one round
// each, with the least and the most of them behind. Times differ from machine to machine
// and with what else it does, which is printed too (Postgres is among the others); the
// ratios hardly do. Nothing is asserted: where there is a goal, it says whether it is met.
// With a small -scale the methods that hash measure a process that has given its memory
// back since the last round.
//
// The server runs as in production: no development mode, which would check every
// answer, and no line in the log for each request (level warn). The PLC directory
// is a process of its own and its time is nobody's.
//
// The tables, of which -tables names some:
//
//   - goals: the methods that the floor has, with synchronous=FULL and NORMAL
//   - connections: 64 connections at a time, and how long they wait
//   - repositories: what the floor has not. What is passed on to an app view, a process of its
//     own, is compared with the reverse proxy of the standard library
//   - lists: what operators ask about many accounts, of a server that has them
//   - logging: what a line in the log for each request costs
//   - metrics: what counting for Prometheus costs each request, and what it costs to look
//   - oauth: what it costs more to be asked by an app, with a DPoP proof for each request
//   - postgres: some methods on Postgres, if there is an initdb
//   - nodes: 1, 2 and 3 servers of one Postgres, beside the statements of a write alone
//   - codec: what bodies cost to decode and check, and to encode, without a server, beside
//     encoding/json and what ogen makes of openapi.json. Go fetches ogen
//   - memory: of logins, and of a server that has nothing to do
//
// With -only REGEXP those rows of goals, repositories, lists and codec are measured whose
// names match, and the other tables only if -tables names them. A single figure in seconds:
//
//	make bench BENCHFLAGS='-only ^getSession$ -synchronous FULL'
//
// With -peer BINARY another portico, a former one say, is measured beside this one in the
// same run. One that the database of many accounts is too new for is not asked for lists.
// The peer may be the reference, cmd/portico/compare/reference.mjs, if make compare has
// installed it. PORTICO_BINARY names the binary to measure in the place of the one that is
// built.
//
// With -samples FILE what each round gave is written in the format of Go's benchmarks, so
// that benchstat compares runs, or the programs of one run:
//
//	go run golang.org/x/perf/cmd/benchstat@latest former.txt now.txt
//	go run golang.org/x/perf/cmd/benchstat@latest -col /program now.txt
//
// With -hostile 10s it measures something else: what one user sees who signs in every
// second while -connections others are hostile, each kind for that time, and the most
// memory that the server has meanwhile. All of it stays on this machine; the addresses
// are those that a proxy would report.
//
// With -seed 1x1000,1x1000000,100000x10 it measures servers of those sizes, accounts times
// records, one after the other: what writes and reads cost, how much they take of the disk
// and of memory, how long they take to start. -into FOLDER keeps such a database.
//
// With -capacity 10,1000,100000 it measures what a machine has to have for so many accounts,
// each with 30 posts and a picture, while one in a hundred of the people uses the server.
//
// With -accounts 1000,1000000 it measures servers with so many accounts beside each other, on
// the databases that -engines names: what starts, requests and regular jobs cost, and how much
// more than with few. To make the rows of a million takes minutes for each database.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"portico/cmd/portico/bench/floor"
	"portico/cmd/portico/launch"
	"portico/impl/identity/directory"
)

var (
	rounds  = flag.Int("rounds", 5, "rounds; everything is measured a bit in each")
	scale   = flag.Float64("scale", 1, "multiplies the number of requests")
	workers = flag.Int("workers", 8, "keep-alive connections, where a row does not say otherwise")

	only        = flag.String("only", "", "measure the rows, or the kinds of -hostile, alone whose names match this regular expression")
	tables      = flag.String("tables", "", "measure these tables alone: goals,connections,repositories,lists,logging,metrics,oauth,postgres,nodes,codec,memory")
	synchronous = flag.String("synchronous", "FULL,NORMAL", "how the database of goals waits for the disk")
	peer        = flag.String("peer", "", "another portico binary, to measure beside this one, or the reference: cmd/portico/compare/reference.mjs")
	samples     = flag.String("samples", "", "write what each round gave to this file, for benchstat")

	sizes = flag.String("seed", "", "measure servers of some sizes instead, each so many accounts with so many records: 1x1000,1x100000,1x1000000,100x10,100000x10")
	into  = flag.String("into", "", "with one size for -seed, make its database in this folder, and measure nothing")

	capacity     = flag.String("capacity", "", "measure what servers with so many accounts take instead: 10,1000,100000")
	capacityLoad = flag.Duration("capacity-load", 30*time.Second, "how long people use each of them")

	crowds  = flag.String("accounts", "", "measure servers with so many accounts beside each other instead: 1000,1000000")
	engines = flag.String("engines", "sqlite,postgres", "the databases of -accounts")

	hostileTime = flag.Duration("hostile", 0, "measure a user beside hostile connections instead, so long for each kind")
	connections = flag.Int("connections", 120, "hostile connections")
)

// These are set in the processes that this one starts of itself: what to be, where to
// listen, and what else they have to know.
const (
	asChild       = "PORTICO_BENCH_CHILD"
	asAddress     = "PORTICO_BENCH_ADDRESS"
	asUpstream    = "PORTICO_BENCH_UPSTREAM"
	asDir         = "PORTICO_BENCH_DIR"
	asSynchronous = "PORTICO_BENCH_SYNCHRONOUS"
)

func main() {
	flag.Parse()
	err := fmt.Errorf("unknown child %q", os.Getenv(asChild))
	switch address := os.Getenv(asAddress); os.Getenv(asChild) {
	case "":
		err = run(context.Background())
	case ofFloor:
		err = floor.Serve(floor.Config{
			Address: address, Dir: os.Getenv(asDir), Synchronous: os.Getenv(asSynchronous), Directory: os.Getenv(asUpstream),
			Hostname: hostname, Secret: secret, AdminPassword: adminPassword,
		})
	case "directory":
		d := directory.New(directory.NewMemory(), time.Now, "bench", slog.New(slog.DiscardHandler))
		err = http.ListenAndServe(address, d)
	case "app view":
		err = http.ListenAndServe(address, appView())
	case "silent app view":
		err = http.ListenAndServe(address, silentAppView())
	case "reverse proxy":
		var h http.Handler
		if h, err = reverseProxy(); err == nil {
			err = http.ListenAndServe(address, h)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// startChild starts this program again as one of its children.
func startChild(ctx context.Context, what, ready string, env ...string) (url string, p *launch.Process, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	port, err := launch.FreePort()
	if err != nil {
		return "", nil, err
	}
	address := net.JoinHostPort("127.0.0.1", fmt.Sprint(port))
	url = "http://" + address
	p, err = launch.Start(ctx, url+ready, "", append(env, asChild+"="+what, asAddress+"="+address), self)
	return url, p, err
}

func run(ctx context.Context) error {
	pattern, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "portico-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary, err := launch.Binary(ctx, dir)
	if err != nil {
		return err
	}
	directoryURL, plc, err := startChild(ctx, "directory", "/_health")
	if err != nil {
		return err
	}
	defer plc.Kill()
	env := environment(directoryURL)
	switch {
	case *sizes != "":
		return ofSizes(ctx, binary, dir, env, pattern)
	case *capacity != "":
		return runCapacity(ctx, binary, dir, env, *capacity, *capacityLoad)
	case *crowds != "":
		return runAccounts(ctx, binary, dir, env, pattern, *crowds, *engines)
	case *hostileTime > 0:
		return runHostile(ctx, binary, dir, env, pattern)
	}
	others, err := startPassing(ctx)
	if err != nil {
		return err
	}
	defer others.kill()
	r := &bench{
		dir: dir, binary: binary, directoryURL: directoryURL, env: append(env, others.env()...), pattern: pattern, passing: others,
		started: []*launch.Process{plc, others.appView, others.proxy},
	}
	defer r.kill()
	return r.run(ctx)
}

// scaled is how many requests there are where so many are meant.
func scaled(requests int) int {
	return max(*rounds, int(float64(requests)**scale)) / *rounds * *rounds
}

// A bench is a run of the tables.
type bench struct {
	dir, binary, directoryURL string
	env                       []string // of servers
	pattern                   *regexp.Regexp
	passing                   *passing

	started  []*launch.Process
	subjects map[string][]*subject // of each way to wait for the disk: the server first
	lines    []string              // of -samples, beside those of rows
}

// allTables are the tables in the order in which they are printed.
var allTables = []string{"goals", "connections", "repositories", "lists", "logging", "metrics", "oauth", "postgres", "nodes", "codec", "memory"}

// wants says whether a table is to be measured.
func (b *bench) wants(table string) bool {
	chosen := cmp.Or(*tables, strings.Join(allTables, ","))
	if *tables == "" && *only != "" {
		chosen = "goals,repositories,lists,codec"
	}
	return slices.Contains(strings.Split(chosen, ","), table)
}

func (b *bench) run(ctx context.Context) error {
	for name := range strings.SplitSeq(*tables, ",") {
		if name != "" && !slices.Contains(allTables, name) {
			return fmt.Errorf("-tables: there is no %q", name)
		}
	}
	b.subjects = make(map[string][]*subject)
	var all []*table
	add := func(t *table, err error) error {
		if t != nil && len(t.rows) > 0 {
			all = append(all, t)
		}
		return err
	}
	for _, mode := range strings.Split(*synchronous, ",") {
		if b.wants("goals") {
			if err := add(b.goals(ctx, mode)); err != nil {
				return err
			}
		}
	}
	for _, t := range []struct {
		name string
		make func(context.Context) (*table, error)
	}{
		{"connections", b.wide}, {"repositories", b.repositories}, {"lists", b.lists}, {"logging", b.logging}, {"metrics", b.metrics},
		{"oauth", b.oauth}, {"postgres", b.postgres}, {"nodes", b.nodes},
	} {
		if b.wants(t.name) {
			if err := add(t.make(ctx)); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	if len(all) > 0 {
		m := &machine{ours: func() []*launch.Process { return b.started }}
		if err := b.measure(all, m); err != nil {
			return err
		}
		for _, t := range all {
			t.print()
			fmt.Println()
		}
		fmt.Println(m)
	}
	if b.wants("codec") {
		if err := b.codec(ctx); err != nil {
			return fmt.Errorf("codec: %w", err)
		}
	}
	if b.wants("memory") {
		if err := b.memory(ctx); err != nil {
			return fmt.Errorf("memory: %w", err)
		}
	}
	if *samples != "" {
		if err := writeSamples(*samples, all, b.lines); err != nil {
			return err
		}
	}
	return b.stop()
}

func (b *bench) measure(all []*table, m *machine) error {
	for _, t := range all {
		for _, r := range t.rows {
			if err := r.warmUp(note); err != nil {
				return err
			}
		}
	}
	for round := range *rounds {
		if err := m.begin(); err != nil {
			return err
		}
		for _, t := range all {
			for _, r := range t.rows {
				if err := r.measure(round); err != nil {
					return err
				}
			}
		}
		if err := m.end(); err != nil {
			return err
		}
	}
	return nil
}

func note(err error) { fmt.Fprintln(os.Stderr, "bench:", err) }

// running are the servers with one way to wait for the disk: the server, the floor and, if
// there is one, the peer.
func (b *bench) running(ctx context.Context, mode string) ([]*subject, error) {
	if all, ok := b.subjects[mode]; ok {
		return all, nil
	}
	env := append(slices.Clone(b.env), "PORTICO_SQLITE_SYNCHRONOUS="+mode)
	var all []*subject
	add := func(s *subject, err error) error {
		if err == nil {
			all, b.started = append(all, s), append(b.started, s.Process)
			b.subjects[mode] = all
		}
		return err
	}
	if err := add(startSubject(ctx, ofServer, b.binary, b.dir+"/server-"+mode, env)); err != nil {
		return nil, err
	}
	if err := add(startFloor(ctx, b.dir+"/floor-"+mode, mode, b.directoryURL)); err != nil {
		return nil, err
	}
	if *peer == "" {
		return all, nil
	}
	return all, add(startSubject(ctx, ofPeer, *peer, b.dir+"/peer-"+mode, env))
}

// bind makes the rows of work for some programs.
func bind(all []work, subjects []*subject) (rows []*row, err error) {
	for _, w := range all {
		r := &row{name: w.name, requests: scaled(w.requests), workers: cmp.Or(w.workers, *workers), goal: w.goal}
		for _, s := range subjects {
			do, err := w.bind(s)
			if err != nil && s.who == ofPeer {
				note(fmt.Errorf("%s is not asked of the peer: %w", w.name, err))
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("%s of the %s: %w", w.name, s.who, err)
			}
			t := r.add(s.who, s.Process, do)
			if w.beside != nil {
				t.beside = func() (func(), error) { return w.beside(s) }
			}
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func (b *bench) kill() {
	for _, all := range b.subjects {
		for _, s := range all {
			s.Kill()
		}
	}
}

// stop asks what can be asked to stop, so that a server that can't is found.
func (b *bench) stop() (err error) {
	for _, all := range b.subjects {
		for _, s := range all {
			if s.who == ofServer {
				err = errors.Join(err, s.Stop())
			}
		}
	}
	return err
}
