package repo_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"portico/impl/repo/tree"
	"portico/impl/servertest"
)

const (
	hello = `{"text":"hello","createdAt":"2026-01-01T00:00:00Z"}`
)

// like is a record that points at something.
func like(uri string) string {
	return fmt.Sprintf(`{"subject":{"uri":%q,"cid":"bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua"},"createdAt":"2026-01-01T00:00:00Z"}`, uri)
}

// A record is written, read, changed and deleted; each time there is one commit.
func TestWrites(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		before, err := w.DB.Repo(t.Context(), w.alice.DID)
		w.Check(err)
		made := w.write("createRecord", "collection", `"app.bsky.feed.post"`, "record", hello)
		key := made.URI[strings.LastIndex(made.URI, "/")+1:]
		if made.URI != "at://"+w.alice.DID.String()+"/app.bsky.feed.post/"+key || len(key) != 13 || *made.ValidationStatus != "valid" {
			t.Errorf("created %+v", made)
		}
		c := w.committed("create app.bsky.feed.post/" + key + " cid")
		if c.Commit.String() != made.Commit.CID || c.Rev != made.Commit.Rev || *c.Since != before.Rev || c.Repo != w.alice.DID.String() {
			t.Errorf("event %+v, answer %+v", c, made.Commit)
		}
		get := "getRecord?repo=" + w.alice.DID.String() + "&collection=app.bsky.feed.post&rkey=" + key
		want := fmt.Sprintf(`{"uri":%q,"cid":%q,"value":{"text":"hello","$type":"app.bsky.feed.post","createdAt":"2026-01-01T00:00:00Z"}}`, made.URI, made.CID)
		if a := w.Accepted(w.Get(get)); a.Body != want {
			t.Errorf("read %s\nwant %s", a.Body, want)
		}

		put := w.write("putRecord", "collection", `"app.bsky.feed.post"`, "rkey", `"`+key+`"`, "record", strings.Replace(hello, "hello", "bye", 1))
		if put.URI != made.URI || put.CID == made.CID || put.Commit.Rev <= made.Commit.Rev || *put.ValidationStatus != "valid" {
			t.Errorf("updated %+v", put)
		}
		w.committed("update app.bsky.feed.post/" + key + " cid prev")

		gone := w.write("deleteRecord", "collection", `"app.bsky.feed.post"`, "rkey", `"`+key+`"`)
		if gone.Commit.Rev <= put.Commit.Rev {
			t.Errorf("deleted %+v", gone)
		}
		w.committed("delete app.bsky.feed.post/" + key + " prev")
		w.Refused(w.Get(get), 400, "RecordNotFound", "Could not locate record: "+made.URI)
		after, err := w.DB.Repo(t.Context(), w.alice.DID)
		w.Check(err)
		if after.Records != 0 || string(after.DataCID) != string(tree.Empty.CID[:]) || after.Rev != gone.Commit.Rev {
			t.Errorf("repository %+v", after)
		}
		// By the handle, too.
		w.Accepted(w.post("putRecord", "repo", `"alice.test"`, "collection", `"com.example.x"`, "rkey", `"a"`, "record", `{}`))
	})
}

