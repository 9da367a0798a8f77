package operator_test

import (
	"fmt"
	"testing"

	"portico/db"
	"portico/impl/repo/store"
	"portico/impl/servertest"
)

// Where a repository stands is told of accounts in any state.
func TestGetRepo(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		alice := s.SignUp("alice")
		s.TakeDown(alice.DID)
		repo, err := s.DB.Repo(t.Context(), alice.DID)
		s.Check(err)
		ask := func() servertest.Answer { return s.Get("getRepo?did="+alice.DID.String(), servertest.Admin) }
		want := fmt.Sprintf(`{"did":"%s","commit":"%s","rev":"%s","records":0,"nodes":1,"expectedBlobs":0,"importedBlobs":0,"collections":[]}`,
			alice.DID, store.CID(repo.CommitCID), repo.Rev)
		if a := s.Accepted(ask()); a.Body != want {
			t.Errorf("%s\nwant %s", a.Body, want)
		}
		s.Write(func(tx *db.Tx) error {
			changed := *repo
			changed.Records, changed.Nodes, changed.ExpectedBlobs, changed.ImportedBlobs = 3, 2, 5, 4
			if err := tx.AddCollection(t.Context(), alice.DID, "com.example.post"); err != nil {
				return err
			}
			if err := tx.DeleteRepo(t.Context(), alice.DID); err != nil {
				return err
			}
			return tx.InsertRepo(t.Context(), alice.DID, changed)
		})
		want = fmt.Sprintf(`{"did":"%s","commit":"%s","rev":"%s","records":3,"nodes":2,"expectedBlobs":5,"importedBlobs":4,"collections":["com.example.post"]}`,
			alice.DID, store.CID(repo.CommitCID), repo.Rev)
		if a := s.Accepted(ask()); a.Body != want {
			t.Errorf("%s\nwant %s", a.Body, want)
		}
		s.Write(func(tx *db.Tx) error { return tx.DeleteRepo(t.Context(), alice.DID) })
		s.Refused(ask(), 400, "RepoNotFound", "Repo not found")
	}, servertest.In("alt.portico.operator"))
}
