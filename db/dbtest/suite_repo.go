package dbtest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"portico/db"
)

// repo is a row with a commit of some name.
func repo(commit, rev string, records int) db.Repo {
	return db.Repo{
		CommitCID: []byte(commit), CommitBlock: []byte("block of " + commit), Rev: rev, DataCID: []byte("data of " + commit), Layer: 3,
		Records: records, Nodes: 5, ExpectedBlobs: 7, ImportedBlobs: 6,
	}
}

func node(low string, layer int, cid, rev string) db.Node {
	return db.Node{Low: low, Layer: layer, CID: []byte(cid), Rev: rev, Data: []byte("data of " + cid)}
}

func (s *suite) repositories() {
	ctx := s.Context()
	s.create(1)
	s.create(2)
	_, err := s.db.Repo(ctx, did(1))
	s.is(err, db.ErrNotFound)
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { _, err := tx.LockRepo(ctx, did(1)); return err })
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.InsertRepo(ctx, did(9), repo("a", "rev1", 0)) })

	s.must(func(tx *db.Tx) error {
		return errors.Join(tx.InsertRepo(ctx, did(1), repo("a", "rev1", 0)), tx.InsertRepo(ctx, did(2), repo("a", "rev1", 0)))
	})
	got, err := s.db.Repo(ctx, did(1))
	s.ok(err)
	s.equal("repository", *got, repo("a", "rev1", 0))

	// A commit follows the one that it was made after, and no other.
	s.must(func(tx *db.Tx) error {
		locked, err := tx.LockRepo(ctx, did(1))
		s.ok(err)
		s.equal("locked", *locked, repo("a", "rev1", 0))
		return tx.UpdateRepo(ctx, did(1), repo("b", "rev2", 1<<40), locked.CommitCID)
	})
	s.fails(db.ErrStale, func(tx *db.Tx) error { return tx.UpdateRepo(ctx, did(1), repo("c", "rev3", 0), []byte("a")) })
	s.fails(db.ErrStale, func(tx *db.Tx) error { return tx.UpdateRepo(ctx, did(9), repo("c", "rev3", 0), []byte("a")) })
	got, err = s.db.Repo(ctx, did(1))
	s.ok(err)
	s.equal("after a commit", *got, repo("b", "rev2", 1<<40))
	got, err = s.db.Repo(ctx, did(2))
	s.ok(err)
	s.equal("another one", *got, repo("a", "rev1", 0))

	for range 2 { // the second time there is none
		s.must(func(tx *db.Tx) error { return tx.DeleteRepo(ctx, did(1)) })
		_, err = s.db.Repo(ctx, did(1))
		s.is(err, db.ErrNotFound)
	}
	// What could not be read when it was moved here is empty.
	bare := db.Repo{CommitCID: []byte{}, CommitBlock: []byte{}, DataCID: []byte{}}
	s.must(func(tx *db.Tx) error { return tx.InsertRepo(ctx, did(1), bare) })
	got, err = s.db.Repo(ctx, did(1))
	s.ok(err)
	s.equal("bare", fmt.Sprintf("%x", *got), fmt.Sprintf("%x", bare))
}

// raceRepository: of those who commit after the same commit, one is first.
func (s *suite) raceRepository() {
	s.create(1)
	s.must(func(tx *db.Tx) error { return tx.InsertRepo(s.Context(), did(1), repo("a", "rev1", 0)) })
	got := s.race(8, func(ctx context.Context, i int) error {
		return s.write(func(tx *db.Tx) error {
			return tx.UpdateRepo(ctx, did(1), repo(fmt.Sprint("b", i), "rev2", 0), []byte("a"))
		})
	})
	s.equal("outcomes", got, map[error]int{nil: 1, db.ErrStale: 7})

	// Those who lock the row come one after the other.
	got = s.race(8, func(ctx context.Context, i int) error {
		return s.write(func(tx *db.Tx) error {
			r, err := tx.LockRepo(ctx, did(1))
			if err != nil {
				return err
			}
			before := r.CommitCID
			r.CommitCID = fmt.Append(nil, "c", i)
			r.Records++
			return tx.UpdateRepo(ctx, did(1), *r, before)
		})
	})
	s.equal("outcomes", got, map[error]int{nil: 8})
	r, err := s.db.Repo(s.Context(), did(1))
	s.ok(err)
	s.equal("counted", r.Records, 8)
}

