package plc

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// DefaultURL is the public directory.
const DefaultURL = "https://plc.directory"

const (
	maxAnswer = 1 << 20  // of one operation or document, which are a few kB
	maxLog    = 16 << 20 // of a whole log
)

var (
	// ErrNotFound is what an *Error is when the directory has no such DID or no
	// document for it any more.
	ErrNotFound = errors.New("DID not found in the directory")
	// ErrUnknown says that it could not be found out whether the directory accepted
	// an operation. It may have, or may yet.
	ErrUnknown = errors.New("outcome of PLC operation is unknown")
	// ErrUnreachable says that no connection to the directory came about, and so it
	// was never sent the operation.
	ErrUnreachable = errors.New("PLC directory is unreachable")
)

// An Error is a request to the directory that did not succeed.
type Error struct {
	// Status is the HTTP status, or 0 when there was no answer or none that could
	// be understood.
	Status int
	// Message is what the directory said, or empty.
	Message string
	// RetryAfter is how long the directory wants not to be asked, 0 if it did not say.
	RetryAfter time.Duration
	cause      error
}

func (e *Error) Error() string {
	switch {
	case e.Status == 0:
		return fmt.Sprintf("no answer from PLC directory: %v", e.cause)
	case e.Message == "":
		return fmt.Sprintf("PLC directory answered %d", e.Status)
	default:
		return fmt.Sprintf("PLC directory answered %d: %s", e.Status, e.Message)
	}
}

// Unwrap returns what kept an answer from coming, if anything did.
func (e *Error) Unwrap() error { return e.cause }

// Is makes a 404 and a 410, which directories use for the same things, ErrNotFound.
func (e *Error) Is(target error) bool {
	return target == ErrNotFound && (e.Status == http.StatusNotFound || e.Status == http.StatusGone)
}

// Unanswered reports whether the directory may not have been there, or had no time: what was
// asked of it was not turned down.
func (e *Error) Unanswered() bool {
	return e.Status == 0 || e.Status >= 500 || !conclusive(e.Status) && !e.TooMany() || e.Status == http.StatusNotFound && e.Message == ""
}

// TooMany reports whether the directory wants to be asked less.
func (e *Error) TooMany() bool { return e.Status == http.StatusTooManyRequests }

// A Refused is an operation that the directory has not accepted and, not having been
// sent again, will not accept.
type Refused struct {
	Status  int    // 400 to 499
	Message string // what the directory said, or empty
}

func (r *Refused) Error() string {
	return fmt.Sprintf("PLC directory refused the operation with %d: %s", r.Status, r.Message)
}

// Presence is what a directory holds of an operation.
type Presence int

const (
	// Absent: not there, or not yet.
	Absent Presence = iota
	// Untouched: there, and the last that counts.
	Untouched
	// Superseded: there, and others came after it or took its place.
	Superseded
	// Tombstoned: the DID has ended.
	Tombstoned
)

func (p Presence) String() string {
	switch p {
	case Absent:
		return "absent"
	case Untouched:
		return "untouched"
	case Superseded:
		return "superseded"
	case Tombstoned:
		return "tombstoned"
	default:
		return fmt.Sprintf("Presence(%d)", int(p))
	}
}

// A Client speaks to a PLC directory. Its fields are set before its first use; then
// it is safe for concurrent use. Every error that a request ends with is an *Error.
// Redirects are not followed.
//
// Ours because the module proxy has no client of the directory, and no module that tries
// again knows that after a lost answer the log has to be asked first.
type Client struct {
	// URL is the directory's base, without a path; DefaultURL if empty.
	URL string
	// HTTP is the client to use; that of [HTTP] if nil.
	HTTP *http.Client
	// Hold, unless nil, is asked before anything is changed at the directory. Its error says
	// why nothing may be now; the operation is not sent then.
	Hold func(ctx context.Context) error
	// Timeout is for one request with its answer. The default is 5 seconds.
	Timeout time.Duration
	// Deadline is for all of Register. The default is 20 seconds.
	Deadline time.Duration
	// Backoff is Register's first pause. Pauses double up to 16 times that. The
	// default is 200 milliseconds.
	Backoff time.Duration
	// Sleep pauses for d, or until ctx is done, and then returns its error. Nil
	// means a timer.
	Sleep func(ctx context.Context, d time.Duration) error
	// Observe is told of each request when it is over: whether it was to change something,
	// and the status of the answer, 0 without one. It may be nil.
	Observe func(ctx context.Context, r Request)
}

