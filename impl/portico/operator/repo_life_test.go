package operator_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"github.com/bluesky-social/indigo/atproto/atcrypto"
	indigorepo "github.com/bluesky-social/indigo/atproto/repo"
	"github.com/google/go-cmp/cmp"

	"portico/db"
	"portico/impl/repo"
	"portico/impl/repo/event"
	"portico/impl/servertest"
)

// What is done to an account leaves its records as they are, and its repository whole; the
// network hears of it what the contract says (repo-sync.md §8.6).
func TestRepositoriesOutliveWhatIsDoneToAccounts(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		u := s.SignUp("anna")
		write := func(text string) {
			t.Helper()
			s.Accepted(s.Post("com.atproto.repo.createRecord",
				fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","record":{"text":%q}}`, u.DID, text), u.Access))
		}
		listed := func() string {
			t.Helper()
			return s.Accepted(s.Get("com.atproto.repo.listRecords?collection=com.example.note&repo="+u.DID.String(), "")).Body
		}
		takedown := func(applied bool) {
			t.Helper()
			s.Accepted(s.Post("com.atproto.admin.updateSubjectStatus", fmt.Sprintf(
				`{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":%q},"takedown":{"applied":%v}}`, u.DID, applied), servertest.Admin))
		}
		for n := range 20 {
			write(fmt.Sprint("note ", n))
		}
		last := servertest.Must(s.DB.LastEvent(t.Context()))
		// heard is what the network was told since it was last asked.
		heard := func() (kinds []string, events []db.Event) {
			t.Helper()
			events = servertest.Must(s.DB.Events(t.Context(), last, 100))
			for _, e := range events {
				kinds = append(kinds, e.Kind)
				last = e.Seq
			}
			return kinds, events
		}
		before, rev := listed(), servertest.Must(s.DB.Repo(t.Context(), u.DID)).Rev
		for _, step := range []struct {
			name   string
			do     func()
			events []string
			shown  bool // whether the records are
			signed bool // whether there is another commit
		}{
			{"deactivation", func() { s.Empty(s.Post("com.atproto.server.deactivateAccount", `{}`, u.Access)) }, []string{"#account"}, false, false},
			{"activation", func() { s.Empty(s.Post("com.atproto.server.activateAccount", "", u.Access)) }, []string{"#account", "#identity", "#sync"}, true, false},
			{"takedown", func() { takedown(true) }, []string{"#account"}, false, false},
			{"its end", func() { takedown(false) }, []string{"#account"}, true, false},
			{"handle", func() {
				s.Empty(s.Post("com.atproto.identity.updateHandle", `{"handle":"anna2.test"}`, u.Access))
			}, []string{"#identity"}, true, false},
			{"signing key", func() {
				key := s.Accepted(s.Post("com.atproto.server.reserveSigningKey", `{}`)).Text(t, "signingKey")
				s.Empty(s.Post("com.atproto.admin.updateAccountSigningKey", fmt.Sprintf(`{"did":%q,"signingKey":%q}`, u.DID, key), servertest.Admin))
			}, []string{"#identity", "#sync"}, true, true},
		} {
			s.Advance(time.Minute)
			step.do()
			kinds, events := heard()
			if diff := cmp.Diff(step.events, kinds); diff != "" {
				t.Errorf("%s: events (-want +got):\n%s", step.name, diff)
			}
			if step.shown {
				if got := listed(); got != before {
					t.Errorf("%s: records are\n%s\nbefore\n%s", step.name, got, before)
				}
			}
			s.finds(u.DID, "")
			row := servertest.Must(s.DB.Repo(t.Context(), u.DID))
			if (row.Rev > rev) != step.signed || row.Records != 20 {
				t.Errorf("%s: repository is %+v, its rev was %s", step.name, row, rev)
			}
			rev = row.Rev
			commit := servertest.Must(repo.ParseCommit(row.CommitBlock))
			s.Check(commit.Verify(servertest.Must(atcrypto.ParsePublicDIDKey(s.SigningKey(u.DID)))))
			for _, e := range events {
				if e.Kind == "#sync" && !bytes.Contains(e.Body, row.CommitBlock) {
					t.Errorf("%s: #sync is not of the last commit", step.name)
				}
			}
		}

		// The next commit follows the one that the new key signed.
		write("after all that")
		_, events := heard()
		if len(events) != 1 {
			t.Fatalf("%d events of a write", len(events))
		}
		frame := servertest.Must(event.Frame(event.Event{Kind: events[0].Kind, Body: events[0].Body}, 1, s.Now()))
		var m comatproto.SyncSubscribeRepos_Commit
		s.Check(m.UnmarshalCBOR(bytes.NewReader(frame[15:])))
		if _, err := indigorepo.VerifyCommitMessage(t.Context(), &m); err != nil || m.Since == nil || *m.Since != rev {
			t.Errorf("commit since %v, want %s: %v", m.Since, rev, err)
		}
		s.finds(u.DID, "")

		// A deletion leaves nothing, and is all that is told.
		s.Empty(s.Post("com.atproto.admin.deleteAccount", fmt.Sprintf(`{"did":%q}`, u.DID), servertest.Admin))
		if all := servertest.Must(s.DB.Events(t.Context(), 0, 100)); len(all) != 1 || all[0].Kind != "#account" || all[0].DID != u.DID {
			t.Errorf("events of an account that was deleted: %+v", all)
		}
		for _, left := range []int{
			len(servertest.Must(s.DB.Records(t.Context(), u.DID, db.RecordRange{Limit: 10}))),
			len(servertest.Must(s.DB.Nodes(t.Context(), u.DID, nil, 10))),
			len(servertest.Must(s.DB.Collections(t.Context(), u.DID))),
		} {
			if left != 0 {
				t.Error("there are rows of an account that was deleted")
			}
		}
	})
}
