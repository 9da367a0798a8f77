package tree

import (
	"errors"
	"fmt"
	"testing"

	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
)

func TestLookup(t *testing.T) {
	nodes := map[dagcbor.CID][]byte{}
	b := Builder{Emit: func(r Row) error {
		nodes[r.CID] = r.Data
		return nil
	}}
	path := func(i int) string { return fmt.Sprintf("com.example.a/%04d", i) }
	value := func(i int) dagcbor.CID { return dagcbor.Sum(dagcbor.CodecDAGCBOR, []byte(path(i))) }
	for i := range 1000 {
		if i%2 == 0 {
			if err := b.Add(path(i), value(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	root, err := b.Root()
	if err != nil {
		t.Fatal(err)
	}
	missing := errors.New("missing")
	var asked []dagcbor.CID
	get := func(c dagcbor.CID) ([]byte, error) {
		asked = append(asked, c)
		data, ok := nodes[c]
		if !ok {
			return nil, missing
		}
		return data, nil
	}
	for i := range 1000 {
		want := value(i)
		if i%2 == 1 {
			want = dagcbor.CID{}
		}
		if got, err := Lookup(root.CID, get, path(i)); err != nil || got != want {
			t.Errorf("%s: %s, %v", path(i), got, err)
		}
	}
	if got, err := Lookup(Empty.CID, func(dagcbor.CID) ([]byte, error) { return EmptyNode().Data, nil }, path(0)); err != nil || got != (dagcbor.CID{}) {
		t.Errorf("in the empty tree: %s, %v", got, err)
	}

	// Whatever node on the way is not there, or another one, nothing is proved, not even absence.
	const odd = 501
	asked = nil
	if _, err := Lookup(root.CID, get, path(odd)); err != nil || len(asked) < 2 {
		t.Fatalf("%v after %d nodes", err, len(asked))
	}
	for _, c := range asked {
		data := nodes[c]
		nodes[c] = EmptyNode().Data
		if _, err := Lookup(root.CID, get, path(odd)); !errors.Is(err, car.ErrHash) {
			t.Errorf("with another node: %v", err)
		}
		delete(nodes, c)
		if _, err := Lookup(root.CID, get, path(odd)); !errors.Is(err, missing) {
			t.Errorf("without a node: %v", err)
		}
		nodes[c] = data
	}
	junk := dagcbor.Sum(dagcbor.CodecDAGCBOR, []byte{0xa0})
	nodes[junk] = []byte{0xa0}
	if _, err := Lookup(junk, get, path(0)); !errors.Is(err, ErrNode) {
		t.Errorf("of junk: %v", err)
	}
}