// Conditions: that of the commit goes before that of a record, and none is looked at
// where there is nothing to do.
func TestSwaps(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		x := []string{"collection", `"com.example.x"`, "rkey", `"a"`}
		with := func(pairs ...string) []string { return append(append([]string(nil), x...), pairs...) }
		const other = `"bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua"`
		first := w.write("putRecord", with("record", `{"n":1}`, "swapRecord", "null")...)
		at := func(s string) string { return "Record was at " + s }
		commit := first.Commit.CID
		for _, tt := range []struct {
			method string
			with   []string
			want   string
		}{
			{"putRecord", []string{"record", `{"n":2}`, "swapRecord", "null"}, at(first.CID)},
			{"putRecord", []string{"record", `{"n":2}`, "swapRecord", other}, at(first.CID)},
			{"putRecord", []string{"record", `{"n":2}`, "rkey", `"b"`, "swapRecord", other}, at("null")},
			{"deleteRecord", []string{"swapRecord", other}, at(first.CID)},
			{"putRecord", []string{"record", `{"n":2}`, "swapRecord", other, "swapCommit", other}, "Commit was at " + commit},
			{"createRecord", []string{"record", `{"n":2}`, "rkey", `"b"`, "swapCommit", other}, "Commit was at " + commit},
			{"createRecord", []string{"record", `{"n":2}`, "swapCommit", other}, "Commit was at " + commit}, // and the key is there
			{"deleteRecord", []string{"swapCommit", other}, "Commit was at " + commit},
			{"applyWrites", []string{"writes", `[]`, "swapCommit", other}, "Commit was at " + commit},
		} {
			w.Refused(w.post(tt.method, with(tt.with...)...), 400, "InvalidSwap", tt.want)
		}
		w.commits()
		// Nothing to do.
		same := w.write("putRecord", with("record", `{"n":1}`, "swapRecord", other, "swapCommit", other)...)
		if same.Commit != nil || same.CID != first.CID || *same.ValidationStatus != "unknown" {
			t.Errorf("put what is there: %+v", same)
		}
		if a := w.Accepted(w.post("deleteRecord", with("rkey", `"b"`, "swapRecord", other, "swapCommit", other)...)); a.Body != "{}" {
			t.Errorf("deleted what is not there: %s", a.Body)
		}
		w.committed()
		// And what holds.
		second := w.write("putRecord", with("record", `{"n":2}`, "swapRecord", `"`+first.CID+`"`, "swapCommit", `"`+commit+`"`)...)
		w.write("deleteRecord", with("swapRecord", `"`+second.CID+`"`, "swapCommit", `"`+second.Commit.CID+`"`)...)
		w.committed("update com.example.x/a cid prev", "delete com.example.x/a prev")
	})
}

// DESIGN §10, 500s that a client can provoke: what cannot be done is a 400.
func TestDesign500sOfWrites(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		x := []string{"collection", `"com.example.x"`, "rkey", `"a"`, "record", `{}`}
		w.write("createRecord", x...)
		w.commits()
		w.Refused(w.post("createRecord", x...), 400, "InvalidRequest", "Record already exists")
		writes := func(all ...string) servertest.Answer {
			return w.post("applyWrites", "writes", "["+strings.Join(all, ",")+"]")
		}
		one := func(action, key, more string) string {
			return fmt.Sprintf(`{"$type":"com.atproto.repo.applyWrites#%s","collection":"com.example.x","rkey":%q%s}`, action, key, more)
		}
		w.Refused(writes(one("create", "a", `,"value":{}`)), 400, "InvalidRequest", "Record already exists")
		w.Refused(writes(one("update", "b", `,"value":{}`)), 400, "InvalidRequest", "Record does not exist")
		w.Refused(writes(one("delete", "b", ``)), 400, "InvalidRequest", "Record does not exist")
		w.Refused(writes(one("create", "c", `,"value":{"n":9007199254740992}`)), 400, "InvalidRequest",
			"Expected one of null, boolean, integer, string, cid, bytes, array or object value type (got 9007199254740992) at $.writes[0].value.n")
		// All or none.
		w.Refused(writes(one("create", "c", `,"value":{}`), one("delete", "b", ``)), 400, "InvalidRequest", "Record does not exist")
		w.committed()
		if got := w.keys("com.example.x"); got != "a" {
			t.Errorf("records %s", got)
		}
	})
}

