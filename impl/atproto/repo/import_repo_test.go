package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-cmp/cmp"

	"portico/db"
	"portico/impl/repo"
	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/event"
	"portico/impl/repo/importer"
	"portico/impl/repo/store"
	"portico/impl/repo/tree"
	"portico/impl/servertest"
)

// An archive is a repository as another server exports it.
type archive struct {
	did     syntax.DID
	rev     syntax.TID
	key     atcrypto.PrivateKey
	records map[string][]byte
}

func value(fields map[string]any) []byte { return servertest.Must(dagcbor.Marshal(fields)) }

func post(text string) []byte {
	return value(map[string]any{"$type": "app.bsky.feed.post", "text": text, "createdAt": "2026-01-01T00:00:00Z"})
}

func cidOf(value []byte) dagcbor.CID { return dagcbor.Sum(dagcbor.CodecDAGCBOR, value) }

// rows are the nodes of the tree of some records.
func rows(records map[string][]byte) (tree.Root, []tree.Row) {
	var all []tree.Row
	b := tree.Builder{Emit: func(r tree.Row) error { all = append(all, r); return nil }}
	for _, path := range slices.Sorted(maps.Keys(records)) {
		if err := b.Add(path, cidOf(records[path])); err != nil {
			panic(err)
		}
	}
	return servertest.Must(b.Root()), all
}

// blocks are those of the archive, its commit first.
func (a archive) blocks() []car.Block {
	root, nodes := rows(a.records)
	blocks := []car.Block{servertest.Must(repo.Sign(a.did, a.key, a.rev, root.CID)).Commit}
	for _, n := range nodes {
		blocks = append(blocks, car.Block{CID: n.CID, Data: n.Data})
	}
	for _, path := range slices.Sorted(maps.Keys(a.records)) {
		blocks = append(blocks, car.Block{CID: cidOf(a.records[path]), Data: a.records[path]})
	}
	return blocks
}

// car is the archive as it is sent, without what is said to be left out.
func (a archive) car(without ...func(b car.Block) bool) []byte {
	blocks := a.blocks()
	commit := blocks[0]
	for _, left := range without {
		blocks = slices.DeleteFunc(blocks, left)
	}
	return car.Marshal(commit.CID, blocks...)
}

// A mover is somebody who moves to a server.
type mover struct {
	*servertest.Server
	servertest.User
	old atcrypto.PrivateKey // of the server before
}

func moveTo(s *servertest.Server, name string) mover {
	s.Helper()
	did := syntax.DID("did:web:" + name + ".example")
	token := s.ServiceToken(did, s.NewIdentity(did), "com.atproto.server.createAccount", time.Minute)
	a := s.Accepted(s.Post("com.atproto.server.createAccount", fmt.Sprintf(
		`{"handle":"%s.test","email":"%[1]s@example.com","password":%q,"did":%q}`, name, servertest.GoodPassword, did), token))
	return mover{s, servertest.User{DID: did, Handle: syntax.Handle(name + ".test").String(), Access: servertest.Bearer(a.Text(s, "accessJwt"))}, servertest.Must(atcrypto.GeneratePrivateKeyK256())}
}

// archive is one of the mover's, of an hour ago.
func (m mover) archive(records map[string][]byte) archive {
	return archive{did: m.DID, rev: syntax.NewTIDFromTime(m.Now().Add(-time.Hour), 0), key: m.old, records: records}
}

func (m mover) send(body []byte) servertest.Answer {
	m.Helper()
	return m.Post("importRepo", string(body), m.Access, "Content-Type: application/vnd.ipld.car")
}

func (m mover) row() *db.Repo { return servertest.Must(m.DB.Repo(m.Context(), m.DID)) }

