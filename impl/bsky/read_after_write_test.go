package bsky_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"

	"portico/impl/servertest"
)

// What alice sees of herself has what she wrote since; unknown fields and everybody else stay
// as they came.
func TestProfileIsPatched(t *testing.T) {
	b := newBehind(t)
	avatar, avatarCID := b.upload("\x89PNG\r\n\x1a\navatar", "image/png")
	banner, bannerCID := b.upload("\x89PNG\r\n\x1a\nbanner", "image/png")
	b.profile(`{"displayName":"Alice <3","description":"new \"one\"","avatar":` + avatar + `,"banner":` + banner + `}`)
	b.Advance(1500e6)

	hers := `{"did":"` + b.alice.DID.String() + `","handle":"alice.test","displayName":"Old","avatar":"https://old.example/a","followersCount":3,"unknown":{"x":[1.0,null]}}`
	url := func(cid string) string {
		return `"https://pds.test/xrpc/com.atproto.sync.getBlob?did=` + b.alice.DID.String() + `&cid=` + cid + `"`
	}
	want := `{"did":"` + b.alice.DID.String() + `","handle":"alice.test","displayName":"Alice <3","avatar":` + url(avatarCID) +
		`,"description":"new \"one\"","banner":` + url(bannerCID) + `,"followersCount":3,"unknown":{"x":[1.0,null]}}`
	b.says("actor.getProfile", hers)
	a := b.patched("actor.getProfile?actor=alice.test")
	b.same(a.Body, want)
	if lag := a.Header.Get("Atproto-Upstream-Lag"); lag != "1500" {
		t.Errorf("lag %s, want 1500", lag)
	}
	b.says("actor.getProfiles", `{"profiles":[`+author(bob, "")+`,`+hers+`,`+author(carol, "")+`],"n":1}`)
	a = b.patched("actor.getProfiles?actors[]=alice.test&actors[1]=bob.test&actors=carol.test")
	b.same(a.Body, `{"profiles":[`+author(bob, "")+`,`+want+`,`+author(carol, "")+`],"n":1}`)
	b.says("actor.getProfile", author(bob, ""))
	b.same(b.patched("actor.getProfile?actor=bob.test").Body, author(bob, ""))

	// The pattern of the app view, and what the record has no more.
	b.Bsky.ImageURL = "https://cdn.test/%s/%s/%s@jpeg"
	b.profile(`{"avatar":` + avatar + `}`)
	b.says("actor.getProfile", hers)
	b.same(b.patched("actor.getProfile?actor=alice.test").Body, `{"did":"`+b.alice.DID.String()+`","handle":"alice.test","avatar":"https://cdn.test/avatar/`+
		b.alice.DID.String()+`/`+avatarCID+`@jpeg","followersCount":3,"unknown":{"x":[1.0,null]}}`)
}

// Posts come before the first item that is older, the newest first, and at the end where
// there is none; those that are older than the last item are left to the next page.
func TestTimelineIsPatched(t *testing.T) {
	b := newBehind(t) // the first record is of second 1
	b.post("two")
	b.post("three")
	b.post("four")
	for name, tt := range map[string]struct{ feed, want string }{
		"among others": {feed(item("z", bob, 9, ""), item("y", bob, 3, ""), item("x", bob, 0, "")), "[z four y three two x]"},
		"behind":       {feed(item("z", bob, 9, ""), item("y", bob, 2, "")), "[z four three y]"},
		"none":         {feed(item("z", bob, 9, "")), "[z]"},
		"empty":        {feed(), "[four three two]"},
		"not in order": {feed(item("z", bob, 3, ""), item("y", bob, 9, ""), item("x", bob, 0, "")), "[four z y three two x]"},
		"first":        {feed(item("z", bob, 1, `,"reason":{"$type":"app.bsky.feed.defs#reasonPin"}`)), "[four three two z]"},
	} {
		b.says("feed.getTimeline", tt.feed)
		if a := b.patched("feed.getTimeline?limit=3"); order(t, a) != tt.want || !strings.Contains(a.Body, `"cursor":"next"`) || !strings.Contains(a.Body, `"more":null`) {
			t.Errorf("%s: %s, want %s", name, order(t, a), tt.want)
		}
	}
}

