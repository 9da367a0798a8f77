package proxy_test

import (
	"net/http"
	"strings"
	"testing"

	"portico/impl/proxy"
	"portico/impl/servertest"
)

// What the client does not send elsewhere goes to the service that its name belongs to.
func TestStandardTargets(t *testing.T) {
	w := newWorld(t, func(o *servertest.Options) { o.Reports = true })
	w.Proxy.Moderation = w.NewUpstream("did:web:moderation.example", proxy.LabelerID).Service
	moderation := w.NewUpstream("did:web:ozone.example", proxy.LabelerID)
	w.Proxy.Moderation = moderation.Service
	ask := func(nsid string) {
		t.Helper()
		w.Accepted(w.Get(nsid, w.alice.Access))
	}
	for nsid := range strings.FieldsSeq(`
		tools.ozone.communication.createTemplate tools.ozone.communication.deleteTemplate tools.ozone.communication.listTemplates
		tools.ozone.communication.updateTemplate tools.ozone.moderation.cancelScheduledActions tools.ozone.moderation.emitEvent
		tools.ozone.moderation.getAccountTimeline tools.ozone.moderation.getEvent tools.ozone.moderation.getRecord
		tools.ozone.moderation.getRepo tools.ozone.moderation.listScheduledActions tools.ozone.moderation.queryEvents
		tools.ozone.moderation.queryStatuses tools.ozone.moderation.scheduleAction tools.ozone.moderation.searchRepos
		tools.ozone.safelink.addRule tools.ozone.safelink.queryEvents tools.ozone.safelink.queryRules tools.ozone.safelink.removeRule
		tools.ozone.safelink.updateRule tools.ozone.team.addMember tools.ozone.team.deleteMember tools.ozone.team.listMembers
		tools.ozone.team.updateMember tools.ozone.verification.grantVerifications tools.ozone.verification.listVerifications
		tools.ozone.verification.revokeVerifications`) {
		ask(nsid)
		if r := one(t, moderation); w.tokenOf(r.Request, w.alice.DID).Aud != "did:web:ozone.example" {
			t.Errorf("%s: token %+v", nsid, w.tokenOf(r.Request, w.alice.DID))
		}
	}
	for nsid := range strings.FieldsSeq(`
		app.bsky.feed.getLikes chat.bsky.convo.listConvos tools.ozone.set.querySets tools.ozone.moderation.getRecords
		tools.ozone.moderation.getrecord com.atproto.sync.requestCrawl com.atproto.sync.notifyOfUpdate
		com.atproto.label.queryLabels com.atproto.temp.fetchLabels com.example.unheardOf xy`) {
		ask(nsid)
		if r := one(t, w.AppView); w.tokenOf(r.Request, w.alice.DID).Aud != "did:web:appview.example" {
			t.Errorf("%s: token %+v", nsid, w.tokenOf(r.Request, w.alice.DID))
		}
	}
	nobody(t, moderation)
}

// A method of a service that is not configured says so to anybody, before they are asked
// who they are.
func TestNoService(t *testing.T) {
	s := servertest.New(t)
	for _, nsid := range []string{query, "tools.ozone.team.listMembers", "com.atproto.sync.requestCrawl", "com.example.unheardOf"} {
		s.Refused(s.Get(nsid), 400, "InvalidRequest", "No service configured for "+nsid)
	}
	u := s.SignUp("alice")
	s.Refused(s.Get(query, u.Access), 400, "InvalidRequest", "No service configured for "+query)
	// With the header there is one.
	s.NewUpstream("did:web:other.example", "view")
	s.Accepted(s.Get(query, u.Access, "Atproto-Proxy: did:web:other.example#view"))
}

