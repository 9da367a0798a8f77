package repo_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	indigorepo "github.com/bluesky-social/indigo/atproto/repo"
	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"portico/impl/repo"
	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/record"
	"portico/impl/repo/tree"
	"portico/impl/servertest"
)

// Ten thousand random writes through all four methods, against a model: what each answers,
// the one event of each that changes something, which indigo inverts and whose root is that
// of a tree built afresh, and in between what getRepo and listRecords give.
func TestTenThousandRandomWrites(t *testing.T) {
	operations := 10_000
	if testing.Short() || raced {
		operations = 600
	}
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		s.TB = t
		began := time.Now()
		seed := uint64(began.UnixNano())
		t.Logf("seed %d", seed)
		m := newModel(t, s, rand.New(rand.NewPCG(seed, 0)))
		for m.operations < operations {
			m.request()
			if m.requests%50 == 0 {
				m.readEvents()
			}
			if m.requests%250 == 0 {
				m.readRepository()
				m.readRecords()
			}
		}
		m.readEvents()
		m.readRepository()
		m.readRecords()
		t.Logf("%d writes in %d requests, %d refused, %d commits, up to %d records: %v",
			m.operations, m.requests, m.refused, m.commits, m.most, time.Since(began).Round(time.Second))
	}, servertest.In("com.atproto.repo"), func(o *servertest.Options) { o.Firehose = true })
}

// A model is what a repository should be.
type model struct {
	*testing.T
	server *servertest.Server
	random *rand.Rand
	alice  servertest.User
	events *websocket.Conn

	records map[string]string // JSON by path
	said    []change          // commits whose events were not read yet
	last    change            // the commit whose event was read last
	head    string            // CID of the last commit, as answered

	operations, requests, refused, commits, most int
}

// A change is what one commit does.
type change struct {
	commit, rev string
	data        string // root of the tree, built afresh
	ops         map[string]string
}

func newModel(t *testing.T, s *servertest.Server, random *rand.Rand) *model {
	t.Helper()
	m := &model{T: t, server: s, random: random, alice: s.SignUp("alice"), records: map[string]string{}}
	var commit struct{ CID, Rev string }
	s.Accepted(s.Get("com.atproto.sync.getLatestCommit?did="+m.alice.DID.String())).Decode(t, &commit)
	m.head = commit.CID
	m.last = change{commit: commit.CID, rev: commit.Rev, data: m.root().String()}
	conn, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(s.URL, "http")+"/xrpc/com.atproto.sync.subscribeRepos?cursor=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	conn.SetReadLimit(8 << 20)
	m.events = conn
	// Those of the account's creation.
	for range 4 {
		m.frame()
	}
	return m
}

// A write is one of a request.
type write struct {
	action, path, value string
}

func (w write) collection() string { collection, _, _ := strings.Cut(w.path, "/"); return collection }
func (w write) key() string        { _, key, _ := strings.Cut(w.path, "/"); return key }

var collections = []string{"com.example.thing", "com.example.thing.more", "com.example.thin", "app.example.thing"}

// path is one of a few that come again and again, or one that is new.
func (m *model) path() string {
	key := fmt.Sprintf("k%d", m.random.IntN(120))
	if m.random.IntN(4) == 0 {
		key = fmt.Sprintf("%x", m.random.Uint64())
	}
	return collections[m.random.IntN(len(collections))] + "/" + key
}

// present is a path that has a record, if there is one.
func (m *model) present() string {
	if len(m.records) == 0 || m.random.IntN(8) == 0 {
		return m.path()
	}
	paths := slices.Sorted(maps.Keys(m.records))
	return paths[m.random.IntN(len(paths))]
}

func (m *model) value(path string) string {
	collection, _, _ := strings.Cut(path, "/")
	return fmt.Sprintf(`{"$type":%q,"n":%d}`, collection, m.random.IntN(3))
}

