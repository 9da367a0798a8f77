//go:build interop

package interop

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// A screen is one of Bluesky's app with the calls that it makes. In their texts, words in
// capitals and braces stand for what the test knows.
type screen struct {
	name  string
	calls []appCall
}

type appCall struct {
	call, body string
	by         answerer
	to         string // the service that the app names, by its name here; "" for the app view
	keep       func(*phone, answer)
}

// answerer says who answers a call.
type answerer int

const (
	here    answerer = iota // the account's server
	nearby                  // the account's server where it knows an app view, else the app view
	appView                 // the app view
	feed                    // the app view, with a token for the feed generator
	service                 // the service that the app names
	unknown                 // the account's server, which has no such record
)

// A phone has the app, and services around it by names of the test's own.
type phone struct {
	*services
	dids         map[string]syntax.DID
	known, named bool // the app view, by the account's server and by the app

	did, access, refresh, blob, cid string
}

// screens are the calls from the first screen to a post that is sent.
var screens = []screen{
	{"first screen", []appCall{
		{call: "GET com.atproto.server.describeServer"},
		{call: "GET com.atproto.temp.checkHandleAvailability?handle=alice.test&email=alice%40example.com&birthDate=1990-02-03T00%3A00%3A00.000Z"},
		{call: "POST com.atproto.server.createAccount", body: `{"handle":"alice.test","email":"alice@example.com","password":"correct horse"}`, keep: (*phone).session},
	}},
	{"sign-in", []appCall{
		{call: "POST com.atproto.server.createSession", body: `{"identifier":"alice.test","password":"correct horse","authFactorToken":"","allowTakendown":true}`, keep: (*phone).session},
		{call: "GET com.atproto.server.getSession"},
	}},
	{"back again", []appCall{
		{call: "POST com.atproto.server.refreshSession", keep: (*phone).session},
		{call: "GET com.atproto.server.getSession"},
		{call: "GET app.bsky.actor.getPreferences", by: nearby},
		{call: "POST app.bsky.actor.putPreferences", by: nearby, body: `{"preferences":[{"$type":"app.bsky.actor.defs#personalDetailsPref","birthDate":"1990-02-03T00:00:00.000Z"},{"$type":"app.bsky.actor.defs#savedFeedsPrefV2","items":[{"id":"3l2","type":"timeline","value":"following","pinned":true},{"id":"3l3","type":"feed","value":"{FEED}","pinned":true}]}]}`},
		{call: "GET app.bsky.labeler.getServices?dids={LABELER}&detailed=true", by: appView},
		{call: "GET app.bsky.actor.getProfile?actor={DID}", by: appView},
		{call: "GET app.bsky.actor.getProfiles?actors={DID}", by: appView},
		{call: "GET app.bsky.unspecced.getConfig", by: appView},
		{call: "GET app.bsky.ageassurance.getConfig", by: appView},
		{call: "GET app.bsky.ageassurance.getState?countryCode=DE", by: appView},
		{call: "GET app.bsky.unspecced.getAgeAssuranceState", by: appView},
		{call: "POST app.bsky.notification.registerPush", by: appView, body: `{"serviceDid":"{APPVIEW}","platform":"ios","token":"t0ken","appId":"xyz.blueskyweb.app"}`},
	}},
	{"who is new here", []appCall{
		{call: "GET app.bsky.unspecced.getOnboardingSuggestedStarterPacks?limit=6", by: appView},
		{call: "GET app.bsky.unspecced.getSuggestedOnboardingUsers?limit=25", by: appView},
		{call: "GET app.bsky.graph.getStarterPack?starterPack=at%3A%2F%2F{DID}%2Fapp.bsky.graph.starterpack%2F3l2", by: appView},
		{call: "GET com.atproto.repo.getRecord?repo={DID}&collection=app.bsky.actor.profile&rkey=self", by: unknown},
		{call: "POST com.atproto.repo.uploadBlob", body: "\x89PNG\r\n\x1a\n, more or less", keep: (*phone).picture},
		{call: "POST com.atproto.repo.putRecord", body: `{"repo":"{DID}","collection":"app.bsky.actor.profile","rkey":"self","record":{"$type":"app.bsky.actor.profile","displayName":"Alice","avatar":{BLOB},"createdAt":"2026-01-02T03:04:05.000Z"}}`},
		{call: "GET com.atproto.repo.getRecord?repo={DID}&collection=app.bsky.actor.profile&rkey=self"},
		{call: "POST com.atproto.repo.applyWrites", body: `{"repo":"{DID}","writes":[{"$type":"com.atproto.repo.applyWrites#create","collection":"app.bsky.graph.follow","rkey":"3l2aaaaaaaa2a","value":{"$type":"app.bsky.graph.follow","subject":"{LABELER}","createdAt":"2026-01-02T03:04:05.000Z"}}]}`},
	}},
	{"home", []appCall{
		{call: "GET app.bsky.feed.getFeedGenerators?feeds={FEED}", by: appView},
		{call: "GET app.bsky.feed.getTimeline?limit=30", by: appView},
		{call: "GET app.bsky.feed.getFeed?feed={FEED}&limit=30", by: feed},
		{call: "GET app.bsky.feed.getListFeed?list=at%3A%2F%2F{DID}%2Fapp.bsky.graph.list%2F3l2&limit=30", by: appView},
		{call: "POST app.bsky.feed.sendInteractions", by: service, to: "generator", body: `{"interactions":[{"item":"at://{DID}/app.bsky.feed.post/3l2","event":"app.bsky.feed.defs#interactionSeen"}]}`},
		{call: "GET app.bsky.unspecced.getTrendingTopics?limit=14", by: appView},
		{call: "GET app.bsky.feed.getAuthorFeed?actor={DID}&filter=posts_and_author_threads&includePins=true&limit=30", by: appView},
		{call: "GET app.bsky.feed.getActorLikes?actor={DID}&limit=30", by: appView},
		{call: "GET app.bsky.feed.getPosts?uris=at%3A%2F%2F{DID}%2Fapp.bsky.feed.post%2F3l2", by: appView},
		{call: "GET app.bsky.feed.getPostThread?uri=at%3A%2F%2F{DID}%2Fapp.bsky.feed.post%2F3l2&depth=10", by: appView},
		{call: "GET app.bsky.unspecced.getPostThreadV2?anchor=at%3A%2F%2F{DID}%2Fapp.bsky.feed.post%2F3l2&above=true&below=10&branchingFactor=1&sort=top", by: appView},
		{call: "GET app.bsky.unspecced.getPostThreadOtherV2?anchor=at%3A%2F%2F{DID}%2Fapp.bsky.feed.post%2F3l2", by: appView},
	}},
	{"explore", []appCall{
		{call: "GET app.bsky.unspecced.getTrends?limit=5", by: appView},
		{call: "GET app.bsky.unspecced.getPopularFeedGenerators?limit=10", by: appView},
		{call: "GET app.bsky.unspecced.getSuggestedUsers?limit=10", by: appView},
		{call: "GET app.bsky.unspecced.getSuggestedStarterPacks?limit=10", by: appView},
		{call: "GET app.bsky.unspecced.getSuggestedFeeds?limit=10", by: appView},
		{call: "GET app.bsky.actor.getSuggestions?limit=6", by: appView},
		{call: "GET app.bsky.graph.getSuggestedFollowsByActor?actor={DID}", by: appView},
		{call: "GET app.bsky.feed.searchPosts?q=hello&limit=25&sort=top", by: appView},
		{call: "GET app.bsky.actor.searchActors?q=ali&limit=25", by: appView},
	}},
	{"notifications", []appCall{
		{call: "GET app.bsky.notification.getUnreadCount", by: appView},
		{call: "GET app.bsky.notification.listNotifications?limit=30", by: appView},
		{call: "GET app.bsky.notification.getPreferences", by: appView},
		{call: "POST app.bsky.notification.updateSeen", by: appView, body: `{"seenAt":"2026-01-02T03:04:05.000Z"}`},
	}},
	{"chat", []appCall{
		{call: "GET chat.bsky.convo.listConvos?limit=20&status=accepted", by: service, to: "chat"},
		{call: "GET chat.bsky.convo.getLog?cursor=2222222222222", by: service, to: "chat"},
	}},
	{"lists of the account", []appCall{
		{call: "GET app.bsky.graph.getFollows?actor={DID}&limit=30", by: appView},
		{call: "GET app.bsky.graph.getFollowers?actor={DID}&limit=30", by: appView},
		{call: "GET app.bsky.graph.getMutes?limit=30", by: appView},
		{call: "GET app.bsky.graph.getBlocks?limit=30", by: appView},
		{call: "GET app.bsky.graph.getLists?actor={DID}&limit=30", by: appView},
		{call: "GET app.bsky.graph.getListMutes?limit=30", by: appView},
		{call: "GET app.bsky.graph.getListBlocks?limit=30", by: appView},
		{call: "GET app.bsky.bookmark.getBookmarks?limit=30", by: appView},
	}},
	{"composer", []appCall{
		{call: "GET app.bsky.draft.getDrafts?limit=30", by: appView},
		{call: "GET app.bsky.actor.searchActorsTypeahead?q=ali&limit=8", by: appView},
		{call: "GET com.atproto.identity.resolveHandle?handle=alice.test"},
		{call: "GET com.atproto.server.getServiceAuth?aud=did:web:video.bsky.app&lxm=app.bsky.video.getUploadLimits"},
		{call: "POST com.atproto.repo.uploadBlob", body: "\x89PNG\r\n\x1a\n, or something like it", keep: (*phone).picture},
		{call: "POST com.atproto.repo.applyWrites", body: `{"repo":"{DID}","writes":[{"$type":"com.atproto.repo.applyWrites#create","collection":"app.bsky.feed.post","rkey":"3l2bbbbbbbb2b","value":{"$type":"app.bsky.feed.post","text":"Hello @alice.test","facets":[{"index":{"byteStart":6,"byteEnd":17},"features":[{"$type":"app.bsky.richtext.facet#mention","did":"{DID}"}]}],"embed":{"$type":"app.bsky.embed.images","images":[{"alt":"nothing","image":{BLOB},"aspectRatio":{"width":4,"height":3}}]},"langs":["en"],"createdAt":"2026-01-02T03:04:06.000Z"}},{"$type":"com.atproto.repo.applyWrites#create","collection":"app.bsky.feed.threadgate","rkey":"3l2bbbbbbbb2b","value":{"$type":"app.bsky.feed.threadgate","post":"at://{DID}/app.bsky.feed.post/3l2bbbbbbbb2b","allow":[{"$type":"app.bsky.feed.threadgate#mentionRule"}],"createdAt":"2026-01-02T03:04:06.000Z"}}],"validate":true}`},
		{call: "POST com.atproto.repo.createRecord", body: `{"repo":"{DID}","collection":"app.bsky.feed.post","record":{"$type":"app.bsky.feed.post","text":"and again","createdAt":"2026-01-02T03:04:07.000Z"}}`, keep: (*phone).post},
		{call: "POST com.atproto.repo.createRecord", body: `{"repo":"{DID}","collection":"app.bsky.feed.like","record":{"$type":"app.bsky.feed.like","subject":{"uri":"at://{DID}/app.bsky.feed.post/3l2bbbbbbbb2b","cid":"{CID}"},"createdAt":"2026-01-02T03:04:08.000Z"}}`},
		{call: "GET com.atproto.repo.listRecords?repo={DID}&collection=app.bsky.feed.post"},
	}},
	{"menu of a post", []appCall{
		{call: "POST com.atproto.moderation.createReport", by: service, to: "labeler", body: `{"reasonType":"com.atproto.moderation.defs#reasonSpam","subject":{"$type":"com.atproto.admin.defs#repoRef","did":"{DID}"},"reason":""}`},
		{call: "POST app.bsky.graph.muteActor", by: appView, body: `{"actor":"{LABELER}"}`},
		{call: "POST app.bsky.graph.muteThread", by: appView, body: `{"root":"at://{DID}/app.bsky.feed.post/3l2bbbbbbbb2b"}`},
		{call: "POST app.bsky.bookmark.createBookmark", by: appView, body: `{"uri":"at://{DID}/app.bsky.feed.post/3l2bbbbbbbb2b","cid":"{CID}"}`},
	}},
	{"signing out", []appCall{
		{call: "POST com.atproto.server.deleteSession"},
	}},
}

