package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"
)

// client drives a server. Every worker has accounts of its own, which it takes in turns:
// many sessions of one account would not be what a server sees.
type client struct {
	http     *http.Client
	server   string
	accounts []accounts // of each worker
	made     atomic.Int64
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

func newClient(server string, workers int) *client {
	transport := &http.Transport{MaxIdleConnsPerHost: workers, DisableCompression: true}
	return &client{http: &http.Client{Transport: transport, Timeout: time.Minute}, server: server, accounts: make([]accounts, workers)}
}

// divided is a client of other workers with the accounts of c.
func (c *client) divided(workers int) *client {
	d := newClient(c.server, workers)
	n := 0
	for _, of := range c.accounts {
		for _, a := range of.list {
			list := &d.accounts[n%workers].list
			*list = append(*list, a)
			n++
		}
	}
	return d
}

// signUp makes n accounts.
func (c *client) signUp(n int) error { return share(n, c.createAccount) }

// turn is the next account of a worker.
func (c *client) turn(worker int) *account {
	a := &c.accounts[worker]
	a.next++
	return a.list[a.next%len(a.list)]
}

// call asks for what is answered with 200, with a token unless that is empty.
func (c *client) call(verb, url, token string, in, out any) error {
	header := make(http.Header)
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	return c.expect(http.StatusOK, verb, url, header, in, out)
}

// expect is call for an answer with any status.
func (c *client) expect(status int, verb, url string, header http.Header, in, out any) error {
	_, err := c.exchange(status, verb, url, header, in, out)
	return err
}

// exchange is expect, and returns the header of the answer, whatever its status is.
func (c *client) exchange(status int, verb, url string, header http.Header, in, out any) (http.Header, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequest(verb, url, body)
	if err != nil {
		return nil, err
	}
	req.Header = header
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.Header, err
	}
	if resp.StatusCode != status {
		return resp.Header, fmt.Errorf("%s %s answers %d %s", verb, url, resp.StatusCode, answer)
	}
	if out == nil {
		return resp.Header, nil
	}
	return resp.Header, json.Unmarshal(answer, out)
}

func (c *client) method(name string) string { return c.server + "/xrpc/com.atproto.server." + name }

type login struct {
	Identifier string `json:"identifier"`
	Password   string `json:"password"`
}

func (c *client) describeServer(int) error {
	return c.call(http.MethodGet, c.method("describeServer"), "", nil, nil)
}

func (c *client) health(int) error {
	return c.call(http.MethodGet, c.server+"/xrpc/_health", "", nil, nil)
}

// unknownMethod is one that might be passed on, if somebody had signed in.
func (c *client) unknownMethod(int) error {
	return c.expect(http.StatusUnauthorized, http.MethodGet, c.server+"/xrpc/com.example.unknown", http.Header{}, nil, nil)
}

// badToken presents a token whose signature is wrong.
func (c *client) badToken(worker int) error {
	token := c.turn(worker).Access
	header := http.Header{"Authorization": {"Bearer " + token[:len(token)-4] + "AAAA"}}
	return c.expect(http.StatusBadRequest, http.MethodGet, c.method("getSession"), header, nil, nil)
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

// appPasswordsEach is how many each account has for listAppPasswords.
const appPasswordsEach = 3

func (c *client) createAppPasswords(a *account) error {
	for n := range appPasswordsEach {
		in := map[string]string{"name": fmt.Sprint("app ", n)}
		if err := c.call(http.MethodPost, c.method("createAppPassword"), a.Access, in, nil); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) createInviteCode(worker int) error {
	in := struct {
		Uses  int    `json:"useCount"`
		Owner string `json:"forAccount"`
	}{1, c.turn(worker).DID}
	header := http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+adminPassword))}}
	return c.expect(http.StatusOK, http.MethodPost, c.method("createInviteCode"), header, in, nil)
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

// wrongPassword comes from another place each time: whoever guesses often is refused
// before anything is hashed.
func (c *client) wrongPassword(worker int) error {
	from := fmt.Sprintf("2001:db8:%x:%x::1", rand.IntN(1<<16), rand.IntN(1<<16))
	return c.expect(http.StatusUnauthorized, http.MethodPost, c.method("createSession"), http.Header{"X-Forwarded-For": {from}},
		login{c.turn(worker).Handle, "wrong " + password}, nil)
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