// request makes one of the requests that write.
func (m *model) request() {
	m.Helper()
	m.requests++
	swap := ""
	if m.random.IntN(10) == 0 {
		swap = m.head
	}
	stale := m.random.IntN(40) == 0
	if stale {
		swap = "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"
	}
	switch n := m.random.IntN(100); {
	case n < 30:
		w := write{"create", m.path(), ""}
		w.value = m.value(w.path)
		m.send("createRecord", swap, stale || m.records[w.path] != "", w)
	case n < 55:
		w := write{"put", m.path(), ""}
		if m.random.IntN(2) == 0 {
			w.path = m.present()
		}
		w.value = m.value(w.path)
		m.send("putRecord", swap, stale && m.records[w.path] != w.value, w)
	case n < 75:
		w := write{"remove", m.present(), ""}
		m.send("deleteRecord", swap, stale && m.records[w.path] != "", w)
	case n < 98:
		m.send("applyWrites", swap, stale, m.batch(1+m.random.IntN(12))...)
	case n == 98:
		// One that cannot be done, among others that could.
		bad := write{"delete", m.path() + "-none", ""}
		if len(m.records) > 0 && m.random.IntN(2) == 0 {
			path := slices.Sorted(maps.Keys(m.records))[0]
			bad = write{"create", path, m.value(path)}
		}
		m.send("applyWrites", swap, true, append([]write{{"create", "com.example.thing/never", m.value("com.example.thing/never")}}, bad)...)
	default:
		m.clear(swap, stale)
	}
	m.most = max(m.most, len(m.records))
}

// batch is writes of which each can be done after those before it.
func (m *model) batch(n int) (writes []write) {
	after := maps.Clone(m.records)
	for range n {
		path := m.path()
		if m.random.IntN(3) == 0 && len(writes) > 0 {
			path = writes[m.random.IntN(len(writes))].path
		} else if m.random.IntN(2) == 0 {
			path = m.present()
		}
		w := write{"create", path, m.value(path)}
		if after[path] != "" {
			w.action = "update"
			if m.random.IntN(2) == 0 {
				w.action, w.value = "delete", ""
			}
		}
		if w.action == "delete" {
			delete(after, path)
		} else {
			after[path] = w.value
		}
		writes = append(writes, w)
	}
	return writes
}

// clear deletes all records, and creates some in the same commit or in the next.
func (m *model) clear(swap string, stale bool) {
	m.Helper()
	paths := slices.Sorted(maps.Keys(m.records))
	var writes []write
	for _, path := range paths {
		writes = append(writes, write{"delete", path, ""})
	}
	for len(writes) > 190 {
		m.send("applyWrites", "", false, writes[:190]...)
		writes = writes[190:]
		if swap != "" && !stale {
			swap = m.head
		}
	}
	var again []write
	for _, path := range paths[:min(len(paths), m.random.IntN(4))] {
		again = append(again, write{"create", path, m.value(path)})
	}
	if m.random.IntN(2) == 0 {
		m.send("applyWrites", swap, stale, append(writes, again...)...)
		return
	}
	m.send("applyWrites", "", false, writes...)
	m.send("applyWrites", "", false, again...)
}

// send sends writes, all or none of which are to come about, and checks the answer.
func (m *model) send(method, swap string, refused bool, writes ...write) {
	m.Helper()
	m.operations += len(writes)
	var swapCommit *string
	if swap != "" {
		swapCommit = &swap
	}
	body := map[string]any{"repo": m.alice.DID, "swapCommit": swapCommit}
	if swapCommit == nil {
		delete(body, "swapCommit")
	}
	if method == "applyWrites" {
		list := []any{}
		for _, w := range writes {
			entry := map[string]any{"$type": "com.atproto.repo.applyWrites#" + w.action, "collection": w.collection(), "rkey": w.key()}
			if w.value != "" {
				entry["value"] = json.RawMessage(w.value)
			}
			list = append(list, entry)
		}
		body["writes"] = list
	} else {
		body["collection"], body["rkey"] = writes[0].collection(), writes[0].key()
		if writes[0].value != "" {
			body["record"] = json.RawMessage(writes[0].value)
		}
	}
	text, err := json.Marshal(body)
	m.server.Check(err)
	a := m.server.Post(method, string(text), m.alice.Access)
	if refused {
		if a.Status != 400 {
			m.Fatalf("%s %s: %d %s, want 400", method, text, a.Status, a.Body)
		}
		m.refused++
		return
	}
	m.server.Accepted(a)
	var out struct {
		CID     string
		Commit  *struct{ CID, Rev string }
		Results []struct {
			Type string `json:"$type"`
			CID  string
		}
	}
	a.Decode(m, &out)

	// What it comes to, path by path.
	before := maps.Clone(m.records)
	for i, w := range writes {
		if w.value == "" {
			delete(m.records, w.path)
		} else {
			m.records[w.path] = w.value
			got := out.CID
			if method == "applyWrites" {
				got = out.Results[i].CID
			}
			if want := nameOf(m, w.value); got != want {
				m.Fatalf("%s %s: record %s, want %s", method, text, got, want)
			}
		}
		if method == "applyWrites" && out.Results[i].Type != "com.atproto.repo.applyWrites#"+w.action+"Result" {
			m.Fatalf("%s %s: result %+v", method, text, out.Results[i])
		}
	}
	c := change{data: m.root().String(), ops: map[string]string{}}
	for _, w := range writes {
		was, is := before[w.path], m.records[w.path]
		switch {
		case was == is:
		case was == "":
			c.ops[w.path] = "create " + nameOf(m, is)
		case is == "":
			c.ops[w.path] = "delete after " + nameOf(m, was)
		default:
			c.ops[w.path] = "update " + nameOf(m, is) + " after " + nameOf(m, was)
		}
	}
	if len(c.ops) == 0 {
		// No commit without a change; the answer may name the one that stands.
		if out.Commit != nil && out.Commit.CID != m.head {
			m.Fatalf("%s %s, which is nothing: %s", method, text, a.Body)
		}
		return
	}
	if out.Commit == nil || out.Commit.CID == m.head {
		m.Fatalf("%s %s: no commit in %s", method, text, a.Body)
	}
	c.commit, c.rev = out.Commit.CID, out.Commit.Rev
	m.head = c.commit
	m.said = append(m.said, c)
	m.commits++
}