// A Request was made to a directory.
type Request struct {
	Write  bool // an operation was submitted
	Status int  // of the answer; 0: there was none, or it could not be read
	Began  time.Time
	Took   time.Duration
}

// HTTP returns the client that all share who ask a directory and bring none. It keeps as
// many connections to one as are used at a time: that of the standard library keeps two, and
// every other request begins with a handshake.
func HTTP() *http.Client { return pooled }

var pooled = &http.Client{Transport: func() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = t.MaxIdleConns
	t.MaxResponseHeaderBytes = 32 << 10
	return t
}()}

// Submit posts op once. When it returns nil the directory has accepted op. After an
// *Error it may have: a repeated genesis, for one, is answered 400.
func (c *Client) Submit(ctx context.Context, did syntax.DID, op Operation) error {
	if err := c.held(ctx); err != nil {
		return err
	}
	body, err := json.Marshal(op)
	if err != nil {
		return fmt.Errorf("encode PLC operation: %w", err)
	}
	_, err = c.do(ctx, http.MethodPost, "/"+url.PathEscape(did.String()), body, maxAnswer)
	return err
}

// held is an *Error and ErrUnreachable while nothing may be changed.
func (c *Client) held(ctx context.Context) error {
	if c.Hold == nil {
		return nil
	}
	if err := c.Hold(ctx); err != nil {
		return &Error{cause: fmt.Errorf("%w: %w", ErrUnreachable, err)}
	}
	return nil
}

// Document returns the DID document, unchecked but valid JSON.
func (c *Client) Document(ctx context.Context, did syntax.DID) (json.RawMessage, error) {
	var doc json.RawMessage
	err := c.get(ctx, did, "", maxAnswer, &doc)
	return doc, err
}

// Data returns the state of did after its last operation.
func (c *Client) Data(ctx context.Context, did syntax.DID) (Data, error) {
	var d Data
	err := c.get(ctx, did, "/data", maxAnswer, &d)
	return d, err
}

// Log returns the operations that count, the oldest first.
func (c *Client) Log(ctx context.Context, did syntax.DID) ([]Operation, error) {
	var ops []Operation
	err := c.get(ctx, did, "/log", maxLog, &ops)
	return ops, err
}

// A LogEntry is one operation of a DID as the directory keeps it.
type LogEntry struct {
	DID       syntax.DID `json:"did"`
	Operation Operation  `json:"operation"`
	CID       string     `json:"cid"`
	Nullified bool       `json:"nullified"`
	CreatedAt time.Time  `json:"createdAt"`
}

// Audit returns all operations, nullified ones too, the oldest first.
func (c *Client) Audit(ctx context.Context, did syntax.DID) ([]LogEntry, error) {
	var entries []LogEntry
	err := c.get(ctx, did, "/log/audit", maxLog, &entries)
	return entries, err
}

// Last returns the last operation that counts, which may be a tombstone.
func (c *Client) Last(ctx context.Context, did syntax.DID) (Operation, error) {
	var op Operation
	err := c.get(ctx, did, "/log/last", maxAnswer, &op)
	return op, err
}

// Registered says what the directory holds of op under did. Only a directory that
// says itself that it does not know the DID makes op absent: a 404 with no reason
// comes from something in between and is an error.
func (c *Client) Registered(ctx context.Context, did syntax.DID, op Operation) (Presence, error) {
	want, err := op.CID()
	if err != nil {
		return 0, err
	}
	// Of the other operations only the type matters; an odd one must not keep us
	// from finding ours.
	var entries []struct {
		Operation struct {
			Type string `json:"type"`
		} `json:"operation"`
		CID       string `json:"cid"`
		Nullified bool   `json:"nullified"`
	}
	err = c.get(ctx, did, "/log/audit", maxLog, &entries)
	var failed *Error
	if errors.As(err, &failed) && errors.Is(err, ErrNotFound) && failed.Message != "" {
		return Absent, nil
	}
	if err != nil {
		return 0, err
	}
	found, last := false, -1
	for i, e := range entries {
		found = found || e.CID == want.String()
		if !e.Nullified {
			last = i
		}
	}
	switch {
	case !found:
		return Absent, nil
	case last < 0:
		return Superseded, nil
	case entries[last].CID == want.String():
		return Untouched, nil
	case entries[last].Operation.Type == TypeTombstone:
		return Tombstoned, nil
	default:
		return Superseded, nil
	}
}

