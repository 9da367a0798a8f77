package repo_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	indigorepo "github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/repo/event"
	"portico/impl/servertest"
)

var in = servertest.In("com.atproto.repo")

// unknown is a DID of which nothing is here.
const unknown = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"

// A world is a server, and alice on it, who writes.
type world struct {
	*servertest.Server
	alice servertest.User
	seen  int64 // the last event that commits has read
}

func newWorld(s *servertest.Server) *world {
	w := &world{Server: s, alice: s.SignUp("alice")}
	w.commits()
	return w
}

// worlds runs a test on each engine of the database.
func worlds(t *testing.T, test func(t *testing.T, w *world), change ...func(*servertest.Options)) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) { test(t, newWorld(s)) }, append(change, in)...)
}

// body is JSON of pairs, of which the value is put in as it is, with alice's DID for repo
// unless that is given.
func (w *world) body(pairs ...string) string {
	fields := map[string]json.RawMessage{"repo": json.RawMessage(fmt.Sprintf("%q", w.alice.DID))}
	for i := 0; i < len(pairs); i += 2 {
		fields[pairs[i]] = json.RawMessage(pairs[i+1])
	}
	b, err := json.Marshal(fields)
	w.Check(err)
	return string(b)
}

// post calls a method as alice.
func (w *world) post(method string, pairs ...string) servertest.Answer {
	w.Helper()
	return w.Post(method, w.body(pairs...), w.alice.Access)
}

// write is post that has to succeed.
func (w *world) write(method string, pairs ...string) written {
	w.Helper()
	var out written
	w.Accepted(w.post(method, pairs...)).Decode(w, &out)
	return out
}

// written is what the methods that write answer.
type written struct {
	URI    string
	CID    string
	Commit *struct{ CID, Rev string }

	ValidationStatus *string
	Results          []map[string]any
}

// commits are the events since the last call. Each is one that indigo inverts, and has the
// tree's root in its archive.
func (w *world) commits() (all []*comatproto.SyncSubscribeRepos_Commit) {
	w.Helper()
	events, err := w.DB.Events(w.Context(), w.seen, 1000)
	w.Check(err)
	for _, e := range events {
		w.seen = e.Seq
		if e.Kind != "#commit" {
			continue
		}
		frame, err := event.Frame(event.Event{Kind: e.Kind, Body: e.Body}, e.Seq, e.Time)
		w.Check(err)
		var c comatproto.SyncSubscribeRepos_Commit
		w.Check(c.UnmarshalCBOR(bytes.NewReader(frame[15:])))
		if c.PrevData != nil {
			if _, err := indigorepo.VerifyCommitMessage(w.Context(), &c); err != nil {
				w.Errorf("indigo does not take %s: %v", ops(&c), err)
			}
		}
		all = append(all, &c)
	}
	return all
}

// ops are those of a commit as a text: action, path, and which of cid and prev it has.
func ops(c *comatproto.SyncSubscribeRepos_Commit) string {
	var all []string
	for _, op := range c.Ops {
		s := op.Action + " " + op.Path
		if op.Cid != nil {
			s += " cid"
		}
		if op.Prev != nil {
			s += " prev"
		}
		all = append(all, s)
	}
	return strings.Join(all, ", ")
}

// committed checks what the commits since the last call did, and returns the last one.
func (w *world) committed(want ...string) *comatproto.SyncSubscribeRepos_Commit {
	w.Helper()
	commits := w.commits()
	var got []string
	for _, c := range commits {
		got = append(got, ops(c))
	}
	if strings.Join(got, "; ") != strings.Join(want, "; ") {
		w.Errorf("commits %q, want %q", got, want)
	}
	if len(commits) == 0 {
		return nil
	}
	return commits[len(commits)-1]
}

// records are the keys of a collection as listRecords gives them.
func (w *world) keys(collection string) string {
	w.Helper()
	var out struct{ Records []struct{ URI syntax.ATURI } }
	w.Accepted(w.Get("listRecords?repo="+w.alice.DID.String()+"&collection="+collection)).Decode(w, &out)
	var keys []string
	for _, r := range out.Records {
		keys = append(keys, r.URI.RecordKey().String())
	}
	return strings.Join(keys, " ")
}

func newServer(t testing.TB, change ...func(*servertest.Options)) *servertest.Server {
	t.Helper()
	return servertest.New(t, append([]func(*servertest.Options){in}, change...)...)
}
