package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/repo/mst"
	block "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"golang.org/x/net/dns/dnsmessage"
)

const publisher = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"

// world is a network of one name server, one PLC directory and one server with one
// repository, all on this machine.
type world struct {
	t       *testing.T
	dns     string // address of the name server
	url     string // of the directory and the server
	mu      sync.Mutex
	txt     map[string]string // guarded by mu: the name server is a goroutine of its own
	key     atcrypto.PrivateKeyExportable
	records map[string]string // lexicons by NSID

	// What is wrong with this world.
	did    string                                          // of the commit
	signer atcrypto.PrivateKey                             // of the commit
	tamper func(car []byte) []byte                         // with proofs
	answer func(w http.ResponseWriter, method string) bool // instead of an answer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, did: publisher, txt: map[string]string{}, records: map[string]string{}}
	var err error
	if w.key, err = atcrypto.GeneratePrivateKeyK256(); err != nil {
		t.Fatal(err)
	}
	w.signer = w.key
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	w.dns = socket.LocalAddr().String()
	go w.names(socket)
	s := httptest.NewServer(w)
	t.Cleanup(s.Close)
	w.url = s.URL
	return w
}

// name publishes a DID under a name.
func (w *world) name(name, did string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.txt[name] = did
}

// names answers questions for TXT records.
func (w *world) names(socket net.PacketConn) {
	b := make([]byte, 1500)
	for {
		n, peer, err := socket.ReadFrom(b)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		m.Response, m.RCode, m.Additionals = true, dnsmessage.RCodeNameError, nil
		w.mu.Lock()
		did := w.txt[strings.TrimSuffix(q.Name.String(), ".")]
		w.mu.Unlock()
		if did != "" && q.Type == dnsmessage.TypeTXT {
			m.RCode = dnsmessage.RCodeSuccess
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
				Body:   &dnsmessage.TXTResource{TXT: []string{"did=" + did}},
			}}
		}
		if answer, err := m.Pack(); err == nil {
			socket.WriteTo(answer, peer)
		}
	}
}

// ServeHTTP is the PLC directory and the server of the repository.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	method := strings.TrimPrefix(r.URL.Path, "/xrpc/")
	if w.answer != nil && w.answer(rw, method) {
		return
	}
	q := r.URL.Query()
	switch method {
	case "/" + publisher:
		public, _ := w.key.PublicKey()
		json.NewEncoder(rw).Encode(map[string]any{
			"id": publisher,
			"verificationMethod": []any{map[string]string{
				"id": publisher + "#atproto", "type": "Multikey", "controller": publisher, "publicKeyMultibase": public.Multibase(),
			}},
			"service": []any{map[string]string{"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": w.url}},
		})
	case "com.atproto.repo.listRecords":
		// Two to a page.
		keys := slices.Sorted(maps.Keys(w.records))
		keys = slices.DeleteFunc(keys, func(k string) bool { return k <= q.Get("cursor") })
		var page struct {
			Cursor  string              `json:"cursor,omitempty"`
			Records []map[string]string `json:"records"`
		}
		for _, k := range keys[:min(2, len(keys))] {
			page.Records = append(page.Records, map[string]string{"uri": "at://" + publisher + "/com.atproto.lexicon.schema/" + k})
			page.Cursor = k
		}
		json.NewEncoder(rw).Encode(page)
	case "com.atproto.sync.getRecord":
		if q.Get("did") != publisher || q.Get("collection") != "com.atproto.lexicon.schema" || w.records[q.Get("rkey")] == "" {
			rw.WriteHeader(400)
			rw.Write([]byte(`{"error":"RecordNotFound","message":"no such record"}`))
			return
		}
		proof := w.proof(q.Get("rkey"))
		if w.tamper != nil {
			proof = w.tamper(proof)
		}
		rw.Write(proof)
	default:
		rw.WriteHeader(404)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // of the server's goroutine, where a test cannot end
	}
	return v
}

