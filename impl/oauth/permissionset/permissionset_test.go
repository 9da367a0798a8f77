package permissionset

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/identity/resolve"
	"portico/impl/repo"
	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/record"
	"portico/impl/repo/tree"
)

const (
	owner syntax.DID  = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
	nsid  syntax.NSID = "com.example.forum.authBasic"
	set               = `{"$type":"com.atproto.lexicon.schema","lexicon":1,"id":"com.example.forum.authBasic","defs":{"main":{"type":"permission-set","title":"Forum",
		"permissions":[{"type":"permission","resource":"repo","collection":["com.example.forum.post"]},
		{"type":"permission","resource":"rpc","lxm":["com.example.forum.getFeed"],"inheritAud":true}]}}}`
	gives = "repo:com.example.forum.post"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newKey(t testing.TB) atcrypto.PrivateKey {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// A repository is what a server proves things from.
type repository struct {
	root   dagcbor.CID
	blocks map[dagcbor.CID][]byte
}

func newRepository(t testing.TB, records ...string) *repository {
	t.Helper()
	r := &repository{blocks: map[dagcbor.CID][]byte{}}
	b := tree.Builder{Emit: func(row tree.Row) error {
		r.blocks[row.CID] = row.Data
		return nil
	}}
	names := map[string]dagcbor.CID{}
	var paths []string
	for i := range 200 { // so that the tree has some layers
		paths = append(paths, fmt.Sprintf("com.atproto.lexicon.schema/com.example.a%03d", i))
		names[paths[i]] = dagcbor.Sum(dagcbor.CodecDAGCBOR, []byte("x"))
	}
	for _, text := range records {
		var is struct{ Key, ID string }
		if err := json.Unmarshal([]byte(text), &is); err != nil {
			t.Fatal(err)
		}
		if is.Key == "" {
			is.Key = is.ID
		}
		value, err := record.FromJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		name := dagcbor.Sum(dagcbor.CodecDAGCBOR, value)
		r.blocks[name] = value
		path := "com.atproto.lexicon.schema/" + is.Key
		paths = append(paths, path)
		names[path] = name
	}
	for _, path := range paths {
		if err := b.Add(path, names[path]); err != nil {
			t.Fatal(err)
		}
	}
	root, err := b.Root()
	if err != nil {
		t.Fatal(err)
	}
	r.root = root.CID
	return r
}

// prove makes the proof of a record, or that there is none.
func (r *repository) prove(t testing.TB, did syntax.DID, key atcrypto.PrivateKey, nsid syntax.NSID) []byte {
	t.Helper()
	var with []car.Block
	add := func(c dagcbor.CID) ([]byte, error) {
		with = append(with, car.Block{CID: c, Data: r.blocks[c]})
		return r.blocks[c], nil
	}
	name, err := tree.Lookup(r.root, add, "com.atproto.lexicon.schema/"+nsid.String())
	if err != nil {
		t.Fatal(err)
	}
	if name != (dagcbor.CID{}) {
		_, _ = add(name)
	}
	signed, err := repo.Sign(did, key, "3jqfcqzm3fo2j", r.root, with...)
	if err != nil {
		t.Fatal(err)
	}
	return signed.Archive
}

// A network is DNS, a directory of identities, and the server of one repository.
type network struct {
	t      *testing.T
	key    atcrypto.PrivateKey
	server *httptest.Server

	mu     sync.Mutex
	now    time.Time
	txt    map[string][]string
	failed error // of DNS
	pds    string
	old    *resolve.Document // what is known of the owner's document unless it is asked for anew
	answer http.HandlerFunc
	asked  int // how often somebody's server was
	paid   int
	refuse error
	stored map[syntax.NSID]Stored
	own    []byte
	isOwn  bool
}

func newNetwork(t *testing.T) (*network, *Sets) {
	n := &network{
		t: t, key: newKey(t), now: start, stored: map[syntax.NSID]Stored{},
		txt: map[string][]string{"_lexicon.forum.example.com.": {"v=spf1", "did=" + owner.String()}},
	}
	n.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.mu.Lock()
		n.asked++
		answer := n.answer
		n.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(n.server.Close)
	n.pds = n.server.URL
	n.publish(set)
	client := resolve.NewClient(true)
	t.Cleanup(client.CloseIdleConnections)
	return n, &Sets{
		Store: n, TXT: n.lookup, Document: n.document, Own: n.ownRecord, Fetch: client, Pay: n.pay, Now: n.clock,
		Log: slog.New(slog.DiscardHandler), Timeout: time.Minute,
	}
}

func (n *network) publish(records ...string) {
	n.t.Helper()
	r := newRepository(n.t, records...)
	n.set(func() {
		n.answer = func(w http.ResponseWriter, req *http.Request) {
			q := req.URL.Query()
			if req.URL.Path != "/xrpc/com.atproto.sync.getRecord" || q.Get("did") != owner.String() || q.Get("collection") != "com.atproto.lexicon.schema" {
				n.t.Errorf("asked for %s", req.URL)
			}
			w.Write(r.prove(n.t, owner, n.key, syntax.NSID(q.Get("rkey"))))
		}
	})
}

func (n *network) set(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

func (n *network) clock() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.now
}

func (n *network) pay(context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.paid++
	return n.refuse
}

func (n *network) lookup(_ context.Context, name string) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.failed != nil {
		return nil, n.failed
	}
	if n.txt[name] == nil {
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	return n.txt[name], nil
}

func (n *network) document(_ context.Context, did syntax.DID, fresh bool) (*resolve.Document, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if did != owner {
		return nil, resolve.ErrNotFound
	}
	if n.old != nil && !fresh {
		return n.old, nil
	}
	return documentOf(n.t, n.key, n.pds), nil
}

func documentOf(t testing.TB, key atcrypto.PrivateKey, pds string) *resolve.Document {
	t.Helper()
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := resolve.ParseDocument(owner, fmt.Appendf(nil, `{"id":%q,"verificationMethod":[{"id":"#atproto","type":"Multikey","controller":"x","publicKeyMultibase":%q}],
		"service":[{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":%q}]}`, owner, public.Multibase(), pds))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func (n *network) ownRecord(_ context.Context, did syntax.DID, key syntax.NSID) ([]byte, bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if did != owner || key != nsid {
		return nil, false, nil
	}
	return n.own, n.isOwn, nil
}

func (n *network) PermissionSet(_ context.Context, nsid syntax.NSID) (*Stored, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s, ok := n.stored[nsid]; ok {
		return &s, nil
	}
	return nil, nil
}

func (n *network) SavePermissionSet(_ context.Context, nsid syntax.NSID, s Stored) error {
	n.set(func() { n.stored[nsid] = s })
	return nil
}

// expand is what "include:NSID atproto" gives, or the reason why not.
func expand(t *testing.T, s *Sets) string {
	t.Helper()
	got, err := s.Expand(t.Context(), "atproto include:"+nsid.String())
	if err == nil {
		return strings.TrimSuffix(got, " atproto")
	}
	e, ok := errors.AsType[*Error](err)
	if !ok || e.NSID != nsid || !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNotASet) {
		t.Fatalf("not an answer for clients: %v", err)
	}
	return e.Reason
}

func TestExpand(t *testing.T) {
	_, s := newNetwork(t)
	for in, want := range map[string]string{
		"atproto":                   "atproto",
		"atproto  repo:%zz atproto": "atproto repo:%zz",
		"atproto include:com.example.forum.authBasic blob:*":                                                                "repo:com.example.forum.post atproto blob:*",
		"repo:com.example.forum.post include:com.example.forum.authBasic":                                                   "repo:com.example.forum.post",
		"include:com.example.forum.authBasic?aud=did:web:a.com%23x x":                                                       "repo:com.example.forum.post rpc:com.example.forum.getFeed?aud=did:web:a.com%23x x",
		"include:com.example.forum.authBasic?aud=did:web:a.com%23x include:com.example.forum.authBasic?aud=did:web:b.com#x": "repo:com.example.forum.post rpc:com.example.forum.getFeed?aud=did:web:a.com%23x rpc:com.example.forum.getFeed?aud=did:web:b.com%23x",
	} {
		if got, err := s.Expand(t.Context(), in); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", in, got, err, want)
		}
	}
	found, err := s.All(t.Context(), "atproto include:com.example.forum.authBasic")
	if err != nil || len(found) != 1 || found[nsid].Title[""] != "Forum" {
		t.Errorf("%v, %v", found, err)
	}
	for _, text := range []string{
		strings.Join(includes(11), " "),
		strings.Join(append(includes(9), "include:com.example.forum.authBasic "+strings.Repeat("x", 64<<10)), " "),
	} {
		var e *Error
		if _, err := s.Expand(t.Context(), text); !errors.As(err, &e) || !errors.Is(err, ErrMany) {
			t.Errorf("%.50s…: %v", text, err)
		}
	}
}

// includes are that many of the one set.
func includes(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("include:com.example.forum.authBasic?aud=did:web:a.com%%23x%d", i))
	}
	return all
}

