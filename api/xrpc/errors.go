package xrpc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Error is the only error the boundary understands; any other becomes a 500.
// Status, Name, Message and Header go to the client, Cause to the log alone.
// An empty Name or Message is filled in from Status, and a Status that is no error
// is a 500. With a 500 neither Name nor Message is sent.
type Error struct {
	Status  int
	Name    string
	Message string
	Header  http.Header // added to the answer
	Cause   error
	// ByCaller says that a failure is the doing of the caller, or of a host that the caller
	// named: the log shows it as any request, not as an error of the server.
	ByCaller bool
	// Foreign says that another server answered so, or gave no answer, and the client gets to
	// see it: the method need not declare Name, and it is no error of this server in the log.
	Foreign bool

	own bool // made by this package while a handler read a stream; needs no declaration
}

// Error describes e for a log, with its cause.
func (e *Error) Error() string {
	s := fmt.Sprintf("%d %s %q", e.status(), e.name(), e.message())
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Because returns a copy of e with a cause, which only the log shows.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.Cause = cause
	return &c
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Is reports whether target is a [DeclaredError] with the name of e.
func (e *Error) Is(target error) bool {
	d, ok := target.(*DeclaredError)
	return ok && d.name == e.name()
}

func (e *Error) status() int {
	if e.Status < 400 || e.Status > 599 {
		return http.StatusInternalServerError
	}
	return e.Status
}

// isFault reports whether e is an error of the server, which its operator is to see.
func (e *Error) isFault() bool {
	return e.status() >= 500 && e.status() != http.StatusNotImplemented && !e.ByCaller && !e.Foreign
}

func (e *Error) name() string {
	if e.Name != "" {
		return e.Name
	}
	return defaultsOf(e.status()).name
}

func (e *Error) message() string {
	if e.Message != "" {
		return e.Message
	}
	return defaultsOf(e.status()).message
}

// shown is what a client may see of e.
func (e *Error) shown() (name, message string) {
	if e.status() == http.StatusInternalServerError {
		d := defaultErrors[http.StatusInternalServerError]
		return d.name, d.message
	}
	return e.name(), e.message()
}

type errorDefaults struct{ name, message string }

var defaultErrors = map[int]errorDefaults{
	400: {"InvalidRequest", "Invalid Request"},
	401: {"AuthenticationRequired", "Authentication Required"},
	403: {"Forbidden", "Forbidden"},
	404: {"XRPCNotSupported", "XRPC Not Supported"},
	406: {"NotAcceptable", "Not Acceptable"},
	413: {"PayloadTooLarge", "Payload Too Large"},
	415: {"UnsupportedMediaType", "Unsupported Media Type"},
	429: {"RateLimitExceeded", "Rate Limit Exceeded"},
	500: {"InternalServerError", "Internal Server Error"},
	501: {"MethodNotImplemented", "Method Not Implemented"},
	502: {"UpstreamFailure", "Upstream Failure"},
	503: {"NotEnoughResources", "Not Enough Resources"},
	504: {"UpstreamTimeout", "Upstream Timeout"},
}

func defaultsOf(status int) errorDefaults {
	if d, ok := defaultErrors[status]; ok {
		return d
	}
	if status < 500 {
		return defaultErrors[400]
	}
	return defaultErrors[500]
}

// protocolNames may be answered by any method without being declared.
var protocolNames = map[string]bool{
	"InvalidRequest": true, "InvalidToken": true, "ExpiredToken": true,
	"AuthenticationRequired": true, "Forbidden": true, "XRPCNotSupported": true,
	"NotAcceptable": true, "PayloadTooLarge": true, "UnsupportedMediaType": true,
	"RateLimitExceeded": true, "InternalServerError": true, "MethodNotImplemented": true,
	"UpstreamFailure": true, "NotEnoughResources": true, "UpstreamTimeout": true,
}

// DeclaredError is an error name that a lexicon declares. It makes errors with
// New and Wrap and matches them with errors.Is, on the server and in the client.
type DeclaredError struct{ nsid, name string }

// DeclareError declares name for the method nsid. Generated code calls it.
func DeclareError(nsid, name string) *DeclaredError { return &DeclaredError{nsid, name} }

// Name returns the name as sent on the wire.
func (d *DeclaredError) Name() string { return d.name }

// Error returns the name, with its method when it belongs to one.
func (d *DeclaredError) Error() string {
	if d.nsid == "" {
		return d.name
	}
	return d.nsid + ": " + d.name
}

// New returns an error with the declared name for a client.
func (d *DeclaredError) New(status int, message string) *Error {
	return &Error{Status: status, Name: d.name, Message: message}
}

// Wrap is New with a cause, which only the log shows.
func (d *DeclaredError) Wrap(status int, message string, cause error) *Error {
	return &Error{Status: status, Name: d.name, Message: message, Cause: cause}
}

var undeclared = struct {
	sync.RWMutex
	names map[string]bool
}{names: make(map[string]bool)}

// Undeclared declares by hand a name that no lexicon lists but that the reference
// answers. Any method may answer it from then on. Call it from package variables,
// so that the list is complete before a request comes.
func Undeclared(name string) *DeclaredError {
	undeclared.Lock()
	defer undeclared.Unlock()
	undeclared.names[name] = true
	return &DeclaredError{name: name}
}

// UndeclaredNames returns, sorted, every name given to [Undeclared].
func UndeclaredNames() []string {
	undeclared.RLock()
	defer undeclared.RUnlock()
	return slices.Sorted(maps.Keys(undeclared.names))
}

// mayAnswer reports whether a handler of m may answer with name.
func (m *Method) mayAnswer(name string) bool {
	if protocolNames[name] || slices.Contains(m.Errors, name) {
		return true
	}
	undeclared.RLock()
	defer undeclared.RUnlock()
	return undeclared.names[name]
}

// InvalidRequest returns 400 InvalidRequest.
func InvalidRequest(message string) *Error {
	return &Error{Status: http.StatusBadRequest, Name: "InvalidRequest", Message: message}
}

// InvalidToken returns 400 InvalidToken.
func InvalidToken(message string) *Error {
	return &Error{Status: http.StatusBadRequest, Name: "InvalidToken", Message: message}
}

// ExpiredToken returns 400 ExpiredToken, on which clients refresh their session.
func ExpiredToken(message string) *Error {
	return &Error{Status: http.StatusBadRequest, Name: "ExpiredToken", Message: message}
}

// AuthenticationRequired returns 401 AuthenticationRequired.
func AuthenticationRequired(message string) *Error {
	return &Error{Status: http.StatusUnauthorized, Name: "AuthenticationRequired", Message: message}
}

// Forbidden returns 403 Forbidden.
func Forbidden(message string) *Error {
	return &Error{Status: http.StatusForbidden, Name: "Forbidden", Message: message}
}

// RateLimitExceeded returns 429 RateLimitExceeded, to be tried again after wait.
func RateLimitExceeded(wait time.Duration) *Error {
	return &Error{Status: http.StatusTooManyRequests, Header: retryAfter(wait)}
}

// NotEnoughResources returns 503 NotEnoughResources, for what too many want at a time, to
// be tried again after wait.
func NotEnoughResources(wait time.Duration) *Error {
	return &Error{Status: http.StatusServiceUnavailable, Header: retryAfter(wait), ByCaller: true}
}

// retryAfter says wait in whole seconds, rounded up: who comes back then is not early.
func retryAfter(wait time.Duration) http.Header {
	seconds := max(1, (wait+time.Second-1)/time.Second)
	return http.Header{"Retry-After": {strconv.FormatInt(int64(seconds), 10)}}
}

// UpstreamFailure returns 502 UpstreamFailure.
func UpstreamFailure(message string) *Error {
	return &Error{Status: http.StatusBadGateway, Name: "UpstreamFailure", Message: message}
}

// UpstreamTimeout returns 504 UpstreamTimeout.
func UpstreamTimeout(message string) *Error {
	return &Error{Status: http.StatusGatewayTimeout, Name: "UpstreamTimeout", Message: message}
}

// MethodNotImplemented returns 501 MethodNotImplemented.
func MethodNotImplemented() *Error {
	return &Error{Status: http.StatusNotImplemented, Name: "MethodNotImplemented"}
}

// A passingError is an internal one that says when it may be over: it is answered with 503
// NotEnoughResources, and is an error of the server in its log as a 500 is.
type passingError interface {
	error
	RetryAfter() time.Duration
}

// asError finds the *Error in err, or makes an internal one around it.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[passingError](err); ok {
		return &Error{Status: http.StatusServiceUnavailable, Header: retryAfter(e.RetryAfter()), Cause: err}
	}
	if errors.Is(err, context.Canceled) {
		return NotEnoughResources(time.Second).Because(err) // somebody else gave up what this was to share
	}
	return &Error{Status: http.StatusInternalServerError, Cause: err}
}

// ClientGone returns what is answered to a client that hung up: it is for the log alone.
func ClientGone(err error) *Error {
	return &Error{Status: statusClientGone, Name: "ClientGone", Cause: err, own: true}
}
