package dbtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
)

// A snapshot is of one state, whatever is committed meanwhile.
func (s *suite) snapshots() {
	ctx := s.Context()
	s.create(1)
	s.create(2)
	s.must(func(tx *db.Tx) error {
		return errors.Join(
			tx.InsertRepo(ctx, did(1), repo("a", "rev1", 0)),
			tx.PutNode(ctx, did(1), node("", 1, "top", "rev2")), tx.PutNode(ctx, did(1), node("", 0, "left", "rev1")),
			tx.PutNode(ctx, did(1), node("b/1", 0, "right", "rev2")), tx.PutNode(ctx, did(2), node("", 0, "other", "rev2")),
			tx.PutRecords(ctx, did(1), value("c/1", "one", "rev2"), value("b/1", "two", "rev1"), value("c.d/1", "one", "rev3")),
			tx.PutRecords(ctx, did(2), value("c/1", "one", "rev2")))
	})
	blocks := func(read func(visit func(cid, data []byte) error) error) (all []string) {
		s.ok(read(func(cid, data []byte) error {
			all = append(all, fmt.Sprintf("%s=%s", cid, data))
			return nil
		}))
		return all
	}
	s.ok(s.db.Snapshot(ctx, func(state *db.Snapshot) error {
		_, err := state.Repo(ctx, did(1))
		s.ok(err)
		s.must(func(tx *db.Tx) error {
			return errors.Join(tx.DeleteRepo(ctx, did(1)), tx.DeleteNodes(ctx, did(1)), tx.DeleteRecords(ctx, did(1), "c/1"))
		})
		_, err = state.Repo(ctx, did(1))
		s.ok(err)
		nodes := func(since string) []string {
			return blocks(func(visit func(cid, data []byte) error) error { return state.NodeBlocks(ctx, did(1), since, visit) })
		}
		values := func(since string) []string {
			return blocks(func(visit func(cid, data []byte) error) error { return state.ValueBlocks(ctx, did(1), since, visit) })
		}
		s.equal("number of nodes", len(nodes("")), 3)
		s.equal("number of nodes since", len(nodes("rev1")), 2)
		s.equal("no nodes since", len(nodes("rev2")), 0)
		s.equal("values", values(""), []string{"two=value of two", "one=value of one", "one=value of one"})
		s.equal("values since", values("rev1"), []string{"one=value of one", "one=value of one"})
		s.equal("no values since", values("rev3"), []string(nil))
		s.equal("named", blocks(func(visit func(cid, data []byte) error) error {
			return state.BlocksNamed(ctx, did(1), [][]byte{[]byte("two"), []byte("left"), []byte("none"), []byte("other")}, visit)
		}), []string{"left=data of left", "two=value of two"})
		path, err := state.Record(ctx, did(1), "c/1")
		s.ok(err)
		s.equal("record", string(path.CID), "one")
		return nil
	}))
	_, err := s.db.Repo(ctx, did(1))
	s.is(err, db.ErrNotFound)

	// What fn returns comes back, and its error of visit too; who has gone is not read for.
	stop := errors.New("stop")
	s.is(s.db.Snapshot(ctx, func(*db.Snapshot) error { return stop }), stop)
	s.is(s.db.Snapshot(ctx, func(state *db.Snapshot) error {
		return state.ValueBlocks(ctx, did(2), "", func(_, _ []byte) error { return stop })
	}), stop)
	gone, cancel := context.WithCancel(ctx)
	s.is(s.db.Snapshot(gone, func(state *db.Snapshot) error {
		cancel()
		return state.ValueBlocks(gone, did(2), "", func(_, _ []byte) error { return nil })
	}), context.Canceled)
	// More one after the other than there are connections.
	for range 30 {
		s.ok(s.db.Snapshot(ctx, func(state *db.Snapshot) error { _, err := state.Record(ctx, did(2), "c/1"); return err }))
	}
}

func value(path, cid, rev string) db.Record {
	return db.Record{Path: path, CID: []byte(cid), Rev: rev, IndexedAt: start0, Value: []byte("value of " + cid)}
}

// Repositories in the order of their accounts' creation.
func (s *suite) hostedRepos() {
	ctx := s.Context()
	list := func(after time.Time, last syntax.DID, limit int) (dids []syntax.DID) {
		repos, err := s.db.HostedRepos(ctx, after, last, limit)
		s.ok(err)
		for _, r := range repos {
			dids = append(dids, r.DID)
		}
		return dids
	}
	s.equal("none", list(time.Time{}, "", 10), []syntax.DID(nil))
	var want []syntax.DID
	for n := 1; n <= 5; n++ {
		a := s.create(n)
		if n != 3 { // which has none
			s.must(func(tx *db.Tx) error { return tx.InsertRepo(ctx, a.DID, repo("a", "rev1", 0)) })
			want = append(want, a.DID)
		}
	}
	s.equal("all", list(time.Time{}, "", 10), want)
	repos, err := s.db.HostedRepos(ctx, time.Time{}, "", 2)
	s.ok(err)
	a, err := s.db.AccountByDID(ctx, repos[1].DID)
	s.ok(err)
	s.equal("one", repos[1], db.HostedRepo{DID: a.DID, CreatedAt: a.CreatedAt, Status: "active", CommitCID: []byte("a"), Rev: "rev1"})
	s.equal("a later page", list(repos[1].CreatedAt, repos[1].DID, 10), want[2:])
	s.equal("the end", list(time.Unix(1<<40, 0), "", 10), []syntax.DID(nil))
	s.equal("no text", list(time.Time{}, "\x00", 10), []syntax.DID(nil))
}
