// Command bench measures what each method costs the server: the processor time of
// the built binary per request, beside that of a bare echo handler which is driven
// in the same way in the same run. make bench runs it. It reads /proc, and so needs
// Linux.
//
// The server runs as in production: no development mode, which would check every
// answer, and no line in the log for each request (level warn). The PLC directory
// is a process of its own and its time is nobody's.
//
// What is passed on to an app view, a process of its own, is compared with the reverse
// proxy of the standard library in the place of the bare handler.
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
// What operators ask about many accounts is asked of a second server, which has
// many accounts.
//
// With -peer BINARY another portico, a former one say, is measured beside this one in the
// same run: the last columns are its time and how this one's compares. One that the
// database of many accounts is too new for is not asked for lists. The peer may be the
// reference, cmd/portico/compare/reference.mjs, if make compare has installed it.
//
// Nothing is asserted. Times differ from machine to machine and with what else it
// does; the ratios hardly do.
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
	"text/tabwriter"
	"time"

	"github.com/labstack/echo/v4"

	"portico/cmd/portico/launch"
	"portico/impl/identity/directory"
)

var (
	rounds  = flag.Int("rounds", 5, "rounds; everything is measured a bit in each, so that the machine's moods hit all alike")
	scale   = flag.Float64("scale", 1, "multiplies the number of requests")
	workers = flag.Int("workers", 4, "keep-alive connections")

	only = flag.String("only", "", "measure the methods, or the kinds of -hostile, alone whose names match this regular expression")
	peer = flag.String("peer", "", "another portico binary, to measure beside this one, or the reference: cmd/portico/compare/reference.mjs")

	sizes = flag.String("seed", "", "measure servers of some sizes instead, each so many accounts with so many records: 1x1000,1x100000,1x1000000,100x10,100000x10")
	into  = flag.String("into", "", "with one size for -seed, make its database in this folder, and measure nothing")

	hostileTime = flag.Duration("hostile", 0, "measure a user beside hostile connections instead, so long for each kind")
	connections = flag.Int("connections", 120, "hostile connections")
)

// asChild is set in the processes that this one starts of itself: what to be, and
// where to listen.
const asChild, asAddress = "PORTICO_BENCH_CHILD", "PORTICO_BENCH_ADDRESS"

