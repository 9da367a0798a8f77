package tree_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"github.com/bluesky-social/indigo/atproto/atcrypto"
	indigorepo "github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/repo/mst"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-cmp/cmp"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"portico/impl/repo"
	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/event"
	"portico/impl/repo/tree"
)

// A store is the rows of one tree, as a database has them.
type store struct {
	t     testing.TB
	rows  map[tree.Place]tree.Row
	lows  map[int][]string // of each layer, in order
	root  tree.Root
	asked int // statements
}

func newStore(t testing.TB) *store {
	s := &store{t: t, rows: make(map[tree.Place]tree.Row), lows: make(map[int][]string), root: tree.Empty}
	s.put(tree.EmptyNode())
	return s
}

func (s *store) put(row tree.Row) {
	if _, ok := s.rows[row.Place]; !ok {
		lows := s.lows[row.Place.Layer]
		i, _ := slices.BinarySearch(lows, row.Place.Low)
		s.lows[row.Place.Layer] = slices.Insert(lows, i, row.Place.Low)
	}
	s.rows[row.Place] = row
}

func (s *store) remove(place tree.Place) {
	s.t.Helper()
	lows := s.lows[place.Layer]
	i, ok := slices.BinarySearch(lows, place.Low)
	if !ok {
		s.t.Fatalf("no node is at %v", place)
	}
	s.lows[place.Layer] = slices.Delete(lows, i, i+1)
	delete(s.rows, place)
}

func (s *store) Nodes(_ context.Context, top int, keys []string) ([]tree.Row, error) {
	s.asked++
	var rows []tree.Row
	for _, key := range keys {
		for layer := top; layer >= 0; layer-- {
			lows := s.lows[layer]
			if i, _ := slices.BinarySearch(lows, key); i > 0 {
				rows = append(rows, s.rows[tree.Place{Low: lows[i-1], Layer: layer}])
			}
		}
	}
	return rows, nil
}

// Get is a [tree.Getter].
func (s *store) Get(_ context.Context, place tree.Place, name dagcbor.CID) ([]byte, error) {
	if row, ok := s.rows[place]; ok && row.CID == name {
		return row.Data, nil
	}
	return nil, tree.ErrMissing
}

// apply does to the rows what a change says, and checks that it says what is there.
func (s *store) apply(c *tree.Change) {
	s.t.Helper()
	moved := make([]tree.Row, len(c.Move))
	for i, m := range c.Move {
		moved[i] = s.rows[m.From]
		moved[i].Place = m.Row.Place
		if moved[i].CID != m.Row.CID || !bytes.Equal(moved[i].Data, m.Row.Data) {
			s.t.Fatalf("moved %v, where %s is, as %s", m.From, moved[i].CID, m.Row.CID)
		}
	}
	for _, place := range c.Delete {
		s.remove(place)
	}
	for _, row := range slices.Concat(moved, c.Write) {
		if old := s.rows[row.Place]; old.CID == row.CID {
			s.t.Fatalf("wrote %s once more", row.CID)
		}
		s.put(row)
	}
	s.root = c.Root
}

// names are the rows without the data.
func names(rows map[tree.Place]tree.Row) map[tree.Place]string {
	m := make(map[tree.Place]string)
	for place, row := range rows {
		m[place] = row.CID.String()
	}
	return m
}

