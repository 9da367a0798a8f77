package event

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/atdata"
	indigorepo "github.com/bluesky-social/indigo/atproto/repo"
	"github.com/google/go-cmp/cmp"

	"portico/impl/repo"
	"portico/impl/repo/dagcbor"
)

const did = "did:plc:tfoc4jg4ai6vr2nbwlmwdzq2"

var at = time.Date(2026, 3, 1, 13, 0, 0, 7_000_000, time.FixedZone("", 3600))

// body takes a frame apart and wants the header in its one form.
func body(t *testing.T, e Event, header string) []byte {
	t.Helper()
	frame, err := Frame(e, 42, at)
	if err != nil {
		t.Fatal(err)
	}
	want, err := hex.DecodeString(header)
	if err != nil {
		t.Fatal(err)
	}
	rest, ok := bytes.CutPrefix(frame, want)
	if !ok {
		t.Fatalf("header: got %x, want %s", frame[:len(want)], header)
	}
	return rest
}

func read(t *testing.T, e Event, header string) map[string]any {
	t.Helper()
	b := body(t, e, header)
	m, err := atdata.UnmarshalCBOR(b)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const commitHeader = "a261746723636f6d6d6974626f7001"

func TestIdentity(t *testing.T) {
	header := "a26174" + "69" + hex.EncodeToString([]byte("#identity")) + "626f7001"
	got := read(t, Identity(did, "alice.test"), header)
	want := map[string]any{"seq": int64(42), "time": "2026-03-01T12:00:00.007Z", "did": did, "handle": "alice.test"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got = read(t, Identity(did, ""), header)
	delete(want, "handle")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("without handle (-want +got):\n%s", diff)
	}
}

func TestAccount(t *testing.T) {
	header := "a26174" + "68" + hex.EncodeToString([]byte("#account")) + "626f7001"
	got := read(t, Account(did, ""), header)
	want := map[string]any{"seq": int64(42), "time": "2026-03-01T12:00:00.007Z", "did": did, "active": true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got = read(t, Account(did, "takendown"), header)
	want["active"], want["status"] = false, "takendown"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("taken down (-want +got):\n%s", diff)
	}
}

func TestGenesis(t *testing.T) {
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	r, err := repo.Genesis(did, key, at)
	if err != nil {
		t.Fatal(err)
	}
	b := body(t, GenesisCommit(did, r), commitHeader)
	var c comatproto.SyncSubscribeRepos_Commit
	if err := c.UnmarshalCBOR(bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	if c.Seq != 42 || c.Time != "2026-03-01T12:00:00.007Z" || c.Repo != did || c.Rev != r.Rev.String() || c.Since != nil ||
		len(c.Ops) != 0 || c.PrevData != nil || c.Rebase || c.TooBig || c.Commit.String() != r.Root.String() || len(c.Blobs) != 0 {
		t.Errorf("commit: %+v", c)
	}
	if _, err := indigorepo.VerifyCommitMessage(t.Context(), &c); err != nil {
		t.Errorf("indigo does not take it: %v", err)
	}
	// Absent, null and empty are not the same.
	entries, err := dagcbor.Entries(b)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, e := range entries {
		keys = append(keys, e.Key)
		if want, ok := map[string]string{"ops": "80", "blobs": "80", "since": "f6", "rebase": "f4", "tooBig": "f4"}[e.Key]; ok && hex.EncodeToString(e.Value) != want {
			t.Errorf("%s: got %x, want %s", e.Key, e.Value, want)
		}
	}
	if got := strings.Join(keys, " "); got != "ops rev seq repo time blobs since blocks commit rebase tooBig" {
		t.Errorf("keys: %s", got)
	}

	got := read(t, Sync(did, r.Rev, r.SyncCAR), "a26174"+"65"+hex.EncodeToString([]byte("#sync"))+"626f7001")
	want := map[string]any{"seq": int64(42), "time": "2026-03-01T12:00:00.007Z", "did": did, "rev": r.Rev.String(), "blocks": atdata.Bytes(r.SyncCAR)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sync (-want +got):\n%s", diff)
	}
}

func TestCommit(t *testing.T) {
	x, y := dagcbor.Sum(dagcbor.CodecDAGCBOR, []byte("x")), dagcbor.Sum(dagcbor.CodecDAGCBOR, []byte("y"))
	b := body(t, Commit{
		Repo: did, Commit: x, Rev: "3jqfcqzm3fp2j", Since: "3jqfcqzm3fo2j", PrevData: y, Blocks: []byte{1},
		Ops: []Op{{Action: "create", Path: "a.b.c/1", CID: x}, {Action: "update", Path: "a.b.c/2", CID: x, Prev: y}, {Action: "delete", Path: "a.b.c/3", Prev: y}},
	}.Event(), commitHeader)
	var c comatproto.SyncSubscribeRepos_Commit
	if err := c.UnmarshalCBOR(bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	if c.Since == nil || *c.Since != "3jqfcqzm3fo2j" || c.PrevData == nil || c.PrevData.String() != y.String() || len(c.Ops) != 3 {
		t.Fatalf("commit: %+v", c)
	}
	if op := c.Ops[0]; op.Action != "create" || op.Path != "a.b.c/1" || op.Cid.String() != x.String() || op.Prev != nil {
		t.Errorf("create: %+v", op)
	}
	if op := c.Ops[1]; op.Cid.String() != x.String() || op.Prev.String() != y.String() {
		t.Errorf("update: %+v", op)
	}
	if op := c.Ops[2]; op.Cid != nil || op.Prev.String() != y.String() {
		t.Errorf("delete: %+v", op)
	}
}

func TestFrameRefuses(t *testing.T) {
	twice, err := dagcbor.Marshal(map[string]any{"seq": 1})
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"nothing": nil, "junk": []byte("junk"), "a second seq": twice} {
		if _, err := Frame(Event{"#sync", b}, 1, at); !errors.Is(err, dagcbor.ErrEncoding) {
			t.Errorf("%s: got %v, want ErrEncoding", name, err)
		}
	}
}

func BenchmarkFrame(b *testing.B) {
	e := Identity(did, "alice.test")
	for b.Loop() {
		if _, err := Frame(e, 42, at); err != nil {
			b.Fatal(err)
		}
	}
}