// has compares all that is stored with the tree of some records made afresh.
func (m mover) has(records map[string][]byte) *db.Repo {
	m.Helper()
	row := m.row()
	root, want := rows(records)
	if store.Root(row) != root || row.Nodes != len(want) || row.Records != len(records) {
		m.Errorf("%d records in a tree with root %s of %d nodes\nwant %d, %s, %d", row.Records, store.Root(row).CID, row.Nodes, len(records), root.CID, len(want))
	}
	nodes := make(map[db.Place]string)
	for _, n := range want {
		nodes[db.Place(n.Place)] = n.CID.String()
	}
	stored := make(map[db.Place]string)
	for _, n := range servertest.Must(m.DB.Nodes(m.Context(), m.DID, nil, 100_000)) {
		stored[n.Place()] = store.CID(n.CID).String()
		if cidOf(n.Data) != store.CID(n.CID) {
			m.Errorf("node at %v is not what its name says", n.Place())
		}
	}
	if diff := cmp.Diff(nodes, stored); diff != "" {
		m.Errorf("nodes (-want +got):\n%s", diff)
	}
	got, collections := make(map[string][]byte), make(map[string]bool)
	for _, r := range servertest.Must(m.DB.Records(m.Context(), m.DID, db.RecordRange{Limit: 1_000_000})) {
		got[r.Path] = r.Value
		collections[strings.Split(r.Path, "/")[0]] = true
		if cidOf(r.Value) != store.CID(r.CID) {
			m.Errorf("%s is not what its name says", r.Path)
		}
	}
	if !maps.EqualFunc(records, got, bytes.Equal) {
		m.Errorf("%d records are not the %d that were imported", len(got), len(records))
	}
	if all := servertest.Must(m.DB.Collections(m.Context(), m.DID)); !slices.Equal(all, slices.Sorted(maps.Keys(collections))) {
		m.Errorf("collections %v", all)
	}
	return row
}

func some(n int, text string) map[string][]byte {
	all := make(map[string][]byte)
	for i := range n {
		all[fmt.Sprintf("app.bsky.feed.post/3k%05d", i)] = post(fmt.Sprint(text, " ", i))
	}
	return all
}

// Whoever moves in brings the repository along, as often as it takes.
func TestImportRepo(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		m := moveTo(s, "alice")
		last := servertest.Must(s.DB.LastEvent(t.Context()))
		records := some(500, "first")
		sent := m.archive(records)
		blocks := sent.blocks()
		commit, body := blocks[0], car.Marshal(blocks[0].CID, blocks...)
		s.Empty(s.Accepted(m.send(body)))
		first := m.has(records)
		if commit.CID != store.CID(first.CommitCID) || !bytes.Equal(commit.Data, first.CommitBlock) {
			t.Error("the commit is not stored as it was received")
		}
		if first.Rev <= sent.rev.String() {
			t.Errorf("rev %s of the import, after %s", first.Rev, sent.rev)
		}
		revs := make(map[string]string)
		for _, r := range servertest.Must(s.DB.Records(t.Context(), m.DID, db.RecordRange{Limit: 1000})) {
			revs[r.Path] = r.Rev
			if r.Rev != first.Rev || !r.IndexedAt.Equal(s.Now()) {
				t.Fatalf("%s has rev %s of %v", r.Path, r.Rev, r.IndexedAt)
			}
		}
		status := s.Accepted(s.Get("com.atproto.server.checkAccountStatus", m.Access)).Fields(t)
		want := map[string]any{
			"activated": false, "validDid": false, "repoCommit": store.CID(first.CommitCID).String(), "repoRev": first.Rev,
			"repoBlocks": float64(1 + first.Nodes + 500), "indexedRecords": 500.0, "privateStateValues": 0.0, "expectedBlobs": 0.0, "importedBlobs": 0.0,
		}
		if diff := cmp.Diff(want, status); diff != "" {
			t.Errorf("checkAccountStatus (-want +got):\n%s", diff)
		}

		// The same again, and then some that change, some that go, some that come.
		s.Advance(time.Minute)
		s.Accepted(m.send(body))
		if second := m.has(records); second.Rev <= first.Rev {
			t.Errorf("rev %s after %s", second.Rev, first.Rev)
		}
		s.Advance(time.Minute)
		for i := range 40 {
			delete(records, fmt.Sprintf("app.bsky.feed.post/3k%05d", i*7))
			records[fmt.Sprintf("app.bsky.feed.post/3k%05d", i*11+1)] = post("changed")
			records[fmt.Sprintf("app.bsky.feed.like/3k%05d", i)] = value(map[string]any{
				"$type": "app.bsky.feed.like", "subject": map[string]any{"uri": "at://did:plc:z/app.bsky.feed.post/" + fmt.Sprint(i)},
			})
		}
		s.Accepted(m.send(m.archive(records).car()))
		third := m.has(records)
		for _, r := range servertest.Must(s.DB.Records(t.Context(), m.DID, db.RecordRange{Limit: 1000})) {
			switch {
			case r.Rev == third.Rev:
			case r.Rev != first.Rev || revs[r.Path] != r.Rev:
				t.Errorf("%s has rev %s", r.Path, r.Rev)
			case strings.Contains(string(r.Value), "changed") || strings.Contains(r.Path, "like"):
				t.Errorf("%s kept its rev", r.Path)
			}
		}
		if likes := servertest.Must(s.DB.RecordsByLink(t.Context(), m.DID, "app.bsky.feed.like", "at://did:plc:z/app.bsky.feed.post/3", 10)); len(likes) != 1 {
			t.Errorf("likes of one post: %v", likes)
		}
		// All of it gone.
		s.Accepted(m.send(m.archive(nil).car()))
		m.has(nil)
		if got := servertest.Must(s.DB.LastEvent(t.Context())); got != last {
			t.Errorf("%d events of an account that is not active", got-last)
		}
	}, servertest.In("com.atproto.repo"))
}

