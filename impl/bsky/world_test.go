package bsky_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/servertest"
)

// A behind is a server whose app view is behind: it has seen the repository of alice up to
// a revision, and answers what the test says.
type behind struct {
	*servertest.Server
	alice servertest.User
	// first is her first record, which the app view has seen.
	first written

	mu      sync.Mutex
	rev     string
	answers map[string]http.HandlerFunc
}

// written is what createRecord answers.
type written struct {
	URI, CID string
	Commit   struct{ Rev string }
}

func newBehind(t *testing.T, change ...func(*servertest.Options)) *behind {
	t.Helper()
	s := servertest.New(t, append([]func(*servertest.Options){servertest.In("app.bsky"), func(o *servertest.Options) { o.AppView = true }}, change...)...)
	b := &behind{Server: s, alice: s.SignUp("alice"), answers: make(map[string]http.HandlerFunc)}
	b.AppView.Says(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		answer, rev := b.answers[strings.TrimPrefix(r.URL.Path, "/xrpc/app.bsky.")], b.rev
		b.mu.Unlock()
		if answer == nil {
			answer = servertest.Answers(400, `{"error":"NotFound","message":"unknown here"}`)
		}
		if rev != "" {
			w.Header().Set("Atproto-Repo-Rev", rev)
		}
		answer(w, r)
	})
	b.first = b.write("app.bsky.feed.like", "", someLike)
	b.seen(b.first.Commit.Rev)
	return b
}

const (
	someCID  = "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"
	someLike = `{"subject":{"uri":"at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/app.bsky.feed.post/3jui7kd54zh2y","cid":"` + someCID + `"},"createdAt":"2026-03-01T12:00:00.000Z"}`
)

// seen is the revision that the app view says it has seen.
func (b *behind) seen(rev string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rev = rev
}

// says is what the app view answers for a method.
func (b *behind) says(method, body string) { b.saysWith(method, servertest.Answers(200, body)) }

func (b *behind) saysWith(method string, answer http.HandlerFunc) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answers[method] = answer
}

// write puts a record of alice, a second after what was before; key may be "".
func (b *behind) write(collection, key, record string) written {
	b.Helper()
	return b.writeAs(b.alice, collection, key, record)
}

func (b *behind) writeAs(u servertest.User, collection, key, record string) (w written) {
	b.Helper()
	b.Advance(time.Second)
	method := "createRecord"
	in := map[string]any{"repo": u.DID, "collection": collection, "record": json.RawMessage(record)}
	if key != "" {
		method, in["rkey"] = "putRecord", key
	}
	b.Accepted(b.Post("com.atproto.repo."+method, string(servertest.Must(json.Marshal(in))), u.Access)).Decode(b, &w)
	return w
}

// post writes a post with a text and more fields, which begin with a comma.
func (b *behind) post(text string, more ...string) written {
	b.Helper()
	return b.write("app.bsky.feed.post", "", `{"text":"`+text+`","createdAt":"2026-03-01T12:00:00.000Z"`+strings.Join(more, "")+`}`)
}

// profile writes the profile.
func (b *behind) profile(record string) written {
	b.Helper()
	return b.write("app.bsky.actor.profile", "self", record)
}

// upload stores a blob, and is how a record mentions it.
func (b *behind) upload(body, mime string) (mention, cid string) {
	b.Helper()
	a := b.Accepted(b.Call("POST", "com.atproto.repo.uploadBlob", body, b.alice.Access, "Content-Type: "+mime))
	var out struct{ Blob json.RawMessage }
	a.Decode(b, &out)
	var blob struct {
		Ref struct {
			Link string `json:"$link"`
		}
	}
	b.Check(json.Unmarshal(out.Blob, &blob))
	return string(out.Blob), blob.Ref.Link
}

// ask is an answer that alice gets.
func (b *behind) ask(method string, header ...string) servertest.Answer {
	b.Helper()
	return b.Get("app.bsky."+method, append(header, b.alice.Access)...)
}

// patched is the answer to a query, which was patched.
func (b *behind) patched(method string, header ...string) servertest.Answer {
	b.Helper()
	a := b.Accepted(b.ask(method, header...))
	if a.Header.Get("Atproto-Upstream-Lag") == "" || a.Header.Get("Atproto-Repo-Rev") != "" || a.Header.Get("Content-Type") != "application/json; charset=utf-8" {
		b.Errorf("%s: answer with %v is not patched", method, a.Header)
	}
	return a
}

// asItCame checks that an answer was passed on as the app view gave it.
func (b *behind) asItCame(a servertest.Answer, body string) {
	b.Helper()
	if a.Status != 200 || a.Body != body || a.Header.Get("Atproto-Upstream-Lag") != "" {
		b.Errorf("answer %d %v %.200s, want %.200s", a.Status, a.Header, a.Body, body)
	}
}

// same checks that two JSON texts say the same.
func (b *behind) same(got, want string) {
	b.Helper()
	if got, want := plain(b, got), plain(b, want); got != want {
		b.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func plain(t testing.TB, text string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return string(servertest.Must(json.Marshal(v)))
}

// author is a view of somebody, with fields that begin with a comma.
func author(did syntax.DID, more string) string {
	return `{"did":"` + did.String() + `","handle":"someone.test","unknown":{"a":[1]}` + more + `}`
}

// item is one of a feed: a post of somebody, indexed at so many seconds after the start.
func item(name string, did syntax.DID, second int, more string) string {
	return `{"post":` + postView(name, did, second, "") + more + `}`
}

func postView(name string, did syntax.DID, second int, record string) string {
	return `{"uri":"` + uriOf(name, did) + `","cid":"` + someCID + `","author":` + author(did, `,"displayName":"Old","avatar":"https://old.example/a"`) +
		`,"record":{"text":"` + name + `"` + record + `},"indexedAt":"` + at(second) + `","new":true}`
}

func uriOf(name string, did syntax.DID) string {
	return "at://" + did.String() + "/app.bsky.feed.post/" + name
}

// at is a time of day, in seconds after the start.
func at(second int) string {
	return servertest.Start.Add(time.Duration(second) * time.Second).Format("2006-01-02T15:04:05.000Z")
}

const bob, carol syntax.DID = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb", "did:plc:cccccccccccccccccccccccc"

// feed is the answer with some items.
func feed(items ...string) string {
	return `{"cursor":"next","feed":[` + strings.Join(items, ",") + `],"more":null}`
}

// order is the feed of an answer as the texts of its posts.
func order(t testing.TB, a servertest.Answer) string {
	t.Helper()
	var out struct {
		Feed []struct {
			Post struct{ Record struct{ Text string } }
		}
	}
	a.Decode(t, &out)
	var texts []string
	for _, f := range out.Feed {
		texts = append(texts, f.Post.Record.Text)
	}
	return fmt.Sprint(texts)
}
