package sync_test

import (
	"net/url"
	"strings"
	"testing"

	"portico/impl/servertest"
)

// oddCursors are texts that no answer gave: halves of one, times that are none, and what a
// database may not like.
var oddCursors = []string{
	"", "x", "::", "5::", "5::x", "5::did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "-5::did:web:x", "9223372036854775807::x", "9223372036854775808::x",
	"8640000000000000::x", "8640000000000001::x", "1e3::x", "5::\x00", "5::\xff", "\x00", "\xff\xfe", "a\x00b", "'", `";--`, "%", "_", "\u2028",
	strings.Repeat("x", 9000), "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku", "0::did:plc:" + strings.Repeat("a", 3000),
}

// paged are the methods of which strangers page, with the parameters they must have.
func paged(u servertest.User) []string {
	return []string{
		"com.atproto.sync.listRepos?limit=1",
		"com.atproto.sync.listBlobs?did=" + u.DID.String(),
		"com.atproto.sync.listReposByCollection?collection=com.example.thing",
		"com.atproto.repo.listRecords?collection=com.example.thing&repo=" + u.DID.String(),
		"com.atproto.repo.listMissingBlobs?limit=5",
	}
}

func askWithCursor(s *servertest.Server, u servertest.User, method, cursor string) {
	s.Helper()
	a := s.Get(method+"&cursor="+url.QueryEscape(cursor), u.Access)
	if a.Status != 200 && a.Status != 400 {
		s.Errorf("%s with the cursor %q: %d %s", method, cursor, a.Status, a.Body)
	}
}

// A cursor may be anything. What is none is refused, or begins somewhere, on either engine.
func TestOddCursors(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		s.TB = t
		u := s.SignUp("alice")
		for _, method := range paged(u) {
			for _, cursor := range oddCursors {
				askWithCursor(s, u, method, cursor)
			}
		}
	}, servertest.In("com.atproto.sync"))
}

func FuzzCursor(f *testing.F) {
	for _, cursor := range oddCursors {
		f.Add(cursor)
	}
	s := servertest.New(f, servertest.In("com.atproto.sync"))
	u := s.SignUp("alice")
	f.Fuzz(func(t *testing.T, cursor string) {
		s.TB = t
		for _, method := range paged(u) {
			askWithCursor(s, u, method, cursor)
		}
	})
}
