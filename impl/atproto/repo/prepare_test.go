package repo_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/api/xrpc"
	"portico/impl/atproto/repo"
)

// Names, states and messages as the reference (0.5.35) gave them for the same records.
func TestPrepare(t *testing.T) {
	for _, tt := range []struct {
		name, collection, key string
		validate              *bool
		record                string
		cid, status, message  string
	}{
		{"no type", "com.example.thing", "3jqfcqzm3fo2j", nil, `{"a":1}`,
			"bafyreidlhma7iacrjsdskfx5uzyb5uwneffkwkd4vmkbv7hx2cc66janoi", "unknown", ``},
		{"type null", "com.example.thing", "3jqfcqzm3fo2j", nil, `{"$type":null,"a":1}`,
			"", "", `Invalid $type: expected com.example.thing, got null`},
		{"type empty", "com.example.thing", "3jqfcqzm3fo2j", nil, `{"$type":"","a":1}`,
			"", "", `Invalid $type: expected com.example.thing, got `},
		{"type 5", "com.example.thing", "3jqfcqzm3fo2j", nil, `{"$type":5,"a":1}`,
			"", "", `Invalid $type: expected com.example.thing, got 5`},
		{"type 0", "com.example.thing", "3jqfcqzm3fo2j", nil, `{"$type":0,"a":1}`,
			"", "", `Invalid $type: expected com.example.thing, got 0`},
		{"type obj", "com.example.thing", "3jqfcqzm3fo2j", nil, `{"$type":{"a":1}}`,
			"", "", `Invalid $type: expected com.example.thing, got [object Object]`},
		{"type arr", "com.example.thing", "3jqfcqzm3fo2j", nil, `{"$type":["x",[1,null]]}`,
			"", "", `Invalid $type: expected com.example.thing, got x,1,`},
		{"type bool", "com.example.thing", "3jqfcqzm3fo2j", nil, `{"$type":true}`,
			"", "", `Invalid $type: expected com.example.thing, got true`},
		{"other type", "com.example.thing", "3jqfcqzm3fo2j", nil, `{"$type":"com.example.other"}`,
			"", "", `Invalid $type: expected com.example.thing, got com.example.other`},
		{"blob record", "com.example.thing", "3jqfcqzm3fo2j", nil, `{"$type": "blob", "ref": {"$link": "bafkreia3dkp2iseistmwdtewl6fz4ucl6bzft7w2kfqj5as24vwugesalu"}, "mimeType": "image/png", "size": 28}`,
			"", "", `Invalid $type: expected com.example.thing, got blob`},
		{"empty", "com.example.thing", "3jqfcqzm3fo2j", nil, `{}`,
			"bafyreifzywoxy5o2qpe5fsd2ci3kgqh3exaoligdlawizqxf4bged7w4q4", "unknown", ``},
		{"post", "app.bsky.feed.post", "3jqfcqzm3fo2j", nil, `{"$type":"app.bsky.feed.post","text":"Hello","createdAt":"2026-11-28T18:00:00.000Z"}`,
			"bafyreib2tbjgoeyfrm22uegymsilk7llqab6wsnk4pbavvm2ohkdvlsj2i", "valid", ``},
		{"post no type", "app.bsky.feed.post", "3jqfcqzm3fo2j", nil, `{"text":"Hello","createdAt":"2026-11-28T18:00:00.000Z"}`,
			"bafyreib2tbjgoeyfrm22uegymsilk7llqab6wsnk4pbavvm2ohkdvlsj2i", "valid", ``},
		{"post missing", "app.bsky.feed.post", "3jqfcqzm3fo2j", nil, `{"$type":"app.bsky.feed.post","createdAt":"2026-11-28T18:00:00.000Z"}`,
			"", "", `Invalid app.bsky.feed.post record: Missing required key "text" at $.record`},
		{"post date", "app.bsky.feed.post", "3jqfcqzm3fo2j", nil, `{"text":"x","createdAt":"yesterday"}`,
			"", "", `Invalid app.bsky.feed.post record: Invalid datetime (got "yesterday") at $.record.createdAt`},
		{"post long", "app.bsky.feed.post", "3jqfcqzm3fo2j", nil, `{"text":"` + strings.Repeat("x", 3001) + `","createdAt":"2026-11-28T18:00:00.000Z"}`,
			"", "", `Invalid app.bsky.feed.post record: string too big (maximum 3000, got 3001) at $.record.text`},
		{"post graphemes", "app.bsky.feed.post", "3jqfcqzm3fo2j", nil, `{"text":"` + strings.Repeat("x", 301) + `","createdAt":"2026-11-28T18:00:00.000Z"}`,
			"", "", `Invalid app.bsky.feed.post record: grapheme too big (maximum 300, got 301) at $.record.text`},
		{"post 5", "app.bsky.feed.post", "3jqfcqzm3fo2j", nil, `{"text":5,"createdAt":"2026-11-28T18:00:00.000Z"}`,
			"", "", `Invalid app.bsky.feed.post record: Expected string value type (got 5) at $.record.text`},
		{"post rkey", "app.bsky.feed.post", "abc", nil, `{"text":"x","createdAt":"2026-11-28T18:00:00.000Z"}`,
			"", "", `Invalid record key for app.bsky.feed.post: Invalid TID string (got "abc") at $`},
		{"post rkey and text", "app.bsky.feed.post", "abc", nil, `{"text":5,"createdAt":"2026-11-28T18:00:00.000Z"}`,
			"", "", `Invalid record key for app.bsky.feed.post: Invalid TID string (got "abc") at $`},
		{"post rkey and type", "app.bsky.feed.post", "abc", nil, `{"$type":"x","text":5,"createdAt":"2026-11-28T18:00:00.000Z"}`,
			"", "", `Invalid $type: expected app.bsky.feed.post, got x`},
		{"post rkey novalidate", "app.bsky.feed.post", "abc", new(false), `{"text":"x","createdAt":"2026-11-28T18:00:00.000Z"}`,
			"bafyreidbuj7wl37zah2nafltn6x7pjgk5x44xblcdp6ecn77bffuh5df6u", "", ``},
		{"post invalid novalidate", "app.bsky.feed.post", "3jqfcqzm3fo2j", new(false), `{"text":5}`,
			"bafyreicelchvfreqsa5urzvinpngsk32cw4izkpcoixexqfzfjmhjjwtra", "", ``},
		{"post dup text", "app.bsky.feed.post", "3jqfcqzm3fo2j", nil, `{"text":5,"text":"y","createdAt":"2026-11-28T18:00:00.000Z"}`,
			"bafyreiaqesg7mamwxvtolzc57g7cnmzftsynfkn5rd3jezt4kbyt3tk5gm", "valid", ``},
		{"post link text", "app.bsky.feed.post", "3jqfcqzm3fo2j", nil, `{"text":{"b":1,"a":2,"c":3},"createdAt":"2026-11-28T18:00:00.000Z"}`,
			"", "", `Invalid app.bsky.feed.post record: Expected string value type (got {"b": ..., "a": ..., ...}) at $.record.text`},
		{"validate true unknown", "com.example.thing", "3jqfcqzm3fo2j", new(true), `{"a":1}`,
			"", "", `Unknown lexicon type: com.example.thing`},
		{"validate true unknown and type", "com.example.thing", "3jqfcqzm3fo2j", new(true), `{"$type":"x"}`,
			"", "", `Invalid $type: expected com.example.thing, got x`},
		{"validate true post", "app.bsky.feed.post", "3jqfcqzm3fo2j", new(true), `{"text":"x","createdAt":"2026-11-28T18:00:00.000Z"}`,
			"bafyreidbuj7wl37zah2nafltn6x7pjgk5x44xblcdp6ecn77bffuh5df6u", "valid", ``},
		{"validate false", "com.example.thing", "3jqfcqzm3fo2j", new(false), `{"a":1}`,
			"bafyreidlhma7iacrjsdskfx5uzyb5uwneffkwkd4vmkbv7hx2cc66janoi", "", ``},
		{"profile x", "app.bsky.actor.profile", "x", nil, `{"displayName":"x"}`,
			"", "", `Invalid record key for app.bsky.actor.profile: Expected "self" (got "x") at $`},
		{"slur fag", "com.example.thing", "fag", nil, `{}`,
			"", "", `Unacceptable slur in record key`},
		{"slur x-faggot", "com.example.thing", "x-faggot", nil, `{}`,
			"", "", `Unacceptable slur in record key`},
		{"slur f.a.g", "com.example.thing", "f.a.g", nil, `{}`,
			"", "", `Unacceptable slur in record key`},
		{"slur fagx", "com.example.thing", "fagx", nil, `{}`,
			"bafyreifzywoxy5o2qpe5fsd2ci3kgqh3exaoligdlawizqxf4bged7w4q4", "unknown", ``},
		{"slur n1gger", "com.example.thing", "n1gger", nil, `{}`,
			"", "", `Unacceptable slur in record key`},
		{"slur NIGGER", "com.example.thing", "NIGGER", nil, `{}`,
			"", "", `Unacceptable slur in record key`},
		{"slur raccoon", "com.example.thing", "raccoon", nil, `{}`,
			"bafyreifzywoxy5o2qpe5fsd2ci3kgqh3exaoligdlawizqxf4bged7w4q4", "unknown", ``},
		{"slur coon", "com.example.thing", "coon", nil, `{}`,
			"", "", `Unacceptable slur in record key`},
		{"slur k-ike", "com.example.thing", "k-ike", nil, `{}`,
			"", "", `Unacceptable slur in record key`},
		{"slur x_coon_y", "com.example.thing", "x_coon_y", nil, `{}`,
			"bafyreifzywoxy5o2qpe5fsd2ci3kgqh3exaoligdlawizqxf4bged7w4q4", "unknown", ``},
		{"slur and lexicon", "app.bsky.feed.post", "coon", nil, `{"text":5}`,
			"", "", `Unacceptable slur in record key`},
		{"slur novalidate", "com.example.thing", "coons", new(false), `{}`,
			"", "", `Unacceptable slur in record key`},
		{"slur and unknown", "com.example.thing", "coons", new(true), `{}`,
			"", "", `Unacceptable slur in record key`},
		{"legacy", "com.example.thing", "3jqfcqzm3fo2j", nil, `{"$type":"com.example.thing","b":{"cid":"bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a","mimeType":"image/png"}}`,
			"", "", `Legacy blobs are not allowed (bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a)`},
		{"legacy nomime", "com.example.thing", "3jqfcqzm3fo2j", nil, `{"$type":"com.example.thing","b":{"cid":"bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a","mimeType":"image"}}`,
			"", "", `Legacy blobs are not allowed (bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a)`},
		{"legacy novalidate", "com.example.thing", "3jqfcqzm3fo2j", new(false), `{"b":[{"cid":"bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a","mimeType":"image/png"}]}`,
			"", "", `Legacy blobs are not allowed (bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a)`},
		{"avatar text", "app.bsky.actor.profile", "self", nil, `{"avatar":{"$type":"blob","ref":{"$link":"bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"},"mimeType":"text/plain","size":1}}`,
			"", "", `Invalid app.bsky.actor.profile record: Expected one of "image/png" or "image/jpeg" (got "text/plain") at $.record.avatar.mimeType`},
		{"avatar big", "app.bsky.actor.profile", "self", nil, `{"avatar":{"$type":"blob","ref":{"$link":"bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"},"mimeType":"image/png","size":1100070}}`,
			"", "", `Invalid app.bsky.actor.profile record: blob too big (maximum 1000000, got 1100070) at $.record.avatar`},
		{"old picture", "app.bsky.actor.profile", "self", nil, `{"avatar":{"cid":"bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a","mimeType":"image/png"}}`,
			"", "", `Invalid app.bsky.actor.profile record: Expected blob value type (got {"cid": ..., "mimeType": ...}) at $.record.avatar`},
		{"picture with more", "app.bsky.actor.profile", "self", nil, `{"avatar":{"$type":"blob","ref":{"$link":"bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"},"mimeType":"image/png","size":1,"x":1}}`,
			"", "", `Invalid app.bsky.actor.profile record: Expected blob value type (got {"$type": ..., "ref": ..., ...}) at $.record.avatar`},
		{"picture without size", "app.bsky.actor.profile", "self", nil, `{"avatar":{"$type":"blob","ref":{"$link":"bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"},"mimeType":"image/png","size":-1}}`,
			"", "", `Invalid app.bsky.actor.profile record: Expected blob value type (got {"$type": ..., "ref": ..., ...}) at $.record.avatar`},
		{"picture of half a type", "app.bsky.actor.profile", "self", nil, `{"avatar":{"$type":"blob","ref":{"$link":"bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"},"mimeType":"image","size":1}}`,
			"", "", `Invalid app.bsky.actor.profile record: Expected blob value type (got {"$type": ..., "ref": ..., ...}) at $.record.avatar`},
		{"legacy top", "com.example.thing", "x", nil, `{"cid":"bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a","mimeType":"image/png"}`,
			"bafyreid6qc5b2icin5rbxvbmejhidsucysj2ascyz6suidrde44avt6pca", "unknown", ``},
		{"lexicon, then legacy", "app.bsky.feed.post", "3jqfcqzm3fo2j", nil, `{"text":5,"b":{"cid":"bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a","mimeType":"image/png"}}`,
			"", "", `Invalid app.bsky.feed.post record: Expected string value type (got 5) at $.record.text`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, status, err := repo.Draft{
				Collection: syntax.NSID(tt.collection), Key: syntax.RecordKey(tt.key), Record: json.RawMessage(tt.record),
				Validate: tt.validate, Path: "$.record",
			}.Prepare()
			if tt.message != "" {
				refused(t, err, tt.message)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.CID.String() != tt.cid || status != tt.status {
				t.Errorf("got %s, %q; want %s, %q", r.CID, status, tt.cid, tt.status)
			}
		})
	}
}

