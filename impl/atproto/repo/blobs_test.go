package repo_test

import (
	"strconv"
	"testing"

	"portico/impl/servertest"
)

func mentioning(body string) string {
	return `{"$type":"com.example.thing","blob":{"$type":"blob","ref":{"$link":"` + blobCID(body) + `"},"mimeType":"text/plain","size":` + strconv.Itoa(len(body)) + `}}`
}

// What a record mentions is served for as long as one does; what is wrong with a mention
// leaves everything as it was.
func TestRecordsWithBlobs(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		upload := func(body string) { w.Accepted(w.Post("uploadBlob", body, text, w.alice.Access)) }
		get := func(body string) servertest.Answer {
			return w.Get("com.atproto.sync.getBlob?did=" + w.alice.DID.String() + "&cid=" + blobCID(body))
		}
		there := func(body string) { t.Helper(); w.Accepted(get(body)) }
		gone := func(body string) { t.Helper(); w.Refused(get(body), 400, "InvalidRequest", "Blob not found") }
		put := func(key, record string) servertest.Answer {
			return w.post("putRecord", "collection", `"com.example.thing"`, "rkey", `"`+key+`"`, "record", record)
		}
		w.Refused(put("a", mentioning("one")), 400, "BlobNotFound", "Could not find blob: "+blobCID("one"))
		upload("one")
		upload("two")
		gone("one")
		const wrongType = `{"blob":{"$type":"blob","ref":{"$link":"`
		w.Refused(put("a", wrongType+blobCID("one")+`"},"mimeType":"image/png","size":3}}`), 400, "InvalidMimeType",
			"Referenced Mimetype does not match stored blob. Expected: text/plain, Got: image/png")
		w.Refused(put("a", wrongType+blobCID("one")+`"},"mimeType":"text/plain","size":4}}`), 400, "InvalidSize",
			"Referenced Size does not match stored blob. Expected: 3, Got: 4")
		gone("one")
		w.Accepted(put("a", mentioning("one")))
		there("one")
		// Once it is permanent, neither is looked at.
		w.Accepted(put("b", wrongType+blobCID("one")+`"},"mimeType":"image/png","size":4}}`))
		w.Accepted(put("a", mentioning("two")))
		there("one")
		there("two")
		w.Accepted(w.post("deleteRecord", "collection", `"com.example.thing"`, "rkey", `"b"`))
		gone("one")
		there("two")
		w.Refused(put("b", mentioning("one")), 400, "BlobNotFound", "Could not find blob: "+blobCID("one"))
		// What comes and goes within one commit is not kept, nor is it lost.
		upload("three")
		w.Accepted(w.post("applyWrites", "writes", `[
			{"$type":"com.atproto.repo.applyWrites#create","collection":"com.example.thing","rkey":"c","value":`+mentioning("three")+`},
			{"$type":"com.atproto.repo.applyWrites#delete","collection":"com.example.thing","rkey":"c"}]`))
		gone("three")
		w.Accepted(w.post("applyWrites", "writes", `[
			{"$type":"com.atproto.repo.applyWrites#delete","collection":"com.example.thing","rkey":"a"},
			{"$type":"com.atproto.repo.applyWrites#create","collection":"com.example.thing","rkey":"c","value":`+mentioning("two")+`},
			{"$type":"com.atproto.repo.applyWrites#create","collection":"com.example.thing","rkey":"d","value":`+mentioning("three")+`}]`))
		there("two")
		there("three")
		r, err := w.DB.Repo(t.Context(), w.alice.DID)
		w.Check(err)
		if r.ExpectedBlobs != 2 || r.ImportedBlobs != 2 || len(files(w.Server)) != 2 {
			t.Errorf("%d named, %d there, files %q", r.ExpectedBlobs, r.ImportedBlobs, files(w.Server))
		}
		// With the account go its files.
		w.Empty(w.Post("com.atproto.admin.deleteAccount", `{"did":"`+w.alice.DID.String()+`"}`, servertest.Admin))
		if left := files(w.Server); len(left) != 0 {
			t.Errorf("left of a deleted account: %q", left)
		}
	})
}
