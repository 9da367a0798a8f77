package sync_test

import (
	"context"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/sync"
	"portico/api/xrpc"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/event"
	"portico/impl/repo/tree"
)

// The frames that are made of stored events are messages of the lexicon, and their
// encoding is the one that a message has.
func TestFramesAreMessages(t *testing.T) {
	const did, handle = syntax.DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz"), syntax.Handle("alice.test")
	at := time.Date(2026, 11, 28, 18, 0, 0, 5e6, time.UTC)
	a, b := dagcbor.Sum(dagcbor.CodecDAGCBOR, []byte("a")), dagcbor.Sum(dagcbor.CodecDAGCBOR, []byte("b"))
	commit := event.Commit{
		Repo: did, Commit: a, Rev: "3jqfcqzm3fo2j", Since: "3jqfcqzm3fp2j", PrevData: b, Blocks: make([]byte, 70000),
		Ops: []tree.Op{
			{Action: "create", Path: "a.b.c/1", CID: a}, {Action: "update", Path: "a.b.c/2", CID: a, Prev: b}, {Action: "delete", Path: "a.b.c/3", Prev: b},
		},
	}
	for _, e := range []event.Event{
		commit.Event(), event.Commit{Repo: did, Commit: a, Rev: "3jqfcqzm3fo2j"}.Event(),
		event.Identity(did, handle), event.Identity(did, ""), event.Account(did, ""), event.Account(did, "takendown"),
		event.Sync(did, "3jqfcqzm3fo2j", make([]byte, 300)),
	} {
		frame, err := event.Frame(e, 70000, at)
		if err != nil {
			t.Fatal(err)
		}
		var got api.SubscribeReposMessage
		out := xrpc.Receive(func(_ context.Context, m api.SubscribeReposMessage) error {
			got = m
			return nil
		})
		if err := out.SendFrame(t.Context(), frame); err != nil {
			t.Errorf("%s: %v", e.Kind, err)
			continue
		}
		again, err := xrpc.EncodeFrame(got)
		if err != nil || string(again) != string(frame) {
			t.Errorf("%s: %x, %v\nwant %x", e.Kind, again, err, frame)
		}
	}
}
