package tree_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/tree"
)

// entry is an entry of a node as it is encoded.
func entry(prefix int, key string, right any) map[string]any {
	return map[string]any{"k": []byte(key), "p": prefix, "t": right, "v": one.CID}
}

func with(m map[string]any, key string, value any) map[string]any {
	m = maps.Clone(m)
	m[key] = value
	return m
}

// add puts the encoding of something into a store and returns its name.
func (m blockMap) add(t testing.TB, v any) dagcbor.CID {
	t.Helper()
	data, err := dagcbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return m.addBytes(data)
}

func (m blockMap) addBytes(data []byte) dagcbor.CID {
	c := dagcbor.Sum(dagcbor.CodecDAGCBOR, data)
	m[c] = data
	return c
}

// Strangers' trees. Each is a good one but for one thing.
func TestWalkRefuses(t *testing.T) {
	// 4, 9 and 15 are on layer 1, these others at the bottom.
	n := func(i int) string { return fmt.Sprintf("com.example.n/%06d", i) }
	for i, layer := range map[int]int{4: 1, 9: 1, 5: 0, 6: 0, 11: 0, 3: 0} {
		if tree.Layer(n(i)) != layer {
			t.Fatal(i)
		}
	}
	type m = map[string]any
	node := func(left any, entries ...any) m { return m{"e": entries, "l": left} }
	for _, tt := range []struct {
		name  string
		build func(blockMap) dagcbor.CID
		want  error
	}{
		{"good", func(s blockMap) dagcbor.CID {
			return s.add(t, node(s.add(t, node(nil, entry(0, n(3), nil))), entry(0, n(4), s.add(t, node(nil, entry(0, n(5), nil), entry(19, "6", nil))))))
		}, nil},
		{"good and empty", func(s blockMap) dagcbor.CID { return s.add(t, node(nil)) }, nil},
		{"nothing there", func(blockMap) dagcbor.CID { return one.CID }, tree.ErrMissing},
		{"child missing", func(s blockMap) dagcbor.CID { return s.add(t, node(one.CID, entry(0, n(4), nil))) }, tree.ErrMissing},
		{"other data", func(s blockMap) dagcbor.CID {
			c := s.add(t, node(nil, entry(0, n(3), nil)))
			s[c] = s[s.add(t, node(nil, entry(0, n(5), nil)))]
			return c
		}, car.ErrHash},
		{"a cycle, if hashes were not looked at", func(s blockMap) dagcbor.CID {
			c := s.add(t, node(nil, entry(0, n(4), nil)))
			s[c] = s[s.add(t, node(c, entry(0, n(4), nil)))]
			return c
		}, car.ErrHash},
		{"a record", func(s blockMap) dagcbor.CID { return s.addBytes(one.Data) }, tree.ErrNode},
		{"a list", func(s blockMap) dagcbor.CID { return s.add(t, []any{}) }, tree.ErrNode},
		{"no bytes", func(s blockMap) dagcbor.CID { return s.addBytes(nil) }, tree.ErrNode},
		{"cut short", func(s blockMap) dagcbor.CID {
			data, _ := dagcbor.Marshal(node(nil, entry(0, n(3), nil)))
			return s.addBytes(data[:len(data)-1])
		}, tree.ErrNode},
		{"something behind", func(s blockMap) dagcbor.CID {
			data, _ := dagcbor.Marshal(node(nil))
			return s.addBytes(append(data, 0))
		}, tree.ErrNode},
		{"a million entries, not there", func(s blockMap) dagcbor.CID {
			return s.addBytes([]byte{0xa2, 0x61, 'e', 0x9a, 0, 0x0f, 0x42, 0x40})
		}, tree.ErrNode},
		{"2^63 entries", func(s blockMap) dagcbor.CID {
			return s.addBytes([]byte{0xa2, 0x61, 'e', 0x9b, 0x80, 0, 0, 0, 0, 0, 0, 0})
		}, tree.ErrNode},
		{"no left", func(s blockMap) dagcbor.CID { return s.add(t, m{"e": []any{}}) }, tree.ErrNode},
		{"no entries", func(s blockMap) dagcbor.CID { return s.add(t, m{"l": nil}) }, tree.ErrNode},
		{"a field more", func(s blockMap) dagcbor.CID { return s.add(t, with(node(nil), "x", 1)) }, tree.ErrNode},
		{"a field more in an entry", func(s blockMap) dagcbor.CID { return s.add(t, node(nil, with(entry(0, n(3), nil), "x", 1))) }, tree.ErrNode},
		{"a field less in an entry", func(s blockMap) dagcbor.CID {
			return s.add(t, node(nil, m{"k": []byte(n(3)), "p": 0, "v": one.CID}))
		}, tree.ErrNode},
		{"a key that is text", func(s blockMap) dagcbor.CID { return s.add(t, node(nil, with(entry(0, n(3), nil), "k", n(3)))) }, tree.ErrNode},
		{"a value that is null", func(s blockMap) dagcbor.CID { return s.add(t, node(nil, with(entry(0, n(3), nil), "v", nil))) }, tree.ErrNode},
		{"a blob for a record", func(s blockMap) dagcbor.CID {
			return s.add(t, node(nil, with(entry(0, n(3), nil), "v", dagcbor.Sum(dagcbor.CodecRaw, nil))))
		}, tree.ErrNode},
		{"a blob for a child", func(s blockMap) dagcbor.CID {
			return s.add(t, node(dagcbor.Sum(dagcbor.CodecRaw, nil), entry(0, n(4), nil)))
		}, tree.ErrNode},
		{"a prefix of nothing", func(s blockMap) dagcbor.CID { return s.add(t, node(nil, entry(5, n(3), nil))) }, tree.ErrNode},
		{"a prefix longer than the key before", func(s blockMap) dagcbor.CID {
			return s.add(t, node(nil, entry(0, n(3), nil), entry(21, "5", nil)))
		}, tree.ErrNode},
		{"a prefix below zero", func(s blockMap) dagcbor.CID { return s.add(t, node(nil, entry(-1, n(3), nil))) }, tree.ErrNode},
		{"a prefix shorter than what is shared", func(s blockMap) dagcbor.CID {
			return s.add(t, node(nil, entry(0, n(3), nil), entry(18, "05", nil)))
		}, tree.ErrNode},
		{"keys out of order", func(s blockMap) dagcbor.CID {
			return s.add(t, node(nil, entry(0, n(5), nil), entry(19, "3", nil)))
		}, tree.ErrNode},
		{"a key twice", func(s blockMap) dagcbor.CID {
			return s.add(t, node(nil, entry(0, n(5), nil), entry(20, "", nil)))
		}, tree.ErrNode},
		{"an empty key", func(s blockMap) dagcbor.CID { return s.add(t, node(nil, entry(0, "", nil))) }, tree.ErrNode},
		{"a key that is no path", func(s blockMap) dagcbor.CID { return s.add(t, node(nil, entry(0, "foo/bar", nil))) }, tree.ErrNode},
		{"a key without a record key", func(s blockMap) dagcbor.CID { return s.add(t, node(nil, entry(0, "com.example.n/", nil))) }, tree.ErrNode},
		{"a key of the same collection that is no path", func(s blockMap) dagcbor.CID {
			return s.add(t, node(nil, entry(0, n(3), nil), entry(14, "a/a", nil)))
		}, tree.ErrNode},
		{"a long key", func(s blockMap) dagcbor.CID {
			return s.add(t, node(nil, entry(0, "com.example.n/"+strings.Repeat("a", 1024), nil)))
		}, tree.ErrNode},
		{"keys of two layers in one node", func(s blockMap) dagcbor.CID {
			return s.add(t, node(nil, entry(0, n(4), nil), entry(19, "5", nil)))
		}, tree.ErrNode},
		{"a child below the bottom", func(s blockMap) dagcbor.CID {
			return s.add(t, node(s.add(t, node(nil, entry(0, n(3), nil))), entry(0, n(5), nil)))
		}, tree.ErrNode},
		{"a layer that is not there", func(s blockMap) dagcbor.CID {
			return s.add(t, node(s.add(t, node(nil, entry(0, on(0, 0), nil))), entry(0, on(2, 0), nil)))
		}, tree.ErrNode},
		{"an empty child", func(s blockMap) dagcbor.CID { return s.add(t, node(s.add(t, node(nil)), entry(0, n(4), nil))) }, tree.ErrNode},
		{"a top that is only a child", func(s blockMap) dagcbor.CID { return s.add(t, node(s.add(t, node(nil, entry(0, n(3), nil))))) }, tree.ErrNode},
		{"a child right of where it belongs", func(s blockMap) dagcbor.CID {
			return s.add(t, node(nil, entry(0, n(4), s.add(t, node(nil, entry(0, n(3), nil))))))
		}, tree.ErrNode},
		{"a child left of where it belongs", func(s blockMap) dagcbor.CID {
			return s.add(t, node(s.add(t, node(nil, entry(0, n(5), nil))), entry(0, n(4), nil)))
		}, tree.ErrNode},
		{"a child beyond the next key", func(s blockMap) dagcbor.CID {
			return s.add(t, node(nil, entry(0, n(4), s.add(t, node(nil, entry(0, n(5), nil), entry(18, "11", nil)))), entry(19, "9", nil)))
		}, tree.ErrNode},
		{"the same child twice", func(s blockMap) dagcbor.CID {
			child := s.add(t, node(nil, entry(0, n(5), nil)))
			return s.add(t, node(nil, entry(0, n(4), child), entry(19, "9", child)))
		}, tree.ErrNode},
		{"too wide", func(s blockMap) dagcbor.CID {
			entries := make([]any, tree.MaxKeys+1)
			for i := range entries {
				entries[i] = entry(0, "a", nil)
			}
			return s.add(t, node(nil, entries...))
		}, tree.ErrTooWide},
		{"long keys that take little, many times", func(s blockMap) dagcbor.CID {
			before := ""
			var entries []any
			for i := range 2100 {
				key, shared := fmt.Sprintf("com.example.n/%s%06d", strings.Repeat("a", 490), i), 0
				for shared < len(before) && before[shared] == key[shared] {
					shared++
				}
				entries, before = append(entries, entry(shared, key[shared:], nil)), key
			}
			return s.add(t, node(nil, entries...))
		}, tree.ErrTooWide},
	} {
		s := make(blockMap)
		root := tree.Root{CID: tt.build(s), Layer: tree.AnyLayer}
		if _, err := tree.Walk(t.Context(), root, s.Get, tree.Visitor{}); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}

	s := newStore(t)
	if _, err := tree.Walk(t.Context(), tree.Root{CID: tree.Empty.CID, Layer: 1}, func(context.Context, tree.Place, dagcbor.CID) ([]byte, error) {
		return s.rows[tree.Place{}].Data, nil
	}, tree.Visitor{}); !errors.Is(err, tree.ErrNode) {
		t.Errorf("root on another layer: %v", err)
	}
	stopped := errors.New("stopped")
	for name, v := range map[string]tree.Visitor{
		"node":   {Node: func(tree.Row) error { return stopped }},
		"record": {Record: func(string, dagcbor.CID) error { return stopped }},
	} {
		c := newChain(t)
		c.commit(create(bottom...)...)
		if _, err := tree.Walk(t.Context(), c.Root, c.Get, v); !errors.Is(err, stopped) {
			t.Errorf("stopped at a %s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tree.Walk(ctx, s.root, s.Get, tree.Visitor{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// The rows of a built tree are those of one that grew, and nothing else is held of it.
func TestBuilder(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 10, 500, 3000} {
		records := make(map[string]dagcbor.CID)
		for _, path := range paths(newRand(uint64(n)), n) {
			records[path] = newRecord(path).CID
		}
		rows := make(map[tree.Place]tree.Row)
		b := tree.Builder{Emit: func(row tree.Row) error {
			rows[row.Place] = row
			return nil
		}}
		for _, path := range slices.Sorted(maps.Keys(records)) {
			if err := b.Add(path, records[path]); err != nil {
				t.Fatal(err)
			}
		}
		root, err := b.Root()
		if err != nil {
			t.Fatal(err)
		}
		want, wantRows := fresh(t, records)
		if diff := cmp.Diff(names(wantRows), names(rows)); diff != "" || root != want || b.Nodes != len(rows) || b.Records != len(records) {
			t.Errorf("%d records: root %v, want %v; %d nodes of %d records; rows (-want +got):\n%s", n, root, want, b.Nodes, b.Records, diff)
		}
	}
	stopped := errors.New("stopped")
	b := tree.Builder{Emit: func(tree.Row) error { return stopped }}
	for _, tt := range []struct {
		path string
		want error
	}{{bottom[1], nil}, {bottom[0], tree.ErrPath}, {bottom[1], tree.ErrPath}, {"com.example.record", tree.ErrPath}, {"com.example.record/a/a", tree.ErrPath}, {middle[1], stopped}} {
		if err := b.Add(tt.path, one.CID); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.path, err, tt.want)
		}
	}
	b = tree.Builder{Emit: func(tree.Row) error { return nil }}
	var err error
	for i := 0; err == nil && i < 20000; i++ {
		if path := fmt.Sprintf("com.example.n/%06d", i); tree.Layer(path) == 0 {
			err = b.Add(path, one.CID)
		}
	}
	if !errors.Is(err, tree.ErrTooWide) {
		t.Errorf("one node alone: %v", err)
	}
}

func TestVerify(t *testing.T) {
	c := newChain(t)
	var pool []string
	for i := range 60 {
		pool = append(pool, fmt.Sprintf("com.example.n/%06d", i))
	}
	c.commit(create(pool...)...)
	top := c.Root.Layer
	// A node above the bottom, which has some keys below it.
	var inner tree.Place
	for place := range c.rows {
		if place.Layer == 1 && place.Low != "" && (inner.Low == "" || place.Low < inner.Low) {
			inner = place
		}
	}
	var high string // the next key above it
	for _, path := range pool {
		if path > inner.Low && tree.Layer(path) > inner.Layer && high == "" {
			high = path
		}
	}
	for _, tt := range []struct {
		name  string
		spoil func(*store, map[string]car.Block)
		want  []string
	}{
		{"nothing", func(*store, map[string]car.Block) {}, nil},
		{"record missing", func(_ *store, r map[string]car.Block) { delete(r, pool[7]) }, []string{pool[7] + ": " + tree.ErrNoRecord.Error()}},
		{"last record missing", func(_ *store, r map[string]car.Block) { delete(r, pool[59]) }, []string{pool[59] + ": " + tree.ErrNoRecord.Error()}},
		{"all records missing but one", func(_ *store, r map[string]car.Block) {
			clear(r)
			r[pool[0]] = one
		}, func() (all []string) {
			for _, path := range pool[1:] {
				all = append(all, path+": "+tree.ErrNoRecord.Error())
			}
			return all
		}()},
		{"records more, at both ends and between", func(_ *store, r map[string]car.Block) {
			r["aa.a.a/a"], r[pool[3]+"a"], r["zz.z.z/z"] = one, one, one
		}, []string{"aa.a.a/a: " + tree.ErrSpareRecord.Error(), pool[3] + "a: " + tree.ErrSpareRecord.Error(), "zz.z.z/z: " + tree.ErrSpareRecord.Error()}},
		{"another record", func(_ *store, r map[string]car.Block) { r[pool[5]] = two }, []string{pool[5] + ": " + tree.ErrOtherRecord.Error()}},
		{"a record that was changed", func(_ *store, r map[string]car.Block) { r[pool[5]] = car.Block{CID: one.CID, Data: two.Data} },
			[]string{pool[5] + ": " + car.ErrHash.Error()}},
		{"a spare record that was changed", func(_ *store, r map[string]car.Block) { r["zz.z.z/z"] = car.Block{CID: one.CID, Data: two.Data} },
			[]string{"zz.z.z/z: " + tree.ErrSpareRecord.Error(), "zz.z.z/z: " + car.ErrHash.Error()}},
		{"a node missing, with what is below it", func(s *store, r map[string]car.Block) {
			s.remove(inner)
			r[inner.Low+"a"] = car.Block{CID: one.CID, Data: two.Data} // hashed all the same
			delete(r, high)                                            // and behind it all goes on
		}, []string{
			fmt.Sprintf("%v: %v", inner, tree.ErrMissing), inner.Low + "a: " + car.ErrHash.Error(), high + ": " + tree.ErrNoRecord.Error(),
		}},
		{"a node changed", func(s *store, _ map[string]car.Block) {
			s.rows[inner] = tree.Row{Place: inner, CID: s.rows[inner].CID, Data: one.Data}
		},
			[]string{fmt.Sprintf("%v: %v", inner, car.ErrHash)}},
		{"the root missing", func(s *store, r map[string]car.Block) {
			s.remove(tree.Place{Layer: top})
			r[pool[5]] = car.Block{CID: one.CID, Data: two.Data}
		}, []string{fmt.Sprintf("%v: %v", tree.Place{Layer: top}, tree.ErrMissing), pool[5] + ": " + car.ErrHash.Error()}},
	} {
		s := &store{t: t, rows: maps.Clone(c.rows), lows: make(map[int][]string), root: c.Root}
		for layer, lows := range c.lows {
			s.lows[layer] = slices.Clone(lows)
		}
		records := make(map[string]car.Block)
		for _, path := range pool {
			records[path] = one
		}
		tt.spoil(s, records)
		var got []string
		nodes, count, err := tree.Verify(t.Context(), s.root, s.Get, stored(records), func(p tree.Problem) error {
			what := p.Path
			if what == "" {
				what = fmt.Sprint(p.Place)
			}
			for _, e := range []error{tree.ErrMissing, tree.ErrNode, tree.ErrNoRecord, tree.ErrSpareRecord, tree.ErrOtherRecord, car.ErrHash} {
				if errors.Is(p.Err, e) {
					got = append(got, what+": "+e.Error())
				}
			}
			return nil
		})
		if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", tt.name, err, diff)
		}
		if len(s.rows) == len(c.rows) && !strings.Contains(tt.name, "changed") && (nodes != len(c.rows) || count != len(pool)) {
			t.Errorf("%s: %d nodes and %d records of %d and %d", tt.name, nodes, count, len(c.rows), len(pool))
		}
	}

	broken := errors.New("broken line")
	for name, records := range map[string]iter.Seq2[tree.Record, error]{
		"records cannot be read": func(yield func(tree.Record, error) bool) { yield(tree.Record{}, broken) },
		"nor can a later one": func(yield func(tree.Record, error) bool) {
			_ = yield(tree.Record{Path: pool[0], Value: one}, nil) && yield(tree.Record{}, broken)
		},
	} {
		if _, _, err := tree.Verify(t.Context(), c.Root, c.Get, records, func(tree.Problem) error { return nil }); !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	get := func(context.Context, tree.Place, dagcbor.CID) ([]byte, error) { return nil, broken }
	if _, _, err := tree.Verify(t.Context(), c.Root, get, stored(nil), func(tree.Problem) error { return nil }); !errors.Is(err, broken) {
		t.Errorf("nodes cannot be read: %v", err)
	}
	if _, _, err := tree.Verify(t.Context(), c.Root, c.Get, stored(nil), func(tree.Problem) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("report fails: %v", err)
	}
}

func stored(records map[string]car.Block) iter.Seq2[tree.Record, error] {
	return func(yield func(tree.Record, error) bool) {
		for _, path := range slices.Sorted(maps.Keys(records)) {
			if !yield(tree.Record{Path: path, Value: records[path]}, nil) {
				return
			}
		}
	}
}

// A walk through a large tree holds one node for each layer, wide ones of long keys too.
func TestMemoryOfAWalk(t *testing.T) {
	s := make(blockMap)
	long := strings.Repeat("a", 490)
	b := tree.Builder{Emit: func(row tree.Row) error {
		s[row.CID] = row.Data
		return nil
	}}
	// Full to the brim at the bottom, three layers of it.
	wide := 0
	for i := 0; wide < 6000; i++ {
		path := fmt.Sprintf("com.example.n/%06d%s", i, long)
		if layer := tree.Layer(path); layer == wide/2000 {
			wide++
			if err := b.Add(path, one.CID); err != nil {
				t.Fatal(err)
			}
		}
	}
	root, err := b.Root()
	if err != nil {
		t.Fatal(err)
	}
	var peak uint64
	held := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, n := held(), 0
	if _, err := tree.Walk(t.Context(), root, s.Get, tree.Visitor{Record: func(string, dagcbor.CID) error {
		if n++; n%1000 == 0 {
			peak = max(peak, held())
		}
		return nil
	}}); err != nil {
		t.Fatal(err)
	}
	if n != 6000 || peak > before+8<<20 {
		t.Errorf("%d records, %d bytes held", n, peak-min(peak, before))
	}
}

// Whatever is taken for a node is the one form of what it says.
func FuzzNode(f *testing.F) {
	s := make(blockMap)
	for _, v := range []any{
		map[string]any{"e": []any{}, "l": nil},
		map[string]any{"e": []any{entry(0, bottom[0], nil), entry(31, "p2j", nil)}, "l": nil},
		map[string]any{"e": []any{entry(0, middle[0], one.CID), entry(29, "4fd2j", nil)}, "l": one.CID},
		map[string]any{"e": []any{}, "l": one.CID},
	} {
		data := s[s.add(f, v)]
		f.Add(data, 0, "", "")
		f.Add(data, 1, "", "zz.z.z/z")
		f.Add(data[:len(data)/2], 1, bottom[0], "")
	}
	f.Fuzz(func(t *testing.T, data []byte, layer int, low, high string) {
		again, err := tree.Recode(data)
		if err != nil {
			if !errors.Is(err, tree.ErrNode) {
				t.Errorf("%v", err)
			}
			return
		}
		if !bytes.Equal(again, data) {
			t.Errorf("read %x\nwrote %x", data, again)
		}
		if err := tree.Decode(data, tree.Place{Low: low, Layer: layer}, high); err != nil && !errors.Is(err, tree.ErrNode) {
			t.Errorf("%v", err)
		}
	})
}
