package bsky_test

import (
	"testing"

	"portico/api/xrpc/xrpctest"
	"portico/impl/servertest"
)

// all are the methods of every namespace below app.bsky.
var all = servertest.In("app.bsky")

// Who may call what, and how often, shows in one file.
func TestPolicies(t *testing.T) {
	servertest.Golden(t, "policies.golden", xrpctest.Access(newServer(t, all).Routes()))
}

// requests are one for each method.
var requests = map[string]string{
	"actor.getPreferences":        "?did=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa",
	"actor.getProfile":            "?actor=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa",
	"actor.getProfiles":           "?actors=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa",
	"actor.putPreferences":        `{"preferences":[]}`,
	"feed.getActorLikes":          "?actor=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa",
	"feed.getAuthorFeed":          "?actor=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa",
	"feed.getFeed":                "?feed=at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/app.bsky.feed.generator/a",
	"feed.getPostThread":          "?uri=at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/app.bsky.feed.post/a",
	"feed.getTimeline":            "",
	"notification.registerPush":   `{"serviceDid":"did:web:appview.example","token":"t","platform":"ios","appId":"a"}`,
	"notification.unregisterPush": `{"serviceDid":"did:web:appview.example","token":"t","platform":"ios","appId":"a"}`,
}

// Every method is called with every credential. What comes of it is a table, to be
// reviewed line by line.
func TestAccess(t *testing.T) {
	credentials := append(servertest.Credentials("none", "malformed header", "unknown scheme", "DPoP", "Basic admin",
		"access", "access, app password", "access, privileged app password", "access, takendown", "access, signupQueued",
		"access, refresh scope", "access, expired", "access, foreign key", "refresh", "moderation service", "moderation service as labeler",
		"moderation service, expired", "moderation service, another method", "service of a stranger", "service of an account here"), servertest.AppCredentials()...)
	table := newServer(t, all).AccessTable(requests, credentials)
	servertest.Golden(t, "access.golden", "# What each method answers to each credential. The app view says {} to everything; preferences\n"+
		"# are asked for of an account that is not here.\n"+table)
}

// Without an app view there is none of this.
func TestWithoutAppView(t *testing.T) {
	s := servertest.New(t, all)
	if routes := s.Routes(); len(routes) > 0 {
		t.Errorf("served: %v", routes)
	}
	alice := s.SignUp("alice")
	for _, method := range []string{"actor.getPreferences", "actor.getProfile", "feed.getTimeline", "feed.getFeed"} {
		for _, who := range []string{"", alice.Access} {
			s.Refused(s.Get("app.bsky."+method, who), 400, "InvalidRequest", "No service configured for app.bsky."+method)
		}
	}
}
