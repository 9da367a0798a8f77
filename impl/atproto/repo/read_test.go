package repo_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/servertest"
)

// Records are listed by their keys, the last first, a page at a time.
func TestListRecords(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		for _, path := range []string{"x/a", "x/B", "x/b", "x/a.1", "x/a-1", "x/_", "x.y/a", "x-y.z/z", "x0/a", "w/a"} {
			collection, key, _ := strings.Cut(path, "/")
			w.write("putRecord", "collection", `"com.example.`+collection+`"`, "rkey", `"`+key+`"`, "record", `{"key":"`+path+`"}`)
		}
		list := func(more string) (keys, cursor string) {
			t.Helper()
			var out struct {
				Cursor  string
				Records []struct {
					URI   syntax.ATURI
					Value struct{ Key string }
				}
			}
			w.Accepted(w.Get("listRecords?repo=alice.test&collection=com.example.x"+more)).Decode(w, &out)
			var all []string
			for _, r := range out.Records {
				all = append(all, r.URI.RecordKey().String())
				if r.Value.Key != "x/"+r.URI.RecordKey().String() {
					t.Errorf("%s has %s", r.URI, r.Value.Key)
				}
			}
			return strings.Join(all, " "), out.Cursor
		}
		for _, tt := range []struct{ more, keys, cursor string }{
			{"", "b a.1 a-1 a _ B", "B"},
			{"&reverse=true", "B _ a a-1 a.1 b", "b"},
			{"&limit=2", "b a.1", "a.1"},
			{"&limit=2&cursor=a.1", "a-1 a", "a"},
			{"&limit=100&cursor=a", "_ B", "B"},
			{"&cursor=B", "", ""},
			{"&cursor=", "b a.1 a-1 a _ B", "B"},
			{"&reverse=true&limit=2&cursor=_", "a a-1", "a-1"},
			{"&reverse=true&cursor=b", "", ""},
			{"&cursor=%00", "", ""},
			{"&cursor=zzz&rkeyStart=a&rkeyEnd=b", "b a.1 a-1 a _ B", "B"}, // which are gone
		} {
			if keys, cursor := list(tt.more); keys != tt.keys || cursor != tt.cursor {
				t.Errorf("%s: %q, cursor %q, want %q, %q", tt.more, keys, cursor, tt.keys, tt.cursor)
			}
		}
		if a := w.Accepted(w.Get("listRecords?repo=alice.test&collection=com.example.nothing")); a.Body != `{"records":[]}` {
			t.Errorf("nothing: %s", a.Body)
		}
		for query, want := range map[string]string{
			"limit=0": `Invalid com.atproto.repo.listRecords params: integer too small (minimum 1, got 0) at $.limit`, "limit=101": "", "reverse=1": "",
		} {
			a := w.Get("listRecords?repo=alice.test&collection=com.example.x&" + query)
			if a.Status != 400 {
				t.Errorf("%s: %d %s, want %s", query, a.Status, a.Body, want)
			}
		}
		w.Refused(w.Get("listRecords?repo=ALICE.test&collection=com.example.x"), 400, "InvalidRequest", "Could not find repo: ALICE.test")
		w.Deactivate(w.alice.DID)
		w.Refused(w.Get("listRecords?repo=alice.test&collection=com.example.x", w.alice.Access), 400, "InvalidRequest", "Could not find repo: alice.test")
		w.Refused(w.Get("getRecord?repo=alice.test&collection=com.example.x&rkey=a", w.alice.Access), 400, "InvalidRequest", "Could not locate record")
	})
}

// A page of large records ends early.
func TestListLargeRecords(t *testing.T) {
	w := newWorld(newServer(t))
	large := strings.Repeat("x", 990_000)
	for n := range 12 {
		w.write("putRecord", "collection", `"com.example.x"`, "rkey", fmt.Sprintf(`"%02d"`, n), "record", `{"t":"`+large+`"}`)
	}
	var out struct {
		Cursor  string
		Records []any
	}
	w.Accepted(w.Get("listRecords?repo=alice.test&collection=com.example.x")).Decode(t, &out)
	if len(out.Records) != 9 || out.Cursor != "03" {
		t.Errorf("%d records, cursor %s", len(out.Records), out.Cursor)
	}
	w.Accepted(w.Get("listRecords?repo=alice.test&collection=com.example.x&cursor="+out.Cursor)).Decode(t, &out)
	if len(out.Records) != 3 || out.Cursor != "00" {
		t.Errorf("%d records, cursor %s", len(out.Records), out.Cursor)
	}
}