// DESIGN §10, repo-sync R1–R5 and R7: a commit says what it comes to for each path, has
// the tree's root, and there is none without a change.
func TestDesignNetOperations(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		apply := func(all ...string) written {
			t.Helper()
			return w.write("applyWrites", "writes", "["+strings.Join(all, ",")+"]")
		}
		one := func(action, key, value string) string {
			if value != "" {
				value = `,"value":` + value
			}
			return fmt.Sprintf(`{"$type":"com.atproto.repo.applyWrites#%s","collection":"com.example.x","rkey":%q%s}`, action, key, value)
		}
		first := apply(one("create", "a", `{"n":1}`), one("create", "b", `{"n":1}`))
		w.committed("create com.example.x/a cid, create com.example.x/b cid")
		apply(one("delete", "a", ""), one("create", "a", `{"n":2}`)) // R1
		w.committed("update com.example.x/a cid prev")
		apply(one("create", "c", `{"n":1}`), one("delete", "c", ""), one("delete", "b", "")) // R2
		last := w.committed("delete com.example.x/b prev")
		for name, nothing := range map[string][]string{
			"R2": {one("create", "c", `{"n":1}`), one("delete", "c", "")}, "R3": nil, "R4": {one("update", "a", `{"n":2}`)},
		} {
			if got := apply(nothing...); got.Commit.CID != last.Commit.String() || got.Commit.Rev != last.Rev || len(got.Results) != len(nothing) {
				t.Errorf("%s: %+v", name, got)
			}
			w.committed()
		}
		apply(one("update", "a", `{"n":3}`), one("update", "a", `{"n":4}`), one("create", "c", `{}`), one("update", "c", `{"n":5}`)) // R5
		w.committed("update com.example.x/a cid prev, create com.example.x/c cid")

		// The results are those of the writes, in their order.
		want := []map[string]any{
			{"$type": "com.atproto.repo.applyWrites#createResult", "uri": "at://" + w.alice.DID.String() + "/com.example.x/a", "cid": first.Results[0]["cid"], "validationStatus": "unknown"},
			{"$type": "com.atproto.repo.applyWrites#createResult", "uri": "at://" + w.alice.DID.String() + "/com.example.x/b", "cid": first.Results[0]["cid"], "validationStatus": "unknown"},
		}
		if diff := cmp.Diff(want, first.Results); diff != "" {
			t.Errorf("results (-want +got):\n%s", diff)
		}
		done := w.write("applyWrites", "validate", "false", "writes", "["+one("update", "a", `{}`)+","+one("delete", "c", "")+"]")
		want = []map[string]any{
			{"$type": "com.atproto.repo.applyWrites#updateResult", "uri": "at://" + w.alice.DID.String() + "/com.example.x/a", "cid": done.Results[0]["cid"]},
			{"$type": "com.atproto.repo.applyWrites#deleteResult"},
		}
		if diff := cmp.Diff(want, done.Results); diff != "" {
			t.Errorf("results (-want +got):\n%s", diff)
		}
	})
}

// What points at the same thing is replaced by createRecord, in one commit.
func TestBacklinks(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		const (
			of   = "app.bsky.feed.like"
			that = "at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/app.bsky.feed.post/3jqfcqzm3fo2j"
			k1   = "3jqfcqzm3fo2j"
			k2   = "3jqfcqzm3fp2j"
			k3   = "3jqfcqzm3fr2j"
		)
		create := func(key, record string, more ...string) {
			t.Helper()
			w.write("createRecord", append([]string{"collection", `"` + of + `"`, "rkey", `"` + key + `"`, "record", record}, more...)...)
		}
		create(k1, like(that))
		create(k2, like(that+"x"))
		w.committed("create "+of+"/"+k1+" cid", "create "+of+"/"+k2+" cid")
		create(k3, like(that))
		w.committed("delete " + of + "/" + k1 + " prev, create " + of + "/" + k3 + " cid")
		// Again with the same key: it replaces itself, and differs or not.
		create(k3, strings.Replace(like(that), "2026", "2027", 1))
		w.committed("update " + of + "/" + k3 + " cid prev")
		create(k3, strings.Replace(like(that), "2026", "2027", 1))
		w.committed()
		// Not another one's key.
		w.Refused(w.post("createRecord", "collection", `"`+of+`"`, "rkey", `"`+k3+`"`, "record", like(that+"y")), 400, "InvalidRequest", "Record already exists")
		// Not without validation, nor by other methods.
		create(k1, like(that), "validate", "false")
		w.write("putRecord", "collection", `"`+of+`"`, "rkey", `"3jqfcqzm4fc2j"`, "record", like(that))
		w.committed("create "+of+"/"+k1+" cid", "create "+of+"/3jqfcqzm4fc2j cid")
		create("3jqfcqzm4fd2j", like(that))
		w.committed("delete " + of + "/" + k1 + " prev, delete " + of + "/" + k3 + " prev, delete " + of + "/3jqfcqzm4fc2j prev, create " + of + "/3jqfcqzm4fd2j cid")
		// By what else points: each kind by itself.
		for _, kind := range []string{"follow", "block"} {
			record := `{"subject":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa","createdAt":"2026-01-01T00:00:00Z"}`
			for range 2 {
				w.write("createRecord", "collection", `"app.bsky.graph.`+kind+`"`, "record", record)
			}
			if keys := w.keys("app.bsky.graph." + kind); len(keys) != 13 {
				t.Errorf("%s: %s", kind, keys)
			}
		}
	})
}

