package main

import (
	"log/slog"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"

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

// What "portico routes" lists is what echo serves, every verb and path of it.
func TestRoutesAreThoseOfEcho(t *testing.T) {
	e := echo.New()
	s := services{gate: new(auth.Gate), appView: true, pages: &pages{settings: (&settings{PublicURL: new(url.URL)}).itself}}
	if _, err := s.register(e, xrpc.Options{Logger: slog.New(slog.DiscardHandler)}, ".test"); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, r := range e.Routes() {
		want = append(want, strings.Replace(r.Method, echo.RouteNotFound, "*", 1)+" "+r.Path)
		if nsid, method := ofAll(r.Path); method && r.Name != nsid {
			t.Errorf("%s is called %s", r.Path, r.Name)
		}
	}
	listed, err := shownRoutes()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range listed {
		for _, verb := range r.Verbs {
			got = append(got, verb+" "+r.Path)
		}
		if _, method := ofAll(r.Path); method != (r.Policy != "") && !strings.HasPrefix(r.Path, "/xrpc/alt.") {
			t.Errorf("%s has the policy %q", r.Path, r.Policy)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-served +listed):\n%s", diff)
	}
	if len(want) < 90 {
		t.Errorf("%d routes", len(want))
	}
}

// ofAll is the method at a path, if it is one of those that are not the server's own.
func ofAll(path string) (nsid string, ok bool) {
	nsid, _ = strings.CutPrefix(path, "/xrpc/")
	return nsid, strings.HasPrefix(nsid, "com.") || strings.HasPrefix(nsid, "app.")
}

// What "portico routes" says of a method is what its policy decides, and what policies
// decide to be served is listed.
func TestRoutesAreThoseOfThePolicies(t *testing.T) {
	routes, err := shownRoutes()
	if err != nil {
		t.Fatal(err)
	}
	// In Go's names there are no dots, and other capitals.
	plain := func(nsid string) string { return strings.ToLower(strings.ReplaceAll(nsid, ".", "")) }
	listed := map[string]shownRoute{}
	for _, r := range routes {
		if r.Policy != "" {
			listed[plain(strings.TrimPrefix(r.Path, "/xrpc/"))] = r
		}
	}
	gate := new(auth.Gate)
	for _, n := range []struct {
		namespace string
		methods   reflect.Type
		policy    any
	}{
		{"com.atproto.server", reflect.TypeFor[api.Policy](), server.Policy{Gate: gate}},
		{"com.atproto.identity", reflect.TypeFor[identityapi.Policy](), identity.Policy{Gate: gate}},
		{"com.atproto.admin", reflect.TypeFor[adminapi.Policy](), admin.Policy{Gate: gate}},
		{"com.atproto.repo", reflect.TypeFor[repoapi.Policy](), repo.Policy{Gate: gate}},
		{"com.atproto.sync", reflect.TypeFor[syncapi.Policy](), sync.Policy{Gate: gate}},
		{"com.atproto.temp", reflect.TypeFor[tempapi.Policy](), temp.Policy{Gate: gate}},
		{"com.atproto.moderation", reflect.TypeFor[moderationapi.Policy](), moderation.Policy{Gate: gate}},
		{"app.bsky", reflect.TypeFor[bskyapi.Policy](), bsky.Policy{Gate: gate, AppView: true}},
		{"alt.portico.operator", reflect.TypeFor[operatorapi.Policy](), operator.Policy{Gate: gate}},
	} {
		for i := range n.methods.NumMethod() {
			name := n.methods.Method(i).Name
			p := reflect.ValueOf(n.policy).MethodByName(name).Call(nil)[0] // an xrpc.Policy
			path := plain(n.namespace + name)
			got, ok := listed[path]
			delete(listed, path)
			authenticator, served := p.FieldByName("Auth").Interface().(xrpc.Authenticator)
			if ok != served {
				t.Errorf("%s.%s: listed %v, served %v", n.namespace, name, ok, served)
			}
			if !ok || !served {
				continue
			}
			limits := []shownLimit{}
			for k := range p.FieldByName("Limits").Len() {
				l := p.FieldByName("Limits").Index(k)
				by := "account"
				if l.FieldByName("Key").IsNil() {
					by = "address"
				}
				limits = append(limits, shownLimit{int(l.FieldByName("Points").Int()), int64(time.Duration(l.FieldByName("Per").Int()).Seconds()), by})
			}
			if got.Policy != authenticator.String() || !slices.Equal(got.Limits, limits) {
				t.Errorf("%s.%s: listed as %q with %v, decided as %q with %v", n.namespace, name, got.Policy, got.Limits, authenticator, limits)
			}
			if most := p.FieldByName("MaxBody").Int(); most > 0 && got.MaxBody != most {
				t.Errorf("%s.%s: listed with bodies of %d bytes, decided %d", n.namespace, name, got.MaxBody, most)
			}
		}
	}
	for path := range listed {
		t.Errorf("%s is listed, and no policy decides about it", path)
	}
}