// What the archive lacks may be stored already: an export since some rev is enough.
func TestImportRepoOfChanges(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		m := moveTo(s, "alice")
		records := some(800, "first")
		s.Accepted(m.send(m.archive(records).car()))
		known := make(map[dagcbor.CID]bool)
		_, nodes := rows(records)
		for _, n := range nodes {
			known[n.CID] = true
		}
		for _, v := range records {
			known[cidOf(v)] = true
		}
		// Keys of high layers, so that nodes move.
		for i := range 3000 {
			path := fmt.Sprintf("app.bsky.feed.post/3k%05d5", i/4)
			if _, there := records[path]; tree.Layer(path) > 1 && !there {
				records[path] = post(fmt.Sprint("second ", i))
			}
		}
		records["app.bsky.feed.post/3k00001"] = post("changed")
		delete(records, "app.bsky.feed.post/3k00004")
		s.Accepted(m.send(m.archive(records).car(func(b car.Block) bool { return known[b.CID] })))
		m.has(records)

		// Without what is new it is refused, and nothing changes.
		before := m.row()
		more := maps.Clone(records)
		more["app.bsky.feed.post/3l"] = post("third")
		third := cidOf(post("third"))
		s.Refused(m.send(m.archive(more).car(func(b car.Block) bool { return b.CID == third })),
			400, "InvalidRequest", "Could not parse record at 'app.bsky.feed.post/3l'")
		root, _ := rows(more)
		s.Refused(m.send(m.archive(more).car(func(b car.Block) bool { return b.CID == root.CID })),
			400, "InvalidRequest", "The CAR does not have the whole repository")
		if diff := cmp.Diff(before, m.row()); diff != "" {
			t.Errorf("a refused import changed the repository:\n%s", diff)
		}
		m.has(records)
	}, servertest.In("com.atproto.repo"))
}