// Who may write, in the order in which it is looked at.
func TestWriters(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		bob := w.SignUp("bob")
		put := func(repo, access string) servertest.Answer {
			return w.Post("putRecord", w.body("repo", `"`+repo+`"`, "collection", `"com.example.x"`, "rkey", `"a"`, "record", `{}`), access)
		}
		w.Accepted(put("alice.test", w.alice.Access))
		w.Refused(put("ALICE.test", w.alice.Access), 403, "AccountNotFound", "Account not found")
		w.Refused(put(unknown, w.alice.Access), 403, "AccountNotFound", "Account not found")
		w.Refused(put(bob.DID.String(), w.alice.Access), 401, "AuthenticationRequired", "Authentication Required")
		w.Deactivate(bob.DID)
		w.Refused(put(bob.DID.String(), bob.Access), 401, "AccountDeactivated", "Account is deactivated")
		w.Refused(put(bob.DID.String(), w.alice.Access), 401, "AccountDeactivated", "Account is deactivated")
		w.TakeDown(bob.DID)
		w.Refused(put("bob.test", bob.Access), 401, "AccountTakedown", "Account has been taken down")
		w.Remove(bob.DID)
		w.Refused(put(bob.DID.String(), bob.Access), 403, "AccountNotFound", "Account not found")
		// What is wrong with the record comes after all that.
		w.Refused(w.Post("putRecord", w.body("repo", `"`+unknown+`"`, "collection", `"com.example.x"`, "rkey", `"a"`, "record", `{"$type":"x"}`), w.alice.Access),
			403, "AccountNotFound", "Account not found")
	})
}

// What is wrong with a request or a record, in the reference's words.
func TestRefusedRecords(t *testing.T) {
	w := newWorld(newServer(t))
	in := func(collection, record string, more ...string) []string {
		return append([]string{"collection", `"` + collection + `"`, "record", record}, more...)
	}
	for _, tt := range []struct {
		pairs []string
		want  string
	}{
		{in("com.example.x", `{"$type":"com.example.y"}`), "Invalid $type: expected com.example.x, got com.example.y"},
		{in("com.example.x", `{}`, "validate", "true"), "Unknown lexicon type: com.example.x"},
		{in("app.bsky.feed.post", `{"createdAt":"2026-01-01T00:00:00Z"}`), `Invalid app.bsky.feed.post record: Missing required key "text" at $.record`},
		{in("app.bsky.feed.post", `{"text":"x","createdAt":"yesterday"}`), `Invalid app.bsky.feed.post record: Invalid datetime (got "yesterday") at $.record.createdAt`},
		{in("app.bsky.actor.profile", `{}`, "rkey", `"x"`), `Invalid record key for app.bsky.actor.profile: Expected "self" (got "x") at $`},
		{in("com.example.x", `{"a":1.5}`), "Expected one of null, boolean, integer, string, cid, bytes, array or object value type (got 1.5) at $.record.a"},
		{in("com.example.x", `[1]`), "Invalid com.atproto.repo.createRecord input: Expected object value type (got [1]) at $.record"},
		{in("com.example.x", `{}`, "rkey", `".."`), `Invalid com.atproto.repo.createRecord input: Invalid record key (got "..") at $.rkey`},
		{in("com.example.x", `{"a":{"cid":"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku","mimeType":"image/png"}}`, "validate", "false"),
			"Legacy blobs are not allowed (bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku)"},
	} {
		a := w.post("createRecord", tt.pairs...)
		got := a.Fields(t)
		if a.Status != 400 || got["error"] != "InvalidRequest" || got["message"] != tt.want && "Invalid com.atproto.repo.createRecord input: "+got["message"].(string) != tt.want {
			t.Errorf("%s: %d %s\nwant %s", tt.pairs, a.Status, a.Body, tt.want)
		}
	}
	w.Refused(w.post("createRecord", in("com.example.x", `{"a":{"$type":"blob","ref":{"$link":"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"},"mimeType":"image/png","size":1}}`)...),
		400, "BlobNotFound", "Could not find blob: bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku")
	w.Refused(w.post("applyWrites", "writes", "["+strings.TrimSuffix(strings.Repeat(`{"$type":"com.atproto.repo.applyWrites#delete","collection":"com.example.x","rkey":"a"},`, 201), ",")+"]"),
		400, "InvalidRequest", "Too many writes. Max: 200")
	w.committed()
}

