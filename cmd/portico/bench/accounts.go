package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"portico/cmd/portico/launch"
	"portico/db"
	"portico/db/dbtest"
	"portico/impl/account/token"
)

// mostForMany is how often what a request costs with few accounts it may cost with many.
const mostForMany = 1.3

// active is how many of the accounts of a crowd are used, spread over all of it: as many
// whatever its size is, as far as there are so many.
const active = 1000

// signedIn is how many of them have signed in, for what needs a session.
const signedIn = 64

// A crowded is a server with a crowd.
type crowded struct {
	*launch.Server
	size    int
	seeding time.Duration
	start   time.Duration
	idle    int64 // bytes of memory after the start
	crowd   *crowd
	url     string // of the database; empty: SQLite in dir
	dir     string
	chores  []time.Duration // what each of chores took
	client  *client
	issuer  *token.Issuer
	signed  *client          // who signed in
	metrics string           // where they are
	watched [2]time.Duration // what its metrics and its doctor took
}

// runAccounts measures servers with so many accounts beside each other, on each engine.
func runAccounts(ctx context.Context, binary, dir string, env []string, pattern *regexp.Regexp, list, engines string) error {
	var sizes []int
	for word := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 {
			return fmt.Errorf("-accounts takes numbers such as 1000,1000000, not %q", word)
		}
		sizes = append(sizes, n)
	}
	for engine := range strings.SplitSeq(engines, ",") {
		if engine != "sqlite" && engine != "postgres" {
			return fmt.Errorf("-engines takes sqlite and postgres, not %q", engine)
		}
		if err := accountsOn(ctx, engine, binary, filepath.Join(cmp.Or(*into, dir), engine), env, pattern, sizes); err != nil {
			return fmt.Errorf("%s: %w", engine, err)
		}
	}
	return nil
}

