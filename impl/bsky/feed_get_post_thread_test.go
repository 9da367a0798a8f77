package bsky_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"portico/impl/servertest"
)

// node is a post in a thread, with the fields behind it.
func node(view string, replies ...string) string {
	below := ""
	if replies != nil {
		below = `,"replies":[` + strings.Join(replies, ",") + `]`
	}
	return `{"$type":"app.bsky.feed.defs#threadViewPost","post":` + view + below + `,"threadContext":{},"more":1}`
}

func replyTo(root, parent string) string {
	ref := func(uri string) string { return `{"uri":"` + uri + `","cid":"` + someCID + `"}` }
	return `,"reply":{"root":` + ref(root) + `,"parent":` + ref(parent) + `}`
}

// shape is a thread as the texts of its posts: what is above, the post, and what is below.
func shape(t testing.TB, a servertest.Answer) string {
	t.Helper()
	type post struct {
		Type    string `json:"$type"`
		URI     string
		Post    struct{ Record struct{ Text string } }
		Parent  json.RawMessage
		Replies []json.RawMessage
	}
	var show func(raw json.RawMessage) string
	show = func(raw json.RawMessage) string {
		var p post
		if err := json.Unmarshal(raw, &p); err != nil {
			t.Fatal(err)
		}
		s := p.Post.Record.Text
		if p.Parent != nil {
			s = show(p.Parent) + "<" + s
		}
		if p.Replies != nil {
			var below []string
			for _, r := range p.Replies {
				below = append(below, show(r))
			}
			s += fmt.Sprint(below)
		}
		return s
	}
	var out struct{ Thread json.RawMessage }
	a.Decode(t, &out)
	return show(out.Thread)
}

// New replies come first among those of their parent, at any depth, the newest first; what is
// of another thread, or replies to nobody who is there, stays away.
func TestThreadIsPatched(t *testing.T) {
	b := newBehind(t)
	root, reply := uriOf("root", bob), uriOf("reply", carol)
	one := b.post("one", replyTo(root, root))
	b.post("two", replyTo(root, reply))
	b.post("three", replyTo(root, one.URI))
	b.post("four", replyTo(root, root))
	b.post("lost", replyTo(root, uriOf("unknown", bob)))
	b.post("foreign", replyTo(uriOf("other", bob), root))
	b.post("no reply")

	rootView, replyView := postView("root", bob, 0, ""), postView("reply", carol, 0, replyTo(root, root))
	blocked := `{"$type":"app.bsky.feed.defs#blockedPost","uri":"` + uriOf("y", bob) + `","blocked":true,"author":{"did":"` + bob.String() + `"}}`
	for name, tt := range map[string]struct{ thread, want string }{
		"at any depth":   {node(rootView, blocked, node(replyView, node(postView("deep", bob, 0, "")))), "root[four one[three]  reply[two deep]]"},
		"no replies yet": {node(rootView), "root[four one[three]]"},
		"none":           {node(rootView, []string{}...), "root[four one[three]]"},
		"empty":          {strings.Replace(node(rootView, "X"), "X", "", 1), "root[four one[three]]"},
		// In the part of it below a reply only what is there is replied to.
		"below a reply": {node(replyView), "reply[two]"},
		"seen already":  {node(rootView, node(strings.Replace(postView("one", bob, 3, ""), uriOf("one", bob), one.URI, 1))), "root[four one[three]]"},
	} {
		b.says("feed.getPostThread", `{"thread":`+tt.thread+`,"threadgate":{"lists":[]},"x":1}`)
		a := b.patched("feed.getPostThread?uri=" + url.QueryEscape(root) + "&depth[]=6")
		if got := shape(t, a); got != tt.want || !strings.Contains(a.Body, `"threadgate":{"lists":[]},"x":1`) || !strings.Contains(a.Body, `"more":1`) {
			t.Errorf("%s: %s, want %s\n%s", name, got, tt.want, a.Body)
		}
	}
	for _, other := range []string{blocked, `{"$type":"com.example.thread"}`} {
		b.says("feed.getPostThread", `{"thread":`+other+`}`)
		b.same(b.patched("feed.getPostThread?uri="+url.QueryEscape(root)).Body, `{"thread":`+other+`}`)
	}
}

// A new post of the caller that the app view does not know has its thread made here: what is
// new below it, and above it what the app view says of its parent.
func TestThreadThatTheAppViewDoesNotKnow(t *testing.T) {
	b := newBehind(t)
	root := uriOf("root", bob)
	alone := b.post("alone")
	b.post("below", replyTo(alone.URI, alone.URI))
	parent := b.post("parent", replyTo(root, root))
	b.post("child", replyTo(root, parent.URI))
	var height string
	say := func(status int, body string) {
		notFound := servertest.Answers(status, `{"error":"NotFound","message":"Post not found: x"}`)
		b.saysWith("feed.getPostThread", func(w http.ResponseWriter, r *http.Request) {
			if q := r.URL.Query(); q.Get("depth") == "0" {
				height = q.Get("uri") + " " + q.Get("parentHeight")
				servertest.Answers(200, body)(w, r)
				return
			}
			notFound(w, r)
		})
	}
	say(400, `{"thread":`+node(postView("root", bob, 0, ""))+`}`)
	key := func(uri string) string { return uri[strings.LastIndex(uri, "/")+1:] }
	if got := shape(t, b.patched("feed.getPostThread?uri="+alone.URI)); got != "alone[below]" || height != "" {
		t.Errorf("%s, parents %q", got, height)
	}
	a := b.patched("feed.getPostThread?parentHeight=7&uri=at://ALICE.test/app.bsky.feed.post/" + key(parent.URI))
	if got := shape(t, a); got != "root<parent[child]" || height != root+" 7" || a.Header.Get("Atproto-Upstream-Lag") != "3000" {
		t.Errorf("%s, parents %q, %v", got, height, a.Header)
	}
	// What the app view says of the parent is left out where it says nothing of use.
	for _, body := range []string{`{}`, `<`, `{"thread":{"$type":"x","a":` + strings.Repeat("[", 126) + strings.Repeat("]", 126) + `}}`} {
		say(404, body)
		if got := shape(t, b.patched("feed.getPostThread?uri="+parent.URI)); got != "parent[child]" {
			t.Errorf("%.20s: %s", body, got)
		}
	}
	// Of all others it is the app view that knows.
	refused := func(name, uri string) {
		t.Helper()
		b.Refused(b.ask("feed.getPostThread?uri="+uri), 404, "NotFound", "Post not found: x")
	}
	refused("another's", root)
	refused("another's handle", "at://bob.test/app.bsky.feed.post/"+key(parent.URI))
	refused("none of hers", "at://alice.test/app.bsky.feed.post/3jui7kd54zh2y")
	refused("no post", b.first.URI)
	b.seen(parent.Commit.Rev)
	refused("one that it should have", parent.URI)
	b.seen("")
	refused("no revision", alone.URI)
}