// Register submits op and finds out what became of it. It sets its own deadline and
// goes on when ctx is cancelled: an operation on its way cannot be taken back.
//
// It returns nil when the directory has accepted op, *Refused when the only attempt
// was answered with a 4xx and op is not in the log, ErrTombstoned when the DID has
// ended since, and ErrUnknown, with the last failure, when the deadline came first.
// Where not even a connection comes about it returns ErrUnreachable, with the last
// failure, after a quarter of the time: there is no outcome to find out, and someone
// who waits.
//
// After more than one attempt there is no telling that an earlier one is not still
// under way, and so no Refused.
func (c *Client) Register(ctx context.Context, did syntax.DID, op Operation) error {
	if _, err := op.CID(); err != nil {
		return err
	}
	if err := c.held(ctx); err != nil {
		return fmt.Errorf("register %s: %w", did, err)
	}
	began, deadline := time.Now(), cmp.Or(c.Deadline, 20*time.Second)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deadline)
	defer cancel()
	pause := cmp.Or(c.Backoff, 200*time.Millisecond)
	longest := 16 * pause
	var answered *Refused  // the answer to the only attempt
	for attempts := 0; ; { // those that may have arrived
		var failure error
		if answered == nil {
			failure = c.Submit(ctx, did, op)
			if failure == nil {
				return nil
			}
			if !neverSent(failure) {
				attempts++
			}
			var e *Error
			if attempts == 1 && errors.As(failure, &e) && conclusive(e.Status) {
				answered = &Refused{Status: e.Status, Message: e.Message}
			}
		}
		presence, err := c.Registered(ctx, did, op)
		switch {
		case err != nil:
			failure = errors.Join(failure, err)
		case presence == Tombstoned:
			return fmt.Errorf("register %s: %w", did, ErrTombstoned)
		case presence != Absent:
			return nil
		case answered != nil:
			return answered
		}
		if attempts == 0 && time.Since(began)+pause > deadline/4 {
			return fmt.Errorf("register %s: %w: %w", did, ErrUnreachable, failure)
		}
		if err := c.sleep(ctx, pause); err != nil {
			return fmt.Errorf("register %s: %w: %w", did, ErrUnknown, failure)
		}
		pause = min(2*pause, longest)
	}
}

// neverSent says whether a request failed before there was a connection for it.
func neverSent(failure error) bool {
	dial, ok := errors.AsType[*net.OpError](failure)
	return ok && dial.Op == "dial"
}

// conclusive says whether a status means that the request was looked at and turned
// down, and not that something in between had no time for it.
func conclusive(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return status >= 400 && status < 500
}

func (c *Client) sleep(ctx context.Context, d time.Duration) error {
	if c.Sleep != nil {
		return c.Sleep(ctx, d)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// retryAfter is what a header says in seconds; directories give no dates.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 || seconds > int(maxRetryAfter/time.Second) {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// maxRetryAfter is longer than a directory means who wants to be spared for a while.
const maxRetryAfter = 24 * time.Hour

func (c *Client) get(ctx context.Context, did syntax.DID, path string, limit int64, into any) error {
	b, err := c.do(ctx, http.MethodGet, "/"+url.PathEscape(did.String())+path, nil, limit)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return &Error{cause: fmt.Errorf("read answer: %w", err)}
	}
	return nil
}

func (c *Client) do(ctx context.Context, method, path string, body []byte, limit int64) (answer []byte, err error) {
	if c.Observe != nil {
		began := time.Now()
		defer func(ctx context.Context) {
			status := http.StatusOK
			if failed, ok := errors.AsType[*Error](err); ok {
				status = failed.Status
			}
			c.Observe(ctx, Request{method == http.MethodPost, status, began, time.Since(began)})
		}(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.Timeout, 5*time.Second))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(cmp.Or(c.URL, DefaultURL), "/")+path, bytes.NewReader(body))
	if err != nil {
		return nil, &Error{cause: err}
	}
	req.Header.Set("Accept", "application/did+ld+json,application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	client := *cmp.Or(c.HTTP, HTTP())
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := client.Do(req)
	if err != nil {
		return nil, &Error{cause: err}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if res.StatusCode != http.StatusOK {
		// A refusal whose text was cut off is a refusal still.
		var said struct {
			Message string `json:"message"`
		}
		if json.Unmarshal(b, &said) != nil {
			said.Message = ""
		}
		return nil, &Error{Status: res.StatusCode, Message: said.Message, RetryAfter: retryAfter(res.Header)}
	}
	if method == http.MethodPost {
		return nil, nil // the status is the whole answer
	}
	if err != nil {
		return nil, &Error{cause: fmt.Errorf("read answer: %w", err)}
	}
	if int64(len(b)) > limit {
		return nil, &Error{cause: fmt.Errorf("answer is longer than %d bytes", limit)}
	}
	return b, nil
}