func places(nodes []db.Node) string {
	var all []string
	for _, n := range nodes {
		all = append(all, fmt.Sprintf("%s@%d", n.Low, n.Layer))
	}
	return strings.Join(all, " ")
}

// putNodes stores nodes, in an order that is nobody's.
func (s *suite) putNodes(n int, nodes ...db.Node) {
	s.Helper()
	s.must(func(tx *db.Tx) error {
		for i := range nodes {
			if err := tx.PutNode(s.Context(), did(n), nodes[(i*7+3)%len(nodes)]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *suite) nodes() {
	ctx := s.Context()
	s.create(1)
	s.create(2)
	_, err := s.db.Node(ctx, did(1), db.Place{})
	s.is(err, db.ErrNotFound)
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.PutNode(ctx, did(9), node("", 0, "a", "rev1")) })

	s.putNodes(2, node("", 0, "other", "rev1"))
	s.putNodes(1, node("", 2, "a", "rev1"))
	s.putNodes(1, node("", 2, "b", "rev2")) // in the place of it
	got, err := s.db.Node(ctx, did(1), db.Place{Layer: 2})
	s.ok(err)
	s.equal("node", *got, node("", 2, "b", "rev2"))
	s.equal("place", got.Place(), db.Place{Layer: 2})
	_, err = s.db.Node(ctx, did(1), db.Place{Layer: 1})
	s.is(err, db.ErrNotFound)

	// By the bytes of the keys, and from the top: as a walk goes.
	s.putNodes(1,
		node("", 2, "b", "rev2"), node("", 1, "c", "rev2"), node("", 0, "d", "rev2"), node("a/Z", 0, "e", "rev2"), node("a/_", 1, "f", "rev2"),
		node("a/_", 0, "g", "rev2"), node("a/a", 0, "h", "rev2"), node("a-b/a", 0, "i", "rev2"), node("a.b/a", 1, "j", "rev2"), node("a/~", 0, "k", "rev2"))
	const want = "@2 @1 @0 a-b/a@0 a.b/a@1 a/Z@0 a/_@1 a/_@0 a/a@0 a/~@0"
	for _, limit := range []int{1, 2, 3, 10, 100} {
		var all []db.Node
		var after *db.Place
		for {
			page, err := s.db.Nodes(ctx, did(1), after, limit)
			s.ok(err)
			if len(page) == 0 {
				break
			}
			if len(page) > limit {
				s.Errorf("a page of %d nodes, limit %d", len(page), limit)
			}
			all = append(all, page...)
			after = new(all[len(all)-1].Place())
		}
		s.equal(fmt.Sprint("in pages of ", limit), places(all), want)
		s.equal("the first", all[0], node("", 2, "b", "rev2"))
	}

	s.must(func(tx *db.Tx) error {
		return errors.Join(tx.DeleteNode(ctx, did(1), db.Place{Low: "a/_", Layer: 1}), tx.DeleteNode(ctx, did(1), db.Place{Low: "none"}))
	})
	all, err := s.db.Nodes(ctx, did(1), nil, 100)
	s.ok(err)
	s.equal("one deleted", places(all), strings.Replace(want, " a/_@1", "", 1))
	s.must(func(tx *db.Tx) error { return tx.DeleteNodes(ctx, did(1)) })
	all, err = s.db.Nodes(ctx, did(1), nil, 100)
	s.ok(err)
	s.equal("all deleted", places(all), "")
	all, err = s.db.Nodes(ctx, did(2), nil, 100)
	s.ok(err)
	s.equal("another's", places(all), "@0")
}

func (s *suite) nodesMove() {
	ctx := s.Context()
	s.create(1)
	a, b, c := db.Place{Layer: 1}, db.Place{Low: "k", Layer: 1}, db.Place{Low: "k", Layer: 2}
	s.putNodes(1, node("", 1, "a", "rev1"), node("k", 1, "b", "rev2"))
	s.must(func(tx *db.Tx) error { return tx.MoveNodes(ctx, did(1), map[db.Place]db.Place{a: b, b: c}) })
	all, err := s.db.Nodes(ctx, did(1), nil, 10)
	s.ok(err)
	s.equal("moved", all, []db.Node{node("", 1, "a", "rev1"), node("k", 2, "b", "rev2"), node("k", 1, "a", "rev1")})
	s.must(func(tx *db.Tx) error { return tx.MoveNodes(ctx, did(1), map[db.Place]db.Place{b: c, c: b}) })
	all, err = s.db.Nodes(ctx, did(1), nil, 10)
	s.ok(err)
	s.equal("exchanged", all, []db.Node{node("", 1, "a", "rev1"), node("k", 2, "a", "rev1"), node("k", 1, "b", "rev2")})
	s.fails(db.ErrNotFound, func(tx *db.Tx) error {
		return tx.MoveNodes(ctx, did(1), map[db.Place]db.Place{{Low: "none"}: a})
	})
}

func (s *suite) nodesOnPaths() {
	ctx := s.Context()
	s.create(1)
	s.create(2)
	// Keys d and p are on layer 2, and b, f and r on layer 1.
	s.putNodes(2, node("", 2, "other", "rev1"), node("", 1, "other", "rev1"), node("a", 0, "other", "rev1"))
	s.putNodes(1, node("", 2, "root", "rev1"), node("", 1, "left", "rev1"), node("d", 1, "middle", "rev1"), node("p", 1, "right", "rev1"),
		node("", 0, "1", "rev1"), node("b", 0, "2", "rev1"), node("d", 0, "3", "rev1"), node("f", 0, "4", "rev1"), node("r", 0, "5", "rev1"))
	below := func(n *db.Node, key string) (db.Place, bool) {
		low := n.Low
		for _, k := range map[int]string{2: "dp", 1: "bfr"}[n.Layer] {
			if k := string(k); k > n.Low && k < key && (n.Low != "" || n.Layer == 2 || k < "d") && (n.Low != "d" || k < "p") {
				low = k
			}
		}
		return db.Place{Low: low, Layer: n.Layer - 1}, key != "d"
	}
	for _, tt := range []struct{ name, keys, want string }{
		{"none", "", ""},
		{"left of all", "a", "@2 @1 @0"},
		{"after a key below", "c", "@2 @1 b@0"},
		{"before a key", "e", "@2 d@1 d@0"},
		{"right of all", "z", "@2 p@1 r@0"},
		{"some", "a c e z", "@2 @1 @0 b@0 d@1 d@0 p@1 r@0"},
		{"twice", "c c", "@2 @1 b@0"},
		{"of no path", "0", "@2 @1 @0"},
	} {
		for engine, read := range map[string]func() ([]db.Node, error){
			"reader": func() ([]db.Node, error) { return s.db.NodesOnPaths(ctx, did(1), 2, strings.Fields(tt.keys), below) },
			"transaction": func() (all []db.Node, err error) {
				err = s.write(func(tx *db.Tx) error {
					all, err = tx.NodesOnPaths(ctx, did(1), 2, strings.Fields(tt.keys), below)
					return err
				})
				return all, err
			},
		} {
			nodes, err := read()
			s.ok(err)
			got := strings.Fields(places(nodes))
			for place := range strings.FieldsSeq(tt.want) {
				if strings.Count(" "+strings.Join(got, " ")+" ", " "+place+" ") != 1 {
					s.Errorf("%s, %s: got %q, want %q, each once", tt.name, engine, got, tt.want)
				}
			}
		}
	}
	// A path ends where a node is missing.
	s.must(func(tx *db.Tx) error { return tx.DeleteNode(ctx, did(1), db.Place{Low: "d", Layer: 1}) })
	if _, err := s.db.NodesOnPaths(ctx, did(1), 2, []string{"e"}, below); err != nil {
		s.Error(err)
	}
}