func toCID(t testing.TB, c dagcbor.CID) cid.Cid {
	t.Helper()
	out, err := cid.Cast(c[:])
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// fresh builds the tree of some records with indigo, and finds its places by a walk.
func fresh(t testing.TB, records map[string]dagcbor.CID) (tree.Root, map[tree.Place]tree.Row) {
	t.Helper()
	m := make(map[string]cid.Cid)
	for path, name := range records {
		m[path] = toCID(t, name)
	}
	full, err := mst.LoadTreeFromMap(m)
	if err != nil {
		t.Fatal(err)
	}
	blocks := make(blockMap)
	top, err := full.RootCID()
	if err != nil {
		t.Fatal(err)
	}
	collect(t, full.Root, blocks)
	rows := make(map[tree.Place]tree.Row)
	var paths []string
	root, err := tree.Walk(t.Context(), tree.Root{CID: name(*top), Layer: tree.AnyLayer}, blocks.Get, tree.Visitor{
		Node: func(row tree.Row) error {
			if _, ok := rows[row.Place]; ok {
				t.Errorf("two nodes at %v", row.Place)
			}
			rows[row.Place] = row
			return nil
		},
		Record: func(path string, name dagcbor.CID) error {
			if records[path] != name {
				t.Errorf("walk: %s is %s, not %s", path, name, records[path])
			}
			paths = append(paths, path)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(paths, slices.Sorted(maps.Keys(records))) {
		t.Errorf("walk found %d of %d records, or out of order", len(paths), len(records))
	}
	return root, rows
}

type blockMap map[dagcbor.CID][]byte

func (m blockMap) Get(_ context.Context, _ tree.Place, name dagcbor.CID) ([]byte, error) {
	if data, ok := m[name]; ok {
		return data, nil
	}
	return nil, fmt.Errorf("%w: %s", tree.ErrMissing, name)
}

// indigoStore returns blocks as indigo takes them.
func indigoStore(t testing.TB, from []car.Block) *indigorepo.TinyBlockstore {
	t.Helper()
	s := indigorepo.NewTinyBlockstore()
	for _, b := range from {
		block, err := blocks.NewBlockWithCid(b.Data, toCID(t, b.CID))
		if err == nil {
			err = s.Put(t.Context(), block)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func name(c cid.Cid) (d dagcbor.CID) {
	copy(d[:], c.Bytes())
	return d
}

func collect(t testing.TB, n *mst.Node, into blockMap) {
	t.Helper()
	d := n.NodeData()
	data, c, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	into[name(*c)] = data
	for _, e := range n.Entries {
		if e.Child != nil {
			collect(t, e.Child, into)
		}
	}
}

const somebody = syntax.DID("did:plc:tfoc4jg4ai6vr2nbwlmwdzq2")

func newRecord(text string) car.Block {
	data, err := dagcbor.Marshal(map[string]any{"text": text})
	if err != nil {
		panic(err)
	}
	return car.Block{CID: dagcbor.Sum(dagcbor.CodecDAGCBOR, data), Data: data}
}

// A chain is the commits of one repository, each of which indigo checks.
type chain struct {
	*store
	tree.Tree
	key     atcrypto.PrivateKey
	rev     syntax.TID
	records map[string]dagcbor.CID // the model
	count   int                    // of nodes, as the changes say
	size    int                    // of records, the same
}

func newChain(t testing.TB) *chain {
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	s := newStore(t)
	return &chain{store: s, Tree: tree.Tree{Root: s.root, Source: s}, key: key, rev: "3jqfcqzm3fo2j", records: make(map[string]dagcbor.CID), count: 1}
}

// commit applies writes, and checks the event about it as its readers do.
func (c *chain) commit(writes ...tree.Write) *tree.Change {
	t := c.t
	t.Helper()
	before := maps.Clone(c.records)
	for _, w := range writes {
		if w.Action == tree.Delete {
			delete(c.records, w.Path)
		} else {
			c.records[w.Path] = w.Record.CID
		}
	}
	change, err := c.Apply(t.Context(), writes)
	if err != nil {
		t.Fatal(err)
	}
	if maps.Equal(before, c.records) {
		if len(change.Ops)+len(change.Write)+len(change.Move)+len(change.Delete)+len(change.Blocks) != 0 || change.Root != c.Root {
			t.Fatalf("%v, which is nothing, is %+v", writes, change)
		}
		return change
	}
	c.checkOps(change, before)
	c.announce(change)
	c.apply(change)
	c.count, c.size = c.count+change.Nodes, c.size+change.Records
	c.Root = change.Root
	if c.count != len(c.rows) || c.size != len(c.records) {
		t.Fatalf("counted %d nodes and %d records, there are %d and %d", c.count, c.size, len(c.rows), len(c.records))
	}
	return change
}

func (c *chain) checkOps(change *tree.Change, before map[string]dagcbor.CID) {
	c.t.Helper()
	seen := make(map[string]bool)
	for _, op := range change.Ops {
		if seen[op.Path] || op.CID != c.records[op.Path] || op.Prev != before[op.Path] || op.CID == op.Prev {
			c.t.Fatalf("op %+v, was %s, is %s", op, before[op.Path], c.records[op.Path])
		}
		seen[op.Path] = true
		want := tree.Update
		switch {
		case op.Prev == (dagcbor.CID{}):
			want = tree.Create
		case op.CID == (dagcbor.CID{}):
			want = tree.Delete
		}
		if op.Action != want {
			c.t.Fatalf("op %+v is a %s", op, want)
		}
	}
	paths := maps.Clone(before)
	maps.Copy(paths, c.records)
	for path := range paths {
		if before[path] != c.records[path] && !seen[path] {
			c.t.Fatalf("%s changed without an op", path)
		}
	}
}

func (c *chain) announce(change *tree.Change) {
	t := c.t
	t.Helper()
	rev, err := repo.NextRev(time.Time{}, c.rev)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := repo.Sign(somebody, c.key, rev, change.Root.CID, change.Blocks...)
	if err != nil {
		t.Fatal(err)
	}
	e := event.Commit{Repo: somebody, Commit: signed.Commit.CID, Rev: rev, Since: c.rev, PrevData: c.Root.CID, Ops: change.Ops, Blocks: signed.Archive}.Event()
	frame, err := event.Frame(e, 1, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	var m comatproto.SyncSubscribeRepos_Commit
	if err := m.UnmarshalCBOR(bytes.NewReader(frame[15:])); err != nil {
		t.Fatal(err)
	}
	if _, err := indigorepo.VerifyCommitMessage(t.Context(), &m); err != nil {
		t.Fatalf("indigo does not take %+v: %v", change.Ops, err)
	}
	c.rev = rev
	// Nothing twice, and nothing that is not what its name says.
	seen := make(map[dagcbor.CID]bool)
	for _, b := range change.Blocks {
		if err := b.Check(); err != nil || seen[b.CID] {
			t.Fatalf("block %s: twice, or %v", b.CID, err)
		}
		seen[b.CID] = true
	}
}

// matches compares what is stored with a tree that is made afresh.
func (c *chain) matches() {
	c.t.Helper()
	root, rows := fresh(c.t, c.records)
	if root != c.Root {
		c.t.Fatalf("%d records: root %+v, want %+v", len(c.records), c.Root, root)
	}
	if diff := cmp.Diff(names(rows), names(c.rows)); diff != "" {
		c.t.Fatalf("%d records: rows (-want +got):\n%s", len(c.records), diff)
	}
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// paths returns n paths whose layers are among the given ones.
func paths(r *rand.Rand, n int, layers ...int) []string {
	collections := []string{"app.bsky.feed.post", "app.bsky.feed", "app.bsky-x.feed", "com.example.a", "zz.z.z"}
	var out []string
	for len(out) < n {
		path := fmt.Sprintf("%s/%s", collections[r.IntN(len(collections))], syntax.NewTIDFromInteger(r.Uint64()>>12))
		if r.IntN(4) == 0 {
			path = fmt.Sprintf("%s/%d", collections[r.IntN(len(collections))], r.IntN(1000000))
		}
		if len(layers) == 0 || slices.Contains(layers, tree.Layer(path)) {
			out = append(out, path)
		}
	}
	return out
}

// Whatever is written, one write or two hundred at a time: indigo inverts each commit, and
// the rows are those of the tree made afresh, none missing and none stale.
func TestTenThousandRandomWrites(t *testing.T) {
	for seed, tt := range []struct {
		name   string
		pool   int
		layers []int
		writes int
		batch  int
		cached int
	}{
		{"few", 5, nil, 1500, 3, 0},
		{"few on skipped layers", 6, []int{0, 3}, 1500, 4, 0},
		{"skipped layers", 40, []int{0, 2, 4}, 1500, 8, 1 << 20},
		{"the bottom alone", 30, []int{0}, 500, 10, 0},
		{"high alone", 12, []int{3}, 500, 3, 1 << 20},
		{"some", 150, nil, 2000, 12, 20000},
		{"one at a time", 300, nil, 1000, 1, 0},
		{"many", 1500, nil, 3000, 200, 1 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRand(uint64(seed))
			pool := paths(r, tt.pool, tt.layers...)
			c := newChain(t)
			if tt.cached > 0 {
				c.Cache = tree.NewCache(tt.cached)
			}
			for done := 0; done < tt.writes; {
				now := maps.Clone(c.records)
				var writes []tree.Write
				// Growing, shrinking, and emptied every now and then.
				deletions := []int{20, 50, 80, 100}[r.IntN(4)]
				for range 1 + r.IntN(tt.batch) {
					path := pool[r.IntN(len(pool))]
					w := tree.Write{Path: path, Record: newRecord(fmt.Sprint(r.IntN(3)))}
					_, exists := now[path]
					switch {
					case !exists:
						w.Action = tree.Create
					case r.IntN(100) < deletions:
						w.Action, w.Record = tree.Delete, car.Block{}
						delete(now, path)
					default:
						w.Action = tree.Update
					}
					if w.Action != tree.Delete {
						now[path] = w.Record.CID
					}
					writes = append(writes, w)
				}
				done += len(writes)
				c.commit(writes...)
				c.matches()
			}
			t.Logf("%d records, %d nodes in the end", len(c.records), len(c.rows))
		})
	}
}
