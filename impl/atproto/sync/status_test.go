package sync_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/repo/store"
	"portico/impl/servertest"
)

// The last commit, as it is named in three ways.
func TestLatestCommit(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		alice := s.SignUp("alice")
		repo, err := s.DB.Repo(t.Context(), alice.DID)
		s.Check(err)
		commit := store.CID(repo.CommitCID)
		for query, want := range map[string]string{
			"getLatestCommit": fmt.Sprintf(`{"cid":"%s","rev":"%s"}`, commit, repo.Rev),
			"getHead":         fmt.Sprintf(`{"root":"%s"}`, commit),
			"getRepoStatus":   fmt.Sprintf(`{"did":"%s","active":true,"rev":"%s"}`, alice.DID, repo.Rev),
		} {
			if a := s.Accepted(s.Get(query + "?did=" + alice.DID.String())); a.Body != want {
				t.Errorf("%s: %s\nwant %s", query, a.Body, want)
			}
		}
		s.Write(func(tx *db.Tx) error { return tx.DeleteRepo(t.Context(), alice.DID) })
		none := "Could not find root for DID: " + alice.DID.String()
		s.Refused(s.Get("getLatestCommit?did="+alice.DID.String()), 400, "RepoNotFound", none)
		s.Refused(s.Get("getHead?did="+alice.DID.String()), 400, "HeadNotFound", none)
	}, in)
}

// Anybody learns whether an account is active, and what rev it has if it is.
func TestRepoStatus(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		alice := s.SignUp("alice")
		status := func(want string) {
			t.Helper()
			for _, caller := range []string{"", alice.Access, servertest.Admin} {
				if a := s.Accepted(s.Get("getRepoStatus?did="+alice.DID.String(), caller)); a.Body != want {
					t.Errorf("%s\nwant %s", a.Body, want)
				}
			}
		}
		s.Deactivate(alice.DID)
		status(fmt.Sprintf(`{"did":"%s","active":false,"status":"deactivated"}`, alice.DID))
		s.TakeDown(alice.DID)
		status(fmt.Sprintf(`{"did":"%s","active":false,"status":"takendown"}`, alice.DID))
		s.Remove(alice.DID)
		s.Refused(s.Get("getRepoStatus?did="+alice.DID.String()), 400, "RepoNotFound", "Could not find repo for DID: "+alice.DID.String())
	}, in)
}

// All repositories are listed, each once, in the order of their accounts' creation: also
// accounts of the same millisecond, and also while those go that a cursor names.
func TestListRepos(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		type page struct {
			Repos []struct {
				DID, Head, Rev, Status string
				Active                 bool
			}
			Cursor string
		}
		list := func(pairs ...string) (p page) {
			t.Helper()
			s.Accepted(s.Get("listRepos"+query(pairs...))).Decode(t, &p)
			return p
		}
		if a := s.Accepted(s.Get("listRepos")); a.Body != `{"repos":[]}` {
			t.Errorf("without accounts: %s", a.Body)
		}
		var users []servertest.User
		for i := range 7 {
			users = append(users, s.SignUp(fmt.Sprint("user-", i)))
			if i%3 > 0 {
				s.Advance(500 * time.Microsecond)
			}
		}
		s.Deactivate(users[1].DID)
		s.TakeDown(users[2].DID)
		whole := list()
		if len(whole.Repos) != 7 {
			t.Fatalf("%+v", whole)
		}
		for i, r := range whole.Repos {
			a := s.Account(syntax.DID(r.DID))
			repo, err := s.DB.Repo(t.Context(), a.DID)
			s.Check(err)
			if r.Status != a.Status() || r.Active != a.Active() || r.Head != store.CID(repo.CommitCID).String() || r.Rev != repo.Rev {
				t.Errorf("%+v of %+v", r, repo)
			}
			if i == 6 && whole.Cursor != fmt.Sprintf("%d::%s", a.CreatedAt.UnixMilli(), a.DID) {
				t.Errorf("cursor %q", whole.Cursor)
			}
			if i > 0 && a.CreatedAt.Before(s.Account(syntax.DID(whole.Repos[i-1].DID)).CreatedAt) {
				t.Errorf("%s is listed behind %s", r.DID, whole.Repos[i-1].DID)
			}
		}
		for _, limit := range []string{"1", "2", "3"} {
			var got []string
			for cursor := ""; ; {
				pairs := []string{"limit", limit}
				if cursor != "" {
					pairs = append(pairs, "cursor", cursor)
				}
				p := list(pairs...)
				if len(p.Repos) == 0 {
					if p.Cursor != "" {
						t.Errorf("an empty page has the cursor %q", p.Cursor)
					}
					break
				}
				for _, r := range p.Repos {
					got = append(got, r.DID)
				}
				cursor = p.Cursor
			}
			var want []string
			for _, r := range whole.Repos {
				want = append(want, r.DID)
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("pages of %s: %v\nwant %v", limit, got, want)
			}
		}
		// What a cursor names may go meanwhile.
		cursor := list("limit", "3").Cursor
		s.Write(func(tx *db.Tx) error { return tx.DeleteAccount(t.Context(), syntax.DID(whole.Repos[2].DID)) })
		seen := map[string]bool{}
		for _, r := range list("cursor", cursor).Repos {
			seen[r.DID] = true
		}
		for _, r := range whole.Repos[3:] {
			if !seen[r.DID] {
				t.Errorf("%s is not listed after %s has gone", r.DID, whole.Repos[2].DID)
			}
		}
		for _, bad := range []string{"x", "::", "12", "12::", "::did:plc:x", "x::did:plc:x", "1.5::did:plc:x", "99999999999999999::did:plc:x"} {
			s.Refused(s.Get("listRepos"+query("cursor", bad)), 400, "InvalidRequest", "Malformed cursor")
		}
		s.Refused(s.Get("listRepos?limit=0"), 400, "InvalidRequest",
			"Invalid com.atproto.sync.listRepos params: integer too small (minimum 1, got 0)")
		if p := list("cursor", "8640000000000000::did:plc:x"); len(p.Repos) != 0 {
			t.Errorf("at the end of time: %+v", p)
		}
		if p := list("cursor", "0::\x00"); len(p.Repos) != 0 {
			t.Errorf("behind what is no DID: %+v", p)
		}
	}, in)
}