func refused(t *testing.T, err error, message string) {
	t.Helper()
	want := xrpc.InvalidRequest(message)
	got, ok := errors.AsType[*xrpc.Error](err)
	if !ok || got.Status != want.Status || got.Name != want.Name || got.Message != message {
		t.Errorf("got  %v\nwant %v", err, want)
	}
}

// In a list of writes, issues are named by their write.
func TestPrepareInList(t *testing.T) {
	_, _, err := repo.Draft{
		Collection: "app.bsky.feed.post", Key: "3jqfcqzm3fo2j", Record: json.RawMessage(`{"text":5,"createdAt":"2026-11-28T18:00:00.000Z"}`),
		Path: "$.writes[1].record",
	}.Prepare()
	refused(t, err, "Invalid app.bsky.feed.post record: Expected string value type (got 5) at $.writes[1].record.text")
}

// The reference fails at records that it cannot encode; they are refused before they come
// here, by the lexicon of the body, and so they are here. It compares most slurs without
// looking at capitals; here capitals hide none.
func TestPrepareBetterThanTheReference(t *testing.T) {
	for _, tt := range []struct{ name, key, record, message string }{
		{"number", "x", `{"a":9007199254740992}`, "Record cannot be encoded"},
		{"depth", "x", `{"a":` + strings.Repeat("[", 128) + strings.Repeat("]", 128) + `}`, "Record cannot be encoded"},
		{"not an object", "x", `[]`, "Record cannot be encoded"},
		{"slur in capitals", "COON", `{}`, "Unacceptable slur in record key"},
		{"legacy mention of what is no blob", "x", `{"b":{"cid":"bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a","mimeType":"image/png"}}`,
			"Legacy blobs are not allowed (bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := repo.Draft{Collection: "com.example.thing", Key: syntax.RecordKey(tt.key), Record: json.RawMessage(tt.record), Path: "$.record"}.Prepare()
			refused(t, err, tt.message)
		})
	}
}

