package sync_test

import (
	"fmt"
	"net/url"
	"testing"

	"portico/api/xrpc/xrpctest"
	"portico/impl/servertest"
)

// Who may call what, and how often, shows in one file.
func TestPolicies(t *testing.T) {
	servertest.Golden(t, "policies.golden", xrpctest.Access(newServer(t).Routes()))
}

// emptyTree is the name of the one node of a repository without records.
const emptyTree = "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"

// requests are one for each method, all of them about nobody.
var requests = map[string]string{
	"getBlob":               "?cid=" + nothing + "&did=" + unknown,
	"listBlobs":             "?did=" + unknown,
	"getBlocks":             "?did=" + unknown + "&cids=" + emptyTree,
	"getCheckout":           "?did=" + unknown,
	"getHead":               "?did=" + unknown,
	"getHostStatus":         "?hostname=pds.test",
	"getLatestCommit":       "?did=" + unknown,
	"getRecord":             "?did=" + unknown + "&collection=com.example.post&rkey=1",
	"getRepo":               "?did=" + unknown,
	"getRepoStatus":         "?did=" + unknown,
	"listRepos":             "",
	"listReposByCollection": "?collection=com.example.post",
	"subscribeRepos":        "", // without a websocket there is no such method
}

// Every method is called with every credential. What comes of it is a table, to be
// reviewed line by line.
func TestAccess(t *testing.T) {
	credentials := append(servertest.Credentials("none", "malformed header", "unknown scheme", "DPoP", "Basic admin",
		"Basic admin, wrong password", "Basic, no base64", "access", "access, app password", "access, privileged app password",
		"access, takendown", "access, signupQueued", "access, expired", "access, foreign key", "refresh", "moderation service"), servertest.AppCredentials()...)
	table := newServer(t).AccessTable(requests, credentials)
	servertest.Golden(t, "access.golden", "# What each method answers to each credential. The request is about an account that is\n"+
		"# not here, which methods that let it in answer with RepoNotFound.\n"+table)
}

// readers are the methods whose answers are for some when others do not get them, with
// a query of which the DID is missing.
var readers = map[string]string{
	"getBlob":         "getBlob?cid=" + nothing + "&did=",
	"listBlobs":       "listBlobs?did=",
	"getBlocks":       "getBlocks?cids=" + emptyTree + "&did=",
	"getCheckout":     "getCheckout?did=",
	"getHead":         "getHead?did=",
	"getLatestCommit": "getLatestCommit?did=",
	"getRecord":       "getRecord?collection=com.example.post&rkey=1&did=",
	"getRepo":         "getRepo?did=",
}

// The repository of an account that is not active is given to its owner and the operator,
// and to nobody else; and no answer is for a cache that others share.
func TestAvailability(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		alice, bob := s.SignUp("alice"), s.SignUp("bob")
		private := func(a servertest.Answer) servertest.Answer {
			t.Helper()
			if got := a.Header.Get("Cache-Control"); got != "private" {
				t.Errorf("Cache-Control %q", got)
			}
			vary := map[string]bool{}
			for _, one := range a.Header.Values("Vary") {
				vary[one] = true
			}
			if !vary["Authorization"] && !vary["Authorization, Accept-Encoding"] {
				t.Errorf("Vary %v", a.Header.Values("Vary"))
			}
			return a
		}
		s.Accepted(s.Post("com.atproto.repo.uploadBlob", "", "Content-Type: text/plain", "Content-Length: 0", alice.Access))
		s.Mention(alice.DID, "com.example.thing/1", servertest.TextBlob(""))
		who := []string{"", bob.Access, alice.Access, servertest.Admin}
		for name, query := range readers {
			s.Refused(private(s.Get(query+unknown)), 400, "RepoNotFound", "Could not find repo for DID: "+unknown)
			s.Refused(private(s.Get(query+unknown, alice.Access)), 400, "RepoNotFound", "Could not find repo for DID: "+unknown)
			s.Refused(private(s.Get(query+unknown, servertest.Admin)), 400, "RepoNotFound", "Could not find repo for DID: "+unknown)
			s.Refused(s.Get(query+"alice.test"), 400, "InvalidRequest",
				fmt.Sprintf(`Invalid com.atproto.sync.%s params: Invalid DID (got "alice.test")`, name))
			for _, caller := range who {
				s.Accepted(private(s.Get(query+alice.DID.String(), caller)))
			}
		}
		app, other := s.LetIn(alice, "atproto"), s.LetIn(bob, "atproto transition:generic")
		s.Deactivate(alice.DID)
		for _, query := range readers {
			query += alice.DID.String()
			for _, caller := range who[:2] {
				s.Refused(private(s.Get(query, caller)), 400, "RepoDeactivated", "Repo has been deactivated: "+alice.DID.String())
			}
			for _, caller := range who[2:] {
				s.Accepted(private(s.Get(query, caller)))
			}
		}
		// So it is for apps that the account let in.
		for _, query := range readers {
			query += alice.DID.String()
			s.Accepted(private(app.Get(query)))
			s.Refused(private(other.Get(query)), 400, "RepoDeactivated", "Repo has been deactivated: "+alice.DID.String())
		}
		s.TakeDown(alice.DID)
		for _, query := range readers {
			query += alice.DID.String()
			for _, caller := range who[:2] {
				s.Refused(private(s.Get(query, caller)), 400, "RepoTakendown", "Repo has been takendown: "+alice.DID.String())
			}
			for _, caller := range who[2:] {
				s.Accepted(private(s.Get(query, caller)))
			}
		}
		s.Remove(alice.DID)
		for _, query := range readers {
			for _, caller := range who {
				s.Refused(private(s.Get(query+alice.DID.String(), caller)), 400, "RepoNotFound", "Could not find repo for DID: "+alice.DID.String())
			}
		}
	}, in)
}

func query(pairs ...string) string {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return "?" + v.Encode()
}
