package page

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"

	"portico/api/xrpc"
	"portico/db"
)

// An Error is what a page tells about what did not work.
type Error struct {
	Status  int
	Message string // for people: a sentence or more
}

func (e *Error) Error() string { return strconv.Itoa(e.Status) + " " + e.Message }

// Refused is what people are to be told of an error: what an [Error] or a method says that
// refused something, nil for all else, which is nobody's business.
func Refused(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	x, ok := errors.AsType[*xrpc.Error](err)
	switch {
	case !ok && errors.Is(err, db.ErrUnavailable):
		return &Error{http.StatusServiceUnavailable, "The server can't do that just now. Try again later."}
	case !ok:
		return nil
	case x.Status == http.StatusTooManyRequests:
		return &Error{x.Status, "That was too often. " + after(x.Header.Get("Retry-After"))}
	case x.Status == http.StatusServiceUnavailable:
		return &Error{x.Status, "The server is too busy just now. " + after(x.Header.Get("Retry-After"))}
	case x.Status < 400 || x.Status >= 500:
		return nil
	}
	status := x.Status
	if status == http.StatusUnauthorized {
		status = http.StatusForbidden // the other one promises a WWW-Authenticate
	}
	return &Error{status, cmp.Or(Printable(x.Message, 500), x.Name, "This was refused.")}
}

// after says when to try again.
func after(seconds string) string {
	n, err := strconv.Atoi(seconds)
	switch {
	case err != nil || n <= 0:
		return "Try again later."
	case n < 120:
		return fmt.Sprintf("Try again in %d seconds.", n)
	case n < 7200:
		return fmt.Sprintf("Try again in %d minutes.", (n+59)/60)
	}
	return fmt.Sprintf("Try again in %d hours.", (n+3599)/3600)
}

// fail answers with what went wrong. Of what the server did wrong the log has the cause.
func (s *Site) fail(v *Visit, err error) {
	told := Refused(err)
	if told == nil && errors.Is(err, ErrOver) {
		told = &Error{http.StatusForbidden, "You are not signed in any more."}
	}
	if told == nil || errors.Is(err, db.ErrUnavailable) {
		if errors.Is(err, context.Canceled) {
			s.c.Log.Info("page", "page", v.name(), "cause", err.Error())
		} else {
			s.c.Log.Error("page", "page", v.name(), "cause", err.Error())
		}
	}
	if told == nil {
		told = &Error{http.StatusInternalServerError, "Something went wrong here. Try again later."}
	}
	if v.begun {
		panic(http.ErrAbortHandler) // half a page must not look whole
	}
	if told.Status == http.StatusTooManyRequests || told.Status == http.StatusServiceUnavailable {
		if x, ok := errors.AsType[*xrpc.Error](err); ok && x.Header.Get("Retry-After") != "" {
			v.w.Header().Set("Retry-After", x.Header.Get("Retry-After"))
		} else if errors.Is(err, db.ErrUnavailable) {
			v.w.Header().Set("Retry-After", "5")
		}
	}
	// No cookie for who has none: what another site sends comes without the one that there is.
	if err := v.show(told.Status, "error.html", told); err != nil {
		s.c.Log.Error("page", "page", v.name(), "cause", err.Error())
		plainError(v.w, told.Status, told.Message)
	}
}

// address is where a request comes from: of a direct site its connection's address.
func (s *Site) address(r *http.Request) netip.Addr {
	if c := xrpc.CallFrom(r.Context()); c != nil && !s.c.Direct {
		return c.IP
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	ip, _ := netip.ParseAddr(host)
	return ip.Unmap()
}
