package bsky_test

import (
	"strings"
	"testing"

	"portico/impl/account/token"
	"portico/impl/proxy"
	"portico/impl/servertest"
)

// patches are the six queries whose answers are patched, with parameters.
var patches = []string{
	"actor.getProfile?actor=alice.test", "actor.getProfiles?actors=alice.test", "feed.getActorLikes?actor=alice.test",
	"feed.getAuthorFeed?actor=alice.test", "feed.getPostThread?uri=at://alice.test/app.bsky.feed.post/x", "feed.getTimeline?limit=5",
}

// An account that its owner deactivated still reads, with what it wrote; of one that was
// taken down, and of strangers, nobody is asked.
func TestWhoseAnswersArePatched(t *testing.T) {
	b := newBehind(t)
	b.post("new")
	b.says("feed.getTimeline", feed())
	b.Deactivate(b.alice.DID)
	if got := order(t, b.patched("feed.getTimeline")); got != "[new]" {
		t.Errorf("deactivated: %s", got)
	}
	b.AppView.Asked()
	for _, query := range patches {
		b.Refused(b.Get("app.bsky."+query), 401, "AuthMissing", "Authentication Required")
		b.Refused(b.Get("app.bsky."+query, b.Scoped(b.alice, token.Takendown)), 400, "InvalidToken", "Bad token scope")
	}
	b.TakeDown(b.alice.DID)
	for _, query := range patches {
		b.Refused(b.ask(query), 401, "AccountTakedown", "Account has been taken down")
	}
	if n := len(b.AppView.Asked()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// Parameters that do not fit the lexicon are refused with its words, and nobody is asked.
func TestBadParamsOfPatches(t *testing.T) {
	b := newBehind(t)
	for query, want := range map[string]string{
		"feed.getTimeline?limit=101":                    `integer too big (maximum 100, got 101)`,
		"feed.getTimeline?limit=0":                      `integer too small (minimum 1, got 0)`,
		"feed.getTimeline?limit=many":                   `Expected integer value type (got "many")`,
		"feed.getAuthorFeed":                            `Missing required key "actor"`,
		"feed.getAuthorFeed?actor=a_b":                  `Invalid AT identifier (got "a_b")`,
		"feed.getActorLikes?limit=5":                    `Missing required key "actor"`,
		"feed.getActorLikes?actor=alice.test&limit=101": `integer too big (maximum 100, got 101)`,
		"feed.getPostThread":                            `Missing required key "uri"`,
		"feed.getPostThread?uri=x":                      `Invalid at-uri (got "x")`,
		"feed.getPostThread?uri=at://alice.test/app.bsky.feed.post/x&depth=1001": `integer too big (maximum 1000, got 1001)`,
		"actor.getProfile":               `Missing required key "actor"`,
		"actor.getProfile?actor=":        `Missing required key "actor"`,
		"actor.getProfiles":              `Missing required key "actors"`,
		"actor.getProfiles?actors[]=a_b": `Invalid AT identifier (got "a_b")`,
		"actor.getProfiles?actors=a.test" + strings.Repeat("&actors=a.test", 25): `array too big (maximum 25, got 26)`,
	} {
		method, _, _ := strings.Cut(query, "?")
		b.Refused(b.ask(query), 400, "InvalidRequest", "Invalid app.bsky."+method+" params: "+want)
	}
	if n := len(b.AppView.Asked()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// The header atproto-proxy says who is asked, with a token for it; the answer is patched
// all the same. What a new post quotes the app view is asked for.
func TestAnswerOfAnotherServiceIsPatched(t *testing.T) {
	b := newBehind(t)
	b.post("new", `,"embed":{"$type":"app.bsky.embed.record","record":{"uri":"`+uriOf("x", bob)+`","cid":"`+someCID+`"}}`)
	b.says("feed.getPosts", `{"posts":[`+postView("x", bob, 0, "")+`]}`)
	other := b.NewUpstream("did:web:other.example", "another_view")
	other.Says(servertest.Answers(200, feed(item("x", bob, 0, "")), "Atproto-Repo-Rev", b.first.Commit.Rev))
	a := b.patched("feed.getTimeline?limit=3", "Atproto-Proxy: did:web:other.example#another_view")
	if got := order(t, a); got != "[new x]" || !strings.Contains(a.Body, "app.bsky.embed.record#viewRecord") {
		t.Errorf("%s: %s", got, a.Body)
	}
	there, here := other.Asked(), b.AppView.Asked()
	if len(there) != 1 || len(here) != 1 {
		t.Fatalf("%d requests there, %d to the app view", len(there), len(here))
	}
	if c := claims(t, there[0]); there[0].RequestURI != "/xrpc/app.bsky.feed.getTimeline?limit=3" || c.Iss != b.alice.DID.String() || c.Aud != "did:web:other.example" || c.Lxm != "app.bsky.feed.getTimeline" {
		t.Errorf("there: %s, %+v", there[0].RequestURI, c)
	}
	if c := claims(t, here[0]); here[0].URL.Path != "/xrpc/app.bsky.feed.getPosts" || c.Aud != "did:web:appview.example" || c.Lxm != "app.bsky.feed.getPosts" {
		t.Errorf("here: %s, %+v", here[0].RequestURI, c)
	}

	// Its revision is what counts, and without one its answer stays as it is.
	other.Says(servertest.Answers(200, feed()))
	b.asItCame(b.ask("feed.getTimeline", "Atproto-Proxy: did:web:other.example#another_view"), feed())
	b.Refused(b.ask("feed.getTimeline", "Atproto-Proxy: did:web:other.example#"+proxy.AppViewID), 400, "InvalidRequest", "could not resolve proxy did service url")
	if n := len(b.AppView.Asked()); n != 0 {
		t.Errorf("%d requests to the app view", n)
	}
}
