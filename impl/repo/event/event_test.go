package event

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/atdata"
	indigorepo "github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/lex/util"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/ipfs/go-cid"

	"portico/impl/repo"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/tree"
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
		len(c.Ops) != 0 || c.PrevData != nil || c.Rebase || c.TooBig || c.Commit.String() != r.Commit.CID.String() || len(c.Blobs) != 0 {
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
		Ops: []tree.Op{{Action: "create", Path: "a.b.c/1", CID: x}, {Action: "update", Path: "a.b.c/2", CID: x, Prev: y}, {Action: "delete", Path: "a.b.c/3", Prev: y}},
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

// Every kind of body there is, joined at its cuts, and what indigo reads of it.
func TestCuts(t *testing.T) {
	x, y := dagcbor.Sum(dagcbor.CodecDAGCBOR, []byte("x")), dagcbor.Sum(dagcbor.CodecDAGCBOR, []byte("y"))
	first := Commit{Repo: did, Commit: x, Rev: "3jqfcqzm3fp2j", Blocks: []byte{1}}
	later := first
	later.Since, later.PrevData = "3jqfcqzm3fo2j", y
	later.Ops = []tree.Op{{Action: "create", Path: "a.b.c/1", CID: x}, {Action: "delete", Path: "a.b.c/3", Prev: y}}
	for _, tt := range []struct {
		name  string
		event Event
		cut1  string // what stands before seq
		cut2  string // and what between seq and time
		read  func([]byte) (any, error)
		want  any
	}{
		{"identity", Identity(did, ""), "did", "", readInto[comatproto.SyncSubscribeRepos_Identity],
			&comatproto.SyncSubscribeRepos_Identity{Did: did, Seq: 42, Time: "2026-03-01T12:00:00.007Z"}},
		{"identity with a handle", Identity(did, "alice.test"), "did", "", readInto[comatproto.SyncSubscribeRepos_Identity],
			&comatproto.SyncSubscribeRepos_Identity{Did: did, Handle: new("alice.test"), Seq: 42, Time: "2026-03-01T12:00:00.007Z"}},
		{"account", Account(did, ""), "did", "", readInto[comatproto.SyncSubscribeRepos_Account],
			&comatproto.SyncSubscribeRepos_Account{Did: did, Active: true, Seq: 42, Time: "2026-03-01T12:00:00.007Z"}},
		{"account with a status", Account(did, "takendown"), "did", "", readInto[comatproto.SyncSubscribeRepos_Account],
			&comatproto.SyncSubscribeRepos_Account{Did: did, Status: new("takendown"), Seq: 42, Time: "2026-03-01T12:00:00.007Z"}},
		{"sync", Sync(did, "3jqfcqzm3fp2j", []byte{1}), "did rev", "", readInto[comatproto.SyncSubscribeRepos_Sync],
			&comatproto.SyncSubscribeRepos_Sync{Did: did, Rev: "3jqfcqzm3fp2j", Blocks: []byte{1}, Seq: 42, Time: "2026-03-01T12:00:00.007Z"}},
		{"first commit", first.Event(), "ops rev", "repo", readInto[comatproto.SyncSubscribeRepos_Commit],
			&comatproto.SyncSubscribeRepos_Commit{
				Repo: did, Commit: *lexLink(t, x), Rev: "3jqfcqzm3fp2j", Blocks: []byte{1}, Seq: 42, Time: "2026-03-01T12:00:00.007Z",
			}},
		{"commit", later.Event(), "ops rev", "repo", readInto[comatproto.SyncSubscribeRepos_Commit],
			&comatproto.SyncSubscribeRepos_Commit{
				Repo: did, Commit: *lexLink(t, x), Rev: "3jqfcqzm3fp2j", Blocks: []byte{1}, Seq: 42, Time: "2026-03-01T12:00:00.007Z",
				Since: new("3jqfcqzm3fo2j"), PrevData: lexLink(t, y), Ops: []*comatproto.SyncSubscribeRepos_RepoOp{
					{Action: "create", Path: "a.b.c/1", Cid: lexLink(t, x)}, {Action: "delete", Path: "a.b.c/3", Prev: lexLink(t, y)},
				},
			}},
	} {
		entries, err := dagcbor.Entries(tt.event.Body)
		if err != nil {
			t.Fatal(err)
		}
		offset, keys := 1, map[int]string{1: ""}
		var before []string
		for _, e := range entries {
			offset += len(dagcbor.AppendText(nil, e.Key)) + len(e.Value)
			before = append(before, e.Key)
			keys[offset] = strings.Join(before, " ")
		}
		if got := keys[tt.event.Cut1]; got != tt.cut1 {
			t.Errorf("%s: seq comes after %q, want %q", tt.name, got, tt.cut1)
		}
		if got := keys[tt.event.Cut2]; got != strings.TrimSpace(tt.cut1+" "+tt.cut2) {
			t.Errorf("%s: time comes after %q, want %q", tt.name, got, tt.cut1+" "+tt.cut2)
		}
		frame, err := Frame(tt.event, 42, at)
		if err != nil {
			t.Fatal(err)
		}
		header, err := dagcbor.Marshal(map[string]any{"t": tt.event.Kind, "op": 1})
		if err != nil {
			t.Fatal(err)
		}
		rest, ok := bytes.CutPrefix(frame, header)
		if _, err := dagcbor.Entries(rest); !ok || err != nil {
			t.Errorf("%s: not in its one form: %v", tt.name, err)
		}
		got, err := tt.read(rest)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b util.LexLink) bool { return a.String() == b.String() })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		// One that was stored without cuts.
		if without, err := Frame(Event{Kind: tt.event.Kind, Body: tt.event.Body}, 42, at); err != nil || !bytes.Equal(without, frame) {
			t.Errorf("%s without cuts: %x, %v", tt.name, without, err)
		}
	}
}