// The header atproto-proxy names a service by a DID and an id in its document; what is
// wrong with that is told in one order, to anybody.
// Contract §9 row 1: what cannot be resolved is 400, whyever.
func TestProxyHeader(t *testing.T) {
	w := newWorld(t)
	other := w.NewUpstream("did:web:other.example", "view")
	w.PublishService("did:web:list.example", "view", "Service", "ftp://list.example")
	w.PublishService("did:web:path.example", "view", "Service", other.URL+"/some/path")
	w.PublishService("did:web:slash.example", "view", "Service", other.URL+"/")
	w.PublishService("did:web:query.example", "view", "Service", other.URL+"?a=b")
	w.PublishJSON("did:web:long.example", []byte(`{"id":"did:web:long.example","service":[{"id":"did:web:long.example#view","type":"x","serviceEndpoint":"`+other.URL+`"}]}`))
	w.PublishJSON("did:web:object.example", []byte(`{"id":"did:web:object.example","service":[{"id":"#view","type":"x","serviceEndpoint":{"a":"`+other.URL+`"}}]}`))
	const noDID, noID, format, spaces = "no did specified in proxy header", "no service id specified in proxy header", "invalid proxy header format", "proxy header cannot contain spaces"
	const unresolved, unusable, self = "could not resolve proxy did", "could not resolve proxy did service url", "proxy header names this server"
	for _, tt := range []struct{ header, want string }{
		{"#", noDID}, {"#view", noDID}, {"##", noDID}, {"# ", noDID},
		{"did:web:other.example", noID}, {"did:web:other.example#", noID}, {"a b", noID}, {"view", noID},
		{"did:web:other.example#view#", format}, {"a#b#c", format}, {"a b#c#d", format}, {"a##", format},
		{"did:web:other.example #view", spaces}, {"did:web:other.example# view", spaces}, {"did:web:other.example#view, did:web:other.example", spaces},
		{"other.example#view", unresolved}, {"did:web:Nobody.example#view", unresolved}, {"did:web:nobody.example#view", unresolved},
		{"did:plc:short#view", unresolved}, {"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa#view", unresolved}, {"did:key:zQ3shqwJEJyMBsBXCWyCBpUBMqxcon9oHB7mCvx4sSpMdLJwc#view", unresolved},
		{"did:web:other.example:path#view", unresolved}, {"did:web:localhost%3A1#view", unresolved}, {"did:#view", unresolved}, {"DID:WEB:OTHER.EXAMPLE#view", unresolved},
		{"did:web:other.example#VIEW", unusable}, {"did:web:other.example#atproto_pds", unusable}, {"did:web:other.example#vie", unusable},
		{"did:web:list.example#view", unusable}, {"did:web:object.example#view", unusable},
		{servertest.DID + "#view", self}, {servertest.DID + "#atproto_pds", self},
	} {
		w.Refused(w.Get(query, "Atproto-Proxy: "+tt.header), 400, "InvalidRequest", tt.want)
	}
	nobody(t, other)
	for _, header := range []string{"did:web:other.example#view", "did:web:slash.example#view", "did:web:long.example#view"} {
		w.Refused(w.Get(query, "Atproto-Proxy: "+header), 401, "AuthMissing", "Authentication Required")
		nobody(t, other)
		w.Accepted(w.Get(query, w.alice.Access, "Atproto-Proxy: "+header))
		did, _, _ := strings.Cut(header, "#")
		if token := w.tokenOf(one(t, other).Request, w.alice.DID); token.Aud != did {
			t.Errorf("%s: token for %s", header, token.Aud)
		}
	}
	// What would go elsewhere than the document says goes nowhere.
	for _, header := range []string{"did:web:path.example#view", "did:web:query.example#view"} {
		w.Refused(w.Get(query, w.alice.Access, "Atproto-Proxy: "+header), 502, "UpstreamFailure", "Upstream service unreachable")
	}
	nobody(t, other)
	// No service is none.
	w.Accepted(w.Get(query, w.alice.Access, "Atproto-Proxy: "))
	one(t, w.AppView)
}

// The app view is where it is configured to be, whatever its document says; other services
// of its DID are where that says.
func TestProxyHeaderOfAppView(t *testing.T) {
	w := newWorld(t)
	other := w.NewUpstream("did:web:appview.example", "bsky_appview")
	for range 2 {
		w.Accepted(w.Get(query, w.alice.Access, "Atproto-Proxy: did:web:appview.example#bsky_appview"))
		one(t, w.AppView)
		w.Internet.Unpublish("did:web:appview.example")
		w.Forget("did:web:appview.example")
	}
	w.Refused(w.Get(query, w.alice.Access, "Atproto-Proxy: did:web:appview.example#bsky_notif"), 400, "InvalidRequest", "could not resolve proxy did")
	w.PublishService("did:web:appview.example", "bsky_notif", "x", other.URL)
	w.Accepted(w.Get(query, w.alice.Access, "Atproto-Proxy: did:web:appview.example#bsky_notif"))
	one(t, other)
	nobody(t, w.AppView)
}

// A service that turns out to be this very server is none: neither by its DID, nor by its
// address. One that is by another name gets a request that ends there, since nothing here
// takes the token and the header is not passed on.
func TestProxyHeaderOfThisServer(t *testing.T) {
	w := newWorld(t)
	w.PublishService("did:web:mirror.example", "view", "Service", "https://PDS.test/")
	w.Refused(w.Get(query, w.alice.Access, "Atproto-Proxy: did:web:mirror.example#view"), 400, "InvalidRequest", "proxy header names this server")
	w.PublishService("did:web:alias.example", "view", "Service", w.URL)
	w.Refused(w.Get(query, w.alice.Access, "Atproto-Proxy: did:web:alias.example#view"), 400, "InvalidToken", "Token could not be verified")
	nobody(t, w.AppView)
}

// DESIGN §9 rule 1: a DID that has to be looked up is paid for by the address of the
// caller, and whoever has spent that is told so.
func TestProxyHeaderIsPaidFor(t *testing.T) {
	w := newWorld(t)
	const spender, other = "X-Forwarded-For: 203.0.113.7", "X-Forwarded-For: 203.0.113.8"
	var a servertest.Answer
	tries := 0
	for ; tries < 100_000; tries++ {
		if a = w.Get(query, spender, "Atproto-Proxy: did:web:nobody.example#view"); a.Status != 400 {
			break
		}
	}
	w.Refused(a, http.StatusTooManyRequests, "RateLimitExceeded", "Rate Limit Exceeded")
	if a.Header.Get("Retry-After") == "" {
		t.Error("429 without Retry-After")
	}
	if tries == 0 {
		t.Error("nothing is free")
	}
	w.Refused(w.Get(query, other, "Atproto-Proxy: did:web:nobody.example#view"), 400, "InvalidRequest", "could not resolve proxy did")
	// What is known costs nothing.
	w.NewUpstream("did:web:other.example", "view")
	w.Accepted(w.Get(query, w.alice.Access, other, "Atproto-Proxy: did:web:other.example#view"))
	w.Accepted(w.Get(query, w.alice.Access, spender, "Atproto-Proxy: did:web:other.example#view"))
}
