package repo_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/coder/websocket"

	"portico/impl/repo"
	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/tree"
	"portico/impl/servertest"
)

// An archive that a stranger makes for an account.
type forgery struct {
	t       testing.TB
	did     syntax.DID
	rev     syntax.TID
	records map[string][]byte // DAG-CBOR by path
	more    []car.Block
}

func forge(t testing.TB, did syntax.DID) *forgery {
	f := &forgery{t: t, did: did, rev: syntax.NewTIDFromTime(servertest.Start, 0), records: map[string][]byte{
		"com.example.thing/a": thing(map[string]any{"n": 1}),
	}}
	for i := range 40 {
		f.records[fmt.Sprintf("com.example.thing/k%d", i)] = thing(map[string]any{"n": 2 + i})
	}
	return f
}

func thing(fields map[string]any) []byte {
	fields["$type"] = "com.example.thing"
	return servertest.Must(dagcbor.Marshal(fields))
}

func block(data []byte) car.Block {
	return car.Block{CID: dagcbor.Sum(dagcbor.CodecDAGCBOR, data), Data: data}
}

// blocks are those of the records and of their tree, whose root comes last.
func (f *forgery) blocks() (blocks []car.Block) {
	b := tree.Builder{Emit: func(r tree.Row) error {
		blocks = append(blocks, car.Block{CID: r.CID, Data: r.Data})
		return nil
	}}
	var records []car.Block
	for _, path := range slices.Sorted(mapKeys(f.records)) {
		records = append(records, block(f.records[path]))
		if err := b.Add(path, records[len(records)-1].CID); err != nil {
			f.t.Fatal(err)
		}
	}
	if _, err := b.Root(); err != nil {
		f.t.Fatal(err)
	}
	return append(records, blocks...)
}

func mapKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for key := range m {
			if !yield(key) {
				return
			}
		}
	}
}

// commit is one on a tree, signed by nobody that the server knows.
func (f *forgery) commit(data dagcbor.CID) car.Block {
	f.t.Helper()
	key := servertest.Must(atcrypto.GeneratePrivateKeyK256())
	signed, err := repo.Sign(f.did, key, f.rev, data)
	if err != nil {
		f.t.Fatal(err)
	}
	return signed.Commit
}

func (f *forgery) archive() []byte {
	f.t.Helper()
	blocks := f.blocks()
	commit := f.commit(blocks[len(blocks)-1].CID)
	return car.Marshal(commit.CID, append(append([]car.Block{commit}, blocks...), f.more...)...)
}

// of is an archive of a tree that is not made of records.
func (f *forgery) of(root dagcbor.CID, blocks ...car.Block) []byte {
	f.t.Helper()
	commit := f.commit(root)
	return car.Marshal(commit.CID, append([]car.Block{commit}, blocks...)...)
}

// node is one of a tree, of a link to the left and entries (key, value, link to the right).
func node(left any, entries ...[3]any) car.Block {
	list := []any{}
	for _, e := range entries {
		list = append(list, map[string]any{"p": 0, "k": []byte(e[0].(string)), "v": e[1], "t": e[2]})
	}
	return block(servertest.Must(dagcbor.Marshal(map[string]any{"l": left, "e": list})))
}

func importing(s *servertest.Server, u servertest.User, archive []byte) servertest.Answer {
	s.Helper()
	return s.Post("importRepo", string(archive), u.Access, "Content-Type: application/vnd.ipld.car")
}

