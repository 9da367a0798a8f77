package bsky

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/bsky"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/repo/record"
)

const fuzzDID, fuzzCID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"

// methods are the schemas and patches of all.
var methods = []struct {
	output  *xrpc.Schema
	apply   patch
	inserts bool // and replaces nothing
}{
	{(*api.ActorGetProfileOutput)(nil).Schema(), patchProfile, false},
	{(*api.ActorGetProfilesOutput)(nil).Schema(), patchProfiles, false},
	{(*api.FeedGetActorLikesOutput)(nil).Schema(), patchActorLikes, false},
	{(*api.FeedGetAuthorFeedOutput)(nil).Schema(), patchAuthorFeed, false},
	{(*api.FeedGetTimelineOutput)(nil).Schema(), patchTimeline, true},
	{(*api.FeedGetPostThreadOutput)(nil).Schema(), patchPostThread, true},
}

// fuzzViewer is that of an account with a profile and posts, which reply to each other and to
// others, and to themselves.
func fuzzViewer(t testing.TB) *viewer {
	t.Helper()
	since := &written{profile: &profile{displayName: new("<\"\u2028>"), avatar: fuzzCID}}
	uri := func(key string) string { return "at://" + fuzzDID + "/app.bsky.feed.post/" + key }
	for i, more := range []string{
		"", reply(uri("root"), uri("root")), reply(uri("root"), uri("1")), reply(uri("root"), uri("3")), reply(uri("root"), uri("5")),
		`,"embed":{"$type":"app.bsky.embed.record","record":{"uri":"` + uri("x") + `","cid":"` + fuzzCID + `"}}` + reply(uri("root"), uri("4")),
	} {
		value, err := record.FromJSON([]byte(`{"$type":"app.bsky.feed.post","text":"t","createdAt":"2026-03-01T12:00:00Z"` + more + `}`))
		if err != nil {
			t.Fatal(err)
		}
		p, err := readPost(fuzzDID, &db.Record{Path: "app.bsky.feed.post/" + fmt.Sprint(i), CID: make([]byte, 36), IndexedAt: time.Unix(int64(i), 0), Value: value})
		if p == nil || err != nil {
			t.Fatal(p, err)
		}
		p.cid = fuzzCID
		since.posts = append(since.posts, *p)
	}
	return &viewer{
		did: fuzzDID, handle: "a.test", since: since,
		profile: func(context.Context) (*profile, error) { return since.profile, nil },
		image:   func(kind, cid string) syntax.URI { return syntax.URI("https://x.example/" + kind + "/" + cid) },
		ask:     func(context.Context, string, url.Values) ([]byte, error) { return []byte(`{"posts":[]}`), nil },
	}
}

func reply(root, parent string) string {
	return `,"reply":{"root":{"uri":"` + root + `","cid":"` + fuzzCID + `"},"parent":{"uri":"` + parent + `","cid":"` + fuzzCID + `"}}`
}

// Whatever an app view answers, each patch leaves what fits the lexicon, adds no more than it
// may, and takes nothing away but what it replaces.
func FuzzPatch(f *testing.F) {
	author := `{"did":"` + fuzzDID + `","handle":"a.test"}`
	view := func(key string) string {
		return `{"uri":"at://` + fuzzDID + `/app.bsky.feed.post/` + key + `","cid":"` + fuzzCID + `","author":` + author + `,"record":{},"indexedAt":"1970-01-01T00:00:02Z"}`
	}
	for _, text := range []string{
		`{}`, author, `{"profiles":[` + author + `]}`, `{"feed":[]}`, `{"feed":[{"post":` + view("x") + `}]}`, `{"feed":[{"post":` + view("1") + `} , {"post":` + view("y") + `}]}`,
		`{"thread":{"$type":"app.bsky.feed.defs#threadViewPost","post":` + view("root") + `}}`,
		`{"thread":{"$type":"app.bsky.feed.defs#threadViewPost","post":` + view("root") + `,"replies":[],"replies":[{"$type":"app.bsky.feed.defs#threadViewPost","post":` + view("3") + `}]}}`,
		`{"did":"` + fuzzDID + `","handle":"a.test","did":"` + fuzzDID + `","displayName":"\ud800","displayName":"b"}`,
	} {
		f.Add([]byte(text))
	}
	v := fuzzViewer(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		before := string(body)
		for i, m := range methods {
			node, err := m.output.Parse(body)
			if err != nil {
				continue
			}
			text, err := patchText(t.Context(), body, node, m.output, v, m.apply)
			if string(body) != before {
				t.Fatalf("%d changed the answer", i)
			}
			if err != nil {
				continue
			}
			if !json.Valid(text) || len(text) > len(body)+maxAdded {
				t.Fatalf("%d: %s", i, text)
			}
			if m.inserts && !within(body, text) {
				t.Fatalf("%d took something away: %s", i, text)
			}
		}
	})
}

// within reports whether all of a is in b, in its order.
func within(a, b []byte) bool {
	for _, c := range b {
		if len(a) > 0 && a[0] == c {
			a = a[1:]
		}
	}
	return len(a) == 0
}

// A thread that is made to cost much, with one post in it again and again, is patched in one
// place, and what a patch adds has a bound.
func TestPatchOfHugeAnswer(t *testing.T) {
	v := fuzzViewer(t)
	post := `{"uri":"at://` + fuzzDID + `/app.bsky.feed.post/root","cid":"` + fuzzCID + `","author":{"did":"` + fuzzDID + `","handle":"a.test"},"record":{},"indexedAt":"1970-01-01T00:00:00Z"}`
	many := strings.Repeat(`,{"$type":"app.bsky.feed.defs#threadViewPost","post":`+post+`}`, 10000)[1:]
	body := []byte(`{"thread":{"$type":"app.bsky.feed.defs#threadViewPost","post":` + post + `,"replies":[` + many + `]}}`)
	output := (*api.FeedGetPostThreadOutput)(nil).Schema()
	patched := func(output *xrpc.Schema, body []byte, apply patch) ([]byte, error) {
		node, err := output.Parse(body)
		if err != nil {
			t.Fatal(err)
		}
		return patchText(t.Context(), body, node, output, v, apply)
	}
	text, err := patched(output, body, patchPostThread)
	if err != nil || len(text) > len(body)+4000 {
		t.Errorf("thread of %d bytes: %d, %v", len(body), len(text), err)
	}
	// Each of the authors is replaced.
	feed := []byte(`{"feed":[` + strings.Repeat(`,{"post":`+post+`}`, 30000)[1:] + `]}`)
	v.since.profile.displayName = new(strings.Repeat("x", 60))
	if text, err := patched((*api.FeedGetAuthorFeedOutput)(nil).Schema(), feed, patchAuthorFeed); err != errTooMuch {
		t.Errorf("feed of %d bytes: %d, %v", len(feed), len(text), err)
	}
}
