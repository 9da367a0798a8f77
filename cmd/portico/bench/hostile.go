package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/andybalholm/brotli"

	"portico/cmd/portico/launch"
)

// How much is done before the connections are opened, where that is what makes them
// hostile. A server that sets a limit to it stops sooner.
const (
	appPasswords = 2000
	refreshes    = 3000
)

// hostile is one kind of load: what each connection does until the time is over.
type hostile struct {
	name    string
	prepare func(l *load) error // nil for nothing
	run     func(ctx context.Context, l *load, connection int) error
}

var kinds = []hostile{
	{"nobody else", nil, func(ctx context.Context, _ *load, _ int) error { <-ctx.Done(); return nil }},
	{"brotli, windows of 16 MiB", nil, func(ctx context.Context, l *load, i int) error {
		return l.post(ctx, "createSession", one(i), bomb(), "Content-Encoding: br")
	}},
	{"bodies of brotli, half sent", nil, func(ctx context.Context, l *load, i int) error {
		return l.hold(ctx, "POST /xrpc/com.atproto.server.createSession HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+
			"Content-Encoding: br\r\nContent-Length: 1000\r\nX-Forwarded-For: "+one(i)+"\r\n\r\n"+string(bomb()))
	}},
	{"wrong passwords, one address", nil, func(ctx context.Context, l *load, i int) error {
		return l.post(ctx, "createSession", one(i), madeUp())
	}},
	{"wrong passwords, a /48", nil, func(ctx context.Context, l *load, i int) error {
		return l.post(ctx, "createSession", fmt.Sprintf("2001:db8:0:%x::1", i), madeUp())
	}},
	{"wrong app passwords, one account", (*load).makeAppPasswords, func(ctx context.Context, l *load, i int) error {
		return l.post(ctx, "createSession", other(i), credentials(mallory, "aaaa-bbbb-cccc-"+strconv.Itoa(2222+mathrand.IntN(5))))
	}},
	{"refreshes, and a long session's end", (*load).refreshOften, func(ctx context.Context, l *load, i int) error {
		if i == 0 {
			return l.signOutHalfway(ctx)
		}
		return l.refresh(ctx, i)
	}},
	{"DIDs at a private address", nil, func(ctx context.Context, l *load, i int) error {
		_, _, err := l.send(ctx, http.MethodGet, "com.atproto.identity.resolveDid?did=did:web:10.0.0.1", other(i), nil)
		return err // the server does not ask there
	}},
	{silence, (*load).signUpMany, func(ctx context.Context, l *load, i int) error {
		_, _, err := l.send(ctx, http.MethodGet, "app.bsky.graph.getLists", other(i), nil, "Authorization: Bearer "+l.tokens[i])
		return err
	}},
	{"answers that nobody reads", nil, func(ctx context.Context, l *load, i int) error {
		return l.hold(ctx, strings.Repeat("GET /openapi.json HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: "+other(i)+"\r\n\r\n", 300))
	}},
}

// silence is the kind whose server has an app view that does not answer.
const silence = "what an app view does not answer"

const (
	alice, mallory = "alice.bench.example.com", "mallory.bench.example.com"
	aliceFrom      = "198.51.100.7"
)

func one(int) string     { return "192.0.2.1" }
func other(i int) string { return fmt.Sprintf("203.0.113.%d", 1+i%250) }

func madeUp() []byte {
	return credentials(fmt.Sprintf("nobody-%d.bench.example.com", mathrand.Int64()), "wrong")
}

func credentials(identifier, password string) []byte {
	b, _ := json.Marshal(login{identifier, password}) // two texts
	return b
}

// bomb makes its reader take as much memory as some bytes can.
var bomb = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	w := brotli.NewWriterOptions(&b, brotli.WriterOptions{Quality: 5, LGWin: 24})
	io.WriteString(w, strings.Repeat(" ", 40<<20)) // to memory
	w.Close()
	return b.Bytes()
})

// load is a server under one kind of it.
type load struct {
	*launch.Server
	http    *http.Client
	tokens  []string // of each connection one
	over    time.Duration
	asked   atomic.Int64
	refused atomic.Int64 // with 429 or 503
}

// runHostile measures what one user sees who signs in every second beside -connections of
// each kind for -hostile, on a server of its own each.
func runHostile(ctx context.Context, binary, dir string, env []string, pattern *regexp.Regexp) error {
	d, connections := *hostileTime, *connections
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%d connections for %v\tuser's median\tuser's p99\tuser refused\tmemory\trequests\trefused\tERROR lines\t\n", connections, d)
	silent, appView, err := startChild(ctx, "silent app view", "/")
	if err != nil {
		return err
	}
	defer appView.Kill()
	for n, kind := range kinds {
		if !pattern.MatchString(kind.name) {
			continue
		}
		env := slices.Clone(env)
		if kind.name == silence {
			env = append(env, (&passing{appViewURL: silent}).env()...)
		}
		server, err := launch.StartServer(ctx, binary, fmt.Sprintf("%s/hostile-%d", dir, n), append(env, "PORTICO_TRUSTED_PROXIES=1")...)
		if err != nil {
			return err
		}
		l := &load{Server: server, over: d, tokens: make([]string, connections), http: &http.Client{
			Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: connections + 1, DisableCompression: true},
		}}
		line, err := l.measure(ctx, kind, connections)
		server.Kill()
		if err != nil {
			return fmt.Errorf("%s: %w", kind.name, err)
		}
		fmt.Fprintf(w, "%s\t%s\t\n", kind.name, line)
	}
	return w.Flush()
}

