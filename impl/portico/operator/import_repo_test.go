package operator_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/repo/importer"
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

// The rows of a repository whose import is under way, or was broken off, are neither the old
// one nor the new one. Nobody mends them: an import does.
func TestInspectAccountDuringAnImport(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		u, other := s.SignUp("anna"), s.SignUp("berta")
		s.fill(u.DID)
		s.fill(other.DID)
		archive := s.Accepted(s.Get("com.atproto.sync.getRepo?did="+other.DID.String(), "")).Body
		importRepo := func() servertest.Answer {
			return s.Post("importRepo?did="+u.DID.String(), archive, servertest.Admin, "Content-Type: application/vnd.ipld.car")
		}
		s.Deactivate(u.DID)
		s.Write(func(tx *db.Tx) error { return tx.DeleteRecords(t.Context(), u.DID, records[:4]...) })
		s.finds(u.DID, "repo_records")

		imports := s.Operator.Imports
		imports.Bounds = importer.Bounds{AtOnce: 1, Batch: 1}
		finish := imports.Finish
		imports.Finish = func(context.Context, *db.Tx, syntax.DID, time.Time, importer.Imported) error {
			return errors.New("the power is out")
		}
		if a := importRepo(); a.Status != 500 {
			t.Fatalf("answer %d %s", a.Status, a.Body)
		}
		s.finds(u.DID, "repo_damaged")
		if _, messages := s.inspect(u.DID); !strings.HasPrefix(messages, "An import of the repository is under way, or was broken off.") {
			t.Errorf("found: %s", messages)
		}
		s.repairs(u.DID, "", "repo_damaged")

		imports.Finish = finish
		s.Empty(importRepo())
		s.finds(u.DID, "")
	})
}