// What no repository is, is refused whole, says why, and leaves everything as it was.
func TestHostileArchives(t *testing.T) {
	s := servertest.New(t, servertest.In("com.atproto.repo"))
	alice, bob := s.SignUp("alice"), s.SignUp("bob")
	s.Deactivate(alice.DID)
	archive := forge(t, alice.DID).archive()
	value := block(thing(map[string]any{"n": 1}))
	head := append([]byte{58}, archive[1:59]...)
	if archive[0] != 58 {
		t.Fatalf("a header of %d bytes", archive[0])
	}
	varint := func(n uint64) []byte { return binary.AppendUvarint(nil, n) }
	chain := func(n int) []byte {
		at := node(nil, [3]any{"com.example.thing/a", value.CID, nil})
		blocks := []car.Block{value, at}
		for range n {
			at = node(at.CID)
			blocks = append(blocks, at)
		}
		return forge(t, alice.DID).of(at.CID, blocks...)
	}
	change := func(do func(f *forgery)) []byte {
		f := forge(t, alice.DID)
		do(f)
		return f.archive()
	}
	without := func(which func(car.Block) bool) []byte {
		f := forge(t, alice.DID)
		blocks := f.blocks()
		root := blocks[len(blocks)-1].CID
		return f.of(root, slices.DeleteFunc(blocks, func(b car.Block) bool { return b.CID != root && which(b) })...)
	}
	wrong := bytes.Clone(archive)
	wrong[len(wrong)-1] ^= 1
	// Nodes that are each other's children, which no hash allows.
	loopA, loopB := dagcbor.Sum(dagcbor.CodecDAGCBOR, []byte("a")), dagcbor.Sum(dagcbor.CodecDAGCBOR, []byte("b"))
	cycle := forge(t, alice.DID).of(loopA, car.Block{CID: loopA, Data: node(loopB).Data}, car.Block{CID: loopB, Data: node(loopA).Data})
	// A tree that says the same subtree twice, and so on: 2^60 records.
	laughs := node(nil, [3]any{"com.example.thing/a", value.CID, nil})
	many := []car.Block{value, laughs}
	for range 60 {
		laughs = node(laughs.CID, [3]any{"com.example.thing/b", value.CID, laughs.CID})
		many = append(many, laughs)
	}
	deep := bytes.Repeat([]byte{0x81}, 300_000)

	const format, hash = "The body is not a CAR of version 1", "A block of the CAR does not match its CID"
	const notWhole, notTree = "The CAR does not have the whole repository", "The CAR has a tree that is not a repository's"
	for _, tt := range []struct {
		name    string
		archive []byte
		message string
	}{
		{"no archive", []byte("hello"), format},
		{"cut in the header", archive[:30], format},
		{"cut in a block", archive[:len(archive)-7], format},
		{"header of 2^63 bytes", append(varint(1<<63), archive...), format},
		{"header of a length of eleven bytes", append(bytes.Repeat([]byte{0xff}, 11), archive...), format},
		{"header of a gigabyte", append(varint(1<<30), archive...), format},
		{"block of 2^63 bytes", append(bytes.Clone(head), varint(1<<63)...), format},
		{"block of a gigabyte", append(bytes.Clone(head), varint(1<<30)...), format},
		{"block of 3 MB", car.Marshal(value.CID, block(bytes.Repeat([]byte{0xf6}, 3_000_000))), format},
		{"block without a CID", append(append(bytes.Clone(head), 4), "abcd"...), format},
		{"block of no bytes", append(bytes.Clone(head), 0), format},
		{"length not in its shortest form", append(append(bytes.Clone(head), 0x80|59, 0x00), archive[60:]...), format},
		{"wrong hash", wrong, hash},
		{"cycle", cycle, hash},
		{"no root", servertest.Must(carOf(nil, value)), "expected one root"},
		{"two roots", servertest.Must(carOf([]dagcbor.CID{value.CID, value.CID}, value)), "expected one root"},
		{"root that is not there", car.Marshal(value.CID), "The CAR does not have the commit that is its root"},
		{"root that is a record", car.Marshal(value.CID, value), "The root of the CAR is not a commit"},
		{"root that is a node", car.Marshal(laughs.CID, laughs), "The root of the CAR is not a commit"},
		{"commit alone", forge(t, alice.DID).of(loopA), notWhole},
		{"tree of a root alone", without(func(b car.Block) bool { return bytes.HasPrefix(b.Data, []byte("\xa2\x61e")) }), notWhole},
		{"tree without a record", without(func(b car.Block) bool { return b.CID == value.CID }), "Could not parse record at 'com.example.thing/a'"},
		{"tree that is a record", forge(t, alice.DID).of(value.CID, value), notTree},
		{"tree of too many layers", chain(3), notTree},
		{"tree of two hundred layers", chain(200), notTree},
		{"tree of a hundred thousand layers", chain(100_000), notTree},
		{"tree that says the same again and again", forge(t, alice.DID).of(laughs.CID, many...), notTree},
		{"node of an empty key", of(alice, t, node(nil, [3]any{"", value.CID, nil}), value), notTree},
		{"node of a path without a slash", of(alice, t, node(nil, [3]any{"com.example.thing", value.CID, nil}), value), "The repository has a record under a path that no record can have"},
		{"node of a path of dots", of(alice, t, node(nil, [3]any{"com.example.thing/..", value.CID, nil}), value), "The repository has a record under a path that no record can have"},
		{"node of keys out of order", of(alice, t, node(nil, [3]any{"com.example.thing/b", value.CID, nil}, [3]any{"com.example.thing/a", value.CID, nil}), value), notTree},
		{"node of a key twice", of(alice, t, node(nil, [3]any{"com.example.thing/a", value.CID, nil}, [3]any{"com.example.thing/a", value.CID, nil}), value), notTree},
		{"record of another form", change(func(f *forgery) { f.records["com.example.thing/a"] = []byte{0x18, 0x01} }), "Could not parse record at 'com.example.thing/a'"},
		{"record that is a list", change(func(f *forgery) { f.records["com.example.thing/a"] = []byte{0x80} }), "Could not parse record at 'com.example.thing/a'"},
		{"record of 300,000 levels", change(func(f *forgery) { f.records["com.example.thing/a"] = append(bytes.Clone(deep), 0xf6) }), "Could not parse record at 'com.example.thing/a'"},
		{"record of a fraction", change(func(f *forgery) {
			f.records["com.example.thing/a"] = []byte("\xa1\x61a\xfb\x3f\xf8\x00\x00\x00\x00\x00\x00")
		}), "Could not parse record at 'com.example.thing/a'"},
		{"record of a gigabyte's length", change(func(f *forgery) {
			f.records["com.example.thing/a"] = []byte("\xa1\x61a\x7a\x40\x00\x00\x00abc")
		}), "Could not parse record at 'com.example.thing/a'"},
		{"rev of next year", change(func(f *forgery) { f.rev = syntax.NewTIDFromTime(servertest.Start.AddDate(1, 0, 0), 0) }), "The rev of the commit is in the future"},
		{"rev of the end of time", change(func(f *forgery) { f.rev = "jzzzzzzzzzzzz" }), "The rev of the commit is in the future"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.TB = t
			began := time.Now()
			s.Refused(importing(s, alice, tt.archive), 400, "InvalidRequest", tt.message)
			if spent := time.Since(began); spent > 20*time.Second {
				t.Errorf("refused after %v", spent)
			}
		})
	}
	s.TB = t
	var status struct{ RepoBlocks, IndexedRecords int }
	s.Accepted(s.Get("com.atproto.server.checkAccountStatus", alice.Access)).Decode(t, &status)
	if status.RepoBlocks != 2 || status.IndexedRecords != 0 {
		t.Errorf("after all that was refused: %+v", status)
	}
	s.Empty(importing(s, alice, archive))
	// The records of another are anybody's to take.
	s.Empty(importing(s, alice, forge(t, bob.DID).archive()))
}