// A post that is made here has what contract §4.2 says, byte for byte where it was written.
func TestPostView(t *testing.T) {
	b := newBehind(t)
	b.says("feed.getTimeline", feed())
	w := b.post(`a <b> & \u2028`, `,"unknown":{"n":[1]}`)
	view := func(author string) string {
		return `{"cursor":"next","feed":[{"post":{"uri":"` + w.URI + `","cid":"` + w.CID + `","author":` + author + `,` +
			`"record":{"$type":"app.bsky.feed.post","text":"a <b> & \u2028","createdAt":"2026-03-01T12:00:00.000Z","unknown":{"n":[1]}},` +
			`"replyCount":0,"repostCount":0,"likeCount":0,"quoteCount":0,"indexedAt":"` + at(2) + `"}}],"more":null}`
	}
	b.same(b.patched("feed.getTimeline").Body, view(`{"did":"`+b.alice.DID.String()+`","handle":"alice.test"}`))
	// The profile counts whether it is new or not.
	b.profile(`{"displayName":"Alice"}`)
	b.same(b.patched("feed.getTimeline").Body, view(`{"did":"`+b.alice.DID.String()+`","handle":"alice.test","displayName":"Alice"}`))
}

// In her own feed alice is shown as she is now, and what she posted is put in; in that of
// others, and in one that begins with another's post, nothing is.
func TestAuthorFeedIsPatched(t *testing.T) {
	b := newBehind(t)
	b.post("new")
	b.profile(`{"displayName":"Alice"}`)
	repost := func(by string) string {
		return `,"reason":{"$type":"app.bsky.feed.defs#reasonRepost","by":` + by + `,"indexedAt":"` + at(1) + `"}`
	}
	pin := `,"reason":{"$type":"app.bsky.feed.defs#reasonPin"}`
	old, other := item("old", b.alice.DID, 1, ""), item("other", bob, 1, repost(author(b.alice.DID, "")))
	for name, tt := range map[string]struct {
		feed, want string
		authors    int // that are shown anew
	}{
		"her post":         {feed(old, other), "[new old other]", 2},
		"her repost":       {feed(other, old), "[new other old]", 2},
		"another's post":   {feed(item("his", bob, 1, ""), old), "[his old]", 0},
		"another's repost": {feed(item("hers", b.alice.DID, 1, repost(author(bob, ""))), old), "[hers old]", 0},
		"a pinned one":     {feed(item("pinned", b.alice.DID, 1, pin), old), "[pinned old]", 0},
		"empty":            {feed(), "[]", 0},
	} {
		b.says("feed.getAuthorFeed", tt.feed)
		a := b.patched("feed.getAuthorFeed?actor=alice.test")
		if n := strings.Count(a.Body, `"displayName":"Alice"`); order(t, a) != tt.want || n != tt.authors {
			t.Errorf("%s: %s with %d new authors, want %s with %d\n%s", name, order(t, a), n, tt.want, tt.authors, a.Body)
		}
	}
	b.says("feed.getActorLikes", feed(item("his", bob, 1, ""), old, other))
	a := b.patched("feed.getActorLikes?actor=alice.test")
	fresh := strings.Replace(old, `,"displayName":"Old","avatar":"https://old.example/a"`, `,"displayName":"Alice"`, 1)
	b.same(a.Body, feed(item("his", bob, 1, ""), fresh, other))
}

// The first ten records since the revision are looked at, whatever they are; what comes
// later the app view is to see for itself.
func TestTenRecordsArePatchedIn(t *testing.T) {
	b := newBehind(t)
	b.says("feed.getTimeline", feed())
	for _, name := range strings.Fields("1 2 3 4 5 6 7 8 9") {
		b.post(name)
	}
	b.profile(`{"displayName":"Alice"}`)
	if got, want := order(t, b.patched("feed.getTimeline")), "[9 8 7 6 5 4 3 2 1]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	b.profile(`{"displayName":"Later"}`) // which is the tenth again
	b.post("10")
	b.says("actor.getProfile", author(b.alice.DID, ""))
	if a := b.patched("actor.getProfile?actor=alice.test"); !strings.Contains(a.Body, `"Later"`) {
		t.Errorf("tenth: %s", a.Body)
	}
	if got, want := order(t, b.patched("feed.getTimeline")), "[9 8 7 6 5 4 3 2 1]"; got != want {
		t.Errorf("eleventh: %s, want %s", got, want)
	}
	b.profile(`{"displayName":"Last"}`) // which is now the eleventh
	if a := b.patched("actor.getProfile?actor=alice.test"); strings.Contains(a.Body, `"Last"`) {
		t.Errorf("eleventh: %s", a.Body)
	}
}