// nameOf is the CID of a record.
func nameOf(t testing.TB, value string) string {
	t.Helper()
	data, err := record.FromJSON([]byte(value))
	if err != nil {
		t.Fatal(err)
	}
	return dagcbor.Sum(dagcbor.CodecDAGCBOR, data).String()
}

// root builds the tree of all records afresh.
func (m *model) root() dagcbor.CID {
	m.Helper()
	nodes := m.nodes()
	return nodes[len(nodes)-1]
}

// nodes are those of a tree built afresh, the root last.
func (m *model) nodes() (nodes []dagcbor.CID) {
	m.Helper()
	b := tree.Builder{Emit: func(r tree.Row) error {
		nodes = append(nodes, r.CID)
		return nil
	}}
	for _, path := range slices.Sorted(maps.Keys(m.records)) {
		name, err := dagcbor.ParseCID(nameOf(m, m.records[path]))
		m.server.Check(err)
		m.server.Check(b.Add(path, name))
	}
	root, err := b.Root()
	m.server.Check(err)
	if len(nodes) == 0 || nodes[len(nodes)-1] != root.CID {
		m.Fatalf("the builder's last node is not the root %v", root)
	}
	return nodes
}

func (m *model) frame() []byte {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.Context(), 2*time.Minute)
	defer cancel()
	_, b, err := m.events.Read(ctx)
	m.server.Check(err)
	return b
}

// readEvents reads one event for each commit, and no more.
func (m *model) readEvents() {
	m.Helper()
	const header = "\xa2at\x67#commitbop\x01"
	for _, want := range m.said {
		b := m.frame()
		if !bytes.HasPrefix(b, []byte(header)) {
			m.Fatalf("frame %.100q, want a #commit", b)
		}
		var got comatproto.SyncSubscribeRepos_Commit
		m.server.Check(got.UnmarshalCBOR(bytes.NewReader(b[len(header):])))
		if _, err := indigorepo.VerifyCommitMessage(m.Context(), &got); err != nil {
			m.Fatalf("indigo does not take %s %v: %v", got.Rev, want.ops, err)
		}
		ops := map[string]string{}
		for _, op := range got.Ops {
			text := op.Action
			if op.Cid != nil {
				text += " " + op.Cid.String()
			}
			if op.Prev != nil {
				text += " after " + op.Prev.String()
			}
			if ops[op.Path] != "" {
				m.Fatalf("two operations on %s", op.Path)
			}
			ops[op.Path] = text
		}
		if diff := cmp.Diff(want.ops, ops); diff != "" {
			m.Fatalf("operations of %s (-want +got):\n%s", got.Rev, diff)
		}
		if got.Repo != m.alice.DID.String() || got.Commit.String() != want.commit || got.Rev != want.rev || got.Since == nil || *got.Since != m.last.rev ||
			got.PrevData == nil || got.PrevData.String() != m.last.data || got.Rebase || got.TooBig || len(got.Blobs) > 0 {
			m.Fatalf("event %+v\nof %+v\nafter %+v", got, want, m.last)
		}
		// What VerifyCommitMessage would not see.
		if data := m.commitIn(got.Blocks, want.commit).Data; data.String() != want.data {
			m.Fatalf("commit %s of root %s, want %s", got.Rev, data, want.data)
		}
		m.last = want
	}
	m.said = nil
}

