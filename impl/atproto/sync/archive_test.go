package sync_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	indigorepo "github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-cmp/cmp"

	"portico/db"
	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/store"
	"portico/impl/repo/tree"
	"portico/impl/servertest"
)

// A repository is that of an account, with a model of what is in it.
type repository struct {
	*servertest.Server
	servertest.User
	key     atcrypto.PrivateKey
	records map[string]car.Block
}

func newRepository(s *servertest.Server, name string) *repository {
	return &repository{Server: s, User: s.SignUp(name), key: servertest.Must(atcrypto.GeneratePrivateKeyK256()), records: map[string]car.Block{}}
}

func record(text string) car.Block {
	data := servertest.Must(dagcbor.Marshal(map[string]any{"text": text}))
	return car.Block{CID: dagcbor.Sum(dagcbor.CodecDAGCBOR, data), Data: data}
}

// write makes one commit, which creates records with the given values, deletes those
// without, and updates those that are there. It returns the rev.
func (r *repository) write(values map[string]string) string {
	r.Helper()
	rev := ""
	r.Write(func(tx *db.Tx) error {
		var writes []tree.Write
		for _, path := range slices.Sorted(maps.Keys(values)) {
			w := tree.Write{Path: path, Action: tree.Create}
			if values[path] != "" {
				w.Record = record(values[path])
			}
			if _, there := r.records[path]; there && values[path] == "" {
				w.Action = tree.Delete
			} else if there {
				w.Action = tree.Update
			}
			writes = append(writes, w)
		}
		said, err := store.Commit(r.Context(), tx, r.DID, r.key, r.Now(), nil, writes)
		if err != nil {
			return err
		}
		rev = said.Rev.String()
		var put []db.Record
		for _, w := range writes {
			collection, _, _ := strings.Cut(w.Path, "/")
			if w.Action == tree.Delete {
				err = errors.Join(tx.DeleteRecords(r.Context(), r.DID, w.Path), tx.DropCollection(r.Context(), r.DID, collection))
				continue
			}
			put = append(put, db.Record{Path: w.Path, CID: w.Record.CID[:], Rev: rev, IndexedAt: r.Now(), Value: w.Record.Data})
			err = errors.Join(err, tx.AddCollection(r.Context(), r.DID, collection))
		}
		return errors.Join(err, tx.PutRecords(r.Context(), r.DID, put...))
	})
	for path, text := range values {
		if text == "" {
			delete(r.records, path)
		} else {
			r.records[path] = record(text)
		}
	}
	return rev
}

// fill writes n records, of which every tenth has the value of the others of its kind.
func (r *repository) fill(n int) string {
	r.Helper()
	rev := ""
	for first := 0; first < n; first += 150 {
		values := map[string]string{}
		for i := first; i < min(n, first+150); i++ {
			values[fmt.Sprintf("com.example.%s/%06d", []string{"like", "post", "post.more"}[i%3], i)] = "text " + fmt.Sprint(i%10*i)
		}
		rev = r.write(values)
	}
	return rev
}

// archive reads one whole archive: its roots and its blocks, each of which is there once.
func archive(t testing.TB, a servertest.Answer) (roots []dagcbor.CID, order []car.Block) {
	t.Helper()
	if a.Status != 200 || a.Header.Get("Content-Type") != "application/vnd.ipld.car" {
		t.Fatalf("answer %d of type %q: %.200s", a.Status, a.Header.Get("Content-Type"), a.Body)
	}
	reader, err := car.NewReader(strings.NewReader(a.Body))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[dagcbor.CID]bool{}
	for {
		b, err := reader.Next()
		if err == io.EOF {
			return reader.Roots(), order
		}
		if err != nil {
			t.Fatal(err)
		}
		if seen[b.CID] {
			t.Errorf("%s is there twice", b.CID)
		}
		seen[b.CID] = true
		order = append(order, car.Block{CID: b.CID, Data: bytes.Clone(b.Data)})
	}
}

func set(blocks []car.Block) map[string]string {
	m := map[string]string{}
	for _, b := range blocks {
		m[b.CID.String()] = string(b.Data)
	}
	return m
}