// A record is given by its key, and by its CID when that is asked for.
func TestGetRecord(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		made := w.write("putRecord", "collection", `"com.example.x"`, "rkey", `"a"`, "record",
			`{"b":{"$bytes":"AQI"},"l":{"$link":"bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua"},"n":null,"i":-5,"t":"<&>"}`)
		want := `{"uri":"at://` + w.alice.DID.String() + `/com.example.x/a","cid":"` + made.CID + `","value":{"b":{"$bytes":"AQI"},"i":-5,` +
			`"l":{"$link":"bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua"},"n":null,"t":"<&>","$type":"com.example.x"}}`
		for _, query := range []string{"repo=alice.test", "repo=" + w.alice.DID.String(), "repo=alice.test&cid=" + made.CID} {
			if a := w.Accepted(w.Get("getRecord?collection=com.example.x&rkey=a&" + query)); a.Body != want {
				t.Errorf("%s\nwant %s", a.Body, want)
			}
		}
		none := "Could not locate record: at://" + w.alice.DID.String() + "/com.example.x/"
		w.Refused(w.Get("getRecord?repo=alice.test&collection=com.example.x&rkey=b"), 400, "RecordNotFound", none+"b")
		w.Refused(w.Get("getRecord?repo=alice.test&collection=com.example.x&rkey=a&cid=bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua"), 400, "RecordNotFound", none+"a")
		w.Refused(w.Get("getRecord?repo=bob.test&collection=com.example.x&rkey=a"), 400, "InvalidRequest", "Could not locate record")
	})
}

// Whose a repository is, and what is in it.
func TestDescribeRepo(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		describe := func() map[string]any {
			t.Helper()
			return w.Accepted(w.Get("describeRepo?repo=alice.test", w.alice.Access)).Fields(t)
		}
		collections := func(want string) {
			t.Helper()
			if got := fmt.Sprint(describe()["collections"]); got != want {
				t.Errorf("collections %s, want %s", got, want)
			}
		}
		d := describe()
		doc, _ := d["didDoc"].(map[string]any)
		if d["handle"] != "alice.test" || d["did"] != w.alice.DID.String() || d["handleIsCorrect"] != true || doc["id"] != w.alice.DID.String() {
			t.Errorf("described %v", d)
		}
		collections("[]")
		for _, path := range []string{"z/1", "a/1", "a/2", "a.b/1"} {
			collection, key, _ := strings.Cut(path, "/")
			w.write("createRecord", "collection", `"com.example.`+collection+`"`, "rkey", `"`+key+`"`, "record", `{}`)
		}
		collections("[com.example.a com.example.a.b com.example.z]")
		w.write("deleteRecord", "collection", `"com.example.a"`, "rkey", `"1"`)
		w.write("deleteRecord", "collection", `"com.example.z"`, "rkey", `"1"`)
		collections("[com.example.a com.example.a.b]")
		w.write("applyWrites", "writes", `[{"$type":"com.atproto.repo.applyWrites#delete","collection":"com.example.a","rkey":"2"},
			{"$type":"com.atproto.repo.applyWrites#create","collection":"com.example.a","rkey":"3","value":{}}]`)
		collections("[com.example.a com.example.a.b]")

		w.Publish(w.alice.DID, "other.test", nil)
		w.Forget(w.alice.DID)
		if describe()["handleIsCorrect"] != false {
			t.Error("the handle is correct")
		}
		w.Internet.Unpublish(w.alice.DID)
		w.Forget(w.alice.DID)
		w.Refused(w.Get("describeRepo?repo=alice.test"), 400, "InvalidRequest", "Could not resolve DID: Error: Could not resolve DID: "+w.alice.DID.String())
		w.Refused(w.Get("describeRepo?repo=nobody.test"), 400, "RepoNotFound", "Could not find repo for DID: nobody.test")
		w.Deactivate(w.alice.DID)
		w.Refused(w.Get("describeRepo?repo=alice.test", w.alice.Access), 400, "RepoDeactivated", "Repo has been deactivated: "+w.alice.DID.String())
		w.TakeDown(w.alice.DID)
		w.Refused(w.Get("describeRepo?repo=alice.test"), 400, "RepoTakendown", "Repo has been takendown: "+w.alice.DID.String())
	})
}