// Many changes are written little by little, which the account's being off hides. One that
// is active is not changed that much.
func TestImportRepoInBatches(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		for _, n := range s.Nodes() {
			n.Repo.Imports.Bounds = importer.Bounds{AtOnce: 30, Batch: 7}
		}
		m := moveTo(s, "alice")
		random := rand.New(rand.NewPCG(1, 2))
		records := make(map[string][]byte)
		for n := range 12 {
			for range 100 {
				path := fmt.Sprintf("app.bsky.feed.%c/%03d", 'a'+rune(random.IntN(4)), random.IntN(300))
				if random.IntN(10) < 3+n%5 {
					delete(records, path)
				} else {
					records[path] = value(map[string]any{"n": random.IntN(3), "picture": map[string]any{
						"$type": "blob", "mimeType": "image/png", "size": 3, "ref": dagcbor.Sum(dagcbor.CodecRaw, fmt.Append(nil, random.IntN(50))),
					}})
				}
			}
			if n == 8 {
				clear(records)
			}
			known := make(map[dagcbor.CID]bool) // stored, there or in another place
			for _, node := range servertest.Must(s.DB.Nodes(t.Context(), m.DID, nil, 10_000)) {
				known[store.CID(node.CID)] = n%3 == 2
			}
			s.Accepted(m.send(m.archive(records).car(func(b car.Block) bool { return known[b.CID] })))
			row := m.has(records)
			named := make(map[string]bool)
			for _, mention := range servertest.Must(s.DB.RecordBlobs(t.Context(), m.DID, db.RecordBlob{}, 10_000)) {
				named[string(mention.CID)] = true
			}
			if row.ExpectedBlobs != len(named) || len(records) > 50 && len(named) < 10 {
				t.Errorf("%d blobs expected, %d named", row.ExpectedBlobs, len(named))
			}
			if id := servertest.Must(s.DB.UnfinishedImport(t.Context(), m.DID)); id != "" {
				t.Errorf("import %s is not finished", id)
			}
		}
		bob := mover{s, s.SignUp("bob"), m.old}
		s.Refused(bob.send(bob.archive(some(100, "first")).car()), 400, "InvalidRequest",
			"The repository of an active account can't be changed that much at once: deactivate the account first")
		bob.has(nil)
	}, servertest.In("com.atproto.repo"))
}

// Blobs are kept as soon as an imported record mentions them, whichever comes first, and
// go with the last record that does.
func TestImportRepoWithBlobs(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		m := moveTo(s, "alice")
		upload := func(text string) {
			t.Helper()
			s.Accepted(s.Post("uploadBlob", text, m.Access, "Content-Type: text/plain"))
		}
		name := func(text string) dagcbor.CID { return dagcbor.Sum(dagcbor.CodecRaw, []byte(text)) }
		missing := func() string {
			t.Helper()
			return s.Accepted(s.Get("listMissingBlobs", m.Access)).Body
		}
		kept := func(text string) bool {
			t.Helper()
			cid := name(text)
			row, err := s.DB.Blob(t.Context(), m.DID, cid[:])
			if errors.Is(err, db.ErrNotFound) {
				return false
			}
			s.Check(err)
			return row.TempKey == ""
		}
		records := some(5, "first")
		for n, text := range []string{"early", "late", "cut off"} {
			records[fmt.Sprintf("app.bsky.feed.post/3l%d", n)] = value(map[string]any{"file": map[string]any{
				"$type": "blob", "mimeType": "text/plain", "size": len(text), "ref": name(text),
			}})
		}
		upload("early")
		upload("nobody's")
		s.Accepted(m.send(m.archive(records).car()))
		if !kept("early") || kept("nobody's") {
			t.Error("what was uploaded first is not kept, or what no record mentions is")
		}
		// As a server that is killed in the midst of an upload leaves it.
		cid := name("cut off")
		s.Check(s.DB.Write(t.Context(), func(tx *db.Tx) error {
			_, err := tx.LockRepo(t.Context(), m.DID)
			return errors.Join(err, tx.InsertBlob(t.Context(), m.DID, db.Blob{CID: cid[:], MIME: "text/plain", Size: 7, TempKey: "gone", CreatedAt: s.Now()}))
		}))
		for _, text := range []string{"late", "cut off"} {
			if got := missing(); !strings.Contains(got, name(text).String()) {
				t.Errorf("%q is not among the missing: %s", text, got)
			}
			upload(text)
			if !kept(text) {
				t.Errorf("%q is not kept", text)
			}
		}
		if got := strings.TrimSpace(missing()); got != `{"blobs":[]}` {
			t.Errorf("missing: %s", got)
		}
		if row := m.has(records); row.ExpectedBlobs != 3 || row.ImportedBlobs != 4 {
			t.Errorf("%d blobs expected, %d here", row.ExpectedBlobs, row.ImportedBlobs)
		}
		delete(records, "app.bsky.feed.post/3l1")
		s.Accepted(m.send(m.archive(records).car()))
		if row := m.has(records); kept("late") || row.ExpectedBlobs != 2 || row.ImportedBlobs != 3 {
			t.Errorf("%d blobs expected, %d here", row.ExpectedBlobs, row.ImportedBlobs)
		}
	}, servertest.In("com.atproto.repo"))
}