// proof is what com.atproto.sync.getRecord answers: the commit, the nodes of the tree
// on the way to the record, and the record; no other nodes.
func (w *world) proof(nsid string) []byte {
	ctx := context.Background()
	format := cid.V1Builder{Codec: cid.DagCBOR, MhType: 0x12}
	tree := mst.NewEmptyTree()
	for i := range 40 { // other things that are in the repository
		must(tree.Insert(fmt.Appendf(nil, "app.example.post/%d", i), must(format.Sum([]byte{byte(i)}))))
	}
	var record block.Block
	for id, text := range w.records {
		value := must(atdata.UnmarshalJSON([]byte(text)))
		data := must(atdata.MarshalCBOR(value))
		b := must(block.NewBlockWithCid(data, must(format.Sum(data))))
		must(tree.Insert([]byte("com.atproto.lexicon.schema/"+id), b.Cid()))
		if id == nsid {
			record = b
		}
	}
	root := must(tree.RootCID()) // and those of all nodes
	commit := repo.Commit{DID: w.did, Version: 3, Data: *root, Rev: "3kdgeujwlq32y"}
	if err := commit.Sign(w.signer); err != nil {
		panic(err)
	}
	// Nodes that the way can do without are left out.
	var nodes []block.Block
	var collect func(n *mst.Node)
	collect = func(n *mst.Node) {
		data := n.NodeData()
		text, id, err := data.Bytes()
		if err != nil {
			panic(err)
		}
		nodes = append(nodes, must(block.NewBlockWithCid(text, *id)))
		for _, e := range n.Entries {
			if e.Child != nil {
				collect(e.Child)
			}
		}
	}
	collect(tree.Root)
	for i := 0; i < len(nodes); {
		rest := slices.Delete(slices.Clone(nodes), i, i+1)
		some := repo.NewTinyBlockstore()
		for _, n := range rest {
			some.Put(ctx, n)
		}
		if t, err := mst.LoadTreeFromStore(ctx, some, *root); err == nil {
			if found, err := t.Get([]byte("com.atproto.lexicon.schema/" + nsid)); err == nil && found != nil {
				nodes = rest
				continue
			}
		}
		i++
	}
	var text bytes.Buffer
	if err := commit.MarshalCBOR(&text); err != nil {
		panic(err)
	}
	top := must(format.Sum(text.Bytes()))
	// A CAR file is sections with their length before them: {roots: [CID], version: 1}
	// as DAG-CBOR, and each block behind its CID.
	header := slices.Concat([]byte("\xa2\x65roots\x81\xd8\x2a\x58\x25\x00"), top.Bytes(), []byte("\x67version\x01"))
	out := append(binary.AppendUvarint(nil, uint64(len(header))), header...)
	for _, b := range append(nodes, must(block.NewBlockWithCid(text.Bytes(), top)), record) {
		section := append(b.Cid().Bytes(), b.RawData()...)
		out = append(binary.AppendUvarint(out, uint64(len(section))), section...)
	}
	return out
}

// pull runs lexgen pull in root.
func (w *world) pull(root string, args ...string) (status int, stdout, stderr string) {
	w.t.Helper()
	return lexgen(w.t, append([]string{"-C", root, "pull", "-dns", w.dns, "-plc", w.url}, args...)...)
}