// stored are the blocks of a repository as its rows have them: those of commits after
// since.
func (r *repository) stored(since string) (commit dagcbor.CID, all []car.Block) {
	r.Helper()
	row, err := r.DB.Repo(r.Context(), r.DID)
	r.Check(err)
	if row.Rev > since {
		all = append(all, car.Block{CID: store.CID(row.CommitCID), Data: row.CommitBlock})
	}
	nodes, err := r.DB.Nodes(r.Context(), r.DID, nil, 100_000)
	r.Check(err)
	for _, n := range nodes {
		if n.Rev > since {
			all = append(all, car.Block{CID: store.CID(n.CID), Data: n.Data})
		}
	}
	records, err := r.DB.Records(r.Context(), r.DID, db.RecordRange{Limit: 100_000})
	r.Check(err)
	for _, v := range records {
		if v.Rev > since {
			all = append(all, car.Block{CID: store.CID(v.CID), Data: v.Value})
		}
	}
	return store.CID(row.CommitCID), all
}

// The whole of a repository: the commit, the nodes, then the values in the order of their
// paths, as indigo reads them too; and what is new since a rev.
func TestGetRepo(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		r := newRepository(s, "alice")
		query := "getRepo?did=" + r.DID.String()
		empty := s.Get(query)
		if roots, blocks := archive(t, empty); len(roots) != 1 || len(blocks) != 2 || blocks[0].CID != roots[0] || blocks[1].CID != tree.Empty.CID {
			t.Errorf("of a new account: %v, %v", roots, blocks)
		}

		rev := r.fill(500)
		s.Write(func(tx *db.Tx) error { return tx.TakeDownRecord(t.Context(), r.DID, "com.example.like/000000", "ref") })
		whole := s.Get(query)
		roots, order := archive(t, whole)
		commit, want := r.stored("")
		if diff := cmp.Diff(set(want), set(order)); diff != "" || len(roots) != 1 || roots[0] != commit || order[0].CID != commit {
			t.Errorf("roots %v, commit %v\n(-stored +sent)\n%.2000s", roots, commit, diff)
		}
		var values []dagcbor.CID
		for _, path := range slices.Sorted(maps.Keys(r.records)) {
			if c := r.records[path].CID; !slices.Contains(values, c) {
				values = append(values, c)
			}
		}
		var sent []dagcbor.CID
		for _, b := range order[len(order)-len(values):] {
			sent = append(sent, b.CID)
		}
		if len(values) >= len(r.records) || !slices.Equal(sent, values) {
			t.Errorf("%d values of %d records, in another order than their paths", len(values), len(r.records))
		}
		said, tree, err := indigorepo.LoadRepoFromCAR(t.Context(), strings.NewReader(whole.Body))
		s.Check(err)
		if said.DID != r.DID.String() || said.Rev != rev {
			t.Errorf("indigo reads %+v", said)
		}
		for path, v := range r.records {
			collection, key, _ := strings.Cut(path, "/")
			if c, err := tree.GetRecordCID(t.Context(), syntax.NSID(collection), syntax.RecordKey(key)); err != nil || c.String() != v.CID.String() {
				t.Errorf("indigo finds %v, %v at %s", c, err, path)
			}
		}

		if checkout := s.Get("getCheckout?did=" + r.DID.String()); checkout.Body != whole.Body {
			t.Error("getCheckout is something else than getRepo")
		}
		// Range is ignored, and HEAD answered.
		if part := s.Get(query, "Range: bytes=0-9"); part.Status != 200 || part.Body != whole.Body {
			t.Errorf("a range: %d, %d bytes", part.Status, len(part.Body))
		}
		if head := s.Call("HEAD", query, ""); head.Status != 200 || head.Body != "" || head.Header.Get("Content-Type") != "application/vnd.ipld.car" {
			t.Errorf("HEAD: %+v", head)
		}

		// What later commits made.
		s.Advance(time.Second)
		last := r.write(map[string]string{"com.example.post/000001": "", "com.example.like/000003": "other", "com.example.zzz/1": "new"})
		since := s.Get(query + "&since=" + rev)
		roots, order = archive(t, since)
		commit, want = r.stored(rev)
		if diff := cmp.Diff(set(want), set(order)); diff != "" || len(roots) != 1 || roots[0] != commit || len(order) > 30 {
			t.Errorf("since %s: %d blocks\n%.2000s", rev, len(order), diff)
		}
		for _, at := range []string{last, "3zzzzzzzzzzzz"} {
			if roots, order = archive(t, s.Get(query+"&since="+at)); len(roots) != 1 || roots[0] != commit || len(order) != 0 {
				t.Errorf("since %s: %v, %d blocks", at, roots, len(order))
			}
		}
		if _, order = archive(t, s.Get(query+"&since=2222222222222")); len(order) != len(set(first(r.stored("")))) {
			t.Errorf("since ever: %d blocks", len(order))
		}
		s.Refused(s.Get(query+"&since=yesterday"), 400, "InvalidRequest", `Invalid com.atproto.sync.getRepo params: Invalid TID string (got "yesterday")`)
		s.Write(func(tx *db.Tx) error { return tx.DeleteRepo(t.Context(), r.DID) })
		s.Refused(s.Get(query), 400, "RepoNotFound", "Could not find root for DID: "+r.DID.String())
	}, in)
}

