package tree_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bluesky-social/indigo/atproto/repo/mst"
	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/tree"
)

var (
	one, two = newRecord("1"), newRecord("2")
	// Keys of the contract, by their layers.
	bottom = []string{"com.example.record/3jqfcqzm3fo2j", "com.example.record/3jqfcqzm3fp2j", "com.example.record/3jqfcqzm3fr2j", "com.example.record/3jqfcqzm4fc2j"}
	middle = []string{"com.example.record/3jqfcqzm3fs2j", "com.example.record/3jqfcqzm4fd2j"}
)

func create(paths ...string) (w []tree.Write) {
	for _, path := range paths {
		w = append(w, tree.Write{Action: tree.Create, Path: path, Record: one})
	}
	return w
}

func update(paths ...string) (w []tree.Write) {
	for _, path := range paths {
		w = append(w, tree.Write{Action: tree.Update, Path: path, Record: two})
	}
	return w
}

func remove(paths ...string) (w []tree.Write) {
	for _, path := range paths {
		w = append(w, tree.Write{Action: tree.Delete, Path: path})
	}
	return w
}

// The roots that the contract names.
func TestRoots(t *testing.T) {
	empty := car.Block{CID: dagcbor.Sum(dagcbor.CodecDAGCBOR, []byte{0xa0}), Data: []byte{0xa0}}
	if got := empty.CID.String(); got != "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua" {
		t.Fatal(got)
	}
	if got := tree.Empty; got.CID.String() != "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm" || got.Layer != 0 {
		t.Errorf("empty: %+v", got)
	}
	for _, path := range bottom {
		if got := tree.Layer(path); got != 0 {
			t.Errorf("%s on layer %d", path, got)
		}
	}
	for _, path := range middle {
		if got := tree.Layer(path); got != 1 {
			t.Errorf("%s on layer %d", path, got)
		}
	}
	for _, tt := range []struct {
		paths []string
		root  string
		layer int
	}{
		{bottom[:1], "bafyreifkc2zv3m72u4ainvircscxinkhjfs4hd6avstlhj3rvpn4fyv4he", 0},
		{slices.Concat(bottom, middle), "bafyreigf2ep6inia55mkz5nbpf6yyz6r45wtwoa3ufqpfkvco6gqavocja", 1},
	} {
		c := newChain(t)
		writes := create(tt.paths...)
		for i := range writes {
			writes[i].Record = empty
		}
		if got := c.commit(writes...).Root; got.CID.String() != tt.root || got.Layer != tt.layer {
			t.Errorf("%d records: %s on layer %d, want %s", len(tt.paths), got.CID, got.Layer, tt.root)
		}
	}
}

// on returns the nth path on a layer.
func on(layer, n int) string {
	for i := 0; ; i++ {
		path := fmt.Sprintf("com.example.n/%06d", i)
		if tree.Layer(path) == layer {
			if n == 0 {
				return path
			}
			n--
		}
	}
}

