package repo

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/tree"
)

const somebody = syntax.DID("did:plc:tfoc4jg4ai6vr2nbwlmwdzq2")

func newKey(t testing.TB) (*atcrypto.PrivateKeyK256, atcrypto.PublicKey) {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key, public
}

func TestCommit(t *testing.T) {
	key, public := newKey(t)
	_, other := newKey(t)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	r, err := Genesis(somebody, key, now)
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseCommit(r.Commit.Data)
	if err != nil {
		t.Fatal(err)
	}
	if c.CID != r.Commit.CID || c.DID != somebody || c.Rev != r.Rev || c.Data != r.Data || c.Data != tree.Empty.CID {
		t.Errorf("commit %+v of %+v", c, r)
	}
	if err := c.Verify(public); err != nil {
		t.Error(err)
	}
	if err := c.Verify(other); !errors.Is(err, ErrSignature) {
		t.Errorf("with another key: %v", err)
	}
	if _, err := ParseCommit(tree.EmptyNode().Data); !errors.Is(err, ErrCommit) {
		t.Errorf("of a tree: %v", err)
	}

	// What follows has a later rev, also on a clock that stands still or went back.
	for _, now := range []time.Time{now, now.Add(-time.Hour), now.Add(time.Hour)} {
		rev, err := NextRev(now, c.Rev)
		if err != nil {
			t.Fatal(err)
		}
		next, err := Sign(somebody, key, rev, c.Data)
		if err != nil {
			t.Fatal(err)
		}
		if rev <= c.Rev || next.Rev != rev || next.Commit.CID == c.CID {
			t.Errorf("%+v after %+v", next, c)
		}
		if _, err := syntax.ParseTID(rev.String()); err != nil {
			t.Error(err)
		}
	}
}

func TestNextRev(t *testing.T) {
	now := time.UnixMicro(1772366400123456)
	for _, tt := range []struct{ name, after, want string }{
		{"the first", "", "3mfyouv3wm222"},
		{"after an older one", "3jqfcqzm3fo2j", "3mfyouv3wm222"},
		{"in the same microsecond", "3mfyouv3wm222", "3mfyouv3wm322"},
		{"of another clock", "3mfyouv3wm2zz", "3mfyouv3wm322"},
		{"after a later one", "3zzzzzzzzzzzz", "4222222222222"},
	} {
		got, err := NextRev(now, syntax.TID(tt.after))
		if err != nil || got.String() != tt.want {
			t.Errorf("%s: got %s, %v, want %s", tt.name, got, err, tt.want)
		}
	}
	for _, after := range []syntax.TID{"bzzzzzzzzzzzz", "jzzzzzzzzzzzz"} {
		if got, err := NextRev(now, after); !errors.Is(err, ErrLastRev) {
			t.Errorf("after %s: %s, %v", after, got, err)
		}
	}
}

// What is measured is the archive as it is sent, with names and lengths.
func TestTooLargeForAnEvent(t *testing.T) {
	key, _ := newKey(t)
	for _, tt := range []struct {
		size int
		want error
	}{{MaxArchive - 324, nil}, {MaxArchive - 323, ErrTooLarge}} {
		data := make([]byte, tt.size)
		s, err := Sign(somebody, key, "3jqfcqzm3fo2j", tree.Empty.CID, car.Block{CID: dagcbor.Sum(dagcbor.CodecDAGCBOR, data), Data: data})
		if !errors.Is(err, tt.want) {
			t.Errorf("%d bytes: %v, want %v", tt.size, err, tt.want)
		}
		if err == nil && len(s.Archive) != MaxArchive {
			t.Errorf("%d bytes: archive of %d", tt.size, len(s.Archive))
		}
	}
}

func TestNoCommit(t *testing.T) {
	good := func() map[string]any {
		return map[string]any{
			"did": somebody.String(), "version": Version, "data": tree.Empty.CID, "rev": "3jqfcqzm3fo2j", "prev": nil, "sig": []byte("signature"),
		}
	}
	for _, tt := range []struct {
		name  string
		spoil func(map[string]any)
	}{
		{"version 1", func(m map[string]any) { m["version"] = 1 }},
		{"version 4", func(m map[string]any) { m["version"] = 4 }},
		{"no rev", func(m map[string]any) { delete(m, "rev") }},
		{"another rev of version 2", func(m map[string]any) { m["version"], m["rev"] = 2, 1 }},
		{"no version", func(m map[string]any) { delete(m, "version") }},
		{"no DID", func(m map[string]any) { delete(m, "did") }},
		{"DID", func(m map[string]any) { m["did"] = "alice" }},
		{"rev", func(m map[string]any) { m["rev"] = "1" }},
		{"data", func(m map[string]any) { m["data"] = "tree" }},
		{"no data", func(m map[string]any) { m["data"] = nil }},
		{"no sig", func(m map[string]any) { delete(m, "sig") }},
	} {
		m := good()
		tt.spoil(m)
		b, err := dagcbor.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseCommit(b); !errors.Is(err, ErrCommit) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	b, err := dagcbor.Marshal(good())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseCommit(b); err != nil {
		t.Error(err)
	}
	for n := range b {
		if _, err := ParseCommit(b[:n]); !errors.Is(err, ErrCommit) {
			t.Errorf("first %d bytes: %v", n, err)
		}
	}
	if _, err := ParseCommit(slices.Concat(b, []byte{0})); !errors.Is(err, ErrCommit) {
		t.Errorf("trailing byte: %v", err)
	}
}

// Version 2 had revs only in the end.
func TestCommitOfVersion2(t *testing.T) {
	key, public := newKey(t)
	for _, rev := range []syntax.TID{"", "3jqfcqzm3fo2j"} {
		m := map[string]any{"did": somebody.String(), "version": 2, "prev": dagcbor.Sum(dagcbor.CodecDAGCBOR, nil), "data": tree.Empty.CID}
		if rev != "" {
			m["rev"] = rev.String()
		}
		unsigned, err := dagcbor.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if m["sig"], err = key.HashAndSign(unsigned); err != nil {
			t.Fatal(err)
		}
		b, err := dagcbor.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		c, err := ParseCommit(b)
		if err != nil {
			t.Fatal(err)
		}
		if c.Rev != rev || c.DID != somebody || c.Data != tree.Empty.CID || c.Verify(public) != nil {
			t.Errorf("with rev %q: %+v", rev, c)
		}
	}
}

// Blocks come from owners, who bring their repositories along. Whatever they are, what is
// taken for a commit has the name of the block, and says what was signed: of one that
// verifies nothing can be changed but in the signature.
func FuzzParseCommit(f *testing.F) {
	key, public := newKey(f)
	r, err := Genesis(somebody, key, time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	if err != nil {
		f.Fatal(err)
	}
	whole := r.Commit.Data
	f.Add(whole)
	f.Add(tree.EmptyNode().Data)
	f.Add(whole[:len(whole)-1])
	f.Add([]byte{0xa1, 0x63, 's', 'i', 'g', 0x40})
	f.Fuzz(func(t *testing.T, block []byte) {
		c, err := ParseCommit(block)
		if err != nil {
			if !errors.Is(err, ErrCommit) {
				t.Errorf("%v", err)
			}
			return
		}
		if c.CID != dagcbor.Sum(dagcbor.CodecDAGCBOR, block) {
			t.Errorf("CID %s of another block", c.CID)
		}
		if c.Verify(public) == nil && (c.DID != somebody || c.Rev != r.Rev || c.Data != r.Data) {
			t.Errorf("%+v was never signed", c)
		}
	})
}
