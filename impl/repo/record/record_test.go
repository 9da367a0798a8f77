package record_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/repo/record"
)

func read(t *testing.T, collection syntax.NSID, data string) *record.Record {
	t.Helper()
	value, err := record.FromJSON([]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	r, err := record.Read(collection, value)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What the reference took for a blob, and what it stored as it was.
func TestBlobs(t *testing.T) {
	const raw, cbor = "bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a", "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"
	for _, tt := range []struct{ name, in, want string }{
		{"typed", `{"$type":"blob","ref":{"$link":"` + raw + `"},"mimeType":"image/png","size":1}`, "[{" + raw + " image/png 1 false}]"},
		{"size unknown", `{"$type":"blob","ref":{"$link":"` + raw + `"},"mimeType":"image/png","size":-1}`, "[{" + raw + " image/png -1 false}]"},
		{"size below", `{"$type":"blob","ref":{"$link":"` + raw + `"},"mimeType":"image/png","size":-2}`, "[]"},
		{"size a text", `{"$type":"blob","ref":{"$link":"` + raw + `"},"mimeType":"image/png","size":"1"}`, "[]"},
		{"one more field", `{"$type":"blob","ref":{"$link":"` + raw + `"},"mimeType":"image/png","size":1,"x":1}`, "[]"},
		{"no type of media", `{"$type":"blob","ref":{"$link":"` + raw + `"},"mimeType":"image","size":1}`, "[]"},
		{"another type", `{"$type":"blab","ref":{"$link":"` + raw + `"},"mimeType":"image/png","size":1}`, "[]"},
		{"ref a text", `{"$type":"blob","ref":"` + raw + `","mimeType":"image/png","size":1}`, "[]"},
		{"not raw", `{"$type":"blob","ref":{"$link":"` + cbor + `"},"mimeType":"image/png","size":1}`, "[{" + cbor + " image/png 1 false}]"},
		{"no hash", `{"$type":"blob","ref":{"$link":"bafkqaaa"},"mimeType":"image/png","size":0}`, "[{bafkqaaa image/png 0 false}]"},
		{"legacy", `{"cid":"` + raw + `","mimeType":"image"}`, "[{" + raw + " image -1 true}]"},
		{"legacy and more", `{"cid":"` + raw + `","mimeType":"image/png","size":1}`, "[]"},
		{"legacy of no type", `{"cid":"` + raw + `","mimeType":""}`, "[]"},
		{"legacy of no CID", `{"cid":"x","mimeType":"image/png"}`, "[]"},
		{"legacy in another base", `{"cid":"zdpuAyvkgEDQm9TenwGkd5eNaosSxjgEYd8QatfPetgB1CdEZ","mimeType":"image/png"}`, "[]"},
		{"two", `[[{"cid":"` + raw + `","mimeType":"a"}],{"x":{"cid":"` + raw + `","mimeType":"b"}}]`, "[{" + raw + " a -1 true} {" + raw + " b -1 true}]"},
	} {
		if got := fmt.Sprint(read(t, "com.example.thing", `{"$type":"com.example.thing","b":`+tt.in+`}`).Blobs); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestLinkTo(t *testing.T) {
	const uri = "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3jqfcqzm3fo2j"
	for _, tt := range []struct {
		collection syntax.NSID
		in, want   string
	}{
		{"app.bsky.graph.follow", `{"subject":"did:plc:ewvi7nxzyoun6zhxrhs64oiz"}`, "did:plc:ewvi7nxzyoun6zhxrhs64oiz"},
		{"app.bsky.graph.block", `{"subject":"did:web:example.com"}`, "did:web:example.com"},
		{"app.bsky.graph.follow", `{"subject":"bob.test"}`, ""},
		{"app.bsky.graph.follow", `{"subject":{"uri":"` + uri + `"}}`, ""},
		{"app.bsky.graph.follow", `{}`, ""},
		{"app.bsky.feed.like", `{"subject":{"uri":"` + uri + `","cid":"x"}}`, uri},
		{"app.bsky.feed.repost", `{"subject":{"uri":"` + uri + `"}}`, uri},
		{"app.bsky.feed.like", `{"subject":{"uri":"https://example.com"}}`, ""},
		{"app.bsky.feed.like", `{"subject":"` + uri + `"}`, ""},
		{"app.bsky.feed.like", `{"subject":["uri"]}`, ""},
		{"app.bsky.graph.listblock", `{"subject":"` + uri + `"}`, ""},
	} {
		if got := read(t, tt.collection, tt.in).LinkTo; got != tt.want {
			t.Errorf("%s %s: got %s, want %s", tt.collection, tt.in, got, tt.want)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	for _, value := range []string{"", "\x80", "\xf6", "\xa0\x00", "\xa1\x61a", "\xa2\x61b\x00\x61a\x00", "\xa1\x61a\xd8\x2a\x42\x00\x01"} {
		if _, err := record.Read("com.example.thing", []byte(value)); !errors.Is(err, record.ErrRecord) {
			t.Errorf("%x: got %v, want ErrRecord", value, err)
		}
	}
}

// Keys rise whatever the clock does, and are what their time and number make.
func TestKeys(t *testing.T) {
	now := time.Date(2026, 11, 28, 18, 0, 0, 0, time.UTC)
	keys := record.NewKeys(func() time.Time { return now }, 7, func(n uint) uint { return n - 1 })
	first := keys.Next()
	if tid, err := syntax.ParseTID(first.String()); err != nil || !tid.Time().Equal(now) || tid.ClockID() != 7 {
		t.Errorf("%s: %v", first, err)
	}
	now = now.Add(-time.Hour)
	second := keys.Next()
	now = now.Add(2 * time.Hour)
	third := keys.Next()
	anew := keys.Anew()
	if first >= second || second >= third || third >= anew {
		t.Errorf("%s, %s, %s, %s", first, second, third, anew)
	}
	if tid, err := syntax.ParseTID(anew.String()); err != nil || tid.ClockID() != 1023 {
		t.Errorf("anew %s: %v", anew, err)
	}
}