// Cases that indigo's tree, or places, would get wrong if they were not minded.
func TestSequences(t *testing.T) {
	type commit = []tree.Write
	for _, tt := range []struct {
		name    string
		commits []commit
	}{
		{"the only key, high, deleted and one at the bottom created", []commit{create(on(2, 0)), remove(on(2, 0)), create(on(0, 0))}},
		{"the same in one commit", []commit{create(on(2, 0)), slices.Concat(remove(on(2, 0)), create(on(0, 0)))}},
		{"the same, created first", []commit{create(on(2, 0)), slices.Concat(create(on(0, 0)), remove(on(2, 0)))}},
		{"all deleted at once, all created at once", []commit{
			create(on(0, 0), on(0, 20), on(1, 3), on(3, 0)), remove(on(0, 0), on(0, 20), on(1, 3), on(3, 0)), create(on(0, 0), on(0, 20), on(1, 3)),
		}},
		{"root up one layer at a time and down again", []commit{
			create(on(0, 0)), create(on(1, 0)), create(on(2, 0)), create(on(3, 0)), create(on(4, 0)),
			remove(on(4, 0)), remove(on(3, 0)), remove(on(2, 0)), remove(on(1, 0)), remove(on(0, 0)),
		}},
		{"root up four layers and down again", []commit{create(on(0, 0), on(0, 100)), create(on(4, 0)), remove(on(4, 0))}},
		{"skipped layers between two", []commit{create(on(4, 0)), create(on(0, 0)), create(on(0, 4000)), update(on(0, 0)), remove(on(4, 0))}},
		{"a left spine that changes places", []commit{create(on(3, 1), on(2, 20), on(1, 40), on(0, 300)), create(on(4, 0)), remove(on(4, 0))}},
		{"created, updated and deleted in one commit", []commit{create(on(0, 0)), slices.Concat(create(on(0, 1)), update(on(0, 1)), remove(on(0, 1)))}},
		{"created, updated and deleted beside another", []commit{create(on(0, 0)), slices.Concat(create(on(0, 1), on(1, 0)), update(on(0, 1)), remove(on(0, 1)))}},
		{"deleted and created again", []commit{create(on(0, 0), on(1, 0)), slices.Concat(remove(on(1, 0)), create(on(1, 0)))}},
		{"deleted and created otherwise", []commit{create(on(0, 0), on(1, 0)), {
			{Action: tree.Delete, Path: on(1, 0)}, {Action: tree.Create, Path: on(1, 0), Record: two},
		}}},
		{"updated to what it is", []commit{slices.Concat(create(on(0, 0)), update(on(0, 0))), update(on(0, 0))}},
		{"no writes", []commit{create(on(0, 0)), {}}},
		{"neighbours deleted together", []commit{create(on(0, 0), on(0, 1), on(0, 2), on(1, 0), on(2, 0)), remove(on(0, 0), on(0, 1), on(1, 0), on(0, 2))}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newChain(t)
			for _, writes := range tt.commits {
				c.commit(writes...)
				c.matches()
			}
		})
	}
}

