package operator_test

import (
	"fmt"
	"testing"

	"portico/impl/servertest"
)

// What the operator imports is the account's repository from then on, and the network is
// told of it.
func TestImportRepo(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		u, other := s.SignUp("anna"), s.SignUp("berta")
		write := func(key string) {
			t.Helper()
			s.Accepted(s.Post("com.atproto.repo.createRecord",
				fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","rkey":%q,"record":{"text":%q}}`, u.DID, key, key), u.Access))
		}
		listed := func() string {
			t.Helper()
			return s.Accepted(s.Get("com.atproto.repo.listRecords?collection=com.example.note&repo="+u.DID.String(), "")).Body
		}
		importRepo := func(did, archive string) servertest.Answer {
			t.Helper()
			return s.Post("importRepo?did="+did, archive, servertest.Admin, "Content-Type: application/vnd.ipld.car")
		}
		for n := range 5 {
			write(fmt.Sprint("before-", n))
		}
		archive, before := s.Accepted(s.Get("com.atproto.sync.getRepo?did="+u.DID.String())).Body, listed()
		write("after")
		s.Accepted(s.Post("com.atproto.repo.deleteRecord", fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","rkey":"before-1"}`, u.DID), u.Access))
		last := servertest.Must(s.DB.LastEvent(t.Context()))
		s.Empty(importRepo(u.DID.String(), archive))
		if got := listed(); got != before {
			t.Errorf("imported %s, exported %s", got, before)
		}
		s.finds(u.DID, "")
		if events := servertest.Must(s.DB.Events(t.Context(), last, 10)); len(events) != 1 || events[0].Kind != "#sync" {
			t.Errorf("the network was told %v", events)
		}
		write("and-on")
		s.finds(u.DID, "")

		// As for its owner, what comes from another DID becomes the account's own.
		s.Empty(importRepo(other.DID.String(), archive))
		s.finds(other.DID, "")
		s.Refused(importRepo(u.DID.String(), archive[:100]), 400, "InvalidRequest", "The body is not a CAR of version 1")
		s.Refused(importRepo(unknown, archive), 400, "AccountNotFound", "Account not found")
		s.finds(u.DID, "")
	})
}