func read(t *testing.T, names ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(names...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// tree is everything in the lexicons of root.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(filepath.Join(root, "lexicons"), func(name string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			rel, _ := filepath.Rel(root, name)
			all[filepath.ToSlash(rel)] = read(t, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// shop is a world with a few lexicons of com.example.shop and of another authority.
func shop(t *testing.T) *world {
	w := newWorld(t)
	w.name("_lexicon.shop.example.com", publisher)
	w.name("_lexicon.example.com", publisher)
	w.records = map[string]string{
		"com.example.shop.defs": `{"$type":"com.atproto.lexicon.schema","lexicon":1,"id":"com.example.shop.defs","defs":{"book":{"type":"object","required":["title"],"properties":{"title":{"type":"string"},"by":{"type":"ref","ref":"org.elsewhere.defs#author"}}}}}`,
		"com.example.shop.buy": `{"$type":"com.atproto.lexicon.schema","lexicon":1,"id":"com.example.shop.buy","description":"Buys.","defs":{"main":{"type":"procedure","input":{"encoding":"application/json",
			"schema":{"type":"object","properties":{"what":{"type":"ref","ref":"com.example.shop.defs#book"},"count":{"type":"integer","minimum":1,"description":"How many."}}}}}}}`,
		"com.example.shop.sell": `{"$type":"com.atproto.lexicon.schema","lexicon":1,"id":"com.example.shop.sell","defs":{"main":{"type":"query"}}}`,
		"com.example.ping":      `{"$type":"com.atproto.lexicon.schema","lexicon":1,"id":"com.example.ping","defs":{"main":{"type":"query"}}}`,
	}
	return w
}

func TestPull(t *testing.T) {
	w, root := shop(t), lay(t, document)
	status, stdout, stderr := w.pull(root, "com.example.shop.buy")
	const said = `com.example.shop.buy: written, from at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/com.atproto.lexicon.schema/com.example.shop.buy
com.example.shop.buy refers to com.example.shop.defs, which is not here: lexgen pull com.example.shop.defs
`
	if status != 0 || stdout != said || stderr != "" {
		t.Fatalf("%d\n%s%s", status, stdout, stderr)
	}
	const text = `{
  "lexicon": 1,
  "id": "com.example.shop.buy",
  "description": "Buys.",
  "defs": {
    "main": {
      "type": "procedure",
      "input": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "properties": {
            "count": {
              "type": "integer",
              "description": "How many.",
              "minimum": 1
            },
            "what": { "type": "ref", "ref": "com.example.shop.defs#book" }
          }
        }
      }
    }
  }
}
`
	if got := read(t, root, "lexicons/com/example/shop/buy.json"); got != text {
		t.Errorf("got %s", got)
	}
	upstream := read(t, root, "lexicons/UPSTREAM")
	const from = "com.example.shop.buy at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/com.atproto.lexicon.schema/com.example.shop.buy bafyrei"
	if !strings.HasPrefix(upstream, from) || strings.Count(upstream, "\n") != 1 {
		t.Errorf("UPSTREAM %q", upstream)
	}

	// A second time nothing changes, however the file is written.
	mine := strings.ReplaceAll(text, "\n  ", "\n\t")
	if err := os.WriteFile(filepath.Join(root, "lexicons/com/example/shop/buy.json"), []byte(mine), 0o666); err != nil {
		t.Fatal(err)
	}
	if status, stdout, _ = w.pull(root, "com.example.shop.buy"); status != 0 || !strings.HasPrefix(stdout, "com.example.shop.buy: unchanged, from ") {
		t.Errorf("again: %d %s", status, stdout)
	}
	if got := read(t, root, "lexicons/com/example/shop/buy.json"); got != mine || read(t, root, "lexicons/UPSTREAM") != upstream {
		t.Errorf("again: %s", got)
	}

	// An authority brings all of its lexicons, not those of others in its repository.
	status, stdout, stderr = w.pull(root, "com.example.shop.*")
	if status != 0 || stderr != "" || !strings.Contains(stdout, "com.example.shop.defs refers to org.elsewhere.defs, which is not here: lexgen pull org.elsewhere.defs\n") ||
		strings.Contains(stdout, "com.example.shop.buy refers") {
		t.Errorf("authority: %d\n%s%s", status, stdout, stderr)
	}
	want := []string{"lexicons/UPSTREAM", "lexicons/com/atproto/x/ping.json", "lexicons/com/example/shop/buy.json", "lexicons/com/example/shop/defs.json", "lexicons/com/example/shop/sell.json"}
	if got := slices.Sorted(maps.Keys(tree(t, root))); !slices.Equal(got, want) {
		t.Errorf("authority: %q", got)
	}
	if status, _, stderr = w.pull(root, "example.com"); status != 0 || read(t, root, "lexicons/com/example/ping.json") == "" {
		t.Errorf("domain: %d %s", status, stderr)
	}
	var names []string
	for line := range strings.Lines(read(t, root, "lexicons/UPSTREAM")) {
		names = append(names, strings.Fields(line)[0])
	}
	if !slices.Equal(names, []string{"com.example.ping", "com.example.shop.buy", "com.example.shop.defs", "com.example.shop.sell"}) {
		t.Errorf("UPSTREAM names %q", names)
	}
	// What was pulled can be generated from.
	if status, _, stderr := lexgen(t, "-C", root, "-dangling=raw", "generate"); status != 0 {
		t.Errorf("generate: %d %s", status, stderr)
	}
}

// A new version keeps the order that the file has.
func TestPullKeepsOrder(t *testing.T) {
	w, root := shop(t), lay(t, document)
	if status, _, stderr := w.pull(root, "com.example.shop.buy"); status != 0 {
		t.Fatal(stderr)
	}
	name := filepath.Join(root, "lexicons/com/example/shop/buy.json")
	const old = `{"id": "com.example.shop.buy", "lexicon": 1, "defs": {"main": {"type": "procedure", "input": {"encoding": "application/json",
		"schema": {"type": "object", "properties": {"what": {"type": "string"}, "count": {"minimum": 2, "type": "integer"}}}}}}}`
	if err := os.WriteFile(name, []byte(old), 0o666); err != nil {
		t.Fatal(err)
	}
	if status, stdout, _ := w.pull(root, "com.example.shop.buy"); status != 0 || !strings.Contains(stdout, "buy: written") {
		t.Fatal(stdout)
	}
	got := read(t, name)
	at := -1
	for _, key := range []string{`"id"`, `"lexicon"`, `"description": "Buys."`, `"defs"`, `"what"`, `"count"`, `"description": "How many."`} {
		next := strings.Index(got, key)
		if next < at {
			t.Errorf("%s is not where it was:\n%s", key, got)
		}
		at = next
	}
}

// Nothing is written unless everything asked for is there and proven.
func TestPullRefuses(t *testing.T) {
	other, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		arg  string
		make func(w *world)
		says string
	}{
		{"no such name", "net.nowhere.thing.x", nil, "pull net.nowhere.thing.x: the DNS has no TXT record _lexicon.thing.nowhere.net: its authority publishes no lexicons"},
		{"no such record", "com.example.shop.burn", nil, "com.atproto.sync.getRecord answers 400 Bad Request RecordNotFound no such record"},
		{"no NSID", "com.exa mple", nil, `"com.exa mple" is no NSID, and no authority: com.example.shop.* or example.com is one`},
		{"no lexicons", "com.example.empty.*", func(w *world) { w.name("_lexicon.empty.example.com", publisher) }, "the repository of empty.example.com has no lexicons of that authority"},
		{"no DID", "com.example.shop.buy", func(w *world) { w.name("_lexicon.shop.example.com", "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb") }, "resolve did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"},
		{"signed by another", "com.example.shop.buy", func(w *world) { w.signer = other }, "the commit is not signed by did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"},
		{"another repository", "com.example.shop.buy", func(w *world) { w.did = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb" }, "the proof is of the repository did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"},
		{"altered record", "com.example.shop.buy", func(w *world) {
			w.tamper = func(car []byte) []byte { return bytes.Replace(car, []byte("How many."), []byte("How much."), 1) }
		}, "read the proof: "},
		{"half a proof", "com.example.shop.buy", func(w *world) {
			w.tamper = func(car []byte) []byte { return car[:len(car)/2] }
		}, "read the proof: "},
		{"proof of another record", "com.example.shop.buy", func(w *world) {
			w.tamper = func([]byte) []byte { return w.proof("com.example.ping") }
		}, "the proof does not lead to the record: "},
		{"no proof", "com.example.shop.buy", func(w *world) { w.tamper = func([]byte) []byte { return nil } }, "read the proof: "},
		{"too large", "com.example.shop.buy", func(w *world) {
			w.tamper = func([]byte) []byte { return make([]byte, 4<<20+1) }
		}, "com.atproto.sync.getRecord answers more than 4194304 bytes"},
		{"another lexicon", "com.example.shop.sell", func(w *world) { w.records["com.example.shop.sell"] = w.records["com.example.shop.buy"] }, "the record is the lexicon com.example.shop.buy"},
		{"another record type", "com.example.shop.sell", func(w *world) { w.records["com.example.shop.sell"] = `{"$type":"app.example.post"}` }, "the record is a app.example.post"},
		{"not a lexicon", "com.example.shop.sell", func(w *world) {
			w.records["com.example.shop.sell"] = `{"$type":"com.atproto.lexicon.schema","lexicon":1,"id":"com.example.shop.sell","defs":{"main":{"type":"qery"}}}`
		}, `lexicons/com/example/shop/sell.json:5:23: /defs/main/type: unknown type "qery" (did you mean "query"?)`},
		{"down", "com.example.shop.*", func(w *world) {
			w.answer = func(rw http.ResponseWriter, method string) bool {
				if method == "com.atproto.repo.listRecords" {
					rw.WriteHeader(502)
					return true
				}
				return false
			}
		}, "list the lexicons of shop.example.com: com.atproto.repo.listRecords answers 502 Bad Gateway"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, root := shop(t), lay(t, document)
			if tt.make != nil {
				tt.make(w)
			}
			before := tree(t, root)
			status, stdout, stderr := w.pull(root, "com.example.ping", tt.arg)
			if tt.name == "signed by another" || tt.name == "altered record" {
				// whose other record is no better
				status, stdout, stderr = w.pull(root, tt.arg)
			}
			if status != 1 || stdout != "" || !strings.Contains(stderr, tt.says) {
				t.Errorf("%d %s%s, want %s", status, stdout, stderr, tt.says)
			}
			if !maps.Equal(tree(t, root), before) {
				t.Error("something was written")
			}
		})
	}
	if status, _, stderr := lexgen(t, "pull"); status != 2 || !strings.HasPrefix(stderr, "usage: lexgen [-C folder] pull") {
		t.Errorf("without arguments: %d %s", status, stderr)
	}
}

func TestSync(t *testing.T) {
	root := lay(t, document)
	write := func(dir, name, text string) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write(root, "lexicons/UPSTREAM", "npm something 1\ncom.example.mine.x at://did:plc:x/com.atproto.lexicon.schema/com.example.mine.x bafy\n")
	write(root, "lexicons/com/atproto/x/gone.json", `{"lexicon":1,"id":"com.atproto.x.gone","defs":{"main":{"type":"query"}}}`)
	write(root, "lexicons/com/example/mine/x.json", `{"lexicon":1,"id":"com.example.mine.x","defs":{"main":{"type":"query"}}}`)
	own := `{"lexicon":1,"id":"alt.portico.x.own","defs":{"main":{"type":"query"}}}` // emitted, and not upstream's to remove
	write(root, "lexicons/alt/portico/x/own.json", own)
	write(root, "lexicons/com/atproto/x/same.json", `{"lexicon":1, "id":"com.atproto.x.same","defs":{"main":{"type":"query"}}}`)

	up := filepath.Join(t.TempDir(), "upstream")
	changed := strings.Replace(document, `"query"`, `"procedure"`, 1)
	write(up, "lexicons/com/atproto/x/ping.json", changed)
	write(up, "lexicons/com/atproto/x/same.json", `{"lexicon":1,"id":"com.atproto.x.same","defs":{"main":{"type":"query"}}}`)
	write(up, "lexicons/com/atproto/x/new.json", `{"lexicon":1,"id":"com.atproto.x.new","defs":{"main":{"type":"query","output":{"encoding":"application/json","schema":{"type":"ref","ref":"app.other.defs#thing"}}}}}`)
	write(up, "lexicons/app/other/defs.json", `{"lexicon":1,"id":"app.other.defs","defs":{"thing":{"type":"object"}}}`)
	write(up, "lexicons/app/other/unasked.json", `{"lexicon":1,"id":"app.other.unasked","defs":{"main":{"type":"qery"}}}`)
	git := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", up, "-c", "user.name=x", "-c", "user.email=x@x"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "-q")
	git("remote", "add", "origin", "https://someone:secret@git.example/atproto")
	git("add", ".")
	git("commit", "-q", "-m", "x")
	commit := git("rev-parse", "HEAD")

	status, stdout, stderr := lexgen(t, "-C", root, "sync", up)
	if status != 0 || stdout != "lexicons: 2 new, 1 changed, 1 removed, 1 unchanged, from git https://git.example/atproto "+commit+"\n" || stderr != "" {
		t.Errorf("%d %s%s", status, stdout, stderr)
	}
	want := map[string]string{
		"lexicons/UPSTREAM":                "git https://git.example/atproto " + commit + "\ncom.example.mine.x at://did:plc:x/com.atproto.lexicon.schema/com.example.mine.x bafy\n",
		"lexicons/com/atproto/x/ping.json": changed,
		"lexicons/com/atproto/x/same.json": `{"lexicon":1, "id":"com.atproto.x.same","defs":{"main":{"type":"query"}}}`,
		"lexicons/com/atproto/x/new.json":  read(t, up, "lexicons/com/atproto/x/new.json"),
		"lexicons/app/other/defs.json":     read(t, up, "lexicons/app/other/defs.json"),
		"lexicons/com/example/mine/x.json": `{"lexicon":1,"id":"com.example.mine.x","defs":{"main":{"type":"query"}}}`,
		"lexicons/alt/portico/x/own.json":  own,
	}
	if got := tree(t, root); !maps.Equal(got, want) {
		t.Errorf("got %q", got)
	}

	// A document with problems, and a folder that is another one.
	write(up, "lexicons/com/atproto/x/ping.json", strings.Replace(document, `"query"`, `"qery"`, 1))
	for _, tt := range []struct{ folder, says string }{
		{up, `com/atproto/x/ping.json:1:63: /defs/main/type: unknown type "qery"`},
		{t.TempDir(), "no document there is of com.atproto.*"},
		{filepath.Join(up, "nothing"), "no such file or directory"},
	} {
		if status, stdout, stderr := lexgen(t, "-C", root, "sync", tt.folder); status != 1 || stdout != "" || !strings.Contains(stderr, tt.says) {
			t.Errorf("%d %s%s, want %s", status, stdout, stderr, tt.says)
		}
	}
	if got := tree(t, root); !maps.Equal(got, want) {
		t.Errorf("after problems: %q", got)
	}
	// One that is excluded is neither brought nor removed.
	excluding, said := tool(), new(strings.Builder)
	excluding.Config.Exclude = []string{"com/atproto/x/ping.json", "com.atproto.x.gone"}
	gone := `{"lexicon":1,"id":"com.atproto.x.gone","defs":{"main":{"type":"query"}}}`
	write(root, "lexicons/com/atproto/x/gone.json", gone)
	want["lexicons/com/atproto/x/gone.json"] = gone
	want["lexicons/UPSTREAM"] = strings.Replace(want["lexicons/UPSTREAM"], "\n", " with changes\n", 1)
	if status := excluding.Main([]string{"-C", root, "sync", up}, said, said); status != 0 || !strings.HasPrefix(said.String(), "lexicons: 0 new, 0 changed, 0 removed, 3 unchanged, ") {
		t.Errorf("with a document excluded: %d %s", status, said)
	}
	if got := tree(t, root); !maps.Equal(got, want) {
		t.Errorf("with a document excluded: %q", got)
	}
	if err := os.Remove(filepath.Join(root, "lexicons/com/atproto/x/gone.json")); err != nil {
		t.Fatal(err)
	}
	// Without a repository around it, a folder is known by what is in it.
	if err := os.RemoveAll(filepath.Join(up, ".git")); err != nil {
		t.Fatal(err)
	}
	write(up, "lexicons/com/atproto/x/ping.json", changed)
	if status, stdout, _ = lexgen(t, "-C", root, "sync", filepath.Join(up, "lexicons")); status != 0 || !strings.Contains(stdout, "0 new, 0 changed, 0 removed, 4 unchanged, from folder sha256:") {
		t.Errorf("without git: %d %s", status, stdout)
	}
	if status, _, stderr := lexgen(t, "sync"); status != 2 || !strings.HasPrefix(stderr, "usage: lexgen [-C folder] sync FOLDER") {
		t.Errorf("without a folder: %d %s", status, stderr)
	}
}