// What is deleted leaves no trace, nor does what a moderator took down, or what no app view
// takes for a post.
func TestOnlyWhatThereIsIsPatchedIn(t *testing.T) {
	b := newBehind(t)
	b.says("feed.getTimeline", feed())
	deleted, down := b.post("deleted"), b.post("taken down")
	b.Accepted(b.Post("com.atproto.repo.createRecord", `{"repo":"alice.test","collection":"app.bsky.feed.post","validate":false,"record":{"text":1}}`, b.alice.Access))
	b.Accepted(b.Post("com.atproto.repo.deleteRecord", `{"repo":"alice.test","collection":"app.bsky.feed.post","rkey":"`+deleted.URI[strings.LastIndex(deleted.URI, "/")+1:]+`"}`, b.alice.Access))
	b.Accepted(b.Post("com.atproto.admin.updateSubjectStatus", `{"subject":{"$type":"com.atproto.repo.strongRef","uri":"`+down.URI+`","cid":"`+down.CID+`"},"takedown":{"applied":true}}`, servertest.Admin))
	b.asItCame(b.ask("feed.getTimeline"), feed())
	b.post("left")
	if got, want := order(t, b.patched("feed.getTimeline")), "[left]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// Nothing is patched, and nothing read, where the app view is not behind, does not say what
// it has seen, has seen less than there ever was here, or answers something else.
func TestAnswerIsPassedOnAsItCame(t *testing.T) {
	b := newBehind(t)
	text := " " + feed(item("x", bob, 1, "")) + "\n"
	b.says("feed.getTimeline", text)
	check := func(name, rev string) {
		t.Helper()
		b.seen(rev)
		a := b.ask("feed.getTimeline")
		if b.asItCame(a, text); a.Header.Get("Atproto-Repo-Rev") != rev {
			t.Errorf("%s: %v", name, a.Header)
		}
	}
	check("nothing since", b.first.Commit.Rev)
	like := b.write("app.bsky.feed.repost", "", `{"subject":{"uri":"at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/app.bsky.feed.post/3jui7kd54zh2y","cid":"`+someCID+`"},"createdAt":"2026-03-01T12:00:00.000Z"}`)
	check("a repost since", b.first.Commit.Rev)
	post := b.post("new")
	check("all seen", post.Commit.Rev)
	check("more than all", "zzzzzzzzzzzzz")
	check("an account that moved in", "2222222222222")
	check("no revision", "")
	b.seen(like.Commit.Rev)
	if got := order(t, b.patched("feed.getTimeline")); got != "[new x]" {
		t.Errorf("after that: %s", got)
	}

	if a := b.Call("HEAD", "app.bsky.feed.getTimeline", "", b.alice.Access); a.Status != 200 || a.Body != "" || a.Header.Get("Atproto-Repo-Rev") == "" {
		t.Errorf("HEAD: %d %v %q", a.Status, a.Header, a.Body)
	}
	if asked := b.AppView.Asked(); asked[len(asked)-1].Method != "HEAD" {
		t.Errorf("HEAD came as %s", asked[len(asked)-1].Method)
	}
	for name, tt := range map[string]struct{ kind, body string }{
		"a page":             {"text/html", "<p>hello"},
		"no JSON":            {"application/json", `{"feed":[`},
		"not by the lexicon": {"application/json", `{"feed":[{"post":{}}]}`},
		"nothing":            {"application/json", ""},
		"too deep":           {"application/json", `{"feed":[],"a":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`},
	} {
		b.saysWith("feed.getTimeline", servertest.Answers(200, tt.body, "Content-Type", tt.kind))
		a := b.ask("feed.getTimeline")
		if b.asItCame(a, tt.body); a.Header.Get("Content-Type") != tt.kind || a.Header.Get("Atproto-Repo-Rev") == "" {
			t.Errorf("%s: %v", name, a.Header)
		}
	}
}

// An answer that is compressed goes on as it is where nothing is to patch, and is patched
// where something is.
func TestCompressedAnswer(t *testing.T) {
	b := newBehind(t)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write([]byte(feed(item("x", bob, 0, ""))))
	z.Close()
	b.saysWith("feed.getTimeline", servertest.Answers(200, packed.String(), "Content-Encoding", "gzip"))
	if a := b.ask("feed.getTimeline", "Accept-Encoding: gzip"); a.Body != packed.String() || a.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("as it came: %v %q", a.Header, a.Body)
	}
	b.post("new")
	if a := b.patched("feed.getTimeline", "Accept-Encoding: br, gzip"); order(t, a) != "[new x]" {
		t.Errorf("patched: %v %s", a.Header, a.Body)
	}
	asked := b.AppView.Asked()
	if got := asked[len(asked)-1].Header.Get("Accept-Encoding"); got != "identity;q=1,gzip;q=0.3,br;q=0.1" {
		t.Errorf("asked for %s", got)
	}
	// What was read, and cannot be patched, is passed on unpacked.
	packed.Reset()
	z.Reset(&packed)
	z.Write([]byte(`{"feed":1}`))
	z.Close()
	b.saysWith("feed.getTimeline", servertest.Answers(200, packed.String(), "Content-Encoding", "gzip"))
	a := b.ask("feed.getTimeline", "Accept-Encoding: gzip")
	if b.asItCame(a, `{"feed":1}`); a.Header.Get("Content-Encoding") != "" || a.Header.Get("Atproto-Repo-Rev") == "" {
		t.Errorf("unpacked: %v", a.Header)
	}
}