func TestAgain(t *testing.T) {
	n, s := newNetwork(t)
	after := func(d time.Duration, asked, paid int, want string) {
		t.Helper()
		n.set(func() { n.now = n.now.Add(d) })
		if got := expand(t, s); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.asked != asked || n.paid != paid {
			t.Errorf("asked %d times, paid %d times, want %d and %d", n.asked, n.paid, asked, paid)
		}
	}
	after(0, 1, 1, gives)
	after(5*time.Minute-1, 1, 1, gives)
	grown := strings.ReplaceAll(set, "forum.post", "forum.vote")
	n.publish(grown)
	after(1, 2, 2, "repo:com.example.forum.vote")

	// Nobody answers, or not with a proof: what was known stays good, and is asked for later.
	n.set(func() {
		n.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
	})
	after(5*time.Minute, 3, 3, "repo:com.example.forum.vote")
	after(time.Minute, 3, 3, "repo:com.example.forum.vote")
	n.set(func() { n.failed = &net.DNSError{Err: "server misbehaving", IsTemporary: true} })
	after(5*time.Minute, 3, 4, "repo:com.example.forum.vote")
	n.set(func() { n.failed = nil })
	after(5*time.Minute, 4, 5, "repo:com.example.forum.vote")
	// Nor does it go when nobody pays.
	n.set(func() { n.refuse = errors.New("too many") })
	after(5*time.Minute, 4, 6, "repo:com.example.forum.vote")
	n.set(func() { n.refuse = nil })

	// It is withdrawn.
	n.publish()
	after(0, 5, 7, "the repository of its authority has no such lexicon")
	after(time.Minute, 5, 7, "nobody publishes this permission set")
	n.publish(set)
	after(4*time.Minute, 6, 8, gives)
	// The clock was set back.
	n.set(func() { n.now = start })
	after(0, 7, 9, gives)
	after(0, 7, 9, gives)
}