// A node left of which a higher key is written moves as it is, with all on its left edge.
func TestMove(t *testing.T) {
	c := newChain(t)
	const a, b, x = "com.example.n/000009", "com.example.n/000018", "com.example.n/000011"
	if tree.Layer(a) != 1 || tree.Layer(b) != 1 || tree.Layer(x) != 0 {
		t.Fatal(tree.Layer(a), tree.Layer(b), tree.Layer(x))
	}
	c.commit(create(b, x)...)
	moved := c.rows[tree.Place{}]
	change := c.commit(create(a)...)
	c.matches()
	moved.Place.Low = a
	if diff := cmp.Diff([]tree.Move{{From: tree.Place{}, Row: moved}}, change.Move); diff != "" {
		t.Errorf("moved (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]tree.Place{{}}, change.Delete); diff != "" || len(change.Write) != 1 {
		t.Errorf("wrote %d rows, deleted (-want +got):\n%s", len(change.Write), diff)
	}
}

// Row R1 to R5 of the contract: one op for a path, and none without an effect.
func TestNetOperations(t *testing.T) {
	a, b := on(0, 0), on(1, 0)
	for _, tt := range []struct {
		name   string
		writes []tree.Write
		want   []tree.Op
	}{
		{"create", create(b), []tree.Op{{Action: tree.Create, Path: b, CID: one.CID}}},
		{"update", update(a), []tree.Op{{Action: tree.Update, Path: a, CID: two.CID, Prev: one.CID}}},
		{"delete", remove(a), []tree.Op{{Action: tree.Delete, Path: a, Prev: one.CID}}},
		{"delete and create", slices.Concat(remove(a), []tree.Write{{Action: tree.Create, Path: a, Record: two}}),
			[]tree.Op{{Action: tree.Update, Path: a, CID: two.CID, Prev: one.CID}}},
		{"delete and create the same", slices.Concat(remove(a), create(a)), nil},
		{"create and delete", slices.Concat(create(b), remove(b)), nil},
		{"create and update", slices.Concat(create(b), update(b)), []tree.Op{{Action: tree.Create, Path: b, CID: two.CID}}},
		{"update and delete", slices.Concat(update(a), remove(a)), []tree.Op{{Action: tree.Delete, Path: a, Prev: one.CID}}},
		{"update to the same", []tree.Write{{Action: tree.Update, Path: a, Record: one}}, nil},
		{"in the order of the writes", slices.Concat(create(b), update(a)),
			[]tree.Op{{Action: tree.Create, Path: b, CID: one.CID}, {Action: tree.Update, Path: a, CID: two.CID, Prev: one.CID}}},
	} {
		c := newChain(t)
		c.commit(create(a)...)
		change := c.commit(tt.writes...)
		if diff := cmp.Diff(tt.want, change.Ops); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestWritesThatCannotBeDone(t *testing.T) {
	a, b := on(0, 0), on(1, 0)
	c := newChain(t)
	c.commit(create(a)...)
	for _, tt := range []struct {
		name   string
		writes []tree.Write
		want   error
	}{
		{"create what exists", create(a), tree.ErrExists},
		{"create twice", create(b, b), tree.ErrExists},
		{"update what is not there", update(b), tree.ErrNotFound},
		{"delete what is not there", remove(b), tree.ErrNotFound},
		{"delete twice", remove(a, a), tree.ErrNotFound},
		{"update after deletion", slices.Concat(remove(a), update(a)), tree.ErrNotFound},
		{"no path", create(""), tree.ErrPath},
		{"no record key", create("com.example.a/"), tree.ErrPath},
		{"no slash", create("com.example.a"), tree.ErrPath},
		{"two slashes", create("com.example.a/b/c"), tree.ErrPath},
		{"dots", create("com.example.a/.."), tree.ErrPath},
		{"no NSID", create("example/a"), tree.ErrPath},
		{"a long one", create("com.example.a/" + strings.Repeat("x", 513)), tree.ErrPath},
		{"a probe", create(a + "!"), tree.ErrPath},
	} {
		if _, err := c.Apply(t.Context(), tt.writes); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
}

// Keys that were chosen so that they are all in one node come to an end.
func TestTooWide(t *testing.T) {
	m := make(map[string]cid.Cid)
	var n mst.Node
	for i := 0; len(m) < tree.MaxKeys; i++ {
		path := fmt.Sprintf("com.example.n/%06d", i)
		if tree.Layer(path) == 0 {
			value := toCID(t, one.CID)
			m[path] = value
			n.Entries = append(n.Entries, mst.NodeEntry{Key: []byte(path), Value: &value})
		}
	}
	d := n.NodeData()
	data, c, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	s := newStore(t)
	s.put(tree.Row{CID: name(*c), Data: data})
	full := tree.Tree{Root: tree.Root{CID: name(*c)}, Source: s}
	if _, err := full.Apply(t.Context(), create("com.example.z/a")); !errors.Is(err, tree.ErrTooWide) {
		t.Errorf("one more: %v", err)
	}
	if _, err := full.Apply(t.Context(), slices.Concat(remove(on(0, 0)), create("com.example.z/a"))); err != nil {
		t.Errorf("another: %v", err)
	}
}

// What the nodes of a path prove.
func TestPath(t *testing.T) {
	c := newChain(t)
	for _, path := range []string{on(0, 0), on(2, 0), on(0, 500), on(1, 7), on(4, 0)} {
		c.commit(create(path)...)
	}
	for _, tt := range []struct {
		path   string
		exists bool
	}{{on(0, 0), true}, {on(4, 0), true}, {on(1, 7), true}, {on(0, 1), false}, {"aa.a.a/a", false}, {"zz.z.z/z", false}} {
		blocks, value, err := c.Path(t.Context(), tt.path)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range blocks {
			if err := b.Check(); err != nil {
				t.Error(err)
			}
		}
		if blocks[0].CID != c.Root.CID {
			t.Errorf("%s: %d blocks, the first %s", tt.path, len(blocks), blocks[0].CID)
		}
		// Read as somebody does who has nothing else.
		partial, err := mst.LoadTreeFromStore(t.Context(), indigoStore(t, blocks), toCID(t, c.Root.CID))
		if err != nil {
			t.Fatal(err)
		}
		got, err := partial.Get([]byte(tt.path))
		if err != nil || (got != nil) != tt.exists || (value == one.CID) != tt.exists {
			t.Errorf("%s: indigo finds %v, %v; value %s", tt.path, got, err, value)
		}
		if tt.path == on(4, 0) && len(blocks) != 1 {
			t.Errorf("a key of the root needs %d blocks", len(blocks))
		}
	}
}

// The proofs of the reference, node by node.
func TestProofVectors(t *testing.T) {
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/bluesky-social/indigo").Output()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "atproto/repo/testdata/commit-proof-fixtures.json"))
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Comment          string
		LeafValue        dagcbor.CID
		Keys, Adds, Dels []string
		RootBeforeCommit dagcbor.CID
		RootAfterCommit  dagcbor.CID
		BlocksInProof    []string
	}
	if err := json.Unmarshal(data, &vectors); err != nil || len(vectors) == 0 {
		t.Fatal(err)
	}
	for _, v := range vectors {
		write := func(action tree.Action, paths []string) (w []tree.Write) {
			for _, path := range paths {
				w = append(w, tree.Write{Action: action, Path: path, Record: car.Block{CID: v.LeafValue}})
			}
			return w
		}
		s := newStore(t)
		before, err := tree.Tree{Root: s.root, Source: s}.ApplyAny(t.Context(), write(tree.Create, v.Keys))
		if err != nil {
			t.Fatal(err)
		}
		s.apply(before)
		change, err := tree.Tree{Root: s.root, Source: s}.ApplyAny(t.Context(), slices.Concat(write(tree.Create, v.Adds), write(tree.Delete, v.Dels)))
		if err != nil {
			t.Fatal(err)
		}
		if before.Root.CID != v.RootBeforeCommit || change.Root.CID != v.RootAfterCommit {
			t.Errorf("%s: from %s to %s", v.Comment, before.Root.CID, change.Root.CID)
		}
		var got []string
		for _, b := range change.Blocks {
			if b.CID != v.LeafValue {
				got = append(got, b.CID.String())
			}
		}
		slices.Sort(got)
		slices.Sort(v.BlocksInProof)
		if diff := cmp.Diff(v.BlocksInProof, got); diff != "" {
			t.Errorf("%s: proof (-want +got):\n%s", v.Comment, diff)
		}
	}
}

// What a write asks of the database: nothing where the cache has it, else one statement,
// and one more for what follows a key that has others below it.
func TestStatements(t *testing.T) {
	fill := func(cache *tree.Cache) *chain {
		c := newChain(t)
		c.Cache = cache
		var all []string
		for i := range 300 {
			all = append(all, fmt.Sprintf("com.example.n/%06d", 3*i))
		}
		c.commit(create(all...)...)
		return c
	}
	for _, tt := range []struct {
		name   string
		writes []tree.Write
		want   int
	}{
		{"create", create("com.example.n/000001"), 1},
		{"create twenty", create(twenty()...), 1},
		{"delete at the bottom", remove(first(0)), 1},
		{"delete above", remove(first(1)), 2},
		{"update above", update(first(1)), 2},
	} {
		c := fill(nil)
		c.asked = 0
		if c.commit(tt.writes...); c.asked != tt.want {
			t.Errorf("%s: %d statements, want %d", tt.name, c.asked, tt.want)
		}
		c = fill(tree.NewCache(10 << 20))
		c.asked = 0
		if c.commit(tt.writes...); c.asked != 0 {
			t.Errorf("%s: %d statements with the cache", tt.name, c.asked)
		}
	}
}

func twenty() (paths []string) {
	for i := range 20 {
		paths = append(paths, fmt.Sprintf("com.example.n/%06d", 30*i+1))
	}
	return paths
}

// first is the first path on a layer that TestStatements has.
func first(layer int) string {
	for i := 0; ; i += 3 {
		if path := fmt.Sprintf("com.example.n/%06d", i); tree.Layer(path) == layer {
			return path
		}
	}
}

// A row that is not there, or not what it was, is found before anything is built on it.
func TestDamagedRows(t *testing.T) {
	c := newChain(t)
	c.commit(create(paths(newRand(1), 200)...)...)
	for place, row := range c.rows {
		for _, tt := range []struct {
			name   string
			damage func()
			want   error
		}{
			{"missing", func() { c.remove(place) }, tree.ErrMissing},
			{"of another name", func() { c.rows[place] = tree.Row{Place: place, CID: one.CID, Data: row.Data} }, tree.ErrMissing},
			{"of other data", func() { c.rows[place] = tree.Row{Place: place, CID: row.CID, Data: one.Data} }, car.ErrHash},
		} {
			tt.damage()
			key := place.Low + "0"
			if place.Low == "" {
				key = "aa.a.a/a"
			}
			if _, _, err := c.Path(t.Context(), key); !errors.Is(err, tt.want) {
				t.Errorf("row at %v %s: got %v, want %v", place, tt.name, err, tt.want)
			}
			c.put(row)
		}
	}
	broken := errors.New("broken line")
	if _, err := (tree.Tree{Root: c.Root, Source: brokenSource{broken}}).Apply(t.Context(), create(on(0, 0))); !errors.Is(err, broken) {
		t.Errorf("source's own error: %v", err)
	}
}

type brokenSource struct{ err error }

func (b brokenSource) Nodes(context.Context, int, []string) ([]tree.Row, error) { return nil, b.err }

// Many write to one state of a tree at once through one cache, and none sees the work of
// another. (Run with the race detector, it says more.)
func TestCacheIsNotWrittenTo(t *testing.T) {
	cache := tree.NewCache(64 << 20)
	c := newChain(t)
	c.Cache = cache
	pool := paths(newRand(2), 200)
	c.commit(create(pool...)...)
	stranger := newStore(t)
	want := make([]tree.Root, len(pool))
	for i, path := range pool {
		change, err := tree.Tree{Root: c.Root, Source: c.store}.Apply(t.Context(), remove(path))
		if err != nil {
			t.Fatal(err)
		}
		want[i] = change.Root
	}
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for i := range pool {
				i = (i*7 + worker*50) % len(pool)
				// Whatever is not in the cache would be asked of an empty table.
				change, err := tree.Tree{Root: c.Root, Source: stranger, Cache: cache}.Apply(t.Context(), remove(pool[i]))
				if err != nil || change.Root != want[i] {
					t.Errorf("without %s: %+v, %v, want %+v", pool[i], change, err, want[i])
					return
				}
			}
		})
	}
	all.Wait()
}

// The cache is bounded by what it takes, also when nodes are wide.
func TestCacheIsBounded(t *testing.T) {
	const limit = 1 << 20
	cache := tree.NewCache(limit)
	for i := range 300 {
		var n mst.Node
		for j := range 1 + 6*i {
			value := toCID(t, one.CID)
			n.Entries = append(n.Entries, mst.NodeEntry{Key: fmt.Appendf(nil, "com.example.n/%06d", i*2000+j), Value: &value})
		}
		d := n.NodeData()
		data, c, err := d.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if err := cache.Fill(name(*c), data); err != nil {
			t.Fatal(err)
		}
		if err := cache.Fill(name(*c), data); err != nil {
			t.Fatal(err)
		}
		if bytes, nodes := cache.Size(); bytes > limit || nodes == 0 {
			t.Fatalf("%d bytes in %d nodes", bytes, nodes)
		}
	}
	if bytes, nodes := cache.Size(); bytes < limit/2 || nodes > 100 {
		t.Errorf("%d bytes in %d nodes at the end", bytes, nodes)
	}
}
