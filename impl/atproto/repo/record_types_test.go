package repo_test

import (
	"strings"
	"testing"

	"portico/api/atproto/lexicon"
	"portico/api/bsky"
	"portico/api/chatbsky"
	"portico/api/germnetwork"
	"portico/impl/atproto/repo"
)

// The records that are checked are those that the contract names as known (repo-sync
// §4.1), each with a record and a key that it takes.
func TestRecordTypes(t *testing.T) {
	const (
		now    = `"createdAt":"2026-11-28T18:00:00.000Z"`
		did    = `"did:plc:ewvi7nxzyoun6zhxrhs64oiz"`
		strong = `{"uri":"at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3jqfcqzm3fo2j","cid":"bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"}`
		post   = `"at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3jqfcqzm3fo2j"`
		list   = `"at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.graph.list/3jqfcqzm3fo2j"`
	)
	for _, tt := range []struct{ collection, key, record string }{
		{"app.bsky.actor.profile", "self", `"displayName":"Ann"`},
		{"app.bsky.actor.status", "self", `"status":"app.bsky.actor.status#live",` + now},
		{"app.bsky.feed.generator", "whats-hot", `"did":"did:web:feeds.example.com","displayName":"Hot",` + now},
		{"app.bsky.feed.like", "", `"subject":` + strong + `,` + now},
		{"app.bsky.feed.post", "", `"text":"Hello",` + now},
		{"app.bsky.feed.postgate", "", `"post":` + post + `,` + now},
		{"app.bsky.feed.repost", "", `"subject":` + strong + `,` + now},
		{"app.bsky.feed.threadgate", "", `"post":` + post + `,` + now},
		{"app.bsky.graph.block", "", `"subject":` + did + `,` + now},
		{"app.bsky.graph.follow", "", `"subject":` + did + `,` + now},
		{"app.bsky.graph.list", "", `"name":"Friends","purpose":"app.bsky.graph.defs#curatelist",` + now},
		{"app.bsky.graph.listblock", "", `"subject":` + list + `,` + now},
		{"app.bsky.graph.listitem", "", `"subject":` + did + `,"list":` + list + `,` + now},
		{"app.bsky.graph.starterpack", "", `"name":"Go","list":` + list + `,` + now},
		{"app.bsky.graph.verification", "", `"subject":` + did + `,"handle":"ann.test","displayName":"Ann",` + now},
		{"app.bsky.labeler.service", "self", `"policies":{"labelValues":[]},` + now},
		{"app.bsky.notification.declaration", "self", `"allowSubscriptions":"followers"`},
		{"chat.bsky.actor.declaration", "self", `"allowIncoming":"all"`},
		{"com.atproto.lexicon.schema", "com.example.thing", `"lexicon":1`},
		{"com.germnetwork.declaration", "self", `"version":"1.0.0","currentKey":{"$bytes":"AQID"}`},
	} {
		t.Run(tt.collection, func(t *testing.T) {
			known, ok := repo.RecordType(tt.collection)
			if !ok || known.NSID != tt.collection {
				t.Fatalf("known: %v as %s", ok, known.NSID)
			}
			typ := `"$type":"` + tt.collection + `",`
			if err := known.Check([]byte("{" + typ + tt.record + "}")); err != nil {
				t.Error(err)
			}
			if err := known.Check([]byte("{" + tt.record + "}")); err == nil || err.Error() != `Expected "`+tt.collection+`" (got undefined) at $.$type` {
				t.Errorf("without its type: %v", err)
			}
			key, wrong := tt.key, "no/key"
			if key == "" {
				key, wrong = "3jqfcqzm3fo2j", "self"
			}
			if err := known.CheckKey(key); err != nil {
				t.Errorf("key %s: %v", key, err)
			}
			if err := known.CheckKey(wrong); err == nil {
				t.Errorf("key %s is taken", wrong)
			}
		})
	}
	for _, unknown := range []string{"com.example.thing", "app.bsky.graph.referencelistoptout", "app.bsky.feed", "APP.bsky.feed.post"} {
		if _, ok := repo.RecordType(unknown); ok {
			t.Errorf("%s is known", unknown)
		}
	}
	n := len(lexicon.Records()) + len(bsky.Records()) + len(chatbsky.Records()) + len(germnetwork.Records())
	if n != 20 {
		t.Errorf("%d types of records are known", n)
	}
}

// The texts are those that clients know (repo-sync §4.1).
func TestIssuesOfRecords(t *testing.T) {
	const post = `{"$type":"app.bsky.feed.post","createdAt":"2026-11-28T18:00:00.000Z",`
	image := func(field string) string {
		return `{"$type":"app.bsky.actor.profile","avatar":{"$type":"blob","ref":{"$link":"bafkreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua"},` + field + `}}`
	}
	for _, tt := range []struct{ collection, record, want string }{
		{"app.bsky.feed.post", post + `"x":1}`, `Missing required key "text" at $`},
		{"app.bsky.feed.post", `{"$type":"app.bsky.feed.post","text":"","createdAt":"yesterday"}`, `Invalid datetime (got "yesterday") at $.createdAt`},
		{"app.bsky.feed.post", post + `"text":"` + strings.Repeat("a", 3001) + `"}`, `string too big (maximum 3000, got 3001) at $.text`},
		{"app.bsky.feed.post", post + `"text":"` + strings.Repeat("a", 301) + `"}`, `grapheme too big (maximum 300, got 301) at $.text`},
		{"app.bsky.feed.post", post + `"text":5}`, `Expected string value type (got 5) at $.text`},
		{"app.bsky.actor.profile", image(`"mimeType":"text/plain","size":1`), `Expected one of "image/png" or "image/jpeg" (got "text/plain") at $.avatar.mimeType`},
		{"app.bsky.actor.profile", image(`"mimeType":"image/png","size":1100070`), `blob too big (maximum 1000000, got 1100070) at $.avatar`},
	} {
		known, _ := repo.RecordType(tt.collection)
		if err := known.Check([]byte(tt.record)); err == nil || err.Error() != tt.want {
			t.Errorf("%.60s…: %v\nwant %s", tt.record, err, tt.want)
		}
	}
	for _, tt := range []struct{ collection, key, want string }{
		{"app.bsky.actor.profile", "x", `Expected "self" (got "x") at $`},
		{"app.bsky.feed.post", "abc", `Invalid TID string (got "abc") at $`},
	} {
		known, _ := repo.RecordType(tt.collection)
		if err := known.CheckKey(tt.key); err == nil || err.Error() != tt.want {
			t.Errorf("%s/%s: %v, want %s", tt.collection, tt.key, err, tt.want)
		}
	}
}