// The repository of another DID may be brought along: some begin anew with what they had.
func TestImportRepoOfAnotherDID(t *testing.T) {
	s := servertest.New(t, servertest.In("com.atproto.repo"))
	m := moveTo(s, "alice")
	records := some(40, "first")
	other := m.archive(records)
	other.did = "did:web:bob.example"
	s.Accepted(m.send(other.car()))
	row := m.has(records)
	commit := servertest.Must(repo.ParseCommit(row.CommitBlock))
	if err := commit.Verify(servertest.Must(atcrypto.ParsePublicDIDKey(s.SigningKey(m.DID)))); err != nil || commit.DID != m.DID || commit.Rev.String() != row.Rev {
		t.Errorf("commit %+v, %v", commit, err)
	}
}

// No more than an account may have is imported, but what it has may become less.
func TestImportRepoQuota(t *testing.T) {
	s := servertest.New(t, servertest.In("com.atproto.repo"))
	m := moveTo(s, "alice")
	s.Accepted(m.send(m.archive(some(30, "first")).car()))
	for _, n := range s.Nodes() {
		n.Repo.Imports.MaxRecords = func() int { return 20 }
	}
	s.Refused(m.send(m.archive(some(31, "first")).car()), 400, "InvalidRequest", "Account has as many records as this server allows")
	m.has(some(30, "first"))
	s.Accepted(m.send(m.archive(some(25, "first")).car()))
	m.has(some(25, "first"))
}

// What is broken off leaves rows that are no repository: the account is not activated until
// it is imported again.
func TestImportRepoBrokenOff(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		for _, n := range s.Nodes() {
			n.Repo.Imports.Bounds = importer.Bounds{AtOnce: 30, Batch: 7}
		}
		m := mover{s, s.SignUp("alice"), servertest.Must(atcrypto.GeneratePrivateKeyK256())}
		s.Accepted(s.Post("com.atproto.server.deactivateAccount", `{}`, m.Access))
		records := some(200, "first")
		s.Accepted(m.send(m.archive(records).car()))
		finish := s.Repo.Imports.Finish
		for _, n := range s.Nodes() {
			n.Repo.Imports.Finish = func(context.Context, *db.Tx, syntax.DID, time.Time, importer.Imported) error {
				return errors.New("the power is out")
			}
		}
		before := m.row()
		for i := range 100 {
			records[fmt.Sprintf("app.bsky.feed.post/3k%05d", i*2)] = post(fmt.Sprint("second ", i))
		}
		if a := m.send(m.archive(records).car()); a.Status != 500 {
			t.Fatalf("answer %d %s", a.Status, a.Body)
		}
		if now := m.row(); !bytes.Equal(now.CommitCID, before.CommitCID) {
			t.Error("the commit is another one")
		}
		const again = "The import of the repository was broken off: import it again"
		s.Refused(s.Post("com.atproto.server.activateAccount", "", m.Access), 400, "InvalidRequest", again)
		s.Refused(s.Post("com.atproto.admin.updateSubjectStatus", fmt.Sprintf(
			`{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":%q},"deactivated":{"applied":false}}`, m.DID,
		), servertest.Admin), 400, "InvalidRequest", again)
		for _, n := range s.Nodes() {
			n.Repo.Imports.Finish = finish
		}
		s.Accepted(m.send(m.archive(records).car()))
		m.has(records)
		s.Accepted(s.Post("com.atproto.server.activateAccount", "", m.Access))
		m.has(records)
	}, servertest.In("com.atproto.repo"))
}