func of(u servertest.User, t testing.TB, root car.Block, more ...car.Block) []byte {
	return forge(t, u.DID).of(root.CID, append([]car.Block{root}, more...)...)
}

func carOf(roots []dagcbor.CID, blocks ...car.Block) ([]byte, error) {
	var b bytes.Buffer
	w, err := car.NewWriter(&b, roots...)
	for _, block := range blocks {
		if err == nil {
			err = w.Write(block)
		}
	}
	return b.Bytes(), err
}

// A million tiny blocks that belong to nothing, in memory that does not grow with them.
func TestMillionTinyBlocks(t *testing.T) {
	blocks := 1_000_000
	if testing.Short() || raced {
		blocks = 100_000
	}
	s := servertest.New(t, servertest.In("com.atproto.repo"))
	alice := s.SignUp("alice")
	s.Deactivate(alice.DID)
	archive := forge(t, alice.DID).archive()
	peak := watchHeap(t)
	began := time.Now()
	body, w := io.Pipe()
	go func() {
		_, err := w.Write(archive)
		var buf []byte
		for i := 0; i < blocks && err == nil; i++ {
			b := block(dagcbor.AppendInt(nil, int64(i)))
			buf = binary.AppendUvarint(buf, uint64(len(b.CID)+len(b.Data)))
			buf = append(append(buf, b.CID[:]...), b.Data...)
			if len(buf) > 1<<16 || i == blocks-1 {
				_, err = w.Write(buf)
				buf = buf[:0]
			}
		}
		w.CloseWithError(err)
	}()
	request, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/xrpc/com.atproto.repo.importRepo", body)
	s.Check(err)
	request.Header.Set("Content-Type", "application/vnd.ipld.car")
	request.Header.Set("Authorization", alice.Access)
	response, err := http.DefaultClient.Do(request)
	s.Check(err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	s.Check(err)
	grown := peak()
	t.Logf("%d blocks in %v, %d kB of memory", blocks, time.Since(began).Round(time.Millisecond), grown>>10)
	if response.StatusCode != 200 {
		t.Errorf("%d %s", response.StatusCode, text)
	}
	if grown > 60<<20 {
		t.Errorf("memory grew by %d MB", grown>>20)
	}
}

// watchHeap looks at what the heap holds until the returned function is called, which
// returns by how much it grew at most.
func watchHeap(t testing.TB) (peak func() uint64) {
	t.Helper()
	held := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, most := held(), uint64(0)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			most = max(most, held())
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 {
		close(stop)
		<-stopped
		return most - min(before, most)
	}
}

// Records at the edges of what is taken.
func TestRecordsAtTheEdge(t *testing.T) {
	s := servertest.New(t, servertest.In("com.atproto.repo"))
	alice := s.SignUp("alice")
	create := func(record string) servertest.Answer {
		return s.Post("createRecord", fmt.Sprintf(`{"repo":%q,"collection":"com.example.thing","record":%s}`, alice.DID, record), alice.Access)
	}
	nested := func(open, end string, n int) string {
		return `{"v":` + strings.Repeat(open, n) + "1" + strings.Repeat(end, n) + "}"
	}
	const number = "Expected one of null, boolean, integer, string, cid, bytes, array or object value type (got %s) at $.record.v"
	// The body, record and list are three levels.
	s.Accepted(create(nested("[", "]", 120)))
	s.Accepted(create(nested(`{"a":`, "}", 120)))
	for _, record := range []string{nested("[", "]", 129), nested(`{"a":`, "}", 129), nested("[", "]", 400_000), `{"v":` + strings.Repeat("[", 900_000) + "}"} {
		if a := create(record); a.Status != 400 {
			t.Errorf("a record of too many levels: %d %.200s", a.Status, a.Body)
		}
	}
	for _, n := range []string{"9007199254740991", "-9007199254740991", "1e2", "1.0"} {
		s.Accepted(create(`{"v":` + n + `}`))
	}
	for n, said := range map[string]string{"9007199254740992": "9007199254740992", "-9007199254740992": "-9007199254740992", "0.5": "0.5"} {
		s.Refused(create(`{"v":`+n+`}`), 400, "InvalidRequest", fmt.Sprintf(number, said))
	}
	s.Accepted(create(`{"v":"` + strings.Repeat("x", 999_000-100) + `"}`))
	s.Refused(create(`{"v":"`+strings.Repeat("x", 1_000_000)+`"}`), 413, "PayloadTooLargeError", "request entity too large")
	// What is hard to read: a million small things.
	for _, record := range []string{
		`{"v":[` + strings.TrimSuffix(strings.Repeat("1,", 490_000), ",") + `]}`,
		`{"v":[` + strings.TrimSuffix(strings.Repeat("{},", 320_000), ",") + `]}`,
		`{"v":"` + strings.Repeat(`\u0001`, 160_000) + `"}`,
		`{` + strings.TrimSuffix(strings.Repeat(`"a":1,`, 160_000), ",") + `}`,
	} {
		began := time.Now()
		s.Accepted(create(record))
		if spent := time.Since(began); spent > 10*time.Second {
			t.Errorf("%.20s… took %v", record, spent)
		}
	}
}

// Consumers of the firehose that never read cost the memory of what is under way to each,
// and neither writers nor those who read wait for them.
func TestConsumersThatStall(t *testing.T) {
	consumers, writes := 60, 150
	if testing.Short() || raced {
		consumers, writes = 10, 30
	}
	s := servertest.New(t, servertest.In("com.atproto.repo"), func(o *servertest.Options) { o.Firehose = true })
	alice := s.SignUp("alice")
	dial := func() *websocket.Conn {
		conn, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(s.URL, "http")+"/xrpc/com.atproto.sync.subscribeRepos?cursor=0", nil)
		s.Check(err)
		t.Cleanup(func() { conn.CloseNow() })
		conn.SetReadLimit(8 << 20)
		return conn
	}
	for range consumers {
		dial()
	}
	reader := dial()
	peak := watchHeap(t)
	// Who reads does it meanwhile: after half a minute without it they would stall, too.
	read := make(chan error, 1)
	go func() {
		for range 4 + writes {
			if _, _, err := reader.Read(t.Context()); err != nil {
				read <- err
				return
			}
		}
		read <- nil
	}()
	text := strings.Repeat("x", 500_000)
	for i := range writes {
		s.Accepted(s.Post("createRecord", fmt.Sprintf(`{"repo":%q,"collection":"com.example.thing","record":{"i":%d,"text":%q}}`, alice.DID, i, text), alice.Access))
	}
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	grown := peak()
	t.Logf("%d consumers, %d events of 500 kB: %d MB", consumers, writes, grown>>20)
	// The ring has 32 MiB and pages have as much; beside them each consumer has its frame.
	if bound := uint64(100<<20 + consumers<<20); grown > bound {
		t.Errorf("memory grew by %d MB", grown>>20)
	}
}

// A repository of another DID may be taken along, as the reference allows: people begin
// anew with what they wrote before. What is told of it afterwards is the account's own.
func TestImportOfAnotherDID(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		s.TB = t
		alice, bob := s.SignUp("alice"), s.SignUp("bob")
		s.Accepted(s.Post("com.atproto.server.deactivateAccount", `{}`, alice.Access))
		s.Empty(importing(s, alice, forge(t, bob.DID).archive()))
		s.Empty(s.Post("com.atproto.server.activateAccount", "", alice.Access))
		a := s.Accepted(s.Get("com.atproto.sync.getRepo?did=" + alice.DID.String()))
		blocks, roots := blocksOf(t, []byte(a.Body))
		c, err := repo.ParseCommit(blocks[roots[0]])
		s.Check(err)
		if c.DID != alice.DID {
			t.Errorf("commit of %s, want %s", c.DID, alice.DID)
		}
		if err := c.Verify(servertest.Must(atcrypto.ParsePublicDIDKey(s.SigningKey(alice.DID)))); err != nil {
			t.Error(err)
		}
		s.Accepted(s.Get("getRecord?repo=" + alice.DID.String() + "&collection=com.example.thing&rkey=k7"))
	}, servertest.In("com.atproto.repo"))
}