func (l *load) measure(ctx context.Context, kind hostile, connections int) (string, error) {
	for _, handle := range []string{alice, mallory} {
		in := map[string]string{"handle": handle, "email": handle + "@example.com", "password": password}
		if status, _, err := l.call(ctx, "createAccount", aliceFrom, in); err != nil || status != http.StatusOK {
			return "", fmt.Errorf("sign up: %d, %w", status, err)
		}
	}
	if kind.prepare != nil {
		if err := kind.prepare(l); err != nil {
			return "", err
		}
	}
	bomb()
	l.asked.Store(0)
	ctx, stop := context.WithTimeout(ctx, l.over)
	defer stop()
	var all, user sync.WaitGroup
	failed := make([]error, connections)
	for i := range connections {
		all.Go(func() {
			for ctx.Err() == nil && failed[i] == nil {
				if err := kind.run(ctx, l, i); ctx.Err() == nil {
					failed[i] = err
				}
			}
		})
	}
	var mu sync.Mutex
	var took []time.Duration
	refused := 0
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for range l.over / time.Second {
		<-tick.C
		user.Go(func() {
			began := time.Now()
			status, _, err := l.call(context.WithoutCancel(ctx), "createSession", aliceFrom, login{alice, password})
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(began))
			if err != nil || status != http.StatusOK {
				refused++
			}
		})
	}
	user.Wait()
	all.Wait()
	memory, err := l.PeakMemory()
	if err != nil {
		return "", err
	}
	for i, err := range failed {
		if err != nil {
			return "", fmt.Errorf("connection %d: %w", i, err)
		}
	}
	slices.Sort(took)
	return fmt.Sprintf("%s\t%s\t%d of %d\t%d MB\t%d\t%d\t%d", show(float64(took[len(took)/2])), show(float64(took[(99*len(took)+99)/100-1])), refused, len(took),
		memory>>20, l.asked.Load(), l.refused.Load(), strings.Count(strings.ReplaceAll(l.Log(), `"level":"ERROR"`, "level=ERROR"), "level=ERROR")), nil
}

// call posts in to a method of com.atproto.server.
func (l *load) call(ctx context.Context, method, from string, in any, header ...string) (int, []byte, error) {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return 0, nil, err
		}
	}
	return l.send(ctx, http.MethodPost, "com.atproto.server."+method, from, body, header...)
}

func (l *load) send(ctx context.Context, verb, method, from string, body []byte, header ...string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, verb, l.URL+"/xrpc/"+method, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("X-Forwarded-For", from)
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := l.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	l.asked.Add(1)
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable {
		l.refused.Add(1)
	}
	return resp.StatusCode, answer, err
}

// post is one request of a hostile connection, whatever comes of it.
func (l *load) post(ctx context.Context, method, from string, body []byte, header ...string) error {
	_, _, err := l.send(ctx, http.MethodPost, "com.atproto.server."+method, from, body, header...)
	return err
}

// hold sends what there is on a connection of its own, and keeps that while it can.
func (l *load) hold(ctx context.Context, request string) error {
	address := strings.TrimPrefix(l.URL, "http://")
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	l.asked.Add(1)
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	io.WriteString(conn, request) // as much as is taken
	<-ctx.Done()
	return nil
}

func (l *load) signIn(ctx context.Context, handle, from string) (*account, error) {
	status, answer, err := l.call(ctx, "createSession", from, login{handle, password})
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("sign in: %d %s", status, answer)
	}
	a := new(account)
	return a, json.Unmarshal(answer, a)
}

func (l *load) makeAppPasswords() error {
	ctx := context.Background()
	a, err := l.signIn(ctx, mallory, other(0))
	if err != nil {
		return err
	}
	for n := range appPasswords {
		in := map[string]string{"name": fmt.Sprint("app ", n)}
		if status, _, err := l.call(ctx, "createAppPassword", other(0), in, "Authorization: Bearer "+a.Access); err != nil || status != http.StatusOK {
			return err // those are all that it may have
		}
	}
	return nil
}

// signUpMany makes accounts enough for each connection to have something passed on.
func (l *load) signUpMany() error {
	a := new(account)
	for i := range l.tokens {
		if i%50 == 0 {
			handle := fmt.Sprintf("person-%d.bench.example.com", i)
			in := map[string]string{"handle": handle, "email": handle + "@example.com", "password": password}
			status, answer, err := l.call(context.Background(), "createAccount", other(i/50), in)
			if err != nil || status != http.StatusOK {
				return fmt.Errorf("sign up: %d %s, %w", status, answer, err)
			}
			if err := json.Unmarshal(answer, a); err != nil {
				return err
			}
		}
		l.tokens[i] = a.Access
	}
	return nil
}

func (l *load) refreshOften() error {
	ctx := context.Background()
	for i := range l.tokens {
		a, err := l.signIn(ctx, mallory, other(i))
		if err != nil {
			return err
		}
		l.tokens[i] = a.Refresh
	}
	for range refreshes {
		if err := l.refresh(ctx, 0); err != nil {
			return err
		}
	}
	return nil
}

func (l *load) refresh(ctx context.Context, i int) error {
	status, answer, err := l.call(ctx, "refreshSession", other(i), nil, "Authorization: Bearer "+l.tokens[i])
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("refresh: %d %s", status, answer)
	}
	var a account
	err = json.Unmarshal(answer, &a)
	l.tokens[i] = a.Refresh
	return err
}

// signOutHalfway ends the long session once, in the middle of the time.
func (l *load) signOutHalfway(ctx context.Context) error {
	select {
	case <-time.After(l.over / 2):
	case <-ctx.Done():
		return nil
	}
	err := l.post(ctx, "deleteSession", other(0), nil, "Authorization: Bearer "+l.tokens[0])
	<-ctx.Done()
	return err
}