// R6, from the import to the activation; and R8.
func TestDesignR6ImportedRepositoryIsSignedAtActivation(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		m := moveTo(s, "alice")
		records := some(20, "first")
		s.Accepted(m.send(m.archive(records).car()))
		imported := m.row()
		s.PublishJSON(m.DID, fmt.Appendf(nil, `{"@context":["https://www.w3.org/ns/did/v1"],"id":%q,
			"verificationMethod":[{"id":"#atproto","type":"Multikey","controller":%[1]q,"publicKeyMultibase":%q}],
			"service":[{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":%q}]}`,
			m.DID, strings.TrimPrefix(s.SigningKey(m.DID), "did:key:"), servertest.Endpoint))
		last := servertest.Must(s.DB.LastEvent(t.Context()))
		s.Accepted(s.Post("com.atproto.server.activateAccount", "", m.Access))
		row := m.has(records)
		commit := servertest.Must(repo.ParseCommit(row.CommitBlock))
		if err := commit.Verify(servertest.Must(atcrypto.ParsePublicDIDKey(s.SigningKey(m.DID)))); err != nil || commit.Rev.String() != row.Rev || row.Rev <= imported.Rev {
			t.Errorf("commit %+v after rev %s: %v", commit, imported.Rev, err)
		}
		events := servertest.Must(s.DB.Events(t.Context(), last, 10))
		sync := event.Sync(m.DID, commit.Rev, car.Marshal(commit.CID, car.Block{CID: commit.CID, Data: row.CommitBlock}))
		if len(events) != 3 || events[2].Kind != sync.Kind || !bytes.Equal(events[2].Body, sync.Body) {
			t.Errorf("events %v", events)
		}
	}, servertest.In("com.atproto.repo"))
}

// An import into an active account is a commit of our own, and the network hears of it.
func TestDesign10ImportIntoAnActiveAccount(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		m := mover{s, s.SignUp("alice"), servertest.Must(atcrypto.GeneratePrivateKeyK256())}
		last := servertest.Must(s.DB.LastEvent(t.Context()))
		before := m.row()
		records := some(300, "first")
		s.Accepted(m.send(m.archive(records).car()))
		row := m.has(records)
		commit := servertest.Must(repo.ParseCommit(row.CommitBlock))
		if err := commit.Verify(servertest.Must(atcrypto.ParsePublicDIDKey(s.SigningKey(m.DID)))); err != nil || commit.Rev.String() != row.Rev || row.Rev <= before.Rev {
			t.Errorf("commit %+v after rev %s: %v", commit, before.Rev, err)
		}
		if r := servertest.Must(s.DB.Record(t.Context(), m.DID, "app.bsky.feed.post/3k00007")); r.Rev != row.Rev {
			t.Errorf("record of rev %s in a commit of rev %s", r.Rev, row.Rev)
		}
		events := servertest.Must(s.DB.Events(t.Context(), last, 10))
		sync := event.Sync(m.DID, commit.Rev, car.Marshal(commit.CID, car.Block{CID: commit.CID, Data: row.CommitBlock}))
		if len(events) != 1 || events[0].Kind != sync.Kind || !bytes.Equal(events[0].Body, sync.Body) {
			t.Errorf("events %v", events)
		}
		// The same again is no commit.
		s.Accepted(m.send(m.archive(records).car()))
		if diff := cmp.Diff(row, m.row()); diff != "" {
			t.Errorf("nothing changed, but:\n%s", diff)
		}
	}, servertest.In("com.atproto.repo"))
}