// An update of a profile that names its pictures the old way stores them with their size;
// the name is that which the reference gave.
func TestPrepareOldProfile(t *testing.T) {
	const picture = "bafkreia3dkp2iseistmwdtewl6fz4ucl6bzft7w2kfqj5as24vwugesalu"
	draft := repo.Draft{
		Collection: "app.bsky.actor.profile", Key: "self", Path: "$.record",
		Record: json.RawMessage(`{"displayName":"b","avatar":{"cid":"` + picture + `","mimeType":"image/png"}}`),
		Size: func(cid string) (int64, error) {
			if cid != picture {
				t.Errorf("asked for %s", cid)
			}
			return 28, nil
		},
	}
	r, status, err := draft.Prepare()
	if err != nil {
		t.Fatal(err)
	}
	if r.CID.String() != "bafyreielieo7yfykh47pietnfkxtj2em2ekx6xqlohrke47qdnai4z2jya" || status != "valid" {
		t.Errorf("got %s, %s", r.CID, status)
	}
	if len(r.Blobs) != 1 || r.Blobs[0].CID != picture || r.Blobs[0].MimeType != "image/png" || r.Blobs[0].Size != 28 || r.Blobs[0].Legacy {
		t.Errorf("blobs: %+v", r.Blobs)
	}
	unknown := errors.New("not stored")
	draft.Size = func(string) (int64, error) { return 0, unknown }
	if _, _, err := draft.Prepare(); !errors.Is(err, unknown) {
		t.Errorf("size unknown: %v", err)
	}
	draft.Size = nil
	if _, _, err := draft.Prepare(); err == nil {
		t.Error("not an update: taken")
	}
}

func BenchmarkPrepare(b *testing.B) {
	d := repo.Draft{Collection: "app.bsky.feed.post", Key: "3jqfcqzm3fo2j", Path: "$.record", Record: json.RawMessage(
		`{"$type":"app.bsky.feed.post","text":"Hello, this is a post of usual length with a link: example.com","facets":[{"index":{"byteStart":51,"byteEnd":62},"features":[{"$type":"app.bsky.richtext.facet#link","uri":"https://example.com"}]}],"langs":["en"],"createdAt":"2026-11-28T18:00:00.000Z"}`)}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := d.Prepare(); err != nil {
			b.Fatal(err)
		}
	}
}
