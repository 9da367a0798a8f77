package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"portico/cmd/portico/launch"
)

// A target is one kind of work and the processor time that it has taken.
type target struct {
	name     string
	bare     *target         // what it is compared with
	process  *launch.Process // that works; nil: this one
	workers  int             // 0: as many as the flag says
	requests int
	do       func(worker int) error
	cpu      time.Duration
	beside   func() (stop func(), err error) // what goes on meanwhile; may be nil
}

func (t *target) each() time.Duration { return t.cpu / time.Duration(t.requests) }

// run does n requests and returns the processor time that they took.
func (t *target) run(n int) (time.Duration, error) {
	if t.beside != nil {
		stop, err := t.beside()
		if err != nil {
			return 0, fmt.Errorf("%s: %w", t.name, err)
		}
		defer stop()
	}
	before, err := t.time()
	if err != nil {
		return 0, err
	}
	if err := spread(n, cmp.Or(t.workers, *workers), t.do); err != nil {
		return 0, fmt.Errorf("%s: %w", t.name, err)
	}
	after, err := t.time()
	return after - before, err
}

func (t *target) time() (time.Duration, error) {
	if t.process != nil {
		return t.process.CPU()
	}
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}

// share calls do n times, spread over the workers, until one fails.
func share(n int, do func(worker int) error) error { return spread(n, *workers, do) }

func spread(n, workers int, do func(worker int) error) error {
	errs := make([]error, workers)
	var left atomic.Int64
	left.Store(int64(n))
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			for left.Add(-1) >= 0 && errs[i] == nil {
				errs[i] = do(i)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// client drives the server and the bare handler. Every worker has accounts of its
// own, which it takes in turns: many sessions of one account would not be what a
// server sees.
type client struct {
	http         *http.Client
	server, echo string
	accounts     []accounts // of each worker
	made         atomic.Int64
}

type accounts struct {
	list []*account
	next int
}

type account struct {
	DID     string `json:"did"`
	Handle  string `json:"handle"`
	Access  string `json:"accessJwt"`
	Refresh string `json:"refreshJwt"`

	keys []string // of posts that it made
	cid  string   // of the last one
	blob string   // that a record of it names
}

const password = "correct horse battery"

func newClient(server, echo string) *client {
	transport := &http.Transport{MaxIdleConnsPerHost: *workers, DisableCompression: true}
	return &client{
		http: &http.Client{Transport: transport, Timeout: time.Minute}, server: server, echo: echo,
		accounts: make([]accounts, *workers),
	}
}

// signUp makes n accounts.
func (c *client) signUp(n int) error { return share(n, c.createAccount) }

// turn is the next account of a worker.
func (c *client) turn(worker int) *account {
	a := &c.accounts[worker]
	a.next++
	return a.list[a.next%len(a.list)]
}

func (c *client) call(verb, url, token string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequest(verb, url, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s answers %d %s", verb, url, resp.StatusCode, answer)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

func (c *client) method(name string) string { return c.server + "/xrpc/com.atproto.server." + name }

type login struct {
	Identifier string `json:"identifier"`
	Password   string `json:"password"`
}

func (c *client) bareGet(int) error { return c.call(http.MethodGet, c.echo+"/", "", nil, nil) }

func (c *client) barePost(int) error {
	return c.call(http.MethodPost, c.echo+"/", "", login{"person-1.bench.example.com", password}, nil)
}

func (c *client) describeServer(int) error {
	return c.call(http.MethodGet, c.method("describeServer"), "", nil, nil)
}

func (c *client) getSession(worker int) error {
	return c.call(http.MethodGet, c.method("getSession"), c.turn(worker).Access, nil, nil)
}

func (c *client) getServiceAuth(worker int) error {
	query := "?aud=did:web:bench.example.com&lxm=com.atproto.server.createAccount"
	return c.call(http.MethodGet, c.method("getServiceAuth")+query, c.turn(worker).Access, nil, nil)
}

func (c *client) listAppPasswords(worker int) error {
	return c.call(http.MethodGet, c.method("listAppPasswords"), c.turn(worker).Access, nil, nil)
}

func (c *client) checkAccountStatus(worker int) error {
	return c.call(http.MethodGet, c.method("checkAccountStatus"), c.turn(worker).Access, nil, nil)
}

func (c *client) resolveHandle(worker int) error {
	url := c.server + "/xrpc/com.atproto.identity.resolveHandle?handle=" + c.turn(worker).Handle
	return c.call(http.MethodGet, url, "", nil, nil)
}

func (c *client) refreshSession(worker int) error {
	a := c.turn(worker)
	return c.call(http.MethodPost, c.method("refreshSession"), a.Refresh, nil, a)
}

func (c *client) createSession(worker int) error {
	a := c.turn(worker)
	return c.call(http.MethodPost, c.method("createSession"), "", login{a.Handle, password}, a)
}

func (c *client) createAccount(worker int) error {
	n := c.made.Add(1)
	in := struct {
		Handle   string `json:"handle"`
		Email    string `json:"email"`
		Password string `json:"password"`
	}{fmt.Sprintf("person-%d.bench.example.com", n), fmt.Sprintf("person-%d@example.com", n), password}
	made := new(account)
	if err := c.call(http.MethodPost, c.method("createAccount"), "", in, made); err != nil {
		return err
	}
	a := &c.accounts[worker]
	a.list = append(a.list, made)
	return nil
}
