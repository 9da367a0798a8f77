package proxy

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/api/xrpc"
	"portico/impl/answer"
	"portico/impl/budget"
)

// proxyHeader names the service that a client wants a request passed on to.
const proxyHeader = "Atproto-Proxy"

// Target is where the request c goes: the service that its atproto-proxy header names, or
// standard, which may be none, without one. Its errors are answers (contract §1.1). What
// has to be looked up for that is paid for by the caller's address; ctx is the handler's.
func (p *Proxy) Target(ctx context.Context, c *xrpc.Call, standard Service) (Service, error) {
	// Two headers are one with a comma and a space, and so no service.
	header := strings.Join(c.Request.Header[proxyHeader], ", ")
	if header == "" {
		return standard, nil
	}
	name, id, found := strings.Cut(header, "#")
	switch {
	case found && name == "":
		return Service{}, xrpc.InvalidRequest("no did specified in proxy header")
	case id == "":
		return Service{}, xrpc.InvalidRequest("no service id specified in proxy header")
	case strings.Contains(id, "#"):
		return Service{}, xrpc.InvalidRequest("invalid proxy header format")
	case strings.Contains(header, " "):
		return Service{}, xrpc.InvalidRequest("proxy header cannot contain spaces")
	case p.AppView != Service{} && name == p.AppView.DID.String() && id == p.AppView.ID:
		return p.AppView, nil
	}
	did, err := syntax.ParseDID(name)
	if err != nil {
		return Service{}, xrpc.InvalidRequest("could not resolve proxy did").Because(err)
	}
	return p.find(ctx, did, id)
}

// find is the service that the document of did has under id.
func (p *Proxy) find(ctx context.Context, did syntax.DID, id string) (Service, error) {
	if did == p.Self.DID {
		return Service{}, errSelf
	}
	doc, err := p.Documents.Resolve(ctx, did, false)
	if _, spent := errors.AsType[*budget.Spent](err); spent {
		return Service{}, answer.Spent(err)
	}
	if err != nil {
		return Service{}, xrpc.InvalidRequest("could not resolve proxy did").Because(err)
	}
	u, err := url.Parse(doc.ServiceEndpoint(id, ""))
	if err != nil || u.Host == "" {
		return Service{}, xrpc.InvalidRequest("could not resolve proxy did service url")
	}
	to := Service{DID: did, ID: id, URL: strings.TrimSuffix(u.String(), "/")}
	if strings.EqualFold(to.URL, p.Self.URL) || p.Here != nil && p.Here(ctx, to.URL) {
		return Service{}, errSelf
	}
	return to, nil
}

// isOrigin reports whether requests can be put behind the URL of the service: those for one
// with a path would go elsewhere than its document says.
func (s Service) isOrigin() bool {
	u, err := url.Parse(s.URL)
	return err == nil && u.Host != "" && s.URL == u.Scheme+"://"+u.Host
}

// errSelf refuses to pass a request on to this very server. It would come back without the
// header, and its token would be good for nothing here.
var errSelf = xrpc.InvalidRequest("proxy header names this server")

// standard is where a method goes that is not served here, when the client does not say.
func (p *Proxy) standard(nsid string) Service {
	switch {
	case moderators[nsid]:
		return p.Moderation
	case nsid == "com.atproto.moderation.createReport":
		return p.Reports
	}
	return p.AppView
}

// moderators are the methods that are the moderation service's; other names of tools.ozone
// are not (contract §1.1).
var moderators = func() map[string]bool {
	m := make(map[string]bool)
	for space, names := range map[string]string{
		"communication": "createTemplate deleteTemplate listTemplates updateTemplate",
		"moderation": "cancelScheduledActions emitEvent getAccountTimeline getEvent getRecord getRepo listScheduledActions " +
			"queryEvents queryStatuses scheduleAction searchRepos",
		"safelink":     "addRule queryEvents queryRules removeRule updateRule",
		"team":         "addMember deleteMember listMembers updateMember",
		"verification": "grantVerifications listVerifications revokeVerifications",
	} {
		for name := range strings.FieldsSeq(names) {
			m["tools.ozone."+space+"."+name] = true
		}
	}
	return m
}()

// errNoService is for a request that is to go to a service which is not configured.
func errNoService(nsid string) error {
	return xrpc.InvalidRequest("No service configured for " + nsid)
}
