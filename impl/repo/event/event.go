// Package event makes the messages by which a server tells the network what
// happened to its accounts, as they are stored and as they are streamed.
//
// An event is stored without its number and time, which are known only when its
// transaction commits; with it goes where those belong, so that [Frame] joins them
// without taking the event apart. All functions are pure and safe for
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
	"portico/impl/repo/tree"
)

// An Event is a message to be stored.
type Event struct {
	Kind string // "#identity", "#account", "#commit" or "#sync"
	Body []byte // DAG-CBOR of a map without seq and time
	// Cut1 and Cut2 are where in Body seq and time belong; see [Cuts].
	Cut1, Cut2 int
}

func newEvent(kind string, body map[string]any) Event {
	b, err := dagcbor.Marshal(body)
	if err != nil {
		panic(fmt.Sprintf("event %s: %v", kind, err))
	}
	e := Event{Kind: kind, Body: b}
	if e.Cut1, e.Cut2, err = Cuts(b); err != nil {
		panic(fmt.Sprintf("event %s: %v", kind, err))
	}
	return e
}

// Cuts returns where in a stored body seq and time belong: the offsets of what follows
// them. It is for events that were stored without. It returns dagcbor.ErrEncoding when
// body is not what this package makes.
func Cuts(body []byte) (cut1, cut2 int, err error) {
	entries, err := dagcbor.Entries(body)
	if err != nil {
		return 0, 0, fmt.Errorf("body of event: %w", err)
	}
	if len(entries) > maxEntries {
		return 0, 0, fmt.Errorf("body of event: %w: %d entries", dagcbor.ErrEncoding, len(entries))
	}
	var buf [64]byte
	at := 1
	cut1, cut2 = at, at
	for _, e := range entries {
		if e.Key == "seq" || e.Key == "time" {
			return 0, 0, fmt.Errorf("body of event: %w: has %s already", dagcbor.ErrEncoding, e.Key)
		}
		at += len(dagcbor.AppendText(buf[:0], e.Key)) + len(e.Value)
		if dagcbor.CompareKeys(e.Key, "seq") < 0 {
			cut1 = at
		}
		if dagcbor.CompareKeys(e.Key, "time") < 0 {
			cut2 = at
		}
	}
	return cut1, cut2, nil
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

// A Commit is a change of a repository.
type Commit struct {
	Repo     syntax.DID
	Commit   dagcbor.CID
	Rev      syntax.TID
	Since    syntax.TID  // rev of the commit before; empty for the first
	PrevData dagcbor.CID // root of the tree before; zero for the first
	Ops      []tree.Op
	Blocks   []byte // archive of what is needed to check the change
}

// Event returns the message about c. It is written as it goes: most events are commits.
func (c Commit) Event() Event {
	size, entries := 320+len(c.Blocks), 9
	for _, op := range c.Ops {
		size += 128 + len(op.Path)
	}
	if c.PrevData != (dagcbor.CID{}) {
		entries++
	}
	e := Event{Kind: "#commit"}
	b := dagcbor.AppendMap(make([]byte, 0, size), entries)
	b = dagcbor.AppendArray(dagcbor.AppendText(b, "ops"), len(c.Ops))
	for _, op := range c.Ops {
		b = appendOp(b, op)
	}
	b = dagcbor.AppendText(dagcbor.AppendText(b, "rev"), c.Rev)
	e.Cut1 = len(b)
	b = dagcbor.AppendText(dagcbor.AppendText(b, "repo"), c.Repo)
	e.Cut2 = len(b)
	b = dagcbor.AppendArray(dagcbor.AppendText(b, "blobs"), 0)
	b = dagcbor.AppendText(b, "since")
	if c.Since == "" {
		b = dagcbor.AppendNull(b)
	} else {
		b = dagcbor.AppendText(b, c.Since)
	}
	b = dagcbor.AppendBytes(dagcbor.AppendText(b, "blocks"), c.Blocks)
	b = dagcbor.AppendLink(dagcbor.AppendText(b, "commit"), c.Commit)
	b = dagcbor.AppendBool(dagcbor.AppendText(b, "rebase"), false)
	b = dagcbor.AppendBool(dagcbor.AppendText(b, "tooBig"), false)
	if c.PrevData != (dagcbor.CID{}) {
		b = dagcbor.AppendLink(dagcbor.AppendText(b, "prevData"), c.PrevData)
	}
	e.Body = b
	return e
}

func appendOp(b []byte, op tree.Op) []byte {
	entries := 3
	if op.Prev != (dagcbor.CID{}) {
		entries++
	}
	b = dagcbor.AppendText(dagcbor.AppendMap(b, entries), "cid")
	if op.CID == (dagcbor.CID{}) {
		b = dagcbor.AppendNull(b)
	} else {
		b = dagcbor.AppendLink(b, op.CID)
	}
	b = dagcbor.AppendText(dagcbor.AppendText(b, "path"), op.Path)
	if op.Prev != (dagcbor.CID{}) {
		b = dagcbor.AppendLink(dagcbor.AppendText(b, "prev"), op.Prev)
	}
	return dagcbor.AppendText(dagcbor.AppendText(b, "action"), op.Action)
}

// GenesisCommit is the event of a repository's first commit.
func GenesisCommit(did syntax.DID, r *repo.Repository) Event {
	return Commit{Repo: did, Commit: r.Commit.CID, Rev: r.Rev, Blocks: r.CommitCAR}.Event()
}

// maxEntries is how many entries a body may have so that two more leave the head of
// the map one byte.
const maxEntries = 21

const timeLayout = "2006-01-02T15:04:05.000Z"

// Frame returns the message of subscribeRepos for a stored event: header and body,
// with its number and the time at which it was given. The cuts of e are those of its
// body, or both zero. It returns dagcbor.ErrEncoding when body is not what this
// package makes, or is not cut so.
func Frame(e Event, seq int64, at time.Time) ([]byte, error) {
	return AppendFrame(make([]byte, 0, len(e.Body)+80), e, seq, at)
}

// AppendFrame is [Frame] that appends to b, which whoever sends frames one after the other
// may use again.
func AppendFrame(b []byte, e Event, seq int64, at time.Time) ([]byte, error) {
	if e.Cut1 == 0 {
		var err error
		if e.Cut1, e.Cut2, err = Cuts(e.Body); err != nil {
			return nil, fmt.Errorf("frame event %d: %w", seq, err)
		}
	}
	head := dagcbor.AppendMap(nil, 0)[0]
	if len(e.Body) == 0 || e.Body[0] < head || e.Body[0] > head+maxEntries || e.Cut1 < 1 || e.Cut2 < e.Cut1 || len(e.Body) < e.Cut2 {
		return nil, fmt.Errorf("frame event %d: %w: cut at %d and %d of %d", seq, dagcbor.ErrEncoding, e.Cut1, e.Cut2, len(e.Body))
	}
	b = slices.Grow(b, len(e.Body)+80)
	b = dagcbor.AppendMap(b, 2)
	b = dagcbor.AppendText(dagcbor.AppendText(b, "t"), e.Kind)
	b = dagcbor.AppendInt(dagcbor.AppendText(b, "op"), 1)
	b = append(b, e.Body[0]+2)
	b = append(b, e.Body[1:e.Cut1]...)
	b = dagcbor.AppendInt(dagcbor.AppendText(b, "seq"), seq)
	b = append(b, e.Body[e.Cut1:e.Cut2]...)
	var text [len(timeLayout)]byte
	b = dagcbor.AppendText(b, "time")
	b = dagcbor.AppendText(b, string(at.UTC().AppendFormat(text[:0], timeLayout)))
	return append(b, e.Body[e.Cut2:]...), nil
}