func TestNobodyPays(t *testing.T) {
	n, s := newNetwork(t)
	n.refuse = errors.New("too many")
	if _, err := s.Expand(t.Context(), "include:"+nsid.String()); err != n.refuse {
		t.Errorf("%v", err)
	}
	if n.asked != 0 || len(n.stored) != 0 {
		t.Errorf("asked %d times, stored %v", n.asked, n.stored)
	}
}

func TestHostile(t *testing.T) {
	for _, tt := range []struct {
		name  string
		given func(n *network, s *Sets)
		want  string
		again bool // it is not remembered that there is none; nobody knows
	}{
		{"no TXT record", func(n *network, s *Sets) { n.txt = nil }, "there is no TXT record _lexicon.forum.example.com", false},
		{"no DID", func(n *network, s *Sets) { n.txt["_lexicon.forum.example.com."] = []string{"v=spf1"} },
			"_lexicon.forum.example.com has 0 TXT records with a DID", false},
		{"two DIDs", func(n *network, s *Sets) {
			n.txt["_lexicon.forum.example.com."] = []string{"did=" + owner.String(), "did=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"}
		}, "_lexicon.forum.example.com has 2 TXT records with a DID", false},
		{"no such thing", func(n *network, s *Sets) { n.txt["_lexicon.forum.example.com."] = []string{"did=did:x"} },
			"the TXT record _lexicon.forum.example.com has no DID", false},
		{"DNS is down", func(n *network, s *Sets) { n.failed = errors.New("10.0.0.1 is down") }, "DNS does not answer for _lexicon.forum.example.com", true},
		{"unknown DID", func(n *network, s *Sets) {
			n.txt["_lexicon.forum.example.com."] = []string{"did=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"}
		},
			"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa does not exist", false},
		{"another authority", func(n *network, s *Sets) { s.Authority = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa" },
			"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa does not exist", false},
		{"the authority of all", func(n *network, s *Sets) { s.Authority, n.txt = owner, nil }, gives, false},
		{"no server", func(n *network, s *Sets) { n.pds = "ftp://x" }, "did:plc:ewvi7nxzyoun6zhxrhs64oiz names no server or no key", true},
		{"a private address", func(n *network, s *Sets) { s.Fetch = resolve.NewClient(false) }, "the server of did:plc:ewvi7nxzyoun6zhxrhs64oiz does not answer", true},
		{"a private address behind a redirect", func(n *network, s *Sets) {
			n.answer = func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, n.pds+"/other", http.StatusFound) }
		}, "the server of did:plc:ewvi7nxzyoun6zhxrhs64oiz answers 302", true},
		{"not found", func(n *network, s *Sets) {
			n.answer = func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusBadRequest)
				w.Write([]byte(`{"error":"RecordNotFound","message":"<script>"}`))
			}
		}, "the server of did:plc:ewvi7nxzyoun6zhxrhs64oiz answers 400", false},
		{"another error", func(n *network, s *Sets) {
			n.answer = func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusBadRequest)
				w.Write(bytes.Repeat([]byte(`{"error":`), 1<<20))
			}
		}, "the server of did:plc:ewvi7nxzyoun6zhxrhs64oiz answers 400", true},
		{"huge", func(n *network, s *Sets) {
			n.answer = func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 1<<20+1)) }
		}, "the server of did:plc:ewvi7nxzyoun6zhxrhs64oiz answers with more than 1048576 bytes", true},
		{"slow", func(n *network, s *Sets) {
			s.Timeout = 50 * time.Millisecond
			n.answer = func(w http.ResponseWriter, r *http.Request) {
				w.Write([]byte{0x3a})
				http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}
		}, "the server of did:plc:ewvi7nxzyoun6zhxrhs64oiz does not answer", true},
		{"no proof", func(n *network, s *Sets) {
			n.answer = func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(set)) }
		}, noProof, true},
		{"another key", func(n *network, s *Sets) {
			key := newKey(n.t)
			r := newRepository(n.t, set)
			n.answer = func(w http.ResponseWriter, _ *http.Request) { w.Write(r.prove(n.t, owner, key, nsid)) }
		}, noProof, true},
		{"of another repository", func(n *network, s *Sets) {
			r := newRepository(n.t, set)
			n.answer = func(w http.ResponseWriter, _ *http.Request) {
				w.Write(r.prove(n.t, "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", n.key, nsid))
			}
		}, noProof, true},
		{"of another record", func(n *network, s *Sets) {
			r := newRepository(n.t, set)
			n.answer = func(w http.ResponseWriter, _ *http.Request) {
				w.Write(r.prove(n.t, owner, n.key, "com.example.a007"))
			}
		}, noProof, true},
		{"cut short", func(n *network, s *Sets) {
			r := newRepository(n.t, set)
			n.answer = func(w http.ResponseWriter, _ *http.Request) {
				proof := r.prove(n.t, owner, n.key, nsid)
				w.Write(proof[:len(proof)-1])
			}
		}, noProof, true},
		{"another lexicon under its name", func(n *network, s *Sets) {
			n.replace(strings.Replace(set, `{`, `{"key":"com.example.forum.authBasic",`, 1), `"id":"com.example.forum.authBasic"`, `"id":"com.example.forum.authFull"`)
		}, "the record is another lexicon, or none", false},
		{"another type", func(n *network, s *Sets) { n.replace(set, "lexicon.schema", "lexicon.other") }, "the record is another lexicon, or none", false},
		{"no set", func(n *network, s *Sets) { n.replace(set, `"permission-set"`, `"record"`) }, "the lexicon's main is no permission-set", false},
		{"a long set", func(n *network, s *Sets) { n.replace(set, `"Forum"`, `"`+strings.Repeat("x", 64<<10)+`"`) }, "the lexicon is too long", false},
		{"own", func(n *network, s *Sets) {
			n.isOwn = true
			n.own, _ = record.FromJSON([]byte(strings.ReplaceAll(set, "forum.post", "forum.own")))
		}, "repo:com.example.forum.own", false},
		{"none of one's own", func(n *network, s *Sets) { n.isOwn = true }, "the repository of its authority has no such lexicon", false},
		{"moved", func(n *network, s *Sets) {
			n.old = documentOf(n.t, n.key, "http://127.0.0.1:1")
		}, gives, false},
		{"new key", func(n *network, s *Sets) { n.old = documentOf(n.t, newKey(n.t), n.pds) }, gives, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, s := newNetwork(t)
			tt.given(n, s)
			if got := expand(t, s); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
			// Whatever it was is remembered for a while.
			asked := n.asked
			expand(t, s)
			if n.asked != asked || n.paid != 1 {
				t.Errorf("asked %d times more, paid %d times", n.asked-asked, n.paid)
			}
			// Where it is not sure that there is none, what was known would have stayed.
			n, s = newNetwork(t)
			n.stored[nsid] = Stored{Document: strings.ReplaceAll(set, "forum.post", "forum.old"), FetchedAt: start.Add(-time.Hour), TriedAt: start.Add(-time.Hour)}
			tt.given(n, s)
			want := tt.want
			if tt.again {
				want = "repo:com.example.forum.old"
			}
			if got := expand(t, s); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

const noProof = "the server of did:plc:ewvi7nxzyoun6zhxrhs64oiz does not prove that it has the lexicon"

func (n *network) replace(text, old, with string) {
	n.t.Helper()
	n.publish(strings.Replace(text, old, with, 1))
}

func TestNames(t *testing.T) {
	n, s := newNetwork(t)
	for _, name := range []syntax.NSID{"local.printer.auth", "localhost.a.auth", "internal.db.auth", "onion.x.auth"} {
		_, err := s.Find(t.Context(), name)
		if e, ok := errors.AsType[*Error](err); !ok || !strings.HasSuffix(e.Reason, " is no domain of the network") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n.asked != 0 {
		t.Error("a server was asked")
	}
}

// All who want a set at once ask once, and one who hangs up ends nothing for the others.
func TestTogether(t *testing.T) {
	n, s := newNetwork(t)
	arrived, release := make(chan struct{}), make(chan struct{})
	answer := n.answer
	n.answer = func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-release
		answer(w, r)
	}
	ctx, hangUp := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := s.Find(ctx, nsid)
		gone <- err
	}()
	<-arrived
	hangUp()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("who hung up got %v", err)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got, err := s.Find(t.Context(), nsid); err != nil || got.NSID != nsid {
				t.Error(got, err)
			}
		})
	}
	close(release)
	wg.Wait()
	if n.asked != 1 {
		t.Errorf("asked %d times", n.asked)
	}
}