func readInto[T any, P interface {
	*T
	UnmarshalCBOR(io.Reader) error
}](b []byte) (any, error) {
	v := P(new(T))
	return v, v.UnmarshalCBOR(bytes.NewReader(b))
}

func lexLink(t *testing.T, c dagcbor.CID) *util.LexLink {
	t.Helper()
	parsed, err := cid.Cast(c[:])
	if err != nil {
		t.Fatal(err)
	}
	return (*util.LexLink)(&parsed)
}

func TestFrameRefuses(t *testing.T) {
	encode := func(v map[string]any) []byte {
		b, err := dagcbor.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	long := make(map[string]any)
	for i := range 22 {
		long[string(rune('a'+i))] = i
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "junk": []byte("junk"), "a second seq": encode(map[string]any{"seq": 1}),
		"a second time": encode(map[string]any{"time": ""}), "too many entries": encode(long),
	} {
		if _, err := Frame(Event{Kind: "#sync", Body: b}, 1, at); !errors.Is(err, dagcbor.ErrEncoding) {
			t.Errorf("%s: got %v, want ErrEncoding", name, err)
		}
	}
	good := Account(did, "")
	for _, cuts := range [][2]int{{-1, 1}, {5, 4}, {1, len(good.Body) + 1}} {
		if _, err := Frame(Event{good.Kind, good.Body, cuts[0], cuts[1]}, 1, at); !errors.Is(err, dagcbor.ErrEncoding) {
			t.Errorf("cut at %v: got %v, want ErrEncoding", cuts, err)
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

// Where a body is cut, the frame is a map that has seq and time and all else as it was, or
// the body is refused: those of another server may be anything.
func FuzzCuts(f *testing.F) {
	f.Add(Identity(did, "alice.test").Body)
	f.Add(Account(did, "deleted").Body)
	f.Add([]byte{0xa0})
	f.Add([]byte{0xa1, 0x63, 's', 'e', 'q', 0x01})
	f.Add([]byte{0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, stored []byte) {
		cut1, cut2, err := Cuts(stored)
		if err != nil {
			return
		}
		frame, err := Frame(Event{Kind: "#account", Body: stored, Cut1: cut1, Cut2: cut2}, 42, at)
		if err != nil {
			t.Fatal(err)
		}
		const header = "\xa2\x61t\x68#account\x62op\x01"
		sent, ok := strings.CutPrefix(string(frame), header)
		if !ok {
			t.Fatalf("header of %x", frame)
		}
		before, err := dagcbor.Entries(stored)
		if err != nil {
			t.Fatal(err)
		}
		after, err := dagcbor.Entries([]byte(sent))
		if err != nil || len(after) != len(before)+2 {
			t.Fatalf("%x was sent as %x: %v", stored, sent, err)
		}
		for _, e := range after {
			if e.Key == "seq" || e.Key == "time" {
				continue
			}
			if before[0].Key != e.Key || !bytes.Equal(before[0].Value, e.Value) {
				t.Fatalf("%x was sent as %x", stored, sent)
			}
			before = before[1:]
		}
	})
}