// Whatever encoding a client accepts and the app view chooses, and however many lie on each
// other, the answer is patched, and comes uncompressed.
func TestPackedAnswersArePatched(t *testing.T) {
	b := newBehind(t)
	b.post("new")
	for _, tt := range []struct{ accept, asked, encoding string }{
		{"br", "identity;q=1,br;q=0.1", "br"},
		{"br, identity;q=0", "br;q=0.1,*;q=0", "br"},
		{"gzip", "identity;q=1,gzip;q=0.3", "gzip"},
		{"deflate", "identity;q=1,deflate;q=0.2", "deflate"},
		{"gzip, br", "identity;q=1,gzip;q=0.3,br;q=0.1", "gzip, br"},
		{"identity", "identity;q=1", "br"}, // which was not asked for
	} {
		b.saysWith("feed.getTimeline", servertest.Answers(200, packed(feed(item("x", bob, 0, "")), tt.encoding), "Content-Encoding", tt.encoding))
		b.AppView.Asked()
		a := b.patched("feed.getTimeline", "Accept-Encoding: "+tt.accept)
		if order(t, a) != "[new x]" || a.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: %v %s", tt.accept, a.Header, a.Body)
		}
		if asked := b.AppView.Asked(); len(asked) != 1 || asked[0].Header.Get("Accept-Encoding") != tt.asked {
			t.Errorf("%s: asked for %q", tt.accept, asked[0].Header["Accept-Encoding"])
		}
	}
	// Where there is nothing to patch, it stays packed.
	b.seen("zzzzzzzzzzzzz")
	text := packed(feed(), "br")
	b.saysWith("feed.getTimeline", servertest.Answers(200, text, "Content-Encoding", "br"))
	a := b.ask("feed.getTimeline", "Accept-Encoding: br")
	if b.asItCame(a, text); a.Header.Get("Content-Encoding") != "br" {
		t.Errorf("as it came: %v", a.Header)
	}
}

// packed is text in some encodings, the first below.
func packed(text, encodings string) string {
	for name := range strings.SplitSeq(encodings, ", ") {
		var b bytes.Buffer
		var w io.WriteCloser
		switch name {
		case "gzip":
			w = gzip.NewWriter(&b)
		case "deflate":
			w = zlib.NewWriter(&b)
		case "br":
			w = brotli.NewWriter(&b)
		}
		io.WriteString(w, text)
		w.Close()
		text = b.String()
	}
	return text
}

// An answer that breaks off, or is larger than answers may be, is one that nobody got.
func TestAnswerThatCannotBeRead(t *testing.T) {
	b := newBehind(t)
	b.post("new")
	for name, answer := range map[string]http.HandlerFunc{
		"breaks off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "1000")
			w.Write([]byte(`{"feed":[`))
		},
		"not packed": servertest.Answers(200, feed(), "Content-Encoding", "br"),
		"broken":     servertest.Answers(200, packed(feed(item("x", bob, 0, "")), "br")[:99], "Content-Encoding", "br"),
		"unheard of": servertest.Answers(200, feed(), "Content-Encoding", "zstd"),
		"too large":  servertest.Answers(200, `{"feed":[],"x":"`+strings.Repeat("x", 10<<20)+`"}`),
	} {
		b.saysWith("feed.getTimeline", answer)
		if a := b.ask("feed.getTimeline"); a.Outcome() != `502 UpstreamFailure "unable to decode request body"` {
			t.Errorf("%s: %s", name, a.Outcome())
		}
	}
}