// One that this server exported, and that its owner brings back while the account is off.
func TestImportRepoOfOwnCommit(t *testing.T) {
	s := servertest.New(t, servertest.In("com.atproto.repo"))
	m := mover{s, s.SignUp("alice"), servertest.Must(atcrypto.GeneratePrivateKeyK256())}
	s.Accepted(m.send(m.archive(some(5, "first")).car()))
	first := m.row()
	root, nodes := rows(some(5, "first"))
	blocks := []car.Block{{CID: store.CID(first.CommitCID), Data: first.CommitBlock}}
	for _, n := range nodes {
		blocks = append(blocks, car.Block{CID: n.CID, Data: n.Data})
	}
	for _, v := range some(5, "first") {
		blocks = append(blocks, car.Block{CID: cidOf(v), Data: v})
	}
	s.Advance(time.Minute)
	s.Accepted(m.send(m.archive(some(9, "second")).car()))
	s.Accepted(s.Post("com.atproto.server.deactivateAccount", `{}`, m.Access))
	s.Accepted(m.send(car.Marshal(blocks[0].CID, blocks...)))
	row := m.has(some(5, "first"))
	commit := servertest.Must(repo.ParseCommit(row.CommitBlock))
	if commit.Rev.String() != row.Rev || commit.Data != root.CID || row.Rev <= first.Rev {
		t.Errorf("commit %+v of rev %s", commit, row.Rev)
	}
	s.Accepted(s.Post("com.atproto.server.activateAccount", "", m.Access))
}

// Whatever is wrong with an archive is answered to who sent it, and nothing of it stays.
func TestImportRepoRefuses(t *testing.T) {
	s := servertest.New(t, servertest.In("com.atproto.repo"))
	m := moveTo(s, "alice")
	good := m.archive(some(50, "first"))
	blocks := good.blocks()
	commit := blocks[0]
	marshal := func(b ...car.Block) []byte { return car.Marshal(b[0].CID, b...) }
	body := marshal(blocks...)
	with := func(change func(a *archive)) []byte {
		a := good
		change(&a)
		return a.car()
	}
	// over is a commit over some node, with other blocks.
	over := func(node car.Block, others ...car.Block) []byte {
		return marshal(append([]car.Block{servertest.Must(repo.Sign(m.DID, m.old, good.rev, node.CID)).Commit, node}, others...)...)
	}
	block := func(fields map[string]any) car.Block {
		data := value(fields)
		return car.Block{CID: cidOf(data), Data: data}
	}
	entry := func(key string, v dagcbor.CID) map[string]any {
		return map[string]any{"k": []byte(key), "p": 0, "t": nil, "v": v}
	}
	record := car.Block{CID: cidOf(post("x")), Data: post("x")}
	low := ""
	for i := 0; tree.Layer(low) != 0 || low == ""; i++ {
		low = fmt.Sprintf("app.bsky.feed.post/3k%d", i)
	}
	empty := block(map[string]any{"l": nil, "e": []any{}})
	deep := empty
	var chain []car.Block
	for range 200 {
		chain = append(chain, deep)
		deep = block(map[string]any{"l": deep.CID, "e": []any{}})
	}
	wrong := bytes.Clone(body)
	wrong[len(wrong)-2] ^= 1
	const (
		format  = "The body is not a CAR of version 1"
		missing = "The CAR does not have the whole repository"
		bad     = "The CAR has a tree that is not a repository's"
	)
	for _, tt := range []struct {
		name    string
		body    []byte
		message string
	}{
		{"nothing of a CAR", []byte("hello"), format},
		{"cut short", body[:len(body)-3], format},
		{"huge varint", append(bytes.Clone(body), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f), format},
		{"wrong hash", wrong, "A block of the CAR does not match its CID"},
		{"no commit", good.car(func(b car.Block) bool { _, err := repo.ParseCommit(b.Data); return err == nil }), "The CAR does not have the commit that is its root"},
		{"root is a record", marshal(blocks[len(blocks)-1]), "The root of the CAR is not a commit"},
		{"R8: a rev in the future", with(func(a *archive) { a.rev = syntax.NewTIDFromTime(s.Now().Add(6*time.Minute), 0) }), "The rev of the commit is in the future"},
		{"R8: a rev of the year 2200", with(func(a *archive) { a.rev = syntax.NewTIDFromTime(s.Now().AddDate(174, 0, 0), 0) }), "The rev of the commit is in the future"},
		{"without nodes", good.car(func(b car.Block) bool { return b.CID == blocks[3].CID }), missing},
		{"the commit alone", marshal(commit), missing},
		{"record that is no map", with(func(a *archive) {
			a.records = map[string][]byte{"app.bsky.feed.post/3k1": servertest.Must(dagcbor.Marshal([]any{"list"}))}
		}), "Could not parse record at 'app.bsky.feed.post/3k1'"},
		{"a tree that is a commit", over(commit), bad},
		{"a tree that is a record", over(record), bad},
		{"200 layers", over(deep, chain...), bad},
		{"a node within itself", over(block(map[string]any{"l": empty.CID, "e": []any{entry(low, record.CID)}}), empty, record), bad},
		{"a key twice", over(block(map[string]any{"l": nil, "e": []any{entry(low, record.CID), entry(low, record.CID)}}), record), bad},
		{"no path", over(block(map[string]any{"l": nil, "e": []any{entry("hello", record.CID)}}), record), "The repository has a record under a path that no record can have"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m.Server.TB = t
			m.Refused(m.send(tt.body), 400, "InvalidRequest", tt.message)
		})
	}
	m.Server.TB = t
	m.has(nil)
	s.Refused(s.Post("importRepo", string(body), m.Access, "Content-Type: application/json"), 400, "InvalidRequest", "Wrong request encoding (Content-Type): application/json")
	s.Refused(s.Post("importRepo", string(body), "Content-Type: application/vnd.ipld.car"), 401, "AuthMissing", "Authentication Required")
	for _, n := range s.Nodes() {
		n.Repo.Imports = nil
	}
	s.Refused(m.send(body), 400, "InvalidRequest", "Service is not accepting repo imports")

	two := servertest.New(t, servertest.In("com.atproto.repo"), func(o *servertest.Options) { o.MaxImport = 1000 })
	m = moveTo(two, "alice")
	two.Refused(m.send(body), 413, "PayloadTooLarge", "request entity too large")
}

