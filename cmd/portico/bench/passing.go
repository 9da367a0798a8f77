package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"time"

	"portico/cmd/portico/launch"
)

const (
	// passingClients are the connections that ask for what is passed on.
	passingClients = 64
	appViewDID     = "did:web:appview.bench.example.com"
	passedOn       = "passed on, 20 kB, 64 connections"
	passed         = "/xrpc/app.bsky.feed.getFeedGenerators?feeds=at://did:plc:abcdefghijklmnopqrstuvwx/app.bsky.feed.generator/all"
)

// appView answers everything with 20 kB of JSON at once.
func appView() http.Handler {
	answer := []byte(`{"text":"` + strings.Repeat("a", 20_000) + `"}`)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", fmt.Sprint(len(answer)))
		w.Write(answer)
	})
}

// silentAppView takes requests and does not answer.
func silentAppView() http.Handler {
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			<-r.Context().Done()
		}
	})
}

// reverseProxy is the standard library's, with as many connections kept as it uses.
func reverseProxy() (http.Handler, error) {
	to, err := url.Parse(os.Getenv(asUpstream))
	if err != nil {
		return nil, err
	}
	return &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport: &http.Transport{MaxIdleConnsPerHost: 2 * passingClients, DisableCompression: true},
	}, nil
}

// passing is what requests are passed on to, and the reverse proxy that they are compared with.
type passing struct {
	appViewURL, proxyURL string
	appView, proxy       *launch.Process
	http                 *http.Client
}

func startPassing(ctx context.Context) (p *passing, err error) {
	p = &passing{http: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: passingClients, DisableCompression: true}, Timeout: time.Minute,
	}}
	if p.appViewURL, p.appView, err = startChild(ctx, "app view", "/"); err != nil {
		return nil, err
	}
	if p.proxyURL, p.proxy, err = startChild(ctx, "reverse proxy", "/", asUpstream+"="+p.appViewURL); err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

func (p *passing) kill() {
	for _, child := range []*launch.Process{p.appView, p.proxy} {
		if child != nil {
			child.Kill()
		}
	}
}

// env are the settings of a server whose app view is this.
func (p *passing) env() []string {
	return []string{"PDS_BSKY_APP_VIEW_URL=" + p.appViewURL, "PDS_BSKY_APP_VIEW_DID=" + appViewDID, "PDS_DISABLE_SSRF_PROTECTION=true"}
}

// through asks for the answer through the reverse proxy.
func (p *passing) through(int) error { return p.ask(p.proxyURL, "") }

// by asks a server for it, in the name of the accounts of c in turns.
func (p *passing) by(server string, c *client) func(worker int) error {
	var tokens []string
	for _, a := range c.accounts {
		for _, account := range a.list {
			tokens = append(tokens, account.Access)
		}
	}
	turns := make([]int, passingClients)
	return func(worker int) error {
		turns[worker]++
		return p.ask(server, tokens[(turns[worker]*passingClients+worker)%len(tokens)])
	}
}

func (p *passing) ask(origin, token string) error {
	r, err := http.NewRequest(http.MethodGet, origin+passed, nil)
	if err != nil {
		return err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := p.http.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	n, err := io.Copy(io.Discard, answer.Body)
	if err == nil && (answer.StatusCode != http.StatusOK || n < 20_000) {
		err = fmt.Errorf("%s answers %d with %d bytes", origin, answer.StatusCode, n)
	}
	return err
}