func first(_ dagcbor.CID, blocks []car.Block) []car.Block { return blocks }

// Archives are compressed for those who say that they take it.
func TestArchivesAreCompressed(t *testing.T) {
	s := newServer(t)
	r := newRepository(s, "alice")
	r.fill(50)
	query := "getRepo?did=" + r.DID.String()
	plain := s.Get(query, "Accept-Encoding: identity")
	for accept, want := range map[string]string{
		"gzip": "gzip", "br, gzip, deflate": "gzip", "*": "gzip", "gzip;q=0.1, br": "gzip",
		"br": "", "deflate": "", "identity": "", "gzip;q=0": "",
	} {
		for _, verb := range []string{"GET", "HEAD"} {
			a := s.Call(verb, query, "", "Accept-Encoding: "+accept)
			if got := a.Header.Get("Content-Encoding"); got != want || a.Status != 200 || a.Header.Get("Vary") != "Authorization, Accept-Encoding" {
				t.Errorf("%s %s: %d, %q, Vary %q", verb, accept, a.Status, got, a.Header.Get("Vary"))
			}
			if verb == "HEAD" {
				continue
			}
			if want != "" {
				z, err := gzip.NewReader(strings.NewReader(a.Body))
				s.Check(err)
				text, err := io.ReadAll(z)
				s.Check(err)
				a.Body = string(text)
			}
			if a.Body != plain.Body {
				t.Errorf("%s: another archive", accept)
			}
		}
	}
}

// The proof of a record, and that there is none: the commit, the path, and the value.
func TestGetRecord(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		r := newRepository(s, "alice")
		ask := func(collection, key string) servertest.Answer {
			t.Helper()
			return s.Get("getRecord" + query("did", r.DID.String(), "collection", collection, "rkey", key))
		}
		if _, blocks := archive(t, ask("com.example.post", "1")); len(blocks) != 2 {
			t.Errorf("in an empty repository: %d blocks", len(blocks))
		}
		r.fill(500)
		s.Write(func(tx *db.Tx) error { return tx.TakeDownRecord(t.Context(), r.DID, "com.example.like/000003", "ref") })
		_, all := r.stored("")
		there := set(all)
		for _, path := range append(slices.Sorted(maps.Keys(r.records))[:60], "com.example.like/000001", "com.example.aaa/1", "com.example.zzz/1") {
			collection, key, _ := strings.Cut(path, "/")
			a := ask(collection, key)
			roots, blocks := archive(t, a)
			value, exists := r.records[path]
			if len(roots) != 1 || blocks[0].CID != roots[0] || len(blocks) > 10 {
				t.Errorf("%s: %v, %d blocks", path, roots, len(blocks))
			}
			if last := blocks[len(blocks)-1]; exists && (last.CID != value.CID || !bytes.Equal(last.Data, value.Data)) {
				t.Errorf("%s: the value is not the last block", path)
			}
			for _, b := range blocks {
				if there[b.CID.String()] != string(b.Data) {
					t.Errorf("%s: %s is not in the repository", path, b.CID)
				}
			}
			_, partial, err := indigorepo.LoadRepoFromCAR(t.Context(), strings.NewReader(a.Body))
			s.Check(err)
			c, err := partial.GetRecordCID(t.Context(), syntax.NSID(collection), syntax.RecordKey(key))
			if exists && (err != nil || c.String() != value.CID.String()) || !exists && !errors.Is(err, indigorepo.ErrNotFound) {
				t.Errorf("%s: indigo finds %v, %v", path, c, err)
			}
		}
		s.Refused(ask("com.example", "1"), 400, "InvalidRequest", `Invalid com.atproto.sync.getRecord params: Invalid NSID (got "com.example")`)
	}, in)
}

