// Package event makes the messages by which a server tells the network what
// happened to its accounts, as they are stored and as they are streamed.
//
// An event is stored without its number and time, which are known only when its
// transaction commits; [Frame] joins them. All functions are pure and safe for
// concurrent use. The identifiers they are given have been parsed before: text that
// is not UTF-8 makes them panic.
package event

import (
	"fmt"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/repo"
	"portico/impl/repo/dagcbor"
)

// An Event is a message to be stored.
type Event struct {
	Kind string // "#identity", "#account", "#commit" or "#sync"
	Body []byte // DAG-CBOR of a map without seq and time
}

func newEvent(kind string, body map[string]any) Event {
	b, err := dagcbor.Marshal(body)
	if err != nil {
		panic(fmt.Sprintf("event %s: %v", kind, err))
	}
	return Event{kind, b}
}

// Identity says that the identity of did has changed, and to what handle, if that is
// not empty.
func Identity(did syntax.DID, handle syntax.Handle) Event {
	body := map[string]any{"did": did.String()}
	if handle != "" {
		body["handle"] = handle.String()
	}
	return newEvent("#identity", body)
}

// Account says what the status of an account is now: "takendown", "deactivated" or
// "deleted", or the empty string for an active one.
func Account(did syntax.DID, status string) Event {
	body := map[string]any{"did": did.String(), "active": status == ""}
	if status != "" {
		body["status"] = status
	}
	return newEvent("#account", body)
}

// Sync says what the current commit of a repository is. The archive holds that
// commit alone.
func Sync(did syntax.DID, rev syntax.TID, archive []byte) Event {
	return newEvent("#sync", map[string]any{"did": did.String(), "rev": rev.String(), "blocks": archive})
}

// An Op is one record that a commit changes.
type Op struct {
	Action string      // "create", "update" or "delete"
	Path   string      // collection/rkey
	CID    dagcbor.CID // zero for a deletion
	Prev   dagcbor.CID // of the record before; zero for a creation
}

// A Commit is a change of a repository.
type Commit struct {
	Repo     syntax.DID
	Commit   dagcbor.CID
	Rev      syntax.TID
	Since    syntax.TID  // rev of the commit before; empty for the first
	PrevData dagcbor.CID // root of the tree before; zero for the first
	Ops      []Op
	Blocks   []byte // archive of what is needed to check the change
}

// Event returns the message about c.
func (c Commit) Event() Event {
	ops := make([]any, len(c.Ops))
	for i, op := range c.Ops {
		o := map[string]any{"action": op.Action, "path": op.Path, "cid": link(op.CID)}
		if op.Prev != (dagcbor.CID{}) {
			o["prev"] = op.Prev
		}
		ops[i] = o
	}
	body := map[string]any{
		"repo": c.Repo.String(), "commit": c.Commit, "rev": c.Rev.String(), "since": nil,
		"blocks": c.Blocks, "ops": ops, "blobs": []any{}, "rebase": false, "tooBig": false,
	}
	if c.Since != "" {
		body["since"] = c.Since.String()
	}
	if c.PrevData != (dagcbor.CID{}) {
		body["prevData"] = c.PrevData
	}
	return newEvent("#commit", body)
}

func link(c dagcbor.CID) any {
	if c == (dagcbor.CID{}) {
		return nil
	}
	return c
}

// GenesisCommit is the event of a repository's first commit.
func GenesisCommit(did syntax.DID, r *repo.Repository) Event {
	return Commit{Repo: did, Commit: r.Root, Rev: r.Rev, Blocks: r.CommitCAR}.Event()
}

// Frame returns the message of subscribeRepos for a stored event: header and body,
// with its number and the time at which it was given. It returns
// dagcbor.ErrEncoding when body is not what this package makes.
func Frame(e Event, seq int64, at time.Time) ([]byte, error) {
	entries, err := dagcbor.Entries(e.Body)
	if err != nil {
		return nil, fmt.Errorf("frame event %d: %w", seq, err)
	}
	entries = append(entries,
		dagcbor.Entry{Key: "seq", Value: dagcbor.AppendInt(nil, seq)},
		dagcbor.Entry{Key: "time", Value: dagcbor.AppendText(nil, at.UTC().Format("2006-01-02T15:04:05.000Z"))})
	slices.SortFunc(entries, func(a, b dagcbor.Entry) int { return dagcbor.CompareKeys(a.Key, b.Key) })

	b := make([]byte, 0, len(e.Body)+64)
	b = dagcbor.AppendMap(b, 2)
	b = dagcbor.AppendText(dagcbor.AppendText(b, "t"), e.Kind)
	b = dagcbor.AppendInt(dagcbor.AppendText(b, "op"), 1)
	b = dagcbor.AppendMap(b, len(entries))
	for i, entry := range entries {
		if i > 0 && entries[i-1].Key == entry.Key {
			return nil, fmt.Errorf("frame event %d: %w: has %s already", seq, dagcbor.ErrEncoding, entry.Key)
		}
		b = append(dagcbor.AppendText(b, entry.Key), entry.Value...)
	}
	return b, nil
}