// A crowd that asks for many sets at once does not take all memory.
func TestMany(t *testing.T) {
	n, s := newNetwork(t)
	if got := expand(t, s); got != gives {
		t.Error(got)
	}
	n.set(func() { n.now = n.now.Add(Fresh) })
	arrived, release := make(chan struct{}, maxFlights), make(chan struct{})
	n.answer = func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		w.WriteHeader(http.StatusBadGateway)
	}
	var wg sync.WaitGroup
	for i := range maxFlights {
		wg.Go(func() {
			if _, err := s.Find(t.Context(), syntax.NSID(fmt.Sprintf("com.example.forum.auth%c", 'a'+i))); !errors.Is(err, ErrNotFound) {
				t.Error(err)
			}
		})
	}
	for range maxFlights {
		<-arrived
	}
	// What is remembered goes on, what is not can be had later.
	if got := expand(t, s); got != gives {
		t.Error(got)
	}
	_, err := s.Find(t.Context(), "com.example.forum.other")
	if _, told := errors.AsType[*Error](err); told || !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	if stored := n.stored["com.example.forum.other"]; stored != (Stored{}) {
		t.Errorf("remembered: %v", stored)
	}
	close(release)
	wg.Wait()
	n.publish(set)
	if got := expand(t, s); got != gives {
		t.Error(got)
	}
}

func FuzzProve(f *testing.F) {
	key := newKey(f)
	r := newRepository(f, set)
	f.Add(r.prove(f, owner, key, nsid))
	f.Add(r.prove(f, owner, key, "com.example.a007"))
	f.Add([]byte{})
	value, err := record.FromJSON([]byte(set))
	if err != nil {
		f.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, proof []byte) {
		got, err := prove(proof, owner, nsid, func(c *repo.Commit) error { return c.Verify(public) })
		if err == nil && !bytes.Equal(got, value) {
			t.Errorf("another record was proved: %q", got)
		}
		_, _ = prove(proof, owner, nsid, func(*repo.Commit) error { return nil })
		if value, err := prove(proof, owner, nsid, func(*repo.Commit) error { return nil }); err == nil {
			_, _ = document(value, nsid)
		}
	})
}