// Blocks by their names, in an archive without a root.
func TestGetBlocks(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		r := newRepository(s, "alice")
		r.fill(300)
		commit, all := r.stored("")
		ask := func(names ...string) servertest.Answer {
			t.Helper()
			pairs := []string{"did", r.DID.String()}
			for _, name := range names {
				pairs = append(pairs, "cids", name)
			}
			return s.Get("getBlocks" + query(pairs...))
		}
		for _, names := range [][]string{
			{commit.String()},
			{commit.String(), commit.String()},
			{all[1].CID.String(), all[len(all)-1].CID.String(), all[len(all)-5].CID.String(), commit.String()},
			slices.Collect(maps.Keys(set(all))),
		} {
			roots, blocks := archive(t, ask(names...))
			want := map[string]string{}
			for _, b := range all {
				if slices.Contains(names, b.CID.String()) {
					want[b.CID.String()] = string(b.Data)
				}
			}
			if diff := cmp.Diff(want, set(blocks)); diff != "" || len(roots) != 0 {
				t.Errorf("%d names: roots %v\n%.1000s", len(names), roots, diff)
			}
		}
		const none, other = emptyTree, "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
		s.Refused(ask(commit.String(), other, none, other), 400, "InvalidRequest", "Could not find cids: "+other+","+none)
		s.Refused(ask("QmY7Yh4UquoXHLPFo2XbhXkhBvFoPwmQUSa92pxnxjQuPU"), 400, "InvalidRequest",
			"Could not find cids: QmY7Yh4UquoXHLPFo2XbhXkhBvFoPwmQUSa92pxnxjQuPU")
		// Those of another account are not found.
		bob := newRepository(s, "bob")
		s.Refused(s.Get("getBlocks"+query("did", bob.DID.String(), "cids", commit.String())), 400, "InvalidRequest", "Could not find cids: "+commit.String())
	}, in)
}

// Accounts that are active, by the collections that they have records of.
func TestListReposByCollection(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		var want []string
		for i := range 6 {
			r := newRepository(s, fmt.Sprint("user-", i))
			r.write(map[string]string{"com.example.post/1": "text", "com.example.like/1": "text"})
			switch i {
			case 1:
				s.Deactivate(r.DID)
			case 2:
				s.TakeDown(r.DID)
			case 3:
				r.write(map[string]string{"com.example.post/1": ""})
			default:
				want = append(want, r.DID.String())
			}
		}
		slices.Sort(want)
		for _, limit := range []string{"1", "2", "500"} {
			var got []string
			for cursor, more := "", true; more; {
				pairs := []string{"collection", "com.example.post", "limit", limit}
				if cursor != "" {
					pairs = append(pairs, "cursor", cursor)
				}
				var page struct {
					Repos []struct {
						DID string `json:"did"`
					}
					Cursor string
				}
				s.Accepted(s.Get("listReposByCollection"+query(pairs...))).Decode(t, &page)
				for _, r := range page.Repos {
					got = append(got, r.DID)
				}
				cursor, more = page.Cursor, page.Cursor != ""
			}
			if !slices.Equal(got, want) {
				t.Errorf("pages of %s: %v\nwant %v", limit, got, want)
			}
		}
		if a := s.Accepted(s.Get("listReposByCollection?collection=com.example.none")); a.Body != `{"repos":[]}` {
			t.Errorf("nobody: %s", a.Body)
		}
	}, in)
}

// Of getRepo an address may have 6000 in five minutes, and they do not count as calls of
// anything else (R12 of the contract: relays are not limited harder).
func TestGetRepoIsOutsideOfTheGlobalLimit(t *testing.T) {
	s := newServer(t, func(o *servertest.Options) { o.Limiter = true })
	for n := range 6000 {
		a := s.Get("getRepo?did=" + unknown)
		if a.Status != 400 || a.Header.Get("RateLimit-Policy") != "6000;w=300" || a.Header.Get("RateLimit-Remaining") != fmt.Sprint(5999-n) {
			t.Fatalf("call %d: %d %v", n, a.Status, a.Header)
		}
	}
	over := s.Get("getRepo?did=" + unknown)
	s.Refused(over, 429, "RateLimitExceeded", "Rate Limit Exceeded")
	if got := over.Header.Get("Retry-After"); got != "300" {
		t.Errorf("Retry-After %q", got)
	}
	a := s.Get("getRepoStatus?did=" + unknown)
	if a.Status != http.StatusBadRequest || a.Header.Get("RateLimit-Policy") != "3000;w=300" || a.Header.Get("RateLimit-Remaining") != "2999" {
		t.Errorf("another method: %d %v", a.Status, a.Header)
	}
	s.Advance(5 * time.Minute)
	s.Refused(s.Get("getRepo?did="+unknown), 400, "RepoNotFound", "Could not find repo for DID: "+unknown)
}
