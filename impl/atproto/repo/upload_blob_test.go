package repo_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/blob"
	"portico/impl/repo/dagcbor"
	"portico/impl/servertest"
)

const (
	text = "Content-Type: text/plain"
	png  = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
)

func blobCID(body string) string { return dagcbor.Sum(dagcbor.CodecRaw, []byte(body)).String() }

func uploaded(body, typ string) string {
	return fmt.Sprintf(`{"blob":{"$type":"blob","ref":{"$link":%q},"mimeType":%q,"size":%d}}`, blobCID(body), typ, len(body))
}

func compressed(t *testing.T, encoding, body string) string {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch encoding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "deflate":
		w = zlib.NewWriter(&b)
	default:
		w = brotli.NewWriter(&b)
	}
	if _, err := io.WriteString(w, body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestUploadBlob(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		alice := s.SignUp("alice")
		for _, tt := range []struct{ name, body, sent, want string }{
			{"text", "hello", "text/plain; charset=utf-8", "text/plain"},
			{"PNG as text", png, "text/plain", "image/png"},
			{"any type", "hello", "*/*", "*/*"},
			{"JSON", `{"a":1}`, "application/json", "application/json"},
			{"again as another type", "hello", "text/html", "text/html"},
		} {
			a := s.Accepted(s.Post("uploadBlob", tt.body, "Content-Type: "+tt.sent, alice.Access))
			if a.Body != uploaded(tt.body, tt.want) {
				t.Errorf("%s: %s, want %s", tt.name, a.Body, uploaded(tt.body, tt.want))
			}
		}
		a := s.Accepted(s.Post("uploadBlob", "", text, "Content-Length: 0", alice.Access))
		if want := uploaded("", "text/plain"); a.Body != want {
			t.Errorf("nothing: %s, want %s", a.Body, want)
		}
		for _, encoding := range []string{"gzip", "deflate", "br"} {
			body := "compressed with " + encoding
			a := s.Accepted(s.Post("uploadBlob", compressed(t, encoding, body), text, "Content-Encoding: "+encoding, alice.Access))
			if want := uploaded(body, "text/plain"); a.Body != want {
				t.Errorf("%s: %s, want %s", encoding, a.Body, want)
			}
		}
		if sum := s.BlobSums(alice.DID); sum.Blobs != 7 { // two bodies came twice
			t.Errorf("%+v", sum)
		}
	}, in)
}

func TestUploadBlobIsRefused(t *testing.T) {
	s := newServer(t, func(o *servertest.Options) { o.Config.BlobUploadLimit = 1000 })
	alice := s.SignUp("alice")
	large := strings.Repeat("x", 1001)
	s.Accepted(s.Post("uploadBlob", large[:1000], text, alice.Access))
	s.Refused(s.Post("uploadBlob", large, text, alice.Access), 413, "PayloadTooLarge", "request entity too large")
	s.Refused(s.Post("uploadBlob", compressed(t, "gzip", large), text, "Content-Encoding: gzip", alice.Access), 413, "PayloadTooLarge", "request entity too large")
	s.Refused(s.Post("uploadBlob", "x", text, "Content-Encoding: zip", alice.Access), 415, "UnsupportedMediaType", "unsupported content-encoding")
	s.Refused(s.Post("uploadBlob", "x", text, "Content-Encoding: gzip", alice.Access), 400, "Error", "incorrect header check")
	const noType = "Request encoding (Content-Type) required but not provided"
	s.Refused(s.Post("uploadBlob", "x", "Content-Type: ", alice.Access), 400, "InvalidRequest", noType)
	s.Refused(s.Post("uploadBlob", "x", "Content-Type: foo", alice.Access), 400, "InvalidRequest", noType)
	s.Refused(s.Post("uploadBlob", "x", text), 401, "AuthMissing", "Authentication Required")
	// What was refused has left nothing.
	if sum := s.BlobSums(alice.DID); sum.Blobs != 1 || sum.Bytes != 1000 {
		t.Errorf("%+v", sum)
	}
	if n := len(files(s)); n != 1 {
		t.Errorf("%d files", n)
	}
	// Deactivated accounts upload, those that are taken down do not, and those that are
	// gone neither.
	s.Deactivate(alice.DID)
	s.Accepted(s.Post("uploadBlob", "deactivated", text, alice.Access))
	s.TakeDown(alice.DID)
	s.Refused(s.Post("uploadBlob", "x", text, alice.Access), 401, "AccountTakedown", "Account has been taken down")
	s.Remove(alice.DID)
	s.Refused(s.Post("uploadBlob", "x", text, alice.Access), 403, "AccountNotFound", "Account not found")
}