func accountsOn(ctx context.Context, engine, binary, dir string, env []string, pattern *regexp.Regexp, sizes []int) (err error) {
	crowd, err := newCrowd(ctx)
	if err != nil {
		return err
	}
	urls := make([]string, len(sizes))
	var below *postmaster
	if engine == "postgres" {
		var names []string
		for i := range sizes {
			names = append(names, fmt.Sprint("crowd_", i))
		}
		if urls, err = dbtest.Databases(names...); err != nil {
			return err
		}
		if below, err = postmasterOf(urls[0]); err != nil {
			return err
		}
	}
	var all []*crowded
	defer func() {
		for _, c := range all {
			c.Kill()
		}
		if *into == "" {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	for i, size := range sizes {
		c, err := startCrowded(ctx, binary, filepath.Join(dir, strconv.Itoa(size)), urls[i], env, crowd, size)
		if err != nil {
			return fmt.Errorf("%d accounts: %w", size, err)
		}
		all = append(all, c)
	}
	rows := slices.DeleteFunc(crowdRows(all, below), func(r *row) bool { return !pattern.MatchString(r.name) })
	m := &machine{ours: func() (ps []*launch.Process) {
		for _, c := range all {
			ps = append(ps, c.Process)
		}
		return ps
	}}
	if err := (&bench{}).measure([]*table{{rows: rows}}, m); err != nil {
		return err
	}
	return printCrowded(engine, all, rows, m)
}

func startCrowded(ctx context.Context, binary, dir, url string, env []string, of *crowd, size int) (c *crowded, err error) {
	port, err := launch.FreePort()
	if err != nil {
		return nil, err
	}
	address := fmt.Sprint("127.0.0.1:", port)
	env = append(slices.Clone(env), metricsBind+address)
	if url != "" {
		env = append(env, "PORTICO_DATABASE_URL="+url)
	}
	c = &crowded{size: size, crowd: of, url: url, dir: dir, metrics: "http://" + address + "/metrics"}
	if err := c.fill(ctx, binary, env); err != nil {
		return nil, err
	}
	if err := c.doChores(ctx); err != nil {
		return nil, err
	}
	began := time.Now()
	if c.Server, err = launch.StartServer(ctx, binary, dir, env...); err != nil {
		return nil, err
	}
	c.start = time.Since(began)
	time.Sleep(settles)
	if c.idle, err = c.Memory("VmRSS"); err == nil {
		err = c.watch(ctx, binary, env)
	}
	if err != nil {
		return nil, err
	}
	c.issuer = &token.Issuer{Secret: []byte(secret), ServiceDID: "did:web:bench.example.com", Now: time.Now, Rand: rand.Reader}
	c.client, c.signed = newClient(c.URL, *workers), newClient(c.URL, *workers)
	for i, n := range whole(size) {
		a := c.account(n)
		w := i % *workers
		c.client.accounts[w].list = append(c.client.accounts[w].list, a)
		if i < signedIn {
			c.signed.accounts[w].list = append(c.signed.accounts[w].list, new(*a))
		}
	}
	var all errgroup.Group
	for worker := range c.signed.accounts {
		all.Go(func() error {
			for range c.signed.accounts[worker].list {
				if err := c.signed.createSession(worker); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return c, all.Wait()
}

// fill makes the rows, unless a folder that -into names has them.
func (c *crowded) fill(ctx context.Context, binary string, env []string) error {
	mark := filepath.Join(c.dir, "filled")
	if text, err := os.ReadFile(mark); err == nil && c.url == "" {
		kept := *c.crowd
		c.crowd = &kept
		return kept.from.UnmarshalText(text)
	}
	// A server that starts with an empty folder leaves what one that was in use has.
	first, err := launch.StartServer(ctx, binary, c.dir, env...)
	if err == nil {
		err = first.Stop()
	}
	if err != nil {
		return err
	}
	began := time.Now()
	if c.url == "" {
		err = c.crowd.fillSQLite(ctx, c.dir, c.size)
	} else {
		err = c.crowd.fillPostgres(ctx, c.url, c.size)
	}
	if err != nil {
		return err
	}
	c.seeding = time.Since(began)
	text, err := c.crowd.from.MarshalText()
	if err != nil {
		return err
	}
	return os.WriteFile(mark, text, 0o666)
}

// account is one of a crowd as its owner uses it, without a session that goes on.
func (c *crowded) account(n int) *account {
	did := crowdDID(n)
	return &account{DID: did.String(), Handle: crowdHandle(n), Access: c.issuer.Access(did, token.Access, time.Now()), keys: []string{c.crowd.post(n, c.size)}}
}

// anybody lets a request be one of any account of all.
func (c *crowded) anybody(request func(c *client, worker int) error) func(worker int) error {
	return func(worker int) error {
		one := &client{http: c.client.http, server: c.client.server, accounts: make([]accounts, worker+1)}
		one.accounts[worker].list = []*account{c.account(mathrand.IntN(c.size))}
		return request(one, worker)
	}
}

// chores are what a server does by itself from time to time, which reads what many accounts have.
var chores = []struct {
	name string
	do   func(ctx context.Context, d *db.DB) error
}{
	{"expired rows, each hour", func(ctx context.Context, d *db.DB) error {
		now := time.Now()
		return d.Write(ctx, func(tx *db.Tx) error {
			return errors.Join(tx.Purge(ctx, now), tx.PurgeAudit(ctx, now.AddDate(-1, 0, 0)))
		})
	}},
	{"what metrics count, each minute at most", func(ctx context.Context, d *db.DB) error {
		_, err := d.Backlog(ctx)
		return err
	}},
	{"how many there are, for who asks", func(ctx context.Context, d *db.DB) error {
		_, err := d.CountShown(ctx)
		return err
	}},
	{"deletions that are due, each hour", func(ctx context.Context, d *db.DB) error {
		_, err := d.DueDeletions(ctx, time.Now(), 100)
		return err
	}},
	{"old events, each hour", func(ctx context.Context, d *db.DB) error {
		return d.Write(ctx, func(tx *db.Tx) error {
			_, err := tx.DropEvents(ctx, time.Now().Add(-72*time.Hour), 1000)
			return err
		})
	}},
}

// doChores measures them, three times each, on a database that no server has. The least is kept.
func (c *crowded) doChores(ctx context.Context) (err error) {
	d, err := db.Open(ctx, db.Config{URL: c.url, Dir: c.dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	for _, chore := range chores {
		least := time.Duration(0)
		for range 3 {
			began := time.Now()
			if err := chore.do(ctx, d); err != nil {
				return fmt.Errorf("%s: %w", chore.name, err)
			}
			if took := time.Since(began); least == 0 || took < least {
				least = took
			}
		}
		c.chores = append(c.chores, least)
	}
	return nil
}

// crowdRows are what is asked of servers with crowds.
func crowdRows(all []*crowded, below *postmaster) (rows []*row) {
	add := func(name string, requests int, bind func(c *crowded) func(worker int) error) {
		r := &row{name: name, requests: scaled(requests), workers: *workers}
		for _, c := range all {
			t := r.add(strconv.Itoa(c.size), c.Process, bind(c))
			if below != nil {
				t.below = below.CPU
			}
		}
		rows = append(rows, r)
	}
	by := func(request func(c *client, worker int) error) func(c *crowded) func(worker int) error {
		return func(c *crowded) func(worker int) error {
			return func(worker int) error { return request(c.client, worker) }
		}
	}
	of := func(request func(c *client, worker int) error) func(c *crowded) func(worker int) error {
		return func(c *crowded) func(worker int) error { return c.anybody(request) }
	}
	ask := func(query func(c *crowded) string) func(c *crowded) func(worker int) error {
		return func(c *crowded) func(worker int) error {
			return func(int) error { return c.operate(query(c), nil) }
		}
	}
	const domain = "domain=" + hostname
	add("getSession", 6000, by((*client).getSession))
	add("getSession, of anybody", 6000, of((*client).getSession))
	add("createSession", 120, by((*client).createSession))
	add("refreshSession", 1500, func(c *crowded) func(worker int) error { return c.signed.refreshSession })
	add("createRecord", 3000, by((*client).createRecord))
	add("getRecord", 3000, by((*client).getRecord))
	add("getRecord, of anybody", 3000, of((*client).getRecord))
	add("resolveHandle", 3000, by((*client).resolveHandle))
	add("checkAccountStatus", 1500, by((*client).checkAccountStatus))
	add("getLatestCommit", 3000, by((*client).getLatestCommit))
	add("createAccount", 120, func(c *crowded) func(worker int) error { return newClient(c.URL, *workers).createAccount })
	add("listRepos, 500", 200, func(c *crowded) func(worker int) error { return c.listRepos })
	add("getAccountInfos, 100", 200, ask(func(c *crowded) string {
		dids := url.Values{}
		first := mathrand.IntN(c.size)
		for n := range min(100, c.size) { // different ones
			dids.Add("dids", crowdDID((first+n*c.size/min(100, c.size))%c.size).String())
		}
		return admin + "getAccountInfos?" + dids.Encode()
	}))
	for _, l := range []struct{ name, query string }{
		{"listAccounts, 100", operator + "listAccounts?limit=100"},
		{"listAccounts, 100 active", operator + "listAccounts?status=active"},
		{"listAccounts, 100 at a domain", operator + "listAccounts?" + domain},
		{"listAccounts, 100 active at a domain", operator + "listAccounts?status=active&" + domain},
		{"listAccounts, 100 by prefix of address", operator + "listAccounts?email=seed-5"},
		{"searchAccounts, 100 by prefix of address", admin + "searchAccounts?limit=100&email=seed-5"},
	} {
		add(l.name, 200, func(c *crowded) func(worker int) error {
			return func(int) error { return c.listAccounts(l.query) }
		})
	}
	return rows
}

func (c *client) getLatestCommit(worker int) error {
	return c.call(http.MethodGet, c.sync("getLatestCommit")+"?did="+c.turn(worker).DID, "", nil, nil)
}

// operate asks as the operator.
func (c *crowded) operate(query string, out any) error {
	header := http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+adminPassword))}}
	return c.client.expect(http.StatusOK, http.MethodGet, c.URL+"/xrpc/"+query, header, nil, out)
}

// listRepos asks for a page anywhere. Like the other lists it is full, or it is an error:
// short ones cost less.
func (c *crowded) listRepos(int) error {
	n := mathrand.IntN(max(1, c.size-fullPage))
	at := c.crowd.from.Add(time.Duration(n) * crowdEvery)
	cursor := url.QueryEscape(fmt.Sprint(at.UnixMilli(), "::", crowdDID(n)))
	var page struct{ Repos []json.RawMessage }
	if err := c.client.call(http.MethodGet, c.client.sync("listRepos")+"?limit=500&cursor="+cursor, "", nil, &page); err != nil {
		return err
	}
	return full("repositories", len(page.Repos), min(fullPage, c.size/2))
}

// fullPage is the most that a page has of listRepos.
const fullPage = 500

func full(what string, got, want int) error {
	if got < want {
		return fmt.Errorf("a page has %d %s, and is to have %d", got, what, want)
	}
	return nil
}

// listAccounts asks for a page of the operator's. One that is not searched for begins anywhere.
func (c *crowded) listAccounts(query string) error {
	const page = 100
	if !strings.Contains(query, "email") {
		// The numbers of DIDs are spread evenly over all that there are.
		part := mathrand.Float64() * max(0, 1-2*page/float64(c.size))
		query += "&cursor=" + seededDID(int(part*crowdDIDs)).String()
	}
	var out struct{ Accounts []json.RawMessage }
	if err := c.operate(query, &out); err != nil {
		return err
	}
	return full("accounts", len(out.Accounts), min(page, c.size/10))
}

// watch measures what a look at the metrics takes, and the doctor's checks of the server and its
// database; of the first look, which counts all that is there.
func (c *crowded) watch(ctx context.Context, binary string, env []string) error {
	began := time.Now()
	resp, err := http.Get(c.metrics)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	c.watched[0] = time.Since(began)
	began = time.Now()
	doctor := exec.CommandContext(ctx, binary, "doctor", "--json")
	doctor.Env = slices.Concat(launch.Environ(), env, []string{"PDS_DATA_DIRECTORY=" + c.dir, "PDS_PORT=" + strings.TrimPrefix(c.URL, "http://localhost:")})
	// It finds that the world does not see this server, and says so by its status.
	text, err := doctor.Output()
	c.watched[1] = time.Since(began)
	var found struct{ Checks []json.RawMessage }
	if unreadable := json.Unmarshal(text, &found); unreadable != nil {
		return fmt.Errorf("doctor: %w: %s", cmp.Or(err, unreadable), text)
	}
	return nil
}

func printCrowded(engine string, all []*crowded, rows []*row, m *machine) error {
	fmt.Printf("Servers with many accounts, on %s, of which %d are used unless a row says otherwise.\n\n", engine, active)
	w := newWriter()
	fmt.Fprintln(w, "accounts\trows made in\tbytes each\tstart\tmemory, idle\tmemory, most\t")
	for _, c := range all {
		most, err := c.PeakMemory()
		if err != nil {
			return err
		}
		size, err := c.diskSize()
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%d\t%v\t%d\t%v\t%.1f MB\t%.1f MB\t\n", c.size, c.seeding.Round(time.Second/10), size/int64(c.size),
			c.start.Round(time.Millisecond), float64(c.idle)/1e6, float64(most)/1e6)
	}
	w.Flush()
	fmt.Printf("\nProcessor time per request, %d connections. Medians of %d rounds; behind a ratio the least and the most of a round.\n\n", *workers, *rounds)
	few, many := all[0], all[len(all)-1]
	w = newWriter()
	head := fmt.Sprintf("method\trequests\t%d\t%d\tratio\trounds\t\t", few.size, many.size)
	if engine == "postgres" {
		head += "Postgres' own\t\tratio\trounds\t\t"
	}
	fmt.Fprintln(w, head)
	verdict := func(f figure) string {
		if f.median <= mostForMany {
			return "met"
		}
		return "NOT MET"
	}
	for _, r := range rows {
		less, more := r.targets[0], r.targets[len(r.targets)-1]
		over := more.over(less, sample.each)
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%.2f\t%s\t%s\t", r.name, r.requests, less.time(), more.time(), over.median, over.spread(), verdict(over))
		if engine == "postgres" {
			over := more.over(less, sample.beneath)
			fmt.Fprintf(w, "%s\t%s\t%.2f\t%s\t%s\t", show(less.figure(sample.beneath).median), show(more.figure(sample.beneath).median), over.median, over.spread(), verdict(over))
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	fmt.Printf("\ngoal: at most %.1f\n\nWhat a server does by itself, the least of three times.\n\n", mostForMany)
	w = newWriter()
	fmt.Fprintf(w, "what\t%d\t%d\t\n", few.size, many.size)
	for i, chore := range chores {
		fmt.Fprintf(w, "%s\t%s\t%s\t\n", chore.name, show(float64(few.chores[i])), show(float64(many.chores[i])))
	}
	for i, name := range []string{"the first look at the metrics", "the doctor, with all that it waits for"} {
		fmt.Fprintf(w, "%s\t%s\t%s\t\n", name, show(float64(few.watched[i])), show(float64(many.watched[i])))
	}
	w.Flush()
	fmt.Println()
	fmt.Println(m)
	return nil
}

// diskSize is how many bytes the database has.
func (c *crowded) diskSize() (int64, error) {
	if c.url == "" {
		return sizeOf(c.dir)
	}
	return databaseSize(context.Background(), c.url)
}
