package proxy

import (
	"context"
	_ "embed"
	"log/slog"
	"strings"

	"portico/api/xrpc"
	"portico/impl/account/auth"
	"portico/impl/account/serviceauth"
	"portico/impl/account/token"
)

// Fallback is the fallback of the routes, see [xrpc.Options]: it passes on what no method
// here serves, for whoever is signed in to an account that is not taken down.
func (p *Proxy) Fallback(ctx context.Context, c *xrpc.Call) (*xrpc.Response, error) {
	if streams[c.NSID] {
		return nil, xrpc.InvalidRequest(c.NSID + " is an event stream, which is not passed on to other services")
	}
	if serviceauth.Protected(c.NSID) {
		return nil, errMethod
	}
	to, err := p.Target(ctx, c, p.standard(c.NSID))
	if err != nil {
		return nil, err
	}
	if to == (Service{}) {
		return nil, errNoService(c.NSID)
	}
	ctx, err = p.Gate.Session(token.Standard, auth.AppPassedOn, auth.NotTakenDown).Authenticate(ctx, c)
	if err != nil {
		return nil, err
	}
	caller := auth.Caller(ctx)
	if caller.ByApp() && serviceauth.Administrative(c.NSID) || caller.Scope == token.AppPass && serviceauth.Privileged(c.NSID) {
		return nil, errMethod
	}
	if strings.HasPrefix(c.NSID, "chat.bsky.") && c.Request.Header.Get(proxyHeader) == "" {
		p.Log.DebugContext(ctx, "chat without atproto-proxy goes to the app view, which does not serve it",
			slog.String("method", c.NSID), slog.String("did", caller.DID.String()))
	}
	return p.PassOn(ctx, c, to, caller.DID)
}

// errMethod is for methods that are closed to a session, or to all that are passed on.
var errMethod = xrpc.InvalidToken("Bad token method")

// streamNames are the subscriptions of the lexicons that upstream knows, a line each;
// lexgen upstream writes it.
//
//go:embed streams.txt
var streamNames string

// streams are the methods that could only be passed on as what they are not: as requests
// with one answer.
var streams = func() map[string]bool {
	m := make(map[string]bool)
	for name := range strings.FieldsSeq(streamNames) {
		m[name] = true
	}
	return m
}()