// files are the names of all files of the store.
func files(s *servertest.Server) (names []string) {
	for _, n := range s.Nodes() {
		s.Check(n.Blobs.Wait(s.Context()))
	}
	for f, err := range s.Blobs.Store.Files(s.Context(), "") {
		s.Check(err)
		names = append(names, f.Name.String())
	}
	slices.Sort(names)
	return names
}

// A service that an account has given a token for this method, as one that processes
// videos, uploads for it; the account's state is not asked for then.
func TestUploadBlobByAService(t *testing.T) {
	s := newServer(t)
	did := syntax.DID("did:web:alice.example")
	key := s.NewIdentity(did)
	alice := s.SignUp("alice")
	token := func(issuer syntax.DID, method string) string {
		return s.ServiceToken(issuer, key, method, time.Minute)
	}
	s.Refused(s.Post("uploadBlob", "x", text, token(did, "com.atproto.repo.uploadBlob")), 403, "AccountNotFound", "Account not found")
	s.Publish(alice.DID, alice.Handle, map[string]atcrypto.PrivateKey{"atproto": key})
	s.Forget(alice.DID)
	s.Accepted(s.Post("uploadBlob", "x", text, token(alice.DID, "com.atproto.repo.uploadBlob")))
	s.Deactivate(alice.DID)
	s.TakeDown(alice.DID)
	s.Accepted(s.Post("uploadBlob", "y", text, token(alice.DID, "com.atproto.repo.uploadBlob")))
	s.Refused(s.Post("uploadBlob", "x", text, token(alice.DID, "com.atproto.repo.createRecord")), 401, "BadJwtLexiconMethod",
		`bad jwt lexicon method ("lxm"). must match: com.atproto.repo.uploadBlob`)
	s.Refused(s.Post("uploadBlob", "x", text, "Authorization: Bearer what"), 400, "InvalidToken", "Token could not be verified")
	if sum := s.BlobSums(alice.DID); sum.Blobs != 2 {
		t.Errorf("%+v", sum)
	}
}

func TestUploadBlobLimit(t *testing.T) {
	s := newServer(t, func(o *servertest.Options) { o.Limiter = true })
	alice := s.SignUp("alice")
	a := s.Accepted(s.Post("uploadBlob", "x", text, alice.Access))
	if got := a.Header.Get("RateLimit-Policy") + " " + a.Header.Get("RateLimit-Remaining"); got != "1000;w=86400 999" {
		t.Errorf("limit %s", got)
	}
}

// What an account may have together counts what no record mentions yet, and a body that
// says it is too large is not read.
func TestBlobQuota(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		for _, n := range s.Nodes() {
			n.Blobs.Quota = func() int64 { return 100 }
		}
		alice, bob := s.SignUp("alice"), s.SignUp("bob")
		s.Accepted(s.Post("uploadBlob", strings.Repeat("a", 60), text, alice.Access))
		const full = "The blobs of an account may have 100 bytes together, and this one is too much"
		s.Refused(s.Post("uploadBlob", strings.Repeat("b", 41), text, alice.Access), 400, "InvalidRequest", full)
		s.Refused(s.Post("uploadBlob", compressed(t, "gzip", strings.Repeat("b", 41)), text, "Content-Encoding: gzip", alice.Access), 400, "InvalidRequest", full)
		s.Accepted(s.Post("uploadBlob", strings.Repeat("c", 40), text, alice.Access))
		s.Accepted(s.Post("uploadBlob", strings.Repeat("b", 41), text, bob.Access))
		if sum := s.BlobSums(alice.DID); sum.Bytes != 100 {
			t.Errorf("%+v", sum)
		}
		if n := len(files(s)); n != 3 {
			t.Errorf("%d files", n)
		}
	}, in)
}