// A commit that is too large for an event is refused, measured as it is sent (R7).
func TestTooLargeCommit(t *testing.T) {
	w := newWorld(newServer(t))
	write := func(n int) string {
		return fmt.Sprintf(`{"$type":"com.atproto.repo.applyWrites#create","collection":"com.example.x","rkey":"k%d","value":{"t":%q}}`, n, strings.Repeat("x", 4850))
	}
	var all []string
	for n := range 200 {
		all = append(all, write(n))
	}
	w.write("applyWrites", "writes", "["+strings.Join(all, ",")+"]")
	if c := w.commits(); len(c) != 1 || len(c[0].Ops) != 200 || len(c[0].Blocks) > 2_000_000 {
		t.Errorf("%d commits", len(c))
	}
	a := w.post("createRecord", "collection", `"com.example.x"`, "record", `{"t":"`+strings.Repeat("x", 1_000_000)+`"}`)
	w.Refused(a, 413, "PayloadTooLargeError", "request entity too large")
}

// Write points are an account's, and shared by the methods.
func TestWritePoints(t *testing.T) {
	w := newWorld(newServer(t, func(o *servertest.Options) { o.Limiter = true }))
	bob := w.SignUp("bob")
	x := []string{"collection", `"com.example.x"`, "rkey", `"a"`}
	one := func(action, more string) string {
		return fmt.Sprintf(`{"$type":"com.atproto.repo.applyWrites#%s","collection":"com.example.x","rkey":"b"%s}`, action, more)
	}
	many := []string{"writes", "[" + strings.Repeat(one("delete", "")+",", 199) + one("delete", "") + "]"}
	// The limit of all calls of an address has fewer points left at first.
	for range 12 { // that cannot be done, and counts
		w.Refused(w.post("applyWrites", many...), 400, "InvalidRequest", "Record does not exist")
	}
	for _, tt := range []struct {
		method string
		pairs  []string
		want   string // of 5000, 2400 are gone
	}{
		{"createRecord", append(x, "record", `{}`), "2597"},
		{"putRecord", append(x, "record", `{"n":1}`), "2595"},
		{"deleteRecord", x, "2594"},
		{"applyWrites", []string{"writes", "[" + one("create", `,"value":{}`) + "," + one("update", `,"value":{"n":1}`) + "," + one("delete", "") + "]"}, "2588"},
		{"applyWrites", []string{"writes", "[]"}, "2587"},
	} {
		a := w.Accepted(w.post(tt.method, tt.pairs...))
		if got := a.Header.Get("RateLimit-Remaining"); got != tt.want || a.Header.Get("RateLimit-Policy") != "5000;w=3600" {
			t.Errorf("%s: %s of %s, want %s", tt.method, got, a.Header.Get("RateLimit-Policy"), tt.want)
		}
	}
	for range 13 {
		w.post("applyWrites", many...)
	}
	a := w.post("createRecord", append(x, "record", `{}`)...)
	w.Refused(a, 429, "RateLimitExceeded", "Rate Limit Exceeded")
	if got := a.Header.Get("Retry-After"); got != "3600" {
		t.Errorf("Retry-After %s", got)
	}
	w.Accepted(w.Post("createRecord", w.body(append(x, "repo", `"bob.test"`, "record", `{}`)...), bob.Access))
}