func (app *phone) session(a answer) {
	app.did, app.access, app.refresh = a.text("did"), a.text("accessJwt"), a.text("refreshJwt")
}
func (app *phone) picture(a answer) { app.blob = a.raw("blob") }
func (app *phone) post(a answer)    { app.cid = a.text("cid") }

// serviceIDs are what the services of TestScreensOfTheApp are called in the documents of
// their DIDs.
var serviceIDs = map[string]string{"app view": "bsky_appview", "generator": "bsky_fg", "chat": "bsky_chat", "labeler": "atproto_labeler"}

// From the first screen to a post that is sent, the app gets an answer to each of its
// calls from whom it ought to: from the account's server, or from the service that it names
// or the server knows, which gets the call as it was made. A server that knows no app view
// serves an app that names one, and tells others so, as the reference PDS does.
func TestScreensOfTheApp(t *testing.T) {
	for _, tt := range []struct {
		name         string
		known, named bool // the app view, by the server and by the app
	}{
		{"known app view, named as well", true, true},
		{"known app view", true, false},
		{"named app view", false, true},
		{"no app view", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			app := &phone{services: newServices(t), dids: map[string]syntax.DID{}, known: tt.known, named: tt.named}
			var view string // URL
			for name, id := range serviceIDs {
				did, origin := app.start(name, id, "Service", func(nsid string) string { return app.answers(name, nsid) })
				app.dids[name] = did
				if name == "app view" {
					view = origin
				}
			}
			var env []string
			if tt.known {
				env = []string{"PDS_BSKY_APP_VIEW_URL=" + view, "PDS_BSKY_APP_VIEW_DID=" + app.dids["app view"].String()}
			}
			p := startPlace(t, app.directory, app.directory, env...)
			for _, screen := range screens {
				for _, c := range screen.calls {
					if err := app.make(t, p, c); err != nil {
						t.Errorf("%s: %s: %v", screen.name, c.call, err)
					}
				}
			}
		})
	}
}