// Better than the reference: temporary ones go after a day.
func TestUnreferencedBlobsGoAfterADay(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		alice := s.SignUp("alice")
		for _, body := range []string{"mentioned", "forgotten"} {
			s.Accepted(s.Post("uploadBlob", body, text, alice.Access))
		}
		s.Mention(alice.DID, "com.example.thing/1", servertest.TextBlob("mentioned"))
		clean := func(ahead time.Duration, want blob.Report) {
			t.Helper()
			cleaner := s.Blobs.Cleaner()
			// Files have the time of the disk.
			cleaner.Now = func() time.Time { return s.Now().Add(ahead) }
			report, err := cleaner.Run(context.Background())
			if err != nil || report != want {
				t.Errorf("%+v, %v, want %+v", report, err, want)
			}
		}
		clean(23*time.Hour, blob.Report{})
		clean(25*time.Hour, blob.Report{Expired: 1})
		if got, want := files(s), []string{"permanent " + alice.DID.String() + "/" + blobCID("mentioned")}; !slices.Equal(got, want) {
			t.Errorf("files %q, want %q", got, want)
		}
	}, in)
}

func TestListMissingBlobs(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		alice, bob := s.SignUp("alice"), s.SignUp("bob")
		s.Refused(s.Get("listMissingBlobs"), 401, "AuthMissing", "Authentication Required")
		if a := s.Accepted(s.Get("listMissingBlobs", alice.Access)); a.Body != `{"blobs":[]}` {
			t.Errorf("none: %s", a.Body)
		}
		var missing []dagcbor.CID
		for n := range 3 {
			missing = append(missing, dagcbor.Sum(dagcbor.CodecRaw, fmt.Append(nil, "missing ", n)))
			s.MentionMissing(alice.DID, fmt.Sprint("com.example.thing/", n), missing[n][:])
			s.MentionMissing(alice.DID, fmt.Sprint("com.example.thing/b", n), missing[n][:])
		}
		slices.SortFunc(missing, func(a, b dagcbor.CID) int { return bytes.Compare(a[:], b[:]) })
		page := func(query string, want ...dagcbor.CID) {
			t.Helper()
			var out struct {
				Blobs  []struct{ CID, RecordURI string }
				Cursor string
			}
			s.Accepted(s.Get("listMissingBlobs"+query, alice.Access)).Decode(t, &out)
			var got []string
			for _, b := range out.Blobs {
				got = append(got, b.CID)
				if !strings.HasPrefix(b.RecordURI, "at://"+alice.DID.String()+"/com.example.thing/") || strings.Contains(b.RecordURI, "/b") {
					t.Errorf("record %s", b.RecordURI)
				}
			}
			last := ""
			var all []string
			for _, cid := range want {
				last = cid.String()
				all = append(all, last)
			}
			if !slices.Equal(got, all) || out.Cursor != last {
				t.Errorf("%s: %q and %q, want %q", query, got, out.Cursor, all)
			}
		}
		page("", missing...)
		page("?limit=2", missing[:2]...)
		page("?limit=2&cursor="+missing[1].String(), missing[2])
		page("?cursor=" + missing[2].String())
		s.Refused(s.Get("listMissingBlobs?cursor=x", alice.Access), 400, "InvalidRequest", "Malformed cursor")
		s.Refused(s.Get("listMissingBlobs?limit=1001", alice.Access), 400, "InvalidRequest",
			"Invalid com.atproto.repo.listMissingBlobs params: integer too big (maximum 1000, got 1001)")

		// What comes late is permanent at once.
		for n := range 3 {
			s.Accepted(s.Post("uploadBlob", fmt.Sprint("missing ", n), text, alice.Access))
			s.Accepted(s.Post("uploadBlob", fmt.Sprint("missing ", n), text, bob.Access))
		}
		page("")
		for _, cid := range missing {
			s.Accepted(s.Get("com.atproto.sync.getBlob?did=" + alice.DID.String() + "&cid=" + cid.String()))
			s.Refused(s.Get("com.atproto.sync.getBlob?did="+bob.DID.String()+"&cid="+cid.String()), 400, "InvalidRequest", "Blob not found")
		}
	}, in)
}
