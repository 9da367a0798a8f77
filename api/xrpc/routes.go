package xrpc

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"
)

// Router is where echo has its routes: the *echo.Echo that [NewServer] prepared, or a group
// of it, e.Group("", …), whose middleware surrounds them. (In echo such a group also
// surrounds the answer to paths that nobody serves.)
type Router interface {
	Add(verb, path string, h echo.HandlerFunc, m ...echo.MiddlewareFunc) *echo.Route
}

// Routes puts methods on a router, and remembers what is wrong with them.
type Routes struct {
	server *Server
	router Router
	errs   []error
}

// On begins to put methods on e.
func (s *Server) On(e Router) *Routes { return &Routes{server: s, router: e} }

// GET puts a query on path. It answers HEAD as well.
func (r *Routes) GET(path string, h Handler) {
	r.add(path, h, http.MethodGet, http.MethodHead)
}

// POST puts a procedure on path.
func (r *Routes) POST(path string, h Handler) {
	r.add(path, h, http.MethodPost)
}

// Err names every method that was not put on a route, and why.
func (r *Routes) Err() error { return errors.Join(r.errs...) }

func (r *Routes) add(path string, h Handler, verbs ...string) {
	refuse := func(err error) { r.errs = append(r.errs, err) }
	s, m := r.server, h.method
	switch {
	case h.err != nil:
		refuse(h.err)
		return
	case h.notServed:
		return
	case path != prefix+m.NSID || verbs[0] != m.Kind.verb():
		refuse(fmt.Errorf("%s: a %s is not served as %s %s", m.NSID, m.Kind, verbs[0], path))
		return
	}
	if _, ok := s.served[strings.ToLower(path)]; ok {
		refuse(fmt.Errorf("%s: handled twice", m.NSID))
		return
	}
	for _, verb := range verbs {
		route := r.router.Add(verb, path, func(e echo.Context) error {
			q := e.Request()
			c := CallFrom(q.Context())
			c.Request = q // as middleware left it
			return h.serve(q.Context(), s, c, e)
		}, h.middleware...)
		route.Name = m.NSID // for e.Routes and e.Reverse
		if route.Path != path {
			refuse(fmt.Errorf("%s: a group with the prefix %s cannot serve it: its path is %s", m.NSID, strings.TrimSuffix(route.Path, path), path))
			return
		}
	}
	here := served{path: path, method: m}
	s.served[path], s.served[strings.ToLower(path)] = here, here
	s.list = append(s.list, h.route)
}
