package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/urfave/cli/v3"

	adminapi "portico/api/atproto/admin"
	identityapi "portico/api/atproto/identity"
	moderationapi "portico/api/atproto/moderation"
	repoapi "portico/api/atproto/repo"
	api "portico/api/atproto/server"
	syncapi "portico/api/atproto/sync"
	tempapi "portico/api/atproto/temp"
	bskyapi "portico/api/bsky"
	operatorapi "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/impl/account/auth"
	"portico/impl/atproto/admin"
	"portico/impl/atproto/identity"
	"portico/impl/atproto/moderation"
	"portico/impl/atproto/repo"
	"portico/impl/atproto/server"
	"portico/impl/atproto/sync"
	"portico/impl/atproto/temp"
	"portico/impl/bsky"
	"portico/impl/portico/operator"
)

// services are what is behind the routes.
type services struct {
	server   *server.Service
	identity *identity.Service
	admin    *admin.Service
	operator *operator.Service
	sync     *sync.Service
	temp     *temp.Service
	repo     *repo.Service
	report   *moderation.Service
	bsky     *bsky.Service
	gate     *auth.Gate
	pages    *pages
	owner    http.Handler // see package owner
	apps     http.Handler // see package authserver
	letIn    http.Handler // see package authorize

	appView bool // there is one

	maxBlob   int64 // bytes; 0: the default
	maxImport int64 // bytes; 0: any number
}

// register puts all that the server serves on e, and returns what serves the methods among it. The
// documentation of these names the version, and handles under domain, which begins with a
// dot.
func (s *services) register(e *echo.Echo, o xrpc.Options, domain string) (*xrpc.Server, error) {
	x := xrpc.NewServer(e, o)
	if err := errors.Join(
		api.Register(e, x, s.server, server.Policy{Gate: s.gate}),
		identityapi.Register(e, x, s.identity, identity.Policy{Gate: s.gate}),
		adminapi.Register(e, x, s.admin, admin.Policy{Gate: s.gate}),
		operatorapi.Register(e, x, s.operator, operator.Policy{Gate: s.gate}),
		syncapi.Register(e, x, s.sync, sync.Policy{Gate: s.gate}),
		repoapi.Register(e, x, s.repo, repo.Policy{Gate: s.gate, MaxBlob: s.maxBlob, MaxImport: s.maxImport}),
		tempapi.Register(e, x, s.temp, temp.Policy{Gate: s.gate}),
		moderationapi.Register(e, x, s.report, moderation.Policy{Gate: s.gate}),
		bskyapi.Register(e, x, s.bsky, bsky.Policy{Gate: s.gate, AppView: s.appView}),
	); err != nil {
		return nil, fmt.Errorf("register methods: %w", err)
	}
	if err := describeMethods(e, x.Methods(), o.Version, domain); err != nil {
		return nil, err
	}
	mountOwner(e, s.owner)
	mountOAuth(e, s.apps, s.letIn)
	return x, s.pages.register(e)
}

func routesCommand(stdout io.Writer) *cli.Command {
	return &cli.Command{
		Name:  "routes",
		Usage: "list what the server serves, and who may call it",
		Description: `Needs no server and no settings: what is listed is the same in each.

LIMITS are how large a body may be once it is decoded, and how many calls are let
through in how much time: from one address, or for one account, which is the
caller's or the one that a call names. Calls are counted where
PDS_RATE_LIMITS_ENABLED is on; then everything below /xrpc/ but
com.atproto.sync.getRepo and _health shares 3000 calls in 5 minutes from one
address, too.`,
		Flags: []cli.Flag{jsonFlag()},
		Action: func(_ context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return usage("routes takes no arguments, not even %q", c.Args().First())
			}
			return listRoutes(&console{out: stdout, json: c.Bool("json")})
		},
	}
}

// shownRoute is a path as "portico routes" lists it.
type shownRoute struct {
	Verbs   []string     `json:"verbs"`
	Path    string       `json:"path"`
	Caller  string       `json:"caller"`            // who may call, in words
	Policy  string       `json:"policy,omitempty"`  // the same as the policy names it; of methods
	MaxBody int64        `json:"maxBody,omitempty"` // bytes; 0: takes none
	Limits  []shownLimit `json:"limits"`
}

type shownLimit struct {
	Calls   int    `json:"calls"`
	Seconds int64  `json:"seconds"`
	By      string `json:"by"` // address or account
}

func listRoutes(con *console) error {
	routes, err := shownRoutes()
	if err != nil {
		return err
	}
	if con.json {
		return con.printJSON(struct {
			Routes []shownRoute `json:"routes"`
		}{routes})
	}
	rows := make([][]string, len(routes))
	for i, r := range routes {
		var limits []string
		if r.MaxBody > 0 {
			limits = append(limits, fmt.Sprintf("%d KiB", r.MaxBody>>10))
		}
		for _, l := range r.Limits {
			limits = append(limits, fmt.Sprintf("%d in %s by %s", l.Calls, span(time.Duration(l.Seconds)*time.Second), l.By))
		}
		rows[i] = []string{strings.Join(r.Verbs, ","), r.Path, strings.Join(limits, ", "), r.Caller}
	}
	return con.table("Nothing is served.", "VERBS PATH LIMITS CALLER", rows)
}

// span is d in whole hours or minutes, where it is some.
func span(d time.Duration) string {
	switch {
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return d.String()
}

// shownRoutes are the routes of a server, ordered by path. It is one that nobody asks
// anything, so there is nothing behind them.
func shownRoutes() ([]shownRoute, error) {
	e := echo.New()
	empty := services{gate: new(auth.Gate), appView: true, pages: &pages{settings: (&settings{PublicURL: new(url.URL)}).itself}}
	methods, err := empty.register(e, xrpc.Options{Logger: slog.New(slog.DiscardHandler)}, ".test")
	if err != nil {
		return nil, err
	}
	return showRoutes(e.Routes(), methods.Methods())
}

// showRoutes joins the routes of echo with what is decided of the methods among them.
func showRoutes(routes []*echo.Route, methods []xrpc.Route) ([]shownRoute, error) {
	byPath := map[string]*shownRoute{}
	for _, r := range routes {
		shown := byPath[r.Path]
		if shown == nil {
			shown = &shownRoute{Path: r.Path, Caller: cmp.Or(siteCallers[r.Path], "Anybody."), Limits: []shownLimit{}}
			byPath[r.Path] = shown
		}
		if r.Method == echo.RouteNotFound {
			shown.Caller = "Anybody, to learn that nothing is served there."
			continue
		}
		shown.Verbs = append(shown.Verbs, r.Method)
	}
	for _, m := range methods {
		shown := byPath["/xrpc/"+m.NSID]
		if shown == nil {
			return nil, fmt.Errorf("%s has a policy and no route", m.NSID)
		}
		who, err := callerOf(m.Auth)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.NSID, err)
		}
		shown.Caller, shown.Policy, shown.MaxBody = who.words, m.Auth, m.MaxBody
		for _, l := range m.Limits {
			by := "account"
			if l.ByIP {
				by = "address"
			}
			shown.Limits = append(shown.Limits, shownLimit{l.Points, int64(l.Per / time.Second), by})
		}
	}
	list := make([]shownRoute, 0, len(byPath))
	for _, r := range byPath {
		if r.Verbs == nil {
			r.Verbs = []string{"*"}
		}
		slices.Sort(r.Verbs)
		list = append(list, *r)
	}
	slices.SortFunc(list, func(a, b shownRoute) int { return strings.Compare(a.Path, b.Path) })
	return list, nil
}