func main() {
	flag.Parse()
	err := fmt.Errorf("unknown child %q", os.Getenv(asChild))
	switch address := os.Getenv(asAddress); os.Getenv(asChild) {
	case "":
		err = run(context.Background())
	case "echo":
		err = bare().Start(address)
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

// bare is what a handler costs that does nothing: echo, its JSON, and an answer of
// the size that getSession gives.
func bare() *echo.Echo {
	type session struct {
		DID            string `json:"did"`
		Handle         string `json:"handle"`
		Email          string `json:"email"`
		EmailConfirmed bool   `json:"emailConfirmed"`
		Active         bool   `json:"active"`
	}
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	answer := func(c echo.Context) error {
		return c.JSON(http.StatusOK, &session{
			DID: "did:plc:abcdefghijklmnopqrstuvwx", Handle: "person-1.bench.example.com", Email: "person-1@example.com", Active: true,
		})
	}
	e.GET("/", answer)
	e.POST("/", func(c echo.Context) error {
		var in struct{ Identifier, Password string }
		if err := c.Bind(&in); err != nil {
			return err
		}
		return answer(c)
	})
	return e
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
	echoURL, bareEcho, err := startChild(ctx, "echo", "/")
	if err != nil {
		return err
	}
	defer bareEcho.Kill()
	env := []string{
		"PDS_HOSTNAME=bench.example.com", "PORTICO_BIND=127.0.0.1", "PORTICO_LOG_LEVEL=warn", "PDS_INVITE_REQUIRED=false",
		"PDS_DID_PLC_URL=" + directoryURL, "PDS_JWT_SECRET=" + secret, "PDS_ADMIN_PASSWORD=" + adminPassword,
		"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=5c1d9a4e0b7f38261a9d4c7e2f60b58313e8a7c6d5f4b3a2918070605f4e3d2c",
		"PORTICO_KEY_ENCRYPTION_KEY=" + keyEncryptionKey,
	}
	if *sizes != "" {
		return ofSizes(ctx, binary, dir, env)
	}
	if *hostileTime > 0 {
		return runHostile(ctx, binary, dir, env, *hostileTime, *connections)
	}
	others, err := startPassing(ctx)
	if err != nil {
		return err
	}
	defer others.kill()
	env = append(env, others.env()...)
	floor, err := newFloor(ctx, dir+"/floor")
	if err != nil {
		return err
	}
	defer floor.close()
	c := newClient("", echoURL)
	get := &target{name: "GET", process: bareEcho, requests: scaled(20000), do: c.bareGet}
	post := &target{name: "POST", process: bareEcho, requests: scaled(20000), do: c.barePost}
	verify := &target{name: "HS256 verification", requests: scaled(50000), do: floor.verify}
	read := &target{name: "read by primary key", requests: scaled(20000), do: floor.read}
	hash := &target{name: "password hash", requests: scaled(300), do: floor.hash}
	sign := &target{name: "service token", requests: scaled(10000), do: floor.sign}
	through := &target{name: "reverse proxy, 20 kB", process: others.proxy, workers: passingClients, requests: scaled(20000), do: others.through}
	all := []*target{get, post, verify, read, hash, sign, through}

	ours, err := startSubject(ctx, binary, dir+"/ours", env, get, post)
	if err != nil {
		return err
	}
	defer ours.kill()
	ours.startPassing(others, through)
	if err := ours.startRepos(ctx, get, post); err != nil {
		return err
	}
	if err := ours.startLists(ctx, binary, dir+"/ours", env); err != nil {
		return err
	}
	former := new(subject)
	if *peer != "" {
		if former, err = startSubject(ctx, *peer, dir+"/peer", env, get, post); err != nil {
			return fmt.Errorf("peer: %w", err)
		}
		defer former.kill()
		former.startPassing(others, through)
		if err := former.startRepos(ctx, get, post); err != nil {
			fmt.Fprintln(os.Stderr, "bench: the peer is not asked for repositories:", err)
		}
		if former.reference {
			err = errors.New("it is not a portico")
		} else {
			err = former.startLists(ctx, *peer, dir+"/peer", env)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench: the peer is not asked for lists:", err)
		}
	}
	measured := []*subject{ours, former}
	for _, s := range measured {
		if *only != "" {
			s.pages = nil
			if s.methods, err = matching(s.methods, *only); err != nil {
				return err
			}
		}
		all = slices.Concat(all, s.methods, s.pages)
	}
	for _, t := range all { // to warm up
		if _, err := t.run(max(1, t.requests / *rounds / 10)); err != nil {
			return err
		}
	}
	for round := range *rounds {
		for _, t := range all {
			cpu, err := t.run(t.requests / *rounds)
			if err != nil {
				return fmt.Errorf("%s in round %d: %w", t.name, round+1, err)
			}
			t.cpu += cpu
		}
	}

	fmt.Printf("Processor time (user and system) per request, %d connections, SQLite with synchronous=FULL.\n"+
		"The server runs without development mode and logs warnings only.\n\n", *workers)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "method\trequests\tserver\tbare echo\tratio\t%s\n", heading(former.methods))
	for i, t := range ours.methods {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%.1f\t%s\n",
			t.name, t.requests, show(t.each()), show(t.bare.each()), ratio(t.each(), t.bare.each()), beside(t, former.methods, i))
	}
	w.Flush()
	fmt.Println()
	for _, t := range []*target{verify, read, hash, sign, through} {
		fmt.Fprintf(w, "%s\t%s\t\n", t.name, show(t.each()))
	}
	w.Flush()
	fmt.Println()
	if *only != "" {
		return errors.Join(ours.stop(), former.stop())
	}
	aim(ours.method("getSession"), 2*(get.each()+verify.each()+read.each()), "twice the sum of bare echo, verification and read")
	aim(ours.method(passedOn), 2*through.each()+sign.each(), "twice a reverse proxy's and a service token")
	aim(ours.method("createAccount"), hash.each()+hash.each()/10, "a password hash and a tenth")

	fmt.Printf("\nThe same per page of a list, on a server with %d accounts, %d invite codes and %d uses of them.\n\n",
		seeded, 2*seeded, seeded-1)
	fmt.Fprintf(w, "list\trequests\tserver\t%s\n", heading(former.pages))
	for i, t := range ours.pages {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", t.name, t.requests, show(t.each()), beside(t, former.pages, i))
	}
	w.Flush()
	fmt.Println()
	dearest := slices.MaxFunc(ours.pages, func(a, b *target) int { return cmp.Compare(a.each(), b.each()) })
	aim(dearest, mostForLists, "as for every list; this one costs the most")
	return errors.Join(ours.stop(), former.stop())
}

// scaled is how many requests there are where so many are meant.
func scaled(requests int) int {
	return max(*rounds, int(float64(requests)**scale)) / *rounds * *rounds
}

// ofSizes measures servers of the sizes that -seed names, or makes the database of one.
func ofSizes(ctx context.Context, binary, dir string, env []string) error {
	all, err := sizesOf(*sizes)
	if err != nil {
		return err
	}
	if *into == "" {
		return runSizes(ctx, binary, dir, env, all)
	}
	if len(all) != 1 {
		return errors.New("-into takes one size")
	}
	server, seeding, _, err := seededServer(ctx, binary, *into, env, all[0])
	if err != nil {
		return err
	}
	fmt.Printf("%v in %s after %.1f s; serve it with\n", all[0], *into, seeding.Seconds())
	for _, v := range env {
		fmt.Println("  " + v)
	}
	return server.Stop()
}

// matching are the targets whose names match a regular expression.
func matching(all []*target, pattern string) ([]*target, error) {
	r, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(t *target) bool { return !r.MatchString(t.name) }), nil
}

func aim(t *target, most time.Duration, what string) {
	verdict := "within it"
	if t.each() > most {
		verdict = fmt.Sprintf("%.0f %% above it", 100*(ratio(t.each(), most)-1))
	}
	fmt.Printf("aim of %s: at most %s (%s); it is %s, %s\n", t.name, show(most), what, show(t.each()), verdict)
}

// show is d in a unit that keeps it short.
func show(d time.Duration) string {
	if d >= time.Millisecond {
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.1f µs", float64(d)/float64(time.Microsecond))
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(cmp.Or(b, 1)) }
