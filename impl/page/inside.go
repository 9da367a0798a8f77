package page

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// Inside returns a client whose requests h answers, in this process, whatever their host. They
// come from where the request of the [Visit] comes from that their context belongs to, through
// the same proxies, so that budgets are paid and logs written as if the browser had called
// itself. A context of no visit is an error. Of the browser's own header h sees what it calls
// itself, and neither its cookies nor its credentials.
//
// It is safe for concurrent use, and so is the client.
func Inside(h http.Handler) *http.Client {
	return &http.Client{
		Transport:     inside{h},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type inside struct{ handler http.Handler }

// A caller is on whose behalf requests are made.
type caller struct {
	peer      string // address and port of the connection
	forwarded []string
	agent     string
}

type callerKey struct{}

// callingFor lets the requests of ctx come from where r does. That of a direct site is its
// connection's address, whatever its header says.
func callingFor(ctx context.Context, r *http.Request, direct bool) context.Context {
	c := &caller{peer: r.RemoteAddr, agent: r.UserAgent()}
	if !direct {
		c.forwarded = r.Header["X-Forwarded-For"]
	}
	return context.WithValue(ctx, callerKey{}, c)
}

var errNoVisit = errors.New("a call inside of the server that belongs to no visit of a page")

func (t inside) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	from, ok := r.Context().Value(callerKey{}).(*caller)
	if !ok {
		_ = r.Body.Close()
		return nil, errNoVisit
	}
	q := r.Clone(r.Context())
	q.RequestURI, q.RemoteAddr, q.Host = r.URL.RequestURI(), from.peer, r.URL.Host
	q.Header.Del("X-Forwarded-For")
	if from.forwarded != nil {
		q.Header["X-Forwarded-For"] = from.forwarded
	}
	if from.agent != "" {
		q.Header.Set("User-Agent", from.agent)
	}
	body, w := io.Pipe()
	a := &answer{header: http.Header{}, body: w, begun: make(chan struct{})}
	go a.from(t.handler, q)
	select {
	case <-a.begun:
	case <-r.Context().Done():
		_ = body.CloseWithError(r.Context().Err()) // what is written from now on nobody reads
		return nil, r.Context().Err()
	}
	if a.failed != nil {
		return nil, a.failed
	}
	size := int64(-1)
	if n, err := strconv.ParseInt(a.sent.Get("Content-Length"), 10, 64); err == nil {
		size = n
	}
	return &http.Response{
		Status: strconv.Itoa(a.status) + " " + http.StatusText(a.status), StatusCode: a.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.sent, Body: body, ContentLength: size, Request: r,
	}, nil
}

// An answer is what a handler writes to, and its client reads.
type answer struct {
	header http.Header
	body   *io.PipeWriter

	once   sync.Once
	begun  chan struct{} // closed when the rest is set
	sent   http.Header
	status int
	failed error
}

var errAborted = errors.New("the answer was broken off")

func (a *answer) from(h http.Handler, r *http.Request) {
	err := errAborted
	defer func() {
		reason := recover()
		if reason != nil && reason != http.ErrAbortHandler {
			panic(reason)
		}
		a.once.Do(func() { a.failed = err; close(a.begun) })
		_ = a.body.CloseWithError(err) // which nil makes the end
		_ = r.Body.Close()
	}()
	h.ServeHTTP(a, r)
	a.WriteHeader(http.StatusOK)
	err = nil
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if status < 200 {
		return
	}
	a.once.Do(func() {
		a.status, a.sent = status, a.header.Clone()
		close(a.begun)
	})
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

// Flush does nothing: what is written is read at once.
func (a *answer) Flush() {}
