package bsky_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"portico/impl/servertest"
)

// embedded is the embed of the first post of a patched timeline; "" for none.
func (b *behind) embedded() string {
	b.Helper()
	var out struct {
		Feed []struct {
			Post struct{ Embed json.RawMessage }
		}
	}
	b.patched("feed.getTimeline").Decode(b, &out)
	return string(out.Feed[0].Post.Embed)
}

// What a post embeds is shown as the app view will: pictures where they can be had already,
// what it quotes as the app view knows it, in the caller's name, and no other kind.
func TestEmbedViews(t *testing.T) {
	b := newBehind(t)
	b.Bsky.ImageURL = "https://cdn.test/%s/%s/%s"
	b.says("feed.getTimeline", feed())
	picture, cid := b.upload("\x89PNG\r\n\x1a\npicture", "image/png")
	url := func(kind string) string {
		return `"https://cdn.test/` + kind + `/` + b.alice.DID.String() + `/` + cid + `"`
	}
	quotes := func(collection string) string {
		return `{"$type":"app.bsky.embed.record","record":{"uri":"at://` + bob.String() + `/` + collection + `/x","cid":"` + someCID + `"}}`
	}
	const post, list, generator = "app.bsky.feed.post", "app.bsky.graph.list", "app.bsky.feed.generator"
	images := `{"$type":"app.bsky.embed.images","images":[{"image":` + picture + `,"alt":"a","aspectRatio":{"width":1,"height":2}},{"image":` + picture + `,"alt":""}]}`
	imagesView := `{"$type":"app.bsky.embed.images#view","images":[{"thumb":` + url("feed_thumbnail") + `,"fullsize":` + url("feed_fullsize") +
		`,"alt":"a","aspectRatio":{"width":1,"height":2}},{"thumb":` + url("feed_thumbnail") + `,"fullsize":` + url("feed_fullsize") + `,"alt":""}]}`
	external := func(thumb string) string {
		return `{"$type":"app.bsky.embed.external","external":{"uri":"https://x.example/","title":"t","description":"d"` + thumb + `}}`
	}
	externalView := func(thumb string) string {
		return strings.Replace(external(thumb), `external"`, `external#view"`, 1)
	}
	notFound := func(collection string) string {
		return `{"$type":"app.bsky.embed.record#viewNotFound","uri":"at://` + bob.String() + `/` + collection + `/x","notFound":true}`
	}
	record := func(view string) string { return `{"$type":"app.bsky.embed.record#view","record":` + view + `}` }
	withMedia := func(media string) string {
		return `{"$type":"app.bsky.embed.recordWithMedia","record":` + quotes(post) + `,"media":` + media + `}`
	}
	video := `{"$type":"app.bsky.embed.video","video":` + strings.Replace(picture, "image/png", "video/mp4", 1) + `}`
	gallery := `{"$type":"app.bsky.embed.gallery","items":[{"$type":"app.bsky.embed.gallery#image","image":` + picture + `,"alt":"a","aspectRatio":{"width":1,"height":2}}]}`

	hisEmbed := `{"$type":"app.bsky.embed.external#view","external":{"uri":"https://y.example/","title":"","description":""},"more":1}`
	his := `{"uri":"` + uriOf("x", bob) + `","cid":"` + someCID + `","author":` + author(bob, "") + `,"record":{"text":"his"},"embed":` + hisEmbed +
		`,"labels":[],"likeCount":4,"indexedAt":"` + at(0) + `"}`
	hisView := `{"$type":"app.bsky.embed.record#viewRecord","uri":"` + uriOf("x", bob) + `","cid":"` + someCID + `","author":` + author(bob, "") +
		`,"value":{"text":"his"},"labels":[],"embeds":[` + hisEmbed + `],"indexedAt":"` + at(0) + `"}`
	listFields := `"uri":"at://` + bob.String() + `/` + list + `/x","cid":"` + someCID + `","creator":` + author(bob, "") + `,"name":"l","purpose":"app.bsky.graph.defs#curatelist","indexedAt":"` + at(0) + `","more":1}`
	generatorFields := `"uri":"at://` + bob.String() + `/` + generator + `/x","cid":"` + someCID + `","did":"did:web:feeds.example","creator":` + author(bob, "") + `,"displayName":"f","indexedAt":"` + at(0) + `"}`
	b.says("feed.getPosts", `{"posts":[`+his+`]}`)
	b.says("graph.getList", `{"list":{`+listFields+`,"items":[]}`)
	b.says("feed.getFeedGenerator", `{"view":{"$type":"app.bsky.feed.defs#generatorView",`+generatorFields+`,"isOnline":true,"isValid":true}`)

	for _, tt := range []struct{ name, embed, want, asks string }{
		{"images", images, imagesView, ""},
		{"a link", external(""), externalView(""), ""},
		{"a link with a picture", external(`,"thumb":` + picture), externalView(`,"thumb":` + url("feed_thumbnail")), ""},
		{"a post", quotes(post), record(hisView), "feed.getPosts?uris=at%3A%2F%2F" + strings.ReplaceAll(bob.String(), ":", "%3A") + "%2Fapp.bsky.feed.post%2Fx"},
		{"a list", quotes(list), record(`{"$type":"app.bsky.graph.defs#listView",` + listFields), "graph.getList?limit=50&list=at%3A%2F%2F" + strings.ReplaceAll(bob.String(), ":", "%3A") + "%2Fapp.bsky.graph.list%2Fx"},
		{"a generator", quotes(generator), record(`{"$type":"app.bsky.feed.defs#generatorView",` + generatorFields), "feed.getFeedGenerator?feed=at%3A%2F%2F" + strings.ReplaceAll(bob.String(), ":", "%3A") + "%2Fapp.bsky.feed.generator%2Fx"},
		{"a labeler", quotes("app.bsky.labeler.service"), record(notFound("app.bsky.labeler.service")), ""},
		{"a post with images", withMedia(images), `{"$type":"app.bsky.embed.recordWithMedia#view","record":{"record":` + hisView + `},"media":` + imagesView + `}`, "feed.getPosts"},
		{"a post with a link", withMedia(external("")), `{"$type":"app.bsky.embed.recordWithMedia#view","record":{"record":` + hisView + `},"media":` + externalView("") + `}`, "feed.getPosts"},
		{"a post with a gallery", withMedia(gallery), "", ""},
		{"a gallery", gallery, "", ""},
		{"a post with a video", withMedia(video), "", ""},
		{"a video", video, "", ""},
		{"what nobody knows", `{"$type":"com.example.embed","a":1}`, "", ""},
	} {
		w := b.post(tt.name, `,"embed":`+tt.embed)
		b.AppView.Asked()
		got := b.embedded()
		if asked := b.AppView.Asked(); tt.asks == "" && len(asked) > 1 || tt.asks != "" && !strings.HasPrefix(asked[len(asked)-1].URL.RequestURI(), "/xrpc/app.bsky."+tt.asks) {
			t.Errorf("%s: asked %d times, last %s", tt.name, len(asked), asked[len(asked)-1].URL.RequestURI())
		} else if auth := asked[len(asked)-1].Header.Get("Authorization"); !strings.HasPrefix(auth, "Bearer ey") || auth == b.alice.Access {
			t.Errorf("%s: asked with %q", tt.name, auth)
		}
		if tt.want == "" && got != "" {
			t.Errorf("%s: %s", tt.name, got)
		} else if tt.want != "" {
			b.same(got, tt.want)
		}
		b.seen(w.Commit.Rev)
	}

	// A post that the app view does not know either is not found; when it does not say, the
	// answer is not patched.
	b.says("feed.getPosts", `{"posts":[]}`)
	b.post("last", `,"embed":`+quotes(post))
	b.same(b.embedded(), record(notFound(post)))
	for name, answer := range map[string]http.HandlerFunc{
		"refused":  servertest.Answers(400, `{"error":"InvalidRequest","message":"secret of another"}`),
		"broken":   servertest.Answers(500, ``),
		"no posts": servertest.Answers(200, `{"posts":[{}]}`),
		"no JSON":  servertest.Answers(200, `<`),
		"large":    servertest.Answers(200, `{"posts":[],"x":"`+strings.Repeat("x", 1<<20)+`"}`),
	} {
		b.saysWith("feed.getPosts", answer)
		a := b.ask("feed.getTimeline")
		if b.asItCame(a, feed()); a.Header.Get("Atproto-Repo-Rev") == "" {
			t.Errorf("%s: %v", name, a.Header)
		}
		if !strings.Contains(b.Logged.String(), `level=WARN msg="answer of the app view not patched" method=app.bsky.feed.getTimeline did=`+b.alice.DID.String()) {
			t.Errorf("%s: nothing logged", name)
		}
	}
}

// Many posts are shown at the same time, and in their order.
func TestQuotesAreAskedForAtOnce(t *testing.T) {
	b := newBehind(t)
	b.says("feed.getTimeline", feed())
	for _, name := range strings.Fields("1 2 3 4 5 6") {
		b.post(name, `,"embed":{"$type":"app.bsky.embed.record","record":{"uri":"`+uriOf("x", bob)+`","cid":"`+someCID+`"}}`)
	}
	all := make(chan bool)
	b.saysWith("feed.getPosts", func(w http.ResponseWriter, r *http.Request) {
		// Nobody is answered before all have asked.
		select {
		case all <- true:
		case <-all:
		}
		servertest.Answers(200, `{"posts":[]}`)(w, r)
	})
	if got := order(t, b.patched("feed.getTimeline")); got != "[6 5 4 3 2 1]" {
		t.Error(got)
	}
}