// commitIn is the commit that an archive has to have as its root.
func (m *model) commitIn(archive []byte, name string) *repo.Commit {
	m.Helper()
	blocks, roots := blocksOf(m, archive)
	if len(roots) != 1 || roots[0].String() != name {
		m.Fatalf("roots %v, want %s", roots, name)
	}
	c, err := repo.ParseCommit(blocks[roots[0]])
	m.server.Check(err)
	return c
}

// blocksOf are the blocks of an archive, each of which is what its name says.
func blocksOf(t testing.TB, archive []byte) (map[dagcbor.CID][]byte, []dagcbor.CID) {
	t.Helper()
	r, err := car.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[dagcbor.CID][]byte{}
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return blocks, r.Roots()
		}
		if err != nil {
			t.Fatal(err)
		}
		blocks[b.CID] = bytes.Clone(b.Data)
	}
}

// readRepository compares getRepo's archive with the model: the commit, all nodes, all
// records, and nothing else.
func (m *model) readRepository() {
	m.Helper()
	a := m.server.Accepted(m.server.Get("com.atproto.sync.getRepo?did=" + m.alice.DID.String()))
	if c := m.commitIn([]byte(a.Body), m.head); c.Data != m.root() || c.DID != m.alice.DID {
		m.Fatalf("repository %+v, want the root %s", c, m.root())
	}
	want := map[string]bool{m.head: true}
	for _, node := range m.nodes() {
		want[node.String()] = true
	}
	for _, value := range m.records {
		want[nameOf(m, value)] = true
	}
	got := map[string]bool{}
	blocks, _ := blocksOf(m, []byte(a.Body))
	for name := range blocks {
		got[name.String()] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		m.Fatalf("blocks of %d records (-want +got):\n%s", len(m.records), diff)
	}
	var status struct {
		RepoCommit                 string
		RepoBlocks, IndexedRecords int
	}
	m.server.Accepted(m.server.Get("com.atproto.server.checkAccountStatus", m.alice.Access)).Decode(m, &status)
	if status.RepoCommit != m.head || status.IndexedRecords != len(m.records) || status.RepoBlocks != 1+len(m.nodes())+len(m.records) {
		m.Fatalf("status %+v, want %s, %d records and %d nodes", status, m.head, len(m.records), len(m.nodes()))
	}
}

// readRecords compares what listRecords gives, page by page, with the model.
func (m *model) readRecords() {
	m.Helper()
	got := map[string]string{}
	for _, collection := range collections {
		for cursor := ""; ; {
			var page struct {
				Records []struct {
					URI   string
					CID   string
					Value json.RawMessage
				}
				Cursor string
			}
			query := "listRecords?repo=" + m.alice.DID.String() + "&collection=" + collection + "&limit=37&cursor=" + cursor
			if cursor == "" {
				query = strings.TrimSuffix(query, "&cursor=")
			}
			m.server.Accepted(m.server.Get(query)).Decode(m, &page)
			for _, r := range page.Records {
				path := strings.TrimPrefix(r.URI, "at://"+m.alice.DID.String()+"/")
				if got[path] != "" {
					m.Fatalf("%s twice", r.URI)
				}
				got[path] = string(r.Value)
				if name := nameOf(m, string(r.Value)); name != r.CID {
					m.Fatalf("%s is %s, not %s", r.URI, name, r.CID)
				}
			}
			if cursor = page.Cursor; len(page.Records) == 0 {
				break
			}
		}
	}
	if diff := cmp.Diff(names(m, m.records), names(m, got)); diff != "" {
		m.Fatalf("records (-want +got):\n%s", diff)
	}
}

func names(t testing.TB, records map[string]string) map[string]string {
	t.Helper()
	named := map[string]string{}
	for path, value := range records {
		named[path] = nameOf(t, value)
	}
	return named
}
