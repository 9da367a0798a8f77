package sync_test

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"portico/db"
	"portico/impl/repo/dagcbor"
	"portico/impl/servertest"
)

func cidOf(body string) dagcbor.CID { return dagcbor.Sum(dagcbor.CodecRaw, []byte(body)) }

func upload(s *servertest.Server, u servertest.User, body string) {
	s.Accepted(s.Post("com.atproto.repo.uploadBlob", body, "Content-Type: text/plain", u.Access))
}

func TestGetBlob(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		alice, bob := s.SignUp("alice"), s.SignUp("bob")
		body := strings.Repeat("0123456789abcdef", 10_000)
		of := func(u servertest.User, cid string) string {
			return "getBlob" + query("did", u.DID.String(), "cid", cid)
		}
		mine := of(alice, cidOf(body).String())
		gone := func() { t.Helper(); s.Refused(s.Get(mine), 400, "InvalidRequest", "Blob not found") }
		gone()
		upload(s, alice, body)
		gone() // no record mentions it yet
		s.Mention(alice.DID, "com.example.thing/1", servertest.TextBlob(body))
		check := func(a servertest.Answer) {
			t.Helper()
			s.Accepted(a)
			for name, want := range map[string]string{
				"Content-Type": "text/plain; charset=utf-8", "Content-Length": "160000", "X-Content-Type-Options": "nosniff",
				"Content-Disposition":     `attachment; filename="` + cidOf(body).String() + `"`,
				"Content-Security-Policy": "default-src 'none'; sandbox", "Cache-Control": "private",
			} {
				if got := a.Header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
		}
		a := s.Get(mine)
		check(a)
		if a.Body != body {
			t.Errorf("%d bytes, want %d", len(a.Body), len(body))
		}
		a = s.Call(http.MethodHead, mine, "")
		check(a)
		if a.Body != "" {
			t.Errorf("%d bytes of nothing", len(a.Body))
		}
		// There are no parts of blobs.
		a = s.Get(mine, "Range: bytes=0-9")
		check(a)
		if a.Body != body {
			t.Errorf("%d bytes of a part, want %d", len(a.Body), len(body))
		}
		s.Refused(s.Get(of(bob, cidOf(body).String())), 400, "InvalidRequest", "Blob not found")
		// A name of another kind is none that a blob has.
		s.Refused(s.Get(of(alice, dagcbor.Sum(dagcbor.CodecDAGCBOR, []byte(body)).String())), 400, "InvalidRequest", "Blob not found")

		s.Check(s.Blobs.TakeDown(t.Context(), alice.DID, cidOf(body), "ref"))
		for _, caller := range []string{"", alice.Access, servertest.Admin} {
			s.Refused(s.Get(mine, caller), 400, "InvalidRequest", "Blob not found")
		}
		s.Check(s.Blobs.Lift(t.Context(), alice.DID, cidOf(body)))
		check(s.Get(mine))

		// A row without its bytes is for the operator to see.
		s.Check(s.Blobs.Store.RemoveAccount(t.Context(), alice.DID))
		gone()
		if log := s.Logged.String(); !strings.Contains(log, "a blob has a row and no bytes") {
			t.Error("nothing is logged")
		}
		// Whoever has them still can bring them back.
		upload(s, alice, body)
		check(s.Get(mine))
		s.Mention(alice.DID, "com.example.thing/1")
		gone()
	}, in)
}

func TestListBlobs(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		alice := s.SignUp("alice")
		const old, recent = "3jqfcqzm3fo2j", "3jqfcqzm3fp2j"
		all := map[string][]dagcbor.CID{}
		for n := range 5 {
			body, path, rev := fmt.Sprint("blob ", n), fmt.Sprint("com.example.thing/", n), old
			if n > 2 {
				rev = recent
			}
			upload(s, alice, body)
			s.Write(func(tx *db.Tx) error {
				value := []byte{0xa0}
				cid := dagcbor.Sum(dagcbor.CodecDAGCBOR, value)
				return tx.PutRecords(t.Context(), alice.DID, db.Record{Path: path, CID: cid[:], Rev: rev, IndexedAt: s.Now(), Value: value})
			})
			s.Mention(alice.DID, path, servertest.TextBlob(body))
			all[""] = append(all[""], cidOf(body))
			all[rev] = append(all[rev], cidOf(body))
		}
		for _, cids := range all {
			slices.SortFunc(cids, func(a, b dagcbor.CID) int { return bytes.Compare(a[:], b[:]) })
		}
		// What is taken down is listed even so.
		s.Check(s.Blobs.TakeDown(t.Context(), alice.DID, all[""][0], "ref"))
		page := func(want []dagcbor.CID, pairs ...string) {
			t.Helper()
			var out struct {
				CIDs   []dagcbor.CID
				Cursor *dagcbor.CID
			}
			a := s.Accepted(s.Get("listBlobs" + query(append([]string{"did", alice.DID.String()}, pairs...)...)))
			a.Decode(t, &out)
			if !slices.Equal(out.CIDs, want) || (out.Cursor == nil) != (len(want) == 0) || out.Cursor != nil && *out.Cursor != want[len(want)-1] {
				t.Errorf("%v: %s, want %v", pairs, a.Body, want)
			}
		}
		page(all[""])
		page(all[""][:2], "limit", "2")
		page(all[""][2:4], "limit", "2", "cursor", all[""][1].String())
		page(nil, "cursor", all[""][4].String())
		page(all[recent], "since", old)
		page(all[recent][1:], "since", old, "cursor", all[recent][0].String())
		page(nil, "since", recent)
		s.Refused(s.Get("listBlobs"+query("did", alice.DID.String(), "cursor", "x")), 400, "InvalidRequest", "Malformed cursor")
	}, in)
}