// answers is what the service of that name answers.
func (app *phone) answers(name, nsid string) string {
	switch nsid {
	case "com.atproto.repo.getRecord": // asked for the feed's
		return fmt.Sprintf(`{"uri":"at://%[1]s/app.bsky.feed.generator/whats-hot","value":{"did":%[1]q}}`, app.dids["generator"])
	case "com.atproto.moderation.createReport":
		return fmt.Sprintf(`{"id":1,"reasonType":"com.atproto.moderation.defs#reasonSpam","subject":{"$type":"com.atproto.admin.defs#repoRef","did":%[1]q},"reportedBy":%[1]q,"createdAt":"2026-01-02T03:04:05.000Z"}`, app.dids["labeler"])
	}
	return fmt.Sprintf(`{"answered":%q,"by":%q}`, nsid, name)
}

// make makes a call and looks at who answered.
func (app *phone) make(t *testing.T, p *place, c appCall) error {
	fill := strings.NewReplacer("{DID}", app.did, "{APPVIEW}", app.dids["app view"].String(), "{LABELER}", app.dids["labeler"].String(),
		"{FEED}", "at://"+app.dids["generator"].String()+"/app.bsky.feed.generator/whats-hot", "{BLOB}", app.blob, "{CID}", app.cid)
	call, body := fill.Replace(c.call), fill.Replace(c.body)
	verb, uri, _ := strings.Cut(call, " ")
	nsid, _, _ := strings.Cut(uri, "?")

	authorization := ""
	switch {
	case nsid == "com.atproto.server.refreshSession" || nsid == "com.atproto.server.deleteSession":
		authorization = "Bearer " + app.refresh
	case app.access != "":
		authorization = "Bearer " + app.access
	}
	proxy := ""
	switch {
	case c.to != "":
		proxy = app.dids[c.to].String() + "#" + serviceIDs[c.to]
	case app.named:
		proxy = app.dids["app view"].String() + "#bsky_appview"
	}
	got := p.ask(t, call, body, "Authorization", authorization, "Atproto-Proxy", proxy,
		"Atproto-Accept-Labelers", app.dids["labeler"].String()+";redact", "Accept-Language", "en", "X-Bsky-Topics", "cats")
	passed := app.take()

	to, audience, method := "app view", app.dids["app view"], nsid
	switch c.by {
	case here, nearby:
		if c.by == nearby && !app.known {
			break
		}
		if got.status != http.StatusOK || len(passed) != 0 {
			return fmt.Errorf("answered %d %s, passed on %+v", got.status, got.body, passed)
		}
		if c.keep != nil {
			c.keep(app, got)
		}
		return nil
	case unknown:
		if !strings.HasPrefix(got.refusal(), "400 RecordNotFound ") || len(passed) != 0 {
			return fmt.Errorf("answered %d %s, passed on %+v", got.status, got.body, passed)
		}
		return nil
	case service:
		to, audience = c.to, app.dids[c.to]
	case feed:
		if !app.known {
			break
		}
		// Nobody asks for the feed's record, which says whom the token is for.
		if len(passed) == 0 || !strings.HasPrefix(passed[0].uri, "/xrpc/com.atproto.repo.getRecord?") || passed[0].token.Iss != "" {
			return fmt.Errorf("passed on %+v", passed)
		}
		passed = passed[1:]
		audience, method = app.dids["generator"], "app.bsky.feed.getFeedSkeleton"
	}
	if to == "app view" && !app.known && !app.named {
		if want := "400 InvalidRequest No service configured for " + nsid; got.refusal() != want || len(passed) != 0 {
			return fmt.Errorf("answered %d %s, want %s; passed on %+v", got.status, got.body, want, passed)
		}
		return nil
	}
	if got.status != http.StatusOK || len(passed) != 1 {
		return fmt.Errorf("answered %d %s, passed on %+v", got.status, got.body, passed)
	}
	one := passed[0]
	if one.to != to || one.verb != verb || one.uri != "/xrpc/"+uri || one.body != body {
		return fmt.Errorf("passed on %s %s %q to %s", one.verb, one.uri, one.body, one.to)
	}
	if one.token.Iss != app.did || one.token.Aud != audience.String() || one.token.Lxm != method {
		return fmt.Errorf("token %+v", one.token)
	}
	return nil
}
