package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptrace"
	"time"

	"portico/impl/reference/adopt"
)

// healthTimeout is how long a server may take to say that it runs.
const healthTimeout = 5 * time.Second

// healthClient asks servers whether they run. Nothing secret is sent, so that a certificate
// which has expired, or which this machine cannot check, hides no server. The proxy of the
// environment is used, without which another machine may be out of reach.
var healthClient = &http.Client{
	Timeout:       healthTimeout,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		TLSClientConfig:        &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: 32 << 10,
	},
}

// signOfLife says what an account server does at a URL, "" when there is none. A proxy in
// front of one that is stopped does not answer as one, and one that has lost its database
// does. On this machine, who takes a connection and says nothing may be one that is paused.
func signOfLife(ctx context.Context, client *http.Client, at string) string {
	connected := false
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }}
	request, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), http.MethodGet, at+"/xrpc/_health", nil)
	if err != nil {
		return ""
	}
	response, err := client.Do(request)
	if err == nil {
		defer response.Body.Close()
		var health struct {
			Version string `json:"version"`
		}
		if err = json.NewDecoder(io.LimitReader(response.Body, 4096)).Decode(&health); err == nil && health.Version != "" {
			return "answers"
		}
	}
	if slow, ok := errors.AsType[net.Error](err); ok && slow.Timeout() && connected && isLoopback(request.URL.Hostname()) {
		return "takes connections and does not answer"
	}
	return ""
}

// checkAdopted returns an error when the data directory is of an adoption that is not done,
// or the server that it was adopted from still answers, or has run since: what was written
// there would be lost. It is asked at the first start only: later it is this server that
// answers there.
func checkAdopted(ctx context.Context, s *settings) error {
	mark, _, err := adopt.ReadMark(s.DataDirectory)
	if errors.Is(err, fs.ErrNotExist) || s.DatabaseURL != "" {
		return nil
	}
	if err != nil {
		return err
	}
	if !exists(s.databaseFile()) {
		return unfit(fmt.Errorf("the adoption of %s into %s is not finished: run \"portico adopt %s --into %s\" again, it goes on",
			mark.Source, s.DataDirectory, mark.Source, s.DataDirectory))
	}
	for _, url := range mark.Old {
		if does := signOfLife(ctx, healthClient, url); does != "" {
			return fmt.Errorf("the server that this one was adopted from still %s at %s: two servers must not be one. Stop it, and see to it that "+
				"nothing starts it again. If what answers is another one, remove %s/adopted, and start again", does, url, s.DataDirectory)
		}
	}
	if mark.Changed() {
		return unfit(fmt.Errorf("%s was written to since it was adopted: what happened there since would be lost. Adopt it again, into a new folder. "+
			"If nothing did, remove %s/adopted, and start again", mark.Source, s.DataDirectory))
	}
	return nil
}