// Whatever is sent is imported, or refused for what is wrong with it: as an archive, and
// as the root of a tree, the record of one, and the commit of one.
func FuzzImportRepo(f *testing.F) {
	s := servertest.New(f, servertest.In("com.atproto.repo"))
	m := moveTo(s, "alice")
	good := m.archive(some(30, "first"))
	blocks := good.blocks()
	for _, b := range blocks {
		f.Add(b.Data)
	}
	f.Add(car.Marshal(blocks[0].CID, blocks...))
	f.Add(car.Marshal(blocks[0].CID, blocks[:3]...))
	f.Fuzz(func(t *testing.T, data []byte) {
		m.Server.TB = t
		strange := car.Block{CID: cidOf(data), Data: data}
		over := func(root dagcbor.CID) car.Block {
			return servertest.Must(repo.Sign(m.DID, m.old, good.rev, root)).Commit
		}
		root, nodes := rows(map[string][]byte{"app.bsky.feed.post/3k1": data})
		tree, record := over(strange.CID), over(root.CID)
		for _, body := range [][]byte{
			data,
			car.Marshal(strange.CID, append([]car.Block{strange}, blocks...)...),
			car.Marshal(tree.CID, append([]car.Block{tree, strange}, blocks...)...),
			car.Marshal(record.CID, record, car.Block{CID: nodes[0].CID, Data: nodes[0].Data}, strange),
		} {
			if a := m.send(body); a.Status != 200 && (a.Status != 400 || a.Text(t, "error") != "InvalidRequest") {
				t.Errorf("answer %d %s", a.Status, a.Body)
			}
		}
	})
}