// A record that is taken down is not read, and what replaces it neither; it still is in
// the repository.
func TestTakedownOfARecord(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		put := func(value string) written {
			t.Helper()
			return w.write("putRecord", "collection", `"com.example.x"`, "rkey", `"a"`, "record", value)
		}
		first := put(`{"n":1}`)
		w.write("putRecord", "collection", `"com.example.x"`, "rkey", `"b"`, "record", `{}`)
		w.commits()
		uri := "at://" + w.alice.DID.String() + "/com.example.x/"
		update := func(key, takedown string) {
			t.Helper()
			body := `{"subject":{"$type":"com.atproto.repo.strongRef","uri":"` + uri + key + `","cid":"bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua"},"takedown":` + takedown + `}`
			a := w.Accepted(w.Post("com.atproto.admin.updateSubjectStatus", body, servertest.Admin))
			if a.Body != body {
				t.Errorf("answered %s", a.Body)
			}
		}
		status := func(key string) servertest.Answer {
			return w.Get("com.atproto.admin.getSubjectStatus?uri="+url.QueryEscape(uri+key), servertest.Admin)
		}
		shows := func(cid, takedown string) {
			t.Helper()
			want := `{"subject":{"$type":"com.atproto.repo.strongRef","uri":"` + uri + `a","cid":"` + cid + `"},"takedown":` + takedown + `}`
			if a := w.Accepted(status("a")); a.Body != want {
				t.Errorf("status %s\nwant %s", a.Body, want)
			}
		}
		get := "getRecord?repo=alice.test&collection=com.example.x&rkey=a"
		shows(first.CID, `{"applied":false}`)
		update("a", `{"applied":true,"ref":"case 7"}`)
		shows(first.CID, `{"applied":true,"ref":"case 7"}`)
		w.Refused(w.Get(get, w.alice.Access), 400, "RecordNotFound", "Could not locate record: "+uri+"a")
		if keys := w.keys("com.example.x"); keys != "b" {
			t.Errorf("listed %s", keys)
		}
		w.Accepted(w.Get("com.atproto.sync.getRecord?did=" + w.alice.DID.String() + "&collection=com.example.x&rkey=a"))
		second := put(`{"n":2}`)
		w.Refused(w.Get(get), 400, "RecordNotFound", "Could not locate record: "+uri+"a")
		update("a", `{"applied":true}`)
		shows(second.CID, `{"applied":true,"ref":"2026-03-01T12:00:00.000Z"}`)
		update("a", `{"applied":false}`)
		shows(second.CID, `{"applied":false}`)
		w.Accepted(w.Get(get))
		// Nobody is told, and what is not there is nothing.
		update("c", `{"applied":true}`)
		w.Refused(status("c"), 400, "NotFound", "Subject not found")
		w.committed("update com.example.x/a cid prev")
		if got := w.Recorded(w.alice.DID); !strings.HasPrefix(got, "12:00:00 record_takedown_lifted by admin from 127.0.0.1: com.example.x/a\n"+
			"12:00:00 record_taken_down by admin from 127.0.0.1: com.example.x/a 2026-03-01T12:00:00.000Z\n"+
			"12:00:00 record_taken_down by admin from 127.0.0.1: com.example.x/a case 7\n") {
			t.Errorf("record\n%s", got)
		}
	})
}

// PORTICO_ACCOUNT_RECORD_QUOTA: an account has no more records than that, and no write
// is half done.
func TestRecordQuota(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		w.Repo.Records.Quota = func() int { return 2 }
		create := func(keys ...string) servertest.Answer {
			var all []string
			for _, key := range keys {
				all = append(all, `{"$type":"com.atproto.repo.applyWrites#create","collection":"com.example.x","rkey":"`+key+`","value":{}}`)
			}
			return w.post("applyWrites", "writes", "["+strings.Join(all, ",")+"]")
		}
		const full = "Account has as many records as this server allows"
		w.Accepted(create("a"))
		w.Refused(create("b", "c"), 400, "InvalidRequest", full)
		w.Accepted(create("b"))
		w.Refused(create("c"), 400, "InvalidRequest", full)
		w.Repo.Records.Quota = func() int { return 1 } // from now on: what there is stays, and may change and go
		w.write("putRecord", "collection", `"com.example.x"`, "rkey", `"a"`, "record", `{"n":1}`)
		w.write("deleteRecord", "collection", `"com.example.x"`, "rkey", `"a"`)
		w.Refused(create("c"), 400, "InvalidRequest", full)
		if keys := w.keys("com.example.x"); keys != "b" {
			t.Errorf("records %s", keys)
		}
	})
}
